"""Calls that need not wait for anything, answered on the server's own loop.

Handing a call to a thread costs more than most calls themselves: threads that compete for Python's one interpreter lock
spend their time waking each other. So short SQLite reads run on the loop, and writes that arrive together share one
transaction, whose commit alone runs on a thread. A call that would have to wait leaves no trace and starts again on a
thread: the same code with the same checks, on another store object.
"""
import re
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, cast
from wsgiref.types import WSGIEnvironment

from leanstorage.rules.call import Engine, Service
from leanstorage.http.application import explain, name_request, respond, take_back
from leanstorage.store import Later, QueryTimeout, Result, Stale, StoreUnavailable, Transaction, Watch
from leanstorage.store.sqlite.store import SqliteGroup, SqliteSnapshot, SqliteStore
from leanwsgi.messages import BytesResponse


CALL_SECONDS = 0.003  # of one statement
MAX_BODY_BYTES = 1 << 16
# Of the processor's time, for one call. A single object of megabytes takes it, and no clock ends SQLite in the midst of one.
SLOW_SECONDS = 0.05
AWAY_SECONDS = 60  # for which calls to a class are a thread's, after one like that
MAX_AWAY = 1000  # classes
# `files` is another name of `_File`, and has rules of its own like the system classes, which begin with `_`.
PATH = re.compile(r"/+1\.1/classes/(?!files(?:/|$))([A-Za-z][A-Za-z0-9_]*)(/[A-Za-z0-9]+)?")
ME = re.compile(r"/+1\.1/users/me")  # apps ask it for every visitor who is logged in
WRITES = {"POST": False, "PUT": True, "DELETE": True}  # whether the path ends in an id


def quick_calls(service: Service) -> "Quick":
    """The quick calls of a service, as its store can make them."""
    if hasattr(service.store, "open_group"):
        return Quick(service)
    return WaitingQuick(service)


class Quick:
    """Those of SQLite: a read is answered at once, or has to wait."""

    answers_at_once = True

    def __init__(self, service: Service) -> None:
        self._service = service
        self._sqlite = cast(SqliteStore, service.store)  # unless it is a WaitingQuick, which never asks it
        self._reader = _on(_Store(self._read, _wait), service)
        self._snapshot: SqliteSnapshot | None = None  # of the calls of a turn, which had all come before it
        self._away: dict[str, float] = {}  # until when calls to a class are not for the loop
        self._suspects: dict[str, float] = {}  # until when calls to a class are measured

    def kind(self, method: str, path: str, length: int) -> str | None:
        """`call`, `write` for one that is made in a group, or None for a call that belongs on a thread.

        `length` is that of the body in bytes.
        """
        found = PATH.fullmatch(path)
        if found is None and method == "GET" and ME.fullmatch(path):
            return None if length > MAX_BODY_BYTES or self._is_away("") else "call"
        if found is None or length > MAX_BODY_BYTES or self._is_away(found.group(1)):
            return None
        if method == "GET":
            return "call"
        return "write" if WRITES.get(method) is bool(found.group(2)) else None

    def start(self, loop: Watch) -> None:
        """Make ready for calls that `loop` (store.waiting.Watch) will make."""

    def call(self, environ: WSGIEnvironment, answered: Callable[[BytesResponse | None], None]) -> None:
        """Call `answered(answer)`, at once or in a later turn: (status, headers, body), or None if a thread has to."""
        begun = self.begun(environ)
        answer = _answer(self._reader, environ)
        self.ended(environ, begun)
        answered(answer)

    def begun(self, environ: WSGIEnvironment) -> tuple[float, float | None]:
        """When a call on the loop begins, for `ended`.

        To ask for the processor's time costs as much as a small call, so it is asked for only for a class of which a call
        has taken long in the last minute.
        """
        is_suspect = bool(self._suspects) and self._suspects.get(_class_of(environ), 0.0) > time.monotonic()
        return time.perf_counter(), time.thread_time() if is_suspect else None

    def ended(self, environ: WSGIEnvironment, begun: tuple[float, float | None]) -> None:
        """A call on the loop has ended. Two that keep everybody waiting are the last to their class for a while: the first
        may have waited for another program."""
        started, used = begun
        if time.perf_counter() - started <= SLOW_SECONDS:
            return
        name = _class_of(environ)
        for known in (self._away, self._suspects):
            if len(known) >= MAX_AWAY:
                known.clear()
        if used is None:
            self._suspects[name] = time.monotonic() + AWAY_SECONDS
        elif time.thread_time() - used > SLOW_SECONDS:
            self._away[name] = time.monotonic() + AWAY_SECONDS

    def _is_away(self, class_name: str) -> bool:
        return bool(self._away) and self._away.get(class_name, 0.0) > time.monotonic()

    def check(self, answered: Callable[[Exception | None], None]) -> None:
        """Ask the database on the loop, and call `answered(what went wrong or None)`, at once or in a later turn."""
        answered(_trouble(partial(self._sqlite.read, seconds=CALL_SECONDS)))

    def turn(self) -> None:
        """The loop has made the calls of a turn, and will look for new ones."""
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()

    def stop(self) -> None:
        """The loop has ended."""
        self.turn()

    def open_group(self) -> "Group | None":
        """A Group for the writes at hand, or None while another writer is at work or waits."""
        transaction = self._sqlite.open_group(CALL_SECONDS)
        return None if transaction is None else Group(self._service, transaction, self)

    def _read(self, work: Callable[[Transaction], Result]) -> Result:
        if self._snapshot is None:
            self._snapshot = self._sqlite.open_snapshot(CALL_SECONDS)
        return self._snapshot.run(work)


class WaitingQuick(Quick):
    """Those of PostgreSQL: every call waits for the database, and the loop goes on meanwhile."""

    answers_at_once = False

    def kind(self, method: str, path: str, length: int) -> str | None:
        return super().kind(method, path, length) and "call"

    def start(self, loop: Watch) -> None:
        from leanstorage.store.postgresql.store import PostgresqlStore  # only here: there may be no psycopg
        from leanstorage.store.postgresql.waiting import WaitingStore

        self._store = WaitingStore(cast(PostgresqlStore, self._service.store), loop)
        self._waiting = _on(self._store, self._service)

    def call(self, environ: WSGIEnvironment, answered: Callable[[BytesResponse | None], None]) -> None:
        if environ["REQUEST_METHOD"] != "GET" and _is_hooked(self._service.engine, environ):
            answered(None)
        else:
            self._store.spawn(lambda: answered(_answer(self._waiting, environ)))

    def check(self, answered: Callable[[Exception | None], None]) -> None:
        self._store.spawn(lambda: answered(_trouble(self._store.read)))

    def turn(self) -> None:
        self._store.turn()

    def stop(self) -> None:
        self._store.close()


def _class_of(environ: WSGIEnvironment) -> str:
    """The class of a call, "" for the user's own data."""
    found = PATH.fullmatch(environ["PATH_INFO"])
    return found.group(1) if found else ""


def _is_hooked(engine: Engine | None, environ: WSGIEnvironment) -> bool:
    """Whether an engine has to be asked, outside of transactions."""
    if engine is None:
        return False
    found = PATH.fullmatch(environ["PATH_INFO"])
    return found is None or engine.may_hook(found.group(1))


def _trouble(read: Callable[[Callable[[Transaction], Any]], Any]) -> Exception | None:
    """What goes wrong with the smallest of reads."""
    try:
        read(lambda transaction: transaction.record("health", "health"))
    except (QueryTimeout, Stale):  # it answered, only not in the time that the loop has
        return None
    except Later:
        return StoreUnavailable("no connection is free")
    except Exception as error:
        return error
    return None


class Group:
    """Writes that are committed together; their answers may be sent after `commit`, and only then."""

    def __init__(self, service: Service, transaction: SqliteGroup, quick: Quick) -> None:
        self._engine = service.engine
        self._transaction = transaction
        self._quick = quick
        run = transaction.run
        self._service = _on(_Store(run, run), service)

    def write(self, environ: WSGIEnvironment) -> BytesResponse | None:
        """(status, headers, body) of one write, or None if it has to wait; without a trace unless it succeeds."""
        if _is_hooked(self._engine, environ):
            return None
        answer = None
        try:
            self._transaction.begin()
            try:
                begun = self._quick.begun(environ)
                answer = _answer(self._service, environ)
                self._quick.ended(environ, begun)
            finally:
                self._transaction.end(answer is not None and answer[0] < 300)
        except StoreUnavailable:  # the whole group is undone; its commit will say so
            return None
        return answer

    def commit(self) -> None:
        """Raises StoreUnavailable, and then nothing of the group is kept."""
        self._transaction.commit()

    def refusal(self, error: Exception, answer: BytesResponse) -> BytesResponse:
        """What one whose commit failed with `error` is told instead of `answer`."""
        status, headers, body = explain(self._service, error, {})
        return status, [*headers, *(header for header in answer[1] if header[0] == "X-Request-Id")], body


class _Store:
    """The store as a quick call sees it."""

    def __init__(self, read: Callable[..., Any], write: Callable[..., Any]) -> None:
        self.read = read
        self.write = write


def _on(store: Any, service: Service) -> Service:
    """A service on another store, of which quick calls want no more than `read` and `write`, and without an engine."""
    return replace(service, store=store, engine=None)


def _wait(work: object) -> NoReturn:
    raise Later


def _answer(service: Service, environ: WSGIEnvironment) -> BytesResponse | None:
    body: Any  # bytes, as it is no file's
    try:
        status, headers, body = respond(service, environ)
    except (Later, QueryTimeout, Stale):
        take_back(service, environ)
        return None
    except Exception as error:
        status, headers, body = explain(service, error, environ)
    return status, name_request(service, environ, headers), body
