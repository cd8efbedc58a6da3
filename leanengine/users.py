"""Who is logged in: what the session's cookie claims, confirmed by storage and cached for a while.

With `fetch_user=False` the SDK never asks whether a session is still alive, so every handler that needs a user asks here.
Handlers pass their `environ`, which holds the cache under `app.cache`.
"""
import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from wsgiref.types import WSGIEnvironment

import leancloud
from leancloud import client

from leanengine.cache import Cache
from leanengine.sdk import asking_storage
from leanwsgi.messages import address_block, HTTPError
from leanwsgi.shares import LOOPBACK

User = dict[str, str]  # {"id", "username"}

ENDED = "endedLogins"  # a column of users: which of their log-ins were ended, see session.py
END = re.compile("[0-9]{1,12}-[0-9a-f]{16}")
MAX_ENDED = 100  # of one user
SESSION_SECONDS = 60  # how long a session is believed without asking storage
THROTTLE_SECONDS = 15 * 60
WRONG_PER_ACCOUNT = 5  # wrong passwords per account and address that reach storage, which locks at its seventh
WRONG_PER_ADDRESS = 50
SIGN_UP_SECONDS, SIGN_UPS = 3600, 50  # new accounts of one address


def sign_up(username: str, password: str) -> User:
    """A new account, logged in; HTTPError 409 for a taken name."""
    user = leancloud.User()
    with asking_storage():
        user.sign_up(username, password)
        _check_whole(user)
    return {"id": user.id, "username": username}


def log_in(username: str, password: str) -> User:
    """The account, logged in; HTTPError 401, with the same text for a wrong password and an unknown name."""
    user = leancloud.User()
    try:
        with asking_storage():
            user.login(username, password)
            _check_whole(user)
    except HTTPError as error:
        if error.code in (210, 211):
            raise HTTPError(HTTPStatus.UNAUTHORIZED, "the username or the password is wrong") from None
        raise
    return {"id": user.id, "username": user.get("username")}


def log_out(environ: WSGIEnvironment) -> None:
    """End this log-in, and no other of the user's; also fine without one. The cookie goes with the user.

    A copy of the cookie must be dead as well, so storage notes the log-in's end; HTTPError when it cannot.
    """
    user = leancloud.User.get_current()
    if user is None:
        return
    try:
        with asking_storage():
            _note_end(user.get_session_token(), environ["app.login"], environ["app.settings"].session_max_age)
    except HTTPError as error:
        if error.code != 211:  # a dead session has ended
            raise
    finally:
        environ["app.cache"].drop(session_key(user.get_session_token()))
        leancloud.User.set_current(None)


def _note_end(token: str, login: str, max_age: int) -> None:
    """Note the end of a log-in with its user; forget those whose cookies are too old by now."""
    user = leancloud.User.become(token)
    path, ended = f"/users/{user.id}", _ended(user)
    if len(ended) >= MAX_ENDED:
        user.refresh_session_token()  # ends all of them
        client.put(path, {ENDED: {"__op": "Delete"}})
        return
    now = int(time.time())
    old = [name for name in ended if not now - max_age < int(name.partition("-")[0]) <= now + max_age]
    client.put(path, {ENDED: {"__op": "AddUnique", "objects": [f"{now}-{login.partition('-')[2]}"]}})
    if old:
        client.put(path, {ENDED: {"__op": "Remove", "objects": old}})


def _ended(user: leancloud.User | dict[str, Any]) -> list[str]:
    """The ends of a user's log-ins, each `<seconds>-<the log-in's random part>`."""
    found = user.get(ENDED)
    return [name for name in found if isinstance(name, str) and END.fullmatch(name)] if isinstance(found, list) else []


def session_user(environ: WSGIEnvironment) -> User | None:
    """The user of the session, or None. The cookie alone proves nothing: its token may be dead, or its log-in ended."""
    user = leancloud.User.get_current()
    if user is None:
        return None
    known = environ["app.cache"].get(session_key(user.get_session_token()))
    return living(environ, known) if known else ask_user(environ, user)


def needs_user(environ: WSGIEnvironment, is_sure: bool = False) -> User:
    """The user of the session, or HTTPError 401 or 409, see `expected`. `is_sure` asks storage, however lately it was asked."""
    session = leancloud.User.get_current()
    return expected(environ, ask_user(environ, session) if is_sure and session else session_user(environ))


def expected(environ: WSGIEnvironment, user: User | None) -> User:
    """The session's user, or HTTPError: 401 for nobody, 409 if the request is meant for another user.

    All tabs of a browser share one session. A tab that still shows the last user must not write to the next user's list,
    so the page names its user in X-User.
    """
    if user is None:
        raise nobody()
    if environ.get("HTTP_X_USER", user["id"]) != user["id"]:
        raise HTTPError(HTTPStatus.CONFLICT, "another user is logged in")
    return user


def ask_user(environ: WSGIEnvironment, session: leancloud.User) -> User | None:
    """Ask storage whose session this is: its user, cached for SESSION_SECONDS, or None, which logs the visitor out."""
    token = session.get_session_token()
    try:
        with asking_storage():
            # User.become would make an object of the answer, which takes longer than the rest. The SDK sends the token.
            found = client.get("/users/me").json()
            if not (found["objectId"] and found["sessionToken"] and found["username"]):
                raise ValueError("the answer is no user")
    except HTTPError as error:
        if error.code != 211:
            raise
        leancloud.User.set_current(None)
        return None
    known = {"id": found["objectId"], "username": found["username"], "ended": [name.partition("-")[2] for name in _ended(found)]}
    environ["app.cache"].put(session_key(token), known, SESSION_SECONDS)
    return living(environ, known)


def living(environ: WSGIEnvironment, known: dict[str, Any]) -> User | None:
    """The user of a cached session, which all of the user's devices share; None if this device has logged out."""
    if environ["app.login"].partition("-")[2] in known["ended"]:
        leancloud.User.set_current(None)
        return None
    environ["app.session_lives"] = True
    return {"id": known["id"], "username": known["username"]}


def nobody() -> HTTPError:
    return HTTPError(HTTPStatus.UNAUTHORIZED, "log in first")


def session_key(token: str) -> str:
    """The cache's key for what is known of a session."""
    return f"session:{digest(token)}"


def digest(text: str) -> str:
    """A text as part of a cache key: short, and no secret."""
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def limiting_guesses(cache: Cache, username: str, address: str) -> Iterator[None]:
    """Around a log-in: HTTPError 429 with Retry-After for too many wrong passwords.

    Counted before storage is asked, so that guesses made at the same time count as well, and given back unless the
    password was wrong.
    """
    block = address_block(address)
    counters = {
        f"login:{digest(username)}:{block}": WRONG_PER_ACCOUNT,
        f"login:{block}": WRONG_PER_ADDRESS,
    }
    for key, limit in counters.items():
        counted = cache.count(key, THROTTLE_SECONDS)
        if counted is not None and counted[0] > limit:
            raise HTTPError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many wrong passwords, try again later",
                headers=[("Retry-After", str(counted[1]))],
            )
    try:
        yield
    except HTTPError as error:
        if error.status is HTTPStatus.UNAUTHORIZED:
            raise
        for key in counters:  # storage is lost: nobody guessed
            cache.uncount(key)
        raise
    for key in counters:
        cache.uncount(key)


def limit_sign_ups(cache: Cache, address: str) -> None:
    """Count a new account; HTTPError 429 with Retry-After for an address that makes too many. This machine may."""
    if address in LOOPBACK:
        return
    counted = cache.count(f"sign-up:{address_block(address)}", SIGN_UP_SECONDS)
    if counted is not None and counted[0] > SIGN_UPS:
        raise HTTPError(
            HTTPStatus.TOO_MANY_REQUESTS, "too many new accounts, try again later", headers=[("Retry-After", str(counted[1]))]
        )


def _check_whole(user: leancloud.User) -> None:
    """Raise ValueError, with nobody logged in, if storage's answer made a user without id or session."""
    if not (user.id and user.get_session_token() and user.get("username")):
        leancloud.User.set_current(None)
        raise ValueError("the answer is no user")
