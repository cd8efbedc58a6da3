"""Several processes on one socket; a new start when the code changes."""
import os
import signal
import tempfile
import unittest

import psutil

from tests.support import free_port, needs_storage, needs_todos, python, running, until
from tests.processes import Http, storage, wait_for


class ShareTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = folder.name

    def workers(self, process):
        return {child.pid for child in psutil.Process(process.pid).children()}

    @needs_todos
    @needs_storage
    def test_two_processes_serve_one_port_and_one_that_is_killed_gets_a_successor(self):
        with storage(self.data) as (keys, _):
            port = free_port()
            variables = {"LEANCLOUD_APP_PORT": port, "LEANCLOUD_AVAILABLE_CPUS": "2", "LEANSTORAGE_DATA": self.data}
            url = "redis://127.0.0.1:9/0"  # there is no cache, and it must not matter
            with running(python("wsgi.py"), "cache: ", **keys, **variables, REDIS_URL_none=url) as process:
                with Http(port) as browser:
                    wait_for(browser)
                    first = self.workers(process)
                    self.assertEqual(len(first), 2)
                    self.assertEqual(browser.sign_up("alice").status_code, 201)
                    todo = browser("POST", "/api/todos", json={"content": "x"}).json()
                    for _ in range(20):  # new connections, so both processes
                        with Http(port) as other:
                            other.session.cookies = browser.session.cookies.copy()
                            self.assertEqual(other("GET", "/api/todos").json()["todos"], [todo])
                    os.kill(min(first), signal.SIGKILL)
                    until(lambda: len(self.workers(process) - first) == 1, 10)
                    with Http(port) as other:
                        self.assertEqual(other("GET", "/api/session").json(), {"user": None})
                    last = self.workers(process)
                process.terminate()
                self.assertEqual(process.wait(10), 0)
                until(lambda: not any(psutil.pid_exists(pid) for pid in last))

    @needs_storage
    def test_embedded_storage_is_served_by_one_process(self):
        variables = {"LEANCLOUD_APP_PORT": free_port(), "LEANCLOUD_AVAILABLE_CPUS": "2", "LEANSTORAGE_DATA": self.data}
        with running(python("wsgi.py"), "cache: ", **variables) as process:
            names = [child.name() for child in psutil.Process(process.pid).children(recursive=True)]
            self.assertFalse([name for name in names if name.startswith("python")], names)


if __name__ == "__main__":
    unittest.main()
