"""What one visitor may hold of a server at a time. A visitor is an address, or the /64 of an IPv6 one.

Requests from this machine, or through a proxy that names no address, may come from many visitors: they are not counted.
"""
import threading
from collections.abc import Collection, Mapping
from typing import Any

from leanwsgi.messages import address_block, client_address

LOOPBACK = ("127.0.0.1", "::1")


class Shares:
    """Numbers per visitor, 0 unless they were raised."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}

    def add(self, visitor: str | None, number: int) -> int:
        """Change what a visitor holds; return what it holds now, 0 for one who is not counted."""
        if visitor is None:
            return 0
        with self._lock:
            held = self._held.get(visitor, 0) + number
            if held:
                self._held[visitor] = held
            else:
                self._held.pop(visitor, None)
            return held


def peer(address: Any, trusted: Collection[str]) -> str | None:
    """The visitor that a connection belongs to, by its peer's socket address; None if the peer is a proxy."""
    host = str(address[0]) if address else ""
    return None if host in LOOPBACK or host in trusted or "*" in trusted else address_block(host.partition("%")[0])


def visitor(address: Any, headers: Mapping[str, str], trusted: Collection[str]) -> str | None:
    """The visitor whom a request belongs to, by its peer and its headers, as waitress names them."""
    host = str(address[0]) if address else ""
    found = client_address({"REMOTE_ADDR": host, "HTTP_X_REAL_IP": headers.get("X_REAL_IP", "")}, trusted)
    is_unknown = found == host and (host in LOOPBACK or host in trusted)
    return None if is_unknown or found in LOOPBACK else address_block(found.partition("%")[0])
