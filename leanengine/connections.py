"""Connections to storage that are kept open, and plain requests over them, by the standard library.

requests and urllib3 take seven times as much processor time for a request. Callers see no difference: they get a
`requests.Response`, or an error of requests.
"""
import re
import select
import ssl
import threading
import zlib
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection

import requests
from requests.structures import CaseInsensitiveDict
from requests_toolbelt.adapters.socket_options import TCPKeepAliveAdapter

from leanwsgi.answers import Answer
from leanwsgi.shares import LOOPBACK

URL = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?(/[A-Za-z0-9._/-]*)")  # nothing in it needs quoting
MAX_ANSWER_BYTES = 64 << 20
Server = tuple[str, str, int | None]  # scheme, host, port


class Unsent(Exception):
    """There is no connection, so the server has seen nothing of the request."""


class Connections:
    """Connections to any server; of each, at most `size` wait to be used again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: defaultdict[Server, list[HTTPConnection]] = defaultdict(list)
        self._is_closed = False
        self._tls: ssl.SSLContext | None = None
        self._options = TCPKeepAliveAdapter().socket_options
        self._lock = threading.Lock()

    def ask(
        self, method: str, url: str, query: str, headers: Mapping[str, str], body: bytes | None, limits: tuple[float, float]
    ) -> requests.Response:
        """The answer to a request; `url` must match URL, `limits` are the seconds to connect and to wait for each piece.

        It is tried once more without a connection, and a GET also without an answer: other methods could act twice.
        """
        try:
            return self._ask(method, url, query, headers, body, limits)
        except Unsent:
            pass
        except requests.RequestException:
            if method != "GET":
                raise
        try:
            return self._ask(method, url, query, headers, body, limits)
        except Unsent as error:
            raise requests.ConnectionError(f"no connection: {error}") from error

    def _ask(
        self, method: str, url: str, query: str, headers: Mapping[str, str], body: bytes | None, limits: tuple[float, float]
    ) -> requests.Response:
        found = URL.fullmatch(url)
        if found is None:
            raise requests.exceptions.InvalidURL(url)
        scheme, host, port, path = found.groups()
        server = scheme, host, int(port) if port else None
        given = {name: value for name, value in headers.items() if value is not None}
        if any("\n" in value or "\r" in value or not value.isascii() for value in given.values()):
            raise requests.exceptions.InvalidHeader("a header has a line break, or more than ASCII")
        # On this machine compressing costs more than sending.
        given["Accept-Encoding"] = "identity" if host in LOOPBACK else "gzip"
        connection = self._connection(server, limits[0])
        response, is_sent = None, False
        try:
            connection.sock.settimeout(limits[1])
            with suppress(BrokenPipeError):  # whoever refuses a body may have answered before its end
                connection.request(method, f"{path}{query and '?' + query}", body, given)
                is_sent = True
            with connection.getresponse() as answer:
                response = _read(answer)
            response.url = f"{url}{query and '?' + query}"
            return response
        except TimeoutError as error:
            raise requests.ReadTimeout("no answer in time") from error
        except (OSError, ValueError, HTTPException, zlib.error) as error:
            raise requests.ConnectionError(f"no answer: {error}") from error
        finally:
            if response is None or not is_sent or connection.sock is None:  # http.client closed it if the server will
                connection.close()
            else:
                self._put(server, connection)

    def _connection(self, server: Server, seconds: float) -> HTTPConnection:
        """One that waits and is still open, or a new one; raise Unsent."""
        idle = self._idle.get(server)  # none is made here, without the lock: `close` may be counting them
        while idle:
            try:
                connection = idle.pop()
            except IndexError:  # another thread took it
                break
            if not _has_ended(connection):
                return connection
            connection.close()
        scheme, host, port = server
        if scheme == "https":
            connection = HTTPSConnection(host, port, timeout=seconds, context=self._context())
        else:
            connection = HTTPConnection(host, port, timeout=seconds)
        connection.response_class = Answer
        try:
            connection.connect()
            for option in self._options:
                connection.sock.setsockopt(*option)
        except (OSError, OverflowError, UnicodeError) as error:
            connection.close()
            raise Unsent(str(error)) from error
        return connection

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context(cafile=requests.certs.where())
        return self._tls

    def _put(self, server: Server, connection: HTTPConnection) -> None:
        """Keep a connection, unless there are enough."""
        with self._lock:
            if not self._is_closed and len(self._idle[server]) < self._size:
                self._idle[server].append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what waits; whoever is being answered closes its own."""
        with self._lock:
            self._is_closed = True
            for idle in self._idle.values():
                while idle:
                    idle.pop().close()


def _has_ended(connection: HTTPConnection) -> bool:
    """Whether the server has closed a waiting connection, or said something that nobody asked for."""
    if isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending():  # decrypted, so the system has it no more
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _read(answer: HTTPResponse) -> requests.Response:
    """An answer with its body, decompressed."""
    response = requests.Response()
    response.status_code, response.reason = answer.status, answer.reason
    response.headers = CaseInsensitiveDict()
    for name, value in answer.getheaders():
        known = response.headers.get(name)
        response.headers[name] = value if known is None else f"{known}, {value}"
    is_known = answer.length is not None and answer.length <= MAX_ANSWER_BYTES  # then its end is noticed
    data = answer.read() if is_known else answer.read(MAX_ANSWER_BYTES + 1)
    if data and response.headers.get("Content-Encoding", "").lower() in ("gzip", "x-gzip"):
        data = _unpacked(data)
    if len(data) > MAX_ANSWER_BYTES:
        raise HTTPException("the answer is too long")
    response._content, response._content_consumed = data, True
    response.encoding = requests.utils.get_encoding_from_headers(response.headers)
    return response


def _unpacked(data: bytes) -> bytes:
    """What was packed by gzip, of what is too long the first part."""
    packer = zlib.decompressobj(zlib.MAX_WBITS | 16)
    found = packer.decompress(data, MAX_ANSWER_BYTES + 1)
    if not packer.eof and len(found) <= MAX_ANSWER_BYTES:
        raise HTTPException("the answer ends too early")
    return found
