"""Statuses, LeanCloud's social feed: one `_Status` object, and one line in the inbox of everybody it is sent to.

A line is a record `inbox:<owner>:<type>` with a growing number, the `messageId`. Protocol section 2.2.
As on the live service anybody may ask for anybody's inbox; what is shown of it is what the caller may read: private
statuses are readable by their sender and receivers alone.
"""

from leanstorage.resources import objects, queries
from leanstorage.rules import acl, classes, rendering, write
from leanstorage.rules.where import parse_json, parse_limit, with_limits
from leanstorage.rules.call import Answer, Call, created, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Json, now, Principals, Row, Transaction
from leanstorage.rules.values import check_class_name, check_object_id, format_time, normalise, pointer


MAX_RECEIVERS = 10_000
DEFAULT_LIMIT, MAX_LIMIT = 100, 100
COUNTERS = "inbox"  # kind of the records `<owner>:<type>:last` and `:unread`


def send(call: Call) -> Answer:
    """POST `{inboxType, data, query: {className, where, keys?}, source?}`: 201; only users, to whoever matches.

    Raises 102, 103, 107, 206, 403 and what a write raises.
    """
    body = call.json_body()
    user_id = _needs_user(call)
    query, data = body.get("query"), body.get("data")
    if not isinstance(query, dict) or not isinstance(query.get("className"), str) or not isinstance(data, dict):
        raise StorageError(Code.BAD_JSON, detail="a status needs data and query")
    inbox = _inbox_type(body)
    fields = write.clean({**data, "inboxType": inbox}, creating=True)
    fields["source"] = pointer("_User", user_id)
    class_name = "_User" if query["className"] == "User" else check_class_name(query["className"])
    keys = query.get("keys")

    def work(transaction: Transaction) -> Row:
        info = classes.existing(transaction, "_Status")
        principals = call.principals(transaction)
        classes.check_permission(info, "create", principals)
        receivers = _receivers(transaction, call, class_name, query.get("where") or {}, keys)
        readers = receivers if inbox == "private" else ["*"]
        rights = {name: {"read": True} for name in readers} | {user_id: {"read": True, "write": True}}
        change = write.apply(fields, {}, rights, info["columns"], creating=True)
        classes.add_columns(transaction, "_Status", info, change.found, principals)
        ms = now()
        row = Row(objects.new_id(ms), ms, ms, change.acl, change.body)
        transaction.insert("_Status", row)
        for receiver in receivers:
            number = _counter(transaction, receiver, inbox, "last")
            _counter(transaction, receiver, inbox, "unread")
            transaction.put_record(lines_kind(receiver, inbox), line_key(number), {"status": row.id})
        return row

    row = call.service.store.write(work)
    return created("_Status", row.id, {"objectId": row.id, "createdAt": format_time(row.created)})


def remove(call: Call, object_id: str) -> Answer:
    """DELETE by its sender (or the master). Raises 206 without a session."""
    _needs_user(call)
    return objects.delete(call, "_Status", object_id)


def inbox(call: Call) -> Answer:
    """GET: `{"results": [status + messageId], "end": bool}`, newest first; reading marks as read."""
    owner, kind = _owner(call), _inbox_type(call.query)
    limit = min(parse_limit(call.query.get("limit")), MAX_LIMIT)
    since, below = _number(call.query.get("sinceId")), _number(call.query.get("maxId"))

    def work(transaction: Transaction) -> Document:
        info, principals = _for_finding(transaction, call)
        lines = transaction.records(lines_kind(owner, kind))
        wanted = [
            (int(key), line["status"])
            for key, line in reversed(lines)
            if int(key) > since and (not below or int(key) <= below)
        ]
        rows = transaction.get_many("_Status", [status for _, status in wanted[:limit]])
        found = [
            (number, rows[status])
            for number, status in wanted[:limit]
            if status in rows and acl.allows(rows[status].acl, "read", principals)
        ]
        view = rendering.View(include=call.query.get("include", ""))
        shown = rendering.render(transaction, call, "_Status", info, [row for _, row in found], principals, view)
        results = [{**value, "messageId": number} for (number, _), value in zip(found, shown)]
        return {"results": results, "end": len(wanted) <= limit}

    return ok(call.service.store.read(work))


def count(call: Call) -> Answer:
    """GET: `{"total", "unread"}` of an inbox."""
    owner, kind = _owner(call), _inbox_type(call.query)

    def work(transaction: Transaction) -> Document:
        _for_finding(transaction, call)
        unread = transaction.record(COUNTERS, f"{owner}:{kind}:unread") or {"number": 0}
        return {"total": len(transaction.records(lines_kind(owner, kind))), "unread": unread["number"]}

    return ok(call.service.store.read(work))


def reset_unread(call: Call) -> Answer:
    """POST: nothing is unread any more; anybody's inbox, as on the live service (its suite does so)."""
    options = {**call.query, **call.json_body()}
    owner, kind = _owner(call, options), _inbox_type(options)
    call.service.store.write(
        lambda transaction: transaction.put_record(COUNTERS, f"{owner}:{kind}:unread", {"number": 0})
    )
    return ok({})


def lines_kind(owner: str, kind: str) -> str:
    """The kind of the records that are an inbox's lines."""
    return f"{COUNTERS}:{owner}:{kind}"


def line_key(number: int) -> str:
    return f"{number:012d}"


def _for_finding(transaction: Transaction, call: Call) -> tuple[Document, Principals]:
    """The info of `_Status`, and the names that the caller goes by; raise 403 unless it may find statuses."""
    info, principals = classes.existing(transaction, "_Status"), call.principals(transaction)
    classes.check_permission(info, "find", principals)
    return info, principals


def _counter(transaction: Transaction, owner: str, kind: str, name: str) -> int:
    """Count one more, and return how many there are."""
    key = f"{owner}:{kind}:{name}"
    number: int = (transaction.record(COUNTERS, key, lock=True) or {"number": 0})["number"] + 1
    transaction.put_record(COUNTERS, key, {"number": number})
    return number


def _receivers(transaction: Transaction, call: Call, class_name: str, where: Json, key: Json) -> list[str]:
    """Ids of the users that match, or that the matching rows point to by `key` (a list of followers).

    Who is sent a private status can be read from it, so to choose receivers is to find them: raises 403 where the
    caller may not. Users whose ids or names are known need no more than `get` (the SDK's own suite sends to a name, and
    that a name is taken is told by signing up), one's own followers nothing.
    """
    principals = call.principals(transaction)
    query = queries.parse(transaction, call, class_name, where, principals)
    info = classes.load(transaction, class_name)
    if info is not None and not _is_of_own_followers(call, class_name, where):
        classes.check_permission(info, "get" if _names_its_users(class_name, where) else "find", principals)
    rows = transaction.find(with_limits(query, {"limit": MAX_RECEIVERS}))
    if class_name == "_User":
        return [row.id for row in rows if acl.allows(row.acl, "read", principals)]
    values = [row.body.get(str(key).split(",")[0]) for row in rows]
    pointers = [value for value in values if isinstance(value, dict) and value.get("__type") == "Pointer"]
    return [value["objectId"] for value in pointers if value["className"] == "_User"]


def _names_its_users(class_name: str, where: Json) -> bool:
    if class_name != "_User" or not isinstance(where, dict) or where.keys() not in ({"objectId"}, {"username"}):
        return False
    [known] = where.values()
    return isinstance(known, str) or isinstance(known, dict) and known.keys() == {"$in"}


def _is_of_own_followers(call: Call, class_name: str, where: Json) -> bool:
    user = where.get("user") if class_name == "_Follower" and isinstance(where, dict) else None
    return isinstance(user, dict) and user.get("objectId") == call.caller.user_id


def _needs_user(call: Call) -> str:
    if call.caller.user_id is None:
        raise StorageError(Code.NO_SESSION)
    return call.caller.user_id


def _owner(call: Call, options: Document | None = None) -> str:
    """The id of the inbox's owner, the caller when none is named."""
    value = (options or call.query).get("owner")
    if isinstance(value, str):
        value = parse_json(value, "owner")
    owner = normalise(value) if value is not None else pointer("_User", _needs_user(call))
    if not isinstance(owner, dict) or owner.get("className") != "_User":
        raise StorageError(Code.BAD_POINTER)
    return check_object_id(owner.get("objectId"))


def _inbox_type(options: Document) -> str:
    kind = options.get("inboxType") or "default"
    if not isinstance(kind, str) or not kind.isidentifier() or len(kind) > 100:
        raise StorageError(Code.BAD_REQUEST, detail="inboxType must be a name")
    return kind


def _number(value: Json) -> int:
    return int(value) if str(value or "").isdecimal() and len(str(value)) < 13 else 0
