"""E-mail: reset and verification links, written to an outbox that the operator reads. Protocol section 5.7.

A message is a record of the kind `outbox`, or `outbox-done` once that is all. It is what `python -m leanstorage outbox` prints, `outbox --send COMMAND` hands on, and `serve --smtp`
sends by itself, see mailer.py. A link's token is random, good once and for a while, and kept only as a keyed hash.
"""
import heapq
import html
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.headerregistry import Address
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import EmailPolicy
from http import HTTPStatus
from itertools import groupby
from urllib.parse import urlsplit

from leanwsgi.leancloud_wire import VERIFIED_PREFIX
from leanstorage.engine import hooks
from leanstorage.resources import mail_texts, third_parties, users
from leanstorage.rules import attempts, classes, rendering
from leanstorage.rules.call import LOOPBACK_HOSTS, Answer, Call, limit_mails, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.passwords import token_lookup
from leanstorage.store import Document, now, Row, Store, Transaction
from leanstorage.rules.values import format_time


RESET_MS = 24 * 60 * 60 * 1000
VERIFY_MS = 7 * 24 * 60 * 60 * 1000
PAUSE_MS = 60 * 1000  # between two messages of one kind to one address
KEPT_MS = 30 * 24 * 60 * 60 * 1000
OUTBOX, DONE = "outbox", "outbox-done"  # kinds of records
PAGE = 200  # messages that are looked at together
MAX_TRIES, MAX_PAUSE_MS = 24, 4 * 60 * 60 * 1000  # some three days in all
POLICY = EmailPolicy()
UTF8_POLICY = EmailPolicy(utf8=True)  # headers in UTF-8, where an address is not ASCII


def request_password_reset(call: Call) -> Answer:
    """POST {email}: a link to the address. Raises 204, 205, 1 (too soon, or the link could lead anywhere)."""
    _send_link(call, "reset", "resetPassword", RESET_MS)
    return ok({})


def request_email_verify(call: Call) -> Answer:
    """POST {email}: a link that verifies it, where the option is on. Raises 1, 204, 205."""
    if not call.service.options.verify_emails:
        raise StorageError(Code.EMAIL_VERIFY_OFF)
    _send_link(call, "verify", "verifyEmail", VERIFY_MS)
    return ok({})


def verify_new_address(call: Call) -> None:
    """After a sign-up or an update that brought an address: send the link that verifies it, where the option is on.

    The write has happened: a mail that cannot be sent now can be asked for later.
    """
    email = call.body.get("email") if isinstance(call.body, dict) else None
    if call.service.options.verify_emails and isinstance(email, str) and email:
        try:
            _send_link(call.with_body({"email": email}), "verify", "verifyEmail", VERIFY_MS)
        except StorageError as error:
            if call.service.trouble.is_news(error.message):
                print(f"no verification mail: {error.message}", file=sys.stderr)


def verify_email(call: Call, token: str) -> Answer:
    """GET of a verification link: the address is verified, then the app's hook hears of it. Raises 211, 142."""
    lookup = token_lookup(call.service.token_secret, token)

    def work(transaction: Transaction) -> Document:
        row = _receiver(transaction, lookup, "verify")
        transaction.delete_record("link", lookup)
        row.body["emailVerified"] = True
        row.updated = max(now(), row.updated + 1)
        transaction.update("_User", row)
        own = call.to_engine._replace(caller=replace(call.caller, user_id=row.id))
        shown: Document = rendering.copied(rendering.document(own, "_User", row, rendering.shape_for(own, classes.existing(transaction, "_User"))))
        return shown

    user = call.service.store.write(work)
    hooks.user_hook(
        call, f"{VERIFIED_PREFIX}email", "/1.1/functions/onVerified/email", {"object": user}, Code.HOOK_REFUSED
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
    if not isinstance(password, str) or not password.strip() or len(password) > attempts.MAX_PASSWORD:
        raise StorageError(Code.NO_PASSWORD)
    lookup = token_lookup(call.service.token_secret, token)

    def take(transaction: Transaction) -> str:
        row = _receiver(transaction, lookup, "reset")
        transaction.delete_record("link", lookup)
        return row.id

    users.set_password(call, call.service.store.write(take), password)
    return ok({})


def outbox(store: Store) -> Iterator[Document]:
    """The messages of the last thirty days, oldest first: `{"id", "time", "to", "subject", "text"}`.

    One that was handed on has "sent", when that was; one that cannot be has "refused", why.
    """
    found = heapq.merge(_messages(store, OUTBOX), _messages(store, DONE), key=lambda one: one[0])
    for _, messages in groupby(found, key=lambda one: one[0]):  # one that is marked meanwhile may come twice
        key, message = next(messages)
        yield {"id": key, "time": format_time(_time_of(key)), **message}


def _messages(store: Store, kind: str) -> Iterator[tuple[str, Document]]:
    """The messages of a kind, some at a time: there may be very many."""
    after = ""
    while found := store.read(lambda transaction: transaction.record_page(kind, after, PAGE)):  # noqa: B023 it runs at once
        yield from found
        after = found[-1][0]


class Undeliverable(Exception):
    """A message that never can be sent; the text says why, and holds nothing secret."""


class Unreachable(Exception):
    """The mail server or command cannot be reached at all."""


def hand_on(store: Store, deliver: Callable[[bytes], bool]) -> tuple[int, int]:
    """Give each message that was not handed on yet to `deliver`, as an e-mail; return how many it took and how many not.

    Each message is marked first, so that two processes never send the same one. Messages that `deliver` did not take are
    tried again next time.
    """
    return hand_on_due(store, lambda data, to: deliver(data), 0)


def hand_on_due(store: Store, deliver: Callable[[bytes, str], bool], pause_ms: int) -> tuple[int, int]:
    """The same for `deliver(e-mail, address)`, which may raise Undeliverable, or Unreachable for the rest to wait.

    One that fails waits for `pause_ms`, twice as long each time, and is given up after MAX_TRIES; 0 is never.
    """
    sent = failed = 0
    for key, message in _messages(store, OUTBOX):
        if message.get("kind") == "sms" or _is_done(message):  # of an earlier version: they all lay here
            _move(store, key)
            continue
        if pause_ms and message.get("next", 0) > now():
            continue
        data = _as_email(message)
        mark = {"refused": "not an address"} if data is None else {"sent": format_time(now())}
        if not _mark(store, key, mark, is_first=True):
            continue
        if data is None:
            failed += 1
            continue
        try:
            is_sent, reason = deliver(data, message["to"]), None
        except Undeliverable as error:
            is_sent, reason = False, str(error)
        except Unreachable:
            _mark(store, key, {"tries": message.get("tries", 0)})
            raise
        if is_sent:
            sent += 1
            continue
        failed += 1
        _mark(store, key, {"refused": reason} if reason else _later(message, pause_ms))
    return sent, failed


def _later(message: Document, pause_ms: int) -> Document:
    """How a message is marked that was not taken."""
    tries = message.get("tries", 0) + 1
    if not pause_ms:
        return {}
    if tries >= MAX_TRIES:
        return {"refused": f"not taken {tries} times"}
    return {"tries": tries, "next": now() + min(pause_ms << tries, MAX_PAUSE_MS)}


_PAGE_HEADERS = [
    ("Content-Security-Policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]


def _time_of(key: str) -> int:
    """When a message was written, in ms."""
    return int(key.split("-")[0])


def _as_email(message: Document) -> bytes | None:
    """A message as RFC 5322 has it, None for what is no single address: `a@b,c` would be two."""
    name, _, domain = message["to"].rpartition("@")
    if not users.EMAIL.fullmatch(message["to"]) or any(char in ',;:<>()[]"\\' for char in domain):  # `a@b,c` would be two
        return None
    found = EmailMessage(POLICY if message["to"].isascii() else UTF8_POLICY)
    try:
        found["To"] = Address(username=name, domain=domain)
        found["Subject"] = message["subject"]
        found.set_content(message["text"], cte="7bit" if message["text"].isascii() else "quoted-printable")
        data = bytes(found)
    except (ValueError, IndexError, UnicodeError, MessageError):  # what the email package cannot take
        return None
    head = data.split(b"\n\n", 1)[0]
    names = [line.split(b":", 1)[0].lower() for line in head.split(b"\n") if line and not line.startswith((b" ", b"\t"))]
    return data if sorted(names) == sorted(name.lower().encode() for name in found.keys()) else None


def _is_done(message: Document) -> bool:
    return "sent" in message or "refused" in message


def _mark(store: Store, key: str, mark: Document, is_first: bool = False) -> bool:
    """Mark a message with what has become of it, and with nothing else; return whether that changed anything.

    The `is_first` mark is refused where somebody else was faster. One that is done is moved: whoever sends looks at the
    others only.
    """
    source, target = OUTBOX if is_first else DONE, DONE if _is_done(mark) else OUTBOX

    def work(transaction: Transaction) -> bool:
        message = transaction.record(source, key, lock=True)
        if message is None or is_first and _is_done(message):
            return False
        kept = {name: message[name] for name in ("to", "subject", "text")}
        if source != target:
            transaction.delete_record(source, key)
        transaction.put_record(target, key, {**kept, **mark}, _time_of(key) + KEPT_MS)
        return True

    return store.write(work)


def _move(store: Store, key: str) -> None:
    """Move a message to those that are done, as it is."""

    def work(transaction: Transaction) -> None:
        message = transaction.record(OUTBOX, key, lock=True)
        if message is not None:
            transaction.delete_record(OUTBOX, key)
            transaction.put_record(DONE, key, message, _time_of(key) + KEPT_MS)

    store.write(work)


def _receiver(transaction: Transaction, lookup: str, kind: str) -> Row:
    """The user that a link was sent to; raise 211 when there is no such link, or it is good no more.

    A link is void once the address or password has changed.
    """
    link = transaction.record("link", lookup, lock=True) or {}
    row: Row | None = transaction.get("_User", link["user"], lock=True) if link.get("kind") == kind else None
    if row is None or row.body.get("email") != link["email"]:
        raise StorageError(Code.NO_USER)
    if kind == "reset" and link.get("made", 0) < users.password_time(transaction, row.id):
        raise StorageError(Code.NO_USER)
    return row


def _send_link(call: Call, kind: str, path: str, lifetime: int) -> None:
    """Put a link into the outbox that is good for `lifetime` ms. Raises 1, 204, 205, 429."""
    email = call.json_body().get("email")
    if not isinstance(email, str) or not email:
        raise StorageError(Code.NO_EMAIL)
    limit_mails(call)  # a user who keeps changing its address could have mail sent to the whole world
    token = secrets.token_urlsafe(32)
    url = f"{_origin(call)}/1.1/{path}/{token}"

    def work(transaction: Transaction) -> None:
        found = transaction.record("unique:_User:email", third_parties.unique_key(email))
        if found is None:
            raise StorageError(Code.UNKNOWN_EMAIL)
        ms = now()
        if not transaction.add_record("mailed", f"{kind}:{third_parties.unique_key(email)}", {}, ms + PAUSE_MS):
            raise StorageError(Code.TOO_MANY_EMAILS)
        link = {"kind": kind, "user": found["id"], "email": email, "made": ms}
        transaction.put_record("link", token_lookup(call.service.token_secret, token), link, ms + lifetime)
        subject, text = (call.service.options.mail_texts or mail_texts.ENGLISH)[kind]
        message = {"to": email, "subject": subject, "text": text.replace("{link}", html.unescape(url))}
        transaction.put_record(OUTBOX, f"{ms:014d}-{secrets.token_hex(4)}", message, ms + KEPT_MS)

    call.service.store.write(work)
    if call.service.wake_mailer is not None:
        call.service.wake_mailer()


def _origin(call: Call) -> str:
    """The origin of links; raise 1 if only the Host header would tell.

    An attacker could choose the Host header, and would receive the token of whoever clicks. On loopback there is no
    attacker to send it to.
    """
    if call.service.options.public_url or urlsplit(call.api_url).hostname in LOOPBACK_HOSTS:
        return call.api_url
    raise StorageError(Code.NO_PUBLIC_URL)
