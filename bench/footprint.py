"""Start and memory of `python wsgi.py` with nothing configured: python bench/footprint.py [--soak SECONDS] [--storage DB]

The time until `GET /` is answered, the memory of all its processes when idle; with --soak, memory under a steady load
of logins, writes and lists, every tenth of the time. With --storage the parts of `leanstorage serve` instead, before and
after a load of gets, queries, updates and creates in a class `Post` (see queries_million.py) of this SQLite file; what
is written to the file stays there. Needs psutil.
"""
import argparse
import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

import psutil
import requests

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.load import load, request  # noqa: E402 after the path is set
from bench.servers import KEYS  # noqa: E402
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


def parts(pid):
    """{part: MiB} of a process: the file of the database, of which every byte is on disk too; code; all else, its own."""
    found = dict.fromkeys(("own", "code, shared with others", "mapped database"), 0)
    where = "own"
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first:  # `address perms offset device inode path`
            path = rest[4] if len(rest) > 4 else ""
            where = "mapped database" if ".db" in path else "code, shared with others" if path.startswith("/") else "own"
        elif first == "Pss:":
            found[where] += int(rest[0]) / 1024
    return found


def storage(database, seconds=10):
    port = free_port()
    rows = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    with contextlib.closing(rows):
        ids = [one for one, in rows.execute("SELECT id FROM objects WHERE class = 'Post' LIMIT 20000")]
    headers = {"X-LC-Id": KEYS["LEANCLOUD_APP_ID"], "X-LC-Key": KEYS["LEANCLOUD_APP_KEY"], "Content-Type": "application/json"}
    calls = (
        lambda n: request("GET", f"/1.1/classes/Post/{ids[n * 7919 % len(ids)]}", headers),
        lambda n: request("GET", f'/1.1/classes/Post?where={quote(json.dumps({"number": n % 20000}))}&limit=20', headers),
        lambda n: request("GET", f'/1.1/classes/Post?where={quote(json.dumps({"score": {"$gt": n * 7919 % 990_000}}))}&order=score&limit=1000', headers),
        lambda n: request("PUT", f"/1.1/classes/Post/{ids[n * 7919 % len(ids)]}", headers, b'{"n": {"__op": "Increment", "amount": 1}}'),
        lambda n: request("POST", "/1.1/classes/Made", headers, b'{"n": 1, "text": "row row row"}'),
        lambda n: request("GET", "/1.1/classes/Post?limit=0&count=1", headers),
    )
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "leanstorage", "serve", "--port", str(port), "--database", f"sqlite:///{database}"]
        with running(command, "listens on", LEANSTORAGE_DATA=data, **KEYS, LEANCLOUD_API_SERVER="http://x") as process:
            states = {"idle": parts(process.pid)}
            for number in range(3):
                for call in calls:
                    load(port, call, 16, seconds / len(calls), 0)
                states[f"after round {number + 1}"] = parts(process.pid)
    print("\n| MiB | " + " | ".join(states) + " |\n|---" + "|---" * len(states) + "|")
    for part in next(iter(states.values())):
        print(f"| {part} | " + " | ".join(f"{state[part]:.0f}" for state in states.values()) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--storage", metavar="DB", help="a SQLite file with a class Post")
    options = parser.parse_args()
    if options.storage:
        storage(options.storage)
        return
    found = [start() for _ in range(5)]
    seconds, own, resident = (median(values) for values in zip(*found))
    print(f"answers after {seconds:.2f} s; idle with {own:.0f} MiB of its own, {resident:.0f} MiB resident, Redis included")
    if options.soak:
        soak(options.soak)


if __name__ == "__main__":
    main()
