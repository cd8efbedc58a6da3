"""`export DIR`: everything in the store as the JSON Lines that `import` reads, so that nobody is locked in here, either.

For each class `<Class>.0.jsonl` and `<Class>_schema.json` (columns, permissions, default ACL, indexes), for each relation
column `_Join.<key>.<Class>.0.jsonl`, for the inboxes of statuses `_Inbox.0.jsonl`.
Files are readable by their owner alone: they hold password hashes and session tokens, as a console export does.
"""

import hashlib
import json
import os
import sys
import time
from itertools import chain
from pathlib import Path
from typing import TextIO

from leanstorage.rules import acl, classes, fingerprint, passwords
from leanstorage.store import canonical_text, Document, open_store, Row, Store, Transaction
from leanstorage.takeout import inboxes
from leanstorage.takeout.report import PLAIN_SECONDS, peak_memory
from leanstorage.rules.values import format_time


PAGE_ROWS = 1000


def run(
    folder: str | Path, database: str, keys: dict[str, str], out: TextIO | None = None, stream: TextIO | None = None
) -> int:
    """Write the whole store to an empty folder; return the exit code.

    Raises FileExistsError for a folder in use, ValueError for a store of other keys, and for one without any class, which is surely the wrong one.

    `keys` are those of the service; counts and digests go to `out`, progress to `stream`.
    """
    out, stream = out or sys.stdout, stream or sys.stderr
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    started = time.monotonic()
    store = open_store(database, bulk=True)
    objects = members = 0
    total = Digest()
    try:
        names = store.read(lambda transaction: transaction.class_names())
        if not names:
            raise ValueError("nothing was exported: the database is empty")
        fingerprint.refuse_others(store, keys)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in names:
            info = store.read(lambda transaction: classes.existing(transaction, name))  # noqa: B023 it runs at once
            _write_schema(folder, name, info)
            count, digest = _write_rows(folder, store, name, info, passwords.token_secret(keys), stream)
            print(f"{name}: {count} objects, digest {digest}", file=out)
            objects += count
            total.add(f"{name}:{digest}")
            for key, column in sorted(info["columns"].items()):
                if column["type"] == "Relation":
                    count, digest = _write_relation(folder, store, name, key, column["className"])
                    print(f"{name}.{key}: {count} members, digest {digest}", file=out)
                    members += count
                    total.add(f"{name}.{key}:{digest}")
        count, digest = _write_inboxes(folder, store)
        if count:
            print(f"inboxes: {count} lines and counters, digest {digest}", file=out)
            total.add(f"inboxes:{digest}")
    finally:
        store.close()
    seconds = max(time.monotonic() - started, 0.001)
    print(
        f"exported {objects} objects of {len(names)} classes and {members} members of relations, digest {total};"
        f" {seconds:.1f} s, {objects / seconds:.0f} rows/s, peak memory {peak_memory() / 1e6:.0f} MB",
        file=out,
        flush=True,
    )
    return 0


class Digest:
    """The sum of the SHA-256 of texts: equal for equal sets of rows, whatever their order."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, text: str) -> None:
        self._sum += int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest(), "big")

    def __str__(self) -> str:
        return f"{self._sum % 2**256:064x}"[:32]


def exported(row: Row, stubs: Document, credential: Document | None, secret: bytes) -> Document:
    """One row as a console export has it; `credential` is a user's record or None, `secret` that of its token."""
    document = {
        **row.body,
        **stubs,
        "objectId": row.id,
        "createdAt": format_time(row.created),
        "updatedAt": format_time(row.updated),
        "ACL": acl.PUBLIC if row.acl is None else row.acl,
    }
    if credential:
        document |= _secrets(credential, secret)
    return document


def _secrets(credential: Document, secret: bytes) -> Document:
    found = {}
    password = credential.get("password")
    if password:
        if password["scheme"] == "scrypt":
            found["scryptPassword"] = f"{password['salt']}${password['hash']}"
        elif password["scheme"] == "bcrypt":
            found["bcryptPassword"] = password["hash"]
        else:
            found |= {"password": password["hash"], "salt": password["salt"]}
    if credential.get("token"):
        found["sessionToken"] = passwords.open_token(secret, credential["token"])
    return found


def _write_schema(folder: Path, name: str, info: Document) -> None:
    columns = {**classes.BUILT_IN_COLUMNS, **info["columns"]}
    value = {"schema": columns, "permissions": info["permissions"], "default_acl": info["default_acl"]}
    for key in ("indexes", "unique", "options"):
        if info.get(key):
            value[key] = info[key]
    with _File(folder / f"{name}_schema.json") as file:
        file.write(json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def _write_rows(
    folder: Path, store: Store, name: str, info: Document, secret: bytes, stream: TextIO
) -> tuple[int, Digest]:
    stubs = classes.relations(info)
    digest, count, after, shown = Digest(), 0, (-(2**63), 0), time.monotonic()
    with _File(folder / f"{name}.0.jsonl") as file:
        file.write(_header({"type": "Class", "class": name}))
        while True:
            rows, credentials = store.read(lambda transaction: _page(transaction, name, after))  # noqa: B023
            for row in rows:
                text = canonical_text(exported(row, stubs, credentials.get(row.id), secret))
                digest.add(text)
                file.write(text + "\n")
            count += len(rows)
            if len(rows) < PAGE_ROWS:
                return count, digest
            after = (rows[-1].created, rows[-1].seq)
            if time.monotonic() - shown > PLAIN_SECONDS:
                shown = time.monotonic()
                print(f"{name}: {count} objects", file=stream)


def _page(
    transaction: Transaction, name: str, after: tuple[int, int]
) -> tuple[list[Row], dict[str, Document]]:
    rows = transaction.page(name, after, PAGE_ROWS)
    is_user = name == "_User" and rows
    return rows, transaction.records_of("credential", [row.id for row in rows]) if is_user else {}


def _write_relation(folder: Path, store: Store, name: str, key: str, target_class: str) -> tuple[int, Digest]:
    digest, count, after = Digest(), 0, ("", "", "")
    with _File(folder / f"_Join.{key}.{name}.0.jsonl") as file:
        file.write(_header({"type": "Relation", "class": name, "key": key, "target": target_class}))
        while True:
            pairs = store.read(lambda transaction: transaction.relation_page(name, key, after, PAGE_ROWS))  # noqa: B023
            for owner, _, target in pairs:
                text = canonical_text({"owningId": owner, "relatedId": target})
                digest.add(text)
                file.write(text + "\n")
            count += len(pairs)
            if len(pairs) < PAGE_ROWS:
                return count, digest
            after = pairs[-1]


def _write_inboxes(folder: Path, store: Store) -> tuple[int, Digest]:
    """The file of the statuses' inboxes, where there are any."""
    digest, count = Digest(), 0
    rows = inboxes.rows(store)
    first = next(rows, None)
    if first is None:
        return count, digest
    with _File(folder / inboxes.FILE) as file:
        file.write(_header({"type": inboxes.TYPE}))
        for row in chain([first], rows):
            text = canonical_text(row)
            digest.add(text)
            file.write(text + "\n")
            count += 1
    return count, digest


def _header(value: Document) -> str:
    return f"#filetype:JSON-streaming {json.dumps(value, separators=(',', ':'))}\n"


class _File:
    """A text file for its owner alone, under its name only when it is complete and on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(path.name + ".partial")

    def __enter__(self) -> TextIO:
        descriptor = os.open(self._draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        self._file = open(descriptor, "w", encoding="utf-8", newline="\n")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        if kind is None:
            os.replace(self._draft, self._path)
