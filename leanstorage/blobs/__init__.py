"""The bytes of files: the contract of their places, a folder or S3.

New bytes are *staged* under a random name; `keep` gives them their key. Every place raises StoreUnavailable when it fails.
"""
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Protocol


class Blobs(Protocol):
    """The bytes of files by key; new ones are staged under a name of their own. See folder.FolderBlobs and s3.S3Blobs."""

    def direct_upload(self) -> tuple[str, str] | None: ...

    def staged(self, staged: str) -> tuple[int, str | None, str] | None: ...

    def write(self, chunks: Iterable[bytes]) -> tuple[str, int, str]: ...

    def keep(self, staged: str, key: str, version: str | None = None) -> None: ...

    def drop(self, staged: str) -> None: ...

    def read_url(self, key: str, method: str, content_type: str, disposition: str) -> str | None: ...

    def open(self, key: str) -> tuple[IO[bytes], int] | None: ...

    def size(self, key: str) -> int | None: ...

    def delete(self, key: str) -> None: ...

    def sweep(self) -> None: ...

    def check(self) -> None: ...

    def check_start(self) -> None: ...


def open_blobs(place: str | Path) -> Blobs:
    """The bytes at `s3://BUCKET/PREFIX` or in a folder. Raises ValueError for an URL that is neither."""
    if str(place).startswith("s3://"):
        try:
            from leanstorage.blobs.s3 import S3Blobs  # only here, so that nobody else needs boto3
        except ImportError as error:
            raise ValueError("files on S3 need boto3: pip install boto3") from error
        return S3Blobs(str(place))
    if "://" in str(place):
        raise ValueError("files lie in a folder or at s3://BUCKET/PREFIX")
    from leanstorage.blobs.folder import FolderBlobs

    return FolderBlobs(place)


def write_hashed(chunks: Iterable[bytes], file: IO[bytes]) -> tuple[int, str]:
    """Write pieces of bytes to an open file; return (their size, their MD5 in hex)."""
    size, digest = 0, hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        file.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()
