"""`--repair`: rows with something that cannot be held keep the rest; that goes aside, as JSON text in a column of its own."""

import json
import math
import re
from collections.abc import Callable, Collection

from leanstorage.rules import acl, values
from leanstorage.rules.errors import StorageError
from leanstorage.store import Document, Json

KIND = "values moved aside"  # in the report
MAX_LEVELS = 100
_JSON = json.JSONDecoder(strict=False)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
Moved = tuple[str, str, str]  # key, the name that it has now, why


def parse(data: bytes) -> Document | None:
    """What can be read of a raw row, NaN, NUL and halves of characters included; None where it is no object."""
    try:
        value = _JSON.decode(data.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def move(document: Document, key: str, reason: str, taken: Collection[str] = ()) -> Moved:
    """Move one value of a document aside."""
    name = aside(key, {*document, *taken})
    document[name] = json.dumps(document.pop(key))
    return key, name, reason


def aside(key: str, taken: Collection[str]) -> str:
    """A name for what cannot be held under `key`."""
    base = re.sub(r"[^A-Za-z0-9_]", "_", key, flags=re.ASCII)[:180] + "_aside"
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


def heal(document: Document) -> list[Moved]:
    """Move aside whatever a row of an ordinary class cannot have; its `objectId` is not looked at."""
    moved = []
    for key in list(document):
        if key == "objectId":
            continue
        reason = _reason(key, document[key])
        if reason:
            moved.append(move(document, key, reason))
            if key == "ACL":
                document["ACL"] = {}  # better nobody than everybody
    return moved


def _reason(key: str, value: Json) -> str | None:
    """Why a value cannot be held under its key, None where it can."""
    checks: dict[str, Callable[[], object]] = {
        "ACL": lambda: value is None or acl.normalise(value),
        "createdAt": lambda: value is None or values.parse_time(value.get("iso") if isinstance(value, dict) else value),
    }
    checks["updatedAt"] = checks["createdAt"]
    if not values.STORED_KEY.fullmatch(key) or len(key) > 200:
        return "a key that is not letters, digits and _"
    try:
        if not _is_storable(value, 1):
            return "a NUL, half of a character, or a number that is none"
        checks.get(key, lambda: values.normalise(value))()
    except StorageError as error:
        return error.message
    except (ValueError, OverflowError):
        return "not a time"
    except RecursionError:
        return "nested too deep"
    return None


def _is_storable(value: Json, level: int) -> bool:
    if level > MAX_LEVELS:
        raise RecursionError
    if isinstance(value, str):
        return not _UNSTORABLE.search(value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_is_storable(key, level) and _is_storable(child, level + 1) for key, child in value.items())
    if isinstance(value, list):
        return all(_is_storable(child, level + 1) for child in value)
    return True
