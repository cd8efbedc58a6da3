"""Start and memory of `python wsgi.py` with nothing configured: python bench/footprint.py [--soak SECONDS]

The time until `GET /` is answered, the memory of all its processes when idle; with --soak, memory under a steady load
of logins, writes and lists, every tenth of the time. Needs psutil.
"""
import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.load import load, request  # noqa: E402 after the path is set
from bench.table import median  # noqa: E402
from tests.support import clean_environment, free_port, running  # noqa: E402


def memory(pid):
    """MiB of a process and its children that are theirs alone, and that are resident."""
    parent = psutil.Process(pid)
    found = [process.memory_full_info() for process in (parent, *parent.children(recursive=True))]
    return sum(info.uss for info in found) / 2**20, sum(info.rss for info in found) / 2**20


def start():
    """(seconds until the page is answered, MiB of its own, MiB resident) of a new app."""
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        environment = clean_environment(LEANSTORAGE_DATA=data, LEANCLOUD_APP_PORT=port)
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "wsgi.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        try:
            while True:
                with contextlib.suppress(requests.ConnectionError):
                    requests.get(f"http://127.0.0.1:{port}/", timeout=5).raise_for_status()
                    break
                time.sleep(0.005)
            seconds = time.perf_counter() - began
            time.sleep(2)
            return seconds, *memory(process.pid)
        finally:
            process.terminate()
            process.wait(10)


def soak(seconds):
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        environment = {"LEANSTORAGE_DATA": data, "LEANCLOUD_APP_PORT": port}
        with running([sys.executable, "-W", "ignore", "wsgi.py"], "cache: ", **environment) as process:
            with requests.Session() as visitor:
                url = f"http://127.0.0.1:{port}"
                visitor.post(f"{url}/api/users", json={"username": "soak", "password": "secret"}).raise_for_status()
                todo = visitor.post(f"{url}/api/todos", json={"content": "soak"}).json()["id"]
                cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
            headers = {"Cookie": cookie, "Content-Type": "application/json"}
            patch = request("PATCH", f"/api/todos/{todo}", headers, b'{"done": true}')
            calls = [request("GET", "/api/todos", headers)] * 4 + [patch, request("GET", "/")]
            results = []
            worker = threading.Thread(
                target=lambda: results.append(load(port, lambda n: calls[n % len(calls)], 8, seconds, 0))
            )
            worker.start()
            print("\n| after s | MiB of its own | resident |\n|---|---|---|")
            began = time.monotonic()
            for part in range(11):
                time.sleep(max(0.0, began + max(5, part * seconds / 10 - 1) - time.monotonic()))
                own, resident = memory(process.pid)
                print(f"| {time.monotonic() - began:.0f} | {own:.1f} | {resident:.1f} |", flush=True)
            worker.join()
            print(f"\n{results[0].rate * seconds:.0f} requests, {results[0].failures} failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS")
    options = parser.parse_args()
    found = [start() for _ in range(5)]
    seconds, own, resident = (median(values) for values in zip(*found))
    print(f"answers after {seconds:.2f} s; idle with {own:.0f} MiB of its own, {resident:.0f} MiB resident, Redis included")
    if options.soak:
        soak(options.soak)


if __name__ == "__main__":
    main()
