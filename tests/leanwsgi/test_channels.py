"""Peers that do not read, do not send, or want everything for themselves: nobody else notices them."""
import contextlib
import hashlib
import os
import socket
import sys
import threading
import unittest
from unittest import mock

from leanengine import server as app_server
from leanwsgi import channels, shares, waitress_server
from leanwsgi.workers import listen
from tests import HAS_STORAGE
from tests.support import NO_STORAGE, sample, until

if HAS_STORAGE:
    from leanstorage.http import server as storage_server

SECONDS = 10  # until what should happen counts as never
BLOCK = os.urandom(1 << 16)
BLOCKS = 320  # 20 MB
WHOLE = hashlib.sha256(BLOCK * BLOCKS).hexdigest()
HAS_LOOPBACK_BLOCK = sys.platform == "linux"  # where 127.0.0.2 is an address, too


class Body:
    """Twenty megabytes in pieces, which note when they are closed."""

    def __init__(self, closed, blocks=BLOCKS, fails_at=None):
        self.closed, self.left, self.fails_at = closed, blocks, fails_at

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        if self.left == self.fails_at:
            raise RuntimeError("the disk is gone")
        return BLOCK

    def close(self):
        self.closed.append(self.left)


class ByWaitress(channels.Task):
    """Heads and writes as waitress makes them."""

    build_response_header = waitress_server.WSGITask.build_response_header
    write = waitress_server.WSGITask.write


class PeerCase(unittest.TestCase):
    threads = 2

    def setUp(self):
        self.closed, self.leave, self.entered = [], threading.Event(), []
        self.addCleanup(self.leave.set)

    def application(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/slow":
            self.entered.append(environ["REMOTE_ADDR"])
            self.leave.wait(SECONDS)
        if path in ("/large", "/fails"):
            start_response("200 OK", [("Content-Length", str(BLOCKS << 16))])
            return Body(self.closed, fails_at=100 if path == "/fails" else None)
        if path == "/chunked":
            start_response("200 OK", [])
            return Body(self.closed)
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok" if len(body) < 5 else b"OK"]

    def start(self, kind="app", **more):
        """A server's port."""
        listening = listen("127.0.0.1", 0)
        if kind == "storage" and not HAS_STORAGE:
            self.skipTest(NO_STORAGE)
        if kind == "app":
            server = app_server.create_server(self.application, [listening], self.threads, 1 << 20, **more)
            thread = threading.Thread(target=waitress_server.run, args=[server])
            thread.start()
            self.addCleanup(thread.join)
            self.addCleanup(waitress_server.stop, server)
            self.server = server
        else:
            started = storage_server.Server(self.application, listening, self.threads, 1 << 20, **more)
            started.start()
            self.addCleanup(started.stop)
            self.server = started._server
        self.port = listening.getsockname()[1]

    def connect(self, address="127.0.0.1"):
        connection = socket.create_connection(("127.0.0.1", self.port), SECONDS, (address, 0))
        self.addCleanup(connection.close)
        return connection

    def ask(self, path, times=1, address="127.0.0.1", version="1.1"):
        connection = self.connect(address)
        connection.sendall(b"GET %s HTTP/%s\r\nHost: x\r\n\r\n" % (path.encode(), version.encode()) * times)
        return connection

    def answered(self, connection):
        """Whether a short answer comes."""
        with contextlib.suppress(OSError):
            return connection.recv(1 << 16).endswith(b"ok")

    def is_ended(self, connection):
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1 << 16):
                pass
        return True

    def is_idle(self):
        """Whether every thread of every pool waits for work."""
        return not any(channel.requests and not channel._is_waiting for channel in [*self.server.active_channels.values()])


class SlowReaderTest(PeerCase):
    def downloads(self, connection, number):
        """Digests of the bodies of `number` answers with a length."""
        found = []
        with connection.makefile("rb") as stream:
            for _ in range(number):
                head = b"".join(iter(stream.readline, b"\r\n"))
                self.assertTrue(head.startswith(b"HTTP/1.1 200"), head)
                found.append(hashlib.sha256(stream.read(BLOCKS << 16)).hexdigest())
        return found

    def test_clients_that_do_not_read_hold_no_thread_and_get_all_of_it_when_they_do(self):
        for kind, times in sample((("app", 1), ("app", 3), ("storage", 1), ("storage", 3))):
            with self.subTest(kind=kind, times=times):
                self.start(kind)
                asked = [self.ask("/large", times) for _ in range(16)]
                self.assertTrue(self.answered(self.ask("/")))
                for connection in asked[::4]:
                    self.assertEqual(self.downloads(connection, times), [WHOLE] * times)
                del self.closed[:]

    def test_answer_that_was_sent_just_before_it_waits_goes_on(self):
        self.start()
        real = channels.Channel._wait

        def late(channel, task):
            until(lambda: not channel.total_outbufs_len)
            real(channel, task)

        with mock.patch.object(channels.Channel, "_wait", late):
            connection = self.ask("/large")
            self.assertEqual(self.downloads(connection, 1), [WHOLE])

    def test_answer_without_a_length_goes_on_after_a_pause(self):
        self.start()
        for version in ("1.1", "1.0"):
            connection = self.ask("/chunked", version=version)
            until(lambda: any(channel._is_waiting for channel in [*self.server.active_channels.values()]))
            with connection.makefile("rb") as stream:
                head = b"".join(iter(stream.readline, b"\r\n"))
                body = stream.read()
            self.assertEqual(b"chunked" in head, version == "1.1")
            if version == "1.1":
                body = b"".join(body[start + 7 : start + 7 + 65536] for start in range(0, BLOCKS * (65536 + 9), 65536 + 9))
            self.assertEqual(hashlib.sha256(body).hexdigest(), WHOLE)

    def test_body_is_closed_when_it_has_ended_or_its_peer_has_gone(self):
        self.start()
        self.downloads(self.ask("/large"), 1)
        until(lambda: self.closed == [0])
        for _ in range(4):
            connection = self.ask("/large", 3)
            until(lambda: any(channel._is_waiting for channel in [*self.server.active_channels.values()]))
            connection.close()
        until(lambda: len(self.closed) == 5)
        until(lambda: len(self.server.active_channels) == 1)  # the first, which may ask again

    def test_body_that_fails_after_a_pause_ends_its_connection_alone(self):
        self.start("storage")
        with self.assertLogs("waitress", "ERROR"):
            self.assertTrue(self.is_ended(self.ask("/fails")))
        self.assertEqual(self.closed, [100])
        self.assertTrue(self.answered(self.ask("/")))

    def test_client_that_never_reads_is_hung_up_on(self):
        with mock.patch.object(channels, "LOOK_SECONDS", 0.05), mock.patch.object(channels, "WINDOW_SECONDS", 0.5):
            self.start()
            self.server.adj.asyncore_loop_timeout = 0.05
            for path, times in (("/large", 1), ("/large", 3)):
                self.ask(path, times)
            until(lambda: len(self.server.active_channels) == 2)
            until(lambda: not self.server.active_channels, SECONDS)
            until(lambda: len(self.closed) == 2)


class SlowSenderTest(PeerCase):
    def start(self, *arguments, **more):
        for name, value in (("LOOK_SECONDS", 0.05), ("WINDOW_SECONDS", 0.5), ("HEAD_SECONDS", 0.5), ("WINDOW_BYTES", 100)):
            patch = mock.patch.object(channels, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        super().start(*arguments, **more)
        self.server.adj.asyncore_loop_timeout = 0.05

    def trickle(self, connection, data):
        """Send a byte now and then until the server hangs up; whether it did."""
        connection.settimeout(0.1)
        for byte in data:
            try:
                connection.sendall(bytes([byte]))
                if not connection.recv(1):
                    return True
            except TimeoutError:
                continue
            except OSError:
                return True
        return False

    def test_head_or_body_that_never_ends_is_hung_up_on(self):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n"
        for kind in ("app", "storage"):
            self.start(kind)
            for name, begun in (("head", head), ("body", head + b"\r\n"), ("chunks", head.replace(b"Content-Length: 90000", b"Transfer-Encoding: chunked") + b"\r\n9\r\n")):
                with self.subTest(kind=kind, name=name):
                    connection = self.connect()
                    connection.sendall(begun)
                    self.assertTrue(self.trickle(connection, b"x" * 100))

    def test_body_that_comes_slowly_but_comes_is_answered(self):
        self.start()
        connection = self.connect()
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n")
        ticking = threading.Event()
        for _ in range(20):
            connection.sendall(bytes(1000))
            ticking.wait(0.1)
        self.assertTrue(connection.recv(1 << 16).endswith(b"OK"))

    def test_connection_that_waits_between_requests_is_not_hung_up_on(self):
        self.start()
        connection = self.ask("/")
        self.assertTrue(self.answered(connection))
        threading.Event().wait(1.5)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(self.answered(connection))

    def test_half_requests_make_room_when_nobody_else_gets_in(self):
        with mock.patch.object(waitress_server, "MAX_CONNECTIONS", 30):
            self.start()
            channels.HEAD_SECONDS = 600  # until the patch of `start` ends
            for _ in range(40):
                self.connect().sendall(b"G")
            self.assertTrue(self.answered(self.ask("/")))


@unittest.skipUnless(HAS_LOOPBACK_BLOCK, "127.0.0.2 is no address here")
class ShareTest(PeerCase):
    threads = 4

    def test_visitor_has_a_share_of_the_connections_and_gets_them_back(self):
        with mock.patch.object(channels, "PEER_CONNECTIONS", 5):
            self.start()
            first = [self.ask("/", address="127.0.0.2") for _ in range(5)]
            for connection in first:
                self.assertTrue(self.answered(connection))
            self.assertTrue(self.is_ended(self.connect("127.0.0.2")))
            for address in ("127.0.0.3", "127.0.0.1"):
                self.assertTrue(self.answered(self.ask("/", address=address)))
            for connection in first:
                connection.close()
            until(lambda: not self.server.connections._held.get("127.0.0.2"))
            self.assertTrue(self.answered(self.ask("/", address="127.0.0.2")))

    def test_visitor_has_a_share_of_the_threads_and_all_of_its_requests_are_answered(self):
        for kind in ("app", "storage"):
            with self.subTest(kind):
                self.leave.clear()
                del self.entered[:]
                self.start(kind)
                slow = [self.ask("/slow", address="127.0.0.2") for _ in range(12)]
                until(lambda: len(self.entered) == 3)
                self.assertTrue(self.answered(self.ask("/", address="127.0.0.3")))
                self.assertEqual(len(self.entered), 3)
                self.leave.set()
                for connection in slow:
                    self.assertTrue(self.answered(connection))

    def test_requests_set_aside_are_cancelled_at_the_end(self):
        pool, done = waitress_server.Pool(is_shared=True), []
        pool.set_thread_count(2)

        class Task:
            def visitor(self):
                return "203.0.113.1"

            def service(task):
                self.entered.append(task)
                self.leave.wait(SECONDS)

            def cancel(self):
                done.append(self)

        for _ in range(3):
            pool.add_task(Task())
        until(lambda: pool.waiting("203.0.113.1") == 2 or (len(self.entered) == 1 and not pool.queue))
        with self.assertLogs("waitress", "WARNING"):
            pool.shutdown(timeout=0)
        self.leave.set()
        self.assertEqual((len(self.entered), len(done)), (1, 2))
        pool.shutdown()

    def test_visitor_spools_a_share_of_bytes(self):
        self.start()
        self.server.peer_bytes = 600_000
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        connections = [self.connect("127.0.0.2") for _ in range(2)]
        for connection in connections:
            connection.sendall(head + bytes(290_000))
        until(lambda: self.server.spooled._held.get("127.0.0.2") == 580_000)
        more = self.connect("127.0.0.2")
        more.sendall(head + bytes(50_000))
        self.assertTrue(self.is_ended(more))
        until(lambda: self.server.spooled._held.get("127.0.0.2") == 580_000)
        connections[0].close()
        until(lambda: self.server.spooled._held.get("127.0.0.2") == 290_000)
        self.server.peer_bytes = 2_000_000
        connections[1].sendall(bytes(710_000))
        self.assertTrue(connections[1].recv(1 << 16).endswith(b"OK"))
        until(lambda: not self.server.spooled._held)

    def test_who_a_visitor_is(self):
        here, there = ("127.0.0.1", 1), ("198.51.100.7", 1)
        rows = [
            (here, {}, (), None, None),
            (there, {}, (), "198.51.100.7", "198.51.100.7"),
            (("2001:db8:1:2:3::4", 1, 0, 0), {}, (), "2001:db8:1:2::/64", "2001:db8:1:2::/64"),
            (("fe80::1%eth0", 1, 0, 2), {}, (), "fe80::/64", "fe80::/64"),
            (there, {"X_REAL_IP": "203.0.113.9"}, (), "198.51.100.7", "198.51.100.7"),
            (there, {"X_REAL_IP": "203.0.113.9"}, ("198.51.100.7",), None, "203.0.113.9"),
            (there, {"X_REAL_IP": "2001:db8::9"}, ("*",), None, "2001:db8::/64"),
            (there, {"X_REAL_IP": "nonsense"}, ("198.51.100.7",), None, None),
            (there, {}, ("*",), None, "198.51.100.7"),
            (here, {"X_REAL_IP": "203.0.113.9"}, ("127.0.0.1",), None, "203.0.113.9"),
        ]
        for address, headers, trusted, peer, visitor in rows:
            with self.subTest(address=address, headers=headers, trusted=trusted):
                self.assertEqual(shares.peer(address, trusted), peer)
                self.assertEqual(shares.visitor(address, headers, trusted), visitor)


class HeadTest(PeerCase):
    ANSWERS = {  # path: status, headers, body
        "/plain": ("200 OK", [("Content-Type", "text/plain"), ("content-length", "2"), ("X-Two", "1"), ("X-Two", "2")], [b"ok"]),
        "/no-length": ("200 OK", [("Content-Type", "text/plain")], [b"ok"]),
        "/no-length-in-two": ("200 OK", [], [b"o", b"k"]),
        "/two": ("200 OK", [("Content-Length", "2")], [b"o", b"k"]),
        "/empty": ("200 OK", [("Content-Length", "0")], [b""]),
        "/empty-first": ("200 OK", [("Content-Length", "2")], [b"", b"ok"]),
        "/too-long": ("200 OK", [("Content-Length", "2")], [b"okay"]),
        "/too-short": ("200 OK", [("Content-Length", "9")], [b"ok"]),
        "/none": ("204 No Content", [], [b""]),
        "/none-with-length": ("204 No Content", [("Content-Length", "2")], [b"ok"]),
        "/not-modified": ("304 Not Modified", [("ETag", '"x"')], [b""]),
        "/missing": ("200 OK", [("Content-Length", "2")], [b""]),
        "/served": ("200 OK", [("Content-Length", "2"), ("Server", "x")], [b"ok"]),
        "/dated": ("200 OK", [("Content-Length", "2"), ("Via", "x"), ("Date", "today")], [b"ok"]),
        "/split": ("200 OK", [("Content-Length", "2"), ("X-Evil", "a\r\nb: c")], [b"ok"]),
        "/latin": ("200 OK", [("Content-Length", "2"), ("X-Name", "caf\xe9")], [b"ok"]),
        "/large": ("200 OK", [("Content-Length", str(1 << 17))], [bytes(1 << 17)]),
    }

    def application(self, environ, start_response):
        status, headers, body = self.ANSWERS[environ["PATH_INFO"]]
        start_response(status, list(headers))
        return body

    def answer(self, path, method, version, sent):
        """(first line, headers, body, whether the connection stays for one request more) of an answer."""
        connection = self.connect()
        connection.sendall(f"{method} {path} HTTP/{version}\r\nHost: x\r\n{sent}\r\nGET /plain HTTP/1.0\r\n\r\n".encode())
        with connection.makefile("rb") as file:
            first, headers = file.readline(), []
            while (line := file.readline()) not in (b"\r\n", b""):
                name, _, value = line.rstrip().partition(b": ")
                headers.append((name.lower(), b"?" if name == b"Date" and value != b"today" else value))
            rest = file.read()
        at = rest.find(b"HTTP/1")
        return first, sorted(headers), rest[: at if at >= 0 else None], at >= 0

    def test_answer_is_that_of_waitress(self):
        rows = [
            (path, method, version, sent)
            for path in self.ANSWERS
            for method in ("GET", "HEAD")
            for version, sent in (("1.1", ""), ("1.1", "Connection: close\r\n"), ("1.0", ""), ("1.0", "Connection: keep-alive\r\n"))
        ]
        found = []
        with self.assertLogs("waitress"):  # too long, too short, split
            for task in (channels.Task, ByWaitress):
                self.start()
                self.server.channel_class = type("Channel", (channels.Channel,), {"new_task": task})
                found.append([self.answer(*row) for row in rows])
        for row, ours, theirs in zip(rows, *found, strict=True):
            with self.subTest(row):
                self.assertEqual(ours, theirs)

    def test_small_answer_is_one_piece(self):
        self.start()
        pieces = []
        write_soon = channels.Channel.write_soon
        with mock.patch.object(channels.Channel, "write_soon", lambda channel, data: pieces.append(data) or write_soon(channel, data)):
            self.answer("/plain", "GET", "1.1", "")  # and once more, see `answer`
            self.answer("/large", "GET", "1.1", "")
        starts = [(piece[:5], piece[-2:]) for piece in pieces]
        one = (b"HTTP/", b"ok")
        self.assertEqual(starts, [one, one, (b"HTTP/", b"\r\n"), (bytes(5), bytes(2)), one])


if __name__ == "__main__":
    unittest.main()
