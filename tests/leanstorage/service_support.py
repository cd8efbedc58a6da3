"""The storage service called in process, inside the WSGI validator, on SQLite or on PostgreSQL.

With LEANSTORAGE_TEST_POSTGRESQL set to the URL of a server, every case has a database of its own there. With
LEANSTORAGE_TEST_QUICK set, calls are first made as the server's loop makes them.
"""
import hashlib
import io
import itertools
import json
import os
import queue
import select
import shutil
import tempfile
import threading
import unittest
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock
from urllib.parse import urlencode

from leanstorage.__main__ import main
from leanstorage.rules.call import Options
from leanstorage.http.inline_calls import quick_calls
from leanstorage.http.application import create_application, open_service
from leanstorage.store.records import Records
from leanwsgi.messages import STATUS_LINES
from tests.support import call

KEYS = {"id": "appid", "key": "UtOCzqb67d3sN12Kts4URwy8", "master_key": "DyJegPlemooo4X1tg94gQkw1", "hook_key": "hook"}
SERVER = os.environ.get("LEANSTORAGE_TEST_POSTGRESQL")
DATABASES = itertools.count()


def open_database(folder):
    """(URL of an empty database, a function that drops it again)."""
    if not SERVER:
        return f"sqlite:///{folder}/leanstorage.db", lambda: None
    import psycopg

    name = f"test_{os.getpid()}_{next(DATABASES)}"

    def run(text):
        with psycopg.connect(SERVER, autocommit=True) as connection:
            connection.execute(text)

    run(f"CREATE DATABASE {name}")
    return SERVER.rsplit("/", 1)[0] + "/" + name, lambda: run(f"DROP DATABASE {name} WITH (FORCE)")


class QuickApplication:
    """The calls that the server would make on its loop made so, one at a time, and the others by `application`."""

    def __init__(self, service, application):
        self.application, self.service = application, service
        self._files, self._soon = {}, queue.SimpleQueue()
        self._lock = threading.Lock()
        self.quick = quick_calls(service)
        self.quick.start(self)
        if SERVER:
            self._soon.get(timeout=10)()  # the first connection has come
        self.answered = 0  # calls that no thread would have had to make

    def watch(self, file, ready):
        self._files[file] = ready

    def unwatch(self, file):
        self._files.pop(file, None)

    def soon(self, function):
        self._soon.put(function)

    def __call__(self, environ, start_response):
        if not self._lock.acquire(blocking=False):  # the loop is one thread's
            return self.application(environ, start_response)
        try:
            return self._call(environ, start_response)
        finally:
            self._lock.release()

    def _call(self, environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if length else b""
        kind = self.quick.kind(environ["REQUEST_METHOD"], environ["PATH_INFO"], length)
        answer = kind and self._answer(kind, {**environ, "wsgi.input": io.BytesIO(body)})
        if not answer:
            return self.application({**environ, "wsgi.input": io.BytesIO(body)}, start_response)
        self.answered += 1
        status, headers, data = answer
        start_response(STATUS_LINES[status], [*headers, ("Content-Length", str(len(data)))])
        return [data]

    def _answer(self, kind, environ):
        if kind == "write":
            group = self.quick.open_group()
            answer = group and group.write(environ)
            if group:
                group.commit()
            return answer
        answers = []
        self.quick.call(environ, answers.append)
        self.quick.turn()
        while not answers:
            self.quick.turn()
            while not self._soon.empty():
                self._soon.get()()
            if not answers:
                for file in select.select(list(self._files), [], [], 0.01)[0]:
                    self._files[file]()
        return answers[0]


class ServiceTestCase(unittest.TestCase):
    """One service for the tests of a class; they use classes (of objects) of their own."""

    options = Options()
    transport = None
    files = None  # where files lie, when it is not the folder of the class

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="service-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.database, drop = open_database(cls.folder)
        cls.addClassCleanup(drop)
        cls.service = open_service(KEYS, cls.database, cls.files or cls.folder / "files", cls.transport, cls.options)
        cls.addClassCleanup(cls.service.store.close)
        cls.application = staticmethod(create_application(cls.service))
        if os.environ.get("LEANSTORAGE_TEST_QUICK"):
            cls.application = QuickApplication(cls.service, cls.application)
            cls.addClassCleanup(cls.application.quick.stop)

    def run_index(self, *arguments):
        """(exit code, what is said) of `leanstorage index` on this database."""
        out = io.StringIO()
        environment = {**os.environ, "LEANSTORAGE_DATA": str(self.folder)}
        for name, variable in (("id", "ID"), ("key", "KEY"), ("master_key", "MASTER_KEY"), ("hook_key", "HOOK_KEY")):
            environment[f"LEANCLOUD_APP_{variable}"] = KEYS[name]
        with redirect_stdout(out), redirect_stderr(out):
            code = main(["index", "--database", self.database, *arguments], environment)
        return code, out.getvalue()

    def raw(self, method, path, data=b"", headers=None, **environ):
        return call(self.application, method, path, data, headers, HTTP_HOST="storage.example", **environ)

    def api(self, method, path, body=None, status=None, master=False, session=None, headers=None, **query):
        """The decoded answer of /1.1 + `path`; `query` values are JSON unless they are texts. Checks the status."""
        sent = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["master_key"] + ",master" if master else KEYS["key"]}
        sent["Content-Type"] = "application/json"
        if session:
            sent["X-LC-Session"] = session
        data = b"" if body is None else json.dumps(body).encode()
        path, _, text = path.partition("?")
        pairs = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in query.items()]
        text = "&".join(filter(None, [text, urlencode(pairs)]))
        self.response = self.raw(method, "/1.1" + path, data, {**sent, **(headers or {})}, QUERY_STRING=text)
        value = self.response.json()
        if status is None:
            status = 201 if method == "POST" and self.response.status == 201 else 200
        self.assertEqual(self.response.status, status, value)
        self.assertEqual("error" in value if isinstance(value, dict) else False, status >= 400, value)
        return value

    def code(self, code, *arguments, **more):
        """Make a call that must fail with this code; return the error's text."""
        status = more.pop("status", 400)
        value = self.api(*arguments, status=status, **more)
        self.assertEqual(value["code"], code, value)
        return value["error"]

    def make(self, class_name, master=False, session=None, **fields):
        """Create an object; return its id."""
        return self.api("POST", f"/classes/{class_name}", fields, 201, master=master, session=session)["objectId"]

    def get(self, class_name, object_id, **more):
        return self.api("GET", f"/classes/{class_name}/{object_id}", **more)

    def find(self, class_name, where=None, **more):
        """The results of a query."""
        return self.api("GET", f"/classes/{class_name}", where={} if where is None else where, **more)["results"]

    def user(self, name, **fields):
        """Sign up; return the whole user with its sessionToken. The password is `pw`."""
        return self.api("POST", "/users", {"username": name, "password": "pw", **fields}, 201)

    def digest(self):
        """A digest of everything that is stored."""

        def work(transaction):
            rows = []
            for table in ("classes", "objects", "relations", "records"):
                rows.append(sorted(map(repr, transaction.execute_once(f"SELECT * FROM {table}"))))
            return rows

        return hashlib.sha256(repr(self.service.store.read(work)).encode()).hexdigest()


def pointer(class_name, object_id):
    return {"__type": "Pointer", "className": class_name, "objectId": object_id}


@contextmanager
def counted_records():
    """How many records each look at a kind fetches: a list of numbers, while nobody may fetch a kind whole."""
    numbers, page = [], Records.record_page

    def counting(*arguments, **options):
        found = page(*arguments, **options)
        numbers.append(len(found))
        return found

    with mock.patch.object(Records, "record_page", counting), mock.patch.object(Records, "records", side_effect=AssertionError):
        yield numbers
