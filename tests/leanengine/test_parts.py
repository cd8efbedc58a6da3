"""The parts of the app's guards that need no server: times, limits and choices, each at its edge."""
import gzip
import time
import unittest
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from types import SimpleNamespace
from unittest import mock

import leancloud
import redis
import requests

from leanengine import cache, https, local, middleware, sdk, session, settings, users
from leanwsgi.messages import HTTPError
from tests.leanengine.sdk_support import Forget, user
from tests.support import call, needs_storage


def answering(body=b"x", status="200 OK", headers=(("Content-Type", "text/plain"),)):
    """An application that answers so; what it was asked with is in `asked`."""

    def application(environ, start_response):
        application.asked.append(environ)
        start_response(status, list(headers))
        return [body]

    application.asked = []
    return application


def asked(application, method="GET", path="/", **environ):
    """(status, headers, body) of an application that is called without the validator."""
    said = []
    given = {"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http", **environ}
    body = application(given, lambda status, headers, exc_info=None: said.append((int(status[:3]), headers)))
    return *said[-1], b"".join(body)


class CompressTest(unittest.TestCase):
    def test_text_is_packed_from_a_size_on_unless_it_is_already(self):
        text = ("Content-Type", "text/plain")
        for length, headers, is_packed in (
            (1024, [text], False),
            (1025, [text], True),
            (2000, [("Content-Type", "application/json")], True),
            (2000, [("Content-Type", "image/svg+xml")], True),
            (2000, [("Content-Type", "image/png")], False),
            (2000, [text, ("CONTENT-ENCODING", "br")], False),
            (2000, [], False),
        ):
            with self.subTest(length, headers=headers):
                own = [*headers, ("Content-Length", str(length)), ("ETag", '"x"')]
                _, found, body = asked(middleware.compress(answering(b"x" * length, headers=own)), HTTP_ACCEPT_ENCODING="br, gzip")
                found = dict(found)
                self.assertEqual(gzip.decompress(body) if is_packed else body, b"x" * length)
                self.assertEqual((found["Content-Length"], found["ETag"]), (str(len(body)), 'W/"x"' if is_packed else '"x"'))
                self.assertEqual(found.get("Content-Encoding"), "gzip" if is_packed else None)

    def test_only_who_takes_it_gets_it_packed(self):
        for accepted, method, vary in (("gzip", "GET", "Accept-Encoding"), ("br", "GET", None), ("gzip", "HEAD", None)):
            _, headers, _ = asked(middleware.compress(answering(b"x" * 5000)), method, HTTP_ACCEPT_ENCODING=accepted)
            self.assertEqual((dict(headers).get("Vary"), "Content-Encoding" in dict(headers)), (vary, vary is not None))


class BoundTest(unittest.TestCase):
    def bounded(self, application=None, trusted=(), hosts=(), is_production=False, **environ):
        self.application = application or answering()
        return asked(middleware.bound(self.application, trusted, hosts, 1000, is_production), **environ)

    def test_scheme_is_believed_of_a_trusted_proxy_alone(self):
        for trusted, proto, scheme, forwarded in (
            (("127.0.0.1",), "https", "https", "https"),
            (("127.0.0.1",), " HTTPS , http", "https", "https"),
            (("127.0.0.1",), "http", "http", None),
            (("127.0.0.1",), "ftp", "http", None),
            ((), "https", "http", None),
        ):
            with self.subTest(trusted, proto=proto):
                self.bounded(trusted=trusted, HTTP_X_FORWARDED_PROTO=proto, HTTP_X_REAL_IP="1.2.3.4")
                [environ] = self.application.asked
                self.assertEqual((environ["wsgi.url_scheme"], environ.get("HTTP_X_FORWARDED_PROTO")), (scheme, forwarded))
                self.assertEqual("HTTP_X_REAL_IP" in environ, bool(trusted))
        self.bounded(HTTP_X_FORWARDED_PROTO="http", **{"wsgi.url_scheme": "https"})
        self.assertEqual(self.application.asked[0]["HTTP_X_FORWARDED_PROTO"], "https")

    def test_hosts_are_served_with_and_without_their_ports(self):
        for host, hosts, status in (
            ("a.example.com", (), 200),
            ("A.example.com:80", ("a.example.com",), 200),
            ("a.example.com:81", ("a.example.com:81",), 200),
            ("a.example.com:82", ("a.example.com:81",), 400),
            ("b.example.com", ("a.example.com",), 400),
            ("[::1]:80", ("[::1]",), 200),
            ("a b", (), 400),
            ("a:123456", (), 400),
            (None, (), 200),
            (None, ("a",), 400),
        ):
            with self.subTest(host, hosts=hosts):
                self.assertEqual(self.bounded(hosts=hosts, **({"HTTP_HOST": host} if host else {}))[0], status)

    def test_url_is_as_long_as_the_limit_allows(self):
        for path, query, status in ((8192, 0, 200), (8193, 0, 414), (4000, 4192, 200), (4000, 4193, 414)):
            with self.subTest(path, query=query):
                self.assertEqual(self.bounded(path="/" * path, QUERY_STRING="a" * query)[0], status)

    def test_headers_of_the_app_stand_and_https_stays_in_production(self):
        own = [("Content-Type", "text/plain"), ("Referrer-Policy", "no-referrer")]
        for headers, scheme, is_production, policy, hsts in (
            (own[:1], "http", True, "same-origin", None),
            (own, "https", True, "no-referrer", "max-age=31536000"),
            (own, "https", False, "no-referrer", None),
        ):
            with self.subTest(headers, scheme=scheme):
                _, found, _ = self.bounded(answering(headers=headers), is_production=is_production, **{"wsgi.url_scheme": scheme})
                self.assertEqual([value for name, value in found if name == "Referrer-Policy"], [policy])
                found = dict(found)
                self.assertEqual((found.get("Strict-Transport-Security"), found["X-Content-Type-Options"]), (hsts, "nosniff"))
                self.assertRegex(found["X-Request-Id"], r"\A[0-9a-f]{16}\Z")

    def test_failure_is_an_answer_until_one_has_begun(self):
        def broken(environ, start_response):
            if environ["PATH_INFO"] == "/late":
                start_response("200 OK", [])
            raise ZeroDivisionError

        with redirect_stderr(StringIO()) as said:
            self.assertEqual(self.bounded(broken)[0], 500)
            self.assertIn("ZeroDivisionError", said.getvalue())
            with self.assertRaises(ZeroDivisionError):
                self.bounded(broken, path="/late")


class SameSiteTest(unittest.TestCase):
    def test_writes_come_from_the_same_origin(self):
        for environ, is_same in (
            ({}, True),
            ({"HTTP_SEC_FETCH_SITE": "same-origin"}, True),
            ({"HTTP_SEC_FETCH_SITE": "none"}, True),
            ({"HTTP_SEC_FETCH_SITE": "same-site"}, False),
            ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_ORIGIN": "http://a"}, False),
            ({"HTTP_ORIGIN": "http://a"}, True),
            ({"HTTP_ORIGIN": "HTTP://A:80"}, True),
            ({"HTTP_ORIGIN": "https://a:443"}, True),
            ({"HTTP_ORIGIN": "http://a:443"}, False),
            ({"HTTP_ORIGIN": "http://b"}, False),
            ({"HTTP_ORIGIN": "null"}, False),
            ({"HTTP_ORIGIN": "ftp://a"}, False),
        ):
            with self.subTest(environ):
                self.assertIs(middleware._is_same_site({"HTTP_HOST": "a", **environ}), is_same)
        self.assertTrue(middleware._is_same_site({"HTTP_HOST": "A:8080", "HTTP_ORIGIN": "http://a:8080"}))
        other = {"HTTP_SEC_FETCH_SITE": "cross-site"}
        for method, status in (("GET", 200), ("HEAD", 200), ("OPTIONS", 200), ("POST", 403), ("DELETE", 403), ("PATCH", 403)):
            self.assertEqual(asked(middleware.check_same_site(answering()), method, **other)[0], status)


class HttpsTest(unittest.TestCase):
    def test_url_is_the_same_with_https(self):
        for environ, url in (
            ({"HTTP_HOST": "a", "PATH_INFO": "/b"}, "https://a/b"),
            ({"HTTP_HOST": "a:80", "PATH_INFO": "/"}, "https://a/"),
            ({"HTTP_HOST": "a:8080", "PATH_INFO": "/", "QUERY_STRING": "x=1&y=%20"}, "https://a:8080/?x=1&y=%20"),
            ({"SERVER_NAME": "s", "PATH_INFO": "//evil"}, "https://s/evil"),
            ({"SERVER_NAME": "s", "PATH_INFO": ""}, "https://s/"),
            ({"SERVER_NAME": "s", "SCRIPT_NAME": "/app", "PATH_INFO": "/\xe4\xb8\xad b"}, "https://s/app/%E4%B8%AD%20b"),
        ):
            with self.subTest(environ):
                self.assertEqual(https._https_url(environ), url)


class CookieTest(Forget):
    KEY = b"k" * 32

    def test_cookie_is_good_for_its_time_and_a_minute_of_clocks_that_differ(self):
        login = "1-" + "a" * 16
        sealed = session._seal_cookie(self.KEY, login, "inner")
        issued = int(sealed.partition(".")[0])
        for age, is_good in ((0, True), (99, True), (100, False), (-60, True), (-61, False)):
            with self.subTest(age), mock.patch.object(session.time, "time", lambda: issued + age):  # noqa: B023
                self.assertEqual(session._open_cookie(self.KEY, sealed, 100), (issued, login, "inner") if is_good else (0, "", None))
        for value in (None, "", sealed + "x" * 5000, sealed.replace(".", "-"), sealed[:-1] + "\n"):
            self.assertEqual(session._open_cookie(self.KEY, value, 100), (0, "", None))
        self.assertEqual(session._open_cookie(b"other", sealed, 100), (0, "", None))

    def test_cookie_that_is_there_twice_is_none(self):
        for header, expected in (("", None), ("a=1", None), ("s=1", "1"), ('a=2; s="1" ; b', "1"), ("s=1; s=1", ""), ("s", ""), ("xs=1", None)):
            with self.subTest(header):
                self.assertEqual(session._sent_cookie("s", header), expected)

    def test_cookie_ends_when_it_says(self):
        with mock.patch.object(session.time, "time", lambda: 86_400.0):
            for max_age, scheme, expected in (
                (60, "http", "n=v; Path=/; Max-Age=60; Expires=Fri, 02 Jan 1970 00:01:00 GMT; HttpOnly; SameSite=Lax"),
                (0, "https", "n=v; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax; Secure"),
            ):
                self.assertEqual(session._cookie({"wsgi.url_scheme": scheme}, "n", "v", max_age), expected)

    def test_session_in_use_is_renewed_after_a_day_or_half_of_its_life(self):
        from leancloud.engine import CookieSessionMiddleware

        def living(environ, start_response):
            environ["app.session_lives"] = lives
            start_response("200 OK", [("Content-Type", "text/plain"), ("Cache-Control", "private, no-store")])
            return [b""]

        def logging_in(environ, start_response):
            leancloud.User.set_current(user())
            return living(environ, start_response)

        for max_age, after in ((1000, 500), (10 * 86_400, 86_400)):
            for age, lives, is_renewed in ((after, True, False), (after + 1, True, True), (after + 1, False, False)):
                with self.subTest(max_age, age=age, lives=lives):
                    began = float(int(time.time()))
                    guarded = [middleware.isolate_visitors(session.guard_session(CookieSessionMiddleware(one, secret="s", max_age=max_age))) for one in (logging_in, living)]
                    with mock.patch.object(session.time, "time", lambda: began):  # noqa: B023
                        [line] = call(guarded[0], "GET", "/").all("Set-Cookie")
                    with mock.patch.object(session.time, "time", lambda: began + age):  # noqa: B023
                        lines = call(guarded[1], "GET", "/", headers={"Cookie": line.split(";")[0]}).all("Set-Cookie")
                    self.assertEqual(len(lines), int(is_renewed))


class FakeRedis:
    """As much of a Redis as the cache asks for; it fails while `error` is set."""

    def __init__(self):
        self.values, self.error, self.asked = {}, None, []

    def __getattr__(self, name):
        def command(*arguments, **options):
            self.asked.append((name, *arguments, *options.values()))
            if self.error:
                raise self.error
            return self.answers.get(name)

        return command

    answers = {}

    @contextmanager
    def pipeline(self):
        yield self


class CacheTest(unittest.TestCase):
    def setUp(self):
        self.redis, self.now, self.revived = FakeRedis(), 100.0, []
        self.cache = cache.Cache(self.redis, lambda: self.revived.append(1))
        patch = mock.patch.object(cache.time, "monotonic", lambda: self.now)
        patch.start()
        self.addCleanup(patch.stop)
        said = redirect_stderr(StringIO())
        self.said = said.__enter__()
        self.addCleanup(said.__exit__, None, None, None)

    def test_lost_server_is_left_alone_for_five_seconds_and_all_is_void_then(self):
        self.redis.error = redis.ConnectionError()
        for _ in range(2):
            self.assertIsNone(self.cache.get("a"))
        self.assertEqual((self.redis.asked, self.said.getvalue()), ([("get", "a")], "the cache is lost: ConnectionError\n"))
        self.now += 4.9
        self.assertEqual((self.cache.status(), len(self.redis.asked)), ("down", 1))
        self.now += 0.1
        self.assertIsNone(self.cache.get("a"))  # which fails again
        self.assertEqual((self.revived, self.redis.asked[1:], self.said.getvalue().count("\n")), ([1], [("incr", "generation")], 1))
        self.now += 5
        self.redis.error = None
        self.redis.answers = {"get": '{"x": 1}', "ping": True}
        self.assertEqual((self.cache.get("a"), self.cache.status()), ({"x": 1}, "ok"))
        self.assertEqual((self.redis.asked[2:], self.said.getvalue().splitlines()[1:]), ([("incr", "generation"), ("get", "a"), ("ping",)], ["the cache is back"]))

    def test_one_thread_tries_while_others_go_on_without(self):
        self.cache._lost = True
        self.cache._revive = lambda: self.assertIsNone(self.cache.get("b"))
        self.redis.answers = {"get": "1"}
        self.assertEqual(self.cache.get("a"), 1)
        self.assertNotIn(("get", "b"), self.redis.asked)
        self.cache._recover(self.redis)  # another thread has been quicker
        self.assertEqual([one for one, *_ in self.redis.asked].count("incr"), 1)

    def test_value_is_of_the_version_that_it_was_made_in(self):
        for found, expected in (
            ([None, None, None, None], (None, "0.0", None)),
            (['["3.4", {"a": 1}]', "3", "4", "7"], ({"a": 1}, "3.4", 7)),
            (['["3.3", {"a": 1}]', "3", "4", None], (None, "3.4", None)),
        ):
            self.redis.answers = {"mget": found}
            self.assertEqual(self.cache.get_version("k", "n", "b"), expected)
        self.assertEqual(self.redis.asked[-1], ("mget", "k", "generation", "version:n", "b"))
        self.cache.put_version("k", "3.4", {"a": 1}, 30)
        self.assertEqual(self.redis.asked[-1], ("set", "k", '["3.4",{"a":1}]', 30))

    def test_counter_lasts_a_second_at_least_and_is_given_back(self):
        for ttl, left in ((7, 7), (0, 1), (-1, 1)):
            self.redis.answers = {"execute": [True, 3, ttl]}
            self.assertEqual(self.cache.count("c", 60), (3, left))
        self.assertEqual(self.redis.asked[-4:], [("set", "c", 0, 60, True), ("incr", "c"), ("ttl", "c"), ("execute",)])
        for left, is_deleted in ((1, False), (0, True), (-1, True)):
            self.redis.asked.clear()
            self.redis.answers = {"decr": left}
            self.cache.uncount("c")
            self.assertEqual(("delete", "c") in self.redis.asked, is_deleted)
        self.cache.drop("d")
        self.cache.touch("n")
        self.cache.close()
        self.assertEqual(self.redis.asked[-3:], [("delete", "d"), ("incr", "version:n"), ("close",)])


class SdkTest(unittest.TestCase):
    def test_codes_of_storage_as_statuses(self):
        for code, text, status, message, wait in (
            (101, "no", 404, "no", None),
            (1, "Could not find object", 404, "Could not find object", None),
            (1, "odd", 502, "storage gave an answer that makes no sense", None),
            (202, "x" * 301, 409, "x" * 300, None),
            (219, "locked", 429, "locked", "900"),
            (429, "slow", 429, "slow", "60"),
            (403, "no", 404, "no", None),
            (124, "slow", 503, "storage is busy, try again", "2"),
            (503, "slow", 503, "storage is busy, try again", "2"),
            (9999, "odd", 502, "storage gave an answer that makes no sense", None),
        ):
            with self.subTest(code, text=text[:9]):
                found = sdk.as_http_error(leancloud.LeanCloudError(code, text))
                self.assertEqual((found.status, found.message, dict(found.headers).get("Retry-After")), (status, message, wait))
                self.assertEqual(found.code, 502 if status == 502 else code)
        with redirect_stderr(StringIO()) as said:
            self.assertEqual(sdk.as_http_error(leancloud.LeanCloudError(401, "x")).message, "storage refuses this app's keys")
        self.assertIn("LEANCLOUD_API_SERVER", said.getvalue())

    def test_text_of_a_hook_is_what_it_said(self):
        around = "Cloud Code validation failed. Error detail : "
        for text, expected in (
            ("plain", "plain"),
            (around + '{"code": 1, "message": "no"}', "no"),
            (around + '{"code": 1}', '{"code": 1}'),
            (around + '{"message": 5}', '{"message": 5}'),
            (around + "[1]", "[1]"),
            (around + "two\nlines", "two\nlines"),
        ):
            self.assertEqual(sdk.hook_text(text), expected)

    def test_request_has_a_limit_by_what_it_is(self):
        adapter = sdk.StorageAdapter()
        self.addCleanup(adapter.close)
        for method, body, limits in (("GET", None, (2, 4)), ("POST", b"x", (2, 12)), ("PUT", StringIO(), (2, 60))):
            with self.subTest(method), mock.patch.object(sdk.TCPKeepAliveAdapter, "send") as send:
                adapter.send(SimpleNamespace(method=method, body=body), timeout=99, stream=True)
                self.assertEqual(send.call_args.kwargs, {"timeout": limits, "stream": True})
        retries = adapter.max_retries
        self.assertEqual((retries.total, retries.connect, retries.read, retries.status, set(retries.allowed_methods), retries.backoff_factor), (1, 1, 1, 0, {"GET"}, 0))

    def test_lost_storage_is_tried_by_one_request_every_two_seconds(self):
        adapter, request, now = sdk.StorageAdapter(), SimpleNamespace(method="GET", body=None), [100.0]
        self.addCleanup(adapter.close)
        with mock.patch.object(sdk.time, "monotonic", lambda: now[0]), mock.patch.object(sdk.TCPKeepAliveAdapter, "send") as send:
            send.side_effect = requests.Timeout
            self.assertRaises(requests.Timeout, adapter.send, request)
            now[0] += 1.9
            self.assertRaises(sdk.StorageLost, adapter.send, request)
            now[0] += 0.1
            send.side_effect = lambda *_, **options: self.assertRaises(sdk.StorageLost, adapter.send, request) and None
            adapter.send(request)
            self.assertEqual(send.call_args.kwargs["timeout"], (0.8, 0.8))
            send.side_effect = None
            adapter.send(request)
            self.assertEqual(send.call_args.kwargs["timeout"], (2, 4))
            send.side_effect = ValueError
            self.assertRaises(ValueError, adapter.send, request)
            send.side_effect = None
            adapter.send(request)

    def test_parameters_that_are_flat_need_no_help(self):
        for params, is_flat in (({}, True), ({"a": "x", "b": 5}, True), ({"a": [1]}, False), ({"a": None}, False), ([("a", "x")], False), ("a=x", False)):
            self.assertIs(sdk._is_flat(params), is_flat)

    def test_upload_is_told_of_and_refused_with_its_status(self):
        for status, code in ((200, None), (503, 503), (404, 1)):
            with self.subTest(status), mock.patch.object(sdk.client, "session") as http, mock.patch.object(sdk.client, "post") as post:
                http.put.return_value.status_code = status
                file = sdk.Attachment("a.txt", StringIO("x"), "text/plain")
                file._source.read()
                try:
                    file._save_to_s3("token", "http://x")
                    found = None
                except leancloud.LeanCloudError as error:
                    found = error.code
                self.assertEqual((found, file._source.tell()), (code, 0))
                self.assertEqual(http.put.call_args.kwargs["headers"], {"Content-Type": "text/plain"})
                post.assert_called_once_with("/fileCallback", {"token": "token", "result": status == 200})
                post.reset_mock()
                post.side_effect = requests.ConnectionError
                file._save_callback("token", True)
                file._save_callback(None, True)
                self.assertEqual(post.call_count, 1)


class Counters:
    """The counters of a cache, without its times."""

    def __init__(self):
        self.counts = {}

    def count(self, key, seconds):
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.counts[key], seconds

    def uncount(self, key):
        self.counts[key] -= 1


class UsersTest(Forget):
    def guess(self, cache, error=None, name="ann", address="1.2.3.4"):
        """The status of a log-in, 200 without an error."""
        try:
            with users.limiting_guesses(cache, name, address):
                if error:
                    raise error
            return 200
        except HTTPError as raised:
            self.wait = dict(raised.headers).get("Retry-After")
            return raised.status.value

    def test_wrong_passwords_are_counted_and_other_outcomes_are_not(self):
        counters, wrong, lost = Counters(), HTTPError(users.HTTPStatus.UNAUTHORIZED, "no"), HTTPError(users.HTTPStatus.BAD_GATEWAY, "lost")
        self.assertEqual([self.guess(counters, error) for error in (None, lost)], [200, 502])
        self.assertEqual(set(counters.counts.values()), {0})
        self.assertEqual([self.guess(counters, wrong) for _ in range(6)], [401] * 5 + [429])
        self.assertEqual(self.wait, "900")
        self.assertEqual(self.guess(counters, wrong, address="1.2.3.5"), 401)
        self.assertEqual(self.guess(counters, wrong, name="bob"), 401)
        for number in range(60):
            status = self.guess(counters, wrong, name=f"n{number}", address="9.9.9.9")
            self.assertEqual(status, 401 if number < 50 else 429)

    def test_new_accounts_of_an_address_are_counted_but_this_machines(self):
        counters = Counters()
        for number in range(52):
            for address, limit in (("1.2.3.4", 50), ("127.0.0.1", 99)):
                try:
                    users.limit_sign_ups(counters, address)
                    found = True
                except HTTPError as error:
                    found = False
                    self.assertEqual((error.status, dict(error.headers)["Retry-After"]), (429, "3600"))
                self.assertEqual(found, number < limit)
        users.limit_sign_ups(SimpleNamespace(count=lambda key, seconds: None), "1.2.3.4")

    def test_log_ins_that_were_ended_are_told_and_old_ones_forgotten(self):
        one, other = "-" + "a" * 16, "-" + "b" * 16
        for found, expected in (([f"5{one}", "x", 5, f"5{one}x"], [f"5{one}"]), ("x", []), (None, [])):
            self.assertEqual(users._ended(mock.Mock(get=lambda name: found)), expected)  # noqa: B023
        for age, is_forgotten in ((99, False), (100, True), (-100, False), (-101, True)):
            with self.subTest(age), mock.patch.object(users.time, "time", lambda: 1000.5), mock.patch.object(users.client, "put") as put:
                ended = [f"{1000 - age}{other}"]
                with mock.patch.object(users.leancloud.User, "become", return_value=SimpleNamespace(id="u", get=lambda name: ended)):  # noqa: B023
                    users._note_end("token", f"900{one}", 100)
                calls = [call.args[1][users.ENDED] for call in put.call_args_list]
                self.assertEqual(calls, [{"__op": "AddUnique", "objects": [f"1000{one}"]}, *([{"__op": "Remove", "objects": ended}] if is_forgotten else [])])
        for count, is_renewed in ((99, False), (100, True)):
            someone = mock.Mock(id="u", get=lambda name: [f"1000{one}"] * count)  # noqa: B023
            with self.subTest(count), mock.patch.object(users.client, "put") as put, mock.patch.object(users.leancloud.User, "become", return_value=someone):
                users._note_end("token", f"900{one}", 100)
                self.assertEqual((someone.refresh_session_token.called, {"__op": "Delete"} in [call.args[1][users.ENDED] for call in put.call_args_list]), (is_renewed, is_renewed))

    def test_device_that_has_logged_out_is_nobody_while_others_go_on(self):
        known = {"id": "u", "username": "n", "ended": ["b" * 16]}
        for login, is_alive in (("5-" + "a" * 16, True), ("5-" + "b" * 16, False)):
            leancloud.User.set_current(user())
            environ = {"app.login": login}
            self.assertEqual(users.living(environ, known), {"id": "u", "username": "n"} if is_alive else None)
            self.assertEqual((environ.get("app.session_lives"), leancloud.User.get_current() is not None), (True if is_alive else None, is_alive))
        for environ, found, status in (({}, known, None), ({"HTTP_X_USER": "u"}, known, None), ({"HTTP_X_USER": "v"}, known, 409), ({}, None, 401)):
            with self.subTest(environ):
                try:
                    self.assertIs(users.expected(environ, found), found)
                    self.assertIsNone(status)
                except HTTPError as error:
                    self.assertEqual(error.status, status)

    def test_answer_without_id_session_or_name_is_no_user(self):
        for object_id, token, name, is_whole in (("u", "t", "n", True), ("", "t", "n", False), ("u", "", "n", False), ("u", "t", "", False)):
            someone = SimpleNamespace(id=object_id, get_session_token=lambda: token, get=lambda key: name)  # noqa: B023
            current = user()
            leancloud.User.set_current(current)
            if is_whole:
                users._check_whole(someone)
                self.assertIs(leancloud.User.get_current(), current)
            else:
                self.assertRaises(ValueError, users._check_whole, someone)
                self.assertIsNone(leancloud.User.get_current())


@needs_storage
class LocalTest(unittest.TestCase):
    """What stands in for a platform, with a storage and a Redis that are made up."""

    def services(self, needs_redis=True, redis_error=None, storage_error=None, app_env="development"):
        from leanstorage import embedded

        self.storage, self.redis = mock.Mock(url="http://storage"), mock.Mock(url="redis://local")
        with (
            mock.patch.object(embedded, "load_keys", return_value={"LEANCLOUD_APP_ID": "i"}),
            mock.patch.object(embedded, "start_storage", side_effect=storage_error, return_value=self.storage),
            mock.patch.object(local.local_redis, "start_redis", side_effect=redis_error, return_value=self.redis) as self.started,
        ):
            return local.LocalServices(SimpleNamespace(data="/data", app_env=app_env), needs_redis)

    def test_services_are_told_and_end_together(self):
        missing = local.local_redis.NoRedis("there is none")
        for options, cache_line, url in (
            ({}, "cache: embedded Redis", "redis://local"),
            ({"needs_redis": False}, "cache: Redis", None),
            ({"redis_error": missing}, "cache: off (there is none)", None),
        ):
            with self.subTest(options):
                found = self.services(**options)
                self.assertEqual((found.report, found.redis_url), (["storage: embedded, in /data", cache_line], url))
                self.assertEqual(found.keys, {"LEANCLOUD_APP_ID": "i", "LEANCLOUD_API_SERVER": "http://storage"})
                self.assertEqual((self.started.called, found.revive_redis), (options.get("needs_redis", True), self.redis.revive if url else None))
                found.attach("application")
                self.storage.attach.assert_called_once_with("application")
                with found:
                    pass
                self.assertEqual((self.storage.close.call_count, self.redis.close.call_count), (1, 1 if url else 0))
        for app_env, is_told in (("stage", True), ("production", True), ("development", False)):
            self.assertEqual(f"(in {app_env}: " in self.services(app_env=app_env).report[0], is_told)

    def test_data_that_cannot_be_used_ends_with_one_line(self):
        for options in ({"storage_error": OSError("full")}, {"storage_error": ValueError("damaged")}, {"redis_error": OSError("no")}):
            with self.subTest(options), self.assertRaisesRegex(SystemExit, r"\ALEANSTORAGE_DATA /data cannot be used: "):
                self.services(**options)
            self.assertEqual(self.storage.close.call_count, 1 if "redis_error" in options else 0)


class SettingsTest(unittest.TestCase):
    def read(self, function, text):
        try:
            return function(text)
        except ValueError:
            return None

    def test_numbers_end_where_they_are_said_to(self):
        for function, rows in (
            (settings.positive, (("1", 1), ("0", None), (str(2**53 - 1), 2**53 - 1), (str(2**53), None), ("-1", None), ("\u00b2", None), ("", None))),
            (settings.port_number, (("1", 1), ("65535", 65535), ("65536", None), ("0", None))),
            (settings.cpu_count, (("0.5", 1), ("1", 1), ("2.9", 2), ("999", 999), ("1000", None), ("1.", None), ("x", None))),
            (settings.instance, (("", ""), ("a_1", "a_1"), ("a-b", None), ("é", None))),
            (settings.env_name, (("", "development"), ("staging", "stage"), ("production", "production"), ("x", None))),
        ):
            for text, expected in rows:
                with self.subTest(function.__name__, text=text):
                    self.assertEqual(self.read(function, text), expected)

    def test_credentials_that_cannot_be_read_stop_the_start_with_one_line(self):
        for error in (OSError("no"), ValueError("odd")):
            with mock.patch.object(settings.setting_values, "with_credentials", side_effect=error), self.assertRaisesRegex(SystemExit, r"\ACREDENTIALS_DIRECTORY: (no|odd)\Z"):
                settings.read_environment({})
        self.assertEqual(settings.read_environment({"A": "b"}), {"A": "b"})

    def test_proxy_is_trusted_as_suits_the_environment(self):
        for environment, trusted in (
            ({}, {"127.0.0.1", "::1"}),
            ({"LEANCLOUD_APP_ENV": "production"}, {"*"}),
            ({"LEANCLOUD_APP_ENV": "stage"}, {"*"}),
            ({"LEANCLOUD_APP_ENV": "stage", "TRUSTED_PROXY": "10.0.0.1"}, {"10.0.0.1"}),
        ):
            self.assertEqual(settings.read_settings(environment).trusted_proxy, trusted)
        found = settings.read_settings({})
        self.assertEqual((found.port, found.session_max_age, found.max_upload_bytes, found.processes), (3000, 2_592_000, 10_485_760, 1))


if __name__ == "__main__":
    unittest.main()
