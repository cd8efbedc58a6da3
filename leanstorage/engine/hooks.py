"""The app's engine: asking it which hooks and functions it has, and calling them. Protocol section 7.

An engine is reached through a transport, `(method, path, headers, body, timeout) -> (status, body)`, over HTTP or, for
the embedded service, in process. No transaction may be open while it is called: a hook calls back into this service.
"""
import hashlib
import hmac
import io
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Protocol
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from leanwsgi import messages
from leanwsgi.leancloud_wire import HOOK_PREFIXES, ID_HEADERS, KEY_HEADERS, SESSION_HEADERS

from leanstorage.rules import acl, values
from leanstorage.rules.call import Call
from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.operations import MISSING
from leanstorage.store import Document, Json, Store, now

BEFORE_SECONDS = 10
AFTER_SECONDS = 3
FUNCTION_SECONDS = 14  # below the SDKs' 15
LIST_SECONDS = 60  # how long a list of hooks is believed
RETRY_SECONDS = 1  # between two tries to reach an engine that is down
MAX_DEPTH = 5  # hooks called by hooks
MAX_THREADS = 64
DEPTH_HEADER = "X-LeanStorage-Depth"
MARK = re.compile(r"([0-9]{1,15}),[0-9a-f]{40}")
MARK_MS = 60 * 60 * 1000  # that a mark is good for
PLAIN_CODES = (1, 142, 400)  # codes of an engine's error that are not repeated to the client
UNHOOKED = frozenset(["_Installation"])


class EngineDown(Exception):
    """The engine cannot be reached. The text, if any, says what it did instead of answering."""


class EngineTimeout(Exception):
    """The engine did not answer in time."""


class Transport(Protocol):
    """How an engine is reached; raises EngineDown and EngineTimeout. `path` as it stands in a URL, `timeout` in seconds."""

    name: str  # of the engine, for the operator

    def __call__(
        self, method: str, path: str, headers: dict[str, str], body: bytes, timeout: float
    ) -> tuple[int, bytes]: ...

    def close(self) -> None: ...


class Engine:
    """An app's engine. `keys` are those of the service; `memory` keeps the last list, see EngineMemory."""

    def __init__(self, transport: Transport, keys: dict[str, str], memory: "EngineMemory | None" = None) -> None:
        self.transport = transport
        self.keys = keys
        self.memory = memory
        self._lock = threading.Lock()
        self._names: frozenset[str] | None = None
        self._asked = 0.0
        self._is_down = False  # as the operator was told last
        self.is_old = False  # knows the headers of LeanCloud's first SDKs only
        self.called: Callable[[str, str, float], None] | None = None  # told of every call: see Observer.engine_called

    def names(self) -> frozenset[str]:
        """The names of its hooks and functions, at most a minute old where it answers; raise EngineDown."""
        names = self._fresh_names()
        if names is not None:
            return names
        with self._lock:
            names = self._fresh_names()
            if names is not None:
                return names
            if self._asked and time.monotonic() - self._asked < RETRY_SECONDS:
                raise EngineDown
            try:
                self._names = self._ask()
                self._tell(None)
                if self.memory:
                    self.memory.write(self._names)
            except (EngineDown, EngineTimeout) as error:
                if self._names is None and self.memory:
                    self._names = self.memory.read()
                self._tell(error)
                if self._names is None:
                    raise EngineDown from None
            finally:
                self._asked = time.monotonic()
            return self._names

    def may_hook(self, class_name: str) -> bool:
        """Whether a class has a hook, or may have one; does not ask the engine."""
        names = self._fresh_names()
        return names is None or any(prefix + class_name in names for prefix in HOOK_PREFIXES.values())

    def _fresh_names(self) -> frozenset[str] | None:
        return self._names if time.monotonic() - self._asked < LIST_SECONDS else None

    def post(self, path: str, body: Json, timeout: float, headers: dict[str, str]) -> tuple[int, Json]:
        """POST JSON; return (status, decoded body). Raises EngineDown, EngineTimeout, ValueError for other than JSON."""
        data = messages.json_bytes(body)
        start, outcome = time.perf_counter(), "failed"
        try:
            status, answer = self.transport("POST", path, {"Content-Type": "application/json", **headers}, data, timeout)
            outcome = "ok" if status < 300 else "failed"
        except EngineDown as error:
            outcome = "down"
            self._tell(error)
            raise
        except EngineTimeout:
            outcome = "timeout"
            raise
        finally:
            if self.called is not None:
                hook = path.rsplit("/", 1)[1]
                self.called(hook if hook in HOOK_PREFIXES else "function", outcome, time.perf_counter() - start)
        self._tell(None)
        return status, json.loads(answer)

    def check(self, timeout: float) -> None:
        """Raise EngineDown or EngineTimeout unless it answers, and to our keys."""
        self._list(timeout)

    def close(self) -> None:
        self.transport.close()

    def _tell(self, error: Exception | None) -> None:
        """Print one line when the engine is lost and one when it is back, instead of one per refused call."""
        if (error is not None) is self._is_down:
            return
        self._is_down = error is not None
        if error is None:
            line = f"{self.transport.name} is back"
        else:
            refused = "writes" if self._names is None else "writes that have hooks"
            line = f"{self.transport.name} {str(error) or 'cannot be reached'}: {refused} are refused"
        print(line, file=sys.stderr)

    def _ask(self) -> frozenset[str]:
        names = self._list(AFTER_SECONDS)
        if names is None:
            if self._names is None:
                print(f"{self.transport.name} has no cloud functions and no hooks", file=sys.stderr)
            return frozenset()
        return names

    def _list(self, timeout: float) -> frozenset[str] | None:
        """The names that it lists; None if it answers 404, as an app without cloud code does."""
        path = "/1.1/functions/_ops/metadatas"
        headers = credentials(self.keys, is_old=self.is_old, is_master=True)
        status, body = self.transport("GET", path, headers, b"", timeout)
        if status == 401:
            is_old = not self.is_old
            headers = credentials(self.keys, is_old, is_master=True)
            status, body = self.transport("GET", path, headers, b"", timeout)
            self.is_old = is_old if status == 200 else self.is_old
        try:
            names = json.loads(body)["result"]
        except (ValueError, KeyError, TypeError):
            names = None
        if status == 404:
            return None
        if status != 200 or not isinstance(names, list):
            raise EngineDown(f"answers {status} and no list of its hooks, is it an engine with our keys?")
        return frozenset(map(str, names))


class EngineMemory:
    """The last list of hooks, kept in the store: after a restart writes must not slip past a hook."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def read(self) -> frozenset[str] | None:
        names = self.store.read(lambda transaction: transaction.record("engine", "names"))
        return None if names is None else frozenset(names)

    def write(self, names: frozenset[str]) -> None:
        known = self.read()
        if known != names:
            self.store.write(lambda transaction: transaction.put_record("engine", "names", sorted(names)))


class WsgiTransport:
    """An engine in this process, a WSGI callable run on threads of its own: the SDK keeps the user per thread."""

    name = "the engine in this process"

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application
        self.pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="engine")

    def __call__(
        self, method: str, path: str, headers: dict[str, str], body: bytes, timeout: float
    ) -> tuple[int, bytes]:
        try:
            return self.pool.submit(self._run, method, path, headers, body).result(timeout)
        except FutureTimeout as error:
            raise EngineTimeout from error
        except RuntimeError as error:  # the pool is closed: the process is ending
            raise EngineDown from error

    def _run(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        environ: WSGIEnvironment = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": "",
            "SERVER_NAME": "engine",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "engine",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        answer: list[int] = []

        def start_response(
            status: str, response_headers: list[messages.Header], exc_info: object = None
        ) -> Callable[[bytes], object]:
            answer[:] = [int(status.split(" ", 1)[0])]
            return lambda data: None

        result = self.application(environ, start_response)
        try:
            content = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        return answer[0], content

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)


def wanted(call: Call, class_name: str, hook: str) -> bool:
    """Whether a write must call this hook. Raises 142 when the engine was never reached: nothing slips past it."""
    engine = call.service.engine
    if engine is None or class_name in UNHOOKED or hook in call.skipped_hooks or _is_marked(call, class_name, hook):
        return False
    try:
        is_wanted = HOOK_PREFIXES[hook] + class_name in engine.names()
    except EngineDown:
        if call.caller.is_master:
            return False
        raise StorageError(Code.HOOK_REFUSED, detail="Application not found") from None
    if is_wanted and call.depth >= MAX_DEPTH:
        raise StorageError(Code.HOOK_REFUSED, detail=f"Hooks call each other more than {MAX_DEPTH} levels deep.")
    return is_wanted


def before(call: Call, class_name: str, hook: str, document: Document, user: Document | None) -> Document:
    """Call a before hook; return its answer, an object. Raises 142 or 141 with the engine's text."""
    marked = {**document, "__before": mark(call.service.keys, f"__before_for_{class_name}")}
    body = {"object": marked} | ({"user": user} if user else {})
    return _ask(call, f"/1.1/functions/{class_name}/{hook}", body, BEFORE_SECONDS, Code.HOOK_REFUSED)


def after(call: Call, class_name: str, hook: str, document: Document, user: Document | None) -> None:
    """Call an after hook and wait for it, since clients read its effects at once; its failure is only logged."""
    marked = {**document, "__after": mark(call.service.keys, f"__after_for_{class_name}")}
    body = {"object": marked} | ({"user": user} if user else {})
    try:
        _ask(call, f"/1.1/functions/{class_name}/{hook}", body, AFTER_SECONDS, Code.HOOK_REFUSED)
    except StorageError as error:
        print(f"{hook} of {class_name} failed: {error.message[:200]!r}", file=sys.stderr)


def user_hook(call: Call, name: str, path: str, body: Document, code: Code) -> Document | None:
    """Call onLogin, onAuthData or onVerified when the engine has it; return its answer, or None without one.

    Raises `code` or 141 with the engine's text, `code` also when the engine was never reached: as with `wanted`.
    """
    engine = call.service.engine
    try:
        if engine is None or name not in engine.names():
            return None
    except EngineDown:
        if call.caller.is_master:
            return None
        raise StorageError(code, detail="Application not found") from None
    if isinstance(body.get("object"), dict):
        # PHP's engine makes a user of it by its `__type` alone.
        told = {"__type": "Object", "className": "_User", "__sign": mark(call.service.keys, name)}
        body = {**body, "object": {**body["object"], **told}}
    return _ask(call, path, body, AFTER_SECONDS, code)


def mark(keys: dict[str, str], name: str, ms: int | None = None) -> str:
    """`<ms>,<hmac_sha1(master key, "<name>:<ms>")>`: how PHP engines, and Node's below 2, know a hook's caller.

    A save inside of a hook carries it back in `__before` or `__after`, and calls no hook of that kind again.
    """
    ms = now() if ms is None else ms
    return f"{ms},{hmac.new(keys['master_key'].encode(), f'{name}:{ms}'.encode(), hashlib.sha1).hexdigest()}"


def _is_marked(call: Call, class_name: str, hook: str) -> bool:
    """Whether a write comes from a hook of this kind, by the mark of old SDKs; a wrong or old mark is ignored."""
    kind = "before" if hook.startswith("before") else "after"
    sent = call.body.get(f"__{kind}") if isinstance(call.body, dict) else None
    found = MARK.fullmatch(sent) if isinstance(sent, str) else None
    if found is None or abs(now() - int(found[1])) > MARK_MS:
        return False
    return hmac.compare_digest(found[0], mark(call.service.keys, f"__{kind}_for_{class_name}", int(found[1])))


def merge(fields: Document, preview: Document, answer: Document) -> Document:
    """The fields to save after a before hook answered `answer` to the object `preview`.

    A value that the hook changed overwrites the client's value or operation. A key that the hook left out is not saved.
    A value that it left alone keeps the client's operation. `null` for Bytes means that the SDK cannot read them, and `[]`
    for `{}` comes from PHP, which has one kind of empty array and never answers `{}`.
    """
    merged = dict(fields)
    if answer.keys() == {"result"} and "result" not in preview:  # the first Python SDK's hooks cannot change the object
        return merged
    is_php = not _has_empty_object(answer)
    for key, value in answer.items():
        if key in values.IGNORED or key.startswith("_"):
            continue
        if isinstance(value, dict) and value.get("__type") == "Relation":
            continue
        sent = preview.get(key, MISSING)
        if key == "ACL":
            changed = acl.normalise(value) != (None if sent is MISSING else acl.normalise(sent))
        else:
            sent = sent if sent is MISSING else values.normalise(sent)
            value = _refilled(value, sent) if is_php else value
            if value is None and isinstance(sent, dict) and sent.get("__type") == "Bytes":
                continue
            changed = sent is MISSING or not values.same(values.normalise(value), sent)
        if changed:
            merged = {name: kept for name, kept in merged.items() if name.split(".")[0] != key}
            merged[key] = value
    for key in list(merged):
        top = key.split(".")[0]
        sent = preview.get(top)
        if top in preview and top not in answer and not (isinstance(sent, dict) and sent.get("__type") == "Relation"):
            del merged[key]
    return merged


def _has_empty_object(value: Json) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value == {} or any(map(_has_empty_object, children))


def _refilled(value: Json, sent: Json) -> Json:
    """`value` with `{}` for each `[]` that was sent as `{}`."""
    if value == [] and sent == {}:
        return {}
    if isinstance(value, dict) and isinstance(sent, dict):
        return {key: _refilled(child, sent.get(key)) for key, child in value.items()}
    if isinstance(value, list) and isinstance(sent, list) and len(value) == len(sent):
        return [_refilled(*pair) for pair in zip(value, sent, strict=True)]
    return value


def credentials(
    keys: dict[str, str], is_old: bool = False, is_master: bool = False, token: str | None = None
) -> dict[str, str]:
    """The headers that prove who calls an engine; later SDKs read the names that an `is_old` one knows in another sense."""
    if is_old:
        key = keys["master_key" if is_master else "key"]
        found = {ID_HEADERS[1]: keys["id"], KEY_HEADERS[1]: key}
        return found if token is None else found | {SESSION_HEADERS[1]: token}
    found = {"X-LC-Id": keys["id"], "X-LC-Key": f"{keys['master_key']},master" if is_master else keys["key"]}
    return found if token is None else found | {"X-LC-Session": token}


def headers(call: Call, **more: str) -> dict[str, str]:
    """The headers of a call to the engine: our own credentials, never those that a client sent."""
    keys = call.service.keys
    return {
        **credentials(keys, is_old=call.service.engine is not None and call.service.engine.is_old),
        "X-LC-Hook-Key": keys["hook_key"],
        "X-LC-Prod": "1" if call.caller.is_production else "0",
        "X-Real-IP": call.caller.address,
        DEPTH_HEADER: str(call.depth + 1),
        "X-Request-Id": call.request_id,
        **more,
    }


def _ask(call: Call, path: str, body: Document, timeout: float, code: Code) -> Document:
    engine = call.service.engine
    try:
        if engine is None:
            raise EngineDown
        status, answer = engine.post(path, body, timeout, headers(call))
    except EngineDown:
        raise StorageError(code, detail="Application not found") from None
    except EngineTimeout:
        raise StorageError(Code.SCRIPT_ERROR, detail="LeanEngine request timeout.") from None
    except ValueError:
        raise StorageError(code, detail="The engine's answer is not JSON.") from None
    if not isinstance(answer, dict):
        answer = {}
    if 200 <= status < 300:
        return answer
    number, text = answer.get("code", 1), str(answer.get("error", "Unknown error."))
    if number not in PLAIN_CODES:
        text = json.dumps({"code": number, "message": text}, ensure_ascii=False, separators=(",", ":"))
    raise StorageError(code, detail=text)
