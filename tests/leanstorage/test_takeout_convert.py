"""Converting rows of an export, each rule at its edge: types, times, credentials, schemas, repairs."""

import json
import math
import unittest
from unittest import mock

from leanstorage.rules.values import pointer
from leanstorage.takeout import convert, credentials, declarations
from leanstorage.takeout import mongo_json
from leanstorage.takeout import repair, rewrites, schema_notes
from leanstorage.takeout.formats import Content
from leanstorage.takeout.sources import Member
from leanstorage.takeout import load, raw_rows, wishes
from leanstorage.takeout import report as reports
from leanstorage.takeout.convert import Job, Prepared
from tests.leanstorage.takeout_support import AT, ISO, SECRET, converted


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
            ({"n": [{"objectId": "a"}]}, apart),
            ({"n": []}, apart),
            ({"n": [5]}, None),
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
            room = (998 - len('{"t":""}')) // width
            for length, reason in ((room, None), (room + 1, "the object is larger than 998 bytes")):
                with self.subTest(character, length=length), mock.patch.object(convert, "MAX_OBJECT_BYTES", 998):
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
            ({"username": "n", "password": "$2b$x"}, {}, ["users whose password is a bcrypt hash: they can log in once bcrypt is installed (pip install bcrypt)"]),
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
                extra, notes, _ = self.user(username="n", password="A" * 86 + "==", sessionToken=token)
                self.assertEqual(notes, [] if is_taken else ["users whose session is no text of a usable length: they have to log in anew"])
                self.assertEqual([kind for kind, _, _ in extra["unique"]], ["unique:_User:username", *["session"] * is_taken])
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


class DefaultsTest(unittest.TestCase):
    def test_nothing_is_done_that_was_not_asked_for(self):
        job = Job("Post", "rows", "json", SECRET)
        self.assertEqual((job.rotate_sessions, job.is_repairing, job.is_live, job.dates, job.rewrites.pairs), (False, False, False, frozenset(), ()))
        found = Prepared()
        self.assertEqual((found.rows, found.pairs, found.lines, found.refused, found.types, found.undated, found.newest, found.is_repairing, found.moved, found.notes), ([], [], [], [], set(), set(), 0, False, [], {}))
        self.assertIsNot(found.rows, Prepared().rows)
        wished = wishes.NONE
        self.assertEqual((wished.is_repairing, wished.class_name, wished.only, wished.delete_missing, wished.max_calls, wished.is_patient, wished.rewrites.pairs), (False, None, (), False, None, False, ()))
        outcome = load.Outcome()
        self.assertEqual((outcome.imported, outcome.skipped, outcome.refused, outcome.notes, outcome.moved), (0, 0, [], [], []))
        content = Content("rows")
        self.assertEqual((content.class_name, content.key, content.target, content.encoding, content.dates, content.schemas, content.settings, content.pieces), ("", "", None, "json", frozenset(), {}, {}, ()))
        member = Member("l", "n", None, None)
        self.assertEqual((member.is_named, member.encoding, raw_rows.Batch([], [], 0, 0).moved), (False, "utf-8", 0))
        tally = reports.Tally()
        self.assertEqual((tally.read, tally.imported, tally.skipped, tally.refused, tally.notes, tally.examples, tally.aside, tally.listed), (0, 0, 0, 0, {}, [], {}, []))


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
            ({"$binary": "AAE=", "$type": "00"}, {"__type": "Bytes", "base64": "AAE="}),
            ({"$type": "00", "$binary": "AAE="}, {"__type": "Bytes", "base64": "AAE="}),
            ({"$binary": {"base64": "AAE=", "subType": "00"}}, {"__type": "Bytes", "base64": "AAE="}),
            ({"$binary": 5}, {"$binary": 5}),
            ({"$uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f"}, {"__type": "Bytes", "base64": "AAECAwQFBgcICQoLDA0ODw=="}),
            ({"$uuid": "x"}, {"$uuid": "x"}),
            ({"$symbol": "s"}, "s"),
            ({"$symbol": 5}, {"$symbol": 5}),
            ({"$undefined": True}, None),
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


if __name__ == "__main__":
    unittest.main()
