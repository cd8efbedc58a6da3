"""What the driver's errors say: whether the database is in trouble, and whether another connection would do better."""
import psycopg
from psycopg_pool import PoolTimeout

from leanstorage.store import QueryTimeout, StoreUnavailable
from leanstorage.store.postgresql.wire import NoAnswer

WAIT_SECONDS = 5  # for a free connection
# The driver counts these among faults of the statement, or of the server's programmers. They are an operator's to mend.
TROUBLE = frozenset([
    "25006",  # only reads: a standby, or default_transaction_read_only
    "25P03",  # the session was ended in the middle of a transaction, by a limit of the role
    "25P04",  # so was the transaction
    "3F000",  # the schema is gone
    "42501",  # a right was taken away
    "42P01",  # a table is gone, as while it is restored
    "XX001",  # a damaged table
    "XX002",  # a damaged index
])
# A table has changed, or somebody has thrown away what this connection had prepared.
STALE = frozenset(["0A000", "26000"])


def is_trouble(error: Exception) -> bool:
    """Whether an error is not the statement's own fault."""
    code = getattr(error, "sqlstate", None)
    return isinstance(error, psycopg.OperationalError) or code in TROUBLE or code in STALE


def is_stale(error: Exception) -> bool:
    """Whether a connection has prepared what does not hold any more."""
    return getattr(error, "sqlstate", None) in STALE


def raise_known(error: Exception, is_last: bool, failure: Exception | None) -> None:
    """Raise the contract's error for a driver's; return when the caller may try again. A fault of ours is raised as it is.

    `failure` is why no connection could be made, if that is known.
    """
    if isinstance(error, psycopg.errors.QueryCanceled):
        raise QueryTimeout from error
    if isinstance(error, psycopg.errors.LockNotAvailable):  # somebody holds the row's lock and is idle: retrying is pointless
        raise StoreUnavailable("another writer holds the object") from error
    if not is_trouble(error):
        raise error
    is_lasting = getattr(error, "sqlstate", None) in TROUBLE
    if is_last or is_lasting or isinstance(error, (PoolTimeout, NoAnswer)):  # it has waited long enough
        cause = failure if failure is not None and isinstance(error, PoolTimeout) else error
        raise StoreUnavailable(type(cause).__name__ + reason(cause)) from error


def reason(error: Exception) -> str:
    """What the server, libpq or we said of an error, in brackets."""
    if isinstance(error, PoolTimeout):
        return f" (it gave no connection in {WAIT_SECONDS} seconds)"
    said = getattr(getattr(error, "diag", None), "message_primary", None)
    if not said and isinstance(error, psycopg.OperationalError):  # no other kind: what libpq says of a malformed URL quotes it
        said = str(error).partition("\n")[0]
    return f" ({said})" if said else ""
