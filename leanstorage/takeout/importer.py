"""`import EXPORT...`: a console export or a backup into the store, as fast as the disk and two cores allow.

One process reads and stores, others convert. What is read is bounded everywhere, so memory does not grow with the
export. Join files of relations come last, when every class is known.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from leanstorage.rules import fingerprint, indexes, passwords, uniques
from leanstorage.rules.errors import StorageError
from leanstorage.store import Json, open_store, Store, Transaction
from leanstorage.takeout import bson_rows, convert, credentials, declarations, formats, inboxes, load, raw_rows, repair, schema_notes, sources
from leanstorage.takeout.convert import Job, Prepared
from leanstorage.takeout.formats import Content
from leanstorage.takeout.raw_rows import Batch
from leanstorage.takeout.report import Report
from leanstorage.takeout.sources import Member, printable, SourceError
from leanstorage.takeout.wishes import NONE, Wishes


INLINE_BATCHES = 6  # a small import is over before other processes would have started
MAX_WORKERS = 4
EXPORT_MS = 3_600_000  # that making an export may take: its join files may be older than its rows
NAMES = {"rows": "{0.class_name}", "relation": "{0.class_name}.{0.key}", "inboxes": inboxes.NAME}  # in the report, by kind
Part = TypeVar("Part")
Paths = Sequence[str | Path]
Index = tuple[str, list[str], bool]  # class, keys, whether it is unique
Work = Callable[[Transaction], Any]
Write = Callable[[Work], Any]  # runs work(transaction), which for a dry run is always the same one


def run(
    paths: Paths,
    database: str,
    keys: dict[str, str],
    refused_path: str | Path,
    is_dry: bool = False,
    rotate_sessions: bool = False,
    report: Report | None = None,
    wishes: Wishes = NONE,
) -> int:
    """Import files, folders and archives; return the exit code: 0 only if nothing was refused.

    `keys` are those of the service; `refused_path` is where a Report of its own keeps what was refused; Raises ValueError for a database that there cannot be, StoreUnavailable for
    one that does not do what it should.
    """
    report = report or Report(refused_path)
    store = open_store(database, bulk=True)
    secret = passwords.token_secret(keys)
    job = Job(wishes.class_name or "", "", "", secret, rotate_sessions)
    job = replace(job, is_repairing=wishes.is_repairing, rewrites=wishes.rewrites)
    try:
        fingerprint.check(store, keys)
        if is_dry:
            report.say("dry run: everything is tried, nothing is kept; other writers wait")
            try:
                store.write(partial(_try, paths, job, report))
            except _Undone:
                pass
        else:
            wanted = _import(paths, partial(load.stored, store), job, report)
            _build_indexes(store, wanted, report)
            names = store.read(lambda transaction: transaction.class_names())
            report.count(store, [name for name in names if name in report.tallies])
            _note_cases(report, names)
            for text, count in credentials.colliding(store) if "_User" in report.tallies else ():
                report.note("_User", text, count)
    finally:
        store.close()
    return report.close("would import" if is_dry else "imported")


def _note_cases(report: Report, names: Sequence[str]) -> None:
    """Tell of classes that a file named like others but for capital letters: some systems rename files."""
    for name in names:
        others = [other for other in names if other != name and other.lower() == name.lower()]
        if name in report.tallies and others:
            report.note(name, f"classes that differ from {', '.join(others)} by capital letters alone")


class _Undone(Exception):
    """Ends the transaction of a dry run."""


def _try(paths: Paths, job: Job, report: Report, transaction: Transaction) -> None:
    _import(paths, lambda work: work(transaction), job, report)
    raise _Undone


def _build_indexes(store: Store, wanted: Iterable[Index], report: Report) -> None:
    """Make the indexes that schema files of our own exports list, once the rows are here."""
    for class_name, keys, is_unique in wanted:
        if not is_unique and keys in store.read(lambda transaction: indexes.listed(transaction, class_name)):  # noqa: B023
            continue
        try:
            (uniques if is_unique else indexes).create(store, class_name, keys)
        except (ValueError, StorageError) as error:
            report.trouble(f"index of {class_name} {' '.join(keys)}: {error}")
        else:
            report.note(class_name, "indexes made")


def _import(paths: Paths, write: Write, job: Job, report: Report) -> list[Index]:
    """Import everything; return the indexes that are wanted."""
    start_seq = write(lambda transaction: transaction.last_seq())
    with Converters() as converters:
        importing = _Importing(write, report, converters, start_seq, job)
        importing.run(paths)
        if importing.with_joins:
            importing.run(paths, joins=True)
            joined = importing.joined.items()
            # Only now: an import that was killed brought a part of the members.
            whole = {name: at for name, at in joined if name not in importing.broken and not report.tally(name).refused}
            write(lambda transaction: load.remember_joined(transaction, whole))
    if not importing.has_found and not report.broken_count:
        report.trouble(f"nothing that could be imported is in {', '.join(map(str, paths))}")
    return importing.indexes


class _Importing:
    """One import: the files in turn, their batches through the converters, in order into the store.

    `job` is what all files share; its class is that of files that do not tell their own.
    """

    def __init__(
        self, write: Write, report: Report, converters: "Converters", start_seq: int, job: Job
    ) -> None:
        self._write = write
        self._report = report
        self._converters = converters
        self._start_seq = start_seq
        self._job = job
        self.indexes: list[Index] = []
        self.with_joins: set[str] = set()  # labels of members that have rows of relations
        self._newest: dict[tuple[str, str], int] = {}  # (folder or archive, class) -> greatest `updatedAt`, in ms
        self.joined: dict[str, int] = {}  # relation -> since when an owner must have changed to have other members, in ms
        self.broken: set[str] = set()  # names of files that could not be read to their end
        self.has_found = False  # anything, were it only an empty class

    def run(self, paths: Paths, joins: bool = False) -> None:
        """Import everything but rows of relations, or these alone."""
        for member in sources.members(paths):
            try:
                if isinstance(member, SourceError):
                    raise member
                if not joins or member.label in self.with_joins:
                    self._member(member, joins)
            except SourceError as error:
                self._report.fail(error)

    def _member(self, member: Member, joins: bool) -> None:
        for content in _labelled(member, formats.contents(member, self._job.class_name or None)):
            is_join = content.kind == "relation"
            if not joins:
                self._first_sight(member, content, is_join)
            if is_join == joins:
                self._one(member, content)

    def _first_sight(self, member: Member, content: Content, is_join: bool) -> None:
        if is_join:
            self.with_joins.add(member.label)
        if content.kind == "other":
            self._report.pass_over(member.label)
        elif content.kind != "nothing":
            self.has_found = True
        elif not formats.is_beside(member.name):
            self._report.pass_over(f"{member.label} (empty)")
        if member.encoding != "utf-8":
            self._report.say(f"{printable(member.label)}: read as {member.encoding.upper()}")
            member.encoding = "utf-8"  # said once

    def _one(self, member: Member, content: Content) -> None:
        if content.kind == "schema":
            try:
                self._write(lambda transaction: load.load_schema(transaction, content.schemas, content.settings))
            except StorageError as error:
                raise SourceError(f"{member.label}: {error.message}") from None
            schema_notes.tell(self._report, content.schemas, content.settings)
            for name, described in content.schemas.items():
                wanted = declarations.indexes(name, described, content.settings.get("indexes"))
                self.indexes += [(name, keys, True) for keys in wanted.unique]
                self.indexes += [(name, keys, False) for keys in _indexes(content.settings.get("indexes"))]
                self.indexes += [(name, keys, True) for keys in _indexes(content.settings.get("unique"))]
        if content.kind not in NAMES:
            return
        if content.encoding == "bson" and not bson_rows.is_available():
            raise SourceError(f"{member.label}: reading BSON needs PyMongo: pip install pymongo")
        name = NAMES[content.kind].format(content)
        job = replace(
            self._job,
            class_name=content.class_name,
            kind=content.kind,
            encoding=content.encoding,
            dates=content.dates,
        )
        self._report.begin(name, member.size)
        if content.kind == "relation":
            as_of = max(self._newest.get(_place(member.label, content), 0) - EXPORT_MS, 0)
            self.joined[name] = min(as_of, self.joined.get(name, as_of))
        try:
            for batch, prepared in self._converters.map(job, _labelled(member, raw_rows.batches(content.pieces))):
                several = _take_several(batch, prepared) if content.encoding == "json" else None
                self._store(name, member.label, content, batch, prepared)
                if several:
                    self._store(name, member.label, content, several, convert.convert(job, several))
        except SourceError:
            self.broken.add(name)
            raise
        finally:
            self._report.end(name)

    def _store(self, name: str, label: str, content: Content, batch: Batch, prepared: Prepared) -> None:
        if content.kind == "rows":
            place = _place(label, content)
            self._newest[place] = max(self._newest.get(place, 0), prepared.newest)
            work: Work = partial(_load_rows, content.class_name, prepared, self._start_seq, self._job.secret)
        elif content.kind == "relation":
            work = partial(_load_relation, content, prepared)
        else:
            work = partial(_load_inboxes, prepared)
        try:
            outcome: load.Outcome = self._write(work)
        except ValueError as error:
            accepted = [one[0] for part in (prepared.rows, prepared.pairs, prepared.lines) for one in part]
            outcome = load.Outcome(refused=[(index, str(error)) for index in accepted])
        refused = list(batch.problems)
        for index, reason in [*prepared.refused, *outcome.refused]:
            number, data = batch.rows[index]
            refused.append((number, reason, data))
        for number, reason, data in sorted(refused, key=lambda one: one[0]):
            self._report.refuse(name, label, number, reason, data)
        for index, (key, aside, reason) in sorted(outcome.moved):
            number, data = batch.rows[index]
            self._report.list_aside(name, repair.KIND, label, number, f"{key} is in {aside}: {reason}", data)
        for text in outcome.notes:
            self._report.note(name, text)
        read = len(batch.rows) + len(batch.problems) - batch.moved
        self._report.advance(name, read, outcome.imported, outcome.skipped, batch.size)


def _labelled(member: Member, found: Iterable[Part]) -> Iterator[Part]:
    """What is found in a file; an error within it names the file."""
    try:
        yield from found
    except SourceError as error:
        archive = member.label.split(":")[0]
        raise SourceError(str(error) if str(error).startswith(archive) else f"{member.label}: {error}") from None


def _place(label: str, content: Content) -> tuple[str, str]:
    """What the rows and the relations of one class in one export share: the folder or the archive, and the class."""
    return label[: max(label.rfind("/"), label.rfind(":")) + 1], content.class_name


def _take_several(batch: Batch, prepared: Prepared) -> Batch | None:
    """Take the lines that hold several objects out of a batch, and return these as one of their own."""
    several: list[tuple[int, bytes]] = []
    rest: list[tuple[int, str]] = []
    for index, reason in prepared.refused:
        number, data = batch.rows[index]
        found = raw_rows.split_objects(data) if reason == convert.NOT_JSON else []
        several += [(number, one) for one in found]
        if not found:
            rest.append((index, reason))
    taken = len(prepared.refused) - len(rest)
    prepared.refused = rest
    batch.moved = taken
    return Batch(several, [], 0, batch.rows[0][0]) if several else None


def _load_rows(
    class_name: str, prepared: Prepared, start_seq: int, secret: bytes, transaction: Transaction
) -> load.Outcome:
    return load.load_rows(transaction, class_name, prepared, start_seq, secret)


def _load_relation(content: Content, prepared: Prepared, transaction: Transaction) -> load.Outcome:
    return load.load_relation(transaction, content, prepared)


def _load_inboxes(prepared: Prepared, transaction: Transaction) -> load.Outcome:
    return load.Outcome(*inboxes.load(transaction, prepared.lines))


def _indexes(found: Json) -> list[list[str]]:
    """The indexes of a schema file as far as they are lists of names."""
    return [
        keys
        for keys in (found if isinstance(found, list) else ())
        if isinstance(keys, list) and keys and all(isinstance(key, str) for key in keys)
    ]


class Converters:
    """Converts batches, the first few here, the others in processes of their own, always in order."""

    def __init__(self, workers: int | None = None) -> None:
        self._workers = min(os.cpu_count() or 1, MAX_WORKERS) if workers is None else workers
        self._pool: ProcessPoolExecutor | None = None
        self._done = 0

    def __enter__(self) -> "Converters":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, job: Job, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Prepared]]:
        """Yield (batch, Prepared) of each batch. An error of `batches` is raised after what came before it."""
        pending = deque[tuple[Batch, Future[Prepared]]]()
        broken: SourceError | None = None
        batches = iter(batches)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                break
            except SourceError as error:
                broken = error
                break
            self._done += 1
            if self._workers < 2 or self._done <= INLINE_BATCHES:
                yield batch, convert.convert(job, batch)
                continue
            pending.append((batch, self._start().submit(convert.convert, job, batch)))
            if len(pending) > self._workers + 1:
                batch, future = pending.popleft()
                yield batch, future.result()
        while pending:
            batch, future = pending.popleft()
            yield batch, future.result()
        if broken:
            raise broken

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Forked workers share this process's memory, spawned ones load everything again; but with other threads
            # running, a fork may copy a lock that nobody will ever release.
            is_alone = sys.platform == "linux" and threading.active_count() == 1
            context = multiprocessing.get_context("fork" if is_alone else "spawn")
            self._pool = ProcessPoolExecutor(self._workers, context, _prepare_worker)
        return self._pool


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    gc.set_threshold(200_000)  # rows are trees: nothing to collect, and looking for it costs a third of the time
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """A parent that was killed leaves its workers waiting for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
