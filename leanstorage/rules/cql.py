"""CQL, LeanCloud's query language: text parsed into the same `where` that the other queries use, never into SQL.

Grammar and errors: protocol section 4, the CQL table. One short function per form of condition.
"""
import json
import math
import re
from collections.abc import Callable

import regex

from leanwsgi import messages
from leanstorage.rules import values
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Json, now

MAX_BYTES = 4096
MAX_DEPTH = 20  # parentheses and sub-queries
TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*")
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_.]*)
      | (?P<sign><=|>=|<>|!=|[=<>()\[\]{},:*?+-])
    )""",
    re.VERBOSE | re.DOTALL,
)
COMPARISONS = {"<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}
UNITS = {"km": "InKilometers", "miles": "InMiles", "radians": "InRadians"}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
Token = tuple[str, str, int]  # kind, text, position


class Statement:
    """A parsed select: `class_name`, `where` as JSON, and the options of a find, texts and numbers."""

    def __init__(self, class_name: str, where: Document, options: Document, is_counted: bool, is_listed: bool) -> None:
        self.class_name = class_name
        self.where = where
        self.options = options
        self.is_counted = is_counted  # count(...) was asked for
        self.is_listed = is_listed  # rows were, too


class Write:
    """A parsed insert, update or delete of one object, as a call of the API: `method`, `class_name`, `object_id`, `fields`."""

    def __init__(self, method: str, class_name: str, object_id: str, fields: Document) -> None:
        self.method, self.class_name, self.object_id, self.fields = method, class_name, object_id, fields


def parse(text: str, pvalues: list[Json]) -> "Statement | Write":
    """The Statement of a select, or the Write of another statement; `pvalues` is a list, one value per `?`. Raises 300."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise syntax_error(f"the statement is longer than {MAX_BYTES} bytes")
    if "\0" in text:  # PostgreSQL keeps none, and SQLite's patterns end there
        raise syntax_error("the statement holds a NUL character")
    parser = Parser(text, pvalues)
    statement: Statement | Write = parser.write() if parser.is_word("insert", "update", "delete") else parser.select(0)
    if parser.peek() is not None:
        raise parser.unexpected()
    return statement


def parse_pvalues(text: Json) -> list[Json]:
    """The values of a request: a JSON array, or a JSON text that holds one, as the Python SDK sends it. Raises 300."""
    if text is None:
        return []
    try:
        found = messages.parse_json(text) if isinstance(text, str) else text
        if isinstance(found, str):
            found = messages.parse_json(found)
    except messages.HTTPError:
        raise syntax_error("pvalues is not JSON") from None
    if not isinstance(found, list):
        raise syntax_error("pvalues is not an array")
    return found


def syntax_error(detail: str) -> StorageError:
    return StorageError(Code.CQL_SYNTAX, detail=detail)


class Parser:
    """Recursive descent over a list of tokens."""

    def __init__(self, text: str, pvalues: list[Json]) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.index = 0
        self.pvalues = iter(pvalues)
        position, end = 0, len(text.rstrip())
        while position < end:
            found = TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise self.at(position)
            kind = found.lastgroup
            self.tokens.append((kind, found.group(kind), found.start(kind)))
            position = found.end()

    # Tokens -----------------------------------------------------------------------------------------------------

    def at(self, position: int) -> StorageError:
        line = self.text.count("\n", 0, position) + 1
        column = position - self.text.rfind("\n", 0, position)
        return syntax_error(f"Parse error at line {line}, column {column}.")

    def unexpected(self) -> StorageError:
        token = self.peek()
        return self.at(token[2] if token else len(self.text))

    def peek(self, ahead: int = 0) -> Token | None:
        index = self.index + ahead
        return self.tokens[index] if index < len(self.tokens) else None

    def is_word(self, *words: str, ahead: int = 0) -> bool:
        token = self.peek(ahead)
        return token is not None and token[0] == "name" and token[1].lower() in words

    def is_sign(self, *signs: str, ahead: int = 0) -> bool:
        token = self.peek(ahead)
        return token is not None and token[0] == "sign" and token[1] in signs

    def take(self) -> Token:
        token = self.peek()
        if token is None:
            raise self.unexpected()
        self.index += 1
        return token

    def accept_word(self, *words: str) -> str | None:
        if self.is_word(*words):
            return self.take()[1].lower()
        return None

    def accept_sign(self, *signs: str) -> str | None:
        if self.is_sign(*signs):
            return self.take()[1]
        return None

    def need_word(self, *words: str) -> str:
        word = self.accept_word(*words)
        if word is None:
            raise self.unexpected()
        return word

    def need_sign(self, *signs: str) -> str:
        sign = self.accept_sign(*signs)
        if sign is None:
            raise self.unexpected()
        return sign

    def name(self) -> str:
        token = self.peek()
        if token is None or token[0] != "name":
            raise self.unexpected()
        return self.take()[1]

    # Statement --------------------------------------------------------------------------------------------------

    def select(self, depth: int) -> Statement:
        if depth > MAX_DEPTH:
            raise syntax_error("sub-queries are nested too deeply")
        self.need_word("select")
        keys, includes, is_counted = self.columns()
        self.need_word("from")
        class_name = self.name()
        where = self.disjunction(depth) if self.accept_word("where") else {}
        options: Document = {}
        if self.accept_word("limit"):
            options["limit"] = self.limit_number()
            if self.accept_sign(","):
                options["skip"], options["limit"] = options["limit"], self.limit_number()
        if self.accept_word("order"):
            self.need_word("by")
            options["order"] = self.order()
        if "*" not in keys and keys:
            options["keys"] = ",".join([*keys, *includes])
        if includes:
            options["include"] = ",".join(includes)
        return Statement(class_name, where, options, is_counted, bool(keys or includes))

    def write(self) -> Write:
        """`insert into C(a, b) values(?, ?)`, `update C set a = ?, b = ? where objectId = ?`, `delete from C where objectId = ?`."""
        kind = self.need_word("insert", "update", "delete")
        if kind == "insert":
            self.need_word("into")
            class_name = self.name()
            keys = self.separated(self.name)
            self.need_word("values")
            values = self.separated(lambda: self.value(0))
            if len(keys) != len(values):
                raise syntax_error("there are not as many values as columns")
            return Write("POST", class_name, "", dict(zip(keys, values, strict=True)))
        fields: Document = {}
        if kind == "delete":
            self.need_word("from")
        class_name = self.name()
        if kind == "update":
            self.need_word("set")
            while not fields or self.accept_sign(","):
                key = self.name()
                self.need_sign("=")
                fields[key] = self.value(0)
        self.need_word("where")
        key = self.name()
        self.need_sign("=")
        object_id = self.value(0)
        if key != "objectId" or not isinstance(object_id, str):
            raise syntax_error("an object is changed and deleted by its objectId alone")
        return Write("PUT" if kind == "update" else "DELETE", class_name, object_id, fields)

    def separated(self, one: Callable[[], Json]) -> list[Json]:
        """`(a, b, ...)`, at least one."""
        self.need_sign("(")
        found = [one()]
        while self.accept_sign(","):
            found.append(one())
        self.need_sign(")")
        return found

    def columns(self) -> tuple[list[str], list[str], bool]:
        """What stands before `from`: (keys, keys to include, whether rows are counted)."""
        keys: list[str] = []
        includes: list[str] = []
        is_counted = False
        while True:
            if self.accept_sign("*"):
                keys.append("*")
            elif self.is_word("count") and self.is_sign("(", ahead=1):
                self.take()
                self.take()
                if not self.accept_sign("*"):
                    self.name()
                self.need_sign(")")
                is_counted = True
            elif self.is_word("include") and (following := self.peek(1)) and following[0] == "name":
                self.take()
                includes.append(self.name())
            else:
                keys.append(self.name())
            if not self.accept_sign(","):
                return keys, includes, is_counted

    def limit_number(self) -> int:
        value = self.value(0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.unexpected()
        return value

    def order(self) -> str:
        parts: list[tuple[str | None, str]] = []
        while True:
            sign = self.accept_sign("+", "-")
            parts.append((sign, self.name()))
            if not self.accept_sign(","):
                break
        direction = self.accept_word("asc", "desc")
        default = "-" if direction == "desc" else "+"
        return ",".join((sign or default) + name for sign, name in parts)

    # Conditions -------------------------------------------------------------------------------------------------

    def disjunction(self, depth: int) -> Document:
        if depth > MAX_DEPTH:
            raise syntax_error("conditions are nested too deeply")
        nodes = [self.conjunction(depth)]
        while self.accept_word("or"):
            nodes.append(self.conjunction(depth))
        return nodes[0] if len(nodes) == 1 else {"$or": nodes}

    def conjunction(self, depth: int) -> Document:
        nodes = [self.condition(depth)]
        while self.accept_word("and"):
            nodes.append(self.condition(depth))
        return nodes[0] if len(nodes) == 1 else {"$and": nodes}

    def condition(self, depth: int) -> Document:
        if self.accept_sign("("):
            node = self.disjunction(depth + 1)
            self.need_sign(")")
            return node
        if self.is_word("related"):
            return self.related(depth)
        if self.is_word("size") and self.is_sign("(", ahead=1):
            return self.size(depth)
        key = self.name()
        sign = self.accept_sign("=", "!=", "<>", "<", "<=", ">", ">=")
        if sign is not None:
            return {key: self.comparison(sign, depth)}
        word = self.need_word("like", "not", "regexp", "in", "is", "all", "near", "within")
        if word == "not":
            word = "not " + self.need_word("like", "regexp", "in")
        return {key: getattr(self, word.replace(" ", "_") + "_form")(depth)}

    def comparison(self, sign: str, depth: int) -> Json:
        if sign in ("=", "!=", "<>") and self.is_sign("(") and self.is_word("select", ahead=1):
            return self.sub_query(depth, negated=sign != "=")
        value = self.value(depth)
        if sign == "=":
            return value if not isinstance(value, dict) or "__type" in value else {"$eq": value}
        if sign in ("!=", "<>"):
            return {"$ne": value}
        return {COMPARISONS[sign]: value}

    def sub_query(self, depth: int, negated: bool) -> Document:
        """`(select KEY from C ...)`: a key compares values, `*` or objectId compares pointers."""
        self.need_sign("(")
        statement = self.select(depth + 1)
        self.need_sign(")")
        query = {"className": statement.class_name, "where": statement.where}
        query |= {name: value for name, value in statement.options.items() if name in ("limit", "skip", "order")}
        keys = statement.options.get("keys")
        if keys is None or keys == "objectId":
            return {"$notInQuery" if negated else "$inQuery": query}
        return {"$dontSelect" if negated else "$select": {"key": keys.split(",")[0], "query": query}}

    def like_form(self, depth: int) -> Document:
        return {"$regex": _like_pattern(self.text_value(depth)), "$options": "s"}

    def not_like_form(self, depth: int) -> Document:
        return {"$regex": f"^(?!{_like_pattern(self.text_value(depth))})", "$options": "s"}

    def regexp_form(self, depth: int) -> Document:
        return {"$regex": self.text_value(depth)}

    def not_regexp_form(self, depth: int) -> Document:
        return {"$regex": f"\\A(?!.*(?:{self.text_value(depth)}))", "$options": "s"}

    def in_form(self, depth: int) -> Document:
        return self.membership(depth, "$in", negated=False)

    def not_in_form(self, depth: int) -> Document:
        return self.membership(depth, "$nin", negated=True)

    def membership(self, depth: int, operator: str, negated: bool) -> Document:
        if self.is_sign("(") and self.is_word("select", ahead=1):
            return self.sub_query(depth, negated)
        return {operator: self.listed(depth)}

    def is_form(self, depth: int) -> Document:
        negated = bool(self.accept_word("not"))
        if self.accept_word("null"):
            return {"$ne": None} if negated else {"$in": [None]}
        self.need_word("exists")
        return {"$exists": not negated}

    def all_form(self, depth: int) -> Document:
        return {"$all": self.listed(depth)}

    def near_form(self, depth: int) -> Document:
        found = {"$nearSphere": self.point(depth)}
        while True:
            end = self.accept_word("min", "max")
            if end is None:
                return found
            distance = self.value(depth)
            unit = UNITS[self.accept_word(*UNITS) or "radians"]
            found[f"${end}Distance{unit}"] = distance

    def within_form(self, depth: int) -> Document:
        south_west = self.point(depth)
        self.need_word("and")
        return {"$within": {"$box": [south_west, self.point(depth)]}}

    def related(self, depth: int) -> Document:
        self.take()
        key = self.name()
        self.need_word("to")
        return {"$relatedTo": {"object": self.value(depth), "key": key}}

    def size(self, depth: int) -> Document:
        self.take()
        self.take()
        key = self.name()
        self.need_sign(")")
        self.need_sign("=")
        return {key: {"$size": self.value(depth)}}

    # Values -----------------------------------------------------------------------------------------------------

    def text_value(self, depth: int) -> str:
        value = self.value(depth)
        if not isinstance(value, str):
            raise self.unexpected()
        return value

    def listed(self, depth: int) -> list[Json]:
        """`(a, b)`, `[a, b]`, or a `?` that stands for an array."""
        if self.is_sign("?"):
            value = self.value(depth)
            return value if isinstance(value, list) else [value]
        close = ")" if self.need_sign("(", "[") == "(" else "]"
        return self.members(close, depth)

    def members(self, close: str, depth: int) -> list[Json]:
        found: list[Json] = []
        if self.accept_sign(close):
            return found
        while True:
            found.append(self.value(depth))
            if self.accept_sign(close):
                return found
            self.need_sign(",")

    def point(self, depth: int) -> Json:
        value = self.value(depth)
        if isinstance(value, list) and len(value) == 2:
            return {"__type": "GeoPoint", "longitude": value[0], "latitude": value[1]}
        return value

    def value(self, depth: int) -> Json:
        if depth > MAX_DEPTH:
            raise syntax_error("values are nested too deeply")
        if self.accept_sign("?"):
            try:
                return next(self.pvalues)
            except StopIteration:
                raise syntax_error("there are fewer pvalues than question marks") from None
        if self.accept_sign("["):
            return self.members("]", depth + 1)
        if self.accept_sign("{"):
            return self.json_object(depth + 1)
        kind, text, position = self.take()
        if kind == "text":
            return _unquoted(text)
        if kind == "number":
            number: float = json.loads(text)
            if isinstance(number, float) and not math.isfinite(number):
                raise self.at(position)
            return number
        if kind == "name":
            return self.named_value(text.lower(), position, depth)
        raise self.at(position)

    def named_value(self, name: str, position: int, depth: int) -> Json:
        constants = {"true": True, "false": False, "null": None}
        if name in constants:
            return constants[name]
        if name not in _FORMS or not self.accept_sign("("):
            raise self.at(position)
        arguments = self.members(")", depth + 1)
        count, build = _FORMS[name]
        if len(arguments) != count:
            raise self.at(position)
        return build(*arguments)

    def json_object(self, depth: int) -> Document:
        found: Document = {}
        if self.accept_sign("}"):
            return found
        while True:
            kind, text, position = self.take()
            if kind not in ("text", "name"):
                raise self.at(position)
            key = _unquoted(text) if kind == "text" else text
            self.need_sign(":")
            found[key] = self.value(depth)
            if self.accept_sign("}"):
                return found
            self.need_sign(",")


_FORMS: dict[str, tuple[int, Callable[..., Document]]] = {  # name -> (number of arguments, what it makes of them)
    "base64": (1, lambda text: {"__type": "Bytes", "base64": text}),
    "current_timestamp": (0, lambda: values.date(now())),
    "date": (1, lambda iso: {"__type": "Date", "iso": iso}),
    "file": (1, lambda file_id: {"__type": "File", "id": file_id}),
    "geopoint": (2, lambda lng, lat: {"__type": "GeoPoint", "longitude": lng, "latitude": lat}),
    "pointer": (2, lambda name, object_id: {"__type": "Pointer", "className": name, "objectId": object_id}),
}


def _unquoted(text: str) -> str:
    body = text[1:-1]
    if text[0] == "'":
        body = body.replace("''", "'")
    return re.sub(r"\\(.)", lambda found: ESCAPES.get(found.group(1), found.group(1)), body, flags=re.DOTALL)


def _like_pattern(text: str) -> str:
    """`a%` as a regular expression for the whole value."""
    return "^" + ".*".join(regex.escape(part, special_only=False) for part in text.split("%")) + "$"
