"""Third parties that are asked whether an account is theirs: WeChat, QQ, Weibo, Apple, and any OpenID Connect provider.

A token alone is not enough where its id is the same for all apps: it must also have been made for this app, or whoever
runs another app could log in here as its users.
"""
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from leanstorage.outside.ask import CannotAsk, ask, checked_url
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Json

OPTION = "--auth-provider"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
# Never the client's own word: an id beside the one that was asked for would be taken for it.
SAID_BY_THEM = frozenset(["code", "id", "openid", "uid", "unionid"])
MAX_TEXT = 4000  # characters of a token or code that is passed on
MAX_ASKING = 8  # calls at once: a third party that hangs must not take all threads
QUEUE_SECONDS = 3
SAID_SECONDS = 60
# WeChat's errors that are about us or itself, and not about the user's code or token.
BUSY = {-1: "busy", 45011: "too many calls", 40013: "wrong id", 41002: "wrong id", 40125: "wrong secret", 41004: "wrong secret"}


class NotTheirs(Exception):
    """The third party does not know this account, or not of this app."""


@dataclass
class Provider:
    """One that can be asked; `ids` and `secret` are our app's there, `platform` is whose union ids it speaks for."""

    name: str
    check: "Callable[[Provider, Document], Document]"  # what is certain of the account; raises NotTheirs, CannotAsk
    base: str
    ids: tuple[str, ...] = ()
    secret: str = ""
    platform: str = ""
    refusal: Code = Code.BAD_AUTH_SESSION
    _slots: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MAX_ASKING))
    _said: float = -SAID_SECONDS

    def ask(self, data: Json) -> Document:
        """authData that the third party vouches for; raise 251 or 252."""
        if not isinstance(data, dict):
            raise StorageError(self.refusal)
        try:
            if not self._slots.acquire(timeout=QUEUE_SECONDS):
                raise CannotAsk("too many calls are waiting for it")
            try:
                found = self.check(self, data)
            finally:
                self._slots.release()
            return self._merged(data, found)
        except NotTheirs:
            raise StorageError(self.refusal) from None
        except CannotAsk as error:
            self._say(error)
            raise StorageError(Code.AUTH_UNTRUSTED, provider=self.name) from None

    def _merged(self, data: Document, found: Document) -> Document:
        """The client's data with what is certain over it; a union id that nobody vouches for is no union id."""
        for key in ("openid", "uid", "unionid"):
            if key in data and key in found and str(data[key]) != found[key]:
                raise NotTheirs
        if data.get("unionid") and "unionid" not in found:
            raise NotTheirs
        if data.get("platform") not in (None, "", self.platform):
            raise NotTheirs
        return {**{key: value for key, value in data.items() if key not in SAID_BY_THEM}, **found}

    def _say(self, error: CannotAsk) -> None:
        """A line for the operator, not one for each log-in."""
        if time.monotonic() - self._said >= SAID_SECONDS:
            self._said = time.monotonic()
            print(f"the third party {self.name} cannot be asked: {error}", file=sys.stderr)


def text_of(data: Document, key: str) -> str:
    """A text of an answer or of authData, also where it is a number; raise NotTheirs without it."""
    value = data.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise NotTheirs
    return value


def _weixin_answer(path: str, provider: Provider, given: Mapping[str, str]) -> Document:
    found = ask(provider.base + path, given)
    number = found.get("errcode") or 0
    if number in BUSY:
        raise CannotAsk(BUSY[number])
    if number or found.get("error"):
        raise NotTheirs
    return found


def _mini_program(provider: Provider, data: Document) -> Document:
    """A mini program's `code` exchanged for the account."""
    given = {"appid": provider.ids[0], "secret": provider.secret, "js_code": text_of(data, "code")}
    found = _weixin_answer("/sns/jscode2session", provider, {**given, "grant_type": "authorization_code"})
    return _kept(found, "openid", "session_key")


def _weixin(provider: Provider, data: Document) -> Document:
    """An access token of the open platform or of an official account. Its openid is of one app alone."""
    given = {"access_token": text_of(data, "access_token"), "openid": text_of(data, "openid")}
    _weixin_answer("/sns/auth", provider, given)
    if data.get("platform") or data.get("unionid"):
        found = _weixin_answer("/sns/userinfo", provider, given)
        if found.get("openid") != given["openid"]:
            raise NotTheirs
        return _kept(found, "openid")
    return {"openid": given["openid"]}


def _qq(provider: Provider, data: Document) -> Document:
    given = {"access_token": text_of(data, "access_token"), "fmt": "json"}
    wants_union = {"unionid": "1"} if data.get("platform") or data.get("unionid") else {}
    found = ask(f"{provider.base}/oauth2.0/me", {**given, **wants_union})
    if found.get("error") or str(found.get("client_id")) not in provider.ids:
        raise NotTheirs
    text_of(data, "openid")
    return _kept(found, "openid")


def _weibo(provider: Provider, data: Document) -> Document:
    found = ask(f"{provider.base}/oauth2/get_token_info", {"access_token": text_of(data, "access_token")}, is_post=True)
    left = found.get("expire_in", found.get("expires_in", 0))
    if found.get("error") or str(found.get("appkey")) not in provider.ids or not isinstance(left, int) or left <= 0:
        raise NotTheirs
    text_of(data, "uid")
    return _kept(found, "uid")


def _kept(found: Document, *names: str) -> Document:
    """What an answer says of an account, with its union id if there is one."""
    union = {"unionid": text_of(found, "unionid")} if found.get("unionid") else {}
    return {**{name: text_of(found, name) for name in names}, **union}


@dataclass(frozen=True)
class Kind:
    check: Callable[[Provider, Document], Document] | None  # None: a signed token, see outside.tokens
    base: str  # "" where the operator has to name it
    platform: str = ""
    needs_id: bool = True
    needs_secret: bool = False
    refusal: Code = Code.BAD_AUTH_SESSION


WEIXIN = "https://api.weixin.qq.com"
KINDS = {
    "weapp": Kind(_mini_program, WEIXIN, "weixin", needs_secret=True, refusal=Code.BAD_WEIXIN_SESSION),
    "weixin": Kind(_weixin, WEIXIN, "weixin", needs_id=False, refusal=Code.BAD_WEIXIN_SESSION),
    "qqapp": Kind(_mini_program, "https://api.q.qq.com", "qq", needs_secret=True),
    "qq": Kind(_qq, "https://graph.qq.com", "qq"),
    "weibo": Kind(_weibo, "https://api.weibo.com", "weibo"),
    "apple": Kind(None, "https://appleid.apple.com"),
    "oidc": Kind(None, ""),
}


def provider_of(option: str, environment: Mapping[str, str]) -> Provider:
    """The Provider of `NAME=KIND[@URL]`, with the ids and the secret of the environment; raise ValueError."""
    name, _, rest = option.partition("=")
    kind_name, _, url = rest.partition("@")
    kind = KINDS.get(kind_name)
    if not NAME.fullmatch(name) or name == "anonymous" or kind is None or not (url or kind.base):
        raise ValueError(f"{OPTION} must be NAME=KIND or NAME=KIND@URL, KIND one of {', '.join(KINDS)}; oidc needs a URL")
    prefix = f"LEANSTORAGE_AUTH_{name.upper()}"
    ids = tuple(one.strip() for one in environment.get(f"{prefix}_ID", "").split(",") if one.strip())
    secret = environment.get(f"{prefix}_SECRET", "")
    for needed, given, variable in ((kind.needs_id, ids, "ID"), (kind.needs_secret, secret, "SECRET")):
        if needed and not given:
            raise ValueError(f"{OPTION} {name}: {prefix}_{variable} is not in the environment")
    base = checked_url(url or kind.base, OPTION)
    check = kind.check
    if check is None:
        from leanstorage.outside.tokens import token_check  # needs PyJWT

        check = token_check(kind_name, base, ids)
    return Provider(name, check, base, ids, secret, kind.platform, kind.refusal)
