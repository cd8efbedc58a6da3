"""Export: what import reads, without loss, for the owner's eyes only."""

import io
import os
import re
import stat

from leanstorage import keys as key_files
from leanstorage.store import Row, open_store
from leanstorage.takeout import exporter, importer
from leanstorage.takeout.report import Report
from leanstorage.values import pointer
from tests.storage_support import StorageTestCase


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
        self.assertTrue(re.search(r"exported 2504 objects of 4 classes and 2504 members of relations", first), first)
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

    def test_folder_in_use_is_refused(self):
        storage = self.start()
        (self.folder / "used").mkdir()
        (self.folder / "used" / "file").touch()
        with self.assertRaises(FileExistsError):
            exporter.run(self.folder / "used", storage.database, storage.keys)
