"""Rows that one import brings twice: the newest is taken, those are refused of which none can be told to be the newest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from leanstorage.store import Document, Row
from leanstorage.takeout.convert import Entry, Prepared

TWICE = "its objectId occurs twice in this export, with other values"
UNTOLD = "its objectId occurs twice in this export, and no times tell which row is newer"
REASONS = (TWICE, UNTOLD)
SAME = "rows came twice: both are the same, or the newer one was taken"


@dataclass
class Split:
    """Entries of a batch, by what is stored of them."""

    new: list[Entry] = field(default_factory=list)
    known: list[Entry] = field(default_factory=list)
    again: set[str] = field(default_factory=set)  # ids of `known` ones that this import brought
    refused: list[tuple[int, str]] = field(default_factory=list)  # with the reason
    same: int = 0  # entries that gave way to one with the same id in the batch


def split(prepared: Prepared, taken: Mapping[str, int], start_seq: int) -> Split:
    """The Split of a batch: `taken` are the stored ids with their numbers, which after `start_seq` are of this import.

    What tells no time cannot be compared.
    """
    result = Split()
    first: dict[str, Entry] = {}
    for entry in prepared.rows:
        object_id = entry[1][0]
        before = first.get(object_id)
        is_again = before is not None or taken.get(object_id, 0) > start_seq
        if (entry[0] in prepared.undated and is_again) or (before and before[0] in prepared.undated):
            result.refused.append((entry[0], UNTOLD))
        elif before is None:
            first[object_id] = entry
        elif before[1][2] == entry[1][2] and before[1][3:] != entry[1][3:]:
            result.refused.append((entry[0], TWICE))
        else:
            result.same += 1
            first[object_id] = entry if before[1][2] < entry[1][2] else before
    for object_id, entry in first.items():
        (result.known if object_id in taken else result.new).append(entry)
    result.again = {object_id for object_id in first if taken.get(object_id, 0) > start_seq}
    return result


def drop_others(found: Split, old: Mapping[str, Row]) -> None:
    """Refuse those that this import brought again with other values, though not newer than what is stored, `old`."""
    kept = []
    for entry in found.known:
        index, row, _ = entry
        before = old[row[0]]
        is_as_old = row[0] in found.again and before.updated == row[2]
        if is_as_old and (before.acl != row[3] or not _is_same(before.body, json.loads(row[4]))):
            found.refused.append((index, TWICE))
        else:
            kept.append(entry)
    found.known = kept


def _is_same(stored: Document, new: Document) -> bool:
    """Whether a body is stored, perhaps with values that a repair moved aside, see `repair.move`."""
    left = sorted(json.dumps(new[key]) for key in new.keys() - stored.keys())
    moved = sorted(map(str, (stored[key] for key in stored.keys() - new.keys())))
    return left == moved and all(stored[key] == new[key] for key in new.keys() & stored.keys())
