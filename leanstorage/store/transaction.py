"""The statements of the contract, written once for both databases."""
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from leanstorage.store import (
    AnswerTooLarge,
    Document,
    MAX_FOUND,
    Query,
    QueryTimeout,
    Result,
    Rights,
    Row,
    Stale,
    StoreUnavailable,
)
from leanstorage.store import tallies
from leanstorage.store.compiler import Compiler
from leanstorage.store.memory import MAX_STATEMENT_CHARACTERS, MAX_STATEMENTS, Seen
from leanstorage.store.fragments import TRUE, Fragment, bind, build, quoted
from leanstorage.store.records import Records
from leanstorage.store.stages import Resolver, nearer, past_skipped

Known = tuple[str, Document]  # the info of a class as it is stored, and decoded
INSERT = (
    "INSERT INTO objects (class, id, created, updated, acl, readers, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (class, id) DO NOTHING"
)


class Transaction(Records):
    """The contract's methods, written once; a database adds `execute` and its dialect of JSON.

    Nearly every call needs the info of a class, which hardly ever changes. So it comes from `seen`, what transactions of
    this process saw last, and statements that run anyway check that it is current. What none of them checked is checked
    at the end of `run`. `checked` is what works of one transaction, in which nobody else writes, tell each other of that.
    """

    compiler: "type[Compiler]"  # the dialect's
    # After these there is nothing to ask.
    failures: tuple[type[Exception], ...] = (Stale, StoreUnavailable, QueryTimeout)

    def __init__(
        self, connection: Any, query_seconds: float, seen: Seen | None = None, checked: dict[str, Known] | None = None
    ) -> None:
        self.connection = connection
        self.query_seconds = query_seconds
        self._seen = seen
        self._infos: dict[str, Document | None] = {}  # class name -> its info as this transaction has it
        self._believed: dict[str, Known] = {}  # class name -> its info as it is stored, if it still is
        self._checked = {} if checked is None else checked  # class name -> its info as it is stored, which nobody changes
        self._certain: set[str] = set()  # classes that this transaction has read, changed or asked about

    def run(self, work: "Callable[[Transaction], Result]") -> Result:
        """`work(self)`; raise Stale, whatever the result, if a class had changed since it was cached."""
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
        for name, (text, _) in list(self._believed.items()):
            found = self.execute("SELECT info FROM classes WHERE name = ?", [name])
            self._settle(name, bool(found) and found[0][0] == text)

    def _settle(self, name: str, is_so: bool) -> None:
        """Note that a cached class is current; raise Stale if it is not."""
        if name not in self._believed:
            return
        if not is_so:
            if self._seen:
                self._seen.classes.pop(name, None)
            raise Stale(name)
        self._checked[name] = self._believed.pop(name)
        self._certain.add(name)

    def _belief(self, name: str) -> Fragment:
        """A column that tells whether a cached class is current."""
        known = self._believed.get(name)
        return TRUE if known is None else (f"(SELECT c.info = ? FROM classes c WHERE c.name = {quoted(name)})", [known[0]])

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that leaves no trace if it raises; the rest may still be kept."""
        before = dict(self._infos), dict(self._believed), set(self._certain)
        self.execute("SAVEPOINT part")
        try:
            yield
        except self.failures:  # of the whole transaction
            raise
        except Exception:
            self.execute("ROLLBACK TO part")
            self._infos, self._believed, self._certain = before
            raise
        self.execute("RELEASE part")

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
                self._infos[name] = known[1]
                if self._checked.get(name) is known:
                    self._certain.add(name)
                else:
                    self._believed[name] = known
                return known[1]
        found = self.execute("SELECT info FROM classes WHERE name = ?" + self.for_update(lock), [name])
        text = found[0][0] if found else None
        self._settle(name, self._believed.get(name, (None,))[0] == text)
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
        self._checked.pop(name, None)
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
        belief, params = self._belief(class_name)
        text = f"SELECT id, created, updated, acl, body, seq, {belief} FROM objects WHERE class = ? AND id = ?"
        found = self.execute(text + self.for_update(lock), [*params, class_name, object_id])
        if not found:
            return None
        self._settle(class_name, found[0][6])
        return Row.read(found[0])

    def get_many(self, class_name: str, object_ids: Iterable[str], is_bounded: bool = False) -> dict[str, Row]:
        """{id: Row} of those that exist; raise AnswerTooLarge for too much, if it `is_bounded`."""
        text, params = build(
            "SELECT id, created, updated, acl, body, seq FROM objects WHERE class = {} AND id IN {}",
            bind(class_name),
            self.compiler.text_list(sorted(set(object_ids))),
        )
        return {row[0]: Row.read(row) for row in self.fetch(text, params, is_bounded)}

    def insert(self, class_name: str, row: Row, text: str | None = None) -> bool:
        """Store a new object; return False, and store nothing, when its id is taken. `text` is its body's, if that is known."""
        body = self.encode(row.body) if text is None else text
        values = [class_name, row.id, row.created, row.updated, *self._rights(row.acl), body]
        if class_name not in self._believed:
            return bool(self.change(INSERT, values))
        belief, params = self._belief(class_name)
        found = self.execute(f"{INSERT} RETURNING {belief}", [*values, *params])
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
        return [Row.read(row) for row in found]

    def open_objects(self, patterns: Sequence[str]) -> dict[str, int]:
        """{class: number of objects} without an ACL, or with one whose canonical text is LIKE one of `patterns`."""
        tests = "".join([" OR acl LIKE ?"] * len(patterns))
        return dict(self.execute(f"SELECT class, count(*) FROM objects WHERE acl IS NULL{tests} GROUP BY class", patterns))

    def insert_many(self, class_name: str, rows: Sequence[tuple[str, int, int, Rights | None, str]]) -> None:
        """Store new objects, (id, created, updated, acl, body as canonical text); the caller knows that no id is taken.

        Raises StoreUnavailable, to be tried again, when another writer took one meanwhile.
        """
        done = self.change_many(
            INSERT,
            [(class_name, row[0], row[1], row[2], *self._rights(row[3]), row[4]) for row in rows],
        )
        if done != len(rows):
            raise StoreUnavailable("another writer took an object's id")

    def update(self, class_name: str, row: Row, text: str | None = None) -> None:
        """Store a Row over what was there; `text` is its body's, if that is known."""
        body = self.encode(row.body) if text is None else text
        self.change_late(
            "UPDATE objects SET updated = ?, acl = ?, readers = ?, body = ? WHERE class = ? AND id = ?",
            [row.updated, *self._rights(row.acl), body, class_name, row.id],
        )

    def delete(self, class_name: str, object_id: str, at: int) -> bool:
        """Delete an object at `at` ms; return whether it was there."""
        done = self.change("DELETE FROM objects WHERE class = ? AND id = ?", [class_name, object_id])
        self.change("UPDATE classes SET deleted = ? WHERE name = ? AND deleted < ?", [at, class_name, at])
        self.change("DELETE FROM relations WHERE class = ? AND owner = ?", [class_name, object_id])
        return bool(done)

    def find(self, query: Query) -> list[Row]:
        """The rows of a Query, in order."""
        return [Row.read(row) for row in self._select(query, [])]

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
        return list(map(Row.read, found)), max(found[0][7], found[0][8] or 0) or None

    def _select(self, query: Query, more: list[Fragment]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for part, is_whole in nearer(past_skipped(self._resolved(query), self.execute), self.known):
            found = self.fetch(*self._statement(part, more), is_bounded=query.principals is not None)
            if is_whole or len(found) == query.limit:
                break
        if found:
            self._settle(query.class_name, found[0][6])
        return found

    def fetch(self, text: str, params: Sequence[Any], is_bounded: bool) -> list[tuple[Any, ...]]:
        """The rows of a query, with the body in the fifth column; raise AnswerTooLarge for too much, if it `is_bounded`."""
        found = self.execute_once(text, params)
        if is_bounded and sum([len(row[4] or "") for row in found]) > MAX_FOUND:
            raise AnswerTooLarge
        return found

    def _resolved(self, query: Query) -> Query:
        return Resolver(self.known, self._ids, self.query_seconds).resolved(query)

    def _ids(self, query: Query, most: int) -> list[str]:
        """The ids of some objects of a query, of which they are the first where that matters."""
        is_cut = query.limit is not None or query.skip
        if is_cut:
            query = replace(query, limit=min(most, most if query.limit is None else query.limit))
        else:
            query = replace(query, order=(), limit=most)
        return [found[0] for found in self.execute_once(*self._compiler().select(query, ("o.id", []), is_ordered=bool(is_cut)))]

    def _compiler(self) -> Compiler:
        return self.compiler(self.known, lambda statement: int(self.execute_once(*statement)[0][0]))

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
        compiler = self._compiler()
        statement = compiler.select(query, build(", ".join(["{}"] * len(columns)), *columns))
        is_short = len(statement[0]) <= MAX_STATEMENT_CHARACTERS
        if self._seen and query.comes_again and is_short and info is not None and compiler.knows(query.class_name, info):
            if len(self._seen.statements) >= MAX_STATEMENTS:
                self._seen.statements.clear()
            self._seen.statements[key] = (query, info, statement)
        return statement

    def count(self, query: Query) -> int:
        """How many rows match, whatever the query's limit and skip."""
        query = next(iter(nearer(replace(self._resolved(query), limit=None, near=None), self.known)))[0]
        compiler = self._compiler()
        text, params = tallies.count(compiler, query) or compiler.count(query)
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
