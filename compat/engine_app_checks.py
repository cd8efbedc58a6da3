"""What is tried of each app of `compat.engine_apps`: its pages, hooks and functions, as visitors and clients call them."""
import html
import json
import urllib.parse

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


# Valine-Admin: hooks that send mails and hide comments, pages for an owner who logs in, functions for two timers.
def comment(app, **fields: str) -> str:
    body = {"nick": "Ann", "mail": "ann@example.org", "comment": "nice <b>post</b>", "url": "/post/", **fields}
    return made(app, "Comment", body)


def is_hidden(app) -> None:
    object_id = comment(app)
    app.until(lambda: app.api("GET", f"/classes/Comment/{object_id}", master=True)[1].get("isSpam"))
    same(app.api("GET", "/classes/Comment")[1]["results"], [])


def is_mailed(app) -> None:
    app.until(lambda: any(to == "owner@example.org" and "Ann" in text for to, text in app.more["mails"]))
    where = urllib.parse.quote('{"isNotified":true}')
    app.until(lambda: app.api("GET", f"/classes/Comment?where={where}", master=True)[1]["results"])


def owner_signs_up(app) -> None:
    has(app.page("/sign-up")[1], "owner@example.org")
    form = {"username": "owner", "password": "pw", "email": "owner@example.org"}
    same(app.page("/sign-up", form=form)[0], 200)
    app.until(lambda: app.api("GET", "/users", master=True)[1]["results"])


def owner_logs_in(app) -> None:
    same(app.page("/login", form={"username": "owner", "password": "wrong"})[0], 200)
    status, text = app.page("/login", form={"username": "owner", "password": "pw"})
    same(status, 200)
    has(text, "nice <b>post</b>")


def owner_shows(app) -> None:
    found = app.api("GET", "/classes/Comment", master=True)[1]["results"][0]
    same(app.page(f"/comments/not-spam?id={found['objectId']}")[0], 200)
    app.until(lambda: app.api("GET", "/classes/Comment")[1]["results"])


def owner_deletes(app) -> None:
    found = app.api("GET", "/classes/Comment")[1]["results"][0]
    same(app.page(f"/comments/delete?id={found['objectId']}")[0], 200)
    app.until(lambda: not app.api("GET", "/classes/Comment")[1]["results"])


def owner_logs_out(app) -> None:
    same(app.page("/logout")[0], 200)
    has(app.page("/comments")[1], "login")


def answer_is_mailed(app) -> None:
    first = comment(app, mail="first@example.org")
    app.api("PUT", f"/classes/Comment/{first}", {"ACL": {"*": {"read": True}}}, master=True)
    comment(app, nick="Bob", mail="bob@example.org", pid=first, rid=first)
    app.until(lambda: sum(to == "owner@example.org" for to, _ in app.more["mails"]) >= 3)


def resend_mails(app) -> None:
    same(app.api("POST", "/functions/resend_mails", {}, master=True)[0], 200)
    has_said(app, "未成功发送的通知邮件处理完毕")


def self_wake(app) -> None:
    same(app.api("POST", "/functions/self_wake", {}, master=True)[0] < 500, True)
    has_said(app, "响应状态码为: 200")


def has_said(app, text: str) -> None:
    app.until(lambda: text in app.log.read_text(errors="replace"))


VALINE = [
    ("health check", ping),
    ("main page", lambda app: has(app.page("/")[1], "login")),
    ("afterSave hides a comment until it is looked at", is_hidden),
    ("afterSave mails the owner, and notes it in the comment", is_mailed),
    ("the owner signs up on the page", owner_signs_up),
    ("the owner logs in, and sees the comment", owner_logs_in),
    ("the owner shows the comment", owner_shows),
    ("the owner deletes the comment", owner_deletes),
    ("the owner logs out", owner_logs_out),
    ("an answer to a comment", answer_is_mailed),
    ("timer's function `resend_mails`", resend_mails),
    ("timer's function `self_wake`", self_wake),
]


# LeanTicket: its schema files with a column that counts, its own API, hooks, functions and a queue in Redis.
def first_user_is_admin(app) -> None:
    same(app.api("POST", "/users", {"username": "stranger", "password": "pw"})[0], 403)
    app.more["admin"] = app.api("POST", "/users", {"username": "admin", "password": "pw"}, master=True)[1]["sessionToken"]
    app.until(lambda: len(app.api("GET", "/roles", master=True)[1]["results"]) == 3)
    same(ticket_api(app, "/users/me/system-roles", "admin"), ["admin", "customerService"])


def ticket_api(app, path: str, who: str, body: object = None) -> object:
    status, text = app.page(f"/api/2{path}", body=body, headers={"X-LC-Session": app.more[who]} if who else None)
    if status >= 300:
        raise AssertionError(f"{path}: {status} {text[:500]}")
    return json.loads(text) if text.startswith(("{", "[")) else text


def logs_in(app) -> None:
    body = {"type": "password", "username": "admin", "password": "pw"}
    same(bool(ticket_api(app, "/users", "", body)["sessionToken"]), True)


def anonymous_user(app) -> None:
    body = {"type": "anonymous", "anonymousId": "0123456789" * 4, "name": "Ann"}
    app.more["ann"] = ticket_api(app, "/users", "", body)["sessionToken"]
    same(ticket_api(app, "/users", "", body)["sessionToken"], app.more["ann"])


def category(app) -> None:
    made_one = ticket_api(app, "/categories", "admin", {"name": "Bugs", "alias": "bugs"})
    app.more["category"] = made_one["id"]
    same([one["name"] for one in ticket_api(app, "/categories", "ann")], ["Bugs"])


def unique_alias(app) -> None:
    status, text = app.page(
        "/api/2/categories", body={"name": "Others", "alias": "bugs"}, headers={"X-LC-Session": app.more["admin"]}
    )
    same((status >= 400, len(ticket_api(app, "/categories", "admin"))), (True, 1))


def tickets(app) -> None:
    for number in (1, 2, 3):
        body = {"title": f"help {number}", "content": "it **breaks**", "categoryId": app.more["category"]}
        ticket_api(app, "/tickets", "ann", body)
    found = ticket_api(app, "/tickets?orderBy=createdAt-asc", "ann")
    same([(one["nid"], one["title"]) for one in found], [(1, "help 1"), (2, "help 2"), (3, "help 3")])
    app.more["ticket"] = found[0]["id"]
    has(ticket_api(app, f"/tickets/{app.more['ticket']}", "ann")["contentSafeHTML"], "<strong>breaks</strong>")


def replies(app) -> None:
    path = f"/tickets/{app.more['ticket']}/replies"
    ticket_api(app, path, "admin", {"content": "try again"})
    ticket_api(app, path, "ann", {"content": "it works"})
    same([one["content"] for one in ticket_api(app, path, "ann")], ["try again", "it works"])


def closes(app) -> None:
    ticket_api(app, f"/tickets/{app.more['ticket']}/operate", "admin", {"action": "close"})
    same(ticket_api(app, f"/tickets/{app.more['ticket']}", "ann")["status"], 280)
    app.until(lambda: [one["action"] for one in ticket_api(app, f"/tickets/{app.more['ticket']}/ops-logs", "admin")][-1:] == ["close"])


def old_api(app) -> None:
    status, text = app.page("/api/1/tickets", headers={"X-LC-Session": app.more["admin"]})
    same((status, len(json.loads(text))), (200, 3))


def log_is_closed(app) -> None:
    """Its hook refuses whoever is not the app itself, and its permissions hide what they hid on LeanCloud."""
    same(app.api("GET", "/classes/Config")[0], 403)
    same(app.api("POST", "/classes/OpsLog", {"action": "x"}, session=app.more["ann"])[0] >= 400, True)


def functions(app) -> None:
    same(app.api("POST", "/functions/hello", {}), (200, {"result": "Hello world!"}))
    same(app.api("POST", "/functions/getUserInfo", {"username": "admin"})[1]["result"]["username"], "admin")


def internal_function(app) -> None:
    same(app.api("POST", "/functions/tickAutomation", {})[0] >= 400, True)
    same(app.api("POST", "/functions/tickAutomation", {}, master=True)[0], 200)


TICKET = [
    ("health check", ping),
    ("main page", lambda app: has(app.page("/")[1], "<div id=app>")),
    ("page of its API", lambda app: same(app.page("/docs/2/")[0], 200)),
    ("the first user becomes the admin, by an afterSave of `_User`", first_user_is_admin),
    ("log-in by its API", logs_in),
    ("anonymous user", anonymous_user),
    ("a category, with beforeSave", category),
    ("a category's alias is unique", unique_alias),
    ("tickets, numbered 1, 2, 3", tickets),
    ("replies", replies),
    ("a ticket is closed, and that is logged", closes),
    ("its old API", old_api),
    ("what its permissions close is closed", log_is_closed),
    ("functions", functions),
    ("timer's internal function, with the master key alone", internal_function),
]


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
