"""`python bench/failover.py [SCENARIO...]`: a PostgreSQL that fails under writers; the ledger must equal the database.

Four storage processes share one database. Writers create and increment; each notes what was answered in a ledger outside.
Scenarios: `stopped` and `frozen` end the primary of a synchronous pair and promote the standby; `restarted` restarts the
database every few seconds; `terminated` ends connections at random; `full` fills the tablespace, which is a small tmpfs,
and empties it again; `pooler` restarts pgbouncer in session mode. Then every answered write must be there once, and every
process must still be the one that was started, and take writes again. Needs PostgreSQL's programs; `full` needs root.
Prints one line a scenario; exit code 1 when anything was lost or doubled, or nobody came back.
"""
import argparse
import contextlib
import glob
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import requests

ROOT = Path(__file__).resolve().parent.parent
PROCESSES, WRITERS = 4, 8
AS_OTHER = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
BIN = Path(os.environ.get("POSTGRESQL_BIN") or max(glob.glob("/usr/lib/postgresql/*/bin"), default="/usr/bin"))
SETTINGS = {"fsync": "off", "max_connections": "300", "listen_addresses": "127.0.0.1", "wal_level": "replica", "max_wal_senders": "4"}


class Postgresql:
    """A server of our own in a folder; its process is a child of this one."""

    def __init__(self, folder, name):
        self.data, self.log, self.port = folder / name, folder / f"{name}.log", free_port()
        self.process, self.socket = None, folder

    def make(self):
        run(BIN / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")

    def copy(self, primary):
        """Make a standby of a primary."""
        source = f"postgresql://postgres@127.0.0.1:{primary.port}/postgres?application_name=standby"
        run(BIN / "pg_basebackup", "-d", source, "-D", self.data, "-R", "-X", "stream", "-c", "fast")

    def start(self):
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        command = [BIN / "postgres", "-D", self.data, "-p", str(self.port), "-k", self.socket, *options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **AS_OTHER)
        self.until_it_answers()

    def until_it_answers(self, seconds=30):
        end = time.monotonic() + seconds
        while True:
            try:
                return self.run("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def run(self, text, *params):
        with psycopg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/postgres", autocommit=True, connect_timeout=2) as connection:
            cursor = connection.execute(text, params)
            return cursor.fetchall() if cursor.description else None

    def stop(self, how=signal.SIGINT):
        """SIGINT is PostgreSQL's fast end, SIGQUIT the one without a word to anybody."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def freeze(self):
        for pid in [self.process.pid, *children(self.process.pid)]:
            os.kill(pid, signal.SIGSTOP)

    def kill(self):
        if self.process is not None:
            for pid in [self.process.pid, *children(self.process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Storage:
    """The storage's processes, and the ledger of those who write to them."""

    def __init__(self, folder, database):
        self.ports, self.lock, self.ending = [free_port() for _ in range(PROCESSES)], threading.Lock(), threading.Event()
        self.created, self.answered, self.unknown, self.refused, self.longest = {}, set(), set(), 0, 0.0
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LEANCLOUD_", "LC_"))}
        self.logs = [folder / f"storage{port}.log" for port in self.ports]
        self.processes = []
        for port, log in zip(self.ports, self.logs):
            command = [sys.executable, "-m", "leanstorage", "serve", "--port", str(port), "--database", database]
            with open(log, "wb") as file:
                given = {**environment, "LEANSTORAGE_DATA": str(folder / "data"), "PYTHONWARNINGS": "ignore"}
                self.processes.append(subprocess.Popen(command, cwd=ROOT, env=given, stdout=file, stderr=file))
            until(lambda log=log: b"listens" in log.read_bytes(), 30)
        keys = json.loads((folder / "data" / "keys.json").read_text())
        self.headers = {"X-LC-Id": keys["id"], "X-LC-Key": keys["master_key"] + ",master"}
        self.counter = self.ask(0, "POST", "/classes/Counter", {"n": 0, "names": []}).json()["objectId"]
        self.threads = [threading.Thread(target=self.write, args=[number], daemon=True) for number in range(WRITERS)]

    def ask(self, index, method, path, body, session=requests):
        return session.request(method, f"http://127.0.0.1:{self.ports[index]}/1.1{path}", json=body, headers=self.headers, timeout=20)

    def write(self, seed):
        chooser, session = random.Random(seed), requests.Session()
        for number in range(10**9):
            if self.ending.is_set():
                return
            name, index, start = f"{seed}-{number}", chooser.randrange(PROCESSES), time.monotonic()
            with self.lock:
                self.unknown.add(name)
            try:
                if chooser.random() < 0.6:
                    answer = self.ask(index, "POST", "/classes/Ledger", {"name": name}, session)
                else:
                    change = {"n": {"__op": "Increment", "amount": 1}, "names": {"__op": "AddUnique", "objects": [name]}}
                    answer = self.ask(index, "PUT", f"/classes/Counter/{self.counter}", change, session)
            except requests.RequestException:
                time.sleep(0.05)
                continue
            finally:
                with self.lock:
                    self.longest = max(self.longest, time.monotonic() - start)
            with self.lock:
                if answer.status_code == 201:
                    self.created[name] = answer.json()["objectId"]
                elif answer.status_code == 200:
                    self.answered.add(name)
                else:
                    self.refused += 1
                    time.sleep(0.02)

    def back(self, since, seconds=60):
        """Seconds from `since` until every process has taken a write again; None when one does not."""
        took = []
        for index in range(PROCESSES):
            while True:
                with contextlib.suppress(requests.RequestException):
                    if self.ask(index, "POST", "/classes/Back", {"at": index}).status_code == 201:
                        took.append(time.monotonic() - since)
                        break
                if time.monotonic() - since > seconds:
                    return None
                time.sleep(0.05)
        return max(took)

    def stop_writing(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(30)

    def wrong(self, database):
        """What is lost, doubled or not as it was answered."""
        rows = database.run("SELECT body ->> 'name', id FROM objects WHERE class = 'Ledger'")
        [(number, names)] = database.run("SELECT (body ->> 'n')::bigint, body -> 'names' FROM objects WHERE id = %s", self.counter)
        ids, twice = dict(rows), len(rows) - len(dict(rows))
        lost = [name for name, object_id in self.created.items() if ids.get(name) != object_id]
        if lost:
            yield f"{len(lost)} answered creations are lost: {lost[:3]}"
        if twice:
            yield f"{twice} creations are there twice"
        if self.answered - set(names):
            yield f"{len(self.answered - set(names))} answered increments are lost"
        if number != len(names) or len(set(names)) != len(names):
            yield f"the counter is {number} after {len(names)} increments"
        strange = (set(ids) | set(names)) - self.unknown
        if strange:
            yield f"{len(strange)} writes are nobody's"
        dead = [process.returncode for process in self.processes if process.poll() is not None]
        if dead:
            yield f"processes ended by themselves: {dead}"
        for log in self.logs:
            if "Traceback" in log.read_text():
                yield f"a traceback: {log.read_text()[-800:]}"

    def close(self):
        self.ending.set()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **AS_OTHER)


def children(pid):
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def until(check, seconds):
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise SystemExit("it did not happen")
        time.sleep(0.05)


# The scenarios: each yields (storage, seconds until all were back, the database that holds the truth). ----------------


def promoted(folder, frozen):
    """The primary of a synchronous pair ends, and the standby is promoted two seconds later."""
    primary, standby = Postgresql(folder, "primary"), Postgresql(folder, "standby")
    try:
        primary.make()
        primary.start()
        standby.copy(primary)
        standby.start()
        primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.run("SELECT pg_reload_conf()")
        until(lambda: primary.run("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"), 20)
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        with writing(folder, f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write") as storage:
            time.sleep(3)
            primary.freeze() if frozen else primary.stop(signal.SIGQUIT)
            time.sleep(2)
            standby.run("SELECT pg_promote()")
            took = storage.back(time.monotonic())
            time.sleep(2)
            yield storage, took, standby
    finally:
        primary.kill()
        standby.kill()


def alone(folder, disturb, url=None):
    """One database, which `disturb(database, storage)` disturbs, and returns the moment when it was well again."""
    database = Postgresql(folder, "alone")
    try:
        database.make()
        database.start()
        with writing(folder, url(database) if url else f"postgresql://postgres@127.0.0.1:{database.port}/postgres") as storage:
            time.sleep(2)
            took = storage.back(disturb(database, storage))
            time.sleep(1)
            yield storage, took, database
    finally:
        database.kill()


@contextlib.contextmanager
def writing(folder, url):
    storage = Storage(folder, url)
    try:
        for thread in storage.threads:
            thread.start()
        yield storage
    finally:
        storage.close()


def restarted(seconds):
    def disturb(database, storage):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            database.stop()
            time.sleep(random.uniform(0, 1))
            database.start()
            well = time.monotonic()
            time.sleep(random.uniform(1, 4))
        return well

    return disturb


def terminated(seconds):
    def disturb(database, storage):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            database.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                "AND backend_type = 'client backend' ORDER BY random() LIMIT 8"
            )
            time.sleep(random.uniform(0.05, 0.5))
        return time.monotonic()

    return disturb


def filled(folder):
    """The objects lie on a small tmpfs, which runs full under the writers; then there is room again."""
    place = folder / "small"

    def disturb(database, storage):
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=True)
        try:
            shutil.chown(place, "postgres", "postgres")
            database.run(f"CREATE TABLESPACE small LOCATION '{place}'")
            database.run("ALTER TABLE objects SET TABLESPACE small")
            database.run("CREATE TABLE ballast (text text) TABLESPACE small")
            with contextlib.suppress(psycopg.errors.DiskFull):
                while True:
                    database.run("INSERT INTO ballast SELECT repeat(md5(random()::text), 50) FROM generate_series(1, 1000)")
            before = storage.refused
            time.sleep(6)
            print(f"  full: {storage.refused - before} writes were refused", flush=True)
            database.run("DROP TABLE ballast")
            database.run("CHECKPOINT")
            well = time.monotonic()
            storage.back(well)
            database.run("ALTER TABLE objects SET TABLESPACE pg_default")
            database.run("DROP TABLESPACE small")
            return well
        finally:
            subprocess.run(["umount", "-l", place], check=True)

    return disturb


def pooled(folder, seconds):
    """pgbouncer in session mode, which is killed and started again."""
    port, poolers = free_port(), []

    def start():
        poolers.append(subprocess.Popen(["pgbouncer", str(folder / "pooler.ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **AS_OTHER))
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10)

    def url(database):
        (folder / "pooler.ini").write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={database.port} user=postgres pool_size=100\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = session\nunix_socket_dir =\n"
            f"logfile = {folder}/pooler.log\n"
        )
        start()
        return f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def disturb(database, storage):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            poolers[-1].send_signal(random.choice((signal.SIGKILL, signal.SIGTERM)))
            poolers[-1].wait()
            time.sleep(random.uniform(0, 1))
            start()
            well = time.monotonic()
            time.sleep(random.uniform(1, 4))
        return well

    def end():
        for pooler in poolers:
            pooler.kill()
            pooler.wait()

    return disturb, url, end


def scenarios(name, folder, seconds):
    if name in ("stopped", "frozen"):
        yield from promoted(folder, name == "frozen")
    elif name == "restarted":
        yield from alone(folder, restarted(seconds))
    elif name == "terminated":
        yield from alone(folder, terminated(seconds))
    elif name == "full":
        yield from alone(folder, filled(folder))
    elif name == "pooler":
        disturb, url, end = pooled(folder, seconds)
        try:
            yield from alone(folder, disturb, url)
        finally:
            end()


def main():
    names = ("stopped", "frozen", "restarted", "terminated", "full", "pooler")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"one of {', '.join(names)} (default: all)")
    parser.add_argument("--seconds", type=float, default=120, help="of disturbance, where it goes on (default: %(default)s)")
    options = parser.parse_args()
    is_wrong = False
    for name in options.scenarios or names:
        folder = Path(tempfile.mkdtemp(prefix="failover-"))
        folder.chmod(0o755)
        if AS_OTHER:
            shutil.chown(folder, "postgres", "postgres")
        try:
            for storage, took, database in scenarios(name, folder, options.seconds):
                storage.stop_writing()
                wrong = [*storage.wrong(database)]
                if took is None:
                    wrong.append("not everybody came back within a minute")
                print(
                    f"{name}: {len(storage.created)} creations and {len(storage.answered)} increments answered, {storage.refused} "
                    f"refused, the slowest answer {storage.longest:.1f} s, all back after {'-' if took is None else f'{took:.1f} s'}: "
                    f"{'; '.join(wrong) or 'nothing lost, nothing doubled'}",
                    flush=True,
                )
                is_wrong = is_wrong or bool(wrong)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
