"""The members of relations of a live app, asked for owner by owner: no other call of the API shows them.

The first time all owners are asked, in the order of their ids; later those alone that changed, because every change of
a relation moves its owner's `updatedAt`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from leanstorage import classes, values
from leanstorage.errors import StorageError
from leanstorage.store import Condition, Document, Query, Store
from leanstorage.takeout import load
from leanstorage.takeout.remote import RemoteError

if TYPE_CHECKING:
    from leanstorage.store.sql import Transaction
    from leanstorage.takeout.puller import Pull

OWNERS_AT_ONCE = 100  # between two times that the progress is stored
MEMBERS = 1000  # in one answer
Members = list[tuple[str, list[str]]]  # by owner, all ids


def run(pull: "Pull", class_name: str) -> None:
    """Pull every relation column of a class; what fails is reported and asked for again by the next run."""
    info = pull.store.read(lambda transaction: classes.existing(transaction, class_name))
    columns = {key: column["className"] for key, column in info["columns"].items() if column["type"] == "Relation"}
    if not columns:
        return
    try:
        for key, target in sorted(columns.items()):
            _all_owners(pull, class_name, key, target)
        _changed_owners(pull, class_name, columns)
    except RemoteError as error:
        pull.report.fail(f"relations of {class_name}: {error}")


def _all_owners(pull: "Pull", class_name: str, key: str, target: str) -> None:
    name = f"{class_name}.{key}"
    state = pull.state(name)
    if state.get("is_done"):
        return
    after = state.get("after")
    total = pull.store.read(lambda transaction: transaction.count(Query(class_name)))
    pull.report.begin(name, total)
    while True:
        owners = _owners_after(pull.store, class_name, after)
        found = _members_of(pull, class_name, key, target, owners)
        after = owners[-1] if owners else after
        is_done = len(owners) < OWNERS_AT_ONCE

        def work(
            transaction: "Transaction", found: Members = found, after: str | None = after, is_done: bool = is_done
        ) -> tuple[int, int]:
            pairs = [(owner, member) for owner, members in found for member in members]
            added = transaction.relate_many(class_name, key, target, pairs)
            transaction.put_record(pull.kind, name, {"after": after, "is_done": is_done})
            return added, len(pairs)

        added, read = pull.write(work)
        pull.report.advance(name, read, added, read - added, len(owners))
        if is_done:
            pull.report.end(name)
            return


def _changed_owners(pull: "Pull", class_name: str, columns: dict[str, str]) -> None:
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
                transaction: "Transaction", key: str = key, target: str = target, found: Members = found
            ) -> list[int]:
                return [load.set_members(transaction, class_name, key, target, *one) for one in found]

            counts = pull.write(replace)
            read = sum(len(members) for _, members in found)
            pull.report.advance(f"{class_name}.{key}", read, sum(counts), read - sum(counts))
        pull.write(lambda transaction: [transaction.delete_record(kind, owner) for owner in owners])  # noqa: B023


def _owners_after(store: Store, class_name: str, after: str | None) -> list[str]:
    where = Condition("gt", ("objectId",), after or "")
    query = Query(class_name, where, order=((("objectId",), False),), limit=OWNERS_AT_ONCE)
    return [row.id for row in store.read(lambda transaction: transaction.find(query))]


def _members_of(pull: "Pull", class_name: str, key: str, target: str, owners: Sequence[str]) -> Members:
    """Asked for several at once."""
    with ThreadPoolExecutor(pull.remote.parallel) as pool:
        return list(
            zip(owners, pool.map(lambda owner: _members(pull, class_name, key, target, owner), owners), strict=True)
        )


def _members(pull: "Pull", class_name: str, key: str, target: str, owner: str) -> list[str]:
    related = {"object": values.pointer(class_name, owner), "key": key}
    ids: list[str] = []
    while True:
        where: Document = {"$relatedTo": related}
        if ids:
            where["objectId"] = {"$gt": ids[-1]}
        path = f"/classes/{target}"
        answer = pull.remote.get(path, where=where, order="objectId", limit=MEMBERS, keys="objectId")
        try:
            page = [values.check_object_id(row["objectId"]) for row in answer["results"]]
        except (TypeError, KeyError, StorageError):
            raise RemoteError(f"the members of {key} are not objects") from None
        ids += page
        if len(page) < MEMBERS:
            return ids
