"""The session guard beside the raw SDK: the first half of a test shows the defect, so that an SDK that changes is noticed."""
import base64
import time
import unittest
from random import Random
from unittest import mock

import leancloud
from leancloud.engine import CookieSessionMiddleware
from werkzeug.http import parse_cookie

from leanengine import middleware
from tests.leanengine.sdk_support import COOKIE, Forget, logging_in, plain, session, user
from tests.support import call


class GuardSessionTest(Forget):
    def app(self, inner=plain, max_age=1000, path_user=None):
        return middleware.isolate_visitors(session(inner, max_age=max_age))

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
        def living(environ, start_response):
            environ["app.session_lives"] = True
            return plain(environ, start_response)

        with mock.patch.object(time, "time", return_value=time.time() + 600):
            self.assertEqual(call(self.app(), "GET", "/", headers={"Cookie": value}).all("Set-Cookie"), [])
            response = call(self.app(living), "GET", "/", headers={"Cookie": value})
            self.assertIn("Max-Age=1000", response.all("Set-Cookie")[0])
            self.assertEqual(response.all("Set-Cookie")[0].split(".")[1], value.split(".")[1])
        with mock.patch.object(time, "time", return_value=time.time() + 1001):
            response = call(self.app(), "GET", "/", headers={"Cookie": value})
            self.assertIn("Max-Age=0", response.all("Set-Cookie")[0])
            # The SDK's own cookie never ages.
            call(CookieSessionMiddleware(plain, secret="s"), "GET", "/", headers={"Cookie": raw_line.split(";")[0]})
            self.assertEqual(leancloud.User.get_current().id, "u1")

    def test_malformed_cookies_are_nobody_and_cleared(self):
        good = self.cookie(self.app(logging_in)).split(";")[0].split("=", 1)[1]
        issued, login, signature, data = good.split(".")
        inner = parse_cookie(call(CookieSessionMiddleware(logging_in, secret="secret"), "GET", "/").all("Set-Cookie")[0])
        leancloud.User.set_current(None)
        values = {
            "empty": "",
            "junk": "x",
            "the SDK's own": base64.urlsafe_b64encode(inner[COOKIE].encode()).decode(),
            "another time": f"{int(issued) + 1}.{login}.{signature}.{data}",
            "another log-in": f"{issued}.{login[:-1]}{'1' if login[-1] == '0' else '0'}.{signature}.{data}",
            "no log-in": f"{issued}.{signature}.{data}",
            "another signature": f"{issued}.{login}.{'0' * 64}.{data}",
            "another session": f"{issued}.{login}.{signature}.{data[:-4]}AAAA",
            "a newline": f"{good}\\012",
            "latin-1": "\xff\xfe",
            "8 KiB": "x" * 8192,
        }
        for name, value in values.items():
            with self.subTest(name):
                response = call(self.app(), "GET", "/", headers={"Cookie": f"{COOKIE}={value}"})
                self.assertEqual(response.status, 200)
                self.assertIn("Max-Age=0", response.all("Set-Cookie")[0])
        twice = f"{COOKIE}={good}; {COOKIE}={good}"
        self.assertIn("Max-Age=0", call(self.app(), "GET", "/", headers={"Cookie": twice}).all("Set-Cookie")[0])

    def test_cookie_that_only_the_sdk_takes_for_its_own_never_reaches_it(self):
        line = call(CookieSessionMiddleware(logging_in, secret="secret"), "GET", "/").all("Set-Cookie")[0]
        name, inner = line.split(";")[0].split("=", 1)
        self.assertEqual(name, COOKIE)
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
        pieces = [COOKIE, inner, inner.strip('"'), '"', "=", ";", " ", "\t", ",", "\\", "\\072", "$Version", "x", "\n", "\xa0"]
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
                call(raw, "GET", "/", headers={"Cookie": f"{COOKIE}={value}"})
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

if __name__ == "__main__":
    unittest.main()
