"""Third-party accounts (authData): which are trusted, and to which user they belong. Protocol section 5.6."""
import hashlib
from leanwsgi.leancloud_wire import USER_HOOKS
from leanstorage.engine import hooks
from leanstorage.rules import attempts, values
from leanstorage.rules.call import Call
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Json, Transaction

MAX_PROVIDER = 100  # characters; index entries are limited


def unique_key(value: str) -> str:
    """A value as the key of a record; long ones by their digest, because index entries are limited."""
    if len(value) <= 200:
        return value
    return "sha256:" + hashlib.sha256(value.encode("utf-8")).hexdigest()


def identity_of(data: Json) -> str | None:
    """The id of one third-party account, None where it has none."""
    if not isinstance(data, dict):
        return None
    identity = data.get("uid") or data.get("openid") or data.get("id")
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    return identity if isinstance(identity, str) and identity else None


def identities(auth_data: Document | None, stored: Document | None = None) -> set[tuple[str, str]]:
    """{(provider, identity)} of authData; raise 250 for a provider without one.

    What is `stored` already may lack one: imported users keep whatever LeanCloud had of them.
    """
    found = set()
    for provider, data in (auth_data or {}).items():
        identity = identity_of(data)
        if identity is not None:
            found.add((provider, identity))
        elif not stored or provider not in stored or stored[provider] != data:
            raise StorageError(Code.NO_AUTH_ID)
    return found


def find_identity(transaction: Transaction, provider: str, identity: str) -> str | None:
    """The id of the user that a third-party account belongs to, or None."""
    found = transaction.record(f"auth:{provider}", unique_key(identity))
    return found["id"] if found else None


def is_auth(auth_data: Json) -> bool:
    return isinstance(auth_data, dict) and any(auth_data.values())


def checked_auth(call: Call, auth_data: Document, stored: Json = None) -> Document:
    """authData that this server may believe. What the user itself has `stored` is believed as it is.

    Third parties that can be asked are asked. Then the onAuthData hook decides; without one only what was asked for or is
    of trusted providers gets through. Raises 251, 252, 429.
    """
    known = stored if isinstance(stored, dict) else {}
    fresh = {name for name, data in auth_data.items() if data and known.get(name) != values.normalise(data)}
    asked = {name for name in fresh if _can_be_asked(call, name, auth_data[name])}
    auth_data = {name: _asked(call, name, data) if name in asked else data for name, data in auth_data.items()}
    answer = hooks.user_hook(
        call,
        USER_HOOKS["onAuthData"],
        "/1.1/functions/_User/onAuthData",
        {"authData": auth_data},
        Code.HOOK_REFUSED,
    )
    if answer is not None:
        result = answer.get("result")
        auth_data = result if isinstance(result, dict) else auth_data
    elif not call.caller.is_master:
        for name in fresh - asked:
            _check_trusted(call, name, auth_data[name])
    for provider in auth_data:
        if len(provider) > MAX_PROVIDER:
            raise StorageError(Code.BAD_KEY, key=provider)
    return _with_union_ids({provider: values.normalise(data) for provider, data in auth_data.items()})


def _can_be_asked(call: Call, provider: str, data: Json) -> bool:
    """Whether to ask the provider itself. The master is trusted, unless it brings a code and no id."""
    return provider in call.service.providers and not (call.caller.is_master and identity_of(data))


def _asked(call: Call, provider: str, data: Json) -> Json:
    """The provider's answer. Refusals count like wrong passwords: each uses up a call of the app's quota there."""
    caller, store = call.caller, call.service.store
    is_limited = not caller.has_hook_key and bool(caller.address)
    if is_limited:
        limit = call.service.options.max_logins_per_address
        store.read(lambda transaction: attempts.refuse_address(transaction, caller.block, limit))
    try:
        return call.service.providers[provider](data)
    except StorageError as error:
        if is_limited and error.kind is not Code.AUTH_UNTRUSTED:  # which is nobody's guess: it could not be asked
            store.write(lambda transaction: attempts.count_address(transaction, caller.block))
        raise


def _check_trusted(call: Call, provider: str, data: Json) -> None:
    """Raise 251 unless this provider's data are believed without asking.

    `*` is everybody but those that are asked: their union ids are believed of who is named, and of nobody else.
    """
    trusted, platforms = call.service.options.trusted_providers, call.service.asked_platforms
    asked = {union_provider((platform, "")) for platform in platforms}
    if provider not in trusted and ("*" not in trusted or provider in asked):
        raise StorageError(Code.AUTH_UNTRUSTED, provider=provider)
    union = union_of(provider, data)
    if union and union[0] in platforms and provider not in trusted and union[0] not in trusted:
        raise StorageError(Code.AUTH_UNTRUSTED, provider=union[0])
    if union and not _speaks_for(provider, union[0], trusted):
        raise StorageError(Code.AUTH_UNTRUSTED, provider=union[0])


def _with_union_ids(auth_data: Document) -> Document:
    """A main account also stands under its platform's union id, shared by all apps of one vendor."""
    result = dict(auth_data)
    for provider, data in auth_data.items():
        union = union_of(provider, data)
        if union and data.get("main_account") in (True, "true"):
            result[union_provider(union)] = {"uid": union[1]}
    return result


def union_of(provider: str, data: Json) -> tuple[str, str] | None:
    """(platform, union id) of one provider's data, or None. Nobody answers for what stands in `anonymous`."""
    if provider == "anonymous" or not isinstance(data, dict):
        return None
    union_id, platform = data.get("unionid"), data.get("platform")
    if isinstance(platform, str) and len(platform) > MAX_PROVIDER:
        raise StorageError(Code.BAD_KEY, key=platform)
    if isinstance(union_id, str) and isinstance(platform, str) and union_id and platform.isidentifier():
        return platform, union_id
    return None


def union_provider(union: tuple[str, str]) -> str:
    return f"_{union[0]}_unionid"


def _speaks_for(provider: str, platform: str, trusted: frozenset[str]) -> bool:
    """Whether a trusted provider's union ids are believed: its own platform's (`weixin_1`), or a trusted one's."""
    return provider == platform or provider.startswith(f"{platform}_") or not trusted.isdisjoint([platform, "*"])
