"""From query trees to SQL: what both databases share; a dialect adds its JSON and its text search."""
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import count, takewhile
from leanstorage.store import (
    Condition,
    Document,
    Group,
    Json,
    Node,
    Not,
    Path,
    Query,
    type_of,
)
from leanstorage.store.dialect import Dialect
from leanstorage.store.fragments import FALSE, INDEXED_TYPES, MAX_INDEX_KEYS, TRUE, Fragment, Item, bind, build, index_name, join, quoted

COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
MAX_PLAIN = 4  # parts of a dotted key that is first looked at as one without arrays
BUILT_IN_COLUMNS = {"objectId": "id", "createdAt": "created", "updatedAt": "updated"}
# Types whose column holds one scalar and nothing else, so that a condition needs no look at the value's kind.
SIMPLE_TYPES = frozenset(["String", "Number", "Boolean", "Pointer", "File", "Date", "Bytes", "GeoPoint"])


class Compiler(Dialect):
    """Query trees to SQL for one statement. Subclasses speak a database's JSON; see SqliteCompiler."""

    def __init__(self, known: Callable[[str], Document]) -> None:
        self.known = known  # class name -> its info
        self._names = count(1)
        self._infos: dict[str, Document] = {}
        self._inner_queries: list[tuple[str, Fragment]] = []  # each before those that speak of it
        self._served: dict[str, Collection[str]] = {}  # alias -> keys that an index finds
        self._readers: dict[str, Fragment | None] = {}  # alias -> whether its row may be read; None for the master

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
            self.matching(query, "o"),
            order,
        )
        if query.limit is not None or query.skip:
            limit, limit_params = self.limits(query.limit, query.skip)
            text, params = text + limit, params + limit_params
        return self.whole((text, params))

    def count(self, query: Query) -> Fragment:
        query = replace(query, order=())
        return self.whole(build(f"SELECT count(*) FROM {self.source(query, 'o')} WHERE {{}}", self.matching(query, "o")))

    def whole(self, statement: Fragment) -> Fragment:
        """A statement with the sub-queries that it speaks of."""
        if not self._inner_queries:
            return statement
        names = [f"{name}(v) AS ({{}})" for name, _ in self._inner_queries]
        return build(f"WITH {', '.join(names)} {{}}", *(query for _, query in self._inner_queries), statement)

    def matching(self, query: Query, alias: str) -> Fragment:
        parts: list[Fragment] = [(f"{alias}.class = {quoted(query.class_name)}", [])]
        self._served[alias] = self._served_keys(query)
        self._readers[alias] = None
        if query.principals is not None:
            self._readers[alias] = readers = self.readable(alias, list(query.principals))
            parts.append(readers)
        parts.append(self._node(query.where, query.class_name, alias))
        return join("AND", parts)

    def _order(self, query: Query, alias: str) -> Fragment:
        parts: list[Fragment] = []
        if query.near and not query.order:
            path, latitude, longitude = query.near
            parts.append(self._nearest(query.class_name, path, alias, latitude, longitude))
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

    def _nearest(self, class_name: str, path: Path, alias: str, latitude: float, longitude: float) -> Fragment:
        """The angle to the nearest of the points that a field holds."""
        if self._type(class_name, path) in SIMPLE_TYPES:
            return self.distance(self.field(class_name, path, alias), latitude, longitude)
        source, item = self.reached(class_name, path, alias, True)
        return build("(SELECT min({}) FROM {})", self.distance(item, latitude, longitude), source)

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

    def _tested(
        self,
        class_name: str,
        path: Path,
        alias: str,
        plain: Callable[[Item], Fragment],
        each: Callable[[Item], Fragment],
        is_spread: bool = True,
    ) -> Fragment:
        """Whether the field passes `plain`, or, where an array stands before its end, any value there passes `each`.

        With `is_spread` the elements of an array at the end are tried, too. See store.paths for the rules.
        """
        arrays = self.arrays_before(class_name, path, alias)
        if arrays == []:
            return plain(self.field(class_name, path, alias))
        source, item = self.reached(class_name, path, alias, is_spread)
        is_any = build("EXISTS (SELECT 1 FROM {} WHERE {})", source, each(item))
        if arrays is None:
            return is_any
        other = plain(self.field(class_name, path, alias))
        return build("CASE WHEN {} THEN {} ELSE {} END", join("OR", arrays), is_any, other)

    def arrays_before(self, class_name: str, path: Path, alias: str) -> list[Fragment] | None:
        """Tests of whether an array stands on the way to a field; None where it is too long for that."""
        if len(path) == 1 or path[0] == "ACL":
            return []
        column_type = self._type(class_name, path[:1])
        if column_type in SIMPLE_TYPES or column_type == "Relation":
            return []
        if len(path) > MAX_PLAIN:
            return None
        first = 2 if column_type == "Object" else 1
        return [self.is_array(self.field(class_name, path[:end], alias)) for end in range(first, len(path))]

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

        def is_equal(item: Item) -> Fragment:
            missing = [build("{} IS NULL", item["kind"])] if operand is None else []
            return join("OR", [self.equal(item, operand), *missing])

        def plain(item: Item) -> Fragment:
            return join("OR", [is_equal(item), self.any_element(item, lambda element: self.equal(element, operand))])

        return self._tested(class_name, node.path, alias, plain, is_equal)

    def _in(self, node: Condition, class_name: str, alias: str) -> Fragment:
        column_type = self._type(class_name, node.path)
        texts = [value for value in node.operand if isinstance(value, str)]
        if column_type == "String" and len(texts) == len(node.operand) > 1:
            item = self.field(class_name, node.path, alias)
            return build("{} IN {}", item["value"], self.text_list(texts))
        if column_type not in SIMPLE_TYPES and column_type != "Relation" and len(texts) == len(node.operand) > 1:

            def is_listed(item: Item) -> Fragment:
                return build("{} IN {}", self.text_value(item), self.text_list(texts))

            def is_any_listed(item: Item) -> Fragment:
                return join("OR", [is_listed(item), self.any_element(item, is_listed)])

            return self._tested(class_name, node.path, alias, is_any_listed, is_listed)
        if column_type in SIMPLE_TYPES or column_type == "Relation":
            return join("OR", [self._eq(Condition("eq", node.path, value), class_name, alias) for value in node.operand])

        def is_one(item: Item) -> Fragment:
            return join("OR", [self.equal(item, value) for value in node.operand])

        def is_one_or_missing(item: Item) -> Fragment:
            missing = [build("{} IS NULL", item["kind"])] if None in node.operand else []
            return join("OR", [is_one(item), *missing])

        def plain(item: Item) -> Fragment:
            # The elements are walked through once, not once for every operand.
            return join("OR", [is_one_or_missing(item), self.any_element(item, is_one)])

        return self._tested(class_name, node.path, alias, plain, is_one_or_missing)

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

        def is_so(item: Item) -> Fragment:
            return self.compare(item, operator, operand)

        def plain(item: Item) -> Fragment:
            return join("OR", [is_so(item), self.any_element(item, is_so)])

        return self._tested(class_name, node.path, alias, plain, is_so)

    _lt = _lte = _gt = _gte = _compare

    def _size(self, node: Condition, class_name: str, alias: str) -> Fragment:
        def has_length(item: Item) -> Fragment:
            return self.array_length(item, node.operand)

        return self._tested(class_name, node.path, alias, has_length, has_length, is_spread=False)

    def _exists(self, node: Condition, class_name: str, alias: str) -> Fragment:
        if self._type(class_name, node.path) == "Relation":
            return TRUE if node.operand else FALSE

        def is_there(item: Item) -> Fragment:
            return build("{} IS NOT NULL", item["kind"])

        found = self._tested(class_name, node.path, alias, is_there, is_there, is_spread=False)
        return found if node.operand else build("NOT ({})", found)

    def _regex(self, node: Condition, class_name: str, alias: str) -> Fragment:
        item = self.field(class_name, node.path, alias)
        column_type = self._type(class_name, node.path)
        if column_type == "String":
            return self._if_readable(alias, self.search(item["value"], node.operand))
        if column_type in SIMPLE_TYPES or column_type == "Relation":
            return FALSE

        def matches(item: Item) -> Fragment:
            return self.text_search(item, node.operand)

        def plain(item: Item) -> Fragment:
            return join("OR", [matches(item), self.any_element(item, matches)])

        return self._if_readable(alias, self._tested(class_name, node.path, alias, plain, matches))

    def _if_readable(self, alias: str, test: Fragment) -> Fragment:
        """A test that is made only on rows that the caller may read: the time that it takes would tell of the others.

        SQL evaluates the parts of AND in any order, but not those of CASE.
        """
        readers = self._readers.get(alias)
        return test if readers is None else build("CASE WHEN {} THEN {} ELSE FALSE END", readers, test)

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

        def points(item: Item) -> Fragment:
            return self.points_into(item, query.class_name, inner)

        if column_type in SIMPLE_TYPES:
            item = self.field(class_name, node.path, alias)
            return points(item) if column_type in ("Pointer", "File") else FALSE
        return self._tested(class_name, node.path, alias, lambda item: self.any_of(item, points), points)

    def _select(self, node: Condition, class_name: str, alias: str) -> Fragment:
        key, query = node.operand
        is_id = key == ("objectId",)
        name = self._next_alias()
        what: Fragment = (f"{name}.id", []) if is_id else self.plain_field(query.class_name, key, name)["text"]
        results = self._inner_of(query, what, name)

        def is_selected(item: Item) -> Fragment:
            return build("{} IN ({})", self.text_value(item) if is_id else item["text"], results)

        return self._tested(class_name, node.path, alias, is_selected, is_selected, is_spread=False)

    def _selected(self, value: Fragment, key: Path, query: Query) -> Fragment:
        """Whether a text equals the key of a result."""
        name = self._next_alias()
        if key == ("objectId",):
            return build("{} IN ({})", value, self._inner(query, "{alias}.id", name))
        target = self.plain_field(query.class_name, key, name)
        return build("{} IN ({})", value, self._inner_of(query, self.text_value(target), name))

    def _inner(self, query: Query, what: str, alias: str | None = None) -> Fragment:
        alias = alias or self._next_alias()
        return self._inner_of(query, (what.format(alias=alias), []), alias)

    def _inner_of(self, query: Query, what: Fragment, alias: str) -> Fragment:
        """`SELECT what` of a sub-query, ordered only where a limit makes the order matter.

        It stands before the statement, because a database's parser bears only so many levels.
        """
        source = self.source(query, alias)
        text, params = build(f"SELECT {{}} FROM {source} WHERE {{}}", what, self.matching(query, alias))
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

        def is_near(item: Item) -> Fragment:
            angle = self.distance(item, latitude, longitude)
            tests = [build("{} IS NOT NULL", angle)]
            # A hair of tolerance, because bounds are inclusive and miles and kilometres do not divide evenly.
            if least is not None:
                tests.append(build("{} >= {}", angle, bind(least - 1e-12)))
            if greatest is not None:
                tests.append(build("{} <= {}", angle, bind(greatest + 1e-12)))
            return join("AND", tests)

        return self._point(class_name, node.path, alias, is_near)

    def _point(self, class_name: str, path: Path, alias: str, test: Callable[[Item], Fragment]) -> Fragment:
        """Whether one of the points that a field holds passes a test."""
        if self._type(class_name, path) in SIMPLE_TYPES:
            return test(self.field(class_name, path, alias))
        return self._tested(class_name, path, alias, lambda item: join("OR", [test(item), self.any_element(item, test)]), test)

    def _box(self, node: Condition, class_name: str, alias: str) -> Fragment:
        south, west, north, east = node.operand

        def is_inside(item: Item) -> Fragment:
            latitude, longitude = self.coordinates(item)
            return join(
                "AND",
                [
                    build("{} BETWEEN {} AND {}", latitude, bind(south), bind(north)),
                    build("{} BETWEEN {} AND {}", longitude, bind(west), bind(east)),
                ],
            )

        return self._point(class_name, node.path, alias, is_inside)


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
