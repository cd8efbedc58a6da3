"""docs/after-leancloud.md: a Flask app in the shape of LeanCloud's starter, behind the guards, as the page says."""
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

import requests

from tests.processes import READY
from tests.support import ROOT, clean_environment, copied_app, free_port, make_older, python, running

PAGE = ROOT / "docs" / "after-leancloud.md"
BLOCK = re.compile(r"^```python wsgi.py instead (.*)\n((?:.*\n)*?)```$", re.MULTILINE)
THEIRS = {
    "app.py": """
        import leancloud
        from flask import Flask, jsonify

        from views.notes import notes_view

        app = Flask(__name__)
        app.register_blueprint(notes_view, url_prefix="/notes")

        @app.route("/")
        def index():
            return "<h1>Flask</h1>"

        @app.route("/login/<name>", methods=["POST"])
        def login(name):
            user = leancloud.User()
            user.sign_up(name, "secret")
            return jsonify(id=user.id)

        @app.route("/me")
        def me():
            user = leancloud.User.get_current()
            return jsonify(id=user and user.id)
    """,
    "cloud.py": """
        from leancloud import Engine, LeanEngineError

        engine = Engine()

        @engine.define
        def hello(**params):
            return "Hello, " + params.get("name", "nobody")

        @engine.before_save("Note")
        def before_note(note):
            if not note.get("text"):
                raise LeanEngineError("a note needs a text")
            note.set("text", note.get("text")[:5])
    """,
    "views/__init__.py": "",
    "views/notes.py": """
        import leancloud
        from flask import Blueprint, redirect, render_template, request, url_for

        notes_view = Blueprint("notes", __name__)
        Note = leancloud.Object.extend("Note")

        @notes_view.route("")
        def show():
            try:
                notes = leancloud.Query(Note).find()
            except leancloud.LeanCloudError as error:
                if error.code != 101:
                    raise
                notes = []
            return render_template("notes.html", notes=notes)

        @notes_view.route("", methods=["POST"])
        def add():
            try:
                Note(text=request.form["text"]).save()
            except leancloud.LeanCloudError as error:
                return error.error, 502
            return redirect(url_for("notes.show"))
    """,
    "templates/notes.html": "<ul>{% for note in notes %}<li>{{ note.get('text') }}</li>{% endfor %}</ul>",
    "static/style.css": "body { color: black }",
}


def _packages(page):
    """The packages of the page's pip command."""
    [command] = re.findall(r"^pip install (.+)$", page, re.MULTILINE)
    return re.findall(r'"([^"]+)"', command)


@unittest.skipIf(sys.version_info >= (3, 14), "Flask 1.1 does not run on Python 3.14")
class FlaskTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.libraries = Path(tempfile.mkdtemp(prefix="flask-"))
        cls.addClassCleanup(shutil.rmtree, cls.libraries)
        command = python("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(cls.libraries), *_packages(PAGE.read_text()))
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise unittest.SkipTest("Flask cannot be installed here")

    def setUp(self):
        self.folder = copied_app(self)
        for name in ("handlers.py", "router.py", "todos.py"):
            (self.folder / name).unlink()
        shutil.rmtree(self.folder / "static")
        for name, text in THEIRS.items():
            file = self.folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(textwrap.dedent(text))
        wsgi = self.folder / "wsgi.py"
        lines = wsgi.read_text().splitlines(keepends=True)
        for anchor, text in BLOCK.findall(PAGE.read_text()):
            start = lines.index(f"{anchor}\n")
            end = lines.index(")\n", start) + 1 if anchor.endswith("(") else start + 1
            lines[start:end] = [text]
        wsgi.write_text("".join(lines))
        make_older(self.folder)

    def test_flask_app_has_sessions_hooks_and_guards(self):
        port = free_port()
        variables = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": self.folder / "data", "PYTHONPATH": self.libraries}
        url = f"http://127.0.0.1:{port}"
        with running(python("wsgi.py"), READY, folder=self.folder, **variables), requests.Session() as anna, requests.Session() as bert:
            page = anna.get(url, timeout=10)
            self.assertEqual(page.text, "<h1>Flask</h1>")
            self.assertIn("default-src 'self'", page.headers["Content-Security-Policy"])
            self.assertIn("body", anna.get(f"{url}/static/style.css", timeout=10).text)
            self.assertEqual(anna.get(f"{url}/notes", timeout=10).text, "<ul></ul>")
            self.assertEqual(anna.post(f"{url}/notes", {"text": "<b>1234"}, timeout=10).text, "<ul><li>&lt;b&gt;12</li></ul>")
            refused = anna.post(f"{url}/notes", {"text": ""}, timeout=10)
            self.assertEqual((refused.status_code, "a note needs a text" in refused.text), (502, True))
            known = anna.post(f"{url}/login/anna", timeout=10).json()["id"]
            for _ in range(40):  # by every thread, each of which has served anna before
                self.assertEqual(anna.get(f"{url}/me", timeout=10).json(), {"id": known})
                self.assertEqual(bert.get(f"{url}/me", timeout=10).json(), {"id": None})
            foreign = anna.post(f"{url}/notes", {"text": "x"}, headers={"Origin": "http://elsewhere.test"}, timeout=10)
            self.assertEqual(foreign.status_code, 403)


if __name__ == "__main__":
    unittest.main()
