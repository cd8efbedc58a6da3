"""Rows that say who did something: a client writes them in its own name. Protocol sections 2.2 and 5.7.

The SDKs make such rows by `/statuses` and `/users/ID/friendship/ID`. As rows of a class anybody could make them in the
name of somebody else.
"""
from functools import partial

from leanstorage.resources import objects
from leanstorage.rules.call import Call
from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.values import pointer
from leanstorage.store import Document, Json, Row, Transaction

DOERS = {"_Status": "source", "_Followee": "user", "_Follower": "follower"}  # the key of who sent it, or who follows


def _admit(key: str, transaction: Transaction, call: Call, row: Row | None, fields: Document) -> Document:
    """The fields, with the caller as the doer of a new row. Raises 206 without a session, 403 for another's name."""
    is_named = any(name.split(".")[0] == key for name in fields)
    if call.caller.is_master or row is not None and not is_named:
        return fields
    user_id = call.caller.user_id
    if user_id is None:
        raise StorageError(Code.NO_SESSION)
    if is_named and not _is_user(fields.get(key), user_id):
        raise StorageError(Code.OTHER_USER)
    own = {**fields, key: pointer("_User", user_id)}
    if row is None and key == "source":
        own.setdefault("ACL", {"*": {"read": True}, user_id: {"read": True, "write": True}})
    return own


def _is_user(value: Json, user_id: str) -> bool:
    return isinstance(value, dict) and (value.get("className"), value.get("objectId")) == ("_User", user_id) and "__op" not in value


RULES = {name: objects.Rules(admit=partial(_admit, key)) for name, key in DOERS.items()}
