"""Following users: one row in `_Followee` and its mirror in `_Follower`. Protocol section 5.7."""

from leanstorage.resources import objects, queries
from leanstorage.rules import classes, rendering, write
from leanstorage.rules.where import bad, conjunction, parse_json
from leanstorage.rules.call import Answer, Call, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Condition, Document, now, Query, Row, Transaction
from leanstorage.rules.values import check_object_id, pointer


MAX_SHOWN = 1000


def follow(call: Call, object_id: str, target_id: str) -> Answer:
    """POST: both rows, with the body's attributes in each; following twice changes nothing but the attributes.

    Raises 206 and 403 for others than the user itself, 403 by class permissions, 211 when there is nobody to follow.
    """
    object_id = _user_id(call, object_id)
    _check_caller(call, object_id)
    attributes = write.clean(call.json_body(), creating=True)
    for key in ("user", "follower", "followee", "ACL"):
        attributes.pop(key, None)
    rights = {name: {"read": True, "write": True} for name in (object_id, check_object_id(target_id))}

    def work(transaction: Transaction) -> None:
        if transaction.get("_User", target_id) is None:
            raise StorageError(Code.NO_USER)
        principals = call.principals(transaction)
        for class_name, owner, key, other in _sides(object_id, target_id):
            info = classes.existing(transaction, class_name)
            classes.check_permission(info, "create", principals)
            change = write.apply(attributes, {}, None, info["columns"], creating=True)
            classes.add_columns(transaction, class_name, info, change.found, principals)
            body = {**change.body, "user": pointer("_User", owner), key: pointer("_User", other)}
            rows = transaction.find(_link(class_name, owner, key, other))
            ms = now()
            if rows:
                rows[0].body.update(body)
                rows[0].updated = max(ms, rows[0].updated + 1)
                transaction.update(class_name, rows[0])
            else:
                transaction.insert(class_name, Row(objects.new_id(ms), ms, ms, rights, body))

    call.service.store.write(work)
    return ok({})


def unfollow(call: Call, object_id: str, target_id: str) -> Answer:
    """DELETE: both rows go; raise 206, 403, or 221 when there was no such link."""
    object_id = _user_id(call, object_id)
    _check_caller(call, object_id)
    check_object_id(target_id)

    def work(transaction: Transaction) -> None:
        found = False
        principals = call.principals(transaction)
        for class_name, owner, key, other in _sides(object_id, target_id):
            classes.check_permission(classes.existing(transaction, class_name), "delete", principals)
            for row in transaction.find(_link(class_name, owner, key, other)):
                transaction.delete(class_name, row.id, now())
                found = True
        if not found:
            raise StorageError(Code.NO_FRIENDSHIP)

    call.service.store.write(work)
    return ok({})


def followers(call: Call, object_id: str) -> Answer:
    """GET: `{"results": [{"follower": user, ...}]}`, with the options of any query, and `count`."""
    return _listed(call, object_id, "_Follower", "follower")


def followees(call: Call, object_id: str) -> Answer:
    """GET: `{"results": [{"followee": user, ...}]}`, with the options of any query, and `count`."""
    return _listed(call, object_id, "_Followee", "followee")


def _listed(call: Call, object_id: str, class_name: str, key: str) -> Answer:
    return queries.find(call._replace(query=_own(call, _user_id(call, object_id), key)), class_name)


def followers_and_followees(call: Call, object_id: str) -> Answer:
    """GET: `{"followers": [{"follower": user}], "followees": [{"followee": user}]}`, and with `count` how many there are.

    The options of any query hold for both lists.
    """
    user_id = _user_id(call, object_id)

    def work(transaction: Transaction) -> Document:
        principals = call.principals(transaction)
        value: Document = {}
        for name, class_name, key in (
            ("followers", "_Follower", "follower"),
            ("followees", "_Followee", "followee"),
        ):
            info = classes.existing(transaction, class_name)
            classes.check_permission(info, "find", principals)
            options = {"limit": MAX_SHOWN, **_own(call, user_id, key)}
            query = queries.listing(transaction, call, class_name, options, principals)
            rows = transaction.find(query) if query.limit else []
            view = rendering.View(options["include"], options.get("keys", ""))
            value[name] = rendering.render(transaction, call, class_name, info, rows, principals, view)
            if call.flag("count"):
                value[f"{name}_count"] = transaction.count(query)
        return value

    return ok(call.service.store.read(work))


def _own(call: Call, user_id: str, key: str) -> Document:
    """The options of a query for the links of one user, with who is at their other end."""
    where = call.query.get("where") or {}
    where = parse_json(where) if isinstance(where, str) else where
    if not isinstance(where, dict):
        raise bad("where must be an object")
    include = call.query.get("include")
    own = {**where, "user": pointer("_User", user_id)}
    return {**call.query, "where": own, "include": f"{key},{include}" if include else key}


def _user_id(call: Call, object_id: str) -> str:
    """The id in a path, where `self` is the session's user; raise 206 without one."""
    if object_id != "self":
        return check_object_id(object_id)
    if call.caller.user_id is None:
        raise StorageError(Code.NO_SESSION)
    return call.caller.user_id


def _check_caller(call: Call, object_id: str) -> None:
    check_object_id(object_id)
    if call.caller.is_master:
        return
    if call.caller.user_id is None:
        raise StorageError(Code.NO_SESSION)
    if call.caller.user_id != object_id:
        raise StorageError(Code.OTHER_USER)


def _sides(object_id: str, target_id: str) -> tuple[tuple[str, str, str, str], ...]:
    """The two rows of a link: (class, whose row it is, the key of the other user, the other user)."""
    return (("_Followee", object_id, "followee", target_id), ("_Follower", target_id, "follower", object_id))


def _link(class_name: str, owner: str, key: str, other: str) -> Query:
    where = [Condition("eq", ("user",), pointer("_User", owner)), Condition("eq", (key,), pointer("_User", other))]
    return Query(class_name, conjunction(where))
