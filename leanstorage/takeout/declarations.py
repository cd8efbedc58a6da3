"""What LeanCloud's schema files say of a class beside the types of its columns, in the form that this server keeps.

`{"nid": {"type": "Number", "auto_increment": true}, "state": {"type": "String", "required": true, "default": "new"}}`, and
indexes as `{"key": {"nid": 1}, "unique": true}`, in which `author.$id` is the pointer `author`.
"""
from dataclasses import dataclass, field
from typing import TypeGuard

from leanstorage.rules import acl, classes, numbering, uniques, values
from leanstorage.rules.errors import StorageError
from leanstorage.store import Document, Json, Rights, type_of
from leanstorage.takeout.formats import Columns

ACTIONS = frozenset(["add_fields", "create", "delete", "update", "find", "get"])


@dataclass
class Indexes:
    """The keys of indexes: unique ones that can be made, unique ones that cannot, and others, the last two for people."""

    unique: list[list[str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)


def options(class_name: str, described: Columns, columns: Columns) -> Document:
    """The options of a class's own columns that a schema file has described; `columns` are those that are there."""
    found: Document = {}
    for key, column in described.items():
        known = columns.get(key)
        if key in classes.BUILT_IN_COLUMNS or not values.STORED_KEY.fullmatch(key):
            continue
        wanted: Document = {"hidden": True} if column.get("hidden") is True else {}
        # One whose type is none here comes with its first value, and is hidden then.
        if known is not None and known["type"] != "Relation" and key not in classes.DEFAULT_COLUMNS.get(class_name, {}):
            wanted |= _value_options(class_name, column, known)
        if wanted:
            found[key] = wanted
    return found


def _value_options(class_name: str, column: Document, known: Document) -> Document:
    wanted: Document = {"required": True} if column.get("required") is True else {}
    if column.get("auto_increment") is True and numbering.may_count(class_name, known):
        wanted["auto_increment"] = True
    default = _default(column, known)
    if default is not None:
        wanted["default"] = default
    return wanted


def lost_defaults(class_name: str, described: Columns) -> list[str]:
    """The columns whose default is no value of theirs."""
    defaulted = [key for key, column in described.items() if column.get("default") is not None]
    lost = [key for key in defaulted if key not in classes.BUILT_IN_COLUMNS and _default(described[key], described[key]) is None]
    return ["ACL", *lost] if "ACL" in defaulted and not _is_acl(described["ACL"]["default"]) else lost


def default_acl(described: Columns) -> Rights | None:
    """The ACL of new objects, which stands with the column `ACL`; `_owner` there is whoever makes the object."""
    value = described.get("ACL", {}).get("default")
    if not _is_acl(value):
        return None
    return acl.normalise({"owner" if name == "_owner" else name: rights for name, rights in value.items()})


def _is_acl(value: Json) -> TypeGuard[Document]:
    try:
        acl.normalise(value)
    except StorageError:
        return False
    return isinstance(value, dict)


def permissions(value: Json) -> Document | None:
    """The permissions of a class, `{"find": {"*": true}, "create": {"onlySignInUsers": true}, "get": {"roles": [...], "users":
    [...]}}`, in which no name at all is nobody; None for another form.
    """
    found: Document = {}
    if not isinstance(value, dict):
        return None
    for action, rule in value.items():
        if action not in ACTIONS or not isinstance(rule, dict) or not rule.keys() <= {"*", "onlySignInUsers", "roles", "users"}:
            return None
        flags = [rule.get(name, False) for name in ("*", "onlySignInUsers")]
        names = [rule.get(name, []) for name in ("roles", "users")]
        if not all(isinstance(flag, bool) for flag in flags) or not all(_are_texts(one) for one in names):
            return None
        if not flags[0]:
            found[action] = {"users": flags[1], "names": [*(f"role:{name}" for name in names[0]), *names[1]]}
    return found


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def indexes(class_name: str, described: Columns, listed: Json) -> Indexes:
    """The indexes of a schema file that are in LeanCloud's form; those of `_id` are everybody's."""
    found = Indexes()
    for index in listed if isinstance(listed, list) else ():
        keys = index.get("key") if isinstance(index, dict) else None
        if not isinstance(keys, dict) or not keys or list(keys) == ["_id"]:
            continue
        own = [key.removesuffix(".$id") for key in keys]
        if index.get("unique") is not True:
            found.plain.append("+".join(own))
        elif _can_be_unique(class_name, described, own):
            found.unique.append(own)
        else:
            found.lost.append("+".join(own))
    return found


def _can_be_unique(class_name: str, described: Columns, keys: list[str]) -> bool:
    """Whether an index here means the same: in an array LeanCloud holds each element to be unique."""
    types = [described.get(key, {}).get("type", "Array") for key in keys]
    is_own = not class_name.startswith("_") and len(keys) <= uniques.MAX_KEYS
    return is_own and not {"Array", "Relation"} & set(types) and not set(keys) & classes.BUILT_IN_COLUMNS.keys()


def _default(column: Document, known: Document) -> Json:
    """The default of a column, None without one and for what is no value of its type."""
    try:
        value = values.normalise(column.get("default"))
    except StorageError:
        return None
    column_type = None if value is None else type_of(value)
    return value if column_type and all(known.get(name) == found for name, found in column_type.items()) else None
