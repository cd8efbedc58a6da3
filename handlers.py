"""The app: todo lists with accounts and attachments, as plain functions. What a todo is stands in todos.py.

A handler takes (environ, **path parameters) and returns (HTTPStatus, headers, body). Beyond the request, environ holds
what wsgi.py put there: `app.settings`, `app.cache`. Known failures are raised as HTTPError: those that a function names,
400 and 413 for a body that cannot be read, 401 for visitors who have to log in first, 409 if another user is logged in
than X-User names, 502 and 503 if storage fails.
The cloud function and the hooks are at the end.
"""
import mimetypes
import re
from collections.abc import Iterator
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

import todos
from leanengine import users
from leanengine.cache import Cache
from leanengine.sdk import Attachment, asking_storage
from leanwsgi import messages
from leanwsgi.answers import bounded_session
from leanwsgi.messages import HTTPError, Response, json_response
from leanwsgi.static_files import static_file

STATIC = Path(__file__).parent / "static"
DEAD_LINK = (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_URI_TOO_LONG)  # to a browser
MAX_USERNAME, MAX_PASSWORD = 64, 256
DEFAULT_LIMIT, MAX_LIMIT = 20, 100
LIST_SECONDS = 30  # how long a cached list may live; a write voids it at once
NOTIFY_SECONDS = 2
SHOWN_TYPES = frozenset(["image/png", "image/jpeg", "image/gif", "image/webp"])  # the rest could run as a page


# The page ----------------------------------------------------------------------------------------------------------


def show_page(environ: WSGIEnvironment) -> Response:
    """GET the page, static/index.html."""
    return static_file(environ, STATIC, "index.html")


def show_static(environ: WSGIEnvironment, path: str) -> Response:
    """GET a file of static/; 404 if there is none."""
    return static_file(environ, STATIC, path)


def show_icon(environ: WSGIEnvironment) -> Response:
    """GET static/favicon.ico, which browsers request by themselves."""
    return static_file(environ, STATIC, "favicon.ico")


def explain(error: Exception, environ: WSGIEnvironment) -> Response:
    """What went wrong, as JSON; a browser that follows a dead or malformed link gets static/404.html."""
    is_api = environ.get("PATH_INFO", "").startswith("/api/")
    if not isinstance(error, HTTPError) or error.status not in DEAD_LINK or is_api or "text/html" not in environ.get("HTTP_ACCEPT", ""):
        return messages.explain(error, environ)
    headers = [("Content-Type", "text/html; charset=utf-8"), messages.PRIVATE]
    return error.status, headers, (STATIC / "404.html").read_bytes()


def show_status(environ: WSGIEnvironment) -> Response:
    """GET {"env", "python", "sdk", "storage", "cache"}: where the app runs, and whether its parts answer; 200, but 503 for ?ready without storage."""
    storage = "ok" if all(map(_is_answered, ("/classes/Todo", "/users"))) else "down"
    value = {
        "env": environ["app.settings"].app_env,
        "python": python_version(),
        "sdk": version("leancloud"),
        "storage": storage,
        "cache": environ["app.cache"].status(),
    }
    is_ready = storage == "ok" or "ready" not in messages.query(environ)
    return json_response(HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE, value)


def _is_answered(path: str) -> bool:
    """Whether storage answers a query for nothing: with the app's keys, and of accounts too, unlike its /date."""
    try:
        with asking_storage():
            client.get(path, {"limit": 0})
    except HTTPError as error:
        return error.status < HTTPStatus.INTERNAL_SERVER_ERROR  # else it said no more than that there is no todo yet
    return True


def show_client(environ: WSGIEnvironment) -> Response:
    """GET {"ip"}: the visitor's address."""
    return json_response(HTTPStatus.OK, {"ip": _address(environ)})


# Accounts ----------------------------------------------------------------------------------------------------------


def sign_up(environ: WSGIEnvironment) -> Response:
    """POST {username, password}: 201 {"user": {"id", "username"}}, logged in; 409 for a taken name, 429 after too many."""
    username, password = _credentials(messages.json_object(environ))
    users.limit_sign_ups(environ["app.cache"], _address(environ))
    return json_response(HTTPStatus.CREATED, {"user": users.sign_up(username, password)})


def log_in(environ: WSGIEnvironment) -> Response:
    """POST {username, password}: 200 {"user"}; 401 for a wrong password or unknown user, 429 after too many guesses."""
    username, password = _credentials(messages.json_object(environ))
    with users.limiting_guesses(environ["app.cache"], username, _address(environ)):
        user = users.log_in(username, password)
    return json_response(HTTPStatus.OK, {"user": user})


def show_session(environ: WSGIEnvironment) -> Response:
    """GET {"user": {"id", "username"}}; the user is null if nobody is logged in."""
    return json_response(HTTPStatus.OK, {"user": users.session_user(environ)})


def log_out(environ: WSGIEnvironment) -> Response:
    """DELETE: 204, even if nobody is logged in."""
    users.log_out(environ)
    return HTTPStatus.NO_CONTENT, [messages.PRIVATE], b""


# Todos -------------------------------------------------------------------------------------------------------------


def list_todos(environ: WSGIEnvironment) -> Response:
    """GET ?done=&limit=&before=: {"todos": [...], "next"}, newest first; `next` is the `before` of the next page.

    `done` is true or false, `limit` 1 to 100 (default 20), `next` null on the last page; any other query is 400.
    """
    session = leancloud.User.get_current()
    if session is None:
        raise users.nobody()
    done, limit, before = _list_options(messages.query(environ))
    cache: Cache = environ["app.cache"]
    token = session.get_session_token()
    # Cached by session, not by user: a dead session that is believed a while longer fills and reads only its own list.
    key = f"todos:{users.digest(token)}:{done}:{limit}:{before and before[0]}"
    value, version, user = cache.get_version(key, todos.list_version(session.id), beside=users.session_key(token))
    user = users.expected(environ, users.living(environ, user) if user else users.ask_user(environ, session))
    if value is None:
        value = todos.find_page(environ, user["id"], done, limit, before and before[1])
        if version is not None:
            cache.put_version(key, version, value, LIST_SECONDS)
    return json_response(HTTPStatus.OK, value)


def create_todo(environ: WSGIEnvironment) -> Response:
    """POST {content}: 201 the todo, readable and writable by its owner only; 400 for a blank content."""
    user = users.needs_user(environ, is_sure=True)  # no ACL protects a new todo: a dead session could still write one
    body = messages.json_object(environ)
    todo = todos.new(user, todos.checked_content(body.get("content")))
    todos.save(environ["app.cache"], user, todo)
    return json_response(HTTPStatus.CREATED, todos.to_json(environ, todo))


def change_todo(environ: WSGIEnvironment, todo_id: str) -> Response:
    """PATCH {content?, done?}: 200 the todo; 404 for another user's or an unknown todo, 400 for no or a malformed change."""
    user = users.needs_user(environ)
    body = messages.json_object(environ)
    changes: dict[str, str | bool] = {}
    if "content" in body:
        changes["content"] = todos.checked_content(body["content"])
    if "done" in body:
        if not isinstance(body["done"], bool):
            raise HTTPError(HTTPStatus.BAD_REQUEST, "done must be true or false")
        changes["done"] = body["done"]
    if not changes:
        raise HTTPError(HTTPStatus.BAD_REQUEST, "content or done must be given")
    todo = todos.find(todo_id)
    was_done = todo.get("done")
    todo.set(changes)
    todos.save(environ["app.cache"], user, todo)
    value = todos.to_json(environ, todo)
    if value["done"] and not was_done:
        _notify(environ, value)
    return json_response(HTTPStatus.OK, value)


def delete_todo(environ: WSGIEnvironment, todo_id: str) -> Response:
    """DELETE: 204, its attachment is deleted too; 404 for another user's or an unknown todo."""
    user = users.needs_user(environ)
    todo = todos.find(todo_id)
    with todos.changing(environ["app.cache"], user), asking_storage():
        todo.destroy()
    todos.destroy_file(todo.get("attachment"))
    return HTTPStatus.NO_CONTENT, [messages.PRIVATE], b""


def attach_file(environ: WSGIEnvironment, todo_id: str) -> Response:
    """POST multipart field `file`: 201 {"name", "url", "size", "mimeType"}; a second one replaces the first.

    `size` is in bytes; above MAX_UPLOAD_BYTES it is 413, without one file 400, for another's or an unknown todo 404.
    """
    user = users.needs_user(environ)
    todo = todos.find(todo_id)  # before the body is read: an upload for nothing is work for nothing
    previous = todo.get("attachment")
    upload = messages.upload(environ, "file", environ["app.settings"].max_upload_bytes)
    with upload.file:
        name = todos.file_name(upload.name)
        mime_type = upload.mime_type.split(";")[0].strip().lower()
        if not todos.MIME_TYPE.fullmatch(mime_type):
            mime_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        with asking_storage():
            file = Attachment(name, upload.file, mime_type)
            file.metadata["mimeType"] = mime_type  # the SDK forgets the type of a file that it reads back
            file.save()
    todo.set("attachment", file)
    try:
        todos.save(environ["app.cache"], user, todo)
    except HTTPError:
        todos.destroy_file(file)
        raise
    todos.destroy_file(previous)
    return json_response(HTTPStatus.CREATED, todos.to_json(environ, todo)["attachment"])


def remove_attachment(environ: WSGIEnvironment, todo_id: str) -> Response:
    """DELETE: 204, the file is deleted; 404 for a todo without one, another user's or an unknown todo."""
    user = users.needs_user(environ)
    todo = todos.find(todo_id)
    file = todo.get("attachment")
    if file is None:
        raise HTTPError(HTTPStatus.NOT_FOUND, "this todo has no attachment")
    todo.unset("attachment")
    todos.save(environ["app.cache"], user, todo)
    todos.destroy_file(file)
    return HTTPStatus.NO_CONTENT, [messages.PRIVATE], b""


def show_attachment(environ: WSGIEnvironment, todo_id: str) -> Response:
    """GET the bytes, streamed from storage, for the owner only; images are shown, other files are downloads.

    404 for a todo without one, another's or an unknown one.
    """
    users.needs_user(environ)
    file = todos.find(todo_id).get("attachment")
    if file is None or not file.key:  # without a key it lies on somebody else's server
        raise HTTPError(HTTPStatus.NOT_FOUND, "this todo has no attachment")
    with asking_storage():
        response = client.session.get(file.url, stream=True)
    if response.status_code != 200:
        response.close()
        raise HTTPError(HTTPStatus.BAD_GATEWAY, "storage does not have the file")
    mime_type = todos.file_type(file)
    kind = "inline" if mime_type in SHOWN_TYPES else "attachment"
    headers = [
        ("Content-Type", mime_type),
        ("Content-Disposition", f"{kind}; filename*=UTF-8''{quote(todos.file_name(file.name), safe='')}"),
        ("X-Content-Type-Options", "nosniff"),
        messages.PRIVATE,
    ]
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and "Content-Encoding" not in response.headers:
        headers.append(("Content-Length", length))
    return HTTPStatus.OK, headers, _Streamed(response)


# Cloud code --------------------------------------------------------------------------------------------------------


def register(engine: leancloud.Engine) -> None:
    """Add the cloud function and the hooks to leancloud.Engine."""
    engine.define("hello")(hello)
    engine.before_save("Todo")(todos.check)
    engine.before_update("Todo")(todos.check)


def hello(name: object = "world", **_: object) -> str:
    """POST /1.1/functions/hello {"name"?}: {"result": "Hello, ...!"}."""
    return f"Hello, {name if isinstance(name, str) else 'world'}!"


# What the handlers above need --------------------------------------------------------------------------------------


class _Streamed:
    """A response of storage, passed on in pieces; closed with the body."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        pieces: Iterator[bytes] = self._response.iter_content(messages.CHUNK_BYTES)
        return pieces

    def close(self) -> None:
        self._response.close()


def _address(environ: WSGIEnvironment) -> str:
    return messages.client_address(environ, environ["app.settings"].trusted_proxy)


def _credentials(body: dict[str, Any]) -> tuple[str, str]:
    username, password = body.get("username"), body.get("password")
    if not isinstance(username, str) or not username.strip() or len(username) > MAX_USERNAME:
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"username must be a text of 1 to {MAX_USERNAME} characters")
    if not isinstance(password, str) or not password.strip() or len(password) > MAX_PASSWORD:
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"password must be a text of 1 to {MAX_PASSWORD} characters")
    return username, password


def _list_options(query: dict[str, str]) -> tuple[bool | None, int, tuple[str, todos.Place] | None]:
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
    return {"true": True, "false": False}.get(done), int(limit), (before, todos.opened_place(before)) if before else None


def _notify(environ: WSGIEnvironment, todo: dict[str, Any]) -> None:
    """Tell NOTIFY_WEBHOOK_URL that a todo is done. The todo is done whatever becomes of this."""
    url = environ["app.settings"].notify_webhook_url
    if url:
        try:
            with bounded_session() as session:
                session.post(url, json=todo, timeout=NOTIFY_SECONDS, allow_redirects=False, stream=True).close()
        except requests.RequestException:
            pass


