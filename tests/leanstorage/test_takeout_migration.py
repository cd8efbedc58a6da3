import io
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from leanstorage.rules import indexes
from leanstorage.rules.call import Options
from leanstorage.http.application import create_application, open_service
from leanstorage.takeout import migration
from tests.leanstorage.service_support import KEYS, ServiceTestCase, open_database


class Cut(Exception):
    pass


class MigrationTest(ServiceTestCase):
    """From the database of the tests to a new SQLite one, and back to a new one of the first kind."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        case = cls("api")
        user = case.api("POST", "/users", {"username": "ann", "password": "secret中"})
        cls.session = user["sessionToken"]
        for number in range(250):
            rights = {user["objectId"]: {"read": True, "write": True}} if number % 5 == 0 else {"*": {"read": True}}
            case.api("POST", "/classes/Todo", {"n": number, "text": f"中\"' {number}", "ACL": rights, "half": number / 2})
        team = case.api("POST", "/classes/Team", {"name": "t"})["objectId"]
        todos = case.api("GET", "/classes/Todo", master=True, limit=30, keys="n")["results"]
        pointers = [{"__type": "Pointer", "className": "Todo", "objectId": todo["objectId"]} for todo in todos]
        case.api("PUT", f"/classes/Team/{team}", {"todos": {"__op": "AddRelation", "objects": pointers}})
        case.api("DELETE", f"/classes/Todo/{todos[-1]['objectId']}", master=True)
        indexes.create(cls.service.store, "Todo", ["n"])

    def setUp(self):
        folder = Path(tempfile.mkdtemp(prefix="migration-"))
        self.addCleanup(shutil.rmtree, folder)
        self.copy = f"sqlite:///{folder}/copy.db"

    def migrate(self, source, target):
        out = io.StringIO()
        code = migration.run(source, target, out, io.StringIO())
        return code, out.getvalue()

    def test_copy_is_equal_and_its_users_stay_logged_in(self):
        code, text = self.migrate(self.database, self.copy)
        self.assertEqual(code, 0, text)
        self.assertIn("objects of Todo: 249, digest", text)
        self.assertIn("relations: 30, digest", text)
        service = open_service(KEYS, self.copy, self.folder / "files", None, Options())
        self.addCleanup(service.store.close)
        with mock.patch.object(self, "application", create_application(service)):
            self.assertEqual(self.api("GET", "/users/me", session=self.session)["username"], "ann")
            self.api("POST", "/login", {"username": "ann", "password": "secret中"})
            self.assertEqual(self.api("GET", "/classes/Todo", session=self.session, count=1, limit=0)["count"], 249)
            self.assertEqual(self.api("GET", "/classes/Todo", count=1, limit=0)["count"], 199)
            self.assertEqual(len(self.api("GET", "/classes/Todo", where={"n": 7})["results"]), 1)
            self.code(202, "POST", "/users", {"username": "ann", "password": "x"})
        found = service.store.read(lambda transaction: indexes.listed(transaction, "Todo"))
        self.assertEqual(found, [["n"]])

    def test_copy_of_the_copy_has_the_same_digests(self):
        _, first = self.migrate(self.database, self.copy)
        back, drop = open_database(self.copy.removeprefix("sqlite:///") + ".back")
        if back.startswith("sqlite"):
            Path(back.removeprefix("sqlite:///")).parent.mkdir()
        self.addCleanup(drop)
        code, second = self.migrate(self.copy, back)
        self.assertEqual(code, 0)
        self.assertEqual(first.splitlines()[:-1], second.splitlines()[:-1])

    def test_run_that_was_cut_off_at_any_piece_goes_on_where_it_was(self):
        saved = migration._save
        with mock.patch.object(migration, "PIECE", 40):
            for number in range(1000):
                left = [2]

                def cut(*arguments):
                    saved(*arguments)
                    left[0] -= 1  # noqa: B023
                    if not left[0]:  # noqa: B023
                        raise Cut

                try:
                    with mock.patch.object(migration, "_save", cut):
                        code, text = self.migrate(self.database, self.copy)
                    break
                except Cut:
                    pass
        self.assertGreater(number, 3)
        self.assertEqual(code, 0, text)
        self.assertIn("objects of Todo: 249,", text)

    def test_target_in_use_and_missing_source_are_refused(self):
        self.assertEqual(self.migrate(self.database, self.copy)[0], 0)
        for source, target, words in (
            (self.database, self.copy, "not empty"),
            (self.database, self.database, "the same database"),
            (self.copy + ".none", self.copy, "there is no"),
        ):
            with self.subTest(words=words), self.assertRaisesRegex(ValueError, words):
                self.migrate(source, target)

    def test_source_that_is_written_to_meanwhile_is_noticed(self):
        copied = migration._copy_records

        def write_too(source, target, position, progress):
            copied(source, target, position, progress)
            row = source.read(lambda transaction: transaction.page("Todo", (0, 0), 1))[0]
            row.body["n"] = -1
            source.write(lambda transaction: transaction.update("Todo", row))

        with mock.patch.object(migration, "_copy_records", write_too):
            code, text = self.migrate(self.database, self.copy)
        self.assertEqual(code, 1)
        self.assertIn("the copy differs", text)


if __name__ == "__main__":
    unittest.main()
