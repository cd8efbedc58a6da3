"""What both databases share: the statements of the contract, and the compiler from query trees to SQL.

A fragment of SQL is a pair (text, parameters). Fragments are put together by `build`, whose template is ours; what a
client sent is only ever a parameter. The few names that stand in the text are checked when they are parsed.
"""
import hashlib
import json
import re
from dataclasses import replace
from functools import lru_cache
from itertools import count, takewhile

from leanstorage.store import (
    Condition,
    Group,
    Not,
    QueryTimeout,
    Row,
    Stale,
    StoreUnavailable,
    canonical_text,
    now,
    type_of,
)

COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
BUILT_IN_COLUMNS = {"objectId": "id", "createdAt": "created", "updatedAt": "updated"}
TRUE, FALSE = ("TRUE", []), ("FALSE", [])
# Types whose column holds one scalar and nothing else, so that a condition needs no look at the value's kind.
SIMPLE_TYPES = frozenset(["String", "Number", "Boolean", "Pointer", "File", "Date", "Bytes", "GeoPoint"])
INDEXED_TYPES = frozenset(["String", "Number", "Boolean", "Pointer", "Date"])
MAX_INDEX_KEYS = 4
NAME = re.compile(r"[A-Za-z0-9_]+")


def build(template, *parts):
    """Fill the `{}` of a template with fragments, in order."""
    return template.format(*(text for text, _ in parts)), [value for _, params in parts for value in params]


def bind(value):
    return "?", [value]


def quoted(name):
    """A class name as SQL text, where an index on the rows of that class can match it; raise ValueError."""
    if not NAME.fullmatch(name):
        raise ValueError("not a class name")
    return f"'{name}'"


def index_name(class_name, keys):
    """The name of an index: class and keys may be longer than a database allows."""
    return _index_name("\n".join([class_name, *keys]))


@lru_cache(maxsize=1000)
def _index_name(text):
    return "index_" + hashlib.sha256(text.encode()).hexdigest()[:32]


def join(word, parts):
    """Fragments joined by AND or OR; none at all is TRUE for AND and FALSE for OR."""
    parts = list(parts)
    if not parts:
        return TRUE if word == "AND" else FALSE
    return "(" + f" {word} ".join(text for text, _ in parts) + ")", [value for _, params in parts for value in params]


def _row(found):
    """The Row of the columns id, created, updated, acl, body, seq."""
    return Row(found[0], found[1], found[2], None, None, found[5], found[3], found[4])


def dump(value):
    """A document as text: sorted keys, so that equal values are equal texts."""
    return canonical_text(value)


def settle(attempt, seen):
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

    compiler = None  # the dialect's Compiler class
    failures = (Stale, StoreUnavailable, QueryTimeout)  # after which there is nothing to ask

    def __init__(self, connection, query_seconds, seen=None):
        self.connection = connection
        self.query_seconds = query_seconds
        self._seen = seen  # class name -> (info as it is stored, info), or None
        self._infos = {}  # class name -> its info as this transaction has it
        self._believed = {}  # class name -> info as it is stored, if it still is
        self._certain = set()  # classes that this transaction has read, changed or asked about

    def run(self, work):
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

    def _verify(self):
        for name, text in list(self._believed.items()):
            found = self.execute("SELECT info FROM classes WHERE name = ?", [name])
            self._settle(name, bool(found) and found[0][0] == text)

    def _settle(self, name, is_so):
        """Note whether a class is what it was taken to be, if it was taken to be anything; raise Stale."""
        if name not in self._believed:
            return
        if not is_so:
            self._seen.pop(name, None)
            raise Stale(name)
        del self._believed[name]
        self._certain.add(name)

    def _belief(self, name):
        """A column that tells whether a class is still what it was taken to be."""
        text = self._believed.get(name)
        return TRUE if text is None else (f"(SELECT c.info = ? FROM classes c WHERE c.name = {quoted(name)})", [text])

    def execute(self, text, params=()):
        """Run a statement with `?` for parameters; return its rows as a list of tuples."""
        raise NotImplementedError

    def execute_once(self, text, params=()):
        """The same, for a statement whose text was put together for a query of a client."""
        return self.execute(text, params)

    def change(self, text, params=()):
        """Run a statement; return the number of rows that it changed."""
        raise NotImplementedError

    def change_many(self, text, rows):
        """Run a statement once for each tuple of parameters; return the number of rows changed in all."""
        return sum(self.change(text, params) for params in rows)

    # Documents pass through these two, because a driver may decode JSON by itself.
    encode = staticmethod(dump)
    decode = staticmethod(json.loads)

    # Classes ----------------------------------------------------------------------------------------------------

    def class_info(self, name, lock=False):
        """`{"columns": {key: type}, "permissions": {...}, "default_acl": ...}` of a class, or None.

        It is shared, and not to be changed, unless it was locked.
        """
        if not lock:
            if name in self._certain:
                return self._infos[name]
            known = self._seen and self._seen.get(name)
            if known:
                self._believed[name], self._infos[name] = known
                return known[1]
        found = self.execute("SELECT info FROM classes WHERE name = ?" + self.for_update(lock), [name])
        text = found[0][0] if found else None
        self._settle(name, self._believed.get(name) == text)
        info = None if text is None else self.decode(text)
        if info is not None and not lock and self._seen is not None:
            self._seen[name] = (text, info)
        self._certain.add(name)
        self._infos[name] = info
        return info

    def save_class(self, name, info, deleted=0):
        """Store the info of a class; `deleted` is when an object of a new one was last deleted, in ms."""
        self.change(
            "INSERT INTO classes (name, info, deleted) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET info = excluded.info",
            [name, self.encode(info), deleted],
        )
        self._believed.pop(name, None)
        self._certain.add(name)
        self._infos[name] = info

    def class_names(self):
        return [name for name, in self.execute("SELECT name FROM classes ORDER BY name")]

    def last_write(self, class_name):
        """When the class was last written to, deletes included, in ms; None if never."""
        found = self.execute(
            "SELECT (SELECT max(updated) FROM objects WHERE class = ?), (SELECT deleted FROM classes WHERE name = ?)",
            [class_name, class_name],
        )
        return max(found[0][0] or 0, found[0][1] or 0) or None

    # Objects ----------------------------------------------------------------------------------------------------

    def get(self, class_name, object_id, lock=False):
        text, params = build(
            "SELECT id, created, updated, acl, body, seq, {} FROM objects WHERE class = ? AND id = ?",
            self._belief(class_name),
        )
        found = self.execute(text + self.for_update(lock), [*params, class_name, object_id])
        if not found:
            return None
        self._settle(class_name, found[0][6])
        return _row(found[0])

    def get_many(self, class_name, object_ids):
        """{id: Row} of those that exist."""
        text, params = build(
            "SELECT id, created, updated, acl, body, seq FROM objects WHERE class = {} AND id IN {}",
            bind(class_name),
            self.compiler.text_list(sorted(set(object_ids))),
        )
        return {row[0]: _row(row) for row in self.execute(text, params)}

    def insert(self, class_name, row):
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

    def taken(self, class_name, object_ids):
        """{id: seq} of those that exist; `seq` grows with every insertion."""
        text, params = build(
            "SELECT id, seq FROM objects WHERE class = {} AND id IN {}",
            bind(class_name),
            self.compiler.text_list(sorted(set(object_ids))),
        )
        return dict(self.execute(text, params))

    def last_seq(self):
        """The greatest `seq` so far, 0 in an empty store."""
        return self.execute("SELECT max(seq) FROM objects")[0][0] or 0

    def page(self, class_name, after, limit):
        """Rows in the order of creation, those behind `after`, the (created, seq) of a row."""
        found = self.execute(
            "SELECT id, created, updated, acl, body, seq FROM objects WHERE class = ? AND (created, seq) > (?, ?) "
            "ORDER BY created, seq LIMIT ?",
            [class_name, *after, limit],
        )
        return [_row(row) for row in found]

    def insert_many(self, class_name, rows):
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

    def update(self, class_name, row):
        return self.change(
            "UPDATE objects SET updated = ?, acl = ?, readers = ?, body = ? WHERE class = ? AND id = ?",
            [row.updated, *self._rights(row.acl), self.encode(row.body), class_name, row.id],
        )

    def delete(self, class_name, object_id, at):
        """Delete an object at `at` ms; return whether it was there."""
        done = self.change("DELETE FROM objects WHERE class = ? AND id = ?", [class_name, object_id])
        self.change("UPDATE classes SET deleted = ? WHERE name = ? AND deleted < ?", [at, class_name, at])
        self.change("DELETE FROM relations WHERE class = ? AND owner = ?", [class_name, object_id])
        return bool(done)

    def find(self, query):
        """The rows of a Query, in order."""
        return [_row(row) for row in self._select(query, [])]

    def listing(self, query):
        """(rows, last write) of a Query and its class, in one statement unless there are none."""
        name = quoted(query.class_name)
        times = [
            (f"(SELECT max(updated) FROM objects WHERE class = {name})", []),
            (f"(SELECT deleted FROM classes WHERE name = {name})", []),
        ]
        found = self._select(query, times)
        if not found:
            return [], self.last_write(query.class_name)
        return [_row(row) for row in found], max(found[0][7] or 0, found[0][8] or 0) or None

    def _select(self, query, more):
        columns = [("o.id, o.created, o.updated, o.acl, o.body, o.seq", []), self._belief(query.class_name), *more]
        compiler = self.compiler(self.known)
        found = self.execute_once(*compiler.select(query, build(", ".join(["{}"] * len(columns)), *columns)))
        if found:
            self._settle(query.class_name, found[0][6])
        return found

    def count(self, query):
        """How many rows match, whatever the query's limit and skip."""
        text, params = self.compiler(self.known).count(query)
        return self.execute_once(text, params)[0][0]

    def known(self, class_name):
        """The info of a class as this transaction saw it last, or that of one which has no columns yet."""
        if class_name not in self._infos:
            self.class_info(class_name)
        return self._infos[class_name] or {"columns": {}}

    def _rights(self, rights):
        public = rights is None or rights.get("*", {}).get("read") is True
        names = None if public else sorted(name for name, right in rights.items() if right.get("read") is True)
        return [
            None if rights is None else self.encode(rights),
            None if names is None else self.encode_names(names),
        ]

    # Relations --------------------------------------------------------------------------------------------------

    def relate(self, class_name, key, owner, target_class, targets):
        for target in targets:
            self.change(
                "INSERT INTO relations (class, key, owner, target_class, target) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (class, key, owner, target_class, target) DO NOTHING",
                [class_name, key, owner, target_class, target],
            )

    def relate_many(self, class_name, key, target_class, pairs):
        """Add (owner, target) pairs to a relation column; return how many were new."""
        return self.change_many(
            "INSERT INTO relations (class, key, owner, target_class, target) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (class, key, owner, target_class, target) DO NOTHING",
            [(class_name, key, owner, target_class, target) for owner, target in pairs],
        )

    def unrelate(self, class_name, key, owner, target_class, targets):
        for target in targets:
            self.change(
                "DELETE FROM relations WHERE class = ? AND key = ? AND owner = ? AND target_class = ? AND target = ?",
                [class_name, key, owner, target_class, target],
            )

    def forget_relation(self, class_name, key, owner):
        """Remove every member of one owner's relation."""
        self.change("DELETE FROM relations WHERE class = ? AND key = ? AND owner = ?", [class_name, key, owner])

    def members(self, class_name, key, owner, target_class):
        """The ids of one owner's relation."""
        found = self.execute(
            "SELECT target FROM relations WHERE class = ? AND key = ? AND owner = ? AND target_class = ?",
            [class_name, key, owner, target_class],
        )
        return [target for target, in found]

    def relation_page(self, class_name, key, after, limit):
        """(owner, target class, target) of a relation column in order, those behind the triple `after`."""
        return self.execute(
            "SELECT owner, target_class, target FROM relations WHERE class = ? AND key = ? "
            "AND (owner, target_class, target) > (?, ?, ?) ORDER BY owner, target_class, target LIMIT ?",
            [class_name, key, *after, limit],
        )

    def all_relations(self, after, limit):
        """(class, key, owner, target class, target) of all relations in order, those behind such a tuple."""
        return self.execute(
            "SELECT class, key, owner, target_class, target FROM relations "
            "WHERE (class, key, owner, target_class, target) > (?, ?, ?, ?, ?) "
            "ORDER BY class, key, owner, target_class, target LIMIT ?",
            [*after, limit],
        )

    def role_names(self, user_id):
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

    def record(self, kind, key, lock=False):
        """The document of (kind, key), or None; an expired one is gone."""
        found = self.execute(
            "SELECT value FROM records WHERE kind = ? AND key = ? AND (expires IS NULL OR expires > ?)"
            + self.for_update(lock),
            [kind, key, now()],
        )
        return self.decode(found[0][0]) if found else None

    def add_record(self, kind, key, value, expires=None):
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

    def records_of(self, kind, keys):
        """{key: document} of those that exist and are not expired."""
        text, params = build(
            "SELECT key, value FROM records WHERE kind = {} AND key IN {} AND (expires IS NULL OR expires > {})",
            bind(kind),
            self.compiler.text_list(sorted(set(keys))),
            bind(now()),
        )
        return {key: self.decode(value) for key, value in self.execute(text, params)}

    def first_records(self, kind, limit):
        """[(key, document)] of the first of a kind, by key."""
        found = self.execute("SELECT key, value FROM records WHERE kind = ? ORDER BY key LIMIT ?", [kind, limit])
        return [(key, self.decode(value)) for key, value in found]

    def put_records(self, records):
        """Store (kind, key, document, expires) tuples over what was there; those without `expires` never expire."""
        self.change_many(
            "INSERT INTO records (kind, key, value, expires) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
            [(kind, key, self.encode(value), *(expires or [None])) for kind, key, value, *expires in records],
        )

    def all_records(self, after, limit):
        """(kind, key, document, expires) in order, expired ones too, those behind a (kind, key)."""
        found = self.execute(
            "SELECT kind, key, value, expires FROM records WHERE (kind, key) > (?, ?) ORDER BY kind, key LIMIT ?",
            [*after, limit],
        )
        return [(kind, key, self.decode(value), expires) for kind, key, value, expires in found]

    def put_record(self, kind, key, value, expires=None):
        self.change(
            "INSERT INTO records (kind, key, value, expires) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
            [kind, key, self.encode(value), expires],
        )

    def delete_record(self, kind, key):
        return bool(self.change("DELETE FROM records WHERE kind = ? AND key = ?", [kind, key]))

    def records(self, kind, prefix=""):
        """[(key, document)] of a kind, by key."""
        found = self.execute(
            "SELECT key, value FROM records WHERE kind = ? AND key >= ? AND (expires IS NULL OR expires > ?) "
            "ORDER BY key",
            [kind, prefix, now()],
        )
        return [(key, self.decode(value)) for key, value in found if key.startswith(prefix)]

    def expired_records(self, kind, limit=100):
        """[(key, document)] of a kind whose time has come."""
        found = self.execute(
            "SELECT key, value FROM records WHERE kind = ? AND expires <= ? LIMIT ?", [kind, now(), limit]
        )
        return [(key, self.decode(value)) for key, value in found]

    def delete_expired(self, but, limit):
        """Delete records whose time has come, of every kind `but` one; return how many."""
        return self.change(
            "DELETE FROM records WHERE (kind, key) IN "
            "(SELECT kind, key FROM records WHERE expires <= ? AND kind <> ? LIMIT ?)",
            [now(), but, limit],
        )

    def for_update(self, lock):
        """The clause that keeps other writers away from the selected row, where a database has one."""
        return ""

    def encode_names(self, names):
        """A list of names as the `readers` column holds it."""
        return dump(names)


class Compiler:
    """Query trees to SQL for one statement. Subclasses speak a database's JSON; see SqliteCompiler.

    An *item* is a value being tested, a field or an element of an array: fragments (kind, value, text) with kind one
    of the database's type names, value the scalar, text what equal values share.
    """

    role_name = None  # SQL of a role's name in a row `o` of objects

    def __init__(self, known):
        self.known = known  # class name -> its info
        self._names = count(1)
        self._infos = {}
        self._inner_queries = []  # (name, fragment), each before those that speak of it
        self._served = {}  # alias -> keys that an index finds

    # Statements -------------------------------------------------------------------------------------------------

    def select(self, query, what):
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

    def count(self, query):
        query = replace(query, order=())
        return self.whole(build(f"SELECT count(*) FROM {self.source(query, 'o')} WHERE {{}}", self._matching(query, "o")))

    def whole(self, statement):
        """A statement with the sub-queries that it speaks of."""
        if not self._inner_queries:
            return statement
        names = [f"{name}(v) AS ({{}})" for name, _ in self._inner_queries]
        return build(f"WITH {', '.join(names)} {{}}", *(query for _, query in self._inner_queries), statement)

    def limits(self, limit, skip):
        raise NotImplementedError

    def _matching(self, query, alias):
        parts = [(f"{alias}.class = {quoted(query.class_name)}", [])]
        self._served[alias] = self._served_keys(query)
        if query.principals is not None:
            parts.append(self.readable(alias, list(query.principals)))
        parts.append(self._node(query.where, query.class_name, alias))
        return join("AND", parts)

    def _order(self, query, alias):
        parts = []
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

    def direction(self, descending):
        raise NotImplementedError

    # Indexes ----------------------------------------------------------------------------------------------------

    def index(self, class_name, keys):
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

    def index_column(self, class_name, key):
        return f"({self.sort_keys(class_name, (key,), 'o')[0][0]})"

    def source(self, query, alias):
        """The table to select from."""
        return f"objects {alias}"

    def _served_keys(self, query):
        """Keys that all matches must equal and that the query's index begins with."""
        return frozenset(takewhile(_equal_keys(query.where).__contains__, self._index_of(query)))

    def _index_of(self, query):
        """The keys of the index that serves a query best, () for none: by most equal values, or by the order asked for."""
        indexes = self._info(query.class_name).get("indexes")
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

    def _node(self, node, class_name, alias):
        if isinstance(node, Group):
            return join(node.op.upper(), [self._node(child, class_name, alias) for child in node.nodes])
        if isinstance(node, Not):
            return build("(({}) IS NOT TRUE)", self._node(node.node, class_name, alias))
        if node.path and len(node.path) == 1 and node.path[0] in BUILT_IN_COLUMNS:
            return self._built_in(node, f"{alias}.{BUILT_IN_COLUMNS[node.path[0]]}")
        return getattr(self, f"_{node.op}")(node, class_name, alias)

    def _built_in(self, node, column):
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
            text = (column, []) if wanted is str else None
            return self._selected(text, key, query) if text else FALSE
        return FALSE

    def _type(self, class_name, path):
        """The type of a whole column, or None for what lies inside one and for columns not seen yet."""
        if len(path) > 1:
            return None
        column = self._info(class_name)["columns"].get(path[0])
        return column["type"] if column else None

    def _info(self, class_name):
        if class_name not in self._infos:
            self._infos[class_name] = self.known(class_name)
        return self._infos[class_name]

    def _eq(self, node, class_name, alias):
        column_type = self._type(class_name, node.path)
        operand = node.operand
        if column_type == "Relation":
            return self._member(alias, node.path[0], operand)
        item = self.field(class_name, node.path, alias)
        if column_type in SIMPLE_TYPES:
            if operand is None:
                return build("{} IS NULL", item["value"])
            if type_of(operand)["type"] != column_type:
                return FALSE
            is_served = node.path[0] in self._served[alias]
            return (self.indexed_equal if is_served else self.simple_equal)(item, column_type, operand)
        tests = [self.equal(item, operand)]
        if operand is None:
            tests.append(build("{} IS NULL", item["kind"]))
        tests.append(self.any_element(item, lambda element: self.equal(element, operand)))
        return join("OR", tests)

    def _in(self, node, class_name, alias):
        column_type = self._type(class_name, node.path)
        texts = [value for value in node.operand if isinstance(value, str)]
        if column_type == "String" and len(texts) == len(node.operand) > 1:
            item = self.field(class_name, node.path, alias)
            return build("{} IN {}", item["value"], self.text_list(texts))
        return join("OR", [self._eq(Condition("eq", node.path, value), class_name, alias) for value in node.operand])

    def _all(self, node, class_name, alias):
        if not node.operand:
            return FALSE
        return join("AND", [self._eq(Condition("eq", node.path, value), class_name, alias) for value in node.operand])

    def _compare(self, node, class_name, alias):
        column_type = self._type(class_name, node.path)
        item = self.field(class_name, node.path, alias)
        operator, operand = COMPARISONS[node.op], node.operand
        if column_type in SIMPLE_TYPES:
            found = type_of(operand)["type"]
            return self.simple_compare(item, column_type, operator, operand) if found == column_type else FALSE
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

    def _size(self, node, class_name, alias):
        item = self.field(class_name, node.path, alias)
        return self.array_length(item, node.operand)

    def _exists(self, node, class_name, alias):
        if self._type(class_name, node.path) == "Relation":
            return TRUE if node.operand else FALSE
        item = self.field(class_name, node.path, alias)
        return build("{} IS NOT NULL" if node.operand else "{} IS NULL", item["kind"])

    def _regex(self, node, class_name, alias):
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

    def _in_query(self, node, class_name, alias):
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

    def _select(self, node, class_name, alias):
        key, query = node.operand
        item = self.field(class_name, node.path, alias)
        return self._selected(None, key, query, item)

    def _selected(self, text, key, query, item=None):
        """Whether an item equals the key of a result; `text` stands in for an item that is plain text."""
        name = self._next_alias()
        if len(key) == 1 and key[0] == "objectId":
            inner = self._inner(query, "{alias}.id", name)
            value = text or self.text_value(item)
            return build("{} IN ({})", value, inner)
        target = self.field(query.class_name, key, name)
        if text is not None:
            inner = self._inner_of(query, self.text_value(target), name)
            return build("{} IN ({})", text, inner)
        inner = self._inner_of(query, target["text"], name)
        return build("{} IN ({})", item["text"], inner)

    def _inner(self, query, what, alias=None):
        alias = alias or self._next_alias()
        return self._inner_of(query, (what.format(alias=alias), []), alias)

    def _inner_of(self, query, what, alias):
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

    def _next_alias(self):
        return f"o{next(self._names)}"

    def _member(self, alias, key, operand):
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

    def _related(self, node, class_name, alias):
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

    def _near(self, node, class_name, alias):
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

    def _box(self, node, class_name, alias):
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


def _top_nodes(where):
    """The nodes all of which must hold."""
    return where.nodes if isinstance(where, Group) and where.op == "and" else (where,)


def _equal_keys(where):
    """Whole columns that every match must equal some value in."""
    return {
        node.path[0]
        for node in _top_nodes(where)
        if isinstance(node, Condition) and node.op == "eq" and len(node.path) == 1 and node.operand is not None
    }
