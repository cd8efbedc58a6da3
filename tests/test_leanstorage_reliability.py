"""What must not happen: lost writes, half files, a damaged store, a server that opens itself."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import requests

from tests.service_support import KEYS, SERVER, ServiceTestCase, open_database
from tests.support import ROOT, clean_environment, free_port, python, running

LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
runpy.run_module("leanstorage", run_name="__main__")
"""


class Case(unittest.TestCase):
    def setUp(self):
        self.data = tempfile.mkdtemp(prefix="reliability-")
        self.addCleanup(shutil.rmtree, self.data)

    def serve(self, *prefix):
        self.port = free_port()
        arguments = [*prefix, "serve", "--port", str(self.port)]
        return running(arguments, "listens on", LEANSTORAGE_DATA=self.data)

    def request(self, method, path, body=None):
        keys = json.loads(Path(self.data, "keys.json").read_text())
        headers = {"X-LC-Id": keys["id"], "X-LC-Key": keys["master_key"] + ",master"}
        return requests.request(method, f"http://127.0.0.1:{self.port}/1.1{path}", json=body, headers=headers, timeout=15)


class CrashTest(unittest.TestCase):
    def test_few_kills_lose_nothing(self):
        done = subprocess.run(python("bench/crash.py", "3"), cwd=ROOT, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("3 kills, ", done.stdout)
        self.assertNotIn(" 0 acknowledged", done.stdout)

    @unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
    def test_few_kills_among_four_processes_on_one_database_lose_nothing(self):
        url, drop = open_database(None)
        self.addCleanup(drop)
        command = python("bench/crash.py", "6", "--processes", "4", "--postgresql", url)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("6 kills, ", done.stdout)
        self.assertNotIn(" 0 acknowledged", done.stdout)


class FullDiskTest(Case):
    def test_full_disk_is_a_clear_error_and_nothing_is_damaged(self):
        with self.serve(sys.executable, "-W", "ignore", "-c", LIMITED, "400000"):
            stored, refused = [], []
            for number in range(60):
                response = self.request("POST", "/classes/Full", {"number": number, "text": "x" * 20_000})
                (stored if response.status_code == 201 else refused).append(response)
            self.assertTrue(stored)
            self.assertTrue(refused)
            self.assertEqual({response.status_code for response in refused}, {503})
            self.assertTrue(all(set(response.json()) == {"code", "error"} for response in refused))
            self.assertEqual(self.request("GET", "/date").status_code, 200)
        with self.serve(*python("-m", "leanstorage")):
            ids = {response.json()["objectId"] for response in stored}
            found = {row["objectId"] for row in self.request("GET", "/classes/Full?limit=1000").json()["results"]}
            self.assertEqual(found, ids)
            self.assertEqual(self.request("POST", "/classes/Full", {"number": -1}).status_code, 201)

    def test_upload_to_a_full_disk_leaves_nothing_behind(self):
        with self.serve(sys.executable, "-W", "ignore", "-c", LIMITED, "250000"):
            token = self.request("POST", "/fileTokens", {"name": "a.bin"}).json()
            response = requests.put(token["upload_url"], data=bytes(300_000), timeout=15)
            self.assertEqual(response.status_code, 503)
            self.assertEqual(self.request("GET", f"/files/{token['objectId']}").status_code, 404)
            self.assertEqual(os.listdir(Path(self.data, "files")), [])


class SyncTest(Case):
    @unittest.skipUnless(shutil.which("strace"), "strace is not installed: syncs cannot be counted")
    def test_every_answered_write_was_synced(self):
        log = Path(self.data, "strace.log")
        trace = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(log)]
        with self.serve(*trace, *python("-m", "leanstorage")):
            self.request("POST", "/classes/Foo", {"n": 0})
            before = self.syncs(log)
            for number in range(20):
                self.assertEqual(self.request("POST", "/classes/Foo", {"n": number}).status_code, 201)
            self.assertGreaterEqual(self.syncs(log) - before, 20)
            token = self.request("POST", "/fileTokens", {"name": "a.bin"}).json()
            before = self.syncs(log)
            requests.put(token["upload_url"], data=b"x" * 1000, timeout=15)
            self.assertGreaterEqual(self.syncs(log) - before, 3)  # the bytes, their folder, the row

    def syncs(self, log):
        return log.read_text().count("sync(")


class StartTest(Case):
    def start(self, *arguments, **environment):
        command = python("-m", "leanstorage", *arguments)
        given = clean_environment(LEANSTORAGE_DATA=self.data, **environment)
        return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=20)

    def test_server_with_generated_keys_does_not_listen_beyond_loopback(self):
        done = self.start("serve", "--host", "0.0.0.0", "--port", "0")
        self.assertEqual(done.returncode, 2)
        self.assertIn("LEANCLOUD_APP_MASTER_KEY", done.stderr)

    def test_server_beyond_loopback_says_that_tls_must_stand_in_front(self):
        keys = {name: "x" * 20 for name in ("LEANCLOUD_APP_ID", "LEANCLOUD_APP_KEY", "LEANCLOUD_APP_MASTER_KEY", "LEANCLOUD_APP_HOOK_KEY")}
        arguments = python("-m", "leanstorage", "serve", "--host", "0.0.0.0", "--port", str(free_port()))
        with running(arguments, "TLS must stand in front", LEANSTORAGE_DATA=self.data, **keys) as process:
            self.assertNotIn("x" * 20, process.output)

    def test_half_set_keys_and_bad_places_stop_the_start_with_a_line(self):
        done = self.start("serve", LEANCLOUD_APP_ID="x")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))
        self.assertIn("LEANCLOUD_APP_KEY is missing", done.stderr)
        done = self.start("serve", "--port", "0", "--database", "mysql://user:topsecret@host/x")
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("topsecret", done.stderr)

    def test_keys_are_readable_by_their_owner_alone(self):
        self.assertEqual(self.start("env").returncode, 0)
        self.assertEqual(Path(self.data, "keys.json").stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.start("env").stdout, self.start("env").stdout)


class LimitsTest(ServiceTestCase):
    def test_address_that_asks_too_much_is_429_and_the_app_is_spared(self):
        headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"]}
        there = {"REMOTE_ADDR": "8.8.8.8"}
        with mock.patch.object(self.service.options, "max_requests_per_minute", 5):
            statuses = [self.raw("GET", "/1.1/date", **there).status for _ in range(7)]
            self.assertEqual(statuses, [200] * 5 + [429] * 2)
            spared = {**headers, "X-LC-Hook-Key": KEYS["hook_key"]}
            self.assertEqual(self.raw("GET", "/1.1/classes/_Role", headers=spared, **there).status, 200)
            self.assertEqual(self.raw("GET", "/1.1/date").status, 200)

    @unittest.skipIf(SERVER, "SQLite's own budget")
    def test_query_that_takes_too_long_is_stopped(self):
        self.make("Slow", n=1)

        def seed(transaction):
            from leanstorage.store import Row

            for index in range(2000):
                transaction.insert("Slow", Row(f"i{index}", index, index, None, {"n": index, "l": list(range(20))}))

        self.service.store.write(seed)
        with mock.patch("leanstorage.store.sqlite.QUERY_SECONDS", 0.01), mock.patch("leanstorage.store.sqlite.STEPS", 100):
            self.code(124, "GET", "/classes/Slow", where={"$or": [{"l": {"$all": [n, 30]}} for n in range(50)]})


if __name__ == "__main__":
    unittest.main()
