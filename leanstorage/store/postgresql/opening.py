"""What is found out of a database before the store serves: what stands in between, and how many connections there may be."""
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from leanstorage.store.postgresql.wire import Connection, NoAnswer

ENCODINGS = "UTF8", "SQL_ASCII"  # the second keeps what it is sent
PROBE_SECONDS = 2  # for an answer through a pooler that has no connection free


def check_encoding(connection: Connection) -> None:
    """Raise ValueError for a database that has no room for most characters."""
    [(encoding,)] = connection.execute("SHOW server_encoding").fetchall()
    if encoding not in ENCODINGS:
        raise ValueError(f"the database cannot be used: its encoding is {encoding}, and it has to be UTF8 (CREATE DATABASE ... ENCODING 'UTF8')")


def check_pooler(ours: Connection, url: str, connect_seconds: int, wanted: int) -> None:
    """Raise ValueError if a pooler gives every transaction another connection; say so if it has too few of them.

    What one client sets or prepares would be another's: time limits, and the statements themselves.
    """
    mine = _server(ours)
    if mine == ours.info.backend_pid:  # nothing stands in between: poolers make up the number that they say
        return
    taken = {mine}
    with ExitStack() as opened:
        while len(taken) < wanted:
            try:
                theirs = _taken(opened.enter_context(_opened(url, connect_seconds)))
            except psycopg.OperationalError:  # it lets no more clients in, or has no connection free for this one
                break
            # By now they may have taken ours, or others may have.
            if theirs is None or theirs in taken or not _keeps(ours, mine):
                raise ValueError("the database is behind a pooler in transaction mode: use its session mode, or the database itself")
            taken.add(theirs)
    if len(taken) < wanted:
        _say_few("the pooler", len(taken), wanted, "its pool size")


def allowed_connections(connection: Connection, wanted: int) -> int:
    """How many connections the database lets the role open, as many as one process may want unless it is limited: then say so."""
    found = connection.execute(
        "SELECT rolconnlimit, datconnlimit, coalesce(current_setting('max_connections', true)::int, -1) FROM pg_roles, pg_database "
        "WHERE rolname = current_user AND datname = current_database()"
    ).fetchone()
    names = "ALTER ROLE ... CONNECTION LIMIT", "ALTER DATABASE ... CONNECTION LIMIT", "max_connections"
    limits = [(limit, name) for limit, name in zip(found or (), names) if limit >= 0]
    limit, name = min(limits, default=(wanted, ""))
    if limit >= wanted:
        return wanted
    _say_few("the database", limit, wanted, name)
    return int(limit)


def _say_few(who: str, number: int, wanted: int, setting: str) -> None:
    print(
        f"{who} gives {number} of the {wanted} connections that each process wants: calls will wait for each other ({setting})",
        file=sys.stderr,
    )


@contextmanager
def _opened(url: str, connect_seconds: int) -> Iterator[Connection]:
    connection = Connection.connect(url, autocommit=True, connect_timeout=connect_seconds)
    try:
        connection.wire.answer_seconds = PROBE_SECONDS
        yield connection
    finally:
        connection.close()


def _server(connection: Connection) -> int:
    """The number of the server's process that answers."""
    [(number,)] = connection.wire.rows(connection.wire.command(b"SELECT pg_backend_pid()"))
    return int(number)


def _taken(connection: Connection) -> int | None:
    """The number of the server's process that a transaction keeps from others; None where there may be no transaction."""
    try:
        connection.wire.command(b"BEGIN")
        return _server(connection)
    except NoAnswer:
        raise
    except psycopg.Error:
        return None


def _keeps(connection: Connection, number: int) -> bool:
    try:
        return _server(connection) == number
    except NoAnswer:
        return False
