"""waitress's threads, woken only when there is work that nobody awake will do.

Python runs one thread at a time. waitress wakes a thread for every request and its loop for every answer: system calls
that give Python's lock away, and threads that then wait for it. Woken so, they spend half their time on each other.
"""
import threading
from typing import Any

from waitress.task import ThreadedTaskDispatcher
from waitress.trigger import trigger


class Pool(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """A waitress task dispatcher that wakes one thread at a time: the next one when that has begun, and work is left.

    A thread that is busy goes on with the next request before the woken one gets Python's lock; one that waits for
    storage gives the lock to it. So as many threads are awake as there are requests that wait, and one. The last to fall
    idle is the first to be woken: what it needs is at hand, and the others need no memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self._idle: list[threading.Condition] = []
        self._is_waking = False

    def set_thread_count(self, count: int) -> None:
        super().set_thread_count(count)
        with self.lock:
            for idle in self._idle:  # to see who is to stop
                idle.notify()
            self._idle.clear()

    def add_task(self, task: Any) -> None:
        with self.lock:
            self.queue.append(task)
            self._wake()

    def handler_thread(self, thread_no: int) -> None:
        idle = threading.Condition(self.lock)
        while True:
            with self.lock:
                while not self.queue and not self.stop_count:
                    self._idle.append(idle)
                    idle.wait()
                    self._is_waking = False
                if self.stop_count:
                    self.stop_count -= 1
                    self.threads.discard(thread_no)
                    self.thread_exit_cv.notify()
                    return
                task = self.queue.popleft()
                self._wake()
            try:
                task.service()
            except BaseException:
                self.logger.exception("a request could not be answered")

    def _wake(self) -> None:
        if self.queue and self._idle and not self._is_waking:
            self._is_waking = True
            self._idle.pop().notify()


class Trigger(trigger):  # type: ignore[misc]
    """What wakes waitress's loop, once for all who ask before it looks."""

    _is_pulled = False

    def _physical_pull(self) -> None:
        if not self._is_pulled:
            self._is_pulled = True
            super()._physical_pull()

    def recv(self, size: int) -> bytes:
        data: bytes = super().recv(size)
        self._is_pulled = False  # only now does the loop look at what there is to do: who asks from here on wakes it again
        return data


def wake_seldom(server: Any) -> None:
    """Give a waitress server, before it runs, a Trigger in place of its own."""
    server.trigger.close()
    server.trigger = Trigger(server._map)
