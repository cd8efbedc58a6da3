"""Connections to public addresses only. The URLs of files are what clients once wrote: none may lead into our own network.

A name is looked at when it is connected to, at each redirect, and the address that answered again: a name may have another
one a moment later. Nothing is sent before that.
"""
import ipaddress
import socket
from collections.abc import Collection
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

NAT64 = ipaddress.ip_network("64:ff9b::/96")
UNICAST = ipaddress.ip_network("2000::/3")  # all that is given away of IPv6; beyond lie networks within, which Python calls global


class NotPublic(Exception):
    """A host has a private address; the text is its name. No OSError: the libraries would try it again."""


class PublicAdapter(HTTPAdapter):  # type: ignore[misc]  # requests has no types
    """Raises NotPublic for hosts whose address is private, local or reserved, but for those of `allowed`, in lower case."""

    def __init__(self, allowed: Collection[str], **options: Any) -> None:
        self._allowed = allowed  # first: the pools are made at once
        super().__init__(**options)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        pools = {"http": _pool(HTTPConnectionPool, self._allowed), "https": _pool(HTTPSConnectionPool, self._allowed)}
        self.poolmanager.pool_classes_by_scheme = pools


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's; one that has an IPv4 address in it is as good as that."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        found = inner or found
    return found.is_global and not found.is_multicast and (found.version == 4 or found in UNICAST)


def _pool(kind: Any, allowed: Collection[str]) -> Any:
    class Connection(kind.ConnectionCls):  # type: ignore[misc]  # chosen when it runs
        def _new_conn(self) -> socket.socket:
            host = self.host.strip("[]").lower()
            if host in allowed:
                return super()._new_conn()  # type: ignore[no-any-return]
            _check_name(host, self.port)
            connection: socket.socket = super()._new_conn()
            if not is_public(str(connection.getpeername()[0])):
                connection.close()
                raise NotPublic(host)
            return connection

    return type("Pool", (kind,), {"ConnectionCls": Connection})


def _check_name(host: str, port: int) -> None:
    """Raise NotPublic for a name that has a private address; one that has none fails when it is connected to."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    if not all(is_public(str(place[0])) for *_, place in found):
        raise NotPublic(host)
