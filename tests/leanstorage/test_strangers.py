"""What somebody without a key, or with the app key that every front end ships, can make the service do."""
import json
import socket
from unittest import mock

from leanstorage.resources import files
from leanwsgi import messages
from tests.leanstorage.service_support import KEYS, ServiceTestCase
from tests.leanstorage.storage_support import StorageTestCase

APP = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
IN_BODY = {"_ApplicationId": KEYS["id"], "_ApplicationKey": KEYS["key"]}


class BodyTest(ServiceTestCase):
    def test_body_of_a_stranger_is_never_parsed(self):
        data = b"[" + b"[]," * (5 << 20) + b"[]]"
        wrong = {**APP, "X-LC-Key": "wrong"}
        rows = [
            ("POST", "/1.1/classes/Foo", {"Content-Type": "application/json"}),
            ("POST", "/1.1/classes/Foo", wrong),
            ("PUT", "/1.1/classes/Foo/0123456789abcdef01234567", wrong),
            ("POST", "/1.1/batch", {**wrong, "X-LC-Session": "x"}),
            ("POST", "/1.1/classes/Foo", {"Content-Type": "text/plain"}),
            ("POST", "/1.1/classes/Foo", {**wrong, "Content-Type": "text/plain;charset=utf-8"}),
        ]
        for method, path, headers in rows:
            with self.subTest(method=method, path=path, headers=headers):
                with mock.patch.object(messages, "parse_json", side_effect=AssertionError("parsed")):
                    response = self.raw(method, path, data, headers)
                self.assertEqual((response.status, response.json()["code"]), (401, 401))

    def test_body_that_needs_no_key_is_short(self):
        with mock.patch.object(messages, "parse_json", side_effect=AssertionError("parsed")):
            response = self.raw("POST", "/1.1/resetPassword/x", b"[]" * (1 << 20), {"Content-Type": "application/json"})
        self.assertEqual(response.status, 413)

    def test_form_of_old_browsers_is_read_at_length_once_headers_say_whose_it_is(self):
        text = {"text": "x" * (1 << 17)}
        rows = [
            ({"Content-Type": "text/plain"}, {**IN_BODY, "text": "short"}, 201),
            ({"Content-Type": "text/plain"}, {**IN_BODY, **text}, 401),
            ({**APP, "Content-Type": "text/plain"}, text, 201),
            ({**APP, "Content-Type": "text/plain"}, {**IN_BODY, **text}, 201),
        ]
        for headers, body, status in rows:
            with self.subTest(headers=headers, status=status):
                response = self.raw("POST", "/1.1/classes/Form", json.dumps(body).encode(), headers)
                self.assertEqual(response.status, status)


class UploadTest(StorageTestCase):
    def setUp(self):
        super().setUp()
        self.storage = self.start()

    def token(self):
        status, token = self.storage.request("POST", "/fileTokens", {"name": "a.txt", "mime_type": "text/plain"})
        self.assertEqual(status, 201)
        return token["upload_url"].rpartition("/")[2]

    def begin(self, token, head=""):
        """The first line of the answer to the headers of a long upload, of whose body nothing is sent."""
        with socket.create_connection(("127.0.0.1", self.storage._server.port), 5) as connection:
            lines = f"PUT /1.1/uploads/{token} HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 29}\r\n{head}\r\n"
            connection.sendall(lines.encode())
            return connection.makefile("rb").readline().decode().strip()

    def test_upload_without_a_token_of_ours_is_refused_when_its_headers_have_come(self):
        token = self.token()
        made_up = [
            "x" * 43,
            "0" * len(token),
            token[:-1] + ("0" if token[-1] != "0" else "1"),
            ("0" if token[0] != "0" else "1") + token[1:],
            token + "/more",
            "",
        ]
        for text in made_up:
            for head in ("", "Expect: 100-continue\r\n"):
                with self.subTest(token=text, head=head):
                    self.assertEqual(self.begin(text, head), "HTTP/1.1 401 Unauthorized")
        self.assertEqual(self.begin(token, "Expect: 100-continue\r\n"), "HTTP/1.1 100 Continue")

    def test_body_too_long_is_not_asked_for(self):
        with socket.create_connection(("127.0.0.1", self.storage._server.port), 5) as connection:
            head = f"POST /1.1/classes/Foo HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 40}\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head.encode())
            self.assertIn(b" 413 ", connection.makefile("rb").readline())

    def test_token_is_good_for_an_hour(self):
        token = self.token()
        self.assertTrue(files.may_be_used(self.storage.service, token))
        with mock.patch.object(files, "now", return_value=files.now() + files.UPLOAD_MS):
            self.assertFalse(files.may_be_used(self.storage.service, token))

    def test_token_of_ours_takes_a_file(self):
        self.assertEqual(self.storage.request("PUT", f"/uploads/{self.token()}", data=b"x" * (25 << 20))[0], 200)
