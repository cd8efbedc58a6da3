"""What both databases share: the statements of the contract, and the compiler from query trees to SQL.

Fragments of SQL are put together by `build`, whose template is ours; what a client sent is only ever a parameter. The
few names that stand in the text are checked when they are parsed.
"""
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count, takewhile
from typing import Any, NotRequired, TypedDict

from leanstorage.store import (
    Condition,
    Document,
    Group,
    Json,
    Node,
    Not,
    Path,
    Query,
    QueryTimeout,
    Result,
    Rights,
    Row,
    Stale,
    StoreUnavailable,
    canonical_text,
    now,
    type_of,
)

Fragment = tuple[str, list[Any]]  # SQL and its parameters
MAX_STATEMENTS = 1000  # that are remembered


class Seen:
    """What the transactions of a process saw and made last, for those that come."""

    def __init__(self) -> None:
        self.classes: dict[str, tuple[str, Document]] = {}  # name -> (info as it is stored, info)
        self.statements: dict[Any, tuple[Query, Document, Fragment]] = {}  # with what each was made of
COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
BUILT_IN_COLUMNS = {"objectId": "id", "createdAt": "created", "updatedAt": "updated"}
TRUE: Fragment = ("TRUE", [])
FALSE: Fragment = ("FALSE", [])
# Types whose column holds one scalar and nothing else, so that a condition needs no look at the value's kind.
SIMPLE_TYPES = frozenset(["String", "Number", "Boolean", "Pointer", "File", "Date", "Bytes", "GeoPoint"])
INDEXED_TYPES = frozenset(["String", "Number", "Boolean", "Pointer", "Date"])
MAX_INDEX_KEYS = 4
MAX_JOINED = 100
NAME = re.compile(r"[A-Za-z0-9_]+")


class Item(TypedDict):
    """A value being tested, a field or an element of an array."""

    kind: Fragment  # one of the database's type names
    value: Fragment  # the scalar
    text: Fragment  # what equal values share
    elements: NotRequired[Fragment]  # of a field in SQLite: the arguments of json_each
    body: NotRequired[Fragment]  # of a field in PostgreSQL: the body that it is in
    key: NotRequired[str | None]  # in PostgreSQL: the name of a whole column


def build(template: str, *parts: Fragment) -> Fragment:
    """Fill the `{}` of a template with fragments, in order."""
    return template.format(*(text for text, _ in parts)), [value for _, params in parts for value in params]


def bind(value: Any) -> Fragment:
    return "?", [value]


def quoted(name: str) -> str:
    """A class name as SQL text, where an index on the rows of that class can match it; raise ValueError."""
    if not NAME.fullmatch(name):
        raise ValueError("not a class name")
    return f"'{name}'"


def index_name(class_name: str, keys: Sequence[str]) -> str:
    """The name of an index: class and keys may be longer than a database allows."""
    return _index_name("\n".join([class_name, *keys]))


@lru_cache(maxsize=1000)
def _index_name(text: str) -> str:
    return "index_" + hashlib.sha256(text.encode()).hexdigest()[:32]


def join(word: str, parts: Iterable[Fragment]) -> Fragment:
    """Fragments joined by AND or OR; none at all is TRUE for AND and FALSE for OR."""
    parts = list(parts)
    if not parts:
        return TRUE if word == "AND" else FALSE
    if len(parts) > MAX_JOINED:  # SQLite's expressions have a depth, which grows with each part of a plain chain
        parts = [join(word, parts[start : start + MAX_JOINED]) for start in range(0, len(parts), MAX_JOINED)]
    return "(" + f" {word} ".join(text for text, _ in parts) + ")", [value for _, params in parts for value in params]


def _row(found: tuple[Any, ...]) -> Row:
    """The Row of the columns id, created, updated, acl, body, seq."""
    return Row(found[0], found[1], found[2], None, None, found[5], found[3], found[4])


def dump(value: Json) -> str:
    """A document as text: sorted keys, so that equal values are equal texts."""
    return canonical_text(value)


def settle(attempt: Callable[[Seen | None], Result], seen: Seen) -> Result:
    """What `attempt(seen)` returns; again when it raises Stale, the last time with None, from the database alone."""
    for memory in (seen, seen):
        try:
            return attempt(memory)
        except Stale:
            pass
    return attempt(None)


class Transaction:
    """The contract's methods, written once; a database adds `execute` and its dialect of JSON.

    Nearly every call needs the info of a class, which nearly never changes. So it is taken from `seen`, what the
    transactions of this process saw last, and the statements that run anyway also ask whether it is still so. What
    none of them answered is asked at the end of `run`.
    """

    compiler: "type[Compiler]"  # the dialect's
    # After these there is nothing to ask.
    failures: tuple[type[Exception], ...] = (Stale, StoreUnavailable, QueryTimeout)

    def __init__(self, connection: Any, query_seconds: float, seen: Seen | None = None) -> None:
        self.connection = connection
        self.query_seconds = query_seconds
        self._seen = seen
        self._infos: dict[str, Document | None] = {}  # class name -> its info as this transaction has it
        self._believed: dict[str, str] = {}  # class name -> info as it is stored, if it still is
        self._certain: set[str] = set()  # classes that this transaction has read, changed or asked about

    def run(self, work: "Callable[[Transaction], Result]") -> Result:
        """`work(self)`; raise Stale, whatever came of it, when a class was not what it was taken to be."""
        try:
            result = work(self)
        except self.failures:
            raise
        except Exception:
            self._verify()
            raise
        self._verify()
        return result

    def _verify(self) -> None:
        for name, text in list(self._believed.items()):
            found = self.execute("SELECT info FROM classes WHERE name = ?", [name])
            self._settle(name, bool(found) and found[0][0] == text)

    def _settle(self, name: str, is_so: bool) -> None:
        """Note whether a class is what it was taken to be, if it was taken to be anything; raise Stale."""
        if name not in self._believed:
            return
        if not is_so:
            if self._seen:
                self._seen.classes.pop(name, None)
            raise Stale(name)
        del self._believed[name]
        self._certain.add(name)

    def _belief(self, name: str) -> Fragment:
        """A column that tells whether a class is still what it was taken to be."""
        text = self._believed.get(name)
        return TRUE if text is None else (f"(SELECT c.info = ? FROM classes c WHERE c.name = {quoted(name)})", [text])

    def execute(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement with `?` for parameters; return its rows as a list of tuples."""
        raise NotImplementedError

    def execute_once(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The same, for a statement whose text was put together for a query of a client."""
        return self.execute(text, params)

    def change(self, text: str, params: Sequence[Any] = ()) -> int:
        """Run a statement; return the number of rows that it changed."""
        raise NotImplementedError

    def change_late(self, text: str, params: Sequence[Any]) -> None:
        """As `change`, but at any time before the next statement or the end, where its errors are raised, too."""
        self.change(text, params)

    def change_many(self, text: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement once for each tuple of parameters; return the number of rows changed in all."""
        return sum(self.change(text, params) for params in rows)

    # Documents pass through these two, because a driver may decode JSON by itself.
    encode = staticmethod(dump)
    decode = staticmethod(json.loads)

    # Classes ----------------------------------------------------------------------------------------------------

    def class_info(self, name: str, lock: bool = False) -> Document | None:
        """`{"columns": {key: type}, "permissions": {...}, "default_acl": ...}` of a class, or None.

        It is shared, and not to be changed, unless it was locked.
        """
        if not lock:
            if name in self._certain:
                return self._infos[name]
            known = self._seen and self._seen.classes.get(name)
            if known:
                self._believed[name], self._infos[name] = known
                return known[1]
        found = self.execute("SELECT info FROM classes WHERE name = ?" + self.for_update(lock), [name])
        text = found[0][0] if found else None
        self._settle(name, self._believed.get(name) == text)
        info = None
        if text is not None:
            info = self.decode(text)
            if not lock and self._seen is not None:
                self._seen.classes[name] = (text, info)
        self._certain.add(name)
        self._infos[name] = info
        return info

    def save_class(self, name: str, info: Document, deleted: int = 0) -> None:
        """Store the info of a class; `deleted` is when an object of a new one was last deleted, in ms."""
        self.change(
            "INSERT INTO classes (name, info, deleted) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET info = excluded.info",
            [name, self.encode(info), deleted],
        )
        self._believed.pop(name, None)
        self._certain.add(name)
        self._infos[name] = info

    def class_names(self) -> list[str]:
        return [name for name, in self.execute("SELECT name FROM classes ORDER BY name")]

    def last_write(self, class_name: str) -> int | None:
        """When the class was last written to, deletes included, in ms; None if never."""
        found = self.execute(
            "SELECT (SELECT max(updated) FROM objects WHERE class = ?), (SELECT deleted FROM classes WHERE name = ?)",
            [class_name, class_name],
        )
        return max(found[0][0] or 0, found[0][1] or 0) or None

    # Objects ----------------------------------------------------------------------------------------------------

    def get(self, class_name: str, object_id: str, lock: bool = False) -> Row | None:
        text, params = build(
            "SELECT id, created, updated, acl, body, seq, {} FROM objects WHERE class = ? AND id = ?",
            self._belief(class_name),
        )
        found = self.execute(text + self.for_update(lock), [*params, class_name, object_id])
        if not found:
            return None
        self._settle(class_name, found[0][6])
        return _row(found[0])

    def get_many(self, class_name: str, object_ids: Iterable[str]) -> dict[str, Row]:
        """{id: Row} of those that exist."""
        text, params = build(
            "SELECT id, created, updated, acl, body, seq FROM objects WHERE class = {} AND id IN {}",
            bind(class_name),
            self.compiler.text_list(sorted(set(object_ids))),
        )
        return {row[0]: _row(row) for row in self.execute(text, params)}

    def insert(self, class_name: str, row: Row) -> bool:
        """Store a new object; return False, and store nothing, when its id is taken."""
        text, params = build(
            "INSERT INTO objects (class, id, created, updated, acl, readers, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (class, id) DO NOTHING RETURNING {}",
            self._belief(class_name),
        )
        values = [class_name, row.id, row.created, row.updated, *self._rights(row.acl), self.encode(row.body)]
        found = self.execute(text, [*values, *params])
        if found:
            self._settle(class_name, found[0][0])
        return bool(found)

    def taken(self, class_name: str, object_ids: Iterable[str]) -> dict[str, int]:
        """{id: seq} of those that exist; `seq` grows with every insertion."""
        text, params = build(
            "SELECT id, seq FROM objects WHERE class = {} AND id IN {}",
            bind(class_name),
            self.compiler.text_list(sorted(set(object_ids))),
        )
        return dict(self.execute(text, params))

    def last_seq(self) -> int:
        """The greatest `seq` so far, 0 in an empty store."""
        return self.execute("SELECT max(seq) FROM objects")[0][0] or 0

    def page(self, class_name: str, after: Sequence[int], limit: int) -> list[Row]:
        """Rows in the order of creation, those behind `after`, the (created, seq) of a row."""
        found = self.execute(
            "SELECT id, created, updated, acl, body, seq FROM objects WHERE class = ? AND (created, seq) > (?, ?) "
            "ORDER BY created, seq LIMIT ?",
            [class_name, *after, limit],
        )
        return [_row(row) for row in found]

    def insert_many(self, class_name: str, rows: Sequence[tuple[str, int, int, Rights | None, str]]) -> None:
        """Store new objects, (id, created, updated, acl, body as canonical text); the caller knows that no id is taken.

        Raises StoreUnavailable, to be tried again, when another writer took one meanwhile.
        """
        done = self.change_many(
            "INSERT INTO objects (class, id, created, updated, acl, readers, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (class, id) DO NOTHING",
            [(class_name, row[0], row[1], row[2], *self._rights(row[3]), row[4]) for row in rows],
        )
        if done != len(rows):
            raise StoreUnavailable("another writer took an object's id")

    def update(self, class_name: str, row: Row) -> None:
        """Store a Row over what was there."""
        self.change_late(
            "UPDATE objects SET updated = ?, acl = ?, readers = ?, body = ? WHERE class = ? AND id = ?",
            [row.updated, *self._rights(row.acl), self.encode(row.body), class_name, row.id],
        )

    def delete(self, class_name: str, object_id: str, at: int) -> bool:
        """Delete an object at `at` ms; return whether it was there."""
        done = self.change("DELETE FROM objects WHERE class = ? AND id = ?", [class_name, object_id])
        self.change("UPDATE classes SET deleted = ? WHERE name = ? AND deleted < ?", [at, class_name, at])
        self.change("DELETE FROM relations WHERE class = ? AND owner = ?", [class_name, object_id])
        return bool(done)

    def find(self, query: Query) -> list[Row]:
        """The rows of a Query, in order."""
        return [_row(row) for row in self._select(query, [])]

    def listing(self, query: Query) -> tuple[list[Row], int | None]:
        """(rows, last write) of a Query and its class, in one statement unless there are none."""
        name = quoted(query.class_name)
        times: list[Fragment] = [
            (f"(SELECT max(updated) FROM objects WHERE class = {name})", []),
            (f"(SELECT deleted FROM classes WHERE name = {name})", []),
        ]
        found = self._select(query, times)
        if not found:
            return [], self.last_write(query.class_name)
        return list(map(_row, found)), max(found[0][7] or 0, found[0][8] or 0) or None

    def _select(self, query: Query, more: list[Fragment]) -> list[tuple[Any, ...]]:
        found = self.execute_once(*self._statement(query, more))
        if found:
            self._settle(query.class_name, found[0][6])
        return found

    def _statement(self, query: Query, more: list[Fragment]) -> Fragment:
        """The statement of a query; remembered for one that comes again, while its class is what it was."""
        text, info = self._seen and self._seen.classes.get(query.class_name) or (None, None)
        key = (id(query), len(more), query.class_name in self._believed)
        if self._seen and query.comes_again and info is not None and self._infos.get(query.class_name) is info:
            kept = self._seen.statements.get(key)
            if kept is not None and kept[0] is query and kept[1] is info:
                return kept[2]
        own: Fragment = ("o.id, o.created, o.updated, o.acl, o.body, o.seq", [])
        columns = [own, self._belief(query.class_name), *more]
        compiler = self.compiler(self.known)
        statement = compiler.select(query, build(", ".join(["{}"] * len(columns)), *columns))
        if self._seen and query.comes_again and info is not None and compiler.knows(query.class_name, info):
            if len(self._seen.statements) >= MAX_STATEMENTS:
                self._seen.statements.clear()
            self._seen.statements[key] = (query, info, statement)
        return statement

    def count(self, query: Query) -> int:
        """How many rows match, whatever the query's limit and skip."""
        text, params = self.compiler(self.known).count(query)
        number: int = self.execute_once(text, params)[0][0]
        return number

    def known(self, class_name: str) -> Document:
        """The info of a class as this transaction saw it last, or that of one which has no columns yet."""
        if class_name not in self._infos:
            self.class_info(class_name)
        return self._infos[class_name] or {"columns": {}}

    def _rights(self, rights: Rights | None) -> list[Any]:
        if rights is None:
            return [None, None]
        public = rights.get("*", {}).get("read") is True
        names = None if public else sorted(name for name, right in rights.items() if right.get("read") is True)
        return [self.encode(rights), None if names is None else self.encode_names(names)]

    # Relations --------------------------------------------------------------------------------------------------

    def relate(self, class_name: str, key: str, owner: str, target_class: str, targets: Iterable[str]) -> None:
        for target in targets:
            self.change(
                "INSERT INTO relations (class, key, owner, target_class, target) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (class, key, owner, target_class, target) DO NOTHING",
                [class_name, key, owner, target_class, target],
            )

    def relate_many(self, class_name: str, key: str, target_class: str, pairs: Iterable[tuple[str, str]]) -> int:
        """Add (owner, target) pairs to a relation column; return how many were new."""
        return self.change_many(
            "INSERT INTO relations (class, key, owner, target_class, target) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (class, key, owner, target_class, target) DO NOTHING",
            [(class_name, key, owner, target_class, target) for owner, target in pairs],
        )

    def unrelate(self, class_name: str, key: str, owner: str, target_class: str, targets: Iterable[str]) -> None:
        for target in targets:
            self.change(
                "DELETE FROM relations WHERE class = ? AND key = ? AND owner = ? AND target_class = ? AND target = ?",
                [class_name, key, owner, target_class, target],
            )

    def forget_relation(self, class_name: str, key: str, owner: str) -> None:
        """Remove every member of one owner's relation."""
        self.change("DELETE FROM relations WHERE class = ? AND key = ? AND owner = ?", [class_name, key, owner])

    def members(self, class_name: str, key: str, owner: str, target_class: str) -> list[str]:
        """The ids of one owner's relation."""
        found = self.execute(
            "SELECT target FROM relations WHERE class = ? AND key = ? AND owner = ? AND target_class = ?",
            [class_name, key, owner, target_class],
        )
        return [target for target, in found]

    def relation_page(self, class_name: str, key: str, after: Sequence[str], limit: int) -> list[tuple[Any, ...]]:
        """(owner, target class, target) of a relation column in order, those behind the triple `after`."""
        return self.execute(
            "SELECT owner, target_class, target FROM relations WHERE class = ? AND key = ? "
            "AND (owner, target_class, target) > (?, ?, ?) ORDER BY owner, target_class, target LIMIT ?",
            [class_name, key, *after, limit],
        )

    def all_relations(self, after: Sequence[str], limit: int) -> list[tuple[Any, ...]]:
        """(class, key, owner, target class, target) of all relations in order, those behind such a tuple."""
        return self.execute(
            "SELECT class, key, owner, target_class, target FROM relations "
            "WHERE (class, key, owner, target_class, target) > (?, ?, ?, ?, ?) "
            "ORDER BY class, key, owner, target_class, target LIMIT ?",
            [*after, limit],
        )

    def role_names(self, user_id: str) -> list[str]:
        """Names of the roles of a user: those that hold it, and again those that hold one of these roles.

        UNION drops what was seen, so circles of roles end.
        """
        found = self.execute(
            "WITH RECURSIVE held(id) AS ("
            " SELECT owner FROM relations WHERE class = '_Role' AND key = 'users' AND target_class = '_User'"
            " AND target = ?"
            " UNION SELECT r.owner FROM relations r JOIN held ON r.class = '_Role' AND r.key = 'roles'"
            " AND r.target_class = '_Role' AND r.target = held.id"
            f") SELECT {self.compiler.role_name} FROM objects o JOIN held ON o.class = '_Role' AND o.id = held.id",
            [user_id],
        )
        return sorted(name for name, in found)

    # Records ----------------------------------------------------------------------------------------------------

    def record(self, kind: str, key: str, lock: bool = False) -> Json:
        """The document of (kind, key), or None; an expired one is gone."""
        found = self.execute(
            "SELECT value FROM records WHERE kind = ? AND key = ? AND (expires IS NULL OR expires > ?)"
            + self.for_update(lock),
            [kind, key, now()],
        )
        return self.decode(found[0][0]) if found else None

    def add_record(self, kind: str, key: str, value: Json, expires: int | None = None) -> bool:
        """Store a document unless there is one; return whether it was stored. `expires` in ms."""
        self.change(
            "DELETE FROM records WHERE kind = ? AND key = ? AND expires <= ?", [kind, key, now()]
        )
        return bool(
            self.change(
                "INSERT INTO records (kind, key, value, expires) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (kind, key) DO NOTHING",
                [kind, key, self.encode(value), expires],
            )
        )

    def records_of(self, kind: str, keys: Iterable[str]) -> dict[str, Json]:
        """{key: document} of those that exist and are not expired."""
        text, params = build(
            "SELECT key, value FROM records WHERE kind = {} AND key IN {} AND (expires IS NULL OR expires > {})",
            bind(kind),
            self.compiler.text_list(sorted(set(keys))),
            bind(now()),
        )
        return {key: self.decode(value) for key, value in self.execute(text, params)}

    def first_records(self, kind: str, limit: int) -> list[tuple[str, Json]]:
        """[(key, document)] of the first of a kind, by key."""
        found = self.execute("SELECT key, value FROM records WHERE kind = ? ORDER BY key LIMIT ?", [kind, limit])
        return [(key, self.decode(value)) for key, value in found]

    def put_records(self, records: Iterable[Sequence[Any]]) -> None:
        """Store (kind, key, document, expires) tuples over what was there; those without `expires` never expire."""
        self.change_many(
            "INSERT INTO records (kind, key, value, expires) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
            [(kind, key, self.encode(value), *(expires or [None])) for kind, key, value, *expires in records],
        )

    def all_records(self, after: Sequence[str], limit: int) -> list[tuple[str, str, Json, int | None]]:
        """(kind, key, document, expires) in order, expired ones too, those behind a (kind, key)."""
        found = self.execute(
            "SELECT kind, key, value, expires FROM records WHERE (kind, key) > (?, ?) ORDER BY kind, key LIMIT ?",
            [*after, limit],
        )
        return [(kind, key, self.decode(value), expires) for kind, key, value, expires in found]

    def put_record(self, kind: str, key: str, value: Json, expires: int | None = None) -> None:
        """Store a document over what was there. `expires` in ms; without it, it never does."""
        self.change(
            "INSERT INTO records (kind, key, value, expires) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
            [kind, key, self.encode(value), expires],
        )

    def delete_record(self, kind: str, key: str) -> bool:
        """Delete a document; return whether it was there."""
        return bool(self.change("DELETE FROM records WHERE kind = ? AND key = ?", [kind, key]))

    def records(self, kind: str, prefix: str = "") -> list[tuple[str, Json]]:
        """[(key, document)] of a kind whose key begins with `prefix`, by key."""
        found = self.execute(
            "SELECT key, value FROM records WHERE kind = ? AND key >= ? AND (expires IS NULL OR expires > ?) "
            "ORDER BY key",
            [kind, prefix, now()],
        )
        return [(key, self.decode(value)) for key, value in found if key.startswith(prefix)]

    def expired_records(self, kind: str, limit: int = 100) -> list[tuple[str, Json]]:
        """[(key, document)] of a kind whose time has come."""
        found = self.execute(
            "SELECT key, value FROM records WHERE kind = ? AND expires <= ? LIMIT ?", [kind, now(), limit]
        )
        return [(key, self.decode(value)) for key, value in found]

    def delete_expired(self, but: str, limit: int) -> int:
        """Delete records whose time has come, of every kind `but` one; return how many."""
        return self.change(
            "DELETE FROM records WHERE (kind, key) IN "
            "(SELECT kind, key FROM records WHERE expires <= ? AND kind <> ? LIMIT ?)",
            [now(), but, limit],
        )

    def for_update(self, lock: bool) -> str:
        """The clause that keeps other writers away from the selected row, where a database has one."""
        return ""

    def encode_names(self, names: list[str]) -> str | list[str]:
        """A list of names as the `readers` column holds it."""
        return dump(names)


class Compiler:
    """Query trees to SQL for one statement. Subclasses speak a database's JSON; see SqliteCompiler."""

    role_name: str  # SQL of a role's name in a row `o` of objects

    def __init__(self, known: Callable[[str], Document]) -> None:
        self.known = known  # class name -> its info
        self._names = count(1)
        self._infos: dict[str, Document] = {}
        self._inner_queries: list[tuple[str, Fragment]] = []  # each before those that speak of it
        self._served: dict[str, Collection[str]] = {}  # alias -> keys that an index finds

    def knows(self, class_name: str, info: Document) -> bool:
        """Whether all that was made of classes was made of this info of this one."""
        return list(self._infos) == [class_name] and self._infos[class_name] is info

    # Statements -------------------------------------------------------------------------------------------------

    def select(self, query: Query, what: Fragment) -> Fragment:
        """`SELECT what`, a fragment, of the rows of a Query, in its order and within its limits."""
        order = self._order(query, "o")
        text, params = build(
            f"SELECT {{}} FROM {self.source(query, 'o')} WHERE {{}} ORDER BY {{}}",
            what,
            self._matching(query, "o"),
            order,
        )
        if query.limit is not None or query.skip:
            limit, limit_params = self.limits(query.limit, query.skip)
            text, params = text + limit, params + limit_params
        return self.whole((text, params))

    def count(self, query: Query) -> Fragment:
        query = replace(query, order=())
        return self.whole(build(f"SELECT count(*) FROM {self.source(query, 'o')} WHERE {{}}", self._matching(query, "o")))

    def whole(self, statement: Fragment) -> Fragment:
        """A statement with the sub-queries that it speaks of."""
        if not self._inner_queries:
            return statement
        names = [f"{name}(v) AS ({{}})" for name, _ in self._inner_queries]
        return build(f"WITH {', '.join(names)} {{}}", *(query for _, query in self._inner_queries), statement)

    def _matching(self, query: Query, alias: str) -> Fragment:
        parts: list[Fragment] = [(f"{alias}.class = {quoted(query.class_name)}", [])]
        self._served[alias] = self._served_keys(query)
        if query.principals is not None:
            parts.append(self.readable(alias, list(query.principals)))
        parts.append(self._node(query.where, query.class_name, alias))
        return join("AND", parts)

    def _order(self, query: Query, alias: str) -> Fragment:
        parts: list[Fragment] = []
        if query.near and not query.order:
            path, latitude, longitude = query.near
            parts.append(self.distance(self.field(query.class_name, path, alias), latitude, longitude))
        for path, descending in query.order:
            if path[0] in BUILT_IN_COLUMNS and len(path) == 1:
                parts.append((f"{alias}.{BUILT_IN_COLUMNS[path[0]]}{' DESC' if descending else ''}", []))
                continue
            for text, params in self.sort_keys(query.class_name, path, alias):
                parts.append((text + self.direction(descending), params))
        # What is equal stays in the order of creation, or against it: the way in which indexes have it, so that nothing
        # needs sorting.
        path, descending = query.order[-1] if query.order else ((), False)
        if path != ("objectId",):
            rest = ("seq",) if path in (("createdAt",), ("updatedAt",)) else ("created", "seq")
            parts += [(f"{alias}.{name}{' DESC' if descending else ''}", []) for name in rest]
        return ", ".join(text for text, _ in parts), [value for _, params in parts for value in params]

    # Indexes ----------------------------------------------------------------------------------------------------

    def index(self, class_name: str, keys: Sequence[str]) -> tuple[str, str]:
        """(name, `(columns) WHERE ...`) of the index that finds equal values of `keys`, oldest first.

        Its columns are the expressions that queries are compiled to. Raises ValueError for keys it cannot hold.
        """
        if not 0 < len(keys) <= MAX_INDEX_KEYS:
            raise ValueError(f"an index has 1 to {MAX_INDEX_KEYS} keys")
        texts = []
        for key in keys:
            column_type = self._type(class_name, (key,))
            if column_type not in INDEXED_TYPES:
                what = f"of type {column_type}" if column_type else "not a column of this class"
                raise ValueError(f"{key} cannot be indexed: it is {what}")
            texts.append(self.index_column(class_name, key).replace("o.body", "body"))
        return index_name(class_name, keys), f"({', '.join(texts)}, created) WHERE class = {quoted(class_name)}"

    def index_column(self, class_name: str, key: str) -> str:
        return f"({self.sort_keys(class_name, (key,), 'o')[0][0]})"

    def source(self, query: Query, alias: str) -> str:
        """The table to select from."""
        return f"objects {alias}"

    def _served_keys(self, query: Query) -> frozenset[str]:
        """Keys that all matches must equal and that the query's index begins with."""
        return frozenset(takewhile(_equal_keys(query.where).__contains__, self._index_of(query)))

    def _index_of(self, query: Query) -> Sequence[str]:
        """The keys of the index that serves a query best, () for none: by most equal values, or by the order asked for."""
        indexes: list[list[str]] | None = self._info(query.class_name).get("indexes")
        others = {node.path for node in _top_nodes(query.where) if isinstance(node, Condition)}
        if not indexes or others & {("objectId",), ()}:  # by id or by relation there are fewer
            return ()
        equal = _equal_keys(query.where)
        best = max(indexes, key=lambda keys: len(list(takewhile(equal.__contains__, keys))))
        if best[0] in equal:
            return best
        if not query.order or query.limit is None or others & {("createdAt",), ("updatedAt",)}:
            return ()
        return next((keys for keys in indexes if (keys[0],) == query.order[0][0]), ())

    # Nodes ------------------------------------------------------------------------------------------------------

    def _node(self, node: Node, class_name: str, alias: str) -> Fragment:
        if isinstance(node, Group):
            return join(node.op.upper(), [self._node(child, class_name, alias) for child in node.nodes])
        if isinstance(node, Not):
            return build("(({}) IS NOT TRUE)", self._node(node.node, class_name, alias))
        if node.path and len(node.path) == 1 and node.path[0] in BUILT_IN_COLUMNS:
            return self._built_in(node, f"{alias}.{BUILT_IN_COLUMNS[node.path[0]]}")
        found: Fragment = getattr(self, f"_{node.op}")(node, class_name, alias)
        return found

    def _built_in(self, node: Condition, column: str) -> Fragment:
        """Conditions on objectId and the two times, which are columns and never missing."""
        wanted = str if column.endswith(".id") else int
        op, operand = node.op, node.operand
        if op == "exists":
            return TRUE if operand else FALSE
        if op == "eq":
            return build(f"{column} = {{}}", bind(operand)) if isinstance(operand, wanted) else FALSE
        if op in COMPARISONS:
            return build(f"{column} {COMPARISONS[op]} {{}}", bind(operand)) if isinstance(operand, wanted) else FALSE
        if op == "in" and wanted is str:
            return build(f"{column} IN {{}}", self.text_list([item for item in operand if isinstance(item, str)]))
        if op == "in":
            return join("OR", [build(f"{column} = {{}}", bind(item)) for item in operand if isinstance(item, int)])
        if op == "regex" and wanted is str:
            return self.search((column, []), operand)
        if op == "select":
            key, query = operand
            return self._selected((column, []), key, query) if wanted is str else FALSE
        return FALSE

    def _type(self, class_name: str, path: Path) -> str | None:
        """The type of a whole column, or None for what lies inside one and for columns not seen yet."""
        if len(path) > 1:
            return None
        column = self._info(class_name)["columns"].get(path[0])
        return column["type"] if column else None

    def _info(self, class_name: str) -> Document:
        if class_name not in self._infos:
            self._infos[class_name] = self.known(class_name)
        return self._infos[class_name]

    def _eq(self, node: Condition, class_name: str, alias: str) -> Fragment:
        column_type = self._type(class_name, node.path)
        operand = node.operand
        if column_type == "Relation":
            return self._member(alias, node.path[0], operand)
        item = self.field(class_name, node.path, alias)
        if column_type in SIMPLE_TYPES:
            if operand is None:
                return build("{} IS NULL", item["value"])
            found = type_of(operand)
            if found is None or found["type"] != column_type:
                return FALSE
            is_served = node.path[0] in self._served[alias]
            return (self.indexed_equal if is_served else self.simple_equal)(item, column_type, operand)
        tests = [self.equal(item, operand)]
        if operand is None:
            tests.append(build("{} IS NULL", item["kind"]))
        tests.append(self.any_element(item, lambda element: self.equal(element, operand)))
        return join("OR", tests)

    def _in(self, node: Condition, class_name: str, alias: str) -> Fragment:
        column_type = self._type(class_name, node.path)
        texts = [value for value in node.operand if isinstance(value, str)]
        if column_type == "String" and len(texts) == len(node.operand) > 1:
            item = self.field(class_name, node.path, alias)
            return build("{} IN {}", item["value"], self.text_list(texts))
        if column_type not in SIMPLE_TYPES and column_type != "Relation" and len(texts) == len(node.operand) > 1:

            def is_listed(item: Item) -> Fragment:
                return build("{} IN {}", self.text_value(item), self.text_list(texts))

            item = self.field(class_name, node.path, alias)
            return join("OR", [is_listed(item), self.any_element(item, is_listed)])
        return join("OR", [self._eq(Condition("eq", node.path, value), class_name, alias) for value in node.operand])

    def _all(self, node: Condition, class_name: str, alias: str) -> Fragment:
        if not node.operand:
            return FALSE
        return join("AND", [self._eq(Condition("eq", node.path, value), class_name, alias) for value in node.operand])

    def _compare(self, node: Condition, class_name: str, alias: str) -> Fragment:
        column_type = self._type(class_name, node.path)
        item = self.field(class_name, node.path, alias)
        operator, operand = COMPARISONS[node.op], node.operand
        if column_type in SIMPLE_TYPES:
            found = type_of(operand)
            is_same = found is not None and found["type"] == column_type
            return self.simple_compare(item, column_type, operator, operand) if is_same else FALSE
        if column_type == "Relation":
            return FALSE
        return join(
            "OR",
            [
                self.compare(item, operator, operand),
                self.any_element(item, lambda element: self.compare(element, operator, operand)),
            ],
        )

    _lt = _lte = _gt = _gte = _compare

    def _size(self, node: Condition, class_name: str, alias: str) -> Fragment:
        item = self.field(class_name, node.path, alias)
        return self.array_length(item, node.operand)

    def _exists(self, node: Condition, class_name: str, alias: str) -> Fragment:
        if self._type(class_name, node.path) == "Relation":
            return TRUE if node.operand else FALSE
        item = self.field(class_name, node.path, alias)
        return build("{} IS NOT NULL" if node.operand else "{} IS NULL", item["kind"])

    def _regex(self, node: Condition, class_name: str, alias: str) -> Fragment:
        item = self.field(class_name, node.path, alias)
        column_type = self._type(class_name, node.path)
        if column_type == "String":
            return self.search(item["value"], node.operand)
        if column_type in SIMPLE_TYPES or column_type == "Relation":
            return FALSE
        return join(
            "OR",
            [
                self.text_search(item, node.operand),
                self.any_element(item, lambda element: self.text_search(element, node.operand)),
            ],
        )

    def _in_query(self, node: Condition, class_name: str, alias: str) -> Fragment:
        query = node.operand
        inner = self._inner(query, "{alias}.id")
        column_type = self._type(class_name, node.path)
        if column_type == "Relation":
            member = f"r{next(self._names)}"
            return build(
                f"EXISTS (SELECT 1 FROM relations {member} WHERE {member}.class = {alias}.class "
                f"AND {member}.owner = {alias}.id AND {member}.key = {{}} AND {member}.target_class = {{}} "
                f"AND {member}.target IN ({{}}))",
                bind(node.path[0]),
                bind(query.class_name),
                inner,
            )
        item = self.field(class_name, node.path, alias)
        # The inner query stands in the text once, whatever the column holds: twice would double with every level.
        if column_type in SIMPLE_TYPES:
            return self.points_into(item, query.class_name, inner) if column_type in ("Pointer", "File") else FALSE
        return self.any_of(item, lambda element: self.points_into(element, query.class_name, inner))

    def _select(self, node: Condition, class_name: str, alias: str) -> Fragment:
        key, query = node.operand
        item = self.field(class_name, node.path, alias)
        return self._selected(self.text_value(item), key, query, item["text"])

    def _selected(self, value: Fragment, key: Path, query: Query, text: Fragment | None = None) -> Fragment:
        """Whether an item equals the key of a result: as plain text it is `value`, as anything `text` if given."""
        name = self._next_alias()
        if len(key) == 1 and key[0] == "objectId":
            return build("{} IN ({})", value, self._inner(query, "{alias}.id", name))
        target = self.field(query.class_name, key, name)
        if text is None:
            return build("{} IN ({})", value, self._inner_of(query, self.text_value(target), name))
        return build("{} IN ({})", text, self._inner_of(query, target["text"], name))

    def _inner(self, query: Query, what: str, alias: str | None = None) -> Fragment:
        alias = alias or self._next_alias()
        return self._inner_of(query, (what.format(alias=alias), []), alias)

    def _inner_of(self, query: Query, what: Fragment, alias: str) -> Fragment:
        """`SELECT what` of a sub-query, ordered only where a limit makes the order matter.

        It stands before the statement, because a database's parser bears only so many levels.
        """
        source = self.source(query, alias)
        text, params = build(f"SELECT {{}} FROM {source} WHERE {{}}", what, self._matching(query, alias))
        if query.limit is not None or query.skip:
            order, order_params = self._order(query, alias)
            limit, limit_params = self.limits(query.limit, query.skip)
            text, params = text + " ORDER BY " + order + limit, params + order_params + limit_params
        name = f"q{next(self._names)}"
        self._inner_queries.append((name, (text, params)))
        return f"SELECT v FROM {name}", []

    def _next_alias(self) -> str:
        return f"o{next(self._names)}"

    def _member(self, alias: str, key: str, operand: Json) -> Fragment:
        """Owners whose relation `key` holds a pointer."""
        if not isinstance(operand, dict) or operand.get("__type") not in ("Pointer", "File"):
            return FALSE
        member = f"r{next(self._names)}"
        return build(
            f"EXISTS (SELECT 1 FROM relations {member} WHERE {member}.class = {alias}.class "
            f"AND {member}.owner = {alias}.id AND {member}.key = {{}} AND {member}.target_class = {{}} "
            f"AND {member}.target = {{}})",
            bind(key),
            bind(operand.get("className", "_File")),
            bind(operand.get("objectId") or operand.get("id")),
        )

    def _related(self, node: Condition, class_name: str, alias: str) -> Fragment:
        owner_class, owner_id, key = node.operand
        member = f"r{next(self._names)}"
        return build(
            f"{alias}.id IN (SELECT {member}.target FROM relations {member} WHERE {member}.class = {{}} "
            f"AND {member}.key = {{}} AND {member}.owner = {{}} AND {member}.target_class = {{}})",
            bind(owner_class),
            bind(key),
            bind(owner_id),
            bind(class_name),
        )

    def _near(self, node: Condition, class_name: str, alias: str) -> Fragment:
        latitude, longitude, least, greatest = node.operand
        item = self.field(class_name, node.path, alias)
        angle = self.distance(item, latitude, longitude)
        tests = [build("{} IS NOT NULL", angle)]
        # A hair of tolerance, because bounds are inclusive and miles and kilometres do not divide evenly.
        if least is not None:
            tests.append(build("{} >= {}", angle, bind(least - 1e-12)))
        if greatest is not None:
            tests.append(build("{} <= {}", angle, bind(greatest + 1e-12)))
        return join("AND", tests)

    def _box(self, node: Condition, class_name: str, alias: str) -> Fragment:
        south, west, north, east = node.operand
        item = self.field(class_name, node.path, alias)
        latitude, longitude = self.coordinates(item)
        return join(
            "AND",
            [
                build("{} BETWEEN {} AND {}", latitude, bind(south), bind(north)),
                build("{} BETWEEN {} AND {}", longitude, bind(west), bind(east)),
            ],
        )

    # What a database adds ---------------------------------------------------------------------------------------

    @staticmethod
    def text_list(texts: Sequence[str]) -> Fragment:
        """What stands behind IN."""
        raise NotImplementedError

    def limits(self, limit: int | None, skip: int) -> Fragment:
        raise NotImplementedError

    def direction(self, descending: bool) -> str:
        raise NotImplementedError

    def readable(self, alias: str, principals: list[str]) -> Fragment:
        """Whether one of the principals may read a row."""
        raise NotImplementedError

    def field(self, class_name: str, path: Path, alias: str) -> Item:
        raise NotImplementedError

    def any_element(self, item: Item, test: Callable[[Item], Fragment]) -> Fragment:
        """Whether an array has an element that passes the test."""
        raise NotImplementedError

    def any_of(self, item: Item, test: Callable[[Item], Fragment]) -> Fragment:
        """Whether an object, or one of the elements of an array, passes the test."""
        raise NotImplementedError

    def equal(self, item: Item, operand: Json) -> Fragment:
        raise NotImplementedError

    def compare(self, item: Item, operator: str, operand: Json) -> Fragment:
        raise NotImplementedError

    def simple_equal(self, item: Item, column_type: str, operand: Json) -> Fragment:
        """Equality on a column of one of SIMPLE_TYPES."""
        raise NotImplementedError

    def indexed_equal(self, item: Item, column_type: str, operand: Json) -> Fragment:
        """The same as an index serves it."""
        raise NotImplementedError

    def simple_compare(self, item: Item, column_type: str, operator: str, operand: Json) -> Fragment:
        raise NotImplementedError

    def array_length(self, item: Item, length: int) -> Fragment:
        """Whether an item is an array of this length."""
        raise NotImplementedError

    def search(self, text: Fragment, operand: tuple[str, int]) -> Fragment:
        """Whether a pattern, with flags, occurs in a text."""
        raise NotImplementedError

    def text_search(self, item: Item, operand: tuple[str, int]) -> Fragment:
        raise NotImplementedError

    def text_value(self, item: Item) -> Fragment:
        """An item that is a text, else NULL."""
        raise NotImplementedError

    def points_into(self, item: Item, class_name: str, inner: Fragment) -> Fragment:
        """Whether an item is a pointer to one of the ids that `inner` selects."""
        raise NotImplementedError

    def coordinates(self, item: Item) -> tuple[Fragment, Fragment]:
        """Latitude and longitude of a GeoPoint in degrees, else NULL."""
        raise NotImplementedError

    def distance(self, item: Item, latitude: float, longitude: float) -> Fragment:
        """The angle to a point in radians."""
        raise NotImplementedError

    def sort_keys(self, class_name: str, path: Path, alias: str) -> list[Fragment]:
        """What to order by: a column, or first the rank of the type and then the value."""
        raise NotImplementedError

def _top_nodes(where: Node) -> tuple[Node, ...]:
    """The nodes all of which must hold."""
    return where.nodes if isinstance(where, Group) and where.op == "and" else (where,)


def _equal_keys(where: Node) -> set[str]:
    """Whole columns that every match must equal some value in."""
    return {
        node.path[0]
        for node in _top_nodes(where)
        if isinstance(node, Condition) and node.op == "eq" and len(node.path) == 1 and node.operand is not None
    }
