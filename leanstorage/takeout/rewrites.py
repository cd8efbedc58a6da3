"""URLs of the old file domain within texts, as those of the new one: on import, or later with `rewrite`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

NOTE = "rows had URLs that were rewritten"
_URL = re.compile(r"https?://([A-Za-z0-9.:-]+(?:/[^\s\"'\\<>=?#]*)?)")


@dataclass(frozen=True)
class Rewrites:
    """What stands for what: (pattern of the JSON text of an object, JSON text in its place)."""

    pairs: tuple[tuple[re.Pattern[str], str], ...] = ()

    def apply(self, text: str) -> tuple[str, int]:
        """The JSON text of an object with its URLs rewritten, and how many there were."""
        total = 0
        for pattern, new in self.pairs:
            text, number = pattern.subn(new.replace("\\", r"\\"), text)
            total += number
        return text, total


def parse(texts: Sequence[str]) -> Rewrites:
    """The Rewrites of `OLD=NEW` texts; http and https of OLD are the same. Raises ValueError."""
    pairs = []
    for text in texts:
        old, _, new = text.partition("=")
        found = _URL.fullmatch(old)
        if not found or not _URL.fullmatch(new):
            raise ValueError("a rewrite is OLD=NEW, two URLs such as https://old.lcfile.com=https://files.example.com")
        rest = re.escape(found.group(1).rstrip("/"))
        # What goes on as another host or port is another URL.
        pattern = re.compile(rf"https?://{rest}(?![A-Za-z0-9:_-]|\.[A-Za-z0-9])", re.IGNORECASE)
        pairs.append((pattern, json.dumps(new.rstrip("/"))[1:-1]))
    return Rewrites(tuple(pairs))
