"""SQLite: one file, write-ahead log, every acknowledged write on disk (synchronous FULL).

Only one writer can run at a time, so waiting writers are committed together: the next one runs the work of all that
wait, each in its own savepoint, and commits once. One sync to disk serves them all.
"""
import math
import os
import pathlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
import regex
from leanstorage.store import AnswerTooLarge, MAX_FOUND, newer_layout, QUERY_SECONDS, Query, QueryTimeout, Result, StoreUnavailable
from leanstorage.store.fragments import Fragment
from leanstorage.store.memory import Seen, settle
from leanstorage.store.transaction import Transaction
from leanstorage.store.sqlite import elements
from leanstorage.store.sqlite.compiler import SqliteCompiler, angle, reached_text

LAYOUT = 1  # of the tables below; raised with every change that an older program must not write to
BUSY_SECONDS = 10  # how long a writer of this process waits for one of another
REGEX_SECONDS = 1  # of one match
MAX_TOGETHER = 64  # works in one commit
IDLE_READERS = 32  # connections kept open for reading
CACHE_KIB = 2_000  # of each connection, beside the mapped part of the file and what the system keeps of it
BULK_CACHE_KIB = 24_000
MAPPED_BYTES = 256 << 20  # of the file
BULK_CHECKPOINT_PAGES = 8_000  # of the log, 32 MB
FETCHED = 20  # rows at a time
LONG_CHARACTERS = 2_000  # of a statement that is counted for how much it keeps: eleven bytes a character
MAX_LONG_CHARACTERS = 500_000  # of all those of a connection
QUICK_ROWS = 100
QUICK_BYTES = 1 << 18  # of documents
STEPS = 20_000  # SQLite instructions between two looks at the clock
SCHEMA = """
CREATE TABLE IF NOT EXISTS classes (
    name TEXT PRIMARY KEY, info TEXT NOT NULL, deleted INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY, class TEXT NOT NULL, id TEXT NOT NULL, created INTEGER NOT NULL,
    updated INTEGER NOT NULL, acl TEXT, readers TEXT, body TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS objects_id ON objects (class, id);
CREATE INDEX IF NOT EXISTS objects_created ON objects (class, created);
CREATE INDEX IF NOT EXISTS objects_updated ON objects (class, updated);
CREATE TABLE IF NOT EXISTS relations (
    class TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, target_class TEXT NOT NULL, target TEXT NOT NULL,
    PRIMARY KEY (class, key, owner, target_class, target)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS relations_target ON relations (class, key, target_class, target);
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, expires INTEGER,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_expires ON records (kind, expires) WHERE expires IS NOT NULL;
"""


class SqliteStore:
    """The store contract on one SQLite file, made on first use, readable by its owner alone."""

    def __init__(self, path: str | pathlib.Path, bulk: bool = False, query_seconds: float = QUERY_SECONDS) -> None:
        self.path = pathlib.Path(path)
        self._query_seconds = query_seconds
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        self._mapped_bytes = 0 if bulk else MAPPED_BYTES
        self._seen = Seen()
        self._readers: deque[_Connection] = deque()
        self._waiting: deque[_Job] = deque()
        self._turn = threading.Lock()
        self._closed = False
        self._is_bulk = bulk
        self._writer = self._connect_writer()
        self._group_writer: _Connection | None = None
        try:
            version = self._writer.execute("PRAGMA user_version").fetchone()[0]
            if version > LAYOUT:
                raise newer_layout(version, LAYOUT)
            self._writer.executescript(SCHEMA)
            self._writer.execute(f"PRAGMA user_version = {LAYOUT}")
        except BaseException:
            self._writer.close()
            raise
        self._file = _identity(self.path)

    def read(self, work: Callable[[Transaction], Result], seconds: float | None = None) -> Result:
        """Run `work(transaction)` on a connection of its own; nothing it does may write.

        With `seconds`, whatever takes longer than that raises QueryTimeout, and so does what is large; Stale may be
        raised, too.
        """
        connection = self._reader()
        try:
            if seconds is None:
                return settle(lambda seen: SqliteTransaction(connection, self._query_seconds, seen).run(work), self._seen)
            return QuickTransaction(connection, seconds, self._seen).run(work)
        finally:
            self._put_back(connection)

    def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Run `work(transaction)` atomically; it is on disk when this returns. Raises what `work` does."""
        job = _Job(work)
        self._waiting.append(job)
        with self._turn:
            if not job.is_done:
                self._commit_waiting()
        if job.error is not None:
            raise job.error
        result: Result = job.result
        return result

    def open_group(self, seconds: float) -> "SqliteGroup | None":
        """A SqliteGroup, whose statements take at most `seconds` each; None while another writer is at work or waits."""
        if self._waiting or not self._turn.acquire(blocking=False):
            return None
        try:
            self._check_file()
            if self._group_writer is not None and self._group_writer.keeps_too_much:
                self._group_writer.close()
                self._group_writer = None
            if self._group_writer is None:
                self._group_writer = self._connect(busy_seconds=0)
            _execute(self._group_writer, "BEGIN IMMEDIATE")
        except (StoreUnavailable, sqlite3.Error):
            self._turn.release()
            return None
        return SqliteGroup(self._group_writer, self._turn, seconds, self._seen)

    def open_snapshot(self, seconds: float) -> "SqliteSnapshot":
        """A SqliteSnapshot for reads of one thread, whose statements take at most `seconds` each."""
        return SqliteSnapshot(self._reader(), self._put_back, seconds, self._seen)

    def close(self) -> None:
        with self._turn:
            self._closed = True
            self._writer.close()
            if self._group_writer is not None:
                self._group_writer.close()
            while self._readers:
                self._readers.pop().close()

    def build_index(self, class_name: str, keys: Sequence[str]) -> None:
        """Make the index of `keys` unless it is there; writers wait meanwhile. Raises ValueError."""
        self.write(lambda transaction: elements.build_index(transaction, class_name, keys))

    def drop_index(self, class_name: str, keys: Sequence[str]) -> None:
        self.write(lambda transaction: elements.drop_index(transaction, class_name, keys))

    def _reader(self) -> "_Connection":
        self._check_file()
        try:
            return self._readers.pop()
        except IndexError:
            return self._connect()

    def _put_back(self, connection: "_Connection") -> None:
        if self._closed or len(self._readers) >= IDLE_READERS or connection.keeps_too_much:
            connection.close()
        else:
            self._readers.append(connection)

    def _commit_waiting(self) -> None:
        jobs: list[_Job] = []
        is_begun = False
        try:
            self._check_file()
            _execute(self._writer, "BEGIN IMMEDIATE")
            is_begun = True
            while self._waiting and len(jobs) < MAX_TOGETHER:
                job = self._waiting.popleft()
                jobs.append(job)
                job.run(self._run, self._seen)
            _execute(self._writer, "COMMIT")
        except BaseException as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            while not is_begun and self._waiting:  # each of them would wait as long, one after the other
                jobs.append(self._waiting.popleft())
            for job in jobs:
                job.error = job.error or error
        for job in jobs:
            job.is_done = True
        if self._writer.keeps_too_much:
            with suppress(sqlite3.Error):  # then the next time
                old, self._writer = self._writer, self._connect_writer()
                old.close()

    def _check_file(self) -> None:
        """Raise StoreUnavailable if the path no longer leads to the opened file.

        SQLite would go on with a deleted file, and every write would be lost at the end. A new file in its place may be
        anything: only a restart opens it.
        """
        found = _identity(self.path)
        if found != self._file:
            what = "is gone: put it back, or start again" if found is None else "was replaced: start again to use it"
            raise StoreUnavailable(f"{self.path} {what}")

    def _run(self, work: Callable[[Transaction], Result], seen: Seen | None) -> Result:
        _begin_work(self._writer)
        is_done = False
        try:
            result = SqliteTransaction(self._writer, self._query_seconds, seen).run(work)
            is_done = True
        finally:
            _end_work(self._writer, is_done)
        return result

    def _connect_writer(self) -> "_Connection":
        connection = self._connect()
        if self._is_bulk:
            # Index pages are touched all over: a larger cache, a log that is copied back more rarely, and no mapped
            # file, whose pages would count as this process's memory.
            connection.execute(f"PRAGMA cache_size = -{BULK_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {BULK_CHECKPOINT_PAGES}")
        return connection

    def _connect(self, busy_seconds: float = BUSY_SECONDS) -> "_Connection":
        connection = sqlite3.connect(
            self.path, timeout=busy_seconds, isolation_level=None, check_same_thread=False, factory=_Connection
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:  # it is no database
            connection.close()
            raise
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA mmap_size = {self._mapped_bytes}")
        connection.create_function("leanstorage_search", 3, partial(_search, connection), deterministic=True)
        connection.create_function("leanstorage_angle", 4, angle, deterministic=True)
        connection.set_progress_handler(lambda: time.monotonic() > connection.end, STEPS)
        reached = partial(reached_text, lambda: time.monotonic() > connection.end)
        connection.create_function("leanstorage_reached", 3, reached, deterministic=True)
        return connection


def _identity(path: pathlib.Path) -> tuple[int, int] | None:
    """Which file is at a path, None for no one that can be reached."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Connection(sqlite3.Connection):
    end = math.inf  # when the statement that runs has used up its time, in time.monotonic's seconds

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._long: set[int] = set()  # hashes of the long statements that were run
        self._long_characters = 0

    def note_long(self, text: str) -> None:
        """Note a statement made for a client's query: Python keeps more than a hundred, prepared, however large."""
        if len(text) > LONG_CHARACTERS and hash(text) not in self._long:
            self._long.add(hash(text))
            self._long_characters += len(text)

    @property
    def keeps_too_much(self) -> bool:
        """Whether it should be closed, as nothing else frees prepared statements."""
        return self._long_characters > MAX_LONG_CHARACTERS


class _Job:
    """One work waiting for its turn, and what came of it."""

    __slots__ = ("work", "result", "error", "is_done")

    def __init__(self, work: Callable[[Transaction], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False

    def run(self, run: Callable[[Callable[[Transaction], Any], Seen | None], Any], seen: Seen) -> None:
        """Raises StoreUnavailable when the whole transaction is undone; other errors are this work's own."""
        try:
            self.result = settle(lambda seen: run(self.work, seen), seen)
        except _Undone:
            raise
        except Exception as error:
            self.error = error


class _Undone(StoreUnavailable):
    """The transaction that several works share was rolled back."""

    def __init__(self) -> None:
        super().__init__("the transaction was rolled back")


def _begin_work(connection: _Connection) -> None:
    """Begin one work of several in a transaction.

    Raises _Undone when there is none any more: a full disk rolls all of it back. A savepoint would then begin
    a transaction of its own, and releasing it would commit work already reported as failed.
    """
    if not connection.in_transaction:
        raise _Undone
    connection.execute("SAVEPOINT work")


def _end_work(connection: _Connection, is_kept: bool) -> None:
    """End it, undone unless `is_kept`; raise _Undone when the whole transaction is."""
    if not connection.in_transaction:
        raise _Undone
    if not is_kept:
        connection.execute("ROLLBACK TO work")
    connection.execute("RELEASE work")


class SqliteTransaction(Transaction):
    compiler = SqliteCompiler
    connection: _Connection

    def execute(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return _execute(self.connection, text, params)

    def execute_once(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self.connection.note_long(text)
        return self.execute(text, params)

    def fetch(self, text: str, params: Sequence[Any], is_bounded: bool) -> list[tuple[Any, ...]]:
        """Some rows at a time: too many are never in the memory together."""
        if not is_bounded:
            return self.execute_once(text, params)
        self.connection.note_long(text)
        found, size = list[tuple[Any, ...]](), 0
        with _translated:
            cursor = self.connection.execute(text, params)
            while part := cursor.fetchmany(FETCHED):
                found += part
                size += sum([len(row[4]) for row in part])
                if size > MAX_FOUND:
                    cursor.close()
                    raise AnswerTooLarge
        return found

    def change(self, text: str, params: Sequence[Any] = ()) -> int:
        with _translated:
            return self.connection.execute(text, params).rowcount

    def change_many(self, text: str, rows: Sequence[Sequence[Any]]) -> int:
        with _translated:
            return max(0, self.connection.executemany(text, rows).rowcount)

    def _select(self, query: Query, more: list[Fragment]) -> list[tuple[Any, ...]]:
        with _time_budget(self.connection, self.query_seconds):
            return super()._select(query, more)

    def count(self, query: Query) -> int:
        with _time_budget(self.connection, self.query_seconds):
            return super().count(query)

    def role_names(self, user_id: str) -> list[str]:
        with _time_budget(self.connection, self.query_seconds):
            return super().role_names(user_id)


class QuickTransaction(SqliteTransaction):
    """Statements for the loop: whatever may take long raises QueryTimeout instead."""

    def execute(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if "leanstorage_search(" in text:  # a pattern has a budget of its own, which is larger
            raise QueryTimeout
        rows = super().execute(text, params)
        if len(rows) > QUICK_ROWS or (rows and len(rows[0]) > 4 and sum([len(row[4]) for row in rows]) > QUICK_BYTES):
            raise QueryTimeout
        return rows

    def fetch(self, text: str, params: Sequence[Any], is_bounded: bool) -> list[tuple[Any, ...]]:
        return self.execute_once(text, params)  # which is bounded more closely


class SqliteSnapshot:
    """Reads of one thread that all see the database as the first one does: its locks, its file and a class are looked at once.

    Who asks for something after a write was acknowledged has to see it, so a snapshot serves requests that had all come
    before it was opened.
    """

    def __init__(self, connection: _Connection, put_back: Callable[[_Connection], None], seconds: float, seen: Seen) -> None:
        self._connection, self._put_back = connection, put_back
        self._seconds, self._seen = seconds, seen
        self._checked: dict[str, Any] = {}  # classes, by the works so far

    def run(self, work: Callable[[Transaction], Result]) -> Result:
        """`work(transaction)`; raises Stale, see Transaction.run."""
        if not self._connection.in_transaction:  # the first work, or one after an error that has ended it
            self._checked.clear()
            _execute(self._connection, "BEGIN")
        return QuickTransaction(self._connection, self._seconds, self._seen, self._checked).run(work)

    def close(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        except sqlite3.Error:  # what it read is read
            self._connection.close()
        else:
            self._put_back(self._connection)


class SqliteGroup:
    """Works of one thread that are committed together, on any thread. Each may be undone by itself."""

    def __init__(self, connection: _Connection, turn: threading.Lock, seconds: float, seen: Seen) -> None:
        self._connection, self._turn = connection, turn
        self._seconds, self._seen = seconds, seen
        self._checked: dict[str, Any] = {}  # classes, by the works so far

    def begin(self) -> None:
        """Begin a work. Raises StoreUnavailable when the whole group is undone."""
        _begin_work(self._connection)

    def run(self, work: Callable[[Transaction], Result]) -> Result:
        """`work(transaction)`; raises Stale, see Transaction.run."""
        return QuickTransaction(self._connection, self._seconds, self._seen, self._checked).run(work)

    def end(self, is_kept: bool) -> None:
        """End a work, undone unless `is_kept`. Raises StoreUnavailable when the whole group is undone."""
        _end_work(self._connection, is_kept)

    def commit(self) -> None:
        """Commit, and let other writers in. Raises StoreUnavailable when nothing is kept."""
        try:
            _execute(self._connection, "COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise StoreUnavailable(type(error).__name__) from error
        finally:
            self._turn.release()


class _time_budget:
    """Interrupts statements that run longer than `seconds`."""

    def __init__(self, connection: _Connection, seconds: float) -> None:
        self.connection = connection
        self.seconds = seconds

    def __enter__(self) -> None:
        self.connection.end = time.monotonic() + self.seconds

    def __exit__(self, *_: object) -> None:
        self.connection.end = math.inf


def _search(connection: _Connection, pattern: str, flags: int, text: Any) -> bool:
    """Whether a pattern occurs; the package's timeout stops what `re` could not, and other threads go on meanwhile.

    Raises TimeoutError when a match, or all those of the statement, take too long: a match is one step to SQLite, which
    looks at the clock only now and then.
    """
    if not isinstance(text, str):
        return False
    seconds = min(REGEX_SECONDS, connection.end - time.monotonic())
    if seconds <= 0:
        raise TimeoutError
    return regex.compile(pattern, flags).search(text, timeout=seconds, concurrent=True) is not None


def _execute(connection: _Connection, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with _translated:
        return connection.execute(text, params).fetchall()


class _Translated:
    """The one place where SQLite's errors become the contract's. A class, as each statement passes through it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if type(error) is sqlite3.DatabaseError:  # damaged, or no database any more; its subclasses say something else
            raise StoreUnavailable(str(error)) from error
        if not isinstance(error, sqlite3.OperationalError):
            return
        message = str(error)
        if "interrupted" in message or "user-defined function" in message:
            raise QueryTimeout from error
        if any(word in message for word in ("locked", "busy", "full", "disk I/O", "unable to open", "readonly")):
            raise StoreUnavailable(message) from error


_translated = _Translated()
