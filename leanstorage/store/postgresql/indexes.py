"""Indexes made while others read and write, on `objects` as we make it or as its operator has partitioned it."""
from leanstorage.store.postgresql.wire import Connection

EXPRESSION_STATISTICS = 140000  # the first version of PostgreSQL that has them


def make_index(connection: Connection, name: str, columns: str, measured: str) -> None:
    """Make an index unless it is there, and figures for the planner of the expressions in `measured`. Raises psycopg's errors."""
    run = connection.wire.command
    parts = _partitions(connection)
    if parts:  # the index of all takes those of the parts, each of which can be made while others write
        run(f"CREATE INDEX IF NOT EXISTS {name} ON ONLY objects {columns}".encode())
    for number, table in parts.items():
        _make_one(connection, f"{name}_{number}", table, columns)
        run(f"ALTER INDEX {name} ATTACH PARTITION {name}_{number}".encode())
    if not parts:
        _make_one(connection, name, "objects", columns)
    if measured and connection.info.server_version >= EXPRESSION_STATISTICS:
        for number, table in (parts or {"": "objects"}).items():
            run(f"CREATE STATISTICS IF NOT EXISTS {_statistics(name, number)} ON {measured} FROM {table}".encode())
    run(b"ANALYZE objects")


def drop_index(connection: Connection, name: str) -> None:
    """Drop what `make_index` made. Raises psycopg's errors."""
    parts = _partitions(connection)
    at_once = "" if parts else "CONCURRENTLY "  # which is not to be had for the index of all parts
    connection.wire.command(f"DROP INDEX {at_once}IF EXISTS {name}".encode())
    for number in parts or [""]:
        connection.wire.command(f"DROP STATISTICS IF EXISTS {_statistics(name, number)}".encode())


def _make_one(connection: Connection, name: str, table: str, columns: str) -> None:
    """An index of one table; one that an earlier attempt left unfinished is of no use, and in the way."""
    text = f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{name}')"
    if connection.wire.rows(connection.wire.command(text.encode())) == [(False,)]:
        connection.wire.command(f"DROP INDEX CONCURRENTLY {name}".encode())
    connection.wire.command(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table} {columns}".encode())


def _partitions(connection: Connection) -> dict[int | str, str]:
    """{number: quoted name} of the parts that `objects` has; none is the rule."""
    text = b"SELECT inhrelid::bigint, inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass('objects') ORDER BY 1"
    return dict(connection.wire.rows(connection.wire.command(text)))


def _statistics(index: str, part: int | str) -> str:
    """The name of the figures that belong to an index."""
    return index.replace("index_", "figures_", 1) + (f"_{part}" if part else "")
