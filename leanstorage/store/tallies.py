"""Kept counts. An index of `ACL`, alone or before one key, holds how many objects have each value, public ones apart.

Every write changes them in its own transaction, so they are exact. Nothing else counts a frequent value without a look at
all that have it. What somebody may read beside the public objects is found by the names in their ACLs.
"""
from collections.abc import Sequence

from leanstorage.store import Condition, Query
from leanstorage.store.choice import top_nodes
from leanstorage.store.compiler import COMPARISONS, Compiler
from leanstorage.store.fragments import INDEXED_TYPES, Fragment, build, join

ACL = "ACL"
EVERYBODY = ("*",)


def is_tally(keys: Sequence[str]) -> bool:
    return keys[:1] == [ACL]


def check_keys(compiler: Compiler, class_name: str, keys: Sequence[str]) -> None:
    """Raise ValueError for keys behind the ACL by which nothing can be counted."""
    if len(keys) > 2:
        raise ValueError("an index that counts has ACL and at most one other key")
    for key in keys[1:]:
        column_type = compiler.type_of_column(class_name, (key,))
        if column_type not in INDEXED_TYPES:
            what = f"of type {column_type}" if column_type else "not a column of this class"
            raise ValueError(f"{key} cannot be counted: it is {what}")


def count(compiler: Compiler, query: Query) -> Fragment | None:
    """A statement that adds up what is kept of a query; None where that is not all that it asks for."""
    kept = compiler.tallies(query.class_name)
    served = _served(compiler, query, kept)
    needs_readers = query.principals not in (None, EVERYBODY)
    if served is None or (needs_readers and [ACL] not in kept):
        return None
    keys, tests = served
    if query.principals is not None:
        tests = [*tests, ("is_public", [])]
    total = build(f"(SELECT CAST(coalesce(sum(n), 0) AS bigint) FROM {compiler.tally(query.class_name, keys)} WHERE {{}})", join("AND", tests))
    if not needs_readers:
        return build("SELECT {}", total)
    mine = compiler.shared(query.class_name, "o", list(query.principals or ()))
    return compiler.whole(build("SELECT {} + (SELECT count(*) FROM {} WHERE {})", total, mine, compiler.matching(query, "o")))


def _served(compiler: Compiler, query: Query, kept: Sequence[Sequence[str]]) -> tuple[Sequence[str], list[Fragment]] | None:
    """(the keys of the index that has the counts of a query, tests of its values)."""
    nodes = top_nodes(query.where)
    if not kept or query.near or query.cells or not all(isinstance(node, Condition) for node in nodes):
        return None
    conditions = [node for node in nodes if isinstance(node, Condition)]
    if not conditions:
        return min(kept, key=len), []
    keys = [ACL, *dict.fromkeys(node.path[0] for node in conditions if len(node.path) == 1)]
    if keys not in kept or any(len(node.path) != 1 for node in conditions):
        return None
    tests = [_test(compiler, query.class_name, node) for node in conditions]
    found = [test for test in tests if test is not None]
    return (keys, found) if len(found) == len(tests) else None


def _test(compiler: Compiler, class_name: str, node: Condition) -> Fragment | None:
    """A condition on the key as one on the values that are kept; None for one that they do not answer."""
    column = compiler.known(class_name)["columns"][node.path[0]]
    operands = node.operand if node.op == "in" else [node.operand]
    if not all(compiler.is_tallied(column, operand) for operand in operands):
        return None
    if node.op in ("eq", "in"):
        return join("OR", [compiler.tally_test("=", operand) for operand in operands])
    return compiler.tally_test(COMPARISONS[node.op], node.operand) if node.op in COMPARISONS and column["type"] == "Number" else None
