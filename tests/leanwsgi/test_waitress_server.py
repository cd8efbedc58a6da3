"""Threads that are woken seldom: nothing may be left lying, and nobody be woken in vain; an end that answers first."""
import os
import select
import signal
import socket
import sys
import threading
import time
import unittest
from functools import partial
from unittest import mock

from waitress.adjustments import Adjustments

from leanwsgi import waitress_server
from leanwsgi.workers import listen
from leanengine.server import create_server
from leanwsgi.waitress_server import Pool, Trigger
from tests.support import until

SECONDS = 5  # until what should happen at once counts as never


class Task:
    """What a pool is given."""

    def __init__(self, service, cancel=lambda: None):
        self.service, self.cancel = service, cancel


class WaitressTest(unittest.TestCase):
    def test_waitress_has_every_name_that_is_relied_upon(self):
        """First here when a new version changes one."""
        with listen("127.0.0.1", 0) as listening:
            server = waitress_server.create_server(print, [listening], Pool())
            channel = server.channel_class(server, listening.dup(), ("127.0.0.1", 1), server.adj, map={})
            request = waitress_server.HTTPRequestParser(server.adj)
            request.received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            rows = (
                (server, "accepting active_channels adj channel_class effective_port handle_accept in_connection_overflow _map trigger task_dispatcher"),
                (server.adj, "asyncore_loop_timeout connection_limit max_request_body_size send_bytes"),
                (channel, "connected handle_close handle_write last_activity request requests requests_lock send send_continue sent_continue service total_outbufs_len writable write_soon"),
                (request, "chunked command connection_close error expect_continue get_body_stream headers headers_finished parse_header path received version"),
                (server.task_dispatcher, "add_task lock logger queue set_thread_count shutdown stop_count thread_exit_cv threads"),
                (server.trigger, "_closed _physical_pull pull_trigger thunks"),
                (waitress_server.wasyncore, "close_all dispatcher poll2"),
                (waitress_server.WSGITask(channel, request), "get_environment"),
            )
            try:
                for owner, names in rows:
                    for name in names.split():
                        with self.subTest(owner=type(owner).__name__, name=name):
                            self.assertTrue(hasattr(owner, name))
            finally:
                channel.close()
                server.trigger.close()


class ParserTest(unittest.TestCase):
    FIRST = (
        b"GET / HTTP/1.1", b"POST /a%20b/?c=d#e HTTP/1.1", b"PUT //x HTTP/1.1", b"GET http://h:1/p HTTP/1.1", b"GET / HTTP/1.0", b"GET /",
        b"get / HTTP/1.1", b"GET / HTTP/1.1 ", b"GET  / HTTP/1.1", b"G\rT / HTTP/1.1", b"\r\nGET / HTTP/1.1", b" HTTP/1.1", b"GET http://[ HTTP/1.1",
        b"PUT /1.1/classes/A_b-c.d~e/1f?where={\"a\":[1]}&b=http://h/?/%2f HTTP/1.1", b"DELETE /a/ HTTP/1.1", b"GET /a//b HTTP/1.1", b"GET /a? HTTP/1.1",
        b"GET /?a?b HTTP/1.1", b"GET /a;b:c@d HTTP/1.1", b"GET /a?b#c HTTP/1.1", b"GET /a?\x7f HTTP/1.1", b"GET /a?\xe9 HTTP/1.1", b"GET /a\tb HTTP/1.1",
        b"HEAD /a?b c HTTP/1.1", b"GET-X /a HTTP/1.1", b"GET a HTTP/1.1", b"GET ?a HTTP/1.1", b"GET HTTP/1.1",
    )
    HEADERS = (
        b"", b"Host: x", b"Host: x\r\nX-A: 1\r\nx-a:2\r\nX_A: 3", b"X-Wide: a\r\n  b", b" folded: first", b"No colon", b"Bare: a\nb", b"Bare: a\rb",
        b"Blank : x", b"Content-Length: 3", b"Content-Length: 003", b"Content-Length: 0", b"Content-Length: 3\r\nContent-Length: 3",
        b"Content-Length: -1", b"Content-Length:", b"Content-Length: 3x", b"Content-Length: " + b"9" * 5000, b"Content-Length: 99",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked\r\nContent-Length: 3", b"Transfer-Encoding:", b"Transfer-Encoding: ,",
        b"Expect: 100-continue\r\nContent-Length: 3", b"Connection: close", b"Connection: keep-alive", b"Connection: Close", b"X: \xff\x85",
        b"X-Long: " + b"x" * 3000,
    )

    @staticmethod
    def outcome(parser, data):
        """What of a request the rest of waitress looks at, and how many bytes were taken."""
        taken = [parser.received(data)]
        while not parser.completed and sum(taken) < len(data):
            taken.append(parser.received(data[sum(taken) :]))
        names = "version command path query url_scheme headers chunked connection_close content_length error completed empty expect_continue request_uri"
        found = {name: getattr(parser, name, None) for name in names.split()}
        if parser.error:
            found = {"error": type(parser.error).__name__, "version": parser.version, "completed": parser.completed}
        return {**found, "taken": taken, "body": parser.get_body_stream().read()}

    def test_request_is_parsed_as_waitress_does_whether_its_headers_are_known_or_not(self):
        adj = Adjustments(max_request_body_size=50)
        for first in self.FIRST:
            for headers in self.HEADERS:
                data = first + b"\r\n" + headers + (b"\r\n\r\n" if headers else b"\r\n") + b"3\r\nabc\r\n0\r\n\r\n"
                with self.subTest(first=first, headers=headers[:80]):
                    try:
                        wanted = self.outcome(waitress_server.HTTPRequestParser(adj), data)
                    except ValueError:  # what waitress does not foresee
                        wanted = None
                    for _ in range(2):
                        found = self.outcome(waitress_server.Parser(adj), data)
                        if wanted is None:
                            self.assertEqual((found["error"], found["completed"]), ("BadRequest", True))
                        else:
                            self.assertEqual(found, wanted)

    def test_headers_that_take_much_memory_are_not_remembered(self):
        """As objects, hundreds of small ones take twenty times their bytes."""
        adj = Adjustments()
        remembered = waitress_server._plain_headers
        remembered.cache_clear()
        for lines, added in ((49, 1), (300, 0)):
            before = remembered.cache_info().currsize
            parser = waitress_server.Parser(adj)
            parser.received(b"GET / HTTP/1.1\r\n" + b"".join(b"%x:\r\n" % number for number in range(lines)) + b"\r\n")
            self.assertEqual((parser.error, len(parser.headers)), (None, lines))
            self.assertEqual(remembered.cache_info().currsize - before, added)

    def test_headers_of_one_request_are_not_the_next_ones(self):
        adj = Adjustments()
        first, second = (waitress_server.Parser(adj) for _ in range(2))
        for parser in (first, second):
            parser.received(b"GET / HTTP/1.1\r\nHost: x\r\nX-Same: 1\r\n\r\n")
            parser.headers["CONNECTION"] = "close"
        self.assertEqual(sorted(second.headers), ["CONNECTION", "HOST", "X_SAME"])
        third = waitress_server.Parser(adj)
        third.received(b"GET / HTTP/1.1\r\nHost: x\r\nX-Same: 1\r\n\r\n")
        self.assertEqual(third.headers, {"HOST": "x", "X_SAME": "1"})


class PoolTest(unittest.TestCase):
    def pool(self, threads):
        pool = Pool()
        pool.set_thread_count(threads)
        self.addCleanup(pool.shutdown)
        return pool

    def test_as_many_tasks_as_threads_that_wait_for_each_other_all_run_at_once(self):
        barrier = threading.Barrier(9)
        pool = self.pool(8)
        for _ in range(8):
            pool.add_task(Task(barrier.wait))
        barrier.wait(SECONDS)

    def test_task_behind_ones_that_wait_is_served_when_a_thread_is_left(self):
        pool = self.pool(4)
        release, served = threading.Event(), threading.Event()
        self.addCleanup(release.set)
        for _ in range(3):
            pool.add_task(Task(release.wait))
        pool.add_task(Task(served.set))
        self.assertTrue(served.wait(SECONDS))

    def test_tasks_that_come_from_many_threads_are_all_served_once(self):
        pool, served = self.pool(8), []
        done = threading.Semaphore(0)

        def serve(number):
            served.append(number)
            done.release()

        def add(first):
            for number in range(first, 20000, 4):
                pool.add_task(Task(partial(serve, number)))
                if number % 50 < 4:
                    self.assertTrue(done.acquire(timeout=SECONDS))  # the queue runs empty from time to time

        adders = [threading.Thread(target=add, args=[first]) for first in range(4)]
        for adder in adders:
            adder.start()
        for adder in adders:
            adder.join()
        for _ in range(20000 - len(range(0, 20000, 50)) * 4):
            self.assertTrue(done.acquire(timeout=SECONDS))
        self.assertTrue(sorted(served) == list(range(20000)), f"{len(served)} served, {len(set(served))} of them different")

    def test_tasks_that_come_together_wake_one_thread(self):
        pool, done = self.pool(8), threading.Semaphore(0)
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(SECONDS)  # nobody takes the interpreter from this thread while it adds them
        until(lambda: len(pool._idle) == 8)
        for _ in range(8):
            pool.add_task(Task(done.release))
        self.assertEqual(len(pool._idle), 7)
        for _ in range(8):
            self.assertTrue(done.acquire(timeout=SECONDS))

    def test_thread_that_served_last_serves_next(self):
        pool, served = self.pool(8), []
        for number in range(20):
            until(lambda: len(pool._idle) == 8)
            pool.add_task(Task(lambda: served.append(threading.current_thread().name)))
            until(lambda: len(served) > number)  # noqa: B023 it runs at once
        self.assertEqual(len(set(served)), 1, served)

    def test_task_that_raises_leaves_its_thread_at_work(self):
        pool, served = self.pool(1), threading.Event()
        with self.assertLogs("waitress", "ERROR"):
            pool.add_task(Task(lambda: 1 / 0))
            pool.add_task(Task(served.set))
            self.assertTrue(served.wait(SECONDS))

    def test_shutdown_ends_threads_and_cancels_what_waits(self):
        pool, release, cancelled = Pool(), threading.Event(), threading.Event()
        pool.set_thread_count(1)
        entered = threading.Event()
        pool.add_task(Task(lambda: (entered.set(), release.wait(SECONDS))))
        self.assertTrue(entered.wait(SECONDS))
        pool.add_task(Task(lambda: self.fail("it was to be cancelled"), cancelled.set))
        with self.assertLogs("waitress", "WARNING"):
            pool.shutdown(timeout=0)
        self.assertTrue(cancelled.is_set())
        release.set()
        pool.shutdown()
        self.assertFalse(pool.threads)


class TriggerTest(unittest.TestCase):
    def setUp(self):
        self.files = {}
        self.trigger = Trigger(self.files)
        self.addCleanup(self.trigger.close)

    def test_loop_is_woken_once_by_all_who_ask_before_it_looks(self):
        with mock.patch("os.write", return_value=1) as write:
            for _ in range(5):
                self.trigger.pull_trigger()
        self.assertEqual(write.call_count, 1)

    def test_who_asks_after_the_loop_looked_wakes_it_again(self):
        for _ in range(3):
            self.trigger.pull_trigger()
            self.assertTrue(self.is_pulled())
            self.trigger.handle_read()
            self.assertFalse(self.is_pulled())

    def test_loop_that_ends_while_somebody_asks_does_not_close_the_file_under_them(self):
        ending = threading.Thread(target=self.trigger.close)

        def write_slowly(file, data):
            ending.start()
            ending.join(0.2)
            os.fstat(file)
            return len(data)

        with mock.patch("os.write", write_slowly):
            self.trigger.pull_trigger()
        ending.join()
        self.trigger.pull_trigger()  # nothing happens any more

    def test_who_asks_while_the_loop_is_about_to_look_keeps_nobody_from_waking_it_later(self):
        read = self.trigger.socket.recv

        def asked_meanwhile(size):
            self.trigger.pull_trigger()
            return read(size)

        self.trigger.pull_trigger()
        with mock.patch.object(self.trigger.socket, "recv", asked_meanwhile):
            self.trigger.handle_read()
        self.trigger.pull_trigger()
        self.assertTrue(self.is_pulled())

    def test_function_that_raises_keeps_no_other_from_being_called(self):
        called = []
        with self.assertLogs("waitress", "ERROR"):
            self.trigger.pull_trigger(lambda: 1 / 0)
            self.trigger.pull_trigger(lambda: called.append(1))
            self.trigger.handle_read()
        self.assertEqual(called, [1])

    def test_signal_handler_may_ask_while_the_loop_or_a_thread_does(self):
        asked, called = 0, []

        def handler(*_):
            nonlocal asked
            asked += 1
            self.trigger.pull_trigger(lambda: called.append(None))

        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, handler))
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        end = time.monotonic() + SECONDS
        while asked < 1000 and time.monotonic() < end:
            self.trigger.pull_trigger(lambda: None)
            self.trigger.handle_read()
        signal.setitimer(signal.ITIMER_REAL, 0)
        while self.is_pulled():
            self.trigger.handle_read()
        self.assertEqual((len(called), asked >= 1000), (asked, True))

    def is_pulled(self):
        return bool(select.select([self.trigger._fds[0]], [], [], 0)[0])

    def test_functions_for_the_loop_all_run_whoever_asks_meanwhile(self):
        asked = []

        def ask():
            for _ in range(2000):
                self.trigger.pull_trigger(lambda: asked.append(None))

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        while len(asked) < 8000:
            ready, _, _ = select.select([self.trigger._fds[0]], [], [], SECONDS)
            self.assertTrue(ready, f"nobody woke the loop for the rest: {len(asked)} of 8000 ran")
            self.trigger.handle_read()
        for asker in askers:
            asker.join()


class EndTest(unittest.TestCase):
    """`/slow` is answered when the test says so."""

    def setUp(self):
        self.entered, self.leave = threading.Semaphore(0), threading.Event()

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/slow":
                self.entered.release()
                self.leave.wait(20)
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
            return [b"ok"]

        listening = listen("127.0.0.1", 0)
        self.port = listening.getsockname()[1]
        self.server = create_server(application, [listening], 2, 1 << 20)
        self.server.adj.asyncore_loop_timeout = 60  # longer than any test waits: who forgets to wake the loop fails
        self.thread = threading.Thread(target=waitress_server.run, args=[self.server])
        self.thread.start()
        self.addCleanup(self.thread.join)
        self.addCleanup(waitress_server.stop, self.server)
        self.addCleanup(self.leave.set)

    def ask(self, path="/", more=b""):
        connection = socket.create_connection(("127.0.0.1", self.port), SECONDS)
        self.addCleanup(connection.close)
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() + more)
        return connection

    def refused(self):
        """Wait until nobody new is let in."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), SECONDS).close()
            except (ConnectionRefusedError, ConnectionResetError):
                return
            time.sleep(0.01)
        self.fail("new connections are still taken")

    def everything(self, connection):
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    def test_what_is_being_answered_or_waits_for_a_thread_is_answered_and_nobody_new_let_in(self):
        asked = [self.ask("/slow") for _ in range(4)]  # by two threads
        for _ in range(2):
            self.assertTrue(self.entered.acquire(timeout=SECONDS))
        until(lambda: sum(len(channel.requests) for channel in [*self.server.active_channels.values()]) == 4)
        waitress_server.stop(self.server)
        self.refused()
        self.assertTrue(self.thread.is_alive())
        self.leave.set()
        for connection in asked:
            self.assertRegex(self.everything(connection), rb"(?is)^HTTP/1.1 200 OK\r\n.*connection: close\r\n.*\r\n\r\nok$")
        self.thread.join(SECONDS)
        self.assertFalse(self.thread.is_alive())

    def test_idle_and_half_sent_connections_do_not_keep_the_server(self):
        idle = self.ask()
        self.assertTrue(idle.recv(1 << 16).endswith(b"ok"))
        half = socket.create_connection(("127.0.0.1", self.port), SECONDS)
        self.addCleanup(half.close)
        half.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
        waitress_server.stop(self.server)
        for connection in (idle, half):
            self.assertEqual(connection.recv(1), b"")
        self.thread.join(1)
        self.assertFalse(self.thread.is_alive())

    def test_requests_sent_one_behind_the_other_are_all_answered_and_the_last_says_so(self):
        connection = self.ask("/slow", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        self.assertTrue(self.entered.acquire(timeout=SECONDS))
        waitress_server.stop(self.server)
        self.refused()
        self.leave.set()
        answers = self.everything(connection).lower()
        self.assertEqual((answers.count(b"200 ok"), answers.count(b"connection: close")), (4, 1), answers)
        self.assertGreater(answers.rindex(b"connection: close"), answers.rindex(b"200 ok"))

    def test_what_was_sent_but_not_yet_read_is_answered(self):
        """Long bodies lie in the connection, and connections at the door, while the loop is busy."""
        body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100000)
        before = self.ask()
        self.assertTrue(before.recv(1 << 16).endswith(b"ok"))
        held, leave = threading.Event(), threading.Event()
        self.server.trigger.pull_trigger(lambda: (held.set(), leave.wait(SECONDS)))
        self.assertTrue(held.wait(SECONDS))
        before.sendall(body)
        asked = [self.ask() for _ in range(5)]
        asked[0].sendall(body)
        waitress_server.stop(self.server)
        leave.set()
        for connection, number in ((before, 1), (asked[0], 2), *((other, 1) for other in asked[1:])):
            self.assertEqual(self.everything(connection).count(b"200 OK"), number)

    def test_request_that_takes_too_long_is_given_up(self):
        with mock.patch.object(waitress_server, "LINGER_SECONDS", 0.2), self.assertLogs("waitress", "WARNING"):
            connection = self.ask("/slow")
            self.assertTrue(self.entered.acquire(timeout=SECONDS))
            waitress_server.stop(self.server)
            self.thread.join(SECONDS)
            self.assertFalse(self.thread.is_alive())
            self.assertEqual(connection.recv(1), b"")


if __name__ == "__main__":
    unittest.main()
