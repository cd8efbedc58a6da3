"""Importing exports: what they look like, what comes along, what is refused, and that hostile ones do no harm."""

import gzip
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import tracemalloc
import unittest
import zipfile
from unittest import mock

from leanstorage import keys as key_files
from leanstorage.rules import classes, fingerprint, passwords
from leanstorage.store import open_store, Query, Row
from leanstorage.takeout import bson_rows, credentials, importer, raw_rows, sources
from leanstorage.takeout import report as report_module
from leanstorage.takeout.report import Report
from leanstorage.takeout.wishes import Wishes
from tests.leanstorage.storage_support import Dripping, StorageTestCase
from datetime import UTC

HEADER = b'#filetype:JSON-streaming {"type":"Class","class":"%s"}\n'
ID = "5c710c95c05a807a4d9d71%02x"
TIMES = {"createdAt": "2019-09-19T04:45:48.354Z", "updatedAt": "2020-01-02T03:04:05.006Z"}
# Protocol section 9.2: (salt, password, hash).
HASHES = [
    (
        "h60d8x797d3oa0naxybxxv9bn7xpt2yiowz68mpiwou7gwr2",
        "password",
        "tA7BLW+NK0UeARng0693gCaVnljkglCB9snqlpCSUKjx2RgYp8VZZOQt0S5iUtlDrkJXfT3gknS4rRqjYsd/Ug==",
    ),
    (
        "0123456789abcdefghijklmnopqrstuvwxyz0123456789ab",
        "correct horse",
        "kXvfnijrIVHsLkpE5bs/rO89qush/UOTvlKHbZRXEPciv5Lzu6JYv5Gdvcz+gzsI0j6qkhFsZlvJTmm2+uz9DA==",
    ),
    (
        "k3v9",
        "密码Pässw0rd✓",
        "RAV4PDNm3T05TDGXIxUL79f1oQyPwijehOuMwfEzUCzpMD9SpVaamMa8VjiNfSxvgfXhuetE2W0IgzBn/XOmqA==",
    ),
]


def row(number, **fields):
    return {"objectId": ID % number, **TIMES, **fields}


def jsonl(class_name, *rows):
    body = b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in rows)
    return (HEADER % class_name.encode() if class_name else b"") + body


def tar(members):
    """A tar archive of {name: bytes}; a single byte is the type of a member that is no file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if len(data) > 1 or not data:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                info.type, info.linkname = data, "/etc/passwd"
                archive.addfile(info)
    return file.getvalue()


class ImportTestCase(StorageTestCase):
    def setUp(self):
        super().setUp()
        self.data = self.folder / "data"
        self.keys = key_files.load(self.data)
        self.database = f"sqlite:///{self.data / 'leanstorage.db'}"
        self.refused = self.folder / "refused.jsonl"
        self.output = io.StringIO()

    def put(self, name, data):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def take_in(self, *paths, **options):
        """Import; return the exit code. The text for the operator is in `self.output`."""
        self.output = io.StringIO()
        report = Report(self.refused, self.output, self.output)
        wanted = {name: options.pop(name) for name in ("class_name", "is_repairing", "rewrites") if name in options}
        options["wishes"] = Wishes(**wanted)
        return importer.run(list(map(str, paths)), self.database, self.keys, self.refused, report=report, **options)

    def objects(self, class_name):
        store = open_store(self.database)
        try:
            found = store.read(lambda transaction: transaction.find(Query(class_name)))
        finally:
            store.close()
        return {one.id: one for one in found}

    def adopt(self, keys):
        store = open_store(self.database)
        fingerprint.adopt(store, keys)
        store.close()

    def refusals(self):
        return [json.loads(line) for line in self.refused.read_text().splitlines()] if self.refused.exists() else []


class FormsTest(ImportTestCase):
    def test_every_form_of_an_export_holds_the_same_rows(self):
        rows = [row(1, name="一", n=None), row(2, name="two", tags=["a"])]
        texts = [json.dumps(one, ensure_ascii=False) for one in rows]
        pretty = "\n".join(json.dumps(one, indent=2) for one in rows)
        forms = {
            "header and lines": ("x.jsonl", jsonl("Post", *rows)),
            "lines": ("Post.0.jsonl", jsonl("", *rows)),
            "byte order mark and CRLF": ("Post.0.jsonl", b"\xef\xbb\xbf" + "\r\n".join(texts).encode()),
            "lines that end in a comma": ("Post.0.jsonl", ",\n".join(texts).encode() + b",\n"),
            "array": ("Post_all.json", ("[" + ",".join(texts) + "]").encode()),
            "indented array": ("Post.json", json.dumps(rows, indent=1).encode()),
            "results": ("Post.json", json.dumps({"results": rows}).encode()),
            "indented results": ("Post.json", json.dumps({"results": rows}, indent=4).encode()),
            "objects of several lines": ("Post.json", pretty.encode()),
            "gzip": ("Post.0.jsonl.gz", gzip.compress(jsonl("", *rows))),
            "tar.gz": ("export.tar.gz", gzip.compress(tar({"export/Post.0.jsonl": jsonl("Post", *rows)}))),
            "tar with a long name": ("e.tar", tar({"d" * 150 + "/Post.0.jsonl": jsonl("Post", *rows)})),
        }
        for number, (form, (name, data)) in enumerate(forms.items()):
            with self.subTest(form):
                self.database = f"sqlite:///{self.folder / f'{number}.db'}"
                self.assertEqual(self.take_in(self.put(f"in{number}/{name}", data)), 0, self.output.getvalue())
                found = self.objects("Post")
                self.assertEqual(
                    [one.body for one in found.values()], [{"name": "一", "n": None}, {"name": "two", "tags": ["a"]}]
                )
                self.assertEqual(sorted(found), [ID % 1, ID % 2])
                self.assertEqual((found[ID % 1].created, found[ID % 1].updated), (1568868348354, 1577934245006))

    def test_folder_and_zip_hold_several_classes(self):
        with zipfile.ZipFile(self.folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("Post.0.jsonl", jsonl("Post", row(1)))
            archive.writestr("deep/Post.1.jsonl", jsonl("Post", row(2)))
        self.put("folder/Note.0.jsonl", jsonl("Note", row(3)))
        self.assertEqual(self.take_in(self.folder / "export.zip", self.folder / "folder"), 0, self.output.getvalue())
        self.assertEqual((sorted(self.objects("Post")), list(self.objects("Note"))), ([ID % 1, ID % 2], [ID % 3]))

    def test_array_rows_are_the_same_wherever_a_chunk_ends(self):
        rows = [row(1, text='a "quoted\\" } ] text \\\\'), row(2, inner={"list": [[], {}], "t": "[{"})]
        data = json.dumps(rows, indent=1).encode()

        for step in range(1, 40):
            stream = Dripping(data, step)
            found = list(raw_rows.elements(stream, b"["))
            self.assertEqual([json.loads(one) for _, one, _ in found], rows)
            self.assertEqual([number for number, _, _ in found], [2, 8])

        for junk in (b"[{}, x {}]", b'[{} "x", {}]', b"[{}\n12 ,\n{}]"):  # between rows, where a chunk may end as well
            for step in range(1, len(junk) + 2):
                stream = Dripping(junk, step)
                with self.subTest(junk, step=step):
                    found = list(raw_rows.elements(stream, b"["))
                    self.assertEqual([one for _, one, wrong in found if not wrong], [b"{}", b"{}"])
                    self.assertIn("not an object", [wrong for _, _, wrong in found])

    def test_files_of_a_folder_come_in_one_order_and_no_hidden_or_linked_one(self):
        folder = self.folder / "many"
        names = ["b/Foo.jsonl", "a/Foo.jsonl", "c/Foo.jsonl", "c/a/Foo.jsonl", "Bar.jsonl", "Bar_schema.json", "a/Foo_schema.json"]
        for name in [*names, "a/.hidden.jsonl"]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text('{"objectId": "a"}')
        (folder / "link.jsonl").symlink_to(folder / "Bar.jsonl")
        found = list(sources.members([folder]))
        wanted = ["Bar_schema.json", "Bar.jsonl", None, "a/Foo_schema.json", "a/Foo.jsonl", "b/Foo.jsonl", "c/Foo.jsonl", "c/a/Foo.jsonl"]
        self.assertEqual([None if isinstance(one, sources.SourceError) else one.label for one in found], [name and str(folder / name) for name in wanted])
        self.assertIn("link.jsonl: a symbolic link", str(found[2]))

    @unittest.skipUnless(bson_rows.is_available(), "PyMongo is not installed")
    def test_bson_backup_becomes_the_same_objects(self):
        from datetime import datetime

        import bson

        made = datetime(2019, 9, 19, 4, 45, 48, 354000, UTC)
        documents = [
            {"_id": ID % 1, "createdAt": made, "updatedAt": made, "n": 1, "due": made, "raw": b"\x00\x01"},
            {"_id": bson.ObjectId(ID % 2), "createdAt": made, "updatedAt": made, "by": bson.DBRef("_User", ID % 9)},
            {"_id": ID % 3, "createdAt": made, "updatedAt": made, "big": bson.Int64(2**40), "code": bson.Code("x")},
        ]
        data = b"".join(map(bson.encode, documents))
        path = self.put("Post.x1y2.bson.gz", gzip.compress(data))
        self.assertEqual(self.take_in(path), 1)
        found = self.objects("Post")
        due = {"__type": "Date", "iso": "2019-09-19T04:45:48.354Z"}
        self.assertEqual(found[ID % 1].body, {"n": 1, "due": due, "raw": {"__type": "Bytes", "base64": "AAE="}})
        self.assertEqual(found[ID % 2].body["by"], {"__type": "Pointer", "className": "_User", "objectId": ID % 9})
        self.assertEqual((found[ID % 1].created, sorted(found)), (1568868348354, [ID % 1, ID % 2]))
        self.assertEqual(self.take_in(self.put("Post.cut.bson", data[:-3])), 1)
        self.assertIn("ends within a document", self.output.getvalue())


class RowsTest(ImportTestCase):
    def test_all_types_nulls_and_odd_keys_are_kept(self):
        file = {"__type": "File", "objectId": ID % 8, "name": "a.png", "url": "gone"}
        fields = {
            "int": 2**60 + 1,
            "float": 0.1,
            "emoji": "😀\u2028",
            "_SessionToken": "odd",
            "nothing": None,
            "date": {"__type": "Date", "iso": "2019-01-01T08:00:00+08:00"},
            "geo": {"__type": "GeoPoint", "latitude": 40, "longitude": -30},
            "list": [1, None, {"deep": [{"__type": "Pointer", "className": "_User", "objectId": ID % 7}]}, file],
            "likes": {"__type": "Relation", "className": "_User"},
        }
        rights = {"*": {"read": True}, "role:Editors": {"write": True}}
        self.assertEqual(self.take_in(self.put("Post.0.jsonl", jsonl("Post", row(1, ACL=rights, **fields)))), 0)
        [found] = self.objects("Post").values()
        del fields["likes"]
        fields["date"] = {"__type": "Date", "iso": "2019-01-01T00:00:00.000Z"}
        fields["list"][3] = {"__type": "File", "id": ID % 8}
        self.assertEqual((found.body, found.acl), (fields, rights))
        store = open_store(self.database)
        columns = store.read(lambda transaction: transaction.class_info("Post"))["columns"]
        store.close()
        self.assertEqual(columns["likes"], {"type": "Relation", "className": "_User"})
        self.assertEqual((columns["geo"], columns["int"]), ({"type": "GeoPoint"}, {"type": "Number"}))
        self.assertNotIn("nothing", columns)

    def test_bad_rows_are_refused_one_by_one_with_their_reason(self):
        good = row(1, n=1)
        bad = [
            (b'{"objectId": "x1", "n"', "not valid JSON"),
            (b'["x2"]', "not an object"),
            (b'{"objectId": "x3", "t": "\xff"}', "not UTF-8"),
            (b'{"objectId": "x4", "t": "a\\u0000b"}', "NUL"),
            (b'{"objectId": "x5", "t": "\\ud800"}', "surrogate"),
            (b'{"objectId": "x6", "n": NaN}', "not valid JSON"),
            (b'{"objectId": "x7", "n": 1e999}', "not valid JSON"),
            (b'{"objectId": "../x8"}', "objectId"),
            (b'{"objectId": 9}', "objectId"),
            (b'{"objectId": "x10", "n": "text"}', "'n' is of type String, in its class it is Number"),
            (b'{"objectId": "x11", "createdAt": "yesterday"}', "createdAt is not a time"),
            (b'{"objectId": "x12", "a": ' + b"[" * 300 + b"]" * 300 + b"}", "deep"),
            (b'{"objectId": "x13", "a": ' + b"[" * 100000 + b"]" * 100000 + b"}", "not valid JSON"),
            (b'{"objectId": "x14", "p": {"__type": "Pointer", "className": "A"}}', "pointer"),
            (b'{"objectId": "x15", "p": {"__type": "Secret"}}', "__type"),
            (b'{"objectId": "x16", "g": {"__type": "GeoPoint", "latitude": 91, "longitude": 0}}', "Latitude"),
            (b'{"objectId": "x17", "ACL": {"*": {"read": "yes"}}}', "ACL"),
            (b'{"objectId": "x18", "a b": 1}', "key"),
            (b'{"objectId": "x19", "o": {"$where": 1}}', "Nested keys"),
            (json.dumps(row(1, n=2)).encode(), "occurs twice"),
            (b'{"objectId": "x21", "d": {"__type": "Date", "iso": "2019-13-01T00:00:00.000Z"}}', "Date"),
        ]
        data = jsonl("Post", good) + b"\n".join(raw for raw, _ in bad) + b"\n" + json.dumps(row(2, n=3)).encode()
        self.assertEqual(self.take_in(self.put("Post.0.jsonl", data)), 1)
        self.assertEqual(
            {key: one.body for key, one in self.objects("Post").items()}, {ID % 1: {"n": 1}, ID % 2: {"n": 3}}
        )
        refused = {one["line"]: one for one in self.refusals()}
        self.assertEqual(len(refused), len(bad))
        for number, (raw, reason) in enumerate(bad, 3):
            with self.subTest(raw[:40]):
                self.assertIn(reason, refused[number]["reason"])
                if "row" in refused[number]:
                    self.assertEqual(refused[number]["row"].encode(), raw)
        self.assertEqual(stat.S_IMODE(os.stat(self.refused).st_mode), 0o600)
        self.assertIn(
            f"read 23, imported 2, skipped 0, refused {len(bad)} rows", self.output.getvalue().splitlines()[-1]
        )
        self.assertNotIn("Traceback", self.output.getvalue())

    def test_second_import_skips_everything_and_changes_nothing(self):
        path = self.put("Post.0.jsonl", jsonl("Post", row(1, n=1), row(2, n=2)))
        self.assertEqual(self.take_in(path), 0)
        path.write_bytes(jsonl("Post", row(1, n=7), row(3, n=3)))
        self.assertEqual(self.take_in(path), 0)
        self.assertEqual(
            {key: one.body["n"] for key, one in self.objects("Post").items()}, {ID % 1: 1, ID % 2: 2, ID % 3: 3}
        )
        self.assertIn("imported 1, skipped 1, refused 0", self.output.getvalue())

    def test_newer_export_wins_unless_the_row_was_changed_here(self):
        def at(year, number, **fields):
            return {**row(number, **fields), "updatedAt": f"{year}-01-01T00:00:00.000Z"}

        first = [at(2020, number, title="old") for number in range(4)]
        self.assertEqual(self.take_in(self.put("1/Post.0.jsonl", jsonl("Post", *first))), 0)
        storage = self.start(keys=self.keys)
        for number in (1, 2):
            self.assertEqual(storage.request("PUT", f"/classes/Post/{ID % number}", {"title": "here"})[0], 200)
        # One was changed there alone, one there and here, one here alone, one nowhere.
        newer = [at(2090, 0, title="there"), at(2090, 1, title="there"), first[2], first[3]]
        self.assertEqual(self.take_in(self.put("2/Post.0.jsonl", jsonl("Post", *newer))), 0)
        self.assertIn("imported 1, skipped 3, refused 0", self.output.getvalue())
        self.assertIn("note: 1 rows here were older than those of this export, which were taken", self.output.getvalue())
        self.assertIn("note: 1 rows were changed here and there: those of here stay", self.output.getvalue())

        def titles():
            return [self.objects("Post")[ID % number].body["title"] for number in range(4)]

        self.assertEqual(titles(), ["there", "here", "here", "old"])
        newest = [at(2091, 0, title="newest"), at(2089, 3, title="newest")]
        self.assertEqual(self.take_in(self.put("3/Post.0.jsonl", jsonl("Post", *newest))), 0)
        self.assertEqual(titles(), ["newest", "here", "here", "newest"])
        self.assertEqual(self.take_in(self.folder / "2"), 0)
        self.assertIn("imported 0, skipped 4", self.output.getvalue())
        self.assertEqual(titles(), ["newest", "here", "here", "newest"])

    def test_newer_export_of_a_user_keeps_what_was_changed_here_and_its_names_unique(self):
        users = [row(number, username=f"u{number}", email=f"e{number}@example.com") for number in (1, 2)]
        self.assertEqual(self.take_in(self.put("1/_User.0.jsonl", jsonl("_User", *users))), 0)
        swapped = [{**row(number, username=f"u{3 - number}"), "updatedAt": "2090-01-01T00:00:00.000Z"} for number in (2, 1)]
        swapped[0]["username"] = "free"
        self.assertEqual(self.take_in(self.put("2/_User.0.jsonl", jsonl("_User", *swapped))), 0, self.output.getvalue())
        found = self.objects("_User")
        self.assertEqual([found[ID % number].body["username"] for number in (1, 2)], ["u2", "free"])
        storage = self.start(keys=self.keys)
        for name, code in (("u1", 201), ("u2", 400), ("free", 400)):
            self.assertEqual(storage.request("POST", "/users", {"username": name, "password": "p"})[0], code)

    def test_dry_run_tells_the_same_and_keeps_nothing(self):
        path = self.put("Post.0.jsonl", jsonl("Post", row(1, n=1), row(2, n="x"), row(1, n=3)))
        self.assertEqual(self.take_in(path, is_dry=True), 1)
        self.assertIn("read 3, would import 1, skipped 0, refused 2 rows", self.output.getvalue())
        self.assertEqual(self.objects("Post"), {})
        self.assertEqual(len(self.refusals()), 2)

    def test_rows_without_id_get_one_that_a_second_import_knows(self):
        path = self.put("Post.json", json.dumps([{"n": 1}, {"n": 1}]).encode())
        for imported in (2, 0):
            self.assertEqual(self.take_in(path), 0)
            self.assertIn(f"imported {imported}, skipped {2 - imported}", self.output.getvalue())
        self.assertEqual(len(self.objects("Post")), 2)

    def test_field_named_error_is_kept_with_a_warning(self):
        self.assertEqual(self.take_in(self.put("Log.0.jsonl", jsonl("Log", row(1, error="x")))), 0)
        self.assertIn("1 rows with a field 'error'", self.output.getvalue())

    def test_relations_and_schema_are_read_in_any_order(self):
        pairs = [{"owningId": ID % 1, "relatedId": ID % 5}, {"owningId": ID % 1, "relatedId": ID % 6}]
        schema = {
            "likes": {"type": "Relation", "className": "_User"},
            "late": {"type": "Number"},
            "objectId": {"type": "String"},
        }
        archive = {
            "_Join:likes:Post.0.jsonl": jsonl("", *pairs, {"owningId": "../x", "relatedId": "y"}),
            "Post.0.jsonl": jsonl("Post", row(1)),
            "Post_schema.json": json.dumps(schema).encode(),
        }
        self.assertEqual(self.take_in(self.put("e.tar.gz", gzip.compress(tar(archive)))), 1)
        store = open_store(self.database)
        found = store.read(lambda transaction: transaction.relation_page("Post", "likes", ("", "", ""), 10))
        columns = store.read(lambda transaction: transaction.class_info("Post"))["columns"]
        store.close()
        self.assertEqual(found, [(ID % 1, "_User", ID % 5), (ID % 1, "_User", ID % 6)])
        self.assertEqual(columns, {"likes": {"type": "Relation", "className": "_User"}, "late": {"type": "Number"}})
        self.assertIn("Post.likes", self.output.getvalue())

    def test_relation_without_schema_is_told_by_its_members(self):
        rows = jsonl("Tag", row(5)), jsonl("", {"owningId": ID % 1, "relatedId": ID % 5})
        archive = {"Post.0.jsonl": jsonl("Post", row(1)), "Tag.0.jsonl": rows[0], "_Join:tags:Post.0.jsonl": rows[1]}
        self.assertEqual(self.take_in(self.put("e.tar", tar(archive))), 0, self.output.getvalue())
        archive = {"_Join:none:Post.0.jsonl": jsonl("", {"owningId": ID % 1, "relatedId": ID % 99})}
        self.assertEqual(self.take_in(self.put("f.tar", tar(archive))), 1)
        self.assertIn("schema", self.refusals()[0]["reason"])

    def test_what_a_schema_says_in_vain_is_told_by_name(self):
        def index(unique, **key):
            return {"v": 2, "unique": unique, "key": key, "name": "-user-1", "background": True}

        ticket = {
            "schema": {"nid": {"type": "Number", "auto_increment": True}, "n": {"type": "Number", "auto_increment": False}},
            "permissions": {"create": {"*": True}, "find": {"everyone": True}},
            "indexes": [index(True, nid=1), index(True, a=1, b=-1), index(False, late=-1), index(True, _id=1), 7, {"key": 1}],
        }
        many = {f"k{number}": {"type": "Number", "auto_increment": True} for number in range(30)}
        archive = {
            "Ticket.json": json.dumps(ticket).encode(),
            "Many_schema.json": json.dumps(many).encode(),
            "Plain_schema.json": json.dumps({"n": {"type": "Number"}}).encode(),
        }
        self.assertEqual(self.take_in(self.put("e.tar", tar(archive))), 0, self.output.getvalue())
        said = self.output.getvalue()
        for line in (
            "note: 1 auto_increment columns, which go on after their highest number: nid",
            "note: 1 unique indexes that cannot be made here: a+b",
            "note: 1 indexes made",
            "note: 1 indexes that were not made, see `index`: late",
            "note: 2 class permissions that were not taken, see `permissions`: create, find",
            "classes that a schema declared: 3",
        ):
            self.assertIn(f"{line}\n", said)
        self.assertRegex(said, "note: 30 auto_increment columns, .*: k0, .*, k19, ...\n")
        self.assertNotIn("Plain ", said)

    def test_what_a_console_set_of_columns_holds_here(self):
        columns = {
            "ACL": {"type": "ACL", "default": {"*": {"read": True}, "role:staff": {"write": True}}},
            "privateTags": {"type": "Array", "v": 2, "hidden": True},
            "title": {"type": "String", "required": True, "hidden": False},
            "state": {"type": "String", "default": "new"},
            "wrong": {"type": "Number", "default": "1", "hidden": True},
            "plain": {"type": "Number", "required": False, "hidden": False, "default": None},
        }
        archive = {
            "Ticket.json": json.dumps({"schema": columns, "permissions": {}}).encode(),
            "Ticket.0.jsonl": jsonl("Ticket", row(1, privateTags=["x"], title="t")),
        }
        self.assertEqual(self.take_in(self.put("e.tar", tar(archive))), 0, self.output.getvalue())
        self.assertIn("note: 2 columns that clients are not shown, as on LeanCloud: privateTags, wrong\n", self.output.getvalue())
        self.assertIn("note: 1 defaults of columns that were not taken: wrong\n", self.output.getvalue())
        storage = self.start(keys=self.keys)
        [found] = storage.request("GET", "/classes/Ticket")[1]["results"]
        self.assertEqual((found["title"], "privateTags" in found), ("t", False))
        self.assertEqual(storage.request("POST", "/classes/Ticket", {})[1]["error"], "Field 'title' is required.")
        made = storage.request("POST", "/classes/Ticket", {"title": "u"}, query={"fetchWhenSave": "true"})[1]
        self.assertEqual((made["state"], made.get("plain")), ("new", None))

    def test_hidden_columns_stay_hidden_whatever_their_type_is_and_what_is_known_of_them(self):
        first = {"schema": {"note": {"type": "String", "required": True}}, "permissions": {}}
        self.assertEqual(self.take_in(self.put("a.tar", tar({"Ticket.json": json.dumps(first).encode()}))), 0, self.output.getvalue())
        columns = {"note": {"type": "String", "hidden": True}, "free": {"type": "Any", "hidden": True}, "a b": {"type": "Any", "hidden": True}}
        archive = {
            "Ticket.json": json.dumps({"schema": columns, "permissions": {}}).encode(),
            "Ticket.0.jsonl": jsonl("Ticket", row(1, note="secret", free="secret", n=1)),
        }
        self.assertEqual(self.take_in(self.put("b.tar", tar(archive))), 0, self.output.getvalue())
        storage = self.start(keys=self.keys)
        [found] = storage.request("GET", "/classes/Ticket")[1]["results"]
        self.assertEqual((found["n"], "note" in found, "free" in found), (1, False, False))
        self.assertEqual(storage.request("GET", "/classes/Ticket", query={"where": '{"free":"secret"}'})[0], 400)
        self.assertEqual(storage.request("POST", "/classes/Ticket", {})[1]["error"], "Field 'note' is required.")

    def test_schema_with_a_malformed_acl_is_refused_and_the_rest_comes(self):
        schema = {"schema": {"late": {"type": "Number"}}, "permissions": {}, "default_acl": {"*": 5}}
        archive = {"Post_schema.json": json.dumps(schema).encode(), "Tag.0.jsonl": jsonl("Tag", row(5))}
        for options, kept in (({"is_dry": True}, 0), ({}, 1)):
            self.assertEqual(self.take_in(self.put("e.tar", tar(archive)), **options), 1)
            self.assertIn("e.tar:Post_schema.json: Malformed ACL", self.output.getvalue())
            self.assertEqual(len(self.objects("Tag")), kept)


class UsersTest(ImportTestCase):
    def users(self):
        rows = []
        for number, (salt, _, stored) in enumerate(HASHES, 1):
            token = f"token{number:020d}"
            rows.append(row(number, username=f"user{number}", password=stored, salt=salt, sessionToken=token))
        return rows

    def test_users_log_in_with_old_passwords_and_old_sessions(self):
        self.assertEqual(self.take_in(self.put("_User.0.jsonl", jsonl("_User", *self.users()))), 0)
        storage = self.start(keys=self.keys)
        for number, (_, password, _) in enumerate(HASHES, 1):
            token = f"token{number:020d}"
            status, me = storage.request("GET", "/users/me", session=token)
            self.assertEqual((status, me["objectId"]), (200, ID % number))
            for _ in range(2):  # the second time with the upgraded hash
                login = {"username": f"user{number}", "password": password}
                status, answer = storage.request("POST", "/login", login)
                self.assertEqual((status, answer.get("sessionToken")), (200, token), answer)
            self.assertEqual(storage.request("POST", "/login", {**login, "password": password + "x"})[0], 400)
            record = storage.service.store.read(lambda transaction: transaction.record("credential", ID % number))
            self.assertEqual(record["password"]["scheme"], "scrypt")
        self.assertEqual(storage.request("POST", "/users", {"username": "user1", "password": "p"})[1]["code"], 202)
        status, answer = storage.request("GET", f"/users/{ID % 1}", master=True)
        self.assertFalse({"password", "salt"} & set(answer))

    def test_newer_export_brings_the_changed_password_and_ends_the_old_session(self):
        (salt, first, old), (new_salt, second, new), (_, _, third) = HASHES
        old_user = row(1, username="u", password=old, salt=salt, sessionToken="old-token")
        later = {"password": new, "salt": new_salt, "sessionToken": "new-token", "updatedAt": "2021-01-01T00:00:00.000Z"}
        exports = [self.put("1/_User.0.jsonl", jsonl("_User", old_user, row(2, username="v", sessionToken="v-token")))]
        exports.append(self.put("2/_User.0.jsonl", jsonl("_User", {**old_user, **later})))
        for number, path in enumerate([*exports, exports[0]]):  # the older one again brings nothing back
            self.assertEqual(self.take_in(path), 0)
            self.assertEqual("1 users whose password or session had changed" in self.output.getvalue(), number == 1)
            self.assertNotIn("cannot be told", self.output.getvalue())
        undecided = {**old_user, **later, "password": third}  # of the same time
        self.assertEqual(self.take_in(self.put("3/_User.0.jsonl", jsonl("_User", undecided))), 0)
        self.assertIn("note: 1 users who keep the password or session", self.output.getvalue())
        storage = self.start(keys=self.keys)
        self.assertEqual(storage.request("GET", "/users/me", session="old-token")[0], 400)
        self.assertEqual(storage.request("GET", "/users/me", session="v-token")[0], 200)
        for password, status in ((first, 400), (second, 200)):
            answer = storage.request("POST", "/login", {"username": "u", "password": password})
            self.assertEqual((answer[0], answer[1].get("sessionToken")), (status, "new-token" if status == 200 else None))

    def test_newer_export_leaves_whoever_logged_in_or_changed_the_password_here_and_counts_them(self):
        users = self.users()
        self.assertEqual(self.take_in(self.put("1/_User.0.jsonl", jsonl("_User", *users))), 0)
        storage = self.start(keys=self.keys)
        login = {"username": "user1", "password": HASHES[0][1]}
        self.assertEqual(storage.request("POST", "/login", login)[0], 200)
        change = {"old_password": HASHES[1][1], "new_password": "of here"}
        path = f"/users/{ID % 2}/updatePassword"
        self.assertEqual(storage.request("PUT", path, change, session=f"token{2:020d}")[0], 200)
        self.assertEqual(self.take_in(self.put("1/_User.0.jsonl", jsonl("_User", *users))), 0)
        self.assertNotIn("cannot be told", self.output.getvalue())  # nothing changed there
        later = {"updatedAt": "2021-01-01T00:00:00.000Z", "sessionToken": "t"}
        rows = [{**one, **later, "sessionToken": f"there{number}"} for number, one in enumerate(users)]
        self.assertEqual(self.take_in(self.put("2/_User.0.jsonl", jsonl("_User", *rows))), 0)
        self.assertIn("note: 2 users who keep the password or session", self.output.getvalue())
        self.assertEqual(storage.request("POST", "/login", login)[1]["sessionToken"], f"token{1:020d}")
        self.assertEqual(storage.request("POST", "/login", {"username": "user2", "password": "of here"})[0], 200)
        self.assertEqual(storage.request("GET", "/users/me", session="there2")[0], 200)

    def test_newer_export_without_sessions_ends_those_of_whoever_changed_the_password_there(self):
        (salt, _, old), (new_salt, _, new), _ = HASHES
        user = row(1, username="u", password=old, salt=salt, sessionToken="old-token")
        self.assertEqual(self.take_in(self.put("1/_User.0.jsonl", jsonl("_User", user))), 0)
        user |= {"password": new, "salt": new_salt, "updatedAt": "2021-01-01T00:00:00.000Z", "sessionToken": "new"}
        self.assertEqual(self.take_in(self.put("2/_User.0.jsonl", jsonl("_User", user)), rotate_sessions=True), 0)
        storage = self.start(keys=self.keys)
        for token in ("old-token", "new"):
            self.assertEqual(storage.request("GET", "/users/me", session=token)[0], 400)

    def test_users_without_a_password_are_counted_on_every_page(self):
        store = open_store(f"sqlite:///{self.folder}/counted.db")
        self.addCleanup(store.close)
        users = [Row(f"u{number}", number, number, None, {"authData": {"github": {"uid": "1"}}} if number < 2 else {}) for number in range(7)]
        store.write(lambda transaction: transaction.insert_many("_User", [(row.id, row.created, row.updated, None, json.dumps(row.body)) for row in users]))
        store.write(lambda transaction: transaction.put_record("credential", "u6", {"password": {"scheme": "scrypt"}}))
        for rows in (1, 2, 3, 7, 1000):
            with self.subTest(rows), mock.patch.object(credentials, "PAGE_ROWS", rows):
                self.assertEqual([count for _, count in credentials.missing(store)], [4, 2])

    def test_import_under_other_keys_ends_no_session(self):
        self.assertEqual(self.take_in(self.put("1/_User.0.jsonl", jsonl("_User", *self.users()))), 0)
        right, self.keys = self.keys, {**self.keys, "master_key": "forgotten"}
        later = [{**one, "updatedAt": "2021-01-01T00:00:00.000Z"} for one in self.users()]
        with self.assertRaisesRegex(ValueError, "this database belongs to another master key"):
            self.take_in(self.put("2/_User.0.jsonl", jsonl("_User", *later)))
        self.adopt(self.keys)
        self.assertEqual(self.take_in(self.put("2/_User.0.jsonl", jsonl("_User", *later))), 0, self.output.getvalue())
        self.assertNotIn("had changed", self.output.getvalue())
        self.adopt(right)
        storage = self.start(keys=right)
        self.assertEqual(storage.request("GET", "/users/me", session=f"token{1:020d}")[0], 200)

    def test_rotated_sessions_end_and_passwords_stay(self):
        path = self.put("_User.0.jsonl", jsonl("_User", *self.users()))
        self.assertEqual(self.take_in(path, rotate_sessions=True), 0)
        storage = self.start(keys=self.keys)
        self.assertEqual(storage.request("GET", "/users/me", session=f"token{1:020d}")[0], 400)
        self.assertEqual(storage.request("POST", "/login", {"username": "user1", "password": "password"})[0], 200)

    def test_accounts_that_collide_are_refused_and_odd_ones_can_still_change(self):
        weixin = {"weixin": {"openid": "o1"}, "odd": {"token": "no id"}}
        rows = [
            row(1, username="a", authData=weixin),
            row(2, username="a"),
            row(3, username="c", authData={"weixin": {"openid": "o1"}}),
            row(4, username="d", sessionToken=["no"]),
            row(5, username=5),
            row(6, username="f", email=None, mobilePhoneNumber=""),
            row(7, username="g", password={"x": "secret-hash"}),
        ]
        self.assertEqual(self.take_in(self.put("_User.0.jsonl", jsonl("_User", *rows))), 1)
        reasons = {one["line"]: one["reason"] for one in self.refusals()}
        self.assertEqual(sorted(reasons), [3, 4, 6, 8])
        self.assertIn("1 users whose session is no text of a usable length: they have to log in anew", self.output.getvalue())
        self.assertIn("its username belongs", reasons[3])
        self.assertIn("its authData.weixin belongs", reasons[4])
        self.assertNotIn("secret-hash", self.output.getvalue())
        self.assertIn("1 users with a weixin account, which was never verified here", self.output.getvalue())
        storage = self.start(keys=self.keys)
        self.assertEqual(storage.request("PUT", f"/users/{ID % 1}", {"nick": "x"}, master=True)[0], 200)
        self.assertEqual(storage.request("DELETE", f"/users/{ID % 1}", master=True)[0], 200)
        self.assertEqual(storage.request("POST", "/users", {"username": "a", "password": "p"})[0], 201)

    def test_two_users_with_one_phone_are_both_kept_and_told_of(self):
        rows = [row(1, username="a", mobilePhoneNumber="13900000000"), row(2, username="b", mobilePhoneNumber="+86 13900000000")]
        self.assertEqual(self.take_in(self.put("_User.0.jsonl", jsonl("_User", *rows, row(3, username="c", mobilePhoneNumber="+8613900000003")))), 0)
        self.assertIn("1 users whose phone number another user has too", self.output.getvalue())

    def test_roles_grant_what_they_granted(self):
        archive = {
            "_Role.0.jsonl": jsonl("_Role", row(1, name="Editors", ACL={"*": {"read": True}}), row(2, name="Editors")),
            "_Join:users:_Role.0.jsonl": jsonl("", {"owningId": ID % 1, "relatedId": ID % 1}),
            "_User.0.jsonl": jsonl("_User", self.users()[0]),
            "Post.0.jsonl": jsonl("Post", row(5, n=1, ACL={"role:Editors": {"read": True}})),
        }
        self.assertEqual(self.take_in(self.put("e.tar", tar(archive))), 1)
        storage = self.start(keys=self.keys)
        self.assertEqual(storage.request("GET", "/classes/Post")[1], {"results": []})
        found = storage.request("GET", "/classes/Post", session=f"token{1:020d}")[1]["results"]
        self.assertEqual([one["objectId"] for one in found], [ID % 5])
        self.assertEqual(storage.request("POST", "/roles", {"name": "Editors", "ACL": {}})[1]["code"], 137)

    def test_files_are_found_by_their_key(self):
        external = row(2, name="b", url="http://elsewhere/b", key=None, metaData={"__source": "external"})
        files = jsonl("_File", row(1, name="a.png", key="k/a.png", url="http://old/k/a.png"), external)
        self.assertEqual(self.take_in(self.put("_File.0.jsonl", files)), 0)
        storage = self.start(keys=self.keys)
        self.assertEqual(storage.request("GET", f"/files/{ID % 1}")[1]["url"], f"{storage.url}/k/a.png")
        self.assertEqual(storage.request("GET", f"/files/{ID % 2}")[1]["url"], "http://elsewhere/b")
        blobs = storage.service.blobs
        path, _, _ = blobs.write([b"bytes"])
        blobs.keep(path, "k/a.png")
        self.assertEqual(storage.request("GET", f"{storage.url}/k/a.png"), (200, b"bytes"))


class HostileTest(ImportTestCase):
    def refuse(self, name, data, reason):
        """The import ends with code 1, the reason, and no traceback."""
        self.assertEqual(self.take_in(self.put(name, data)), 1)
        self.assertIn(reason, self.output.getvalue())
        self.assertNotIn("Traceback", self.output.getvalue())

    def test_archives_with_paths_and_links_that_lead_out_are_refused_member_by_member(self):
        names = ["../Post.0.jsonl", "/Post.0.jsonl", "a/../../Post.0.jsonl", "C:/Post.0.jsonl", "..\\Post.0.jsonl"]
        for number, name in enumerate(names):
            with self.subTest(name):
                archive = tar({name: jsonl("Bad", row(1)), "Good.0.jsonl": jsonl("Good", row(number))})
                self.refuse(f"{number}.tar", archive, "leads out of the archive")
                with zipfile.ZipFile(self.folder / "e.zip", "w") as packed:
                    packed.writestr(name, jsonl("Bad", row(1)))
                self.assertEqual(self.take_in(self.folder / "e.zip"), 1)
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            self.refuse("l.tar", tar({"Post.0.jsonl": kind}), "a link or a device")
        self.assertEqual(self.objects("Bad"), {})
        self.assertEqual(len(self.objects("Good")), len(names))
        os.symlink("/etc/passwd", self.folder / "links.jsonl")
        (self.folder / "in").mkdir()
        os.symlink("/etc/passwd", self.folder / "in" / "Post.0.jsonl")
        self.assertEqual(self.take_in(self.folder / "in"), 1)
        self.assertIn("symbolic link", self.output.getvalue())

    def test_damaged_archives_give_what_is_whole_and_say_so(self):
        rows = jsonl("Post", *(row(number % 250, n="x" * 50, i=number) for number in range(200)))
        packed = gzip.compress(os.urandom(3000).hex().encode().join([b"#", b"\n" + rows]))
        cases = {
            "cut gzip": ("Post.0.jsonl.gz", packed[: len(packed) - 200], "ends too early"),
            "damaged gzip": ("Post.1.jsonl.gz", packed[:2500] + b"\0" * 40 + packed[2540:], "damaged"),
            "cut tar": ("e.tar", tar({"Post.2.jsonl": rows})[:3000], "ends too early"),
            "not tar": ("f.tar", b"x" * 2000, "damaged"),
            "zip": ("g.zip", b"PK\x03\x04" + b"x" * 500, "damaged"),
            "binary": ("Post.h.jsonl", b"\x00\x01\x02" * 100, "neither"),
            "archive in archive": ("i.tar", tar({"x.zip": b"PK\x03\x04zip"}), "archive within an archive"),
            "class": ("j.jsonl", b'#filetype:JSON-streaming {"type":"Class","class":"../x"}\n{}', "not a class"),
            "open array": ("Note.json", json.dumps([row(1), row(2)]).encode()[:-1], "not closed"),
            "rows after the array": ("Note.json", json.dumps([row(1)]).encode() + jsonl("", row(2)), "follows"),
            "schema": ("Post_schema.json", b"[1, 2", "schema is not valid JSON"),
        }
        for title, (name, data, reason) in cases.items():
            with self.subTest(title):
                self.refuse(f"{title}/{name}", data, reason)
        for one in self.objects("Post").values():
            self.assertEqual(one.body["n"], "x" * 50)  # never a part of a row

    def test_decompression_bombs_are_refused(self):
        with mock.patch.multiple(sources, RATIO_FROM_BYTES=1 << 20):
            bomb = gzip.compress(b'{"objectId": "a", "t": "' + b" " * (8 << 20))
            self.refuse("Post.0.jsonl.gz", bomb, "unpacks to more than")
            with zipfile.ZipFile(self.folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
                packed.writestr("Post.0.jsonl", b'{"objectId": "a", "t": "' + b" " * (8 << 20))
            self.assertEqual(self.take_in(self.folder / "bomb.zip"), 1)
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 1 << 30
        self.refuse("pax.tar", header.tobuf() + b"x" * 2000, "a header of")

    def test_line_of_100_mb_is_refused_alone_and_not_kept_in_memory(self):
        path = self.folder / "Post.0.jsonl"
        with open(path, "wb") as file:
            file.write(jsonl("Post", row(1)))
            file.write(b'{"objectId": "x", "t": "')
            for _ in range(100):
                file.write(b"x" * 1_000_000)
            file.write(b'"}\n' + json.dumps(row(2)).encode())
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(self.take_in(path), 1)
        self.assertLess(tracemalloc.get_traced_memory()[1], 80e6)
        self.assertEqual(sorted(self.objects("Post")), [ID % 1, ID % 2])
        [refused] = self.refusals()
        self.assertIn("longer than", refused["reason"])
        self.assertEqual(refused["line"], 3)

    def test_too_many_columns_are_refused_by_row(self):
        wide = row(2, **{f"k{number}": 1 for number in range(400)})
        self.assertEqual(self.take_in(self.put("Post.0.jsonl", jsonl("Post", row(1, n=1), wide))), 1)
        self.assertEqual(list(self.objects("Post")), [ID % 1])

    def test_texts_of_an_export_cannot_write_to_the_terminal(self):
        self.refuse("e.tar", tar({"\x1b[2J/Post.0.jsonl": b""}), "leads out")
        self.take_in(self.put("Post.0.jsonl", b'{"objectId": "\x1b[2Jx"}\n{"objectId": "a\\u001b[2J"}'))
        self.assertNotIn("\x1b", self.output.getvalue())


class OperatorTest(ImportTestCase):
    def test_bson_without_pymongo_is_refused_with_what_to_do(self):
        with mock.patch.object(bson_rows, "is_available", return_value=False):
            self.assertEqual(self.take_in(self.put("Post.x.bson", b"\x05\0\0\0\0")), 1)
        self.assertIn("pip install pymongo", self.output.getvalue())

    def test_terminal_shows_a_bar_with_rate_and_time_left(self):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        screen, out = Terminal(), io.StringIO()
        rows = [row(0) | {"objectId": f"x{number}"} for number in range(2500)]
        path = self.put("Post.0.jsonl", jsonl("Post", *rows))
        with mock.patch.multiple(report_module, TERMINAL_SECONDS=0):
            report = Report(self.refused, screen, out)
            self.assertEqual(importer.run([path], self.database, self.keys, self.refused, report=report), 0)
        self.assertRegex(screen.getvalue(), r"Post: 2000 rows, \d+ rows/s \[#+ *\] \d+ %, 0:\d\d left")
        self.assertTrue(screen.getvalue().endswith("\r\x1b[K"), "the line of the bar is left clean")

    def test_columns_are_counted_once_however_many_rows_have_them(self):
        rows = [{"objectId": f"x{number}", "a": 1, "b": 2, "c": 3} for number in range(4)]
        rows[1]["a"] = "another type"  # so that every row is looked at alone
        path = self.put("Wide.0.jsonl", jsonl("Wide", *rows, {"objectId": "x4", "d": 4}, {"objectId": "x5", "e": 5}))
        with mock.patch.object(classes, "MAX_COLUMNS", 4):
            self.assertEqual(self.take_in(path), 1)
        self.assertEqual(sorted(self.objects("Wide")), ["x0", "x2", "x3", "x4"])

    def test_log_has_a_line_of_progress_now_and_then(self):
        log, rows = io.StringIO(), [row(0) | {"objectId": f"x{number}"} for number in range(2500)]
        path = self.put("Post.0.jsonl", jsonl("Post", *rows))
        with mock.patch.multiple(report_module, PLAIN_SECONDS=0):
            report = Report(self.refused, log, io.StringIO())
            self.assertEqual(importer.run([path], self.database, self.keys, self.refused, report=report), 0)
        self.assertRegex(log.getvalue(), r"(?m)\APost: 2500 rows, \d+ rows/s \[#+ *\] .* left\nPost: 2500 rows, \d+ rows/s$")
        self.assertNotIn("\x1b", log.getvalue())

    def test_command_line_ends_with_every_figure_and_the_right_code(self):
        def run(*arguments):
            command = [sys.executable, "-W", "error", "-m", "leanstorage", *arguments]
            environment = {**os.environ, "LEANSTORAGE_DATA": str(self.data)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
            self.assertNotIn("Traceback", done.stderr)
            return done

        good = self.put("Post.0.jsonl", jsonl("Post", row(1), row(2)))
        bad = self.put("Note.0.jsonl", jsonl("Note", row(1)) + b"{\n")
        done = run("import", str(good))
        self.assertEqual(done.returncode, 0, done.stderr)
        pattern = r"read 2, imported 2, skipped 0, refused 0 rows and 0 files; [\d.]+ s, \d+ rows/s, peak memory \d+ MB"
        self.assertRegex(done.stdout.splitlines()[-1], pattern)
        done = run("import", str(bad), str(good))
        self.assertEqual(done.returncode, 1)
        self.assertIn("imported 1, skipped 2, refused 1 rows", done.stdout.splitlines()[-1])
        [refused] = self.data.glob("refused-*.jsonl")
        self.assertEqual(stat.S_IMODE(os.stat(refused).st_mode), 0o600)
        done = run("import", str(self.folder / "nothing"))
        self.assertEqual((done.returncode, "there is no" in done.stderr), (2, True))
        done = run("export", str(self.folder / "out"))
        self.assertIn("exported 3 objects of 2 classes", done.stdout.splitlines()[-1])
        self.assertEqual(run("export", str(self.folder / "out")).returncode, 1)
        self.assertEqual(run("pull", "--from", "ftp://nowhere").returncode, 1)


class ProcessesTest(ImportTestCase):
    def test_rows_converted_in_other_processes_come_out_the_same(self):
        rows = [row(number % 250, n=number) | {"objectId": f"{number:024x}"} for number in range(3000)]
        path = self.put("Post.0.jsonl", jsonl("Post", *rows))
        with mock.patch.multiple(importer, INLINE_BATCHES=1), mock.patch.multiple(raw_rows, BATCH_ROWS=500):
            with mock.patch("os.cpu_count", return_value=2):
                self.assertEqual(self.take_in(path), 0, self.output.getvalue())
        found = self.objects("Post")
        self.assertEqual(
            {key: one.body["n"] for key, one in found.items()}, {one["objectId"]: one["n"] for one in rows}
        )

    def test_stored_tokens_are_sealed(self):
        users = jsonl("_User", row(1, username="u", sessionToken="clear-token-0123456789"))
        self.assertEqual(self.take_in(self.put("_User.0.jsonl", users)), 0)
        for name in os.listdir(self.data):
            self.assertNotIn(b"clear-token-0123456789", (self.data / name).read_bytes())
        self.assertEqual(passwords.legacy_hash("", ""), HASH_OF_NOTHING)


HASH_OF_NOTHING = "VLi+HaZVjEjwLGdPle3OTJhOT85Tb9b2PSZ4kJnkTSvslKglpYpBdfqqugZ+3fTyEPIunxgGE/WTdnVkEI9upg=="
