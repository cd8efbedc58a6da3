"""Classes: their columns, whose types the first values fix, and what their permissions allow.

The info of a class is `{"columns": {key: {"type", "className"?}}, "permissions": {action: rule}, "default_acl": ...,
"indexes"?: [[key, ...], ...]}`.
A rule is absent (everybody), or `{"users": bool, "names": [...]}`: any logged-in user, or these ids and "role:NAME"s.
Protocol sections 1.5 and 3.3.
"""
from leanstorage import values
from leanstorage.errors import Code, StorageError

MAX_COLUMNS = 300
MAX_CLASSES = 500
NOBODY = {"users": False, "names": []}
DEFAULT_COLUMNS = {
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
DEFAULT_PERMISSIONS = {"_User": {"find": NOBODY}}
BUILT_IN_COLUMNS = {
    "ACL": {"type": "ACL"},
    "createdAt": {"type": "Date"},
    "objectId": {"type": "String"},
    "updatedAt": {"type": "Date"},
}


def empty_info(name):
    return {
        "columns": dict(DEFAULT_COLUMNS.get(name, {})),
        "permissions": dict(DEFAULT_PERMISSIONS.get(name, {})),
        "default_acl": None,
        "is_new": True,  # not stored yet
    }


def load(transaction, name, lock=False):
    """The info of a class, or None when nothing was ever stored in it; system classes always exist."""
    info = transaction.class_info(name, lock)
    if info is None and name in values.SYSTEM_CLASSES:
        info = empty_info(name)
    return info


def existing(transaction, name):
    """The info of a class; raise 101."""
    info = load(transaction, name)
    if info is None:
        raise StorageError(Code.NO_CLASS)
    return info


def for_writing(transaction, call, name):
    """The info of a class that the caller is about to create an object in, made when there is none."""
    info = load(transaction, name)
    if info is None:
        if call.service.options.class_create == "master" and not call.caller.is_master:
            raise StorageError(Code.CLASS_CREATION_OFF, name=name)
        if len(transaction.class_names()) >= MAX_CLASSES:
            raise StorageError(Code.TOO_MANY_CLASSES, limit=MAX_CLASSES)
        info = empty_info(name)
    return info


def check_permission(info, action, principals):
    """Raise 403 unless one of `principals` may do `action`; None as principals is the master."""
    if principals is None:
        return
    rule = info["permissions"].get(action)
    if rule is None:
        return
    is_user = len(principals) > 1
    if not (rule.get("users") and is_user) and not set(rule.get("names", ())) & set(principals):
        raise StorageError(Code.CLASS_FORBIDDEN, action=action)


def may(info, action, principals):
    try:
        check_permission(info, action, principals)
    except StorageError:
        return False
    return True


def add_columns(transaction, name, info, found, principals):
    """Check a change's columns against the class and store new ones. `found`: {key: (type, value)}.

    Raises 111 for another type than the column has, 403 where adding fields is closed.
    """
    if not info.get("is_new") and _check_types(info["columns"], found):
        return
    # Somebody else may have added columns since the class was looked at.
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


def _check_types(columns, found):
    """Whether every found key is a column already; raise 111 where it is one of another type."""
    complete = True
    for key, (column_type, value) in found.items():
        known = columns.get(key)
        if known is None:
            complete = False
        elif known != column_type:
            raise values.wrong_type(key, value, describe(known), describe(column_type))
    return complete


def describe(column_type):
    """A type as error 111 names it."""
    if column_type["type"] == "Pointer":
        return f"*{column_type['className']}"
    return column_type["type"]


def relations(info):
    """The stubs that every object of a class shows: {key: {"__type": "Relation", "className"}}."""
    return {
        key: {"__type": "Relation", "className": column["className"]}
        for key, column in info["columns"].items()
        if column["type"] == "Relation"
    }


def default_acl(info, user_id):
    """The ACL of a new object that brought none; "owner" in a class default is the session's user."""
    rights = info.get("default_acl")
    if rights is None:
        return None
    return {
        (user_id if name == "owner" else name): right
        for name, right in rights.items()
        if name != "owner" or user_id is not None
    }
