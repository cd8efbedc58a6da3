"""What a file of an export holds, told by its content, and the raw rows in it. Protocol section 9.1.

Read are: JSON Lines with or without `#filetype:JSON-streaming {...}` lines, lines that end in `},`, an array of
objects, `{"results": [...]}`, arrays by class, a backup of Waline, objects one after another, schema files, join files of
relations, CSV with a line of types, BSON, and our own files of refused rows. `raw_rows` cuts them, `names` reads their names, `recode` their encodings.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from leanstorage.rules import values
from leanstorage.rules.errors import StorageError
from leanstorage.store import Document, Json
from leanstorage.takeout import csv_rows, inboxes, mended_rows, names, raw_rows, recode
from leanstorage.takeout.raw_rows import Piece
from leanstorage.takeout.sources import CHUNK_BYTES, Member, Peeked, SourceError, printable

MAX_SCHEMA_BYTES = 16 << 20
_HEADER = re.compile(rb"#filetype:JSON-streaming[ \t]*(\{[^\n]*\})")
_RESULTS = re.compile(rb'"results"\s*:\s*\[')
_OPENING = re.compile(rb'\{\s*"results"\s*:\s*\[')
_SCAN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:]|[^\s{}\[\]:,"]+')
_WALINE = re.compile(rb'"type"\s*:\s*"waline"')
_WALINE_DATES = frozenset(["insertedAt"])  # which its backup has as texts
_WRAPPERS = frozenset([b"data", b"items", b"list", b"records", b"results", b"rows"])  # names of arrays that are no classes
_ROW = re.compile(rb'(?:\[\s*)?\{\s*"')
_JOIN = re.compile(r"_Join[:.](?P<key>[A-Za-z0-9_]+)[:.](?P<owner>[A-Za-z0-9_]+)")
_JOIN_UNDERSCORED = re.compile(r"_Join_(?P<key>[A-Za-z0-9]+)_(?P<owner>_?[A-Za-z0-9]+)(?![A-Za-z0-9_])")
Columns = dict[str, Document]  # key -> {"type", "className"?}


@dataclass
class Content:
    """What a member, or a part of it, is.

    "rows", "relation" and "inboxes" have raw rows, "schema" has columns, "other" is no export and "nothing" is empty.
    """

    kind: str
    class_name: str = ""
    key: str = ""  # of a relation
    target: str | None = None  # class of a relation's members, where the file says so
    encoding: str = "json"  # or "bson"
    dates: frozenset[str] = frozenset()  # keys whose texts are dates
    schemas: dict[str, Columns] = field(default_factory=dict)  # by class
    settings: Document = field(default_factory=dict)  # "permissions", "default_acl", "indexes", of our own exports
    pieces: Iterable[Piece] = ()  # raises SourceError where the file cannot be read on


def contents(member: Member, class_name: str | None = None) -> Iterator[Content]:
    """Yield the Contents of a member, whose pieces are good until the next one is asked for.

    `class_name` is that of files that do not say their own. Raises SourceError for what cannot be told or is no class
    of this server.
    """
    name = member.name.lower()
    if name.endswith(".bson"):
        pieces = raw_rows.bson_documents(member.stream)
        yield _rows(member, _class_name(member, {}, class_name), pieces, "bson")
        return
    if is_beside(name):
        yield Content("nothing")
        return
    head = _readable(member)
    if not head.strip():
        member.stream.read(len(member.stream.head))
        if member.stream.read(1):
            raise SourceError(f"{member.label}: neither JSON nor BSON")
        yield Content("nothing")
    elif name.endswith((".csv", ".tsv")):
        yield _rows(member, _class_name(member, {}, class_name), csv_rows.rows(member.stream))
    elif names.is_other(name) and not head.startswith(b"#filetype") and not _ROW.match(head):
        if member.is_named:
            raise SourceError(f"{member.label}: neither JSON nor BSON")
        yield Content("other")
    else:
        yield from _json(member, head, class_name)


def is_beside(name: str) -> bool:
    """Whether a file is what MongoDB's tools put beside a backup, with nothing to import."""
    return name.lower().endswith(".metadata.json")


def _readable(member: Member) -> bytes:
    """The beginning of a member as UTF-8 with its lines ended by LF; its stream becomes that too."""
    head = member.stream.head
    encoding = recode.encoding_of(head)
    if encoding:
        member.stream = Peeked(recode.as_utf_8(member.stream, encoding))
        member.encoding = encoding
    if recode.has_lone_cr(member.stream.head):
        member.stream = Peeked(recode.WithNewlines(member.stream))
    return member.stream.head.removeprefix(recode.BOM)


def _json(member: Member, head: bytes, class_name: str | None) -> Iterator[Content]:
    stream, header = member.stream, _HEADER.match(head)
    body = head
    while body.lstrip().startswith(b"#"):
        _, _, body = body.lstrip().partition(b"\n")
    body = body.lstrip().removeprefix(recode.BOM)
    if body.startswith(b'{"class"') and not header and mended_rows.is_one(body.split(b"\n", 1)[0]):
        yield from _mended(member)
        return
    found = None if header else _schemas(member, body)
    if found is not None:
        schemas, settings = found
        yield Content("schema", schemas=schemas, settings=settings)
    elif body.startswith(b"{") and not header and _is_by_class(body):
        dates = _WALINE_DATES if _WALINE.search(body) else frozenset()
        for name, pieces in raw_rows.arrays(stream):
            if name in _WRAPPERS and dates:
                raise SourceError(f"{member.label}: a backup of Waline whose rows are not in tables by name")
            join = _JOIN.fullmatch(name.decode("utf-8", "replace"))
            if name in _WRAPPERS:
                yield _rows(member, _named(member, class_name), pieces)
            elif join:
                yield Content("relation", _checked(member, join["owner"]), join["key"], pieces=pieces)
            else:
                yield Content("rows", _checked(member, name.decode("utf-8", "replace")), dates=dates, pieces=pieces)
    elif body.startswith(b"["):
        told = _header(member, head.split(b"\n", 1)[0].strip()) if header else {}
        yield _rows(member, told or _named(member, class_name), raw_rows.elements(stream, opened_by=b"["))
    elif body.startswith(b"{") and not header and _is_document(body):
        results = _RESULTS.search(body)
        pieces = raw_rows.elements(stream, opened_by=results.group() if results else None)
        yield _rows(member, _named(member, class_name), pieces)
    elif body.startswith(b"{") or header or not body:
        for line, pieces in raw_rows.sections(stream):
            yield _rows(member, _header(member, line) or _named(member, class_name), pieces)
    else:
        raise SourceError(f"{member.label}: neither JSON nor BSON")


def _mended(member: Member) -> Iterator[Content]:
    for name, pieces in mended_rows.by_class(member.stream).items():
        owner, _, key = name.partition(".")
        if name == inboxes.NAME:
            yield Content("inboxes", pieces=pieces)
        elif key:
            yield Content("relation", _checked(member, owner), key, pieces=pieces)
        else:
            yield Content("rows", _checked(member, name), pieces=pieces)


def _named(member: Member, class_name: str | None) -> str | Document:
    return {} if class_name is None or _join_of(member.name) or _is_built_in(member.name) else _checked(member, class_name)


def _is_built_in(name: str) -> bool:
    """Whether a file is named by a class such as `_User`, whose rows are never those of another class."""
    found = names.class_of(name)
    return found in values.SYSTEM_CLASSES or found in values.OTHER_SYSTEM_CLASSES


def _join_of(name: str) -> re.Match[str] | None:
    name = names.without_date(re.sub("%3[Aa]|：", ":", name))
    return _JOIN.match(name) or _JOIN_UNDERSCORED.match(name)


def _rows(member: Member, header: str | Document, pieces: Iterable[Piece], encoding: str = "json") -> Content:
    if isinstance(header, str):
        return Content("rows", header, encoding=encoding, pieces=pieces)
    if header.get("type") == inboxes.TYPE:
        return Content("inboxes", pieces=pieces)
    join = _JOIN.match(str(header.get("class", ""))) or _join_of(member.name)
    if header.get("type") == "Relation" or join:
        owner, key = header.get("class"), header.get("key")
        if join and header.get("type") != "Relation":
            owner, key = join.group("owner"), join.group("key")
        target = header.get("target")
        owner = _checked(member, owner)
        target = None if target is None else _checked(member, target)
        if not isinstance(key, str) or not values.STORED_KEY.fullmatch(key) or len(key) > 200:
            raise SourceError(f"{member.label}: the relation has no usable key")
        return Content("relation", owner, key, target, pieces=pieces)
    return Content("rows", _class_name(member, header), encoding=encoding, pieces=pieces)


def _header(member: Member, line: bytes) -> Document:
    """What a `#filetype` line says, {} where there is none; raises SourceError for one that says nothing."""
    if not line:
        return {}
    found = _HEADER.match(line)
    try:
        header = json.loads(found.group(1)) if found else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise SourceError(f"{member.label}: a #filetype line that does not tell what follows it")
    return header


def _class_name(member: Member, header: Document, class_name: str | None = None) -> str:
    """The class that a header, else the operator, else the file's name tells."""
    given = header.get("class") or (None if _is_built_in(member.name) else class_name)
    told = given or names.class_of(member.name)
    if given or names.is_like_a_class(told):
        return _checked(member, told)
    wanted = "_Join.KEY.CLASS.jsonl" if "_Join" in member.name else "CLASS.json"
    raise SourceError(f"{member.label}: its name tells no class: name one with --class, or rename the file to {wanted}")


def _checked(member: Member, name: Json) -> str:
    try:
        return values.check_class_name(name)
    except StorageError:
        raise SourceError(
            f"{member.label}: '{printable(str(name))}' is not a class that this server can hold: give it another name"
        ) from None


def _is_by_class(body: bytes) -> bool:
    """Whether a `{` opens `{"Comment": [{...}], ...}` or a backup of Waline rather than a row."""
    if _WALINE.search(body[:1000]) and b'"data"' in body[:1000]:
        return True
    depth, last, has_rows = 0, b"", False
    for found in () if _OPENING.match(body) else _SCAN.finditer(body):
        token = found.group()
        if depth == 1 and last == b":" and token != b"[":
            return False
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                break
        elif depth == 3 and token in (b'"objectId"', b'"createdAt"'):
            has_rows = True
        last = token
    return has_rows


def _is_document(body: bytes) -> bool:
    """Whether a `{` opens `{"results": [...]}` or an object of several lines, rather than the first of many lines."""
    line = body.split(b"\n", 1)[0].strip().removesuffix(b",")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return line == b"{" or bool(_OPENING.match(body))
    return isinstance(value, dict) and "objectId" not in value and isinstance(value.get("results"), list)


def _schemas(member: Member, body: bytes) -> tuple[dict[str, Columns], Document] | None:
    """({class: columns}, settings) of a schema file, None for another file.

    Its form is `{"title": {"type": "String"}}`, or that by class, or in `schema` beside `permissions`.
    """
    by_name = re.fullmatch(r"(?:.*_)?schemas?(?:\.[^.]*)?\.json", member.name)
    if not by_name and (len(body) >= 1 << 15 or not body.startswith(b"{")):
        return None
    data = b""
    if by_name:
        while chunk := member.stream.read(CHUNK_BYTES):
            data += chunk
            if len(data) > MAX_SCHEMA_BYTES:
                raise SourceError(f"{member.label}: the schema is larger than {MAX_SCHEMA_BYTES} bytes")
    else:
        data = body
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        if by_name:
            raise SourceError(f"{member.label}: the schema is not valid JSON") from None
        return None
    settings: Document = {}
    if isinstance(value, dict) and isinstance(value.get("schema"), dict):
        settings, value = value, value["schema"]
    if _is_columns(value):
        return {_checked(member, re.sub(r"_schema$", "", member.name.split(".")[0])): value}, settings
    if isinstance(value, dict) and value and all(map(_is_columns, value.values())):
        return {_checked(member, name): columns for name, columns in value.items()}, {}
    if by_name:
        raise SourceError(f"{member.label}: not a schema: columns with a type were expected")
    return None


def _is_columns(value: Json) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(column, dict) and isinstance(column.get("type"), str) for column in value.values())
    )
