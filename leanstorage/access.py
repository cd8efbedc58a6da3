"""The subcommands index and check: what queries are made fast, and what should be closed."""
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from leanstorage import keys as key_files
from leanstorage.resources import dangers
from leanstorage.rules import indexes, uniques
from leanstorage.rules.call import Options
from leanstorage.store import open_store, Store

LOOK_SECONDS = 600  # that one statement over all objects may take
LEVELS = {1: "anybody takes over", 2: "anybody reads or changes", 3: "a defence is missing"}


def add_index(
    commands: "_SubParsersAction[ArgumentParser]",
    storage: ArgumentParser,
    opened_store: Callable[[Namespace, Path], AbstractContextManager[Store]],
) -> None:
    """Add the subcommand; `opened_store(options, data)` is the database for a while."""
    command = commands.add_parser("index", parents=[storage], help="make queries for equal values of KEYs fast")
    command.add_argument("class_name", metavar="CLASS")
    command.add_argument("keys", nargs="*", metavar="KEY", help="the keys of one index; without, list what there is")
    command.add_argument("--drop", action="store_true", help="take the index of these keys away")
    command.add_argument("--unique", action="store_true", help="one that refuses equal values (137); built only when unique")

    def index(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        """Make or drop an index, then print those of the class, one a line."""
        with opened_store(options, data) as store:
            if options.keys:
                kind = uniques if options.unique else indexes
                (kind.drop if options.drop else kind.create)(store, options.class_name, options.keys)
            found = store.read(lambda one: [*indexes.listed(one, options.class_name), *uniques.listed(one, options.class_name)])
        for found_keys in found:
            print(options.class_name, *found_keys)
        return 0

    command.set_defaults(run=index)


def check(database: str, options: Options, data: Path, files_place: str, keys: dict[str, str]) -> int:
    """Print each finding with the command that closes it, the worst first; 1 when there is one of the two worst kinds."""
    key_file = key_files.place(data)
    is_used = key_file.exists() and key_files.load(data) == keys
    private = [path for path in (data, key_file, data / "leanstorage.db", Path(files_place)) if path.exists()]
    store = open_store(database, query_seconds=LOOK_SECONDS)
    try:
        findings = dangers.found(store, options, keys, private, key_file if is_used else None, database)
    finally:
        store.close()
    for number, finding in enumerate(findings, 1):
        print(f"{number}. {LEVELS[finding.level]}: {finding.where}: {finding.what}\n   {finding.command}")
    print(f"{len(findings)} findings")
    return 1 if any(finding.level < 3 for finding in findings) else 0
