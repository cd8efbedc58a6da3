"""A storage server of its own for a suite: `with serving(root, data) as (keys, port)`."""
import json
import os
import select
import shlex
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(root, data, *more, database=None):
    """Start `python -m leanstorage serve`; gives ({variable: value}, port)."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEANCLOUD_")}
    environment |= {"LEANSTORAGE_DATA": str(data), "PYTHONWARNINGS": "ignore"}
    database = database or os.environ.get("LEANSTORAGE_TEST_POSTGRESQL")
    arguments = ["serve", "--port", str(port), "--trust-auth", "*", *more]
    if database:
        arguments += ["--database", database]
    base = [sys.executable, "-m", "leanstorage"]
    lines = subprocess.run(
        [*base, "env", "--port", str(port)], cwd=root, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    keys = dict(shlex.split(line.removeprefix("export "))[0].split("=", 1) for line in lines)
    process = subprocess.Popen([*base, *arguments], cwd=root, env=environment, stdout=subprocess.PIPE)
    try:
        ready, _, _ = select.select([process.stdout], [], [], 20)
        if not ready or b"listens" not in process.stdout.readline():
            raise RuntimeError("the server did not start")
        yield keys, port
    finally:
        process.terminate()
        end = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        process.kill()
        process.wait()
        process.stdout.close()


def run(root, data, *words):
    """Run a command of `python -m leanstorage` on the data of a suite."""
    url = os.environ.get("LEANSTORAGE_TEST_POSTGRESQL")
    environment = {**os.environ, "LEANSTORAGE_DATA": str(data), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "leanstorage", *words, *(["--database", url] if url else [])]
    subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)


def open_users(root, data):
    """Let clients find users: the app of the JavaScript SDK is older than the rule that they do not."""
    run(root, data, "permissions", "_User", "--find", "everyone")


class serving_functions:
    """An engine of cloud functions alone: {name: function(parameters, session token or None)}. Gives its URL."""

    def __init__(self, functions):
        class Engine(BaseHTTPRequestHandler):
            def answer(self, status, value):
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self.answer(200, {"result": list(functions)})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
                function = functions.get(self.path.rpartition("/")[2])
                if function is None:
                    self.answer(404, {"code": 1, "error": "There is no such function."})
                else:
                    self.answer(200, {"result": function(body, self.headers.get("X-LC-Session"))})

            def log_message(self, *_):
                pass

        self.engine = Engine

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.engine)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
