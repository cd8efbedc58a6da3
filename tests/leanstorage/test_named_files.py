"""Files whose bytes come in other ways than by a PUT: in the call itself, by multipart, or not at all. Appendix C.2."""
import base64
import json
import unittest
from unittest import mock

from leanstorage.resources import files
from tests.leanstorage.service_support import KEYS, ServiceTestCase
from tests.support import multipart

HEADERS = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"]}
DATA = bytes(range(256)) * 3


class FileCase(ServiceTestCase):
    def bytes_of(self, url):
        response = self.raw("GET", url.split("storage.example")[1])
        self.assertEqual(response.status, 200)
        return response

    def post(self, name, data, mime_type, status=201, headers=HEADERS):
        response = self.raw("POST", f"/1.1/files/{name}", data, {**headers, "Content-Type": mime_type})
        self.assertEqual(response.status, status, response.body)
        return response.json()

    def check(self, answer, data, name, mime_type):
        self.assertEqual((answer["name"], answer["size"]), (name, len(data)))
        response = self.bytes_of(answer["url"])
        self.assertEqual((response.body, response.header("Content-Type")), (data, mime_type))
        stored = self.api("GET", f"/files/{answer['objectId']}")
        self.assertEqual((stored["url"], stored["name"], stored["metaData"]["size"]), (answer["url"], name, len(data)))
        self.assertNotIn("__source", stored["metaData"])


class BytesInTheCallTest(FileCase):
    def test_base64_becomes_the_bytes_of_a_file(self):
        text = base64.b64encode(DATA).decode()
        for sent in (text, "data:image/png;base64," + text, text[:8] + "\r\n" + text[8:]):
            body = {"base64": sent, "_ContentType": "image/png", "metaData": {"owner": "x"}}
            self.check(self.api("POST", "/files/a.bin", body, 201), DATA, "a.bin", "image/png")

    def test_base64_in_the_form_of_the_oldest_sdk(self):
        body = {"base64": base64.b64encode(b"hello").decode(), "_ContentType": "text/plain", "mime_type": "text/plain"}
        body |= {"metaData": {"size": 5}, "_ApplicationId": KEYS["id"], "_ApplicationKey": KEYS["key"]}
        answer = self.post("hello.txt", json.dumps(body).encode(), "text/plain", headers={})
        self.check(answer, b"hello", "hello.txt", "text/plain")

    def test_body_that_is_no_json_is_the_bytes(self):
        rows = (
            ("a.png", DATA, "image/png", "image/png"),
            ("b.txt", b"Hello, World!", "text/plain", "text/plain"),
            ("c.gif", DATA, "application/x-www-form-urlencoded", "image/gif"),
            ("empty.txt", b"", "image/png", "image/png"),
            ("list.txt", b"[1, 2", "text/plain", "text/plain"),
        )
        for name, data, sent, shown in rows:
            with self.subTest(name):
                self.check(self.post(name, data, sent), data, name, shown)

    def test_file_elsewhere_has_the_size_that_was_said(self):
        for meta, size in (({"size": 7}, 7), ({}, 0), (None, 0)):
            answer = self.api("POST", "/files/logo.png", {"url": "https://files.example/logo.png", "metaData": meta}, 201)
            self.assertEqual((answer["name"], answer["url"], answer["size"]), ("logo.png", "https://files.example/logo.png", size))

    def test_what_brings_neither_bytes_nor_a_url_is_refused(self):
        before = self.digest()
        for body in ({}, {"base64": "$"}, {"base64": 7}, {"base64": "YQ="}, {"url": ""}, {"name": "a"}, {"url": 7}):
            with self.subTest(body):
                self.code(1, "POST", "/files/a.png", body)
        self.assertEqual(self.post("a.png", b"text", "text/plain", 401, {})["code"], 401)
        self.assertEqual(self.post("a.png", b"text", "image/png", 401, {})["code"], 401)
        self.assertEqual(self.raw("POST", "/1.1/classes/A", b"text", {**HEADERS, "Content-Type": "text/plain"}).json()["code"], 107)
        self.assertEqual(self.digest(), before)

    def test_bytes_above_the_limits_are_refused_and_leave_nothing(self):
        names = sorted((self.folder / "files").iterdir())
        with mock.patch.object(self.service.options, "max_upload_bytes", 100):
            self.code(413, "POST", "/files/a.bin", {"base64": base64.b64encode(DATA).decode()}, status=413)
        with mock.patch.object(self.service.options, "max_body_bytes", 100):
            self.assertEqual(self.post("a.png", DATA, "image/png", 413)["code"], 413)
        self.assertEqual(sorted((self.folder / "files").iterdir()), names)

    def test_owner_decides_who_reads_the_row(self):
        owner = self.user("owner")
        body = {"base64": "YQ==", "ACL": {owner["objectId"]: {"read": True, "write": True}}}
        file = self.api("POST", "/files/a.txt", body, 201, session=owner["sessionToken"])
        self.code(101, "GET", f"/files/{file['objectId']}", status=404)
        self.api("GET", f"/files/{file['objectId']}", session=owner["sessionToken"])


class EmptyTest(FileCase):
    def token(self, **meta):
        return self.api("POST", "/fileTokens", {"name": "a.txt", "metaData": meta}, 201)

    def test_file_that_was_announced_to_be_empty_needs_no_bytes(self):
        token = self.token(size=0, _checksum="d41d8cd98f00b204e9800998ecf8427e")
        for _ in range(2):
            self.assertEqual(self.api("POST", "/fileCallback", {"token": token["token"], "result": True}), {})
        self.assertEqual(self.bytes_of(token["url"]).body, b"")
        self.assertEqual(self.api("GET", f"/files/{token['objectId']}")["metaData"]["size"], 0)

    def test_file_of_which_nothing_came_is_none(self):
        for meta, result, status in (({}, True, 400), ({"size": 1}, True, 400), ({"size": 0}, False, 200)):
            token = self.token(**meta)
            self.api("POST", "/fileCallback", {"token": token["token"], "result": result}, status)
            self.code(101, "GET", f"/files/{token['objectId']}", status=404)


class MultipartTest(FileCase):
    """Mini programs."""

    def token(self, client="LeanCloud-JS-SDK/4.15.2 (Weapp)", **body):
        return self.api("POST", "/fileTokens", {"name": "a.png", **body}, 201, headers={"X-LC-UA": client})

    def send(self, token, data=DATA, field="file", status=200, before=b"", **environ):
        body, headers = multipart(field, "tmp_1.png", data, "image/png")
        path = token["upload_url"].split("storage.example")[1]
        response = self.raw("POST", path, before + body, headers, **environ)
        self.assertEqual(response.status, status, response.body)
        return response.json()

    def test_provider_is_one_that_the_client_can_use(self):
        rows = (
            ("LeanCloud-JS-SDK/4.15.2 (Weapp)", "qiniu"),
            ("LeanCloud-JS-SDK/2.5.4 (Weapp)", "qcloud"),
            ("LeanCloud-JS-SDK/3.2.0 (Weapp)", "qcloud"),
            ("LeanCloud-JS-SDK/3.3.0 (Weapp)", "qiniu"),
            ("LeanCloud-JS-SDK/3.15.0 (Weapp; LeanCloud-Realtime/5)", "qiniu"),
            ("LeanCloud-JS-SDK/4.15.2 (Another mini program/1.0)", "qiniu"),
            ("LeanCloud-JS-SDK/4.15.2 (Browser)", "s3"),
            ("LeanCloud-JS-SDK/4.15.2 (Node.js/20.1.0)", "s3"),
            ("LeanCloud-JS-SDK/4.15.2 (ReactNative)", "s3"),
            ("LeanCloud-JS-SDK/4.15.2", "s3"),
            ("LeanCloud-Python-SDK/2.9.0", "s3"),
            ("Weapp", "s3"),
        )
        for client, provider in rows:
            with self.subTest(client):
                self.assertEqual(self.token(client)["provider"], provider)

    def test_file_field_is_stored_whatever_the_fields_beside_it_say(self):
        token = self.token()
        fields = b"".join(
            b'--boundary\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name, value)
            for name, value in ((b"name", b"a.png"), (b"key", b"their-own-key.png"), (b"token", b"x"), (b"op", b"upload"))
        )
        self.assertEqual(self.send(token, before=fields), {"key": token["key"]})
        self.assertEqual(self.bytes_of(token["url"]).body, DATA)
        self.api("POST", "/fileCallback", {"token": token["token"], "result": True})
        self.assertEqual(self.api("GET", f"/files/{token['objectId']}")["metaData"]["size"], len(DATA))
        for field in ("fileContent", "filecontent"):
            token = self.token()
            self.send(token, field=field, QUERY_STRING=f"sign={token['token']}")  # as for Tencent Cloud
            self.assertEqual(self.bytes_of(token["url"]).body, DATA)

    def test_upload_that_is_refused_leaves_nothing_and_may_be_tried_again(self):
        token, names = self.token(), sorted((self.folder / "files").iterdir())
        self.assertEqual(self.send(token, field="other", status=400)["code"], 107)
        path = token["upload_url"].split("storage.example")[1]
        body, headers = multipart("file", "a.png", DATA)
        for data, sent in ((body[:-20], headers), (body, {"Content-Type": "image/png"}), (b"", headers)):
            self.assertEqual(self.raw("POST", path, data, sent).status, 400)
        with mock.patch.object(self.service.options, "max_upload_bytes", 100):
            self.send(token, status=413)
        self.assertEqual(sorted((self.folder / "files").iterdir()), names)
        self.send(token)
        self.send(token, status=401)
        self.send({"upload_url": "storage.example/1.1/uploads/" + "x" * 76}, status=401)

    def test_announced_size_and_sealed_time_hold(self):
        self.send(self.token(metaData={"size": 5}), status=413)
        self.send(self.token(metaData={"size": len(DATA) + 1}), status=400)
        token = self.token()
        with mock.patch.object(files, "UPLOAD_MS", -1):
            self.send(token, status=401)


if __name__ == "__main__":
    unittest.main()
