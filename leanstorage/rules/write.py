"""Applying a client's fields, plain values and operations, to an object. Protocol sections 3.2 to 3.4.

Nothing here knows requests, users or hooks: it takes the old row and the fields, and returns a Change.
"""
from dataclasses import dataclass, field

from leanstorage.rules import acl, operations, values
from leanstorage.rules.classes import Column, Found
from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.operations import MISSING
from leanstorage.store import Document, Json, Rights, canonical_text, type_of

MAX_OBJECT_BYTES = 16 << 20
MAX_LEVELS = 20  # of a dotted key


@dataclass
class Change:
    """An object after a write: its body and ACL, the relation rows to change, and the types of its new values."""

    body: Document
    acl: Rights | None
    relations: list[tuple[str, bool, str, list[str]]] = field(default_factory=list)  # (key, adds, class name, ids)
    cleared: list[str] = field(default_factory=list)  # keys of relations to empty
    found: Found = field(default_factory=dict)
    written: list[str] = field(default_factory=list)  # top-level keys, in the client's order
    text: str = ""  # of the body


def clean(body: Document, creating: bool) -> Document:
    """A client's body without what is never stored: built-ins and `__` keys. Raises 105, 121 for other bad keys."""
    fields = {}
    for key, value in body.items():
        if key in values.IGNORED or key.startswith("__"):
            continue
        for part in key.split(".")[:1] if not creating else [key]:
            values.check_key(part)
        fields[key] = value
    return fields


def hook_fields(body: Json) -> Document:
    """What a body says of the hooks that are not to be called again, for another body of the same write."""
    return {key: body[key] for key in ("__ignore_hooks", "__before", "__after") if key in body} if isinstance(body, dict) else {}


def apply(
    fields: Document, body: Document, rights: Rights | None, columns: dict[str, Column], creating: bool
) -> Change:
    """The Change that `fields` make to (`body`, `rights`), empty for a new object.

    Raises 105, 111, 116, 123 and the errors of `operations` and `values.normalise`.
    """
    change = Change(dict(body), rights, written=list(dict.fromkeys([key.partition(".")[0] for key in fields])))
    own: set[str] = set()  # keys whose objects are copies already
    for key, value in fields.items():
        is_relation = key in columns and columns[key]["type"] == "Relation"
        if isinstance(value, (str, int)) and not is_relation and key != "ACL" and "." not in key:
            _set(change, key, value)  # as most are, and canonical as they are
        elif key == "ACL":
            deleted = operations.is_operation(value) and value["__op"] == "Delete"
            change.acl = acl.of_client(None if deleted else value)
        elif is_relation:
            _apply_to_relation(change, key, value, columns[key])
        elif "." in key:
            _apply_inside(change, key, value, creating, own)
        elif operations.is_operation(value) and operations.is_relation(value):
            if change.body.get(key) is not None:
                raise values.wrong_type(key, value, values.type_name(change.body[key]), "Relation")
            _apply_to_relation(change, key, value, None)
        else:
            _set(change, key, _new_value(change.body.get(key, MISSING), value, key, creating))
    try:
        change.text = canonical_text(change.body)
    except ValueError:  # what was counted up beyond 4300 digits
        raise StorageError(Code.BAD_JSON, detail="a number has too many digits") from None
    # No character has more than four bytes.
    if len(change.text) * 4 > MAX_OBJECT_BYTES and len(change.text.encode("utf-8")) > MAX_OBJECT_BYTES:
        raise StorageError(Code.OBJECT_TOO_LARGE, limit=MAX_OBJECT_BYTES)
    return change


def _new_value(current: Json, value: Json, key: str, creating: bool) -> Json:
    if operations.is_operation(value):
        return operations.apply(current, value, key, creating)
    return values.normalise(value)


def _set(change: Change, key: str, value: Json) -> None:
    if value is MISSING:
        change.body.pop(key, None)
        change.found.pop(key, None)
        return
    column_type = type_of(value)
    if column_type is not None:
        change.found[key] = (column_type, value)
        if column_type["type"] == "Relation":  # a plain stub declares the column
            change.body.pop(key, None)
            return
    change.body[key] = value


def _apply_inside(change: Change, key: str, value: Json, creating: bool, own: set[str]) -> None:
    """A dotted key: set or operate inside an object field, creating levels on the way; raise 111 where there is none."""
    path = key.split(".")
    if len(path) > MAX_LEVELS or not all(path) or any("$" in part or part == "__type" for part in path):
        raise StorageError(Code.BAD_KEY, key=key)
    top = change.body.get(path[0])
    if top is not None and (not isinstance(top, dict) or "__type" in top):
        raise values.wrong_type(path[0], value, values.type_name(top), "Object")
    root = top if top is not None and path[0] in own else _copied(top or {})  # one copy for all keys that lead into it
    inner = root
    for part in path[1:-1]:
        following = inner.get(part)
        if following is None:
            following = {}
        elif not isinstance(following, dict) or "__type" in following:
            raise values.wrong_type(key, value, values.type_name(following), "Object")
        inner[part] = following
        inner = following
    result = _new_value(inner.get(path[-1], MISSING), value, key, creating)
    if result is MISSING:
        inner.pop(path[-1], None)
        if top is None:
            return
    else:
        inner[path[-1]] = result
    _set(change, path[0], root)
    own.add(path[0])


def _copied(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    return value


def _apply_to_relation(change: Change, key: str, value: Json, column: Column | None) -> None:
    """A relation column: operations change its rows; a plain stub, `{}` and null change nothing."""
    if not operations.is_operation(value):
        value = values.normalise(value)
        if value not in ({}, None) and type_of(value) != column:
            raise values.wrong_type(key, value, "Relation", values.type_name(value))
        return
    if value["__op"] == "Delete":
        change.cleared.append(key)
        return
    if value["__op"] == "Batch" and not value.get("ops"):
        return
    if not operations.is_relation(value):
        raise values.wrong_type(key, value, "Relation", str(value["__op"]))
    for adds, class_name, ids in operations.relation_changes(value):
        if column is not None and column["className"] != class_name:
            raise values.wrong_type(key, class_name, column["className"], class_name)
        column = {"type": "Relation", "className": class_name}
        change.found[key] = (column, class_name)
        change.relations.append((key, adds, class_name, ids))
