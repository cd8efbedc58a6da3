"""The shape of a query, for logs and for advice on indexes: its keys and operators, never a value of a client's.

A shape is a plain document: `{"class": "Post", "where": ["flag eq", "score gt"], "order": ["-createdAt"]}`. Parts of an
$or are lists under "or", negated parts are under "not", and a sub-query is a shape after its key.
"""
import json

from leanstorage.store import Document, Group, Json, Node, Not, Query

MAX_NODES = 20  # of one level: a hundred parts of an $or say no more than the first
MAX_LEVELS = 4
MAX_KEY = 100  # characters
MAX_TEXT = 4000  # characters of a line


def shape(query: Query) -> Document:
    """The document of a query, without repetitions."""
    found: Document = {"class": query.class_name, "where": _nodes(query.where, 0)}
    if query.order:
        found["order"] = [("-" if descending else "") + _key(path) for path, descending in query.order[:MAX_NODES]]
    if query.skip:
        found["skip"] = True
    if query.limit == 0:  # nothing is listed
        found["count"] = True
    return found


def shape_text(query: Query) -> str:
    """The same as one line of ASCII, whatever a key holds; of one that is too long the class alone."""
    text = json.dumps(shape(query), separators=(",", ":"))
    return text if len(text) <= MAX_TEXT else json.dumps({"class": query.class_name, "where": ["more"]}, separators=(",", ":"))


def _nodes(where: Node, level: int) -> list[Json]:
    nodes = where.nodes if isinstance(where, Group) and where.op == "and" else (where,)
    found: dict[str, Json] = {}
    for node in nodes:
        one = _node(node, level)
        found.setdefault(json.dumps(one), one)
        if len(found) >= MAX_NODES:
            break
    return list(found.values())


def _node(node: Node, level: int) -> Json:
    if level >= MAX_LEVELS:
        return "more"
    if isinstance(node, Group):
        parts = {json.dumps(part): part for part in (_nodes(child, level + 1) for child in node.nodes[:MAX_NODES])}
        return {node.op: list(parts.values())}
    if isinstance(node, Not):
        return {"not": _nodes(node.node, level + 1)}
    name = f"{_key(node.path)} {node.op}".strip()
    if node.op == "in_query":
        return {name: _inner(node.operand, level)}
    if node.op == "select":
        return {name: _inner(node.operand[1], level)}
    return name


def _inner(query: Query, level: int) -> Document:
    return {"class": query.class_name, "where": _nodes(query.where, level + 1)}


def _key(path: tuple[str, ...]) -> str:
    return ".".join(path)[:MAX_KEY]
