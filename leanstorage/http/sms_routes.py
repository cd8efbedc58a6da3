"""The routes of SMS codes: refused in so many words unless a sender is configured, see resources/sms.py.

That module is only loaded for the first call that it answers.
"""
from typing import NoReturn

from leanstorage.http.refused import refuse
from leanstorage.resources import names
from leanstorage.rules import phones
from leanstorage.rules.call import Answer, Call, Resource, Route
from leanstorage.rules.errors import Code, StorageError

SMS = "SMS"


def needs_known_phone(feature: str) -> Resource:
    """Refuses too, but answers 213 first if nobody has the number: apps show that to their users."""

    def refused(call: Call, **_: str) -> NoReturn:
        phone = call.json_body().get(phones.FIELD)
        found = isinstance(phone, str) and phone and call.service.store.read(
            lambda transaction: names.owner(transaction, phones.FIELD, phone)
        )
        raise StorageError(Code.UNSUPPORTED if found else Code.UNKNOWN_PHONE, feature=feature)

    return refused


def refuse_login(call: Call, **_: str) -> NoReturn:
    """GET /login: what of it cannot be."""
    feature = "SMS login" if "smsCode" in call.query else "A password in the URL"
    raise StorageError(Code.UNSUPPORTED_METHOD, feature=feature)


def _or(name: str, refusal: Resource) -> Resource:
    """The function `name` of resources.sms for those who can be sent a code, else the refusal."""

    def either(call: Call, **parameters: str) -> Answer:
        if not call.has_sms:
            return refusal(call, **parameters)
        from leanstorage.resources import sms

        answer: Answer = getattr(sms, name)(call, **parameters)
        return answer

    return either


_UNSUPPORTED, _BAD_CODE, _NEEDS_KNOWN = refuse(SMS, Code.UNSUPPORTED_SMS), refuse(SMS, Code.BAD_SMS_CODE), needs_known_phone(SMS)
ROUTES: list[Route] = [
    ("GET", "/login", _or("login_by_url", refuse_login)),
    ("POST", "/changePhoneNumber", _or("change_phone", _BAD_CODE)),
    ("POST", "/requestChangePhoneNumber", _or("request_change", _UNSUPPORTED)),
    ("POST", "/requestLoginSmsCode", _or("request_login", _NEEDS_KNOWN)),
    ("POST", "/requestMobilePhoneVerify", _or("request_verify", _NEEDS_KNOWN)),
    ("POST", "/requestPasswordResetBySmsCode", _or("request_reset", _NEEDS_KNOWN)),
    ("POST", "/requestSmsCode", _or("request_code", _UNSUPPORTED)),
    ("POST", "/resetPasswordBySmsCode", _BAD_CODE),  # Python's SDK without a code
    ("POST", "/resetPasswordBySmsCode/<code>", _or("reset_password", _BAD_CODE)),
    ("PUT", "/resetPasswordBySmsCode/<code>", _or("reset_password", _BAD_CODE)),
    ("POST", "/usersByMobilePhone", _or("sign_up_or_log_in", _BAD_CODE)),
    ("GET", "/verifyMobilePhone/<code>", _or("verify_phone", _BAD_CODE)),
    ("POST", "/verifyMobilePhone/<code>", _or("verify_phone", _BAD_CODE)),
    ("POST", "/verfyMobilePhone/<code>", _or("verify_phone", _BAD_CODE)),  # as the Python SDK spells it
    ("POST", "/verifySmsCode/<code>", _or("verify_code", _BAD_CODE)),
]
