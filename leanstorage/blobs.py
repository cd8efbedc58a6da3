"""The bytes of files, in a folder. A file is there completely or not at all, and on disk before anybody is told."""
import hashlib
import os
import secrets
from pathlib import Path
from urllib.parse import quote

from leanstorage.store import StoreUnavailable

CHUNK_BYTES = 1 << 16


class FolderBlobs:
    """Files by key in one folder, readable by its owner alone."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, key):
        """Where a key's bytes lie: its name with everything but letters, digits and `_.-~` escaped, so one name only."""
        name = quote(key, safe="")
        if len(name) > 200 or name.startswith("."):
            name = "sha256-" + hashlib.sha256(key.encode("utf-8")).hexdigest()
        return self.folder / name

    def write(self, chunks):
        """Write pieces of bytes to a new temporary file; return (path, size, MD5 in hex). The caller keeps or drops it.

        Raises StoreUnavailable when the disk takes no more.
        """
        path = self.folder / f".upload-{secrets.token_hex(16)}"
        size, digest = 0, hashlib.md5(usedforsecurity=False)
        try:
            with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):  # the disk is full, or read-only
                raise StoreUnavailable(f"a file cannot be written: {error.strerror}") from error
            raise
        return path, size, digest.hexdigest()

    def keep(self, path, key):
        """Give a written file its key, durably."""
        os.replace(path, self.path(key))
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def drop(self, path):
        Path(path).unlink(missing_ok=True)

    def open(self, key):
        """The open file of a key and its size in bytes, or None."""
        try:
            file = open(self.path(key), "rb")
        except (FileNotFoundError, OSError):
            return None
        return file, os.fstat(file.fileno()).st_size

    def delete(self, key):
        self.path(key).unlink(missing_ok=True)
