"""docs/recipes.md and README's "Make it yours" carried out: what is to be changed is changed as they say, and the app run."""
import json
import re
import shutil
import subprocess
import sys
import textwrap
import unittest
from pathlib import Path

import requests

from tests.support import ROOT, clean_environment, copied_app, free_port, make_older, python, read_until, running

RECIPES = ROOT / "docs" / "recipes.md"
BLOCK = re.compile(r"^```python (\S+) (after|before|new) ?(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
STARTED_AGAIN = r"starting again(.*\n)+.*cache: "


def carry_out(folder):
    """Put every block of docs/recipes.md into a copy of the app where it says; return how many there were."""
    blocks = BLOCK.findall(RECIPES.read_text())
    for name, where, anchor, text in blocks:
        file = folder / name
        if where == "new":
            file.write_text(text)
            continue
        lines = file.read_text().splitlines(keepends=True)
        [index] = [index for index, line in enumerate(lines) if line.strip().startswith(anchor.strip())][:1]
        lines.insert(index + (where == "after"), text)
        file.write_text("".join(lines))
    make_older(folder)
    return len(blocks)


class RecipesTest(unittest.TestCase):
    def setUp(self):
        self.folder = copied_app(self)

    def run_commands(self, port, data):
        """What the shell commands say, typed beside the app that listens on `port`."""
        [commands] = re.findall(r"^```sh\n(.*?)^```$", RECIPES.read_text(), re.MULTILINE | re.DOTALL)
        environment = clean_environment(LEANSTORAGE_DATA=data, NO_PROXY="127.0.0.1")
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        commands = commands.replace(":3000", f":{port}")
        done = subprocess.run(["sh", "-c", commands], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

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
                self.assertEqual(self.run_commands(port, data), answer)
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

    def test_app_changed_by_every_recipe_passes_the_linters(self):
        carry_out(self.folder)
        self.lint()

    def test_make_it_yours_of_the_readme_works_step_by_step_while_the_app_runs(self):
        text = (ROOT / "README.md").read_text().split("## Make it yours")[1].split("\n## ")[0]
        function, route = (textwrap.dedent(block) for block in re.findall(r" *```python\n(.*?) *```", text, re.DOTALL))
        self.assertIn(function, RECIPES.read_text())
        [(path, answer)] = re.findall(r"`curl http://localhost:3000(\S+)` answers `(.+?)`", text)
        [place] = re.findall(r"begins after `(.+)`:", text)
        port = free_port()
        variables = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": self.folder / "data"}
        with running(python("wsgi.py"), "cache: ", folder=self.folder, **variables) as process:
            with open(self.folder / "handlers.py", "a") as file:  # each step is saved, and the app starts again
                file.write("\n\n" + function)
            read_until(process, STARTED_AGAIN)
            file = self.folder / "wsgi.py"
            before, after = file.read_text().split(f"{place}\n    [\n")
            file.write_text(f"{before}{place}\n    [\n{route}{after}")
            read_until(process, STARTED_AGAIN)
            self.assertEqual(requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).text, answer)
        self.assert_tests_pass()

    def assert_tests_pass(self):
        """The tests that an app keeps, in the copy that was changed."""
        shutil.copytree(ROOT / "tests", self.folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "repository"))
        kept = ("tests.app.test_handlers", "tests.app.test_router", "tests.leanengine.test_settings", "tests.leanengine.test_session")
        command = python("-m", "unittest", *kept)
        done = subprocess.run(command, cwd=self.folder, env=clean_environment(), capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
