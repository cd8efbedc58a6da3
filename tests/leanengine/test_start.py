"""`python wsgi.py` from its first line on: what stops it, and what it says then."""
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import requests

from tests.app.test_wsgi import redis_servers
from tests.support import ROOT, clean_environment, free_port, has_redis, python, running


# wsgi.py as `python wsgi.py` runs it, in a process that says when it expects Ctrl-C.
AS_A_SCRIPT = """
import runpy, signal, sys
set_handler = signal.signal
def told(number, handler):
    set_handler(number, handler)
    if number == signal.SIGINT:
        signal.signal = set_handler
        print("begins", flush=True)
signal.signal = told
sys.argv = ["wsgi.py"]
runpy.run_path("wsgi.py", run_name="__main__")
"""


class StartTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = folder.name

    def stopped(self, **environment):
        """What the app says on stderr, which is all that it says before it ends with 1."""
        done = subprocess.run(
            python("wsgi.py"), cwd=ROOT, env=clean_environment(**environment), capture_output=True, text=True, timeout=20
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        return done.stderr

    def test_data_that_cannot_be_used_stops_the_start_with_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "file").write_text("x")
            unusable = {"no_database": "leanstorage.db"}
            if has_redis():
                unusable["no_redis"] = "redis.lock"
            for name, what in unusable.items():
                (Path(folder) / name / what).mkdir(parents=True)
            damaged = {"no_json": "{", "no_object": "[]", "one_key": '{"id": "x"}'}
            for name, text in damaged.items():
                (Path(folder) / name).mkdir()
                (Path(folder) / name / "keys.json").write_text(text)
            for data in ("file", "file/below", *unusable, *damaged, "/proc/x"):
                data = Path(folder) / data
                with self.subTest(data.name):
                    said = self.stopped(LEANSTORAGE_DATA=str(data))
                    self.assertRegex(said, rf"\ALEANSTORAGE_DATA {data} cannot be used: [^\n]+\n\Z")
                    self.assertEqual("keys.json" in said, data.name in damaged)
                    self.assertEqual(redis_servers(data), [])

    def test_arguments_are_answered_with_one_line(self):
        for arguments in (["--help"], ["--port", "3005"]):
            command = python("wsgi.py", *arguments)
            done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=20)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertRegex(done.stderr, r"\A[^\n]*environment variables[^\n]*docs/configuration.md\n\Z")


    def test_port_that_is_taken_is_said_in_one_line_before_anything_is_started(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            data = Path(self.data, "new")
            said = self.stopped(LEANCLOUD_APP_PORT=port, LEANSTORAGE_DATA=data)
            self.assertRegex(said, rf"\Aport {port} cannot be listened on: address already in use\. [^\n]+LEANCLOUD_APP_PORT[^\n]+\n\Z")
            self.assertFalse(data.exists())

    def test_localhost_answers_on_both_protocols(self):
        port = free_port()
        with running(python("wsgi.py"), "cache: ", LEANCLOUD_APP_PORT=port, LEANSTORAGE_DATA=self.data) as process:
            self.assertIn(f"http://localhost:{port} (development, Ctrl-C ends it)", process.output)
            hosts = ["127.0.0.1"] + (["[::1]"] if has_ipv6() else [])
            for host in hosts:
                with self.subTest(host):
                    answer = requests.get(f"http://{host}:{port}/api/client", timeout=10)
                    self.assertEqual(answer.json(), {"ip": host.strip("[]")})

    def test_ctrl_c_at_any_moment_of_the_start_is_quiet(self):
        """From the first lines of wsgi.py on; before that, Python itself says KeyboardInterrupt."""
        for delay in (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7):
            process = subprocess.Popen(
                python("-c", AS_A_SCRIPT),
                cwd=ROOT,
                env=clean_environment(LEANCLOUD_APP_PORT=free_port(), LEANSTORAGE_DATA=self.data),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            with self.subTest(delay), process:
                self.assertEqual(process.stdout.readline(), "begins\n")
                time.sleep(delay)
                process.send_signal(signal.SIGINT)
                try:
                    said = process.communicate(timeout=15)[0]
                except subprocess.TimeoutExpired:
                    process.kill()
                    self.fail(f"it does not end: {process.communicate()[0]}")
                self.assertNotIn("Traceback", said)
                self.assertEqual(process.returncode, 0)
        self.assertEqual(redis_servers(self.data), [])


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    unittest.main()
