"""The members of relations of a live app, asked for owner by owner: no other call of the API shows them.

The first time all owners are asked, in the order of their ids, or those alone that changed since an export brought the
members; later those that changed since the last time. Every change of a relation moves its owner's `updatedAt`. So it also tells whose members count, as it does for rows: those of an owner
that was changed here since are only added to.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from leanstorage.rules import classes, values
from leanstorage.store import Condition, Document, Group, Node, Query, Transaction
from leanstorage.takeout import load
from leanstorage.takeout.budget import OutOfCalls
from leanstorage.takeout.pull import Pull
from leanstorage.takeout.remote import RemoteError


OWNERS_AT_ONCE = 100  # between two times that the progress is stored
ASKED_AT_ONCE = 50  # owners in one query for their times
MEMBERS = 1000  # in one answer
KEPT = "owners changed here since: members that they have there were added, none were taken away"


class Found(NamedTuple):
    """What the API tells of an owner."""

    owner: str
    updated: int  # ms, asked for before the members
    members: list[str]


def run(pull: Pull, class_name: str) -> None:
    """Pull every relation column of a class; what fails is reported and asked for again by the next run."""
    info = pull.store.read(lambda transaction: classes.existing(transaction, class_name))
    columns = {key: column["className"] for key, column in info["columns"].items() if column["type"] == "Relation"}
    if not columns:
        return
    try:
        for key, target in sorted(columns.items()):
            _all_owners(pull, class_name, key, target)
        _changed_owners(pull, class_name, columns)
    except OutOfCalls:
        raise
    except RemoteError as error:
        pull.report.trouble(f"relations of {class_name}: {error}")


def _all_owners(pull: Pull, class_name: str, key: str, target: str) -> None:
    name = f"{class_name}.{key}"
    state = pull.state(name)
    if state.get("is_done"):
        return
    after = state.get("after")
    since = as_of(pull, class_name, key)
    total = pull.store.read(lambda transaction: transaction.count(_owners_query(class_name, None, since)))
    pull.report.begin(name, total)
    while True:
        query = _owners_query(class_name, after, since)
        owners = [row.id for row in pull.store.read(lambda transaction: transaction.find(query))]  # noqa: B023
        found = _members_of(pull, class_name, key, target, owners, since)
        after = owners[-1] if owners else after
        is_done = len(owners) < OWNERS_AT_ONCE

        def work(
            transaction: Transaction, found: list[Found] = found, after: str | None = after, is_done: bool = is_done
        ) -> tuple[int, int]:
            counts = _set(transaction, class_name, key, target, found)
            transaction.put_record(pull.kind, name, {"after": after, "is_done": is_done})
            if is_done:
                transaction.delete_record(load.JOINED, name)
            return counts

        added, kept = pull.write(work)
        _count(pull, name, found, added, kept, len(owners))
        if is_done:
            pull.report.end(name)
            return


def _changed_owners(pull: Pull, class_name: str, columns: dict[str, str]) -> None:
    """Owners that the last pass through the rows found changed: their members are replaced."""
    kind = pull.owners_kind(class_name)
    while True:
        owners = [
            key for key, _ in pull.store.read(lambda transaction: transaction.first_records(kind, OWNERS_AT_ONCE))
        ]
        if not owners:
            return
        for key, target in sorted(columns.items()):
            found = _members_of(pull, class_name, key, target, owners)

            def replace(
                transaction: Transaction, key: str = key, target: str = target, found: list[Found] = found
            ) -> tuple[int, int]:
                return _set(transaction, class_name, key, target, found)

            added, kept = pull.write(replace)
            _count(pull, f"{class_name}.{key}", found, added, kept)
        pull.write(lambda transaction: [transaction.delete_record(kind, owner) for owner in owners])  # noqa: B023


def columns_of(class_name: str, columns: Mapping[str, Document]) -> list[str]:
    """The keys of the relation columns of a class."""
    found = {**classes.DEFAULT_COLUMNS.get(class_name, {}), **columns}
    return sorted(key for key, column in found.items() if column.get("type") == "Relation")


def as_of(pull: Pull, class_name: str, key: str) -> int:
    """Since when, in ms, an owner must have changed to have other members than an import brought; 0 without import."""
    name = f"{class_name}.{key}"
    found = pull.store.read(lambda transaction: transaction.record(load.JOINED, name))
    return int(found["as_of"]) if found else 0


def _owners_query(class_name: str, after: str | None, since: int) -> Query:
    nodes: list[Node] = [Condition("gt", ("objectId",), after or "")]
    if since:
        nodes.append(Condition("gte", ("updatedAt",), since))
    return Query(class_name, Group("and", tuple(nodes)), order=((("objectId",), False),), limit=OWNERS_AT_ONCE)


def _set(
    transaction: Transaction, class_name: str, key: str, target: str, found: Sequence[Found]
) -> tuple[int, int]:
    """Store the members of some owners; return how many were new, and of how many owners none were taken away."""
    rows = transaction.get_many(class_name, [one.owner for one in found])
    added = kept = 0
    for owner, updated, members in found:
        if owner in rows and rows[owner].updated > updated:
            kept += 1
            added += transaction.relate_many(class_name, key, target, [(owner, member) for member in members])
        else:
            added += load.set_members(transaction, class_name, key, target, owner, members)
    return added, kept


def _count(pull: Pull, name: str, found: Sequence[Found], added: int, kept: int, size: int = 0) -> None:
    read = sum(len(one.members) for one in found)
    pull.report.advance(name, read, added, read - added, size)
    if kept:
        pull.report.note(name, KEPT, kept)


def _members_of(
    pull: Pull, class_name: str, key: str, target: str, owners: Sequence[str], since: int = 0
) -> list[Found]:
    """Asked for several at once; without owners that are not there, or did not change there `since` then."""
    times: dict[str, int] = {}
    for at in range(0, len(owners), ASKED_AT_ONCE):
        times |= _times(pull, class_name, owners[at : at + ASKED_AT_ONCE])
    asked = [owner for owner in owners if times.get(owner, -1) >= since]
    with ThreadPoolExecutor(pull.remote.parallel) as pool:
        members = list(pool.map(lambda owner: _members(pull, class_name, key, target, owner), asked))
    return [Found(owner, times[owner], ids) for owner, ids in zip(asked, members, strict=True)]


def _times(pull: Pull, class_name: str, owners: Sequence[str]) -> dict[str, int]:
    """When each was last changed there, in ms."""
    where = {"objectId": {"$in": list(owners)}}
    rows = pull.remote.rows(f"/classes/{class_name}", limit=ASKED_AT_ONCE, keys="updatedAt", where=where)
    try:
        return {row["objectId"]: values.parse_time(row.get("updatedAt")) for row in rows}
    except (ValueError, OverflowError):
        raise RemoteError(f"objects of {class_name} whose updatedAt is not a time") from None


def _members(pull: Pull, class_name: str, key: str, target: str, owner: str) -> list[str]:
    related = {"object": values.pointer(class_name, owner), "key": key}
    ids: list[str] = []
    while True:
        where: Document = {"$relatedTo": related}
        if ids:
            where["objectId"] = {"$gt": ids[-1]}
        path = f"/classes/{target}"
        rows = pull.remote.rows(path, where=where, order="objectId", limit=MEMBERS, keys="objectId")
        page = [row["objectId"] for row in rows]
        ids += page
        if len(page) < MEMBERS:
            return ids
