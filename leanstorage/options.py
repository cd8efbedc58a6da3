"""The options of `serve`, how each is read and checked, and the help that explains them."""
import argparse
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from leanstorage.http.request_log import FORMATS
from leanstorage.rules.call import LOOPBACK, Options
from leanwsgi import setting_values

DEFAULT_PORT = 8126
THREADS, ENGINE_THREADS = 8, 32  # more only fight for the interpreter, unless they wait for an engine's hooks
MAX_THREADS, MAX_PROCESSES = 512, 128
S3 = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._:-]*(/[^?#]*)?", re.ASCII)
Group = Any  # argparse's, which is private there


class Parser(argparse.ArgumentParser):
    """argparse, which would print the whole usage before the one line that says what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists all options)\n")


def checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """`read` for argparse, which hides what a ValueError says."""

    def reading(text: str) -> Any:
        try:
            return read(text.strip())
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return reading


def whole(least: int, most: int = 2**53) -> Callable[[str], int]:
    """A reader of whole numbers in these bounds."""

    def reading(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
            raise ValueError(f"must be a number from {least}" + (f" to {most}" if most < 2**53 else ""))
        return int(text)

    return checked(reading)


def port(text: str) -> int:
    """A port, 0 for any free one."""
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def host(text: str) -> str:
    """An address or a name to listen on: that this machine has it is seen then."""
    try:
        return setting_values.address_or_name(text)
    except ValueError:
        raise ValueError("must be an address of this machine, such as 127.0.0.1") from None


def listening_place(text: str) -> tuple[str, int]:
    """(host, port) of `[HOST:]PORT`; the host is loopback unless it is given."""
    name, colon, number = text.rpartition(":")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    return host(name) if colon else "127.0.0.1", port(number)


def database(text: str) -> str:
    """The URL of a database, as far as it can be checked without opening it."""
    is_sqlite = text.startswith("sqlite:///") and len(text) > len("sqlite:///")
    if text.isprintable() and (is_sqlite or _is_postgresql(text)):
        return text
    raise ValueError("must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME")


def _is_postgresql(text: str) -> bool:
    if not text.startswith(("postgresql://", "postgres://")):
        return False
    try:
        from psycopg import conninfo, Error
    except ImportError:
        return True  # which is said when it is opened
    try:
        port = conninfo.conninfo_to_dict(text).get("port") or "5432"
    except Error:  # its text holds a part of the URL
        return False
    return all(one.isdigit() and 0 < int(one) < 1 << 16 for one in str(port).split(","))


def files(text: str) -> str:
    """Where files lie: a folder, or a place on S3."""
    if not text or not text.isprintable() or ("://" in text and not S3.fullmatch(text)):
        raise ValueError("must be a folder or s3://BUCKET/PREFIX")
    return text


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 3600:
        raise ValueError("must be a number of seconds above 0, at most 3600")
    return number


def _addresses(text: str) -> frozenset[str]:
    found = setting_values.addresses(text)
    if not found:
        raise ValueError("must be IP addresses with commas between them, or *")
    return found


def _providers(text: str) -> list[str]:
    found = setting_values.names(text)
    for name in found or [""]:
        if name != "*" and not (name.isascii() and name.replace("_", "").replace("-", "").isalnum()):
            raise ValueError("must be names of third parties with commas between them, such as weixin,qq, or *")
    return found


url = checked(setting_values.web_url)


def add_place(command: argparse.ArgumentParser) -> None:
    """--host and --port, for `serve` and for those who have to know where it listens."""
    command.add_argument(
        "--host",
        type=checked(host),
        default="127.0.0.1",
        help="address to listen on (default: %(default)s, reached from this machine only); beyond loopback put a "
        "reverse proxy with TLS in front, because requests that are overheard can be replayed",
    )
    command.add_argument(
        "--port", type=port, default=DEFAULT_PORT, help="port to listen on, 0 for any free one (default: %(default)s)"
    )


def add_serve_options(command: argparse.ArgumentParser) -> None:
    _add_network(command.add_argument_group("addresses"))
    _add_rights(command.add_argument_group("who may do what"))
    _add_limits(command.add_argument_group("limits"))
    _add_operation(command.add_argument_group("operation"))


def _add_network(group: Group) -> None:
    group.add_argument(
        "--engine",
        metavar="URL",
        type=checked(lambda text: setting_values.web_url(text, has_user=True)),
        help="where the app runs, to call its hooks and cloud functions (default: there is no app)",
    )
    group.add_argument(
        "--public-url",
        metavar="URL",
        type=url,
        help="URL that clients reach this server by; links in e-mails need it beyond loopback (default: what a "
        "request says in Host)",
    )
    group.add_argument(
        "--files-url",
        metavar="URL",
        type=url,
        help="URL that clients fetch files from; in production a host name of its own (default: that of this server)",
    )
    group.add_argument(
        "--trusted-proxy",
        metavar="ADDRESS,...",
        type=checked(_addresses),
        default=",".join(LOOPBACK),
        help="addresses of the proxies in front, * for any; their X-Real-IP and X-Request-Id are believed. Behind a "
        "proxy that is not listed all visitors share one address, and are locked out together (default: %(default)s)",
    )


def _add_rights(group: Group) -> None:
    group.add_argument(
        "--trust-auth",
        metavar="PROVIDER,...",
        type=checked(_providers),
        help="third parties whose log-ins are believed without asking them, * for all (default: none)",
    )
    group.add_argument(
        "--role-create",
        choices=("client", "master"),
        default="client",
        help="who may create roles: any client, or holders of the master key, which is safer in production "
        "(default: %(default)s, as on LeanCloud)",
    )
    group.add_argument(
        "--class-create",
        choices=("client", "master"),
        default="client",
        help="who may create classes, likewise (default: %(default)s)",
    )
    group.add_argument(
        "--verify-emails",
        action="store_true",
        help="send users a link that verifies their e-mail address; `outbox` hands it on (default: refuse)",
    )
    for field, name in (("email", "e-mail address"), ("phone", "phone number")):
        group.add_argument(
            f"--login-needs-verified-{field}",
            action="store_true",
            help=f"refuse log-ins of users whose {name} is not verified (default: let them in)",
        )


def _add_limits(group: Group) -> None:
    group.add_argument(
        "--threads",
        type=whole(1, MAX_THREADS),
        metavar="N",
        help=f"threads for requests that wait (default: {THREADS}, with --engine {ENGINE_THREADS})",
    )
    group.add_argument(
        "--processes",
        type=whole(1, MAX_PROCESSES),
        default=1,
        metavar="N",
        help="worker processes, on PostgreSQL as many as CPUs (default: %(default)s)",
    )
    group.add_argument(
        "--max-upload-bytes",
        type=whole(1),
        metavar="N",
        default=Options.max_upload_bytes,
        help="largest file that may be uploaded, in bytes (default: %(default)s)",
    )
    group.add_argument(
        "--max-body-bytes",
        type=whole(1),
        metavar="N",
        default=Options.max_body_bytes,
        help="largest body of any other request, in bytes (default: %(default)s)",
    )
    group.add_argument(
        "--max-json-depth",
        type=whole(10, 300),
        default=Options.max_json_depth,
        metavar="LEVELS",
        help="how deep the JSON of a request may be nested, 10 to 300 (default: %(default)s)",
    )
    _add_shares(group)


def _add_shares(group: Group) -> None:
    """How much of the server one query or one address may take."""
    group.add_argument(
        "--query-seconds",
        type=checked(_seconds),
        metavar="N",
        default=Options.query_seconds,
        help="stop a query that takes longer (default: %(default)s)",
    )
    group.add_argument(
        "--max-requests",
        type=whole(0),
        metavar="N",
        default=Options.max_requests_per_minute,
        help="requests a minute from one address, 0 for no limit; callers on loopback and holders of the hook key "
        "are not counted (default: %(default)s)",
    )
    group.add_argument(
        "--max-bytes-per-address",
        type=whole(0),
        metavar="N",
        default=Options.max_bytes_per_address,
        help="bytes that one address may send in a day, in calls and uploads, 0 for no limit; likewise, and the master "
        "is not counted (default: %(default)s)",
    )
    group.add_argument(
        "--sign-max-age",
        type=whole(1),
        metavar="SECONDS",
        help="refuse request signatures that are older (default: accept any age)",
    )


def _add_operation(group: Group) -> None:
    group.add_argument(
        "--admin",
        metavar="[HOST:]PORT",
        type=checked(listening_place),
        help="where to listen for GET /health and GET /metrics, on loopback unless HOST is given; with --processes "
        "each process has a port of its own, counted up from PORT (default: nowhere)",
    )
    group.add_argument(
        "--access-log",
        action="store_true",
        help="write a line for every request to standard output, without tokens, keys, queries and bodies (default: do not)",
    )
    group.add_argument(
        "--log-format", choices=FORMATS, default=FORMATS[0], help="format of the lines about requests (default: %(default)s)"
    )
    group.add_argument(
        "--log-slow",
        metavar="MS",
        type=whole(0, 3_600_000),
        help="write a line for every request that takes more milliseconds, with the keys and operators of its query (default: do not)",
    )


def service_options(given: argparse.Namespace) -> Options:
    """The Options of a service from the arguments of `serve`."""
    return Options(
        trusted_providers=frozenset(["anonymous", *(given.trust_auth or ())]),
        public_url=given.public_url,
        files_url=given.files_url,
        role_create=given.role_create,
        class_create=given.class_create,
        verify_emails=given.verify_emails,
        login_needs_verified_email=given.login_needs_verified_email,
        login_needs_verified_phone=given.login_needs_verified_phone,
        max_upload_bytes=given.max_upload_bytes,
        max_body_bytes=given.max_body_bytes,
        max_json_depth=given.max_json_depth,
        query_seconds=given.query_seconds,
        sign_max_age_s=given.sign_max_age,
        max_requests_per_minute=given.max_requests,
        max_bytes_per_address=given.max_bytes_per_address,
        trusted_proxy=given.trusted_proxy,
    )
