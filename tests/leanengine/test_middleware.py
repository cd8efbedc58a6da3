"""Each guard beside the raw SDK: the first half of a test shows the defect, so that an SDK that changes is noticed."""
import gzip
import io
import json
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import leancloud
from leancloud.engine import CookieSessionMiddleware

from leanwsgi import messages
from leanengine import middleware
from leanengine import server
from tests.leanengine.sdk_support import Forget, plain, user
from tests.support import AppTestCase, Visitor, application, call, multipart


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

    def test_name_of_a_request_is_taken_from_a_trusted_proxy_if_it_is_a_plain_word(self):
        app = application()
        for sent, address, is_taken in (
            ("from-the-proxy", "127.0.0.1", True),
            ("from-the-proxy", "192.0.2.1", False),
            ("short", "127.0.0.1", False),
            ("a" * 65, "127.0.0.1", False),
            ("with space in it", "127.0.0.1", False),
        ):
            with self.subTest(sent=sent, address=address):
                response = call(app, "GET", "/api/client", headers={"X-Request-Id": sent}, REMOTE_ADDR=address)
                self.assertEqual(response.header("X-Request-Id") == sent, is_taken)

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
