"""Schemas: the classes and the types of their columns, for the master. Protocol section 2.2."""

from leanstorage.rules import classes
from leanstorage.rules.call import Answer, Call, ok
from leanstorage.rules.classes import Column
from leanstorage.store import Document, Transaction


def all_schemas(call: Call) -> Answer:
    """GET /schemas: `{"C": {"field": {"type": "String"}}}`; pointers and relations have a `className`."""
    call.needs_master()

    def work(transaction: Transaction) -> dict[str, dict[str, Column]]:
        return {name: _columns(classes.existing(transaction, name)) for name in transaction.class_names()}

    return ok(call.service.store.read(work))


def schema(call: Call, class_name: str) -> Answer:
    """GET /schemas/C: the columns of one class. Raises 101."""
    call.needs_master()
    return ok(call.service.store.read(lambda transaction: _columns(classes.existing(transaction, class_name))))


def _columns(info: Document) -> dict[str, Column]:
    return {**classes.BUILT_IN_COLUMNS, **info["columns"]}
