"""The last file by name: ends the app, and looks for what the run has left behind."""
import gc
import os
import sys
import threading
import time
import unittest
from pathlib import Path

import tests


class LeftBehindTest(unittest.TestCase):
    def test_run_leaves_no_thread_process_socket_or_problem(self):
        if "wsgi" in sys.modules:
            sys.modules["wsgi"].parts.close()
        gc.collect()
        end = time.monotonic() + 5
        while time.monotonic() < end and (self.threads() or self.children() or self.sockets()):
            time.sleep(0.05)
        self.assertEqual(self.threads(), [])
        self.assertEqual(self.children(), [])
        self.assertEqual(self.sockets(), [])
        self.assertEqual(tests.problems, [])

    def threads(self):
        return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]

    def children(self):
        tasks = Path(f"/proc/{os.getpid()}/task")
        found = [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]
        lines = [Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ") for child in found]
        # multiprocessing's own helper, which ends with its parent and cannot be ended before.
        return [line for line in lines if b"multiprocessing.resource_tracker" not in line]

    def sockets(self):
        found = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                target = os.readlink(entry)
            except OSError:
                continue
            if target.startswith("socket:") and int(entry.name) > 2:
                found.append(target)
        return found
