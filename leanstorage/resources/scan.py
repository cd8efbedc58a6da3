"""Scan: every object of a class, page by page, for the master. Protocol section 3.6.

A cursor holds the whole query and the position in it, signed: no state is kept, and any process can continue.
"""
import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import replace

from leanstorage.resources import queries
from leanstorage.rules import classes, rendering
from leanstorage.rules.where import DEFAULT_LIMIT, bad, conjunction, parse_json, parse_limit, parse_order
from leanstorage.rules.call import Answer, Call, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Condition, Document, Json, Node, Not, Order, Row, Transaction, canonical_text, now


CURSOR_MS = 10 * 60 * 1000
MAX_PLACE = 1500  # characters of the values in a cursor, which is a part of a URL
RANGED = frozenset(["String", "Number", "Boolean", "Date"])


def scan(call: Call, class_name: str) -> Answer:
    """GET /scan/classes/C: `{"results": [...], "cursor": text or null}`, null at the end. Raises 1, 101, 102, 107."""
    call.needs_master()
    if call.query.get("cursor"):
        state = _opened(call, class_name, call.query["cursor"])
    else:
        where = call.query.get("where")
        where = parse_json(where) if isinstance(where, str) else (where or {})
        scan_key = call.query.get("scan_key") or "objectId"
        if not isinstance(scan_key, str):
            raise bad("scan_key must be a key")
        if isinstance(where, dict) and scan_key.lstrip("-+") in where and scan_key != "objectId":
            raise StorageError(Code.SCAN_KEY_IN_WHERE)
        limit = parse_limit(call.query.get("limit")) or DEFAULT_LIMIT
        names = ("keys", "returnACL")
        state = {"class": class_name, "where": where, "order": scan_key, "limit": limit, "skip": 0, "last": None, "place": None}
        state |= {name: call.query.get(name) for name in names}

    def work(transaction: Transaction) -> tuple[list[Row], list[Document]]:
        info = classes.existing(transaction, class_name)
        query = queries.parse(transaction, call, class_name, state["where"], None)
        order = parse_order(state["order"], class_name, True)
        if not order:
            raise bad("scan_key must be a key")
        place = state["place"]
        if place is None and state["last"]:
            last = transaction.get(class_name, state["last"])
            place = last and _place(order, last)
        skip = 0 if place else state["skip"]
        query = replace(query, order=order, limit=state["limit"], skip=skip, near=None)
        rows: list[Row] = []
        for in_order, nodes in [(order, [])] if place is None else _behind(info, order, place):
            where = conjunction([query.where, *nodes])
            rows += transaction.find(replace(query, where=where, order=in_order, limit=state["limit"] - len(rows)))
            if len(rows) == state["limit"]:
                break
        view = rendering.View(keys=state["keys"] or "", with_acl=state["returnACL"] in ("true", "1", True, 1))
        results = rendering.render(transaction, call, class_name, info, rows, None, view)
        for row, result in zip(rows, results):
            if class_name == "_File" and row.body.get("key"):
                result.pop("url", None)
        return rows, results

    rows, results = call.service.store.read(work)
    cursor = None
    if len(rows) == state["limit"]:
        cursor = _sealed(call, {**state, **_end(state, rows), "until": now() + CURSOR_MS})
    return ok({"results": results, "cursor": cursor})


def _place(order: Order, row: Row) -> list[Json]:
    """Where a page ends: what the order knows of its last row."""
    kept = {path[0]: row.body[path[0]] for path, _ in order if path[0] in row.body}
    return [row.id, row.created, row.updated, row.seq, kept]


def _end(state: Document, rows: list[Row]) -> Document:
    """How to continue: after the last row's values, even if the row changes or goes.

    If the values are too long for a cursor, after the row as it will be then, or by a count of rows if it is gone.
    """
    place = _place(parse_order(state["order"], state["class"], True), rows[-1])
    is_long = len(canonical_text(place)) > MAX_PLACE
    return {"skip": state["skip"] + len(rows), "last": rows[-1].id, "place": None if is_long else place}


def _behind(info: Document, order: Order, place: list[Json]) -> list[tuple[Order, list[Node]]]:
    """(order, conditions) of what comes behind a place, one part after the other, each as an index serves it.

    Equal values come in the order of creation. Missing ones come first, or last where the order descends.
    """
    (path, descending), *_ = order
    behind: Node = Condition("behind", (), (order, place))
    further = "lte" if descending else "gte"
    if path == ("objectId",):
        return [(order, [Condition(further, path, place[0]), behind])]
    if path in (("createdAt",), ("updatedAt",)):
        return [(order, [Condition(further, path, place[1 if path[0] == "createdAt" else 2]), behind])]
    column = info["columns"].get(path[0], {}).get("type")
    if len(path) > 1 or len(order) > 1 or column not in RANGED or not any(keys[0] == path[0] for keys in info.get("indexes", [])):
        return [(order, [behind])]
    value = place[4].get(path[0])
    missing: Node = Condition("eq", path, None)
    created: Order = ((("createdAt",), descending),)
    same: list[Node] = [Condition("eq", path, value), Condition(further, created[0][0], place[1])]
    parts = [(created, [*same, Condition("behind", (), (created, place))])]
    if value is not None:
        parts.append((order, [Condition("lt" if descending else "gt", path, value)]))
    if value is not None and descending:
        parts.append((created, [missing]))
    if value is None and not descending:
        parts.append((order, [Not(missing)]))
    return parts


def _sealed(call: Call, state: Document) -> str:
    data = base64.urlsafe_b64encode(json.dumps(state, separators=(",", ":")).encode()).decode()
    return f"{data}.{_signature(call, data)}"


def _opened(call: Call, class_name: str, cursor: Json) -> Document:
    data, _, signature = str(cursor).partition(".")
    try:
        if not hmac.compare_digest(signature.encode(), _signature(call, data).encode()):
            raise ValueError
        state: Document = json.loads(base64.urlsafe_b64decode(data.encode()))
    except (ValueError, binascii.Error):
        raise StorageError(Code.BAD_CURSOR) from None
    if state["class"] != class_name or state["until"] < now():
        raise StorageError(Code.BAD_CURSOR)
    return state


def _signature(call: Call, data: str) -> str:
    return hmac.new(call.service.token_secret, b"cursor:" + data.encode(), hashlib.sha256).hexdigest()
