"""Rows as MongoDB's own tools print them (`bsondump`, `mongoexport`), as rows of an export: `_id`, `{"$date": ...}`, `{"$oid": ...}`."""

import base64
import math
import uuid
from collections.abc import Callable
from typing import Any

from leanstorage.rules import values
from leanstorage.store import Document, Json


def is_row(document: Document) -> bool:
    """Whether a row is named by `_id`, as no row of LeanCloud's own export is."""
    return "_id" in document and "objectId" not in document


def plain(document: Document) -> Document:
    """The row with an objectId and with values as the API has them. What is malformed stays, and is refused where rows are."""
    row = {key: _value(value) for key, value in document.items() if key != "_id"}
    return {"objectId": _value(document["_id"]), **row}


def _value(value: Json) -> Json:
    if isinstance(value, list):
        return [_value(one) for one in value]
    if not isinstance(value, dict):
        return value
    key = "$binary" if value.keys() == _OLD_BINARY else next(iter(value), "")
    reader = _READERS.get(key)
    if reader is not None and (len(value) == 1 or key == "$binary"):
        try:
            return reader(value[key])
        except (ValueError, TypeError, KeyError, OverflowError):
            return value
    if isinstance(value.get("$ref"), str) and "$id" in value:
        return values.pointer(value["$ref"], str(_value(value["$id"])))
    return {key: _value(one) for key, one in value.items()}


def _date(value: Any) -> Document:
    if isinstance(value, dict):
        value = int(value["$numberLong"])
    return values.date(values.parse_time(value) if isinstance(value, str) else int(value))


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _bytes(value: Any) -> Document:
    return {"__type": "Bytes", "base64": value if isinstance(value, str) else str(value["base64"])}


def _uuid(value: Any) -> Document:
    return _bytes(base64.b64encode(uuid.UUID(value).bytes).decode())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


_OLD_BINARY = frozenset(["$binary", "$type"])  # as mongoexport printed bytes before MongoDB 4.2
_READERS: dict[str, Callable[[Any], Json]] = {  # a key -> its value as JSON
    "$oid": str,
    "$date": _date,
    "$numberLong": int,
    "$numberInt": int,
    "$numberDouble": _number,
    "$numberDecimal": _number,
    "$binary": _bytes,
    "$uuid": _uuid,
    "$symbol": _text,
    "$undefined": lambda value: None,
}
