"""The rules that look at what is stored: classes and their columns, unique values, numbers, indexes, keys, passwords."""
import contextlib
import json
import os
import stat
import tempfile
import threading
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from leanstorage import keys as key_files
from leanstorage.rules import classes, fingerprint, hidden, index_advice, indexes, numbering, passwords, query_shape, rendering, uniques, where
from leanstorage.rules.call import Call, Caller
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import open_store, Row
from tests.leanstorage.service_support import KEYS, ServiceTestCase, pointer
from tests.leanstorage.test_rules import RulesCase

NUMBER, TEXT = {"type": "Number"}, {"type": "String"}


def setUpModule():
    cheap = mock.patch.dict(passwords.SCRYPT, n=2**4)  # what a hash costs is tested in test_passwords.py
    cheap.start()
    unittest.addModuleCleanup(cheap.stop)


class CallTest(RulesCase):
    def call(self, query=None, body=None, service=None, **caller):
        return Call(service, Caller(**caller), "GET", query or {}, {} if body is None else body, "http://a", own_url="http://own")

    def test_option_is_on_with_table(self):
        for value, is_on in ((True, True), (1, True), ("true", True), ("1", True), (False, False), (0, False), ("", False), ("yes", False), ("TRUE", False), (None, False), (2, False)):
            with self.subTest(value):
                self.assertIs(self.call({"b": value}).flag("a", "b"), is_on)
        self.assertFalse(self.call({"b": 1}).flag("a"))

    def test_hooks_are_left_out_by_who_may_say_so(self):
        names = {"__ignore_hooks": ["beforeSave", 5]}
        for body, caller, wanted in (
            (names, {"is_master": True}, {"beforeSave", "5"}),
            (names, {"has_hook_key": True}, {"beforeSave", "5"}),
            (names, {}, set()),
            ({"__ignore_hooks": "beforeSave"}, {"is_master": True}, set()),
            ([names], {"is_master": True}, set()),
            ({}, {"is_master": True}, set()),
        ):
            with self.subTest(body, caller=caller):
                self.assertEqual(self.call(body=body, **caller).skipped_hooks, wanted)

    def test_codes_can_be_sent_to_whom(self):
        for is_local, address, wanted in ((True, "127.0.0.1", True), (True, "::1", True), (True, "9.9.9.9", False), (False, "9.9.9.9", True)):
            with self.subTest(is_local, address=address):
                self.assertIs(self.call(service=SimpleNamespace(sms=SimpleNamespace(is_local=is_local)), address=address).has_sms, wanted)
        self.assertIs(self.call(service=SimpleNamespace(sms=None), address="127.0.0.1").has_sms, False)

    def test_names_that_a_caller_goes_by(self):
        transaction = SimpleNamespace(role_names=lambda user: ["a", "b"] if user == "u" else [])
        for caller, wanted in (({}, ("*",)), ({"user_id": "u"}, ("*", "u", "role:a", "role:b")), ({"user_id": "v"}, ("*", "v")), ({"user_id": "u", "is_master": True}, None)):
            with self.subTest(caller):
                self.assertEqual(self.call(**caller).principals(transaction), wanted)

    def test_body_and_key_are_needed(self):
        self.assertEqual(self.call(body={"a": 1}).json_body(), {"a": 1})
        for function, code in ((self.call(body=[1]).json_body, Code.BAD_JSON), (self.call().needs_master, Code.NEEDS_MASTER)):
            with self.assertRaises(StorageError) as caught:
                function()
            self.assertIs(caught.exception.kind, code)
        self.assertIsNone(self.call(is_master=True).needs_master())
        told = self.call(user_id="u").to_engine
        self.assertEqual((told.api_url, told.is_for_engine, told.caller.user_id), ("http://own", True, "u"))
        changed = self.call({"q": 1}).with_body([2], method="PUT")
        self.assertEqual((changed.body, changed.method, changed.query), ([2], "PUT", {"q": 1}))


class ClassesTest(RulesCase):
    def test_permission_with_table(self):
        for rule, principals, is_allowed in (
            (None, ("*",), True),
            (classes.NOBODY, None, True),
            (classes.NOBODY, ("*", "u"), False),
            ({"users": True, "names": []}, ("*",), False),
            ({"users": True, "names": []}, ("*", "u"), True),
            ({"users": False, "names": ["u"]}, ("*", "u"), True),
            ({"users": False, "names": ["v", "role:a"]}, ("*", "u", "role:a"), True),
            ({"users": False, "names": ["v"]}, ("*", "u"), False),
            ({"names": ["*"]}, ("*",), True),
            ({"users": False}, ("*", "u"), False),
        ):
            info = {"permissions": {"get": rule} if rule is not None else {"find": classes.NOBODY}}
            with self.subTest(rule, principals=principals):
                self.assertIs(classes.may(info, "get", principals), is_allowed)
                if not is_allowed:
                    with self.assertRaises(StorageError) as caught:
                        classes.check_permission(info, "get", principals)
                    self.assertEqual(caught.exception.message, "Forbidden to get by class permissions.")

    def test_info_of_a_class_that_is_new(self):
        self.assertEqual(classes.empty_info("C"), {"columns": {}, "permissions": {}, "default_acl": None, "is_new": True})
        user = classes.empty_info("_User")
        self.assertEqual((user["permissions"], user["columns"]["emailVerified"]), ({"find": {"users": False, "names": []}}, {"type": "Boolean"}))
        self.assertEqual(classes.empty_info("_Installation")["permissions"], {"find": classes.NOBODY, "get": classes.NOBODY})
        user["columns"]["x"] = NUMBER
        self.assertNotIn("x", classes.DEFAULT_COLUMNS["_User"])
        self.assertEqual(classes.NOBODY, {"users": False, "names": []})

    def test_default_rights_with_table(self):
        rights = {"owner": {"write": True}, "*": {"read": True}}
        for info, user, wanted in (
            ({}, "u", None),
            ({"default_acl": None}, "u", None),
            ({"default_acl": rights}, "u", {"u": {"write": True}, "*": {"read": True}}),
            ({"default_acl": rights}, None, {"*": {"read": True}}),
            ({"default_acl": {}}, None, {}),
        ):
            with self.subTest(info, user=user):
                self.assertEqual(classes.default_acl(info, user), wanted)

    def test_defaults_and_required_values_with_table(self):
        options = {"a": {"default": 1, "required": True}, "b": {"required": True}, "n": {"auto_increment": True, "default": 9}, "f": {"default": None}}
        self.assertEqual(classes.with_defaults({"options": options}, {"b": 2}), {"a": 1, "f": None, "b": 2})
        self.assertEqual(classes.with_defaults({"options": options}, {"a": None}), {"a": None, "f": None})
        self.assertEqual(classes.with_defaults({}, {"a": 1}), {"a": 1})
        for body, written, missing in (
            ({"a": 1, "b": 2}, None, None),
            ({"a": 1}, None, "b"),
            ({"a": 1, "b": None}, None, "b"),
            ({"a": 1}, ["a"], None),
            ({"a": 1}, ["b"], "b"),
            ({}, [], None),
        ):
            with self.subTest(body, written=written):
                try:
                    classes.check_required({"options": options}, body, written)
                    found = None
                except StorageError as error:
                    self.assertIs(error.kind, Code.REQUIRED_FIELD)
                    found = error.message.split("'")[1]
                self.assertEqual(found, missing)
        relation = {"type": "Relation", "className": "D"}
        self.assertEqual(classes.relations({"columns": {"r": relation, "n": NUMBER}}), {"r": {"__type": "Relation", "className": "D"}})
        self.assertEqual([classes.describe(one) for one in (NUMBER, relation, {"type": "Pointer", "className": "D"})], ["Number", "Relation", "*D"])

    def test_hidden_columns_with_table(self):
        info = {"options": {"a": {"hidden": True}, "b": {"hidden": False}, "c": {}}}
        self.assertEqual((hidden.columns(info), hidden.columns({}), hidden.columns({"options": {}})), ({"a"}, set(), set()))
        for caller, changes, wanted in (({}, {}, {"a"}), ({"is_master": True}, {}, set()), ({}, {"is_for_engine": True}, set())):
            call = Call(None, Caller(**caller), "GET", {}, {}, "", **changes)
            with self.subTest(caller, changes=changes):
                self.assertEqual(hidden.columns_for(call, info), wanted)
        hidden.check_key(info, "b")
        for name, path in (("a", ("a",)), ("a", ("a", "b"))):
            with self.assertRaises(StorageError) as caught:
                hidden._check(hidden.columns(info), path)
            self.assertIn(f"'{name}' is not shown to clients", caught.exception.message)
        self.assertIsNone(hidden._check(hidden.columns(info), ("b", "a")))
        self.assertIsNone(hidden._check(hidden.columns(info), ()))

    def test_number_columns_with_table(self):
        info = {"options": {"n": {"auto_increment": True}, "m": {"auto_increment": True}, "x": {"required": True}}}
        self.assertEqual((numbering.keys(info), numbering.keys({})), (["m", "n"], []))
        for class_name, column, may in (("C", NUMBER, True), ("_User", NUMBER, True), ("_Role", NUMBER, False), ("C", TEXT, False), ("C", None, False)):
            with self.subTest(class_name, column=column):
                self.assertIs(numbering.may_count(class_name, column), may)
        for fields, is_master, wanted in (({"n": 1, "n.a": 2, "b": 3}, False, {"b": 3}), ({"n": 1, "b": 3}, True, {"n": 1, "b": 3}), ({"nn": 1}, False, {"nn": 1})):
            with self.subTest(fields, is_master=is_master):
                self.assertEqual(numbering.without_numbers(info, fields, is_master), wanted)

    def test_cost_of_an_index_with_table(self):
        info = {"columns": {key: {"type": kind} for key, kind in (("s", "String"), ("n", "Number"), ("b", "Boolean"), ("p", "Pointer"), ("d", "Date"), ("g", "GeoPoint"), ("a", "Array"), ("o", "Object"))}}
        for keys, cost in ((["s"], 44), (["n"], 36), (["b"], 32), (["p"], 94), (["d"], 50), (["g"], 28), (["a"], 252), (["o"], 24), (["ACL"], 48), (["ACL", "s"], 68), (["a", "s"], 104)):
            with self.subTest(keys):
                self.assertEqual(index_advice.cost(keys, info, 10), 10 * cost)

    def test_index_that_is_wanted_with_table(self):
        kinds = {key: {"type": "Number"} for key in "abcdefg"} | {"s": {"type": "String"}, "t": {"type": "Array"}, "p": {"type": "GeoPoint"}}
        for shape, existing, wanted in (
            ({"where": ["a eq", "b eq"]}, [], ["a", "b"]),
            ({"where": ["a eq", "b eq"]}, [["b", "a"]], None),
            ({"where": ["a eq", "b eq"]}, [["a", "b", "c"]], None),
            ({"where": ["a eq", "b eq"]}, [["a"]], ["a", "b"]),
            ({"where": ["a eq", "a eq"]}, [], ["a"]),
            ({"where": ["a eq", "a gt", "b gt"]}, [], ["a", "b"]),
            ({"where": ["a gt", "b gt"]}, [], ["a"]),
            ({"where": ["a gt"], "order": ["-b"]}, [], ["b"]),
            ({"where": ["a eq"], "order": ["a"]}, [], ["a"]),
            ({"where": ["a eq"], "order": ["b", "c"]}, [], ["a", "b"]),
            ({"where": ["a eq"], "order": ["createdAt"]}, [], ["a"]),
            ({"where": ["a ne"]}, [], None),
            ({"where": [{"not": ["a eq"]}, {"a in_query": {}}]}, [], ["a"]),
            ({"where": [5, "a", "a b c"]}, [], None),
            ({"where": ["t eq", "a eq"]}, [], ["t"]),
            ({"where": ["t all"]}, [["t"]], None),
            ({"where": ["t in"]}, [], None),
            ({"where": ["p near"]}, [], ["p"]),
            ({"where": ["p eq"]}, [], None),
            ({"where": [], "count": True}, [], ["ACL"]),
            ({"where": [], "count": True}, [["ACL"]], None),
            ({"where": ["a eq"], "count": True}, [], ["ACL", "a"]),
            ({"where": ["a eq"], "count": True}, [["ACL", "a"]], ["ACL"]),
            ({"where": ["a eq"], "count": True}, [["ACL", "a"], ["ACL"]], None),
            ({"where": ["a gt", "a in"], "count": True}, [], ["ACL", "a"]),
            ({"where": ["s gt"], "count": True}, [], ["s"]),
            ({"where": ["s in"], "count": True}, [], ["ACL", "s"]),
            ({"where": ["a eq", {"or": []}], "count": True}, [], ["a"]),
            ({"where": ["a eq", 5], "count": True}, [], ["a"]),
            ({"where": ["t eq"], "count": True}, [], ["t"]),
        ):
            with self.subTest(shape, existing=existing):
                self.assertEqual(index_advice.wanted(shape, {"columns": kinds, "indexes": existing}), wanted)
        many = {"where": [f"{key} eq" for key in "abcdefg"], "order": ["s"]}
        most = index_advice.MAX_INDEX_KEYS
        self.assertEqual(index_advice.wanted(many, {"columns": kinds}), [*"abcdefg"[: most - 1], "s"])
        query, _ = where.parse_where("C", {"a": 1})
        self.assertEqual(index_advice.told(query, {"columns": kinds}), " An index would help: leanstorage index C a")
        self.assertEqual(index_advice.told(query, {"columns": {}}), "")
        self.assertEqual(query_shape.shape(query), {"class": "C", "where": ["a eq"], "count": True} if query.limit == 0 else {"class": "C", "where": ["a eq"]})


class StoredTest(ServiceTestCase):
    def info(self, name):
        return self.service.store.read(lambda transaction: transaction.class_info(name))

    def write(self, work):
        return self.service.store.write(work)

    def test_columns_are_added_as_they_come(self):
        def add(name, principals=("*",), **found):
            def work(transaction):
                info = classes.load(transaction, name) or classes.empty_info(name)
                classes.add_columns(transaction, name, info, {key: (kind, 1) for key, kind in found.items()}, principals)

            self.write(work)

        add("Grown", a=NUMBER)
        add("Grown", b=TEXT)
        self.assertEqual((self.info("Grown")["columns"], "is_new" in self.info("Grown")), ({"a": NUMBER, "b": TEXT}, False))
        with self.assertRaises(StorageError) as caught:
            add("Grown", a=TEXT)
        self.assertIs(caught.exception.kind, Code.WRONG_TYPE)
        with self.assertRaises(StorageError):
            add("Grown", c=NUMBER, a=TEXT)
        self.assertNotIn("c", self.info("Grown")["columns"])
        self.write(lambda transaction: transaction.save_class("Grown", {**transaction.class_info("Grown"), "permissions": {"add_fields": classes.NOBODY}}))
        add("Grown", a=NUMBER)
        with self.assertRaises(StorageError) as caught:
            add("Grown", c=NUMBER)
        self.assertIs(caught.exception.kind, Code.CLASS_FORBIDDEN)
        add("Grown", None, c=NUMBER)
        self.assertIn("c", self.info("Grown")["columns"])
        for number, is_allowed in ((300, True), (301, False)):
            with self.subTest(number):
                if is_allowed:
                    add("Wide300", **{f"c{index}": NUMBER for index in range(number)})
                else:
                    with self.assertRaises(StorageError) as caught:
                        add("Wide301", **{f"c{index}": NUMBER for index in range(number)})
                    self.assertIs(caught.exception.kind, Code.TOO_MANY_FIELDS)

    def test_numbers_are_given_and_followed(self):
        info = {"options": {"n": {"auto_increment": True}}}

        def last(transaction):
            return (transaction.record(numbering.KIND, "Num:n") or {}).get("last")

        def work(transaction):
            for body, number, reached in (({}, 1, 1), ({}, 2, 2), ({"n": None}, 3, 3), ({"n": 10}, 10, 10), ({"n": 5}, 5, 10), ({"n": 10.5}, 10.5, 10), ({"n": 12.5}, 12.5, 12), ({}, 13, 13)):
                with self.subTest(body):
                    numbering.give(transaction, "Num", info, body)
                    self.assertEqual((body["n"], last(transaction)), (number, reached))
            for bodies, reached in (([], 13), ([{}], 13), ([{"n": "x"}], 13), ([{"n": 20}, {}, {"n": 19}], 20), ([{"n": 3}], 20)):
                with self.subTest(bodies):
                    numbering.follow(transaction, "Num", info, bodies)
                    self.assertEqual(last(transaction), reached)
            numbering.follow(transaction, "Other", {}, [{"n": 9}])
            self.assertIsNone(transaction.record(numbering.KIND, "Other:n"))
            for number in (3, 8, 5):
                transaction.insert("Started", Row(f"s{number}", number, number, None, {"n": number}))
            transaction.insert("Started", Row("s0", 1, 1, None, {}))
            seconds = transaction.query_seconds
            numbering.start(transaction, "Started", "n")
            self.assertEqual((transaction.record(numbering.KIND, "Started:n"), transaction.query_seconds), ({"last": 8}, seconds))

        self.write(work)
        self.assertEqual(numbering.SECONDS, 3600.0)

    def test_unique_values_follow_their_object(self):
        info = {"unique": [["a"], ["a", "b"]], "unique_begun": [["c"]]}
        found = uniques.records("U", info, {"a": 1, "b": 2, "c": None})
        self.assertEqual(sorted(found.values()), ["a", "a+b"])
        self.assertEqual(uniques.records("U", info, None), {})
        self.assertEqual(sorted(uniques.records("U", info, {"c": 0}).values()), ["c"])

        def work(transaction):
            def keep(object_id, old, new):
                uniques.keep(transaction, "U", info, object_id, old, new)

            keep("one", None, {"a": 1, "b": 2})
            keep("one", {"a": 1, "b": 2}, {"a": 1, "b": 2})
            for body, key in (({"a": 1}, "a"), ({"a": 1, "b": 3}, "a")):
                with self.assertRaises(StorageError) as caught:
                    keep("two", None, body)
                self.assertEqual((caught.exception.kind, caught.exception.message.split("'")[1]), (Code.DUPLICATE_VALUE, key))
            keep("one", {"a": 1, "b": 2}, {"a": 5, "b": 2})
            keep("two", None, {"a": 1})
            keep("one", {"a": 1}, None)  # which is another's by now
            with self.assertRaises(StorageError):
                keep("three", None, {"a": 1})
            keep("two", {"a": 1}, None)
            keep("three", None, {"a": 1})

        self.write(work)

    def test_unique_index_is_made_and_dropped_with_every_refusal(self):
        store = self.service.store
        self.make("Uni", a=1, b="x", r={"__op": "AddRelation", "objects": [pointer("Uni", "z")]})
        self.make("Uni", a=2, b="x")
        for class_name, keys, error in (
            ("Uni", [], "has 1 to 5 keys"),
            ("Uni", list("abcdef"), "has 1 to 5 keys"),
            ("Uni", ["a", "a"], "has 1 to 5 keys"),
            ("Uni", ["none"], "no column none"),
            ("Uni", ["r"], "no column r"),
            ("_User", ["username"], "LeanCloud's own"),
            ("Uni", ["b"], "have the same b: nothing was built"),
        ):
            with self.subTest(class_name, keys=keys), self.assertRaises(ValueError) as caught:
                uniques.create(store, class_name, keys)
            self.assertIn(error, str(caught.exception))
        self.assertEqual(self.info("Uni").get("unique_begun", []), [])
        uniques.create(store, "Uni", ["a", "b"])
        uniques.create(store, "Uni", ["a", "b"])
        self.assertEqual(store.read(lambda transaction: uniques.listed(transaction, "Uni")), [["a", "b", "(unique)"]])
        self.code(137, "POST", "/classes/Uni", {"a": 1, "b": "x"})
        uniques.create(store, "Uni", ["a"])
        self.assertEqual(self.info("Uni")["unique"], [["a", "b"], ["a"]])
        uniques.drop(store, "Uni", ["a", "b"])
        self.assertEqual(store.read(lambda transaction: transaction.records("unique-index:Uni:a+b")), [])
        with self.assertRaises(ValueError):
            uniques.drop(store, "Uni", ["a", "b"])
        self.write(lambda transaction: transaction.save_class("Uni", {**transaction.class_info("Uni"), "unique_begun": [["b"]]}))
        self.assertEqual(store.read(lambda transaction: uniques.listed(transaction, "Uni"))[1], ["b", "(unique, not finished: make it again)"])
        uniques.drop(store, "Uni", ["b"])

    def test_unique_index_of_more_objects_than_a_page_is_whole(self):
        rows = [Row(f"p{number:03d}", number, number, None, {"a": number}) for number in range(1, 8)]
        self.make("Paged", a=0)
        self.write(lambda transaction: [transaction.insert("Paged", row) for row in rows])
        for size in (1, 3, 4, 8, 9):
            with self.subTest(size), mock.patch.object(uniques, "PAGE_ROWS", size):
                uniques.create(self.service.store, "Paged", ["a"])
                self.assertEqual(len(self.service.store.read(lambda transaction: transaction.records("unique-index:Paged:a"))), 8)
                uniques.drop(self.service.store, "Paged", ["a"])
                self.assertEqual(self.service.store.read(lambda transaction: transaction.records("unique-index:Paged:a")), [])

    def test_index_is_listed_once_and_dropped(self):
        store = self.service.store
        self.make("Ind", a=1, b=2)
        for keys in (["a"], ["a"], ["a", "b"]):
            indexes.create(store, "Ind", keys)
        self.assertEqual(store.read(lambda transaction: indexes.listed(transaction, "Ind")), [["a"], ["a", "b"]])
        indexes.drop(store, "Ind", ["a"])
        self.assertEqual(store.read(lambda transaction: indexes.listed(transaction, "Ind")), [["a", "b"]])
        with self.assertRaises(ValueError) as caught:
            indexes.drop(store, "Ind", ["a"])
        self.assertEqual(str(caught.exception), "Ind has no index of a")
        for class_name, code in (("None", Code.NO_CLASS), ("a-b", Code.BAD_CLASS_NAME)):
            with self.assertRaises(StorageError) as caught:
                indexes.create(store, class_name, ["a"])
            self.assertIs(caught.exception.kind, code)
        self.assertNotIn("is_new", self.info("Ind"))
        self.api("POST", "/roles", {"name": "indexed", "ACL": {}}, 201)
        indexes.create(store, "_Role", ["name"])
        self.assertNotIn("is_new", self.info("_Role"))

    def test_database_belongs_to_one_master_key(self):
        other = {**KEYS, "master_key": "another"}
        fingerprint.check(self.service.store, KEYS)
        with self.assertRaises(ValueError) as caught:
            fingerprint.check(self.service.store, other)
        self.assertIn("another master key", str(caught.exception))
        fingerprint.adopt(self.service.store, other)
        fingerprint.check(self.service.store, other)
        with self.assertRaises(ValueError):
            fingerprint.check(self.service.store, KEYS)
        fingerprint.adopt(self.service.store, KEYS)
        self.assertRegex(fingerprint.of(KEYS), "^[0-9a-f]{32}$")
        with tempfile.TemporaryDirectory() as folder, contextlib.closing(open_store(f"sqlite:///{folder}/a.db")) as store:
            fingerprint.check(store, KEYS)
            fingerprint.check(store, KEYS)
            self.assertRaises(ValueError, fingerprint.check, store, other)


class RenderedTest(ServiceTestCase):
    def test_stored_text_and_rendered_object_are_the_same(self):
        target = self.make("To", n=1)
        file = self.api("POST", "/files", {"url": "http://x/a", "name": "a"}, 201)["objectId"]
        bodies = ({}, {"a": 1}, {"o": {"objectId": 5}}, {"f": {"__type": "File", "id": file}}, {"p": pointer("To", target)}, {"t": '"File"'})
        for body in bodies:
            for acl in (None, {"*": {"read": True}}):
                one = self.make("Same", master=True, **body, **({} if acl is None else {"ACL": acl}))
                plain = self.get("Same", one, returnACL="true")
                slow = self.get("Same", one, returnACL="true", keys="a,f,o,p,t")
                with self.subTest(body, acl=acl):
                    self.assertEqual(plain, slow)
                    self.assertEqual(plain["ACL"], acl or {"*": {"read": True, "write": True}})
                    self.assertEqual((plain["objectId"], set(plain) - set(body)), (one, {"objectId", "createdAt", "updatedAt", "ACL"}))
                    if "f" in body:
                        self.assertEqual((plain["f"]["url"], plain["f"]["id"], plain["f"]["objectId"]), ("http://x/a", file, file))

    def test_pointers_are_expanded_where_they_may_be_read(self):
        hidden_one = self.make("To", master=True, n=2, ACL={})
        inner = self.make("To", n=3)
        outer = self.make("To", n=4, to=pointer("To", inner))
        one = self.make("From", p=pointer("To", outer), h=pointer("To", hidden_one), g=pointer("To", "gone"), u=pointer("Unknown", "x"), l=[pointer("To", inner), 5, {"a": 1}])
        found = self.get("From", one, include="p.to,h,g,u,l,none")
        self.assertEqual((found["p"]["n"], found["p"]["to"]["n"], found["l"][0]["n"], found["l"][1:]), (4, 3, 3, [5, {"a": 1}]))
        for key, class_name, object_id in (("h", "To", hidden_one), ("g", "To", "gone"), ("u", "Unknown", "x")):
            self.assertEqual(found[key], pointer(class_name, object_id))
        self.assertEqual(self.get("From", one, include="h", master=True)["h"]["n"], 2)
        self.assertNotIn("n", self.get("From", one, include="l")["p"])

    def test_expansion_is_as_large_as_allowed_and_no_larger(self):
        target = self.make("Sized", text="x" * 100, r={"__op": "AddRelation", "objects": [pointer("To", "z")]})
        one = self.make("Sizing", p=pointer("Sized", target))
        text = self.service.store.read(lambda transaction: transaction.get_many("Sized", [target])[target].text)
        self.assertGreater(len(text), 100)
        size = len(text) + rendering.STUB_SIZE
        for most, status in ((size, 200), (size - 1, 400)):
            with self.subTest(most), mock.patch.object(rendering, "MAX_EXPANDED_SIZE", most), mock.patch.object(rendering, "QUICK_EXPANDED_SIZE", 0):
                self.api("GET", f"/classes/Sizing/{one}", status=status, include="p")
        for most, status in ((1, 200), (0, 400)):
            with self.subTest(most), mock.patch.object(rendering, "MAX_EXPANDED", most), mock.patch.object(rendering, "QUICK_EXPANDED", 0):
                self.api("GET", f"/classes/Sizing/{one}", status=status, include="p")
        self.assertEqual(rendering.STUB_SIZE, 80)

    def test_users_are_shown_their_flags_and_accounts_to_themselves(self):
        with mock.patch.object(self.service.options, "trusted_providers", frozenset("*")):
            me = self.api("POST", "/users", {"username": "shown", "password": "pw", "authData": {"p": {"uid": "1"}}}, 201)
        for more, has_accounts in (({"session": me["sessionToken"]}, True), ({}, False), ({"master": True}, True)):
            found = self.api("GET", f"/users/{me['objectId']}", **more)
            with self.subTest(more):
                self.assertEqual(("authData" in found, found["emailVerified"], found["mobilePhoneVerified"]), (has_accounts, False, False))
                self.assertEqual("sessionToken" in found, "master" in more)
        listed = self.api("GET", "/users", master=True, where={"username": "shown"}, keys="username,sessionToken")["results"][0]
        self.assertEqual((listed["sessionToken"], set(listed)), (me["sessionToken"], {"username", "sessionToken", "objectId", "createdAt", "updatedAt"}))
        only = self.api("GET", "/users", master=True, where={"username": "shown"}, keys="sessionToken")["results"][0]
        self.assertEqual(set(only), {"sessionToken", "objectId", "createdAt", "updatedAt"})
        self.assertNotIn("sessionToken", self.api("GET", "/users", master=True, where={"username": "shown"})["results"][0])

    def test_url_of_a_file_is_that_of_its_own_origin(self):
        call = Call(SimpleNamespace(options=SimpleNamespace(files_url=None)), Caller(), "GET", {}, {}, "http://api")
        self.assertEqual(rendering.file_url(call, "a b/中"), "http://api/a%20b/%E4%B8%AD")
        call.service.options.files_url = "http://files"
        self.assertEqual(rendering.file_url(call, "a"), "http://files/a")


class KeysTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name, "made", "here")

    def test_keys_are_made_once_and_kept_to_their_owner(self):
        found = key_files.load(self.data)
        self.assertEqual({name: len(key) for name, key in found.items()}, {"id": 24, "key": 24, "master_key": 32, "hook_key": 32})
        self.assertEqual(len(set(found.values())), 4)
        self.assertEqual(key_files.load(self.data), found)
        self.assertEqual([path.name for path in self.data.iterdir()], ["keys.json"])
        self.assertEqual(stat.S_IMODE(key_files.place(self.data).stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.data.stat().st_mode) & 0o077 & ~os.umask(os.umask(0o022)), 0)
        key_files.place(self.data).write_text(json.dumps({**found, "more": 1}))
        self.assertEqual(key_files.load(self.data), found)

    def test_two_that_start_together_have_the_same_keys(self):
        found = []
        barrier = threading.Barrier(4)

        def load():
            barrier.wait()
            found.append(key_files.load(self.data))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [found[0]] * 4)
        self.assertEqual([path.name for path in self.data.iterdir()], ["keys.json"])

    def test_file_that_holds_something_else_is_refused(self):
        self.data.mkdir(parents=True)
        for text in ("", "{", "[]", "5", '{"id": "i"}'):
            key_files.place(self.data).write_text(text)
            with self.subTest(text), self.assertRaises(ValueError) as caught:
                key_files.load(self.data)
            self.assertIn("does not hold the four keys id, key, master_key, hook_key", str(caught.exception))

    def test_keys_of_the_environment_are_four_or_none(self):
        given = {f"LEANCLOUD_APP_{name}": f"{name.lower()}-0123456789abcdef" for name in ("ID", "KEY", "MASTER_KEY", "HOOK_KEY")}
        self.assertEqual(key_files.from_environment({**given, "LEANCLOUD_APP_ID": " id-0123456789abcdef "}), {"id": "id-0123456789abcdef", "key": "key-0123456789abcdef", "master_key": "master_key-0123456789abcdef", "hook_key": "hook_key-0123456789abcdef"})
        self.assertIsNone(key_files.from_environment({}))
        self.assertIsNone(key_files.from_environment({name: " " for name in given}))
        for name in given:
            with self.subTest(name):
                with self.assertRaises(ValueError) as caught:
                    key_files.from_environment({**given, name: ""})
                self.assertIn(f"{name} is missing: set all of", str(caught.exception))
                with self.assertRaises(ValueError) as caught:
                    key_files.from_environment({**given, name: "a,b\n"})
                self.assertIn(name, str(caught.exception))


class PasswordsTest(unittest.TestCase):
    def test_record_of_an_import_is_of_its_scheme(self):
        self.assertEqual(passwords.legacy_record("$2a$x", "s"), {"scheme": "bcrypt", "hash": "$2a$x"})
        self.assertEqual(passwords.legacy_record("x$2", "s"), {"scheme": "leancloud", "salt": "s", "hash": "x$2"})

    def test_stream_of_a_seal_is_as_long_as_its_token(self):
        for length in (0, 1, 63, 64, 65, 200):
            with self.subTest(length):
                stream = passwords._stream(b"s", b"n", length)
                self.assertEqual((len(stream), stream), (length, passwords._stream(b"s", b"n", 500)[:length]))
                token = "t" * length
                sealed = passwords.seal_token(b"s", token)
                self.assertEqual((passwords.open_token(b"s", sealed), len(sealed["nonce"]), len(sealed["sealed"])), (token, 32, 2 * length))


if __name__ == "__main__":
    unittest.main()
