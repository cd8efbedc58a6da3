"""A real storage service for tests: on a free port, with keys and a temporary folder, reached over real HTTP."""

import http.client
import io
import json
import shutil
import subprocess
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from leanstorage import keys as key_files
from leanstorage.__main__ import main
from leanstorage.rules.call import Options
from leanstorage.http.inline_calls import quick_calls
from leanstorage.http.server import Server
from leanstorage.http.application import create_application, open_service
from leanstorage.resources import files
from leanwsgi.workers import listen
from tests.support import clean_environment


def run_here(*arguments, **environment):
    """What `python -m leanstorage` does, without a process of its own: for commands that end by themselves."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            status = main(arguments, clean_environment(**environment))
        except SystemExit as end:
            status = end.code
    return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())


class Dripping(io.BytesIO):
    """A file that gives `step` bytes at a time, however many are asked for."""

    def __init__(self, data, step):
        super().__init__(data)
        self._step = step

    def read(self, size=-1):
        return super().read(self._step)


class Storage:
    """A service on loopback over the folder `data`; `transport` reaches an engine. `stop` ends it and leaves the folder."""

    def __init__(self, data, keys=None, options=None, transport=None, database=None, place=None):
        self.data = Path(data)
        self.keys = keys or key_files.load(self.data)
        self.database = database or f"sqlite:///{self.data / 'leanstorage.db'}"
        self.service = open_service(self.keys, self.database, place or self.data / "files", transport, options or Options())
        application = create_application(self.service)
        quick = quick_calls(self.service)
        settings = self.service.options
        is_token = partial(files.may_be_used, self.service)
        listening = listen("127.0.0.1", 0)
        self._server = Server(application, listening, 8, settings.max_bytes, quick, settings.max_body_bytes, is_token)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._server.start()

    def request(self, method, path, json_body=None, master=False, session=None, query=None, headers=None, data=None):
        """(status, decoded answer) of one call; `path` starts after /1.1, or is a whole URL."""
        target = urlsplit(path if path.startswith("http") else f"{self.url}/1.1{path}")
        sent = {"X-LC-Id": self.keys["id"], "Content-Type": "application/json"}
        sent["X-LC-Key"] = f"{self.keys['master_key']},master" if master else self.keys["key"]
        if session:
            sent["X-LC-Session"] = session
        body = data if data is not None else None if json_body is None else json.dumps(json_body).encode()
        where = target.path + (f"?{urlencode(query)}" if query else f"?{target.query}" if target.query else "")
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=15)
        try:
            connection.request(method, where, body, {**sent, **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            return answer.status, json.loads(content) if is_json else content
        finally:
            connection.close()

    def stop(self):
        self._server.stop()
        self.service.store.close()


class StorageTestCase(unittest.TestCase):
    """A folder of its own for every test, in `self.folder`, and services that end with the test."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="storage-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def start(self, data="data", **options):
        """A Storage over a folder of this test."""
        storage = Storage(self.folder / data, **options)
        self.addCleanup(storage.stop)
        return storage
