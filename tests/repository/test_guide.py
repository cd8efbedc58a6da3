"""The LeanEngine Python guide, block by block: README's table, and what of it no other test shows."""
import inspect
import re
import signal
import subprocess
import tempfile
import time
import unittest
from email.utils import parsedate_to_datetime
from unittest import mock

import leancloud
from leancloud import client
from leancloud.engine import CookieSessionMiddleware

import wsgi
from tests.support import ROOT, AppTestCase, call, clean_environment, free_port, python
from tests.leanengine.sdk_support import Forget, logging_in, plain, session

# The blocks of the guide's template, in its order, and the section between two of them that has none.
BLOCKS = (
    "getting_started",
    "project_constraint",
    "custom_runtime",
    "supported_frameworks",
    "use_leanstorage",
    "get_env",
    "cookie_session",
    "http_client",
    "code_get_client_ip_address",
    "https_redirect",
    "loggerExample",
    "code_calling_custom_variables",
    "code_upload_file_sdk_function",
    "leancache",
    "custom_session",
)
SESSION_OPTIONS = ("secret", "name", "excluded_paths", "fetch_user", "expires", "max_age")


def rows(name):
    """The rows of the guide's table in a README, as lists of cells."""
    lines = (ROOT / name).read_text().split("\n## ")[-1].splitlines()
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")][2:]


class TableTest(unittest.TestCase):
    def test_every_block_of_the_guide_has_rows_with_code_and_tests(self):
        for name in ("README.md", "README.zh-CN.md"):
            found = rows(name)
            named = [re.findall(r"`(\w+)`", cells[0])[0] for cells in found if re.match(r" `\w+`", cells[0])]
            self.assertEqual(list(dict.fromkeys(named)), list(BLOCKS))
            self.assertEqual(len(found), len(named) + 2)  # locked versions; cloud functions, of another guide
            for cells in found:
                with self.subTest(document=name, block=cells[0]):
                    self.assertEqual(len(cells), 3)
                    self.assertTrue("](" in cells[1] or "none here" in cells[1] or "这里没有" in cells[1])
                    self.assertRegex(cells[2], "`test_[a-z0-9_]+`")

    def test_row_of_the_session_links_the_line_of_every_option(self):
        for name in ("README.md", "README.zh-CN.md"):
            [cells] = [cells for cells in rows(name) if "`cookie_session`" in cells[0]]
            for option in SESSION_OPTIONS:
                self.assertIn(f"`{option}`", cells[0])
                self.assertRegex(cells[1], rf"\[`{option}=`\]\(wsgi\.py\)")


class SessionTest(Forget):
    def test_every_option_of_the_session_is_decided_in_one_place(self):
        [call] = re.findall(r"CookieSessionMiddleware\(\n(.*?)^\)", (ROOT / "wsgi.py").read_text(), re.MULTILINE | re.DOTALL)
        given = re.findall(r"^    (\w+)=", call, re.MULTILINE)
        self.assertEqual(given, list(inspect.signature(CookieSessionMiddleware).parameters)[1:])
        self.assertEqual(tuple(given), SESSION_OPTIONS)
        options = {name: getattr(wsgi.session, name) for name in SESSION_OPTIONS if name != "excluded_paths"}
        secret = f"session:{wsgi.keys['LEANCLOUD_APP_MASTER_KEY']}"
        wanted = {"secret": secret, "name": "leancloud:session", "fetch_user": False, "expires": None, "max_age": 2592000}
        self.assertEqual(options, wanted)
        self.assertIn("/static/", wsgi.session.excluded_paths)

    def test_session_signed_with_another_secret_is_nobody(self):
        [line] = call(session(logging_in, "one secret", 1000), "GET", "/").all("Set-Cookie")
        seen = []

        def looking(environ, start_response):
            seen.append(leancloud.User.get_current())
            return plain(environ, start_response)

        for secret in ("one secret", "another secret"):
            leancloud.User.set_current(None)
            call(session(looking, secret, 1000), "GET", "/", headers={"Cookie": line.split(";")[0]})
        self.assertEqual([user and user.id for user in seen], ["u1", None])

    def test_session_is_read_without_asking_storage(self):
        application = session(logging_in, "secret", 1000)
        [line] = call(application, "GET", "/").all("Set-Cookie")
        leancloud.User.set_current(None)
        headers = {"Cookie": line.split(";")[0]}
        with mock.patch.object(client.session, "request", side_effect=AssertionError("storage was asked")):
            response = call(session(plain, "secret", 1000), "GET", "/", headers=headers)
        self.assertEqual((response.status, leancloud.User.get_current().id), (200, "u1"))

    def test_cookie_ends_at_the_same_time_by_expires_and_by_max_age(self):
        [line] = call(session(logging_in, "secret", 1000), "GET", "/").all("Set-Cookie")
        self.assertIn("Max-Age=1000;", line)
        [expires] = re.findall("Expires=([^;]+)", line)
        self.assertAlmostEqual(parsedate_to_datetime(expires).timestamp(), time.time() + 1000, delta=10)


class MasterKeyTest(AppTestCase):
    def test_sdk_has_the_master_key_and_uses_it_only_when_told(self):
        todo = self.request("POST", "/api/todos", {"content": "private"}, 201, self.logged_in()).json()
        leancloud.User.set_current(None)
        query = leancloud.Query("Todo").equal_to("objectId", todo["id"])
        self.assertEqual(query.find(), [])
        self.addCleanup(leancloud.use_master_key, False)
        leancloud.use_master_key(True)
        self.assertEqual([found.get("content") for found in query.find()], ["private"])


class LogsTest(unittest.TestCase):
    def test_start_is_said_on_stdout_and_a_failure_on_stderr(self):
        port = free_port()
        with tempfile.TemporaryDirectory() as data:
            process = subprocess.Popen(
                python("wsgi.py"),
                cwd=ROOT,
                env=clean_environment(LEANCLOUD_APP_PORT=port, LEANSTORAGE_DATA=data),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            with process:
                self.assertIn(f"listening on http://localhost:{port}", process.stdout.readline())
                second = subprocess.run(
                    python("wsgi.py"),
                    cwd=ROOT,
                    env=clean_environment(LEANCLOUD_APP_PORT=port, LEANSTORAGE_DATA=data),
                    capture_output=True,
                    text=True,
                )
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.stderr.read(), "")
        self.assertEqual((process.returncode, second.returncode, second.stdout), (0, 1, ""))
        self.assertIn(f"port {port} is in use", second.stderr)


if __name__ == "__main__":
    unittest.main()
