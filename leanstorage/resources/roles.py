"""Roles: named groups of users and of other roles. Protocol section 3.7."""
import re

from leanstorage.resources import objects
from leanstorage.rules import write
from leanstorage.rules.call import Answer, Call
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Row, Transaction
from leanstorage.resources.third_parties import unique_key


NAME = re.compile(r"(?! )(?!.*  )(?!.* $)[0-9A-Za-z_ -]{1,200}")  # no two names that look the same
KIND = "unique:_Role:name"


def create(call: Call) -> Answer:
    """POST of a role: it needs a unique name and an ACL. Raises 1, 119, 137, 139."""
    check_new(call, write.clean(call.json_body(), creating=True))
    return objects.create(call, "_Role", RULES)


def check_new(call: Call, fields: Document) -> None:
    """Raise 1, 119 or 139 for fields that no role may have, or a caller that may not create roles."""
    if call.service.options.role_create == "master" and not call.caller.is_master:
        raise StorageError(Code.NOT_FOR_CLIENTS, detail="Roles are created with the master key.")
    if not isinstance(fields.get("name"), str) or not NAME.fullmatch(fields["name"]):
        raise StorageError(Code.BAD_ROLE_NAME)
    if not isinstance(fields.get("ACL"), dict):
        raise StorageError(Code.ROLE_NEEDS_ACL)


def update(call: Call, role_id: str) -> Answer:
    """PUT: its name never changes, 117."""
    return objects.update(call, "_Role", role_id, RULES)


def delete(call: Call, role_id: str) -> Answer:
    return objects.delete(call, "_Role", role_id, RULES)


def _admit(transaction: Transaction, call: Call, row: Row | None, fields: Document | None) -> Document | None:
    if row is not None and fields and "name" in fields and fields["name"] != row.body.get("name"):
        raise StorageError(Code.READ_ONLY_KEY, key="name")
    return fields


def _store(transaction: Transaction, call: Call, old: Row | None, new: Row, fields: Document) -> None:
    if old is None and not transaction.add_record(KIND, unique_key(new.body["name"]), {"id": new.id}):
        raise StorageError(Code.DUPLICATE_VALUE, key="name")


def _forget(transaction: Transaction, row: Row) -> None:
    if isinstance(row.body.get("name"), str):
        transaction.delete_record(KIND, unique_key(row.body["name"]))


RULES = objects.Rules(_admit, _store, _forget)
