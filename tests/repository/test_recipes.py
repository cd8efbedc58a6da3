"""docs/recipes.md and docs/tutorial.md carried out: every change is made as they say, and the app runs."""
import json
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

import requests

from tests.support import ROOT, clean_environment, copied_app, free_port, make_older, python, read_until, running

RECIPES = ROOT / "docs" / "recipes.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(?:python|html|javascript) (\S+) (after|before|new|end) ?(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
STARTED_AGAIN = r"starting again(.*\n)+.*cache: "


def carry_out(folder, document=RECIPES):
    """Put every block of a document into a copy of the app where it says; return how many there were."""
    blocks = BLOCK.findall(document.read_text())
    for block in blocks:
        put(folder, *block)
    make_older(folder)
    return len(blocks)


def put(folder, name, where, anchor, text):
    """One block: a new file, at the end of one, or before or after a line."""
    file = folder / name
    if where == "new":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return
    lines = file.read_text().splitlines(keepends=True)
    if where == "end":
        index = len(lines)
    else:
        [index] = [index for index, line in enumerate(lines) if line.strip().startswith(anchor.strip())][:1]
    lines.insert(index + (where == "after"), text)
    file.write_text("".join(lines))


class RecipesTest(unittest.TestCase):
    def setUp(self):
        self.folder = copied_app(self)

    def lint(self):
        """`make lint`, as whoever changes something would."""
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        for command in (python("-m", "ruff", "check", "--no-cache", "."), python("-m", "mypy")):
            done = subprocess.run(command, cwd=self.folder, env=clean_environment(), capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_recipe_works_as_it_stands(self):
        self.assertEqual(carry_out(self.folder), 10)
        port = free_port()
        data = self.folder / "data"
        variables = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": data, "GREETING": "hi"}
        url = f"http://127.0.0.1:{port}"
        with running(python("wsgi.py"), "cache: ", folder=self.folder, **variables) as process:
            response = requests.get(f"{url}/api/hello/you", timeout=10)
            self.assertEqual((response.text, response.headers["X-Served-By"]), ('{"hello":"you"}', "me"))
            if shutil.which("curl"):
                answer = re.search(r"^answers `(.+)`", RECIPES.read_text(), re.MULTILINE)[1]
                self.assertEqual(self.typed(RECIPES.read_text(), "functions/double", port, data), answer)
            self.assertIsNone(process.poll())
        keys = json.loads((data / "keys.json").read_text())
        headers = {"X-LC-Id": keys["id"]}
        port = free_port()
        serve = python("-m", "leanstorage", "serve", "--port", str(port))
        with running(serve, "listens on", folder=self.folder, LEANSTORAGE_DATA=data):
            for key, status in ((keys["key"], 400), (keys["master_key"] + ",master", 200)):
                headers["X-LC-Key"] = key
                answer = requests.get(f"http://127.0.0.1:{port}/1.1/ping", headers=headers, timeout=10)
                self.assertEqual(answer.status_code, status, answer.text)

    def test_app_changed_by_every_recipe_and_the_tutorial_passes_the_linters(self):
        carry_out(self.folder)
        carry_out(self.folder, TUTORIAL)
        self.lint()

    def test_tutorial_works_step_by_step_while_the_app_runs(self):
        text = TUTORIAL.read_text()
        steps = BLOCK.findall(text)
        self.assertEqual(len(steps), 8)
        shutil.copytree(ROOT / "tests", self.folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "repository"))
        port, data = free_port(), self.folder / "data"
        variables = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": data}
        url = f"http://127.0.0.1:{port}"
        with running(python("wsgi.py"), "cache: ", folder=self.folder, **variables) as process:
            for step in steps:  # each is saved, and the app starts again
                put(self.folder, *step)
                if "/" not in step[0]:
                    read_until(process, STARTED_AGAIN)
                if step[0] == "wsgi.py" and "/api/guests" in step[3]:
                    answers = self.typed(text, "curl http://localhost:3000/api/guests ", port, data)
                    self.assertIn(re.search(r"The last answer is `(.+)`", text)[1], answers)
            page = requests.get(f"{url}/guests", timeout=10)
            self.assertEqual((page.status_code, page.headers["Content-Type"]), (200, "text/html; charset=utf-8"))
            self.assertIn("text/javascript", requests.get(f"{url}/static/guests.js", timeout=10).headers["Content-Type"])
            refused = requests.post(f"{url}/api/guests", json={"name": " ", "text": "x"}, timeout=10)
            self.assertEqual(refused.status_code, 400)
            self.assertIn("name must not be blank", refused.json()["error"])
            self.assertEqual(self.typed(text, "countEntries", port, data), re.search(r"The answer is `(.+)`,", text)[1])
        self.typed(text, "python -m unittest", port, data)
        self.assert_tests_pass()

    def typed(self, text, part, port, data):
        """What the one block of commands with this part says."""
        [commands] = [block for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if part in block]
        environment = clean_environment(LEANSTORAGE_DATA=data, NO_PROXY="127.0.0.1")
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        done = subprocess.run(
            ["sh", "-ec", commands.replace("localhost:3000", f"127.0.0.1:{port}")],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def assert_tests_pass(self):
        """The tests that an app keeps, in the copy that was changed."""
        kept = ("tests.app.test_handlers", "tests.app.test_router", "tests.leanengine.test_settings", "tests.leanengine.test_session")
        command = python("-m", "unittest", *kept)
        done = subprocess.run(command, cwd=self.folder, env=clean_environment(), capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
