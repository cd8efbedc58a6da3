"""What the tests of the app share: calling it in process under the WSGI validator, and running it as a process."""
import io
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import contextmanager, suppress
from pathlib import Path
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from leanengine import local_redis
from tests import HAS_STORAGE

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 20
NO_STORAGE = "there is no leanstorage/ here, which the app would run on"
NO_TODOS = "the todo app, through which this is tested, is not here"
needs_storage = unittest.skipUnless(HAS_STORAGE, NO_STORAGE)
IS_CI = bool(os.environ.get("CI"))
takes_long = unittest.skipUnless(IS_CI, "it takes long: CI=1 python -m unittest runs it too")
needs_todos = unittest.skipUnless((ROOT / "todos.py").exists(), NO_TODOS)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script's background job starts with Ctrl-C ignored, and so would everything that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
DISTINCT = iter(range(10**9))


def sample(items):
    """All of them in CI, each third one elsewhere: for tables of which every row starts a process, and for products of tables."""
    return list(items) if IS_CI else list(items)[::3]


def has_redis():
    """Whether the app finds a Redis to start here; without one its cache is off."""
    return bool(local_redis.find_servers())


needs_redis = unittest.skipUnless(has_redis(), "no Redis is installed: apt-get install redis-server")


def application():
    """The app as LeanEngine would load it; composed once in a process, with the first test that needs it."""
    import wsgi

    return wsgi.application


class Response:
    """An answer: `status` (int), `headers` (list), `body` (bytes)."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return found[0] if found else None

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def json(self):
        return json.loads(self.body)


def call(app, method, path, body=b"", headers=None, query="", **environ):
    """One request to a WSGI callable inside `wsgiref.validate.validator`. `path` as a client would write it, decoded."""
    if "?" in path and not query:
        path, query = path.split("?", 1)
    given = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path.encode().decode("latin-1"),
        "SCRIPT_NAME": "",
        "QUERY_STRING": query,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        **environ,
    }
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        given[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    setup_testing_defaults(given)
    answer = []

    def start_response(status, response_headers, exc_info=None):
        answer[:] = [int(status.split()[0]), response_headers]
        return answer.append

    chunks = validator(app)(given, start_response)
    try:
        data = b"".join(chunks)
    finally:
        chunks.close()
    return Response(answer[0], answer[1], data)


class Visitor:
    """A client with a cookie jar."""

    def __init__(self, app=None):
        self.app = app or application()
        self.cookies = {}

    def request(self, method, path, json_body=None, body=b"", headers=None, **environ):
        headers = dict(headers or {})
        if json_body is not None:
            body = json.dumps(json_body).encode()
            headers.setdefault("Content-Type", "application/json")
        if self.cookies:
            headers.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        response = call(self.app, method, path, body, headers, **environ)
        for line in response.all("Set-Cookie"):
            name, value = line.split(";", 1)[0].split("=", 1)
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return response

    def sign_up(self, username=None):
        """A new account, logged in; returns its name. Its password is `secret`."""
        username = username or f"visitor{next(DISTINCT)}"
        response = self.request("POST", "/api/users", {"username": username, "password": "secret"})
        assert response.status == 201, response.body
        return username


@needs_storage
@needs_todos
class AppTestCase(unittest.TestCase):
    """Tests of the whole app, in process."""

    def setUp(self):
        self.visitor = Visitor()

    def request(self, method, path, json_body=None, status=200, visitor=None, **more):
        response = (visitor or self.visitor).request(method, path, json_body, **more)
        self.assertEqual(response.status, status, response.body[:300])
        return response

    def logged_in(self):
        visitor = Visitor()
        visitor.username = visitor.sign_up()
        return visitor

    def assert_error(self, response, status):
        """The one shape of every error."""
        self.assertEqual(response.status, status, response.body[:300])
        self.assertEqual(set(response.json()), {"error", "code"})
        self.assertIsInstance(response.json()["code"], int)
        self.assertTrue(response.json()["error"])


def multipart(name, filename, data, mime_type="text/plain", boundary="boundary"):
    """(body, headers) of a form with one file."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    body = head.encode() + f"Content-Type: {mime_type}\r\n\r\n".encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def free_port():
    """A free port below those that the system gives to whoever asks for any: nobody takes it before it is used."""
    for port in random.SystemRandom().sample(range(10000, 32000), 100):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no free port")


def clean_environment(**more):
    """An environment for a process of its own, with nothing of this one's configuration in it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LEANCLOUD_", "LC_", "REDIS_URL_", "LEANSTORAGE_"))
        and name != "PYTHONDONTWRITEBYTECODE"  # each of many processes would compile everything for itself
    }
    kept |= {"PYTHONWARNINGS": "ignore::DeprecationWarning", "PYTHONFAULTHANDLER": "1"}
    return {**kept, **{name: str(value) for name, value in more.items()}}


@contextmanager
def changed_environment(**changes):
    """Other variables for a while. mock.patch.dict would clear all of them at its end, while threads may read any."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        os.environ.update(changes)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def running(arguments, ready, folder=ROOT, **environment):
    """A process that is up once a line matches `ready`; terminated at the end, killed when it does not go.

    Yields the Popen, with `output` holding what it said until it was ready.
    """
    process = subprocess.Popen(
        arguments,
        cwd=folder,
        env=clean_environment(**environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        process.output = read_until(process, ready)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()


def ended(process, seconds=20):
    """What a process says until its end; AssertionError, with where its threads were, when it does not end."""
    try:
        return (process.communicate(timeout=seconds)[0] or b"").decode()
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        said = (process.communicate()[0] or b"").decode()
        raise AssertionError(f"process {process.pid} does not end: {said}") from None


def read_until(process, ready):
    """What a process says, standard error included, up to a match of `ready`; AssertionError when that does not come."""
    text, end = b"", time.monotonic() + START_SECONDS
    os.set_blocking(process.stdout.fileno(), False)
    while time.monotonic() < end:
        select.select([process.stdout], [], [], 0.1)
        chunk = process.stdout.read() or b""
        text += chunk
        if re.search(ready.encode(), text):
            return text.decode()
        if not chunk and process.poll() is not None:
            break
    raise AssertionError(f"not ready: {text.decode()}")


def until(check, seconds=5):
    """Wait until `check()` is true; AssertionError when that does not come."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise AssertionError("it did not happen")
        time.sleep(0.01)


def serve(server, add_cleanup):
    """The URL of an HTTP server that answers on a thread of its own until the cleanups are done."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    for end in (thread.join, server.server_close, server.shutdown):  # the last one first
        add_cleanup(end)
    return f"http://127.0.0.1:{server.server_port}"


def check_values(case, rows):
    """Whether the constants of modules have these values; rows are (module, name, value)."""
    for module, name, value in rows:
        with case.subTest(module=module.__name__, name=name):
            case.assertEqual(getattr(module, name), value)


def copied_app(case):
    """A folder with a copy of the app and the storage, for a test that changes them; gone after the test."""
    folder = Path(tempfile.mkdtemp(prefix="app-"))
    case.addCleanup(shutil.rmtree, folder)
    for file in ROOT.glob("*.py"):
        shutil.copy(file, folder)
    for name in ("static", "leanengine", "leanwsgi", "leanstorage"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
    make_older(folder)
    return folder


def make_older(folder):
    """As if its code had not just been written: an app that starts in the same moment would start again."""
    for file in folder.glob("*.py"):
        os.utime(file, (time.time() - 60, time.time() - 60))


def python(*arguments):
    return [sys.executable, "-W", "ignore::DeprecationWarning", *arguments]


