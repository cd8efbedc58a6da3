"""The members of relations of a live app, asked for owner by owner: no other call of the API shows them.

The first time all owners are asked, in the order of their ids; later those alone that changed, because every change of
a relation moves its owner's `updatedAt`.
"""

from concurrent.futures import ThreadPoolExecutor

from leanstorage import classes, values
from leanstorage.errors import StorageError
from leanstorage.store import Condition, Query
from leanstorage.takeout import load
from leanstorage.takeout.remote import RemoteError

OWNERS_AT_ONCE = 100  # between two times that the progress is stored
MEMBERS = 1000  # in one answer


def run(pull, class_name):
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


def _all_owners(pull, class_name, key, target):
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

        def work(transaction, found=found, after=after, is_done=is_done):
            pairs = [(owner, member) for owner, members in found for member in members]
            added = transaction.relate_many(class_name, key, target, pairs)
            transaction.put_record(pull.kind, name, {"after": after, "is_done": is_done})
            return added, len(pairs)

        added, read = pull.write(work)
        pull.report.advance(name, read, added, read - added, len(owners))
        if is_done:
            pull.report.end(name)
            return


def _changed_owners(pull, class_name, columns):
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

            def replace(transaction, key=key, target=target, found=found):
                return [load.set_members(transaction, class_name, key, target, *one) for one in found]

            counts = pull.write(replace)
            read = sum(len(members) for _, members in found)
            pull.report.advance(f"{class_name}.{key}", read, sum(counts), read - sum(counts))
        pull.write(lambda transaction: [transaction.delete_record(kind, owner) for owner in owners])  # noqa: B023


def _owners_after(store, class_name, after):
    where = Condition("gt", ("objectId",), after or "")
    query = Query(class_name, where, order=((("objectId",), False),), limit=OWNERS_AT_ONCE)
    return [row.id for row in store.read(lambda transaction: transaction.find(query))]


def _members_of(pull, class_name, key, target, owners):
    """[(owner, [ids])], asked for several at once."""
    with ThreadPoolExecutor(pull.remote.parallel) as pool:
        return list(
            zip(owners, pool.map(lambda owner: _members(pull, class_name, key, target, owner), owners), strict=True)
        )


def _members(pull, class_name, key, target, owner):
    related = {"object": values.pointer(class_name, owner), "key": key}
    ids = []
    while True:
        where = {"$relatedTo": related}
        if ids:
            where["objectId"] = {"$gt": ids[-1]}
        path = f"/classes/{target}"
        rows = pull.remote.get(path, where=where, order="objectId", limit=MEMBERS, keys="objectId").get("results")
        try:
            page = [values.check_object_id(row["objectId"]) for row in rows]
        except (TypeError, KeyError, StorageError):
            raise RemoteError(f"the members of {key} are not objects") from None
        ids += page
        if len(page) < MEMBERS:
            return ids
