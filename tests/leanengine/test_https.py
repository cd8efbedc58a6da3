"""The redirect's guard beside the raw SDK."""
import unittest
from unittest import mock

import leancloud
from leancloud import HttpsRedirectMiddleware

from leanengine import middleware
from leanengine.https import guard_redirect
from tests.leanengine.sdk_support import Forget, plain
from tests.support import call


class RedirectTest(Forget):
    """In production; the SDK decides by a variable that it reads when it is imported."""

    def setUp(self):
        super().setUp()
        patch = mock.patch("leancloud.engine.https_redirect_middleware.is_prod", True)
        patch.start()
        self.addCleanup(patch.stop)
        inner = guard_redirect(HttpsRedirectMiddleware(plain))
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
                self.assertEqual(response.all("Cache-Control"), ["no-store"])

    def test_redirects_of_the_app_itself_are_left_as_they_are(self):
        def elsewhere(environ, start_response):
            start_response("302 Found", [("Location", "/elsewhere"), ("Content-Type", "text/plain"), ("Content-Length", "0")])
            return [b""]

        inner = guard_redirect(HttpsRedirectMiddleware(elsewhere))
        app = middleware.bound(inner, frozenset(["127.0.0.1"]), frozenset(), 1000, True)
        response = call(app, "POST", "/a", headers={"X-Forwarded-Proto": "https"})
        self.assertEqual((response.status, response.header("Location")), (302, "/elsewhere"))

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

if __name__ == "__main__":
    unittest.main()
