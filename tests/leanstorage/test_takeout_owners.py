"""Two owners who do what their page says, command by command, with a stand-in of LeanCloud: a blog with Valine, a mobile app."""

import os
import subprocess
import sys
import unittest

from tests.leanstorage.test_takeout_leave import LeaveTestCase
from tests.repository.test_leaving_pages import storage_commands
from tests.support import ROOT, clean_environment

OTHER = "https://other.lcfile.com/b.png"


@unittest.skipUnless(os.environ.get("CI"), "only with CI=1: it starts a dozen programs")
class OwnersTest(LeaveTestCase):
    def setUp(self):
        super().setUp()
        self.keys = self.source.keys  # an owner keeps the keys
        names = {f"LEANCLOUD_APP_{name.upper()}": value for name, value in self.keys.items()}
        self.environment = clean_environment(LEANSTORAGE_DATA=self.folder / "target", **names)

    def do(self, *arguments):
        """What a command of the storage says; it must end well."""
        command = [sys.executable, "-m", "leanstorage", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, f"{arguments}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def commands(self, page, name):
        """The page's commands of one name, with the stand-in in the place of LeanCloud."""
        text = (ROOT / "docs" / "leaving" / page).read_text()
        return [[one.replace("https://api.example.com", self.url) for one in found] for found in storage_commands(text) if found[0] == name]

    def test_blog_with_valine_keeps_its_comments_and_those_of_the_days_between(self):
        old = self.source.request
        first = old("POST", "/classes/Comment", {"comment": "one", "url": "/a/"})[1]["objectId"]
        counter = old("POST", "/classes/Counter", {"url": "/a/", "time": 41})[1]["objectId"]
        self.url = self.stand_in(seconds=0).url
        leave = self.commands("valine.md", "leave")[0]
        self.assertIn("everything came", self.do(*leave))
        for command in self.commands("valine.md", "permissions"):
            self.do(*command)
        new = self.start("target", keys=self.keys)
        here = new.request("POST", "/classes/Comment", {"comment": "here", "url": "/a/"})[1]["objectId"]
        between = old("POST", "/classes/Comment", {"comment": "between", "url": "/a/"})[1]["objectId"]
        self.assertEqual(self.do(*leave).count("Traceback"), 0)
        found = new.request("GET", "/classes/Comment")[1]["results"]
        self.assertEqual({one["objectId"]: one["comment"] for one in found}, {first: "one", here: "here", between: "between"})
        self.assertEqual(new.request("DELETE", f"/classes/Comment/{first}")[0], 403)
        body = {"time": {"__op": "Increment", "amount": 1}}
        self.assertEqual(new.request("PUT", f"/classes/Counter/{counter}", body, query={"fetchWhenSave": "true"})[1]["time"], 42)

    def test_mobile_app_keeps_its_users_logged_in_with_passwords_that_changed_meanwhile(self):
        old = self.source.request
        user = old("POST", "/users", {"username": "ann", "password": "first"})[1]
        note = old("POST", "/classes/Note", {"text": f"see https://old.lcfile.com/a.png and {OTHER}"})[1]["objectId"]
        leancloud = self.stand_in(seconds=0)
        self.url = leancloud.url
        leave, again = self.commands("mobile-app.md", "leave")
        [last] = self.commands("mobile-app.md", "pull")
        gone = old("POST", "/classes/Note", {"text": "gone"})[1]["objectId"]
        self.do(*leave)
        old("PUT", f"/classes/Note/{note}", {"n": 1})  # it comes with its old URL again
        old("DELETE", f"/classes/Note/{gone}")
        changed = old("PUT", f"/users/{user['objectId']}/updatePassword", {"old_password": "first", "new_password": "second"}, session=user["sessionToken"])
        self.assertEqual(changed[0], 200)
        leancloud.export = self.packed_export("later")
        self.do(*leave)
        self.do(*again)
        self.do(*last)
        new = self.start("target", keys=self.keys)
        self.assertEqual(new.request("POST", "/login", {"username": "ann", "password": "first"})[0], 400)
        status, found = new.request("POST", "/login", {"username": "ann", "password": "second"})
        self.assertEqual((status, found["sessionToken"]), (200, changed[1]["sessionToken"]))
        self.assertEqual([one["objectId"] for one in new.request("GET", "/classes/Note")[1]["results"]], [note])
        text = new.request("GET", f"/classes/Note/{note}")[1]["text"]
        self.assertEqual(text, f"see https://files.example.com/a.png and {OTHER}")


if __name__ == "__main__":
    unittest.main()
