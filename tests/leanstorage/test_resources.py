"""What the resources make of single values: the small functions that decide, called by themselves."""
import contextlib
import io
import stat
import tempfile
import unittest
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from leanstorage.resources import batch, batch_save, dangers, doers, file_keys, files, mail, mail_texts, objects
from leanstorage.resources import queries, scan, sms_codes, statuses, third_parties, users
from leanstorage.rules.call import Call, Caller, Options
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import AnswerTooLarge, Condition, Not, now, Query, QueryTimeout, Row, StoreUnavailable
from tests.leanstorage.service_support import ServiceTestCase, pointer
from tests.leanstorage.test_rules import RulesCase

DELETE = {"__op": "Delete"}


def made(body=None, query=None, service=None, client="", **caller):
    return Call(service, Caller(**caller), "POST", query or {}, {} if body is None else body, "http://a", client=client)


class FilesTest(RulesCase):
    def test_range_of_a_file_with_table(self):
        self.check(
            files._range,
            (
                (["", 10], (0, 10, False)),
                (["bytes=-", 10], (0, 10, False)),
                (["bytes=0-1,3-4", 10], (0, 10, False)),
                (["bytes=0-", 10], (0, 10, True)),
                (["bytes=0-0", 10], (0, 1, True)),
                (["bytes=3-5", 10], (3, 6, True)),
                (["bytes=3-9", 10], (3, 10, True)),
                (["bytes=3-10", 10], (3, 10, True)),
                (["bytes=9-", 10], (9, 10, True)),
                (["bytes=10-", 10], None),
                (["bytes=5-4", 10], None),
                (["bytes=-1", 10], (9, 10, True)),
                (["bytes=-10", 10], (0, 10, True)),
                (["bytes=-11", 10], (0, 10, True)),
                (["bytes=-0", 10], None),
                (["bytes=0-0", 0], None),
                (["bytes=" + "9" * 18 + "-", 10], None),
                (["bytes=" + "9" * 19 + "-", 10], (0, 10, False)),
            ),
        )

    def test_provider_is_one_by_which_the_sdk_can_send(self):
        mini = "LeanCloud-JS-SDK/{} (Weapp)"
        for client, provider in (
            ("", "s3"),
            ("LeanCloud-JS-SDK/4.15.0 (Browser)", "s3"),
            ("LeanCloud-JS-SDK/4.15.0 (Node.js/18)", "s3"),
            ("LeanCloud-JS-SDK/4.15.0 (ReactNative)", "s3"),
            (mini.format("4.15.0"), "qiniu"),
            (mini.format("3.3.0"), "qiniu"),
            (mini.format("3.2.9"), "qcloud"),
            (mini.format("3.0.0"), "qcloud"),
            (mini.format("2.5.0"), "qcloud"),
            (mini.format("1.0.0"), "qcloud"),
            ("Other/4.15.0 (Weapp)", "s3"),
        ):
            with self.subTest(client):
                self.assertEqual(files._provider(client), provider)

    def test_type_and_disposition_of_a_file_with_table(self):
        for body, key, mime_type in (
            ({"mime_type": "image/png"}, "a.txt", "image/png"),
            ({"mime_type": "text/plain; charset=utf-8"}, "a", "text/plain; charset=utf-8"),
            ({"mime_type": "no type", "name": "a.png"}, "b.txt", "image/png"),
            ({"mime_type": 5, "name": 5}, "b.txt", "text/plain"),
            ({"name": "a"}, "b.txt", "text/plain"),
            ({}, "b", "application/octet-stream"),
        ):
            with self.subTest(body, key=key):
                self.assertEqual(files._mime_type(Row("i", 1, 1, None, body), key), mime_type)
        for arguments, disposition in (
            (("image/png", "a b/ü"), "inline; filename*=UTF-8''a%20b%2F%C3%BC"),
            (("text/html", "a"), "attachment; filename*=UTF-8''a"),
            (("image/svg+xml", ""), "attachment"),
            (("audio/x", None), "inline"),
            (("application/pdf", 5), "inline"),
        ):
            with self.subTest(arguments):
                self.assertEqual(files._disposition(*arguments), disposition)

    def test_upload_may_have_what_was_announced_and_no_more_than_the_limit(self):
        service = SimpleNamespace(options=Options(max_upload_bytes=10))
        for size, limit in ((None, 10), (5, 5), (10, 10), (11, 10), (5.5, 5.5), (True, 10), ("5", 10), (0, 0)):
            with self.subTest(size):
                self.assertEqual(files._limit(service, {"body": {"metaData": {"size": size}}}), limit)
        self.assertEqual([*files._limited([b"ab", b"c"], 3)], [b"ab", b"c"])
        with self.assertRaises(StorageError) as caught:
            [*files._limited([b"ab", b"cd"], 3)]
        self.assertEqual((caught.exception.kind, caught.exception.message), (Code.TOO_LARGE, "The request is larger than 3 bytes."))

    def test_reader_gives_its_part_in_pieces_and_ends_where_the_file_does(self):
        with open(__file__, "rb") as whole:
            data = whole.read()
        for start, end, pieces in ((0, 5, [5]), (2, 12, [4, 4, 2]), (3, 3, []), (len(data) - 3, len(data) + 9, [3])):
            with self.subTest(start=start, end=end), mock.patch.object(files, "CHUNK_BYTES", 5 if start == 0 else 4):
                reader = files.Reader(open(__file__, "rb"), start, end)  # noqa: SIM115 it closes it
                found = list(reader)
                reader.close()
                self.assertEqual((b"".join(found), [len(piece) for piece in found]), (data[start:end], pieces))
                self.assertTrue(reader.file.closed)

    def test_key_of_a_file_with_table(self):
        random = "[a-z0-9]{32}"
        chosen = "0123456789abcdef" * 2
        for body, name, is_master, pattern in (
            ({}, "a", False, random),
            ({}, "a.PNG", False, random + r"\.png"),
            ({}, "a.12345678901", False, random),
            ({}, "a.1234567890", False, random + r"\.1234567890"),
            ({"keep_file_name": True}, "a b", False, random + "/a b"),
            ({"keep_file_name": True}, "../b", False, random),
            ({"keep_file_name": True}, "n" * 222, False, random + "/n{222}"),
            ({"keep_file_name": True}, "n" * 223, False, random),
            ({"keep_file_name": True}, "a\x1f", False, random),
            ({"keep_file_name": True}, "a\x7f", False, random),
            ({"keep_file_name": True}, "a\\b", False, random),
            ({"key": chosen}, "a", False, chosen),
            ({"key": chosen + ".png"}, "a", False, chosen + r"\.png"),
            ({"key": "short"}, "a", False, random),
            ({"key": 5}, "a", False, random),
            ({"key": "a"}, "n", True, "a"),
            ({"key": "k" * 255}, "n", True, "k{255}"),
            ({"key": "a/ b"}, "n", True, "a/ b"),
            ({"key": "a", "prefix": "/p/q/"}, "n", True, "p/q/a"),
            ({"key": "a", "prefix": 5}, "n", True, "a"),
            ({"key": "a", "metaData": {"prefix": "m"}}, "n", True, "m/a"),
            ({"key": "a", "metaData": 5}, "n", True, "a"),
        ):
            with self.subTest(body, name=name[:30], is_master=is_master):
                self.assertRegex(file_keys.new_key(body, name, is_master), f"^{pattern}$")
        for key in ("", "k" * 256, "a//b", "./a", "..", "a\x00", "a\\", "a\x7f", 5):
            with self.subTest(key), self.assertRaises(StorageError) as caught:
                file_keys.new_key({"key": key}, "n", True)
            self.assertIs(caught.exception.kind, Code.BAD_FILE_KEY)

    def test_token_is_known_by_its_seal_for_an_hour(self):
        service = SimpleNamespace(token_secret=b"secret")
        here = now()
        token = files._new_token(service, here)
        self.assertRegex(token, "^[0-9a-f]{76}$")
        for seconds, is_good in ((0, True), (3599.999, True), (3600, False)):
            with self.subTest(seconds), mock.patch("leanstorage.resources.files.now", return_value=here + int(seconds * 1000)):
                self.assertIs(files.may_be_used(service, token), is_good)
        other = "0" if token[0] != "0" else "1"
        for bad in (other + token[1:], token[:-1], token + "0", token[:-1] + ("0" if token[-1] != "0" else "1"), "", token.upper() if token != token.upper() else "x"):
            with self.subTest(bad):
                self.assertFalse(files.may_be_used(service, bad))

    def test_external_file_with_table(self):
        external = {"__source": "external"}
        self.check(
            files.external_fields,
            (
                ([{"url": "u", "name": "n", "other": 1}], {"url": "u", "name": "n", "metaData": external}),
                ([{"metaData": {"a": 1, "__source": "x"}}], {"metaData": {"a": 1, **external}}),
                ([{"metaData": 5, "ACL": {}, "mime_type": None}], {"ACL": {}, "metaData": external}),
                ([{"url": ""}], Code.BAD_REQUEST, "must be a text"),
                ([{"url": 5}], Code.BAD_REQUEST, "must be a text"),
            ),
        )


class AccountsTest(RulesCase):
    def test_identity_of_an_account_with_table(self):
        for data, identity in (
            ({"uid": "u", "openid": "o", "id": "i"}, "u"),
            ({"openid": "o", "id": "i"}, "o"),
            ({"uid": "", "id": "i"}, "i"),
            ({"id": 5}, "5"),
            ({"id": True}, None),
            ({"id": ["i"]}, None),
            ({}, None),
            (None, None),
            ("u", None),
        ):
            with self.subTest(data):
                self.assertEqual(third_parties.identity_of(data), identity)

    def test_identities_with_table(self):
        old = {"p": {"token": "t"}}
        self.check(
            third_parties.identities,
            (
                ([None], set()),
                ([{"p": {"id": "a"}, "q": {"uid": 5}}], {("p", "a"), ("q", "5")}),
                ([{"p": {"token": "t"}}], Code.NO_AUTH_ID),
                ([{"p": {"token": "t"}}, old], set()),
                ([{"p": {"token": "other"}}, old], Code.NO_AUTH_ID),
                ([{"q": {"token": "t"}}, old], Code.NO_AUTH_ID),
            ),
        )
        self.assertEqual([third_parties.is_auth(one) for one in (None, {}, {"p": None}, {"p": {}}, {"p": {"id": 1}}, [1])], [False] * 4 + [True, False])

    def test_key_of_a_value_is_short(self):
        self.assertEqual(third_parties.unique_key("v" * 200), "v" * 200)
        self.assertRegex(third_parties.unique_key("v" * 201), "^sha256:[0-9a-f]{64}$")
        self.assertNotEqual(third_parties.unique_key("v" * 201), third_parties.unique_key("v" * 202))

    def test_union_id_of_an_account_with_table(self):
        good = {"unionid": "u", "platform": "weixin"}
        self.check(
            third_parties.union_of,
            (
                (["weixin", good], ("weixin", "u")),
                (["anonymous", good], None),
                (["weixin", None], None),
                (["weixin", {**good, "unionid": ""}], None),
                (["weixin", {**good, "unionid": 5}], None),
                (["weixin", {**good, "platform": "a b"}], None),
                (["weixin", {**good, "platform": 5}], None),
                (["weixin", {**good, "platform": "p" * 100}], ("p" * 100, "u")),
                (["weixin", {**good, "platform": "p" * 101}], Code.BAD_KEY),
            ),
        )
        own = {"unionid": "u", "platform": "weixin", "main_account": True}
        for data, wanted in ((own, {"uid": "u"}), ({**own, "main_account": "true"}, {"uid": "u"}), ({**own, "main_account": False}, None), ({**own, "unionid": ""}, None)):
            with self.subTest(data):
                self.assertEqual(third_parties._with_union_ids({"weixin": data}).get("_weixin_unionid"), wanted)

    def test_provider_is_trusted_with_table(self):
        union = {"unionid": "u", "platform": "weixin"}
        for provider, data, trusted, platforms, is_trusted in (
            ("p", {}, ["p"], [], True),
            ("p", {}, ["q"], [], False),
            ("p", {}, ["*"], [], True),
            ("_weixin_unionid", {}, ["*"], ["weixin"], False),
            ("_weixin_unionid", {}, ["*"], [], True),
            ("_weixin_unionid", {}, ["_weixin_unionid"], ["weixin"], True),
            ("weixin", union, ["weixin"], [], True),
            ("weixin_1", union, ["weixin_1"], [], True),
            ("weixinx", union, ["weixinx"], [], False),
            ("p", union, ["p"], [], False),
            ("p", union, ["p", "weixin"], [], True),
            ("p", union, ["*"], [], True),
            ("p", union, ["*"], ["weixin"], False),
            ("p", union, ["*", "weixin"], ["weixin"], True),
            ("p", union, ["p", "*"], ["weixin"], True),
        ):
            service = SimpleNamespace(options=Options(trusted_providers=frozenset(trusted)), asked_platforms=frozenset(platforms))
            with self.subTest(provider, data=data, trusted=trusted, platforms=platforms):
                try:
                    third_parties._check_trusted(made(service=service), provider, data)
                    found = True
                except StorageError as error:
                    self.assertIs(error.kind, Code.AUTH_UNTRUSTED)
                    found = False
                self.assertIs(found, is_trusted)

    def test_accounts_of_a_write_become_one_value_with_table(self):
        one, two, nobody = {"id": "1"}, {"id": "2"}, {"id": "n"}
        for stored, fields, has_password, wanted in (
            (None, {}, False, {}),
            (None, {"authData": {"p": one}}, False, {"authData": {"p": one}}),
            (None, {"authData": {"p": None}}, False, {}),
            ({"p": one}, {"a": 1}, False, {"a": 1}),
            ({"p": one}, {"authData": {"q": two}}, False, {"authData": {"p": one, "q": two}}),
            ({"p": one}, {"authData": {"p": one}}, False, {}),
            ({"p": one, "q": two}, {"authData": {"p": None}}, False, {"authData": {"q": two}}),
            ({"p": one}, {"authData": None}, False, {"authData": {}}),
            ({"p": one}, {"authData": DELETE}, False, {"authData": {}}),
            ({"p": one}, {"authData.p": DELETE}, False, {"authData": {}}),
            ({"p": one}, {"authData.q": DELETE}, False, {}),
            ({"p": one}, {"authData.p": None}, False, Code.BAD_KEY),
            ({"p": one}, {"authData.p.id": DELETE}, False, Code.BAD_KEY),
            ({"p": one}, {"authData": []}, False, Code.BAD_JSON),
            ({"p": one}, {"authData": {"__op": "Add"}}, False, Code.BAD_JSON),
            ({"anonymous": nobody}, {"authData": {"p": one}}, False, {"authData": {"p": one}}),
            ({"anonymous": nobody}, {"username": "u"}, False, {"username": "u"}),
            ({"anonymous": nobody}, {"username": "u"}, True, {"username": "u", "authData": {}}),
            ({"anonymous": nobody}, {"a": 1}, True, {"a": 1}),
            ({"anonymous": nobody}, {"username": None}, True, {"username": None, "authData": {}}),
            (None, {"authData": {"anonymous": nobody}}, False, {"authData": {"anonymous": nobody}}),
        ):
            row = None if stored is None else Row("u", 1, 1, None, {"authData": stored, "username": "old"})
            fields = dict(fields)
            with self.subTest(stored=stored, fields=fields, has_password=has_password):
                try:
                    users._merge_auth(row, fields, has_password)
                    found = fields
                except StorageError as error:
                    found = error.kind
                self.assertEqual(found, wanted)

    def test_fields_of_a_user_are_checked_with_table(self):
        master, own = made(is_master=True), made(user_id="u")
        row = Row("u", 1, 1, None, {"email": "a@b", "mobilePhoneNumber": "12345", "username": "old"})
        for call, old, fields, wanted in (
            (own, row, {"password": "x", "salt.a": 1, "a": 1}, {"a": 1}),
            (own, row, {"emailVerified": True, "mobilePhoneVerified": True}, {}),
            (master, row, {"emailVerified": True}, {"emailVerified": True}),
            (own, row, {"email": "a@b"}, {"email": "a@b"}),
            (own, row, {"email": "c@d"}, {"email": "c@d", "emailVerified": False}),
            (master, row, {"email": "c@d", "emailVerified": True}, {"email": "c@d", "emailVerified": True}),
            (own, row, {"mobilePhoneNumber": "123 45"}, {"mobilePhoneNumber": "12345"}),
            (own, row, {"mobilePhoneNumber": "54321"}, {"mobilePhoneNumber": "54321", "mobilePhoneVerified": False}),
            (own, row, {"email": None}, {"email": None, "emailVerified": False}),
            (own, None, {"email": "c@d"}, {"email": "c@d"}),
            (own, row, {"email": "x" * 65 + "@b"}, Code.BAD_EMAIL),
            (own, row, {"email": "c@" + "d" * 256}, Code.BAD_EMAIL),
            (own, row, {"email": ""}, {"email": "", "emailVerified": False}),
            (own, row, {"mobilePhoneNumber": "1"}, Code.BAD_PHONE),
            (own, row, {"mobilePhoneNumber": ""}, {"mobilePhoneNumber": "", "mobilePhoneVerified": False}),
            (own, row, {"username": ""}, Code.NO_USERNAME),
            (own, row, {"username": None}, Code.NO_USERNAME),
            (own, row, {"username": " "}, Code.BLANK_USERNAME),
            (own, row, None, None),
            (made(user_id="v"), None, None, None),
        ):
            with self.subTest(fields, is_master=call.caller.is_master):
                try:
                    found = users._admit(False, None, call, old, fields)
                except StorageError as error:
                    found = error.kind
                self.assertEqual(found, wanted)

    def test_parts_of_a_users_fields_with_table(self):
        for call, fields, wanted in (
            (made(), {"password": "p", "sessionToken": 1, "salt": 2, "emailVerified": True, "a": 1}, ({"a": 1}, "p")),
            (made(is_master=True), {"emailVerified": True, "mobilePhoneVerified": True}, ({"emailVerified": True, "mobilePhoneVerified": True}, None)),
            (made(), {"password.a": 1}, Code.BAD_KEY),
            (made(), {"a.password": 1}, ({"a.password": 1}, None)),
        ):
            with self.subTest(fields):
                try:
                    found = users.taken_apart(call, dict(fields))
                except StorageError as error:
                    found = error.kind
                self.assertEqual(found, wanted)

    def test_password_that_is_new_with_table(self):
        self.check(
            users.check_new_password,
            (
                (["p" * 1024], "p" * 1024),
                (["p" * 1025], Code.BAD_REQUEST, "longer than 1024 characters"),
                ([""], Code.NO_PASSWORD),
                ([None], Code.NO_PASSWORD),
                (["  "], Code.BLANK_PASSWORD),
            ),
        )

    def test_writer_is_the_doer_of_its_rows_with_table(self):
        mine, other = pointer("_User", "u"), pointer("_User", "v")
        own_acl = {"*": {"read": True}, "u": {"read": True, "write": True}}
        row = Row("o", 1, 1, None, {})
        for key, caller, old, fields, wanted in (
            ("source", {"is_master": True}, None, {"source": other}, {"source": other}),
            ("source", {"user_id": "u"}, None, {"a": 1}, {"a": 1, "source": mine, "ACL": own_acl}),
            ("source", {"user_id": "u"}, None, {"a": 1, "ACL": {}}, {"a": 1, "source": mine, "ACL": {}}),
            ("source", {"user_id": "u"}, None, {"source": mine}, {"source": mine, "ACL": own_acl}),
            ("source", {"user_id": "u"}, None, {"source": other}, Code.OTHER_USER),
            ("source", {"user_id": "u"}, None, {"source": {**mine, "__op": "x"}}, Code.OTHER_USER),
            ("source", {"user_id": "u"}, None, {"source": None}, Code.OTHER_USER),
            ("source", {"user_id": "u"}, None, {"source.x": 1}, Code.OTHER_USER),
            ("source", {}, None, {"a": 1}, Code.NO_SESSION),
            ("source", {}, row, {"a": 1}, {"a": 1}),
            ("source", {}, row, {"source": other}, Code.NO_SESSION),
            ("source", {"user_id": "u"}, row, {"source": mine}, {"source": mine}),
            ("user", {"user_id": "u"}, None, {}, {"user": mine}),
        ):
            with self.subTest(key, caller=caller, fields=fields):
                try:
                    found = doers._admit(key, None, made(**caller), old, fields)
                except StorageError as error:
                    found = error.kind
                self.assertEqual(found, wanted)
        self.assertEqual(doers.DOERS, {"_Status": "source", "_Followee": "user", "_Follower": "follower"})


class MailTest(RulesCase):
    def test_message_becomes_an_email_for_one_address_with_table(self):
        for address, is_one in (
            ("a@b.example", True),
            ("q,w@b.example", True),
            ("ü@b.example", True),
            ("a@exämple.com", True),
            ("a@b,c", False),
            ("a@b;c", False),
            ("a@b:c", False),
            ("a@<b", False),
            ("a@b>", False),
            ("a@b(c)", False),
            ("a@[b]", False),
            ('a@b"', False),
            ("a@b\\", False),
            ("a", False),
            ("a@b@c", False),
            ("a @b", False),
            ("a@b\nBcc: c@d", False),
            ("=?utf-8?q?a?=@b", False),
        ):
            message = {"to": address, "subject": "S", "text": "T {link}"}
            with self.subTest(address):
                self.assertIs(mail._as_email(message) is not None, is_one)
        data = mail._as_email({"to": "a@b.example", "subject": "S" * 200, "text": "T"})
        self.assertIn(b"\n\nT\n", data)
        self.assertIn(b"Content-Transfer-Encoding: 7bit", data)
        self.assertIn(b"Content-Transfer-Encoding: quoted-printable", mail._as_email({"to": "a@b.example", "subject": "S", "text": "ü"}))
        self.assertIsNone(mail._as_email({"to": "a@b.example", "subject": "S\nBcc: x@y", "text": "T"}))
        self.assertIsNone(mail._as_email({"to": "a@b.example", "subject": "S", "text": "\ud800"}))

    def test_message_that_is_not_taken_waits_longer_each_time_with_table(self):
        with mock.patch("leanstorage.resources.mail.now", return_value=1000):
            for tries, pause, wanted in (
                (None, 0, {}),
                (5, 0, {}),
                (None, 60_000, {"tries": 1, "next": 121_000}),
                (1, 60_000, {"tries": 2, "next": 241_000}),
                (6, 60_000, {"tries": 7, "next": 7_681_000}),
                (7, 60_000, {"tries": 8, "next": 14_401_000}),
                (22, 60_000, {"tries": 23, "next": 14_401_000}),
                (23, 60_000, {"refused": "not taken 24 times"}),
            ):
                with self.subTest(tries=tries, pause=pause):
                    self.assertEqual(mail._later({} if tries is None else {"tries": tries}, pause), wanted)

    def test_texts_of_an_operator_have_their_longest(self):
        with tempfile.TemporaryDirectory() as folder:
            good = "Subject\nopen {link}\n"
            for text, is_good in (
                (good, True),
                ("\ufeff Subject \n\n {link}", True),
                ("S\n{link}" + "x" * 19_994, True),
                ("S\n{link}" + "x" * 19_995, False),
                ("\n{link}", False),
                ("S\nno link", False),
                ("S\x07\n{link}", False),
                (None, False),
            ):
                for kind in ("reset", "verify"):
                    file = Path(folder, f"{kind}.txt")
                    file.unlink(missing_ok=True)
                    if text is not None:
                        file.write_text(text if kind == "verify" else good, "utf-8")
                with self.subTest(text and text[:20]):
                    if is_good:
                        self.assertEqual(mail_texts.load(folder)["reset"], ("Subject", "open {link}"))
                    else:
                        self.assertRaises(ValueError, mail_texts.load, folder)
            Path(folder, "reset.txt").write_bytes(b"\xff")
            self.assertRaises(ValueError, mail_texts.load, folder)
        self.assertEqual((mail_texts.load("en"), mail_texts.load("zh")), (mail_texts.ENGLISH, mail_texts.CHINESE))
        for place in ("", " ", "a\n"):
            self.assertRaises(ValueError, mail_texts.load, place)


class OutboxTest(ServiceTestCase):
    def setUp(self):
        def empty(transaction):
            for kind in (mail.OUTBOX, mail.DONE):
                for key, _ in transaction.records(kind):
                    transaction.delete_record(kind, key)

        self.service.store.write(empty)

    def put(self, number, **fields):
        key = f"{now():014d}-{number}"
        message = {"to": f"a{number}@example.org", "subject": "S", "text": "T", **fields}
        self.service.store.write(lambda transaction: transaction.put_record(mail.OUTBOX, key, message))
        return key

    def lying(self, kind):
        return dict(self.service.store.read(lambda transaction: transaction.records(kind)))

    def test_outbox_is_handed_on_with_every_outcome(self):
        taken, refused, unwilling, bad, waiting, old, sms = (
            self.put(1),
            self.put(2),
            self.put(3),
            self.put(4, to="a@b,c"),
            self.put(5, next=now() + 60_000, tries=2),
            self.put(6, sent="2026"),
            self.put(7, kind="sms"),
        )

        def deliver(data, to):
            self.assertIn(to.encode(), data)
            if to.startswith("a2"):
                raise mail.Undeliverable("mailbox unknown")
            return to.startswith("a1")

        self.assertEqual(mail.hand_on_due(self.service.store, deliver, 60_000), (1, 3))
        done, left = self.lying(mail.DONE), self.lying(mail.OUTBOX)
        self.assertEqual((set(done), set(left)), ({taken, refused, bad, old, sms}, {unwilling, waiting}))
        self.assertEqual({key: done[key].get("refused") for key in (taken, refused, bad)}, {taken: None, refused: "mailbox unknown", bad: "not an address"})
        self.assertIn("sent", done[taken])
        self.assertEqual(done[old]["sent"], "2026")
        self.assertEqual(left[unwilling]["tries"], 1)
        self.assertEqual(set(left[unwilling]), {"to", "subject", "text", "tries", "next"})
        self.assertEqual(left[waiting]["tries"], 2)
        self.assertEqual(mail.hand_on(self.service.store, lambda data: True), (2, 0))
        self.assertEqual(self.lying(mail.OUTBOX), {})
        self.assertEqual([message["id"] for message in mail.outbox(self.service.store)], sorted([taken, refused, unwilling, bad, waiting, old, sms]))

    def test_server_that_is_away_leaves_the_message_as_it_was(self):
        key = self.put(1, tries=4)

        def deliver(data, to):
            raise mail.Unreachable("away")

        with self.assertRaises(mail.Unreachable):
            mail.hand_on_due(self.service.store, deliver, 60_000)
        self.assertEqual(self.lying(mail.OUTBOX)[key], {"to": "a1@example.org", "subject": "S", "text": "T", "tries": 4})
        self.assertEqual(self.lying(mail.DONE), {})

    def test_mark_is_refused_where_somebody_was_faster(self):
        key = self.put(1)
        store = self.service.store
        self.assertTrue(mail._mark(store, key, {"sent": "x"}, is_first=True))
        self.assertFalse(mail._mark(store, key, {"sent": "y"}, is_first=True))
        self.assertEqual(self.lying(mail.DONE)[key]["sent"], "x")
        self.assertTrue(mail._mark(store, key, {"tries": 1}))
        self.assertTrue(mail._mark(store, key, {"sent": "z"}, is_first=True))
        self.assertFalse(mail._mark(store, "unknown", {"sent": "y"}))
        finished = self.put(2, refused="r")
        self.assertFalse(mail._mark(store, finished, {"sent": "y"}, is_first=True))
        expiry = store.read(lambda transaction: transaction.execute_once("SELECT expires FROM records WHERE key = ?", [key]))
        self.assertEqual([row[0] for row in expiry], [mail._time_of(key) + mail.KEPT_MS])


class SmsTest(RulesCase):
    def test_message_of_a_code_with_table(self):
        sender = SimpleNamespace(templates=frozenset(["t"]), signs=frozenset(["s"]))
        for body, purpose, wanted in (
            ({}, "sms", {"minutes": 10, "type": "sms", "template": None, "sign": None, "variables": {}}),
            ({"smsType": "voice"}, "sms", {"type": "voice"}),
            ({"smsType": "other"}, "sms", {"type": "sms"}),
            ({"ttl": 5}, "sms", {"minutes": 5}),
            ({"ttl": "9"}, "sms", {"minutes": 9}),
            ({"ttl": 1}, "sms", {"minutes": 1}),
            ({"ttl": 0}, "sms", {"minutes": 10}),
            ({"ttl": 11}, "sms", {"minutes": 10}),
            ({"ttl": "9" * 5000}, "sms", {"minutes": 10}),
            ({"ttl": "000000000" + "5"}, "sms", {"minutes": 10}),
            ({"ttl": "00000000" + "5"}, "sms", {"minutes": 5}),
            ({"ttl": "²"}, "sms", {"minutes": 10}),
            ({"ttl": -1}, "sms", {"minutes": 10}),
            ({"template": "t", "sign": "s"}, "sms", {"template": "t", "sign": "s"}),
            ({"template": "u"}, "sms", Code.NO_SMS_TEMPLATE),
            ({"template": ["t"]}, "sms", Code.NO_SMS_TEMPLATE),
            ({"sign": "u"}, "sms", Code.NO_SMS_SIGN),
            ({"sign": ["s"]}, "sms", Code.NO_SMS_SIGN),
            ({"name": "n", "count": 5, "list": [1]}, "sms", {"variables": {"name": "n", "count": "5"}}),
            ({"name": "n"}, "login", {"variables": {}}),
            ({"a b": "n"}, "sms", Code.BAD_SMS_VARIABLE),
            ({"a b": "n"}, "login", {"variables": {}}),
            ({"a": "x" * 35}, "sms", {"variables": {"a": "x" * 35}}),
            ({"a": "x" * 36}, "sms", Code.BAD_SMS_VARIABLE),
            ({"a": "http://x"}, "sms", Code.BAD_SMS_VARIABLE),
            ({"a": "x\n"}, "sms", Code.BAD_SMS_VARIABLE),
            ({"a" * 31: "x"}, "sms", {"variables": {"a" * 31: "x"}}),
            ({"a" * 32: "x"}, "sms", Code.BAD_SMS_VARIABLE),
            ({f"v{number}": 1 for number in range(10)}, "sms", {}),
            ({f"v{number}": 1 for number in range(11)}, "sms", Code.BAD_SMS_VARIABLE),
        ):
            with self.subTest(str(body)[:60], purpose=purpose):
                try:
                    message = sms_codes._message(made(body, service=SimpleNamespace(sms=sender)), purpose, "+8612345")
                    self.assertRegex(message["id"], "^[0-9a-f]{16}$")
                    found = {key: message[key] for key in wanted}
                    self.assertEqual((message["to"], message["purpose"]), ("+8612345", purpose))
                except StorageError as error:
                    found = error.kind
                self.assertEqual(found, wanted)

    def test_text_of_a_code_is_in_the_language_of_its_country(self):
        self.assertEqual(sms_codes._text("+8612345", "123456", 10), "您的验证码是 123456，10 分钟内有效。请勿告诉他人。")
        self.assertEqual(sms_codes._text("+15551234567", "123456", 5), "Your code is 123456. It is good for 5 minutes. Tell it to nobody.")


class StatusesTest(RulesCase):
    def test_numbers_and_names_with_table(self):
        for value, number in ((None, 0), (0, 0), (5, 5), ("7", 7), ("-1", 0), ("x", 0), ("²", 0), ("9" * 12, 10**12 - 1), ("9" * 13, 0), (1.5, 0), (True, 0)):
            with self.subTest(value):
                self.assertEqual(statuses._number(value), number)
        for class_name, where, is_named in (
            ("_User", {"objectId": "a"}, True),
            ("_User", {"username": "a"}, True),
            ("_User", {"objectId": {"$in": ["a"]}}, True),
            ("_User", {"objectId": {"$in": ["a"], "$gt": ""}}, False),
            ("_User", {"objectId": {"$gt": ""}}, False),
            ("_User", {"objectId": 5}, False),
            ("_User", {"objectId": "a", "username": "b"}, False),
            ("_User", {}, False),
            ("_User", [{"objectId": "a"}], False),
            ("Other", {"objectId": "a"}, False),
        ):
            with self.subTest(class_name, where=where):
                self.assertIs(statuses._names_its_users(class_name, where), is_named)
        for class_name, where, is_own in (
            ("_Follower", {"user": pointer("_User", "u")}, True),
            ("_Follower", {"user": pointer("_User", "v")}, False),
            ("_Follower", {"user": "u"}, False),
            ("_Follower", {}, False),
            ("_Follower", [], False),
            ("_Followee", {"user": pointer("_User", "u")}, False),
        ):
            with self.subTest(class_name, where=where):
                self.assertIs(statuses._is_of_own_followers(made(user_id="u"), class_name, where), is_own)
        self.assertEqual((statuses.lines_kind("u", "k"), statuses.line_key(7)), ("inbox:u:k", "000000000007"))


class ObjectsTest(RulesCase):
    def test_rules_of_a_class_cannot_be_changed(self):
        with self.assertRaises(FrozenInstanceError):
            objects.PLAIN.admit = None
        self.assertEqual((objects.PLAIN.admit(None, None, None, {"a": 1}), objects.PLAIN.store(None, None, None, None, {}), objects.PLAIN.forget(None, None)), ({"a": 1}, None, None))

    def test_condition_of_a_write_with_table(self):
        self.check(
            objects.condition,
            (
                ([{}], None),
                ([{"where": {"a": 1}}], {"a": 1}),
                ([{"where": '{"a": 1}'}], {"a": 1}),
                ([{"where": []}], []),
                ([{"where": ""}], Code.BAD_JSON),
                ([{"where": None}], Code.BAD_JSON, "where must be an object"),
                ([{"where": "5"}], Code.BAD_JSON, "where must be an object"),
            ),
        )
        for value, is_mentioned in (({"$a": 1}, True), ({"x": [{"$a": 1}]}, True), ({"x": {"y": {"$a": 1}}}, True), ({"x": "$a"}, False), (["$a"], False), ([], False), (None, False)):
            with self.subTest(value):
                self.assertIs(objects._mentions(value, {"$a"}), is_mentioned)

    def test_id_begins_with_its_second(self):
        self.assertRegex(objects.new_id(0x12345678 * 1000 + 999), "^12345678[0-9a-f]{16}$")
        self.assertRegex(objects.new_id(0x123456789 * 1000), "^23456789[0-9a-f]{16}$")
        self.assertNotEqual(objects.new_id(0), objects.new_id(0))

    def test_slow_condition_is_refused_where_it_keeps_others_waiting(self):
        row = Row("o", 1, 5, None, {})
        query = Query("C")
        for where, seconds, lock, seen, wanted in (
            ({"a": 1}, 9.0, True, 5, 1),
            ({"a": {"$regex": "x"}}, 9.0, True, 5, None),
            ({"a": {"$regex": "x"}}, 9.0, True, 4, Code.TIMEOUT),
            ({"a": {"$regex": "x"}}, 0.2, True, 4, 1),
            ({"a": {"$regex": "x"}}, 0.21, True, 4, Code.TIMEOUT),
            ({"a": {"$inQuery": {}}}, 9.0, True, 5, Code.TIMEOUT),
            ({"a": {"$inQuery": {}}}, 0.1, True, 5, 1),
            ({"a": {"$inQuery": {}}}, 9.0, False, 5, 1),
        ):
            guard = objects.Guard(where)
            guard._seconds, guard._seen = seconds, seen
            transaction = mock.Mock(query_seconds=5.0)
            transaction.count.return_value = 1
            with self.subTest(where, seconds=seconds, lock=lock, seen=seen):
                try:
                    guard.check(transaction, query, row, lock)
                    found = 1 if transaction.count.called else None
                    self.assertEqual(guard._seen, 5)
                except StorageError as error:
                    found = error.kind
                self.assertEqual(found, wanted)
        transaction = mock.Mock(query_seconds=5.0)
        transaction.count.return_value = 0
        with self.assertRaises(StorageError) as caught:
            objects.Guard({"a": 1}).check(transaction, query, row, True)
        self.assertIs(caught.exception.kind, Code.NO_EFFECT)

    def test_count_under_a_lock_has_little_time_and_gives_it_back(self):
        for seconds, fails, wanted, given in ((5.0, False, 3, 0.2), (0.1, False, 3, 0.1), (5.0, True, Code.TIMEOUT, 0.2), (0.2, True, QueryTimeout, 0.2), (0.1, True, QueryTimeout, 0.1)):
            transaction = mock.Mock(query_seconds=seconds)
            had = []

            def count(query):
                had.append(transaction.query_seconds)  # noqa: B023 it runs at once
                if fails:  # noqa: B023
                    raise QueryTimeout
                return 3

            transaction.count = count
            with self.subTest(seconds=seconds, fails=fails):
                try:
                    found = objects._counted_quickly(transaction, Query("C"))
                except StorageError as error:
                    found = error.kind
                except QueryTimeout:
                    found = QueryTimeout
                self.assertEqual((found, had, transaction.query_seconds), (wanted, [given], seconds))

    def test_time_of_an_answer_has_its_milliseconds(self):
        self.assertEqual(queries._last_modified(None), ())
        self.assertEqual([*queries._last_modified(1_767_323_045_007)], [("Last-Modified", "Fri, 02 Jan 2026 03:04:05.007 GMT")])


class ScanTest(RulesCase):
    def test_what_comes_behind_a_place_with_table(self):
        info = {"columns": {"n": {"type": "Number"}, "t": {"type": "Array"}, "m": {"type": "Number"}}, "indexes": [["n"], ["t"]]}
        created = ((("createdAt",), False),)
        for name, descending, place, wanted in (
            ("objectId", False, ["o", 1, 2, 3, {}], [[("gte", "o")]]),
            ("objectId", True, ["o", 1, 2, 3, {}], [[("lte", "o")]]),
            ("createdAt", False, ["o", 1, 2, 3, {}], [[("gte", 1)]]),
            ("updatedAt", True, ["o", 1, 2, 3, {}], [[("lte", 2)]]),
            ("m", False, ["o", 1, 2, 3, {"m": 5}], [[]]),
            ("t", False, ["o", 1, 2, 3, {"t": 5}], [[]]),
            ("n", False, ["o", 1, 2, 3, {"n": 5}], [[("eq", 5), ("gte", 1)], [("gt", 5)]]),
            ("n", True, ["o", 1, 2, 3, {"n": 5}], [[("eq", 5), ("lte", 1)], [("lt", 5)], [("eq", None)]]),
            ("n", False, ["o", 1, 2, 3, {}], [[("eq", None), ("gte", 1)], ["not"]]),
            ("n", True, ["o", 1, 2, 3, {}], [[("eq", None), ("lte", 1)]]),
        ):
            order = (((name,), descending),)
            with self.subTest(name, descending=descending, place=place):
                found = scan._behind(info, order, place)
                shown = [["not" if isinstance(node, Not) else (node.op, node.operand) for node in nodes if isinstance(node, Not) or node.op != "behind"] for _, nodes in found]
                self.assertEqual(shown, wanted)
                orders = [one for one, _ in found]
                self.assertIn(orders[0], (order, tuple((path, descending) for path, _ in created)))
                self.assertEqual(sum(isinstance(node, Condition) and node.op == "behind" for _, nodes in found for node in nodes), 1)
        [(order, nodes)] = scan._behind(info, ((("n",), False), (("m",), False)), ["o", 1, 2, 3, {"n": 5}])
        self.assertEqual([node.op for node in nodes], ["behind"])
        self.assertEqual([node.op for _, nodes in scan._behind(info, ((("n", "x"), False),), ["o", 1, 2, 3, {"n": 5}]) for node in nodes], ["behind"])

    def test_place_is_left_out_of_a_cursor_where_it_is_long(self):
        state = {"order": "n", "class": "C", "skip": 3}
        for length, is_kept in ((0, True), (1460, True), (1600, False)):
            rows = [None, Row("o", 1, 2, None, {"n": "x" * length, "other": 1}, 4)]
            with self.subTest(length):
                place = ["o", 1, 2, 4, {"n": "x" * length}] if is_kept else None
                self.assertEqual(scan._end(state, rows), {"skip": 5, "last": "o", "place": place})
        exact = 1500 - len('["o",1,2,4,{"n":""}]')
        for length, is_kept in ((exact, True), (exact + 1, False)):
            with self.subTest(length):
                self.assertIs(scan._end(state, [Row("o", 1, 2, None, {"n": "x" * length}, 4)])["place"] is not None, is_kept)

    def test_cursor_is_good_for_its_class_and_time_and_nobody_else(self):
        call = made(service=SimpleNamespace(token_secret=b"s"))
        here = now()
        cursor = scan._sealed(call, {"class": "C", "until": here})
        with mock.patch("leanstorage.resources.scan.now", return_value=here):
            self.assertEqual(scan._opened(call, "C", cursor), {"class": "C", "until": here})
            for bad in (cursor[:-1], "x" + cursor, cursor.partition(".")[0], "", ".", "é.é", 5):
                with self.subTest(bad), self.assertRaises(StorageError) as caught:
                    scan._opened(call, "C", bad)
                self.assertIs(caught.exception.kind, Code.BAD_CURSOR)
            for other, class_name in ((call, "D"), (made(service=SimpleNamespace(token_secret=b"t")), "C")):
                with self.assertRaises(StorageError):
                    scan._opened(other, class_name, cursor)
        with mock.patch("leanstorage.resources.scan.now", return_value=here + 1), self.assertRaises(StorageError):
            scan._opened(call, "C", cursor)
        self.assertNotIn(" ", cursor)


class BatchTest(RulesCase):
    def test_creation_that_nobody_waits_for_with_table(self):
        hooked = SimpleNamespace(may_hook=lambda name: name == "Hooked")
        for request, engine, is_plain in (
            ({"method": "POST", "path": "/1.1/classes/A"}, None, True),
            ({"method": "POST", "path": "/1/classes/A"}, None, True),
            ({"method": "POST", "path": "/1.1/classes/A"}, hooked, True),
            ({"method": "POST", "path": "/1.1/classes/Hooked"}, hooked, False),
            ({"method": "POST", "path": "/1.1/classes/files"}, None, False),
            ({"method": "POST", "path": "/1.1/classes/filesx"}, None, True),
            ({"method": "POST", "path": "/1.1/classes/_User"}, None, False),
            ({"method": "POST", "path": "/1.1/classes/A/x"}, None, False),
            ({"method": "PUT", "path": "/1.1/classes/A"}, None, False),
            ({"method": "POST", "path": 5}, None, False),
            ({"method": "POST"}, None, False),
            ({"path": "/1.1/classes/A"}, None, False),
            (5, None, False),
        ):
            with self.subTest(request, engine=bool(engine)):
                self.assertIs(batch._is_plain_create(made(service=SimpleNamespace(engine=engine)), request), is_plain)

    def test_keys_that_operations_change_with_table(self):
        add = {"__op": "Add", "objects": [1]}
        relation = {"__op": "AddRelation", "objects": []}
        save = batch_save.Save("C", "", "o", False, [{"a": add, "b": 1, "c.d": add}, {"r": relation, "a": add}])
        self.assertEqual([*batch_save._operated(save)], ["a", "c", "a"])
        fresh = batch_save.Save("C", "i", "o", True)
        self.assertEqual((fresh.bodies, fresh.children, fresh.is_shown, fresh.is_found, fresh.where), ([], [], False, False, None))


class BatchTimeTest(ServiceTestCase):
    """What becomes of the rest of a batch when the time is over, or the store is away."""

    def answers(self, *requests, **more):
        return self.api("POST", "/batch", {"requests": list(requests)}, **more)

    def test_rest_of_a_batch_is_refused_when_the_time_is_over(self):
        create = {"method": "POST", "path": "/1.1/classes/Late", "body": {}}
        look = {"method": "GET", "path": "/1.1/classes/_User"}
        with mock.patch.object(batch, "BATCH_SECONDS", -1):
            found = self.answers(create, create, look)
        self.assertEqual(found, [{"error": {"code": 124, "error": "The request timed out on the server."}}] * 3)
        self.code(101, "GET", "/classes/Late", status=404)

    def test_answers_of_a_batch_have_their_room_but_for_the_master(self):
        one = self.make("Roomy", text="x" * 100)
        look = {"method": "GET", "path": f"/1.1/classes/Roomy/{one}"}
        self.answers(look)
        length = len(self.response.body.decode()) - 2  # without the array; the databases space JSON in their own ways
        for room, more, refused in ((2 * length - 1, {}, [False, False, True]), (2 * length, {}, [False, False, False]), (length - 1, {}, [False, True, True]), (0, {"master": True}, [False] * 3)):
            with self.subTest(room, more=more), mock.patch.object(batch, "MAX_FOUND", room):
                found = self.answers(look, look, look, **more)
                self.assertEqual(["error" in answer for answer in found], refused)
                self.assertEqual({answer["error"]["code"] for answer in found if "error" in answer}, {102} if True in refused else set())

    def test_creations_share_a_transaction_of_fifty(self):
        self.make("Shared", n=1)
        create = {"method": "POST", "path": "/1.1/classes/Shared", "body": {"n": 1}}
        store = self.service.store
        for number, writes in ((1, 1), (2, 1), (50, 1), (51, 2), (52, 2), (100, 2), (101, 3)):
            with self.subTest(number), mock.patch.object(store, "write", wraps=store.write) as write:
                self.assertTrue(all("success" in answer for answer in self.answers(*[create] * number)))
                self.assertEqual(write.call_count, writes)

    def test_errors_of_the_store_are_answers_of_single_calls(self):
        timeout = QueryTimeout()
        timeout.advice = " An index would help."
        look = {"method": "GET", "path": "/1.1/classes/Known"}
        create = {"method": "POST", "path": "/1.1/classes/Known", "body": {}}
        self.make("Known", a=1)
        for error, code, text, said in (
            (AnswerTooLarge(), 102, "ask for fewer", ""),
            (timeout, 124, "The query took too long. An index would help.", ""),
            (StoreUnavailable("gone"), 503, "not available", "the store is not available: gone\n"),
            (RuntimeError("secret"), 1, "Internal server error", "RuntimeError"),
        ):
            output = io.StringIO()
            with self.subTest(code), contextlib.redirect_stderr(output), mock.patch.object(batch, "_answer", side_effect=error):
                for request in ([look], [create, create] if code == 503 else [look]):
                    for answer in self.answers(*request):
                        self.assertEqual(answer["error"]["code"], code)
                        self.assertIn(text, answer["error"]["error"])
                        self.assertNotIn("secret", answer["error"]["error"])
            self.assertIn(said, output.getvalue())
            self.assertEqual(bool(said), bool(output.getvalue()))


class DangersTest(RulesCase):
    def test_settings_with_table(self):
        safe = Options(role_create="master", class_create="master", sign_max_age_s=300, files_url="https://f")
        for changes, level, what in (
            ({}, None, ""),
            ({"trusted_providers": frozenset(["anonymous", "*"])}, 1, "--trust-auth '*'"),
            ({"trusted_providers": frozenset(["b", "a"])}, 2, "at a, b may log in"),
            ({"role_create": "client"}, 3, "create roles"),
            ({"class_create": "client"}, 3, "create classes"),
            ({"max_requests_per_minute": 0}, 3, "no address is limited"),
            ({"max_requests_per_minute": 1}, None, ""),
            ({"max_bytes_per_address": 0}, 3, "fill the disk"),
            ({"max_bytes_per_address": 1}, None, ""),
            ({"trusted_proxy": frozenset(["*"])}, 3, "X-Real-IP of anybody"),
            ({"sign_max_age_s": None}, 3, "good for ever"),
            ({"files_url": None}, 3, "origin of the API"),
        ):
            with self.subTest(changes):
                found = [*dangers._of_settings(replace(safe, **changes))]
                self.assertEqual([one.level for one in found], [] if level is None else [level])
                self.assertIn(what, "".join(one.what for one in found))
                self.assertTrue(all(one.where == "serve" and one.command for one in found))

    def test_keys_with_table(self):
        good = {"id": "i", "key": "k" * 16, "master_key": "m" * 16, "hook_key": "h" * 16}
        for changes, count in (({}, 0), ({"key": "k" * 15}, 1), ({"master_key": "m" * 15}, 1), ({"hook_key": "h" * 15}, 1), ({"id": ""}, 0), ({"master_key": "k" * 16}, 1), ({"hook_key": "k" * 16}, 1), ({name: "k" for name in ("key", "master_key", "hook_key")}, 5)):
            with self.subTest(changes):
                found = [*dangers._of_keys({**good, **changes}, None)]
                self.assertEqual([one.level for one in found], [1] * count)
        self.assertEqual([*dangers._of_keys({}, None)], [])
        self.assertEqual([*dangers._of_keys(good, Path("/nowhere/keys.json"))], [])
        file = Path(__file__)
        for days, is_old in ((364.9, False), (365.1, True)):
            with self.subTest(days), mock.patch("leanstorage.resources.dangers.time.time", return_value=file.stat().st_mtime + days * 86_400):
                self.assertEqual([one.level for one in dangers._of_keys(good, file)], [3] if is_old else [])

    def test_modes_of_what_is_private_with_table(self):
        for mode, level in ((0o600, None), (0o700, None), (0o711, None), (0o640, 2), (0o604, 2), (0o620, 1), (0o602, 1), (0o666, 1)):
            with self.subTest(oct(mode)), mock.patch("leanstorage.resources.dangers.os.stat", return_value=SimpleNamespace(st_mode=stat.S_IFREG | mode)):
                found = [*dangers._of_places([Path("/a b")])]
                self.assertEqual([(one.level, one.where, one.command) for one in found], [] if level is None else [(level, "/a b", "chmod go-rwx '/a b'")])
        self.assertEqual([*dangers._of_places([Path("/nowhere/at/all")])], [])

    def test_database_elsewhere_with_table(self):
        for url, is_open in (
            ("sqlite:///a", False),
            ("postgresql://u@db.example/a", True),
            ("postgresql://u@db.example/a?sslmode=prefer", True),
            ("postgresql://u@db.example/a?sslmode=require", False),
            ("postgresql://u@db.example/a?sslmode=verify-ca", False),
            ("postgres://u@db.example/a?sslmode=verify-full", False),
            ("postgresql://u@127.0.0.1/a", False),
            ("postgresql://u@localhost/a", False),
            ("postgresql:///a", False),
        ):
            with self.subTest(url):
                self.assertEqual([one.level for one in dangers._of_database(url)], [2] if is_open else [])


if __name__ == "__main__":
    unittest.main()
