"""SMS codes: six digits, good once, for ten minutes, for one purpose and phone. How many are sent and guessed is bounded.

Records: `sms` by purpose and phone (`hash`, `until`, `failures`, `user`), `sms-at` by a hash of purpose, address and code
(`phone`) for SDKs that send no number along, `sms-count` by phone, address or for the whole day. A code is kept
as a hash keyed by the master key: a plain hash of six digits is broken at once.
"""
import hmac
import re
import secrets

from leanstorage.rules import attempts, passwords, phones
from leanstorage.rules.call import Call
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Json, now, Transaction

CODE = re.compile("[0-9]{6}")
MINUTES = 10  # that a code is good for, at most
PAUSE_MS = 60 * 1000  # between two messages to one phone
DAY_MS = 24 * 60 * 60 * 1000
MAX_PER_PHONE = 10  # messages a day, as on LeanCloud
MAX_GUESSES = 5  # wrong ones of one code
MAX_BLIND = 30  # wrong ones a day and address without a number: each tries all codes that the address asked for
MAX_VARIABLES, MAX_VARIABLE = 10, 35  # and characters of one
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,30}")
OPTIONS = ("mobilePhoneNumber", "smsType", "ttl", "template", "sign", "validate_token")


def count_request(call: Call) -> None:
    """Count a request for a message, successful or not: attackers also use them to probe numbers. Raises 601."""
    caller, sender = call.caller, call.service.sms
    if sender is None or caller.has_hook_key or caller.is_master or not caller.address:
        return
    limit = sender.max_per_address
    call.service.store.write(lambda transaction: _count(transaction, f"address:{caller.block}", limit, Code.SMS_TOO_OFTEN))


def issue(call: Call, purpose: str, phone: str, user_id: str | None = None) -> None:
    """Send a new code to a phone; the one before is void. Raises 154, 601, 602, 604, 605, 606."""
    sender = call.service.sms
    if sender is None:
        raise StorageError(Code.UNSUPPORTED_SMS, feature="SMS")
    phone = phones.international(phone)
    message = _message(call, purpose, phone)
    ms = now()
    until = ms + message["minutes"] * 60 * 1000
    key = f"{purpose}:{phone}"

    def work(transaction: Transaction) -> str:
        _count(transaction, f"phone:{phone}", MAX_PER_PHONE, Code.SMS_TOO_OFTEN, PAUSE_MS)
        _count(transaction, "day", sender.max_per_day, Code.SMS_QUOTA)
        code, place = _new_code(transaction, call, purpose, phone)
        record = {"hash": _hash(call, key, code), "until": until, "failures": 0, "user": user_id, "place": place}
        transaction.put_record("sms", key, record, until)
        transaction.put_record("sms-at", place, {"phone": phone}, until)
        return code

    code = call.service.store.write(work)
    message |= {"code": code, "text": _text(phone, code, message["minutes"])}
    if not sender.send(call.service.store, message):
        call.service.store.write(lambda transaction: _take_back(transaction, key, phone))
        raise StorageError(Code.SMS_FAILED)


def take(call: Call, purpose: str, phone: str | None, code: Json) -> Document:
    """Use up a code; return its record, with its `phone`. Without a number it is one that this address asked for.

    Raises 603 for a wrong, late or used one, 429 for too many of these.
    """
    code = str(code) if isinstance(code, (str, int)) else ""
    caller, store = call.caller, call.service.store
    is_limited = not caller.has_hook_key and bool(caller.address)

    def work(transaction: Transaction) -> Document | None:
        if is_limited:
            attempts.refuse_address(transaction, caller.block, call.service.options.max_logins_per_address)
        found = None
        if CODE.fullmatch(code):
            number = phones.international(phone) if phone else _asked_from(transaction, call, purpose, code)
            found = _matched(transaction, call, f"{purpose}:{number}", code) if number else None
            if found is not None:
                return {**found, "phone": number}
        if not phone:
            _count(transaction, f"blind:{caller.block}", MAX_BLIND, Code.TOO_MANY_REQUESTS)
        if is_limited:
            attempts.count_address(transaction, caller.block)
        return None  # and no error, which would undo the counting

    record = store.write(work)
    if record is None:
        raise StorageError(Code.WRONG_SMS_CODE)
    return record


def _matched(transaction: Transaction, call: Call, key: str, code: str) -> Document | None:
    """The record of a code, which is gone now; None for a wrong guess, which is counted."""
    record: Document | None = transaction.record("sms", key, lock=True)
    if record is None:
        return None
    if hmac.compare_digest(record["hash"], _hash(call, key, code)):
        _drop(transaction, key, record)
        return record
    record["failures"] += 1
    if record["failures"] >= MAX_GUESSES:
        _drop(transaction, key, record)
    else:
        transaction.put_record("sms", key, record, record["until"])
    return None


def _drop(transaction: Transaction, key: str, record: Document) -> None:
    transaction.delete_record("sms", key)
    transaction.delete_record("sms-at", record["place"])


def _take_back(transaction: Transaction, key: str, phone: str) -> None:
    """The message could not be sent: void its code and let the phone ask again at once. It stays counted."""
    record = transaction.record("sms", key, lock=True)
    if record is not None:
        _drop(transaction, key, record)
    counted = transaction.record("sms-count", f"phone:{phone}", lock=True)
    if counted is not None:
        transaction.put_record("sms-count", f"phone:{phone}", {**counted, "last": 0}, counted["since"] + DAY_MS)


def _new_code(transaction: Transaction, call: Call, purpose: str, phone: str) -> tuple[str, str]:
    """(code, key of its `sms-at`), different from the codes of other phones at this address: without a number, the code has to identify the phone."""
    while True:
        code = f"{secrets.randbelow(10**6):06d}"
        place = _place(call, purpose, code)
        if (transaction.record("sms-at", place) or {"phone": phone})["phone"] == phone:
            return code, place


def _asked_from(transaction: Transaction, call: Call, purpose: str, code: str) -> str | None:
    """The phone that got this code at the request of this address, or None."""
    if (transaction.record("sms-count", f"blind:{call.caller.block}") or {"count": 0})["count"] >= MAX_BLIND:
        raise StorageError(Code.TOO_MANY_REQUESTS)
    found = transaction.record("sms-at", _place(call, purpose, code))
    return found["phone"] if found else None


def _place(call: Call, purpose: str, code: str) -> str:
    return _hash(call, f"at:{purpose}:{call.caller.block}", code)


def _hash(call: Call, key: str, code: str) -> str:
    return passwords.token_lookup(call.service.token_secret, f"sms:{key}:{code}")


def _count(transaction: Transaction, key: str, limit: int, code: Code, pause: int = 0) -> None:
    """Count one more of a day. Raises `code` beyond `limit`, or within `pause` ms of the last."""
    ms = now()
    # Store first, then lock: concurrent requests wait for each other here.
    transaction.add_record("sms-count", key, {"count": 0, "since": ms, "last": 0}, ms + DAY_MS)
    found = transaction.record("sms-count", key, lock=True)
    if found["count"] >= limit or ms - found["last"] < pause:
        raise StorageError(code)
    counted = {**found, "count": found["count"] + 1, "last": ms}
    transaction.put_record("sms-count", key, counted, found["since"] + DAY_MS)


def _message(call: Call, purpose: str, phone: str) -> Document:
    """What a sender is given, but for the code. Templates and signs are those that the operator named."""
    body, sender = call.json_body(), call.service.sms
    template, sign = body.get("template"), body.get("sign")
    if template is not None and not (sender and isinstance(template, str) and template in sender.templates):
        raise StorageError(Code.NO_SMS_TEMPLATE)
    if sign is not None and not (sender and isinstance(sign, str) and sign in sender.signs):
        raise StorageError(Code.NO_SMS_SIGN)
    ttl = str(body.get("ttl", MINUTES))
    # Of its first digits: int() raises an error for thousands of them.
    minutes = min(int(ttl[:9]), MINUTES) if ttl.isascii() and ttl.isdigit() and int(ttl[:9]) else MINUTES
    kind = "voice" if body.get("smsType") == "voice" else "sms"
    message = {"id": secrets.token_hex(8), "to": phone, "purpose": purpose, "minutes": minutes, "type": kind}
    return {**message, "template": template, "sign": sign, "variables": _variables(body) if purpose == "sms" else {}}


def _variables(body: Document) -> Document:
    """What a client puts into the text, short and harmless; raise 606."""
    found = {name: str(value) for name, value in body.items() if name not in OPTIONS and isinstance(value, (str, int, float))}
    for name, value in found.items():
        is_bad = not VARIABLE.fullmatch(name) or len(value) > MAX_VARIABLE or not value.isprintable() or "//" in value
        if is_bad or len(found) > MAX_VARIABLES:
            raise StorageError(Code.BAD_SMS_VARIABLE)
    return found


def _text(phone: str, code: str, minutes: int) -> str:
    if phone.startswith(phones.CHINA):
        return f"您的验证码是 {code}，{minutes} 分钟内有效。请勿告诉他人。"
    return f"Your code is {code}. It is good for {minutes} minutes. Tell it to nobody."
