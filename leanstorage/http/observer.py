"""What the operator sees of requests: counts by route, status and time, and the log. See request_log and operator/.

An Observer exists only if an option asks for it; without one, nothing here runs.
"""
import re
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from wsgiref.types import WSGIEnvironment

from leanstorage.http.request_log import Line, RequestLog, shape
from leanstorage.rules.call import Call
from leanwsgi.messages import Header

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0)  # seconds
METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
# The routes of a class that has its own: what stands first in their templates.
CLASSES = {"users": "_User", "roles": "_Role", "files": "_File", "installations": "_Installation", "statuses": "_Status"}
# What environ holds of a request, beside WSGI's own.
ARRIVED, ROUTE, CALL, ADDRESS = "leanstorage.arrived", "leanstorage.route", "leanstorage.call", "leanstorage.address"
REQUEST_ID = "app.request_id"  # by which messages.log_exception names a request


class Times:
    """How many took how long: a count for each of BUCKETS and one for the rest, and their sum in seconds."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


class Observer:
    """Counts what was answered, from any thread, and gives lines to `log` if there is one."""

    def __init__(self, log: RequestLog | None = None) -> None:
        self.lock = threading.Lock()
        self.requests: dict[tuple[str, str, int], Times] = {}  # by method, route, status
        self.engine: dict[tuple[str, str], Times] = {}  # by hook or "function", and "ok" or what went wrong
        self.bytes_sent = 0
        self.refused: dict[int, int] = {}  # by status: requests that reached no route
        self._log = log

    def answered(self, environ: WSGIEnvironment, status: int, headers: Sequence[Header], body: Any) -> None:
        """A request has its answer; environ is as `respond` left it."""
        now = time.perf_counter()
        seconds = now - environ.get(ARRIVED, now)
        route, parameters = environ.get(ROUTE) or ("-", {})
        method = environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in METHODS else "OTHER"
        size = 0 if method == "HEAD" else len(body) if isinstance(body, bytes) else _length(headers)
        with self.lock:
            times = self.requests.get((method, route, status))
            if times is None:
                times = self.requests[method, route, status] = Times()
            times.add(seconds)
            self.bytes_sent += size
        if self._log is not None:
            self._log.add(self._line(environ, method, route, parameters, status, seconds * 1000, size))

    def turned_away(self, status: int, method: str, address: str, request_id: str) -> None:
        """A request that was refused before it reached the application: malformed, too large, or one too many."""
        with self.lock:
            self.refused[status] = self.refused.get(status, 0) + 1
        if self._log is not None:
            method = method if method in METHODS else "-"
            self._log.add(Line(time.time(), method, "-", "-", status, 0.0, 0, address, "-", request_id))

    def engine_called(self, name: str, outcome: str, seconds: float) -> None:
        """The app's engine was called: a hook by its name or "function", and "ok", "failed", "timeout" or "down"."""
        with self.lock:
            self.engine.setdefault((name, outcome), Times()).add(seconds)

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def _line(
        self, environ: WSGIEnvironment, method: str, route: str, parameters: dict[str, str], status: int, ms: float, size: int
    ) -> Line:
        log, call = self._log, environ.get(CALL)
        is_slow = log is not None and log.slow_ms is not None and ms >= log.slow_ms
        user_id = call.caller.user_id if isinstance(call, Call) else None
        return Line(
            time.time(),
            method,
            route,
            _class_name(route, parameters),
            status,
            ms,
            size,
            environ.get(ADDRESS, "-"),
            user_id or "-",
            environ.get(REQUEST_ID, "-"),
            shape(call, _class_name(route, parameters)) if is_slow else None,
        )


@lru_cache(1000)
def _checked(name: str) -> str:
    return name if NAME.fullmatch(name) else "-"


def _class_name(route: str, parameters: dict[str, str]) -> str:
    name = parameters.get("class_name") or CLASSES.get(route.split("/", 2)[1] if "/" in route else "", "")
    return _checked(name) if len(name) <= 100 else "-"  # a path may be long, and is not kept


def _length(headers: Sequence[Header]) -> int:
    for name, value in headers:
        if name == "Content-Length":
            return int(value)
    return 0
