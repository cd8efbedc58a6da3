"""What transactions of this process keep for later ones."""
from collections.abc import Callable
from typing import Any

from leanstorage.store import Document, Query, Result, Stale
from leanstorage.store.fragments import Fragment

MAX_STATEMENTS = 1000  # that are remembered


class Seen:
    """The class infos and statements that transactions of this process saw last."""

    def __init__(self) -> None:
        self.classes: dict[str, tuple[str, Document]] = {}  # name -> (info as it is stored, info)
        self.statements: dict[Any, tuple[Query, Document, Fragment]] = {}  # with what each was made of


def settle(attempt: Callable[[Seen | None], Result], seen: Seen) -> Result:
    """What `attempt(seen)` returns; again when it raises Stale, the last time with None, from the database alone."""
    for memory in (seen, seen):
        try:
            return attempt(memory)
        except Stale:
            pass
    return attempt(None)
