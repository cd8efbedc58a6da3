"""Indexes in SQLite. It has none on the elements of arrays: a table that triggers keep takes its place."""
from collections.abc import Sequence

from leanstorage.store.fragments import index_name, quoted
from leanstorage.store.indexing import check_keys, definition
from leanstorage.store.sqlite import tallies
from leanstorage.store.tallies import is_tally
from leanstorage.store.transaction import Transaction

# Texts and numbers are found by it; of other elements nothing is kept.
KEPT = "SELECT DISTINCT e.value, {row}.seq FROM json_each({row}.body, '$.\"{key}\"') e WHERE e.type IN ('text', 'integer', 'real')"
EVENTS = (  # that a trigger is made for, and what it does
    ("AFTER INSERT", "new", "{insert};"),
    ("AFTER DELETE", "old", "{delete};"),
    ("AFTER UPDATE OF body", "new", "{delete}; {insert};"),
)


def build_index(transaction: Transaction, class_name: str, keys: Sequence[str]) -> None:
    """Make the index of `keys` unless it is there. Raises ValueError."""
    if is_tally(keys):
        tallies.build(transaction, class_name, keys)
        return
    compiler = transaction.compiler(transaction.known)
    if check_keys(compiler, class_name, keys) == "Array":
        _build_table(transaction, class_name, keys[0])
        return
    name, columns = definition(compiler, class_name, keys)
    transaction.change(f"CREATE INDEX IF NOT EXISTS {name} ON objects {columns}")


def drop_index(transaction: Transaction, class_name: str, keys: Sequence[str]) -> None:
    name = index_name(class_name, keys)
    transaction.change(f"DROP TABLE IF EXISTS {name}_readers")
    for number in range(len(EVENTS)):
        transaction.change(f"DROP TRIGGER IF EXISTS {name}_{number}")
    kinds = dict(transaction.execute("SELECT name, type FROM sqlite_master WHERE name = ?", [name]))
    if name in kinds:
        transaction.change(f"DROP {kinds[name]} {name}")


def _build_table(transaction: Transaction, class_name: str, key: str) -> None:
    name = index_name(class_name, [key])
    if transaction.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [name]):
        return
    transaction.change(f"CREATE TABLE {name} (value, seq INTEGER, PRIMARY KEY (value, seq)) WITHOUT ROWID")
    transaction.change(f"CREATE INDEX {name}_seq ON {name} (seq)")
    rows = KEPT.format(row="o", key=key).replace(" FROM ", " FROM objects o, ", 1)
    transaction.change(f"INSERT OR IGNORE INTO {name} {rows} AND o.class = {quoted(class_name)}")
    for number, (event, row, actions) in enumerate(EVENTS):
        insert = f"INSERT OR IGNORE INTO {name} {KEPT.format(row='new', key=key)}"
        delete = f"DELETE FROM {name} WHERE seq = old.seq"
        transaction.change(
            f"CREATE TRIGGER {name}_{number} {event} ON objects WHEN {row}.class = {quoted(class_name)} "
            f"BEGIN {actions.format(insert=insert, delete=delete)} END"
        )
