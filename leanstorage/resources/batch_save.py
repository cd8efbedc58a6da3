"""POST /batch/save: how the Swift, ObjC and Java SDKs save objects together with those they point to. Appendix C.1.

Objects that are not stored yet are named by the client (`__internalId`); `__children` says which keys become pointers to
others of the same call. Everything is stored in one transaction, or nothing.
"""
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from leanstorage.resources import doers, files, installations, mail, objects, roles, users
from leanstorage.resources.batch import MAX_REQUESTS
from leanstorage.rules import classes, hidden, operations, values, write
from leanstorage.rules.call import Answer, BATCH_SECONDS, Call, limit_traffic, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.rendering import copied
from leanstorage.store import Document, Json, Row, Transaction, now
from leanstorage.rules.values import format_time

PATH = re.compile(r"/1(?:\.1)?/(?:classes/([A-Za-z0-9_]+)|(users|roles|installations))(?:/([A-Za-z0-9]+))?")
CLASSES = {"users": "_User", "roles": "_Role", "installations": "_Installation"}
MAX_INTERNAL_ID = 200  # characters


@dataclass
class Save:
    """One object of the call. `bodies` are applied one after the other."""

    class_name: str
    internal_id: str
    object_id: str
    is_new: bool
    bodies: list[Document] = field(default_factory=list)
    children: list[Document] = field(default_factory=list)
    is_shown: bool = False  # whether the answer holds the whole object
    is_found: bool = False  # a device that came as new, and is stored
    where: Json = None  # its condition
    linked: set[str] = field(default_factory=set)  # the keys of its children


@dataclass
class Prepared:
    """A save whose hooks have been called: (fields, rules) for each body, and who makes it."""

    save: Save
    call: Call
    guard: objects.Guard | None
    steps: list[tuple[Document, objects.Rules]]


@dataclass
class Stored:
    """A save in its transaction: the row, the keys that were written, a user's new session token."""

    row: Row
    written: list[str]
    token: str | None


def run(call: Call) -> Answer:
    """200 with `{internal id or objectId: {"objectId", "createdAt"} or {"updatedAt", what operations changed}}`.

    A new user is a sign-up, and answered like one. Raises what the first request that cannot be done raises, and then
    nothing is stored; 124 when the time is over before everything is prepared.
    """
    requests = call.json_body().get("requests")
    if not isinstance(requests, list) or not requests:
        raise StorageError(Code.BAD_JSON, detail="requests must be a non-empty array")
    if len(requests) > MAX_REQUESTS:
        raise StorageError(Code.BATCH_TOO_LONG, limit=MAX_REQUESTS)
    limit_traffic(call.service, call.caller.address, call.caller.has_hook_key, len(requests) - 1)
    deadline = time.monotonic() + BATCH_SECONDS
    saves = _parsed(requests)
    _find_devices(call, saves)
    _link(saves)
    prepared = []
    for save in saves.values():
        if time.monotonic() > deadline:
            raise StorageError(Code.TIMEOUT)
        prepared.append(_prepared(call, save))
    stored = call.service.store.write(lambda transaction: [_stored(transaction, one) for one in prepared])
    return ok({one.save.internal_id or one.save.object_id: _finished(one, done) for one, done in zip(prepared, stored, strict=True)})


def _parsed(requests: list[Json]) -> dict[str, Save]:
    """{internal id, or else objectId: Save}, in the order of the requests."""
    saves: dict[str, Save] = {}
    for request in requests:
        found = PATH.fullmatch(request["path"]) if isinstance(request, dict) and isinstance(request.get("path"), str) else None
        body = request.get("body") if found else None
        if found is None or request.get("method") not in ("POST", "PUT") or not isinstance(body, dict):
            raise StorageError(Code.BAD_JSON, detail="each request needs a method (POST or PUT), a path of an object and a body")
        class_name = values.check_class_name(found[1] or CLASSES[found[2]])
        if class_name == "_File" and (request["method"] == "PUT" or found[3]):
            raise StorageError(Code.NOT_FOR_CLIENTS, detail="A file cannot be changed.")
        internal_id, children = body.get("__internalId", ""), body.get("__children", [])
        if not isinstance(internal_id, str) or len(internal_id) > MAX_INTERNAL_ID or not isinstance(children, list):
            raise StorageError(Code.BAD_JSON, detail="__internalId must be a text, __children an array")
        key = internal_id or found[3] or f"request {len(saves)}"
        save = saves.get(key)
        if save is None:
            is_new = request["method"] == "POST" and not found[3]
            if not is_new and not found[3]:
                raise StorageError(Code.BAD_JSON, detail="a PUT needs an objectId in its path")
            object_id = objects.new_id(now()) if is_new else values.check_object_id(found[3])
            save = saves[key] = Save(class_name, internal_id, object_id, is_new)
        elif save.class_name != class_name:
            raise StorageError(Code.BAD_JSON, detail="one __internalId names objects of two classes")
        asked = _add(save, request, body, children)
    for one in saves.values():
        # Swift sends the options of the object that is saved, which comes last, along with each of those that it holds.
        if one.class_name != class_name and one.where == asked:
            one.where = None
    return saves


def _add(save: Save, request: Document, body: Document, children: list[Document]) -> Json:
    """Take in one request of a save; return its condition."""
    params: Document = request["params"] if isinstance(request.get("params"), dict) else {}
    # `new` beside them, which iOS and Android send, only says that the object is a new one.
    save.is_shown |= any(params.get(name) in (True, "true") for name in ("new", "fetchWhenSave"))
    where = objects.condition(params)
    if where is not None and not save.is_new:  # of what is not stored there is nothing to ask
        if save.where not in (None, where):
            raise StorageError(Code.BAD_JSON, detail="one object has two conditions")
        save.where = where
    save.bodies.append(body)
    save.children += children
    return where


def _find_devices(call: Call, saves: dict[str, Save]) -> None:
    """A new device that is stored already is changed instead."""
    for save in saves.values():
        if save.class_name == "_Installation" and save.is_new:
            known = installations.find_known(call.with_body(save.bodies[0]), write.clean(save.bodies[0], creating=True))
            if known is not None:
                save.object_id, save.is_new, save.is_found = known, False, True


def _link(saves: dict[str, Save]) -> None:
    """Put pointers to the other objects of the call where `__children` asks for them."""
    by_id = {save.object_id: save for save in saves.values()}
    for save in saves.values():
        for child in save.children:
            class_name, cid, key = (child.get(name) for name in ("className", "cid", "key")) if isinstance(child, dict) else (None, None, None)
            if not (isinstance(class_name, str) and isinstance(cid, str) and isinstance(key, str)):
                raise StorageError(Code.BAD_JSON, detail="each of __children needs className, cid and key")
            other = saves.get(cid) or by_id.get(cid)
            if other is not None and other.class_name != class_name:
                raise StorageError(Code.BAD_JSON, detail="a child is of another class than it says")
            object_id = other.object_id if other else values.check_object_id(cid)
            save.linked.add(key)
            pointer = {"__type": "Pointer", "className": class_name, "objectId": object_id}
            save.bodies[-1] = {**save.bodies[-1], key: pointer}


def _prepared(call: Call, save: Save) -> Prepared:
    """The save after its before hooks; what it will store is not there yet."""
    if save.class_name == "_User" and save.is_new:
        call = users.of_nobody(call)
    guard = None if save.where is None else objects.Guard(save.where)
    steps = []
    for index, body in enumerate(save.bodies):
        inner, is_first = call.with_body(body), index == 0
        fields, rules = _checked(inner, save, is_first)
        if save.is_new and is_first:
            fields = objects.before_insert(inner, save.class_name, fields, rules)
        elif not save.is_new:
            fields = objects.before_change(inner, save.class_name, save.object_id, fields, rules, guard if is_first else None)
        steps.append((fields, rules))
    return Prepared(save, call, guard, steps)


def _checked(call: Call, save: Save, is_first: bool) -> tuple[Document, objects.Rules]:
    """(fields, rules) of one body, by the rules of its class."""
    body, is_insert = call.json_body(), save.is_new and is_first
    if save.class_name == "_User":
        if is_insert:
            return users.prepared_sign_up(call)
        fields, rules, _ = users.prepared_update(call, save.object_id)
        return fields, rules
    if save.class_name == "_File":
        body = files.external_fields(body)
    fields = write.clean(body, creating=is_insert)
    if save.class_name == "_Role" and is_insert:
        roles.check_new(call, fields)
    return fields, {"_Role": roles.RULES, **doers.RULES}.get(save.class_name, objects.PLAIN)


def _stored(transaction: Transaction, one: Prepared) -> Stored:
    save, call, written, token = one.save, one.call, [], None
    for index, (fields, rules) in enumerate(one.steps):
        if save.is_new and index == 0:
            row, kept = objects.insert(transaction, call, save.class_name, fields, rules, save.object_id)
            if save.class_name == "_User":  # whatever follows is its own doing
                call = call._replace(caller=replace(call.caller, user_id=row.id))
        else:
            guard = one.guard if index == 0 else None
            row, keys, kept = objects.change(transaction, call, save.class_name, save.object_id, fields, rules, guard)
            written += keys
        token = kept or token
    return Stored(row, list(dict.fromkeys(written)), token)


def _finished(one: Prepared, done: Stored) -> Document:
    """What is left to do once everything is stored; return the answer."""
    save, call = one.save, one.call.with_body(one.save.bodies[0])
    hook, written = ("afterSave", None) if save.is_new else ("afterUpdate", done.written)
    objects.after(call, save.class_name, hook, done.row, written)
    if save.class_name == "_User":
        mail.verify_new_address(call.with_body({key: value for body in save.bodies for key, value in body.items()}))
    return _answered(call, save, done)


def _answered(call: Call, save: Save, done: Stored) -> Document:
    """What the client does not know yet. Android and ObjC lose an object that they hold for a pointer that is answered."""
    return {key: value for key, value in _shown(call, save, done).items() if key not in save.linked}


def _shown(call: Call, save: Save, done: Stored) -> Document:
    row = done.row
    if save.class_name == "_User" and save.is_new and done.token:
        return users.new_user(call, row, done.token)
    value: Document = {"objectId": row.id}
    if save.is_new or save.is_found:
        value["createdAt"] = format_time(row.created)
    operated = any(_operated(save))
    if operated or not save.is_new:
        value["updatedAt"] = format_time(row.updated)
    if done.token:
        value["sessionToken"] = done.token
    if not save.is_shown and not operated:
        return value

    def work(transaction: Transaction) -> Document:
        if not save.is_new and not objects.may_see(transaction, call, save.class_name, row):
            return value
        if not save.is_shown:
            unseen = hidden.columns_for(call, classes.existing(transaction, save.class_name))
            return value | {key: copied(row.body[key]) for key in _operated(save) if key in row.body and key not in unseen}
        whole: Document = objects.whole(transaction, call, save.class_name, row.id)
        return whole if done.token is None else {**whole, "sessionToken": done.token}

    return objects.shown(call, work, value)


def _operated(save: Save) -> Iterator[str]:
    """The keys whose new values the client cannot know by itself: all of the first body of a new object it does."""
    for body in save.bodies[1 if save.is_new else 0 :]:
        for key, value in body.items():
            if operations.is_operation(value) and not operations.is_relation(value):
                yield key.split(".")[0]
