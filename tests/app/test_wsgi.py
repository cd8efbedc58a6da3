"""The composition: settings, real servers, real processes."""
import json
import os
import shlex
import shutil
import signal
import socket
import sqlite3
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.validate import validator

import psutil
import requests
from requests_toolbelt import MultipartEncoder

from tests.processes import READY, Http, redis_servers, storage, wait_for
from tests.support import ROOT, application, free_port, has_redis, needs_storage, python, running, takes_long, until

@needs_storage
class ServerTest(unittest.TestCase):
    def test_simple_server_runs_the_app_over_real_http(self):
        class Threading(ThreadingMixIn, WSGIServer):
            daemon_threads = False

        class Quiet(WSGIRequestHandler):
            def log_message(self, *_):
                pass

        with make_server("127.0.0.1", 0, validator(application()), Threading, Quiet) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                with Http(server.server_port) as browser:
                    self.use(browser, "simple")
            finally:
                server.shutdown()
                thread.join()

    def test_gunicorn_runs_the_app_over_real_http(self):
        port = free_port()
        arguments = python("-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "4", "wsgi:application")
        with tempfile.TemporaryDirectory() as data:
            with running(arguments, "Booting worker", LEANSTORAGE_DATA=data), Http(port) as browser:
                wait_for(browser)
                self.use(browser, "gunicorn")
            self.assertEqual(redis_servers(data), [])

    def test_two_gunicorn_workers_share_sessions_todos_and_cache(self):
        self.share(is_alone=True)

    @takes_long
    def test_two_gunicorn_workers_on_one_storage_beside_them_share_as_much(self):
        self.share(is_alone=False)

    def share(self, is_alone):
        with tempfile.TemporaryDirectory() as data, ExitStack() as stack:
            keys = {} if is_alone else stack.enter_context(storage(data, engine=False))[0]
            port, log = free_port(), Path(data, "access.log")
            arguments = ["--workers", "2", "--threads", "4", "--access-logfile", str(log), "--access-logformat", "%(p)s"]
            command = python("-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *arguments, "wsgi:application")
            stack.enter_context(running(command, "Booting worker", LEANSTORAGE_DATA=data, **keys))
            browser = stack.enter_context(Http(port))
            wait_for(browser)

            def have_both_answered():
                with Http(port) as visitor:  # a new connection
                    visitor("GET", "/__engine/1/ping")
                return len(set(log.read_text().split())) == 2

            until(have_both_answered, 15)  # on a busy machine one is there much sooner
            self.assertEqual(browser.sign_up("alice").status_code, 201)

            def visit(number):
                """A new connection, so either worker; what is written by one is seen by both at once."""
                with Http(port) as visitor:
                    visitor.session.cookies = browser.session.cookies.copy()
                    todo = visitor("POST", "/api/todos", json={"content": f"t{number}"}).json()
                for _ in range(3):
                    with Http(port) as visitor:
                        self.assertIsNone(visitor("GET", "/api/session").json()["user"])
                        visitor.session.cookies = browser.session.cookies.copy()
                        found = visitor("GET", "/api/todos").json()["todos"]
                        self.assertIn(todo["id"], [other["id"] for other in found])

            with ThreadPoolExecutor(6) as pool:
                list(pool.map(visit, range(12)))

    def use(self, browser, name):
        self.assertEqual(browser("GET", "/__engine/1/ping").json().keys(), {"runtime", "version"})
        self.assertIn("<title>", browser("GET", "/").text)
        self.assertEqual(browser.sign_up(name).status_code, 201)
        self.assertEqual(browser("DELETE", "/api/session").status_code, 204)
        response = browser("POST", "/api/session", json={"username": name, "password": "secret"})
        self.assertEqual(response.status_code, 200)
        todo = browser("POST", "/api/todos", json={"content": "中文"}).json()
        self.assertEqual(browser("GET", "/api/todos").json()["todos"], [todo])
        path = f"/api/todos/{todo['id']}/attachment"
        data = os.urandom(300_000)
        self.assertEqual(browser("POST", path, files={"file": ("a.bin", data)}).status_code, 201)
        self.assertEqual(browser("GET", path).content, data)


@needs_storage
class HookTest(unittest.TestCase):
    """An app that its storage, a process beside it, calls back with every save."""

    @classmethod
    def setUpClass(cls):
        data = cls.enterClassContext(tempfile.TemporaryDirectory())
        keys, cls.port = cls.enterClassContext(storage(data, engine=True))
        cls.enterClassContext(running(python("wsgi.py"), READY, LEANCLOUD_APP_PORT=cls.port, LEANSTORAGE_DATA=data, **keys))

    def test_eight_saves_at_once_each_with_its_hook_take_the_time_of_one_or_two(self):
        with Http(self.port) as browser:
            browser.sign_up("alice")

            def save(i):
                start = time.monotonic()
                response = browser("POST", "/api/todos", json={"content": f"t{i}"})
                self.assertEqual(response.status_code, 201, response.text)
                return time.monotonic() - start

            one = min(save(0) for _ in range(3))
            with ThreadPoolExecutor(8) as pool:
                start = time.monotonic()
                list(pool.map(save, range(8)))
                eight = time.monotonic() - start
        # On two cores eight saves are work for four rounds; waiting for a hook's timeout would take 10 s.
        self.assertLess(eight, max(2.0, one * 8))

    def test_more_saves_than_threads_each_with_its_hook_end(self):
        with Http(self.port) as browser:
            browser.sign_up("bob")
            cookies = browser.session.cookies.get_dict()

            def save(i):
                url = f"http://127.0.0.1:{self.port}/api/todos"
                return requests.post(url, json={"content": f"t{i}"}, cookies=cookies, timeout=20).status_code

            with ThreadPoolExecutor(40) as pool:
                self.assertEqual(set(pool.map(save, range(40))), {201})


@needs_storage
class ProcessTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = folder.name

    def app(self, port, **environment):
        return running(
            python("wsgi.py"), READY, **{"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": self.data, **environment}
        )

    def test_app_killed_and_started_again_has_everything_that_it_answered(self):
        port = free_port()
        with self.app(port) as process, Http(port) as browser:
            cache = "embedded Redis" if has_redis() else "off"
            self.assertRegex(process.output, rf"http://localhost:{port} \(development, Ctrl-C ends it\)\nstorage: embedded, in .*\ncache: {cache}")
            browser.sign_up("alice")
            todos = [browser("POST", "/api/todos", json={"content": f"t{i}"}).json() for i in range(5)]
            path = f"/api/todos/{todos[0]['id']}/attachment"
            browser("POST", path, files={"file": ("a.txt", b"hello", "text/plain")})
            process.kill()
            process.wait()
            until(lambda: redis_servers(self.data) == [])
        with self.app(port), Http(port) as again:
            again.session.cookies = browser.session.cookies  # the session lives on as well
            found = again("GET", "/api/todos").json()["todos"]
            self.assertEqual([todo["content"] for todo in found], ["t4", "t3", "t2", "t1", "t0"])
            self.assertEqual(again("GET", path).content, b"hello")

    def test_upload_of_100_mb_and_its_download_take_no_memory(self):
        size, port = 100 << 20, free_port()
        with tempfile.TemporaryFile() as file, self.app(port, MAX_UPLOAD_BYTES=str(size)) as process, Http(port) as browser:
            file.truncate(size)
            browser.sign_up("alice")
            path = f"/api/todos/{browser('POST', '/api/todos', json={'content': 'x'}).json()['id']}/attachment"
            before, peak, is_over = psutil.Process(process.pid).memory_info().rss, [0], threading.Event()

            def watch():
                while not is_over.wait(0.02):
                    peak[0] = max(peak[0], psutil.Process(process.pid).memory_info().rss)

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                body, content_type = encode_multipart(file)
                response = browser("POST", path, data=body, headers={"Content-Type": content_type})
                self.assertEqual(response.status_code, 201, response.text)
                response = browser("GET", path, stream=True)
                self.assertEqual(sum(map(len, response.iter_content(1 << 20))), size)
            finally:
                is_over.set()
                watcher.join()
            # What waits for a slow reader, up to 16 MiB an answer, keeps no thread: some 70 MiB, as much for 300 MB.
            self.assertLess(peak[0] - before, 90 << 20)

    def test_app_ends_cleanly_on_sigterm_and_ctrl_c(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number), self.app(free_port()) as process:
                start = time.monotonic()
                process.send_signal(number)
                self.assertEqual(process.wait(10), 0)
                self.assertLess(time.monotonic() - start, 5)
                self.assertEqual(redis_servers(self.data), [])

    def test_request_that_waits_when_the_app_is_told_to_end_is_answered(self):
        port = free_port()
        with self.app(port) as process, Http(port) as browser, ThreadPoolExecutor(1) as pool:
            browser.sign_up("alice")
            database = sqlite3.connect(Path(self.data, "leanstorage.db"), isolation_level=None)
            with closing(database):
                database.execute("BEGIN IMMEDIATE")
                answer = pool.submit(browser, "POST", "/api/todos", json={"content": "x"})
                time.sleep(0.5)
                process.send_signal(signal.SIGTERM)
                time.sleep(0.5)
                with self.assertRaises(requests.ConnectionError), Http(port) as other:
                    other("GET", "/api/client")
                database.execute("COMMIT")
            self.assertEqual(answer.result().status_code, 201)
            self.assertEqual(process.wait(10), 0)

    def test_ctrl_c_pressed_again_and_again_ends_as_cleanly(self):
        with self.app(free_port()) as process:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
                process.send_signal(number)
                time.sleep(0.02)
            # A signal may also meet an interpreter that has said good-bye already.
            self.assertIn(process.wait(10), (0, -signal.SIGTERM, -signal.SIGINT))
            self.assertNotIn(b"Traceback", process.stdout.read())
            self.assertEqual(redis_servers(self.data), [])

    def test_configured_storage_is_used_and_nothing_embedded_started_nor_needed(self):
        port = free_port()
        with tempfile.TemporaryDirectory() as folder, storage(self.data) as (keys, _):
            # As deployed: without the folder leanstorage/.
            for file in ROOT.glob("*.py"):
                shutil.copy(file, folder)
            for name in ("static", "leanengine", "leanwsgi"):
                shutil.copytree(ROOT / name, Path(folder, name))
            environment = {"LEANCLOUD_APP_PORT": port, **keys}
            with running(python("wsgi.py"), READY, Path(folder), **environment) as process, Http(port) as browser:
                self.assertIn(f"storage: {keys['LEANCLOUD_API_SERVER']}\ncache: off", process.output)
                self.assertEqual(browser.sign_up("bob").status_code, 201)
                self.assertEqual(browser("POST", "/api/todos", json={"content": "x" * 300}).json()["content"][-4:], " ...")
                self.assertEqual(browser("GET", "/api/status").json()["cache"], "off")
            self.assertFalse(Path(folder, "data").exists())
            # It was stored over there.
            url = f"{keys['LEANCLOUD_API_SERVER']}/1.1/classes/Todo?count=1&limit=0"
            headers = {"X-LC-Id": keys["LEANCLOUD_APP_ID"], "X-LC-Key": keys["LEANCLOUD_APP_MASTER_KEY"] + ",master"}
            self.assertEqual(requests.get(url, headers=headers, timeout=5).json(), {"results": [], "count": 1})

    def test_app_starts_with_everything_that_leanstorage_env_prints(self):
        with storage(self.data) as (keys, port):
            address = keys["LEANCLOUD_API_SERVER"]
            env, app = (shlex.join(python(*rest)) for rest in (("-m", "leanstorage", "env"), ("wsgi.py",)))
            script = f'eval "$({env} --public-url {address})"; exec {app}'
            command = ["sh", "-c", script]
            with running(command, READY, LEANSTORAGE_DATA=self.data, LEANCLOUD_APP_PORT=port) as process, Http(port) as browser:
                self.assertIn(f"listening on http://localhost:{port} (development", process.output)
                self.assertIn(f"storage: {address}", process.output)
                self.assertEqual(browser.sign_up("carol").status_code, 201)

    def test_production_redirects_to_https_and_listens_everywhere(self):
        port = free_port()
        with self.app(port, LEANCLOUD_APP_ENV="production") as process:
            self.assertIn(f"http://0.0.0.0:{port} (production)", process.output)
            self.assertRegex(process.output, r"storage: embedded, in .* \(in production: LEANCLOUD_APP_ID .* not set\)\n")
            with Http(port) as browser:
                response = browser("GET", "/api/status?x=1", allow_redirects=False)
                self.assertEqual(response.status_code, 302)
                self.assertEqual(response.headers["Location"], f"https://127.0.0.1:{port}/api/status?x=1")
                self.assertEqual(browser("POST", "/api/users", allow_redirects=False).status_code, 308)
                self.assertEqual(browser("GET", "/__engine/1/ping").status_code, 200)
                secure = {"X-Forwarded-Proto": "https", "X-Real-IP": "1.2.3.4"}
                response = browser("GET", "/api/client", headers=secure)
                self.assertEqual(response.json(), {"ip": "1.2.3.4"})
                self.assertTrue(response.headers["Strict-Transport-Security"])
                credentials = {"username": "alice", "password": "secret"}
                response = browser("POST", "/api/users", headers=secure, json=credentials)
                self.assertIn("; Secure", response.headers["Set-Cookie"])
                response = browser("POST", "/api/todos", headers={**secure, "Cookie": cookie(response)}, json={"content": "x"})
                self.assertEqual(response.status_code, 201)


@needs_storage
class RawTest(unittest.TestCase):
    """What no browser would send; one app for all of it."""

    @classmethod
    def setUpClass(cls):
        data, cls.port = cls.enterClassContext(tempfile.TemporaryDirectory()), free_port()
        cls.enterClassContext(running(python("wsgi.py"), READY, LEANCLOUD_APP_PORT=cls.port, LEANSTORAGE_DATA=data))

    def test_stalled_uploads_stop_nobody(self):
        with Http(self.port) as browser:
            stalled = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(40)]
            for connection in stalled:
                connection.sendall(b"POST /api/todos HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            start = time.monotonic()
            self.assertEqual(browser("GET", "/").status_code, 200)
            self.assertLess(time.monotonic() - start, 1)
            for connection in stalled:
                connection.close()

    def test_raw_requests_that_are_malformed_are_4xx(self):
        rows = {
            "length that is no number": b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
            "negative length": b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            "length and chunked": b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "another transfer encoding": b"POST /api/users HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
            "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            "bad host": b"GET / HTTP/1.1\r\nHost: [\r\n\r\n",
            "space in a header name": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "no request line": b"\x00\x01\x02\r\n\r\n",
            "bad UTF-8": b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n",
            "NUL": b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n",
            "too large a header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
            "chunks that are none": b"POST /api/users HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "too large a body": b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
        }
        for name, data in rows.items():
            with self.subTest(name), socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(data)
                self.assertRegex(connection.recv(65536), rb"^HTTP/1\.[01] (4\d\d|501) ")


class VisitorsTest(unittest.TestCase):
    """Under the server that `wsgi.py` starts, over keep-alive and fresh connections, on every thread."""

    @needs_storage
    def test_thousand_anonymous_requests_between_eight_users_are_never_taken_for_one(self):
        port = free_port()

        def ask(method, path, body, headers):
            """(headers, body) of an answer, on a connection of its own."""
            with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                return response.headers, json.loads(response.read())

        with tempfile.TemporaryDirectory() as data:
            environment = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": data}
            with running(python("wsgi.py"), READY, **environment), ExitStack() as stack:
                keys = json.loads(Path(data, "keys.json").read_text())
                engine = {"X-LC-Id": keys["id"], "X-LC-Key": keys["key"], "Content-Type": "application/json"}
                users = [stack.enter_context(Http(port)) for _ in range(8)]
                for number, browser in enumerate(users):
                    browser.name = f"user{number}"
                    self.assertEqual(browser.sign_up(browser.name).status_code, 201)
                alive = [stack.enter_context(Http(port)) for _ in range(8)]

                def as_user(number):
                    browser = users[number % 8]
                    return browser("GET", "/api/session").json() == {"user": {"id": browser.id, "username": browser.name}}

                for browser in users:
                    browser.id = browser("GET", "/api/session").json()["user"]["id"]

                def anonymous(number):
                    expected = {"user": None}
                    if number % 3 == 0:
                        headers, body = ask("GET", "/api/session", None, {})
                    elif number % 3 == 1:
                        response = alive[number % 8]("GET", "/api/session")
                        headers, body = response.headers, response.json()
                        alive[number % 8].session.cookies.clear()
                    else:
                        headers, body = ask("POST", "/1.1/functions/hello", "{}", engine)
                        expected = {"result": "Hello, world!"}
                    return body == expected and "Set-Cookie" not in headers

                with ThreadPoolExecutor(24) as pool:
                    jobs = []
                    for number in range(1000):
                        jobs.append(pool.submit(anonymous, number))
                        if number % 4 == 0:
                            jobs.append(pool.submit(as_user, number // 4))
                    wrong = sum(not job.result() for job in jobs)
        self.assertEqual(wrong, 0)

    @needs_storage
    def test_storage_killed_under_writers_loses_no_answered_write(self):
        with tempfile.TemporaryDirectory() as data:
            place = storage(data)
            with place as (keys, port), running(python("wsgi.py"), READY, LEANCLOUD_APP_PORT=port, **keys):
                users = [Http(port) for _ in range(8)]
                for number, browser in enumerate(users):
                    self.assertEqual(browser.sign_up(f"writer{number}").status_code, 201)
                answered, refused, ending = [], [], threading.Event()

                def write(number):
                    count = 0
                    while not ending.is_set():
                        count += 1
                        response = users[number]("POST", "/api/todos", json={"content": f"{number}-{count}"})
                        if response.status_code == 201:
                            answered.append((number, response.json()["id"]))
                        else:
                            refused.append((response.status_code, response.json()))
                            time.sleep(0.05)

                threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
                for thread in threads:
                    thread.start()
                until(lambda: len(answered) > 80, 20)
                place.kill()
                until(lambda: len(refused) > 8, 20)
                place.start_again()
                before = len(answered)
                until(lambda: len(answered) > before + 8, 15)
                ending.set()
                for thread in threads:
                    thread.join()
                for number, browser in enumerate(users):
                    found, query = set(), "?limit=100"
                    while query:
                        page = browser("GET", "/api/todos" + query).json()
                        found |= {todo["id"] for todo in page["todos"]}
                        query = page["next"] and f"?limit=100&before={page['next']}"
                    mine = {todo_id for owner, todo_id in answered if owner == number}
                    self.assertEqual(mine - found, set())
                    browser.session.close()
                self.assertTrue(refused)
                self.assertLessEqual({status for status, _ in refused}, {502, 503})
                self.assertTrue(all(set(body) == {"error", "code"} for _, body in refused))


def encode_multipart(file):
    """(a body that is read as it is sent, its Content-Type) with one file."""
    encoder = MultipartEncoder({"file": ("big.bin", file, "application/octet-stream")})
    return encoder, encoder.content_type


def cookie(response):
    return response.headers["Set-Cookie"].split(";")[0]


if __name__ == "__main__":
    unittest.main()
