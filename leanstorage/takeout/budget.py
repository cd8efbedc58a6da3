"""How many calls a live app's API may be asked for in 24 hours, counted in the store, so that a new run knows them too."""

import threading
import time
from collections.abc import Callable

from leanstorage.store import Document, Store
from leanstorage.takeout import load
from leanstorage.takeout.remote import Clock, RemoteError

HOUR = 3600
WINDOW = 24  # hours
SAVED_EVERY = 20  # calls


class OutOfCalls(RemoteError):
    """The calls that `--max-calls` allows are used up."""


class Budget:
    """Counts calls in records of `kind`; ends or waits when `limit` of them were made within 24 hours."""

    def __init__(
        self,
        store: Store,
        kind: str,
        limit: int | None = None,
        is_patient: bool = False,
        say: Callable[[str], object] = print,
        clock: Clock = time,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.made = 0  # in this run
        self.limit = limit
        self._store, self._kind = store, kind
        self._is_patient, self._say, self._clock, self._now = is_patient, say, clock, now
        self._lock = threading.Lock()
        found: Document = store.read(lambda transaction: transaction.record(kind, "calls")) or {}
        self._hours = {int(hour): int(number) for hour, number in found.get("hours", {}).items()}
        self._unsaved = 0

    def take(self) -> None:
        """Count a call that is about to be made; raise OutOfCalls, or wait, where there is none left."""
        with self._lock:
            while self.limit is not None and self.recent() >= self.limit:
                if not self._is_patient:
                    self._save()
                    raise OutOfCalls(
                        f"{self.limit} calls were made in the last 24 hours, as many as --max-calls allows:"
                        f" run the same command again in {self._hours_left()} hours, it goes on where it was"
                    )
                self._say(f"{self.limit} calls were made in the last 24 hours: waiting {self._hours_left()} hours")
                self._save()
                self._clock.sleep(max(1.0, HOUR - self._now() % HOUR))
            self.made += 1
            hour = self._hour()
            self._hours[hour] = self._hours.get(hour, 0) + 1
            self._unsaved += 1
            if self._unsaved >= SAVED_EVERY:
                self._save()

    def recent(self) -> int:
        """How many calls were made in the last 24 hours."""
        first = self._hour() - WINDOW
        return sum(number for hour, number in self._hours.items() if hour > first)

    def close(self) -> None:
        with self._lock:
            self._save()

    def _hour(self) -> int:
        return int(self._now() // HOUR)

    def _hours_left(self) -> int:
        first = self._hour() - WINDOW
        oldest = min((hour for hour, number in self._hours.items() if hour > first and number), default=first + 1)
        return max(1, oldest - first)

    def _save(self) -> None:
        first = self._hour() - WINDOW
        self._hours = {hour: number for hour, number in self._hours.items() if hour > first}
        hours = {str(hour): number for hour, number in self._hours.items()}
        load.stored(self._store, lambda transaction: transaction.put_record(self._kind, "calls", {"hours": hours}))
        self._unsaved = 0
