"""`python -m docs.reference`: the tables of docs/leanstorage.md, made from the route tables, the error enum and
the command line.

With `--write` it puts them into the file, between the markers; a test checks that they are up to date.
"""
import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from leanstorage import __main__ as command_line
from leanstorage.http import refused, routes, sms_routes
from leanstorage.rules.call import Route
from leanstorage.rules.errors import Code

FILE = Path(__file__).resolve().parent / "leanstorage.md"
NO_WORDS = ("", "")


def _words() -> dict[str, tuple[str, str]]:
    """{first cell: (last cell in English, in Chinese)} of the generated tables. Routes have theirs from docstrings."""
    lines = FILE.with_name("words.tsv").read_text("utf-8").splitlines()
    return {f"`{title}`": (english, chinese) for title, english, chinese in (line.split("\t") for line in lines)}


WORDS = _words()


def endpoints(_: str = "") -> str:
    """The supported endpoints, one row a template."""
    return _endpoints([*routes.ROUTES, *sms_routes.ROUTES])


def refusals(_: str = "") -> str:
    """The refused endpoints."""
    return _endpoints(refused.ROUTES)


def errors(_: str = "") -> str:
    """The error codes: number, status, text."""
    rows = []
    for code in sorted(Code, key=lambda code: (code.number, code.status)):
        text = code.text.replace("{{", "{").replace("}}", "}").replace("|", "\\|")
        rows.append((code.number, code.status.value, text.strip()))
    return table(("code", "HTTP", "text"), dict.fromkeys(rows))


def commands(_: str = "") -> str:
    """The commands of `python -m leanstorage` with what they take, in the words of words.tsv, else in those of --help."""
    rows = []
    known = {name: [action.dest for action in parser._actions] for name, parser, _ in _commands()}
    for name, parser, help_text in _commands():
        actions = [action for action in parser._actions if action.dest != "help"]
        taken = [_shown(action) for action in actions if action.required or not action.option_strings]
        title = f"`{' '.join([name, *taken])}`"
        options = [action.option_strings[0] for action in actions if action.option_strings and not action.required]
        if known[name] == known["serve"]:
            rows.append((title, "the table above" if name == "serve" else "the options of `serve`", WORDS.get(title, NO_WORDS)[0] or help_text))
            continue
        listed = ", ".join(f"`{option}`" for option in options) or "none"
        rows.append((title, listed, WORDS.get(title, NO_WORDS)[0] or help_text))
    return table(("command", "options", "what it does"), rows)


def options(_: str = "") -> str:
    """The options of `serve`, in the words of words.tsv, else in those of --help."""
    rows = []
    [serve] = [parser for name, parser, _ in _commands() if name == "serve"]
    for action in serve._actions:
        if action.dest != "help":
            title = f"`{action.option_strings[0]}`"
            default = {None: "none", "": "none", False: "off"}.get(action.default, f"`{action.default}`")
            rows.append((title, default, WORDS.get(title, NO_WORDS)[0] or action.help or ""))
    return table(("option of `serve`", "default", "meaning"), rows)


TABLES = {"endpoints": endpoints, "refused": refusals, "errors": errors, "commands": commands, "options": options}


def renewed(text: str, tables: Mapping[str, Callable[[str], str]], is_chinese: bool = False) -> str:
    """A document with its tables made anew; `tables` has for each marker a function of the current table."""
    for name, make in tables.items():

        def table_of(old: str, make: Callable[[str], str] = make) -> str:
            return translated(make(old), old) if is_chinese else make(old)

        pattern = rf"(<!-- {name} -->\n)(.*?)(\n<!-- end of {name} -->)"
        text = re.sub(pattern, lambda found: found[1] + table_of(found[2]) + found[3], text, flags=re.DOTALL)
    return text


CHINESE_CELLS = {"none": "无", "off": "关", "the table above": "见上表", "the options of `serve`": "`serve` 的选项"}


def translated(new: str, old: str) -> str:
    """A table for a Chinese page: its head as it was, its last cells in the words of words.tsv."""
    rows = new.splitlines()
    lines = [old.splitlines()[0] if old else rows[0], rows[1]]
    for row in rows[2:]:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
        middle = [CHINESE_CELLS.get(cell, cell) for cell in cells[1:-1]]
        lines.append(f"| {' | '.join([cells[0], *middle, WORDS.get(cells[0], NO_WORDS)[1] or cells[-1]])} |")
    return "\n".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _endpoints(table_of_routes: Iterable[Route]) -> str:
    methods: dict[str, list[str]] = {}
    for method, template, _ in table_of_routes:
        methods.setdefault(template.replace("<path:path>", "..."), []).append(method)
    rows = [(f"`/1.1{template}`", ", ".join(sorted(found))) for template, found in sorted(methods.items())]
    return table(("path", "methods"), rows)


def _commands() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """(name, parser, help) of each command, as argparse keeps them."""
    [found] = [one for one in command_line.parser()._actions if isinstance(one, argparse._SubParsersAction)]
    for choice in found._choices_actions:
        yield choice.dest, found.choices[choice.dest], choice.help or ""


def _shown(action: argparse.Action) -> str:
    """An argument as a reader writes it."""
    metavar = str(action.metavar or action.dest.upper())
    shown = {"+": f"{metavar}...", "*": f"[{metavar}...]", "?": f"[{metavar}]" if not action.option_strings else metavar}.get(str(action.nargs), metavar)
    return f"{action.option_strings[0]} {shown}" if action.option_strings else shown
