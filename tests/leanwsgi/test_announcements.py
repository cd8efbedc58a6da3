"""Announcements (1xx) in front of answers, for everything that asks over HTTP, against a server that sends any bytes."""
import contextlib
import http.client
import importlib.util
import unittest

import requests

from leanengine import sdk
from leanengine.connections import Connections
from leanwsgi.announcements import Answer, MAX_ANNOUNCEMENTS, pass_over
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


def session():
    found = requests.Session()
    for adapter in found.adapters.values():
        pass_over(adapter)
    return found


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
                    with session() as asking:
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


if __name__ == "__main__":
    unittest.main()
