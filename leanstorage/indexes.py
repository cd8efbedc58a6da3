"""Indexes of a class: equal values of some keys are found, and are in the order of creation, without a look at the rest.

Without one SQLite looks at every object of a class; PostgreSQL finds equal values, but sorts all that match.
"""
from leanstorage import classes, values


def listed(transaction, class_name):
    """The keys of each index; raise 101 for a class that does not exist."""
    return classes.existing(transaction, class_name).get("indexes", [])


def create(store, class_name, keys):
    """Build the index of `keys` and let queries use it. Raises ValueError for keys that it cannot hold, 101, 103."""
    values.check_class_name(class_name)
    store.read(lambda transaction: classes.existing(transaction, class_name))
    store.build_index(class_name, keys)
    _change(store, class_name, lambda found: found if keys in found else [*found, keys])


def drop(store, class_name, keys):
    """Take an index away, first from the queries. Raises ValueError when there is none."""
    if keys not in store.read(lambda transaction: listed(transaction, class_name)):
        raise ValueError(f"{class_name} has no index of {' '.join(keys)}")
    _change(store, class_name, lambda found: [other for other in found if other != keys])
    store.drop_index(class_name, keys)


def _change(store, class_name, changed):
    def work(transaction):
        info = classes.load(transaction, class_name, lock=True)
        info.pop("is_new", None)
        transaction.save_class(class_name, {**info, "indexes": changed(info.get("indexes", []))})

    store.write(work)
