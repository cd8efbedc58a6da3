"""What counting and logging requests costs: python bench/observing.py

The same server three times, in every round: with neither, with --admin, with --admin and --access-log whose lines a file
takes. Small reads and writes on SQLite, where a line weighs most. Medians of the processor time of the server for one
request, and of its ratio to the one with neither: beside it a rate on a machine that others use says little. Others only
add to a time, so the quietest tenth of the rounds is nearest to the truth; it stands at the end of a line.
"""
import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.load import load  # noqa: E402 after the path is set
from bench.servers import KEYS  # noqa: E402
from bench.storage import Peer  # noqa: E402
from tests.support import clean_environment, free_port, until  # noqa: E402

LOADS = ("get", "query", "create")
KINDS = {"off": [], "counted": ["--admin", "0"], "counted and logged": ["--admin", "0", "--access-log"]}


@contextlib.contextmanager
def served(name, folder, more):
    port, output = free_port(), folder / "output"
    folder.mkdir()
    command = [sys.executable, "-m", "leanstorage", "serve", "--port", str(port), *more]
    environment = clean_environment(LEANSTORAGE_DATA=folder / "data", **KEYS, LEANCLOUD_API_SERVER="http://x")
    with open(output, "w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stdin=subprocess.DEVNULL)
        try:
            until(lambda: "listens on" in output.read_text(), 20)
            peer = Peer(name, port, "/1.1", {"X-LC-Id": "bench", "X-LC-Key": "key"})
            peer.pid = process.pid
            yield peer
        finally:
            process.terminate()
            process.wait(10)


def processor_seconds(pid):
    """Of all threads, in nanoseconds' steps: those of /proc/PID/stat are too coarse for a short round."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--load", choices=LOADS, action="append", help="what to ask for (default: each of them)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        peers = [stack.enter_context(served(name, folder / str(n), more)) for n, (name, more) in enumerate(KINDS.items())]
        for peer in peers:
            peer.fill()
        ratios = {}
        for round in range(options.rounds):
            for what in options.load or LOADS:
                costs = {}
                for peer in peers[round % 3 :] + peers[: round % 3]:  # whoever is first finds another machine
                    before = processor_seconds(peer.pid)
                    result = load(peer.port, peer.loads()[what], 16, options.seconds, warm_up=0)
                    costs[peer.name] = (processor_seconds(peer.pid) - before) / (result.rate * options.seconds), result.rate
                for name, (cost, rate) in costs.items():
                    ratios.setdefault((what, name), []).append((cost, cost / costs["off"][0], rate))
    quiet = {key: statistics.quantiles([cost for cost, *_ in found], n=10)[0] for key, found in ratios.items()}
    for (what, name), found in sorted(ratios.items()):
        cost, ratio, rate = (statistics.median(column) for column in zip(*found))
        least = quiet[what, name]
        print(f"{what:8} {name:20} {cost * 1e6:7.1f} us {ratio:6.3f}x {rate:7.0f}/s, quiet {least * 1e6:7.1f} us {least / quiet[what, 'off']:6.3f}x")


if __name__ == "__main__":
    main()
