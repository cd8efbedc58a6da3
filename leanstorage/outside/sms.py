"""How a code comes to a phone: by the operator's command, by the operator's gateway, or not at all, on this machine alone.

A message is `{"id", "to", "code", "purpose", "minutes", "type", "text", "template", "sign", "variables"}`, `to` with its
country code. Nothing of it is ever logged.
"""
import hashlib
import hmac
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

import requests

from leanstorage.outside.ask import checked_url
from leanstorage.store import Document, now, Store
from leanwsgi.answers import bounded_session

COMMAND_SECONDS = 10  # that a command may take for one message
URL_SECONDS = 5  # that a gateway may take to connect, and again to answer
WAIT_SECONDS = 3  # that whoever asked for a code waits to hear that it was not sent
PAUSES = (0, 1, 4)  # seconds before each attempt
MAX_SENDING = 16  # messages at once; while they are stuck, more are refused
KEPT_MS = 30 * 24 * 60 * 60 * 1000
OUTBOX = "outbox-done"  # kind of record, see resources.mail: nobody is to send them
SENT, LATER, NEVER = "sent", "later", "never"
Deliver = Callable[[bytes], str]  # a message as JSON -> SENT, LATER (try again) or NEVER


class Sender:
    """What rules.call.SmsSender says; `deliver` is `Command.deliver` or `Gateway.deliver`."""

    is_local = False

    def __init__(
        self,
        deliver: Deliver,
        templates: Sequence[str] = (),
        signs: Sequence[str] = (),
        max_per_address: int = 100,
        max_per_day: int = 10_000,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.templates, self.signs = frozenset(templates), frozenset(signs)
        self.max_per_address, self.max_per_day = max_per_address, max_per_day
        self._deliver, self._close = deliver, close
        self._slots = threading.BoundedSemaphore(MAX_SENDING)
        self._ended = threading.Event()

    def send(self, store: Store, message: Document) -> bool:
        """Hand a message on; False when it certainly cannot be. What takes longer goes on by itself."""
        if not self._slots.acquire(blocking=False):
            _say("too many are under way")
            return False
        data = json.dumps(message, ensure_ascii=False).encode()
        done, outcome = threading.Event(), [True]
        threading.Thread(target=self._run, args=(data, done, outcome), name="leanstorage-sms", daemon=True).start()
        done.wait(WAIT_SECONDS)
        return outcome[0]

    def close(self) -> None:
        self._ended.set()
        self._close()

    def _run(self, data: bytes, done: threading.Event, outcome: list[bool]) -> None:
        try:
            outcome[0] = self._tried(data)
        finally:
            self._slots.release()
            done.set()

    def _tried(self, data: bytes) -> bool:
        found = LATER
        for pause in PAUSES:
            found = LATER if self._ended.wait(pause) else self._deliver(data)
            if found != LATER:
                break
        if found != SENT:
            _say("the sender failed")
        return found == SENT


class LocalSender:
    """Codes that lie in the outbox, for who is on this machine: `python -m leanstorage outbox` prints them."""

    is_local = True
    templates: frozenset[str] = frozenset()
    signs: frozenset[str] = frozenset()
    max_per_address = max_per_day = 10_000

    def send(self, store: Store, message: Document) -> bool:
        ms = now()
        kept = {"kind": "sms", "to": message["to"], "subject": f"SMS: {message['purpose']}", "text": message["text"]}
        key = f"{ms:014d}-{secrets.token_hex(4)}"
        store.write(lambda transaction: transaction.put_record(OUTBOX, key, kept, ms + KEPT_MS))
        return True

    def close(self) -> None:
        pass


class Command:
    """A shell command that gets the message on its standard input and ends with 0 when it is sent."""

    def __init__(self, command: str, seconds: float = COMMAND_SECONDS) -> None:
        self._command, self._seconds = command, seconds
        self._running: set[subprocess.Popen[bytes]] = set()

    def deliver(self, data: bytes) -> str:
        try:
            process = subprocess.Popen(
                self._command, shell=True, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )
        except OSError:  # no process, or no memory, is left
            return LATER
        self._running.add(process)
        try:
            process.communicate(data, self._seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
        finally:
            self._running.discard(process)
        return SENT if process.returncode == 0 else LATER

    def close(self) -> None:
        for process in list(self._running):
            _kill(process)


class Gateway:
    """A URL that messages are posted to, signed with `secret`: see `signature`."""

    def __init__(self, url: str, secret: str, seconds: float = URL_SECONDS) -> None:
        checked_url(url, "--sms-url", has_query=True)
        if not secret:
            raise ValueError("--sms-url needs LEANSTORAGE_SMS_SECRET, which its messages are signed with")
        self._url, self._secret, self._seconds = url, secret, seconds

    def deliver(self, data: bytes) -> str:
        sent_at = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-LeanStorage-Timestamp": sent_at,
            "X-LeanStorage-Signature": signature(self._secret, sent_at, data),
        }
        try:
            with bounded_session() as session:
                session.trust_env = False
                with session.post(
                    self._url, data, headers=headers, timeout=self._seconds, allow_redirects=False, stream=True
                ) as answer:
                    status = answer.status_code
        except requests.RequestException:
            return LATER
        if status == 429 or status >= 500:
            return LATER
        return SENT if 200 <= status < 300 else NEVER


def signature(secret: str, sent_at: str, data: bytes) -> str:
    """`sha256=` and the HMAC, in hex, of the seconds, a dot and the body: old messages cannot be sent again."""
    return "sha256=" + hmac.new(secret.encode(), sent_at.encode() + b"." + data, hashlib.sha256).hexdigest()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _say(reason: str) -> None:
    print(f"an SMS was not sent: {reason}", file=sys.stderr)
