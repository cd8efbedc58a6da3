"""A transaction on PostgreSQL. Patterns are matched here, not by the database, whose dialect is another."""
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
import psycopg
import regex
from psycopg.rows import TupleRow
from leanstorage.store import (
    Condition,
    Document,
    Group,
    Json,
    Later,
    Node,
    Not,
    Query,
    QueryTimeout,
)
from leanstorage.store.fragments import Fragment, build
from leanstorage.store.choice import served_keys
from leanstorage.store.memory import Looks, MAX_STATEMENTS
from leanstorage.store.paths import values_at
from leanstorage.store.stages import first_newest
from leanstorage.store.transaction import Transaction
from leanstorage.store.postgresql.compiler import PostgresqlCompiler
from leanstorage.store.postgresql.spelling import LOCK
from leanstorage.store.postgresql.wire import Connection

REGEX_SECONDS = 1  # of one match
FETCHED = 1000  # rows at a time
SMALL = 20_000  # objects
LOOP_BYTES = 1 << 20  # of documents; what is larger would keep a loop from its other calls


class PostgresqlTransaction(Transaction):
    compiler = PostgresqlCompiler
    failures = (*Transaction.failures, Later, psycopg.Error)
    connection: Connection

    def execute(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        wire = self.connection.wire
        return wire.rows(wire.run(text, params))

    def execute_once(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        wire = self.connection.wire
        return wire.rows(wire.run_passing(text, params))

    def change(self, text: str, params: Sequence[Any] = ()) -> int:
        return self.connection.wire.run(text, params).command_tuples or 0

    def change_late(self, text: str, params: Sequence[Any]) -> None:
        self.connection.wire.run_late(text, params)

    def change_many(self, text: str, rows: Sequence[Sequence[Any]]) -> int:
        with self._cursor() as cursor:
            cursor.executemany(_placeholders(text), rows)
            return max(0, cursor.rowcount)

    def for_update(self, lock: bool) -> str:
        return " FOR UPDATE" if lock else ""

    def encode_names(self, names: list[str]) -> list[str]:
        return names

    def class_info(self, name: str, lock: bool = False) -> Document | None:
        if lock:
            self._lock("class", name)
        return super().class_info(name, lock)

    def record(self, kind: str, key: str, lock: bool = False) -> Json:
        if lock:
            self._lock(kind, key)
        return super().record(kind, key, lock)

    def _select(self, query: Query, more: list[Fragment]) -> list[tuple[Any, ...]]:
        query = self._resolved(self._matched(query))
        newest, looks = self._newest(query), self._seen.looks if self._seen else Looks()
        is_whole, found = False, list[tuple[Any, ...]]()
        if newest is not None and not looks.is_needless(query):
            found = super()._select(newest, more)
            is_whole = len(found) >= (query.limit or 0)
            if not is_whole:
                looks.in_vain(query, self._is_small)
        if not is_whole:
            found = super()._select(query, more)
        if self.connection.wire.wait is not None and sum([len(row[4]) for row in found]) > LOOP_BYTES:
            raise Later
        return found

    def _newest(self, query: Query) -> Query | None:
        """What first_newest makes of a query; remembered for one that comes again, while its class is what it was."""
        info = self.known(query.class_name)
        memory = self._seen.newest if self._seen and query.comes_again else {}
        kept = memory.get(id(query))
        if kept is not None and kept[0] is query and kept[1] is info:
            return kept[2]
        newest = first_newest(query, served_keys(query.where, info.get("indexes", [])), self.known)
        if len(memory) >= MAX_STATEMENTS:
            memory.clear()
        if newest is not None:
            newest = replace(newest, comes_again=query.comes_again)
        memory[id(query)] = (query, info, newest)
        return newest

    def _is_small(self, class_name: str) -> bool:
        """Whether all objects of a class can be looked at in a few milliseconds."""
        found = self.execute("SELECT count(*) FROM (SELECT FROM objects WHERE class = ? LIMIT ?) o", [class_name, SMALL + 1])
        return bool(found[0][0] <= SMALL)

    def count(self, query: Query) -> int:
        return super().count(self._matched(query))

    def _cursor(self) -> psycopg.Cursor[TupleRow]:
        """psycopg's own way, which waits; raise Later where nobody may."""
        if self.connection.wire.wait is not None:
            raise Later
        self.connection.wire.really_begin()
        return self.connection.cursor()

    def _lock(self, kind: str, key: str) -> None:
        """Keep other writers from what is not there yet, and has no row to lock."""
        self.execute(LOCK, [f"{kind}\n{key}"])

    # Regular expressions ----------------------------------------------------------------------------------------

    def _matched(self, query: Query) -> Query:
        """A query whose regular expressions are replaced by the ids of the rows that they match."""
        if not _has_regex(query.where):
            return query
        end = time.monotonic() + self.query_seconds
        return replace(query, where=self._without_regex(query.where, _everything(query), end))

    def _without_regex(self, node: Node, query: Query, end: float) -> Node:
        """A node without regular expressions; `query` holds the other conditions that any match must meet."""
        if isinstance(node, Not):
            return Not(self._without_regex(node.node, query, end))
        if isinstance(node, Group) and node.op == "and":
            plain = [child for child in node.nodes if not _has_regex(child)]
            narrow = replace(query, where=Group("and", (query.where, *plain)))
            rest = [self._without_regex(child, narrow, end) for child in node.nodes if _has_regex(child)]
            return Group("and", (*plain, *rest))
        if isinstance(node, Group):
            return Group(node.op, tuple(self._without_regex(child, query, end) for child in node.nodes))
        if node.op == "regex":
            return Condition("in", ("objectId",), self._matching_ids(node, query, end))
        if node.op == "in_query" and _has_regex(node.operand.where):
            inner = self._without_regex(node.operand.where, _everything(node.operand), end)
            return replace(node, operand=replace(node.operand, where=inner))
        if node.op == "select" and _has_regex(node.operand[1].where):
            key, inner = node.operand
            where = self._without_regex(inner.where, _everything(inner), end)
            return replace(node, operand=(key, replace(inner, where=where)))
        return node

    def _matching_ids(self, node: Condition, query: Query, end: float) -> list[str]:
        """Ids of the rows of `query` whose field matches, looked at in pieces; raise QueryTimeout after `end`."""
        pattern, flags = node.operand
        compiled = regex.compile(pattern, flags)
        compiler = self.compiler(self.known)
        is_id = node.path == ("objectId",)
        # Where arrays may stand on the way, all of the column is fetched and its paths are walked here.
        is_walked = compiler.arrays_before(query.class_name, node.path, "o") != []
        path, rest = (node.path[:1], node.path[1:]) if is_walked else (node.path, ())
        item: Fragment = ("to_jsonb(o.id)", []) if is_id else compiler.field(query.class_name, path, "o")["text"]
        kinds = "'object', 'array'" if is_walked else "'string', 'array'"
        present = build("SELECT o.id, {} FROM objects o WHERE {}", item, compiler.matching(query, "o"))
        present = build(f"{{}} AND jsonb_typeof({{}}) IN ({kinds})", present, item)
        found = []
        text, params = compiler.whole(present)
        with self._cursor() as cursor:
            cursor.execute(_placeholders(text), params)
            while rows := cursor.fetchmany(FETCHED):
                for object_id, value in rows:
                    texts = values_at(json.loads(value), rest)
                    if any(isinstance(one, str) and _search(compiled, one) for one in texts):
                        found.append(object_id)
                if time.monotonic() > end:
                    raise QueryTimeout
        return found


def _everything(query: Query) -> Query:
    """Every row of a query's class that its reader may see."""
    return replace(query, where=Group("and", ()), limit=None, skip=0)


def _search(compiled: "regex.Pattern[str]", text: str) -> bool:
    try:
        return compiled.search(text, timeout=REGEX_SECONDS, concurrent=True) is not None
    except TimeoutError as error:
        raise QueryTimeout from error


def _has_regex(node: Node) -> bool:
    if isinstance(node, Group):
        return any(map(_has_regex, node.nodes))
    if isinstance(node, Not):
        return _has_regex(node.node)
    if node.op == "in_query":
        return _has_regex(node.operand.where)
    if node.op == "select":
        return _has_regex(node.operand[1].where)
    return node.op == "regex"


def _placeholders(text: str) -> str:
    """Our `?` as the driver's `%s`; no statement has either sign elsewhere."""
    return text.replace("%", "%%").replace("?", "%s")
