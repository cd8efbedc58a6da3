"""waitress's threads, woken only when there is work that nobody awake will do.

Python runs one thread at a time. waitress wakes a thread for every request and its loop for every answer: system calls
that give Python's lock away, and threads that then wait for it. Woken so, they spend half their time on each other.
"""
from typing import Any

from waitress.task import ThreadedTaskDispatcher
from waitress.trigger import trigger


class Pool(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """A waitress task dispatcher that wakes one thread at a time: the next one when that has begun, and work is left.

    A thread that is busy goes on with the next request before the woken one gets Python's lock; one that waits for
    storage gives the lock to it. So as many threads are awake as there are requests that wait, and one.
    """

    _is_waking = False

    def add_task(self, task: Any) -> None:
        with self.lock:
            self.queue.append(task)
            self._wake()

    def handler_thread(self, thread_no: int) -> None:
        while True:
            with self.lock:
                while not self.queue and not self.stop_count:
                    self.active_count -= 1
                    self.queue_cv.wait()
                    self._is_waking = False
                    self.active_count += 1
                if self.stop_count:
                    self.active_count -= 1
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
        if self.queue and not self._is_waking and self.active_count < len(self.threads):
            self._is_waking = True
            self.queue_cv.notify()


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
