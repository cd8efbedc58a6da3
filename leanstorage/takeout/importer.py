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
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from leanstorage import passwords
from leanstorage.store import open_store
from leanstorage.takeout import bson_rows, convert, formats, load, sources
from leanstorage.takeout.report import Report
from leanstorage.takeout.sources import SourceError

INLINE_BATCHES = 6  # a small import is over before other processes would have started
MAX_WORKERS = 4


def run(paths, database, keys, refused_path, is_dry=False, rotate_sessions=False, report=None):
    """Import files, folders and archives; return the exit code: 0 only if nothing was refused."""
    report = report or Report(refused_path)
    store = open_store(database, bulk=True)
    secret = passwords.token_secret(keys)
    try:
        if is_dry:
            report.say("dry run: everything is tried, nothing is kept; other writers wait")
            try:
                store.write(partial(_try, paths, secret, rotate_sessions, report))
            except _Undone:
                pass
        else:
            _import(paths, partial(load.stored, store), secret, rotate_sessions, report)
    finally:
        store.close()
    return report.close("would import" if is_dry else "imported")


class _Undone(Exception):
    """Ends the transaction of a dry run."""


def _try(paths, secret, rotate_sessions, report, transaction):
    _import(paths, lambda work: work(transaction), secret, rotate_sessions, report)
    raise _Undone


def _import(paths, write, secret, rotate_sessions, report):
    """`write(work)` runs work(transaction), which for a dry run is always the same one."""
    start_seq = write(lambda transaction: transaction.last_seq())
    with Converters() as converters:
        importing = _Importing(write, report, converters, start_seq, secret, rotate_sessions)
        has_joins = importing.run(paths, joins=False)
        if has_joins:
            importing.run(paths, joins=True)


class _Importing:
    """One import: the files in turn, their batches through the converters, in order into the store."""

    def __init__(self, write, report, converters, start_seq, secret, rotate_sessions):
        self._write = write
        self._report = report
        self._converters = converters
        self._start_seq = start_seq
        self._secret = secret
        self._rotate_sessions = rotate_sessions

    def run(self, paths, joins):
        """Import everything but join files, or these alone; return whether join files were met."""
        met = False
        for member in sources.members(paths):
            try:
                if isinstance(member, SourceError):
                    raise member
                content = formats.content(member)
                met = met or content.kind == "relation"
                if (content.kind == "relation") == joins:
                    self._one(member, content)
            except SourceError as error:
                self._report.fail(error)
        return met

    def _one(self, member, content):
        if content.kind == "schema":
            self._write(lambda transaction: load.load_schema(transaction, content.schemas, content.settings))
        if content.kind not in ("rows", "relation"):
            return
        if content.encoding == "bson" and not bson_rows.is_available():
            raise SourceError(f"{member.label}: reading BSON needs PyMongo: pip install pymongo")
        name = content.class_name if content.kind == "rows" else f"{content.class_name}.{content.key}"
        job = convert.Job(content.class_name, content.kind, content.encoding, self._secret, self._rotate_sessions)
        self._report.begin(name, member.size)
        try:
            for batch, prepared in self._converters.map(job, self._batches(content, member)):
                self._store(name, member.label, content, batch, prepared)
        finally:
            self._report.end(name)

    def _batches(self, content, member):
        """The batches of a file; an error within it names the file."""
        try:
            yield from formats.batches(content.pieces)
        except SourceError as error:
            archive = member.label.split(":")[0]
            text = str(error) if str(error).startswith(archive) else f"{member.label}: {error}"
            raise SourceError(text) from None

    def _store(self, name, label, content, batch, prepared):
        if content.kind == "rows":
            work = partial(_load_rows, content.class_name, prepared, self._start_seq)
        else:
            work = partial(_load_relation, content, prepared)
        try:
            outcome = self._write(work)
        except ValueError as error:
            outcome = load.Outcome(refused=[(index, str(error)) for index, _, _ in prepared.rows])
        refused = list(batch.problems)
        for index, reason in [*prepared.refused, *outcome.refused]:
            number, data = batch.rows[index]
            refused.append((number, reason, data))
        for number, reason, data in sorted(refused, key=lambda one: one[0]):
            self._report.refuse(name, label, number, reason, data)
        for text in outcome.notes:
            self._report.note(name, text)
        read = len(batch.rows) + len(batch.problems)
        self._report.advance(name, read, outcome.imported, outcome.skipped, batch.size)


def _load_rows(class_name, prepared, start_seq, transaction):
    return load.load_rows(transaction, class_name, prepared, start_seq)


def _load_relation(content, prepared, transaction):
    return load.load_relation(transaction, content, prepared)


class Converters:
    """Converts batches, the first few here, the others in processes of their own, always in order."""

    def __init__(self, workers=None):
        self._workers = min(os.cpu_count() or 1, MAX_WORKERS) if workers is None else workers
        self._pool = None
        self._done = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, job, batches):
        """Yield (batch, Prepared) of each batch. An error of `batches` is raised after what came before it."""
        pending = deque()
        broken = None
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

    def _start(self):
        if self._pool is None:
            # Forked workers share this process's memory, spawned ones load everything again; but with other threads
            # running, a fork may copy a lock that nobody will ever release.
            is_alone = sys.platform == "linux" and threading.active_count() == 1
            context = multiprocessing.get_context("fork" if is_alone else "spawn")
            self._pool = ProcessPoolExecutor(self._workers, context, _prepare_worker)
        return self._pool


def _prepare_worker():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    gc.set_threshold(200_000)  # rows are trees: nothing to collect, and looking for it costs a third of the time
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent():
    """A parent that was killed leaves its workers waiting for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
