"""Fragments of SQL, put together by `build`: templates are ours, and everything a client sent is a parameter.

The few names in the text are checked when they are parsed.
"""
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NotRequired, TypedDict

Fragment = tuple[str, list[Any]]  # SQL and its parameters
TRUE: Fragment = ("TRUE", [])
FALSE: Fragment = ("FALSE", [])
INDEXED_TYPES = frozenset(["String", "Number", "Boolean", "Pointer", "Date"])
ALONE_INDEXED = frozenset(["GeoPoint", "Array"])  # indexed alone, without other keys
# Types whose column holds one scalar and nothing else, so that a condition needs no look at the value's kind.
SIMPLE_TYPES = frozenset(["String", "Number", "Boolean", "Pointer", "File", "Date", "Bytes", "GeoPoint"])
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


def between(text: Fragment, prefix: str) -> Fragment:
    """Whether a text begins with another one, as the range that an index has."""
    lower = build("{} >= {}", text, bind(prefix))
    end = behind(prefix)
    return lower if end is None else build("({} AND {} < {})", lower, text, bind(end))


def behind(prefix: str) -> str | None:
    """The first text, by code points, behind all that begin with a prefix; None if there is none."""
    kept = prefix.rstrip(chr(0x10FFFF))
    if not kept:
        return None
    last = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if last == 0xD800 else last)  # halves of characters are in no text


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
