"""Connections for which no thread waits, and shares of them: what keeps slow and greedy peers from stopping everybody.

The rest of an answer that is not read waits without a thread. Who does not send or read at a least rate is hung up on,
and nobody holds more than a share of the connections, threads and spooled bytes.

A request may be refused while its body is still being sent. If the connection were closed then, the system would reset it,
and the client might lose the answer: so it lingers, and what comes is thrown away until the client closes it.
"""
import fcntl
import math
import socket
import struct
import termios
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from leanwsgi import shares, waitress_server
from leanwsgi.messages import http_date
from leanwsgi.waitress_server import ErrorTask, HTTPChannel, HTTPRequestParser, MAX_CONNECTIONS, Parser, SEND_BYTES, WSGITask

HIGH_WATER, LOW_WATER = 1 << 19, 1 << 17  # bytes that wait to be read: above, an answer pauses; below, it goes on
HEAD_SECONDS = 20  # for a request's head, from its first byte to its last
WINDOW_SECONDS, WINDOW_BYTES = 30, 15_000  # of a body or an answer that must pass in each such time: 500 bytes a second
LOOK_SECONDS = 1  # between two looks for those who are slower
PEER_CONNECTIONS = MAX_CONNECTIONS // 4
SPARE_CONNECTIONS = 20  # that are made free when all are taken, from those who waited longest in the midst of nothing
LINGER_SECONDS, LINGER_BYTES = 30, 1 << 26  # for which a refused request is read on
SILENT_SECONDS = 2  # after which a lingering connection of which nothing comes is closed
MAX_LINGERING = MAX_CONNECTIONS // 10
LINGER_PIECE = 1 << 16  # bytes that are thrown away at once
OF_WHOLE_REQUESTS = (500, 503)  # refusals when nothing more comes
WAITRESS_HEADERS = frozenset(["date", "server"])  # with which it leaves its own out, or says more
PACE = "leanwsgi.pace"  # in environ: makes a body one that pauses


def create_server(
    application: WSGIApplication,
    sockets: Sequence[socket.socket],
    dispatcher: Any,
    trusted_proxy: Collection[str] = (),
    **options: Any,
) -> Any:
    """A waitress server with such connections, for `waitress_server.run`; `options` are waitress's.

    `trusted_proxy` holds the addresses of proxies in front, or "*": these are no visitors, but say who is.
    """
    server = waitress_server.create_server(
        _paced(application), sockets, dispatcher, cleanup_interval=LOOK_SECONDS, **options
    )
    server.channel_class = Channel
    server.trusted_proxy = trusted_proxy
    server.connections, server.spooled = shares.Shares(), shares.Shares()  # of each visitor
    server.peer_bytes = 2 * server.adj.max_request_body_size
    server.lingering = set()
    server.maintenance = partial(_look_around, server)
    return server


class _Paused(BaseException):
    """A peer reads too slowly, and the rest of its answer waits. No Exception: waitress would end the connection."""

    task: "Task"


class _Paced:
    """The body of an answer in pieces, which pauses while too much of it is not read yet. It is closed when it has ended."""

    def __init__(self, task: "Task", body: Iterable[bytes]) -> None:
        self._task, self._body, self._pieces = task, body, iter(body)
        self._is_paused = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        channel = self._task.channel
        self._is_paused = channel.connected and channel.total_outbufs_len > HIGH_WATER
        if self._is_paused:
            pause = _Paused()
            pause.task = self._task
            raise pause
        return next(self._pieces)

    def close(self) -> None:
        """Called by waitress, after a pause too; see `end`."""
        if not self._is_paused:
            self.end()

    def end(self) -> None:
        if hasattr(self._body, "close"):
            self._body.close()


class Task(WSGITask):  # type: ignore[misc]
    """waitress's task, which can go on after a pause: its second `service` sends the rest."""

    body: _Paced | None = None
    wrote_header = False

    def get_environment(self) -> WSGIEnvironment:
        environ: WSGIEnvironment = super().get_environment()
        environ[PACE] = self._pace
        return environ

    def _pace(self, body: Iterable[bytes]) -> _Paced:
        self.body = _Paced(self, body)
        return self.body

    def build_response_header(self) -> bytes:
        """The head of the answer. Most need nothing of what waitress does for old clients, missing lengths and proxies."""
        given = {name.lower() for name, _ in self.response_headers}
        is_kept = self.version == "1.1" and self.request.headers.get("CONNECTION", "keep-alive").lower() == "keep-alive"
        if not is_kept or "content-length" not in given or given & WAITRESS_HEADERS or not self.has_body:
            head: bytes = super().build_response_header()
            return head
        lines = [f"HTTP/1.1 {self.status}"]
        lines += [f"{name}: {value}" for name, value in self.response_headers]
        lines += [f"Date: {http_date(int(self.start_time))}", "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def write(self, data: bytes) -> None:
        """Head and body together, if that is all."""
        is_all = self.complete and not self.wrote_header and 0 < len(data) < SEND_BYTES and len(data) == self.content_length
        if not is_all or not self.has_body:
            super().write(data)
            return
        self.channel.write_soon(self.build_response_header() + data)
        self.wrote_header, self.content_bytes_written = True, len(data)

    def execute(self) -> None:
        if self.body is None:
            super().execute()
            return
        try:
            for piece in self.body:
                self.write(piece)
            if self.content_length not in (None, self.content_bytes_written):
                self.set_close_on_finish()
        finally:
            self.body.close()


class RefusalTask(ErrorTask):  # type: ignore[misc]
    """The answer to a request that does not reach the application, perhaps before all of it has come."""

    def execute(self) -> None:
        self.channel.is_cut_off = self.request.error.code not in OF_WHOLE_REQUESTS
        super().execute()


def _paced(application: WSGIApplication) -> WSGIApplication:
    """The application with bodies that pause; a list is whole already."""

    def called(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = application(environ, start_response)
        paced: Iterable[bytes] = body if isinstance(body, (list, tuple)) else environ[PACE](body)
        return paced

    return called


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection of waitress's for which no thread waits, and which ends when its peer is too slow.

    While `_is_waiting`, no thread has the channel: the loop sends what there is, and gives it to a thread again.
    """

    parser_class = Parser
    new_task = Task
    error_task_class = RefusalTask
    request: Any
    requests: Any
    is_cut_off = False  # a request was refused, whose rest may come
    is_lingering = False

    def __init__(self, server: Any, *arguments: Any, **more: Any) -> None:
        self._is_waiting = False
        self._paused: Task | None = None  # with more to send
        self._coming: Any = None  # the request that is not whole yet
        self._came = 0.0  # when it began
        self._since, self._passed = 0.0, 0  # a look, and how much had passed by then
        self._resumed = 0  # times that an answer has gone on
        self._spooled = 0  # bytes of bodies that are here
        super().__init__(server, *arguments, **more)
        self._is_counted, self._peer = True, shares.peer(self.addr, server.trusted_proxy)
        self._visitor = shares.visitor(self.addr, {}, server.trusted_proxy)
        if server.connections.add(self._peer, 1) > PEER_CONNECTIONS:
            self.will_close = True

    def visitor(self) -> str | None:
        """Whose thread the next request takes."""
        for request in self.requests[:1]:
            if "X_REAL_IP" in request.headers:
                return shares.visitor(self.addr, request.headers, self.server.trusted_proxy)
        return self._visitor

    def task_class(self, channel: HTTPChannel, request: HTTPRequestParser) -> Task:
        """waitress's way to a task: the one that has paused, or a new one."""
        task, self._paused = self._paused or self.new_task(self, request), None
        return task

    def service(self) -> None:
        if self._paused is None and self.connected and self.total_outbufs_len > LOW_WATER:
            self._wait(None)  # the answer before this one is not read yet
            return
        try:
            super().service()
        except _Paused as pause:
            self._wait(pause.task)

    def _wait(self, task: Task | None) -> None:
        self._paused, self._is_waiting = task, True
        self.server.trigger.pull_trigger(self._look_at_waiting)

    def _look_at_waiting(self) -> None:
        """On the loop, which may have sent or closed everything before this channel was seen to wait."""
        if self._is_waiting and self.connected:
            self.handle_write()
        elif self._is_waiting:
            self._forget()

    def handle_write(self) -> None:
        if self.close_when_flushed and not self._is_waiting:
            self._finish()
            return
        if not self._is_waiting:
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.will_close:
            self.end()
        elif self.connected and self.total_outbufs_len <= LOW_WATER:
            self._is_waiting = False
            self._resumed += 1
            go_on = self.server.add_task if self._paused is None else self.server.task_dispatcher.go_on
            go_on(self)

    def _finish(self) -> None:
        """Send what is left of the last answer; then end the connection, or have it linger."""
        self._flush_exception(self._flush_some)
        if self.connected and not self.will_close:
            if self.total_outbufs_len:
                return
            self.close_when_flushed = False
            if (self.is_cut_off or _unread(self.socket)) and self._linger():
                return
        self.end()

    def _linger(self) -> bool:
        """Begin to throw away what comes, if not too many connections do already. Nothing of it is kept."""
        if len(self.server.lingering) >= MAX_LINGERING:
            return False
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        self._drop_request()
        if self._spooled:
            self._count_spooled()
        self.last_activity = time.time()
        self._since, self._passed = time.monotonic(), 0
        self.is_lingering = True
        self.server.lingering.add(self)
        return True

    def _throw_away(self) -> None:
        try:
            data = self.recv(LINGER_PIECE)
        except OSError:
            data = b""
        self._passed += len(data)
        if data:
            self.last_activity = time.time()
        if not data or self._passed > LINGER_BYTES:
            self.end()

    def send_continue(self) -> None:
        """waitress would ask for the body of a request that it has refused already, and take it."""
        if self.request.error is None:
            super().send_continue()

    def send_soon(self, data: bytes) -> None:
        """Send an answer from the loop, at once where the system takes it, which spares it the way through a buffer."""
        sent = 0
        if not self.total_outbufs_len:
            try:
                sent = self.send(data)
            except OSError:
                self.will_close = True
                return
            self.last_activity = time.time()
        if sent < len(data) and self.connected:
            self.write_soon(data[sent:])

    def _flush_outbufs_below_high_watermark(self) -> None:
        """waitress would have a thread wait here."""

    def handle_read(self) -> None:
        if self.is_lingering:
            self._throw_away()
            return
        super().handle_read()
        if not self.connected:
            self.end()
            return
        request = self.request
        if request is not self._coming:
            self._coming, self._came, self._since = request, time.monotonic(), 0.0
        if request is not None or self._spooled:
            self._count_spooled()

    def _count_spooled(self) -> None:
        bodies = [request for request in (self.request, *self.requests) if request is not None]
        spooled = sum(request.body_bytes_received for request in bodies)
        change, self._spooled = spooled - self._spooled, spooled
        if self.server.spooled.add(self._peer, change) > self.server.peer_bytes and change > 0:
            self.will_close = True

    def look(self, now: float) -> None:
        """Called by the loop from time to time: end what does not come, or is not read, at the least rate."""
        if self.is_lingering:
            is_over = now - self._since > LINGER_SECONDS or time.time() - self.last_activity > SILENT_SECONDS
            self.will_close = self.will_close or is_over
            return
        if self._spooled:
            self._count_spooled()
        if self.total_outbufs_len > 0 and (self._is_waiting or not self.requests):
            # What has gone on has had the bytes between the two marks, at least.
            passed = self._resumed * HIGH_WATER - self.total_outbufs_len - _unsent(self.socket)
        elif self._coming is None:
            self._since = 0.0
            return
        elif not self._coming.headers_finished:
            self.will_close = self.will_close or now - self._came > HEAD_SECONDS
            return
        else:
            passed = self._coming.body_bytes_received
        if not self._since:
            self._since, self._passed = now, passed
        elif now - self._since > WINDOW_SECONDS:
            self.will_close = self.will_close or passed - self._passed < WINDOW_BYTES
            self._since, self._passed = now, passed

    def waited(self, now: float) -> float | None:
        """Seconds for which nothing, or only a part of a request, has been there; None while there is something to do."""
        if self.is_lingering:
            return math.inf  # it has its answer: the first to make room
        if self.requests or self.total_outbufs_len:
            return None
        return now - self._came if self._coming is not None else time.time() - self.last_activity

    def end(self) -> None:
        """Close the connection, from the loop, and what has come of a request."""
        self.handle_close()
        self._drop_request()

    def _drop_request(self) -> None:
        self._coming = None
        if self.request is not None:
            self.request.close()
            self.request = None

    def handle_close(self) -> None:
        super().handle_close()
        if self._is_waiting:
            self._forget()

    def _forget(self) -> None:
        """No thread will look at what waits here any more."""
        task, self._paused = self._paused, None
        if task is not None and task.body is not None:
            task.body.end()
        with self.requests_lock:
            while self.requests:
                self.requests.pop().close()

    def del_channel(self, map: Any = None) -> None:
        super().del_channel(map)
        if getattr(self, "_is_counted", False):
            self._is_counted = False
            self.server.lingering.discard(self)
            self.server.connections.add(self._peer, -1)
            self.server.spooled.add(self._peer, -self._spooled)
            self._spooled = 0


def _unsent(connection: socket.socket) -> int:
    """Bytes in the system's hands that the peer does not have yet; 0 where the system does not say."""
    return _waiting(connection, termios.TIOCOUTQ)


def _unread(connection: socket.socket) -> int:
    """Bytes that have come and were not read."""
    return _waiting(connection, termios.FIONREAD)


def _waiting(connection: socket.socket, direction: int) -> int:
    try:
        waiting: int = struct.unpack("i", fcntl.ioctl(connection, direction, bytes(4)))[0]
    except OSError:
        return 0
    return waiting


def _look_around(server: Any, now: float) -> None:
    """What waitress calls from time to time: ends what idles, as waitress would, and what is too slow."""
    type(server).maintenance(server, now)
    clock = time.monotonic()
    channels = [*server.active_channels.values()]
    for channel in channels:
        channel.look(clock)
    if len(server._map) >= server.adj.connection_limit:
        waiting = [(seconds, id(channel), channel) for channel in channels if (seconds := channel.waited(clock)) is not None]
        for _, _, channel in sorted(waiting)[-SPARE_CONNECTIONS:]:
            channel.will_close = True
    # waitress would first wait until they can be written to. To close them here, in the midst of a turn, could end a visitor
    # who is let in with the number of one of them.
    server.ending += [channel for channel in channels if channel.will_close]
