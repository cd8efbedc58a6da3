"""SMS codes: what each call answers, and what a wrong, late, used or guessed code does."""
import contextlib
import hashlib
import io
import json
import re
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from leanstorage.engine import hooks
from leanstorage.outside.sms import LATER, NEVER, SENT, LocalSender, Sender
from leanstorage.resources import mail, sms_codes
from leanstorage.store import now
from tests.leanstorage.service_support import KEYS, ServiceTestCase
from tests.leanstorage.test_hooks import FakeEngine

PURPOSES = {
    "sms": "/requestSmsCode",
    "login": "/requestLoginSmsCode",
    "verify": "/requestMobilePhoneVerify",
    "reset": "/requestPasswordResetBySmsCode",
    "change": "/requestChangePhoneNumber",
}


class SmsTestCase(ServiceTestCase):
    def setUp(self):
        self.sent, self.outcome = [], SENT
        self.service.sms = Sender(self.deliver, ["activity"], ["shop"], max_per_address=1000)
        self.addCleanup(self.service.sms.close)

    def deliver(self, data):
        self.sent.append(json.loads(data))
        return self.outcome

    def ask(self, purpose, phone, **more):
        """Ask for a code; return it."""
        session = more.pop("session", None)
        self.api("POST", PURPOSES[purpose], {"mobilePhoneNumber": phone, **more}, session=session)
        return self.sent[-1]["code"]

    def person(self, name, phone, verified=True):
        user = self.user(name, mobilePhoneNumber=phone)
        if verified:
            self.api("PUT", f"/users/{user['objectId']}", {"mobilePhoneVerified": True}, master=True)
        return user

    def wait_no_more(self, kind="sms-count"):
        """As if a day had passed for those who asked for codes."""

        def work(transaction):
            for key, _ in transaction.records(kind):
                transaction.delete_record(kind, key)

        self.service.store.write(work)

    def other_than(self, code):
        return f"{(int(code) + 1) % 10**6:06d}"


class FlowTest(SmsTestCase):
    def test_code_for_an_operation_is_good_once(self):
        code = self.ask("sms", "+86 186 0000 0001")
        self.assertRegex(code, "^[0-9]{6}$")
        self.assertEqual(self.sent[-1]["to"], "+8618600000001")
        self.assertEqual(self.api("POST", f"/verifySmsCode/{code}", {"mobilePhoneNumber": "18600000001"}), {})
        self.assertEqual(self.code(603, "POST", f"/verifySmsCode/{code}", {"mobilePhoneNumber": "18600000001"}), "Invalid SMS code.")

    def test_number_in_the_url_may_have_lost_its_plus(self):
        code = self.ask("sms", "+8618600000002")
        self.api("POST", f"/verifySmsCode/{code}?mobilePhoneNumber=+8618600000002")

    def test_sign_up_then_log_in_by_phone(self):
        body = {"mobilePhoneNumber": "18600000003", "smsCode": self.ask("sms", "18600000003"), "nick": "n"}
        user = self.api("POST", "/usersByMobilePhone", body, 201)
        self.assertEqual((user["username"], user["mobilePhoneVerified"], user["nick"]), ("18600000003", True, "n"))
        self.assertNotIn("smsCode", user)
        self.wait_no_more()
        body = {"mobilePhoneNumber": "+8618600000003", "smsCode": self.ask("sms", "+8618600000003"), "password": "ignored"}
        again = self.api("POST", "/usersByMobilePhone", body, 200)
        self.assertEqual((again["objectId"], again["sessionToken"]), (user["objectId"], user["sessionToken"]))
        self.code(210, "POST", "/login", {"username": "18600000003", "password": "ignored"})

    def test_sign_up_by_phone_takes_a_name_and_a_password(self):
        body = {"mobilePhoneNumber": "18600000004", "smsCode": self.ask("sms", "18600000004"), "username": "p4", "password": "pw"}
        self.code(218, "POST", "/usersByMobilePhone", {**body, "password": " "})
        user = self.api("POST", "/usersByMobilePhone", body, 201)  # the refused one did not use the code up
        self.assertEqual(self.api("POST", "/login", {"username": "p4", "password": "pw"})["objectId"], user["objectId"])

    def test_sign_up_by_phone_lets_nobody_say_what_is_the_servers(self):
        body = {"mobilePhoneNumber": "18600000005", "smsCode": self.ask("sms", "18600000005")}
        user = self.api("POST", "/usersByMobilePhone", {**body, "emailVerified": True, "authData": {"weixin": {"openid": "x"}}}, 201)
        self.assertIs(user["emailVerified"], False)
        self.assertNotIn("authData", user)

    def test_log_in_by_code_of_a_verified_number(self):
        user = self.person("p6", "18600000006")
        code = self.ask("login", "18600000006")
        found = self.api("POST", "/login", {"mobilePhoneNumber": "18600000006", "smsCode": code})
        self.assertEqual((found["objectId"], found["sessionToken"]), (user["objectId"], user["sessionToken"]))
        self.code(603, "POST", "/login", {"mobilePhoneNumber": "18600000006", "smsCode": code})

    def test_log_in_by_code_in_the_url_as_the_php_sdk_does(self):
        user = self.person("p7", "+8618600000007")
        code = self.ask("login", "18600000007")
        found = self.api("GET", f"/login?mobilePhoneNumber=%2B8618600000007&smsCode={code}")
        self.assertEqual(found["objectId"], user["objectId"])
        self.code(1, "GET", "/login?username=p7&password=pw", status=405)

    def test_number_is_verified_by_its_code(self):
        user = self.person("p8", "18600000008", verified=False)
        code = self.ask("verify", "18600000008")
        answer = self.api("POST", f"/verifyMobilePhone/{code}", {"mobilePhoneNumber": "+8618600000008"})
        self.assertEqual(set(answer), {"objectId", "updatedAt"})
        self.assertIs(self.get("_User", user["objectId"])["mobilePhoneVerified"], True)
        before = len(self.sent)
        self.wait_no_more()
        self.api("POST", "/requestMobilePhoneVerify", {"mobilePhoneNumber": "18600000008"})
        self.assertEqual(len(self.sent), before)

    def test_number_is_verified_by_the_session_alone_or_by_get(self):
        for number, (method, more) in enumerate([("POST", True), ("GET", True), ("POST", False)]):
            phone = f"1860000010{number}"
            user = self.person(f"v{number}", phone, verified=False)
            code = self.ask("verify", phone)
            session = user["sessionToken"] if more else None
            with self.subTest(method=method, session=more):
                found = self.api(method, f"/verifyMobilePhone/{code}", session=session)
                self.assertEqual(found["objectId"], user["objectId"])

    def test_password_is_reset_by_a_code_and_ends_the_session(self):
        user = self.person("p9", "18600000009")
        code = self.ask("reset", "18600000009")
        self.code(201, "PUT", f"/resetPasswordBySmsCode/{code}", {"mobilePhoneNumber": "18600000009"})
        self.api("PUT", f"/resetPasswordBySmsCode/{code}", {"password": "new", "mobilePhoneNumber": "18600000009"})
        self.api("POST", "/login", {"username": "p9", "password": "new"})
        self.code(211, "GET", "/users/me", session=user["sessionToken"])

    def test_password_is_reset_without_a_number_as_javascript_and_java_do(self):
        for method in ("PUT", "POST"):
            name, phone = f"blind{method}", "1860000020" + str(len(method))
            self.person(name, phone)
            code = self.ask("reset", phone)
            with self.subTest(method):
                self.code(603, method, f"/resetPasswordBySmsCode/{code}", {"password": "new"}, headers={"X-Real-IP": "198.51.100.9"})
                self.api(method, f"/resetPasswordBySmsCode/{code}", {"password": "new"})
                self.api("POST", "/login", {"username": name, "password": "new"})

    def test_number_is_changed_by_a_code_that_the_new_one_got(self):
        user = self.person("p10", "18600000010")
        session = user["sessionToken"]
        code = self.ask("change", "18600000011", session=session)
        answer = self.api("POST", "/changePhoneNumber", {"mobilePhoneNumber": "18600000011", "code": code}, session=session)
        self.assertEqual(answer["objectId"], user["objectId"])
        found = self.api("POST", "/login", {"mobilePhoneNumber": "+8618600000011", "password": "pw"})
        self.assertEqual((found["mobilePhoneNumber"], found["mobilePhoneVerified"]), ("18600000011", True))
        self.code(211, "POST", "/login", {"mobilePhoneNumber": "18600000010", "password": "pw"})

    def test_new_number_is_its_users_alone(self):
        user, other = self.person("p12", "18600000012"), self.person("p13", "18600000013")
        body = {"mobilePhoneNumber": "18600000014"}
        self.code(206, "POST", "/requestChangePhoneNumber", body, status=403)
        self.code(214, "POST", "/requestChangePhoneNumber", {"mobilePhoneNumber": "+8618600000013"}, session=user["sessionToken"])
        code = self.ask("change", "18600000014", session=user["sessionToken"])
        self.code(603, "POST", "/changePhoneNumber", {**body, "code": code}, session=other["sessionToken"])
        self.code(603, "POST", "/changePhoneNumber", {**body, "code": code}, session=user["sessionToken"])  # it is used up

    def test_user_who_may_not_write_itself_logs_in_by_phone_all_the_same(self):
        user = self.person("p16", "18600000016", verified=False)
        self.api("PUT", f"/users/{user['objectId']}", {"ACL": {"*": {"read": True}}}, master=True)
        body = {"mobilePhoneNumber": "18600000016", "smsCode": self.ask("sms", "18600000016")}
        found = self.api("POST", "/usersByMobilePhone", body, 200)
        self.assertEqual((found["objectId"], found["mobilePhoneVerified"]), (user["objectId"], True))

    def test_texts_of_the_operators_templates_take_variables(self):
        more = {"template": "activity", "sign": "shop", "date": "2014 年 10 月 31 号", "ttl": "5", "smsType": "voice"}
        self.ask("sms", "18600000015", **more)
        sent = self.sent[-1]
        self.assertEqual((sent["template"], sent["sign"], sent["minutes"], sent["type"]), ("activity", "shop", 5, "voice"))
        self.assertEqual(sent["variables"], {"date": "2014 年 10 月 31 号"})
        self.assertIn(sent["code"], sent["text"])

    def test_minutes_are_a_number_of_any_length_or_nothing(self):
        for index, (ttl, minutes) in enumerate((("9" * 5000, 10), ("0" * 5000, 10), ("3", 3), ("-1", 10), ("²", 10), (None, 10))):
            with self.subTest(str(ttl)[:9]):
                self.ask("sms", f"1860000{1600 + index}", ttl=ttl)
                self.assertEqual(self.sent[-1]["minutes"], minutes)


class HooksTest(SmsTestCase):
    def setUp(self):
        super().setUp()
        self.engine = FakeEngine()
        self.engine.names = ["__on_login__User", "__on_verified_sms"]
        self.addCleanup(setattr, self.service, "engine", None)

    def test_app_hears_of_a_verified_number(self):
        user = self.person("h1", "18605000001", verified=False)
        identity = {"weixin": {"openid": "h1"}}

        def work(transaction):
            row = transaction.get("_User", user["objectId"])
            row.body["authData"] = identity
            transaction.update("_User", row)

        self.service.store.write(work)
        code = self.ask("verify", "18605000001")
        self.engine.answers["/functions/onVerified/sms"] = lambda sent: (200, {"result": "ok"})
        self.service.engine = hooks.Engine(self.engine, KEYS)
        self.api("POST", f"/verifyMobilePhone/{code}", {"mobilePhoneNumber": "18605000001"})
        [(path, _, sent)] = self.engine.calls
        self.assertEqual((path, sent["object"]["objectId"]), ("/functions/onVerified/sms", user["objectId"]))
        self.assertIs(sent["object"]["mobilePhoneVerified"], True)
        self.assertEqual(sent["object"]["mobilePhoneNumber"], "18605000001")
        self.assertEqual(sent["object"]["authData"], identity)  # as its owner sees it

    def test_app_may_refuse_a_login_by_phone(self):
        self.person("h2", "18605000002")
        code = self.ask("login", "18605000002")
        self.engine.answers["/functions/_User/onLogin"] = lambda sent: (400, {"code": 1, "error": "banned"})
        self.service.engine = hooks.Engine(self.engine, KEYS)
        self.code(142, "POST", "/login", {"mobilePhoneNumber": "18605000002", "smsCode": code}, status=401)
        self.code(603, "POST", "/login", {"mobilePhoneNumber": "18605000002", "smsCode": code})


class CodeTest(SmsTestCase):
    def test_requests_that_cannot_be_have_their_codes(self):
        self.person("q1", "18610000001", verified=False)
        rows = [
            (212, "sms", {}),
            (212, "login", {"mobilePhoneNumber": ""}),
            (127, "sms", {"mobilePhoneNumber": "nonsense"}),
            (127, "login", {"mobilePhoneNumber": "12\n345"}),
            (212, "sms", {"mobilePhoneNumber": 18610000001}),
            (213, "login", {"mobilePhoneNumber": "18610009999"}),
            (213, "verify", {"mobilePhoneNumber": "18610009999"}),
            (213, "reset", {"mobilePhoneNumber": "18610009999"}),
            (215, "login", {"mobilePhoneNumber": "18610000001"}),
            (215, "reset", {"mobilePhoneNumber": "18610000001"}),
            (604, "sms", {"mobilePhoneNumber": "18610000002", "template": "made up"}),
            (604, "sms", {"mobilePhoneNumber": "18610000002", "template": ["activity"]}),
            (605, "sms", {"mobilePhoneNumber": "18610000002", "sign": "made up"}),
            (606, "sms", {"mobilePhoneNumber": "18610000002", "text": "x" * 36}),
            (606, "sms", {"mobilePhoneNumber": "18610000002", "text": "https://evil.example"}),
            (606, "sms", {"mobilePhoneNumber": "18610000002", "a.b": "x"}),
        ]
        for code, purpose, body in rows:
            with self.subTest(code=code, body=body):
                self.code(code, "POST", PURPOSES[purpose], body)
        self.assertEqual(self.sent, [])

    def test_wrong_late_and_used_codes_are_603_for_every_purpose(self):
        user = self.person("q3", "18610000003")
        uses = {
            "sms": lambda code: ("POST", f"/verifySmsCode/{code}", {}),
            "login": lambda code: ("POST", "/login", {"smsCode": code}),
            "reset": lambda code: ("PUT", f"/resetPasswordBySmsCode/{code}", {"password": "pw"}),
            "change": lambda code: ("POST", "/changePhoneNumber", {"code": code}),
        }

        def use(purpose, code):
            method, path, body = uses[purpose](code)
            return method, path, {**body, "mobilePhoneNumber": "18610000003"}

        for purpose in uses:
            self.wait_no_more()
            session = user["sessionToken"] if purpose == "change" else None
            with self.subTest(purpose=purpose, of="another purpose"):
                code = self.ask(purpose, "18610000003", session=session)
                for other in uses.keys() - {purpose}:
                    self.code(603, *use(other, code))
            with self.subTest(purpose=purpose, code="wrong"):
                self.code(603, *use(purpose, self.other_than(code)))
                self.code(603, *use(purpose, "12345"))
            with self.subTest(purpose=purpose, code="used"):
                self.api(*use(purpose, code))
                self.code(603, *use(purpose, code))
            user = self.api("POST", "/login", {"username": "q3", "password": "pw"})
            self.wait_no_more()
            with self.subTest(purpose=purpose, code="replaced"):
                session = user["sessionToken"] if purpose == "change" else None
                old = self.ask(purpose, "18610000003", session=session)
                self.wait_no_more()
                code = self.ask(purpose, "18610000003", session=session)
                if old != code:
                    self.code(603, *use(purpose, old))
            with self.subTest(purpose=purpose, code="late"):
                self.expire(f"{purpose}:+8618610000003")
                self.code(603, *use(purpose, code))

    def expire(self, key):
        def work(transaction):
            record = transaction.record("sms", key)
            transaction.put_record("sms", key, record, now() - 1)

        self.service.store.write(work)

    def test_guessed_code_is_void_after_five(self):
        code = self.ask("sms", "18610000004")
        body = {"mobilePhoneNumber": "18610000004"}
        for _ in range(sms_codes.MAX_GUESSES):
            self.code(603, "POST", f"/verifySmsCode/{self.other_than(code)}", body)
        self.code(603, "POST", f"/verifySmsCode/{code}", body)

    def test_code_of_somebody_whose_number_has_changed_is_603(self):
        user = self.person("q5", "18610000005")
        code = self.ask("login", "18610000005")
        self.api("PUT", f"/users/{user['objectId']}", {"mobilePhoneNumber": "18610000006"}, session=user["sessionToken"])
        self.code(603, "POST", "/login", {"mobilePhoneNumber": "18610000005", "smsCode": code})

    def test_number_that_changes_during_a_log_in_is_not_verified_by_the_code_of_the_old_one(self):
        user = self.person("swift", "18600000170", verified=False)
        code, take = self.ask("sms", "18600000170"), sms_codes.take

        def taken(*arguments):
            record = take(*arguments)
            path, body = f"/users/{user['objectId']}", {"mobilePhoneNumber": "18600000171"}
            self.api("PUT", path, body, session=user["sessionToken"])
            return record

        with mock.patch.object(sms_codes, "take", taken):
            self.code(603, "POST", "/usersByMobilePhone", {"mobilePhoneNumber": "18600000170", "smsCode": code})
        self.assertFalse(self.get("_User", user["objectId"])["mobilePhoneVerified"])

    def test_code_is_stored_as_a_keyed_hash_alone(self):
        code = self.ask("sms", "18610000007")
        rows = self.service.store.read(lambda transaction: transaction.execute_once("SELECT * FROM records"))
        records = [row for row in rows if "sms" in str(row[0])]
        self.assertTrue(records)
        for plain in (code, hashlib.sha256(code.encode()).hexdigest(), hashlib.sha1(code.encode()).hexdigest()):
            self.assertFalse([row for row in records if f'"{plain}"' in str(row) or plain in str(row[1])])

    def test_nothing_of_a_message_is_in_an_error_or_a_log(self):
        for outcome in (NEVER, LATER):
            with self.subTest(outcome):
                self.outcome = outcome
                self.wait_no_more()
                before = len(self.sent)
                with contextlib.redirect_stderr(io.StringIO()) as log:
                    text = self.code(602, "POST", "/requestSmsCode", {"mobilePhoneNumber": "18610000008"}) if outcome == NEVER else None
                    if outcome == LATER:
                        self.service.sms.close()  # no more attempts
                        text = self.code(602, "POST", "/requestSmsCode", {"mobilePhoneNumber": "18610000008"})
                for message in self.sent[before:]:
                    for secret in (message["code"], "18610000008"):
                        self.assertNotIn(secret, log.getvalue() + text)
                self.assertIn("SMS was not sent", log.getvalue())

    def test_code_that_was_not_sent_is_void_and_the_next_need_not_wait(self):
        self.outcome = NEVER
        with contextlib.redirect_stderr(io.StringIO()):
            self.code(602, "POST", "/requestSmsCode", {"mobilePhoneNumber": "18610000009"})
        lost = self.sent[-1]["code"]
        self.code(603, "POST", f"/verifySmsCode/{lost}", {"mobilePhoneNumber": "18610000009"})
        self.outcome = SENT
        self.ask("sms", "18610000009")


class BoundsTest(SmsTestCase):
    def setUp(self):
        super().setUp()
        self.wait_no_more()
        self.wait_no_more("address")

    def test_phone_gets_one_message_a_minute_and_ten_a_day(self):
        body = {"mobilePhoneNumber": "18620000001"}
        self.ask("sms", "18620000001")
        for spelling in ("18620000001", "+8618620000001"):
            text = self.code(601, "POST", "/requestSmsCode", {"mobilePhoneNumber": spelling})
            self.assertEqual(text, "Can't send SMS too frequently.")
        for _ in range(sms_codes.MAX_PER_PHONE - 1):
            self.minute_later("18620000001")
            self.ask("sms", "18620000001")
        self.minute_later("18620000001")
        self.code(601, "POST", "/requestSmsCode", body)
        self.assertEqual(len(self.sent), sms_codes.MAX_PER_PHONE)

    def minute_later(self, phone):
        def work(transaction):
            key = f"phone:+86{phone}"
            record = transaction.record("sms-count", key)
            transaction.put_record("sms-count", key, {**record, "last": 0}, now() + 10**6)

        self.service.store.write(work)

    def test_address_asks_for_so_many_a_day_whatever_they_answer(self):
        self.service.sms.max_per_address = 3
        for number in range(3):
            self.code(213, "POST", "/requestLoginSmsCode", {"mobilePhoneNumber": f"1862000010{number}"}, headers={"X-Real-IP": "2001:db8::1"})
        for address in ("2001:db8::1", "2001:db8::ffff:2"):  # one /64 is one visitor
            self.code(601, "POST", "/requestSmsCode", {"mobilePhoneNumber": "18620000110"}, headers={"X-Real-IP": address})
        self.api("POST", "/requestSmsCode", {"mobilePhoneNumber": "18620000110"}, headers={"X-Real-IP": "2001:db8:1::1"})

    def test_all_messages_of_a_day_are_bounded(self):
        self.service.sms.max_per_day = 1
        self.ask("sms", "18620000201")
        self.code(154, "POST", "/requestSmsCode", {"mobilePhoneNumber": "18620000202"})

    def test_address_that_guesses_too_often_is_429(self):
        self.service.options.max_logins_per_address = 3
        self.addCleanup(setattr, self.service.options, "max_logins_per_address", 100)
        headers = {"X-Real-IP": "198.51.100.7"}
        for number in range(3):
            self.code(603, "POST", "/verifySmsCode/000000", {"mobilePhoneNumber": f"1862000030{number}"}, headers=headers)
        code = self.ask("sms", "18620000310")
        self.code(429, "POST", f"/verifySmsCode/{code}", {"mobilePhoneNumber": "18620000310"}, headers=headers, status=429)
        self.api("POST", f"/verifySmsCode/{code}", {"mobilePhoneNumber": "18620000310"})

    def test_guesses_without_a_number_are_bounded_even_for_the_app(self):
        self.person("b1", "18620000401")
        code = self.ask("reset", "18620000401")
        headers = {"X-LC-Hook-Key": "hook"}
        for _ in range(sms_codes.MAX_BLIND):
            self.code(603, "PUT", f"/resetPasswordBySmsCode/{self.other_than(code)}", {"password": "new"}, headers=headers)
        self.code(429, "PUT", f"/resetPasswordBySmsCode/{code}", {"password": "new"}, headers=headers, status=429)
        self.api("PUT", f"/resetPasswordBySmsCode/{code}", {"password": "new", "mobilePhoneNumber": "18620000401"})


class TogetherTest(SmsTestCase):
    """What comes at the same time, from many threads."""

    def together(self, *calls):
        """The statuses of calls (method, path, body), sorted."""
        barrier, headers = threading.Barrier(len(calls)), {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}

        def make(call):
            method, path, body = call
            barrier.wait(30)
            answer = self.raw(method, "/1.1" + path, json.dumps(body).encode(), headers)
            return answer.status

        with ThreadPoolExecutor(len(calls)) as pool:
            return sorted(pool.map(make, calls))

    def test_one_code_lets_one_in(self):
        code = self.ask("sms", "18640000001")
        call = ("POST", f"/verifySmsCode/{code}", {"mobilePhoneNumber": "18640000001"})
        self.assertEqual(self.together(*[call] * 6), [200] + [400] * 5)

    def test_one_phone_gets_one_message(self):
        calls = [("POST", "/requestSmsCode", {"mobilePhoneNumber": number}) for number in ("18640000002", "+8618640000002") * 3]
        self.assertEqual(self.together(*calls), [200] + [400] * 5)
        self.assertEqual(len(self.sent), 1)

    def test_one_phone_makes_one_user(self):
        numbers = ("18640000003", "+8618640000003") * 3
        calls = [("POST", "/users", {"username": f"t{n}", "password": "pw", "mobilePhoneNumber": number}) for n, number in enumerate(numbers)]
        self.assertEqual(self.together(*calls), [201] + [400] * 5)

    def test_guesses_made_side_by_side_are_all_counted(self):
        code = self.ask("sms", "18640000004")
        body = {"mobilePhoneNumber": "18640000004"}
        guesses = [f"{(int(code) + n) % 10**6:06d}" for n in range(1, sms_codes.MAX_GUESSES + 1)]
        self.assertEqual(set(self.together(*[("POST", f"/verifySmsCode/{guess}", body) for guess in guesses])), {400})
        self.code(603, "POST", f"/verifySmsCode/{code}", body)


class LocalTest(ServiceTestCase):
    def test_codes_lie_in_the_outbox_for_this_machine_alone(self):
        self.service.sms = LocalSender()
        body = {"mobilePhoneNumber": "18630000001"}
        self.code(119, "POST", "/requestSmsCode", body, headers={"X-Real-IP": "198.51.100.7"})
        self.code(603, "POST", "/login", {**body, "smsCode": "1"}, headers={"X-Real-IP": "198.51.100.7"})
        self.api("POST", "/requestSmsCode", body)
        [message] = [one for one in mail.outbox(self.service.store) if one.get("kind") == "sms"]
        self.assertEqual(message["to"], "+8618630000001")
        [code] = re.findall("[0-9]{6}", message["text"])
        self.api("POST", f"/verifySmsCode/{code}", body)
        self.assertEqual(mail.hand_on(self.service.store, lambda data: True), (0, 0))  # no e-mail


if __name__ == "__main__":
    unittest.main()
