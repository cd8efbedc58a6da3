"""The cloud-function door: what may reach leancloud.Engine, and in what form.

The SDK's engine trusts its caller, because LeanCloud's platform stood in front of it: it lets strangers in, believes a
`user` in the body, runs hooks as functions, and raises on malformed input. This module checks everything first and
passes on only well-formed calls that carry our own credentials.
"""
import hashlib
import inspect
import io
import json
import platform
import re
from collections.abc import Callable, Iterable
from functools import cache
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import leancloud
import requests
from leancloud.object_ import object_class_map

from leanwsgi import messages
from leanwsgi.leancloud_wire import (
    ALLOWED_HEADERS,
    BODY_CREDENTIALS,
    HOOK_KEY_VARIABLE,
    HOOK_PREFIXES,
    ID_VARIABLES,
    KEY_VARIABLES,
    MASTER_VARIABLES,
    SESSION_VARIABLES,
    SIGN_VARIABLES,
    USER_HOOKS,
    VERIFIED_PREFIX,
    equal,
)
from leanengine.sdk import as_http_error

Functions = dict[str, Callable[..., Any]]  # the engine's functions and hooks by the names that it gives them

PREFIXES = ("/__engine/", "/1/functions", "/1.1/functions", "/1/call", "/1.1/call")  # as the SDK's engine tells them
PINGS = frozenset(["/__engine/1/ping", "/__engine/1.1/ping", "/__engine/1.1/ping/"])
CALL = re.compile(r"/(?:__engine/)?1(?:\.1)?/(functions|call)/([^/]+)(?:/([^/]+))?")
MAX_TYPED_LEVELS = 8  # of values with a `__type` inside each other
UNKNOWN_BYTES = 1 << 16  # read of a body before its sender is known
MAX_CLASSES = 1000  # that the SDK may remember besides the app's own
PREFLIGHT = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "GET, OPTIONS, POST"),
    ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
    ("Access-Control-Max-Age", "86400"),
]


def guard_engine(engine: leancloud.Engine, keys: dict[str, str]) -> WSGIApplication:
    """A WSGI application around `engine`, which wraps the rest of the app. `keys` are the platform's four."""
    application: WSGIApplication = engine
    cloud_codes = engine.app.cloud_codes

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # The SDK reads the path without its leading slashes, so `//1.1/functions/x` is a function to it.
        path = "/" + messages.path(environ).lstrip("/")
        if not path.startswith(PREFIXES):  # not a cloud-code path: skip the engine, which would only pass it on
            rest: WSGIApplication = engine.origin_app
            return rest(environ, start_response)
        method = environ["REQUEST_METHOD"]
        try:
            if path in PINGS:
                return messages.start(environ, start_response, _ping())
            if method == "OPTIONS":
                return messages.start(environ, start_response, (HTTPStatus.NO_CONTENT, PREFLIGHT, b""))
            _admit(environ, path, method, keys, cloud_codes)
            return application(environ, start_response)
        except messages.HTTPError as error:
            return messages.start(environ, start_response, messages.explain(error, environ))
        except leancloud.LeanCloudError as error:  # the session was looked up
            if error.code != 211:
                return messages.start(environ, start_response, messages.explain(as_http_error(error), environ))
            answer = messages.error_response(HTTPStatus.UNAUTHORIZED, error.code, "the session is not valid")
            return messages.start(environ, start_response, answer)
        except (requests.RequestException, ValueError):
            answer = messages.error_response(HTTPStatus.SERVICE_UNAVAILABLE, 503, "storage cannot be reached")
            return messages.start(environ, start_response, answer)

    return guarded


def _ping() -> messages.BytesResponse:
    """The health check. The SDK's own calls start_response twice, which real servers answer by a 500."""
    runtime = f"{platform.python_implementation().lower()}-{platform.python_version()}"
    return messages.json_response(HTTPStatus.OK, {"runtime": runtime, "version": leancloud.__version__})


def _admit(environ: WSGIEnvironment, path: str, method: str, keys: dict[str, str], cloud_codes: Functions) -> None:
    """Check a call and write it back into environ in the one form that the engine is to see; raise HTTPError."""
    found = CALL.fullmatch(path)
    if found is None:
        raise _nothing()
    kind, first, second = found.groups()
    is_list = (kind, first, second) == ("functions", "_ops", "metadatas")
    if method != "POST" and not (method == "GET" and (is_list or second is None)):
        raise messages.HTTPError(
            HTTPStatus.METHOD_NOT_ALLOWED, "call functions with POST", headers=[("Allow", "GET, OPTIONS, POST")]
        )
    # Reading a body is expensive: check the credentials first, unless the body holds them.
    if not environ.get("CONTENT_TYPE", "").lower().startswith("text/plain"):
        is_master = _check_credentials(environ, keys)
        body = _body(environ)
    else:
        body = _body_with_credentials(environ, keys)
        is_master = _check_credentials(environ, keys)
    has_hook_key = equal(environ.get(HOOK_KEY_VARIABLE), keys["LEANCLOUD_APP_HOOK_KEY"])
    if is_list:
        if not is_master:
            raise _unauthorized()
    elif second is not None or first.startswith("_"):
        if not has_hook_key:
            raise _unauthorized()
        if kind != "functions" or not _is_registered(first, second, cloud_codes):
            raise _nothing()
        _check_hook_body(second, body)
    else:
        if body.get("user") and not has_hook_key and not _first(environ, SESSION_VARIABLES):
            raise messages.HTTPError(HTTPStatus.BAD_REQUEST, "the parameter 'user' is reserved: log in instead")
        _check_arguments(first, _decoded(body) if kind == "call" else body, cloud_codes)
    data = json.dumps(body).encode()
    environ["PATH_INFO"] = path.encode().decode("latin-1")
    environ["wsgi.input"] = io.BytesIO(data)
    environ["CONTENT_LENGTH"] = str(len(data))
    environ["CONTENT_TYPE"] = "application/json"


def _nothing() -> messages.HTTPError:
    return messages.HTTPError(HTTPStatus.NOT_FOUND, "there is no such function or hook")


def _unauthorized() -> messages.HTTPError:
    return messages.HTTPError(HTTPStatus.UNAUTHORIZED, "Unauthorized.")


def _body(environ: WSGIEnvironment, limit: int = messages.MAX_JSON_BYTES) -> dict[str, Any]:
    """The parameters, `{}` when there are none."""
    data = messages.read_body(environ, limit)
    body = messages.parse_json(data) if data.strip() else {}
    if body is None and environ["REQUEST_METHOD"] == "GET":
        body = {}  # SDKs send `null` along with a GET
    if not isinstance(body, dict):
        raise messages.HTTPError(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
    return body


def _body_with_credentials(environ: WSGIEnvironment, keys: dict[str, str]) -> dict[str, Any]:
    """The parameters of the text/plain form, whose credentials move to their headers.

    Only a few KB are read unless the headers already identify the sender.
    """
    is_known = _has_key(environ, keys) is not None
    try:
        body = _body(environ, messages.MAX_JSON_BYTES if is_known else UNKNOWN_BYTES)
    except messages.HTTPError as error:
        if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and not is_known:
            raise _unauthorized() from None
        raise
    for key, header in BODY_CREDENTIALS.items():
        value = body.pop(key, None)
        if isinstance(value, str) and value.isascii() and value.isprintable():
            environ.setdefault(header, value)
    return body


def _first(environ: WSGIEnvironment, names: Iterable[str]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _check_credentials(environ: WSGIEnvironment, keys: dict[str, str]) -> bool:
    """Whether the caller is the master; raise 401 unless it has the app's id and a key or signature.

    The headers are replaced by ones that the SDK reads without surprise: it raises on some malformed ones, and takes
    no key at all for the (unset) key of an Android app.
    """
    is_master = _has_key(environ, keys)
    for name in ID_VARIABLES + KEY_VARIABLES + MASTER_VARIABLES + SIGN_VARIABLES:
        environ.pop(name, None)
    if is_master is None:
        raise _unauthorized()
    environ[ID_VARIABLES[0]] = keys["LEANCLOUD_APP_ID"]
    environ[KEY_VARIABLES[0]] = f"{keys['LEANCLOUD_APP_MASTER_KEY']},master" if is_master else keys["LEANCLOUD_APP_KEY"]
    return is_master


def _has_key(environ: WSGIEnvironment, keys: dict[str, str]) -> bool | None:
    """Whether the caller is the master, by its headers; None for a stranger."""
    app_id, key = _first(environ, ID_VARIABLES), _first(environ, KEY_VARIABLES)
    master, sign = _first(environ, MASTER_VARIABLES), _first(environ, SIGN_VARIABLES)
    is_master = False
    if key is not None:
        is_master = key.endswith(",master")
        wanted = keys["LEANCLOUD_APP_MASTER_KEY"] if is_master else keys["LEANCLOUD_APP_KEY"]
        is_right = equal(key.removesuffix(",master"), wanted)
    elif master is not None:
        is_master = is_right = equal(master, keys["LEANCLOUD_APP_MASTER_KEY"])
    else:
        found = re.fullmatch(r"([0-9a-f]{32}),([0-9]{1,20})(,master)?", sign or "")
        is_master = bool(found and found.group(3))
        secret = keys["LEANCLOUD_APP_MASTER_KEY"] if is_master else keys["LEANCLOUD_APP_KEY"]
        is_right = found is not None and equal(
            found.group(1), hashlib.md5((found.group(2) + secret).encode(), usedforsecurity=False).hexdigest()
        )
    return is_master if is_right and equal(app_id, keys["LEANCLOUD_APP_ID"]) else None


def _is_registered(first: str, second: str | None, cloud_codes: Functions) -> bool:
    """Whether a hook's path names one that the app has; an unknown one would be a 500 of the SDK's."""
    if first == "onVerified":
        return f"{VERIFIED_PREFIX}{second}" in cloud_codes
    if first == "BigQuery":
        return second == "onComplete" and "__on_complete_bigquery_job" in cloud_codes
    if first == "_User" and second in USER_HOOKS:
        return USER_HOOKS[second] in cloud_codes
    if second is None:
        return first in cloud_codes and not first.startswith("__")
    return second in HOOK_PREFIXES and HOOK_PREFIXES[second] + first in cloud_codes


def _check_hook_body(second: str | None, body: dict[str, Any]) -> None:
    wanted = "authData" if second == "onAuthData" else "object"
    if second in HOOK_PREFIXES or second in ("onLogin", "onAuthData", "sms", "email"):
        if not isinstance(body.get(wanted), dict):
            raise messages.HTTPError(HTTPStatus.BAD_REQUEST, f"the body must have an object '{wanted}'")


def _decoded(body: dict[str, Any]) -> dict[str, Any]:
    """The parameters as the SDK decodes those of a `call`; raise 400 for a `__type` on which it would raise.

    The SDK copies everything below a typed value once per level, and keeps every class name that it meets.
    """
    if _typed_levels(body) > MAX_TYPED_LEVELS:
        raise messages.HTTPError(HTTPStatus.BAD_REQUEST, f"values with a '__type' are nested deeper than {MAX_TYPED_LEVELS} levels")
    _forget_classes()
    try:
        decoded = leancloud.utils.decode("", {key: value for key, value in body.items() if _is_parameter(key)})
    except Exception:
        raise messages.HTTPError(HTTPStatus.BAD_REQUEST, "a value with a '__type' is malformed") from None
    if not isinstance(decoded, dict):
        raise messages.HTTPError(HTTPStatus.BAD_REQUEST, "the parameters must not have a '__type' of their own")
    return decoded


def _typed_levels(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (isinstance(value, dict) and "__type" in value) + max(map(_typed_levels, children), default=0)


def _forget_classes() -> None:
    own = _own_classes()
    if len(object_class_map) > len(own) + MAX_CLASSES:
        for name in object_class_map.keys() - own:
            object_class_map.pop(name, None)


@cache
def _own_classes() -> frozenset[str]:
    """The names of the classes that the app had made before the first call came."""
    return frozenset(object_class_map)


def _is_parameter(key: str) -> bool:
    return not key.startswith("_") or key == "__type"  # as the SDK tells credentials from parameters


def _check_arguments(name: str, body: dict[str, Any], cloud_codes: Functions) -> None:
    """Raise 404 for an unknown function, 400 for parameters that it does not take: a TypeError would be a 500."""
    function = cloud_codes.get(name)
    if function is None:
        raise _nothing()
    parameters = {key: value for key, value in body.items() if _is_parameter(key)}
    try:
        inspect.signature(function).bind(**parameters)
    except TypeError as error:
        raise messages.HTTPError(HTTPStatus.BAD_REQUEST, f"{name}: {error}") from None
