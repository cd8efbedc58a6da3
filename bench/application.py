"""The whole application in process beside what it is made of: python bench/application.py

One JSON answer of the same size: through the SDK's three middlewares as its guide composes them, through ours (guards,
engine, redirect, session, router), and from bare Flask.
"""
import json
import os
import sys
import tempfile
from pathlib import Path
from wsgiref.util import setup_testing_defaults

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.table import in_turns, show  # noqa: E402 after the path is set

VALUE = {"ip": "203.0.113.7"}


def composed(data):
    os.environ.update(LEANSTORAGE_DATA=data, ALLOWED_HOSTS="127.0.0.1")
    import wsgi  # composes the app, as for `python wsgi.py`, on embedded storage

    return wsgi


def sdk_alone():
    import leancloud
    from leancloud.engine import CookieSessionMiddleware, HttpsRedirectMiddleware

    def answer(environ, start_response):
        data = json.dumps(VALUE).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]

    return HttpsRedirectMiddleware(leancloud.Engine(CookieSessionMiddleware(answer, secret=b"secret")))


def flask_app():
    import flask

    app = flask.Flask(__name__)
    app.add_url_rule("/api/client", "client", lambda: flask.jsonify(VALUE))
    return app


def request(app):
    environ = {"PATH_INFO": "/api/client", "REQUEST_METHOD": "GET", "REMOTE_ADDR": "203.0.113.7"}
    setup_testing_defaults(environ)

    def make():
        body = app(dict(environ), lambda status, headers, exc_info=None: None)
        data = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        return data

    if json.loads(make()) != VALUE:
        raise RuntimeError(make())
    return make


def main():
    with tempfile.TemporaryDirectory() as data:
        app = composed(data)
        try:
            apps = {"SDK's three middlewares": sdk_alone(), "this application": app.application, "bare Flask": flask_app()}
            times = in_turns({name: request(one) for name, one in apps.items()}, 1000)
        finally:
            app.parts.close()
    show("GET /api/client, in process", times, "SDK's three middlewares")


if __name__ == "__main__":
    main()
