"""At each limit of what clients send, and just beyond it. That the limits have these values: test_limits.py."""
import dataclasses
import unittest
from unittest import mock

from leanstorage.resources import objects
from leanstorage.rules import acl, call, cql, operations, patterns, query_shape, rendering, values, where, write
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Condition, Query

POINTER = {"__type": "Pointer", "className": "C", "objectId": "a"}


def nested(levels, wrap):
    found = {}
    for _ in range(levels):
        found = wrap(found)
    return found


def asked(condition):
    return where.parse_where("C", condition)[0]


def numbered(number, one):
    return {f"k{index}": one for index in range(number)}


def applied(fields):
    return write.apply(fields, {}, None, {}, False)


def relation(name, number):
    return operations.relation_changes({"__op": name, "objects": [POINTER] * number})


# (the error beyond the limit, the limit, what is done so many times or with so much)
ROWS = {
    "names of an ACL": (Code.BAD_ACL, 1000, lambda n: acl.of_client(numbered(n, {"read": True}))),
    "characters of an ACL": (Code.BAD_ACL, 50_000, lambda n: acl.of_client({"u" * n: {"read": True}})),
    "name of a class": (Code.BAD_CLASS_NAME, 200, lambda n: values.check_class_name("A" * n)),
    "object id": (Code.BAD_OBJECT_ID, 100, lambda n: values.check_object_id("a" * n)),
    "key": (Code.BAD_KEY, 200, lambda n: values.check_key("a" * n)),
    "path": (Code.BAD_QUERY, 1000, lambda n: where.parse_path("a" * n, "C", False)),
    "keys of an order": (Code.BAD_QUERY, 100, lambda n: where.parse_order(",".join(numbered(n, 1)), "C")),
    "names of an option": (Code.BAD_QUERY, 1000, lambda n: where.parse_names(",".join(numbered(n, 1)), "keys")),
    "characters of an option": (Code.BAD_QUERY, 50_000, lambda n: where.parse_names("a" * n, "keys")),
    "paths of an include": (Code.BAD_QUERY, 100, lambda n: rendering._paths(",".join(numbered(n, 1)))),
    "levels of $and": (Code.BAD_QUERY, 20, lambda n: asked(nested(n, lambda inner: {"$and": [inner]}))),
    "levels of $or": (Code.BAD_QUERY, 20, lambda n: asked(nested(n, lambda inner: {"$or": [inner]}))),
    "levels of arrays": (Code.BAD_QUERY, 20, lambda n: asked(nested(n, lambda inner: [inner]))),
    "levels of sub-queries": (
        Code.BAD_QUERY,
        20,
        lambda n: asked(nested(n, lambda inner: {"a": {"$inQuery": {"className": "C", "where": inner}}})),
    ),
    "conditions": (Code.BAD_QUERY, 2000, lambda n: asked(numbered(n, 1))),
    "conditions with operators": (Code.BAD_QUERY, 1000, lambda n: asked(numbered(n, {"$gt": 1}))),
    "conditions of two objects": (Code.BAD_QUERY, 1999, lambda n: asked([{"a": 1}, numbered(n, 1)])),
    "members": (Code.BAD_QUERY, 2000, lambda n: asked({"a": {"$in": list(range(n))}})),
    "members of $nin": (Code.BAD_QUERY, 2000, lambda n: asked({"a": {"$nin": list(range(n))}})),
    "members of $all": (Code.BAD_QUERY, 2000, lambda n: asked({"a": {"$all": list(numbered(n, 1))}})),
    "members of two lists": (
        Code.BAD_QUERY,
        1998,
        lambda n: asked({"a": {"$in": list(range(n))}, "b": {"$in": [1, 2]}}),
    ),
    "texts": (Code.BAD_QUERY, 20_000, lambda n: asked({"a": {"$in": list(numbered(n, 1))}})),
    "texts of two lists": (
        Code.BAD_QUERY,
        19_998,
        lambda n: asked({"a": {"$in": list(numbered(n, 1))}, "b": {"$in": ["x", "y"]}}),
    ),
    "number": (Code.BAD_QUERY, 10**308 - 1, lambda n: asked({"a": n})),
    "negative number": (Code.BAD_QUERY, 10**308 - 1, lambda n: asked({"a": {"$lt": -n}})),
    "patterns together": (
        Code.BAD_QUERY,
        1808,
        lambda n: asked({f"k{length}": {"$regex": "." * length} for length in (4095, 4096, n + 1)}),
    ),
    "elements that are added": (
        Code.ARRAY_TOO_LONG,
        10_000,
        lambda n: operations.apply([0] * (n - 1), {"__op": "Add", "objects": [1]}, "k"),
    ),
    "elements that are added at once": (
        Code.ARRAY_TOO_LONG,
        10_000,
        lambda n: operations.apply([], {"__op": "Add", "objects": [1] * n}, "k"),
    ),
    "elements of a set": (
        Code.ARRAY_TOO_LONG,
        10_000,
        lambda n: operations.apply([0] * (n - 1), {"__op": "AddUnique", "objects": ["x"]}, "k"),
    ),
    "elements that are there": (
        Code.ARRAY_TOO_LONG,
        10_000,
        lambda n: operations.apply([0] * n, {"__op": "AddUnique", "objects": []}, "k"),
    ),
    "pointers that are added": (Code.BAD_RELATION, 1000, lambda n: relation("AddRelation", n)),
    "pointers that are removed": (Code.BAD_RELATION, 1000, lambda n: relation("RemoveRelation", n)),
    "levels of a key": (Code.BAD_KEY, 20, lambda n: applied({".".join("a" * n): 1})),
    "bytes of a statement": (
        Code.CQL_SYNTAX,
        4096,
        lambda n: cql.parse("select * from C where a = '" + "中" * 1000 + "x" * (n - 3028) + "'", []),
    ),
}


class LimitTest(unittest.TestCase):
    def refused(self, code, function, *arguments):
        with self.assertRaises(StorageError) as caught:
            function(*arguments)
        self.assertIs(caught.exception.kind, code)
        return caught.exception.message

    def test_limit_is_allowed_and_one_more_is_not(self):
        for name, (code, limit, function) in ROWS.items():
            with self.subTest(name):
                function(limit)
                self.refused(code, function, limit + 1)

    def test_relation_operation_needs_a_pointer(self):
        self.assertEqual(relation("AddRelation", 1), [(True, "C", ["a"])])
        self.assertEqual(relation("RemoveRelation", 1), [(False, "C", ["a"])])
        self.assertIn("1 to 1000 pointers", self.refused(Code.BAD_RELATION, relation, "AddRelation", 0))

    def test_object_has_so_many_bytes_and_no_more(self):
        with mock.patch.object(write, "MAX_OBJECT_BYTES", 20):
            applied({"a": "中" * 4})  # {"a":"..."} and three bytes each
            self.assertIn("20 bytes", self.refused(Code.OBJECT_TOO_LARGE, applied, {"a": "中" * 4 + "x"}))

    def test_limit_and_skip_are_read_with_table(self):
        for text, limit, skip in (
            (None, 100, 0),
            (0, 0, 0),
            (1, 1, 1),
            ("0", 0, 0),
            ("7", 7, 7),
            (-1, 100, 0),
            ("-1", 100, 0),
            ("--1", 100, 0),
            ("-", 100, 0),
            ("", 100, 0),
            ("²", 100, 0),
            (True, 100, 0),
            (1.0, 100, 0),
            (1000, 1000, 1000),
            (1001, 1000, 1001),
            ("9" * 18, 1000, 2**53),
            ("9" * 19, 100, 0),
            (2**53 - 1, 1000, 2**53 - 1),
            (2**53, 1000, 2**53),
            (2**53 + 1, 1000, 2**53),
            (10**400, 1000, 2**53),
        ):
            with self.subTest(text):
                self.assertEqual((where.parse_limit(text), where.parse_skip(text)), (limit, skip))

    def test_size_is_no_larger_than_any_array(self):
        for number, size in ((0, 0), (2**31 - 1, 2**31 - 1), (2**31, 2**31 - 1), (10**30, 2**31 - 1)):
            with self.subTest(number):
                self.assertEqual(asked({"a": {"$size": number}}).where, Condition("size", ("a",), size))
        for number in (-1, True, 1.0, "1", None):
            with self.subTest(number):
                self.refused(Code.BAD_QUERY, asked, {"a": {"$size": number}})

    def test_include_goes_ten_levels_down(self):
        for levels in (1, 9, 10, 11, 12):
            with self.subTest(levels):
                found = rendering._paths(".".join("abcdefghijkl"[:levels]))
                self.assertEqual(found, {tuple("abcdefghij"[:length]) for length in range(1, min(levels, 10) + 1)})
        self.assertEqual(rendering._paths(".a"), set())

    def test_points_reach_to_the_poles_and_the_date_line(self):
        for latitude, longitude, is_allowed in ((90, 180, True), (-90, -180, True), (90.1, 0, False), (-90.1, 0, False), (0, 180.1, False), (0, -180.1, False)):
            point = {"__type": "GeoPoint", "latitude": latitude, "longitude": longitude}
            with self.subTest(latitude=latitude, longitude=longitude):
                if is_allowed:
                    self.assertEqual(values.normalise(point), point)
                else:
                    self.refused(Code.GEO_RANGE, values.normalise, point)

    def test_room_of_an_answer_is_used_up_exactly(self):
        for is_quick, objects_left, size_left in ((False, 100_000, 32 << 20), (True, 1000, 1 << 18)):
            made = mock.Mock()
            made.service.is_quick = is_quick
            for taken in ((objects_left, 0), (0, size_left), (objects_left, size_left)):
                with self.subTest(is_quick=is_quick, taken=taken):
                    rendering.Room(made).take(*taken)
                    for more in ((1, 0), (0, 1)):
                        room = rendering.Room(made)
                        room.take(*taken)
                        if taken[0] * more[0] or taken[1] * more[1]:
                            self.assertRaises(rendering.QueryTimeout if is_quick else StorageError, room.take, *more)
                        else:
                            room.take(*more)


class ShapeTest(unittest.TestCase):
    """The shape of a query in a log."""

    def test_shape_has_twenty_parts_of_a_level(self):
        for number, shown in ((19, 19), (20, 20), (21, 20)):
            with self.subTest(number):
                every = numbered(number, 1)
                self.assertEqual(len(query_shape.shape(asked(every))["where"]), shown)
                either = [{key: value} for key, value in every.items()]
                self.assertEqual(len(query_shape.shape(asked({"$or": either}))["where"][0]["or"]), shown)
                order = tuple(((key,), False) for key in every)
                self.assertEqual(len(query_shape.shape(Query("C", order=order))["order"]), shown)

    def test_shape_goes_four_levels_down(self):
        def inside(levels, innermost):
            for _ in range(levels):
                innermost = {"$or": [innermost, {"x": 1}]}
            found = query_shape.shape(asked(innermost))["where"]
            for _ in range(levels):
                found = found[0]["or"][0]
            return found

        query = {"$inQuery": {"className": "D", "where": {"b": 1}}}
        select = {"$select": {"key": "k", "query": {"className": "D", "where": {"b": 1}}}}
        for levels, innermost, wanted in (
            (3, {"a": 1}, ["a eq"]),
            (4, {"a": 1}, ["more"]),
            (2, {"a": {"$ne": 1}}, [{"not": ["a eq"]}]),
            (3, {"a": {"$ne": 1}}, [{"not": ["more"]}]),
            (2, {"a": query}, [{"a in_query": {"class": "D", "where": ["b eq"]}}]),
            (3, {"a": query}, [{"a in_query": {"class": "D", "where": ["more"]}}]),
            (2, {"a": select}, [{"a select": {"class": "D", "where": ["b eq"]}}]),
            (3, {"a": select}, [{"a select": {"class": "D", "where": ["more"]}}]),
        ):
            with self.subTest(innermost, levels=levels):
                self.assertEqual(inside(levels, innermost), wanted)
        both = query_shape.shape(asked({"a": {"$gt": 1, "$lt": 2}, "b": {"$gt": 3}}))
        self.assertEqual(both["where"], ["a gt", "a lt", "b gt"])

    def test_key_and_line_have_their_longest(self):
        for length, shown in ((99, 99), (100, 100), (101, 100)):
            with self.subTest(length):
                self.assertEqual(query_shape.shape(asked({"k" * length: 1}))["where"], [f"{'k' * shown} eq"])
        query = asked({"abc": 1})
        text = '{"class":"C","where":["abc eq"]}'
        for most, shown in ((len(text), text), (len(text) - 1, '{"class":"C","where":["more"]}')):
            with self.subTest(most), mock.patch.object(query_shape, "MAX_TEXT", most):
                self.assertEqual(query_shape.shape_text(query), shown)


class PatternTest(unittest.TestCase):
    def test_pattern_has_so_many_parts_with_table(self):
        for pattern, parts, verbose_parts in (
            ("", 0, 0),
            ("abc", 3, 3),
            ("a b", 3, 2),
            ("a #c\nb", 6, 2),
            ("a*", 2, 2),
            ("a+", 3, 3),
            ("a?", 2, 2),
            ("a{3}", 7, 7),
            ("a{3,5}", 9, 9),
            ("a{,5}", 5, 5),
            ("a{}", 3, 3),
            ("a{3}?", 8, 8),
            ("a{3}{2}", 18, 18),
            ("a{2}{2}{2}", 36, 36),
            ("(ab)", 3, 3),
            ("(ab){3}", 15, 15),
            ("((a{2}){2}){2}", 78, 78),
            ("(a)(b)*", 5, 5),
            ("a(?:b)c", 4, 4),
            ("(?:)", 1, 1),
            ("(?:a){3}", 11, 11),
            ("[a]", 2, 2),
            ("[abc]", 3, 3),
            ("[^abcdef]", 5, 5),
            ("\\R", 10, 10),
            ("\\X", 2, 2),
            ("\\R{2}", 33, 33),
            ("(?#c)a", 1, 1),
            ("(?x)a b", 2, 2),
            ("(?x: a )b c", 5, 4),
            ("(?-x)a b", 3, 3),
        ):
            for is_verbose, wanted in ((False, parts), (True, verbose_parts)):
                with self.subTest(pattern, is_verbose=is_verbose):
                    self.assertEqual(patterns.measured(pattern, is_verbose), wanted)

    def test_text_of_a_pattern_is_as_long_as_allowed(self):
        self.assertEqual(patterns.prepared("a" * 4096, "")[2], 4096)
        self.assertRaises(patterns.BadPattern, patterns.prepared, "a" * 4097, "")
        self.assertEqual(patterns.measured("a" * 5000, False), 5000)
        self.assertRaises(patterns.BadPattern, patterns.measured, "a" * 5001, False)

    def test_beginning_of_a_pattern_with_table(self):
        dot_all = int(patterns.regex.VERSION0 | patterns.regex.DOTALL)
        plain, ignoring = int(patterns.regex.VERSION0), int(patterns.regex.VERSION0 | patterns.regex.IGNORECASE)
        for pattern, flags, prefix, is_all in (
            ("^abc", plain, "abc", True),
            ("^a\\.b c", plain, "a.b c", True),
            ("^abc.*", plain, "abc", True),
            ("^abc.*$", plain, "abc", False),
            ("^abc.*$", dot_all, "abc", True),
            ("^abc$", plain, "abc", False),
            ("^abcd", dot_all, "abcd", True),
            ("^abc*", plain, "ab", False),
            ("^abc?", plain, "ab", False),
            ("^abc{2}", plain, "ab", False),
            ("^abc+", plain, "ab", False),
            ("^ab[cd]", plain, "ab", False),
            ("^a*", plain, "", False),
            ("^", plain, "", False),
            ("^.*", plain, "", False),
            ("^abc", ignoring, "", False),
            ("^a|b", plain, "", False),
            ("^a(?i)b", plain, "", False),
            ("abc", plain, "", False),
            ("^a\\db", plain, "a", False),
        ):
            with self.subTest(pattern, flags=flags):
                self.assertEqual(patterns.literal_prefix(pattern, flags), (prefix, is_all))


class DefaultsTest(unittest.TestCase):
    def test_options_of_a_service_have_their_defaults(self):
        self.assertEqual(
            dataclasses.asdict(call.Options()),
            {
                "trusted_providers": frozenset(["anonymous"]),
                "public_url": None,
                "files_url": None,
                "max_upload_bytes": 1_073_741_824,
                "max_body_bytes": 20_971_520,
                "max_json_depth": 100,
                "query_seconds": 5.0,
                "role_create": "client",
                "class_create": "client",
                "rotate_token_on_password": True,
                "verify_emails": False,
                "mail_texts": None,
                "login_needs_verified_email": False,
                "login_needs_verified_phone": False,
                "sign_max_age_s": None,
                "andx_key": None,
                "max_logins_per_address": 100,
                "max_signups_per_address": 500,
                "max_mails_per_address": 500,
                "trusted_proxy": frozenset(["127.0.0.1", "::1"]),
                "max_requests_per_minute": 6000,
                "max_bytes_per_address": 10_737_418_240,
            },
        )
        self.assertEqual(call.Options(max_upload_bytes=1).max_bytes, 20_971_520)
        self.assertEqual(call.Options().max_bytes, 1_073_741_824)

    def test_caller_is_nobody_unless_somebody_says_more(self):
        nobody = {"is_master": False, "user_id": None, "token": None, "has_hook_key": False, "address": "", "is_production": True}
        self.assertEqual(dataclasses.asdict(call.Caller()), nobody)
        made = call.Call(None, call.Caller(), "GET", {}, {}, "http://a")
        self.assertEqual((made.depth, made.own_url, made.is_for_engine), (0, "", False))
        self.assertEqual(dataclasses.astuple(rendering.View()), ("", "", False))

    def test_what_a_call_is_given_cannot_be_changed(self):
        for one, name in (
            (call.Caller(), "is_master"),
            (call.Call(None, call.Caller(), "GET", {}, {}, ""), "service"),
            (rendering.Ready(""), "text"),
            (rendering.View(), "keys"),
            (rendering.Shape({}, frozenset()), "stubs"),
            (objects.Rules(), dataclasses.fields(objects.Rules)[0].name),
        ):
            with self.subTest(type(one).__name__):
                getattr(one, name)
                self.assertRaises(AttributeError, setattr, one, name, None)


if __name__ == "__main__":
    unittest.main()
