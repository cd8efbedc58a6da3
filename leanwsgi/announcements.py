"""Announcements (1xx) in front of an answer: http.client passes over 100 alone, and takes `103 Early Hints` for the answer.

The real one would then be taken for that of the next request on the same connection.
"""
from functools import cache
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Any

MAX_ANNOUNCEMENTS = 10
MAX_LINE, MAX_LINES = 1 << 16, 100  # of the headers of one, as http.client has them


class Answer(HTTPResponse):
    """http.client's, without the announcements before it."""

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


def pass_over(adapter: Any) -> None:
    """Have an adapter of requests pass over announcements."""
    pools = adapter.poolmanager
    pools.pool_classes_by_scheme = {scheme: _pool(kind) for scheme, kind in pools.pool_classes_by_scheme.items()}


@cache
def _pool(kind: Any) -> Any:
    connection = type("Connection", (kind.ConnectionCls,), {"response_class": Answer})
    return type("Pool", (kind,), {"ConnectionCls": connection})
