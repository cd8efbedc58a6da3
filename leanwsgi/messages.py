"""Reading a request out of environ, and building a response: (HTTPStatus, headers, body).

All client input passes through here once, so that malformed input becomes one clear 400 or 413.
"""
import ipaddress
import json
import math
import random
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes
from wsgiref.types import StartResponse, WSGIEnvironment

import multipart

Header = tuple[str, str]
Response = tuple[HTTPStatus, Sequence[Header], bytes | Iterable[bytes]]
BytesResponse = tuple[HTTPStatus, Sequence[Header], bytes]
Explain = Callable[[Exception, WSGIEnvironment], Response]
MAX_JSON_BYTES = 1 << 20  # 1 MiB: a todo has 244 characters, a batch of the storage has its own limit
MAX_JSON_DEPTH = 100  # levels; far above what any client sends, far below Python's recursion limit
MAX_QUERY_FIELDS = 100
KNOWN_QUERY = 1024  # characters of a query string that is worth remembering: a thousand of them take a few MB at most
MULTIPART_BYTES = 1 << 16  # what a form may add to its file: boundaries, part headers, small other fields
CHUNK_BYTES = 1 << 16
STATUS_LINES = {status: f"{status.value} {status.phrase}" for status in HTTPStatus}
WITHOUT_BODY = frozenset([HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED])
SAFE_METHODS = frozenset(["GET", "HEAD", "OPTIONS"])
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{8,64}", re.ASCII)
PRIVATE = ("Cache-Control", "no-store")  # the platform's edge nodes cache what does not say otherwise


class HTTPError(Exception):
    """A known failure: what the client is told, and nothing else.

    `code` is the number in the body, LeanCloud's own where there is one, else the status.
    """

    def __init__(
        self, status: HTTPStatus, message: str, code: int | None = None, headers: Iterable[Header] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = status.value if code is None else code
        self.headers = list(headers)


class Upload(NamedTuple):
    """One uploaded file; `file` is open at its beginning and belongs to the caller, who closes it."""

    name: str
    mime_type: str
    size: int  # bytes
    file: IO[bytes]


def path(environ: WSGIEnvironment) -> str:
    """The decoded path; a server hands the bytes over as latin-1 (PEP 3333). Raises HTTPError 400."""
    text: str = environ.get("PATH_INFO", "")
    if text.isascii():
        return text or "/"
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the path is not UTF-8") from None


def query(environ: WSGIEnvironment) -> dict[str, str]:
    """The query string as {name: value}. Raises HTTPError 400: bad UTF-8, a repeated name, too many names."""
    text = environ.get("QUERY_STRING", "")
    if not text:
        return {}
    return dict(_known_query(text) if len(text) <= KNOWN_QUERY else _query(text))


def _query(text: str) -> dict[str, str]:
    """What `query` makes of a query string, which is not to be changed."""
    try:
        # Servers pass the raw bytes as latin-1: what is not escaped must be UTF-8 as well.
        pairs = parse_qsl(
            text.encode("latin-1").decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS
        )
    except (UnicodeError, ValueError):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the query string is malformed") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the query string repeats a name")
    return values


_known_query = lru_cache(1000)(_query)  # a client asks the same again and again


def check_query(environ: WSGIEnvironment) -> None:
    """Raise HTTPError 400 for a query string that is not UTF-8, decoded or not."""
    text = environ.get("QUERY_STRING")
    if not text:
        return
    try:
        unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the query string is not UTF-8") from None


def content_length(environ: WSGIEnvironment, limit: int) -> int | None:
    """The announced length of the body in bytes, 0 when there is none, None when it ends by itself (chunked).

    Raises HTTPError: 400 for a malformed length, 413 above `limit` bytes.
    """
    text = environ.get("CONTENT_LENGTH") or ""
    if not text:
        return None if environ.get("wsgi.input_terminated") else 0
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
    length = int(text)
    if length > limit:
        raise too_large(limit)
    return length


def too_large(limit: int) -> HTTPError:
    return HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {limit} bytes")


def body_chunks(environ: WSGIEnvironment, limit: int) -> Iterator[bytes]:
    """Yield the body in pieces of at most CHUNK_BYTES; raise HTTPError 400 when it ends early, 413 above `limit`."""
    length = content_length(environ, limit)
    stream = environ["wsgi.input"]
    done = 0
    while length is None or done < length:
        wanted = CHUNK_BYTES if length is None else min(CHUNK_BYTES, length - done)
        chunk = stream.read(wanted)
        if not chunk:
            break
        done += len(chunk)
        if done > limit:
            raise too_large(limit)
        yield chunk
    if length is not None and done < length:
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the body ended before its Content-Length")


def read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """The whole body as bytes, at most `limit` of them."""
    return b"".join(body_chunks(environ, limit))


def json_object(environ: WSGIEnvironment, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The body as a JSON object, whatever its Content-Type. Raises HTTPError 400 or 413."""
    value = parse_json(read_body(environ, limit))
    if not isinstance(value, dict):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
    return value


def parse_json(data: bytes | str, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """Strict JSON from bytes or text. Raises HTTPError 400.

    Refused beyond the syntax: NaN, Infinity and numbers that overflow to them, more than `max_depth` levels,
    lone surrogates and NUL characters (UTF-8 or PostgreSQL could not keep them).
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = _JSON.decode(text)
    except (ValueError, RecursionError):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the body is not valid JSON") from None
    if text.count("[") + text.count("{") > max_depth and _depth(value) > max_depth:
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"the JSON is nested deeper than {max_depth} levels")
    if "\\u" in text and not all(map(_storable, _texts(value))):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the JSON holds a NUL character or half of a surrogate pair")
    return value


def upload(environ: WSGIEnvironment, field: str, limit: int) -> Upload:
    """The file of a multipart/form-data body, as an Upload on disk: memory stays constant, whatever the size.

    Raises HTTPError: 400 for anything but one file in `field` (other fields are ignored), 413 above `limit` bytes.
    """
    found: multipart.MultipartSegment | None = None
    file: IO[bytes] | None = None
    is_wanted = False  # whether the segment being read is the file
    try:
        for event in _multipart(environ, limit):
            if isinstance(event, multipart.MultipartSegment):
                is_wanted = event.name == field and event.filename is not None
                if is_wanted and found is not None:
                    raise HTTPError(HTTPStatus.BAD_REQUEST, f"the field {field!r} is there twice")
                if is_wanted:
                    found, file = event, tempfile.SpooledTemporaryFile(max_size=CHUNK_BYTES)
            elif event and is_wanted and file is not None:
                file.write(event)
                if file.tell() > limit:
                    raise too_large(limit)
        if found is None or file is None:
            raise HTTPError(HTTPStatus.BAD_REQUEST, f"there is no file in the field {field!r}")
        size = file.tell()
        file.seek(0)
        return Upload(found.filename, found.content_type or "", size, file)
    except BaseException:
        if file is not None:
            file.close()
        raise


def file_chunks(environ: WSGIEnvironment, fields: Collection[str], limit: int) -> Iterator[bytes]:
    """Yield the file of a multipart/form-data body in pieces, while it comes; other fields are ignored.

    Raises HTTPError: 400 for anything but one file, in one of `fields`, 413 above `limit` bytes.
    """
    is_found = is_wanted = False
    size = 0
    for event in _multipart(environ, limit):
        if isinstance(event, multipart.MultipartSegment):
            is_wanted = event.name in fields and event.filename is not None
            if is_wanted and is_found:
                raise HTTPError(HTTPStatus.BAD_REQUEST, f"the field {event.name!r} is there twice")
            is_found |= is_wanted
        elif event and is_wanted:
            size += len(event)
            if size > limit:
                raise too_large(limit)
            yield bytes(event)
    if not is_found:
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"there is no file in the field {' or '.join(fields)}")


def _multipart(environ: WSGIEnvironment, limit: int) -> Iterator[multipart.MultipartSegment | bytes | None]:
    """What a multipart/form-data body holds, as the parser says it: a segment, its bytes, None at its end."""
    content_type, options = multipart.parse_options_header(environ.get("CONTENT_TYPE", ""))
    boundary = options.get("boundary", "")
    if content_type != "multipart/form-data" or not boundary:
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the body must be multipart/form-data")
    try:
        with multipart.PushMultipartParser(boundary, max_header_count=16, max_segment_count=16) as parser:
            for chunk in body_chunks(environ, limit + MULTIPART_BYTES):
                yield from parser.parse(chunk)
    except (multipart.MultipartError, UnicodeError):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the multipart body is malformed") from None


def is_trusted(environ: WSGIEnvironment, trusted: Collection[str]) -> bool:
    """Whether the peer is a proxy whose forwarding headers are believed; `trusted` holds addresses, or "*"."""
    return "*" in trusted or environ.get("REMOTE_ADDR", "") in trusted


def client_address(environ: WSGIEnvironment, trusted: Collection[str]) -> str:
    """The visitor's address: X-Real-IP from a trusted proxy (LeanEngine's balancer sets it), else the peer's."""
    peer: str = environ.get("REMOTE_ADDR", "")
    claimed = environ.get("HTTP_X_REAL_IP", "").strip()
    if claimed and is_trusted(environ, trusted):
        address = _ip_address(claimed)
        if address is not None:  # anything else could put arbitrary text into keys and logs
            return str(address)
    return peer


def request_id(environ: WSGIEnvironment, trusted: Collection[str]) -> str:
    """What a request is called in logs and answers: its X-Request-Id from a trusted proxy, if that is a plain word."""
    claimed: str = environ.get("HTTP_X_REQUEST_ID", "")
    if claimed and REQUEST_ID.fullmatch(claimed) and is_trusted(environ, trusted):
        return claimed
    return f"{random.getrandbits(64):016x}"  # tells requests apart, keeps no secret


def address_block(address: str) -> str:
    """What limits count: an IPv4 address, but the /64 of an IPv6 one, as each visitor has a whole /64 at least.

    What is no address is counted as it is.
    """
    found = _ip_address(address)
    if found is None or found.version == 4:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    if found.is_loopback:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text is, or None; one with a zone (`fe80::1%x`) is none, as a zone may be any text."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


@lru_cache(maxsize=64)
def http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def json_bytes(value: Any) -> bytes:
    return _ENCODER.encode(value).encode("utf-8")


def json_response(status: HTTPStatus, value: Any, headers: Iterable[Header] = ()) -> BytesResponse:
    return status, [("Content-Type", "application/json; charset=utf-8"), PRIVATE, *headers], json_bytes(value)


def error_response(status: HTTPStatus, code: int, message: str, headers: Iterable[Header] = ()) -> BytesResponse:
    """The one shape of every error: `{"error": "...", "code": N}`."""
    return json_response(status, {"error": message, "code": code}, headers)


def start(environ: WSGIEnvironment, start_response: StartResponse, response: Response) -> Iterable[bytes]:
    """Start a response and return its body, with Content-Length where it is known, and without a body for HEAD.

    Headers are handed out as a copy: middleware appends to the list it is given, and a handler's constant list would
    collect cookies.
    """
    status, headers, body = response
    headers = list(headers)
    if isinstance(body, bytes) and status not in WITHOUT_BODY:
        for name, _ in headers:
            if name.lower() == "content-length":
                break
        else:
            headers.append(("Content-Length", str(len(body))))
    start_response(STATUS_LINES[status], headers)
    if environ["REQUEST_METHOD"] == "HEAD":
        if hasattr(body, "close"):
            body.close()
        return [b""]
    return [body] if isinstance(body, bytes) else body


def explain(error: Exception, environ: WSGIEnvironment) -> BytesResponse:
    """An exception as a response: HTTPError says what it says, anything else is logged and becomes a bare 500."""
    if isinstance(error, HTTPError):
        return error_response(error.status, error.code, error.message, error.headers)
    log_exception(error, environ)
    return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, 1, "Internal server error.")


def log_exception(error: BaseException, environ: WSGIEnvironment) -> None:
    """The traceback on stderr. The request is named by method and request id only: paths and queries hold tokens."""
    lines = re.sub(r"(session_token=)[^&\s'\"]+", r"\1***", "".join(traceback.format_exception(error)))
    name = environ.get("app.request_id", "-")
    print(f"request {name} {environ.get('REQUEST_METHOD', '-')[:8]!r} failed\n{lines}", end="", file=sys.stderr, flush=True)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("the number is too large")
    return number


# One decoder for all calls: json.loads would build a new one each time.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_JSON = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _depth(value: Any) -> int:
    """How many arrays and objects stand within each other."""
    level: list[Any] = [value]
    deepest = 0
    while level := [one for one in level if isinstance(one, (dict, list))]:
        deepest += 1
        level = [child for parent in level for child in (parent.values() if isinstance(parent, dict) else parent)]
    return deepest


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield key
            yield from _texts(child)
    elif isinstance(value, list):
        for child in value:
            yield from _texts(child)


def _storable(text: str) -> bool:
    return "\0" not in text and not re.search("[\ud800-\udfff]", text)
