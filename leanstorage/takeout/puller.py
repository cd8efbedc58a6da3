"""`pull --from URL`: a live app into the store, through schemas and the scan API with the master key. Section 9.3.

It can be killed anywhere and run again: how far it came is kept in the store, in the same transaction as the rows, as
records of the kind `pull:<source>`. A class is `{"since": ISO time, "after": last id or None, "is_done": bool}`, a
relation column the same without `since`; owners whose members have to be asked for again are of the kind
`pull-owner:<source>:<class>`. Each run ends with what changed since the last one began.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from leanstorage.rules import fingerprint, passwords, values
from leanstorage.rules.errors import StorageError
from leanstorage.store import Condition, Document, Json, now, open_store, Query, Row, Store, Transaction
from leanstorage.takeout import convert, credentials, load, pull_estimate, pull_files, pull_relations, raw_rows, repair, schema_notes
from leanstorage.takeout.budget import Budget, OutOfCalls
from leanstorage.takeout.formats import Columns
from leanstorage.takeout.remote import AnswerTooLarge, NO_PROGRESS, Remote, RemoteError
from leanstorage.takeout.pull import Pull
from leanstorage.takeout.report import Report
from leanstorage.takeout.sources import SourceError, printable
from leanstorage.takeout.wishes import NONE, Wishes


PAGE_ROWS = 1000
LEAST_ROWS = 10  # of a page, where single rows are huge
MARGIN_MS = 60_000  # how long a write may take from its time stamp to being seen
MISSING_AT_ONCE = 50  # ids in one query for what a pass did not see


def run(
    remote: Remote,
    database: str,
    keys: dict[str, str],
    refused_path: str | Path,
    blobs: Any = None,
    report: Report | None = None,
    wishes: Wishes = NONE,
) -> int:
    """Pull all classes or some, files' bytes into `blobs` if given; return the exit code.

    `keys` are those of the service here; `refused_path` is where a Report of its own keeps what was refused. Raises
    ValueError for a database that there cannot be, StoreUnavailable for one that does not do what it should.
    """
    report = report or Report(refused_path)
    store = open_store(database, bulk=True)
    try:
        fingerprint.refuse_others(store, keys)
    except BaseException:
        store.close()
        raise
    secret = passwords.token_secret(keys)
    job = convert.Job("", "rows", "json", secret, is_live=True)
    job = replace(job, is_repairing=wishes.is_repairing, rewrites=wishes.rewrites)
    pull = Pull(remote, store, job, report)
    budget = Budget(store, f"calls:{remote.source_id}", wishes.max_calls, wishes.is_patient, report.say, remote.clock)
    remote.before_call, remote.say = budget.take, report.say
    try:
        _run(pull, partial(fingerprint.check, store, keys), budget, wishes.only, blobs, wishes.delete_missing)
    except OutOfCalls as error:
        report.trouble(error)
    finally:
        remote.before_call = lambda: None
        budget.close()
        remote.close()
        store.close()
    if budget.made > 1:
        report.tell(f"calls to the API: {budget.made}; in the last 24 hours: {budget.recent()}")
    return report.close("pulled", with_files=False)


def _run(
    pull: Pull, bind: Callable[[], None], budget: Budget, only: Collection[str], blobs: Any, delete_missing: bool
) -> None:
    schemas = _schemas(pull, bind, only)
    if schemas is None:
        return
    try:
        _say_calls(pull, budget, schemas, blobs is not None)
    except OutOfCalls:
        raise
    except RemoteError as error:
        pull.report.trouble(error)
    _each(pull, schemas, partial(_class, pull, schemas))
    for name in schemas:
        pull_relations.run(pull, name)
    _each(pull, schemas, partial(_compare, pull, schemas, delete_missing))
    if "_User" in schemas:
        for text, count in [*credentials.missing(pull.store), *credentials.colliding(pull.store)]:
            pull.report.note("_User", text, count)
    if blobs is not None and "_File" in schemas:
        pull_files.run(pull, blobs)
    pull.report.count(pull.store, schemas)


def _say_calls(pull: Pull, budget: Budget, schemas: dict[str, Columns], with_files: bool) -> None:
    wanted = pull_estimate.calls(pull, schemas, with_files)
    days = f", {-(-wanted // budget.limit)} days at {budget.limit} a day" if budget.limit else ""
    pull.report.say(
        f"{wanted} calls to the API at most, if nothing changes there meanwhile{days};"
        f" in the last 24 hours: {budget.recent()}"
    )


def _schemas(pull: Pull, bind: Callable[[], None], only: Collection[str]) -> dict[str, Columns] | None:
    """{class: columns} of the app, declared in the store; None when the API cannot be used.

    Only keys that the API accepted `bind` the database, so that those which were made in a shell without any do not.
    """
    try:
        found = pull.remote.get("/schemas")
    except RemoteError as error:
        pull.report.trouble(error)
        return None
    bind()
    schemas: dict[str, Columns] = {}
    for name in sorted(found):
        try:
            class_name = values.check_class_name(name)
        except StorageError:
            pull.report.trouble(f"class {printable(name)}: not a class that this server can hold")
            continue
        if not only or class_name in only:
            schemas[class_name] = _columns(pull, class_name, found[name])
    for name in only:
        if name not in schemas:
            pull.report.trouble(f"class {printable(name)}: the app has no such class")
    pull.write(lambda transaction: load.load_schema(transaction, schemas, {}))
    schema_notes.tell(pull.report, schemas, {})
    return schemas


def _columns(pull: Pull, class_name: str, described: Json) -> Columns:
    """The columns of a class as far as they make sense."""
    columns: Columns = {}
    if not isinstance(described, dict):
        pull.report.trouble(f"class {class_name}: its columns are not described")
        return columns
    for key, column in described.items():
        if isinstance(column, dict) and isinstance(column.get("type"), str):
            columns[key] = column
        else:
            pull.report.trouble(f"class {class_name}: the type of its column {printable(key)} is not told")
    return columns


def _each(pull: Pull, names: Iterable[str], work: Callable[[str], None]) -> None:
    """Run work(name) for all classes, several at once; a class that fails is reported and the others go on."""
    with ThreadPoolExecutor(pull.remote.parallel) as pool:
        futures = {name: pool.submit(work, name) for name in names}
        try:
            for name, future in futures.items():
                try:
                    future.result()
                except OutOfCalls:
                    raise
                except (RemoteError, SourceError) as error:
                    pull.report.trouble(f"{name}: {error}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _class(pull: Pull, schemas: dict[str, Columns], name: str) -> None:
    """Everything of a class by id, then again what changed since that began."""
    has_relations = _has_relations(name, schemas[name])
    state = pull.state(name)
    if not state.get("is_done"):
        state = {"since": pull.remote.now(), "after": None, "is_done": False, **state}
        pull.report.begin(name, pull.count(name))
        _pass(pull, name, state, {})
        state |= {"is_done": True}
        pull.report.end(name)
    began = pull.remote.now()
    since = values.date(values.parse_time(state["since"]) - MARGIN_MS)
    changes = {"since": state["since"], "after": None, "is_done": True, "is_changes": True}
    _pass(pull, name, changes, {"updatedAt": {"$gte": since}}, has_relations)
    # A refused row may find its name free next time.
    is_clean = not pull.report.tally(name).refused
    final = {"since": began if is_clean else state["since"], "after": None, "is_done": True}
    pull.write(lambda transaction: transaction.put_record(pull.kind, name, final))


def _has_relations(name: str, columns: Columns) -> bool:
    return name == "_Role" or any(column["type"] == "Relation" for column in columns.values())


def _pass(pull: Pull, name: str, state: Document, where: Document, has_relations: bool = False) -> None:
    """One way through a class in the order of ids; every page is stored before the next one is asked for."""
    limit = PAGE_ROWS
    rows: Json = ()  # of the last page
    cursor: tuple[str, Document] | None = None  # and the query that it goes on with
    while True:
        here = dict(where)
        if state["after"] is not None:
            here["objectId"] = {"$gt": state["after"]}
        query = {"limit": limit, "returnACL": "true", "where": here}
        if cursor:
            query = {**cursor[1], "cursor": cursor[0]}
        try:
            answer = pull.remote.get(f"/scan/classes/{name}", **query)
        except AnswerTooLarge:
            if limit <= LEAST_ROWS:
                raise
            limit, cursor = max(limit // 4, LEAST_ROWS), None
            continue
        except RemoteError:
            if cursor is None or not rows:
                raise
            cursor = None  # it died: go on from the last id
            continue
        rows = answer.get("results")
        if not isinstance(rows, list) or not isinstance(answer.get("cursor") or "", str):
            raise RemoteError("the API's answer has no list of results, or a cursor that is none")
        ids = [row["objectId"] for row in rows if isinstance(row, dict) and isinstance(row.get("objectId"), str)]
        if cursor and ids and max(ids) <= (state["after"] or ""):
            raise RemoteError(NO_PROGRESS)
        if ids:
            state["after"] = max(ids)
        _store_page(pull, name, rows, None if state.get("is_changes") else state, has_relations)
        is_over = not rows and cursor is not None and answer.get("cursor") == cursor[0]  # it may be one cursor for all pages
        if is_over or not answer.get("cursor"):
            return
        cursor = (answer["cursor"], cursor[1] if cursor else query)


def _store_page(
    pull: Pull, name: str, rows: Sequence[Json], state: Document | None, has_relations: bool = False
) -> None:
    """Store a page, and with it how far the pass has come."""
    raw = [
        (number, json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        for number, row in enumerate(rows, 1)
    ]
    batch = raw_rows.Batch(raw, [], 0, 0)
    prepared = convert.convert(replace(pull.job, class_name=name), batch)

    def work(transaction: Transaction) -> load.Outcome:
        outcome, written = load.merge_rows(transaction, name, prepared)
        if has_relations:
            transaction.put_records([(pull.owners_kind(name), object_id, {}) for object_id in written])
        if state is not None:
            transaction.put_record(pull.kind, name, state)
        return outcome

    outcome = pull.write(work)
    for index, reason in [*prepared.refused, *outcome.refused]:
        pull.report.refuse(name, f"{pull.remote.url} {name}", index + 1, reason, raw[index][1])
    for index, (key, aside, reason) in sorted(outcome.moved):
        text = f"{key} is in {aside}: {reason}"
        pull.report.list_aside(name, repair.KIND, f"{pull.remote.url} {name}", index + 1, text, raw[index][1])
    for text in outcome.notes:
        pull.report.note(name, text)
    pull.report.advance(name, len(rows), outcome.imported, outcome.skipped, len(rows))


def _compare(pull: Pull, schemas: dict[str, Columns], delete_missing: bool, name: str) -> None:
    """Where the numbers of objects differ, compare ids: fetch what is missing here, tell what is gone there."""
    has_relations = _has_relations(name, schemas[name])
    here = pull.store.read(lambda transaction: transaction.count(Query(name)))
    if pull.remote.count(f"/classes/{name}") == here:
        return
    missing: list[str] = []
    gone: list[str] = []
    for object_id, side in _differences(_remote_ids(pull, name), _local_ids(pull.store, name)):
        (missing if side == "there" else gone).append(object_id)
    for at in range(0, len(missing), MISSING_AT_ONCE):
        part = {"objectId": {"$in": missing[at : at + MISSING_AT_ONCE]}}
        rows = pull.remote.rows(f"/scan/classes/{name}", limit=PAGE_ROWS, returnACL="true", where=part)
        _store_page(pull, name, rows, None, has_relations)
    if not gone:
        return

    def remove(transaction: Transaction) -> None:
        for object_id in gone:
            load.remove(transaction, pull, name, object_id, now())

    if delete_missing:
        pull.write(remove)
        pull.report.note(name, "objects deleted here, because they are gone there", len(gone))
    else:
        pull.report.note(
            name, "objects here are not there: new here, or deleted there (--delete takes them away)", len(gone)
        )


def _differences(there: Iterator[str], here: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Merge two sorted streams of ids; yield (id, "there" or "here") of those that only one has."""
    left, right = next(there, None), next(here, None)
    while left is not None or right is not None:
        if left is not None and (right is None or left < right):
            yield left, "there"
            left = next(there, None)
        elif right is not None and (left is None or right < left):
            yield right, "here"
            right = next(here, None)
        else:
            left, right = next(there, None), next(here, None)


def _remote_ids(pull: Pull, name: str) -> Iterator[str]:
    last: str | None = None
    while True:
        where = {} if last is None else {"objectId": {"$gt": last}}
        rows = pull.remote.rows(f"/scan/classes/{name}", limit=PAGE_ROWS, keys="objectId", where=where)
        ids = sorted(row["objectId"] for row in rows)
        if ids and last is not None and ids[0] <= last:
            raise RemoteError(NO_PROGRESS)
        yield from ids
        if not ids:
            return
        last = ids[-1]


def _local_ids(store: Store, name: str) -> Iterator[str]:
    for row in local_rows(store, name):
        yield row.id


def local_rows(store: Store, name: str, after: str | None = None) -> Iterator[Row]:
    """The stored rows of a class in the order of ids, page by page, those behind the id `after`."""
    while True:
        where = Condition("gt", ("objectId",), after or "")
        query = Query(name, where, order=((("objectId",), False),), limit=PAGE_ROWS)
        rows = store.read(lambda transaction: transaction.find(query))  # noqa: B023 it runs at once
        yield from rows
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1].id
