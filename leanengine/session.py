"""The guard around the SDK's CookieSessionMiddleware: one cookie, signed, aged, and never given to anybody else."""
import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import leancloud
from leancloud.engine import CookieSessionMiddleware
from werkzeug.http import dump_cookie, parse_cookie

from leanwsgi import messages

RENEWAL_SECONDS = 24 * 3600  # a cookie in use is issued anew after this, or after half of its life


def guard_session(session: CookieSessionMiddleware) -> WSGIApplication:
    """The SDK's session middleware with a cookie of ours around its own; every option is the middleware's.

    The SDK's cookie has no flags and an unsigned age. The SDK raises on a malformed one, sends it with every response,
    cacheable ones included, and clears it on excluded paths. Ours is `<seconds>.<log-in>.<signature>.<the SDK's, in
    base64>`: the SDK sees only what we signed and what is young enough. We send the cookie when it changed, or when it
    grows old and a handler has confirmed the session, and only with responses that no cache may keep. The two halves of
    the SDK's middleware run only when needed: they would take half of a request's time.

    The SDK is shown no other cookie: its parser reads names differently (`name =x`, `"name"=x`), so another cookie could
    pass for its session, and it takes seconds for one that is full of blanks. Handlers find the header as it came in
    `environ["app.cookies"]`.

    The log-in's name, `<seconds>-<random>`, survives all renewals. Handlers find it in `environ["app.login"]` and end it
    at log-out, which also ends every copy of the cookie. The session token cannot do that: all devices share it.
    Handlers set `environ["app.session_lives"]` once they have confirmed the session.
    """
    application: WSGIApplication = session.app
    name, max_age, excluded = session.name, session.max_age, tuple(session.excluded_paths)
    key = hashlib.sha256(b"session cookie:" + session.secret.encode()).digest()
    renewal = min(max_age // 2, RENEWAL_SECONDS)

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_excluded = environ.get("PATH_INFO", "").startswith(excluded)
        environ["app.cookies"] = header = environ.get("HTTP_COOKIE", "")
        environ["HTTP_COOKIE"] = ""
        sent = _sent_cookie(name, header)
        issued, login, opened = _open_cookie(key, sent, max_age)
        environ["app.login"] = login
        if opened and not is_excluded:
            environ["HTTP_COOKIE"] = _pair(name, opened)
            session.pre_process(environ)
        before = _logged_in()

        def start(status: str, headers: list[messages.Header], exc_info: Any = None) -> Any:
            if not is_excluded and _is_private(headers):
                after = _logged_in()
                if after is None:
                    if sent is not None:  # dead, malformed or logged out
                        headers.append(("Set-Cookie", _cookie(environ, name, "", 0)))
                elif after != before or (time.time() - issued > renewal and environ.get("app.session_lives")):
                    given: list[messages.Header] = []
                    session.post_process(environ, given)
                    value = parse_cookie(given[-1][1])[name]
                    kept = login if before and before[0] == after[0] else _new_login()
                    headers.append(("Set-Cookie", _cookie(environ, name, _seal_cookie(key, kept, value), max_age)))
            return start_response(status, headers, exc_info)

        return application(environ, start)

    return guarded


def _is_private(headers: list[messages.Header]) -> bool:
    """Whether no cache may keep an answer."""
    return messages.PRIVATE in headers or any(key.lower() == "cache-control" and "no-store" in value for key, value in headers)


def _logged_in() -> tuple[str, str] | None:
    """(user id, session token) of this thread's user, or None."""
    user = leancloud.User.get_current()
    return (user.id, user.get_session_token()) if user else None


@lru_cache(maxsize=1000)
def _pair(name: str, inner: str) -> str:
    """The SDK's cookie as a browser would send it. Cached: werkzeug's quoting costs as much as a request."""
    return str(dump_cookie(name, inner)).split(";", 1)[0]


def _sent_cookie(name: str, header: str) -> str | None:
    """Our cookie's value, "" if it is there twice: somebody planted one, so neither counts."""
    if name not in header:
        return None
    found = [value for key, _, value in (part.partition("=") for part in header.split(";")) if key.strip() == name]
    if len(found) > 1:
        return ""
    return found[0].strip().strip('"') if found else None


def _sign(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _new_login() -> str:
    return f"{int(time.time())}-{secrets.token_hex(8)}"


def _seal_cookie(key: bytes, login: str, inner: str) -> str:
    issued, data = int(time.time()), base64.urlsafe_b64encode(inner.encode()).decode()
    return f"{issued}.{login}.{_sign(key, f'{issued}.{login}.{data}')}.{data}"


def _open_cookie(key: bytes, value: str | None, max_age: int) -> tuple[int, str, str | None]:
    """(seconds of issue, log-in, the SDK's cookie) of one that we signed and that is not too old, else (0, "", None)."""
    if not value:
        return 0, "", None
    found = re.fullmatch(r"([0-9]{1,12})\.([0-9]{1,12}-[0-9a-f]{16})\.([0-9a-f]{64})\.([A-Za-z0-9_=-]{1,4096})", value)
    if found is None:
        return 0, "", None
    issued, login, signature, data = found.groups()
    age = time.time() - int(issued)
    if not hmac.compare_digest(signature, _sign(key, f"{issued}.{login}.{data}")) or not -60 <= age < max_age:
        return 0, "", None
    return int(issued), login, base64.urlsafe_b64decode(data).decode()


def _cookie(environ: WSGIEnvironment, name: str, value: str, max_age: int) -> str:
    secure = "; Secure" if environ["wsgi.url_scheme"] == "https" else ""
    expires = formatdate(time.time() + max_age if max_age else 0, usegmt=True)
    return f"{name}={value}; Path=/; Max-Age={max_age}; Expires={expires}; HttpOnly; SameSite=Lax{secure}"
