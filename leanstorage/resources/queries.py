"""Finding objects: lists, one by its id, and what a caller may ask about. Protocol section 4."""
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import is_
from wsgiref.handlers import format_date_time
from leanstorage.rules import acl, classes, hidden, index_advice, passwords, rendering, values
from leanstorage.rules.where import bad, parse_json, parse_listing, parse_where
from leanstorage.rules.call import Answer, Call, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import (
    Condition,
    Document,
    Group,
    Json,
    Node,
    Not,
    now,
    Principals,
    Query,
    Row,
    QueryTimeout,
    Transaction,
)
from leanwsgi.messages import Header


NAMES = ("objectId", "username")  # of a user
TOKEN_KEY = "sessionToken"  # that the master may ask for, as servers act for their users by it, and users for their own


def find(call: Call, class_name: str, action: str = "find") -> Answer:
    """GET of a class: `{"results": [...]}`, with `count` when asked for, to whoever its permissions let do `action`."""
    options = call.query

    def work(transaction: Transaction) -> tuple[Document, int | None]:
        name, extra = class_name, {}
        principals = call.principals(transaction)
        redirect = options.get("redirectClassNameForKey")
        info = classes.load(transaction, name)
        if redirect:
            if not isinstance(redirect, str):
                raise bad("redirectClassNameForKey must be a key")
            column = (info or {"columns": {}})["columns"].get(redirect)
            if column is None or "className" not in column or redirect in hidden.columns_for(call, info or {}):
                return {"results": []}, None
            name = column["className"]
            extra = {"className": name}
            info = classes.load(transaction, name)
        if info is None:
            raise StorageError(Code.NO_CLASS)
        classes.check_permission(info, action, principals)
        query = listing(transaction, call, name, options, principals)
        try:
            rows, written = _listed(transaction, query, principals)
        except QueryTimeout as error:
            raise _advised(error, query, info) from None
        keys = options.get("keys", "")
        shows_tokens = name == "_User" and call.caller.is_master and isinstance(keys, str) and TOKEN_KEY in keys.split(",")
        if shows_tokens:
            keys = ",".join(key for key in keys.split(",") if key != TOKEN_KEY) or "objectId"
        view = rendering.View(options.get("include", ""), keys, call.flag("returnACL"))
        results = rendering.rendered(transaction, call, name, info, rows, principals, view)
        if shows_tokens:
            _add_tokens(transaction, call, results)
        value = {"results": results, **extra}
        if call.flag("count"):
            try:
                value["count"] = transaction.count(query)
            except QueryTimeout as error:
                raise _advised(error, replace(query, limit=0), info) from None
        return value, written

    value, written = call.service.store.read(work)
    return ok(rendering.ready(value), _last_modified(written))


def find_named(call: Call) -> Answer:
    """GET /users/strictlyQuery: users by conditions of which one names the user, by username or id. Raises 102.

    Such a query needs only `get`, like a user by id: signing up reveals taken names anyway.
    """
    where = call.query.get("where")
    if not _names_users(parse_json(where) if isinstance(where, str) else where):
        raise bad(f"a strict query needs {' or '.join(NAMES)} to be equal to something")
    options = {key: value for key, value in call.query.items() if key != "redirectClassNameForKey"}  # of users only
    return find(call._replace(query=options), "_User", "get")


def _names_users(where: Json) -> bool:
    """Whether every user that matches has one of the names that are given."""
    if not isinstance(where, dict):
        return False
    parts = where["$and"] if isinstance(where.get("$and"), list) else []
    given = [where[name] for name in NAMES if name in where]
    return any(map(_names_users, parts)) or any(
        isinstance(value, str) or (isinstance(value, dict) and not value.keys().isdisjoint(["$eq", "$in"])) for value in given
    )


def _listed(transaction: Transaction, query: Query, principals: Principals) -> tuple[list[Row], int]:
    """(rows, when they last changed). For the master that is the last write to the class, deletions included.

    It would tell others when rows that they may not read are written: they get the newest of their rows, or now.
    """
    if principals is None:
        rows, written = transaction.listing(query) if query.limit else ([], transaction.last_write(query.class_name))
        return rows, written or now()
    rows = transaction.find(query) if query.limit else []
    return rows, max([row.updated for row in rows], default=0) or now()


def _advised(error: QueryTimeout, query: Query, info: Document) -> QueryTimeout:
    """The error of a query that took too long, which names the index that would help."""
    error.advice = index_advice.told(query, info)
    return error


def get(call: Call, class_name: str, object_id: str) -> Answer:
    """GET by id: the object, `{}` when there is none that the caller may read."""
    values.check_object_id(object_id.replace("_", ""))  # LeanCloud knows no such id, and does not mind it

    def work(transaction: Transaction) -> tuple[Json, int | None]:
        info = classes.existing(transaction, class_name)
        principals = call.principals(transaction)
        classes.check_permission(info, "get", principals)
        row = transaction.get(class_name, object_id)
        if row is None or not acl.allows(row.acl, "read", principals):
            return {}, None
        view = rendering.WHOLE
        if call.query:
            view = rendering.View(call.query.get("include", ""), call.query.get("keys", ""), call.flag("returnACL"))
        [value] = rendering.rendered(transaction, call, class_name, info, [row], principals, view)
        if class_name == "_User" and (call.caller.is_master or _asks_for_own_token(call, object_id)):
            _add_tokens(transaction, call, [value])
        return rendering.Ready(value) if isinstance(value, str) else value, row.updated

    value, updated = call.service.store.read(work)
    if not value and class_name == "_User":
        raise StorageError(Code.NO_USER)
    if not value and class_name == "_File":
        raise StorageError(Code.NO_CLASS)
    return ok(value, _last_modified(updated))


def parse(
    transaction: Transaction, call: Call, class_name: str, where: Json, principals: Principals
) -> Query:
    """A `where`, JSON text or decoded, as the caller's Query: inner classes need `find`, owners of relations `read`."""
    if where is None:
        where = {}
    elif isinstance(where, str):
        where = parse_json(where)
    query, mentioned = parse_where(class_name, where, call.caller.is_master, principals)
    return _within_rights(transaction, query, mentioned, principals)


def listing(
    transaction: Transaction, call: Call, class_name: str, options: Document, principals: Principals
) -> Query:
    """The options of a find as the caller's Query: `where` as in `parse`, order, limit and skip."""
    query, mentioned = parse_listing(class_name, options, call.caller.is_master, principals)
    return _within_rights(transaction, query, mentioned, principals)


def _within_rights(
    transaction: Transaction, query: Query, mentioned: Collection[str], principals: Principals
) -> Query:
    """The query restricted to what its caller may read; raise 403 if `find` of a class that it mentions is closed."""
    for name in mentioned:
        info = classes.load(transaction, name)
        if info is not None:
            classes.check_permission(info, "find", principals)
    hidden.check_query(transaction, query)
    where = _without_hidden_owners(transaction, query.where, principals)
    return query if where is query.where else replace(query, where=where)


def _without_hidden_owners(transaction: Transaction, node: Node, principals: Principals) -> Node:
    """A where in which relations of owners that the caller may not read have no members."""
    if isinstance(node, Group):
        nodes = tuple(_without_hidden_owners(transaction, child, principals) for child in node.nodes)
        return node if all(map(is_, nodes, node.nodes)) else Group(node.op, nodes)
    if isinstance(node, Not):
        inside = _without_hidden_owners(transaction, node.node, principals)
        return node if inside is node.node else Not(inside)
    if node.op == "related" and principals is not None:
        owner = transaction.get(*node.operand[:2])
        if owner is None or not acl.allows(owner.acl, "read", principals) or not _is_open(transaction, node, principals):
            return Group("or", ())
    if node.op == "in_query":
        inner = replace(node.operand, where=_without_hidden_owners(transaction, node.operand.where, principals))
        return replace(node, operand=inner)
    if node.op == "select":
        key, query = node.operand
        inner = replace(query, where=_without_hidden_owners(transaction, query.where, principals))
        return replace(node, operand=(key, inner))
    return node


def _is_open(transaction: Transaction, node: Condition, principals: Principals) -> bool:
    """Whether the caller may see objects of the class of a relation's owner, by their ids or in lists."""
    info = classes.existing(transaction, node.operand[0])
    return any(classes.may(info, action, principals) for action in ("get", "find"))


def _last_modified(ms: int | None) -> Sequence[Header]:
    """LeanCloud's own form: an HTTP date with milliseconds."""
    return () if ms is None else (("Last-Modified", f"{_second(ms // 1000)}.{ms % 1000:03d} GMT"),)


@lru_cache(1024)  # what was written together has few of them
def _second(seconds: int) -> str:
    return format_date_time(seconds).removesuffix(" GMT")


def _asks_for_own_token(call: Call, user_id: str) -> bool:
    """Whether users read themselves with the token that they came with: Java forgets it unless it is answered."""
    asked = call.query.get("include")
    return call.caller.user_id == user_id and isinstance(asked, str) and TOKEN_KEY in asked.split(",")


def _add_tokens(transaction: Transaction, call: Call, users: list[Json]) -> None:
    """Show the master the session tokens of users who have one."""
    credentials = transaction.records_of("credential", [user["objectId"] for user in users])
    for user in users:
        sealed = credentials.get(user["objectId"], {}).get("token")
        if sealed:
            user[TOKEN_KEY] = passwords.open_token(call.service.token_secret, sealed)
