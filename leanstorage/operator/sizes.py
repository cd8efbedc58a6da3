"""How much a database holds."""
from typing import Any, cast

from leanstorage.store import Store
from leanstorage.store.sqlite.store import SqliteStore


def is_sqlite(store: Store) -> bool:
    return isinstance(store, SqliteStore)


def rows(store: Store, sqlite: str, postgresql: str) -> list[tuple[Any, ...]]:
    """The rows of a statement that only an operator's commands ask, in the dialect of the database."""
    text = sqlite if is_sqlite(store) else postgresql
    return store.read(lambda transaction: cast(Any, transaction).execute(text))


def database_bytes(store: Store) -> int:
    """On disk, the log of SQLite included."""
    if isinstance(store, SqliteStore):
        files = [store.path.with_name(store.path.name + end) for end in ("", "-wal", "-shm")]
        return sum(file.stat().st_size for file in files if file.exists())
    [(size,)] = rows(store, "", "SELECT pg_database_size(current_database())")
    return int(size)
