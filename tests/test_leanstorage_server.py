import json
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import requests

from leanstorage import server


class ServerTest(unittest.TestCase):
    def serve(self, application, threads):
        started = server.Server(application, "127.0.0.1", 0, threads, 1000)
        started.start()
        self.addCleanup(started.stop)
        return f"http://127.0.0.1:{started.port}/"

    def test_overload_is_refused_at_once_and_passes(self):
        leave = threading.Event()

        def slow(environ, start_response):
            leave.wait(10)
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
            return [b"{}"]

        with mock.patch.object(server, "MAX_WAITING", 2):
            url = self.serve(slow, threads=1)

            def ask(_):
                start = time.monotonic()
                response = requests.get(url, timeout=15)
                return response.status_code, time.monotonic() - start, response

            with ThreadPoolExecutor(12) as pool:
                jobs = [pool.submit(ask, number) for number in range(12)]
                time.sleep(1)
                refused = [job.result() for job in jobs if job.done()]
                leave.set()
                answered = [job.result()[0] for job in jobs]
        self.assertGreaterEqual(len(refused), 8)
        for status, seconds, response in refused:
            self.assertEqual((status, set(json.loads(response.content))), (503, {"code", "error"}))
            self.assertTrue(response.headers["Retry-After"])
            self.assertLess(seconds, 0.9)
        self.assertGreaterEqual(answered.count(200), 2)
        self.assertEqual(requests.get(url, timeout=5).status_code, 200)

    def test_stopped_server_leaves_no_thread(self):
        before = threading.active_count()
        started = server.Server(lambda environ, start: [], "127.0.0.1", 0, 4, 1000)
        started.start()
        started.stop()
        end = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(threading.active_count(), before)
