"""Schemas: the classes and the types of their columns, for the master. Protocol section 2.2."""

from leanstorage.rules import classes
from leanstorage.rules.call import Answer, Call, ok
from leanstorage.store import Document, Transaction


def all_schemas(call: Call) -> Answer:
    """GET /schemas: `{"C": {"field": {"type": "String"}}}`; pointers and relations have a `className`."""
    call.needs_master()

    def work(transaction: Transaction) -> dict[str, Document]:
        return {name: _columns(classes.existing(transaction, name)) for name in transaction.class_names()}

    return ok(call.service.store.read(work))


def schema(call: Call, class_name: str) -> Answer:
    """GET /schemas/C: the columns of one class. Raises 101."""
    call.needs_master()
    return ok(call.service.store.read(lambda transaction: _columns(classes.existing(transaction, class_name))))


def _columns(info: Document) -> Document:
    """The columns with their options, so that a pull from here brings these along: `{"type": "Number", "required": true}`."""
    columns: Document = {**classes.BUILT_IN_COLUMNS, **info["columns"]}
    return columns | {key: {**columns[key], **one} for key, one in info.get("options", {}).items() if key in columns}
