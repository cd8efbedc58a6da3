"""Peers that do not read, do not send, or want everything for themselves: nobody else notices them."""
import contextlib
import hashlib
import http.client
import os
import socket
import sys
import threading
import unittest
from unittest import mock

import requests

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


class LingeringTest(PeerCase):
    """A client may send all of a large body before it looks for an answer, and has to find it then."""

    LARGE = bytes(12_000_000)  # more than the system keeps of it
    HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12000000\r\n\r\n"

    def sent(self, data):
        """All that comes back to who has sent everything first."""
        with self.connect() as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    def lingering(self):
        return [channel for channel in [*self.server.active_channels.values()] if channel.is_lingering]

    def test_refusal_is_read_whole_after_all_of_a_large_body_was_sent(self):
        chunks = b"".join((b"100000\r\n", bytes(1 << 20), b"\r\n")) * 12 + b"0\r\n\r\n"
        head = self.HEAD.replace(b"Content-Length: 12000000", b"%s")
        rows = {
            "announced": self.HEAD + self.LARGE,
            "in chunks": head % b"Transfer-Encoding: chunked" + chunks,
            "by HTTP/1.0": self.HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + self.LARGE,
            "by HEAD": self.HEAD.replace(b"POST", b"HEAD") + self.LARGE,
            "behind another": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + self.HEAD + self.LARGE,
            "a head that is too large": b"GET / HTTP/1.1\r\nX-Much: " + b"x" * 4_000_000 + b"\r\n\r\n",
            "a malformed request": b"GARBAGE\r\n\r\n" + self.LARGE,
            "an unknown encoding": head % b"Transfer-Encoding: gzip" + self.LARGE,
        }
        statuses = {"a head that is too large": b"431", "a malformed request": b"400", "an unknown encoding": b"501"}
        for kind in ("app", "storage"):
            self.start(kind)
            for name, data in rows.items():
                with self.subTest(kind=kind, name=name):
                    answers = self.sent(data)
                    if name == "behind another":
                        self.assertTrue(answers.startswith(b"HTTP/1.1 200 OK"))
                        answers = answers[answers.index(b"HTTP/1.1", 1) :]
                    head, _, body = answers.partition(b"\r\n\r\n")
                    self.assertEqual(head.split()[1], statuses.get(name, b"413"))
                    self.assertIn(b"Connection: close", head)
                    if name != "by HEAD":
                        self.assertIn(b"Content-Length: %d\r\n" % len(body), head + b"\r\n")
            until(lambda: not self.server.active_channels)
            self.assertFalse(self.server.lingering)
            self.assertFalse(self.server.spooled._held)

    def test_line_between_chunks_is_short(self):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        trailer = b"0\r\nX-Trailer: " + b"x" * 10_000 + b"\r\n\r\n"
        rows = (
            (b"1" * 1_000_000, b"400"),
            (b"1;a=" + b"b" * 1_000_000, b"400"),
            (b"1\r\na\r\n0\r\nX-Trailer: " + b"x" * 1_000_000, b"400"),
            (b"1;a=" + b"b" * 3_000 + b"\r\na\r\n" + trailer, b"200"),
        )
        for kind in ("app", "storage"):
            self.start(kind)
            for data, status in rows:
                with self.subTest(kind=kind, data=data[:20]):
                    self.assertEqual(self.sent(head + data).split()[1], status)

    def test_clients_that_send_first_read_the_refusal(self):
        for kind in ("app", "storage"):
            self.start(kind)
            url = f"http://127.0.0.1:{self.port}/"
            with self.subTest(kind=kind, client="http.client"), contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, SECONDS)) as client:
                client.request("POST", "/", bytes(50_000_000))
                self.assertEqual(client.getresponse().status, 413)
            with self.subTest(kind=kind, client="requests"):
                self.assertEqual(requests.post(url, self.LARGE, timeout=SECONDS).status_code, 413)
            with self.subTest(kind=kind, client="requests, in chunks"):
                self.assertEqual(requests.post(url, (bytes(1_000_000) for _ in range(50)), timeout=SECONDS).status_code, 413)

    def test_bytes_behind_the_last_request_do_not_reset_its_answer(self):
        self.start()
        last = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab"
        for more in (b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000):
            self.assertTrue(self.sent(last + more).endswith(b"\r\n\r\nok"))

    def test_client_that_waits_for_leave_to_send_is_refused_and_not_asked_for_more(self):
        for kind in ("app", "storage"):
            with self.subTest(kind):
                self.start(kind)
                answer = self.sent(self.HEAD.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"))
                self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)

    def test_answer_comes_at_once_and_the_connection_ends_with_the_client(self):
        self.start()
        connection = self.connect()
        connection.sendall(self.HEAD + bytes(100_000))
        self.assertTrue(connection.recv(1 << 16).startswith(b"HTTP/1.1 413"))
        until(self.lingering)
        self.assertIsNone(self.lingering()[0].request)
        self.assertFalse(self.server.spooled._held)
        self.assertTrue(self.is_ended(connection))  # there is nothing more to read
        connection.sendall(bytes(100_000))
        connection.shutdown(socket.SHUT_WR)
        until(lambda: not self.server.active_channels)

    def test_nothing_makes_it_linger_for_long(self):
        rows = (("SILENT_SECONDS", 0.2, False), ("LINGER_SECONDS", 0.2, True), ("LINGER_BYTES", 300_000, True))
        for name, value, is_sending in rows:
            with self.subTest(name), mock.patch.object(channels, "LOOK_SECONDS", 0.05), mock.patch.object(channels, name, value):
                self.start()
                self.server.adj.asyncore_loop_timeout = 0.05
                connection = self.connect()
                connection.sendall(self.HEAD)
                until(lambda: self.lingering() or not self.server.active_channels)
                with contextlib.suppress(OSError):
                    while is_sending and self.server.active_channels:
                        connection.sendall(bytes(1000))
                until(lambda: not self.server.active_channels)
                self.assertFalse(self.server.lingering)

    def test_few_connections_linger_and_they_make_room_first(self):
        with mock.patch.object(channels, "MAX_LINGERING", 8), mock.patch.object(waitress_server, "MAX_CONNECTIONS", 20):
            with mock.patch.object(channels, "SILENT_SECONDS", 600), mock.patch.object(channels, "SPARE_CONNECTIONS", 4):
                self.start()
                refused = [self.connect() for _ in range(12)]
                for connection in refused:
                    connection.sendall(self.HEAD)
                    self.assertTrue(connection.recv(1 << 16).startswith(b"HTTP/1.1 413"))
                until(lambda: len(self.server.active_channels) == 8)
                kept = [self.ask("/") for _ in range(12)]
                self.assertTrue(all(map(self.answered, kept)))
                for connection in kept:
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    self.assertTrue(self.answered(connection))

    def test_end_of_the_server_waits_for_what_is_still_sent(self):
        self.start()
        connection = self.connect()
        connection.sendall(self.HEAD + bytes(1 << 20))
        until(self.lingering)
        stopping = threading.Thread(target=waitress_server.stop, args=[self.server])
        stopping.start()
        stopping.join()
        connection.sendall(self.LARGE[1 << 20 :])
        self.assertTrue(connection.recv(1 << 16).startswith(b"HTTP/1.1 413"))
        until(lambda: not self.server.active_channels)


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
