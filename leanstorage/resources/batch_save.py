"""POST /batch/save: how the Swift, ObjC and Java SDKs save objects together with those they point to. Appendix C.1.

Objects that are not stored yet are named by the client (`__internalId`); `__children` says which keys become pointers to
others of the same call. Everything is stored in one transaction, or nothing.
"""
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from leanstorage.resources import objects, roles, users
from leanstorage.resources.batch import MAX_REQUESTS
from leanstorage.rules import operations, values, write
from leanstorage.rules.call import Answer, Call, limit_traffic, ok
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


@dataclass
class Prepared:
    """A save whose hooks have been called; (fields, rules) for each body."""

    save: Save
    steps: list[tuple[Document, objects.Rules]]


def run(call: Call) -> Answer:
    """200 with `{internal id or objectId: {"objectId", "createdAt"} or {"updatedAt", what operations changed}}`.

    Raises what the first request that cannot be done raises, and then nothing is stored.
    """
    requests = call.json_body().get("requests")
    if not isinstance(requests, list) or not requests:
        raise StorageError(Code.BAD_JSON, detail="requests must be a non-empty array")
    if len(requests) > MAX_REQUESTS:
        raise StorageError(Code.BATCH_TOO_LONG, limit=MAX_REQUESTS)
    limit_traffic(call.service, call.caller.address, call.caller.has_hook_key, len(requests) - 1)
    saves = _parsed(requests)
    _link(saves)
    prepared = [_prepared(call, save) for save in saves.values()]

    def work(transaction: Transaction) -> list[tuple[Row, list[str]]]:
        return [_stored(transaction, call, one) for one in prepared]

    stored = call.service.store.write(work)
    answer = {}
    for one, (row, written) in zip(prepared, stored, strict=True):
        save = one.save
        objects.after(call, save.class_name, "afterSave" if save.is_new else "afterUpdate", row, None if save.is_new else written)
        answer[save.internal_id or save.object_id] = _answered(call, save, row)
    return ok(answer)


def _parsed(requests: list[Json]) -> dict[str, Save]:
    """{internal id, or else objectId: Save}, in the order of the requests."""
    saves: dict[str, Save] = {}
    for request in requests:
        found = PATH.fullmatch(request["path"]) if isinstance(request, dict) and isinstance(request.get("path"), str) else None
        body = request.get("body") if found else None
        if found is None or request.get("method") not in ("POST", "PUT") or not isinstance(body, dict):
            raise StorageError(Code.BAD_JSON, detail="each request needs a method (POST or PUT), a path of an object and a body")
        class_name = values.check_class_name(found[1] or CLASSES[found[2]])
        if class_name == "_File" or (class_name == "_User" and not found[3]):
            raise StorageError(Code.NO_ROUTE)  # files are uploaded, accounts are signed up
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
        params = request.get("params") if isinstance(request.get("params"), dict) else {}
        save.is_shown |= request.get("new") is True or any(params.get(name) in (True, "true") for name in ("new", "fetchWhenSave"))
        save.bodies.append(body)
        save.children += children
    return saves


def _link(saves: dict[str, Save]) -> None:
    """Put pointers to the other objects of the call where `__children` asks for them."""
    by_id = {save.object_id: save for save in saves.values()}
    for save in saves.values():
        for child in save.children:
            class_name, cid, key = (child.get(name) for name in ("className", "cid", "key")) if isinstance(child, dict) else (0, 0, 0)
            if not (isinstance(class_name, str) and isinstance(cid, str) and isinstance(key, str)):
                raise StorageError(Code.BAD_JSON, detail="each of __children needs className, cid and key")
            other = saves.get(cid) or by_id.get(cid)
            if other is not None and other.class_name != class_name:
                raise StorageError(Code.BAD_JSON, detail="a child is of another class than it says")
            object_id = other.object_id if other else values.check_object_id(cid)
            pointer = {"__type": "Pointer", "className": class_name, "objectId": object_id}
            save.bodies[-1] = {**save.bodies[-1], key: pointer}


def _prepared(call: Call, save: Save) -> Prepared:
    """The save after its before hooks; what it will store is not there yet."""
    steps = []
    for index, body in enumerate(save.bodies):
        inner, rules = call.with_body(body), objects.PLAIN
        is_insert = save.is_new and index == 0
        fields = write.clean(body, creating=is_insert)
        if save.class_name == "_User":
            fields, rules, _ = users.prepared_update(inner, save.object_id)
        elif save.class_name == "_Role":
            rules = roles.RULES
            if is_insert:
                roles.check_new(inner, fields)
        if is_insert:
            fields = objects.before_insert(call, save.class_name, fields, rules)
        elif not save.is_new:
            fields = objects.before_change(call, save.class_name, save.object_id, fields, rules)
        steps.append((fields, rules))
    return Prepared(save, steps)


def _stored(transaction: Transaction, call: Call, one: Prepared) -> tuple[Row, list[str]]:
    save, written = one.save, []
    for index, (fields, rules) in enumerate(one.steps):
        if save.is_new and index == 0:
            row, _ = objects.insert(transaction, call, save.class_name, fields, rules, save.object_id)
        else:
            row, keys, _ = objects.change(transaction, call, save.class_name, save.object_id, fields, rules)
            written += keys
    return row, list(dict.fromkeys(written))


def _answered(call: Call, save: Save, row: Row) -> Document:
    if save.is_shown:
        whole: Document = call.service.store.read(
            lambda transaction: objects.whole(transaction, call, save.class_name, row.id)
        )
        return whole
    if save.is_new:
        return {"objectId": row.id, "createdAt": format_time(row.created)}
    changed: dict[str, Any] = {key: copied(row.body[key]) for key in _operated(save) if key in row.body}
    return {"objectId": row.id, "updatedAt": format_time(row.updated), **changed}


def _operated(save: Save) -> Iterator[str]:
    """The keys whose new values the client cannot know by itself."""
    for body in save.bodies:
        for key, value in body.items():
            if operations.is_operation(value) and not operations.is_relation(value):
                yield key.split(".")[0]
