"""`python -m compat.go_sdk PROGRAM`: the Go SDK's own tests against this server.

PROGRAM is the test program of the SDK's package `leancloud`, as Go compiles it. The tests serve an engine of theirs on
port 3000, which must be free; they expect an app with a user and a few objects: these are stored first. Prints what
failed and the totals; exit code 0 when nothing failed but what is known.
"""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from compat.server import serving

ENGINE = 3000
NAME, PASSWORD = "go-sdk", "go-sdk-password"
# It wants no member in an answer of its own engine, which gives one: an empty text.
EXPECTED = ("TestRun/don't_fetch_user/remote",)
RESULT = re.compile(r"^ *--- (PASS|FAIL|SKIP): (\S+)", re.MULTILINE)


def engine_port_is_free():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", ENGINE)) != 0


def store_history(keys):
    """What the tests look for: two rooms for two meetings, and somebody who can log in. Gives the user's id."""

    def post(path, body):
        headers = {"X-LC-Id": keys["LEANCLOUD_APP_ID"], "X-LC-Key": keys["LEANCLOUD_APP_KEY"], "Content-Type": "application/json"}
        url = keys["LEANCLOUD_API_SERVER"] + "/1.1" + path
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=10) as answer:
            return json.load(answer)["objectId"]

    for number in (1, 2):
        meeting = {"__type": "Pointer", "className": "Meeting", "objectId": post("/classes/Meeting", {"title": f"meeting{number}"})}
        post("/classes/room", {"name": f"会议室{number}", "meeting": meeting})
    return post("/users", {"username": NAME, "password": PASSWORD})


def counted(output):
    """How many tests passed, failed, failed as expected and were skipped; those with tests of their own inside do not count."""
    results = {name: result for result, name in RESULT.findall(output)}
    parents = {name.rpartition("/")[0] for name in results}
    own = {name: result for name, result in results.items() if name not in parents}
    known = sum(own.get(name) == "FAIL" for name in EXPECTED)
    found = list(own.values())
    return found.count("PASS"), found.count("FAIL") - known, known, found.count("SKIP")


def main(program):
    root = Path(__file__).resolve().parents[1]
    if not engine_port_is_free():
        print(f"port {ENGINE} is taken")
        return 1
    with tempfile.TemporaryDirectory() as data:
        with serving(root, data) as (keys, _):  # without the engine, which is not there before the tests are
            user = {"TEST_USER_ID": store_history(keys), "TEST_USERNAME": NAME, "TEST_PASSWORD": PASSWORD}
        with serving(root, data, "--engine", f"http://127.0.0.1:{ENGINE}") as (keys, _):
            command = [str(Path(program).resolve()), "-test.v", "-test.timeout=120s"]
            done = subprocess.run(command, cwd=data, env={**os.environ, **keys, **user}, capture_output=True, text=True, timeout=180)
    passed, failed, known, skipped = counted(done.stdout)
    is_bad = failed > 0 or not passed or (done.returncode != 0 and not known)
    if is_bad:
        print(done.stdout, done.stderr)
    print(f"{passed} passed, {failed} failed, {known} expected to fail, {skipped} skipped")
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
