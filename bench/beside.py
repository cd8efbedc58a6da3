"""This checkout beside an older one, under one load: python bench/beside.py OLD [--rounds N] [--seconds N]

OLD is a folder with the older files (`git archive COMMIT | tar -x -C OLD`). In each round all servers run the same load
in turn, the older first in one round and last in the next. Of each row: medians of the ratios of the rounds, by requests
a second and by the processor's time for one request, which a noisy machine changes less. Above 1 the new one is better.
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
from bench.servers import KEYS  # noqa: E402
from bench.storage import Peer, postgresql  # noqa: E402
from tests.support import free_port, running  # noqa: E402

ROWS = ("get", "query", "update", "create")  # a log-in is the hashing of its password


def seconds_used(process):
    """The processor's time of a process so far, its own and the system's for it."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """One of the two: a process, the port it listens on, and its loads by row."""

    def __init__(self, process, port, loads):
        self.process, self.port, self.loads = process, port, loads

    def measure(self, row, connections, seconds):
        """(requests a second, processor's seconds for one request)."""
        before = seconds_used(self.process)
        found = load(self.port, self.loads[row], connections, seconds, warm_up=0.2)
        if found.failures:
            raise AssertionError(f"{row}: {found.failures} failed")
        # The time includes that of the warm-up, in which as many requests a second were made.
        return found.rate, (seconds_used(self.process) - before) / (found.rate * (seconds + 0.2))


@contextlib.contextmanager
def storage(tree, database, data):
    port = free_port()
    arguments = [sys.executable, "-m", "leanstorage", "serve", "--port", str(port), "--database", database]
    with running(arguments, "listens on", folder=tree, LEANSTORAGE_DATA=str(data), **KEYS) as process:
        peer = Peer("", port, "/1.1", {"X-LC-Id": "bench", "X-LC-Key": "key"})
        peer.fill()
        yield Server(process, port, peer.loads())


@contextlib.contextmanager
def app(tree, data):
    port = free_port()
    environment = {"LEANSTORAGE_DATA": str(data), "LEANCLOUD_APP_ENV": "development", "LEANCLOUD_APP_PORT": str(port)}
    with running([sys.executable, "-W", "ignore", "wsgi.py"], "cache: |listens on|http://", folder=tree, **environment) as process:
        yield Server(process, port, {"client": lambda n: request("GET", "/api/client"), "page": lambda n: request("GET", "/")})


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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5)
    options = parser.parse_args()
    trees = (options.old, str(ROOT))
    print("| | connections | requests/s | processor's time | of it |\n|---|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beside-")))
        sqlite = [
            stack.enter_context(storage(tree, f"sqlite:///{folder}/{number}.db", folder / str(number)))
            for number, tree in enumerate(trees)
        ]
        for row in ROWS:
            for connections in (16, 64):
                compared("SQLite", *sqlite, row, connections, options)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beside-")))
        base = stack.enter_context(postgresql())
        names = [f"{base}/{name}" for name in ("parse", "lean")]
        found = [
            stack.enter_context(storage(tree, url, folder / str(number))) for number, (tree, url) in enumerate(zip(trees, names, strict=True))
        ]
        for row in ROWS:
            compared("PostgreSQL", *found, row, 16, options)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beside-")))
        found = [stack.enter_context(app(tree, folder / str(number))) for number, tree in enumerate(trees)]
        for row in ("client", "page"):
            for connections in (16, 64):
                compared("app", *found, row, connections, options)


if __name__ == "__main__":
    main()
