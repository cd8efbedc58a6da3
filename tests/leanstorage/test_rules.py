"""What the rules make of single values, and what they refuse: no request, no database."""
import unittest

from leanstorage.rules import acl, cql, operations, phones, rendering, values, where, write
from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.operations import MISSING
from leanstorage.store import Condition, Group, Not

POINTER = {"__type": "Pointer", "className": "C", "objectId": "a"}
FILE = {"__type": "File", "id": "f"}
POINT = {"__type": "GeoPoint", "latitude": 1.0, "longitude": 2.0}
DATE = {"__type": "Date", "iso": "2026-01-02T03:04:05.678Z"}
RELATION = {"type": "Relation", "className": "C"}
PUBLIC = {"*": {"read": True, "write": True}}


class RulesCase(unittest.TestCase):
    def check(self, function, rows):
        """`rows` are (arguments, result) or (arguments, error, a part of its text)."""
        for arguments, wanted, *text in rows:
            with self.subTest(arguments, wanted=wanted):
                try:
                    found = function(*arguments)
                except StorageError as error:
                    found = error.kind
                    for part in text:
                        self.assertIn(part, error.message)
                self.assertEqual(found, wanted)
                self.assertIs(type(found), type(wanted))


class AclTest(RulesCase):
    def test_acl_of_a_client_with_table(self):
        for normalise in (acl.normalise, acl.of_client):
            self.check(
                normalise,
                (
                    ([None], None),
                    ([PUBLIC], None),
                    ([{}], {}),
                    ([{"*": {"read": True}}], {"*": {"read": True}}),
                    ([{"*": {"write": True}}], {"*": {"write": True}}),
                    ([{"*": {"read": True, "write": False}}], {"*": {"read": True, "write": False}}),
                    ([{"*": {"read": False, "write": True}}], {"*": {"read": False, "write": True}}),
                    ([{**PUBLIC, "u": {}}], {**PUBLIC, "u": {}}),
                    ([[]], Code.BAD_ACL, "must be an object"),
                    (["x"], Code.BAD_ACL, "must be an object"),
                    ([{"u": []}], Code.BAD_ACL, "the rights of 'u' must be read and write"),
                    ([{"u": {"delete": True}}], Code.BAD_ACL, "the rights of 'u' must be read and write"),
                    ([{"u": {"read": 1}}], Code.BAD_ACL, "the rights of 'u' must be true or false"),
                    ([{"u": {"read": True, "write": None}}], Code.BAD_ACL, "the rights of 'u' must be true or false"),
                ),
            )

    def test_who_may_do_what_with_table(self):
        rights = {"*": {"read": True}, "u": {"write": True}, "role:a": {"read": False, "write": True}}
        self.check(
            acl.allows,
            (
                ([None, "read", ("*",)], True),
                ([rights, "write", None], True),
                ([{}, "read", ("*",)], False),
                ([rights, "read", ("*",)], True),
                ([rights, "write", ("*",)], False),
                ([rights, "write", ("*", "u")], True),
                ([rights, "write", ("*", "v", "role:a")], True),
                ([{"u": {"read": 1}}, "read", ("*", "u")], False),
            ),
        )


class OperationsTest(RulesCase):
    def test_operation_on_a_value_with_table(self):
        def op(name, **more):
            return {"__op": name, **more}

        one_op = op("Increment", amount=1)
        self.check(
            operations.apply,
            (
                ([MISSING, op("Increment", amount=2), "k"], 2),
                ([None, op("Increment", amount=2), "k"], 2),
                ([1, op("Increment", amount=0.5), "k"], 1.5),
                ([1.5, op("Increment", amount=0.5), "k"], 2),
                ([5, op("Decrement", amount=2), "k"], 3),
                ([MISSING, op("Decrement", amount=2), "k"], -2),
                ([1, op("Increment", amount=True), "k"], Code.BAD_JSON, "Increment needs a number in amount"),
                ([1, op("Decrement"), "k"], Code.BAD_JSON, "Decrement needs a number in amount"),
                (["x", one_op, "k"], Code.WRONG_TYPE, "'k'", '"Number"', "String"),
                ([True, one_op, "k"], Code.WRONG_TYPE, "Boolean"),
                ([1e308, op("Increment", amount=1e308), "k"], Code.BAD_JSON, "too large"),
                ([-1e308, op("Decrement", amount=1e308), "k"], Code.BAD_JSON, "too large"),
                ([10**309, op("Increment", amount=0.5), "k"], Code.BAD_JSON, "too large"),
                ([10**4300 - 2, one_op, "k"], 10**4300 - 1),
                ([10**4300 - 1, one_op, "k"], Code.BAD_JSON, "too large"),
                ([1 - 10**4300, op("Decrement", amount=1), "k"], Code.BAD_JSON, "too large"),
                ([6, op("BitAnd", value=3), "k"], 2),
                ([6, op("BitOr", value=3), "k"], 7),
                ([6, op("BitXor", value=3), "k"], 5),
                ([MISSING, op("BitOr", value=3), "k"], 3),
                ([None, op("BitXor", value=3), "k"], 3),
                ([6, op("BitAnd", value=True), "k"], Code.BAD_JSON, "BitAnd needs an integer in value"),
                ([6, op("BitAnd", value=1.0), "k"], Code.BAD_JSON, "BitAnd needs an integer in value"),
                ([6, op("BitOr"), "k"], Code.BAD_JSON, "BitOr needs an integer in value"),
                ([1.5, op("BitOr", value=1), "k"], Code.WRONG_TYPE, '"Number"'),
                ([True, op("BitOr", value=1), "k"], Code.WRONG_TYPE, "Boolean"),
                ([MISSING, op("Add", objects=[1, 1]), "k"], [1, 1]),
                ([None, op("Add", objects=[1]), "k"], [1]),
                ([[1], op("Add", objects=[1.0, "x"]), "k"], [1, 1, "x"]),
                ([[1], op("AddUnique", objects=[1.0, "x", "x", True]), "k"], [1, "x", True]),
                ([[1, "x", 1.0, True], op("Remove", objects=[1]), "k"], ["x", True]),
                ([MISSING, op("Remove", objects=[1]), "k"], MISSING),
                ([MISSING, op("Remove", objects=[1]), "k", True], []),
                ([None, op("Remove", objects=[1]), "k"], []),
                ([[0] * 10_001, op("Remove", objects=[0]), "k"], []),
                ([[1], op("Add", objects=1), "k"], Code.BAD_JSON, "Add needs an array in objects"),
                ([[1], op("Remove"), "k"], Code.BAD_JSON, "Remove needs an array in objects"),
                (["x", op("AddUnique", objects=[1]), "k"], Code.WRONG_TYPE, '"Array"'),
                ([[1], op("Batch", ops=[op("Add", objects=[2]), op("Remove", objects=[1])]), "k"], [2]),
                ([1, op("Batch", ops=[one_op, one_op]), "k"], 3),
                ([1, op("Batch", ops=[]), "k"], 1),
                ([1, op("Batch", ops={}), "k"], Code.BAD_JSON, "Batch needs an array in ops"),
                ([1, op("Batch", ops=[5]), "k"], Code.BAD_JSON, "unknown __op 5"),
                ([1, op("AddRelation", objects=[POINTER]), "k"], Code.BAD_JSON, "AddRelation acts on a whole relation field"),
                ([1, op("RemoveRelation", objects=[POINTER]), "k"], Code.BAD_JSON, "RemoveRelation acts on a whole relation field"),
                ([1, op("Delete"), "k"], MISSING),
                ([1, op("Frobnicate"), "k"], Code.BAD_JSON, "unknown __op 'Frobnicate'"),
                ([1, op(["Add"]), "k"], Code.BAD_JSON, "unknown __op"),
            ),
        )

    def test_relation_operation_with_table(self):
        def op(name, *objects):
            return {"__op": name, "objects": list(objects)}

        self.check(
            operations.relation_changes,
            (
                ([op("AddRelation", POINTER)], [(True, "C", ["a"])]),
                ([op("RemoveRelation", POINTER, POINTER)], [(False, "C", ["a", "a"])]),
                ([op("AddRelation", FILE)], [(True, "_File", ["f"])]),
                ([{"__op": "Batch", "ops": [op("AddRelation", POINTER), op("RemoveRelation", FILE)]}], [(True, "C", ["a"]), (False, "_File", ["f"])]),
                ([{"__op": "Batch", "ops": [{"__op": "Increment"}]}], Code.BAD_JSON, "Increment does not act on a relation"),
                ([op("AddRelation", POINTER, FILE)], Code.WRONG_TYPE, "_File", "C"),
                ([op("AddRelation", 5)], Code.BAD_RELATION),
                ([op("AddRelation", POINTER, {"a": 1})], Code.BAD_RELATION),
                ([{"__op": "AddRelation", "objects": POINTER}], Code.BAD_RELATION),
                ([{"__op": "AddRelation"}], Code.BAD_RELATION),
            ),
        )
        for value, is_relation in (
            (op("AddRelation"), True),
            (op("RemoveRelation"), True),
            (op("Add"), False),
            ({"__op": ["AddRelation"]}, False),
            ({"__op": "Batch"}, False),
            ({"__op": "Batch", "ops": op("AddRelation")}, False),
            ({"__op": "Batch", "ops": [5, op("Add")]}, False),
            ({"__op": "Batch", "ops": [op("Add"), op("AddRelation")]}, True),
        ):
            with self.subTest(value):
                self.assertIs(operations.is_relation(value), is_relation)

    def test_many_changes_of_an_array_end_like_few(self):
        for values_ in ([1, 2.0, "x", {"a": [1.0]}, True, None], [{"b": 1}, "'", ["x"], 1e300, 0.5]):
            for repeats in (1, 20):  # beyond some, elements are looked for by their texts
                steps = []
                for value in values_:
                    steps += [{"__op": "AddUnique", "objects": [value]}, {"__op": "Remove", "objects": ["none"]}] * repeats
                with self.subTest(values_, repeats=repeats):
                    found = operations.apply([], {"__op": "Batch", "ops": steps}, "k")
                    self.assertEqual([repr(one) for one in found], [repr(values.normalise(one)) for one in values_])
                    gone = {"__op": "Batch", "ops": [*steps, *({"__op": "Remove", "objects": [value]} for value in values_)]}
                    self.assertEqual(operations.apply([], gone, "k"), [])
                    again = {"__op": "Batch", "ops": [*gone["ops"], *steps]}
                    self.assertEqual(len(operations.apply([], again, "k")), len(values_))


class ValuesTest(RulesCase):
    def test_values_of_each_type_with_table(self):
        def typed(kind, **more):
            return {"__type": kind, **more}

        self.check(
            lambda value: values.normalise(value),
            (
                ([typed("Date", iso="2026-01-02T03:04:05.678Z")], DATE),
                ([typed("Date", iso="2026-01-02T04:04:05.678999+01:00", more=1)], DATE),
                ([typed("Date", iso="2026-06-31T00:00:00.000Z")], Code.BAD_JSON, "a Date needs an ISO 8601 time"),
                ([typed("Date", iso="0001-01-01T00:00:00+01:00")], Code.BAD_JSON, "a Date needs an ISO 8601 time"),
                ([typed("Date")], Code.BAD_JSON, "a Date needs an ISO 8601 time"),
                ([typed("Bytes", base64="AAE=")], typed("Bytes", base64="AAE=")),
                ([typed("Bytes", base64="A")], Code.BAD_JSON, "Bytes need base64 text"),
                ([typed("Bytes", base64="A A=")], Code.BAD_JSON, "Bytes need base64 text"),
                ([typed("Bytes", base64=5)], Code.BAD_JSON, "Bytes need base64 text"),
                ([typed("Bytes", base64="中")], Code.BAD_JSON, "Bytes need base64 text"),
                ([{**POINTER, "more": 1}], POINTER),
                ([typed("Pointer", className="_File", objectId="f")], FILE),
                ([typed("Pointer", className="C", objectId="")], Code.BAD_POINTER),
                ([typed("Pointer", className="", objectId="a")], Code.BAD_POINTER),
                ([typed("Pointer", className=5, objectId="a")], Code.BAD_POINTER),
                ([typed("Pointer", className="C", objectId=5)], Code.BAD_POINTER),
                ([typed("Pointer", className="C-", objectId="a")], Code.BAD_CLASS_NAME),
                ([typed("Pointer", className="C", objectId="a-")], Code.BAD_OBJECT_ID),
                ([typed("Pointer", className="_File", objectId="a-")], Code.BAD_OBJECT_ID),
                ([typed("File", id="f", name="n")], FILE),
                ([typed("File", objectId="f")], FILE),
                ([typed("File", id="", objectId="f")], FILE),
                ([typed("File")], Code.BAD_POINTER),
                ([typed("File", id=5)], Code.BAD_POINTER),
                ([typed("GeoPoint", latitude=1, longitude=2)], POINT),
                ([typed("GeoPoint", latitude=1)], Code.BAD_JSON, "the numbers latitude and longitude"),
                ([typed("GeoPoint", latitude=True, longitude=2)], Code.BAD_JSON, "the numbers latitude and longitude"),
                ([typed("GeoPoint", latitude="1", longitude=2)], Code.BAD_JSON, "the numbers latitude and longitude"),
                ([typed("GeoPoint", latitude=1, longitude=float("inf"))], Code.BAD_JSON, "the numbers latitude and longitude"),
                ([typed("Relation", className="C", more=1)], typed("Relation", className="C")),
                ([typed("Relation")], Code.BAD_JSON, "a Relation needs a className"),
                ([typed("Object", className="C", objectId="a")], POINTER),
                ([typed("Object", className="C")], Code.BAD_JSON, "an Object without objectId"),
                ([typed("Object", objectId="a")], Code.BAD_POINTER),
                ([typed("Other")], Code.BAD_JSON, "unknown __type 'Other'"),
                ([typed(None)], Code.BAD_JSON, "unknown __type None"),
                ([typed(["Date"])], Code.BAD_JSON, "unknown __type"),
                ([float(2**63)], float(2**63)),
                ([-(2.0**63)], -(2.0**63)),
                ([2.0**62], 2**62),
                ([None], None),
            ),
        )

    def test_values_are_the_same_with_table(self):
        for left, right, is_same in (
            (1, 1.0, True),
            (1, True, False),
            (0, False, False),
            (True, True, True),
            (False, True, False),
            (None, None, True),
            ([1, [2]], [1.0, [2]], True),
            ([1], [1, 2], False),
            ([1, 2], [1], False),
            ([1], [True], False),
            ({"a": 1}, {"a": 1.0}, True),
            ({"a": 1}, {"a": 1, "b": 2}, False),
            ({"a": 1}, {"b": 1}, False),
            ({"a": 1}, {"a": True}, False),
            ([], {}, False),
            ("1", 1, False),
        ):
            with self.subTest(left=left, right=right):
                self.assertIs(values.same(left, right), is_same)

    def test_names_with_table(self):
        self.check(
            values.check_class_name,
            (
                (["Todo_1"], "Todo_1"),
                (["files"], "_File"),
                (["_file"], "_File"),
                (["_User"], "_User"),
                (["_Notification"], "_Notification"),
                (["_Other"], Code.BAD_CLASS_NAME, "'_Other'"),
                (["1a"], Code.BAD_CLASS_NAME),
                ([""], Code.BAD_CLASS_NAME),
                (["a\n"], Code.BAD_CLASS_NAME),
                ([5], Code.BAD_CLASS_NAME),
            ),
        )
        self.check(
            values.check_key,
            (
                (["ACL"], "ACL"),
                (["acl"], Code.BAD_KEY, "'acl'"),
                (["objectid"], Code.BAD_KEY),
                (["createdAt"], Code.BAD_KEY),
                (["1a_"], "1a_"),
                (["_a"], Code.BAD_KEY),
                (["a b"], Code.BAD_KEY),
            ),
        )


class PhonesTest(RulesCase):
    def test_condition_on_a_number_with_table(self):
        both = ["13912345678", "+8613912345678"]
        self.check(
            phones.widened,
            (
                (["13912345678"], {"$in": both}),
                (["139 1234-5678"], {"$in": ["139 1234-5678", *both]}),
                (["+8613912345678"], {"$in": both[::-1]}),
                (["+15551234567"], {"$in": ["+15551234567"]}),
                (["abc"], {"$in": ["abc"]}),
                ([None], None),
                ([5], 5),
                ([{"$in": ["13912345678", None, 5]}], {"$in": [*both, None, 5]}),
                ([{"$nin": ["13912345678"]}], {"$nin": both}),
                ([{"$ne": "13912345678"}], {"$nin": both}),
                ([{"$ne": "13912345678", "$nin": []}], {"$ne": "13912345678", "$nin": []}),
                ([{"$ne": None}], {"$ne": None}),
                ([{"$in": "x"}], {"$in": "x"}),
                ([{"$exists": True}], {"$exists": True}),
            ),
        )

    def test_number_of_a_client_with_table(self):
        self.check(
            phones.checked,
            (
                (["12345"], "12345"),
                (["1" * 20], "1" * 20),
                (["+" + "1" * 20], "+" + "1" * 20),
                (["(139) 1234-5678"], "13912345678"),
                (["1234"], Code.BAD_PHONE),
                (["1" * 21], Code.BAD_PHONE),
                (["++12345"], Code.BAD_PHONE),
                (["12345x"], Code.BAD_PHONE),
                (["  "], Code.NO_PHONE),
                ([None], Code.NO_PHONE),
                ([12345], Code.NO_PHONE),
            ),
        )


class WhereTest(RulesCase):
    def test_condition_becomes_a_node_with_table(self):
        a, ms = ("a",), 1_767_323_045_678
        self.check(
            lambda condition: where.parse_where("C", condition)[0].where,
            (
                ([{}], Group("and", ())),
                ([[]], Group("and", ())),
                ([{"a": 1}], Condition("eq", a, 1)),
                ([{"a": 1, "b": 2}], Group("and", (Condition("eq", a, 1), Condition("eq", ("b",), 2)))),
                ([[{"a": 1}, {"b": 2}]], Group("and", (Condition("eq", a, 1), Condition("eq", ("b",), 2)))),
                ([{"$or": [{"a": 1}]}], Group("or", (Condition("eq", a, 1),))),
                ([{"$and": [{"a": 1}]}], Condition("eq", a, 1)),
                ([{"a": {"$eq": 1}}], Condition("eq", a, 1)),
                ([{"a": {"$ne": 1}}], Not(Condition("eq", a, 1))),
                ([{"a": {"$in": [1]}}], Condition("eq", a, 1)),
                ([{"a": {"$in": []}}], Condition("in", a, [])),
                ([{"a": {"$in": [1, 1.0, True, "1"]}}], Condition("in", a, [1, True, "1"])),
                ([{"a": {"$nin": [1, 2]}}], Not(Condition("in", a, [1, 2]))),
                ([{"a": {"$all": [1, 1]}}], Condition("all", a, [1])),
                ([{"a": {"$exists": False}}], Condition("exists", a, False)),
                ([{"a": {"$gt": DATE}}], Condition("gt", a, DATE)),
                ([{"a": {"$regex": "^b"}}], Condition("prefix", a, "b")),
                ([{"createdAt": DATE}], Condition("eq", ("createdAt",), ms)),
                ([{"createdAt": {"$lt": "2026-01-02T03:04:05.678Z"}}], Condition("lt", ("createdAt",), ms)),
                ([{"updatedAt": {"$gt": "no time"}}], Condition("gt", ("updatedAt",), -1)),
                ([{"updatedAt": 5}], Condition("eq", ("updatedAt",), -1)),
                ([{"createdAt": None}], Condition("eq", ("createdAt",), None)),
                ([{"createdAt.x": DATE}], Condition("eq", ("createdAt", "x"), DATE)),
                ([{"a": {"$within": {"$box": [POINT, [3, 4]]}}}], Condition("box", a, (1.0, 2.0, 4.0, 3.0))),
                ([{"$relatedTo": {"object": POINTER, "key": "k"}}], Condition("related", (), ("C", "a", "k"))),
                ([{"$relatedTo": {"object": FILE, "key": "k"}}], Condition("related", (), ("_File", "f", "k"))),
                ([5], Code.BAD_JSON, "where must be an object"),
                ([{"$nor": []}], Code.BAD_QUERY, "unknown operator $nor"),
                ([{"$or": []}], Code.BAD_QUERY, "$or needs a non-empty array"),
                ([{"$and": {}}], Code.BAD_QUERY, "$and needs a non-empty array"),
                ([{"a": {"$frob": 1}}], Code.BAD_QUERY, "unknown operator $frob"),
                ([{"a": {"$gt": 1, "b": 2}}], Code.BAD_QUERY, "'a' mixes operators and values"),
                ([{"a": {"$gt": [1]}}], Code.BAD_QUERY, "$gt needs a number, a text or a Date"),
                ([{"a": {"$lte": POINTER}}], Code.BAD_QUERY, "$lte needs a number"),
                ([{"a": {"$in": 5}}], Code.BAD_QUERY, "$in needs an array"),
                ([{"a": {"$nin": 5}}], Code.BAD_QUERY, "$nin needs an array"),
                ([{"a": {"$all": 5}}], Code.BAD_QUERY, "$all needs an array"),
                ([{"a": {"$exists": 1}}], Code.BAD_QUERY, "$exists needs true or false"),
                ([{"a": {"$options": "i"}}], Code.BAD_QUERY, "$options needs $regex"),
                ([{"a": {"$maxDistance": 1}}], Code.BAD_QUERY, "$maxDistance needs $nearSphere"),
                ([{"a": {"$regex": 5}}], Code.BAD_QUERY, "$regex and $options need texts"),
                ([{"a": {"$regex": "a", "$options": 5}}], Code.BAD_QUERY, "$regex and $options need texts"),
                ([{"a": {"$regex": "("}}], Code.BAD_QUERY, "$regex: "),
                ([{"a": {"$select": 5}}], Code.BAD_QUERY, "$select needs key and query"),
                ([{"a": {"$select": {"key": "k", "query": 5}}}], Code.BAD_QUERY, "$select needs className and where"),
                ([{"a": {"$dontSelect": []}}], Code.BAD_QUERY, "$select needs key and query"),
                ([{"a": {"$select": {"key": 5, "query": {"className": "D"}}}}], Code.BAD_QUERY, "a key must be text"),
                ([{"a": {"$inQuery": {"where": {}}}}], Code.BAD_QUERY, "$inQuery needs className and where"),
                ([{"a": {"$notInQuery": 5}}], Code.BAD_QUERY, "$notInQuery needs className and where"),
                ([{"a": {"$nearSphere": 5}}], Code.BAD_QUERY, "$nearSphere needs a GeoPoint"),
                ([{"a": {"$nearSphere": DATE}}], Code.BAD_QUERY, "$nearSphere needs a GeoPoint"),
                ([{"a": {"$nearSphere": POINT, "$maxDistance": "1"}}], Code.BAD_QUERY, "$maxDistance needs a number"),
                ([{"a": {"$nearSphere": POINT, "$minDistance": True}}], Code.BAD_QUERY, "$minDistance needs a number"),
                ([{"$or": [{"a": {"$nearSphere": POINT}}]}], Code.BAD_QUERY, "$nearSphere cannot stand inside $or"),
                ([{"a": {"$within": {"$box": [POINT]}}}], Code.BAD_QUERY, "$within needs $box"),
                ([{"a": {"$within": {"$box": [POINT, POINT], "b": 1}}}], Code.BAD_QUERY, "$within needs $box"),
                ([{"a": {"$within": 5}}], Code.BAD_QUERY, "$within needs $box"),
                ([{"a": {"$within": {"$box": [POINT, [1]]}}}], Code.BAD_QUERY, "$box needs GeoPoints"),
                ([{"a": {"$within": {"$box": [POINT, DATE]}}}], Code.BAD_QUERY, "$box needs GeoPoints"),
                ([{"$relatedTo": 5}], Code.BAD_QUERY, "$relatedTo needs object and key"),
                ([{"$relatedTo": {"object": POINTER}}], Code.BAD_QUERY, "$relatedTo needs object and key"),
                ([{"$relatedTo": {"object": 5, "key": "k"}}], Code.BAD_QUERY, "$relatedTo needs a Pointer"),
                ([{"$relatedTo": {"object": DATE, "key": "k"}}], Code.BAD_QUERY, "$relatedTo needs a Pointer"),
                ([{"a-": 1}], Code.BAD_QUERY, "'a-' is not a key"),
                ([{"a..b": 1}], Code.BAD_QUERY, "'a..b' is not a key"),
                ([{"a.$b": 1}], Code.BAD_QUERY, "'a.$b' is not a key"),
                ([{"a.\x1f": 1}], Code.BAD_QUERY, "is not a key"),
                ([{"a. ": 1}], Condition("eq", ("a", " "), 1)),
            ),
        )

    def test_distances_are_radians_and_no_longer_than_any(self):
        for name, value, angles in (
            ("$maxDistance", 1, (None, 1)),
            ("$minDistance", 1, (1, None)),
            ("$maxDistanceInRadians", 2.5, (None, 2.5)),
            ("$maxDistanceInKilometers", 6371, (None, 1)),
            ("$minDistanceInMiles", 3958.8, (1, None)),
            ("$maxDistance", 10, (None, 10)),
            ("$maxDistance", 11, (None, 10)),
            ("$maxDistance", -11, (None, -10)),
            ("$maxDistanceInKilometers", 10**400, (None, 10)),
            ("$minDistanceInKilometers", -(10**400), (-10, None)),
            ("$minDistanceInMiles", 39588, (10, None)),
            ("$minDistanceInMiles", 39589, (10, None)),
        ):
            with self.subTest(name, value=value):
                query, _ = where.parse_where("C", {"a": {"$nearSphere": POINT, name: value}})
                self.assertEqual(query.where, Condition("near", ("a",), (1.0, 2.0, *angles)))
                self.assertEqual(query.near, (("a",), 1.0, 2.0))

    def test_near_within_a_sub_query_orders_nothing_outside(self):
        inner = {"className": "D", "where": {"b": {"$nearSphere": POINT}}}
        self.assertIsNone(where.parse_where("C", {"a": {"$inQuery": inner}})[0].near)
        query, mentioned = where.parse_where("C", {"c": {"$nearSphere": POINT}, "a": {"$inQuery": inner}})
        self.assertEqual((query.near[0], mentioned), (("c",), {"D"}))
        self.assertIsNone(where.with_limits(query, {"order": "x"}).near)
        self.assertEqual(where.with_limits(query, {}).near, query.near)

    def test_options_of_a_sub_query_with_table(self):
        for options, wanted in (
            ({}, ((), None, 0)),
            ({"limit": 5, "skip": 2}, ((), 5, 2)),
            ({"limit": 5000}, ((), 1000, 0)),
            ({"limit": 0}, ((), 0, 0)),
            ({"order": "-b"}, (((("b",), True),), None, 0)),
        ):
            with self.subTest(options):
                node = where.parse_where("C", {"a": {"$inQuery": {"className": "D", **options}}})[0].where
                self.assertEqual((node.operand.order, node.operand.limit, node.operand.skip), wanted)

    def test_order_and_names_with_table(self):
        self.check(
            where.parse_order,
            (
                (["", "C"], ()),
                ([None, "C"], ()),
                (["a,-b,+c", "C"], ((("a",), False), (("b",), True), (("c",), False))),
                (["a,-a", "C"], ((("a",), False),)),
                (["a b", "C"], Code.BAD_QUERY, "'a b' is not a key"),
                (["password", "_User"], Code.BAD_QUERY, "'password' is private"),
                (["authData", "_User"], Code.BAD_QUERY, "'authData' is private"),
                (["authData", "_User", True], ((("authData",), False),)),
                (["_x", "_User", True], Code.BAD_QUERY, "'_x' is private"),
                (["password", "C"], ((("password",), False),)),
            ),
        )
        self.check(
            where.parse_names,
            (
                (["a, b ,,a", "keys"], ["a", "b"]),
                ([None, "keys"], []),
                (["", "keys"], []),
                ([0, "keys"], []),
                ([5, "keys"], Code.BAD_QUERY, "keys must be text"),
                ([["a"], "include"], Code.BAD_QUERY, "include must be text"),
            ),
        )


class WriteTest(RulesCase):
    def changed(self, fields, body=None, columns=None, creating=False):
        change = write.apply(fields, body or {}, None, columns or {}, creating)
        return (change.body, change.relations, change.cleared, change.written)

    def test_change_of_an_object_with_table(self):
        add = {"__op": "AddRelation", "objects": [POINTER]}
        columns = {"r": RELATION}
        stub = {"__type": "Relation", "className": "C"}
        self.check(
            self.changed,
            (
                ([{"a": 1, "b.c": 2}], ({"a": 1, "b": {"c": 2}}, [], [], ["a", "b"])),
                ([{"a": {"__op": "Delete"}}, {"a": 1, "b": 2}], ({"b": 2}, [], [], ["a"])),
                ([{"a.b": {"__op": "Delete"}}, {"a": {"b": 1, "c": 2}}], ({"a": {"c": 2}}, [], [], ["a"])),
                ([{"a.b": {"__op": "Delete"}}], ({}, [], [], ["a"])),
                ([{"a.b.c": 1, "a.b.d": 2}, {"a": {"b": {"e": 3}}}], ({"a": {"b": {"c": 1, "d": 2, "e": 3}}}, [], [], ["a"])),
                ([{"a.b": 1}, {"a": "x"}], Code.WRONG_TYPE, "'a'", '"Object"', "String"),
                ([{"a.b": 1}, {"a": DATE}], Code.WRONG_TYPE, "Date"),
                ([{"a.b.c": 1}, {"a": {"b": 5}}], Code.WRONG_TYPE, "'a.b.c'", "Number"),
                ([{"a.b.c": 1}, {"a": {"b": DATE}}], Code.WRONG_TYPE, "Date"),
                ([{"a.b.c": 1}, {"a": {"b": None}}], ({"a": {"b": {"c": 1}}}, [], [], ["a"])),
                ([{"a..b": 1}], Code.BAD_KEY, "'a..b'"),
                ([{"a.$b": 1}], Code.BAD_KEY),
                ([{"a.__type": 1}], Code.BAD_KEY),
                ([{"r": add}], ({}, [("r", True, "C", ["a"])], [], ["r"])),
                ([{"r": add}, {"r": None}], ({"r": None}, [("r", True, "C", ["a"])], [], ["r"])),
                ([{"r": add}, {"r": 5}], Code.WRONG_TYPE, '"Number"', "Relation"),
                ([{"r": {"__op": "Delete"}}, {}, columns], ({}, [], ["r"], ["r"])),
                ([{"r": {"__op": "Batch"}}, {}, columns], ({}, [], [], ["r"])),
                ([{"r": {}}, {}, columns], ({}, [], [], ["r"])),
                ([{"r": None}, {}, columns], ({}, [], [], ["r"])),
                ([{"r": stub}, {}, columns], ({}, [], [], ["r"])),
                ([{"r": stub}], ({}, [], [], ["r"])),
                ([{"r": stub}, {"r": None}], ({}, [], [], ["r"])),
                ([{"r": {**stub, "className": "D"}}, {}, columns], Code.WRONG_TYPE, "Relation"),
                ([{"r": 5}, {}, columns], Code.WRONG_TYPE, '"Relation"', "Number"),
                ([{"r": {"__op": "Increment", "amount": 1}}, {}, columns], Code.WRONG_TYPE, '"Relation"', "Increment"),
                ([{"r": {"__op": "AddRelation", "objects": [FILE]}}, {}, columns], Code.WRONG_TYPE, "_File"),
                ([{"r": {"__op": "Batch", "ops": [add, {"__op": "AddRelation", "objects": [FILE]}]}}], Code.WRONG_TYPE, "_File"),
                ([{"a": {"__op": "Remove", "objects": []}}], ({}, [], [], ["a"])),
                ([{"a": {"__op": "Remove", "objects": []}}, {}, {}, True], ({"a": []}, [], [], ["a"])),
                ([{"a": 10**4400}], Code.BAD_JSON, "too many digits"),
            ),
        )

    def test_changed_object_is_not_the_one_before(self):
        body = {"a": {"b": {"c": 1}}, "n": 1}
        self.changed({"a.b.c": 2, "n": 2}, body)
        self.assertEqual(body, {"a": {"b": {"c": 1}}, "n": 1})

    def test_acl_of_a_write_with_table(self):
        for value, wanted in ((PUBLIC, None), ({}, {}), ({"__op": "Delete"}, None), (None, None), ({"u": {"read": True}}, {"u": {"read": True}})):
            with self.subTest(value):
                self.assertEqual(write.apply({"ACL": value}, {}, {"x": {}}, {}, False).acl, wanted)
        self.assertEqual(write.apply({}, {}, {"x": {}}, {}, False).acl, {"x": {}})

    def test_keys_of_a_body_with_table(self):
        self.check(
            write.clean,
            (
                ([{"objectId": 1, "createdAt": 1, "__x": 1, "a": 1}, True], {"a": 1}),
                ([{"a.b c": 1}, False], {"a.b c": 1}),
                ([{"a.b": 1}, True], Code.BAD_KEY, "'a.b'"),
                ([{"a b.c": 1}, False], Code.BAD_KEY, "'a b'"),
                ([{"_a": 1}, False], Code.BAD_KEY),
            ),
        )
        self.assertEqual(write.hook_fields({"__before": 1, "__after": 2, "__ignore_hooks": [], "a": 1}), {"__before": 1, "__after": 2, "__ignore_hooks": []})
        self.assertEqual(write.hook_fields([]), {})


class KeysTest(RulesCase):
    def test_chosen_keys_of_an_object_with_table(self):
        whole = {"objectId": "o", "createdAt": "c", "updatedAt": "u", "ACL": {}, "a": {"b": {"c": 1, "d": 2}, "e": 3}, "l": [{"x": 1, "y": 2}, 5], "n": 1, "p": {**POINTER, "createdAt": "t", "z": 1}}
        own = {key: whole[key] for key in ("objectId", "createdAt", "updatedAt", "ACL")}
        for included, excluded, wanted in (
            (["n"], [], {**own, "n": 1}),
            (["a.b"], [], {**own, "a": {"b": whole["a"]["b"]}}),
            (["a.b.c"], [], {**own, "a": {"b": {"c": 1}}}),
            (["a.b.c", "a.b"], [], {**own, "a": {"b": whole["a"]["b"]}}),
            (["a.b", "a.b.c"], [], {**own, "a": {"b": whole["a"]["b"]}}),
            (["a", "a.b.c"], [], {**own, "a": whole["a"]}),
            (["l.x"], [], {**own, "l": [{"x": 1}, 5]}),
            (["n.x"], [], {**own, "n": 1}),
            (["p.z"], [], {**own, "p": whole["p"]}),
            (["p.none"], [], {**own, "p": {**POINTER, "createdAt": "t"}}),
            (["none"], [], own),
            ([], ["n", "p", "l"], {**own, "a": whole["a"]}),
            ([], ["a.b.c", "l", "n", "p"], {**own, "a": {"b": {"d": 2}, "e": 3}}),
            (["l"], ["l.x"], {**own, "l": [{"y": 2}, 5]}),
            (["n", "a"], ["a"], {**own, "n": 1}),
            ([], [], whole),
        ):
            with self.subTest(included=included, excluded=excluded):
                found = rendering._selected(rendering.copied(whole), rendering._tree(included), rendering._tree(excluded))
                self.assertEqual(found, wanted)

    def test_text_that_is_ready_is_decoded(self):
        self.assertEqual(rendering.Ready('{"a": [1]}').decoded(), {"a": [1]})
        self.assertEqual(rendering.ready({"results": []}), {"results": []})
        self.assertEqual(rendering.ready({"results": [{"a": 1}]}), {"results": [{"a": 1}]})
        self.assertEqual(rendering.ready({"results": ['{"a":1}', "{}"]}).text, '{"results":[{"a":1},{}]}')
        self.assertEqual(rendering.ready({"results": ["{}"], "count": 2}).text, '{"results":[{}],"count":2}')


class CqlTest(RulesCase):
    def parsed(self, text, *pvalues):
        found = cql.parse(text, list(pvalues))
        if isinstance(found, cql.Write):
            return (found.method, found.class_name, found.object_id, found.fields)
        return (found.class_name, found.where, found.options, found.is_counted, found.is_listed)

    def test_select_with_table(self):
        self.check(
            self.parsed,
            (
                (["select * from C"], ("C", {}, {}, False, True)),
                (["select a, b from C"], ("C", {}, {"keys": "a,b"}, False, True)),
                (["select count(*) from C"], ("C", {}, {}, True, False)),
                (["select count(a), * from C"], ("C", {}, {}, True, True)),
                (["select include p, a from C"], ("C", {}, {"keys": "a,p", "include": "p"}, False, True)),
                (["select include p from C"], ("C", {}, {"include": "p"}, False, True)),
                (["select *, include p from C"], ("C", {}, {"include": "p"}, False, True)),
                (["select include from C"], Code.CQL_SYNTAX, "column"),
                (["select count from C"], ("C", {}, {"keys": "count"}, False, True)),
                (["select * from C limit 5"], ("C", {}, {"limit": 5}, False, True)),
                (["select * from C limit 5, 6"], ("C", {}, {"skip": 5, "limit": 6}, False, True)),
                (["select * from C limit 0"], ("C", {}, {"limit": 0}, False, True)),
                (["select * from C limit -1"], Code.CQL_SYNTAX),
                (["select * from C limit true"], Code.CQL_SYNTAX),
                (["select * from C limit 1.5"], Code.CQL_SYNTAX),
                (["select * from C limit ?", 7], ("C", {}, {"limit": 7}, False, True)),
                (["select * from C order by a"], ("C", {}, {"order": "+a"}, False, True)),
                (["select * from C order by -a, b desc"], ("C", {}, {"order": "-a,-b"}, False, True)),
                (["select * from C order a"], Code.CQL_SYNTAX),
                (["select * from C x"], Code.CQL_SYNTAX, "line 1, column 17"),
                (["select * from C\nwhere a ="], Code.CQL_SYNTAX, "line 2, column 10"),
                (["select * from 5"], Code.CQL_SYNTAX, "line 1, column 15"),
                (["\nselect * from 5"], Code.CQL_SYNTAX, "line 2, column 15"),
                (["select * C"], Code.CQL_SYNTAX, "line 1, column 10"),
                (["select"], Code.CQL_SYNTAX),
            ),
        )

    def test_condition_with_table(self):
        self.check(
            lambda text, *pvalues: cql.parse(f"select * from C where {text}", list(pvalues)).where,
            (
                (["a = 1"], {"a": 1}),
                (["a = ?", {"b": 1}], {"a": {"$eq": {"b": 1}}}),
                (["a = ?", DATE], {"a": DATE}),
                (["a != 1"], {"a": {"$ne": 1}}),
                (["a <> 1"], {"a": {"$ne": 1}}),
                (["a < 1"], {"a": {"$lt": 1}}),
                (["a <= 1"], {"a": {"$lte": 1}}),
                (["a > 1"], {"a": {"$gt": 1}}),
                (["a >= 1"], {"a": {"$gte": 1}}),
                (["a = 1 and b = 2"], {"$and": [{"a": 1}, {"b": 2}]}),
                (["a = 1 or b = 2"], {"$or": [{"a": 1}, {"b": 2}]}),
                (["(a = 1 or b = 2) and c = 3"], {"$and": [{"$or": [{"a": 1}, {"b": 2}]}, {"c": 3}]}),
                (["a like 'x%.'"], {"a": {"$regex": "^x.*\\.$", "$options": "s"}}),
                (["a not like 'x'"], {"a": {"$regex": "^(?!^x$)", "$options": "s"}}),
                (["a like 5"], Code.CQL_SYNTAX),
                (["a regexp 'x'"], {"a": {"$regex": "x"}}),
                (["a not regexp 'x'"], {"a": {"$regex": "\\A(?!.*(?:x))", "$options": "s"}}),
                (["a in (1, 2)"], {"a": {"$in": [1, 2]}}),
                (["a in [1]"], {"a": {"$in": [1]}}),
                (["a in ()"], {"a": {"$in": []}}),
                (["a in ?", [1, 2]], {"a": {"$in": [1, 2]}}),
                (["a in ?", 1], {"a": {"$in": [1]}}),
                (["a in (1]"], Code.CQL_SYNTAX),
                (["a not in (1)"], {"a": {"$nin": [1]}}),
                (["a not 5"], Code.CQL_SYNTAX),
                (["a all (1, 2)"], {"a": {"$all": [1, 2]}}),
                (["a is null"], {"a": {"$in": [None]}}),
                (["a is not null"], {"a": {"$ne": None}}),
                (["a is exists"], {"a": {"$exists": True}}),
                (["a is not exists"], {"a": {"$exists": False}}),
                (["a is 5"], Code.CQL_SYNTAX),
                (["size(a) = 3"], {"a": {"$size": 3}}),
                (["size = 3"], {"size": 3}),
                (["related k to pointer('C', 'a')"], {"$relatedTo": {"object": POINTER, "key": "k"}}),
                (["related k pointer('C', 'a')"], Code.CQL_SYNTAX),
                (["a near [2, 1]"], {"a": {"$nearSphere": {"__type": "GeoPoint", "longitude": 2, "latitude": 1}}}),
                (["a near ? max 1 km min 2 miles", POINT], {"a": {"$nearSphere": POINT, "$maxDistanceInKilometers": 1, "$minDistanceInMiles": 2}}),
                (["a near ? max 1", POINT], {"a": {"$nearSphere": POINT, "$maxDistanceInRadians": 1}}),
                (["a within ? and [1, 2]", POINT], {"a": {"$within": {"$box": [POINT, {"__type": "GeoPoint", "longitude": 1, "latitude": 2}]}}}),
                (["a = (select b from D)"], {"a": {"$select": {"key": "b", "query": {"className": "D", "where": {}}}}}),
                (["a != (select b from D where c = 1 limit 2, 3)"], {"a": {"$dontSelect": {"key": "b", "query": {"className": "D", "where": {"c": 1}, "skip": 2, "limit": 3}}}}),
                (["a in (select * from D order by b)"], {"a": {"$inQuery": {"className": "D", "where": {}, "order": "+b"}}}),
                (["a not in (select objectId from D)"], {"a": {"$notInQuery": {"className": "D", "where": {}}}}),
                (["a < (select b from D)"], Code.CQL_SYNTAX),
                (["a"], Code.CQL_SYNTAX),
                (["a = 1 b"], Code.CQL_SYNTAX),
                (["a = ?"], Code.CQL_SYNTAX, "fewer pvalues than question marks"),
            ),
        )

    def test_value_with_table(self):
        self.check(
            lambda text: cql.parse(f"select * from C where a in ({text})", []).where["a"]["$in"][0],
            (
                (["-1.5e2"], -150.0),
                (["1e999"], Code.CQL_SYNTAX, "line 1, column 29"),
                (["'it''s'"], "it's"),
                (["'a\\n\\x'"], "a\nx"),
                (['"a\'\'b"'], "a''b"),
                (["true"], True),
                (["NULL"], None),
                (["[1, [2]]"], [1, [2]]),
                (["{a: 1, 'b': {}}"], {"a": 1, "b": {}}),
                (["{5: 1}"], Code.CQL_SYNTAX),
                (["{a 1}"], Code.CQL_SYNTAX),
                (["{a: 1 b: 2}"], Code.CQL_SYNTAX),
                (["date('2026')"], {"__type": "Date", "iso": "2026"}),
                (["date()"], Code.CQL_SYNTAX),
                (["date('a', 'b')"], Code.CQL_SYNTAX),
                (["base64('AA')"], {"__type": "Bytes", "base64": "AA"}),
                (["file('f')"], FILE),
                (["geopoint(2.0, 1.0)"], POINT),
                (["geopoint(2)"], Code.CQL_SYNTAX),
                (["pointer('C', 'a')"], POINTER),
                (["pointer 'C'"], Code.CQL_SYNTAX),
                (["current_timestamp(1)"], Code.CQL_SYNTAX),
                (["frob(1)"], Code.CQL_SYNTAX),
                (["*"], Code.CQL_SYNTAX),
            ),
        )
        self.assertEqual(cql.parse("select * from C where a = current_timestamp()", []).where["a"]["__type"], "Date")

    def test_write_with_table(self):
        self.check(
            self.parsed,
            (
                (["insert into C(a, b) values(1, ?)", 2], ("POST", "C", "", {"a": 1, "b": 2})),
                (["insert into C(a, b) values(1)"], Code.CQL_SYNTAX, "as many values as columns"),
                (["insert into C() values()"], Code.CQL_SYNTAX),
                (["insert C(a) values(1)"], Code.CQL_SYNTAX),
                (["insert into C(a) value(1)"], Code.CQL_SYNTAX),
                (["update C set a = 1, b = 'x' where objectId = 'o'"], ("PUT", "C", "o", {"a": 1, "b": "x"})),
                (["update C set where objectId = 'o'"], Code.CQL_SYNTAX),
                (["update C set a = 1"], Code.CQL_SYNTAX),
                (["update C set a = 1 where b = 'o'"], Code.CQL_SYNTAX, "by its objectId alone"),
                (["update C set a = 1 where objectId = 5"], Code.CQL_SYNTAX, "by its objectId alone"),
                (["delete from C where objectId = 'o'"], ("DELETE", "C", "o", {})),
                (["delete C where objectId = 'o'"], Code.CQL_SYNTAX),
                (["delete from C where objectId > 'o'"], Code.CQL_SYNTAX),
                (["delete from C where objectId = 'o' and a = 1"], Code.CQL_SYNTAX),
            ),
        )

    def test_depth_of_a_statement_is_20(self):
        deep = {
            "parentheses": lambda n: "select * from C where " + "(" * n + "a = 1" + ")" * n,
            "sub-queries": lambda n: "select * from C" + " where a in (select * from C" * n + ")" * n,
            "arrays": lambda n: "select * from C where a = " + "[" * n + "]" * n,
            "objects": lambda n: "select * from C where a = " + "{a:" * n + "1" + "}" * n,
            "arrays that are set": lambda n: "update C set a = " + "[" * n + "]" * n + " where objectId = 'o'",
            "arrays that are inserted": lambda n: "insert into C(a) values(" + "[" * n + "]" * n + ")",
            "forms": lambda n: "select * from C where a = " + "date(" * n + "1" + ")" * n,
        }
        for name, made in deep.items():
            for number, is_allowed in ((20, True), (21, name.startswith("arrays")), (22, False)):  # the innermost array holds nothing
                with self.subTest(name, number=number):
                    try:
                        cql.parse(made(number), [])
                        found = True
                    except StorageError as error:
                        self.assertIn("nested too deeply", error.message)
                        found = False
                    self.assertIs(found, is_allowed)

    def test_values_of_a_statement_with_table(self):
        self.check(
            cql.parse_pvalues,
            (
                ([None], []),
                (["[1]"], [1]),
                (['"[1]"'], [1]),
                ([[1]], [1]),
                (["{}"], Code.CQL_SYNTAX, "pvalues is not an array"),
                ([5], Code.CQL_SYNTAX, "pvalues is not an array"),
                (["["], Code.CQL_SYNTAX, "pvalues is not JSON"),
                (['"["'], Code.CQL_SYNTAX, "pvalues is not JSON"),
            ),
        )


if __name__ == "__main__":
    unittest.main()
