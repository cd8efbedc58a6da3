"""The operations of an update, `{"__op": ...}`: one short function each. Protocol section 3.4.

Each takes (current value or MISSING, operation, key, creating) and returns the new value or MISSING. They see no
request and no database; relations, which are rows of their own, are told apart by `is_relation`.
"""
from collections.abc import Callable
from typing import TypeGuard

from leanstorage import values
from leanstorage.errors import Code, StorageError
from leanstorage.store import Document, Json

MISSING: Json = object()
MAX_ARRAY = 10_000  # elements
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
    operation = _checked(operation)
    return _OPERATIONS[operation["__op"]](current, operation, key, creating)


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
        result = values.normalise(current + sign * amount)
    except OverflowError:
        result = float("inf")
    if result in (float("inf"), float("-inf")):
        raise _bad("the number would be too large")
    return result


def _increment(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return _add_amount(current, operation, key, 1)


def _decrement(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return _add_amount(current, operation, key, -1)


def _bitwise(current: Json, operation: Document, key: str, combine: Callable[[int, int], int]) -> int:
    value = operation.get("value")
    if isinstance(value, bool) or not isinstance(value, int):
        raise _bad(f"{operation['__op']} needs an integer in value")
    if current is MISSING or current is None:
        current = 0
    if isinstance(current, bool) or not isinstance(current, int):
        raise values.wrong_type(key, value, values.type_name(current), "Number")
    return combine(current, value)


def _bit_and(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return _bitwise(current, operation, key, int.__and__)


def _bit_or(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return _bitwise(current, operation, key, int.__or__)


def _bit_xor(current: Json, operation: Document, key: str, creating: bool) -> Json:
    return _bitwise(current, operation, key, int.__xor__)


def _array(current: Json, operation: Document, key: str) -> tuple[list[Json], list[Json]]:
    """The two arrays of an array operation: what the field holds ([] when missing) and the canonical arguments."""
    objects = operation.get("objects")
    if not isinstance(objects, list):
        raise _bad(f"{operation['__op']} needs an array in objects")
    if current is MISSING or current is None:
        current = []
    if not isinstance(current, list):
        raise values.wrong_type(key, objects, values.type_name(current), "Array")
    return current, values.normalise(objects)


def _limited(array: list[Json], key: str) -> list[Json]:
    if len(array) > MAX_ARRAY:
        raise StorageError(Code.ARRAY_TOO_LONG, key=key, limit=MAX_ARRAY)
    return array


def _contains(array: list[Json], value: Json) -> bool:
    return any(values.same(element, value) for element in array)


def _add(current: Json, operation: Document, key: str, creating: bool) -> Json:
    array, objects = _array(current, operation, key)
    return _limited(array + objects, key)


def _add_unique(current: Json, operation: Document, key: str, creating: bool) -> Json:
    array, objects = _array(current, operation, key)
    result = list(array)
    for value in objects:
        if not _contains(result, value):
            result.append(value)
    return _limited(result, key)


def _remove(current: Json, operation: Document, key: str, creating: bool) -> Json:
    array, objects = _array(current, operation, key)
    if current is MISSING and not creating:
        return MISSING
    return [element for element in array if not _contains(objects, element)]


def _batch(current: Json, operation: Document, key: str, creating: bool) -> Json:
    if not isinstance(operation.get("ops"), list):
        raise _bad("Batch needs an array in ops")
    for step in operation["ops"]:
        current = apply(current, step, key, creating)
    return current


def _relation(current: Json, operation: Document, key: str, creating: bool) -> Json:
    raise _bad(f"{operation['__op']} acts on a whole relation field")


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
