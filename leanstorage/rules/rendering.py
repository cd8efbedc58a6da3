"""Objects as clients see them: built-ins, relation stubs, expanded files and pointers, chosen keys.

Protocol sections 3.5, 5.1 and 6.2.
"""
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from leanstorage.rules import acl, classes, hidden
from leanstorage.rules.where import bad, is_private, parse_names, parse_path
from leanstorage.rules.call import Call
from leanstorage.store import (
    canonical_text,
    decode_bodies,
    Document,
    Json,
    Path,
    Principals,
    QueryTimeout,
    Row,
    Transaction,
)
from leanstorage.rules.values import format_time


MAX_INCLUDE_DEPTH = 10
MAX_INCLUDES = 100
MAX_EXPANDED = 100_000  # pointers and files in one answer
MAX_EXPANDED_SIZE = 32 << 20  # characters of what is put in their places
QUICK_EXPANDED, QUICK_EXPANDED_SIZE = 1000, 1 << 18  # on the server's loop, where others wait meanwhile
STUB_SIZE = 80  # characters of a relation, about
ALWAYS_KEPT = ("objectId", "createdAt", "updatedAt")
Tree = dict[str, Any]  # of keys: the trees below each name
ODD_IN_URL = re.compile(r'[^!-~]|["<>\\^`{|}]|%(?![0-9A-Fa-f]{2})')
USER_FLAGS = ("emailVerified", "mobilePhoneVerified")


@dataclass(frozen=True)
class Ready:
    """A JSON value that is text already."""

    text: str

    def decoded(self) -> Json:
        return json.loads(self.text)


@dataclass(frozen=True)
class View:
    """What of the rows is asked for; `include` and `keys` as they stand in the query."""

    include: str = ""
    keys: str = ""
    with_acl: bool = False


WHOLE = View()


@dataclass(frozen=True)
class Shape:
    """What the objects of a class look like to one caller, beside what each of them holds."""

    stubs: dict[str, Document]  # of relations
    hidden: frozenset[str]  # columns


class Room:
    """How much one answer may still grow by expanding pointers and files.

    A small query can ask for any amount: 1000 pointers to their own object, two levels deep, are a million copies.
    """

    def __init__(self, call: Call) -> None:
        self._is_quick = call.service.is_quick
        self._objects = QUICK_EXPANDED if self._is_quick else MAX_EXPANDED
        self._size = QUICK_EXPANDED_SIZE if self._is_quick else MAX_EXPANDED_SIZE

    def take(self, objects: int, size: int) -> None:
        """Raise 102 when there is no room, or QueryTimeout where a thread has more."""
        self._objects -= objects
        self._size -= size
        if self._objects >= 0 and self._size >= 0:
            return
        if self._is_quick:
            raise QueryTimeout
        raise bad(
            f"pointers and files would be expanded to more than {MAX_EXPANDED} objects or {MAX_EXPANDED_SIZE} characters"
        )


def rendered(
    transaction: Transaction,
    call: Call,
    class_name: str,
    info: Document,
    rows: list[Row],
    principals: Principals,
    view: View = WHOLE,
) -> list[Json] | list[str]:
    """The rows as `render` has them, or, where they are shown as they are stored, as JSON texts: half the time."""
    is_plain = not view.include and not view.keys and class_name not in ("_User", "_File")
    if not is_plain or hidden.columns_for(call, info) or _may_hold_files(rows):
        return render(transaction, call, class_name, info, rows, principals, view)
    stubs = classes.relations(info)
    extra = "," + canonical_text(stubs)[1:-1] if stubs else ""
    return [_spliced(row, extra, view.with_acl) for row in rows]


def ready(value: Document) -> Document | Ready:
    """The answer of a find, whose "results" come first, as one text if they are texts."""
    results = value["results"]
    if not results or not isinstance(results[0], str):
        return value
    rest = {key: child for key, child in value.items() if key != "results"}
    return Ready(f'{{"results":[{",".join(results)}]{"," + canonical_text(rest)[1:-1] if rest else ""}}}')


def _may_hold_files(rows: list[Row]) -> bool:
    """Whether there may be a reference to a file in the bodies; one that was not read may hold anything."""
    for row in rows:
        if not row.text or '"File"' in row.text:
            return True
    return False


def _spliced(row: Row, extra: str, with_acl: bool) -> str:
    """A row as `document` has it: a reader takes the last of two equal keys, so ours stand behind the stored ones."""
    if with_acl:
        extra += f',"ACL":{row.acl_text or canonical_text(acl.PUBLIC)}'
    times = f'"createdAt":"{format_time(row.created)}","updatedAt":"{format_time(row.updated)}"'
    stored = row.text[1:-1] if row.text else ""
    return f'{{{stored}{"," if stored else ""}"objectId":"{row.id}",{times}{extra}}}'


def render(
    transaction: Transaction,
    call: Call,
    class_name: str,
    info: Document,
    rows: list[Row],
    principals: Principals,
    view: View = WHOLE,
) -> list[Document]:
    """The rows of one class as a list of JSON objects, read with the caller's rights. Raises 102."""
    decode_bodies(rows)
    shape = shape_for(call, info)
    results = [document(call, class_name, row, shape, view.with_acl) for row in rows]
    include_paths, room = _paths(view.include), Room(call)
    for path in sorted(include_paths, key=len):
        _expand(transaction, call, results, path, principals, room)
    if include_paths or _may_hold_files(rows):
        reader = call.principals(transaction) if principals is None else principals
        expand_files(transaction, call, results, reader, room)
    wanted = parse_names(view.keys, "keys")
    if wanted:
        for part in wanted:
            parse_path(part.lstrip("-"), class_name, call.caller.is_master)
        excluded = _tree(part[1:] for part in wanted if part.startswith("-"))
        included = _tree(part for part in wanted if not part.startswith("-"))
        results = [_selected(result, included, excluded) for result in results]
    return results


def shape_for(call: Call, info: Document) -> Shape:
    """What `document` has to know of a class, for whoever made this call."""
    return Shape(classes.relations(info), hidden.columns_for(call, info))


def document(call: Call, class_name: str, row: Row, shape: Shape, with_acl: bool = False) -> Document:
    """One row as JSON, without what only its owner or only the master may see."""
    result = dict(row.body)
    if class_name == "_User":
        for key in filter(is_private, row.body):
            del result[key]
        if not call.caller.is_master and call.caller.user_id != row.id:
            result.pop("authData", None)
        for key in USER_FLAGS:
            result.setdefault(key, False)
    elif class_name == "_File" and result.get("key"):
        result["url"] = file_url(call, result["key"])
    elif class_name == "_File" and isinstance(result.get("url"), str):
        result["url"] = escaped(result["url"])
    if shape.stubs:
        result.update(shape.stubs)
    for key in shape.hidden:
        result.pop(key, None)
    result["objectId"] = row.id
    result["createdAt"] = format_time(row.created)
    result["updatedAt"] = format_time(row.updated)
    if with_acl:
        result["ACL"] = row.acl if row.acl is not None else acl.PUBLIC
    return result


def escaped(url: str) -> str:
    """A URL that somebody wrote, with what no URL may have escaped; what is escaped already stays."""
    return ODD_IN_URL.sub(lambda found: quote(found.group()), url)


def file_url(call: Call, key: str) -> str:
    """Where a file's bytes are served; escaped, because iOS opens no URL with a blank or a Chinese character."""
    base = call.service.options.files_url or call.api_url
    return f"{base}/{quote(key)}"


def expand_files(
    transaction: Transaction, call: Call, value: Json, principals: Principals, room: Room | None = None
) -> None:
    """Replace every stored file reference by the whole file, at any depth: Python's SDK needs name and url.

    A file that the caller may not read looks like a deleted one. Raises 102 when it would be too much.
    """
    found: dict[str, list[Document]] = {}
    _find_files(value, found)
    if not found:
        return
    room = room or Room(call)
    room.take(sum(map(len, found.values())), 0)
    info = classes.existing(transaction, "_File")
    is_open, shape = classes.may(info, "get", principals), shape_for(call, info)
    rows = transaction.get_many("_File", list(found), is_bounded=True) if is_open else {}
    for file_id, references in found.items():
        full: Document = {"name": "", "url": "", "objectId": file_id}
        if file_id in rows and acl.allows(rows[file_id].acl, "read", principals):
            room.take(0, len(references) * len(rows[file_id].text or ""))
            full = document(call, "_File", rows[file_id], shape)
        for reference in references:
            reference.update(full, id=file_id)


def copied(value: Json) -> Json:
    """A deep copy of JSON; rendering writes into what it is given."""
    if isinstance(value, dict):
        return {key: copied(child) for key, child in value.items()}
    if isinstance(value, list):
        return [copied(child) for child in value]
    return value


def _find_files(value: Json, found: dict[str, list[Document]]) -> None:
    if isinstance(value, dict):
        if value.get("__type") == "File" and "url" not in value:
            found.setdefault(value["id"], []).append(value)
            return
        for child in value.values():
            if isinstance(child, (dict, list)):
                _find_files(child, found)
    elif isinstance(value, list):
        for child in value:
            if isinstance(child, (dict, list)):
                _find_files(child, found)


def _paths(include: str) -> set[Path]:
    """`a,b.c` as {("a",), ("b",), ("b", "c")}: every level on the way is expanded too."""
    paths: set[Path] = set()
    for part in parse_names(include, "include"):
        names = part.split(".")[:MAX_INCLUDE_DEPTH]
        if names[0]:
            paths.update(tuple(names[:length]) for length in range(1, len(names) + 1))
    if len(paths) > MAX_INCLUDES:
        raise bad(f"include has more than {MAX_INCLUDES} keys")
    return paths


def _expand(
    transaction: Transaction, call: Call, results: list[Document], path: Path, principals: Principals, room: Room
) -> None:
    """Replace the pointers at `path` by what they point to, where the caller may read it."""
    holders = results
    for name in path[:-1]:
        holders = [child for holder in holders for child in _objects(holder.get(name))]
    pointers = [
        value
        for holder in holders
        for value in _objects(holder.get(path[-1]))
        if value.get("__type") == "Pointer" and "createdAt" not in value
    ]
    room.take(len(pointers), 0)
    by_class: dict[str, list[Document]] = {}
    for value in pointers:
        by_class.setdefault(value["className"], []).append(value)
    for class_name, group in by_class.items():
        info = classes.load(transaction, class_name)
        if info is None or not classes.may(info, "get", principals):
            continue
        shape = shape_for(call, info)
        rows = transaction.get_many(class_name, [value["objectId"] for value in group], is_bounded=True)
        for value in group:
            row = rows.get(value["objectId"])
            if row is not None and acl.allows(row.acl, "read", principals):
                room.take(0, len(row.text or "") + len(shape.stubs) * STUB_SIZE)
                value.update(copied(document(call, class_name, row, shape)))


def _objects(value: Json) -> list[Document]:
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return [child for child in value if isinstance(child, dict)]
    return []


def _selected(result: Document, included: Tree, excluded: Tree) -> Document:
    """Only the included keys and the built-ins; what is excluded is taken away, whatever else was said."""
    if included:
        kept = {key: result[key] for key in (*ALWAYS_KEPT, "ACL") if key in result}
        result = {**kept, **_picked(result, included)}
    if excluded:
        _remove(result, excluded)
    return result


def _tree(names: Iterable[str]) -> Tree:
    """`a, b.c` as {"a": {}, "b": {"c": {}}}: a walk along it costs what the object has, however many names there are.

    `{}` is the whole value, whatever was said of its parts.
    """
    tree: Tree = {}
    for name in names:
        *path, last = name.split(".")
        branch = tree
        for part in path:
            is_new = part not in branch
            branch = branch.setdefault(part, {})
            if not branch and not is_new:
                break
        else:
            branch[last] = {}
    return tree


def _picked(value: Document, tree: Tree) -> Document:
    picked = {}
    for name in tree if len(tree) < len(value) else value:
        if name in value and name in tree:
            picked[name] = _part(value[name], tree[name])
    return picked


def _part(value: Json, tree: Tree) -> Json:
    """What is left of a value with its chosen keys: a pointer keeps its built-ins, which SDKs need."""
    if not tree:
        return value
    if isinstance(value, list):
        return [_part(child, tree) if isinstance(child, dict) else child for child in value]
    if not isinstance(value, dict):
        return value
    shell = {key: value[key] for key in ("__type", "className", *ALWAYS_KEPT) if key in value}
    return {**shell, **_picked(value, tree)}


def _remove(value: Json, tree: Tree) -> None:
    if isinstance(value, list):
        for child in value:
            _remove(child, tree)
    elif isinstance(value, dict):
        for name in list(tree if len(tree) < len(value) else value):
            if name in value and name in tree:
                if tree[name]:
                    _remove(value[name], tree[name])
                else:
                    del value[name]


def hook_object(transaction: Transaction, call: Call, body: Document, info: Document) -> Document:
    """A body as the engine is sent it: files expanded, relations as stubs, no password."""
    result: Document = copied({key: value for key, value in body.items() if not is_private(key)})
    result.update({key: stub for key, stub in classes.relations(info).items()})
    expand_files(transaction, call.to_engine, result, None)  # the engine is the app's own, and reads what it likes
    return result
