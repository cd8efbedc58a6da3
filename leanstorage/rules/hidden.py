"""Hidden columns: what an operator shows to nobody but the master, and what nobody else may ask by.

A condition or an order on a hidden column is refused before it is evaluated: neither results nor times tell its values.
"""

from leanstorage.rules import classes
from leanstorage.rules.call import Call
from leanstorage.rules.where import bad
from leanstorage.store import Document, Node, Group, Not, Path, Query, Transaction

NONE: frozenset[str] = frozenset()


def columns(info: Document) -> frozenset[str]:
    """The hidden columns of a class."""
    options = info.get("options")
    return frozenset(key for key, one in options.items() if one.get("hidden")) if options else NONE


def columns_for(call: Call, info: Document) -> frozenset[str]:
    """The columns that are not shown to whoever made this call; the master and the app's own engine see all."""
    return NONE if call.caller.is_master or call.is_for_engine else columns(info)


def check_query(transaction: Transaction, query: Query) -> None:
    """Raise 102 where a query that is not the master's asks by a hidden column, here or in a query within it."""
    if query.principals is None:
        return
    names = _columns_of(transaction, query.class_name)
    for path, _ in query.order:
        _check(names, path)
    _check_node(transaction, names, query.where)


def check_key(info: Document, key: str) -> None:
    """Raise 102 for a hidden column."""
    _check(columns(info), (key,))


def _check_node(transaction: Transaction, names: frozenset[str], node: Node) -> None:
    if isinstance(node, Group):
        for child in node.nodes:
            _check_node(transaction, names, child)
        return
    if isinstance(node, Not):
        _check_node(transaction, names, node.node)
        return
    _check(names, node.path)
    if node.op == "in_query":
        check_query(transaction, node.operand)
    elif node.op == "select":
        key, query = node.operand
        _check(_columns_of(transaction, query.class_name), key)
        check_query(transaction, query)
    elif node.op == "related":
        owner_class, _, key = node.operand
        _check(_columns_of(transaction, owner_class), (key,))


def _columns_of(transaction: Transaction, class_name: str) -> frozenset[str]:
    info = classes.load(transaction, class_name)
    return NONE if info is None else columns(info)


def _check(names: frozenset[str], path: Path) -> None:
    if names and path and path[0] in names:
        raise bad(f"'{path[0]}' is not shown to clients")
