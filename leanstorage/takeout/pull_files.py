"""The bytes of a live app's files: every `_File` row with a key, fetched, checked for size and checksum, then kept.

A file is there completely or not at all, so what lies in the folder is itself the record of how far a pull came. Bytes that
differ from the size or checksum that a client once claimed are kept if they arrive so twice: the claim may be wrong.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from leanstorage.store import Document, Store, StoreUnavailable
from leanstorage.takeout import load
from leanstorage.takeout.budget import OutOfCalls
from leanstorage.takeout.pull import Pull
from leanstorage.takeout.remote import NO_PROGRESS, RemoteError, Unreachable


PAGE_ROWS = 200
TRIES = 3  # of a file that arrives broken
GONE = (404, 410)
DIFFERS = "file-differs"  # records of files whose bytes are not what is claimed, by key


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
        if rows and last is not None and rows[0]["objectId"] <= last:
            raise RemoteError(NO_PROGRESS)
        yield from rows
        if len(rows) < PAGE_ROWS:
            return
        last = rows[-1]["objectId"]


def _one(pull: Pull, blobs: Any, row: Document) -> tuple[str, int, str]:
    """("fetched" | "here" | "elsewhere" | "gone" | "refused", bytes that are here, why it was refused) of one file."""
    key, url = row.get("key"), row.get("url")
    if not isinstance(key, str) or not key:
        return "elsewhere", 0, ""
    try:
        stored = blobs.size(key)
    except StoreUnavailable as error:
        return "refused", 0, f"it cannot be looked for: {error}"
    claimed = claims(row)
    if stored is not None and (claimed[0] in (None, stored) or stored == differing(pull.store, key)):
        return "here", stored, ""
    if not isinstance(url, str) or not url:
        return "refused", 0, "it has no URL"
    broken: dict[tuple[int, str], int] = {}  # what came and was not what is claimed, and how often
    attempt = 0
    while True:
        try:
            return "fetched", _fetch(pull, blobs, key, url, claimed, broken), ""
        except Unreachable as error:
            return "refused", 0, str(error)
        except RemoteError as error:
            if error.code in GONE:
                return "gone", 0, f"{url} answers with status {error.code}"
            if error.code is not None or attempt == TRIES - 1:
                return "refused", 0, str(error)
            pull.remote.wait(attempt)
        except (StoreUnavailable, OSError) as error:  # the disk is full; a smaller file may still fit
            return "refused", 0, f"it cannot be stored: {error}"
        attempt += 1


def claims(row: Document) -> tuple[int | None, str | None]:
    """The size and the MD5 that a client once claimed of a file's bytes, None where it did not."""
    meta = row.get("metaData")
    meta = meta if isinstance(meta, dict) else {}
    size, checksum = meta.get("size"), meta.get("_checksum")
    size = size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None
    return size, checksum.lower() if isinstance(checksum, str) and len(checksum) == 32 else None


def differing(store: Store, key: str) -> int | None:
    """The size of bytes that were kept though they are not what is claimed, None where there are none."""
    found = store.read(lambda transaction: transaction.record(DIFFERS, key))
    return found["size"] if found else None


def keep_differing(store: Store, key: str, size: int) -> None:
    """Remember that a file's bytes have another size or checksum than is claimed, and are the ones to have."""
    load.stored(store, lambda transaction: transaction.put_record(DIFFERS, key, {"size": size}))


def _fetch(
    pull: Pull,
    blobs: Any,
    key: str,
    url: str,
    claimed: tuple[int | None, str | None],
    broken: dict[tuple[int, str], int],
) -> int:
    length: int
    staged, length, digest = blobs.write(pull.remote.download(url))
    try:
        size, checksum = claimed
        if size not in (None, length) or checksum not in (None, digest):
            broken[length, digest] = broken.get((length, digest), 0) + 1
            if broken[length, digest] < 2:
                raise RemoteError(f"it has {length} bytes and MD5 {digest}, and should have {size} and {checksum}")
            keep_differing(pull.store, key, length)
            pull.report.note("files", "files are not of the size or checksum that was once claimed: kept as they are")
        blobs.keep(staged, key)
        return length
    finally:
        blobs.drop(staged)


def _count(pull: Pull, row: Document, outcome: str, size: int, reason: str) -> None:
    if outcome in ("refused", "gone"):
        source = f"{row.get('key')} ({row.get('name')})"
        text = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
        if outcome == "gone":
            pull.report.list_aside("files", "files are gone there", source, 0, reason, text)
        else:
            pull.report.refuse("files", source, 0, reason, text)
    elif outcome == "elsewhere":
        pull.report.note("files", "files lie elsewhere, at URLs of their own, and stay there")
    else:
        pull.report.note("files", "bytes of files are here", size)
    is_fetched = outcome == "fetched"
    pull.report.advance("files", 1, is_fetched, outcome in ("here", "elsewhere", "gone"), 1)
