"""The subcommands import, pull, export and migrate of the command line, and their options.

Each imports what it runs when it runs: a server that starts needs none of it.
"""

import sys
import time
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable
from pathlib import Path

from leanstorage.blobs import open_blobs
from leanstorage.options import whole

PARALLEL = 4
MAX_PARALLEL = 32
Place = Callable[[Namespace, Path], str]


def add_commands(
    commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place, files_place: Place
) -> None:
    """Add the subcommands to an argparse object; `storage` is the parent parser with --database and --files."""
    _add_import(commands, storage, database_url)
    _add_pull(commands, database_url, files_place)
    _add_export(commands, storage, database_url)
    _add_migrate(commands)


def _add_import(commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place) -> None:
    command = commands.add_parser("import", parents=[storage], help="take in a console export or a BSON backup")
    command.add_argument("export", nargs="+", metavar="EXPORT", help="a .tar.gz, a .zip, a folder or single files")
    command.add_argument("--dry-run", action="store_true", help="try everything, keep nothing")
    command.add_argument("--rotate-sessions", action="store_true", help="forget session tokens: all users log in anew")
    command.add_argument("--refused", metavar="FILE", help="where refused rows go with their reasons; with the data")

    def run_import(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.takeout import importer

        missing = [path for path in options.export if not Path(path).exists()]
        if missing:
            print(f"there is no {', '.join(missing)}", file=sys.stderr)
            return 2
        return importer.run(
            options.export,
            database_url(options, data),
            keys,
            _refused_path(options, data),
            options.dry_run,
            options.rotate_sessions,
        )

    command.set_defaults(run=run_import, makes=True)


def _add_pull(commands: "_SubParsersAction[ArgumentParser]", database_url: Place, files_place: Place) -> None:
    command = commands.add_parser("pull", help="take in a live app by its API")
    command.add_argument("--from", dest="source", required=True, metavar="URL", help="the API of the live app")
    command.add_argument("--class", dest="classes", action="append", default=[], metavar="C", help="only this one")
    command.add_argument("--database", metavar="URL", help="sqlite:///PATH or postgresql://...; in LEANSTORAGE_DATA")
    command.add_argument(
        "--files", nargs="?", const="", metavar="PLACE", help="fetch files' bytes too; a folder, with the data, or s3://..."
    )
    command.add_argument("--delete", action="store_true", help="delete objects here that are gone there")
    command.add_argument("--parallel", type=whole(1, MAX_PARALLEL), default=PARALLEL, metavar="N", help="requests at once, 1 to 32 (default: %(default)s)")
    command.add_argument("--refused", metavar="FILE", help="where refused rows go with their reasons; with the data")

    def run_pull(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.takeout import puller, remote

        app_id = options.environment.get("LEANSTORAGE_SOURCE_ID") or keys["id"]
        master_key = options.environment.get("LEANSTORAGE_SOURCE_MASTER_KEY") or keys["master_key"]
        blobs = None
        if options.files is not None:
            options.files = options.files or None
            blobs = open_blobs(files_place(options, data))
        source = remote.Remote(options.source, app_id, master_key, options.parallel)
        refused_path = _refused_path(options, data)
        return puller.run(
            source, database_url(options, data), keys, refused_path, options.classes, blobs, options.delete
        )

    command.set_defaults(run=run_pull, makes=True)


def _add_export(commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place) -> None:
    command = commands.add_parser("export", parents=[storage], help="write everything as files that import reads")
    command.add_argument("folder", metavar="DIR", help="an empty folder, or one to be made")

    def run_export(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.takeout import exporter

        if not keys:
            raise ValueError(f"there are no keys in {data}: session tokens cannot be read without the master key")
        return exporter.run(options.folder, database_url(options, data), keys)

    command.set_defaults(run=run_export)


def _add_migrate(commands: "_SubParsersAction[ArgumentParser]") -> None:
    command = commands.add_parser("migrate", help="copy one database to another, SQLite or PostgreSQL")
    command.add_argument("--from", dest="source", required=True, metavar="URL", help="nobody may write to it meanwhile")
    command.add_argument("--to", dest="target", required=True, metavar="URL", help="an empty database")

    def run_migrate(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.takeout import migration

        return migration.run(options.source, options.target)

    command.set_defaults(run=run_migrate)


def _refused_path(options: Namespace, data: Path) -> Path:
    if options.refused:
        return Path(options.refused)
    stem = time.strftime("refused-%Y%m%d-%H%M%S", time.gmtime())
    candidates = (data / f"{stem}{'' if i == 0 else f'-{i}'}.jsonl" for i in range(1000))
    return next(path for path in candidates if not path.exists())
