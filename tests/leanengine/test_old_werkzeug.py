"""The SDK's router on a Python whose `ast` has no `Str`: 3.14, or any other from which it was taken away."""
import ast
import subprocess
import unittest

from tests.support import ROOT, clean_environment, needs_storage, python

# As on 3.14: neither the name nor what would still answer to it with a warning.
WITHOUT_STR = """
import ast
vars(ast).pop("Str", None)
vars(ast).pop("__getattr__", None)
assert not hasattr(ast, "Str")
"""
ROUTES = """
from werkzeug.routing import Map, Rule
urls = Map([Rule("/"), Rule("/a/<name>/b/", endpoint="one"), Rule("/c/d", endpoint="two", defaults={"page": 1})]).bind("host")
print(urls.build("one", {"name": "x y", "more": "1"}), urls.build("two"), urls.match("/a/z/b/"))
"""


def run(code):
    return subprocess.run(
        python("-W", "error::DeprecationWarning:__main__", "-c", code), cwd=ROOT, env=clean_environment(), capture_output=True, text=True
    )


class OldWerkzeugTest(unittest.TestCase):
    def test_routes_without_the_view_need_what_newer_pythons_lack(self):
        """When this fails, Werkzeug has changed and leanengine/old_werkzeug.py can go."""
        done = run(WITHOUT_STR + ROUTES)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("'Str'", done.stderr)

    def test_routes_with_the_view_are_built_and_matched(self):
        done = run(WITHOUT_STR + "from leanengine import old_werkzeug\n" + ROUTES)
        self.assertEqual(done.stdout, "/a/x%20y/b/?more=1 /c/d ('one', {'name': 'z'})\n", done.stderr)

    @needs_storage
    def test_sdk_is_imported_after_the_view_and_wsgi_imports_both(self):
        for statement in ("from leanengine import old_werkzeug; import leancloud", "import wsgi; wsgi.parts.close()"):
            with self.subTest(statement):
                done = run(WITHOUT_STR + statement)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_view_is_seen_by_the_router_alone(self):
        code = "import ast; before = dict(vars(ast)); from leanengine import old_werkzeug; print(vars(ast) == before, 'Str' in vars(ast))"
        self.assertEqual(run(code).stdout, f"True {'Str' in vars(ast)}\n")


if __name__ == "__main__":
    unittest.main()
