import unittest
from http import HTTPStatus

from leanwsgi import messages
from router import Application, RouteConflict, Router
from tests.support import call


def answer(environ, **parameters):
    return HTTPStatus.OK, [("Content-Type", "text/plain")], repr(sorted(parameters.items())).encode()


def named(name):
    def handler(environ, **parameters):
        return HTTPStatus.OK, [("Content-Type", "text/plain")], f"{name} {parameters}".encode()

    handler.__name__ = name
    return handler


TABLE = [
    ("GET", "/", named("root")),
    ("GET", "/a", named("a")),
    ("POST", "/a", named("post_a")),
    ("GET", "/a/<x>", named("a_x")),
    ("DELETE", "/a/<x>", named("delete_a_x")),
    ("GET", "/a/new", named("a_new")),
    ("GET", "/a/<x>/b", named("a_x_b")),
    ("GET", "/a/new/c", named("a_new_c")),
    ("GET", "/a/<x>/b/<y>", named("a_x_b_y")),
    ("GET", "/files/<rest:path>", named("files")),
    ("GET", "/files/index", named("files_index")),
]


class MatchTest(unittest.TestCase):
    def test_match_with_table_finds_best_template_whatever_the_order(self):
        rows = [
            ("GET", "/", "root", {}),
            ("GET", "/a", "a", {}),
            ("POST", "/a", "post_a", {}),
            ("HEAD", "/a", "a", {}),
            ("GET", "/a/1", "a_x", {"x": "1"}),
            ("GET", "/a/new", "a_new", {}),
            ("DELETE", "/a/new", "delete_a_x", {"x": "new"}),
            ("GET", "/a/new/b", "a_x_b", {"x": "new"}),
            ("GET", "/a/new/c", "a_new_c", {}),
            ("GET", "/a/1/b/2", "a_x_b_y", {"x": "1", "y": "2"}),
            ("GET", "/a/new/b/2", "a_x_b_y", {"x": "new", "y": "2"}),
            ("GET", "/files/x", "files", {"rest": "x"}),
            ("GET", "/files/x/y/z", "files", {"rest": "x/y/z"}),
            ("GET", "/files/index", "files_index", {}),
            ("GET", "/files/index/x", "files", {"rest": "index/x"}),
            ("GET", "/a/中文", "a_x", {"x": "中文"}),
        ]
        for table in (TABLE, TABLE[::-1]):
            router = Router(table)
            for method, path, name, parameters in rows:
                with self.subTest(method=method, path=path):
                    function, found = router.match(method, path)
                    self.assertEqual((function.__name__, found), (name, parameters))

    def test_match_with_unknown_path_is_404(self):
        router = Router(TABLE)
        for path in ("/b", "/a/", "/a//b", "//a", "/a\n", "/a/1/c", "/a/1/b/", "/files/", "/files", "", "/A", "/a/1/b\n"):
            with self.subTest(path=path), self.assertRaises(messages.HTTPError) as caught:
                router.match("GET", path)
            self.assertEqual(caught.exception.status, HTTPStatus.NOT_FOUND)

    def test_match_with_another_method_is_405_with_every_allowed_one(self):
        router = Router(TABLE)
        rows = [
            ("PUT", "/a", "GET, HEAD, OPTIONS, POST"),
            ("PUT", "/a/new", "DELETE, GET, HEAD, OPTIONS"),
            ("POST", "/files/x", "GET, HEAD, OPTIONS"),
            ("get", "/a", "GET, HEAD, OPTIONS, POST"),
        ]
        for method, path, allow in rows:
            with self.subTest(method=method, path=path), self.assertRaises(messages.HTTPError) as caught:
                router.match(method, path)
            self.assertEqual(caught.exception.status, HTTPStatus.METHOD_NOT_ALLOWED)
            self.assertEqual(caught.exception.headers, [("Allow", allow)])

    def test_match_with_ten_thousand_routes_finds_each(self):
        router = Router([("GET", f"/r{i}/<id>/x{i}", answer) for i in range(10_000)])
        for i in (0, 5_000, 9_999):
            self.assertEqual(router.match("GET", f"/r{i}/7/x{i}"), (answer, {"id": "7"}))


class TableTest(unittest.TestCase):
    def test_router_with_conflicting_routes_raises(self):
        tables = {
            "the same twice": [("GET", "/a", answer), ("GET", "/a", answer)],
            "names differ": [("GET", "/a/<x>", answer), ("GET", "/a/<y>", answer)],
            "names differ on the way": [("GET", "/a/<x>", answer), ("GET", "/a/<y>/b", answer)],
            "rests differ": [("GET", "/a/<x:path>", answer), ("POST", "/a/<y:path>", answer)],
            "one name twice": [("GET", "/a/<x>/<x>", answer)],
            "no slash": [("GET", "a", answer)],
            "half a parameter": [("GET", "/a<x>", answer)],
            "only its beginning": [("GET", "/a<x", answer)],
            "only its end": [("GET", "/x>", answer)],
            "malformed parameter": [("GET", "/<X>", answer)],
            "rest in the middle": [("GET", "/<x:path>/a", answer)],
        }
        for name, table in tables.items():
            with self.subTest(name), self.assertRaises(RouteConflict):
                Router(table)


class ApplicationTest(unittest.TestCase):
    def setUp(self):
        self.app = Application(Router(TABLE))

    def test_head_runs_get_without_a_body(self):
        whole = call(self.app, "GET", "/a")
        head = call(self.app, "HEAD", "/a")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(head.header("Content-Length"), str(len(whole.body)))

    def test_options_answers_204_with_allow(self):
        response = call(self.app, "OPTIONS", "/a")
        self.assertEqual((response.status, response.header("Allow")), (204, "GET, HEAD, OPTIONS, POST"))

    def test_path_that_is_not_utf8_is_400(self):
        response = call(self.app, "GET", "/", PATH_INFO="/a/\xff")
        self.assertEqual(response.status, 400)

    def test_script_name_is_not_part_of_the_path(self):
        self.assertEqual(call(self.app, "GET", "/a", SCRIPT_NAME="/mounted").status, 200)

    def test_handler_with_constant_headers_keeps_them(self):
        constant = [("Content-Type", "text/plain")]
        app = Application(Router([("GET", "/", lambda environ: (HTTPStatus.OK, constant, b"x"))]))

        def appending(environ, start_response):
            def start(status, headers, exc_info=None):
                headers.append(("Set-Cookie", "alice"))
                return start_response(status, headers, exc_info)

            return app(environ, start)

        call(appending, "GET", "/")
        self.assertEqual(constant, [("Content-Type", "text/plain")])
        self.assertEqual(call(app, "GET", "/").all("Set-Cookie"), [])

    def test_handler_that_raises_is_a_bare_500(self):
        def broken(environ):
            raise RuntimeError("secret detail")

        app = Application(Router([("GET", "/", broken)]))
        with self.assertLogsStderr() as stderr:
            response = call(app, "GET", "/")
        self.assertEqual(response.status, 500)
        self.assertNotIn(b"secret", response.body)
        self.assertIn("secret detail", stderr.getvalue())

    def assertLogsStderr(self):
        import contextlib
        import io

        return contextlib.redirect_stderr(io.StringIO())


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
