"""The official Python SDK of every generation, from PyPI, unmodified, each against a server of its own.

PYTHON_SDKS holds a folder for each old one, made by `pip install --no-deps --target`; the newest is the app's own.
"""
import importlib.util
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

from tests.leanstorage.storage_support import StorageTestCase
from tests.support import ROOT, clean_environment

SDKS = os.environ.get("PYTHON_SDKS", "")
VERSIONS = ("1.8.0", "1.13.0", "2.1.14", "2.8.1")
WANTED = {
    "operations": [3, ["a"], 2, 7],
    "found": [6, 5],
    "count": 3,
    "cql": 2,
    "relation": 1,
    "condition": 305,
    "left": 1,
    "same": True,
    "wrong": 210,
    "become": "somebody",
    "role": True,
    "file": "hello",
    "held": "hello",
    "external": "http://files.example/logo.png",
    "gone": 404,
}


@unittest.skipUnless(importlib.util.find_spec("leancloud"), "leancloud is not installed")
class PythonTest(StorageTestCase):
    def check(self, version, **environment):
        with self.subTest(version):
            storage = self.start(version)
            place = {"APP_ID": storage.keys["id"], "APP_KEY": storage.keys["key"], "LC_API_SERVER": storage.url}
            done = subprocess.run(
                [sys.executable, "-W", "ignore", str(ROOT / "tests" / "python" / "sdk_versions.py")],
                env=clean_environment(**place, **environment) | {"PYTHONWARNINGS": "ignore"},
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual(done.returncode, 0, done.stderr[-2000:])
            self.assertEqual(json.loads(done.stdout.splitlines()[-1]), WANTED)

    def test_program_runs_with_the_newest(self):
        self.check("3.0.2")

    def test_program_of_every_generation_runs(self):
        missing = [version for version in VERSIONS if not SDKS or not (Path(SDKS) / version).is_dir()]
        for version in VERSIONS:
            if version not in missing:
                self.check(version, PYTHONPATH=Path(SDKS) / version)
        if missing:
            self.skipTest(f"PYTHON_SDKS has no {', '.join(missing)}")


if __name__ == "__main__":
    unittest.main()
