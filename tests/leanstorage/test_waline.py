"""Waline, a server for comments that many moved from LeanCloud's storage, unmodified from npm. WALINE is its folder node_modules."""
import base64
import hmac
import http.client
import json
import os
import shutil
import struct
import tempfile
import time
import unittest
from contextlib import contextmanager

from tests.leanstorage.storage_support import Storage
from tests.support import ROOT, free_port, running

MODULES = os.environ.get("WALINE", "")


def one_time_code(secret):
    """What an authenticator shows now, RFC 6238."""
    counter = struct.pack(">Q", int(time.time()) // 30)
    digest = hmac.digest(base64.b32decode(secret), counter, "sha1")
    start = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[start : start + 4])[0] & 0x7FFFFFFF) % 1_000_000:06d}"


@contextmanager
def serving(folder, **place):
    """A Waline of its own; gives its port."""
    port = free_port()
    place |= {"PORT": port, "NODE_PATH": MODULES, "IPQPS": "-100", "DISABLE_REGION": "true"}
    with running(["node", str(ROOT / "tests" / "javascript" / "waline.js")], "up", folder=folder, **place):
        yield port


@unittest.skipUnless(shutil.which("node"), "Node is not installed")
@unittest.skipUnless(os.path.isdir(os.path.join(MODULES, "@waline")), "WALINE names no folder with Waline")
class WalineTest(unittest.TestCase):
    """One server for all: it takes its time to start."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="waline-")
        cls.addClassCleanup(shutil.rmtree, folder)
        storage = Storage(folder)
        cls.addClassCleanup(storage.stop)
        place = {"LEAN_ID": storage.keys["id"], "LEAN_KEY": storage.keys["key"], "LEAN_SERVER": storage.url}
        cls.port = cls.enterClassContext(serving(folder, LEAN_MASTER_KEY=storage.keys["master_key"], **place))
        cls.administrator = cls.sign_up("ann@example.com")  # because it is the first

    @classmethod
    def sign_up(cls, email):
        """The token of somebody new."""
        cls.ask("POST", "/user", {"display_name": "Ann", "email": email, "password": "pw"})
        return cls.ask("POST", "/token", {"email": email, "password": "pw"})["token"]

    @classmethod
    def ask(cls, method, path, body=None, token=None):
        """The `data` of an answer; None where it is none."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        connection = http.client.HTTPConnection("127.0.0.1", cls.port, timeout=15)
        try:
            connection.request(method, "/api" + path, None if body is None else json.dumps(body), headers)
            answer = json.loads(connection.getresponse().read() or "{}")
        finally:
            connection.close()
        return answer.get("data") if answer.get("errno") == 0 else None

    def comment(self, text, token=None, **more):
        body = {"comment": text, "nick": "Bob", "mail": "bob@example.com", "link": "", "url": "/p", "ua": "x", **more}
        return self.ask("POST", "/comment", body, token)

    def listed(self):
        found = self.ask("GET", "/comment?path=/p&page=1&pageSize=10&sortBy=insertedAt_desc")
        return [(one["orig"], [child["orig"] for child in one["children"]]) for one in found["data"]]

    def test_comments_are_written_answered_liked_counted_and_removed(self):
        token = self.administrator
        first = self.comment("hello")
        self.comment("answer", token, pid=first["objectId"], rid=first["objectId"], at="Bob")
        self.comment("second")
        self.comment("elsewhere", url="/q")
        self.assertEqual(self.listed(), [("second", []), ("hello", ["answer"])])
        self.assertEqual(self.ask("GET", "/comment?type=count&url=/p,/q,/none"), [3, 1, 0])
        self.assertEqual([one["orig"] for one in self.ask("GET", "/comment?type=recent&count=2")], ["elsewhere", "second"])
        self.ask("PUT", f"/comment/{first['objectId']}", {"like": True})
        self.assertEqual(self.ask("GET", "/comment?path=/p&page=1&pageSize=10&sortBy=like_desc")["data"][0]["like"], 1)
        self.ask("PUT", f"/comment/{first['objectId']}", {"status": "spam"}, token)
        self.assertEqual(self.listed(), [("second", [])])
        spam = self.ask("GET", "/comment?type=list&page=1&status=spam&owner=all", token=token)
        self.assertEqual([one["orig"] for one in spam["data"]], ["hello"])
        self.ask("DELETE", f"/comment/{first['objectId']}", token=token)
        self.assertEqual(self.ask("GET", "/comment?type=list&page=1&status=spam&owner=all", token=token)["data"], [])

    def test_visits_are_counted(self):
        for wanted in (1, 2):
            self.assertEqual(self.ask("POST", "/article", {"path": "/p", "type": "time", "action": "inc"}), [{"time": wanted}])
        self.assertEqual(self.ask("GET", "/article?path=/p&type=time"), [{"time": 2}])

    def test_log_in_by_two_steps(self):
        token, own = self.sign_up("two@example.com"), {"email": "two@example.com", "password": "pw"}
        secret = self.ask("GET", "/token/2fa", token=token)["secret"]
        self.assertIsNotNone(self.ask("POST", "/token/2fa", {"secret": secret, "code": one_time_code(secret)}, token))
        self.assertEqual(self.ask("GET", "/token/2fa?email=two@example.com"), {"enable": True})
        self.assertIsNone(self.ask("POST", "/token", own))
        self.assertEqual(self.ask("POST", "/token", {**own, "code": one_time_code(secret)})["display_name"], "Ann")


if __name__ == "__main__":
    unittest.main()
