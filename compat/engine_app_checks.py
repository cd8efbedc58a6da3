"""What is tried of each app of `compat.engine_apps`: its pages, hooks and functions, as visitors and clients call them."""
import contextlib
import html
import json
from collections.abc import Iterator



def same(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")


def has(text: str, part: str) -> None:
    if part not in text:
        raise AssertionError(f"no {part!r} in {text[:500]!r}")


def made(app, class_name: str, body: dict, **more) -> str:
    status, answer = app.api("POST", f"/classes/{class_name}", body, **more)
    same((status, "objectId" in answer), (201, True)) if status != 201 else None
    return answer["objectId"]


# The starters: a page, a list of todos, a function `hello`; those in Python have a hook.
def main_page(app) -> None:
    status, text = app.page("/")
    same(status, 200)
    has(text, "LeanEngine")


def empty_list(app) -> None:
    same(app.page("/todos")[0], 200)


def add_by_form(app) -> None:
    status, text = app.page("/todos", form={"content": "buy <milk> & bread"})
    same(status, 200)
    has(html.unescape(text), "buy <milk> & bread")


def is_stored(app) -> None:
    status, found = app.api("GET", "/classes/Todo")
    same((status, [one["content"] for one in found["results"]]), (200, ["buy <milk> & bread"]))


def static_file(app) -> None:
    names = ("/static/style.css", "/stylesheets/style.css", "/static/main.css")
    statuses = [app.page(name)[0] for name in names]
    if 200 not in statuses:
        raise AssertionError(f"{names}: {statuses}")


def ping(app) -> None:
    status, text = app.page("/__engine/1/ping")
    same(status, 200)
    has(text, "version")


def refused_by_hook(app) -> None:
    status, answer = app.api("POST", "/classes/Todo", {"content": ""})
    same((status, answer["code"]), (400, 142))
    has(answer["error"], "cannot be empty")


def changed_by_hook(app) -> None:
    object_id = made(app, "Todo", {"content": "x" * 300})
    same(app.api("GET", f"/classes/Todo/{object_id}")[1]["content"], "x" * 240 + " ...")


def refusal_on_page(app) -> None:
    status, text = app.page("/todos", form={"content": ""})
    same(status in (500, 502), True)
    has(text, "cannot be empty")


def hello_to_nobody(app) -> None:
    same(app.api("POST", "/functions/hello", {}), (200, {"result": "Hello, LeanCloud!"}))


def hello_by_name(app) -> None:
    for path in ("/functions/hello", "/call/hello"):
        same(app.api("POST", path, {"name": "Ann"}), (200, {"result": "Hello, Ann!"}))


def unknown_function(app) -> None:
    status, answer = app.api("POST", "/functions/nothing", {})
    same((status >= 400, "error" in answer), (True, True))


def rest_todos(app) -> None:
    status, text = app.page("/api/todos", body={"content": "by REST"})
    same((status, json.loads(text)), (200, {"success": True}))
    has(app.page("/api/todos")[1], "by REST")
    same(app.page("/api/todos", body={"text": "x"})[0], 400)


def timer(app) -> None:
    """As cron calls a function: with the master key."""
    same(app.api("POST", "/functions/hello", {}, master=True)[0], 200)


PYTHON = [
    ("health check", ping),
    ("main page", main_page),
    ("list of a class that does not exist yet", empty_list),
    ("a todo by the page's form", add_by_form),
    ("it is stored", is_stored),
    ("static file", static_file),
    ("beforeSave refuses", refused_by_hook),
    ("beforeSave changes", changed_by_hook),
    ("the refusal reaches the page", refusal_on_page),
    ("function without parameters", hello_to_nobody),
    ("function with parameters, by /functions and /call", hello_by_name),
    ("function that does not exist", unknown_function),
    ("function as a timer calls it", timer),
]
FLASK = [*PYTHON, ("the app's own REST API", rest_todos)]
DJANGO = PYTHON


def hello_world(app) -> None:
    same(app.api("POST", "/functions/hello", {}), (200, {"result": "Hello world!"}))


def not_found(app) -> None:
    same(app.page("/nothing-here")[0], 404)


NODE = [
    ("health check", ping),
    ("main page", main_page),
    ("list of a class that does not exist yet", empty_list),
    ("a todo by the page's form", add_by_form),
    ("it is stored", is_stored),
    ("static file", static_file),
    ("function", hello_world),
    ("function that does not exist", unknown_function),
    ("function as a timer calls it", timer),
    ("page that does not exist", not_found),
]
VALINE: list = []
TICKET: list = []


# The PHP SDK's own engine, `test/engine/index.php`.
def php_hello(app) -> None:
    for body in ({}, []):
        same(app.api("POST", "/functions/hello", body), (200, {"result": "hello"}))


def php_parameter(app) -> None:
    same(app.api("POST", "/functions/sayHello", {"name": "Ann"}), (200, {"result": "hello Ann"}))


def php_error(app) -> None:
    status, answer = app.api("POST", "/functions/customError", {})
    same((status >= 400, answer["error"]), (True, "My custom error."))


def php_meta(app) -> None:
    same(app.api("POST", "/functions/getMeta", {"name": "x"}), (200, {"result": {"remoteAddress": "127.0.0.1"}}))


def php_object(app) -> None:
    body = {"object": {"__type": "Object", "className": "Anything", "objectId": "id001", "name": "alice"}}
    status, answer = app.api("POST", "/call/updateObject", body)
    found = answer["result"]
    same((status, found["className"], found["objectId"], found["__testKey"]), (200, "Anything", "id001", 42))


def php_saved(app) -> None:
    likes = {"__type": "Pointer", "className": "TestObject", "objectId": "id002"}
    object_id = made(app, "TestObject", {"name": "alice", "likes": likes, "when": {"__type": "Date", "iso": "2026-01-01T00:00:00.000Z"}})
    found = app.api("GET", f"/classes/TestObject/{object_id}")[1]
    same((found["name"], found["likes"], "__testKey" in found), ("alice", likes, False))
    same(found["when"], {"__type": "Date", "iso": "2026-01-01T00:00:00.000Z"})


def php_deleted(app) -> None:
    same(app.api("DELETE", f"/classes/TestObject/{made(app, 'TestObject', {'name': 'gone'})}")[0], 200)


def php_login(app) -> None:
    app.api("POST", "/users", {"username": "ann", "password": "pw"})
    status, answer = app.api("POST", "/login", {"username": "ann", "password": "pw"})
    same((status, answer["username"]), (200, "ann"))
    app.until(lambda: "Logging a user" in app.log.read_text(errors="replace"))


def php_user(app) -> None:
    _, user = app.api("POST", "/users", {"username": "bob", "password": "pw"})
    same(app.api("POST", "/functions/hello", {}, session=user["sessionToken"]), (200, {"result": "hello"}))


def php_unsigned(app) -> None:
    """Whoever calls the engine itself, without a mark, is refused."""
    headers = {"X-LC-Id": app.keys["LEANCLOUD_APP_ID"], "X-LC-Key": app.keys["LEANCLOUD_APP_KEY"]}
    for mark in ("", "1,0"):
        body = {"object": {"name": "x", "__before": mark}}
        status, _ = app.page("/1.1/functions/TestObject/beforeSave", body=body, headers=headers)
        same(status, 401)


PHP = [
    ("health check", ping),
    ("function, parameters {} and []", php_hello),
    ("function with parameters", php_parameter),
    ("function that takes and returns an object", php_object),
    ("error of a function", php_error),
    ("the caller's address", php_meta),
    ("function as a user", php_user),
    ("beforeSave and afterSave, by their marks", php_saved),
    ("beforeDelete", php_deleted),
    ("onLogin", php_login),
    ("hooks without a mark are refused", php_unsigned),
]


@contextlib.contextmanager
def mail_server() -> Iterator[dict[str, str]]:
    yield {}


@contextlib.contextmanager
def redis() -> Iterator[dict[str, str]]:
    yield {}
