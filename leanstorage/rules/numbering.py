"""Columns that count: a new object gets the next number of its class there, as in LeanCloud's `auto_increment` columns.

The last number is a record of its own, which the transaction of a create locks: two creates never take the same number,
whatever process they run in, and a create that fails gives its number back.
"""
import math
from collections.abc import Iterable, Mapping

from leanstorage.store import Document, Json, Query, Transaction

KIND = "auto-increment"
SECONDS = 3600.0  # that the search for the highest number may take, once, when a column begins to count


def keys(info: Document) -> list[str]:
    """The columns of a class that count, in the order in which their records are locked."""
    options = info.get("options")
    return sorted(key for key, one in options.items() if one.get("auto_increment")) if options else []


def may_count(class_name: str, column: Document | None) -> bool:
    """Whether a column can: LeanCloud's own classes but `_User` are not created as objects of an app."""
    return column == {"type": "Number"} and (class_name == "_User" or not class_name.startswith("_"))


def without_numbers(info: Document, fields: Document, is_master: bool) -> Document:
    """A client's fields without those that only the server, or the master key, sets."""
    counting = () if is_master else keys(info)
    return {key: value for key, value in fields.items() if key.split(".")[0] not in counting} if counting else fields


def give(transaction: Transaction, class_name: str, info: Document, body: Document) -> None:
    """Put the next number of each counting column into a new object; one that the master key has set is kept."""
    for key in keys(info):
        if body.get(key) is None:
            body[key] = _last(transaction, class_name, key) + 1
            transaction.put_record(KIND, _place(class_name, key), {"last": body[key]})
        else:
            _reach(transaction, class_name, key, [body[key]])


def follow(transaction: Transaction, class_name: str, info: Document, bodies: Iterable[Mapping[str, Json]]) -> None:
    """Go on after the highest number of objects that are stored with theirs."""
    counting = keys(info)
    numbers = [[body.get(key) for key in counting] for body in (bodies if counting else ())]
    for key, found in zip(counting, zip(*numbers, strict=True), strict=False):
        if any(number is not None for number in found):
            _reach(transaction, class_name, key, found)


def start(transaction: Transaction, class_name: str, key: str) -> None:
    """Let a column count from the highest number that its objects have; those without one stay without."""
    seconds, transaction.query_seconds = transaction.query_seconds, SECONDS
    try:
        highest = transaction.find(Query(class_name, order=(((key,), True),), limit=1))
    finally:
        transaction.query_seconds = seconds
    _reach(transaction, class_name, key, [row.body.get(key) for row in highest])


def _last(transaction: Transaction, class_name: str, key: str) -> int:
    """The last number, locked until the end of the transaction."""
    place = _place(class_name, key)
    transaction.add_record(KIND, place, {"last": 0})
    last: int = transaction.record(KIND, place, lock=True)["last"]
    return last


def _reach(transaction: Transaction, class_name: str, key: str, numbers: Iterable[Json]) -> None:
    """Raise the last number to the greatest of `numbers`, where these are numbers."""
    last = _last(transaction, class_name, key)
    greatest = max((math.floor(one) for one in numbers if isinstance(one, (int, float))), default=0)
    if greatest > last:
        transaction.put_record(KIND, _place(class_name, key), {"last": greatest})


def _place(class_name: str, key: str) -> str:
    return f"{class_name}:{key}"
