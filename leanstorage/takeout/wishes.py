"""What the operator wants of an import or a pull beyond what there is to be taken in."""

from collections.abc import Collection
from dataclasses import dataclass

from leanstorage.takeout.rewrites import Rewrites


@dataclass(frozen=True)
class Wishes:
    is_repairing: bool = False  # move aside what cannot be held
    rewrites: Rewrites = Rewrites()
    class_name: str | None = None  # of an import's files that do not tell their own
    only: Collection[str] = ()  # classes of a pull
    delete_missing: bool = False  # what a pull does not find there any more
    max_calls: int | None = None  # of a pull, in 24 hours
    is_patient: bool = False  # it waits for the next calls, rather than end


NONE = Wishes()
