"""Kept counts in SQLite: a table for each index of the ACL, and one of who may read, kept by triggers."""
from collections.abc import Sequence

from leanstorage.store.fragments import index_name, quoted
from leanstorage.store.tallies import ACL, check_keys
from leanstorage.store.transaction import Transaction

READERS = "SELECT DISTINCT e.value, {row}.seq FROM json_each({row}.readers) e"


def build(transaction: Transaction, class_name: str, keys: Sequence[str]) -> None:
    """Count and go on counting, unless that is done. Raises ValueError."""
    compiler = transaction.compiler(transaction.known)
    check_keys(compiler, class_name, keys)
    name = index_name(class_name, keys)
    if transaction.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [name]):
        return

    def value(row: str) -> str:
        """What is counted of a row: x'' for nothing, as no value is equal to it and NULL is equal to none."""
        return f"ifnull({compiler.sort_keys(class_name, (keys[1],), row)[0][0]}, x'')" if len(keys) > 1 else "x''"

    transaction.change(
        f"CREATE TABLE {name} (value, is_public INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (value, is_public)) WITHOUT ROWID"
    )
    transaction.change(
        f"INSERT INTO {name} SELECT {value('o')}, o.readers IS NULL, count(*) FROM objects o WHERE o.class = {quoted(class_name)} GROUP BY 1, 2"
    )
    more = f"INSERT INTO {name} VALUES ({value('new')}, new.readers IS NULL, 1) ON CONFLICT DO UPDATE SET n = n + 1;"
    where = f"WHERE value = {value('old')} AND is_public = (old.readers IS NULL)"
    less = f"UPDATE {name} SET n = n - 1 {where}; DELETE FROM {name} {where} AND n = 0;"
    changed = f"({value('old')}, old.readers IS NULL) IS NOT ({value('new')}, new.readers IS NULL)"
    if list(keys) == [ACL]:
        table = f"{name}_readers"
        transaction.change(f"CREATE TABLE {table} (value TEXT, seq INTEGER, PRIMARY KEY (value, seq)) WITHOUT ROWID")
        transaction.change(f"CREATE INDEX {table}_seq ON {table} (seq)")
        rows = READERS.format(row="o").replace(" FROM ", " FROM objects o, ", 1)
        transaction.change(f"INSERT INTO {table} {rows} WHERE o.class = {quoted(class_name)}")
        more += f" INSERT INTO {table} {READERS.format(row='new')};"
        less += f" DELETE FROM {table} WHERE seq = old.seq;"
        changed = "old.readers IS NOT new.readers"
    for number, (event, row, test, actions) in enumerate((
        ("INSERT", "new", "", more),
        ("DELETE", "old", "", less),
        ("UPDATE OF body, readers", "new", f" AND {changed}", less + more),
    )):  # fmt: skip
        transaction.change(
            f"CREATE TRIGGER {name}_{number} AFTER {event} ON objects WHEN {row}.class = {quoted(class_name)}{test} BEGIN {actions} END"
        )
