"""Files cut into raw rows: JSON Lines, arrays, arrays by class, BSON; and rows grouped into batches.

Nothing here parses a row. What is read is bounded, so that memory does not grow with a file.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from leanstorage.takeout.recode import BOM
from leanstorage.takeout.sources import CHUNK_BYTES, SourceError, Stream, printable

MAX_ROW_BYTES = 24 << 20  # an object has at most 16 MiB; escapes and blanks make its text longer
MAX_BETWEEN = 1 << 20  # bytes between two arrays of one document
KEPT_BYTES = 1 << 16  # of a row that is too long, for whoever wants to find it
BATCH_ROWS = 2000
BATCH_BYTES = 2 << 20
HEADER = "header"  # the problem of a piece that is the `#filetype` line of the rows behind it
_FILETYPE = b"#filetype"
_NAMED_ARRAY = re.compile(rb'"([^"\\]{1,200})"\s*:\s*\[(?=\s*[{\]])')
_BETWEEN = re.compile(rb'(?:("(?:[^"\\]|\\.)*")\s*:\s*)?([\[{])|"(?:[^"\\]|\\.)*"')
_AROUND = ((b'"data"', b"{"), (b'"tables"', b"["))  # what a backup of Waline has around its arrays of rows
_TOKEN = re.compile(rb'["\\{}\[\]]')
_BLANKS = b" \t\r\n\v\f\x1a"  # the last one ends a file that `copy a+b c` of Windows joined
_OUTSIDE = re.compile(rb"[^\s\x1a,\]\[{}]")
Piece = tuple[int, bytes, str | None]  # line or ordinal number, a raw row, what is wrong with it


@dataclass
class Batch:
    """Raw rows of one class: `rows` as (line or ordinal number, bytes), `problems` as (number, reason, bytes)."""

    rows: list[tuple[int, bytes]]
    problems: list[tuple[int, str, bytes]]
    size: int  # bytes read
    first: int  # how many rows of the file came before
    moved: int = 0  # how many of `rows` hold several objects and are read elsewhere


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
    """Yield every line with something in it, `#` lines left out but those of a `#filetype`, whose problem is HEADER.

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
    line = line.strip(_BLANKS)
    while line.startswith(BOM):  # files that were joined have one within, or several
        line = line.removeprefix(BOM).strip(_BLANKS)
    if not line:
        return
    if not line.startswith(b"#"):
        yield number, line.removesuffix(b","), None
    elif line.startswith(_FILETYPE):
        yield number, line, HEADER


Sections = Iterator[tuple[bytes, Iterator[Piece]]]


def sections(stream: Stream) -> Sections:
    """Cut JSON Lines at their `#filetype` lines: yield (that line, its pieces), the line empty where there is none.

    Pieces that nobody took are read past.
    """
    pieces = lines(stream)
    first = next(pieces, None)
    header: bytes | None = b""
    if first is not None and first[2] is HEADER:
        header = first[1]
    elif first is not None:
        pieces = chain([first], pieces)
    while header is not None:
        following: list[bytes] = []
        rows = _until_header(pieces, following)
        yield header, rows
        for _ in rows:
            pass
        header = following[0] if following else None


def _until_header(pieces: Iterator[Piece], following: list[bytes]) -> Iterator[Piece]:
    for piece in pieces:
        if piece[2] is HEADER:
            following.append(piece[1])
            return
        yield piece


def arrays(stream: Stream) -> Sections:
    """Cut `{"Comment": [{...}], "Counter": [...]}` into (name, pieces); texts and numbers around these arrays are left out.

    Raises SourceError where the document is not closed, or something else in it could hold rows.
    """
    rest, line, is_first = b"", 1, True
    while True:
        found = _NAMED_ARRAY.search(rest)
        if not found:
            chunk = stream.read(CHUNK_BYTES)
            if not chunk:
                if not rest.rstrip().endswith(b"}"):
                    raise SourceError("the document is not closed")
                _check_between(rest, is_first)
                return
            rest += chunk
            if len(rest) > MAX_BETWEEN + CHUNK_BYTES:
                raise SourceError("no array of rows was found")
            continue
        _check_between(rest[: found.start()], is_first)
        splitter = _Splitter(b"[", line + rest.count(b"\n", 0, found.end() - 1))
        rows = _array(splitter, stream, rest[found.end() - 1 :])
        yield found.group(1), rows
        for _ in rows:
            pass
        rest, line, is_first = splitter.rest, splitter.line, False


def _check_between(text: bytes, is_first: bool) -> None:
    """Raise SourceError for an array or an object that is not cut into rows, and would be lost."""
    for found in _BETWEEN.finditer(text.lstrip().removeprefix(BOM).lstrip(), is_first):
        name, opening = found.groups()
        if opening and not name:
            raise SourceError("something follows the arrays of rows")
        if opening and (name, opening) not in _AROUND:
            name = printable(name[1:-1].decode("utf-8", "replace"))
            raise SourceError(f"what is named '{name}' in it is no array of rows: take it out, or make it one")


def _array(splitter: "_Splitter", stream: Stream, chunk: bytes) -> Iterator[Piece]:
    while chunk and not splitter.is_done:
        yield from splitter.feed(chunk)
        if not splitter.is_done:
            chunk = stream.read(CHUNK_BYTES)
    yield from splitter.end()


def split_objects(line: bytes) -> list[bytes]:
    """The objects that stand on one line; [] unless there are several and nothing else."""
    splitter = _Splitter(None)
    found = [*splitter.feed(line), *splitter.end()]
    return [data for _, data, _ in found] if len(found) > 1 and not any(problem for _, _, problem in found) else []


def elements(stream: Stream, opened_by: bytes | None = None) -> Iterator[Piece]:
    """Yield every object within an array that `opened_by` opens, or at the top.

    Only brackets and strings are looked at, so a malformed object is cut out like any other and refused by itself.
    Raises SourceError without the array, or with something behind it.
    """
    splitter = _Splitter(opened_by)
    while chunk := stream.read(CHUNK_BYTES):
        if not splitter.is_done:
            yield from splitter.feed(chunk)
            chunk = splitter.rest
        if splitter.is_done and (b"{" in chunk or (opened_by == b"[" and chunk.strip(_BLANKS))):
            raise SourceError("something follows the array of rows")
    yield from splitter.end()


class _Splitter:
    def __init__(self, opened_by: bytes | None, line: int = 1) -> None:
        self.is_done = False
        self.line = line  # where it stands
        self.rest = b""  # of the last chunk, once it is done
        self._opened_by = opened_by
        self._is_array = opened_by is not None
        self._pending = b""
        self._depth = 0
        self._in_string = self._escaped = False
        self._parts: list[bytes] = []
        self._size = self._first_line = 0
        self._start: int | None = None
        self._between = self._counted = 0

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
        self.line += chunk.count(b"\n", self._counted)
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
        self.line += self._pending.count(b"\n", 0, at)
        chunk, self._pending, self._opened_by = self._pending[at:], b"", None
        return chunk

    def _open(self, chunk: bytes, at: int) -> Iterator[Piece]:
        if self._depth == 0:
            self.line += chunk.count(b"\n", self._counted, at)
            self._counted = at
            yield from self._junk(chunk[self._between : at])
            self._start, self._first_line = at, self.line
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
            self.is_done, self.rest = True, chunk[at + 1 :]
            self.line += chunk.count(b"\n", self._counted, at + 1)

    def end(self) -> Iterator[Piece]:
        if self._depth or self._in_string:
            yield self._first_line or self.line, b"".join(self._parts)[:KEPT_BYTES], "the file ends within this row"
        elif self._opened_by:
            raise SourceError("no array of rows was found")
        elif self._is_array and not self.is_done:
            raise SourceError("the array of rows is not closed")

    def _junk(self, text: bytes) -> Iterator[Piece]:
        """What stands between two rows: anything but blanks and commas was meant to be one."""
        if _OUTSIDE.search(text) and _OUTSIDE.search(text.replace(BOM, b"")):
            yield self.line, text[:KEPT_BYTES], "not an object"

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
