"""POST /batch/save as the Swift, ObjC and Java SDKs send it, transcribed from their sources: protocol appendix C.1."""
import json
import unittest
from unittest import mock

from leanstorage.resources import batch_save, mail
from leanstorage.rules.call import Options
from tests.leanstorage.service_support import ServiceTestCase, pointer
from tests.leanstorage.test_hooks import HookCase


def post(path, internal_id, new=True, **fields):
    """A request for a new object, as Swift makes it."""
    return {"method": "POST", "path": f"/1.1/{path}", "body": {"__internalId": internal_id, **fields}, **({"new": True} if new else {})}


def put(class_name, object_id, params=None, **fields):
    """A request for a known object."""
    request = {"method": "PUT", "path": f"/1.1/classes/{class_name}/{object_id}", "body": {"__internalId": object_id, **fields}}
    return {**request, "params": params} if params else request


class BatchSaveCase(ServiceTestCase):
    def save(self, *requests, **more):
        return self.api("POST", "/batch/save", {"requests": list(requests)}, **more)

    def refused(self, code, *requests, **more):
        """A call that must fail with this code, and store nothing."""
        before = self.digest()
        self.assertEqual(self.save(*requests, **{"status": 400, **more})["code"], code)
        self.assertEqual(self.digest(), before)


class ObjectsTest(BatchSaveCase):
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
        request = {"method": "POST", "path": "/1.1/classes/Todo", "body": {"__internalId": "l", "a": 1}, "params": {"new": True}}
        self.assertEqual(self.save(request)["l"]["a"], 1)

    def test_object_that_the_client_calls_new_is_answered_by_its_id(self):
        self.assertEqual(set(self.save(post("classes/Todo", "l", a=1))["l"]), {"objectId", "createdAt"})

    def test_child_is_no_pointer_in_the_answer_to_its_parent(self):
        # Android and ObjC take the answered pointer for the object they hold, which then never hears of its id.
        link = [{"className": "Child", "cid": "c", "key": "child"}]
        parent = {**post("classes/Parent", "p", n=1, __children=link), "params": {"fetchWhenSave": True}}
        answer = self.save(post("classes/Child", "c", name="leaf"), parent)
        self.assertEqual((answer["p"]["n"], "child" in answer["p"], set(answer["c"])), (1, False, {"objectId", "createdAt"}))
        answer = self.save(post("classes/Child", "c", name="leaf"), post("users", "u", username="parental", password="pw", __children=link))
        self.assertEqual((answer["u"]["username"], "child" in answer["u"]), ("parental", False))
        self.assertEqual(self.get("_User", answer["u"]["objectId"])["child"], pointer("Child", answer["c"]["objectId"]))

    def test_request_that_cannot_be_done_stores_nothing_of_the_call(self):
        object_id = self.make("Whole", n=1)
        good = {"method": "POST", "path": "/1.1/classes/Whole", "body": {"__internalId": "a", "n": 2}}
        change = {"method": "PUT", "path": f"/1.1/classes/Whole/{object_id}", "body": {"__internalId": object_id, "n": 9}}
        rows = {
            "type": ({"method": "POST", "path": "/1.1/classes/Whole", "body": {"__internalId": "b", "n": "text"}}, 111),
            "unknown id": ({"method": "PUT", "path": "/1.1/classes/Whole/" + "f" * 24, "body": {"n": 1}}, 1),
            "file": ({"method": "PUT", "path": "/1.1/classes/_File/" + "f" * 24, "body": {}}, 119),
            "get": ({"method": "GET", "path": "/1.1/classes/Whole", "body": {}}, 107),
            "no body": ({"method": "POST", "path": "/1.1/classes/Whole"}, 107),
            "other path": ({"method": "POST", "path": "/1.1/classes/Whole/../_User", "body": {}}, 107),
            "children": ({"method": "POST", "path": "/1.1/classes/Whole", "body": {"__children": [{"cid": "x"}]}}, 107),
        }
        before = self.digest()
        for name, (bad, code) in rows.items():
            with self.subTest(name):
                answer = self.save(good, change, bad, status=404 if name == "unknown id" else 400)
                self.assertEqual(answer["code"], code, answer)
                self.assertEqual(self.digest(), before)

    def test_rights_hold_as_for_single_calls(self):
        owner, other = self.user("saver"), self.user("thief")
        rights = {owner["objectId"]: {"read": True, "write": True}}
        object_id = self.make("Private", session=owner["sessionToken"], n=1, ACL=rights)
        request = {"method": "PUT", "path": f"/1.1/classes/Private/{object_id}", "body": {"__internalId": object_id, "n": 2}}
        self.code(1, "POST", "/batch/save", {"requests": [request]}, session=other["sessionToken"], status=404)
        self.assertEqual(self.save(request, session=owner["sessionToken"])[object_id]["objectId"], object_id)

    def test_user_saves_itself_and_nobody_else(self):
        user, other = self.user("selfish"), self.user("victim")
        for one, status in ((user, 200), (other, 403)):
            path = f"/1.1/users/{one['objectId']}"
            request = {"method": "PUT", "path": path, "body": {"__internalId": one["objectId"], "nick": "n"}}
            self.save(request, session=user["sessionToken"], status=status)

    def test_pointer_of_a_child_may_name_a_stored_object(self):
        child = self.make("Child", name="old")
        body = {"__internalId": "p", "__children": [{"className": "Child", "cid": child, "key": "child"}]}
        answer = self.save({"method": "POST", "path": "/1.1/classes/Parent", "body": body})
        self.assertEqual(self.get("Parent", answer["p"]["objectId"])["child"], pointer("Child", child))


class SignUpTest(BatchSaveCase):
    options = Options(verify_emails=True, public_url="https://storage.example")

    def test_new_user_is_signed_up_and_answered_with_its_session(self):
        for path in ("users", "classes/_User"):
            name = path.replace("/", "-")
            answer = self.save(post(path, "u", username=name, password="pw", nick="n"))["u"]
            self.assertEqual((answer["username"], answer["nick"]), (name, "n"))
            self.assertNotIn("password", answer)
            me = self.api("GET", "/users/me", session=answer["sessionToken"])
            self.assertEqual(me["objectId"], answer["objectId"])
            self.assertIn("createdAt", answer)
            self.api("POST", "/login", {"username": name, "password": "pw"})

    def test_sign_up_is_checked_as_everywhere(self):
        self.user("there", email="there@example.com")
        rows = (
            (200, {"password": "pw"}),
            (201, {"username": "a"}),
            (217, {"username": " ", "password": "pw"}),
            (218, {"username": "a", "password": " "}),
            (202, {"username": "there", "password": "pw"}),
            (203, {"username": "a", "password": "pw", "email": "there@example.com"}),
            (125, {"username": "a", "password": "pw", "email": "none"}),
        )
        for code, fields in rows:
            with self.subTest(fields):
                self.refused(code, post("classes/Other", "o", n=1), post("users", "u", **fields))

    def test_old_session_means_nothing_to_a_sign_up(self):
        old = self.user("before")
        answer = self.save(post("users", "u", username="after", password="pw"), session=old["sessionToken"])["u"]
        self.assertNotEqual(answer["sessionToken"], old["sessionToken"])
        mine = {"ACL": {answer["objectId"]: {"read": True, "write": True}}}
        self.save(put("_User", answer["objectId"], **mine), session=old["sessionToken"], status=403)

    def test_user_and_what_points_to_it_are_saved_in_one_call(self):
        link = [{"className": "_User", "cid": "u", "key": "owner"}]
        answer = self.save(post("users", "u", username="owner", password="pw"), post("classes/Thing", "t", __children=link))
        self.assertEqual(self.get("Thing", answer["t"]["objectId"])["owner"], pointer("_User", answer["u"]["objectId"]))

    def test_further_bodies_of_a_sign_up_are_the_new_users_own(self):
        second = {"method": "PUT", "path": "/1.1/users", "body": {"__internalId": "u", "tags": {"__op": "Add", "objects": ["b"]}}, "new": True}
        answer = self.save(post("users", "u", username="twice", password="pw", tags=["a"]), second)["u"]
        self.assertEqual(answer["tags"], ["a", "b"])
        self.assertTrue(answer["sessionToken"])

    def test_new_password_is_answered_with_the_new_session(self):
        user = self.user("changing")
        answer = self.save(put("_User", user["objectId"], password="new"), session=user["sessionToken"])[user["objectId"]]
        self.assertNotEqual(answer["sessionToken"], user["sessionToken"])
        self.api("GET", "/users/me", session=answer["sessionToken"])
        shown = self.save(put("_User", user["objectId"], {"fetchWhenSave": True}, password="pw"), session=answer["sessionToken"])
        self.api("GET", "/users/me", session=shown[user["objectId"]]["sessionToken"])

    def test_new_address_is_sent_its_link(self):
        def addresses():
            return sorted(message["to"] for message in mail.outbox(self.service.store))  # of one millisecond in any order

        answer = self.save(post("users", "u", username="mailed", password="pw", email="one@example.com"))["u"]
        self.assertEqual(addresses(), ["one@example.com"])
        self.save(put("_User", answer["objectId"], email="two@example.com"), session=answer["sessionToken"])
        self.assertEqual(addresses(), ["one@example.com", "two@example.com"])
        self.refused(202, post("users", "v", username="mailed", password="pw", email="three@example.com"))
        self.assertEqual(len(addresses()), 2)

    def test_time_is_over_before_all_is_prepared(self):
        with mock.patch.object(batch_save, "BATCH_SECONDS", -1):
            self.refused(124, post("users", "u", username="late", password="pw"), status=503)


class ConditionTest(BatchSaveCase):
    def test_known_object_is_changed_only_where_it_matches(self):
        object_id = self.make("Stock", n=1)
        take = {"n": {"__op": "Increment", "amount": -1}}
        for where in ({"n": {"$gte": 1}}, json.dumps({"n": {"$gte": 0}})):
            self.save(put("Stock", object_id, {"where": where}, **take))
        self.refused(305, put("Stock", object_id, {"where": {"n": {"$gte": 9}}}, **take))
        self.refused(305, post("classes/Stock", "new", n=1), put("Stock", object_id, {"where": {"n": {"$gte": 9}}}, **take))
        self.assertEqual(self.get("Stock", object_id)["n"], -1)
        for malformed in ("n > 1", 7, {"$nothing": 1}, None):
            self.save(put("Stock", object_id, {"where": malformed}, **take), status=400)

    def test_condition_of_several_bodies_is_of_what_is_stored(self):
        object_id = self.make("Stock", tags=["a"], n=1)
        where = {"n": 1}
        first = put("Stock", object_id, {"where": where}, n=2, tags={"__op": "Add", "objects": ["b"]})
        second = put("Stock", object_id, {"where": where}, tags={"__op": "Remove", "objects": ["a"]})
        self.assertEqual(self.save(first, second)[object_id]["tags"], ["b"])
        self.refused(305, first, second)
        late = put("Stock", object_id, n=3), put("Stock", object_id, {"where": {"n": 2}}, tags=[])  # as ObjC: on the last one
        self.save(*late)
        self.refused(305, *late)
        self.refused(107, first, put("Stock", object_id, {"where": {"n": 8}}, n=3))

    def test_condition_of_the_saved_object_is_not_that_of_its_children(self):
        parent, known = self.make("Box", n=1), self.make("Lid", m=1)
        params = {"where": {"n": 1}}
        child = {**post("classes/Lid", "c", m=2), "params": params}
        link = [{"className": "Lid", "cid": "c", "key": "lid"}]
        answer = self.save(child, put("Lid", known, params, m=5), put("Box", parent, params, __children=link))
        self.assertEqual(self.get("Box", parent)["lid"]["objectId"], answer["c"]["objectId"])
        self.assertEqual(self.get("Lid", known)["m"], 5)
        fresh = {**post("classes/Box", "b", __children=[{"className": "Lid", "cid": known, "key": "lid"}]), "params": params}
        self.assertIn("b", self.save(put("Lid", known, params, m=5), fresh))
        own = put("Lid", known, {"where": {"m": 1}}, m=6)
        self.refused(305, own, put("Box", parent, {"where": {"n": 1}}, n=2))

    def test_other_children_of_the_saved_objects_class_are_held_to_it(self):
        one, two = self.make("Node", n=1), self.make("Node", n=2)
        self.refused(305, put("Node", two, {"where": {"n": 1}}, m=1), put("Node", one, {"where": {"n": 1}}, m=1))


class DeviceTest(BatchSaveCase):
    def device(self, internal_id, token, **fields):
        return post("installations", internal_id, new=False, deviceToken=token, deviceType="ios", **fields)

    def test_known_device_is_changed_and_named_by_both_ids(self):
        first = self.save(self.device("a", "t1", channels=["x"]))["a"]
        link = [{"className": "_Installation", "cid": "b", "key": "device"}]
        answer = self.save(post("classes/Owner", "o", __children=link), self.device("b", "t1", channels=["y"]))
        self.assertEqual((answer["b"]["objectId"], answer["b"]["createdAt"]), (first["objectId"], first["createdAt"]))
        self.assertEqual(self.get("Owner", answer["o"]["objectId"])["device"], pointer("_Installation", first["objectId"]))
        again = self.device(first["objectId"], "t1", objectId=first["objectId"], badge=3)
        self.assertEqual(self.save(again)[first["objectId"]]["objectId"], first["objectId"])
        [row] = self.find("_Installation", {"deviceToken": "t1"}, master=True)
        self.assertEqual((row["objectId"], row["channels"], row["badge"]), (first["objectId"], ["y"], 3))

    def test_two_requests_of_one_device_are_one_row(self):
        self.save(self.device("d", "t2"), self.device("d", "t2", badge=1))
        self.save(self.device("e", "t2"), self.device("e", "t2", badge={"__op": "Increment", "amount": 1}))
        self.assertEqual([row["badge"] for row in self.find("_Installation", {"deviceToken": "t2"}, master=True)], [2])

    def test_stranger_is_shown_nothing_of_a_known_device(self):
        self.save(self.device("a", "t3", secret="s", channels=["x"]))
        more = {"channels": {"__op": "AddUnique", "objects": ["x"]}}
        for request in (self.device("b", "t3", **more), {**self.device("b", "t3", **more), "new": True}):
            self.assertEqual(set(self.save(request)["b"]), {"objectId", "createdAt", "updatedAt"})
        self.refused(1, post("installations", "n", deviceType="ios"))


class ShownTest(BatchSaveCase):
    def test_writer_who_may_not_read_is_shown_only_what_it_wrote(self):
        object_id = self.make("Sealed", secret="s", tags=["hidden"], ACL={"*": {"write": True}})
        more = {"tags": {"__op": "AddUnique", "objects": ["x"]}}
        for params in (None, {"fetchWhenSave": True}):
            self.assertEqual(set(self.save(put("Sealed", object_id, params, **more))[object_id]), {"objectId", "updatedAt"})
        shown = self.save(put("Sealed", object_id, {"fetchWhenSave": True}, **more), master=True)[object_id]
        self.assertEqual((shown["secret"], shown["tags"]), ("s", ["hidden", "x"]))


class FileTest(BatchSaveCase):
    def test_external_file_and_the_object_that_holds_it_are_saved_together(self):
        file = post("classes/_File", "f", name="a.png", url="https://files.example/a.png", key="stolen.png", bucket="b")
        link = [{"className": "_File", "cid": "f", "key": "image"}]
        answer = self.save(file, post("classes/Post", "p", __children=link))
        stored = self.api("GET", f"/files/{answer['f']['objectId']}")
        self.assertEqual((stored["url"], stored["metaData"]["__source"]), ("https://files.example/a.png", "external"))
        self.assertNotIn("key", stored)
        self.assertNotIn("bucket", stored)
        self.assertEqual(self.get("Post", answer["p"]["objectId"])["image"]["objectId"], answer["f"]["objectId"])
        self.refused(1, post("classes/Post", "p", n=1), post("classes/_File", "f", name="a", url=7))
        self.refused(119, put("_File", answer["f"]["objectId"], url="https://other.example"))


class ObjcTest(BatchSaveCase):
    """One save of the Objective-C SDK: new objects first, children before parents, then what is done to each."""

    def later(self, path, internal_id, **fields):
        return {"method": "PUT", "path": f"/1.1/{path}", "body": {"__internalId": internal_id, **fields}, "new": True}

    def test_new_parent_and_child_with_operations(self):
        rights = {"*": {"read": True, "write": True}}
        add = {"__op": "Add", "objects": ["a"]}
        answer = self.save(
            post("classes/Leaf", "c", name="leaf", ACL=rights),
            post("classes/Tree", "p", name="tree", ACL=rights),
            self.later("classes/Leaf", "c", tags=add),
            self.later("classes/Tree", "p", n={"__op": "Increment", "amount": 1.0}, __children=[{"className": "Leaf", "cid": "c", "key": "leaf"}]),
            self.later("classes/Tree", "p", tags=add),
            self.later("classes/Tree", "p", tags={"__op": "Remove", "objects": ["a"]}),
        )
        # The SDK copies what stands under its own id, key by key.
        self.assertEqual(set(answer), {"c", "p"})
        parent, child = answer["p"], answer["c"]
        self.assertEqual((parent["n"], parent["tags"], child["tags"]), (1, [], ["a"]))
        self.assertIsInstance(parent["n"], int)
        for one in (parent, child):
            self.assertLessEqual({"objectId", "createdAt", "updatedAt"}, set(one))
        stored = self.get("Tree", parent["objectId"], include="leaf")
        self.assertEqual((stored["name"], stored["leaf"]["name"], stored["leaf"]["objectId"]), ("tree", "leaf", child["objectId"]))

    def test_known_parent_of_a_changed_child_is_answered_by_both_ids(self):
        child = self.make("Leaf", n=1)
        parent = self.make("Tree", leaf=pointer("Leaf", child))
        link = [{"className": "Leaf", "cid": child, "key": "leaf"}]
        params = {"fetchWhenSave": True, "where": {"leaf": pointer("Leaf", child)}}
        answer = self.save(
            put("Leaf", child, n={"__op": "Increment", "amount": 2.0}), put("Tree", parent, params, m=1, __children=link)
        )
        self.assertEqual(answer[child]["n"], 3)
        self.assertEqual((answer[parent]["m"], "leaf" in answer[parent]), (1, False))
        gone = {"where": {"leaf": None}}
        self.refused(305, put("Leaf", child, n={"__op": "Increment", "amount": 2.0}), put("Tree", parent, gone, m=2, __children=link))

    def test_sign_up_brings_its_first_operations_along(self):
        operations = {"score": {"__op": "Increment", "amount": 1.0}, "tags": {"__op": "AddUnique", "objects": ["x"]}}
        answer = self.save(post("users", "u", username="objc", password="pw", ACL={"*": {"read": True}}, **operations))["u"]
        self.assertEqual((answer["score"], answer["tags"], answer["username"]), (1, ["x"], "objc"))
        self.assertTrue(answer["sessionToken"])


class HookTest(HookCase, BatchSaveCase):
    def called(self):
        found, self.engine.calls = [path.removeprefix("/functions/") for path, _, _ in self.engine.calls], []
        return found

    def test_hooks_of_each_save_are_called_and_may_be_left_out_for_one(self):
        for class_name, hook in (("_User", "beforeSave"), ("_User", "afterSave"), ("Told", "beforeUpdate"), ("Told", "afterUpdate")):
            self.on(class_name, hook, lambda sent: (200, sent["object"]))
        object_id = self.make("Told", n=1)
        self.save(put("Told", object_id, n=2), post("users", "u", username="told", password="pw"))
        self.assertEqual(self.called(), ["Told/beforeUpdate", "_User/beforeSave", "Told/afterUpdate", "_User/afterSave"])
        ignored = put("Told", object_id, n=3, __ignore_hooks=["beforeUpdate", "afterUpdate"])
        self.save(ignored, post("users", "u", username="also", password="pw"), master=True)
        self.assertEqual(self.called(), ["_User/beforeSave", "_User/afterSave"])
        self.save(ignored)
        self.assertEqual(self.called(), ["Told/beforeUpdate", "Told/afterUpdate"])

    def test_hook_that_refuses_a_sign_up_refuses_all(self):
        self.on("_User", "beforeSave", lambda sent: (400, {"code": 142, "error": "no"}))
        self.refused(142, post("classes/Other", "o", n=1), post("users", "u", username="kept", password="pw"))


if __name__ == "__main__":
    unittest.main()
