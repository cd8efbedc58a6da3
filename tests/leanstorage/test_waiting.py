"""Calls that wait for PostgreSQL on the server's loop: what becomes of them when the database is slow, busy or gone."""
import http.client
import json
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from leanstorage.http.inline_calls import quick_calls
from leanstorage.http.server import Server
from leanwsgi.workers import listen
from tests.leanstorage.service_support import KEYS, SERVER, ServiceTestCase
from tests.support import changed_environment, until

CLIENTS = 64


@unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
class WaitingTest(ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        # With a loop of the test's own, its connections and the server's would be all there are.
        with changed_environment(LEANSTORAGE_TEST_QUICK=""):
            super().setUpClass()
        cls.on_threads = []
        application = cls.application

        def noting(environ, start_response):
            cls.on_threads.append(environ["REQUEST_METHOD"])
            return application(environ, start_response)

        cls.quick = quick_calls(cls.service)
        cls.server = Server(noting, listen("127.0.0.1", 0), 8, 1 << 20, cls.quick)
        cls.server.start()
        cls.addClassCleanup(cls.server.stop)
        cls.wait_for_connections()

    @classmethod
    def wait_for_connections(cls):
        end = time.monotonic() + 10
        while len(cls.quick._store._idle) < 8 and time.monotonic() < end:
            time.sleep(0.01)

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
        try:
            connection.request(method, f"/1.1{path}", body and json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def run_beside(self, text, *params):
        import psycopg

        with psycopg.connect(self.database, autocommit=True) as connection:
            return connection.execute(text, params).fetchall()

    def test_more_calls_than_connections_are_all_answered_and_lose_nothing(self):
        object_id = self.ask("POST", "/classes/Busy", {"n": 0})[1]["objectId"]
        self.on_threads.clear()

        def add(number):
            body = {"n": {"__op": "Increment", "amount": 1}}
            return self.ask("PUT", f"/classes/Busy/{object_id}", body)[0], self.ask("GET", "/classes/Busy")[0]

        with ThreadPoolExecutor(CLIENTS) as pool:
            statuses = set(pool.map(add, range(200)))
        self.assertEqual(statuses, {(200, 200)})
        self.assertEqual(self.ask("GET", f"/classes/Busy/{object_id}")[1]["n"], 200)
        self.assertLess(len(self.on_threads), 400)

    def test_statement_that_waits_for_a_lock_ends_on_a_thread_and_others_go_on_meanwhile(self):
        import psycopg

        object_id = self.ask("POST", "/classes/Locked", {"n": 1})[1]["objectId"]
        other = self.ask("POST", "/classes/Locked", {"n": 1})[1]["objectId"]
        self.on_threads.clear()
        answers = []
        with psycopg.connect(self.database) as holder:
            holder.execute("SELECT 1 FROM objects WHERE id = %s FOR UPDATE", [object_id])
            waiting = threading.Thread(
                target=lambda: answers.append(self.ask("PUT", f"/classes/Locked/{object_id}", {"n": 2}))
            )
            waiting.start()
            end = time.monotonic() + 10
            while not self.on_threads and time.monotonic() < end:
                self.assertEqual(self.ask("PUT", f"/classes/Locked/{other}", {"n": 3})[0], 200)
            self.assertEqual(self.on_threads, ["PUT"])
            self.assertEqual(answers, [])
        waiting.join(10)
        self.assertEqual(answers[0][0], 200)
        self.assertEqual(self.ask("GET", f"/classes/Locked/{object_id}")[1]["n"], 2)

    def test_lost_connections_are_replaced_and_no_call_fails(self):
        object_id = self.ask("POST", "/classes/Lost", {"n": 1})[1]["objectId"]
        add = {"n": {"__op": "Increment", "amount": 1}}
        with self.assertLogs("psycopg.pool", "WARNING"):
            for _ in range(3):
                self.run_beside(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                for _ in range(20):
                    self.assertEqual(self.ask("GET", f"/classes/Lost/{object_id}")[0], 200)
                    self.assertEqual(self.ask("PUT", f"/classes/Lost/{object_id}", add)[0], 200)
            self.wait_for_connections()
        self.on_threads.clear()
        self.assertEqual(self.ask("GET", f"/classes/Lost/{object_id}")[1]["n"], 61)
        self.assertEqual(self.on_threads, [])

    def test_connections_that_the_loop_did_not_take_over_before_its_end_are_closed(self):
        from leanstorage.store.postgresql.waiting import WaitingStore

        loop = mock.Mock()  # one that has ended: it calls nothing any more
        waiting = WaitingStore(self.service.store, loop)
        until(lambda: loop.soon.call_count == self.service.store.max_lent, 20)
        connections = list(waiting._coming)
        self.assertEqual(len(connections), self.service.store.max_lent)
        waiting.close()
        self.assertTrue(all(connection.closed for connection in connections))

    def test_large_answer_is_made_by_a_thread(self):
        for size, count in ((100, 20), (50_000, 30)):
            for _ in range(count):
                self.ask("POST", f"/classes/Size{size}", {"text": "x" * size})
            self.on_threads.clear()
            self.assertEqual(len(self.ask("GET", f"/classes/Size{size}")[1]["results"]), count)
            self.assertEqual(self.on_threads, ["GET"] if size > 100 else [])

    def test_refused_write_leaves_no_transaction_open(self):
        self.ask("POST", "/classes/Typed", {"n": 1})
        for _ in range(10):
            self.assertEqual(self.ask("POST", "/classes/Typed", {"n": "text"})[0], 400)
            self.assertEqual(self.ask("PUT", "/classes/Typed/0123456789abcdef01234567", {"n": 2})[0], 404)
        states = self.run_beside(
            "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        self.assertNotIn(("idle in transaction",), states)
        self.assertNotIn(("idle in transaction (aborted)",), states)


if __name__ == "__main__":
    unittest.main()
