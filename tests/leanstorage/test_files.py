"""Files: section 6 of the protocol."""
import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock
from urllib.parse import unquote

from leanstorage.resources import files
from leanstorage.rules import classes, rendering
from leanstorage.rules.call import Call, Caller
from leanstorage.rules.classes import NOBODY
from leanstorage.rules.errors import StorageError
from leanstorage.store import QueryTimeout, StoreUnavailable, now
from tests.leanstorage.service_support import KEYS, QuickApplication, ServiceTestCase, pointer

DATA = bytes(range(256)) * 100


class FilesTest(ServiceTestCase):
    def token(self, status=201, **body):
        return self.api("POST", "/fileTokens", {"name": "a.txt", "ACL": None, "mime_type": None, "metaData": {}, **body}, status)

    def put(self, token, data=DATA, **environ):
        return self.raw("PUT", token["upload_url"].split("storage.example")[1], data, **environ)

    def upload(self, data=DATA, **body):
        token = self.token(**body)
        self.assertEqual(self.put(token, data).status, 200)
        return token

    def fetch(self, token, method="GET", **headers):
        return self.raw(method, "/" + token["key"], headers={name.replace("_", "-"): value for name, value in headers.items()})

    def test_upload_is_usable_as_soon_as_it_is_answered(self):
        digest = hashlib.md5(DATA).hexdigest()
        token = self.token(metaData={"owner": "x", "size": len(DATA), "_checksum": digest})
        keys = "objectId createdAt token url key bucket mime_type provider upload_url".split()
        self.assertEqual(sorted(token), sorted(keys))
        self.assertEqual((token["provider"], token["mime_type"]), ("s3", "text/plain"))
        self.assertRegex(token["key"], r"^[a-z0-9]{32}\.txt$")
        self.assertEqual(token["url"], f"http://storage.example/{token['key']}")
        self.code(101, "GET", f"/files/{token['objectId']}", status=404)  # not yet
        self.assertEqual(self.put(token).status, 200)
        self.assertEqual(self.fetch(token).body, DATA)
        found = self.api("GET", f"/files/{token['objectId']}")
        self.assertEqual((found["url"], found["metaData"]["size"], found["name"]), (token["url"], len(DATA), "a.txt"))

    def test_url_of_a_key_with_blanks_and_chinese_is_escaped_and_served(self):
        token = self.token(name="图 1.png", keep_file_name=True)
        self.assertEqual(self.put(token).status, 200)
        self.assertTrue(token["url"].isascii() and " " not in token["url"], token["url"])
        self.assertEqual(self.api("GET", f"/files/{token['objectId']}")["url"], token["url"])
        self.assertEqual(self.raw("GET", unquote(token["url"].removeprefix("http://storage.example"))).body, DATA)

    def test_key_with_several_slashes_in_a_row_is_served(self):
        token = self.token(name="a.txt")
        self.assertEqual(self.put(token).status, 200)
        row = {"objectId": "f1", "name": "b.txt", "key": "x//y.txt"}

        def bring(transaction):  # as an import does
            transaction.insert_many("_File", [(row["objectId"], 1, 1, None, json.dumps(row))])
            transaction.put_record("file", row["key"], {"id": row["objectId"]})

        self.service.store.write(bring)
        staged, _, _ = self.service.blobs.write([b"b"])
        self.service.blobs.keep(staged, row["key"])
        for path, status in (("/x//y.txt", 200), ("/x/y.txt", 404), (f"//{token['key']}", 200), ("/x//z.txt", 404)):
            with self.subTest(path):
                self.assertEqual(self.raw("GET", path).status, status)

    def test_url_of_a_file_elsewhere_is_escaped_and_not_twice(self):
        for url, shown in (
            ("http://e.example/图 1.png?a=b#c", "http://e.example/%E5%9B%BE%201.png?a=b#c"),
            ("http://e.example/%E5%9B%BE%201.png", "http://e.example/%E5%9B%BE%201.png"),
            ("http://e.example/100%.png", "http://e.example/100%25.png"),
            ('http://e.example/"<>\\^`{|}', "http://e.example/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ):
            with self.subTest(url):
                made = self.api("POST", "/files", {"name": "x", "url": url}, 201)
                self.assertEqual(made["url"], shown)
                self.assertEqual(self.api("GET", f"/files/{made['objectId']}")["url"], shown)

    def test_thumbnails_of_the_old_cdn_are_the_original_and_questions_about_it_are_refused(self):
        token = self.upload(name="a.png", mime_type="image/png")
        path = "/" + token["key"]
        asked = ("?imageView2/1/w/100", "?imageMogr2/thumbnail/100x/format/webp", "-thumb", "!style", "!small.jpg", "-thumb?v=1")
        for part in asked:
            with self.subTest(part):
                suffix, _, query = part.partition("?")
                found = self.raw("GET", path + suffix, QUERY_STRING=query)
                self.assertEqual((found.status, found.body), (200, DATA))
                self.assertIn(("Content-Type", "image/png"), found.headers)
        for part in ("?imageInfo", "?exif", "?imageInfo=1"):
            with self.subTest(part):
                found = self.raw("GET", path, QUERY_STRING=part[1:])
                self.assertEqual(found.status, 400)
                self.assertIn(b"is not supported by this server", found.body)
        self.assertEqual(self.raw("GET", "/none.png-thumb").status, 404)

    def test_file_without_a_type_is_served_as_its_name_says(self):
        token = self.upload(name="a.png", mime_type="image/png")

        def forget(transaction):
            row = transaction.get("_File", token["objectId"])
            row.body.pop("mime_type")
            transaction.update("_File", row)

        self.service.store.write(forget)
        self.assertIn(("Content-Type", "image/png"), self.fetch(token).headers)

    def test_upload_url_is_good_once_and_for_an_hour(self):
        token = self.upload()
        self.assertEqual(self.put(token, b"other").status, 401)
        self.assertEqual(self.fetch(token).body, DATA)
        token = self.token()
        with mock.patch("leanstorage.store.records.now", return_value=now() + 60 * 60 * 1000 + 1):
            self.assertEqual(self.put(token).status, 401)
        self.assertEqual(self.raw("PUT", "/1.1/uploads/" + "x" * 43, DATA).status, 401)

    def test_upload_that_is_not_what_was_announced_is_discarded(self):
        before = sorted(path.name for path in (self.folder / "files").iterdir())
        for meta in ({"size": 5}, {"size": len(DATA) + 1}, {"_checksum": "0" * 32}):
            token = self.token(metaData=meta)
            self.assertIn(self.put(token).status, (400, 413))
            self.assertEqual(self.fetch(token).status, 404)
        with mock.patch.object(self.service.options, "max_upload_bytes", 100):
            self.assertEqual(self.put(self.token()).status, 413)
        self.assertEqual(sorted(path.name for path in (self.folder / "files").iterdir()), before)

    def test_empty_file_is_a_file(self):
        self.assertEqual(self.fetch(self.upload(b"")).body, b"")

    def test_callback_of_a_failed_upload_takes_it_away(self):
        token = self.upload()
        self.assertEqual(self.api("POST", "/fileCallback", {"token": token["token"], "result": True}), {})
        self.assertEqual(self.fetch(token).status, 200)
        self.assertEqual(self.api("POST", "/fileCallback", {"token": token["token"], "result": False}), {})
        self.assertEqual(self.fetch(token).status, 404)
        for body in ({}, {"token": "unknown", "result": False}, {"token": 5}):
            self.assertEqual(self.api("POST", "/fileCallback", body), {})

    def test_callback_never_says_that_a_file_is_there_which_did_not_arrive(self):
        token = self.token()
        body = {"token": token["token"], "result": True}
        for sent in (body, {"token": token["token"]}):
            self.code(1, "POST", "/fileCallback", sent)
        self.assertEqual(self.put(token).status, 200)
        for _ in range(2):
            self.assertEqual(self.api("POST", "/fileCallback", body), {})
        for unknown in ("unknown", files._new_token(self.service, now())):
            self.code(401, "POST", "/fileCallback", {"token": unknown, "result": True}, status=401)

    def test_ranges_and_caching(self):
        token = self.upload()
        size = len(DATA)
        rows = [
            ("bytes=0-9", 206, DATA[:10], f"bytes 0-9/{size}"),
            ("bytes=-10", 206, DATA[-10:], f"bytes {size - 10}-{size - 1}/{size}"),
            (f"bytes={size - 5}-", 206, DATA[-5:], f"bytes {size - 5}-{size - 1}/{size}"),
            (f"bytes={size}-", 416, b"", f"bytes */{size}"),
            ("bytes=9-1", 416, b"", f"bytes */{size}"),
            ("bytes=x", 200, DATA, None),
            ("bytes=0-1,5-6", 200, DATA, None),
        ]
        for text, status, body, content_range in rows:
            with self.subTest(text):
                response = self.fetch(token, Range=text)
                self.assertEqual((response.status, response.body), (status, body))
                self.assertEqual(response.header("Content-Range"), content_range)
                self.assertEqual((response.header("Content-Length"), response.header("Accept-Ranges")), (str(len(body)), "bytes"))
        first = self.fetch(token)
        unchanged = self.fetch(token, If_None_Match=first.header("ETag"))
        self.assertEqual((unchanged.status, unchanged.body, unchanged.header("Content-Type")), (304, b"", None))
        for name in ("ETag", "Cache-Control", "X-Content-Type-Options"):
            self.assertEqual(unchanged.header(name), first.header(name))
        self.assertEqual(first.header("Content-Type"), "text/plain")
        head = self.fetch(token, "HEAD")
        self.assertEqual((head.body, head.header("Content-Length"), head.header("Content-Disposition")), (b"", str(size), first.header("Content-Disposition")))
        self.assertIn("max-age", first.header("Cache-Control"))

    def test_files_that_could_run_are_downloads(self):
        for name, disposition in (("a.html", "attachment"), ("a.svg", "attachment"), ("a.png", "inline"), ("x", "attachment")):
            response = self.fetch(self.upload(b"<script>", name=name))
            self.assertTrue(response.header("Content-Disposition").startswith(disposition))
            self.assertEqual(response.header("X-Content-Type-Options"), "nosniff")
        response = self.fetch(self.upload(b"x", name='"\r\nX: y', mime_type="text/plain\r\nX: y"))
        self.assertEqual(response.all("X"), [])

    def test_chosen_key_needs_the_master_and_stays_inside(self):
        self.assertNotEqual(self.api("POST", "/fileTokens", {"name": "a", "key": "mine.txt"}, 201)["key"], "mine.txt")
        for key in ("/a", "../a", "a/../b", "a//b", "a\nb", "", "x" * 256, 5, "a\\b"):
            with self.subTest(key):
                self.code(1, "POST", "/fileTokens", {"name": "a", "key": key}, master=True)
        token = self.api("POST", "/fileTokens", {"name": "a", "key": "folder/mine.txt"}, 201, master=True)
        self.assertEqual(self.put(token).status, 200)
        self.assertEqual(self.fetch(token).body, DATA)
        self.assertTrue(all(path.parent == self.folder / "files" for path in (self.folder / "files").iterdir()))
        self.code(1, "POST", "/fileTokens", {"name": "a", "key": "folder/mine.txt"}, master=True)

    def test_prefix_is_a_folder_before_the_key(self):
        rows = (
            ({"prefix": "gamesaves"}, r"gamesaves/[a-z0-9]{32}\.txt"),  # C#
            ({"prefix": "/game saves/1/"}, r"game saves/1/[a-z0-9]{32}\.txt"),
            ({"metaData": {"prefix": "gamesaves"}}, r"gamesaves/[a-z0-9]{32}\.txt"),  # Objective-C
            ({"prefix": "p", "keep_file_name": True}, r"p/[a-z0-9]{32}/a\.txt"),
            ({"prefix": "p", "key": "0123456789abcdef" * 2}, "p/" + "0123456789abcdef" * 2),
            ({"prefix": "/"}, r"[a-z0-9]{32}\.txt"),
            ({"prefix": 5}, r"[a-z0-9]{32}\.txt"),
        )
        for body, wanted in rows:
            with self.subTest(body):
                token = self.upload(**body)
                self.assertRegex(token["key"], f"^{wanted}$")
                self.assertEqual(self.raw("GET", unquote(token["url"].removeprefix("http://storage.example"))).body, DATA)
        for prefix in ("..", "a/../b", "a//b", "a\nb", "a\\b", "x" * 250):
            with self.subTest(prefix):
                self.assertEqual(self.token(400, prefix=prefix)["code"], 1)
        self.assertEqual(self.api("POST", "/fileTokens", {"name": "a", "key": "mine", "prefix": "p"}, 201, master=True)["key"], "p/mine")

    def test_name_that_would_leave_its_folder_is_not_kept_in_the_key(self):
        for name in ("../../a.txt", "a//b.txt", "a\\b.txt", "x" * 250 + ".txt", ""):
            with self.subTest(name):
                self.assertRegex(self.upload(name=name, keep_file_name=True)["key"], r"^[a-z0-9]{32}(\.txt)?$")

    def test_upload_needs_the_right_to_create_files(self):
        def permit(permissions):
            def work(transaction):
                info = classes.existing(transaction, "_File")
                info.pop("is_new", None)
                transaction.save_class("_File", {**info, "permissions": permissions})

            self.service.store.write(work)

        user = self.user("uploader")
        permit({"create": {"users": True, "names": []}})
        self.addCleanup(permit, {})
        self.assertIn("create", self.code(403, "POST", "/fileTokens", {"name": "a.txt"}, status=403))
        self.api("POST", "/fileTokens", {"name": "a.txt"}, 201, session=user["sessionToken"])
        permit({"create": NOBODY})
        self.code(403, "POST", "/fileTokens", {"name": "a.txt"}, status=403, session=user["sessionToken"])
        self.api("POST", "/fileTokens", {"name": "a.txt"}, 201, master=True)

    def test_second_upload_under_one_key_changes_nothing(self):
        key = "0123456789abcdef" * 2
        first, second = self.token(key=key), self.token(key=key)
        self.assertEqual(self.put(first).status, 200)
        response = self.put(second, b"other")
        self.assertEqual((response.status, response.json()["code"]), (400, 1))
        self.assertEqual(self.fetch(first).body, DATA)
        self.code(101, "GET", f"/files/{second['objectId']}", status=404)
        self.code(1, "POST", "/fileTokens", {"name": "a.txt", "key": key})

    def test_file_is_expanded_wherever_it_stands(self):
        token = self.upload()
        file = {"__type": "File", "id": token["objectId"], "name": "lies", "url": "http://lies.example"}
        object_id = self.make("Holder", file=file, deep={"a": [file]}, gone={"__type": "File", "id": "gone"})
        found = self.get("Holder", object_id)
        for value in (found["file"], found["deep"]["a"][0]):
            self.assertEqual((value["url"], value["name"], value["objectId"]), (token["url"], "a.txt", token["objectId"]))
        self.assertEqual((found["gone"]["name"], found["gone"]["url"]), ("", ""))
        self.assertEqual(len(self.find("Holder", {"file": file})), 1)

    def test_file_that_its_reader_may_not_get_is_shown_by_no_reference(self):
        owner, thief = self.user("filed"), self.user("curious")
        rights = {owner["objectId"]: {"read": True, "write": True}}
        token = self.api("POST", "/fileTokens", {"name": "secret.txt", "ACL": rights}, 201, session=owner["sessionToken"])
        self.assertEqual(self.put(token).status, 200)
        file = {"__type": "File", "id": token["objectId"]}
        inner = self.make("Inner", f=file, deep={"a": [file]})
        outer = self.make("Outer", to=pointer("Inner", inner))
        self.api("PUT", f"/users/{thief['objectId']}", {"f": file}, session=thief["sessionToken"])

        def shown(session, **more):
            made = self.api("POST", "/classes/Inner?fetchWhenSave=1", {"f": file}, 201, session=session, **more)
            path = f"/classes/Inner/{made['objectId']}"
            changed = self.api("PUT", path + "?fetchWhenSave=1", {"f": file}, session=session, **more)
            found = [made["f"], changed["f"], self.get("Inner", inner, session=session, **more)["deep"]["a"][0]]
            found += [row["f"] for row in self.find("Inner", session=session, **more)]
            found.append(self.get("Outer", outer, include="to", session=session, **more)["to"]["f"])
            found.append(self.api("GET", "/cloudQuery", cql="select * from Inner", session=session, **more)["results"][0]["f"])
            found.append(self.api("GET", "/users/me", session=thief["sessionToken"])["f"] if session == thief["sessionToken"] else {})
            return [value for value in found if value]

        gone = {**file, "name": "", "url": "", "objectId": file["id"]}
        for session in (thief["sessionToken"], None):
            for value in shown(session):
                self.assertEqual(value, gone)
        for more in ({"session": owner["sessionToken"]}, {"session": None, "master": True}):
            for value in shown(**more):
                self.assertEqual((value["name"], value["url"]), ("secret.txt", token["url"]))
        self.assertEqual(self.api("POST", "/login", {"username": "curious", "password": "pw"})["f"], gone)

    def test_file_of_a_class_that_is_closed_is_shown_by_no_reference(self):
        file = {"__type": "File", "id": self.upload()["objectId"]}
        object_id = self.make("Closed", f=file)

        def permit(**permissions):
            def work(transaction):
                info = transaction.class_info("_File", lock=True)
                transaction.save_class("_File", {**info, "permissions": permissions})

            self.service.store.write(work)

        permit(get=NOBODY)
        self.addCleanup(permit)
        self.assertEqual(self.get("Closed", object_id)["f"]["url"], "")
        self.assertEqual(self.get("Closed", object_id, master=True)["f"]["name"], "a.txt")

    def test_file_that_many_references_would_multiply_is_refused_and_the_write_is_told_of(self):
        file = {"__type": "File", "id": self.upload(metaData={"big": "x" * 100_000})["objectId"]}
        self.assertEqual(len(self.get("Many", self.make("Many", files=[file] * 100))["files"][99]["metaData"]["big"]), 100_000)
        object_id = self.api("POST", "/classes/Many?fetchWhenSave=true", {"files": [file] * 1000}, 201)["objectId"]
        self.code(102, "GET", f"/classes/Many/{object_id}")
        self.code(102, "GET", "/classes/Many", where={"objectId": object_id})
        changed = self.api("PUT", f"/classes/Many/{object_id}?fetchWhenSave=true", {"n": 1, "files": [file] * 999})
        self.assertEqual(set(changed), {"objectId", "updatedAt"})

    def test_quick_call_leaves_a_large_expansion_to_a_thread(self):
        store = self.service.store
        quick = replace(self.service, store=SimpleNamespace(read=store.read, write=store.write))
        for service, error in ((quick, QueryTimeout), (self.service, StorageError)):
            call = Call(service, Caller(), "GET", {}, {}, "")
            rendering.Room(call).take(1000, 1 << 18)
            self.assertRaises(error, rendering.Room(call).take, rendering.MAX_EXPANDED + 1, 0)
            self.assertRaises(error, rendering.Room(call).take, 0, rendering.MAX_EXPANDED_SIZE + 1)
        self.assertRaises(QueryTimeout, rendering.Room(Call(quick, Caller(), "GET", {}, {}, "")).take, 1001, 0)

    def test_external_file_keeps_its_url_and_delete_answers_200(self):
        value = self.api("POST", "/files", {"name": "x", "url": "http://elsewhere.example/x.png", "ACL": None}, 201)
        found = self.api("GET", f"/files/{value['objectId']}")
        self.assertEqual((found["url"], found["metaData"]["__source"]), ("http://elsewhere.example/x.png", "external"))
        self.assertNotIn("key", found)
        self.code(119, "PUT", f"/files/{value['objectId']}", {"name": "y"})
        self.assertEqual(self.api("DELETE", f"/files/{value['objectId']}"), {})
        token = self.upload()
        self.assertEqual(self.api("DELETE", f"/files/{token['objectId']}"), {})
        self.assertEqual(self.fetch(token).status, 404)

    def test_bytes_go_when_the_deletion_is_committed_and_not_before(self):
        blobs, seen = self.service.blobs, []

        def delete(key):
            seen.append((key, self.service.store.read(lambda transaction: transaction.get("_File", token["objectId"]))))

        applications = [self.application]
        if not isinstance(self.application, QuickApplication):
            applications.append(QuickApplication(self.service, self.application))
            self.addCleanup(applications[1].quick.stop)
        for application in applications:
            for path in ("/classes/files/", "/classes/_File/", "/files/"):
                token = self.upload()
                with mock.patch.object(type(self), "application", staticmethod(application)):
                    with mock.patch.object(blobs, "delete", delete):
                        self.api("DELETE", path + token["objectId"])
                self.assertEqual(seen.pop(), (token["key"], None))

    def test_bytes_of_a_file_that_stays_are_kept(self):
        first, second = self.upload(), self.upload(ACL={"*": {"read": True}})
        self.code(403, "DELETE", f"/files/{first['objectId']},{second['objectId']}", status=403)
        self.assertEqual((self.fetch(first).status, self.fetch(second).body), (404, DATA))
        self.assertIsNone(self.service.blobs.size(first["key"]))
        third = self.upload()
        with mock.patch.object(self.service.blobs, "delete") as delete:
            self.assertEqual(self.api("DELETE", f"/files/{self.upload()['objectId']}"), {})
            with mock.patch.object(self.service.store, "write", side_effect=StoreUnavailable), mock.patch("sys.stderr"):
                self.code(503, "DELETE", f"/files/{third['objectId']}", status=503)
        self.assertEqual(delete.call_count, 1)

    def test_hostile_paths_reach_no_other_file(self):
        for path in ("/../keys.json", "/..%2fkeys.json", "/leanstorage.db", "/.upload-x", "//etc/passwd", "/%00", "/" + "a" * 5000):
            with self.subTest(path[:30]):
                self.assertEqual(self.raw("GET", path).status, 404)

    def test_client_cannot_make_a_file_that_claims_a_key(self):
        body = {"name": "x", "url": "http://elsewhere.example/x", "key": "stolen", "objectId": "x"}
        value = self.api("POST", "/files", body, 201)
        self.assertNotIn("key", self.api("GET", f"/files/{value['objectId']}"))
        self.assertTrue(KEYS)
