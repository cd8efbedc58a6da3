"""`leanstorage restore DIR`: a backup put where nothing is yet, and compared with what it was when it was made.

It restores to SQLite or PostgreSQL, whatever the backup was made of. What is checked first: every byte against its
SHA-256; what is checked at the end: the number and the digest of all that the database holds.
"""
import io

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TextIO

from leanstorage import keys as key_files
from leanstorage.operator import backup
from leanstorage.store import Document, open_store
from leanstorage.takeout import migration


def run(folder: Path, name: str | None, database: str, files: str, keys: Path | None, out: TextIO, stream: TextIO) -> int:
    """Restore the backup `name`, the newest by default; keys to the folder `keys` if it is given. Raises ValueError."""
    started = time.monotonic()
    name, manifest = _chosen(folder, name)
    progress = migration.Progress(stream)
    check(folder, name, manifest, progress)
    if keys is not None and not manifest["has_keys"]:
        raise ValueError("the backup has no keys: it was made without --keys")
    if keys is not None and key_files.place(keys).exists():
        raise ValueError(f"{key_files.place(keys)} is there already: keys are never replaced")
    place = Path(files) if "://" not in files else None
    if place is not None and place.exists() and any(place.iterdir()):
        raise ValueError(f"{place} is not empty: name another folder with --files")
    if place is None and manifest["files"]:
        raise ValueError("files are restored to a folder: name one with --files, and copy it to S3 from there")
    _restore_database(folder / name / backup.DATABASE, database, progress)
    if place is not None:
        _restore_files(folder, manifest["files"], place, progress)
    if keys is not None:
        keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        _copy(folder / name / backup.KEYS, key_files.place(keys))
    return _compare(database, manifest, out, progress, f"{folder / name}: {len(manifest['files'])} files, {time.monotonic() - started:.1f} s")


def verify(folder: Path, name: str | None, out: TextIO, stream: TextIO) -> int:
    """Check a backup and restore nothing. Raises ValueError."""
    name, manifest = _chosen(folder, name)
    check(folder, name, manifest, migration.Progress(stream))
    for what, total in manifest["database"]["totals"].items():
        print(f"{what}: {total}", file=out)
    print(f"{folder / name}: whole, {len(manifest['files'])} files", file=out)
    return 0


def check(folder: Path, name: str, manifest: Document, progress: migration.Progress) -> None:
    """Raise ValueError unless every byte of a backup is there and right."""
    if _digest(folder / name / backup.DATABASE) != manifest["database"]["sha256"]:
        raise ValueError(f"{folder / name / backup.DATABASE} is missing or damaged: use another backup")
    for count, (file, saved) in enumerate(manifest["files"].items()):
        if _digest(backup.stored_at(folder, saved["sha256"])) != saved["sha256"]:
            raise ValueError(f"the bytes of the file {file} are missing or damaged: use another backup")
        progress.show(f"{count} files checked")


def _digest(path: Path) -> str | None:
    try:
        return backup.digest(path)
    except OSError:
        return None


def _chosen(folder: Path, name: str | None) -> tuple[str, Document]:
    names = backup.listed(folder)
    if not names:
        raise ValueError(f"there is no backup in {folder}")
    if name is not None and name not in names:
        raise ValueError(f"there is no backup {name}, but {', '.join(names)}")
    name = name or names[-1]
    return name, backup.manifest_of(folder, name)


def _restore_database(source: Path, database: str, progress: migration.Progress) -> None:
    path = Path(database.removeprefix("sqlite:///"))
    if not database.startswith("sqlite:///"):
        # From a copy: SQLite writes beside what it opens, and a backup stays as it is.
        draft = source.with_name(f".restoring-{os.getpid()}")
        _copy(source, draft)
        try:
            with closing(open_store(f"sqlite:///{draft}", bulk=True)) as stored, closing(open_store(database, bulk=True)) as target:
                if migration.copy(stored, target, io.StringIO(), progress):
                    raise ValueError("what was restored differs from the backup")
        finally:
            for end in ("", "-wal", "-shm"):
                draft.with_name(draft.name + end).unlink(missing_ok=True)
    elif any(path.with_name(path.name + end).exists() for end in ("", "-wal", "-shm")):
        raise ValueError(f"{path} is there already: move it away, its -wal and -shm too, or name another one with --database")
    else:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}-{os.getpid()}")
        _copy(source, draft)
        os.replace(draft, path)


def _restore_files(folder: Path, files: dict[str, backup.Saved], place: Path, progress: migration.Progress) -> None:
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for count, (name, saved) in enumerate(files.items()):
        if "/" in name or name.startswith("."):
            raise ValueError(f"{name!r} is no name of a file: was the manifest changed?")
        target = place / name
        _copy(backup.stored_at(folder, saved["sha256"]), target)
        os.utime(target, ns=(saved["mtime_ns"], saved["mtime_ns"]))  # so that the next backup knows it
        progress.show(f"{count} files restored")


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as reading, open(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as writing:
        shutil.copyfileobj(reading, writing, backup.PIECE_BYTES)
        writing.flush()
        os.fsync(writing.fileno())


def _compare(database: str, manifest: Document, out: TextIO, progress: migration.Progress, ending: str) -> int:
    """Print what was restored; return 1 if it is not what was backed up."""
    with closing(open_store(database, bulk=True)) as store:
        found = dict(migration.totals(store, progress))
    wanted = manifest["database"]["totals"]
    for what in _names(wanted, found):
        same = "" if found.get(what) == wanted.get(what) else f", but {wanted.get(what)} in the backup"
        print(f"{what}: {found.get(what)}{same}", file=out)
    is_equal = found == wanted
    print(f"{ending}; {'equal to the backup' if is_equal else 'NOT equal to the backup'}", file=out)
    return 0 if is_equal else 1


def _names(*several: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for one in several for name in one))
