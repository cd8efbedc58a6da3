"""docs/recipes.md carried out: every block is put where it says, and the changed app is run."""
import json
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

import requests

from tests.support import ROOT, clean_environment, copied_app, free_port, python, running

BLOCK = re.compile(r"^```python (\S+) (after|before) (.*)\n((?:.*\n)*?)```$", re.MULTILINE)


class RecipesTest(unittest.TestCase):
    def setUp(self):
        self.folder = copied_app(self)

    def carry_out(self):
        blocks = BLOCK.findall((ROOT / "docs" / "recipes.md").read_text())
        for name, where, anchor, text in blocks:
            file = self.folder / name
            lines = file.read_text().splitlines(keepends=True)
            [index] = [index for index, line in enumerate(lines) if line.strip().startswith(anchor.strip())][:1]
            lines.insert(index + (where == "after"), text)
            file.write_text("".join(lines))
        return len(blocks)

    def run_commands(self, port, data):
        """What the shell commands say, typed beside the app that listens on `port`."""
        [commands] = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "recipes.md").read_text(), re.MULTILINE | re.DOTALL)
        environment = clean_environment(LEANSTORAGE_DATA=str(data))
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        commands = commands.replace(":3000", f":{port}")
        done = subprocess.run(["sh", "-c", commands], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=30)
        return done.stdout

    def lint(self):
        """`make lint`, as CONTRIBUTING asks of whoever changes something."""
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        for command in (python("-m", "ruff", "check", "--no-cache", "."), python("-m", "mypy")):
            done = subprocess.run(command, cwd=self.folder, env=clean_environment(), capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_every_recipe_works_as_it_stands(self):
        self.assertEqual(self.carry_out(), 9)
        self.lint()
        port = free_port()
        data = self.folder / "data"
        variables = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": str(data), "GREETING": "hi"}
        url = f"http://127.0.0.1:{port}"
        with running(python("wsgi.py"), "cache: ", folder=self.folder, **variables) as process:
            response = requests.get(f"{url}/api/hello/you", timeout=10)
            self.assertEqual((response.text, response.headers["X-Served-By"]), ('{"hello":"you"}', "me"))
            if shutil.which("curl"):
                self.assertEqual(json.loads(self.run_commands(port, data)), {"result": 42})
            self.assertIsNone(process.poll())
        keys = json.loads((data / "keys.json").read_text())
        headers = {"X-LC-Id": keys["id"]}
        port = free_port()
        serve = python("-m", "leanstorage", "serve", "--port", str(port))
        with running(serve, "listens on", folder=self.folder, LEANSTORAGE_DATA=str(data)):
            for key, status in ((keys["key"], 400), (keys["master_key"] + ",master", 200)):
                headers["X-LC-Key"] = key
                answer = requests.get(f"http://127.0.0.1:{port}/1.1/ping", headers=headers, timeout=10)
                self.assertEqual(answer.status_code, status, answer.text)

    def test_make_it_yours_of_the_readme_is_the_first_recipe(self):
        recipe = (ROOT / "docs" / "recipes.md").read_text()
        for name in ("README.md", "README.zh-CN.md"):
            text = (ROOT / name).read_text()
            self.assertIn('("GET", "/api/hello/<name>", handlers.say_hello)', text)
            self.assertIn("def say_hello(environ, name):", text)
        self.assertIn("def say_hello(environ, name):", recipe)


if __name__ == "__main__":
    unittest.main()
