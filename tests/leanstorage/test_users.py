"""Users, roles and rights: sections 1.5, 3.7 and 5 of the protocol."""
import email.policy
import io
import json
import re
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from time import sleep
from unittest import mock

from leanstorage import __main__ as command_line
from leanstorage.resources import login, mail
from leanstorage.rules import classes
from leanstorage.rules.call import Options
from leanstorage.store import now
from leanstorage.rules.values import format_time, parse_time
from tests.leanstorage.service_support import KEYS, ServiceTestCase, pointer
from tests.support import call

PRIVATE = ("password", "salt", "sessionToken", "authData")


class SignUpTest(ServiceTestCase):
    def test_sign_up_by_both_paths_answers_the_whole_user(self):
        for path in ("/users", "/classes/_User?fetchWhenSave=false"):
            fields = {"username": "u" + path[1:3], "password": "pw", "age": 5, "to": pointer("Foo", "a")}
            value = self.api("POST", path, fields, 201)
            self.assertEqual(self.response.header("Location"), f"/1.1/classes/_User/{value['objectId']}")
            keys = {"objectId", "createdAt", "updatedAt", "username", "age", "to", "sessionToken"}
            self.assertEqual(set(value), keys | {"emailVerified", "mobilePhoneVerified"})
            self.assertRegex(value["sessionToken"], "^[a-z0-9]{25}$")
            self.assertIs(value["emailVerified"], False)

    def test_bad_sign_ups_have_their_codes_and_store_nothing(self):
        self.user("taken", email="taken@example.com", mobilePhoneNumber="+8612345678")
        before = self.digest()
        rows = [
            (200, {"password": "x"}),
            (200, {"username": "", "password": "x"}),
            (200, {"username": 5, "password": "x"}),
            (217, {"username": "  ", "password": "x"}),
            (201, {"username": "new"}),
            (201, {"username": "new", "password": ""}),
            (201, {"username": "new", "password": 5}),
            (218, {"username": "new", "password": "  "}),
            (202, {"username": "taken", "password": "x"}),
            (203, {"username": "new", "password": "x", "email": "taken@example.com"}),
            (214, {"username": "new", "password": "x", "mobilePhoneNumber": "+8612345678"}),
            (125, {"username": "new", "password": "x", "email": "nonsense"}),
            (127, {"username": "new", "password": "x", "mobilePhoneNumber": "12x"}),
        ]
        for code, fields in rows:
            with self.subTest(fields):
                self.code(code, "POST", "/users", fields)
        self.assertEqual(self.digest(), before)

    def test_clients_cannot_write_what_is_the_servers(self):
        fields = {"emailVerified": True, "mobilePhoneVerified": True, "sessionToken": "x" * 25, "salt": "s"}
        user = self.user("mass", **fields)
        self.assertIs(user["emailVerified"], False)
        self.assertNotEqual(user["sessionToken"], "x" * 25)
        self.assertNotIn("salt", user)
        self.api("PUT", f"/users/{user['objectId']}", fields, session=user["sessionToken"])
        self.assertIs(self.api("GET", f"/users/{user['objectId']}")["emailVerified"], False)


class LoginTest(ServiceTestCase):
    def login(self, **body):
        return self.api("POST", "/login", body)

    def test_login_by_every_identity_gives_one_token(self):
        user = self.user("alice", email="a@example.com", mobilePhoneNumber="12345678")
        whole = {**user, "nested": {"a": [1]}, "password": "pw"}
        for body in (
            {"username": "alice", "password": "pw"},
            {"email": "a@example.com", "password": "pw"},
            {"mobilePhoneNumber": "12345678", "password": "pw"},
            {"username": "alice", "email": "other@example.com", "password": "pw"},
            whole,
        ):
            self.assertEqual(self.login(**body), user)
        self.assertEqual(self.api("GET", "/users/me", session=user["sessionToken"]), user)
        self.assertEqual(self.api("GET", "/users/me", session_token=user["sessionToken"], session="other"), user)

    def test_wrong_logins_have_their_codes(self):
        self.user("bob")
        self.assertEqual(self.code(211, "POST", "/login", {"username": "nobody", "password": "x"}), "Could not find user.")
        text = self.code(210, "POST", "/login", {"username": "bob", "password": "x"})
        self.assertEqual(text, "The username and password mismatch.")
        self.code(201, "POST", "/login", {"username": "bob"})
        self.code(200, "POST", "/login", {"password": "x"})
        self.code(603, "POST", "/login", {"mobilePhoneNumber": "12345678", "smsCode": "1"})
        self.code(211, "GET", "/users/me", session="0")
        self.code(211, "GET", "/users/me")

    def test_login_of_a_user_who_is_deleted_meanwhile_is_211(self):
        user = self.user("gone")

        def delete(*arguments):
            user_id = check(*arguments)
            self.api("DELETE", f"/users/{user_id}", session=user["sessionToken"])
            return user_id

        check = login.check_password
        with mock.patch("leanstorage.resources.login.check_password", delete):
            self.code(211, "POST", "/login", {"username": "gone", "password": "pw"})

    def test_seven_wrong_passwords_lock_the_account_for_a_while(self):
        self.user("locked")
        for _ in range(7):
            self.code(210, "POST", "/login", {"username": "locked", "password": "x"})
        self.code(219, "POST", "/login", {"username": "locked", "password": "pw"})
        for seconds, is_locked in ((14 * 60, True), (15 * 60 + 1, False)):
            later = now() + seconds * 1000
            with mock.patch("leanstorage.store.records.now", return_value=later), mock.patch("leanstorage.rules.attempts.now", return_value=later):
                if is_locked:
                    self.code(219, "POST", "/login", {"username": "locked", "password": "pw"})
                else:
                    self.login(username="locked", password="pw")

    def test_right_password_clears_earlier_failures(self):
        self.user("clears")
        for _ in range(3):
            for _ in range(4):
                self.code(210, "POST", "/login", {"username": "clears", "password": "x"})
            self.login(username="clears", password="pw")

    def test_address_that_guesses_everywhere_is_stopped(self):
        with mock.patch.object(self.service.options, "max_logins_per_address", 3):
            there = {"REMOTE_ADDR": "9.9.9.9"}
            headers = {"X-LC-Id": "appid", "X-LC-Key": "UtOCzqb67d3sN12Kts4URwy8"}
            body = b'{"username":"nobody","password":"x"}'
            codes = [self.raw("POST", "/1.1/login", body, headers, **there).json()["code"] for _ in range(5)]
            self.assertEqual(codes, [211, 211, 211, 429, 429])
            spared = {**headers, "X-LC-Hook-Key": "hook"}
            self.assertEqual(self.raw("POST", "/1.1/login", body, spared, **there).json()["code"], 211)


    def test_login_may_need_a_verified_address_and_number(self):
        user = self.user("unverified", email="un@example.com", mobilePhoneNumber="+8613800000000")
        self.user("neither")
        options, body = self.service.options, {"username": "unverified", "password": "pw"}
        self.api("POST", "/login", body)
        path = f"/users/{user['objectId']}"
        with (
            mock.patch.object(options, "login_needs_verified_email", True),
            mock.patch.object(options, "login_needs_verified_phone", True),
        ):
            self.code(216, "POST", "/login", body)
            self.code(210, "POST", "/login", {**body, "password": "x"})
            self.api("PUT", path, {"emailVerified": True}, master=True)
            self.code(215, "POST", "/login", body)
            self.api("PUT", path, {"mobilePhoneVerified": True}, master=True)
            self.api("POST", "/login", body)
            self.api("POST", "/login", {"username": "neither", "password": "pw"})


class ChangeTest(ServiceTestCase):
    def setUp(self):
        self.name = self.id().rsplit(".", 1)[1][-40:]
        self.alice = self.user(self.name)
        self.path = f"/users/{self.alice['objectId']}"
        self.token = self.alice["sessionToken"]

    def test_user_is_changed_by_itself_or_the_master_alone(self):
        bob = self.user(self.name + "2")
        for method in ("PUT", "DELETE"):
            self.code(206, method, self.path, {"a": 1}, status=403)
            self.code(403, method, self.path, {"a": 1}, status=403, session=bob["sessionToken"])
            self.code(206, method, self.path, {"a": 1}, status=403, session="dead")
        self.api("PUT", self.path, {"a": 1}, session=self.token)
        self.api("PUT", self.path, {"username": self.name}, session=self.token)
        self.api("PUT", self.path, {"a": 2}, master=True)
        self.code(202, "PUT", self.path, {"username": self.name + "2"}, session=self.token)
        delete = {"__op": "Delete"}
        for value in (delete, {"__op": "Batch", "ops": [delete]}):
            self.code(113, "PUT", self.path, {"username": value}, session=self.token)
            self.code(113, "PUT", self.path, {"username": value}, master=True)
        anonymous = {"anonymous": {"id": self.name}}
        self.code(113, "POST", "/users", {"username": delete, "authData": anonymous})
        self.api("DELETE", self.path, session=self.token)
        self.code(211, "GET", "/users/me", session=self.token)
        self.code(211, "GET", self.path)
        self.user(self.name)  # the name is free again

    def test_password_that_a_stranger_sets_is_refused_before_it_is_hashed(self):
        other = self.user(self.name + "3")
        with mock.patch("leanstorage.rules.passwords.hash_password", side_effect=AssertionError("hashed")):
            self.code(206, "PUT", self.path, {"password": "new"}, status=403)
            self.code(403, "PUT", self.path, {"password": "new"}, status=403, session=other["sessionToken"])
            self.code(1, "PUT", "/users/unknown", {"password": "new"}, status=404)
            self.code(104, "PUT", "/users/a-b", {"password": "new"})

    def test_refresh_of_a_token_is_later_than_a_write_of_the_future(self):
        future = now() + 10**7

        def work(transaction):
            row = transaction.get("_User", self.path.rpartition("/")[2])
            row.updated = future
            transaction.update("_User", row)

        self.service.store.write(work)
        value = self.api("PUT", self.path + "/refreshSessionToken", session=self.token)
        self.assertEqual(value["updatedAt"], format_time(future + 1))

    def test_token_changes_on_refresh_and_on_a_new_password(self):
        before = self.api("GET", "/users/me", session=self.token)["updatedAt"]
        value = self.api("PUT", self.path + "/refreshSessionToken", session=self.token)
        self.assertEqual(set(value), {"updatedAt", "objectId", "sessionToken"})
        self.assertGreater(value["updatedAt"], before)
        self.code(211, "GET", "/users/me", session=self.token)
        token = value["sessionToken"]
        self.assertEqual(self.api("GET", "/users/me", session=token)["updatedAt"], value["updatedAt"])
        body = {"old_password": "wrong", "new_password": "new"}
        self.code(210, "PUT", self.path + "/updatePassword", body, session=token)
        self.code(201, "PUT", self.path + "/updatePassword", {"old_password": "pw"}, session=token)
        self.code(206, "PUT", self.path + "/updatePassword", body, status=403)
        body["old_password"] = "pw"
        value = self.api("PUT", self.path + "/updatePassword", body, session=token)
        self.assertNotEqual(value["sessionToken"], token)
        self.code(211, "GET", "/users/me", session=token)
        self.code(210, "POST", "/login", {"username": self.name, "password": "pw"})
        login = self.api("POST", "/login", {"username": self.name, "password": "new"})
        self.assertEqual(login["sessionToken"], value["sessionToken"])
        value = self.api("PUT", self.path, {"password": "third"}, session=login["sessionToken"])
        self.code(211, "GET", "/users/me", session=login["sessionToken"])
        self.api("GET", "/users/me", session=value["sessionToken"])

    def test_private_columns_are_shown_to_nobody_and_asked_by_nobody(self):
        self.api("PUT", self.path, {"authData": {"anonymous": {"id": "x" + self.name}}}, session=self.token)
        holder = self.make("Holder", user=pointer("_User", self.alice["objectId"]), name=self.name)
        self.code(403, "GET", "/classes/_User", status=403)
        self.code(403, "GET", "/users", status=403)
        [row] = self.find("Holder", {"objectId": holder}, include="user")
        for value in (self.api("GET", self.path), row["user"]):
            self.assertEqual(set(PRIVATE) & set(value), set())
        as_master = self.api("GET", self.path, master=True)
        self.assertEqual(set(PRIVATE) & set(as_master), {"authData", "sessionToken"})
        own = self.api("GET", self.path, session=self.token)
        self.assertIn("authData", own)
        for key in ("password", "salt", "sessionToken"):
            for options in ({"where": {key: {"$regex": "^a"}}}, {"order": key}, {"keys": key}, {"where": {f"{key}.a": 1}}):
                if options == {"keys": "sessionToken"}:
                    continue  # the master may ask for it
                with self.subTest(options):
                    self.code(102, "GET", "/classes/_User", master=True, **options)
        inner = {"className": "_User", "where": {"sessionToken": {"$exists": True}}}
        self.code(102, "GET", "/classes/Holder", where={"user": {"$inQuery": inner}}, master=True)
        select = {"key": "sessionToken", "query": {"className": "_User", "where": {}}}
        self.code(102, "GET", "/classes/Holder", where={"name": {"$select": select}}, master=True)
        open_inner = {"className": "_User", "where": {}}
        self.code(403, "GET", "/classes/Holder", where={"user": {"$inQuery": open_inner}}, status=403)

    def test_keys_that_lead_into_private_columns_are_refused(self):
        for key in ("password.x", "salt.x", "sessionToken.x"):
            for value in (1, {"__op": "Increment", "amount": 1}):
                self.code(105, "PUT", self.path, {key: value}, session=self.token)
                self.code(105, "PUT", self.path, {key: value}, master=True)
        columns = self.service.store.read(lambda transaction: classes.existing(transaction, "_User")["columns"])
        self.assertEqual({"password", "salt", "sessionToken"} & set(columns), set())

    def test_sessions_and_passwords_are_not_in_the_database_in_clear(self):
        def everything(transaction):
            return repr([transaction.execute_once(f"SELECT * FROM {table}") for table in ("objects", "records")])

        stored = self.service.store.read(everything)
        self.assertNotIn(self.token, stored)
        self.assertNotIn("'pw'", stored)


class AuthDataTest(ServiceTestCase):
    options = Options(trusted_providers=frozenset(["anonymous", "github", "weixin_1", "weixin_2"]))

    def sign_in(self, auth_data, status=201, **more):
        return self.api("POST", "/users", {"authData": auth_data}, status, **more)

    def test_account_is_made_once_and_found_again(self):
        account = {"github": {"uid": "1", "access_token": "a"}}
        first = self.sign_in(account)
        self.assertRegex(first["username"], "^[a-z0-9]{25}$")
        again = self.sign_in({"github": {"uid": "1", "access_token": "b"}}, 200)
        self.assertEqual((again["objectId"], again["sessionToken"]), (first["objectId"], first["sessionToken"]))
        self.assertEqual(again["authData"]["github"]["access_token"], "b")
        self.code(211, "POST", "/users?failOnNotExist=true", {"authData": {"github": {"uid": "unknown"}}})
        self.code(250, "POST", "/users", {"authData": {"github": {"access_token": "x"}}})
        self.code(251, "POST", "/users", {"authData": {"weibo": {"uid": "1"}}})

    def test_accounts_that_are_no_object_are_refused(self):
        user = self.user("shapeless")
        for value in ("github", 5, [], [{"github": {"uid": "1"}}]):
            with self.subTest(value):
                self.code(107, "PUT", f"/users/{user['objectId']}", {"authData": value}, session=user["sessionToken"])

    def test_accounts_are_linked_and_unlinked(self):
        user = self.user("linked")
        path, token = f"/users/{user['objectId']}", user["sessionToken"]
        self.api("PUT", path, {"authData": {"github": {"uid": "2"}}}, session=token)
        self.api("PUT", path, {"authData": {"weixin_1": {"openid": "w"}}}, session=token)
        self.assertEqual(set(self.api("GET", path, session=token)["authData"]), {"github", "weixin_1"})
        other = self.user("other")
        self.code(208, "PUT", f"/users/{other['objectId']}", {"authData": {"github": {"uid": "2"}}}, session=other["sessionToken"])
        self.code(208, "POST", "/users", {"authData": {"github": {"uid": "2"}, "weixin_2": {"uid": self.sign_in({"weixin_2": {"uid": "z"}}) and "z"}}})
        self.api("PUT", path, {"authData": {"github": None}}, session=token)
        self.api("PUT", path, {"authData.weixin_1": {"__op": "Delete"}}, session=token)
        self.assertEqual(self.api("GET", path, session=token)["authData"], {})
        self.sign_in({"github": {"uid": "2"}})

    def test_anonymous_user_becomes_somebody(self):
        user = self.sign_in({"anonymous": {"id": "anon1"}})
        path, token = f"/users/{user['objectId']}", user["sessionToken"]
        value = self.api("PUT", path, {"username": "somebody", "password": "pw"}, session=token)
        self.assertEqual(set(value), {"updatedAt", "objectId"})  # as recorded: the session goes on
        me = self.api("GET", "/users/me", session=token)
        self.assertEqual(me["authData"], {})
        self.api("POST", "/login", {"username": "somebody", "password": "pw"})

    def test_union_id_joins_the_accounts_of_one_platform(self):
        main = {"openid": "o1", "unionid": "u", "platform": "weixin", "main_account": True}
        first = self.sign_in({"weixin_1": main})
        self.assertEqual(first["authData"]["_weixin_unionid"], {"uid": "u"})
        for openid, more in (("o2", {"main_account": False}), ("o3", {})):  # the Java and Swift SDKs leave a false one out
            second = self.sign_in({"weixin_2": {"openid": openid, "unionid": "u", "platform": "weixin", **more}}, 200)
            self.assertEqual(second["objectId"], first["objectId"])
        self.assertEqual(set(second["authData"]), {"weixin_1", "weixin_2", "_weixin_unionid"})

    def test_provider_and_platform_with_very_long_names_are_105(self):
        data = {"uid": "long", "unionid": "u", "platform": "p" * 5000, "main_account": True}
        self.code(105, "POST", "/users", {"authData": {"github": data}}, master=True)
        self.code(105, "POST", "/users", {"authData": {"p" * 5000: {"uid": "long"}}}, master=True)
        self.code(105, "POST", "/users", {"authData": {"p" * 101: {"uid": "long"}}}, master=True)
        self.sign_in({"p" * 100: {"uid": "long"}}, master=True)
        platform = {"uid": "l", "unionid": "l", "main_account": True}
        self.code(105, "POST", "/users", {"authData": {"github": {**platform, "platform": "p" * 101}}}, master=True)
        self.sign_in({"github": {**platform, "platform": "p" * 100}}, master=True)

    def test_union_id_in_anonymous_data_is_believed_of_nobody(self):
        main = {"openid": "victim", "unionid": "known", "platform": "weixin", "main_account": True}
        victim = self.sign_in({"weixin_1": main})
        for main_account in (False, True):
            data = {"id": f"evil{main_account}", "unionid": "known", "platform": "weixin", "main_account": main_account}
            stranger = self.sign_in({"anonymous": data})
            self.assertNotEqual(stranger["objectId"], victim["objectId"])
            self.assertEqual(set(stranger["authData"]), {"anonymous"})
            self.api("PUT", f"/users/{stranger['objectId']}", {"authData": {"anonymous": data}}, session=stranger["sessionToken"])
            found = self.api("GET", f"/users/{stranger['objectId']}", session=stranger["sessionToken"])
            self.assertEqual(set(found["authData"]), {"anonymous"})
        self.assertEqual(set(self.sign_in({"anonymous": {**main, "id": "evil3"}}, master=True)["authData"]), {"anonymous"})

    def test_union_id_of_another_platform_is_refused_unless_that_is_trusted_too(self):
        data = {"uid": "evil", "unionid": "other", "platform": "weixin", "main_account": False}
        text = self.code(251, "POST", "/users", {"authData": {"github": data}})
        self.assertIn("'weixin'", text)
        user = self.user("platforms")
        self.code(251, "PUT", f"/users/{user['objectId']}", {"authData": {"github": data}}, session=user["sessionToken"])
        self.sign_in({"github": {**data, "main_account": True}}, master=True)
        for trusted in (["github", "weixin"], ["*"]):
            with mock.patch.object(self.service.options, "trusted_providers", frozenset(trusted)):
                self.sign_in({"github": data}, 200)


class ClassPermissions:
    def permit(self, class_name, permissions):
        def work(transaction):
            info = classes.existing(transaction, class_name)
            info.pop("is_new", None)
            transaction.save_class(class_name, {**info, "permissions": permissions})

        before = self.service.store.read(lambda transaction: classes.existing(transaction, class_name)["permissions"])
        self.service.store.write(work)
        return before


class RightsTest(ClassPermissions, ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        test = cls("make")
        cls.alice, cls.bob = test.user("alice"), test.user("bob")

    def role(self, name, users=(), roles=()):
        fields = {"name": name, "ACL": {"*": {"read": True, "write": True}}}
        for key, class_name, ids in (("users", "_User", users), ("roles", "_Role", roles)):
            if ids:
                fields[key] = {"__op": "AddRelation", "objects": [pointer(class_name, object_id) for object_id in ids]}
        return self.api("POST", "/roles", fields, 201)["objectId"]

    def test_acl_matrix(self):
        self.role("writers", users=[self.alice["objectId"]])
        child = self.role("child", users=[self.bob["objectId"]])
        self.role("parent", roles=[child])
        alice = self.alice["objectId"]
        # ACL, then who reads and who writes: nobody, alice, bob, the master
        rows = [
            (None, "nabm", "nabm"),
            ({"*": {"read": True, "write": True}}, "nabm", "nabm"),
            ({"*": {"read": True}}, "nabm", "m"),
            ({}, "m", "m"),
            ({alice: {"read": True, "write": True}}, "am", "am"),
            ({alice: {"write": True}}, "m", "am"),
            ({"role:writers": {"read": True, "write": True}}, "am", "am"),
            ({"role:parent": {"read": True}}, "bm", "m"),
            ({"role:gone": {"read": True, "write": True}}, "m", "m"),
            ({"*": {"read": False}, alice: {"read": True}}, "am", "m"),
        ]
        sessions = {"n": None, "a": self.alice["sessionToken"], "b": self.bob["sessionToken"], "m": None}
        for rights, readers, writers in rows:
            for who, session in sessions.items():
                fields = {"n": 1} if rights is None else {"n": 1, "ACL": rights}
                object_id = self.api("POST", "/classes/Guarded", fields, 201, master=True)["objectId"]
                more = {"session": session, "master": who == "m"}
                with self.subTest(rights=rights, who=who):
                    reads = who in readers
                    where = {"objectId": object_id}
                    self.assertEqual(bool(self.get("Guarded", object_id, **more)), reads)
                    self.assertEqual(bool(self.find("Guarded", where, **more)), reads)
                    counted = self.api("GET", "/classes/Guarded", where=where, count="1", limit="0", **more)
                    self.assertEqual(counted["count"], int(reads))
                    cql = f"select count(*) from Guarded where objectId = '{object_id}'"
                    self.assertEqual(self.api("GET", "/cloudQuery", cql=cql, **more)["count"], int(reads))
                    path = f"/classes/Guarded/{object_id}"
                    if who in writers:
                        self.api("PUT", path, {"n": 2}, **more)
                        self.api("DELETE", path, **more)
                    elif reads:
                        text = self.code(403, "PUT", path, {"n": 2}, status=403, **more)
                        self.assertEqual(text, "Forbidden writing by object's ACL.")
                        self.code(403, "DELETE", path, status=403, **more)
                    else:
                        self.code(1, "PUT", path, {"n": 2}, status=404, **more)
                        self.code(101, "DELETE", path, status=404, **more)

    def test_members_of_a_hidden_owners_relation_are_hidden(self):
        tag = self.make("Tag2", n=1)
        relation = {"__op": "AddRelation", "objects": [pointer("Tag2", tag)]}
        owner = self.make("Owner", master=True, tags=relation, ACL={})
        where = {"$relatedTo": {"object": pointer("Owner", owner), "key": "tags"}}
        self.assertEqual(self.find("Tag2", where), [])
        self.assertEqual(self.find("Tag2", {"$or": [where, {"n": 99}]}), [])
        self.assertEqual(len(self.find("Tag2", where, master=True)), 1)

    def test_role_needs_a_good_unique_name_and_an_acl(self):
        everybody = {"*": {"read": True}}
        self.assertEqual(self.code(1, "POST", "/roles", {"name": "noacl"}), "Role ACL is required.")
        self.code(139, "POST", "/roles", {"ACL": everybody})
        for name in ("", "a/b", "中", 5, "a:b"):
            self.code(139, "POST", "/roles", {"name": name, "ACL": everybody})
        role = self.role("unique-1 x")
        self.code(137, "POST", "/roles", {"name": "unique-1 x", "ACL": everybody})
        self.code(117, "PUT", f"/roles/{role}", {"name": "other"})
        stubs = self.api("GET", f"/roles/{role}")
        self.assertEqual((stubs["users"]["className"], stubs["roles"]["className"]), ("_User", "_Role"))

    def test_circle_of_roles_ends_and_removal_acts_at_once(self):
        one = self.role("circle1", users=[self.alice["objectId"]])
        two = self.role("circle2", roles=[one])
        back = {"__op": "AddRelation", "objects": [pointer("_Role", two)]}
        self.api("PUT", f"/roles/{one}", {"roles": back})
        object_id = self.make("Circle", master=True, ACL={"role:circle2": {"read": True}})
        self.assertTrue(self.get("Circle", object_id, session=self.alice["sessionToken"]))
        found = self.find("_Role", {"users": pointer("_User", self.alice["objectId"]), "name": "circle1"})
        self.assertEqual(len(found), 1)
        gone = {"__op": "RemoveRelation", "objects": [pointer("_User", self.alice["objectId"])]}
        self.api("PUT", f"/roles/{one}", {"users": gone})
        self.assertEqual(self.get("Circle", object_id, session=self.alice["sessionToken"]), {})

    def test_class_permissions_close_each_action(self):
        object_id = self.make("Closed", n=1)
        calls = {
            "find": ("GET", "/classes/Closed"),
            "get": ("GET", f"/classes/Closed/{object_id}"),
            "create": ("POST", "/classes/Closed", {"n": 1}),
            "update": ("PUT", f"/classes/Closed/{object_id}", {"n": 1}),
            "delete": ("DELETE", f"/classes/Closed/{object_id}"),
            "add_fields": ("PUT", f"/classes/Closed/{object_id}", {"fresh": 1}),
        }
        for action, arguments in calls.items():
            self.permit("Closed", {action: {"users": False, "names": []}})
            with self.subTest(action):
                text = self.code(403, *arguments, status=403)
                self.assertEqual(text, f"Forbidden to {action} by class permissions.")
        self.permit("Closed", {"find": {"users": True, "names": []}})
        self.code(403, "GET", "/classes/Closed", status=403)
        self.find("Closed", session=self.alice["sessionToken"])
        self.permit("Closed", {"find": {"users": False, "names": [self.bob["objectId"]]}})
        self.code(403, "GET", "/classes/Closed", status=403, session=self.alice["sessionToken"])
        self.find("Closed", session=self.bob["sessionToken"])
        self.find("Closed", master=True)


class MailTest(ServiceTestCase):
    options = Options(verify_emails=True, public_url="https://storage.example/")

    def link(self, email, kind="resetPassword"):
        """The path of the last link of a kind that an address was sent; those of one millisecond have no order."""
        texts = [message["text"] for message in mail.outbox(self.service.store) if message["to"] == email]
        return [text.split("storage.example/1.1")[1] for text in texts if f"/{kind}/" in text][-1]

    def test_reset_link_sets_the_password_once(self):
        user = self.user("forgot", email="forgot@example.com")
        self.code(205, "POST", "/requestPasswordReset", {"email": "unknown@example.com"})
        self.code(204, "POST", "/requestPasswordReset", {})
        self.assertEqual(self.api("POST", "/requestPasswordReset", {"email": "forgot@example.com"}), {})
        self.code(1, "POST", "/requestPasswordReset", {"email": "forgot@example.com"})
        path = self.link("forgot@example.com")
        page = self.raw("GET", "/1.1" + path)
        self.assertIn(b"<form", page.body)
        self.assertIn("default-src 'none'", page.header("Content-Security-Policy"))
        self.assertEqual((page.header("Cache-Control"), page.header("Referrer-Policy")), ("no-store", "no-referrer"))
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        self.assertEqual(self.raw("POST", "/1.1" + path, b"password=new+pass", form).status, 200)
        self.assertEqual(self.raw("POST", "/1.1" + path, b"password=again", form).status, 400)
        self.code(211, "GET", "/users/me", session=user["sessionToken"])
        self.api("POST", "/login", {"username": "forgot", "password": "new pass"})

    def test_reset_link_is_dead_once_address_or_password_have_changed(self):
        for name, fields in (("address", {"email": "new@example.org"}), ("password", {"password": "changed"})):
            user = self.user(f"moved-{name}", email=f"old-{name}@example.org")
            self.api("POST", "/requestPasswordReset", {"email": user["email"]})
            path = self.link(user["email"])
            self.assertEqual(self.raw("GET", "/1.1" + path).status, 200)
            sleep(0.002)
            self.api("PUT", f"/users/{user['objectId']}", fields, session=user["sessionToken"])
            with self.subTest(name):
                self.assertEqual(self.raw("GET", "/1.1" + path).status, 400)
                self.assertEqual(self.raw("POST", "/1.1" + path, b'{"password":"stolen"}').json()["code"], 211)
                self.code(210, "POST", "/login", {"username": user["username"], "password": "stolen"})

    def test_link_leads_to_the_public_url_whatever_host_is_asked(self):
        self.user("host", email="host@example.com")
        headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"]}
        for host, url, status in (
            ("evil.example", "https://storage.example/", 200),
            ("evil.example", None, 400),
            ("127.0.0.1.evil.example", None, 400),
            ("127.0.0.1:8126", None, 200),
            ("[::1]:8126", None, 200),
            ("localhost", None, 200),
        ):
            self.service.store.write(lambda transaction: transaction.delete_record("mailed", "reset:host@example.com"))
            with self.subTest(host=host, url=url), mock.patch.object(self.service.options, "public_url", url):
                body = b'{"email":"host@example.com"}'
                answer = call(self.application, "POST", "/1.1/requestPasswordReset", body, headers, HTTP_HOST=host)
                self.assertEqual(answer.status, status, answer.body)
                origin = url or f"http://{host}/"
                texts = repr([*mail.outbox(self.service.store)])
                self.assertNotIn("evil.example", texts)
                self.assertEqual(f" {origin}1.1/resetPassword/" in texts, status == 200)

    def test_verification_link_verifies_that_address_once(self):
        user = self.user("verify", email="verify@example.com")
        self.code(1, "POST", "/requestEmailVerify", {"email": "verify@example.com"})  # signing up has sent one just now
        path = self.link("verify@example.com", "verifyEmail")
        self.assertEqual(self.raw("GET", "/1.1" + path).json(), {})
        self.assertIs(self.api("GET", f"/users/{user['objectId']}")["emailVerified"], True)
        self.assertEqual(self.raw("GET", "/1.1" + path).status, 400)
        self.api("PUT", f"/users/{user['objectId']}", {"email": "new@example.com"}, session=user["sessionToken"])
        self.assertIs(self.api("GET", f"/users/{user['objectId']}")["emailVerified"], False)


class FriendsTest(ClassPermissions, ServiceTestCase):
    def test_class_permissions_close_friendship(self):
        alice, bob = self.user("closed-fan"), self.user("closed-star")
        path, token = f"/users/{alice['objectId']}/friendship/{bob['objectId']}", alice["sessionToken"]
        for class_name in ("_Followee", "_Follower"):
            for action, *arguments in (
                ("create", "POST", path, {}),
                ("add_fields", "POST", path, {"fresh": 1}),
                ("find", "GET", f"/users/{alice['objectId']}/followersAndFollowees"),
                ("delete", "DELETE", path),
            ):
                self.permit("_Followee", {})
                self.permit("_Follower", {})
                self.api("POST", path, {}, 200, session=token)
                before = self.permit(class_name, {action: classes.NOBODY})
                with self.subTest(class_name=class_name, action=action):
                    text = self.code(403, *arguments, status=403, session=token)
                    self.assertEqual(text, f"Forbidden to {action} by class permissions.")
                self.permit(class_name, before)
        self.assertEqual(len(self.find("_Followee", {}, master=True)), 1)

    def test_following_writes_both_rows_once(self):
        alice, bob = self.user("fan"), self.user("star")
        path = f"/users/{alice['objectId']}/friendship/{bob['objectId']}"
        token = alice["sessionToken"]
        self.code(206, "POST", path, {}, status=403)
        self.code(403, "POST", path, {}, status=403, session=bob["sessionToken"])
        changed = []
        for _ in range(2):
            attributes = {"group": 1, "marks": {"__op": "Remove", "objects": [1]}}
            self.assertEqual(self.api("POST", path, attributes, 200, session=token), {})
            changed.append([self.find(name, {}, session=token, master=True)[-1]["updatedAt"] for name in ("_Followee", "_Follower")])
        for first, second in zip(*changed, strict=True):
            self.assertLess(first, second)
        [row] = self.find("_Followee", {"user": pointer("_User", alice["objectId"])}, include="followee", session=token)
        self.assertEqual((row["group"], row["marks"], row["followee"]["username"]), (1, [], "star"))
        [row] = self.find("_Follower", {"user": pointer("_User", bob["objectId"])}, session=bob["sessionToken"])
        self.assertEqual(row["follower"]["objectId"], alice["objectId"])
        self.assertEqual(self.find("_Follower", {}), [])
        value = self.api("GET", f"/users/{bob['objectId']}/followersAndFollowees", session=bob["sessionToken"])
        self.assertEqual((value["followers"][0]["follower"]["username"], value["followees"]), ("fan", []))
        self.assertEqual(self.api("DELETE", path, session=token), {})
        self.code(221, "DELETE", path, session=token)


class StatusTest(ClassPermissions, ServiceTestCase):
    def receivers(self, sender, query):
        """The users that a private status goes to."""
        body = {"inboxType": "private", "data": {"message": "m"}, "query": query}
        status = self.api("POST", "/statuses", body, 201, session=sender["sessionToken"])
        rights = self.get("_Status", status["objectId"], session=sender["sessionToken"], returnACL="true")["ACL"]
        return set(rights) - {sender["objectId"]}

    def test_receivers_are_chosen_only_where_the_sender_may_find_them(self):
        alice, eve = self.user("chosen"), self.user("chooser")
        person = pointer("_User", alice["objectId"])
        club = self.make("Club", session=alice["sessionToken"], members={"__op": "AddRelation", "objects": [person]}, ACL={})
        self.make("Secret", master=True, who=person, pin=4711)
        self.make("Open", who=person)
        self.permit("Secret", {"find": classes.NOBODY})
        inner = {"who": {"$inQuery": {"className": "Secret", "where": {"pin": 4711}}}}
        for query in (
            {"className": "_User", "where": {}},
            {"className": "_User", "where": {"username": {"$regex": "^c"}}},
            {"className": "_User", "where": {"objectId": {"$gt": ""}}},
            {"className": "_User", "where": {"objectId": alice["objectId"], "username": "chosen"}},
            {"className": "Secret", "where": {"pin": 4711}, "keys": "who"},
            {"className": "Open", "where": inner, "keys": "who"},
        ):
            with self.subTest(query):
                body = {"inboxType": "private", "data": {"message": "m"}, "query": query}
                self.code(403, "POST", "/statuses", body, status=403, session=eve["sessionToken"])
        for where in (alice["objectId"], {"$in": [alice["objectId"]]}):
            self.assertEqual(self.receivers(eve, {"className": "_User", "where": {"objectId": where}}), {alice["objectId"]})
        named = {"className": "_User", "where": {"username": "chosen"}}
        self.assertEqual(self.receivers(eve, named), {alice["objectId"]})
        self.assertEqual(self.receivers(eve, {"className": "Open", "where": {}, "keys": "who"}), {alice["objectId"]})
        before = self.permit("_User", {})
        members = {"$relatedTo": {"object": pointer("Club", club), "key": "members"}}
        self.assertEqual(self.receivers(eve, {"className": "_User", "where": members}), set())
        self.permit("_User", before)

    def test_inboxes_are_closed_with_their_class(self):
        reader = self.user("inboxed")
        before = self.permit("_Status", {"find": classes.NOBODY})
        for path in ("/subscribe/statuses", "/subscribe/statuses/count"):
            with self.subTest(path):
                self.code(403, "GET", path, status=403, session=reader["sessionToken"])
        self.permit("_Status", before)

    def test_own_followers_alone_receive_where_followers_cannot_be_found(self):
        star, fan, eve = self.user("followed"), self.user("follower"), self.user("curious")
        self.api("POST", f"/users/{fan['objectId']}/friendship/{star['objectId']}", {}, 200, session=fan["sessionToken"])
        query = {"className": "_Follower", "where": {"user": pointer("_User", star["objectId"])}, "keys": "follower"}
        before = self.permit("_Follower", {"find": classes.NOBODY})
        self.assertEqual(self.receivers(star, query), {fan["objectId"]})
        body = {"data": {"message": "m"}, "query": query}
        self.code(403, "POST", "/statuses", body, status=403, session=eve["sessionToken"])
        self.permit("_Follower", before)

    def test_class_permissions_close_statuses(self):
        user = self.user("closed")
        query = {"className": "_User", "where": {"objectId": user["objectId"]}}
        for action, *arguments in (
            ("create", "POST", "/statuses", {"data": {"message": "m"}, "query": query}),
            ("add_fields", "POST", "/statuses", {"data": {"fresh": 1}, "query": query}),
            ("find", "GET", "/subscribe/statuses"),
            ("find", "GET", "/subscribe/statuses/count"),
        ):
            self.receivers(user, query)
            before = self.permit("_Status", {action: classes.NOBODY})
            with self.subTest(action=action):
                text = self.code(403, *arguments, status=403, session=user["sessionToken"])
                self.assertEqual(text, f"Forbidden to {action} by class permissions.")
            self.permit("_Status", before)

    def test_status_reaches_the_inboxes_that_it_is_sent_to(self):
        alice, bob, eve = self.user("sender"), self.user("receiver"), self.user("eve")
        token = alice["sessionToken"]
        query = {"className": "_User", "where": {"objectId": bob["objectId"]}}
        body = {"inboxType": "private", "data": {"message": "hello"}, "query": query}
        self.code(206, "POST", "/statuses", body, status=403)
        status = self.api("POST", "/statuses", body, 201, session=token)
        owner = {"owner": pointer("_User", bob["objectId"]), "inboxType": "private"}
        value = self.api("GET", "/subscribe/statuses/count", session=bob["sessionToken"], **owner)
        self.assertEqual(value, {"total": 1, "unread": 1})
        value = self.api("GET", "/subscribe/statuses", session=bob["sessionToken"], **owner)
        [row] = value["results"]
        self.assertEqual((row["message"], row["messageId"], value["end"]), ("hello", 1, True))
        self.assertEqual(self.api("GET", "/subscribe/statuses", session=eve["sessionToken"], **owner)["results"], [])
        self.api("POST", "/subscribe/statuses/resetUnreadCount", owner, session=bob["sessionToken"])
        value = self.api("GET", "/subscribe/statuses/count", session=bob["sessionToken"], **owner)
        self.assertEqual(value["unread"], 0)
        self.code(101, "DELETE", f"/statuses/{status['objectId']}", status=404, session=eve["sessionToken"])
        self.api("DELETE", f"/statuses/{status['objectId']}", session=token)

    def test_statuses_with_malformed_parts_have_their_codes(self):
        token = self.user("malformed")["sessionToken"]
        for owner in ({"className": "_User"}, {"className": "_User", "objectId": {}}):
            self.code(104, "GET", "/subscribe/statuses", session=token, owner=owner)
        self.assertEqual(self.api("GET", "/subscribe/statuses", session=token, sinceId="²", maxId="²")["results"], [])
        body = {"data": {"message": "hello"}, "query": {"className": "No-class", "where": {}}}
        self.code(103, "POST", "/statuses", body, session=token)

    def test_status_goes_to_pointers_and_to_nothing_that_looks_like_one(self):
        token, bob = self.user("from")["sessionToken"], self.user("to")
        self.make("Followed", user=pointer("_User", bob["objectId"]))
        self.make("Followed", user=None)
        for object_id in ({}, {"objectId": bob["objectId"]}, {"objectId": {"a": 1}}):
            self.make("Similar", user={"className": "_User", **object_id})
        for class_name in ("Followed", "Similar"):
            query = {"className": class_name, "where": {}, "keys": "user"}
            self.api("POST", "/statuses", {"data": {"message": "hello"}, "query": query}, 201, session=token)
        self.assertEqual(self.api("GET", "/subscribe/statuses/count", session=bob["sessionToken"])["total"], 1)


class OutboxTest(ServiceTestCase):
    options = Options(public_url="https://storage.example/")
    letters = iter("abc")

    def setUp(self):
        self.letter = next(self.letters)
        for kind in (mail.OUTBOX, mail.DONE):
            self.service.store.write(lambda transaction: [transaction.delete_record(kind, key) for key, _ in transaction.records(kind)])  # noqa: B023
        for number, address in enumerate(("ab@example.com", "q,w@example.com", "x@example.com,victim", "d@exämple.com")):
            own = f"{self.letter}{address}"
            self.user(f"{self.letter}{number}", email=own)
            self.api("POST", "/requestPasswordReset", {"email": own})

    def run_command(self, *arguments):
        """(exit code, lines of stdout) of `python -m leanstorage outbox`."""
        output = io.StringIO()
        with redirect_stdout(output):
            code = command_line.main(["outbox", "--database", self.database, *arguments])
        return code, output.getvalue().splitlines()

    def test_messages_are_listed_with_id_and_time_and_their_number_last(self):
        code, lines = self.run_command()
        self.assertEqual((code, lines[-1]), (0, "4 messages"))
        self.assertEqual(self.run_command("--json"), (0, lines[:-1]))
        messages = [json.loads(line) for line in lines[:-1]]
        self.assertEqual({frozenset(message) for message in messages}, {frozenset(["id", "time", "to", "subject", "text"])})
        self.assertEqual(len({message["id"] for message in messages}), 4)
        self.assertLess(abs(now() - parse_time(messages[0]["time"])), 60_000)

    def test_each_message_is_handed_on_once_and_again_only_when_the_command_failed(self):
        with tempfile.TemporaryDirectory() as folder:
            box = Path(folder, "box")
            self.assertEqual(self.run_command("--send", "exit 1"), (1, ["0 sent, 4 not"]))
            self.assertEqual(self.run_command("--send", f"cat >> {box}"), (0, ["3 sent, 0 not"]))
            self.assertEqual(self.run_command("--send", f"cat >> {box}"), (0, ["0 sent, 0 not"]))
            text = box.read_text()
        found = sorted(re.findall("^To: (.*)$", text, re.MULTILINE))
        self.assertEqual(found, sorted([f"{self.letter}ab@example.com", f'"{self.letter}q,w"@example.com', f"{self.letter}d@exämple.com"]))
        self.assertEqual(text.count("Subject: Reset your password\n"), 3)
        whole = email.message_from_string("To: " + text.split("To: ")[1], policy=email.policy.default)
        self.assertRegex(whole.get_content(), r"^Reset your password: https://storage.example/1.1/resetPassword/[A-Za-z0-9_-]{43}\n$")
        messages = [*mail.outbox(self.service.store)]
        self.assertEqual(sum("sent" in message for message in messages), 3)
        self.assertEqual([message["to"] for message in messages if "refused" in message], [f"{self.letter}x@example.com,victim"])

    def test_two_that_hand_on_at_the_same_time_share_the_messages_out(self):
        seen = []

        def deliver(data):
            seen.append(data)
            mail.hand_on(self.service.store, lambda other: seen.append(other) or True)
            return True

        mail.hand_on(self.service.store, deliver)
        self.assertEqual((len(seen), len(set(seen))), (3, 3))


class PermissionsTest(ServiceTestCase):
    def run_command(self, *arguments):
        """(exit code, stdout, stderr) of `python -m leanstorage permissions`."""
        output, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(output), redirect_stderr(errors):
            code = command_line.main(["permissions", "--database", self.database, *arguments])
        return code, output.getvalue(), errors.getvalue()

    def test_permissions_are_set_and_shown(self):
        user = self.user("allowed")
        self.api("POST", "/roles", {"name": "admin", "ACL": {}}, 201)
        self.make("Rights", a=1)
        who = f"role:admin,{user['objectId']}"
        code, output, _ = self.run_command("Rights", "--delete", who, "--update", "users", "--create", "nobody")
        self.assertEqual(code, 0)
        wanted = f"find: everyone\nget: everyone\ncreate: nobody\nupdate: users\ndelete: {who}\nadd_fields: everyone\ndefault ACL: everyone\n"
        self.assertEqual(output, wanted)
        self.assertEqual(self.run_command("Rights")[1], wanted)
        self.code(403, "GET", "/classes/_User", status=403)
        self.assertEqual(self.run_command("_User", "--find", "everyone")[0], 0)
        self.assertEqual([row["username"] for row in self.find("_User")], ["allowed"])

    def test_names_of_nobody_are_refused_and_change_nothing(self):
        self.make("Typo", a=1)
        before = self.digest()
        for who, named in (
            ("user", "'user'"),
            ("role:admins", "'admins'"),
            ("everyone,users", "'everyone'"),
            ("", "''"),
            ("role:", "''"),
        ):
            with self.subTest(who):
                code, output, errors = self.run_command("Typo", "--create", "nobody", "--delete", who)
                self.assertEqual((code, output, errors.count("\n")), (1, "", 1))
                self.assertIn(named, errors)
        self.assertEqual(self.digest(), before)
