"""64 clients at once on one object, one user name and one upload URL: the answers fit one order of the calls.

Every write of an object adds 1 to `n` and is answered with the values it made, so `n` tells its place in the order. A
model that makes the writes in that order must come to every answer, and nobody who started after a write was answered
may come before it. That is linearizability, checked without a search.
"""
import itertools
import json
import random
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.leanstorage.service_support import KEYS, ServiceTestCase

CLIENTS = 64
EACH = 5


@dataclass
class Write:
    """A call as its client saw it: when, what it asked, and what came back."""

    began: float
    ended: float
    changes: dict
    condition: bool
    status: int
    answer: dict

    @property
    def place(self):
        return self.answer["n"]


def add(*items):
    return {"__op": "Add", "objects": list(items)}


def increment(amount):
    return {"__op": "Increment", "amount": amount}


def model(state, changes):
    """The values that `changes` make of `state`, which they change too: the three ops of this test, in plain Python."""
    for key, change in changes.items():
        match change:
            case {"__op": "Increment", "amount": amount}:
                state[key] = state.get(key, 0) + amount
            case {"__op": "Add", "objects": items}:
                state[key] = state.get(key, []) + items
            case _:
                state[key] = change
    return {key: state[key] for key in changes}


class ConcurrencyTest(ServiceTestCase):
    def send(self, method, path, body=None, query=""):
        """(status, decoded answer), from any thread."""
        headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
        data = b"" if body is None else json.dumps(body).encode()
        response = self.raw(method, "/1.1" + path, data, headers, QUERY_STRING=query)
        return response.status, response.json()

    def at_once(self, work, number=CLIENTS):
        with ThreadPoolExecutor(number) as pool:
            return list(pool.map(work, range(number)))

    def writes_of(self, path, client, stop=lambda: False):
        """What one client does: plain, conditional and batched writes, in an order of its own."""
        chance, done = random.Random(client), []
        for number in range(EACH):
            name = f"{client}/{number}"
            kind = chance.choice(["set", "add", "buy", "buy", "batch"])
            if kind == "batch":
                done += self.batch(path, [{"last": f"{name}/{part}", "names": add(name)} for part in (1, 2)])
            elif kind == "buy":
                done.append(self.write(path, {"stock": increment(-1), "names": add(name)}, condition=True))
            else:
                done.append(self.write(path, {"last": name} if kind == "set" else {"names": add(name)}))
            if stop():
                break
        return done

    def write(self, path, changes, condition=False):
        changes = {"n": increment(1), **changes}
        query = "fetchWhenSave=true" + ("&where=%7B%22stock%22%3A%7B%22%24gt%22%3A0%7D%7D" if condition else "")
        began = time.monotonic()
        status, answer = self.send("PUT", path, changes, query)
        return Write(began, time.monotonic(), changes, condition, status, answer)

    def batch(self, path, several):
        several = [{"n": increment(1), **changes} for changes in several]
        requests = [
            {"method": "PUT", "path": "/1.1" + path, "body": changes, "params": {"fetchWhenSave": True}} for changes in several
        ]
        began = time.monotonic()
        status, answers = self.send("POST", "/batch", {"requests": requests})
        self.assertEqual(status, 200, answers)
        ended = time.monotonic()
        return [
            Write(began, ended, changes, False, 200 if "success" in answer else 404, answer.get("success") or answer["error"])
            for changes, answer in zip(several, answers)
        ]

    def check(self, writes, state):
        """The states that the object went through, the given one first; fails unless the answers fit them."""
        made = sorted((write for write in writes if write.status == 200), key=lambda write: write.place)
        self.assertEqual([write.place for write in made], list(range(1, len(made) + 1)))
        states = [dict(state)]
        for write in made:
            if write.condition:
                self.assertGreater(state["stock"], 0)
            wanted = model(state, write.changes)
            self.assertEqual({key: write.answer[key] for key in wanted}, wanted)
            states.append(dict(state))
        latest_start = 0
        for write in made:  # nobody comes before one that was answered when it began
            self.assertGreater(write.ended, latest_start)
            latest_start = max(latest_start, write.began)
        for write in writes:
            if write.status == 400:
                self.assertEqual((write.condition, write.answer["code"]), (True, 305))
                first = max((other.place for other in made if other.ended < write.began), default=0)
                last = max((other.place for other in made if other.began < write.ended), default=0)
                self.assertTrue(any(state["stock"] <= 0 for state in states[first : last + 1]))
        return states

    def test_writes_of_64_clients_on_one_object_fit_one_order(self):
        path = "/classes/Shared/" + self.make("Shared", stock=20, n=0)
        writes = list(itertools.chain(*self.at_once(lambda client: self.writes_of(path, client))))
        self.assertEqual({write.status for write in writes}, {200, 400})
        states = self.check(writes, {"stock": 20, "n": 0})
        _, found = self.send("GET", path)
        self.assertEqual({key: found[key] for key in states[-1]}, states[-1])
        self.assertEqual(found["stock"], 0)

    def test_object_deleted_among_64_writers_stays_deleted(self):
        path = "/classes/Gone/" + self.make("Gone", stock=20, n=0)
        deleted = []

        def work(client):
            if client != CLIENTS // 2:
                return self.writes_of(path, client)
            began = time.monotonic()
            status, _ = self.send("DELETE", path)
            deleted.append((began, time.monotonic(), status))
            return []

        writes = list(itertools.chain(*self.at_once(work)))
        [(began, ended, status)] = deleted
        self.assertEqual(status, 200)
        gone = [write for write in writes if write.status == 404 or (write.status == 400 and write.ended > began)]
        self.check([write for write in writes if write not in gone], {"stock": 20, "n": 0})
        for write in writes:
            if write in gone:  # a condition holds for no object that is not there
                self.assertEqual(write.answer["code"], 305 if write.condition else 1)
                self.assertGreater(write.ended, began)
            else:
                self.assertLess(write.began, ended)
        self.assertEqual(self.send("GET", path), (200, {}))
        self.assertEqual(self.send("GET", "/classes/Gone")[1]["results"], [])

    def test_one_of_64_deletes_of_one_object_finds_it(self):
        path = "/classes/Twice/" + self.make("Twice", a=1)
        statuses = [status for status, _ in self.at_once(lambda _: self.send("DELETE", path))]
        self.assertLessEqual(set(statuses), {200, 404})
        self.assertGreaterEqual(statuses.count(200), 1)

    def test_one_of_64_sign_ups_gets_the_name(self):
        answers = self.at_once(lambda client: self.send("POST", "/users", {"username": "wanted", "password": f"p{client}"}))
        self.assertEqual(sorted(status for status, _ in answers), [201] + [400] * (CLIENTS - 1))
        self.assertEqual({answer["code"] for status, answer in answers if status == 400}, {202})
        [winner] = [client for client, (status, _) in enumerate(answers) if status == 201]
        login = self.send("POST", "/login", {"username": "wanted", "password": f"p{winner}"})
        self.assertEqual(login[0], 200, login)
        self.assertEqual(login[1]["objectId"], answers[winner][1]["objectId"])

    def test_one_of_64_uploads_to_one_url_is_kept_whole(self):
        _, token = self.send("POST", "/fileTokens", {"name": "a.txt"})
        upload = "/uploads/" + token["upload_url"].rpartition("/")[2]

        def work(client):
            return self.raw("PUT", "/1.1" + upload, bytes([client]) * 70_000).status

        statuses = self.at_once(work)
        self.assertEqual(sorted(statuses), [200] + [401] * (CLIENTS - 1))
        found = self.raw("GET", "/" + token["key"])
        self.assertEqual(found.body, bytes([statuses.index(200)]) * 70_000)


if __name__ == "__main__":
    unittest.main()
