"""The command line: `python -m leanstorage serve | env | ...`. The only module here that reads the environment."""

import _signal  # the built-in part of `signal`, there at once

if __name__ == "__main__" and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # until a command runs, Ctrl-C ends it at once and without a word

import argparse
import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from leanstorage.resources import files, mail, roles, third_parties
from leanstorage import index_command
from leanstorage.rules import classes
from leanstorage import keys as key_files
from leanstorage.rules.call import LOOPBACK, Options, Service
from leanstorage.rules.errors import StorageError
from leanstorage.engine.hooks import HttpTransport
from leanstorage.environment import variables
from leanstorage.http.inline_calls import quick_calls
from leanstorage.http.server import Server
from leanstorage.http.application import create_application, open_service
from leanstorage.store import Document, open_store, Store, StoreUnavailable, Transaction
from leanstorage.resources.sweep import Sweeper
from leanstorage.takeout.commands import add_commands
from leanwsgi.workers import listen, port_trouble, share


DEFAULT_PORT = 8126
SEND_SECONDS = 60  # that a command may take for one e-mail
THREADS, ENGINE_THREADS = 8, 32  # more only fight for the interpreter, unless they wait for an engine's hooks
EPILOG = (
    "LEANSTORAGE_DATA is the folder of the data (default: data/ beside wsgi.py, else in the current folder). "
    "The keys are those of LEANCLOUD_APP_ID, "
    "_APP_KEY, _APP_MASTER_KEY and _APP_HOOK_KEY, or are generated there."
)
ACTIONS = ("find", "get", "create", "update", "delete", "add_fields")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand, that of `sys.argv` by default; return the exit code."""
    options = parser().parse_args(arguments)
    options.environment = os.environ
    data = Path(os.environ.get("LEANSTORAGE_DATA") or default_data())
    umask = os.umask(0o077)  # whatever is made is for its owner alone
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return _run_command(options, data)
    except KeyboardInterrupt:
        if options.run is not serve:
            print("interrupted: run the same command again to go on", file=sys.stderr)
        return 130
    except (StoreUnavailable, StorageError, OSError, ValueError, sqlite3.DatabaseError) as error:  # an operator mends it
        unavailable = "the database is not available: " if isinstance(error, StoreUnavailable) else ""
        print(f"cannot {'start' if options.run is serve else 'go on'}: {unavailable}{error}", file=sys.stderr)
        return 1
    finally:
        os.umask(umask)


def default_data() -> Path:
    """The folder that wsgi.py has by itself where both lie in one checkout; else `data` in the current folder."""
    checkout = Path(__file__).resolve().parent.parent
    return (checkout if (checkout / "wsgi.py").exists() else Path.cwd()) / "data"


def _run_command(options: argparse.Namespace, data: Path) -> int:
    """Run a subcommand; one that makes no database needs one that is there, where its path tells whether it is."""
    try:
        given = key_files.from_environment(os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    path = "" if options.makes or not hasattr(options, "database") else database_url(options, data)
    if path.startswith("sqlite:///") and not Path(path := path.removeprefix("sqlite:///")).exists():
        raise ValueError(f"there is no {path}: LEANSTORAGE_DATA or --database tells where the data is")
    code: int = options.run(options, data, given or _kept_keys(data, options.makes))
    return code


def _kept_keys(data: Path, makes: bool) -> dict[str, str]:
    """The keys in the folder `data`; new ones, where they may be made, are told of: LEANSTORAGE_DATA may lack."""
    file = key_files.place(data)
    is_new = not file.exists()
    if is_new and not makes:
        return {}
    keys = key_files.load(data)
    if is_new:
        print(f"new keys were generated: {file.resolve()} (LEANSTORAGE_DATA is the folder)", file=sys.stderr)
    return keys


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m leanstorage", description=__doc__, epilog=EPILOG)
    top.set_defaults(makes=False)  # whether a command may make a database and keys
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    storage = argparse.ArgumentParser(add_help=False)
    storage.add_argument(
        "--database",
        metavar="URL",
        help="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME (default: leanstorage.db in LEANSTORAGE_DATA)",
    )
    storage.add_argument(
        "--files", metavar="PLACE", help="a folder or s3://BUCKET/PREFIX (default: files in LEANSTORAGE_DATA)"
    )
    _add_serve(commands, storage)
    _add_env(commands)
    _add_outbox(commands, storage)
    _add_permissions(commands, storage)
    index_command.add(commands, storage, _opened_store)
    add_commands(commands, storage, database_url, files_place)
    return top


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", storage: argparse.ArgumentParser) -> None:
    command = commands.add_parser("serve", parents=[storage], help="serve the storage API")
    command.add_argument(
        "--host",
        default="127.0.0.1",
        help="where it listens (default: %(default)s); beyond loopback TLS must stand in front, as signatures can be "
        "replayed",
    )
    command.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="0 for a free one (default: %(default)s)"
    )
    command.add_argument(
        "--engine", metavar="URL", help="the app, for its hooks and cloud functions (default: none)"
    )
    command.add_argument(
        "--public-url",
        metavar="URL",
        help="of this server; mailed links need it beyond loopback (default: what requests say in Host)",
    )
    command.add_argument(
        "--files-url",
        metavar="URL",
        help="of files, which should have an origin of their own in production (default: that of this server)",
    )
    command.add_argument(
        "--trust-auth",
        metavar="PROVIDER,...",
        default="",
        help="third-party logins to believe without asking the third party, * for all (default: none)",
    )
    command.add_argument(
        "--trusted-proxy",
        metavar="ADDRESS,...",
        type=_addresses,
        default=",".join(LOOPBACK),
        help="proxies in front, whose X-Real-IP is believed, * for any: behind one that is not named here all visitors "
        "are one, and locked out together (default: %(default)s)",
    )
    _add_policies(command)
    _add_limits(command)
    command.set_defaults(run=serve, makes=True)


def _add_policies(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help=f"for calls that wait (default: {THREADS}, with --engine {ENGINE_THREADS})",
    )
    command.add_argument(
        "--processes", type=int, default=1, metavar="N", help="on PostgreSQL as many as CPUs (default: %(default)s)"
    )
    command.add_argument(
        "--role-create",
        choices=("client", "master"),
        default="client",
        help="who may create roles; production should choose master (default: %(default)s, as on LeanCloud)",
    )
    command.add_argument(
        "--class-create",
        choices=("client", "master"),
        default="client",
        help="who may create classes, likewise (default: %(default)s)",
    )
    command.add_argument(
        "--verify-emails",
        action="store_true",
        help="let users ask for verification links, which lie in the outbox (default: refuse)",
    )
    for field, name in (("email", "e-mail address"), ("phone", "phone number")):
        command.add_argument(
            f"--login-needs-verified-{field}",
            action="store_true",
            help=f"refuse logins of users whose {name} is not verified (default: let them in)",
        )


def _add_limits(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-upload-bytes",
        type=int,
        metavar="N",
        default=Options.max_upload_bytes,
        help="of a file (default: %(default)s)",
    )
    command.add_argument(
        "--max-body-bytes",
        type=int,
        metavar="N",
        default=Options.max_body_bytes,
        help="of a call of the API (default: %(default)s)",
    )
    command.add_argument(
        "--max-json-depth",
        type=int,
        default=Options.max_json_depth,
        choices=range(10, 301),
        metavar="LEVELS",
        help="of a call of the API, 10 to 300 (default: %(default)s)",
    )
    command.add_argument(
        "--query-seconds",
        type=float,
        metavar="N",
        default=Options.query_seconds,
        help="that a query may take (default: %(default)s)",
    )
    command.add_argument(
        "--max-requests",
        type=int,
        metavar="N",
        default=Options.max_requests_per_minute,
        help="a minute and address, callers with the hook key and on loopback spared; 0 for no limit "
        "(default: %(default)s)",
    )
    command.add_argument(
        "--sign-max-age", type=int, metavar="SECONDS", help="refuse older signatures (default: none is too old)"
    )


def _add_env(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("env", help="print the variables that an app needs, for eval")
    command.add_argument("--host", default="127.0.0.1", help="that of serve (default: %(default)s)")
    command.add_argument("--port", type=_port, default=DEFAULT_PORT, help="that of serve (default: %(default)s)")
    command.add_argument(
        "--public-url", metavar="URL", help="where the app finds the storage (default: http://HOST:PORT)"
    )
    command.set_defaults(run=env, makes=True)


def _add_outbox(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", storage: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "outbox", parents=[storage], help="list the e-mails of the last 30 days, or hand them on"
    )
    command.add_argument("--json", action="store_true", help="print nothing else, not even how many there are")
    command.add_argument(
        "--send", metavar="COMMAND", help="instead hand those on that were not yet, as e-mails on its standard input"
    )
    command.set_defaults(run=outbox)


def _add_permissions(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", storage: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "permissions", parents=[storage], help="show or set who may do what in a class"
    )
    command.add_argument("class_name", metavar="CLASS")
    for action in ACTIONS:
        command.add_argument(
            f"--{action.replace('_', '-')}",
            metavar="WHO",
            help="everyone, users, nobody, or user ids and role:NAMEs with commas (default: left as it is)",
        )
    command.set_defaults(run=permissions)


def _port(text: str) -> int:
    """A port, 0 for any free one."""
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _addresses(text: str) -> frozenset[str]:
    """IP addresses joined by commas, or *."""
    try:
        return frozenset(part if part == "*" else str(ip_address(part)) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither * nor IP addresses joined by commas") from None


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


def _settings(options: argparse.Namespace) -> Options:
    return Options(
        trusted_providers=frozenset(["anonymous", *filter(None, options.trust_auth.split(","))]),
        public_url=options.public_url,
        files_url=options.files_url and options.files_url.rstrip("/"),
        role_create=options.role_create,
        class_create=options.class_create,
        verify_emails=options.verify_emails,
        login_needs_verified_email=options.login_needs_verified_email,
        login_needs_verified_phone=options.login_needs_verified_phone,
        max_upload_bytes=options.max_upload_bytes,
        max_body_bytes=options.max_body_bytes,
        max_json_depth=options.max_json_depth,
        query_seconds=options.query_seconds,
        sign_max_age_s=options.sign_max_age,
        max_requests_per_minute=options.max_requests,
        trusted_proxy=options.trusted_proxy,
    )


def serve(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    settings = _settings(options)
    is_local = options.host in ("127.0.0.1", "::1", "localhost")
    if not is_local and key_files.from_environment(os.environ) is None:
        names = ", ".join(key_files.NAMES.values())
        print(f"cannot start: beyond loopback the keys must come from the environment: {names}", file=sys.stderr)
        return 2
    if options.processes > 1 and not database_url(options, data).startswith("postgres"):
        print(
            "cannot start: several processes need a database of their own: --database postgresql://...", file=sys.stderr
        )
        return 2

    def opened() -> Service:
        transport = HttpTransport(options.engine) if options.engine else None
        return open_service(keys, database_url(options, data), files_place(options, data), transport, settings)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    threads = options.threads or (ENGINE_THREADS if options.engine else THREADS)
    try:
        opened_socket = listen(options.host, options.port)
    except OSError as error:
        raise OSError(port_trouble(error, options.port, "--port")) from error
    with opened_socket as listening:
        service = opened()
        try:
            signal.signal(signal.SIGTERM, stop)
            print(f"LeanStorage listens on http://{options.host}:{listening.getsockname()[1]}", flush=True)
            place = _without_password(database_url(options, data))
            print(f"data: {place}, files: {files_place(options, data)}", flush=True)
            if not is_local:
                print("TLS must stand in front of this server: what it hears can be replayed", flush=True)
            if options.processes > 1:
                service.store.close()  # it has threads; each process opens its own
                share(options.processes, lambda: _run(opened(), listening, threads), [listening])
            else:
                _run(service, listening, threads)
        except KeyboardInterrupt:
            pass
        except Exception:  # it had started: no operator can mend that
            traceback.print_exc()
            return 1
    return 0


def _run(service: Service, listening: socket.socket, threads: int) -> None:
    """Serve on a listening socket until SIGTERM or Ctrl-C, in a process that may be one of several."""
    sweeper = Sweeper(service)
    options, quick = service.options, quick_calls(service)
    application, is_token = create_application(service), partial(files.may_be_used, service)
    server = Server(application, listening, threads, options.max_bytes, quick, options.max_body_bytes, is_token)
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as Ctrl-C is for a script's background job
            signal.signal(number, lambda *_: server.stop())
    try:
        server.run()
    finally:
        sweeper.close()
        if service.engine is not None:
            service.engine.close()
        service.store.close()


def env(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Print `export` lines, as `lean env` does."""
    url = options.public_url or f"http://{options.host}:{options.port}"
    for variable, value in variables(keys, url.rstrip("/"), os.environ).items():
        print(f"export {variable}={shlex.quote(value)}")
    return 0


def outbox(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Print the messages to users, oldest first, one JSON object a line: they hold secret links. Or hand them on."""

    def deliver(data: bytes) -> bool:
        try:
            return subprocess.run(options.send, shell=True, input=data, timeout=SEND_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    with _opened_store(options, data) as store:
        if options.send:
            sent, failed = mail.hand_on(store, deliver)
            print(f"{sent} sent, {failed} not")
            return 1 if failed else 0
        found = mail.outbox(store)
    for message in found:
        print(json.dumps(message, ensure_ascii=False))
    if not options.json:
        print(f"{len(found)} messages")
    return 0


def permissions(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Set what was given, then print the permissions of the class, one action a line."""
    given = {action: getattr(options, action) for action in ACTIONS if getattr(options, action) is not None}

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
        transaction.save_class(options.class_name, info)
        return rules

    with _opened_store(options, data) as store:
        found = store.write(work)
    for action in ACTIONS:
        rule = found.get(action)
        who = "everyone" if rule is None else "users" if rule["users"] else ",".join(rule["names"]) or "nobody"
        print(f"{action}: {who}")
    return 0


def _check_known(transaction: Transaction, name: str) -> None:
    """Raise ValueError for the name of nobody: a rule that names nobody else would lock everybody out."""
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
    return f"{head.split('://', 1)[0]}://***@{tail}" if at else url


if __name__ == "__main__":
    sys.exit(main())
