"""The environment as settings, keys and the URL of Redis."""
import subprocess
import tempfile
import unittest
from pathlib import Path

from leanengine.settings import KEYS, platform_keys, read_settings, redis_url
from tests.support import ROOT, clean_environment, python


class SettingsTest(unittest.TestCase):
    def test_settings_have_their_defaults(self):
        settings = read_settings({})
        self.assertEqual((settings.app_env, settings.port, settings.max_upload_bytes), ("development", 3000, 10485760))
        self.assertEqual(settings.trusted_proxy, {"127.0.0.1", "::1"})
        self.assertEqual(read_settings({"LEANCLOUD_APP_ENV": "production"}).trusted_proxy, {"*"})
        self.assertEqual(read_settings({"LEANCLOUD_APP_ENV": "staging"}).app_env, "stage")
        self.assertEqual(read_settings({"TRUSTED_PROXY": "10.0.0.1, 10.0.0.2"}).trusted_proxy, {"10.0.0.1", "10.0.0.2"})

    def test_processes_are_the_whole_cpus_and_at_least_one(self):
        for text, number in (("1", 1), ("0.5", 1), ("2", 2), ("2.9", 2), ("16.000", 16)):
            with self.subTest(text):
                self.assertEqual(read_settings({"LEANCLOUD_AVAILABLE_CPUS": text}).processes, number)

    def test_settings_that_cannot_be_read_stop_the_start_with_one_line(self):
        for variable, value in (
            ("LEANCLOUD_APP_PORT", "x"),
            ("LEANCLOUD_APP_PORT", "70000"),
            ("LEANCLOUD_APP_ENV", "prod"),
            ("SESSION_MAX_AGE", "-1"),
            ("MAX_UPLOAD_BYTES", "10MB"),
            ("ALLOWED_HOSTS", "http://x.com"),
            ("ALLOWED_HOSTS", "a.com,b.com/path"),
            ("ALLOWED_HOSTS", "*"),
            ("TRUSTED_PROXY", "nonsense"),
            ("TRUSTED_PROXY", "10.0.0.0/8"),
            ("NOTIFY_WEBHOOK_URL", "nonsense"),
            ("NOTIFY_WEBHOOK_URL", "ftp://x/?token=secret"),
            ("LEANCLOUD_AVAILABLE_CPUS", "many"),
            ("ALLOWED_HOSTS", ","),
            ("TRUSTED_PROXY", ","),
            ("LEANCACHE_INSTANCE", "user:secret@host"),
            ("LEANCACHE_INSTANCE", "a\nb"),
            ("LEANSTORAGE_DATA", "http://x"),
            ("LEANSTORAGE_DATA", "a\nb"),
        ):
            with self.subTest(variable=variable, value=value), self.assertRaises(SystemExit) as caught:
                read_settings({variable: value})
            self.assertTrue(caught.exception.code.startswith(variable))
            self.assertNotIn("\n", caught.exception.code)
            self.assertNotIn("secret", caught.exception.code)

    def test_settings_that_are_lists_and_urls_are_read_as_they_are_compared(self):
        given = {"ALLOWED_HOSTS": "X.com, b.com:8080,[::1]", "TRUSTED_PROXY": "0:0::1", "NOTIFY_WEBHOOK_URL": "https://u:p@h/x?token=1"}
        settings = read_settings(given)
        self.assertEqual(settings.allowed_hosts, {"x.com", "b.com:8080", "[::1]"})
        self.assertEqual(settings.trusted_proxy, {"::1"})
        self.assertEqual(settings.notify_webhook_url, given["NOTIFY_WEBHOOK_URL"])

    def test_key_or_server_that_is_malformed_stops_the_start_with_one_line_that_does_not_repeat_it(self):
        keys = {name: "k" for name in KEYS} | {"LEANCLOUD_API_SERVER": "https://api.example.com/"}
        self.assertEqual(platform_keys(keys), {**keys, "LEANCLOUD_API_SERVER": "https://api.example.com"})
        for variable, value in ((KEYS[0], "se cret"), (KEYS[2], "secret,master"), ("LEANCLOUD_API_SERVER", "secret.example.com")):
            with self.subTest(variable), self.assertRaises(SystemExit) as caught:
                platform_keys({**keys, variable: value})
            self.assertRegex(caught.exception.code, rf"\A{variable} must be [^\n]+\Z")
            self.assertNotIn("secret", caught.exception.code)

    def test_redis_url_is_the_named_one_or_the_only_one(self):
        a, b = "redis://:secret@127.0.0.1:6379/0", "unix:///tmp/x.sock"
        one, two = {"REDIS_URL_a": a}, {"REDIS_URL_a": a, "REDIS_URL_b": b}
        self.assertIsNone(redis_url({}, ""))
        self.assertEqual(redis_url(one, ""), a)
        self.assertEqual(redis_url(two, "b"), b)
        for environment, instance in ((two, ""), (one, "c")):
            with self.assertRaises(SystemExit):
                redis_url(environment, instance)

    def stopped(self, **environment):
        """What the app says on stderr, which is all that it says before it ends with 1."""
        done = subprocess.run(
            python("wsgi.py"), cwd=ROOT, env=clean_environment(**environment), capture_output=True, text=True, timeout=20
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        return done.stderr

    def test_redis_url_that_is_none_stops_the_start_with_one_line_and_without_its_password(self):
        for url in ("nonsense", "http://x", "redis://:se/cret@host:6379", "redis://host:port", ""):
            with self.subTest(url), self.assertRaises(SystemExit) as caught:
                redis_url({"REDIS_URL_a": url}, "")
            self.assertRegex(caught.exception.code, r"\AREDIS_URL_a must be [^\n]+\Z")
            self.assertNotIn("se", caught.exception.code.replace("rediss", ""))
        with tempfile.TemporaryDirectory() as data:
            self.assertRegex(self.stopped(REDIS_URL_a="nonsense", LEANSTORAGE_DATA=data), r"\AREDIS_URL_a [^\n]+\n\Z")

    def test_missing_key_stops_the_process_with_one_line_naming_it(self):
        keys = {name: "x" for name in (*KEYS, "LEANCLOUD_API_SERVER")}
        self.assertIsNone(platform_keys({"LEANCLOUD_APP_ENV": "stage", **dict.fromkeys(keys, "")}))
        for alone in keys:
            first = "LEANCLOUD_APP_KEY" if alone == "LEANCLOUD_APP_ID" else "LEANCLOUD_APP_ID"
            with self.subTest(alone=alone), self.assertRaises(SystemExit) as caught:
                platform_keys({alone: "x"})
            self.assertTrue(caught.exception.code.startswith(f"{first} is missing"))
        for missing in keys:
            given = {name: value for name, value in keys.items() if name != missing}
            with self.subTest(missing), self.assertRaises(SystemExit) as caught:
                platform_keys(given)
            self.assertTrue(caught.exception.code.startswith(missing))
        with tempfile.TemporaryDirectory() as data:
            said = self.stopped(LEANCLOUD_APP_ID="x", LEANSTORAGE_DATA=data)
            self.assertRegex(said, r"\ALEANCLOUD_APP_KEY is missing[^\n]*\n\Z")
            said = self.stopped(LEANCLOUD_API_SERVER="http://127.0.0.1:8126", LEANSTORAGE_DATA=data)
            self.assertRegex(said, r"\ALEANCLOUD_APP_ID is missing[^\n]*\n\Z")
            self.assertEqual(list(Path(data).iterdir()), [])

if __name__ == "__main__":
    unittest.main()
