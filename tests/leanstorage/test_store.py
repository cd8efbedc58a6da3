import contextlib
import shutil
import sqlite3
import stat
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from unittest import mock

try:
    import psycopg
except ImportError:  # the app needs none
    psycopg = None

from leanstorage.store import Condition, Group, Query, QueryTimeout, Stale, StoreUnavailable, open_store
from leanstorage.store.sqlite import store as sqlite_store
from leanstorage.store.sqlite.store import SqliteStore
from tests.leanstorage import service_support
from tests.leanstorage.store_contract import StoreContract, row
from tests.support import until


class SqliteTest(StoreContract, unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.store = SqliteStore(self.folder / "x.db")
        self.addCleanup(self.store.close)

    def test_file_is_its_owners_alone(self):
        self.assertEqual(stat.S_IMODE((self.folder / "x.db").stat().st_mode), 0o600)

    def test_every_connection_syncs_fully_to_a_write_ahead_log(self):
        for connection in (self.store._writer, self.store._connect()):
            self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (2,))
            self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
        connection.close()

    def test_group_of_the_loop_waits_for_no_writer(self):
        begun, ended = threading.Event(), threading.Event()

        def slow(_):
            begun.set()
            ended.wait(30)

        with ThreadPoolExecutor(2) as pool:
            writing = pool.submit(self.write, slow)
            begun.wait(30)
            asked = pool.submit(self.store.open_group, 1)
            try:
                self.assertIsNone(asked.result(10))
            finally:
                ended.set()
                writing.result(30)
                if group := asked.result(30):
                    group.commit()

    def test_transaction_that_a_full_disk_rolls_back_keeps_none_of_its_works(self):
        self.fill("Foo")

        def full(transaction):
            transaction.connection.execute("ROLLBACK")  # as SQLite itself does then
            raise StoreUnavailable("database or disk is full")

        group = self.store.open_group(1)
        group.begin()
        group.run(lambda transaction: transaction.insert("Foo", row("a")))
        group.end(True)
        group.begin()
        with self.assertRaises(StoreUnavailable):
            group.run(full)
        with self.assertRaises(StoreUnavailable):
            group.end(False)
        with self.assertRaises(StoreUnavailable):
            group.begin()
        with self.assertRaises(StoreUnavailable):
            group.commit()
        self.assertEqual(self.ids("Foo"), [])
        with self.assertRaises(StoreUnavailable):
            self.write(full)
        self.write(lambda transaction: transaction.insert("Foo", row("b")))
        self.assertEqual(self.ids("Foo"), ["b"])

    def test_works_waiting_behind_one_that_a_full_disk_rolls_back_are_refused_and_not_kept(self):
        self.fill("Foo")
        jobs = []

        def full(transaction):
            transaction.connection.execute("ROLLBACK")
            raise StoreUnavailable("database or disk is full")

        def run(work):
            try:
                self.write(work)
                jobs.append("kept")
            except StoreUnavailable:
                jobs.append("refused")

        works = [full, *(lambda transaction, name=name: transaction.insert("Foo", row(name)) for name in "abc")]
        with self.store._turn:  # so that they all wait, and are then committed together
            threads = [threading.Thread(target=run, args=[work]) for work in works]
            for thread in threads:
                thread.start()
                time.sleep(0.05)
        for thread in threads:
            thread.join()
        self.assertEqual(len(self.ids("Foo")), jobs.count("kept"))
        self.assertGreaterEqual(jobs.count("refused"), 1)

    def test_works_that_wait_while_another_process_holds_the_file_are_all_refused_after_one_wait(self):
        self.fill("Foo")
        self.store._writer.execute("PRAGMA busy_timeout = 200")
        begun, refused, lock = [], [], threading.Lock()
        real = sqlite_store._execute

        def noting(connection, text, params=()):
            begun.extend([text] if text == "BEGIN IMMEDIATE" else [])
            return real(connection, text, params)

        def write(name):
            try:
                self.write(lambda transaction: transaction.insert("Foo", row(name)))
            except StoreUnavailable:
                with lock:
                    refused.append(name)

        with closing(sqlite3.connect(self.folder / "x.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with mock.patch.object(sqlite_store, "_execute", noting):
                threads = [threading.Thread(target=write, args=[name]) for name in "abcdefgh"]
                with self.store._turn:  # so that they all wait
                    for thread in threads:
                        thread.start()
                    until(lambda: len(self.store._waiting) == len(threads), 10)
                for thread in threads:
                    thread.join()
            other.execute("ROLLBACK")
        self.assertEqual((sorted(refused), len(begun)), (list("abcdefgh"), 1))
        self.assertEqual(self.ids("Foo"), [])
        self.write(lambda transaction: transaction.insert("Foo", row("i")))
        self.assertEqual(self.ids("Foo"), ["i"])

    def test_commit_that_fails_fails_every_work_of_it(self):
        self.fill("Foo")

        class Broken:
            """The writer's connection, whose commits fail."""

            def __init__(self, connection):
                self.connection = connection

            def __getattr__(self, name):
                return getattr(self.connection, name)

            def execute(self, text, *params):
                if text == "COMMIT":
                    raise sqlite3.OperationalError("database or disk is full")
                return self.connection.execute(text, *params)

        with mock.patch.object(self.store, "_writer", Broken(self.store._writer)):
            with self.assertRaises(StoreUnavailable):
                self.write(lambda transaction: transaction.insert("Foo", row("a")))
        self.assertEqual(self.ids("Foo"), [])
        self.write(lambda transaction: transaction.insert("Foo", row("b")))
        self.assertEqual(self.ids("Foo"), ["b"])


    def test_connections_for_reading_are_kept_up_to_a_number(self):
        def nested(depth):
            return self.read(lambda transaction: nested(depth - 1) if depth else None)

        for depth, kept in ((0, 1), (1, 2), (4, 3)):
            with mock.patch.object(sqlite_store, "IDLE_READERS", 3):
                nested(depth)
            self.assertEqual(len(self.store._readers), kept)
        self.store.close()
        self.assertEqual(len(self.store._readers), 0)

    def test_connection_that_keeps_large_statements_is_closed(self):
        """Python keeps the last 128 of a connection, prepared: nothing else frees the megabytes that they may take."""
        self.fill("Foo", row("a", 1))

        def find(transaction, key="n", times=1):
            return len(transaction.find(Query("Foo", Group("and", (Condition("eq", (key,), 1),) * times))))

        def in_group(work):
            group = self.store.open_group(1)
            group.begin()
            group.run(work)
            group.end(True)
            group.commit()

        ways = (
            (self.store.read, lambda: self.store._readers[-1]),
            (self.store.write, lambda: self.store._writer),
            (in_group, lambda: self.store._group_writer),
        )
        with mock.patch.object(sqlite_store, "LONG_CHARACTERS", 1000), mock.patch.object(sqlite_store, "MAX_LONG_CHARACTERS", 12_000):
            for run, used in ways:
                with self.subTest(run.__name__):
                    run(lambda transaction: transaction.class_names())
                    before = used()
                    for _ in range(40):  # they are short, or the same
                        run(find)
                        run(lambda transaction: find(transaction, times=60))
                        self.assertIs(used(), before)
                    for number in range(5):
                        run(lambda transaction: find(transaction, f"m{number}", times=60))  # noqa: B023
                    run(lambda transaction: transaction.class_names())
                    self.assertIsNot(used(), before)
                    self.assertRaises(sqlite3.ProgrammingError, before.execute, "SELECT 1")
                    self.assertEqual(self.store.read(find), 1)

    def test_long_statement_of_a_query_that_comes_again_is_not_remembered(self):
        self.fill("Foo", row("a", 1))
        self.write(lambda transaction: transaction.save_class("Foo", {"columns": {"n": {"type": "Number"}}}))
        for times, kept in ((1, 1), (300, 1), (2, 2)):
            query = Query("Foo", Group("and", (Condition("eq", ("n",), 1),) * times), comes_again=True)
            for _ in range(2):
                self.assertEqual(len(self.read(lambda transaction: transaction.find(query))), 1)  # noqa: B023
            self.assertEqual(len({kept[0].where for kept in self.store._seen.statements.values()}), kept)

    def test_quick_reads_are_bounded_in_rows_and_bytes(self):
        self.fill("Foo", *(row(f"a{n}", n, created=n) for n in range(3)))
        size = sum(len(one.text) for one in self.read(lambda transaction: transaction.find(Query("Foo"))))
        for limits, is_refused in (
            ({"QUICK_ROWS": 3}, False),
            ({"QUICK_ROWS": 2}, True),
            ({"QUICK_BYTES": size}, False),
            ({"QUICK_BYTES": size - 1}, True),
        ):
            with self.subTest(limits), mock.patch.multiple(sqlite_store, **limits):
                find = lambda transaction: transaction.find(Query("Foo"))  # noqa: E731
                if is_refused:
                    with self.assertRaises(QueryTimeout):
                        self.store.read(find, 1)
                else:
                    self.assertEqual(len(self.store.read(find, 1)), 3)
                self.assertEqual(len(self.store.read(lambda transaction: transaction.class_names(), 1)), 1)
        pattern = Query("Foo", Condition("regex", ("text",), ("a", 0)))
        with self.assertRaises(QueryTimeout):
            self.store.read(lambda transaction: transaction.find(pattern), 1)
        self.assertEqual(self.read(lambda transaction: transaction.find(pattern)), [])

    def test_errors_of_the_database_are_the_contracts(self):
        for error, expected in (
            (sqlite3.DatabaseError("file is not a database"), StoreUnavailable),
            (sqlite3.OperationalError("interrupted"), QueryTimeout),
            (sqlite3.OperationalError("user-defined function raised exception"), QueryTimeout),
            *((sqlite3.OperationalError(f"it is {word}"), StoreUnavailable) for word in ("locked", "busy", "full", "disk I/O", "unable to open", "readonly")),
            (sqlite3.OperationalError("no such column"), sqlite3.OperationalError),
            (sqlite3.IntegrityError("locked"), sqlite3.IntegrityError),
            (ValueError("locked"), ValueError),
        ):
            with self.subTest(error=error), self.assertRaises(expected) as caught:
                with sqlite_store._translated:
                    raise error
            self.assertIs(type(caught.exception), expected)

    def test_pattern_has_the_time_that_the_statement_has_left_and_a_second_at_most(self):
        connection = mock.Mock(end=10.0)
        for now, text, expected in ((0.0, "xab", 1), (9.5, "xab", 0.5), (9.0, "xb", 1), (0.0, 5, None), (0.0, None, None)):
            with self.subTest(now=now, text=text), mock.patch.object(sqlite_store.time, "monotonic", lambda: now), mock.patch.object(sqlite_store.regex, "compile") as made:  # noqa: B023
                made.return_value.search.return_value = object() if text == "xab" else None
                self.assertIs(sqlite_store._search(connection, "a", 0, text), text == "xab")
                if expected:
                    made.return_value.search.assert_called_once_with(text, timeout=expected, concurrent=True)
                else:
                    self.assertFalse(made.called)
        with mock.patch.object(sqlite_store.time, "monotonic", lambda: 10.0), self.assertRaises(TimeoutError):
            sqlite_store._search(connection, "a", 0, "a")

    def test_statement_has_its_time_and_no_later_one_is_stopped_by_it(self):
        self.fill("Foo", *(row(f"a{n}", n) for n in range(200)))
        many = "SELECT count(*) FROM objects a, objects b, objects c"

        def work(transaction):
            with sqlite_store._time_budget(transaction.connection, -1):
                self.assertLess(transaction.connection.end, time.monotonic())
                with self.assertRaises(QueryTimeout):
                    transaction.execute(many)
            self.assertEqual(transaction.connection.end, float("inf"))
            return transaction.execute(many)

        self.assertEqual(self.read(work), [(200**3,)])

    def test_so_many_works_are_committed_together(self):
        commits, real = [], sqlite_store._execute

        def noting(connection, text, params=()):
            commits.extend([text] if text == "COMMIT" else [])
            return real(connection, text, params)

        jobs = [sqlite_store._Job(lambda transaction, name=name: transaction.put_record("k", name, 1)) for name in "abc"]
        self.store._waiting.extend(jobs)
        with mock.patch.object(sqlite_store, "MAX_TOGETHER", 3), mock.patch.object(sqlite_store, "_execute", noting):
            self.store._commit_waiting()
            self.assertEqual((len(commits), [job.is_done for job in jobs]), (1, [True] * 3))
            self.store._waiting.extend(sqlite_store._Job(lambda transaction: None) for _ in range(4))
            self.store._commit_waiting()
            self.assertEqual(len(self.store._waiting), 1)
            self.store._commit_waiting()
        self.assertEqual((len(commits), len(self.read(lambda transaction: transaction.records("k")))), (3, 3))

    def test_group_is_not_opened_while_somebody_waits_and_its_turn_ends_with_it(self):
        job = sqlite_store._Job(lambda transaction: None)
        self.store._waiting.append(job)
        self.assertIsNone(self.store.open_group(1))
        self.store._waiting.clear()
        for _ in range(2):
            group = self.store.open_group(1)
            self.assertIsNone(self.store.open_group(1))
            for is_kept in (True, False):
                group.begin()
                group.run(lambda transaction: transaction.put_record("g", str(is_kept), 1))  # noqa: B023
                group.end(is_kept)
            group.commit()
        self.assertEqual(self.read(lambda transaction: transaction.records("g")), [("True", 1)])
        with closing(sqlite3.connect(self.folder / "x.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assertIsNone(self.store.open_group(1))
            other.execute("ROLLBACK")
        self.write(lambda transaction: transaction.put_record("g", "later", 1))

    def test_snapshot_sees_what_its_first_read_saw_and_looks_at_a_class_once(self):
        def look(transaction):
            transaction.class_info("Foo")
            return transaction.get("Foo", "a").updated, len(transaction.get_many("Foo", "ab"))

        self.fill("Foo", row("a", created=1))
        self.read(look)  # from here on the class is known
        snapshot = self.store.open_snapshot(1)
        self.write(lambda transaction: transaction.insert("Foo", row("b")))
        self.assertEqual(snapshot.run(look), (1, 2))  # it begins with its first read
        self.write(lambda transaction: transaction.update("Foo", row("a", created=2)))
        self.write(lambda transaction: transaction.delete("Foo", "b", 3))
        with mock.patch.object(sqlite_store, "_execute", mock.Mock(side_effect=sqlite_store._execute)) as executed:
            self.assertEqual(snapshot.run(look), (1, 2))
        self.assertFalse([one for one in executed.call_args_list if "FROM classes" in one.args[1]])
        snapshot.close()
        self.assertEqual(self.read(look), (2, 1))
        for taken in (1, 1):  # its connection is one for others again
            self.assertEqual(len(self.store._readers), taken)
            snapshot = self.store.open_snapshot(1)
            self.assertEqual(snapshot.run(look), (2, 1))
            snapshot.close()

    def test_snapshot_that_an_error_has_ended_begins_again_and_believes_nothing_of_before(self):
        def look(transaction):
            return transaction.class_info("Foo")["permissions"], transaction.get("Foo", "a").updated

        self.fill("Foo", row("a", created=1))
        self.read(look)
        snapshot = self.store.open_snapshot(1)
        self.assertEqual(snapshot.run(look), ({}, 1))

        def failing(transaction):
            transaction.connection.execute("ROLLBACK")  # as SQLite itself does when it cannot read
            raise StoreUnavailable("disk I/O error")

        self.assertRaises(StoreUnavailable, snapshot.run, failing)
        with closing(SqliteStore(self.folder / "x.db")) as other:  # another process
            other.write(lambda transaction: transaction.save_class("Foo", {**transaction.class_info("Foo", lock=True), "permissions": {"get": {}}}))
        self.assertRaises(Stale, snapshot.run, look)
        snapshot.run(lambda transaction: transaction.connection.execute("ROLLBACK"))
        snapshot.close()
        self.assertEqual((len(self.store._readers), self.read(look)), (1, ({"get": {}}, 1)))

    def test_connection_of_a_snapshot_that_cannot_be_ended_is_not_used_again(self):
        snapshot = self.store.open_snapshot(1)
        snapshot.run(lambda transaction: transaction.last_seq())
        connection, snapshot._connection = snapshot._connection, mock.Mock(in_transaction=True, execute=mock.Mock(side_effect=sqlite3.OperationalError))
        snapshot.close()
        snapshot._connection.close.assert_called_once_with()
        self.assertEqual(len(self.store._readers), 0)
        connection.close()

    def test_file_that_is_gone_or_replaced_is_not_written_to(self):
        path = self.folder / "x.db"
        for change, text in ((lambda: path.rename(self.folder / "y.db"), "is gone: put it back"), (lambda: path.write_bytes(b""), "was replaced: start again")):
            change()
            for call in (lambda: self.read(lambda transaction: None), lambda: self.write(lambda transaction: None)):
                with self.subTest(text), self.assertRaisesRegex(StoreUnavailable, text):
                    call()
            self.assertIsNone(self.store.open_group(1))
            self.assertRaisesRegex(StoreUnavailable, text, self.store.open_snapshot, 1)
        path.unlink()
        (self.folder / "y.db").rename(path)
        self.write(lambda transaction: None)

    def test_bulk_work_has_a_larger_cache_and_maps_no_file(self):
        def settings(store):
            return [store._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("cache_size", "mmap_size", "wal_autocheckpoint")]

        self.assertEqual(settings(self.store), [-2000, 256 << 20, 1000])
        with closing(SqliteStore(self.folder / "deep" / "bulk.db", bulk=True)) as store:
            self.assertEqual(settings(store), [-24_000, 0, 8000])


@unittest.skipUnless(service_support.SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
class PostgresqlTest(StoreContract, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        url, drop = service_support.open_database(None)
        cls.addClassCleanup(drop)
        cls.store = open_store(url)
        cls.addClassCleanup(cls.store.close)
        cls.url = url

    def change(self, object_id, more=lambda transaction: None):
        def work(transaction):
            found = transaction.get("Late", object_id, lock=True)
            found.body["n"] += 1
            transaction.update("Late", found)
            more(transaction)

        self.store.write(work)

    def refuse(self, when, code):
        """Have the database refuse updates of objects of the class Late, `when` and with the error `code`."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CREATE SEQUENCE IF NOT EXISTS tries")
            connection.execute("ALTER SEQUENCE tries RESTART")
            connection.execute(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF NEW.class = 'Late' AND {when} THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$"
            )
            connection.execute("CREATE OR REPLACE TRIGGER refuse BEFORE UPDATE ON objects FOR EACH ROW EXECUTE FUNCTION refuse()")
        self.addCleanup(self.allow)

    def allow(self):
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP TRIGGER IF EXISTS refuse ON objects")

    def number(self, object_id):
        return self.store.read(lambda transaction: transaction.get("Late", object_id)).body["n"]

    def test_read_leaves_no_transaction_open(self):
        store = open_store(self.url)
        self.addCleanup(store.close)
        look = lambda transaction: transaction.record("a", "b")  # noqa: E731
        for call, work in ((store.read, look), (store.write, look), (store.read, look), (store.write, lambda transaction: None), (store.read, look)):
            call(work)
            with store._pool.connection() as connection:
                self.assertEqual(connection.info.transaction_status, psycopg.pq.TransactionStatus.IDLE)
        with contextlib.closing(store.lend(1, 1)) as connection:
            store.read_on(connection, lambda transaction: transaction.record("a", "b"))
            self.assertEqual(connection.info.transaction_status, psycopg.pq.TransactionStatus.IDLE)

    def test_database_is_opened_beside_a_writer_that_holds_its_tables(self):
        with psycopg.connect(self.url) as writer:
            writer.execute("INSERT INTO records (kind, key, value) VALUES ('a', 'b', '1')")
            store = open_store(self.url)  # would wait for the writer, if it asked for the indexes again
            self.addCleanup(store.close)
            self.assertIsNone(store.read(lambda transaction: transaction.record("a", "b")))
            writer.execute("DROP INDEX records_expires")
        open_store(self.url).close()
        with psycopg.connect(self.url) as looker:
            self.assertIsNotNone(looker.execute("SELECT to_regclass('records_expires')").fetchone()[0])

    def test_last_statement_that_fails_with_the_commit_keeps_nothing_and_the_next_write_works(self):
        self.fill("Late", row("a", 0))
        for code, error in (("22012", psycopg.errors.DivisionByZero), ("57014", QueryTimeout)):
            with self.subTest(code):
                self.refuse("NEW.id = 'a'", code)
                with self.assertRaises(error):
                    self.change("a")
                alone = self.store.read(lambda transaction: transaction.get("Late", "a"))
                with self.assertRaises(error):  # with nothing before it in its transaction
                    self.store.write(lambda transaction: transaction.update("Late", alone))  # noqa: B023 it runs at once
                self.allow()
                self.assertEqual(self.number("a"), 0)
        for _ in range(20):  # so each connection of the pool
            self.change("a")
        self.assertEqual(self.number("a"), 20)

    def test_last_statement_that_met_another_writer_is_tried_again_with_the_whole_write(self):
        self.fill("Late", row("b", 0))
        for code in ("40P01", "40001"):  # a deadlock, a conflict
            with self.subTest(code):
                self.refuse("nextval('tries') < 3", code)
                before = self.number("b")
                self.change("b")
                self.assertEqual(self.number("b"), before + 1)

    def test_update_is_seen_by_what_comes_after_it_in_its_transaction(self):
        self.fill("Late", row("c", 0))
        seen = []
        self.change("c", lambda transaction: seen.append(transaction.get("Late", "c").body["n"]))
        self.assertEqual((seen, self.number("c")), ([1], 1))

    def test_connection_lost_before_the_commit_is_unavailable_and_nothing_is_done_twice(self):
        self.fill("Late", row("d", 0))

        def lose(transaction):
            [(pid,)] = transaction.execute("SELECT pg_backend_pid()")
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        with self.assertRaises(StoreUnavailable):
            self.change("d", lose)
        self.assertEqual(self.number("d"), 0)
        self.change("d")
        self.assertEqual(self.number("d"), 1)


class OpenTest(unittest.TestCase):
    def test_unknown_url_is_refused(self):
        for url in ("mysql://x", "sqlite:x", "/tmp/x", ""):
            with self.assertRaises(ValueError):
                open_store(url)

    def test_database_that_cannot_be_reached_is_refused_without_its_password(self):
        is_short = mock.patch("leanstorage.store.postgresql.store.WAIT_SECONDS", 0.5)  # the pool waits, and tries again
        with is_short, self.assertNoLogs("psycopg.pool"), self.assertRaises(ValueError) as caught:
            open_store("postgresql://user:topsecret@127.0.0.1:9/x?connect_timeout=1")
        self.assertIn("Connection refused", str(caught.exception))
        self.assertNotIn("topsecret", str(caught.exception))
