"""Classes: who may make them, what new objects are given, how large they get, what is closed in them. Protocol sections 1.5 and 3.3."""
from unittest import mock

from leanstorage.rules import classes
from tests.leanstorage.service_support import ServiceTestCase, pointer


class ClassTest(ServiceTestCase):
    def change(self, name, **changes):
        """Give a class other permissions, or another default ACL."""

        def work(transaction):
            info = classes.existing(transaction, name)
            info.pop("is_new", None)
            transaction.save_class(name, {**info, **changes})

        self.service.store.write(work)

    def test_clients_make_no_class_where_the_operator_forbids_it(self):
        self.make("Before", n=1)
        with mock.patch.object(self.service.options, "class_create", "master"):
            self.assertIn("'Fresh'", self.code(119, "POST", "/classes/Fresh", {"n": 1}, status=403))
            self.code(101, "GET", "/classes/Fresh", status=404)
            self.make("Before", n=2)
            self.make("Fresh", master=True, n=1)
            self.make("Fresh", n=2)
        self.make("Fresher", n=1)

    def test_default_acl_names_the_owner(self):
        user = self.user("owner")
        self.make("Owned", n=0)
        rights = {"owner": {"read": True, "write": True}, "*": {"read": True}}
        self.change("Owned", default_acl=rights)
        rows = [
            (user["sessionToken"], {}, {user["objectId"]: {"read": True, "write": True}, "*": {"read": True}}),
            (None, {}, {"*": {"read": True}}),
            (user["sessionToken"], {"ACL": {"*": {"read": True, "write": True}}}, {"*": {"read": True, "write": True}}),
            (user["sessionToken"], {"ACL": {}}, {}),
        ]
        for session, fields, wanted in rows:
            with self.subTest(session=bool(session), fields=fields):
                object_id = self.make("Owned", session=session, n=1, **fields)
                found = self.get("Owned", object_id, master=True, returnACL="true")
                self.assertEqual(found["ACL"], wanted)

    def test_class_has_300_columns_at_most_however_they_come(self):
        self.make("Wide", **{f"c{number}": 1 for number in range(300)})
        object_id = self.make("Wide", c299=2)
        self.assertIn("300 fields", self.code(1, "PUT", f"/classes/Wide/{object_id}", {"one": 1}))
        self.assertIn("300 fields", self.code(1, "POST", "/classes/Wider", {f"c{number}": 1 for number in range(301)}))
        self.code(101, "GET", "/classes/Wider", status=404)

    def test_app_has_only_so_many_classes(self):
        self.make("Known", n=1)
        known = len(self.service.store.read(lambda transaction: transaction.class_names()))
        with mock.patch.object(classes, "MAX_CLASSES", known):
            self.assertIn(f"{known} classes", self.code(154, "POST", "/classes/Further", {"n": 1}))
            self.make("Known", n=2)
        with mock.patch.object(classes, "MAX_CLASSES", known + 1):
            self.make("Further", n=1)

    def test_include_shows_nothing_of_a_class_that_is_closed_for_get(self):
        user = self.user("reader")
        leaf = self.make("Leaf", name="secret")
        tree = self.make("Tree", leaf=pointer("Leaf", leaf), many=[pointer("Leaf", leaf)])
        closed = {"get": {"users": False, "names": [user["objectId"]]}}
        for permissions, session, is_shown in (
            ({}, None, True),
            (closed, None, False),
            (closed, user["sessionToken"], True),
            ({"get": classes.NOBODY}, user["sessionToken"], False),
            ({"find": classes.NOBODY}, None, True),
        ):
            self.change("Leaf", permissions=permissions)
            with self.subTest(permissions=permissions, session=bool(session)):
                found = self.get("Tree", tree, include="leaf,many", session=session)
                listed = self.find("Tree", {"objectId": tree}, include="leaf,many", session=session)[0]
                for holder in (found, listed):
                    for value in (holder["leaf"], holder["many"][0]):
                        self.assertEqual("name" in value, is_shown)
        self.assertEqual(self.get("Tree", tree, include="leaf", master=True)["leaf"]["name"], "secret")

    def test_hidden_owners_relation_is_hidden_behind_every_sub_query(self):
        tag = self.make("Tag", n=1)
        relation = {"__op": "AddRelation", "objects": [pointer("Tag", tag)]}
        owner = self.make("Owner", master=True, tags=relation, ACL={})
        holder = self.make("Holder", n=1, tag=pointer("Tag", tag))
        inner = {"className": "Tag", "where": {"$relatedTo": {"object": pointer("Owner", owner), "key": "tags"}}}
        select = {"key": "n", "query": inner}
        rows = [
            ({"tag": {"$inQuery": inner}}, False),
            ({"tag": {"$notInQuery": inner}}, True),
            ({"n": {"$select": select}}, False),
            ({"n": {"$dontSelect": select}}, True),
            ({"$and": [{"n": 1}, {"n": {"$select": select}}]}, False),
            ({"n": {"$select": {"key": "n", "query": {"className": "Holder", "where": {"tag": {"$inQuery": inner}}}}}}, False),
        ]
        for where, is_found in rows:
            with self.subTest(where):
                self.assertEqual([row["objectId"] for row in self.find("Holder", where)], [holder] if is_found else [])
                found = [row["objectId"] for row in self.find("Holder", where, master=True)]
                self.assertEqual(found, [] if is_found else [holder])

    def test_name_of_a_deleted_role_is_free_again(self):
        fields = {"name": "passing", "ACL": {"*": {"read": True, "write": True}}}
        role = self.api("POST", "/roles", fields, 201)["objectId"]
        self.code(137, "POST", "/roles", fields)
        self.api("DELETE", f"/roles/{role}")
        self.api("POST", "/roles", fields, 201)

    def test_relation_takes_1000_pointers_in_one_operation(self):
        for number in (1000, 1001):
            objects = [pointer("Tag", f"t{index}") for index in range(number)]
            fields = {"many": {"__op": "AddRelation", "objects": objects}}
            with self.subTest(number):
                if number == 1000:
                    self.make("Related", **fields)
                else:
                    self.assertIn("1000", self.code(128, "POST", "/classes/Related", fields))

    def test_batch_takes_1000_requests(self):
        request = {"method": "GET", "path": "/1.1/date"}
        self.assertEqual(len(self.api("POST", "/batch", {"requests": [request] * 1000})), 1000)
        self.assertIn("1000", self.code(1, "POST", "/batch", {"requests": [request] * 1001}))
