"""The app: todo lists with accounts and attachments, as plain functions.

A handler takes (environ, **path parameters) and returns (HTTPStatus, headers, body). What it needs beyond the request
comes in environ, put there by wsgi.py: `app.settings`, `app.cache`. Known failures are raised as messages.HTTPError:
those that each function names, 400 and 413 for a body that cannot be taken, 401 for who has to log in first, 409 when
another user is logged in than X-User names, and 502 and 503 for storage's own trouble.
After them come the cloud function and the hooks, which share the rule for a todo's content with the handlers, and at
the end what several of them need.
"""
import base64
import hashlib
import mimetypes
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, UTC
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any
from urllib.parse import quote
from wsgiref.types import WSGIEnvironment

import leancloud
import requests
from leancloud import client

import messages
from cache import Cache
from messages import HTTPError, Response, json_response
from sdk import Attachment, asking_storage

Todo = leancloud.Object.extend("Todo")
Place = tuple[datetime, str]  # in a list: the time and the id of a todo

STATIC = Path(__file__).parent / "static"
MAX_CONTENT = 240  # characters kept of a longer content, before ` ...`
MAX_USERNAME = 64
MAX_PASSWORD = 256
DEFAULT_LIMIT, MAX_LIMIT = 20, 100
LIST_SECONDS = 30  # how long a cached list may live; a write voids it at once
SESSION_SECONDS = 60  # how long a session is believed without asking storage
THROTTLE_SECONDS = 15 * 60
WRONG_PER_ACCOUNT = 5  # wrong passwords per account and address that reach storage, which locks at its seventh
WRONG_PER_ADDRESS = 50
NOTIFY_SECONDS = 2
OBJECT_ID = re.compile(r"[A-Za-z0-9]{1,64}")
STATIC_PATH = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)*")
MIME_TYPE = re.compile(r"[a-z0-9]+/[a-z0-9][a-z0-9.+-]{0,80}")
SHOWN_TYPES = frozenset(["image/png", "image/jpeg", "image/gif", "image/webp"])  # the rest could run as a page


# The page ----------------------------------------------------------------------------------------------------------


def show_page(environ: WSGIEnvironment) -> Response:
    """GET the page, static/index.html."""
    return _file_response(environ, STATIC / "index.html")


def show_static(environ: WSGIEnvironment, path: str) -> Response:
    """GET a file of static/, else 404: only plain names reach the file system, so no path leads out of the folder."""
    file = STATIC / path
    if not STATIC_PATH.fullmatch(path) or not file.is_file():
        raise HTTPError(HTTPStatus.NOT_FOUND, "there is nothing at this path")
    return _file_response(environ, file)


def show_icon(environ: WSGIEnvironment) -> Response:
    """GET static/favicon.ico, where browsers look for it unasked."""
    return _file_response(environ, STATIC / "favicon.ico")


def explain(error: Exception, environ: WSGIEnvironment) -> Response:
    """What went wrong, as JSON; but somebody who followed a dead link sees a page, static/404.html."""
    is_missing = isinstance(error, HTTPError) and error.status == HTTPStatus.NOT_FOUND
    is_api = environ.get("PATH_INFO", "").startswith("/api/")
    if not is_missing or is_api or "text/html" not in environ.get("HTTP_ACCEPT", ""):
        return messages.explain(error, environ)
    headers = [("Content-Type", "text/html; charset=utf-8"), messages.PRIVATE]
    return HTTPStatus.NOT_FOUND, headers, (STATIC / "404.html").read_bytes()


def show_status(environ: WSGIEnvironment) -> Response:
    """GET {"env", "python", "sdk", "storage", "cache"}: where the app runs, whether its parts answer; always 200."""
    storage = "ok"
    try:
        with asking_storage():
            client.get("/classes/Todo", {"limit": 0})  # needs the app's keys, as /date does not
    except HTTPError as error:
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:  # else it answered, if only that there is no todo yet
            storage = "down"
    value = {
        "env": environ["app.settings"].app_env,
        "python": python_version(),
        "sdk": version("leancloud"),
        "storage": storage,
        "cache": environ["app.cache"].status(),
    }
    return json_response(HTTPStatus.OK, value)


def show_client(environ: WSGIEnvironment) -> Response:
    """GET {"ip"}: the visitor's address."""
    return json_response(HTTPStatus.OK, {"ip": _address(environ)})


# Accounts ----------------------------------------------------------------------------------------------------------


def sign_up(environ: WSGIEnvironment) -> Response:
    """POST {username, password}: 201 {"user": {"id", "username"}} and logged in; a taken name is 409."""
    username, password = _credentials(messages.json_object(environ))
    user = leancloud.User()
    with asking_storage():
        user.sign_up(username, password)
        _check_whole(user, None)
    return json_response(HTTPStatus.CREATED, {"user": _user_json(user.id, username)})


def log_in(environ: WSGIEnvironment) -> Response:
    """POST {username, password}: 200 {"user"}; wrong or unknown is one 401, too many guesses are 429."""
    username, password = _credentials(messages.json_object(environ))
    cache: Cache = environ["app.cache"]
    address = _address(environ)
    counters = {
        f"login:{_digest(username)}:{address}": WRONG_PER_ACCOUNT,
        f"login:{address}": WRONG_PER_ADDRESS,
    }
    # Counted before storage is asked and given back after a success: guesses made side by side are counted as well.
    for key, limit in counters.items():
        counted = cache.count(key, THROTTLE_SECONDS)
        if counted is not None and counted[0] > limit:
            raise HTTPError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many wrong passwords, try again later",
                headers=[("Retry-After", str(counted[1]))],
            )
    user = leancloud.User()
    try:
        with asking_storage():
            user.login(username, password)
            _check_whole(user, None)
    except HTTPError as error:
        if error.code in (210, 211):
            raise HTTPError(HTTPStatus.UNAUTHORIZED, "the username or the password is wrong") from None
        for key in counters:  # storage is lost: nobody guessed
            cache.uncount(key)
        raise
    for key in counters:
        cache.uncount(key)
    return json_response(HTTPStatus.OK, {"user": _user_json(user.id, user.get("username"))})


def show_session(environ: WSGIEnvironment) -> Response:
    """GET {"user": {"id", "username"}}; the user is null for who is not logged in."""
    user = _session_user(environ)
    return json_response(HTTPStatus.OK, {"user": user})


def log_out(environ: WSGIEnvironment) -> Response:
    """DELETE: 204, also for who is not logged in."""
    user = leancloud.User.get_current()
    if user is not None:
        environ["app.cache"].drop(_session_key(user.get_session_token()))
        leancloud.User.set_current(None)  # the cookie goes with the user
    return HTTPStatus.NO_CONTENT, [messages.PRIVATE], b""


# Todos -------------------------------------------------------------------------------------------------------------


def list_todos(environ: WSGIEnvironment) -> Response:
    """GET ?done=&limit=&before=: {"todos": [...], "next"}, newest first; `next` is the `before` of the next page.

    `done` is true or false, `limit` 1 to 100 (else 20), `next` null on the last page; any other query is 400.
    """
    session = leancloud.User.get_current()
    if session is None:
        raise _nobody()
    done, limit, before = _list_options(messages.query(environ))
    cache: Cache = environ["app.cache"]
    token = session.get_session_token()
    # By the session, not the user: one that is dead, but believed a while longer, fills and reads no list but its own.
    key = f"todos:{_digest(token)}:{done}:{limit}:{before and before[0]}"
    value, version, user = cache.get_version(key, f"todos:{session.id}", beside=_session_key(token))
    user = _expected(environ, user or _ask_user(environ, session))
    if value is None:
        value = _find_todos(environ, user["id"], done, limit, before and before[1])
        if version is not None:
            cache.put_version(key, version, value, LIST_SECONDS)
    return json_response(HTTPStatus.OK, value)


def create_todo(environ: WSGIEnvironment) -> Response:
    """POST {content}: 201 the todo, readable and writable by its owner alone; a blank content is 400."""
    user = _needs_user(environ, is_sure=True)  # no ACL stands before a new todo: a dead session could still write one
    body = messages.json_object(environ)
    owner = leancloud.User.create_without_data(user["id"])
    acl = leancloud.ACL()
    acl.set_read_access(user["id"], True)
    acl.set_write_access(user["id"], True)
    todo = Todo(content=checked_content(body.get("content")), done=False, owner=owner)
    todo.set_acl(acl)
    _save(environ, user, todo)
    return json_response(HTTPStatus.CREATED, _todo_json(environ, todo))


def change_todo(environ: WSGIEnvironment, todo_id: str) -> Response:
    """PATCH {content?, done?}: 200 the todo; another's or an unknown one is 404, no change or a malformed one 400."""
    user = _needs_user(environ)
    body = messages.json_object(environ)
    changes: dict[str, str | bool] = {}
    if "content" in body:
        changes["content"] = checked_content(body["content"])
    if "done" in body:
        if not isinstance(body["done"], bool):
            raise HTTPError(HTTPStatus.BAD_REQUEST, "done must be true or false")
        changes["done"] = body["done"]
    if not changes:
        raise HTTPError(HTTPStatus.BAD_REQUEST, "content or done must be given")
    todo = _find_todo(todo_id)
    was_done = todo.get("done")
    todo.set(changes)
    _save(environ, user, todo)
    value = _todo_json(environ, todo)
    if value["done"] and not was_done:
        _notify(environ, value)
    return json_response(HTTPStatus.OK, value)


def delete_todo(environ: WSGIEnvironment, todo_id: str) -> Response:
    """DELETE: 204, gone with its attachment; another's or an unknown one is 404."""
    user = _needs_user(environ)
    todo = _find_todo(todo_id)
    with _changing(environ, user), asking_storage():
        todo.destroy()
    _destroy_file(todo.get("attachment"))
    return HTTPStatus.NO_CONTENT, [messages.PRIVATE], b""


def attach_file(environ: WSGIEnvironment, todo_id: str) -> Response:
    """POST multipart field `file`: 201 {"name", "url", "size", "mimeType"}; a second one replaces the first.

    `size` is in bytes; above MAX_UPLOAD_BYTES it is 413, without one file 400, for another's or an unknown todo 404.
    """
    user = _needs_user(environ)
    todo = _find_todo(todo_id)  # before the body is read: an upload for nothing is work for nothing
    previous = todo.get("attachment")
    upload = messages.upload(environ, "file", environ["app.settings"].max_upload_bytes)
    with upload.file:
        name = _file_name(upload.name)
        mime_type = upload.mime_type.split(";")[0].strip().lower()
        if not MIME_TYPE.fullmatch(mime_type):
            mime_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        with asking_storage():
            file = Attachment(name, upload.file, mime_type)
            file.metadata["mimeType"] = mime_type  # the SDK forgets the type of a file that it reads back
            file.save()
    todo.set("attachment", file)
    try:
        _save(environ, user, todo)
    except HTTPError:
        _destroy_file(file)
        raise
    _destroy_file(previous)
    return json_response(HTTPStatus.CREATED, _todo_json(environ, todo)["attachment"])


def remove_attachment(environ: WSGIEnvironment, todo_id: str) -> Response:
    """DELETE: 204, the file is gone; 404 for a todo without one, another's or an unknown one."""
    user = _needs_user(environ)
    todo = _find_todo(todo_id)
    file = todo.get("attachment")
    if file is None:
        raise HTTPError(HTTPStatus.NOT_FOUND, "this todo has no attachment")
    todo.unset("attachment")
    _save(environ, user, todo)
    _destroy_file(file)
    return HTTPStatus.NO_CONTENT, [messages.PRIVATE], b""


def show_attachment(environ: WSGIEnvironment, todo_id: str) -> Response:
    """GET the bytes, streamed from storage, to the owner alone; images are shown, the rest is a download.

    404 for a todo without one, another's or an unknown one.
    """
    _needs_user(environ)
    file = _find_todo(todo_id).get("attachment")
    if file is None or not file.key:  # without a key it lies on somebody else's server
        raise HTTPError(HTTPStatus.NOT_FOUND, "this todo has no attachment")
    with asking_storage():
        response = client.session.get(file.url, stream=True)
    if response.status_code != 200:
        response.close()
        raise HTTPError(HTTPStatus.BAD_GATEWAY, "storage does not have the file")
    mime_type = _mime_type(file)
    kind = "inline" if mime_type in SHOWN_TYPES else "attachment"
    headers = [
        ("Content-Type", mime_type),
        ("Content-Disposition", f"{kind}; filename*=UTF-8''{quote(_file_name(file.name), safe='')}"),
        ("X-Content-Type-Options", "nosniff"),
        messages.PRIVATE,
    ]
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and "Content-Encoding" not in response.headers:
        headers.append(("Content-Length", length))
    return HTTPStatus.OK, headers, _Streamed(response)


# Cloud code --------------------------------------------------------------------------------------------------------


def checked_content(content: object) -> str:
    """A todo's content as it is stored: not blank, cut to 240 characters and ` ...`. Raises HTTPError 400."""
    if not isinstance(content, str) or not content.strip():
        raise HTTPError(HTTPStatus.BAD_REQUEST, "content must be a text that is not blank")
    if len(content) <= MAX_CONTENT or (len(content) == MAX_CONTENT + 4 and content.endswith(" ...")):
        return content
    return content[:MAX_CONTENT] + " ..."


def register(engine: leancloud.Engine) -> None:
    """Add the cloud function and the hooks to leancloud.Engine."""
    engine.define("hello")(hello)
    engine.before_save("Todo")(check_todo)
    engine.before_update("Todo")(check_todo)


def hello(name: object = "world", **_: object) -> str:
    """POST /1.1/functions/hello {"name"?}: {"result": "Hello, ...!"}."""
    return f"Hello, {name if isinstance(name, str) else 'world'}!"


def check_todo(todo: leancloud.Object) -> None:
    """The rule for whoever writes a todo past our handlers, straight to storage; raise LeanEngineError."""
    if todo.has("content") or "content" in getattr(todo, "updated_keys", ["content"]):
        try:
            content = checked_content(todo.get("content"))
        except HTTPError as error:
            raise leancloud.LeanEngineError(error.message) from None
        if content != todo.get("content"):
            todo.set("content", content)


# Below: what several handlers need ---------------------------------------------------------------------------------


class _Streamed:
    """A response of storage as a body, in pieces; closed with it."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        pieces: Iterator[bytes] = self._response.iter_content(messages.CHUNK_BYTES)
        return pieces

    def close(self) -> None:
        self._response.close()


class _changing:
    """Voids the cached lists of a user before and after a write, so that no list from before it is served after it."""

    def __init__(self, environ: WSGIEnvironment, user: dict[str, str]) -> None:
        self._cache: Cache = environ["app.cache"]
        self._name = f"todos:{user['id']}"

    def __enter__(self) -> None:
        self._cache.touch(self._name)

    def __exit__(self, *_: object) -> None:
        self._cache.touch(self._name)


def _save(environ: WSGIEnvironment, user: dict[str, str], todo: leancloud.Object) -> None:
    with _changing(environ, user), asking_storage():
        todo.save(fetch_when_save=True)


def _address(environ: WSGIEnvironment) -> str:
    return messages.client_address(environ, environ["app.settings"].trusted_proxy)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _session_key(token: str) -> str:
    return f"session:{_digest(token)}"


def _user_json(user_id: str, username: str) -> dict[str, str]:
    return {"id": user_id, "username": username}


def _credentials(body: dict[str, Any]) -> tuple[str, str]:
    username, password = body.get("username"), body.get("password")
    if not isinstance(username, str) or not username.strip() or len(username) > MAX_USERNAME:
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"username must be a text of 1 to {MAX_USERNAME} characters")
    if not isinstance(password, str) or not password.strip() or len(password) > MAX_PASSWORD:
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"password must be a text of 1 to {MAX_PASSWORD} characters")
    return username, password


def _session_user(environ: WSGIEnvironment) -> dict[str, str] | None:
    """{"id", "username"} of the session, or None. The cookie alone proves nothing: the token may be dead."""
    user = leancloud.User.get_current()
    if user is None:
        return None
    known: dict[str, str] | None = environ["app.cache"].get(_session_key(user.get_session_token()))
    return known or _ask_user(environ, user)


def _ask_user(environ: WSGIEnvironment, session: leancloud.User) -> dict[str, str] | None:
    """What storage says: {"id", "username"}, believed for SESSION_SECONDS, or None, and then nobody is logged in."""
    token = session.get_session_token()
    try:
        with asking_storage():
            user = leancloud.User.become(token)
            _check_whole(user, session)
    except HTTPError as error:
        if error.code != 211:
            raise
        leancloud.User.set_current(None)
        return None
    known = _user_json(user.id, user.get("username"))
    environ["app.cache"].put(_session_key(token), known, SESSION_SECONDS)
    return known


def _check_whole(user: leancloud.User, previous: leancloud.User | None) -> None:
    """Raise ValueError, with `previous` current again, when storage's answer made a user without id or session."""
    if not (user.id and user.get_session_token() and user.get("username")):
        leancloud.User.set_current(previous)
        raise ValueError("the answer is no user")


def _needs_user(environ: WSGIEnvironment, is_sure: bool = False) -> dict[str, str]:
    """The session's user, or HTTPError 401; `is_sure` asks storage, however lately it was asked."""
    session = leancloud.User.get_current()
    return _expected(environ, _ask_user(environ, session) if is_sure and session else _session_user(environ))


def _expected(environ: WSGIEnvironment, user: dict[str, str] | None) -> dict[str, str]:
    """The session's user, or HTTPError: 401 for nobody, 409 when the request is meant for another user.

    A browser has one session for all of its tabs. What a tab that still shows the last user sends must not end up
    with the next one, so the page says in X-User whom it means.
    """
    if user is None:
        raise _nobody()
    if environ.get("HTTP_X_USER", user["id"]) != user["id"]:
        raise HTTPError(HTTPStatus.CONFLICT, "another user is logged in")
    return user


def _nobody() -> HTTPError:
    return HTTPError(HTTPStatus.UNAUTHORIZED, "log in first")


def _list_options(query: dict[str, str]) -> tuple[bool | None, int, tuple[str, Place] | None]:
    """(done or None, limit, (text, its place) or None) of the query string."""
    unknown = set(query) - {"done", "limit", "before"}
    if unknown:
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the query takes done, limit and before")
    done = query.get("done", "")
    if done not in ("", "true", "false"):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "done must be true or false")
    limit = query.get("limit") or str(DEFAULT_LIMIT)
    if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= MAX_LIMIT:
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"limit must be a number from 1 to {MAX_LIMIT}")
    before = query.get("before")
    return {"true": True, "false": False}.get(done), int(limit), (before, _opened(before)) if before else None


def _place(todo: leancloud.Object) -> str:
    """A todo's Place as an opaque text."""
    ms = int(todo.created_at.timestamp() * 1000 + 0.5)
    return base64.urlsafe_b64encode(f"{ms}.{todo.id}".encode()).decode().rstrip("=")


def _opened(text: str) -> Place:
    try:
        ms, _, todo_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").partition(".")
        if not OBJECT_ID.fullmatch(todo_id) or not re.fullmatch("[0-9]{1,14}", ms):
            raise ValueError
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(ms)), todo_id
    except (ValueError, OverflowError):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "before must be the next of an earlier page") from None


def _find_todos(
    environ: WSGIEnvironment, user_id: str, done: bool | None, limit: int, before: Place | None
) -> dict[str, Any]:
    def query() -> leancloud.Query:
        found = leancloud.Query("Todo").equal_to("owner", leancloud.User.create_without_data(user_id))
        return found if done is None else found.equal_to("done", done)

    if before is None:
        wanted = query()
    else:
        time, todo_id = before
        earlier = query().less_than("createdAt", time)
        beside = query().equal_to("createdAt", time).less_than("objectId", todo_id)
        wanted = leancloud.Query.or_(earlier, beside)
    wanted = wanted.descending("createdAt").add_descending("objectId").limit(limit + 1)
    try:
        with asking_storage():
            todos = wanted.find()
            page = [_todo_json(environ, todo) for todo in todos[:limit]]
            following = _place(todos[limit - 1]) if len(todos) > limit else None
    except HTTPError as error:
        if error.code != 101:  # the class comes into being with the first todo
            raise
        page, following = [], None
    return {"todos": page, "next": following}


def _find_todo(todo_id: str) -> leancloud.Object:
    """The todo, if there is one that this session may read. The SDK pastes ids into URLs, so they are checked."""
    if not OBJECT_ID.fullmatch(todo_id):
        raise HTTPError(HTTPStatus.NOT_FOUND, "there is no such todo")
    with asking_storage():
        todo = leancloud.Query("Todo").get(todo_id)
    if not todo.is_existed():
        raise HTTPError(HTTPStatus.NOT_FOUND, "there is no such todo", 101)
    return todo


def _todo_json(environ: WSGIEnvironment, todo: leancloud.Object) -> dict[str, Any]:
    created = todo.created_at.astimezone(UTC)
    return {
        "id": todo.id,
        "content": todo.get("content"),
        "done": bool(todo.get("done")),
        "createdAt": created.strftime("%Y-%m-%dT%H:%M:%S.") + f"{created.microsecond // 1000:03d}Z",
        "attachment": _attachment_json(environ, todo),
    }


def _attachment_json(environ: WSGIEnvironment, todo: leancloud.Object) -> dict[str, Any] | None:
    file = todo.get("attachment")
    if file is None:
        return None
    return {
        "name": _file_name(file.name),
        "url": f"{environ.get('SCRIPT_NAME', '')}/api/todos/{todo.id}/attachment",
        "size": file.metadata.get("size"),
        "mimeType": _mime_type(file),
    }


def _mime_type(file: leancloud.File) -> str:
    mime_type = file.metadata.get("mimeType") or file.mime_type
    return mime_type if isinstance(mime_type, str) and MIME_TYPE.fullmatch(mime_type) else "application/octet-stream"


def _file_name(name: str | None) -> str:
    """A file's name without folders and control characters."""
    name = "".join(char for char in re.split(r"[/\\]", name or "")[-1] if char.isprintable())
    return name[-120:] or "file"


def _destroy_file(file: leancloud.File | None) -> None:
    """Remove a file that nothing refers to any more; if that fails it is only litter."""
    if file is not None and file.key:
        try:
            with asking_storage():
                file.destroy()
        except HTTPError:
            pass


def _notify(environ: WSGIEnvironment, todo: dict[str, Any]) -> None:
    """Tell NOTIFY_WEBHOOK_URL that a todo is done. The todo is done whatever becomes of this."""
    url = environ["app.settings"].notify_webhook_url
    if url:
        try:
            requests.post(url, json=todo, timeout=NOTIFY_SECONDS, allow_redirects=False).close()
        except requests.RequestException:
            pass


def _file_response(environ: WSGIEnvironment, file: Path) -> Response:
    """A static file: revalidated by caches each time, and sent again only when it has changed."""
    try:
        data, changed = file.read_bytes(), file.stat().st_mtime
    except OSError:
        raise HTTPError(HTTPStatus.NOT_FOUND, "there is nothing at this path") from None
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = [
        ("ETag", etag),
        ("Last-Modified", messages.http_date(changed)),
        ("Cache-Control", "no-cache"),
    ]
    if etag in environ.get("HTTP_IF_NONE_MATCH", ""):
        return HTTPStatus.NOT_MODIFIED, headers, b""
    mime_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if mime_type.startswith("text/"):
        mime_type += "; charset=utf-8"
    return HTTPStatus.OK, [("Content-Type", mime_type), *headers], data
