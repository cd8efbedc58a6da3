"""From query trees to SQL: what both databases share; a dialect adds its JSON and its text search."""
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import count
from leanstorage.store import (
    Condition,
    Document,
    Group,
    Json,
    Node,
    Not,
    Order,
    Path,
    Query,
    type_of,
)
from leanstorage.store.points import Points
from leanstorage.store import choice
from leanstorage.store.fragments import (
    FALSE,
    SIMPLE_TYPES,
    TRUE,
    Fragment,
    Item,
    between,
    bind,
    build,
    join,
    quoted,
)

COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
MAX_PLAIN = 4  # parts of a dotted key that is first looked at as one without arrays
BUILT_IN_COLUMNS = {"objectId": "id", "createdAt": "created", "updatedAt": "updated"}


class Compiler(Points):
    """Query trees to SQL for one statement. Subclasses speak a database's JSON; see SqliteCompiler."""

    def __init__(self, known: Callable[[str], Document], counted: Callable[[Fragment], int] | None = None) -> None:
        self.known = known  # class name -> its info
        self.counted = counted  # runs a statement that counts a few rows
        self._names = count(1)
        self._infos: dict[str, Document] = {}
        self._inner_queries: list[tuple[str, Fragment]] = []  # each before those that speak of it
        self._served: dict[str, Collection[str]] = {}  # alias -> keys that an index finds
        self._readers: dict[str, Fragment | None] = {}  # alias -> whether its row may be read; None for the master

    def knows(self, class_name: str, info: Document) -> bool:
        """Whether all that was made of classes was made of this info of this one."""
        return list(self._infos) == [class_name] and self._infos[class_name] is info

    # Statements -------------------------------------------------------------------------------------------------

    def select(self, query: Query, what: Fragment, is_ordered: bool = True) -> Fragment:
        """`SELECT what`, a fragment, of the rows of a Query, in its order, unless it is of no matter, and within its limits."""
        order = self._order(query, "o")
        matching = self.matching(query, "o")
        source = self.newest(query, most) if (most := query.newest) else self.source(query, "o")
        text, params = build("SELECT {} FROM {} WHERE {}", what, source, matching)
        if is_ordered:
            text, params = text + " ORDER BY " + order[0], params + order[1]
        if query.limit is not None or query.skip:
            limit, limit_params = self.limits(query.limit, query.skip)
            text, params = text + limit, params + limit_params
        return self.whole((text, params))

    def count(self, query: Query) -> Fragment:
        query = replace(query, order=())
        matching = self.matching(query, "o")
        return self.whole(build("SELECT count(*) FROM {} WHERE {}", self.source(query, "o"), matching))

    def whole(self, statement: Fragment) -> Fragment:
        """A statement with the sub-queries that it speaks of."""
        if not self._inner_queries:
            return statement
        names = [f"{name}(v) AS ({{}})" for name, _ in self._inner_queries]
        return build(f"WITH {', '.join(names)} {{}}", *(query for _, query in self._inner_queries), statement)

    def matching(self, query: Query, alias: str) -> Fragment:
        parts: list[Fragment] = [(f"{alias}.class = {quoted(query.class_name)}", [])]
        # Of the newest rows each is looked at, by the tests that are quickest without an index.
        self._served[alias] = () if query.newest else choice.served_keys(query.where, self.indexes(query.class_name))
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
            parts.append(self.nearest(query.class_name, path, alias, latitude, longitude))
        for (text, params), descending, may_be_null in self._order_keys(query.class_name, query.order, alias):
            direction = self.direction(descending) if may_be_null else " DESC" if descending else ""
            parts.append((text + direction, params))
        return ", ".join(text for text, _ in parts), [value for _, params in parts for value in params]

    def _order_keys(self, class_name: str, order: Order, alias: str) -> list[tuple[Fragment, bool, bool]]:
        """(what to sort by, whether it descends, whether it may be null), one after the other."""
        parts: list[tuple[Fragment, bool, bool]] = []
        for path, descending in order:
            if path[0] in BUILT_IN_COLUMNS and len(path) == 1:
                parts.append(((f"{alias}.{BUILT_IN_COLUMNS[path[0]]}", []), descending, False))
                continue
            parts += [(key, descending, True) for key in self.sort_keys(class_name, path, alias)]
        # Ties are in order of creation, or its reverse, as indexes store them, so that nothing needs sorting.
        path, descending = order[-1] if order else ((), False)
        if path != ("objectId",):
            rest = ("seq",) if path in (("createdAt",), ("updatedAt",)) else ("created", "seq")
            parts += [((f"{alias}.{name}", []), descending, False) for name in rest]
        return parts

    # Indexes ----------------------------------------------------------------------------------------------------

    def index_column(self, class_name: str, key: str) -> str:
        return f"({self.sort_keys(class_name, (key,), 'o')[0][0]})"

    def source(self, query: Query, alias: str) -> Fragment:
        """The table to select from, or the part of it that an index finds; asked for when the conditions are made."""
        return f"objects {alias}", []

    def is_few(self, query: Query, key: str, test: Node, alias: str, table: str) -> bool:
        """Whether an index on a key finds only a few objects by a test; many are sooner met in the order asked for."""
        if self.counted is None:
            return True
        where = build(f"{alias}.class = {quoted(query.class_name)} AND {{}}", self._node(test, query.class_name, alias))
        order = build("{}" + self.direction(False), self.sort_keys(query.class_name, (key,), alias)[0])
        few = f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {{}} ORDER BY {{}} LIMIT {choice.FEW}) few"
        return self.counted(build(few, where, order)) < choice.FEW

    def newest(self, query: Query, most: int) -> Fragment:
        """The first rows of the class in the query's order, which is one of time, instead of its table."""
        order, _ = self._order(replace(query, near=None), "w")
        return f"(SELECT * FROM objects w WHERE w.class = {quoted(query.class_name)} ORDER BY {order} LIMIT {most:d}) o", []

    def indexes(self, class_name: str) -> list[list[str]]:
        found: list[list[str]] = self._info(class_name).get("indexes", [])
        return found

    def tallies(self, class_name: str) -> list[list[str]]:
        """The keys of the indexes that count."""
        return [keys for keys in self.indexes(class_name) if keys[0] == "ACL"]

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
        if op == "prefix" and wanted is str:
            return between((column, []), operand)
        if op == "regex" and wanted is str:
            return self.search((column, []), operand)
        if op == "select":
            key, query = operand
            return self._selected((column, []), key, query) if wanted is str else FALSE
        return FALSE

    def type_of_column(self, class_name: str, path: Path) -> str | None:
        """The type of a whole column, or None for what lies inside one and for columns not seen yet."""
        if len(path) > 1:
            return None
        column = self._info(class_name)["columns"].get(path[0])
        return column["type"] if column else None

    def _info(self, class_name: str) -> Document:
        if class_name not in self._infos:
            self._infos[class_name] = self.known(class_name)
        return self._infos[class_name]

    def tested(
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
        column_type = self.type_of_column(class_name, path[:1])
        if column_type in SIMPLE_TYPES or column_type == "Relation":
            return []
        if len(path) > MAX_PLAIN:
            return None
        first = 2 if column_type == "Object" else 1
        return [self.is_array(self.field(class_name, path[:end], alias)) for end in range(first, len(path))]

    def _eq(self, node: Condition, class_name: str, alias: str) -> Fragment:
        column_type = self.type_of_column(class_name, node.path)
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

        test = self.tested(class_name, node.path, alias, plain, is_equal)
        return self._also_held(class_name, node, alias, [operand], test)

    def _also_held(self, class_name: str, node: Condition, alias: str, operands: Sequence[Json], test: Fragment) -> Fragment:
        """A test of an array, and what an index on it serves: whether it has all of `operands`."""
        key = node.path[0]
        is_indexed = len(node.path) == 1 and self.type_of_column(class_name, node.path) == "Array" and [key] in self.indexes(class_name)
        # A list may be meant as the whole array, and null as none.
        if not is_indexed or any(operand is None or isinstance(operand, list) for operand in operands):
            return test
        served = self.holds(class_name, key, alias, operands)
        return test if served is None else join("AND", [served, test])

    def _in(self, node: Condition, class_name: str, alias: str) -> Fragment:
        column_type = self.type_of_column(class_name, node.path)
        if column_type == "Relation":
            return join("OR", [self._eq(Condition("eq", node.path, value), class_name, alias) for value in node.operand])
        if column_type in SIMPLE_TYPES:
            item = self.field(class_name, node.path, alias)
            own = self._info(class_name)["columns"][node.path[0]]
            wanted = {"type": column_type} | ({"className": own["className"]} if "className" in own else {})
            values = [value for value in node.operand if type_of(value) == wanted]
            tests = [build("{} IS NULL", item["value"])] if None in node.operand else []
            if values:
                is_served = node.path[0] in self._served[alias]
                tests.append((self.indexed_in if is_served else self.simple_in)(item, column_type, values))
            return join("OR", tests)
        texts = [value for value in node.operand if isinstance(value, str)]
        if len(texts) == len(node.operand) > 1:

            def is_listed(item: Item) -> Fragment:
                return build("{} IN {}", self.text_value(item), self.text_list(texts))

            def is_any_listed(item: Item) -> Fragment:
                return join("OR", [is_listed(item), self.any_element(item, is_listed)])

            return self.tested(class_name, node.path, alias, is_any_listed, is_listed)

        def is_one(item: Item) -> Fragment:
            return join("OR", [self.equal(item, value) for value in node.operand])

        def is_one_or_missing(item: Item) -> Fragment:
            missing = [build("{} IS NULL", item["kind"])] if None in node.operand else []
            return join("OR", [is_one(item), *missing])

        def plain(item: Item) -> Fragment:
            # The elements are walked through once, not once for every operand.
            return join("OR", [is_one_or_missing(item), self.any_element(item, is_one)])

        return self.tested(class_name, node.path, alias, plain, is_one_or_missing)

    def _all(self, node: Condition, class_name: str, alias: str) -> Fragment:
        if not node.operand:
            return FALSE
        each = [self._eq(Condition("eq", node.path, value), class_name, alias) for value in node.operand]
        return self._also_held(class_name, node, alias, node.operand, join("AND", each))

    def _compare(self, node: Condition, class_name: str, alias: str) -> Fragment:
        column_type = self.type_of_column(class_name, node.path)
        item = self.field(class_name, node.path, alias)
        operator, operand = COMPARISONS[node.op], node.operand
        if column_type in SIMPLE_TYPES:
            found = type_of(operand)
            is_same = found is not None and found["type"] == column_type
            if not is_same:
                return FALSE
            is_served = node.path[0] in self._served[alias]
            return (self.indexed_compare if is_served else self.simple_compare)(item, column_type, operator, operand)
        if column_type == "Relation":
            return FALSE

        def is_so(item: Item) -> Fragment:
            return self.compare(item, operator, operand)

        def plain(item: Item) -> Fragment:
            return join("OR", [is_so(item), self.any_element(item, is_so)])

        return self.tested(class_name, node.path, alias, plain, is_so)

    _lt = _lte = _gt = _gte = _compare

    def _size(self, node: Condition, class_name: str, alias: str) -> Fragment:
        def has_length(item: Item) -> Fragment:
            return self.array_length(item, node.operand)

        return self.tested(class_name, node.path, alias, has_length, has_length, is_spread=False)

    def _exists(self, node: Condition, class_name: str, alias: str) -> Fragment:
        if self.type_of_column(class_name, node.path) == "Relation":
            return TRUE if node.operand else FALSE

        def is_there(item: Item) -> Fragment:
            return build("{} IS NOT NULL", item["kind"])

        found = self.tested(class_name, node.path, alias, is_there, is_there, is_spread=False)
        return found if node.operand else build("NOT ({})", found)

    def _regex(self, node: Condition, class_name: str, alias: str) -> Fragment:
        item = self.field(class_name, node.path, alias)
        column_type = self.type_of_column(class_name, node.path)
        if column_type == "String":
            return self._if_readable(alias, self.search(item["value"], node.operand))
        if column_type in SIMPLE_TYPES or column_type == "Relation":
            return FALSE

        def matches(item: Item) -> Fragment:
            return self.text_search(item, node.operand)

        def plain(item: Item) -> Fragment:
            return join("OR", [matches(item), self.any_element(item, matches)])

        return self._if_readable(alias, self.tested(class_name, node.path, alias, plain, matches))

    def _prefix(self, node: Condition, class_name: str, alias: str) -> Fragment:
        column_type = self.type_of_column(class_name, node.path)
        if column_type == "String":
            item = self.field(class_name, node.path, alias)
            is_served = node.path[0] in self._served[alias]
            return self.indexed_prefix(item, node.operand) if is_served else between(item["value"], node.operand)
        if column_type in SIMPLE_TYPES or column_type == "Relation":
            return FALSE

        def begins(item: Item) -> Fragment:
            return between(self.text_value(item), node.operand)

        def plain(item: Item) -> Fragment:
            return join("OR", [begins(item), self.any_element(item, begins)])

        return self.tested(class_name, node.path, alias, plain, begins)

    def _if_readable(self, alias: str, test: Fragment) -> Fragment:
        """A test that runs only on rows that the caller may read: its time would reveal other rows.

        SQL may evaluate the parts of AND in any order, but not those of CASE.
        """
        readers = self._readers.get(alias)
        return test if readers is None else build("CASE WHEN {} THEN {} ELSE FALSE END", readers, test)

    def _in_query(self, node: Condition, class_name: str, alias: str) -> Fragment:
        query = node.operand
        inner = self._inner(query, "{alias}.id")
        column_type = self.type_of_column(class_name, node.path)
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
        return self.tested(class_name, node.path, alias, lambda item: self.any_of(item, points), points)

    def _select(self, node: Condition, class_name: str, alias: str) -> Fragment:
        key, query = node.operand
        is_id = key == ("objectId",)
        name = self._next_alias()
        what: Fragment = (f"{name}.id", []) if is_id else self.plain_field(query.class_name, key, name)["text"]
        results = self._inner_of(query, what, name)

        def is_selected(item: Item) -> Fragment:
            return build("{} IN ({})", self.text_value(item) if is_id else item["text"], results)

        return self.tested(class_name, node.path, alias, is_selected, is_selected, is_spread=False)

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

        It comes before the statement (WITH), because the parsers of databases limit nesting.
        """
        matching = self.matching(query, alias)
        text, params = build("SELECT {} FROM {} WHERE {}", what, self.source(query, alias), matching)
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

    def _behind(self, node: Condition, class_name: str, alias: str) -> Fragment:
        """Whether a row comes behind a place in an order: the columns of a row, which need not be there any more."""
        order, place = node.operand
        name = f"b{next(self._names)}"
        pairs = zip(
            self._order_keys(class_name, order, alias), self._order_keys(class_name, order, name), strict=True
        )
        ways: list[Fragment] = []
        equal: list[Fragment] = []
        for (here, descending, may_be_null), (there, _, _) in pairs:
            later = build(f"{{}} {'<' if descending else '>'} {{}}", here, there)
            same = build("{} = {}", here, there)
            if may_be_null:  # which comes first, or descending last
                null = build("({} IS NULL AND {} IS NOT NULL)", *((here, there) if descending else (there, here)))
                later = join("OR", [later, null])
                same = join("OR", [same, build("({} IS NULL AND {} IS NULL)", here, there)])
            ways.append(join("AND", [*equal, later]))
            equal.append(same)
        return build(f"EXISTS (SELECT 1 FROM {{}} {name} WHERE {{}})", self.place(place), join("OR", ways))

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
