"""Export: what import reads, without loss, for the owner's eyes only."""

import io
import json
import os
import re
import stat
from unittest import mock

from leanstorage.rules import indexes
from leanstorage import keys as key_files
from leanstorage.store import Row, open_store
from leanstorage.takeout import exporter, importer, inboxes
from leanstorage.takeout.report import Report
from leanstorage.rules.values import pointer
from tests.leanstorage.storage_support import StorageTestCase


class ExportTest(StorageTestCase):
    def fill(self):
        """A store as clients fill it: users of every kind, a role, relations, files, a class of all types."""
        storage = self.start()
        ids = []
        for name in ("ann", "bob"):
            answer = storage.request("POST", "/users", {"username": name, "password": f"{name}!"})[1]
            ids.append(answer["objectId"])
        add = {"__op": "AddRelation", "objects": [pointer("_User", one) for one in ids]}
        storage.request("POST", "/roles", {"name": "All", "users": add, "ACL": {"*": {"read": True}}})
        everything = {
            "text": 'line\u2028 \\ " 😀',
            "none": None,
            "big": 2**62 + 1,
            "list": [1.5, None, {"a": [pointer("_User", ids[0])]}],
            "at": {"__type": "Date", "iso": "1969-12-31T23:59:59.999Z"},
            "raw": {"__type": "Bytes", "base64": "AAE="},
            "geo": {"__type": "GeoPoint", "latitude": 1.5, "longitude": -2},
            "fans": add,
            "ACL": {ids[0]: {"read": True, "write": True}},
        }
        self.assertEqual(storage.request("POST", "/classes/Thing", everything, master=True)[0], 201)
        for number in range(2500):
            row = Row(f"{number:024x}", 1000, 1000 + number, None, {"n": number})
            storage.service.store.write(lambda transaction, row=row: transaction.insert("Many", row))

        def declare(transaction):
            transaction.save_class(
                "Many",
                {
                    "columns": {"n": {"type": "Number"}},
                    "permissions": {"delete": {"users": True, "names": ["role:All"]}},
                    "default_acl": {"owner": {"read": True}},
                },
            )
            pairs = [(f"{number:024x}", f"{number % 7:024x}") for number in range(2500)]
            transaction.relate_many("Thing", "fans", "_User", pairs)

        storage.service.store.write(declare)
        indexes.create(storage.service.store, "Many", ["n"])
        indexes.create(storage.service.store, "Thing", ["text", "big"])
        session = storage.request("POST", "/login", {"username": "ann", "password": "ann!"})[1]["sessionToken"]
        for number in range(3):
            for kind in ("default", "private"):
                query = {"className": "_User", "where": {"objectId": ids[1]}}
                body = {"inboxType": kind, "data": {"message": str(number)}, "query": query}
                self.assertEqual(storage.request("POST", "/statuses", body, session=session)[0], 201)
        self.bob = ids[1]
        return storage

    def export(self, database, keys, name):
        out = io.StringIO()
        self.assertEqual(exporter.run(self.folder / name, database, keys, out, out), 0)
        return out.getvalue()

    def take_in(self, folder, database, keys):
        out = io.StringIO()
        code = importer.run([folder], database, keys, self.folder / "refused", report=Report("x", out, out))
        self.assertEqual(code, 0, out.getvalue())

    def test_round_trip_loses_nothing(self):
        storage = self.fill()
        first = self.export(storage.database, storage.keys, "one")
        self.assertIn("Many: 2500 objects", first)
        self.assertIn("Thing.fans: 2502 members", first)
        self.assertIn("inboxes: 10 lines and counters", first)
        self.assertTrue(re.search(r"exported 2510 objects of 5 classes and 2504 members of relations", first), first)
        other = key_files.load(self.folder / "other")
        database = f"sqlite:///{self.folder / 'other' / 'leanstorage.db'}"
        self.take_in(self.folder / "one", database, other)
        second = self.export(database, other, "two")
        self.assertEqual([line for line in first.splitlines()[:-1]], [line for line in second.splitlines()[:-1]])
        for name in os.listdir(self.folder / "one"):
            with self.subTest(name):
                one, two = ((self.folder / part / name).read_bytes() for part in ("one", "two"))
                self.assertEqual(one, two)
                self.assertEqual(stat.S_IMODE(os.stat(self.folder / "one" / name).st_mode), 0o600)
        store = open_store(database)
        self.addCleanup(store.close)
        self.assertEqual(store.read(lambda transaction: transaction.role_names("x")), [])

    def test_users_go_on_where_they_move_to(self):
        storage = self.fill()
        token = storage.request("POST", "/login", {"username": "ann", "password": "ann!"})[1]["sessionToken"]
        self.export(storage.database, storage.keys, "one")
        keys = key_files.load(self.folder / "other")
        self.take_in(self.folder / "one", f"sqlite:///{self.folder / 'other' / 'leanstorage.db'}", keys)
        moved = self.start("other", keys=keys)
        self.assertEqual(moved.request("GET", "/users/me", session=token)[1]["username"], "ann")
        answer = moved.request("POST", "/login", {"username": "ann", "password": "ann!"})[1]
        self.assertEqual(answer["sessionToken"], token)
        found = moved.request("GET", "/classes/Thing", session=token)[1]["results"]
        self.assertEqual([one["big"] for one in found], [2**62 + 1])

    def test_indexes_and_inboxes_come_back_and_what_is_here_stays(self):
        storage = self.fill()
        self.export(storage.database, storage.keys, "one")
        keys = key_files.load(self.folder / "other")
        database = f"sqlite:///{self.folder / 'other' / 'leanstorage.db'}"
        with mock.patch.object(inboxes, "PAGE_ROWS", 3):
            self.assertEqual(len(list(inboxes.rows(storage.service.store))), 10)
        self.take_in(self.folder / "one", database, keys)
        moved = self.start("other", keys=keys)
        found = moved.service.store.read(lambda transaction: indexes.listed(transaction, "Thing"))
        self.assertEqual(found, [["text", "big"]])
        session = moved.request("POST", "/login", {"username": "bob", "password": "bob!"})[1]["sessionToken"]
        for kind in ("default", "private"):
            answers = []
            for one in (storage, moved):
                query = {"inboxType": kind}
                counted = one.request("GET", "/subscribe/statuses/count", session=session, query=query)[1]
                self.assertEqual(counted, {"total": 3, "unread": 3})
                answers.append(one.request("GET", "/subscribe/statuses", session=session, query=query)[1])
            self.assertEqual(*answers)
            self.assertEqual([line["messageId"] for line in answers[1]["results"]], [3, 2, 1])
        owner = {"owner": json.dumps(pointer("_User", self.bob)), "inboxType": "default"}
        self.assertEqual(moved.request("POST", "/subscribe/statuses/resetUnreadCount", owner, session=session)[0], 200)
        body = {"data": {"message": "here"}, "query": {"className": "_User", "where": {"objectId": self.bob}}}
        self.assertEqual(moved.request("POST", "/statuses", body, session=session)[0], 201)
        self.take_in(self.folder / "one", database, keys)
        counted = moved.request("GET", "/subscribe/statuses/count", session=session, query={"inboxType": "default"})[1]
        self.assertEqual(counted, {"total": 4, "unread": 1})

    def test_malformed_inboxes_and_indexes_are_refused_and_the_rest_comes(self):
        (self.folder / "odd").mkdir()
        line = {"owner": "u1", "inboxType": "default", "messageId": 7, "status": "s1"}
        bad = [{"status": "../x"}, {"messageId": -1}, {"messageId": True}, {"inboxType": "a:b"}, {"owner": 5}, {"x": 1}]
        rows = [line, {**line, "status": "s2"}, *({**line, **one} for one in bad)]
        text = '#filetype:JSON-streaming {"type":"Inboxes"}\n' + "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / "odd" / inboxes.FILE).write_text(text)
        schema = {"schema": {"n": {"type": "Number"}}, "indexes": [["n"], ["nothing"], "n", [5]]}
        (self.folder / "odd" / "Post_schema.json").write_text(json.dumps(schema))
        keys = key_files.load(self.folder / "other")
        database = f"sqlite:///{self.folder / 'other' / 'leanstorage.db'}"
        out = io.StringIO()
        report = Report(self.folder / "refused", out, out)
        self.assertEqual(importer.run([self.folder / "odd"], database, keys, "x", report=report), 1)
        self.assertIn("read 8, imported 1, skipped 0, refused 7 rows and 0 files, 1 failed", out.getvalue())
        self.assertIn("failed: index of Post nothing: nothing cannot be indexed", out.getvalue())
        store = open_store(database)
        self.addCleanup(store.close)
        self.assertEqual(store.read(lambda transaction: indexes.listed(transaction, "Post")), [["n"]])
        last = store.read(lambda transaction: transaction.record("inbox", "u1:default:last"))
        self.assertEqual(last, {"number": 7})  # so that no number is given twice

    def test_folder_in_use_is_refused(self):
        storage = self.start()
        (self.folder / "used").mkdir()
        (self.folder / "used" / "file").touch()
        with self.assertRaises(FileExistsError):
            exporter.run(self.folder / "used", storage.database, storage.keys)
