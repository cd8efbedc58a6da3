"""What apps of `compat.engine_apps` need beside their storage: a mail server, a Redis."""
import contextlib
import quopri
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator

from compat.server import free_port


class _Mails(socketserver.StreamRequestHandler):
    """Takes every mail: (to, text) to the server's list."""

    def handle(self) -> None:
        self.say("220 test")
        to = ""
        while line := self.rfile.readline().decode().strip():
            word = line.split(" ")[0].upper()
            if word == "EHLO":
                self.say("250-test")
                self.say("250 AUTH PLAIN")
            elif word == "AUTH":
                self.say("235 ok")
            elif word == "DATA":
                self.say("354 go on")
                self.server.mails.append((to, self.text()))
                self.say("250 ok")
            elif word == "QUIT":
                return self.say("221 bye")
            else:
                to = line.split("<")[1].split(">")[0] if word == "RCPT" else to
                self.say("250 ok")
        return None

    def text(self) -> str:
        data = b""
        while not data.endswith(b"\r\n.\r\n"):
            data += self.rfile.readline()
        return quopri.decodestring(data).decode(errors="replace")

    def say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


@contextlib.contextmanager
def mail_server(port: int) -> Iterator[tuple[dict[str, str], dict]]:
    """(the variables of Valine-Admin on `port`, {"mails": those that came})."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mails) as server:
        server.mails, server.daemon_threads = [], True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{port}"
        yield {
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(server.server_address[1]),
            "SMTP_SECURE": "false",
            "SMTP_USER": "blog@example.org",
            "SMTP_PASS": "pw",
            "SENDER_NAME": "Blog",
            "SENDER_EMAIL": "blog@example.org",
            "BLOGGER_EMAIL": "owner@example.org",
            "SITE_NAME": "Blog",
            "SITE_URL": site,
            "ADMIN_URL": site,
            "AKISMET_KEY": "MANUAL_REVIEW",
        }, {"mails": server.mails}
        server.shutdown()


@contextlib.contextmanager
def redis(port: int) -> Iterator[tuple[dict[str, str], dict]]:
    """(the variables of LeanTicket, {})."""
    own = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(own), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for_port(own)
            url = f"redis://127.0.0.1:{own}"
            yield {"REDIS_URL_QUEUE": url, "REDIS_URL_CACHE": url}, {}
        finally:
            process.terminate()
            process.wait()


def wait_for_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on {port}")
