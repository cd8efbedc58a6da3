"""`import-files DIR`: bytes of files that were downloaded otherwise, each to the `_File` row that it belongs to.

A file is known by its path below DIR, which is its key; else by the last part of its key; else by its name, where no other
file has that name. Only what is not here yet is taken.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from leanstorage.store import Document, Store, StoreUnavailable, open_store
from leanstorage.takeout import pull_files
from leanstorage.takeout.puller import local_rows
from leanstorage.takeout.report import Report

CHUNK_BYTES = 1 << 20
NAME = "files"  # in the report


def run(folder: str | Path, database: str, blobs: Any, refused_path: str | Path, report: Report | None = None) -> int:
    """Take in what is there for rows whose bytes are not here; return the exit code. `blobs` are those of blobs.py."""
    report = report or Report(refused_path)
    store = open_store(database, bulk=True)
    try:
        found = _Found(Path(folder), _names(store))
        report.begin(NAME, None)
        for row in _waiting(store, blobs, report):
            _one(store, blobs, report, row, found.take(row))
        report.end(NAME)
        if found.left():
            report.note(NAME, "files of the folder belong to no row that lacks its bytes", found.left())
    finally:
        store.close()
    return report.close("imported", with_files=False)


class _Found:
    """The files of a folder by what may be known of them."""

    def __init__(self, folder: Path, names: Mapping[str, int]) -> None:
        self._names = names  # how many rows have each
        self._paths: dict[str, Path] = {}
        self._by_name = defaultdict[str, list[str]](list)
        for parent, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted(files):
                path = Path(parent, name)
                if path.is_file() and not path.is_symlink() and not name.startswith("."):
                    key = path.relative_to(folder).as_posix()
                    self._paths[key] = path
                    for one in {name, unquote(name)}:
                        self._by_name[one].append(key)
        self._taken: set[str] = set()

    def take(self, row: Document) -> Path | None:
        key, name = row["key"], row.get("name")
        for one in (key, quote(key), quote(key, safe="")):
            if one in self._paths:
                return self._use(one)
        for one, is_telling in ((key.rpartition("/")[2], True), (str(name), self._names.get(str(name)) == 1)):
            keys = self._by_name.get(one, []) if is_telling else []
            if len(keys) == 1 and keys[0] not in self._taken:
                return self._use(keys[0])
        return None

    def left(self) -> int:
        return len(self._paths) - len(self._taken)

    def _use(self, key: str) -> Path:
        self._taken.add(key)
        return self._paths[key]


def _names(store: Store) -> Counter[str]:
    names = (row.body.get("name") for row in local_rows(store, "_File"))
    return Counter(name for name in names if isinstance(name, str))


def _waiting(store: Store, blobs: Any, report: Report) -> Iterator[Document]:
    """The files whose bytes are not here."""
    for row in local_rows(store, "_File"):
        key = row.body.get("key")
        if not isinstance(key, str) or not key:
            continue
        if blobs.size(key) is None:
            yield {**row.body, "objectId": row.id}
        else:
            report.advance(NAME, 1, 0, 1)


def _one(store: Store, blobs: Any, report: Report, row: Document, path: Path | None) -> None:
    key, source = row["key"], f"{row['key']} ({row.get('name')})"
    if path is None:
        report.list_aside(NAME, "files are not in the folder and still without bytes", source, 0, "not found", key.encode())
        report.advance(NAME, 1, 0, 1)
        return
    try:
        staged, length, digest = blobs.write(_chunks(path))
    except (StoreUnavailable, OSError) as error:
        report.refuse(NAME, source, 0, f"it cannot be stored: {error}", key.encode())
        report.advance(NAME, 1)
        return
    try:
        size, checksum = pull_files.claims(row)
        if size not in (None, length) or checksum not in (None, digest):
            pull_files.keep_differing(store, key, length)
            report.note(NAME, "files are not of the size or checksum that was once claimed: kept as they are")
        blobs.keep(staged, key)
    finally:
        blobs.drop(staged)
    report.advance(NAME, 1, 1)


def _chunks(path: Path) -> Iterable[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
