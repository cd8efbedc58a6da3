"""The parts of the store that need no database: cells, choices among indexes, fragments of SQL, stages of a query."""

import math
import unittest
from unittest import mock

from leanstorage.store import Condition, Group, Not, Query, QueryTimeout, Row, Stale, TRUE
from leanstorage.store import choice, decode_bodies, fragments, grid, indexing, memory, newer_layout, paths, stages, tallies, type_of
from leanstorage.store.sqlite import compiler as sqlite_compiler
from leanstorage.store.sqlite.compiler import SqliteCompiler


def where(*nodes):
    return Group("and", nodes)


def eq(key, value=1):
    return Condition("eq", tuple(key.split(".")), value)


class GridTest(unittest.TestCase):
    def cells(self, latitude, longitude, degrees):
        """{row: [(first column, last column)]}"""
        found = {}
        for low, high in grid.ranges(latitude, longitude, math.radians(degrees)) or ():
            row, column = divmod(low, grid.ROW)
            found.setdefault(row, []).append((column, high - row * grid.ROW))
        return found

    def test_cells_are_those_within_the_distance_and_no_others(self):
        self.assertEqual(grid.ROW, 36_001)
        for place, cells in (
            ((0, 0, 0.015), {row: [(17_998, 18_001)] for row in range(8998, 9002)}),
            ((0.005, 0.005, 0), {9000: [(18_000, 18_000)]}),
            ((60.005, 10.005, 0.012), {row: [(18_998, 19_002)] for row in (14_999, 15_000, 15_001)}),
            ((0.005, 180, 0.012), {row: [(35_998, 36_000), (0, 1)] for row in (8999, 9000, 9001)}),
            ((0.005, -180, 0.012), {row: [(0, 1), (35_998, 36_000)] for row in (8999, 9000, 9001)}),
            ((90, 0, 0.005), {17_999: [(0, 36_000)], 18_000: [(0, 36_000)]}),
            ((-90, 0, 0.005), {0: [(0, 36_000)]}),
            ((88.985, 0.005, 0.004), {17_898: [(17_977, 18_023)]}),
            ((88.985, 0, 0.016), {row: [(0, 36_000)] for row in (17_896, 17_897, 17_898, 17_899, 17_900)}),
            ((-88.985, 0, 0.016), {row: [(0, 36_000)] for row in (99, 100, 101, 102, 103)}),
        ):
            with self.subTest(place):
                self.assertEqual(self.cells(*place), cells)

    def test_what_is_larger_than_seven_hundred_rows_has_no_cells(self):
        self.assertEqual(len(self.cells(0.005, 0, 3.5)), 701)
        self.assertEqual(len(self.cells(0.002, 0, 3.504)), 0)


class ChoiceTest(unittest.TestCase):
    def test_nodes_that_must_hold(self):
        a, b, either = eq("a"), eq("b"), Group("or", (eq("a"), eq("b")))
        for node, nodes, conditions in (
            (a, (a,), [a]),
            (where(a, b), (a, b), [a, b]),
            (either, (either,), []),
            (where(a, either, Not(b)), (a, either, Not(b)), [a]),
            (TRUE, (), []),
        ):
            with self.subTest(node=node):
                self.assertEqual((choice.top_nodes(node), choice.top_conditions(node)), (nodes, conditions))

    def test_keys_that_a_condition_is_on(self):
        ops = frozenset(["eq", "in"])
        for node, keys in (
            (eq("a"), {"a"}),
            (eq("a.b"), set()),
            (eq("a", None), set()),
            (Condition("in", ("a",), [1, 2]), {"a"}),
            (Condition("in", ("a",), [1, None]), set()),
            (Condition("gt", ("a",), 1), set()),
            (where(eq("a"), eq("b")), {"a", "b"}),
        ):
            with self.subTest(node=node):
                self.assertEqual(choice.keys_of(node, ops), keys)
        self.assertEqual(choice.keys_of(Condition("all", ("a",), [None]), frozenset(["all"])), {"a"})

    def test_keys_that_indexes_serve_end_behind_the_first_that_is_not_equal(self):
        node = where(eq("a"), eq("b"), Condition("gt", ("c",), 1))
        for indexes, keys in (
            ((), set()),
            ((("a",),), {"a"}),
            ((("a", "b", "c", "d"),), {"a", "b", "c"}),
            ((("c", "a"),), {"c"}),
            ((("a", "x", "b"),), {"a", "x"}),
            ((("a",), ("b", "y")), {"a", "b", "y"}),
        ):
            with self.subTest(indexes=indexes):
                self.assertEqual(choice.served_keys(node, indexes), keys)

    def test_index_of_an_order_has_most_equal_values_and_goes_on_as_asked(self):
        node = where(eq("a"), eq("b"))
        by = {
            "": (),
            "created": ((("createdAt",), False),),
            "x": ((("x",), False),),
            "x, y": ((("x",), True), (("y",), True)),
            "x.y": ((("x", "y"), False),),
            "b": ((("b",), False),),
        }
        for order, indexes, expected in (
            ("", (("a",), ("a", "b")), (("a", "b"), 2)),
            ("", (("a", "b"), ("a",)), (("a", "b"), 2)),
            ("", (("c", "a"),), ((), 0)),
            ("", (("a", "x"), ("a",)), (("a",), 1)),
            ("", (("b", "x"), ("a", "y")), (("b", "x"), 1)),
            ("created", (("a", "x"), ("a",)), (("a",), 1)),
            ("x", (("a",), ("a", "x")), (("a", "x"), 1)),
            ("x", (("a", "y"), ("a", "x", "y")), (("a", "x", "y"), 1)),
            ("x, y", (("a", "x"), ("a", "x", "y")), (("a", "x", "y"), 1)),
            ("x.y", (("a", "x"), ("a",)), (("a",), 1)),
            ("", (), ((), 0)),
        ):
            with self.subTest(order=order, indexes=indexes):
                self.assertEqual(choice.by_order(Query("C", node, order=by[order]), indexes), expected)

    def test_indexes_of_a_range_begin_with_equal_keys_and_go_on_with_it(self):
        least, most, among = Condition("gt", ("c",), 1), Condition("lte", ("c",), 9), Condition("in", ("c",), [1, 2])
        for nodes, indexes, expected in (
            ((eq("a"), least, most), (("a", "c"),), [(("a", "c"), "c", where(least, most))]),
            ((eq("a"), least), (("c",), ("c", "a")), [(("c",), "c", where(least)), (("c", "a"), "c", where(least))]),
            ((eq("a"), least), (("a", "b", "c"), ("a",)), []),
            ((among,), (("c",),), [(("c",), "c", where(among))]),
            ((Condition("in", ("c",), [1, None]),), (("c",),), []),
            ((Condition("gt", ("c", "d"), 1),), (("c",),), []),
            ((Condition("ne", ("c",), 1),), (("c",),), []),
            ((Condition("prefix", ("c",), "x"),), (("c",),), [(("c",), "c", where(Condition("prefix", ("c",), "x")))]),
        ):
            with self.subTest(nodes=nodes, indexes=indexes):
                self.assertEqual(choice.by_range(Query("C", where(*nodes)), indexes), expected)


class FragmentsTest(unittest.TestCase):
    def test_parameters_stand_in_the_order_of_the_text(self):
        found = fragments.build("{} < {} AND {}", fragments.bind(1), ("x", []), ("f(?, ?)", [2, 3]))
        self.assertEqual(found, ("? < x AND f(?, ?)", [1, 2, 3]))

    def test_beginning_of_a_text_is_a_range(self):
        text = ("t", [])
        self.assertEqual(fragments.between(text, "ab"), ("(t >= ? AND t < ?)", ["ab", "ac"]))
        self.assertEqual(fragments.between(text, ""), ("t >= ?", [""]))

    def test_joined_parts_are_nested_behind_the_hundredth(self):
        self.assertEqual(fragments.join("AND", []), ("TRUE", []))
        self.assertEqual(fragments.join("OR", []), ("FALSE", []))
        self.assertEqual(fragments.join("OR", iter([("a", [1]), ("b", [2])])), ("(a OR b)", [1, 2]))
        for number, text in ((100, "(" + " AND ".join("?" * 100) + ")"), (101, "((" + " AND ".join("?" * 100) + ") AND (?))")):
            with self.subTest(number):
                self.assertEqual(fragments.join("AND", [("?", [n]) for n in range(number)]), (text, list(range(number))))

    def test_names_of_indexes_are_those_of_their_class_and_keys(self):
        name = fragments.index_name("Post", ["a", "b"])
        self.assertRegex(name, r"\Aindex_[0-9a-f]{32}\Z")
        self.assertNotIn(name, [fragments.index_name(*one) for one in (("Post", ["b", "a"]), ("Posta", ["b"]), ("Post", ["ab"]))])

    def test_class_that_is_no_name_becomes_no_text(self):
        self.assertEqual(fragments.quoted("_User2"), "'_User2'")
        for name in ("", "a'b", "a b", "é", "a\n"):
            with self.subTest(name), self.assertRaisesRegex(ValueError, "not a class name"):
                fragments.quoted(name)


class PathsTest(unittest.TestCase):
    def test_values_that_a_dotted_key_reaches(self):
        missing = paths.MISSING
        for value, path, spread, whole in (
            ({"a": 1}, "a", [1], [1]),
            ({"a": [1, 2]}, "a", [[1, 2], 1, 2], [[1, 2]]),
            ({"a": {"b": 1}}, "a.b", [1], [1]),
            ({}, "a", [missing], [missing]),
            ({"a": 5}, "a.b", [missing], [missing]),
            ({"a": [{"b": 1}, {"b": [2]}, 3]}, "a.b", [1, [2], 2], [1, [2]]),
            ({"a": [{}]}, "a.b", [missing], [missing]),
            ({"a": []}, "a.b", [], []),
            ({"a": [5, [6]]}, "a.0", [5], [5]),
            ({"a": [5, [6]]}, "a.1", [[6]], [[6]]),
            ({"a": [5, [6]]}, "a.2", [], []),
            ({"a": [5, [6]]}, "a.1.0", [6], [6]),
            ({"a": [5]}, "a.0.0", [], []),
            ({"a": [{"0": 7}]}, "a.0", [7, {"0": 7}], [7, {"0": 7}]),
            ({"a": [{"b": [1]}]}, "a.0.b", [[1], 1, missing], [[1], missing]),
            ({"a": [5]}, "a.00", [], []),
        ):
            with self.subTest(value=value, path=path):
                parts = tuple(path.split("."))
                self.assertEqual(sorted(map(repr, paths.values_at(value, parts))), sorted(map(repr, spread)))
                self.assertEqual(sorted(map(repr, paths.values_at(value, parts, False))), sorted(map(repr, whole)))

    def test_number_of_visits_grows_with_the_size_and_not_with_the_ways(self):
        value = 1
        for _ in range(40):
            value = [{"0": value}]
        self.assertEqual(len(list(paths.reached({"a": value}, ("a", *"0" * 40)))), 1 + 40)


class MemoryTest(unittest.TestCase):
    def test_work_that_meets_what_changed_is_done_from_the_database_alone_in_the_end(self):
        for failures, expected in ((0, ["seen"]), (1, ["seen", "seen"]), (2, ["seen", "seen", None])):
            asked = []

            def attempt(seen, asked=asked, failures=failures):
                asked.append(seen)
                if len(asked) <= failures:
                    raise Stale
                return "done"

            with self.subTest(failures):
                self.assertEqual((memory.settle(attempt, "seen"), asked), ("done", expected))
        with self.assertRaises(Stale):
            memory.settle(mock.Mock(side_effect=Stale), "seen")


class RowsTest(unittest.TestCase):
    def test_stored_texts_are_decoded_once_and_when_they_are_asked_for(self):
        row = Row.read(("a", 1, 2, '{"u":{"read":true}}', '{"n":1}', 3, "more"))
        self.assertEqual((row.id, row.created, row.updated, row.seq), ("a", 1, 2, 3))
        self.assertEqual((row.acl, row.body), ({"u": {"read": True}}, {"n": 1}))
        self.assertIs(row.acl, row.acl)
        self.assertIs(row.body, row.body)
        self.assertEqual((Row("a", 1, 2, None, None).acl, Row("a", 1, 2, None, None).body), (None, {}))
        own = {"n": 2}
        rows = [Row.read(("a", 1, 2, None, '{"n":1}', 0)), Row("b", 1, 2, None, own), Row("c", 1, 2, None, None)]
        decode_bodies(rows)
        self.assertEqual([one.body for one in rows], [{"n": 1}, {"n": 2}, {}])
        self.assertIs(rows[1].body, own)

    def test_types_of_values(self):
        for value, found in (
            (None, None),
            (True, {"type": "Boolean"}),
            (1, {"type": "Number"}),
            (1.5, {"type": "Number"}),
            ("", {"type": "String"}),
            ([], {"type": "Array"}),
            ({}, {"type": "Object"}),
            ({"__type": "Date", "iso": ""}, {"type": "Date"}),
            ({"__type": "Pointer", "className": "A", "objectId": "x"}, {"type": "Pointer", "className": "A"}),
            ({"__type": "Relation", "className": "A"}, {"type": "Relation", "className": "A"}),
        ):
            with self.subTest(value=value):
                self.assertEqual(type_of(value), found)

    def test_newer_layout_says_both_numbers(self):
        self.assertIn("has layout 3 and this program knows 1", str(newer_layout(3, 1)))


class CompilerTest(unittest.TestCase):
    INFO = {
        "columns": {
            "s": {"type": "String"}, "n": {"type": "Number"}, "o": {"type": "Object"}, "l": {"type": "Array"}, "r": {"type": "Relation", "className": "A"},
            "p": {"type": "Pointer", "className": "A"}, "g": {"type": "GeoPoint"},
        },
        "indexes": [["n"], ["ACL"], ["ACL", "s"]],
    }  # fmt: skip

    def setUp(self):
        self.compiler = SqliteCompiler(lambda name: self.INFO)

    def test_order_ends_with_that_of_creation(self):
        created, updated, seq = ("o.created", []), ("o.updated", []), ("o.seq", [])
        for order, expected in (
            ((), [(created, False, False), (seq, False, False)]),
            ((("createdAt", True),), [(created, True, False), (seq, True, False)]),
            ((("updatedAt", False),), [(updated, False, False), (seq, False, False)]),
            ((("objectId", True),), [(("o.id", []), True, False)]),
            ((("createdAt", False), ("objectId", True)), [(created, False, False), (("o.id", []), True, False)]),
        ):
            with self.subTest(order=order):
                found = self.compiler._order_keys("C", tuple(((name,), descending) for name, descending in order), "o")
                self.assertEqual(found, expected)
        found = self.compiler._order_keys("C", ((("n",), True),), "o")
        self.assertEqual(([one[1:] for one in found[:-2]], found[-2:]), ([(True, True)] * (len(found) - 2), [(created, True, False), (seq, True, False)]))
        inner = self.compiler._order_keys("C", ((("createdAt", "x"), False),), "o")
        self.assertTrue(inner[0][2])

    def test_conditions_on_what_every_object_has(self):
        never, always = fragments.FALSE, fragments.TRUE
        for column, op, operand, expected in (
            ("o.id", "eq", "a", ("o.id = ?", ["a"])),
            ("o.id", "eq", 5, never),
            ("o.created", "eq", 5, ("o.created = ?", [5])),
            ("o.created", "eq", "a", never),
            ("o.created", "gte", 5, ("o.created >= ?", [5])),
            ("o.created", "lt", None, never),
            ("o.id", "gt", "a", ("o.id > ?", ["a"])),
            ("o.id", "exists", True, always),
            ("o.id", "exists", False, never),
            ("o.created", "in", [5, "a", 6], ("(o.created = ? OR o.created = ?)", [5, 6])),
            ("o.id", "prefix", "a", ("(o.id >= ? AND o.id < ?)", ["a", "b"])),
            ("o.created", "prefix", "a", never),
            ("o.created", "regex", ("a", 0), never),
            ("o.created", "select", (("k",), Query("C")), never),
            ("o.id", "size", 1, never),
        ):
            with self.subTest(column, op=op, operand=operand):
                self.assertEqual(self.compiler._built_in(Condition(op, ("x",), operand), column), expected)

    def test_arrays_may_stand_on_the_way_to_a_field(self):
        for path, number in (("n", 0), ("l", 0), ("ACL.x", 0), ("s.x", 0), ("r.x", 0), ("o.x", 0), ("o.x.y", 1), ("l.x", 1), ("l.x.y", 2), ("none.x", 1), ("l.x.y.z", 3), ("l.x.y.z.w", None), ("o.x.y.z.w", None)):
            with self.subTest(path):
                found = self.compiler.arrays_before("C", tuple(path.split(".")), "o")
                self.assertEqual(found if found is None else len(found), number)

    def test_columns_indexes_and_what_was_made_of_which_class(self):
        self.assertEqual([self.compiler.type_of_column("C", tuple(path.split("."))) for path in ("n", "none", "o.x")], ["Number", None, None])
        self.assertEqual((self.compiler.indexes("C"), self.compiler.tallies("C")), (self.INFO["indexes"], [["ACL"], ["ACL", "s"]]))
        self.assertTrue(self.compiler.knows("C", self.INFO))
        self.assertFalse(self.compiler.knows("C", dict(self.INFO)))
        self.assertFalse(self.compiler.knows("D", self.INFO))
        self.compiler.type_of_column("D", ("n",))
        self.assertFalse(self.compiler.knows("C", self.INFO))

    def test_few_is_told_by_a_count_up_to_a_limit(self):
        self.assertTrue(self.compiler.is_few(Query("C"), "n", eq("n"), "w", "objects w"))
        for number, is_few in ((2999, True), (3000, False)):
            asked = []

            def counted(statement, number=number, asked=asked):
                asked.append(statement)
                return number

            compiler = SqliteCompiler(lambda name: self.INFO, counted)
            compiler.matching(Query("C"), "w")
            self.assertIs(compiler.is_few(Query("C"), "n", eq("n"), "w", "objects w"), is_few)
            [(text, params)] = asked
            self.assertIn("LIMIT 3000", text)

    def test_statement_has_a_limit_where_one_is_asked_for(self):
        what = ("o.id", [])
        for options, is_limited, is_ordered in (({}, False, True), ({"limit": 5}, True, True), ({"skip": 5}, True, True), ({"limit": 0}, True, True)):
            with self.subTest(options):
                text, params = SqliteCompiler(lambda name: self.INFO).select(Query("C", **options), what)
                self.assertEqual(("LIMIT" in text, "ORDER BY" in text), (is_limited, is_ordered))
        text, _ = SqliteCompiler(lambda name: self.INFO).select(Query("C"), what, is_ordered=False)
        self.assertNotIn("ORDER BY", text)

    def test_only_keys_that_an_index_can_hold_are_indexed(self):
        for keys, outcome in (
            (["n"], "Number"),
            (["n", "s"], "Number"),
            (["s", "n"], "String"),
            (["l"], "Array"),
            (["g"], "GeoPoint"),
            (["n", "s", "p", "n"], "Number"),
            (["n", "s", "p", "n", "s"], "an index has 1 to 4 keys"),
            ([], "an index has 1 to 4 keys"),
            (["o"], "o cannot be indexed: it is of type Object"),
            (["r"], "r cannot be indexed: it is of type Relation"),
            (["none"], "none cannot be indexed: it is not a column of this class"),
            (["g", "n"], "g is of type GeoPoint: its index can have no other key"),
            (["n", "l"], "l is of type Array: its index can have no other key"),
        ):
            with self.subTest(keys):
                try:
                    found = indexing.check_keys(self.compiler, "C", keys)
                except ValueError as error:
                    found = str(error)
                self.assertEqual(found, outcome)
        for keys, outcome in (
            (["ACL"], None),
            (["ACL", "n"], None),
            (["ACL", "n", "s"], "an index that counts has ACL and at most one other key"),
            (["ACL", "l"], "l cannot be counted: it is of type Array"),
            (["ACL", "none"], "none cannot be counted: it is not a column of this class"),
        ):
            with self.subTest(keys):
                try:
                    found = tallies.check_keys(self.compiler, "C", keys)
                except ValueError as error:
                    found = str(error)
                self.assertEqual(found, outcome)
        self.assertEqual([tallies.is_tally(keys) for keys in (["ACL"], ["ACL", "n"], ["n", "ACL"], [])], [True, True, False, False])


class SqliteTest(unittest.TestCase):
    INFO = {
        "columns": {name: {"type": kind} for name, kind in (("a", "Number"), ("b", "Number"), ("c", "Number"), ("l", "Array"))},
        "indexes": [["ACL"], ["ACL", "a"], ["l"], ["a"], ["b"], ["a", "c"], ["c"]],
    }

    def index_of(self, where, few=0, **options):
        compiler = SqliteCompiler(lambda name: self.INFO, lambda statement: few)
        query = Query("C", where, **options)
        compiler.matching(query, "o")
        return tuple(compiler._index_of(query, "o"))

    def test_index_is_the_one_that_serves_best(self):
        more, among, many = Condition("gt", ("b",), 1), Condition("in", ("b",), [1, 2]), 3000
        by_b, by_time = ((("b",), True),), ((("createdAt",), True),)
        for node, options, expected in (
            (eq("a"), {}, ("a",)),
            (where(eq("a"), eq("c")), {}, ("a", "c")),
            (where(eq("a"), eq("objectId", "x")), {}, ()),
            (where(eq("a"), Condition("related", (), ("A", "x", "k"))), {}, ()),
            (eq("l"), {}, ()),
            (eq("x"), {}, ()),
            (more, {}, ("b",)),
            (more, {"few": many}, ("b",)),
            (more, {"few": many, "limit": 5}, ()),
            (more, {"few": many - 1, "limit": 5}, ("b",)),
            (more, {"few": many, "limit": 5, "order": by_time}, ()),
            (more, {"few": many, "limit": 5, "order": by_b}, ("b",)),
            (more, {"few": many, "limit": 5, "order": ((("x",), False),)}, ("b",)),
            (among, {"few": many, "limit": 5}, ()),
            (TRUE, {"limit": 5, "order": by_b}, ("b",)),
            (TRUE, {"order": by_b}, ()),
            (eq("createdAt", 5), {"limit": 5, "order": by_b}, ()),
            (eq("updatedAt", 5), {"limit": 5, "order": by_b}, ()),
            (TRUE, {"limit": 5, "order": ((("b", "x"), True),)}, ()),
            (more, {"few": many, "limit": 5, "near": (("p",), 1.0, 1.0)}, ("b",)),
        ):
            with self.subTest(node=node, options=options):
                self.assertEqual(self.index_of(node, **options), expected)

    def test_index_of_several_keys_is_asked_how_many_it_finds_by_its_first(self):
        more = Condition("gt", ("b",), 1)
        for indexes, node, few, expected in (
            ([["b", "c"]], more, 3000, ()),
            ([["b", "c"]], more, 2999, ("b", "c")),
            ([["a", "b"]], where(eq("a"), more), 3000, ("a", "b")),
        ):
            with self.subTest(indexes, few=few), mock.patch.dict(self.INFO, indexes=indexes):
                self.assertEqual(self.index_of(node, few, limit=5), expected)

    def test_numbers_fit_into_64_bits(self):
        for value, kind in ((2**63 - 1, int), (-(2**63) + 1, int), (2**63, float), (-(2**63), float), (True, bool), (1.5, float)):
            [found] = sqlite_compiler.number(value)[1]
            self.assertIs(type(found), kind)

    def test_angle_between_two_points(self):
        for here, there, expected in (((0, 0), (0, 90), math.pi / 2), ((0, 0), (0, 180), math.pi), ((90, 5), (-90, 7), math.pi), ((10, 20), (10, 20), 0), ((60, 0), (60, 180), math.pi / 3), ((0, 10), (0, -20), math.pi / 6)):
            self.assertAlmostEqual(sqlite_compiler.angle(*here, *there), expected, 12)
        self.assertIsNone(sqlite_compiler.angle(None, 1, 1, 1))
        self.assertIsNone(sqlite_compiler.angle(1, None, 1, 1))

    def test_what_a_path_reaches_is_bounded_in_size_and_time(self):
        never = lambda: False  # noqa: E731
        self.assertEqual(sqlite_compiler.reached_text(never, '[{"b":1},{"b":[2]},{}]', '["b"]', True), "[[1],[[2]],[2],[]]")
        self.assertEqual(sqlite_compiler.reached_text(never, '[{"b":[2]}]', '["b"]', False), "[[[2]]]")
        self.assertEqual(sqlite_compiler.reached_text(never, None, '["b"]', True), "[[]]")
        for limit, is_refused in ((6, False), (5, True)):
            with self.subTest(limit), mock.patch.object(sqlite_compiler, "MAX_REACHED", limit):
                reach = lambda: sqlite_compiler.reached_text(never, '[{"b":1},{"b":2}]', '["b"]', True)  # noqa: E731
                if is_refused:
                    self.assertRaises(TimeoutError, reach)
                else:
                    self.assertEqual(reach(), "[[1],[2]]")
        self.assertRaises(TimeoutError, sqlite_compiler.reached_text, lambda: True, "1", "[]", True)


class ResolverTest(unittest.TestCase):
    def resolved(self, node, count=2, seconds=5):
        self.asked = []
        columns = {"p": {"type": "Pointer", "className": "Aim"}, "o": {"type": "Pointer", "className": "Other"}, "n": {"type": "Number"}}

        def ids(query, limit):
            self.asked.append((query, limit))
            return [f"a{number}" for number in range(count)]

        self.query = Query("C", node, comes_again=True)
        return stages.Resolver(lambda name: {"columns": columns}, ids, seconds).resolved(self.query)

    def test_few_ids_take_the_place_of_a_sub_query(self):
        inner = Query("Aim", eq("n"))
        sub = Condition("in_query", ("p",), inner)

        def pointers(count):
            return [{"__type": "Pointer", "className": "Aim", "objectId": f"a{number}"} for number in range(count)]

        among = Condition("in", ("p",), pointers(2))
        for node, expected in (
            (sub, among),
            (Not(sub), Not(among)),
            (where(eq("n"), sub), where(eq("n"), among)),
            (Group("or", (sub, eq("n"))), Group("or", (among, eq("n")))),
        ):
            with self.subTest(node=node):
                found = self.resolved(node)
                self.assertEqual((found.where, found.comes_again, self.asked), (expected, False, [(inner, 1001)]))
        self.assertEqual(self.resolved(sub, 0).where, Condition("in", ("p",), []))
        self.assertEqual(self.resolved(sub, 1).where, Condition("eq", ("p",), pointers(1)[0]))
        self.assertEqual(self.resolved(sub, 1000).where, Condition("in", ("p",), pointers(1000)))
        self.assertEqual(self.resolved(sub, 1001).where, sub)

    def test_what_is_no_sub_query_of_a_whole_pointer_stays_the_same(self):
        inner = Query("Aim")
        for node in (
            eq("n"),
            Not(eq("n")),
            where(eq("n"), Not(eq("p"))),
            Condition("in_query", ("p", "x"), inner),
            Condition("in_query", ("o",), inner),
            Condition("in_query", ("n",), inner),
            Condition("in_query", ("none",), inner),
        ):
            with self.subTest(node=node):
                self.assertIs(self.resolved(node), self.query)
                self.assertEqual(self.asked, [])

    def test_sub_queries_have_one_budget_of_time(self):
        node = Condition("in_query", ("p",), Query("Aim"))
        with self.assertRaises(QueryTimeout):
            self.resolved(node, seconds=-1)
        self.assertEqual(self.asked, [])


class StagesTest(unittest.TestCase):
    CREATED = (("createdAt",), False)

    def test_skipped_rows_are_counted_first_where_all_are_asked_for_in_the_order_of_creation(self):
        asked = []

        def execute(text, params):
            asked.append((text, params))
            return [(77, 5)]

        for changes in (
            {"skip": 999},
            {"skip": 0},
            {"where": eq("n")},
            {"where": where(eq("n"))},
            {"where": Group("or", ())},
            {"principals": ("*",)},
            {"near": (("p",), 1.0, 1.0)},
            {"order": (self.CREATED, (("n",), False))},
            {"order": ((("updatedAt",), False),)},
        ):
            with self.subTest(changes):
                query = Query("C", **{"skip": 1000, **changes})
                self.assertIs(stages.past_skipped(query, execute), query)
                self.assertEqual(asked, [])
        for order, op, word in (((), "gte", ""), ((self.CREATED,), "gte", ""), (((("createdAt",), True),), "lte", " DESC")):
            with self.subTest(order=order):
                asked.clear()
                found = stages.past_skipped(Query("C", order=order, skip=1000, limit=5, comes_again=True), execute)
                order = order or (self.CREATED,)
                behind = Condition("behind", (), (order, ["", 77, 0, 5, {}]))
                expected = where(Condition(op, ("createdAt",), 77), behind)
                self.assertEqual(found, Query("C", expected, order=order, limit=5))
                [(text, params)] = asked
                self.assertEqual((text.partition("ORDER BY ")[2], params), (f"created{word}, seq{word} LIMIT 1 OFFSET ?", ["C", 999]))
        self.assertEqual(stages.past_skipped(Query("C", skip=1000, comes_again=True), lambda *_: []), Query("C", Group("or", ()), skip=1000))

    def test_newest_are_looked_at_first_where_nothing_tells_how_frequent_a_value_is(self):
        columns = {"n": {"type": "Number"}, "l": {"type": "Array"}, "i": {"type": "Number"}}
        some = Condition("in", ("n",), list(range(100)))
        many = Condition("in", ("n",), list(range(101)))
        for changes, newest in (
            ({}, 1000),
            ({"limit": 100}, 1000),
            ({"limit": 101}, None),
            ({"limit": 90, "skip": 10}, 1000),
            ({"limit": 90, "skip": 11}, None),
            ({"limit": None}, None),
            ({"limit": 0}, None),
            ({"near": (("p",), 1.0, 1.0)}, None),
            ({"order": ((("createdAt",), True),)}, 1000),
            ({"order": ((("updatedAt",), True),)}, None),
            ({"where": eq("i")}, None),
            ({"where": where(eq("i"), eq("n"))}, 1000),
            ({"where": eq("l")}, 1000),
            ({"where": Condition("all", ("l",), [1])}, 1000),
            ({"where": Condition("gt", ("n",), 1)}, None),
            ({"where": where(eq("n"), eq("objectId", "x"))}, None),
            ({"where": where(eq("n"), Condition("never", (), None))}, None),
            ({"where": some}, None),
            ({"where": many}, 20_000),
            ({"where": many, "limit": 1000}, 20_000),
            ({"where": many, "limit": 1001}, None),
            ({"where": many, "limit": 500, "skip": 501}, None),
        ):
            with self.subTest(changes):
                query = Query("C", **{"where": eq("n"), "limit": 10, "comes_again": True, **changes})
                found = stages.first_newest(query, {"i", "l"}, lambda name: {"columns": columns})
                self.assertEqual(found and (found.newest, found.comes_again, found.where), newest and (newest, False, query.where))

    def nearer(self, query, indexes=(("p",),)):
        info = {"columns": {"p": {"type": "GeoPoint"}, "n": {"type": "Number"}}, "indexes": [list(one) for one in indexes]}
        return list(stages.nearer(query, lambda name: info))

    def test_nearest_are_looked_for_in_growing_circles_and_in_the_end_everywhere(self):
        other = eq("n")
        near = Condition("near", ("p",), (1.0, 2.0, None, 0.003))
        query = Query("C", where(near, other), limit=5, near=(("p",), 1.0, 2.0), comes_again=True)
        found = self.nearer(query)
        self.assertEqual([is_whole for _, is_whole in found], [False, False, True, True])
        self.assertIs(found[-1][0], query)
        for (one, _), radius in zip(found[:-1], (0.0002, 0.0008, 0.003), strict=True):
            self.assertEqual(one.where, where(Condition("near", ("p",), (1.0, 2.0, None, radius)), other))
            self.assertEqual((one.cells, one.comes_again), (("p", grid.ranges(1.0, 2.0, radius + 1e-9)), False))

    def test_circles_are_needed_only_for_the_order_by_distance(self):
        def near(*operand):
            return Condition("near", ("p",), (1.0, 2.0, *operand))

        ordered = {"limit": 5, "near": (("p",), 1.0, 2.0)}
        for node, options, count, last in (
            (near(None, 0.01), ordered, 5, True),
            (near(None, 0.01), {**ordered, "limit": None}, 2, True),
            (near(None, 0.01), {**ordered, "order": (self.CREATED,)}, 2, True),
            (near(None, 0.01), {**ordered, "near": (("p",), 1.0, 3.0)}, 2, True),
            (near(None, 0.01), {"limit": 5}, 2, True),
            (near(None, None), ordered, 6, False),
            (near(0.001, 0.2), ordered, 6, False),
            (near(None, 0.2), {"limit": 5}, 1, True),
            (near(None, -1.0), ordered, 2, True),
            (Condition("near", ("p", "x"), (1.0, 2.0, None, 0.01)), ordered, 1, True),
            (eq("n"), {"limit": 5}, 1, True),
        ):
            with self.subTest(node=node, options=options):
                found = self.nearer(Query("C", node, **options))
                self.assertEqual(len(found), count)
                if count > 1:
                    self.assertIs(found[-2][1], last)
        self.assertEqual(len(self.nearer(Query("C", near(None, 0.01), limit=5), [("n",), ("p", "n")])), 1)
        self.assertEqual(len(self.nearer(Query("C", Condition("near", ("n",), (1.0, 2.0, None, 0.01)), limit=5), [("n",)])), 1)


if __name__ == "__main__":
    unittest.main()
