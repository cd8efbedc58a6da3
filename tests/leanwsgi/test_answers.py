"""Announcements (1xx) in front of answers, and answers without end, for everything that asks over HTTP."""
import contextlib
import gzip
import http.client
import importlib.util
import io
import socket
import threading
import unittest
from unittest import mock

import requests

from leanengine import connections, sdk
from leanengine.connections import Connections
from leanwsgi.answers import Answer, MAX_ANNOUNCEMENTS, bound_answers, bounded_session
from tests import HAS_STORAGE
from tests.leanengine.test_connections import answer, Peer
from tests.support import changed_environment, NO_STORAGE

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nX-Two: 2\r\n\r\n"
BEFORE = {
    "early hints": HINTS,
    "no headers": b"HTTP/1.1 102 Processing\r\n\r\n",
    "a number without a name": b"HTTP/1.1 199\r\n\r\n",
    "several": b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS * 3,
    "as many as are allowed": HINTS * MAX_ANNOUNCEMENTS,
}
REFUSED = {
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "announcements without end": HINTS * (MAX_ANNOUNCEMENTS + 1),
    "leave to go on without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    "headers without end": b"HTTP/1.1 103 Early Hints\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    "a header without end": b"HTTP/1.1 103 Early Hints\r\na: " + b"b" * 70_000 + b"\r\n\r\n",
}
ACCESS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


class AnnouncementsTest(unittest.TestCase):
    @contextlib.contextmanager
    def peer(self, *answers):
        peer = Peer(answers)
        try:
            yield peer
        finally:
            peer.close()

    def test_answer_behind_announcements_is_that_of_its_own_request(self):
        for name, before in BEFORE.items():
            with self.subTest(name), self.peer(before + answer(b'{"own": 1}'), before + answer(b'{"own": 2}')) as peer:
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", peer.port, timeout=5)) as connection:
                    connection.response_class = Answer
                    for number in (1, 2):
                        connection.request("GET", "/")
                        found = connection.getresponse()
                        self.assertEqual((found.status, found.headers["Link"], found.read()), (200, None, b'{"own": %d}' % number))
                self.assertEqual(peer.opened, 1)

    def test_what_is_no_announcement_breaks_the_connection(self):
        for name, before in REFUSED.items():
            for kind in ("requests", "plain"):
                with self.subTest(name, kind=kind), self.peer(before + answer(b'{"own": 1}'), answer(b'{"own": 2}')) as peer:
                    url, plain = f"http://127.0.0.1:{peer.port}/", Connections(1)
                    self.addCleanup(plain.close)
                    with bounded_session() as asking:
                        ask = asking.request if kind == "requests" else lambda *what: plain.ask(*what, "", {}, None, (5, 5))  # noqa: B023
                        with self.assertRaises(requests.RequestException):
                            ask("POST", url)
                        self.assertEqual(ask("POST", url).json(), {"own": 2})

    def test_sdk_gets_the_answer_behind_them(self):
        for name, params in (("plain", {}), ("by requests", {"a": ["x"]})):
            with self.subTest(name), self.peer(*[HINTS + answer(b'{"own": %d}' % number) for number in range(2)]) as peer:
                with sdk.StorageSession() as asking:
                    asking.mount("http://", sdk.StorageAdapter())
                    for number in range(2):
                        self.assertEqual(asking.get(f"http://127.0.0.1:{peer.port}/", params=params).json(), {"own": number})
                self.assertEqual(peer.opened, 1)

    @unittest.skipUnless(HAS_STORAGE, NO_STORAGE)
    def test_everybody_whom_the_storage_asks_may_announce(self):
        from leanstorage.engine.http_transport import HttpTransport
        from leanstorage.outside import sms
        from leanstorage.outside.ask import ask
        from leanstorage.takeout.remote import Remote

        answers = [HINTS + answer(b'{"own": %d}' % number) for number in range(2)]
        with self.peer(*answers, HINTS + answer(b"{}", b"HTTP/1.1 503 Busy"), HINTS + answer()) as peer:
            url = f"http://127.0.0.1:{peer.port}"
            self.assertEqual([ask(url) for _ in range(2)], [{"own": 0}, {"own": 1}])
            gateway = sms.Gateway(url, "secret")
            self.assertEqual([gateway.deliver(b"{}") for _ in range(2)], [sms.LATER, sms.SENT])
        for kind in ("engine", "api", "files"):
            with self.subTest(kind), self.peer(*answers) as peer:
                url = f"http://127.0.0.1:{peer.port}"
                asked = HttpTransport(url) if kind == "engine" else Remote(url, "id", "key")
                self.addCleanup(asked.close)
                for number in range(2):
                    if kind == "engine":
                        found = asked("POST", "/1.1/functions/x", {}, b"{}", 5)[1]
                    elif kind == "api":
                        found = b'{"own": %d}' % asked.get("/classes/A")["own"]
                    else:
                        found = b"".join(asked.download(f"{url}/file"))
                    self.assertEqual(found, b'{"own": %d}' % number)
                self.assertEqual(peer.opened, 1)

    @unittest.skipUnless(HAS_STORAGE and importlib.util.find_spec("boto3"), "boto3 is not installed")
    def test_object_storage_that_only_announces_has_stored_nothing_and_its_connection_is_dropped(self):
        from leanstorage.blobs import open_blobs
        from leanstorage.store import StoreUnavailable

        late = answer(b"", more=b"ETag: \"x\"\r\n")
        for number in range(2):
            with self.peer(HINTS, late, late) as peer, changed_environment(**ACCESS, AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{peer.port}"):
                blobs = open_blobs("s3://bucket/x")
                self.addCleanup(blobs.client.close)
                with self.subTest(number), self.assertRaises(StoreUnavailable):
                    blobs.size("key") if number else blobs.write([b"abc"])
                self.assertEqual(blobs.size("key"), 0)
                self.assertEqual(peer.opened, 2)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ENDLESS = {  # what is sent at once, and then again and again
    "a status line": (b"HTTP/1.1 200 ", b"O"),
    "headers": (HEAD, b"a: b\r\n"),
    "a body with a length": (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
    "a body without one": (HEAD + b"\r\n", b" "),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "announcements": (b"", b"HTTP/1.1 1"),
}


class Dripping:
    """A server that sends a beginning, and then a piece now and then, for as long as anybody listens."""

    def __init__(self, begin, piece, seconds=0.02, times=10**9, speaks_first=False):
        self.speaks_first = speaks_first
        self.begin, self.piece, self.seconds, self.times = begin, piece, seconds, times
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection):
        with connection, contextlib.suppress(OSError):
            if not self.speaks_first:
                connection.recv(1 << 16)
            connection.sendall(self.begin)
            for _ in range(self.times):
                if self._ended.wait(self.seconds):
                    return
                connection.sendall(self.piece)
            self._ended.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


class WaitingTest(unittest.TestCase):
    def ended(self, call):
        """What a call raises or returns; it must not take for ever."""
        found = []

        def run():
            try:
                found.append(call())
            except Exception as error:
                found.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(20)
        self.assertFalse(thread.is_alive(), "it waits without end")
        return found[0]

    def test_answer_that_drips_is_given_up(self):
        for name, (begin, piece) in ENDLESS.items():
            with Dripping(begin, piece) as server, bounded_session() as asking, contextlib.closing(Connections(1)) as plain:
                url = f"{server.url}/"
                calls = {
                    "requests": lambda: asking.get(url, timeout=0.15),  # noqa: B023 it runs at once
                    "plain": lambda: plain.ask("POST", url, "", {}, None, (5, 0.15)),  # noqa: B023
                }
                for kind, call in calls.items():
                    with self.subTest(name, kind=kind):
                        self.assertIsInstance(self.ended(call), requests.RequestException)

    @unittest.skipUnless(HAS_STORAGE, NO_STORAGE)
    def test_whoever_drips_holds_none_of_the_storages_threads(self):
        from leanstorage.engine.hooks import EngineTimeout
        from leanstorage.engine.http_transport import HttpTransport
        from leanstorage.outside import ask, sms
        from leanstorage.takeout import remote

        short = mock.patch.multiple(ask, READ_SECONDS=0.3), mock.patch.multiple(remote, TIMEOUT=(5, 0.3), TRIES=1, LEAST_RATE=1 << 16)
        for name in ("headers", "chunks"):
            begin, piece = ENDLESS[name]
            with self.subTest(name), Dripping(begin, piece) as server, short[0], short[1]:
                engine, source = HttpTransport(server.url), remote.Remote(server.url, "id", "key")
                self.addCleanup(engine.close)
                self.addCleanup(source.close)
                self.assertIsInstance(self.ended(lambda: engine("POST", "/", {}, b"", 0.3)), EngineTimeout)  # noqa: B023
                self.assertIsInstance(self.ended(lambda: ask.ask(server.url)), ask.CannotAsk)  # noqa: B023
                found = self.ended(lambda: sms.Gateway(server.url, "secret", 0.3).deliver(b"{}"))  # noqa: B023
                self.assertEqual(found, sms.SENT if name == "chunks" else sms.LATER)  # the status is enough
                self.assertIsInstance(self.ended(lambda: source.get("/date")), remote.RemoteError)  # noqa: B023
                self.assertIsInstance(self.ended(lambda: b"".join(source.download(server.url))), remote.RemoteError)  # noqa: B023

    @unittest.skipUnless(HAS_STORAGE, NO_STORAGE)
    def test_mail_server_that_drips_is_given_up(self):
        from leanstorage.outside import smtp
        from leanstorage.resources import mail

        for begin, piece in ((b"220 ", b"x"), (b"", b"220-x\r\n")):
            with self.subTest(piece), Dripping(begin, piece, speaks_first=True) as server, mock.patch.object(smtp, "SECONDS", 0.3):
                sender = smtp.Smtp(f"smtp://{server.url.removeprefix('http://')}", "a@b.example", "", "", mail.Unreachable, mail.Undeliverable)
                with sender.connected() as deliver:
                    self.assertIsInstance(self.ended(lambda: deliver(b"", "c@d.example")), mail.Unreachable)  # noqa: B023

    def test_answer_that_comes_fast_enough_takes_as_long_as_it_needs(self):
        body = HEAD + b"Content-Length: 1000\r\n\r\n"
        with Dripping(body, b"x" * 100, 0.1, 10) as server, requests.Session() as asking:
            for adapter in asking.adapters.values():
                bound_answers(adapter, 100)
            self.assertEqual(asking.get(server.url, timeout=0.5).content, b"x" * 1000)

    def test_reader_may_take_its_time_and_the_connection_is_as_before(self):
        with Dripping(HEAD + b"Content-Length: 30\r\n\r\n", b"x" * 10, 0.01, 3) as server:
            host = server.url.removeprefix("http://")
            with contextlib.closing(http.client.HTTPConnection(host, timeout=0.5)) as connection:
                connection.response_class = Answer
                connection.request("GET", "/")
                found = connection.getresponse()
                for _ in range(3):
                    self.assertEqual(found.read(10), b"x" * 10)
                    threading.Event().wait(0.4)
                self.assertEqual(connection.sock.gettimeout(), 0.5)

    def test_answer_that_is_too_long_is_given_up(self):
        packed = gzip.compress(bytes(5000))
        rows = {
            "without a length": HEAD + b"\r\n",
            "in chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + bytes(2000),
            "announced": HEAD + b"Content-Length: 2000\r\n\r\n",
            "packed": HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed,
        }
        for name, begin in rows.items():
            with self.subTest(name), mock.patch.object(connections, "MAX_ANSWER_BYTES", 1000), Dripping(begin, bytes(1000)) as server:
                with contextlib.closing(Connections(1)) as plain:
                    found = self.ended(lambda: plain.ask("POST", f"{server.url}/", "", {}, None, (5, 5)))  # noqa: B023
                    self.assertIn("too long", str(found))
                    self.assertIsInstance(found, requests.ConnectionError)

    @unittest.skipUnless(HAS_STORAGE, NO_STORAGE)
    def test_answer_of_the_engine_that_is_too_long_is_given_up(self):
        from leanstorage.engine import http_transport
        from leanstorage.engine.hooks import EngineDown

        with mock.patch.object(http_transport, "MAX_ANSWER_BYTES", 1000), Dripping(HEAD + b"\r\n", bytes(1 << 16), 0.001) as server:
            engine = http_transport.HttpTransport(server.url)
            self.addCleanup(engine.close)
            self.assertIsInstance(self.ended(lambda: engine("POST", "/", {}, b"", 5)), EngineDown)

    def test_file_that_hangs_or_drips_is_given_up_in_its_midst(self):
        for seconds in (0.02, 60):
            with Dripping(HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(1000), b"x", seconds) as server, mock.patch.object(sdk, "READ_SECONDS", 0.3):
                with self.subTest(seconds), sdk.StorageSession() as asking:
                    asking.mount("http://", sdk.StorageAdapter())
                    with asking.get(f"{server.url}/", stream=True) as response:
                        found = self.ended(lambda: list(response.iter_content(1 << 16)))  # noqa: B023 it runs at once
                        self.assertIsInstance(found, requests.RequestException)

    def test_upload_that_is_taken_slowly_or_not_at_all_is_given_up(self):
        for seconds in (0.01, 60):  # between two pieces that are taken
            taken = threading.Event()
            with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener, mock.patch.multiple(sdk, UPLOAD_SECONDS=0.5, LEAST_RATE=1 << 40):

                def take(listener=listener, taken=taken, seconds=seconds):
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        while connection.recv(20_000) and not taken.wait(seconds):
                            pass

                thread = threading.Thread(target=take)
                thread.start()
                with self.subTest(seconds), sdk.StorageSession() as asking:
                    asking.mount("http://", sdk.StorageAdapter())
                    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
                    found = self.ended(lambda: asking.put(url, data=io.BytesIO(bytes(100_000_000))))  # noqa: B023
                    self.assertIsInstance(found, requests.RequestException)
                taken.set()
                thread.join()


if __name__ == "__main__":
    unittest.main()
