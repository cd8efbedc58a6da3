"""Backups of a server at work, restored: one consistent cut, and equal to what was there."""
import contextlib
import io
import json
import os
import shutil
import sqlite3
import tempfile
import threading
import unittest
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import requests

from leanstorage.__main__ import main
from leanstorage.operator import backup
from leanstorage.store import open_store
from leanstorage.takeout import migration
from tests.leanstorage.service_support import SERVER, open_database
from tests.processes import KEYS
from tests.support import free_port, python, running, until

HEADERS = {"X-LC-Id": "theid", "X-LC-Key": "thekey"}
WRITERS = 8


class Writer(threading.Thread):
    """Creates numbered objects and files, one after the other, and deletes some files again, until it is stopped.

    `acknowledged` is the number of the last object that the server has confirmed.
    """

    def __init__(self, url, number):
        super().__init__()
        self.url, self.number = url, number
        self.acknowledged, self.error = -1, None
        self.ending = threading.Event()

    def run(self):
        try:
            with requests.Session() as session:
                while not self.ending.is_set():
                    self.write(session, self.acknowledged + 1)
                    self.acknowledged += 1
        except Exception as error:
            self.error = error

    def write(self, session, n):
        def call(method, path, body=None):
            answer = session.request(method, f"{self.url}/1.1{path}", json=body, headers=HEADERS, timeout=30)
            answer.raise_for_status()
            return answer.json()

        if n % 5 == 0:
            token = call("POST", "/fileTokens", {"name": "a.bin", "mime_type": "application/octet-stream", "metaData": {}})
            session.put(token["upload_url"], data=self.content(n), timeout=30).raise_for_status()
            call("POST", "/fileCallback", {"token": token["token"], "result": True})
            if n % 10 == 0:
                call("DELETE", f"/files/{token['objectId']}")
            else:
                call("POST", "/classes/Named", {"writer": self.number, "n": n, "file": token["objectId"]})
        call("POST", "/classes/Numbered", {"writer": self.number, "n": n})

    def content(self, n):
        return f"{self.number}-{n}-".encode() * 1000


class BackupCase(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="backup-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.data, self.backups = self.folder / "data", self.folder / "backups"
        self.database = f"sqlite:///{self.data}/leanstorage.db"

    @staticmethod
    @contextlib.contextmanager
    def serving(data, database):
        port = free_port()
        command = python("-m", "leanstorage", "serve", "--port", str(port), "--database", database)
        with running(command, "listens on", LEANSTORAGE_DATA=data, **KEYS):
            yield f"http://127.0.0.1:{port}"

    def run_command(self, *arguments, data=None, **environment):
        """(exit code, stdout, stderr) of a command."""
        output, errors = io.StringIO(), io.StringIO()
        given = {**os.environ, **KEYS, "LEANSTORAGE_DATA": str(data or self.data), **environment}
        with redirect_stdout(output), redirect_stderr(errors):
            code = main([str(argument) for argument in arguments], given)
        return code, output.getvalue(), errors.getvalue()

    def backup(self, *more, database=None):
        code, output, errors = self.run_command("backup", self.backups, "--database", database or self.database, *more)
        self.assertEqual(code, 0, errors)
        return output

    def restore(self, *more, database=None, data=None):
        """The folder that the newest backup was restored to."""
        data = data or Path(tempfile.mkdtemp(dir=self.folder)) / "restored"
        database = database or f"sqlite:///{data}/leanstorage.db"
        code, output, errors = self.run_command("restore", self.backups, "--database", database, *more, data=data)
        self.assertEqual(code, 0, output + errors)
        self.assertIn("equal to the backup", output.splitlines()[-1])
        return data

    def refused(self, *arguments, **more):
        code, _, errors = self.run_command(*arguments, **more)
        self.assertEqual((code, errors.count("\n")), (1, 1), errors)
        return errors

    def totals(self, database):
        with closing(open_store(database)) as store:
            return dict(migration.totals(store, migration.Progress(io.StringIO())))

    @staticmethod
    def fill(url):
        with requests.Session() as session:
            for n in range(20):
                Writer(url, 0).write(session, n)
        requests.post(f"{url}/1.1/users", json={"username": "alice", "password": "pw"}, headers=HEADERS, timeout=10).raise_for_status()


class WritersTest(BackupCase):
    def check_under_writers(self, source, target):
        with self.serving(self.data, source) as url:
            self.fill(url)
            writers = [Writer(url, number) for number in range(1, WRITERS + 1)]
            for writer in writers:
                writer.start()
            until(lambda: all(writer.acknowledged > 10 or writer.error for writer in writers), 60)
            before = [writer.acknowledged for writer in writers]
            self.backup(database=source)
            after = [writer.acknowledged for writer in writers]
            self.backup(database=source)
            for writer in writers:
                writer.ending.set()
                writer.join()
            self.assertEqual([writer.error for writer in writers], [None] * WRITERS)
            first = backup.listed(self.backups)[0]
            data = self.restore("--name", first, database=target)
            self.check_cut(data, target or f"sqlite:///{data}/leanstorage.db", before, after, writers)
            self.backup(database=source)  # at rest: what is restored of it is what is there
            expected = self.totals(source)
        return expected

    def check_cut(self, data, database, before, after, writers):
        """Each writer's objects are there up to one moment, without a gap; and each file that is named, with its bytes."""
        with self.serving(data, database) as url:

            def find(name, where):
                query = {"where": json.dumps(where), "limit": 1000, "order": "n"}
                return requests.get(f"{url}/1.1/classes/{name}", params=query, headers=HEADERS, timeout=30).json()["results"]

            named = 0
            for writer, least, most in zip(writers, before, after):
                numbers = [row["n"] for row in find("Numbered", {"writer": writer.number})]
                self.assertEqual(numbers, list(range(len(numbers))))
                self.assertTrue(least + 1 <= len(numbers) <= most + 2, (least, len(numbers), most))
                for row in find("Named", {"writer": writer.number}):
                    file = requests.get(f"{url}/1.1/files/{row['file']}", headers=HEADERS, timeout=30).json()
                    self.assertEqual(requests.get(file["url"], timeout=30).content, writer.content(row["n"]))
                    named += 1
            self.assertGreater(named, 0)
            files = requests.get(f"{url}/1.1/files", params={"limit": 1000}, headers=HEADERS, timeout=30).json()["results"]
            for file in files:
                self.assertEqual(requests.head(file["url"], timeout=30).status_code, 200)

    def test_backup_under_eight_writers_is_one_cut_and_restores_to_an_equal_store(self):
        expected = self.check_under_writers(self.database, None)
        data = self.restore()
        self.assertEqual(self.totals(f"sqlite:///{data}/leanstorage.db"), expected)
        self.assertEqual(
            {file.name: file.read_bytes() for file in (data / "files").iterdir()},
            {file.name: file.read_bytes() for file in (self.data / "files").iterdir() if not file.name.startswith(".")},
        )

    @unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
    def test_one_answer_of_postgresql_may_take_longer_than_a_client_would_wait(self):
        url, drop = open_database(self.folder)
        self.addCleanup(drop)
        store = open_store(url)
        self.addCleanup(store.close)
        with store.snapshot(60) as snapshot:  # a lock or a query is given up after 3 seconds elsewhere
            self.assertEqual(snapshot.read(lambda transaction: transaction.execute("SELECT 1 FROM pg_sleep(3.5)")), [(1,)])

    @unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
    def test_database_that_goes_amid_a_backup_is_said_in_one_line(self):
        import psycopg

        url, drop = open_database(self.folder)
        self.addCleanup(drop)
        copy = migration.copy

        def lose(source, *arguments):
            with psycopg.connect(SERVER, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.rsplit("/", 1)[1]])
            return copy(source, *arguments)

        with mock.patch.object(migration, "copy", lose):
            self.assertIn("the database is not available", self.refused("backup", self.backups, "--database", url))

    @unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
    def test_backup_of_postgresql_under_eight_writers_restores_to_either_database(self):
        source, drop = open_database(self.folder)
        self.addCleanup(drop)
        first, drop_first = open_database(self.folder)
        self.addCleanup(drop_first)
        second, drop_second = open_database(self.folder)
        self.addCleanup(drop_second)
        expected = self.check_under_writers(source, first)
        self.restore(database=second)
        self.assertEqual(self.totals(second), expected)
        data = self.restore()
        self.assertEqual(self.totals(f"sqlite:///{data}/leanstorage.db"), expected)


class FolderTest(BackupCase):
    """Each on a copy of one folder, which a server has left."""

    @classmethod
    def setUpClass(cls):
        cls.left = Path(tempfile.mkdtemp(prefix="backup-"))
        cls.addClassCleanup(shutil.rmtree, cls.left)
        with cls.serving(cls.left, f"sqlite:///{cls.left}/leanstorage.db") as url:
            cls.fill(url)

    def setUp(self):
        super().setUp()
        shutil.copytree(self.left, self.data)

    def test_files_are_copied_once_and_old_backups_go_with_what_only_they_had(self):
        self.backup()
        stored = self.backups / "files"
        first = {file: file.stat().st_mtime_ns for file in stored.glob("*/*")}
        self.assertEqual(len(first), 2)  # of n = 5 and 15; those of 0 and 10 were deleted
        [gone] = [file for file in (self.data / "files").iterdir() if b"0-5-" in file.read_bytes()]
        with closing(sqlite3.connect(self.data / "leanstorage.db")) as database:
            database.execute("DELETE FROM objects WHERE class = '_File' AND body LIKE ?", [f'%"{gone.name}"%'])
            database.commit()
        self.backup()
        self.assertEqual({file: file.stat().st_mtime_ns for file in stored.glob("*/*")}, first)
        self.assertIn("1 old backups removed", self.backup("--keep", "2"))
        self.assertEqual(len(backup.listed(self.backups)), 2)
        self.assertEqual(len(list(stored.glob("*/*"))), 1)
        self.restore()

    def test_backup_is_for_its_owner_alone_and_has_keys_only_if_asked(self):
        self.backup()
        [name] = backup.listed(self.backups)
        self.assertEqual({file.name for file in (self.backups / name).iterdir()}, {"leanstorage.db", "manifest.json"})
        for place in (self.backups, *self.backups.rglob("*")):
            self.assertEqual(place.stat().st_mode & 0o077, 0, place)
        self.assertIn("the backup has no keys", self.refused("restore", self.backups, "--keys", data=self.folder / "new"))
        self.assertFalse((self.folder / "new").exists())
        self.assertNotIn("themaster", self.backup("--keys"))
        data = self.restore("--keys")
        self.assertEqual(json.loads((data / "keys.json").read_text())["master_key"], "themaster")
        with self.serving(data, f"sqlite:///{data}/leanstorage.db") as url:
            answer = requests.post(f"{url}/1.1/login", json={"username": "alice", "password": "pw"}, headers=HEADERS, timeout=10)
            self.assertEqual(answer.status_code, 200)

    def test_damage_is_found_before_anything_is_restored(self):
        self.backup()
        [name] = backup.listed(self.backups)
        self.assertEqual(self.run_command("restore", self.backups, "--check")[0], 0)
        victims = (self.backups / name / "leanstorage.db", next((self.backups / "files").glob("*/*")))
        for victim in victims:
            whole = victim.read_bytes()
            for damage in (whole[:-1], whole[:100] + b"\xff" + whole[101:], None):
                with self.subTest(victim=victim.name, damage=damage is not None):
                    victim.unlink()
                    if damage is not None:
                        victim.write_bytes(damage)
                    for more in ([], ["--check"]):
                        self.assertIn("missing or damaged", self.refused("restore", self.backups, *more, data=self.folder / "new"))
                    self.assertFalse((self.folder / "new").exists())
                    victim.write_bytes(whole)
        self.restore()

    def test_nothing_that_is_there_is_written_over(self):
        self.backup("--keys")
        before = self.totals(self.database)
        self.assertIn("is there already", self.refused("restore", self.backups, "--files", self.folder / "elsewhere"))
        self.assertIn("is not empty", self.refused("restore", self.backups, "--database", f"sqlite:///{self.folder}/x.db"))
        (self.folder / "kept").mkdir()
        (self.folder / "kept" / "keys.json").write_text("{}")
        self.assertIn("keys are never replaced", self.refused("restore", self.backups, "--keys", data=self.folder / "kept"))
        self.assertEqual(self.totals(self.database), before)

    def test_backup_that_is_cut_off_leaves_none_and_the_next_one_removes_its_rest(self):
        self.backup()
        with mock.patch.object(backup, "_named", side_effect=OSError("the disk is full")):
            self.assertIn("the disk is full", self.refused("backup", self.backups))
        self.assertEqual(len(backup.listed(self.backups)), 1)
        left = self.backups / ".20200101T000000Z"
        left.mkdir()
        (left / "leanstorage.db").write_bytes(b"half")
        self.backup()
        self.assertFalse(left.exists())
        self.assertEqual(len(backup.listed(self.backups)), 2)

    def test_second_backup_at_the_same_time_and_what_is_no_backup_are_one_line(self):
        with backup._alone(self._made(self.backups)):
            self.assertIn("another backup", self.refused("backup", self.backups))
        self.assertIn("there is no backup in", self.refused("restore", self.backups, data=self.folder / "new"))
        self.backup()
        self.assertIn("there is no backup nonsense", self.refused("restore", self.backups, "--name", "nonsense", data=self.folder / "new"))
        missing = f"sqlite:///{self.folder}/none.db"
        self.assertIn("there is no", self.refused("backup", self.backups, "--database", missing))
        self.assertFalse((self.folder / "none.db").exists())

    def test_damaged_database_is_told_instead_of_backed_up(self):
        path = self.data / "leanstorage.db"
        with open(path, "r+b") as file:
            file.seek(3 * 4096)
            file.write(os.urandom(4096 * 2))
        errors = self.refused("backup", self.backups)
        self.assertIn("cannot go on", errors)
        self.assertEqual(backup.listed(self.backups), [])

    def _made(self, folder):
        folder.mkdir(exist_ok=True)
        return folder


if __name__ == "__main__":
    unittest.main()
