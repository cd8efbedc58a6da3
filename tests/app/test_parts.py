"""The parts of the todo app that need no storage: what is taken, cut and refused, each at its edge."""
import unittest
from datetime import UTC, datetime
from types import SimpleNamespace
from unittest import mock

import leancloud
import requests

import handlers
import todos
from leanwsgi.messages import HTTPError
from router import RouteConflict, Router


def refused(call):
    """(status, text) of the HTTPError that a call ends with."""
    try:
        return call()
    except HTTPError as error:
        return error.status.value, error.message


class ContentTest(unittest.TestCase):
    def test_content_is_cut_behind_240_characters(self):
        blank = (400, "content must be a text that is not blank")
        for content, expected in (
            ("x", "x"),
            ("x" * 240, "x" * 240),
            ("x" * 241, "x" * 240 + " ..."),
            ("x" * 240 + " ...", "x" * 240 + " ..."),
            ("x" * 241 + " ...", "x" * 240 + " ..."),
            ("x" * 238 + " ...", "x" * 238 + " . ..."),
            ("", blank),
            (" \n", blank),
            (None, blank),
            (5, blank),
        ):
            with self.subTest(str(content)[:9], length=len(str(content))):
                self.assertEqual(refused(lambda: todos.checked_content(content)), expected)  # noqa: B023

    def test_hook_checks_what_is_there_or_changes(self):
        def todo(content, keys=None):
            values = {} if content is None else {"content": content}
            found = SimpleNamespace(has=values.__contains__, get=values.get, set=values.__setitem__, values=values)
            if keys is not None:
                found.updated_keys = keys
            return found

        for content, keys, expected in (("x", None, "x"), ("x" * 300, None, "x" * 240 + " ..."), (None, ["done"], None), ("x" * 300, ["done"], "x" * 240 + " ...")):
            with self.subTest(str(content)[:9], keys=keys):
                found = todo(content, keys)
                todos.check(found)
                self.assertEqual(found.values.get("content"), expected)
        for content, keys in ((" ", None), (None, None), (None, ["content"])):
            with self.subTest(content, keys=keys), self.assertRaises(leancloud.LeanEngineError):
                todos.check(todo(content, keys))

    def test_new_todo_is_its_owners_alone(self):
        todo = todos.new({"id": "u1"}, "text")
        self.assertEqual((todo.get("content"), todo.get("done"), todo.get("owner").id), ("text", False, "u1"))
        self.assertEqual(todo.get_acl().dump(), {"u1": {"read": True, "write": True}})

    def test_place_in_a_list_comes_back_and_no_other_text_does(self):
        for ms in (0, 1, 999, 1_700_000_000_123):
            time = datetime.fromtimestamp(ms / 1000, UTC)
            text = todos._place(SimpleNamespace(created_at=time, id="a1"))
            self.assertEqual(todos.opened_place(text), (time, "a1"))
            self.assertNotIn("=", text)
        for text in ("x", "é", "MS5hL2I", "YS5hMQ", "LmEx", "MTIzNDU2Nzg5MDEyMzQ1LmEx"):
            with self.subTest(text):
                self.assertEqual(refused(lambda: todos.opened_place(text)), (400, "before must be the next of an earlier page"))  # noqa: B023

    def test_names_and_types_of_files_are_plain(self):
        for name, expected in (("a.png", "a.png"), ("c:\\x/a\x07.png", "a.png"), ("x" * 121, "x" * 120), ("x" * 120, "x" * 120), ("", "file"), (None, "file"), ("a/", "file")):
            self.assertEqual(todos.file_name(name), expected)
        for metadata, own, expected in (({"mimeType": "image/png"}, "a/b", "image/png"), ({}, "text/plain", "text/plain"), ({"mimeType": "x"}, "a/b", "application/octet-stream"), ({}, None, "application/octet-stream"), ({"mimeType": 5}, "a/b", "application/octet-stream")):
            self.assertEqual(todos.file_type(SimpleNamespace(metadata=metadata, mime_type=own)), expected)

    def test_todo_as_the_page_gets_it(self):
        file = SimpleNamespace(name="a.png", metadata={"size": 5, "mimeType": "image/png"}, mime_type=None)
        values = {"content": "x", "done": None, "attachment": file}
        todo = SimpleNamespace(id="a1", created_at=datetime(2020, 1, 2, 3, 4, 5, 6999, UTC), get=values.get)
        shown = {"name": "a.png", "url": "/app/api/todos/a1/attachment", "size": 5, "mimeType": "image/png"}
        self.assertEqual(todos.to_json({"SCRIPT_NAME": "/app"}, todo), {"id": "a1", "content": "x", "done": False, "createdAt": "2020-01-02T03:04:05.006Z", "attachment": shown})
        values["attachment"] = None
        self.assertIsNone(todos.to_json({}, todo)["attachment"])

    def test_file_that_nothing_refers_to_goes_and_its_trouble_is_nobodys(self):
        todos.destroy_file(None)
        for key, error, count in (("", None, 0), ("k", None, 1), ("k", requests.ConnectionError(), 1)):
            file = mock.Mock(key=key)
            file.destroy.side_effect = error
            todos.destroy_file(file)
            self.assertEqual(file.destroy.call_count, count)


class HandlersTest(unittest.TestCase):
    def test_names_and_passwords_have_a_length(self):
        name, word = (400, "username must be a text of 1 to 64 characters"), (400, "password must be a text of 1 to 256 characters")
        for username, password, expected in (
            ("a", "b", ("a", "b")),
            ("a" * 64, "b" * 256, ("a" * 64, "b" * 256)),
            ("a" * 65, "b", name),
            (" ", "b", name),
            (5, "b", name),
            ("a", "b" * 257, word),
            ("a", " ", word),
            ("a", None, word),
        ):
            with self.subTest(str(username)[:9], password=str(password)[:9]):
                self.assertEqual(refused(lambda: handlers._credentials({"username": username, "password": password})), expected)  # noqa: B023

    def test_list_is_asked_for_by_three_options(self):
        number = (400, "limit must be a number from 1 to 100")
        for query, expected in (
            ({}, (None, 20, None)),
            ({"done": "true", "limit": "1"}, (True, 1, None)),
            ({"done": "false", "limit": "100"}, (False, 100, None)),
            ({"done": "", "limit": "", "before": ""}, (None, 20, None)),
            ({"limit": "0"}, number),
            ({"limit": "101"}, number),
            ({"limit": "0001"}, number),
            ({"limit": "\u0661"}, number),
            ({"done": "yes"}, (400, "done must be true or false")),
            ({"skip": "1"}, (400, "the query takes done, limit and before")),
        ):
            with self.subTest(query):
                self.assertEqual(refused(lambda: handlers._list_options(query)), expected)  # noqa: B023
        text = todos._place(SimpleNamespace(created_at=datetime(2020, 1, 1, tzinfo=UTC), id="a1"))
        self.assertEqual(handlers._list_options({"before": text})[2], (text, (datetime(2020, 1, 1, tzinfo=UTC), "a1")))

    def test_greeting_takes_a_text(self):
        self.assertEqual([handlers.hello(), handlers.hello("Ann", other=1), handlers.hello(5)], ["Hello, world!", "Hello, Ann!", "Hello, world!"])

    def test_webhook_is_told_with_a_limit_and_its_trouble_is_nobodys(self):
        environ = {"app.settings": SimpleNamespace(notify_webhook_url="")}
        with mock.patch.object(handlers.requests, "post") as post:
            handlers._notify(environ, {"id": "a"})
            self.assertFalse(post.called)
            environ["app.settings"].notify_webhook_url = "http://x"
            handlers._notify(environ, {"id": "a"})
            post.assert_called_once_with("http://x", json={"id": "a"}, timeout=2, allow_redirects=False)
            post.return_value.close.assert_called_once_with()
            post.side_effect = requests.Timeout
            handlers._notify(environ, {"id": "a"})

    def test_dead_link_is_a_page_for_browsers_alone(self):
        missing, other = HTTPError(handlers.HTTPStatus.NOT_FOUND, "x"), HTTPError(handlers.HTTPStatus.GONE, "x")
        for error, path, accepted, kind in (
            (missing, "/x", "text/html,*/*", "text/html; charset=utf-8"),
            (missing, "/x", "*/*", "application/json; charset=utf-8"),
            (missing, "/api/x", "text/html", "application/json; charset=utf-8"),
            (other, "/x", "text/html", "application/json; charset=utf-8"),
        ):
            status, headers, _ = handlers.explain(error, {"PATH_INFO": path, "HTTP_ACCEPT": accepted})
            self.assertEqual((status, dict(headers)["Content-Type"], dict(headers)["Cache-Control"]), (error.status, kind, "no-store"))


class ConflictsTest(unittest.TestCase):
    def test_routes_that_cannot_be_told_apart_are_refused(self):
        for templates in (
            ["x"],
            ["/a", "/a"],
            ["/<a>", "/<a>"],
            ["/<a>", "/<b>/c"],
            ["/<a>/<a>"],
            ["/<a:path>/b"],
            ["/<a:path>", "/<b:path>"],
            ["/<a:path>", "/<a:path>"],
            ["/a<b>"],
            ["/<A>"],
            ["/a>"],
        ):
            with self.subTest(templates), self.assertRaises(RouteConflict):
                Router([("GET", template, id) for template in templates])
        Router([(method, template, id) for method in ("GET", "PUT") for template in ("/a", "/<a>", "/<a>/b", "/<c:path>", "/")])


if __name__ == "__main__":
    unittest.main()
