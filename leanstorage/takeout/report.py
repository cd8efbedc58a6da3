"""What an import or a pull tells its operator: progress, a closing table, and the file of what was refused.

Rows hold secrets: they go to that file, which only its owner may read, and never to the terminal.
"""

import base64
import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from leanstorage.store import Query, QueryTimeout, Store
from leanstorage.takeout.sources import printable

SHOWN_NOTES = 50  # of each class
SHOWN_FILES = 100  # of those that could not be read; an archive may have any number of them
SHOWN_REFUSALS = 5  # of each class, in the closing table
BAR = 24  # characters
TERMINAL_SECONDS = 0.2  # between two updates of the bar
PLAIN_SECONDS = 5  # between two lines where there is no terminal


@dataclass
class Tally:
    read: int = 0
    imported: int = 0
    skipped: int = 0
    refused: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, int, str]] = field(default_factory=list)  # (source, number or 0, reason)
    aside: Counter[str] = field(default_factory=Counter)  # kinds of what is listed and no failure
    listed: list[tuple[str, str]] = field(default_factory=list)  # (kind, which) of the first of these


class Report:
    """Counts by class (or `Class.key` of a relation); shows progress on `stream`, the end on `out`.

    The file of refused rows, JSON Lines, is made with the first of them; FileExistsError is raised where there is one.
    """

    def __init__(self, refused_path: str | Path, stream: TextIO | None = None, out: TextIO | None = None) -> None:
        self.tallies: dict[str, Tally] = {}
        self.broken: list[str] = []  # texts of files that could not be read, or not to their end; the first SHOWN_FILES
        self.broken_count = 0
        self.passed: list[str] = []  # names of files that are no export, the first SHOWN_FILES
        self.passed_count = 0
        self.troubles: list[str] = []  # what else went wrong
        self.told: list[str] = []  # lines of their own under the table
        self.declared: set[str] = set()  # classes that a schema describes
        self.here: dict[str, int] = {}  # objects of a class that are stored at the end, where that was counted
        self._stream = stream or sys.stderr
        self._out = out or sys.stdout
        self._refused_path = refused_path
        self._refused_file: TextIO | None = None
        self._is_terminal = self._stream.isatty()
        self._started = time.monotonic()
        self._current: dict[str, dict[str, Any]] = {}  # name -> what is known of its progress
        self._shown = 0.0
        self._lock = threading.RLock()  # a pull reports from several threads

    def tally(self, name: str) -> Tally:
        return self.tallies.setdefault(name, Tally())

    def begin(self, name: str, size: int | None) -> None:
        """A file of `size` bytes, or a class of that many rows, starts; None when unknown."""
        with self._lock:
            self._current[name] = {"name": name, "size": size, "done": 0, "rows": 0, "start": time.monotonic()}

    def advance(self, name: str, read: int, imported: int = 0, skipped: int = 0, size: int = 0) -> None:
        """Count rows; `size` is how far this leads on the way to that of `begin`."""
        with self._lock:
            tally = self.tally(name)
            tally.read += read
            tally.imported += imported
            tally.skipped += skipped
            current = self._current.get(name)
            if current:
                current["done"] += size
                current["rows"] += read
                self._show(current)

    def note(self, name: str, text: str, count: int = 1) -> None:
        """Count what the operator should hear of."""
        with self._lock:
            notes = self.tally(name).notes
            notes[text if text in notes or len(notes) < SHOWN_NOTES else "other notes"] += count

    def refuse(self, name: str, source: str, number: int, reason: str, data: bytes) -> None:
        """Count a refused row and keep it: `data` is its text as bytes, or its BSON."""
        with self._lock:
            self._refuse(self.tally(name), name, source, number, reason, data)

    def _refuse(self, tally: Tally, name: str, source: str, number: int, reason: str, data: bytes) -> None:
        tally.refused += 1
        reason = printable(reason)
        if len(tally.examples) < SHOWN_REFUSALS:
            tally.examples.append((source, number, reason))
        self._write(name, source, number, reason, data)

    def list_aside(self, name: str, kind: str, source: str, number: int, reason: str, data: bytes) -> None:
        """Count and keep, as a refused row, what is no failure but has to be looked at; `kind` says what is counted."""
        with self._lock:
            tally = self.tally(name)
            tally.aside[kind] += 1
            if len(tally.listed) < SHOWN_REFUSALS:
                tally.listed.append((kind, f"{printable(source)}{_line(number)}: {printable(reason)}"))
            self._write(name, source, number, printable(reason), data)

    def _write(self, name: str, source: str, number: int, reason: str, data: bytes) -> None:
        line: dict[str, Any] = {"class": name, "source": source, "line": number, "reason": reason}
        try:
            line["row"] = data.decode("utf-8")
        except UnicodeDecodeError:
            line["row_base64"] = base64.b64encode(data).decode()
        self._file().write(json.dumps(line, ensure_ascii=False) + "\n")

    def fail(self, text: str | Exception) -> None:
        """A file could not be read, or not to its end."""
        text = printable(str(text))
        with self._lock:
            if text not in self.broken:
                self.broken_count += 1
                if len(self.broken) < SHOWN_FILES:
                    self.broken.append(text)
                    self.say(f"refused: {text}")

    def pass_over(self, label: str) -> None:
        """A file in a folder or an archive is no export, which is no failure."""
        with self._lock:
            self.passed_count += 1
            if len(self.passed) < SHOWN_FILES:
                self.passed.append(printable(label))

    def count(self, store: Store, names: Iterable[str]) -> None:
        """Note how many objects of these classes are stored: rows that are read twice are counted twice above."""
        for name in names:
            self.tally(name)
            with suppress(QueryTimeout):  # more than can be counted in time
                self.here[name] = store.read(lambda transaction: transaction.count(Query(name)))  # noqa: B023 at once

    def trouble(self, text: str | Exception) -> None:
        """Something other than a row or a file failed; it is told once, at the end."""
        text = printable(str(text))
        with self._lock:
            if text not in self.troubles:
                self.troubles.append(text)

    def refused_rows(self) -> int:
        """How many rows were refused; files, which are asked for again, are none."""
        return sum(tally.refused for name, tally in self.tallies.items() if name != "files")

    @property
    def refused_path(self) -> str:
        """Where they are kept."""
        return str(self._refused_path)

    def tell(self, text: str) -> None:
        """A line for the end, under the table."""
        with self._lock:
            self.told.append(printable(text))

    def say(self, text: str) -> None:
        with self._lock:
            self._clear()
            print(text, file=self._stream)

    def end(self, name: str) -> None:
        """What began under this name is done."""
        with self._lock:
            current = self._current.pop(name, None)
            if current and current["rows"]:
                self._show(current, is_last=True)

    def close(self, verb: str = "imported", with_files: bool = True) -> int:
        """Print the table and the last line, which holds every figure, that of files if any are read; return the code."""
        self._clear()
        if self._refused_file is not None:
            self._refused_file.close()
        self._table(verb)
        if self.declared:
            print(f"classes that a schema declared: {len(self.declared)}", file=self._out)
        for text in self.told:
            print(text, file=self._out)
        total = Tally()
        for tally in self.tallies.values():
            total.read += tally.read
            total.imported += tally.imported
            total.skipped += tally.skipped
            total.refused += tally.refused
        seconds = max(time.monotonic() - self._started, 0.001)
        files = f" and {self.broken_count} files" if with_files else ""
        failures = f", {len(self.troubles)} failed" if self.troubles else ""
        print(
            f"read {total.read}, {verb} {total.imported}, skipped {total.skipped}, refused {total.refused} rows"
            f"{files}{failures}; {seconds:.1f} s, {total.read / seconds:.0f} rows/s,"
            f" peak memory {peak_memory() / 1e6:.0f} MB",
            file=self._out,
            flush=True,
        )
        return 1 if total.refused or self.broken_count or self.troubles else 0

    def _table(self, verb: str) -> None:
        out = self._out
        last = f"  {'here now':>10}" if self.here else ""
        if self.tallies:
            width = max(len(name) for name in [*self.tallies, "class"])
            print(f"{'class':{width}}  {'read':>10}  {verb:>10}  {'skipped':>10}  {'refused':>10}{last}", file=out)
        for name, tally in sorted(self.tallies.items()):
            counts = (tally.read, tally.imported, tally.skipped, tally.refused)
            here = f"  {self.here[name]:>10}" if name in self.here else ""
            print(f"{name:{width}}  " + "  ".join(f"{count:>10}" for count in counts) + here, file=out)
            for source, number, reason in tally.examples:
                print(f"    refused {printable(source)}{_line(number)}: {reason}", file=out)
            if tally.refused > len(tally.examples):
                print(f"    refused {tally.refused - len(tally.examples)} more", file=out)
            for text, count in sorted(tally.aside.items()):
                print(f"    {count} {text}", file=out)
                for kind, which in tally.listed:
                    if kind == text:
                        print(f"        {which}", file=out)
            for text, count in sorted(tally.notes.items()):
                print(f"    note: {count} {printable(text)}", file=out)
        if self.passed:
            more = ", ..." if self.passed_count > len(self.passed) else ""
            print(f"passed over, no exports: {self.passed_count}: {', '.join(self.passed)}{more}", file=out)
        for text in self.broken:
            print(f"refused file: {text}", file=out)
        for text in self.troubles:
            print(f"failed: {text}", file=out)
        if self._refused_file is not None:
            is_refused = any(tally.refused for tally in self.tallies.values())
            what = "refused rows and their reasons" if is_refused else "all that is listed above, with the reasons"
            print(f"{what}: {self._refused_file.name}", file=out)
            if is_refused:
                print("correct them there and import that file, or use --repair: it moves aside what cannot be held", file=out)

    def _file(self) -> TextIO:
        if self._refused_file is None:
            path = str(self._refused_path)
            os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
            os.close(descriptor)
            self._refused_file = open(path, "w", encoding="utf-8", errors="backslashreplace")
        return self._refused_file

    def _show(self, current: dict[str, Any], is_last: bool = False) -> None:
        now = time.monotonic()
        if now - self._shown < (TERMINAL_SECONDS if self._is_terminal else PLAIN_SECONDS) and not is_last:
            return
        if self._shown == 0 and not self._is_terminal and not is_last:
            self._shown = now  # the first line comes after PLAIN_SECONDS as well
            return
        self._shown = now
        text = _progress(current, now, is_last)
        if self._is_terminal:
            self._stream.write(f"\r\x1b[K{text}" + ("\n" if is_last else ""))
            self._stream.flush()
        else:
            print(text, file=self._stream)

    def _clear(self) -> None:
        if self._is_terminal:
            self._stream.write("\r\x1b[K")


def _line(number: int) -> str:
    return f", line {number}" if number else ""


def _progress(current: dict[str, Any], now: float, is_last: bool) -> str:
    seconds = max(now - current["start"], 0.001)
    text = f"{current['name']}: {current['rows']} rows, {current['rows'] / seconds:.0f} rows/s"
    if is_last or not current["size"] or not current["done"]:
        return text
    part = min(current["done"] / current["size"], 1.0)
    left = int(seconds * (1 - part) / part)
    bar = "#" * int(BAR * part)
    return f"{text} [{bar:<{BAR}}] {100 * part:.0f} %, {left // 60}:{left % 60:02d} left"


def peak_memory() -> int:
    """Bytes of this process at its largest, and of its largest child."""
    unit = 1 if sys.platform == "darwin" else 1024
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * sum(resource.getrusage(who).ru_maxrss for who in both)
