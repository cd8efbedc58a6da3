"""What a file of an export holds, told by its content, and the raw rows in it. Protocol section 9.1.

Read are: JSON Lines with or without the `#filetype:JSON-streaming {...}` line, lines that end in `},`, an array of
objects, `{"results": [...]}`, objects one after another, schema files, join files of relations, and BSON.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from leanstorage.rules import values
from leanstorage.rules.errors import StorageError
from leanstorage.store import Document, Json
from leanstorage.takeout import inboxes
from leanstorage.takeout.sources import CHUNK_BYTES, Member, SourceError, Stream, printable

MAX_ROW_BYTES = 24 << 20  # an object has at most 16 MiB; escapes and blanks make its text longer
MAX_SCHEMA_BYTES = 16 << 20
KEPT_BYTES = 1 << 16  # of a row that is too long, for whoever wants to find it
BATCH_ROWS = 2000
BATCH_BYTES = 2 << 20
_HEADER = re.compile(rb"#filetype:JSON-streaming[ \t]*(\{[^\n]*\})")
_RESULTS = re.compile(rb'"results"\s*:\s*\[')
_OPENING = re.compile(rb'\{\s*"results"\s*:\s*\[')
_JOIN = re.compile(r"_Join[:.](?P<key>[A-Za-z0-9_]+)[:.](?P<owner>[A-Za-z0-9_]+)")
_JOIN_UNDERSCORED = re.compile(r"_Join_(?P<key>[A-Za-z0-9]+)_(?P<owner>[A-Za-z0-9_]+)")
_TOKEN = re.compile(rb'["\\{}\[\]]')
_OUTSIDE = re.compile(rb"[^\s,\]\[{}]")
Piece = tuple[int, bytes, str | None]  # line or ordinal number, a raw row, what is wrong with it
Columns = dict[str, Document]  # key -> {"type", "className"?}


@dataclass
class Content:
    """What a member is: "rows", "relation" and "inboxes" have raw rows, "schema" has columns, "nothing" is passed over."""

    kind: str
    class_name: str = ""
    key: str = ""  # of a relation
    target: str | None = None  # class of a relation's members, where the file says so
    encoding: str = "json"  # or "bson"
    schemas: dict[str, Columns] = field(default_factory=dict)  # by class
    settings: Document = field(default_factory=dict)  # "permissions", "default_acl", "indexes", of our own exports
    pieces: Iterable[Piece] = ()  # raises SourceError where the file cannot be read on


@dataclass
class Batch:
    """Raw rows of one class: `rows` as (line or ordinal number, bytes), `problems` as (number, reason, bytes)."""

    rows: list[tuple[int, bytes]]
    problems: list[tuple[int, str, bytes]]
    size: int  # bytes read
    first: int  # how many rows of the file came before


def content(member: Member) -> Content:
    """The Content of a sources.Member; raise SourceError for what cannot be told or is no class of this server."""
    stream, name = member.stream, member.name
    head = stream.head.removeprefix(b"\xef\xbb\xbf")
    if not head.strip():
        if stream.read(len(stream.head) + 1) != stream.head:
            raise SourceError(f"{member.label}: neither JSON nor BSON")
        return Content("nothing")
    if name.endswith(".bson"):
        return _rows(member, _class_name(member, {}), bson_documents(stream), "bson")
    if name.endswith((".metadata.json", ".csv", ".md", ".txt")) and not head.startswith(b"#filetype"):
        if name.endswith(".metadata.json"):
            return Content("nothing")
        raise SourceError(f"{member.label}: neither JSON nor BSON")
    header = _header(head)
    body = head
    while body.lstrip().startswith(b"#"):
        _, _, body = body.lstrip().partition(b"\n")
    body = body.lstrip()
    found = None if header else _schemas(member, body)
    if found is not None:
        schemas, settings = found
        return Content("schema", schemas=schemas, settings=settings)
    if body.startswith(b"["):
        pieces = elements(stream, opened_by=b"[")
    elif body.startswith(b"{") and not header and _is_document(body):
        results = _RESULTS.search(body)
        pieces = elements(stream, opened_by=results.group() if results else None)
    elif body.startswith(b"{") or header or not body:
        pieces = lines(stream)
    else:
        raise SourceError(f"{member.label}: neither JSON nor BSON")
    return _rows(member, header, pieces)


def _rows(member: Member, header: str | Document, pieces: Iterable[Piece], encoding: str = "json") -> Content:
    if isinstance(header, str):
        return Content("rows", header, encoding=encoding, pieces=pieces)
    if header.get("type") == inboxes.TYPE:
        return Content("inboxes", pieces=pieces)
    join = _JOIN.match(str(header.get("class", ""))) or _JOIN.match(member.name) or _JOIN_UNDERSCORED.match(member.name)
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


def _header(head: bytes) -> Document:
    found = _HEADER.match(head)
    if not found:
        return {}
    try:
        header = json.loads(found.group(1))
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _class_name(member: Member, header: Document) -> str:
    """The class that a header or else the file's name tells: `Post.0.jsonl`, `Post_all.json`, `_User.x1.bson`."""
    return _checked(member, header.get("class") or member.name.split(".")[0].removesuffix("_all"))


def _checked(member: Member, name: Json) -> str:
    try:
        return values.check_class_name(name)
    except StorageError:
        raise SourceError(
            f"{member.label}: '{printable(str(name))}' is not a class that this server can hold"
        ) from None


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


# Raw rows -----------------------------------------------------------------------------------------------------------


def batches(pieces: Iterable[Piece]) -> Iterator[Batch]:
    """Group pieces into Batches of at most BATCH_ROWS rows and about BATCH_BYTES.

    What was read before a SourceError is yielded first, then the error is raised.
    """
    rows: list[tuple[int, bytes]] = []
    problems: list[tuple[int, str, bytes]] = []
    size = first = 0
    broken: SourceError | None = None
    pieces = iter(pieces)
    while True:
        try:
            number, data, problem = next(pieces)
        except StopIteration:
            break
        except SourceError as error:
            broken = error
            break
        size += len(data) + 1
        if problem:
            problems.append((number, problem, data))
        else:
            rows.append((number, data))
        if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES or len(problems) >= BATCH_ROWS:
            yield Batch(rows, problems, size, first)
            first += len(rows)
            rows, problems, size = [], [], 0
    if rows or problems:
        yield Batch(rows, problems, size, first)
    if broken:
        raise broken


def lines(stream: Stream) -> Iterator[Piece]:
    """Yield every line with something in it, `#` lines left out.

    A line beyond MAX_ROW_BYTES comes as its beginning and a problem; its rest is read past, not kept.
    """
    number = size = 0
    parts: list[bytes] = []
    while True:
        chunk = stream.read(CHUNK_BYTES)
        *whole, last = chunk.split(b"\n")
        for line in whole:
            number += 1
            if parts:
                yield from _line(number, b"".join([*parts, line]) if size + len(line) <= MAX_ROW_BYTES else None, parts)
                parts, size = [], 0
            else:
                yield from _line(number, line, ())
        if not chunk:
            break
        if last:
            size += len(last)
            if size <= MAX_ROW_BYTES or not parts:
                parts.append(last)
    if parts:
        yield from _line(number + 1, b"".join(parts) if size <= MAX_ROW_BYTES else None, parts)


def _line(number: int, line: bytes | None, parts: Sequence[bytes]) -> Iterator[Piece]:
    if line is None:
        yield number, parts[0][:KEPT_BYTES], f"the line is longer than {MAX_ROW_BYTES} bytes"
        return
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    line = line.strip()
    if line and not line.startswith(b"#"):
        yield number, line.removesuffix(b","), None


def elements(stream: Stream, opened_by: bytes | None = None) -> Iterator[Piece]:
    """Yield every object within an array that `opened_by` opens, or at the top.

    Only brackets and strings are looked at, so a malformed object is cut out like any other and refused by itself.
    Raises SourceError without the array, or with something behind it.
    """
    splitter = _Splitter(opened_by)
    while chunk := stream.read(CHUNK_BYTES):
        if not splitter.is_done:
            yield from splitter.feed(chunk)
        elif b"{" in chunk:
            raise SourceError("something follows the array of rows")
    yield from splitter.end()


class _Splitter:
    def __init__(self, opened_by: bytes | None) -> None:
        self._opened_by = opened_by
        self._is_array = opened_by is not None
        self._pending = b""
        self._line = 1
        self._depth = 0
        self._in_string = self._escaped = False
        self._parts: list[bytes] = []
        self._size = self._first_line = 0
        self._start: int | None = None
        self._between = self._counted = 0
        self.is_done = False

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        if self._opened_by:
            chunk = self._opened(chunk, self._opened_by)
        self._start = 0 if self._depth else None  # where the current element goes on in this chunk
        self._between = 0  # where what stands between two elements begins
        self._counted = 0  # up to where lines are counted
        skip = None
        if self._escaped and chunk:
            self._escaped, skip = False, 0
        for token in _TOKEN.finditer(chunk):
            at, char = token.start(), token.group()
            if at == skip:
                continue
            if char == b"\\":
                if self._in_string:
                    skip = at + 1
                    self._escaped = skip == len(chunk)
            elif char == b'"':
                self._in_string = not self._in_string
            elif self._in_string:
                continue
            elif char in b"{[":
                yield from self._open(chunk, at)
            else:
                yield from self._close(chunk, at)
                if self.is_done:
                    return
        self._line += chunk.count(b"\n", self._counted)
        if self._start is not None:
            self._add(chunk[self._start :])
        elif not self._in_string:
            yield from self._junk(chunk[self._between :])

    def _opened(self, chunk: bytes, opened_by: bytes) -> bytes:
        """What follows the opening of the array, nothing before it was found."""
        self._pending += chunk
        at = self._pending.find(opened_by)
        if at < 0:
            if len(self._pending) > 4 * CHUNK_BYTES:
                raise SourceError("no array of rows was found")
            return b""
        at += len(opened_by)
        self._line += self._pending.count(b"\n", 0, at)
        chunk, self._pending, self._opened_by = self._pending[at:], b"", None
        return chunk

    def _open(self, chunk: bytes, at: int) -> Iterator[Piece]:
        if self._depth == 0:
            self._line += chunk.count(b"\n", self._counted, at)
            self._counted = at
            yield from self._junk(chunk[self._between : at])
            self._start, self._first_line = at, self._line
        self._depth += 1

    def _close(self, chunk: bytes, at: int) -> Iterator[Piece]:
        if self._depth:
            self._depth -= 1
            if self._depth == 0:
                yield from self._finish(chunk[self._start : at + 1])
                self._start, self._between = None, at + 1
            return
        yield from self._junk(chunk[self._between : at])
        self._between = at + 1
        if chunk[at : at + 1] == b"]":
            self.is_done = True
            if b"{" in chunk[at:]:
                raise SourceError("something follows the array of rows")

    def end(self) -> Iterator[Piece]:
        if self._depth or self._in_string:
            yield self._first_line or self._line, b"".join(self._parts)[:KEPT_BYTES], "the file ends within this row"
        elif self._opened_by:
            raise SourceError("no array of rows was found")
        elif self._is_array and not self.is_done:
            raise SourceError("the array of rows is not closed")

    def _junk(self, text: bytes) -> Iterator[Piece]:
        """What stands between two rows: anything but blanks and commas was meant to be one."""
        if _OUTSIDE.search(text):
            yield self._line, text[:KEPT_BYTES], "not an object"

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= MAX_ROW_BYTES or not self._parts:
            self._parts.append(part)

    def _finish(self, part: bytes) -> Iterator[Piece]:
        self._add(part)
        if self._size > MAX_ROW_BYTES:
            data, problem = self._parts[0][:KEPT_BYTES], f"the row is longer than {MAX_ROW_BYTES} bytes"
        else:
            data, problem = b"".join(self._parts), None
        self._parts, self._size = [], 0
        yield self._first_line, data, problem


def bson_documents(stream: Stream) -> Iterator[Piece]:
    """Yield every document of a BSON file by its ordinal; raise SourceError where the file is none."""
    number, rest = 0, b""
    while True:
        while len(rest) < 4:
            chunk = stream.read(CHUNK_BYTES)
            if not chunk:
                if rest:
                    raise SourceError("the BSON ends within a document")
                return
            rest += chunk
        size = int.from_bytes(rest[:4], "little")
        if not 5 <= size <= MAX_ROW_BYTES:
            raise SourceError(f"document {number + 1} is not BSON, or larger than {MAX_ROW_BYTES} bytes")
        parts, have = [rest], len(rest)
        while have < size:
            chunk = stream.read(CHUNK_BYTES)
            if not chunk:
                raise SourceError("the BSON ends within a document")
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts) if len(parts) > 1 else rest
        # Cut all whole documents out of what was read, so that the rest is copied once a chunk.
        at = 0
        while len(data) - at >= 4:
            size = int.from_bytes(data[at : at + 4], "little")
            if not 5 <= size <= MAX_ROW_BYTES or len(data) - at < size:
                break
            number += 1
            yield number, data[at : at + size], None
            at += size
        rest = data[at:]
