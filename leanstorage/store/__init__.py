"""The store contract: everything `leanstorage` needs of a database. SQLite and PostgreSQL implement it.

A store has `read(work)` and `write(work)`: both call `work(transaction)` and return its result. `write` is atomic and
durable when it returns: a raised exception leaves no trace. `work` may be called again after a conflict with another
writer, so it must have no side effects outside of its transaction, and it must never wait for the network.
`build_index(class_name, keys)` and `drop_index` change what is found fast; `indexes` keeps the list of them in the
class, under "indexes". `close()` ends the store.

A query's `where` is a tree of `Condition(op, path, operand)`, `Group("and" | "or", nodes)` and `Not(node)`:

| op | operand |
|---|---|
| eq | a canonical value; None also matches a missing field |
| lt, lte, gt, gte | a number, text, boolean or Date |
| in, all | a list of canonical values |
| size, exists | an integer; a boolean |
| regex | (pattern for the `regex` package, flags for it) |
| prefix | a text that the field, or an element, begins with |
| in_query | a Query: the field points to one of its results |
| select | (key path, Query): the field equals that key of one of its results |
| near | (latitude, longitude, least and greatest distance in radians or None) |
| box | (south, west, north, east) |
| behind | (order, (id, created, updated, seq, body)): what comes in that order behind such a row; its path is empty |
| related | (owner class, owner id, key): members of that relation; its path is empty |

The times `createdAt` and `updatedAt` are compared in milliseconds.
"""
import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar


Json = Any  # a decoded value
Document = dict[str, Any]  # a decoded object
Rights = dict[str, dict[str, bool]]  # an ACL
Principals = tuple[str, ...] | None  # the names that somebody goes by in an ACL; None is the master
Path = tuple[str, ...]  # the names that lead to a value in a document
Order = tuple[tuple[Path, bool], ...]  # (path, whether it descends)
Result = TypeVar("Result")


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
    ) -> None:
        self.id, self.created, self.updated, self.seq = id, created, updated, seq
        self._acl, self._body = acl, body
        self.acl_text: str | None = None
        self.text: str | None = None

    @staticmethod
    def read(found: Sequence[Any]) -> "Row":
        """The row of the columns id, created, updated, acl, body, seq. There are many of them: `__init__` takes twice as long."""
        row: Row = object.__new__(Row)
        row.id, row.created, row.updated = found[0], found[1], found[2]
        row.acl_text, row.text, row.seq = found[3], found[4], found[5]
        row._acl = row._body = None
        return row

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
    `near` is the path and the point, latitude and longitude in degrees, to sort by when no order is given. If it
    `comes_again`, the caller reuses this object, so its SQL is cached. `cells` are a key and the ranges of cells of the
    index on it in which its points lie, see store.grid. With `newest`, only that many rows of the class are looked
    at, the first in the query's order.
    """

    class_name: str
    where: Node = TRUE
    order: tuple[tuple[Path, bool], ...] = ()
    limit: int | None = None
    skip: int = 0
    principals: Principals = None
    near: tuple[Path, float, float] | None = None
    comes_again: bool = False
    cells: tuple[str, tuple[tuple[int, int], ...]] | None = None
    newest: int = 0


class Transaction(Protocol):
    """What `work` is given: reads and writes that all happen, or none of them. Times are in milliseconds UTC."""

    query_seconds: float  # that a query may take

    def savepoint(self) -> AbstractContextManager[None]:
        """A part of the transaction that leaves no trace if it raises; the rest may still be kept."""
        ...

    def class_info(self, name: str, lock: bool = False) -> Document | None:
        """`{"columns": {key: type}, "permissions": {...}, "default_acl": ...}` of a class, or None.

        It is shared, and not to be changed, unless it was locked.
        """
        ...

    def save_class(self, name: str, info: Document, deleted: int = 0) -> None:
        """Store the info of a class; `deleted` is when an object of a new one was last deleted, in ms."""
        ...

    def class_names(self) -> list[str]:
        """The names of all classes, sorted."""
        ...

    def last_write(self, class_name: str) -> int | None:
        """When the class was last written to, deletes included, in ms; None if never."""
        ...

    def get(self, class_name: str, object_id: str, lock: bool = False) -> Row | None:
        """The Row of an object, or None; `lock` keeps other writers from it until the end."""
        ...

    def get_many(self, class_name: str, object_ids: Iterable[str], is_bounded: bool = False) -> dict[str, Row]:
        """{id: Row} of those that exist; raise AnswerTooLarge for too much, if it `is_bounded`."""
        ...

    def insert(self, class_name: str, row: Row, text: str | None = None) -> bool:
        """Store a new object; return False, and store nothing, when its id is taken. `text` is its body's, if that is known."""
        ...

    def taken(self, class_name: str, object_ids: Iterable[str]) -> dict[str, int]:
        """{id: seq} of those that exist; `seq` grows with every insertion."""
        ...

    def last_seq(self) -> int:
        """The greatest `seq` so far, 0 in an empty store."""
        ...

    def open_objects(self, patterns: Sequence[str]) -> dict[str, int]: ...
    def page(self, class_name: str, after: Sequence[int], limit: int) -> list[Row]:
        """Rows in the order of creation, those behind `after`, the (created, seq) of a row."""
        ...

    def insert_many(self, class_name: str, rows: Sequence[tuple[str, int, int, Rights | None, str]]) -> None:
        """Store new objects, (id, created, updated, acl, body as canonical text); the caller knows that no id is taken.

        Raises StoreUnavailable, to be tried again, when another writer took one meanwhile.
        """
        ...

    def update(self, class_name: str, row: Row, text: str | None = None) -> None:
        """Store a Row over what was there; `text` is its body's, if that is known."""
        ...

    def delete(self, class_name: str, object_id: str, at: int) -> bool:
        """Delete an object at `at` ms; return whether it was there."""
        ...

    def find(self, query: Query) -> list[Row]:
        """The rows of a Query, in order."""
        ...

    def listing(self, query: Query) -> tuple[list[Row], int | None]:
        """(rows, last write) of a Query and its class, in one statement unless there are none."""
        ...

    def count(self, query: Query) -> int:
        """How many rows match, whatever the query's limit and skip."""
        ...

    def relate(self, class_name: str, key: str, owner: str, target_class: str, targets: Iterable[str]) -> None:
        """Add members to one owner's relation."""
        ...

    def relate_many(self, class_name: str, key: str, target_class: str, pairs: Iterable[tuple[str, str]]) -> int:
        """Add (owner, target) pairs to a relation column; return how many were new."""
        ...

    def unrelate(self, class_name: str, key: str, owner: str, target_class: str, targets: Iterable[str]) -> None:
        """Remove members from one owner's relation."""
        ...

    def forget_relation(self, class_name: str, key: str, owner: str) -> None:
        """Remove every member of one owner's relation."""
        ...

    def members(self, class_name: str, key: str, owner: str, target_class: str) -> list[str]:
        """The ids of one owner's relation."""
        ...

    def relation_page(self, class_name: str, key: str, after: Sequence[str], limit: int) -> list[tuple[Any, ...]]:
        """(owner, target class, target) of a relation column in order, those behind the triple `after`."""
        ...

    def all_relations(self, after: Sequence[str], limit: int) -> list[tuple[Any, ...]]:
        """(class, key, owner, target class, target) of all relations in order, those behind such a tuple."""
        ...

    def role_names(self, user_id: str) -> list[str]:
        """Names of the roles of a user: those that hold it, and again those that hold one of these roles.

        UNION drops what was seen, so circles of roles end.
        """
        ...

    def record(self, kind: str, key: str, lock: bool = False) -> Json:
        """The document of (kind, key), or None; an expired one is gone."""
        ...

    def add_record(self, kind: str, key: str, value: Json, expires: int | None = None) -> bool:
        """Store a document unless there is one; return whether it was stored. `expires` in ms."""
        ...

    def records_of(self, kind: str, keys: Iterable[str]) -> dict[str, Json]:
        """{key: document} of those that exist and are not expired."""
        ...

    def first_records(self, kind: str, limit: int) -> list[tuple[str, Json]]:
        """[(key, document)] of the first of a kind, by key."""
        ...

    def put_records(self, records: Iterable[Sequence[Any]]) -> None:
        """Store (kind, key, document, expires) tuples over what was there; those without `expires` never expire."""
        ...

    def all_records(self, after: Sequence[str], limit: int) -> list[tuple[str, str, Json, int | None]]:
        """(kind, key, document, expires) in order, expired ones too, those behind a (kind, key)."""
        ...

    def put_record(self, kind: str, key: str, value: Json, expires: int | None = None) -> None:
        """Store a document over what was there. `expires` in ms; without it, it never does."""
        ...

    def delete_record(self, kind: str, key: str) -> bool:
        """Delete a document; return whether it was there."""
        ...

    def records(self, kind: str, prefix: str = "") -> list[tuple[str, Json]]:
        """[(key, document)] of a kind whose key begins with `prefix`, by key."""
        ...

    def record_page(
        self, kind: str, after: str, limit: int, before: str = "", is_descending: bool = False
    ) -> list[tuple[str, Json]]:
        """[(key, document)] of a kind, the first by key of those behind `after` and before `before`, or the last ones."""
        ...

    def count_records(self, kind: str) -> int:
        """How many documents of a kind there are."""
        ...

    def expired_records(self, kind: str, limit: int = 100) -> list[tuple[str, Json]]:
        """[(key, document)] of a kind whose time has come."""
        ...

    def delete_expired(self, but: str, limit: int) -> int:
        """Delete records whose time has come, of every kind `but` one; return how many."""
        ...


class Store(Protocol):
    """A database. `work` is called with a transaction."""

    def read(self, work: Callable[[Transaction], Result]) -> Result: ...

    def write(self, work: Callable[[Transaction], Result]) -> Result: ...

    def build_index(self, class_name: str, keys: Sequence[str]) -> None: ...

    def drop_index(self, class_name: str, keys: Sequence[str]) -> None: ...

    def close(self) -> None: ...


class Watch(Protocol):
    """What a loop offers: `ready()` is called on it whenever the file has something to read, until `unwatch`."""

    def watch(self, file: int, ready: Callable[[], None]) -> None: ...

    def unwatch(self, file: int) -> None: ...

    def soon(self, function: Callable[[], None]) -> None:
        """Call `function()` on the loop, which may be another thread's."""


QUERY_SECONDS = 5  # clients give up after 15
MAX_FOUND = 32 << 20  # characters of the objects that one query of a client finds


class StoreUnavailable(Exception):
    """The database cannot be reached or is overloaded: nothing was changed, the client may try again."""


class QueryTimeout(Exception):
    """A query used up its time budget; `advice` is a sentence on what would help, for who asked."""

    advice = ""


class AnswerTooLarge(QueryTimeout):
    """A client's query found objects of more than MAX_FOUND characters: no answer is to fill the memory."""


class Later(Exception):
    """A call on the loop would have to wait: nothing was changed, and a thread makes it again."""


class Stale(Exception):
    """A class has changed since this process last saw it: the work is done again."""


def open_store(url: str, bulk: bool = False, query_seconds: float = QUERY_SECONDS) -> Store:
    """The store of `sqlite:///PATH` or `postgresql://...`; raise ValueError for another scheme, or without its driver.

    `bulk` is for long loads and unloads: memory stays small and writes go in large pieces. A statement that takes longer
    than `query_seconds` is stopped with QueryTimeout.
    """
    if url.startswith("sqlite:///") and url != "sqlite:///":
        from leanstorage.store.sqlite.store import SqliteStore

        return SqliteStore(url.removeprefix("sqlite:///"), bulk, query_seconds)
    if url.startswith(("postgresql://", "postgres://")):
        try:
            from leanstorage.store.postgresql.store import PostgresqlStore
        except ImportError:  # of psycopg, or of the libpq that it needs
            raise ValueError("PostgreSQL needs psycopg: pip install --no-deps -r requirements-server.txt") from None
        return PostgresqlStore(url, query_seconds)
    raise ValueError("the database must be sqlite:///PATH or postgresql://...")


def newer_layout(found: int, known: int) -> ValueError:
    """What to raise for a database that a newer program has made."""
    return ValueError(f"the database has layout {found} and this program knows {known}: use the newer program, or a backup")


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


# What comes from JSON holds no circles; to look for them takes a third of the time.
_CANONICAL = json.JSONEncoder(ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":"))


def canonical_text(value: Json) -> str:
    """A canonical value as the one JSON text that equal values share."""
    return _CANONICAL.encode(value)
