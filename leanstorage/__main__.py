"""The command line: `python -m leanstorage serve | env | ...`. The only module here that reads the environment."""

import _signal  # the built-in part of `signal`, there at once

if __name__ == "__main__" and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # until a command runs, Ctrl-C ends it at once and without a word

import argparse
import gc
import io
import os
import re
import shlex
import signal
import socket
import sqlite3
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from leanstorage.resources import files, roles, third_parties
from leanstorage.rules import classes, fingerprint
from leanstorage import VERSION, access, class_settings, index_command, keys as key_files, signing_in
from leanstorage.rules.call import LOOPBACK_HOSTS, Service
from leanstorage.rules.errors import StorageError
from leanstorage.engine.hooks import Transport
from leanstorage.environment import variables
from leanstorage.mailing import add_outbox
from leanstorage.operator import class_report, commands as operator_commands
from leanstorage.operator.admin import Admin, check_admin, open_admin
from leanstorage.options import DEFAULT_PORT, ENGINE_THREADS, Parser, THREADS, add_place, add_serve_options, checked, database, files as files_at, host, port, service_options, url
from leanstorage.http.inline_calls import quick_calls
from leanstorage.http.observer import Observer
from leanstorage.http.request_log import RequestLog
from leanstorage.http.server import Server
from leanstorage.http.application import create_application, open_service
from leanstorage.store import Document, open_store, QueryTimeout, Store, StoreUnavailable, Transaction
from leanstorage.resources.sweep import Sweeper
from leanstorage.takeout.commands import add_commands
from leanwsgi import setting_values
from leanwsgi.workers import NO_SUCH_ADDRESS, listen, port_trouble, share


DESCRIPTION = "A server for LeanCloud's storage API. `COMMAND --help` explains a command and its options."
GARBAGE = 10_000  # new objects before circles among them are looked for: requests leave hardly any
EPILOG = (
    "Environment: LEANSTORAGE_DATA is the folder of the data (default: data/ beside wsgi.py, else in the current "
    "folder). LEANCLOUD_APP_ID, LEANCLOUD_APP_KEY, LEANCLOUD_APP_MASTER_KEY and LEANCLOUD_APP_HOOK_KEY are the keys of "
    "the app; without them keys are generated and kept in that folder."
)


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Run a subcommand, that of `sys.argv` by default; return the exit code."""
    options = parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the terminal cannot show, such as an emoji in GBK
    umask = os.umask(0o077)  # files that are created are readable by their owner only
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        options.environment = setting_values.with_credentials(environment)
        return _run_command(options, data_folder(options.environment))
    except KeyboardInterrupt:
        if options.run is not serve:
            print("interrupted: run the same command again to go on", file=sys.stderr)
        return 130
    except QueryTimeout:
        print("cannot go on: a query took too long", file=sys.stderr)
        return 1
    except (StoreUnavailable, StorageError, OSError, ValueError, sqlite3.DatabaseError) as error:  # an operator mends it
        if isinstance(error, sqlite3.DatabaseError) and hasattr(options, "database"):
            error = ValueError(f"{error}: {_without_password(database_url(options, data_folder(options.environment)))}")
        unavailable = "the database is not available: " if isinstance(error, StoreUnavailable) else ""
        print(f"cannot {'start' if options.run is serve else 'go on'}: {unavailable}{error}", file=sys.stderr)
        return 1
    finally:
        os.umask(umask)


def data_folder(environment: Mapping[str, str]) -> Path:
    """That of LEANSTORAGE_DATA, or the default; raise ValueError."""
    try:
        return setting_values.folder(environment.get("LEANSTORAGE_DATA", "").strip() or str(default_data()))
    except ValueError as error:
        raise ValueError(f"LEANSTORAGE_DATA {error}") from None


def default_data() -> Path:
    """The folder that wsgi.py has by itself where both lie in one checkout; else `data` in the current folder."""
    checkout = Path(__file__).resolve().parent.parent
    return (checkout if (checkout / "wsgi.py").exists() else Path.cwd()) / "data"


def _run_command(options: argparse.Namespace, data: Path) -> int:
    """Run a subcommand. Commands that create no database need an existing one (checkable for SQLite only)."""
    try:
        given = key_files.from_environment(options.environment)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    needs_database = options.needs_database and not options.makes and hasattr(options, "database")
    path = database_url(options, data) if needs_database else ""
    if path.startswith("sqlite:///") and not Path(path := path.removeprefix("sqlite:///")).exists():
        raise ValueError(f"there is no {path}: LEANSTORAGE_DATA or --database tells where the data is")
    if options.run is serve:
        _check_serve(options, data, given)
    code: int = options.run(options, data, given or _kept_keys(data, options.makes))
    return code


def _kept_keys(data: Path, makes: bool) -> dict[str, str]:
    """The keys in the folder `data`. If they had to be generated, say so: LEANSTORAGE_DATA may have been forgotten."""
    file = key_files.place(data)
    is_new = not file.exists()
    if is_new and not makes:
        return {}
    keys = key_files.load(data)
    if is_new:
        print(f"new keys were generated: {file.resolve()} (LEANSTORAGE_DATA is the folder)", file=sys.stderr)
    return keys


def parser() -> argparse.ArgumentParser:
    top: argparse.ArgumentParser = Parser(prog="python -m leanstorage", description=DESCRIPTION, epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"leanstorage {VERSION}", help="print the version")
    top.set_defaults(makes=False)  # whether a command may make a database and keys
    top.set_defaults(needs_database=True)  # whether a command that creates none needs an existing one
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    storage = argparse.ArgumentParser(add_help=False)
    storage.add_argument(
        "--database",
        metavar="URL",
        type=checked(database),
        help="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME (default: leanstorage.db in LEANSTORAGE_DATA)",
    )
    storage.add_argument(
        "--files", metavar="PLACE", type=checked(files_at), help="a folder or s3://BUCKET/PREFIX (default: files in LEANSTORAGE_DATA)"
    )
    _add_serve(commands, storage)
    _add_env(commands)
    add_outbox(commands, storage, _opened_store)
    _add_permissions(commands, storage)
    index_command.add(commands, storage, _opened_store)
    _add_check(commands, storage)
    operator_commands.add_commands(commands, storage, database_url, files_place)
    add_commands(commands, storage, database_url, files_place)
    class_settings.add_commands(commands, storage, database_url)
    return top


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", storage: argparse.ArgumentParser) -> None:
    command = commands.add_parser("serve", parents=[storage], help="serve the storage API")
    _add_service(command)
    command.set_defaults(run=serve, makes=True)


def _add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", storage: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "check", parents=[storage], help="list what should be closed, the worst first; it takes the options of serve"
    )
    _add_service(command)
    command.set_defaults(run=check)


def _add_service(command: argparse.ArgumentParser) -> None:
    add_place(command)
    add_serve_options(command)
    signing_in.add_options(command)


def _add_env(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("env", help="print the variables that an app needs, for eval")
    command.add_argument("--host", type=checked(host), default="127.0.0.1", help="that of serve (default: %(default)s)")
    command.add_argument("--port", type=port, default=DEFAULT_PORT, help="that of serve (default: %(default)s)")
    command.add_argument(
        "--public-url", metavar="URL", type=url, help="where the app finds the storage (default: http://HOST:PORT)"
    )
    command.set_defaults(run=env, makes=True)


def _add_permissions(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", storage: argparse.ArgumentParser) -> None:
    command = commands.add_parser("permissions", parents=[storage], help="show or set who may do what in a class")
    command.add_argument("class_name", metavar="CLASS")
    command.add_argument("--default-acl", metavar="ACL", help="of new objects: everyone, or such as everyone=r,owner=rw")
    for action in class_report.ACTIONS:
        command.add_argument(
            f"--{action.replace('_', '-')}",
            metavar="WHO",
            help="everyone, users, nobody, or user ids and role:NAMEs with commas (default: left as it is)",
        )
    command.set_defaults(run=permissions)




@contextmanager
def _opened_store(options: argparse.Namespace, data: Path) -> Iterator[Store]:
    store = open_store(database_url(options, data))
    try:
        yield store
    finally:
        store.close()


def database_url(options: argparse.Namespace, data: Path) -> str:
    return options.database or f"sqlite:///{data / 'leanstorage.db'}"


def files_place(options: argparse.Namespace, data: Path) -> str:
    return options.files or str(data / "files")


def _check_serve(options: argparse.Namespace, data: Path, given: dict[str, str] | None) -> None:
    """Raise ValueError for options of `serve` that do not go together, before keys are made or anything is opened."""
    if options.host not in LOOPBACK_HOSTS and given is None:
        names = ", ".join(key_files.NAMES.values())
        raise ValueError(f"beyond loopback the keys must come from the environment: {names}")
    if options.processes > 1 and not database_url(options, data).startswith("postgres"):
        raise ValueError("several processes need a database of their own: --database postgresql://...")
    signing_in.check(options)


def serve(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    settings = service_options(options)

    def opened() -> Service:
        transport = _engine(options.engine) if options.engine else None
        service = open_service(keys, database_url(options, data), files_place(options, data), transport, settings)
        return signing_in.equip(service, options)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    threads = options.threads or (ENGINE_THREADS if options.engine else THREADS)
    try:
        opened_socket = listen(options.host, options.port)
    except OSError as error:
        if error.errno in NO_SUCH_ADDRESS or (error.errno or 0) < 0:  # getaddrinfo's numbers are negative
            raise ValueError(f"--host must be an address of this machine, which {options.host} is not") from None
        raise OSError(port_trouble(error, options.port, "--port")) from error
    with opened_socket as listening:
        port = listening.getsockname()[1]
        if options.admin:
            check_admin(options.admin, port, options.processes)
        service = opened()
        service.blobs.check_start()
        try:
            signal.signal(signal.SIGTERM, stop)
            print(f"LeanStorage listens on http://{options.host}:{port}", flush=True)
            place = _without_password(database_url(options, data))
            print(f"data: {place}, files: {files_place(options, data)}", flush=True)
            if options.host not in LOOPBACK_HOSTS:
                print("TLS must stand in front of this server: what it hears can be replayed", flush=True)
            if options.processes > 1:
                service.store.close()  # it has threads; each process opens its own
                share(options.processes, lambda: _run(opened(), listening, threads, options), [listening])
            else:
                _run(service, listening, threads, options)
        except KeyboardInterrupt:
            pass
        except Exception:  # it had started: no operator can mend that
            traceback.print_exc()
            return 1
    return 0


def _engine(url: str) -> Transport:
    from leanstorage.engine.http_transport import HttpTransport

    return HttpTransport(url)


def _run(service: Service, listening: socket.socket, threads: int, given: argparse.Namespace) -> None:
    """Serve on a listening socket until SIGTERM or Ctrl-C, in a process that may be one of several."""
    service.observer = observer = _observer(given)
    if service.engine is not None and observer is not None:
        service.engine.called = observer.engine_called
    sweeper = Sweeper(service)
    options, quick = service.options, quick_calls(service)
    application, is_token = create_application(service), partial(files.may_be_used, service)
    server = Server(
        application,
        listening,
        threads,
        options.max_bytes,
        quick,
        options.max_body_bytes,
        is_token,
        options.trusted_proxy,
        observer,
    )
    admin = None
    if observer is not None and given.admin:
        entrance = open_admin(given.admin, given.processes)
        host, port, *_ = entrance.getsockname()
        print(f"health and metrics: http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        admin = Admin(service, server, quick, observer, entrance)
        admin.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as Ctrl-C is for a script's background job
            signal.signal(number, lambda *_: server.stop())
    gc.freeze()  # what the start has made stays: no need to look through it again and again
    gc.set_threshold(GARBAGE)
    try:
        with signing_in.mailing(service, given):
            server.run()
    finally:
        if admin is not None:
            admin.close()
        sweeper.close()
        if service.engine is not None:
            service.engine.close()
        if service.sms is not None:
            service.sms.close()
        service.store.close()
        if observer is not None:
            observer.close()


def _observer(given: argparse.Namespace) -> Observer | None:
    """What counts and logs requests, or None if no option asks for it."""
    log = None
    if given.access_log or given.log_slow is not None:
        log = RequestLog(sys.stdout, given.log_format, given.access_log, given.log_slow)
    return Observer(log) if log or given.admin else None


def check(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Print what should be closed; return 1 if strangers could take over, read or change others' data."""
    return access.check(database_url(options, data), service_options(options), data, files_place(options, data), keys)


def env(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Print `export` lines, as `lean env` does, but not those of keys that the database here does not belong to."""
    place = data / "leanstorage.db"
    if place.exists():
        store = open_store(f"sqlite:///{place}")
        try:
            fingerprint.refuse_others(store, keys)
        finally:
            store.close()
    url = options.public_url or f"http://{options.host}:{options.port}"
    for variable, value in variables(keys, url.rstrip("/"), options.environment).items():
        print(f"export {variable}={shlex.quote(value)}")
    return 0


def permissions(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Set what was given, then print the permissions of the class, one action a line."""
    given = {action: getattr(options, action) for action in class_report.ACTIONS if getattr(options, action) is not None}

    def work(transaction: Transaction) -> Document:
        info = classes.load(transaction, options.class_name, lock=True)
        if info is None:
            raise ValueError(f"there is no class {options.class_name}")
        info.pop("is_new", None)
        rules: Document = info["permissions"]
        for action, who in given.items():
            if who == "everyone":
                rules.pop(action, None)
            else:
                names = [] if who in ("users", "nobody") else who.split(",")
                for name in names:
                    _check_known(transaction, name)
                rules[action] = {"users": who == "users", "names": names}
        class_settings.set_default_acl(info, options.default_acl)
        transaction.save_class(options.class_name, info)
        return info

    with _opened_store(options, data) as store:
        found = store.write(work)
    for action in class_report.ACTIONS:
        print(f"{action}: {class_report.who(found['permissions'].get(action))}")
    print(f"default ACL: {class_settings.shown_acl(found['default_acl'])}")
    return 0


def _check_known(transaction: Transaction, name: str) -> None:
    """Raise ValueError for an unknown user or role: a rule with no other name would lock everybody out."""
    if name.startswith("role:"):
        role = name.removeprefix("role:")
        if transaction.record(roles.KIND, third_parties.unique_key(role)) is None:
            raise ValueError(f"there is no role {role!r}")
    elif transaction.get("_User", name) is None:
        raise ValueError(
            f"there is no user with the id {name!r}: it takes everyone, users, nobody, or ids and role:NAMEs"
        )


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    shown = f"{head.split('://', 1)[0]}://***@{tail}" if at else url
    return re.sub(r"(?i)([?&](?:ssl)?password=)[^&]*", r"\1***", shown)  # libpq takes them there as well


if __name__ == "__main__":
    sys.exit(main())
