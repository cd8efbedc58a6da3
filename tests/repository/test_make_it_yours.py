"""docs/make-it-yours.md carried out, section by section, each in a copy of the project; then the tests of what is left."""
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import requests

from leanengine.settings import PLATFORM_VARIABLES
from tests.processes import READY
from tests.support import ROOT, clean_environment, free_port, python, running

PAGE = ROOT / "docs" / "make-it-yours.md"
BLOCK = re.compile(r"^```(?:(sh)|python (\S+) (after|new|instead) ?(.*))\n((?:.*\n)*?)```$", re.MULTILINE)
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "data", "__pycache__", ".*_cache", ".hypothesis", "build", "*.egg-info")


class MakeItYoursTest(unittest.TestCase):
    def follow(self, title):
        """The project, copied and changed as the section says."""
        folder = Path(tempfile.mkdtemp(prefix="yours-"))
        self.addCleanup(shutil.rmtree, folder)
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT, dirs_exist_ok=True)
        [section] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        blocks = BLOCK.findall(section)
        self.assertEqual(len(blocks), section.count("```") // 2)
        for shell, name, where, anchor, text in blocks:
            if shell:
                subprocess.run(["sh", "-ec", text], cwd=folder, check=True, env=clean_environment())
            else:
                self.put(folder / name, where, anchor, text)
        return folder

    def put(self, file, where, anchor, text):
        if where == "new":
            file.write_text(text)
            return
        lines = file.read_text().splitlines(keepends=True)
        start = next(index for index, line in enumerate(lines) if line.strip() == anchor.strip())
        if where == "after":
            lines.insert(start + 1, text)
        else:
            lines[start : lines.index(")\n", start) + 1] = [text]
        file.write_text("".join(lines))

    def assert_tests_pass(self, folder, *modules):
        done = subprocess.run(
            python("-m", "unittest", *modules), cwd=folder, env=clean_environment(CI=""), capture_output=True, text=True, timeout=280
        )
        self.assertEqual(done.returncode, 0, done.stderr[-4000:])
        self.assertNotIn("Ran 0 tests", done.stderr)

    def assert_serves(self, folder, path, text, **environment):
        port = free_port()
        variables = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": folder / "data", **environment}
        with running(python("wsgi.py"), READY, folder=folder, **variables):
            self.assertIn(text, requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).text)

    def test_second_class_has_its_page_hook_function_and_test(self):
        folder = self.follow("A second class")
        self.assert_tests_pass(folder, "tests.app.test_notes", "tests.app.test_handlers", "tests.app.test_router")

    def test_app_with_another_name_says_it(self):
        folder = self.follow("Another name")
        self.assert_serves(folder, "/", "<title>Errands</title>")
        self.assertNotIn("Todos", (folder / "static" / "404.html").read_text())
        self.assertIn("Errands", (folder / "static" / "words.js").read_text())
        self.assert_tests_pass(folder, "tests.app.test_handlers")

    def test_app_without_todos_serves_and_its_tests_pass(self):
        folder = self.follow("Without the todo app")
        self.assert_serves(folder, "/", "<h1>Mine</h1>")
        self.assert_tests_pass(folder, "tests.app.test_router", "tests.leanengine.test_session", "tests.leanengine.test_start")

    def test_app_without_the_storage_serves_and_its_tests_pass(self):
        folder = self.follow("Without the storage")
        nothing = subprocess.run(python("wsgi.py"), cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=30)
        self.assertEqual(nothing.returncode, 1)
        self.assertRegex(nothing.stderr, r"\Athere is no storage: set LEANCLOUD_APP_ID, [^\n]+\n\Z")
        keys = {**dict.fromkeys(PLATFORM_VARIABLES, "x"), "LEANCLOUD_API_SERVER": "http://127.0.0.1:9"}
        self.assert_serves(folder, "/", "<title>Todos</title>", **keys)
        self.assert_tests_pass(folder)


if __name__ == "__main__":
    unittest.main()
