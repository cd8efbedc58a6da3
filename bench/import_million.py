"""Import a generated export of a million objects in five classes, 50,000 of them users; print rates and memory.

`python bench/import_million.py [--objects 1000000] [--folder DIR]`: makes the export, imports it, imports it again.
The figure to reach is 20,000 objects a second with less than 200 MB, on SQLite and two cores.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import re
import resource
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

from_base = 1_400_000_000  # seconds: when the first object was made


def times(i):
    seconds = from_base + i * 97
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{i % 1000:03d}Z"


def object_id(kind, i):
    return f"{from_base + i * 97:08x}{hashlib.md5(f'{kind}{i}'.encode(), usedforsecurity=False).hexdigest()[:16]}"


def pointer(class_name, i):
    return {"__type": "Pointer", "className": class_name, "objectId": object_id(class_name, i)}


def built_in(kind, i, acl):
    return {"objectId": object_id(kind, i), "createdAt": times(i), "updatedAt": times(i + 1), "ACL": acl}


PUBLIC = {"*": {"read": True, "write": True}}


def user(i, users):
    row = built_in("_User", i, {"*": {"read": True}, object_id("_User", i): {"read": True, "write": True}})
    token = hashlib.md5(f"token{i}".encode(), usedforsecurity=False).hexdigest()[:25]
    row |= {"username": f"user{i}", "email": f"user{i}@example.com", "emailVerified": i % 3 == 0}
    row |= {"password": "tA7BLW+NK0UeARng0693gCaVnljkglCB9snqlpCSUKjx2RgYp8VZZOQt0S5iUtlDrkJXfT3gknS4rRqjYsd/Ug=="}
    row |= {
        "salt": "h60d8x797d3oa0naxybxxv9bn7xpt2yiowz68mpiwou7gwr2",
        "sessionToken": token,
        "mobilePhoneVerified": False,
    }
    if i % 10 == 0:
        row["authData"] = {"weixin": {"openid": f"open{i}", "access_token": "x", "expires_in": 7200}}
    return row


def post(i, users):
    row = built_in("Post", i, PUBLIC)
    row |= {
        "title": f"第 {i} 篇：关于天气",
        "body": "Lorem ipsum dolor sit amet. " * 5,
        "likes": i % 977,
        "draft": None,
    }
    return row | {"author": pointer("_User", i % users), "tags": ["a", "b", str(i % 7)], "score": i / 8}


def comment(i, users):
    row = built_in("Comment", i, {"*": {"read": True}, object_id("_User", i % users): {"write": True}})
    return row | {
        "text": f"comment number {i} 😀",
        "post": pointer("Post", i % 1000),
        "by": pointer("_User", i % users),
    }


def visit(i, users):
    row = built_in("Visit", i, PUBLIC)
    row |= {"at": {"__type": "Date", "iso": times(i)}, "path": f"/posts/{i % 5000}", "ms": i % 3000}
    return row | {"where": {"__type": "GeoPoint", "latitude": i % 90, "longitude": i % 180 + 0.5}}


def setting(i, users):
    row = built_in("Setting", i, PUBLIC)
    return row | {"name": f"setting{i}", "value": {"theme": "dark", "sizes": [1, 2, 3], "nested": {"on": i % 2 == 0}}}


def write_export(path, objects, shuffled):
    """A console export as .tar.gz; ids in order of creation, or in none."""
    users = objects // 20
    parts = {"_User": (user, users), "Post": (post, objects // 4), "Comment": (comment, objects * 35 // 100)}
    parts |= {"Visit": (visit, objects * 30 // 100)}
    parts["Setting"] = (setting, objects - sum(count for _, count in parts.values()))
    with gzip.open(path, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, (make, count) in parts.items():
            order = list(range(count))
            if shuffled:
                random.Random(1).shuffle(order)
            with tempfile.TemporaryFile() as file:
                file.write(b'#filetype:JSON-streaming {"type":"Class","class":"%s"}\n' % name.encode())
                for i in order:
                    file.write(json.dumps(make(i, users), ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
                info = tarfile.TarInfo(f"{name}.0.jsonl")
                info.size = file.tell()
                file.seek(0)
                archive.addfile(info, io.BufferedReader(file))


def family_memory(pid):
    """Bytes that a process and its children hold now: proportional share, so that what is shared counts once."""
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        try:
            total += 1024 * int(
                re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{one}/smaps_rollup").read_text(), re.M).group(1)
            )
            for task in Path(f"/proc/{one}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except (OSError, AttributeError):
            pass
    return total


def processor_seconds():
    """Of all processes that have ended; where others share the machine, it says more than the time on the wall."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_import(export, data):
    environment = {**os.environ, "LEANSTORAGE_DATA": str(data)}
    start, used = time.monotonic(), processor_seconds()
    command = [sys.executable, "-m", "leanstorage", "import", str(export)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    peak = [0]

    def watch():
        while process.poll() is None:
            peak[0] = max(peak[0], family_memory(process.pid))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = process.communicate()[0]
    watcher.join()
    seconds = time.monotonic() - start
    print(output.rstrip())
    print(
        f"exit {process.returncode}, {seconds:.1f} s wall, {processor_seconds() - used:.1f} s of processors, all processes together {peak[0] / 1e6:.0f} MB at most",
        flush=True,
    )


def run_export(data, folder):
    """Export and return the lines with the digests of the classes."""
    environment = {**os.environ, "LEANSTORAGE_DATA": str(data)}
    command = [sys.executable, "-m", "leanstorage", "export", str(folder)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip()
    print(output, flush=True)
    return output.splitlines()[:-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--folder", help="where to work (default: a temporary folder)")
    parser.add_argument("--round-trip", action="store_true", help="export, import that, export again, compare digests")
    parser.add_argument("--shuffled", action="store_true", help="objects in no order, the worst case for the indexes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        export = Path(folder, "export.tar.gz")
        write_export(export, options.objects, options.shuffled)
        print(f"export of {options.objects} objects, {export.stat().st_size / 1e6:.0f} MB packed", flush=True)
        for _ in range(2):
            run_import(export, Path(folder, "data"))
        if options.round_trip:
            first = run_export(Path(folder, "data"), Path(folder, "first"))
            run_import(Path(folder, "first"), Path(folder, "other"))
            second = run_export(Path(folder, "other"), Path(folder, "second"))
            print("digests are equal" if first == second else "DIGESTS DIFFER")


if __name__ == "__main__":
    main()
