"""Two services on one database: what one of them changes in a class holds for the other at once.

A service remembers the classes that it saw, and asks with the statements that it runs anyway whether they are still so.
"""
import shutil
import tempfile
import unittest
from pathlib import Path

from leanstorage.rules import classes
from leanstorage.http.application import create_application, open_service
from leanstorage.store import Stale
from tests.leanstorage.service_support import KEYS, ServiceTestCase

NOBODY = {"users": False, "names": []}


class ElsewhereTest(ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.here = staticmethod(cls.application)
        folder = Path(tempfile.mkdtemp(prefix="elsewhere-"))
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.other = open_service(KEYS, cls.database, folder, None, cls.options)
        cls.addClassCleanup(cls.other.store.close)
        cls.there = staticmethod(create_application(cls.other))

    def setUp(self):
        self.application = self.here

    def made(self, name):
        """The id of an object of a new class that both services have seen."""
        object_id = self.api("POST", f"/classes/{name}", {"n": 1}, 201)["objectId"]
        for application in (self.there, self.here):
            self.application = application
            self.api("GET", f"/classes/{name}/{object_id}", status=200)
            self.api("GET", f"/classes/{name}", status=200)
        return object_id

    def permit(self, name, **permissions):
        """Change a class as another process would."""

        def work(transaction):
            info = classes.load(transaction, name, lock=True)
            info["permissions"] = permissions
            transaction.save_class(name, info)

        self.other.store.write(work)

    def test_permission_taken_away_elsewhere_refuses_the_next_call(self):
        object_id = self.made("Closed")
        calls = {
            "get": ("GET", f"/classes/Closed/{object_id}", None),
            "find": ("GET", "/classes/Closed", None),
            "create": ("POST", "/classes/Closed", {"n": 2}),
            "update": ("PUT", f"/classes/Closed/{object_id}", {"n": 3}),
            "delete": ("DELETE", f"/classes/Closed/{object_id}", None),
        }
        for action, (method, path, body) in calls.items():
            with self.subTest(action):
                self.permit("Closed")
                self.api("GET", f"/classes/Closed/{object_id}", status=200)
                self.permit("Closed", **{action: NOBODY})
                self.api(method, path, body, status=403)
                self.permit("Closed")
                if action != "delete":
                    self.api(method, path, body, status=201 if action == "create" else 200)
        self.api("GET", f"/classes/Closed/{object_id}", status=200)

    def test_permission_taken_away_elsewhere_refuses_where_nothing_is_found(self):
        self.made("Empty")
        self.permit("Empty", get=NOBODY, find=NOBODY)
        self.api("GET", "/classes/Empty/0123456789abcdef01234567", status=403)
        self.permit("Empty")
        self.assertEqual(self.api("GET", "/classes/Empty/0123456789abcdef01234567", status=200), {})
        self.permit("Empty", find=NOBODY)
        self.api("GET", "/classes/Empty", status=403, where='{"n": 77}')

    def test_column_made_elsewhere_has_its_type_for_the_next_write_and_query(self):
        object_id = self.made("Typed")
        self.application = self.there
        self.api("PUT", f"/classes/Typed/{object_id}", {"word": "a"}, 200)
        self.application = self.here
        error = self.api("POST", "/classes/Typed", {"word": 1}, 400)
        self.assertEqual(error["code"], 111)
        found = self.api("GET", "/classes/Typed", status=200, where='{"word": "a"}')["results"]
        self.assertEqual([row["objectId"] for row in found], [object_id])

    def test_columns_made_at_the_same_time_are_all_kept(self):
        object_id = self.made("Both")
        for number in range(6):
            self.application = (self.here, self.there)[number % 2]
            self.api("PUT", f"/classes/Both/{object_id}", {f"key{number}": number}, 200)
        for store in (self.service.store, self.other.store):
            info = store.read(lambda transaction: transaction.class_info("Both"))
            self.assertLessEqual({f"key{number}" for number in range(6)}, info["columns"].keys())

    def test_refused_work_leaves_the_remembered_class_as_it_is(self):
        self.made("Kept")
        before = self.service.store.read(lambda transaction: classes.existing(transaction, "Kept"))
        self.api("POST", "/classes/Kept", {"n": "text", "more": 1}, 400)
        after = self.service.store.read(lambda transaction: classes.existing(transaction, "Kept"))
        self.assertEqual(before, after)
        self.assertNotIn("more", after["columns"])

    def test_work_that_meets_a_changed_class_is_done_again_and_its_first_result_is_dropped(self):
        self.made("Again")
        self.permit("Again", find=NOBODY)
        seen = []

        def work(transaction):
            seen.append(transaction.class_info("Again")["permissions"])
            return len(seen)

        self.assertEqual(self.service.store.read(work), 2)
        self.assertEqual(seen, [{}, {"find": NOBODY}])

    def test_work_that_raises_on_the_grounds_of_a_changed_class_is_done_again(self):
        self.made("Raising")
        self.permit("Raising", find=NOBODY)

        def work(transaction):
            if not transaction.class_info("Raising")["permissions"]:
                raise KeyError("it was open")
            return "closed"

        for run in (self.service.store.read, self.service.store.write):
            self.permit("Raising")
            self.service.store.read(lambda transaction: transaction.class_info("Raising"))
            self.permit("Raising", find=NOBODY)
            self.assertEqual(run(work), "closed")

    def test_class_that_changes_all_the_time_is_read_from_the_database_in_the_end(self):
        self.made("Restless")
        count = [0]

        def work(transaction):
            count[0] += 1
            info = transaction.class_info("Restless")
            self.permit("Restless", find={"users": False, "names": [str(count[0])]})
            return info["permissions"]

        try:
            self.service.store.read(work)
        except Stale:
            self.fail("nobody outside the store is to see it")
        self.assertLessEqual(count[0], 3)


if __name__ == "__main__":
    unittest.main()
