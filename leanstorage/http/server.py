"""Serving the application with waitress, in the foreground or on a thread, with an end that leaves nothing behind.

waitress reads requests, whole, on one loop, and hands them to threads. Calls that need not wait (inline_calls.py) never leave the loop.
"""
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from http import HTTPStatus
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

from leanwsgi import channels, messages, waitress_server
from leanwsgi.waitress_server import Error, ErrorTask, HTTPChannel, HTTPRequestParser, RequestEntityTooLarge
from leanstorage.http.inline_calls import Group, Quick
from leanstorage.http.observer import ARRIVED, Observer
from leanstorage.http.turns import Turns
from leanstorage.rules.errors import Code
from leanwsgi.messages import BytesResponse, Header

OVERHEAD_BYTES = 1 << 20
UPLOADS = "/1.1/uploads/"
MAX_WAITING = 256  # requests in the queue; the next ones are refused at once instead of waiting without end
MAX_LOOP_QUERY = 4096  # bytes of a query string: a longer one may take long to parse, and the loop is everybody's
UNPREFIXED = ("CONTENT_LENGTH", "CONTENT_TYPE")  # headers as environ names them, all others with HTTP_ in front
MAX_WAITING_EACH = 64  # of one visitor, who has a share of the threads already
Written = tuple[HTTPChannel, BytesResponse | None]  # a channel, and the answer to its request


class Server:
    """A waitress server on a listening socket; `quick` answers quick calls.

    No body is longer than `max_bytes`, and none but an upload's than `max_call_bytes`; an upload to a URL without a token of
    ours (`is_token`) is refused as soon as its headers have come, so that strangers cannot fill the disk.
    """

    def __init__(
        self,
        application: WSGIApplication,
        listening: socket.socket,
        threads: int,
        max_bytes: int,
        quick: Quick | None = None,
        max_call_bytes: int | None = None,
        is_token: Callable[[str], bool] = lambda text: True,
        trusted_proxy: Collection[str] = (),
        observer: Observer | None = None,
    ) -> None:
        self.pool = pool = Dispatcher()
        pool.set_thread_count(threads)
        self._dispatcher: Loop | Dispatcher = Loop(pool, quick, observer) if quick else pool
        # The application itself answers what is too large, in JSON.
        self._server = channels.create_server(
            application, [listening], self._dispatcher, trusted_proxy, max_request_body_size=max_bytes + OVERHEAD_BYTES
        )
        adjustments = copy(self._server.adj)
        adjustments.max_request_body_size = (max_call_bytes or max_bytes) + OVERHEAD_BYTES
        parts = {"parser_class": _parser(adjustments, is_token), "new_task": _Task, "error_task_class": _error_task(observer)}
        self._server.channel_class = type("Channel", (channels.Channel,), parts)
        if quick:
            quick.start(_Watch(self._server._map, self._server.trigger))
        self.port: int = self._server.effective_port
        self._thread: threading.Thread | None = None

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call `function()` on the loop, from any thread."""
        self._server.trigger.pull_trigger(function)

    @property
    def connections(self) -> int:
        return len(self._server.active_channels)

    def run(self) -> None:
        """Serve until `stop` is called, or an exception."""
        waitress_server.run(self._server, lambda: self._dispatcher.turn(self._server))

    def start(self) -> None:
        """Serve on a thread."""
        self._thread = threading.Thread(target=self.run, name="leanstorage", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End `run` when what has come is answered, from a signal handler or another thread; wait for one that `start` began."""
        waitress_server.stop(self._server)
        if self._thread is not None:
            self._thread.join(2 * waitress_server.LINGER_SECONDS)


class Dispatcher(waitress_server.Pool):
    """A pool of threads with a bounded queue; one more thread answers 503 when the queue is full."""

    def __init__(self) -> None:
        super().__init__(is_shared=True)
        self._refusing = waitress_server.Pool()

    def set_thread_count(self, count: int) -> None:
        super().set_thread_count(count)
        self._refusing.set_thread_count(1 if count else 0)

    def add_task(self, task: HTTPChannel) -> None:
        if not task.requests or (len(self.queue) < MAX_WAITING and self.waiting(task.visitor()) < MAX_WAITING_EACH):
            super().add_task(task)
        else:
            task.requests[0].error = Refusal(Code.UNAVAILABLE, [("Retry-After", "1")])
            self._refusing.add_task(task)

    def turn(self, server: Any) -> None:
        """Nothing is left for the loop to do."""

    def shutdown(self, cancel_pending: bool = True, timeout: float = waitress_server.LINGER_SECONDS) -> bool:
        self._refusing.shutdown(cancel_pending, timeout)
        return super().shutdown(cancel_pending, timeout)


class Loop:
    """A dispatcher that answers quick calls on waitress's loop, some in each turn, and gives the others to `pool`."""

    def __init__(self, pool: Dispatcher, quick: Quick, observer: Observer | None = None) -> None:
        self._pool, self._quick, self._observer = pool, quick, observer
        self._calls, self._writes = Turns(quick.answers_at_once), Turns(are_answered_at_once=True)
        self._is_committing = False
        self._loop_thread: int | None = None
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="commit")

    def set_thread_count(self, count: int) -> None:
        self._pool.set_thread_count(count)

    def add_task(self, channel: HTTPChannel) -> None:
        """Called by waitress with a channel whose first request is complete, while it holds the channel's lock."""
        request = channel.requests[0]
        kind = None
        # After a pipelined call that waited, waitress calls from that call's thread: the lists are the loop's alone. A
        # request that could not be parsed has no path, and lengths that are no numbers.
        if threading.get_ident() == self._loop_thread and _is_plain(channel, request):
            length = int(request.headers.get("CONTENT_LENGTH") or 0)  # of a chunked body too, by now
            kind = self._quick.kind(request.command.upper(), request.path, length)
        if kind == "call":
            self._calls.add(channel)
        elif kind == "write":
            self._writes.add(channel)
        else:
            self._pool.add_task(channel)

    def go_on(self, channel: HTTPChannel) -> None:
        """Have a thread send more of an answer that one has begun."""
        self._pool.go_on(channel)

    def turn(self, server: Any) -> None:
        """Answer the quick calls that came since the last turn."""
        self._loop_thread = threading.get_ident()
        for channel in self._calls.taken():
            self._call(channel)
        self._quick.turn()
        if self._writes and not self._is_committing:
            self._write(server)
        if self._calls or self._writes and not self._is_committing:
            server.trigger.pull_trigger()  # what there was no time for is the next turn's

    def _call(self, channel: HTTPChannel) -> None:
        request = channel.requests[0]
        try:
            self._quick.call(_environ(channel), partial(self._give, channel))
        except Exception as error:  # nobody foresaw it: the loop must go on, and a thread says the rest
            messages.log_exception(error, {"REQUEST_METHOD": request.command})
            if channel.requests and channel.requests[0] is request:
                self._give(channel, None)

    def _write(self, server: Any) -> None:
        group = self._quick.open_group()
        if group is None:
            for channel in self._writes.taken():
                self._pool.add_task(channel)
            return
        answers: list[Written] = []
        try:
            for channel in self._writes.taken():
                answers.append((channel, _written(group, channel)))
        finally:
            self._is_committing = True
            self._committer.submit(self._commit, server, group, answers)

    def _commit(self, server: Any, group: Group, answers: list[Written]) -> None:
        """On a thread, because a disk may take its time; the answers go out on the loop again."""
        try:
            group.commit()
        except Exception as error:
            answers = [(channel, answer and group.refusal(error, answer)) for channel, answer in answers]
        server.trigger.pull_trigger(partial(self._committed, answers))

    def _committed(self, answers: list[Written]) -> None:
        self._is_committing = False
        for channel, answer in answers:
            self._give(channel, answer)

    def _give(self, channel: HTTPChannel, answer: BytesResponse | None) -> None:
        """Send an answer, or give the request to the pool when there is none. One channel's end is not the others'."""
        self._calls.done(channel)
        try:
            self._send(channel, answer)
        except Exception as error:
            messages.log_exception(error, {})
            channel.handle_close()

    def _send(self, channel: HTTPChannel, answer: BytesResponse | None) -> None:
        try:
            data = answer and _http(*answer)
        except ValueError as error:
            messages.log_exception(error, {"REQUEST_METHOD": channel.requests[0].command})
            data = None
        if data is None:
            channel.requests[0].get_body_stream().seek(0)  # it was read here, and is to be read again
            self._pool.add_task(channel)
            return
        if answer is not None and self._observer is not None:
            self._observer.answered(channel.requests[0].environ, *answer)
        if channel.connected:
            channel.send_soon(data)
        with channel.requests_lock:
            channel.requests.pop(0).close()
            if channel.requests:
                self.add_task(channel)
            elif channel.connected and _waits_to_go_on(channel):
                channel.send_continue()
        if channel.connected and channel.writable():
            channel.handle_write()

    def shutdown(self, cancel_pending: bool = True, timeout: float = waitress_server.LINGER_SECONDS) -> None:
        self._committer.shutdown(wait=True)
        self._quick.stop()
        self._pool.shutdown(cancel_pending, timeout)


def _is_plain(channel: HTTPChannel, request: HTTPRequestParser) -> bool:
    """Whether a request is the only one of its connection, and nothing about it asks for waitress's own care."""
    return (
        request.error is None
        and request.version == "1.1"
        and len(channel.requests) == 1
        and len(request.query) <= MAX_LOOP_QUERY
        and not channel.total_outbufs_len
        and request.headers.get("CONNECTION", "keep-alive").lower() == "keep-alive"
    )


def _waits_to_go_on(channel: HTTPChannel) -> bool:
    """Whether a client that has sent a head waits for `100 Continue`, which had to wait for the answer before it."""
    request = channel.request
    return request is not None and request.expect_continue and request.headers_finished and not channel.sent_continue


def _written(group: Group, channel: HTTPChannel) -> BytesResponse | None:
    """The answer to a write, or None after an error that nobody foresaw: a thread says the rest."""
    try:
        return group.write(_environ(channel))
    except Exception as error:
        messages.log_exception(error, {"REQUEST_METHOD": channel.requests[0].command})
        return None


def _environ(channel: HTTPChannel) -> WSGIEnvironment:
    """What our own code reads of a request's environ: waitress's has twice as much, which takes twice as long."""
    request, server = channel.requests[0], channel.server
    path: str = request.path
    environ: WSGIEnvironment = {
        "REMOTE_ADDR": channel.addr[0],
        "REQUEST_METHOD": request.command.upper(),
        "SCRIPT_NAME": "",
        "PATH_INFO": "/" + path.lstrip("/") if path.startswith("//") else path,
        "QUERY_STRING": request.query,
        "SERVER_NAME": server.server_name,
        "SERVER_PORT": str(server.effective_port),
        "wsgi.url_scheme": request.url_scheme,
        "wsgi.input": request.get_body_stream(),
        "wsgi.input_terminated": True,
        ARRIVED: request.arrived,
    }
    for name, value in request.headers.items():
        environ[name if name in UNPREFIXED else f"HTTP_{name}"] = value
    request.environ = environ  # what its answer is told of
    return environ


class _Task(channels.Task):
    """A request whose environ tells when it had come."""

    def get_environment(self) -> WSGIEnvironment:
        environ: WSGIEnvironment = super().get_environment()
        environ[ARRIVED] = self.request.arrived
        return environ


def _error_task(observer: Observer | None) -> type[ErrorTask]:
    """The task that answers requests that never reach the application."""

    class Task(channels.RefusalTask):
        def execute(self) -> None:
            if not isinstance(self.request.error, Refusal):
                self.request.error = _refusal(self.request)
            environ = {"REMOTE_ADDR": str(self.channel.addr[0])}
            request_id = messages.request_id(environ, ())
            self.response_headers.append(("X-Request-Id", request_id))
            if observer is not None:
                observer.turned_away(self.request.error.code, str(getattr(self.request, "command", "-")), environ["REMOTE_ADDR"], request_id)
            super().execute()

    return Task


def _refusal(request: Any) -> "Refusal":
    """waitress's own answer to a request, which is English text, as one of ours."""
    status = request.error.code
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return Refusal(Code.HEADERS_TOO_LARGE, limit=request.adj.max_request_header_size)
    if status == HTTPStatus.BAD_REQUEST:
        return Refusal(Code.BAD_REQUEST, detail="The request is malformed.")
    return Refusal(Code.UNKNOWN_ENCODING if status == HTTPStatus.NOT_IMPLEMENTED else Code.INTERNAL)


class _Watch:
    """The loop as store.waiting needs it."""

    def __init__(self, files: dict[int, Any], trigger: Any) -> None:
        self._files, self._trigger = files, trigger

    def watch(self, file: int, ready: Callable[[], None]) -> None:
        self._files[file] = _Watched(ready)

    def unwatch(self, file: int) -> None:
        self._files.pop(file, None)

    def soon(self, function: Callable[[], None]) -> None:
        self._trigger.pull_trigger(function)


class _Watched:
    """A file in waitress's map that somebody else reads."""

    accepting = False

    def __init__(self, ready: Callable[[], None]) -> None:
        self.handle_read_event = self.handle_close = ready

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_expt_event(self) -> None:
        pass

    def handle_error(self) -> None:
        error = sys.exception()
        if error is not None:
            messages.log_exception(error, {})

    def close(self) -> None:
        pass


def _http(status: HTTPStatus, headers: Sequence[Header], body: bytes) -> bytes:
    """An answer as bytes. Raises ValueError for a header that holds a line break."""
    own = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if own.count("\n") > len(headers) or own.count("\r") > len(headers):
        raise ValueError("a header of the answer holds a line break")
    head = f"HTTP/1.1 {messages.STATUS_LINES[status]}\r\n{own}Content-Length: {len(body)}\r\nDate: {messages.http_date(int(time.time()))}\r\n\r\n"
    return head.encode("latin-1") + body


def _parser(small: Any, is_token: Callable[[str], bool]) -> type[waitress_server.Parser]:
    """A parser that takes a long body for an upload only; `small` are waitress's adjustments for the others."""

    class Parser(waitress_server.Parser):
        error: Any
        is_refused = False

        def parse_header(self, header_plus: bytes) -> None:
            super().parse_header(header_plus)
            if self.command not in ("PUT", "POST") or not self.path.startswith(UPLOADS):
                self.adj = small
            elif not is_token(self.path.removeprefix(UPLOADS)):
                self.adj = small
                self.is_refused = True

        def received(self, data: bytes) -> int:
            consumed: int = super().received(data)
            self.arrived = time.perf_counter()
            if self.is_refused:
                self.error = Refusal(Code.UNAUTHORIZED)
            elif isinstance(self.error, RequestEntityTooLarge):
                self.error = Refusal(Code.TOO_LARGE, limit=self.adj.max_request_body_size - OVERHEAD_BYTES)
            if self.error is not None:
                self.completed = True
            return consumed

    return Parser


class Refusal(Error):  # type: ignore[misc]
    """waitress's form of an answer that no application made: the SDKs need it to be JSON."""

    def __init__(self, code: Code, headers: Iterable[Header] = (), **details: object) -> None:
        super().__init__(code.name)
        self.code, self.reason = code.status.value, code.status.phrase
        self._headers = list(headers)
        self._body = messages.json_bytes({"code": code.number, "error": code.text.format(**details)})

    def to_response(self, ident: str | None = None) -> tuple[str, list[Header], bytes]:
        headers = [
            ("Content-Length", str(len(self._body))),
            ("Content-Type", "application/json;charset=utf-8"),
            ("Access-Control-Allow-Origin", "*"),
            *self._headers,
        ]
        return f"{self.code} {self.reason}", headers, self._body
