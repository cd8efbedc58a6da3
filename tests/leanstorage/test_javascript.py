"""The official JavaScript SDK of every generation, from npm, unmodified, each against a server of its own.

NODE_PATH holds `leancloud-storage`, its older versions as `storage-1.5.5`, ..., and `avoscloud-sdk`.
"""
import itertools
import json
import os
import shutil
import subprocess
import unittest

from tests.leanstorage.storage_support import StorageTestCase
from tests.support import ROOT

MODULES = os.environ.get("NODE_PATH", "")
TODAY = "leancloud-storage"
VERSIONS = (
    "avoscloud-sdk", "storage-1.5.5", "storage-2.5.4", "storage-3.0.4", "storage-3.15.0", "storage-4.0.0", "storage-4.8.0", "storage-4.13.0", TODAY
)
MINI_PROGRAMS = tuple(name for name in VERSIONS if name not in ("avoscloud-sdk", "storage-1.5.5"))
WANTED = {
    "saved": "string",
    "operations": [3, ["a", "b"], 0, 2],
    "child": 7,
    "many": [6, 5],
    "count": 3,
    "cql": 2,
    "relation": 1,
    "signUp": True,
    "logIn": True,
    "wrongPassword": 210,
    "become": True,
    "profile": "x",
    "follow": [["star"], 0],
    "status": [["hello"], 1],
    "file": ["hello.txt", "hello"],
    "base64": "hello",
    "external": ["string", "logo.png", "http://files.example/logo.png"],
    "role": "string",
    "destroyed": 0,
}


def has(name):
    return os.path.isdir(os.path.join(MODULES, name))


@unittest.skipUnless(shutil.which("node"), "Node is not installed")
class JavaScriptTest(StorageTestCase):
    def setUp(self):
        super().setUp()
        self.folders = map(str, itertools.count())

    def run_script(self, name, *arguments):
        """What a script prints, decoded; it finds a server of its own in its environment."""
        storage = self.start(next(self.folders))
        environment = {
            **os.environ,
            "APP_ID": storage.keys["id"],
            "APP_KEY": storage.keys["key"],
            "MASTER_KEY": storage.keys["master_key"],
            "SERVER_URL": storage.url,
        }
        done = subprocess.run(
            ["node", str(ROOT / "tests" / "javascript" / name), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        return json.loads(done.stdout.splitlines()[-1])

    @unittest.skipUnless(has(TODAY), "NODE_PATH has no leancloud-storage")
    def test_sdk_finds_what_it_expects(self):
        wanted = {
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
        }
        self.assertEqual(self.run_script("storage.js"), wanted)

    def test_program_of_every_generation_runs(self):
        for name in filter(has, VERSIONS):
            with self.subTest(name):
                self.assertEqual(self.run_script("sdk_versions.js", name), WANTED)
        self.tell_missing(VERSIONS)

    def test_mini_program_uploads(self):
        wanted = {
            "user": True,
            "uploads": 1,
            "found": ["hello", "hello"],
            "size": 5,
            "external": "http://files.example/logo.png",
            "wrong": 210,
        }
        for name in filter(has, MINI_PROGRAMS):
            with self.subTest(name):
                self.assertEqual(self.run_script("mini_program.js", name), wanted)
        self.tell_missing(MINI_PROGRAMS)

    def tell_missing(self, names):
        missing = [name for name in names if not has(name)]
        if missing:
            self.skipTest(f"NODE_PATH has no {', '.join(missing)}")


if __name__ == "__main__":
    unittest.main()
