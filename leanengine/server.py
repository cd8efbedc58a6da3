"""The server behind `python wsgi.py`: waitress, with threads of their own for what storage calls.

A hook calls back while its caller's thread waits: with one pool, as many saves as there are threads would wait for
each other for ever. waitress reads bodies before it hands a request to a thread, so slow senders hold none.
"""
import logging
import socket
from collections.abc import Collection, Iterable, Sequence
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from leanwsgi import channels, messages, waitress_server
from leanengine import middleware
from leanengine.cloud_code import PREFIXES

# Above the app's limit, so that `middleware.bound` refuses first, in JSON: waitress only stops bodies that are far too large.
BODY_OVERHEAD = messages.MAX_JSON_BYTES + messages.MULTIPART_BYTES
MAX_HEADER_BYTES = 65536
TOLD = ("ACCEPT", "X_FORWARDED_PROTO", "X_REQUEST_ID")  # headers that an answer to a refused request depends on


class TwoPools:
    """A waitress task dispatcher: visitors in one pool, calls of the engine in another."""

    def __init__(self) -> None:
        self._visitors, self._engine = waitress_server.Pool(is_shared=True), waitress_server.Pool()

    def set_thread_count(self, count: int) -> None:
        self._visitors.set_thread_count(count)
        self._engine.set_thread_count(count)

    def add_task(self, task: Any) -> None:
        """Give a connection to the pool of its next request, or close it: an exception would keep it open for ever."""
        try:
            (self._engine if _is_engine(task.requests[0]) else self._visitors).add_task(task)
        except Exception:
            logging.getLogger("waitress").exception("a request cannot be given to a thread")
            task.cancel()
            task.server.pull_trigger()

    go_on = add_task

    def shutdown(self, cancel_pending: bool = True, timeout: float = waitress_server.LINGER_SECONDS) -> None:
        self._visitors.shutdown(cancel_pending, timeout)
        self._engine.shutdown(cancel_pending, timeout)


def _is_engine(request: Any) -> bool:
    if request.error:
        return False  # it has no path; a thread answers 400 and closes the connection
    return ("/" + str(request.path).lstrip("/")).startswith(PREFIXES)


def create_server(
    application: WSGIApplication,
    sockets: Sequence[socket.socket],
    threads: int,
    max_upload_bytes: int,
    trusted_proxy: Collection[str] = (),
    is_production: bool = False,
    explain: messages.Explain = messages.explain,
) -> Any:
    """A server on listening sockets, for `waitress_server.run`.

    What never reaches the application is answered as it would: see `middleware.bound` for `is_production` and `explain`.
    """
    dispatcher = TwoPools()
    dispatcher.set_thread_count(threads)
    server = channels.create_server(
        application,
        sockets,
        dispatcher,
        trusted_proxy,
        max_request_header_size=MAX_HEADER_BYTES,
        max_request_body_size=max_upload_bytes + BODY_OVERHEAD,
    )
    refusing = middleware.bound(_refuse, trusted_proxy, (), max_upload_bytes, is_production, explain)
    parts = {"error_task_class": _error_task(refusing, middleware.max_body_bytes(max_upload_bytes))}
    server.channel_class = type("Channel", (channels.Channel,), parts)
    return server


def _refuse(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise environ["app.refusal"]


def _error_task(refusing: WSGIApplication, max_bytes: int) -> type[channels.RefusalTask]:
    """The task that answers requests that never reach the application, with what `refusing` makes of it: waitress has
    English text."""

    class Task(channels.RefusalTask):
        def execute(self) -> None:
            request = self.request
            environ: WSGIEnvironment = {
                "REQUEST_METHOD": getattr(request, "command", "GET").upper(),
                "PATH_INFO": getattr(request, "path", ""),
                "REMOTE_ADDR": str(self.channel.addr[0]),
                "wsgi.url_scheme": "http",
                "app.refusal": _refusal(request.error.code, max_bytes),
            }
            environ |= {f"HTTP_{name}": request.headers[name] for name in TOLD if name in request.headers}
            started: list[tuple[str, list[messages.Header]]] = []

            def start(status: str, headers: list[messages.Header], exc_info: Any = None) -> Any:
                started.append((status, headers))

            body = b"".join(refusing(environ, start))
            request.error = _Answer(request.error.code, *started[-1], body)
            super().execute()

    return Task


def _refusal(status: int, max_bytes: int) -> messages.HTTPError:
    """waitress's answer of a status as an error of ours."""
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return messages.too_large(max_bytes)
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return messages.HTTPError(HTTPStatus(status), f"the headers are larger than {MAX_HEADER_BYTES} bytes")
    if status == HTTPStatus.NOT_IMPLEMENTED:
        return messages.HTTPError(HTTPStatus(status), "this Transfer-Encoding is not known here")
    if status == HTTPStatus.BAD_REQUEST:
        return messages.HTTPError(HTTPStatus(status), "the request is malformed")
    return messages.HTTPError(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.", 1)  # which waitress has logged


class _Answer(waitress_server.Error):  # type: ignore[misc]  # waitress has no types
    """waitress's form of an answer that is there already."""

    def __init__(self, code: int, status: str, headers: list[messages.Header], body: bytes) -> None:
        super().__init__("")
        self.code, self._answer = code, (status, headers, body)

    def to_response(self, ident: str | None = None) -> tuple[str, list[messages.Header], bytes]:
        return self._answer
