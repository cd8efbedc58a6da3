"""`rewrite OLD=NEW`: URLs within what is stored already. Without `--apply` it only counts."""

import json
import sys
from collections.abc import Sequence
from typing import TextIO

from leanstorage.store import Row, Store, Transaction, open_store
from leanstorage.takeout import load
from leanstorage.takeout.puller import local_rows
from leanstorage.takeout.rewrites import Rewrites

PAGE_ROWS = 500


def run(
    database: str, wanted: Rewrites, is_applied: bool, only: Sequence[str] = (), out: TextIO | None = None
) -> int:
    """Rewrite the URLs of all classes or `only` some, or count what there is; return the exit code.

    `updatedAt` stays: it is when the object's own content changed.
    """
    out = out or sys.stdout
    store = open_store(database, bulk=True)
    total = 0
    try:
        names = store.read(lambda transaction: transaction.class_names())
        for name in only:
            if name not in names:
                raise ValueError(f"there is no class {name}")
        for name in only or names:
            rows, urls = _class(store, name, wanted, is_applied)
            total += urls
            if urls:
                print(f"{name}: {urls} URLs in {rows} objects", file=out)
    finally:
        store.close()
    what = "were rewritten" if is_applied else "would be rewritten; nothing was changed, --apply does it"
    print(f"{total} URLs {what}", file=out)
    return 0


def _class(store: Store, name: str, wanted: Rewrites, is_applied: bool) -> tuple[int, int]:
    """(objects, URLs) that were found."""
    rows = urls = 0
    waiting: list[str] = []
    for row in local_rows(store, name):
        number = wanted.apply(row.text or "")[1]
        if number:
            rows, urls = rows + 1, urls + number
            waiting.append(row.id)
        if is_applied and len(waiting) >= PAGE_ROWS:
            _apply(store, name, wanted, waiting)
            waiting = []
    if is_applied and waiting:
        _apply(store, name, wanted, waiting)
    return rows, urls


def _apply(store: Store, name: str, wanted: Rewrites, ids: Sequence[str]) -> None:
    def work(transaction: Transaction) -> None:
        for object_id in ids:
            row = transaction.get(name, object_id, lock=True)
            if row is not None:
                text, number = wanted.apply(row.text or "")
                if number:
                    changed = Row(row.id, row.created, row.updated, row.acl, json.loads(text), row.seq)
                    transaction.update(name, changed)

    load.stored(store, work)
