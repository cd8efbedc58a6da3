"""Storing what an export holds, and writing exports and copies: rows, names, members, inboxes, pages of every size."""

import io
import json
import shutil
import stat
import unittest
from collections import Counter
from types import SimpleNamespace
from unittest import mock

from leanstorage.rules import classes
from leanstorage.rules.errors import StorageError
from leanstorage.store import open_store, Row, StoreUnavailable
from leanstorage.blobs.folder import FolderBlobs
from leanstorage.takeout import report as reports
from leanstorage.takeout import convert, duplicates, exporter, file_import, importer
from leanstorage.takeout import inboxes, load, migration, origin, raw_rows
from leanstorage.takeout import rewrite, rewrites
from leanstorage.takeout.convert import Job
from leanstorage.takeout.formats import Content
from tests.leanstorage.takeout_support import AT, ISO, SECRET, Piped, StoreTestCase, converted


class InboxesTest(StoreTestCase):
    def test_rows_of_inboxes_are_told_from_others(self):
        line = {"owner": "a", "inboxType": "default", "messageId": 1, "status": "s"}
        counter = {"owner": "a", "inboxType": "default", "last": 1}
        for document, is_row in (
            (line, True),
            (counter, True),
            ({"owner": "a", "inboxType": "default", "unread": 0}, True),
            ({**line, "messageId": 10**12 - 1}, True),
            ({**line, "messageId": 10**12}, False),
            ({**line, "messageId": -1}, False),
            ({**line, "messageId": True}, False),
            ({**line, "messageId": "1"}, False),
            ({**line, "last": 1}, False),
            ({**counter, "unread": 1}, False),
            ({**line, "inboxType": "x" * 100}, True),
            ({**line, "inboxType": "x" * 101}, False),
            ({**line, "inboxType": "a-b"}, False),
            ({**line, "inboxType": 5}, False),
            ({**line, "owner": "a/b"}, False),
            ({**line, "status": "a/b"}, False),
            ({**line, "status": None}, False),
            ({**counter, "last": None}, False),
            ({"inboxType": "default", "last": 1}, False),
            ({}, False),
        ):
            with self.subTest(document):
                self.assertIs(inboxes.is_row(document), is_row)

    def load(self, *rows):
        wanted = [(index, {"owner": "a", "inboxType": "default", **row}) for index, row in enumerate(rows)]
        return self.write(lambda transaction: inboxes.load(transaction, wanted))

    def test_lines_and_counters_come_once_and_what_is_here_stays(self):
        self.assertEqual(self.load({"messageId": 3, "status": "s"}, {"messageId": 3, "status": "s"}, {"unread": 2}), (2, 1, []))
        self.assertEqual(list(inboxes.rows(self.store)), [
            {"owner": "a", "inboxType": "default", "last": 3}, {"owner": "a", "inboxType": "default", "unread": 2},
            {"owner": "a", "inboxType": "default", "messageId": 3, "status": "s"},
        ])  # fmt: skip
        other = (0, "its messageId belongs to another status here")
        self.assertEqual(self.load({"messageId": 3, "status": "other"}, {"messageId": 4, "status": "t"}), (1, 0, [other]))
        self.assertEqual(self.load({"last": 4}, {"unread": 9}), (0, 2, []))
        self.assertEqual(self.load({"last": 5}, {"messageId": 4, "status": "t"}), (1, 1, []))
        self.assertEqual({key: one["number"] for key, one in self.records(inboxes.COUNTERS).items()}, {"a:default:last": 5, "a:default:unread": 2})

    def test_rows_come_page_by_page(self):
        for number in range(1, 6):
            self.load({"messageId": number, "status": f"s{number}"})
        whole = list(inboxes.rows(self.store))
        self.assertEqual(len(whole), 6)
        self.write(lambda transaction: transaction.put_record("~later", "x", 1))
        for size in (1, 2, 3, 6, 7):
            with self.subTest(size), mock.patch.object(inboxes, "PAGE_ROWS", size):
                self.assertEqual(list(inboxes.rows(self.store)), whole)


class RewritesTest(StoreTestCase):
    def test_urls_are_rewritten_where_the_host_ends(self):
        wanted = rewrites.parse(["http://a.com/=https://b.com/x/"])
        for text, expected, number in (
            ('"http://a.com"', '"https://b.com/x"', 1),
            ('"https://A.com/p?q"', '"https://b.com/x/p?q"', 1),
            ('"http://a.com.cn"', '"http://a.com.cn"', 0),
            ('"http://a.com. "', '"https://b.com/x. "', 1),
            ('"http://a.com:80"', '"https://b.com/x"', 1),
            ('"http://a.com:81"', '"http://a.com:81"', 0),
            ('"http://a.com-b"', '"http://a.com-b"', 0),
            ('"ftp://a.com"', '"ftp://a.com"', 0),
            ('"http://a.com http://a.com"', '"https://b.com/x https://b.com/x"', 2),
        ):
            with self.subTest(text):
                self.assertEqual(wanted.apply(text), (expected, number))
        both = rewrites.parse(["http://a.com=http://b.com", "http://c.com=http://d.com"])
        self.assertEqual(both.apply("http://a.com http://c.com"), ("http://b.com http://d.com", 2))
        with self.assertRaisesRegex(ValueError, "http://b.com would be rewritten, too"):
            rewrites.parse(["http://a.com=http://b.com", "http://b.com=http://c.com"])
        for text in ("http://a.com", "http://a.com=", "=http://a.com", "a.com=b.com", "http://a.com=http://b.com?x"):
            with self.subTest(text), self.assertRaisesRegex(ValueError, "a rewrite is OLD=NEW"):
                rewrites.parse([text])

    def test_stored_urls_are_counted_and_rewritten_when_that_is_applied(self):
        info = {"columns": {"u": {"type": "String"}}, "permissions": {}, "default_acl": None}

        def fill(transaction):
            for name in ("A", "B"):
                transaction.save_class(name, info)
                rows = [(f"{name}{n}", 1, 2, {"x": {"read": True}}, json.dumps({"u": "http://a.com " * n})) for n in range(5)]
                transaction.insert_many(name, rows)

        self.write(fill)
        wanted = rewrites.parse(["http://a.com=http://b.com"])
        for is_applied, only, lines in (
            (False, (), ["A: 10 URLs in 4 objects", "B: 10 URLs in 4 objects", "20 URLs would be rewritten; nothing was changed, --apply does it"]),
            (True, ["A"], ["A: 10 URLs in 4 objects", "10 URLs were rewritten"]),
            (False, (), ["B: 10 URLs in 4 objects", "10 URLs would be rewritten; nothing was changed, --apply does it"]),
        ):
            for size in (2, 4, 500) if not is_applied else (3,):
                with self.subTest(is_applied=is_applied, size=size), mock.patch.object(rewrite, "PAGE_ROWS", size):
                    out = io.StringIO()
                    self.assertEqual(rewrite.run(self.database, wanted, is_applied, only, out), 0)
                    self.assertEqual(out.getvalue().splitlines(), lines)
        rows = self.read(lambda transaction: transaction.get_many("A", [f"A{n}" for n in range(5)]))
        self.assertEqual({row.body["u"] for row in rows.values()}, {"http://b.com " * n for n in range(5)})
        self.assertEqual({(row.created, row.updated, str(row.acl)) for row in rows.values()}, {(1, 2, "{'x': {'read': True}}")})
        with self.assertRaisesRegex(ValueError, "there is no class C"):
            rewrite.run(self.database, wanted, False, ["C"], io.StringIO())


class LoadTest(StoreTestCase):
    def load(self, *rows, start_seq=None, class_name="Post", **options):
        prepared = converted(*rows, class_name=class_name, **options)
        self.assertEqual(prepared.refused, [])
        seq = self.read(lambda transaction: transaction.last_seq()) if start_seq is None else start_seq
        return self.write(lambda transaction: load.load_rows(transaction, class_name, prepared, seq, SECRET))

    def row(self, name, at=0, **fields):
        return {"objectId": name, "createdAt": ISO, "updatedAt": f"2019-09-19T04:45:48.{354 + at}Z", **fields}

    def figures(self, outcome):
        return outcome.imported, outcome.skipped, outcome.refused, outcome.notes

    def test_new_rows_come_newer_ones_replace_and_older_ones_are_skipped(self):
        self.assertEqual(self.figures(self.load(self.row("a", n=1), self.row("b", n=1))), (2, 0, [], []))
        self.assertEqual(self.figures(self.load(self.row("a", n=2), self.row("b", 1, n=2))), (1, 1, [], [origin.NEWER]))
        self.assertEqual(self.bodies("Post"), {"a": {"n": 1}, "b": {"n": 2}})
        self.assertEqual(self.figures(self.load({"objectId": "a", "n": 9})), (0, 1, [], []))  # which does not say when it was changed
        change = lambda transaction: transaction.update("Post", Row("a", AT, 2**42, None, {"n": 3}))  # noqa: E731
        self.write(change)
        later = {**self.row("a", n=4), "updatedAt": "2200-01-01"}
        self.assertEqual(self.figures(self.load(later)), (0, 1, [], [origin.KEPT]))
        self.assertEqual(self.bodies("Post")["a"], {"n": 3})

    def test_id_that_occurs_twice_in_an_export_is_refused(self):
        twice = "its objectId occurs twice in this export, with other values"
        self.assertEqual(self.figures(self.load(self.row("a", n=1), self.row("a", n=2))), (1, 0, [(1, twice)], []))
        seq = self.read(lambda transaction: transaction.last_seq())
        self.assertEqual(self.figures(self.load(self.row("a", n=2), start_seq=seq - 1)), (0, 0, [(0, twice)], []))
        self.assertEqual(self.figures(self.load(self.row("a", n=2), start_seq=seq)), (0, 1, [], []))

    def test_row_that_comes_again_without_times_is_refused_wherever_it_stands(self):
        dated, undated = self.row("a", n=1), {"objectId": "a", "n": 2}
        refused = [(1, "its objectId occurs twice in this export, and no times tell which row is newer")]
        for first, second in ((dated, undated), (undated, dated), (undated, undated)):
            with self.subTest(first):
                name = f"C{first['n']}{second['n']}"
                self.assertEqual(self.figures(self.load(first, second, class_name=name)), (1, 0, refused, []))
                self.assertEqual(self.bodies(name), {"a": {"n": first["n"]}})

    def test_row_that_comes_again_is_the_same_though_a_value_was_moved_aside(self):
        seq = self.read(lambda transaction: transaction.last_seq())
        rows = [self.row("a", n=1), self.row("b", n=2), self.row("c", n="x", m=True)]
        self.load(*rows, is_repairing=True)
        again = self.load(*rows, start_seq=seq, is_repairing=True)
        self.assertEqual(self.figures(again), (0, 3, [], [duplicates.SAME] * 3))
        for other in (self.row("c", n="y", m=True), self.row("c", m=True), self.row("c", n="x", m=True, k=1)):
            self.assertEqual(len(self.load(other, start_seq=seq, is_repairing=True).refused), 1, other)

    def test_values_of_another_type_are_refused_or_moved_aside(self):
        self.load(self.row("a", n=1))
        other = "'n' is of type String, in its class it is Number"
        self.assertEqual(self.figures(self.load(self.row("b", n="x"), self.row("c", n=2, m=None))), (1, 0, [(0, other)], []))
        outcome = self.load(self.row("d", n="x", m=1), self.row("e", n=5, m=2), self.row("f", m="x"), is_repairing=True)
        self.assertEqual((outcome.imported, [(index, moved[:2]) for index, moved in outcome.moved]), (3, [(0, ("n", "n_aside")), (2, ("m", "m_aside"))]))
        self.assertEqual(self.bodies("Post")["d"], {"n_aside": '"x"', "m": 1})
        self.assertEqual(self.columns("Post"), {name: {"type": kind} for name, kind in (("n", "Number"), ("m", "Number"), ("n_aside", "String"), ("m_aside", "String"))})

    def test_class_has_so_many_columns_and_no_more(self):
        with mock.patch.object(classes, "MAX_COLUMNS", 3):
            self.assertEqual(self.load(self.row("a", k1=1, k2=1)).imported, 1)
            self.assertEqual(self.load(self.row("b", k3=1)).imported, 1)
            many = "its class would have more than 3 fields"
            self.assertEqual(self.figures(self.load(self.row("c", k4=1), self.row("d", k1=2))), (1, 0, [(0, many)], []))
            relation = {"__type": "Relation", "className": "A"}
            self.assertEqual(self.load(self.row("e", k1=3, r=relation, k5=None)).imported, 1)

    def test_relation_that_a_stub_declares_is_kept_where_a_row_does_not_fit(self):
        self.load(self.row("a", n=1))
        outcome = self.load(self.row("b", n="x", r={"__type": "Relation", "className": "A"}))
        self.assertEqual(len(outcome.refused), 1)
        self.assertEqual(self.columns("Post")["r"], {"type": "Relation", "className": "A"})

    def test_names_belong_to_one_object_and_may_be_given_up(self):
        role = lambda object_id, at=0, **fields: {**self.row(object_id, at), **fields}  # noqa: E731
        self.load(role("a", name="x"), role("b", name="y"), class_name="_Role")
        outcome = self.load(role("c", name="x"), class_name="_Role")
        self.assertEqual(outcome.refused, [(0, "its name belongs to another object")])
        outcome = self.load(role("a", 1, name="z"), role("d", name="x"), class_name="_Role")  # a gives x up
        self.assertEqual(outcome.imported, 2)
        self.assertEqual({key: one["id"] for key, one in self.records("unique:_Role:name").items()}, {"z": "a", "y": "b", "x": "d"})
        self.assertEqual(self.load(role("e", name="w"), role("f", name="w"), class_name="_Role").refused, [(1, "its name belongs to another object")])

    def test_first_of_several_files_keeps_their_key(self):
        file = lambda name: {**self.row(name), "name": "n", "key": "k"}  # noqa: E731
        self.assertEqual(self.load(file("a"), file("b"), class_name="_File").imported, 2)
        self.assertEqual(self.load(file("c"), class_name="_File").imported, 1)
        self.assertEqual(self.records("file"), {"k": {"id": "a"}})

    def test_members_come_once_and_their_class_is_told_by_them_or_by_the_file(self):
        self.load(self.row("m1"), self.row("m2"), class_name="Tag")
        self.load(self.row("u1"), class_name="Other")

        def relation(content, *pairs):
            found = converted(*({"owningId": owner, "relatedId": member} for owner, member in pairs), kind="relation")
            outcome = self.write(lambda transaction: load.load_relation(transaction, content, found))
            return outcome.imported, outcome.skipped

        tags = Content("relation", "Post", "tags")
        self.assertEqual(relation(tags, ("a", "m1"), ("a", "m2")), (2, 0))
        self.assertEqual(relation(tags, ("a", "m1"), ("b", "m1")), (1, 1))
        self.assertEqual(self.columns("Post"), {"tags": {"type": "Relation", "className": "Tag"}})
        self.assertEqual(relation(Content("relation", "Post", "other", "Else"), ("a", "m1")), (1, 0))
        self.assertEqual(self.columns("Post")["other"], {"type": "Relation", "className": "Else"})
        nothing = "nothing tells the class of the relation's members"
        for content, pairs, text in (
            (Content("relation", "Post", "none"), [("a", "x")], nothing),
            (Content("relation", "Post", "both"), [("a", "m1"), ("a", "u1")], nothing),
            (Content("relation", "Post", "tags", "Else"), [("a", "m1")], "'tags' of Post is a Relation to Tag and not this relation|'tags' of Post is a"),
        ):
            with self.subTest(content.key), self.assertRaisesRegex(ValueError, text):
                relation(content, *pairs)
        self.load(self.row("a", n=1))
        with self.assertRaisesRegex(ValueError, "'n' of Post is a Number and not this relation"):
            relation(Content("relation", "Post", "n", "Tag"), ("a", "m1"))

    def test_class_of_members_is_looked_for_by_the_first_two_hundred(self):
        self.load(self.row("m1"), class_name="Tag")
        for before, is_found in ((199, True), (200, False)):
            ids = [*(f"x{n}" for n in range(before)), "m1"]
            with self.subTest(before):
                look = lambda transaction: load._target_of(transaction, ids)  # noqa: E731, B023
                if is_found:
                    self.assertEqual(self.read(look), "Tag")
                else:
                    self.assertRaises(ValueError, self.read, look)

    def test_pull_asks_again_for_members_that_an_older_export_brought(self):
        self.load(self.row("m1"), class_name="Tag")

        def fill(transaction):
            for kind in ("pull:a", "pull:b", "pull-owner:a:Post", "other"):
                for key in ("Post", "Post.tags", "Post.more"):
                    transaction.put_record(kind, key, {"is_done": True})

        for size in (1, 2, 1000):
            self.write(fill)
            with self.subTest(size), mock.patch.object(load, "PAGE_ROWS", size):
                found = converted({"owningId": f"o{size}", "relatedId": "m1"}, kind="relation")
                content = Content("relation", "Post", "tags", "Tag")
                self.write(lambda transaction: load.load_relation(transaction, content, found))  # noqa: B023
                for kind in ("pull:a", "pull:b"):
                    self.assertEqual(list(self.records(kind)), ["Post", "Post.more"])
                self.assertEqual([len(self.records(kind)) for kind in ("pull-owner:a:Post", "other")], [3, 3])
                self.write(fill)
                self.write(lambda transaction: load.load_relation(transaction, content, found))  # noqa: B023 nothing new
                self.assertEqual(len(self.records("pull:a")), 3)

    def test_time_of_joined_members_is_the_earliest(self):
        for at, expected in ((5, 5), (7, 5), (3, 3)):
            self.write(lambda transaction: load.remember_joined(transaction, {"Post.tags": at}))  # noqa: B023
            self.assertEqual(self.records(load.JOINED), {"Post.tags": {"as_of": expected}})

    def test_write_is_tried_six_times_and_waits_twice_as_long_each(self):
        for failures, is_done in ((5, True), (6, False)):
            slept = []
            store = mock.Mock()
            store.write.side_effect = [*[StoreUnavailable("busy")] * failures, "done"]
            with self.subTest(failures), mock.patch.object(load.time, "sleep", slept.append):
                if is_done:
                    self.assertEqual(load.stored(store, None), "done")
                else:
                    self.assertRaises(StoreUnavailable, load.stored, store, None)
                self.assertEqual(slept, [0.2, 0.4, 0.8, 1.6, 3.2])

    def test_schema_adds_what_is_not_known(self):
        def declare(described, **settings):
            self.write(lambda transaction: load.load_schema(transaction, {"Post": described}, settings))
            return self.read(lambda transaction: transaction.class_info("Post"))

        found = declare({
            "n": {"type": "Number"}, "p": {"type": "Pointer", "className": "A"}, "f": {"type": "Pointer", "className": "_File"},
            "r": {"type": "Relation", "className": "A"}, "o": {"type": "Odd"}, "q": {"type": "Pointer"}, "a.b": {"type": "Number"}, "createdAt": {"type": "Date"},
        })  # fmt: skip
        self.assertEqual(found["columns"], {
            "n": {"type": "Number"}, "p": {"type": "Pointer", "className": "A"}, "f": {"type": "File"}, "r": {"type": "Relation", "className": "A"},
        })  # fmt: skip
        self.assertNotIn("is_new", found)
        own = {"find": {"users": True, "names": ["role:r"]}}
        rights = {"*": {"read": True}}
        found = declare({"n": {"type": "String"}}, permissions=own, default_acl=rights, options={"n": {"required": True}})
        self.assertEqual((found["columns"]["n"], found["permissions"], found["default_acl"], found["options"]), ({"type": "Number"}, own, rights, {"n": {"required": True}}))
        found = declare({"n": {"type": "Number", "hidden": True}}, permissions={"get": {"users": True, "names": []}}, default_acl={})
        self.assertEqual((found["permissions"], found["default_acl"], found["options"]), (own, rights, {"n": {"required": True, "hidden": True}}))
        with mock.patch.object(classes, "MAX_COLUMNS", 5):
            self.assertEqual(sorted(declare({"x": {"type": "Number"}, "y": {"type": "Number"}})["columns"]), ["f", "n", "p", "r", "x"])
        with self.assertRaises(StorageError):
            self.write(lambda transaction: load.load_schema(transaction, {"New": {}}, {"default_acl": {"*": 5}}))

    def test_secrets_and_long_names_are_no_columns(self):
        for class_name, key, is_kept in (("_User", "password", False), ("Post", "password", True), ("Post", "k" * 200, True), ("Post", "k" * 201, False)):
            with self.subTest(class_name, key=key[:9]):
                self.assertEqual(load._described(class_name, key, {"type": "String"}), {"type": "String"} if is_kept else None)

    def test_permissions_of_our_own_exports_are_told_from_others(self):
        for value, is_own in (
            ({}, True),
            ({"find": {"users": True, "names": ["a"]}}, True),
            ({"find": {"users": 1, "names": []}}, False),
            ({"find": {"users": True, "names": [5]}}, False),
            ({"find": {"users": True}}, False),
            ({"drop": {"users": True, "names": []}}, False),
            ({"find": 5}, False),
            (5, False),
        ):
            with self.subTest(value=value):
                self.assertIs(load._are_permissions(value), is_own)

    def test_options_of_our_own_exports_are_told_from_others(self):
        number = {"type": "Number"}
        for column, value, is_option in (
            (number, {"default": 5}, True),
            (number, {"default": "x"}, False),
            (number, {"required": True}, True),
            (number, {"required": False}, False),
            (number, {"other": True}, False),
            (number, {"auto_increment": True}, True),
            ({"type": "String"}, {"auto_increment": True}, False),
            (None, {"hidden": True}, True),
            (None, {"required": True}, False),
            (None, {"hidden": True, "required": True}, False),
            (number, {}, True),
            (number, 5, False),
        ):
            with self.subTest(column=column, value=value):
                self.assertIs(load._is_option("Post", column, value), is_option)

    def test_members_of_one_owner_are_replaced(self):
        for members, new in ((["a", "b"], 2), (["b", "c"], 1), ([], 0)):
            self.assertEqual(self.write(lambda transaction: load.set_members(transaction, "P", "k", "T", "o", members)), new)  # noqa: B023
            self.assertEqual(self.read(lambda transaction: sorted(transaction.members("P", "k", "o", "T"))), members)

    def test_removed_user_leaves_no_name_and_no_session(self):
        self.load({**self.row("u1"), "username": "n", "password": "A" * 86 + "==", "salt": "s", "sessionToken": "t"}, class_name="_User")
        self.load({**self.row("f1"), "name": "n", "key": "k"}, class_name="_File")
        service = SimpleNamespace(token_secret=SECRET)
        for class_name, object_id in (("_User", "u1"), ("_File", "f1"), ("_User", "none")):
            self.write(lambda transaction: load.remove(transaction, service, class_name, object_id, 5))  # noqa: B023
        for kind in ("unique:_User:username", "session", "credential", "file"):
            self.assertEqual(self.records(kind), {}, kind)
        self.assertEqual((self.bodies("_User"), self.bodies("_File")), ({}, {}))

    def test_rows_that_came_late_are_unchanged_while_they_are_as_they_came(self):
        with mock.patch.object(origin, "now", return_value=100):
            self.assertEqual(self.write(lambda transaction: origin.since(transaction, "P")), 100)
        self.assertEqual(self.write(lambda transaction: origin.since(transaction, "P")), 100)
        entries = [(0, (name, 1, at, None, "{}"), None) for name, at in (("a", 99), ("b", 100), ("c", 101))]
        self.write(lambda transaction: origin.remember(transaction, "P", 100, entries))
        self.assertEqual(self.records("origin:P"), {"b": {"updated": 100}, "c": {"updated": 101}})
        rows = {name: Row(name, 1, at, None, {}) for name, at in (("a", 99), ("b", 100), ("c", 102), ("d", 100))}
        self.assertEqual(self.read(lambda transaction: origin.unchanged(transaction, "P", 100, rows)), {"a", "b"})


class ImporterTest(unittest.TestCase):
    def test_rows_and_relations_of_one_export_share_a_place(self):
        for label, place in (("a/b/Post.json", "a/b/"), ("e.zip:Post.json", "e.zip:"), ("a/e.zip:b/Post.json", "a/e.zip:b/"), ("Post.json", "")):
            self.assertEqual(importer._place(label, Content("rows", "Post")), (place, "Post"))

    def test_lists_of_names_are_the_indexes_of_a_schema(self):
        self.assertEqual(importer._indexes([["a"], ["a", "b"], [], "a", ["a", 5], 5]), [["a"], ["a", "b"]])
        self.assertEqual(importer._indexes({"a": 1}), [])

    def test_several_objects_on_a_line_are_taken_out_of_a_batch(self):
        data = [b'{"n": 1}', b'{"n": 2}{"n": 3}', b"{", b'{"a.b": 1}']
        batch = raw_rows.Batch([(number, one) for number, one in enumerate(data, 5)], [], 9, 7)
        prepared = convert.convert(Job("Post", "rows", "json", SECRET), batch)
        several = importer._take_several(batch, prepared)
        self.assertEqual((several.rows, several.problems, several.size, several.first), ([(6, b'{"n": 2}'), (6, b'{"n": 3}')], [], 0, 5))
        self.assertEqual(([index for index, _ in prepared.refused], batch.moved), ([2, 3], 1))
        batch = raw_rows.Batch([(1, b"{")], [], 9, 7)
        prepared = convert.convert(Job("Post", "rows", "json", SECRET), batch)
        self.assertIsNone(importer._take_several(batch, prepared))
        self.assertEqual((len(prepared.refused), batch.moved), (1, 0))

    def test_batches_are_converted_in_order_and_an_error_comes_behind_them(self):
        def batches(number, error=None):
            for one in range(number):
                yield raw_rows.Batch([(one, b'{"objectId": "a%d"}' % one)], [], 0, one)
            if error:
                raise error

        job = Job("Post", "rows", "json", SECRET)
        for workers in (1, 0):
            with self.subTest(workers), importer.Converters(workers) as converters:
                found = []
                with self.assertRaises(importer.SourceError):
                    for batch, prepared in converters.map(job, batches(9, importer.SourceError("broken"))):
                        found.append((batch.first, prepared.rows[0][1][0]))
                self.assertEqual(found, [(number, f"a{number}") for number in range(9)])
                self.assertIsNone(converters._pool)
        for number, is_started in ((6, False), (7, True)):
            with self.subTest(number), importer.Converters(2) as converters, mock.patch.object(converters, "_start") as start:
                start.return_value.submit.side_effect = lambda work, *args: mock.Mock(result=lambda: work(*args))
                self.assertEqual([batch.first for batch, _ in converters.map(job, batches(number))], list(range(number)))
                self.assertEqual(start.called, is_started)

    def test_few_batches_wait_for_other_processes(self):
        with importer.Converters(2) as converters, mock.patch.multiple(importer, INLINE_BATCHES=0), mock.patch.object(converters, "_start"):
            given = []

            def batches():
                for number in range(9):
                    given.append(number)
                    yield raw_rows.Batch([], [], 0, number)

            found = converters.map(Job("Post", "rows", "json", SECRET), batches())
            self.assertEqual((next(found)[0].first, len(given)), (0, 4))
            self.assertEqual((next(found)[0].first, len(given)), (1, 5))


class ExporterTest(StoreTestCase):
    def fill(self, count=5):
        def work(transaction):
            columns = {"n": {"type": "Number"}, "r": {"type": "Relation", "className": "A"}}
            transaction.save_class("A", {"columns": columns, "permissions": {}, "default_acl": None, "options": {"n": {"required": True}}})
            rows = [(f"a{n}", 5 + n // 2, 9, {"u": {"read": True}} if n else None, f'{{"n":{n}}}') for n in range(count)]
            transaction.insert_many("A", rows)
            transaction.relate_many("A", "r", "A", [(f"a{n}", f"a{m}") for n in range(2) for m in range(3)])

        self.write(work)

    def export(self, folder="out", size=1000):
        out, stream = Piped(), io.StringIO()
        with mock.patch.object(exporter, "PAGE_ROWS", size):
            self.assertEqual(exporter.run(self.folder / folder, self.database, {"master_key": "m" * 24}, out, stream), 0)
        self.assertEqual(out.sent, out.getvalue())
        return out.getvalue().splitlines(), stream.getvalue()

    def test_pages_of_every_size_are_the_same_export(self):
        self.fill()
        whole, _ = self.export()
        self.assertRegex(whole[0], r"\AA: 5 objects, digest [0-9a-f]{32}\Z")
        self.assertRegex(whole[1], r"\AA.r: 6 members, digest [0-9a-f]{32}\Z")
        self.assertRegex(whole[2], r"\Aexported 5 objects of 1 classes and 6 members of relations, digest [0-9a-f]{32}; \d+\.\d s, \d+ rows/s, peak memory \d+ MB\Z")
        for size in (1, 2, 3, 5, 6):
            with self.subTest(size):
                found, _ = self.export(f"out{size}", size)
                self.assertEqual(found[:2], whole[:2])
                for name in ("A.0.jsonl", "_Join.r.A.0.jsonl", "A_schema.json"):
                    self.assertEqual((self.folder / f"out{size}" / name).read_text(), (self.folder / "out" / name).read_text())
        self.assertEqual(sorted(path.name for path in (self.folder / "out").iterdir()), ["A.0.jsonl", "A_schema.json", "_Join.r.A.0.jsonl"])
        for path in (self.folder / "out").iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE((self.folder / "out").stat().st_mode), 0o700)
        header, first, second, *_ = (self.folder / "out" / "A.0.jsonl").read_text().splitlines()
        self.assertEqual(header, '#filetype:JSON-streaming {"type":"Class","class":"A"}')
        self.assertEqual([json.loads(one)["ACL"] for one in (first, second)], [{"*": {"read": True, "write": True}}, {"u": {"read": True}}])
        self.assertEqual(json.loads(first)["r"], {"__type": "Relation", "className": "A"})
        schema = json.loads((self.folder / "out" / "A_schema.json").read_text())
        self.assertEqual((schema["options"], schema.keys() & {"indexes", "unique"}), ({"n": {"required": True}}, set()))

    def test_folder_in_use_and_an_empty_store_are_refused(self):
        self.assertRaisesRegex(ValueError, "the database is empty", self.export)
        self.assertFalse((self.folder / "out").exists())
        (self.folder / "out").mkdir()
        self.fill()
        self.export()
        self.assertRaisesRegex(FileExistsError, "is not empty", self.export)

    def test_digest_is_that_of_a_set(self):
        one, other, twice = exporter.Digest(), exporter.Digest(), exporter.Digest()
        for text in "ab":
            one.add(text)
        for text in "ba":
            other.add(text)
        for text in "aa":
            twice.add(text)
        self.assertEqual(str(one), str(other))
        self.assertNotEqual(str(twice), str(exporter.Digest()))
        self.assertEqual(str(exporter.Digest()), "0" * 32)
        large = exporter.Digest()
        large._sum = 2**256 + 2**255
        self.assertEqual(str(large), "8" + "0" * 31)

    def test_progress_is_told_now_and_then(self):
        self.fill()
        clock = iter(range(0, 10_000, 3))
        with mock.patch.object(exporter.time, "monotonic", lambda: next(clock)):
            _, said = self.export(size=2)
        self.assertEqual(said.splitlines(), ["A: 4 objects"])

    def test_secrets_are_those_of_their_scheme(self):
        for password, expected in (
            ({"scheme": "scrypt", "salt": "s", "hash": "h"}, {"scryptPassword": "s$h"}),
            ({"scheme": "bcrypt", "hash": "h"}, {"bcryptPassword": "h"}),
            ({"scheme": "leancloud", "salt": "s", "hash": "h"}, {"password": "h", "salt": "s"}),
            (None, {}),
        ):
            self.assertEqual(exporter._secrets({"password": password}, SECRET), expected)

    def test_file_that_is_not_complete_has_another_name(self):
        path = self.folder / "x.json"
        with self.assertRaises(ValueError):
            with exporter._File(path) as file:
                file.write("half")
                raise ValueError
        self.assertFalse(path.exists())
        self.assertTrue((self.folder / "x.json.partial").exists())


class MigrationTest(StoreTestCase):
    def test_progress_is_a_line_in_five_seconds(self):
        stream = io.StringIO()
        with mock.patch.object(migration.time, "monotonic") as clock:
            clock.return_value = 100.0
            progress = migration.Progress(stream)
            for now in (105.0, 105.1, 110.1, 110.2):
                clock.return_value = now
                progress.show(str(now))
            progress.say("said")
            clock.return_value = 115.2
            progress.show("no")
        self.assertEqual(stream.getvalue().splitlines(), ["105.1", "110.2", "said"])

    def test_what_is_copied_and_compared_is_told(self):
        def fill(transaction):
            transaction.save_class("A", {"columns": {}, "permissions": {}, "default_acl": None})
            transaction.insert_many("A", [(f"a{n}", -5, 1, None, "{}") for n in range(5)])
            transaction.relate_many("A", "r", "A", [("a1", f"a{n}") for n in range(3)])
            transaction.put_records([("k", str(n), n, 10**14) for n in range(3)])

        self.write(fill)
        said, out = [], Piped()
        target = open_store(f"sqlite:///{self.folder / 'b.db'}")
        self.addCleanup(target.close)
        progress = SimpleNamespace(show=said.append, say=said.append)
        with mock.patch.object(migration, "PIECE", 2):
            self.assertEqual(migration.copy(self.store, target, out, progress), 0)
        copied = [f"A: {n} objects copied" for n in (2, 4, 5)] + [f"{n} members of relations copied" for n in (2, 3)] + [f"{n} records copied" for n in (2, 3)]
        compared = ["A: 2 compared", "A: 4 compared", "relations: 2 compared", "records: 2 compared"]
        self.assertEqual(said, [*copied, *compared, *compared])
        self.assertRegex(out.sent, r"objects of A: 5, digest [0-9a-f]{32}\n(.*\n)+the copy is equal; \d\.\d s\n\Z")
        self.assertIsNone(target.read(lambda transaction: transaction.record(migration.KIND, migration.KEY)))
        target.write(lambda transaction: transaction.put_record("k", "9", 1))
        with self.assertRaisesRegex(ValueError, "the database of --to is not empty"):
            migration.copy(self.store, target, out, progress)


class FileImportTest(StoreTestCase):
    def test_progress_and_figures_are_told(self):
        def fill(transaction):
            transaction.save_class("_File", {"columns": {}, "permissions": {}, "default_acl": None})
            rows = [("f1", '{"key":"k1","name":"n"}'), ("f2", '{"key":"k2","name":"n"}'), ("f3", '{"key":5}'), ("f4", '{"key":""}'), ("f5", "{}"), ("f6", '{"key":"k6"}')]
            transaction.insert_many("_File", [(name, 1, 1, None, body) for name, body in rows])

        self.write(fill)
        folder = self.folder / "d"
        folder.mkdir()
        for name in ("k1", "other"):
            (folder / name).write_bytes(b"x" * 5)
        blobs, out = FolderBlobs(self.folder / "files"), io.StringIO()
        blobs.keep(blobs.write([b"y"])[0], "k6")
        report = reports.Report(self.folder / "refused", out, out)
        self.assertEqual(file_import.run(folder, self.database, blobs, "x", report=report), 0)
        text = out.getvalue()
        self.assertRegex(text, r"\Afiles: 3 rows, \d+ rows/s\n")
        self.assertRegex(text, r"\nfiles +3 +1 +2 +0\n")
        self.assertIn("note: 1 files of the folder belong to no row that lacks its bytes\n", text)
        self.assertIn("1 files are not in the folder and still without bytes\n        k2 (n): not found\n", text)
        self.assertEqual(blobs.size("k1"), 5)
    def found(self, names, files, **row):
        """The file that is taken for a row, by its path; `names` are those of all rows."""
        for name in files:
            path = self.folder / "d" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        self.files = file_import._Found(self.folder / "d", Counter(names))
        path = self.files.take(row)
        return path and path.relative_to(self.folder / "d").as_posix()

    def test_file_is_known_by_its_key_the_end_of_it_or_a_name_that_is_its_alone(self):
        for number, (names, files, row, expected) in enumerate((
            ([], ["a/b.png"], {"key": "a/b.png"}, "a/b.png"),
            ([], ["a%2Fb.png"], {"key": "a/b.png"}, "a%2Fb.png"),
            ([], ["a%20b.png"], {"key": "a b.png"}, "a%20b.png"),
            ([], ["deep/b.png"], {"key": "a/b.png"}, "deep/b.png"),
            ([], ["d1/b.png", "d2/b.png"], {"key": "a/b.png"}, None),
            (["n.png"], ["n.png"], {"key": "k", "name": "n.png"}, "n.png"),
            (["n.png", "n.png"], ["n.png"], {"key": "k", "name": "n.png"}, None),
            (["n 1.png"], ["n%201.png"], {"key": "k", "name": "n 1.png"}, "n%201.png"),
            ([], [".k"], {"key": ".k"}, None),
            ([], ["other"], {"key": "k"}, None),
        )):
            with self.subTest(files, row=row):
                self.folder = self.folder.parent / f"{self.folder.name.split('-n')[0]}-n{number}"
                self.addCleanup(shutil.rmtree, self.folder, True)
                self.assertEqual(self.found(names, files, **row), expected)
                self.assertEqual(self.files.left(), len([name for name in files if not name.startswith(".")]) - (expected is not None))
        self.found(["n"], ["n"], key="n")
        self.assertIsNone(self.files.take({"key": "k", "name": "n"}))  # it is taken


if __name__ == "__main__":
    unittest.main()
