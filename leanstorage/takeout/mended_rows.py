"""A file of refused rows, as `report` writes it, once its rows were mended: raw rows by class again."""

import base64
import json

from leanstorage.store import Document
from leanstorage.takeout.raw_rows import MAX_ROW_BYTES, Piece, lines
from leanstorage.takeout.sources import SourceError, Stream

KEYS = frozenset(["class", "source", "line", "reason"])
MAX_BYTES = 256 << 20
FILES = "files"  # what is listed under this name are no rows


def is_one(line: bytes) -> bool:
    """Whether a file begins with a refused row."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return _is_refused(value)


def by_class(stream: Stream) -> dict[str, list[Piece]]:
    """{class, or `Class.key` of a relation: its rows}; raises SourceError for a line that is none, and a file too large."""
    found: dict[str, list[Piece]] = {}
    size = 0
    for number, line, problem in lines(stream):
        size += len(line)
        if size > MAX_BYTES:
            raise SourceError(f"more than {MAX_BYTES} bytes of refused rows: import the export itself again")
        try:
            value = json.loads(line)
            if problem or not _is_refused(value):
                raise ValueError
            row = value["row"].encode("utf-8") if "row" in value else base64.b64decode(value["row_base64"])
        except (ValueError, RecursionError, AttributeError, TypeError):
            raise SourceError(f"line {number} is no refused row with its class and reason") from None
        if value["class"] != FILES:
            found.setdefault(value["class"], []).append((number, row[:MAX_ROW_BYTES], None))
    return found


def _is_refused(value: Document) -> bool:
    is_known = isinstance(value, dict) and KEYS <= value.keys() <= KEYS | {"row", "row_base64"}
    return is_known and len(value) == len(KEYS) + 1 and isinstance(value["class"], str)
