"""The official JavaScript SDK, from npm, against a server of its own."""
import json
import os
import shutil
import subprocess
import unittest

from tests.leanstorage.storage_support import StorageTestCase
from tests.support import ROOT

MODULES = os.environ.get("NODE_PATH", "")


@unittest.skipUnless(shutil.which("node"), "Node is not installed")
@unittest.skipUnless(os.path.isdir(os.path.join(MODULES, "leancloud-storage")), "NODE_PATH has no leancloud-storage")
class JavaScriptTest(StorageTestCase):
    def test_sdk_finds_what_it_expects(self):
        storage = self.start()
        environment = {
            **os.environ,
            "APP_ID": storage.keys["id"],
            "APP_KEY": storage.keys["key"],
            "MASTER_KEY": storage.keys["master_key"],
            "SERVER_URL": storage.url,
        }
        done = subprocess.run(
            ["node", str(ROOT / "tests" / "javascript" / "storage.js")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertEqual(
            json.loads(done.stdout),
            {
                "session": True,
                "count": 2,
                "found": [["买牛奶", ["a", "b"], "js", 0]],
                "file": True,
                "long": 0,
                "cql": 1,
                "hidden": 0,
                "wrong": 210,
                "same": True,
                "conditional": 305,
                "left": 0,
            },
        )
