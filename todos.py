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
from leancloud import client, utils

from leanengine.cache import Cache
from leanengine.sdk import asking_storage
from leanengine.users import User
from leanwsgi.messages import HTTPError

Todo = leancloud.Object.extend("Todo")
Place = tuple[datetime, str]  # in a list: the time and the id of a todo

MAX_CONTENT = 240  # characters kept of a longer content, before ` ...`
OBJECT_ID = re.compile(r"[A-Za-z0-9]{1,64}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
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
    # Whole todos: storage passes them on as they are stored, and would decode those of which it shows a part.
    wanted = wanted.descending("createdAt").add_descending("objectId").limit(limit + 1)
    try:
        with asking_storage():
            # Read as JSON: the SDK would take longer to make objects of the rows than storage takes to find them.
            rows = client.get("/classes/Todo", wanted.dump()).json()["results"]
            page = [row_to_json(environ, row) for row in rows[:limit]]
            following = _place(rows[limit - 1]) if len(rows) > limit else None
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


def _place(row: dict[str, Any]) -> str:
    """A todo's Place as an opaque text."""
    ms = int(datetime.fromisoformat(row["createdAt"]).timestamp() * 1000 + 0.5)
    return base64.urlsafe_b64encode(f"{ms}.{row['objectId']}".encode()).decode().rstrip("=")


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
    text = created.strftime("%Y-%m-%dT%H:%M:%S.") + f"{created.microsecond // 1000:03d}Z"
    return _json(environ, todo.id, text, todo, todo.get("attachment"))


def row_to_json(environ: WSGIEnvironment, row: dict[str, Any]) -> dict[str, Any]:
    """The same of a todo as storage sends it."""
    if not TIME.fullmatch(row["createdAt"]):
        raise ValueError("a todo without a time")
    return _json(environ, row["objectId"], row["createdAt"], row, utils.decode("attachment", row.get("attachment")))


def _json(
    environ: WSGIEnvironment, todo_id: str, created: str, fields: Any, file: leancloud.File | None
) -> dict[str, Any]:
    """`fields.get(name)` gives the rest."""
    return {
        "id": todo_id,
        "content": fields.get("content"),
        "done": bool(fields.get("done")),
        "createdAt": created,
        "attachment": file and attachment_json(environ, todo_id, file),
    }


def attachment_json(environ: WSGIEnvironment, todo_id: str, file: leancloud.File) -> dict[str, Any]:
    """{"name", "url", "size", "mimeType"}; `url` is a path of this app."""
    return {
        "name": file_name(file.name),
        "url": f"{environ.get('SCRIPT_NAME', '')}/api/todos/{todo_id}/attachment",
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
