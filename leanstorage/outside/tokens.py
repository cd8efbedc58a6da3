"""Signed tokens: Apple's, and those of any OpenID Connect provider, checked against the provider's own keys."""
import threading
import time
from collections.abc import Callable, Sequence

try:
    import jwt
except ImportError:
    raise ValueError("--auth-provider: signed tokens need PyJWT: pip install 'pyjwt[crypto]'") from None

from leanstorage.outside.ask import CannotAsk, ask, checked_url
from leanstorage.outside.providers import NotTheirs, OPTION, Provider, text_of
from leanstorage.store import Document

KEYS_SECONDS = 3600  # that keys are used for
RENEW_SECONDS = 60  # between two looks for a key that is unknown: anybody can make one up
PAUSE_SECONDS = 5  # before an issuer that did not answer is asked again: others wait for it meanwhile
LEEWAY_SECONDS = 30
MAX_TOKEN = 4000
# Only those by which nobody but the provider can sign.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
TOKENS = ("identity_token", "id_token")  # where authData holds one


def token_check(kind: str, base: str, ids: Sequence[str]) -> Callable[[Provider, Document], Document]:
    """The check of a provider: Apple's keys and issuer are known, others say theirs."""
    keys = Keys(base, kind == "apple")

    def check(provider: Provider, data: Document) -> Document:
        token = next((data[name] for name in TOKENS if data.get(name)), None)
        if not isinstance(token, str) or len(token) > MAX_TOKEN:
            raise NotTheirs
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(
                token,
                keys.key(header.get("kid")),
                algorithms=ALGORITHMS,
                audience=list(ids),
                issuer=base,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            raise NotTheirs from None
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") not in ids:
            raise NotTheirs
        return {"uid": text_of(claims, "sub")}

    return check


class Keys:
    """The keys of an issuer, fetched when they are needed and kept for an hour."""

    def __init__(self, base: str, is_apple: bool) -> None:
        self._base, self._url = base, f"{base}/auth/keys" if is_apple else ""
        self._lock = threading.Lock()
        self._keys: list[jwt.PyJWK] = []
        self._asked = self._failed = -float(KEYS_SECONDS)  # when, by time.monotonic

    def key(self, key_id: object) -> jwt.PyJWK:
        """The key of that id, or the only one; raise NotTheirs or CannotAsk."""
        with self._lock:
            age = time.monotonic() - self._asked
            found = self._found(key_id)
            if age > KEYS_SECONDS or found is None and age > RENEW_SECONDS:
                self._renew()
                found = self._found(key_id)
        if found is None:
            raise NotTheirs
        return found

    def _renew(self) -> None:
        if time.monotonic() - self._failed < PAUSE_SECONDS:
            raise CannotAsk("its keys could not be fetched a moment ago")
        try:
            self._keys = self._fetched()
        except CannotAsk:
            self._failed = time.monotonic()
            raise
        self._asked = time.monotonic()

    def _found(self, key_id: object) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if key.key_id == key_id] if key_id is not None else self._keys
        return fitting[0] if len(fitting) == 1 else None

    def _fetched(self) -> list[jwt.PyJWK]:
        if not self._url:
            described = ask(f"{self._base}/.well-known/openid-configuration")
            url = described.get("jwks_uri")
            if described.get("issuer") != self._base or not isinstance(url, str):
                raise CannotAsk("its configuration is not that of this issuer")
            try:
                self._url = checked_url(url, OPTION)
            except ValueError:
                raise CannotAsk("its keys lie at no https address") from None
        try:
            return [key for key in jwt.PyJWKSet.from_dict(ask(self._url)).keys if key.public_key_use in (None, "sig")]
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
            raise CannotAsk("its keys cannot be read") from None
