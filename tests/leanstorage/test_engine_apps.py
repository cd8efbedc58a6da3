"""Others' LeanEngine apps, unmodified, on this server: `compat.engine_apps`. `ENGINE_APPS` holds a folder for each."""
import os
import re
import subprocess
import unittest
from pathlib import Path

from compat.engine_apps import KINDS
from tests.support import ROOT, clean_environment, python

APPS = os.environ.get("ENGINE_APPS", "")
RUN_SECONDS = 300
PAGES = ("after-leancloud.md", "after-leancloud.zh-CN.md")
ROW = re.compile(r"^\| \[?`([\w-]+)`.*\| (\d+) \| [^|]+ \|$", re.MULTILINE)


class EngineAppsTest(unittest.TestCase):
    def test_every_operation_of_the_apps_works(self):
        missing = []
        for name in KINDS:
            folder = Path(APPS) / name
            if not APPS or not folder.is_dir():
                missing.append(name)
                continue
            with self.subTest(name):
                command = python("-m", "compat.engine_apps", name, str(folder))
                done = subprocess.run(
                    command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=RUN_SECONDS
                )
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        if missing:
            self.skipTest(f"ENGINE_APPS has no {', '.join(missing)}")

    def test_pages_name_each_app_with_its_number_of_operations(self):
        wanted = {name: len(kind.checks) for name, kind in KINDS.items()}
        for page in PAGES:
            with self.subTest(page):
                rows = ROW.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
                self.assertEqual({name: int(count) for name, count in rows}, wanted)

    def test_operations_of_an_app_have_names_of_their_own(self):
        for name, kind in KINDS.items():
            names = [operation for operation, _ in kind.checks]
            self.assertEqual(len(set(names)), len(names), name)


if __name__ == "__main__":
    unittest.main()
