"""Columns that count: as clients meet them, among processes, and through imports, exports and moves."""
import io
import json
import os
import shutil
import tempfile
import threading
import unittest
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path

import requests

from leanstorage.__main__ import main
from leanstorage.http.application import create_application, open_service
from leanstorage.rules.call import Options
from leanstorage.takeout import exporter, importer, migration
from leanstorage.takeout.report import Report
from tests.leanstorage.service_support import KEYS, open_database, ServiceTestCase
from tests.leanstorage.test_hooks import HookCase
from tests.support import call, free_port, python, running

TICKETS = {
    "schema": {
        "nid": {"type": "Number", "auto_increment": True, "required": False},
        "title": {"type": "String", "required": True},
        "state": {"type": "String", "default": "new"},
        "author": {"type": "Pointer", "className": "_User"},
    },
    "indexes": [{"v": 2, "unique": True, "key": {"nid": 1}}, {"unique": True, "key": {"author.$id": 1, "title": 1}}],
}

VARIABLES = {f"LEANCLOUD_APP_{name.upper()}": value for name, value in KEYS.items()}


class NumberingCase(ServiceTestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="numbering-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def take_in(self, database=None, **files):
        """Import files of these contents; return what was said."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_text(content)
        out = io.StringIO()
        code = importer.run([folder], database or self.database, KEYS, "x", report=Report(folder / "refused", out, out))
        self.assertEqual(code, 0, out.getvalue())
        return out.getvalue()

    def declare(self, name, rows=()):
        files = {f"{name}_schema__json": json.dumps(TICKETS)}
        if rows:
            files[f"{name}__0__jsonl"] = "".join(json.dumps(row) + "\n" for row in rows)
        return self.take_in(**files)

    def number(self, class_name, master=False, **fields):
        return self.api("POST", f"/classes/{class_name}?fetchWhenSave=true", {"title": "t", **fields}, 201, master=master)["nid"]


class NumberingTest(NumberingCase):
    def test_declared_column_counts_and_clients_cannot_set_it(self):
        said = self.declare("Ticket")
        self.assertIn("1 auto_increment columns, which go on after their highest number: nid\n", said)
        self.assertIn("classes that a schema declared: 1\n", said)
        self.assertEqual([self.number("Ticket") for _ in range(3)], [1, 2, 3])
        self.assertEqual(self.number("Ticket", nid=77), 4)
        made = self.find("Ticket", {"nid": 4})[0]["objectId"]
        for sent in (9, None, {"__op": "Increment", "amount": 5}, {"__op": "Delete"}):
            with self.subTest(sent):
                self.api("PUT", f"/classes/Ticket/{made}", {"nid": sent, "title": "u"})
                self.assertEqual(self.get("Ticket", made)["nid"], 4)

    def test_master_key_sets_numbers_and_later_ones_go_on_after_them(self):
        self.declare("Set")
        self.assertEqual(self.number("Set", master=True, nid=40), 40)
        self.assertEqual(self.number("Set"), 41)
        made = self.find("Set", {"nid": 41})[0]["objectId"]
        self.api("PUT", f"/classes/Set/{made}", {"nid": 50}, master=True)
        self.assertEqual(self.number("Set"), 51)
        self.api("PUT", f"/classes/Set/{made}", {"nid": 3}, master=True)
        self.assertEqual(self.number("Set"), 52)

    def test_create_that_fails_takes_no_number(self):
        self.declare("Strict")
        self.code(113, "POST", "/classes/Strict", {})  # without a title
        self.assertEqual(self.number("Strict"), 1)

    def test_batches_count(self):
        self.declare("Many")
        requests = [{"method": "POST", "path": "/1.1/classes/Many", "body": {"title": str(one)}} for one in range(5)]
        self.api("POST", "/batch", {"requests": requests})
        saves = [{**one, "body": {**one["body"], "__internalId": f"i{number}"}} for number, one in enumerate(requests)]
        self.api("POST", "/batch/save", {"requests": saves})
        found = self.find("Many", order="nid")
        self.assertEqual([one["nid"] for one in found], list(range(1, 11)))

    def test_user_can_have_a_number(self):
        self.take_in(_User_schema__json=json.dumps({"nid": {"type": "Number", "auto_increment": True}}))
        ids = [self.user(name)["objectId"] for name in ("first", "second")]
        self.assertEqual([self.api("GET", f"/users/{one}")["nid"] for one in ids], [1, 2])

    def test_imported_numbers_are_kept_and_gone_on_after(self):
        rows = [{"objectId": f"a{number}", "nid": number, "title": "old"} for number in (7, 120, 3)]
        self.declare("Old", rows)
        self.assertEqual(self.number("Old"), 121)
        more = [{"objectId": "b1", "nid": 500.0, "title": "x"}, {"objectId": "b2", "title": "none"}]
        self.take_in(Old__0__jsonl="".join(json.dumps(row) + "\n" for row in more))
        self.assertEqual(self.number("Old"), 501)
        self.assertNotIn("nid", self.get("Old", "b2"))

    def test_class_that_has_objects_begins_after_the_highest(self):
        for number in (5, 30, 8):
            self.make("Late", nid=number, title="t")
        self.declare("Late")
        self.assertEqual(self.number("Late"), 31)

    def test_column_made_to_count_by_command_and_no_more(self):
        self.make("Shop", nid=6, title="t")
        out = self.run_columns("Shop", "--auto-increment", "nid")
        self.assertIn("nid: Number, auto-increment\n", out)
        self.assertEqual(self.number("Shop"), 7)
        self.assertIn("nid: Number\n", self.run_columns("Shop", "--no-auto-increment", "nid"))
        self.assertEqual(self.number("Shop", nid=2), 2)
        said = self.run_columns("Shop", "--auto-increment", "title", code=1)
        self.assertIn("title cannot count", said)

    def run_columns(self, *arguments, code=0):
        out = io.StringIO()
        environment = {**os.environ, **VARIABLES, "LEANSTORAGE_DATA": str(self.folder)}
        with redirect_stdout(out), redirect_stderr(out):
            self.assertEqual(main(["columns", *arguments, "--database", self.database], environment), code, out.getvalue())
        return out.getvalue()

    def test_unique_indexes_of_a_schema_are_held(self):
        said = self.declare("Unique", [{"objectId": "u1", "nid": 1, "title": "t"}])
        self.assertIn("2 indexes made", said)
        self.code(137, "POST", "/classes/Unique", {"nid": 1, "title": "t"}, master=True)
        author = {"__type": "Pointer", "className": "_User", "objectId": "one"}
        self.make("Unique", title="mine", author=author)
        self.code(137, "POST", "/classes/Unique", {"title": "mine", "author": author})
        self.make("Unique", title="other", author=author)

    def test_unique_indexes_that_mean_something_else_here_are_named(self):
        columns = {"tags": {"type": "Array"}, "n": {"type": "Number"}}
        indexes = [{"unique": True, "key": {key: 1}} for key in ("tags", "n", "data.key", "createdAt", "unknown")]
        said = self.take_in(Odd_schema__json=json.dumps({"schema": columns, "indexes": indexes}))
        self.assertIn("4 unique indexes that cannot be made here: tags, data.key, createdAt, unknown\n", said)
        self.assertIn("1 indexes made", said)

    def test_defaults_and_required_columns_of_a_schema_are_held(self):
        columns = {**TICKETS["schema"], "bad": {"type": "Number", "default": "text"}}
        said = self.take_in(Strict2_schema__json=json.dumps(columns))
        self.assertIn("1 defaults of columns that were not taken: bad\n", said)
        made = self.make("Strict2", title="t")
        self.assertEqual(self.get("Strict2", made)["state"], "new")
        self.assertEqual(self.code(113, "POST", "/classes/Strict2", {}), "Field 'title' is required.")

    def test_options_that_columns_have_here_are_kept(self):
        self.make("Kept", state="x", title="t")
        self.run_columns("Kept", "--default", 'state="mine"')
        self.declare("Kept")
        said = self.run_columns("Kept")
        for line in ('state: String, default "mine"', "title: String, required", "nid: Number, auto-increment"):
            self.assertIn(line + "\n", said)

    def test_schemas_tell_the_options_of_columns(self):
        self.declare("Told")
        found = self.api("GET", "/schemas/Told", master=True)
        self.assertEqual(found["nid"], {"type": "Number", "auto_increment": True})
        self.assertEqual(found["title"], {"type": "String", "required": True})
        self.assertEqual(found["state"], {"type": "String", "default": "new"})
        self.assertEqual(self.api("GET", "/schemas", master=True)["Told"], found)

    def test_default_acl_of_a_schema_is_held(self):
        rights = {"_owner": {"read": True, "write": True}, "role:staff": {"read": True}}
        session = self.user("owner")["sessionToken"]
        for name, given in (("Owned", rights), ("Hidden", {}), ("Open", {"*": {"read": True, "write": True}})):
            columns = {"n": {"type": "Number"}, "ACL": {"type": "ACL", "default": given}}
            said = self.take_in(**{f"{name}_schema__json": json.dumps({"schema": columns})})
            self.assertNotIn("not taken", said)
            self.make(name, n=1, session=session)
        self.assertEqual([len(self.find(name)) for name in ("Owned", "Hidden", "Open")], [0, 0, 1])
        self.assertEqual([len(self.find(name, session=session)) for name in ("Owned", "Hidden", "Open")], [1, 0, 1])
        for odd in ({"*": 5}, "everyone", {"*": {"fly": True}}):
            columns = {"n": {"type": "Number"}, "ACL": {"type": "ACL", "default": odd}}
            said = self.take_in(Odd3_schema__json=json.dumps({"schema": columns}))
            self.assertIn("1 defaults of columns that were not taken: ACL\n", said)

    def test_class_permissions_of_a_schema_are_held(self):
        permissions = {
            "create": {"onlySignInUsers": True, "roles": [], "users": []},
            "find": {"roles": ["staff"], "users": []},
            "get": {"*": True},
            "delete": {"roles": [], "users": []},
            "update": {},
        }
        self.take_in(Closed_schema__json=json.dumps({"schema": {"n": {"type": "Number"}}, "permissions": permissions}))
        session = self.user("member")["sessionToken"]
        self.api("POST", "/classes/Closed", {"n": 1}, 403)
        made = self.make("Closed", n=1, session=session)
        self.assertEqual(self.get("Closed", made)["n"], 1)
        for method, path, body in (
            ("GET", "/classes/Closed", None), ("DELETE", f"/classes/Closed/{made}", None), ("PUT", f"/classes/Closed/{made}", {"n": 2})
        ):
            self.api(method, path, body, 403, session=session)
        self.assertEqual(len(self.find("Closed", master=True)), 1)
        for odd in ({"find": {"*": "yes"}}, {"find": {"roles": [1]}}, {"find": 5}, {"fly": {}}, {"find": {"other": True}}):
            with self.subTest(odd):
                said = self.take_in(Odd2_schema__json=json.dumps({"schema": {"n": {"type": "Number"}}, "permissions": odd}))
                self.assertIn("1 class permissions that were not taken", said)

    def test_export_and_migration_go_on_counting(self):
        self.declare("Moved", [{"objectId": "m1", "nid": 9, "title": "t"}])
        self.assertEqual(self.number("Moved"), 10)
        self.api("DELETE", f"/classes/Moved/{self.find('Moved', {'nid': 10})[0]['objectId']}")
        out = io.StringIO()
        exporter.run(self.folder / "out", self.database, KEYS, out, out)
        for name, wanted in (("imported", 10), ("migrated", 11)):
            with self.subTest(name):
                (self.folder / name).mkdir()
                database, drop = open_database(self.folder / name)
                self.addCleanup(drop)
                if name == "migrated":
                    self.assertEqual(migration.run(self.database, database, out, out), 0, out.getvalue())
                else:
                    code = importer.run([self.folder / "out"], database, KEYS, "x", report=Report(self.folder / "r", out, out))
                    self.assertEqual(code, 0, out.getvalue())
                service = open_service(KEYS, database, self.folder / "files", None, Options())
                self.addCleanup(service.store.close)
                headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
                made = call(
                    create_application(service), "POST", "/1.1/classes/Moved", b'{"title": "t"}', headers, "fetchWhenSave=true"
                )
                self.assertEqual(made.json()["nid"], wanted)


class HookedNumberTest(HookCase):
    take_in, declare, number = NumberingCase.take_in, NumberingCase.declare, NumberingCase.number

    def setUp(self):
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="numbering-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def test_after_hook_sees_the_number_and_before_hook_does_not_set_it(self):
        self.declare("Hooked")
        self.on("Hooked", "beforeSave", lambda sent: (200, {**sent["object"], "nid": 33}))
        self.on("Hooked", "afterSave", lambda sent: (200, {"result": "ok"}))
        self.assertEqual(self.number("Hooked"), 1)
        before, after = [sent["object"] for _, _, sent in self.engine.calls]
        self.assertNotIn("nid", before)
        self.assertEqual(after["nid"], 1)


class ProcessesTest(NumberingCase):
    def test_several_processes_give_no_number_twice_and_leave_no_gap(self):
        self.declare("Shared")
        with ExitStack() as stack:
            ports = [free_port() for _ in range(3)]
            for port in ports:
                serve = python("-m", "leanstorage", "serve", "--port", str(port), "--database", self.database)
                stack.enter_context(running(serve, "listens", LEANSTORAGE_DATA=self.folder, **VARIABLES))
            made = []
            threads = [threading.Thread(target=make_many, args=(port, made)) for port in ports for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(sorted(made), list(range(1, 121)))
        found = self.find("Shared", order="nid", limit="1000")
        self.assertEqual([one["nid"] for one in found], list(range(1, 121)))


def make_many(port, made):
    """Create 20 objects through one of the servers; their numbers to the list `made`."""
    headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"]}
    with requests.Session() as session:
        for _ in range(20):
            url = f"http://127.0.0.1:{port}/1.1/classes/Shared?fetchWhenSave=true"
            made.append(session.post(url, json={"title": "t"}, headers=headers, timeout=60).json()["nid"])


if __name__ == "__main__":
    unittest.main()
