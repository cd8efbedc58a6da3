"""How the app fares while storage fails, in every way in which it can."""
import io
import os
import re
import socket
import threading
import unittest
from contextlib import contextmanager, redirect_stderr
from unittest import mock

import leancloud
import requests
from leancloud import client

from leanengine import sdk, users
from leanengine.cache import Cache
from leanwsgi.messages import HTTPError
from tests.support import AppTestCase, changed_environment, needs_redis, until, Visitor


def whole_request(connection):
    data = b""
    while piece := connection.recv(65536):
        data += piece
        head, found, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: ([0-9]+)", head)
        if found and len(body) >= int(length[1] if length else 0):
            break
    return data


@contextmanager
def broken_storage(answer):
    """A server in storage's place that answers every connection with these bytes, or what `answer(request)` gives; None keeps silent.

    Yields the connections.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    connections, ending = [], threading.Event()

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            if answer is not None:
                connection.settimeout(2)
                try:
                    asked = whole_request(connection)
                    connection.sendall(answer(asked) if callable(answer) else answer)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with fresh_adapter(), changed_environment(LEANCLOUD_API_SERVER=f"http://127.0.0.1:{listener.getsockname()[1]}"):
            yield connections
    finally:
        ending.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in connections:
            connection.close()


@contextmanager
def fresh_adapter():
    """A breaker of its own, so that a test leaves the app's alone; short times, so that it ends soon."""
    adapter = sdk.StorageAdapter()
    limits = mock.patch.multiple(sdk, CONNECT_SECONDS=0.3, READ_SECONDS=0.3, ANSWER_SECONDS=0.3, LOST_SECONDS=0.3, PROBE_SECONDS=0.3)
    with limits, mock.patch.dict(client.session.adapters, {"http://": adapter}):
        try:
            yield adapter
        finally:
            adapter.close()


def http(body, content_type="application/json", status="200 OK"):
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


class StorageSessionTest(unittest.TestCase):
    def test_request_is_sent_as_requests_would_send_it(self):
        """Whether the session makes it itself or leaves it to requests; but for compression, which costs too much on this machine."""
        keys = {"X-LC-Id": "a", "Content-Type": "application/json", "User-Agent": "SDK"}
        where = {"where": '{"a":"x y&z","b":"中"}', "limit": 20, "order": "-createdAt"}
        table = [
            ("GET", "/classes/Todo", {"params": where, "headers": keys}),
            ("GET", "/users/me", {"params": {}, "headers": keys}),
            ("GET", "/classes/Todo", {"params": {"a": ["x", "y"]}}),
            ("GET", "/classes/a b?x=1", {"params": where}),
            ("POST", "/login", {"data": '{"username":"\\u4e2d"}', "headers": keys}),
            ("PUT", "/classes/Todo/1", {"data": io.BytesIO(b"abc")}),
            ("DELETE", "/classes/Todo/1", {"data": "null", "headers": keys}),
        ]
        sent = []

        def answer(asked):
            head, _, body = asked.partition(b"\r\n\r\n")
            line, *headers = head.decode("latin-1").split("\r\n")
            left_out = ("accept-encoding:", "connection:", "user-agent: python-requests")
            sent.append((line, {header for header in headers if not header.lower().startswith(left_out)}, body))
            return http(b"{}")

        for cookies in ({}, {"route": "x"}):
            for method, path, options in table:
                sessions = (sdk.StorageSession(), requests.Session())
                sessions[0].mount("http://", sdk.StorageAdapter())
                with self.subTest(method, path=path, cookies=cookies), broken_storage(answer):
                    for session in sessions:
                        if "data" in options and not isinstance(options["data"], str):
                            options["data"].seek(0)
                        with session:
                            session.trust_env = False
                            session.cookies.update(cookies)
                            url = f"{os.environ['LEANCLOUD_API_SERVER']}/1.1{path}"
                            self.assertEqual(session.request(method, url, timeout=5, hooks={}, **options).json(), {})
                    ours, theirs = sent[-2:]
                    self.assertEqual(ours, theirs)
                    self.assertEqual(any("ookie: route=x" in header for header in ours[1]), bool(cookies))

    def test_redirect_is_followed_and_no_write_done_twice(self):
        rows = [
            ("GET", 301, ["GET /here", "GET /here", "GET /there"], {"there": 1}),
            ("GET", 308, ["GET /here", "GET /here", "GET /there"], {"there": 1}),
            ("POST", 303, ["POST /here"], {"here": 1}),
            ("POST", 308, ["POST /here", "POST /here", "POST /there"], {"there": 1}),
            ("GET", 304, ["GET /here"], None),
        ]
        for method, status, wanted, found in rows:
            asked = []

            def answer(request):
                asked.append(request.split(b" HTTP/")[0].decode())  # noqa: B023 it runs at once
                if asked[-1].endswith("/there"):  # noqa: B023
                    return http(b'{"there": 1}')
                return http(b'{"here": 1}', status=f"{status} X").replace(b"\r\n", b"\r\nLocation: /there\r\n", 1)  # noqa: B023

            with self.subTest(method, status=status), broken_storage(answer):
                data = {"data": "{}"} if method == "POST" else {}
                response = client.session.request(method, f"{os.environ['LEANCLOUD_API_SERVER']}/here", timeout=5, **data)
                self.assertEqual(asked, wanted)
                if found:
                    self.assertEqual(response.json(), found)

    def test_call_follows_no_redirect_and_a_file_takes_no_keys_along(self):
        keys = {"X-LC-Id": "a", "x-lc-key": "b", "X-LC-Session": "c"}
        calls = [("plain", "GET", {}), ("plain", "POST", {"data": "{}"}), ("plain", "PUT", {"data": "{}"}), ("plain", "DELETE", {})]
        calls += [("by requests", method, {"params": {"a": ["x"]}}) for method in ("GET", "POST", "PUT", "DELETE")]
        elsewhere = []
        with broken_storage(lambda asked: elsewhere.append(asked) or http(b"{}")):
            there = os.environ["LEANCLOUD_API_SERVER"]
            for status in (301, 302, 303, 307, 308):
                moved = http(b"{}", status=f"{status} X").replace(b"\r\n", f"\r\nLocation: {there}/x\r\n".encode(), 1)
                with broken_storage(moved):
                    url = f"{os.environ['LEANCLOUD_API_SERVER']}/1.1/classes/Todo"
                    for name, method, options in calls:
                        with self.subTest(name, method=method, status=status), self.assertRaises(sdk.StorageMoved) as caught:
                            client.session.request(method, url, headers=keys, timeout=5, **options)
                        self.assertIn(there.removeprefix("http://"), str(caught.exception))
                    self.assertEqual(elsewhere, [])
                    with client.session.get(url, stream=True) as response:
                        self.assertEqual(response.json(), {})
                    self.assertNotIn(b"x-lc-", elsewhere.pop().lower())

    def test_redirect_is_told_of_without_what_could_harm_a_log(self):
        rows = (
            ("https://api.example.com/1.1/date", "api.example.com"),
            ("//user:secret@api.example.com:8443", "api.example.com:8443"),
            ("/elsewhere", "another address"),
            ("http://[", "another address"),
            ("http://\xff\x1b[31m/", "another address"),
            ("http://" + "x" * 9000, "x" * 100),
        )
        for location, shown in rows:
            with self.subTest(location[:30]), self.assertRaises(sdk.StorageMoved) as caught:
                response = requests.Response()
                response.raw, response.status_code, response.headers["Location"] = io.BytesIO(), 301, location
                sdk._answered(response, True)
            self.assertEqual(str(caught.exception), f"storage redirects to {shown}")

    def test_cookie_of_storage_is_not_sent_for_the_next_visitor(self):
        sent = []

        def answer(asked):
            sent.append(asked)
            return http(b'{"results": []}').replace(b"\r\n", b"\r\nSet-Cookie: whose=theirs\r\n", 1)

        for name, upload in (("by the session", "abc"), ("by requests", io.BytesIO(b"abc"))):
            with self.subTest(name), broken_storage(answer):
                client.session.put(f"{os.environ['LEANCLOUD_API_SERVER']}/x", data=upload)
                for _ in range(2):
                    leancloud.Query("Todo").find()
                self.assertEqual(len(client.session.cookies), 0)
        self.assertEqual(len(sent), 6)
        self.assertNotIn(b"theirs", b"".join(sent))

    def test_hook_of_the_sdk_sees_the_answer(self):
        seen = []
        with broken_storage(http(b"{}")):
            client.session.get(f"{os.environ['LEANCLOUD_API_SERVER']}/x", hooks={"response": lambda response, **_: seen.append(response.status_code)})
        self.assertEqual(seen, [200])


class BrokenStorageTest(AppTestCase):
    def setUp(self):
        super().setUp()
        self.alice = self.logged_in()

    def assert_up(self):
        for path in ("/", "/static/app.js", "/__engine/1/ping"):
            self.assertEqual(Visitor().request("GET", path).status, 200)
        self.assertEqual(self.request("GET", "/api/status").json()["storage"], "down")

    def test_storage_that_is_lost_or_silent_is_503_at_once_when_known(self):
        for answer in (None, b"", b"garbage\r\n\r\n"):
            with self.subTest(answer), broken_storage(answer) as connections, mock.patch.object(sdk, "LOST_SECONDS", 60):
                self.assert_error(self.alice.request("POST", "/api/todos", {"content": "x"}), 503)
                until(lambda: connections)  # noqa: B023 it runs at once
                asked = len(connections)
                response = self.alice.request("POST", "/api/todos", {"content": "x"})
                self.assert_error(response, 503)
                self.assertTrue(response.header("Retry-After"))
                self.assertEqual(len(connections), asked)
                self.assertTrue(self.alice.cookies)  # the session is kept
                self.assert_up()
        self.request("GET", "/api/todos", visitor=self.alice)

    def test_storage_that_refuses_connections_is_503(self):
        with fresh_adapter(), changed_environment(LEANCLOUD_API_SERVER="http://127.0.0.1:9"):
            self.assert_error(self.alice.request("POST", "/api/todos", {"content": "x"}), 503)
            self.assert_error(Visitor().request("POST", "/api/session", {"username": "a", "password": "b"}), 503)
            self.assert_up()

    def test_storage_that_redirects_calls_is_502_and_says_so(self):
        moved = http(b"{}", status="301 X").replace(b"\r\n", b"\r\nLocation: https://api.example.com/1.1/\r\n", 1)
        with broken_storage(moved), redirect_stderr(io.StringIO()) as said:
            response = self.alice.request("POST", "/api/todos", {"content": "x"})
            self.assert_error(response, 502)
            self.assertIn("redirects", response.json()["error"])
            self.assertIn("api.example.com: is LEANCLOUD_API_SERVER", said.getvalue())
            self.assert_up()

    def test_storage_that_answers_nonsense_is_502(self):
        answers = {
            "HTML": http(b"<html>", "text/html"),
            "HTML with a charset": http(b"<html>", "text/html; charset=utf-8"),
            "a list": http(b"[]"),
            "a number": http(b"5"),
            "null": http(b"null"),
            "an empty object": http(b"{}"),
            "nothing": http(b""),
            "half of it": http(b'{"results": ['),
            "a bare 500": http(b"", status="500 X"),
            "another's error": http(b'{"error": "x", "code": 9999}'),
            "an error without a code": http(b'{"error": "x"}'),
            "results that are none": http(b'{"results": 5}'),
        }
        for name, answer in answers.items():
            with self.subTest(name), broken_storage(answer):
                response = self.alice.request("GET", "/api/todos?limit=77")
                self.assert_error(response, 502)

    def test_todo_or_user_that_makes_no_sense_is_502(self):
        user = b'{"objectId": "u", "username": "n", "sessionToken": "t"}'
        row = b'{"objectId": "t", "createdAt": "2026-01-02T03:04:05.678Z", "content": "x"%s}'
        rows = {
            "a user without a name": (b'{"objectId": "u", "sessionToken": "t"}', b"", 502),
            "a user whose name is empty": (user.replace(b'"n"', b'""'), b"", 502),
            "a user of a list": (b"[1]", b"", 502),
            "a todo without an id": (user, row.replace(b"objectId", b"id") % b"", 502),
            "a todo without a time": (user, b'{"objectId": "t"}', 502),
            "a todo of no time": (user, row.replace(b"2026-01-02T", b"yesterday ") % b"", 502),
            "a time that is a number": (user, row.replace(b'"2026-01-02T03:04:05.678Z"', b"1") % b"", 502),
            "a todo that is a text": (user, b'"x"', 502),
            "an attachment that is a text": (user, row % b', "attachment": "x"', 502),
            "a whole todo": (user, row % b"", 200),
        }
        for name, (found, todo, status) in rows.items():
            with self.subTest(name):
                answer = lambda asked: http(found if b"/users/me" in asked else b'{"results": [%s]}' % todo)  # noqa: B023, E731 it runs at once
                with broken_storage(answer), mock.patch.object(Cache, "get_version", lambda *_, **__: (None, None, None)):
                    with mock.patch.object(Cache, "put", lambda *_: None):
                        response = self.alice.request("GET", "/api/todos")
                if status == 200:
                    self.assertEqual([todo["createdAt"] for todo in response.json()["todos"]], ["2026-01-02T03:04:05.678Z"])
                else:
                    self.assert_error(response, status)

    def test_storage_that_refuses_the_keys_is_said_to_in_the_answer_the_status_and_one_line(self):
        with mock.patch.object(client, "APP_KEY", "wrong"):
            for visitor, method, path, body in (
                (self.alice, "GET", "/api/todos?limit=78", None),
                (self.alice, "POST", "/api/todos", {"content": "x"}),
                (Visitor(), "POST", "/api/session", {"username": "a", "password": "b"}),
            ):
                with self.subTest(path), redirect_stderr(io.StringIO()) as said:
                    response = visitor.request(method, path, body)
                    self.assert_error(response, 502)
                    self.assertEqual(response.json(), {"error": "storage refuses this app's keys", "code": 502})
                    self.assertRegex(said.getvalue(), r"\Astorage refuses this app's keys: [^\n]+LEANCLOUD_APP_KEY[^\n]*\n\Z")
            with redirect_stderr(io.StringIO()) as said:
                self.assertEqual(self.request("GET", "/api/status").json()["storage"], "down")
            self.assertEqual(said.getvalue().count("\n"), 1)
        self.assertEqual(self.request("GET", "/api/status").json()["storage"], "ok")

    def test_status_of_storage_that_speaks_no_protocol_is_down_and_of_an_empty_one_ok(self):
        rows = {
            "down": [http(b"<html>", "text/html"), http(b'{"code": 9999, "error": "x"}'), http(b"", status="500 X")],
            "ok": [http(b'{"code": 101, "error": "Class or object doesn\'t exists."}', status="404 X")],
        }
        for status, answers in rows.items():
            for answer in answers:
                with self.subTest(answer), broken_storage(answer):
                    self.assertEqual(self.request("GET", "/api/status").json()["storage"], status)

    def test_status_is_down_while_storage_answers_for_todos_but_not_for_accounts(self):
        def half(asked):
            return http(b"", status="503 X") if b" /1.1/users?" in asked else http(b'{"results": []}')

        with broken_storage(half):
            self.assertEqual(self.request("GET", "/api/status").json()["storage"], "down")

    def test_ready_is_503_for_balancers_while_storage_is_down(self):
        self.assertEqual(self.request("GET", "/api/status?ready").json()["storage"], "ok")
        with broken_storage(http(b"", status="500 X")):
            response = self.request("GET", "/api/status?ready", status=503)
            self.assertEqual((response.json()["storage"], response.header("Cache-Control")), ("down", "no-store"))
            self.request("HEAD", "/api/status?ready=1", status=503)
            self.request("GET", "/api/status", status=200)
        self.request("GET", "/api/status?ready")

    def test_adapter_tries_lost_storage_again_by_one_request_at_a_time(self):
        with broken_storage(None) as connections, mock.patch.object(sdk, "LOST_SECONDS", 60):
            with self.assertRaises(requests.RequestException):
                leancloud.Query("Todo").find()
            until(lambda: len(connections) == 2)
            asked = len(connections)
            for _ in range(20):
                with self.assertRaises(sdk.StorageLost):
                    leancloud.Query("Todo").find()
            self.assertEqual(len(connections), asked)

    def test_read_is_sent_again_when_its_answer_does_not_come_and_a_write_never(self):
        for method, send, times in (
            ("GET", lambda: client.get("/classes/Todo", {}), 2),
            ("POST", lambda: client.post("/classes/Todo", {"content": "x"}), 1),
            ("PUT", lambda: client.put("/classes/Todo/x", {"content": "x"}), 1),
            ("DELETE", lambda: client.delete("/classes/Todo/x"), 1),
        ):
            for answer in (b"", None):  # lost on the way, or late
                with self.subTest(method, answer=answer), broken_storage(answer) as connections:
                    with self.assertRaises(requests.RequestException):
                        send()
                    until(lambda: len(connections) >= times)  # noqa: B023 it runs at once
                    self.assertEqual(len(connections), times)

    def test_storage_is_asked_without_the_proxies_of_the_environment(self):
        proxies = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")}
        with fresh_adapter(), changed_environment(**proxies, NO_PROXY="", no_proxy=""):
            self.request("POST", "/api/todos", {"content": "x"}, 201, self.alice)

    @needs_redis
    def test_log_in_while_storage_is_lost_is_no_guess(self):
        body = {"username": self.alice.username, "password": "secret"}
        with fresh_adapter(), changed_environment(LEANCLOUD_API_SERVER="http://127.0.0.1:9"):
            for _ in range(users.WRONG_PER_ACCOUNT + 1):
                self.assert_error(Visitor().request("POST", "/api/session", body), 503)
        self.request("POST", "/api/session", body, visitor=Visitor())


class AdapterTest(unittest.TestCase):
    """What the adapter asks of the one below it, with the times that the app runs with."""

    def setUp(self):
        self.adapter = sdk.StorageAdapter()
        self.addCleanup(self.adapter.close)
        self.now, self.limits, self.is_lost = 100.0, [], False
        below = mock.patch.object(sdk.TCPKeepAliveAdapter, "send", self.below)
        clock = mock.patch.object(sdk.time, "monotonic", lambda: self.now)
        for patch in (below, clock):
            patch.start()
            self.addCleanup(patch.stop)

    def below(self, request, timeout=None, **options):
        self.limits.append(timeout)
        if self.is_lost:
            raise requests.ReadTimeout
        return requests.Response()

    def send(self, method="GET", **more):
        self.adapter.send(requests.Request(method, "http://127.0.0.1/", **more).prepare(), timeout=99)

    def test_every_request_has_a_time_limit_of_ours(self):
        for method in ("GET", "POST", "PUT", "DELETE"):
            self.send(method)
        self.send("PUT", data=io.BytesIO(b"a file"))
        self.assertEqual(self.limits, [(2, 4), (2, 12), (2, 12), (2, 12), (2, 60)])

    def test_lost_storage_is_tried_by_one_short_request_after_two_seconds(self):
        self.is_lost = True
        with self.assertRaises(requests.ReadTimeout):
            self.send()
        for later, error, asked in ((0, sdk.StorageLost, 1), (1.9, sdk.StorageLost, 1), (2.1, requests.ReadTimeout, 2), (2.2, sdk.StorageLost, 2)):
            self.now = 100 + later
            with self.subTest(later), self.assertRaises(error):
                self.send()
            self.assertEqual(len(self.limits), asked)
        self.assertEqual(self.limits[-1], (0.8, 0.8))
        self.now, self.is_lost = 110, False
        self.send()
        self.assertEqual(self.limits[-1], (0.8, 0.8))
        self.send()
        self.assertEqual(self.limits[-1], (2, 4))  # all is well again


class ErrorsTest(unittest.TestCase):
    def test_codes_of_storage_become_statuses(self):
        rows = [(202, 409), (211, 401), (219, 429), (403, 404), (101, 404), (142, 400), (124, 503), (-1, 502), (1, 502)]
        for code, status in rows:
            with self.subTest(code), self.assertRaises(HTTPError) as caught, sdk.asking_storage():
                raise leancloud.LeanCloudError(code, "text")
            self.assertEqual(caught.exception.status, status)

    def test_locked_account_says_when_to_try_again(self):
        error = sdk.as_http_error(leancloud.LeanCloudError(219, "locked"))
        self.assertEqual(error.headers, [("Retry-After", "900")])


if __name__ == "__main__":
    unittest.main()
