"""What somebody without a key, or with the app key that every front end ships, can make the service do."""
import json
from unittest import mock

from leanwsgi import messages
from tests.leanstorage.service_support import KEYS, ServiceTestCase

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
