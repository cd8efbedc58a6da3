"""LeanTicket, LeanCloud's help desk: its own server, unmodified.

LEANTICKET is the folder `next/api` of LeanTicket's source, with its packages
(`npm ci`) and compiled (`npx swc src -d dist`). Its classes come from the schema files in `resources/schema`.
"""

import http.client
import io
import json
import os
import shutil
import subprocess
import unittest
from pathlib import Path

from leanstorage.takeout import importer
from leanstorage.takeout.report import Report
from tests.leanstorage.storage_support import StorageTestCase
from tests.support import free_port, running

SOURCE = os.environ.get("LEANTICKET", "")
SERVER = 'require("./dist").app.listen(process.env.PORT, "127.0.0.1", () => console.log("it listens"))'


def environment(storage):
    found = {f"LEANCLOUD_APP_{name.upper()}": value for name, value in storage.keys.items()}
    return found | {"LEANCLOUD_API_SERVER": storage.url, "LEANCLOUD_API_HOST": storage.url}


@unittest.skipUnless(shutil.which("node") and shutil.which("redis-server"), "Node or Redis is not installed")
@unittest.skipUnless(os.path.isdir(os.path.join(SOURCE, "dist")), "LEANTICKET names no folder with its compiled server")
class LeanTicketTest(StorageTestCase):
    def setUp(self):
        super().setUp()
        self.storage = self.start()
        out, schema = io.StringIO(), Path(SOURCE, "..", "..", "resources", "schema")
        report = Report(self.folder / "refused", out, out)
        self.assertEqual(importer.run([schema], self.storage.database, self.storage.keys, "x", report=report), 0, out.getvalue())
        self.port, redis = free_port(), free_port()
        server = subprocess.Popen(["redis-server", "--port", str(redis), "--save", "", "--logfile", str(self.folder / "redis.log")])
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        place = dict.fromkeys(("REDIS_URL_QUEUE", "REDIS_URL_CACHE"), f"redis://127.0.0.1:{redis}")
        place |= {"PORT": self.port, "NODE_ENV": "development", "TICKET_HOST": "http://ticket.example", **environment(self.storage)}
        self.enterContext(running(["node", "-e", SERVER], "it listens", folder=SOURCE, **place))
        self.users = {name: self.sign_up(name) for name in ("boss", "agent", "bob")}
        for role, names in (("admin", ["boss"]), ("customerService", ["boss", "agent"]), ("staff", ["boss", "agent"])):
            pointers = [{"__type": "Pointer", "className": "_User", "objectId": self.users[name]["objectId"]} for name in names]
            body = {"name": role, "ACL": {"*": {"read": True}}, "users": {"__op": "AddRelation", "objects": pointers}}
            self.assertEqual(self.storage.request("POST", "/roles", body, master=True)[0], 201)

    def sign_up(self, name):
        return self.storage.request("POST", "/users", {"username": name, "password": "pw", "email": f"{name}@example.com"})[1]

    def ask(self, who, method, path, body=None):
        headers = {"Content-Type": "application/json", "X-LC-Session": self.users[who]["sessionToken"]}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, f"/api/2{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        self.assertIn(answer.status, (200, 201), text)
        return json.loads(text)

    def test_ticket_is_written_answered_assigned_and_resolved(self):
        category = self.ask("boss", "POST", "/categories", {"name": "General", "description": "all"})["id"]
        ticket = self.ask("bob", "POST", "/tickets", {"title": "Help", "content": "It **broke**", "categoryId": category})["id"]
        path = f"/tickets/{ticket}"
        self.assertIn("<strong>broke</strong>", self.ask("bob", "GET", path)["contentSafeHTML"])
        self.ask("agent", "POST", f"{path}/replies", {"content": "hello", "internal": False})
        self.ask("agent", "POST", f"{path}/replies", {"content": "among us", "internal": True})
        self.assertEqual([one["content"] for one in self.ask("bob", "GET", f"{path}/replies")], ["hello"])
        self.assertEqual([one["content"] for one in self.ask("agent", "GET", f"{path}/replies")], ["hello", "among us"])
        agent = self.users["agent"]["objectId"]
        self.ask("agent", "PATCH", path, {"assigneeId": agent, "privateTags": [{"key": "mood", "value": "angry"}]})
        self.ask("agent", "POST", f"{path}/operate", {"action": "resolve"})
        [found] = self.ask("bob", "GET", f"/tickets?authorId={self.users['bob']['objectId']}")
        self.assertEqual((found["id"], found["assigneeId"], found["replyCount"]), (ticket, agent, 1))
        self.assertIn("resolve", [one["action"] for one in self.ask("agent", "GET", f"{path}/ops-logs")])
        # A hidden column of its schema: whoever wrote the ticket reads it by the API and sees no tags of the staff.
        status, shown = self.storage.request("GET", f"/classes/Ticket/{ticket}", session=self.users["bob"]["sessionToken"])
        self.assertEqual((status, shown["title"], "privateTags" in shown), (200, "Help", False))
        stored = self.storage.request("GET", f"/classes/Ticket/{ticket}", master=True)[1]
        self.assertEqual(stored["privateTags"], [{"key": "mood", "value": "angry"}])


if __name__ == "__main__":
    unittest.main()
