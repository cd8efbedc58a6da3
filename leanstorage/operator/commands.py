"""The subcommands users, classes, backup and restore of the command line, and their options.

Each imports what it runs when it runs: a server that starts needs none of it.
"""
import getpass
import json
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from leanstorage.http.application import open_service
from leanstorage.options import whole
from leanstorage.rules.call import Options, Service
from leanstorage.store import Document, open_store

Place = Callable[[Namespace, Path], str]
COUNT_SECONDS = 3600  # that counting all objects may take
LIMIT = 20
USERS = """what to do:
  find [TEXT]        list users whose name, e-mail address or phone number begins with TEXT, or the newest
  show USER          print one user: fields, third-party accounts, roles; never a token or a password
  set-password USER  ask for a new password, or read a line of standard input; ends the user's sessions
  sign-out USER      end the user's sessions
  verify USER        note that the user's e-mail address is verified, with --phone the phone number
  delete USER        delete the user; what the user made stays

USER is an id, a name, an e-mail address or a phone number. The app's hooks are not called."""


def add_commands(
    commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place, files_place: Place
) -> None:
    """Add the subcommands to an argparse object; `storage` is the parent parser with --database and --files."""
    _add_users(commands, storage, database_url, files_place)
    _add_classes(commands, storage, database_url)
    _add_backup(commands, storage, database_url, files_place)
    _add_restore(commands, storage, database_url, files_place)


def _add_users(
    commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place, files_place: Place
) -> None:
    actions = ("find", "show", "set-password", "sign-out", "verify", "delete")
    command = commands.add_parser(
        "users",
        parents=[storage],
        help="find, show, change and delete users",
        description=USERS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    command.add_argument("action", choices=actions, metavar="ACTION", help="one of those above")
    command.add_argument("user", nargs="?", default="", metavar="USER", help="whom, see above")
    command.add_argument("--json", action="store_true", help="print JSON, with find one object a line")
    command.add_argument("--limit", type=whole(1, 1000), default=LIMIT, metavar="N", help="of find (default: %(default)s)")
    command.add_argument("--phone", action="store_true", help="with verify: the phone number, not the e-mail address")
    command.add_argument("--yes", action="store_true", help="with delete: do not ask")

    def run(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        if options.action != "find" and not options.user:
            raise ValueError(f"{options.action} needs a USER: an id, a name, an e-mail address or a phone number")
        if not keys:
            raise ValueError(f"there are no keys in {data}: sessions cannot be ended without the master key")
        with _opened(database_url(options, data), files_place(options, data), keys) as service:
            return _run_users(service, options)

    command.set_defaults(run=run)


def _run_users(service: Service, options: Namespace) -> int:
    from leanstorage.operator import users

    action, user = options.action, options.user
    if action == "find":
        found = users.find(service, user, options.limit)
        for one in found:
            print(printable(json.dumps(one, ensure_ascii=False) if options.json else _row(one)))
        if not options.json:
            print(f"{len(found)} users")
    elif action == "show":
        _print(users.show(service, user), options.json)
    elif action == "set-password":
        print(f"{users.set_password(service, user, _new_password())}: the password is set, old sessions have ended")
    elif action == "sign-out":
        print(f"{users.sign_out(service, user)}: all sessions have ended")
    elif action == "verify":
        field = "mobilePhoneNumber" if options.phone else "email"
        print(f"{users.verify(service, user, field)}: {field} is verified")
    elif options.yes or _is_confirmed(f"delete the user {user!r} for good?"):
        print(f"{users.delete(service, user)}: deleted")
    else:
        print("nothing was deleted: answer yes, or give --yes", file=sys.stderr)
        return 1
    return 0


def _add_classes(commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place) -> None:
    command = commands.add_parser("classes", parents=[storage], help="count and size all classes, or show what one is made of")
    command.add_argument("class_name", nargs="?", metavar="CLASS", help="show its columns, indexes and rights")
    command.add_argument("--create", action="store_true", help="with CLASS: make it first, empty, where clients may not (--class-create)")
    command.add_argument("--json", action="store_true", help="print JSON, without CLASS one object a line")

    def run(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.operator import class_report

        if options.create and not options.class_name:
            raise ValueError("--create needs a CLASS")
        store = open_store(database_url(options, data), query_seconds=COUNT_SECONDS)
        try:
            if options.create:
                class_report.create(store, options.class_name)
            if options.class_name:
                _print(class_report.show(store, options.class_name), options.json)
                return 0
            found = class_report.listed(store)
        finally:
            store.close()
        for one in found:
            print(printable(json.dumps(one, ensure_ascii=False) if options.json else _row(one)))
        if not options.json:
            objects, size = (sum(one[name] for one in found) for name in ("objects", "bytes"))
            print(f"{len(found)} classes, {objects} objects, {size} bytes")
        return 0

    command.set_defaults(run=run)


def _add_backup(
    commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place, files_place: Place
) -> None:
    command = commands.add_parser("backup", parents=[storage], help="copy database and files while the server serves")
    command.add_argument("folder", metavar="DIR", help="where backups lie, each in a folder of its own; files are copied once")
    command.add_argument("--keys", action="store_true", help="copy the app's keys too: whoever reads the backup can be anybody")
    command.add_argument(
        "--keep", type=whole(1, 10_000), default=0, metavar="N", help="remove all but the newest N backups (default: none)"
    )

    def run(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.operator import backup

        if options.keys and not keys:
            raise ValueError(f"there are no keys in {data}, and none in the environment")
        kept = keys if options.keys else None
        place = files_place(options, data)
        return backup.run(database_url(options, data), place, kept, Path(options.folder), options.keep, sys.stdout, sys.stderr)

    command.set_defaults(run=run)


def _add_restore(
    commands: "_SubParsersAction[ArgumentParser]", storage: ArgumentParser, database_url: Place, files_place: Place
) -> None:
    command = commands.add_parser("restore", parents=[storage], help="put a backup where nothing is yet")
    command.add_argument("folder", metavar="DIR", help="that of backup")
    command.add_argument("--name", metavar="NAME", help="which backup (default: the newest)")
    command.add_argument("--keys", action="store_true", help="restore the app's keys too, to LEANSTORAGE_DATA")
    command.add_argument("--check", action="store_true", help="only check that the backup is whole")

    def run(options: Namespace, data: Path, keys: dict[str, str]) -> int:
        from leanstorage.operator import restore

        folder = Path(options.folder)
        if options.check:
            return restore.verify(folder, options.name, sys.stdout, sys.stderr)
        place = data if options.keys else None
        return restore.run(
            folder, options.name, database_url(options, data), files_place(options, data), place, sys.stdout, sys.stderr
        )

    command.set_defaults(run=run, needs_database=False)


@contextmanager
def _opened(database: str, files: str, keys: dict[str, str]) -> Iterator[Service]:
    service = open_service(keys, database, files, options=Options())
    try:
        yield service
    finally:
        service.store.close()


def printable(text: str) -> str:
    """A text without what a terminal would obey: clients choose names. JSON stays the same JSON."""
    return text if text.isprintable() else "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def _row(one: Document) -> str:
    """A line of a list: what has no value is `-`, what is a flag is named if it is set."""
    shown = [name if value is True else "-" if value is None else str(value) for name, value in one.items() if value is not False]
    return "  ".join(shown)


def _print(value: Document, is_json: bool) -> None:
    """One thing, a field a line."""
    if is_json:
        print(printable(json.dumps(value, ensure_ascii=False)))
        return
    for name, field in value.items():
        if isinstance(field, dict) and field:
            print(printable(f"{name}:"), *(printable(f"  {key}: {_shown(one)}") for key, one in field.items()), sep="\n")
        else:
            print(printable(f"{name}: {_shown(field)}"))


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _new_password() -> str:
    """Asked for twice at a terminal, else a line of standard input: an argument would be in the list of processes."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("new password: ")
    if getpass.getpass("again: ") != password:
        raise ValueError("the two passwords differ: nothing was changed")
    return password


def _is_confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"{question} (yes/no) ").strip().lower() == "yes"
