"""The operator's listener: health with every part taken away in turn, and metrics beside a load's own count."""
import random
import contextlib
import http.server
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from tests.leanstorage.service_support import SERVER, open_database
from tests.leanstorage.test_s3_blobs import ACCESS, MOTO
from tests.processes import KEYS
from tests.support import clean_environment, free_port, python, running, until

HEADERS = {"X-LC-Id": "theid", "X-LC-Key": "thekey"}


class EngineHandler(http.server.BaseHTTPRequestHandler):
    """An app with one hook, which knows its keys."""

    def do_GET(self):
        is_ours = self.headers["X-LC-Key"] == "themaster,master"
        self.answer(200 if is_ours else 401, {"result": ["__before_save_for_Hooked"]} if is_ours else {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(200, body["object"])

    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def engine(port):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), EngineHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def object_storage(port):
    server = subprocess.Popen([MOTO, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(port), 60)
        yield
    finally:
        server.kill()
        server.wait()


def answers(port):
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"http://127.0.0.1:{port}/", timeout=5).status_code < 500
    return False


class AdminCase(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="admin-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def serve(self, *arguments, **keys):
        """Start a server; `self.url` is that of its API, `self.admin` that of its listener."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = python("-m", "leanstorage", "serve", "--port", str(self.port), "--admin", "0", *arguments)
        process = self.stack.enter_context(running(command, "health and metrics: .*\n", LEANSTORAGE_DATA=self.folder, **{**KEYS, **keys}))
        [self.admin] = re.findall(r"health and metrics: (\S+)", process.output)
        return process

    def health(self):
        """(status, {part: what is said of it})."""
        answer = requests.get(self.admin + "/health", timeout=5)
        self.assertEqual(answer.json()["status"], "ok" if answer.status_code == 200 else "down")
        return answer.status_code, answer.json()["parts"]

    def assert_green(self, parts):
        until(lambda: self.health() == (200, dict.fromkeys(parts, "ok")), 5)

    def assert_red(self, parts, text):
        """Exactly these parts are down, and say why."""

        def is_red():
            status, found = self.health()
            return status == 503 and {name: text in said for name, said in found.items() if said != "ok"} == dict.fromkeys(parts, True)

        until(is_red, 5)

    def metrics(self):
        answer = requests.get(self.admin + "/metrics", timeout=5)
        self.assertEqual((answer.status_code, answer.headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        return answer.text


def free_pair():
    """The first of two free ports beside each other, below those that the system gives to anybody."""
    for first in random.sample(range(20000, 30000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", first)), socket.create_server(("127.0.0.1", first + 1)):
            return first
    raise AssertionError("there are no two free ports")


class HealthTest(AdminCase):
    def test_health_is_red_for_each_part_that_is_taken_away_and_green_when_it_is_back(self):
        port = free_port()
        parts = ("database", "loop", "files", "engine")
        with engine(port):
            self.serve("--engine", f"http://127.0.0.1:{port}")
            self.assert_green(parts)
            for name, down in (("leanstorage.db", ("database", "loop")), ("files", ("files",))):
                with self.subTest(name):
                    (self.folder / name).rename(self.folder / "away")
                    self.assert_red(down, f"{self.folder}")
                    (self.folder / "away").rename(self.folder / name)
                    self.assert_green(parts)
        self.assert_red(["engine"], "it cannot be reached")
        with engine(port):
            self.assert_green(parts)
        with socket.create_server(("127.0.0.1", port)):  # takes connections, and never answers
            self.assert_red(["engine"], "")
        with engine(port):
            self.assert_green(parts)

    def test_database_that_somebody_else_keeps_locked_is_red(self):
        import sqlite3

        self.serve()
        self.assert_green(("database", "loop", "files"))
        with contextlib.closing(sqlite3.connect(self.folder / "leanstorage.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assert_red(["database"], "no answer for")
            other.execute("ROLLBACK")
        self.assert_green(("database", "loop", "files"))

    def test_engine_with_other_keys_is_red(self):
        port = free_port()
        with engine(port):
            self.serve("--engine", f"http://127.0.0.1:{port}", LEANCLOUD_APP_MASTER_KEY="another")
            self.assert_red(["engine"], "answers 401")

    @unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
    def test_health_is_red_while_postgresql_lets_nobody_in(self):
        import psycopg

        url, drop = open_database(self.folder)
        self.addCleanup(drop)
        name = url.rsplit("/", 1)[1]
        self.serve("--database", url)
        self.assert_green(("database", "loop", "files"))
        with psycopg.connect(SERVER, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            self.assert_red(["database", "loop"], "")
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        self.assert_green(("database", "loop", "files"))

    @unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
    def test_files_and_engine_are_red_alone_on_postgresql_too(self):
        url, drop = open_database(self.folder)
        self.addCleanup(drop)
        port = free_port()
        parts = ("database", "loop", "files", "engine")
        with engine(port):
            self.serve("--database", url, "--engine", f"http://127.0.0.1:{port}")
            self.assert_green(parts)
            (self.folder / "files").rename(self.folder / "away")
            self.assert_red(["files"], str(self.folder))
            (self.folder / "away").rename(self.folder / "files")
            self.assert_green(parts)
        self.assert_red(["engine"], "it cannot be reached")
        with engine(port):
            self.assert_green(parts)

    @unittest.skipUnless(MOTO and importlib.util.find_spec("boto3"), "MOTO_SERVER names no moto_server, or boto3 is not installed")
    def test_health_is_red_while_object_storage_is_away_or_has_no_bucket(self):
        import boto3

        port = free_port()
        place = {**ACCESS, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}
        session = {name.lower(): value for name, value in ACCESS.items() if name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        client = boto3.client("s3", endpoint_url=place["AWS_ENDPOINT_URL_S3"], region_name="us-east-1", **session)
        self.addCleanup(client.close)
        parts = ("database", "loop", "files")
        url, drop = open_database(self.folder)
        self.addCleanup(drop)
        with object_storage(port):
            client.create_bucket(Bucket="bucket")
            self.serve("--files", "s3://bucket/app", "--database", url, **place)
            self.assert_green(parts)
            client.delete_bucket(Bucket="bucket")
            self.assert_red(["files"], "")
            client.create_bucket(Bucket="bucket")
            self.assert_green(parts)
        self.assert_red(["files"], "")
        with object_storage(port):  # it keeps nothing: the bucket is gone with the old one
            client.create_bucket(Bucket="bucket")
            self.assert_green(parts)

    @unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
    def test_several_processes_have_a_listener_each_on_the_ports_that_follow(self):
        url, drop = open_database(self.folder)
        self.addCleanup(drop)
        first = free_pair()
        arguments = ("--port", "0", "--admin", str(first), "--processes", "2", "--database", url)
        command = python("-m", "leanstorage", "serve", *arguments)
        with running(command, "(?s)health and metrics: .*health and metrics: .*\n", LEANSTORAGE_DATA=self.folder, **KEYS) as process:
            self.assertEqual(set(re.findall(r"health and metrics: http://127.0.0.1:(\d+)", process.output)), {str(first), str(first + 1)})
            for port in (first, first + 1):
                self.admin = f"http://127.0.0.1:{port}"
                self.assert_green(("database", "loop", "files"))
                self.assertIn("leanstorage_database_bytes", self.metrics())


class ListenerTest(AdminCase):
    def test_listener_is_on_loopback_alone_and_never_on_the_port_of_the_api(self):
        self.serve()
        self.assertRegex(self.admin, r"\Ahttp://127\.0\.0\.1:[0-9]+\Z")
        self.assertNotEqual(self.admin, self.url)
        for path in ("/health", "/metrics"):
            self.assertEqual(requests.get(self.url + path, timeout=5).status_code, 404)
        self.assertEqual(requests.get(self.admin + "/", timeout=5).status_code, 404)
        self.assertEqual(requests.post(self.admin + "/health", timeout=5).status_code, 405)
        self.assertEqual(requests.get(self.admin + "/1.1/date", timeout=5).status_code, 404)

    def test_port_that_cannot_be_had_stops_the_start_with_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            api = free_port()
            for place, expected in ((str(number), "--admin"), (f"127.0.0.1:{api}", "--admin must not be on the port of the API")):
                command = python("-m", "leanstorage", "serve", "--port", str(api), "--admin", place)
                environment = clean_environment(LEANSTORAGE_DATA=self.folder, **KEYS)
                done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
                with self.subTest(place):
                    self.assertEqual((done.returncode, done.stdout), (1, ""))
                    self.assertRegex(done.stderr, rf"\Acannot start: .*{expected}[^\n]*\n\Z")

    def test_slow_client_of_the_listener_keeps_nobody_from_it(self):
        self.serve()
        host, port = self.admin.removeprefix("http://").split(":")
        held = [self.stack.enter_context(socket.create_connection((host, int(port)), 5)) for _ in range(20)]
        for one in held:
            one.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        self.assert_green(("database", "loop", "files"))


class MetricsTest(AdminCase):
    def test_metrics_of_a_load_agree_with_its_own_count(self):
        port = free_port()
        url, drop = open_database(self.folder)  # on either kind
        self.addCleanup(drop)
        with engine(port):
            self.serve("--engine", f"http://127.0.0.1:{port}", "--database", url)
            expected = self.load()
            found = Counter()
            for method, route, status, count in re.findall(
                r'^leanstorage_request_seconds_count\{method="(\w+)",route="([^"]+)",status="(\d+)"\} (\d+)$', self.metrics(), re.MULTILINE
            ):
                found[method, route, int(status)] += int(count)
        self.assertEqual(found, expected)

    def load(self):
        session = requests.Session()
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=8))

        def ask(row):
            method, path, route, body = row
            answer = session.request(method, self.url + path, json=body, headers=HEADERS, timeout=20)
            return method, route, answer.status_code

        rows = [
            ("POST", "/1.1/classes/Post", "/classes/<class_name>", {"a": 1}),
            ("GET", "/1.1/classes/Post", "/classes/<class_name>", None),
            ("GET", "/1.1/classes/Post/0123456789abcdef01234567", "/classes/<class_name>/<object_id>", None),
            ("POST", "/1.1/classes/Hooked", "/classes/<class_name>", {"a": 1}),
            ("GET", "/1.1/nothing", "-", None),
            ("GET", "/1.1/date", "/date", None),
            ("GET", "/no-file", "/<file>", None),
            ("POST", "/1.1/login", "/login", {"username": "x", "password": "y"}),
        ]
        with ThreadPoolExecutor(8) as pool:
            return Counter(pool.map(ask, rows[:-1] * 25 + rows[-1:] * 5))  # a password takes 50 ms

    def test_every_line_is_what_prometheus_reads_and_each_histogram_adds_up(self):
        port = free_port()
        with engine(port):
            self.serve("--engine", f"http://127.0.0.1:{port}")
            self.load()
            self.assert_green(("database", "loop", "files", "engine"))
            text = self.metrics()
        names = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
        for line in text.splitlines():
            with self.subTest(line):
                self.assertRegex(line, r'\A(# (HELP|TYPE) leanstorage_\w+ .+|leanstorage_\w+(\{(\w+="[^"\n]*",?)+\})? [0-9.e+-]+)\Z')
        self.assertEqual(len(re.findall(r"^leanstorage_up\{.*\} 1$", text, re.MULTILINE)), 4)
        self.assertIn('leanstorage_engine_seconds_count{call="beforeSave",outcome="ok"} 25\n', text)
        for name in ("loop_lag_seconds", "threads", "queue_length", "database_bytes", "response_bytes_total", "refused_total", "files_free_bytes"):
            self.assertIn(f"leanstorage_{name}", names)
        infinite = re.findall(r'^leanstorage_request_seconds_bucket\{(.+),le="\+Inf"\} (\d+)$', text, re.MULTILINE)
        counts = dict(re.findall(r"^leanstorage_request_seconds_count\{(.+)\} (\d+)$", text, re.MULTILINE))
        self.assertEqual(dict(infinite), counts)
        self.assertGreater(len(counts), 6)

    def test_request_that_is_refused_before_any_route_is_counted(self):
        self.serve("--max-body-bytes", "100")
        answer = requests.post(f"{self.url}/1.1/classes/Post", headers={**HEADERS, "Content-Length": str(2 << 20)}, timeout=10)
        self.assertEqual(answer.status_code, 413)
        self.assertIn('leanstorage_refused_total{status="413"} 1\n', self.metrics())


if __name__ == "__main__":
    unittest.main()
