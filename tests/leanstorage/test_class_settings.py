"""Default ACLs and columns with defaults, as the command line sets them and as clients then meet them."""

import io
import os
import unittest
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from leanstorage import keys as key_files
from leanstorage.__main__ import main
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
        with mock.patch.dict(os.environ, variables, clear=True), redirect_stdout(out), redirect_stderr(out):
            code = main(list(arguments))
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
            self.assertEqual((status, answer["error"]), (400, "The field 'n' is required."))
        self.assertEqual(request("PUT", f"/classes/Post/{made}", {"state": "y"})[0], 200)
        code, text = self.run_command("columns", "Post", "--optional", "n", "--no-default", "state")
        self.assertIn("n: Number\n", text)
        self.assertIn("state: String\n", text)
        made = request("POST", "/classes/Post", {})[1]["objectId"]
        self.assertNotIn("state", request("GET", f"/classes/Post/{made}")[1])

    def test_what_no_column_can_be_is_refused(self):
        for arguments, text in (
            (["columns", "Nope"], "there is no class Nope"),
            (["columns", "Post", "--add", "x=Text"], "a column is KEY=TYPE"),
            (["columns", "Post", "--add", "n=String"], "n is a column already: a Number"),
            (["columns", "Post", "--default", "n=x"], "is not JSON: texts stand in double quotes"),
            (["columns", "Post", "--default", 'n="x"'], "the default of n is no Number"),
            (["columns", "Post", "--default", "n=null"], "the default of n is no Number"),
            (["columns", "Post", "--required", "none"], "there is no column none that could have a value"),
        ):
            with self.subTest(text):
                code, said = self.run_command(*arguments)
                self.assertEqual(code, 1)
                self.assertIn(text, said)

    def test_settings_of_columns_go_with_an_export(self):
        self.assertEqual(self.run_command("columns", "Post", "--default", "n=7")[0], 0)
        out = io.StringIO()
        exporter.run(self.folder / "out", self.storage.database, self.keys, out, out)
        keys = key_files.load(self.folder / "other")
        database = f"sqlite:///{self.folder / 'other' / 'leanstorage.db'}"
        self.assertEqual(importer.run([self.folder / "out"], database, keys, "x", report=Report("x", out, out)), 0)
        other = self.start("other", keys=keys)
        made = other.request("POST", "/classes/Post", {})[1]["objectId"]
        self.assertEqual(other.request("GET", f"/classes/Post/{made}")[1]["n"], 7)


if __name__ == "__main__":
    unittest.main()
