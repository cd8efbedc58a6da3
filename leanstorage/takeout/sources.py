"""The files of an export: named ones, those of folders, and the members of tar and zip archives, as byte streams.

Nothing is ever unpacked to disk, so the path of a member is only a name. Hostile archives are met here: whatever is
wrong with one raises SourceError with a reason that can be shown, after the members before it were read.
"""

import gzip
import io
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from leanstorage.takeout import names

CHUNK_BYTES = 1 << 20
GZIP = b"\x1f\x8b\x08"
TAR_BLOCK = 512
MAX_TAR_NOTE = 1 << 20  # bytes of a long name or an extended header
MAX_ZIP_MEMBERS = 100_000
# A megabyte of JSON shrinks to a tenth or a twentieth; gzip's own limit is a thousandth.
MAX_RATIO = 200
RATIO_FROM_BYTES = 64 << 20
_PACKINGS = (
    (b"Rar!\x1a\x07", "RAR"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x5d\0\0\x80\0", "lzma"),
    (b"\x1f\x9d", ".Z"),
    (b"MSCF\0", ".cab"),
    (b"PK\x07\x08", "split zip"),
    (b"MZ", "self-extracting"),
)
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,1000}")


class SourceError(Exception):
    """A file or an archive that cannot be read to its end; the text says what is wrong."""


class Stream(Protocol):
    """Bytes to read: at most `size`, maybe fewer, none at the end. Ours raise SourceError for what is damaged."""

    def read(self, size: int, /) -> bytes: ...


@dataclass
class Member:
    """One file of an export. `stream` is good until the next member is asked for."""

    label: str  # to be shown: the archive and the name within it
    name: str  # the file's own name, which may tell its class
    size: int | None  # bytes, None when only reading to the end can tell
    stream: "Peeked"
    is_named: bool = False  # by the operator, rather than found in a folder or an archive
    encoding: str = "utf-8"  # that it turned out to have


Found = Iterator[Member | SourceError]


def members(paths: Iterable[str | Path]) -> Found:
    """Yield every Member of files, folders and archives, and a SourceError in the place of each unreadable one."""
    for path in paths:
        path = Path(path)
        try:
            if path.is_dir():
                yield from _folder(path)
            else:
                yield from _file(path, str(path), is_named=True)
        except SourceError as error:
            yield error
        except OSError as error:
            yield _unreadable(path, error)


def _folder(folder: Path) -> Found:
    troubles: list[OSError] = []  # of folders within, which cannot be listed
    for parent, folders, found in os.walk(folder, onerror=troubles.append):
        folders.sort()
        for name in folders:
            if Path(parent, name).is_symlink():
                yield SourceError(f"{Path(parent, name)}: a symbolic link in a folder is not followed")
        for name in sorted(found, key=lambda name: ("_schema" not in name, name)):
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if path.is_symlink():
                yield SourceError(f"{path}: a symbolic link in a folder is not followed")
                continue
            try:
                yield from _file(path, str(path))
            except SourceError as error:
                yield error
            except OSError as error:
                yield _unreadable(path, error)
    yield from (_unreadable(error.filename, error) for error in troubles)


def _unreadable(path: str | Path, error: OSError) -> SourceError:
    return SourceError(f"{path}: {error.strerror or 'cannot be read'}")


def _file(path: Path, label: str, is_named: bool = False) -> Found:
    if names.is_unfinished(path.name):
        raise SourceError(f"{label}: the download is not finished: fetch it again")
    if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: a pipe would wait for its other end
        raise SourceError(f"{label}: not a regular file")
    with open(path, "rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        head = raw.read(4)
        raw.seek(0)
        if names.is_other(path.name) and head.startswith(b"PK"):
            if is_named:
                raise SourceError(f"{label}: a document, not an export: save it as CSV or JSON")
            yield Member(label, path.name, size, Peeked(_Disk(raw, label)))
        elif head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
            yield from _zip(raw, label)
        else:
            yield from _unpacked(_Disk(raw, label), label, path.name, size, is_named)


class _Disk:
    """A file whose disk may fail while it is read."""

    def __init__(self, raw: IO[bytes], label: str) -> None:
        self._raw, self._label = raw, label

    def read(self, size: int) -> bytes:
        try:
            return self._raw.read(size)
        except OSError as error:
            raise _unreadable(self._label, error) from None


def _unpacked(raw: Stream, label: str, name: str, size: int | None, is_named: bool) -> Found:
    """A stream that may be gzip, and then may be tar."""
    stream = Peeked(raw)
    _check_packing(stream.head, label, name)
    if stream.head.startswith(GZIP):
        stream = Peeked(_Gunzip(stream, label))
        name, size = _without_gz(name), None
        if stream.head.startswith(GZIP):
            raise SourceError(f"{label}: packed twice with gzip: unpack it once")
    if not stream.head and name.lower().endswith(names.ARCHIVES):
        raise SourceError(f"{label}: an empty file in the place of an archive: fetch it again")
    if stream.head[257:262] == b"ustar" or name.lower().endswith((".tar", ".tgz")):
        yield from _tar(stream, label)
    else:
        yield Member(label, name, size, stream, is_named)


def _without_gz(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def _check_packing(head: bytes, label: str, name: str) -> None:
    """Raise SourceError, with what to do, for archives that are not read and for pages that were saved as archives."""
    if name.lower().endswith(".bson"):  # which begins with a length, and that can look like any of these
        return
    kind = next((kind for mark, kind in _PACKINGS if head.startswith(mark)), None)
    if kind:
        raise SourceError(f"{label}: a {kind} archive: unpack it, and name the folder instead")
    if head.startswith(b"SQLite format 3\0"):
        raise SourceError(f"{label}: a database, no export: restore takes in a backup, migrate copies a database")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text.startswith(b"<") and not (text.startswith(b"{") and name.endswith(names.ARCHIVES)):
        return
    if names.is_other(name):
        return
    found = re.search(rb"<(?:Code|title)>([^<]{1,100})<", head) or re.search(rb'"error"\s*:\s*"([^"]{1,100})"', head)
    said = f" ({printable(found.group(1).decode('utf-8', 'replace'))})" if found else ""
    if text.startswith(b"<") or found:
        raise SourceError(
            f"{label}: not an export but what a server answered{said}: the link has expired, ask for a new one"
        )


class Peeked:
    """A stream whose first bytes can be looked at before they are read."""

    def __init__(self, stream: Stream, size: int = 1 << 16) -> None:
        self._stream = stream
        self.head = b""
        while len(self.head) < size:
            chunk = stream.read(size - len(self.head))
            if not chunk:
                break
            self.head += chunk
        self._rest = self.head

    def read(self, size: int) -> bytes:
        if self._rest:
            chunk, self._rest = self._rest[:size], self._rest[size:]
            return chunk
        return self._stream.read(size)


class _Gunzip:
    """A gzip stream that refuses to grow out of all proportion. `read` may return less than was asked for."""

    def __init__(self, raw: Stream, label: str) -> None:
        self._counted = _Counted(raw)
        self._stream = gzip.GzipFile(fileobj=self._counted)
        self._label = label
        self._out = 0

    def read(self, size: int) -> bytes:
        try:
            chunk = self._stream.read1(size)
        except (EOFError, zlib.error, OSError) as error:
            reason = "the gzip data ends too early" if isinstance(error, EOFError) else "the gzip data is damaged"
            reason += ": fetch it again"
            raise SourceError(f"{self._label}: {reason}") from None
        self._out += len(chunk)
        if self._out > RATIO_FROM_BYTES and self._out > MAX_RATIO * self._counted.done:
            raise SourceError(f"{self._label}: it unpacks to more than {MAX_RATIO} times its size")
        return chunk


class _Counted(io.RawIOBase):
    """A stream that counts its bytes; GzipFile asks for more than a Stream."""

    def __init__(self, raw: Stream) -> None:
        self._raw = raw
        self.done = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._raw.read(size)
        self.done += len(chunk)
        return chunk


# Zip ----------------------------------------------------------------------------------------------------------------


def _zip(raw: IO[bytes], label: str) -> Found:
    try:
        archive = zipfile.ZipFile(raw)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        raise SourceError(f"{label}: the zip archive is damaged or ends too early: fetch it again") from None
    with archive:
        infos = archive.infolist()
        if len(infos) > MAX_ZIP_MEMBERS:
            raise SourceError(f"{label}: the archive has more than {MAX_ZIP_MEMBERS} members")
        for info in infos:
            if info.is_dir():
                continue
            name = _zip_name(info)
            inner = f"{label}:{printable(name)}"
            try:
                _check_name(name, inner)
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise SourceError(f"{inner}: a link, not a file")
                with _opened(archive, info, inner) as stream:
                    guarded = _Unzip(stream, info, inner)
                    yield from _inner(guarded, inner, name, info.file_size)
            except SourceError as error:
                yield error


def _zip_name(info: zipfile.ZipInfo) -> str:
    """A member's name: without the mark of UTF-8 it is UTF-8 from a Mac, GBK from a Chinese Windows, or else what zipfile takes it for."""
    if not info.flag_bits & 0x800:
        for encoding in ("utf-8", "gb18030"):
            try:
                return info.filename.encode("cp437").decode(encoding)
            except UnicodeError:
                pass
    return info.filename


def _opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> zipfile.ZipExtFile:
    if info.flag_bits & 1:
        raise SourceError(f"{label}: it needs a password: unpack the archive, and name the folder instead")
    try:
        return cast(zipfile.ZipExtFile, archive.open(info))  # the standard library's stubs say only IO[bytes]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError):
        # RuntimeError is what zipfile says of a method whose module is not there.
        raise SourceError(f"{label}: it is damaged or packed in an unknown way: unpack the archive, and name the folder instead") from None


class _Unzip:
    def __init__(self, stream: zipfile.ZipExtFile, info: zipfile.ZipInfo, label: str) -> None:
        self._stream, self._info, self._label = stream, info, label
        self._out = 0

    def read(self, size: int) -> bytes:
        try:
            chunk = self._stream.read1(size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
            raise SourceError(f"{self._label}: the packed data is damaged or ends too early: fetch it again") from None
        self._out += len(chunk)
        if self._out > RATIO_FROM_BYTES and self._out > MAX_RATIO * self._info.compress_size:
            raise SourceError(f"{self._label}: it unpacks to more than {MAX_RATIO} times its size")
        return chunk


# Tar ----------------------------------------------------------------------------------------------------------------


def _tar(stream: Stream, label: str, is_nested: bool = False) -> Found:
    """Members of a tar stream. tarfile itself keeps all of them in memory and believes any size of a header."""
    long_name = None
    while True:
        header = _exactly(stream, TAR_BLOCK, label)
        if not header.strip(b"\0"):
            return  # the end is marked by empty blocks
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            raise SourceError(f"{label}: the tar archive is damaged: fetch it again") from None
        if info.size < 0:
            raise SourceError(f"{label}: the tar archive is damaged: fetch it again")
        padding = -info.size % TAR_BLOCK
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE):
            if info.size > MAX_TAR_NOTE:
                raise SourceError(f"{label}: a header of {info.size} bytes in the tar archive")
            note = _exactly(stream, info.size, label)
            _exactly(stream, padding, label)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = note.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif info.type == tarfile.XHDTYPE:
                long_name = _pax_path(note) or long_name
            continue
        name, long_name = long_name or info.name, None
        part = _Part(stream, info.size, label)
        inner = f"{label}:{printable(name)}"
        if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
            try:
                _check_name(name, inner)
                yield from _inner(part, inner, name, info.size, is_nested)
            except SourceError as error:
                if part.is_broken:
                    raise
                yield error
        elif info.type != tarfile.DIRTYPE:
            yield SourceError(f"{inner}: a link or a device, not a file")
        part.skip()
        _exactly(stream, padding, label)


class _Part:
    """The next `size` bytes of a stream."""

    def __init__(self, stream: Stream, size: int, label: str) -> None:
        self._stream, self._left, self._label = stream, size, label
        self.is_broken = False

    def read(self, size: int) -> bytes:
        wanted = min(size, self._left)
        if not wanted:
            return b""
        try:
            chunk = self._stream.read(wanted)
        except SourceError:
            self.is_broken = True
            raise
        if not chunk:
            self.is_broken = True
            raise SourceError(f"{self._label}: the tar archive ends too early: fetch it again")
        self._left -= len(chunk)
        return chunk

    def skip(self) -> None:
        while self.read(CHUNK_BYTES):
            pass


def _exactly(stream: Stream, size: int, label: str) -> bytes:
    data = b""
    while len(data) < size:
        chunk = stream.read(size - len(data))
        if not chunk:
            raise SourceError(f"{label}: the tar archive ends too early: fetch it again")
        data += chunk
    return data


def _pax_path(note: bytes) -> str | None:
    """The path of an extended header: records `LENGTH path=VALUE\\n`."""
    found = re.search(rb"(?:^|\n)[0-9]+ path=([^\n]*)\n", note)
    return found.group(1).decode("utf-8", "surrogateescape") if found else None


# Members of either ----------------------------------------------------------------------------------------------------


def _inner(stream: Stream, label: str, name: str, size: int | None, is_nested: bool = False) -> Found:
    """A member of an archive: a file, packed or not, or a tar within this archive. Deeper it is refused: bombs are nested."""
    name = re.split(r"[/\\]", name)[-1]
    if name.startswith("."):
        return  # what file systems leave behind, such as `._x`
    if names.is_unfinished(name):
        raise SourceError(f"{label}: the download is not finished: fetch it again")
    peeked = Peeked(stream)
    _check_packing(peeked.head, label, name)
    if peeked.head.startswith(GZIP):
        peeked = Peeked(_Gunzip(peeked, label))
        name, size = _without_gz(name), None
    is_tar = peeked.head[257:262] == b"ustar"
    is_packed = peeked.head.startswith((b"PK\x03\x04", GZIP)) and not names.is_other(name)
    if is_packed or (is_tar and is_nested):
        raise SourceError(f"{label}: an archive within an archive: unpack the outer one")
    if is_tar:
        yield from _tar(peeked, label, is_nested=True)
    else:
        yield Member(label, name, size, peeked)


def _check_name(name: str, label: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if not _NAME.fullmatch(name) or name.startswith(("/", "\\")) or ".." in parts or re.match("[A-Za-z]:", name):
        raise SourceError(f"{label}: a path that leads out of the archive")


def printable(text: str) -> str:
    """A foreign text fit for a terminal and for one line of a log."""
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= 200 else text[:200] + "..."
