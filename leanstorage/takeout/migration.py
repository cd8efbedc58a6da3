"""`migrate --from URL --to URL`: copies everything from one database to another; sessions stay valid.

Each piece is stored together with how far the copy has come, so that a run that was cut off goes on where it was.
At its end both databases are read once more: counts and digests must be equal. Nobody may write meanwhile. The keys
and the files stay where they are.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from leanstorage.rules import classes, indexes
from leanstorage.store import canonical_text, Document, Json, open_store, Store, Transaction
from leanstorage.takeout.exporter import Digest
from leanstorage.takeout.load import stored
from leanstorage.takeout.report import PLAIN_SECONDS


PIECE = 1000  # rows read and stored at once
KIND, KEY = "migration", "position"  # of the record that says how far it has come
NOTHING: Document = {"classes": False, "objects": None, "relations": ["", "", "", "", ""], "records": ["", ""]}


def run(source_url: str, target_url: str, out: TextIO | None = None, stream: TextIO | None = None) -> int:
    """Copy and compare; return the exit code. Raises ValueError for databases that cannot be used.

    Counts and digests go to `out`, progress to `stream`.
    """
    out, stream = out or sys.stdout, stream or sys.stderr
    if source_url == target_url:
        raise ValueError("--from and --to are the same database")
    path = source_url.removeprefix("sqlite:///")
    if path != source_url and not Path(path).exists():
        raise ValueError(f"there is no {path}")
    source = open_store(source_url, bulk=True)
    try:
        target = open_store(target_url, bulk=True)
        try:
            return copy(source, target, out, Progress(stream))
        finally:
            target.close()
    finally:
        source.close()


def copy(source: Store, target: Store, out: TextIO, progress: "Progress") -> int:
    """Copy what `source` reads into an empty store, or one that an earlier run began with, and compare; the exit code."""
    started = time.monotonic()
    position = target.read(_position)
    _copy_classes(source, target, position, progress)
    _copy_objects(source, target, position, progress)
    _copy_relations(source, target, position, progress)
    _copy_records(source, target, position, progress)
    infos = source.read(_infos)
    for name, info, _ in infos:
        for keys in info.get("indexes", ()):
            progress.say(f"index of {name} {' '.join(keys)}")
            indexes.create(target, name, keys)
    before, after = ({name: total for name, total in totals(store, progress)} for store in (source, target))
    for name, total in before.items():
        print(f"{name}: {total}{'' if after.get(name) == total else f', but {after.get(name)} in the copy'}", file=out)
    is_equal = before == after
    if is_equal:
        stored(target, lambda transaction: transaction.delete_record(KIND, KEY))
    ending = "the copy is equal" if is_equal else "the copy differs: was the first one written to meanwhile?"
    print(f"{ending}; {time.monotonic() - started:.1f} s", file=out, flush=True)
    return 0 if is_equal else 1


def _position(transaction: Transaction) -> Document:
    """How far the copy has come; raise ValueError when the target holds something else."""
    position = transaction.record(KIND, KEY)
    if position is None and (transaction.class_names() or transaction.all_records(("", ""), 1)):
        raise ValueError("the database of --to is not empty")
    return {**NOTHING, **(position or {})}


def _save(target: Store, position: Document, work: Callable[[Transaction], object]) -> None:
    """Store a piece and the position behind it, at once."""

    def both(transaction: Transaction) -> None:
        work(transaction)
        transaction.put_record(KIND, KEY, position)

    stored(target, both)


def _infos(transaction: Transaction) -> list[tuple[str, Document, int]]:
    """[(name, info, time of the last deletion or write in ms)] of all classes."""
    return [
        (name, classes.existing(transaction, name), transaction.last_write(name) or 0)
        for name in transaction.class_names()
    ]


def _copy_classes(source: Store, target: Store, position: Document, progress: "Progress") -> None:
    if position["classes"]:
        return
    infos = source.read(_infos)
    position["classes"] = True

    def work(transaction: Transaction) -> None:
        for name, info, written in infos:
            # Queries may use an index from the moment on that the class lists it.
            transaction.save_class(name, {key: value for key, value in info.items() if key != "indexes"}, written)

    _save(target, position, work)


def _copy_objects(source: Store, target: Store, position: Document, progress: "Progress") -> None:
    names = source.read(lambda transaction: transaction.class_names())
    done = position["objects"]  # [class, created, seq] of the last object that was copied
    for name in names:
        if done and name < done[0]:
            continue
        after = (done[1], done[2]) if done and name == done[0] else (-(2**63), 0)
        count = 0
        while True:
            rows = source.read(lambda transaction: transaction.page(name, after, PIECE))  # noqa: B023 it runs at once
            if not rows:
                break
            after = (rows[-1].created, rows[-1].seq)
            position["objects"] = [name, *after]
            piece = [(row.id, row.created, row.updated, row.acl, canonical_text(row.body)) for row in rows]
            _save(target, position, lambda transaction: transaction.insert_many(name, piece))  # noqa: B023
            count += len(rows)
            progress.show(f"{name}: {count} objects copied")


def _copy_relations(source: Store, target: Store, position: Document, progress: "Progress") -> None:
    count = 0
    while True:
        rows = source.read(lambda transaction: transaction.all_relations(position["relations"], PIECE))
        if not rows:
            return
        position["relations"] = list(rows[-1])
        groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        for class_name, key, owner, target_class, member in rows:
            groups.setdefault((class_name, key, target_class), []).append((owner, member))

        def work(transaction: Transaction) -> None:
            for group, pairs in groups.items():  # noqa: B023
                transaction.relate_many(*group, pairs)

        _save(target, position, work)
        count += len(rows)
        progress.show(f"{count} members of relations copied")


def _copy_records(source: Store, target: Store, position: Document, progress: "Progress") -> None:
    count = 0
    while True:
        rows = source.read(lambda transaction: transaction.all_records(position["records"], PIECE))
        if not rows:
            return
        position["records"] = list(rows[-1][:2])
        _save(target, position, lambda transaction: transaction.put_records(rows))  # noqa: B023
        count += len(rows)
        progress.show(f"{count} records copied")


def totals(store: Store, progress: "Progress") -> Iterator[tuple[str, str]]:
    """Yield (name, "count and digest") of each class, of the relations, and of the records."""
    for name, info, _ in store.read(_infos):
        yield f"class {name}", _digest([[{**info, "indexes": []}]], progress, name)
        yield f"objects of {name}", _digest(_objects(store, name), progress, name)
    yield "relations", _digest(_pages(store, "all_relations", 5), progress, "relations")
    records = (row for row in _pages(store, "all_records", 2) if row[:2] != (KIND, KEY))
    yield "records", _digest(records, progress, "records")


def _digest(rows: Iterable[Iterable[Json]], progress: "Progress", name: str) -> str:
    digest, count = Digest(), 0
    for row in rows:
        digest.add(canonical_text(list(row)))
        count += 1
        if count % PIECE == 0:
            progress.show(f"{name}: {count} compared")
    return f"{count}, digest {digest}"


def _objects(store: Store, name: str) -> Iterator[tuple[Json, ...]]:
    after = (-(2**63), 0)
    while True:
        rows = store.read(lambda transaction: transaction.page(name, after, PIECE))  # noqa: B023 it runs at once
        if not rows:
            return
        after = (rows[-1].created, rows[-1].seq)
        for row in rows:
            yield row.id, row.created, row.updated, row.acl, row.body


def _pages(store: Store, method: str, width: int) -> Iterator[tuple[Json, ...]]:
    """All rows of a method that pages by the first `width` columns."""
    after: tuple[Json, ...] = ("",) * width
    while rows := store.read(lambda transaction: getattr(transaction, method)(after, PIECE)):  # noqa: B023
        after = rows[-1][:width]
        yield from rows


class Progress:
    """Lines for the operator, one in PLAIN_SECONDS."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = time.monotonic()

    def show(self, text: str) -> None:
        if time.monotonic() - self._shown > PLAIN_SECONDS:
            self.say(text)

    def say(self, text: str) -> None:
        self._shown = time.monotonic()
        print(text, file=self._stream)
