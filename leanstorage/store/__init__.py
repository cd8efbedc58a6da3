"""The store contract: what `leanstorage` asks of a database, and nothing more. SQLite and PostgreSQL fulfil it.

A store has `read(work)` and `write(work)`: both call `work(transaction)` and return its result. `write` is atomic and
durable when it returns: a raised exception leaves no trace. `work` may be called again after a conflict with another
writer, so it must have no effect but through its transaction, and it must never wait for the network.
`build_index(class_name, keys)` and `drop_index` change what is found fast; `indexes` keeps the list of them in the
class, under "indexes". `close()` ends the store.

A transaction has the methods of `store.sql.Transaction`, which hold for every database:

- classes: `class_info(name)` -> dict, not to be changed unless it was locked, or None; `save_class(name, info)`,
  `class_names()`, `last_write(name)` in ms
- objects: `get(class_name, id, lock=False)` -> Row or None, `get_many`, `insert`, `update`, `delete`, `find(Query)`,
  `listing(Query)` -> (rows, last write), `count(Query)`
- objects in bulk: `taken(class_name, ids)`, `last_seq()`, `insert_many(class_name, rows)`, `page`
- relations: `relate`, `relate_many`, `members`, `relation_page`, `all_relations`, `unrelate`, `forget_relation`,
  `role_names(user_id)`
- records, small private documents by (kind, key): `record`, `add_record` (False when it is there), `put_record`,
  `delete_record`, `records`, `records_of`, `first_records`, `put_records`, `expired_records`, `delete_expired`, `all_records`

A query's `where` is a tree of `Condition(op, path, operand)`, `Group("and" | "or", nodes)` and `Not(node)`:

| op | operand |
|---|---|
| eq | a canonical value; None also matches a missing field |
| lt, lte, gt, gte | a number, text, boolean or Date |
| in, all | a list of canonical values |
| size, exists | an integer; a boolean |
| regex | (pattern for the `regex` package, flags for it) |
| in_query | a Query: the field points to one of its results |
| select | (key path, Query): the field equals that key of one of its results |
| near | (latitude, longitude, least and greatest distance in radians or None) |
| box | (south, west, north, east) |
| related | (owner class, owner id, key): members of that relation; its path is empty |

The times `createdAt` and `updatedAt` are compared in milliseconds.
"""
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from leanstorage.store.sql import Transaction

Json = Any  # a decoded value
Document = dict[str, Any]  # a decoded object
Rights = dict[str, dict[str, bool]]  # an ACL
Principals = tuple[str, ...] | None  # the names that somebody goes by in an ACL; None is the master
Path = tuple[str, ...]  # the names that lead to a value in a document
Result = TypeVar("Result")


class Store(Protocol):
    """A database. `work` is called with a transaction."""

    def read(self, work: "Callable[[Transaction], Result]") -> Result: ...

    def write(self, work: "Callable[[Transaction], Result]") -> Result: ...

    def build_index(self, class_name: str, keys: Sequence[str]) -> None: ...

    def drop_index(self, class_name: str, keys: Sequence[str]) -> None: ...

    def close(self) -> None: ...


class Row:
    """One object: times in milliseconds UTC, `acl` None for the public default, `body` in canonical form.

    One that was read also has its two documents as they are stored, `acl_text` and `text`: what is only passed on
    need not be decoded.
    """

    __slots__ = ("id", "created", "updated", "seq", "acl_text", "text", "_acl", "_body")

    def __init__(
        self,
        id: str,
        created: int,
        updated: int,
        acl: Rights | None,
        body: Document | None,
        seq: int = 0,
        acl_text: str | None = None,
        text: str | None = None,
    ) -> None:
        self.id, self.created, self.updated, self.seq = id, created, updated, seq
        self._acl, self._body = acl, body
        self.acl_text, self.text = acl_text, text

    @property
    def acl(self) -> Rights | None:
        if self._acl is None and self.acl_text is not None:
            self._acl = json.loads(self.acl_text)
        return self._acl

    @property
    def body(self) -> Document:
        if self._body is None:
            self._body = json.loads(self.text or "{}")
        return self._body


def decode_bodies(rows: "Sequence[Row]") -> None:
    """Decode many bodies at once: one document after the other takes twice as long."""
    waiting = [row for row in rows if row._body is None]
    bodies = json.loads("[" + ",".join([row.text or "{}" for row in waiting]) + "]")
    for row, body in zip(waiting, bodies, strict=True):
        row._body = body


@dataclass(frozen=True)
class Condition:
    op: str
    path: Path
    operand: Any


@dataclass(frozen=True)
class Group:
    op: str
    nodes: "tuple[Node, ...]"


@dataclass(frozen=True)
class Not:
    node: "Node"


Node = Condition | Group | Not


TRUE = Group("and", ())


@dataclass(frozen=True)
class Query:
    """What a store is asked for: rows of `class_name` that match `where` and that one of `principals` may read.

    `order` is ((path, descending), ...); None as `principals` reads everything; None as `limit` is no limit.
    `near` is the path and the point, latitude and longitude in degrees, to sort by when no order is given. A query that
    `comes_again`, this very object, is worth remembering what was made of it.
    """

    class_name: str
    where: Node = TRUE
    order: tuple[tuple[Path, bool], ...] = ()
    limit: int | None = None
    skip: int = 0
    principals: Principals = None
    near: tuple[Path, float, float] | None = None
    comes_again: bool = False


QUERY_SECONDS = 5  # clients give up after 15


class StoreUnavailable(Exception):
    """The database cannot be reached or is overloaded: nothing was changed, the client may try again."""


class QueryTimeout(Exception):
    """A query used up its time budget."""


class Later(Exception):
    """A call that must not wait would have to: nothing was changed, it is for a thread to make."""


class Stale(Exception):
    """A class is no longer what a transaction took it to be: its work has to be done again."""


def open_store(url: str, bulk: bool = False, query_seconds: float = QUERY_SECONDS) -> Store:
    """The store of `sqlite:///PATH` or `postgresql://...`; raise ValueError for another scheme, or without its driver.

    `bulk` is for long loads and unloads: memory stays small and writes go in large pieces. A statement that takes longer
    than `query_seconds` is stopped with QueryTimeout.
    """
    if url.startswith("sqlite:///"):
        from leanstorage.store.sqlite.store import SqliteStore

        return SqliteStore(url.removeprefix("sqlite:///"), bulk, query_seconds)
    if url.startswith(("postgresql://", "postgres://")):
        try:
            from leanstorage.store.postgresql.store import PostgresqlStore
        except ImportError:  # of psycopg, or of the libpq that it needs
            raise ValueError("PostgreSQL needs psycopg: pip install --no-deps -r requirements-server.txt") from None
        return PostgresqlStore(url, query_seconds)
    raise ValueError("the database must be sqlite:///PATH or postgresql://...")


def now() -> int:
    """The current time in milliseconds UTC, as every time here."""
    return time.time_ns() // 1_000_000


def type_of(value: Json) -> dict[str, str] | None:
    """The column type of a canonical value: `{"type": "String"}`, pointers and relations with their className.

    None for null, which fixes no type.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return {"type": "Boolean"}
    if isinstance(value, (int, float)):
        return {"type": "Number"}
    if isinstance(value, str):
        return {"type": "String"}
    if isinstance(value, list):
        return {"type": "Array"}
    kind = value.get("__type")
    if kind is None:
        return {"type": "Object"}
    if kind in ("Pointer", "Relation"):
        return {"type": kind, "className": value["className"]}
    return {"type": kind}


_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def canonical_text(value: Json) -> str:
    """A canonical value as the one JSON text that equal values share."""
    return _CANONICAL.encode(value)
