"""Statuses, LeanCloud's social feed: one `_Status` object, and one line in the inbox of everybody it is sent to.

A line is a record `inbox:<owner>:<type>` with a growing number, the `messageId`. Protocol section 2.2.
As on the live service, anybody may ask for anybody's inbox, but sees only what it may read: private statuses are
readable by their sender and receivers only.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from leanstorage.resources import objects, queries
from leanstorage.rules import acl, classes, hidden, rendering, write
from leanstorage.rules.where import bad, conjunction, parse_json, parse_limit, parse_skip
from leanstorage.rules.call import Answer, BATCH_SECONDS, Call, created, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Condition, Document, Json, now, Principals, Query, Row, Transaction
from leanstorage.rules.values import check_class_name, check_object_id, format_time, normalise, pointer


MAX_RECEIVERS = 10_000
DEFAULT_LIMIT, MAX_LIMIT = 100, 100
DEFAULT_INBOX = "default"
ORDERS = {"": True, "-messageId": True, "-createdAt": True, "messageId": False, "createdAt": False}  # newest first?
LINES = 200  # of an inbox that are read at once
MAX_LINE = 10**12 - 1  # the greatest number of one
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
        is_to_followers = inbox == DEFAULT_INBOX and _is_of_own_followers(call, class_name, query.get("where"))
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
        if is_to_followers and user_id not in receivers:  # one's own timeline shows it as well, and it is not unread
            number = _counter(transaction, user_id, inbox, "last")
            transaction.put_record(lines_kind(user_id, inbox), line_key(number), {"status": row.id})
        return row

    row = call.service.store.write(work)
    return created("_Status", row.id, {"objectId": row.id, "createdAt": format_time(row.created)})


def remove(call: Call, object_id: str) -> Answer:
    """DELETE by its sender (or the master). Raises 206 without a session."""
    _needs_user(call)
    return objects.delete(call, "_Status", object_id)


def inbox(call: Call) -> Answer:
    """GET: `{"results": [status + messageId], "end": bool}`, newest first, and how many match with `count`.

    `where`, `keys`, `include`, `skip` and `limit` are those of any query; the order is that of `messageId`.
    """
    owner, kind, options = _owner(call), _inbox_type(call.query), call.query
    limit, skip = min(parse_limit(options.get("limit")), MAX_LIMIT), parse_skip(options.get("skip"))
    since, below = _number(options.get("sinceId")), _number(options.get("maxId"))
    # Java asks for what is older than line 1, which is nothing; SDKs to which 0 is no limit send both numbers.
    is_over = str(options.get("maxId")) == "0" and "sinceId" not in options
    is_newest_first = ORDERS.get(str(options.get("order", "")).split(",")[0])
    if is_newest_first is None:
        raise bad("the order of an inbox is messageId or -messageId")

    def work(transaction: Transaction) -> Document:
        info, principals = _for_finding(transaction, call)
        where = options.get("where") or None  # Flutter sends an empty text for no condition
        query = queries.parse(transaction, call, "_Status", where, principals)
        parts = () if is_over else _parts(transaction, lines_kind(owner, kind), since, below, is_newest_first)
        is_counted, number, page = call.flag("count"), 0, []
        for number, one in enumerate(_matching(transaction, query, parts), 1):
            if skip < number <= skip + limit:
                page.append(one)
            elif number > skip and not is_counted:  # one more than is shown: that is not all
                break
        view = rendering.View(options.get("include", ""), options.get("keys", ""))
        shown = rendering.render(transaction, call, "_Status", info, [row for _, row in page], principals, view)
        results = [{**value, "messageId": message} for (message, _), value in zip(page, shown)]
        return {"results": results, "end": number <= skip + limit, **({"count": number} if is_counted else {})}

    return ok(call.service.store.read(work))


def _parts(transaction: Transaction, kind: str, since: int, below: int, is_newest_first: bool) -> Iterator[list[tuple[int, str]]]:
    """The lines of an inbox behind `since` and up to `below`, as (messageId, status), LINES at a time: there may be many."""
    after, before = line_key(since), line_key(below + 1) if 0 < below < MAX_LINE else ""
    while found := transaction.record_page(kind, after, LINES, before, is_newest_first):
        yield [(int(key), line["status"]) for key, line in found]
        if len(found) < LINES:
            return
        if is_newest_first:
            before = found[-1][0]
        else:
            after = found[-1][0]


def _matching(transaction: Transaction, query: Query, parts: Iterable[list[tuple[int, str]]]) -> Iterator[tuple[int, Row]]:
    """The lines whose statuses match, and may be read, as (messageId, Row), in the order of `parts`. Raises 124."""
    deadline = time.monotonic() + BATCH_SECONDS
    for part in parts:
        if time.monotonic() > deadline:
            raise StorageError(Code.TIMEOUT)
        these = Condition("in", ("objectId",), [status for _, status in part])
        found = transaction.find(replace(query, where=conjunction([these, query.where]), limit=LINES))
        rows = {row.id: row for row in found}
        yield from ((number, rows[status]) for number, status in part if status in rows)


def remove_line(call: Call) -> Answer:
    """DELETE: take one line, `messageId`, out of one's own inbox; the status itself stays. Raises 1, 206, 403."""
    options = {**call.query, **(call.body if isinstance(call.body, dict) else {})}
    owner, kind, number = _owner(call, options), _inbox_type(options), _number(options.get("messageId"))
    if not number:
        raise StorageError(Code.BAD_REQUEST, detail="A messageId is needed.")
    if not call.caller.is_master and owner != _needs_user(call):
        raise StorageError(Code.OTHER_USER)

    def work(transaction: Transaction) -> None:
        if transaction.delete_record(lines_kind(owner, kind), line_key(number)):
            key, left = f"{owner}:{kind}:unread", transaction.count_records(lines_kind(owner, kind))
            unread = transaction.record(COUNTERS, key, lock=True)
            if unread and unread["number"] > left:
                transaction.put_record(COUNTERS, key, {"number": left})

    call.service.store.write(work)
    return ok({})


def count(call: Call) -> Answer:
    """GET: `{"total", "unread"}` of an inbox."""
    owner, kind = _owner(call), _inbox_type(call.query)

    def work(transaction: Transaction) -> Document:
        _for_finding(transaction, call)
        unread = transaction.record(COUNTERS, f"{owner}:{kind}:unread") or {"number": 0}
        return {"total": transaction.count_records(lines_kind(owner, kind)), "unread": unread["number"]}

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
    """Ids of the users that match, or that the matching rows point to by `key` (a list of followers), each once.

    A private status shows its receivers, so choosing receivers is a find: raises 403 if the caller may not. Users given by
    id or name need only `get` (the SDK's own suite sends to a name, and signing up reveals taken names anyway); one's own
    followers need no permission.
    """
    principals = call.principals(transaction)
    query = queries.parse(transaction, call, class_name, where, principals)
    info = classes.load(transaction, class_name)
    if info is not None and not _is_of_own_followers(call, class_name, where):
        classes.check_permission(info, "get" if _names_its_users(class_name, where) else "find", principals)
    pointing = str(key).split(",")[0]
    if info is not None and not call.caller.is_master:
        hidden.check_key(info, pointing)  # its values would be read from the receivers
    rows = transaction.find(replace(query, limit=MAX_RECEIVERS))
    if class_name == "_User":
        return [row.id for row in rows if acl.allows(row.acl, "read", principals)]
    values = [row.body.get(pointing) for row in rows]
    pointers = [value for value in values if isinstance(value, dict) and value.get("__type") == "Pointer"]
    return list(dict.fromkeys(value["objectId"] for value in pointers if value["className"] == "_User"))


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
    kind = options.get("inboxType") or DEFAULT_INBOX
    if not isinstance(kind, str) or not kind.isidentifier() or len(kind) > 100:
        raise StorageError(Code.BAD_REQUEST, detail="inboxType must be a name")
    return kind


def _number(value: Json) -> int:
    return int(value) if str(value or "").isdecimal() and len(str(value)) < 13 else 0
