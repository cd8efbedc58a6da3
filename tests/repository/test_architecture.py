"""The lines that the folders' structure promises: who may import whom, and how large anything may be."""
import ast
import unittest

from tests.support import ROOT

FOLDERS = ("leanengine", "leanwsgi", "leanstorage")
FILES = [*ROOT.glob("*.py"), *(file for name in FOLDERS for file in (ROOT / name).rglob("*.py"))]
MAX_LINES, MAX_FUNCTION, MAX_PARAMETERS, MAX_WSGI, MAX_HANDLERS = 500, 60, 8, 150, 400
# Folder of leanstorage -> what it may import of leanstorage.
LAYERS = {
    "http": {"http", "resources", "rules", "engine", "blobs", "store"},
    "resources": {"resources", "rules", "engine", "blobs", "store"},
    "engine": {"engine", "rules", "store"},
    "rules": {"rules", "blobs", "store"},
    "blobs": {"blobs", "store"},
    "store": {"store"},
    "takeout": {"takeout", "resources", "rules", "blobs", "store"},
}


def module(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(file): file for file in FILES}


def imported(file, is_lazy_too=True):
    """The names of the modules that a file imports; `from a import b` is a.b where that is a module."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree) if is_lazy_too else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


class ImportsTest(unittest.TestCase):
    def test_folders_import_only_what_lies_below(self):
        top = {file.stem for file in ROOT.glob("*.py")}
        allowed = {"leanengine": {"leanengine", "leanwsgi"}, "leanwsgi": {"leanwsgi"}, "leanstorage": {"leanstorage", "leanwsgi"}}
        for file in FILES:
            folder = file.relative_to(ROOT).parts[0]
            for name in imported(file):
                first = name.split(".")[0]
                with self.subTest(file=str(file.relative_to(ROOT)), name=name):
                    if folder in FOLDERS and (first in FOLDERS or first in top):
                        is_local = (file.name, first) == ("local.py", "leanstorage")  # the one place that starts it
                        self.assertTrue(first in allowed[folder] or is_local)
                    elif first in FOLDERS:
                        self.assertNotEqual(first, "leanstorage")

    def test_router_imports_messages_alone(self):
        ours = {name for name in imported(ROOT / "router.py") if name in MODULES}
        self.assertEqual(ours, {"leanwsgi.messages"})

    def test_storage_imports_only_what_lies_below(self):
        for name, file in MODULES.items():
            parts = name.split(".")
            if parts[0] == "leanstorage" and len(parts) > 1 and parts[1] in LAYERS:
                for other in imported(file):
                    layer = other.split(".")[1] if other.startswith("leanstorage.") else None
                    if layer is not None:
                        with self.subTest(file=name, name=other):
                            self.assertIn(layer, LAYERS[parts[1]])

    def test_no_modules_import_each_other_in_a_circle(self):
        graph = {name: {one for one in imported(file, False) if one in MODULES} for name, file in MODULES.items()}
        done = set()

        def visit(name, way):
            self.assertNotIn(name, way, [*way, name])
            if name not in done:
                for other in graph[name] - {name}:
                    visit(other, [*way, name])
                done.add(name)

        for name in graph:
            visit(name, [])

    def test_nothing_is_imported_for_its_types_alone(self):
        self.assertEqual([module(file) for file in FILES if "TYPE_CHECKING" in file.read_text()], [])

    def test_only_the_entries_read_the_environment(self):
        allowed = {"wsgi", "leanstorage.__main__", "leanstorage.takeout.commands"}
        for file in FILES:
            if "os.environ" in file.read_text():
                self.assertIn(module(file), allowed)

    def test_names_that_the_app_and_the_storage_share_are_written_in_one_module(self):
        names = ("AVOSCLOUD_", "ULURU_", "AVOSCloud-", "Uluru-", "__before_save_for_", "_SessionToken")
        texts = {module(file): file.read_text().replace('"X-', '"').replace("HTTP_X_", '"') for file in FILES}
        writers = {name for name, text in texts.items() if any(f'"{one}' in text for one in names)}
        self.assertEqual(writers, {"leanwsgi.leancloud_wire"})

    def test_waitress_is_touched_in_one_module(self):
        users = {module(file) for file in FILES if any(name.split(".")[0] == "waitress" for name in imported(file))}
        self.assertEqual(users, {"leanwsgi.waitress_server"})


class SizeTest(unittest.TestCase):
    def test_modules_and_functions_are_read_in_one_sitting(self):
        for file in FILES:
            text = file.read_text()
            with self.subTest(module(file)):
                self.assertLessEqual(len(text.splitlines()), MAX_LINES)
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    with self.subTest(module(file), function=node.name):
                        self.assertLessEqual(node.end_lineno - node.lineno + 1, MAX_FUNCTION)
                        if node.name != "__init__":  # self is no parameter of a function
                            self.assertLessEqual(len(node.args.args + node.args.kwonlyargs), MAX_PARAMETERS)

    def test_files_at_the_top_stay_small(self):
        for name, limit in (("wsgi.py", MAX_WSGI), ("handlers.py", MAX_HANDLERS)):
            self.assertLessEqual(len((ROOT / name).read_text().splitlines()), limit, name)


if __name__ == "__main__":
    unittest.main()
