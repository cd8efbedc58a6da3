"""The server itself, over raw sockets: what is malformed before any application sees it."""
import logging
import socket
import threading
import unittest
from unittest import mock

from leanwsgi.workers import listen
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
        listening = listen("127.0.0.1", 0)
        self.port = listening.getsockname()[1]
        self.server = create_server(application, [listening], 2, 1 << 20)
        logger = logging.getLogger("waitress")
        self.addCleanup(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
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
