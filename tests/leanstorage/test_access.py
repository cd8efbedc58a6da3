"""Known classes of holes in servers of this kind, one test each; where there is a public advisory it is named."""
import json
from unittest import mock
from urllib.parse import urlencode

from leanstorage.rules import passwords
from leanstorage.rules.call import Options
from leanstorage.rules.classes import NOBODY
from leanstorage.rules import classes
from tests.leanstorage.service_support import KEYS, ServiceTestCase, pointer

INJECTIONS = ["a'b", 'a"b', "a`b", "a;b", "a--", "a) OR 1=1 --", "a\\", "a b", "a/*", "$a", "a.$b", "a\0", "\u200ba", "a%27", "ａ", "a.b'c", 'a.b"c', "a'; DROP TABLE objects; --"]


class InjectionTest(ServiceTestCase):
    def test_key_names_never_become_sql_cve_2024_27298_cve_2024_39309(self):
        object_id = self.make("Foo", a=1, o={"b": 1}, list=[1])
        before = self.digest()
        for key in INJECTIONS:
            with self.subTest(key):
                for options in ({"where": {key: 1}}, {"where": {key: {"$regex": "x"}}}, {"order": key}, {"keys": key}):
                    response = self.status("GET", "/classes/Foo", **options)
                    self.assertIn(response, (200, 400))
                self.assertIn(self.status("GET", "/classes/Foo", include=key), (200, 400))
                self.assertIn(self.status("GET", "/classes/Foo", redirectClassNameForKey=key), (200,))
                self.assertEqual(self.status("POST", "/classes/Foo", {key: 1}), 400)
                for value in (1, {"__op": "Increment", "amount": 1}, {"__op": "Add", "objects": [1]}):
                    if "." not in key:
                        self.assertEqual(self.status("PUT", f"/classes/Foo/{object_id}", {key: value}), 400)
                self.assertIn(self.status("GET", f"/classes/{key}"), (400, 404))
                self.assertIn(self.status("GET", f"/classes/Foo/{key}"), (400, 404))
        self.assertEqual(self.digest(), before)

    def test_values_never_become_sql(self):
        for text in [*INJECTIONS, "?", "%s", "{}", "{0}", "\\Q'\\E"]:
            if "\0" not in text:
                object_id = self.make("Values", text=text, o={"k": text}, l=[text])
                for where in ({"text": text}, {"o.k": text}, {"l": text}, {"text": {"$in": [text, "x"]}}, {"text": {"$gte": text, "$lte": text}}):
                    with self.subTest(where):
                        self.assertIn(object_id, [row["objectId"] for row in self.find("Values", where)])

    def test_regular_expression_is_data_cve_2024_27298(self):
        self.make("Texts", text="plain")
        for pattern in ("' OR 1=1 --", "\\Q' OR ''='\\E", "%", "_", "'; SELECT 1"):
            self.assertEqual(self.find("Texts", {"text": {"$regex": pattern}}), [])

    def status(self, method, path, body=None, **query):
        import json
        from urllib.parse import urlencode

        headers = {"X-LC-Id": "appid", "X-LC-Key": "UtOCzqb67d3sN12Kts4URwy8"}
        text = urlencode({name: value if isinstance(value, str) else json.dumps(value) for name, value in query.items()})
        data = b"" if body is None else json.dumps(body).encode()
        return self.raw(method, "/1.1" + path.replace("?", ""), data, headers, QUERY_STRING=text).status


class PrivateDataTest(ServiceTestCase):
    def test_private_columns_answer_no_guess_cve_2022_36079(self):
        user = self.user("victim", email="v@example.com")
        token = user["sessionToken"]
        self.make("Post", author=pointer("_User", user["objectId"]), text=token)
        guesses = [
            {"sessionToken": token},
            {"sessionToken": {"$regex": "^" + token[0]}},
            {"$or": [{"username": "victim", "sessionToken": {"$gt": "a"}}]},
            {"$and": [{"$or": [{"password": {"$exists": True}}]}]},
            {"password.hash": "x"},
            {"authData.anonymous.id": "x"},
        ]
        for where in guesses:
            with self.subTest(where):
                self.code(102, "GET", "/classes/Post", where={"author": {"$inQuery": {"className": "_User", "where": where}}})
                self.code(102, "GET", "/classes/Post", where={"$or": [{"author": {"$notInQuery": {"className": "_User", "where": where}}}]})
        select = {"key": "sessionToken", "query": {"className": "_User", "where": {}}}
        self.code(102, "GET", "/classes/Post", where={"text": {"$select": select}})
        self.code(102, "GET", "/classes/Post", where={"text": {"$dontSelect": select}})
        inner = {"className": "_User", "where": {}, "order": "sessionToken", "limit": 1}
        self.code(102, "GET", "/classes/Post", where={"author": {"$inQuery": inner}})
        for key in ("sessionToken", "password", "authData"):
            self.code(102, "GET", "/cloudQuery", cql=f"select * from Post where author in (select * from _User where {key} = 'x')")

    def test_secrets_are_in_no_object_even_for_the_master(self):
        """But for the session token of one user: servers that act for it ask so."""
        user = self.user("secretive")
        whole = self.api("GET", f"/users/{user['objectId']}", master=True)
        self.assertFalse({"password", "salt"} & set(whole))
        for value in (
            self.api("GET", "/scan/classes/_User", master=True)["results"][0],
            self.api("GET", "/classes/_User", master=True, include="authData", keys="username,email")["results"][0],
        ):
            self.assertFalse({"password", "salt", "sessionToken"} & set(value))

    def test_unknown_user_and_wrong_password_take_the_same_time(self):
        """By the work that takes it: each is one hash with the same cost."""
        self.user("timed")
        costs = {}
        for name in (b"timed", b"nobody"):
            with mock.patch.object(passwords.hashlib, "scrypt", wraps=passwords.hashlib.scrypt) as hashing:
                self.raw("POST", "/1.1/login", b'{"username":"%s","password":"x"}' % name, {"X-LC-Id": "appid", "X-LC-Key": "UtOCzqb67d3sN12Kts4URwy8"})
            costs[name] = [(call.kwargs["n"], call.kwargs["r"], call.kwargs["p"]) for call in hashing.call_args_list]
        self.assertEqual(len(costs[b"timed"]), 1)
        self.assertEqual(costs[b"timed"], costs[b"nobody"])


class RightsTest(ServiceTestCase):
    options = Options(role_create="master")

    def test_client_chooses_no_object_id_cve_2024_47183(self):
        user = self.api("POST", "/users", {"username": "u", "password": "x", "objectId": "role:admin"}, 201)
        self.assertRegex(user["objectId"], "^[0-9a-f]{24}$")
        self.assertRegex(self.make("Foo", objectId="role:admin"), "^[0-9a-f]{24}$")

    def test_client_claims_no_role_name_where_the_operator_forbids_it(self):
        self.code(119, "POST", "/roles", {"name": "admin", "ACL": {"*": {"read": True}}})
        self.code(119, "POST", "/classes/_Role", {"name": "admin", "ACL": {"*": {"read": True}}})
        [item] = self.api("POST", "/batch", {"requests": [{"method": "POST", "path": "/1.1/roles", "body": {"name": "admin", "ACL": {}}}]})
        self.assertEqual(item["error"]["code"], 119)
        self.api("POST", "/roles", {"name": "admin", "ACL": {}}, 201, master=True)

    def test_user_named_like_a_role_has_not_its_rights(self):
        user = self.user("role:admin")
        object_id = self.make("Guarded", master=True, ACL={"role:admin": {"read": True}})
        self.assertEqual(self.get("Guarded", object_id, session=user["sessionToken"]), {})

    def test_old_token_opens_nothing_after_rotation(self):
        user = self.user("rotating")
        path, old = f"/users/{user['objectId']}", user["sessionToken"]
        object_id = self.make("Mine", session=old, ACL={user["objectId"]: {"read": True, "write": True}})
        self.api("PUT", path + "/refreshSessionToken", session=old)
        self.assertEqual(self.get("Mine", object_id, session=old), {})
        self.code(1, "PUT", f"/classes/Mine/{object_id}", {"a": 1}, status=404, session=old)
        self.code(206, "PUT", path, {"a": 1}, status=403, session=old)

    def test_session_is_never_taken_from_the_client(self):
        user = self.user("fixated", sessionToken="attackerchosentoken123456")
        self.code(211, "GET", "/users/me", session="attackerchosentoken123456")
        self.api("PUT", f"/users/{user['objectId']}", {"sessionToken": "attackerchosentoken123456"}, session=user["sessionToken"])
        self.code(211, "GET", "/users/me", session="attackerchosentoken123456")

    def test_hidden_object_is_written_by_no_trick(self):
        user = self.user("trickster")
        object_id = self.make("Hidden", master=True, n=1, ACL={})
        session = user["sessionToken"]
        for body in ({"ACL": {"*": {"read": True, "write": True}}}, {"ACL": {"__op": "Delete"}}, {"ACL": None}, {"n": 2}):
            self.code(1, "PUT", f"/classes/Hidden/{object_id}", body, status=404, session=session)
        requests = [{"method": "PUT", "path": f"/1.1/classes/Hidden/{object_id}", "body": {"n": 2}}]
        self.assertEqual(self.api("POST", "/batch", {"requests": requests}, session=session)[0]["error"]["code"], 1)
        self.code(305, "PUT", f"/classes/Hidden/{object_id}", {"n": 2}, where={"n": 5}, session=session)
        self.assertEqual(self.get("Hidden", object_id, master=True)["n"], 1)

    def test_who_may_write_but_not_read_is_shown_no_written_values(self):
        alice, bob = self.user("box-owner"), self.user("box-writer")
        rights = {alice["objectId"]: {"read": True, "write": True}, "*": {"write": True}}
        box = self.make("Box", session=alice["sessionToken"], n=42, l=["secret"], ACL=rights)
        body = {"n": {"__op": "Increment", "amount": 0}, "l": {"__op": "AddUnique", "objects": []}}
        for option in ("fetchWhenSave", "new"):
            value = self.api("PUT", f"/classes/Box/{box}?{option}=true", body, session=bob["sessionToken"])
            self.assertEqual(set(value), {"objectId", "updatedAt"})
            value = self.api("PUT", f"/classes/Box/{box}?{option}=true", body, session=alice["sessionToken"])
            self.assertEqual((value["n"], value["l"]), (42, ["secret"]))

        def close(transaction):
            info = transaction.class_info("Box")
            transaction.save_class("Box", {**info, "permissions": {"get": {"users": False, "names": []}}})

        self.service.store.write(close)
        value = self.api("PUT", f"/classes/Box/{box}?new=true", body, session=alice["sessionToken"])
        self.assertEqual(set(value), {"objectId", "updatedAt"})

    def test_query_that_the_master_made_is_refused_to_a_client_in_the_same_words(self):
        where = '{"authData": {"$exists": true}}'

        def permit(permissions):
            def work(transaction):
                info = classes.load(transaction, "_User", lock=True)
                info.pop("is_new", None)
                transaction.save_class("_User", {**info, "permissions": permissions})

            self.service.store.write(work)

        permit({})
        self.addCleanup(permit, {"find": NOBODY})
        for _ in range(2):
            self.api("GET", "/users", master=True, where=where)
            self.code(102, "GET", "/users", where=where)

    def test_condition_of_a_write_says_nothing_of_what_its_caller_may_not_read(self):
        owner, thief = self.user("pinned"), self.user("guesser")
        writable = {"*": {"write": True}, owner["objectId"]: {"read": True, "write": True}}
        private = {owner["objectId"]: {"read": True, "write": True}}
        path = "/classes/Pin/" + self.make("Pin", pin="hunter2", ACL=private, session=owner["sessionToken"])
        paths = [path, "/classes/Pin/" + self.make("Pin", pin="hunter2", ACL=writable, session=owner["sessionToken"])]
        paths += ["/classes/Pin/unknown", "/classes/Closed/" + self.make("Closed", pin="hunter2")]
        closed = {"columns": {"pin": {"type": "String"}}, "permissions": {"get": NOBODY, "find": NOBODY}, "default_acl": None}
        self.service.store.write(lambda transaction: transaction.save_class("Closed", closed))
        account = f"/users/{owner['objectId']}"
        self.api("PUT", account, {"ACL": private, "pin": "hunter2"}, session=owner["sessionToken"])
        for path in [*paths, account]:
            for where in ({"pin": "hunter2"}, {"pin": "other"}, {}):
                with self.subTest(path, where=where):
                    for session in (thief["sessionToken"], None):
                        self.code(305, "PUT", path, {"n": 1}, where=where, session=session)
                        self.code(305, "DELETE", path, where=where, session=session)
            for where in ({"pin": {"$unknown": 1}}, {"authData": {"$exists": True}} if path == account else {"$x": 1}):
                self.code(102, "PUT", path, {"n": 1}, where=where, session=thief["sessionToken"])
        self.api("PUT", paths[0], {"n": 1}, where={"pin": "hunter2"}, session=owner["sessionToken"])
        self.api("PUT", account, {"n": 1}, where={"pin": "hunter2"}, session=owner["sessionToken"])

    def test_other_users_accounts_are_reached_by_no_class_route(self):
        victim, thief = self.user("v1"), self.user("t1")
        for path in (f"/classes/_User/{victim['objectId']}", f"/users/{victim['objectId']}"):
            for body in ({"email": "t@example.com"}, {"password": "new"}, {"authData": {"anonymous": {"id": "x"}}}, {"ACL": {}}):
                self.code(403, "PUT", path, body, status=403, session=thief["sessionToken"])
        requests = [{"method": "DELETE", "path": f"/1.1/classes/_User/{victim['objectId']}"}]
        self.assertIn("error", self.api("POST", "/batch", {"requests": requests}, session=thief["sessionToken"])[0])
        self.code(206, "DELETE", f"/classes/_User/{victim['objectId']}", status=403)


class HiddenObjectTest(ServiceTestCase):
    """What an object holds that its reader may not see cannot be asked for either, by any way around."""

    def setUp(self):
        hidden = self.make("Hidden", master=True, ACL={}, secret="right", n=5)
        self.make("Hidden", master=True, secret="known", n=5)
        self.make("Open", to=pointer("Hidden", hidden), n=5, secret="right")
        owner = self.make("Holder", master=True, tags={"__op": "AddRelation", "objects": [pointer("Hidden", hidden)]})
        self.holder = pointer("Holder", owner)

    def answers(self, guess):
        sub = {"className": "Hidden", "where": {"secret": guess}}
        select = {"key": "n", "query": sub}
        wheres = [
            ("Hidden", {"secret": guess}),
            ("Hidden", {"secret": {"$regex": f"^{guess}"}}),
            ("Hidden", {"$or": [{"secret": guess}, {"$and": [{"secret": guess}, {"n": 5}]}]}),
            ("Open", {"to": {"$inQuery": sub}}),
            ("Open", {"to": {"$notInQuery": sub}}),
            ("Open", {"n": {"$select": select}}),
            ("Open", {"n": {"$dontSelect": select}}),
            ("Open", {"to.secret": guess}),
            ("Hidden", {"$relatedTo": {"object": self.holder, "key": "tags"}, "secret": guess}),
        ]
        for class_name, where in wheres:
            query = {"where": json.dumps(where), "include": "to", "order": "to.secret,secret"}
            query = urlencode(query)
            yield where, self.raw_json("GET", f"/classes/{class_name}", query + "&count=1")
            request = {"method": "GET", "path": f"/1.1/classes/{class_name}?{query}"}
            yield where, self.raw_json("POST", "/batch", body={"requests": [request]})
            yield where, self.raw_json("PUT", f"/classes/Hidden/{'0' * 24}", query, body={"n": 1})
        for cql in (
            f"select * from Hidden where secret = '{guess}'",
            f"select count(*) from Hidden where secret like '{guess}%'",
            f"select * from Open where to in (select * from Hidden where secret = '{guess}')",
        ):
            yield cql, self.raw_json("GET", "/cloudQuery", urlencode({"cql": cql}))
        yield "scan", self.raw_json("GET", "/scan/classes/Hidden", urlencode({"where": json.dumps({"secret": guess})}))

    def raw_json(self, method, path, query="", body=None):
        headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
        response = self.raw(method, "/1.1" + path, json.dumps(body).encode() if body else b"", headers, QUERY_STRING=query)
        return response.status, response.body.replace(b"right", b"?").replace(b"wrong", b"?")

    def test_right_and_wrong_guesses_get_the_same_answers(self):
        pairs = list(zip(self.answers("right"), self.answers("wrong"), strict=True))
        self.assertGreater(len(pairs), 20)
        for (way, right), (_, wrong) in pairs:
            with self.subTest(way):
                self.assertEqual(right, wrong)
        self.assertIn(b"known", self.raw_json("GET", "/classes/Hidden")[1])  # the question itself is allowed

    def test_credentials_that_are_bent_open_nothing(self):
        master = KEYS["master_key"]
        bent = [
            {"X-LC-Key": f"{master} ,master"},
            {"X-LC-Key": f"{master},MASTER"},
            {"X-LC-Key": f"{master},master,master"},
            {"X-LC-Key": f",master{master}"},
            {"X-LC-Key": ",master"},
            {"X-LC-Key": master},
            {"X-LC-Key": f"{KEYS['key']},master"},
            {"X-LC-Key": f"{KEYS['key']},{KEYS['key']}"},
            {"X-LC-Key": KEYS["key"].swapcase()},
            {"X-LC-Id": KEYS["id"] + "\x00"},
            {"X-LC-Sign": f"{'0' * 32},1453014943466,master", "X-LC-Key": ""},
        ]
        for headers in bent:
            with self.subTest(headers):
                sent = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], **headers}
                self.assertEqual(self.raw("GET", "/1.1/classes/Hidden", headers=sent).status, 401)


class LimitsTest(ServiceTestCase):
    def test_depth_and_number_are_bounded(self):
        self.make("Deep", a=1)
        deep = 1
        for _ in range(200):
            deep = {"a": deep}
        self.code(107, "POST", "/classes/Deep", {"o": deep})
        for wrap in (
            lambda where: {"$and": [where]},
            lambda where: {"$or": [where, {"a": 2}]},
            lambda where: {"p": {"$inQuery": {"className": "Deep", "where": where}}},
            lambda where: {"p": {"$notInQuery": {"className": "Deep", "where": where}}},
            lambda where: {"a": {"$select": {"key": "a", "query": {"className": "Deep", "where": where}}}},
        ):
            where = {"a": 1}
            for _ in range(20):
                where = wrap(where)
            with self.subTest(where=where):
                self.find("Deep", where)
                self.code(102, "GET", "/classes/Deep", where=wrap(where))
        self.code(102, "GET", "/classes/Deep", where={"$or": [{"a": n} for n in range(3000)]})
        self.code(102, "GET", "/classes/Deep", include=",".join(f"k{n}" for n in range(200)))
        self.code(1, "DELETE", "/classes/Deep/" + ",".join(f"a{number}" for number in range(1001)))
        self.assertEqual(self.api("GET", "/classes/Deep", include=".".join(["a"] * 500))["results"][0]["a"], 1)

    def test_files_are_never_fetched_from_the_urls_that_clients_give(self):
        value = self.api("POST", "/files", {"name": "x", "url": "http://127.0.0.1:9/internal"}, 201)
        self.assertEqual(self.api("GET", f"/files/{value['objectId']}")["url"], "http://127.0.0.1:9/internal")
