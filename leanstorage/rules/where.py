"""Queries: the `where` of a client parsed into a small tree that stores compile to SQL. Protocol section 4.

Nothing of a client's text becomes an operator or a name in SQL: keys are checked here, values are bound by the store.
"""
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from leanwsgi import messages
from leanstorage.rules import patterns, phones, values
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import canonical_text, Condition, Document, Group, Json, Node, Not, Order, Path, Principals, Query

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_DEPTH = 20  # levels of $or, $and and sub-queries
MAX_CONDITIONS = 2000  # in one where, lists of $in not counted
MAX_MEMBERS = 2000  # of all lists in one where, except lists of texts, which databases take as one parameter
MAX_TEXTS = 20_000  # in those
MAX_ORDER = 100  # keys
MAX_NAMES = 1000  # in any list of keys
MAX_NAMES_SIZE = 50_000  # characters
MAX_REMEMBERED = 1000  # characters of a where that is parsed once for all who send it
MAX_NUMBER = 10**308  # beyond is no float
MAX_ANGLE = 10.0  # radians; no two points are farther apart than pi
MAX_PARTS = 2 * patterns.MAX_SIZE  # of all patterns in one where
EARTH_KM = 6371.0  # the radius that both SDKs use
EARTH_MILES = 3958.8
ALWAYS_PRIVATE = frozenset(["password", "salt", "sessionToken", "bcryptPassword", "scryptPassword"])
Near = tuple[Path, float, float]  # path, latitude, longitude


@dataclass
class _Parser:
    """One where being parsed: whose private columns are closed, how much has been seen, which classes it mentions."""

    is_master: bool
    principals: Principals
    classes: set[str] = field(default_factory=set)
    conditions: int = 0
    members: int = 0
    texts: int = 0
    parts: int = 0  # of patterns
    near: Near | None = None


Operator = Callable[[_Parser, Path, Json, Document, int], Node]  # (parser, path, operand, the whole condition, depth)


def parse_where(
    class_name: str, where: Json, is_master: bool = False, principals: Principals = None
) -> tuple[Query, set[str]]:
    """A Query for a decoded `where` (an object, or an array meaning all of its members). Raises 102 or 107.

    Returns (Query, the other classes it mentions): finding in those needs permission as well.
    """
    parser = _Parser(is_master, principals)
    node = _where(parser, class_name, where, 0)
    query = Query(class_name, node, principals=principals, near=parser.near)
    return query, parser.classes


def parse_listing(
    class_name: str, options: Document, is_master: bool, principals: Principals
) -> tuple[Query, frozenset[str]]:
    """`parse` of the options of a find: where, order, limit and skip. What comes again as texts is remembered."""
    given = options.get("where"), options.get("order"), options.get("limit"), options.get("skip")
    for value in given:
        if value is not None and not (isinstance(value, str) and len(value) <= MAX_REMEMBERED):
            return _listing(class_name, given, is_master, principals)
    return _remembered_listing(class_name, given, is_master, principals)


def _listing(
    class_name: str, given: tuple[Json, ...], is_master: bool, principals: Principals
) -> tuple[Query, frozenset[str]]:
    where, *others = given
    where = {} if where is None else parse_json(where) if isinstance(where, str) else where
    query, mentioned = parse_where(class_name, where, is_master, principals)
    options = dict(zip(("order", "limit", "skip"), others, strict=True))
    return with_limits(query, options, is_master), frozenset(mentioned)


@lru_cache(maxsize=1000)
def _remembered_listing(
    class_name: str, given: tuple[Json, ...], is_master: bool, principals: Principals
) -> tuple[Query, frozenset[str]]:
    query, mentioned = _listing(class_name, given, is_master, principals)
    return replace(query, comes_again=True), mentioned


def parse_json(text: str, name: str = "where") -> Json:
    """JSON text of a query option; raise 107."""
    try:
        return messages.parse_json(text)
    except messages.HTTPError as error:
        raise StorageError(Code.BAD_JSON, detail=f"{name}: {error.message}") from None


def parse_path(text: Json, class_name: str, is_master: bool) -> Path:
    """A dotted key as a tuple; raise 102 for what cannot be one and for private columns of users."""
    if not isinstance(text, str) or len(text) > 1000:
        raise bad("a key must be text")
    path = tuple(text.split("."))
    if not values.STORED_KEY.fullmatch(path[0]) or not all(map(_is_segment, path[1:])):
        raise bad(f"'{text}' is not a key")
    if class_name == "_User" and (is_private(path[0]) or (path[0] == "authData" and not is_master)):
        raise bad(f"'{path[0]}' is private")
    return path


def is_private(key: str) -> bool:
    """Whether nobody is shown this column of a user: imports bring `_hashed_password`, `_SessionToken` and more."""
    return key in ALWAYS_PRIVATE or key.startswith("_")


def parse_order(text: str | None, class_name: str, is_master: bool = False) -> Order:
    """`a,-b` as ((path, descending), ...); a key that comes again orders nothing."""
    order: dict[Path, bool] = {}
    for part in parse_names(text, "order"):
        order.setdefault(parse_path(part.lstrip("+-"), class_name, is_master), part.startswith("-"))
        if len(order) > MAX_ORDER:
            raise bad(f"order has more than {MAX_ORDER} keys")
    return tuple(order.items())


def parse_names(text: Json, option: str) -> list[str]:
    """The parts of `a, b`, each once; raise 102 for too many, and for no text, which a batch's item may hold."""
    if text and not isinstance(text, str):
        raise bad(f"{option} must be text")
    names = dict.fromkeys(part.strip() for part in (text or "").split(","))
    names.pop("", None)
    if len(names) > MAX_NAMES:
        raise bad(f"{option} has more than {MAX_NAMES} keys")
    if sum(map(len, names)) > MAX_NAMES_SIZE:
        raise bad(f"{option} has more than {MAX_NAMES_SIZE} characters")
    return list(names)


def parse_limit(value: Json, default: int = DEFAULT_LIMIT) -> int:
    """`limit` as LeanCloud reads it: junk and negative mean 100, more than 1000 means 1000."""
    number = _integer(value)
    if number is None or number < 0:
        return default
    return min(number, MAX_LIMIT)


def parse_skip(value: Json) -> int:
    number = _integer(value)
    return 0 if number is None or number < 0 else min(number, 2**53)


def with_limits(query: Query, options: Document, is_master: bool = False) -> Query:
    """`query` with the order, limit and skip of `options`, a dict of texts or numbers."""
    order = parse_order(options.get("order"), query.class_name, is_master)
    return replace(
        query,
        order=order,
        limit=parse_limit(options.get("limit")),
        skip=parse_skip(options.get("skip")),
        near=None if order else query.near,
    )


def bad(detail: str) -> StorageError:
    return StorageError(Code.BAD_QUERY, detail=detail)


def conjunction(nodes: Iterable[Node]) -> Node:
    """Nodes joined by AND, flat."""
    flat: list[Node] = []
    for node in nodes:
        flat.extend(node.nodes if isinstance(node, Group) and node.op == "and" else [node])
    return flat[0] if len(flat) == 1 else Group("and", tuple(flat))


def _is_segment(text: str) -> bool:
    return bool(text) and not any(char in '"\\$' or ord(char) < 32 for char in text)


def _integer(value: Json) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 19:
        return int(value)
    return None


def _where(parser: _Parser, class_name: str, where: Json, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise bad(f"more than {MAX_DEPTH} levels")
    if isinstance(where, list):
        return conjunction([_where(parser, class_name, member, depth + 1) for member in where])
    if not isinstance(where, dict):
        raise StorageError(Code.BAD_JSON, detail="where must be an object")
    nodes: list[Node] = []
    for key, value in where.items():
        parser.conditions += 1
        if parser.conditions > MAX_CONDITIONS:
            raise bad(f"more than {MAX_CONDITIONS} conditions")
        if key in ("$or", "$and"):
            nodes.append(_group(parser, class_name, key, value, depth))
        elif key == "$relatedTo":
            nodes.append(_related(parser, value))
        elif key.startswith("$"):
            raise bad(f"unknown operator {key}")
        else:
            nodes.append(_field(parser, class_name, key, value, depth))
    return conjunction(nodes)


def _group(parser: _Parser, class_name: str, key: str, members: Json, depth: int) -> Node:
    if not isinstance(members, list) or not members:
        raise bad(f"{key} needs a non-empty array")
    near = parser.near
    nodes = tuple(_where(parser, class_name, member, depth + 1) for member in members)
    if key == "$or" and parser.near is not near:
        raise bad("$nearSphere cannot stand inside $or")
    return conjunction(nodes) if key == "$and" else Group("or", nodes)


def _related(parser: _Parser, value: Json) -> Node:
    if not isinstance(value, dict) or not isinstance(value.get("key"), str):
        raise bad("$relatedTo needs object and key")
    owner = values.normalise(value.get("object"))
    if not isinstance(owner, dict) or owner.get("__type") not in ("Pointer", "File"):
        raise bad("$relatedTo needs a Pointer as its object")
    owner_class = owner.get("className", "_File")
    return Condition("related", (), (owner_class, owner.get("objectId") or owner.get("id"), value["key"]))


def _field(parser: _Parser, class_name: str, key: str, value: Json, depth: int) -> Node:
    path = parse_path(key, class_name, parser.is_master)
    if class_name == "_User" and key == phones.FIELD:
        value = phones.widened(value)
    if not (isinstance(value, dict) and any(name.startswith("$") for name in value)):
        return Condition("eq", path, _operand(path, value))
    if not all(name.startswith("$") for name in value):
        raise bad(f"'{key}' mixes operators and values")
    nodes: list[Node] = []
    for name, operand in value.items():
        if name in _MODIFIERS:
            if _MODIFIERS[name] not in value:
                raise bad(f"{name} needs {_MODIFIERS[name]}")
            continue
        operator = _OPERATORS.get(name)
        if operator is None:
            raise bad(f"unknown operator {name}")
        parser.conditions += 1
        nodes.append(operator(parser, path, operand, value, depth))
    return conjunction(nodes)


def _operand(path: Path, value: Json) -> Json:
    """A canonical operand; the two built-in times are compared in milliseconds, -1 standing for what is no time."""
    if path[0] in ("createdAt", "updatedAt") and len(path) == 1 and value is not None:
        iso = value.get("iso") if isinstance(value, dict) and value.get("__type") == "Date" else value
        try:
            return values.parse_time(iso)
        except (ValueError, OverflowError):
            return -1
    value = values.normalise(value)
    if isinstance(value, int) and abs(value) >= MAX_NUMBER:
        raise bad("a number is too large")
    return value


def _eq(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    return Condition("eq", path, _operand(path, operand))


def _ne(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    return Not(Condition("eq", path, _operand(path, operand)))


def _comparison(op: str) -> Operator:
    def parse_comparison(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
        operand = _operand(path, operand)
        is_date = isinstance(operand, dict) and operand.get("__type") == "Date"
        if not is_date and not isinstance(operand, (int, float, str)):
            raise bad(f"${op} needs a number, a text or a Date")
        return Condition(op, path, operand)

    return parse_comparison


def _operands(parser: _Parser, path: Path, operand: Json, name: str) -> list[Json]:
    if not isinstance(operand, list):
        raise bad(f"{name} needs an array")
    members = _distinct([_operand(path, member) for member in operand])
    if name == "$all" or not all(isinstance(member, str) for member in members):
        parser.members += len(members)
        if parser.members > MAX_MEMBERS:
            raise bad(f"arrays with more than {MAX_MEMBERS} members together")
    else:
        parser.texts += len(members)
        if parser.texts > MAX_TEXTS:
            raise bad(f"arrays with more than {MAX_TEXTS} texts together")
    return members


def _distinct(members: list[Json]) -> list[Json]:
    """The members, each once; 1 and true are not the same."""
    if all(isinstance(member, str) for member in members):
        return list(dict.fromkeys(members))
    return list({canonical_text(member): member for member in members}.values())


def _in(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    return _one_of(path, _operands(parser, path, operand, "$in"))


def _nin(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    return Not(_one_of(path, _operands(parser, path, operand, "$nin")))


def _one_of(path: Path, members: list[Json]) -> Condition:
    """A list of one is that one, of which an index has the order, too."""
    return Condition("eq", path, members[0]) if len(members) == 1 else Condition("in", path, members)


def _all(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    return Condition("all", path, _operands(parser, path, operand, "$all"))


def _size(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    if isinstance(operand, bool) or not isinstance(operand, int) or operand < 0:
        raise bad("$size needs an integer from 0")
    return Condition("size", path, min(operand, 2**31 - 1))  # no array is longer


def _exists(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    if not isinstance(operand, bool):
        raise bad("$exists needs true or false")
    return Condition("exists", path, operand)


def _regex(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    if isinstance(operand, dict) and set(operand) <= {"$regex", "$options"}:
        operand = operand.get("$regex")  # some old clients wrap it once more
    options = value.get("$options", "")
    if not isinstance(operand, str) or not isinstance(options, str):
        raise bad("$regex and $options need texts")
    try:
        pattern, flags, parts = patterns.prepared(operand, options)
    except patterns.BadPattern as error:
        raise bad(f"$regex: {error}") from None
    parser.parts += parts
    if parser.parts > MAX_PARTS:
        raise bad("its patterns are too long together")
    prefix, is_all = patterns.literal_prefix(pattern, flags)
    if is_all:
        return Condition("prefix", path, prefix)
    found = Condition("regex", path, (pattern, flags))
    return conjunction([Condition("prefix", path, prefix), found]) if prefix else found


def _sub_query(parser: _Parser, operand: Json, name: str, depth: int) -> Query:
    """The Query of `{className, where, limit?, skip?, order?}`; without a limit every row counts."""
    if not isinstance(operand, dict) or not isinstance(operand.get("className"), str):
        raise bad(f"{name} needs className and where")
    class_name = values.check_class_name(operand["className"])
    parser.classes.add(class_name)
    near = parser.near
    node = _where(parser, class_name, operand.get("where") or {}, depth + 1)
    parser.near = near
    limit = operand.get("limit")
    return Query(
        class_name,
        node,
        parse_order(operand.get("order"), class_name, parser.is_master),
        None if limit is None else parse_limit(limit),
        parse_skip(operand.get("skip")),
        parser.principals,
    )


def _in_query(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    return Condition("in_query", path, _sub_query(parser, operand, "$inQuery", depth))


def _not_in_query(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    return Not(Condition("in_query", path, _sub_query(parser, operand, "$notInQuery", depth)))


def _select(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    if not isinstance(operand, dict):
        raise bad("$select needs key and query")
    query = _sub_query(parser, operand.get("query"), "$select", depth)
    return Condition("select", path, (parse_path(operand.get("key"), query.class_name, parser.is_master), query))


def _dont_select(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    return Not(_select(parser, path, operand, value, depth))


def _near(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    point = values.normalise(operand)
    if not isinstance(point, dict) or point.get("__type") != "GeoPoint":
        raise bad("$nearSphere needs a GeoPoint")
    bounds: dict[str, float | None] = {"min": None, "max": None}
    for name, (end, unit) in _DISTANCES.items():
        if name in value:
            number = value[name]
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise bad(f"{name} needs a number")
            bounds[end] = max(-MAX_ANGLE * unit, min(MAX_ANGLE * unit, number)) / unit
    parser.near = (path, point["latitude"], point["longitude"])
    return Condition("near", path, (point["latitude"], point["longitude"], bounds["min"], bounds["max"]))


def _within(parser: _Parser, path: Path, operand: Json, value: Document, depth: int) -> Node:
    corners = operand.get("$box") if isinstance(operand, dict) else None
    if not isinstance(corners, list) or len(corners) != 2 or len(operand) != 1:
        raise bad("$within needs $box with two corners")
    (south, west), (north, east) = map(_corner, corners)
    return Condition("box", path, (south, west, north, east))


def _corner(value: Json) -> tuple[float, float]:
    """(latitude, longitude) of a GeoPoint or of a bare `[longitude, latitude]`."""
    if isinstance(value, list) and len(value) == 2:
        value = {"__type": "GeoPoint", "longitude": value[0], "latitude": value[1]}
    if isinstance(value, dict):
        value = values.normalise({"__type": "GeoPoint", **value})
        if value["__type"] == "GeoPoint":
            return value["latitude"], value["longitude"]
    raise bad("$box needs GeoPoints as corners")


_DISTANCES: dict[str, tuple[str, float]] = {
    f"${end}Distance{suffix}": (end, unit)
    for end in ("min", "max")
    for suffix, unit in (("", 1), ("InRadians", 1), ("InKilometers", EARTH_KM), ("InMiles", EARTH_MILES))
}
_MODIFIERS = {"$options": "$regex"} | {name: "$nearSphere" for name in _DISTANCES}
_OPERATORS: dict[str, Operator] = {
    "$all": _all,
    "$dontSelect": _dont_select,
    "$eq": _eq,
    "$exists": _exists,
    "$gt": _comparison("gt"),
    "$gte": _comparison("gte"),
    "$in": _in,
    "$inQuery": _in_query,
    "$lt": _comparison("lt"),
    "$lte": _comparison("lte"),
    "$ne": _ne,
    "$nearSphere": _near,
    "$nin": _nin,
    "$notInQuery": _not_in_query,
    "$regex": _regex,
    "$select": _select,
    "$size": _size,
    "$within": _within,
}
