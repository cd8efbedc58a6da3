"""This checkout beside an older one, under one load: python bench/beside.py OLD [--only PART ...] [--rounds N] [--seconds N]

OLD is a folder with the older files (`git archive COMMIT | tar -x -C OLD`). In each round all servers run the same load
in turn, the older first in one round and last in the next. Of each row: medians of the ratios of the rounds, by requests
a second and by the processor's time for one request, which a noisy machine changes less. Above 1 the new one is better.
A list without a cache is asked from an app beside its storage: the processor's time is that of both.
"""
import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.load import load, request  # noqa: E402 after the path is set
from bench.servers import KEYS, cookie_of_new_user  # noqa: E402
from bench.storage import Peer, postgresql  # noqa: E402
from tests.support import free_port, running  # noqa: E402

ROWS = ("get", "query", "update", "create")  # a log-in is the hashing of its password


def seconds_used(process):
    """The processor's time of a process so far, its own and the system's for it."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """One of the two: its processes, the port it listens on, and its loads by row."""

    def __init__(self, processes, port, loads):
        self.processes, self.port, self.loads = processes, port, loads

    def used(self):
        return sum(map(seconds_used, self.processes))

    def measure(self, row, connections, seconds):
        """(requests a second, processor's seconds for one request)."""
        before = self.used()
        found = load(self.port, self.loads[row], connections, seconds, warm_up=0.2)
        if found.failures:
            raise AssertionError(f"{row}: {found.failures} failed")
        # The time includes that of the warm-up, in which as many requests a second were made.
        return found.rate, (self.used() - before) / (found.rate * (seconds + 0.2))


@contextlib.contextmanager
def storage(tree, database, data):
    port = free_port()
    arguments = [sys.executable, "-m", "leanstorage", "serve", "--port", str(port), "--database", database]
    with running(arguments, "listens on", folder=tree, LEANSTORAGE_DATA=str(data), **KEYS) as process:
        peer = Peer("", port, "/1.1", {"X-LC-Id": "bench", "X-LC-Key": "key"})
        peer.fill()
        yield Server([process], port, peer.loads())


@contextlib.contextmanager
def app(tree, data):
    port = free_port()
    environment = {"LEANSTORAGE_DATA": str(data), "LEANCLOUD_APP_ENV": "development", "LEANCLOUD_APP_PORT": str(port)}
    with running([sys.executable, "-W", "ignore", "wsgi.py"], "cache: |listens on|http://", folder=tree, **environment) as process:
        yield Server([process], port, {"client": lambda n: request("GET", "/api/client"), "page": lambda n: request("GET", "/")})


@contextlib.contextmanager
def app_and_storage(tree, data):
    """An app without a cache, and a user with twenty todos."""
    ports = [free_port(), free_port()]
    keys = {**KEYS, "LEANCLOUD_API_SERVER": f"http://127.0.0.1:{ports[0]}", "LEANSTORAGE_DATA": str(data)}
    serve = [sys.executable, "-m", "leanstorage", "serve", "--port", str(ports[0])]
    start = [sys.executable, "-W", "ignore", "wsgi.py"]
    with contextlib.ExitStack() as stack:
        below = stack.enter_context(running(serve, "listens on", folder=tree, **keys))
        environment = {**keys, "LEANCLOUD_APP_ENV": "development", "LEANCLOUD_APP_PORT": str(ports[1])}
        process = stack.enter_context(running(start, "cache: ", folder=tree, **environment))
        cookie = cookie_of_new_user(f"http://127.0.0.1:{ports[1]}")
        asked = request("GET", "/api/todos", {"Cookie": cookie})
        yield Server([process, below], ports[1], {"list": lambda n: asked})


def compared(name, old, new, row, connections, options):
    """Print the row: the ratios of the new one to the old."""
    rates, costs = [], []
    for number in range(options.rounds):
        pair = [old, new] if number % 2 else [new, old]
        found = {server: server.measure(row, connections, options.seconds) for server in pair}
        rates.append(found[new][0] / found[old][0])
        costs.append(found[old][1] / found[new][1])
    spread = f"{min(costs):.2f} to {max(costs):.2f}"
    print(f"| {name}, {row} | {connections} | {statistics.median(rates):.2f} | {statistics.median(costs):.2f} | {spread} |", flush=True)


def sqlite(trees, options):
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beside-")))
        found = [
            stack.enter_context(storage(tree, f"sqlite:///{folder}/{number}.db", folder / str(number)))
            for number, tree in enumerate(trees)
        ]
        for row in ROWS:
            for connections in (16, 64):
                compared("SQLite", *found, row, connections, options)


def on_postgresql(trees, options):
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beside-")))
        base = stack.enter_context(postgresql())
        names = [f"{base}/{name}" for name in ("parse", "lean")]
        found = [
            stack.enter_context(storage(tree, url, folder / str(number))) for number, (tree, url) in enumerate(zip(trees, names, strict=True))
        ]
        for row in ROWS:
            compared("PostgreSQL", *found, row, 16, options)


def apps(trees, options, opened=app, rows=("client", "page")):
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beside-")))
        found = [stack.enter_context(opened(tree, folder / str(number))) for number, tree in enumerate(trees)]
        for row in rows:
            for connections in (16, 64):
                compared("app", *found, row, connections, options)


def lists(trees, options):
    apps(trees, options, app_and_storage, ("list",))


PARTS = {"sqlite": sqlite, "postgresql": on_postgresql, "app": apps, "list": lists}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5)
    options = parser.parse_args()
    print("| | connections | requests/s | processor's time | of it |\n|---|---|---|---|---|")
    for name in options.only:
        PARTS[name]((options.old, str(ROOT)), options)


if __name__ == "__main__":
    main()
