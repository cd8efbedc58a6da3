"""Guesses at passwords that come side by side, in another way, or while the password changes. Protocol section 5.4."""
from unittest import mock

from leanstorage.resources import mail
from leanstorage.rules import attempts, passwords
from leanstorage.rules.call import Options
from tests.leanstorage.service_support import ServiceTestCase


class GuessTest(ServiceTestCase):
    options = Options(public_url="https://storage.example/")

    def login(self, name, password="pw", code=None):
        body = {"username": name, "password": password}
        return self.code(code, "POST", "/login", body) if code else self.api("POST", "/login", body)

    def fail_often(self, user_id, times=attempts.MAX_FAILURES + 1):
        for _ in range(times):
            self.service.store.write(lambda transaction: attempts.count_failure(transaction, user_id))

    def test_guess_that_was_let_in_before_the_lock_learns_nothing(self):
        user = self.user("besieged")
        verify = passwords.verify

        def verify_late(record, password):
            self.fail_often(user["objectId"])
            return verify(record, password)

        for password in ("pw", "wrong"):
            self.service.store.write(lambda transaction: transaction.delete_record("failures", user["objectId"]))
            with self.subTest(password), mock.patch.object(passwords, "verify", verify_late):
                self.login("besieged", password, 219)

    def test_locked_account_hashes_nothing(self):
        user = self.user("shut")
        self.fail_often(user["objectId"])
        path = f"/users/{user['objectId']}/updatePassword"
        body = {"old_password": "pw", "new_password": "new"}
        with mock.patch.object(passwords, "verify", side_effect=AssertionError("hashed")):
            self.login("shut", "pw", 219)
            self.code(219, "PUT", path, body, session=user["sessionToken"])

    def test_wrong_old_passwords_lock_the_account_too(self):
        user = self.user("stolen-session")
        path = f"/users/{user['objectId']}/updatePassword"
        for old in [5, "x" * (attempts.MAX_PASSWORD + 1), *["wrong"] * 5]:
            self.code(210, "PUT", path, {"old_password": old, "new_password": "new"}, session=user["sessionToken"])
        self.code(219, "PUT", path, {"old_password": "pw", "new_password": "new"}, session=user["sessionToken"])
        self.login("stolen-session", "pw", 219)

    def test_new_password_clears_earlier_failures(self):
        def by_update(user):
            self.api("PUT", f"/users/{user['objectId']}", {"password": "new"}, session=user["sessionToken"])

        def by_old_password(user):
            body = {"old_password": "pw", "new_password": "new"}
            self.api("PUT", f"/users/{user['objectId']}/updatePassword", body, session=user["sessionToken"])

        def by_link(user):
            self.api("POST", "/requestPasswordReset", {"email": user["email"]})
            [text] = [message["text"] for message in mail.outbox(self.service.store) if message["to"] == user["email"]]
            path = text.split("storage.example/1.1")[1].strip()
            self.assertEqual(self.raw("POST", "/1.1" + path, b'{"password":"new"}').status, 200)

        for change in (by_update, by_old_password, by_link):
            name = change.__name__
            user = self.user(name, email=f"{name}@example.com")
            with self.subTest(name):
                self.fail_often(user["objectId"], attempts.MAX_FAILURES)
                change(user)
                self.fail_often(user["objectId"], attempts.MAX_FAILURES)
                self.login(name, "new")

    def test_old_hash_is_replaced_at_a_login_and_never_over_a_newer_password(self):
        def stored(user):
            return self.service.store.read(lambda transaction: transaction.record("credential", user["objectId"]))

        def imported(name):
            user = self.user(name)
            record = passwords.legacy_record(passwords.legacy_hash("old", "salt"), "salt")
            credential = {**stored(user), "password": record}
            self.service.store.write(lambda transaction: transaction.put_record("credential", user["objectId"], credential))
            return user

        user = imported("moved-in")
        token = self.login("moved-in", "old")["sessionToken"]
        self.assertEqual(stored(user)["password"]["scheme"], "scrypt")
        self.assertEqual(self.login("moved-in", "old")["sessionToken"], token)

        user = imported("quick-change")
        hash_password = passwords.hash_password

        def hash_late(password):
            hashing.stop()
            self.api("PUT", f"/users/{user['objectId']}", {"password": "new"}, master=True)
            return hash_password(password)

        hashing = mock.patch.object(passwords, "hash_password", hash_late)
        hashing.start()
        self.login("quick-change", "old")
        self.login("quick-change", "new")
        self.login("quick-change", "old", 210)

    def test_session_outlives_a_new_password_where_the_operator_wants_that(self):
        for rotates in (True, False):
            user = self.user(f"rotates-{rotates}")
            path = f"/users/{user['objectId']}"
            with self.subTest(rotates), mock.patch.object(self.service.options, "rotate_token_on_password", rotates):
                value = self.api("PUT", path, {"password": "new"}, session=user["sessionToken"])
                self.assertEqual("sessionToken" in value, rotates)
                token = self.login(user["username"], "new")["sessionToken"]
                self.assertEqual(token == user["sessionToken"], not rotates)
                if rotates:
                    self.assertEqual(value["sessionToken"], token)
                    self.code(211, "GET", "/users/me", session=user["sessionToken"])
                else:
                    self.api("GET", "/users/me", session=user["sessionToken"])

    def test_session_of_a_deleted_user_reads_nothing(self):
        for by_master in (False, True):
            user = self.user(f"leaving-{by_master}")
            own, token = user["objectId"], user["sessionToken"]
            object_id = self.make("Diary", session=token, ACL={own: {"read": True, "write": True}}, n=1)
            self.assertEqual(self.get("Diary", object_id, session=token)["n"], 1)
            self.api("DELETE", f"/users/{own}", master=by_master, session=None if by_master else token)
            with self.subTest(by_master=by_master):
                self.assertEqual(self.get("Diary", object_id, session=token), {})
                self.assertEqual(self.find("Diary", {"objectId": object_id}, session=token), [])
                self.code(1, "PUT", f"/classes/Diary/{object_id}", {"n": 2}, status=404, session=token)
