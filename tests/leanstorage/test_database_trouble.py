"""A PostgreSQL that is restarted, frozen, locked, pooled or newer than we are: a server of the test's own, and real kills."""
import glob
import io
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, suppress
from itertools import product
from pathlib import Path
from unittest import mock

import requests

from leanstorage.store import open_store, StoreUnavailable
from tests.leanstorage.service_support import open_database
from tests.leanstorage.storage_support import Storage
from tests.support import clean_environment, ROOT, free_port, python, running

KEYS = {
    "LEANCLOUD_APP_ID": "appid",
    "LEANCLOUD_APP_KEY": "UtOCzqb67d3sN12Kts4URwy8",
    "LEANCLOUD_APP_MASTER_KEY": "DyJegPlemooo4X1tg94gQkw1",
    "LEANCLOUD_APP_HOOK_KEY": "hookhookhookhookhookhook",
}
HEADERS = {"X-LC-Id": "appid", "X-LC-Key": KEYS["LEANCLOUD_APP_KEY"]}
HAS_POSTGRESQL = os.environ.get("LEANSTORAGE_TEST_POSTGRESQL") and bool(glob.glob("/usr/lib/postgresql/*/bin/postgres")) and (os.getuid() != 0 or shutil.which("su"))


class LayoutTest(unittest.TestCase):
    def test_sqlite_file_of_a_newer_program_is_refused_and_left_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/a.db"
            open_store(url).close()
            with closing(sqlite3.connect(f"{folder}/a.db")) as database:
                database.execute("PRAGMA user_version = 2")
            with self.assertRaisesRegex(ValueError, "layout 2 and this program knows 1"):
                open_store(url)


class HostsTest(unittest.TestCase):
    def test_silent_host_is_tried_last_and_a_lone_one_stays(self):
        try:
            from psycopg.conninfo import conninfo_to_dict

            from leanstorage.store.postgresql.hosts import are_several, with_last
        except ImportError:
            self.skipTest("psycopg is not installed")
        rows = [
            ("postgresql://u:p@a:1,b:2/name?target_session_attrs=read-write", ("a", "1"), "b,a", "2,1"),
            ("postgresql://u:p@a:1,b:2/name", ("b", "2"), "a,b", "1,2"),
            ("postgresql://u:p@a:1,b:2,c:3/name", ("b", "2"), "a,c,b", "1,3,2"),
            ("postgresql://u:p@a,b/name?port=5433", ("a", "5433"), "b,a", "5433,5433"),
            ("postgresql://u:p@a:1,b:2/name", ("z", "1"), "a,b", "1,2"),
            ("postgresql://u:p@a:1/name", ("a", "1"), "a", "1"),
            ("postgresql:///name?host=/run/postgresql", ("/run/postgresql", "5432"), "/run/postgresql", None),
        ]
        for url, silent, hosts, ports in rows:
            with self.subTest(url=url, silent=silent):
                found = conninfo_to_dict(with_last(url, *silent))
                self.assertEqual((found["host"], found.get("port")), (hosts, ports))
                self.assertEqual({**found, "host": "", "port": ""}, {**conninfo_to_dict(url), "host": "", "port": ""})
                self.assertEqual(are_several(url), "," in hosts)


@unittest.skipUnless(HAS_POSTGRESQL, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
class TroubleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="trouble-"))
        cls.folder.chmod(0o755)
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        script = ROOT / "compat" / "postgresql.sh"
        done = subprocess.run(["bash", script, "start", cls.folder / "pg"], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise unittest.SkipTest(f"PostgreSQL does not start: {done.stderr[-200:]}")
        cls.url = done.stdout.strip()
        cls.addClassCleanup(subprocess.run, ["bash", script, "stop", cls.folder / "pg"], capture_output=True)

    def pg_ctl(self, *arguments):
        folder = os.environ.get("POSTGRESQL_BIN") or sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        binary = f"{folder}/pg_ctl"
        options = Path(self.folder, "pg", "data", "postmaster.opts").read_text().split(" ", 1)[1].replace('"', "")
        command = f"{binary} -D {self.folder}/pg/data -w -l {self.folder}/pg/log -o '{options.strip()}' {' '.join(arguments)}"
        command = ["su", "postgres", "-s", "/bin/bash", "-c", command] if os.getuid() == 0 else ["bash", "-c", command]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def serve(self, url=None):
        self.port = free_port()
        arguments = ("-m", "leanstorage", "serve", "--port", str(self.port), "--database", url or self.url)
        return running(python(*arguments), "listens on", LEANSTORAGE_DATA=self.folder / "data", **KEYS)

    def ask(self, method, path, body=None):
        return requests.request(method, f"http://127.0.0.1:{self.port}/1.1{path}", json=body, headers=HEADERS, timeout=30)

    def use_everything(self, number):
        """The status of a sign-up, a log-in, a write, a batch and a query, which need threads and the loop."""
        name = f"user{number}-{time.monotonic_ns()}"
        credentials = {"username": name, "password": "pw"}
        create = {"method": "POST", "path": "/1.1/classes/Thing", "body": {"n": number}}
        calls = (
            ("POST", "/users", credentials),
            ("POST", "/login", credentials),
            ("POST", "/classes/Thing", {"n": number}),
            ("POST", "/batch", {"requests": [create]}),
            ("GET", "/classes/Thing?limit=1", None),
        )
        answers = [self.ask(*call) for call in calls]
        batch = answers[3].json()
        return [answer.status_code for answer in answers[:3]] + ["success" in batch[0] if isinstance(batch, list) else False, answers[4].status_code]

    def used_by(self, clients):
        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(self.use_everything, range(clients)))

    def assert_well_within(self, seconds):
        end = time.monotonic() + seconds
        while (found := self.used_by(12)) != [[201, 200, 201, True, 200]] * 12:
            self.assertLess(time.monotonic(), end, found)

    def test_everything_is_served_again_after_restarts_and_no_connection_is_missing(self):
        with self.serve():
            self.used_by(12)  # the pool is full
            for _ in range(3):
                self.pg_ctl("restart", "-m", "fast")
                self.assert_well_within(10)

    def test_database_that_was_away_for_long_is_found_again_at_once(self):
        with self.serve():
            self.used_by(12)
            self.pg_ctl("stop", "-m", "fast")
            for _ in range(6):
                self.assertEqual(self.ask("POST", "/classes/Thing", {"n": 1}).status_code, 503)
                time.sleep(1)
            self.pg_ctl("start")
            self.assert_well_within(10)

    def test_frozen_database_is_503_in_time_and_used_again_when_it_goes_on(self):
        with self.serve():
            self.used_by(4)
            frozen = [int(pid) for pid in subprocess.run(["pgrep", "-f", f"postgres.*{self.folder}|postgres: postgres"], capture_output=True, text=True).stdout.split()]
            main = int(Path(self.folder, "pg", "data", "postmaster.pid").read_text().split()[0])
            frozen = [pid for pid in frozen if pid == main or parent_of(pid) == main]
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            try:
                start = time.monotonic()
                self.assertEqual(self.ask("POST", "/classes/Thing", {"n": 1}).status_code, 503)
                self.assertLess(time.monotonic() - start, 25)  # a client gives up; without a limit it is for ever
            finally:
                for pid in reversed(frozen):
                    os.kill(pid, signal.SIGCONT)
            self.assert_well_within(15)

    def test_one_silent_connection_makes_all_of_its_age_distrusted(self):
        store = open_store(self.url)
        self.addCleanup(store.close)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: store.read(lambda transaction: transaction.execute("SELECT pg_sleep(0.3)")), range(6)))
        old = [one for one in store._pool._pool]
        self.assertGreater(len(old), 2)
        store._query_seconds = 0.5
        for connection in old:
            connection.wire.answer_seconds = 0.5
            connection.execute("SET statement_timeout = 0")
        with self.assertRaisesRegex(StoreUnavailable, "NoAnswer"):
            store.read(lambda transaction: transaction.execute("SELECT pg_sleep(3)"))
        self.assertTrue(all(connection.closed for connection in old))
        self.assertEqual(store.read(lambda transaction: transaction.execute("SELECT 1")), [(1,)])

    def test_failover_to_a_standby_loses_and_doubles_nothing(self):
        command = python(str(ROOT / "bench" / "failover.py"), "frozen", "stopped")
        done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=180)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("nothing lost, nothing doubled"), 2)

    def test_role_with_few_connections_serves_threads_and_the_loop(self):
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as database:
            database.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 6")
            database.execute("CREATE DATABASE few OWNER few")
        with self.serve(self.url.replace("postgres@", "few@").replace("/postgres", "/few")):
            for _ in range(3):
                self.assertEqual(self.used_by(12), [[201, 200, 201, True, 200]] * 12)

    def test_row_that_somebody_else_holds_is_503_which_clients_try_again(self):
        import psycopg

        with self.serve():
            object_id = self.ask("POST", "/classes/Held", {"n": 1}).json()["objectId"]
            with psycopg.connect(self.url) as holder:
                holder.execute("SELECT 1 FROM objects WHERE id = %s FOR UPDATE", [object_id])
                answer = self.ask("PUT", f"/classes/Held/{object_id}", {"n": 2})
                self.assertEqual(answer.status_code, 503, answer.text)
            self.assertEqual(self.ask("PUT", f"/classes/Held/{object_id}", {"n": 3}).status_code, 200)

    def test_layout_of_a_newer_program_is_refused(self):
        import psycopg

        open_store(self.url).close()
        with psycopg.connect(self.url, autocommit=True) as database:
            database.execute("UPDATE leanstorage_layout SET version = 2")
            try:
                with self.assertRaisesRegex(ValueError, "layout 2 and this program knows 1"):
                    open_store(self.url)
            finally:
                database.execute("UPDATE leanstorage_layout SET version = 1")

    def test_role_that_may_not_do_it_is_told_why(self):
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as database:
            database.execute("CREATE ROLE poor LOGIN CONNECTION LIMIT 20")
            database.execute("CREATE DATABASE closed")
        url = self.url.replace("postgres@", "poor@").replace("/postgres", "/closed")
        with self.assertRaisesRegex(ValueError, "InsufficientPrivilege.*permission denied"):
            open_store(url)

    def test_few_connections_of_a_database_that_others_take_too_serve_threads_and_the_loop(self):
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as database:
            database.execute("CREATE ROLE other LOGIN")
            database.execute("CREATE DATABASE other OWNER other CONNECTION LIMIT 20")  # more than one process wants
        url = self.url.replace("postgres@", "other@").replace("/postgres", "/other")
        with ExitStack() as taken:
            for _ in range(15):
                taken.enter_context(psycopg.connect(url))
            with self.serve(url):
                for _ in range(3):
                    self.assertEqual(self.used_by(12), [[201, 200, 201, True, 200]] * 12)
                with psycopg.connect(self.url, autocommit=True) as database:
                    database.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'other' AND application_name = ''"
                        " AND state = 'idle'"
                    )
                self.assert_well_within(10)

    def test_database_with_fewer_connections_than_a_process_wants_says_so(self):
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as database:
            database.execute("CREATE ROLE small LOGIN")
            database.execute("CREATE DATABASE small OWNER small CONNECTION LIMIT 9")
        with redirect_stderr(io.StringIO()) as said:
            open_store(self.url.replace("postgres@", "small@").replace("/postgres", "/small")).close()
        self.assertIn("the database gives 9 of the 16 connections that each process wants", said.getvalue())
        self.assertIn("(ALTER DATABASE ... CONNECTION LIMIT)", said.getvalue())

    def test_silence_in_the_middle_of_a_long_answer_or_many_rows_is_unavailable_too(self):
        """What goes by the driver's cursors, which have no limit of their own: patterns, and loads of many rows."""
        store = open_store(self.url, query_seconds=0.5)
        self.addCleanup(store.close)

        def sleep(transaction):
            transaction.execute("SET statement_timeout = 0")
            with transaction._cursor() as cursor:
                cursor.execute("SELECT pg_sleep(20)")

        for call in (store.read, store.write):
            with self.subTest(call.__name__), self.assertRaisesRegex(StoreUnavailable, "NoAnswer"):
                call(sleep)
        self.assertEqual(store.read(lambda transaction: transaction.execute("SELECT 1")), [(1,)])

    def test_index_that_cannot_be_made_for_want_of_connections_is_unavailable(self):
        store = open_store(self.url)
        self.addCleanup(store.close)
        store.write(lambda transaction: transaction.save_class("Few", {"columns": {"n": {"type": "Number"}}}))
        with mock.patch.object(store, "_conninfo", self.url.replace("/postgres", "/nowhere")), self.assertRaises(StoreUnavailable):
            store.build_index("Few", ["n"])


@unittest.skipUnless(HAS_POSTGRESQL, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
@unittest.skipUnless(os.environ.get("PGBOUNCER") or shutil.which("pgbouncer"), "pgbouncer is not installed")
class PoolerTest(unittest.TestCase):
    """pgbouncer between us and the server that LEANSTORAGE_TEST_POSTGRESQL names; PGBOUNCER is another version of it."""

    @classmethod
    def setUpClass(cls):
        cls.url, drop = open_database(None)
        cls.addClassCleanup(drop)

    @contextmanager
    def pooler(self, mode, *settings):
        """Its URL."""
        folder = Path(tempfile.mkdtemp(prefix="pooler-"))
        folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        script = ROOT / "compat" / "pgbouncer.sh"
        done = subprocess.run(["bash", script, "start", folder, self.url, mode, *settings], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        try:
            yield done.stdout.strip()
        finally:
            subprocess.run(["bash", script, "stop", folder], check=True, timeout=30)

    @contextmanager
    def others(self, url, count):
        """Clients of the pooler that are never idle for long."""
        import psycopg

        ending = threading.Event()

        def ask():
            with suppress(psycopg.Error), psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
                while not ending.is_set():
                    connection.execute("SELECT count(*) FROM generate_series(1, 2000)")

        with ThreadPoolExecutor(max(1, count)) as pool:
            for _ in range(count):
                pool.submit(ask)
            try:
                yield
            finally:
                ending.set()

    def test_transaction_mode_is_refused_however_many_connections_and_clients_there_are(self):
        tracked = [["max_prepared_statements=100"], ["max_prepared_statements=0"]] if self.knows_tracking() else [[]]
        for mode, size, clients, more in product(["transaction", "statement"], [1, 20], [0, 6], tracked):
            with self.subTest(mode, size=size, clients=clients, more=more):
                with self.pooler(mode, f"default_pool_size={size}", *more) as url, self.others(url, clients):
                    for _ in range(3):
                        with self.assertRaisesRegex(ValueError, "^the database is behind a pooler in transaction mode: use its"):
                            open_store(url)

    @staticmethod
    def knows_tracking():
        """Whether this pgbouncer can keep track of prepared statements, as it can since 1.21."""
        program = os.environ.get("PGBOUNCER", "pgbouncer")
        said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        return tuple(map(int, said.split()[1].split(".")[:2])) >= (1, 21)

    def test_session_mode_with_enough_connections_is_served_without_a_word(self):
        with self.pooler("session", "default_pool_size=40") as url, redirect_stderr(io.StringIO()) as said:
            store = open_store(url)
            self.addCleanup(store.close)
            self.assertEqual(store.read(lambda transaction: transaction.execute("SELECT 1")), [(1,)])
        self.assertEqual(said.getvalue(), "")

    def test_session_mode_with_few_connections_says_so_and_serves_threads_and_the_loop(self):
        with self.pooler("session", "default_pool_size=5") as url, tempfile.TemporaryDirectory() as folder:
            with redirect_stderr(io.StringIO()) as said:
                storage = Storage(folder, database=url)
            try:
                self.assertIn("the pooler gives 5 of the 16 connections that each process wants", said.getvalue())

                def use(number):
                    name = {"username": f"pooled{time.monotonic_ns()}-{number}", "password": "pw"}
                    calls = (("POST", "/users", name), ("POST", "/login", name), ("POST", "/classes/Pooled", {"n": 1}), ("GET", "/classes/Pooled"))
                    return [storage.request(*call)[0] for call in calls]

                with ThreadPoolExecutor(12) as pool:
                    for _ in range(3):
                        self.assertEqual(list(pool.map(use, range(12))), [[201, 200, 201, 200]] * 12)
            finally:
                storage.stop()

    def test_pooler_that_lets_few_clients_in_is_served(self):
        with self.pooler("session", "default_pool_size=20", "max_client_conn=6") as url, redirect_stderr(io.StringIO()) as said:
            store = open_store(url)
            self.addCleanup(store.close)
            self.assertEqual(store.read(lambda transaction: transaction.execute("SELECT 1")), [(1,)])
        self.assertRegex(said.getvalue(), "^the pooler gives [1-6] of the 16 connections that each process wants")

    def test_pooler_without_a_free_connection_is_refused_in_one_line(self):
        import psycopg

        with self.pooler("session", "default_pool_size=1") as url, psycopg.connect(url) as holder:
            holder.execute("SELECT 1")
            with self.assertRaisesRegex(ValueError, r"^the database cannot be opened: PoolTimeout \(it gave no connection in 5 seconds\)$"):
                open_store(url)


def parent_of(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    unittest.main()
