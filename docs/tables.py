"""`python -m docs.tables`: the tables of routes, settings, options and errors in the documents, made from the code.

With `--write` they are put into the documents; a test checks that they are up to date. The code is read, not imported:
importing wsgi.py starts services.
"""
import ast
import sys
from pathlib import Path

from docs import reference
from docs.reference import NO_WORDS, WORDS, renewed, table

ROOT = Path(__file__).resolve().parent.parent


def documents():
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def _definition(body, names):
    for node in body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if names[0] in [getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)]:
            return node if len(names) == 1 else _definition(getattr(node, "body", []), names[1:])
    return None


def routes(_=""):
    """The app's routes and their handlers, with the first line of the docstring."""
    rows = []
    calls = [node for node in ast.walk(_tree("wsgi")) if isinstance(node, ast.Call)]
    [call] = [node for node in calls if getattr(node.func, "id", "") == "Router"]
    for row in call.args[0].elts:
        method, template, handler = row.elts
        module = handler.value.id
        title = f"`{method.value} {template.value}`"
        said = (ast.get_docstring(_definition(_tree(module).body, [handler.attr])) or "").split("\n")[0]
        said = said.removeprefix(f"{method.value} ").replace("|", "\\|")
        rows.append((title, f"[`{handler.attr}`](../{module}.py)", said))
    return table(("route", "handler", "what it does"), rows)


def settings(_=""):
    """The app's settings with their defaults, in the words of words.tsv."""
    rows = []
    for row in _definition(_tree("leanengine/settings").body, ["SETTINGS"]).value.elts:
        _, variable, _, default = row.elts
        title = f"`{variable.value}`"
        rows.append((title, f"`{default.value}`" if default.value else "none", WORDS.get(title, NO_WORDS)[0]))
    return table(("variable", "default", "meaning"), rows)


def up_to_date(document):
    """The text that a document should have."""
    tables = {**reference.TABLES, "routes": routes, "settings": settings}
    return renewed(document.read_text(), tables, is_chinese=document.name.endswith(".zh-CN.md"))


def _tree(name):
    return ast.parse((ROOT / f"{name}.py").read_text())


if __name__ == "__main__":
    for one in documents():
        if "--write" in sys.argv:
            one.write_text(up_to_date(one))
        elif up_to_date(one) != one.read_text():
            print(f"{one.relative_to(ROOT)} is not up to date: python -m docs.tables --write")
