"""The command line: `python -m leanstorage serve | env | ...`. The only module here that reads the environment."""
import argparse
import json
import os
import shlex
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leanstorage import classes, indexes
from leanstorage import keys as key_files
from leanstorage.calls import Options, Service
from leanstorage.errors import StorageError
from leanstorage.hooks import HttpTransport
from leanstorage.quick import quick_calls
from leanstorage.server import Server
from leanstorage.service import create_application, open_service
from leanstorage.store import Document, StoreUnavailable, open_store
from leanstorage.sweep import Sweeper
from leanstorage.takeout.commands import add_commands
from processes import listen, share

if TYPE_CHECKING:
    from leanstorage.store.sql import Transaction

DEFAULT_PORT = 8126
THREADS, ENGINE_THREADS = 8, 32  # more only fight for the interpreter, unless they wait for an engine's hooks
ACTIONS = ("find", "get", "create", "update", "delete", "add_fields")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand, that of `sys.argv` by default; return the exit code."""
    options = parser().parse_args(arguments)
    options.environment = os.environ
    data = Path(os.environ.get("LEANSTORAGE_DATA") or "data")
    try:
        keys = key_files.from_environment(os.environ) or key_files.load(data)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    code: int = options.run(options, data, keys)
    return code


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m leanstorage", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    storage = argparse.ArgumentParser(add_help=False)
    storage.add_argument("--database", metavar="URL", help="sqlite:///PATH or postgresql://...; in LEANSTORAGE_DATA")
    storage.add_argument("--files", metavar="PLACE", help="a folder or s3://BUCKET/PREFIX; in LEANSTORAGE_DATA")
    serve_command = commands.add_parser("serve", parents=[storage], help="serve the storage API")
    serve_command.add_argument("--host", default="127.0.0.1")
    serve_command.add_argument("--port", type=int, default=DEFAULT_PORT)
    serve_command.add_argument("--engine", metavar="URL", help="the app, for its hooks and cloud functions")
    serve_command.add_argument("--public-url", metavar="URL", help="of this server; mailed links need it beyond loopback")
    serve_command.add_argument("--files-url", metavar="URL", help="of files, when they have an origin of their own")
    serve_command.add_argument(
        "--trust-auth", metavar="PROVIDER,...", default="", help="third-party logins to believe unchecked; * for all"
    )
    serve_command.add_argument(
        "--threads", type=int, metavar="N", help=f"for calls that wait; {THREADS}, or {ENGINE_THREADS} with --engine"
    )
    serve_command.add_argument("--processes", type=int, default=1, metavar="N", help="on PostgreSQL: as many as CPUs")
    serve_command.add_argument("--role-create", choices=("client", "master"), default="client", help="who may create roles")
    serve_command.add_argument("--class-create", choices=("client", "master"), default="client", help="and classes")
    serve_command.add_argument("--verify-emails", action="store_true", help="let users ask for verification links")
    serve_command.add_argument("--max-upload-bytes", type=int, default=Options.max_upload_bytes)
    serve_command.add_argument("--max-body-bytes", type=int, default=Options.max_body_bytes, help="of a call of the API")
    serve_command.add_argument(
        "--max-json-depth", type=int, default=Options.max_json_depth, choices=range(10, 301), metavar="LEVELS"
    )
    serve_command.add_argument("--query-seconds", type=float, default=Options.query_seconds, help="that a query may take")
    serve_command.add_argument(
        "--max-requests",
        type=int,
        default=Options.max_requests_per_minute,
        help="a minute and address, callers with the hook key and on loopback spared; 0 for no limit",
    )
    serve_command.add_argument("--sign-max-age", type=int, metavar="SECONDS", help="refuse older signatures")
    serve_command.set_defaults(run=serve)
    env_command = commands.add_parser("env", help="print the variables that an app needs, for eval")
    env_command.add_argument("--host", default="127.0.0.1")
    env_command.add_argument("--port", type=int, default=DEFAULT_PORT)
    env_command.add_argument("--public-url", metavar="URL")
    env_command.set_defaults(run=env)
    outbox_command = commands.add_parser("outbox", parents=[storage], help="print the e-mails of the last 30 days")
    outbox_command.set_defaults(run=outbox)
    rights_command = commands.add_parser("permissions", parents=[storage], help="show or set who may do what in a class")
    rights_command.add_argument("class_name", metavar="CLASS")
    for action in ACTIONS:
        rights_command.add_argument(
            f"--{action.replace('_', '-')}",
            metavar="WHO",
            help="everyone, users, nobody, or user ids and role:NAMEs with commas",
        )
    rights_command.set_defaults(run=permissions)
    index_command = commands.add_parser("index", parents=[storage], help="make queries for equal values of KEYs fast")
    index_command.add_argument("class_name", metavar="CLASS")
    index_command.add_argument("keys", nargs="*", metavar="KEY", help="the keys of one index; without, list what there is")
    index_command.add_argument("--drop", action="store_true", help="take the index of these keys away")
    index_command.set_defaults(run=index)
    add_commands(commands, storage, database_url, files_place)
    return top


def database_url(options: argparse.Namespace, data: Path) -> str:
    return options.database or f"sqlite:///{data / 'leanstorage.db'}"


def files_place(options: argparse.Namespace, data: Path) -> str:
    return options.files or str(data / "files")


def serve(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    settings = Options(
        trusted_providers=frozenset(["anonymous", *filter(None, options.trust_auth.split(","))]),
        public_url=options.public_url,
        files_url=options.files_url and options.files_url.rstrip("/"),
        role_create=options.role_create,
        class_create=options.class_create,
        verify_emails=options.verify_emails,
        max_upload_bytes=options.max_upload_bytes,
        max_body_bytes=options.max_body_bytes,
        max_json_depth=options.max_json_depth,
        query_seconds=options.query_seconds,
        sign_max_age_s=options.sign_max_age,
        max_requests_per_minute=options.max_requests,
    )
    is_local = options.host in ("127.0.0.1", "::1", "localhost")
    if not is_local and key_files.from_environment(os.environ) is None:
        names = ", ".join(key_files.NAMES.values())
        print(f"cannot start: beyond loopback the keys must come from the environment: {names}", file=sys.stderr)
        return 2
    if options.processes > 1 and not database_url(options, data).startswith("postgres"):
        print("cannot start: several processes need a database of their own: --database postgresql://...", file=sys.stderr)
        return 2

    def opened() -> Service:
        transport = HttpTransport(options.engine) if options.engine else None
        return open_service(keys, database_url(options, data), files_place(options, data), transport, settings)

    try:
        listening = listen(options.host, options.port)
        service = opened()
    except (ValueError, OSError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    print(f"LeanStorage listens on http://{options.host}:{listening.getsockname()[1]}", flush=True)
    print(f"data: {_without_password(database_url(options, data))}, files: {files_place(options, data)}", flush=True)
    if not is_local:
        print("TLS must stand in front of this server: what it hears can be replayed", flush=True)

    threads = options.threads or (ENGINE_THREADS if options.engine else THREADS)
    try:
        if options.processes > 1:
            service.store.close()  # it has threads; each process opens its own
            share(options.processes, lambda: _run(opened(), listening, threads))
        else:
            _run(service, listening, threads)
    except KeyboardInterrupt:
        pass
    return 0


def _run(service: Service, listening: socket.socket, threads: int) -> None:
    """Serve on a listening socket until KeyboardInterrupt, in a process that may be one of several."""
    sweeper = Sweeper(service)
    server = Server(create_application(service), listening, threads, service.options.max_bytes, quick_calls(service))
    try:
        server.run()
    finally:
        sweeper.close()
        if service.engine is not None:
            service.engine.close()
        service.store.close()


def env(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Print `export` lines, as `lean env` does."""
    for name, variable in key_files.NAMES.items():
        print(f"export {variable}={shlex.quote(keys[name])}")
    url = options.public_url or f"http://{options.host}:{options.port}"
    print(f"export LEANCLOUD_API_SERVER={shlex.quote(url.rstrip('/'))}")
    return 0


def outbox(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Print the messages that users were to be sent, oldest first, one JSON object a line: they hold secret links."""
    store = open_store(database_url(options, data))
    try:
        found = store.read(lambda transaction: transaction.records("outbox"))
    finally:
        store.close()
    for _, message in found:
        print(json.dumps(message, ensure_ascii=False))
    print(f"{len(found)} messages")
    return 0


def permissions(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Set what was given, then print the permissions of the class, one action a line."""
    given = {action: getattr(options, action) for action in ACTIONS if getattr(options, action) is not None}
    store = open_store(database_url(options, data))

    def work(transaction: "Transaction") -> Document:
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
                rules[action] = {"users": who == "users", "names": names}
        transaction.save_class(options.class_name, info)
        return rules

    try:
        found = store.write(work)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        store.close()
    for action in ACTIONS:
        rule = found.get(action)
        who = "everyone" if rule is None else "users" if rule["users"] else ",".join(rule["names"]) or "nobody"
        print(f"{action}: {who}")
    return 0


def index(options: argparse.Namespace, data: Path, keys: dict[str, str]) -> int:
    """Make or drop an index, then print those of the class, one a line."""
    store = open_store(database_url(options, data))
    try:
        if options.keys:
            (indexes.drop if options.drop else indexes.create)(store, options.class_name, options.keys)
        found = store.read(lambda transaction: indexes.listed(transaction, options.class_name))
    except (ValueError, StorageError, StoreUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        store.close()
    for found_keys in found:
        print(options.class_name, *found_keys)
    return 0


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.split('://', 1)[0]}://***@{tail}" if at else url


if __name__ == "__main__":
    sys.exit(main())
