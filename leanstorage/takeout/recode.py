"""Texts that are not UTF-8, or end their lines as old Macs did, as what the readers of rows expect."""

import codecs
import re

from leanstorage.takeout.sources import CHUNK_BYTES, SourceError, Stream

BOM = codecs.BOM_UTF8
_BOMS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_LONE_CR = re.compile(rb"\r(?!\n|\Z)")


def encoding_of(head: bytes) -> str | None:
    """The encoding of a text that is not UTF-8, by its first bytes; None for UTF-8 and for what is no text.

    GB18030, which holds GBK, only where most lines with other than ASCII are not UTF-8: single bad rows are refused alone.
    """
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if len(head) >= 4 and head[0:1] in b"#{[" and head[1::2][:64].count(0) == len(head[1::2][:64]):
        return "utf-16-le"
    if len(head) >= 4 and head[1:2] in b"#{[" and head[0::2][:64].count(0) == len(head[0::2][:64]):
        return "utf-16-be"
    whole = (len(head) >= 1 << 16 and head.rpartition(b"\n")[0]) or head
    lines = [line for line in re.split(rb"[\r\n]", whole) if not line.isascii()]
    # The last line may end within a character.
    foreign = [line for at, line in enumerate(lines, 1) if not _is_encoded(line, "utf-8", is_cut=at == len(lines))]
    if len(foreign) * 2 <= len(lines):
        return None
    odd = sum(not _is_encoded(line, "gb18030", is_cut=line is lines[-1]) for line in foreign)
    return "gb18030" if odd * 4 <= len(foreign) and _is_chinese(b"".join(foreign)) else None


def _is_chinese(data: bytes) -> bool:
    """Whether four of five characters are those of simplified Chinese texts: Big5, Shift JIS and Latin-1 can be read as GB18030, too."""
    at = seen = usual = 0
    while at < len(data) - 1:
        first, second = data[at], data[at + 1]
        if first < 0x80:
            at += 1
            continue
        seen += 1
        usual += (0xA1 <= first <= 0xA3 or 0xB0 <= first <= 0xF7) and second >= 0xA1
        at += 4 if 0x30 <= second <= 0x39 else 2
    return usual * 5 >= seen * 4


def _is_encoded(line: bytes, encoding: str, is_cut: bool) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(line, final=not is_cut)
    except UnicodeDecodeError:
        return False
    return True


def has_lone_cr(head: bytes) -> bool:
    """Whether lines end with CR alone; in JSON a CR is never part of a value."""
    return bool(_LONE_CR.search(head))


def as_utf_8(stream: Stream, encoding: str) -> Stream:
    """A stream in another encoding as UTF-8.

    A byte or half of a character that cannot be read becomes bytes that are not UTF-8, so that its row alone is refused.
    """
    return Joined(stream) if encoding == "gb18030" else Recoded(stream, encoding)


class Recoded:
    """A stream in UTF-16 or UTF-32 as UTF-8. `read` may return more than was asked for."""

    def __init__(self, stream: Stream, encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")

    def read(self, size: int) -> bytes:
        while True:
            chunk = self._stream.read(min(size, CHUNK_BYTES))
            try:
                text = self._decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError:
                ending = "does not go on so" if chunk else "ends within a character: fetch it again"
                raise SourceError(f"it begins as {self._encoding} and {ending}") from None
            if text or not chunk:
                return text.encode("utf-8", "surrogatepass")


class Joined:
    """A stream of lines in GB18030 as UTF-8; lines that are UTF-8 already, in a file that was joined of both, stay as they are."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._kept = b""  # a line that goes on
        self._decoder = codecs.getincrementaldecoder("gb18030")("surrogateescape")

    def read(self, size: int) -> bytes:
        """Maybe more than was asked for."""
        while True:
            chunk = self._stream.read(min(size, CHUNK_BYTES))
            data = self._kept + chunk
            at = data.rfind(b"\n") + 1
            if not chunk or (not at and len(data) >= CHUNK_BYTES):
                at = len(data)
            self._kept = data[at:]
            found = b"".join(map(self._line, data[:at].splitlines(keepends=True)))
            if not chunk:
                return found + self._decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
            if found:
                return found

    def _line(self, line: bytes) -> bytes:
        is_utf_8 = not line.isascii() and _is_encoded(line, "utf-8", is_cut=False) and not _is_chinese(line)
        if is_utf_8 and not self._decoder.getstate()[0]:
            return line
        return self._decoder.decode(line).encode("utf-8", "surrogatepass")


class WithNewlines:
    """A stream whose lines end with LF."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._kept = b""

    def read(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        if not chunk:
            kept, self._kept = self._kept, b""
            return kept.replace(b"\r", b"\n")
        data = self._kept + chunk
        self._kept = b""
        if data.endswith(b"\r"):
            if len(data) == 1:
                self._kept = data
                return self.read(size)
            data, self._kept = data[:-1], b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
