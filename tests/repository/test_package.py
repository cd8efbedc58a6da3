"""`pip install .`: the storage as a package, without the app."""
import importlib.metadata
import json
import subprocess
import tempfile
import unittest
import zipfile
from pathlib import Path

import requests

from tests.support import ROOT, clean_environment, copied_app, free_port, python, running


def has_setuptools():
    try:
        return int(importlib.metadata.version("setuptools").split(".")[0]) >= 77
    except importlib.metadata.PackageNotFoundError:
        return False


class PackageTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    @unittest.skipUnless(has_setuptools(), "setuptools 77 or newer is not installed: no wheel is built")
    def test_wheel_holds_storage_alone_and_serves(self):
        source = copied_app(self)
        for name in ("pyproject.toml", "LICENSE"):
            (source / name).write_bytes((ROOT / name).read_bytes())
        build = python("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(self.folder), str(source))
        done = subprocess.run(build, env=clean_environment(), capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        [wheel] = self.folder.glob("leanstorage-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            [script] = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
            archive.extractall(self.folder / "installed")
        tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
        self.assertEqual(tops, {"leanstorage", "leanwsgi"})
        self.assertIn("leanstorage = leanstorage.__main__:main", script)
        self.serve(self.folder / "installed")

    def test_storage_runs_with_everything_else_deleted(self):
        source = copied_app(self)
        alone = self.folder / "alone"
        alone.mkdir()
        for name in ("leanstorage", "leanwsgi"):
            (source / name).rename(alone / name)
        self.serve(alone)

    def serve(self, folder):
        port = free_port()
        data = self.folder / "data"
        command = python("-m", "leanstorage", "serve", "--port", str(port))
        with running(command, "listens on", folder=folder, LEANSTORAGE_DATA=data):
            keys = json.loads((data / "keys.json").read_text())
            headers = {"X-LC-Id": keys["id"], "X-LC-Key": keys["key"]}
            url = f"http://127.0.0.1:{port}/1.1/classes/Thing"
            self.assertEqual(requests.post(url, json={"a": 1}, headers=headers, timeout=10).status_code, 201)


if __name__ == "__main__":
    unittest.main()
