r"""Clients' regular expressions: made ready for the `regex` package, and refused where compiling them would cost much.

We use the package for its timeout, which stops a match. Nothing stops compiling, which unrolls counted repeats:
`((a{99}){99}){99}` becomes a million parts. So a pattern is measured before the package sees it. Recursion, fuzzy
matching and the package's own flags, which PCRE and JavaScript do not share, are refused: they make short patterns
expensive. If this tokenizer and `regex` could read a pattern differently, it could slip past
the limit: it is refused, or its larger reading counts.
"""
import re

import regex

MAX_PATTERN = 4096  # characters
MAX_SIZE = 5000  # parts, once repeats are unrolled; a part takes up to a kilobyte
MAX_KEPT = 40 * MAX_SIZE  # parts of compiled patterns that the package keeps, which counts patterns only
WEIGHTS = {r"\R": 10, r"\X": 2}  # of what is more than one part
FLAGS = {"i": regex.IGNORECASE, "m": regex.MULTILINE, "x": regex.VERBOSE, "s": regex.DOTALL}

_POSIX = r"\[:\^?[A-Za-z]+:\]|\[(?!:[^\]]++(?<=:)\])"  # [:alpha:] inside a class, or a bracket that is just one
_SKIPPED = r"\s|\#[^\n]*(?:\n|\Z)"  # in verbose patterns, even inside of a count
_TOKEN = re.compile(
    rf"""
      (?P<comment>\(\?\#(?:\\.|[^)\\])*\))
    | (?P<flags>\(\?(?P<names>[imsx]*(?:-[imsx]+)?)\))
    | (?P<open>\((?:\?(?:[:=!><]|P[<=]|(?P<own>[imsx]*(?:-[imsx]+)?):)|(?!\?)))
    | (?P<close>\))
    | (?P<count>(?:[*+?]|\{{(?P<bounds>(?:[0-9,]|{_SKIPPED})*)\}})[?+]?)
    | (?P<fuzzy>\{{(?:[0-9<=]|{_SKIPPED})*[dise](?:{_SKIPPED})*[<,}}:+])
    | (?P<class>\[\^?(?:{_POSIX}|\\.|[^\[\\])(?:{_POSIX}|\\.|[^\]\[\\])*+\])
    | (?P<list>\\L)
    | (?P<part>\\[pPN]\{{\^?[A-Za-z0-9&_.\ -]+(?:[:=][A-Za-z0-9][A-Za-z0-9&_./\ -]*)?\}}|\\.|[^\\[(])
    """,
    re.VERBOSE | re.DOTALL,
)
_SPACES = re.compile(rf"(?:{_SKIPPED})+")


class BadPattern(Exception):
    """A malformed or refused pattern; the text says why."""


class _Kept:
    """Parts of the patterns that the package has compiled and may keep."""

    size = 0


def prepared(text: str, options: str) -> tuple[str, int, int]:
    """(pattern, flags, its parts) for the `regex` package, which compiles them; raise BadPattern."""
    if len(text) > MAX_PATTERN:
        raise BadPattern(f"it is longer than {MAX_PATTERN} characters")
    if not set(options) <= set(FLAGS):
        raise BadPattern("$options takes the letters i, m, x and s")
    pattern = unquoted(text)
    size = measured(pattern, "x" in options)
    flags = int(regex.VERSION0)
    for letter in options:
        flags |= FLAGS[letter]
    _Kept.size += size
    if _Kept.size > MAX_KEPT:
        regex.purge()
        _Kept.size = size
    try:
        regex.compile(pattern, flags)
    except Exception:  # of many kinds: a named sequence of characters, for one, is a TypeError there
        raise BadPattern("it is not a regular expression") from None
    return pattern, flags, size


_LITERAL = re.compile(r"\\([^\w\s])|([^\\^$.|?*+()\[\]{}\s])|([ ])", re.ASCII)
_REPEATED = ("*", "?", "{", "+")


def literal_prefix(pattern: str, flags: int) -> tuple[str, bool]:
    """(what every match begins with, whether nothing else is asked) of a prepared pattern; ("", False) for most.

    It lets a database search a range instead of everything.
    """
    if not pattern.startswith("^") or flags & ~int(regex.VERSION0 | regex.DOTALL) or "|" in pattern or "(?" in pattern:
        return "", False
    found, position = [], 1
    while literal := _LITERAL.match(pattern, position):
        found.append(literal[1] or literal[2] or literal[3])
        position = literal.end()
    rest = pattern[position:]
    if rest.startswith(_REPEATED):  # the last may be missing, or come again
        found = found[:-1]
        return "".join(found), False
    is_all = rest in ("", ".*") or (rest == ".*$" and bool(flags & regex.DOTALL))
    return "".join(found), is_all and bool(found)


def measured(pattern: str, is_verbose: bool) -> int:
    """How many parts a pattern has once its repeats are unrolled; raise BadPattern above MAX_SIZE."""
    outer: list[tuple[str, int, bool]] = []  # of each open group: its beginning, the parts before it, is_verbose there
    size = last = position = 0  # `last` is what a count would repeat
    while position < len(pattern):
        spaces = _SPACES.match(pattern, position) if is_verbose else None
        if spaces:
            position = spaces.end()
            continue
        found = _TOKEN.match(pattern, position)
        if found is None:
            raise BadPattern("it is not a regular expression, or has groups, classes or flags that are not supported")
        position = found.end()
        kind = found.lastgroup
        if kind in ("fuzzy", "list"):
            raise BadPattern("fuzzy matching and named lists are not supported")
        if kind == "flags":
            is_verbose = _verbose(found["names"], is_verbose)
        elif kind == "open":
            outer.append((found[0], size, is_verbose))
            size = last = 0
            is_verbose = _verbose(found["own"] or "", is_verbose)
        elif kind == "close":
            if not outer:
                raise BadPattern("it closes more groups than it opens")
            opened, before, is_verbose = outer.pop()
            if not size and opened not in ("(?:", "(?!"):  # the package takes quadratic time over repeats of these
                raise BadPattern("it has an empty group")
            last = size + 1
            size = before + last
        elif kind == "count":
            # As many copies as it needs at least, and one that is repeated. What is no count after all is a part.
            copies = _least(found) + 1
            size += last * (copies - 1) + len(found[0])
            last = max(1, last * copies)
        elif kind != "comment":
            last = 1 + len(found[0]) // 2 if kind == "class" else WEIGHTS.get(found[0], 1)
            size += last
        if size > MAX_SIZE:
            raise BadPattern(f"its repeats make more than {MAX_SIZE} parts of it")
    return size


def _least(count: re.Match[str]) -> int:
    if count["bounds"] is None:
        return 1 if count[0][0] == "+" else 0
    return int(_SPACES.sub("", count["bounds"]).split(",")[0] or 0)


def _verbose(names: str, is_verbose: bool) -> bool:
    on, _, off = names.partition("-")
    return "x" in on or (is_verbose and "x" not in off)


def unquoted(pattern: str) -> str:
    r"""A pattern without PCRE's `\Q...\E`, which the JavaScript SDK emits; a stray `\E` means nothing there."""
    result, is_quoted, position = [], False, 0
    while position < len(pattern):
        two = pattern[position : position + 2]
        if is_quoted:
            if two == "\\E":
                is_quoted, position = False, position + 2
                continue
            result.append(regex.escape(pattern[position], special_only=False))
            position += 1
        elif two == "\\Q":
            is_quoted, position = True, position + 2
        elif two == "\\E":
            position += 2
        elif two.startswith("\\"):
            result.append(two)
            position += 2
        else:
            result.append(two[0])
            position += 1
    return "".join(result)
