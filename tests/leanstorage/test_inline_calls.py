"""Quick calls: which there are, and that one that begins on the loop and ends on a thread is the same call."""
import io
import json
import time
import unittest
from contextlib import redirect_stderr
from unittest import mock
from wsgiref.util import setup_testing_defaults

from leanstorage.http import inline_calls
from leanstorage.store import open_store, Row, StoreUnavailable
from tests.leanstorage.service_support import KEYS, QuickApplication, SERVER, ServiceTestCase

THERE = "8.8.8.8"


def environ_of(method, path, body=b""):
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    environ |= {"HTTP_X_LC_ID": KEYS["id"], "HTTP_X_LC_KEY": KEYS["key"], "REMOTE_ADDR": "127.0.0.1"}
    setup_testing_defaults(environ)
    return environ


class QuickTest(ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not isinstance(cls.application, QuickApplication):
            cls.application = QuickApplication(cls.service, cls.application)
            cls.addClassCleanup(cls.application.quick.stop)

    def test_kind_with_table(self):
        cases = [
            ("GET", "/1.1/classes/A/1", 0, True),
            ("GET", "//1.1/classes/A", 0, True),
            ("POST", "/1.1/classes/A", 10, True),
            ("PUT", "/1.1/classes/A/1", 10, True),
            ("DELETE", "/1.1/classes/A/1", 0, True),
            ("POST", "/1.1/classes/filesystem", 10, True),
            ("POST", "/1.1/classes/A/1", 10, False),
            ("PUT", "/1.1/classes/A", 10, False),
            ("PATCH", "/1.1/classes/A/1", 10, False),
            ("POST", "/1.1/classes/A", 1 << 20, False),
            ("DELETE", "/1.1/classes/A/1,2", 0, False),
            ("POST", "/1.1/classes/_User", 10, False),
            ("POST", "/1.1/classes/files", 10, False),
            ("DELETE", "/1.1/classes/files/1", 0, False),
            ("GET", "/1.1/login", 0, False),
            ("GET", "/1.1/users/me", 0, True),
            ("PUT", "/1.1/users/me", 10, False),
            ("GET", "/1.1/users/someone", 0, False),
        ]
        for method, path, length, is_quick in cases:
            with self.subTest(method=method, path=path, length=length):
                self.assertEqual(bool(self.application.quick.kind(method, path, length)), is_quick)

    def test_plain_calls_are_answered_without_a_thread(self):
        self.make("Plain", n=0)
        before = self.application.answered
        object_id = self.make("Plain", n=1)
        self.api("PUT", f"/classes/Plain/{object_id}", {"n": 2}, 200)
        self.assertEqual(self.get("Plain", object_id)["n"], 2)
        self.assertEqual(len(self.find("Plain", {"n": 2})), 1)
        self.api("DELETE", f"/classes/Plain/{object_id}", status=200)
        self.assertEqual(self.application.answered, before + 5)

    @unittest.skipIf(SERVER, "PostgreSQL's writes come in no groups")
    def test_write_whose_commit_failed_is_refused_under_its_own_id(self):
        group = self.application.quick.open_group()
        answer = 201, [("Location", "/there"), ("X-Request-Id", "abc")], b"made"
        with redirect_stderr(io.StringIO()):
            status, headers, body = group.refusal(StoreUnavailable("the disk is full"), answer)
        group.commit()
        self.assertEqual((status, json.loads(body)["code"], dict(headers).get("X-Request-Id")), (503, 503, "abc"))
        self.assertNotIn("Location", dict(headers))

    @unittest.skipIf(SERVER, "PostgreSQL's writes come in no groups")
    def test_class_that_changes_amid_the_writes_of_a_group_or_between_groups_is_seen(self):
        def together(*bodies):
            """The statuses of creates in one group, None for one that is left to a thread."""
            group = self.application.quick.open_group()
            try:
                answers = [group.write(environ_of("POST", "/1.1/classes/Shared", json.dumps(body).encode())) for body in bodies]
            finally:
                group.commit()
            return [answer and answer[0] for answer in answers]

        self.make("Shared", n=1)
        for number in range(2):
            new = f"new{number}"
            self.assertEqual(together({"n": 2}, {"n": 3}, {"n": "text"}, {"n": 4}, {new: "text"}), [201, 201, 400, 201, 201])
            self.assertEqual(together({new: "text"}, {new: 5}), [None, 400])  # the first is left to a thread, as the class has changed
            self.code(111, "POST", "/classes/Shared", {new: 5})
            self.assertEqual(together({new: "text"}, {new: 5}), [201, 400])
        other = open_store(self.database)  # another process
        self.addCleanup(other.close)

        def closed(transaction):
            info = transaction.class_info("Shared", lock=True)
            transaction.save_class("Shared", {**info, "permissions": {"create": {"users": False, "names": []}}})

        other.write(closed)
        self.assertEqual(together({"n": 5}, {"n": 6}), [None, 403])
        self.code(403, "POST", "/classes/Shared", {"n": 5}, status=403)
        self.assertEqual(len(self.api("GET", "/classes/Shared", master=True)["results"]), 11)

    @unittest.skipIf(SERVER, "PostgreSQL's calls have a transaction each")
    def test_calls_of_a_turn_see_the_database_at_one_moment_and_those_of_the_next_what_was_written_since(self):
        quick, object_id = self.application.quick, self.make("Moments", n=0)

        def seen():
            answers = []
            quick.call(environ_of("GET", f"/1.1/classes/Moments/{object_id}"), answers.append)
            return json.loads(answers[0][2])["n"]

        def write(transaction):
            found = transaction.get("Moments", object_id)
            transaction.update("Moments", Row(object_id, found.created, found.updated + 1, None, {"n": found.body["n"] + 1}))

        for number in range(3):
            self.assertEqual((seen(), seen()), (number, number))
            quick.check(lambda error: self.assertIsNone(error))
            self.service.store.write(write)
            self.assertEqual(seen(), number)
            quick.turn()
            quick.check(lambda error: self.assertIsNone(error))  # before the next calls have come: it opens nothing for them
            self.assertIsNone(quick._snapshot)

    def test_write_that_needs_a_thread_keeps_its_body(self):
        object_id = self.make("Whole", word="abc")
        before = self.application.answered
        self.api("PUT", f"/classes/Whole/{object_id}", {"n": 2}, 200, where='{"word": {"$regex": "b"}}')
        self.assertEqual(self.application.answered, before)
        self.assertEqual(self.get("Whole", object_id)["n"], 2)

    def test_call_that_needs_a_thread_counts_once(self):
        self.make("Counted", word="abc")
        headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"]}
        pattern = "where=%7B%22word%22%3A%7B%22%24regex%22%3A%22b%22%7D%7D"
        with mock.patch.object(self.service.options, "max_requests_per_minute", 4):
            statuses = [
                self.raw("GET", "/1.1/classes/Counted", headers=headers, REMOTE_ADDR=THERE, QUERY_STRING=pattern).status
                for _ in range(6)
            ]
        self.assertEqual(statuses, [200] * 4 + [429] * 2)

    @unittest.skipIf(SERVER, "PostgreSQL's loop waits for nobody's objects")
    def test_class_whose_calls_keep_the_loop_busy_is_a_threads_for_a_while(self):
        quick = self.application.quick
        object_id = self.make("Heavy", n=0)
        calls = (
            lambda: self.find("Heavy", {"n": 1}),
            lambda: self.api("PUT", f"/classes/Heavy/{object_id}", {"n": 2}, 200),
        )
        for call in calls:
            with mock.patch.object(inline_calls, "SLOW_SECONDS", 100):
                call()
            self.assertEqual(quick.kind("GET", "/1.1/classes/Heavy", 0), "call")
            with mock.patch.object(inline_calls, "SLOW_SECONDS", 0):
                call()  # which may have waited for another program
                self.assertEqual(quick.kind("GET", "/1.1/classes/Heavy", 0), "call")
                call()
            kinds = [quick.kind(method, f"/1.1/classes/{name}", 0) for method, name in (("GET", "Heavy"), ("POST", "Heavy"), ("GET", "Light"))]
            self.assertEqual(kinds, [None, None, "call"])
            before = self.application.answered
            call()
            self.assertEqual(self.application.answered, before)
            with mock.patch.object(inline_calls.time, "monotonic", return_value=time.monotonic() + inline_calls.AWAY_SECONDS + 1):
                self.assertEqual(quick.kind("GET", "/1.1/classes/Heavy", 0), "call")
            quick._away.clear()
            quick._suspects.clear()

    @unittest.skipIf(SERVER, "PostgreSQL's loop waits for nobody's objects")
    def test_class_whose_call_waited_for_others_stays_the_loops(self):
        quick = self.application.quick
        environ = {"PATH_INFO": "/1.1/classes/Waited"}
        with mock.patch.object(inline_calls.time, "thread_time", return_value=1.0) as thread_time:
            for number in range(3):
                with mock.patch.object(inline_calls.time, "perf_counter", side_effect=[0.0, 1.0]):
                    quick.ended(environ, quick.begun(environ))
                self.assertEqual(thread_time.call_count, 2 * number)
        self.assertEqual(quick.kind("GET", "/1.1/classes/Waited", 0), "call")


if __name__ == "__main__":
    unittest.main()
