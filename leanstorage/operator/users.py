"""`leanstorage users`: what an operator does for one user, as the holder of the master key, without the app's hooks.

Nothing secret is printed: no session token, no hash, and only the provider of third-party accounts.
"""
from leanstorage.resources import sessions, users
from leanstorage.resources.third_parties import identity_of, unique_key
from leanstorage.rules import attempts
from leanstorage.rules.call import Call, Caller, Service
from leanstorage.rules.values import format_time
from leanstorage.store import Document, Query, Row, Transaction, now
from leanstorage.store.records import LAST

LISTED = ("username", "email", "mobilePhoneNumber")  # by which a user is found


def find(service: Service, text: str, limit: int) -> list[Document]:
    """The users whose name, e-mail address or phone number begins with `text`, or whose id it is; the newest for ""."""

    def work(transaction: Transaction) -> list[Row]:
        if not text:
            return transaction.find(Query("_User", order=((("createdAt",), True),), limit=limit))
        ids: dict[str, None] = {text: None}
        for field in LISTED:
            kind = f"unique:_User:{field}"
            exact = transaction.record(kind, text)
            more = transaction.record_page(kind, text, limit, before=text + LAST)
            ids.update((value["id"], None) for value in [*([exact] if exact else []), *(value for _, value in more)])
        found = transaction.get_many("_User", ids)
        return [found[user_id] for user_id in ids if user_id in found][:limit]

    return [_short(row) for row in service.store.read(work)]


def show(service: Service, user: str) -> Document:
    """All that is known of a user but secrets: fields, accounts, roles, whether there is a password, a session, a lock."""

    def work(transaction: Transaction) -> Document:
        row = _found(transaction, user)
        credential = transaction.record("credential", row.id) or {}
        password, failures = credential.get("password"), transaction.record("failures", row.id)
        fields = {key: value for key, value in row.body.items() if key not in ("authData", *users.NEVER_WRITTEN)}
        accounts = {provider: identity_of(data) for provider, data in (row.body.get("authData") or {}).items()}
        return {
            **_short(row),
            **fields,
            "updatedAt": format_time(row.updated),
            "ACL": row.acl,
            "accounts": accounts,
            "roles": sorted(transaction.role_names(row.id)),
            "password": password["scheme"] if password else None,
            "passwordChangedAt": format_time(credential["changed"]) if credential.get("changed") else None,
            "isLoggedIn": bool(credential.get("token")),
            "isLocked": bool(failures and failures["count"] > attempts.MAX_FAILURES),
        }

    return service.store.read(work)


def set_password(service: Service, user: str, password: str) -> str:
    """Give a user a new password, end its sessions and its lock; return its id. Raises StorageError for a bad one."""
    users.check_new_password(password)
    user_id = _id(service, user)
    users.set_password(_call(service), user_id, password)
    return user_id


def sign_out(service: Service, user: str) -> str:
    """End a user's sessions; return its id."""

    def work(transaction: Transaction) -> str:
        row = _found(transaction, user)
        credential = transaction.record("credential", row.id, lock=True) or {}
        sessions.drop(transaction, service, credential)
        if credential.pop("token", None) is not None:
            transaction.put_record("credential", row.id, credential)
        return row.id

    return service.store.write(work)


def verify(service: Service, user: str, field: str) -> str:
    """Note that a user's `email` or `mobilePhoneNumber` is verified; return its id. Raises ValueError without one."""
    flag = dict(zip(("email", "mobilePhoneNumber"), users.FLAGS, strict=True))[field]

    def work(transaction: Transaction) -> str:
        row = _found(transaction, user, lock=True)
        if not row.body.get(field):
            raise ValueError(f"the user {user!r} has no {field}")
        row.body[flag] = True
        row.updated = max(now(), row.updated + 1)
        transaction.update("_User", row)
        return row.id

    return service.store.write(work)


def delete(service: Service, user: str) -> str:
    """Delete a user with all that lets it in; return the id that it had. What it made stays."""
    user_id = _id(service, user)
    users.delete(_call(service), user_id)
    return user_id


def _short(row: Row) -> Document:
    value: Document = {"objectId": row.id, "createdAt": format_time(row.created)}
    value |= {key: row.body.get(key) for key in LISTED}
    return value | {key: bool(row.body.get(key)) for key in users.FLAGS}


def _found(transaction: Transaction, user: str, lock: bool = False) -> Row:
    """The row of a user by its id, name, e-mail address or phone number; raise ValueError."""
    row = transaction.get("_User", user, lock)
    for field in LISTED:
        if row is None:
            named = transaction.record(f"unique:_User:{field}", unique_key(user))
            row = transaction.get("_User", named["id"], lock) if named else None
    if row is None:
        raise ValueError(f"there is no user with the id, name, e-mail address or phone number {user!r}")
    return row


def _id(service: Service, user: str) -> str:
    return service.store.read(lambda transaction: _found(transaction, user).id)


def _call(service: Service) -> Call:
    return Call(service, Caller(is_master=True), "POST", {}, {}, "")
