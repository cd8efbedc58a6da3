"""Answers of the servers that we ask: announcements in front of them are passed over, and none keeps us waiting for ever.

http.client passes over `100 Continue` alone, and takes `103 Early Hints` for the answer: the real one would be taken for that
of the next request on the same connection. And it waits as long for each piece as for the first one.
"""
import io
import socket
import time
from functools import cache
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Any

MAX_ANNOUNCEMENTS = 10
MAX_LINE, MAX_LINES = 1 << 16, 100  # of the headers of one, as http.client has them
LEAST_RATE = 1 << 16  # bytes a second


class Answer(HTTPResponse):
    """http.client's, without the announcements before it.

    All of it has to come within the socket's timeout, and a second more for each `rate` bytes: else it is a TimeoutError.
    What the reader does meanwhile does not count.
    """

    rate = LEAST_RATE

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        seconds = sock.gettimeout()
        if seconds is not None:
            self.fp = io.BufferedReader(Bounded(self.fp.detach(), sock, seconds, self.rate))

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_ANNOUNCEMENTS + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status >= 200:
                return version, status, reason
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise HTTPException("another protocol, which nobody asked for")
            self._pass_over_headers()
        raise HTTPException("announcements without end")

    def _pass_over_headers(self) -> None:
        for _ in range(MAX_LINES + 1):
            line = self.fp.readline(MAX_LINE + 1)
            if len(line) > MAX_LINE:
                break
            if line in (b"\r\n", b"\n", b""):
                return
        raise HTTPException("an announcement that is too long")


class Bounded(io.RawIOBase):
    """What a socket receives, for which it is not waited too long in all."""

    def __init__(self, raw: Any, sock: socket.socket, seconds: float, rate: int) -> None:
        self._raw, self._sock, self._seconds, self._rate = raw, sock, seconds, rate
        self._left = seconds

    def restart(self) -> None:
        """Another answer begins."""
        self._left = self._seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._left <= 0:
            raise TimeoutError("the answer comes too slowly")
        begun, is_short = time.monotonic(), self._left < self._seconds
        if is_short:
            self._sock.settimeout(self._left)
        number: int | None = self._raw.readinto(buffer)
        if is_short:
            self._sock.settimeout(self._seconds)  # the connection may be used again
        self._left += (number or 0) / self._rate - (time.monotonic() - begun)
        return number

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


def bound_answers(adapter: Any, rate: int = LEAST_RATE) -> None:
    """Have an adapter of requests get such answers."""
    pools = adapter.poolmanager
    pools.pool_classes_by_scheme = {scheme: _pool(kind, rate) for scheme, kind in pools.pool_classes_by_scheme.items()}


@cache
def _pool(kind: Any, rate: int) -> Any:
    answer = type("Answer", (Answer,), {"rate": rate})
    connection = type("Connection", (kind.ConnectionCls,), {"response_class": answer})
    return type("Pool", (kind,), {"ConnectionCls": connection})


def bounded_session() -> Any:
    """A session of requests that gets such answers."""
    import requests  # only here: not everybody who asks does so with it

    session = requests.Session()
    for adapter in session.adapters.values():
        bound_answers(adapter)
    return session
