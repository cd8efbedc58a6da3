"""`python -m leanstorage.reference`: the tables of docs/leanstorage.md, made from the command line, the route tables and
the error enum.

With `--write` it puts them into the file, between the markers; a test checks that they are up to date.
"""
import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from leanstorage import __main__ as command_line
from leanstorage import refused, routes
from leanstorage.calls import Route
from leanstorage.errors import Code

FILE = Path(__file__).resolve().parent.parent / "docs" / "leanstorage.md"


def options() -> str:
    """The options of `serve`: how they are written, what they mean."""
    _, serve = _commands()["serve"]
    lines = ["| option of `serve` | meaning |", "|---|---|"]
    for action in serve._actions:
        if action.dest != "help":
            lines.append(f"| `{_written(action)}` | {(action.help or '') % vars(action)} |")
    return "\n".join(lines)


def commands() -> str:
    """The other commands, with the names of their options."""
    lines = ["| command | what it does | options |", "|---|---|---|"]
    for name, (text, command) in _commands().items():
        if name == "serve":
            continue
        actions = [action for action in command._actions if action.dest != "help"]
        words = [name, *(_written(action) for action in actions if not action.option_strings)]
        names = ", ".join(f"`{action.option_strings[0]}`" for action in actions if action.option_strings)
        lines.append(f"| `{' '.join(words)}` | {text} | {names} |")
    return "\n".join(lines)


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
    for name, table in TABLES.items():
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)"
        text = re.sub(pattern, lambda found: found.group(1) + table() + found.group(2), text, flags=re.DOTALL)
    return text


def _commands() -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """{name: (help, parser)} of the subcommands."""
    top = command_line.parser()
    [found] = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    return {action.dest: (action.help or "", found.choices[action.dest]) for action in found._choices_actions}


def _written(action: argparse.Action) -> str:
    """An option with its value, or an argument, as `--help` has it."""
    choices = "{" + ",".join(map(str, action.choices or ())) + "}"
    value = str(action.metavar or (choices if action.choices else action.dest.upper()))
    if not action.option_strings:
        return {"*": f"[{value} ...]", "+": f"{value} ..."}.get(str(action.nargs), value)
    return action.option_strings[0] if action.nargs == 0 else f"{action.option_strings[0]} {value}"


def _table(table: Iterable[Route]) -> str:
    methods: dict[str, list[str]] = {}
    for method, template, _ in table:
        methods.setdefault(template.replace("<path:path>", "..."), []).append(method)
    lines = ["| path | methods |", "|---|---|"]
    lines += [f"| `/1.1{template}` | {', '.join(sorted(found))} |" for template, found in sorted(methods.items())]
    return "\n".join(lines)


TABLES = {"options": options, "commands": commands, "endpoints": endpoints, "refused": refusals, "errors": errors}

if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(with_tables(FILE.read_text()))
    else:
        print(*(table() for table in TABLES.values()), sep="\n\n")
