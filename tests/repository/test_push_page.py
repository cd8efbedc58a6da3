"""docs/push-and-live-queries.md: its two examples run as they are written, and SDKs are refused as it says."""
import json
import os
import shutil
import subprocess
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import requests

from tests.leanstorage.storage_support import StorageTestCase
from tests.repository.test_recipes import BLOCK, make_older, put
from tests.support import ROOT, copied_app, free_port, python, read_until, running, until

PAGE = ROOT / "docs" / "push-and-live-queries.md"
MODULES = os.environ.get("NODE_PATH", "")


def blocks(ending):
    """The blocks of the page for files with this ending."""
    return [block for block in BLOCK.findall(PAGE.read_text()) if block[0].endswith(ending)]


class Provider(HTTPServer):
    """A push provider that keeps what it is sent; it fails while `status` says so."""

    def __init__(self):
        self.received, self.status = [], 200

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.server.received.append((self.headers["Authorization"], json.loads(body)))
                self.send_response(self.server.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)


class PushTest(unittest.TestCase):
    def test_new_todo_is_pushed_and_stored_even_if_the_provider_fails(self):
        folder = copied_app(self)
        for block in blocks(".py"):
            put(folder, *block)
        make_older(folder)
        provider = Provider()
        thread = threading.Thread(target=provider.serve_forever)
        thread.start()
        self.addCleanup(provider.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(provider.shutdown)
        port = free_port()
        variables = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": folder / "data", "NO_PROXY": "127.0.0.1"}
        variables |= {"PUSH_URL": f"http://127.0.0.1:{provider.server_port}/send", "PUSH_KEY": "k"}
        url = f"http://127.0.0.1:{port}"
        with running(python("wsgi.py"), "cache: ", folder=folder, **variables) as process, requests.Session() as visitor:
            visitor.trust_env = False
            visitor.post(f"{url}/api/users", json={"username": "ann", "password": "secret"}, timeout=10)
            todo = visitor.post(f"{url}/api/todos", json={"content": "milk"}, timeout=10).json()["id"]
            until(lambda: provider.received)
            wanted = ("Bearer k", {"topic": "todos", "title": "New todo", "data": {"id": todo}})
            self.assertEqual(provider.received, [wanted])
            provider.status = 500
            self.assertEqual(visitor.post(f"{url}/api/todos", json={"content": "bread"}, timeout=10).status_code, 201)
            read_until(process, "push failed: HTTPError")
            self.assertEqual(len(visitor.get(f"{url}/api/todos", timeout=10).json()["todos"]), 2)


class RefusedTest(StorageTestCase):
    def test_services_of_the_table_are_refused_by_name(self):
        storage = self.start()
        for method, path in (
            ("POST", "/push"),
            ("POST", "/rtm/messages"),
            ("POST", "/LiveQuery/subscribe"),
            ("GET", "/search/select"),
            ("GET", "/leaderboard/leaderboards/x"),
        ):
            with self.subTest(path):
                status, answer = storage.request(method, path, {} if method == "POST" else None)
                self.assertEqual((status, answer["code"]), (400, 1))
                self.assertIn("is not supported by this server.", answer["error"])


@unittest.skipUnless(shutil.which("node"), "Node is not installed")
@unittest.skipUnless(os.path.isdir(os.path.join(MODULES, "leancloud-storage")), "NODE_PATH has no leancloud-storage")
class PollTest(StorageTestCase):
    def test_objects_that_are_created_or_changed_are_reported_once(self):
        storage = self.start()
        storage.request("POST", "/classes/Message", {"text": "old"})
        with tempfile.TemporaryDirectory() as folder:
            for block in blocks(".js"):
                put(Path(folder), *block)
            environment = {**os.environ, "APP_ID": storage.keys["id"], "APP_KEY": storage.keys["key"], "SERVER_URL": storage.url}
            log = Path(folder) / "log"
            with log.open("w") as output:
                process = subprocess.Popen(["node", "watch.js"], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
            try:
                written = []

                def is_reported():
                    """Write until the watcher, which takes a moment to start, reports something."""
                    written.append(f"new {len(written)}")
                    storage.request("POST", "/classes/Message", {"text": written[-1]})
                    process.poll()
                    return log.read_text()

                until(lambda: is_reported() or self.wait(), 20)
                _, answer = storage.request("POST", "/classes/Message", {"text": "a"})
                until(lambda: "a\n" in log.read_text(), 20)
                storage.request("PUT", f"/classes/Message/{answer['objectId']}", {"text": "b"})
                until(lambda: "b\n" in log.read_text(), 20)
            finally:
                process.kill()
                process.wait()
            lines = log.read_text().splitlines()
        self.assertNotIn("old", lines)
        self.assertEqual(lines[-2:], ["a", "b"])
        self.assertEqual(len(lines), len(set(lines)))

    def wait(self):
        threading.Event().wait(0.5)


if __name__ == "__main__":
    unittest.main()
