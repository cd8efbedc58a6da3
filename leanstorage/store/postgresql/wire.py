"""One connection to PostgreSQL, spoken to with as few round trips as the protocol allows."""
import re
import secrets
import select
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, TypeVar
import psycopg
from psycopg import abc, pq
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

Result = TypeVar("Result")

MAX_PREPARED = 100  # statements for clients' queries, per connection
MAX_PREPARED_CHARACTERS = 200_000  # of all of them: the server keeps forty times as much for each connection
LONG_CHARACTERS = 20_000  # of one that is never prepared
ANSWER_SECONDS = 4  # on a new connection; a pooler without a free one is silent
CAN_CLOSE = pq.version() >= 170000  # libpq 17 can close prepared statements by protocol message


class NoAnswer(psycopg.OperationalError):
    """The server did not answer in time, and the connection is closed."""


class Connection(psycopg.Connection[TupleRow]):
    """psycopg's, with a Wire."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.wire = Wire(self)

    @classmethod
    def connect(  # type: ignore[override]  # what psycopg's takes is its own affair
        cls, *arguments: Any, on_failure: Callable[[Exception], None] | None = None, **more: Any
    ) -> "Connection":
        """As psycopg's; tell `on_failure` of what goes wrong, which a pool keeps to itself."""
        try:
            return super().connect(*arguments, **more)
        except psycopg.Error as error:
            if on_failure is not None:
                on_failure(error)
            raise

    def wait(self, gen: PQGen[Result], *arguments: Any, **named: Any) -> Result:
        """As psycopg's, which waits for ever; close the connection and raise NoAnswer when nothing comes in time."""
        return super().wait(self._patient(gen), *arguments, **named)

    def _patient(self, gen: PQGen[Result]) -> PQGen[Result]:
        end = time.monotonic() + self.wire.answer_seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted  # none at intervals, even if nothing comes
                now = time.monotonic()
                if ready:
                    end = now + self.wire.answer_seconds
                elif now > end:
                    self.close()
                    raise NoAnswer("the database does not answer")
                wanted = gen.send(ready)
        except StopIteration as done:
            result: Result = done.value
            return result


class Wire:
    """A short way to the server for statements with `?` for parameters: psycopg's cursors take three times as long.

    Our own statements are few and are prepared once. Statements built for clients' queries are unlimited: they are prepared
    when they come a second time, and the last MAX_PREPARED are kept.
    """

    def __init__(self, connection: Connection) -> None:
        self.pgconn, self._connection = connection.pgconn, connection
        self.made = time.monotonic()
        self.server = connection.pgconn.host.decode(), connection.pgconn.port.decode()
        # Called to wait for the server where that is not for this thread to do.
        self.wait: Callable[[], None] | None = None
        # For one answer; a frozen server, or one behind a cut cable, says nothing at all. Its own limit comes first.
        self.answer_seconds: float = ANSWER_SECONDS
        # Unique among all connections of all processes: behind a pooler another one's statement must not be run.
        self._names = (b"leanstorage_%s_%d" % (secrets.token_hex(8).encode(), number) for number in count())
        self._statements: dict[str, bytes] = {}  # text -> name
        # Text of a client's query -> name, None when it came only once.
        self._passing: OrderedDict[str, bytes | None] = OrderedDict()
        self._passing_characters = 0
        self._rows: abc.Transformer | None = None  # reads results; made late, as it needs what `configure` sets
        self._is_begun = True  # whether the server knows of the transaction
        self._late: tuple[bytes, Sequence[Any]] | None = None  # name, params
        self.is_undone = False  # whether the last COMMIT that failed has kept nothing for certain

    def run_late(self, text: str, params: Sequence[Any]) -> None:
        """As `run`, but sent with what comes next, which saves a wait when that is COMMIT: then its errors are raised."""
        self._send_late()
        self._late = self._name(text), params

    def _send_late(self) -> None:
        if self._late is not None:
            late, self._late = self._late, None
            self._prepared(*late)

    def run(self, text: str, params: Sequence[Any] = ()) -> PGresult:
        """The PGresult of one of our own statements. Raises psycopg's errors."""
        self._send_late()
        return self._prepared(self._name(text), params)

    def _name(self, text: str) -> bytes:
        name = self._statements.get(text)
        if name is None:
            self.really_begin()
            name = self._statements[text] = self._prepare(text)
        return name

    def run_passing(self, text: str, params: Sequence[Any] = ()) -> PGresult:
        """The PGresult of a statement for a client's query. Raises psycopg's errors."""
        self.really_begin()
        if text in self._passing:
            self._passing.move_to_end(text)
            name = self._passing[text] = self._passing[text] or self._prepare(text)
            return self._prepared(name, params)
        if len(text) < LONG_CHARACTERS:
            self._passing[text] = None
            self._passing_characters += len(text)
        while len(self._passing) > MAX_PREPARED or self._passing_characters > MAX_PREPARED_CHARACTERS:
            gone, oldest = self._passing.popitem(last=False)
            self._passing_characters -= len(gone)
            if oldest is not None:
                self._close(oldest)
        values = [_parameter(value) for value in params]
        self.pgconn.send_query_params(_numbered(text), values)
        return self._awaited()

    def rows(self, result: PGresult) -> list[tuple[Any, ...]]:
        """The rows of a PGresult as tuples."""
        if self._rows is None:
            self._rows = Transformer(self._connection)
        self._rows.set_pgresult(result)
        return self._rows.load_rows(0, result.ntuples, tuple)

    def really_begin(self) -> None:
        """Let the server know of the transaction, too, and of all that was to be done in it. Raises psycopg's errors."""
        if not self._is_begun:
            self._is_begun = True
            self.command(b"BEGIN")
        self._send_late()

    def begin(self) -> None:
        """Begin a transaction: BEGIN is sent with the first statement, which saves a round trip."""
        self._is_begun = self.is_undone = False

    def end(self, text: bytes) -> bytes | None:
        """COMMIT or ROLLBACK; return what the server says it has done. Raises psycopg's errors."""
        late, self._late = self._late, None
        if late is not None and text == b"COMMIT":
            return self._commit_with(*late)
        if not self._is_begun:  # there was no statement
            self._is_begun = True
            return text
        return self.command(text).command_status

    def _commit_with(self, name: bytes, params: Sequence[Any]) -> bytes | None:
        """The last statement of a transaction and COMMIT at once: the server skips COMMIT when the statement fails."""
        begin = [] if self._is_begun else [(b"BEGIN", b"", ())]
        self._is_begun = True
        *changed, committed = self._at_once(*begin, (b"", name, params), (b"COMMIT", b"", ()))
        try:
            for result in changed:
                self._checked(result)
        except psycopg.Error:
            if changed[-1] is not None and not self._connection.closed:
                self.is_undone = True
                self.command(b"ROLLBACK")
            raise
        return self._checked(committed).command_status

    def command(self, text: bytes) -> PGresult:
        """The PGresult of a statement without parameters. Raises psycopg's errors."""
        self.pgconn.send_query(text)
        return self._awaited()

    def _prepare(self, text: str) -> bytes:
        name = next(self._names)
        self.pgconn.send_prepare(name, _numbered(text))
        self._awaited()
        return name

    def _close(self, name: bytes) -> None:
        """Forget a prepared statement by protocol message: poolers understand that, but not DEALLOCATE."""
        if CAN_CLOSE:
            self.pgconn.send_close_prepared(name)
            self._awaited()
        else:
            self.command(b"DEALLOCATE " + name)

    def _prepared(self, name: bytes, params: Sequence[Any]) -> PGresult:
        if not self._is_begun:
            return self._first(name, params)
        values: list[Any] = [_parameter(value) for value in params]  # psycopg's types forget that one may be None
        self.pgconn.send_query_prepared(name, values)
        return self._awaited()

    def _first(self, name: bytes, params: Sequence[Any]) -> PGresult:
        """BEGIN and the first statement of a transaction at once."""
        self._is_begun = True
        begun, result = self._at_once((b"BEGIN", b"", ()), (b"", name, params))
        self._checked(begun)
        return self._checked(result)

    def _at_once(self, *statements: tuple[bytes, bytes, Sequence[Any]]) -> list[PGresult | None]:
        """The results of statements, (text, b"", ()) or (b"", prepared name, params), None for those that did not come."""
        results: list[PGresult] = []
        self.pgconn.enter_pipeline_mode()
        try:
            for text, name, params in statements:
                if text:
                    self.pgconn.send_query_params(text, [])
                else:
                    values: list[Any] = [_parameter(value) for value in params]
                    self.pgconn.send_query_prepared(name, values)
            self.pgconn.pipeline_sync()
            self._flush()
            while not results or results[-1].status != pq.ExecStatus.PIPELINE_SYNC:
                result = self._next_result()
                if result is not None:
                    results.append(result)
                elif self._connection.closed:
                    break
        finally:
            if not self._connection.closed:
                self.pgconn.exit_pipeline_mode()
        return [*results, *[None] * len(statements)][: len(statements)]

    def _awaited(self) -> PGresult:
        """The result of what was sent."""
        result = None
        self._flush()
        while (following := self._next_result()) is not None:
            result = following
        return self._checked(result)

    def _flush(self) -> None:
        """Send what is to be sent, all of it: a long body does not fit into the connection at once."""
        end = time.monotonic() + self.answer_seconds
        while self.pgconn.flush():
            self._wait_until(end, select.POLLIN | select.POLLOUT)
            self.pgconn.consume_input()  # the server may not read on before we have read what it sent

    def _next_result(self) -> PGresult | None:
        end = time.monotonic() + self.answer_seconds
        while self.pgconn.is_busy():
            if self.wait is not None:
                self.wait()
                if self._connection.closed:
                    raise NoAnswer("the database does not answer")
            else:  # not in libpq, which would keep Python's lock meanwhile
                self._wait_until(end, select.POLLIN)
            self.pgconn.consume_input()
        return self.pgconn.get_result()

    def _wait_until(self, end: float, events: int) -> None:
        """Wait until the connection is ready; close it and raise NoAnswer when it is not by `end`."""
        if not _ready(self.pgconn.socket, events, end - time.monotonic()):
            self._connection.close()
            raise NoAnswer("the database does not answer")

    def _checked(self, result: PGresult | None) -> PGresult:
        if result is not None and result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            return result
        if result is None or self._connection.closed:  # without a word from the server, so without a code to know it by
            raise psycopg.OperationalError("the connection is lost")
        raise psycopg.errors.error_from_result(result)


def _ready(file: int, events: int, seconds: float) -> bool:
    """Whether a file can be read or written in time, as `events` say; `select` could not for files above 1023."""
    poll = select.poll()
    poll.register(file, events)
    return bool(poll.poll(max(0, seconds) * 1000))


def _numbered(text: str) -> bytes:
    """Our `?` as PostgreSQL's `$1`; no statement has a `?` elsewhere."""
    numbers = count(1)
    return re.sub(r"\?", lambda _: f"${next(numbers)}", text).encode()


def _parameter(value: Any) -> bytes | None:
    """A parameter as PostgreSQL reads it in text form."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, list):
        return ("{" + ",".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in value) + "}").encode()
    return str(value).encode()
