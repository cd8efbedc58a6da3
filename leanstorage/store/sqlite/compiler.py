"""SQLite's dialect: JSON as text, its functions, and some of our own."""
import json
import math
from collections.abc import Callable, Sequence
from leanstorage.store import Json, Path, Query, canonical_text, choice, grid
from leanstorage.store.choice import by_order, by_range, top_conditions
from leanstorage.store.compiler import Compiler
from leanstorage.store.paths import MISSING, values_at
from leanstorage.store.fragments import ALONE_INDEXED, Fragment, Item, bind, build, index_name, quoted

MAX_REACHED = 64 << 20  # characters of what one path reaches in one object


class SqliteCompiler(Compiler):
    role_name = "json_extract(o.body, '$.name')"

    @staticmethod
    def text_list(texts: Sequence[str | float]) -> Fragment:
        return "(SELECT value FROM json_each(?))", [json.dumps(texts, ensure_ascii=False)]

    def limits(self, limit: int | None, skip: int) -> Fragment:
        return " LIMIT ? OFFSET ?", [-1 if limit is None else limit, skip]

    def direction(self, descending: bool) -> str:
        return " DESC" if descending else ""  # NULL sorts first, as LeanCloud has it

    def source(self, query: Query, alias: str) -> Fragment:
        """The table, with the index to use: without figures about it the planner's guess is often another one."""
        if query.cells:
            key, ranges = query.cells
            places = json.dumps([[int(low), int(high)] for low, high in ranges])
            columns = "json_extract(value, '$[0]') AS low, json_extract(value, '$[1]') AS high"
            table = f"objects w INDEXED BY {index_name(query.class_name, [key])}"
            return (
                f"(SELECT w.* FROM (SELECT {columns} FROM json_each('{places}')) c CROSS JOIN {table} "
                f"WHERE w.class = {quoted(query.class_name)} AND {self.cell(key, 'w')} BETWEEN c.low AND c.high) {alias}"
            ), []
        keys = self._index_of(query, alias)
        return self._table(query, alias, keys), []

    @staticmethod
    def _table(query: Query, alias: str, keys: Sequence[str]) -> str:
        return f"objects {alias}" + (f" INDEXED BY {index_name(query.class_name, keys)}" if keys else "")

    def _index_of(self, query: Query, alias: str) -> Sequence[str]:
        """The keys of the index that serves a query best, () for none.

        It has most of the values that must be equal; or finds few by a range or a list; or the order that is asked for.
        """
        others = {node.path for node in top_conditions(query.where)}
        if others & {("objectId",), ()}:  # by id or by relation there are fewer
            return ()
        indexes = [keys for keys in self.indexes(query.class_name) if keys[0] != "ACL" and self.type_of_column(query.class_name, (keys[0],)) not in ALONE_INDEXED]
        best, _ = by_order(query, indexes)
        if best:
            return best
        in_order: Sequence[str] = ()
        is_timed = not query.order or len(query.order[0][0]) == 1 and query.order[0][0][0] in ("createdAt", "updatedAt")
        if query.order and query.limit is not None and not others & {("createdAt",), ("updatedAt",)}:
            in_order = next((keys for keys in indexes if (keys[0],) == query.order[0][0]), ())
        is_streamed = query.limit is not None and not query.near and (is_timed or bool(in_order))
        for keys, key, test in by_range(query, indexes):
            if not is_streamed or keys[0] != key or self.is_few(query, key, test, alias, self._table(query, alias, keys)):
                return keys
        return in_order

    def readable(self, alias: str, principals: list[str]) -> Fragment:
        return build(
            f"({alias}.readers IS NULL OR EXISTS (SELECT 1 FROM json_each({alias}.readers) WHERE value IN {{}}))",
            self.text_list(principals),
        )

    def field(self, class_name: str, path: Path, alias: str) -> Item:
        body = f"{alias}.body"
        if path[0] == "ACL":
            return {"kind": ("NULL", []), "value": ("NULL", []), "text": ("NULL", []), "elements": ("'[]'", [])}
        # The path of a whole column stands in the text, where an index on that expression can match it.
        text = '$."' + '"."'.join(path) + '"'
        where: Fragment = (f"'{text}'", []) if len(path) == 1 else bind(text)
        return {
            "kind": build(f"json_type({body}, {{}})", where),
            "value": build(f"json_extract({body}, {{}})", where),
            "text": build(f"{body} -> {{}}", where),
            "elements": build(f"{body}, {{}}", where),
        }

    plain_field = field

    def reached(self, class_name: str, path: Path, alias: str, is_spread: bool) -> tuple[Fragment, Item]:
        name = f"e{next(self._names)}"
        column = self.field(class_name, path[:1], alias)["text"]
        values = build("leanstorage_reached({}, {}, {})", column, bind(json.dumps(path[1:])), bind(is_spread))
        first = f"{name}.value, '$[0]'"
        element: Item = {
            "kind": (f"json_type({first})", []),
            "value": (f"json_extract({first})", []),
            "text": (f"({name}.value -> '$[0]')", []),
            "elements": (first, []),
        }
        return build(f"json_each({{}}) {name}", values), element

    def is_array(self, item: Item) -> Fragment:
        return build("{} = 'array'", item["kind"])

    def any_element(self, item: Item, test: Callable[[Item], Fragment]) -> Fragment:
        return build("({} = 'array' AND {})", item["kind"], self._any(item["elements"], test))

    def any_of(self, item: Item, test: Callable[[Item], Fragment]) -> Fragment:
        elements = build(
            "CASE {} WHEN 'array' THEN {} WHEN 'object' THEN json_array(json({})) ELSE '[]' END",
            item["kind"],
            item["value"],
            item["value"],
        )
        return self._any(elements, test)

    def _any(self, elements: Fragment, test: Callable[[Item], Fragment]) -> Fragment:
        name = f"e{next(self._names)}"
        element: Item = {
            "kind": (f"{name}.type", []),
            "value": (f"{name}.value", []),
            "text": (f"CASE WHEN {name}.type = 'text' THEN json_quote({name}.value) ELSE {name}.value END", []),
        }
        return build(f"EXISTS (SELECT 1 FROM json_each({{}}) {name} WHERE {{}})", elements, test(element))

    def equal(self, item: Item, operand: Json) -> Fragment:
        if operand is None:
            return build("{} = 'null'", item["kind"])
        if isinstance(operand, bool):
            return build(f"{{}} = '{'true' if operand else 'false'}'", item["kind"])
        if isinstance(operand, (int, float)):
            return build("({} IN ('integer', 'real') AND {} = {})", item["kind"], item["value"], number(operand))
        if isinstance(operand, str):
            return build("({} = 'text' AND {} = {})", item["kind"], item["value"], bind(operand))
        kind = "array" if isinstance(operand, list) else "object"
        return build(f"({{}} = '{kind}' AND {{}} = {{}})", item["kind"], item["value"], bind(canonical_text(operand)))

    def compare(self, item: Item, operator: str, operand: Json) -> Fragment:
        if isinstance(operand, bool):
            return build(
                f"({{}} IN ('true', 'false') AND {{}} {operator} {{}})", item["kind"], item["value"], bind(operand)
            )
        if isinstance(operand, (int, float)):
            return build(
                f"({{}} IN ('integer', 'real') AND {{}} {operator} {{}})",
                item["kind"],
                item["value"],
                number(operand),
            )
        if isinstance(operand, str):
            return build(f"({{}} = 'text' AND {{}} {operator} {{}})", item["kind"], item["value"], bind(operand))
        iso = build(
            "CASE WHEN {} = 'object' AND json_extract({}, '$.__type') = 'Date' THEN json_extract({}, '$.iso') END",
            item["kind"],
            item["value"],
            item["value"],
        )
        return build(f"{{}} {operator} {{}}", iso, bind(operand["iso"]))

    def simple_equal(self, item: Item, column_type: str, operand: Json) -> Fragment:
        return self.simple_compare(item, column_type, "=", operand)

    indexed_equal = simple_equal

    def simple_compare(self, item: Item, column_type: str, operator: str, operand: Json) -> Fragment:
        if column_type == "Date":
            return build(f"{{}} {operator} {{}}", self.iso(item), bind(operand["iso"]))
        if isinstance(operand, dict):
            return build(f"{{}} {operator} {{}}", item["value"], bind(canonical_text(operand)))
        return build(f"{{}} {operator} {{}}", item["value"], number(operand))

    def simple_in(self, item: Item, column_type: str, operands: Sequence[Json]) -> Fragment:
        if column_type == "Date":
            return build("{} IN {}", self.iso(item), self.text_list([operand["iso"] for operand in operands]))
        values = [canonical_text(one) if isinstance(one, dict) else number(one)[1][0] for one in operands]
        return build("{} IN {}", item["value"], self.text_list(values))

    def place(self, columns: Sequence[Json]) -> Fragment:
        *rest, body = columns
        return "(SELECT ? AS id, ? AS created, ? AS updated, ? AS seq, ? AS body)", [*rest, canonical_text(body)]

    def holds(self, class_name: str, key: str, alias: str, operands: Sequence[Json]) -> Fragment | None:
        """By the table of elements that has the fewest rows for one of the operands; None where all have many."""
        table = index_name(class_name, [key])
        for operand in operands:
            if isinstance(operand, bool) or not isinstance(operand, (str, int, float)):
                continue
            found = build(f"SELECT seq FROM {table} WHERE value = {{}}", number(operand))
            if self.counted is None or self.counted(build(f"SELECT count(*) FROM ({{}} LIMIT {choice.FEW})", found)) < choice.FEW:
                return build(f"{alias}.seq IN ({{}})", found)
        return None

    def tally(self, class_name: str, keys: Sequence[str]) -> str:
        return index_name(class_name, keys)

    def tally_test(self, operator: str, operand: Json) -> Fragment:
        if isinstance(operand, dict):
            value = bind(operand["iso"] if operand["__type"] == "Date" else canonical_text(operand))
        else:
            value = number(operand)
        # A missing value is kept as a blob, which is greater than all others.
        return build(f"(value {operator} {{}} AND value < x'')", value)

    def shared(self, class_name: str, alias: str, principals: list[str]) -> Fragment:
        table = index_name(class_name, ["ACL"]) + "_readers"
        found = build(f"SELECT DISTINCT seq FROM {table} WHERE value IN {{}}", self.text_list(principals))
        return build(f"({{}}) r CROSS JOIN objects {alias} ON {alias}.seq = r.seq", found)

    def cell(self, key: str, alias: str) -> str:
        latitude, longitude = (f"json_extract({alias}.body, '$.\"{key}\".{name}')" for name in ("latitude", "longitude"))
        row = f"CAST(({latitude} + 90) * {grid.PER_DEGREE} AS INTEGER)"
        return f"({row} * {grid.ROW} + CAST(({longitude} + 180) * {grid.PER_DEGREE} AS INTEGER))"

    def iso(self, item: Item) -> Fragment:
        """The time of a Date column; the same text as an index on it has."""
        text, params = item["value"]
        return text.replace("\"')", "\".iso')"), params

    def array_length(self, item: Item, length: int) -> Fragment:
        return build(
            "({} = 'array' AND (SELECT count(*) FROM json_each({})) = {})", item["kind"], item["elements"], bind(length)
        )

    def search(self, text: Fragment, operand: tuple[str, int]) -> Fragment:
        pattern, flags = operand
        return build("leanstorage_search({}, {}, {})", bind(pattern), bind(flags), text)

    def text_search(self, item: Item, operand: tuple[str, int]) -> Fragment:
        return build("({} = 'text' AND {})", item["kind"], self.search(item["value"], operand))

    def text_value(self, item: Item) -> Fragment:
        return build("CASE WHEN {} = 'text' THEN {} END", item["kind"], item["value"])

    def points_into(self, item: Item, class_name: str, inner: Fragment) -> Fragment:
        kind, name = ("File", "id") if class_name == "_File" else ("Pointer", "objectId")
        of_class = "" if class_name == "_File" else " AND json_extract({}, '$.className') = {}"
        parts = [item["kind"], item["value"]]
        if of_class:
            parts += [item["value"], bind(class_name)]
        return build(
            f"CASE WHEN {{}} = 'object' AND json_extract({{}}, '$.__type') = '{kind}'{of_class} "
            f"THEN json_extract({{}}, '$.{name}') IN ({{}}) ELSE FALSE END",
            *parts,
            item["value"],
            inner,
        )

    def coordinates(self, item: Item) -> tuple[Fragment, Fragment]:
        return self._coordinate(item, "latitude"), self._coordinate(item, "longitude")

    @staticmethod
    def _coordinate(item: Item, name: str) -> Fragment:
        return build(
            f"CASE WHEN {{}} = 'object' AND json_extract({{}}, '$.__type') = 'GeoPoint' "
            f"THEN json_extract({{}}, '$.{name}') END",
            item["kind"],
            item["value"],
            item["value"],
        )

    def distance(self, item: Item, latitude: float, longitude: float) -> Fragment:
        return build("leanstorage_angle({}, {}, {}, {})", *self.coordinates(item), bind(latitude), bind(longitude))

    def sort_keys(self, class_name: str, path: Path, alias: str) -> list[Fragment]:
        item = self.field(class_name, path, alias)
        column_type = self.type_of_column(class_name, path)
        if column_type == "Date":
            return [self.iso(item)]
        if column_type is not None and column_type not in ("Array", "Object"):
            return [item["value"]]
        rank = build(
            "CASE {} WHEN 'integer' THEN 1 WHEN 'real' THEN 1 WHEN 'text' THEN 2 WHEN 'array' THEN 4 "
            "WHEN 'true' THEN 6 WHEN 'false' THEN 6 WHEN 'object' THEN "
            "CASE json_extract({}, '$.__type') WHEN 'Bytes' THEN 5 WHEN 'Date' THEN 7 ELSE 3 END END",
            item["kind"],
            item["value"],
        )
        return [rank, item["value"]]


def reached_text(is_late: Callable[[], bool], column: str | None, path: str, is_spread: bool) -> str:
    """What a path, as JSON, reaches in a value, as JSON: `[[value], ...]`, `[]` for what is missing in an object.

    Raises TimeoutError when it takes too long, or is too much: a call is one step to SQLite, which cannot end it, and what
    is reached may lie in other things that are reached.
    """
    value = MISSING if column is None else json.loads(column)
    texts, size = [], 0
    for one in values_at(value, tuple(json.loads(path)), is_spread):
        text = "[]" if one is MISSING else canonical_text([one])
        size += len(text)
        if size > MAX_REACHED or is_late():
            raise TimeoutError
        texts.append(text)
    return f"[{','.join(texts)}]"


def number(value: Json) -> Fragment:
    """A bound number; SQLite's integers have 64 bits."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        value = float(value)
    return bind(value)


def angle(latitude: float | None, longitude: float | None, to_latitude: float, to_longitude: float) -> float | None:
    """The angle between two points of the globe, in degrees, in radians (haversine); None when the first is missing."""
    if latitude is None or longitude is None:
        return None
    a, b = math.radians(latitude), math.radians(to_latitude)
    half = (math.sin((b - a) / 2) ** 2) + math.cos(a) * math.cos(b) * (
        math.sin(math.radians(to_longitude - longitude) / 2) ** 2
    )
    return 2 * math.asin(min(1.0, math.sqrt(half)))
