"""Classes: their columns, whose types the first values fix, and what their permissions allow.

The info of a class is `{"columns": {key: {"type", "className"?}}, "permissions": {action: rule}, "default_acl": ...,
"indexes"?: [[key, ...], ...], "options"?: {key: {"default"?, "required"?: true,
"auto_increment"?: true, "hidden"?: true}}}`.
A rule is absent (everybody), or `{"users": bool, "names": [...]}`: any logged-in user, or these ids and "role:NAME"s.
Protocol sections 1.5 and 3.3.
"""

from collections.abc import Collection

from leanstorage.rules import values
from leanstorage.rules.call import Call
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Json, Principals, Rights, Transaction


FLAGS = ("required", "auto_increment", "hidden")  # the options of a column that are true or absent
Column = dict[str, str]  # the type of a column, as store.type_of has it
Found = dict[str, tuple[Column, Json]]  # key -> (type, value) of what a write brings
MAX_COLUMNS = 300
MAX_CLASSES = 500
NOBODY: Document = {"users": False, "names": []}
DEFAULT_COLUMNS: dict[str, dict[str, Column]] = {
    "_User": {
        "authData": {"type": "Object"},
        "email": {"type": "String"},
        "emailVerified": {"type": "Boolean"},
        "mobilePhoneNumber": {"type": "String"},
        "mobilePhoneVerified": {"type": "Boolean"},
        "username": {"type": "String"},
    },
    "_Role": {
        "name": {"type": "String"},
        "roles": {"type": "Relation", "className": "_Role"},
        "users": {"type": "Relation", "className": "_User"},
    },
    "_File": {
        "bucket": {"type": "String"},
        "key": {"type": "String"},
        "metaData": {"type": "Object"},
        "mime_type": {"type": "String"},
        "name": {"type": "String"},
        "url": {"type": "String"},
    },
    "_Followee": {
        "followee": {"type": "Pointer", "className": "_User"},
        "user": {"type": "Pointer", "className": "_User"},
    },
    "_Follower": {
        "follower": {"type": "Pointer", "className": "_User"},
        "user": {"type": "Pointer", "className": "_User"},
    },
}
DEFAULT_PERMISSIONS: dict[str, Document] = {
    "_User": {"find": NOBODY},
    "_Installation": {"find": NOBODY, "get": NOBODY},
}
BUILT_IN_COLUMNS: dict[str, Column] = {
    "ACL": {"type": "ACL"},
    "createdAt": {"type": "Date"},
    "objectId": {"type": "String"},
    "updatedAt": {"type": "Date"},
}


def empty_info(name: str) -> Document:
    """The info of a class that nothing was stored in yet."""
    return {
        "columns": dict(DEFAULT_COLUMNS.get(name, {})),
        "permissions": dict(DEFAULT_PERMISSIONS.get(name, {})),
        "default_acl": None,
        "is_new": True,  # not stored yet
    }


def load(transaction: Transaction, name: str, lock: bool = False) -> Document | None:
    """The info of a class, or None when nothing was ever stored in it; system classes always exist."""
    info: Document | None = transaction.class_info(name, lock)
    if info is None and name in values.SYSTEM_CLASSES:
        info = empty_info(name)
    return info


def existing(transaction: Transaction, name: str, lock: bool = False) -> Document:
    """The info of a class; raise 101."""
    info = load(transaction, name, lock)
    if info is None:
        raise StorageError(Code.NO_CLASS)
    return info


def for_writing(transaction: Transaction, call: Call, name: str) -> Document:
    """The info of a class that the caller is about to create an object in, a new one if need be. Raises 119, 154."""
    info = load(transaction, name)
    if info is None:
        if call.service.options.class_create == "master" and not call.caller.is_master:
            raise StorageError(Code.CLASS_CREATION_OFF, name=name)
        if len(transaction.class_names()) >= MAX_CLASSES:
            raise StorageError(Code.TOO_MANY_CLASSES, limit=MAX_CLASSES)
        info = empty_info(name)
    return info


def check_permission(info: Document, action: str, principals: Principals) -> None:
    """Raise 403 unless one of `principals` may do `action`; None as principals is the master."""
    if principals is None:
        return
    rule = info["permissions"].get(action)
    if rule is None:
        return
    is_user = len(principals) > 1
    if not (rule.get("users") and is_user) and not set(rule.get("names", ())) & set(principals):
        raise StorageError(Code.CLASS_FORBIDDEN, action=action)


def may(info: Document, action: str, principals: Principals) -> bool:
    try:
        check_permission(info, action, principals)
    except StorageError:
        return False
    return True


def add_columns(transaction: Transaction, name: str, info: Document, found: Found, principals: Principals) -> None:
    """Check a change's columns against the class and store new ones.

    Raises 111 for another type than the column has, 403 where adding fields is closed, 1 for too many columns.
    """
    if not info.get("is_new") and _check_types(info["columns"], found):
        return
    # Another writer may have added columns meanwhile.
    info = transaction.class_info(name, lock=True) or info
    columns, is_new = info["columns"], info.pop("is_new", False)
    _check_types(columns, found)
    if not is_new:
        check_permission(info, "add_fields", principals)
    for key, (column_type, _) in found.items():
        columns.setdefault(key, column_type)
    if len(columns) > MAX_COLUMNS:
        raise StorageError(Code.TOO_MANY_FIELDS, class_name=name, limit=MAX_COLUMNS)
    transaction.save_class(name, info)


def _check_types(columns: dict[str, Column], found: Found) -> bool:
    """Whether every found key is a column already; raise 111 where it is one of another type."""
    complete = True
    for key, (column_type, value) in found.items():
        known = columns.get(key)
        if known is None:
            complete = False
        elif known != column_type:
            raise values.wrong_type(key, value, describe(known), describe(column_type))
    return complete


def describe(column_type: Column) -> str:
    """A type as error 111 names it."""
    if column_type["type"] == "Pointer":
        return f"*{column_type['className']}"
    return column_type["type"]


def relations(info: Document) -> dict[str, Document]:
    """The stubs that every object of a class shows: {key: {"__type": "Relation", "className"}}."""
    return {
        key: {"__type": "Relation", "className": column["className"]}
        for key, column in info["columns"].items()
        if column["type"] == "Relation"
    }


def with_defaults(info: Document, fields: Document) -> Document:
    """The fields of a new object with the defaults of the columns that it brings no value for."""
    if not info.get("options"):
        return fields
    options = {key: one for key, one in info["options"].items() if not one.get("auto_increment")}
    return {**{key: one["default"] for key, one in options.items() if "default" in one and key not in fields}, **fields}


def check_required(info: Document, body: Document, written: Collection[str] | None = None) -> None:
    """Raise 113 for an object without a value of a required column; of a change only what was `written` counts."""
    for key, one in info.get("options", {}).items():
        if one.get("required") and body.get(key) is None and (written is None or key in written):
            raise StorageError(Code.REQUIRED_FIELD, key=key)


def default_acl(info: Document, user_id: str | None) -> Rights | None:
    """The ACL of a new object that brought none; "owner" in a class default is the session's user."""
    rights = info.get("default_acl")
    if rights is None:
        return None
    if user_id is None:
        return {name: right for name, right in rights.items() if name != "owner"}
    return {(user_id if name == "owner" else name): right for name, right in rights.items()}
