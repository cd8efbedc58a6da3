"""Schemas: the classes and the types of their columns, for the master. Protocol section 2.2."""
from leanstorage import classes
from leanstorage.calls import ok


def all_schemas(call):
    """GET /schemas: `{"C": {"field": {"type": "String"}}}`; pointers and relations have a `className`."""
    call.needs_master()

    def work(transaction):
        return {name: _columns(transaction.class_info(name)) for name in transaction.class_names()}

    return ok(call.service.store.read(work))


def schema(call, class_name):
    """GET /schemas/C: the columns of one class. Raises 101."""
    call.needs_master()
    return ok(call.service.store.read(lambda transaction: _columns(classes.existing(transaction, class_name))))


def _columns(info):
    return {**classes.BUILT_IN_COLUMNS, **info["columns"]}
