"""The subcommands leave, import, pull, import-files, export and migrate of the command line, and their options.

Each imports what it runs when it runs: a server that starts needs none of it.
"""

import os
import re
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace, _SubParsersAction
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from leanstorage.blobs import open_blobs
from leanstorage.options import checked, database, files, whole
from leanstorage.rules import fingerprint
from leanstorage.store import open_store

PARALLEL = 4
MAX_PARALLEL = 32
Place = Callable[[Namespace, Path], str]


def add_commands(
    commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place, files_place: Place
) -> None:
    """Add the subcommands to an argparse object; `storage` is the parent parser with --database and --files."""
    _add_import(commands, storage, database_url)
    _add_pull(commands, database_url, files_place)
    _add_leave(commands, database_url, files_place)
    _add_import_files(commands, storage, database_url, files_place)
    _add_export(commands, storage, database_url)
    _add_migrate(commands)
    _add_rewrite(commands, storage, database_url)
    _add_adopt_keys(commands, storage, database_url)


def _add_import(commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place) -> None:
    command = commands.add_parser("import", parents=[storage], help="take in a console export or a BSON backup")
    command.add_argument("export", nargs="+", metavar="EXPORT", help="a .tar.gz, a .zip, a folder or single files")
    command.add_argument("--class", dest="class_name", metavar="NAME", help="of files without a #filetype line, whatever their names are")
    command.add_argument("--dry-run", action="store_true", help="try everything, keep nothing")
    command.add_argument("--rotate-sessions", action="store_true", help="forget session tokens: all users log in anew")
    _add_mending(command)
    command.add_argument("--refused", metavar="FILE", help="where refused rows go with their reasons; with the data")

    def run_import(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.takeout import importer

        if _is_missing(*options.export):
            return 2
        return importer.run(
            options.export,
            database_url(options, data),
            keys,
            _refused_path(options, data),
            options.dry_run,
            options.rotate_sessions,
            wishes=_wishes(options, class_name=options.class_name),
        )

    command.set_defaults(run=run_import, makes=True)


def _add_source(command: ArgumentParser) -> None:
    command.add_argument("--from", dest="source", required=True, metavar="URL", help="the API of the live app")
    command.add_argument("--database", metavar="URL", type=checked(database), help="sqlite:///PATH or postgresql://...; in LEANSTORAGE_DATA")
    command.add_argument(
        "--files", nargs="?", const="", metavar="PLACE", type=lambda text: text and checked(files)(text), help="fetch files' bytes too; a folder, with the data, or s3://..."
    )
    command.add_argument(
        "--private-host",
        action="append",
        default=[],
        metavar="HOST",
        help="a host of files that may have a private address; the host of --from may (default: none other)",
    )
    command.add_argument("--max-calls", type=_calls, metavar="N", help="in 24 hours; then it ends, see --wait")
    command.add_argument("--wait", action="store_true", help="wait for the next calls of --max-calls instead")
    command.add_argument("--parallel", type=whole(1, MAX_PARALLEL), default=PARALLEL, metavar="N", help="requests at once, 1 to 32 (default: %(default)s)")
    _add_mending(command)


def _add_mending(command: ArgumentParser) -> None:
    command.add_argument("--repair", action="store_true", help="keep rows, and move aside what of them cannot be held")
    command.add_argument(
        "--rewrite-urls", action="append", default=[], metavar="OLD=NEW", help="URLs within texts, such as of the files"
    )


def _wishes(options: Namespace, **more: Any) -> Any:
    from leanstorage.takeout import rewrites, wishes

    return wishes.Wishes(options.repair, rewrites.parse(options.rewrite_urls), **more)


def _calls_of(options: Namespace) -> dict[str, Any]:
    return {"max_calls": options.max_calls, "is_patient": options.wait}


def _source(options: Namespace, keys: dict[str, str]) -> Any:
    from leanstorage.takeout import remote

    app_id = options.environment.get("LEANSTORAGE_SOURCE_ID") or keys["id"]
    master_key = options.environment.get("LEANSTORAGE_SOURCE_MASTER_KEY") or keys["master_key"]
    return remote.Remote(options.source, app_id, master_key, options.parallel, private_hosts=options.private_host)


def _blobs(options: Namespace, data: Path, files_place: Place) -> Any:
    if options.files is None:
        return None
    options.files = options.files or None
    return open_blobs(files_place(options, data))


def _add_pull(commands: "_SubParsersAction[ArgumentParser]", database_url: Place, files_place: Place) -> None:
    command = commands.add_parser("pull", help="take in a live app by its API")
    _add_source(command)
    command.add_argument("--class", dest="classes", action="append", default=[], metavar="C", help="only this one")
    command.add_argument("--delete", action="store_true", help="delete objects here that are gone there")
    command.add_argument("--refused", metavar="FILE", help="where refused rows go with their reasons; with the data")

    def run_pull(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.takeout import puller

        blobs = _blobs(options, data, files_place)
        return puller.run(
            _source(options, keys),
            database_url(options, data),
            keys,
            _refused_path(options, data),
            blobs,
            wishes=_wishes(options, only=options.classes, delete_missing=options.delete, **_calls_of(options)),
        )

    command.set_defaults(run=run_pull, makes=True)


def _add_leave(commands: "_SubParsersAction[ArgumentParser]", database_url: Place, files_place: Place) -> None:
    command = commands.add_parser("leave", help="all of it: ask for the export, import it, pull the rest; run it again")
    _add_source(command)
    command.add_argument("--export", metavar="FILE", help="an export that was downloaded already")
    command.add_argument("--again", action="store_true", help="ask for a newer export than the last one")
    command.add_argument("--email", metavar="ADDRESS", help="which LeanCloud tells of the export")

    def run_leave(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.takeout import leave
        from leanstorage.takeout.report import Report

        if options.export is not None and _is_missing(options.export):
            return 2
        leaving = leave.Leaving(
            partial(_source, options, keys),
            lambda: Report(_refused_path(options, data)),
            database_url(options, data),
            keys,
            data,
            partial(print, flush=True),
            _wishes(options, **_calls_of(options)),
        )
        export = Path(options.export) if options.export else None
        blobs = _blobs(options, data, files_place)
        return leave.run(leaving, export, options.again, options.email, blobs)

    command.set_defaults(run=run_leave, makes=True, refused=None)


def _add_import_files(
    commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place, files_place: Place
) -> None:
    command = commands.add_parser("import-files", parents=[storage], help="take in bytes of files from a folder")
    command.add_argument("folder", metavar="DIR", help="files under their keys, or under names that no other file has")
    command.add_argument("--refused", metavar="FILE", help="where the list of what is missing goes; with the data")

    def run_import_files(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.takeout import file_import

        if not options.folder or not Path(options.folder).is_dir():
            print(f"there is no folder {options.folder}", file=sys.stderr)
            return 2
        blobs = open_blobs(files_place(options, data))
        return file_import.run(options.folder, database_url(options, data), blobs, _refused_path(options, data))

    command.set_defaults(run=run_import_files)


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
    command.add_argument("--from", dest="source", required=True, metavar="URL", type=checked(database), help="nobody may write to it meanwhile")
    command.add_argument("--to", dest="target", required=True, metavar="URL", type=checked(database), help="an empty database")

    def run_migrate(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.takeout import migration

        return migration.run(options.source, options.target)

    command.set_defaults(run=run_migrate)


def _add_rewrite(commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place) -> None:
    command = commands.add_parser("rewrite", parents=[storage], help="rewrite URLs within what is stored; counts first")
    command.add_argument("urls", nargs="+", metavar="OLD=NEW", help="http, https and // of OLD are the same; of several the longest counts")
    command.add_argument("--class", dest="classes", action="append", default=[], metavar="C", help="only this one")
    command.add_argument("--apply", action="store_true", help="do it")

    def run_rewrite(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.takeout import rewrite, rewrites

        return rewrite.run(database_url(options, data), rewrites.parse(options.urls), options.apply, options.classes)

    command.set_defaults(run=run_rewrite)


def _add_adopt_keys(commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place) -> None:
    command = commands.add_parser(
        "adopt-keys", parents=[storage], help="let the database belong to these keys; all sessions end"
    )

    def run_adopt_keys(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        if not keys:
            raise ValueError(f"there are no keys in {data}, nor in LEANCLOUD_APP_*: set those to go on with")
        store = open_store(database_url(options, data))
        try:
            fingerprint.adopt(store, keys)
        finally:
            store.close()
        return 0

    command.set_defaults(run=run_adopt_keys)


def _calls(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text)):
        raise ArgumentTypeError("a number of calls, 1 or more")
    return int(text)


def _is_missing(*paths: str) -> bool:
    """Whether one of these names nothing, which is said; an empty one is no name of the current folder."""
    missing = [path for path in paths if not path or not Path(path).exists()]
    for path in missing:
        if re.match("https?://", path, re.IGNORECASE):
            print(f"{path} is a link: download it first (curl -o export.tar.gz 'LINK'), then name the file", file=sys.stderr)
        else:
            print(f"there is no {path or 'file with an empty name'}", file=sys.stderr)
    return bool(missing)


def _refused_path(options: Namespace, data: Path) -> Path:
    """Where refused rows go; raise ValueError for a file that is there, before anything is stored."""
    if options.refused:
        if os.path.lexists(options.refused):
            raise ValueError(f"{options.refused} is there already: name another file with --refused")
        return Path(options.refused)
    stem = time.strftime("refused-%Y%m%d-%H%M%S", time.gmtime())
    candidates = (data / f"{stem}{'' if i == 0 else f'-{i}'}.jsonl" for i in range(1000))
    return next(path for path in candidates if not path.exists())
