"""Phone numbers: how they are written, and when two spellings are one phone. Without a country code, a number is Chinese.

LeanCloud's rule, so `13912345678`, `+86 139 1234 5678` and `+8613912345678` are the same phone. What is stored is the
number as its user wrote it, without blanks: apps show it.
"""
import re

from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Json

PHONE = re.compile(r"\+?[0-9]{5,20}")
CHINA = "+86"
FIELD = "mobilePhoneNumber"  # of users
_BLANKS = re.compile("[ \u00a0()-]+")  # what E.123 lets people write between the digits


def compact(number: str) -> str:
    """A number without blanks, brackets and hyphens."""
    return _BLANKS.sub("", number)


def checked(number: Json) -> str:
    """A client's number, compact; raise 212 without one, 127 for what is none."""
    if not isinstance(number, str) or not number.strip():
        raise StorageError(Code.NO_PHONE)
    found: str = compact(number)
    if not PHONE.fullmatch(found):
        raise StorageError(Code.BAD_PHONE)
    return found


def international(number: str) -> str:
    """A compact number with its country code: the one name of a phone."""
    return number if number.startswith("+") else CHINA + number


def spellings(number: str) -> tuple[str, ...]:
    """The compact number, and the other way in which the same phone may be stored, if there is one."""
    if not number.startswith("+"):
        return number, CHINA + number
    return (number, number.removeprefix(CHINA)) if number.startswith(CHINA) else (number,)


def widened(value: Json) -> Json:
    """The condition of a query on numbers so that it finds a phone however its number is written."""
    if isinstance(value, str):
        return {"$in": _all([value])}
    if not isinstance(value, dict):
        return value
    result = dict(value)
    for name, members in (("$in", value.get("$in")), ("$nin", value.get("$nin"))):
        if isinstance(members, list):
            result[name] = _all(members)
    if isinstance(value.get("$ne"), str) and "$nin" not in value:
        result["$nin"] = _all([result.pop("$ne")])
    return result


def _all(members: list[Json]) -> list[Json]:
    """The members, and for each number its other spellings."""
    found: dict[str, None] = {}
    others = []
    for member in members:
        if isinstance(member, str):
            found[member] = None
            if PHONE.fullmatch(number := compact(member)):
                found.update(dict.fromkeys(spellings(number)))
        else:
            others.append(member)
    return [*found, *others]
