"""Connections to storage, against servers that send any bytes."""
import gzip
import io
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import requests

from leanengine.connections import Connections, Unsent

LIMITS = (5.0, 5.0)


class Peer:
    """A server on loopback: it reads a request, sends the next of `answers`, and closes after those in `last`.

    An answer is bytes, or a list of them and of events that are waited for.
    """

    def __init__(self, answers, last=(), cut=False, tls=None):
        self.answers, self.last, self.cut, self.tls = list(answers), last, cut, tls
        self.requests, self.opened = [], 0
        self._open, self._listener = [], socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/1.1/classes/Todo"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.opened += 1
            connection.settimeout(10)
            try:
                if self.tls:
                    with connection:
                        connection = self.tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
                while self._answer(connection):
                    pass
            except OSError:
                pass

    def _answer(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return False
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while length and len(body) < length[0]:
            body += connection.recv(65536)
        self.requests.append((head, body))
        answer = self.answers.pop(0)
        for piece in answer if isinstance(answer, list) else [answer]:
            if isinstance(piece, threading.Event):
                piece.wait(10)
            else:
                connection.sendall(piece)
        if self.cut or len(self.requests) - 1 in self.last:
            connection.shutdown(socket.SHUT_RDWR)
            return False
        return True

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join()
        for connection in self._open:
            connection.close()


def answer(body=b"{}", head=b"HTTP/1.1 200 OK", length=True, more=b""):
    return head + b"\r\nContent-Type: application/json\r\n" + (b"Content-Length: %d\r\n" % len(body) if length else b"") + more + b"\r\n" + body


class ConnectionsTest(unittest.TestCase):
    @contextmanager
    def peer(self, *answers, **options):
        peer, self.connections = Peer(answers, **options), Connections(4)
        try:
            yield peer
        finally:
            self.connections.close()
            peer.close()

    def ask(self, peer, method="GET", query="", headers=None, body=None):
        return self.connections.ask(method, peer.url, query, headers or {}, body, LIMITS)

    def test_answer_is_read_however_its_end_is_told(self):
        body = b'{"a": "' + b"x" * 200_000 + b'"}'
        chunked = b"Transfer-Encoding: chunked\r\n"
        pieces = b"%x;some=thing\r\n" % 100_000 + body[:100_000] + b"\r\n%x\r\n" % (len(body) - 100_000) + body[100_000:] + b"\r\n0\r\nTrailer: x\r\n\r\n"
        rows = {
            "by its length": (answer(body), True),
            "in pieces": (answer(pieces, length=False, more=chunked), True),
            "by the connection's end": (answer(body, length=False), False),
            "compressed": (answer(gzip.compress(body), more=b"Content-Encoding: gzip\r\n"), True),
            "by HTTP/1.0": (answer(body, b"HTTP/1.0 200 OK"), False),
            "as the last one": (answer(body, more=b"Connection: close\r\n"), False),
            "after an announcement": (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(body), True),
            "byte by byte": ([bytes([byte]) for byte in answer(b'{"a": 1}')], True),
        }
        for name, (data, is_kept) in rows.items():
            last = () if is_kept else (0,)
            with self.subTest(name), self.peer(data, answer(b'{"b": 2}'), last=last) as peer:
                response = self.ask(peer)
                self.assertEqual((response.status_code, response.reason, response.encoding), (200, "OK", "utf-8"))
                self.assertEqual(response.headers["content-type"], "application/json")
                self.assertIn("a", response.json())
                self.assertEqual(self.ask(peer).json(), {"b": 2})
                self.assertEqual(peer.opened, 1 if is_kept else 2)

    def test_answer_without_a_body_keeps_the_connection(self):
        with self.peer(b"HTTP/1.1 304 Not Modified\r\n\r\n", b"HTTP/1.1 204\r\n\r\n", answer()) as peer:
            self.assertEqual([self.ask(peer).status_code for _ in range(3)], [304, 204, 200])
            self.assertEqual(peer.opened, 1)

    def test_repeated_header_is_joined(self):
        with self.peer(answer(more=b"Vary: a\r\nvary: b\r\n")) as peer:
            self.assertEqual(self.ask(peer).headers["VARY"], "a, b")

    def test_nonsense_is_a_connection_error(self):
        rows = {
            "nothing": b"",
            "no HTTP": b"garbage\r\n\r\n",
            "another protocol": b"HTTP/2 200 OK\r\n\r\n",
            "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
            "a head without end": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
            "half of a body": answer(b"{}")[:-1],
            "a piece without a length": answer(b"x\r\n{}\r\n0\r\n\r\n", length=False, more=b"Transfer-Encoding: chunked\r\n"),
            "a piece below zero": answer(b"-2\r\n{}\r\n0\r\n\r\n", length=False, more=b"Transfer-Encoding: chunked\r\n"),
            "a piece too long": answer(b"1\r\n{}\r\n0\r\n\r\n", length=False, more=b"Transfer-Encoding: chunked\r\n"),
            "pieces without an end": answer(b"2\r\n{}\r\n", length=False, more=b"Transfer-Encoding: chunked\r\n"),
            "no gzip": answer(more=b"Content-Encoding: gzip\r\n"),
        }
        for name, data in rows.items():
            with self.subTest(name), self.peer(data, cut=True) as peer, self.assertRaises(requests.ConnectionError):
                self.ask(peer, "POST", body=b"{}")

    def test_bytes_that_nobody_asked_for_are_not_the_next_answer(self):
        stray, asked = answer(b'{"stray": 1}'), threading.Event()
        for name, first, opened in (("at once", answer() + stray, 1), ("later", [answer(), asked, stray], 2)):
            with self.subTest(name), self.peer(first, answer(b'{"own": 1}')) as peer:
                self.ask(peer)
                if name == "later":
                    asked.set()
                    ((connection,),) = self.connections._idle.values()
                    connection.sock.recv(1, socket.MSG_PEEK)  # until the stray bytes are there
                self.assertEqual(self.ask(peer).json(), {"own": 1})
                self.assertEqual(peer.opened, opened)

    def test_answer_behind_an_announcement_is_not_the_next_ones(self):
        for status in (102, 103):
            announced = b"HTTP/1.1 %d Early Hints\r\nLink: </a>\r\n\r\n" % status
            with self.subTest(status), self.peer(announced + answer(b'{"own": 1}'), answer(b'{"own": 2}')) as peer:
                self.assertEqual(self.ask(peer, "POST", body=b"{}").json(), {"own": 1})
                self.assertEqual(self.ask(peer).json(), {"own": 2})
                self.assertEqual(peer.opened, 1)

    def test_connection_that_the_server_closed_is_replaced_before_a_write(self):
        with self.peer(answer(), answer(b'{"own": 1}'), last=(0,)) as peer:
            self.ask(peer)
            for idle in self.connections._idle.values():
                for connection in idle:
                    self.assertEqual(connection.sock.recv(1, socket.MSG_PEEK), b"")  # its end has come
            self.assertEqual(self.ask(peer, "POST", body=b"{}").json(), {"own": 1})
            self.assertEqual((peer.opened, len(peer.requests)), (2, 2))

    def test_read_is_sent_once_more_and_a_write_never(self):
        for method, body, times in (("GET", None, 2), ("POST", b"{}", 1), ("PUT", b"{}", 1), ("DELETE", b"null", 1)):
            with self.subTest(method), self.peer(b"", b"", b"", cut=True) as peer:
                with self.assertRaises(requests.ConnectionError):
                    self.ask(peer, method, body=body)
                self.assertEqual(len(peer.requests), times)

    def test_refusal_before_the_end_of_the_body_is_read(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def refuse():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                connection.sendall(answer(b'{"code": 413}', b"HTTP/1.1 413 Too Large"))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 20):
                    pass

        thread = threading.Thread(target=refuse)
        thread.start()
        connections = Connections(1)
        response = connections.ask("POST", f"http://127.0.0.1:{listener.getsockname()[1]}/", "", {}, bytes(1 << 23), LIMITS)
        connections.close()
        thread.join()
        self.assertEqual((response.status_code, response.json()), (413, {"code": 413}))

    def test_silence_is_a_timeout(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with self.assertRaises(requests.Timeout):
            Connections(1).ask("POST", url, "", {}, b"{}", (0.2, 0.2))

    def test_request_is_sent_whole(self):
        with self.peer(answer(), answer()) as peer:
            self.ask(peer, query="where=%7B%7D", headers={"X-LC-Id": "a", "X-LC-Session": None})
            self.ask(peer, "PUT", headers={"Content-Type": "application/json"}, body="中".encode())
            host = f"Host: 127.0.0.1:{peer.port}".encode()
            (first, _), (second, body) = peer.requests
            self.assertEqual(
                first.split(b"\r\n"), [b"GET /1.1/classes/Todo?where=%7B%7D HTTP/1.1", host, b"X-LC-Id: a", b"Accept-Encoding: identity"]
            )
            lines = [b"Content-Length: 3", b"Content-Type: application/json", b"Accept-Encoding: identity"]
            self.assertEqual(second.split(b"\r\n"), [b"PUT /1.1/classes/Todo HTTP/1.1", host, *lines])
            self.assertEqual(body, "中".encode())

    def test_header_with_a_line_break_or_beyond_ascii_is_refused(self):
        for value in ("a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX", "\n", "中"):
            with self.subTest(value), self.peer(answer()) as peer, self.assertRaises(requests.exceptions.InvalidHeader):
                self.ask(peer, headers={"X-LC-Session": value})
            self.assertEqual(peer.requests, [])

    def test_url_that_would_need_quoting_is_refused(self):
        for url in ("http://x/a b", "http://x/?a", "ftp://x/", "http://user@x/", "http://x/a\r\nb: c", "http://x"):
            with self.subTest(url), self.assertRaises(requests.exceptions.InvalidURL):
                Connections(1).ask("GET", url, "", {}, None, LIMITS)

    def test_no_more_connections_wait_than_the_size(self):
        with self.peer(answer(), answer()) as peer:
            few = Connections(1)
            self.addCleanup(few.close)
            first, second = (few._connection(("http", "127.0.0.1", peer.port), 5) for _ in range(2))
            few._put(("http", "127.0.0.1", peer.port), first)
            few._put(("http", "127.0.0.1", peer.port), second)
            self.assertEqual((first.sock is None, second.sock is None), (False, True))

    def test_first_request_to_a_server_while_all_are_closed_disturbs_nobody(self):
        with self.peer(answer()) as peer:
            closing = Connections(2)
            closing.ask("GET", peer.url, "", {}, None, LIMITS)
            ((connection,),) = closing._idle.values()

            def close(close=connection.close, closing=closing):
                close()
                asking = threading.Thread(target=self.assertRaises, args=(Unsent, closing._connection, ("http", "127.0.0.1", 9), 1))
                asking.start()
                asking.join()

            connection.close = close
            closing.close()
            self.assertFalse(any(closing._idle.values()))

    def certified(self):
        """A server's side of TLS for `localhost`, and the certificate's file."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        certificate, key = folder / "cert.pem", folder / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
        command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        return tls, certificate

    def test_bytes_that_were_decrypted_with_an_answer_are_not_the_next_one(self):
        """http.client reads 8192 bytes, and TLS has read all that was sent in one piece."""
        tls, certificate = self.certified()
        first = answer().ljust(io.DEFAULT_BUFFER_SIZE, b"x") + answer(b'{"stray": 1}')
        with mock.patch.object(requests.certs, "where", lambda: str(certificate)), self.peer(first, answer(b'{"own": 1}'), tls=tls) as peer:
            url = f"https://localhost:{peer.port}/"
            found = [self.connections.ask("GET", url, "", {}, None, LIMITS).json() for _ in range(2)]
        self.assertEqual((found, peer.opened), ([{}, {"own": 1}], 2))

    def test_certificate_is_checked_for_its_name(self):
        tls, certificate = self.certified()
        for trusted, host, is_right in ((None, "localhost", False), (certificate, "localhost", True), (certificate, "127.0.0.1", False)):
            where = mock.patch.object(requests.certs, "where", lambda: str(trusted)) if trusted else nullcontext()  # noqa: B023 it runs at once
            with self.subTest(trusted=bool(trusted), host=host), self.peer(answer(), answer(), tls=tls) as peer, where:
                url = f"https://{host}:{peer.port}/"
                if is_right:
                    self.assertEqual([self.connections.ask("GET", url, "", {}, None, LIMITS).json() for _ in range(2)], [{}, {}])
                    self.assertEqual(peer.opened, 1)
                else:
                    with self.assertRaises(requests.ConnectionError):
                        self.connections.ask("GET", url, "", {}, None, LIMITS)

    def test_option_of_the_sdk_keeps_dead_peers_away(self):
        with self.peer(answer()) as peer:
            self.ask(peer)
            ((connection,),) = self.connections._idle.values()
            self.assertEqual(connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
            self.assertEqual(connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)


if __name__ == "__main__":
    unittest.main()
