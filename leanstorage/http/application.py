"""The service as a WSGI application: routes, credentials, and the one place where answers and errors become HTTP.

Wire rules are those of protocol section 0: every answer is JSON, never empty, never 204; a failure has `error` at its
top level and a success has not. Credentials are checked in the order of section 1.2, before the body is read.
"""
import gzip
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from leanwsgi import messages
from leanstorage.resources import files, sessions
from leanstorage.rules import fingerprint, passwords, values
from leanstorage.blobs import open_blobs
from leanstorage.rules.call import (
    Call,
    Caller,
    counted_address,
    limit_bytes,
    limit_traffic,
    Options,
    RawBody,
    Resource,
    Service,
    take_back_traffic,
)
from leanstorage.rules.rendering import Ready
from leanstorage.rules.errors import Code, StorageError
from leanstorage.engine.hooks import DEPTH_HEADER, Engine, EngineMemory, Transport
from leanstorage.http.observer import ADDRESS, CALL, REQUEST_ID, ROUTE
from leanstorage.http.route_table import RouteTable
from leanstorage.http.routes import EVERY_ROUTE, OPEN, RAW
from leanstorage.store import AnswerTooLarge, Document, Json, MAX_FOUND, QueryTimeout, StoreUnavailable, now, open_store
from leanwsgi.leancloud_wire import (
    ALLOWED_HEADERS,
    BODY_CREDENTIALS,
    HOOK_KEY_VARIABLE,
    ID_VARIABLES,
    KEY_VARIABLES,
    MASTER_VARIABLES,
    PROD_VARIABLES,
    SESSION_VARIABLES,
    SIGN_VARIABLES,
    equal,
    variable,
)
from leanwsgi.messages import BytesResponse, Header, Response

UNKNOWN_BYTES = 1 << 16  # read of a body before its sender is known
GZIP_BYTES = 2048  # smaller answers are sent as they are
CORS = [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "Location, Last-Modified")]
PREFLIGHT = [
    ("Access-Control-Allow-Methods", "HEAD, GET, POST, PUT, DELETE, OPTIONS"),
    ("Access-Control-Max-Age", "86400"),
    ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
]
JSON_HEADERS = [
    ("Content-Type", "application/json;charset=utf-8"),
    ("Cache-Control", "no-cache,no-store"),
    ("Pragma", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
]
DEPTH_VARIABLE = variable(DEPTH_HEADER)
SENT = "leanstorage.sent"  # in environ: the address, and how many bytes were counted for it
API = re.compile(r"/1(?:\.1)?(/.*)", re.DOTALL)
HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
LOGIN = re.compile(r"/+1(\.1)?/login")
DEPTH = re.compile("[0-9]{1,3}")
UPLOAD = re.compile(r"/1\.1/uploads/([A-Za-z0-9_-]{20,100})")
FILE_FIELDS = ("file", "fileContent", "filecontent")  # of uploads by multipart, as Qiniu and Tencent Cloud name them
ELSEWHERE = "/storage/1.1/users/tap-support/"  # asked by newer SDKs, below a prefix of TapTap's own servers
JSON_TYPES = ("", "application/json")


def open_service(
    keys: dict[str, str],
    database: str,
    files_place: str | Path,
    transport: Transport | None = None,
    options: Options | None = None,
) -> Service:
    """The Service on a database URL and a place for files; `transport` reaches the app's engine, if there is one.

    Raises ValueError for a place that is none or cannot be used, and for a database that belongs to other keys.
    """
    options = options or Options()
    store = open_store(database, query_seconds=options.query_seconds)
    try:
        fingerprint.check(store, keys)
    except BaseException:
        store.close()
        raise
    engine = Engine(transport, keys, EngineMemory(store)) if transport else None
    routes = RouteTable(EVERY_ROUTE)
    return Service(store, open_blobs(files_place), engine, keys, passwords.token_secret(keys), options, routes)


def create_application(service: Service) -> WSGIApplication:
    """The WSGI application of a Service."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            status, headers, body = respond(service, environ)
        except Exception as error:
            status, headers, body = explain(service, error, environ)
        headers = name_request(service, environ, headers)
        if service.observer is not None:
            service.observer.answered(environ, status, headers, body)
        return messages.start(environ, start_response, (status, headers, body))

    return application


def respond(service: Service, environ: WSGIEnvironment) -> Response:
    """The answer to one request: (status, headers, body). Raises what `explain` turns into answers."""
    method = environ["REQUEST_METHOD"]
    address = environ[ADDRESS] = _address(service, environ)
    if method == "OPTIONS":
        return _json_answer(environ, HTTPStatus.OK, PREFLIGHT, {})
    path = whole = messages.path(environ)
    if "//" in path:
        path = re.sub("/{2,}", "/", path)  # the Python SDK doubles the first slash
    values.check_storable(path)
    limit_traffic(service, address, _has_hook_key(service, environ))
    upload = UPLOAD.fullmatch(path) if method in ("PUT", "POST") else None
    if upload:
        environ[ROUTE] = "/uploads/<token>", {}
        limit = service.options.max_upload_bytes
        is_form = method == "POST"
        chunks = messages.file_chunks(environ, FILE_FIELDS, limit) if is_form else messages.body_chunks(environ, limit)
        key = files.receive(service, upload.group(1), chunks)
        return _json_answer(environ, HTTPStatus.OK, (), {"key": key} if is_form else {})
    if path.startswith(ELSEWHERE):
        path = path.removeprefix("/storage")
    api = API.fullmatch(path)
    if api is None:
        if method not in ("GET", "HEAD") or path == "/":
            raise StorageError(Code.NO_ROUTE)
        environ[ROUTE] = "/<file>", {}
        status, headers, body = files.serve(service, environ, path[1:], whole[1:])
        return status, [*headers, *CORS[:1]], body
    function, call, parameters = _call(service, environ, method, api.group(1))
    return _json_answer(environ, *function(call, **parameters))


def request_id(service: Service, environ: WSGIEnvironment) -> str:
    """What a request is called, which environ remembers."""
    found: str | None = environ.get(REQUEST_ID)
    if found is None:
        found = environ[REQUEST_ID] = messages.request_id(environ, service.options.trusted_proxy)
    return found


def name_request(service: Service, environ: WSGIEnvironment, headers: Sequence[Header]) -> list[Header]:
    """The headers of an answer, and the name of its request."""
    return [*headers, ("X-Request-Id", request_id(service, environ))]


def take_back(service: Service, environ: WSGIEnvironment) -> None:
    """Undo the counting of a request that `respond` began: it will be made again."""
    take_back_traffic(service, environ[ADDRESS], _has_hook_key(service, environ))
    if environ.get(SENT):
        service.sent.take_back(*environ.pop(SENT))


def authenticate(service: Service, environ: WSGIEnvironment, credentials: Document, method: str) -> Caller:
    """Who calls; raise 401 unless the app id and a key or signature of it are there.

    `credentials` are headers that the body held, named as in environ.
    """
    is_master = _has_key(service, environ, credentials)
    if is_master is None:
        raise StorageError(Code.UNAUTHORIZED)
    token = _sent(environ, credentials, SESSION_VARIABLES)
    user_id = service.store.read(lambda transaction: sessions.user_of(transaction, service, token)) if token else None
    is_production = _sent(environ, credentials, PROD_VARIABLES) not in ("0", "false")
    make = Caller if token else _caller  # a token may be long, and is not kept
    return make(is_master, user_id, token, _has_hook_key(service, environ), environ[ADDRESS], is_production)


_caller = lru_cache(1000)(Caller)  # to make one takes longer than to find it


def _has_key(service: Service, environ: WSGIEnvironment, credentials: Document) -> bool | None:
    """Whether the caller is the master, by the app id and a key or signature of it; None for a stranger."""
    keys = service.keys
    if not equal(_sent(environ, credentials, ID_VARIABLES), keys["id"]):
        return None
    key, master = _sent(environ, credentials, KEY_VARIABLES), _sent(environ, credentials, MASTER_VARIABLES)
    is_master = allowed = False
    if key is not None:
        is_master = key.endswith(",master")
        wanted = keys["master_key"] if is_master else keys["key"]
        allowed = equal(key.removesuffix(",master") if is_master else key, wanted)
        if not is_master and master is not None:
            is_master = allowed = equal(master, keys["master_key"])
    elif master is not None:
        is_master = allowed = equal(master, keys["master_key"])
    elif (sign := _sent(environ, credentials, SIGN_VARIABLES)) is not None:
        is_master, allowed = _check_signature(service, sign)
    return is_master if allowed else None


def _sent(environ: WSGIEnvironment, credentials: Document, names: Sequence[str]) -> str | None:
    for name in names:
        value = environ.get(name) or (credentials and credentials.get(name))
        if value:
            return str(value)
    return None


def _call(service: Service, environ: WSGIEnvironment, method: str, path: str) -> tuple[Resource, Call, dict[str, str]]:
    """(resource function, what it is called with, parameters from the path) for a request to the API."""
    query = messages.query(environ)
    body: Json = {}
    credentials: Document = {}
    kind = environ.get("CONTENT_TYPE", "").lower().partition(";")[0].strip()
    has_form = method == "POST" and kind.startswith("text/plain")
    if has_form:
        query, body, credentials, method = _read_form(service, environ, query)
    function, parameters, template = service.routes.find(method, path)
    environ[ROUTE] = template, parameters
    is_open = function in OPEN
    caller = Caller() if is_open else authenticate(service, environ, credentials, method)
    if function not in RAW:  # whose bytes count as a file's
        _limit_bytes(service, environ, caller)
    if function in RAW and kind not in JSON_TYPES and not has_form:
        body = _raw(environ, messages.read_body(environ, service.options.max_body_bytes))
    elif not has_form:  # reading a body is expensive: only now that its sender is known
        body = _read(service, environ, method, UNKNOWN_BYTES if is_open else service.options.max_body_bytes)
    elif isinstance(body, RawBody) and function not in RAW:
        body = _decoded(service, body.data)
    call = environ[CALL] = Call(
        service,
        caller,
        method,
        query,
        body,
        _api_url(service, environ),
        _depth(environ, caller),
        _own_url(service, environ),
        environ.get("HTTP_X_LC_UA", ""),
        request_id(service, environ),
    )
    return function, call, parameters


def _limit_bytes(service: Service, environ: WSGIEnvironment, caller: Caller) -> None:
    """Count the body of a call for who sends it; raise 429 for too much of a day, 400 and 413 for a length that is refused."""
    number = messages.content_length(environ, service.options.max_body_bytes) or 0
    address = counted_address(service, caller) if number else None
    if address is not None:
        limit_bytes(service, address, number)
        environ[SENT] = address, number


def explain(service: Service, error: Exception, environ: WSGIEnvironment) -> BytesResponse:
    """An exception as an answer; what was not foreseen is logged and becomes a bare 500."""
    headers: Sequence[Header] = ()
    if isinstance(error, StorageError):
        status, number, text, headers = error.status, error.code, error.message, error.headers
    elif isinstance(error, messages.HTTPError):
        code = {404: Code.NO_ROUTE, 405: Code.WRONG_METHOD, 413: Code.TOO_LARGE}.get(error.status, Code.BAD_JSON)
        status, number, headers = code.status, code.number, error.headers
        text = code.text.format(detail=error.message, limit=service.options.max_body_bytes)
    elif isinstance(error, AnswerTooLarge):
        code = Code.ANSWER_TOO_LARGE
        status, number, text = code.status, code.number, code.text.format(limit=MAX_FOUND)
    elif isinstance(error, QueryTimeout):
        code = Code.QUERY_TIMEOUT
        status, number, text = code.status, code.number, code.text + error.advice
    else:
        code = Code.UNAVAILABLE if isinstance(error, StoreUnavailable) else Code.INTERNAL
        if code is Code.UNAVAILABLE:
            service.trouble.say_unavailable(error)
        else:
            messages.log_exception(error, environ)
        status, number, text = code.status, code.number, code.text
        headers = [("Retry-After", "1")] if code is Code.UNAVAILABLE else ()
    return _json_answer(environ, status, headers, {"code": number, "error": text})


def _read(service: Service, environ: WSGIEnvironment, method: str, limit: int) -> Json:
    """The decoded body of at most `limit` bytes."""
    data = messages.read_body(environ, limit)
    if method in ("GET", "HEAD") or (method == "DELETE" and not data):
        return {}  # clients send `null` along
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        form = messages.query({"QUERY_STRING": data.decode("latin-1")})  # the reset form's
        values.check_storable(*form, *form.values())
        return form
    return _decoded(service, data)


def _raw(environ: WSGIEnvironment, data: bytes) -> RawBody:
    kind: str = environ.get("CONTENT_TYPE", "")
    return RawBody("" if kind.startswith("application/x-www-form-urlencoded") else kind, data)  # curl says so of all


def _decoded(service: Service, data: bytes) -> Json:
    body = messages.parse_json(data, service.options.max_json_depth) if data.strip() else {}
    return {} if body is None else body


def _read_form(service: Service, environ: WSGIEnvironment, query: Document) -> tuple[Document, Json, Document, str]:
    """(query, body, credentials from the body, method) of the text/plain form of old browsers, a POST.

    The body holds the credentials, so only a few KB are read unless the headers identify the sender too.
    """
    limit = service.options.max_body_bytes
    if _has_key(service, environ, {}) is None:
        limit = min(limit, UNKNOWN_BYTES)
    try:
        data = messages.read_body(environ, limit)
    except messages.HTTPError as error:
        if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and limit < service.options.max_body_bytes:
            raise StorageError(Code.UNAUTHORIZED) from None
        raise
    method = "POST"
    if data.strip() and not data.lstrip().startswith(b"{"):
        return query, _raw(environ, data), {}, method
    body = _decoded(service, data)  # of a `{`, or of nothing: an object
    credentials = {header: body[key] for key, header in BODY_CREDENTIALS.items() if body.get(key) is not None}
    asked = str(body.get("_method", "POST")).upper()
    if LOGIN.fullmatch(environ.get("PATH_INFO", "")) and asked == "GET":
        asked = "POST"  # the password is in the body, not in the URL: it is a log-in
    method = asked if asked in ("GET", "PUT", "DELETE", "POST") else "POST"
    body = {key: value for key, value in body.items() if not key.startswith("_") or key.startswith("__")}
    if method == "GET":
        query, body = {**query, **body}, {}
    return query, body, credentials, method


def _check_signature(service: Service, sign: str) -> tuple[bool, bool]:
    """(whether it is the master's, whether it is right) of `md5,ms[,master]`."""
    parts = sign.split(",")
    if len(parts) not in (2, 3) or not re.fullmatch("[0-9]{1,20}", parts[1]):
        return False, False
    digest, ms, kind = parts[0], parts[1], parts[2] if len(parts) == 3 else None
    max_age = service.options.sign_max_age_s
    if max_age is not None and abs(now() - int(ms)) > max_age * 1000:
        return False, False
    names = {None: service.keys["key"], "master": service.keys["master_key"], "ax-sig-1": service.options.andx_key}
    key = names.get(kind)
    if not key:
        return False, False
    return kind == "master", equal(digest, hashlib.md5((ms + key).encode(), usedforsecurity=False).hexdigest())


def _has_hook_key(service: Service, environ: WSGIEnvironment) -> bool:
    return equal(environ.get(HOOK_KEY_VARIABLE), service.keys["hook_key"])


def _address(service: Service, environ: WSGIEnvironment) -> str:
    return messages.client_address(environ, service.options.trusted_proxy)


def _api_url(service: Service, environ: WSGIEnvironment) -> str:
    if service.options.public_url:
        return service.options.public_url.rstrip("/")
    host = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME')}:{environ.get('SERVER_PORT')}"
    if not HOST.fullmatch(host):
        raise StorageError(Code.BAD_REQUEST, detail="The Host header is malformed.")
    return f"{environ.get('wsgi.url_scheme', 'http')}://{host}{environ.get('SCRIPT_NAME', '')}"


def _own_url(service: Service, environ: WSGIEnvironment) -> str:
    """Where the app's engine finds this server: by the public URL, else on this machine."""
    url = service.options.public_url or f"http://127.0.0.1:{environ.get('SERVER_PORT')}{environ.get('SCRIPT_NAME', '')}"
    return url.rstrip("/")


def _depth(environ: WSGIEnvironment, caller: Caller) -> int:
    """How many nested hooks led to this call. Only believed with the hook key: a stranger could skip after hooks by claiming it."""
    if not caller.has_hook_key and not caller.is_master:
        return 0
    text = environ.get(DEPTH_VARIABLE, "0")
    return int(text) if DEPTH.fullmatch(text) else 0


def _json_answer(environ: WSGIEnvironment, status: int, headers: Sequence[Header], value: Json) -> BytesResponse:
    if isinstance(value, str):  # a page, with headers of its own
        return HTTPStatus(status), [*headers, ("X-Content-Type-Options", "nosniff")], value.encode("utf-8")
    data = value.text.encode() if isinstance(value, Ready) else messages.json_bytes(value)
    headers = [*JSON_HEADERS, *headers, *CORS]
    if len(data) >= GZIP_BYTES and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
        data = gzip.compress(data, 1, mtime=0)
        headers.append(("Content-Encoding", "gzip"))
        headers.append(("Vary", "Accept-Encoding"))
    return HTTPStatus(status), headers, data
