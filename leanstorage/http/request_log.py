"""The log of requests: one line each, and for slow ones the shape of what was asked. Off unless the operator wants it.

Lines hold no token, key, query, body or value. They are written by a thread of their own, so that no request waits for
whoever reads them; when too many wait, new ones are dropped and counted.
"""
import json
import os
import threading
import time
from collections import deque
from functools import lru_cache
from typing import IO, NamedTuple

from leanstorage.rules import query_shape
from leanstorage.rules.call import Call
from leanstorage.rules.errors import StorageError
from leanstorage.rules.where import parse_listing
from leanstorage.store import Json

MAX_LINES = 20_000  # that wait to be written
WRITE_SECONDS = 0.1  # between two looks for lines
WRITE_BYTES = 4096  # in one piece: a pipe keeps such pieces of several processes whole
MAX_SHAPE = 500  # characters
MAX_SHAPE_LEVELS = 10
MAX_SHAPE_KEYS = 30
FORMATS = ("text", "json")
OPTIONS = frozenset("count cql include keys limit order pvalues returnACL skip".split())  # of a query, named in its shape


class Line(NamedTuple):
    """One request that was answered, and how."""

    at: float  # when it was answered, in seconds since 1970
    method: str
    route: str  # the template, `-` for a path that leads nowhere
    class_name: str
    status: int
    ms: float  # from its last byte to the answer's first, the wait for a thread included
    size: int  # of the answer's body in bytes
    address: str
    user_id: str
    request_id: str
    shape: str | None = None  # of a slow one


class RequestLog:
    """Writes lines to a stream until `close`; with `slow_ms`, slow requests too, marked as such."""

    def __init__(self, stream: IO[str], format: str = "text", is_access: bool = True, slow_ms: float | None = None) -> None:
        self._file = stream.fileno()
        self._is_json = format == "json"
        self._is_access = is_access
        self.slow_ms = slow_ms
        self._lines: deque[Line] = deque()
        self._dropped = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._thread.start()

    def add(self, line: Line) -> None:
        if not self._is_access and line.shape is None:
            return
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return
        self._lines.append(line)

    def close(self) -> None:
        """Write what is left, but do not wait for a reader that has stopped."""
        self._ended.set()
        self._thread.join(2)

    def _run(self) -> None:
        while not self._ended.wait(WRITE_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        piece = bytearray()
        while self._lines:
            line = self._line(self._lines.popleft())
            if piece and len(piece) + len(line) > WRITE_BYTES:
                self._put(piece)
                piece.clear()
            piece += line
        if self._dropped:
            count, self._dropped = self._dropped, 0
            piece += (f'{{"dropped":{count}}}\n' if self._is_json else f"{count} lines of the request log were dropped: nobody read them\n").encode()
        if piece:
            self._put(piece)

    def _put(self, piece: bytearray) -> None:
        view = memoryview(bytes(piece))
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:  # the reader is gone, or the disk is full: that must not end the server
            self._dropped += 1

    def _line(self, line: Line) -> bytes:
        return (_json(line) if self._is_json else _text(line)).encode("utf-8", "replace") + b"\n"


def _time(at: float) -> str:
    return f"{_second(int(at))}.{int(at * 1000) % 1000:03d}Z"


@lru_cache(2)  # lines come in the order of time
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def _text(line: Line) -> str:
    slow = "" if line.shape is None else f" slow {line.shape}"
    return (
        f"{_time(line.at)} {line.method} {line.route} {line.class_name} {line.status} {line.ms:.1f}ms {line.size}B "
        f"{line.address} {line.user_id} {line.request_id}{slow}"
    )


def _json(line: Line) -> str:
    value: dict[str, Json] = {
        "time": _time(line.at),
        "method": line.method,
        "route": line.route,
        "class": line.class_name,
        "status": line.status,
        "ms": round(line.ms, 1),
        "bytes": line.size,
        "address": line.address,
        "user": line.user_id,
        "request": line.request_id,
    }
    if line.shape is not None:
        value["slow"] = json.loads(line.shape) if line.shape.startswith('{"class"') else line.shape
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def shape(call: Call | None, class_name: str = "") -> str:
    """What a call asked for, its keys and operators without values.

    Of a query in the form that `leanstorage index --suggest` reads, else `where={"name":?,"n":{"$gt":?}} order limit`.
    """
    if call is None:
        return "-"
    if call.method == "GET" and class_name and not call.query.keys().isdisjoint(["where", "count"]):
        try:
            return query_shape.shape_text(parse_listing(class_name, call.query, True, None)[0])
        except StorageError:
            pass  # it was refused
    parts = []
    for name, value in call.query.items():
        if name == "where":
            parts.append(f"where={_shape(_decoded(value))}")
        elif name in OPTIONS:
            parts.append(name)
    if isinstance(call.body, dict) and call.body:
        parts.append(f"body={_shape(call.body)}")
    return " ".join(parts)[:MAX_SHAPE] or "-"


def _decoded(value: Json) -> Json:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None


def _shape(value: Json, level: int = 0) -> str:
    if level > MAX_SHAPE_LEVELS:
        return "..."
    if isinstance(value, dict):
        shown = list(value.items())[:MAX_SHAPE_KEYS]
        rest = ",..." if len(value) > len(shown) else ""
        return "{" + ",".join(f"{_name(key)}:{_shape(child, level + 1)}" for key, child in shown) + rest + "}"
    if isinstance(value, list):
        # The first of them stands for all: their number tells how long a list was.
        return f"[{len(value)}]" if not value or not isinstance(value[0], dict) else f"[{len(value)} {_shape(value[0], level + 1)}]"
    return "?"


def _name(key: str) -> str:
    """A key that may be a name of a column or an operator; anything else a client may have made up to be read here."""
    plain = key.removeprefix("$").replace(".", "_")
    return key if plain.isidentifier() and plain.isascii() and len(key) <= 60 else "?"
