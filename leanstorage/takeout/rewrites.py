"""URLs of the old file domain within texts, as those of the new one: on import, or later with `rewrite`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

NOTE = "rows had URLs that were rewritten"
_URL = re.compile(r"https?://([A-Za-z0-9.:-]+(?:/[^\s\"'\\<>=?#]*)?)")


@dataclass(frozen=True)
class Rewrites:
    """What stands for what: (pattern of the JSON text of an object, JSON text in its place), the longest first."""

    pairs: tuple[tuple[re.Pattern[str], str], ...] = ()

    def apply(self, text: str) -> tuple[str, int]:
        """The JSON text of an object with its URLs rewritten, and how many there were; none is rewritten twice."""
        if not any(pattern.search(text) for pattern, _ in self.pairs):
            return text, 0
        either = re.compile("|".join(f"({pattern.pattern})" for pattern, _ in self.pairs), re.IGNORECASE)
        return either.subn(lambda found: self.pairs[(found.lastindex or 1) - 1][1], text)


def parse(texts: Sequence[str]) -> Rewrites:
    """The Rewrites of `OLD=NEW` texts; http, https and neither before the `//` of OLD are the same. Raises ValueError."""
    pairs = {}
    for text in texts:
        old, _, new = text.partition("=")
        found = _URL.fullmatch(old)
        if not found or not _URL.fullmatch(new):
            raise ValueError("a rewrite is OLD=NEW, two URLs such as https://old.lcfile.com=https://files.example.com")
        rest = found.group(1).rstrip("/").lower()
        if rest in pairs:
            raise ValueError(f"{old} is to be rewritten twice")
        pairs[rest] = (_pattern(rest), json.dumps(new.rstrip("/"))[1:-1])
    result = Rewrites(tuple(pairs[rest] for rest in sorted(pairs, key=len, reverse=True)))
    for _, new in result.pairs:
        if result.apply(new)[0] != new:
            raise ValueError(f"{new} would be rewritten, too, and again by each further run")
    return result


def _pattern(rest: str) -> re.Pattern[str]:
    """That of a URL, which may name the port that it has anyway; what goes on as another host or port is another URL."""
    host, slash, path = rest.partition("/")
    port = "" if ":" in host else "(?::(?:80|443)(?![0-9]))?"
    end = r"(?![A-Za-z0-9:_-]|\.[A-Za-z0-9])"
    # The JSON text has a line's end as a backslash and a letter.
    begin = r"(?:https?:|(?<![:/\w])|(?<=[^\\]\\[nrt]))"
    return re.compile(rf"{begin}//{re.escape(host)}{port}{re.escape(slash + path)}{end}", re.IGNORECASE)
