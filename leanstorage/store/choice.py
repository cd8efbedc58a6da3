"""Which keys of a query an index can serve, and for SQLite, which knows nothing of its data, by which index."""
from collections.abc import Sequence
from itertools import takewhile

from leanstorage.store import Condition, Group, Node, Query

FEW = 3000  # objects that are found by an index and then sorted, rather than looked for in the order asked for
RANGES = frozenset(["lt", "lte", "gt", "gte", "prefix"])
Indexes = Sequence[Sequence[str]]  # the keys of each


def top_nodes(where: Node) -> tuple[Node, ...]:
    """The nodes all of which must hold."""
    return where.nodes if isinstance(where, Group) and where.op == "and" else (where,)


def top_conditions(where: Node) -> list[Condition]:
    return [node for node in top_nodes(where) if isinstance(node, Condition)]


def keys_of(where: Node, ops: frozenset[str]) -> set[str]:
    """Whole columns on which every match must meet a condition of one of `ops`; a list with null in it is none."""
    return {
        node.path[0]
        for node in top_conditions(where)
        if node.op in ops and len(node.path) == 1 and node.operand is not None and not (node.op == "in" and None in node.operand)
    }


def served_keys(where: Node, indexes: Indexes) -> frozenset[str]:
    """Keys that some index finds: those at its beginning that must equal a value, and the next one."""
    if not indexes:
        return frozenset()
    equal = keys_of(where, frozenset(["eq"]))
    found: set[str] = set()
    for keys in indexes:
        first = list(takewhile(equal.__contains__, keys))
        found.update(first, keys[len(first) : len(first) + 1])
    return frozenset(found)


def by_order(query: Query, indexes: Indexes) -> tuple[Sequence[str], int]:
    """(keys of the index with most equal values of a query at its beginning, their number); () and 0 for none."""
    equal = keys_of(query.where, frozenset(["eq"]))
    rated = [(len(list(takewhile(equal.__contains__, keys))), _goes_on(query, keys, equal), keys) for keys in indexes]
    number, _, keys = max(rated, key=lambda one: one[:2], default=(0, False, ()))
    return (keys, number) if number else ((), 0)


def _goes_on(query: Query, keys: Sequence[str], equal: set[str]) -> bool:
    """Whether an index goes on, behind the equal keys, in the order that is asked for."""
    rest = [key for key in keys if key not in equal]
    wanted = [path[0] for path, _ in query.order if len(path) == 1 and path != ("createdAt",)]
    return rest[: len(wanted)] == wanted if wanted else not rest


def by_range(query: Query, indexes: Indexes) -> list[tuple[Sequence[str], str, Node]]:
    """(keys of an index, one of them, what is asked of that one: a range or a list), for each that can serve it."""
    found: list[tuple[Sequence[str], str, Node]] = []
    equal = keys_of(query.where, frozenset(["eq"]))
    asked: dict[str, list[Node]] = {}
    for node in top_conditions(query.where):
        if len(node.path) == 1 and (node.op in RANGES or (node.op == "in" and None not in node.operand)):
            asked.setdefault(node.path[0], []).append(node)
    for keys in indexes:
        key = next((key for key in keys if key not in equal), "")
        if key in asked:
            found.append((keys, key, Group("and", tuple(asked[key]))))
    return found
