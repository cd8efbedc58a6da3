"""Indexes of a class: they find equal values of some keys, in order of creation, without reading other objects.

Without one, SQLite reads every object of the class; PostgreSQL finds equal values, but sorts all matches.
"""
from collections.abc import Callable

from leanstorage.rules import classes, values
from leanstorage.store import Store, Transaction


Indexes = list[list[str]]  # the keys of each


def listed(transaction: Transaction, class_name: str) -> Indexes:
    """The keys of each index; raise 101 for a class that does not exist."""
    found: Indexes = classes.existing(transaction, class_name).get("indexes", [])
    return found


def create(store: Store, class_name: str, keys: list[str]) -> None:
    """Build the index of `keys` and let queries use it. Raises ValueError for keys that it cannot hold, 101, 103."""
    values.check_class_name(class_name)
    store.read(lambda transaction: classes.existing(transaction, class_name))
    store.build_index(class_name, keys)
    _change(store, class_name, lambda found: found if keys in found else [*found, keys])


def drop(store: Store, class_name: str, keys: list[str]) -> None:
    """Take an index away, first from the queries. Raises ValueError when there is none, 101."""
    if keys not in store.read(lambda transaction: listed(transaction, class_name)):
        raise ValueError(f"{class_name} has no index of {' '.join(keys)}")
    _change(store, class_name, lambda found: [other for other in found if other != keys])
    store.drop_index(class_name, keys)


def _change(store: Store, class_name: str, changed: Callable[[Indexes], Indexes]) -> None:
    def work(transaction: Transaction) -> None:
        info = classes.existing(transaction, class_name, lock=True)
        info.pop("is_new", None)
        transaction.save_class(class_name, {**info, "indexes": changed(info.get("indexes", []))})

    store.write(work)
