"""Waline on this storage beside Waline on SQLite: the same 240 requests, and the answers compared."""
import glob
import http.client
import json
import os
import random
import shutil
import sqlite3
import tempfile
import unittest
from contextlib import closing
from urllib.parse import urlencode

from tests.leanstorage.storage_support import Storage
from tests.leanstorage.test_waline import MODULES, serving

REQUESTS, SEED = 240, 22
PEOPLE = ("ann", "bob", "eve")  # the first is the administrator
PATHS = ("/a", "/b?c=1", "/文章/")
TEXTS = ("hello", "**bold** `x`", "100% _sure_ \\ 'quoted' \"twice\"", "你好，世界 😀", "<b>tag</b><script>1</script>", "a\nb", "[l](http://x.example)")
TABLES = {
    "Comment": "user_id INTEGER, comment TEXT, insertedAt {now}, ip TEXT, link TEXT, mail TEXT, nick TEXT, pid INTEGER, rid INTEGER, "
    "sticky NUMERIC, status TEXT, `like` INTEGER, ua TEXT, url TEXT",
    "Counter": "url TEXT, time INTEGER, " + ", ".join(f"reaction{number} INTEGER" for number in range(9)),
    "Users": "display_name TEXT, email TEXT, password TEXT, type TEXT, label TEXT, url TEXT, avatar TEXT, `2fa` TEXT",
}
NOW = "TIMESTAMP DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))"  # Waline leaves all times to SQLite
IDS = {"objectId", "pid", "rid"}
# Times, secrets, what LeanCloud has on every object, and the column that SQLite has instead of objectId.
UNSTABLE = {"time", "insertedAt", "createdAt", "updatedAt", "token", "password", "ACL", "id"}


def create_tables(path):
    with closing(sqlite3.connect(path)) as database:
        for name, columns in TABLES.items():
            columns = f"id INTEGER PRIMARY KEY AUTOINCREMENT, {columns.format(now=NOW)}, createdAt {NOW}, updatedAt {NOW}"
            database.execute(f"CREATE TABLE wl_{name} ({columns})")


def number(value, ids):
    """Which of all ids this is; a new one is noted: an answer to a comment that is gone is stored, but 500 is all that is told."""
    if value not in ids:
        ids.append(value)
    return ids.index(value)


class Side:
    """One Waline, with the ids and tokens that it has given so far, in the order of their coming."""

    def __init__(self, port):
        self.port, self.comments, self.tokens, self.people = port, [], {}, []

    def ask(self, method, path, body, person, made):
        """(status, comparable answer); `path` and `body` name comments by their number in the order of their coming."""
        headers = {"Content-Type": "application/json"}
        if person in self.tokens:
            headers["Authorization"] = f"Bearer {self.tokens[person]}"
        body = {key: self.comments[value] if key in IDS else value for key, value in body.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            place = path.format(*self.comments)
            connection.request(method, "/api" + place, None if method == "GET" else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        answer = json.loads(text) if text[:1] == b"{" else text.decode()
        data = answer.get("data") if isinstance(answer, dict) else None
        if made == "comment" and data:
            number(data["objectId"], self.comments)
        elif made == "token" and data:
            self.tokens[person] = data["token"]
            number(data["objectId"], self.people)
        ids = self.comments if path.startswith("/comment") else self.people
        if method == "PUT" and isinstance(data, dict):
            data.pop("objectId", None)  # Waline gives none with SQLite
        return response.status, self.comparable(answer, ids)

    def comparable(self, value, ids, key=None):
        """A value without what each storage gives of its own: ids by the order of their coming, no times, no nulls."""
        if isinstance(value, dict):
            kept = {name: self.comparable(one, ids, name) for name, one in value.items() if name not in UNSTABLE}
            return {name: one for name, one in kept.items() if one is not None}
        if isinstance(value, list):
            return [self.comparable(one, ids) for one in value]
        if value and key == "user_id":
            return number(value, self.people)
        return number(value, ids) if value and key in IDS else value


def started():
    """The requests that people and their tokens come from, then one comment."""
    for name in PEOPLE:
        yield "POST", "/user", {"display_name": name.title(), "email": f"{name}@example.com", "password": "pw", "url": ""}, None, None
        yield "POST", "/token", {"email": f"{name}@example.com", "password": "pw"}, name, "token"
    yield "POST", "/comment", {"comment": "first", "nick": "N", "mail": "n@example.com", "link": "", "url": PATHS[0], "ua": "x"}, None, "comment"


def random_request(chance, count):
    """One of the requests that Waline's pages send, when there are `count` comments."""
    person = chance.choice((None, *PEOPLE))
    path, one = chance.choice(PATHS), chance.randrange(count)
    text = f"{chance.choice(TEXTS)} {chance.randrange(30)}"
    own = {"nick": chance.choice("NM"), "mail": chance.choice(("n@example.com", "m@example.com", f"{person}@example.com")), "link": "", "ua": "x"}
    page = {"path": path, "page": chance.randint(1, 3), "pageSize": chance.choice((2, 5, 10))}
    listed = {"type": "list", "page": chance.randint(1, 2), "pageSize": 5, "owner": chance.choice(("all", "mine"))}
    listed |= chance.choice(({}, {"status": chance.choice(("approved", "waiting", "spam"))}, {"keyword": chance.choice(("hello", "100%", "你好", "'"))}))
    counted = chance.choice(("time", "reaction0", "reaction8"))
    changed = chance.choice(({"status": chance.choice(("approved", "waiting", "spam"))}, {"sticky": chance.random() < 0.5}, {"comment": text}))
    kinds = (
        (30, ("POST", "/comment", {"comment": text, "url": path, **own}, person, "comment")),
        (15, ("POST", "/comment", {"comment": text, "url": path, "pid": one, "rid": one, "at": "N", **own}, person, "comment")),
        (30, ("GET", f"/comment?{urlencode(page | {'sortBy': chance.choice(('insertedAt_desc', 'insertedAt_asc'))})}", {}, person, None)),
        (10, ("GET", f"/comment?{urlencode({'type': 'count', 'url': ','.join(PATHS[: chance.randint(1, 3)])})}", {}, person, None)),
        (10, ("GET", f"/comment?type=recent&count={chance.randint(1, 9)}", {}, person, None)),
        (15, ("GET", f"/comment?{urlencode(listed)}", {}, chance.choice((person, "ann")), None)),
        (15, ("PUT", f"/comment/{{{one}}}", {"like": chance.random() < 0.7}, person, None)),
        (15, ("PUT", f"/comment/{{{one}}}", changed, chance.choice((person, "ann")), None)),
        (6, ("DELETE", f"/comment/{{{one}}}", {}, chance.choice((person, "ann")), None)),
        (12, ("POST", "/article", {"path": path, "type": counted, "action": chance.choice(("inc", "inc", "desc"))}, None, None)),
        (8, ("GET", f"/article?{urlencode({'path': ','.join(PATHS[: chance.randint(1, 3)]), 'type': 'time,reaction0,reaction8'})}", {}, None, None)),
        (6, ("POST", "/token", {"email": f"{chance.choice(PEOPLE)}@example.com", "password": "wrong"}, None, None)),
        (6, ("GET", "/token", {}, person, None)),
        (6, ("PUT", "/user", {"url": f"http://{chance.choice('xy')}.example", "display_name": chance.choice(("Ann", "安"))}, person, None)),
        (6, ("GET", "/user?page=1&pageSize=10", {}, "ann", None)),
    )
    return chance.choices([request for _, request in kinds], [weight for weight, _ in kinds])[0]


@unittest.skipUnless(shutil.which("node"), "Node is not installed")
@unittest.skipUnless(os.path.isdir(os.path.join(MODULES, "@waline")), "WALINE names no folder with Waline")
@unittest.skipUnless(glob.glob(os.path.join(MODULES, "sqlite3/build/Release/*.node")), "Waline's SQLite module is not built")
class BesideTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.mkdtemp(prefix="waline-")
        self.addCleanup(shutil.rmtree, folder)
        storage = Storage(folder)
        self.addCleanup(storage.stop)
        create_tables(os.path.join(folder, "waline.sqlite"))
        keys = {"LEAN_ID": storage.keys["id"], "LEAN_KEY": storage.keys["key"], "LEAN_MASTER_KEY": storage.keys["master_key"]}
        self.sides = [
            Side(self.enterContext(serving(folder, LEAN_SERVER=storage.url, **keys))),
            Side(self.enterContext(serving(folder, SQLITE_PATH=folder, JWT_TOKEN="secret"))),
        ]

    def test_the_same_requests_are_answered_alike(self):
        chance, statuses = random.Random(SEED), set()
        requests = list(started())
        for turn in range(REQUESTS):
            request = requests[turn] if turn < len(requests) else random_request(chance, len(self.sides[0].comments))
            method, path, body, person, _ = request
            ours, theirs = (side.ask(*request) for side in self.sides)
            with self.subTest(turn=turn, request=f"{method} {path} {body} by {person}"):
                self.assertEqual(ours, theirs)
            statuses.add(ours[0])
        self.assertGreater(len(self.sides[0].comments), 30)
        self.assertLessEqual({200, 401, 403}, statuses)


if __name__ == "__main__":
    unittest.main()
