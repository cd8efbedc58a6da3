"""Cloud functions: calls passed on to the app's engine, with credentials of our own making. Protocol section 7.3."""
import re
from http import HTTPStatus
from urllib.parse import quote

from leanstorage.engine import hooks
from leanstorage.rules.call import Answer, Call
from leanstorage.rules.errors import Code, StorageError

NAME = re.compile(r"\w[\w.-]{0,199}")  # no more escapes, separators, `..`: the engine must read the name that is checked

# Hooks of messaging, which old engines take for functions like any other: only LeanCloud called them.
REALTIME = re.compile(
    r"_message.*|_receiversOffline|_rtmClientSign|_client(Online|Offline)|_conversation(Start(ed)?|Add(ed)?|Removed?|Update)"
)


def call_function(call: Call, name: str) -> Answer:
    return _forward(call, "functions", name)


def call_rpc(call: Call, name: str) -> Answer:
    return _forward(call, "call", name)


def _forward(call: Call, kind: str, name: str) -> Answer:
    """The engine's status and JSON. Raises 1 (404 without such a function, 502), 124/503, 142, 211/401, 503."""
    engine = call.service.engine
    if REALTIME.fullmatch(name) and not call.caller.has_hook_key:
        raise StorageError(Code.NO_ROUTE)
    if not NAME.fullmatch(name) or name.startswith("__"):
        raise StorageError(Code.NO_ROUTE)
    if engine is None:
        raise StorageError(Code.NO_ENGINE)
    caller, keys = call.caller, call.service.keys
    body = {} if call.body == [] else call.json_body()  # PHP sends an empty array for no parameters
    if caller.token and caller.user_id is None:
        raise StorageError(Code.SESSION_INVALID)  # the SDK's engine would crash on it
    if not caller.is_master and caller.user_id is None and body.get("user"):
        # The SDK's engine would take it for the user who is logged in.
        raise StorageError(Code.SPOOFED_USER)
    if call.depth >= hooks.MAX_DEPTH:
        raise StorageError(Code.HOOK_REFUSED, detail="Functions call each other too deeply.")
    token = None if caller.user_id is None else caller.token
    headers = hooks.headers(call) | hooks.credentials(keys, engine.is_old, caller.is_master, token)
    if not caller.has_hook_key:
        del headers["X-LC-Hook-Key"]
    try:
        status, answer = engine.post(f"/1.1/{kind}/{quote(name, safe='')}", body, hooks.FUNCTION_SECONDS, headers)
    except hooks.EngineTimeout:
        raise StorageError(Code.TIMEOUT) from None
    except hooks.EngineDown:
        raise StorageError(Code.UNAVAILABLE) from None
    except ValueError:
        raise StorageError(Code.BAD_ENGINE_ANSWER) from None
    if not isinstance(answer, dict):
        raise StorageError(Code.BAD_ENGINE_ANSWER)
    return HTTPStatus(status), (), answer
