"""Statuses and links between users as rows of their classes: nobody writes them in another user's name."""
from leanstorage.resources.doers import DOERS
from tests.leanstorage.service_support import ServiceTestCase, pointer


class DoersTest(ServiceTestCase):
    def setUp(self):
        self.eve, self.victim = (self.user(f"{name} of {self.id()}") for name in ("eve", "victim"))

    def test_row_in_the_name_of_another_user_is_refused(self):
        for class_name, key in DOERS.items():
            other = pointer("_User", self.victim["objectId"])
            forged = (
                {key: other},
                {key: {**other, "__op": "Delete"}},
                {key: {"__op": "AddUnique", "objects": [other]}},
                {key: None},
                {key: self.victim["objectId"]},
            )
            for fields in forged:
                with self.subTest(class_name=class_name, fields=fields):
                    self.code(403, "POST", f"/classes/{class_name}", fields, status=403, session=self.eve["sessionToken"])
                    self.code(206, "POST", f"/classes/{class_name}", fields, status=403)
            own = self.api("POST", f"/classes/{class_name}", {}, 201, session=self.eve["sessionToken"])["objectId"]
            path = f"/classes/{class_name}/{own}"
            for fields in (*forged, {f"{key}.objectId": self.victim["objectId"]}, {key: {"__op": "Delete"}}):
                with self.subTest(class_name=class_name, changed=fields):
                    self.code(403, "PUT", path, fields, status=403, session=self.eve["sessionToken"])
            self.assertEqual(self.get(class_name, own, master=True)[key]["objectId"], self.eve["objectId"])

    def test_batches_are_no_way_round(self):
        fields = {"source": pointer("_User", self.victim["objectId"])}
        session = self.eve["sessionToken"]
        [answer] = self.api("POST", "/batch", {"requests": [{"method": "POST", "path": "/1.1/classes/_Status", "body": fields}]}, session=session)
        self.assertEqual(answer["error"]["code"], 403)
        request = {"method": "POST", "path": "/1.1/classes/_Status", "body": {**fields, "__internalId": "a"}}
        self.code(403, "POST", "/batch/save", {"requests": [request]}, status=403, session=session)
        self.assertEqual(self.find("_Status", master=True, where={**fields}), [])

    def test_row_in_ones_own_name_is_as_a_sent_one_and_others_may_not_change_it(self):
        session = self.eve["sessionToken"]
        for fields in ({"message": "a"}, {"message": "a", "source": pointer("_User", self.eve["objectId"])}):
            status = self.api("POST", "/classes/_Status", fields, 201, session=session)["objectId"]
            self.assertEqual(self.get("_Status", status)["source"]["objectId"], self.eve["objectId"])
            self.code(403, "PUT", f"/statuses/{status}", {"message": "b"}, status=403, session=self.victim["sessionToken"])
            self.api("PUT", f"/statuses/{status}", {"message": "c"}, session=session)
            self.assertEqual(self.get("_Status", status)["message"], "c")

    def test_master_writes_in_any_name(self):
        fields = {"source": pointer("_User", self.victim["objectId"])}
        status = self.api("POST", "/classes/_Status", fields, 201, master=True)["objectId"]
        self.api("PUT", f"/classes/_Status/{status}", {"source": pointer("_User", self.eve["objectId"])}, master=True)
