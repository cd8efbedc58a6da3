"""E-mail: reset and verification links, written to an outbox that the operator reads. Protocol section 5.7.

There is no mail server in this process: a message is a record, which `python -m leanstorage outbox` prints and which
`--smtp` would send. A link's token is random, good once and for a while, and kept only as a keyed hash.
"""
import html
import secrets
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from leanstorage import documents, hooks, users
from leanstorage.calls import Answer, Call, ok
from leanstorage.errors import Code, StorageError
from leanstorage.passwords import token_lookup
from leanstorage.store import Document, Row, Store, now

if TYPE_CHECKING:
    from leanstorage.store.sql import Transaction

RESET_MS = 24 * 60 * 60 * 1000
VERIFY_MS = 7 * 24 * 60 * 60 * 1000
PAUSE_MS = 60 * 1000  # between two messages to one address
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
KEPT_MS = 30 * 24 * 60 * 60 * 1000


def request_password_reset(call: Call) -> Answer:
    """POST {email}: a link to the address. Raises 204, 205, 1 (too soon, or the link could lead anywhere)."""
    _send_link(call, "reset", "resetPassword", RESET_MS, "Reset your password")
    return ok({})


def request_email_verify(call: Call) -> Answer:
    """POST {email}: a link that verifies it, where the option is on. Raises 1, 204, 205."""
    if not call.service.options.verify_emails:
        raise StorageError(Code.EMAIL_VERIFY_OFF)
    _send_link(call, "verify", "verifyEmail", VERIFY_MS, "Verify your email address")
    return ok({})


def verify_email(call: Call, token: str) -> Answer:
    """GET of a verification link: the address is verified, then the app's hook hears of it. Raises 211, 142."""
    lookup = token_lookup(call.service.token_secret, token)

    def work(transaction: "Transaction") -> Document:
        row = _receiver(transaction, lookup, "verify")
        transaction.delete_record("link", lookup)
        row.body["emailVerified"] = True
        row.updated = max(now(), row.updated + 1)
        transaction.update("_User", row)
        own = replace(call, caller=replace(call.caller, user_id=row.id))
        shown: Document = documents.copied(documents.document(own, "_User", row))
        return shown

    user = call.service.store.write(work)
    hooks.user_hook(
        call, "__on_verified_email", "/1.1/functions/onVerified/email", {"object": user}, Code.HOOK_REFUSED
    )
    return ok({})


def reset_form(call: Call, token: str) -> Answer:
    """GET of a reset link: a small page with one field. The token stays good until the form is sent. Raises 211."""
    lookup = token_lookup(call.service.token_secret, token)
    call.service.store.read(lambda transaction: _receiver(transaction, lookup, "reset"))
    page = (
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>Reset your password</title><form method=post>"
        "<label>New password <input name=password type=password required autocomplete=new-password></label> "
        "<button>Set password</button></form>"
    )
    return HTTPStatus.OK, [("Content-Type", "text/html; charset=utf-8"), *_PAGE_HEADERS], page


def reset_password(call: Call, token: str) -> Answer:
    """POST of a reset link, `password` as JSON or from the form: sets it and ends the old session. Raises 201, 211."""
    body = call.json_body()
    password = body.get("password")
    if not isinstance(password, str) or not password.strip() or len(password) > users.MAX_PASSWORD:
        raise StorageError(Code.NO_PASSWORD)
    lookup = token_lookup(call.service.token_secret, token)

    def take(transaction: "Transaction") -> str:
        row = _receiver(transaction, lookup, "reset")
        transaction.delete_record("link", lookup)
        return row.id

    users.set_password(call, call.service.store.write(take), password)
    return ok({})


def outbox(store: Store) -> list[tuple[str, Document]]:
    """[(when and to whom, message)] of the messages of the last thirty days, oldest first."""
    return store.read(lambda transaction: transaction.records("outbox"))


_PAGE_HEADERS = [
    ("Content-Security-Policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]


def _receiver(transaction: "Transaction", lookup: str, kind: str) -> Row:
    """The user that a link was sent to; raise 211 when there is no such link, or it is good no more.

    Who has another address or another password by now is not to be had with the mail in an old mailbox.
    """
    link = transaction.record("link", lookup, lock=True) or {}
    row: Row | None = transaction.get("_User", link["user"], lock=True) if link.get("kind") == kind else None
    if row is None or row.body.get("email") != link["email"]:
        raise StorageError(Code.NO_USER)
    if kind == "reset" and link.get("made", 0) < users.password_time(transaction, row.id):
        raise StorageError(Code.NO_USER)
    return row


def _send_link(call: Call, kind: str, path: str, lifetime: int, subject: str) -> None:
    """Put a link into the outbox that is good for `lifetime` ms. Raises 1, 204, 205."""
    email = call.json_body().get("email")
    if not isinstance(email, str) or not email:
        raise StorageError(Code.NO_EMAIL)
    token = secrets.token_urlsafe(32)
    url = f"{_origin(call)}/1.1/{path}/{token}"

    def work(transaction: "Transaction") -> None:
        found = transaction.record("unique:_User:email", users.unique_key(email))
        if found is None:
            raise StorageError(Code.UNKNOWN_EMAIL)
        ms = now()
        if not transaction.add_record("mailed", users.unique_key(email), {"kind": kind}, ms + PAUSE_MS):
            raise StorageError(Code.TOO_MANY_EMAILS)
        link = {"kind": kind, "user": found["id"], "email": email, "made": ms}
        transaction.put_record("link", token_lookup(call.service.token_secret, token), link, ms + lifetime)
        message = {"to": email, "subject": subject, "text": f"{subject}: {html.unescape(url)}"}
        transaction.put_record("outbox", f"{ms:014d}-{secrets.token_hex(4)}", message, ms + KEPT_MS)

    call.service.store.write(work)


def _origin(call: Call) -> str:
    """Where links lead to; raise 1 when only the request says so.

    Whoever asks chooses the Host header, and would be sent the token of whoever clicks. On loopback there is nobody
    else to send it to.
    """
    if call.service.options.public_url or urlsplit(call.api_url).hostname in LOOPBACK_HOSTS:
        return call.api_url
    raise StorageError(Code.NO_PUBLIC_URL)
