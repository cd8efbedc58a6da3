"""What a console sets of a class beside its permissions: the default ACL, and columns with their defaults."""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

from leanstorage.rules import acl, classes, numbering, values
from leanstorage.store import Document, open_store, Rights, Transaction, type_of

TYPES = ("String", "Number", "Boolean", "Array", "Object", "Date", "Bytes", "File", "GeoPoint")
RIGHTS: dict[str, dict[str, bool]] = {"r": {"read": True}, "w": {"write": True}, "rw": {"read": True, "write": True}}
WANTED_ACL = "a default ACL is everyone, nobody, or names with rights: everyone=r,owner=rw,role:Admin=rw"
Place = Callable[[argparse.Namespace, Path], str]


def parse_acl(text: str) -> Rights | None:
    """The ACL of `everyone=r,owner=rw,role:Admin=rw`; None for `everyone`, which is no ACL. Raises ValueError."""
    if text in ("everyone", "nobody"):
        return None if text == "everyone" else {}
    found: Rights = {}
    for part in text.split(","):
        name, _, rights = part.rpartition("=")
        if rights not in RIGHTS or not re.fullmatch(r"everyone|owner|role:[^,=]{1,200}|[A-Za-z0-9]{1,100}", name):
            raise ValueError(WANTED_ACL)
        found["*" if name == "everyone" else name] = dict(RIGHTS[rights])
    return acl.normalise(found)


def shown_acl(rights: Rights | None) -> str:
    """A default ACL as `parse_acl` reads it."""
    if not rights:
        return "everyone" if rights is None else "nobody"
    names = {name: "".join(letter for letter, right in (("r", "read"), ("w", "write")) if of.get(right)) for name, of in rights.items()}
    return ",".join(f"{'everyone' if name == '*' else name}={letters}" for name, letters in names.items())


def set_default_acl(info: Document, text: str | None) -> None:
    """Set the default ACL of a class's info; None leaves it. Raises ValueError."""
    if text is not None:
        info["default_acl"] = parse_acl(text)


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", storage: argparse.ArgumentParser, database_url: Place
) -> None:
    """Add the command `columns` to an argparse object; `storage` is the parent parser with --database and --files."""
    command = commands.add_parser("columns", parents=[storage], help="show or set the columns of a class")
    command.add_argument("class_name", metavar="CLASS")
    for name, taken, text in (
        ("add", "KEY=TYPE", "a new column; TYPE is String, Number, ..., Pointer:CLASS or Relation:CLASS"),
        ("default", "KEY=JSON", "what new objects get that bring no value"),
        ("no-default", "KEY", "take that away"),
        ("required", "KEY", "refuse objects without it"),
        ("optional", "KEY", "take that away"),
        ("auto-increment", "KEY", "give new objects the next number there"),
        ("no-auto-increment", "KEY", "take that away"),
        ("hide", "KEY", "show it to nobody without the master key, who may not query by it either"),
        ("show", "KEY", "take that away"),
    ):
        command.add_argument(f"--{name}", action="append", default=[], metavar=taken, help=text)

    def run(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
        # Of PostgreSQL a transaction cannot have more time than its store: the highest number is looked for in all objects.
        store = open_store(database_url(options, data), query_seconds=numbering.SECONDS)
        try:
            info = store.write(lambda transaction: change(transaction, options))
        finally:
            store.close()
        for key, column in sorted({**classes.BUILT_IN_COLUMNS, **info["columns"]}.items()):
            print(f"{key}: {_shown(column, info.get('options', {}).get(key, {}))}")
        return 0

    command.set_defaults(run=run)


def change(transaction: Transaction, options: argparse.Namespace) -> Document:
    """Set what the options of `columns` say; return the class's info. Raises ValueError."""
    values.check_class_name(options.class_name)
    info = classes.load(transaction, options.class_name, lock=True)
    if info is None:
        raise ValueError(f"there is no class {options.class_name}")
    columns, settings = info["columns"], info.setdefault("options", {})
    for text in options.add:
        key, column = _added(text)
        if columns.setdefault(key, column) != column:
            raise ValueError(f"{key} is a column already: a {classes.describe(columns[key])}")
    if len(columns) > classes.MAX_COLUMNS:
        raise ValueError(f"a class has {classes.MAX_COLUMNS} columns at most")
    for text in options.default:
        key, _, value = text.partition("=")
        settings.setdefault(_known(columns, key), {})["default"] = _default(columns[key], key, value)
    for key in options.required:
        settings.setdefault(_known(columns, key), {})["required"] = True
    for key in options.auto_increment:
        if not numbering.may_count(options.class_name, columns[_known(columns, key)]):
            raise ValueError(f"{key} cannot count: only a Number of _User or of a class of your own can")
        if not settings.setdefault(key, {}).get("auto_increment"):
            settings[key]["auto_increment"] = True
            numbering.start(transaction, options.class_name, key)
    for key in options.hide:
        settings.setdefault(_there(columns, key), {})["hidden"] = True
    for name, given in (
        ("default", options.no_default),
        ("required", options.optional),
        ("auto_increment", options.no_auto_increment),
        ("hidden", options.show),
    ):
        for key in given:
            settings.get(_there(columns, key), {}).pop(name, None)
    info["options"] = {key: kept for key, kept in settings.items() if kept}
    info.pop("is_new", None)
    changing = "add default no_default required optional auto_increment no_auto_increment hide show".split()
    if any(getattr(options, name) for name in changing):
        transaction.save_class(options.class_name, info)
    return info


def _added(text: str) -> tuple[str, Document]:
    key, _, kind = text.partition("=")
    values.check_key(key)
    kind, _, target = kind.partition(":")
    if kind in TYPES and not target:
        return key, {"type": kind}
    if kind in ("Pointer", "Relation"):
        return key, {"type": kind, "className": values.check_class_name(target)}
    raise ValueError(f"a column is KEY=TYPE, TYPE one of {', '.join(TYPES)}, Pointer:CLASS and Relation:CLASS")


def _there(columns: Document, key: str) -> str:
    if key not in columns:
        raise ValueError(f"there is no column {key} of this class's own")
    return key


def _known(columns: Document, key: str) -> str:
    if key not in columns or columns[key]["type"] == "Relation":
        raise ValueError(f"there is no column {key} that could have a value")
    return key


def _default(column: Document, key: str, text: str) -> object:
    try:
        value = values.normalise(json.loads(text))
    except (ValueError, RecursionError):
        raise ValueError(f"the default of {key} is not JSON: texts stand in double quotes") from None
    if type_of(value) != column:
        raise ValueError(f"the default of {key} is no {classes.describe(column)}")
    return value


def _shown(column: Document, options: Document) -> str:
    target = f":{column['className']}" if "className" in column else ""
    default = f", default {json.dumps(options['default'], ensure_ascii=False)}" if "default" in options else ""
    words = "".join(f", {name.replace('_', '-')}" for name in classes.FLAGS if options.get(name))
    return f"{column['type']}{target}{words}{default}"
