"""Hidden columns: nobody without the master key is shown one, or learns of its values by asking."""

import argparse
import json
import unittest
from unittest import mock
from urllib.parse import quote

from leanstorage import class_settings
from leanstorage.engine import hooks
from tests.leanstorage.service_support import KEYS, pointer, ServiceTestCase
from tests.leanstorage.test_hooks import FakeEngine

OPTIONS = "add default no_default required optional auto_increment no_auto_increment hide show".split()
SECRET = "only the master"


class HiddenColumnsTest(ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.test = cls("api")
        cls.target = cls.test.make("Target", note=SECRET, n=1)
        cls.one = cls.test.make(
            "Post",
            n=1,
            h=SECRET,
            inner={"a": SECRET},
            point={"__type": "GeoPoint", "latitude": 1, "longitude": 2},
            to=pointer("Target", cls.target),
            file=None,
            likes={"__op": "AddRelation", "objects": [pointer("Target", cls.target)]},
        )
        cls.two = cls.test.make("Post", n=2, h="other", to=pointer("Target", cls.target))
        cls.holder = cls.test.make("Holder", post=pointer("Post", cls.one), text=SECRET)
        cls.settings("Post", hide=["h", "inner", "point", "to", "likes"])
        cls.settings("Target", hide=["note"])

    @classmethod
    def settings(cls, class_name, **given):
        options = argparse.Namespace(class_name=class_name, **{**{name: [] for name in OPTIONS}, **given})
        cls.service.store.write(lambda transaction: class_settings.change(transaction, options))

    def refused(self, method, path, body=None, **query):
        self.assertIn("is not shown to clients", self.code(102, method, path, body, **query))

    def test_hidden_columns_are_shown_to_the_master_alone(self):
        for name, given in (
            ("list", {}),
            ("keys", {"keys": "h,n,likes,inner.a"}),
            ("include", {"include": "to,to.to"}),
            ("ACL", {"returnACL": "true"}),
        ):
            with self.subTest(name):
                for found in (self.find("Post", **given)[0], self.get("Post", self.one, **given)):
                    self.assertFalse(found.keys() & {"h", "inner", "point", "to", "likes"}, found)
                    self.assertEqual(found["n"], 1)
                whole = self.get("Post", self.one, master=True, **given)
                self.assertEqual(whole["h"], SECRET) if name != "include" else self.assertEqual(whole["to"]["note"], SECRET)

    def test_included_objects_lack_their_hidden_columns(self):
        [found] = self.find("Holder", include="post,post.to")
        self.assertEqual(found["post"]["n"], 1)
        self.assertFalse(found["post"].keys() & {"h", "inner", "point", "to", "likes"})
        [found] = self.find("Holder", include="post,post.to", keys="post.h,post.to.note")
        self.assertFalse(found["post"].keys() & {"h", "to"})
        [found] = self.find("Holder", include="post,post.to", master=True)
        self.assertEqual((found["post"]["h"], found["post"]["to"]["note"]), (SECRET, SECRET))

    def test_hidden_columns_are_refused_in_every_condition(self):
        query = {"className": "Post", "where": {"h": SECRET}}
        for where in (
            {"h": SECRET},
            {"h": {"$ne": SECRET}},
            {"h": {"$exists": True}},
            {"h": {"$regex": "^o"}},
            {"inner.a": SECRET},
            {"point": {"$nearSphere": {"__type": "GeoPoint", "latitude": 1, "longitude": 2}}},
            {"$or": [{"n": 1}, {"$and": [{"h": "x"}]}]},
            {"to": {"$inQuery": {"className": "Target", "where": {}}}},
            {"$relatedTo": {"object": pointer("Post", self.one), "key": "likes"}},
        ):
            with self.subTest(where=where):
                class_name = "Target" if "$relatedTo" in where else "Post"
                self.refused("GET", f"/classes/{class_name}", where=where)
                self.refused("GET", f"/classes/{class_name}", where=where, count="1", limit="0")
                self.assertIsInstance(self.find(class_name, where, master=True), list)
        for where in (
            {"post": {"$inQuery": query}},
            {"post": {"$notInQuery": query}},
            {"post": {"$inQuery": {"className": "Post", "where": {}, "order": "-h", "limit": 1}}},
            {"text": {"$select": {"key": "h", "query": {"className": "Post", "where": {}}}}},
            {"text": {"$dontSelect": {"key": "h", "query": {"className": "Post", "where": {}}}}},
            {"text": {"$select": {"key": "n", "query": query}}},
            {"post": {"$inQuery": {"className": "Post", "where": {"$or": [{"n": 3}, {"to": {"$inQuery": {"className": "Target", "where": {"n": 1}}}}]}}}},
        ):
            with self.subTest(where=where):
                self.refused("GET", "/classes/Holder", where=where)
                self.assertIsInstance(self.find("Holder", where, master=True), list)

    def test_hidden_columns_are_refused_in_orders_and_redirections(self):
        for order in ("h", "-h", "n,-inner.a", "point"):
            self.refused("GET", "/classes/Post", order=order)
            self.find("Post", order=order, master=True)
        self.assertEqual(self.api("GET", "/classes/Post", redirectClassNameForKey="to"), {"results": []})
        self.assertEqual(self.api("GET", "/classes/Post", redirectClassNameForKey="to", master=True)["className"], "Target")

    def test_hidden_columns_are_refused_in_cql(self):
        for text in (
            f"select * from Post where h = '{SECRET}'",
            "select n from Post order by h",
            "select count(*) from Post where h != 'x'",
            "select * from Holder where post in (select * from Post where h = 'x')",
            "select * from Post where h in (select text from Holder)",
        ):
            with self.subTest(text):
                self.refused("GET", "/cloudQuery", cql=text)
        found = self.api("GET", "/cloudQuery", cql="select h, n from Post order by n")["results"]
        self.assertEqual([one["n"] for one in found], [1, 2])
        self.assertNotIn("h", found[0])

    def test_batches_answer_as_single_calls(self):
        where = quote(json.dumps({"h": SECRET}))
        requests = [{"method": "GET", "path": f"/1.1/classes/Post/{self.one}"}, {"method": "GET", "path": f"/1.1/classes/Post?where={where}"}]
        shown, refused = self.api("POST", "/batch", {"requests": requests})
        self.assertNotIn("h", shown["success"])
        self.assertEqual(refused["error"]["code"], 102)

    def test_writes_show_no_hidden_column(self):
        made = self.api("POST", "/classes/Post", {"n": 7, "h": "x"}, 201, fetchWhenSave="true")
        self.assertEqual((made["n"], "h" in made), (7, False))
        path = f"/classes/Post/{made['objectId']}"
        add = {"__op": "AddUnique", "objects": [1]}
        changed = self.api("PUT", path, {"h": "y", "n": 8, "inner": {"k": 1}}, fetchWhenSave="true")
        self.assertEqual((changed["n"], changed.keys() & {"h", "inner", "likes"}), (8, set()))
        self.refused("PUT", path, {"n": 9}, where={"h": "y"})
        self.refused("DELETE", path, where={"h": "y"})
        self.settings("Post", add=["list=Array"], hide=["list"])
        requests = [{"method": "PUT", "path": f"/1.1{path}", "body": {"list": add, "n": {"__op": "Increment", "amount": 1}}}]
        answer = self.api("POST", "/batch/save", {"requests": requests})[made["objectId"]]
        self.assertEqual((answer["n"], "list" in answer), (9, False))
        requests[0]["new"] = True
        self.assertNotIn("h", self.api("POST", "/batch/save", {"requests": requests})[made["objectId"]])
        self.refused("POST", "/batch/save", {"requests": [{**requests[0], "params": {"where": {"h": "y"}}}]})
        stored = self.get("Post", made["objectId"], master=True)
        self.assertEqual((stored["h"], stored["inner"], stored["list"]), ("y", {"k": 1}, [1]))
        self.api("DELETE", path)

    def test_columns_of_users_are_hidden_from_all_and_from_themselves(self):
        ann = self.user("ann", email="ann@example.com", score=5)
        self.settings("_User", hide=["email", "score", "emailVerified"])
        session = ann["sessionToken"]
        for found in (
            self.get("_User", ann["objectId"]),
            self.api("GET", "/users/me", session=session),
            self.api("POST", "/login", {"username": "ann", "password": "pw"}),
            self.api("POST", "/login", {"email": "ann@example.com", "password": "pw"}),
            self.user("bob", email="bob@example.com"),
        ):
            self.assertFalse(found.keys() & {"email", "score", "emailVerified"}, found)
        for where in ({"email": "ann@example.com"}, {"$and": [{"username": "ann"}, {"score": 5}]}):
            self.refused("GET", "/users/strictlyQuery", where={"username": "ann", **where})
        self.assertEqual(self.get("_User", ann["objectId"], master=True)["email"], "ann@example.com")
        sent = {"inboxType": "private", "data": {"message": "hi"}}
        self.refused("POST", "/statuses", {**sent, "query": {"className": "_User", "where": {"email": "ann@example.com"}}}, session=session)

    def test_receivers_of_a_status_are_not_read_from_a_hidden_column(self):
        cleo = self.user("cleo")
        self.make("Secret", who=pointer("_User", cleo["objectId"]))
        self.settings("Secret", hide=["who"])
        sent = {"inboxType": "private", "data": {"message": "hi"}, "query": {"className": "Secret", "where": {}, "keys": "who"}}
        self.refused("POST", "/statuses", sent, session=cleo["sessionToken"])

    def test_files_that_are_referred_to_lack_hidden_columns(self):
        made = self.api("POST", "/files", {"name": "a.txt", "url": "http://files.example/a.txt", "metaData": {"k": SECRET}}, 201)["objectId"]
        self.settings("_File", hide=["metaData"])
        holder = self.make("WithFile", file={"__type": "File", "id": made})
        self.assertEqual(self.get("WithFile", holder)["file"]["name"], "a.txt")
        self.assertNotIn("metaData", self.get("WithFile", holder)["file"])
        self.assertNotIn("metaData", self.find("_File")[0])
        self.assertEqual(self.get("WithFile", holder, master=True)["file"]["metaData"]["k"], SECRET)
        self.settings("_File", show=["metaData"])
        self.assertEqual(self.get("WithFile", holder)["file"]["metaData"]["k"], SECRET)

    def test_what_is_refused_is_never_evaluated(self):
        seen = []

        def watched(original):
            def execute(transaction, *arguments):
                seen.append(arguments)
                return original(transaction, *arguments)

            return execute

        kind = type(self.service.store.read(lambda transaction: transaction))
        for name in ("execute", "execute_once"):
            watching = mock.patch.object(kind, name, watched(getattr(kind, name)))
            watching.start()
            self.addCleanup(watching.stop)
        self.refused("GET", "/classes/Post", where={"h": {"$regex": "^only"}}, count="1")
        self.refused("PUT", f"/classes/Post/{self.one}", {"n": 1}, where={"h": {"$regex": "^only"}})
        self.assertFalse([one for one in seen if "only" in repr(one[1:])], seen)
        self.find("Post", {"h": {"$regex": "^only"}}, master=True)
        self.assertTrue([one for one in seen if "only" in repr(one[1:])])

    def test_hooks_of_the_app_see_hidden_columns(self):
        engine = FakeEngine()
        engine.names = ["__before_update_for_Post"]
        engine.answers["/functions/Post/beforeUpdate"] = lambda sent: (200, {})
        made = self.make("Post", n=20, h="told")
        cleo = self.user("dora", level=5)
        self.settings("_User", hide=["level"])
        self.service.engine = hooks.Engine(engine, KEYS)
        self.addCleanup(setattr, self.service, "engine", None)
        self.api("PUT", f"/classes/Post/{made}", {"n": 21}, session=cleo["sessionToken"])
        [(_, _, sent)] = engine.calls
        self.assertEqual((sent["object"]["h"], sent["user"]["level"]), ("told", 5))
        self.service.engine = None
        self.api("DELETE", f"/classes/Post/{made}")


if __name__ == "__main__":
    unittest.main()
