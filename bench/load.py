"""A load of HTTP requests over keep-alive connections, from one thread: what it costs is the same for every server."""
import selectors
import socket
import statistics
import time
from dataclasses import dataclass


@dataclass
class Result:
    rate: float  # answers a second
    p50: float  # milliseconds
    p99: float
    failures: int  # answers outside 2xx, and connections lost


class _Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sent = 0.0


def load(port, make, connections=16, seconds=3.0, warm_up=0.5):
    """Send `make(n)`, the bytes of request number n, over each connection as soon as the last one is answered."""
    selector = selectors.DefaultSelector()
    numbers = iter(range(1 << 60))
    times, failures = [], 0
    start = time.perf_counter() + warm_up
    end = start + seconds

    def send(connection):
        connection.sent = time.perf_counter()
        connection.socket.sendall(make(next(numbers)))

    def renewed(connection):
        selector.unregister(connection.socket)
        connection.socket.close()
        opened[opened.index(connection)] = new = _Connection(port)
        selector.register(new.socket, selectors.EVENT_READ, new)
        return new

    opened = [_Connection(port) for _ in range(connections)]
    for connection in opened:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        send(connection)
    now = time.perf_counter()
    while now < end:
        for key, _ in selector.select(1):
            connection = key.data
            try:
                data = connection.socket.recv(1 << 18)
            except ConnectionError:
                data = b""
            if not data:
                failures += 1
                send(renewed(connection))
                continue
            connection.buffer += data
            is_last = b"\r\nconnection: close" in connection.buffer[:2000].lower()
            status = _answered(connection)
            if status is None:
                continue
            now = time.perf_counter()
            if connection.sent >= start:
                times.append(now - connection.sent)
                failures += not 200 <= status < 300
            send(renewed(connection) if is_last else connection)
        now = time.perf_counter()
    for connection in opened:
        connection.socket.close()
    if len(times) < 2:
        return Result(len(times) / seconds, 0, 0, failures)
    cuts = statistics.quantiles(times, n=100)
    return Result(len(times) / seconds, cuts[49] * 1000, cuts[98] * 1000, failures)


def _answered(connection):
    """The status of the answer in the buffer, which is then emptied; None while a part of it is missing."""
    head, found, body = connection.buffer.partition(b"\r\n\r\n")
    if not found:
        return None
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at >= 0:
        length = int(lower[at + 15 : lower.find(b"\r\n", at) if lower.find(b"\r\n", at) > 0 else None])
        if len(body) < length:
            return None
    elif b"transfer-encoding: chunked" in lower and not body.endswith(b"0\r\n\r\n"):
        return None
    connection.buffer = b""
    return int(head[9:12])


def request(method, path, headers=None, body=b""):
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
