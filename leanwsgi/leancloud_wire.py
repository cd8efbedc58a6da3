"""LeanCloud's names on the wire: headers, credentials in a body, hooks. Nothing here needs an SDK or a server."""
import hmac
from collections.abc import Iterable

# Of one meaning, the one that counts first; the older names are those of older SDKs.
ID_HEADERS = ("X-LC-Id", "X-AVOSCloud-Application-Id", "X-Uluru-Application-Id")
KEY_HEADERS = ("X-LC-Key", "X-AVOSCloud-Application-Key", "X-Uluru-Application-Key")
MASTER_HEADERS = ("X-AVOSCloud-Master-Key", "X-Uluru-Master-Key", "X-AVOSCloud-Super-Key")
SIGN_HEADERS = ("X-LC-Sign", "X-AVOSCloud-Request-Sign")
SESSION_HEADERS = ("X-LC-Session", "X-AVOSCloud-Session-Token", "X-Uluru-Session-Token")
PROD_HEADERS = ("X-LC-Prod", "X-AVOSCloud-Application-Production", "X-Uluru-Application-Production")
HOOK_KEY_HEADER = "X-LC-Hook-Key"
AGENT_HEADERS = ("X-LC-UA", "X-AVOSCloud-Client-Version", "X-Uluru-Client-Version")

# What a page of another origin may send.
ALLOWED_HEADERS = ", ".join(
    (
        *("Content-Type", "Cache-Control", "X-Requested-With"),
        *ID_HEADERS,
        *KEY_HEADERS,
        *MASTER_HEADERS,
        *SIGN_HEADERS,
        *SESSION_HEADERS,
        *PROD_HEADERS,
        HOOK_KEY_HEADER,
        *AGENT_HEADERS,
    )
)


def variable(header: str) -> str:
    """The name of a header in environ."""
    return "HTTP_" + header.upper().replace("-", "_")


def _variables(headers: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(variable, headers))


# The same as names in environ.
ID_VARIABLES = _variables(ID_HEADERS)
KEY_VARIABLES = _variables(KEY_HEADERS)
MASTER_VARIABLES = _variables(MASTER_HEADERS)
SIGN_VARIABLES = _variables(SIGN_HEADERS)
SESSION_VARIABLES = _variables(SESSION_HEADERS)
PROD_VARIABLES = _variables(PROD_HEADERS)
HOOK_KEY_VARIABLE = variable(HOOK_KEY_HEADER)

# Keys of a text/plain body, by which old browsers avoid a preflight, and the header in environ that each stands for.
BODY_CREDENTIALS = {
    "_ApplicationId": ID_VARIABLES[0],
    "_ApplicationKey": KEY_VARIABLES[0],
    "_MasterKey": MASTER_VARIABLES[0],
    "_SessionToken": SESSION_VARIABLES[0],
    "_ApplicationProduction": PROD_VARIABLES[0],
}

# How an engine names the hook of a class, which follows the prefix; and those of users.
HOOK_PREFIXES = {
    "beforeSave": "__before_save_for_",
    "afterSave": "__after_save_for_",
    "beforeUpdate": "__before_update_for_",
    "afterUpdate": "__after_update_for_",
    "beforeDelete": "__before_delete_for_",
    "afterDelete": "__after_delete_for_",
}
USER_HOOKS = {"onLogin": "__on_login__User", "onAuthData": "__on_authdata__User"}
VERIFIED_PREFIX = "__on_verified_"  # then `email` or `sms`


def equal(sent: str | None, wanted: str | None) -> bool:
    """Constant-time comparison of keys; nothing sent equals nothing."""
    if not sent or not wanted:
        return False
    return hmac.compare_digest(sent.encode("latin-1", "replace"), wanted.encode())
