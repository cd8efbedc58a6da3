"""E-mails sent to a mail server over SMTP, encrypted unless it runs on this machine. Certificates are checked."""
import io
import re
import smtplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formataddr, formatdate, make_msgid, parseaddr
from urllib.parse import unquote, urlsplit

from leanstorage.rules.call import LOOPBACK_HOSTS
from leanwsgi import setting_values
from leanwsgi.answers import Bounded

SECONDS = 30  # of each exchange
NO_MORE_TIME = 1 << 40  # bytes a second that would have to come for more of it
ADDRESS = re.compile(r"[^@\s<>,;:\"]+@[A-Za-z0-9._-]+", re.ASCII)
PORTS = {"smtp": 587, "smtps": 465}


class Smtp:
    """A mail server: `smtps://` speaks TLS at once, `smtp://` by STARTTLS, and in the clear on this machine only.

    `unreachable` and `undeliverable` are the errors to raise, for no message to be sent, and for this one never.
    """

    def __init__(
        self,
        url: str,
        sender: str,
        user: str,
        password: str,
        unreachable: type[Exception],
        undeliverable: type[Exception],
    ) -> None:
        try:
            parts = urlsplit(url)
            if parts.scheme not in PORTS or parts.path.strip("/") or parts.query or parts.fragment or parts.port == 0:
                raise ValueError
            self._is_tls, self._host = parts.scheme == "smtps", setting_values.address_or_name(parts.hostname or "")
        except ValueError:  # also urlsplit's, whose text may hold the password
            raise ValueError("--smtp must be smtps://HOST[:PORT] or smtp://HOST[:PORT]") from None
        self._port = parts.port or (25 if not self._is_tls and self._host in LOOPBACK_HOSTS else PORTS[parts.scheme])
        self._user = user or unquote(parts.username or "")
        self._password = password or unquote(parts.password or "")
        name, self._sender = parseaddr(sender)
        if not ADDRESS.fullmatch(self._sender) or not sender.isprintable():
            raise ValueError("--smtp needs --mail-from ADDRESS, whom e-mails are from")
        self._from = formataddr((name, self._sender))
        self._unreachable, self._undeliverable = unreachable, undeliverable

    @contextmanager
    def connected(self) -> Iterator[Callable[[bytes, str], bool]]:
        """For a `with`: a function that sends (e-mail, address); it connects at the first one, and again when need be."""
        connections: list[smtplib.SMTP] = []

        def deliver(data: bytes, to: str) -> bool:
            if not connections:
                connections.append(self._connect())
            try:
                return self._send(connections[0], data, to)
            except (smtplib.SMTPException, OSError):  # the connection is spoilt; the next message gets another
                _quit(connections.pop())
                return False

        try:
            yield deliver
        finally:
            for connection in connections:
                _quit(connection)

    def _connect(self) -> smtplib.SMTP:
        try:
            context = ssl.create_default_context()
            if self._is_tls:
                connection: smtplib.SMTP = _TlsConnection(self._host, self._port, timeout=SECONDS, context=context)
            else:
                connection = _Connection(self._host, self._port, timeout=SECONDS)
            try:
                if not self._is_tls and self._host not in LOOPBACK_HOSTS:
                    connection.starttls(context=context)
                if self._user:
                    connection.login(self._user, self._password)
            except BaseException:
                _quit(connection)
                raise
        except (smtplib.SMTPException, OSError, UnicodeError) as error:  # its text may repeat what was sent
            raise self._unreachable(f"{self._host}:{self._port}: {type(error).__name__}") from None
        return connection

    def _send(self, connection: smtplib.SMTP, data: bytes, to: str) -> bool:
        domain = self._sender.rpartition("@")[2]
        head = f"From: {self._from}\nDate: {formatdate()}\nMessage-ID: {make_msgid(domain=domain)}\n".encode()
        options = () if to.isascii() else ("SMTPUTF8", "BODY=8BITMIME")
        if options and not connection.has_extn("smtputf8"):
            raise self._undeliverable("the mail server takes no such address")
        try:
            connection.sendmail(self._sender, [to], (head + data).replace(b"\n", b"\r\n"), options)
        except smtplib.SMTPRecipientsRefused as error:
            [(code, _)] = error.recipients.values()
            return self._refused(code)
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            return self._refused(error.smtp_code)
        return True

    def _refused(self, code: int) -> bool:
        if code >= 500:
            raise self._undeliverable(f"the mail server refuses it: {code}")
        return False


class _Connection(smtplib.SMTP):
    """smtplib's, which would wait for SECONDS before each byte of a reply: here all of it has to come in that time."""

    _bounded: Bounded | None = None

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:  # so far, or since TLS began
            self._bounded = Bounded(self.sock.makefile("rb", buffering=0), self.sock, SECONDS, NO_MORE_TIME)
            self.file = io.BufferedReader(self._bounded)
        elif self._bounded is not None:
            self._bounded.restart()
        return super().getreply()


class _TlsConnection(_Connection, smtplib.SMTP_SSL):
    pass


def _quit(connection: smtplib.SMTP) -> None:
    try:
        connection.quit()
    except (smtplib.SMTPException, OSError):
        connection.close()
