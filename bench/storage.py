"""leanstorage beside Parse Server, its closest relative, under one load: python bench/storage.py [--parse DIR].

DIR is where `npm install parse-server@8` was run. PostgreSQL is started for the run. Every server is one process; in each
round all of them run the same load in turn, so that a noisy machine is noisy for all; medians of the rounds are shown.
The empty ones are HTTP servers with an application that does nothing: waitress as it ships, and as it is set up here.
"""
import argparse
import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import psycopg
import requests

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.load import load, request  # noqa: E402 after the path is set
from bench.servers import BARE, KEYS  # noqa: E402
from tests.support import clean_environment, free_port, running  # noqa: E402

ROWS = 10_000
GROUPS = 100


class Peer:
    """A server with its headers and the ids of its rows."""

    def __init__(self, name, port, prefix, headers):
        self.name, self.port, self.prefix = name, port, prefix
        self.headers = {**headers, "Content-Type": "application/json"}
        self.ids = []
        self.session = requests.Session()
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=8))

    def call(self, method, path, body=None):
        url = f"http://127.0.0.1:{self.port}{self.prefix}{path}"
        response = self.session.request(method, url, json=body, headers=self.headers, timeout=60)
        response.raise_for_status()
        return response.json()

    def fill(self):
        def make(n):
            return self.call("POST", "/classes/Item", {"group": n % GROUPS, "n": n, "text": f"row number {n} " * 5})

        first = make(0)
        with ThreadPoolExecutor(8) as pool:
            self.ids = [first["objectId"], *(row["objectId"] for row in pool.map(make, range(1, ROWS)))]
        self.call("POST", "/users", {"username": "alice", "password": "secret"})

    def loads(self):
        """{what: function of a number that gives the bytes of a request}."""

        def raw(method, path, body=None):
            data = b"" if body is None else json.dumps(body).encode()
            return request(method, self.prefix + path, self.headers, data)

        counter = itertools.count()
        return {
            "get": lambda n: raw("GET", f"/classes/Item/{self.ids[n * 7919 % ROWS]}"),
            "query": lambda n: raw(
                "GET", f"/classes/Item?where={quote(json.dumps({'group': n % GROUPS}))}&order=-createdAt&limit=20"
            ),
            "update": lambda n: raw(
                "PUT", f"/classes/Item/{self.ids[n * 7919 % ROWS]}", {"n": {"__op": "Increment", "amount": 1}}
            ),
            "create": lambda n: raw("POST", "/classes/Made", {"group": n % GROUPS, "n": next(counter), "text": "row " * 10}),
            "login": lambda n: raw("POST", "/login", {"username": "alice", "password": "secret"}),
        }


@contextlib.contextmanager
def parse_server(folder, database):
    port = free_port()
    given = {"--appId": "bench", "--masterKey": "master", "--databaseURI": database, "--port": port, "--mountPath": "/parse"}
    given |= {"--allowClientClassCreation": "true", "--serverURL": f"http://127.0.0.1:{port}/parse"}
    arguments = ["node", f"{folder}/node_modules/.bin/parse-server", *(str(part) for pair in given.items() for part in pair)]
    with running(arguments, "running on", folder=folder, HOME=str(folder), VERBOSE="0", PARSE_SERVER_LOG_LEVEL="error"):
        yield Peer("Parse Server", port, "/parse", {"X-Parse-Application-Id": "bench"})


@contextlib.contextmanager
def leanstorage(name, database, data):
    port = free_port()
    arguments = [sys.executable, "-m", "leanstorage", "serve", "--port", str(port), "--database", database]
    with running(arguments, "listens on", LEANSTORAGE_DATA=str(data), **KEYS, LEANCLOUD_API_SERVER="http://x"):
        yield Peer(name, port, "/1.1", {"X-LC-Id": "bench", "X-LC-Key": "key"})


def index(peer, database, data):
    if peer.name == "Parse Server":
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute('CREATE INDEX ON "Item" ("group", "createdAt" DESC)')
            connection.execute("ANALYZE")
    else:
        arguments = [sys.executable, "-m", "leanstorage", "index", "Item", "group", "--database", database]
        environment = clean_environment(LEANSTORAGE_DATA=str(data), **KEYS, LEANCLOUD_API_SERVER="http://x")
        subprocess.run(arguments, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def postgresql():
    folder = tempfile.mkdtemp(prefix="bench-pg-")
    os.chmod(folder, 0o755)
    start = [ROOT / "compat" / "postgresql.sh", "start", f"{folder}/pg"]
    try:
        url = subprocess.run(start, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout.strip()
        with psycopg.connect(url, autocommit=True) as connection:
            for name in ("parse", "lean"):
                connection.execute(f"CREATE DATABASE {name}")
        yield url.rsplit("/", 1)[0]
    finally:
        subprocess.run([ROOT / "compat" / "postgresql.sh", "stop", f"{folder}/pg"], stdin=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


def measure(peers, databases, rounds, seconds, connections):
    """{(peer name, what): [Result]}."""
    results = {}

    def run(what, label=None):
        for peer in peers:
            if what in peer.loads():
                result = load(peer.port, peer.loads()[what], connections, seconds)
                results.setdefault((peer.name, label or what), []).append(result)

    for peer in peers:
        if peer.name in databases:
            peer.fill()
    for _ in range(rounds):
        for what in ("get", "query", "update", "create", "login"):
            run(what)
    for peer in peers:
        if peer.name in databases:
            index(peer, *databases[peer.name])
    for _ in range(rounds):
        run("query", "query, indexed")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parse", metavar="DIR")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(postgresql())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        sqlite = f"sqlite:///{folder}/a.db"
        peers = [
            stack.enter_context(leanstorage("leanstorage, SQLite", sqlite, folder / "a")),
            stack.enter_context(leanstorage("leanstorage, PostgreSQL", f"{base}/lean", folder / "b")),
        ]
        databases = {peers[0].name: (sqlite, folder / "a"), peers[1].name: (f"{base}/lean", folder / "b")}
        if options.parse:
            peers.append(stack.enter_context(parse_server(options.parse, f"{base}/parse")))
            databases["Parse Server"] = (f"{base}/parse", None)
        bare = []
        for kind, name in (("waitress", "waitress, empty"), ("ours", "our server, empty")):
            bare.append(Peer(name, free_port(), "", {}))
            bare[-1].loads = lambda: {"get": lambda n: request("GET", "/")}
            stack.enter_context(running([sys.executable, "-c", BARE, str(bare[-1].port), kind], "ready"))
        results = measure([*peers, *bare], databases, options.rounds, options.seconds, options.connections)
    show(results, options.parse)


def show(results, has_parse):
    names = list(dict.fromkeys(name for name, _ in results))
    print(f"{'':16}" + "".join(f"{name:>34}" for name in names))
    for what in dict.fromkeys(what for _, what in results):
        line = f"{what:16}"
        peer = results.get(("Parse Server", what))
        base = statistics.median(result.rate for result in peer) if peer else None
        for name in names:
            found = results.get((name, what))
            if not found:
                line += f"{'':>34}"
                continue
            rates = [result.rate for result in found]
            rate, failures = statistics.median(rates), sum(result.failures for result in found)
            ratio = f"{rate / base:5.2f}x" if base else ""
            p99 = statistics.median(result.p99 for result in found)
            line += f"{rate:9.0f}/s ±{(max(rates) - min(rates)) / 2 / rate:4.0%} {ratio} p99 {p99:4.0f} ms"
            line += f" {failures} failed" if failures else ""
        print(line)


if __name__ == "__main__":
    main()
