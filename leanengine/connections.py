"""Connections to storage that are kept open, and plain requests over them.

requests and urllib3 take ten times as much processor time for a request. Callers see no difference: they get a
`requests.Response`, or an error of requests.
"""
import re
import select
import socket
import ssl
import threading
import zlib
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

import requests
from requests.structures import CaseInsensitiveDict
from requests_toolbelt.adapters.socket_options import TCPKeepAliveAdapter

from leanwsgi.shares import LOOPBACK

URL = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?(/[A-Za-z0-9._/-]*)")  # nothing in it needs quoting
STATUS = re.compile(r"HTTP/1\.([01]) ([1-5][0-9]{2})(?: (.*))?")
SIZE = re.compile("[0-9A-Fa-f]{1,15}")
MAX_HEAD = 1 << 16  # bytes of an answer before its body, and of a line between two pieces of the body
RECEIVED_BYTES = 1 << 16
Server = tuple[str, str, int]  # scheme, host, port


class Unsent(Exception):
    """There is no connection, so the server has seen nothing of the request."""


class Connections:
    """Connections to any server; of each, at most `size` wait to be used again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: defaultdict[Server, list[socket.socket]] = defaultdict(list)
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
        server = scheme, host, int(port or (443 if scheme == "https" else 80))
        lines = [f"{method} {path}{query and '?' + query} HTTP/1.1", f"Host: {host}{port and ':' + port or ''}"]
        lines.extend(f"{name}: {value}" for name, value in headers.items() if value is not None)
        # On this machine compressing costs more than sending.
        lines.append(f"Accept-Encoding: {'identity' if host in LOOPBACK else 'gzip'}")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or not head.isascii():
            raise requests.exceptions.InvalidHeader("a header has a line break, or more than ASCII")
        connection = self._connection(server, limits[0])
        is_reusable = False
        try:
            connection.settimeout(limits[1])
            with suppress(BrokenPipeError):  # whoever refuses a body may have answered before its end
                connection.sendall(head.encode() + b"\r\n\r\n" + (body or b""))
            response, is_reusable = _answer(connection)
            response.url = f"{url}{query and '?' + query}"
            return response
        except TimeoutError as error:
            raise requests.ReadTimeout("no answer in time") from error
        except (OSError, ValueError) as error:
            raise requests.ConnectionError(f"no answer: {error}") from error
        finally:
            self._put(server, connection) if is_reusable else connection.close()

    def _connection(self, server: Server, seconds: float) -> socket.socket:
        """One that waits and is still open, or a new one; raise Unsent."""
        idle = self._idle[server]
        while idle:
            try:
                connection = idle.pop()
            except IndexError:  # another thread took it
                break
            if not _has_ended(connection):
                return connection
            connection.close()
        scheme, host, port = server
        try:
            connection = socket.create_connection((host, port), seconds)
            try:
                for option in self._options:
                    connection.setsockopt(*option)
                return self._context().wrap_socket(connection, server_hostname=host) if scheme == "https" else connection
            except BaseException:
                connection.close()
                raise
        except (OSError, OverflowError, UnicodeError) as error:
            raise Unsent(str(error)) from error

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context(cafile=requests.certs.where())
        return self._tls

    def _put(self, server: Server, connection: socket.socket) -> None:
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


def _has_ended(connection: socket.socket) -> bool:
    """Whether the server has closed a waiting connection, or said something that nobody asked for."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


class _Reader:
    """What one answer is read from."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.data = b""  # that came, and is not read yet

    def until(self, mark: bytes) -> bytes:
        """What comes before `mark`, which is left out; ValueError if it is too long."""
        while mark not in self.data:
            if len(self.data) > MAX_HEAD or not self._more():
                raise ValueError("the answer is cut off, or its head is too long")
        found, _, self.data = self.data.partition(mark)
        return found

    def take(self, length: int) -> bytes:
        """So many bytes; ValueError if they end before."""
        pieces, missing = [self.data[:length]], length - len(self.data)
        self.data = self.data[length:]
        while missing > 0:
            piece = self._connection.recv(min(missing, RECEIVED_BYTES))
            if not piece:
                raise ValueError("the answer is cut off")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def rest(self) -> bytes:
        """All until the server closes."""
        pieces, self.data = [self.data], b""
        while piece := self._connection.recv(RECEIVED_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

    def _more(self) -> bool:
        piece = self._connection.recv(RECEIVED_BYTES)
        self.data += piece
        return bool(piece)


def _answer(connection: socket.socket) -> tuple[requests.Response, bool]:
    """Read an answer; also whether the connection can be used again. Raises ValueError for what is no answer."""
    reader = _Reader(connection)
    while True:
        head, *lines = reader.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        found = STATUS.fullmatch(head)
        if found is None:
            raise ValueError("the answer is no HTTP")
        minor, status, reason = found.groups()
        if not status.startswith("1"):  # those announce the answer proper
            break
    response = requests.Response()
    response.status_code, response.reason = int(status), reason or ""
    response.headers = CaseInsensitiveDict()
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("a header is malformed")
        given, value = response.headers.get(name), value.strip()
        response.headers[name] = value if given is None else f"{given}, {value}"
    data, is_whole = _body(reader, response)
    response._content, response._content_consumed = data, True
    response.encoding = requests.utils.get_encoding_from_headers(response.headers)
    is_kept = minor == "1" and "close" not in response.headers.get("Connection", "").lower()
    return response, is_kept and is_whole and not reader.data


def _body(reader: _Reader, response: requests.Response) -> tuple[bytes, bool]:
    """The body, decompressed, and whether its end is known other than by that of the connection."""
    coding, length = response.headers.get("Transfer-Encoding", "").lower(), response.headers.get("Content-Length")
    is_whole = True
    if response.status_code in (204, 304):
        data = b""
    elif coding == "chunked":
        data = b"".join(_pieces(reader))
    elif coding:
        raise ValueError("the body is encoded in an unknown way")
    elif length is not None:
        if not (length.isascii() and length.isdigit() and len(length) <= 15):
            raise ValueError("the length is no number")
        data = reader.take(int(length))
    else:
        data, is_whole = reader.rest(), False
    if data and response.headers.get("Content-Encoding", "").lower() in ("gzip", "x-gzip"):
        try:
            data = zlib.decompress(data, zlib.MAX_WBITS | 16)
        except zlib.error as error:
            raise ValueError("the body is not gzip") from error
    return data, is_whole


def _pieces(reader: _Reader) -> list[bytes]:
    """The pieces of a chunked body, without its trailers."""
    pieces = []
    while True:
        size = reader.until(b"\r\n").partition(b";")[0].strip().decode("latin-1")
        if not SIZE.fullmatch(size):
            raise ValueError("the length of a piece is no number")
        if int(size, 16) == 0:
            break
        pieces.append(reader.take(int(size, 16)))
        if reader.take(2) != b"\r\n":
            raise ValueError("a piece is longer than announced")
    while reader.until(b"\r\n"):
        pass
    return pieces
