"""The bytes of files, in a folder. A file exists completely or not at all, and is on disk before its upload is acknowledged."""
import errno
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from leanstorage.blobs import write_hashed
from leanstorage.store import StoreUnavailable

FULL = (errno.ENOSPC, errno.EDQUOT)
ABANDONED_SECONDS = 24 * 60 * 60  # a staged file of this age was left by a process that died


class FolderBlobs:
    """Files by key in one folder, readable by its owner alone."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, key: str) -> Path:
        """Where a key's bytes lie: its name with everything but letters, digits and `_.-~` escaped, so one name only."""
        name = quote(key, safe="")
        if len(name) > 200 or name.startswith("."):
            name = "sha256-" + hashlib.sha256(key.encode("utf-8")).hexdigest()
        return self.folder / name

    def direct_upload(self) -> tuple[str, str] | None:
        """(staged name, URL for a PUT) if clients can upload without this server; here they cannot."""
        return None

    def staged(self, staged: str) -> tuple[int, str | None, str] | None:
        """(size, MD5 in hex or None, version) of bytes that a client has brought past this server: here, never."""
        return None

    def write(self, chunks: Iterable[bytes]) -> tuple[str, int, str]:
        """Stage pieces of bytes; return (staged name, size, MD5 in hex). The caller keeps and drops it."""
        staged = str(self._new_name())
        try:
            with open(os.open(staged, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                size, digest = write_hashed(chunks, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            self.drop(staged)
            if isinstance(error, OSError):  # the disk is full, or read-only
                raise self._unavailable(error) from error
            raise
        return staged, size, digest

    def keep(self, staged: str, key: str, version: str | None = None) -> None:
        """Give staged bytes their key, durably. They stay staged too, so that a repeated transaction can keep them again."""
        name = self._new_name()
        try:
            os.link(staged, name)
            os.replace(name, self.path(key))
            name.unlink(missing_ok=True)  # it stays where the key has these bytes already
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._unavailable(error) from error

    def drop(self, staged: str) -> None:
        """Forget staged bytes. Where that fails, `sweep` has another try."""
        with suppress(OSError):
            os.unlink(staged)

    def read_url(self, key: str, method: str, content_type: str, disposition: str) -> str | None:
        """Where a client can read a key's bytes past this server; from a folder it cannot."""
        return None

    def open(self, key: str) -> tuple[IO[bytes], int] | None:
        """The open file of a key and its size in bytes, or None."""
        try:
            file = open(self.path(key), "rb")
        except OSError as error:
            self._check_missing(error)
            return None
        return file, os.fstat(file.fileno()).st_size

    def size(self, key: str) -> int | None:
        """The bytes that a key has, or None."""
        try:
            return self.path(key).stat().st_size
        except OSError as error:
            self._check_missing(error)
            return None

    def delete(self, key: str) -> None:
        try:
            self.path(key).unlink(missing_ok=True)
        except OSError as error:
            raise self._unavailable(error) from error

    def sweep(self) -> None:
        """Drop what processes that died left behind."""
        for path in self.folder.glob(".upload-*"):
            if path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                self.drop(str(path))

    def check(self) -> None:
        """Raise StoreUnavailable unless files can be written."""
        name = self._new_name()
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            name.unlink()
        except OSError as error:
            raise self._unavailable(error) from error

    def check_start(self) -> None:
        """Raise ValueError when no file can ever be written here; say so when the disk is full, which passes."""
        try:
            self.check()
        except StoreUnavailable as error:
            if getattr(error.__cause__, "errno", None) not in FULL:
                raise ValueError(str(error)) from None
            print(f"files cannot be kept for now: {error}", file=sys.stderr)

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"a file cannot be written: {error.strerror}: {self.folder}")

    def _check_missing(self, error: OSError) -> None:
        """A key that has no bytes; raise StoreUnavailable when it is the folder that is not there, or not readable."""
        if not isinstance(error, FileNotFoundError) or not self.folder.is_dir():
            raise StoreUnavailable(f"a file cannot be read: {error.strerror}: {self.folder}") from error

    def _new_name(self) -> Path:
        return self.folder / f".upload-{secrets.token_hex(16)}"
