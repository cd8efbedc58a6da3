"""The key of a new file: its place in the folder or on S3, and the end of its URL."""
import re
import secrets

from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.passwords import TOKEN_ALPHABET
from leanstorage.store import Document, Json

MAX_KEY = 255  # characters
CLIENT_KEY = re.compile(r"[0-9a-fA-F]{32,40}(\.[A-Za-z0-9]{1,10})?")  # as random as one of ours
EXTENSION = re.compile(r"\.([A-Za-z0-9]{1,10})$")


def new_key(body: Document, name: str, is_master: bool) -> str:
    """The key for a body of /fileTokens: chosen by the master key, else random, below its `prefix`. Raises 1."""
    key: Json = body.get("key")
    if is_master and key is not None:
        if not _is_plain(key):
            raise StorageError(Code.BAD_FILE_KEY)
    elif not isinstance(key, str) or not CLIENT_KEY.fullmatch(key):  # older SDKs make the key, and some do not read ours
        key = _random_key(name, bool(body.get("keep_file_name")))
    prefix = _prefix(body)
    whole: str = f"{prefix}/{key}" if prefix else key
    if not _is_plain(whole):
        raise StorageError(Code.BAD_REQUEST, detail="The prefix of a file must be a short, plain relative path.")
    return whole


def _random_key(name: str, keeps_name: bool) -> str:
    key = "".join(secrets.choice(TOKEN_ALPHABET) for _ in range(32))
    if keeps_name and _is_plain(f"{key}/{name}"):
        return f"{key}/{name}"
    extension = EXTENSION.search(name)
    return key + extension.group(0).lower() if extension else key


def _prefix(body: Document) -> str:
    """The folder that a client asks for, beside its other fields or, as some SDKs do, in the metadata."""
    meta = body.get("metaData")
    prefix = body.get("prefix") or (meta.get("prefix") if isinstance(meta, dict) else None)
    return prefix.strip("/") if isinstance(prefix, str) else ""


def _is_plain(key: Json) -> bool:
    return (
        isinstance(key, str)
        and 0 < len(key) <= MAX_KEY
        and all(part not in ("", ".", "..") for part in key.split("/"))
        and not any(ord(char) < 32 or char in "\\\x7f" for char in key)
    )
