"""Installations: the devices of push apps. They are stored, though nothing is pushed. Appendix C.8."""
from leanstorage.resources import objects
from leanstorage.rules import classes, values, write
from leanstorage.rules.call import Answer, Call, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.values import format_time
from leanstorage.rules.where import conjunction
from leanstorage.store import Condition, Document, Group, Query, Row, Transaction

NAMES = ("installationId", "deviceToken")  # either tells a device from all others


def create(call: Call) -> Answer:
    """POST: 201 for a new device; the row of a known one is updated, 200.

    A stranger learns only that a device is known; whoever has a device's token counts as that device.
    """
    fields = write.clean(call.json_body(), creating=True)
    object_id = find_known(call, fields)
    if object_id is None:
        return objects.create(call, "_Installation")
    row, _, _ = objects.store_change(call, "_Installation", object_id, fields)
    return ok({"objectId": row.id, "createdAt": format_time(row.created), "updatedAt": format_time(row.updated)})


def update(call: Call, object_id: str) -> Answer:
    """PUT: a device that is not stored under its id is found by its names, or stored under this id.

    Apps keep the id for as long as they are installed, and send the whole device along. Without a name of it: 404.
    """
    values.check_object_id(object_id)
    fields = write.clean(call.json_body(), creating=True)
    if not _names(fields) or objects.condition(call.query) is not None or call.service.store.read(lambda transaction: _is_stored(transaction, object_id)):
        return objects.update(call, "_Installation", object_id)
    known = find_known(call, fields)
    if known is not None:
        return objects.update(call, "_Installation", known)

    def work(transaction: Transaction) -> Row | None:
        if _is_stored(transaction, object_id):
            return None
        return objects.insert(transaction, call, "_Installation", fields, object_id=object_id)[0]  # which has no hooks

    row = call.service.store.write(work)
    if row is None:  # by another call meanwhile
        return objects.update(call, "_Installation", object_id)
    return ok({"updatedAt": format_time(row.updated), "objectId": row.id})


def _names(fields: Document) -> dict[str, str]:
    """What a device calls itself in these fields."""
    return {name: fields[name] for name in NAMES if isinstance(fields.get(name), str) and fields[name]}


def _is_stored(transaction: Transaction, object_id: str) -> bool:
    return transaction.get("_Installation", object_id) is not None


def find_known(call: Call, fields: Document) -> str | None:
    """The id of the row of this device; raise 1 without a name of it, 403 where none may be made.

    iOS posts its `objectId` along: by that, a device whose token has changed stays the same.
    """
    own_id = call.json_body().get("objectId")
    given = _names(fields)
    if not given:
        raise StorageError(Code.BAD_REQUEST, detail="An installation needs a deviceToken or an installationId.")
    nodes = tuple(Condition("eq", (name,), value) for name, value in given.items())

    def known(transaction: Transaction) -> str | None:
        info = classes.existing(transaction, "_Installation")
        classes.check_permission(info, "create", call.principals(transaction))
        if isinstance(own_id, str) and _is_stored(transaction, own_id):
            return own_id
        found = transaction.find(Query("_Installation", conjunction([Group("or", nodes)]), limit=1))
        return found[0].id if found else None

    return call.service.store.read(known)
