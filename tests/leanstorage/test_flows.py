"""What calls do beside their answer: times that grow, counts that are kept, what others see, what happens meanwhile."""
import contextlib
import hashlib
import io
import json
import shutil
import unittest
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from unittest import mock

from leanstorage.blobs.folder import FolderBlobs
from leanstorage.engine import hooks
from leanstorage.resources import files, mail, mailer, names, objects, sms, sms_codes, sweep, users
from leanstorage.rules import passwords
from leanstorage.rules.call import Call, Caller, Options
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Later, now, StoreUnavailable
from tests.leanstorage.service_support import KEYS, ServiceTestCase, pointer
from tests.leanstorage.test_engine import Scripted
from tests.leanstorage.test_hooks import HookCase
from tests.leanstorage.test_sms import SmsTestCase


def setUpModule():
    cheap = mock.patch.dict(passwords.SCRYPT, n=2**4)  # what a hash costs is tested in test_passwords.py
    cheap.start()
    unittest.addModuleCleanup(cheap.stop)


class FlowCase(ServiceTestCase):
    def call(self, body=None, **caller):
        return Call(self.service, Caller(**caller), "POST", {}, {} if body is None else body, "http://127.0.0.1")

    def refused(self, function, *arguments):
        with self.assertRaises(StorageError) as caught:
            function(*arguments)
        return caught.exception.kind

    def row(self, class_name, object_id):
        return self.service.store.read(lambda transaction: transaction.get(class_name, object_id))

    def set_row(self, class_name, object_id, **changes):
        def work(transaction):
            row = transaction.get(class_name, object_id)
            for name, value in changes.items():
                setattr(row, name, value)
            transaction.update(class_name, row)

        self.service.store.write(work)


class TimesTest(FlowCase):
    def test_change_is_one_millisecond_later_than_a_write_of_the_future(self):
        me, star = self.user("timed", email="timed@example.org"), self.user("timed-star")
        mine, token = f"/users/{me['objectId']}", me["sessionToken"]
        todo = self.make("Timed", n=1)
        friendship = f"{mine}/friendship/{star['objectId']}"
        self.api("POST", friendship, {}, session=token)
        [link] = self.service.store.read(lambda transaction: [row.id for row in transaction.page("_Followee", (0, 0), 10)])
        future = now() + 10**7
        for number, (class_name, object_id, act) in enumerate((
            ("Timed", todo, lambda: self.api("PUT", f"/classes/Timed/{todo}", {"n": 2})),
            ("_Followee", link, lambda: self.api("POST", friendship, {"a": 1}, session=token)),
            ("_User", me["objectId"], lambda: self.api("PUT", mine, {"n": 2}, session=token)),
            ("_User", me["objectId"], lambda: users.set_password(self.call(), me["objectId"], "pw")),
            ("_User", me["objectId"], lambda: users.refresh_token(self.call(is_master=True), me["objectId"])),
            ("_User", me["objectId"], lambda: self.service.store.write(lambda transaction: sms._mark_verified(transaction, transaction.get("_User", me["objectId"])))),
        )):
            with self.subTest(number):
                self.set_row(class_name, object_id, updated=future)
                act()
                self.assertEqual(self.row(class_name, object_id).updated, future + 1)

    def test_verified_address_is_a_change_of_its_time(self):
        with mock.patch.multiple(self.service.options, verify_emails=True, public_url="https://storage.example"):
            me = self.user("verified", email="verified@example.org")
        [text] = [one["text"] for one in mail.outbox(self.service.store) if one["to"] == "verified@example.org"]
        token = text.rpartition("/")[2]
        future = now() + 10**7
        self.set_row("_User", me["objectId"], updated=future)
        self.assertEqual(self.raw("GET", f"/1.1/verifyEmail/{token}").status, 200)
        row = self.row("_User", me["objectId"])
        self.assertEqual((row.updated, row.body["emailVerified"]), (future + 1, True))

    def test_list_without_rows_changed_now(self):
        self.make("Listed", n=1)
        before = now() // 1000 * 1000
        for options in ({"where": {"n": 9}}, {"limit": 0}):
            self.api("GET", "/classes/Listed", **options)
            text = self.response.header("Last-Modified")
            self.assertTrue(text.endswith(" GMT"))
            moment = parsedate_to_datetime(text[:-8] + " GMT").timestamp() * 1000
            self.assertLess(abs(moment - before), 60_000)


class UsersTest(FlowCase):
    def test_user_that_is_gone_meanwhile_is_211(self):
        store = self.service.store
        for function in (
            lambda: users.set_password(self.call(), "gone", "pw"),
            lambda: store.read(lambda transaction: users.whole_user(transaction, self.call(), "gone")),
            lambda: store.read(lambda transaction: users.hook_user(transaction, self.call(), "gone")),
        ):
            self.assertIs(self.refused(function), Code.NO_USER)

    def test_hidden_user_is_missing_to_others_and_not_to_itself_or_the_master(self):
        me, other = self.user("hidden"), self.user("seeker")
        self.api("PUT", f"/users/{me['objectId']}", {"ACL": {}}, session=me["sessionToken"])
        path = f"/users/{me['objectId']}"
        for session, code, deleted, password in ((other["sessionToken"], 1, 101, 211), (None, 1, 101, 211)):
            with self.subTest(bool(session)):
                self.code(code, "PUT", path, {"a": 1}, status=404, session=session)
                self.code(code, "PUT", path, {"password": "new"}, status=404, session=session)
                self.code(deleted, "DELETE", path, status=404, session=session)
                self.code(password, "PUT", path + "/updatePassword", {"old_password": "pw", "new_password": "x"}, session=session)
                self.code(password, "PUT", path + "/refreshSessionToken", session=session)
        self.api("PUT", path + "/refreshSessionToken", master=True)
        token = self.api("PUT", path + "/updatePassword", {"new_password": "other"}, master=True)["sessionToken"]
        self.assertEqual(self.api("GET", "/users/me", session=token)["objectId"], me["objectId"])
        self.api("PUT", path + "/refreshSessionToken", session=token)
        self.api("POST", "/login", {"username": "hidden", "password": "other"})

    def test_seen_user_is_changed_by_nobody_else(self):
        me, other = self.user("seen"), self.user("watcher")
        path = f"/users/{me['objectId']}"
        for session, code in ((None, 206), (other["sessionToken"], 403)):
            for arguments in (("PUT", path, {"a": 1}), ("PUT", path, {"password": "x"}), ("DELETE", path), ("PUT", path + "/refreshSessionToken"), ("PUT", path + "/updatePassword", {"old_password": "pw", "new_password": "x"})):
                with self.subTest(arguments, code=code):
                    self.code(code, *arguments, status=403, session=session)

    def test_taken_name_is_not_hashed_for(self):
        self.user("taken", email="taken@example.org")
        with mock.patch("leanstorage.rules.passwords.hash_password", side_effect=AssertionError("hashed")):
            for name, code in (("taken", 202), (" ", 217), ("", 200)):
                self.code(code, "POST", "/users", {"username": name, "password": "pw"})
        self.code(203, "POST", "/users", {"username": "free", "password": "pw", "email": "taken@example.org"})
        self.user("free")

    def test_password_of_1024_characters_logs_in_and_a_longer_one_never(self):
        long = "p" * 1024
        user = self.user("long")
        self.api("PUT", f"/users/{user['objectId']}", {"password": long}, session=user["sessionToken"])
        token = self.api("POST", "/login", {"username": "long", "password": long})["sessionToken"]
        self.code(210, "POST", "/login", {"username": "long", "password": long + "x"})
        path = f"/users/{user['objectId']}/updatePassword"
        self.code(210, "PUT", path, {"old_password": long + "x", "new_password": "n"}, session=token)
        self.api("PUT", path, {"old_password": long, "new_password": "n"}, session=token)

    def test_accounts_belong_to_one_user_with_every_way_to_link_them(self):
        with mock.patch.object(self.service.options, "trusted_providers", frozenset("*")):
            first = self.api("POST", "/users", {"authData": {"p": {"uid": "1"}}}, 201)
            second = self.api("POST", "/users", {"authData": {"q": {"uid": "2"}}}, 201)
            self.assertRegex(first["username"], "^[a-z0-9]{25}$")
            named = self.api("POST", "/users", {"username": "named", "password": "pw", "authData": {"r": {"uid": "3"}, "none": None}}, 201)
            self.assertEqual((named["username"], set(named["authData"])), ("named", {"r"}))
            self.api("POST", "/login", {"username": "named", "password": "pw"})
            self.code(218, "POST", "/users", {"password": " ", "authData": {"s": {"uid": "4"}}})
            self.code(208, "POST", "/users", {"authData": {"p": {"uid": "1"}, "q": {"uid": "2"}}})
            self.code(208, "PUT", f"/users/{first['objectId']}", {"authData": {"q": {"uid": "2"}}}, session=first["sessionToken"])
            self.code(211, "POST", "/users?failOnNotExist=true", {"authData": {"new": {"uid": "5"}}})
            again = self.api("POST", "/users?failOnNotExist=true", {"authData": {"p": {"uid": "1"}, "t": {"uid": "6"}}}, 200)
            self.assertEqual((again["objectId"], set(again["authData"])), (first["objectId"], {"p", "t"}))
            self.api("PUT", f"/users/{first['objectId']}", {"authData": {"p": None}}, session=first["sessionToken"])
            fresh = self.api("POST", "/users", {"authData": {"p": {"uid": "1"}}}, 201)
            self.assertNotIn(fresh["objectId"], (first["objectId"], second["objectId"]))
            union = {"unionid": "u", "platform": "w", "main_account": True}
            main = self.api("POST", "/users", {"authData": {"w_1": {"uid": "7", **union}}}, 201)
            for more, status in (({"main_account": False}, 200), ({}, 200)):
                data = {"uid": f"8{status}{len(more)}", "unionid": "u", "platform": "w", **more}
                self.assertEqual(self.api("POST", "/users", {"authData": {"w_2": data}}, status)["objectId"], main["objectId"])
            self.api("DELETE", f"/users/{main['objectId']}", session=main["sessionToken"])
            self.api("POST", "/users", {"authData": {"w_1": {"uid": "7", **union}}}, 201)

    def test_names_of_a_deleted_user_are_free_again(self):
        fields = {"email": "free@example.org", "mobilePhoneNumber": "13912349999"}
        user = self.user("freed", **fields)
        self.code(214, "POST", "/users", {"username": "other", "password": "pw", "mobilePhoneNumber": "+86 139 1234 9999"})
        self.api("DELETE", f"/users/{user['objectId']}", session=user["sessionToken"])
        again = self.user("freed", **fields)
        self.api("PUT", f"/users/{again['objectId']}", {"email": None, "mobilePhoneNumber": None}, session=again["sessionToken"])
        self.user("freed2", **fields)

    def test_phone_is_claimed_in_each_spelling_once(self):
        def work(transaction):
            claims = (("12345678", "a", True), ("12345678", "a", False), ("+8612345678", "a", True), ("+8612345678", "b", False), ("12345678", "b", False), ("+1555123456", "b", True))
            for value, user, is_free in claims:
                with self.subTest(value, user=user):
                    self.assertIs(names.claim(transaction, "mobilePhoneNumber", value, user), is_free)
            self.assertEqual([names.owner(transaction, "mobilePhoneNumber", value) for value in ("12345678", "+86 1234-5678", "999999")], ["a", "a", None])
            names.release(transaction, "mobilePhoneNumber", "123 456 78")
            self.assertEqual(names.owner(transaction, "mobilePhoneNumber", "12345678"), "a")
            names.release(transaction, "mobilePhoneNumber", "+8612345678")
            self.assertIsNone(names.owner(transaction, "mobilePhoneNumber", "12345678"))
            self.assertIsNone(names.owner(transaction, "username", "12345678"))

        self.service.store.write(work)


class HookTest(HookCase):
    def test_login_hook_is_shown_the_accounts_of_the_user(self):
        with mock.patch.object(self.service.options, "trusted_providers", frozenset("*")):
            self.api("POST", "/users", {"username": "seen", "password": "pw", "authData": {"p": {"uid": "h1"}}}, 201)
        self.engine.names = ["__on_login__User"]
        self.engine.answers["/functions/_User/onLogin"] = lambda sent: (200, {})
        self.service.engine = hooks.Engine(self.engine, KEYS)
        self.api("POST", "/login", {"username": "seen", "password": "pw"})
        self.assertEqual(self.engine.calls[-1][2]["object"]["authData"], {"p": {"uid": "h1"}})

    def test_hooks_are_shown_the_rights_of_an_object(self):
        rights = {"*": {"read": True, "write": True}, "u": {"write": True}}
        for hook in ("beforeSave", "afterSave", "beforeUpdate", "afterUpdate", "beforeDelete", "afterDelete"):
            self.on("Righted", hook, lambda sent: (200, sent["object"]))
        for fields in ({"ACL": rights}, {}):
            self.engine.calls.clear()
            one = self.make("Righted", n=1, **fields)
            self.api("PUT", f"/classes/Righted/{one}", {"n": 2})
            self.api("DELETE", f"/classes/Righted/{one}")
            with self.subTest(fields):
                self.assertEqual([sent["object"].get("ACL") for _, _, sent in self.engine.calls], [fields.get("ACL")] * 6)

    def test_object_that_an_after_hook_deletes_is_answered_by_its_id(self):
        self.on("Fleeting", "afterSave", lambda sent: (self.api("DELETE", f"/classes/Fleeting/{sent['object']['objectId']}", master=True), (200, {}))[1])
        value = self.api("POST", "/classes/Fleeting?fetchWhenSave=true", {"n": 1}, 201)
        self.assertEqual(set(value), {"objectId"})

    def test_first_body_of_a_save_says_which_hooks_are_left_out(self):
        self.on("Twice", "afterSave", lambda sent: (200, {}))
        ignoring = {"__ignore_hooks": ["afterSave"]}
        for first, second, calls in ((ignoring, {}, 0), ({}, ignoring, 1)):
            self.engine.calls.clear()
            requests = [{"method": "POST", "path": "/1.1/classes/Twice", "body": {"__internalId": "t", **more}} for more in (first, second)]
            requests[1]["body"]["n"] = {"__op": "Increment", "amount": 1}
            self.api("POST", "/batch/save", {"requests": requests}, headers={"X-LC-Hook-Key": "hook"})
            with self.subTest(calls):
                self.assertEqual(len(self.engine.calls), calls)

    def test_functions_call_each_other_five_levels_deep(self):
        self.engine.answers["/functions/deep"] = lambda sent: (200, {"result": 1})
        for depth, is_allowed in ((4, True), (5, False)):
            headers = {"X-LC-Hook-Key": "hook", "X-LeanStorage-Depth": str(depth)}
            with self.subTest(depth):
                if is_allowed:
                    self.api("POST", "/functions/deep", {}, headers=headers)
                    self.assertEqual(self.engine.calls[-1][1]["X-LeanStorage-Depth"], "5")
                else:
                    self.assertIn("too deeply", self.code(142, "POST", "/functions/deep", {}, headers=headers))

    def test_answer_of_a_function_that_is_no_object_is_502(self):
        for answer in ([1], "x", None, 5):
            self.engine.answers["/functions/odd"] = lambda sent, answer=answer: (200, answer)
            with self.subTest(answer):
                self.code(1, "POST", "/functions/odd", {}, status=502)
        self.service.engine = hooks.Engine(Scripted((200, b"<html>")), KEYS)
        self.code(1, "POST", "/functions/odd", {}, status=502)


class ObjectsTest(FlowCase):
    def test_relation_that_is_deleted_is_empty(self):
        target, owner = self.make("Target", n=1), self.make("Owning", n=1)
        path = f"/classes/Owning/{owner}"
        members = {"$relatedTo": {"object": pointer("Owning", owner), "key": "r"}}
        for operation, number in (("AddRelation", 1), ("RemoveRelation", 0), ("AddRelation", 1)):
            self.api("PUT", path, {"r": {"__op": operation, "objects": [pointer("Target", target)]}})
            self.assertEqual(len(self.find("Target", members)), number)
        self.api("PUT", path, {"r": {"__op": "Delete"}})
        self.assertEqual(self.find("Target", members), [])

    def test_counts_of_an_empty_inbox_are_nothing(self):
        token = self.user("lonely")["sessionToken"]
        for options, wanted in (({"count": 1}, {"results": [], "end": True, "count": 0}), ({"limit": 0}, {"results": [], "end": True}), ({}, {"results": [], "end": True})):
            with self.subTest(options):
                self.assertEqual(self.api("GET", "/subscribe/statuses", session=token, **options), wanted)

    def test_quick_call_leaves_a_file_to_a_thread(self):
        quick = SimpleNamespace(is_quick=True, blobs=None)
        self.assertRaises(Later, files.delete, Call(quick, Caller(), "DELETE", {}, {}, ""), "abc")

    def test_codes_without_a_sender_are_119(self):
        with self.assertRaises(StorageError) as caught:
            sms_codes.issue(self.call(), "sms", "12345678")
        self.assertEqual((caught.exception.kind, caught.exception.message), (Code.UNSUPPORTED_SMS, "SMS is not supported by this server. "))
        self.assertIsNone(sms_codes.count_request(self.call()))

    def test_hook_without_an_engine_is_refused(self):
        with self.assertRaises(StorageError) as caught:
            hooks.before(self.call(), "Todo", "beforeSave", {}, None)
        self.assertIn("Application not found", caught.exception.message)

    def test_schema_shows_the_options_of_columns_that_there_are(self):
        self.make("Optioned", n=1)

        def work(transaction):
            info = transaction.class_info("Optioned")
            transaction.save_class("Optioned", {**info, "options": {"n": {"required": True}, "gone": {"hidden": True}}})

        self.service.store.write(work)
        schema = self.api("GET", "/schemas/Optioned", master=True)
        self.assertEqual((schema["n"], "gone" in schema, schema["ACL"]), ({"type": "Number", "required": True}, False, {"type": "ACL"}))

    def test_object_by_its_id_with_table(self):
        one = self.make("Single", n=1, ACL={})
        open_one = self.make("Single", n=2)
        self.assertEqual(self.get("Single", one), {})
        self.assertIsNone(self.response.header("Last-Modified"))
        self.assertEqual(self.get("Single", one, master=True)["n"], 1)
        self.assertEqual(self.get("Single", open_one, keys="-n").keys(), {"objectId", "createdAt", "updatedAt"})
        self.assertTrue(self.response.header("Last-Modified").endswith(f"{self.row('Single', open_one).updated % 1000:03d} GMT"))
        self.assertEqual(self.get("Single", "a_b"), {})
        self.code(101, "GET", "/files/none", status=404)

    def test_time_of_a_list_is_that_of_its_newest_row_or_for_the_master_of_the_class(self):
        first, second = self.make("Dated", n=1), self.make("Dated", n=2)
        self.set_row("Dated", first, updated=now() + 5000)
        self.set_row("Dated", second, updated=now() + 1000)
        newest = self.row("Dated", first).updated
        self.find("Dated")
        self.assertIn(f".{newest % 1000:03d} GMT", self.response.header("Last-Modified"))
        self.assertEqual(self.find("Dated", limit=0, master=True), [])
        self.assertIn(f".{newest % 1000:03d} GMT", self.response.header("Last-Modified"))

    def test_class_is_closed_for_get_and_open_for_find_or_the_other_way_round(self):
        one = self.make("Halved", n=1)
        for closed, is_found, is_got in (("find", False, True), ("get", True, False)):
            def work(transaction):
                info = transaction.class_info("Halved")
                transaction.save_class("Halved", {**info, "permissions": {closed: {"users": False, "names": []}}})  # noqa: B023 it runs at once

            self.service.store.write(work)
            with self.subTest(closed):
                self.api("GET", "/classes/Halved", status=200 if is_found else 403)
                self.api("GET", f"/classes/Halved/{one}", status=200 if is_got else 403)
                self.assertTrue(self.service.store.read(lambda transaction: objects.is_readable(transaction, "Halved", transaction.get("Halved", one), ("*",))))

    def test_deletion_of_many_ends_with_its_time(self):
        ids = [self.make("Many", n=number) for number in range(2)]
        with mock.patch.object(objects, "BATCH_SECONDS", -1):
            self.code(124, "DELETE", f"/classes/Many/{','.join(ids)}", status=503)
        self.assertEqual(len(self.find("Many")), 2)


class SmsTest(SmsTestCase):
    def work(self, function):
        return self.service.store.write(function)

    def test_messages_are_counted_with_their_pause_and_their_day(self):
        here = now()
        with mock.patch("leanstorage.resources.sms_codes.now", return_value=here) as clock:
            for ms, is_allowed in ((0, True), (999, False), (1000, True), (2000, True), (3000, False)):
                clock.return_value = here + ms

                def work(transaction):
                    sms_codes._count(transaction, "k", 3, Code.SMS_TOO_OFTEN, 1000)

                with self.subTest(ms):
                    if is_allowed:
                        self.work(work)
                        self.assertEqual(self.work(lambda transaction: transaction.record("sms-count", "k"))["last"], here + ms)
                    else:
                        with self.assertRaises(StorageError):
                            self.work(work)
            found = self.work(lambda transaction: transaction.record("sms-count", "k"))
            self.assertEqual(found, {"count": 3, "since": here, "last": here + 2000})
            clock.return_value = here + 9000
            for code in (Code.SMS_QUOTA, Code.SMS_TOO_OFTEN):
                with self.assertRaises(StorageError) as caught:
                    self.work(lambda transaction: sms_codes._count(transaction, "k", 3, code))  # noqa: B023 it runs at once
                self.assertIs(caught.exception.kind, code)
        expires = self.work(lambda transaction: transaction.execute_once("SELECT expires FROM records WHERE kind = 'sms-count' AND key = 'k'"))
        self.assertEqual([row[0] for row in expires], [here + 86_400_000])

    def test_code_lives_as_long_as_it_says(self):
        for ttl, minutes in ((3, 3), (None, 10)):
            with self.subTest(ttl), mock.patch("leanstorage.resources.sms_codes.now", return_value=now()) as clock:
                self.wait_no_more()
                self.ask("sms", "13900000001", **({} if ttl is None else {"ttl": ttl}))
                expires = self.work(lambda transaction: transaction.execute_once("SELECT kind, expires FROM records WHERE kind IN ('sms', 'sms-at')"))
                self.assertIn(("sms", clock.return_value + minutes * 60_000), [tuple(row) for row in expires])
                self.assertIn(("sms-at", clock.return_value + minutes * 60_000), [tuple(row) for row in expires])

    def test_guesses_of_a_code_are_counted_and_the_last_one_voids_it(self):
        self.wait_no_more()
        code = self.ask("sms", "13900000002")
        key = "sms:+8613900000002"
        for number in range(1, 6):
            self.code(603, "POST", f"/verifySmsCode/{self.other_than(code)}", {"mobilePhoneNumber": "13900000002"})
            record = self.work(lambda transaction: transaction.record("sms", key))
            with self.subTest(number):
                self.assertEqual(record and record["failures"], number if number < 5 else None)
        self.code(603, "POST", f"/verifySmsCode/{code}", {"mobilePhoneNumber": "13900000002"})

    def test_guesses_with_a_number_count_for_the_address_and_not_as_blind_ones(self):
        self.wait_no_more()
        code = self.ask("sms", "13900000003")
        for body, kinds in (({"mobilePhoneNumber": "13900000003"}, {"address"}), ({}, {"address", "sms-count"})):
            self.work(lambda transaction: [transaction.delete_record("address", "9.9.9.9"), transaction.delete_record("sms-count", "blind:9.9.9.9")])
            headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
            self.raw("POST", f"/1.1/verifySmsCode/{self.other_than(code)}", json.dumps(body).encode(), headers, REMOTE_ADDR="9.9.9.9")
            found = {kind for kind, key in (("address", "9.9.9.9"), ("sms-count", "blind:9.9.9.9")) if self.work(lambda transaction: transaction.record(kind, key))}  # noqa: B023
            with self.subTest(body):
                self.assertEqual(found, kinds)

    def test_blind_guesses_end_with_their_number(self):
        self.wait_no_more()
        code = self.ask("sms", "13900000004")
        blind = "sms-count", "blind:127.0.0.1"
        for count, status in ((30, 429), (29, 200)):
            self.work(lambda transaction: transaction.put_record(*blind, {"count": count, "since": now(), "last": 0}))  # noqa: B023
            with self.subTest(count):
                self.api("POST", f"/verifySmsCode/{code}", {}, status=status)

    def test_code_of_another_phone_at_the_address_is_made_no_more(self):
        self.wait_no_more()
        with mock.patch("leanstorage.resources.sms_codes.secrets.randbelow", side_effect=[7, 7, 8]) as draws:
            first = self.ask("sms", "13900000005")
            second = self.ask("sms", "13900000006")
        self.assertEqual((first, second, draws.call_args_list), ("000007", "000008", [mock.call(10**6)] * 3))

    def test_code_that_was_not_sent_is_taken_back_and_stays_counted(self):
        self.wait_no_more()
        phone = "+8613900000007"
        with mock.patch.object(self.service.sms, "send", return_value=False):
            self.code(602, "POST", "/requestSmsCode", {"mobilePhoneNumber": phone})
        counted = self.work(lambda transaction: transaction.record("sms-count", f"phone:{phone}"))
        self.assertEqual((counted["count"], counted["last"]), (1, 0))
        self.assertIsNone(self.work(lambda transaction: transaction.record("sms", f"sms:{phone}")))
        self.ask("sms", phone)

    def test_owner_of_a_number_is_asked_for_what_it_needs(self):
        self.wait_no_more()
        self.person("unproven", "13900000008", verified=False)
        self.person("proven", "13900000009")
        for purpose, phone, code in (("login", "13900000008", 215), ("reset", "13900000008", 215), ("login", "13900000010", 213), ("verify", "13900000010", 213)):
            path = {"login": "/requestLoginSmsCode", "reset": "/requestPasswordResetBySmsCode", "verify": "/requestMobilePhoneVerify"}[purpose]
            with self.subTest(purpose, phone=phone):
                self.code(code, "POST", path, {"mobilePhoneNumber": phone})
        self.api("POST", "/requestMobilePhoneVerify", {"mobilePhoneNumber": "13900000009"})
        self.assertEqual(self.sent, [])
        self.api("POST", "/requestMobilePhoneVerify", {"mobilePhoneNumber": "13900000008"})
        self.assertEqual(len(self.sent), 1)


    def test_code_of_a_new_number_is_its_askers_alone(self):
        self.wait_no_more()
        me, other = self.person("changer", "13900000020"), self.person("bystander", "13900000021")
        self.code(206, "POST", "/requestChangePhoneNumber", {"mobilePhoneNumber": "13900000022"}, status=403)
        self.code(214, "POST", "/requestChangePhoneNumber", {"mobilePhoneNumber": "13900000021"}, session=me["sessionToken"])
        code = self.ask("change", "13900000022", session=me["sessionToken"])
        body = {"mobilePhoneNumber": "13900000022", "code": code}
        self.code(603, "POST", "/changePhoneNumber", body, session=other["sessionToken"])
        self.wait_no_more()
        code = self.ask("change", "13900000022", session=me["sessionToken"])
        value = self.api("POST", "/changePhoneNumber", {**body, "code": code})
        self.assertEqual((set(value), value["objectId"]), ({"updatedAt", "objectId"}, me["objectId"]))
        found = self.api("GET", f"/users/{me['objectId']}", master=True)
        self.assertEqual((found["mobilePhoneNumber"], found["mobilePhoneVerified"], found["updatedAt"]), ("13900000022", True, value["updatedAt"]))
        self.wait_no_more()
        self.assertEqual(self.ask("change", "13900000022", session=me["sessionToken"])[5:], self.sent[-1]["code"][5:])  # one's own may be proven anew

    def test_number_that_is_verified_is_told_with_its_time(self):
        self.wait_no_more()
        me = self.person("provable", "13900000023", verified=False)
        code = self.ask("verify", "13900000023")
        value = self.api("POST", f"/verifyMobilePhone/{code}", {"mobilePhoneNumber": "13900000023"})
        found = self.api("GET", f"/users/{me['objectId']}", master=True)
        self.assertEqual(value, {"updatedAt": found["updatedAt"], "objectId": me["objectId"]})
        self.assertIs(found["mobilePhoneVerified"], True)

    def test_user_by_phone_is_named_by_its_number_or_else_at_random(self):
        self.user("13900000024")
        for phone, more, pattern in (("13900000025", {}, "^13900000025$"), ("13900000024", {}, "^[a-z0-9]{25}$"), ("13900000026", {"username": "chosen"}, "^chosen$")):
            self.wait_no_more()
            body = {"mobilePhoneNumber": phone, "smsCode": self.ask("sms", phone), "authData": {"x": {"id": "1"}}, **more}
            value = self.api("POST", "/usersByMobilePhone", body, 201)
            with self.subTest(phone):
                self.assertRegex(value["username"], pattern)
                self.assertEqual((value["mobilePhoneNumber"], value["mobilePhoneVerified"], "authData" in value, "smsCode" in value), (phone, True, False, False))
            self.wait_no_more()
            again = self.api("POST", "/usersByMobilePhone", {"mobilePhoneNumber": phone, "smsCode": self.ask("sms", phone)})
            self.assertEqual((again["objectId"], again["sessionToken"]), (value["objectId"], value["sessionToken"]))
        self.wait_no_more()
        body = {"mobilePhoneNumber": "13900000027", "smsCode": self.ask("sms", "13900000027")}
        self.code(218, "POST", "/usersByMobilePhone", {**body, "password": " "})
        self.code(603, "POST", "/usersByMobilePhone", {**body, "smsCode": self.other_than(body["smsCode"])})
        self.api("POST", "/usersByMobilePhone", {**body, "password": "pw", "username": "by-phone"}, 201)
        self.api("POST", "/login", {"username": "by-phone", "password": "pw"})

    def test_code_that_came_with_a_bad_password_is_still_good(self):
        self.wait_no_more()
        self.person("resetting", "13900000030")
        path = f"/resetPasswordBySmsCode/{self.ask('reset', '13900000030')}"
        for password, code in ((None, 201), ("", 201), (" ", 218), ("p" * 1025, 1)):
            self.code(code, "PUT", path, {"mobilePhoneNumber": "13900000030", "password": password})
        self.assertEqual(self.api("PUT", path, {"mobilePhoneNumber": "13900000030", "password": "fresh"}), {})
        self.api("POST", "/login", {"mobilePhoneNumber": "13900000030", "password": "fresh"})

    def test_login_by_a_url_with_a_code(self):
        self.code(212, "GET", "/login?smsCode=123456")
        self.code(127, "GET", "/login?smsCode=123456&mobilePhoneNumber=1")
        self.code(603, "GET", "/login?smsCode=123456&mobilePhoneNumber=13900000028")

    def test_sign_up_by_phone_sends_the_link_that_verifies_its_address(self):
        self.wait_no_more()
        body = {"mobilePhoneNumber": "13900000011", "smsCode": self.ask("sms", "13900000011"), "email": "phone@example.org"}
        with mock.patch.multiple(self.service.options, verify_emails=True, public_url="https://storage.example"):
            self.api("POST", "/usersByMobilePhone", body, 201)
        self.assertEqual([one["to"] for one in mail.outbox(self.service.store)], ["phone@example.org"])


class SavesTest(FlowCase):
    """Saves of whole trees, devices, statements and statuses: what each stores, and who is asked."""

    def save(self, *requests, **more):
        return self.api("POST", "/batch/save", {"requests": list(requests)}, **more)

    def request(self, path, method="POST", params=None, new=None, **body):
        made = {"method": method, "path": f"/1.1/{path}", "body": body}
        return made | ({} if params is None else {"params": params}) | ({} if new is None else {"new": new})

    def test_what_is_answered_with_table(self):
        one = self.make("Answered", n=1, tags=["a"], o={"x": 1})
        path = f"classes/Answered/{one}"
        increment, add = {"__op": "Increment", "amount": 1}, {"__op": "Add", "objects": ["b"]}
        updated, made = {"objectId", "updatedAt"}, {"objectId", "createdAt"}
        for request, wanted in (
            (self.request(path, "PUT", n=5), updated),
            (self.request(path, "POST", n=5), updated),
            (self.request(path, "PUT", n=increment), updated | {"n"}),
            (self.request(path, "PUT", **{"o.x": increment, "tags": add}), updated | {"o", "tags"}),
            (self.request(path, "PUT", n={"__op": "Delete"}), updated),
            (self.request(path, "PUT", params={"new": True}, n=1), updated | {"createdAt", "n", "tags", "o"}),
            (self.request(path, "PUT", params={"new": "true"}, n=1), updated | {"createdAt", "n", "tags", "o"}),
            (self.request(path, "PUT", params={"new": 2, "fetchWhenSave": "yes"}, n=1), updated),
            (self.request(path, "PUT", params={"fetchWhenSave": True}, n=1), updated | {"createdAt", "n", "tags", "o"}),
            (self.request(path, "PUT", new=True, n=1), updated),
            (self.request(path, "PUT", params=[], n=1), updated),
            (self.request("classes/Answered", n=increment), made),
            (self.request("classes/Answered", new=True, n=increment), made),
            (self.request("classes/Answered", params={"new": True}, n=increment), made | {"updatedAt", "n"}),
        ):
            with self.subTest(request):
                [value] = self.save(request).values()
                self.assertEqual(set(value), wanted)

    def test_condition_holds_for_the_object_that_is_saved(self):
        one = self.make("Conditional", n=1)
        path = f"classes/Conditional/{one}"
        for where, status in (({"n": 1}, 200), ({"n": 2}, 400), ('{"n": 1}', 200), (None, 400)):
            with self.subTest(where):
                self.save(self.request(path, "PUT", params={"where": where}, a=1), status=status)
        self.save(self.request("classes/Conditional", params={"where": {"n": 9}}, n=3))
        twice = [self.request(path, "PUT", params={"where": {"n": 1}}, n=number) for number in (7, 8)]
        self.save(*twice)
        self.assertEqual(self.get("Conditional", one)["n"], 8)
        inner = self.request("classes/Inner", params={"where": {"n": 8}}, __internalId="i")
        outer = self.request(path, "PUT", params={"where": {"n": 8}}, __children=[{"className": "Inner", "cid": "i", "key": "inner"}])
        self.assertEqual(len(self.save(inner, outer)), 2)
        stored = self.make("Inner", n=1)
        known = self.request(f"classes/Inner/{stored}", "PUT", params={"where": {"n": 8}}, a=1)
        self.save(known, self.request(path, "PUT", params={"where": {"n": 8}}, a=1))
        self.save(known, self.request(path, "PUT", params={"where": {"n": 7}}, a=1), status=400)
        self.save(known, status=400)

    def test_device_is_known_by_either_name(self):
        first = self.api("POST", "/installations", {"deviceToken": "t", "installationId": "i", "n": 1}, 201)["objectId"]
        for body, known in (({"deviceToken": "t"}, True), ({"installationId": "i"}, True), ({"deviceToken": "t", "installationId": "other"}, True), ({"deviceToken": "u", "installationId": ""}, False)):
            with self.subTest(body):
                value = self.api("POST", "/installations", {**body, "a": 1}, 200 if known else 201)
                self.assertEqual((value["objectId"] == first, "updatedAt" in value), (known, known))
        value = self.save(self.request("installations", deviceToken="t", b=2))
        [value] = value.values()
        self.assertEqual((value["objectId"], set(value)), (first, {"objectId", "createdAt", "updatedAt"}))
        self.assertEqual(self.get("_Installation", first, master=True)["b"], 2)

    def test_statement_writes_what_its_call_would(self):
        def run(cql, *values, **more):
            return self.api("GET", "/cloudQuery", cql=cql, pvalues=list(values), **more)

        value = run("insert into Stated(n, t) values(?, 'x')", 5)
        [made] = value["results"]
        self.assertEqual((value["className"], made["n"], made["t"]), ("Stated", 5, "x"))
        [changed] = run("update Stated set n = 6 where objectId = ?", made["objectId"])["results"]
        self.assertEqual(changed["n"], 6)
        self.code(104, "GET", "/cloudQuery", cql="delete from Stated where objectId = 'a-b'")
        for cql, wanted in (
            ("select count(*) from Stated", {"results": [], "className": "Stated", "count": 1}),
            ("select count(*) from Stated where n > 6", {"results": [], "className": "Stated", "count": 0}),
            ("select n from Stated limit 0", {"results": [], "className": "Stated"}),
        ):
            with self.subTest(cql):
                self.assertEqual(run(cql), wanted)
        value = run("select count(*), n from Stated")
        self.assertEqual((value["count"], [set(row) for row in value["results"]]), (1, [{"n", "objectId", "createdAt", "updatedAt"}]))
        self.assertEqual(run("delete from Stated where objectId = ?", made["objectId"]), {"results": [], "className": "Stated"})
        self.assertEqual(self.find("Stated"), [])
        self.code(101, "GET", "/cloudQuery", status=404, cql="select * from None")
        self.code(403, "GET", "/cloudQuery", status=403, cql="select * from _User")

    def test_line_that_is_taken_out_lowers_the_unread_ones_to_what_is_left(self):
        me = self.user("reader")
        query = {"className": "_User", "where": {"objectId": me["objectId"]}}
        token, path = me["sessionToken"], "/subscribe/statuses/count"
        for number in range(3):
            self.api("POST", "/statuses", {"data": {"n": number}, "query": query}, 201, session=token)
        self.assertEqual(self.api("GET", path, session=token), {"total": 3, "unread": 3})
        self.api("DELETE", "/subscribe/statuses/inbox", {"messageId": 2}, session=token)
        self.assertEqual(self.api("GET", path, session=token), {"total": 2, "unread": 2})
        self.api("POST", "/subscribe/statuses/resetUnreadCount", {}, session=token)
        self.assertEqual(self.api("GET", path, session=token), {"total": 2, "unread": 0})
        self.api("DELETE", "/subscribe/statuses/inbox", session=token, messageId="1")
        self.assertEqual(self.api("GET", path, session=token), {"total": 1, "unread": 0})
        self.api("DELETE", "/subscribe/statuses/inbox", master=True, messageId="3", owner=pointer("_User", me["objectId"]))
        self.assertEqual(self.api("GET", path, session=token), {"total": 0, "unread": 0})
        other = self.user("other-reader")
        self.code(403, "DELETE", "/subscribe/statuses/inbox", status=403, session=other["sessionToken"], messageId="3", owner=pointer("_User", me["objectId"]))

    def test_inbox_is_shown_from_and_up_to_its_numbers(self):
        me = self.user("paged")
        query = {"className": "_User", "where": {"objectId": me["objectId"]}}
        for number in range(1, 6):
            self.api("POST", "/statuses", {"data": {"n": number}, "query": query}, 201, session=me["sessionToken"])
        for options, shown, end in (
            ({"limit": 5}, [5, 4, 3, 2, 1], True),
            ({"limit": 4}, [5, 4, 3, 2], False),
            ({"limit": 4, "skip": 1}, [4, 3, 2, 1], True),
            ({"sinceId": 3}, [5, 4], True),
            ({"maxId": 3}, [3, 2, 1], True),
            ({"maxId": 3, "sinceId": 1, "limit": 1}, [3], False),
            ({"maxId": 0}, [], True),
            ({"maxId": 0, "sinceId": 0}, [5, 4, 3, 2, 1], True),
            ({"order": "messageId", "limit": 2}, [1, 2], False),
            ({"order": "createdAt,x", "sinceId": 3}, [4, 5], True),
            ({"limit": 1000}, [5, 4, 3, 2, 1], True),
        ):
            for lines in (200, 5, 2):
                with self.subTest(options, lines=lines), mock.patch("leanstorage.resources.statuses.LINES", lines):
                    value = self.api("GET", "/subscribe/statuses", session=me["sessionToken"], **options)
                    self.assertEqual(([row["n"] for row in value["results"]], value["end"]), (shown, end))

    def test_link_between_users_is_shown_with_its_options(self):
        me, star, fan = (self.user(name) for name in ("mid", "star", "fan"))
        for who, whom, kind in ((me, star, "a"), (fan, me, "b")):
            self.api("POST", f"/users/self/friendship/{whom['objectId']}", {"kind": kind, "user": 1, "followee": 2, "ACL": {}}, session=who["sessionToken"])
        path = f"/users/{me['objectId']}"
        both = self.api("GET", f"{path}/followersAndFollowees", session=me["sessionToken"], count=1)
        self.assertEqual((both["followers"][0]["follower"]["username"], both["followees"][0]["followee"]["username"]), ("fan", "star"))
        self.assertEqual((both["followers_count"], both["followees_count"], both["followers"][0]["kind"]), (1, 1, "b"))
        none = self.api("GET", f"{path}/followersAndFollowees", session=me["sessionToken"], limit=0)
        self.assertEqual(none, {"followers": [], "followees": []})
        self.assertEqual(self.api("GET", f"{path}/followers", session=me["sessionToken"], where={"kind": "a"})["results"], [])
        listed = self.api("GET", f"{path}/followees", session=me["sessionToken"], include="user")["results"]
        self.assertEqual((listed[0]["user"]["username"], listed[0]["followee"]["username"]), ("mid", "star"))
        rights = {me["objectId"]: {"read": True, "write": True}, star["objectId"]: {"read": True, "write": True}}
        [row] = self.api("GET", f"{path}/followees", session=me["sessionToken"], returnACL="true")["results"]
        self.assertEqual(row["ACL"], rights)
        self.api("DELETE", f"{path}/friendship/{star['objectId']}", session=me["sessionToken"])
        self.assertEqual(self.api("GET", f"{path}/followees", session=me["sessionToken"])["results"], [])

    def test_redirected_query_shows_the_class_that_a_column_points_to(self):
        target = self.make("Pointed", n=1)
        self.make("Pointing", p=pointer("Pointed", target), n=2)
        value = self.api("GET", "/classes/Pointing", redirectClassNameForKey="p", count=1)
        self.assertEqual((value["className"], [row["objectId"] for row in value["results"]], value["count"]), ("Pointed", [target], 1))
        for key in ("n", "none"):
            with self.subTest(key):
                self.assertEqual(self.api("GET", "/classes/Pointing", redirectClassNameForKey=key), {"results": []})
        self.assertEqual(self.api("GET", "/classes/Nowhere", redirectClassNameForKey="p"), {"results": []})
        item = {"method": "GET", "path": "/1.1/classes/Pointing", "params": {"redirectClassNameForKey": ["p"]}}
        [answer] = self.api("POST", "/batch", {"requests": [item]})
        self.assertIn("redirectClassNameForKey must be a key", answer["error"]["error"])


class MailTest(FlowCase):
    options = Options(verify_emails=True, public_url="https://storage.example/")

    def links(self, address):
        return [one["text"].rpartition("/1.1")[2] for one in mail.outbox(self.service.store) if one["to"] == address]

    def test_options_of_a_batch_are_values_where_a_url_has_texts(self):
        me = self.user("optioned")
        one, _ = self.make("Opted", n=1, ACL={"*": {"read": True}}), self.make("Opted", n=2)
        self.api("POST", f"/users/self/friendship/{me['objectId']}", {"kind": "a"}, session=me["sessionToken"])
        for path, params, number in (
            ("scan/classes/Opted", {"where": {"n": 1}, "returnACL": True}, 1),
            ("scan/classes/Opted", {"where": {}, "limit": 1}, 1),
            ("scan/classes/Opted", {"where": None, "limit": 0}, 2),
            ("scan/classes/Opted", {"where": [{"n": 2}]}, 1),
            ("classes/Opted", {"where": {"n": 1}, "returnACL": 1}, 1),
            ("classes/Opted", {"limit": 1, "order": "-n"}, 1),
            ("users/strictlyQuery", {"where": {"username": "optioned"}}, 1),
            ("users/self/followers", {"where": {"kind": "a"}}, 1),
            ("users/self/followers", {"where": {"kind": "b"}}, 0),
            ("subscribe/statuses", {"where": {"a": 1}, "owner": pointer("_User", me["objectId"]), "count": True}, 0),
        ):
            master = path.startswith("scan")
            request = {"method": "GET", "path": f"/1.1/{path}", "params": params}
            with self.subTest(path, params=params):
                [answer] = self.api("POST", "/batch", {"requests": [request]}, master=master, session=None if master else me["sessionToken"])
                self.assertEqual(len(answer["success"]["results"]), number)
                if params.get("returnACL"):
                    self.assertEqual(answer["success"]["results"][0]["ACL"], {"*": {"read": True}})
        for params, code in (({"scan_key": ["n"]}, 102), ({"scan_key": "n", "where": {"n": 1}}, 1), ({"scan_key": "-n", "where": {"n": 1}}, 1), ({"where": "{"}, 107), ({"where": 5}, 107), ({"cursor": 5}, 1)):
            [answer] = self.api("POST", "/batch", {"requests": [{"method": "GET", "path": "/1.1/scan/classes/Opted", "params": params}]}, master=True)
            with self.subTest(params):
                self.assertEqual(answer["error"]["code"], code)
        self.assertTrue(one)

    def test_page_of_a_link_has_no_place_in_a_batch(self):
        self.user("paged", email="paged@example.org")
        self.api("POST", "/requestPasswordReset", {"email": "paged@example.org"})
        [path] = [path for path in self.links("paged@example.org") if "/resetPassword/" in path]
        [answer] = self.api("POST", "/batch", {"requests": [{"method": "GET", "path": "/1.1" + path}]})
        self.assertEqual(answer["error"], {"code": 1, "error": "Not Found."})
        for password in (None, 5, " ", "p" * 1025):
            self.code(201, "POST", path, {"password": password})
        self.assertIn(b"<form method=post>", self.raw("GET", "/1.1" + path).body)
        self.api("POST", path, {"password": "p" * 1024})
        self.api("POST", "/login", {"username": "paged", "password": "p" * 1024})

    def test_link_is_good_for_its_time_and_another_is_sent_after_a_minute(self):
        self.user("again", email="again@example.org")
        key = "verify:again@example.org"
        here = now()
        self.code(1, "POST", "/requestEmailVerify", {"email": "again@example.org"})
        self.service.store.write(lambda transaction: transaction.delete_record("mailed", key))
        with mock.patch("leanstorage.resources.mail.now", return_value=here):
            self.assertEqual(self.api("POST", "/requestEmailVerify", {"email": "again@example.org"}), {})
            self.assertEqual(self.api("POST", "/requestPasswordReset", {"email": "again@example.org"}), {})
        self.code(205, "POST", "/requestEmailVerify", {"email": "unknown@example.org"})

        def expires(kind):
            return sorted(row[0] - here for row in self.service.store.read(lambda transaction: transaction.execute_once(f"SELECT expires FROM records WHERE kind = '{kind}'")))

        self.assertIn(604_800_000, expires("link"))
        self.assertIn(86_400_000, expires("link"))
        self.assertIn(60_000, expires("mailed"))
        self.assertIn(2_592_000_000, expires("outbox"))
        texts = [one for one in mail.outbox(self.service.store) if one["to"] == "again@example.org"]
        self.assertEqual([one["subject"] for one in texts].count("Reset your password"), 1)
        self.assertTrue(all(one["text"].split(": ")[1].startswith("https://storage.example/1.1/") for one in texts))

    def test_mail_that_cannot_be_sent_stops_no_sign_up_and_is_said_once(self):
        output = io.StringIO()
        with mock.patch.object(self.service.options, "public_url", None), contextlib.redirect_stderr(output):
            for number in range(2):
                self.user(f"unsent{number}", email=f"unsent{number}@example.org")
        self.assertEqual(output.getvalue().count("no verification mail: Links in e-mails need"), 1)

    def test_mailer_is_woken_by_a_link(self):
        woken = []
        with mock.patch.object(self.service, "wake_mailer", lambda: woken.append(1)):
            self.user("waking", email="waking@example.org")
        self.assertEqual(woken, [1])

    def test_outbox_lists_what_is_done_and_what_is_not_by_time(self):
        def put(transaction):
            for ms, kind in ((30, mail.OUTBOX), (10, mail.DONE), (20, mail.OUTBOX), (40, mail.DONE), (10, mail.OUTBOX)):
                transaction.put_record(kind, f"{ms:014d}-x", {"to": kind, "subject": "", "text": ""})

        self.service.store.write(put)
        found = [(one["time"][-4:], one["to"]) for one in mail.outbox(self.service.store) if one["id"].endswith("-x")]
        self.assertEqual(found, [("010Z", mail.OUTBOX), ("020Z", mail.OUTBOX), ("030Z", mail.OUTBOX), ("040Z", mail.DONE)])


class MailerTest(FlowCase):
    def mailer(self, *outcomes):
        """A Mailer whose thread the test is itself; each look meets the next outcome, an error or a deliver."""
        left = list(outcomes)

        @contextlib.contextmanager
        def connected():
            outcome = left.pop(0)
            if not left:
                made._is_ended = True
                made._wanted.set()
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

        with mock.patch("leanstorage.resources.mailer.threading.Thread") as thread:
            made = mailer.Mailer(self.service, connected)
        self.addCleanup(setattr, self.service, "wake_mailer", None)
        self.assertEqual(thread.call_args.kwargs["daemon"], True)
        return made

    def test_server_that_is_away_is_said_once_each_time(self):
        away, fine = mail.Unreachable("away"), lambda data, to: True
        made = self.mailer(away, away, fine, away, fine)
        said = []
        for _ in range(5):
            output = io.StringIO()
            with contextlib.redirect_stderr(output):
                made.send()
            said.append(output.getvalue())
        line = "the mail server cannot be used: away\n"
        self.assertEqual(said, [line, "", "", line, ""])

    def test_mailer_goes_on_after_every_failure(self):
        made = self.mailer(StoreUnavailable("gone"), RuntimeError("a defect"), lambda data, to: True)
        output = io.StringIO()
        with mock.patch.object(mailer, "PERIOD_SECONDS", 0), contextlib.redirect_stderr(output):
            made._run()
        self.assertIn("a defect", output.getvalue())
        self.assertNotIn("gone", output.getvalue())

    def test_mailer_waits_until_it_is_woken(self):
        made = self.mailer(*[lambda data, to: True] * 2)
        self.service.wake_mailer()
        with mock.patch.object(made._wanted, "wait", wraps=made._wanted.wait) as waits:
            made._run()  # the second look would come after half a minute
        self.assertEqual(waits.call_args_list, [mock.call(30)] * 2)
        self.assertFalse(made._wanted.is_set())
        self.assertEqual((mailer.PERIOD_SECONDS, mailer.PAUSE_MS), (30, 60_000))


class SweeperTest(FlowCase):
    def test_sweeper_ends_at_once_when_it_is_closed(self):
        made = sweep.Sweeper(self.service)
        self.addCleanup(made._ended.set)
        self.assertTrue(made._thread.daemon)
        made.close()
        self.assertFalse(made._thread.is_alive())
        self.assertEqual(sweep.PERIOD_SECONDS, 300)


class DirectBlobs(FolderBlobs):
    """A folder to which clients bring their bytes past the server, as they do to an object storage."""

    def direct_upload(self):
        name = f"direct-{len(list(self.folder.glob('direct-*'))) + self.given}"
        self.given += 1
        return name, f"http://elsewhere/{name}"

    given = 0

    def bring(self, url, data):
        (self.folder / url.rpartition("/")[2]).write_bytes(data)

    def staged(self, staged):
        file = self.folder / staged
        if not file.exists():
            return None
        data = file.read_bytes()
        return len(data), hashlib.md5(data).hexdigest(), "v1"

    def keep(self, staged, key, version=None):
        if staged.startswith("direct-"):
            assert version == "v1"
            shutil.copy(self.folder / staged, self.path(key))
        else:
            super().keep(staged, key, version)

    def drop(self, staged):
        (self.folder / staged).unlink(missing_ok=True)

    def read_url(self, key, method, content_type, disposition):
        return f"http://elsewhere/{key}?{method}&{content_type}&{disposition}" if key.endswith(".far") else None


class DirectTest(FlowCase):
    """Uploads that go to an object storage directly."""

    def setUp(self):
        def empty(transaction):
            for kind in ("direct", "upload"):
                for key, _ in transaction.records(kind):
                    transaction.delete_record(kind, key)

        self.service.store.write(empty)
        shutil.rmtree(self.folder / "direct", ignore_errors=True)
        self.blobs = DirectBlobs(self.folder / "direct")
        patch = mock.patch.object(self.service, "blobs", self.blobs)
        patch.start()
        self.addCleanup(patch.stop)

    def token(self, **meta):
        token = self.api("POST", "/fileTokens", {"name": "a.txt", "metaData": meta}, 201)
        self.assertEqual(token["provider"], "s3")
        return token

    def call_back(self, token, result=True, **more):
        return self.api("POST", "/fileCallback", {"token": token["token"], "result": result}, **more)

    def lying(self):
        return sorted(path.name for path in self.blobs.folder.iterdir())

    def records(self, kind):
        return self.service.store.read(lambda transaction: [key for key, _ in transaction.records(kind)])

    def is_there(self, token):
        return self.raw("GET", "/" + token["key"]).status == 200

    def test_bytes_that_were_brought_are_a_file_after_the_call_back(self):
        token = self.token(size=5)
        self.code(1, "POST", "/fileCallback", {"token": token["token"], "result": True})
        self.blobs.bring(token["upload_url"], b"bytes")
        self.call_back(token)
        self.assertEqual(self.raw("GET", "/" + token["key"]).body, b"bytes")
        self.assertEqual(self.lying(), [token["key"]])
        self.assertEqual(self.records("direct"), [])
        self.call_back(token)
        self.assertEqual(self.get("_File", token["objectId"])["metaData"]["size"], 5)

    def test_reader_before_the_call_back_finds_the_file(self):
        token = self.token()
        self.assertFalse(self.is_there(token))
        self.blobs.bring(token["upload_url"], b"bytes")
        self.assertTrue(self.is_there(token))

    def test_bytes_that_were_not_announced_are_dropped(self):
        for meta, data, code, status in (({"size": 5}, b"four", 1, 400), ({"size": 3}, b"four", 413, 413), ({"_checksum": "0" * 32}, b"four", 1, 400)):
            token = self.token(**meta)
            self.blobs.bring(token["upload_url"], data)
            with self.subTest(meta):
                self.code(code, "POST", "/fileCallback", {"token": token["token"], "result": True}, status=status)
                self.assertFalse(self.is_there(token))
                self.assertEqual([name for name in self.lying() if name.startswith("direct-")], [])
        token = self.token(_checksum=hashlib.md5(b"four").hexdigest().upper())
        self.blobs.bring(token["upload_url"], b"four")
        self.call_back(token)
        self.assertTrue(self.is_there(token))

    def test_empty_file_that_was_announced_is_made_by_its_call_back(self):
        for error, status in ((None, 200), (StorageError(Code.UNAUTHORIZED), 200), (StorageError(Code.BAD_FILE_KEY), 400)):
            token = self.token(size=0)
            with self.subTest(error), contextlib.nullcontext() if error is None else mock.patch.object(files, "_complete", side_effect=error):
                self.call_back(token, status=status)
            self.assertIs(self.is_there(token), error is None)
        self.assertEqual([name for name in self.lying() if name.startswith(".upload")], [])
        other = self.token()
        self.code(1, "POST", "/fileCallback", {"token": other["token"], "result": True})
        self.assertEqual((self.api("POST", "/fileCallback", {}), self.api("POST", "/fileCallback", {"token": 5})), ({}, {}))

    def test_upload_as_large_as_allowed_is_taken_and_a_larger_one_is_not(self):
        with mock.patch.object(self.service.options, "max_upload_bytes", 4):
            for data, status in ((b"four", 200), (b"fives", 413)):
                token = self.token()
                self.blobs.bring(token["upload_url"], data)
                with self.subTest(data):
                    self.call_back(token, status=status)

    def test_somebody_who_was_faster_is_no_error(self):
        token = self.token()
        self.blobs.bring(token["upload_url"], b"bytes")
        with mock.patch.object(files, "_complete", side_effect=StorageError(Code.UNAUTHORIZED)):
            self.call_back(token)
        self.assertEqual(len([name for name in self.lying() if name.startswith("direct-")]), 1)

    def test_call_back_of_a_failure_drops_what_was_brought(self):
        token = self.token()
        self.blobs.bring(token["upload_url"], b"bytes")
        before = self.lying()
        self.call_back(token, result=False)
        self.assertLess(len(self.lying()), len(before))
        self.assertFalse(self.is_there(token))
        self.assertEqual((self.records("direct"), self.call_back(token, result=False)), ([], {}))
        self.code(401, "POST", "/fileCallback", {"token": token["token"], "result": True}, status=401)

    def test_sweep_makes_what_was_brought_and_forgets_what_never_came(self):
        came, never, bad = self.token(), self.token(), self.token(size=9)
        self.blobs.bring(came["upload_url"], b"bytes")
        self.blobs.bring(bad["upload_url"], b"bytes")
        here = now()
        created = {key: one["created"] for key, one in self.service.store.read(lambda transaction: transaction.records("direct"))}
        first = min(created.values())
        for ms, left in ((299_999, 3), (300_000 + here - first, 2), (3_900_000, 2), (3_900_001 + here - first, 0)):
            with self.subTest(ms), mock.patch("leanstorage.resources.files.now", return_value=first + ms):
                files.sweep(self.service)
                self.assertEqual(len(self.records("direct")), left)
        self.assertTrue(self.is_there(came))
        self.assertFalse(self.is_there(never))
        self.assertFalse(self.is_there(bad))

    def test_notes_of_uploads_are_looked_at_once_each(self):
        keys = sorted(self.token()["key"] for _ in range(5))
        for page in (2, 5, 200):
            with self.subTest(page), mock.patch.object(files, "PAGE", page):
                self.assertEqual([key for key, _ in files._direct(self.service.store)], keys)

    def test_bytes_that_lie_elsewhere_are_read_there(self):
        token = self.api("POST", "/fileTokens", {"name": "a.far"}, 201)
        self.blobs.bring(token["upload_url"], b"bytes")
        self.call_back(token)
        answer = self.raw("GET", "/" + token["key"])
        self.assertEqual((answer.status, answer.header("Cache-Control"), answer.header("Content-Length")), (302, "private, max-age=120", "0"))
        self.assertTrue(answer.header("Location").startswith(f"http://elsewhere/{token['key']}?GET&"))


if __name__ == "__main__":
    unittest.main()
