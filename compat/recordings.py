"""`python -m compat.recordings PATH`: the live service's recorded exchanges, replayed against this server.

PATH is a checkout of the JavaScript SDK's repository; `recordings/` in it holds HAR files. Each file is replayed in
order on a server of its own, with everything that the live service made up (ids, session tokens, file tokens) mapped
to what this server answered in the same place. Compared are the status, the keys, the types of values and the error
codes. What the recordings took for granted (objects stored long before) cannot be there: an exchange that names an id
that never came up is only run, not compared. Prints what differs and the totals.
"""
import gzip
import json
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests

from compat.server import open_users, serving

ID = re.compile(r"\b[0-9a-f]{24}\b")
UNSUPPORTED = re.compile(r"/(leaderboard|rtm|push|installations|LiveQuery|search)|requestSmsCode|requestCaptcha|verify")
# Made by the console, or by the app's engine, of the recorded app: not part of any answer here.
LEFT_OUT = frozenset(
    "defaultValue test ACL company byBeforeSave byAfterSave byBeforeUpdate byAfterUpdate _SessionToken cursor".split()
)
# The recorded app's own cloud functions, and classes with rows from before.
OWN_CODE = re.compile(r"/1\.1/call/")
CLASSES = ("GameScore", "Person", "Post", "TestClass")


class Replay:
    """One server, and what the recorded ids and tokens are called on it."""

    def __init__(self, keys):
        self.keys = keys
        self.names = {}
        self.differences = []
        self.compared = self.ran = self.skipped = 0

    def mapped(self, text):
        for old, new in self.names.items():
            text = text.replace(old, new)
        return text

    def run(self, name, entry):
        request, response = entry["request"], entry["response"]
        url = urlsplit(request["url"])
        if not url.path.startswith("/1.1/") or UNSUPPORTED.search(url.path) or OWN_CODE.search(url.path):
            self.skipped += 1
            return
        body = (request.get("postData") or {}).get("text", "")
        recorded = content(response)
        known = ID.findall(url.path + unquote(url.query) + body)
        is_unknown = any(found not in self.names for found in known)
        answer = requests.request(
            request["method"],
            self.keys["LEANCLOUD_API_SERVER"] + self.mapped(url.path) + ("?" + self.mapped(url.query) if url.query else ""),
            headers=self.headers(request),
            data=self.mapped(body).encode() or None,
            timeout=20,
        )
        self.ran += 1
        value = answer.json()
        self.learn(recorded, value)
        if is_unknown:
            return
        self.compared += 1
        problems = list(compare("", self.known(recorded), self.known(value, set(self.names.values()))))
        if answer.status_code != response["status"]:
            problems.insert(0, f"status {answer.status_code}, recorded {response['status']}")
        if problems:
            line = f"{request['method']} {url.path}?{unquote(url.query)[:150]} {body[:200]}"
            self.differences.append(f"{name}: {line}\n    " + "\n    ".join(problems[:6]))

    def headers(self, request):
        """The recorded headers with our keys: signed as master where the recording was."""
        sent = {header["name"].lower(): header["value"] for header in request["headers"]}
        sign = sent.get("x-lc-sign", "")
        is_master = sign.endswith(",master") or sent.get("x-lc-key", "").endswith(",master")
        key = self.keys["LEANCLOUD_APP_MASTER_KEY"] + ",master" if is_master else self.keys["LEANCLOUD_APP_KEY"]
        headers = {"X-LC-Id": self.keys["LEANCLOUD_APP_ID"], "X-LC-Key": key, "Content-Type": "application/json"}
        if "x-lc-session" in sent:
            headers["X-LC-Session"] = self.mapped(sent["x-lc-session"])
        if "x-lc-hook-key" in sent:
            headers["X-LC-Hook-Key"] = self.keys["LEANCLOUD_APP_HOOK_KEY"]
        return headers

    def known(self, value, names=None):
        """An answer without the rows that were stored before the recording began, which nothing here can have."""
        names = self.names if names is None else names
        if isinstance(value, dict) and isinstance(value.get("results"), list):
            rows = [row for row in value["results"] if not isinstance(row, dict) or row.get("objectId") in names]
            return {**value, "results": rows}
        return value

    def learn(self, recorded, value):
        """Remember what stands here where the recording has an id or a token."""
        if isinstance(recorded, dict) and isinstance(value, dict):
            for key, child in recorded.items():
                if key in ("objectId", "sessionToken", "username", "token", "key", "cursor") and isinstance(child, str):
                    if isinstance(value.get(key), str) and len(child) >= 16:
                        self.names[child] = value[key]
                elif key in value:
                    self.learn(child, value[key])
        elif isinstance(recorded, list) and isinstance(value, list):
            for old, new in zip(recorded, value):
                self.learn(old, new)


def content(response):
    """The recorded body: text, or the hex of its gzipped bytes."""
    text = response["content"].get("text", "")
    if text.startswith('["') and response["status"] != 204:
        chunks = json.loads(text)
        if all(isinstance(chunk, str) and re.fullmatch("[0-9a-f]*", chunk) for chunk in chunks):
            text = gzip.decompress(bytes.fromhex("".join(chunks))).decode()
    return json.loads(text) if text else None


def compare(path, recorded, value):
    """What differs in shape: keys, types, codes. Rows of a list are compared as far as both go."""
    if isinstance(recorded, dict) and isinstance(value, dict):
        missing = recorded.keys() - value.keys() - LEFT_OUT
        added = value.keys() - recorded.keys() - LEFT_OUT
        if missing:
            yield f"{path or 'the answer'} lacks {', '.join(sorted(missing))}"
        if added:
            yield f"{path or 'the answer'} has {', '.join(sorted(added))} besides"
        if "code" in recorded and recorded.get("code") != value.get("code"):
            yield f"{path} code {value.get('code')}, recorded {recorded['code']}"
        for key in recorded.keys() & value.keys() - LEFT_OUT:
            yield from compare(f"{path}.{key}", recorded[key], value[key])
    elif isinstance(recorded, list) and isinstance(value, list):
        for index, (old, new) in enumerate(zip(recorded, value)):
            yield from compare(f"{path}[{index}]", old, new)
    elif kind(recorded) != kind(value):
        yield f"{path} is {value!r}, recorded {recorded!r}"


def kind(value):
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def main(path):
    root = Path(__file__).resolve().parents[1]
    totals = [0, 0, 0, 0]
    for suite in sorted(Path(path, "recordings").iterdir()):
        with ExitStack() as stack:
            data = stack.enter_context(tempfile.TemporaryDirectory())
            keys, _ = stack.enter_context(serving(root, data))
            open_users(root, data)
            replay = Replay(keys)
            for name in CLASSES:
                headers = {"X-LC-Id": keys["LEANCLOUD_APP_ID"], "X-LC-Key": keys["LEANCLOUD_APP_MASTER_KEY"] + ",master"}
                requests.post(f"{keys['LEANCLOUD_API_SERVER']}/1.1/classes/{name}", json={}, headers=headers, timeout=10)
            entries = []
            for file in suite.rglob("*.har"):
                name = "/".join(file.parts[-4:-1])
                entries += [(entry["startedDateTime"], name, entry) for entry in json.loads(file.read_text())["log"]["entries"]]
            for _, name, entry in sorted(entries, key=lambda item: item[0]):
                replay.run(name, entry)
        print(f"== {suite.name}: {replay.ran} run, {replay.compared} compared, {len(replay.differences)} differ")
        print(*replay.differences, sep="\n", flush=True)
        counts = (replay.ran, replay.compared, len(replay.differences), replay.skipped)
        totals = [total + number for total, number in zip(totals, counts)]
    print(f"{totals[0]} run, {totals[1]} compared, {totals[2]} differ, {totals[3]} left out (not supported)")
    return 1 if totals[2] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
