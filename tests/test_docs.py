"""Documentation against the code: tables that are generated, links that resolve, names that exist."""
import ast
import re
import unittest

from leanstorage import reference
from tests.support import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# Who may import whom inside leanstorage: the request-free rules know nothing of requests, the store of nothing above it.
RULES = {"acl", "changes", "classes", "cql", "errors", "operations", "passwords", "patterns", "queries", "values", "calls", "hooks"}
STORE = {"store"}


def imported(file):
    """Names of modules that a file imports, with `leanstorage.` taken off those of the service."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == "leanstorage":
                yield from (f"leanstorage.{alias.name}" for alias in node.names)


class DocumentsTest(unittest.TestCase):
    def test_generated_tables_are_up_to_date(self):
        text = reference.FILE.read_text()
        self.assertTrue(reference.with_tables(text) == text, "run python -m leanstorage.reference --write")
        self.assertTrue("/1.1/classes/<class_name>" in text)

    def test_links_inside_the_repository_resolve(self):
        for document in DOCUMENTS:
            for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
                if "://" not in target:
                    with self.subTest(document=document.name, target=target):
                        self.assertTrue((document.parent / target).exists())

    def test_every_setting_is_documented(self):
        import wsgi

        text = "".join(document.read_text() for document in DOCUMENTS)
        for _, variable, _, _ in wsgi.SETTINGS:
            with self.subTest(variable):
                self.assertTrue(variable in text, variable)

    def test_tests_named_in_the_documents_exist(self):
        defined = set()
        for file in (ROOT / "tests").glob("*.py"):
            names = {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
            defined |= names | {f"{file.stem}.{name}" for name in names} | {file.stem, file.name}
        for document in DOCUMENTS:
            for name in re.findall(r"`((?:test_[a-z0-9_]+\.)?(?:test_[a-z0-9_]+|[A-Z]\w+Test))`", document.read_text()):
                with self.subTest(document=document.name, name=name):
                    self.assertTrue(name in defined, name)


def texts(file, *names):
    """The literal beginnings of texts that a file raises or prints: the arguments of calls of these names."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", getattr(node.func, "attr", "")) not in names:
            continue
        for argument in node.args:
            first = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and " " in first.value.strip():
                yield first.value.strip()


class TroubleshootingTest(unittest.TestCase):
    def test_what_stops_a_start_and_what_the_app_answers_is_explained(self):
        text = (ROOT / "docs" / "troubleshooting.md").read_text()
        said = [one for name in ("wsgi.py", "leanstorage/keys.py") for one in texts(ROOT / name, "SystemExit", "ValueError")]
        for name in ("handlers.py", "middleware.py", "door.py", "messages.py", "sdk.py", "router.py"):
            said += texts(ROOT / name, "HTTPError", "too_large")
        for name in ("blobs.py", "s3_blobs.py", "store/__init__.py"):
            said += texts(ROOT / "leanstorage" / name, "ValueError")
        said += [one for one in texts(ROOT / "leanstorage" / "__main__.py", "print") if one.startswith("cannot")]
        self.assertGreater(len(said), 50)
        for one in said:
            with self.subTest(one):
                self.assertTrue(one.rstrip(":").strip() in text, one)

    def test_error_codes_of_the_storage_are_in_its_reference(self):
        from leanstorage.errors import Code

        text = reference.FILE.read_text()
        for code in Code:
            with self.subTest(code.name):
                self.assertRegex(text, rf"\| {code.number} \|")


class LayersTest(unittest.TestCase):
    def test_modules_import_only_what_lies_below(self):
        top = {"wsgi", "handlers", "middleware", "door", "sdk", "cache", "server"}
        for file in (ROOT / "leanstorage").rglob("*.py"):
            for name in imported(file):
                with self.subTest(file=file.name, name=name):
                    self.assertNotIn(name, top)
        for name in ("router.py", "messages.py"):
            self.assertFalse([one for one in imported(ROOT / name) if one in top or one.startswith("leanstorage")])
        for file in (ROOT / "leanstorage" / "store").glob("*.py"):
            for name in imported(file):
                self.assertFalse(name.startswith("leanstorage") and not name.startswith("leanstorage.store"), (file, name))
        for rule in RULES:
            for name in imported(ROOT / "leanstorage" / f"{rule}.py"):
                if name.startswith("leanstorage."):
                    self.assertIn(name.split(".")[1], RULES | STORE, rule)

    def test_only_the_entries_read_the_environment(self):
        allowed = {"wsgi.py", "__main__.py"}
        for file in [*ROOT.glob("*.py"), *(ROOT / "leanstorage").rglob("*.py")]:
            if file.name not in allowed and "os.environ" in file.read_text():
                self.assertIn(file.relative_to(ROOT).as_posix(), {"leanstorage/takeout/commands.py"})

    def test_error_numbers_stand_in_the_enum_alone(self):
        for file in (ROOT / "leanstorage").rglob("*.py"):
            if file.name != "errors.py":
                self.assertIsNone(re.search(r'"code":\s*\d', file.read_text()), file.name)

    def test_every_test_method_is_named_so_that_it_runs(self):
        for file in (ROOT / "tests").glob("test_*.py"):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef) and node.name.endswith("Test") and len(node.bases) == 1:
                    names = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
                    self.assertTrue(any(name.startswith("test_") for name in names), f"{file.name} {node.name}")


if __name__ == "__main__":
    unittest.main()
