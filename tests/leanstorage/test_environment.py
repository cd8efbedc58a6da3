"""What `leanstorage env` prints: the variables of LeanEngine, for apps that were made for it."""
import subprocess
import tempfile
import unittest

from leanengine.settings import platform_keys, read_settings
from tests.support import ROOT, clean_environment, python

NAMES = """
LEANCLOUD_APP_ID LEANCLOUD_APP_KEY LEANCLOUD_APP_MASTER_KEY LEANCLOUD_APP_HOOK_KEY LEANCLOUD_API_SERVER
LEANCLOUD_APP_PORT LEANCLOUD_APP_ENV LEANCLOUD_REGION LEANCLOUD_APP_DOMAIN LEANCLOUD_APP_GROUP LEAN_CLI_HAVE_STAGING
LC_APP_ID LC_APP_KEY LC_APP_MASTER_KEY LC_APP_PORT LC_API_SERVER
""".split()


class EnvironmentTest(unittest.TestCase):
    def printed(self, *options, **present):
        """The environment after `eval "$(leanstorage env)"`, as a shell makes it of what is printed."""
        with tempfile.TemporaryDirectory() as data:
            command = python("-m", "leanstorage", "env", *options)
            environment = clean_environment(LEANSTORAGE_DATA=data, **present)
            lines = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        done = subprocess.run(["sh", "-c", f"{lines}\nenv -0"], env=environment, capture_output=True, text=True, check=True)
        found = dict(line.split("=", 1) for line in done.stdout.rstrip("\0").split("\0"))
        self.assertEqual([line.split("=")[0].removeprefix("export ") for line in lines.splitlines()], NAMES)
        return {name: found[name] for name in NAMES}

    def test_it_has_the_names_and_values_that_lean_env_has(self):
        found = self.printed("--port", "8200")
        self.assertEqual(found["LEANCLOUD_API_SERVER"], "http://127.0.0.1:8200")
        for new, value in {"PORT": "3000", "ENV": "development", "GROUP": "web", "DOMAIN": ""}.items():
            self.assertEqual(found[f"LEANCLOUD_APP_{new}"], value)
        for name in ("APP_ID", "APP_KEY", "APP_MASTER_KEY", "APP_PORT", "API_SERVER"):
            self.assertEqual(found[f"LC_{name}"], found[f"LEANCLOUD_{name}"])
            self.assertTrue(found[f"LC_{name}"])

    def test_app_reads_it(self):
        found = self.printed()
        settings = read_settings(found)
        self.assertEqual((settings.app_env, settings.port), ("development", 3000))
        self.assertIsNotNone(platform_keys(found))

    def test_what_the_shell_has_set_is_kept(self):
        found = self.printed(LEANCLOUD_APP_PORT="4000", LEANCLOUD_APP_ENV="stage", LEANCLOUD_APP_GROUP="it's")
        self.assertEqual((found["LEANCLOUD_APP_PORT"], found["LC_APP_PORT"]), ("4000", "4000"))
        self.assertEqual((found["LEANCLOUD_APP_ENV"], found["LEANCLOUD_APP_GROUP"]), ("stage", "it's"))


if __name__ == "__main__":
    unittest.main()
