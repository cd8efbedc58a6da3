"""A raw row of an export as what is stored: a row, and beside it what users, roles and files keep in records.

Nothing here needs a database, so that it can run in other processes. A row is taken whole or refused with a reason;
reasons never quote a value, because rows hold secrets.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import TypedDict

from leanwsgi import messages
from leanstorage.rules import acl, passwords, phones, values
from leanstorage.rules.write import MAX_OBJECT_BYTES
from leanstorage.rules.errors import StorageError
from leanstorage.store import Document, Json, Rights, canonical_text, now
from leanstorage.takeout import inboxes, mongo_json, repair, rewrites
from leanstorage.takeout.raw_rows import Batch
from leanstorage.takeout.repair import Moved
from leanstorage.takeout.rewrites import Rewrites
from leanstorage.resources.third_parties import identity_of, unique_key
from leanstorage.resources.names import UNIQUE


PRIVATE_KEYS = ("password", "salt", "bcryptPassword", "scryptPassword", "sessionToken")
SCRYPT_TEXT = re.compile(r"([0-9a-f]{32})\$([0-9a-f]{128})")
LEANCLOUD_HASH = re.compile(r"[A-Za-z0-9+/]{86}==")
MAX_TOKEN = 200  # characters, as many as a session may have
_UNIQUE: dict[str, Collection[str]] = {"_User": UNIQUE, "_Role": ("name",)}
_SKIPPED = frozenset(["objectId", "createdAt", "updatedAt", "ACL", "className", "__type"])
_SIMPLE: dict[type, str] = {str: "String", bool: "Boolean", int: "Number", float: "Number", list: "Array"}


_SECRETS = frozenset(["password", "salt", "sessionToken"])
# What answers of servers have in them: (all of these keys, and none but those).
_ANSWERS = (
    (frozenset(["code", "error"]), frozenset(["code", "error", "rawMessage"])),
    (frozenset(["errno", "errmsg"]), frozenset(["errno", "errmsg", "data"])),
    (frozenset(["results"]), frozenset(["results", "count", "cursor", "className"])),
)
MAX_WRAPPINGS = 4  # objects within each other around rows
NOT_JSON = "not valid JSON"  # as a refused row's reason


class Refused(Exception):
    """A row that cannot be stored; the text is the reason."""


Record = tuple[str, str, Document]  # kind, key, document
Unique = tuple[str, str, str]  # kind and key of a record that only one object may have, and the field it comes from


class Extra(TypedDict):
    """What is kept in records beside a row."""

    unique: list[Unique]
    records: list[Record]


Stored = tuple[str, int, int, Rights | None, str]  # id, created and updated in ms, ACL, body as canonical text
Entry = tuple[int, Stored, Extra | None]  # the first is the index in the batch
Column = tuple[str, str, str | None]  # key, type name, class name


@dataclass
class Prepared:
    """A converted batch: its `rows`, the `pairs` of a relation or `lines` of inboxes, and what was refused.

    An index is that in the batch.
    """

    rows: list[Entry] = field(default_factory=list)
    pairs: list[tuple[int, tuple[str, str]]] = field(default_factory=list)  # index, (owning id, related id)
    lines: list[tuple[int, Document]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)  # index, reason
    types: set[Column] = field(default_factory=set)  # of all rows together
    undated: set[int] = field(default_factory=set)  # indices of rows that do not say when they were changed
    newest: int = 0  # greatest `updatedAt` of the rows, in ms
    is_repairing: bool = False  # as the Job
    moved: list[tuple[int, Moved]] = field(default_factory=list)  # index, what was moved aside
    notes: dict[int, list[str]] = field(default_factory=dict)  # by index, what the operator should hear of

    def note(self, index: int, text: str) -> None:
        self.notes.setdefault(index, []).append(text)


@dataclass(frozen=True)
class Job:
    """What a whole file's rows share."""

    class_name: str
    kind: str  # "rows", "relation" or "inboxes"
    encoding: str  # "json" or "bson"
    secret: bytes  # of session tokens
    rotate_sessions: bool = False
    dates: frozenset[str] = frozenset()  # keys whose texts are dates
    is_repairing: bool = False  # moves aside what cannot be held
    rewrites: Rewrites = Rewrites()
    is_live: bool = False  # rows of the API, which never shows what users log in with


def convert(job: Job, batch: Batch) -> Prepared:
    """The Prepared of a batch; what is wrong with a row is a reason in it and raises nothing."""
    prepared = Prepared(is_repairing=job.is_repairing)
    for index, (_, data) in enumerate(batch.rows):
        try:
            document = _decoded(job, data, prepared, index)
            if job.kind == "relation":
                prepared.pairs.append((index, _pair(document)))
            elif job.kind == "inboxes":
                if not inboxes.is_row(document):
                    raise Refused("not a line of an inbox, nor a counter")
                prepared.lines.append((index, document))
            else:
                for key in job.dates & document.keys():
                    if isinstance(document[key], str):
                        document[key] = {"__type": "Date", "iso": document[key]}
                prepared.rows.append((index, *_row(job, document, prepared, index, batch.first + index)))
        except Refused as error:
            prepared.refused.append((index, str(error)))
        except StorageError as error:
            prepared.refused.append((index, error.message))
        except RecursionError:
            prepared.refused.append((index, "nested too deep"))
    return prepared


def _decoded(job: Job, data: bytes, prepared: Prepared, index: int) -> Document:
    """A raw row as a dict, without what a repair moves aside; raise Refused."""
    try:
        document = decode(data, job.encoding, job.is_repairing and job.kind == "rows")
    except Refused:
        found = repair.parse(data) if job.is_repairing and job.encoding == "json" else None
        if found is None:
            raise
        document = found
    if job.kind == "rows" and not job.is_live:
        document = _as_row(job, document)
    if job.is_repairing and job.kind == "rows":
        prepared.moved += [(index, one) for one in repair.heal(document)]
    return document


def _as_row(job: Job, document: Document) -> Document:
    """A document with an objectId if it brings one; raise Refused for what is no row at all, or of another class than it says."""
    if mongo_json.is_row(document):
        document = mongo_json.plain(document)
    keys = document.keys()
    if job.class_name != "_User" and keys >= _SECRETS:
        raise Refused("the secrets of a user in a class that clients can read: these rows are of the class _User")
    if "objectId" in keys:
        return document
    if not document:
        raise Refused("an empty object")
    if any(needed <= keys <= known for needed, known in _ANSWERS):
        raise Refused("what a server answered, and no row")
    if _holds_rows(document) or all(map(_is_list_of_objects, document.values())):
        raise Refused("rows within an object that is none: take them out, into an array of their own")
    return document


def _holds_rows(value: Json, level: int = 0) -> bool:
    """Whether there are rows in an object: in arrays, by number or by name."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, dict) and "objectId" in one and "createdAt" in one for one in value)
    if not isinstance(value, dict) or level > MAX_WRAPPINGS:
        return False
    return _holds_rows(list(value.values())) or any(_holds_rows(one, level + 1) for one in value.values())


def _is_list_of_objects(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def decode(data: bytes, encoding: str, is_repairing: bool = False) -> Document:
    """A raw row in "json" or "bson" as a dict, with odd values that a repair then moves aside; raise Refused."""
    if encoding == "bson":
        from leanstorage.takeout.bson_rows import decode_bson

        return decode_bson(data, is_repairing)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("not UTF-8: if all of the file is in another encoding, such as GBK or Big5, convert it with iconv") from None
    try:
        document = messages.parse_json(text)
    except messages.HTTPError as error:
        reason = error.message.removeprefix("the body is ").removeprefix("the JSON ")
        raise Refused(reason) from None
    if not isinstance(document, dict):
        raise Refused("not an object")
    return document


def _pair(document: Document) -> tuple[str, str]:
    return values.check_object_id(document.get("owningId")), values.check_object_id(document.get("relatedId"))


def _row(
    job: Job, document: Document, prepared: Prepared, index: int, ordinal: int
) -> tuple[Stored, Extra | None]:
    object_id = _object_id(job, document, prepared, index, ordinal)
    created, updated = _times(document, prepared, index)
    rights = document.get("ACL")
    rights = None if rights is None else acl.normalise(rights)
    if job.class_name == "_Role" and "ACL" not in document:
        rights = {"*": {"read": True}}
        prepared.note(index, "roles without ACL, which only the master key may change now")
    extra: Extra | None = None
    if job.class_name == "_User":
        document, extra = _user(job, object_id, updated, document, partial(prepared.note, index))
    elif job.class_name == "_Role":
        extra = _role(document)
    elif job.class_name == "_File":
        extra = _file(object_id, document, partial(prepared.note, index))
    types = prepared.types
    body: Document = {}
    found: list[Column] = []
    for key, value in document.items():
        if key in _SKIPPED:
            continue
        if not values.STORED_KEY.fullmatch(key) or len(key) > 200:
            raise Refused("a key that is not letters, digits and _")
        if value is not None:
            value = values.normalise(value)
            kind = _SIMPLE.get(type(value))
            if kind is not None:
                found.append((key, kind, None))
            else:
                kind = value.get("__type", "Object")
                found.append((key, kind, value.get("className") if kind in ("Pointer", "Relation") else None))
                if kind == "Relation":
                    continue  # a stub declares the column and is no part of the row
        body[key] = value
    text = canonical_text(body)
    if len(text) * 4 > MAX_OBJECT_BYTES and len(text.encode("utf-8")) > MAX_OBJECT_BYTES:
        raise Refused(f"the object is larger than {MAX_OBJECT_BYTES} bytes")
    types.update(found)
    if job.rewrites.pairs:
        text, number = job.rewrites.apply(text)
        if number:
            prepared.note(index, rewrites.NOTE)
    if "error" in body:
        prepared.note(index, "rows with a field 'error', which the Python SDK takes for failures")
    return (object_id, created, updated, rights, text), extra


def _object_id(job: Job, document: Document, prepared: Prepared, index: int, ordinal: int) -> str:
    object_id = document.get("objectId")
    if object_id is None and job.is_live:
        raise Refused("it has no objectId")
    if object_id is None:
        # An id of the content and its place, so that a second import finds the row again.
        text = f"{job.class_name}:{ordinal}:{canonical_text(document)}"
        object_id = hashlib.sha256(text.encode("utf-8")).hexdigest()[:24]
        prepared.note(index, "rows without objectId, which were given one")
    return values.check_object_id(object_id)


def _times(document: Document, prepared: Prepared, index: int) -> tuple[int, int]:
    """When a row was made and changed, in ms."""
    created = _time(document, "createdAt")
    updated = _time(document, "updatedAt")
    if created is None:
        if updated is None:
            prepared.undated.add(index)
        created = now() if updated is None else updated
    updated = created if updated is None else updated
    if updated > prepared.newest and index not in prepared.undated:
        prepared.newest = updated
    return created, updated


def _time(document: Document, key: str) -> int | None:
    value = document.get(key)
    if isinstance(value, dict) and value.get("__type") == "Date":
        value = value.get("iso")
    if value is None:
        return None
    try:
        return values.parse_time(value)
    except (ValueError, OverflowError):
        raise Refused(f"{key} is not a time") from None


def unique_names(class_name: str, document: Document) -> list[Unique]:
    """The records that keep an object's names and accounts from being taken twice."""
    found = []
    for name in _UNIQUE.get(class_name, ()):
        value = document.get(name)
        if isinstance(value, str) and value:
            value = phones.compact(value) if name == phones.FIELD else value
            found.append((f"unique:{class_name}:{name}", unique_key(value), name))
    auth_data = document.get("authData") if class_name == "_User" else None
    for provider, data in auth_data.items() if isinstance(auth_data, dict) else ():
        identity = identity_of(data)
        if identity is not None:
            found.append((f"auth:{provider}", unique_key(identity), f"authData.{provider}"))
    return found


def _user(
    job: Job, user_id: str, updated: int, document: Document, note: Callable[[str], None]
) -> tuple[Document, Extra]:
    """A user's fields without its secrets, and its records; the marks in these are explained in `credentials`."""
    private = {key: document[key] for key in PRIVATE_KEYS if document.get(key) is not None}
    document = {key: value for key, value in document.items() if key not in PRIVATE_KEYS}
    unique = unique_names("_User", document)
    credential: Document = {}
    auth_data = document.get("authData")
    for provider, data in auth_data.items() if isinstance(auth_data, dict) else ():
        if data is not None and identity_of(data) is None:
            note(f"users whose {provider[:50]} account has no id: they cannot log in with it")
        elif data is not None and provider != "anonymous":
            # LeanCloud checked only the providers that it knew, this server checks none.
            note(f"users with a {provider[:50]} account, which was never verified here")
    password = _password(private)
    if password:
        credential["password"] = {**password, "is_imported": True}
        if password["scheme"] == "leancloud" and not LEANCLOUD_HASH.fullmatch(password["hash"]):
            note("users whose password is not a hash of LeanCloud's: they have to reset it")
        elif password["scheme"] == "bcrypt":
            note("users whose password is a bcrypt hash: they can log in once bcrypt is installed (pip install bcrypt)")
    elif not job.is_live and not (isinstance(auth_data, dict) and any(auth_data.values())):
        note("users without a password hash: they have to reset their password")
    if not job.is_live and not document.get("username"):
        note("users without a username")
    token = private.get("sessionToken")
    if token is not None and not job.rotate_sessions:
        if isinstance(token, str) and 0 < len(token) <= MAX_TOKEN:
            credential["token"] = {**passwords.seal_token(job.secret, token), "is_imported": True}
            unique.append(("session", passwords.token_lookup(job.secret, token), "sessionToken"))
        else:
            note("users whose session is no text of a usable length: they have to log in anew")
    records: list[Record] = [("credential", user_id, {**credential, "imported": updated})] if credential else []
    return document, {"unique": unique, "records": records}


def _password(private: Document) -> Document | None:
    for key, value in private.items():
        if key != "sessionToken" and not isinstance(value, str):
            raise Refused(f"{key} is not a text")
    if private.get("scryptPassword"):
        found = SCRYPT_TEXT.fullmatch(private["scryptPassword"])
        if not found:
            raise Refused("scryptPassword is not SALT$HASH in hex")
        return {"scheme": "scrypt", "salt": found.group(1), "hash": found.group(2)}
    stored = private.get("bcryptPassword") or private.get("password")
    return passwords.legacy_record(stored, private.get("salt", "")) if stored else None


def _role(document: Document) -> Extra:
    if not isinstance(document.get("name"), str) or not document["name"]:
        raise Refused("a role without a name")
    return {"unique": unique_names("_Role", document), "records": []}


def _file(file_id: str, document: Document, note: Callable[[str], None]) -> Extra | None:
    """Two files may share one key, which LeanCloud allowed: its bytes are served either way."""
    key = document.get("key")
    if not key and not document.get("url"):
        note("files without key and url: nothing tells where their bytes are")
    if key is None:
        return None
    if not isinstance(key, str) or not key:
        raise Refused("the key of the file is not a text")
    return {"unique": [], "records": [("file", key, {"id": file_id})]}


def as_bytes(data: bytes) -> Document:
    """Bytes as a value of JSON."""
    return {"__type": "Bytes", "base64": base64.b64encode(data).decode()}
