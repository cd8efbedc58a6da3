"""A document of a BSON backup as the JSON that a console export has. Needs PyMongo's `bson`; imported only for BSON."""

import math
from collections.abc import Callable
from typing import Any

from leanstorage.rules import values
from leanstorage.store import Document, Json
from leanstorage.takeout.convert import Refused, as_bytes

MAX_LEVELS = 100


def is_available() -> bool:
    try:
        import bson  # noqa: F401
    except ImportError:
        return False
    return True


def decode_bson(data: bytes, is_repairing: bool = False) -> Document:
    """One document as a dict of JSON values; raise Refused.

    For a repair, values that cannot be held come in a form that it moves aside.
    """
    import bson
    from bson.codec_options import CodecOptions, DatetimeConversion
    from bson.errors import BSONError

    texts = "surrogateescape" if is_repairing else "strict"
    options = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler=texts)
    try:
        document = bson.decode(data, options)
    except (BSONError, ValueError, OverflowError, RecursionError):
        raise Refused("not valid BSON") from None
    row = {key: _value(value, 1, is_repairing) for key, value in document.items()}
    if "objectId" not in row and "_id" in row:
        row["objectId"] = row["_id"]
    row.pop("_id", None)
    return row


def _value(value: Any, level: int, is_repairing: bool) -> Json:
    """One BSON value as JSON; types are compared exactly, because code is a kind of text."""
    if level > MAX_LEVELS:
        raise Refused(f"nested deeper than {MAX_LEVELS} levels")
    kind = type(value).__name__
    if kind in ("dict", "SON"):
        return {key: _value(child, level + 1, is_repairing) for key, child in value.items()}
    if kind == "list":
        return [_value(child, level + 1, is_repairing) for child in value]
    reader = _READERS.get(kind)
    try:
        if reader is None:
            raise Refused(f"a value of the type {kind}, which is not JSON")
        return reader(value)
    except Refused:
        if not is_repairing:
            raise
        return value if type(value) in (float, str) else {f"${kind}": str(value)}  # a key that no value may have


def _same(value: Json) -> Json:
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise Refused("holds a NUL character")
    return value


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise Refused("a number that is not finite")
    return value


def _date(value: Any) -> Document:
    try:
        return values.date(int(value))
    except (ValueError, OverflowError):
        raise Refused("a date out of range") from None


_READERS: dict[str, Callable[[Any], Json]] = {  # name of a type -> its value as JSON; raises Refused
    "NoneType": _same,
    "bool": _same,
    "int": _same,
    "float": _number,
    "str": _text,
    "bytes": as_bytes,
    "Binary": as_bytes,
    "DBRef": lambda value: values.pointer(value.collection, str(value.id)),
    "DatetimeMS": _date,
    "Decimal128": lambda value: _number(float(value.to_decimal())),
    "Int64": int,
    "ObjectId": str,
}
