"""The subcommands import, pull and export of the command line: their options, and what is common to their ends."""

import sqlite3
import sys
import time
from pathlib import Path

from leanstorage.store import StoreUnavailable
from leanstorage.takeout import exporter, importer


def add_commands(commands, storage, database_url, files_place):
    """Add the subcommands to an argparse object; `storage` is the parent parser with --database and --files."""
    command = commands.add_parser("import", parents=[storage], help="take in a console export or a BSON backup")
    command.add_argument("export", nargs="+", metavar="EXPORT", help="a .tar.gz, a .zip, a folder or single files")
    command.add_argument("--dry-run", action="store_true", help="try everything, keep nothing")
    command.add_argument("--rotate-sessions", action="store_true", help="forget session tokens: all users log in anew")
    command.add_argument("--refused", metavar="FILE", help="where refused rows go with their reasons; with the data")

    def run_import(options, data, keys):
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

    command.set_defaults(run=_guarded(run_import))

    command = commands.add_parser("export", parents=[storage], help="write everything as files that import reads")
    command.add_argument("folder", metavar="DIR", help="an empty folder, or one to be made")
    command.set_defaults(
        run=_guarded(lambda options, data, keys: exporter.run(options.folder, database_url(options, data), keys))
    )


def _refused_path(options, data):
    if options.refused:
        return Path(options.refused)
    stem = time.strftime("refused-%Y%m%d-%H%M%S", time.gmtime())
    candidates = (data / f"{stem}{'' if i == 0 else f'-{i}'}.jsonl" for i in range(1000))
    return next(path for path in candidates if not path.exists())


def _guarded(run):
    """Run a subcommand so that what an operator can mend ends in one line and not in a traceback."""

    def guarded(options, data, keys):
        try:
            return run(options, data, keys)
        except KeyboardInterrupt:
            print("interrupted: run the same command again to go on", file=sys.stderr)
            return 130
        except StoreUnavailable as error:
            print(f"the database is not available: {error}", file=sys.stderr)
        except (OSError, ValueError, sqlite3.DatabaseError) as error:
            print(f"cannot go on: {error}", file=sys.stderr)
        return 1

    return guarded
