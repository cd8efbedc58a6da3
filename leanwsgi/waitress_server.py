"""waitress as both services run it, and the only module that imports it: threads wake only when needed, and a stop finishes requests in progress.

Python runs one thread at a time. waitress wakes a thread for every request and its loop for every answer: system calls
that release Python's lock, and threads that then compete for it. That would cost half of the processor's time.
"""
import re
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any
from wsgiref.types import WSGIApplication

import waitress
from waitress import wasyncore
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel as HTTPChannel
from waitress.parser import HTTPRequestParser as HTTPRequestParser
from waitress.parser import ParsingError, TransferEncodingNotImplemented
from waitress.receiver import ChunkedReceiver, FixedStreamReceiver
from waitress.task import ErrorTask as ErrorTask
from waitress.task import ThreadedTaskDispatcher
from waitress.task import WSGITask as WSGITask
from waitress.trigger import trigger
from waitress.utilities import BadRequest
from waitress.utilities import Error as Error
from waitress.utilities import RequestEntityTooLarge as RequestEntityTooLarge

SEND_BYTES = 1 << 16  # answers up to this go out in one piece, from the one thread that is not busy with others
LINGER_SECONDS = 5  # for requests that are being answered at the end
PAUSE_SECONDS = 0.1  # after which a request that is not whole is not waited for at the end
MAX_CONNECTIONS = 1000
KNOWN_BYTES, KNOWN_LINES = 2048, 50  # of headers that are worth remembering: a thousand of them take 10 MB at most
MAX_CHUNK_LINE, MAX_TRAILER = 1 << 12, 1 << 14  # bytes
SMALL_BYTES = 1 << 16  # of a body that is never kept on disk
# A path without escapes and empty parts, and a query of printable characters.
PLAIN_LINE = re.compile(rb"([A-Z]+) ((/(?:[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*/?)?)(?:\?([!\"$-~]*))?) HTTP/1\.1")


class Pool(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """A waitress task dispatcher that wakes one thread at a time: the next one when that has begun, and work is left.

    A busy thread takes the next request before the woken one gets Python's lock; a thread that waits for storage releases
    the lock to it. At most one thread more than there are blocked requests is awake. The last thread to become idle is
    woken first: its memory is in the caches.

    With `is_shared`, one visitor can hold at most three quarters of the threads; tasks then have a `visitor`.
    """

    def __init__(self, is_shared: bool = False) -> None:
        super().__init__()
        self._idle: list[threading.Condition] = []
        self._is_waking = False
        self._is_shared = is_shared
        self._share = 0  # threads of one visitor, 0 for any number
        self._served: defaultdict[str, int] = defaultdict(int)  # threads by visitor
        self._set_aside: defaultdict[str, deque[Any]] = defaultdict(deque)  # tasks of those who have their share

    def set_thread_count(self, count: int) -> None:
        self._share = max(1, count - max(1, count // 4)) if self._is_shared and count > 1 else 0
        super().set_thread_count(count)
        with self.lock:
            for idle in self._idle:  # to see who is to stop
                idle.notify()
            self._idle.clear()

    @property
    def busy(self) -> int:
        """How many threads have a request."""
        return max(0, len(self.threads) - len(self._idle))

    def add_task(self, task: Any) -> None:
        with self.lock:
            self.queue.append(task)
            self._wake()

    go_on = add_task  # with a task that has begun already

    def waiting(self, visitor: str | None) -> int:
        """How many tasks of a visitor wait for other tasks of the same."""
        with self.lock:
            return len(self._set_aside.get(visitor or "", ()))

    def shutdown(self, cancel_pending: bool = True, timeout: float = LINGER_SECONDS) -> bool:
        with self.lock:
            self._share = 0
            for tasks in self._set_aside.values():
                self.queue.extend(tasks)
            self._set_aside.clear()
        done: bool = super().shutdown(cancel_pending, timeout)
        return done

    def handler_thread(self, thread_no: int) -> None:
        idle = threading.Condition(self.lock)
        while True:
            with self.lock:
                while not (taken := None if self.stop_count else self._take()) and not self.stop_count:
                    self._idle.append(idle)
                    idle.wait()
                    self._is_waking = False
                if not taken:
                    self.stop_count -= 1
                    self.threads.discard(thread_no)
                    self.thread_exit_cv.notify()
                    return
                task, visitor = taken
                self._wake()
            try:
                task.service()
            except BaseException:
                self.logger.exception("a request could not be answered")
            if visitor is not None:
                self._end(visitor)

    def _take(self) -> tuple[Any, str | None] | None:
        """The next task and whose thread it takes; tasks of those who have their share are set aside on the way."""
        while self.queue:
            task = self.queue.popleft()
            visitor: str | None = task.visitor() if self._share else None
            if visitor is None:
                return task, None
            if self._served[visitor] < self._share:
                self._served[visitor] += 1
                return task, visitor
            self._set_aside[visitor].append(task)
        return None

    def _end(self, visitor: str) -> None:
        with self.lock:
            self._served[visitor] -= 1
            if not self._served[visitor]:
                del self._served[visitor]
            if visitor in self._set_aside:
                self.queue.append(self._set_aside[visitor].popleft())
                if not self._set_aside[visitor]:
                    del self._set_aside[visitor]

    def _wake(self) -> None:
        if self.queue and self._idle and not self._is_waking:
            self._is_waking = True
            self._idle.pop().notify()


class Trigger(trigger):  # type: ignore[misc]
    """Wakes waitress's loop, once for all requests made before it looks.

    A signal handler may interrupt any of this and ask too: hence a reentrant lock.
    """

    _is_pulled = False

    def __init__(self, files: dict[int, Any]) -> None:
        self._files_lock = threading.RLock()  # what was the trigger's file may be another one once it is closed
        super().__init__(files)

    def pull_trigger(self, thunk: Callable[[], None] | None = None) -> None:
        """Wake the loop, and have it call `thunk`."""
        if thunk:
            self.thunks.append(thunk)
        self._physical_pull()

    def _physical_pull(self) -> None:
        if self._is_pulled:
            return
        with self._files_lock:
            if not self._closed:
                self._is_pulled = True
                super()._physical_pull()

    def close(self) -> None:
        with self._files_lock:
            super().close()

    def handle_read(self) -> None:
        try:
            self.recv(8192)
        except OSError:
            return
        self._is_pulled = False  # only now does the loop look at what there is to do: who asks from here on wakes it again
        while self.thunks:
            try:
                self.thunks.pop(0)()
            except Exception:
                self.logger.exception("what the loop was asked for failed")


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """waitress's parser, which raises on some malformed headers (a length of 5000 digits, `http://[`): here they are 400.

    A client sends the same headers again and again, and parsing them takes longer than all else here: they are remembered.
    Of most lines that ask for something, waitress would make the same in a fifth of the time if it had less to look for.
    """

    body_rcv: Any = None

    def parse_header(self, header_plus: bytes) -> None:
        line, _, block = header_plus.partition(b"\r\n")
        # `GET HTTP/1.1` is of no version: it asks for the path `HTTP/1.1`.
        is_small = len(block) <= KNOWN_BYTES and line.endswith(b" HTTP/1.1") and line.count(b" ") > 1 and block.count(b"\n") <= KNOWN_LINES
        headers = _plain_headers(block, self.adj) if is_small else None
        try:
            if headers is None:
                super().parse_header(header_plus)
                if self.chunked:
                    self.body_rcv = Chunks(OverflowableBuffer(self.adj.inbuf_overflow))
                return
            length = headers.get("CONTENT_LENGTH")
            plain = PLAIN_LINE.fullmatch(line)
            if plain is not None:
                self._take(line, plain, int(length or 0))
            else:
                super().parse_header(line + (f"\r\nContent-Length: {length}\r\n".encode("latin-1") if length else b"\r\n"))
            self.headers.update(headers)
        except ValueError:
            raise ParsingError("Malformed request") from None

    def _take(self, line: bytes, plain: re.Match[bytes], length: int) -> None:
        """What waitress's parse_header makes of such a line and a length."""
        self.first_line = line
        command, uri, path, query = plain.groups(b"")
        self.command, self.request_uri = command.decode(), uri.decode()
        self.path, self.query = path.decode(), query.decode()
        self.proxy_scheme = self.proxy_netloc = self.fragment = ""
        self.version, self.url_scheme = "1.1", self.adj.url_scheme
        self.content_length = length
        if length:
            is_small = length <= SMALL_BYTES
            self.body_rcv = SmallBody(length) if is_small else FixedStreamReceiver(length, OverflowableBuffer(self.adj.inbuf_overflow))


class Chunks(ChunkedReceiver):  # type: ignore[misc]
    """A body in chunks. waitress keeps a line between them, however long, and reads it anew with each piece that comes."""

    error: Any = None

    def received(self, data: bytes) -> int:
        taken: int = super().received(data)
        if self.error is None and (len(self.control_line) > MAX_CHUNK_LINE or len(self.trailer) > MAX_TRAILER):
            self.error = BadRequest("a line between chunks is too long")
        return taken


class SmallBody:
    """A small body of a known length. waitress keeps any in a buffer that could become a file, which takes longer."""

    completed = False
    error = None

    def __init__(self, length: int) -> None:
        self._missing = length
        self._data = b""
        self._file: BytesIO | None = None

    def __len__(self) -> int:
        return len(self._data)

    def received(self, data: bytes) -> int:
        taken = data[: self._missing]
        self._data += taken
        self._missing -= len(taken)
        self.completed = not self._missing
        return len(taken)

    def getfile(self) -> BytesIO:
        if self._file is None:
            self._file = BytesIO(self._data)
        return self._file

    def getbuf(self) -> "SmallBody":
        return self

    def close(self) -> None:
        """Nothing is open."""


@lru_cache(1000)
def _plain_headers(block: bytes, adj: Any) -> dict[str, str] | None:
    """Headers of HTTP/1.1, as waitress names them; None if they are malformed, or say more than the length of a body."""
    request = HTTPRequestParser(adj)
    try:
        request.parse_header(b"GET / HTTP/1.1\r\n" + block)
    except (ParsingError, TransferEncodingNotImplemented, ValueError):
        return None
    says_more = request.chunked or request.connection_close or request.expect_continue
    headers: dict[str, str] = request.headers
    return None if says_more else headers


class _Entrance(wasyncore.dispatcher):  # type: ignore[misc]
    """One more listening socket of a server: its connections are the server's."""

    def __init__(self, server: Any, listening: socket.socket) -> None:
        super().__init__(listening, server._map)
        self.accepting = True
        self._server = server

    def readable(self) -> bool:
        is_full = len(self._server._map) >= self._server.adj.connection_limit
        return bool(self._server.accepting) and not is_full

    def writable(self) -> bool:
        return False

    def handle_accept(self) -> None:
        try:
            accepted = self.accept()
            if accepted is not None:
                self._server.set_socket_options(accepted[0])
        except OSError:  # the visitor has gone, or there are too many open files
            return
        if accepted is not None:
            self._server.channel_class(self._server, *accepted, self._server.adj, map=self._server._map)


def create_server(
    application: WSGIApplication, sockets: Sequence[socket.socket], dispatcher: Any, **options: Any
) -> Any:
    """A waitress server on listening sockets, for `run`; `options` are waitress's, beside those that both services share."""
    server = waitress.create_server(
        application,
        _dispatcher=dispatcher,
        sockets=[sockets[0]],
        connection_limit=MAX_CONNECTIONS,
        channel_timeout=60,
        ident=None,
        # The applications decide whom to believe: waitress could trust one address only.
        clear_untrusted_proxy_headers=False,
        asyncore_use_poll=True,
        **options,
    )
    server.adj.send_bytes = SEND_BYTES  # waitress calls its own option deprecated, and has no other
    server.trigger.close()
    server.entrances = [server, *(_Entrance(server, listening) for listening in sockets[1:])]
    # Last: what it is asked for may close a connection, whose number a visitor who is let in later in the turn could get.
    server.trigger = Trigger(server._map)
    server.ending = []  # connections to be closed between two turns of the loop
    return server


def run(server: Any, turn: Callable[[], None] = lambda: None) -> None:
    """Serve until `stop` or an exception, then finish requests in progress. `turn` is called after each turn of the loop.

    waitress's own `run` waits for its threads at the end, but sends no responses any more: clients would not learn what
    was stored.
    """
    try:
        while server.accepting:
            wasyncore.poll2(server.adj.asyncore_loop_timeout, server._map)
            while server.ending:
                server.ending.pop().end()
            turn()
    finally:
        known = 0
        while known < len(server._map) < server.adj.connection_limit:  # connections in the backlog may have sent a request
            known = len(server._map)
            for entrance in server.entrances:
                entrance.handle_accept()
        _say_that_it_ends(server)  # before anybody can notice that the listener is closed
        for entrance in server.entrances:
            wasyncore.dispatcher.close(entrance)  # nobody else comes
        _answer_the_rest(server, turn)
        server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(server._map, ignore_all=True)


def _answer_the_rest(server: Any, turn: Callable[[], None]) -> None:
    end = time.monotonic() + LINGER_SECONDS
    while server.active_channels and time.monotonic() < end:
        _say_that_it_ends(server)
        wasyncore.poll2(0.05, server._map)
        turn()
        for channel in [*server.active_channels.values()]:
            if not channel.requests and not channel.total_outbufs_len and not _is_coming(channel):
                channel.handle_close()


def _say_that_it_ends(server: Any) -> None:
    for channel in [*server.active_channels.values()]:
        for request in [] if _is_coming(channel) else channel.requests[-1:]:
            request.headers["CONNECTION"] = "close"  # the answer says so, and its client does not ask here again


def _is_coming(channel: Any) -> bool:
    """Whether a part of a request has arrived, and the rest may be unread in the socket; of a refused one, too."""
    is_part = channel.request is not None or getattr(channel, "is_lingering", False)
    return bool(is_part and channel.last_activity > time.time() - PAUSE_SECONDS)


def stop(server: Any) -> None:
    """Make `run` end, from any thread or a signal handler; nothing happens when it has.

    A signal handler must not raise instead: that could strike between sending bytes and noting that they were sent.
    """
    server.accepting = False
    server.trigger.pull_trigger()
