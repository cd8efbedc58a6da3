"""Documentation against the code: tables that are generated, links that resolve, names that exist."""
import ast
import re
import unittest

from docs import tables
from docs import reference
from leanengine.settings import SETTINGS
from tests.support import ROOT

DOCUMENTS = tables.documents()
CODE = [*ROOT.glob("*.py"), *(file for name in ("leanengine", "leanwsgi", "leanstorage") for file in (ROOT / name).rglob("*.py"))]
README = (ROOT / "README.md", ROOT / "README.zh-CN.md")


def slugs(text):
    """The anchors of a document: its headings as GitHub spells them in links."""
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text):
    """(path, anchor) of every link and picture; the path of one within the document itself is empty."""
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<(?:img|a) [^>]*(?:src|href)="([^"]+)"', text)
    return [one.partition("#")[::2] for one in found if "://" not in one]


class DocumentsTest(unittest.TestCase):
    def test_tables_taken_from_the_code_are_up_to_date(self):
        for document in DOCUMENTS:
            with self.subTest(document.name):
                self.assertTrue(tables.up_to_date(document) == document.read_text(), "run make docs")
        self.assertTrue("/1.1/classes/<class_name>" in reference.FILE.read_text())
        for document in (reference.FILE, reference.FILE.with_name("leanstorage.zh-CN.md")):
            self.assertNotIn("%(", document.read_text())  # of a help text
        self.assertNotIn("%(", reference.options())
        self.assertTrue("`PATCH /api/todos/<todo_id>`" in (ROOT / "docs" / "architecture.md").read_text())

    def test_link_to_code_names_what_is_there(self):
        count = 0
        for document in DOCUMENTS:
            for name, target in re.findall(r"\[`([^`]+)`\]\(([^)#]+\.(?:py|txt|yaml))\)", document.read_text()):
                with self.subTest(document=document.name, name=name):
                    count += 1
                    code = (document.parent / target).read_text()
                    last = name.split(".")[-1]
                    is_defined = re.search(rf"^ *(def|class) {re.escape(last)}\b|^{re.escape(last)}\b.*=", code, re.MULTILINE)
                    self.assertTrue(is_defined or name in code)
        self.assertGreater(count, 50)

    def test_links_inside_the_repository_resolve_with_their_anchors(self):
        for document in DOCUMENTS:
            for target, anchor in links(document.read_text()):
                with self.subTest(document=document.name, target=target, anchor=anchor):
                    file = document.parent / target if target else document
                    self.assertTrue(file.exists())
                    if anchor:
                        self.assertIn(anchor, slugs(file.read_text()))

    def test_every_page_is_in_the_index(self):
        for name in ("index.md", "index.zh-CN.md"):
            index = ROOT / "docs" / name
            listed = {(index.parent / target).resolve().as_posix().replace(".zh-CN", "") for target, _ in links(index.read_text())}
            for document in (ROOT / "docs").rglob("*.md"):
                with self.subTest(index=name, document=document.name):
                    self.assertIn(document.resolve().as_posix().replace(".zh-CN", ""), {*listed, (ROOT / "docs" / "index.md").as_posix()})

    def test_every_setting_is_documented(self):
        """Whatever the app or the storage may read from the environment, by its name in the code."""
        text = (ROOT / "docs" / "configuration.md").read_text()
        names = set()
        for file in CODE:
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    names |= set(re.findall(r"^(?:LEANCLOUD|LEANSTORAGE|LEANCACHE|REDIS|AWS)_[A-Z_]+$", node.value))
        names |= {variable for _, variable, _, _ in SETTINGS}
        self.assertGreater(len(names), 15)
        for name in names:
            with self.subTest(name):
                self.assertTrue(f"`{name}" in text, name)

    def test_every_option_of_the_storage_is_documented(self):
        text = reference.FILE.read_text()
        for name, parser, _ in reference._commands():
            self.assertTrue(f"| `{name}" in text, name)
            for action in parser._actions:
                for option in action.option_strings if action.dest != "help" else ():
                    with self.subTest(command=name, option=option):
                        shown = (f"`{option}`", f"{name} {option} ", f" {option} URL`")
                        self.assertTrue(any(one in text for one in shown))

    def test_every_route_of_the_app_is_documented(self):
        text = (ROOT / "docs" / "architecture.md").read_text()
        rows = [line for line in text.splitlines() if re.match(r"\| `(GET|POST|PUT|PATCH|DELETE) ", line)]
        routes = re.findall(r'\("([A-Z]+)", "(/[^"]*)", handlers', (ROOT / "wsgi.py").read_text())
        self.assertEqual(len(rows), len(routes))
        for method, template in routes:
            self.assertTrue(any(row.startswith(f"| `{method} {template}` | [`") for row in rows), template)

    def test_cells_of_generated_tables_and_of_the_readme_are_not_empty(self):
        generated = ("leanstorage", "architecture", "configuration")
        for document in (*README, *(ROOT / "docs" / f"{name}.md" for name in generated)):
            for line in document.read_text().splitlines():
                if line.startswith("|"):
                    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                    self.assertTrue(all(cells), line)

    def test_translations_have_the_structure_of_the_original(self):
        for translation in DOCUMENTS:
            if translation.name.endswith(".zh-CN.md"):
                original = translation.with_name(translation.name.replace(".zh-CN", ""))
                with self.subTest(original.name):
                    self.assertEqual(structure(translation.read_text()), structure(original.read_text()))

    def test_tests_named_in_the_documents_exist(self):
        defined = set()
        for file in (ROOT / "tests").rglob("*.py"):
            names = {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
            defined |= names | {f"{file.stem}.{name}" for name in names} | {file.stem, file.name}
        for document in DOCUMENTS:
            for name in re.findall(r"`((?:test_[a-z0-9_]+\.)?(?:test_[a-z0-9_]+|[A-Z]\w+Test))`", document.read_text()):
                with self.subTest(document=document.name, name=name):
                    self.assertTrue(name in defined, name)


def structure(text):
    """What a document is made of in any language: headings, rows, items, blocks and pictures in order; links; code.

    Of a row also what is in each cell: how many names in code, which tests, which links.
    """
    text = text.replace(".zh-CN.md", ".md")
    parts = []
    for line in text.splitlines():
        kind = re.match(r"#+ |\||[0-9]+\. |- | *```.*|<img", line)
        if kind:
            cells = re.split(r"(?<!\\)\|", line) if line.startswith("|") else []
            tests = [sorted(re.findall("`test_[a-z0-9_]+`", cell)) for cell in cells]
            parts.append((kind[0], [cell.count("`") for cell in cells], tests, [_targets(cell) for cell in cells]))
    return parts, _targets(text), re.findall(r"```(?:python|nginx)\n(.*?)```", text, re.DOTALL)


def _targets(text):
    """The links of a text, whose anchors differ from language to language."""
    return sorted((target, "#" if anchor else "") for target, anchor in links(text))


def texts(file, *names):
    """The texts that a file raises or prints, or the longest piece of each: the arguments of calls of these names."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", getattr(node.func, "attr", "")) not in names:
            continue
        for argument in node.args:
            pieces = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
            constants = [piece.value for piece in pieces if isinstance(piece, ast.Constant)]
            longest = max((one.strip(" :'") for one in constants if isinstance(one, str)), key=len, default="")
            if " " in longest:
                yield longest


class TroubleshootingTest(unittest.TestCase):
    def test_what_stops_a_start_and_what_the_app_answers_is_explained(self):
        text = (ROOT / "docs" / "troubleshooting.md").read_text()
        said = [one for name in ("leanengine/settings.py", "leanengine/start.py", "leanengine/local.py", "leanstorage/keys.py", "leanwsgi/setting_values.py") for one in texts(ROOT / name, "SystemExit", "ValueError")]
        for name in ("handlers.py", "todos.py", "router.py", "leanengine/middleware.py", "leanengine/cloud_code.py", "leanengine/sdk.py", "leanengine/users.py", "leanwsgi/messages.py", "leanwsgi/static_files.py"):
            said += texts(ROOT / name, "HTTPError", "too_large")
        for name in ("blobs/folder.py", "blobs/s3.py", "store/__init__.py"):
            said += texts(ROOT / "leanstorage" / name, "ValueError")
        said += [one for one in texts(ROOT / "leanstorage" / "__main__.py", "print") if one.startswith("cannot")]
        self.assertGreater(len(said), 50)
        for one in said:
            with self.subTest(one):
                self.assertTrue(one in text, one)

    def test_what_the_commands_of_the_storage_refuse_is_explained(self):
        text = (ROOT / "docs" / "troubleshooting.md").read_text()
        takeout = ROOT / "leanstorage" / "takeout"
        said = [*texts(takeout / "commands.py", "print")]
        for file in (ROOT / "leanstorage" / "__main__.py", ROOT / "leanstorage" / "rules" / "indexes.py"):
            said += texts(file, "ValueError")
        for file in (ROOT / "leanstorage" / "operator").glob("*.py"):
            said += texts(file, "ValueError")
        for file in takeout.glob("*.py"):
            said += texts(file, "Refused", "SourceError", "RemoteError", "AnswerTooLarge", "ValueError", "FileExistsError")
            said += texts(file, "note", "fail")
        self.assertGreater(len(said), 60)
        for one in said:
            with self.subTest(one):
                self.assertTrue(one in text, one)

    def test_error_codes_of_the_storage_are_in_its_reference(self):
        from leanstorage.rules.errors import Code

        for file in (reference.FILE, reference.FILE.with_suffix(".zh-CN.md")):
            rows = set(file.read_text().splitlines())
            for code in Code:
                with self.subTest(code.name, page=file.name):
                    text = code.text.replace("{{", "{").replace("}}", "}").strip()
                    self.assertTrue(f"| {code.number} | {int(code.status)} | {text} |" in rows)


class WordsTest(unittest.TestCase):
    def test_page_says_every_word_that_it_has_in_both_languages(self):
        files = [file for file in (ROOT / "static").iterdir() if file.suffix in (".html", ".js") and file.name != "words.js"]
        page = "".join(file.read_text() for file in files)
        words = re.findall(r'^  "?([\w ]+)"?: \["([^"]+)", "([^"]+)"\],$', (ROOT / "static" / "words.js").read_text(), re.MULTILINE)
        self.assertGreater(len(words), 40)
        for name, english, chinese in words:
            with self.subTest(name):
                self.assertTrue(f'"{name}"' in page or name.startswith("empty "))
                self.assertEqual(set(re.findall(r"\{\w+\}", english)), set(re.findall(r"\{\w+\}", chinese)))
                self.assertRegex(chinese, r"[\u4e00-\u9fff]")


class LayersTest(unittest.TestCase):
    def test_only_the_entries_read_the_environment(self):
        allowed = {"wsgi.py", "__main__.py"}
        for file in CODE:
            if file.name not in allowed and "os.environ" in file.read_text():
                self.assertIn(file.relative_to(ROOT).as_posix(), {"leanstorage/takeout/commands.py"})

    def test_error_numbers_stand_in_the_enum_alone(self):
        for file in (ROOT / "leanstorage").rglob("*.py"):
            if file.name != "errors.py":
                self.assertIsNone(re.search(r'"code":\s*\d', file.read_text()), file.name)

    def test_every_test_method_is_named_so_that_it_runs(self):
        for file in (ROOT / "tests").rglob("test_*.py"):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef) and node.name.endswith("Test") and len(node.bases) == 1:
                    names = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
                    self.assertTrue(any(name.startswith("test_") for name in names), f"{file.name} {node.name}")


if __name__ == "__main__":
    unittest.main()
