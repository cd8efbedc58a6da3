"""Files on object storage, against moto's S3 server and SeaweedFS: bytes go past our processes, and nothing else changes."""
import contextlib
import importlib.util
import io
import os
import subprocess
import unittest
from unittest import mock

import requests

from leanstorage import __main__ as command_line
from leanstorage.resources import files
from leanstorage.blobs import open_blobs
from leanstorage.store import StoreUnavailable, now
from leanstorage.resources.sweep import sweep
from tests.leanstorage.object_storage import ACCESS, SEAWEED, can_be_reached, seaweed
from tests.leanstorage.service_support import KEYS, ServiceTestCase
from tests.support import changed_environment, clean_environment, free_port, multipart, python, ROOT, running, until

MOTO = os.environ.get("MOTO_SERVER")  # a program
DATA = bytes(range(256)) * 100
SDK = """
import io, sys, time, leancloud, requests
leancloud.init(*sys.argv[1:3])
file = leancloud.File("a b.txt", io.BytesIO(b"straight"), "text/plain")
file.save()
print(requests.get(file.url).text)
found = leancloud.File.create_without_data(file.id)
found.fetch()
print(found.name, found.metadata["size"])
found.destroy()
print(requests.get(file.url).status_code)
"""


try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:  # without it nothing here runs
    BotoCoreError = ClientError = None


def setUpModule():
    if not MOTO and not SEAWEED:
        raise unittest.SkipTest("MOTO_SERVER names no moto_server and SEAWEEDFS no weed: there is no object storage to test against")
    if importlib.util.find_spec("boto3") is None:
        raise unittest.SkipTest("boto3 is not installed: files on S3 are not tested")


class S3Case(ServiceTestCase):
    files = "s3://bucket/an app"

    @classmethod
    def command(cls, port):
        """What serves S3 on a port."""
        if not MOTO:
            raise unittest.SkipTest("MOTO_SERVER names no moto_server")
        return [MOTO, "-H", "127.0.0.1", "-p", str(port)]

    @classmethod
    def setUpClass(cls):
        port = free_port()
        server = subprocess.Popen(cls.command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(server.wait)
        cls.addClassCleanup(server.kill)
        cls.moto = f"http://127.0.0.1:{port}"
        cls.environment = {**ACCESS, "AWS_ENDPOINT_URL_S3": cls.moto}
        cls.enterClassContext(changed_environment(**cls.environment))
        super().setUpClass()
        cls.addClassCleanup(cls.service.blobs.client.close)
        until(lambda: can_be_reached(port), 60)
        until(cls.has_bucket, 60)

    @classmethod
    def has_bucket(cls):
        """Whether the bucket could be made: a server that listens may not be ready yet."""
        with contextlib.suppress(ClientError, BotoCoreError):
            cls.service.blobs.client.create_bucket(Bucket="bucket")
            return True
        return False

    def token(self, master=False, **body):
        return self.api("POST", "/fileTokens", {"name": "a.txt", "metaData": {}, **body}, 201, master=master)

    def put(self, token, data=DATA, **headers):
        response = requests.put(token["upload_url"], data=data, headers=headers, timeout=10)
        self.assertEqual(response.status_code, 200)

    def call_back(self, token, result=True, status=200):
        return self.api("POST", "/fileCallback", {"token": token["token"], "result": result}, status)

    def upload(self, data=DATA, **body):
        token = self.token(**body)
        self.put(token, data)
        self.call_back(token)
        return token

    def fetch(self, token, method="GET"):
        """The response behind our redirect, or our own."""
        response = self.raw(method, "/", PATH_INFO="/" + token["key"].encode().decode("latin-1"))
        if response.status != 302:
            return response
        return requests.request(method, response.header("Location"), timeout=10)

    def names(self):
        return sorted(row["Key"] for row in self.service.blobs.client.list_objects_v2(Bucket="bucket").get("Contents", []))

    def assert_absent(self, token):
        self.assertEqual(self.raw("GET", "/" + token["key"]).status, 404)
        self.code(101, "GET", f"/files/{token['objectId']}", status=404)


class S3Test(S3Case):
    def test_mini_program_brings_its_bytes_to_us_and_they_end_there_too(self):
        token = self.api("POST", "/fileTokens", {"name": "a.png"}, 201, headers={"X-LC-UA": "LeanCloud-JS-SDK/4.15.2 (Weapp)"})
        self.assertEqual(token["provider"], "qiniu")
        body, headers = multipart("file", "tmp.png", DATA, "image/png")
        response = self.raw("POST", token["upload_url"].split("storage.example")[1], body, headers)
        self.assertEqual((response.status, response.json()), (200, {"key": token["key"]}))
        self.call_back(token)
        self.assertEqual(self.fetch(token).content, DATA)
        self.assertEqual([name for name in self.names() if "/uploads/" in name], [])

    def test_bytes_in_the_call_and_files_without_any_end_there_too(self):
        file = self.api("POST", "/files/a.txt", {"base64": "aGVsbG8="}, 201)
        key = self.api("GET", f"/files/{file['objectId']}")["key"]
        self.assertEqual(self.fetch({"key": key}).content, b"hello")
        token = self.token(metaData={"size": 0})
        for _ in range(2):
            self.call_back(token)
        self.assertEqual(self.fetch(token).content, b"")

    def test_upload_goes_to_the_object_storage_and_reads_are_sent_there(self):
        token = self.token()
        self.assertTrue(token["upload_url"].startswith(self.moto + "/bucket/an%20app/uploads/"), token)
        self.assert_absent(token)
        self.put(token, **{"Content-Type": "text/html", "Cache-Control": "public"})
        self.call_back(token)
        found = self.api("GET", f"/files/{token['objectId']}")
        self.assertEqual((found["url"], found["metaData"]["size"]), (token["url"], len(DATA)))
        response = self.fetch(token)
        self.assertEqual(response.content, DATA)
        self.assertEqual(response.headers["Content-Type"], "text/plain")
        self.assertEqual(response.headers["Content-Disposition"], "inline; filename*=UTF-8''a.txt")
        self.assertEqual(self.fetch(token, "HEAD").headers["Content-Length"], str(len(DATA)))
        self.assertIn(f"an app/files/{token['key']}", self.names())
        self.assertEqual([name for name in self.names() if "/uploads/" in name], [])

    def test_part_of_a_file_is_read_by_its_range(self):
        token = self.upload()
        place = self.raw("GET", "/" + token["key"]).header("Location")
        answer = requests.get(place, headers={"Range": "bytes=256-265"}, timeout=10)
        self.assertEqual((answer.status_code, answer.content), (206, DATA[:10]))
        self.assertEqual(answer.headers["Content-Range"], f"bytes 256-265/{len(DATA)}")

    def test_upload_url_changes_nothing_after_the_file_is_made(self):
        token = self.upload()
        self.put(token, b"other")
        self.call_back(token)
        self.assertEqual(self.fetch(token).content, DATA)

    def test_upload_that_is_not_what_was_announced_is_discarded(self):
        for meta in ({"size": 5}, {"size": len(DATA) + 1}, {"_checksum": "0" * 32}):
            with self.subTest(meta):
                token = self.token(metaData=meta)
                self.put(token)
                self.api("POST", "/fileCallback", {"token": token["token"], "result": True}, 413 if meta == {"size": 5} else 400)
                self.assert_absent(token)
        with mock.patch.object(self.service.options, "max_upload_bytes", 100):
            token = self.token()
            self.put(token)
            self.call_back(token, status=413)
            self.assert_absent(token)
        self.assertEqual([name for name in self.names() if "/uploads/" in name], [])

    def test_reader_before_the_call_back_finds_the_file(self):
        token = self.token()
        self.put(token)
        self.assertEqual(self.fetch(token).content, DATA)
        self.call_back(token)
        self.assertEqual(self.fetch(token).content, DATA)

    def test_file_whose_client_never_calls_back_is_kept_and_what_never_came_is_forgotten(self):
        token, empty = self.token(), self.token()
        self.put(token)
        later = now() + files.UNCLAIMED_MS + 1
        with mock.patch("leanstorage.resources.files.now", return_value=later):
            sweep(self.service)
        self.assertEqual(self.api("GET", f"/files/{token['objectId']}")["metaData"]["size"], len(DATA))
        pending = self.service.store.read(lambda transaction: transaction.records("direct"))
        self.assertEqual([key for key, _ in pending if key == empty["key"]], [empty["key"]])
        with mock.patch("leanstorage.resources.files.now", return_value=later + files.UPLOAD_MS):
            sweep(self.service)
        self.assertEqual(self.service.store.read(lambda transaction: transaction.records("direct")), [])

    def test_call_back_of_a_failed_upload_takes_it_away_before_and_after_it_is_made(self):
        token = self.token()
        self.put(token)
        self.call_back(token, result=False)
        self.assert_absent(token)
        token = self.upload()
        self.call_back(token, result=False)
        self.assert_absent(token)
        self.assertNotIn(f"an app/files/{token['key']}", self.names())

    def test_chosen_and_kept_names_are_read_back(self):
        for body in ({"key": "ä b/+?#&.txt", "master": True}, {"name": "名 字.txt", "keep_file_name": True}):
            with self.subTest(body):
                token = self.upload(**body)
                self.assertEqual(self.fetch(token).content, DATA)

    def test_deleted_file_is_gone_from_the_object_storage(self):
        token = self.upload()
        self.api("DELETE", f"/files/{token['objectId']}", master=True)
        self.assert_absent(token)
        self.assertNotIn(f"an app/files/{token['key']}", self.names())

    def test_bytes_written_by_this_server_are_kept_and_sized(self):
        blobs = self.service.blobs
        staged, size, digest = blobs.write([b"a" * 700_000, b"b" * 700_000])
        blobs.keep(staged, "pulled/a")
        blobs.drop(staged)
        self.assertEqual((size, blobs.size("pulled/a"), blobs.size("pulled/b")), (1_400_000, 1_400_000, None))
        with self.assertRaises(StoreUnavailable):
            blobs.keep(staged, "pulled/b")

    def test_python_sdk_saves_reads_and_deletes_a_file(self):
        port = free_port()
        names = {"LEANCLOUD_APP_ID": KEYS["id"], "LEANCLOUD_APP_KEY": KEYS["key"]}
        names |= {"LEANCLOUD_APP_MASTER_KEY": KEYS["master_key"], "LEANCLOUD_APP_HOOK_KEY": KEYS["hook_key"]}
        command = python("-m", "leanstorage", "serve", "--port", str(port), "--files", self.files)
        with running(command, "listens on", LEANSTORAGE_DATA=str(self.folder / "sdk"), **names, **self.environment):
            environment = clean_environment(LEANCLOUD_API_SERVER=f"http://127.0.0.1:{port}")
            arguments = python("-W", "ignore", "-c", SDK, KEYS["id"], KEYS["key"])
            done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)
        self.assertEqual(done.stdout.split("\n"), ["straight", "a b.txt 8", "404", ""], done.stderr)


    def test_callback_of_a_file_that_never_came_is_no_200(self):
        token = self.token()
        self.call_back(token, status=400)
        self.put(token)
        for _ in range(2):
            self.call_back(token)
        self.assertEqual(self.fetch(token).content, DATA)

    def test_bucket_that_is_not_there_is_refused_at_the_start(self):
        given = {**os.environ, "LEANSTORAGE_DATA": str(self.folder / "none")}
        with contextlib.redirect_stderr(io.StringIO()) as said:
            code = command_line.main(["serve", "--port", "0", "--files", "s3://no-such-bucket/x"], given)
        self.assertEqual(code, 1)
        self.assertIn("cannot start: there is no bucket no-such-bucket at " + self.moto, said.getvalue())
        self.assertNotIn("Traceback", said.getvalue())
        self.service.blobs.check()

    def test_object_storage_that_is_away_at_the_start_is_said(self):
        with changed_environment(AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{free_port()}"):
            blobs = open_blobs(self.files)
        self.addCleanup(blobs.client.close)
        with contextlib.redirect_stderr(io.StringIO()) as said:
            blobs.check_start()
        self.assertIn("files cannot be kept or read for now: object storage is not there", said.getvalue())


class OnSeaweed(S3Test):
    """The same with a real object storage."""

    @classmethod
    def command(cls, port):
        if not SEAWEED:
            raise unittest.SkipTest("SEAWEEDFS names no weed: the real object storage is not tested")
        return seaweed(cls, port)

    def test_signed_urls_expire(self):
        with mock.patch("leanstorage.blobs.s3.UPLOAD_SECONDS", 1):
            late = self.token()
        until(lambda: requests.put(late["upload_url"], data=DATA, timeout=10).status_code == 403, 60)
        self.call_back(late, result=False)  # those that came in time
        token = self.upload()
        with mock.patch("leanstorage.blobs.s3.READ_SECONDS", 1):
            place = self.raw("GET", "/" + token["key"]).header("Location")
        until(lambda: requests.get(place, timeout=10).status_code == 403, 60)
        self.assertEqual(self.fetch(token).content, DATA)  # by a URL that is made anew


class UnreachableTest(S3Case):
    def test_object_storage_that_is_down_is_503_and_the_file_is_made_later(self):
        token = self.token()
        self.put(token)
        client = self.service.blobs.client
        with changed_environment(AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{free_port()}"):
            self.service.blobs.client = open_blobs(self.files).client
        self.addCleanup(self.service.blobs.client.close)
        with contextlib.redirect_stderr(io.StringIO()) as log:
            self.call_back(token, status=503)
            self.assertEqual(self.raw("GET", "/" + token["key"]).status, 503)
        self.assertEqual(log.getvalue().count("object storage is not there"), 1)  # both find it, and one line is enough
        self.service.blobs.client = client
        self.assertEqual(self.fetch(token).content, DATA)


class PlaceTest(unittest.TestCase):
    def test_places_that_are_none_are_refused(self):
        for place in ("s3:///prefix", "s3://bucket?x=1", "https://bucket/prefix"):
            with self.subTest(place), self.assertRaises(ValueError):
                open_blobs(place)


if __name__ == "__main__":
    unittest.main()
