"""Storing batches of converted rows: what exists is left alone, what does not fit is refused, the rest goes in at once.

Each function is one transaction's work. No hooks run and no permissions are checked: this is the operator.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leanstorage.resources import sessions
from leanstorage.rules import acl, classes, numbering, uniques, values
from leanstorage.rules.errors import StorageError
from leanstorage.store import (
    canonical_text,
    Document,
    Json,
    Result,
    Row,
    Store,
    StoreUnavailable,
    Transaction,
    type_of,
)
from leanstorage.takeout import credentials, declarations, duplicates, origin, repair
from leanstorage.takeout.convert import PRIVATE_KEYS, Column, Entry, Extra, Prepared, Record, unique_names
from leanstorage.takeout.formats import Columns, Content
from leanstorage.takeout.repair import Moved


TRIES = 6  # of a batch, when another process is writing
TYPES = frozenset(["String", "Number", "Boolean", "Array", "Object", "Date", "Bytes", "File", "GeoPoint"])
JOINED = "joined"  # records of relation columns whose members an import brought since they were pulled
PULL = "pull:"  # how the kinds of records begin that say how far a pull came, see `puller`
PAGE_ROWS = 1000
SAMPLE = 200  # ids of a relation that are looked up when nothing tells their class
Names = dict[str, set[tuple[str, str]]]  # object id -> kinds and keys of the records that it gives up


@dataclass
class Outcome:
    """`refused` holds (index in the batch, reason) of rows that the converter had accepted, `notes` texts to count."""

    imported: int = 0
    skipped: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    moved: list[tuple[int, Moved]] = field(default_factory=list)  # index, what a repair moved aside


def stored(store: Store, work: Callable[[Transaction], Result]) -> Result:
    """`store.write(work)`, tried again while another process is in the way; raise StoreUnavailable in the end."""
    for attempt in range(TRIES - 1):
        try:
            return store.write(work)
        except StoreUnavailable:
            time.sleep(0.2 * 2**attempt)
    return store.write(work)


def load_rows(
    transaction: Transaction, class_name: str, prepared: Prepared, start_seq: int, secret: bytes
) -> Outcome:
    """Store a Prepared batch: what is new, and what is newer than here unless the row was changed here.

    Rows whose id came after `start_seq` come twice. Users who are here already get the newer password and session;
    `secret` is that of the tokens.
    """
    outcome = Outcome()
    info = classes.load(transaction, class_name, lock=True) or classes.empty_info(class_name)
    since = origin.since(transaction, class_name)
    taken = transaction.taken(class_name, [row[0] for _, row, _ in prepared.rows])
    found = duplicates.split(prepared, taken, start_seq)
    old = transaction.get_many(class_name, [row[0] for _, row, _ in found.known]) if found.known else {}
    duplicates.drop_others(found, old)
    new, known = found.new, found.known
    outcome.refused += found.refused
    outcome.skipped += found.same
    outcome.notes += [duplicates.SAME] * (found.same + sum(row[0] in found.again for _, row, _ in known))
    newer = _newer(transaction, class_name, since, known, old, outcome, prepared.undated)
    if class_name == "_User" and known:
        outcome.notes += credentials.renew(transaction, known, secret)
        newer = [(index, row, _without_secrets(extra)) for index, row, extra in newer]
    rows = _put(transaction, class_name, info, since, [*newer, *new], old, prepared, outcome)
    outcome.notes += [origin.NEWER for _, row, _ in rows if row[0] in old]
    return outcome


def merge_rows(transaction: Transaction, class_name: str, prepared: Prepared) -> tuple[Outcome, list[str]]:
    """Insert what is new and replace what is older than the Prepared rows; what was changed here since stays.

    Returns also the ids that were inserted or replaced.
    """
    outcome = Outcome()
    info = classes.load(transaction, class_name, lock=True) or classes.empty_info(class_name)
    since = origin.since(transaction, class_name)
    old = transaction.get_many(class_name, [row[0] for _, row, _ in prepared.rows])
    first = {entry[1][0]: entry for entry in reversed(prepared.rows)}
    outcome.skipped = len(prepared.rows) - len(first)
    new = [entry for object_id, entry in first.items() if object_id not in old]
    known = [entry for object_id, entry in first.items() if object_id in old]
    newer = _newer(transaction, class_name, since, known, old, outcome)
    rows = _put(transaction, class_name, info, since, [*newer, *new], old, prepared, outcome)
    return outcome, [row[0] for _, row, _ in rows]


def _newer(
    transaction: Transaction,
    class_name: str,
    since: int,
    known: list[Entry],
    old: dict[str, Row],
    outcome: Outcome,
    undated: Collection[int] = (),
) -> list[Entry]:
    """Those of the `known` entries that replace what is here; the others, and `undated` ones, are skipped."""
    newer = [entry for entry in known if old[entry[1][0]].updated < entry[1][2] and entry[0] not in undated]
    unchanged = origin.unchanged(transaction, class_name, since, old) if newer else set()
    kept = [entry for entry in newer if entry[1][0] in unchanged]
    outcome.notes += [origin.KEPT] * (len(newer) - len(kept))
    outcome.skipped += len(known) - len(kept)
    return kept


def _put(
    transaction: Transaction,
    class_name: str,
    info: Document,
    since: int,
    rows: list[Entry],
    old: dict[str, Row],
    prepared: Prepared,
    outcome: Outcome,
) -> list[Entry]:
    """Store those of the `rows` that fit, over `old` ones; who gives up a name must come before who takes it."""
    freed: Names = {}
    if info.get("unique") or info.get("unique_begun"):
        rows = [_with_uniques(class_name, info, entry) for entry in rows]
    for _, row, extra in rows:
        if row[0] in old and extra:
            body = old[row[0]].body
            names = {unique[:2] for unique in unique_names(class_name, body)} | uniques.records(class_name, info, body).keys()
            freed[row[0]] = names - {unique[:2] for unique in extra["unique"]}
    rows = _fitting(transaction, class_name, info, rows, prepared, outcome, freed)
    transaction.insert_many(class_name, [row for _, row, _ in rows if row[0] not in old])
    for _, row, _ in rows if old else ():
        if row[0] in old:
            before = old[row[0]]
            for kind, key in freed.get(row[0], ()):
                transaction.delete_record(kind, key)
            transaction.update(
                class_name, Row(before.id, before.created, row[2], row[3], json.loads(row[4]), before.seq)
            )
    _put_records(transaction, rows)
    if numbering.keys(info):
        numbering.follow(transaction, class_name, info, [json.loads(row[4]) for _, row, _ in rows])
    origin.remember(transaction, class_name, since, rows)
    outcome.imported = len(rows)
    outcome.notes += [text for index, _, _ in rows for text in prepared.notes.get(index, ())]
    return rows


def _with_uniques(class_name: str, info: Document, entry: Entry) -> Entry:
    """An entry with the records of the class's unique indexes."""
    index, row, extra = entry
    extra = extra or {"unique": [], "records": []}
    own = [(*one, keys) for one, keys in uniques.records(class_name, info, json.loads(row[4])).items()]
    return index, row, {**extra, "unique": [*extra["unique"], *own]}


def _without_secrets(extra: Extra | None) -> Extra | None:
    """What is kept beside a user who is here already: `credentials` decides on the rest."""
    return extra and {"unique": [one for one in extra["unique"] if one[0] != "session"], "records": []}


def _fitting(
    transaction: Transaction,
    class_name: str,
    info: Document,
    rows: list[Entry],
    prepared: Prepared,
    outcome: Outcome,
    freed: Names,
) -> list[Entry]:
    """Rows whose types fit and whose names are free; the class learns their columns."""
    is_new = info.pop("is_new", False)
    rows, is_changed = _with_right_types(info["columns"], rows, prepared, outcome)
    if is_new or is_changed:
        transaction.save_class(class_name, info)
    rows = _with_free_names(transaction, rows, outcome, freed)
    if prepared.is_repairing:
        stored = {entry[0] for entry in rows}
        outcome.moved = [one for one in [*prepared.moved, *outcome.moved] if one[0] in stored]
    return rows


def _put_records(transaction: Transaction, rows: Iterable[Entry]) -> None:
    records = [record for _, row, extra in rows if extra for record in _records(row[0], extra)]
    if records:
        transaction.put_records(_without_kept_files(transaction, records))


def _with_free_names(
    transaction: Transaction, rows: list[Entry], outcome: Outcome, freed: Names
) -> list[Entry]:
    """Without rows whose unique values (names, accounts, sessions) belong to another object.

    `freed` is what a row of these gives up when it is stored.
    """
    wanted = defaultdict[str, set[str]](set)
    for _, _, extra in rows:
        for kind, key, _ in extra["unique"] if extra else ():
            wanted[kind].add(key)
    if not wanted:
        return rows
    found = {kind: transaction.records_of(kind, list(keys)) for kind, keys in wanted.items()}
    used = {kind: {key: one.get("id") or one.get("user") for key, one in of.items()} for kind, of in found.items()}
    kept = []
    for entry in rows:
        unique, object_id = entry[2]["unique"] if entry[2] else (), entry[1][0]
        name = next((name for kind, key, name in unique if used[kind].get(key, object_id) != object_id), None)
        if name is not None:
            outcome.refused.append((entry[0], f"its {name} belongs to another object"))
            continue
        for kind, key, _ in unique:
            used[kind][key] = object_id
        for kind, key in freed.get(object_id, ()):
            used.get(kind, {}).pop(key, None)
        kept.append(entry)
    return kept


def _records(object_id: str, extra: Extra) -> Iterator[Record]:
    for kind, key, _ in extra["unique"]:
        yield kind, key, {"user" if kind == "session" else "id": object_id}
    yield from extra["records"]


def _without_kept_files(transaction: Transaction, records: Sequence[Record]) -> list[Record]:
    """Of several files that share a key the first one stays the key's owner."""
    kept = set(transaction.records_of("file", [key for kind, key, _ in records if kind == "file"]))
    result = []
    for record in records:
        if record[0] == "file":
            if record[1] in kept:
                continue
            kept.add(record[1])
        result.append(record)
    return result


def _with_right_types(
    columns: Columns, rows: list[Entry], prepared: Prepared, outcome: Outcome
) -> tuple[list[Entry], bool]:
    """(rows that fit the class's columns, whether `columns` were added to)."""
    new: Columns = {}
    fits = True
    for key, kind, class_name in sorted(prepared.types, key=_relations_last):
        column = _column(kind, class_name)
        if columns.get(key, column) != column or new.get(key, column) != column:
            fits = False
        new[key] = column
    new = {key: column for key, column in new.items() if key not in columns}
    if fits and len(columns) + len(new) <= classes.MAX_COLUMNS:
        columns.update(new)
        return rows, bool(new)
    before = len(columns)
    for key, column in new.items():
        if column["type"] == "Relation" and len(columns) < classes.MAX_COLUMNS:  # declared by stubs, which are no part of a row
            columns[key] = column
    kept = []
    if prepared.is_repairing:
        rows = _repaired(columns, rows, outcome)
    for entry in rows:
        reason = _admit_columns(columns, json.loads(entry[1][4]))
        if reason:
            outcome.refused.append((entry[0], reason))
        else:
            kept.append(entry)
    return kept, len(columns) != before


def _relations_last(column: Column) -> tuple[bool, str, str, str]:
    """An order in which a relation, whose members cannot be moved aside, is known before values that can."""
    key, kind, class_name = column
    return kind == "Relation", key, kind, class_name or ""


def _repaired(columns: Columns, rows: list[Entry], outcome: Outcome) -> list[Entry]:
    """Rows with the values moved aside whose type is not that of the column; a new column has the type of most."""
    bodies = [json.loads(row[4]) for _, row, _ in rows]
    types: dict[str, Counter[tuple[str, str | None]]] = defaultdict(Counter)
    for body in bodies:
        for key, value in body.items():
            column = type_of(value)
            if column is not None:
                types[key][column["type"], column.get("className")] += 1
    wanted = {key: columns.get(key) or _column(*found.most_common(1)[0][0]) for key, found in types.items()}
    result = []
    for (index, row, extra), body in zip(rows, bodies, strict=True):
        is_changed = False
        for key in list(body):
            column = type_of(body[key])
            if column is not None and column != wanted[key]:
                texts = {name for name, known in columns.items() if known != {"type": "String"}}
                reason = f"of type {classes.describe(column)}, in its class it is {classes.describe(wanted[key])}"
                outcome.moved.append((index, repair.move(body, key, reason, texts)))
                is_changed = True
        result.append((index, (*row[:4], canonical_text(body)), extra) if is_changed else (index, row, extra))
    return result


def _admit_columns(columns: Columns, body: Document) -> str | None:
    """Add a row's new columns, or say why it does not fit."""
    found = {key: column for key, value in body.items() if (column := type_of(value)) is not None}
    for key, column in found.items():
        known = columns.get(key)
        if known is not None and known != column:
            return f"'{key}' is of type {classes.describe(column)}, in its class it is {classes.describe(known)}"
    new = {key: column for key, column in found.items() if key not in columns}
    if len(columns) + len(new) > classes.MAX_COLUMNS:
        return f"its class would have more than {classes.MAX_COLUMNS} fields"
    columns.update(new)
    return None


def _column(kind: str, class_name: str | None) -> Document:
    return {"type": kind} if class_name is None else {"type": kind, "className": class_name}


def load_relation(transaction: Transaction, content: Content, prepared: Prepared) -> Outcome:
    """Add a batch of a join file. Raises ValueError when nothing tells which class the members are of."""
    info = classes.load(transaction, content.class_name, lock=True) or classes.empty_info(content.class_name)
    column = info["columns"].get(content.key)
    pairs = [pair for _, pair in prepared.pairs]
    if column is None:
        target = content.target or _target_of(transaction, [related for _, related in pairs])
        column = info["columns"][content.key] = {"type": "Relation", "className": target}
        info.pop("is_new", None)
        transaction.save_class(content.class_name, info)
    if column["type"] != "Relation" or content.target not in (None, column["className"]):
        described = classes.describe(column)
        raise ValueError(f"'{content.key}' of {content.class_name} is a {described} and not this relation")
    imported = transaction.relate_many(content.class_name, content.key, column["className"], pairs)
    if imported:
        _ask_again(transaction, f"{content.class_name}.{content.key}")
    return Outcome(imported, len(pairs) - imported)


def remember_joined(transaction: Transaction, joined: Mapping[str, int]) -> None:
    """Remember for `Class.key`s since when, in ms, an owner must have changed to have other members than those here."""
    for name, as_of in joined.items():
        known = transaction.record(JOINED, name)
        if known is None or known["as_of"] > as_of:
            transaction.put_record(JOINED, name, {"as_of": as_of})


def _ask_again(transaction: Transaction, name: str) -> None:
    """Let the next pull ask for members once more: an export may be older than the last one."""
    after = (PULL, "")
    while found := transaction.all_records(after, PAGE_ROWS):
        for kind, key, _, _ in found:
            if not kind.startswith(PULL):
                return
            if key == name:
                transaction.delete_record(kind, key)
        after = found[-1][:2]


def set_members(
    transaction: Transaction, class_name: str, key: str, target_class: str, owner: str, members: Iterable[str]
) -> int:
    """Make `members` the whole relation of one owner; return how many were new."""
    wanted = set(members)
    gone = [one for one in transaction.members(class_name, key, owner, target_class) if one not in wanted]
    transaction.unrelate(class_name, key, owner, target_class, gone)
    return transaction.relate_many(class_name, key, target_class, [(owner, member) for member in members])


def remove(transaction: Transaction, service: Any, class_name: str, object_id: str, at: int) -> None:
    """Delete an object with what was kept beside it, at `at` ms; `service` is whatever has the `token_secret`."""
    row = transaction.get(class_name, object_id)
    if row is None:
        return
    for kind, key, _ in unique_names(class_name, row.body):
        transaction.delete_record(kind, key)
    uniques.keep(transaction, class_name, classes.existing(transaction, class_name), object_id, row.body, None)
    if class_name == "_File" and row.body.get("key"):
        transaction.delete_record("file", row.body["key"])
    if class_name == "_User":
        sessions.forget(transaction, service, object_id)
    transaction.delete(class_name, object_id, at)


def _target_of(transaction: Transaction, ids: Sequence[str]) -> str:
    sample = ids[:SAMPLE]
    holding = [name for name in transaction.class_names() if transaction.taken(name, sample)]
    if len(holding) != 1:
        raise ValueError("nothing tells the class of the relation's members: import the class's schema file first")
    return holding[0]


def load_schema(transaction: Transaction, schemas: dict[str, Columns], settings: Document) -> None:
    """Declare the columns of schema files that are not known yet; settings only where the class still has none.

    Raises 123 for a malformed default ACL.
    """
    for class_name, described in schemas.items():
        info = classes.load(transaction, class_name, lock=True) or classes.empty_info(class_name)
        for key, column in described.items():
            found = _described(class_name, key, column)
            if found and len(info["columns"]) < classes.MAX_COLUMNS:
                info["columns"].setdefault(key, found)
        permissions, rights = permissions_of(settings.get("permissions")), settings.get("default_acl")
        if info["permissions"] == classes.DEFAULT_PERMISSIONS.get(class_name, {}) and permissions is not None:
            info["permissions"] = permissions
        if info["default_acl"] is None:
            info["default_acl"] = acl.normalise(rights) if isinstance(rights, dict) else declarations.default_acl(described)
        _add_options(transaction, class_name, info, described, settings.get("options"))
        info.pop("is_new", None)
        transaction.save_class(class_name, info)


def _add_options(transaction: Transaction, class_name: str, info: Document, described: Columns, options: Json) -> None:
    """Give those columns their options that have none here: what LeanCloud says with the column, our own exports apart."""
    own = options if isinstance(options, dict) else {}
    own = {key: one for key, one in own.items() if key not in classes.BUILT_IN_COLUMNS and _is_option(class_name, info["columns"].get(key), one)}
    known = info.get("options", {})
    wanted = declarations.options(class_name, described, info["columns"]) | own
    new = {key: one for key, one in wanted.items() if key not in known}
    # What nobody was to see there is seen by nobody here, whatever else is known of the column.
    unseen = {key: {**known[key], "hidden": True} for key, one in wanted.items() if key in known and one.get("hidden")}
    info["options"] = new | known | unseen
    for key in numbering.keys({"options": new}):
        numbering.start(transaction, class_name, key)


def _is_option(class_name: str, column: Document | None, value: Json) -> bool:
    """Whether this is the default of a column, whether it is required and counts, as our own exports have them."""
    if not isinstance(value, dict) or not value.keys() <= {"default", *classes.FLAGS}:
        return False
    if any(value.get(name, True) is not True for name in classes.FLAGS):
        return False
    if "auto_increment" in value and not numbering.may_count(class_name, column):
        return False
    if column is None:  # whose values are still to come
        return value.keys() == {"hidden"}
    return "default" not in value or type_of(values.normalise(value["default"])) == column


def permissions_of(value: Json) -> Document | None:
    """A class's permissions as our own exports, or as LeanCloud's schema files, have them; None for neither."""
    return value if _are_permissions(value) else declarations.permissions(value)


def _are_permissions(value: Json) -> bool:
    return isinstance(value, dict) and all(
        action in declarations.ACTIONS
        and isinstance(rule, dict)
        and isinstance(rule.get("users"), bool)
        and isinstance(rule.get("names"), list)
        and all(isinstance(name, str) for name in rule["names"])
        for action, rule in value.items()
    )


def _described(class_name: str, key: str, column: Document) -> Document | None:
    if key in classes.BUILT_IN_COLUMNS or (class_name == "_User" and key in PRIVATE_KEYS):
        return None
    if not values.STORED_KEY.fullmatch(key) or len(key) > 200:
        return None
    kind = column["type"]
    if kind in TYPES:
        return {"type": kind}
    if kind not in ("Pointer", "Relation"):
        return None
    try:
        target = values.check_class_name(column.get("className"))
    except StorageError:
        return None
    return {"type": "File"} if kind == "Pointer" and target == "_File" else {"type": kind, "className": target}
