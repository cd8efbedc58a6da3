"""Pull from a second server while the pull is killed every few seconds and the source goes on changing; compare.

`python bench/pull_under_kill.py [--objects 60000] [--kills 12]`. Ends with the digests of both sides and whether they
are equal; exit code 0 only then.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from leanstorage import keys as key_files  # noqa: E402

FILES = 40
LEANSTORAGE = [sys.executable, "-m", "leanstorage"]


def environment(data, source_keys=None):
    found = {**os.environ, "LEANSTORAGE_DATA": str(data)}
    if source_keys:
        found |= {
            "LEANSTORAGE_SOURCE_ID": source_keys["id"],
            "LEANSTORAGE_SOURCE_MASTER_KEY": source_keys["master_key"],
        }
    return found


def serve(data):
    """(process, URL) of a server on a free port."""
    process = subprocess.Popen(
        [*LEANSTORAGE, "serve", "--port", "0"], env=environment(data), stdout=subprocess.PIPE, text=True
    )
    return process, re.search(r"http://\S+", process.stdout.readline()).group()


class Source:
    """The server to pull from, with its master key."""

    def __init__(self, url, keys):
        self.url = url
        self.session = requests.Session()
        self.session.headers.update({"X-LC-Id": keys["id"], "X-LC-Key": f"{keys['master_key']},master"})

    def call(self, method, path, body=None):
        answer = self.session.request(method, f"{self.url}/1.1{path}", json=body, timeout=15)
        return answer.json()

    def batch(self, calls):
        requests_ = [{"method": method, "path": f"/1.1{path}", "body": body} for method, path, body in calls]
        return [one["success"] for one in self.call("POST", "/batch", {"requests": requests_})]


def fill(source, objects):
    """Users, a class of owners with relations, a class of plain rows, a role, files."""
    users = source.batch([("POST", "/users", {"username": f"u{i}", "password": "p"}) for i in range(50)])
    users = [{"__type": "Pointer", "className": "_User", "objectId": one["objectId"]} for one in users]
    add = {"__op": "AddRelation", "objects": users[:9]}
    source.call("POST", "/roles", {"name": "R", "users": add, "ACL": {"*": {"read": True}}})
    owners = source.batch(
        [
            ("POST", "/classes/Owner", {"n": i, "fans": {"__op": "AddRelation", "objects": users[: i % 40 + 1]}})
            for i in range(400)
        ]
    )
    plain = []
    for at in range(0, objects, 500):
        calls = [("POST", "/classes/Plain", {"n": i, "by": users[i % 50]}) for i in range(at, min(at + 500, objects))]
        plain += [one["objectId"] for one in source.batch(calls)]
    for i in range(FILES):
        data = random.Random(i).randbytes(20_000 * (i % 10 + 1))
        token = source.call("POST", "/fileTokens", {"name": f"{i}.bin", "metaData": {"size": len(data)}})
        requests.put(token["upload_url"], data=data, timeout=15).raise_for_status()
    return users, [one["objectId"] for one in owners], plain


def disturb(source, users, owners, plain, stop):
    """Changes at the source while it is pulled: new objects, new values, other members, deleted ones."""
    rng = random.Random(7)
    while not stop.wait(0.05):
        kind = rng.random()
        member = {"__op": rng.choice(["AddRelation", "RemoveRelation"]), "objects": [rng.choice(users)]}
        if kind < 0.4:
            source.call("PUT", f"/classes/Plain/{rng.choice(plain)}", {"n": rng.random()})
        elif kind < 0.6:
            source.call("POST", "/classes/Plain", {"n": -1})
        elif kind < 0.9:
            source.call("PUT", f"/classes/Owner/{rng.choice(owners)}", {"fans": member})
        else:
            source.call("DELETE", f"/classes/Plain/{plain.pop(rng.randrange(len(plain)))}")


def pull(target, url, source_keys, seconds=None):
    """Run a pull; kill it with -9 after `seconds`. Returns its exit code and last line."""
    command = [*LEANSTORAGE, "pull", "--from", url, "--files", "--delete"]
    process = subprocess.Popen(
        command, env=environment(target, source_keys), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    timer = threading.Timer(seconds, process.send_signal, [signal.SIGKILL]) if seconds else None
    if timer:
        timer.start()
    output = process.communicate()[0]
    if timer:
        timer.cancel()
    return process.returncode, output


def digests(data, folder):
    """What an export says of each class but the users, whose passwords the API never shows."""
    output = subprocess.run(
        [*LEANSTORAGE, "export", str(folder)], env=environment(data), check=True, capture_output=True, text=True
    )
    return [line for line in output.stdout.splitlines()[:-1] if not line.startswith("_User:")]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=60_000)
    parser.add_argument("--kills", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source_data, target = Path(folder, "source"), Path(folder, "target")
        keys = key_files.load(source_data)
        server, url = serve(source_data)
        stop = threading.Event()
        try:
            source = Source(url, keys)
            users, owners, plain = fill(source, options.objects)
            changer = threading.Thread(target=disturb, args=(Source(url, keys), users, owners, plain, stop))
            changer.start()
            rng, started, killed = random.Random(1), time.monotonic(), 0
            for _ in range(options.kills):
                code, output = pull(target, url, keys, rng.uniform(0.8, 4))
                killed += code == -signal.SIGKILL
            stop.set()
            changer.join()
            code, output = pull(target, url, keys)
            print(output.rstrip())
            seconds = time.monotonic() - started
            kept = sorted(path.name for path in (source_data / "files").iterdir())
            same_files = [(source_data / "files" / name).read_bytes() for name in kept] == [
                (target / "files" / name).read_bytes() for name in kept if (target / "files" / name).exists()
            ]
        finally:
            stop.set()
            server.terminate()
            server.wait(20)
            server.stdout.close()
        there, here = digests(source_data, Path(folder, "a")), digests(target, Path(folder, "b"))
        print(*there, sep="\n")
        is_equal = there == here and same_files and code == 0
        print(f"killed {killed} of {options.kills} times, {seconds:.0f} s, {len(kept)} files equal: {same_files}")
        print("complete and equal" if is_equal else f"DIFFERENT:\n{here}")
        return 0 if is_equal else 1


if __name__ == "__main__":
    sys.exit(main())
