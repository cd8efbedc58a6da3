"""What indexes are asked for: prefixes of patterns, cells of the grid, the newest rows first."""
import math
import random
import unittest
from unittest import mock

import regex

from leanstorage.rules import indexes, patterns
from leanstorage.store import Condition, grid, memory, Query, Row, stages
from leanstorage.store.fragments import behind
from leanstorage.store.memory import Looks
from tests.leanstorage.model import angle
from tests.leanstorage.service_support import ServiceTestCase


class PrefixTest(unittest.TestCase):
    def test_literal_beginning_of_a_pattern_is_found(self):
        table = [
            ("^abc", "", ("abc", True)),
            ("^\\Qa.c\\E", "", ("a.c", True)),
            ("^a\\.c.*", "", ("a.c", True)),
            ("^abc.*$", "s", ("abc", True)),
            ("^abc.*$", "", ("abc", False)),
            ("^abc$", "", ("abc", False)),
            ("^abc?", "", ("ab", False)),
            ("^abc*d", "", ("ab", False)),
            ("^ab{2}", "", ("a", False)),
            ("^ab+", "", ("a", False)),
            ("^a[bc]", "", ("a", False)),
            ("^a\\d", "", ("a", False)),
            ("^a b", "", ("a b", True)),
            ("^", "", ("", False)),
            ("abc", "", ("", False)),
            ("^abc", "i", ("", False)),
            ("^abc", "m", ("", False)),
            ("^a b", "x", ("", False)),
            ("^abc|d", "", ("", False)),
            ("^abc(?i)d", "", ("", False)),
            ("^中文", "", ("中文", True)),
        ]
        for text, options, wanted in table:
            with self.subTest(text=text, options=options):
                pattern, flags, _ = patterns.prepared(text, options)
                self.assertEqual(patterns.literal_prefix(pattern, flags), wanted)

    def test_every_match_begins_with_the_prefix(self):
        rng = random.Random(7)
        for _ in range(3000):
            text = "^" + "".join(rng.choice(["a", "b", "\\.", ".", "*", "?", "+", "[ab]", "(a)", "$", "{2}", "\\w", " "]) for _ in range(4))
            try:
                pattern, flags, _ = patterns.prepared(text, rng.choice(["", "s"]))
            except patterns.BadPattern:
                continue
            prefix, is_all = patterns.literal_prefix(pattern, flags)
            for _ in range(20):
                subject = "".join(rng.choice("ab. \n") for _ in range(rng.randrange(6)))
                is_match = regex.search(pattern, subject, flags) is not None
                if is_match or is_all:
                    self.assertEqual(is_match, subject.startswith(prefix), (text, subject))

    def test_text_behind_a_prefix_is_the_first_that_does_not_begin_with_it(self):
        for prefix, wanted in (("a", "b"), ("a\U0010ffff", "b"), ("\U0010ffff", None), ("\ud7ff", "\ue000"), ("", None)):
            with self.subTest(prefix=ascii(prefix)):
                self.assertEqual(behind(prefix), wanted)


class LooksTest(unittest.TestCase):
    def test_look_in_vain_is_needless_for_the_same_kind_of_query_on_a_small_class(self):
        looks, asked = Looks(), []

        def query(class_name="A", key="n", value=1):
            return Query(class_name, Condition("eq", (key,), value))

        def is_small(class_name):
            asked.append(class_name)
            return class_name == "A"

        self.assertFalse(looks.is_needless(query()))
        for class_name in ("A", "A", "Large", "Large"):
            looks.in_vain(query(class_name), is_small)
        self.assertEqual(asked, ["A", "Large"])  # which takes some time, and is asked once
        for wanted, other in ((True, query()), (True, query(value=2)), (False, query(key="m")), (False, query("Large"))):
            with self.subTest(query=other):
                self.assertEqual(looks.is_needless(other), wanted)
        with mock.patch.object(memory, "LOOK_SECONDS", -1):
            looks.in_vain(query(key="m"), is_small)
        self.assertFalse(looks.is_needless(query(key="m")))  # it was long ago


class GridTest(unittest.TestCase):
    def test_ranges_hold_every_point_within_the_distance(self):
        rng = random.Random(11)
        for _ in range(4000):
            latitude = rng.choice([rng.uniform(-90, 90), -90.0, 90.0, 89.7, 0.0])
            longitude = rng.choice([rng.uniform(-180, 180), -180.0, 180.0, 179.99])
            radius = rng.choice([0.0, 0.0001, 0.003, 0.05])
            found = grid.ranges(latitude, longitude, radius + 1e-9)
            self.assertTrue(all(low <= high for low, high in found))
            for _ in range(20):
                spread = math.degrees(radius) * 1.5 + 0.001
                there_latitude = max(-90.0, min(90.0, latitude + rng.uniform(-spread, spread)))
                wide = min(180.0, spread / max(0.01, math.cos(math.radians(there_latitude))))
                there_longitude = (longitude + rng.uniform(-wide, wide) + 180) % 360 - 180
                here, there = ({"latitude": a, "longitude": b} for a, b in ((latitude, longitude), (there_latitude, there_longitude)))
                if angle(here, there) <= radius + 1e-12:
                    row = math.floor((there_latitude + 90) * grid.PER_DEGREE)
                    cell = row * grid.ROW + math.floor((there_longitude + 180) * grid.PER_DEGREE)
                    self.assertTrue(any(low <= cell <= high for low, high in found), (here, there, radius))

    def test_distances_of_half_the_globe_are_left_to_a_look_at_everything(self):
        self.assertIsNone(grid.ranges(0.0, 0.0, 3.0))


class StagesTest(ServiceTestCase):
    """Rows that the first stage finds, and rows that only the last one finds."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        many = 2 * stages.NEWEST

        def work(transaction):
            columns = {"n": {"type": "Number"}, "p": {"type": "Pointer", "className": "Aim"}, "l": {"type": "Array"}}
            info = {"permissions": {}, "default_acl": None}
            transaction.save_class("Long", {**info, "columns": columns})
            transaction.save_class("Aim", {**info, "columns": {"n": {"type": "Number"}}})
            for n in range(many):
                acl = None if n % 2 else {"somebody": {"read": True}}
                aim = {"__type": "Pointer", "className": "Aim", "objectId": f"a{n % 1100}"}
                transaction.insert("Long", Row(f"r{n:05d}", n, n, acl, {"n": n % 10 if n > 5 else 77, "p": aim, "l": [n % 7, 77 - n]}))
            for n in range(1100):
                transaction.insert("Aim", Row(f"a{n}", n, n, None if n else {}, {"n": n}))

        cls.service.store.write(work)

    def ids(self, where, master=True, **options):
        answer = self.api("GET", "/classes/Long", where=where, master=master, order="-createdAt", keys="objectId", **options)
        return [int(row["objectId"][1:]) for row in answer["results"]]

    def test_frequent_and_rare_values_are_found_in_order(self):
        many = 2 * stages.NEWEST
        self.assertEqual(self.ids({"n": 3}, limit=20), [many - 7 - 10 * n for n in range(20)])
        self.assertEqual(self.ids({"n": 3}, limit=20, skip=30), [many - 307 - 10 * n for n in range(20)])
        self.assertEqual(self.ids({"n": 3}, master=False, limit=20), [many - 7 - 10 * n for n in range(20)])
        self.assertEqual(self.ids({"n": 2}, master=False, limit=20), [])
        for is_again in (False, True):  # what was in vain among the newest rows is remembered
            with self.subTest(is_again=is_again):
                self.assertEqual(self.ids({"n": 77}, limit=20), [5, 4, 3, 2, 1, 0])
                self.assertEqual(self.ids({"l": 77}, limit=20), [0])
                self.assertEqual(self.ids({"l": {"$all": [1, 76]}}, limit=20), [1])
        self.assertEqual(self.ids({"n": 3}, limit=20), [many - 7 - 10 * n for n in range(20)])

    def test_rows_behind_many_that_are_skipped_are_those_of_the_order(self):
        many = 2 * stages.NEWEST
        for order, rows in (("-createdAt", range(many - 1, -1, -1)), ("createdAt", range(many)), ("", range(many)), ("createdAt,n", range(many))):
            for skip in (stages.DEEP - 1, stages.DEEP, many - 3, many, many + 5):
                with self.subTest(order=order, skip=skip):
                    found = self.api("GET", "/classes/Long", master=True, order=order, keys="objectId", limit=5, skip=skip)["results"]
                    self.assertEqual([int(row["objectId"][1:]) for row in found], list(rows)[skip : skip + 5])

    def test_sub_query_that_finds_few_or_many_selects_the_same(self):
        indexes.create(self.service.store, "Long", ["p"])
        for where, wanted in (
            ({"n": {"$lt": 3}}, {0, 1, 2, 1100, 1101, 1102}),
            ({"n": {"$gte": 20}}, {n for n in range(2 * stages.NEWEST) if n % 1100 >= 20}),
            ({"n": 5000}, set()),
        ):
            for is_master in (True, False):
                with self.subTest(where=where, is_master=is_master):
                    found = set(self.ids({"p": {"$inQuery": {"className": "Aim", "where": where}}}, is_master, limit=1000))
                    found |= set(self.ids({"p": {"$inQuery": {"className": "Aim", "where": where}}}, is_master, limit=1000, skip=1000))
                    # A client may read neither the even rows nor the first aim.
                    self.assertEqual(found, {n for n in wanted if is_master or (n % 2 and n % 1100)})
        self.assertEqual(self.ids({"p": {"$inQuery": {"className": "Aim", "where": {}, "limit": 1, "order": "-n"}}}), [1099])
