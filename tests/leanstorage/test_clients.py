"""What SDKs other than today's Python and JavaScript send, transcribed from their sources: protocol appendix C."""
import json
import unittest

from leanstorage.resources import mail
from leanstorage.rules.call import Options
from tests.leanstorage.service_support import KEYS, ServiceTestCase, pointer


class FileKeyTest(ServiceTestCase):
    def token(self, **body):
        return self.api("POST", "/fileTokens", {"name": "a.png", **body}, 201)

    def test_random_key_of_an_old_sdk_is_kept_and_any_other_replaced(self):
        for key in ("0f" * 16 + ".png", "0f" * 20):
            self.assertEqual(self.token(key=key)["key"], key)
        for key in ("mine.png", "../x", "/etc/passwd", "0f" * 16 + "/x", "0F" * 3, 7, "a" * 32 + ".png.exe.x"):
            answer = self.token(key=key)
            self.assertNotEqual(answer["key"], key)
            self.assertRegex(answer["key"], r"\A[a-z0-9]{32}\.png\Z")

    def test_key_chosen_by_the_master_is_kept(self):
        answer = self.api("POST", "/fileTokens", {"name": "a.png", "key": "folder/a.png"}, 201, master=True)
        self.assertEqual(answer["key"], "folder/a.png")

    def test_external_file_may_be_named_in_the_path_and_may_lack_a_url(self):
        answer = self.api("POST", "/files/logo.png", {"url": "https://files.example/logo.png"}, 201)
        stored = self.api("GET", f"/files/{answer['objectId']}")
        self.assertEqual((stored["name"], stored["url"]), ("logo.png", "https://files.example/logo.png"))
        self.api("POST", "/files", {"name": "bare"}, 201)


class OldFormTest(ServiceTestCase):
    def test_login_by_text_plain_with_get_in_the_body_is_a_login(self):
        self.user("oldie")
        body = {"_method": "GET", "_ApplicationId": KEYS["id"], "_ApplicationKey": KEYS["key"], "username": "oldie", "password": "pw"}
        response = self.raw("POST", "/1.1/login", json.dumps(body).encode(), {"Content-Type": "text/plain"})
        self.assertEqual(response.status, 200, response.body)
        self.assertTrue(response.json()["sessionToken"])

    def test_password_in_the_url_stays_refused(self):
        self.code(1, "GET", "/login", username="oldie", password="pw", status=405)


class UsersTest(ServiceTestCase):
    def test_master_alone_sees_session_tokens(self):
        user = self.user("acting")
        self.assertEqual(self.api("GET", f"/users/{user['objectId']}", master=True)["sessionToken"], user["sessionToken"])
        found = self.api("GET", "/users", master=True, keys="username,sessionToken", where={"username": "acting"})["results"]
        self.assertEqual(found[0]["sessionToken"], user["sessionToken"])
        other = self.user("watching")
        shown = self.api("GET", f"/users/{user['objectId']}", session=other["sessionToken"])
        self.assertNotIn("sessionToken", shown)
        self.assertNotIn("sessionToken", self.api("GET", f"/users/{user['objectId']}"))

    def test_user_who_asks_is_shown_its_own_session_token_again(self):
        user, other = self.user("forgetful"), self.user("curious")
        path, token = f"/users/{user['objectId']}", user["sessionToken"]
        self.assertEqual(self.api("GET", path, session=token, include="sessionToken,nick")["sessionToken"], token)
        self.assertNotIn("sessionToken", self.api("GET", path, session=token))
        self.assertNotIn("sessionToken", self.api("GET", path, include="sessionToken"))
        self.assertNotIn("sessionToken", self.api("GET", path, session=other["sessionToken"], include="sessionToken"))

    def test_self_is_the_user_of_the_session(self):
        fan, star = self.user("fan"), self.user("star")
        for method in ("POST", "PUT"):
            self.api(method, f"/users/self/friendship/{star['objectId']}", {"since": 1}, session=fan["sessionToken"])
        found = self.api("GET", "/users/self/followees", session=fan["sessionToken"], count="1")
        self.assertEqual((found["results"][0]["followee"]["username"], found["count"]), ("star", 1))
        found = self.api("GET", f"/users/{star['objectId']}/followers", session=star["sessionToken"], where={"since": 1})
        self.assertEqual(found["results"][0]["follower"]["username"], "fan")
        both = self.api("GET", f"/users/{star['objectId']}/followersAndFollowees", session=star["sessionToken"], count="1", limit="0")
        self.assertEqual(both, {"followers": [], "followees": [], "followers_count": 1, "followees_count": 0})
        self.code(206, "GET", "/users/self/followees", status=403)
        self.api("DELETE", f"/users/self/friendship/{star['objectId']}", session=fan["sessionToken"])

    def test_options_of_a_query_hold_for_both_lists_of_friends(self):
        star, fans = self.user("center"), [self.user(f"around{n}") for n in range(3)]
        token = star["sessionToken"]
        for n, fan in enumerate(fans):
            self.api("POST", f"/users/self/friendship/{star['objectId']}", {"rank": n}, session=fan["sessionToken"])
            self.api("POST", f"/users/self/friendship/{fan['objectId']}", {"rank": n, "note": "x"}, session=token)
        path = f"/users/{star['objectId']}/followersAndFollowees"
        both = self.api("GET", path, session=token, where={"rank": {"$gte": 1}}, order="-rank", include="follower,followee", count="1")
        self.assertEqual([row["follower"]["username"] for row in both["followers"]], ["around2", "around1"])
        self.assertEqual([row["followee"]["username"] for row in both["followees"]], ["around2", "around1"])
        self.assertEqual((both["followers_count"], both["followees_count"]), (2, 2))
        both = self.api("GET", path, session=token, skip="1", limit="1", order="rank", keys="rank")
        self.assertEqual([row["rank"] for row in both["followees"]], [1])
        self.assertNotIn("note", both["followees"][0])
        stranger = self.api("GET", path, where={"rank": 1})
        self.assertEqual((stranger["followers"], stranger["followees"]), ([], []))
        self.code(107, "GET", path, session=token, where="x")
        self.code(102, "GET", path, session=token, where={"rank": {"$nothing": 1}})

    def test_strict_query_needs_a_name_or_an_id(self):
        user = self.user("strictly", nick="n")
        for where in (
            {"username": "strictly"},
            {"objectId": user["objectId"], "nick": "n"},
            {"$and": [{"nick": "n"}, {"username": {"$in": ["strictly", "x"]}}]},
        ):
            found = self.api("GET", "/users/strictlyQuery", where=where)["results"]
            self.assertEqual([row["username"] for row in found], ["strictly"], where)
        for where in ({}, {"nick": "n"}, {"username": {"$regex": "^s"}}, {"username": {"$ne": "x"}}, {"email": "a@b.c"}, {"$or": [{"username": "strictly"}]}, []):
            self.code(102, "GET", "/users/strictlyQuery", where=where)
        self.code(102, "GET", "/users/strictlyQuery")
        self.code(403, "GET", "/users", where={"username": "strictly"}, status=403)
        self.code(102, "GET", "/users/strictlyQuery", where={"username": "strictly", "password": "pw"})

    def test_strict_query_leads_to_no_other_class(self):
        secret = self.make("Diary", username="x", text="secret")
        self.user("writer", diary=pointer("Diary", secret))
        found = self.api("GET", "/users/strictlyQuery", where={"username": "x"}, redirectClassNameForKey="diary")
        self.assertEqual(found, {"results": []})

    def test_column_may_begin_with_a_digit(self):
        user = self.user("waline")
        self.api("PUT", f"/users/{user['objectId']}", {"2fa": "secret"}, session=user["sessionToken"])
        self.assertEqual(self.api("GET", f"/users/{user['objectId']}", session=user["sessionToken"])["2fa"], "secret")


class OddPathTest(ServiceTestCase):
    def test_id_with_a_low_line_is_one_that_nobody_has(self):
        self.make("Present")
        self.assertEqual(self.get("Present", "nonexistent_id"), {})
        request = {"method": "GET", "path": "/1.1/classes/Present/nonexistent_id"}
        self.assertEqual(self.api("POST", "/batch", {"requests": [request]}), [{"success": None}])
        for method in ("PUT", "DELETE"):
            self.code(104, method, "/classes/Present/nonexistent_id", {})
        self.code(211, "GET", "/users/no_body")
        self.code(104, "GET", "/classes/Present/_")

    def test_file_of_objc_is_found_by_its_class_in_lower_case(self):
        file = self.api("POST", "/files", {"url": "https://files.example/a"}, 201)["objectId"]
        self.assertEqual(self.get("_file", file)["url"], "https://files.example/a")
        self.code(103, "GET", "/classes/_user")

    def test_what_is_not_done_is_refused_in_words(self):
        rows = (
            ("POST", "/resetPasswordBySmsCode/123456", "SMS"),
            ("POST", "/resetPasswordBySmsCode", "SMS"),
            ("GET", "/verifyMobilePhone/123456", "SMS"),
            ("POST", "/verfyMobilePhone/123456", "SMS"),
            ("POST", "/stats/collect", "Statistics"),
            ("GET", "/statistics/apps/x/sendPolicy", "Statistics"),
            ("POST", "/stats/breakpad/minidump", "Crash reports"),
            ("POST", "/stats/crash", "Crash reports"),
            ("POST", "/feedback", "User feedback"),
            ("PUT", "/feedback/x", "User feedback"),
            ("GET", "/feedback/x/threads", "User feedback"),
            ("POST", "/feedback/x/threads", "User feedback"),
            ("POST", "/qiniu", "AV.serverURL"),
            ("POST", "/exportData", "leanstorage export"),
            ("GET", "/exportData/x", "leanstorage export"),
            ("GET", "/users/friendshipRequests", "Friend requests"),
            ("POST", "/logout", "refreshSessionToken"),
        )
        for method, path, words in rows:
            with self.subTest(path):
                value = self.api(method, path, {}, status=400)
                self.assertIn(words, value["error"])
                self.assertIn("is not supported by this server.", value["error"])
        response = self.raw("GET", "/storage/1.1/users/tap-support/identity", b"", {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"]})
        self.assertEqual((response.status, "TapSupport" in response.json()["error"]), (400, True))

    def test_log_in_by_url_is_told_what_is_wrong_with_it(self):
        self.assertIn("password in the URL", self.code(1, "GET", "/login", username="a", password="b", status=405))
        self.assertIn("SMS login", self.code(1, "GET", "/login", mobilePhoneNumber="186", smsCode="1", status=405))


class InstallationTest(ServiceTestCase):
    def test_device_is_stored_once_and_updated_after(self):
        body = {"deviceToken": "t1", "installationId": "i1", "deviceType": "android", "channels": ["a"]}
        first = self.api("POST", "/installations", body, 201)
        for again in ({**body, "channels": ["b"]}, {"installationId": "i1", "channels": ["c"]}, {"deviceToken": "t1", "channels": ["d"]}):
            self.assertEqual(self.api("POST", "/classes/_Installation", again, 200)["objectId"], first["objectId"])
        found = self.find("_Installation", master=True)
        self.assertEqual([(row["objectId"], row["channels"]) for row in found], [(first["objectId"], ["d"])])
        self.code(1, "POST", "/installations", {"deviceType": "ios"})

    def test_device_of_android_that_is_not_stored_keeps_the_id_that_its_app_knows(self):
        path = "/installations/0qYaOiU08hqm8bgpDk4CrTXXBs1NPtSs"
        body = {"installationId": "old-phone", "deviceType": "android", "channels": {"__op": "Add", "objects": ["a"]}}
        for _ in range(2):
            self.assertEqual(self.api("PUT", path, body)["objectId"], path[-32:])
        [row] = self.find("_Installation", master=True, where={"installationId": "old-phone"})
        self.assertEqual((row["objectId"], row["channels"]), (path[-32:], ["a", "a"]))
        elsewhere = f"/installations/{'f' * 24}"
        self.assertEqual(self.api("PUT", elsewhere, {"installationId": "old-phone", "n": 1})["objectId"], path[-32:])
        self.code(1, "PUT", elsewhere, {"n": 1}, status=404)
        self.code(305, "PUT", elsewhere, {"installationId": "new"}, where={"n": 1})
        self.code(104, "PUT", "/installations/a-b", {"installationId": "new"})
        self.assertEqual(self.find("_Installation", master=True, where={"installationId": "new"}), [])

    def test_device_of_ios_stays_the_same_when_its_token_changes(self):
        body = {"deviceToken": "ios1", "deviceType": "ios", "channels": ["a"]}
        first = self.api("POST", "/installations", body, 201)["objectId"]
        changed = {"deviceToken": "ios2", "objectId": first}
        self.assertEqual(self.api("POST", "/installations", changed, 200)["objectId"], first)
        request = {"method": "POST", "path": "/1.1/installations", "body": {**changed, "deviceToken": "ios3", "__internalId": first}}
        self.assertEqual(self.api("POST", "/batch/save", {"requests": [request]})[first]["objectId"], first)
        rows = self.find("_Installation", master=True, where={"deviceToken": {"$regex": "^ios"}})
        self.assertEqual([(row["deviceToken"], row["channels"]) for row in rows], [("ios3", ["a"])])
        self.api("POST", "/installations", {"deviceToken": "ios4", "objectId": "f" * 24}, 201)

    def test_strangers_read_none(self):
        object_id = self.api("POST", "/installations", {"deviceToken": "secret"}, 201)["objectId"]
        self.code(403, "GET", "/installations", status=403)
        self.code(403, "GET", f"/classes/_Installation/{object_id}", status=403)
        self.code(403, "GET", "/classes/_Installation", where={"deviceToken": {"$regex": "s"}}, status=403)


class AddressTest(ServiceTestCase):
    def test_address_that_a_mail_program_would_decode_is_refused(self):
        for address in ("=?utf-8?q?a=0aBcc=3ax=40y?=@b.c", "a@=?utf-8?q?b?=", "x=?@b.c", "a b@c.d", "a@b@c", "a\x7f@b.c"):
            with self.subTest(address):
                self.code(125, "POST", "/users", {"username": f"u{address}", "password": "pw", "email": address})

    def test_message_that_is_none_stops_no_other(self):
        rows = {
            "00000000000001-a": "=?utf-8?q?x=0aBcc=3aother=40example.com?=@b.c",
            "00000000000002-b": "a" * 70 + "@" + "b" * 300,
            "00000000000003-c": "good@example.com",
        }
        for key, to in rows.items():
            message = {"to": to, "subject": "s", "text": "t"}
            self.service.store.write(lambda transaction: transaction.put_record("outbox", key, message))  # noqa: B023
        handed = []
        self.assertEqual(mail.hand_on(self.service.store, lambda data: not handed.append(data)), (1, 2))
        self.assertEqual(len(handed), 1)
        self.assertIn(b"To: good@example.com", handed[0])
        self.assertNotIn(b"Bcc", handed[0])


class VerificationTest(ServiceTestCase):
    options = Options(verify_emails=True, public_url="https://storage.example")

    def messages(self):
        return [message["to"] for message in mail.outbox(self.service.store)]

    def test_sign_up_and_a_changed_address_send_the_link(self):
        user = self.user("mailed", email="one@example.com")
        self.assertEqual(self.messages(), ["one@example.com"])
        self.api("PUT", f"/users/{user['objectId']}", {"nick": "n"}, session=user["sessionToken"])
        self.assertEqual(self.messages(), ["one@example.com"])
        self.api("PUT", f"/users/{user['objectId']}", {"email": "two@example.com"}, session=user["sessionToken"])
        self.assertEqual(self.messages(), ["one@example.com", "two@example.com"])
        link = [*mail.outbox(self.service.store)][-1]["text"].split("https://storage.example/1.1")[1]
        self.api("GET", link)
        self.assertTrue(self.api("GET", f"/users/{user['objectId']}", session=user["sessionToken"])["emailVerified"])

    def test_refused_sign_up_sends_nothing(self):
        self.user("taken")
        before = self.messages()
        self.code(202, "POST", "/users", {"username": "taken", "password": "pw", "email": "three@example.com"})
        self.assertEqual(self.messages(), before)


class CqlTest(ServiceTestCase):
    def cql(self, text, *values, **more):
        return self.api("GET", "/cloudQuery", cql=text, pvalues=json.dumps(values), **more)

    def test_object_is_inserted_updated_and_deleted(self):
        friend = pointer("_User", "5" * 24)
        day = {"__type": "Date", "iso": "2026-11-28T00:00:00.000Z"}
        answer = self.cql("insert into Note(title, n, who, day) values(?, 3, ?, ?)", "it's", friend, day)
        [note] = answer["results"]
        self.assertEqual((answer["className"], note["title"], note["n"], note["who"], note["day"]), ("Note", "it's", 3, friend, day))
        answer = self.cql("update Note set n = ?, title = 'new' where objectId = ?", 4, note["objectId"])
        self.assertEqual(self.get("Note", note["objectId"])["n"], 4)
        self.assertEqual(answer["results"][0]["title"], "new")
        self.assertEqual(self.cql("delete from Note where objectId = ?", note["objectId"])["results"], [])
        self.assertEqual(self.get("Note", note["objectId"]), {})

    def test_rights_are_those_of_the_single_calls(self):
        owner = self.user("writer")
        rights = {owner["objectId"]: {"read": True, "write": True}}
        note = self.make("Closed", session=owner["sessionToken"], n=1, ACL=rights)
        for code, text in ((1, "update Closed set n = 2 where objectId = ?"), (101, "delete from Closed where objectId = ?")):
            self.code(code, "GET", "/cloudQuery", cql=text, pvalues=json.dumps([note]), status=404)
        self.code(217, "GET", "/cloudQuery", cql="insert into _User(username, password) values(' ', 'x')")

    def test_other_statements_are_syntax_errors(self):
        for text in (
            "update Note set n = 1",
            "update Note set n = 1 where n = 2",
            "delete from Note",
            "delete from Note where objectId = 'a' or 1 = 1",
            "insert into Note(a, b) values(1)",
            "insert into Note() values()",
            "update Note set where objectId = 'a'",
            "delete from Note where objectId = 5",
            "drop table Note",
        ):
            with self.subTest(text):
                self.code(300, "GET", "/cloudQuery", cql=text)


if __name__ == "__main__":
    unittest.main()
