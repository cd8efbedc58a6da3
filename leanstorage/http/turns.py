"""Whose call the loop answers next: each visitor has one in turn, for a moment, then the loop looks at its connections again.

A visitor is what leanwsgi.shares says. One who has a hundred connections keeps others waiting for one call of each turn,
and not for a hundred. Who speaks for many visitors is not counted: then each connection is one.
"""
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

TURN_SECONDS = 0.02  # that calls are taken for, before the loop looks at its connections again
MAX_UNDER_WAY = 32  # calls of one visitor that wait for a database


class Turns:
    """Channels with a call each, taken in turn. All of it happens on the loop's thread."""

    def __init__(self, are_answered_at_once: bool = False) -> None:
        self._are_answered_at_once = are_answered_at_once  # then none is ever under way, and nothing is counted
        self._waiting: dict[Any, deque[Any]] = {}  # by visitor, in the order of whose turn it is
        self._under_way: dict[Any, int] = {}  # how many calls, by visitor
        self._visitors: dict[Any, Any] = {}  # of the channels whose calls are under way

    def add(self, channel: Any) -> None:
        self._waiting.setdefault(channel.visitor() or channel, deque()).append(channel)

    def __len__(self) -> int:
        """How many have not been taken."""
        return sum(map(len, self._waiting.values()))

    def __bool__(self) -> bool:
        """Whether there is one to take."""
        if not self._waiting or self._are_answered_at_once:
            return bool(self._waiting)
        return any(self._may_go(visitor) for visitor in self._waiting)

    def taken(self) -> Iterator[Any]:
        """Take the channels whose turn it is, until time is up; `done` is to be called with each. Closed ones are dropped."""
        end = time.monotonic() + TURN_SECONDS
        held: dict[Any, deque[Any]] = {}
        while self._waiting:
            visitor = next(iter(self._waiting))
            channels = self._waiting.pop(visitor)
            if not self._are_answered_at_once and not self._may_go(visitor):
                held[visitor] = channels
                continue
            channel = channels.popleft()
            if channels:
                self._waiting[visitor] = channels
            if not channel.connected:
                _drop(channel)
                continue
            if not self._are_answered_at_once:
                self._visitors[channel] = visitor
                self._under_way[visitor] = self._under_way.get(visitor, 0) + 1
            yield channel
            if time.monotonic() > end:
                break
        for visitor, channels in held.items():
            self._waiting[visitor] = channels + self._waiting.pop(visitor, deque())

    def done(self, channel: Any) -> None:
        """A call that was taken is answered, or another's to answer."""
        visitor = self._visitors.pop(channel, None)
        if visitor is not None:
            self._under_way[visitor] -= 1
            if not self._under_way[visitor]:
                del self._under_way[visitor]

    def _may_go(self, visitor: Any) -> bool:
        return self._under_way.get(visitor, 0) < MAX_UNDER_WAY


def _drop(channel: Any) -> None:
    """Nobody waits for an answer any more: waitress would not have it made either."""
    with channel.requests_lock:
        while channel.requests:
            channel.requests.pop().close()
