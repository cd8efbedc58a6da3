import io
import json
import os
import unittest
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from leanstorage.rules import indexes
from leanstorage.rules.where import parse_where, with_limits
from leanstorage.__main__ import main
from leanstorage.store import Row
from tests.leanstorage.service_support import KEYS, ServiceTestCase

ROWS = 4000
POINTER = {"__type": "Pointer", "className": "Team", "objectId": "t3"}
DATE = {"__type": "Date", "iso": "2026-01-03T00:00:00.000Z"}
COLUMNS = {
    "state": {"type": "String"},
    "number": {"type": "Number"},
    "open": {"type": "Boolean"},
    "team": {"type": "Pointer", "className": "Team"},
    "due": {"type": "Date"},
    "tags": {"type": "Array"},
    "order": {"type": "Number"},  # a word of SQL
}


def body(n):
    return {
        "state": f"s{n % 40}" if n % 41 else "long" * 2000 + str(n % 2),
        "number": n % 50,
        "open": n % 100 == 0,
        "team": {**POINTER, "objectId": f"t{n % 60}"},
        "due": {**DATE, "iso": f"2026-01-{n % 28 + 1:02}T00:00:00.000Z"},
        "tags": [n % 3],
        "order": n,
    }


def fill(store, class_name):
    """ROWS objects, some of which lack keys or hold null."""

    def work(transaction):
        transaction.save_class(class_name, {"columns": COLUMNS, "permissions": {}, "default_acl": None})
        for n in range(ROWS):
            found = body(n)
            if n % 7 == 0:
                del found["state"]
            if n % 11 == 0:
                found["number"] = None
            transaction.insert(class_name, Row(f"{class_name}{n}", 1000 + n // 2, 1000 + n, None, found))

    store.write(work)


class IndexTest(ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        fill(cls.service.store, "Job")
        for keys in (["state"], ["number"], ["open"], ["team"], ["due"], ["number", "state"], ["order"]):
            indexes.create(cls.service.store, "Job", keys)

    def plan(self, where, order):
        """The database's own words on how it finds the first 20 of a query."""
        query, _ = parse_where("Job", where)
        query = with_limits(query, {"order": order, "limit": 20})

        def work(transaction):
            text, params = transaction.compiler(transaction.known).select(query, ("o.id", []))
            is_sqlite = self.database.startswith("sqlite")
            return transaction.execute(("EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN ") + text, params)

        return "\n".join(str(line[-1]) for line in self.service.store.read(work))

    def test_equality_sorted_by_creation_comes_from_the_index_without_sorting_all(self):
        for where in (
            {"state": "s3"},
            {"number": 7},
            {"open": True},
            {"team": POINTER},
            {"due": DATE},
            {"number": 7, "state": "s3"},
            {"state": "s3", "order": {"$gt": 5}},
        ):
            for order in ("-createdAt", "createdAt", None):
                with self.subTest(where=where, order=order):
                    plan = self.plan(where, order)
                    self.assertIn("index_", plan)
                    if self.database.startswith("sqlite"):
                        self.assertNotIn("TEMP B-TREE FOR ORDER BY", plan)

    @unittest.skipIf("LEANSTORAGE_TEST_POSTGRESQL" in os.environ, "a plan for so few rows is the planner's own choice")
    def test_order_by_an_indexed_key_comes_from_the_index(self):
        for order in ("order", "-order", "state"):
            with self.subTest(order=order):
                self.assertIn("index_", self.plan({}, order))

    def test_answers_are_those_without_an_index(self):
        fill(self.service.store, "Plain")
        for where in (
            {"state": "s3"},
            {"state": "long" * 2000 + "1"},
            {"state": {"$ne": "s3"}},
            {"state": None},
            {"state": 5},
            {"state": {"$in": ["s3", "s4"]}},
            {"state": {"$gte": "s3", "$lt": "s5"}},
            {"number": 7},
            {"number": 7.0},
            {"number": {"$exists": True}, "state": "s7"},
            {"$or": [{"number": 7}, {"state": "s8"}]},
            {"number": 7, "state": "s7"},
            {"open": True},
            {"open": "true"},
            {"team": POINTER},
            {"team": {**POINTER, "className": "Other"}},
            {"due": DATE, "open": False},
        ):
            for order in ("-createdAt", "state", "-state", "number,-state", "-order", ""):
                with self.subTest(where=str(where)[:80], order=order):
                    found = [
                        [
                            row["order"]
                            for row in self.api(
                                "GET", f"/classes/{name}", master=True, where=where, order=order, keys="order", limit=70
                            )["results"]
                        ]
                        for name in ("Job", "Plain")
                    ]
                    if order in ("-createdAt", ""):  # pairs of one time are in no order of their own
                        found = [[n // 2 for n in rows] for rows in found]
                    self.assertEqual(*found)

    def test_index_stays_with_the_class_when_columns_are_added(self):
        self.api("POST", "/classes/Job", {"fresh": 1}, master=True)
        self.assertIn(["due"], self.service.store.read(lambda transaction: indexes.listed(transaction, "Job")))

    def test_keys_that_cannot_be_indexed_are_refused_by_name(self):
        for keys, words in (
            (["tags"], "tags cannot be indexed: it is of type Array"),
            (["none"], "none cannot be indexed: it is not a column of this class"),
            (["state') WHERE 1; --"], "not a column"),
            (["state", "number", "open", "team", "due"], "1 to 4 keys"),
        ):
            with self.subTest(keys=keys):
                with self.assertRaises(ValueError) as caught:
                    indexes.create(self.service.store, "Job", keys)
                self.assertIn(words, str(caught.exception))

    def run_command(self, *arguments):
        out = io.StringIO()
        environment = {**os.environ, "LEANSTORAGE_DATA": str(self.folder)}
        for name, variable in (("id", "ID"), ("key", "KEY"), ("master_key", "MASTER_KEY"), ("hook_key", "HOOK_KEY")):
            environment[f"LEANCLOUD_APP_{variable}"] = KEYS[name]
        with mock.patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(out):
            code = main(["index", "--database", self.database, *arguments])
        return code, out.getvalue()

    def test_command_makes_lists_and_drops(self):
        self.api("POST", "/classes/Small", {"a": 1, "b": "x"})
        self.assertEqual(self.run_command("Small", "a", "b"), (0, "Small a b\n"))
        self.assertEqual(self.run_command("Small", "a", "b"), (0, "Small a b\n"))
        self.assertEqual(self.run_command("Small"), (0, "Small a b\n"))
        self.assertEqual(len(self.api("GET", "/classes/Small", where={"a": 1, "b": "x"})["results"]), 1)
        self.assertEqual(self.run_command("Small", "a", "b", "--drop"), (0, ""))
        self.assertEqual(self.run_command("Small", "a", "--drop"), (1, "cannot go on: Small has no index of a\n"))
        self.assertEqual(len(self.api("GET", "/classes/Small", where={"a": 1, "b": "x"})["results"]), 1)
        code, text = self.run_command("Nothing", "a")
        self.assertEqual((code, "doesn't exist" in text), (1, True), text)

    def test_long_text_is_stored_in_an_indexed_column(self):
        text = json.dumps(["長" * 3000])
        created = self.api("POST", "/classes/Job", {"state": text})
        found = self.api("GET", "/classes/Job", where={"state": text}, keys="number")["results"]
        self.assertEqual([row["objectId"] for row in found], [created["objectId"]])
