"""What a handler has in its hands after a save: what storage has, and the objects that it had before."""
import json
import unittest
from unittest import mock

import leancloud
from leancloud import client

from leanengine import saves
from leanengine.sdk import as_http_error, hook_text
from tests.leanengine.test_sdk import broken_storage, http
from tests.support import AppTestCase

OWNER = {"__type": "Pointer", "className": "_User", "objectId": "0123456789abcdef01234567"}
TIMES = {"objectId": "0123456789abcdef01234500", "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z"}


class HookedTest(AppTestCase):
    def test_what_the_hook_of_the_app_changed_is_seen_without_asking_for_it(self):
        visitor = self.logged_in()
        owner_id = self.request("GET", "/api/session", visitor=visitor).json()["user"]["id"]
        owner = leancloud.User.create_without_data(owner_id)
        owner._attributes["username"] = visitor.username
        todo = leancloud.Object.extend("Todo")(content="x" * 300, owner=owner)
        todo.save()
        self.assertEqual(todo.get("content"), "x" * 240 + " ...")
        self.assertIs(todo.get("owner"), owner)
        self.assertEqual(todo.get("owner").get("username"), visitor.username)
        todo.set("content", "y" * 300)
        todo.save()
        self.assertEqual(todo.get("content"), "y" * 240 + " ...")
        self.assertFalse(todo.is_dirty())

    def test_what_a_hook_refuses_is_told_in_its_own_words(self):
        with self.assertRaises(leancloud.LeanCloudError) as caught:
            leancloud.Object.extend("Todo")(content=" ").save()
        error = as_http_error(caught.exception)
        self.assertEqual((error.status, error.code, error.message), (400, 142, "content must be a text that is not blank"))


class AnsweredTest(AppTestCase):
    def saved(self, sent, answer, stored=None):
        """(the object after a save that is answered so, what storage was asked)."""
        asked = []

        def storage(request):
            asked.append(request)
            return http(json.dumps({**TIMES, **answer}).encode())

        found = leancloud.Object.extend("Thing")()
        if stored is not None:
            found._update_data({**TIMES, **stored})
        for key, value in sent.items():
            found.set(key, value)
        with broken_storage(storage):
            found.save()
        return found, asked[0]

    def test_changed_added_and_removed_values_are_taken_over_and_equal_ones_kept(self):
        owner = leancloud.User.create_without_data(OWNER["objectId"])
        owner._attributes["username"] = "alice"
        tags = ["a"]
        found, asked = self.saved({"text": "sent", "gone": 1, "owner": owner, "tags": tags}, {"text": "changed", "added": 2, "owner": OWNER, "tags": ["a"]})
        self.assertIn(b"fetchWhenSave=true", asked)
        self.assertEqual((found.get("text"), found.get("added"), found.get("gone")), ("changed", 2, None))
        self.assertIs(found.get("owner"), owner)
        self.assertEqual(found.get("tags"), tags)
        self.assertEqual(found.dump().keys() & {"text", "added", "gone", "owner", "tags"}, {"text", "added", "owner", "tags"})

    def test_change_of_an_object_takes_away_only_what_was_sent(self):
        found, _ = self.saved({"text": "sent", "gone": 1}, {"text": "changed"}, stored={"kept": 3, "text": "old"})
        self.assertEqual((found.get("text"), found.get("gone"), found.get("kept")), ("changed", None, 3))

    def test_answer_to_somebody_who_may_not_read_leaves_what_was_sent(self):
        found, _ = self.saved({"text": "sent"}, {})
        self.assertEqual((found.get("text"), found.id), ("sent", TIMES["objectId"]))

    def test_save_that_says_how_it_is_to_be_is_the_sdk_s_own(self):
        for wanted, expected in ((True, b"fetchWhenSave=true"), (False, b"fetchWhenSave=false")):
            asked = []
            with broken_storage(lambda request, asked=asked: asked.append(request) or http(json.dumps(TIMES).encode())):
                leancloud.Object.extend("Thing")(a=1).save(fetch_when_save=wanted)
            self.assertIn(expected, asked[0])

    def test_save_that_fails_leaves_the_object_as_it_was(self):
        thing = leancloud.Object.extend("Thing")(a=1)
        with mock.patch.object(client, "post", side_effect=leancloud.LeanCloudError(1, "no")), self.assertRaises(leancloud.LeanCloudError):
            thing.save()
        self.assertEqual((thing.get("a"), thing.is_new(), "_update_data" in vars(thing)), (1, True, False))
        self.assertIs(leancloud.Object.save, saves.save)


class TextTest(unittest.TestCase):
    def test_text_of_a_hook_is_taken_out_of_what_storage_makes_of_it(self):
        before = "Cloud Code validation failed. Error detail : "
        for text, expected in (
            (before + "no", "no"),
            (before + '{"code":4711,"message":"too \\"long\\""}', 'too "long"'),
            (before + "{broken", "{broken"),
            (before + '{"message":5}', '{"message":5}'),
            (before + "[1]", "[1]"),
            ("another error", "another error"),
        ):
            with self.subTest(text):
                self.assertEqual(hook_text(text), expected)


if __name__ == "__main__":
    unittest.main()
