"""PostgreSQL's dialect: bodies are JSONB, whose equality is that of values."""
import re
from collections.abc import Callable, Sequence
from itertools import groupby
from leanstorage.store import (
    Document,
    Json,
    Path,
    Query,
    canonical_text,
)
from leanstorage.store import choice, grid
from leanstorage.store.compiler import Compiler
from leanstorage.store.paths import INDEX
from leanstorage.store.stages import LONG_LIST
from leanstorage.store.fragments import Fragment, Item, between, bind, build, index_name, quoted

NUMERAL = re.compile(r"\s*[+-]?[0-9]+", re.ASCII)  # what `#>` may take for one
INDEXED_CHARACTERS = 150  # of a text; four of them fit an index entry

# Step by step what a dotted key reaches, as store.paths has it: the value, how many names led there, and whether the last
# one was the place of an element, which stands for itself.
_ARRAY = "jsonb_array_elements(CASE WHEN jsonb_typeof(r.v) = 'array' THEN r.v ELSE '[]'::jsonb END)"
REACHED = (
    "WITH RECURSIVE r(v, n, is_whole) AS (SELECT {}, 1, FALSE UNION ALL SELECT s.v, r.n + 1, s.is_whole FROM r CROSS JOIN LATERAL ("
    "SELECT r.v -> ({}::text[])[r.n + 1], FALSE WHERE jsonb_typeof(r.v) IS DISTINCT FROM 'array' "
    f"UNION ALL SELECT a.value -> ({{}}::text[])[r.n + 1], FALSE FROM {_ARRAY} AS a(value) WHERE jsonb_typeof(a.value) = 'object'"
)
PLACES = (
    " UNION ALL SELECT p.v, TRUE FROM (SELECT r.v -> NULLIF((?::text[])[r.n + 1], '')::int) AS p(v) WHERE jsonb_typeof(r.v) = 'array' "
    "AND p.v IS NOT NULL AND (r.n + 1 = {} OR jsonb_typeof(p.v) IN ('object', 'array'))"
)
ELEMENTS = f" UNION ALL SELECT a.value FROM r CROSS JOIN LATERAL {_ARRAY} AS a(value) WHERE r.n = {{}} AND NOT r.is_whole"


def _json(value: Json) -> Fragment:
    """A canonical value as a JSONB parameter."""
    return "?::jsonb", [canonical_text(value)]


class PostgresqlCompiler(Compiler):
    role_name = "o.body ->> 'name'"

    @staticmethod
    def text_list(texts: Sequence[str]) -> Fragment:
        return "(SELECT unnest(?::text[]))", [list(texts)]

    def limits(self, limit: int | None, skip: int) -> Fragment:
        """In the text where that can be: a plan for any number of rows is seldom the one for twenty."""
        text = "" if limit is None else f" LIMIT {limit:d}"
        return (text + " OFFSET ?::bigint", [skip]) if skip else (text, [])

    def direction(self, descending: bool) -> str:
        return " DESC NULLS LAST" if descending else " ASC NULLS FIRST"

    def readable(self, alias: str, principals: list[str]) -> Fragment:
        return build(f"({alias}.readers IS NULL OR {alias}.readers && {{}}::text[])", bind(list(principals)))

    def field(self, class_name: str, path: Path, alias: str) -> Item:
        value: Fragment
        if path[0] == "ACL":
            value = ("NULL::jsonb", [])
        elif len(path) == 1:
            value = (f"({alias}.body -> '{path[0]}')", [])
        else:
            value = build(f"({alias}.body #> {{}}::text[])", bind(list(path)))
        return _item(value, f"{alias}.body", path)

    def plain_field(self, class_name: str, path: Path, alias: str) -> Item:
        """The item of names that lead through objects alone: `#>` would take a number for a place in an array."""
        if path[0] == "ACL" or not any(map(NUMERAL.fullmatch, path)):
            return self.field(class_name, path, alias)
        value: Fragment = (f"{alias}.body", [])
        for is_number, parts in groupby(path, lambda part: NUMERAL.fullmatch(part) is not None):
            if is_number:
                value = build("({}" + "".join(f" -> '{part}'" for part in parts) + ")", value)
            else:
                value = build("({} #> {}::text[])", value, bind(list(parts)))
        return _item(value, f"{alias}.body", path)

    def reached(self, class_name: str, path: Path, alias: str, is_spread: bool) -> tuple[Fragment, Item]:
        name = f"e{next(self._names)}"
        column = self.field(class_name, path[:1], alias)["text"]
        places = [part if INDEX.fullmatch(part) else "" for part in path]
        text, params = build(REACHED, column, bind(list(path)), bind(list(path)))
        if any(places):
            # By a number one place is reached in two ways: UNION keeps one, or N numbers would make 2 to the power of N.
            text = text.replace(" UNION ALL ", " UNION ", 1)
            text, params = text + PLACES.format(len(path)), [*params, places]
        text, params = text + f") s(v, is_whole) WHERE r.n < {len(path)}) SELECT r.v FROM r WHERE r.n = {len(path)}", params
        if is_spread:
            text += ELEMENTS.format(len(path))
        return (f"({text}) AS {name}(value)", params), _item((f"{name}.value", []))

    def is_array(self, item: Item) -> Fragment:
        return build("jsonb_typeof({}) = 'array'", item["text"])

    def any_element(self, item: Item, test: Callable[[Item], Fragment]) -> Fragment:
        return self._any(item, "'[]'::jsonb", [], test)

    def any_of(self, item: Item, test: Callable[[Item], Fragment]) -> Fragment:
        return self._any(item, "jsonb_build_array({})", [item["text"]], test)

    def _any(self, item: Item, other: str, values: list[Fragment], test: Callable[[Item], Fragment]) -> Fragment:
        """Whether an element passes the test; what is no array has those of `other`, a template for `values`."""
        name = f"e{next(self._names)}"
        return build(
            f"EXISTS (SELECT 1 FROM jsonb_array_elements(CASE WHEN jsonb_typeof({{}}) = 'array' THEN {{}} ELSE {other} END)"
            f" AS {name}(value) WHERE {{}})",
            item["text"],
            item["text"],
            *values,
            test(_item((f"{name}.value", []))),
        )

    def equal(self, item: Item, operand: Json) -> Fragment:
        return build("{} = {}", item["text"], _json(operand))

    def compare(self, item: Item, operator: str, operand: Json) -> Fragment:
        if isinstance(operand, bool):
            return build(
                f"(jsonb_typeof({{}}) = 'boolean' AND {{}} {operator} {{}})", item["text"], item["text"], _json(operand)
            )
        if isinstance(operand, (int, float)):
            return build(
                f"(jsonb_typeof({{}}) = 'number' AND {{}} {operator} {{}})", item["text"], item["text"], _json(operand)
            )
        if isinstance(operand, str):
            return build(
                f"(jsonb_typeof({{}}) = 'string' AND {{}} {operator} {{}})", item["text"], item["value"], bind(operand)
            )
        return build(
            f"({{}} ->> '__type' = 'Date' AND ({{}} ->> 'iso') COLLATE \"C\" {operator} {{}})",
            item["text"],
            item["text"],
            bind(operand["iso"]),
        )

    def simple_equal(self, item: Item, column_type: str, operand: Json) -> Fragment:
        # Containment of a whole column's only value is equality, and the GIN index serves it.
        return build("{} @> {}", item["body"], _json({item["key"]: operand}))

    def index_column(self, class_name: str, key: str) -> str:
        return super().index_column(class_name, key) + " NULLS FIRST"  # as `direction` has it

    def indexed_equal(self, item: Item, column_type: str, operand: Json) -> Fragment:
        test = self.simple_compare(item, column_type, "=", operand)
        if column_type != "String":
            return test
        same_beginning = build("{} = {}", self.beginning(item), bind(operand[:INDEXED_CHARACTERS]))
        if len(operand) < INDEXED_CHARACTERS:  # that is all of it; a second test would mislead the planner
            return same_beginning
        return build("({} AND {})", same_beginning, test)

    @staticmethod
    def beginning(item: Item) -> Fragment:
        """What an index keeps of a text: its entries cannot be longer than a third of a page."""
        return build(f"left({{}}, {INDEXED_CHARACTERS})", item["value"])

    def simple_compare(self, item: Item, column_type: str, operator: str, operand: Json) -> Fragment:
        if column_type == "Date":
            return build(f"{{}} {operator} {{}}", self.iso(item), bind(operand["iso"]))
        if column_type == "String":
            return build(f"{{}} {operator} {{}}", item["value"], bind(operand))
        return build(f"{{}} {operator} {{}}", self.present(item), _json(operand))

    def indexed_compare(self, item: Item, column_type: str, operator: str, operand: Json) -> Fragment:
        test = self.simple_compare(item, column_type, operator, operand)
        if column_type != "String":
            return test
        if len(operand) < INDEXED_CHARACTERS:  # where the beginnings are equal one text ends, and so does its beginning
            return build(f"{{}} {operator} {{}}", self.beginning(item), bind(operand))
        loose = operator[0] + "="
        return build(f"({{}} {loose} {{}} AND {{}})", self.beginning(item), bind(operand[:INDEXED_CHARACTERS]), test)

    def simple_in(self, item: Item, column_type: str, operands: Sequence[Json]) -> Fragment:
        if column_type == "String":
            return build("{} = ANY({}::text[])", item["value"], bind(list(operands)))
        if column_type == "Date":
            return build("{} = ANY({}::text[])", self.iso(item), bind([operand["iso"] for operand in operands]))
        return build("{} = ANY({}::jsonb[])", self.present(item), bind([canonical_text(operand) for operand in operands]))

    def indexed_in(self, item: Item, column_type: str, operands: Sequence[Json]) -> Fragment:
        """A long list is a table to join: of an array the planner looks up each value in its figures, for 20 ms."""
        if len(operands) > LONG_LIST:
            text, params = self._indexed_in(item, column_type, operands)
            return re.sub(r"= ANY\((\?::\w+\[\])\)", r"IN (SELECT unnest(\1))", text), params
        return self._indexed_in(item, column_type, operands)

    def _indexed_in(self, item: Item, column_type: str, operands: Sequence[Json]) -> Fragment:
        test = self.simple_in(item, column_type, operands)
        if column_type != "String":
            return test
        beginnings = [operand[:INDEXED_CHARACTERS] for operand in operands]
        same_beginning = build("{} = ANY({}::text[])", self.beginning(item), bind(beginnings))
        if all(len(beginning) < INDEXED_CHARACTERS for beginning in beginnings):
            return same_beginning
        return build("({} AND {})", same_beginning, test)

    def indexed_prefix(self, item: Item, prefix: str) -> Fragment:
        same_beginning = between(self.beginning(item), prefix[:INDEXED_CHARACTERS])
        if len(prefix) <= INDEXED_CHARACTERS:
            return same_beginning
        return build("({} AND {})", same_beginning, between(item["value"], prefix))

    def place(self, columns: Sequence[Json]) -> Fragment:
        *rest, body = columns
        return (
            "(SELECT ?::text AS id, ?::bigint AS created, ?::bigint AS updated, ?::bigint AS seq, ?::jsonb AS body)",
            [*rest, canonical_text(body)],
        )

    def holds(self, class_name: str, key: str, alias: str, operands: Sequence[Json]) -> Fragment | None:
        return build(f"({alias}.body -> '{key}') @> {{}}", _json(list(operands)))

    def tally(self, class_name: str, keys: Sequence[str]) -> str:
        return f"(SELECT value, is_public, n FROM tallies WHERE name = '{index_name(class_name, keys)}') t"

    def is_tallied(self, column: Document, operand: Json) -> bool:
        is_whole = not isinstance(operand, str) or len(operand) < INDEXED_CHARACTERS
        return is_whole and super().is_tallied(column, operand)

    def tally_test(self, operator: str, operand: Json) -> Fragment:
        """A missing value is kept as null, which is less than all others."""
        return build(f"(value {operator} {{}} AND value > 'null'::jsonb)", _json(operand))

    def shared(self, class_name: str, alias: str, principals: list[str]) -> Fragment:
        tests = f"w.class = {quoted(class_name)} AND w.readers IS NOT NULL AND w.readers && {{}}::text[]"
        return build(f"(SELECT * FROM objects w WHERE {tests}) {alias}", bind(list(principals)))

    def source(self, query: Query, alias: str) -> Fragment:
        """The table, or what an index finds of it where the planner would not know how little that is.

        OFFSET keeps the planner from mixing the two steps.
        """
        table = f"(SELECT * FROM objects w WHERE w.class = {quoted(query.class_name)}"
        if query.cells:
            low, high = (",".join(str(int(one[end])) for one in query.cells[1]) for end in (0, 1))
            return (
                f"(SELECT w.* FROM unnest(ARRAY[{low}]::int[], ARRAY[{high}]::int[]) AS c(low, high) CROSS JOIN LATERAL "
                f"{table} AND {self.cell(query.cells[0], 'w')} BETWEEN c.low AND c.high OFFSET 0) w) {alias}"
            ), []
        if query.limit is None or query.near:
            return super().source(query, alias)
        self._served["w"], self._readers["w"] = self._served[alias], None
        for keys, key, test in choice.by_range(query, self.indexes(query.class_name)):
            is_range = any(node.op != "in" for node in choice.top_conditions(test))
            if is_range and keys[0] == key and self.is_few(query, key, test, "w", "objects w"):
                return build(f"{table} AND {{}} OFFSET 0) {alias}", self._node(test, query.class_name, "w"))
        return super().source(query, alias)

    def cell(self, key: str, alias: str) -> str:
        latitude, longitude = (
            f"({self._coordinate(_item((f'({alias}.body -> {chr(39)}{key}{chr(39)})', [])), name)[0]})"
            for name in ("latitude", "longitude")
        )
        row = f"floor(({latitude} + 90) * {grid.PER_DEGREE})::int"
        return f"({row} * {grid.ROW} + floor(({longitude} + 180) * {grid.PER_DEGREE})::int)"

    def iso(self, item: Item) -> Fragment:
        return build("({} ->> 'iso') COLLATE \"C\"", item["text"])

    def present(self, item: Item) -> Fragment:
        """The value of a column, NULL for a stored null, which JSONB would sort and compare as a value."""
        return build("NULLIF({}, 'null'::jsonb)", item["text"])

    def array_length(self, item: Item, length: int) -> Fragment:
        return build(
            "CASE WHEN jsonb_typeof({}) = 'array' THEN jsonb_array_length({}) END = {}",
            item["text"],
            item["text"],
            bind(length),
        )

    def text_value(self, item: Item) -> Fragment:
        return build("CASE WHEN jsonb_typeof({}) = 'string' THEN {} END", item["text"], item["value"])

    def points_into(self, item: Item, class_name: str, inner: Fragment) -> Fragment:
        kind, name = ("File", "id") if class_name == "_File" else ("Pointer", "objectId")
        parts = [build("{} ->> '__type' = {}", item["text"], bind(kind))]
        if class_name != "_File":
            parts.append(build("{} ->> 'className' = {}", item["text"], bind(class_name)))
        parts.append(build(f"({{}} ->> '{name}') COLLATE \"C\" IN ({{}})", item["text"], inner))
        return build("({} AND " * (len(parts) - 1) + "{}" + ")" * (len(parts) - 1), *parts)

    def coordinates(self, item: Item) -> tuple[Fragment, Fragment]:
        return self._coordinate(item, "latitude"), self._coordinate(item, "longitude")

    @staticmethod
    def _coordinate(item: Item, name: str) -> Fragment:
        return build(
            f"CASE WHEN {{}} ->> '__type' = 'GeoPoint' THEN ({{}} ->> '{name}')::float8 END", item["text"], item["text"]
        )

    def distance(self, item: Item, latitude: float, longitude: float) -> Fragment:
        """The angle in radians (haversine), as store.sqlite.angle has it."""
        here_latitude, here_longitude = self.coordinates(item)
        # `least` passes over NULL, so a missing point is told apart first.
        return build(
            "CASE WHEN {} IS NOT NULL THEN 2 * asin(least(1, sqrt(power(sin(radians(({}) - {}::float8) / 2), 2) + cos(radians({}))"
            " * cos(radians({}::float8)) * power(sin(radians(({}) - {}::float8) / 2), 2)))) END",
            here_latitude,
            here_latitude,
            bind(latitude),
            here_latitude,
            bind(latitude),
            here_longitude,
            bind(longitude),
        )

    def sort_keys(self, class_name: str, path: Path, alias: str) -> list[Fragment]:
        item = self.plain_field(class_name, path, alias)
        column_type = self.type_of_column(class_name, path)
        if column_type == "Date":
            return [self.iso(item)]
        if column_type == "String":
            # The beginning first changes nothing, but an index has only that.
            return [self.beginning(item), item["value"]]
        if column_type is not None and column_type not in ("Array", "Object"):
            return [self.present(item)]
        rank = build(
            "CASE jsonb_typeof({}) WHEN 'number' THEN 1 WHEN 'string' THEN 2 WHEN 'array' THEN 4 WHEN 'boolean' THEN 6 "
            "WHEN 'object' THEN CASE {} ->> '__type' WHEN 'Bytes' THEN 5 WHEN 'Date' THEN 7 ELSE 3 END END",
            item["text"],
            item["text"],
        )
        numbers = build("CASE WHEN jsonb_typeof({}) = 'number' THEN {} END", item["text"], item["text"])
        return [rank, numbers, item["value"]]


def _item(value: Fragment, body: str = "", path: Path = ()) -> Item:
    """An item of the compiler: in JSONB the value itself is what equal values share."""
    return {
        "kind": build("jsonb_typeof({})", value),
        "value": build("({} #>> '{{}}') COLLATE \"C\"", value),
        "text": value,
        "body": (body, []),
        "key": path[0] if len(path) == 1 else None,
    }
