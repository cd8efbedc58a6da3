"""Which index a query wants, from its shape: keys and operators, see query_shape. Values are no part of it."""
import json
import re
from collections.abc import Iterable

from leanstorage.rules import query_shape, values
from leanstorage.store import Document, Json, Query
from leanstorage.store.fragments import INDEXED_TYPES, MAX_INDEX_KEYS

NUMBER_RANGES = frozenset(["gt", "gte", "lt", "lte"])
RANGES = frozenset(["gt", "gte", "lt", "lte", "prefix", "in", "in_query"])
START = re.compile(r'\{"class": ?"')
ENTRY_BYTES = 24  # of an index, beside the value
VALUE_BYTES = {"String": 20, "Number": 12, "Boolean": 8, "Pointer": 70, "Date": 26, "GeoPoint": 4, "Array": 60, "ACL": 24}
Keys = list[str]


def wanted(shape: Document, info: Document) -> Keys | None:
    """The keys of the index that would help a query of this shape; None if it exists, or if no index would help."""
    columns = {key: column["type"] for key, column in info["columns"].items()}
    asked = [part for part in map(_condition, shape.get("where", [])) if part is not None]
    existing: list[Keys] = info.get("indexes", [])
    if shape.get("count") and (counted := _counted(shape, columns)):
        return next((keys for keys in (counted, ["ACL"]) if keys not in existing), None)
    for key, op in asked:
        if (columns.get(key), op) in (("GeoPoint", "near"), ("Array", "eq"), ("Array", "all")):
            return None if [key] in existing else [key]
    equal = list(dict.fromkeys(key for key, op in asked if op == "eq" and columns.get(key) in INDEXED_TYPES))
    ranged = [key for key, op in asked if op in RANGES and key not in equal and columns.get(key) in INDEXED_TYPES]
    order = [key.lstrip("-") for key in shape.get("order", [])[:1]]
    sorted_by = [key for key in order if columns.get(key) in INDEXED_TYPES and key not in equal]
    keys = (equal[: MAX_INDEX_KEYS - 1] + (sorted_by or ranged)[:1])[:MAX_INDEX_KEYS]
    if not keys or any(set(keys) == set(other[: len(keys)]) for other in existing):
        return None
    return keys


def _counted(shape: Document, columns: dict[str, str]) -> Keys | None:
    """The keys of the index that keeps a count of all objects, or of those with some values of one key."""
    asked = [_condition(part) for part in shape.get("where", [])]
    keys = {one[0] for one in asked if one is not None}
    if not asked:
        return ["ACL"]
    if None in asked or len(keys) > 1:
        return None
    [key] = keys
    ops = frozenset(["eq", "in"]) | (NUMBER_RANGES if columns.get(key) == "Number" else frozenset())
    return ["ACL", key] if columns.get(key) in INDEXED_TYPES and all(one[1] in ops for one in asked if one) else None


def told(query: Query, info: Document) -> str:
    """Advice for a query that took too long: a sentence with keys that its caller named, or an empty text."""
    keys = wanted(query_shape.shape(query), info)
    return f" An index would help: leanstorage index {query.class_name} {' '.join(keys)}" if keys else ""


def cost(keys: Keys, info: Document, rows: int) -> int:
    """About how many bytes the index takes for so many objects."""
    types = [info["columns"][key]["type"] if key != "ACL" else key for key in keys]
    entries = 3 if types == ["Array"] else 1  # an array has several elements
    return rows * entries * (ENTRY_BYTES + sum(VALUE_BYTES.get(one, 0) for one in types))


def shapes(lines: Iterable[str]) -> list[Document]:
    """The shapes in the lines of a log, each once; whatever else the lines hold is passed over."""
    decoder = json.JSONDecoder()
    found: dict[str, Document] = {}
    for line in lines:
        start = START.search(line)
        if start is None:
            continue
        try:
            shape, _ = decoder.raw_decode(line, start.start())
        except (ValueError, RecursionError):
            continue
        if _is_shape(shape):
            found.setdefault(json.dumps(shape, sort_keys=True), shape)
    return list(found.values())


def _is_shape(shape: Json) -> bool:
    lists = (shape.get("where", []), shape.get("order", []))
    is_named = isinstance(shape["class"], str) and values.STORED_KEY.fullmatch(shape["class"]) is not None
    return is_named and all(isinstance(one, list) for one in lists) and all(isinstance(key, str) for key in lists[1])


def _condition(part: Json) -> tuple[str, str] | None:
    """(key, operator) of a condition that every match meets; None for the others."""
    if isinstance(part, dict) and len(part) == 1:  # a sub-query
        part = next(iter(part))
    if not isinstance(part, str) or part.count(" ") != 1:
        return None
    key, op = part.split(" ")
    return key, op
