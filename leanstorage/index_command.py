"""`leanstorage index`: makes, lists and drops the indexes of a class, and says which ones slow queries want."""
import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from leanstorage.rules import classes, index_advice, indexes, uniques
from leanstorage.store import Query, QueryTimeout, Store

Opened = Callable[[argparse.Namespace, Path], AbstractContextManager[Store]]
MB = 1 << 20


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", storage: argparse.ArgumentParser, opened: Opened) -> None:
    command = commands.add_parser("index", parents=[storage], help="make queries for values of KEYs fast")
    command.add_argument("class_name", nargs="?", metavar="CLASS")
    command.add_argument(
        "keys", nargs="*", metavar="KEY", help="the keys of one index; without, list what there is"
    )
    command.add_argument("--drop", action="store_true", help="take the index of these keys away")
    command.add_argument("--unique", action="store_true", help="one that refuses equal values (137); built only when unique")
    command.add_argument(
        "--suggest", metavar="FILE", help="say which indexes the slow queries of a log want, and their cost; - is the standard input"
    )
    command.set_defaults(run=partial(run, opened))


def run(opened: Opened, options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Make or drop an index, then print those of the class, one a line; or print what a log wants."""
    if (options.suggest is None) == (options.class_name is None):
        raise ValueError("index needs a CLASS, or --suggest and a file")
    with opened(options, data) as store:
        if options.suggest is not None:
            return _suggest(store, options.suggest)
        if options.keys:
            kind = uniques if options.unique else indexes
            (kind.drop if options.drop else kind.create)(store, options.class_name, options.keys)
        found = store.read(lambda one: [*indexes.listed(one, options.class_name), *uniques.listed(one, options.class_name)])
    for found_keys in found:
        print(options.class_name, *found_keys)
    return 0


def _suggest(store: Store, path: str) -> int:
    """Print the commands that make the indexes, the most wanted first, each with its cost."""
    if path == "-":
        shapes = index_advice.shapes(sys.stdin)
    else:
        with open(path, encoding="utf-8", errors="replace") as lines:
            shapes = index_advice.shapes(lines)
    wanted: dict[tuple[str, ...], int] = {}
    for shape in shapes:
        info = store.read(lambda transaction: transaction.class_info(shape["class"]))  # noqa: B023 it runs at once
        keys = info and index_advice.wanted(shape, info)
        if keys:
            named = (shape["class"], *keys)
            wanted[named] = wanted.get(named, 0) + 1
    for named, number in sorted(wanted.items(), key=lambda one: -one[1]):
        print("leanstorage index", *named, f" # {_cost(store, named)}; kinds of slow queries: {number}")
    if not wanted:
        print("no index would help the queries of this log", file=sys.stderr)
    return 0


def _cost(store: Store, named: tuple[str, ...]) -> str:
    class_name, *keys = named
    info = store.read(lambda transaction: classes.existing(transaction, class_name))
    try:
        rows = store.read(lambda transaction: transaction.count(Query(class_name)))
    except QueryTimeout:
        return "its objects cannot be counted in time; each create writes one more entry"
    size = index_advice.cost(keys, info, rows) / MB
    return f"about {size:.1f} MB; each create, and each update of {' or '.join(keys)}, writes one more entry"
