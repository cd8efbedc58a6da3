"""PostgreSQL without a thread for each call: calls that wait for it are greenlets of one thread, that of a loop.

Threads that all want Python's one interpreter lock spend their time waking each other. So the work of a call runs where
the call arrived, up to its first statement; the loop goes on, and switches back to the work when the answer is there.
Nothing here blocks. Work that would block, or fails, raises Later and runs again on a thread with a connection of its
own and longer time limits.
"""
import random
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from greenlet import getcurrent, greenlet
from psycopg_pool import PoolTimeout

from leanstorage.store import Later, Result, Watch
from leanstorage.store.postgresql.store import PostgresqlStore
from leanstorage.store.postgresql.trouble import is_stale
from leanstorage.store.postgresql.wire import Connection
from leanstorage.store.transaction import Transaction

MAX_WAITING = 64  # works for a connection; the others go to threads
STATEMENT_SECONDS = 0.5  # a connection is not to be kept by one slow query
ANSWER_SECONDS = 3  # for one answer: those statements are short
AGAIN_SECONDS = 3  # until a connection that could not be had is tried again
SPIN_SECONDS = 0.001  # how long a turn of the loop may stay with answers that are about to come


class _Lent:
    """A connection of the pool, in the loop's hands."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.file = connection.fileno()
        self.waiter: greenlet | None = None
        self.since = 0.0  # when it began to wait, on the monotonic clock
        connection.wire.wait = self.wait

    def wait(self) -> None:
        """Let the loop go on until the connection has something to read."""
        self.waiter = here = getcurrent()
        self.since = time.monotonic()
        here.parent.switch()


class WaitingStore:
    """`read` and `write` of the store contract for works that `spawn` started."""

    def __init__(self, store: PostgresqlStore, loop: Watch) -> None:
        self._store, self._loop = store, loop
        self._lent: dict[int, _Lent] = {}  # by file
        self._idle: list[_Lent] = []
        self._coming: list[Connection] = []  # that the loop has not taken over yet, and may never, as it can have ended
        self._queue: deque[greenlet] = deque()  # works that wait for a connection
        self._closing = threading.Event()
        for _ in range(store.max_lent):
            self._borrow()

    def spawn(self, work: Callable[[], None]) -> None:
        """Run `work()` until it has to wait; the rest of it runs in later turns of the loop."""
        greenlet(work).switch()
        self._go_on()

    def turn(self) -> None:
        """Stay a moment with works whose answers are about to come: a turn of the whole loop costs more."""
        self._give_up_the_silent()
        end = time.monotonic() + SPIN_SECONDS
        while busy := [lent for lent in self._lent.values() if lent.waiter is not None]:
            left = end - time.monotonic()
            if left <= 0:
                return
            poll = select.poll()
            for lent in busy:
                poll.register(lent.file, select.POLLIN)
            for file, _ in poll.poll(left * 1000):
                if file in self._lent:
                    self._ready(self._lent[file])

    def _give_up_the_silent(self) -> None:
        """Close connections that have not answered in time; their works go on, and find them closed."""
        now = time.monotonic()
        silent = [one for one in self._lent.values() if one.waiter is not None and now - one.since > one.connection.wire.answer_seconds]
        for lent in silent:
            self._loop.unwatch(lent.file)
            lent.connection.close()
            self._store.distrust(lent.connection)
        if silent:
            while self._idle:  # they would be as silent
                self._drop(self._idle.pop())
        for lent in silent:
            self._ready(lent)

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        """`work(transaction)`; raise Later when it has to be done on a thread."""
        with self._connection() as connection:
            return self._store.read_on(connection, work)

    def write(self, work: Callable[[Transaction], Result]) -> Result:
        """`work(transaction)` in a transaction; raise Later when nothing is kept and a thread has to try."""
        with self._connection() as connection:
            return self._store.write_on(connection, work)

    def close(self) -> None:
        """Give the connections up; the works that still wait are never ended."""
        self._closing.set()
        for lent in list(self._lent.values()):
            if lent.waiter is None:
                del self._lent[lent.file]
                self._loop.unwatch(lent.file)
                lent.connection.close()
            else:
                self._drop(lent)
        for connection in list(self._coming):
            connection.close()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        if not self._lent or len(self._queue) >= MAX_WAITING:
            raise Later
        while not self._idle:
            here = getcurrent()
            self._queue.append(here)
            here.parent.switch()
            if not self._lent:
                raise Later
        lent = self._idle.pop()
        try:
            yield lent.connection
        except psycopg.Error as error:  # conflicts and statements that take too long among them
            if is_stale(error):
                lent.connection.close()
            raise Later from error
        finally:
            if lent.connection.closed:
                self._drop(lent)
            else:
                self._idle.append(lent)

    def _ready(self, lent: _Lent) -> None:
        """Go on with the work that waits for a connection, and with those that wait for any."""
        if lent.file not in self._lent:
            return
        waiter, lent.waiter = lent.waiter, None
        if waiter is not None:
            waiter.switch()
        else:
            try:  # unasked: most likely the server is closing the connection
                lent.connection.pgconn.consume_input()
            except psycopg.OperationalError:
                pass
            if lent.connection.closed:
                self._idle.remove(lent)
                self._drop(lent)
        self._go_on()

    def _go_on(self) -> None:
        """Hand connections that are free to works that wait for one; with none left they have to be told."""
        while self._queue and (self._idle or not self._lent):
            self._queue.popleft().switch()

    def _drop(self, lent: _Lent) -> None:
        if self._lent.pop(lent.file, None) is None:
            return
        self._loop.unwatch(lent.file)
        lent.connection.close()
        if not self._closing.is_set():
            self._borrow()

    def _borrow(self) -> None:
        """Get a connection on a thread: that takes time, and for ever while the database is away or has no more."""

        def borrow() -> None:
            while not self._closing.is_set():
                try:
                    connection = self._store.lend(STATEMENT_SECONDS, ANSWER_SECONDS)
                except (PoolTimeout, psycopg.Error):
                    self._closing.wait(random.uniform(0.5, 1) * AGAIN_SECONDS)
                    continue
                self._coming.append(connection)
                if self._closing.is_set():
                    connection.close()
                else:
                    self._loop.soon(lambda: self._add(connection))
                return

        threading.Thread(target=borrow, name="borrow", daemon=True).start()

    def _add(self, connection: Connection) -> None:
        self._coming.remove(connection)
        if self._closing.is_set():
            connection.close()
            return
        lent = _Lent(connection)
        self._lent[lent.file] = lent
        self._idle.append(lent)
        self._loop.watch(lent.file, lambda: self._ready(lent))
        self._go_on()
