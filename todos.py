"""What a todo is: its content, its place in a list, its JSON, its attachment."""
import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, UTC
from http import HTTPStatus
from typing import Any
from wsgiref.types import WSGIEnvironment

import leancloud

from leanengine.cache import Cache
from leanengine.sdk import asking_storage
from leanengine.users import User
from leanwsgi.messages import HTTPError

Todo = leancloud.Object.extend("Todo")
Place = tuple[datetime, str]  # in a list: the time and the id of a todo

MAX_CONTENT = 240  # characters kept of a longer content, before ` ...`
OBJECT_ID = re.compile(r"[A-Za-z0-9]{1,64}")
MIME_TYPE = re.compile(r"[a-z0-9]+/[a-z0-9][a-z0-9.+-]{0,80}")


def checked_content(content: object) -> str:
    """A todo's content as it is stored: not blank, cut to 240 characters and ` ...`. Raises HTTPError 400."""
    if not isinstance(content, str) or not content.strip():
        raise HTTPError(HTTPStatus.BAD_REQUEST, "content must be a text that is not blank")
    if len(content) <= MAX_CONTENT or (len(content) == MAX_CONTENT + 4 and content.endswith(" ...")):
        return content
    return content[:MAX_CONTENT] + " ..."


def check(todo: leancloud.Object) -> None:
    """The same rule as a hook, for those who write to storage without our handlers; raise LeanEngineError."""
    if todo.has("content") or "content" in getattr(todo, "updated_keys", ["content"]):
        try:
            content = checked_content(todo.get("content"))
        except HTTPError as error:
            raise leancloud.LeanEngineError(error.message) from None
        if content != todo.get("content"):
            todo.set("content", content)


def new(user: User, content: str) -> leancloud.Object:
    """An unsaved todo, readable and writable by its owner alone."""
    owner = leancloud.User.create_without_data(user["id"])
    acl = leancloud.ACL()
    acl.set_read_access(user["id"], True)
    acl.set_write_access(user["id"], True)
    todo = Todo(content=content, done=False, owner=owner)
    todo.set_acl(acl)
    return todo


@contextmanager
def changing(cache: Cache, user: User) -> Iterator[None]:
    """Void the cached lists of a user before and after a write, so that no list from before it is served after it."""
    cache.touch(list_version(user["id"]))
    try:
        yield
    finally:
        cache.touch(list_version(user["id"]))


def list_version(user_id: str) -> str:
    """What a user's cached lists depend on, as the cache calls it."""
    return f"todos:{user_id}"


def save(cache: Cache, user: User, todo: leancloud.Object) -> None:
    """Store a new or changed todo; afterwards it is what storage has, hooks included."""
    with changing(cache, user), asking_storage():
        todo.save()


def find_page(
    environ: WSGIEnvironment, user_id: str, done: bool | None, limit: int, before: Place | None
) -> dict[str, Any]:
    """{"todos", "next"}: a page of a user's todos, newest first, after the place `before`."""

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
    # The owner is known: decoding it takes the SDK as long as the todo itself.
    wanted = wanted.select("content", "done", "attachment").descending("createdAt").add_descending("objectId").limit(limit + 1)
    try:
        with asking_storage():
            todos = wanted.find()
            page = [to_json(environ, todo) for todo in todos[:limit]]
            following = _place(todos[limit - 1]) if len(todos) > limit else None
    except HTTPError as error:
        if error.code != 101:  # the class comes into being with the first todo
            raise
        page, following = [], None
    return {"todos": page, "next": following}


def find(todo_id: str) -> leancloud.Object:
    """The todo, if there is one that this session may read. The SDK pastes ids into URLs, so they are checked."""
    if not OBJECT_ID.fullmatch(todo_id):
        raise HTTPError(HTTPStatus.NOT_FOUND, "there is no such todo")
    with asking_storage():
        todo = leancloud.Query("Todo").get(todo_id)
    if not todo.is_existed():
        raise HTTPError(HTTPStatus.NOT_FOUND, "there is no such todo", 101)
    return todo


def _place(todo: leancloud.Object) -> str:
    """A todo's Place as an opaque text."""
    ms = int(todo.created_at.timestamp() * 1000 + 0.5)
    return base64.urlsafe_b64encode(f"{ms}.{todo.id}".encode()).decode().rstrip("=")


def opened_place(text: str) -> Place:
    """The Place that `text` names; HTTPError 400 for a text that was not made here."""
    try:
        ms, _, todo_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").partition(".")
        if not OBJECT_ID.fullmatch(todo_id) or not re.fullmatch("[0-9]{1,14}", ms):
            raise ValueError
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(ms)), todo_id
    except (ValueError, OverflowError):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "before must be the next of an earlier page") from None


def to_json(environ: WSGIEnvironment, todo: leancloud.Object) -> dict[str, Any]:
    """{"id", "content", "done", "createdAt", "attachment"}: a todo as the page gets it."""
    created = todo.created_at.astimezone(UTC)
    return {
        "id": todo.id,
        "content": todo.get("content"),
        "done": bool(todo.get("done")),
        "createdAt": created.strftime("%Y-%m-%dT%H:%M:%S.") + f"{created.microsecond // 1000:03d}Z",
        "attachment": attachment_json(environ, todo),
    }


def attachment_json(environ: WSGIEnvironment, todo: leancloud.Object) -> dict[str, Any] | None:
    """{"name", "url", "size", "mimeType"}, or None without an attachment; `url` is a path of this app."""
    file = todo.get("attachment")
    if file is None:
        return None
    return {
        "name": file_name(file.name),
        "url": f"{environ.get('SCRIPT_NAME', '')}/api/todos/{todo.id}/attachment",
        "size": file.metadata.get("size"),
        "mimeType": file_type(file),
    }


def file_type(file: leancloud.File) -> str:
    """The MIME type that a file was stored with, if it is well-formed."""
    mime_type = file.metadata.get("mimeType") or file.mime_type
    return mime_type if isinstance(mime_type, str) and MIME_TYPE.fullmatch(mime_type) else "application/octet-stream"


def file_name(name: str | None) -> str:
    """A file's name without folders and control characters."""
    name = "".join(char for char in re.split(r"[/\\]", name or "")[-1] if char.isprintable())
    return name[-120:] or "file"


def destroy_file(file: leancloud.File | None) -> None:
    """Remove a file that nothing refers to any more; if that fails it is only litter."""
    if file is not None and file.key:
        try:
            with asking_storage():
                file.destroy()
        except HTTPError:
            pass
