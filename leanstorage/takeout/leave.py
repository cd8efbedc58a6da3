"""`leave --from URL`: out of LeanCloud with one command. Protocol appendix C.9.

It asks for the export, waits for it, downloads and imports it, then pulls what changed since and the files. How far it came
is a record of the kind `leave` in the store: {"export": id, "is_imported": bool, "named": which --export that was, "refused":
[[rows, file], ...], "unread": [text, ...]}; so it can be killed anywhere and run again. Repeated steps change nothing.
"""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leanstorage.rules import fingerprint, values
from leanstorage.store import Document, open_store, Transaction
from leanstorage.takeout import checklist, duplicates, importer, load, mended_rows, puller
from leanstorage.takeout.budget import Budget, OutOfCalls
from leanstorage.takeout.remote import NotUsable, Remote, RemoteError, Unreachable
from leanstorage.takeout.report import Report
from leanstorage.takeout.sources import printable
from leanstorage.takeout.wishes import NONE, Wishes

KIND = "leave"
FIRST_POLL, LONGEST_POLL = 2, 60  # seconds between two looks at the export
MAX_POLLS = 2000
MAX_LOOKED_FOR = 10_000  # refused rows
KEY = re.compile(r'"(objectId|updatedAt)"\s*:\s*"([^"\\]+)"')  # in what is no JSON
MAX_WITHOUT_LINK = 10  # polls that say "done" and bring no link
UNDER_WAY = ("running", "pending", "waiting", "queued", "done", None)  # an export may come, LeanCloud says the first
DOWNLOADS = 8  # that break off
STEPS = ("ask for the export", "download it", "import it", "pull what changed since")
BY_HAND = "ask for it in the console (Data storage, Import and export), download it, and name it with --export FILE"


class Leaving:
    """What the steps share. `make_remote` and `make_report` are called for each step that needs one."""

    def __init__(
        self,
        make_remote: Callable[[], Remote],
        make_report: Callable[[], Report],
        database: str,
        keys: dict[str, str],
        folder: Path,
        say: Callable[[str], object] = print,
        wishes: Wishes = NONE,
    ) -> None:
        self.make_remote, self.make_report = make_remote, make_report
        self.database, self.keys, self.folder, self.say = database, keys, folder, say
        self.wishes = wishes

    def state(self) -> Document:
        store = open_store(self.database)
        try:
            return store.read(lambda transaction: transaction.record(KIND, self._source())) or {}
        finally:
            store.close()

    def save(self, **changes: Any) -> None:
        state = {**self.state(), **changes}
        store = open_store(self.database)
        try:
            load.stored(store, lambda transaction: transaction.put_record(KIND, self._source(), state))
        finally:
            store.close()

    def remember(self, report: Report) -> None:
        """Keep which rows and files the import refused: the next run does not meet them again."""
        state = self.state()
        if report.refused_rows():
            self.save(refused=[*state.get("refused", []), [report.refused_rows(), report.refused_path]])
        if report.broken:
            self.save(unread=[*state.get("unread", []), *report.broken])

    def _source(self) -> str:
        return self.make_remote().source_id


def run(
    leaving: Leaving,
    export: Path | None = None,
    is_again: bool = False,
    email: str | None = None,
    blobs: Any = None,
) -> int:
    """Run the remaining steps; return the exit code: 0 only if everything arrived.

    `export` is a file that was downloaded otherwise; `is_again` asks for a newer one than the last.
    """
    if not _is_bound(leaving) and export is not None and not _are_accepted(leaving):
        return 1
    if is_again:
        leaving.save(export=None, is_imported=False, named=None, refused=[], unread=[])
    if export is not None and leaving.state().get("named") != _named(export):
        leaving.save(is_imported=False, named=None)
    state = leaving.state()
    _say_steps(leaving, state, export)
    code = 0
    if not state.get("is_imported"):
        path = export or _fetched(leaving, state.get("export"), email)
        if path is None:
            return 1
        code = _import(leaving, path, export)
    leaving.say(f"step 4 of 4: {STEPS[3]}{', and the files' if blobs is not None else ''}")
    report = leaving.make_report()
    code |= puller.run(
        leaving.make_remote(),
        leaving.database,
        leaving.keys,
        "",
        blobs=blobs,
        report=report,
        wishes=leaving.wishes,
    )
    is_refused = _say_refused(leaving)
    if report.refused_rows():
        leaving.say("rows of the live app were refused, see above: change them there, or keep them by --repair")
    if code:
        leaving.say("something is left, see above: run the same command again, it goes on where it was")
    else:
        what = "everything else came" if is_refused else "everything came"
        leaving.say(f"{what}: the same command brings what changes from now on, --again a newer export first")
        for path in sorted(leaving.folder.glob("export-*.tar.gz*")):
            leaving.say(f"{path} is a list of credentials: keep it offline until you are sure, then delete it")
        checklist.tell(leaving.database, leaving.say)
    return code


def _is_bound(leaving: Leaving) -> bool:
    """Whether the database belongs to the keys; raise ValueError at once, before anything is asked for, where it belongs to others."""
    store = open_store(leaving.database)
    try:
        return fingerprint.refuse_others(store, leaving.keys)
    finally:
        store.close()


def _are_accepted(leaving: Leaving) -> bool:
    """Whether the API does not refuse the keys: an import would bind the database to them. Without an answer nobody knows."""
    remote = leaving.make_remote()
    try:
        remote.get("/schemas")
    except NotUsable as error:
        if error.code == 401:
            leaving.say(f"failed: {error}")
            return False
    except RemoteError:
        pass  # the pull tells it
    finally:
        remote.close()
    return True


def _named(export: Path) -> list[str | int]:
    """What tells one file of --export from another."""
    found = export.stat()
    return [str(export.resolve()), found.st_size, found.st_mtime_ns]


def _say_refused(leaving: Leaving) -> bool:
    """Tell what the import of this run or an earlier one refused and is not here yet; return whether there is any."""
    state = leaving.state()
    refused = [(left, path) for number, path in state.get("refused", ()) if (left := _left(leaving, number, path))]
    unread = state.get("unread", ())
    for number, path in refused:
        leaving.say(f"{number} rows were refused, with their reasons in {path}: mend and import them, or see import --repair")
    for text in unread:
        leaving.say(f"a file of the export was not read: {text}: mend and import it by itself")
    return bool(refused or unread)


def _left(leaving: Leaving, number: int, path: str) -> int:
    """How many of `number` refused rows, kept in a file, are not here: they may have come by another way.

    The file may also list rows that a repair brought. These are here.
    """
    if number > MAX_LOOKED_FOR or not Path(path).exists():
        return number
    missing, store = 0, open_store(leaving.database)
    try:
        with open(path, "rb") as lines:
            for line in lines:
                one = json.loads(line) if mended_rows.is_one(line) else {}
                missing += not store.read(lambda transaction: _is_here(transaction, one))  # noqa: B023 it runs at once
                if missing == number:
                    break
    finally:
        store.close()
    return missing


def _is_here(transaction: Transaction, refused: Document) -> bool:
    """Whether a refused row is stored, by its id: as it was or newer."""
    text = str(refused.get("row"))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        found = KEY.findall(text)
        document = dict(found) if len(found) == len(dict(found)) else {}  # else nothing tells which is the row's own
    object_id = document.get("objectId") if isinstance(document, dict) else None
    row = transaction.get(refused["class"], object_id) if isinstance(object_id, str) and object_id else None
    if row is None:
        return False
    time_of = document.get("updatedAt") or document.get("createdAt")
    try:
        updated = values.parse_time(time_of.get("iso") if isinstance(time_of, dict) else time_of)
    except (ValueError, OverflowError):
        updated = None
    if refused["reason"] in duplicates.REASONS:
        return updated is not None and row.updated > updated
    return updated is None or row.updated >= updated


def _say_steps(leaving: Leaving, state: Document, export: Path | None) -> None:
    done = 3 if state.get("is_imported") else 1 if state.get("export") else 0
    if export is not None and done < 2:
        done = 2
    if done:
        leaving.say(f"done before: {', '.join(STEPS[:done])}")
    leaving.say(f"left: {', '.join(STEPS[done:])}")


def _fetched(leaving: Leaving, export_id: str | None, email: str | None) -> Path | None:
    """The export's file; None where it could not be had, which was told."""
    remote, store = leaving.make_remote(), open_store(leaving.database)
    budget = Budget(store, f"calls:{remote.source_id}", leaving.wishes.max_calls, leaving.wishes.is_patient, leaving.say, remote.clock)
    remote.before_call, remote.say = budget.take, leaving.say
    is_linked = False
    try:
        if export_id is None:
            leaving.say(f"step 1 of 4: {STEPS[0]}")
            export_id = _asked(remote, email)
            leaving.save(export=export_id, is_imported=False)
        leaving.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = leaving.folder / f"export-{export_id}.tar.gz"
        if not path.exists():
            leaving.say(f"step 2 of 4: {STEPS[1]} ({export_id})")
            url = _finished(remote, export_id, leaving.say)
            is_linked = True
            _download(remote, path, url)
        return path
    except _NoSuchExport as error:
        leaving.save(export=None)
        leaving.say(f"failed: {error}: run the same command again, it asks for a new one, or {BY_HAND}")
    except (OutOfCalls, NotUsable) as error:
        leaving.say(f"failed: {error}")
    except RemoteError as error:
        if is_linked and error.code is not None:  # the link is too old
            leaving.save(export=None)
        leaving.say(f"failed: the export: {error}: run the same command again, or {BY_HAND}")
    finally:
        budget.close()
        remote.close()
        store.close()
    return None


def _download(remote: Remote, path: Path, url: str) -> None:
    """Download the export; where it breaks off, go on from there."""
    for attempt in range(DOWNLOADS):
        try:
            return remote.download_to(path, url)
        except Unreachable:
            raise
        except RemoteError as error:
            if error.code is not None or attempt == DOWNLOADS - 1:
                raise
            remote.wait(attempt)


class _NoSuchExport(Exception):
    """The export that was asked for will not come; the text says why."""


def _asked(remote: Remote, email: str | None) -> str:
    found = remote.post("/exportData", {"email": email} if email else {})
    export_id = found.get("id")
    if not isinstance(export_id, str) or not export_id.isalnum() or not export_id.isascii() or len(export_id) > 100:
        raise RemoteError("the answer to POST /exportData names no export")
    return export_id


def _finished(remote: Remote, export_id: str, say: Callable[[str], object]) -> str:
    """Wait until the export is made; return its URL."""
    wait, began, without_link = float(FIRST_POLL), time.monotonic(), 0
    for _ in range(MAX_POLLS):
        try:
            found = remote.get(f"/exportData/{export_id}")
        except RemoteError as error:
            if error.code in (1, 101, 404):
                raise _NoSuchExport("LeanCloud knows that export no more") from None
            raise
        url = found.get("download_url")
        if isinstance(url, str) and url:
            return url
        status = found.get("status")
        if status not in UNDER_WAY:
            raise _NoSuchExport(f"LeanCloud did not make that export, its status is {printable(str(status))}")
        without_link += status == "done"
        if without_link == MAX_WITHOUT_LINK:
            raise _NoSuchExport("LeanCloud says that the export is done, and not where it is")
        say(f"LeanCloud is making the export ({time.monotonic() - began:.0f} s so far)")
        remote.clock.sleep(wait)
        wait = min(wait * 1.5, LONGEST_POLL)
    raise RemoteError("the export is not ready after more than a day")


def _import(leaving: Leaving, path: Path, export: Path | None) -> int:
    """Import the export, which may be one that was named; our own that is damaged is thrown away, and fetched anew."""
    leaving.say(f"step 3 of 4: {STEPS[2]}: {printable(str(path))}")
    report = leaving.make_report()
    code = importer.run([path], leaving.database, leaving.keys, "", report=report, wishes=leaving.wishes)
    has_nothing = bool(report.broken) and not report.tallies and not report.declared
    if not has_nothing and not any(_is_damage(text) for text in report.broken):
        leaving.remember(report)
        leaving.save(is_imported=True, named=_named(export) if export else None)
    elif export:
        leaving.say(f"{printable(str(path))} is damaged, or no export: download it again, then run the same command again")
    else:
        path.unlink(missing_ok=True)
        leaving.say(f"the export is damaged: run the same command again, it is fetched anew, or {BY_HAND}")
    return code


def _is_damage(text: str) -> bool:
    return any(part in text for part in ("ends too early", "is damaged", "what a server answered"))
