"""Users: sign-up, sessions, passwords, third-party accounts. Protocol section 5. Log-in is in login.py.

Passwords never enter an object: they are taken out of the fields before anything else sees them, hashed while no
transaction is open, and kept as records of their own.
"""
import re
import secrets
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from leanstorage.resources import names, objects, sessions
from leanstorage.resources.third_parties import checked_auth, find_identity, identities, is_auth, union_of, union_provider, unique_key
from leanstorage.rules import attempts, classes, passwords, phones, rendering, values, write
from leanstorage.rules.call import Answer, Call, Service, created, limit_sign_ups, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Json, now, Row, Transaction
from leanstorage.rules.values import format_time

# No `=?`: it begins an encoded word, which a mail program would decode, into header lines for one.
EMAIL = re.compile(r"(?!.*=\?)[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,255}")
FLAGS = ("emailVerified", "mobilePhoneVerified")
NEVER_WRITTEN = ("password", "sessionToken", "salt")


def sign_up(call: Call) -> Answer:
    """POST of a user: 201 with the whole user and its session token; a known third-party account is a login, 200.

    Raises 125, 127, 200, 201, 202, 203, 208, 214, 217, 218, 250, 251.
    """
    call = of_nobody(call)
    fields, password = taken_apart(call, write.clean(call.json_body(), creating=True))
    if is_auth(fields.get("authData")):
        return _sign_in_with(call, fields, password)
    return _create(call, *_checked_new(call, fields, password))


def of_nobody(call: Call) -> Call:
    """The call without its session: an old one means nothing to a sign-up."""
    return call._replace(caller=replace(call.caller, user_id=None, token=None))


def prepared_sign_up(call: Call) -> tuple[Document, objects.Rules]:
    """(fields, rules) of a new user with a name and a password, hashed and checked. Raises what `sign_up` raises."""
    fields, password = taken_apart(call, write.clean(call.json_body(), creating=True))
    auth_data = checked_auth(call, fields["authData"]) if is_auth(fields.get("authData")) else None
    fields, own_rules = _checked_new(call, fields, password)
    return (fields if auth_data is None else {**fields, "authData": auth_data}), own_rules


def _checked_new(call: Call, fields: Document, password: Json) -> tuple[Document, objects.Rules]:
    fields.pop("authData", None)
    _check_name(fields.get("username"))
    check_new_password(password)
    return fields, new_rules(call, fields, password)


def me(call: Call) -> Answer:
    """GET /users/me: the user of the session; raise 211. A token in the query beats the header, as `become` needs."""
    token = call.query.get("session_token") or call.caller.token

    def work(transaction: Transaction) -> Document:
        user_id = sessions.user_of(transaction, call.service, token)
        row = transaction.get("_User", user_id) if user_id else None
        if row is None:
            raise StorageError(Code.NO_USER)
        own = call._replace(caller=replace(call.caller, user_id=user_id))
        return {**_shown(transaction, own, row), "sessionToken": token}

    return ok(call.service.store.read(work))


def update(call: Call, user_id: str) -> Answer:
    """PUT of a user, by itself or the master; with a new password also the new session token."""
    fields, own_rules, is_new_password = prepared_update(call, user_id)
    inner = call.with_body({**fields, **write.hook_fields(call.body)})
    status, headers, value = objects.update(inner, "_User", user_id, own_rules)
    if is_new_password and call.service.options.rotate_token_on_password:
        value["sessionToken"] = call.service.store.write(
            lambda transaction: sessions.current(transaction, call.service, user_id)
        )
    return status, headers, value


def prepared_update(call: Call, user_id: str) -> tuple[Document, objects.Rules, bool]:
    """(fields, rules, whether there was a password that this one replaces) of a user's update, hashed and checked."""
    fields, password = taken_apart(call, write.clean(call.json_body(), creating=False))
    hashed = None
    if password is not None:
        check_new_password(password)
    if password is not None or is_auth(fields.get("authData")):
        stored = call.service.store.read(lambda transaction: _check_writable(transaction, call, user_id))
    if password is not None:
        hashed = _hashed(call, password)
    if is_auth(fields.get("authData")):
        fields["authData"] = checked_auth(call, fields["authData"], stored)
    return fields, rules(call, hashed), bool(hashed and _has_password(call, user_id))


def delete(call: Call, user_id: str) -> Answer:
    return objects.delete(call, "_User", user_id, rules(call))


def update_password(call: Call, object_id: str) -> Answer:
    """PUT /users/ID/updatePassword: the old password has to be right; the session token changes.

    Raises 201, 206, 210, 211, 218, 219, 403.
    """
    body = call.json_body()
    new = body.get("new_password")
    if not isinstance(new, str) or not new:
        raise StorageError(Code.NO_PASSWORD)
    check_new_password(new)

    def look(transaction: Transaction) -> Document | None:
        _own(transaction, call, object_id)
        attempts.refuse_locked(transaction, object_id)
        return (transaction.record("credential", object_id) or {}).get("password")

    record = call.service.store.read(look)
    if not call.caller.is_master:
        old = body.get("old_password")
        with call.service.hashing:
            is_right = isinstance(old, str) and len(old) <= attempts.MAX_PASSWORD and passwords.verify(record, old)
        if not is_right:
            call.service.store.write(lambda transaction: attempts.count_failure(transaction, object_id))
            raise StorageError(Code.WRONG_PASSWORD)
    return ok(set_password(call, object_id, new))


def set_password(call: Call, user_id: str, password: str) -> Document:
    """Store a new password and end the old session; return `updatedAt`, `objectId`, `sessionToken`. Raises 211."""
    hashed = _hashed(call, password)

    def work(transaction: Transaction) -> Document:
        row = transaction.get("_User", user_id, lock=True)
        if row is None:
            raise StorageError(Code.NO_USER)
        row.updated = max(now(), row.updated + 1)
        transaction.update("_User", row)
        _put_password(transaction, user_id, hashed)
        transaction.delete_record("failures", user_id)
        token = sessions.replace(transaction, call.service, user_id)
        return {"updatedAt": format_time(row.updated), "objectId": user_id, "sessionToken": token}

    return call.service.store.write(work)


def refresh_token(call: Call, object_id: str) -> Answer:
    """PUT /users/ID/refreshSessionToken, by the user itself or the master. Raises 206, 211, 403."""

    def work(transaction: Transaction) -> Document:
        row = _own(transaction, call, object_id, lock=True)
        row.updated = max(now(), row.updated + 1)
        transaction.update("_User", row)
        token = sessions.replace(transaction, call.service, object_id)
        return {"updatedAt": format_time(row.updated), "objectId": object_id, "sessionToken": token}

    return ok(call.service.store.write(work))


def rules(call: Call, hashed: Document | None = None) -> objects.Rules:
    """What a write to `_User` adds to that of any class; `hashed` is the record of a new password."""
    return objects.Rules(
        admit=partial(_admit, hashed is not None),
        store=partial(_store, hashed),
        forget=partial(_forget, call.service),
    )


def whole_user(transaction: Transaction, call: Call, user_id: str) -> Document:
    """The user as itself sees it, with its session token; raise 211."""
    row = transaction.get("_User", user_id)
    if row is None:
        raise StorageError(Code.NO_USER)
    own = call._replace(caller=replace(call.caller, user_id=user_id))
    return {**_shown(transaction, own, row), "sessionToken": sessions.current(transaction, call.service, user_id)}


def password_time(transaction: Transaction, user_id: str) -> int:
    """When the password was set here last, in ms; 0 for never."""
    changed: int = (transaction.record("credential", user_id) or {}).get("changed", 0)
    return changed


def taken_apart(call: Call, fields: Document) -> tuple[Document, Json]:
    """The fields without what is never stored as a field; and the password, None when there is none."""
    password = fields.get("password")
    for key in fields:
        if "." in key and key.split(".")[0] in NEVER_WRITTEN:
            raise StorageError(Code.BAD_KEY, key=key)
    for key in NEVER_WRITTEN:
        fields.pop(key, None)
    if not call.caller.is_master:
        for key in FLAGS:
            fields.pop(key, None)
    return fields, password


def _check_name(name: Json) -> None:
    if not isinstance(name, str) or not name:
        raise StorageError(Code.NO_USERNAME)
    if not name.strip():
        raise StorageError(Code.BLANK_USERNAME)


def check_new_password(password: Json) -> str:
    if not isinstance(password, str) or not password:
        raise StorageError(Code.NO_PASSWORD)
    if not password.strip():
        raise StorageError(Code.BLANK_PASSWORD)
    if len(password) > attempts.MAX_PASSWORD:
        raise StorageError(Code.BAD_REQUEST, detail=f"The password is longer than {attempts.MAX_PASSWORD} characters.")
    return password


def _hashed(call: Call, password: str) -> Document:
    with call.service.hashing:
        return passwords.hash_password(password)


def new_rules(call: Call, fields: Document, password: str | None) -> objects.Rules:
    limit_sign_ups(call)
    if isinstance(fields.get("username"), str):
        # Cheap check first: no hashing for a taken name. The claim in the transaction decides.
        if call.service.store.read(lambda transaction: names.owner(transaction, "username", fields["username"])):
            raise StorageError(Code.USERNAME_TAKEN)
    return rules(call, _hashed(call, password) if password is not None else None)


def _create(call: Call, fields: Document, own_rules: objects.Rules) -> Answer:
    row, token = objects.store_new(call, "_User", fields, own_rules)
    return created("_User", row.id, new_user(call, row, token))


def new_user(call: Call, row: Row, token: str) -> Document:
    """What a sign-up answers: the whole user, with its session token."""
    own = call._replace(caller=replace(call.caller, user_id=row.id))
    value = call.service.store.read(lambda transaction: _shown(transaction, own, row))
    return {**value, "sessionToken": token}


def _shown(transaction: Transaction, call: Call, row: Row) -> Document:
    [value] = rendering.render(transaction, call, "_User", classes.existing(transaction, "_User"), [row], None)
    return value


def hook_user(transaction: Transaction, call: Call, user_id: str) -> Document:
    row = transaction.get("_User", user_id)
    if row is None:  # deleted a moment ago
        raise StorageError(Code.NO_USER)
    own = call.to_engine._replace(caller=replace(call.caller, user_id=user_id))
    user: Document = rendering.copied(_shown(transaction, own, row))
    return user


def _own(transaction: Transaction, call: Call, user_id: str, lock: bool = False) -> Row:
    """The row, if the caller is this user or the master; raise 206 without a session, 403 with another's, 211.

    A user that the caller may not see counts as missing.
    """
    row = transaction.get("_User", user_id, lock)
    if row is None or not _is_seen(transaction, call, row):
        raise StorageError(Code.NO_USER)
    _check_own(call, user_id)
    return row


def _check_own(call: Call, user_id: str) -> None:
    if not call.caller.is_master and call.caller.user_id is None:
        raise StorageError(Code.NO_SESSION)
    if not call.caller.is_master and call.caller.user_id != user_id:
        raise StorageError(Code.OTHER_USER)


def _is_seen(transaction: Transaction, call: Call, row: Row) -> bool:
    if call.caller.is_master or call.caller.user_id == row.id:
        return True
    return objects.is_readable(transaction, "_User", row, call.principals(transaction))


def _check_writable(transaction: Transaction, call: Call, user_id: str) -> Json:
    """Checked before hashing and hooks, so that strangers cannot cause that work; the write checks again.

    Returns the user's authData.
    """
    row = transaction.get("_User", values.check_object_id(user_id))
    if row is None or not _is_seen(transaction, call, row):
        raise StorageError(Code.NO_OBJECT, id=user_id, class_name="_User")
    _check_own(call, user_id)
    return row.body.get("authData")


def _admit(
    has_password: bool, transaction: Transaction, call: Call, row: Row | None, fields: Document | None
) -> Document | None:
    if row is not None:
        if not _is_seen(transaction, call, row):
            raise StorageError(Code.NO_OBJECT, id=row.id, class_name="_User")
        _check_own(call, row.id)
    if fields is None:
        return None
    # Once more: a before hook may have named them.
    fields = {key: value for key, value in fields.items() if key.split(".")[0] not in NEVER_WRITTEN}
    if not call.caller.is_master:
        for key in FLAGS:
            fields.pop(key, None)
    _merge_auth(row, fields, has_password)
    if "username" in fields and fields["username"] in (None, ""):
        raise StorageError(Code.NO_USERNAME)
    if isinstance(fields.get("username"), str) and not fields["username"].strip():
        raise StorageError(Code.BLANK_USERNAME)
    email, phone = fields.get("email"), fields.get("mobilePhoneNumber")
    if isinstance(email, str) and email and not EMAIL.fullmatch(email):
        raise StorageError(Code.BAD_EMAIL)
    if isinstance(phone, str) and phone:
        fields["mobilePhoneNumber"] = phones.checked(phone)
    for key, flag in zip(("email", "mobilePhoneNumber"), FLAGS):
        if row is not None and key in fields and fields[key] != row.body.get(key):
            fields.setdefault(flag, False)  # but for the master's own word
    return fields


def _merge_auth(row: Row | None, fields: Document, has_password: bool) -> None:
    """Turn every way of writing authData into the whole new value, which is what gets stored."""
    old = dict((row.body.get("authData") if row else None) or {})
    merged = dict(old)
    if "authData" in fields:
        value = fields.pop("authData")
        if value is None or (isinstance(value, dict) and value.get("__op") == "Delete"):
            merged = {}
        elif not isinstance(value, dict) or "__op" in value:
            raise StorageError(Code.BAD_JSON, detail="authData must be an object")
        else:
            merged.update(value)
    for key in [key for key in fields if key.startswith("authData.")]:
        value, provider = fields.pop(key), key.split(".", 1)[1]
        if "." in provider or not (isinstance(value, dict) and value.get("__op") == "Delete"):
            raise StorageError(Code.BAD_KEY, key=key)
        merged[provider] = None
    merged = {provider: data for provider, data in merged.items() if data}
    if "anonymous" in merged:
        named = has_password and (fields.get("username") or (row and row.body.get("username")))
        if any(provider != "anonymous" for provider in merged) or (named and "username" in fields):
            del merged["anonymous"]
    if merged != old or (row is not None and merged == {} and old):
        fields["authData"] = merged


def _store(
    hashed: Document | None, transaction: Transaction, call: Call, old: Row | None, new: Row, fields: Document
) -> str | None:
    """Keep what lies outside of a user's object: unique values, accounts, password, token. Returns a new token."""
    before = old.body if old else {}
    if new.body.get("username") is None and (old is None or before.get("username") is not None):
        raise StorageError(Code.REQUIRED_FIELD, key="username")  # an operation took it away
    for field, code in names.UNIQUE.items():
        was, value = before.get(field), new.body.get(field)
        if was == value:
            continue
        if was:
            names.release(transaction, field, was)
        if value and not names.claim(transaction, field, value, new.id):
            raise StorageError(code)
    stored = before.get("authData")
    had = identities(stored, stored)
    has = identities(new.body.get("authData"), stored)
    for provider, identity in had - has:
        transaction.delete_record(f"auth:{provider}", unique_key(identity))
    for provider, identity in has - had:
        if not transaction.add_record(f"auth:{provider}", unique_key(identity), {"id": new.id}):
            raise StorageError(Code.ACCOUNT_LINKED)
    token = None
    if old is None:
        token = sessions.replace(transaction, call.service, new.id)
    if hashed is not None:
        had_password = bool((transaction.record("credential", new.id) or {}).get("password"))
        _put_password(transaction, new.id, hashed)
        transaction.delete_record("failures", new.id)
        # An anonymous user's first password leaves its sessions alone.
        if had_password and call.service.options.rotate_token_on_password:
            token = sessions.replace(transaction, call.service, new.id)
    return token


def _forget(service: Service, transaction: Transaction, row: Row) -> None:
    """A deleted user's names and accounts are free again, and its session is dead at once."""
    for field in names.UNIQUE:
        if row.body.get(field):
            names.release(transaction, field, row.body[field])
    stored = row.body.get("authData")
    for provider, identity in identities(stored, stored):
        transaction.delete_record(f"auth:{provider}", unique_key(identity))
    sessions.forget(transaction, service, row.id)


def _put_password(transaction: Transaction, user_id: str, hashed: Document) -> None:
    credential = transaction.record("credential", user_id, lock=True) or {}
    transaction.put_record("credential", user_id, {**credential, "password": hashed, "changed": now()})


def _has_password(call: Call, user_id: str) -> bool:
    credential = call.service.store.read(lambda transaction: transaction.record("credential", user_id))
    return bool((credential or {}).get("password"))


def _sign_in_with(call: Call, fields: Document, password: Json) -> Answer:
    auth_data = {provider: data for provider, data in checked_auth(call, fields["authData"]).items() if data}
    wanted = identities(auth_data)

    def look(transaction: Transaction) -> str | None:
        for provider, data in auth_data.items():
            union = union_of(provider, data)
            if union and data.get("main_account") not in (True, "true"):  # Java and Swift leave a false one out
                main = find_identity(transaction, union_provider(union), union[1])
                if main:
                    return main
        owners = {find_identity(transaction, *identity) for identity in wanted} - {None}
        if len(owners) > 1:
            raise StorageError(Code.ACCOUNT_LINKED)
        return owners.pop() if owners else None

    user_id = call.service.store.read(look)
    if user_id is None:
        if call.flag("failOnNotExist"):
            raise StorageError(Code.NO_USER)
        fields = {**fields, "authData": auth_data}
        if not fields.get("username"):
            fields["username"] = "".join(secrets.choice(passwords.TOKEN_ALPHABET) for _ in range(25))
        if password is not None:
            check_new_password(password)
        return _create(call, fields, new_rules(call, fields, password))
    # A login: the provider's data is refreshed as the user itself would, with its update hooks.
    own = call._replace(caller=replace(call.caller, user_id=user_id))
    objects.store_change(own, "_User", user_id, {"authData": auth_data}, rules(own))
    return HTTPStatus.OK, (), call.service.store.write(lambda transaction: whole_user(transaction, own, user_id))
