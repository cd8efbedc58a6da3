"""Inboxes and published statuses as Java, ObjC, C# and Flutter ask for them: protocol appendix C.5."""
import json
import unittest
from unittest import mock

from leanstorage.resources import statuses
from leanstorage.store import Row
from tests.leanstorage.service_support import counted_records, ServiceTestCase, pointer


class InboxCase(ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.number = 0

    def setUp(self):
        type(self).number += 1
        self.star, self.fan = (self.user(f"{name}{self.number}") for name in ("star", "fan"))
        path = f"/users/self/friendship/{self.star['objectId']}"
        self.api("POST", path, {}, session=self.fan["sessionToken"])

    def send(self, sender=None, inbox="default", **data):
        sender = sender or self.star
        query = {"className": "_Follower", "keys": "follower", "where": {"user": pointer("_User", sender["objectId"])}}
        body = {"inboxType": inbox, "data": data, "query": query}
        return self.api("POST", "/statuses", body, 201, session=sender["sessionToken"])["objectId"]

    def inbox(self, user=None, **options):
        return self.api("GET", "/subscribe/statuses", session=(user or self.fan)["sessionToken"], **options)

    def shown(self, user=None, **options):
        return [row["n"] for row in self.inbox(user, **options)["results"]]

    def counted(self, user):
        return self.api("GET", "/subscribe/statuses/count", session=user["sessionToken"])


class InboxTest(InboxCase):
    def test_what_is_sent_to_followers_is_in_the_senders_own_inbox_too(self):
        self.send(n=1)
        self.assertEqual((self.shown(self.star), self.shown()), ([1], [1]))
        self.assertEqual((self.counted(self.star), self.counted(self.fan)), ({"total": 1, "unread": 0}, {"total": 1, "unread": 1}))
        query = {"className": "_User", "where": {"objectId": self.fan["objectId"]}}
        self.api("POST", "/statuses", {"data": {"n": 2}, "query": query}, 201, session=self.star["sessionToken"])
        self.send(inbox="other", n=3)
        self.assertEqual((self.shown(self.star), self.shown()), ([1], [2, 1]))
        self.assertEqual(self.shown(self.star, inboxType="other"), [])

    def test_receiver_whom_many_rows_point_to_gets_it_once(self):
        for _ in range(3):
            self.make(f"Fans{self.number}", p=pointer("_User", self.fan["objectId"]))
        body = {"data": {"n": 1}, "query": {"className": f"Fans{self.number}", "keys": "p"}}
        self.api("POST", "/statuses", body, 201, session=self.star["sessionToken"])
        self.assertEqual((self.shown(), self.counted(self.fan)), ([1], {"total": 1, "unread": 1}))

    def test_pointer_to_anything_but_a_user_receives_nothing(self):
        for class_name in ("Todo", "_User"):
            self.make(f"Mixed{self.number}", **{f"p{class_name}": pointer(class_name, self.fan["objectId"])})
        for key, number in (("pTodo", 0), ("p_User", 1)):
            body = {"data": {"n": 1}, "query": {"className": f"Mixed{self.number}", "keys": key}}
            self.api("POST", "/statuses", body, 201, session=self.star["sessionToken"])
            self.assertEqual(self.counted(self.fan)["total"], number)

    def test_more_followers_than_a_list_has_receive_it(self):
        users = [f"{number:024x}" for number in range(1001)]
        self.make("Crowd", who=pointer("_User", users[0]))
        rows = [Row(f"c{user}", 1, 1, None, {"who": pointer("_User", user)}) for user in users[1:]]
        self.service.store.write(lambda transaction: [transaction.insert("Crowd", row) for row in rows])
        body = {"inboxType": "private", "data": {"n": 1}, "query": {"className": "Crowd", "keys": "who"}}
        for limit, number in ((10_000, 1001), (3, 3)):
            with self.subTest(limit=limit), mock.patch.object(statuses, "MAX_RECEIVERS", limit):
                status = self.api("POST", "/statuses", body, 201, session=self.star["sessionToken"])["objectId"]
                rights = self.get("_Status", status, master=True, returnACL="true")["ACL"]
                self.assertEqual(len(rights.keys() - {self.star["objectId"]}), number)

    def test_options_of_a_query_hold(self):
        for n in range(6):
            self.send(n=n, kind="even" if n % 2 == 0 else "odd", long="x")
        rows = (
            ({}, [5, 4, 3, 2, 1, 0]),
            ({"where": {}}, [5, 4, 3, 2, 1, 0]),
            ({"where": {"kind": "odd"}}, [5, 3, 1]),
            ({"where": {"n": {"$lt": 4}, "kind": "even"}}, [2, 0]),
            ({"order": "-messageId"}, [5, 4, 3, 2, 1, 0]),
            ({"order": "messageId"}, [0, 1, 2, 3, 4, 5]),
            ({"order": "createdAt", "where": {"kind": "odd"}, "limit": 2}, [1, 3]),
            ({"skip": 2, "limit": 2}, [3, 2]),
            ({"sinceId": 2, "maxId": 5}, [4, 3, 2]),
            ({"where": {"source": pointer("_User", self.star["objectId"])}, "limit": 1}, [5]),
            ({"where": {"n": 99}}, []),
        )
        for options, wanted in rows:
            with self.subTest(options):
                self.assertEqual(self.shown(**options), wanted)
        value = self.inbox(where={"kind": "odd"}, limit=2, count=1)
        self.assertEqual((len(value["results"]), value["count"], value["end"]), (2, 3, False))
        self.assertEqual(self.inbox(limit=0, count=1)["count"], 6)
        self.assertTrue(self.inbox(where={"kind": "odd"}, limit=3)["end"])
        [row] = self.inbox(keys="n", limit=1)["results"]
        self.assertNotIn("long", row)
        self.assertEqual((row["n"], row["messageId"]), (5, 6))
        self.code(102, "GET", "/subscribe/statuses", session=self.fan["sessionToken"], order="n")
        self.code(102, "GET", "/subscribe/statuses", session=self.fan["sessionToken"], where={"n": {"$nothing": 1}})

    def test_owner_of_an_inbox_is_a_user(self):
        for owner in (pointer("Todo", self.fan["objectId"]), 5, [], {"objectId": self.fan["objectId"]}):
            for path in ("/subscribe/statuses", "/subscribe/statuses/count"):
                with self.subTest(path, owner=owner):
                    self.code(106, "GET", path, session=self.fan["sessionToken"], owner=owner)

    def test_condition_tells_nothing_of_what_may_not_be_read(self):
        query = {"className": "_User", "where": {"objectId": self.fan["objectId"]}}
        body = {"inboxType": "private", "data": {"n": 1}, "query": query}
        self.api("POST", "/statuses", body, 201, session=self.star["sessionToken"])
        owner = {"owner": pointer("_User", self.fan["objectId"]), "inboxType": "private"}
        eve = self.user(f"eve{self.number}")
        value = self.inbox(eve, where={"n": 1}, count=1, **owner)
        self.assertEqual((value["results"], value["count"]), ([], 0))
        self.assertEqual(self.inbox(where={"n": 1}, count=1, **owner)["count"], 1)

    def test_more_lines_than_are_looked_at_together(self):
        lines, statuses.LINES = statuses.LINES, 2
        self.addCleanup(setattr, statuses, "LINES", lines)
        for n in range(5):
            self.send(n=n)
        self.assertEqual(self.shown(where={"n": {"$ne": 3}}), [4, 2, 1, 0])
        self.assertEqual(self.shown(skip=1, limit=3, order="messageId"), [1, 2, 3])

    def test_long_inbox_is_read_in_parts_and_no_further_than_is_shown(self):
        self.send(n=1)
        kind = statuses.lines_kind(self.fan["objectId"], "default")
        status = self.service.store.read(lambda transaction: transaction.records(kind))[0][1]
        lines = [(kind, statuses.line_key(number), status) for number in range(2, 1001)]
        self.service.store.write(lambda transaction: transaction.put_records(lines))
        calls = (
            ({"limit": 5}, [1000, 999, 998, 997, 996], 1),
            ({"limit": 3, "order": "messageId", "sinceId": 500}, [501, 502, 503], 1),
            ({"limit": 2, "maxId": 500}, [500, 499], 1),
            ({"limit": 1, "maxId": 1, "skip": 1}, [], 1),
            ({"limit": 1, "count": 1}, [1000], 1000 / statuses.LINES + 1),
            ({"limit": 1, "maxId": 999_999_999_999}, [1000], 1),
        )
        for options, found, parts in calls:
            with self.subTest(options=options), counted_records() as numbers:
                value = self.inbox(**options)
                self.assertEqual([row["messageId"] for row in value["results"]], found)
                self.assertEqual(value.get("count", 1000), 1000)
                self.assertLessEqual(max(numbers), statuses.LINES)
                self.assertEqual(len(numbers), parts)
        with counted_records() as numbers:
            self.assertEqual(self.counted(self.fan)["total"], 1000)
            self.api("DELETE", "/subscribe/statuses/inbox", session=self.fan["sessionToken"], messageId="7")
            self.assertEqual(self.counted(self.fan)["total"], 999)
        self.assertEqual(numbers, [])

    def test_time_of_a_long_inbox_is_limited(self):
        self.send(n=1)
        with mock.patch.object(statuses, "BATCH_SECONDS", -1):
            self.code(124, "GET", "/subscribe/statuses", status=503, session=self.fan["sessionToken"])

    def test_page_behind_the_oldest_line_is_empty(self):
        self.send(n=5)
        self.assertEqual(self.inbox()["results"][0]["messageId"], 1)
        self.assertEqual(self.inbox(maxId="0"), {"results": [], "end": True})  # Java asks below what it has seen
        self.assertEqual(self.shown(sinceId="0", maxId="0"), [5])  # JavaScript, Python, C# and Flutter ask for all

    def test_line_is_taken_out_of_ones_own_inbox_and_the_status_stays(self):
        first, _ = self.send(n=1), self.send(n=2)
        path, token = "/subscribe/statuses/inbox", self.fan["sessionToken"]
        mine = {"owner": json.dumps(pointer("_User", self.fan["objectId"])), "inboxType": "default"}
        self.code(403, "DELETE", path, status=403, session=self.star["sessionToken"], messageId="1", **mine)
        self.code(206, "DELETE", path, status=403, messageId="1", **mine)
        self.code(1, "DELETE", path, session=token, **mine)
        for _ in range(2):
            self.assertEqual(self.api("DELETE", path, session=token, messageId="1", **mine), {})
            self.assertEqual(self.counted(self.fan), {"total": 1, "unread": 1})
        self.assertEqual((self.shown(), self.counted(self.fan)), ([2], {"total": 1, "unread": 1}))
        self.assertEqual(self.shown(self.star), [2, 1])
        self.assertEqual(self.api("GET", f"/statuses/{first}", session=token)["n"], 1)


class PublishedTest(InboxCase):
    def test_statuses_of_a_user_are_listed_and_read_by_id(self):
        first, second = self.send(n=1), self.send(n=2)
        where = {"source": pointer("_User", self.star["objectId"]), "inboxType": "default"}
        listed = self.api("GET", "/statuses", where=where, order="-createdAt", count=1)
        self.assertEqual(([row["objectId"] for row in listed["results"]], listed["count"]), ([second, first], 2))
        owner = json.dumps(pointer("_User", self.fan["objectId"]))
        status = self.api("GET", f"/statuses/{first}", owner=owner, include="source", session=self.fan["sessionToken"])
        self.assertEqual((status["n"], status["source"]["username"]), (1, self.star["username"]))
        self.api("PUT", f"/statuses/{first}", {"n": 3}, session=self.star["sessionToken"])
        self.code(403, "PUT", f"/statuses/{first}", {"n": 4}, status=403, session=self.fan["sessionToken"])
        self.assertEqual(self.api("GET", f"/statuses/{first}")["n"], 3)

    def test_private_status_is_neither_listed_nor_read_by_strangers(self):
        query = {"className": "_User", "where": {"objectId": self.fan["objectId"]}}
        body = {"inboxType": "private", "data": {"n": 1}, "query": query}
        status = self.api("POST", "/statuses", body, 201, session=self.star["sessionToken"])["objectId"]
        where = {"source": pointer("_User", self.star["objectId"])}
        self.assertEqual(self.api("GET", "/statuses", where=where)["results"], [])
        self.assertEqual(self.api("GET", f"/statuses/{status}"), {})
        self.assertEqual(self.api("GET", f"/statuses/{status}", session=self.fan["sessionToken"])["n"], 1)


if __name__ == "__main__":
    unittest.main()
