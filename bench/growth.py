"""`python bench/growth.py [--sizes 10000,100000,1000000] [--postgresql URL]`: time of requests as a class grows.

Medians of three requests, through the whole service in process, on SQLite and on the PostgreSQL of the URL: get by id,
the newest 20 of those with one of 100 values in an indexed key (so that more match as the class grows), and create.
The last column is the time at the greatest size to that at the smallest.
"""
import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from leanstorage.rules import indexes  # noqa: E402
from leanstorage.rules.call import Options  # noqa: E402
from leanstorage.http.application import create_application, open_service  # noqa: E402
from leanstorage.store import canonical_text, open_store  # noqa: E402

KEYS = {"id": "appid", "key": "key", "master_key": "master", "hook_key": "hook"}
GROUPS = 100
PIECE = 5000  # rows stored at once
ROUNDS = 400
START = 1_700_000_000_000


def body(number):
    return {"group": f"g{number % GROUPS}", "number": number, "text": f"row {number} " * 8, "open": number % 2 == 0}


def fill(url, start, end):
    store = open_store(url, bulk=True)
    for first in range(start, end, PIECE):
        rows = [
            (f"{number:024x}", START + number, START + number, None, canonical_text(body(number)))
            for number in range(first, min(first + PIECE, end))
        ]
        store.write(lambda transaction: transaction.insert_many("Row", rows))  # noqa: B023 it runs at once
    store.close()


def requester(application):
    """A function that makes one request and returns its seconds; raises RuntimeError unless it is answered 200 or 201."""
    headers = {"HTTP_X_LC_ID": KEYS["id"], "HTTP_X_LC_KEY": KEYS["key"], "HTTP_HOST": "bench"}

    def request(method, path, query=None, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        environ = {
            **headers,
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": "/1.1" + path,
            "QUERY_STRING": urlencode(query or {}),
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(data)),
            "SERVER_NAME": "bench",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.input": BytesIO(data),
            "wsgi.errors": sys.stderr,
            "wsgi.url_scheme": "http",
        }
        status = []
        started = time.perf_counter()
        answer = b"".join(application(environ, lambda line, *_: status.append(line)))
        seconds = time.perf_counter() - started
        if status[0][:2] != "20":
            raise RuntimeError(f"{method} {path}: {status[0]} {answer[:200]}")
        return seconds

    return request


def measure(request, size):
    """{operation: median in µs}."""
    where = [json.dumps({"group": f"g{number}"}) for number in range(GROUPS)]
    operations = {
        "get": lambda n: request("GET", f"/classes/Row/{n * 7919 % size:024x}"),
        "query": lambda n: request("GET", "/classes/Row", {"where": where[n % GROUPS], "order": "-createdAt", "limit": 20}),
        "create": lambda n: request("POST", "/classes/Row", None, body(n)),
    }
    result = {}
    for name, operation in operations.items():
        for number in range(100):
            operation(number)
        result[name] = statistics.median(operation(number) for number in range(ROUNDS)) * 1e6
    return result


def run(url, sizes):
    service = open_service(KEYS, url, tempfile.mkdtemp(), None, Options(max_requests_per_minute=0))
    request = requester(create_application(service))
    request("POST", "/classes/Row", None, body(0))
    indexes.create(service.store, "Row", ["group"])
    found, done = {}, 0
    for size in sizes:
        fill(url, done, size)
        if "postgres" in url:  # what its autovacuum does by itself after such a load
            with service.store._connection() as connection:
                connection.execute("VACUUM ANALYZE objects")
        found[size], done = measure(request, size), size
    service.store.close()
    return found


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", default="10000,100000,1000000")
    options.add_argument("--postgresql", metavar="URL", default=os.environ.get("LEANSTORAGE_TEST_POSTGRESQL"))
    options = options.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        urls = [("SQLite", f"sqlite:///{folder}/growth.db")]
        if options.postgresql:
            urls.append(("PostgreSQL", options.postgresql))
        print("| store | request |" + "".join(f" {size:,} |" for size in sizes) + " ratio |")
        print("|---|---|" + "---|" * (len(sizes) + 1))
        worst = 0
        for name, url in urls:
            found = run(url, sizes)
            for operation in ("get", "query", "create"):
                times = [found[size][operation] for size in sizes]
                worst = max(worst, times[-1] / times[0])
                print(f"| {name} | {operation} |" + "".join(f" {t:.0f} µs |" for t in times) + f" {times[-1] / times[0]:.2f} |")
    print(f"worst ratio {worst:.2f}")
    return 0 if worst <= 2 else 1


if __name__ == "__main__":
    sys.exit(main())
