"""A CSV as LeanCloud's import took it: a line of types, a line of names, then the rows. Protocol section 9.1."""

import codecs
import csv
import json
import math
import re
from collections.abc import Iterator
from itertools import chain

from leanstorage.store import Document, Json
from leanstorage.takeout.sources import CHUNK_BYTES, SourceError, Stream

MAX_CELL = 1 << 24  # characters
Piece = tuple[int, bytes, str | None]  # as in `formats`
_TYPE = re.compile(
    r"(?:string|text|number|bool|boolean|date|geopoint|array|object|acl|file|any|relation|pointer:\s*\w+)", re.IGNORECASE
)
_JSON_KINDS: dict[str, type] = {"array": list, "object": dict, "acl": dict}
WANTED = "a CSV needs a line of types (string,number,date,pointer:Post) and a line of names before its rows"


def rows(stream: Stream) -> Iterator[Piece]:
    """Yield every row as the bytes of a JSON object; raise SourceError where the first two lines are none."""
    csv.field_size_limit(MAX_CELL)
    lines = _lines(stream)
    first = next(lines, "")
    separator = first[4:].strip("\r\n")
    if re.match("sep=.\r?$", first):  # what spreadsheets write, and read themselves
        first = next(lines, "")
    else:
        separator = next((one for one in ",;\t" if one in first), ",")
    # Strict: a quote that is never closed would take the rows behind it into one cell.
    reader = csv.reader(chain([first], lines), delimiter=separator, strict=True)
    try:
        types = [cell.strip() for cell in next(reader, [])]
        names = [cell.strip() for cell in next(reader, [])]
        if not types or len(types) != len(names) or not all(map(_TYPE.fullmatch, types)):
            raise SourceError(WANTED)
        if not all(names) or len(set(names)) != len(names):
            raise SourceError("the CSV names a column twice, or has one without a name")
        for cells in reader:
            if any(cells):
                yield _row(reader.line_num, types, names, cells)
    except csv.Error as error:
        raise SourceError(f"the CSV cannot be read on: {error}") from None


def _row(number: int, types: list[str], names: list[str], cells: list[str]) -> Piece:
    if len(cells) > len(names):
        return number, ",".join(cells).encode("utf-8", "surrogatepass"), "more cells than columns"
    row: Document = {}
    problem = None
    for kind, name, cell in zip(types, names, cells, strict=False):
        if cell != "":
            try:
                row[name] = _value(kind.lower(), kind, name, cell)
            except (ValueError, KeyError, RecursionError):
                row[name] = cell  # to be mended in the file of refused rows
                problem = problem or f"a cell that is no {kind}"
    return number, json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"), problem


def _value(kind: str, written: str, name: str, cell: str) -> Json:
    if name in ("objectId", "createdAt", "updatedAt") or kind in ("string", "text"):
        return cell
    if kind == "number":
        if "_" in cell:  # which Python reads over
            raise ValueError
        number = int(cell) if re.fullmatch(r"[+-]?[0-9]{1,300}", cell.strip()) else float(cell)
        if not math.isfinite(number):
            raise ValueError
        return number
    if kind in ("bool", "boolean"):
        return {"true": True, "1": True, "false": False, "0": False}[cell.strip().lower()]
    if kind == "date":
        return {"__type": "Date", "iso": cell.strip()}
    if kind == "geopoint":
        longitude, latitude = cell.replace(",", " ").split()
        return {"__type": "GeoPoint", "longitude": float(longitude), "latitude": float(latitude)}
    if kind.startswith("pointer:"):
        return {"__type": "Pointer", "className": written.split(":")[1].strip(), "objectId": cell.strip()}
    if kind == "file":
        return {"__type": "File", "id": cell.strip()}
    value = json.loads(cell)
    if not isinstance(value, _JSON_KINDS.get(kind, object)):
        raise ValueError
    return value


def _lines(stream: Stream) -> Iterator[str]:
    """The lines as texts; a cell may go on in the next one."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    rest = ""
    while True:
        chunk = stream.read(CHUNK_BYTES)
        *whole, rest = (rest + decoder.decode(chunk, final=not chunk)).split("\n")
        for line in whole:
            yield line + "\n"
        if not chunk:
            if rest:
                yield rest
            return
        if len(rest) > MAX_CELL:
            raise SourceError("a line of the CSV is too long")
