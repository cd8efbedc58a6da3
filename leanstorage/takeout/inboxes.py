"""The inboxes of statuses, which are records and no objects: how an export has them, and how they come back.

A row is a line, `{"owner", "inboxType", "messageId", "status"}`, or a counter: `{"owner", "inboxType", "last"}`, the
greatest messageId that was given, and the same with `unread`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from leanstorage.rules import values
from leanstorage.rules.errors import StorageError
from leanstorage.resources.statuses import COUNTERS, line_key, lines_kind
from leanstorage.store import Document, Json, Store, Transaction


TYPE = "Inboxes"  # in the header of the file
NAME = "_Inbox"  # in reports: no class can be called so
FILE = "_Inbox.0.jsonl"
PAGE_ROWS = 1000
MAX_NUMBER = 10**12


def rows(store: Store) -> Iterator[Document]:
    """Every row of all inboxes."""
    after = (COUNTERS, "")
    while True:
        page = store.read(lambda transaction: transaction.all_records(after, PAGE_ROWS))  # noqa: B023 it runs at once
        for kind, key, value, _ in page:
            name, _, inbox = kind.partition(":")
            if name != COUNTERS:
                return
            if inbox:
                owner, _, inbox_type = inbox.partition(":")
                yield {"owner": owner, "inboxType": inbox_type, "messageId": int(key), "status": value["status"]}
            else:
                owner, inbox_type, counter = key.split(":")
                yield {"owner": owner, "inboxType": inbox_type, counter: value["number"]}
        if len(page) < PAGE_ROWS:
            return
        after = page[-1][:2]


def is_row(document: Document) -> bool:
    """Whether it is one of the rows above and nothing else."""
    inbox_type, rest = document.get("inboxType"), set(document) - {"owner", "inboxType"}
    if not isinstance(inbox_type, str) or not inbox_type.isidentifier() or len(inbox_type) > 100:
        return False
    numbers = [value for key, value in document.items() if key in ("messageId", "last", "unread")]
    if rest not in ({"messageId", "status"}, {"last"}, {"unread"}) or not all(map(_is_number, numbers)):
        return False
    try:
        for key in ("owner", "status"):
            values.check_object_id(document.get(key, document.get("owner")))
    except StorageError:
        return False
    return True


def _is_number(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_NUMBER


def load(
    transaction: Transaction, found: Sequence[tuple[int, Document]]
) -> tuple[int, int, list[tuple[int, str]]]:
    """Add (index, row) pairs; what is here stays. Return how many are new, how many were here, and [(index, reason)]."""
    inboxes = defaultdict[tuple[str, str], list[tuple[int, Document]]](list)
    for index, row in found:
        inboxes[row["owner"], row["inboxType"]].append((index, row))
    new = skipped = 0
    refused: list[tuple[int, str]] = []
    for (owner, inbox_type), group in inboxes.items():
        kind = lines_kind(owner, inbox_type)
        known = transaction.records_of(kind, [line_key(row["messageId"]) for _, row in group if "status" in row])
        records: list[tuple[str, str, Document]] = []
        for index, row in group:
            if "status" not in row:
                continue
            key = line_key(row["messageId"])
            here = known.get(key)
            if here is None:
                known[key] = {"status": row["status"]}
                records.append((kind, key, known[key]))
            elif here["status"] == row["status"]:
                skipped += 1
            else:
                refused.append((index, "its messageId belongs to another status here"))
        transaction.put_records(records)
        counted = _count(transaction, owner, inbox_type, [row for _, row in group])
        new += len(records) + counted
        skipped += sum("status" not in row for _, row in group) - counted
    return new, skipped, refused


def _count(transaction: Transaction, owner: str, inbox_type: str, group: Sequence[Document]) -> int:
    """Store the counters that are not here; what is sent next gets a number beyond all of these. Return how many."""
    stored = 0
    for name in ("last", "unread"):
        key = f"{owner}:{inbox_type}:{name}"
        given = [row[name] for row in group if name in row]
        least = given + ([row["messageId"] for row in group if "status" in row] if name == "last" else [])
        if not least:
            continue
        here = transaction.record(COUNTERS, key, lock=True)
        if here is None or (name == "last" and here["number"] < max(least)):
            transaction.put_record(COUNTERS, key, {"number": max(least)})
            stored += len(given)
    return stored
