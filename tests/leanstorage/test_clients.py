"""What SDKs other than today's Python and JavaScript send, transcribed from their sources: protocol appendix C."""
import json
import unittest

from leanstorage.resources import mail
from leanstorage.rules.call import Options
from tests.leanstorage.service_support import KEYS, ServiceTestCase, pointer


class BatchSaveTest(ServiceTestCase):
    def save(self, *requests, **more):
        return self.api("POST", "/batch/save", {"requests": list(requests)}, **more)

    def test_new_object_is_answered_under_the_clients_id(self):
        request = {"method": "POST", "path": "/1.1/classes/Todo", "body": {"__internalId": "local-1", "title": "x"}}
        answer = self.save(request)
        self.assertEqual(set(answer), {"local-1"})
        self.assertEqual(set(answer["local-1"]), {"objectId", "createdAt"})
        stored = self.get("Todo", answer["local-1"]["objectId"])
        self.assertEqual(stored["title"], "x")
        self.assertNotIn("__internalId", stored)

    def test_children_become_pointers_whatever_the_order_of_the_requests(self):
        child = {"method": "POST", "path": "/1.1/classes/Child", "body": {"__internalId": "c", "name": "leaf"}}
        link = [{"className": "Child", "cid": "c", "key": "child"}]
        parent = {"method": "POST", "path": "/1.1/classes/Parent", "body": {"__internalId": "p", "__children": link}}
        for order in ((child, parent), (parent, child)):
            answer = self.save(*order)
            stored = self.get("Parent", answer["p"]["objectId"], include="child")
            self.assertEqual(stored["child"]["name"], "leaf")
            self.assertEqual(stored["child"]["objectId"], answer["c"]["objectId"])
            self.assertNotIn("__children", stored)

    def test_update_is_answered_under_the_object_id_with_what_operations_changed(self):
        object_id = self.make("Score", points=1, tags=["a"])
        body = {"__internalId": object_id, "points": {"__op": "Increment", "amount": 2}, "plain": "y"}
        answer = self.save({"method": "PUT", "path": f"/1.1/classes/Score/{object_id}", "body": body})
        self.assertEqual(set(answer), {object_id})
        self.assertEqual(answer[object_id]["points"], 3)
        self.assertIn("updatedAt", answer[object_id])
        self.assertNotIn("plain", answer[object_id])

    def test_several_operations_on_one_object_are_applied_in_order_and_answered_once(self):
        object_id = self.make("Score", tags=["a"])
        path = f"/1.1/classes/Score/{object_id}"
        add = {"method": "PUT", "path": path, "body": {"__internalId": object_id, "tags": {"__op": "Add", "objects": ["b"]}}}
        remove = {"method": "PUT", "path": path, "body": {"__internalId": object_id, "tags": {"__op": "Remove", "objects": ["a"]}}}
        answer = self.save(add, remove)
        self.assertEqual(list(answer), [object_id])
        self.assertEqual(answer[object_id]["tags"], ["b"])

    def test_whole_object_is_answered_when_asked_for(self):
        request = {"method": "POST", "path": "/1.1/classes/Todo", "body": {"__internalId": "l", "a": 1}, "params": {"fetchWhenSave": True}}
        self.assertEqual(self.save(request)["l"]["a"], 1)
        request = {"method": "POST", "path": "/1.1/classes/Todo", "body": {"__internalId": "l", "a": 1}, "new": True}
        self.assertEqual(self.save(request)["l"]["a"], 1)

    def test_request_that_cannot_be_done_stores_nothing_of_the_call(self):
        object_id = self.make("Whole", n=1)
        good = {"method": "POST", "path": "/1.1/classes/Whole", "body": {"__internalId": "a", "n": 2}}
        change = {"method": "PUT", "path": f"/1.1/classes/Whole/{object_id}", "body": {"__internalId": object_id, "n": 9}}
        rows = {
            "type": ({"method": "POST", "path": "/1.1/classes/Whole", "body": {"__internalId": "b", "n": "text"}}, 111),
            "unknown id": ({"method": "PUT", "path": "/1.1/classes/Whole/" + "f" * 24, "body": {"n": 1}}, 1),
            "file": ({"method": "POST", "path": "/1.1/classes/_File", "body": {}}, 1),
            "get": ({"method": "GET", "path": "/1.1/classes/Whole", "body": {}}, 107),
            "no body": ({"method": "POST", "path": "/1.1/classes/Whole"}, 107),
            "other path": ({"method": "POST", "path": "/1.1/classes/Whole/../_User", "body": {}}, 107),
            "children": ({"method": "POST", "path": "/1.1/classes/Whole", "body": {"__children": [{"cid": "x"}]}}, 107),
        }
        before = self.digest()
        for name, (bad, code) in rows.items():
            with self.subTest(name):
                answer = self.save(good, change, bad, status=404 if code == 1 and name == "file" else 404 if name == "unknown id" else 400)
                self.assertEqual(answer["code"], code, answer)
                self.assertEqual(self.digest(), before)

    def test_rights_hold_as_for_single_calls(self):
        owner, other = self.user("saver"), self.user("thief")
        rights = {owner["objectId"]: {"read": True, "write": True}}
        object_id = self.make("Private", session=owner["sessionToken"], n=1, ACL=rights)
        request = {"method": "PUT", "path": f"/1.1/classes/Private/{object_id}", "body": {"__internalId": object_id, "n": 2}}
        self.code(1, "POST", "/batch/save", {"requests": [request]}, session=other["sessionToken"], status=404)
        self.api("PUT", f"/classes/Private/{object_id}", {"ACL": {**rights, "*": {"read": True}}}, session=owner["sessionToken"])
        self.code(403, "POST", "/batch/save", {"requests": [request]}, session=other["sessionToken"], status=403)
        self.assertEqual(self.save(request, session=owner["sessionToken"])[object_id]["objectId"], object_id)

    def test_user_saves_itself_and_nobody_else(self):
        user, other = self.user("selfish"), self.user("victim")
        for one, status in ((user, 200), (other, 403)):
            path = f"/1.1/users/{one['objectId']}"
            request = {"method": "PUT", "path": path, "body": {"__internalId": one["objectId"], "nick": "n"}}
            self.save(request, session=user["sessionToken"], status=status)
        self.save({"method": "POST", "path": "/1.1/classes/_User", "body": {"__internalId": "u", "username": "x"}}, status=404)


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

    def test_column_may_begin_with_a_digit(self):
        user = self.user("waline")
        self.api("PUT", f"/users/{user['objectId']}", {"2fa": "secret"}, session=user["sessionToken"])
        self.assertEqual(self.api("GET", f"/users/{user['objectId']}", session=user["sessionToken"])["2fa"], "secret")


class InstallationTest(ServiceTestCase):
    def test_device_is_stored_once_and_updated_after(self):
        body = {"deviceToken": "t1", "installationId": "i1", "deviceType": "android", "channels": ["a"]}
        first = self.api("POST", "/installations", body, 201)
        for again in ({**body, "channels": ["b"]}, {"installationId": "i1", "channels": ["c"]}, {"deviceToken": "t1", "channels": ["d"]}):
            self.assertEqual(self.api("POST", "/classes/_Installation", again, 200)["objectId"], first["objectId"])
        found = self.find("_Installation", master=True)
        self.assertEqual([(row["objectId"], row["channels"]) for row in found], [(first["objectId"], ["d"])])
        self.code(1, "POST", "/installations", {"deviceType": "ios"})

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
        link = mail.outbox(self.service.store)[-1]["text"].split("https://storage.example/1.1")[1]
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
        texts = ("update Closed set n = 2 where objectId = ?", "delete from Closed where objectId = ?")
        for text, code in zip(texts, (1, 101)):
            self.code(code, "GET", "/cloudQuery", cql=text, pvalues=json.dumps([note]), status=404)
        self.api("PUT", f"/classes/Closed/{note}", {"ACL": {**rights, "*": {"read": True}}}, session=owner["sessionToken"])
        for text in texts:
            self.code(403, "GET", "/cloudQuery", cql=text, pvalues=json.dumps([note]), status=403)
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


class ReferencesTest(ServiceTestCase):
    def test_pointer_of_a_child_may_name_a_stored_object(self):
        child = self.make("Child", name="old")
        body = {"__internalId": "p", "__children": [{"className": "Child", "cid": child, "key": "child"}]}
        answer = self.api("POST", "/batch/save", {"requests": [{"method": "POST", "path": "/1.1/classes/Parent", "body": body}]})
        self.assertEqual(self.get("Parent", answer["p"]["objectId"])["child"], pointer("Child", child))


if __name__ == "__main__":
    unittest.main()
