"""Rows as MongoDB's own tools print them (`bsondump`, `mongoexport`), as rows of an export: `_id`, `{"$date": ...}`, `{"$oid": ...}`."""

import math
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
    if len(value) == 1:
        [(key, inner)] = value.items()
        reader = _READERS.get(key)
        if reader is not None:
            try:
                return reader(inner)
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
    return {"__type": "Bytes", "base64": str(value["base64"])}


_READERS: dict[str, Callable[[Any], Json]] = {  # a key -> its value as JSON
    "$oid": str,
    "$date": _date,
    "$numberLong": int,
    "$numberInt": int,
    "$numberDouble": _number,
    "$numberDecimal": _number,
    "$binary": _bytes,
}
