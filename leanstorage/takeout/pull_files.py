"""The bytes of a live app's files: every `_File` row with a key, fetched, checked for size and checksum, then kept.

A file is there completely or not at all, so what lies in the folder is itself the record of how far a pull came.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from leanstorage.store import Document, StoreUnavailable
from leanstorage.takeout.budget import OutOfCalls
from leanstorage.takeout.pull import Pull
from leanstorage.takeout.remote import RemoteError


PAGE_ROWS = 200
TRIES = 3  # of a file that arrives broken


def run(pull: Pull, blobs: Any) -> None:
    """Fetch what is not there yet; a file that cannot be had or kept is refused with its reason.

    `blobs` are those of blobs.py or s3_blobs.py.
    """
    try:
        pull.report.begin("files", pull.remote.count("/classes/_File"))
        rows = _rows(pull)
        with ThreadPoolExecutor(pull.remote.parallel) as pool:
            while part := list(islice(rows, PAGE_ROWS)):
                for row, found in zip(part, pool.map(lambda row: _one(pull, blobs, row), part), strict=True):
                    _count(pull, row, *found)
    except OutOfCalls:
        raise
    except RemoteError as error:
        pull.report.trouble(f"files: {error}")
    pull.report.end("files")


def _rows(pull: Pull) -> Iterator[Document]:
    """Every `_File` object with its URL, which the scan API leaves out."""
    last = None
    while True:
        where: Document = {} if last is None else {"objectId": {"$gt": last}}
        rows = pull.remote.rows("/classes/_File", where=where, order="objectId", limit=PAGE_ROWS)
        yield from rows
        if len(rows) < PAGE_ROWS:
            return
        last = rows[-1]["objectId"]


def _one(pull: Pull, blobs: Any, row: Document) -> tuple[str, int, str]:
    """("fetched" | "here" | "elsewhere" | "refused", bytes that are here, why it was refused) of one file."""
    key, url = row.get("key"), row.get("url")
    if not isinstance(key, str) or not key:
        return "elsewhere", 0, ""
    meta = row.get("metaData")
    meta = meta if isinstance(meta, dict) else {}
    size, checksum = meta.get("size"), meta.get("_checksum")
    size = size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None
    checksum = checksum.lower() if isinstance(checksum, str) and len(checksum) == 32 else None
    try:
        stored = blobs.size(key)
    except StoreUnavailable as error:
        return "refused", 0, f"it cannot be looked for: {error}"
    if stored is not None and size in (None, stored):
        return "here", stored, ""
    if not isinstance(url, str) or not url:
        return "refused", 0, "it has no URL"
    attempt = 0
    while True:
        try:
            return "fetched", _fetch(pull, blobs, key, url, size, checksum), ""
        except RemoteError as error:
            if error.code is not None or attempt == TRIES - 1:
                return "refused", 0, str(error)
            pull.remote.wait(attempt)
        except (StoreUnavailable, OSError) as error:  # the disk is full; a smaller file may still fit
            return "refused", 0, f"it cannot be stored: {error}"
        attempt += 1


def _fetch(pull: Pull, blobs: Any, key: str, url: str, size: int | None, checksum: str | None) -> int:
    length: int
    staged, length, digest = blobs.write(_limited(pull.remote.download(url), size))
    try:
        if size is not None and length != size:
            raise RemoteError(f"it has {length} bytes and should have {size}")
        if checksum is not None and digest != checksum:
            raise RemoteError("its bytes do not match its checksum")
        blobs.keep(staged, key)
        return length
    finally:
        blobs.drop(staged)


def _limited(chunks: Iterable[bytes], size: int | None) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        if size is not None and done > size:
            raise RemoteError(f"it has more than the {size} bytes that it should have")
        yield chunk


def _count(pull: Pull, row: Document, outcome: str, size: int, reason: str) -> None:
    if outcome == "refused":
        text = f"{row.get('objectId')} {row.get('key')}".encode("utf-8", "replace")
        pull.report.refuse("files", str(row.get("objectId")), 0, reason, text)
    elif outcome == "elsewhere":
        pull.report.note("files", "files lie elsewhere, at URLs of their own, and stay there")
    else:
        pull.report.note("files", "bytes of files are here", size)
    is_fetched = outcome == "fetched"
    pull.report.advance("files", 1, is_fetched, outcome in ("here", "elsewhere"), 1)
