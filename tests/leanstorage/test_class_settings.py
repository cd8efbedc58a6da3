"""Default ACLs and columns with defaults, as the command line sets them and as clients then meet them."""

import io
import os
import threading
import unittest
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from leanstorage import class_settings, keys as key_files
from leanstorage.__main__ import main
from leanstorage.rules import numbering, uniques
from leanstorage.store import QueryTimeout
from leanstorage.takeout import exporter, importer
from leanstorage.takeout.report import Report
from tests.leanstorage.storage_support import StorageTestCase


class ClassSettingsTest(StorageTestCase):
    def setUp(self):
        super().setUp()
        self.storage = self.start()
        self.assertEqual(self.storage.request("POST", "/classes/Post", {"n": 1})[0], 201)
        self.keys = key_files.load(self.folder / "data")

    def run_command(self, *arguments):
        """(exit code, all that was printed)."""
        out = io.StringIO()
        kept = {name: value for name, value in os.environ.items() if name not in key_files.NAMES.values()}
        variables = {**kept, "LEANSTORAGE_DATA": str(self.folder / "data")}
        with redirect_stdout(out), redirect_stderr(out):
            code = main(list(arguments), variables)
        self.assertNotIn("Traceback", out.getvalue())
        return code, out.getvalue()

    def sign_up(self, name):
        return self.storage.request("POST", "/users", {"username": name, "password": "p"})[1]

    def test_default_acl_is_that_of_new_objects_and_owner_is_who_makes_them(self):
        code, text = self.run_command("permissions", "Post", "--default-acl", "everyone=r,owner=rw,role:Admin=w")
        self.assertEqual(code, 0, text)
        self.assertIn("default ACL: everyone=r,owner=rw,role:Admin=w\n", text)
        ann, bob = self.sign_up("ann"), self.sign_up("bob")
        made = self.storage.request("POST", "/classes/Post", {"n": 2}, session=ann["sessionToken"])[1]["objectId"]
        path = f"/classes/Post/{made}"
        found = self.storage.request("GET", path, master=True, query={"returnACL": "true"})[1]
        rights = {"*": {"read": True}, ann["objectId"]: {"read": True, "write": True}, "role:Admin": {"write": True}}
        self.assertEqual(found["ACL"], rights)
        self.assertEqual(self.storage.request("PUT", path, {"n": 3}, session=bob["sessionToken"])[0], 403)
        self.assertEqual(self.storage.request("PUT", path, {"n": 3}, session=ann["sessionToken"])[0], 200)
        for given, shown in (("nobody", "nobody"), ("everyone", "everyone")):
            self.assertIn(f"default ACL: {shown}\n", self.run_command("permissions", "Post", "--default-acl", given)[1])
        self.assertIn("default ACL: everyone\n", self.run_command("permissions", "Post")[1])

    def test_search_for_the_highest_number_has_time_and_its_end_is_said_in_words(self):
        """It looks at all objects, and the store's usual seconds are over before that of a large class."""
        opened = []

        def open_store(*given, **more):
            opened.append(more.get("query_seconds"))
            return stores(*given, **more)

        stores = class_settings.open_store
        with mock.patch.object(class_settings, "open_store", open_store):
            code, text = self.run_command("columns", "Post", "--auto-increment", "n")
        self.assertEqual((code, opened), (0, [numbering.SECONDS]), text)
        with mock.patch.object(class_settings, "change", side_effect=QueryTimeout):
            self.assertEqual(self.run_command("columns", "Post"), (1, "cannot go on: a query took too long\n"))

    def test_malformed_default_acls_are_refused_with_how_they_look(self):
        for text in ("", "x", "owner", "owner=x", "a b=r", "owner=r,", '{"*":{}}'):
            with self.subTest(text):
                code, said = self.run_command("permissions", "Post", "--default-acl", text)
                self.assertEqual(code, 1)
                self.assertIn("a default ACL is everyone, nobody, or names with rights: everyone=r", said)

    def test_new_objects_get_defaults_and_lack_no_required_value(self):
        code, text = self.run_command(
            "columns", "Post", "--add", "state=String", "--add", "by=Pointer:_User", "--default", 'state="new"', "--required", "n"
        )
        self.assertEqual(code, 0, text)
        for line in ("by: Pointer:_User\n", "n: Number, required\n", 'state: String, default "new"\n', "objectId: String\n"):
            self.assertIn(line, text)
        request = self.storage.request
        made = request("POST", "/classes/Post", {"n": 5})[1]["objectId"]
        self.assertEqual(request("GET", f"/classes/Post/{made}")[1]["state"], "new")
        given = request("POST", "/classes/Post", {"n": 5, "state": "old"}, query={"fetchWhenSave": "true"})[1]
        self.assertEqual(given["state"], "old")
        for method, path, body in (
            ("POST", "/classes/Post", {"state": "x"}),
            ("POST", "/classes/Post", {"n": None}),
            ("PUT", f"/classes/Post/{made}", {"n": {"__op": "Delete"}}),
        ):
            status, answer = request(method, path, body)
            self.assertEqual((status, answer), (400, {"code": 113, "error": "Field 'n' is required."}))
        self.assertEqual(request("PUT", f"/classes/Post/{made}", {"state": "y"})[0], 200)
        code, text = self.run_command("columns", "Post", "--optional", "n", "--no-default", "state")
        self.assertIn("n: Number\n", text)
        self.assertIn("state: String\n", text)
        made = request("POST", "/classes/Post", {})[1]["objectId"]
        self.assertNotIn("state", request("GET", f"/classes/Post/{made}")[1])

    def test_hidden_column_is_shown_again_once_that_is_said(self):
        request = self.storage.request
        self.assertEqual(request("GET", "/classes/Post")[1]["results"][0]["n"], 1)
        code, text = self.run_command("columns", "Post", "--hide", "n", "--required", "n")
        self.assertEqual(code, 0, text)
        self.assertIn("n: Number, required, hidden\n", text)
        self.assertNotIn("n", request("GET", "/classes/Post")[1]["results"][0])
        self.assertEqual(request("GET", "/classes/Post", query={"where": '{"n":1}'})[1]["code"], 102)
        self.assertEqual(request("GET", "/classes/Post", query={"where": '{"n":1}'}, master=True)[1]["results"][0]["n"], 1)
        self.assertIn("n: Number, required\n", self.run_command("columns", "Post", "--show", "n")[1])
        self.assertEqual(request("GET", "/classes/Post", query={"where": '{"n":1}'})[1]["results"][0]["n"], 1)

    def test_what_no_column_can_be_is_refused(self):
        for arguments, text in (
            (["columns", "Nope"], "there is no class Nope"),
            (["columns", "Post", "--add", "x=Text"], "a column is KEY=TYPE"),
            (["columns", "Post", "--add", "n=String"], "n is a column already: a Number"),
            (["columns", "Post", "--default", "n=x"], "is not JSON: texts stand in double quotes"),
            (["columns", "Post", "--default", 'n="x"'], "the default of n is no Number"),
            (["columns", "Post", "--default", "n=null"], "the default of n is no Number"),
            (["columns", "Post", "--required", "none"], "there is no column none that could have a value"),
            (["columns", "Post", "--hide", "none"], "there is no column none of this class's own"),
            (["columns", "Post", "--hide", "objectId"], "there is no column objectId of this class's own"),
        ):
            with self.subTest(text):
                code, said = self.run_command(*arguments)
                self.assertEqual(code, 1)
                self.assertIn(text, said)

    def test_unique_index_refuses_equal_values_from_then_on(self):
        request = self.storage.request
        made = [request("POST", "/classes/Post", {"n": number, "m": 1})[1]["objectId"] for number in (2, 3)]
        self.assertEqual(request("POST", "/classes/Post", {"m": 1})[0], 201)  # without a value it is held to nothing
        code, text = self.run_command("index", "Post", "n", "--unique")
        self.assertEqual((code, text), (0, "Post n (unique)\n"))
        path = f"/classes/Post/{made[0]}"
        for method, where, body in (("POST", "/classes/Post", {"n": 2}), ("PUT", path, {"n": 3}), ("POST", "/classes/Post", {"n": 1})):
            status, answer = request(method, where, body)
            self.assertEqual((status, answer["code"]), (400, 137), answer)
            self.assertIn("already taken: 'n'", answer["error"])
        self.assertEqual(request("POST", "/classes/Post", {"n": 2.5})[0], 201)
        self.assertEqual(request("POST", "/classes/Post", {})[0], 201)
        self.assertEqual(request("PUT", path, {"n": 2, "m": 5})[0], 200)  # its own value
        self.assertEqual(request("PUT", path, {"n": {"__op": "Increment", "amount": 20}})[0], 200)
        self.assertEqual(request("POST", "/classes/Post", {"n": 2})[0], 201)  # that was given up
        self.assertEqual(request("DELETE", f"/classes/Post/{made[1]}")[0], 200)
        self.assertEqual(request("POST", "/classes/Post", {"n": 3})[0], 201)
        self.assertEqual(self.run_command("index", "Post", "n", "--unique", "--drop"), (0, ""))
        self.assertEqual(request("POST", "/classes/Post", {"n": 3})[0], 201)

    def test_unique_index_is_built_only_when_there_is_no_clash(self):
        request = self.storage.request
        first, second = (request("POST", "/classes/Post", {"n": 7, "m": m})[1]["objectId"] for m in (1, 2))
        code, text = self.run_command("index", "Post", "n", "--unique")
        self.assertEqual(code, 1)
        self.assertIn("have the same n: nothing was built", text)
        self.assertTrue(first in text and second in text)
        self.assertEqual(request("POST", "/classes/Post", {"n": 7, "m": 3})[0], 201)
        self.assertEqual(self.run_command("index", "Post", "n", "m", "--unique")[0], 0)  # together they are
        self.assertEqual(request("POST", "/classes/Post", {"n": 7, "m": 3})[1]["code"], 137)
        self.assertEqual(request("POST", "/classes/Post", {"n": 7, "m": 4})[0], 201)
        for arguments, said in (
            (["_User", "email"], "_User is LeanCloud's own"),
            (["Post", "none"], "there is no column none that could be unique"),
            (["Post", "n", "n"], "a unique index has 1 to 5 keys"),
            (["Post", "m", "--drop"], "Post has no unique index of m"),
        ):
            code, text = self.run_command("index", *arguments, "--unique")
            self.assertEqual(code, 1)
            self.assertIn(said, text)

    def test_what_is_written_while_a_unique_index_is_built_is_in_it(self):
        request = self.storage.request
        for number in range(300):
            request("POST", "/classes/Many", {"n": number})
        numbers = iter(range(300, 1000))
        is_built = threading.Event()

        def write():
            while not is_built.is_set():
                number = next(numbers)
                self.assertEqual(request("POST", "/classes/Many", {"n": number})[0], 201)
                written.append(number)

        written = []
        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        store = self.storage.service.store
        uniques.create(store, "Many", ["n"])
        is_built.set()
        for thread in threads:
            thread.join()
        self.assertTrue(written)
        for number in [*range(0, 300, 10), *written]:
            self.assertEqual(request("POST", "/classes/Many", {"n": number})[1]["code"], 137, number)
        taken = []

        def race():
            taken.append(request("POST", "/classes/Many", {"n": 5000})[0])

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(taken), [201] + [400] * 7)
        uniques.drop(store, "Many", ["n"])
        self.assertEqual(store.read(lambda transaction: transaction.first_records("unique-index:Many:n", 10)), [])

    def test_import_keeps_unique_values_and_brings_the_index_along(self):
        self.assertEqual(self.run_command("index", "Post", "n", "--unique")[0], 0)
        out = io.StringIO()
        exporter.run(self.folder / "out", self.storage.database, self.keys, out, out)
        keys = key_files.load(self.folder / "other")
        database = f"sqlite:///{self.folder / 'other' / 'leanstorage.db'}"

        def take_in(path):
            text = io.StringIO()
            return importer.run([path], database, keys, "x", report=Report(self.folder / "refused", text, text)), text.getvalue()

        self.assertEqual(take_in(self.folder / "out")[0], 0)
        more = self.folder / "Post.0.jsonl"
        more.write_text('{"objectId": "a1", "n": 1}\n{"objectId": "a2", "n": 9}\n{"objectId": "a3", "n": 9}\n')
        code, text = take_in(more)
        self.assertEqual(code, 1)
        self.assertIn("imported 1, skipped 0, refused 2", text)
        self.assertIn("its n belongs to another object", text)
        other = self.start("other", keys=keys)
        self.assertEqual(other.request("POST", "/classes/Post", {"n": 9})[1]["code"], 137)
        self.assertEqual(other.request("DELETE", "/classes/Post/a2")[0], 200)
        self.assertEqual(other.request("POST", "/classes/Post", {"n": 9})[0], 201)

    def test_settings_of_columns_go_with_an_export(self):
        self.assertEqual(self.run_command("columns", "Post", "--default", "n=7", "--add", "h=String", "--hide", "h")[0], 0)
        out = io.StringIO()
        exporter.run(self.folder / "out", self.storage.database, self.keys, out, out)
        keys = key_files.load(self.folder / "other")
        database = f"sqlite:///{self.folder / 'other' / 'leanstorage.db'}"
        self.assertEqual(importer.run([self.folder / "out"], database, keys, "x", report=Report("x", out, out)), 0)
        other = self.start("other", keys=keys)
        made = other.request("POST", "/classes/Post", {"h": "x"})[1]["objectId"]
        found = other.request("GET", f"/classes/Post/{made}")[1]
        self.assertEqual((found["n"], "h" in found), (7, False))


if __name__ == "__main__":
    unittest.main()
