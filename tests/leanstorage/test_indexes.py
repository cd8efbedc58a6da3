import itertools
import json
import os
import unittest
from unittest import mock

from leanstorage.rules import indexes
from leanstorage.rules.where import parse_where, with_limits
from leanstorage.store import choice, Row
from tests.leanstorage.service_support import ServiceTestCase
from tests.support import sample

ROWS = 4000
INDEXES = (["state"], ["number"], ["open"], ["team"], ["due"], ["number", "state"], ["order"], ["tags"], ["at"], ["open", "order"])
POINTER = {"__type": "Pointer", "className": "Team", "objectId": "t3"}
DATE = {"__type": "Date", "iso": "2026-01-03T00:00:00.000Z"}
COLUMNS = {
    "state": {"type": "String"},
    "number": {"type": "Number"},
    "open": {"type": "Boolean"},
    "team": {"type": "Pointer", "className": "Team"},
    "due": {"type": "Date"},
    "tags": {"type": "Array"},
    "at": {"type": "GeoPoint"},
    "other": {"type": "Object"},
    "order": {"type": "Number"},  # a word of SQL
}


def body(n):
    return {
        "state": f"s{n % 40}" if n % 41 else "long" * 2000 + str(n % 2),
        "number": n % 50,
        "open": n % 100 == 0,
        "team": {**POINTER, "objectId": f"t{n % 60}"},
        "due": {**DATE, "iso": f"2026-01-{n % 28 + 1:02}T00:00:00.000Z"},
        "tags": [n % 3, f"t{n % 100}", "all", {**POINTER, "objectId": f"t{n % 60}"}, [n]],
        "at": {"__type": "GeoPoint", "latitude": float(n % 160 - 80), "longitude": float(n * 7 % 359 - 180)},
        "order": n,
    }


def fill(store, class_name, rows=ROWS):
    """So many objects, some of which lack keys or hold null."""

    def work(transaction):
        transaction.save_class(class_name, {"columns": COLUMNS, "permissions": {}, "default_acl": None})
        for n in range(rows):
            found = body(n)
            if n % 7 == 0:
                del found["state"]
            if n % 11 == 0:
                found["number"] = None
            if n % 13 == 0:
                found["at"] = found["tags"] = None
            transaction.insert(class_name, Row(f"{class_name}{n}", 1000 + n // 2, 1000 + n, None, found))

    store.write(work)


class IndexTest(ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        fill(cls.service.store, "Job")
        for keys in INDEXES:
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
        wheres = (
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
        )
        orders = ("-createdAt", "state", "-state", "number,-state", "-order", "")
        for order, where in sample(itertools.product(orders, wheres)):  # each of both in some way
            with self.subTest(where=str(where)[:80], order=order):
                options = {"where": where, "order": order, "keys": "order", "limit": 70}
                found = [
                    [row["order"] for row in self.api("GET", f"/classes/{name}", master=True, **options)["results"]]
                    for name in ("Job", "Plain")
                ]
                if order in ("-createdAt", ""):  # pairs of one time are in no order of their own
                    found = [[n // 2 for n in rows] for rows in found]
                self.assertEqual(*found)

    def test_lists_ranges_arrays_and_points_are_found_as_without_an_index(self):
        """Whether few or many match: SQLite goes by the index or by the order."""
        fill(self.service.store, "Bare", 1000)
        fill(self.service.store, "Full", 1000)
        for keys in INDEXES:
            indexes.create(self.service.store, "Full", keys)
        here = {"__type": "GeoPoint", "latitude": 10.2, "longitude": 179.5}
        team = {"$inQuery": {"className": "Team", "where": {"name": {"$gt": "n2"}}}}
        for number in range(5):
            self.service.store.write(lambda t: t.insert("Team", Row(f"t{number}", 1, 1, None, {"name": f"n{number}"})))  # noqa: B023
        self.service.store.write(
            lambda t: t.save_class("Team", {"columns": {"name": {"type": "String"}}, "permissions": {}, "default_acl": None})
        )
        wheres = [
            {"state": {"$in": ["s3", "s4", "long" * 2000 + "1", 5, None]}},
            {"state": {"$in": [f"s{n}" for n in range(30)]}},
            {"state": {"$nin": ["s3", "s4"]}},
            {"number": {"$in": [7, 8.0, 10**30, 1e300, True, "7"]}},
            {"team": {"$in": [{**POINTER, "objectId": f"t{n}"} for n in range(9)]}},
            {"team": {"$in": [{**POINTER, "className": "Other"}]}},
            {"team": team},
            {"team": {"$notInQuery": team["$inQuery"]}},
            {"team": {"$inQuery": {"className": "Team", "where": {}, "limit": 2, "order": "-name"}}},
            {"due": {"$in": [DATE]}},
            {"due": {"$gt": DATE, "$lte": {**DATE, "iso": "2026-01-05T00:00:00.000Z"}}},
            {"open": {"$in": [True]}, "order": {"$gt": 300}},
            {"open": True, "order": {"$gt": 300, "$lt": 900}},
            {"number": {"$gte": 48}},
            {"order": {"$lt": 9}},
            {"state": {"$regex": "^s1"}},
            {"state": {"$regex": "^s1.$"}},
            {"state": {"$regex": "^" + "long" * 300}},
            {"state": {"$gt": "long" * 2000}},
            {"state": {"$lte": "long" * 30}},
            {"state": {"$lt": "long" * 2000 + "1"}},
            {"tags": "t7"},
            {"tags": "all"},
            {"tags": 2},
            {"tags": True},
            {"tags": {**POINTER, "objectId": "t7"}},
            {"tags": [5]},
            {"tags": {"$all": ["t7", 1]}},
            {"tags": {"$all": ["all", 1]}},
            {"tags": {"$all": ["all", [5]]}},
            {"tags": {"$ne": "t7"}},
            {"$or": [{"tags": "t7"}, {"state": {"$regex": "^s1"}}]},
            {"at": {"$nearSphere": here}},
            {"at": {"$nearSphere": here, "$maxDistanceInKilometers": 900}},
            {"at": {"$nearSphere": here, "$minDistance": 0.05, "$maxDistance": 0.2}, "number": {"$gt": 5}},
            {"at": {"$nearSphere": {**here, "latitude": 79.9}, "$maxDistanceInKilometers": 2000}},
        ]
        for where, few, order in sample(itertools.product(wheres, (5, 3000), ("-createdAt", "-state"))):  # each `where` in some way
            with self.subTest(where=str(where)[:90], order=order, few=few), mock.patch.object(choice, "FEW", few):
                is_near = "at" in where and order == "-createdAt"
                options = {"where": where, "order": "" if is_near else order, "count": 1, "limit": 70, "keys": "order"}
                both = [self.api("GET", f"/classes/{name}", master=True, **options) for name in ("Full", "Bare")]
                found, wanted = ([row["order"] for row in one["results"]] for one in both)
                if order == "-createdAt" and not is_near:
                    found, wanted = [n // 2 for n in found], [n // 2 for n in wanted]
                self.assertEqual(both[0]["count"], both[1]["count"])
                self.assertEqual(found, wanted)

    def test_index_on_arrays_follows_every_change(self):
        one = self.make("Tagged", tags=["a", "b", "a"])
        two = self.make("Tagged", tags=["b"])
        indexes.create(self.service.store, "Tagged", ["tags"])
        found = lambda tag: {row["objectId"] for row in self.find("Tagged", {"tags": tag})}  # noqa: E731
        self.assertEqual((found("a"), found("b")), ({one}, {one, two}))
        self.api("PUT", f"/classes/Tagged/{two}", {"tags": {"__op": "Add", "objects": ["a"]}})
        self.assertEqual(found("a"), {one, two})
        self.api("PUT", f"/classes/Tagged/{two}", {"tags": {"__op": "Delete"}})
        self.api("DELETE", f"/classes/Tagged/{one}")
        self.assertEqual((found("a"), found("b")), (set(), set()))
        three = self.make("Tagged", tags=["b", 1])
        self.assertEqual((found("b"), found(1)), ({three}, {three}))
        indexes.drop(self.service.store, "Tagged", ["tags"])
        four = self.make("Tagged", tags=["b"])
        self.assertEqual(found("b"), {three, four})

    def test_index_stays_with_the_class_when_columns_are_added(self):
        self.api("POST", "/classes/Job", {"fresh": 1}, master=True)
        self.assertIn(["due"], self.service.store.read(lambda transaction: indexes.listed(transaction, "Job")))

    def test_keys_that_cannot_be_indexed_are_refused_by_name(self):
        for keys, words in (
            (["other"], "other cannot be indexed: it is of type Object"),
            (["tags", "state"], "tags is of type Array: its index can have no other key"),
            (["state", "at"], "at is of type GeoPoint: its index can have no other key"),
            (["none"], "none cannot be indexed: it is not a column of this class"),
            (["state') WHERE 1; --"], "not a column"),
            (["state", "number", "open", "team", "due"], "1 to 4 keys"),
        ):
            with self.subTest(keys=keys):
                with self.assertRaises(ValueError) as caught:
                    indexes.create(self.service.store, "Job", keys)
                self.assertIn(words, str(caught.exception))

    def test_command_makes_lists_and_drops(self):
        self.api("POST", "/classes/Small", {"a": 1, "b": "x"})
        self.assertEqual(self.run_index("Small", "a", "b"), (0, "Small a b\n"))
        self.assertEqual(self.run_index("Small", "a", "b"), (0, "Small a b\n"))
        self.assertEqual(self.run_index("Small"), (0, "Small a b\n"))
        self.assertEqual(len(self.api("GET", "/classes/Small", where={"a": 1, "b": "x"})["results"]), 1)
        self.assertEqual(self.run_index("Small", "a", "b", "--drop"), (0, ""))
        self.assertEqual(self.run_index("Small", "a", "--drop"), (1, "cannot go on: Small has no index of a\n"))
        self.assertEqual(len(self.api("GET", "/classes/Small", where={"a": 1, "b": "x"})["results"]), 1)
        code, text = self.run_index("Nothing", "a")
        self.assertEqual((code, "doesn't exist" in text), (1, True), text)

    def test_long_text_is_stored_in_an_indexed_column(self):
        text = json.dumps(["長" * 3000])
        created = self.api("POST", "/classes/Job", {"state": text})
        found = self.api("GET", "/classes/Job", where={"state": text}, keys="number")["results"]
        self.assertEqual([row["objectId"] for row in found], [created["objectId"]])
