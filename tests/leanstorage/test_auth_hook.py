"""The `onAuthData` recipes of docs/hooks, in real engines of the Python and the Node SDK."""
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from leanstorage.engine import hooks
from leanstorage.engine.http_transport import HttpTransport
from leanstorage.outside.providers import provider_of
from tests.leanstorage.service_support import KEYS, ServiceTestCase
from tests.leanstorage.third_party_server import APP, SECRET, ThirdParties
from tests.support import ROOT, clean_environment, python

MODULES = Path(os.environ.get("NODE_ENGINES", "/nowhere"), "3.8.0", "node_modules")
PYTHON = """
import os
from leanengine import old_werkzeug  # before the SDK, on Python 3.14
from wsgiref.simple_server import make_server
import leancloud
leancloud.init(os.environ["LEANCLOUD_APP_ID"], master_key=os.environ["LEANCLOUD_APP_MASTER_KEY"])
{recipe}
server = make_server("127.0.0.1", 0, engine)
print(server.server_port, flush=True)
server.serve_forever()
"""
NODE = """
{recipe}
AV.init({{appId: process.env.LEANCLOUD_APP_ID, appKey: process.env.LEANCLOUD_APP_KEY,
  masterKey: process.env.LEANCLOUD_APP_MASTER_KEY, hookKey: process.env.LEANCLOUD_APP_HOOK_KEY, serverURL: 'http://127.0.0.1:9'}})
const server = require('http').createServer(AV.express()).listen(0, '127.0.0.1', () => console.log(server.address().port))
"""


class AuthHookTest(ServiceTestCase):
    def start(self, language, program, command):
        """Start an engine with the recipe in `language`; the storage asks it from now on."""
        third = ThirdParties(self)
        recipe = (ROOT / "docs" / "hooks" / f"on_auth_data.{language}").read_text()
        self.assertIn("https://accounts.example.com", recipe)
        folder = Path(tempfile.mkdtemp(prefix="engine-"))
        self.addCleanup(shutil.rmtree, folder)
        file = folder / f"engine.{language}"
        file.write_text(program.format(recipe=recipe.replace("https://accounts.example.com", third.url)))
        names = {"id": "ID", "key": "KEY", "master_key": "MASTER_KEY", "hook_key": "HOOK_KEY"}
        keys = {f"LEANCLOUD_APP_{name}": KEYS[key] for key, name in names.items()}
        environment = clean_environment(**keys, LEANCLOUD_APP_ENV="production", NODE_PATH=MODULES, PYTHONPATH=ROOT)
        process = subprocess.Popen([*command, str(file)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        port = process.stdout.readline().strip()
        self.assertRegex(port, "^[0-9]+$", process.poll() is None or process.stderr.read())
        self.service.engine = hooks.Engine(HttpTransport(f"http://127.0.0.1:{port}"), KEYS)
        self.addCleanup(setattr, self.service, "engine", None)
        ids = {"LEANSTORAGE_AUTH_LC_WEAPP_ID": APP, "LEANSTORAGE_AUTH_LC_WEAPP_SECRET": SECRET}
        self.service.providers = {"lc_weapp": provider_of(f"lc_weapp=weapp@{third.url}", ids).ask}

    def sign_in(self, status, **auth_data):
        return self.api("POST", "/users", {"authData": auth_data}, status)

    def check(self, token):
        user = self.sign_in(201, corp={"access_token": token})
        self.assertEqual(user["authData"], {"corp": {"uid": token}})
        self.assertEqual(self.sign_in(200, corp={"access_token": token})["objectId"], user["objectId"])
        self.assertEqual(self.sign_in(400, corp={"access_token": "made up"})["code"], 142)
        self.assertEqual(self.sign_in(400, weixin={"openid": "o", "access_token": "x"})["code"], 142)
        code = {"code": "good" if token == "t-python" else "union"}
        self.assertIn("openid", self.sign_in(201, lc_weapp=code)["authData"]["lc_weapp"])
        self.assertEqual(self.sign_in(400, lc_weapp={"code": "made up"})["code"], 252)

    def test_python_engine_decides(self):
        self.start("py", PYTHON, python())
        self.check("t-python")

    @unittest.skipUnless(shutil.which("node"), "Node is not installed")
    @unittest.skipUnless(MODULES.is_dir(), "NODE_ENGINES has no leanengine 3.8.0")
    def test_node_engine_decides(self):
        self.start("js", NODE, ["node"])
        self.check("t-js")


if __name__ == "__main__":
    unittest.main()
