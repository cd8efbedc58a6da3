"""Calls that need not wait for anything, answered on the server's own loop.

Handing a call to a thread costs more than most calls do: threads that all want Python's one interpreter lock spend
their time waking each other. So short reads of SQLite run where they arrive, and writes that arrive together are made
in one transaction, whose commit alone goes to a thread. What turns out to wait after all leaves no trace and starts
again on a thread: the same code with the same checks, only another store under it.
"""
import re
from dataclasses import replace

from leanstorage.service import explain, respond, take_back
from leanstorage.store import Later, QueryTimeout, Stale, StoreUnavailable

CALL_SECONDS = 0.003  # of one statement
MAX_BODY_BYTES = 1 << 16
# `files` is another name of `_File`, and has rules of its own like the system classes, which begin with `_`.
PATH = re.compile(r"/+1\.1/classes/(?!files(?:/|$))([A-Za-z][A-Za-z0-9_]*)(/[A-Za-z0-9]+)?")
WRITES = {"POST": False, "PUT": True, "DELETE": True}  # whether the path ends in an id


def quick_calls(service):
    """The quick calls of a service, as its store can make them."""
    if hasattr(service.store, "open_group"):
        return Quick(service)
    return WaitingQuick(service)


class Quick:
    """Those of SQLite: a read is answered at once, or has to wait."""

    def __init__(self, service):
        self._service = service
        self._reader = replace(service, store=_Store(self._read, _wait), engine=None)

    def kind(self, method, path, length):
        """`call`, `write` for one that is made in a group, or None for a call that belongs on a thread."""
        found = PATH.fullmatch(path)
        if found is None or length > MAX_BODY_BYTES:
            return None
        if method == "GET":
            return "call"
        return "write" if WRITES.get(method) is bool(found.group(2)) else None

    def start(self, loop):
        """Make ready for calls that `loop` (store.waiting.Watch) will make."""

    def call(self, environ, answered):
        """Call `answered(answer)`, at once or in a later turn: (status, headers, body), or None if a thread has to."""
        answered(_answer(self._reader, environ))

    def turn(self):
        """The loop has made the calls of a turn."""

    def stop(self):
        """The loop has ended."""

    def open_group(self):
        """A Group for the writes at hand, or None while another writer is at work or waits."""
        transaction = self._service.store.open_group(CALL_SECONDS)
        return transaction and Group(self._service, transaction)

    def _read(self, work):
        return self._service.store.read(work, CALL_SECONDS)


class WaitingQuick(Quick):
    """Those of PostgreSQL: every call waits for the database, and the loop goes on meanwhile."""

    def kind(self, method, path, length):
        return super().kind(method, path, length) and "call"

    def start(self, loop):
        from leanstorage.store.waiting import WaitingStore

        self._store = WaitingStore(self._service.store, loop)
        self._waiting = replace(self._service, store=self._store, engine=None)

    def call(self, environ, answered):
        if environ["REQUEST_METHOD"] != "GET" and _is_hooked(self._service.engine, environ):
            answered(None)
        else:
            self._store.spawn(lambda: answered(_answer(self._waiting, environ)))

    def turn(self):
        self._store.turn()

    def stop(self):
        self._store.close()


def _is_hooked(engine, environ):
    """Whether an engine has to be asked, outside of transactions."""
    return engine is not None and engine.may_hook(PATH.fullmatch(environ["PATH_INFO"]).group(1))


class Group:
    """Writes that are committed together; their answers may be sent after `commit`, and only then."""

    def __init__(self, service, transaction):
        self._engine = service.engine
        self._transaction = transaction
        run = transaction.run
        self._service = replace(service, store=_Store(run, run), engine=None)

    def write(self, environ):
        """(status, headers, body) of one write, or None if it has to wait; without a trace unless it succeeds."""
        if _is_hooked(self._engine, environ):
            return None
        answer = None
        try:
            self._transaction.begin()
            try:
                answer = _answer(self._service, environ)
            finally:
                self._transaction.end(answer is not None and answer[0] < 300)
        except StoreUnavailable:  # the whole group is undone; its commit will say so
            return None
        return answer

    def commit(self):
        """Raises StoreUnavailable, and then nothing of the group is kept."""
        self._transaction.commit()

    def refusal(self, error):
        """The answer to all whose commit failed with `error`."""
        return explain(self._service, error, {})


class _Store:
    """The store as a quick call sees it."""

    def __init__(self, read, write):
        self.read = read
        self.write = write


def _wait(work):
    raise Later


def _answer(service, environ):
    try:
        return respond(service, environ)
    except (Later, QueryTimeout, Stale):
        take_back(service, environ)
        return None
    except Exception as error:
        return explain(service, error, environ)
