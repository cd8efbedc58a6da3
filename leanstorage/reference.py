"""`python -m leanstorage.reference`: the tables of docs/leanstorage.md, made from the route tables and the error enum.

With `--write` it puts them into the file, between the markers; a test checks that they are up to date.
"""
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from leanstorage import refused, routes
from leanstorage.calls import Route
from leanstorage.errors import Code

FILE = Path(__file__).resolve().parent.parent / "docs" / "leanstorage.md"


def endpoints() -> str:
    """The supported endpoints, one row a template."""
    return _table(routes.ROUTES)


def refusals() -> str:
    """The refused endpoints."""
    return _table(refused.ROUTES)


def errors() -> str:
    """The error codes: number, status, text."""
    lines = ["| code | HTTP | text |", "|---|---|---|"]
    for code in sorted(Code, key=lambda code: (code.number, code.status)):
        text = code.text.replace("{{", "{").replace("}}", "}").replace("|", "\\|")
        lines.append(f"| {code.number} | {code.status.value} | {text.strip()} |")
    return "\n".join(dict.fromkeys(lines))


def with_tables(text: str) -> str:
    """The document with every table between its markers renewed."""
    for name, table in (("endpoints", endpoints()), ("refused", refusals()), ("errors", errors())):
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)"
        text = re.sub(pattern, lambda found: found.group(1) + table + found.group(2), text, flags=re.DOTALL)
    return text


def _table(table: Iterable[Route]) -> str:
    methods: dict[str, list[str]] = {}
    for method, template, _ in table:
        methods.setdefault(template.replace("<path:path>", "..."), []).append(method)
    lines = ["| path | methods |", "|---|---|"]
    lines += [f"| `/1.1{template}` | {', '.join(sorted(found))} |" for template, found in sorted(methods.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(with_tables(FILE.read_text()))
    else:
        print(endpoints(), refusals(), errors(), sep="\n\n")
