"""Queries that run as several statements, because no single plan would be good.

The ids that a sub-query finds are fetched first, so that an index on pointers finds them. The nearest points are looked
for within a small distance first, where the index on points says what lies there.
"""
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

from leanstorage.store import Condition, Document, Group, Node, Not, Query, QueryTimeout, grid
from leanstorage.store.choice import top_conditions, top_nodes

MAX_IDS = 1000  # of a sub-query; one that finds more stays a part of the statement
NEWEST = 1000  # rows
LIST_NEWEST = 20_000  # of a long list: what has fewer than twenty there has few enough for an index
LONG_LIST = 100  # values
DEEP = 1000  # rows that are skipped
Ids = Callable[[Query, int], list[str]]  # of the first so many objects of a query


class Resolver:
    """A query's sub-queries replaced by what they find; all that is asked for it has one budget of time."""

    def __init__(self, known: Callable[[str], Document], ids: Ids, seconds: float) -> None:
        self._known, self._ids = known, ids
        self._end = time.monotonic() + seconds

    def resolved(self, query: Query) -> Query:
        where = self._node(query.where, query.class_name)
        return query if where is query.where else replace(query, where=where, comes_again=False)

    def _node(self, node: Node, class_name: str) -> Node:
        if isinstance(node, Not):
            inside = self._node(node.node, class_name)
            return node if inside is node.node else Not(inside)
        if isinstance(node, Group):
            nodes = tuple(self._node(child, class_name) for child in node.nodes)
            return node if all(new is old for new, old in zip(nodes, node.nodes, strict=True)) else Group(node.op, nodes)
        if node.op != "in_query" or len(node.path) > 1:
            return node
        column = self._known(class_name)["columns"].get(node.path[0], {})
        inner: Query = node.operand
        if column.get("type") != "Pointer" or column["className"] != inner.class_name:
            return node
        if time.monotonic() > self._end:
            raise QueryTimeout
        inner = self.resolved(inner)
        ids = self._ids(inner, MAX_IDS + 1)
        if len(ids) > MAX_IDS:
            return replace(node, operand=inner)
        kind = {"__type": "Pointer", "className": inner.class_name}
        pointers = [{**kind, "objectId": one} for one in ids]
        return Condition("eq", node.path, pointers[0]) if len(ids) == 1 else Condition("in", node.path, pointers)


def past_skipped(query: Query, execute: Callable[[str, list[Any]], list[tuple[Any, ...]]]) -> Query:
    """A query of all objects in the order of creation that skips many, as one that begins behind them.

    They are counted in the index on that order alone, where the statement itself would read each.
    """
    order = query.order or ((("createdAt",), False),)
    is_of_all = isinstance(query.where, Group) and query.where.op == "and" and not query.where.nodes and query.principals is None
    if query.skip < DEEP or not is_of_all or query.near or len(order) > 1 or order[0][0] != ("createdAt",):
        return query
    descending = order[0][1]
    word = " DESC" if descending else ""
    text = f"SELECT created, seq FROM objects WHERE class = ? ORDER BY created{word}, seq{word} LIMIT 1 OFFSET ?"
    last = execute(text, [query.class_name, query.skip - 1])
    if not last:
        return replace(query, where=Group("or", ()), comes_again=False)
    [(created, seq)] = last
    here = Condition("lte" if descending else "gte", ("createdAt",), created)
    behind = Condition("behind", (), (order, ["", created, 0, seq, {}]))
    return replace(query, where=Group("and", (here, behind)), order=order, skip=0, comes_again=False)


def first_newest(query: Query, served: Collection[str], known: Callable[[str], Document]) -> Query | None:
    """A query of the newest rows alone, for PostgreSQL, which knows of no column without an index how often a value comes.

    If matches are frequent, the newest rows hold enough of them, where the planner would collect and sort them all. None if
    the order or an index makes that needless.
    """
    first, *_ = query.order or ((("createdAt",), False),)
    if query.near or first[0] != ("createdAt",) or not query.limit or query.limit + query.skip > NEWEST:
        return None
    columns = known(query.class_name)["columns"]
    guessed = False
    for node in top_conditions(query.where):
        if node.path in (("objectId",), ()):
            return None
        if node.op == "in" and len(node.operand) > LONG_LIST:
            return replace(query, newest=LIST_NEWEST, comes_again=False)
        is_array = len(node.path) == 1 and columns.get(node.path[0], {}).get("type") == "Array"
        guessed = guessed or (node.op in ("eq", "all") and (is_array or node.path[0] not in served))
    return replace(query, newest=NEWEST, comes_again=False) if guessed and query.limit + query.skip <= NEWEST // 10 else None


def nearer(query: Query, known: Callable[[str], Document]) -> Iterator[tuple[Query, bool]]:
    """(a query that asks for less, whether its answer is whole even if it is short), the query itself being the last.

    One that yields as many rows as its limit is answered: all that is nearer than its distance was looked at.
    """
    near = next((node for node in top_conditions(query.where) if node.op == "near"), None)
    info = known(query.class_name)
    is_indexed = near is not None and len(near.path) == 1 and [near.path[0]] in info.get("indexes", [])
    if near is None or not is_indexed or info["columns"].get(near.path[0], {}).get("type") != "GeoPoint":
        yield query, True
        return
    latitude, longitude, least, greatest = near.operand
    bound = grid.RADII[-1] * 1000 if greatest is None else greatest
    radii = grid.RADII if query.near == (near.path, latitude, longitude) and query.limit and not query.order else ()
    others = [node for node in top_nodes(query.where) if node is not near]
    for radius in (*(radius for radius in radii if radius < bound), bound):
        cells = grid.ranges(latitude, longitude, max(radius, 0.0) + 1e-9)
        if cells is None:
            break
        within = Condition("near", near.path, (latitude, longitude, least, radius))
        where = Group("and", (within, *others))
        yield replace(query, where=where, cells=(near.path[0], cells), comes_again=False), radius == bound
    yield query, True
