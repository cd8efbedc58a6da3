"""Running statements, and records beside the objects: documents by kind and key, some of which expire."""
import json
from collections.abc import Iterable, Sequence
from typing import Any

from leanstorage.store import Json, canonical_text, now
from leanstorage.store.compiler import Compiler
from leanstorage.store.fragments import bind, build

LAST = chr(0x10FFFF)  # behind every character that a key has


class Records:
    """The contract's methods for records; a database adds how statements are run and its dialect of JSON."""

    compiler: "type[Compiler]"  # the dialect's
    # Documents pass through these two, because a driver may decode JSON by itself.
    encode = staticmethod(canonical_text)  # so that equal values are equal texts
    decode = staticmethod(json.loads)

    def execute(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement with `?` for parameters; return its rows as a list of tuples."""
        raise NotImplementedError

    def execute_once(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The same, for a statement whose text was put together for a query of a client."""
        return self.execute(text, params)

    def change(self, text: str, params: Sequence[Any] = ()) -> int:
        """Run a statement; return the number of rows that it changed."""
        raise NotImplementedError

    def change_late(self, text: str, params: Sequence[Any]) -> None:
        """As `change`, but at any time before the next statement or the end, where its errors are raised, too."""
        self.change(text, params)

    def change_many(self, text: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement once for each tuple of parameters; return the number of rows changed in all."""
        return sum(self.change(text, params) for params in rows)

    def for_update(self, lock: bool) -> str:
        """The clause that keeps other writers away from the selected row, where a database has one."""
        return ""

    def encode_names(self, names: list[str]) -> str | list[str]:
        """A list of names as the `readers` column holds it."""
        return canonical_text(names)

    def record(self, kind: str, key: str, lock: bool = False) -> Json:
        """The document of (kind, key), or None; an expired one is gone."""
        found = self.execute(
            "SELECT value FROM records WHERE kind = ? AND key = ? AND (expires IS NULL OR expires > ?)"
            + self.for_update(lock),
            [kind, key, now()],
        )
        return self.decode(found[0][0]) if found else None

    def add_record(self, kind: str, key: str, value: Json, expires: int | None = None) -> bool:
        """Store a document unless there is one; return whether it was stored. `expires` in ms."""
        self.change(
            "DELETE FROM records WHERE kind = ? AND key = ? AND expires <= ?", [kind, key, now()]
        )
        return bool(
            self.change(
                "INSERT INTO records (kind, key, value, expires) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (kind, key) DO NOTHING",
                [kind, key, self.encode(value), expires],
            )
        )

    def records_of(self, kind: str, keys: Iterable[str]) -> dict[str, Json]:
        """{key: document} of those that exist and are not expired."""
        text, params = build(
            "SELECT key, value FROM records WHERE kind = {} AND key IN {} AND (expires IS NULL OR expires > {})",
            bind(kind),
            self.compiler.text_list(sorted(set(keys))),
            bind(now()),
        )
        return {key: self.decode(value) for key, value in self.execute(text, params)}

    def first_records(self, kind: str, limit: int) -> list[tuple[str, Json]]:
        """[(key, document)] of the first of a kind, by key."""
        found = self.execute("SELECT key, value FROM records WHERE kind = ? ORDER BY key LIMIT ?", [kind, limit])
        return [(key, self.decode(value)) for key, value in found]

    def put_records(self, records: Iterable[Sequence[Any]]) -> None:
        """Store (kind, key, document, expires) tuples over what was there; those without `expires` never expire."""
        self.change_many(
            "INSERT INTO records (kind, key, value, expires) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
            [(kind, key, self.encode(value), *(expires or [None])) for kind, key, value, *expires in records],
        )

    def all_records(self, after: Sequence[str], limit: int) -> list[tuple[str, str, Json, int | None]]:
        """(kind, key, document, expires) in order, expired ones too, those behind a (kind, key)."""
        found = self.execute(
            "SELECT kind, key, value, expires FROM records WHERE (kind, key) > (?, ?) ORDER BY kind, key LIMIT ?",
            [*after, limit],
        )
        return [(kind, key, self.decode(value), expires) for kind, key, value, expires in found]

    def put_record(self, kind: str, key: str, value: Json, expires: int | None = None) -> None:
        """Store a document over what was there. `expires` in ms; without it, it never does."""
        self.change(
            "INSERT INTO records (kind, key, value, expires) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
            [kind, key, self.encode(value), expires],
        )

    def delete_record(self, kind: str, key: str) -> bool:
        """Delete a document; return whether it was there."""
        return bool(self.change("DELETE FROM records WHERE kind = ? AND key = ?", [kind, key]))

    def records(self, kind: str, prefix: str = "") -> list[tuple[str, Json]]:
        """[(key, document)] of a kind whose key begins with `prefix`, by key."""
        found = self.execute(
            "SELECT key, value FROM records WHERE kind = ? AND key >= ? AND key < ? AND (expires IS NULL OR expires > ?) "
            "ORDER BY key",
            [kind, prefix, prefix + LAST, now()],
        )
        return [(key, self.decode(value)) for key, value in found if key.startswith(prefix)]

    def record_page(
        self, kind: str, after: str, limit: int, before: str = "", is_descending: bool = False
    ) -> list[tuple[str, Json]]:
        """[(key, document)] of a kind, the first by key of those behind `after` and before `before`, or the last ones."""
        bounds, params = (" AND key < ?", [before]) if before else ("", [])
        found = self.execute(
            f"SELECT key, value FROM records WHERE kind = ? AND key > ?{bounds} AND (expires IS NULL OR expires > ?) "
            f"ORDER BY key{' DESC' if is_descending else ''} LIMIT ?",
            [kind, after, *params, now(), limit],
        )
        return [(key, self.decode(value)) for key, value in found]

    def count_records(self, kind: str) -> int:
        """How many documents of a kind there are."""
        found = self.execute("SELECT count(*) FROM records WHERE kind = ? AND (expires IS NULL OR expires > ?)", [kind, now()])
        return int(found[0][0])

    def expired_records(self, kind: str, limit: int = 100) -> list[tuple[str, Json]]:
        """[(key, document)] of a kind whose time has come."""
        found = self.execute(
            "SELECT key, value FROM records WHERE kind = ? AND expires <= ? LIMIT ?", [kind, now(), limit]
        )
        return [(key, self.decode(value)) for key, value in found]

    def delete_expired(self, but: str, limit: int) -> int:
        """Delete records whose time has come, of every kind `but` one; return how many."""
        return self.change(
            "DELETE FROM records WHERE (kind, key) IN "
            "(SELECT kind, key FROM records WHERE expires <= ? AND kind <> ? LIMIT ?)",
            [now(), but, limit],
        )
