"""Whether the parts of a server answer: each is asked every second on a thread of its own, so that none hides another.

What is asked is what requests need: a write of the database on a thread, a read on the loop, a file that is written and
removed, the list of the engine's hooks with our keys.
"""
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from leanstorage.http.inline_calls import Quick
from leanstorage.http.server import Server
from leanstorage.rules.call import Service
from leanstorage.store import Document, Transaction
from leanwsgi import messages

ASK_SECONDS = 1.0  # between two questions
FRESH_SECONDS = 3.5  # how long an answer is good for; a part that answers later is down
ENGINE_SECONDS = 3.0
NOWHERE = " "  # no class is called that


@dataclass
class Part:
    """What is known of one part."""

    answered: float  # when it last answered well, on the monotonic clock
    trouble: str | None  # what went wrong last

    def explain(self, now: float) -> str | None:
        """Why it is down, or None."""
        if self.trouble is not None:
            return self.trouble
        silent = now - self.answered
        return f"no answer for {silent:.0f} seconds" if silent > FRESH_SECONDS else None


class Health:
    """Asks the parts from `start` to `close`. A part is up once it has answered."""

    def __init__(self, service: Service, server: Server, quick: Quick) -> None:
        self._ended = threading.Event()
        self.loop_lag = 0.0  # seconds that a function waited for its turn on the loop, last time
        self._server, self._quick = server, quick
        store, blobs, engine = service.store, service.blobs, service.engine
        questions: dict[str, Callable[[], Any]] = {
            "database": lambda: store.write(_touch),
            "loop": self._ask_loop,
            "files": blobs.check,
        }
        if engine is not None:
            asked = engine  # for the type: the service's may be exchanged
            questions["engine"] = lambda: asked.check(ENGINE_SECONDS)
        self._questions = questions
        self._parts = {name: Part(0.0, "it was not asked yet") for name in questions}
        self._threads = [
            threading.Thread(target=self._ask, args=[name], name=f"health {name}", daemon=True) for name in questions
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(1)

    def troubles(self) -> dict[str, str | None]:
        """{part: why it is down, or None}."""
        now = time.monotonic()
        return {name: part.explain(now) for name, part in self._parts.items()}

    def _ask(self, name: str) -> None:
        while not self._ended.is_set():
            start = time.monotonic()
            try:
                self._questions[name]()
                self._parts[name] = Part(time.monotonic(), None)
            except Exception as error:
                self._parts[name] = Part(self._parts[name].answered, _said(error))
            self._ended.wait(max(0.0, start + ASK_SECONDS - time.monotonic()))

    def _ask_loop(self) -> None:
        """Ask the database on the loop; raise what came of it, or TimeoutError."""
        done, found = threading.Event(), []
        asked = time.perf_counter()

        def answered(error: Exception | None) -> None:
            found.append(error)
            done.set()

        def ask() -> None:
            self.loop_lag = time.perf_counter() - asked
            self._quick.check(answered)

        self._server.call_soon(ask)
        if not done.wait(FRESH_SECONDS):
            raise TimeoutError("the loop is busy")
        if found[0] is not None:
            raise found[0]


def report(troubles: dict[str, str | None]) -> messages.BytesResponse:
    """The answer to GET /health: 200, or 503 with what is down and why."""
    status = HTTPStatus.OK if not any(troubles.values()) else HTTPStatus.SERVICE_UNAVAILABLE
    parts: Document = {name: trouble or "ok" for name, trouble in troubles.items()}
    return messages.json_response(status, {"status": "ok" if status == 200 else "down", "parts": parts})


def _touch(transaction: Transaction) -> None:
    """Ask every table that requests need for what is not there, as somebody who is about to write.

    That changes nothing, and fails where a table is locked or gone, or where the database takes no writes.
    """
    transaction.record("health", NOWHERE, lock=True)
    transaction.class_info(NOWHERE, lock=True)
    transaction.get(NOWHERE, NOWHERE, lock=True)


def _said(error: Exception) -> str:
    """One line about an error, for the operator: messages of drivers may go on with details."""
    text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    cause = error.__cause__
    if type(error).__name__ == "EngineDown" and not str(error):
        return "it cannot be reached"
    return text if cause is None or text != type(cause).__name__ else f"it cannot be reached ({text})"
