"""Two worker processes beside one, of the app and of leanstorage on PostgreSQL: python bench/processes.py --postgresql URL [--wrk FILE]

The load comes from wrk (Debian's package `wrk`), which takes a tenth of a core: bench/load.py takes as much as a server,
and would have one of two cores. Each server runs in each round; medians of the rounds are shown. PostgreSQL and Redis
share the cores.
"""
import argparse
import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import requests

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.servers import KEYS, cookie_of_new_user, embedded_redis  # noqa: E402 after the path is set
from tests.support import free_port, running  # noqa: E402

KEY_HEADERS = {"X-LC-Id": KEYS["LEANCLOUD_APP_ID"], "X-LC-Key": KEYS["LEANCLOUD_APP_KEY"]}
RATE = re.compile(r"Requests/sec: *([0-9.]+)")


def load(wrk, port, path, headers, connections, seconds):
    """Answers a second; raise RuntimeError if one was no 2xx or did not come."""
    options = [f"-H{name}: {value}" for name, value in headers.items()]
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}", *options, f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return float(RATE.search(said).group(1))


def apps(stack, data):
    """{what: [(port, path, headers) of one process, of two]} of the app."""
    storage, keys = free_port(), {**KEYS, "LEANCLOUD_APP_ENV": "development"}
    stack.enter_context(
        running([sys.executable, "-m", "leanstorage", "serve", "--port", str(storage)], "listens on", LEANSTORAGE_DATA=data / "app", **KEYS)
    )
    keys |= {"LEANCLOUD_API_SERVER": f"http://127.0.0.1:{storage}", "SESSION_SECRET": "bench" * 8, "LEANSTORAGE_DATA": data}
    keys["REDIS_URL_bench"] = stack.enter_context(embedded_redis(data))
    ports = [free_port(), free_port()]
    for number, port in enumerate(ports, 1):
        command = [sys.executable, "-W", "ignore", "wsgi.py"]
        stack.enter_context(running(command, "cache: ", LEANCLOUD_APP_PORT=port, LEANCLOUD_AVAILABLE_CPUS=number, **keys))
    cookie = {"Cookie": cookie_of_new_user(f"http://127.0.0.1:{ports[0]}")}
    return {
        "app, /api/client": [(port, "/api/client", {}) for port in ports],
        "app, cached list": [(port, "/api/todos", cookie) for port in ports],
    }


def storages(stack, data, url):
    """The same of leanstorage."""
    ports = [free_port(), free_port()]
    for number, port in enumerate(ports, 1):
        command = [sys.executable, "-m", "leanstorage", "serve", "--port", str(port), "--database", url, "--processes", str(number)]
        stack.enter_context(running(command, "listens on", LEANSTORAGE_DATA=data / "storage", **KEYS))
    classes = f"http://127.0.0.1:{ports[0]}/1.1/classes/Item"
    for number in range(200):
        made = requests.post(classes, json={"group": number % 10, "text": "row " * 20}, headers=KEY_HEADERS)
        made.raise_for_status()
    where = quote('{"group":3}')
    paths = {"get": f"/{made.json()['objectId']}", "query of 20 rows": f"?where={where}&order=-createdAt&limit=20"}
    return {
        f"leanstorage, {name}": [(port, f"/1.1/classes/Item{path}", KEY_HEADERS) for port in ports] for name, path in paths.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgresql", metavar="URL", required=True)
    parser.add_argument("--wrk", default=shutil.which("wrk"), help="the program, if it is not on the PATH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    if not options.wrk:
        parser.error("there is no wrk on the PATH: apt-get install wrk, or --wrk")
    with contextlib.ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        targets = {**apps(stack, data), **storages(stack, data, options.postgresql)}
        rates = {what: ([], []) for what in targets}
        for _ in range(options.rounds):
            for what, both in targets.items():
                for target, found in zip(both, rates[what], strict=True):
                    found.append(load(options.wrk, *target, options.connections, options.seconds))
    print("| request | one process | two | ratio | of it |\n|---|---|---|---|---|")
    for what, (one, two) in rates.items():
        ratios = [after / before for before, after in zip(one, two, strict=True)]
        print(
            f"| {what} | {statistics.median(one):,.0f}/s | {statistics.median(two):,.0f}/s "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
