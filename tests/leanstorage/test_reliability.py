"""What must not happen: lost writes, half files, a damaged store, a server that opens itself."""
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import psutil
import requests

from leanstorage.resources import batch
from leanstorage.rules.call import Call, Caller, Traffic
from leanstorage.store import QueryTimeout, StoreUnavailable, open_store
from tests.leanstorage.service_support import KEYS, SERVER, ServiceTestCase, open_database
from tests.leanstorage.storage_support import run_here
from tests.support import ROOT, clean_environment, free_port, python, running, takes_long

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

    def serve(self, *prefix, more=()):
        self.port = free_port()
        arguments = [*prefix, "serve", "--port", str(self.port), *more]
        return running(arguments, "listens on", LEANSTORAGE_DATA=self.data)

    def request(self, method, path, body=None, **more):
        keys = json.loads(Path(self.data, "keys.json").read_text())
        headers = {"X-LC-Id": keys["id"], "X-LC-Key": keys["master_key"] + ",master"}
        return requests.request(method, f"http://127.0.0.1:{self.port}/1.1{path}", json=body, headers=headers, timeout=15, **more)


class CrashTest(unittest.TestCase):
    @takes_long
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


class ProcessesTest(Case):
    @unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
    def test_two_processes_serve_one_port_and_end_together(self):
        url, drop = open_database(None)
        self.addCleanup(drop)
        with self.serve(*python("-m", "leanstorage"), more=["--processes", "2", "--database", url]) as process:
            end = time.monotonic() + 10
            while len(workers := psutil.Process(process.pid).children()) < 2 and time.monotonic() < end:
                time.sleep(0.05)
            self.assertEqual(len(workers), 2)
            made = [self.request("POST", "/classes/Foo", {"n": n}).json()["objectId"] for n in range(10)]
            found = [row["objectId"] for row in self.request("GET", "/classes/Foo").json()["results"]]
            self.assertEqual(sorted(found), sorted(made))
            process.terminate()
            self.assertEqual(process.wait(15), 0)
            self.assertFalse(any(worker.is_running() for worker in workers))


class EndTest(Case):
    def test_write_that_waits_when_the_storage_is_told_to_end_is_stored_and_answered(self):
        with self.serve(*python("-m", "leanstorage")) as process, ThreadPoolExecutor(1) as pool:
            self.assertEqual(self.request("POST", "/classes/Foo", {"n": 0}).status_code, 201)
            with contextlib.closing(sqlite3.connect(Path(self.data, "leanstorage.db"), isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                answer = pool.submit(self.request, "POST", "/classes/Foo", {"n": 1})
                time.sleep(0.5)
                process.terminate()
                time.sleep(0.5)
                other.execute("COMMIT")
            self.assertEqual(answer.result().status_code, 201)
            self.assertEqual(process.wait(10), 0)
        with self.serve(*python("-m", "leanstorage")):
            self.assertEqual(len(self.request("GET", "/classes/Foo").json()["results"]), 2)

    def test_storage_told_to_end_as_soon_as_it_listens_ends_cleanly(self):
        for _ in range(3):
            with self.serve(*python("-m", "leanstorage")) as process:
                process.terminate()
                self.assertEqual(process.wait(10), 0)
                self.assertNotIn(b"Traceback", process.stdout.read() or b"")


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


class RealDiskTest(Case):
    """On a file system of its own, as nothing else fills up or turns read-only the way a disk does."""

    def setUp(self):
        super().setUp()
        self.disk = Path(self.data, "disk")
        self.disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", self.disk], capture_output=True)
        if mounted.returncode:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.disk], check=True)
        self.data = str(self.disk)

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.disk], check=True)

    def create(self, number, size=20_000):
        return self.request("POST", "/classes/Disk", {"number": number, "text": "x" * size})

    def ids(self):
        return {row["objectId"] for row in self.request("GET", "/classes/Disk?limit=1000&keys=number").json()["results"]}

    @takes_long
    def test_disk_that_fills_up_refuses_clearly_and_service_resumes_when_there_is_room(self):
        with self.serve(*python("-m", "leanstorage")):
            answers = [self.create(number) for number in range(200)]
            stored = {response.json()["objectId"] for response in answers if response.status_code == 201}
            self.assertEqual({response.status_code for response in answers}, {201, 503})
            self.assertEqual(self.ids(), stored)
            token = self.request("POST", "/fileTokens", {"name": "a.bin"})
            if token.status_code == 201:
                self.assertEqual(requests.put(token.json()["upload_url"], data=bytes(3 << 20), timeout=15).status_code, 503)
            self.remount("size=20m")
            after = self.create(-1)
            self.assertEqual(after.status_code, 201, after.text)
            stored.add(after.json()["objectId"])
            self.assertEqual(self.ids(), stored)
            self.assertEqual(os.listdir(Path(self.data, "files")), [])
        with self.serve(*python("-m", "leanstorage")):
            self.assertEqual(self.ids(), stored)

    def test_disk_that_turns_read_only_refuses_writes_and_service_resumes(self):
        with self.serve(*python("-m", "leanstorage")):
            stored = {self.create(number, 10).json()["objectId"] for number in range(20)}
            token = self.request("POST", "/fileTokens", {"name": "a.bin"}).json()
        self.remount("ro")
        with self.assertRaises(AssertionError), self.serve(*python("-m", "leanstorage")):
            pass  # it says why it does not start, and does not
        self.remount("rw")
        with self.serve(*python("-m", "leanstorage")):
            real = Path(self.data, "files")
            subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", real], check=True)
            self.assertEqual(requests.put(self.local(token), data=b"x", timeout=15).status_code, 503)
            subprocess.run(["umount", real], check=True)
            self.assertEqual(requests.put(self.local(token), data=b"x", timeout=15).status_code, 200)
            self.assertEqual(self.ids(), stored)

    @unittest.skipUnless(shutil.which("strace"), "strace is not installed: system calls cannot be made to fail")
    def test_database_that_turns_read_only_under_a_running_server_refuses_and_resumes(self):
        calls = "pwrite64,fsync,fdatasync"
        with self.serve(*python("-m", "leanstorage")) as server:
            stored = {self.create(number, 10).json()["objectId"] for number in range(20)}
            command = ["strace", "-f", "-q", "-p", str(server.pid), "-e", f"trace={calls}", "-e", f"inject={calls}:error=EROFS"]
            with subprocess.Popen([*command, "-o", os.devnull]) as tracer:
                status = Path(f"/proc/{server.pid}/status")
                end = time.monotonic() + 10
                while "TracerPid:\t0" in status.read_text() and time.monotonic() < end:
                    time.sleep(0.05)
                answers = [self.create(number, 10) for number in range(10)]
                self.assertEqual({response.status_code for response in answers}, {503})
                self.assertEqual(self.ids(), stored)
                tracer.terminate()
            after = self.create(-1)
            self.assertEqual(after.status_code, 201, after.text)
            self.assertEqual(self.ids(), stored | {after.json()["objectId"]})
        database = Path(self.data, "leanstorage.db")
        with contextlib.closing(sqlite3.connect(database)) as connection:
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchone(), ("ok",))

    def local(self, token):
        return f"http://127.0.0.1:{self.port}/1.1/uploads/" + token["upload_url"].rpartition("/")[2]


class SyncTest(Case):
    @unittest.skipUnless(shutil.which("strace"), "strace is not installed: syncs cannot be counted")
    def test_every_answered_write_was_synced(self):
        log = Path(self.data, "strace.log")
        trace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o", str(log)]
        with self.serve(*trace, *python("-m", "leanstorage")) as process, contextlib.ExitStack() as stack:
            [traced] = psutil.Process(process.pid).children()
            stack.callback(traced.terminate)  # strace holds back a signal of its own until what it traces has ended
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
        given = clean_environment(**{"LEANSTORAGE_DATA": self.data, **environment})
        return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=20)

    def test_server_with_generated_keys_does_not_listen_beyond_loopback(self):
        done = run_here("serve", "--host", "0.0.0.0", "--port", "0", LEANSTORAGE_DATA=self.data)
        self.assertEqual(done.returncode, 1)
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
        self.assertEqual(done.returncode, 2)
        self.assertNotIn("topsecret", done.stderr)

    def test_what_an_operator_can_mend_is_one_line(self):
        keys = dict.fromkeys(("LEANCLOUD_APP_ID", "LEANCLOUD_APP_KEY", "LEANCLOUD_APP_MASTER_KEY", "LEANCLOUD_APP_HOOK_KEY"), "x")
        file = Path(self.data, "file")
        file.write_text("not a database, and nothing can be made in it")
        damaged = f"sqlite:///{file}"
        here = {"LEANSTORAGE_DATA": self.data}
        rows = [
            (1, ["env"], {"LEANSTORAGE_DATA": file / "data"}),
            (1, ["serve", "--port", "0"], {"LEANSTORAGE_DATA": file / "data"}),
            (1, ["serve", "--port", "0"], {"LEANSTORAGE_DATA": file / "data", **keys}),
            (1, ["import", str(file)], {"LEANSTORAGE_DATA": file / "data"}),
            (1, ["import", str(file)], {"LEANSTORAGE_DATA": file / "data", **keys}),
            (1, ["outbox"], {"LEANSTORAGE_DATA": file / "data", **keys}),
            (2, ["outbox", "--database", "foo"], here | keys),
            (2, ["index", "Foo", "--database", "foo"], here | keys),
            (1, ["permissions", "Foo", "--database", damaged], here | keys),
            (1, ["serve", "--port", "0", "--database", damaged], here | keys),
            (1, ["permissions", "Nothing"], here | keys),
            (1, ["index", "Nothing"], here | keys),
            (2, ["serve", "--port", "70000"], here | keys),
            (2, ["env", "--port", "-1"], here | keys),
        ]
        for code, arguments, environment in rows:
            with self.subTest(" ".join(arguments)):
                done = self.start(*arguments, **environment) if arguments[0] == "serve" else run_here(*arguments, **environment)
                self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_new_keys_are_told_of_once_and_not_in_what_a_shell_evaluates(self):
        self.assertIn("there is no", run_here("outbox", LEANSTORAGE_DATA=self.data).stderr)  # it makes none
        first, second = self.start("env"), self.start("env")
        self.assertEqual((first.stdout, second.stderr), (second.stdout, ""))
        self.assertEqual(first.stderr.count("\n"), 1)
        self.assertIn(str(Path(self.data).resolve() / "keys.json"), first.stderr)

    def test_postgresql_without_its_driver_names_what_to_install(self):
        with mock.patch.dict(sys.modules, {"leanstorage.store.postgresql.store": None}):
            with self.assertRaisesRegex(ValueError, "requirements-server.txt"):
                open_store("postgresql://127.0.0.1:1/x")

    def test_damaged_keys_are_named_and_no_new_ones_made(self):
        for text in ("{", "[]", '{"id": "x"}'):
            with self.subTest(text):
                Path(self.data, "keys.json").write_text(text)
                done = run_here("env", LEANSTORAGE_DATA=self.data)
                self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1))
                self.assertIn("keys.json does not hold the four keys", done.stderr)
                self.assertEqual(Path(self.data, "keys.json").read_text(), text)

    def test_keys_are_readable_by_their_owner_alone(self):
        self.assertEqual(self.start("env").returncode, 0)
        self.assertEqual(Path(self.data, "keys.json").stat().st_mode & 0o777, 0o600)


class SettingsTest(Case):
    def test_limits_of_the_command_line_hold(self):
        limits = "--max-body-bytes 2000 --max-upload-bytes 3000 --max-json-depth 10 --query-seconds 0.000001".split()
        with self.serve(*python("-m", "leanstorage"), more=limits):
            self.assertEqual(self.request("POST", "/classes/Foo", {"text": "x" * 3000}).status_code, 413)
            deep = 1
            for _ in range(11):
                deep = [deep]
            self.assertEqual(self.request("POST", "/classes/Foo", {"deep": deep}).status_code, 400)
            self.assertEqual(self.request("POST", "/classes/Foo", {"deep": deep[0][0]}).status_code, 201)
            token = self.request("POST", "/fileTokens", {"name": "a.bin"}).json()
            self.assertEqual(requests.put(token["upload_url"], data=bytes(3001), timeout=15).status_code, 413)
            self.assertEqual(requests.put(token["upload_url"], data=bytes(3000), timeout=15).status_code, 200)
            for _ in range(3):
                requests_of_many = [
                    {"method": "POST", "path": "/1.1/classes/Foo", "body": {"n": n}} for n in range(20)
                ]
                self.assertEqual(self.request("POST", "/batch", {"requests": requests_of_many}).status_code, 200)
            where = json.dumps({"$or": [{"l": {"$all": [n, 30]}} for n in range(300)]})
            found = self.request("GET", "/classes/Foo", params={"where": where})
            self.assertEqual((found.status_code, found.json()["code"]), (400, 124))


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

    def test_call_that_is_made_again_counts_once(self):
        traffic = Traffic()
        self.assertEqual(traffic.count("1.2.3.4", 1), 1)
        traffic.take_back("1.2.3.4")
        traffic.take_back("1.2.3.4")
        self.assertEqual([traffic.count("1.2.3.4", 1), traffic.count("1.2.3.4", 5), traffic.count("1.2.3.5", 1)], [1, 6, 1])
        traffic.take_back("1.2.3.4")
        self.assertEqual(traffic.count("1.2.3.4", 1), 6)

    def test_batch_counts_as_many_calls_as_it_makes(self):
        headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"]}
        body = json.dumps({"requests": [{"method": "GET", "path": "/1.1/date"}] * 6}).encode()
        there = {"REMOTE_ADDR": "8.8.4.4"}
        with mock.patch.object(self.service.options, "max_requests_per_minute", 15):
            statuses = [self.raw("POST", "/1.1/batch", body, headers, **there).status for _ in range(3)]
            self.assertEqual(statuses, [200, 200, 429])
            spared = {**headers, "X-LC-Hook-Key": KEYS["hook_key"]}
            self.assertEqual(self.raw("POST", "/1.1/batch", body, spared, **there).status, 200)

    def test_batch_that_takes_too_long_does_no_more(self):
        ids = [self.make("Late", n=0) for _ in range(3)]  # changes, as creations beside each other are stored as one
        requests = [{"method": "PUT", "path": f"/1.1/classes/Late/{one}", "body": {"n": 1}} for one in ids]
        with mock.patch("leanstorage.resources.batch.time") as clock:
            clock.monotonic.side_effect = [0, 1, batch.BATCH_SECONDS, batch.BATCH_SECONDS + 1]
            answers = self.api("POST", "/batch", {"requests": requests})
        self.assertEqual([list(answer) for answer in answers], [["success"], ["success"], ["error"]])
        self.assertEqual(answers[2]["error"]["code"], 124)
        self.assertEqual([self.get("Late", one)["n"] for one in ids], [1, 1, 0])

    def test_batch_item_that_the_store_has_no_time_for_has_its_code_and_no_traceback(self):
        for error, code in ((QueryTimeout(), 124), (StoreUnavailable("down"), 503)):
            with mock.patch.object(self.service.store, "read", side_effect=error), mock.patch("sys.stderr") as log:
                [item] = batch.run(self.batch([{"method": "GET", "path": "/1.1/classes/_Role"}]))[2].decoded()
            self.assertEqual(item["error"]["code"], code)
            self.assertNotIn("Traceback", repr(log.mock_calls))

    def batch(self, requests):
        return Call(self.service, Caller(), "POST", {}, {"requests": requests}, "")

    @unittest.skipIf(SERVER, "SQLite's own budget")
    def test_query_that_takes_too_long_is_stopped(self):
        self.make("Slow", n=1)

        def seed(transaction):
            from leanstorage.store import Row

            for index in range(2000):
                transaction.insert("Slow", Row(f"i{index}", index, index, None, {"n": index, "l": list(range(20))}))

        self.service.store.write(seed)
        with mock.patch.object(self.service.store, "_query_seconds", 0.01), mock.patch("leanstorage.store.sqlite.store.STEPS", 100):
            self.code(124, "GET", "/classes/Slow", where={"$or": [{"l": {"$all": [n, 30]}} for n in range(50)]})

    @unittest.skipIf(SERVER, "SQLite's own budget")
    def test_patterns_of_many_rows_have_one_budget_together(self):
        for _ in range(12):
            self.make("Patterns", s="a" * 27 + "b")
        began = time.process_time()
        with mock.patch.object(self.service.store, "_query_seconds", 0.3):
            self.code(124, "GET", "/classes/Patterns", where={"s": {"$regex": "(a|aa)+$"}})
        self.assertLess(time.process_time() - began, 1.5)


if __name__ == "__main__":
    unittest.main()
