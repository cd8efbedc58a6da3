"""Passwords and session tokens: how they are kept, checked and made. Protocol sections 5.3 and 9.2.

A password is kept as scrypt; LeanCloud's own hash (513 rounds of SHA-512) and bcrypt rows are accepted as imported
and replaced at the first login. A session token is shown again at every login, so it is kept encrypted with a one-time
key, next to a keyed hash for look-ups: a stolen database opens no session.
"""
import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping

from leanstorage.store import Document

TOKEN_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
TOKEN_LENGTH = 25  # characters of the alphabet: 129 bits
SCRYPT = {"n": 2**14, "r": 8, "p": 1}  # 16 MiB and some 50 ms per guess
LEGACY_ROUNDS = 512  # beyond the first


def hash_password(password: str) -> Document:
    """A new hash as a record: `{"scheme": "scrypt", "salt": hex, "hash": hex}`."""
    salt = secrets.token_bytes(16)
    return {"scheme": "scrypt", "salt": salt.hex(), "hash": _scrypt(password, salt).hex()}


def legacy_record(stored: str, salt: str) -> Document:
    """The record of an imported `password` and `salt`; `bcrypt` hashes are told by their `$2` prefix."""
    if stored.startswith("$2"):
        return {"scheme": "bcrypt", "hash": stored}
    return {"scheme": "leancloud", "salt": salt, "hash": stored}


def verify(record: Document | None, password: str) -> bool:
    """Whether `password` is the one of `record`, compared in constant time. None never matches, and takes as long."""
    if record is None:
        _scrypt(password, b"nobody has this salt")
        return False
    if record["scheme"] == "scrypt":
        return hmac.compare_digest(_scrypt(password, bytes.fromhex(record["salt"])).hex(), record["hash"])
    if record["scheme"] == "bcrypt":
        return _verify_bcrypt(record["hash"], password)
    return hmac.compare_digest(legacy_hash(password, record["salt"]).encode(), record["hash"].encode())


def legacy_hash(password: str, salt: str) -> str:
    """LeanCloud's hash: SHA-512 over salt and password, then 512 rounds more, in base64."""
    digest = hashlib.sha512(salt.encode() + password.encode()).digest()
    for _ in range(LEGACY_ROUNDS):
        digest = hashlib.sha512(digest).digest()
    return base64.b64encode(digest).decode()


def new_token() -> str:
    """A session token in LeanCloud's shape."""
    return "".join(secrets.choice(TOKEN_ALPHABET) for _ in range(TOKEN_LENGTH))


def token_secret(keys: Mapping[str, str]) -> bytes:
    """The secret that session tokens are kept under, derived from the master key of the app's `keys`."""
    return hmac.new(keys["master_key"].encode(), b"leanstorage session tokens", hashlib.sha256).digest()


def token_lookup(secret: bytes, token: str) -> str:
    """The keyed hash by which a token is found, in hex."""
    return hmac.new(secret, b"lookup:" + token.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def seal_token(secret: bytes, token: str) -> Document:
    """A token as `{"nonce": hex, "sealed": hex}`: XOR with a key of its own, since the nonce is never used twice."""
    nonce = secrets.token_bytes(16)
    data = token.encode()
    return {"nonce": nonce.hex(), "sealed": _xor(data, _stream(secret, nonce, len(data))).hex()}


def open_token(secret: bytes, sealed: Document) -> str:
    """The token of seal_token."""
    data = bytes.fromhex(sealed["sealed"])
    return _xor(data, _stream(secret, bytes.fromhex(sealed["nonce"]), len(data))).decode()


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8"), salt=salt, **SCRYPT)


def _stream(secret: bytes, nonce: bytes, length: int) -> bytes:
    blocks = (hmac.new(secret, b"seal:%d:" % i + nonce, hashlib.sha512).digest() for i in range(length // 64 + 1))
    return b"".join(blocks)[:length]


def _xor(data: bytes, key: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(data, key))


def _verify_bcrypt(stored: str, password: str) -> bool:
    try:
        import bcrypt  # an optional package: only imports of apps that brought bcrypt hashes along need it
    except ImportError:
        return False
    try:
        is_right: bool = bcrypt.checkpw(password.encode()[:72], stored.encode())
    except ValueError:  # what was imported only begins like a hash
        return False
    return is_right
