"""Which master key a database belongs to: with another one, nobody could log in and all sessions would end silently."""

import hashlib
import hmac
from collections.abc import Mapping

from leanstorage.store import Store

KIND, KEY = "fingerprint", "master_key"


def check(store: Store, keys: Mapping[str, str]) -> None:
    """Bind a new database to these keys; raise ValueError for one that belongs to others."""
    if refuse_others(store, keys):
        return
    mine = {"fingerprint": of(keys)}
    store.write(lambda transaction: transaction.add_record(KIND, KEY, mine))
    refuse_others(store, keys)  # another process may have been first


def refuse_others(store: Store, keys: Mapping[str, str]) -> bool:
    """Whether a database belongs to these keys, rather than to none yet; raise ValueError for one that belongs to others."""
    known = store.read(lambda transaction: transaction.record(KIND, KEY))
    if known is not None and known["fingerprint"] != of(keys):
        raise ValueError(
            "this database belongs to another master key: set LEANCLOUD_APP_MASTER_KEY and the other keys as before,"
            " or run adopt-keys to go on with these, which ends all sessions"
        )
    return known is not None


def adopt(store: Store, keys: Mapping[str, str]) -> None:
    """Let a database belong to these keys from now on."""
    store.write(lambda transaction: transaction.put_record(KIND, KEY, {"fingerprint": of(keys)}))


def of(keys: Mapping[str, str]) -> str:
    """A text that distinguishes master keys and reveals nothing about them."""
    return hmac.new(keys["master_key"].encode(), b"leanstorage fingerprint", hashlib.sha256).hexdigest()[:32]
