"""HTTP with keep-alive: `python wsgi.py` beside bare servers and the official starter's kind: python bench/servers.py

Requests for one JSON answer at 16 and 64 connections; 16 again while 40 uploads stall; then a list of todos from the
cache, without it, and from Flask with the SDK. Every server in every round. The bare servers have an application that
does nothing: waitress as it ships, with as many threads, and as `python wsgi.py` sets it up.
"""
import argparse
import contextlib
import socket
import sys
import tempfile
from pathlib import Path

import requests

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.load import load, request  # noqa: E402 after the path is set
from bench.table import median  # noqa: E402
from tests.support import free_port, running  # noqa: E402

BARE = """
import logging, sys
import waitress
from leanwsgi.workers import listen
from leanengine.server import create_server
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "18")])
    return [b'{"ip":"127.0.0.1"}']
listening = listen("127.0.0.1", int(sys.argv[1]))
if sys.argv[2] == "ours":
    server = create_server(application, [listening], 16, 1 << 20)
else:
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line for every request that waits a moment
    server = waitress.create_server(application, sockets=[listening], threads=16)
print("ready", flush=True)
server.run()
"""
STARTER = """
import os, sys
import flask, leancloud
from gevent.pywsgi import WSGIServer
leancloud.init(os.environ["LEANCLOUD_APP_ID"], master_key=os.environ["LEANCLOUD_APP_MASTER_KEY"])
app = flask.Flask(__name__)
Todo = leancloud.Object.extend("Todo")
@app.route("/api/client")
def client():
    return flask.jsonify(ip=flask.request.remote_addr)
@app.route("/api/todos")
def todos():
    user = leancloud.User.become(flask.request.headers["X-Session"])
    found = Todo.query.equal_to("owner", user).descending("createdAt").limit(20).find()
    return flask.jsonify(todos=[{"id": todo.id, "content": todo.get("content")} for todo in found])
print("ready", flush=True)
engine = leancloud.HttpsRedirectMiddleware(leancloud.Engine(app))
server = sys.argv[2]
if server == "gevent":
    WSGIServer(("127.0.0.1", int(sys.argv[1])), engine, log=None).serve_forever()
else:
    from leanwsgi.workers import listen
    from leanengine.server import create_server
    create_server(engine, [listen("127.0.0.1", int(sys.argv[1]))], 16, 1 << 20).run()
"""
KEYS = {"LEANCLOUD_APP_ID": "bench", "LEANCLOUD_APP_KEY": "key", "LEANCLOUD_APP_MASTER_KEY": "master"}
KEYS |= {"LEANCLOUD_APP_HOOK_KEY": "hook"}


@contextlib.contextmanager
def stalled_uploads(port, number=40):
    """Connections that announce a body and never send it."""
    opened = []
    for _ in range(number):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(b"POST /api/todos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
        opened.append(connection)
    try:
        yield
    finally:
        for connection in opened:
            connection.close()


@contextlib.contextmanager
def embedded_redis(data):
    from leanengine.local_redis import start_redis

    server = start_redis(data)
    try:
        yield server.url
    finally:
        server.close()


def show(title, results):
    print(f"\n| {title} | requests/s | ± | p50 ms | p99 ms | p99/p50 | failed |\n|---|---|---|---|---|---|---|")
    for name, found in results.items():
        rates = [result.rate for result in found]
        p50, p99 = median([result.p50 for result in found]), median([result.p99 for result in found])
        failures = sum(result.failures for result in found)
        print(
            f"| {name} | {median(rates):.0f} | {(max(rates) - min(rates)) / 2 / median(rates):.0%} "
            f"| {p50:.1f} | {p99:.1f} | {p99 / p50:.1f} | {failures} |"
        )


def measure(targets, rounds, seconds, connections):
    """{name: [Result]} of {name: (port, request)}, every target in every round."""
    results = {name: [] for name in targets}
    for _ in range(rounds):
        for name, (port, data) in targets.items():
            results[name].append(load(port, lambda n: data, connections, seconds))  # noqa: B023 it runs at once
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory())
        storage_port = free_port()
        storage = [sys.executable, "-m", "leanstorage", "serve", "--port", str(storage_port)]
        keys = {**KEYS, "LEANCLOUD_API_SERVER": f"http://127.0.0.1:{storage_port}"}
        stack.enter_context(running(storage, "listens on", LEANSTORAGE_DATA=data, **keys))
        ports = {name: free_port() for name in ("app", "waitress", "ours", "gevent", "flask")} | {"storage": storage_port}
        # Embedded Redis, but the storage is a process of its own, as on the platform.
        app = [sys.executable, "-W", "ignore", "wsgi.py"]
        redis = stack.enter_context(embedded_redis(data))
        environment = {**keys, "LEANSTORAGE_DATA": data, "LEANCLOUD_APP_ENV": "development"}
        stack.enter_context(running(app, "cache: ", LEANCLOUD_APP_PORT=ports["app"], REDIS_URL_bench=redis, **environment))
        uncached = free_port()
        stack.enter_context(running(app, "cache: ", LEANCLOUD_APP_PORT=uncached, **environment))
        for name in ("waitress", "ours"):
            stack.enter_context(running([sys.executable, "-c", BARE, str(ports[name]), name], "ready"))
        for name in ("gevent", "flask"):
            command = [sys.executable, "-W", "ignore", "-c", STARTER, str(ports[name]), name]
            stack.enter_context(running(command, "ready", **environment))
        data = request("GET", "/api/client")
        targets = {
            "this app": (ports["app"], data),
            "waitress, empty application": (ports["waitress"], data),
            "our server, empty application": (ports["ours"], data),
            "the starter: Flask on gevent": (ports["gevent"], data),
            "Flask on our server": (ports["flask"], data),
        }
        for connections in (16, 64):
            show(f"{connections} connections", measure(targets, options.rounds, options.seconds, connections))
        with stalled_uploads(ports["app"]):
            one = {"this app, 40 uploads stalled": targets["this app"]}
            show("16 connections", measure(one, options.rounds, options.seconds, 16))
        show("GET /api/todos, 16 connections", measure(lists(ports, uncached), options.rounds, options.seconds, 16))


def cookie_of_new_user(url):
    """The Cookie header of a user with twenty todos, in the app at `url`."""
    with requests.Session() as visitor:
        visitor.post(f"{url}/api/users", json={"username": "bench", "password": "secret"}).raise_for_status()
        for number in range(20):
            visitor.post(f"{url}/api/todos", json={"content": f"todo {number}"}).raise_for_status()
        return "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())


def lists(ports, uncached):
    """Requests for the same twenty todos, of one user."""
    cookie = cookie_of_new_user(f"http://127.0.0.1:{ports['app']}")
    headers = {"X-LC-Id": "bench", "X-LC-Key": "key"}
    login = requests.post(f"http://127.0.0.1:{ports['storage']}/1.1/login", json={"username": "bench", "password": "secret"}, headers=headers)
    session = login.json()["sessionToken"]
    return {
        "this app, cached": (ports["app"], request("GET", "/api/todos", {"Cookie": cookie})),
        "this app, no cache": (uncached, request("GET", "/api/todos", {"Cookie": cookie})),
        "Flask with the SDK": (ports["flask"], request("GET", "/api/todos", {"X-Session": session})),
    }


if __name__ == "__main__":
    main()
