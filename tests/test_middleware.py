"""Each guard beside the raw SDK: the first half of a test shows the defect, so that an SDK that changes is noticed."""
import base64
import gzip
import io
import json
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from random import Random
from unittest import mock

import leancloud
from leancloud.engine import CookieSessionMiddleware
from werkzeug.http import parse_cookie

from leanwsgi import messages
from leanengine import middleware
from leanengine import server
from tests.support import AppTestCase, Visitor, application, call, multipart


def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), messages.PRIVATE, ("Content-Length", "2")])
    return [b"ok"]


def user(token="t" * 25, user_id="u1"):
    found = leancloud.User()
    found._session_token, found.id = token, user_id
    return found


def logging_in(environ, start_response):
    leancloud.User.set_current(user())
    return plain(environ, start_response)


class Forget(unittest.TestCase):
    def setUp(self):
        leancloud.User.set_current(None)
        self.addCleanup(leancloud.User.set_current, None)


class IsolateVisitorsTest(Forget):
    def test_raw_session_gives_the_last_user_to_the_next_visitor_and_isolated_does_not(self):
        seen = []

        def looking(environ, start_response):
            seen.append(leancloud.User.get_current())
            if environ["PATH_INFO"] == "/login":
                leancloud.User.set_current(user())
            return plain(environ, start_response)

        raw = CookieSessionMiddleware(looking, secret="s")
        call(raw, "GET", "/login")
        self.assertTrue(call(raw, "GET", "/").all("Set-Cookie"))  # alice's cookie, to somebody without one
        self.assertIsNotNone(seen.pop())
        guarded = middleware.isolate_visitors(raw)
        call(guarded, "GET", "/login")
        self.assertEqual(call(guarded, "GET", "/").all("Set-Cookie"), [])
        self.assertIsNone(seen.pop())

    def test_application_that_raises_leaves_no_user(self):
        def broken(environ, start_response):
            leancloud.User.set_current(user())
            raise RuntimeError

        with self.assertRaises(RuntimeError):
            call(middleware.isolate_visitors(broken), "GET", "/")
        self.assertIsNone(leancloud.User.get_current())

    def test_streamed_body_keeps_the_user_until_it_is_closed(self):
        class Body:
            def __iter__(self):
                yield leancloud.User.get_current().id.encode()

        def streaming(environ, start_response):
            leancloud.User.set_current(user())
            start_response("200 OK", [("Content-Type", "text/plain")])
            return Body()

        self.assertEqual(call(middleware.isolate_visitors(streaming), "GET", "/").body, b"u1")
        self.assertIsNone(leancloud.User.get_current())


class KeepSessionTest(Forget):
    def app(self, inner=plain, max_age=1000, path_user=None):
        return middleware.isolate_visitors(middleware.keep_session(inner, "secret", max_age))

    def cookie(self, app, **more):
        [line] = call(app, "GET", "/", **more).all("Set-Cookie")
        return line

    def test_cookie_has_every_flag(self):
        raw = CookieSessionMiddleware(logging_in, secret="s", max_age=1000)
        [line] = call(raw, "GET", "/").all("Set-Cookie")
        self.assertNotIn("HttpOnly", line)
        line = self.cookie(self.app(logging_in))
        for flag in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=1000"):
            self.assertIn(flag, line)
        self.assertNotIn("Secure", line)
        self.assertIn("; Secure", self.cookie(self.app(logging_in), **{"wsgi.url_scheme": "https"}))

    def test_session_comes_back_and_is_not_sent_again(self):
        value = self.cookie(self.app(logging_in)).split(";")[0]
        seen = []

        def looking(environ, start_response):
            found = leancloud.User.get_current()
            seen.append((found.id, found.get_session_token()))
            return plain(environ, start_response)

        response = call(self.app(looking), "GET", "/", headers={"Cookie": f"other=1; {value}"})
        self.assertEqual(seen, [("u1", "t" * 25)])
        self.assertEqual(response.all("Set-Cookie"), [])

    def test_user_whose_token_or_self_changed_gets_a_new_cookie(self):
        cookie = self.cookie(self.app(logging_in)).split(";")[0]

        def same_with_a_new_token(environ, start_response):
            leancloud.User.get_current()._session_token = "n" * 25
            return plain(environ, start_response)

        def another(environ, start_response):
            leancloud.User.set_current(user("a" * 25, "u2"))
            return plain(environ, start_response)

        for change in (same_with_a_new_token, another):
            with self.subTest(change.__name__):
                response = call(self.app(change), "GET", "/", headers={"Cookie": cookie})
                self.assertIn("leancloud:session=", response.header("Set-Cookie"))
                self.assertNotEqual(response.header("Set-Cookie").split(";")[0], cookie)

    def test_user_is_still_there_for_what_is_streamed_after_the_head(self):
        cookie = self.cookie(self.app(logging_in)).split(";")[0]

        def streaming(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain"), ("Cache-Control", "no-store")])
            yield b"head"
            yield leancloud.User.get_current().get_session_token().encode()

        response = call(self.app(streaming), "GET", "/", headers={"Cookie": cookie})
        self.assertEqual(response.body, b"head" + b"t" * 25)
        self.assertEqual(response.all("Set-Cookie"), [])

    def test_old_cookie_in_use_is_issued_anew_and_one_too_old_is_nobody(self):
        value = self.cookie(self.app(logging_in)).split(";")[0]
        raw = CookieSessionMiddleware(logging_in, secret="s", max_age=10)
        [raw_line] = call(raw, "GET", "/").all("Set-Cookie")
        leancloud.User.set_current(None)
        with mock.patch.object(time, "time", return_value=time.time() + 600):
            response = call(self.app(), "GET", "/", headers={"Cookie": value})
            self.assertIn("Max-Age=1000", response.all("Set-Cookie")[0])
        with mock.patch.object(time, "time", return_value=time.time() + 1001):
            response = call(self.app(), "GET", "/", headers={"Cookie": value})
            self.assertIn("Max-Age=0", response.all("Set-Cookie")[0])
            # The SDK's own cookie never ages.
            call(CookieSessionMiddleware(plain, secret="s"), "GET", "/", headers={"Cookie": raw_line.split(";")[0]})
            self.assertEqual(leancloud.User.get_current().id, "u1")

    def test_malformed_cookies_are_nobody_and_cleared(self):
        good = self.cookie(self.app(logging_in)).split(";")[0].split("=", 1)[1]
        issued, signature, data = good.split(".")
        inner = parse_cookie(call(CookieSessionMiddleware(logging_in, secret="secret"), "GET", "/").all("Set-Cookie")[0])
        leancloud.User.set_current(None)
        values = {
            "empty": "",
            "junk": "x",
            "the SDK's own": base64.urlsafe_b64encode(inner[middleware.COOKIE].encode()).decode(),
            "another time": f"{int(issued) + 1}.{signature}.{data}",
            "another signature": f"{issued}.{'0' * 64}.{data}",
            "another session": f"{issued}.{signature}.{data[:-4]}AAAA",
            "a newline": f"{good}\\012",
            "latin-1": "\xff\xfe",
            "8 KiB": "x" * 8192,
        }
        for name, value in values.items():
            with self.subTest(name):
                response = call(self.app(), "GET", "/", headers={"Cookie": f"{middleware.COOKIE}={value}"})
                self.assertEqual(response.status, 200)
                self.assertIn("Max-Age=0", response.all("Set-Cookie")[0])
        twice = f"{middleware.COOKIE}={good}; {middleware.COOKIE}={good}"
        self.assertIn("Max-Age=0", call(self.app(), "GET", "/", headers={"Cookie": twice}).all("Set-Cookie")[0])

    def test_cookie_that_only_the_sdk_takes_for_its_own_never_reaches_it(self):
        line = call(CookieSessionMiddleware(logging_in, secret="secret"), "GET", "/").all("Set-Cookie")[0]
        name, inner = line.split(";")[0].split("=", 1)
        self.assertEqual(name, middleware.COOKIE)
        sealed = self.cookie(self.app(logging_in)).split(";")[0]
        seen = []

        def looking(environ, start_response):
            seen.append(leancloud.User.get_current())
            return plain(environ, start_response)

        raw = middleware.isolate_visitors(CookieSessionMiddleware(looking, secret="secret"))
        rows = [  # (header, whether the raw SDK takes it for its session)
            (f"{name}={inner}", True),
            (f"{name} ={inner}", True),
            (f"{name}\t={inner}", True),
            (f"  {name}  =  {inner}  ", True),
            (f'"{name}"={inner}', True),
            (f'"leancloud\\072session"={inner}', True),
            (f'"lean\\cloud:session" ={inner}', True),
            (f"={name}={inner}", True),
            (f"=={name} ={inner}", True),
            (f";;{name} ={inner}", True),
            (f"a=1;{name} ={inner}", True),
            (f"$Version=1; {name} ={inner}; $Path=/", True),
            (f"=\n{name}={inner}", True),
            (f"{name} ={inner}; {name} ={inner}", True),
            (f"{name} ={inner}; {name}=", True),
            (f'a="; {name} ={inner}', True),
            (f'a="; {name} ={inner}"', False),
            (f"a=1, {name}={inner}", False),
            (f"{name.upper()}={inner}", False),
            (f"{name}\xa0={inner}", False),
        ]
        for header, is_taken in rows:
            with self.subTest(header.replace(inner, "...")):
                call(raw, "GET", "/", headers={"Cookie": header})
                self.assertEqual(seen.pop() is not None, is_taken)
                for cookie in (header, header.replace(inner, "x?y"), f"{header}; {sealed}x", f"{sealed}; {sealed}; {header}"):
                    self.assertEqual(call(self.app(looking), "GET", "/", headers={"Cookie": cookie}).status, 200)
                    self.assertIsNone(seen.pop())
        for header in (f"{sealed}", f" a=b;{sealed} ;c", f"{name} = {sealed.split('=', 1)[1]}", f'"{name}"={inner}; {sealed}'):
            with self.subTest(header[:20]):
                call(self.app(looking), "GET", "/", headers={"Cookie": header})
                self.assertEqual(seen.pop().id, "u1")

    def test_cookies_in_any_form_are_the_session_only_by_our_seal(self):
        line = call(CookieSessionMiddleware(logging_in, secret="secret"), "GET", "/").all("Set-Cookie")[0]
        inner = line.split(";")[0].split("=", 1)[1]
        pieces = [middleware.COOKIE, inner, inner.strip('"'), '"', "=", ";", " ", "\t", ",", "\\", "\\072", "$Version", "x", "\n", "\xa0"]
        random, seen = Random(15), []

        def looking(environ, start_response):
            seen.append(leancloud.User.get_current())
            return plain(environ, start_response)

        guarded, raw = self.app(looking), middleware.isolate_visitors(CookieSessionMiddleware(looking, secret="secret"))
        taken = 0
        for _ in range(3000):
            header = "".join(random.choices(pieces, [4, 4, 4, 2, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1], k=random.randint(3, 12)))
            self.assertEqual(call(guarded, "GET", "/", headers={"Cookie": header}).status, 200)
            self.assertIsNone(seen.pop(), header)
            try:
                call(raw, "GET", "/", headers={"Cookie": header})
            except Exception:
                continue
            taken += seen.pop() is not None
        self.assertGreater(taken, 0)  # the raw SDK takes some of them for its own

    def test_cookie_full_of_blanks_takes_no_time(self):
        header = "a=x" + " " * 60_000 + "y"  # the SDK's parser takes seconds, twice
        start = time.monotonic()
        call(self.app(), "GET", "/", headers={"Cookie": header})
        self.assertLess(time.monotonic() - start, 1)

    def test_handlers_find_every_cookie_as_it_came(self):
        seen = []

        def looking(environ, start_response):
            seen.append(environ["app.cookies"])
            return plain(environ, start_response)

        call(self.app(looking), "GET", "/", headers={"Cookie": "theme=dark; x"})
        self.assertEqual(seen, ["theme=dark; x"])

    def test_raw_session_raises_on_a_malformed_cookie(self):
        raw = CookieSessionMiddleware(plain, secret="secret")
        signed = call(CookieSessionMiddleware(logging_in, secret="secret"), "GET", "/").all("Set-Cookie")[0]
        leancloud.User.set_current(None)
        broken = []
        for value in ("\xff\xfe", "a?b", "?", signed.split("=", 1)[1][:20], "=?x=y", "AAAA?session_token=x"):
            try:
                call(raw, "GET", "/", headers={"Cookie": f"{middleware.COOKIE}={value}"})
            except Exception as error:
                broken.append(error)
        self.assertTrue(broken)

    def test_answer_that_caches_may_keep_carries_no_cookie(self):
        def cacheable(environ, start_response):
            leancloud.User.set_current(user())
            start_response("200 OK", [("Content-Type", "text/plain"), ("Cache-Control", "public, max-age=60")])
            return [b"ok"]

        raw = CookieSessionMiddleware(cacheable, secret="s")
        self.assertTrue(call(raw, "GET", "/").all("Set-Cookie"))
        self.assertEqual(call(self.app(cacheable), "GET", "/").all("Set-Cookie"), [])

    def test_excluded_path_does_not_log_out(self):
        value = self.cookie(self.app(logging_in)).split(";")[0]
        raw = CookieSessionMiddleware(plain, secret="s", excluded_paths=["/static/"])
        self.assertIn("1970", call(raw, "GET", "/static/x", headers={"Cookie": value}).all("Set-Cookie")[0])
        response = call(self.app(), "GET", "/static/x", headers={"Cookie": value})
        self.assertEqual(response.all("Set-Cookie"), [])

    def test_logging_out_clears_the_cookie(self):
        value = self.cookie(self.app(logging_in)).split(";")[0]

        def logging_out(environ, start_response):
            leancloud.User.set_current(None)
            return plain(environ, start_response)

        self.assertIn("Max-Age=0", self.cookie(self.app(logging_out), headers={"Cookie": value}))


class CompressTest(AppTestCase):
    ACCEPTS = {"Accept-Encoding": "gzip, br"}

    def test_long_text_is_gzipped_for_those_who_take_it(self):
        plain = self.request("GET", "/static/app.js")
        packed = self.request("GET", "/static/app.js", headers=self.ACCEPTS)
        self.assertIsNone(plain.header("Content-Encoding"))
        self.assertEqual(packed.header("Content-Encoding"), "gzip")
        self.assertEqual(gzip.decompress(packed.body), plain.body)
        self.assertEqual(packed.header("Content-Length"), str(len(packed.body)))
        self.assertLess(len(packed.body), len(plain.body) / 2)
        self.assertEqual(packed.header("Vary"), "Accept-Encoding")
        self.assertEqual(packed.header("ETag"), "W/" + plain.header("ETag"))
        again = {**self.ACCEPTS, "If-None-Match": packed.header("ETag")}
        self.assertEqual(self.request("GET", "/static/app.js", status=304, headers=again).body, b"")

    def test_list_of_todos_is_gzipped_and_stays_private(self):
        self.visitor.sign_up()
        for number in range(10):
            self.request("POST", "/api/todos", {"content": f"todo {number} " * 20}, status=201)
        packed = self.request("GET", "/api/todos", headers=self.ACCEPTS)
        self.assertEqual(len(json.loads(gzip.decompress(packed.body))["todos"]), 10)
        self.assertIn("no-store", packed.header("Cache-Control"))

    def test_short_answers_pictures_heads_and_streams_stay_as_they_are(self):
        def streamed(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return iter([b"x" * 5000])

        def late(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"x" * 5000

        def picture(environ, start_response):
            start_response("200 OK", [("Content-Type", "image/png"), ("Content-Length", "5000")])
            return [b"x" * 5000]

        for app in (streamed, late, picture, plain):
            with self.subTest(app.__name__):
                response = call(middleware.compress(app), "GET", "/", headers=self.ACCEPTS)
                self.assertEqual(response.status, 200)
                self.assertIsNone(response.header("Content-Encoding"))
        self.assertIsNone(self.request("HEAD", "/static/app.js", headers=self.ACCEPTS).header("Content-Encoding"))


class RedirectTest(Forget):
    """In production; the SDK decides by a variable that it reads when it is imported."""

    def setUp(self):
        super().setUp()
        patch = mock.patch("leancloud.engine.https_redirect_middleware.is_prod", True)
        patch.start()
        self.addCleanup(patch.stop)
        inner = middleware.redirect_to_https(plain)
        self.app = middleware.bound(inner, frozenset(["127.0.0.1"]), frozenset(), 1000, True)

    def test_redirect_keeps_the_url_and_the_method(self):
        raw = call(leancloud.HttpsRedirectMiddleware(plain), "POST", "/a")
        self.assertEqual((raw.status, raw.header("Location")), (302, "https://localhost/a?"))
        rows = [
            ("GET", "/a", "", 302, "https://localhost/a"),
            ("HEAD", "/a", "", 302, "https://localhost/a"),
            ("POST", "/a", "", 308, "https://localhost/a"),
            ("DELETE", "/a", "x=1&y=%20", 308, "https://localhost/a?x=1&y=%20"),
            ("GET", "/中", "q=%E4%B8%AD", 302, "https://localhost/%E4%B8%AD?q=%E4%B8%AD"),
            ("GET", "//evil.example/a", "", 302, "https://localhost/evil.example/a"),
        ]
        for method, path, query, status, location in rows:
            with self.subTest(method=method, path=path):
                response = call(self.app, method, path, query=query)
                self.assertEqual((response.status, response.header("Location")), (status, location))

    def test_https_behind_a_trusted_proxy_is_let_through_with_hsts(self):
        response = call(self.app, "GET", "/", headers={"X-Forwarded-Proto": "https"})
        self.assertEqual(response.status, 200)
        self.assertTrue(response.header("Strict-Transport-Security"))
        untrusted = call(self.app, "GET", "/", headers={"X-Forwarded-Proto": "https"}, REMOTE_ADDR="9.9.9.9")
        self.assertEqual(untrusted.status, 302)

    def test_hostile_host_and_query_are_400(self):
        raw = leancloud.HttpsRedirectMiddleware(plain)
        with self.assertRaises(Exception):
            call(raw, "GET", "/", HTTP_HOST="[")
        for more in (
            {"HTTP_HOST": "["},
            {"HTTP_HOST": "a b"},
            {"HTTP_HOST": "a/b"},
            {"HTTP_HOST": "a\r\nX: y"},
            {"HTTP_HOST": "a@b"},
            {"HTTP_HOST": ""},
            {"QUERY_STRING": "%ff"},
            {"PATH_INFO": "/\xff"},
        ):
            with self.subTest(more):
                self.assertEqual(call(self.app, "GET", "/", **more).status, 400)

    def test_allowed_hosts_are_the_only_ones(self):
        app = middleware.bound(plain, frozenset(), frozenset(["good.example"]), 1000, False)
        self.assertEqual(call(app, "GET", "/", HTTP_HOST="Good.example:3000").status, 200)
        self.assertEqual(call(app, "GET", "/", HTTP_HOST="evil.example").status, 400)


class BoundTest(unittest.TestCase):
    def test_every_answer_has_the_security_headers(self):
        app = application()
        for method, path in (
            ("GET", "/"),
            ("GET", "/nothing"),
            ("PUT", "/"),
            ("GET", "/api/todos"),
            ("GET", "/__engine/1/ping"),
            ("POST", "/1.1/functions/hello"),
            ("GET", "/static/app.js"),
            ("OPTIONS", "/api/todos"),
        ):
            with self.subTest(method=method, path=path):
                response = call(app, method, path)
                policy = response.header("Content-Security-Policy")
                self.assertIn("default-src 'self'", policy)
                self.assertIn("frame-ancestors 'none'", policy)
                self.assertNotIn("unsafe", policy)
                self.assertEqual(response.all("X-Content-Type-Options"), ["nosniff"])
                self.assertTrue(response.header("Referrer-Policy"))
                self.assertTrue(response.header("X-Request-Id"))

    def test_limits_answer_before_any_work(self):
        app = application()
        rows = [
            (414, {"PATH_INFO": "/" + "a" * 9000}),
            (414, {"QUERY_STRING": "a" * 9000}),
            (413, {"CONTENT_LENGTH": "99999999999"}),
            (400, {"CONTENT_LENGTH": "x"}),
            (400, {"CONTENT_LENGTH": "-5"}),
        ]
        for status, more in rows:
            with self.subTest(more=str(more)[:40]):
                # Past the validator, which would refuse a length of this kind by itself.
                answer = []
                environ = {
                    "REQUEST_METHOD": "POST",
                    "PATH_INFO": "/api/users",
                    "REMOTE_ADDR": "127.0.0.1",
                    "wsgi.url_scheme": "http",
                    **more,
                }
                app(environ, lambda status, headers, exc_info=None: answer.append(int(status[:3])))
                self.assertEqual(answer, [status])

    def test_upload_and_wall_allow_a_form_the_same_beside_its_file_and_the_server_more(self):
        def status(length, max_upload):
            guarded = middleware.bound(plain, (), (), max_upload, False)
            environ = {"REQUEST_METHOD": "POST", "REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http", "CONTENT_LENGTH": str(length)}
            answer = []
            guarded(environ, lambda status, headers, exc_info=None: answer.append(int(status[:3])))
            return answer[0]

        for max_upload in (1, 5 << 20):
            most = max(max_upload, messages.MAX_JSON_BYTES) + messages.MULTIPART_BYTES
            self.assertEqual((status(most, max_upload), status(most + 1, max_upload)), (200, 413))
            self.assertGreater(max_upload + server.BODY_OVERHEAD, most)
        size = 5 << 20
        for more, refused in ((0, False), (1, True)):
            body, headers = multipart("file", "a.txt", b"x" * size)
            padding = b" " * (size + messages.MULTIPART_BYTES + more - len(body))  # after the form's end it is ignored
            environ = {"wsgi.input": io.BytesIO(body + padding), "CONTENT_LENGTH": str(len(body + padding))}
            environ["CONTENT_TYPE"] = headers["Content-Type"]
            with self.subTest(more):
                if refused:
                    with self.assertRaises(messages.HTTPError) as caught:
                        messages.upload(environ, "file", size)
                    self.assertEqual(caught.exception.status, 413)
                else:
                    with messages.upload(environ, "file", size).file as file:
                        self.assertEqual(len(file.read()), size)


class SameSiteTest(AppTestCase):
    def test_writes_from_other_sites_are_403(self):
        body = {"username": "x", "password": ""}
        rows = [
            (403, {"Origin": "https://evil.example"}),
            (403, {"Origin": "null"}),
            (403, {"Origin": "http://localhost.evil.example"}),
            (403, {"Sec-Fetch-Site": "cross-site"}),
            (403, {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}),
            (400, {"Origin": "http://localhost"}),
            (400, {"Sec-Fetch-Site": "same-origin"}),
            (400, {"Sec-Fetch-Site": "none"}),
            (400, {}),
        ]
        for status, headers in rows:
            with self.subTest(headers):
                self.assert_error(self.visitor.request("POST", "/api/session", body, headers=headers), status)

    def test_reading_from_other_sites_is_let_through(self):
        self.request("GET", "/", headers={"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"})


class VisitorsTest(AppTestCase):
    def test_anonymous_visitors_between_users_are_never_taken_for_one(self):
        users = [self.logged_in() for _ in range(4)]

        def logged_in(visitor):
            name = visitor.request("GET", "/api/session").json()["user"]["username"]
            return name == visitor.username

        def anonymous(_):
            response = Visitor().request("GET", "/api/session")
            return response.json() == {"user": None} and not response.all("Set-Cookie")

        with ThreadPoolExecutor(8) as pool:
            results = [pool.submit(logged_in, users[i % 4]) if i % 3 == 0 else pool.submit(anonymous, i) for i in range(300)]
            self.assertEqual([i for i, result in enumerate(results) if not result.result()], [])
        self.assertEqual(threading.current_thread(), threading.main_thread())


if __name__ == "__main__":
    unittest.main()
