"""The guards around the whole application, one small WSGI middleware each; wsgi.py composes them.

Each says what it guards against; the table in docs/security.md names the test of every one. The guards around the
SDK's own objects are in session.py, https.py and cloud_code.py.
"""
import gzip
import re
from collections.abc import Collection, Iterable, Iterator
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import leancloud

from leanwsgi import messages

MAX_PATH = 8192  # bytes
HOST = re.compile(r"([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
FORWARDED = ("HTTP_X_FORWARDED_PROTO", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED")
SECURITY_HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
]
SECURITY_NAMES = frozenset(name for name, _ in SECURITY_HEADERS)
TEXT = re.compile(r"text/|application/(json|javascript)|image/svg")
GZIP_BYTES, GZIP_LEVEL = 1024, 5
HSTS = ("Strict-Transport-Security", "max-age=31536000")


def isolate_visitors(application: WSGIApplication) -> WSGIApplication:
    """Clear the SDK's current user of this thread before each request, and again when its body is closed.

    The SDK keeps the current user per thread and never clears it. The next visitor on the thread would act as that
    user, and would even get the cookie.
    """

    def isolated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        leancloud.User.set_current(None)
        try:
            body = application(environ, start_response)
        except BaseException:
            leancloud.User.set_current(None)
            raise
        if isinstance(body, list):  # complete: nothing of the application runs any more
            leancloud.User.set_current(None)
            return body
        return _ForgettingBody(body)

    return isolated


class _ForgettingBody:
    """A streamed body that ends the visit when the server closes it."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            leancloud.User.set_current(None)


def bound(
    application: WSGIApplication,
    trusted: Collection[str],
    allowed_hosts: Collection[str],
    max_upload_bytes: int,
    is_production: bool,
    explain: messages.Explain = messages.explain,
) -> WSGIApplication:
    """The outer wall: whose forwarding headers are believed, Host, sizes, request id, security headers, last 500.

    `explain(error, environ)` turns what is refused here, or fails, into (status, headers, body).
    """

    max_bytes = max_body_bytes(max_upload_bytes)

    def bounded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["app.request_id"] = request_id = messages.request_id(environ, trusted)
        _believe(environ, trusted)
        is_started = []

        def start(status: str, headers: list[messages.Header], exc_info: Any = None) -> Any:
            is_started.append(True)
            own = [name for name, _ in headers if name in SECURITY_NAMES]
            ours = [header for header in SECURITY_HEADERS if header[0] not in own] if own else SECURITY_HEADERS
            headers = [*headers, *ours, ("X-Request-Id", request_id)]
            if is_production and environ["wsgi.url_scheme"] == "https":
                headers.append(HSTS)
            return start_response(status, headers, exc_info)

        try:
            _check_request(environ, allowed_hosts, max_bytes)
            return application(environ, start)
        except Exception as error:
            if is_started:  # too late for another answer: the server must break the connection
                raise
            return messages.start(environ, start, explain(error, environ))

    return bounded


def max_body_bytes(max_upload_bytes: int) -> int:
    return max(messages.MAX_JSON_BYTES, max_upload_bytes) + messages.MULTIPART_BYTES


def compress(application: WSGIApplication) -> WSGIApplication:
    """Text of more than 1 KB leaves gzipped where the client takes it."""

    def compressed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD" or "gzip" not in environ.get("HTTP_ACCEPT_ENCODING", ""):
            return application(environ, start_response)
        held: list[Any] = []  # status and headers, once they are known
        is_late = False

        def hold(status: str, headers: list[messages.Header], exc_info: Any = None) -> Any:
            found = dict((name.lower(), value) for name, value in headers)
            if not is_late and exc_info is None and "content-encoding" not in found and TEXT.match(found.get("content-type", "")):
                held[:] = [status, headers]
                return None
            return start_response(status, headers, exc_info)

        body = application(environ, hold)
        if not held:
            is_late = True  # a generator calls start_response when its first piece is asked for
            return body
        status, headers = held
        if isinstance(body, list) and len(body) == 1 and len(body[0]) > GZIP_BYTES:
            body = [gzip.compress(body[0], GZIP_LEVEL, mtime=0)]
            headers = [*(_of_gzipped(header, len(body[0])) for header in headers), ("Content-Encoding", "gzip")]
        start_response(status, [*headers, ("Vary", "Accept-Encoding")])
        return body

    return compressed


def _of_gzipped(header: messages.Header, length: int) -> messages.Header:
    name, value = header
    if name == "Content-Length":
        return name, str(length)
    return (name, f"W/{value}") if name == "ETag" else header  # the same file, but not the same bytes


def check_same_site(application: WSGIApplication) -> WSGIApplication:
    """CSRF check: a browser's write must come from our own pages, or another site could use the visitor's cookie."""

    def checked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in messages.SAFE_METHODS and not _is_same_site(environ):
            error = messages.HTTPError(HTTPStatus.FORBIDDEN, "this request comes from another site")
            return messages.start(environ, start_response, messages.explain(error, environ))
        return application(environ, start_response)

    return checked


def provide(application: WSGIApplication, provided: dict[str, Any]) -> WSGIApplication:
    """Put what handlers need into environ: `provided` is {"app.<name>": value}."""

    def providing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.update(provided)
        return application(environ, start_response)

    return providing


def _believe(environ: WSGIEnvironment, trusted: Collection[str]) -> None:
    """Take the scheme from a trusted proxy; remove what anybody else claims, so that no inner layer believes it."""
    if messages.is_trusted(environ, trusted):
        proto = environ.get("HTTP_X_FORWARDED_PROTO", "").split(",")[0].strip().lower()
        if proto in ("http", "https"):
            environ["wsgi.url_scheme"] = proto
    else:
        for name in FORWARDED:
            if name in environ:
                del environ[name]
    if environ["wsgi.url_scheme"] == "https":
        environ["HTTP_X_FORWARDED_PROTO"] = "https"  # the one thing that the SDK's redirect looks at
    else:
        environ.pop("HTTP_X_FORWARDED_PROTO", None)


def _check_request(environ: WSGIEnvironment, allowed_hosts: Collection[str], max_bytes: int) -> None:
    host = environ.get("HTTP_HOST")
    if host is not None:
        found = HOST.fullmatch(host)
        if found is None:
            raise messages.HTTPError(HTTPStatus.BAD_REQUEST, "the Host header is malformed")
        if allowed_hosts and host.lower() not in allowed_hosts and found.group(1).lower() not in allowed_hosts:
            raise messages.HTTPError(HTTPStatus.BAD_REQUEST, "this host is not served here")
    elif allowed_hosts:
        raise messages.HTTPError(HTTPStatus.BAD_REQUEST, "the Host header is missing")
    if len(environ.get("PATH_INFO", "")) + len(environ.get("QUERY_STRING", "")) > MAX_PATH:
        raise messages.HTTPError(HTTPStatus.REQUEST_URI_TOO_LONG, f"the URL is longer than {MAX_PATH} bytes")
    messages.content_length(environ, max_bytes)


def _is_same_site(environ: WSGIEnvironment) -> bool:
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return site in ("same-origin", "none")
    origin = environ.get("HTTP_ORIGIN")
    if origin is None:
        return True
    scheme, _, host = origin.lower().partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme, "")
    return bool(default) and host.removesuffix(default) == environ.get("HTTP_HOST", "").lower().removesuffix(default)
