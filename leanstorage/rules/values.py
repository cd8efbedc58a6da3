"""Names and values: what a client may write, in the canonical form in which it is stored.

The canonical form makes equal values equal texts, so that a database can compare them: keys of objects sorted by the
store, `__type` objects with exactly their own keys, dates in UTC with three decimals, whole floats as integers.
Protocol sections 3.1 to 3.3.
"""
import base64
import binascii
import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta, UTC
from functools import lru_cache

from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Json, type_of

CLASS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")
STORED_KEY = re.compile(r"[A-Za-z0-9_]+")  # imported rows also have keys such as `_SessionToken`
OBJECT_ID = re.compile(r"[A-Za-z0-9]+")
# Every app has these, empty at first.
SYSTEM_CLASSES = frozenset(
    ["_User", "_Role", "_File", "_Follower", "_Followee", "_Installation", "_Conversation", "_Status"]
)
OTHER_SYSTEM_CLASSES = frozenset(["_Notification", "_SysMessage", "_FriendshipRequest", "_ConversationMemberInfo"])
BUILT_IN = frozenset(["objectId", "createdAt", "updatedAt", "ACL", "className"])
IGNORED = frozenset(["objectId", "createdAt", "updatedAt", "className", "__type"])  # silently, in any body
_BUILT_IN_LOWER = frozenset(name.lower() for name in BUILT_IN)
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s*(Z|z|[+-]\d\d(?::?\d\d)?)?)?"
)
_CANONICAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")  # Python 3.14 reads 24:00, too
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_class_name(name: Json) -> str:
    """Return a usable class name, `files` and ObjC's `_file` being other names of `_File`; raise 103."""
    if isinstance(name, str):
        if CLASS_NAME.fullmatch(name) and len(name) <= 200:
            return "_File" if name == "files" else name
        if name == "_file":
            return "_File"
        if name in SYSTEM_CLASSES or name in OTHER_SYSTEM_CLASSES:
            return name
    raise StorageError(Code.BAD_CLASS_NAME, name=name)


def check_object_id(object_id: Json) -> str:
    """Return an object id of any shape that LeanCloud made; raise 104."""
    if isinstance(object_id, str) and len(object_id) <= 100 and OBJECT_ID.fullmatch(object_id):
        return object_id
    raise StorageError(Code.BAD_OBJECT_ID, id=object_id)


@lru_cache(4096)  # clients write the same ones again and again
def check_key(key: str) -> str:
    """Return a key that a client may write; raise 105."""
    if KEY_NAME.fullmatch(key) and len(key) <= 200 and (key == "ACL" or key.lower() not in _BUILT_IN_LOWER):
        return key
    raise StorageError(Code.BAD_KEY, key=key)


@lru_cache(8192)  # the objects that are read most are read again and again
def format_time(ms: int) -> str:
    """Milliseconds UTC as `YYYY-MM-DDTHH:MM:SS.mmmZ`; raise OverflowError outside of the years 1 to 9999."""
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


@lru_cache(1024)  # what is written now has few of them
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def parse_time(text: Json) -> int:
    """Milliseconds UTC of an ISO 8601 time with any offset and 0 to 9 decimals; raise ValueError or OverflowError."""
    if isinstance(text, str) and _CANONICAL.fullmatch(text):
        try:
            return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
        except ValueError:
            pass  # the long way says the same, or reads what fromisoformat cannot
    found = _ISO.fullmatch(text) if isinstance(text, str) and text.isascii() else None
    if found is None:
        raise ValueError("not an ISO 8601 time")
    year, month, day, hour, minute, second, decimals, zone = found.groups()
    moment = datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
    )
    ms = (moment - _EPOCH) // timedelta(milliseconds=1) + int(((decimals or "") + "000")[:3])
    if zone and zone not in "Zz":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        minutes = int(digits[:2]) * 60 + int(digits[2:])
        ms -= minutes * 60_000 * (1 if zone[0] == "+" else -1)
    format_time(ms)  # an offset may carry the year out of range
    return ms


def normalise(value: Json) -> Json:
    """A client's value in canonical form. Raises 106, 107, 121, 123 or 302; see the table of section 3.3."""
    if isinstance(value, str):
        return value  # first, because most values are texts
    if isinstance(value, dict):
        kind = value.get("__type")
        if kind is None and "__type" not in value:
            for key in value:
                if "$" in key or "." in key:
                    raise StorageError(Code.BAD_NESTED_KEY, key=key)
            return {key: normalise(child) for key, child in value.items()}
        reader = _READERS.get(kind) if isinstance(kind, str) else None
        if reader is None:
            raise StorageError(Code.BAD_JSON, detail=f"unknown __type {kind!r}")
        return reader(value)
    if isinstance(value, list):
        return [normalise(child) for child in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value


def check_storable(*texts: str) -> None:
    """Raise 107 for a text with a NUL character, as for JSON that holds one: PostgreSQL could not keep it."""
    for text in texts:
        if "\0" in text:
            raise StorageError(Code.BAD_JSON, detail="the text holds a NUL character")


def pointer(class_name: str, object_id: str) -> Document:
    return {"__type": "Pointer", "className": class_name, "objectId": object_id}


def date(ms: int) -> Document:
    return {"__type": "Date", "iso": format_time(ms)}


def wrong_type(key: str, value: Json, expected: str, found: str) -> StorageError:
    """The error 111, with the text that apps know."""
    return StorageError(Code.WRONG_TYPE, key=key, value=value, expected=expected, found=found)


def type_name(value: Json) -> str:
    """The column type of a canonical value as error 111 names it; null, which has none, is Null."""
    return (type_of(value) or {"type": "Null"})["type"]


def same(left: object, right: object) -> bool:
    """Deep equality of canonical values; 1 equals 1.0 but never true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(child, right[key]) for key, child in left.items())
    return left == right


def _date(value: Document) -> Document:
    iso = value.get("iso")
    if isinstance(iso, str) and _CANONICAL.fullmatch(iso):
        try:
            datetime.fromisoformat(iso)
            return {"__type": "Date", "iso": iso}
        except ValueError:
            pass  # such as the 31st of June, which the long way refuses
    try:
        return {"__type": "Date", "iso": format_time(parse_time(value.get("iso")))}
    except (ValueError, OverflowError):
        raise StorageError(Code.BAD_JSON, detail="a Date needs an ISO 8601 time in iso") from None


def _bytes(value: Document) -> Document:
    text: Json = value.get("base64")
    try:
        return {"__type": "Bytes", "base64": base64.b64encode(base64.b64decode(text, validate=True)).decode()}
    except (binascii.Error, TypeError, ValueError):
        raise StorageError(Code.BAD_JSON, detail="Bytes need base64 text") from None


def _pointer(value: Document) -> Document:
    class_name, object_id = value.get("className"), value.get("objectId")
    if not isinstance(class_name, str) or not isinstance(object_id, str) or not class_name or not object_id:
        raise StorageError(Code.BAD_POINTER)
    class_name = check_class_name(class_name)
    if class_name == "_File":
        return {"__type": "File", "id": check_object_id(object_id)}
    return pointer(class_name, check_object_id(object_id))


def _file(value: Document) -> Document:
    file_id = value.get("id") or value.get("objectId")
    if not isinstance(file_id, str):
        raise StorageError(Code.BAD_POINTER)
    return {"__type": "File", "id": check_object_id(file_id)}


def _geo_point(value: Document) -> Document:
    latitude: Json = value.get("latitude")
    longitude: Json = value.get("longitude")
    for number in (latitude, longitude):
        # Not `isfinite`, which raises for an integer that no float can hold.
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) < math.inf:
            raise StorageError(Code.BAD_JSON, detail="a GeoPoint needs the numbers latitude and longitude")
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise StorageError(Code.GEO_RANGE)
    return {"__type": "GeoPoint", "latitude": float(latitude), "longitude": float(longitude)}


def _relation(value: Document) -> Document:
    if not isinstance(value.get("className"), str):
        raise StorageError(Code.BAD_JSON, detail="a Relation needs a className")
    return {"__type": "Relation", "className": check_class_name(value["className"])}


def _object(value: Document) -> Document:
    if not value.get("objectId"):
        raise StorageError(Code.BAD_JSON, detail="an Object without objectId cannot be stored in a field")
    return _pointer(value)


_READERS: dict[str, Callable[[Document], Document]] = {
    "Bytes": _bytes,
    "Date": _date,
    "File": _file,
    "GeoPoint": _geo_point,
    "Object": _object,
    "Pointer": _pointer,
    "Relation": _relation,
}
