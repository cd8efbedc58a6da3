"""docs/recipes.md carried out: every block is put where it says, and the changed app is run."""
import json
import re
import select
import textwrap
import time
import unittest

import requests

from tests.support import ROOT, copied_app, free_port, python, running

BLOCK = re.compile(r"^```python (\S+) (after|before) (.*)\n((?:.*\n)*?)```$", re.MULTILINE)


def carry_out(folder):
    """Put every block of docs/recipes.md into a copy of the app where it says; return how many there were."""
    blocks = BLOCK.findall((ROOT / "docs" / "recipes.md").read_text())
    for name, where, anchor, text in blocks:
        file = folder / name
        lines = file.read_text().splitlines(keepends=True)
        [index] = [index for index, line in enumerate(lines) if line.strip().startswith(anchor.strip())][:1]
        lines.insert(index + (where == "after"), text)
        file.write_text("".join(lines))
    return len(blocks)


def said_again(process):
    """Wait until a running app has said once more that it listens."""
    text, end = "", time.monotonic() + 20
    while "cache: " not in text and time.monotonic() < end and process.poll() is None:
        select.select([process.stdout], [], [], 0.1)
        text += (process.stdout.read() or b"").decode()
    assert "starting again" in text and "cache: " in text, text


class RecipesTest(unittest.TestCase):
    def setUp(self):
        self.folder = copied_app(self)

    def test_every_recipe_works_as_it_stands(self):
        self.assertEqual(carry_out(self.folder), 9)
        port = free_port()
        data = self.folder / "data"
        variables = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": str(data), "GREETING": "hi"}
        url = f"http://127.0.0.1:{port}"
        with running(python("wsgi.py"), "cache: ", folder=self.folder, **variables) as process:
            response = requests.get(f"{url}/api/hello/you", timeout=10)
            self.assertEqual((response.text, response.headers["X-Served-By"]), ('{"hello":"you"}', "me"))
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

    def test_make_it_yours_of_the_readme_works_step_by_step_while_the_app_runs(self):
        text = (ROOT / "README.md").read_text().split("## Make it yours")[1].split("\n## ")[0]
        function, route = (textwrap.dedent(block) for block in re.findall(r" *```python\n(.*?) *```", text, re.DOTALL))
        self.assertIn(function, (ROOT / "docs" / "recipes.md").read_text())
        [(path, answer)] = re.findall(r"`curl http://127.0.0.1:3000(\S+)` answers `(.+)`", text)
        [place] = re.findall(r"begins after `(.+)`:", text)
        port = free_port()
        variables = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": str(self.folder / "data")}
        with running(python("wsgi.py"), "cache: ", folder=self.folder, **variables) as process:
            with open(self.folder / "handlers.py", "a") as file:  # each step is saved, and the app starts again
                file.write("\n\n" + function)
            said_again(process)
            file = self.folder / "wsgi.py"
            before, after = file.read_text().split(f"{place}\n        [\n")
            file.write_text(f"{before}{place}\n        [\n{route}{after}")
            said_again(process)
            self.assertEqual(requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).text, answer)


if __name__ == "__main__":
    unittest.main()
