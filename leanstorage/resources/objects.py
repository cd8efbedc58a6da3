"""Objects of any class: create, get, find, update, delete. Protocol sections 2.1 (2 to 6), 3 and 7.2.

Steps of a write: check permission and `where`; call the before hook with no transaction open; check everything again
and apply it in one transaction; call the after hook; answer.
"""
import secrets
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from typing import Any

from leanstorage.engine import hooks
from leanstorage.resources import queries
from leanstorage.rules import acl, classes, numbering, rendering, uniques, values, write
from leanstorage.rules.where import conjunction, parse_json
from leanstorage.rules.call import Answer, BATCH_SECONDS, Call, created, limit_traffic, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import (
    Condition,
    Document,
    Json,
    now,
    Principals,
    Query,
    QueryTimeout,
    Result,
    Row,
    Transaction,
)
from leanstorage.rules.values import format_time


MAX_IDS = 1000  # ids in the path of one DELETE
LOCKED_SECONDS = 0.2  # that a condition may take while others wait to write
OF_OTHERS = frozenset(["$inQuery", "$notInQuery", "$select", "$dontSelect", "$relatedTo"])  # not of the object alone


def _nothing(*_: object) -> None:
    return None


@dataclass(frozen=True)
class Rules:
    """What a system class adds to a write. All but the last are called inside the transaction, so that it holds or
    nothing does.

    `admit(transaction, call, row, fields)` may refuse a write, `row` None for a new object, and return other fields;
    `store(transaction, call, old, new, fields)` keeps what lies outside the object; `forget(transaction, row)` drops it.
    `forgotten(what forget returned)` is for what no transaction brings back, and called once the deletion is committed.
    """

    admit: "Callable[[Transaction, Call, Row | None, Any], Any]" = lambda transaction, call, row, fields: fields
    store: "Callable[[Transaction, Call, Row | None, Row, Document], Any]" = _nothing
    forget: "Callable[[Transaction, Row], Any]" = _nothing
    forgotten: Callable[[Any], object] = _nothing


PLAIN = Rules()


class Guard:
    """The `where` of a conditional write: decided in its locked transaction; slow conditions are evaluated before locking.

    While the object is unchanged since it matched, conditions on the object alone still hold. Conditions on other objects
    are evaluated again.
    """

    def __init__(self, where: Json) -> None:
        self.where = where
        self._is_alone = not _mentions(where, OF_OTHERS)
        self._is_slow = not self._is_alone or _mentions(where, {"$regex"})
        self._seen: int | None = None  # the `updated` of the row that matched
        self._seconds = 0.0  # that it took

    def look(self, call: Call, read: Callable[[Transaction], object]) -> None:
        """Evaluate what is slow by `read(transaction)`, which calls `check`, without a lock."""
        if self._is_slow and self._seen is None:
            call.service.store.read(read)

    def check(self, transaction: Transaction, query: Query, row: Row, lock: bool) -> None:
        """Raise 305 unless the row matches; 124 when that would keep others waiting."""
        this = Condition("eq", ("objectId",), row.id)
        query = replace(query, where=conjunction([this, query.where]), principals=None)
        if not lock or not self._is_slow:
            started = time.monotonic()
            is_met = transaction.count(query)
            self._seconds = time.monotonic() - started
        elif self._is_alone and row.updated == self._seen:
            return
        elif self._seconds > LOCKED_SECONDS:
            raise StorageError(Code.TIMEOUT)
        else:
            is_met = _counted_quickly(transaction, query)
        if not is_met:
            raise StorageError(Code.NO_EFFECT)
        self._seen = row.updated


def _mentions(value: Json, names: Set[str]) -> bool:
    """Whether one of these operators stands anywhere in a decoded `where`."""
    if isinstance(value, dict):
        return any(key in names or _mentions(child, names) for key, child in value.items())
    return isinstance(value, list) and any(_mentions(child, names) for child in value)


def _counted_quickly(transaction: Transaction, query: Query) -> int:
    seconds = transaction.query_seconds
    transaction.query_seconds = min(seconds, LOCKED_SECONDS)
    try:
        matches: int = transaction.count(query)
        return matches
    except QueryTimeout:
        if seconds <= LOCKED_SECONDS:  # a quick call's: a thread has more
            raise
        raise StorageError(Code.TIMEOUT) from None
    finally:
        transaction.query_seconds = seconds


def new_id(ms: int) -> str:
    """24 hex digits, the first 8 being the seconds of creation."""
    return f"{ms // 1000 & 0xFFFFFFFF:08x}{secrets.token_hex(8)}"


def create(call: Call, class_name: str, rules: Rules = PLAIN) -> Answer:
    """POST of a new object: 201 with `objectId` and `createdAt`, the whole object with `fetchWhenSave` or `new`."""
    condition(call.query)  # Java, C# and Flutter send one along; there is nothing yet that it could hold for
    fields = write.clean(call.json_body(), creating=True)
    row, _ = store_new(call, class_name, fields, rules)
    value = {"objectId": row.id, "createdAt": format_time(row.created)}
    if call.flag("fetchWhenSave", "new"):
        value = shown(call, lambda transaction: whole(transaction, call, class_name, row.id), value)
    return created(class_name, row.id, value)


def store_new(call: Call, class_name: str, fields: Document, rules: Rules = PLAIN) -> tuple[Row, Any]:
    """Store a new object with its hooks; return (Row, what `rules.store` returned)."""
    fields = before_insert(call, class_name, fields, rules)
    row, kept = call.service.store.write(lambda transaction: insert(transaction, call, class_name, fields, rules))
    after(call, class_name, "afterSave", row)
    return row, kept


def before_insert(call: Call, class_name: str, fields: Document, rules: Rules = PLAIN) -> Document:
    """The fields of a new object after its beforeSave hook, if there is one."""
    if not hooks.wanted(call, class_name, "beforeSave"):
        return fields

    def preview(transaction: Transaction) -> tuple[Document, Document | None]:
        _, info, _, change = _admitted_new(transaction, call, class_name, fields, rules)
        document = rendering.hook_object(transaction, call, change.body, _with_new(info, change))
        if change.acl is not None:
            document["ACL"] = change.acl
        return document, hook_user(transaction, call)

    document, user = call.service.store.read(preview)
    return hooks.merge(fields, document, hooks.before(call, class_name, "beforeSave", document, user))


def insert(
    transaction: Transaction, call: Call, class_name: str, fields: Document, rules: Rules = PLAIN, object_id: str = ""
) -> tuple[Row, Any]:
    """Insert a new object, its hooks apart; return (Row, what `rules.store` returned)."""
    final, info, principals, change = _admitted_new(transaction, call, class_name, fields, rules)
    numbering.give(transaction, class_name, info, change.body)
    classes.check_required(info, change.body)  # a hook may have given it a value
    classes.add_columns(transaction, class_name, info, change.found, principals)
    ms = now()
    row = Row(object_id or new_id(ms), ms, ms, change.acl, change.body)
    kept = rules.store(transaction, call, None, row, final)
    uniques.keep(transaction, class_name, info, row.id, None, row.body)
    transaction.insert(class_name, row, _text(info, rules, change))
    _store_relations(transaction, class_name, row.id, change)
    return row, kept


def _admitted_new(
    transaction: Transaction, call: Call, class_name: str, fields: Document, rules: Rules
) -> tuple[Document, Document, Principals, write.Change]:
    info = classes.for_writing(transaction, call, class_name)
    principals = call.principals(transaction)
    classes.check_permission(info, "create", principals)
    rights = classes.default_acl(info, call.caller.user_id)
    fields = numbering.without_numbers(info, rules.admit(transaction, call, None, fields), call.caller.is_master)
    fields = classes.with_defaults(info, fields)
    return fields, info, principals, write.apply(fields, {}, rights, info["columns"], creating=True)


def update(call: Call, class_name: str, object_id: str, rules: Rules = PLAIN) -> Answer:
    """PUT: `updatedAt` and `objectId`, with `fetchWhenSave` or `new` the written keys as well, to who may read them."""
    fields = write.clean(call.json_body(), creating=False)
    row, written, _ = store_change(call, class_name, object_id, fields, rules, condition(call.query))
    value: Document = {"updatedAt": format_time(row.updated), "objectId": row.id}
    if call.flag("fetchWhenSave", "new"):

        def work(transaction: Transaction) -> Document:
            if not may_see(transaction, call, class_name, row):
                return {}
            shape = rendering.shape_for(call, classes.existing(transaction, class_name))
            whole = rendering.document(call, class_name, row, shape)
            parts: Document = rendering.copied({key: whole[key] for key in (*written, *shape.stubs) if key in whole})
            rendering.expand_files(transaction, call, parts, call.principals(transaction))
            return parts

        nothing: Document = {}
        value |= shown(call, work, nothing)
    return ok(value)


def store_change(
    call: Call, class_name: str, object_id: str, fields: Document, rules: Rules = PLAIN, where: Json = None
) -> tuple[Row, list[str], Any]:
    """Change an object with its hooks; return (Row, written keys, what `rules.store` returned).

    `where`, decoded, must match as well. Raises 101, 1 (no such object), 305, 403 and the errors of `changes`.
    """
    values.check_object_id(object_id)
    guard = None if where is None else Guard(where)
    fields = before_change(call, class_name, object_id, fields, rules, guard)
    row, written, kept = call.service.store.write(
        lambda transaction: change(transaction, call, class_name, object_id, fields, rules, guard)
    )
    after(call, class_name, "afterUpdate", row, written)
    return row, written, kept


def before_change(
    call: Call, class_name: str, object_id: str, fields: Document, rules: Rules = PLAIN, guard: Guard | None = None
) -> Document:
    """The fields of a change after the beforeUpdate hook, if there is one; what is slow of the guard has been asked then."""
    if not hooks.wanted(call, class_name, "beforeUpdate"):
        if guard is not None:
            guard.look(call, lambda transaction: _permitted(transaction, call, class_name, object_id, guard, lock=False))
        return fields

    def preview(transaction: Transaction) -> tuple[Document, Document | None]:
        info, _, row = _permitted(transaction, call, class_name, object_id, guard, lock=False)
        final = numbering.without_numbers(info, rules.admit(transaction, call, row, fields), call.caller.is_master)
        made = write.apply(final, row.body, row.acl, info["columns"], creating=False)
        document = rendering.hook_object(transaction, call, made.body, _with_new(info, made))
        document |= {
            "objectId": row.id,
            "createdAt": format_time(row.created),
            "updatedAt": format_time(row.updated),
            "_updatedKeys": made.written,
        }
        if made.acl is not None:
            document["ACL"] = made.acl
        return document, hook_user(transaction, call)

    document, user = call.service.store.read(preview)
    return hooks.merge(fields, document, hooks.before(call, class_name, "beforeUpdate", document, user))


def change(
    transaction: Transaction,
    call: Call,
    class_name: str,
    object_id: str,
    fields: Document,
    rules: Rules = PLAIN,
    guard: Guard | None = None,
) -> tuple[Row, list[str], Any]:
    """Change an object, its hooks apart; return (Row, written keys, what `rules.store` returned)."""
    info, principals, old = _permitted(transaction, call, class_name, object_id, guard, lock=True)
    final = numbering.without_numbers(info, rules.admit(transaction, call, old, fields), call.caller.is_master)
    made = write.apply(final, old.body, old.acl, info["columns"], creating=False)
    classes.check_required(info, made.body, made.written)
    classes.add_columns(transaction, class_name, info, made.found, principals)
    # Two writes within one millisecond must still be told apart by updatedAt.
    row = Row(old.id, old.created, max(now(), old.updated + 1), made.acl, made.body, old.seq)
    kept = rules.store(transaction, call, old, row, final)
    numbering.follow(transaction, class_name, info, [{key: row.body[key] for key in made.written if key in row.body}])
    uniques.keep(transaction, class_name, info, row.id, old.body, row.body)
    transaction.update(class_name, row, _text(info, rules, made))
    _store_relations(transaction, class_name, row.id, made)
    return row, made.written, kept


def _text(info: Document, rules: Rules, change: write.Change) -> str | None:
    """The text of a changed body, where neither rules nor numbers have changed it since."""
    return change.text if rules.store is _nothing and not numbering.keys(info) else None


def _permitted(
    transaction: Transaction, call: Call, class_name: str, object_id: str, guard: Guard | None, lock: bool
) -> tuple[Document, Principals, Row]:
    info = classes.existing(transaction, class_name)
    principals = call.principals(transaction)
    classes.check_permission(info, "update", principals)
    return info, principals, _writable(transaction, call, class_name, object_id, guard, principals, lock)


def delete(call: Call, class_name: str, object_ids: str, rules: Rules = PLAIN) -> Answer:
    """DELETE of one id, or of several joined by commas, of which unknown ones are passed over.

    Each id counts as a call. When the time runs out, the rest is not deleted: 124.
    """
    is_single = "," not in object_ids
    ids = list(dict.fromkeys(object_ids.split(",")))
    if len(ids) > MAX_IDS:
        raise StorageError(Code.BAD_REQUEST, detail=f"More than {MAX_IDS} ids.")
    for object_id in ids:
        values.check_object_id(object_id)
    if not is_single:
        limit_traffic(call.service, call.caller.address, call.caller.has_hook_key, len(ids) - 1)
    where = condition(call.query)
    deadline = time.monotonic() + BATCH_SECONDS
    for object_id in ids:
        if time.monotonic() > deadline:
            raise StorageError(Code.TIMEOUT)
        try:
            remove(call, class_name, object_id, rules, where)
        except StorageError as error:
            if is_single or error.kind is not Code.NO_CLASS:
                raise
    return ok({})


def remove(call: Call, class_name: str, object_id: str, rules: Rules = PLAIN, where: Json = None) -> Row:
    """Delete one object with its hooks; raise 101, 305 or 403."""
    store = call.service.store
    guard = None if where is None else Guard(where)

    def admitted(transaction: Transaction, lock: bool) -> tuple[Row, Document]:
        info = classes.existing(transaction, class_name)
        principals = call.principals(transaction)
        classes.check_permission(info, "delete", principals)
        try:
            row = _writable(transaction, call, class_name, object_id, guard, principals, lock)
        except StorageError as error:
            if error.kind is Code.NO_OBJECT:
                raise StorageError(Code.NO_CLASS) from None
            raise
        rules.admit(transaction, call, row, None)
        return row, info

    if hooks.wanted(call, class_name, "beforeDelete"):

        def preview(transaction: Transaction) -> tuple[Document, Document | None]:
            row, info = admitted(transaction, lock=False)
            return _hook_row(transaction, call, row, info), hook_user(transaction, call)

        hooks.before(call, class_name, "beforeDelete", *store.read(preview))

    def work(transaction: Transaction) -> tuple[Row, Any]:
        row, info = admitted(transaction, lock=True)
        uniques.keep(transaction, class_name, info, row.id, row.body, None)
        transaction.delete(class_name, object_id, now())
        return row, rules.forget(transaction, row)

    if guard is not None:
        guard.look(call, lambda transaction: admitted(transaction, lock=False))
    row, dropped = store.write(work)
    rules.forgotten(dropped)
    after(call, class_name, "afterDelete", row)
    return row


def hook_user(transaction: Transaction, call: Call) -> Document | None:
    """The caller as hooks see it: the whole user and its session token, None for nobody."""
    if call.caller.user_id is None:
        return None
    row = transaction.get("_User", call.caller.user_id)
    if row is None:
        return None
    told = call.to_engine
    shape = rendering.shape_for(told, classes.existing(transaction, "_User"))
    user: Document = rendering.copied(rendering.document(told, "_User", row, shape))
    rendering.expand_files(transaction, told, user, None)
    return user | {"sessionToken": call.caller.token}


def condition(query: Document) -> Json:
    """The `where` of a conditional write, decoded; None without one. Whatever is malformed fails closed."""
    if "where" not in query:
        return None
    where = query["where"]
    if isinstance(where, str):
        where = parse_json(where)
    if not isinstance(where, (dict, list)):
        raise StorageError(Code.BAD_JSON, detail="where must be an object")
    return where


def _writable(
    transaction: Transaction,
    call: Call,
    class_name: str,
    object_id: str,
    guard: Guard | None,
    principals: Principals,
    lock: bool,
) -> Row:
    """The row to be changed; raise 1/404 when there is none, 305 when its condition does not match, 403 by its ACL.

    Callers who may neither read nor write an object are told that it does not exist; so are callers who may not read it
    and give a condition.
    """
    query = None if guard is None else queries.parse(transaction, call, class_name, guard.where, principals)
    row: Row | None = transaction.get(class_name, object_id, lock)
    if guard is not None and query is not None:
        if row is None or not is_readable(transaction, class_name, row, principals):
            raise StorageError(Code.NO_EFFECT)
        guard.check(transaction, query, row, lock)
    is_writable = row is not None and acl.allows(row.acl, "write", principals)
    if row is None or not (is_writable or is_readable(transaction, class_name, row, principals)):
        raise StorageError(Code.NO_OBJECT, id=object_id, class_name=class_name)
    if not is_writable:
        raise StorageError(Code.ACL_FORBIDDEN)
    return row


def is_readable(transaction: Transaction, class_name: str, row: Row, principals: Principals) -> bool:
    """Whether somebody sees an object at all, by its id or in a list."""
    info = classes.existing(transaction, class_name)
    is_open = any(classes.may(info, action, principals) for action in ("get", "find"))
    return is_open and acl.allows(row.acl, "read", principals)


def _store_relations(transaction: Transaction, class_name: str, owner: str, change: write.Change) -> None:
    for key in change.cleared:
        transaction.forget_relation(class_name, key, owner)
    for key, adds, target_class, ids in change.relations:
        act = transaction.relate if adds else transaction.unrelate
        act(class_name, key, owner, target_class, ids)


def whole(transaction: Transaction, call: Call, class_name: str, object_id: str) -> Document:
    """An object as its writer is shown it."""
    row = transaction.get(class_name, object_id)
    if row is None:  # deleted by an after hook
        return {"objectId": object_id}
    info = classes.existing(transaction, class_name)
    [value] = rendering.render(transaction, call, class_name, info, [row], None)
    return value


def may_see(transaction: Transaction, call: Call, class_name: str, row: Row) -> bool:
    """Whether a writer may be shown more than it wrote: an operation that changes nothing would reveal the stored value."""
    info, principals = classes.existing(transaction, class_name), call.principals(transaction)
    return acl.allows(row.acl, "read", principals) and classes.may(info, "get", principals)


def shown(call: Call, work: Callable[[Transaction], Result], otherwise: Result) -> Result:
    """What `work` reads of an object that was just written; `otherwise` where it is too large to be shown."""
    try:
        return call.service.store.read(work)
    except StorageError:  # the write has happened; an error would say that it has not
        return otherwise


def _with_new(info: Document, change: write.Change) -> Document:
    """The info of a class as it will be after a change: a hook sees relations that the change declares."""
    columns = {**info["columns"], **{key: column for key, (column, _) in change.found.items()}}
    return {**info, "columns": columns}


def _hook_row(transaction: Transaction, call: Call, row: Row, info: Document) -> Document:
    document = rendering.hook_object(transaction, call, row.body, info)
    document |= {
        "objectId": row.id,
        "createdAt": format_time(row.created),
        "updatedAt": format_time(row.updated),
    }
    if row.acl is not None:
        document["ACL"] = row.acl
    return document


def after(call: Call, class_name: str, hook: str, row: Row, written: list[str] | None = None) -> None:
    """Call an after hook, if there is one; its failure is only logged."""
    def work(transaction: Transaction) -> tuple[Document, Document | None]:
        info = classes.existing(transaction, class_name)
        document = _hook_row(transaction, call, row, info)
        if written is not None:
            document["_updatedKeys"] = written
        return document, hook_user(transaction, call)

    try:
        if not hooks.wanted(call, class_name, hook):
            return
        told = call.service.store.read(work)
    except StorageError:
        return  # the write has happened; without an engine, or with what is too large for it, there is nobody to tell
    hooks.after(call, class_name, hook, *told)


