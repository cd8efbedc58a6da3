"""Calls that are refused, each for one reason, and what calls cost their address: codes, texts, counts."""
import json
import unittest
from types import SimpleNamespace
from unittest import mock

from leanstorage.resources import sessions
from leanstorage.rules import attempts, call, passwords
from leanstorage.rules.call import Caller, Call, Options, Service, Traffic, Trouble
from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.values import parse_time
from tests.leanstorage.service_support import KEYS, ServiceTestCase, pointer

HEADERS = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
RIGHTS = {"*": {"read": True}}


def setUpModule():
    cheap = mock.patch.dict(passwords.SCRYPT, n=2**4)  # what a hash costs is tested in test_passwords.py
    cheap.start()
    unittest.addModuleCleanup(cheap.stop)


class RefusedTest(ServiceTestCase):
    """One table for all: (code, method, path, body, who asks or what else is said, a part of the text)."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.token = None

    def setUp(self):
        if not self.token:
            type(self).me = self.user("refused", email="refused@example.org")
            type(self).token = self.me["sessionToken"]
            type(self).role = self.api("POST", "/roles", {"name": "known", "ACL": RIGHTS}, 201)["objectId"]

    def refuse(self, rows):
        for code, method, path, body, more, text in rows:
            with self.subTest(method, path=path, body=str(body)[:100], more=more):
                self.assertIn(text, self.code(code, method, path, body, **{"session": self.token, **more}))

    def test_batch(self):
        def item(**request):
            return {"requests": [{"method": "GET", "path": "/1.1/classes/Foo", **request}]}

        rows = (
            (107, item(path="/1.1/classes/Foo?limit=1&limit=2"), "repeats a name"),
            (107, item(params=[]), "params must be an object"),
            (107, {"requests": [5]}, "needs method and path"),
            (107, {"requests": [{}]}, "needs method and path"),
            (1, item(method="PATCH"), "Method Not Allowed."),
            (1, item(path="/1.1"), "Not Found."),
            (1, item(path="/1.1/classes/%2e%2e"), "Not Found."),
            (1, item(path="/1.1/classes/a%2fb"), "Not Found."),
            (1, item(path="/1.1/classes//x"), "Not Found."),
            (107, item(path="/1.1/classes/a%00"), "NUL"),
            (1, item(path="/1.1/batch", method="POST"), "Not Found."),
            (1, item(path="/1.1/nowhere"), "there is nothing at this path"),
        )
        for code, body, text in rows:
            with self.subTest(body):
                [answer] = self.api("POST", "/batch", body)
                self.assertEqual(answer["error"]["code"], code)
                self.assertIn(text, answer["error"]["error"])
        self.refuse(
            (
                (107, "POST", "/batch", {"requests": 5}, {}, "requests must be a non-empty array"),
                (107, "POST", "/batch", {"requests": []}, {}, "requests must be a non-empty array"),
                (1, "POST", "/batch", {"requests": [{}] * 1001}, {}, "at most 1000 requests"),
            )
        )
        self.assertEqual(len(self.api("POST", "/batch", {"requests": [{}] * 1000})), 1000)
        made, found = self.api("POST", "/batch", {"requests": [{"path": "/1/classes/Foo", "method": "POST"}, {"path": "/1.1/classes/Foo?limit=0", "params": {"count": 1}}]})
        self.assertEqual((set(made["success"]), found), ({"objectId", "createdAt"}, {"success": {"results": [], "count": 1}}))

    def test_batch_of_the_sdks_that_save_trees(self):
        one = self.make("Tree", n=1)

        def saved(path, method="POST", body=None):
            return {"method": method, "path": path, "body": {} if body is None else body}

        def tree(**body):
            return {"requests": [saved("/1.1/classes/Tree", body=body)]}

        child = {"className": "Leaf", "cid": "leaf", "key": "k"}
        leaf = saved("/1.1/classes/Leaf", body={"__internalId": "leaf"})
        shape = "each request needs a method (POST or PUT)"
        own = f"/1.1/classes/Tree/{one}"
        conditions = [{**saved(own, "PUT"), "params": {"where": {"n": number}}} for number in (1, 2)]
        self.refuse(
            [
                (code, "POST", "/batch/save", body, {}, text)
                for code, body, text in (
                    (107, {}, "requests must be a non-empty array"),
                    (107, {"requests": []}, "requests must be a non-empty array"),
                    (107, {"requests": {"a": 1}}, "requests must be a non-empty array"),
                    (1, {"requests": [saved("/1.1/classes/Tree")] * 1001}, "at most 1000 requests"),
                    (107, {"requests": [5]}, shape),
                    (107, {"requests": [saved(5)]}, shape),
                    (107, {"requests": [saved("/1.1/classes/Tree", body=[])]}, shape),
                    (107, {"requests": [saved("/1.1/classes/Tree", "DELETE")]}, shape),
                    (107, tree(__internalId=5), "__internalId must be a text"),
                    (107, tree(__internalId="i" * 201), "__internalId must be a text"),
                    (107, tree(__children={}), "__children an array"),
                    (107, {"requests": [saved("/1.1/classes/Tree", "PUT")]}, "a PUT needs an objectId"),
                    (107, {"requests": [leaf, saved("/1.1/classes/Tree", body={"__internalId": "leaf"})]}, "of two classes"),
                    (107, {"requests": [leaf, saved("/1.1/classes/Tree", body={"__children": [{**child, "className": "Tree"}]})]}, "of another class than it says"),
                    (107, tree(__children=[5]), "needs className, cid and key"),
                    (107, tree(__children=[{**child, "className": 5}]), "needs className, cid and key"),
                    (107, tree(__children=[{**child, "cid": 5}]), "needs className, cid and key"),
                    (107, tree(__children=[{**child, "key": 5}]), "needs className, cid and key"),
                    (104, tree(__children=[{**child, "cid": "a-b"}]), "Invalid objectId"),
                    (107, {"requests": conditions}, "one object has two conditions"),
                    (119, {"requests": [saved("/1.1/classes/_File/abc")]}, "A file cannot be changed."),
                    (119, {"requests": [saved("/1.1/classes/_File", "PUT")]}, "A file cannot be changed."),
                    (139, {"requests": [saved("/1.1/roles", body={"name": "a  b", "ACL": RIGHTS})]}, "Role's name is invalid."),
                    (1, {"requests": [saved("/1.1/roles", body={"name": "new"})]}, "Role ACL is required."),
                )
            ]
        )
        answer = self.api("POST", "/batch/save", tree(__internalId="i" * 200))
        self.assertEqual(set(answer["i" * 200]), {"objectId", "createdAt"})
        answer = self.api("POST", "/batch/save", {"requests": [leaf, saved("/1/classes/Tree", body={"__internalId": "t", "__children": [child]})]})
        self.assertEqual(self.get("Tree", answer["t"]["objectId"])["k"], pointer("Leaf", answer["leaf"]["objectId"]))

    def test_files(self):
        self.refuse(
            (
                (1, "POST", "/fileTokens", {}, {}, "A file needs a name."),
                (1, "POST", "/fileTokens", {"name": 5}, {}, "A file needs a name."),
                (1, "POST", "/fileTokens", {"name": "n" * 1001}, {}, "A file needs a name."),
                (1, "POST", "/fileTokens", {"name": "n", "prefix": "a/../b"}, {}, "The prefix of a file"),
                (1, "POST", "/fileTokens", {"name": "n", "prefix": "p" * 223}, {}, "The prefix of a file"),
                (1, "POST", "/fileTokens", {"name": "n", "key": "../a"}, {"master": True}, "Unsupported file key"),
                (1, "POST", "/fileTokens", {"name": "n", "key": ""}, {"master": True}, "Unsupported file key"),
                (123, "POST", "/fileTokens", {"name": "n", "ACL": {"u": 5}}, {}, "Malformed ACL"),
                (1, "POST", "/files", {"name": "n", "url": 5}, {}, "The url of an external file must be a text."),
                (1, "POST", "/files", {"name": "n", "url": ""}, {}, "The url of an external file must be a text."),
                (1, "POST", "/files/n", {}, {}, "A file needs a url, or its bytes."),
                (1, "POST", "/files/n", {"base64": "a"}, {}, "The base64 of a file is malformed."),
                (1, "POST", "/files/n", {"base64": 5}, {}, "The base64 of a file is malformed."),
                (1, "POST", "/files/n", {"base64": "data:a;base64,data:a;base64,AA=="}, {}, "The base64 of a file is malformed."),
                (119, "PUT", "/files/abc", {"name": "n"}, {}, "A file cannot be changed."),
            )
        )
        self.assertEqual(self.api("POST", "/fileTokens", {"name": "n" * 1000}, 201)["mime_type"], "application/octet-stream")
        self.assertTrue(self.api("POST", "/fileTokens", {"name": "n", "prefix": "p" * 222}, 201)["key"].startswith("p" * 222 + "/"))

    def test_users(self):
        mine = f"/users/{self.me['objectId']}"
        self.refuse(
            (
                (200, "POST", "/users", {"password": "p"}, {}, ""),
                (200, "POST", "/users", {"username": "", "password": "p"}, {}, ""),
                (200, "POST", "/users", {"username": 5, "password": "p"}, {}, ""),
                (217, "POST", "/users", {"username": " ", "password": "p"}, {}, ""),
                (201, "POST", "/users", {"username": "u"}, {}, ""),
                (201, "POST", "/users", {"username": "u", "password": 5}, {}, ""),
                (218, "POST", "/users", {"username": "u", "password": " "}, {}, ""),
                (1, "POST", "/users", {"username": "u", "password": "p" * 1025}, {}, "longer than 1024 characters"),
                (202, "POST", "/users", {"username": "refused", "password": "p"}, {}, ""),
                (203, "POST", "/users", {"username": "u", "password": "p", "email": "refused@example.org"}, {}, ""),
                (125, "POST", "/users", {"username": "u", "password": "p", "email": "a@b@c"}, {}, ""),
                (127, "POST", "/users", {"username": "u", "password": "p", "mobilePhoneNumber": "1"}, {}, ""),
                (105, "POST", "/users", {"username": "u", "password": "p", "password.x": 1}, {}, "'password.x'"),
                (200, "PUT", mine, {"username": ""}, {}, ""),
                (200, "PUT", mine, {"username": None}, {}, ""),
                (217, "PUT", mine, {"username": " "}, {}, ""),
                (113, "PUT", mine, {"username": {"__op": "Delete"}}, {}, "'username'"),
                (105, "PUT", mine, {"sessionToken.x": 1}, {}, "'sessionToken.x'"),
                (105, "PUT", mine, {"authData.weibo": {"uid": "1"}}, {}, "'authData.weibo'"),
                (105, "PUT", mine, {"authData.weibo.uid": {"__op": "Delete"}}, {}, "'authData.weibo.uid'"),
                (107, "PUT", mine, {"authData": {"__op": "Add", "objects": []}}, {"master": True}, "authData must be an object"),
                (107, "PUT", mine, {"authData": 5}, {}, "authData must be an object"),
                (201, "PUT", mine, {"password": ""}, {}, ""),
                (201, "PUT", f"{mine}/updatePassword", {"old_password": "pw"}, {}, ""),
                (201, "PUT", f"{mine}/updatePassword", {"old_password": "pw", "new_password": 5}, {}, ""),
                (218, "PUT", f"{mine}/updatePassword", {"old_password": "pw", "new_password": " "}, {}, ""),
                (210, "PUT", f"{mine}/updatePassword", {"old_password": 5, "new_password": "n"}, {}, ""),
                (210, "PUT", f"{mine}/updatePassword", {"old_password": "p" * 1025, "new_password": "n"}, {}, ""),
                (211, "PUT", "/users/none/updatePassword", {"old_password": "pw", "new_password": "n"}, {}, ""),
                (211, "PUT", "/users/none/refreshSessionToken", {}, {}, ""),
                (206, "PUT", f"{mine}/refreshSessionToken", {}, {"session": None, "status": 403}, ""),
                (1, "PUT", "/users/none", {"a": 1}, {"status": 404}, "'none' for class '_User'"),
                (1, "PUT", "/users/none", {"password": "p"}, {"status": 404}, "'none' for class '_User'"),
                (101, "DELETE", "/users/none", None, {"status": 404}, ""),
                (206, "DELETE", mine, None, {"session": None, "status": 403}, ""),
                (211, "GET", "/users/none", None, {}, ""),
                (211, "GET", "/users/me", None, {"session": None}, ""),
                (200, "POST", "/login", {"password": "p"}, {}, ""),
                (200, "POST", "/login", {"username": 5, "password": "p"}, {}, ""),
                (201, "POST", "/login", {"username": "refused"}, {}, ""),
                (201, "POST", "/login", {"username": "refused", "password": 5}, {}, ""),
                (211, "POST", "/login", {"username": "nobody", "password": "p"}, {}, ""),
                (603, "POST", "/login", {"mobilePhoneNumber": "13912345678", "smsCode": "123456"}, {}, "SMS login"),
                (1, "POST", "/requestEmailVerify", {"email": "refused@example.org"}, {}, "enable the option"),
                (204, "POST", "/requestPasswordReset", {"email": 5}, {}, ""),
                (204, "POST", "/requestPasswordReset", {"email": ""}, {}, ""),
                (201, "POST", "/resetPassword/x", {"password": 5}, {}, ""),
                (201, "POST", "/resetPassword/x", {"password": " "}, {}, ""),
                (201, "POST", "/resetPassword/x", {"password": "p" * 1025}, {}, ""),
                (211, "POST", "/resetPassword/x", {"password": "p" * 1024}, {}, ""),
                (211, "GET", "/verifyEmail/x", None, {}, ""),
            )
        )

    def test_friends_statuses_and_roles(self):
        me = self.me["objectId"]
        status = {"data": {"a": 1}, "query": {"className": "_User", "where": {"username": "refused"}}}
        self.refuse(
            (
                (211, "POST", f"/users/{me}/friendship/none", {}, {}, ""),
                (104, "POST", f"/users/{me}/friendship/a-b", {}, {}, "'a-b'"),
                (206, "POST", "/users/self/friendship/none", {}, {"session": None, "status": 403}, ""),
                (206, "POST", f"/users/{me}/friendship/none", {}, {"session": None, "status": 403}, ""),
                (403, "POST", "/users/none/friendship/none", {}, {"status": 403}, "by another user"),
                (221, "DELETE", f"/users/{me}/friendship/none", None, {}, ""),
                (104, "DELETE", f"/users/{me}/friendship/a-b", None, {}, "'a-b'"),
                (206, "DELETE", f"/users/{me}/friendship/none", None, {"session": None, "status": 403}, ""),
                (102, "GET", "/users/self/followers", None, {"where": [1]}, "where must be an object"),
                (102, "GET", "/users/self/followers", None, {"where": "5"}, "where must be an object"),
                (107, "GET", "/users/self/followersAndFollowees", None, {"where": "{"}, "where"),
                (206, "GET", "/users/self/followers", None, {"session": None, "status": 403}, ""),
                (206, "POST", "/statuses", status, {"session": None, "status": 403}, ""),
                (206, "DELETE", "/statuses/none", None, {"session": None, "status": 403}, ""),
                (107, "POST", "/statuses", {**status, "data": 5}, {}, "needs data and query"),
                (107, "POST", "/statuses", {**status, "query": 5}, {}, "needs data and query"),
                (107, "POST", "/statuses", {**status, "query": {"className": 5}}, {}, "needs data and query"),
                (1, "POST", "/statuses", {**status, "inboxType": 5}, {}, "inboxType must be a name"),
                (1, "POST", "/statuses", {**status, "inboxType": "a b"}, {}, "inboxType must be a name"),
                (1, "POST", "/statuses", {**status, "inboxType": "i" * 101}, {}, "inboxType must be a name"),
                (102, "GET", "/subscribe/statuses", None, {"order": "other"}, "messageId or -messageId"),
                (107, "GET", "/subscribe/statuses", None, {"owner": "{"}, "owner"),
                (106, "GET", "/subscribe/statuses", None, {"owner": {"a": 1}}, ""),
                (1, "DELETE", "/subscribe/statuses/inbox", None, {}, "A messageId is needed."),
                (1, "DELETE", "/subscribe/statuses/inbox", None, {"messageId": "1" * 13}, "A messageId is needed."),
                (139, "POST", "/roles", {"ACL": RIGHTS}, {}, ""),
                (139, "POST", "/roles", {"name": "", "ACL": RIGHTS}, {}, ""),
                (139, "POST", "/roles", {"name": " a", "ACL": RIGHTS}, {}, ""),
                (139, "POST", "/roles", {"name": "a ", "ACL": RIGHTS}, {}, ""),
                (139, "POST", "/roles", {"name": "a" * 201, "ACL": RIGHTS}, {}, ""),
                (1, "POST", "/roles", {"name": "a"}, {}, "Role ACL is required."),
                (137, "POST", "/roles", {"name": "known", "ACL": RIGHTS}, {}, "'name'"),
                (117, "PUT", f"/roles/{self.role}", {"name": "other"}, {"master": True}, "'name' is read-only"),
            )
        )
        self.api("POST", "/roles", {"name": "a" * 200, "ACL": RIGHTS}, 201)
        self.api("PUT", f"/roles/{self.role}", {"name": "known", "a": 1}, master=True)
        self.api("POST", "/statuses", {**status, "inboxType": "i" * 100}, 201, session=self.token)
        self.api("DELETE", "/subscribe/statuses/inbox", session=self.token, messageId="1" * 12)

    def test_objects_and_queries(self):
        one = self.make("Row", n=1, text="x")
        path = f"/classes/Row/{one}"
        self.refuse(
            (
                (107, "POST", "/classes/Row", {}, {"where": "7"}, "where must be an object"),
                (107, "PUT", path, {"n": 1}, {"where": 5}, "where must be an object"),
                (107, "PUT", path, {"n": 1}, {"where": "{"}, "where"),
                (305, "PUT", path, {"n": 1}, {"where": {"n": 2}}, ""),
                (305, "DELETE", path, None, {"where": {"n": 2}}, ""),
                (1, "PUT", "/classes/Row/none", {"n": 1}, {"status": 404}, "'none' for class 'Row'"),
                (104, "PUT", "/classes/Row/a-b", {"n": 1}, {}, "'a-b'"),
                (101, "DELETE", "/classes/Row/none", None, {"status": 404}, ""),
                (104, "DELETE", "/classes/Row/a,a-b", None, {}, "'a-b'"),
                (1, "DELETE", "/classes/Row/" + ",".join(f"a{number}" for number in range(1001)), None, {}, "More than 1000 ids."),
                (104, "GET", "/classes/Row/a-b", None, {}, "'a-b'"),
                (101, "GET", "/classes/None", None, {"status": 404}, ""),
                (101, "GET", "/classes/None/a", None, {"status": 404}, ""),
                (102, "GET", "/classes/Row", None, {"order": "a b"}, "'a b' is not a key"),
                (102, "GET", "/users/strictlyQuery", None, {"where": {"n": 1}}, "objectId or username"),
                (102, "GET", "/users/strictlyQuery", None, {"where": [{"username": "u"}]}, "objectId or username"),
                (102, "GET", "/users/strictlyQuery", None, {"where": {"username": {"$gt": "u"}}}, "objectId or username"),
                (102, "GET", "/users/strictlyQuery", None, {"where": {"$or": [{"username": "u"}]}}, "objectId or username"),
                (1, "GET", "/schemas", None, {}, "master key"),
                (1, "GET", "/schemas/Row", None, {}, "master key"),
                (101, "GET", "/schemas/None", None, {"master": True, "status": 404}, ""),
                (1, "GET", "/scan/classes/Row", None, {}, "master key"),
                (300, "GET", "/cloudQuery", None, {}, "cql is missing"),
                (300, "GET", "/cloudQuery", None, {"cql": " "}, "cql is missing"),
                (1, "POST", "/installations", {"deviceType": "ios"}, {}, "deviceToken or an installationId"),
                (1, "POST", "/installations", {"deviceToken": ""}, {}, "deviceToken or an installationId"),
                (1, "POST", "/functions/none", {}, {"status": 404}, "No engine"),
                (119, "POST", "/requestSmsCode", {"mobilePhoneNumber": "13912345678"}, {}, "SMS"),
            )
        )
        self.api("DELETE", "/classes/Row/" + ",".join(f"a{number}" for number in range(1000)))
        self.assertEqual(self.api("GET", "/classes/Row/none"), {})
        for where in ({"username": "u"}, {"objectId": {"$eq": "a"}}, {"username": {"$in": []}}, {"$and": [{"n": 1}, {"username": "u"}]}):
            with self.subTest(where):
                self.assertEqual(self.api("GET", "/users/strictlyQuery", where=where)["results"], [])


class TrafficTest(ServiceTestCase):
    """How many calls, sign-ups, mails and bytes an address has."""

    def post(self, path, body, address="9.9.9.9", **headers):
        return self.raw("POST", "/1.1" + path, json.dumps(body).encode(), {**HEADERS, **headers}, REMOTE_ADDR=address)

    def limited(self, number, field="traffic", seconds=60):
        patches = (
            mock.patch.object(self.service.options, "max_requests_per_minute", number),
            mock.patch.object(self.service, field, Traffic(seconds)),
        )
        for one in patches:
            one.start()
            self.addCleanup(one.stop)

    def test_batch_counts_as_many_calls_as_it_has(self):
        item = {"method": "GET", "path": "/1.1/classes/_User/none"}
        saved = {"method": "POST", "path": "/1.1/classes/Counted", "body": {}}
        for path, one in (("/batch", item), ("/batch/save", saved)):
            for number, status in ((3, 200), (4, 429)):
                with self.subTest(path, number=number):
                    self.limited(3)
                    self.assertEqual(self.post(path, {"requests": [one] * number}).status, status)
        for ids, status in (("a,b,c", 200), ("a,b,c,d", 429), ("a,a,a,a", 200)):
            with self.subTest(ids):
                self.limited(3)
                answer = self.raw("DELETE", f"/1.1/classes/Counted/{ids}", b"", HEADERS, REMOTE_ADDR="9.9.9.9")
                self.assertEqual(answer.status, status)

    def test_address_makes_so_many_calls_a_minute_and_no_more(self):
        self.limited(2)
        for address, spared, statuses_ in (("9.9.9.9", {}, [201, 201, 429]), ("8.8.8.8", {"X-LC-Hook-Key": "hook"}, [201] * 3), ("127.0.0.1", {}, [201] * 3), ("::1", {}, [201] * 3), ("7.7.7.7", {}, [201])):
            with self.subTest(address):
                answers = [self.post("/classes/Often", {}, address, **spared) for _ in statuses_]
                self.assertEqual([answer.status for answer in answers], statuses_)
        self.assertEqual(self.post("/classes/Often", {}).header("Retry-After"), "60")
        self.limited(0)
        self.assertEqual([self.post("/classes/Often", {}).status for _ in range(4)], [201] * 4)

    def test_address_signs_up_so_many_an_hour_and_the_master_more(self):
        self.limited(1000, "sign_ups", 3600)
        with mock.patch.object(self.service.options, "max_signups_per_address", 2):
            answers = [self.post("/users", {"username": f"s{number}", "password": "p"}) for number in range(3)]
            self.assertEqual([answer.status for answer in answers], [201, 201, 429])
            self.assertEqual(answers[2].header("Retry-After"), "3600")
            master = {"X-LC-Key": KEYS["master_key"] + ",master"}
            self.assertEqual(self.post("/users", {"username": "s9", "password": "p"}, **master).status, 201)
            self.assertEqual(self.post("/users", {"username": "s8", "password": "p"}, **{"X-LC-Hook-Key": "hook"}).status, 201)

    def test_mails_and_bytes_of_an_address_are_counted_with_table(self):
        made = SimpleNamespace(options=Options(max_mails_per_address=2, max_bytes_per_address=100), mails=Traffic(), sent=Traffic())
        anybody = Call(made, Caller(address="9.9.9.9"), "POST", {}, {}, "")
        self.assertEqual([call.limit_mails(anybody) for _ in range(2)], [None, None])
        with self.assertRaises(StorageError) as caught:
            call.limit_mails(anybody)
        self.assertEqual((caught.exception.kind, list(caught.exception.headers)), (Code.TOO_MANY_REQUESTS, [("Retry-After", "3600")]))
        call.limit_bytes(made, "a", 100)
        call.limit_bytes(made, "a", 0)
        call.limit_bytes(made, None, 1000)
        with self.assertRaises(StorageError) as caught:
            call.limit_bytes(made, "a", 1)
        self.assertEqual((caught.exception.kind, list(caught.exception.headers)), (Code.TOO_MANY_REQUESTS, [("Retry-After", "3600")]))
        for caller, counted in (
            ({"address": "9.9.9.9"}, "9.9.9.9"),
            ({"address": "9.9.9.9", "is_master": True}, None),
            ({"address": "9.9.9.9", "has_hook_key": True}, None),
            ({"address": "127.0.0.1"}, None),
            ({"address": "::1"}, None),
            ({"address": ""}, None),
        ):
            with self.subTest(caller):
                self.assertEqual(call.counted_address(made, Caller(**caller)), counted)
        made.options.max_bytes_per_address = 0
        self.assertIsNone(call.counted_address(made, Caller(address="9.9.9.9")))

    def test_counts_end_with_their_period_and_are_given_back(self):
        traffic = Traffic(60)
        with mock.patch("leanstorage.rules.call.time.monotonic", return_value=600.0) as clock:
            self.assertEqual([traffic.count("a", 1), traffic.count("a", 2), traffic.count("b", 5)], [1, 3, 5])
            clock.return_value = 659.9
            traffic.take_back("a")
            self.assertEqual(traffic.count("a", 0), 2)
            traffic.take_back("b", 4)
            self.assertEqual(traffic.count("b", 0), 1)
            traffic.take_back("b", 4)
            traffic.take_back("unknown")
            self.assertEqual([traffic.count("b", 0), traffic.count("unknown", 0)], [0, 0])
            clock.return_value = 660.0
            self.assertEqual(traffic.count("a", 1), 1)
        with mock.patch.object(call, "MAX_ADDRESSES", 2):
            traffic = Traffic(3600)
            self.assertEqual([traffic.count(name, 1) for name in "aab"], [1, 2, 1])
            self.assertEqual([traffic.count(name, 1) for name in "cba"], [1, 1, 3])  # who has less is forgotten
        self.assertEqual(Traffic()._seconds, 60)
        service = Service(None, None, None, {}, b"")
        self.assertEqual([one._seconds for one in (service.traffic, service.sign_ups, service.mails, service.sent)], [60, 3600, 3600, 86_400])
        self.assertEqual([service.hashing.acquire(blocking=False) for _ in range(5)], [True] * 4 + [False])
        self.assertEqual((service.options, service.providers, type(service.trouble)), (Options(), {}, Trouble))

    def test_trouble_is_said_once_a_minute(self):
        trouble = Trouble()
        with mock.patch("leanstorage.rules.call.time.monotonic", return_value=0.0) as clock:
            self.assertEqual([trouble.is_news(text) for text in "aab"], [True, False, True])
            for seconds, is_news in ((59.9, False), (60.0, True), (60.1, False)):
                clock.return_value = seconds
                self.assertIs(trouble.is_news("a"), is_news)
            with mock.patch.object(call, "MAX_TROUBLES", 2):
                self.assertEqual([trouble.is_news(text) for text in "cac"], [True, True, False])


class AttemptsTest(ServiceTestCase):
    def test_wrong_passwords_are_counted_up_to_the_lock(self):
        def work(transaction):
            attempts.refuse_locked(transaction, "u")
            for number in range(1, 8):
                attempts.count_failure(transaction, "u")
                self.assertEqual(transaction.record("failures", "u"), {"count": number})
                if number < 7:
                    attempts.refuse_locked(transaction, "u")
            with self.assertRaises(StorageError) as caught:
                attempts.refuse_locked(transaction, "u")
            self.assertIs(caught.exception.kind, Code.LOCKED)

        self.service.store.write(work)

    def test_failures_of_an_address_are_counted_up_to_its_limit(self):
        def work(transaction):
            attempts.refuse_address(transaction, "a", 2)
            for number in (1, 2):
                attempts.refuse_address(transaction, "a", 2)
                attempts.count_address(transaction, "a")
                self.assertEqual(transaction.record("address", "a"), {"count": number})
            attempts.refuse_address(transaction, "a", 3)
            with self.assertRaises(StorageError) as caught:
                attempts.refuse_address(transaction, "a", 2)
            self.assertIs(caught.exception.kind, Code.TOO_MANY_REQUESTS)
            self.assertEqual(list(caught.exception.headers), [("Retry-After", "900")])

        self.service.store.write(work)

    def test_counts_are_forgotten_after_a_quarter_of_an_hour(self):
        for count, kind in ((attempts.count_failure, "failures"), (attempts.count_address, "address")):
            with mock.patch("leanstorage.rules.attempts.now", return_value=parse_time("2026-01-01")):
                self.service.store.write(lambda transaction: count(transaction, "old"))  # noqa: B023 it runs at once
            for seconds, is_there in ((899, True), (901, False)):
                at = parse_time("2026-01-01") + seconds * 1000
                with self.subTest(kind, seconds=seconds), mock.patch("leanstorage.store.records.now", return_value=at):
                    found = self.service.store.read(lambda transaction: transaction.record(kind, "old"))  # noqa: B023
                    self.assertIs(found is not None, is_there)


class SessionTest(ServiceTestCase):
    def test_token_is_text_of_200_characters_at_most(self):
        user = self.user("tokens")

        def work(transaction):
            for token, is_known in (("t" * 200, True), ("t" * 201, False)):
                sessions.replace(transaction, self.service, user["objectId"], token)
                self.assertEqual(sessions.user_of(transaction, self.service, token), user["objectId"] if is_known else None)
                self.assertEqual(sessions.current(transaction, self.service, user["objectId"]), token)
            for token in (None, "", 5, ["t"]):
                self.assertIsNone(sessions.user_of(transaction, self.service, token))

        self.service.store.write(work)

    def test_user_without_a_token_is_given_one(self):
        def work(transaction):
            token = sessions.current(transaction, self.service, "imported")
            self.assertEqual(sessions.current(transaction, self.service, "imported"), token)
            self.assertEqual(sessions.user_of(transaction, self.service, token), "imported")
            other = sessions.replace(transaction, self.service, "imported")
            self.assertNotEqual(other, token)
            self.assertIsNone(sessions.user_of(transaction, self.service, token))
            transaction.put_record("failures", "imported", {"count": 1})
            sessions.forget(transaction, self.service, "imported")
            for kind in ("credential", "failures"):
                self.assertIsNone(transaction.record(kind, "imported"))
            self.assertIsNone(sessions.user_of(transaction, self.service, other))

        self.service.store.write(work)


if __name__ == "__main__":
    unittest.main()
