"""`python bench/queries_million.py [--objects 1000000] [--postgresql URL] [--folder DIR] [--program DIR]`: a table of queries.

Objects of 1 KB, half of them private, are stored in SQLite and in the PostgreSQL of the URL. The queries that apps make
are then timed through the whole service in process, without and with the indexes that `leanstorage index` offers for
them: the median of three, after one that is not counted. What takes longer than a query may is "124", an index that
cannot be made is "no such index". In brackets is the processor time of this process and of a PostgreSQL on this machine:
others who use the machine change it less. With --folder the databases stay, and are used again; --program is another checkout
whose code is measured, to compare with.
"""
import argparse
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(sys.argv[sys.argv.index("--program") + 1]).resolve() if "--program" in sys.argv else ROOT))

from leanstorage.http.application import create_application, open_service  # noqa: E402
from leanstorage.rules import indexes  # noqa: E402
from leanstorage.rules.call import Options  # noqa: E402
from leanstorage.store import canonical_text, open_store  # noqa: E402

KEYS = {"id": "appid", "key": "key", "master_key": "master", "hook_key": "hook"}
PIECE = 5000  # rows stored at once
START = 1_700_000_000_000
BOARDS, AUTHORS, NAMES, TAGS = 200, 20_000, 100_000, 2000
FILLER = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore. " * 5
INDEXES = [
    ["flag"], ["score"], ["board"], ["author"], ["name"], ["number"], ["when"], ["at"], ["tags"], ["flag", "score"],
    ["ACL"], ["ACL", "flag"], ["ACL", "score"],
]  # fmt: skip
COLUMNS = {
    "flag": {"type": "Boolean"},
    "score": {"type": "Number"},
    "number": {"type": "Number"},
    "board": {"type": "Pointer", "className": "Board"},
    "author": {"type": "Pointer", "className": "Author"},
    "name": {"type": "String"},
    "filler": {"type": "String"},
    "when": {"type": "Date"},
    "at": {"type": "GeoPoint"},
    "tags": {"type": "Array"},
}


def pointer(class_name, number):
    return {"__type": "Pointer", "className": class_name, "objectId": f"{class_name.lower()}{number:06d}"}


def date(day):
    return {"__type": "Date", "iso": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(1_600_000_000 + day * 864))}


def point(latitude, longitude):
    return {"__type": "GeoPoint", "latitude": latitude, "longitude": longitude}


def body(number):
    rng = random.Random(number)
    return {
        "flag": number % 3 == 0,
        "score": rng.randrange(1_000_000),
        "number": rng.randrange(AUTHORS),
        "board": pointer("Board", rng.randrange(BOARDS)),
        "author": pointer("Author", rng.randrange(AUTHORS)),
        "name": f"name{rng.randrange(NAMES):06d} of a post",
        "filler": FILLER + str(number),
        "when": date(rng.randrange(100_000)),
        "at": point(round(rng.gauss(30, 10), 5), round(rng.gauss(110, 10), 5)),
        "tags": [f"tag{int(rng.paretovariate(0.4)) % TAGS}" for _ in range(3)],
    }


def fill(url, size):
    """Store what is missing of `size` posts and their boards."""
    store = open_store(url, bulk=True, query_seconds=600)
    if store.read(lambda transaction: transaction.class_info("Post")) is None:
        store.write(save_classes)
    done = store.read(lambda transaction: transaction.execute("SELECT count(*) FROM objects WHERE class = 'Post'"))[0][0]
    for first in range(done, size, PIECE):
        rows = []
        for number in range(first, min(first + PIECE, size)):
            acl = {"someone": {"read": True}} if number % 2 else None
            rows.append((f"{number:024x}", START + number, START + number, acl, canonical_text(body(number))))
        store.write(lambda transaction: transaction.insert_many("Post", rows))  # noqa: B023 it runs at once
    store.close()


def save_classes(transaction):
    info = {"permissions": {}, "default_acl": None}
    transaction.save_class("Post", {**info, "columns": COLUMNS})
    transaction.save_class("Board", {**info, "columns": {"title": {"type": "String"}}})
    boards = [(pointer("Board", n)["objectId"], START, START, None, canonical_text({"title": f"X{n}"})) for n in range(BOARDS)]
    transaction.insert_many("Board", boards)


def queries(size):
    """[(name, a function of a number to the options of a find)]: as the master, but for the last."""
    newest = {"order": "-createdAt", "limit": 20}
    only_count = {"count": 1, "limit": 0}

    def where(make, **options):
        return lambda n: {"where": json.dumps(make(n)), **(options or newest)}

    def among(make, many):
        return [make(number * 7919) for number in range(many)]

    return [
        ("flag == true, newest first", where(lambda n: {"flag": True})),
        ("flag == true, best score first", where(lambda n: {"flag": True}, order="-score", limit=20)),
        ("score > x, half of the rows, newest first", where(lambda n: {"score": {"$gt": 500_000 + n}})),
        ("score > x, 1 %, newest first", where(lambda n: {"score": {"$gt": 990_000 + n}})),
        ("score > x, 50 rows, newest first", where(lambda n: {"score": {"$gt": 999_999 - 50_000_000 // size + n}})),
        ("$inQuery: posts of the board named X", where(lambda n: {"board": {"$inQuery": {"className": "Board", "where": {"title": f"X{n}"}}}})),
        ("$in of 50 pointers", where(lambda n: {"author": {"$in": among(lambda k: pointer("Author", (k + n) % AUTHORS), 50)}})),
        ("$in of 50 texts", where(lambda n: {"name": {"$in": among(lambda k: f"name{(k + n) % NAMES:06d} of a post", 50)}})),
        ("$in of 50 numbers", where(lambda n: {"number": {"$in": among(lambda k: (k + n) % AUTHORS, 50)}})),
        ("$in of 1,000 pointers", where(lambda n: {"author": {"$in": among(lambda k: pointer("Author", (k + n) % AUTHORS), 1000)}})),
        ("$regex ^prefix", where(lambda n: {"name": {"$regex": f"^name{4200 + n:05d}"}})),
        ("startsWith", where(lambda n: {"name": {"$regex": f"^\\Qname{4200 + n:05d}\\E"}})),
        ("$near", where(lambda n: {"at": {"$nearSphere": point(31 + n / 10, 121)}}, limit=20)),
        ("$near within 50 km", where(lambda n: {"at": {"$nearSphere": point(31 + n / 10, 121), "$maxDistanceInKilometers": 50}}, limit=20)),
        ("$all of two tags", where(lambda n: {"tags": {"$all": [f"tag{3 + n}", "tag2"]}})),
        ("date range, newest first", where(lambda n: {"when": {"$gte": date(5000 + n), "$lt": date(5050 + n)}})),
        ("count of all", where(lambda n: {}, **only_count)),
        ("count of a flag", where(lambda n: {"flag": True}, **only_count)),
        ("count of a range", where(lambda n: {"score": {"$gt": 900_000 + n}}, **only_count)),
        ("skip of half of the rows", where(lambda n: {}, order="-createdAt", limit=20, skip=size // 2)),
        ("a client's count, half of the rows private", where(lambda n: {}, **only_count)),
    ]  # fmt: skip


def asked(application, options, is_master):
    """(seconds, code or None) of a find."""
    headers = {"HTTP_X_LC_ID": KEYS["id"], "HTTP_X_LC_KEY": KEYS["master_key"] + ",master" if is_master else KEYS["key"]}
    environ = {
        **headers, "REQUEST_METHOD": "POST", "PATH_INFO": "/1.1/batch", "SCRIPT_NAME": "", "QUERY_STRING": "",
        "HTTP_HOST": "bench", "SERVER_NAME": "bench", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1", "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http", "CONTENT_TYPE": "application/json",
    }  # fmt: skip
    data = json.dumps({"requests": [{"method": "GET", "path": "/1.1/classes/Post", "params": options}]}).encode()
    environ |= {"CONTENT_LENGTH": str(len(data)), "wsgi.input": BytesIO(data)}
    started = time.perf_counter()
    answer = b"".join(application(environ, lambda *_: None))
    seconds = time.perf_counter() - started
    [item] = json.loads(answer)
    return seconds, item.get("error", {}).get("code")


def worked(pids):
    """Seconds of processor time of this process and others."""
    return time.process_time() + sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def backends(service, url):
    """The processes of a PostgreSQL on this machine that the service may use, once they are all there."""
    if not url.startswith("postgres"):
        return []
    rows = service.store.read(lambda transaction: transaction.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"))
    return [pid for pid, in rows if Path(f"/proc/{pid}/schedstat").exists()]


def measure(url, size, pattern):
    """{query: text of its median time}."""
    service = open_service(KEYS, url, tempfile.mkdtemp(), None, Options(max_requests_per_minute=0))
    application = create_application(service)
    found = {}
    for name, options in queries(size):
        if pattern in name:
            is_master = not name.startswith("a client")
            rounds = []
            for number in range(4):
                pids = backends(service, url)
                before = worked(pids)
                seconds, code = asked(application, options(number), is_master)
                rounds.append((seconds, worked(pids) - before))
                if code:
                    break
            wall, own = (statistics.median(one) * 1000 for one in zip(*rounds[-3:], strict=True))
            found[name] = str(code) if code else f"{wall:.1f} ms ({own:.1f})"
            print(f"{url.split(':')[0]:12}{name:50}{found[name]}", flush=True)
    service.store.close()
    return found


def settle(url):
    """What PostgreSQL's autovacuum does by itself after such a load."""
    if url.startswith("postgres"):
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE objects")


def index(url):
    """Make the indexes; the words of those that cannot be made."""
    store = open_store(url, bulk=True)
    refused = []
    for keys in INDEXES:
        started = time.perf_counter()
        try:
            indexes.create(store, "Post", keys)
            print(f"index {' '.join(keys)}: {time.perf_counter() - started:.1f} s", flush=True)
        except ValueError as error:
            refused.append(str(error))
    store.close()
    return refused


def unindex(url):
    store = open_store(url, bulk=True)
    for keys in store.read(lambda transaction: indexes.listed(transaction, "Post")):
        indexes.drop(store, "Post", keys)
    store.close()


def run(url, options):
    started = time.perf_counter()
    fill(url, options.objects)
    settle(url)
    print(f"{options.objects} objects in {time.perf_counter() - started:.0f} s", flush=True)
    tables = []
    if options.indexes in ("without", "both"):
        unindex(url)
        tables.append(measure(url, options.objects, options.only))
    if options.indexes in ("with", "both"):
        refused = index(url)
        settle(url)
        print("\n".join(refused), flush=True)
        tables.append(measure(url, options.objects, options.only))
    return tables


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--postgresql", metavar="URL", default=os.environ.get("LEANSTORAGE_TEST_POSTGRESQL"))
    parser.add_argument("--folder", metavar="DIR", help="where the SQLite database is, and stays")
    parser.add_argument("--stores", default="sqlite,postgresql")
    parser.add_argument("--indexes", choices=("without", "with", "both"), default="both")
    parser.add_argument("--only", default="", metavar="TEXT", help="queries whose name has this")
    parser.add_argument("--program", metavar="DIR", help="another checkout whose code is measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        urls = {"sqlite": f"sqlite:///{options.folder or folder}/queries.db", "postgresql": options.postgresql}
        tables = {name: run(url, options) for name, url in urls.items() if url and name in options.stores}
    states = {"both": ("no index", "with"), "without": ("no index",), "with": ("with",)}[options.indexes]
    titles = [f"{name}, {state}" for name in tables for state in states]
    print("\n| query | " + " | ".join(titles) + " |\n|---" * 1 + "|---" * len(titles) + "|")
    columns = list(itertools.chain.from_iterable(tables.values()))
    for name in columns[0]:
        print("| " + " | ".join([name, *(column[name] for column in columns)]) + " |")


if __name__ == "__main__":
    main()
