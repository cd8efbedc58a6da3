"""The outbox sent by the server itself, as soon as there is something in it, by a thread of each process."""
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from leanwsgi import messages
from leanstorage.resources import mail
from leanstorage.rules.call import Service
from leanstorage.store import StoreUnavailable

PERIOD_SECONDS = 30  # between two looks, unless somebody wakes it
PAUSE_MS = 60 * 1000  # before a message that was not taken is tried again, doubled each time
Connected = Callable[[], AbstractContextManager[Callable[[bytes, str], bool]]]


class Mailer:
    """Sends what is due until `close`. `connected()` is a `deliver(e-mail, address)` for a `with`; see mail.hand_on_due."""

    def __init__(self, service: Service, connected: Connected) -> None:
        self._service, self._connected = service, connected
        self._wanted, self._is_ended, self._is_down = threading.Event(), False, False
        service.wake_mailer = self._wanted.set
        self._thread = threading.Thread(target=self._run, name="leanstorage-mail", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_ended:
            try:
                self.send()
            except StoreUnavailable:
                pass  # then at the next time
            except Exception as error:  # one failure must not stop the thread
                messages.log_exception(error, {"REQUEST_METHOD": "MAIL"})
            self._wanted.wait(PERIOD_SECONDS)
            self._wanted.clear()

    def send(self) -> None:
        """Send what is due; a server that is not there is said once, and what waits stays for the next time."""
        try:
            with self._connected() as deliver:
                mail.hand_on_due(self._service.store, deliver, PAUSE_MS)
        except mail.Unreachable as error:
            if not self._is_down:
                print(f"the mail server cannot be used: {error}", file=sys.stderr)
            self._is_down = True
        else:
            self._is_down = False

    def close(self) -> None:
        """End. A message that is being sent has a few seconds; the process does not wait for more."""
        self._is_ended = True
        self._wanted.set()
        self._thread.join(5)
