"""Unmodified `leanengine` of several generations, from npm, behind `serve --engine`: functions, users, hooks, loops."""
import os
import shutil
import tempfile
import unittest
from pathlib import Path

import requests

from tests.processes import storage
from tests.support import ROOT, running, until

ENGINES = Path(os.environ.get("NODE_ENGINES", "/nowhere"))  # a folder for each version, with its node_modules
VERSIONS = sorted(folder.name for folder in ENGINES.glob("[0-9]*") if (folder / "node_modules" / "leanengine").is_dir())


@unittest.skipUnless(shutil.which("node"), "Node is not installed")
@unittest.skipUnless(VERSIONS, "NODE_ENGINES has no leanengine")
class NodeEngineTest(unittest.TestCase):
    def setUp(self):
        self.data = tempfile.mkdtemp(prefix="engine-")
        self.addCleanup(shutil.rmtree, self.data)

    def api(self, method, path, body=None, session=None):
        headers = {"X-LC-Id": self.keys["LEANCLOUD_APP_ID"], "X-LC-Key": self.keys["LEANCLOUD_APP_KEY"]}
        if session:
            headers["X-LC-Session"] = session
        answer = requests.request(method, f"{self.keys['LEANCLOUD_API_SERVER']}/1.1{path}", json=body, headers=headers, timeout=20)
        return answer.status_code, answer.json()

    def run_app(self, version, keys, port):
        modules = ENGINES / version / "node_modules"
        environment = {**keys, "LEANCLOUD_APP_PORT": port, "NODE_PATH": modules, "ENGINE_GENERATION": version.split(".")[0]}
        if int(version.split(".")[0]) >= 3:
            environment["NEW_SDK"] = "yes"
        return running(["node", str(ROOT / "tests" / "javascript" / "engine.js")], "engine listens", **environment)

    def test_functions_users_and_hooks_work_and_saves_inside_hooks_end(self):
        for version in VERSIONS:
            with self.subTest(version), storage(f"{self.data}/{version}", engine=True) as (keys, port):
                self.keys = keys
                with self.run_app(version, keys, port):
                    self.assertEqual(self.api("POST", "/functions/hello", {"name": "Ann"}), (200, {"result": "Hello, Ann!"}))
                    user = self.api("POST", "/users", {"username": "ann", "password": "secret"})[1]
                    known = self.api("POST", "/functions/whoAmI", {}, user["sessionToken"])
                    self.assertEqual(known, (200, {"result": user["objectId"]}))
                    self.assertEqual(self.api("POST", "/functions/whoAmI", {})[1].get("result"), None)
                    status, post = self.api("POST", "/classes/Post", {"title": "  a title "})
                    self.assertEqual(status, 201)
                    path = f"/classes/Post/{post['objectId']}"
                    until(lambda: self.api("GET", path)[1].get("seen"), 10)
                    self.assertEqual(self.api("GET", path)[1]["title"], "a title")
                    status, refused = self.api("POST", "/classes/Post", {"title": "refused"})
                    self.assertEqual((status, "no such title" in refused["error"]), (400, True))
                    self.assertEqual(self.api("PUT", path, {"title": "another"})[0], 200)
                    until(lambda: self.api("GET", path)[1].get("updates"), 10)
                    done = self.api("POST", "/functions/calls", {})[1]["result"]
                    # The engine marks the objects of after hooks: saving them calls no after hook again.
                    self.assertEqual(done, {"after": 1, "updated": 1})
                    self.assertEqual(self.api("GET", path)[1]["updates"], 1)


if __name__ == "__main__":
    unittest.main()
