"""`python -m docs.tables`: what the documents take from the code, which is tables of routes and settings, and lines.

A link like [`messages.upload`](messages.py#L153-L196) leads to the lines of what it names: a function, a class, a
value, or else the one line that holds this text. With `--write` everything is put into the documents, the tables of
docs.reference too; a test checks that it is up to date. The app is read and not imported: wsgi.py starts
services when it is.
"""
import ast
import functools
import re
import sys
from pathlib import Path

from docs import reference
from docs.reference import renewed, table, words

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[`([^`]+)`\]\(([^)#\s]+)#L[L0-9-]*\)")


def documents():
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def lines_of(file, name):
    """(first, last) line of what is named so in a file; raise ValueError when nothing is, or more than one line."""
    text = file.read_text()
    if file.suffix == ".py":
        found = _definition(_parsed(text).body, name.removeprefix(f"{file.stem}.").split("."))
        if found is not None:
            return min([found.lineno, *(one.lineno for one in getattr(found, "decorator_list", []))]), found.end_lineno
    lines = [number for number, line in enumerate(text.splitlines(), 1) if name in line]
    if len(lines) != 1:
        raise ValueError(f"{file.name} has {len(lines)} lines with {name}")
    return lines[0], lines[0]


def _definition(body, names):
    for node in body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if names[0] in [getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)]:
            return node if len(names) == 1 else _definition(getattr(node, "body", []), names[1:])
    return None


def with_lines(document, text):
    """The text of a document with the line numbers of its links to code made anew."""

    def link(found):
        name, target = found.groups()
        first, last = lines_of(document.parent / target, name)
        return f"[`{name}`]({target}#L{first}{f'-L{last}' if last > first else ''})"

    return LINK.sub(link, text)


def routes(old=""):
    """The app's routes and their handlers: the first line of a docstring, else the words there were."""
    kept, rows = words(old), []
    calls = [node for node in ast.walk(_tree("wsgi")) if isinstance(node, ast.Call)]
    [call] = [node for node in calls if getattr(node.func, "id", "") == "Router"]
    for row in call.args[0].elts:
        method, template, handler = row.elts
        title = f"`{method.value} {template.value}`"
        said = (ast.get_docstring(_definition(_tree("handlers").body, [handler.attr])) or "").split("\n")[0]
        said = said.removeprefix(f"{method.value} ").replace("|", "\\|")
        rows.append((title, f"[`{handler.attr}`](../handlers.py#L)", said or kept.get(title, "")))
    return table(("route", "handler", "what it does"), rows)


def settings(old=""):
    """The app's settings with their defaults, in the words there were."""
    kept, rows = words(old), []
    for row in _definition(_tree("wsgi").body, ["SETTINGS"]).value.elts:
        _, variable, _, default = row.elts
        title = f"`{variable.value}`"
        rows.append((title, f"`{default.value}`" if default.value else "none", kept.get(title, "")))
    return table(("variable", "default", "meaning"), rows)


def up_to_date(document):
    """The text that a document should have."""
    text = reference.with_tables(document.read_text())
    return with_lines(document, renewed(text, {"routes": routes, "settings": settings}))


def _tree(name):
    return _parsed((ROOT / f"{name}.py").read_text())


@functools.cache
def _parsed(text):
    return ast.parse(text)


if __name__ == "__main__":
    for one in documents():
        if "--write" in sys.argv:
            one.write_text(up_to_date(one))
        elif up_to_date(one) != one.read_text():
            print(f"{one.relative_to(ROOT)} is not up to date: python -m docs.tables --write")
