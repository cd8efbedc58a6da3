"""`python bench/crash.py [KILLS] [--processes N --postgresql URL]`: kill -9 under writers; the ledger must equal the store.

Writers create, increment, save conditionally, batch, sign up and upload; each notes what was answered in a ledger of
its own, outside of the server. The server is killed at a random moment and started again; then every answered write
must be there, no write may be there twice, the database must be sound, and every visible file must be whole.
With several processes on one PostgreSQL every request goes to another one, the killed one is any of them, and now and
then it is a connection that the database ends instead.
Prints one line per round and the totals; exit code 1 when anything was lost.
"""
import argparse
import hashlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent
WRITERS = 6


class Ledger:
    """What the server has answered: the only truth that survives it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.created, self.users, self.files = {}, {}, {}
        self.counter_answered = self.counter_unknown = 0
        self.stock_taken = self.stock_unknown = 0


class Servers:
    """Server processes on one database and one folder of files; `url` is that of any of them."""

    def __init__(self, data, count, database):
        self.data, self.database = data, database
        self.ports = [free_port() for _ in range(count)]
        self.processes = [None] * count

    @property
    def url(self):
        return random.choice(self.urls())

    def urls(self):
        return [f"http://127.0.0.1:{port}/1.1" for port in self.ports]

    def start(self):
        """Start those that do not run."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LEANCLOUD_")}
        for index, port in enumerate(self.ports):
            if self.processes[index] is not None:
                continue
            command = [sys.executable, "-m", "leanstorage", "serve", "--port", str(port)]
            process = subprocess.Popen(
                command + (["--database", self.database] if self.database else []),
                cwd=ROOT,
                env={**environment, "LEANSTORAGE_DATA": self.data, "PYTHONWARNINGS": "ignore"},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            if b"listens" not in process.stdout.readline():
                raise SystemExit("the server did not start")
            self.processes[index] = process
        keys = json.loads(Path(self.data, "keys.json").read_text())
        self.headers = {"X-LC-Id": keys["id"], "X-LC-Key": keys["master_key"] + ",master"}

    def kill(self, index=None):
        """Kill one of them, or now and then a connection to PostgreSQL."""
        if self.database and index is None and random.random() < 0.3:
            import psycopg

            with psycopg.connect(self.database, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 3"
                )
            return
        index = random.randrange(len(self.processes)) if index is None else index
        process, self.processes[index] = self.processes[index], None
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def writer(server, ledger, shared, ending, seed):
    rng = random.Random(seed)
    session = requests.Session()
    session.headers.update(server.headers)
    number = 0
    while not ending.is_set():
        number += 1
        name = f"{seed}-{number}"
        try:
            act = rng.choice((create, create, increment, take, batch, sign_up, upload))
            act(server, ledger, shared, session, name)
        except requests.RequestException:
            if ending.is_set():
                break
            time.sleep(0.01)
    session.close()


def create(server, ledger, shared, session, name):
    answer = session.post(f"{server.url}/classes/Ledger", json={"name": name}, timeout=10)
    if answer.status_code == 201:
        with ledger.lock:
            ledger.created[answer.json()["objectId"]] = name


def increment(server, ledger, shared, session, name):
    with ledger.lock:
        ledger.counter_unknown += 1
    body = {"n": {"__op": "Increment", "amount": 1}, "names": {"__op": "AddUnique", "objects": [name]}}
    answer = session.put(f"{server.url}/classes/Counter/{shared['counter']}", json=body, timeout=10)
    if answer.status_code == 200:
        with ledger.lock:
            ledger.counter_unknown -= 1
            ledger.counter_answered += 1


def take(server, ledger, shared, session, name):
    with ledger.lock:
        ledger.stock_unknown += 1
    answer = session.put(
        f"{server.url}/classes/Counter/{shared['stock']}",
        json={"n": {"__op": "Increment", "amount": -1}},
        params={"where": '{"n":{"$gt":0}}'},
        timeout=10,
    )
    if answer.status_code in (200, 400):
        with ledger.lock:
            ledger.stock_unknown -= 1
            ledger.stock_taken += answer.status_code == 200


def batch(server, ledger, shared, session, name):
    items = [{"method": "POST", "path": "/1.1/classes/Ledger", "body": {"name": f"{name}-{i}"}} for i in range(3)]
    answer = session.post(f"{server.url}/batch", json={"requests": items}, timeout=10)
    if answer.status_code == 200:
        with ledger.lock:
            for index, item in enumerate(answer.json()):
                if "success" in item:  # the database may be lost amid a batch
                    ledger.created[item["success"]["objectId"]] = f"{name}-{index}"


def sign_up(server, ledger, shared, session, name):
    answer = session.post(f"{server.url}/users", json={"username": name, "password": "pw"}, timeout=10)
    if answer.status_code == 201:
        with ledger.lock:
            ledger.users[answer.json()["sessionToken"]] = name


def upload(server, ledger, shared, session, name):
    data = name.encode() * 5000
    token = session.post(f"{server.url}/fileTokens", json={"name": f"{name}.txt"}, timeout=10)
    if token.status_code == 201 and requests.put(token.json()["upload_url"], data=data, timeout=10).status_code == 200:
        with ledger.lock:
            ledger.files[token.json()["objectId"]] = hashlib.md5(data).hexdigest()


def check(server, ledger, shared):
    """What of the ledger is not in the store, in words."""
    with requests.Session() as session:
        session.headers.update(server.headers)
        problems = [
            *check_objects(server, ledger, shared, session),
            *check_users(server, ledger, session),
            *check_files(server, ledger, session),
        ]
    if not server.database:
        with sqlite3.connect(f"file:{server.data}/leanstorage.db?mode=ro", uri=True) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                problems.append("the database is damaged")
        connection.close()
    return problems


def scan(server, session, name):
    """Every row of a class."""
    rows, cursor = [], None
    while True:
        params = {"limit": 1000} | ({"cursor": cursor} if cursor else {})
        page = session.get(f"{server.url}/scan/classes/{name}", params=params, timeout=15).json()
        rows += page.get("results", [])
        cursor = page.get("cursor")
        if cursor is None:
            return rows


def check_objects(server, ledger, shared, session):
    found = {row["objectId"]: row["name"] for row in scan(server, session, "Ledger")}
    lost = {object_id: name for object_id, name in ledger.created.items() if found.get(object_id) != name}
    if lost:
        yield f"{len(lost)} created objects are lost"
    if len(set(found.values())) != len(found):
        yield "an object is there twice"
    counter = session.get(f"{server.url}/classes/Counter/{shared['counter']}", timeout=10).json()
    low, high = ledger.counter_answered, ledger.counter_answered + ledger.counter_unknown
    if not low <= counter["n"] <= high or counter["n"] != len(counter.get("names", [])):
        yield f"the counter is {counter['n']}, between {low} and {high} expected"
    stock = session.get(f"{server.url}/classes/Counter/{shared['stock']}", timeout=10).json()["n"]
    taken = shared["full"] - stock
    if not ledger.stock_taken <= taken <= ledger.stock_taken + ledger.stock_unknown or stock < 0:
        yield f"{taken} were taken from the stock, {ledger.stock_taken} answered"


def check_users(server, ledger, session):
    if set(ledger.users.values()) - {row["username"] for row in scan(server, session, "_User")}:
        yield "a user is lost"
    for token, name in random.sample(sorted(ledger.users.items()), min(3, len(ledger.users))):
        for url in server.urls():
            me = session.get(f"{url}/users/me", params={"session_token": token}, timeout=10).json()
            if me.get("username") != name:
                yield "a session is lost"


def check_files(server, ledger, session):
    rows = {row["objectId"]: row for row in scan(server, session, "_File")}
    if set(ledger.files) - set(rows):
        yield "a file is lost"
    base = server.url.removesuffix("/1.1")
    for object_id in random.sample(sorted(rows), min(10, len(rows))):
        data = requests.get(f"{base}/{rows[object_id]['key']}", timeout=10).content
        if data != rows[object_id]["name"].removesuffix(".txt").encode() * 5000:
            yield "a file is not whole"


def main(kills, processes, database):
    ledger, lost = Ledger(), 0
    with tempfile.TemporaryDirectory() as data:
        server = Servers(data, processes, database)
        server.start()
        headers, shared = server.headers, {"full": 100_000}
        for name, value in (("counter", 0), ("stock", shared["full"])):
            made = requests.post(f"{server.url}/classes/Counter", json={"n": value}, headers=headers, timeout=10)
            shared[name] = made.json()["objectId"]
        for kill in range(1, kills + 1):
            ending = threading.Event()
            threads = [
                threading.Thread(target=writer, args=(server, ledger, shared, ending, f"{kill}.{number}"))
                for number in range(WRITERS)
            ]
            for thread in threads:
                thread.start()
            time.sleep(random.uniform(0.05, 0.5))
            server.kill()
            if processes > 1:
                time.sleep(0.1)  # the others go on
            ending.set()
            for thread in threads:
                thread.join()
            server.start()
            if kill % 10 == 0 or kill == kills or kills <= 10:
                problems = check(server, ledger, shared)
                lost += len(problems)
                print(f"{kill} kills: {len(ledger.created)} objects, {len(ledger.users)} users, {len(ledger.files)} files,"
                      f" {ledger.counter_answered} increments: {', '.join(problems) or 'all there'}", flush=True)
        for index in range(processes):
            server.kill(index)
    print(f"{kills} kills, {len(ledger.created) + len(ledger.users) + len(ledger.files) + ledger.counter_answered + ledger.stock_taken}"
          f" acknowledged writes, {lost} problems")
    return 1 if lost else 0


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kills", type=int, nargs="?", default=20)
    options.add_argument("--processes", type=int, default=1)
    options.add_argument("--postgresql", metavar="URL", help="of an empty database")
    options = options.parse_args()
    sys.exit(main(options.kills, options.processes, options.postgresql))
