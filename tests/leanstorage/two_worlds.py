"""Random calls of three callers in two worlds, which differ in nothing but what only A may see. B must not tell them apart.

The calls come from a grammar: classes, users, roles, relations, files, statuses, CQL, batches, conditional writes. The same
are made in both worlds; where A writes a secret, it is another one there, and the second world has hidden rows more. So
whatever B is answered must be the same. A number tells which calls: `play(1)`.

`python -m tests.leanstorage.two_worlds --seconds 600 --seed 1` goes on with the next numbers.
`--waits` instead makes costly calls of B to a server, and says how long others wait meanwhile.
"""
import argparse
import contextlib
import itertools
import json
import random
import re
import shutil
import tempfile
import threading
import time
from urllib.parse import urlencode
from unittest import mock

from leanstorage.http.application import create_application, open_service
from leanstorage.resources import objects
from tests.leanstorage.service_support import KEYS, open_database, pointer, QuickApplication
from tests.leanstorage.storage_support import Storage
from tests.support import call

SECRETS = (
    {"text": "mmm-dark-0", "number": 3, "list": ["mmm-dark-1"], "map": {"in": "mmm-dark-2"}, "yes": True, "to": 0},
    {"text": "kk-veil-longer-0", "number": 8, "list": ["kk-veil-1", "x"], "map": {"in": "zz-veil-2"}, "yes": False, "to": 1},
)
MARKS = ("mmm-dark", "kk-veil", "zz-veil")
KEYS_OF_ROWS = ("text", "number", "list", "map", "yes", "to")
VEILED = "veiled"  # a hidden column: every row that B may read has a secret in it
CLASSES = ("Open", "Closed", "Roled")  # rows with ACLs; a class that B may not read; rows of a role
CHANGING = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z|\b(?=[a-z0-9]*[0-9])(?=[a-z0-9]*[a-z])[a-z0-9]{25}\b|[A-Za-z0-9+/_-]{60,}={0,2}\.[A-Za-z0-9_-]+|[A-Za-z0-9]{32}"
)


class World:
    """One service with the users A and B; `ask` makes a call of one of them or of the master."""

    def __init__(self, number, is_quick):
        self.number, self.secret = number, SECRETS[number]
        self._end = contextlib.ExitStack()
        folder = tempfile.mkdtemp(prefix="world-")
        self._end.callback(shutil.rmtree, folder)
        database, drop = open_database(folder)
        self._end.callback(drop)
        service = open_service(KEYS, database, f"{folder}/files")
        self._end.callback(service.store.close)
        self.application = create_application(service)
        if is_quick:
            self.application = QuickApplication(service, self.application)
            self._end.callback(self.application.quick.stop)
        self.service, self.sessions, self.ids = service, {}, {}
        self._numbers = itertools.count(1)
        self._end.enter_context(mock.patch.object(objects, "new_id", lambda ms: f"{next(self._numbers):024x}"))

    def close(self):
        self._end.close()

    def ask(self, who, method, path, body=None, query=None):
        """(status, text) of a call."""
        headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
        if who == "master":
            headers["X-LC-Key"] = KEYS["master_key"] + ",master"
        elif who in self.sessions:
            headers["X-LC-Session"] = self.sessions[who]
        data = b"" if body is None else json.dumps(body).encode()
        pairs = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in (query or {}).items()]
        with mock.patch("sys.stderr"):
            response = call(self.application, method, f"/1.1{path}", data, headers, QUERY_STRING=urlencode(pairs), HTTP_HOST="storage.example")
        return response.status, response.body.decode()

    def make(self, who, path, body):
        status, text = self.ask(who, "POST", path, body)
        assert status == 201, text
        return json.loads(text)

    def set_up(self):
        for name in ("A", "B"):
            user = self.make(None, "/users", {"username": f"user{name}", "password": f"pw{name}"})
            self.ids[name], self.sessions[name] = user["objectId"], user["sessionToken"]
        own = {self.ids["A"]: {"read": True, "write": True}}
        shown = {**own, "*": {"read": True}}
        targets = [self.make("A", "/classes/Target", {"n": number, "ACL": shown})["objectId"] for number in range(2)]
        self.targets = targets
        self.make("A", "/roles", {"name": "circle", "ACL": shown, "users": {"__op": "AddRelation", "objects": [pointer("_User", self.ids["A"])]}})
        rights = {"Open": own, "Closed": None, "Roled": {"role:circle": {"read": True, "write": True}}}
        for name in CLASSES:
            for number in range(3):
                hidden = self.make("A", f"/classes/{name}", {**self.fields("A"), "friends": self.befriended(), "ACL": rights[name], "n": number})
                visible = {"text": "plain", "number": 5, "list": ["plain"], "map": {"in": "plain"}, "yes": True, "to": pointer("Target", targets[0]), "n": number}
                visible["friend"] = pointer(name, hidden["objectId"])
                visible[VEILED] = self.secret["text"]
                self.make("A", f"/classes/{name}", {**visible, **({} if name == "Closed" else {"ACL": shown})})
        nobody_else = {"users": False, "names": [self.ids["A"]]}

        def shut(transaction):
            for name in CLASSES:
                info = transaction.class_info(name, lock=True)
                transaction.save_class(name, {**info, "options": {VEILED: {"hidden": True}}})
            info = transaction.class_info("Closed", lock=True)
            rules = dict.fromkeys(("find", "get", "create", "update", "delete"), nobody_else)
            transaction.save_class("Closed", {**info, "permissions": rules})

        self.service.store.write(shut)
        self.make("A", "/files", {"name": self.secret["text"], "url": f"http://files.example/{self.secret['text']}", "ACL": own})
        self.make("A", "/statuses", self.status())
        for number in range(self.number):  # there are more hidden rows in the second world
            with mock.patch.object(objects, "new_id", lambda ms, number=number: f"{0xF0000 + number:024x}"):
                self.make("A", "/classes/Open", {**self.fields("A"), "ACL": own, "n": 9})

    def befriended(self):
        return {"__op": "AddRelation", "objects": [pointer("Target", self.targets[self.secret["to"]])]}

    def status(self):
        where = {"objectId": self.ids["A"]}
        return {"inboxType": "private", "data": {"message": self.secret["text"]}, "query": {"className": "_User", "where": where}}

    def fields(self, who):
        """What A writes where B may not look; what B writes is the same in both worlds."""
        found = dict(self.secret if who == "A" else {"text": "mine", "number": 4, "list": ["mine"], "map": {"in": "mine"}, "yes": False, "to": 0})
        return {**found, "to": pointer("Target", self.targets[found["to"]])}


class Grammar:
    """Calls at random: (who, method, path, body, query), with `SECRET` where A writes what is another in each world."""

    def __init__(self, seed, ids, targets):
        self.random = random.Random(seed)
        self.ids, self.targets = ids, targets

    def call(self):
        who = self.random.choices(("A", "B", "master", None), (3, 8, 1, 2))[0]
        if who == "A":
            return ("A", *self.random.choice((self.own_write, self.own_new, self.own_status))())
        if who == "master":
            return ("master", "GET", f"/classes/{self.random.choice(CLASSES)}", None, {"where": self.where(2)})
        return (who, *self.of_stranger())

    def of_stranger(self):
        kinds = (self.listing, self.listing, self.listing, self.one, self.change, self.change, self.removal, self.cql, self.batch, self.relation, self.status, self.file, self.role, self.user, self.saves)
        return self.random.choice(kinds)()

    # A ---------------------------------------------------------------------------------------------------------------

    def own_write(self):
        return "PUT", f"/classes/{self.random.choice(('Open', 'Roled'))}/{self.id(True)}", {"SECRET": self.random.choice(KEYS_OF_ROWS)}, None

    def own_new(self):
        rights = self.random.choice(({self.ids["A"]: {"read": True, "write": True}}, {"role:circle": {"read": True}}))
        return "POST", f"/classes/{self.random.choice(('Open', 'Roled'))}", {"SECRET": "all", "ACL": rights}, None

    def own_status(self):
        return "POST", "/statuses", {"SECRET": "status"}, None

    # B and strangers -------------------------------------------------------------------------------------------------

    def id(self, is_hidden=None):
        """An object's id, mostly; hidden rows have even places in the set-up."""
        number = self.random.randint(6, 26) if self.random.random() < 0.8 else self.random.randint(1, 60)
        return f"{number:024x}"

    def probe(self):
        """A condition that holds for a secret of one world."""
        key = self.random.choice(KEYS_OF_ROWS)
        value = self.random.choice(SECRETS)[key]
        value = pointer("Target", self.targets[value]) if key == "to" else value
        operator = self.random.choice(("$eq", "$eq", "$in", "$ne", "$regex"))
        if operator == "$regex" and isinstance(value, str):
            return {key: {"$regex": f"^{value[:2]}"}}
        return {key: {"$in": [value]} if operator == "$in" else {"$ne": value} if operator == "$ne" else value}

    def where(self, depth):
        if self.random.random() < 0.4:
            return self.probe()
        key = self.random.choice((*KEYS_OF_ROWS, VEILED, "map.in", "objectId", "n", "ACL", "createdAt"))
        if depth and self.random.random() < 0.35:
            inner = {"className": self.random.choice((*CLASSES, "Target")), "where": self.where(depth - 1)}
            return self.random.choice(
                (
                    lambda: {"$or": [self.where(depth - 1), self.where(depth - 1)]},
                    lambda: {"$and": [self.where(depth - 1), self.where(depth - 1)]},
                    lambda: {self.random.choice(("to", "friend")): {self.random.choice(("$inQuery", "$notInQuery")): inner}},
                    lambda: {key: {self.random.choice(("$select", "$dontSelect")): {"query": inner, "key": self.random.choice((*KEYS_OF_ROWS, VEILED))}}},
                    lambda: {"$relatedTo": {"object": pointer(self.random.choice(CLASSES), self.id()), "key": "friends"}},
                )
            )()
        value = self.value()
        return {key: self.random.choice((value, *({operator: given} for operator, given in self.operators(value))))}

    def value(self):
        texts = ["plain", "mine", *(secret["text"] for secret in SECRETS), *(secret["list"][0] for secret in SECRETS), "m", "k"]
        return self.random.choice((*texts, 1, 3, 4, 5, 8, True, False, None, pointer("Target", self.random.choice(self.targets)), self.id()))

    def operators(self, value):
        pattern = self.random.choice(("^m", "^k", "dark", "veil", ".*-0$", "^.{10}$", "p"))
        yield from ((operator, value) for operator in ("$ne", "$lt", "$lte", "$gt", "$gte"))
        yield from (("$in", [value, 3]), ("$nin", [value]), ("$all", [value]), ("$exists", bool(value)), ("$size", 1), ("$regex", pattern))

    def options(self):
        given = {}
        for name, make in (
            ("order", lambda: self.random.choice(("text", "-number", "yes,text", "-map", "list", "to", "n", "-objectId", VEILED))),
            ("keys", lambda: self.random.choice(("text", "-text", "number,list", "to.n", "n", f"n,{VEILED}"))),
            ("include", lambda: self.random.choice(("to", "friend", "file", "friend.to", "source"))),
            ("limit", lambda: str(self.random.choice((0, 1, 2, 50)))),
            ("skip", lambda: str(self.random.choice((0, 1, 3)))),
            ("count", lambda: "1"),
            ("returnACL", lambda: "true"),
        ):
            if self.random.random() < 0.35:
                given[name] = make()
        return given

    def listing(self):
        name = self.random.choice((*CLASSES, *CLASSES, "Target", "_File", "_Role", "_Status", "_User"))
        return "GET", f"/classes/{name}", None, {"where": self.where(2), **self.options()}

    def one(self):
        return "GET", f"/classes/{self.random.choice((*CLASSES, '_User', '_File', '_Role', '_Status'))}/{self.id()}", None, {name: value for name, value in self.options().items() if name in ("keys", "include", "returnACL")}

    def change(self):
        key = self.random.choice(KEYS_OF_ROWS)
        body = self.random.choice(
            ({}, {"n": 7}, {VEILED: "mine"}, {VEILED: {"__op": "AddUnique", "objects": [1]}}, {"number": {"__op": "Increment", "amount": 1}}, {"list": {"__op": "AddUnique", "objects": ["mine"]}}, {key: {"__op": "Delete"}}, {"ACL": {"*": {"read": True, "write": True}}}, {"friend": pointer("Open", self.id())})
        )
        query = {"fetchWhenSave": "true"} if self.random.random() < 0.6 else {}
        if self.random.random() < 0.5:
            query["where"] = self.where(1)
        return "PUT", f"/classes/{self.random.choice(CLASSES)}/{self.id()}", body, query

    def removal(self):
        ids = ",".join(self.id() for _ in range(self.random.choice((1, 1, 3))))
        return "DELETE", f"/classes/{self.random.choice(CLASSES)}/{ids}", None, {"where": self.where(1)} if self.random.random() < 0.5 else {}

    def cql(self):
        name, key = self.random.choice(CLASSES), self.random.choice(("text", "number", "n", VEILED))
        value = self.random.choice(("'plain'", "'mmm-dark-0'", "'kk-veil-longer-0'", "3", "8"))
        text = self.random.choice(
            (
                f"select * from {name} where {key} = {value}",
                f"select count(*) from {name} where {key} != {value}",
                f"select {key} from {name} where text regexp '^m.*' order by {key} limit 3",
                f"select include to, * from {name} where to in (select * from Target where n = 0)",
                f"update {name} set n = 6 where objectId = '{self.id()}' and {key} = {value}",
                f"delete from {name} where objectId = '{self.id()}' and {key} = {value}",
            )
        )
        return "GET", "/cloudQuery", None, {"cql": text}

    def batch(self):
        requests = []
        for _ in range(3):
            method, path, body, query = self.random.choice((self.change, self.removal, self.one, self.listing))()
            query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (query or {}).items()}
            requests.append({"method": method, "path": f"/1.1{path}" + (f"?{urlencode(query)}" if query else ""), "body": body or {}})
        return "POST", "/batch", {"requests": requests}, None

    def relation(self):
        operation = {"__op": self.random.choice(("AddRelation", "RemoveRelation")), "objects": [pointer("Open", self.id())]}
        return self.random.choice(
            (
                ("POST", "/classes/Open", {"friends": operation, "friend": pointer("Open", self.id()), "file": {"__type": "File", "id": self.id()}}, {"fetchWhenSave": "true"}),
                ("PUT", f"/classes/Open/{self.id()}", {"friends": operation}, {}),
                ("GET", "/classes/Target", None, {"where": {"$relatedTo": {"object": pointer(self.random.choice(CLASSES), self.id()), "key": "friends"}}}),
                ("GET", "/classes/Target", None, {"where": {"$relatedTo": {"object": pointer(self.random.choice(CLASSES), self.id()), "key": "friends"}}}),
            )
        )

    def status(self):
        owner = pointer("_User", self.ids[self.random.choice("AB")])
        name = self.random.choice(("_User", *CLASSES))
        sent = {"inboxType": self.random.choice(("default", "private")), "data": {"message": "hi"}, "query": {"className": name, "where": self.where(1), "keys": "to"}}
        return self.random.choice(
            (
                ("POST", "/statuses", sent, None),
                ("GET", "/subscribe/statuses", None, {"owner": owner, "inboxType": self.random.choice(("default", "private"))}),
                ("GET", "/classes/_Status", None, {"where": self.where(1), "include": "source"}),
                ("DELETE", f"/statuses/{self.id()}", None, None),
            )
        )

    def file(self):
        return self.random.choice(
            (
                ("GET", f"/files/{self.id()}", None, None),
                ("DELETE", f"/files/{self.id()}", None, None),
                ("GET", "/classes/_File", None, {"where": {"name": {"$regex": self.random.choice(("^m", "^k"))}}, "count": "1"}),
                ("POST", "/classes/Open", {"file": {"__type": "File", "id": self.id()}}, {"fetchWhenSave": "true"}),
            )
        )

    def role(self):
        joined = {"users": {"__op": "AddRelation", "objects": [pointer("_User", self.ids["B"])]}}
        name = self.random.choice(("circle", "circle ", f"other{self.random.randint(0, 9)}"))
        inner = {"roles": {"__op": "AddRelation", "objects": [pointer("_Role", self.id())]}}
        return self.random.choice(
            (
                ("PUT", f"/roles/{self.id()}", joined, {"fetchWhenSave": "true"}),
                ("POST", "/roles", {"name": name, "ACL": {"*": {"read": True, "write": True}}, **joined}, None),
                ("PUT", f"/roles/{self.id()}", inner, None),
                ("GET", "/roles", None, {"where": self.where(1)}),
            )
        )

    def user(self):
        target = self.ids[self.random.choice("AB")]
        return self.random.choice(
            (
                ("GET", f"/users/{target}", None, None),
                ("GET", "/users", None, {"where": self.where(1)}),
                ("PUT", f"/users/{self.ids['A']}", {"username": "userB2", "password": "x"}, None),
                ("PUT", f"/users/{self.ids['A']}/refreshSessionToken", {}, None),
                ("GET", f"/users/{target}/followersAndFollowees", None, None),
                ("POST", f"/users/{self.ids['B']}/friendship/{self.ids['A']}", {}, None),
                ("POST", "/login", {"username": "userA", "password": "pwB"}, None),
                ("GET", "/schemas", None, None),
                ("GET", "/scan/classes/Open", None, None),
            )
        )

    def saves(self):
        body = {"requests": [{"method": "PUT", "path": f"/1.1/classes/Open/{self.id()}", "body": {"n": 1, "__internalId": self.id()}, "new": True}]}
        return "POST", "/batch/save", body, None


def _resolved(world, who, body):
    """A call's body in a world."""
    if not isinstance(body, dict) or "SECRET" not in body:
        return body
    if body["SECRET"] == "status":
        return world.status()
    fields = world.fields(who)
    if body["SECRET"] == "all":
        return {**fields, "ACL": body["ACL"]}
    return {body["SECRET"]: fields[body["SECRET"]]}


def play(seed, steps=150):
    """Make the calls of a number in both worlds, and raise AssertionError where B could tell them apart."""
    told = []
    for number in (0, 1):
        world = World(number, is_quick=bool(seed % 2))
        try:
            world.set_up()
            hidden = _hidden(world)
            grammar = Grammar(seed, world.ids, world.targets)
            answers = []
            for step in range(steps):
                who, method, path, body, query = grammar.call()
                if who == "A" and method == "PUT" and path.rsplit("/", 1)[1] not in hidden:
                    continue  # what is shown to all is the same in both worlds
                status, text = world.ask(who, method, path, _resolved(world, who, body), query)
                if who in ("A", "master"):
                    continue
                place = f"seed {seed}, step {step}: {who} {method} {path} {json.dumps(body)} {json.dumps(query)}"
                asked = json.dumps([body, query])
                marks = [mark for mark in MARKS if mark in text and mark not in asked]
                assert status < 500 or status == 503, f"{place}\n{status} {text}"
                assert not marks, f"{place}\nshows what only A may see\n{text}"
                assert world.sessions["A"] not in text, f"{place}\nshows a session\n{text}"
                answers.append((place, status, CHANGING.sub("~", text)))
            told.append(answers)
        finally:
            world.close()
    for here, there in zip(*told, strict=True):
        assert here == there, f"{here[0]}\ntells the worlds apart\n{here[1:]}\n{there[1:]}"
    return len(told[0])


def _hidden(world):
    """Ids of the rows that B may not read and A may change."""
    found = set()
    for name in ("Open", "Roled"):
        _, text = world.ask("A", "GET", f"/classes/{name}", None, {"keys": "text", "limit": "1000"})
        found |= {row["objectId"] for row in json.loads(text)["results"] if any(mark in row.get("text", "") for mark in MARKS)}
    return found


# How long others wait -------------------------------------------------------------------------------------------------


def costly(chooser):
    """A call that is as costly as its sender can make it."""
    many = [f"k{number}" for number in range(900)]
    deep = {"n": 1}
    for _ in range(20):
        deep = {"$or": [deep, {"text": {"$regex": "(a+)+$"}}]}
    return chooser.choice(
        (
            ("GET", "/classes/Wide", None, {"keys": ",".join(many), "limit": "1000"}),
            ("GET", "/classes/Wide", None, {"where": {"n": {"$in": list(range(1900))}}}),
            ("GET", "/classes/Wide", None, {"where": {"text": {"$regex": chooser.choice(("^(a|aa)+$", "(a*)*b", "(.*a){12}", "a{1,400}b"))}}, "limit": "1000"}),
            ("GET", "/classes/Wide", None, {"where": deep}),
            ("GET", "/classes/Wide", None, {"include": "to,to.to,to.to.to", "limit": "1000", "order": "-text,n,list"}),
            ("GET", "/classes/Wide", None, {"where": {"text": {"$ne": "x"}}, "count": "1", "skip": "900"}),
            ("POST", "/batch", {"requests": [{"method": "POST", "path": "/1.1/classes/Thrown", "body": {"n": number}} for number in range(50)]}, None),
            ("PUT", "/classes/Wide/x", {"list": {"__op": "AddUnique", "objects": list(range(20_000))}}, None),
            ("POST", "/classes/Thrown", {"text": "a" * 100_000}, None),
            ("GET", "/cloudQuery", None, {"cql": "select * from Wide where text regexp '(a+)+$' or text != 'x' order by text"}),
            ("POST", "/login", {"username": "nobody", "password": "x" * 1000}, None),
        )
    )


def waits(seed, seconds, clients=6):
    """The longest waits of somebody who asks for one object at a time while B makes costly calls: [(seconds, calls)]."""
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        try:
            rows = [{"method": "POST", "path": "/1.1/classes/Wide", "body": {"n": number, "text": "a" * 40 + "!", "list": list(range(50))}} for number in range(50)]
            for _ in range(20):
                storage.request("POST", "/batch", {"requests": rows})
            _, one = storage.request("POST", "/classes/One", {"n": 1})
            end, running, seen = time.monotonic() + seconds, {}, []

            def ask(number):
                chooser = random.Random(seed * 1000 + number)
                while time.monotonic() < end:
                    method, path, body, query = costly(chooser)
                    running[number] = (method, path, str(query)[:60])
                    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (query or {}).items()}
                    with contextlib.suppress(OSError):
                        storage.request(method, path, body, query=texts)

            threads = [threading.Thread(target=ask, args=[number]) for number in range(clients)]
            for thread in threads:
                thread.start()
            while time.monotonic() < end:
                start = time.monotonic()
                storage.request("GET", f"/classes/One/{one['objectId']}")
                seen.append((time.monotonic() - start, sorted(set(running.values()))))
                time.sleep(0.02)
            for thread in threads:
                thread.join()
            return sorted(seen, key=lambda one: one[0], reverse=True)
        finally:
            storage.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--waits", action="store_true")
    options = parser.parse_args()
    if options.waits:
        seen = waits(options.seed, options.seconds)
        for waited, calls in seen[:3]:
            print(f"{waited:.3f} s beside {calls}")
        print(f"{len(seen)} calls waited {seen[len(seen) // 2][0]:.3f} s in the middle, {seen[0][0]:.3f} s at most")
        return
    end, seed, calls = time.monotonic() + options.seconds, options.seed, 0
    while time.monotonic() < end:
        calls += play(seed, options.steps)
        seed += 1
    print(f"seeds {options.seed} to {seed - 1}: {calls} answers to B, the same in both worlds")


if __name__ == "__main__":
    main()
