"""The HTTP interface, row by row, against embedded storage and Redis."""
import json
import socket
import threading
import time
import unittest
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from importlib.metadata import version
from types import SimpleNamespace
from unittest import mock

import leancloud
import requests

import handlers
import todos
import wsgi
from leanengine import users
from leanwsgi.messages import HTTPError
from tests.support import AppTestCase, DISTINCT, Visitor, has_redis, multipart, needs_redis

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


class PageTest(AppTestCase):
    def test_page_and_static_files_are_revalidated_by_etag(self):
        for path, mime_type in (
            ("/", "text/html; charset=utf-8"),
            ("/static/app.js", "text/javascript; charset=utf-8"),
            ("/static/style.css", "text/css; charset=utf-8"),
            ("/favicon.ico", "image/vnd.microsoft.icon"),
        ):
            with self.subTest(path):
                first = self.request("GET", path)
                self.assertEqual(first.header("Content-Type"), mime_type)
                self.assertIn("GMT", first.header("Last-Modified"))
                self.assertEqual(first.header("Cache-Control"), "no-cache")
                again = self.request("GET", path, status=304, headers={"If-None-Match": first.header("ETag")})
                self.assertEqual(again.body, b"")
                self.assertEqual(self.request("HEAD", path).body, b"")

    def test_static_path_out_of_the_folder_is_404(self):
        for path in (
            "/static/../wsgi.py",
            "/static/..%2fwsgi.py",
            "/static/.hidden",
            "/static//etc/passwd",
            "/static/x\0",
            "/static/app.js\n",
            "/static/",
            "/static",
            "/static/" + "a/" * 100,
        ):
            with self.subTest(path):
                self.assert_error(self.visitor.request("GET", path), 404)

    def test_unknown_address_is_a_page_for_a_browser_and_json_for_a_program(self):
        browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        page = self.visitor.request("GET", "/nothing", headers=browser)
        self.assertEqual((page.status, page.header("Content-Type")), (404, "text/html; charset=utf-8"))
        self.assertEqual(page.header("Cache-Control"), "no-store")
        self.assertIn(b'href="/"', page.body)
        self.assertEqual(self.visitor.request("HEAD", "/nothing", headers=browser).status, 404)
        for path, headers in (("/nothing", {}), ("/nothing", {"Accept": "*/*"}), ("/api/nothing", browser)):
            with self.subTest(path=path, headers=headers):
                self.assert_error(self.visitor.request("GET", path, headers=headers), 404)

    def test_malformed_address_is_a_page_for_a_browser_and_json_for_a_program(self):
        browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        latin = {"PATH_INFO": "/caf\xe9"}
        rows = (
            ("/", latin, 400),
            ("/", {"PATH_INFO": "/__engine/\xff"}, 400),
            ("/", {"HTTP_HOST": "a b"}, 400),
            ("/" + "x" * 9000, {}, 414),
        )
        for path, environ, status in rows:
            with self.subTest(path=path[:9], environ=environ):
                page = self.visitor.request("GET", path, headers=browser, **environ)
                self.assertEqual((page.status, page.header("Content-Type")), (status, "text/html; charset=utf-8"))
                self.assertIn(b'href="/"', page.body)
                self.assertTrue(page.header("Content-Security-Policy"))
                for headers in ({}, {"Accept": "*/*"}):
                    self.assert_error(self.visitor.request("GET", path, headers=headers, **environ), status)
        self.assert_error(self.visitor.request("GET", "/", headers=browser, PATH_INFO="/api/\xff"), 400)

    def test_unknown_path_is_404_and_another_method_405(self):
        self.assert_error(self.visitor.request("GET", "/nothing"), 404)
        response = self.visitor.request("PUT", "/api/todos")
        self.assert_error(response, 405)
        self.assertEqual(response.header("Allow"), "GET, HEAD, OPTIONS, POST")


class StatusTest(AppTestCase):
    def test_status_says_where_the_app_runs(self):
        value = self.request("GET", "/api/status").json()
        self.assertEqual(list(value), ["env", "python", "sdk", "storage", "cache"])
        self.assertEqual(value["sdk"], version("leancloud"))
        self.assertEqual((value["env"], value["storage"], value["cache"]), ("development", "ok", "ok" if has_redis() else "off"))

    def test_client_is_the_address_that_a_trusted_proxy_gives(self):
        self.assertEqual(self.request("GET", "/api/client").json(), {"ip": "127.0.0.1"})
        proxied = self.request("GET", "/api/client", headers={"X-Real-IP": "1.2.3.4"})
        self.assertEqual(proxied.json(), {"ip": "1.2.3.4"})
        claimed = self.request("GET", "/api/client", headers={"X-Real-IP": "1.2.3.4"}, REMOTE_ADDR="9.9.9.9")
        self.assertEqual(claimed.json(), {"ip": "9.9.9.9"})


class AccountTest(AppTestCase):
    def test_account_signs_up_logs_out_and_logs_in(self):
        name = self.visitor.sign_up()
        user = self.request("GET", "/api/session").json()["user"]
        self.assertEqual(user["username"], name)
        self.request("DELETE", "/api/session", status=204)
        self.assertEqual(self.visitor.cookies, {})
        self.assertEqual(self.request("GET", "/api/session").json(), {"user": None})
        response = self.request("POST", "/api/session", {"username": name, "password": "secret"})
        self.assertEqual(response.json(), {"user": user})
        self.assertEqual(self.request("GET", "/api/session").json(), {"user": user})

    def test_copied_cookie_ends_with_the_log_in_it_is_of_and_no_other(self):
        name = self.visitor.sign_up()
        thief, elsewhere = Visitor(), Visitor()
        thief.cookies = dict(self.visitor.cookies)
        self.request("POST", "/api/session", {"username": name, "password": "secret"}, visitor=elsewhere)
        for visitor in (self.visitor, thief, elsewhere):
            self.request("GET", "/api/todos", visitor=visitor)
        stolen = dict(thief.cookies)
        self.request("DELETE", "/api/session", status=204)
        for method, path in (("GET", "/api/session"), ("GET", "/api/todos"), ("POST", "/api/todos"), ("DELETE", "/api/session")):
            with self.subTest(method=method, path=path):
                thief.cookies = dict(stolen)
                answer = thief.request(method, path, {"content": "planted"} if method == "POST" else None)
                self.assertEqual(thief.cookies, {})
                self.assertTrue(answer.status in (204, 401) or answer.json() == {"user": None})
        self.assertEqual(self.request("GET", "/api/session", visitor=elsewhere).json()["user"]["username"], name)
        self.request("POST", "/api/session", {"username": name, "password": "secret"})
        self.assertEqual(self.request("GET", "/api/session").json()["user"]["username"], name)

    def test_copied_cookie_does_not_renew_itself_after_log_out(self):
        self.visitor.sign_up()
        thief = Visitor()
        thief.cookies = dict(self.visitor.cookies)
        self.request("DELETE", "/api/session", status=204)
        with mock.patch("time.time", return_value=time.time() + 3 * 24 * 3600):
            for path in ("/api/client", "/api/status", "/api/nothing", "/api/session"):
                answer = thief.request("GET", path)
                self.assertFalse([line for line in answer.all("Set-Cookie") if "Max-Age=0" not in line], path)

    def test_log_out_too_many_ends_them_all_and_the_list_stays_short(self):
        name = self.visitor.sign_up()
        thief = Visitor()
        thief.cookies = dict(self.visitor.cookies)
        with mock.patch.object(users, "MAX_ENDED", 2):
            for _ in range(4):
                self.request("DELETE", "/api/session", status=204)
                self.request("POST", "/api/session", {"username": name, "password": "secret"})
                self.assertEqual(thief.request("GET", "/api/session").json(), {"user": None})
                self.assertEqual(thief.cookies, {})
                thief.cookies = dict(self.visitor.cookies)
            user = leancloud.User()
            user.login(name, "secret")
            self.addCleanup(leancloud.User.set_current, None)
            self.assertLessEqual(len(user.get(users.ENDED) or []), 2)

    def test_taken_username_is_409(self):
        name = self.visitor.sign_up()
        response = Visitor().request("POST", "/api/users", {"username": name, "password": "other"})
        self.assert_error(response, 409)
        self.assertEqual(response.all("Set-Cookie"), [])

    def test_unknown_user_and_wrong_password_are_one_401(self):
        name = self.visitor.sign_up()
        wrong = Visitor().request("POST", "/api/session", {"username": name, "password": "no"})
        unknown = Visitor().request("POST", "/api/session", {"username": name + "x", "password": "no"})
        self.assert_error(wrong, 401)
        self.assertEqual(wrong.body, unknown.body)

    def test_credentials_that_are_malformed_are_400(self):
        bodies = [
            {},
            {"username": "x"},
            {"password": "x"},
            {"username": "", "password": "x"},
            {"username": "  ", "password": "x"},
            {"username": 1, "password": "x"},
            {"username": "x", "password": {"$ne": None}},
            {"username": "x", "password": None},
            {"username": "x" * 65, "password": "x"},
            {"username": "x", "password": "x" * 257},
        ]
        for path in ("/api/users", "/api/session"):
            for body in bodies:
                with self.subTest(path=path, body=body):
                    self.assert_error(self.visitor.request("POST", path, body), 400)
            for body in (b"", b"[]", b"{", b'"x"', b"\xff"):
                with self.subTest(path=path, body=body):
                    self.assert_error(self.visitor.request("POST", path, body=body), 400)

    @needs_redis
    def test_sixth_wrong_password_is_429_and_elsewhere_the_owner_gets_in(self):
        name = self.visitor.sign_up()
        guess = {"username": name, "password": "no"}
        here = {"REMOTE_ADDR": "10.1.1.1"}
        for _ in range(5):
            self.assert_error(Visitor().request("POST", "/api/session", guess, **here), 401)
        refused = Visitor().request("POST", "/api/session", {"username": name, "password": "secret"}, **here)
        self.assert_error(refused, 429)
        self.assertGreater(int(refused.header("Retry-After")), 0)
        self.request("POST", "/api/session", {"username": name, "password": "secret"}, visitor=Visitor(), REMOTE_ADDR="10.1.1.2")

    @needs_redis
    def test_whole_block_of_ipv6_is_one_guesser(self):
        name = self.visitor.sign_up()
        guess = {"username": name, "password": "no"}
        for number, status in enumerate([401] * 5 + [429]):
            self.assert_error(Visitor().request("POST", "/api/session", guess, REMOTE_ADDR=f"2001:db8::{number:x}"), status)

    @needs_redis
    def test_address_that_guesses_at_fifty_accounts_is_stopped(self):
        name = self.visitor.sign_up()
        there = {"REMOTE_ADDR": "10.9.9.9"}
        for _ in range(49):
            wsgi.cache.count("login:10.9.9.9", 60)
        self.addCleanup(wsgi.cache.drop, "login:10.9.9.9")
        guess = {"username": "nobody-of-that-name", "password": "no"}
        self.assert_error(Visitor().request("POST", "/api/session", guess, **there), 401)
        right = {"username": name, "password": "secret"}
        refused = Visitor().request("POST", "/api/session", right, **there)
        self.assert_error(refused, 429)
        self.assertGreater(int(refused.header("Retry-After")), 0)
        self.request("POST", "/api/session", right, visitor=Visitor(), REMOTE_ADDR="10.9.9.8")

    @needs_redis
    def test_address_that_makes_too_many_accounts_is_429_and_others_are_not(self):
        def sign_up(address):
            credentials = {"username": f"many{next(DISTINCT)}", "password": "secret"}
            return Visitor().request("POST", "/api/users", credentials, REMOTE_ADDR=address)

        with mock.patch.object(users, "SIGN_UPS", 3):
            for number, status in enumerate([201] * 3 + [429]):
                answer = sign_up(f"2001:db8:5:5::{number:x}")
                self.assertEqual(answer.status, status)
            self.assert_error(answer, 429)
            self.assertGreater(int(answer.header("Retry-After")), 0)
            for address in ("2001:db8:5:6::1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"):
                self.assertEqual(sign_up(address).status, 201)

    @needs_redis
    def test_many_right_passwords_are_never_throttled(self):
        name = self.visitor.sign_up()
        for _ in range(8):
            self.request("POST", "/api/session", {"username": name, "password": "secret"}, visitor=Visitor())

    def test_dead_session_is_nobody_and_its_cookie_is_cleared(self):
        visitor = self.logged_in()
        user = leancloud.User()
        user.login(visitor.username, "secret")
        user.refresh_session_token()
        leancloud.User.set_current(None)
        response = visitor.request("GET", "/api/todos")
        self.assert_error(response, 401)
        self.assertEqual(visitor.cookies, {})
        self.assertEqual(visitor.request("GET", "/").status, 200)


class TodoTest(AppTestCase):
    def create(self, visitor, content="a todo"):
        return self.request("POST", "/api/todos", {"content": content}, 201, visitor).json()

    def todos(self, visitor, query=""):
        return self.request("GET", "/api/todos" + query, visitor=visitor).json()

    def test_todo_is_created_changed_and_deleted(self):
        alice = self.logged_in()
        todo = self.create(alice, "买牛奶 <img src=x onerror=alert(1)>")
        self.assertEqual(set(todo), {"id", "content", "done", "createdAt", "attachment"})
        self.assertRegex(todo["createdAt"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(self.todos(alice)["todos"], [todo])
        path = f"/api/todos/{todo['id']}"
        changed = self.request("PATCH", path, {"done": True}, visitor=alice).json()
        self.assertEqual(changed, {**todo, "done": True})
        changed = self.request("PATCH", path, {"content": "new"}, visitor=alice).json()
        self.assertEqual(changed, {**todo, "done": True, "content": "new"})
        self.assertEqual(self.todos(alice)["todos"], [changed])
        self.request("DELETE", path, status=204, visitor=alice)
        self.assertEqual(self.todos(alice)["todos"], [])
        self.assert_error(alice.request("DELETE", path), 404)

    def test_todo_of_another_is_404_for_everything(self):
        alice, bob = self.logged_in(), self.logged_in()
        todo = self.create(alice)
        body, headers = multipart("file", "a.txt", b"x")
        self.assertEqual(self.todos(bob)["todos"], [])
        path = f"/api/todos/{todo['id']}"
        self.assert_error(bob.request("PATCH", path, {"done": True}), 404)
        self.assert_error(bob.request("DELETE", path), 404)
        self.assert_error(bob.request("POST", path + "/attachment", body=body, headers=headers), 404)
        self.assert_error(bob.request("GET", path + "/attachment"), 404)
        self.assertEqual(self.todos(alice)["todos"], [todo])

    def test_nobody_gets_401_for_everything(self):
        path = f"/api/todos/{self.create(self.logged_in())['id']}"
        for method, where in (
            ("GET", "/api/todos"),
            ("POST", "/api/todos"),
            ("PATCH", path),
            ("DELETE", path),
            ("GET", path + "/attachment"),
            ("POST", path + "/attachment"),
        ):
            with self.subTest(method=method, path=where):
                self.assert_error(self.visitor.request(method, where, {"content": "x"} if method != "GET" else None), 401)

    def test_bad_input_is_400_and_nothing_is_stored(self):
        alice = self.logged_in()
        todo = self.create(alice)
        path = f"/api/todos/{todo['id']}"
        rows = [
            ("POST", "/api/todos", {}),
            ("POST", "/api/todos", {"content": ""}),
            ("POST", "/api/todos", {"content": " \n"}),
            ("POST", "/api/todos", {"content": 5}),
            ("POST", "/api/todos", {"content": {"__op": "Increment", "amount": 1}}),
            ("PATCH", path, {}),
            ("PATCH", path, {"other": 1}),
            ("PATCH", path, {"done": "true"}),
            ("PATCH", path, {"done": None}),
            ("PATCH", path, {"content": " "}),
            ("PATCH", path, {"content": "fine", "done": 1}),
            ("GET", "/api/todos?limit=0", None),
            ("GET", "/api/todos?limit=101", None),
            ("GET", "/api/todos?limit=x", None),
            ("GET", "/api/todos?done=1", None),
            ("GET", "/api/todos?before=x", None),
            ("GET", "/api/todos?before=MTIzLi4uL3g", None),
            ("GET", "/api/todos?where=1", None),
            ("GET", "/api/todos?limit=1&limit=2", None),
        ]
        for method, where, body in rows:
            with self.subTest(method=method, path=where, body=body):
                self.assert_error(alice.request(method, where, body), 400)
        self.assertEqual(self.todos(alice)["todos"], [todo])

    def test_unknown_and_hostile_ids_are_404(self):
        alice = self.logged_in()
        self.create(alice)
        for todo_id in ("0" * 24, "..", "%2e%2e", "a b", "x'", "a?where={}", "中", "a\n", "../_User", "x" * 100):
            with self.subTest(todo_id):
                self.assert_error(alice.request("PATCH", f"/api/todos/{todo_id}", {"done": True}, QUERY_STRING=""), 404)

    def test_request_meant_for_another_user_is_409_and_changes_nothing(self):
        anna, bert = self.logged_in(), self.logged_in()
        theirs = {"X-User": self.request("GET", "/api/session", visitor=anna).json()["user"]["id"]}
        todo = self.create(bert)
        path = f"/api/todos/{todo['id']}"
        body, form = multipart("file", "a.txt", b"x")
        self.request("POST", f"{path}/attachment", None, 201, bert, body=body, headers=form)
        before = self.todos(bert)
        rows = [
            ("POST", "/api/todos", {"json_body": {"content": "for Anna"}}),
            ("PATCH", path, {"json_body": {"done": True}}),
            ("DELETE", path, {}),
            ("POST", f"{path}/attachment", {"body": body}),
            ("DELETE", f"{path}/attachment", {}),
            ("GET", "/api/todos", {}),
        ]
        for method, where, given in rows:
            for named in (theirs, {"X-User": ""}, {"X-User": "x" * 1000}):
                with self.subTest(method=method, path=where, named=named):
                    headers = {**named, **(form if "body" in given else {})}
                    self.assert_error(bert.request(method, where, headers=headers, **given), 409)
        self.assertEqual(self.todos(bert), before)
        mine = {"X-User": self.request("GET", "/api/session", visitor=bert).json()["user"]["id"]}
        self.request("PATCH", path, {"done": True}, visitor=bert, headers=mine)
        self.assert_error(self.visitor.request("POST", "/api/todos", {"content": "x"}, headers=mine), 401)

    def test_long_content_is_cut_and_the_answer_shows_it(self):
        alice = self.logged_in()
        todo = self.create(alice, "字" * 241)
        self.assertEqual(todo["content"], "字" * 240 + " ...")
        again = self.request("PATCH", f"/api/todos/{todo['id']}", {"content": todo["content"]}, visitor=alice).json()
        self.assertEqual(again["content"], todo["content"])
        self.assertEqual(self.create(alice, "x" * 240)["content"], "x" * 240)
        for content in ("x" * 241, "x" * 241 + " ...", "x" * 240 + "....", "x" * 500 + " ..."):
            self.assertEqual(self.create(alice, content)["content"], "x" * 240 + " ...")

    def test_paging_shows_every_todo_exactly_once_equal_times_included(self):
        alice = self.logged_in()
        threads = [threading.Thread(target=self.create, args=(alice, f"t{i}")) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen, query, pages = [], "?limit=5", 0
        while True:
            page = self.todos(alice, query)
            seen += [todo["id"] for todo in page["todos"]]
            pages += 1
            if page["next"] is None:
                break
            query = f"?limit=5&before={page['next']}"
        self.assertEqual((pages, len(seen), len(set(seen))), (3, 12, 12))
        whole = self.todos(alice, "?limit=100")
        self.assertEqual([todo["id"] for todo in whole["todos"]], seen)
        times = [todo["createdAt"] for todo in whole["todos"]]
        self.assertEqual(times, sorted(times, reverse=True))

    def test_paging_with_equal_times_neither_repeats_nor_skips(self):

        alice = self.logged_in()
        ids = [self.create(alice, f"t{i}")["id"] for i in range(7)]
        store = wsgi.local._storage.service.store

        def same_time(transaction):
            for todo_id in ids:
                transaction.change("UPDATE objects SET created = 1500000000123 WHERE id = ?", [todo_id])

        store.write(same_time)
        self.request("PATCH", f"/api/todos/{ids[0]}", {"done": False}, visitor=alice)  # voids the cached lists
        seen, query = [], "?limit=2"
        while query:
            page = self.todos(alice, query)
            seen += [todo["id"] for todo in page["todos"]]
            query = page["next"] and f"?limit=2&before={page['next']}"
        self.assertEqual(sorted(seen), sorted(ids))

    def test_full_last_page_has_no_next(self):
        alice = self.logged_in()
        ids = [self.create(alice, f"t{i}")["id"] for i in range(4)]
        first = self.todos(alice, "?limit=2")
        last = self.todos(alice, f"?limit=2&before={first['next']}")
        self.assertEqual([todo["id"] for todo in first["todos"] + last["todos"]], ids[::-1])
        self.assertIsNone(last["next"])
        self.assertIsNone(self.todos(alice, "?limit=4")["next"])
        self.assertEqual([todo["id"] for todo in self.todos(alice, "?limit=1")["todos"]], ids[-1:])

    def test_done_filter_shows_only_those(self):
        alice = self.logged_in()
        first, second = self.create(alice, "1"), self.create(alice, "2")
        self.request("PATCH", f"/api/todos/{first['id']}", {"done": True}, visitor=alice)
        self.assertEqual([todo["id"] for todo in self.todos(alice, "?done=true")["todos"]], [first["id"]])
        self.assertEqual([todo["id"] for todo in self.todos(alice, "?done=false")["todos"]], [second["id"]])

    def test_cached_list_is_never_older_than_an_own_write(self):
        alice = self.logged_in()
        for i in range(10):
            todo = self.create(alice, f"t{i}")
            self.assertEqual(self.todos(alice)["todos"][0], todo)
            changed = self.request("PATCH", f"/api/todos/{todo['id']}", {"done": True}, visitor=alice).json()
            self.assertEqual(self.todos(alice)["todos"][0], changed)

    @needs_redis
    def test_list_that_is_read_before_or_during_a_write_is_not_served_after_it(self):
        alice = self.logged_in()
        self.create(alice)
        user = self.request("GET", "/api/session", visitor=alice).json()["user"]
        self.todos(alice)
        with mock.patch.object(todos, "find_page", wraps=todos.find_page) as asked:
            with todos.changing(wsgi.cache, user):
                self.todos(alice)
                self.assertEqual(asked.call_count, 1)
            self.todos(alice)
            self.assertEqual(asked.call_count, 2)
            self.todos(alice)
            self.assertEqual(asked.call_count, 2)

    @needs_redis
    def test_dead_session_still_believed_fills_and_reads_no_list_of_the_owner(self):
        owner, thief = self.logged_in(), Visitor()
        thief.cookies = dict(owner.cookies)
        before = self.create(owner, "old")
        self.assertEqual(self.todos(thief)["todos"], [before])
        owner = self.logged_in_anew(owner)
        after = self.create(owner, "new secret")
        self.assertEqual(self.todos(thief)["todos"], [])  # to storage it is nobody
        self.assertEqual(self.todos(owner)["todos"], [after, before])
        self.assertEqual([todo["content"] for todo in self.todos(owner, "?limit=50")["todos"]], ["new secret", "old"])
        self.assertEqual(self.todos(thief, "?limit=50")["todos"], [])

    @needs_redis
    def test_dead_session_still_believed_writes_nothing_that_the_owner_sees(self):
        owner, thief = self.logged_in(), Visitor()
        thief.cookies = dict(owner.cookies)
        todo = self.create(owner, "old")
        owner = self.logged_in_anew(owner)
        path = f"/api/todos/{todo['id']}"
        self.assert_error(thief.request("PATCH", path, {"done": True}), 404)
        self.assert_error(thief.request("DELETE", path), 404)
        self.assert_error(thief.request("POST", "/api/todos", {"content": "planted"}), 401)
        self.assertEqual(self.todos(owner)["todos"], [todo])

    @needs_redis
    def test_dead_session_is_believed_no_longer_than_a_minute(self):
        thief = self.logged_in()
        self.create(thief, "old")
        self.todos(thief)
        cache = wsgi.cache
        [known] = [key for key in cache._redis.keys("session:*") if json.loads(cache._redis.get(key))["username"] == thief.username]
        self.assertLessEqual(cache._redis.ttl(known), 60)
        self.logged_in_anew(thief)
        cache.drop(known)  # the minute is over, that of the list is not
        self.assert_error(thief.request("GET", "/api/todos"), 401)

    def logged_in_anew(self, visitor):
        """The same user with a new session, all others of whom are dead."""
        user = leancloud.User()
        user.login(visitor.username, "secret")
        user.refresh_session_token()
        leancloud.User.set_current(None)
        anew = Visitor()
        self.request("POST", "/api/session", {"username": visitor.username, "password": "secret"}, visitor=anew)
        return anew

    @needs_redis
    def test_cached_list_comes_without_asking_storage(self):
        alice = self.logged_in()
        self.create(alice)
        first = self.todos(alice)
        with mock.patch.object(todos, "find_page", side_effect=AssertionError("storage was asked")):
            self.assertEqual(self.todos(alice), first)

    @needs_redis
    def test_cached_list_of_a_known_session_takes_one_round_trip(self):
        alice = self.logged_in()
        self.create(alice)
        first = self.todos(alice)
        connection = wsgi.cache._redis
        with mock.patch.object(connection, "execute_command", wraps=connection.execute_command) as asked:
            self.assertEqual(self.todos(alice), first)
        self.assertEqual([call.args[0] for call in asked.mock_calls], ["MGET"])


class AttachmentTest(AppTestCase):
    def setUp(self):
        super().setUp()
        self.alice = self.logged_in()
        self.todo = self.request("POST", "/api/todos", {"content": "x"}, 201, self.alice).json()
        self.path = f"/api/todos/{self.todo['id']}/attachment"

    def attach(self, name, data, mime_type, status=201):
        body, headers = multipart("file", name, data, mime_type)
        return self.request("POST", self.path, None, status, self.alice, body=body, headers=headers)

    def test_attachment_comes_back_byte_for_byte(self):
        value = self.attach("图.png", PNG, "image/png").json()
        self.assertEqual(value, {"name": "图.png", "url": self.path, "size": len(PNG), "mimeType": "image/png"})
        response = self.request("GET", self.path, visitor=self.alice)
        self.assertEqual(response.body, PNG)
        self.assertEqual(response.header("Content-Type"), "image/png")
        self.assertEqual(response.header("Content-Disposition"), "inline; filename*=UTF-8''%E5%9B%BE.png")
        self.assertEqual(response.header("Cache-Control"), "no-store")
        [todo] = self.request("GET", "/api/todos", visitor=self.alice).json()["todos"]
        self.assertEqual(todo["attachment"], value)

    def test_attachment_that_could_run_as_a_page_is_a_download(self):
        types = ("text/html", "image/svg+xml", "text/javascript", "text/plain", "text/plain+xml", "audio/x+xml", "image/png+xml", "")
        for name, mime_type in zip(("a.html", "a.svg", "a.js", "a.txt", "a", "a", "a", "a"), types):
            with self.subTest(name):
                self.attach(name, b"<script>", mime_type)
                response = self.request("GET", self.path, visitor=self.alice)
                self.assertTrue(response.header("Content-Disposition").startswith("attachment"))
                self.assertEqual(response.header("X-Content-Type-Options"), "nosniff")

    def test_second_attachment_replaces_the_first(self):
        self.attach("a.txt", b"first", "text/plain")
        self.attach("b.txt", b"second", "text/plain")
        self.assertEqual(self.request("GET", self.path, visitor=self.alice).body, b"second")
        names = [file.name for file in leancloud.Query("_File").contained_in("name", ["a.txt", "b.txt"]).find()]
        self.assertEqual(names.count("a.txt"), 0)

    def test_removed_attachment_is_gone_with_its_file(self):
        self.assert_error(self.alice.request("DELETE", self.path), 404)
        self.attach("gone.txt", b"x", "text/plain")
        self.assert_error(self.logged_in().request("DELETE", self.path), 404)
        self.request("DELETE", self.path, status=204, visitor=self.alice)
        self.assert_error(self.alice.request("GET", self.path), 404)
        self.assert_error(self.alice.request("DELETE", self.path), 404)
        [todo] = self.request("GET", "/api/todos", visitor=self.alice).json()["todos"]
        self.assertEqual(todo, self.todo)
        self.assertEqual(leancloud.Query("_File").equal_to("name", "gone.txt").count(), 0)

    def count(self, name):
        return leancloud.Query("_File").equal_to("name", name).count()

    def test_attachment_goes_with_its_todo(self):
        self.attach("with-its-todo.txt", b"x", "text/plain")
        self.assertEqual(self.count("with-its-todo.txt"), 1)
        self.request("DELETE", f"/api/todos/{self.todo['id']}", status=204, visitor=self.alice)
        self.assertEqual(self.count("with-its-todo.txt"), 0)

    def test_file_whose_todo_cannot_be_saved_is_not_kept(self):
        self.attach("kept.txt", b"x", "text/plain")
        body, headers = multipart("file", "unsaved.txt", b"y", "text/plain")
        with mock.patch.object(todos, "save", side_effect=todos.HTTPError(HTTPStatus.NOT_FOUND, "gone meanwhile")):
            self.assert_error(self.alice.request("POST", self.path, body=body, headers=headers), 404)
        self.assertEqual((self.count("unsaved.txt"), self.count("kept.txt")), (0, 1))

    def test_hostile_file_names_are_only_names(self):
        for given, shown in (
            ("../../etc/passwd", "passwd"),
            ("C:\\\\x\\\\y.txt", "y.txt"),
            ("a" * 300 + ".txt", "a" * 116 + ".txt"),
            ("", "file"),
        ):
            with self.subTest(given):
                if given:
                    self.assertEqual(self.attach(given, b"x", "text/plain").json()["name"], shown)

    def test_bad_uploads_are_refused(self):
        body, headers = multipart("file", "a.txt", b"x")
        rows = [
            (400, b"", {}),
            (400, body, {"Content-Type": "text/plain"}),
            (400, body[:-8], headers),
            (400, *multipart("other", "a.txt", b"x")),
            (413, *multipart("file", "a.txt", bytes(10485761))),
        ]
        for status, data, given in rows:
            with self.subTest(status=status, size=len(data)):
                self.assert_error(self.alice.request("POST", self.path, body=data, headers=given), status)
        self.assert_error(self.alice.request("GET", self.path), 404)


class NotifyTest(AppTestCase):
    def test_done_todo_is_posted_to_the_webhook(self):
        received = []

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self):
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(500)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Hook)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        alice = self.logged_in()
        todo = self.request("POST", "/api/todos", {"content": "x"}, 201, alice).json()
        url = f"http://127.0.0.1:{server.server_port}/"
        settings = wsgi.settings
        try:
            with mock.patch.dict(settings.__dict__, notify_webhook_url=url):
                done = self.request("PATCH", f"/api/todos/{todo['id']}", {"done": True}, visitor=alice).json()
                self.request("PATCH", f"/api/todos/{todo['id']}", {"done": True}, visitor=alice)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        self.assertEqual(received, [done])
        with mock.patch.dict(settings.__dict__, notify_webhook_url=url):  # nobody listens any more
            self.request("PATCH", f"/api/todos/{todo['id']}", {"done": False}, visitor=alice)
            self.request("PATCH", f"/api/todos/{todo['id']}", {"done": True}, visitor=alice)

    def finished(self, url):
        """Tick a new todo off while the webhook is at `url`, in a thread of its own."""
        alice = self.logged_in()
        todo = self.request("POST", "/api/todos", {"content": "x"}, 201, alice).json()
        with mock.patch.dict(wsgi.settings.__dict__, notify_webhook_url=url), ThreadPoolExecutor(1) as pool:
            yield pool.submit(self.request, "PATCH", f"/api/todos/{todo['id']}", {"done": True}, visitor=alice)

    def test_webhook_leads_nowhere_else(self):
        asked = []

        class Hook(BaseHTTPRequestHandler):
            def answer(self):
                asked.append((self.command, self.path))
                self.send_response(307)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        with HTTPServer(("127.0.0.1", 0), Hook) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                for done in self.finished(f"http://127.0.0.1:{server.server_port}/hook"):
                    done.result(20)
            finally:
                server.shutdown()
                thread.join()
        self.assertEqual(asked, [("POST", "/hook")])

    def test_webhook_that_never_answers_is_not_waited_for(self):
        with mock.patch.object(handlers, "NOTIFY_SECONDS", 0.3), socket.create_server(("127.0.0.1", 0)) as silent:
            for done in self.finished(f"http://127.0.0.1:{silent.getsockname()[1]}/"):
                try:
                    self.assertTrue(done.result(20).json()["done"])
                finally:
                    silent.shutdown(socket.SHUT_RDWR)  # who waits all the same hears that nobody is there


class CloudCodeTest(AppTestCase):
    def keys(self):
        import os

        return {"X-LC-Id": os.environ["LEANCLOUD_APP_ID"], "X-LC-Key": os.environ["LEANCLOUD_APP_KEY"]}

    def test_hello_greets(self):
        for body, wanted in (({}, "Hello, world!"), ({"name": "Bob", "other": 1}, "Hello, Bob!")):
            response = self.request("POST", "/1.1/functions/hello", body, headers=self.keys())
            self.assertEqual(response.json(), {"result": wanted})

    def test_hook_holds_the_rule_for_writes_that_pass_by_the_handlers(self):
        todo = todos.Todo(content="y" * 300)
        todo.save(fetch_when_save=True)
        self.assertEqual(todo.get("content"), "y" * 240 + " ...")
        todo.set("content", "  ")
        with self.assertRaises(leancloud.LeanCloudError) as caught:
            todo.save()
        self.assertEqual(caught.exception.code, 142)
        with self.assertRaises(leancloud.LeanCloudError):
            todos.Todo(content="").save()
        with self.assertRaises(leancloud.LeanCloudError):
            todos.Todo(done=True).save()
        todo = leancloud.Query("Todo").get(todo.id)
        self.assertEqual(todo.get("content"), "y" * 240 + " ...")
        todo.set("done", True)
        todo.save()


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
            text = todos._place({"createdAt": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "objectId": "a1"})
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


class EdgesTest(unittest.TestCase):
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
        text = todos._place({"createdAt": "2020-01-01T00:00:00.000Z", "objectId": "a1"})
        self.assertEqual(handlers._list_options({"before": text})[2], (text, (datetime(2020, 1, 1, tzinfo=UTC), "a1")))

    def test_greeting_takes_a_text(self):
        self.assertEqual([handlers.hello(), handlers.hello("Ann", other=1), handlers.hello(5)], ["Hello, world!", "Hello, Ann!", "Hello, world!"])

    def test_webhook_is_told_with_a_limit_and_its_trouble_is_nobodys(self):
        environ = {"app.settings": SimpleNamespace(notify_webhook_url="")}
        with mock.patch.object(requests.Session, "post") as post:
            handlers._notify(environ, {"id": "a"})
            self.assertFalse(post.called)
            environ["app.settings"].notify_webhook_url = "http://x"
            handlers._notify(environ, {"id": "a"})
            post.assert_called_once_with("http://x", json={"id": "a"}, timeout=2, allow_redirects=False, stream=True)
            post.return_value.close.assert_called_once_with()
            post.side_effect = requests.Timeout
            handlers._notify(environ, {"id": "a"})

    def test_dead_link_is_a_page_for_browsers_alone(self):
        missing, other = HTTPError(HTTPStatus.NOT_FOUND, "x"), HTTPError(HTTPStatus.GONE, "x")
        for error, path, accepted, kind in (
            (missing, "/x", "text/html,*/*", "text/html; charset=utf-8"),
            (missing, "/x", "*/*", "application/json; charset=utf-8"),
            (missing, "/api/x", "text/html", "application/json; charset=utf-8"),
            (other, "/x", "text/html", "application/json; charset=utf-8"),
        ):
            status, headers, _ = handlers.explain(error, {"PATH_INFO": path, "HTTP_ACCEPT": accepted})
            self.assertEqual((status, dict(headers)["Content-Type"], dict(headers)["Cache-Control"]), (error.status, kind, "no-store"))
