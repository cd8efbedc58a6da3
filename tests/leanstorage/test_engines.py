"""Engines of the Python SDK of every generation, and of the PHP SDK, unmodified, as the engine of a server.

PYTHON_SDKS holds a folder for each old Python one; PHP_SDK is a checkout of the PHP SDK.
"""
import contextlib
import importlib.util
import os
import shutil
import signal
import sys
import unittest
from pathlib import Path

from leanstorage.engine.http_transport import HttpTransport
from tests.leanstorage import engine_checks
from tests.leanstorage.storage_support import StorageTestCase
from tests.leanstorage.test_python import SDKS, VERSIONS
from tests.support import free_port, ROOT, running, until

PHP_SDK = os.environ.get("PHP_SDK", "")


class EngineCase(StorageTestCase):
    def engine(self, name, command, ready, **more):
        """A storage, and an engine that `command` starts for it; PORT in it stands for the port."""
        port = free_port()
        storage = self.start(name, transport=HttpTransport(f"http://127.0.0.1:{port}"))
        names = ("LEANCLOUD_APP", "LC_APP")  # the latter before 1.9
        environment = {f"{name}_{key.upper()}": value for name in names for key, value in storage.keys.items()}
        environment |= {"LEANCLOUD_APP_PORT": port, "LEANCLOUD_API_SERVER": storage.url, "LC_API_SERVER": storage.url}
        started = running([part.replace("PORT", str(port)) for part in command], ready, **environment, **more)
        process = started.__enter__()
        self.addCleanup(started.__exit__, None, None, None)
        self.addCleanup(end_group, process.pid)
        return storage


def end_group(pid):
    """End a process with what it has started: PHP's workers outlive the one that is told to end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)


@unittest.skipUnless(importlib.util.find_spec("leancloud"), "leancloud is not installed")
class PythonEngineTest(EngineCase):
    def check(self, version, path):
        with self.subTest(version):
            command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "python" / "engine.py")]
            storage = self.engine(version, command, "up", PYTHONPATH=path)
            engine_checks.check_values(self, storage)
            engine_checks.check_functions(self, storage, by_functions=False)

    def test_values_pass_hooks_and_functions_of_every_generation(self):
        self.check("newest", ROOT)
        missing = [version for version in VERSIONS if not SDKS or not (Path(SDKS) / version).is_dir()]
        for version in VERSIONS:
            if version not in missing:
                self.check(version, Path(SDKS) / version)
        if missing:
            self.skipTest(f"PYTHON_SDKS has no {', '.join(missing)}")


@unittest.skipUnless(shutil.which("php") and PHP_SDK, "PHP, or PHP_SDK, is missing")
class PhpEngineTest(EngineCase):
    def setUp(self):
        super().setUp()
        command = ["php", "-S", "127.0.0.1:PORT", str(ROOT / "tests" / "php" / "engine.php")]
        # A hook that saves is called again by the storage meanwhile: one process would wait for itself.
        self.storage = self.engine("php", command, "started", PHP_SDK=PHP_SDK, PHP_CLI_SERVER_WORKERS=4)
        self.request = self.storage.request

    def test_values_pass_hooks_and_functions(self):
        engine_checks.check_values(self, self.storage)
        engine_checks.check_functions(self, self.storage)

    def test_functions_without_parameters_and_with_a_user(self):
        user = self.request("POST", "/users", {"username": "caller", "password": "pw"})[1]
        for body in ({}, [], None):
            self.assertEqual(self.request("POST", "/functions/none", body)[1], {"result": {"count": 0, "user": None}})
        answer = self.request("POST", "/functions/none", [], session=user["sessionToken"])[1]
        self.assertEqual(answer, {"result": {"count": 0, "user": "caller"}})
        self.assertEqual(self.request("POST", "/functions/fails", {}), (402, {"code": 33, "error": "not today"}))

    def test_hooks_of_a_class(self):
        status, answer = self.request("POST", "/classes/Note", {"title": "bad"})
        self.assertEqual((status, answer["code"], "a bad title" in answer["error"]), (400, 142, True), answer)
        user = self.request("POST", "/users", {"username": "writer", "password": "pw"})[1]
        note = self.request("POST", "/classes/Note", {"title": "good", "kept": True}, session=user["sessionToken"])[1]["objectId"]
        path = f"/classes/Note/{note}"
        self.assertEqual(self.request("GET", path)[1]["by"], "nobody")
        self.assertEqual(self.request("PUT", path, {"text": "t"})[0], 200)
        until(lambda: self.request("GET", path)[1].get("updates") == 1)  # and not again by its own save
        status, answer = self.request("DELETE", path)
        self.assertEqual((status, answer["code"], "it is kept" in answer["error"]), (400, 142, True), answer)
        self.request("PUT", path, {"kept": False})
        self.assertEqual(self.request("DELETE", path)[0], 200)

    def test_hooks_of_users(self):
        status, answer = self.request("POST", "/users", {"username": "u", "password": "pw", "nick": "bad"})
        self.assertEqual((status, answer["code"]), (400, 142), answer)
        user = self.request("POST", "/users", {"username": "u", "password": "pw"})[1]
        found = self.request("GET", f"/users/{user['objectId']}", session=user["sessionToken"])[1]
        self.assertEqual(found["seen"], 2)
        for name, wanted in (("welcome", 200), ("banned", 401)):
            self.request("POST", "/users", {"username": name, "password": "pw"})
            status, answer = self.request("POST", "/login", {"username": name, "password": "pw"})
            self.assertEqual(status, wanted, answer)


if __name__ == "__main__":
    unittest.main()
