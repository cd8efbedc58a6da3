"""The server itself, over raw sockets: what is malformed before any application sees it."""
import json
import logging
import socket
import threading
import unittest
from unittest import mock

from leanwsgi.workers import listen
from leanengine import middleware
from leanengine.server import create_server
from tests.support import until

GOOD = b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
MALFORMED = {
    "no request line": b"GARBAGE\r\n\r\n",
    "a single letter": b"X\r\n\r\n",
    "method in lower case": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: \0\r\n\r\n",
    "space in a header's name": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "bare line feed": b"GET /\n HTTP/1.1\r\nHost: x\r\n\r\n",
    "length that is no number": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    "length given twice": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
    "length of 5000 digits": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "address that ends within its brackets": b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "URL that is not ASCII": b"GET http://\xff/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "chunks that are none": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
}


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


class ServerTest(unittest.TestCase):
    def setUp(self):
        logger = logging.getLogger("waitress")
        self.addCleanup(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        self.restart()

    def restart(self, application=application, **options):
        """Another server, with other options."""
        self.doCleanups() if hasattr(self, "server") else None
        listening = listen("127.0.0.1", 0)
        self.port = listening.getsockname()[1]
        self.server = create_server(application, [listening], 2, 1 << 20, **options)
        self.ending = threading.Event()
        thread = threading.Thread(target=self.serve)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(lambda: self.server.trigger.pull_trigger(self.ending.set))

    def serve(self):
        while not self.ending.is_set():
            # Longer than any test waits: what forgets to wake the loop fails.
            self.server.asyncore.loop(timeout=60, map=self.server._map, use_poll=True, count=1)
        self.server.task_dispatcher.shutdown()
        for channel in [*self.server.active_channels.values()]:
            channel.handle_close()
        self.server.close()

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), 5)
        self.addCleanup(connection.close)
        return connection

    def answer(self, data):
        """All that comes back until the server hangs up; a server that does not makes it a TimeoutError."""
        with self.connect() as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def test_malformed_request_is_400_and_the_connection_closed(self):
        for name, data in MALFORMED.items():
            with self.subTest(name):
                self.assertRegex(self.answer(data), rb"^HTTP/1\.[01] 400 ")

    def test_refusal_is_json_with_the_security_headers_as_in_the_app(self):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: ours-12345\r\nX-Forwarded-Proto: https\r\n"
        chunk = b"200000\r\n" + bytes(1 << 21) + b"\r\n"
        rows = [(400, data) for data in MALFORMED.values()]
        rows += [
            (413, head + b"Content-Length: 3000000\r\n\r\n"),
            (413, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2),
            (413, head.replace(b"POST", b"HEAD") + b"Content-Length: 3000000\r\n\r\n"),
            (431, b"GET / HTTP/1.1\r\nX-Much: " + b"x" * 70_000 + b"\r\n\r\n"),
            (501, head + b"Transfer-Encoding: gzip\r\n\r\n"),
        ]
        for is_trusted in (False, True):
            for status, data in rows:
                with self.subTest(status, is_trusted=is_trusted, data=data[:60]):
                    self.restart(trusted_proxy=["127.0.0.1"] if is_trusted else [], is_production=True)
                    first, _, rest = self.answer(data).partition(b"\r\n")
                    lines, _, body = rest.decode().partition("\r\n\r\n")
                    headers = dict(line.split(": ", 1) for line in lines.split("\r\n"))
                    self.assertRegex(first, b"HTTP/1.[01] %d " % status)
                    self.assertEqual(headers["Content-Type"], "application/json; charset=utf-8")
                    for name, value in (*middleware.SECURITY_HEADERS, ("Connection", "close"), ("Cache-Control", "no-store")):
                        self.assertEqual(headers[name], value)
                    is_ours = is_trusted and head[5:] in data
                    self.assertEqual((headers["X-Request-Id"] == "ours-12345", "Strict-Transport-Security" in headers), (is_ours, is_ours))
                    if not data.startswith(b"HEAD"):
                        self.assertEqual(int(headers["Content-Length"]), len(body))
                        self.assertEqual(json.loads(body)["code"], status)
                        self.assertTrue(json.loads(body)["error"])

    def test_failure_that_the_app_does_not_catch_is_json_too(self):
        def fails(environ, start_response):
            raise ZeroDivisionError

        self.restart(fails)
        with self.assertLogs("waitress", "ERROR"):
            self.assertRegex(self.answer(GOOD + GOOD), rb'(?s)^HTTP/1\.1 500 .*Content-Security-Policy.*\{"error":"Internal server error\.","code":1\}$')

    def test_refusal_is_what_the_app_makes_of_it(self):
        def page(error, environ):
            return error.status, [("Content-Type", "text/html")], environ["HTTP_ACCEPT"].encode() + environ["PATH_INFO"].encode()

        self.restart(explain=page)
        asked = b"POST /here HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nContent-Length: 3000000\r\n\r\n"
        self.assertRegex(self.answer(asked), rb"(?s)^HTTP/1\.1 413 .*\r\n\r\ntext/html/here$")

    def test_malformed_request_behind_a_good_one_is_400_after_its_answer(self):
        for name, data in MALFORMED.items():
            with self.subTest(name):
                self.assertRegex(self.answer(GOOD + data), rb"(?s)^HTTP/1\.1 200 OK\r\n.*\r\n\r\nokHTTP/1\.[01] 400 ")

    def test_more_malformed_requests_than_connections_are_allowed_stop_nobody(self):
        for _ in range(12):
            connections = [self.connect() for _ in range(100)]
            for connection in connections:
                connection.sendall(GOOD + MALFORMED["a single letter"])
            for connection in connections:
                self.assertTrue(connection.recv(65536))
                connection.close()
        self.assertIn(b"200 OK", self.answer(LAST))
        until(lambda: not self.server.active_channels)

    def test_request_that_cannot_be_queued_leaves_no_connection(self):
        with mock.patch.object(self.server.task_dispatcher._visitors, "add_task", side_effect=MemoryError):
            self.assertEqual(self.answer(GOOD), b"")
            self.answer(GOOD.replace(b"/good", b"/1.1/functions/x") + GOOD)  # the second by the thread of the first
        until(lambda: not self.server.active_channels)
        self.assertIn(b"200 OK", self.answer(LAST))

    def test_each_answer_of_many_connections_wakes_the_loop(self):
        def visit():
            with self.connect() as connection:
                for _ in range(200):
                    connection.sendall(GOOD)
                    while not connection.recv(65536).endswith(b"ok"):
                        pass
                    answered.append(None)

        answered = []
        visitors = [threading.Thread(target=visit) for _ in range(8)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        self.assertEqual(len(answered), 1600)


if __name__ == "__main__":
    unittest.main()
