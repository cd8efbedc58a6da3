"""Requests of the C# SDK 2.4.1 (Unity too) and of Flutter 0.7.10, transcribed from their sources, and what they read of the answers."""
import json
import unittest
from urllib.parse import unquote

from leanstorage.rules import classes
from leanstorage.rules.classes import NOBODY
from tests.leanstorage.service_support import ServiceTestCase, pointer


def whole(user):
    """A user as both write one where a pointer would do."""
    return {"__type": "Pointer", "className": "_User", "objectId": user["objectId"]}


class CallsTest(ServiceTestCase):
    def setUp(self):
        self.fan, self.star = self.user(f"fan{self.id()}"), self.user(f"star{self.id()}")

    def follow(self):
        """Flutter sends an empty body, C# what attributes there are."""
        return self.api("POST", f"/users/self/friendship/{self.star['objectId']}", session=self.fan["sessionToken"], status=200)

    def permit(self, permissions):
        def work(transaction):
            transaction.save_class("_Follower", {**classes.existing(transaction, "_Follower"), "permissions": permissions})

        self.service.store.write(work)

    def test_children_are_saved_before_their_parent_in_a_batch_of_paths(self):
        requests = [
            {"path": "/1.1/classes/Child", "method": "POST", "body": {"n": number, "tags": {"__op": "AddUnique", "objects": ["a"]}}} for number in (1, 2)
        ]
        made = [answer["success"] for answer in self.api("POST", "/batch", {"requests": requests})]
        self.assertTrue(all(one["objectId"] and one["createdAt"] for one in made))
        body = {"children": [pointer("Child", one["objectId"]) for one in made], "n": {"__op": "Increment", "amount": 2}}
        parent = self.api("POST", "/classes/Parent", body, 201, fetchWhenSave="true")
        self.assertEqual((parent["n"], len(parent["children"])), (2, 2))
        where = json.dumps({"n": {"$gt": 5}})
        self.code(305, "PUT", f"/classes/Parent/{parent['objectId']}", {"n": 9}, where=where)
        changed = self.api("PUT", f"/classes/Parent/{parent['objectId']}", {"n": {"__op": "Decrement", "amount": 1}}, fetchWhenSave="true")
        self.assertEqual(changed["n"], 1)
        requests = [{"path": "/1.1/classes/Child/5c710c95c05a807a4d9d7101", "method": "PUT", "body": {"n": 1}}]
        [answer] = self.api("POST", "/batch", {"requests": requests})
        self.assertEqual(sorted(answer["error"]), ["code", "error"])

    def test_query_parameters(self):
        for number in range(3):
            self.make("Asked", n=number, s=f"text {number}", at={"__type": "GeoPoint", "latitude": number, "longitude": 0})
        query = {"where": json.dumps({"$and": [{"n": {"$gte": 1}}, {"s": {"$regex": "^text.*"}}]}), "order": "-n", "limit": "10", "skip": "0", "keys": "n"}
        self.assertEqual([row["n"] for row in self.api("GET", "/classes/Asked", **query)["results"]], [2, 1])
        counted = self.api("GET", "/classes/Asked", where=query["where"], limit="0", count="1")
        self.assertEqual((counted["results"], counted["count"]), ([], 2))
        near = json.dumps({"at": {"$nearSphere": {"__type": "GeoPoint", "latitude": 0, "longitude": 0}, "$maxDistanceInKilometers": 150}})
        self.assertEqual([row["n"] for row in self.api("GET", "/classes/Asked", where=near)["results"]], [0, 1])

    def test_followers_are_queried_by_their_own_path(self):
        self.follow()
        for path, mine, other, user, found in (
            ("/followers", "user", "follower", self.star, self.fan),
            ("/followees", "user", "followee", self.fan, self.star),
        ):
            with self.subTest(path):
                answer = self.api("GET", path, where=json.dumps({mine: whole(user)}), include=other, session=user["sessionToken"])
                [row] = answer["results"]
                self.assertEqual(row[other]["username"], found["username"])
                self.assertNotIn("sessionToken", row[other])
        listed = self.api("GET", f"/users/{self.star['objectId']}/followersAndFollowees", count="1", include="follower,followee", session=self.star["sessionToken"])
        self.assertEqual((listed["followers_count"], listed["followees_count"], len(listed["followers"])), (1, 0, 1))
        self.assertIn("Friend requests", self.code(1, "GET", "/friendshiprequests", where=json.dumps({"user": whole(self.fan)})))
        self.api("DELETE", f"/users/self/friendship/{self.star['objectId']}", session=self.fan["sessionToken"])
        self.assertEqual(self.api("GET", "/followers", where={"user": whole(self.star)}, session=self.star["sessionToken"])["results"], [])

    def test_followers_of_somebody_have_the_permissions_of_their_class(self):
        self.follow()
        self.permit({"find": NOBODY})
        self.addCleanup(self.permit, {})
        for path in ("/followers", "/classes/_Follower"):
            self.code(403, "GET", path, where={"user": whole(self.star)}, status=403)

    def test_statuses_are_sent_counted_and_taken_out_of_an_inbox(self):
        self.follow()
        query = {"className": "_Follower", "keys": "follower", "where": {"user": whole(self.star)}}
        body = {"inboxType": "default", "data": {"text": "hello", "source": whole(self.star)}, "query": query}
        sent = self.api("POST", "/statuses", body, 201, session=self.star["sessionToken"])
        self.assertTrue(sent["objectId"] and sent["createdAt"])
        own = {"owner": json.dumps(whole(self.fan)), "inboxType": "default"}
        token = self.fan["sessionToken"]
        counted = self.api("GET", "/subscribe/statuses/count", session=token, **own)
        self.assertEqual((counted["total"], counted["unread"]), (1, 1))
        options = {**own, "where": "", "sinceId": "0", "maxId": "0", "limit": "100"}  # of Flutter: no condition
        [status] = self.api("GET", "/subscribe/statuses", session=token, **options)["results"]
        self.assertEqual((status["text"], status["inboxType"], type(status["messageId"])), ("hello", "default", int))
        self.api("POST", "/subscribe/statuses/resetUnreadCount", session=token, status=200, **own)
        self.assertEqual(self.api("GET", "/subscribe/statuses/count", session=token, **own)["unread"], 0)
        self.api("DELETE", "/subscribe/statuses/inbox", session=token, messageId=str(status["messageId"]), **own)
        self.assertEqual(self.api("GET", "/subscribe/statuses", session=token, **options)["results"], [])
        self.api("DELETE", f"/statuses/{sent['objectId']}", session=self.star["sessionToken"])

    def test_file_is_put_where_the_token_says_and_named_by_the_answer(self):
        body = {"name": "avatar.txt", "__type": "File", "mime_type": "text/plain", "metaData": {"size": 5, "_checksum": None, "prefix": "gamesaves"}}
        token = self.api("POST", "/fileTokens", {**body, "prefix": "gamesaves"}, 201)
        self.assertTrue(all(isinstance(token[name], str) for name in ("upload_url", "key", "token", "provider", "mime_type", "objectId", "url")))
        self.assertEqual(token["provider"], "s3")
        self.assertIn("/gamesaves/", token["url"])
        headers = {"Content-Type": "text/plain", "Cache-Control": "public, max-age=31536"}
        self.assertEqual(self.raw("PUT", token["upload_url"].split("storage.example")[1], b"hello", headers).status, 200)
        self.api("POST", "/fileCallback", {"result": True, "token": token["token"]}, 200)
        self.assertEqual(self.raw("GET", unquote(token["url"].split("storage.example")[1]), QUERY_STRING="imageView/2/w/100/h/100/q/100/format/png").body, b"hello")
        [found] = self.api("GET", "/files", where=json.dumps({"objectId": token["objectId"]}))["results"]
        self.assertEqual(found["name"], "avatar.txt")
        self.api("DELETE", f"/files/{token['objectId']}")


if __name__ == "__main__":
    unittest.main()
