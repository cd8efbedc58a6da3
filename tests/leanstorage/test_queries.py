"""Queries: section 4 of the protocol; and random ones against a model in plain Python."""
import json
import random
import re
import time
import tracemalloc
import unittest
from unittest import mock

import regex

from leanstorage.rules import cql, indexes, patterns, rendering
from leanstorage.rules.call import Options
from leanstorage.rules.errors import StorageError
from leanstorage.rules.where import parse_where
from leanstorage.store import Row
from tests.leanstorage.model import matches
from tests.leanstorage.service_support import KEYS, ServiceTestCase, pointer
from tests.support import IS_CI

CASES = 2000 if IS_CI else 500  # random queries
DATE = {"__type": "Date", "iso": "2020-01-02T03:04:05.678Z"}


def date(text):
    return {"__type": "Date", "iso": text}


def geo(latitude, longitude):
    return {"__type": "GeoPoint", "latitude": float(latitude), "longitude": float(longitude)}


class OperatorTest(ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        test = cls("make")
        cls.other = test.make("Other", name="one")
        rows = [
            {"n": 1, "s": "apple", "a": [1, 2, "x"], "d": date("2020-01-01T00:00:00Z"), "o": {"k": 1, "l": {"m": "z"}}},
            {"n": 2, "s": "Banana", "a": [], "b": True, "p": pointer("Other", cls.other), "l": [pointer("Other", cls.other)]},
            {"n": 3.5, "s": "cherry\nline", "a": [[1], {"q": 1}], "b": False, "p": pointer("Other", "gone")},
            {"n": None, "s": None, "a": None, "g": geo(0, 0)},
            {"s": "中文", "g": geo(10, 10), "g2": geo(1, 1)},
            {"n": -1, "g": geo(50, 50), "t": "a.b*c"},
        ]
        for index, row in enumerate(rows):
            test.make("Row", index=index, **row)

    def rows(self, where, **more):
        return [row["index"] for row in self.find("Row", where, **more)]

    def test_operators_with_missing_and_null_fields(self):
        table = [
            ({}, [0, 1, 2, 3, 4, 5]),
            ([{"n": 1}, {"s": "apple"}], [0]),
            ({"n": 1}, [0]),
            ({"n": 1.0}, [0]),
            ({"n": "1"}, []),
            ({"n": True}, []),
            ({"n": None}, [3, 4]),
            ({"unknown": None}, [0, 1, 2, 3, 4, 5]),
            ({"unknown": 1}, []),
            ({"s": "apple"}, [0]),
            ({"a": 2}, [0]),
            ({"a": "x"}, [0]),
            ({"a": [1, 2, "x"]}, [0]),
            ({"a": []}, [1]),
            ({"a": [1]}, [2]),
            ({"a": {"q": 1}}, [2]),
            ({"b": True}, [1]),
            ({"b": 1}, []),
            ({"d": date("2020-01-01T08:00:00+08:00")}, [0]),
            ({"p": pointer("Other", self.other)}, [1]),
            ({"l": pointer("Other", self.other)}, [1]),
            ({"o.k": 1}, [0]),
            ({"o.l.m": "z"}, [0]),
            ({"o": {"k": 1, "l": {"m": "z"}}}, [0]),
            ({"o": {"k": 1}}, []),
            ({"n": {"$ne": 1}}, [1, 2, 3, 4, 5]),
            ({"n": {"$ne": None}}, [0, 1, 2, 5]),
            ({"n": {"$gt": 1}}, [1, 2]),
            ({"n": {"$gte": 1, "$lt": 3}}, [0, 1]),
            ({"n": {"$lte": -1}}, [5]),
            ({"s": {"$gt": "B"}}, [0, 1, 2, 4]),
            ({"s": {"$gt": 1}}, []),
            ({"d": {"$gte": date("2019-01-01T00:00:00Z")}}, [0]),
            ({"a": {"$gt": 1}}, [0]),
            ({"n": {"$in": [1, 2, None]}}, [0, 1, 3, 4]),
            ({"n": {"$in": []}}, []),
            ({"s": {"$in": ["apple", "中文"]}}, [0, 4]),
            ({"n": {"$nin": [1]}}, [1, 2, 3, 4, 5]),
            ({"n": {"$exists": True, "$nin": ["", None]}}, [0, 1, 2, 5]),
            ({"a": {"$all": [1, "x"]}}, [0]),
            ({"n": {"$all": [1]}}, [0]),
            ({"a": {"$all": []}}, []),
            ({"a": {"$size": 0}}, [1]),
            ({"a": {"$size": 3}}, [0]),
            ({"n": {"$size": 1}}, []),
            ({"n": {"$exists": True}}, [0, 1, 2, 3, 5]),
            ({"n": {"$exists": False}}, [4]),
            ({"o.l": {"$exists": True}}, [0]),
            ({"s": {"$regex": "an"}}, [1]),
            ({"s": {"$regex": "^b", "$options": "i"}}, [1]),
            ({"s": {"$regex": "^line", "$options": "m"}}, [2]),
            ({"s": {"$regex": "cherry.line", "$options": "s"}}, [2]),
            ({"s": {"$regex": "a p p l e # comment", "$options": "x"}}, [0]),
            ({"s": {"$regex": "^((?!an).)*$", "$options": "s"}}, [0, 2, 4]),
            ({"t": {"$regex": "\\Qa.b*\\E"}}, [5]),
            ({"t": {"$regex": "\\Q.b\\E.c$\\E"}}, [5]),
            ({"a": {"$regex": "x"}}, [0]),
            ({"$or": [{"n": 1}, {"s": "中文"}]}, [0, 4]),
            ({"$or": [{"n": 1}, {"$and": [{"n": 2}, {"b": True}]}], "s": {"$exists": True}}, [0, 1]),
            ({"p": {"$inQuery": {"className": "Other", "where": {"name": "one"}}}}, [1]),
            ({"l": {"$inQuery": {"className": "Other", "where": {}}}}, [1]),
            ({"p": {"$notInQuery": {"className": "Other", "where": {}}}}, [0, 2, 3, 4, 5]),
            ({"p": {"$inQuery": {"className": "Nothing", "where": {}}}}, []),
            ({"s": {"$select": {"key": "s", "query": {"className": "Row", "where": {"n": 1}}}}}, [0]),
            ({"n": {"$dontSelect": {"key": "n", "query": {"className": "Row", "where": {"s": "apple"}}}}}, [1, 2, 3, 4, 5]),
            ({"g": {"$nearSphere": geo(9, 9)}}, [4, 3, 5]),
            ({"g": {"$nearSphere": geo(0, 0), "$maxDistanceInKilometers": 2000}}, [3, 4]),
            ({"g": {"$nearSphere": geo(0, 0), "$maxDistanceInMiles": 1000}}, [3, 4]),
            ({"g": {"$nearSphere": geo(0, 0), "$maxDistance": 0.1}}, [3]),
            ({"g": {"$within": {"$box": [geo(-1, -1), geo(10, 10)]}}}, [3, 4]),
            ({"g": {"$within": {"$box": [[0, 0], [11, 11]]}}}, [3, 4]),
            ({"objectId": {"$in": ["x"]}}, []),
            ({"createdAt": {"$gt": date("2020-01-01T00:00:00Z")}}, [0, 1, 2, 3, 4, 5]),
            ({"createdAt": {"$lt": "2020-01-01T00:00:00Z"}}, []),
            ({"createdAt": 5}, []),
        ]
        for where, wanted in table:
            with self.subTest(where):
                self.assertEqual(self.rows(where), wanted)
                if isinstance(where, dict):
                    found = self.api("GET", "/classes/Row", where=where, count="1", limit="0")
                    self.assertEqual(found, {"results": [], "count": len(wanted)})

    def test_pointer_into_another_class_is_not_into_this_one_though_their_ids_are_alike(self):
        alike = self.make("Pointed", n=1)
        self.service.store.write(lambda transaction: transaction.insert("PointedToo", Row(alike, 1, 1, None, {})))
        holder = self.make("Pointing", p=pointer("PointedToo", alike), list=[pointer("PointedToo", alike)])
        for key in ("p", "list"):
            for class_name, wanted in (("Pointed", []), ("PointedToo", [holder])):
                with self.subTest(key, class_name=class_name):
                    where = {key: {"$inQuery": {"className": class_name, "where": {}}}}
                    self.assertEqual([row["objectId"] for row in self.find("Pointing", where)], wanted)

    def test_pattern_within_a_select_finds_what_it_matches(self):
        for word, n in (("abc", 1), ("acb", 2)):
            self.make("Chosen", word=word, n=n)
            self.make("Choosing", n=n)
        query = {"className": "Chosen", "where": {"word": {"$regex": "b.*c"}}}
        for op, wanted in (("$select", [1]), ("$dontSelect", [2])):
            with self.subTest(op):
                self.assertEqual([row["n"] for row in self.find("Choosing", {"n": {op: {"query": query, "key": "n"}}})], wanted)

    def test_malformed_queries_have_their_code(self):
        deep = {"n": 1}
        for _ in range(30):
            deep = {"$or": [deep]}
        rows = [
            (107, "{"),
            (107, "null"),
            (107, "5"),
            (102, {"n": {"$unknown": 1}}),
            (102, {"$where": "1"}),
            (102, {"$nor": [{}]}),
            (102, {"n": {"$not": {"$gt": 1}}}),
            (102, {"n": {"$gt": 1, "plain": 2}}),
            (102, {"n": {"$in": 1}}),
            (102, {"n": {"$size": -1}}),
            (102, {"n": {"$size": True}}),
            (102, {"n": {"$exists": 1}}),
            (102, {"n": {"$gt": None}}),
            (102, {"n": {"$gt": [1]}}),
            (102, {"s": {"$options": "i"}}),
            (102, {"s": {"$regex": "("}}),
            (102, {"s": {"$regex": "a", "$options": "q"}}),
            (102, {"s": {"$regex": 5}}),
            (102, {"s": {"$regex": "((((((((a{9}){9}){9}){9}){9}){9}){9}){9})"}}),
            (102, {"s": {"$regex": "(?R)"}}),
            (102, {"$or": [{"s": {"$regex": f"(?:a{number}){{2000}}"}} for number in range(4)]}),
            (102, {"$or": []}),
            (102, {"$or": {}}),
            (102, {"$or": [{"g": {"$nearSphere": geo(0, 0)}}]}),
            (102, {"g": {"$maxDistance": 1}}),
            (102, {"g": {"$within": {"$box": [geo(0, 0)]}}}),
            (102, {"g": {"$within": {"$box": [[1], [2]]}}}),
            (102, {"g": {"$within": {"$box": [[1, 2, 3], [4, 5, 6]]}}}),
            (102, {"g": {"$within": {"$box": ["ab", "cd"]}}}),
            (302, {"g": {"$nearSphere": geo(91, 0)}}),
            (102, {"p": {"$inQuery": {"where": {}}}}),
            (103, {"p": {"$inQuery": {"className": "a b", "where": {}}}}),
            (102, {"a'b": 1}),
            (102, {'a".b': 1}),
            (102, {"a.b\"c": 1}),
            (102, {"a.$b": 1}),
            (102, {"": 1}),
            (102, deep),
            (106, {"p": {"__type": "Pointer", "className": "x"}}),
        ]
        for code, where in rows:
            with self.subTest(str(where)[:80]):
                self.code(code, "GET", "/classes/Row", where=where)
        self.code(102, "GET", "/classes/Row", order="a b")
        self.code(102, "GET", "/classes/Row", keys="a;b")

    def test_options_that_are_no_text_are_102(self):
        """The query of a batch's item and of the text/plain form may hold any JSON."""
        leaf = self.make("Option", n=1)
        for master in (False, True):
            for value in (5, True, ["n"], {"n": 1}):
                asked = [
                    (path, {name: value})
                    for path, names in {
                        "classes/Option": ("include", "keys", "order", "redirectClassNameForKey"),
                        f"classes/Option/{leaf}": ("include", "keys"),
                        **({"scan/classes/Option": ("keys", "scan_key")} if master else {}),
                    }.items()
                    for name in names
                ]
                asked.append(("classes/Option", {"where": {"p": {"$inQuery": {"className": "Option", "order": value}}}}))
                items = [{"method": "GET", "path": f"/1.1/{path}", "params": params} for path, params in asked]
                answers = self.api("POST", "/batch", {"requests": items}, master=master)
                codes = {str(one): answer.get("error", {}).get("code") for one, answer in zip(asked, answers)}
                self.assertEqual(codes, dict.fromkeys(codes, 102))
        sent = {"_ApplicationId": KEYS["id"], "_ApplicationKey": KEYS["key"], "_method": "GET", "keys": ["n"]}
        answer = self.raw("POST", "/1.1/classes/Option", json.dumps(sent).encode(), {"Content-Type": "text/plain"})
        self.assertEqual((answer.status, answer.json()["code"]), (400, 102))

    def test_sizes_and_distances_beyond_those_of_the_database_are_numbers(self):
        huge = 10**400
        self.make("Beyond", index=0, g=geo(0, 0), l=[1])
        rows = [
            ({"l": {"$size": 2**70}}, []),
            ({"l": {"$size": huge}}, []),
            ({"g": {"$nearSphere": geo(1, 1), "$maxDistance": huge}}, [0]),
            ({"g": {"$nearSphere": geo(1, 1), "$minDistanceInMiles": huge}}, []),
            ({"g": {"$nearSphere": geo(1, 1), "$minDistance": -huge}}, [0]),
        ]
        for where, wanted in rows:
            with self.subTest(str(where)[:40]):
                self.assertEqual([row["index"] for row in self.find("Beyond", where)], wanted)
        self.code(302, "GET", "/classes/Beyond", where={"g": {"$nearSphere": {**geo(0, 0), "latitude": huge}}})
        self.code(102, "GET", "/cloudQuery", cql=f"select * from Beyond where index < {huge}")

    def test_order_is_mixed_stable_and_puts_missing_first(self):
        self.assertEqual(self.rows({}, order="n,index"), [3, 4, 5, 0, 1, 2])
        self.assertEqual(self.rows({}, order="-n,-index"), [2, 1, 0, 5, 4, 3])
        self.assertEqual(self.rows({"s": {"$ne": None}}, order="s"), [1, 0, 2, 4])
        self.assertEqual(self.rows({"g": {"$exists": True}, "n": {"$ne": 5}}, order="-createdAt,-index"), [5, 4, 3])
        self.assertEqual(self.rows({"g": {"$nearSphere": geo(9, 9)}}, order="index"), [3, 4, 5])

    def test_limit_and_skip_read_as_the_live_service_does(self):
        for index in range(120):
            self.make("Many", index=index)
        for limit, count in (("0", 0), ("5", 5), ("-1", 100), ("x", 100), ("1001", 120), ("1000", 120)):
            with self.subTest(limit):
                self.assertEqual(len(self.find("Many", limit=limit)), count)
        self.assertEqual(len(self.find("Many")), 100)
        self.assertEqual([row["index"] for row in self.find("Many", skip="118")], [118, 119])
        self.assertEqual(len(self.find("Many", skip="-1")), 100)

    def test_sub_query_without_limit_sees_more_than_a_thousand_rows(self):
        def seed(transaction):
            from leanstorage.store import Row

            for index in range(1500):
                transaction.insert("Inner", Row(f"i{index:04d}", index, index, None, {"n": index}))

        self.make("Inner", n=-1)
        self.service.store.write(seed)
        self.make("Outer", p=pointer("Inner", "i1499"))
        self.assertEqual(len(self.find("Outer", {"p": {"$inQuery": {"className": "Inner", "where": {}}}})), 1)
        limited = {"className": "Inner", "where": {}, "limit": 10}
        self.assertEqual(self.find("Outer", {"p": {"$inQuery": limited}}), [])

    def test_huge_numbers_are_answered_and_nothing_is_500(self):
        self.make("Huge", n=3, g=geo(1, 1), l=[1, 2], m={"x": 1}, d=DATE, t="x")
        big = 10**400
        for key in ("n", "g", "l", "m", "d", "t", "m.x", "unknown", "createdAt", "objectId"):
            for number in (2**63, -(2**63) - 1, 10**22, 1e308, -1.5e300):
                with self.subTest(key, number=number):
                    for condition in (number, {"$ne": number}, {"$gt": number}, {"$in": [number, 1]}, {"$nin": [number]}, {"$all": [number]}):
                        self.find("Huge", {key: condition})
            for condition in (big, {"$ne": -big}, {"$lt": big}, {"$in": [big]}, {"$nin": [1, big]}, {"$all": [big]}):
                if key != "createdAt":  # where it is no time, as everything that is none
                    self.code(102, "GET", "/classes/Huge", where={key: condition})
        self.assertEqual(len(self.find("Huge", {"n": {"$lt": 10**300}})), 1)
        self.assertEqual(self.find("Huge", {"l": {"$size": 10**22}}), [])
        for unit in ("", "InRadians", "InMiles", "InKilometers"):
            for number in (big, 10**22, 1e308):
                near = {"$nearSphere": geo(1, 2), f"$maxDistance{unit}": number, f"$minDistance{unit}": -number}
                self.assertEqual(len(self.find("Huge", {"g": near})), 1)
                self.assertEqual(self.find("Huge", {"g": {"$nearSphere": geo(1, 2), f"$minDistance{unit}": number}}), [])
        point = {"__type": "GeoPoint", "latitude": big, "longitude": 1}
        self.code(302, "GET", "/classes/Huge", where={"g": {"$nearSphere": point}})
        self.code(302, "GET", "/classes/Huge", where={"g": {"$within": {"$box": [point, point]}}})
        self.code(302, "POST", "/classes/Huge", {"g": point})
        self.code(300, "GET", "/cloudQuery", cql="select * from Huge where n < 1e999")
        object_id = self.make("Huge", z=10**4299)
        self.code(107, "PUT", f"/classes/Huge/{object_id}", {"z": {"__op": "Increment", "amount": 9 * 10**4299}})

    def test_lists_and_groups_of_thousands_are_answered_or_refused(self):
        self.make("Listed", n=1500, l=[1500, "a1500"], s="a1500", p=pointer("Other", self.other))
        numbers, texts = list(range(2000)), [f"a{number}" for number in range(20_000)]
        pointers = [pointer("Other", f"{number}") for number in range(1999)] + [pointer("Other", self.other)]
        headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "text/plain"}
        for where, wanted in (
            ({"n": {"$in": numbers}}, 1),
            ({"n": {"$nin": numbers}}, 0),
            ({"l": {"$in": numbers}}, 1),
            ({"l": {"$all": [1500] * 1000}}, 1),
            ({"l": {"$in": texts}}, 1),
            ({"l": {"$nin": texts}}, 0),
            ({"s": {"$in": texts}}, 1),
            ({"o.k": {"$in": texts}}, 0),
            ({"n": {"$in": texts}}, 0),
            ({"p": {"$in": pointers}}, 1),
            ({"objectId": {"$nin": texts}}, 1),
            ({"createdAt": {"$in": [DATE] * 2000}}, 0),
            ({"$or": [{"n": number} for number in range(1, 1700)]}, 1),
            ({"$and": [{"n": {"$ne": number}} for number in range(900)]}, 1),
            ({"n": {"$in": [*numbers, 2000]}}, 102),
            ({"$and": [{"n": {"$in": numbers}}, {"l": {"$all": [1]}}]}, 102),
            ({"l": {"$all": texts}}, 102),
        ):
            with self.subTest(str(where)[:60]):
                data = json.dumps({"_method": "GET", "where": where}).encode()
                value = self.raw("POST", "/1.1/classes/Listed", data, headers).json()
                self.assertEqual("results" in value, wanted != 102, str(value)[:200])
                self.assertEqual(value["code"] if wanted == 102 else len(value["results"]), wanted, str(value)[:200])

    def test_order_by_many_keys_is_answered_or_refused(self):
        self.assertEqual(self.rows({}, order=",".join(["unknown", "o.k"] * 49 + ["n", "index"]))[0], 3)
        self.code(102, "GET", "/classes/Row", order=",".join(f"n{number}" for number in range(101)))

    def test_catastrophic_pattern_ends_within_its_budget(self):
        self.make("Slow", s="a" * 40 + "!")
        start = time.process_time()
        response = self.raw(
            "GET",
            "/1.1/classes/Slow",
            headers={"X-LC-Id": "appid", "X-LC-Key": "UtOCzqb67d3sN12Kts4URwy8"},
            QUERY_STRING="where=%7B%22s%22%3A%7B%22%24regex%22%3A%22(a%7Caa)%2B%24%22%7D%7D",
        )
        self.assertLess(time.process_time() - start, 6)
        self.assertIn(response.status, (200, 400))
        if response.status == 400:
            self.assertEqual(response.json()["code"], 124)


class PatternTest(unittest.TestCase):
    """What a client's pattern may cost before anything is matched."""

    def test_pattern_that_would_cost_much_or_means_something_else_in_pcre_is_refused(self):
        refused = [
            "(((((((a{9}){9}){9}){9}){9}){9}){9})",
            "((a{99}){99}){99}",
            "(" * 14 + "a" + "+)" * 14,
            "(" * 14 + "a" + "{1,}?)" * 14,
            "a{1000000}",
            "a{5000}",
            "a{1000000,}",
            "[a-z]{1000000}",
            "(?:ab|c){1000000}",
            "[" + "\\w\\d" * 20 + "]{500}",
            "\\R{4000}",
            "{}{1000000}",
            "(|){1000000}",
            "(()){2000}",
            "(?=()){2000}",
            "(?#[)(a{999}){999}(?#])",
            "[]a](a{999}){999}[]",
            "[^]a](a{999}){999}[^]",
            "[[:alpha:](](a{999}){999}[]",
            "[[: a:](((a{99}){99}){99})]",
            "\\[(a{999}){999}\\]",
            "\\Q[\\E(a{999}){999}\\Q]\\E",
            "(?x)#[\n(a{999}){999}#]",
            "(?x:#[\n(a{9 9 #\n9}){999}#]\n)",
            "#(?-x)[\n](a{999}){999}",
            "(?R)",
            "a(?R)?b|(?R)(?R)",
            "(a(?1)?b)",
            "(?+1)(a)",
            "(a)(?-1)",
            "(?P<n>a(?&n)?b)",
            "(?P<n>a(?P>n)?b)",
            "(?P<n>a(?P&n)?b)",
            "(?x)(?P >n)(?<n>a)",
            "(?|(?x)a)#[",
            "(?(1)a|b)",
            "(?:abc){e}",
            "(?:abc){e<=1}",
            "(?:abc){1<=e<=3}",
            "(?:abc){s,d:[a-z]}",
            "(?:abc){2i+2d+1s<=4}",
            "(?x)(?:abc){ 1 #\n<= e <= 3}",
            "\\p{e<=1}",
            "\\L<words>",
            "(?V1)[[a-z]--[aeiou]]",
            "(?if)[\\w]",
            "(?r)a",
            "(?b:a)",
            "\\N{LATIN SMALL LETTER R WITH TILDE}",
            "(" * 600 + "a" + ")" * 600,
            "a" * (patterns.MAX_PATTERN + 1),
            "(",
            ")",
            "[",
            "(?",
            "\\",
            "*",
        ]
        for pattern in refused:
            for options in ("", "x", "ims"):
                with self.subTest(pattern[:60], options=options):
                    before = time.thread_time()
                    if options != "x" or "#" not in pattern:  # which might be a comment then, and harmless
                        self.assertRaises(patterns.BadPattern, patterns.prepared, pattern, options)
                    self.assertLess(time.thread_time() - before, 1)  # they took minutes, or all memory

    def test_plain_pattern_with_braces_classes_and_groups_means_what_it_says(self):
        table = [
            ("^[0-9]{3,4}-[0-9]{7,8}$", "010-12345678"),
            ("^(\\d{1,3}\\.){3}\\d{1,3}$", "127.0.0.1"),
            ("^[\\w.+-]+@[\\w-]+(\\.[\\w-]+){1,}$", "a.b@c.example"),
            ("^.{1000}$", "a" * 1000),
            ("^.{0,100000}$", "a"),
            ("^(?:[a-z]{10}){30}$", "a" * 300),
            ('^\\{"a":{"b":1}}$', '{"a":{"b":1}}'),
            ("^{name}$", "{name}"),
            ("^{}$", "{}"),
            ("^a{,b}$", "a{,b}"),
            ("^\\{e<=1}$", "{e<=1}"),
            ("^[{e<=1}]+$", "{e}"),
            ("^\\Q(a{999}){999}(?R)\\E$", "(a{999}){999}(?R)"),
            ("^[(?R)]+$", "?R"),
            ("^[[:alpha:]]+$", "abc"),
            ("^[[:]+$", "[:"),
            ("^[]a]+$", "]a"),
            ("^[^]a]+$", "bc"),
            ("^[\\]({]+$", "](["[:2]),
            ("^\\p{Han}+\\p{Script=Han}$", "\u4e2d\u6587"),
            ("^(?i)ABC$", "abc"),
            ("^(?i:A)b(?-i:c)$", "abc"),
            ("(?x) a b # {e<=1} (?R)\n c", "abc"),
            ("^(?=a)(?!b)(?<!c)a(?<=a)(?>b+)(?:c)(?P<n>d)(?P=n)(?<m>e)\\g<m>\\1(?#[(?R)$", "abbcddeed"),
            ("^(?:)(?!)?a$", "a"),
            ("a++b*?c{2}+d??", "abcc"),
            ("|".join(f"word{number}" for number in range(400)), "word7"),
        ]
        for text, found in table:
            with self.subTest(text[:60]):
                pattern, flags, _ = patterns.prepared(text, "")
                self.assertTrue(regex.search(pattern, found, flags))

    def test_pattern_that_is_allowed_compiles_in_little_time_and_memory(self):
        hostile = [
            f"({'a' * 40}){{120}}",
            "((((a{6}){6}){6}){6})",
            "(" * 10 + "a" + "+)" * 10,
            "(?:a+b*){700}",
            "(?:(?=a)|(b)|[a-z]){300}",
            "(a|" * 80 + "b" + ")" * 80,
            "((?:)){2400}",
            "(?P<n>){1200}",
            "\\X{2400}",
            "\\R" * 490,
            *(part * (patterns.MAX_PATTERN // len(part)) for part in ("a*", "[a-z]", "(a)", "ab|cd", "|", "(?:b+?)?$", "\\X|")),
        ]
        for text in hostile:
            with self.subTest(text[:60]):
                pattern, flags, _ = patterns.prepared(text, "i")
                seconds = []
                for _ in range(3):
                    before = time.thread_time()
                    regex.compile(pattern, flags, cache_pattern=False)
                    seconds.append(time.thread_time() - before)
                    if seconds[-1] < 0.5:
                        break
                self.assertLess(min(seconds), 0.5)
                tracemalloc.start()
                self.addCleanup(tracemalloc.stop)
                regex.compile(pattern, flags, cache_pattern=False)
                self.assertLess(tracemalloc.get_traced_memory()[1], 50 << 20)
                tracemalloc.stop()

    def test_size_of_a_pattern_is_allowed_up_to_its_limit(self):
        for pattern in ("a{100}", "(?:ab){50}c*", "[a-z]{9}x{3,}", "(?P<n>a)(?=b)"):
            size = patterns.measured(pattern, False)
            with self.subTest(pattern):
                with mock.patch.object(patterns, "MAX_SIZE", size):
                    self.assertEqual(patterns.measured(pattern, False), size)
                with mock.patch.object(patterns, "MAX_SIZE", size - 1):
                    self.assertRaises(patterns.BadPattern, patterns.measured, pattern, False)

    def test_lazy_and_possessive_repeats_are_as_many_parts_as_greedy_ones(self):
        for count in ("*", "+", "?", "{3}", "{3,}"):
            for kind in ("?", "+"):
                with self.subTest(count + kind):
                    greedy = patterns.measured(f"(?:abc){count}", False)
                    self.assertEqual(patterns.measured(f"(?:abc){count}{kind}", False), greedy + 1)

    def test_spaces_and_comments_count_for_nothing_in_verbose_patterns_alone(self):
        for opening, is_verbose in (("", True), ("(?i:", True), ("(?i)", True), ("(?x-i:", True), ("(?-x:", False), ("(?-x)", False)):
            close = ")" if opening.endswith(":") else ""
            with self.subTest(opening):
                spaced = patterns.measured(f"{opening}a  b # c\n{close}", True)
                self.assertEqual(spaced == patterns.measured(f"{opening}ab{close}", True), is_verbose)
        self.assertEqual(patterns.measured("(?x)a b", False), patterns.measured("(?x)ab", False))
        self.assertEqual(patterns.measured("(?x:a b)c d", False), patterns.measured("(?x:ab)c d", False))

    def test_patterns_that_the_package_keeps_are_few_where_they_are_large(self):
        text = "(?:a{}|b|(c)){{300}}"
        room = 3 * patterns.prepared(text.format(10), "")[2]
        purges = mock.patch.object(regex, "purge", wraps=regex.purge)
        with mock.patch.object(patterns, "MAX_KEPT", room), mock.patch.object(patterns._Kept, "size", room), purges as purged:
            counts = []
            for number in range(10, 17):
                patterns.prepared(text.format(number), "")
                counts.append(purged.call_count)
        self.assertEqual(counts, [1, 1, 1, 2, 2, 2, 3])
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        pattern, flags, size = patterns.prepared(text.format(9), "")
        before = tracemalloc.get_traced_memory()[0]
        compiled = regex.compile(pattern, flags, cache_pattern=False)
        # As many as are kept of this size take at most 100 MB.
        self.assertLess((tracemalloc.get_traced_memory()[0] - before) * patterns.MAX_KEPT / size, 100 << 20)
        del compiled


class ShapeTest(ServiceTestCase):
    def test_include_expands_pointers_that_may_be_read(self):
        leaf = self.make("Leaf", name="leaf", hidden=1)
        secret = self.make("Leaf", name="secret", ACL={})
        branch = self.make("Branch", leaf=pointer("Leaf", leaf), many=[pointer("Leaf", leaf), pointer("Leaf", "gone")])
        tree = self.make("Tree", branch=pointer("Branch", branch), secret=pointer("Leaf", secret), n=1)
        found = self.get("Tree", tree, include="branch.leaf, branch.many,secret,n,unknown")
        self.assertEqual(found["branch"]["__type"], "Pointer")
        self.assertEqual(found["branch"]["leaf"]["name"], "leaf")
        self.assertIn("createdAt", found["branch"]["leaf"])
        self.assertEqual(found["branch"]["many"][0]["name"], "leaf")
        self.assertEqual(found["branch"]["many"][1], pointer("Leaf", "gone"))
        self.assertEqual(found["secret"], pointer("Leaf", secret))
        as_master = self.get("Tree", tree, include="secret", master=True)
        self.assertEqual(as_master["secret"]["name"], "secret")

    def test_include_that_multiplies_is_refused_and_one_of_ten_thousand_objects_is_answered(self):
        loop = self.make("Loop", x=1)
        self.api("PUT", f"/classes/Loop/{loop}", {"a": [pointer("Loop", loop)] * 20})
        self.assertEqual(self.get("Loop", loop, include="a.a")["a"][19]["a"][19]["x"], 1)
        self.api("PUT", f"/classes/Loop/{loop}", {"a": [pointer("Loop", loop)] * 1000})
        taken = []
        take = rendering.Room.take
        with mock.patch.object(rendering.Room, "take", lambda room, *size: (taken.append(size), take(room, *size))[1]):
            self.assertIn("expanded", self.code(102, "GET", f"/classes/Loop/{loop}", include="a.a"))
            self.code(102, "GET", "/classes/Loop", include="a.a.a.a.a.a.a.a.a.a")
            self.code(102, "GET", "/cloudQuery", cql="select *, include a.a from Loop")
        self.assertLess(len(taken), 4 * rendering.MAX_EXPANDED)  # refused as soon as there is no room

        keys = [f"p{number}" for number in range(10)]
        leaves = {key: pointer("Leaf", self.make("Leaf", name=key)) for key in keys}

        def seed(transaction):
            for index in range(1000):
                transaction.insert("Wide", Row(f"w{index:04d}", index, index, None, {"n": index, **leaves}))

        self.make("Wide", n=-1, **leaves)
        self.service.store.write(seed)
        rows = self.find("Wide", limit="1000", include=",".join(keys))
        self.assertEqual(len(rows), 1000)
        self.assertTrue(all(row[key]["name"] == key for row in rows for key in keys))

    def test_include_in_an_array_of_all_kinds_expands_its_pointers(self):
        leaf = self.make("Leaf", name="leaf")
        mixed = [1, "x", None, [pointer("Leaf", leaf)], {"a": 1}, pointer("Leaf", leaf)]
        found = self.get("Mixed", self.make("Mixed", many=mixed), include="many")["many"]
        self.assertEqual(found[:5], mixed[:5])
        self.assertEqual(found[5]["name"], "leaf")

    def test_include_takes_a_hundred_paths(self):
        tree = self.make("Tree", a=1)
        self.get("Tree", tree, include=",".join(f"k{number}" for number in range(100)))
        self.code(102, "GET", f"/classes/Tree/{tree}", include=",".join(f"k{number}" for number in range(101)))
        self.code(102, "GET", f"/classes/Tree/{tree}", include=",".join(f"k{number}.a" for number in range(51)))

    def test_keys_choose_and_exclude(self):
        leaf = self.make("Leaf", name="leaf", hidden=1)
        tree = self.make("Tree", leaf=pointer("Leaf", leaf), a=1, b=2, o={"x": 1, "y": 2})
        built_in = {"objectId", "createdAt", "updatedAt"}
        rows = [
            ({"keys": "a"}, built_in | {"a"}),
            ({"keys": "-a,-o"}, built_in | {"leaf", "b"}),
            ({"keys": "a,-createdAt"}, {"objectId", "updatedAt", "a"}),
            ({"keys": "nothing"}, built_in),
        ]
        for options, wanted in rows:
            with self.subTest(options):
                [found] = self.find("Tree", {"objectId": tree}, **options)
                self.assertEqual(set(found), wanted)
        [found] = self.find("Tree", {"objectId": tree}, keys="o.x")
        self.assertEqual(found["o"], {"x": 1})
        [found] = self.find("Tree", {"objectId": tree}, keys="leaf.name", include="leaf")
        self.assertEqual(set(found["leaf"]), built_in | {"__type", "className", "name"})

    def test_acl_is_shown_only_when_asked_for(self):
        object_id = self.make("Foo", a=1)
        self.assertEqual(self.get("Foo", object_id, returnACL="true")["ACL"], {"*": {"read": True, "write": True}})
        self.assertNotIn("ACL", self.get("Foo", object_id, returnACL="false"))
        user = self.user("with-rights")
        own = {user["objectId"]: {"read": True, "write": True}}
        self.api("PUT", f"/users/{user['objectId']}", {"ACL": own}, session=user["sessionToken"])
        shown = self.api("GET", f"/users/{user['objectId']}", session=user["sessionToken"], returnACL="true")
        self.assertEqual(shown["ACL"], own)
        self.assertNotIn("ACL", self.get("Foo", object_id))


class ScanTest(ServiceTestCase):
    def test_scan_shows_each_row_once_and_ends_with_null(self):
        ids = {self.make("Scanned", same=1, n=n) for n in range(5)}
        for options in ({}, {"scan_key": "same"}, {"scan_key": "-n"}, {"where": {"n": {"$gte": 0}}}):
            with self.subTest(options):
                seen, cursor = [], {}
                for _ in range(6):
                    page = self.api("GET", "/scan/classes/Scanned", master=True, limit="2", **options, **cursor)
                    seen += [row["objectId"] for row in page["results"]]
                    if page["cursor"] is None:
                        break
                    cursor = {"cursor": page["cursor"]}
                self.assertEqual((len(seen), set(seen)), (5, ids))

    def test_scan_by_any_key_goes_on_behind_the_last_row_whatever_is_stored_or_deleted_meanwhile(self):
        values = [None, 1, 1, 2.5, "a", "a", "b", True, [1, "x"], {"k": 1}, {"k": "z"}, DATE, {"__type": "GeoPoint", "latitude": 1, "longitude": 2}]
        rows = [
            {"any": {"v": value}, "n": [3, 1, 1, None][number % 4], "s": ["b", "中", None, "a"][number % 3], "d": DATE, "b": number % 2 == 0}
            for number, value in enumerate(values)
        ]
        rows += [{}, {"n": 5}]
        plain = ("any.v", "-any.v", "n", "-n", "s", "-s", "d", "any", "n,-s", "-n,any.v", "createdAt", "-updatedAt", "-objectId", "none", "any.0.v")
        indexed = ("n", "-n", "s", "-s", "d", "-d", "b", "-b")
        for key, has_index in (*((key, False) for key in plain), *((key, True) for key in indexed)):
            with self.subTest(key, has_index=has_index):
                name = "Scan" + re.sub(r"\W", "", key) + str("-" in key) + str(has_index)
                ids = {self.make(name, **row) for row in rows}
                if has_index:
                    indexes.create(self.service.store, name, [key.lstrip("-")])
                order = [row["objectId"] for row in self.find(name, order=key, limit="100")]
                seen, cursor, number = [], {}, 0
                while True:
                    page = self.api("GET", f"/scan/classes/{name}", master=True, limit="2", scan_key=key, **cursor)
                    seen += [row["objectId"] for row in page["results"]]
                    if page["cursor"] is None:
                        break
                    cursor = {"cursor": page["cursor"]}
                    if number < 3:  # what was shown goes, the last row, too
                        for row in page["results"]:
                            self.api("DELETE", f"/classes/{name}/{row['objectId']}")
                        number += 1
                self.assertEqual(seen, order)
                self.assertEqual(set(seen), ids)

    def test_scan_goes_by_its_key_though_its_condition_is_near_something(self):
        for longitude in (3, 1, 2):
            self.make("ScannedNear", g={"__type": "GeoPoint", "latitude": 0, "longitude": longitude}, n=longitude)
        where = {"g": {"$nearSphere": {"__type": "GeoPoint", "latitude": 0, "longitude": 0}}}
        for key, wanted in (("-n", [3, 2, 1]), ("createdAt", [3, 1, 2])):
            rows = self.api("GET", "/scan/classes/ScannedNear", master=True, where=where, scan_key=key)["results"]
            self.assertEqual([row["n"] for row in rows], wanted)

    def test_scan_by_texts_too_long_for_a_cursor_shows_each_row_once(self):
        ids = [self.make("ScanLong", s=f"{n}" + "x" * 3000) for n in range(5)]
        seen, cursor = [], {}
        while True:
            page = self.api("GET", "/scan/classes/ScanLong", master=True, limit="2", scan_key="s", **cursor)
            seen += [row["objectId"] for row in page["results"]]
            if page["cursor"] is None:
                break
            self.assertLess(len(page["cursor"]), 1000)
            cursor = {"cursor": page["cursor"]}
            if len(seen) == 2:
                self.api("DELETE", f"/classes/ScanLong/{ids[0]}")
        self.assertEqual(seen, ids)

    def test_scan_refuses_clients_and_cursors_that_are_not_its_own(self):
        self.make("Foo", n=1)
        self.make("Foo", n=2)
        self.make("Bar", n=1)
        self.code(1, "GET", "/scan/classes/Foo")
        page = self.api("GET", "/scan/classes/Foo", master=True, limit="1")
        self.code(1, "GET", "/scan/classes/Bar", master=True, cursor=page["cursor"])
        for cursor in ("x", page["cursor"] + "x", "x" + page["cursor"], "." * 5):
            self.code(1, "GET", "/scan/classes/Foo", master=True, cursor=cursor)
        self.code(1, "GET", "/scan/classes/Foo", master=True, scan_key="n", where={"n": 1})

    def test_scan_by_accounts_is_the_masters(self):
        self.user("scanned")
        page = self.api("GET", "/scan/classes/_User", master=True, scan_key="authData.github.uid")
        self.assertEqual([row["username"] for row in page["results"]], ["scanned"])
        self.code(102, "GET", "/scan/classes/_User", master=True, scan_key="password")

    def test_scan_key_that_is_none_is_102(self):
        self.make("Foo", n=1)
        for scan_key in (",", " ", "-"):
            self.code(102, "GET", "/scan/classes/Foo", master=True, scan_key=scan_key)
        request = {"method": "GET", "path": "/1.1/scan/classes/Foo", "params": {"scan_key": 5}}
        [item] = self.api("POST", "/batch", {"requests": [request]}, master=True)
        self.assertEqual(item["error"]["code"], 102)


class CqlTest(ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        test = cls("make")
        other = test.make("Other", name="one", score=3)
        for n in range(5):
            fields = {"score": n, "name": f"name{n}", "tags": [n, "t"], "at": geo(n, n), "by": pointer("Other", other)}
            test.make("GameScore", **fields)
        cls.other = other

    def test_nul_and_half_characters_in_a_statement_are_refused(self):
        rows = [
            {"cql": "select * from GameScore where b like '\0%'"},
            {"cql": "select * from GameScore where b = 'a\0'"},
            {"cql": "select * from GameScore where b = ?", "pvalues": '["\\u0000"]'},
            {"cql": "select * from GameScore where b regexp ?", "pvalues": '["\\ud800"]'},
            {"cql": "select * from GameScore where b = ?", "pvalues": "[NaN]"},
        ]
        for row in rows:
            with self.subTest(row):
                self.code(300, "GET", "/cloudQuery", **row)

    def cql(self, text, *pvalues, **more):
        options = {"pvalues": list(pvalues)} if pvalues else {}
        return self.api("GET", "/cloudQuery", cql=text, **options, **more)

    def test_grammar(self):
        rows = [
            ("select * from GameScore", [0, 1, 2, 3, 4]),
            ("SELECT * FROM GameScore WHERE score = 3", [3]),
            ("select * from GameScore where score != 3", [0, 1, 2, 4]),
            ("select * from GameScore where score <> 3 and score >= 2", [2, 4]),
            ("select * from GameScore where score < 1 or score > 3", [0, 4]),
            ("select * from GameScore where (score < 1 or score > 3) and name = 'name0'", [0]),
            ("select * from GameScore where name like 'name%'", [0, 1, 2, 3, 4]),
            ("select * from GameScore where name like '%1'", [1]),
            ("select * from GameScore where name not like '%1'", [0, 2, 3, 4]),
            ("select * from GameScore where name regexp '[34]$'", [3, 4]),
            ("select * from GameScore where name not regexp '[34]$'", [0, 1, 2]),
            ("select * from GameScore where score in (1, 2)", [1, 2]),
            ("select * from GameScore where score not in (1, 2)", [0, 3, 4]),
            ("select * from GameScore where score in (select score from Other)", [3]),
            ("select * from GameScore where score = (select score from Other where name = 'one')", [3]),
            ("select * from GameScore where by in (select * from Other)", [0, 1, 2, 3, 4]),
            ("select * from GameScore where missing is not exists", [0, 1, 2, 3, 4]),
            ("select * from GameScore where score is exists", [0, 1, 2, 3, 4]),
            ("select * from GameScore where tags all (1, 't')", [1]),
            ("select * from GameScore where size(tags) = 2", [0, 1, 2, 3, 4]),
            ("select * from GameScore where at near [0, 0] max 200 km", [0, 1]),
            ("select * from GameScore where at near geopoint(0, 0) max 0.02 radians", [0]),
            ("select * from GameScore where at within [1, 1] and [3, 3]", [1, 2, 3]),
            ("select * from GameScore where at within [1, 0] and [3, 2]", [1, 2]),
            (f"select * from GameScore where by = pointer('Other', '{self.other}')", [0, 1, 2, 3, 4]),
            ("select * from GameScore order by score desc limit 2", None),
            ("select * from GameScore limit 1, 2 order by score", [1, 2]),
            ("select * from GameScore where createdAt < date('2000-01-01T00:00:00Z')", []),
        ]
        for text, wanted in rows:
            with self.subTest(text):
                text = text.replace("order by score desc limit 2", "limit 2 order by score desc")
                found = [row["score"] for row in self.cql(text)["results"]]
                self.assertEqual(found, [4, 3] if wanted is None else wanted)

    def test_values_fill_question_marks_and_count_counts(self):
        value = self.cql("select count(*), * from GameScore where score > ? limit ?", 1, 2)
        self.assertEqual((len(value["results"]), value["count"], value["className"]), (2, 3, "GameScore"))
        self.assertEqual(self.cql("select count(objectId) from GameScore"), {"results": [], "count": 5, "className": "GameScore"})
        twice = self.api("GET", "/cloudQuery", cql="select * from GameScore where score = ?", pvalues='"[3, \\"x\\"]"')
        self.assertEqual([row["score"] for row in twice["results"]], [3])
        [row] = self.cql("select name, include by from GameScore where score = 1")["results"]
        self.assertEqual((row["name"], row["by"]["name"]), ("name1", "one"))

    def test_values_of_every_form(self):
        other = self.make("Valued", n=0)
        values = {
            "text": ("'it''s \\n'", "it's \n"),
            "double": ('"a \\"b\\""', 'a "b"'),
            "number": ("-1.5e2", -150),
            "yes": ("true", True),
            "no": ("FALSE", False),
            "empty": ("[]", []),
            "list": ("[1, 'a', [true]]", [1, "a", [True]]),
            "object": ("{a: 1, 'b c': {}}", {"a": 1, "b c": {}}),
            "bytes": ("base64('aGVsbG8=')", {"__type": "Bytes", "base64": "aGVsbG8="}),
            "date": ("date('2020-01-01T00:00:00.000Z')", {"__type": "Date", "iso": "2020-01-01T00:00:00.000Z"}),
            "file": ("file('f1')", {"__type": "File", "id": "f1"}),
            "point": ("geopoint(20, 10)", {"__type": "GeoPoint", "longitude": 20, "latitude": 10}),
            "pointer": (f"pointer('Valued', '{other}')", pointer("Valued", other)),
        }
        object_id = self.make("Valued", **{f"c_{name}": value for name, (_, value) in values.items()})
        for name, (text, _) in values.items():
            with self.subTest(name):
                found = self.cql(f"select * from Valued where c_{name} = {text}")["results"]
                self.assertEqual([row["objectId"] for row in found], [object_id])
        for text in ("base64()", "base64('a', 'b')", "file()", "geopoint(1)", "geopoint(1, 2, 3)", "pointer('A')", "date()", "nothing(1)"):
            with self.subTest(text):
                self.code(300, "GET", "/cloudQuery", cql=f"select * from Valued where c_text = {text}")
        before = self.cql("select count(*) from Valued where createdAt <= current_timestamp()")["count"]
        self.assertEqual(before, 2)

    def test_order_of_a_statement(self):
        up, down = [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]
        self.make("Tied", score=0, group=1)
        for score in (1, 2):
            self.make("Tied", score=score, group=0)
        rows = [
            ("GameScore order by name", up),
            ("GameScore order by name asc", up),
            ("GameScore order by name desc", down),
            ("GameScore order by -name", down),
            ("GameScore order by +name desc", up),
            ("Tied order by group, score", [1, 2, 0]),
            ("Tied order by group, score desc", [0, 2, 1]),
            ("Tied order by +group, -score", [2, 1, 0]),
            ("Tied order by -group, +score desc", [0, 1, 2]),
        ]
        for text, wanted in rows:
            with self.subTest(text):
                self.assertEqual([row["score"] for row in self.cql(f"select score from {text}")["results"]], wanted)

    def test_mistake_is_found_in_its_line_and_column(self):
        for text, line, column in (
            ("select * form GameScore", 1, 10),
            ("select *\nfrom GameScore\nwhere score = = 1", 3, 15),
            ("select *\n\n  from GameScore where", 3, 23),
        ):
            with self.subTest(text):
                self.assertIn(f"line {line}, column {column}.", self.code(300, "GET", "/cloudQuery", cql=text))

    def test_conditions_are_nested_as_deep_as_allowed(self):
        for depth, is_allowed in ((20, True), (21, False)):
            text = "select * from GameScore where " + "(" * depth + "score = 1" + ")" * depth
            with self.subTest(depth):
                if is_allowed:
                    self.assertEqual(len(self.cql(text)["results"]), 1)
                else:
                    self.code(300, "GET", "/cloudQuery", cql=text)

    def test_values_are_nested_as_deep_as_allowed(self):
        for opening, closing in (("[", "]"), ("date(", ")"), ("{'a': ", "}")):
            for depth in (cql.MAX_DEPTH - 1, cql.MAX_DEPTH + 1):
                text = "select * from GameScore where score = " + opening * depth + "1" + closing * depth
                with self.subTest(opening, depth=depth):
                    if depth < cql.MAX_DEPTH:
                        self.assertIsNotNone(cql.parse(text, []))
                    else:
                        self.assertRaisesRegex(StorageError, "nested too deeply", cql.parse, text, [])

    def test_syntax_errors_are_300_and_say_where(self):
        for text in (
            "select",
            "select * form GameScore",
            "select * from GameScore where",
            "select * from GameScore where score",
            "select * from GameScore where score = ",
            "select * from GameScore where score = 'x",
            "select * from GameScore; drop table objects",
            "select * from GameScore where score = 1 extra",
            "select * from GameScore where " + "(" * 50 + "score = 1" + ")" * 50,
            "select * from GameScore limit -1",
            "select * from GameScore where score = ?",
            "delete from GameScore",
            "x" * 5000,
            "",
        ):
            with self.subTest(text[:60]):
                self.assertTrue(self.code(300, "GET", "/cloudQuery", cql=text).startswith("CQL syntax error."))
        self.code(101, "GET", "/cloudQuery", cql="select * from Nothing", status=404)
        self.code(102, "GET", "/cloudQuery", cql="select * from _User where password = 'x'", status=400, master=True)


class ModelTest(ServiceTestCase):
    """Random objects and queries: both answers must be the same."""

    INDEXES = ()
    TEXTS = ["", "a", "b", "ab", "A", "中", "é", "a.b", "1", "%", "_", "😀"]
    NUMBERS = [0, 1, -1, 2, 1.5, 2**53, -(2**31), 1e20]

    def scalar(self, rng):
        return rng.choice(
            [
                None,
                rng.choice(self.TEXTS),
                rng.choice(self.NUMBERS),
                rng.choice([True, False]),
                date(rng.choice(["2020-01-01T00:00:00.000Z", "2020-01-01T00:00:00.001Z", "1969-01-01T00:00:00.000Z"])),
                pointer("Foo", rng.choice("ab")),
            ]
        )

    def inner(self, rng, depth=0):
        """Anything: what may stand in an array or an object."""
        pick = rng.random()
        if depth < 2 and pick < 0.15:
            return [self.inner(rng, depth + 1) for _ in range(rng.randrange(4))]
        if depth < 2 and pick < 0.3:
            return {rng.choice("xxyz01"): self.inner(rng, depth + 1) for _ in range(rng.randrange(3))}
        if pick < 0.34:
            return geo(rng.randrange(-80, 80), rng.randrange(-170, 170))
        return self.scalar(rng)

    def row(self, rng):
        """An object whose columns have types, as those of any class have."""
        makers = {
            "s": lambda: rng.choice(self.TEXTS),
            "n": lambda: rng.choice(self.NUMBERS),
            "b": lambda: rng.choice([True, False]),
            "d": lambda: date(rng.choice(["2020-01-01T00:00:00.000Z", "2020-01-01T00:00:00.001Z"])),
            "p": lambda: pointer("Foo", rng.choice("ab")),
            "g": lambda: geo(rng.randrange(-80, 80), rng.randrange(-170, 170)),
            "l": lambda: [self.inner(rng, -1) for _ in range(rng.randrange(4))],
            "o": lambda: {rng.choice("xyz"): self.inner(rng) for _ in range(rng.randrange(4))},
        }
        row = {}
        for key, maker in makers.items():
            pick = rng.random()
            if pick < 0.7:
                row[key] = maker()
            elif pick < 0.85:
                row[key] = None
        return row

    def condition(self, rng, key):
        comparable = [value for value in (self.scalar(rng) for _ in range(9)) if value is not None and "className" not in str(value)]
        makers = {
            "": lambda: self.inner(rng),
            "$ne": lambda: {"$ne": self.inner(rng)},
            "$in": lambda: {"$in": [self.inner(rng) for _ in range(rng.randrange(4))]},
            "$nin": lambda: {"$nin": [self.inner(rng) for _ in range(rng.randrange(4))]},
            "$all": lambda: {"$all": [self.inner(rng) for _ in range(rng.randrange(3))]},
            "$size": lambda: {"$size": rng.randrange(4)},
            "$exists": lambda: {"$exists": rng.choice([True, False])},
            "range": lambda: {rng.choice(["$gt", "$gte", "$lt", "$lte"]): (comparable or [1])[0]},
            "$regex": lambda: {"$regex": rng.choice(["a", "^a", "b$", "", "[ab]", "^(?!a)", "A", "^ab*", "^a|b", "^a.*", "^😀", "^中"]), "$options": rng.choice(["", "i"])},
        }
        if key == "g" or (key.startswith("l") and rng.random() < 0.1):
            makers["$within"] = lambda: {"$within": {"$box": [geo(-40, -90), geo(40, 90)]}}
        return rng.choice(list(makers.values()))()

    def where(self, rng, depth=0):
        where = {}
        for _ in range(rng.choice([1, 1, 1, 2])):
            key = rng.choice(["s", "n", "b", "d", "p", "g", "l", "o", "unknown", "dotted", "dotted", "dotted"])
            if key == "dotted":
                key = ".".join([rng.choice("lllop"), *(rng.choice("xyz01") for _ in range(rng.choice([1, 1, 2, 3, 5])))])
            where[key] = self.condition(rng, key)
        if depth < 2 and rng.random() < 0.3:
            where[rng.choice(["$or", "$and"])] = [self.where(rng, depth + 1) for _ in range(rng.choice([1, 2, 3]))]
        return where

    def test_random_queries_answer_as_the_model_does(self):
        rng = random.Random(20270112)
        rows = [self.row(rng) for _ in range(60)]
        for row in rows:
            row["objectId"] = self.make("Random", **row)
        for key in self.INDEXES:
            indexes.create(self.service.store, "Random", [key])
        for row in rows[:20]:
            self.api("PUT", f"/classes/Random/{row['objectId']}", self.row(rng))
        stored = {row["objectId"]: row for row in self.find("Random", limit="1000")}
        nonempty = 0
        for number in range(CASES):
            where = self.where(rng)
            wanted = [key for key, row in stored.items() if matches(row, where)]
            found = [row["objectId"] for row in self.find("Random", where, limit="1000", keys="objectId")]
            nonempty += bool(wanted)
            if sorted(found) != sorted(wanted):
                odd = set(found) ^ set(wanted)
                self.fail(f"case {number}: {where}\n{[stored[key] for key in odd][:3]}, found {len(found)}, wanted {len(wanted)}")
        self.assertGreater(nonempty, CASES // 4)


class IndexedModelTest(ModelTest):
    """The same with an index on every column that can have one."""

    INDEXES = ("s", "n", "b", "d", "p", "g", "l")

    def test_random_queries_answer_as_the_model_does(self):
        super().test_random_queries_answer_as_the_model_does()
        info = self.service.store.read(lambda transaction: transaction.class_info("Random"))
        self.assertEqual(info["indexes"], [[key] for key in self.INDEXES])


class DottedTest(ServiceTestCase):
    """Keys that lead through arrays, by MongoDB's rules: any element matches, a negation wants none, numbers are places."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        test = cls("make")
        cls.board = test.make("Board", tags=[{"key": "ver", "n": 1}])
        cls.other = test.make("Board", tags=[{"key": "old", "n": 9}])
        rows = [
            {"tags": [{"key": "ver", "n": 1}, {"key": "new", "n": 5}]},
            {"tags": [{"key": ["ver", "x"]}, {"other": 1}]},
            {"tags": [[{"key": "ver"}], 5, "ver"]},
            {"tags": []},
            {},
            {"deep": {"list": [{"at": geo(1, 1), "p": pointer("Board", cls.board)}, {"at": geo(40, 40)}]}},
            {"deep": {"list": {"at": geo(3, 3), "p": pointer("Board", cls.other)}}},
            {"tags": [{"0": "zero"}, ["a", "b"]], "when": [{"d": DATE}]},
        ]
        for index, row in enumerate(rows):
            test.make("Dotted", index=index, **row)

    def test_conditions_look_at_every_element(self):
        everything = set(range(8))
        board = {"className": "Board", "where": {"tags.key": "ver"}}
        table = [
            ({"tags.key": "ver"}, {0, 1}),
            ({"tags.key": ["ver", "x"]}, {1}),
            ({"tags.key": {"$ne": "ver"}}, everything - {0, 1}),
            ({"tags.key": None}, {1, 4, 5, 6, 7}),  # an object without it, or no array at all; [] has neither
            ({"tags.key": {"$exists": True}}, {0, 1}),
            ({"tags.key": {"$exists": False}}, everything - {0, 1}),
            ({"tags.key": {"$in": ["new", "x"]}}, {0, 1}),
            ({"tags.key": {"$in": ["new", 5]}}, {0}),
            ({"tags.key": {"$nin": ["new", "x"]}}, everything - {0, 1}),
            ({"tags.key": {"$all": ["ver", "new"]}}, {0}),
            ({"tags.n": {"$gt": 1, "$lt": 5}}, {0}),  # one element above, another below
            ({"tags.n": {"$gt": 5}}, set()),
            ({"tags.key": {"$size": 2}}, {1}),
            ({"tags.key": {"$regex": "^n"}}, {0}),
            ({"tags.key": {"$regex": "^X", "$options": "i"}}, {1}),
            ({"tags.0.key": "ver"}, {0, 1, 2}),
            ({"tags.0.0.key": "ver"}, {2}),
            ({"tags.1.key": "ver"}, set()),
            ({"tags.1.key": "new"}, {0}),
            ({"tags.01.key": "new"}, set()),
            ({"tags.-1.key": "new"}, set()),
            ({"tags.2": "ver"}, {2}),
            ({"tags.0": "zero"}, {7}),
            ({"tags.0": {"key": "ver", "n": 1}}, {0}),
            ({"tags.1": "a"}, set()),  # the element itself, and not what is in it
            ({"tags.1": ["a", "b"]}, {7}),
            ({"tags.1.0": "a"}, {7}),
            ({"tags.1": {"$size": 2}}, {7}),
            ({"tags.1": {"$exists": True}}, {0, 1, 2, 7}),
            ({"when.d": {"$gte": DATE}}, {7}),
            ({"deep.list.p": pointer("Board", self.board)}, {5}),
            ({"deep.list.p.objectId": self.board}, {5}),
            ({"deep.list.p": {"$inQuery": board}}, {5}),
            ({"deep.list.p": {"$notInQuery": board}}, everything - {5}),
            ({"tags.key": {"$select": {"key": "tags.key", "query": {"className": "Board"}}}}, set()),
            ({"deep.list.p.objectId": {"$select": {"key": "objectId", "query": board}}}, {5}),
            ({"deep.list.p.objectId": {"$dontSelect": {"key": "objectId", "query": board}}}, everything - {5}),
            ({"deep.list.at": {"$within": {"$box": [geo(0, 0), geo(2, 2)]}}}, {5}),
            ({"deep.list.at": {"$nearSphere": geo(0, 0)}}, {5, 6}),
            ({"deep.list.at": {"$nearSphere": geo(40, 40), "$maxDistance": 0.01}}, {5}),
            ({"$or": [{"tags.key": "new"}, {"tags.0": "zero"}]}, {0, 7}),
            ({"deep." + "list." * 100 + "x": None}, everything),
        ]
        for where, wanted in table:
            with self.subTest(str(where)[:100]):
                self.assertEqual({row["index"] for row in self.find("Dotted", where)}, wanted)

    def test_nearest_of_several_points_is_what_counts(self):
        for here, wanted in ((geo(0, 0), [5, 6]), (geo(4, 4), [6, 5]), (geo(39, 39), [5, 6])):
            with self.subTest(here):
                self.assertEqual([row["index"] for row in self.find("Dotted", {"deep.list.at": {"$nearSphere": here}})], wanted)
        for name in ("a", "b"):
            self.make("Places", name=name, spots=[geo(10, 10), geo(20, 20)] if name == "a" else [geo(12, 12)])
        for here, wanted in ((geo(12, 12), ["b", "a"]), (geo(19, 19), ["a", "b"])):
            self.assertEqual([row["name"] for row in self.find("Places", {"spots": {"$nearSphere": here}})], wanted)

    def test_statements_and_conditional_writes_have_the_same_rules(self):
        for text, wanted in (
            ("select * from Dotted where tags.key = 'ver'", [0, 1]),
            ("select * from Dotted where tags.key in ('new', 'x')", [0, 1]),
            ("select * from Dotted where tags.n > 4", [0]),
            ("select * from Dotted where tags.key like 'n%'", [0]),
            ("select * from Dotted where deep.list.p in (select * from Board where tags.key = 'ver')", [5]),
        ):
            with self.subTest(text):
                found = self.api("GET", "/cloudQuery", cql=text)["results"]
                self.assertEqual([row["index"] for row in found], wanted)
        one = self.make("Dotted2", tags=[{"key": "ver"}])
        for where in ({"tags.key": "no"}, {"tags.key": {"$ne": "ver"}}):
            with self.subTest(where=where):
                self.code(305, "PUT", f"/classes/Dotted2/{one}", {"n": 1}, where=where)
        self.api("PUT", f"/classes/Dotted2/{one}", {"n": 2}, where={"tags.key": "ver"})
        self.assertEqual(self.get("Dotted2", one)["n"], 2)

    def test_order_by_a_key_inside_of_arrays_is_the_order_of_creation(self):
        for order in ("tags.0", "tags.0.key", "deep.list.0.at", "tags" + ".0" * 400, "tags.-1"):
            with self.subTest(order[:20]):
                self.assertEqual([row["index"] for row in self.find("Dotted", order=order)], list(range(8)))


class ManyConditionsTest(ServiceTestCase):
    options = Options(query_seconds=60)  # this machine may have much else to do

    def test_many_conditions_on_long_keys_are_answered(self):
        self.make("Dotted", n=1)
        where = {f"k{number}.a.0.b": number for number in range(600)}
        self.assertEqual(self.find("Dotted", {"$or": [{key: value} for key, value in where.items()]}), [])


class NestingTest(ServiceTestCase):
    def test_sub_queries_nested_as_deep_as_allowed_are_answered_in_a_text_that_grows_with_their_number(self):
        deepest = self.make("Nested", a=1)
        for _ in range(3):
            deepest = self.make("Nested", p=pointer("Nested", deepest))
        for depth in (1, 3, 18):
            where = {"a": 1}
            for _ in range(depth):
                where = {"p": {"$inQuery": {"className": "Nested", "where": where}}}
            with self.subTest(depth):
                self.assertEqual(len(self.find("Nested", where)), depth <= 3)
                query, _ = parse_where("Nested", where)
                text, _ = self.service.store.read(
                    lambda transaction: transaction.compiler(transaction.known).select(query, ("o.id", []))
                )
                self.assertLess(len(text), 600 * (depth + 1))

    def test_sub_query_may_select_the_id(self):
        target = self.make("Chosen", n=1)
        self.make("Chosen", n=2)
        holder = self.make("Choosing", text=target)
        self.make("Choosing", text="other")
        for where, ids in (({"n": 1}, [holder]), ({"n": 2}, [])):
            select = {"$select": {"key": "objectId", "query": {"className": "Chosen", "where": where}}}
            self.assertEqual([row["objectId"] for row in self.find("Choosing", {"text": select})], ids)

    def test_sub_query_finds_pointers_in_columns_of_any_type(self):
        target = self.make("Target", a=1)
        other = self.make("Target", a=2)
        found = {
            "array": self.make("Holder", many=[pointer("Target", other), pointer("Target", target)]),
            "object": self.make("Holder", inside={"one": pointer("Target", target)}),
            "array in object": self.make("Holder", inside={"one": [1, pointer("Target", target)]}),
        }
        self.make("Holder", many=[pointer("Target", other), target], inside={"one": {"a": 1}})
        inner = {"$inQuery": {"className": "Target", "where": {"a": 1}}}
        self.assertEqual([row["objectId"] for row in self.find("Holder", {"many": inner})], [found["array"]])
        rows = self.find("Holder", {"inside.one": inner})
        self.assertEqual([row["objectId"] for row in rows], [found["object"], found["array in object"]])
        self.assertEqual(self.find("Holder", {"many": {"$inQuery": {"className": "Target", "where": {"a": 3}}}}), [])
