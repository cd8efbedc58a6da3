import contextlib
import io
import json
import os
import socket
import struct
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from unittest import mock

import requests

from leanstorage.http import server
from leanstorage.store import StoreUnavailable
from leanwsgi.workers import listen


class ServerTest(unittest.TestCase):
    def serve(self, application, threads, quick=None, **more):
        started = server.Server(application, listen("127.0.0.1", 0), threads, 1000, quick, **more)
        started.start()
        self.addCleanup(started.stop)
        return f"http://127.0.0.1:{started.port}/"

    def test_overload_is_refused_at_once_and_passes(self):
        leave = threading.Event()

        def slow(environ, start_response):
            leave.wait(10)
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
            return [b"{}"]

        with mock.patch.object(server, "MAX_WAITING", 2):
            url = self.serve(slow, threads=1)

            def ask(_):
                start = time.monotonic()
                response = requests.get(url, timeout=15)
                return response.status_code, time.monotonic() - start, response

            with ThreadPoolExecutor(12) as pool:
                jobs = [pool.submit(ask, number) for number in range(12)]
                time.sleep(1)
                refused = [job.result() for job in jobs if job.done()]
                leave.set()
                answered = [job.result()[0] for job in jobs]
        self.assertGreaterEqual(len(refused), 8)
        for status, seconds, response in refused:
            self.assertEqual((status, set(json.loads(response.content))), (503, {"code", "error"}))
            self.assertTrue(response.headers["Retry-After"])
            self.assertLess(seconds, 0.9)
        self.assertGreaterEqual(answered.count(200), 2)
        self.assertEqual(requests.get(url, timeout=5).status_code, 200)

    def test_stopped_server_leaves_no_thread(self):
        before = threading.active_count()
        started = server.Server(lambda environ, start: [], listen("127.0.0.1", 0), 4, 1000)
        started.start()
        started.stop()
        end = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(threading.active_count(), before)


    def test_server_stopped_amid_writes_commits_and_answers_those_that_have_come(self):
        quick, answers = Quick(), {}
        quick.committing, quick.commit = threading.Event(), threading.Event()
        started = server.Server(lambda environ, start: [], listen("127.0.0.1", 0), 2, 1000, quick)
        started.start()

        def write(path):
            answers[path] = requests.put(f"http://127.0.0.1:{started.port}/{path}", timeout=10).status_code

        with mock.patch.object(threading, "excepthook") as hook:
            first = threading.Thread(target=write, args=["first"])
            first.start()
            self.assertTrue(quick.committing.wait(5))
            others = [threading.Thread(target=write, args=[path]) for path in ("second", "third")]
            for other in others:
                other.start()
            while len(started._dispatcher._writes) < 2:
                time.sleep(0.01)
            stopping = threading.Thread(target=started.stop)
            stopping.start()
            time.sleep(0.2)
            quick.commit.set()
            for thread in (stopping, first, *others):
                thread.join()
        self.assertEqual(answers, {"first": 200, "second": 200, "third": 200})
        hook.assert_not_called()


LARGE = os.urandom(1 << 20) * 20


class Group:
    def __init__(self, quick):
        self.quick = quick

    def write(self, environ):
        return self.quick.answer(environ)

    def commit(self):
        self.quick.commits += 1
        if self.quick.commit:
            self.quick.committing.set()
            self.quick.commit.wait(5)
        if self.quick.is_broken:
            raise StoreUnavailable("the disk is full")

    def refusal(self, error, answer):
        return HTTPStatus.SERVICE_UNAVAILABLE, [("X-From", "refusal")], b"{}"


class Quick:
    """Quick calls whose path says what becomes of them."""

    answers_at_once = True

    def __init__(self):
        self.commits, self.is_broken, self.is_busy, self.commit = 0, False, False, None

    def kind(self, method, path, length):
        return None if path == "/slow" or length > 1000 else "call" if method == "GET" else "write"

    def start(self, loop):
        self.loop = loop

    def call(self, environ, answered):
        if environ["PATH_INFO"] == "/soon":
            self.loop.soon(lambda: answered(self.answer(environ)))
        else:
            answered(self.answer(environ))

    def turn(self):
        pass

    stop = turn

    def answer(self, environ):
        path = environ["PATH_INFO"]
        environ["wsgi.input"].read()
        if path == "/raises":
            raise RuntimeError("a defect")
        if path == "/later":
            return None
        if path == "/large":
            return HTTPStatus.OK, [], LARGE
        return HTTPStatus.OK, [("X-From", "a\nb" if path == "/header" else "loop")], path.encode()

    def open_group(self):
        return None if self.is_busy else Group(self)


class LoopTest(unittest.TestCase):
    serve = ServerTest.serve

    def setUp(self):
        def application(environ, start_response):
            body = environ["PATH_INFO"].encode() if environ["REQUEST_METHOD"] == "GET" else environ["wsgi.input"].read()
            start_response("200 OK", [("X-From", "thread"), ("Content-Length", str(len(body)))])
            return [body]

        self.quick = Quick()
        self.url = self.serve(application, 2, self.quick)

    def ask(self, method, path, status=200, **more):
        response = requests.request(method, self.url + path, timeout=10, **more)
        self.assertEqual(response.status_code, status)
        self.text = response.text
        return response.headers["X-From"]

    def test_body_that_was_read_on_the_loop_is_whole_for_the_thread(self):
        for path in ("later", "header"):
            for size in (10, 1000):
                with self.subTest(path=path, size=size), contextlib.redirect_stderr(io.StringIO()):
                    self.assertEqual(self.ask("POST", path, data="x" * size), "thread")
                    self.assertEqual(self.text, "x" * size)

    def test_call_that_is_answered_in_a_later_turn_is_answered_by_the_loop(self):
        for _ in range(3):
            self.assertEqual(self.ask("GET", "soon"), "loop")

    def test_answer_of_the_loop_that_the_system_takes_in_parts_is_whole_and_others_go_on(self):
        with socket.create_connection(("127.0.0.1", int(self.url.split(":")[2][:-1]))) as connection:
            connection.settimeout(20)
            connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            found = bytearray(connection.recv(1))  # both in one piece would be a thread's
            connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")  # which waits until the first answer is read
            self.assertEqual(self.ask("GET", "quick"), "loop")
            while found.count(b"HTTP/1.1 200 OK\r\n") < 2 or len(found) < 2 * len(LARGE) + 2 * (found.index(b"\r\n\r\n") + 4):
                found += connection.recv(1 << 20)
        head = found.index(b"\r\n\r\n") + 4
        for start in (head, 2 * head + len(LARGE)):
            self.assertTrue(found[start : start + len(LARGE)] == LARGE)

    def test_who_hangs_up_before_the_answer_hurts_nobody(self):
        for path in (b"large", b"soon", b"quick"):
            with socket.create_connection(("127.0.0.1", int(self.url.split(":")[2][:-1]))) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is reset
                connection.sendall(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            self.assertEqual(self.ask("GET", "quick"), "loop")

    def test_environ_of_the_loop_is_a_part_of_waitress_own(self):
        differences = []

        def both(channel, own=server._environ):
            theirs = server._Task(channel, channel.requests[0]).get_environment()
            found = own(channel)
            differences.extend((key, value, theirs.get(key)) for key, value in found.items() if key != "wsgi.input" and theirs.get(key) != value)
            differences.extend(key for key in theirs if key.startswith(("HTTP_", "CONTENT_")) and key not in found)
            return found

        with mock.patch.object(server, "_environ", both):
            for path in ("a", "//b/c?d=e&f=%20", "%2e%e4%b8%ad?x", "a//b"):
                for headers in ({}, {"X-A": "1", "Content-Type": "text/x", "Expect": "x"}):
                    self.ask("GET", path, headers=headers)
                    self.ask("POST", path, headers=headers, data=b"abc")
                    self.ask("POST", path, headers=headers, data=iter([b"abc", b"d"]))
        self.assertEqual(differences, [])

    def raw(self, data):
        """What the server sends for `data` until it closes the connection or is silent."""
        with socket.create_connection(("127.0.0.1", int(self.url.split(":")[2][:-1]))) as connection:
            connection.sendall(data)
            connection.settimeout(1)
            found = b""
            with contextlib.suppress(TimeoutError):
                while piece := connection.recv(1 << 16):
                    found += piece
        return found

    def test_malformed_request_alone_or_behind_another_is_400_and_hurts_nobody(self):
        good = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"
        slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
        malformed = (
            b"GET /a HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"GET /a HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
            b"nonsense\r\n\r\n",
            b"get /\r\n\r\n",
            b"GET / HTTP/1.1\r\na: \0\r\n\r\n",
            b"GET http://[ HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
        )
        for bad in malformed:
            for before in (b"", good, slow):
                with self.subTest(bad=bad, before=before):
                    answers = self.raw(before + bad)
                    self.assertEqual(answers.count(b"HTTP/1.1 200"), bool(before))
                    self.assertEqual(answers.count(b" 400 Bad Request"), 1, answers)
                    self.assertTrue(answers.endswith(b'{"code":1,"error":"The request is malformed."}'), answers)
        self.assertEqual(self.ask("GET", "quick"), "loop")

    def test_what_reaches_no_application_is_refused_in_json(self):
        rows = (
            (431, b"GET / HTTP/1.1\r\nX-Much: " + b"x" * 300_000 + b"\r\n\r\n", "The headers are larger than 262144 bytes."),
            (501, b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "This Transfer-Encoding is not supported by this server."),
        )
        for status, data, text in rows:
            with self.subTest(status):
                head, _, body = self.raw(data).partition(b"\r\n\r\n")
                self.assertEqual((int(head.split()[1]), json.loads(body)), (status, {"code": 1, "error": text}))
                self.assertIn(b"Access-Control-Allow-Origin: *", head)

    def test_call_that_breaks_on_the_loop_ends_its_own_connection_alone(self):
        with contextlib.redirect_stderr(io.StringIO()):
            self.quick.answer = lambda environ: (HTTPStatus.OK, [], "no bytes")
            self.assertEqual(self.raw(b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"), b"")
        del self.quick.answer
        self.assertEqual(self.ask("GET", "quick"), "loop")

    def test_long_body_is_refused_before_it_is_read_unless_it_is_an_upload(self):
        def application(environ, start_response):
            start_response("200 OK", [("Content-Length", "0")])
            return []

        self.url = self.serve(application, 2, max_call_bytes=10)
        size = server.OVERHEAD_BYTES + 500
        head = "%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        self.assertIn(b" 413 ", self.raw((head % ("POST /1.1/classes/A", size)).encode()))
        self.assertIn(b'"error"', self.raw((head % ("PUT /1.1/classes/A/1", size)).encode()))
        self.assertIn(b" 413 ", self.raw((head % ("DELETE /1.1/uploads/token", size)).encode()))
        for method in ("PUT", "POST"):
            upload = (head % (f"{method} /1.1/uploads/token", size)).encode()
            self.assertIn(b" 200 ", self.raw(upload + b"x" * size))

    def test_quick_calls_are_answered_on_the_loop_and_others_by_threads(self):
        for method in ("GET", "POST"):
            self.assertEqual(self.ask(method, "quick"), "loop")
            self.assertEqual(self.ask(method, "slow"), "thread")
            self.assertEqual(self.ask(method, "later"), "thread")
            self.assertEqual(self.ask(method, "quick", headers={"Connection": "close"}), "thread")

    def test_long_bodies_belong_to_threads_chunked_or_not(self):
        for size, wanted in ((1000, "loop"), (1001, "thread")):
            with self.subTest(size):
                self.assertEqual(self.ask("POST", "quick", data=b"x" * size), wanted)
                self.assertEqual(self.ask("POST", "quick", data=iter([b"x" * size])), wanted)

    def test_errors_on_the_loop_end_on_a_thread_and_the_loop_goes_on(self):
        with contextlib.redirect_stderr(io.StringIO()) as log:
            for method in ("GET", "POST"):
                for path in ("raises", "header"):
                    self.assertEqual(self.ask(method, path), "thread")
                self.assertEqual(self.ask(method, "quick"), "loop")
        self.assertEqual(log.getvalue().count("RuntimeError: a defect"), 2)

    def test_group_that_cannot_commit_is_refused_whole_and_one_that_cannot_begin_waits_on_threads(self):
        self.quick.is_broken = True
        self.assertEqual(self.ask("PUT", "quick", 503), "refusal")
        self.quick.is_broken = False
        self.assertEqual(self.ask("PUT", "quick"), "loop")
        self.quick.is_busy = True
        self.assertEqual(self.ask("PUT", "quick"), "thread")

    def test_writes_that_arrive_together_share_commits(self):
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: self.ask("PUT", "quick"), range(160)))
        self.assertEqual(set(answers), {"loop"})
        self.assertLess(self.quick.commits, 160)

    def test_client_that_asks_to_go_on_behind_another_request_is_told_to(self):
        head = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        for first in (b"quick", b"soon", b"large", b"slow"):
            with self.subTest(first), socket.create_connection(("127.0.0.1", int(self.url.split(":")[2][:-1]))) as connection:
                connection.settimeout(20)
                connection.sendall(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % first + head)
                found = bytearray()
                for wanted, said in ((b"HTTP/1.1 100 Continue\r\n\r\n", b"abc"), (b"\r\n\r\nabc", b"")):
                    while not found.endswith(wanted):
                        found += connection.recv(1 << 20)
                    connection.sendall(said)
                self.assertEqual((found.count(b"HTTP/1.1 200 OK"), found.count(b"100 Continue")), (2, 1))

    def test_pipelined_requests_are_answered_in_their_order(self):
        paths = ["quick", "slow", "a", "later", "b", "raises", "c"]
        with contextlib.redirect_stderr(io.StringIO()), socket.create_connection(("127.0.0.1", int(self.url.split(":")[2][:-1]))) as connection:
            connection.sendall(b"".join(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths))
            connection.settimeout(5)
            found = b""
            while found.count(b"HTTP/1.1 200") < len(paths) or not found.endswith(b"/c"):
                found += connection.recv(1 << 16)
        bodies = [part.partition(b"\r\n\r\n")[2] for part in found.split(b"HTTP/1.1 200 OK")[1:]]
        self.assertEqual(bodies, [f"/{path}".encode() for path in paths])
