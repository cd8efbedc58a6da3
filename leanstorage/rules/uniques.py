"""Unique indexes: a combination of values that only one object of a class may have, kept as records that cannot be added twice.

They exist for the app's own classes. An object without one of the keys, or with null there, is exempt, as in a sparse
index. The info of a class lists them under "unique", and under "unique_begun" while one is being built: writers obey
both.
"""

import hashlib
from collections.abc import Iterator, Mapping

from leanstorage.rules import classes, values
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Condition, Document, Json, Query, Store, Transaction, canonical_text

PAGE_ROWS = 200
MAX_KEYS = 5
Records = dict[tuple[str, str], str]  # (kind, key of the record) -> the keys of the class, for people


def records(class_name: str, info: Document, body: Mapping[str, Json] | None) -> Records:
    """The records that an object has for itself; none for None."""
    found: Records = {}
    if body is None:
        return found
    for keys in (*info.get("unique", ()), *info.get("unique_begun", ())):
        together = [body.get(key) for key in keys]
        if all(value is not None for value in together):
            digest = hashlib.sha256(canonical_text(together).encode("utf-8")).hexdigest()
            found[_kind(class_name, keys), digest] = "+".join(keys)
    return found


def keep(
    transaction: Transaction,
    class_name: str,
    info: Document,
    object_id: str,
    old: Mapping[str, Json] | None,
    new: Mapping[str, Json] | None,
) -> None:
    """Let an object's records follow its body, None where it was not or is no more. Raises 137 for what is taken."""
    if not info.get("unique") and not info.get("unique_begun"):
        return
    had, wanted = records(class_name, info, old), records(class_name, info, new)
    for kind, key in sorted(had.keys() - wanted.keys()):
        if (transaction.record(kind, key) or {}).get("id") == object_id:
            transaction.delete_record(kind, key)
    for kind, key in sorted(wanted.keys() - had.keys()):
        if _other(transaction, kind, key, object_id) is not None:
            raise StorageError(Code.DUPLICATE_VALUE, key=wanted[kind, key])


def listed(transaction: Transaction, class_name: str) -> list[list[str]]:
    """The keys of each, and what it is, for people; raise 101."""
    info = classes.existing(transaction, class_name)
    begun = [[*keys, "(unique, not finished: make it again)"] for keys in info.get("unique_begun", ())]
    return [*([*keys, "(unique)"] for keys in info.get("unique", ())), *begun]


def create(store: Store, class_name: str, keys: list[str]) -> None:
    """Build one; raise ValueError, and build nothing, where two objects clash or the keys cannot be had, 101."""
    values.check_class_name(class_name)
    info = store.read(lambda transaction: classes.existing(transaction, class_name))
    if class_name.startswith("_"):
        raise ValueError(f"{class_name} is LeanCloud's own: what is unique there is so already")
    _check(info, keys)
    if keys in info.get("unique", ()):
        return
    _change(store, class_name, keys, begun=True)
    for page in _pages(store, class_name):
        clash = store.write(lambda transaction: _build(transaction, class_name, keys, page))  # noqa: B023 it runs at once
        if clash:
            drop(store, class_name, keys)
            raise ValueError(f"{clash[0]} and {clash[1]} have the same {' and '.join(keys)}: nothing was built")
    _change(store, class_name, keys, begun=False)


def drop(store: Store, class_name: str, keys: list[str]) -> None:
    """Take one away. Raises ValueError when there is none, 101."""
    info = store.read(lambda transaction: classes.existing(transaction, class_name))
    if keys not in [*info.get("unique", ()), *info.get("unique_begun", ())]:
        raise ValueError(f"{class_name} has no unique index of {' '.join(keys)}")
    _change(store, class_name, keys, begun=None)
    kind = _kind(class_name, keys)

    def forget(transaction: Transaction) -> int:
        found = transaction.first_records(kind, PAGE_ROWS)
        for key, _ in found:
            transaction.delete_record(kind, key)
        return len(found)

    while store.write(forget):
        pass


def _check(info: Document, keys: list[str]) -> None:
    if not 1 <= len(keys) <= MAX_KEYS or len(set(keys)) != len(keys):
        raise ValueError(f"a unique index has 1 to {MAX_KEYS} keys")
    for key in keys:
        column = info["columns"].get(key)
        if column is None or column["type"] == "Relation":
            raise ValueError(f"there is no column {key} that could be unique")


def _change(store: Store, class_name: str, keys: list[str], begun: bool | None) -> None:
    """Note in the class that one is begun, or finished, or, for None, no more."""

    def work(transaction: Transaction) -> None:
        info = classes.existing(transaction, class_name, lock=True)
        info.pop("is_new", None)
        for name, is_here in (("unique", begun is False), ("unique_begun", begun is True)):
            others = [other for other in info.get(name, ()) if other != keys]
            info = {**info, name: [*others, keys] if is_here else others}
        transaction.save_class(class_name, info)

    store.write(work)


def _pages(store: Store, class_name: str) -> Iterator[list[str]]:
    after = ""
    while True:
        where = Condition("gt", ("objectId",), after)
        query = Query(class_name, where, order=((("objectId",), False),), limit=PAGE_ROWS)
        page = [row.id for row in store.read(lambda transaction: transaction.find(query))]  # noqa: B023 it runs at once
        yield page
        if len(page) < PAGE_ROWS:
            return
        after = page[-1]


def _build(transaction: Transaction, class_name: str, keys: list[str], page: list[str]) -> tuple[str, str] | None:
    """Add the records of a page's objects, locked, so that no change of them is lost; return two ids that clash."""
    for object_id in page:
        row = transaction.get(class_name, object_id, lock=True)
        for kind, key in records(class_name, {"unique": [keys]}, row.body if row else None):
            other = _other(transaction, kind, key, object_id)
            if other is not None:
                return other, object_id
    return None


def _other(transaction: Transaction, kind: str, key: str, object_id: str) -> str | None:
    """Add a record for an object; return the id of the object that has it already, None if that is this one."""
    if transaction.add_record(kind, key, {"id": object_id}):
        return None
    found = transaction.record(kind, key) or {}
    other: str | None = found.get("id")
    return None if other == object_id else other


def _kind(class_name: str, keys: list[str]) -> str:
    return f"unique-index:{class_name}:{'+'.join(keys)}"
