"""The operations of an update, `{"__op": ...}`: one short function each. Protocol section 3.4.

Each takes (current value or MISSING, operation, key, creating) and returns the new value or MISSING. They see no
request and no database; relations, which are rows of their own, are told apart by `is_relation`.
"""
from collections.abc import Callable
from typing import TypeGuard

from leanstorage.rules import values
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Json, canonical_text

MISSING: Json = object()
MAX_ARRAY = 10_000  # elements
MAX_NUMBER = 10**4300  # JSON has no longer integers than Python reads
MAX_SCANS = 8  # of an array, by the operations on it, before its elements are indexed
MAX_RELATION = 1_000  # pointers in one operation
RELATION_OPS = frozenset(["AddRelation", "RemoveRelation"])
RelationChange = tuple[bool, str, list[str]]  # whether it adds, class name, ids


def is_operation(value: Json) -> TypeGuard[Document]:
    return isinstance(value, dict) and "__op" in value


def is_relation(operation: Document) -> bool:
    """Whether an operation changes a relation: AddRelation, RemoveRelation or a Batch of them."""
    name = operation.get("__op")
    if name == "Batch":
        ops = operation.get("ops")
        return isinstance(ops, list) and any(is_operation(op) and is_relation(op) for op in ops)
    return isinstance(name, str) and name in RELATION_OPS


def relation_changes(operation: Document) -> list[RelationChange]:
    """A relation operation as [(adds, class name, [ids])]; raise 107, 111 or 128, and what a bad pointer raises."""
    if operation["__op"] == "Batch":
        return [change for op in operation["ops"] for change in relation_changes(_checked(op))]
    if operation["__op"] not in RELATION_OPS:
        raise _bad(f"{operation['__op']} does not act on a relation")
    objects = operation.get("objects")
    if not isinstance(objects, list) or not 1 <= len(objects) <= MAX_RELATION:
        raise StorageError(Code.BAD_RELATION, limit=MAX_RELATION)
    members = [values.normalise(member) for member in objects]
    if not all(isinstance(member, dict) and member.get("__type") in ("Pointer", "File") for member in members):
        raise StorageError(Code.BAD_RELATION, limit=MAX_RELATION)
    targets = [
        ("_File", member["id"]) if member["__type"] == "File" else (member["className"], member["objectId"])
        for member in members
    ]
    class_name = targets[0][0]
    for other, _ in targets:
        if other != class_name:
            raise values.wrong_type("objects", other, class_name, other)
    return [(operation["__op"] == "AddRelation", class_name, [object_id for _, object_id in targets])]


def apply(current: Json, operation: Json, key: str, creating: bool = False) -> Json:
    """The value of field `key` after `operation`, or MISSING.

    Raises 107 for a bad operation, 111 for a field of another type, 1 for an array that gets too long.
    """
    return _finished(_apply(current, operation, key, creating))


def _apply(current: Json, operation: Json, key: str, creating: bool) -> Json:
    """The new value, an array as _Elements where it was worked on."""
    operation = _checked(operation)
    name = operation["__op"]
    return _OPERATIONS[name](current if name in _ON_ARRAYS else _finished(current), operation, key, creating)


def _finished(value: Json) -> Json:
    return value.array() if isinstance(value, _Elements) else value


def _checked(operation: Json) -> Document:
    if not is_operation(operation) or not isinstance(operation["__op"], str) or operation["__op"] not in _OPERATIONS:
        raise _bad(f"unknown __op {operation.get('__op') if isinstance(operation, dict) else operation!r}")
    return operation


def _bad(detail: str) -> StorageError:
    return StorageError(Code.BAD_JSON, detail=detail)


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _delete(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return MISSING


def _add_amount(current: Json, operation: Document, key: str, sign: int) -> Json:
    amount = operation.get("amount")
    if not _is_number(amount):
        raise _bad(f"{operation['__op']} needs a number in amount")
    if current is MISSING or current is None:
        current = 0
    if not _is_number(current):
        raise values.wrong_type(key, amount, values.type_name(current), "Number")
    try:
        return _limited(values.normalise(current + sign * amount))
    except OverflowError:
        raise _too_large() from None


def _limited(number: float) -> float:
    """A number that can be stored; raise 107."""
    if not abs(number) < (MAX_NUMBER if isinstance(number, int) else float("inf")):
        raise _too_large()
    return number


def _too_large() -> StorageError:
    return _bad("the number would be too large")


def _increment(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return _add_amount(current, operation, key, 1)


def _decrement(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return _add_amount(current, operation, key, -1)


def _bitwise(current: Json, operation: Document, key: str, combine: Callable[[int, int], int]) -> float:
    value = operation.get("value")
    if isinstance(value, bool) or not isinstance(value, int):
        raise _bad(f"{operation['__op']} needs an integer in value")
    if current is MISSING or current is None:
        current = 0
    if isinstance(current, bool) or not isinstance(current, int):
        raise values.wrong_type(key, value, values.type_name(current), "Number")
    return _limited(combine(current, value))


def _bit_and(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return _bitwise(current, operation, key, int.__and__)


def _bit_or(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return _bitwise(current, operation, key, int.__or__)


def _bit_xor(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return _bitwise(current, operation, key, int.__xor__)


class _Elements:
    """An array under change: the cost of each operation depends on its own values, not on the array's length.

    After a few linear searches, elements are indexed by their texts. (Not by Python's hashes: numbers can be chosen to
    collide.)
    """

    def __init__(self, array: list[Json]) -> None:
        self._elements = dict(enumerate(array))  # by place
        self._places: dict[str, list[int]] | None = None  # by text
        self._next = len(array)
        self._scans = 0

    def __len__(self) -> int:
        return len(self._elements)

    def __contains__(self, value: Json) -> bool:
        return bool(self._found(value))

    def add(self, value: Json) -> None:
        self._elements[self._next] = value
        if self._places is not None:
            self._places.setdefault(_text(value), []).append(self._next)
        self._next += 1

    def remove(self, value: Json) -> None:
        for place in self._found(value):
            del self._elements[place]
        if self._places is not None:
            self._places.pop(_text(value), None)

    def array(self) -> list[Json]:
        return list(self._elements.values())

    def _found(self, value: Json) -> list[int]:
        """The places of the elements that are the same."""
        if self._places is None and self._scans < MAX_SCANS:
            self._scans += 1
            return [place for place, element in self._elements.items() if values.same(element, value)]
        if self._places is None:
            self._places = {}
            for place, element in self._elements.items():
                self._places.setdefault(_text(element), []).append(place)
        return self._places.get(_text(value), [])


def _text(value: Json) -> str:
    """A text that is equal for values that `values.same` calls equal."""
    if isinstance(value, str):
        return "'" + value  # as no JSON begins
    return canonical_text(_whole(value))


def _whole(value: Json) -> Json:
    """A value with its whole numbers as integers: canonical values keep large ones as they came."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(child) for child in value]
    if isinstance(value, dict):
        return {key: _whole(child) for key, child in value.items()}
    return value


def _array(current: Json, operation: Document, key: str, limit: int | None) -> tuple[_Elements, list[Json]]:
    """What an array operation needs: the elements of the field, none when missing, and the canonical arguments.

    Raises 1 for a field of more than `limit` elements.
    """
    objects = operation.get("objects")
    if not isinstance(objects, list):
        raise _bad(f"{operation['__op']} needs an array in objects")
    if current is MISSING or current is None:
        current = []
    if not isinstance(current, (list, _Elements)):
        raise values.wrong_type(key, objects, values.type_name(current), "Array")
    _check_length(len(current), key, limit)
    return current if isinstance(current, _Elements) else _Elements(current), values.normalise(objects)


def _check_length(length: int, key: str, limit: int | None = MAX_ARRAY) -> None:
    if limit is not None and length > limit:
        raise StorageError(Code.ARRAY_TOO_LONG, key=key, limit=limit)


def _add(current: Json, operation: Document, key: str, creating: bool) -> Json:
    elements, objects = _array(current, operation, key, MAX_ARRAY)
    _check_length(len(elements) + len(objects), key)
    for value in objects:
        elements.add(value)
    return elements


def _add_unique(current: Json, operation: Document, key: str, creating: bool) -> Json:
    elements, objects = _array(current, operation, key, MAX_ARRAY)
    for value in objects:
        if value not in elements:
            elements.add(value)
            _check_length(len(elements), key)
    return elements


def _remove(current: Json, operation: Document, key: str, creating: bool) -> Json:
    elements, objects = _array(current, operation, key, None)
    if current is MISSING and not creating:
        return MISSING
    for value in objects:
        elements.remove(value)
    return elements


def _batch(current: Json, operation: Document, key: str, creating: bool) -> Json:
    if not isinstance(operation.get("ops"), list):
        raise _bad("Batch needs an array in ops")
    for step in operation["ops"]:
        current = _apply(current, step, key, creating)
    return current


def _relation(current: Json, operation: Document, key: str, creating: bool) -> Json:
    raise _bad(f"{operation['__op']} acts on a whole relation field")


_ON_ARRAYS = frozenset(["Add", "AddUnique", "Batch", "Remove"])  # these take _Elements as well
_OPERATIONS: dict[str, Callable[[Json, Document, str, bool], Json]] = {
    "Add": _add,
    "AddRelation": _relation,
    "AddUnique": _add_unique,
    "Batch": _batch,
    "BitAnd": _bit_and,
    "BitOr": _bit_or,
    "BitXor": _bit_xor,
    "Decrement": _decrement,
    "Delete": _delete,
    "Increment": _increment,
    "Remove": _remove,
    "RemoveRelation": _relation,
}
