"""`leanstorage backup DIR`: database, files and, if asked, keys in one consistent cut, while the server serves.

In DIR each backup is a folder named by its time: `leanstorage.db`, `manifest.json` and maybe `keys.json`. A folder whose name does not start
with a dot is complete. Files' bytes lie in DIR/files by their SHA-256, once for all backups: the next one copies only
what is new. The database is always one SQLite file, of PostgreSQL too: read in one transaction, so that either can be
restored to either.

The cut: files are copied, then the database, then the files that came meanwhile. A row's bytes are there before the row;
bytes that were deleted in between were copied before. If one that a row names is missing all the same, the cut is taken
again.
"""
import fcntl
import hashlib
import io
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from leanstorage.blobs.folder import FolderBlobs
from leanstorage.store import Document, Store, open_store
from leanstorage.store.sqlite.store import SqliteStore
from leanstorage.takeout import migration

FORMAT = 1  # of the manifest
DATABASE, MANIFEST, KEYS, FILES = "leanstorage.db", "manifest.json", "keys.json", "files"
CUTS, CUT_SECONDS = 5, 60  # tried at least, before giving up on files that are deleted as fast as they are made
PIECE_BYTES = 1 << 20
SNAPSHOT_SECONDS = 6 * 60 * 60  # of one statement
Saved = dict[str, Any]  # {"sha256", "size", "mtime_ns"} of a file


def run(database: str, files: str, keys: dict[str, str] | None, folder: Path, keep: int, out: TextIO, stream: TextIO) -> int:
    """Make a backup in `folder`; with `keep`, remove all but the newest ones. Raises ValueError or StoreUnavailable.

    Counts and the name of the backup go to `out`, progress to `stream`. `keys` are stored along if they are given.
    """
    (folder / FILES).mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(folder):
        return _run(database, files, keys, folder, keep, out, stream)


def _run(database: str, files: str, keys: dict[str, str] | None, folder: Path, keep: int, out: TextIO, stream: TextIO) -> int:
    started = time.monotonic()
    place = FolderBlobs(files).folder if "://" not in files else None
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    draft = folder / f".{name}"
    draft.mkdir(mode=0o700)
    try:
        progress = migration.Progress(stream)
        saved, totals = _cut(database, place, draft, folder, progress)
        if keys is not None:
            _write(draft / KEYS, json.dumps(keys, indent=1).encode())
        manifest = {
            "format": FORMAT,
            "made": name,
            "database": {"sha256": digest(draft / DATABASE), "totals": totals},
            "files": saved,
            "has_keys": keys is not None,
        }
        _write(draft / MANIFEST, json.dumps(manifest, indent=1).encode())
        _sync(draft)
        final = _named(draft, folder, name)
        _sync(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    for what, total in totals.items():
        print(f"{what}: {total}", file=out)
    if place is None:
        print("files on S3 are not copied: switch on the bucket's own versioning", file=out)
    removed = _remove_old(folder, keep) if keep else 0
    size = sum(one["size"] for one in saved.values())
    print(f"{final}: {len(saved)} files, {size} bytes, {removed} old backups removed; {time.monotonic() - started:.1f} s", file=out)
    return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other backups out of a folder, and remove what one that was killed left there. Raises ValueError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another backup to {folder} is running") from None
        for left in folder.glob(".*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def listed(folder: Path) -> list[str]:
    """The names of the complete backups, oldest first."""
    return sorted(one.parent.name for one in folder.glob(f"[!.]*/{MANIFEST}"))


def manifest_of(folder: Path, name: str) -> Document:
    """The manifest of a backup; raise ValueError."""
    try:
        found: Document = json.loads((folder / name / MANIFEST).read_text())
        is_known = found["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"there is no backup at {folder / name}") from None
    if not is_known:
        raise ValueError("the backup was made by a newer program: use that one")
    return found


def stored_at(folder: Path, name: str) -> Path:
    """Where the bytes of a file lie in a folder of backups."""
    return folder / FILES / name[:2] / name


def _cut(
    database: str, place: Path | None, draft: Path, folder: Path, progress: migration.Progress
) -> tuple[dict[str, Saved], dict[str, str]]:
    """Fill a draft with the database; return the files that belong to it, and what is in it."""
    names = listed(folder)
    saved: dict[str, Saved] = manifest_of(folder, names[-1])["files"] if names else {}
    saved = {name: one for name, one in saved.items() if stored_at(folder, one["sha256"]).exists()}
    number, end = 0, time.monotonic() + CUT_SECONDS
    while number < CUTS or time.monotonic() < end:
        number += 1
        if place is not None:
            _copy_new(place, saved, folder, progress)
        (draft / DATABASE).unlink(missing_ok=True)
        _copy_database(database, draft / DATABASE, progress)
        with _opened(draft / DATABASE) as copied:
            totals = dict(migration.totals(copied, progress))
            keys = _file_keys(copied)
        if place is None:
            return {}, totals
        _copy_new(place, saved, folder, progress)
        wanted = {FolderBlobs(place).path(key).name for key in keys}
        missing = wanted - saved.keys()
        if missing:  # what the store still names has no bytes there either
            missing -= _names_now(database, place)
        if not missing:
            return {name: one for name, one in saved.items() if name in wanted}, totals
        progress.say(f"{len(missing)} files were deleted meanwhile: again")
    raise ValueError("files are deleted faster than they can be copied: try again when less is going on")


def _names_now(database: str, place: Path) -> set[str]:
    with closing(open_store(database)) as store:
        return {FolderBlobs(place).path(key).name for key in _file_keys(store)}


def _file_keys(store: Store) -> set[str]:
    """The keys of all files that have bytes here."""
    found: set[str] = set()
    after = (-(2**63), 0)
    while rows := store.read(lambda transaction: transaction.page("_File", after, migration.PIECE)):  # noqa: B023 it runs at once
        after = (rows[-1].created, rows[-1].seq)
        found |= {row.body["key"] for row in rows if isinstance(row.body.get("key"), str)}
    return found


def _copy_new(place: Path, saved: dict[str, Saved], folder: Path, progress: migration.Progress) -> None:
    """Copy the files that `saved` does not have as they are, and note them there."""
    count = 0
    for entry in os.scandir(place):
        if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
            continue
        try:
            known, found = saved.get(entry.name), entry.stat(follow_symlinks=False)
            if known is None or (known["size"], known["mtime_ns"]) != (found.st_size, found.st_mtime_ns):
                saved[entry.name] = _copy_file(Path(entry.path), folder)
        except FileNotFoundError:  # it was deleted a moment ago
            continue
        count += 1
        progress.show(f"{count} files seen")


def _copy_file(source: Path, folder: Path) -> Saved:
    draft = folder / FILES / ".copy"
    sha256 = hashlib.sha256()
    with open(source, "rb") as reading, open(draft, "wb") as writing:
        found = os.fstat(reading.fileno())  # of this very file, which another may replace
        while piece := reading.read(PIECE_BYTES):
            sha256.update(piece)
            writing.write(piece)
        writing.flush()
        os.fsync(writing.fileno())
    name = sha256.hexdigest()
    final = stored_at(folder, name)
    final.parent.mkdir(exist_ok=True, mode=0o700)
    if digest(draft) != name:
        raise ValueError(f"the copy of {source} differs: is the disk of the backup sound?")
    os.replace(draft, final)
    return {"sha256": name, "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _copy_database(database: str, target: Path, progress: migration.Progress) -> None:
    """One consistent state of a database as an SQLite file; raise ValueError if that is damaged."""
    if database.startswith("sqlite:///"):
        with closing(sqlite3.connect(database.removeprefix("sqlite:///"), timeout=60)) as source:
            with closing(sqlite3.connect(target)) as copy:
                source.backup(copy)  # in one step, which is one read transaction: writers go on
    else:
        with closing(open_store(database)) as store, cast(Any, store).snapshot(SNAPSHOT_SECONDS) as source_store:
            with _opened(target) as copied:
                if migration.copy(source_store, copied, io.StringIO(), progress):
                    raise ValueError("the copy of the database differs from what was read")
    with closing(sqlite3.connect(target)) as copy:
        [(said,)] = copy.execute("PRAGMA quick_check(1)").fetchall()
    if said != "ok":
        raise ValueError(f"the database is damaged: {' '.join(said.split())}")


@contextmanager
def _opened(path: Path) -> Iterator[SqliteStore]:
    """A store of our own, left as one file."""
    store = SqliteStore(path, bulk=True)
    try:
        yield store
    finally:
        store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _named(draft: Path, folder: Path, name: str) -> Path:
    """Give a complete draft its name, another one if it is taken."""
    for number in range(1000):
        final = folder / (name if number == 0 else f"{name}-{number}")
        if not final.exists():
            draft.rename(final)
            return final
    raise ValueError(f"{folder / name} is taken")


def _remove_old(folder: Path, keep: int) -> int:
    """Remove all but the newest backups, and the files that none is left to need; return how many backups went."""
    names = listed(folder)
    old = names[:-keep]
    needed = {one["sha256"] for name in names[-keep:] for one in manifest_of(folder, name)["files"].values()}
    for name in old:
        (folder / name).rename(folder / f".{name}-old")  # incomplete from here on
        shutil.rmtree(folder / f".{name}-old")
    for file in (folder / FILES).glob("*/*"):
        if file.name not in needed:
            file.unlink()
    return len(old)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
