"""Passwords and sessions when an export brings users who are here already.

A password or a token that an import stored is marked `is_imported`; whatever a user does here (log in with an old hash,
change the password, end the sessions) puts another one in its place, without the mark. `imported` in the record says as
of when they are: the `updatedAt` of the row that brought them, which every change of a password moves. So a newer export
replaces what was not touched here, and an older one nothing.
"""

from collections.abc import Iterable

from leanstorage.rules import passwords, phones
from leanstorage.store import Condition, Document, Query, Row, Store, Transaction
from leanstorage.takeout.convert import Entry


FILLED = "users who were here already and got their old password or session"
REPLACED = "users whose password or session had changed there: those of this export were taken"
KEPT = "users who keep the password or session that they have here: which one is newer cannot be told"
MISSING = "users have no password here: the API shows none, an export has them (import it before or after)"
MISSING_THIRD_PARTY = "users with a third-party account have no password here: if they had one, an export has it"
COLLIDING = "users whose phone number another user has too, with or without +86: each logs in with its own spelling"
PAGE_ROWS = 1000


def renew(transaction: Transaction, entries: Iterable[Entry], secret: bytes) -> list[str]:
    """Give existing users the newer credentials of the `entries`; return notes to count.

    `secret` is that of session tokens.
    """
    notes: list[str] = []
    brought = {row[0]: extra for _, row, extra in entries if extra and extra["records"]}
    known = transaction.records_of("credential", list(brought))
    lookups = {key for extra in brought.values() for kind, key, _ in extra["unique"] if kind == "session"}
    used = transaction.records_of("session", list(lookups))
    for user_id, extra in brought.items():
        [(_, _, new)] = extra["records"]
        lookup = next((key for kind, key, _ in extra["unique"] if kind == "session"), "")
        owner = used.get(lookup, {}).get("user")
        if owner is not None:  # it is this user's already, or never will be
            new = {key: value for key, value in new.items() if key != "token"}
        current = known.get(user_id, {})
        result, note = _decided(current, new, owner == user_id)
        if result != current:
            current = transaction.record("credential", user_id, lock=True) or {}
            ended = _session(transaction, current, secret)
            is_sealed = "token" in current and ended is None
            if is_sealed:  # sealed with other keys: forgetting to set them must not end everybody's sessions
                new = {key: value for key, value in new.items() if key != "token"}
            result, note = _decided(current, new, is_sealed or owner == user_id)
            if result != current and _store(transaction, user_id, current, result, ended, lookup):
                used[lookup] = {"user": user_id}
        if note:
            notes.append(note)
    return notes


def _decided(current: Document, new: Document, is_session_same: bool) -> tuple[Document, str | None]:
    """(the credential that a user should have, what to tell of it)."""
    result, note = dict(current), None
    since, at = current.get("imported"), new["imported"]
    for name in ("password", "token"):
        if name not in new or note == KEPT:  # who keeps the password keeps the session
            continue
        old = current.get(name)
        if old is None:
            result[name], note = new[name], note or FILLED
        elif _plain(old) == _plain(new[name]) or (name == "token" and not old.get("is_imported")):
            continue
        elif since is not None and at > since and old.get("is_imported"):
            result[name], note = new[name], REPLACED
        elif since is None or at > since or (at == since and old.get("is_imported")):
            note = KEPT
    if "token" not in new and not is_session_same and _is_other(current, result) and _is_imported(current, "token"):
        del result["token"]  # the change of the password ended that session there
    if result != current:
        result["imported"] = at if since is None else max(at, since)
    return result, note


def _is_other(current: Document, result: Document) -> bool:
    return "password" in current and current["password"] != result["password"]


def _is_imported(credential: Document, name: str) -> bool:
    return bool(credential.get(name, {}).get("is_imported"))


def _plain(record: Document) -> Document:
    return {key: value for key, value in record.items() if key != "is_imported"}


def _session(transaction: Transaction, credential: Document, secret: bytes) -> str | None:
    """The key of the session record of a credential, None where there is none."""
    if "token" not in credential:
        return None
    try:
        lookup = passwords.token_lookup(secret, passwords.open_token(secret, credential["token"]))
    except ValueError:
        return None
    return None if transaction.record("session", lookup) is None else lookup


def _store(
    transaction: Transaction, user_id: str, current: Document, result: Document, ended: str | None, lookup: str
) -> bool:
    """Store a credential, end the session that it replaces and begin its own; return whether it has a new one."""
    is_new = "token" in result and result["token"] != current.get("token")
    if ended is not None and result.get("token") != current["token"]:
        transaction.delete_record("session", ended)
    transaction.put_record("credential", user_id, result)
    if is_new:
        transaction.put_record("session", lookup, {"user": user_id})
    return is_new


def missing(store: Store) -> list[tuple[str, int]]:
    """Notes with how many users here have no password."""
    found = {MISSING: 0, MISSING_THIRD_PARTY: 0}
    after = ""

    def page(transaction: Transaction) -> tuple[list[Row], dict[str, Document]]:
        where = Condition("gt", ("objectId",), after)
        rows = transaction.find(Query("_User", where, order=((("objectId",), False),), limit=PAGE_ROWS))
        return rows, transaction.records_of("credential", [row.id for row in rows])

    while True:
        rows, known = store.read(page)
        for row in rows:
            if not known.get(row.id, {}).get("password"):
                data = row.body.get("authData")
                found[MISSING_THIRD_PARTY if isinstance(data, dict) and any(data.values()) else MISSING] += 1
        if len(rows) < PAGE_ROWS:
            return [(text, count) for text, count in found.items() if count]
        after = rows[-1].id


def colliding(store: Store) -> list[tuple[str, int]]:
    """A note with how many users here share a phone with another, where one wrote +86 and the other did not."""

    def work(transaction: Transaction) -> int:
        kind = f"unique:_User:{phones.FIELD}"
        numbers = [key.removeprefix(phones.CHINA) for key, _ in transaction.records(kind, phones.CHINA)]
        pages = (numbers[at : at + PAGE_ROWS] for at in range(0, len(numbers), PAGE_ROWS))
        return sum(len(transaction.records_of(kind, page)) for page in pages)

    count = store.read(work)
    return [(COLLIDING, count)] if count else []
