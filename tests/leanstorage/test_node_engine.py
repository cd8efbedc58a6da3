"""Node's LeanEngine of every generation, from npm, unmodified, as the engine of a server. `NODE_ENGINES` holds a folder for each."""
import os
import shutil
import unittest
from pathlib import Path

from leanstorage.engine.http_transport import HttpTransport
from tests.leanstorage import engine_checks
from tests.leanstorage.storage_support import StorageTestCase
from tests.support import ROOT, free_port, running, until

ENGINES = os.environ.get("NODE_ENGINES", "")
VERSIONS = ("0.4.2", "1.2.4", "2.0.5", "3.8.0")


@unittest.skipUnless(shutil.which("node"), "Node is not installed")
class NodeEngineTest(StorageTestCase):
    def test_functions_and_hooks_run_on_every_generation(self):
        missing = []
        for version in VERSIONS:
            modules = Path(ENGINES) / version / "node_modules"
            if not ENGINES or not modules.is_dir():
                missing.append(version)
                continue
            with self.subTest(version):
                self.check(version, modules)
        if missing:
            self.skipTest(f"NODE_ENGINES has no {', '.join(missing)}")

    def check(self, version, modules):
        port = free_port()
        storage = self.start(version, transport=HttpTransport(f"http://127.0.0.1:{port}"))
        environment = {f"LEANCLOUD_APP_{name.upper()}": value for name, value in storage.keys.items()}
        environment |= {"NODE_PATH": str(modules), "LEANCLOUD_APP_PORT": port, "LEANCLOUD_API_SERVER": storage.url}
        environment["LC_API_SERVER"] = storage.url  # as the oldest reads it
        with running(["node", str(ROOT / "tests" / "javascript" / "engine.js")], "up", **environment):
            self.functions(storage)
            self.hooks(storage)
            engine_checks.check_values(self, storage)
            engine_checks.check_functions(self, storage)

    def functions(self, storage):
        user = storage.request("POST", "/users", {"username": "caller", "password": "pw"})[1]
        answer = storage.request("POST", "/functions/hello", {"name": "x"}, session=user["sessionToken"])
        self.assertEqual(answer, (200, {"result": {"to": "x", "user": "caller"}}))
        self.assertEqual(storage.request("POST", "/functions/hello", {})[1]["result"]["user"], None)
        status, answer = storage.request("POST", "/functions/fails", {})
        self.assertEqual((status, answer["error"]), (400, "not today"))

    def hooks(self, storage):
        status, answer = storage.request("POST", "/classes/Note", {"title": "bad"})
        self.assertEqual((status, answer["code"], "a bad title" in answer["error"]), (400, 142, True), answer)
        note = storage.request("POST", "/classes/Note", {"title": "good"})[1]["objectId"]
        path = f"/classes/Note/{note}"
        self.assertEqual(storage.request("GET", path)[1]["title"], "GOOD")
        # The oldest one answers before an after hook has done its work.
        until(lambda: len(storage.request("GET", "/classes/Log")[1].get("results", ())) == 1)
        self.assertEqual(storage.request("PUT", path, {"text": "t"})[0], 200)
        until(lambda: storage.request("GET", path)[1].get("updates") == 1)
        status, answer = storage.request("PUT", path, {"closed": True})
        self.assertEqual((status, answer["code"]), (400, 142), answer)
        self.assertEqual(storage.request("GET", path)[1]["updates"], 1)
        self.assertEqual(storage.request("POST", "/call/object", {})[1]["result"]["objectId"], note)
        self.assertEqual(storage.request("DELETE", path)[0], 200)
        for name, wanted in (("welcome", 200), ("banned", 401)):
            storage.request("POST", "/users", {"username": name, "password": "pw"})
            status, answer = storage.request("POST", "/login", {"username": name, "password": "pw"})
            self.assertEqual(status, wanted, answer)


if __name__ == "__main__":
    unittest.main()
