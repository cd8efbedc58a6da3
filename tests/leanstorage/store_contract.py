"""The store contract: one suite that every store has to pass. Mixed into a TestCase that sets `self.store`."""
import math
import threading
from unittest import mock

from leanstorage.store import AnswerTooLarge, Condition, Group, Not, Query, Row, StoreUnavailable
from leanstorage.store import transaction as transaction_module
from leanstorage.store.sqlite import store as sqlite


class Refused(Exception):
    pass


def row(object_id, n=0, acl=None, created=1, **body):
    return Row(object_id, created, created, acl, {"n": n, **body})


class StoreContract:
    def write(self, work):
        return self.store.write(work)

    def read(self, work):
        return self.store.read(work)

    def fill(self, class_name, *rows):
        def work(transaction):
            transaction.save_class(class_name, {"columns": {"n": {"type": "Number"}}, "permissions": {}, "default_acl": None})
            for one in rows:
                transaction.insert(class_name, one)

        self.write(work)

    def ids(self, class_name, where=Group("and", ()), **more):
        return self.read(lambda transaction: [found.id for found in transaction.find(Query(class_name, where, **more))])

    def test_write_that_raises_leaves_no_trace(self):
        def work(transaction):
            transaction.insert("A", row("a"))
            transaction.put_record("k", "a", 1)
            raise Refused

        with self.assertRaises(Refused):
            self.write(work)
        self.assertEqual(self.ids("A"), [])
        self.assertIsNone(self.read(lambda transaction: transaction.record("k", "a")))

    def test_object_is_stored_changed_and_deleted(self):
        self.fill("B", row("b", 1, {"u": {"read": True}}, text="中\"'"))
        found = self.read(lambda transaction: transaction.get("B", "b"))
        self.assertEqual((found.body, found.acl, found.created), ({"n": 1, "text": "中\"'"}, {"u": {"read": True}}, 1))
        self.assertFalse(self.write(lambda transaction: transaction.insert("B", row("b", 2))))
        found = Row(found.id, found.created, 9, None, {"n": 3}, found.seq)
        self.write(lambda transaction: transaction.update("B", found))
        again = self.read(lambda transaction: transaction.get("B", "b", lock=False))
        self.assertEqual((again.body, again.updated, again.acl), ({"n": 3}, 9, None))
        self.assertEqual(self.read(lambda transaction: transaction.last_write("B")), 9)
        self.assertTrue(self.write(lambda transaction: transaction.delete("B", "b", 12)))
        self.assertFalse(self.write(lambda transaction: transaction.delete("B", "b", 11)))
        self.assertIsNone(self.read(lambda transaction: transaction.get("B", "b")))
        self.assertEqual(self.read(lambda transaction: transaction.last_write("B")), 12)

    def test_find_orders_by_a_further_key_where_times_are_equal(self):
        rows = [row("a", 1, created=5), row("b", 3, created=5), row("c", 2, created=5), row("d", 9, created=4)]
        self.fill("Ties", *rows)
        for time in ("createdAt", "updatedAt"):
            for is_descending, expected in ((False, ["d", "a", "c", "b"]), (True, ["d", "b", "c", "a"])):
                with self.subTest(time, is_descending=is_descending):
                    self.assertEqual(self.ids("Ties", order=(((time,), False), (("n",), is_descending))), expected)

    def test_find_orders_limits_and_counts(self):
        self.fill("C", *[row(f"c{n}", n, created=10 - n) for n in range(5)])
        self.assertEqual(self.ids("C"), ["c4", "c3", "c2", "c1", "c0"])
        order = ((("n",), True),)
        self.assertEqual(self.ids("C", order=order, limit=2, skip=1), ["c3", "c2"])
        where = Not(Condition("gt", ("n",), 2))
        self.assertEqual(sorted(self.ids("C", where)), ["c0", "c1", "c2"])
        self.assertEqual(self.read(lambda transaction: transaction.count(Query("C", where, limit=1))), 3)
        many = self.read(lambda transaction: transaction.get_many("C", ["c1", "c2", "none"]))
        self.assertEqual(sorted(many), ["c1", "c2"])

    def test_find_shows_what_principals_may_read(self):
        self.fill("D", row("d1"), row("d2", acl={"u": {"read": True}}), row("d3", acl={}), row("d4", acl={"role:r": {"read": True, "write": True}}))
        for principals, wanted in (
            (None, ["d1", "d2", "d3", "d4"]),
            (("*",), ["d1"]),
            (("*", "u"), ["d1", "d2"]),
            (("*", "v", "role:r"), ["d1", "d4"]),
        ):
            self.assertEqual(self.ids("D", principals=principals), wanted)

    def test_relations_are_sets(self):
        def work(transaction):
            for _ in range(2):
                transaction.relate("E", "k", "o", "T", ["a", "b"])
            transaction.unrelate("E", "k", "o", "T", ["b", "c"])

        self.write(work)
        self.assertEqual(self.read(lambda transaction: transaction.members("E", "k", "o", "T")), ["a"])
        self.write(lambda transaction: transaction.forget_relation("E", "k", "o"))
        self.assertEqual(self.read(lambda transaction: transaction.members("E", "k", "o", "T")), [])

    def test_role_names_follow_parents_and_end_in_circles(self):
        def work(transaction):
            for name in ("r1", "r2", "r3"):
                transaction.insert("_Role", row(name, name=name))
            transaction.relate("_Role", "users", "r1", "_User", ["u"])
            transaction.relate("_Role", "roles", "r2", "_Role", ["r1"])
            transaction.relate("_Role", "roles", "r1", "_Role", ["r2"])

        self.write(work)
        self.assertEqual(self.read(lambda transaction: transaction.role_names("u")), ["r1", "r2"])
        self.assertEqual(self.read(lambda transaction: transaction.role_names("v")), [])

    def test_records_are_added_once_and_expire(self):
        add = lambda transaction: transaction.add_record("kind", "key", {"a": "中"})  # noqa: E731
        self.assertEqual([self.write(add), self.write(add)], [True, False])
        self.assertEqual(self.read(lambda transaction: transaction.record("kind", "key")), {"a": "中"})
        self.write(lambda transaction: transaction.put_record("kind", "old", 1, expires=1))
        self.assertIsNone(self.read(lambda transaction: transaction.record("kind", "old")))
        self.assertTrue(self.write(lambda transaction: transaction.add_record("kind", "old", 2)))
        self.assertEqual(self.read(lambda transaction: transaction.records("kind", "o")), [("old", 2)])
        self.write(lambda transaction: [transaction.add_record("listed", key, key) for key in ("c", "b2", "a", "b", "b1", "B", "c1")])
        self.assertEqual(self.read(lambda transaction: transaction.records("listed", "b")), [(key, key) for key in ("b", "b1", "b2")])
        self.assertEqual([key for key, _ in self.read(lambda transaction: transaction.records("listed"))], ["B", "a", "b", "b1", "b2", "c", "c1"])
        self.write(lambda transaction: transaction.put_record("listed", "bx", 1, expires=1))
        for after, limit, more, found in (
            ("", 3, {}, ["B", "a", "b"]),
            ("b", 9, {"before": "c"}, ["b1", "b2"]),
            ("a", 2, {"before": "c1", "is_descending": True}, ["c", "b2"]),
            ("c1", 2, {}, []),
        ):
            page = self.read(lambda transaction: transaction.record_page("listed", after, limit, **more))  # noqa: B023
            self.assertEqual(page, [(key, key) for key in found])
        self.assertEqual(self.read(lambda transaction: transaction.count_records("listed")), 7)
        self.assertTrue(self.write(lambda transaction: transaction.delete_record("kind", "old")))
        self.assertFalse(self.write(lambda transaction: transaction.delete_record("kind", "old")))

    def test_records_of_several_keys_and_those_that_expire(self):
        far = 2**60
        self.write(lambda transaction: transaction.delete_expired("", 1000))
        rows = [("x", "a", 1), ("x", "b", 2, far), ("x", "old", 3, 1), ("y", "a", 4), ("y", "old", 5, 1)]
        self.write(lambda transaction: transaction.put_records(rows))
        for call, expected in (
            (lambda transaction: transaction.records_of("x", ["a", "b", "old", "none", "a"]), {"a": 1, "b": 2}),
            (lambda transaction: transaction.records_of("x", []), {}),
            (lambda transaction: transaction.first_records("x", 2), [("a", 1), ("b", 2)]),
            (lambda transaction: transaction.count_records("x"), 2),
            (lambda transaction: transaction.all_records(("x", "a"), 3), [("x", "b", 2, far), ("x", "old", 3, 1), ("y", "a", 4, None)]),
            (lambda transaction: transaction.expired_records("x"), [("old", 3)]),
            (lambda transaction: transaction.expired_records("x", 0), []),
        ):
            self.assertEqual(self.read(call), expected)
        self.write(lambda transaction: transaction.put_records([("x", "b", 6), ("x", "a", 7, 1)]))
        self.assertEqual(self.read(lambda transaction: transaction.records("x")), [("b", 6)])
        self.assertEqual(self.write(lambda transaction: transaction.delete_expired("y", 1)), 1)
        self.assertEqual(self.write(lambda transaction: transaction.delete_expired("y", 9)), 1)
        self.assertEqual(self.write(lambda transaction: transaction.delete_expired("x", 9)), 1)
        self.write(lambda transaction: transaction.put_records([("z", f"{n:03}", n, 1) for n in range(101)]))
        self.assertEqual(len(self.read(lambda transaction: transaction.expired_records("z"))), 100)

    def test_objects_are_listed_by_creation_and_told_by_their_places(self):
        before = self.read(lambda transaction: transaction.last_seq())
        self.assertIsNone(self.read(lambda transaction: transaction.last_write("Page")))
        self.fill("Page", row("p1", created=5), row("p2", created=4), row("p3", created=5, acl={"*": {"read": True}}))
        self.fill("Page2")
        taken = self.read(lambda transaction: transaction.taken("Page", ["p1", "p3", "none", "p1"]))
        self.assertEqual(list(taken), ["p1", "p3"])
        self.assertTrue(before < taken["p1"] < taken["p3"] == self.read(lambda transaction: transaction.last_seq()))
        for after, limit, expected in (((0, 0), 9, ["p2", "p1", "p3"]), ((0, 0), 2, ["p2", "p1"]), ((5, taken["p1"]), 9, ["p3"])):
            found = self.read(lambda transaction: transaction.page("Page", after, limit))  # noqa: B023
            self.assertEqual([one.id for one in found], expected)
        self.assertEqual([(one.created, one.updated, one.seq, one.acl, one.body) for one in found], [(5, 5, taken["p3"], {"*": {"read": True}}, {"n": 0})])
        self.assertEqual(self.read(lambda transaction: transaction.last_write("Page")), 5)
        self.assertIsNone(self.read(lambda transaction: transaction.last_write("Page2")))
        self.assertLessEqual({"Page", "Page2"}, set(self.read(lambda transaction: transaction.class_names())))
        rows = [("p4", 1, 7, None, '{"n":4}'), ("p5", 1, 1, {"u": {"read": True}}, "{}")]
        self.write(lambda transaction: transaction.insert_many("Page", rows))
        found = self.read(lambda transaction: transaction.get_many("Page", ["p4", "p5"]))
        kept = {one.id: (one.created, one.updated, one.acl, one.body) for one in found.values()}
        self.assertEqual(kept, {"p4": (1, 7, None, {"n": 4}), "p5": (1, 1, {"u": {"read": True}}, {})})
        with self.assertRaises(StoreUnavailable):
            self.write(lambda transaction: transaction.insert_many("Page", rows))
        counts = self.read(lambda transaction: (transaction.open_objects([]), transaction.open_objects(['%"*"%'])))
        self.assertEqual([found["Page"] for found in counts], [3, 4])

    def test_class_whose_object_was_deleted_last_says_when(self):
        self.fill("Gone", row("g", created=5))
        listing = lambda transaction: transaction.listing(Query("Gone"))  # noqa: E731
        rows, at = self.read(listing)
        self.assertEqual(([one.id for one in rows], at), (["g"], 5))
        self.write(lambda transaction: transaction.insert("Gone", row("h", created=6)))
        self.write(lambda transaction: transaction.delete("Gone", "h", 8))
        self.assertEqual(self.read(listing)[1], 8)
        self.write(lambda transaction: transaction.delete("Gone", "g", 7))
        self.assertEqual(self.read(listing), ([], 8))
        self.assertEqual(self.read(lambda transaction: transaction.listing(Query("Never"))), ([], None))

    def test_dotted_keys_reach_into_arrays_and_patterns_into_texts(self):
        self.fill("Deep", row("d1", l=[{"b": 1}, {"b": [2, 3]}], s="abc"), row("d2", l={"b": 2}, s="xbz"), row("d3", l=[], s=5))
        for node, expected in (
            (Condition("eq", ("l", "b"), 1), ["d1"]),
            (Condition("eq", ("l", "b"), 2), ["d1", "d2"]),
            (Condition("eq", ("l", "1", "b"), [2, 3]), ["d1"]),
            (Condition("size", ("l", "b"), 2), ["d1"]),
            (Condition("regex", ("s",), ("^a|z$", 0)), ["d1", "d2"]),
            (Condition("regex", ("l", "b"), ("a", 0)), []),
        ):
            with self.subTest(node=node):
                self.assertEqual(sorted(self.ids("Deep", node)), expected)

    def test_nearest_points_are_found_beyond_the_first_circle(self):
        info = {"columns": {"p": {"type": "GeoPoint"}}, "permissions": {}, "default_acl": None}

        def work(transaction):
            transaction.save_class("Near", info)
            for name, latitude in (("far", 20.0), ("here", 0.001), ("near", 0.5), ("middle", 2.0)):
                point = {"__type": "GeoPoint", "latitude": latitude, "longitude": 0.0}
                transaction.insert("Near", Row(name, 1, 1, None, {"p": point}))

        self.write(work)
        self.store.build_index("Near", ["p"])
        self.write(lambda transaction: transaction.save_class("Near", {**info, "indexes": [["p"]]}))
        for greatest in (None, math.radians(2.5), math.radians(1)):
            near = Condition("near", ("p",), (0.0, 0.0, None, greatest))
            expected = ["here", "near", "middle", "far"][: {None: 4, math.radians(2.5): 3, math.radians(1): 2}[greatest]]
            for limit in (1, 2, 3, 4, 5):
                with self.subTest(greatest=greatest, limit=limit):
                    self.assertEqual(self.ids("Near", near, near=(("p",), 0.0, 0.0), limit=limit), expected[:limit])
            self.assertEqual(self.read(lambda transaction: transaction.count(Query("Near", near, limit=1))), len(expected))  # noqa: B023
        within = Condition("near", ("p",), (0.0, 0.0, math.radians(1), math.radians(2.5)))
        self.assertEqual(self.ids("Near", within), ["middle"])

    def test_relations_are_counted_and_listed_in_order(self):
        pairs = [("o1", "a"), ("o1", "b"), ("o2", "a")]
        self.assertEqual(self.write(lambda transaction: transaction.relate_many("R", "k", "T", pairs)), 3)
        self.assertEqual(self.write(lambda transaction: transaction.relate_many("R", "k", "T", [*pairs, ("o2", "b")])), 1)
        everything = [("o1", "T", "a"), ("o1", "T", "b"), ("o2", "T", "a"), ("o2", "T", "b")]
        for after, limit, expected in ((("", "", ""), 9, everything), (("o1", "T", "a"), 2, everything[1:3])):
            found = self.read(lambda transaction: transaction.relation_page("R", "k", after, limit))  # noqa: B023
            self.assertEqual([tuple(one) for one in found], expected)
        found = self.read(lambda transaction: transaction.all_relations(("R", "k", "o1", "T", "b"), 2))
        self.assertEqual([tuple(one) for one in found], [("R", "k", *one) for one in everything[2:]])
        self.fill("R", row("o1"))
        self.write(lambda transaction: transaction.delete("R", "o1", 9))
        self.assertEqual(self.read(lambda transaction: transaction.members("R", "k", "o1", "T")), [])

    def test_part_that_raises_leaves_no_trace_and_the_rest_stays(self):
        def work(transaction):
            transaction.put_record("part", "a", 1)
            try:
                with transaction.savepoint():
                    transaction.put_record("part", "b", 2)
                    transaction.save_class("Part", {"columns": {}, "permissions": {}, "default_acl": None})
                    raise Refused
            except Refused:
                pass
            with transaction.savepoint():
                transaction.put_record("part", "c", 3)
            return transaction.class_info("Part")

        self.assertIsNone(self.write(work))
        self.assertEqual(self.read(lambda transaction: transaction.records("part")), [("a", 1), ("c", 3)])

    def test_what_may_be_read_is_bounded_for_clients_alone(self):
        self.fill("Wide", *(row(f"w{n}", text="x" * 60) for n in range(2)))
        size = sum(len(one.text) for one in self.read(lambda transaction: transaction.find(Query("Wide"))))
        for limit, is_refused in ((size, False), (size - 1, True)):
            with self.subTest(limit), mock.patch.object(transaction_module, "MAX_FOUND", limit), mock.patch.object(sqlite, "MAX_FOUND", limit):
                for call, is_bounded in (
                    (lambda transaction: transaction.find(Query("Wide", principals=("*",))), True),
                    (lambda transaction: transaction.find(Query("Wide")), False),
                    (lambda transaction: transaction.get_many("Wide", ["w0", "w1"], is_bounded=True), True),
                    (lambda transaction: transaction.get_many("Wide", ["w0", "w1"]), False),
                ):
                    if is_refused and is_bounded:
                        with self.assertRaises(AnswerTooLarge):
                            self.read(call)
                    else:
                        self.assertEqual(len(self.read(call)), 2)

    def test_long_body_is_stored_changed_and_read_whole(self):
        """Longer than what a database's connection takes at once."""
        for size in (3_000_000, 8_000_000, 15_000_000):
            with self.subTest(size):
                self.fill("Long", row(f"l{size}", 1, text="x" * size))
                found = self.read(lambda transaction: transaction.get("Long", f"l{size}"))
                self.assertEqual(len(found.body["text"]), size)
                found.body["text"] = "y" * size
                self.write(lambda transaction: transaction.update("Long", found))
                again = self.read(lambda transaction: transaction.get("Long", f"l{size}"))
                self.assertEqual((again.body["text"][-1], len(again.body["text"])), ("y", size))

    def test_writers_at_once_lose_nothing(self):
        self.fill("F", row("f", 0))

        def increment(transaction):
            found = transaction.get("F", "f", lock=True)
            found.body["n"] += 1
            transaction.update("F", found)

        def fail(transaction):
            increment(transaction)
            raise Refused

        def work():
            for number in range(20):
                try:
                    self.write(fail if number % 4 == 0 else increment)
                except Refused:
                    pass

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.read(lambda transaction: transaction.get("F", "f")).body["n"], 8 * 15)

    def test_one_of_many_claims_a_unique_value(self):
        results = []

        def claim(name):
            results.append(self.write(lambda transaction: transaction.add_record("unique", "x", name)))

        threads = [threading.Thread(target=claim, args=[name]) for name in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(results.count(True), 1)

    def test_columns_added_at_once_are_all_kept(self):
        from leanstorage.rules import classes

        def add(name):
            def work(transaction):
                info = classes.load(transaction, "G") or classes.empty_info("G")
                classes.add_columns(transaction, "G", info, {name: ({"type": "Number"}, 1)}, None)

            self.write(work)

        threads = [threading.Thread(target=add, args=[f"k{number}"]) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(self.read(lambda transaction: transaction.class_info("G"))["columns"]), 12)
