"""What transactions of this process keep for later ones."""
import time
from collections.abc import Callable
from typing import Any

from leanstorage.store import Document, Query, Result, Stale
from leanstorage.store.choice import top_conditions
from leanstorage.store.fragments import Fragment

MAX_STATEMENTS = 1000  # that are remembered
MAX_STATEMENT_CHARACTERS = 10_000  # of one that is: a short list of a client may become a hundred times as long
MAX_LOOKS = 1000
LOOK_SECONDS = 60  # for which a look in vain is remembered


class Seen:
    """The class infos and statements that transactions of this process saw last."""

    def __init__(self) -> None:
        self.classes: dict[str, tuple[str, Document]] = {}  # name -> (info as it is stored, info)
        self.statements: dict[Any, tuple[Query, Document, Fragment]] = {}  # with what each was made of
        self.newest: dict[int, tuple[Query, Document, Query | None]] = {}  # likewise: what stages.first_newest returned
        self.looks = Looks()


def settle(attempt: Callable[[Seen | None], Result], seen: Seen) -> Result:
    """What `attempt(seen)` returns; again when it raises Stale, the last time with None, from the database alone."""
    for memory in (seen, seen):
        try:
            return attempt(memory)
        except Stale:
            pass
    return attempt(None)


class Looks:
    """Kinds of queries that found too little among the newest rows of their class, for a minute each.

    In a small class such queries then look at everything at once. In a large one that could take seconds.
    """

    def __init__(self) -> None:
        self._kinds: dict[int, tuple[float, bool]] = {}  # until when it is remembered, whether the class is small

    def is_needless(self, query: Query) -> bool:
        return self._known(_kind(query)) is True

    def in_vain(self, query: Query, is_small: Callable[[str], bool]) -> None:
        """Note a look; `is_small(class)` is asked only where that is not known."""
        kind = _kind(query)
        if self._known(kind) is None:
            if len(self._kinds) >= MAX_LOOKS:
                self._kinds.clear()
            self._kinds[kind] = (time.monotonic() + LOOK_SECONDS, is_small(query.class_name))

    def _known(self, kind: int) -> bool | None:
        until, is_small = self._kinds.get(kind, (0.0, False))
        return is_small if time.monotonic() < until else None


def _kind(query: Query) -> int:
    """What queries have in common that differ only in their values, as a number: a query may have thousands of keys."""
    return hash((query.class_name, tuple([(node.op, node.path) for node in top_conditions(query.where)])))
