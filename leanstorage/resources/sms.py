"""What SMS codes are for: log-in and sign-up by phone, verified numbers, new passwords and numbers.

The SDKs' calls, with LeanCloud's codes: 127, 206, 211 to 215, 429, 601 to 606. How codes are kept is in sms_codes.py.
"""
from dataclasses import replace

from leanwsgi.leancloud_wire import VERIFIED_PREFIX
from leanstorage.engine import hooks
from leanstorage.resources import login as logins
from leanstorage.resources import mail, names, objects, sms_codes, users
from leanstorage.rules import classes, passwords, phones, rendering, write
from leanstorage.rules.call import Answer, Call, created, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.values import format_time
from leanstorage.store import Document, Json, now, Row, Transaction

VERIFIED = "mobilePhoneVerified"


def request_code(call: Call) -> Answer:
    """POST /requestSmsCode {mobilePhoneNumber}: a code for verifySmsCode or usersByMobilePhone."""
    phone = _number(call)
    sms_codes.count_request(call)
    sms_codes.issue(call, "sms", phone)
    return ok({})


def verify_code(call: Call, code: str) -> Answer:
    """POST /verifySmsCode/CODE: whether it is right, which can be asked once."""
    sms_codes.take(call, "sms", _number_sent(call), code)
    return ok({})


def request_login(call: Call) -> Answer:
    """POST /requestLoginSmsCode: for users whose number is verified. Raises 213, 215."""
    return _send_to_user(call, "login", needs_verified=True)


def request_reset(call: Call) -> Answer:
    """POST /requestPasswordResetBySmsCode, likewise."""
    return _send_to_user(call, "reset", needs_verified=True)


def request_verify(call: Call) -> Answer:
    """POST /requestMobilePhoneVerify: nothing is sent where the number is verified already. Raises 213."""
    return _send_to_user(call, "verify", needs_verified=False)


def request_change(call: Call) -> Answer:
    """POST /requestChangePhoneNumber, by a user: a code to the new number. Raises 206, 214."""
    phone, user_id = _number(call), call.caller.user_id
    if user_id is None:
        raise StorageError(Code.NO_SESSION)
    sms_codes.count_request(call)
    if _owner(call, phone) not in (None, user_id):
        raise StorageError(Code.PHONE_TAKEN)
    sms_codes.issue(call, "change", phone, user_id)
    return ok({})


def change_phone(call: Call) -> Answer:
    """POST /changePhoneNumber {mobilePhoneNumber, code}: the number of the user who asked for the code, and verified."""
    phone = _number(call)
    user_id = sms_codes.take(call, "change", phone, call.json_body().get("code"))["user"]
    if call.caller.user_id not in (None, user_id):
        raise StorageError(Code.WRONG_SMS_CODE)
    own = call._replace(caller=replace(call.caller, user_id=user_id))
    row, _, _ = objects.store_change(own, "_User", user_id, {phones.FIELD: phone}, _proven(users.rules(own)))
    return ok({"updatedAt": format_time(row.updated), "objectId": user_id})


def verify_phone(call: Call, code: str) -> Answer:
    """POST /verifyMobilePhone/CODE: the number is verified, then the app's hook hears of it."""
    phone = _number_sent(call) or _number_of(call)
    record = sms_codes.take(call, "verify", phone, code)

    def work(transaction: Transaction) -> tuple[Row, Document]:
        row = _receiver(transaction, record)
        _mark_verified(transaction, row)
        own = call.to_engine._replace(caller=replace(call.caller, user_id=row.id))
        return row, rendering.copied(rendering.document(own, "_User", row, rendering.shape_for(own, classes.existing(transaction, "_User"))))

    row, user = call.service.store.write(work)
    hooks.user_hook(call, f"{VERIFIED_PREFIX}sms", "/1.1/functions/onVerified/sms", {"object": user}, Code.HOOK_REFUSED)
    return ok({"updatedAt": format_time(row.updated), "objectId": row.id})


def reset_password(call: Call, code: str) -> Answer:
    """PUT /resetPasswordBySmsCode/CODE {password}: sets it and ends the old session. Raises 201, 218."""
    password = users.check_new_password(call.json_body().get("password"))
    record = sms_codes.take(call, "reset", _number_sent(call), code)
    user_id = call.service.store.read(lambda transaction: _receiver(transaction, record).id)
    users.set_password(call, user_id, password)
    return ok({})


def login(call: Call) -> Answer:
    """POST /login {mobilePhoneNumber, smsCode}: the whole user and its session token."""
    record = sms_codes.take(call, "login", _number(call), call.json_body().get("smsCode"))
    user_id = call.service.store.read(lambda transaction: _receiver(transaction, record).id)
    return logins.let_in(call, user_id)


def login_by_url(call: Call) -> Answer:
    """GET /login?smsCode=..., as the PHP SDK sends it: a code in an access log is already used up, unlike a password."""
    if "smsCode" not in call.query:
        raise StorageError(Code.UNSUPPORTED_METHOD, feature="A password in the URL")
    return login(call.with_body({"mobilePhoneNumber": _number_sent(call), "smsCode": call.query["smsCode"]}))


def sign_up_or_log_in(call: Call) -> Answer:
    """POST /usersByMobilePhone {mobilePhoneNumber, smsCode}: 201 with a new user, or 200 with the one of the number.

    A new user's name is its number unless it brings a `username`; it has a password only if it brings one.
    """
    call = users.of_nobody(call)
    phone, code = _number(call), call.json_body().get("smsCode")
    user_id = _owner(call, phone)
    if user_id is None:
        return _sign_up(call, phone, code)
    record = sms_codes.take(call, "sms", phone, code)

    def work(transaction: Transaction) -> None:
        row = _receiver(transaction, {**record, "user": user_id})  # whose number may be another one by now, and not proven
        if not row.body.get(VERIFIED):
            _mark_verified(transaction, row)

    call.service.store.write(work)
    return logins.let_in(call, user_id)


def _sign_up(call: Call, phone: str, code: Json) -> Answer:
    sent = {key: value for key, value in call.json_body().items() if key not in ("smsCode", "authData")}
    fields, password = users.taken_apart(call, write.clean({**sent, phones.FIELD: phone}, creating=True))
    if password is not None:
        users.check_new_password(password)
    if not fields.get("username"):
        taken = call.service.store.read(lambda transaction: names.owner(transaction, "username", phone))
        fields["username"] = phone if taken is None else passwords.new_token()
    rules = users.new_rules(call, fields, password)
    sms_codes.take(call, "sms", phone, code)  # once nothing is wrong any more with the rest
    row, token = objects.store_new(call, "_User", fields, _proven(rules))
    mail.verify_new_address(call)
    return created("_User", row.id, users.new_user(call, row, token))


def _mark_verified(transaction: Transaction, row: Row) -> None:
    """Ignores the user's ACL: this is not the user's own write, and must not prevent a log-in."""
    row.body[VERIFIED] = True
    row.updated = max(now(), row.updated + 1)
    transaction.update("_User", row)


def _proven(rules: objects.Rules) -> objects.Rules:
    """The rules of a write that also notes that the number is verified, which no client may say."""

    def admit(transaction: Transaction, call: Call, row: Row | None, fields: Json) -> Json:
        return {**rules.admit(transaction, call, row, fields), VERIFIED: True}

    return replace(rules, admit=admit)


def _send_to_user(call: Call, purpose: str, needs_verified: bool) -> Answer:
    phone = _number(call)
    sms_codes.count_request(call)

    def look(transaction: Transaction) -> tuple[str | None, bool]:
        user_id = names.owner(transaction, phones.FIELD, phone)
        row = transaction.get("_User", user_id) if user_id else None
        return (None, False) if row is None else (row.id, bool(row.body.get(VERIFIED)))

    user_id, is_verified = call.service.store.read(look)
    if user_id is None:
        raise StorageError(Code.UNKNOWN_PHONE)
    if needs_verified and not is_verified:
        raise StorageError(Code.PHONE_UNVERIFIED)
    if needs_verified or not is_verified:
        sms_codes.issue(call, purpose, phone, user_id)
    return ok({})


def _owner(call: Call, phone: str) -> str | None:
    return call.service.store.read(lambda transaction: names.owner(transaction, phones.FIELD, phone))


def _receiver(transaction: Transaction, record: Document) -> Row:
    """The user that a code was sent to; raise 603 for one who has another number by now."""
    row = transaction.get("_User", record["user"], lock=True)
    number = row.body.get(phones.FIELD) if row else None
    if row is None or not isinstance(number, str) or phones.international(phones.compact(number)) != record["phone"]:
        raise StorageError(Code.WRONG_SMS_CODE)
    return row


def _number(call: Call) -> str:
    """The number in the body; raise 127, 212."""
    return phones.checked(call.json_body().get(phones.FIELD))


def _number_sent(call: Call) -> str | None:
    """The number in the body or in the URL, where the PHP SDK lets its `+` become a blank; None without one."""
    number = call.json_body().get(phones.FIELD)
    if number is None:
        number = call.query.get(phones.FIELD)
        number = "+" + number.strip() if isinstance(number, str) and number.startswith(" ") else number
    return None if number is None else phones.checked(number)


def _number_of(call: Call) -> str | None:
    """The number of the user whose session this is, or None."""
    user_id = call.caller.user_id
    row = call.service.store.read(lambda transaction: transaction.get("_User", user_id)) if user_id else None
    number = row.body.get(phones.FIELD) if row else None
    return phones.compact(number) if isinstance(number, str) and number else None
