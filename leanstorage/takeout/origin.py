"""Which rows are unchanged since they were imported: a newer row from LeanCloud may replace only those.

Every change here sets `updatedAt` to the time of the change. So a row was changed here if its `updatedAt` is not before the
time when the first rows of its class came, unless it came with just that `updatedAt`: of such rows there is a record.
"""

from collections.abc import Collection, Mapping

from leanstorage.store import Row, Transaction, now
from leanstorage.takeout.convert import Entry

KIND = "origin"
NEWER = "rows here were older than those of this export, which were taken"
KEPT = "rows were changed here and there: those of here stay"


def since(transaction: Transaction, class_name: str) -> int:
    """When the first rows of a class came, in ms; that is now if none did."""
    found = transaction.record(KIND, class_name)
    if found is None:
        found = {"since": now()}
        transaction.put_record(KIND, class_name, found)
    at: int = found["since"]
    return at


def unchanged(transaction: Transaction, class_name: str, since: int, rows: Mapping[str, Row]) -> set[str]:
    """The ids of those `rows` that are as they came."""
    late = {object_id: row.updated for object_id, row in rows.items() if row.updated >= since}
    came = transaction.records_of(_kind(class_name), list(late)) if late else {}
    changed = {object_id for object_id, updated in late.items() if came.get(object_id, {}).get("updated") != updated}
    return rows.keys() - changed


def remember(transaction: Transaction, class_name: str, since: int, entries: Collection[Entry]) -> None:
    """Remember rows that come with an `updatedAt` that a change here could have."""
    late = [(row[0], row[2]) for _, row, _ in entries if row[2] >= since]
    if late:
        transaction.put_records((_kind(class_name), object_id, {"updated": updated}) for object_id, updated in late)


def _kind(class_name: str) -> str:
    return f"{KIND}:{class_name}"
