"""The parts of an import and a pull, each at its edge: conversion, credentials, inboxes, schemas, reports, budgets."""

import base64
import io
import json
import math
import shutil
import stat
import tempfile
import time
import unittest
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from leanstorage.__main__ import parser
from leanstorage.rules import classes
from leanstorage.rules.errors import StorageError
from leanstorage.rules.values import pointer
from leanstorage.rules.write import MAX_OBJECT_BYTES
from leanstorage.store import open_store, Query, Row, StoreUnavailable
from leanstorage.takeout import budget, checklist, commands, convert, credentials, declarations, exporter, file_import, importer
from leanstorage.takeout import inboxes, leave, load, migration, mongo_json, origin, pull, pull_estimate, pull_files, pull_relations, puller, raw_rows
from leanstorage.takeout import remote, repair, report as reports, rewrite, rewrites, schema_notes
from leanstorage.takeout.convert import Job, Prepared
from leanstorage.takeout.formats import Content
from leanstorage.takeout.remote import RemoteError

SECRET = b"s" * 32


class Piped(io.StringIO):
    """An output to a pipe: what it is not told to send on stays in it."""

    sent = ""

    def flush(self):
        self.sent = self.getvalue()


AT, ISO = 1_568_868_348_354, "2019-09-19T04:45:48.354Z"


def converted(*rows, class_name="Post", kind="rows", encoding="json", first=0, **options):
    """The Prepared of rows, which are documents or bytes."""
    data = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in rows]
    batch = raw_rows.Batch(list(enumerate(data, 1)), [], 0, first)
    return convert.convert(Job(class_name, kind, encoding, SECRET, **options), batch)


class ConvertTest(unittest.TestCase):
    def row(self, **fields):
        return {"objectId": "a1", "createdAt": ISO, "updatedAt": ISO, **fields}

    def reason(self, document, **options):
        """Why a row is refused, None where it is taken."""
        found = converted(document, **options)
        self.assertEqual(len(found.rows) + len(found.pairs) + len(found.lines) + len(found.refused), 1)
        return found.refused[0][1] if found.refused else None

    def test_row_is_its_id_times_rights_and_body(self):
        found = converted(self.row(n=1, ACL={"*": {"read": True}}, className="Post", __type="Object", none=None), {"objectId": "b1", "createdAt": ISO})
        self.assertEqual(
            found.rows,
            [(0, ("a1", AT, AT, {"*": {"read": True}}, '{"n":1,"none":null}'), None), (1, ("b1", AT, AT, None, "{}"), None)],
        )
        self.assertEqual((found.types, found.newest, found.undated, found.notes), ({("n", "Number", None)}, AT, set(), {}))

    def test_types_are_those_of_all_rows(self):
        found = converted(self.row(
            s="", b=True, i=1, f=1.5, l=[], o={}, d={"__type": "Date", "iso": ISO}, p=pointer("A", "x"),
            r={"__type": "Relation", "className": "B"}, g={"__type": "GeoPoint", "latitude": 1, "longitude": 2},
        ))  # fmt: skip
        self.assertEqual(
            found.types,
            {
                ("s", "String", None), ("b", "Boolean", None), ("i", "Number", None), ("f", "Number", None), ("l", "Array", None),
                ("o", "Object", None), ("d", "Date", None), ("p", "Pointer", "A"), ("r", "Relation", "B"), ("g", "GeoPoint", None),
            },
        )  # fmt: skip
        self.assertNotIn('"r"', found.rows[0][1][4])

    def test_times_that_are_missing_are_the_other_one_or_now(self):
        later = "2019-09-19T04:45:48.355Z"
        for fields, created, updated, is_undated, newest in (
            ({"createdAt": ISO, "updatedAt": later}, AT, AT + 1, False, AT + 1),
            ({"createdAt": ISO}, AT, AT, False, AT),
            ({"updatedAt": ISO}, AT, AT, False, AT),
            ({}, 7, 7, True, 0),
            ({"createdAt": None, "updatedAt": {"__type": "Date", "iso": ISO}}, AT, AT, False, AT),
        ):
            with self.subTest(fields), mock.patch.object(convert, "now", return_value=7):
                found = converted({"objectId": "a1", **fields})
                self.assertEqual(found.rows[0][1][1:3], (created, updated))
                self.assertEqual((found.undated, found.newest), ({0} if is_undated else set(), newest))
        found = converted(self.row(), {**self.row(updatedAt=later), "objectId": "b"}, {**self.row(), "objectId": "c"})
        self.assertEqual(found.newest, AT + 1)
        for value in ({"__type": "Other", "iso": ISO}, 5, "yesterday"):
            self.assertEqual(self.reason({"objectId": "a1", "updatedAt": value}), "updatedAt is not a time")

    def test_row_without_id_gets_one_of_its_content_and_place(self):
        ids = [one.rows[0][1][0] for one in (
            converted({"n": 1}), converted({"n": 1}), converted({"n": 2}), converted({"n": 1}, first=1), converted({"n": 1}, class_name="Other"),
        )]  # fmt: skip
        self.assertEqual(ids[0], ids[1])
        self.assertEqual(len(set(ids)), 4)
        self.assertTrue(all(len(one) == 24 for one in ids))
        self.assertEqual(converted({"n": 1}).notes, {0: ["rows without objectId, which were given one"]})
        self.assertEqual(self.reason({"n": 1}, is_live=True), "it has no objectId")

    def test_what_is_no_row_is_refused(self):
        secrets = {"password": "p", "salt": "s", "sessionToken": "t"}
        inner = [{"objectId": "a", "createdAt": ISO}]
        apart = "rows within an object that is none: take them out, into an array of their own"
        answer = "what a server answered, and no row"
        for document, reason in (
            ({}, "an empty object"),
            (b"[]", "not an object"),
            (b"{", "not valid JSON"),
            (b'{"a": "\xff"}', "not UTF-8: if all of the file is in another encoding, such as GBK or Big5, convert it with iconv"),
            ({"code": 1, "error": "x"}, answer),
            ({"code": 1, "error": "x", "rawMessage": "y"}, answer),
            ({"code": 1, "error": "x", "n": 1}, None),
            ({"code": 1}, None),
            ({"errno": 1, "errmsg": "x", "data": 5}, answer),
            ({"results": [], "count": 1, "cursor": "x"}, answer),
            ({"results": [], "other": 1}, None),
            ({"n": {"data": inner}}, apart),
            ({"n": inner}, apart),
            ({"n": {"a": inner[0]}}, apart),
            ({"n": [{"objectId": "a"}]}, None),
            ({"n": []}, None),
            ({"n": {"results": 5, "a": inner[0]}}, None),
            ({"objectId": "a1", "n": inner}, None),
            ({**secrets, "objectId": "a1"}, "the secrets of a user in a class that clients can read: these rows are of the class _User"),
            ({"objectId": "a1", "password": "p", "salt": "s"}, None),
            ({"objectId": "a1", "a.b": 1}, "a key that is not letters, digits and _"),
            ({"objectId": "a1", "k" * 200: 1}, None),
            ({"objectId": "a1", "k" * 201: 1}, "a key that is not letters, digits and _"),
        ):
            with self.subTest(document=str(document)[:60]):
                self.assertEqual(self.reason(document), reason)
        self.assertIsNone(self.reason({**secrets, "objectId": "a1", "username": "u"}, class_name="_User"))
        self.assertIsNone(self.reason({**secrets, "objectId": "a1"}, is_live=True))

    def test_largest_object_is_taken_and_a_larger_one_is_not(self):
        for character, width in (("x", 1), ("中", 3)):
            room = (MAX_OBJECT_BYTES - len('{"t":""}')) // width
            for length, reason in ((room, None), (room + 1, f"the object is larger than {MAX_OBJECT_BYTES} bytes")):
                with self.subTest(character, length=length):
                    prepared = Prepared()
                    try:
                        convert._row(Job("Post", "rows", "json", SECRET), {"objectId": "a1", "t": character * length}, prepared, 0, 0)
                        found = None
                    except convert.Refused as error:
                        found = str(error)
                    self.assertEqual(found, reason)

    def test_dates_that_a_file_has_as_texts_become_dates(self):
        [(_, row, _)] = converted(self.row(d=ISO, n=ISO, e=5), dates=frozenset({"d", "e", "x"})).rows
        self.assertEqual(json.loads(row[4]), {"d": {"__type": "Date", "iso": ISO}, "n": ISO, "e": 5})

    def test_pairs_and_lines_are_checked(self):
        found = converted({"owningId": "a", "relatedId": "b"}, {"owningId": "a"}, kind="relation")
        self.assertEqual((found.pairs, [index for index, _ in found.refused], found.rows), ([(0, ("a", "b"))], [1], []))
        line = {"owner": "a", "inboxType": "default", "last": 1}
        found = converted(line, {"owner": "a"}, kind="inboxes")
        self.assertEqual((found.lines, found.refused), ([(0, line)], [(1, "not a line of an inbox, nor a counter")]))

    def test_field_named_error_and_rewritten_urls_are_told(self):
        wanted = rewrites.parse(["http://a=https://b"])
        found = converted(self.row(error=None), {**self.row(u="http://a/x"), "objectId": "b"}, self.row(), rewrites=wanted)
        self.assertEqual(found.notes, {0: ["rows with a field 'error', which the Python SDK takes for failures"], 1: [rewrites.NOTE]})
        self.assertEqual(found.rows[1][1][4], '{"u":"https://b/x"}')

    def test_role_without_acl_is_read_by_all_and_changed_by_none(self):
        found = converted({"objectId": "a", "name": "r", "createdAt": ISO}, class_name="_Role")
        self.assertEqual(found.rows[0][1][3], {"*": {"read": True}})
        self.assertEqual(found.rows[0][2], {"unique": [("unique:_Role:name", "r", "name")], "records": []})
        self.assertEqual(found.notes, {0: ["roles without ACL, which only the master key may change now"]})
        found = converted({"objectId": "a", "name": "r", "ACL": None}, class_name="_Role")
        self.assertEqual((found.rows[0][1][3], found.notes), (None, {}))
        for name in (None, "", 5):
            self.assertEqual(self.reason({"objectId": "a", "name": name}, class_name="_Role"), "a role without a name")

    def test_file_is_found_by_its_key(self):
        nowhere = "files without key and url: nothing tells where their bytes are"
        for fields, record, notes in (
            ({"key": "k"}, ("file", "k", {"id": "a"}), {}),
            ({"url": "u"}, None, {}),
            ({}, None, {0: [nowhere]}),
            ({"key": None}, None, {0: [nowhere]}),
        ):
            with self.subTest(fields):
                found = converted({"objectId": "a", "name": "n", **fields}, class_name="_File")
                self.assertEqual((found.rows[0][2], found.notes), ({"unique": [], "records": [record]} if record else None, notes))
        for key in ("", 5):
            self.assertEqual(self.reason({"objectId": "a", "key": key, "url": "u"}, class_name="_File"), "the key of the file is not a text")

    def user(self, is_live=False, rotate_sessions=False, **fields):
        """(extra, notes, body) of a user."""
        found = converted({"objectId": "u1", "updatedAt": ISO, **fields}, class_name="_User", is_live=is_live, rotate_sessions=rotate_sessions)
        self.assertEqual(found.refused, [])
        return found.rows[0][2], found.notes.get(0, []), json.loads(found.rows[0][1][4])

    def test_user_has_names_and_a_credential_beside_the_row(self):
        whole = "A" * 86 + "=="
        extra, notes, body = self.user(username="n", email="e", mobilePhoneNumber="+86 138", password=whole, salt="s", sessionToken="t")
        self.assertEqual(body, {"username": "n", "email": "e", "mobilePhoneNumber": "+86 138"})
        kinds = [kind for kind, _, _ in extra["unique"]]
        self.assertEqual(sorted(kinds), ["session", "unique:_User:email", "unique:_User:mobilePhoneNumber", "unique:_User:username"])
        self.assertIn(("unique:_User:mobilePhoneNumber", "+86138", "mobilePhoneNumber"), extra["unique"])
        [(kind, key, credential)] = extra["records"]
        self.assertEqual((kind, key, credential["imported"], credential["token"]["is_imported"]), ("credential", "u1", AT, True))
        self.assertEqual(credential["password"], {"scheme": "leancloud", "salt": "s", "hash": whole, "is_imported": True})
        self.assertEqual(notes, [])

    def test_passwords_are_those_of_their_scheme(self):
        scrypt = "0" * 32 + "$" + "1" * 128
        for fields, expected in (
            ({"scryptPassword": scrypt, "password": "x"}, {"scheme": "scrypt", "salt": "0" * 32, "hash": "1" * 128}),
            ({"bcryptPassword": "$2b$x", "password": "y"}, {"scheme": "bcrypt", "hash": "$2b$x"}),
            ({"password": "$2a$x"}, {"scheme": "bcrypt", "hash": "$2a$x"}),
            ({"password": "x", "salt": "s"}, {"scheme": "leancloud", "salt": "s", "hash": "x"}),
            ({"password": "x"}, {"scheme": "leancloud", "salt": "", "hash": "x"}),
            ({"salt": "s"}, None),
            ({"password": ""}, None),
        ):
            with self.subTest(fields):
                self.assertEqual(convert._password(fields), expected)
        for fields, reason in (
            ({"scryptPassword": scrypt + "1"}, "scryptPassword is not SALT$HASH in hex"),
            ({"salt": 5}, "salt is not a text"),
            ({"password": ["x"]}, "password is not a text"),
        ):
            with self.subTest(fields), self.assertRaisesRegex(convert.Refused, reason.replace("$", r"\$")):
                convert._password(fields)

    def test_notes_on_users_are_those_that_hold(self):
        account = {"weixin": {"openid": "1"}}
        nameless, clear = "users without a username", "users whose password is not a hash of LeanCloud's: they have to reset it"
        missing, unverified = "users without a password hash: they have to reset their password", "users with a weixin account, which was never verified here"
        for fields, options, expected in (
            ({"username": "n"}, {}, [missing]),
            ({"username": "n"}, {"is_live": True}, []),
            ({"password": "A" * 86 + "=="}, {}, [nameless]),
            ({}, {"is_live": True}, []),
            ({"username": "n", "password": "A" * 85 + "=="}, {}, [clear]),
            ({"username": "n", "password": "$2b$x"}, {}, []),
            ({"username": "n", "authData": account}, {}, [unverified]),
            ({"username": "n", "authData": {"anonymous": {"id": "1"}}}, {}, []),
            ({"username": "n", "authData": {"qq": None}}, {}, [missing]),
            ({"username": "n", "authData": {}}, {}, [missing]),
            ({"username": "n", "authData": {"q" * 51: {"a": 1}}}, {}, [f"users whose {'q' * 50} account has no id: they cannot log in with it"]),
        ):
            with self.subTest(fields, options=options):
                self.assertEqual(self.user(**options, **fields)[1], expected)

    def test_session_is_taken_unless_all_are_to_end(self):
        for token, is_taken in (("t", True), ("t" * 200, True), ("t" * 201, False), ("", False), (5, False)):
            with self.subTest(token=str(token)[:9]):
                reason = self.reason({"objectId": "u", "username": "n", "sessionToken": token}, class_name="_User")
                self.assertEqual(reason, None if is_taken else "sessionToken is not a text of a usable length")
        extra, _, body = self.user(username="n", sessionToken="t", rotate_sessions=True)
        self.assertEqual(([kind for kind, _, _ in extra["unique"]], extra["records"], body), (["unique:_User:username"], [], {"username": "n"}))

    def test_names_that_only_one_object_may_have(self):
        for class_name, document, expected in (
            ("_User", {"username": "", "email": 5}, []),
            ("_User", {"authData": {"qq": {"openid": "1"}, "wb": {"a": 1}, "x": None}}, [("auth:qq", "1", "authData.qq")]),
            ("_User", {"authData": 5}, []),
            ("_Role", {"name": "r", "username": "n"}, [("unique:_Role:name", "r", "name")]),
            ("Post", {"username": "n", "authData": {"qq": {"openid": "1"}}}, []),
        ):
            with self.subTest(class_name, document=document):
                self.assertEqual(convert.unique_names(class_name, document), expected)


class RepairTest(unittest.TestCase):
    def test_what_cannot_be_held_is_moved_aside_with_its_reason(self):
        odd, key = "a NUL, half of a character, or a number that is none", "a key that is not letters, digits and _"
        for document, expected, reasons in (
            ({"n": 1, "s": "x", "l": [1.5, {"a": None}]}, {"n": 1, "s": "x", "l": [1.5, {"a": None}]}, []),
            ({"n": math.nan}, {"n_aside": "NaN"}, [("n", "n_aside", odd)]),
            ({"l": [math.inf]}, {"l_aside": "[Infinity]"}, [("l", "l_aside", odd)]),
            ({"s": "a\0"}, {"s_aside": '"a\\u0000"'}, [("s", "s_aside", odd)]),
            ({"s": "\ud800"}, {"s_aside": '"\\ud800"'}, [("s", "s_aside", odd)]),
            ({"o": {"a\0": 1}}, {"o_aside": '{"a\\u0000": 1}'}, [("o", "o_aside", odd)]),
            ({"a.b": 1}, {"a_b_aside": "1"}, [("a.b", "a_b_aside", key)]),
            ({"a.b": 1, "a_b_aside": 2, "a_b_aside_2": 3}, {"a_b_aside": 2, "a_b_aside_2": 3, "a_b_aside_3": "1"}, [("a.b", "a_b_aside_3", key)]),
            ({"é": 1}, {"__aside": "1"}, [("é", "__aside", key)]),
            ({"k" * 201: 1}, {"k" * 180 + "_aside": "1"}, [("k" * 201, "k" * 180 + "_aside", key)]),
            ({"k" * 200: 1}, {"k" * 200: 1}, []),
            ({"createdAt": "x"}, {"createdAt_aside": '"x"'}, [("createdAt", "createdAt_aside", "not a time")]),
            ({"updatedAt": {"iso": "x"}}, {"updatedAt_aside": '{"iso": "x"}'}, [("updatedAt", "updatedAt_aside", "not a time")]),
            ({"updatedAt": {"iso": ISO}, "createdAt": None, "ACL": None}, {"updatedAt": {"iso": ISO}, "createdAt": None, "ACL": None}, []),
            ({"objectId": math.nan}, None, []),
        ):
            with self.subTest(document=str(document)[:60]):
                healed = dict(document)
                self.assertEqual(repair.heal(healed), reasons)
                self.assertEqual(str(healed), str(document if expected is None else expected))

    def test_rights_that_are_none_are_nobodys(self):
        document = {"ACL": {"*": 5}}
        [(key, name, reason)] = repair.heal(document)
        self.assertEqual((key, name, document), ("ACL", "ACL_aside", {"ACL_aside": '{"*": 5}', "ACL": {}}))
        self.assertTrue(reason)

    def test_value_may_be_nested_to_a_hundred_levels(self):
        def nested(levels, wrap):
            value = 1
            for _ in range(levels):
                value = wrap(value)
            return value

        for wrap in (lambda value: [value], lambda value: {"a": value}):
            self.assertTrue(repair._is_storable(nested(99, wrap), 1))
            with self.assertRaises(RecursionError):
                repair._is_storable(nested(100, wrap), 1)
            self.assertEqual(repair._reason("a", nested(100, wrap)), "nested too deep")

    def test_raw_rows_are_read_as_far_as_they_can_be(self):
        for data, expected in ((b'{"a": "\n\xff"}', {"a": "\n\udcff"}), (b"[1]", None), (b"{", None), (b"[" * 100_000, None)):
            self.assertEqual(repair.parse(data), expected)

    def test_repairing_job_takes_what_an_ordinary_one_refuses(self):
        found = converted(b'{"objectId": "a", "n": NaN}', b"{", is_repairing=True)
        self.assertEqual(([row[4] for _, row, _ in found.rows], found.refused), (['{"n_aside":"NaN"}'], [(1, "not valid JSON")]))
        self.assertEqual((found.moved[0][0], found.moved[0][1][:2]), (0, ("n", "n_aside")))
        self.assertEqual(len(converted(b'{"objectId": "a", "n": NaN}').refused), 1)
        self.assertEqual(len(converted(b'{"owningId": "a", "relatedId": NaN}', kind="relation", is_repairing=True).refused), 1)


class CredentialsTest(unittest.TestCase):
    def test_newer_credentials_replace_what_was_not_touched_here(self):
        a, b = {"scheme": "x", "hash": "a"}, {"scheme": "x", "hash": "b"}
        old, new = {**a, "is_imported": True}, {**b, "is_imported": True}
        token, other = {"sealed": "t", "is_imported": True}, {"sealed": "u", "is_imported": True}
        filled, replaced, kept = credentials.FILLED, credentials.REPLACED, credentials.KEPT
        for current, brought, is_same, expected, note in (
            ({}, {"password": new, "imported": 5}, False, {"password": new, "imported": 5}, filled),
            ({"password": a}, {"password": new, "imported": 5}, False, {"password": a}, kept),
            ({"password": a}, {"password": old, "imported": 5}, False, {"password": a}, None),
            ({"password": old, "imported": 5}, {"password": new, "imported": 6}, False, {"password": new, "imported": 6}, replaced),
            ({"password": old, "imported": 5}, {"password": new, "imported": 5}, False, {"password": old, "imported": 5}, kept),
            ({"password": old, "imported": 5}, {"password": new, "imported": 4}, False, {"password": old, "imported": 5}, None),
            ({"password": a, "imported": 5}, {"password": new, "imported": 6}, False, {"password": a, "imported": 5}, kept),
            ({"password": a, "imported": 5}, {"password": new, "imported": 5}, False, {"password": a, "imported": 5}, None),
            ({"password": a, "imported": 5}, {"password": new, "imported": 4}, False, {"password": a, "imported": 5}, None),
            ({"imported": 5}, {"token": token, "imported": 4}, False, {"token": token, "imported": 5}, filled),
            ({"token": other, "imported": 5}, {"token": token, "imported": 6}, False, {"token": token, "imported": 6}, replaced),
            ({"token": {"sealed": "u"}, "imported": 5}, {"token": token, "imported": 6}, False, {"token": {"sealed": "u"}, "imported": 5}, None),
            ({"password": a}, {"password": new, "token": token, "imported": 6}, False, {"password": a}, kept),
            ({"password": old, "token": token, "imported": 5}, {"password": new, "imported": 6}, False, {"password": new, "imported": 6}, replaced),
            ({"password": old, "token": token, "imported": 5}, {"password": new, "imported": 6}, True, {"password": new, "token": token, "imported": 6}, replaced),
            ({"password": old, "token": {"sealed": "u"}, "imported": 5}, {"password": new, "imported": 6}, False, {"password": new, "token": {"sealed": "u"}, "imported": 6}, replaced),
            ({"token": token, "imported": 5}, {"password": new, "imported": 6}, False, {"password": new, "token": token, "imported": 6}, filled),
            ({"password": old, "imported": 5}, {"password": new, "token": token, "imported": 6}, False, {"password": new, "token": token, "imported": 6}, replaced),
        ):  # fmt: skip
            with self.subTest(current=current, brought=brought, is_same=is_same):
                self.assertEqual(credentials._decided(current, brought, is_same), (expected, note))


class StoreTestCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="parts-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.database = f"sqlite:///{self.folder / 'a.db'}"
        self.store = open_store(self.database)
        self.addCleanup(self.store.close)

    def write(self, work):
        return self.store.write(work)

    def read(self, work):
        return self.store.read(work)

    def records(self, kind):
        return dict(self.read(lambda transaction: transaction.records(kind)))

    def bodies(self, class_name):
        return {row.id: row.body for row in self.read(lambda transaction: transaction.find(Query(class_name)))}

    def columns(self, class_name):
        return self.read(lambda transaction: transaction.class_info(class_name))["columns"]


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


class DeclarationsTest(unittest.TestCase):
    def test_permissions_in_leanclouds_form(self):
        for value, expected in (
            ({}, {}),
            ({"find": {"*": True}}, {}),
            ({"find": {}}, {"find": {"users": False, "names": []}}),
            ({"create": {"onlySignInUsers": True}}, {"create": {"users": True, "names": []}}),
            ({"get": {"roles": ["r"], "users": ["u"]}}, {"get": {"users": False, "names": ["role:r", "u"]}}),
            ({"get": {"*": False, "roles": []}}, {"get": {"users": False, "names": []}}),
            ({"drop": {}}, None),
            ({"get": []}, None),
            ({"get": {"other": True}}, None),
            ({"get": {"*": 1}}, None),
            ({"get": {"roles": "r"}}, None),
            ({"get": {"users": [5]}}, None),
            ([], None),
        ):
            with self.subTest(value=value):
                self.assertEqual(declarations.permissions(value), expected)

    def test_indexes_are_made_where_they_mean_the_same(self):
        described = {"n": {"type": "Number"}, "m": {"type": "Number"}, "l": {"type": "Array"}, "r": {"type": "Relation"}, "p": {"type": "Pointer"}}
        unique = lambda *keys: {"key": dict.fromkeys(keys, 1), "unique": True}  # noqa: E731
        for class_name, listed, expected in (
            ("Post", [unique("n")], ([["n"]], [], [])),
            ("Post", [unique("p.$id", "n")], ([["p", "n"]], [], [])),
            ("Post", [unique("l"), unique("r"), unique("none"), unique("n", "createdAt")], ([], ["l", "r", "none", "n+createdAt"], [])),
            ("_User", [unique("n")], ([], ["n"], [])),
            ("Post", [{"key": {"n": 1, "m": -1}}, {"key": {"n": 1}, "unique": 1}], ([], [], ["n+m", "n"])),
            ("Post", [{"key": {"_id": 1}}, {"key": {}}, {"key": []}, 5, ["n"]], ([], [], [])),
            ("Post", {"key": {"n": 1}}, ([], [], [])),
            ("Post", None, ([], [], [])),
        ):
            with self.subTest(class_name, listed=listed):
                found = declarations.indexes(class_name, described, listed)
                self.assertEqual((found.unique, found.lost, found.plain), expected)
        many = {f"k{number}": {"type": "Number"} for number in range(6)}
        found = declarations.indexes("Post", many, [unique(*list(many)[:5]), unique(*many)])
        self.assertEqual(([len(keys) for keys in found.unique], [len(one.split("+")) for one in found.lost]), ([5], [6]))

    def test_options_are_those_of_own_columns(self):
        number = {"type": "Number"}
        for class_name, key, column, known, expected in (
            ("Post", "n", {**number, "hidden": True, "required": True, "auto_increment": True}, number, {"hidden": True, "required": True, "auto_increment": True}),
            ("Post", "n", {**number, "hidden": 1, "required": 1, "auto_increment": 1}, number, None),
            ("Post", "n", {**number, "default": 5}, number, {"default": 5}),
            ("Post", "n", {**number, "default": "5"}, number, None),
            ("Post", "n", {**number, "default": 0}, number, {"default": 0}),
            ("Post", "b", {"type": "Boolean", "default": False}, {"type": "Boolean"}, {"default": False}),
            ("Post", "n", {**number, "default": {"$x": 1}}, number, None),
            ("Post", "s", {"type": "String", "auto_increment": True}, {"type": "String"}, None),
            ("Post", "n", {"type": "Odd", "hidden": True, "required": True}, None, {"hidden": True}),
            ("Post", "r", {"type": "Relation", "hidden": True, "required": True}, {"type": "Relation", "className": "A"}, {"hidden": True}),
            ("Post", "createdAt", {"type": "Date", "hidden": True}, None, None),
            ("Post", "a.b", {**number, "hidden": True}, number, None),
            ("_User", "username", {"type": "String", "hidden": True, "required": True}, {"type": "String"}, {"hidden": True}),
            ("Post", "p", {"type": "Pointer", "className": "A", "default": pointer("A", "x")}, {"type": "Pointer", "className": "A"}, {"default": pointer("A", "x")}),
            ("Post", "p", {"type": "Pointer", "className": "A", "default": pointer("B", "x")}, {"type": "Pointer", "className": "A"}, None),
        ):  # fmt: skip
            with self.subTest(class_name, key=key, column=column):
                found = declarations.options(class_name, {key: column}, {} if known is None else {key: known})
                self.assertEqual(found, {} if expected is None else {key: expected})

    def test_defaults_that_are_lost_and_that_of_the_acl(self):
        for described, lost in (
            ({"n": {"type": "Number", "default": "x"}, "m": {"type": "Number", "default": 0}, "k": {"type": "Number", "default": None}}, ["n"]),
            ({"createdAt": {"type": "Date", "default": "x"}}, []),
            ({"ACL": {"type": "ACL", "default": {"*": {"read": True}}}}, []),
            ({"ACL": {"type": "ACL", "default": 5}, "n": {"type": "Number", "default": "x"}}, ["ACL", "n"]),
        ):
            with self.subTest(described):
                self.assertEqual(declarations.lost_defaults("Post", described), lost)
        self.assertEqual(
            declarations.default_acl({"ACL": {"default": {"_owner": {"write": True}, "*": {"read": True}}}}),
            {"*": {"read": True}, "owner": {"write": True}},
        )
        for described in ({}, {"ACL": {}}, {"ACL": {"default": 5}}, {"ACL": {"default": {"*": 5}}}):
            self.assertIsNone(declarations.default_acl(described))

    def test_names_in_a_note_are_cut(self):
        self.assertEqual(schema_notes._shown(["a", "b"]), "a, b")
        self.assertEqual(schema_notes._shown(["x"] * 20), ", ".join(["x"] * 20))
        self.assertEqual(schema_notes._shown(["x"] * 21), ", ".join(["x"] * 20) + ", ...")
        self.assertEqual(schema_notes._shown(["x" * 101]), "x" * 100)


class MongoTest(unittest.TestCase):
    def test_values_of_mongodbs_tools(self):
        for value, expected in (
            ({"$oid": "a"}, "a"),
            ({"$date": ISO}, {"__type": "Date", "iso": ISO}),
            ({"$date": AT}, {"__type": "Date", "iso": ISO}),
            ({"$date": {"$numberLong": str(AT)}}, {"__type": "Date", "iso": ISO}),
            ({"$date": {}}, {"$date": {}}),
            ({"$date": [1]}, {"$date": [1]}),
            ({"$numberInt": "x"}, {"$numberInt": "x"}),
            ({"$numberDecimal": "1.5"}, 1.5),
            ({"$ref": "A", "$id": {"$oid": "x"}}, pointer("A", "x")),
            ({"$ref": 5, "$id": "x"}, {"$ref": 5, "$id": "x"}),
            ({"$ref": "A"}, {"$ref": "A"}),
            ({"a": {"$oid": "b"}, "c": [{"$oid": "d"}]}, {"a": "b", "c": ["d"]}),
            ({"x": 1}, {"x": 1}),
            ({}, {}),
        ):
            with self.subTest(value=value):
                self.assertEqual(mongo_json._value(value), expected)
        self.assertEqual(mongo_json.plain({"_id": {"$oid": "a"}, "n": 1}), {"objectId": "a", "n": 1})
        for document, is_row in (({"_id": 1}, True), ({"_id": 1, "objectId": 2}, False), ({"n": 1}, False)):
            self.assertIs(mongo_json.is_row(document), is_row)


class RewritesTest(StoreTestCase):
    def test_urls_are_rewritten_where_the_host_ends(self):
        wanted = rewrites.parse(["http://a.com/=https://b.com/x/"])
        for text, expected, number in (
            ('"http://a.com"', '"https://b.com/x"', 1),
            ('"https://A.com/p?q"', '"https://b.com/x/p?q"', 1),
            ('"http://a.com.cn"', '"http://a.com.cn"', 0),
            ('"http://a.com. "', '"https://b.com/x. "', 1),
            ('"http://a.com:80"', '"http://a.com:80"', 0),
            ('"http://a.com-b"', '"http://a.com-b"', 0),
            ('"ftp://a.com"', '"ftp://a.com"', 0),
            ('"http://a.com http://a.com"', '"https://b.com/x https://b.com/x"', 2),
        ):
            with self.subTest(text):
                self.assertEqual(wanted.apply(text), (expected, number))
        both = rewrites.parse(["http://a.com=http://b.com", "http://b.com=http://c.com"])
        self.assertEqual(both.apply("http://a.com http://b.com"), ("http://c.com http://c.com", 3))
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
        twice = "its objectId occurs twice in this export"
        self.assertEqual(self.figures(self.load(self.row("a", n=1), self.row("a", n=2))), (1, 0, [(1, twice)], []))
        seq = self.read(lambda transaction: transaction.last_seq())
        self.assertEqual(self.figures(self.load(self.row("a", n=2), start_seq=seq - 1)), (0, 0, [(0, twice)], []))
        self.assertEqual(self.figures(self.load(self.row("a", n=2), start_seq=seq)), (0, 1, [], []))

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


class ReportTest(StoreTestCase):
    def report(self):
        self.out = io.StringIO()
        return reports.Report(self.folder / "deep" / "refused.jsonl", self.out, self.out)

    def closed(self, report, *arguments, **options):
        self.out.truncate(0)
        self.out.seek(0)
        self.code = report.close(*arguments, **options)
        return self.out.getvalue().splitlines()

    def test_figures_are_added_up_and_the_code_is_that_of_what_failed(self):
        report = self.report()
        report.advance("B", 5, 3, 1)
        report.advance("A", 2, 1, 1)
        report.advance("B", 1, 1)
        lines = self.closed(report)
        self.assertEqual([line.split() for line in lines[:3]], [["class", "read", "imported", "skipped", "refused"], ["A", "2", "1", "1", "0"], ["B", "6", "4", "1", "0"]])
        self.assertRegex(lines[3], r"\Aread 8, imported 5, skipped 2, refused 0 rows and 0 files; \d+\.\d s, \d+ rows/s, peak memory \d+ MB\Z")
        self.assertEqual((len(lines), self.code), (4, 0))
        lines = self.closed(report, "pulled", with_files=False)
        self.assertRegex(lines[-1], r"\Aread 8, pulled 5, skipped 2, refused 0 rows; ")
        for fail in (lambda report: report.refuse("A", "s", 1, "r", b""), lambda report: report.fail("x"), lambda report: report.trouble("x")):
            report = self.report()
            report._refused_path = self.folder / f"refused{id(fail)}"
            fail(report)
            self.closed(report)
            self.assertEqual(self.code, 1)
        self.assertEqual(self.closed(self.report())[0][:7], "read 0,")

    def test_refused_rows_are_counted_kept_and_five_of_them_shown(self):
        for number, more in ((5, []), (6, ["    refused 1 more"])):
            report = self.report()
            report._refused_path = self.folder / f"{number}.jsonl"
            for line in range(number):
                report.refuse("A", "s\n", line, "r\x1b", b"row" if line else b"\xff")
            lines = self.closed(report)
            self.assertEqual(lines[2:-2], ["    refused s?: r?", *(f"    refused s?, line {line}: r?" for line in range(1, 5)), *more])
            self.assertEqual(lines[-2], f"refused rows and their reasons: {report.refused_path}")
            kept = [json.loads(line) for line in Path(report.refused_path).read_text().splitlines()]
            self.assertEqual((len(kept), report.refused_rows()), (number, number))
            self.assertEqual(kept[0], {"class": "A", "source": "s\n", "line": 0, "reason": "r?", "row_base64": base64.b64encode(b"\xff").decode()})
            self.assertEqual(kept[1], {"class": "A", "source": "s\n", "line": 1, "reason": "r?", "row": "row"})
            self.assertEqual(stat.S_IMODE(Path(report.refused_path).stat().st_mode), 0o600)

    def test_file_of_refused_rows_is_made_anew_in_a_folder_of_the_owner(self):
        report = self.report()
        report.refuse("files", "s", 0, "r", b"")
        self.assertEqual((report.refused_rows(), stat.S_IMODE((self.folder / "deep").stat().st_mode)), (0, 0o700))
        self.closed(report)
        with self.assertRaises(FileExistsError):
            self.report().refuse("A", "s", 0, "r", b"")

    def test_what_is_listed_aside_is_no_failure(self):
        report = self.report()
        for number in range(6):
            report.list_aside("A", "k1" if number % 2 else "k2", "s", number, "r", b"row")
        lines = self.closed(report)
        self.assertEqual(lines[2:-2], [
            "    3 k1", "        s, line 1: r", "        s, line 3: r", "    3 k2", "        s: r", "        s, line 2: r", "        s, line 4: r",
        ])  # fmt: skip
        self.assertEqual((lines[-2], self.code), (f"all that is listed above, with the reasons: {report.refused_path}", 0))

    def test_notes_are_counted_and_so_many_are_told_apart(self):
        report = self.report()
        for number in range(52):
            report.note("A", f"n{number:02}")
        report.note("A", "n00", 5)
        notes = report.tally("A").notes
        self.assertEqual((len(notes), notes["n00"], notes["n49"], notes["other notes"]), (51, 6, 1, 2))
        self.assertIn("    note: 6 n00", self.closed(report))

    def test_files_that_failed_or_are_none_are_told_once_and_up_to_a_hundred(self):
        report = self.report()
        for number in range(101):
            report.fail(f"x{number}")
            report.fail("x0")
            report.pass_over(f"y{number}")
        self.assertEqual((report.broken_count, len(report.broken), report.passed_count, len(report.passed)), (101, 100, 101, 100))
        self.assertEqual(self.out.getvalue().splitlines(), [f"refused: x{number}" for number in range(100)])
        lines = self.closed(report)
        self.assertTrue(lines[0].startswith("passed over, no exports: 101: y0, y1") and lines[0].endswith("y99, ..."), lines[0])
        self.assertEqual(lines[1:101], [f"refused file: x{number}" for number in range(100)])
        report = self.report()
        for number in range(100):
            report.pass_over(f"y{number}")
        self.assertTrue(self.closed(report)[0].endswith(", y99"))

    def test_trouble_is_told_once_and_lines_of_their_own_behind_the_table(self):
        report = self.report()
        report.trouble(ValueError("a\n"))
        report.trouble("a\n")
        report.tell("told\n")
        report.declared.update(["A", "B"])
        lines = self.closed(report)
        self.assertEqual(lines[:3], ["failed: a?", "classes that a schema declared: 2", "told?"])
        self.assertIn(", 1 failed; ", lines[3])

    def test_progress_is_a_line_or_a_bar(self):
        current = {"name": "A", "size": 100, "done": 25, "rows": 50, "start": 10.0}
        for changes, now, is_last, text in (
            ({}, 40.0, False, "A: 50 rows, 2 rows/s [######                  ] 25 %, 1:30 left"),
            ({}, 40.0, True, "A: 50 rows, 2 rows/s"),
            ({"size": None}, 40.0, False, "A: 50 rows, 2 rows/s"),
            ({"done": 0}, 40.0, False, "A: 50 rows, 2 rows/s"),
            ({"done": 200}, 40.0, False, "A: 50 rows, 2 rows/s [########################] 100 %, 0:00 left"),
            ({}, 10.0, True, "A: 50 rows, 50000 rows/s"),
            ({"done": 50}, 19.0, False, "A: 50 rows, 6 rows/s [############            ] 50 %, 0:09 left"),
        ):
            with self.subTest(changes, now=now):
                self.assertEqual(reports._progress({**current, **changes}, now, is_last), text)

    def test_progress_is_shown_now_and_then(self):
        for is_terminal, pause in ((True, 0.2), (False, 5)):
            with self.subTest(is_terminal=is_terminal):
                clock = mock.Mock(return_value=100.0)
                with mock.patch.object(reports.time, "monotonic", clock):
                    self.out = io.StringIO()
                    self.out.isatty = lambda is_terminal=is_terminal: is_terminal
                    report = reports.Report("x", self.out, self.out)
                    report.begin("A", 10)
                    shown = []
                    for step in (0, pause * 0.9, pause * 0.2, pause * 1.1):
                        clock.return_value += step
                        before = len(self.out.getvalue())
                        report.advance("A", 1, 1, 0, 1)
                        shown.append(len(self.out.getvalue()) > before)
                    self.assertEqual(shown, [is_terminal, False, True, True])
                    report.end("A")
                    text = self.out.getvalue()
                    self.assertTrue(text.endswith("\n") and text.splitlines()[-1].endswith("A: 4 rows, 0 rows/s" if not is_terminal else "A: 4 rows, 9 rows/s"), text)
                    report.end("A")
                    report.begin("B", 10)
                    report.end("B")
                    self.assertEqual(self.out.getvalue(), text)

    def test_last_line_is_sent_on_at_once(self):
        out = Piped()
        reports.Report("x", io.StringIO(), out).close()
        self.assertTrue(out.sent.startswith("read 0, ") and out.sent == out.getvalue(), out.sent)

    def test_objects_that_are_here_are_counted(self):
        self.write(lambda transaction: transaction.save_class("A", {"columns": {}, "permissions": {}, "default_acl": None}))
        self.write(lambda transaction: transaction.insert("A", Row("a", 1, 1, None, {})))
        report = self.report()
        report.advance("B", 1)
        report.count(self.store, ["A"])
        lines = [line.split() for line in self.closed(report)]
        self.assertEqual(lines[:3], [["class", "read", "imported", "skipped", "refused", "here", "now"], ["A", "0", "0", "0", "0", "1"], ["B", "1", "0", "0", "0"]])


class BudgetTest(StoreTestCase):
    HOUR = 3600

    def budget(self, limit=None, **options):
        self.said, self.slept = [], []
        self.time = getattr(self, "time", 1000 * self.HOUR)

        def sleep(seconds):
            self.slept.append(seconds)
            self.time += seconds

        clock = SimpleNamespace(sleep=sleep, monotonic=lambda: self.time)
        return budget.Budget(self.store, "calls:x", limit, say=self.said.append, clock=clock, now=lambda: self.time, **options)

    def test_calls_of_24_hours_are_counted(self):
        one = self.budget()
        for hours, expected in ((0, 1), (1, 2), (22, 3), (1, 3), (1, 3), (30, 1)):
            self.time += hours * self.HOUR
            one.take()
            self.assertEqual(one.recent(), expected, hours)
        self.assertEqual(one.made, 6)

    def test_limit_ends_with_the_hours_that_are_left(self):
        one = self.budget(2)
        one.take()
        self.time += 3 * self.HOUR
        one.take()
        with self.assertRaisesRegex(budget.OutOfCalls, r"\A2 calls were made in the last 24 hours, .* in 21 hours, it goes on"):
            one.take()
        self.assertEqual((one.made, self.slept), (2, []))
        self.time += 21 * self.HOUR
        one.take()
        self.assertEqual(one.recent(), 2)

    def test_patient_one_waits_until_the_hour_is_over(self):
        self.time = 1000 * self.HOUR + 1800.0
        one = self.budget(1, is_patient=True)
        one.take()
        one.take()
        self.assertEqual(self.slept, [1800.0, *[3600.0] * 23])
        self.assertEqual(self.said[0], "1 calls were made in the last 24 hours: waiting 24 hours")
        self.assertEqual(self.said[-1], "1 calls were made in the last 24 hours: waiting 1 hours")

    def test_count_is_saved_every_twenty_calls_and_at_the_end(self):
        one = self.budget()
        for number, saved in ((19, None), (1, 20), (1, 20)):
            for _ in range(number):
                one.take()
            found = self.records("calls:x").get("calls")
            self.assertEqual(found and sum(found["hours"].values()), saved)
        one.close()
        self.assertEqual(self.budget().recent(), 21)
        self.time += 24 * self.HOUR
        self.budget().close()
        self.assertEqual(self.records("calls:x"), {"calls": {"hours": {}}})


class FakeRemote:
    """The calls that estimates, relations and files make, answered from what a test gives."""

    url, source_id, parallel = "http://there", "src", 2

    def __init__(self, counts=(), rows=()):
        self.counts, self.found, self.asked, self.waited = dict(counts), list(rows), [], []

    def count(self, path, where=None):
        self.asked.append((path, where))
        return self.counts.get((path.removeprefix("/classes/"), bool(where)), 0)

    def rows(self, path, **query):
        self.asked.append((path, query))
        if "$in" in query["where"].get("objectId", {}):
            return [one for one in self.found if one["objectId"] in query["where"]["objectId"]["$in"]]
        after = query["where"].get("objectId", {}).get("$gt", "")
        return [one for one in self.found if one["objectId"] > after][: query["limit"]]

    def wait(self, attempt):
        self.waited.append(attempt)


class PullCase(StoreTestCase):
    def pull(self, **options):
        self.output = io.StringIO()
        report = reports.Report(self.folder / "refused.jsonl", self.output, self.output)
        return pull.Pull(FakeRemote(**options), self.store, Job("", "rows", "json", SECRET, is_live=True), report)


class EstimateTest(PullCase):
    def calls(self, counts, columns=(), with_files=False, name="Post", states=(), as_of=None):
        one = self.pull(counts=counts)
        for key, state in dict(states).items():
            one.write(lambda transaction: transaction.put_record(one.kind, key, state))  # noqa: B023
        if as_of is not None:
            one.write(lambda transaction: transaction.put_record(load.JOINED, "Post.r", {"as_of": as_of}))
        return pull_estimate.calls(one, {name: dict(columns)}, with_files)

    def test_pages_of_a_class_are_asked_for_twice_and_once_more_each(self):
        for count, calls in ((0, 6 + 2), (1, 6 + 4), (1000, 6 + 4), (1001, 6 + 6), (5000, 6 + 12)):
            with self.subTest(count):
                self.assertEqual(self.calls({("Post", False): count}), calls)
        self.assertEqual(self.calls({("Post", False): None}), 8)

    def test_class_that_came_before_is_asked_for_what_changed(self):
        for changed, calls in ((0, 6 + 4 + 1), (999, 6 + 4 + 1), (1000, 6 + 4 + 2)):
            with self.subTest(changed):
                state = {"Post": {"is_done": True, "since": ISO}}
                self.assertEqual(self.calls({("Post", False): 2001, ("Post", True): changed}, states=state), calls)

    def test_owners_of_a_relation_are_asked_for_one_by_one_and_fifty_times_together(self):
        relation = {"r": {"type": "Relation"}, "n": {"type": "Number"}}
        for count, own in ((0, 4), (49, 49 + 4), (50, 50 + 6), (100, 100 + 8)):
            with self.subTest(count):
                pages = 1 if not count else 2
                self.assertEqual(self.calls({("Post", False): count}, relation), 6 + 2 * pages + own)
        changed = {("Post", False): 500, ("Post", True): 60}
        self.assertEqual(self.calls(changed, relation, as_of=AT), 10 + 60 + 6)
        self.assertEqual(self.calls({**changed, ("Post", True): None}, relation), 10 + 0 + 4)

    def test_relation_that_came_before_is_asked_for_where_its_owners_changed(self):
        relation, changed = {"r": {"type": "Relation"}}, {("Post", False): 500, ("Post", True): 60}
        self.assertEqual(self.calls(changed, relation, states={"Post.r": {"is_done": True}}), 10 + 500 + 24)
        states = {"Post.r": {"is_done": True}, "Post": {"since": ISO}}
        self.assertEqual(self.calls(changed, relation, states=states), 10 + 60 + 6)

    def test_files_are_asked_for_by_two_hundred(self):
        for count, with_files, own in ((0, True, 8 + 2), (200, True, 10 + 3), (201, True, 10 + 4), (201, False, 10)):
            with self.subTest(count, with_files=with_files):
                self.assertEqual(self.calls({("_File", False): count}, with_files=with_files, name="_File"), own)


class FilesTest(PullCase):
    def test_claims_are_a_size_and_a_checksum(self):
        for meta, expected in (
            ({"size": 5, "_checksum": "A" * 32}, (5, "a" * 32)),
            ({"size": 0, "_checksum": "a" * 31}, (0, None)),
            ({"size": -1, "_checksum": "a" * 33}, (None, None)),
            ({"size": True}, (None, None)),
            ({"size": "5", "_checksum": 5}, (None, None)),
            ({}, (None, None)),
            (5, (None, None)),
        ):
            with self.subTest(meta=meta):
                self.assertEqual(pull_files.claims({"metaData": meta}), expected)
        self.assertEqual(pull_files.claims({}), (None, None))

    def test_rows_come_page_by_page_in_the_order_of_ids(self):
        for count, pages in ((0, 1), (2, 1), (3, 2), (6, 3)):
            rows = [{"objectId": f"a{number}"} for number in range(count)]
            with self.subTest(count), mock.patch.object(pull_files, "PAGE_ROWS", 3):
                one = self.pull(rows=rows)
                self.assertEqual(list(pull_files._rows(one)), rows)
                self.assertEqual(len(one.remote.asked), pages)
                self.assertEqual({(query["order"], query["limit"]) for _, query in one.remote.asked}, {("objectId", 3)})

    def one(self, row, size=None, came=(), kept=None):
        """What is made of one file, where the attempts to fetch it bring `came`, (length, digest) or errors."""
        one = self.pull()
        coming = iter(came)

        def write(_):
            found = next(coming)
            if isinstance(found, Exception):
                raise found
            return ("staged", *found)

        self.blobs = mock.Mock()
        self.blobs.size.side_effect = size if isinstance(size, Exception) else lambda key: size
        self.blobs.write.side_effect = write
        one.remote.download = lambda url: url
        if kept is not None:
            pull_files.keep_differing(self.store, row["key"], kept)
        self.pulled = one
        return pull_files._one(one, self.blobs, row)

    def test_file_is_fetched_here_elsewhere_gone_or_refused(self):
        row = {"key": "k", "url": "http://u", "metaData": {"size": 5}}
        for changes, options, expected, fetched, waited in (
            ({"key": None}, {}, ("elsewhere", 0, ""), 0, []),
            ({"key": ""}, {}, ("elsewhere", 0, ""), 0, []),
            ({}, {"size": StoreUnavailable("down")}, ("refused", 0, "it cannot be looked for: down"), 0, []),
            ({}, {"size": 5}, ("here", 5, ""), 0, []),
            ({"metaData": {}}, {"size": 7}, ("here", 7, ""), 0, []),
            ({}, {"size": 7, "came": [(5, "d")]}, ("fetched", 5, ""), 1, []),
            ({}, {"size": 7, "kept": 7}, ("here", 7, ""), 0, []),
            ({"key": "other"}, {"size": 7, "kept": 8, "came": [(5, "d")]}, ("fetched", 5, ""), 1, []),
            ({"url": None}, {}, ("refused", 0, "it has no URL"), 0, []),
            ({"url": ""}, {}, ("refused", 0, "it has no URL"), 0, []),
            ({}, {"came": [(5, "d")]}, ("fetched", 5, ""), 1, []),
            ({}, {"came": [remote.Unreachable("dead")]}, ("refused", 0, "dead"), 1, []),
            ({}, {"came": [RemoteError("x", 404)]}, ("gone", 0, "http://u answers with status 404"), 1, []),
            ({}, {"came": [RemoteError("x", 410)]}, ("gone", 0, "http://u answers with status 410"), 1, []),
            ({}, {"came": [RemoteError("x", 403)]}, ("refused", 0, "x"), 1, []),
            ({}, {"came": [RemoteError("x"), (5, "d")]}, ("fetched", 5, ""), 2, [0]),
            ({}, {"came": [RemoteError("x"), RemoteError("y"), RemoteError("z")]}, ("refused", 0, "z"), 3, [0, 1]),
            ({}, {"came": [OSError("full")]}, ("refused", 0, "it cannot be stored: full"), 1, []),
            ({}, {"came": [(7, "d"), (7, "d")]}, ("fetched", 7, ""), 2, [0]),
            ({}, {"came": [(7, "d"), (7, "e"), (7, "d")]}, ("fetched", 7, ""), 3, [0, 1]),
            ({}, {"came": [(7, "d"), (7, "e"), (8, "d")]}, ("refused", 0, "it has 8 bytes and MD5 d, and should have 5 and None"), 3, [0, 1]),
            ({"metaData": {"_checksum": "a" * 32}}, {"came": [(7, "a" * 32)]}, ("fetched", 7, ""), 1, []),
            ({"metaData": {"_checksum": "a" * 32}}, {"came": [(7, "b" * 32), (7, "a" * 32)]}, ("fetched", 7, ""), 2, [0]),
        ):  # fmt: skip
            with self.subTest(changes, options=options):
                self.write(lambda transaction: transaction.delete_record(pull_files.DIFFERS, "k"))
                self.assertEqual(self.one({**row, **changes}, **options), expected)
                self.assertEqual((self.blobs.write.call_count, self.pulled.remote.waited), (fetched, waited))
                self.assertEqual(self.blobs.keep.called, expected[0] == "fetched")
                self.assertEqual(self.blobs.drop.call_count, sum(isinstance(one, tuple) for one in options.get("came", ())))

    def test_bytes_that_came_twice_as_they_are_not_claimed_are_remembered(self):
        self.assertEqual(self.one({"key": "k", "url": "u", "metaData": {"size": 5}}, came=[(7, "d"), (7, "d")])[0], "fetched")
        self.assertEqual(pull_files.differing(self.store, "k"), 7)
        self.assertIsNone(pull_files.differing(self.store, "j"))
        self.assertEqual(list(self.pulled.report.tally("files").notes.values()), [1])

    def test_outcomes_are_counted(self):
        one = self.pull()
        row = {"key": "k", "name": "n"}
        for outcome, size in (("fetched", 5), ("here", 7), ("elsewhere", 0), ("gone", 0), ("refused", 0)):
            pull_files._count(one, row, outcome, size, "why")
        tally = one.report.tally("files")
        self.assertEqual((tally.read, tally.imported, tally.skipped, tally.refused), (5, 1, 3, 1))
        self.assertEqual(tally.notes, Counter({"bytes of files are here": 12, "files lie elsewhere, at URLs of their own, and stay there": 1}))
        self.assertEqual((tally.listed, tally.examples), ([("files are gone there", "k (n): why")], [("k (n)", 0, "why")]))
        one.report.close()


class RelationsTest(PullCase):
    def test_members_and_owners_come_page_by_page(self):
        rows = [{"objectId": f"m{number}", "updatedAt": ISO} for number in range(6)]
        for size, pages in ((3, 3), (4, 2), (7, 1)):
            with self.subTest(size), mock.patch.object(pull_relations, "MEMBERS", size):
                one = self.pull(rows=rows)
                self.assertEqual(pull_relations._members(one, "Post", "k", "T", "o"), [f"m{number}" for number in range(6)])
                self.assertEqual(len(one.remote.asked), pages)
                self.assertEqual({path for path, _ in one.remote.asked}, {"/classes/T"})
                self.assertEqual({query["order"] for _, query in one.remote.asked}, {"objectId"})
                related = {"object": pointer("Post", "o"), "key": "k"}
                self.assertTrue(all(query["where"]["$relatedTo"] == related for _, query in one.remote.asked))

    def test_owners_that_are_gone_there_or_did_not_change_are_not_asked_for(self):
        rows = [{"objectId": name, "updatedAt": at} for name, at in (("a", ISO), ("b", "2019-09-19T04:45:48.353Z"), ("c", "2019-09-19T04:45:48.355Z"))]
        for since, expected in ((0, ["a", "b", "c"]), (AT, ["a", "c"]), (AT + 2, [])):
            with self.subTest(since), mock.patch.object(pull_relations, "ASKED_AT_ONCE", 2), mock.patch.object(pull_relations, "_members", return_value=["m"]):
                one = self.pull(rows=rows)
                found = pull_relations._members_of(one, "Post", "k", "T", ["a", "b", "c", "gone"], since)
                self.assertEqual([tuple(each) for each in found], [(name, {"a": AT, "b": AT - 1, "c": AT + 1}[name], ["m"]) for name in expected])
                self.assertEqual([query["where"]["objectId"]["$in"] for _, query in one.remote.asked], [["a", "b"], ["c", "gone"]])

    def test_members_of_an_owner_that_was_changed_here_are_only_added_to(self):
        def fill(transaction):
            transaction.save_class("Post", {"columns": {}, "permissions": {}, "default_acl": None})
            for name, at in (("older", 4), ("same", 5), ("newer", 6)):
                transaction.insert("Post", Row(name, 1, at, None, {}))
            for name in ("older", "same", "newer", "none"):
                transaction.relate("Post", "k", name, "T", ["here"])

        self.write(fill)
        found = [pull_relations.Found(name, 5, ["there"]) for name in ("older", "same", "newer", "none")]
        self.assertEqual(self.write(lambda transaction: pull_relations._set(transaction, "Post", "k", "T", found)), (4, 1))
        for name, members in (("older", ["there"]), ("same", ["there"]), ("newer", ["here", "there"]), ("none", ["there"])):
            self.assertEqual(self.read(lambda transaction: sorted(transaction.members("Post", "k", name, "T"))), members)  # noqa: B023

    def test_all_owners_are_asked_for_in_pieces_and_the_place_is_kept(self):
        names = [f"o{number}" for number in range(4)]

        def fill(transaction):
            transaction.save_class("Post", {"columns": {}, "permissions": {}, "default_acl": None})
            for number, name in enumerate(names):
                transaction.insert("Post", Row(name, 1, AT + number, None, {}))
            transaction.put_record(load.JOINED, "Post.k", {"as_of": AT + 1})

        self.write(fill)
        rows = [{"objectId": name, "updatedAt": ISO} for name in names]
        for size in (1, 2, 3, 4, 5):
            self.write(lambda transaction: transaction.put_record(load.JOINED, "Post.k", {"as_of": 0}))
            with self.subTest(size), mock.patch.object(pull_relations, "OWNERS_AT_ONCE", size), mock.patch.object(pull_relations, "_members", return_value=["m"]):
                one = self.pull(rows=rows)
                kind = one.kind = f"pull:{size}"
                pull_relations._all_owners(one, "Post", "k", "T")
                self.assertEqual(self.records(kind)["Post.k"], {"after": "o3", "is_done": True})
                self.assertEqual(self.records(load.JOINED), {})
                self.assertEqual(one.report.tally("Post.k").read, 4)
                asked = len(one.remote.asked)
                pull_relations._all_owners(one, "Post", "k", "T")
                self.assertEqual(len(one.remote.asked), asked)

    def test_columns_and_time_of_an_import(self):
        self.assertEqual(pull_relations.columns_of("Post", {"b": {"type": "Relation"}, "a": {"type": "Relation"}, "n": {"type": "Number"}, "x": {}}), ["a", "b"])
        self.assertIn("users", pull_relations.columns_of("_Role", {}))
        one = self.pull()
        self.assertEqual(pull_relations.as_of(one, "Post", "k"), 0)
        self.write(lambda transaction: transaction.put_record(load.JOINED, "Post.k", {"as_of": 5}))
        self.assertEqual(pull_relations.as_of(one, "Post", "k"), 5)


class PullerTest(PullCase):
    def test_ids_that_only_one_side_has(self):
        for there, here, expected in (
            ("abc", "abc", []),
            ("ac", "b", [("a", "there"), ("b", "here"), ("c", "there")]),
            ("", "ab", [("a", "here"), ("b", "here")]),
            ("ab", "", [("a", "there"), ("b", "there")]),
            ("bd", "abc", [("a", "here"), ("c", "here"), ("d", "there")]),
        ):
            with self.subTest(there=there, here=here):
                self.assertEqual(list(puller._differences(iter(there), iter(here))), expected)

    def test_rows_here_and_ids_there_come_page_by_page(self):
        def fill(transaction):
            transaction.save_class("Post", {"columns": {}, "permissions": {}, "default_acl": None})
            for number in range(4):
                transaction.insert("Post", Row(f"a{number}", 9 - number, 1, None, {}))

        self.write(fill)
        whole = [f"a{number}" for number in range(4)]
        for size, pages in ((1, 5), (2, 3), (3, 3), (4, 2), (5, 2)):
            with self.subTest(size), mock.patch.object(puller, "PAGE_ROWS", size):
                self.assertEqual([row.id for row in puller.local_rows(self.store, "Post")], whole)
                self.assertEqual([row.id for row in puller.local_rows(self.store, "Post", "a1")], whole[2:])
                one = self.pull(rows=[{"objectId": name} for name in reversed(whole[::-1])])
                self.assertEqual(list(puller._remote_ids(one, "Post")), whole)
                self.assertEqual(len(one.remote.asked), pages)

    def test_page_that_is_too_large_is_asked_for_by_a_fourth(self):
        limits = []

        def get(path, **query):
            limits.append((query["limit"], "cursor" in query))
            raise remote.AnswerTooLarge("large")

        one = self.pull()
        one.remote.get = get
        with self.assertRaises(remote.AnswerTooLarge):
            puller._pass(one, "Post", {"after": None}, {})
        self.assertEqual(limits, [(1000, False), (250, False), (62, False), (15, False), (10, False)])

    def test_cursor_that_died_is_followed_by_the_last_id_and_a_query_that_fails_is_an_error(self):
        asked = []
        answers = [{"results": [{"objectId": "b"}, {"objectId": "a"}], "cursor": "c1"}, RemoteError("dead"), {"results": [{"objectId": "c"}], "cursor": "c2"}, {"results": []}]

        def get(path, **query):
            asked.append((query.get("cursor"), query["where"]))
            found = answers.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        one = self.pull()
        one.remote.get = get
        state = {"after": None}
        with mock.patch.object(puller, "_store_page"):
            puller._pass(one, "Post", state, {"x": 1})
        behind = {"x": 1, "objectId": {"$gt": "b"}}
        self.assertEqual(asked, [(None, {"x": 1}), ("c1", {"x": 1}), (None, behind), ("c2", behind)])
        self.assertEqual(state, {"after": "c"})
        answers[:] = [RemoteError("no")]
        with self.assertRaisesRegex(RemoteError, "no"):
            puller._pass(one, "Post", {"after": None}, {})

    def test_days_are_told_where_the_calls_of_one_are_limited(self):
        for wanted, limit, text in (
            (100, None, "100 calls to the API at most, if nothing changes there meanwhile; in the last 24 hours: 3"),
            (100, 100, "100 calls to the API at most, if nothing changes there meanwhile, 1 days at 100 a day; in the last 24 hours: 3"),
            (101, 100, "101 calls to the API at most, if nothing changes there meanwhile, 2 days at 100 a day; in the last 24 hours: 3"),
        ):
            with self.subTest(wanted, limit=limit), mock.patch.object(pull_estimate, "calls", return_value=wanted):
                one = self.pull()
                puller._say_calls(one, SimpleNamespace(limit=limit, recent=lambda: 3), {}, False)
                self.assertEqual(self.output.getvalue(), text + "\n")

    def test_classes_with_relations(self):
        self.assertTrue(puller._has_relations("_Role", {}))
        self.assertTrue(puller._has_relations("Post", {"n": {"type": "Number"}, "r": {"type": "Relation"}}))
        self.assertFalse(puller._has_relations("Post", {"n": {"type": "Number"}}))

    def test_what_is_missing_here_is_asked_for_fifty_at_once_and_what_is_gone_is_told_or_deleted(self):
        def fill(transaction):
            transaction.save_class("Post", {"columns": {}, "permissions": {}, "default_acl": None})
            for name in ("gone1", "gone2"):
                transaction.insert("Post", Row(name, 1, 1, None, {}))

        self.write(fill)
        there = [{"objectId": f"n{number:02}", "createdAt": ISO} for number in range(5)]
        for delete_missing in (False, True):
            with self.subTest(delete_missing=delete_missing), mock.patch.object(puller, "MISSING_AT_ONCE", 2):
                one = self.pull(counts={("Post", False): 5}, rows=there)
                puller._compare(one, {"Post": {}}, delete_missing, "Post")
                asked = [query["where"]["objectId"]["$in"] for _, query in one.remote.asked if "$in" in str(query)]
                self.assertEqual([len(ids) for ids in asked], [2, 2, 1] if not delete_missing else [])
                gone = "objects deleted here, because they are gone there" if delete_missing else (
                    "objects here are not there: new here, or deleted there (--delete takes them away)")
                self.assertEqual(one.report.tally("Post").notes, Counter({gone: 2}))
        self.assertEqual(sorted(self.bodies("Post")), [one["objectId"] for one in there])
        one = self.pull(counts={("Post", False): 5}, rows=there)
        puller._compare(one, {"Post": {}}, True, "Post")
        self.assertEqual(len(one.remote.asked), 1)  # their numbers are equal


class LeaveTest(StoreTestCase):
    def test_export_is_waited_for_longer_each_time(self):
        slept, said = [], []
        answers = [{"status": "running"}, {}, {"status": "done"}, *[{"status": "running"}] * 8, {"download_url": "http://x"}]
        source = SimpleNamespace(get=lambda path: answers.pop(0), clock=SimpleNamespace(sleep=slept.append))
        self.assertEqual(leave._finished(source, "e1", said.append), "http://x")
        self.assertEqual(slept, [2, 3, 4.5, 6.75, 10.125, 15.1875, 22.78125, 34.171875, 51.2578125, 60, 60])
        self.assertEqual(said, ["LeanCloud is making the export (0 s so far)"] * 11)

    def test_export_that_is_not_known_or_not_made_is_told(self):
        def finished(answer):
            def get(path):
                if isinstance(answer, Exception):
                    raise answer
                return answer

            return leave._finished(SimpleNamespace(get=get, clock=SimpleNamespace(sleep=lambda seconds: None)), "e1", lambda text: None)

        for answer in (RemoteError("x", 1), RemoteError("x", 101), RemoteError("x", 404), {"status": "failed"}, {"status": 5}):
            with self.subTest(answer=answer), self.assertRaises(leave._NoSuchExport):
                finished(answer)
        for code in (None, 2, 403):
            with self.subTest(code), self.assertRaisesRegex(RemoteError, "x"):
                finished(RemoteError("x", code))
        with mock.patch.object(leave, "MAX_POLLS", 3), self.assertRaisesRegex(RemoteError, "not ready after more than a day"):
            finished({"status": "running", "download_url": ""})

    def test_name_of_an_export_is_letters_and_digits(self):
        for export_id, is_taken in (("a" * 100, True), ("a" * 101, False), ("", False), ("a/b", False), ("é", False), (5, False), (None, False)):
            with self.subTest(export_id):
                source = mock.Mock()
                source.post.return_value = {"id": export_id}
                if is_taken:
                    self.assertEqual(leave._asked(source, "a@b"), export_id)
                    source.post.assert_called_with("/exportData", {"email": "a@b"})
                    leave._asked(source, None)
                    source.post.assert_called_with("/exportData", {})
                else:
                    self.assertRaises(RemoteError, leave._asked, source, None)

    def test_download_is_tried_eight_times_unless_that_changes_nothing(self):
        broke = RemoteError("broke off")
        for errors, waited, is_done in (
            ([], [], True),
            ([broke] * 7, list(range(7)), True),
            ([broke] * 8, list(range(7)), False),
            ([RemoteError("x", 403)], [], False),
            ([remote.Unreachable("x")], [], False),
        ):
            with self.subTest(len(errors)):
                source = mock.Mock()
                source.download_to.side_effect = [*errors, None]
                if is_done:
                    leave._download(source, "path", "url")
                else:
                    self.assertRaises(RemoteError, leave._download, source, "path", "url")
                self.assertEqual([call.args for call in source.wait.call_args_list], [(number,) for number in waited])

    def test_damage_is_told_from_other_failures(self):
        for text, is_damage in (("e: the gzip data ends too early", True), ("e: the zip archive is damaged", True), ("e: what a server answered", True), ("e: not JSON", False)):
            self.assertIs(leave._is_damage(text), is_damage)

    def test_checklist_names_thirty_classes(self):
        for count, more in ((0, None), (30, "c29"), (31, "c29, ...")):
            def fill(transaction, count=count):
                for name in ["_User", *(f"c{number:02}" for number in range(count))]:
                    transaction.save_class(name, {"columns": {}, "permissions": {}, "default_acl": None})

            self.write(fill)
            said = []
            checklist.tell(self.database, said.append)
            listed = [line for line in said if line.startswith("classes: ")]
            self.assertEqual([line.partition("c28, ")[2] for line in listed], [more] if more else [])
            self.assertEqual(said[1], "No API shows the following. Copy it from the console before the app is destroyed:")


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


class CommandsTest(unittest.TestCase):
    def options(self, *arguments):
        with redirect_stderr(io.StringIO()):
            return parser().parse_args(arguments)

    def test_options_are_what_they_say_and_as_often_as_they_may_be(self):
        url = "http://x"
        for arguments, expected in (
            (["import", "a", "b"], {"export": ["a", "b"], "class_name": None, "dry_run": False, "rotate_sessions": False, "refused": None, "repair": False, "rewrite_urls": [], "makes": True}),
            (["import", "a", "--class", "C", "--dry-run", "--rotate-sessions", "--refused", "r", "--repair", "--rewrite-urls", "x", "--rewrite-urls", "y"], {"class_name": "C", "dry_run": True, "rotate_sessions": True, "refused": "r", "repair": True, "rewrite_urls": ["x", "y"]}),
            (["pull", "--from", url], {"source": url, "database": None, "files": None, "private_host": [], "max_calls": None, "wait": False, "parallel": 4, "classes": [], "delete": False, "refused": None, "makes": True}),
            (["pull", "--from", url, "--files"], {"files": ""}),
            (["pull", "--from", url, "--files", "/f", "--private-host", "a", "--private-host", "b", "--max-calls", "7", "--wait", "--parallel", "32"], {"files": "/f", "private_host": ["a", "b"], "max_calls": 7, "wait": True, "parallel": 32}),
            (["pull", "--from", url, "--class", "A", "--class", "B", "--delete"], {"classes": ["A", "B"], "delete": True}),
            (["leave", "--from", url], {"export": None, "again": False, "email": None, "refused": None, "makes": True}),
            (["leave", "--from", url, "--export", "e", "--again", "--email", "a@b"], {"export": "e", "again": True, "email": "a@b"}),
            (["import-files", "d"], {"folder": "d", "refused": None, "makes": False}),
            (["export", "d"], {"folder": "d", "makes": False}),
            (["migrate", "--from", "sqlite:////a", "--to", "sqlite:////b"], {"source": "sqlite:////a", "target": "sqlite:////b", "makes": False}),
            (["rewrite", "a=b", "c=d"], {"urls": ["a=b", "c=d"], "classes": [], "apply": False, "makes": False}),
            (["rewrite", "a=b", "--class", "A", "--class", "B", "--apply"], {"classes": ["A", "B"], "apply": True}),
            (["adopt-keys"], {"makes": False, "database": None}),
        ):
            with self.subTest(arguments):
                found = vars(self.options(*arguments))
                self.assertEqual({name: found[name] for name in expected}, expected)

    def test_options_that_are_missing_or_no_number_are_refused(self):
        for arguments in (
            ["import"],
            ["pull"],
            ["leave"],
            ["import-files"],
            ["export"],
            ["rewrite"],
            ["migrate", "--from", "sqlite:////a"],
            ["migrate", "--to", "sqlite:////a"],
            ["migrate", "--from", "x", "--to", "sqlite:////a"],
            ["migrate", "--from", "sqlite:////a", "--to", "x"],
            ["pull", "--from", "http://x", "--parallel", "0"],
            ["pull", "--from", "http://x", "--parallel", "33"],
            ["pull", "--from", "http://x", "--database", "x"],
            ["pull", "--from", "http://x", "--files", "http://x"],
            *(["pull", "--from", "http://x", "--max-calls", text] for text in ("0", "-1", "x", "\u00b2", "1" * 10, "")),
        ):
            with self.subTest(arguments), self.assertRaises(SystemExit) as caught:
                self.options(*arguments)
            self.assertEqual(caught.exception.code, 2)
        self.assertEqual(commands._calls("9" * 9), 999_999_999)

    def test_every_option_says_what_it_is_and_every_value_has_a_name(self):
        subparsers = next(action for action in parser()._actions if action.choices)
        told = {action.dest: action.help for action in subparsers._choices_actions}
        for name in ("import", "pull", "leave", "import-files", "export", "migrate", "rewrite", "adopt-keys"):
            self.assertTrue(told[name], name)
            for action in subparsers.choices[name]._actions:
                with self.subTest(name, action=action.dest):
                    self.assertTrue(action.help)
                    self.assertTrue(action.nargs == 0 or action.metavar)

    def test_file_of_refused_rows_has_a_name_of_its_own(self):
        epoch = time.gmtime(0)
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(commands.time, "gmtime", lambda: epoch):
            data = Path(folder)
            for name in ("refused-19700101-000000.jsonl", "refused-19700101-000000-1.jsonl", "refused-19700101-000000-2.jsonl"):
                found = commands._refused_path(SimpleNamespace(refused=None), data)
                self.assertEqual(found, data / name)
                found.touch()
            self.assertEqual(commands._refused_path(SimpleNamespace(refused="r"), data), Path("r"))


if __name__ == "__main__":
    unittest.main()
