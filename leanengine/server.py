"""The server behind `python wsgi.py`: waitress, with threads of their own for what storage calls.

A hook calls back while its caller's thread waits: with one pool, as many saves as there are threads would wait for
each other for ever. waitress reads bodies before it hands a request to a thread, so slow senders hold none.
"""
import logging
import socket
from collections.abc import Collection, Sequence
from typing import Any
from wsgiref.types import WSGIApplication

from leanwsgi import channels, messages, waitress_server
from leanengine.cloud_code import PREFIXES

# Above the app's limit, so that `middleware.bound` refuses first, in JSON: waitress only stops bodies that are far too large.
BODY_OVERHEAD = messages.MAX_JSON_BYTES + messages.MULTIPART_BYTES


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
) -> Any:
    """A server on listening sockets, for `waitress_server.run`."""
    dispatcher = TwoPools()
    dispatcher.set_thread_count(threads)
    return channels.create_server(
        application,
        sockets,
        dispatcher,
        trusted_proxy,
        max_request_header_size=65536,
        max_request_body_size=max_upload_bytes + BODY_OVERHEAD,
    )
