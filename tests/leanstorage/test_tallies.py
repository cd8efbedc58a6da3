"""Counts that an index of the ACL keeps: the same as those of all objects, whatever was written, by whom and at once."""
import io
import os
import random
import threading
import unittest
from dataclasses import replace

from leanstorage.rules import indexes
from leanstorage.rules.where import parse_where
from leanstorage.store import open_store, Query, Row, tallies
from leanstorage.store.fragments import index_name
from leanstorage.takeout import migration
from tests.leanstorage import model
from tests.leanstorage.service_support import ServiceTestCase

COLUMNS = {
    "flag": {"type": "Boolean"},
    "score": {"type": "Number"},
    "state": {"type": "String"},
    "team": {"type": "Pointer", "className": "Team"},
    "due": {"type": "Date"},
    "tags": {"type": "Array"},
}
ACLS = (None, {"*": {"read": True}}, {}, {"u1": {"read": True}}, {"u1": {"read": True}, "role:r": {"read": True}}, {"u2": {"write": True}})
PRINCIPALS = (None, ("*",), ("*", "u1"), ("*", "u1", "role:r"), ("*", "u2"))
KEYS = ("flag", "score", "state", "team", "due")
TEAM = {"__type": "Pointer", "className": "Team", "objectId": "t1"}
DATE = {"__type": "Date", "iso": "2026-01-03T00:00:00.000Z"}
WHERES = (
    {}, {"flag": True}, {"flag": False}, {"flag": None}, {"flag": {"$ne": True}}, {"flag": "true"}, {"flag": True, "score": 3}, {"score": 3}, {"score": 3.0},
    {"score": {"$gt": 2}}, {"score": {"$gte": 1, "$lt": 3}}, {"score": {"$in": [1, 2, 7]}}, {"score": {"$in": [1, None]}},
    {"score": {"$gt": "a"}}, {"score": {"$exists": False}}, {"state": "s1"}, {"state": "long" * 100 + "1"}, {"state": {"$gt": "s1"}},
    {"state": {"$in": ["s1", "s2"]}}, {"team": TEAM}, {"team": {**TEAM, "className": "Other"}}, {"due": DATE}, {"due": {"$gt": DATE}},
    {"$or": [{"flag": True}, {"score": 3}]},
)  # fmt: skip


def body(rng):
    found = {
        "flag": rng.choice([True, False, None]),
        "score": rng.choice([0, 1, 2, 2.0, 3, 3.5, -1, None]),
        "state": rng.choice(["s1", "s2", "", "long" * 100 + "1", "long" * 100 + "2", None]),
        "team": {**TEAM, "objectId": rng.choice(["t1", "t2"])},
        "due": {**DATE, "iso": rng.choice([DATE["iso"], "2026-02-03T00:00:00.000Z"])},
    }
    return {key: value for key, value in found.items() if rng.randrange(5)}


class TallyTest(ServiceTestCase):
    def setUp(self):
        self.store = self.service.store
        self.rng, self.rows = random.Random(5), {}
        self.made = 0
        self.name = "Counted" + "".join(word[:2] for word in self._testMethodName.split("_"))
        info = {"columns": COLUMNS, "permissions": {}, "default_acl": None}
        self.store.write(lambda transaction: transaction.save_class(self.name, info))
        self.add(60)

    def add(self, many):
        start, self.made = self.made, self.made + many

        def work(transaction):
            for number in range(many):
                row = Row(f"{self.name}{start + number}", 1, 1, self.rng.choice(ACLS), body(self.rng))
                self.assertTrue(transaction.insert(self.name, row))
                self.rows[row.id] = row

        self.store.write(work)

    def index_all(self):
        for keys in (["ACL"], *(["ACL", key] for key in KEYS)):
            indexes.create(self.store, self.name, keys)

    def write_at_random(self, steps):
        for _ in range(steps):
            object_id = self.rng.choice(list(self.rows))
            if self.rng.random() < 0.3:
                self.store.write(lambda transaction: transaction.delete(self.name, object_id, 1))  # noqa: B023 at once
                del self.rows[object_id]
            else:
                row = Row(object_id, 1, 2, self.rng.choice(ACLS), body(self.rng))
                self.store.write(lambda transaction: transaction.update(self.name, row))  # noqa: B023
                self.rows[object_id] = row

    def query(self, where, principals):
        query, _ = parse_where(self.name, where)
        return replace(query, principals=principals)

    def assert_exact(self):
        for where in WHERES:
            for principals in PRINCIPALS:
                with self.subTest(where=str(where)[:70], principals=principals):
                    query = self.query(where, principals)
                    found = self.store.read(lambda transaction: transaction.count(query))  # noqa: B023
                    self.assertEqual(found, self.expected(where, principals))

    def expected(self, where, principals):
        def may_read(acl):
            return principals is None or acl is None or any(acl.get(name, {}).get("read") for name in principals)

        return sum(may_read(row.acl) and model.matches(row.body, where) for row in self.rows.values())

    def is_served(self, where, principals):
        def work(transaction):
            compiler = transaction.compiler(transaction.known)
            return tallies.count(compiler, self.query(where, principals)) is not None

        return self.store.read(work)

    def test_counts_are_exact_after_every_kind_of_write(self):
        self.index_all()
        self.assert_exact()
        self.write_at_random(120)
        self.add(40)
        self.assert_exact()

    def test_index_serves_what_it_keeps_and_nothing_else(self):
        self.index_all()
        for where, wanted in (
            ({}, True), ({"flag": True}, True), ({"score": {"$gt": 2, "$lt": 9}}, True), ({"team": TEAM}, True), ({"due": DATE}, True),
            ({"state": "s1"}, True), ({"score": {"$in": [1, 2]}}, True), ({"flag": None}, False), ({"flag": True, "score": 1}, False),
            ({"state": {"$gt": "s1"}}, False), ({"$or": [{"flag": True}, {"score": 1}]}, False), ({"score": {"$ne": 1}}, False),
        ):  # fmt: skip
            for principals in PRINCIPALS:
                with self.subTest(where=where, principals=principals):
                    self.assertIs(self.is_served(where, principals), wanted)

    def test_users_count_needs_the_index_of_the_acl_alone(self):
        indexes.create(self.store, self.name, ["ACL", "flag"])
        for principals, wanted in ((None, True), (("*",), True), (("*", "u1"), False)):
            self.assertIs(self.is_served({"flag": True}, principals), wanted)
            self.assertIs(self.is_served({}, principals), wanted)
        self.assert_exact()

    def test_undone_writes_are_not_counted(self):
        self.index_all()

        def work(transaction):
            transaction.insert(self.name, Row("lost", 1, 1, None, {"flag": True}))
            transaction.delete(self.name, next(iter(self.rows)), 1)
            raise KeyError

        with self.assertRaises(KeyError):
            self.store.write(work)
        self.assert_exact()

    def test_writers_at_once_are_all_counted(self):
        self.index_all()

        def write(number):
            for n in range(40):
                row = Row(f"{self.name}w{number}x{n}", 1, 1, None, {"flag": True, "score": 1})
                self.store.write(lambda transaction: transaction.insert(self.name, row))  # noqa: B023
                self.rows[row.id] = row

        threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assert_exact()

    def test_index_made_twice_counts_once_and_a_dropped_one_leaves_nothing(self):
        self.index_all()
        self.index_all()
        self.assert_exact()
        for keys in (["ACL"], *(["ACL", key] for key in KEYS)):
            indexes.drop(self.store, self.name, keys)
        self.write_at_random(10)
        self.assert_exact()
        self.index_all()
        self.assert_exact()

    @unittest.skipUnless("LEANSTORAGE_TEST_POSTGRESQL" in os.environ, "SQLite has one row of a value from the start")
    def test_rows_of_values_that_are_gone_do_not_stay(self):
        self.index_all()
        object_id, many = next(iter(self.rows)), 1500

        def work(transaction):
            for score in range(many):
                transaction.update(self.name, Row(object_id, 1, 2, None, {"score": score}))
            self.rows[object_id] = Row(object_id, 1, 2, None, {"score": many - 1})
            return transaction.execute("SELECT count(*), sum(n) FROM tallies WHERE name = ?", [index_name(self.name, ["ACL", "score"])])[0]

        rows, total = self.store.write(work)
        self.assertLess(rows, 1.9 * many)
        self.assertEqual(total, len(self.rows))
        self.assert_exact()

    def test_copy_in_another_database_counts_there(self):
        self.index_all()
        stored = open_store(f"sqlite:///{self.folder / 'copy.db'}")
        self.addCleanup(stored.close)
        self.assertEqual(migration.copy(self.store, stored, io.StringIO(), migration.Progress(io.StringIO())), 0)
        self.store = stored
        self.assertTrue(self.is_served({"flag": True}, ("*", "u1")))
        self.write_at_random(20)
        self.assert_exact()

    def test_other_classes_are_not_counted(self):
        self.index_all()
        self.store.write(lambda transaction: transaction.insert("Elsewhere", Row("one", 1, 1, None, {"flag": True})))
        self.assertEqual(self.store.read(lambda transaction: transaction.count(Query(self.name))), len(self.rows))

    def test_keys_that_cannot_be_counted_are_refused(self):
        for keys, word in ((["ACL", "tags"], "tags cannot be counted"), (["ACL", "nothing"], "not a column"), (["ACL", "flag", "score"], "at most one")):
            with self.subTest(keys=keys), self.assertRaisesRegex(ValueError, word):
                indexes.create(self.store, self.name, keys)


if __name__ == "__main__":
    unittest.main()
