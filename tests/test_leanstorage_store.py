import shutil
import stat
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

from leanstorage.store import StoreUnavailable, open_store
from leanstorage.store.sqlite import SqliteStore
from tests import service_support
from tests.store_contract import StoreContract, row


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
                    import sqlite3

                    raise sqlite3.OperationalError("database or disk is full")
                return self.connection.execute(text, *params)

        with mock.patch.object(self.store, "_writer", Broken(self.store._writer)):
            with self.assertRaises(StoreUnavailable):
                self.write(lambda transaction: transaction.insert("Foo", row("a")))
        self.assertEqual(self.ids("Foo"), [])
        self.write(lambda transaction: transaction.insert("Foo", row("b")))
        self.assertEqual(self.ids("Foo"), ["b"])


@unittest.skipUnless(service_support.SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
class PostgresqlTest(StoreContract, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        url, drop = service_support.open_database(None)
        cls.addClassCleanup(drop)
        cls.store = open_store(url)
        cls.addClassCleanup(cls.store.close)


class OpenTest(unittest.TestCase):
    def test_unknown_url_is_refused(self):
        for url in ("mysql://x", "sqlite:x", "/tmp/x", ""):
            with self.assertRaises(ValueError):
                open_store(url)

    def test_database_that_cannot_be_reached_is_refused_without_its_password(self):
        with self.assertLogs("psycopg.pool") as logged, self.assertRaises(ValueError) as caught:
            open_store("postgresql://user:topsecret@127.0.0.1:9/x?connect_timeout=1")
        self.assertNotIn("topsecret", str(caught.exception) + "".join(logged.output))
