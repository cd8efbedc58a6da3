"""The guards around the SDK: one small WSGI middleware each, composed by wsgi.py from the outside in.

Each says what it guards against; docs/security.md has the table with the test of every one.
"""
import base64
import gzip
import hashlib
import hmac
import random
import re
import time
from collections.abc import Collection, Iterable, Iterator
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import leancloud
from leancloud.engine import CookieSessionMiddleware
from werkzeug.http import dump_cookie, parse_cookie

from leanwsgi import messages

COOKIE = "leancloud:session"
EXCLUDED_PATHS = ("/static/",)
MAX_PATH = 8192  # bytes
HOST = re.compile(r"([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
SAFE_METHODS = frozenset(["GET", "HEAD", "OPTIONS"])
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
    """No SDK user on this thread before a request or after its body is closed.

    The SDK keeps the current user per thread and never forgets it, so that the next visitor on the thread would be
    that user, and would even be sent the cookie.
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
) -> WSGIApplication:
    """The outer wall: whose forwarding headers are believed, Host, sizes, request id, security headers, last 500."""

    max_bytes = max(messages.MAX_JSON_BYTES, max_upload_bytes) + messages.MULTIPART_BYTES

    def bounded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["app.request_id"] = request_id = f"{random.getrandbits(64):016x}"  # tells requests apart, keeps no secret
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
            return messages.send(environ, start, messages.explain(error, environ))

    return bounded


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


def redirect_to_https(application: WSGIApplication) -> WSGIApplication:
    """The SDK's HttpsRedirectMiddleware, whose redirects are put right.

    It adds a `?` to every URL, answers 302 to a POST, which then arrives as a GET, and raises on a query that is not
    UTF-8. The Host was checked before.
    """

    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["app.is_inside"] = True
        return application(environ, start_response)

    redirecting: WSGIApplication = leancloud.HttpsRedirectMiddleware(inner)

    def redirected(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[messages.Header], exc_info: Any = None) -> Any:
            if environ.get("app.is_inside") or not status.startswith("302"):
                return start_response(status, headers, exc_info)
            code = "302 Found" if environ["REQUEST_METHOD"] in SAFE_METHODS else "308 Permanent Redirect"
            kept = [header for header in headers if header[0].lower() not in ("location", "cache-control")]
            return start_response(code, [*kept, ("Location", _https_url(environ)), messages.PRIVATE], exc_info)

        messages.path(environ)  # the SDK would raise where these two answer 400
        messages.check_query(environ)
        return redirecting(environ, start)

    return redirected


def keep_session(application: WSGIApplication, secret: str, max_age: int) -> WSGIApplication:
    """The SDK's CookieSessionMiddleware with a cookie of ours around its own.

    The SDK's cookie has no flags and no signed age, raises when it is malformed, is sent again with every answer, the
    cacheable ones too, and is taken away on excluded paths. Ours is `<seconds>.<signature>.<the SDK's, in base64>`:
    only what we signed and what is young enough reaches the SDK, and it is sent only when it changed or grows old, on
    answers that no cache may keep. So the middleware's two halves are called only when there is something for them to
    do: otherwise they would be half of what a whole request takes.

    The SDK is shown no other cookie: its parser reads names otherwise than we do (`name =x`, `"name"=x`), so any other
    could be its session to it, and it takes seconds for one that is full of blanks. Handlers find the header as it
    came in `environ["app.cookies"]`.
    """
    session = CookieSessionMiddleware(
        application,
        secret=secret,
        name=COOKIE,
        excluded_paths=EXCLUDED_PATHS,
        fetch_user=False,
        expires=None,
        max_age=max_age,
    )
    key = hashlib.sha256(b"session cookie:" + secret.encode()).digest()
    renewal = min(max_age // 2, 24 * 3600)  # seconds after which a cookie in use is issued anew

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_excluded = environ.get("PATH_INFO", "").startswith(EXCLUDED_PATHS)
        environ["app.cookies"] = header = environ.get("HTTP_COOKIE", "")
        environ["HTTP_COOKIE"] = ""
        sent = _sent_cookie(header)
        issued, opened = _open_cookie(key, sent, max_age)
        if opened and not is_excluded:
            environ["HTTP_COOKIE"] = _pair(opened)
            session.pre_process(environ)
        before = _logged_in()

        def start(status: str, headers: list[messages.Header], exc_info: Any = None) -> Any:
            is_private = any(name.lower() == "cache-control" and "no-store" in value for name, value in headers)
            if is_private and not is_excluded:
                after = _logged_in()
                if after is None:
                    if sent is not None:  # dead, malformed or logged out
                        headers.append(("Set-Cookie", _cookie(environ, "", 0)))
                elif after != before or time.time() - issued > renewal:
                    given: list[messages.Header] = []
                    session.post_process(environ, given)
                    value = parse_cookie(given[-1][1])[COOKIE]
                    headers.append(("Set-Cookie", _cookie(environ, _seal_cookie(key, value), max_age)))
            return start_response(status, headers, exc_info)

        return application(environ, start)

    return guarded


def _logged_in() -> tuple[str, str] | None:
    """(user id, session token) of this thread's user, or None."""
    user = leancloud.User.get_current()
    return (user.id, user.get_session_token()) if user else None


def check_same_site(application: WSGIApplication) -> WSGIApplication:
    """Writes come from our own pages, or from clients that are no browsers: others' pages could ride on the cookie."""

    def checked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in SAFE_METHODS and not _is_same_site(environ):
            error = messages.HTTPError(HTTPStatus.FORBIDDEN, "this request comes from another site")
            return messages.send(environ, start_response, messages.explain(error, environ))
        return application(environ, start_response)

    return checked


def provide(application: WSGIApplication, provided: dict[str, Any]) -> WSGIApplication:
    """Put what handlers need into environ: `provided` is {"app.<name>": value}."""

    def providing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.update(provided)
        return application(environ, start_response)

    return providing


def _believe(environ: WSGIEnvironment, trusted: Collection[str]) -> None:
    """Take the scheme from a trusted proxy; drop what others claim, so that nothing further in can believe it."""
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


def _https_url(environ: WSGIEnvironment) -> str:
    host = environ.get("HTTP_HOST") or environ["SERVER_NAME"]
    path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), safe="/:@!$&'()*+,;=~-._")
    if not path.startswith("/") or path.startswith("//"):
        path = "/" + path.lstrip("/")  # `//host` would be another host
    query = quote(environ.get("QUERY_STRING", "").encode("latin-1"), safe="/?:@!$&'()*+,;=~-._%")
    return f"https://{host.removesuffix(':80')}{path}" + (f"?{query}" if query else "")


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


@lru_cache(maxsize=1000)
def _pair(inner: str) -> str:
    """The SDK's cookie as a browser would send it; quoting takes werkzeug as long as many a whole request."""
    return str(dump_cookie(COOKIE, inner)).split(";", 1)[0]


def _sent_cookie(header: str) -> str | None:
    """Our cookie's value, "" when it is there twice: somebody planted one, so neither counts."""
    found = [value for name, _, value in (part.partition("=") for part in header.split(";")) if name.strip() == COOKIE]
    if len(found) > 1:
        return ""
    return found[0].strip().strip('"') if found else None


def _sign(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _seal_cookie(key: bytes, inner: str) -> str:
    text = f"{int(time.time())}.{base64.urlsafe_b64encode(inner.encode()).decode()}"
    issued, data = text.split(".")
    return f"{issued}.{_sign(key, text)}.{data}"


def _open_cookie(key: bytes, value: str | None, max_age: int) -> tuple[int, str | None]:
    """(seconds of issue, the SDK's cookie) of a cookie that we signed and that is not too old, else (0, None)."""
    if not value:
        return 0, None
    found = re.fullmatch(r"([0-9]{1,12})\.([0-9a-f]{64})\.([A-Za-z0-9_=-]{1,4096})", value)
    if found is None:
        return 0, None
    issued, signature, data = found.groups()
    age = time.time() - int(issued)
    if not hmac.compare_digest(signature, _sign(key, f"{issued}.{data}")) or not -60 <= age < max_age:
        return 0, None
    return int(issued), base64.urlsafe_b64decode(data).decode()


def _cookie(environ: WSGIEnvironment, value: str, max_age: int) -> str:
    secure = "; Secure" if environ["wsgi.url_scheme"] == "https" else ""
    expires = formatdate(time.time() + max_age if max_age else 0, usegmt=True)
    return f"{COOKIE}={value}; Path=/; Max-Age={max_age}; Expires={expires}; HttpOnly; SameSite=Lax{secure}"
