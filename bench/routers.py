"""The router beside those of Falcon, Bottle and Flask: python bench/routers.py

The same request, found and answered in process: the last of 100 routes, literal or with a parameter; then the time to
find one of 10 to 10,000 routes, and to add them.
"""
import sys
import time
from http import HTTPStatus
from pathlib import Path
from wsgiref.util import setup_testing_defaults

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.table import in_turns, median, show  # noqa: E402 after the path is set
from router import Application, Router  # noqa: E402

TEXT = [("Content-Type", "text/plain")]
ROUTES = 100


def templates(number, style):
    """Templates of which every other has a parameter, in a framework's own style."""
    return [f"/part{n}/items" if n % 2 else f"/part{n}/{style.format('item')}" for n in range(number)]


def ours(number):
    def answer(environ, **parameters):
        return HTTPStatus.OK, TEXT, b"ok"

    router = Router([("GET", template, answer) for template in templates(number, "<{}>")])

    def respond(environ):
        function, parameters = router.match(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        return function(environ, **parameters)

    return Application(respond)


def falcon_app(number):
    import falcon

    class Resource:
        def on_get(self, request, response, **parameters):
            response.content_type = "text/plain"
            response.data = b"ok"

    app = falcon.App()
    for template in templates(number, "{{{}}}"):
        app.add_route(template, Resource())
    return app


def bottle_app(number):
    import bottle

    def answer(**parameters):
        bottle.response.content_type = "text/plain"
        return b"ok"

    app = bottle.Bottle()
    for template in templates(number, "<{}>"):
        app.get(template, callback=answer)
    return app


def flask_app(number):
    import flask

    app = flask.Flask(__name__)
    for index, template in enumerate(templates(number, "<{}>")):
        app.add_url_rule(template, str(index), lambda **parameters: flask.Response(b"ok", content_type="text/plain"))
    return app


def bare(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"ok"]


def request(app, path):
    """A function that makes one request and fails unless it is answered."""
    environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET"}
    setup_testing_defaults(environ)
    statuses = []

    def make():
        body = app(dict(environ), lambda status, headers, exc_info=None: statuses.append(status))
        b"".join(body)

    make()
    if statuses != ["200 OK"]:
        raise RuntimeError(statuses)
    statuses = _Nowhere()
    return make


class _Nowhere:
    append = staticmethod(lambda status: None)


def main():
    apps = {"bare WSGI": bare, "ours": ours(ROUTES), "Falcon": falcon_app(ROUTES), "Bottle": bottle_app(ROUTES)}
    apps["Flask"] = flask_app(ROUTES)
    for what, path in (("literal, last of 100", f"/part{ROUTES - 1}/items"), ("parametrised, last of 100", f"/part{ROUTES - 2}/x")):
        show(what, in_turns({name: request(app, path) for name, app in apps.items()}), "Falcon")
    import falcon.routing

    finder = falcon.routing.CompiledRouter()
    for template in templates(ROUTES, "{{{}}}"):
        finder.add_route(template, object())
    router = Router([("GET", template, len) for template in templates(ROUTES, "<{}>")])
    finders = {"ours": lambda: router.match("GET", "/part98/x"), "Falcon": lambda: finder.find("/part98/x")}
    show("router alone, parametrised", in_turns(finders, 5000), "Falcon")
    sizes = {}
    print("\n| routes | to add, s | to find the last, µs |\n|---|---|---|")
    for size in (10, 100, 1000, 10_000):
        table = [("GET", template, len) for template in templates(size, "<{}>")]
        start = time.perf_counter()
        router = Router(table)
        seconds = time.perf_counter() - start
        found = in_turns({"find": lambda: router.match("GET", f"/part{size - 2}/x")})  # noqa: B023 it runs at once
        sizes[size] = median(found["find"])
        print(f"| {size:,} | {seconds:.3f} | {sizes[size] * 1e6:.2f} |")
    print(f"\nfrom 10 to 10,000 routes: {sizes[10_000] / sizes[10]:.2f} times the time")


if __name__ == "__main__":
    main()
