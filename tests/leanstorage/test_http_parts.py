"""The parts of the server that need no connection: routes, turns, counts of requests, their log, which calls are quick; and folders of files."""

import errno
import gzip
import hashlib
import io
import itertools
import json
import os
import stat
import tempfile
import threading
import unittest
from contextlib import redirect_stderr
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from leanstorage.blobs import folder as folders
from leanstorage.http import application, inline_calls, observer, refused, request_log, server, sms_routes, turns
from leanstorage.http.observer import Observer
from leanstorage.http.request_log import Line
from leanstorage.http.route_table import RouteTable
from leanstorage.rules.call import Call, Trouble
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import AnswerTooLarge, Later, MAX_FOUND, QueryTimeout, Stale, StoreUnavailable
from leanwsgi.messages import HTTPError


class RouteTableTest(unittest.TestCase):
    ROUTES = [(method, template, f"{method} {template}") for method, template in (
        ("GET", "/classes/<class_name>"), ("POST", "/classes/<class_name>"), ("GET", "/classes/<class_name>/<id>"), ("PUT", "/users/<id>"),
        ("GET", "/users/me"), ("GET", "/users"), ("GET", "/users/<id>/friendship"), ("GET", "/users/<id>/<other>"), ("GET", "/files/<path:path>"), ("POST", "/users/strict/<id>"),
    )]  # fmt: skip

    def test_literal_beats_a_parameter_and_parameters_are_never_empty(self):
        table = RouteTable(self.ROUTES)
        for method, path, template, parameters in (
            ("GET", "/classes/Post", "/classes/<class_name>", {"class_name": "Post"}),
            ("HEAD", "/classes/Post", "/classes/<class_name>", {"class_name": "Post"}),
            ("GET", "/classes/Post/a1", "/classes/<class_name>/<id>", {"class_name": "Post", "id": "a1"}),
            ("GET", "/users/me", "/users/me", {}),
            ("PUT", "/users/me", "/users/<id>", {"id": "me"}),
            ("GET", "/users", "/users", {}),
            ("GET", "/users/a/friendship", "/users/<id>/friendship", {"id": "a"}),
            ("GET", "/users/a/b", "/users/<id>/<other>", {"id": "a", "other": "b"}),
            ("POST", "/users/strict/b", "/users/strict/<id>", {"id": "b"}),
            ("GET", "/users/strict/b", "/users/<id>/<other>", {"id": "strict", "other": "b"}),
            ("GET", "/files/a/b.png", "/files/<path:path>", {"path": "a/b.png"}),
            ("GET", "/files/a", "/files/<path:path>", {"path": "a"}),
        ):
            with self.subTest(method, path=path):
                wanted = "GET" if method == "HEAD" else method
                self.assertEqual(table.find(method, path), (f"{wanted} {template}", parameters, template))
                self.assertEqual(table.match(method, path), (f"{wanted} {template}", parameters))

    def test_path_without_a_route_is_404_and_without_the_method_405(self):
        table = RouteTable(self.ROUTES)
        for method, path, status, allow in (
            ("GET", "/nothing", 404, None),
            ("GET", "/classes/", 404, None),
            ("GET", "/classes/Post/", 404, None),
            ("GET", "/classes/Post/a/b", 404, None),
            ("GET", "/files/", 404, None),
            ("GET", "/files//a", 404, None),
            ("GET", "", 404, None),
            ("GET", "users", 404, None),
            ("DELETE", "/classes/Post", 405, "GET, HEAD, OPTIONS, POST"),
            ("GET", "/users/a", 405, "OPTIONS, PUT"),
            ("POST", "/users/me", 405, "GET, HEAD, OPTIONS, PUT"),
        ):
            with self.subTest(method, path=path), self.assertRaises(HTTPError) as caught:
                table.find(method, path)
            self.assertEqual((caught.exception.status, dict(caught.exception.headers).get("Allow")), (status, allow))


class Channel:
    def __init__(self, name, visitor, connected=True):
        self.name, self._visitor, self.connected = name, visitor, connected
        self.requests_lock = threading.Lock()
        self.requests = [mock.Mock(), mock.Mock()]

    def visitor(self):
        return self._visitor


class TurnsTest(unittest.TestCase):
    def filled(self, spelling, at_once=False):
        """Turns with the channels of `a1 a2 b1`: visitor and number; `-` before one that is closed, `?` for nobody's."""
        self.channels = {}
        found = turns.Turns(at_once)
        for name in spelling.split():
            key = name.strip("-")
            self.channels[key] = Channel(key, None if key[0] == "?" else key[0], not name.startswith("-"))
            found.add(self.channels[key])
        return found

    def names(self, found):
        return [one.name for one in found.taken()]

    def test_visitors_are_taken_in_turn_and_the_rest_keeps_its_place(self):
        clock = itertools.count()
        for at_once in (False, True):
            with self.subTest(at_once=at_once), mock.patch.object(turns.time, "monotonic", lambda: 0.0):
                self.assertEqual(self.names(self.filled("a1 a2 a3 b1 ?1 ?2 c1", at_once)), ["a1", "b1", "?1", "?2", "c1", "a2", "a3"])
        with mock.patch.object(turns.time, "monotonic", lambda: next(clock) * 0.011):
            found = self.filled("a1 a2 b1 c1")
            self.assertEqual(len(found), 4)
            self.assertEqual([self.names(found), len(found)], [["a1", "b1"], 2])
            self.assertEqual([self.names(found), len(found), bool(found)], [["c1", "a2"], 0, False])

    def test_turn_lasts_until_its_time_is_over(self):
        for seconds, names in ((0.02, ["a1", "b1"]), (0.021, ["a1"])):
            times = iter([0.0, seconds, 1.0])
            with self.subTest(seconds), mock.patch.object(turns.time, "monotonic", lambda: next(times)):  # noqa: B023
                self.assertEqual(self.names(self.filled("a1 b1 c1")), names)

    def test_visitor_has_so_many_calls_under_way(self):
        with mock.patch.object(turns, "MAX_UNDER_WAY", 2), mock.patch.object(turns.time, "monotonic", lambda: 0.0):
            found = self.filled("a1 a2 a3 a4 b1")
            self.assertEqual((self.names(found), len(found), bool(found)), (["a1", "b1", "a2"], 2, False))
            found.add(self.channels["b1"])
            self.assertEqual((bool(found), self.names(found)), (True, ["b1"]))
            found.done(self.channels["a1"])
            found.done(self.channels["a1"])  # once is enough
            self.assertEqual((bool(found), self.names(found), bool(found)), (True, ["a3"], False))
            for name in ("a2", "a3"):
                found.done(self.channels[name])
            self.assertEqual(self.names(found), ["a4"])
            found = self.filled("a1 a2 a3", at_once=True)
            self.assertEqual(self.names(found), ["a1", "a2", "a3"])

    def test_closed_channels_are_dropped_with_their_requests(self):
        found = self.filled("-a1 a2")
        requests = list(self.channels["a1"].requests)
        self.assertEqual(self.names(found), ["a2"])
        self.assertEqual((self.channels["a1"].requests, [one.close.call_count for one in requests]), ([], [1, 1]))
        self.assertEqual(len(self.channels["a2"].requests), 2)


class ObserverTest(unittest.TestCase):
    def setUp(self):
        self.lines = []
        self.log = SimpleNamespace(slow_ms=None, add=self.lines.append, close=lambda: self.lines.append("closed"))

    def answered(self, body=b"12345", headers=(), status=200, log=True, seconds=0.5, **environ):
        self.observer = Observer(self.log if log else None)
        with mock.patch.object(observer.time, "perf_counter", lambda: 100.0 + seconds), mock.patch.object(observer.time, "time", lambda: 7.0):
            self.observer.answered({"REQUEST_METHOD": "GET", observer.ARRIVED: 100.0, **environ}, status, headers, body)
        return self.observer

    def test_times_are_counted_up_to_each_limit(self):
        times = observer.Times()
        for seconds in (0.0, 0.001, 0.0011, 0.005, 15.0, 15.1):
            times.add(seconds)
        self.assertEqual((times.counts, round(times.seconds, 4)), ([2, 2, 0, 0, 0, 0, 0, 1, 1], 30.1071))

    def test_answers_are_counted_by_method_route_and_status(self):
        route = ("/classes/<class_name>", {"class_name": "Post"})
        found = self.answered(**{observer.ROUTE: route})
        with mock.patch.object(observer.time, "perf_counter", lambda: 101.0):
            for method in ("GET", "BREW"):
                found.answered({"REQUEST_METHOD": method, observer.ARRIVED: 100.0, observer.ROUTE: route}, 200, [], b"1")
            found.answered({"REQUEST_METHOD": "GET"}, 404, [], b"")
        counts = {key: (sum(times.counts), times.seconds) for key, times in found.requests.items()}
        self.assertEqual(counts, {("GET", route[0], 200): (2, 1.5), ("OTHER", route[0], 200): (1, 1.0), ("GET", "-", 404): (1, 0.0)})
        self.assertEqual(found.bytes_sent, 7)

    def test_size_is_that_of_the_body_or_what_its_header_says(self):
        for body, headers, environ, size in (
            (b"12345", [("Content-Length", "9")], {}, 5),
            (b"12345", [], {"REQUEST_METHOD": "HEAD"}, 0),
            (iter([b"1"]), [("A", "1"), ("Content-Length", "9")], {}, 9),
            (iter([b"1"]), [("A", "1")], {}, 0),
        ):
            with self.subTest(headers, environ=environ):
                self.assertEqual(self.answered(body, headers, **environ).bytes_sent, size)

    def test_line_says_what_was_answered_and_to_whom(self):
        call = mock.Mock(spec=Call, caller=SimpleNamespace(user_id="u1"), method="POST", query={}, body={"a": 1})
        environ = {observer.CALL: call, observer.ROUTE: ("/classes/<class_name>", {"class_name": "Post"}), observer.ADDRESS: "1.2.3.4", observer.REQUEST_ID: "r1"}
        for slow_ms, shape in ((None, None), (500, "body={a:?}"), (501, None)):
            with self.subTest(slow_ms):
                self.log.slow_ms = slow_ms
                self.answered(**environ)
                self.assertEqual(self.lines[-1], Line(7.0, "GET", "/classes/<class_name>", "Post", 200, 500.0, 5, "1.2.3.4", "u1", "r1", shape))
        self.answered()
        self.assertEqual(self.lines[-1][1:5] + self.lines[-1][7:10], ("GET", "-", "-", 200, "-", "-", "-"))
        self.lines.clear()
        self.answered(log=False)
        self.assertEqual(self.lines, [])

    def test_class_is_told_by_the_route(self):
        for route, parameters, name in (
            ("/users/<id>", {}, "_User"),
            ("/files", {}, "_File"),
            ("/classes/<class_name>", {"class_name": "a b"}, "-"),
            ("/classes/<class_name>", {"class_name": "a" * 100}, "a" * 100),
            ("/classes/<class_name>", {"class_name": "a" * 101}, "-"),
            ("/date", {}, "-"),
            ("-", {}, "-"),
        ):
            with self.subTest(route, parameters=parameters):
                self.assertEqual(observer._class_name(route, parameters), name)

    def test_long_paths_of_strangers_are_not_remembered(self):
        observer._checked.cache_clear()
        for name in ("a" * 101, "中" * 101, "a b" * 80_000):
            self.assertEqual(observer._class_name("/classes/<class_name>", {"class_name": name}), "-")
        self.assertEqual(observer._checked.cache_info().currsize, 0)

    def test_what_was_turned_away_and_calls_to_the_engine_are_counted(self):
        found = Observer(self.log)
        with mock.patch.object(observer.time, "time", lambda: 7.0):
            for method in ("GET", "BREW", "GET"):
                found.turned_away(400, method, "1.2.3.4", "r1")
        self.assertEqual(found.refused, {400: 3})
        self.assertEqual(self.lines[1], Line(7.0, "-", "-", "-", 400, 0.0, 0, "1.2.3.4", "-", "r1"))
        self.assertEqual(self.lines[0].method, "GET")
        for seconds in (1.0, 2.0):
            found.engine_called("function", "ok", seconds)
        found.engine_called("function", "failed", 4.0)
        self.assertEqual({key: times.seconds for key, times in found.engine.items()}, {("function", "ok"): 3.0, ("function", "failed"): 4.0})
        found.close()
        self.assertEqual(self.lines[-1], "closed")
        quiet = Observer()
        quiet.turned_away(400, "GET", "1.2.3.4", "r1")
        quiet.close()
        self.assertEqual(quiet.refused, {400: 1})


class RequestLogTest(unittest.TestCase):
    LINE = Line(86_400.0625, "GET", "/classes/<class_name>", "Post", 200, 12.345, 7, "1.2.3.4", "u1", "r1")

    def written(self, *lines, **options):
        """The pieces that are written."""
        with tempfile.TemporaryFile() as file:
            log = request_log.RequestLog(file, **options)
            log._ended.set()
            log._thread.join()
            for line in lines:
                log.add(line)
            pieces = []
            with mock.patch.object(log, "_put", lambda piece: pieces.append(bytes(piece))):
                log._write()
            return pieces

    def test_lines_are_text_or_json(self):
        text = "1970-01-02T00:00:00.062Z GET /classes/<class_name> Post 200 12.3ms 7B 1.2.3.4 u1 r1"
        fields = {"time": "1970-01-02T00:00:00.062Z", "method": "GET", "route": "/classes/<class_name>", "class": "Post", "status": 200, "ms": 12.3, "bytes": 7, "address": "1.2.3.4", "user": "u1", "request": "r1"}
        for shape, slow_text, slow in ((None, "", {}), ("where={a:?}", " slow where={a:?}", {"slow": "where={a:?}"}), ('{"class":"A"}', ' slow {"class":"A"}', {"slow": {"class": "A"}})):
            with self.subTest(shape):
                line = self.LINE._replace(shape=shape)
                self.assertEqual(self.written(line), [f"{text}{slow_text}\n".encode()])
                [piece] = self.written(line, format="json")
                self.assertEqual(json.loads(piece), {**fields, **slow})
                self.assertNotIn(b", ", piece)
        self.assertEqual(self.written(self.LINE._replace(class_name="中\ud800")), [text.replace("Post", "中?").encode() + b"\n"])

    def test_only_slow_requests_are_logged_where_nothing_else_is_wanted(self):
        for is_access, shape, count in ((True, None, 1), (False, None, 0), (False, "-", 1)):
            self.assertEqual(len(self.written(self.LINE._replace(shape=shape), is_access=is_access)), count)

    def test_pieces_are_as_long_as_a_pipe_keeps_whole(self):
        size = len(self.written(self.LINE)[0])
        for limit, counts in ((size * 2, [2, 1]), (size * 2 - 1, [1, 1, 1]), (size - 1, [1, 1, 1]), (size * 3, [3])):
            with self.subTest(limit - size), mock.patch.object(request_log, "WRITE_BYTES", limit):
                self.assertEqual([piece.count(b"\n") for piece in self.written(*[self.LINE] * 3)], counts)

    def test_lines_beyond_the_limit_are_dropped_and_counted(self):
        with mock.patch.object(request_log, "MAX_LINES", 2):
            [piece] = self.written(*[self.LINE] * 5)
            self.assertEqual(piece.splitlines()[2:], [b"3 lines of the request log were dropped: nobody read them"])
            [piece] = self.written(*[self.LINE] * 3, format="json")
            self.assertEqual(json.loads(piece.splitlines()[2]), {"dropped": 1})
            [piece] = self.written(*[self.LINE] * 2)
            self.assertEqual(piece.count(b"\n"), 2)

    def test_shape_of_a_value_is_bounded(self):
        for value, shape in (
            ({"a": 1, "b": {"$gt": 5}}, "{a:?,b:{$gt:?}}"),
            ({"a.b": 1, "x y": 1, "é": 1, "$or": [], "": 1}, "{a.b:?,?:?,?:?,$or:[0],?:?}"),
            ({"k" * 60: 1, "k" * 61: 1}, "{" + "k" * 60 + ":?,?:?}"),
            ([1, {}], "[2]"),
            ([{"a": 1}, 2, 3], "[3 {a:?}]"),
            ({f"k{number:02}": 1 for number in range(30)}, "{" + ",".join(f"k{number:02}:?" for number in range(30)) + "}"),
            ({f"k{number:02}": 1 for number in range(31)}, "{" + ",".join(f"k{number:02}:?" for number in range(30)) + ",...}"),
        ):
            with self.subTest(shape):
                self.assertEqual(request_log._shape(value), shape)
        for levels, end in ((10, "?"), (11, "...")):
            value, shape = 1, end
            for _ in range(levels):
                value, shape = {"a": value}, "{a:%s}" % shape
            self.assertEqual(request_log._shape(value), shape)
        value, shape = 1, "?"
        for _ in range(5):
            value, shape = [{"a": value}], "[1 {a:%s}]" % shape
        self.assertEqual(request_log._shape(value), shape)
        self.assertEqual(request_log._shape({"a": value}), "{a:%s}" % shape.replace("?", "..."))

    def test_shape_of_a_call_names_its_query_and_its_body(self):
        def shape(method="POST", query=None, body=None, class_name="Post"):
            return request_log.shape(mock.Mock(spec=Call, method=method, query=query or {}, body=body), class_name)

        for options, expected in (
            ({}, "-"),
            ({"query": {"where": '{"a": 1}', "limit": "5", "session_token": "x"}}, "where={a:?} limit"),
            ({"query": {"where": "{"}}, "where=?"),
            ({"query": {"where": {"a": 1}}}, "where={a:?}"),
            ({"body": {"a": 1}}, "body={a:?}"),
            ({"body": [1]}, "-"),
            ({"body": {f"{'k' * 50}{number}": 1 for number in range(20)}}, None),
            ({"method": "GET", "query": {"where": "{"}}, "where=?"),
            ({"method": "GET", "query": {"where": '{"a": 1}'}, "class_name": ""}, "where={a:?}"),
            ({"method": "GET", "query": {"limit": "5"}}, "limit"),
        ):
            with self.subTest(options):
                found = shape(**options)
                self.assertEqual(found if expected else len(found), expected or 500)
        for query in ({"where": '{"a": 1}'}, {"count": "1"}):
            self.assertTrue(shape("GET", query).startswith('{"class":"Post"'), query)
        self.assertEqual(request_log.shape(None), "-")


class QuickTest(unittest.TestCase):
    def setUp(self):
        self.quick = object.__new__(inline_calls.Quick)
        self.quick._away, self.quick._suspects = {}, {}

    def test_calls_to_plain_classes_are_quick(self):
        for method, path, length, kind in (
            ("GET", "/1.1/classes/Post", 0, "call"),
            ("GET", "//1.1/classes/Post/a1", 0, "call"),
            ("POST", "/1.1/classes/Post", 1 << 16, "write"),
            ("POST", "/1.1/classes/Post", (1 << 16) + 1, None),
            ("POST", "/1.1/classes/Post/a1", 0, None),
            ("PUT", "/1.1/classes/Post/a1", 0, "write"),
            ("PUT", "/1.1/classes/Post", 0, None),
            ("DELETE", "/1.1/classes/Post/a1", 0, "write"),
            ("DELETE", "/1.1/classes/Post", 0, None),
            ("HEAD", "/1.1/classes/Post", 0, None),
            ("GET", "/1.1/classes/_User", 0, None),
            ("GET", "/1.1/classes/files", 0, None),
            ("GET", "/1.1/classes/files/a1", 0, None),
            ("GET", "/1.1/classes/filesystem", 0, "call"),
            ("GET", "/1.1/classes/Post/a1/b", 0, None),
            ("GET", "/1.1/users", 0, None),
        ):
            with self.subTest(method, path=path):
                self.assertEqual(self.quick.kind(method, path, length), kind)

    def call(self, seconds, used=0.0, name="Post"):
        """A call that takes so long, and so much of the processor."""
        environ = {"PATH_INFO": f"/1.1/classes/{name}"}
        clocks = mock.patch.multiple(inline_calls.time, perf_counter=lambda: self.clock, thread_time=lambda: self.used, monotonic=lambda: self.clock)
        with clocks:
            begun = self.quick.begun(environ)
            self.clock += seconds
            self.used += used
            self.quick.ended(environ, begun)
            return begun[1] is not None, self.quick.kind("GET", environ["PATH_INFO"], 0)

    def test_second_call_that_keeps_everybody_waiting_is_the_last_for_a_minute(self):
        self.clock, self.used = 1000.0, 0.0
        self.assertEqual(self.call(0.05, 0.05), (False, "call"))
        self.assertEqual(self.call(0.051, 0.051), (False, "call"))
        self.assertEqual(self.call(0.1, 0.049), (True, "call"))  # another program had the processor
        self.assertEqual(self.call(0.1, 0.1, "Other"), (False, "call"))
        self.assertEqual(self.call(0.1, 0.051), (True, None))
        self.clock += 59
        self.assertEqual(self.call(0, 0)[1], None)
        self.clock += 2
        self.assertEqual(self.call(0, 0), (False, "call"))

    def test_classes_that_are_remembered_are_bounded(self):
        self.clock, self.used = 1000.0, 0.0
        with mock.patch.object(inline_calls, "MAX_AWAY", 2):
            for name in ("A", "B"):
                self.call(0.1, name=name)
            self.assertEqual(set(self.quick._suspects), {"A", "B"})
            self.call(0.1, name="C")
            self.assertEqual(set(self.quick._suspects), {"C"})
            self.quick._away.update(dict.fromkeys("AB", 2000.0))
            self.call(0.1, 0.1, name="C")
            self.assertEqual(set(self.quick._away), {"C"})

    def test_what_would_write_or_take_long_is_a_threads(self):
        self.assertRaises(Later, inline_calls._wait, None)
        taken = []
        with mock.patch.object(inline_calls, "take_back", lambda service, environ: taken.append(environ)), mock.patch.object(inline_calls, "respond") as respond:
            for error in (Later(), QueryTimeout(), Stale("A")):
                respond.side_effect = error
                self.assertIsNone(inline_calls._answer("service", {"a": 1}))
            self.assertEqual(taken, [{"a": 1}] * 3)
            respond.side_effect = None
            respond.return_value = (HTTPStatus.OK, [("A", "b")], b"x")
            with mock.patch.object(inline_calls, "name_request", lambda service, environ, headers: [*headers, ("N", "n")]):
                self.assertEqual(inline_calls._answer("service", {}), (200, [("A", "b"), ("N", "n")], b"x"))
                respond.side_effect = ZeroDivisionError
                with mock.patch.object(inline_calls, "explain", return_value=(HTTPStatus.GONE, [], b"")):
                    self.assertEqual(inline_calls._answer("service", {}), (410, [("N", "n")], b""))

    def test_trouble_of_the_smallest_read_is_told(self):
        def read(error):
            def work(_):
                if error:
                    raise error

            return work

        gone = StoreUnavailable("gone")
        for error, expected in ((None, None), (QueryTimeout(), None), (Stale("A"), None), (gone, gone)):
            self.assertIs(inline_calls._trouble(read(error)), expected)
        found = inline_calls._trouble(read(Later()))
        self.assertIsInstance(found, StoreUnavailable)
        self.assertEqual(str(found), "no connection is free")

    def test_classes_that_an_engine_may_hook_are_asked_for(self):
        engine = SimpleNamespace(may_hook=lambda name: name == "Hooked")
        for engine_, path, is_hooked in (
            (None, "/1.1/classes/Hooked", False),
            (engine, "/1.1/classes/Hooked", True),
            (engine, "/1.1/classes/Post/a1", False),
            (engine, "/1.1/users", True),
        ):
            self.assertIs(inline_calls._is_hooked(engine_, {"PATH_INFO": path}), is_hooked)


class DispatcherTest(unittest.TestCase):
    def setUp(self):
        self.pool = server.Dispatcher()
        self.refused = []
        self.pool._refusing = SimpleNamespace(add_task=self.refused.append, set_thread_count=lambda count: self.refused.append(count), shutdown=lambda *limits: self.refused.append(limits))

    def add(self, visitor="v", requests=1):
        task = SimpleNamespace(visitor=lambda: visitor, requests=[SimpleNamespace(error=None)] * requests)
        self.pool.add_task(task)
        return task

    def test_requests_beyond_the_queue_are_refused_with_a_time_to_come_again(self):
        self.assertTrue(self.pool._is_shared)
        with mock.patch.object(server, "MAX_WAITING", 2):
            self.add()
            self.add()
            self.assertEqual((len(self.pool.queue), self.refused), (2, []))
            task = self.add()
            self.assertEqual((len(self.pool.queue), self.refused), (2, [task]))
            self.assertEqual((task.requests[0].error.code, dict(task.requests[0].error.to_response()[1])["Retry-After"]), (503, "1"))
            self.add(requests=0)  # of a connection that has gone
            self.assertEqual(len(self.pool.queue), 3)

    def test_visitor_has_so_many_requests_in_the_queue(self):
        with mock.patch.object(server, "MAX_WAITING_EACH", 2):
            self.pool._set_aside["v"].extend([1])
            self.add()
            self.assertEqual(self.refused, [])
            self.pool._set_aside["v"].extend([2])
            task = self.add()
            self.add("other")
            self.assertEqual((self.refused, len(self.pool.queue)), ([task], 2))

    def test_thread_that_refuses_is_there_while_others_are(self):
        with mock.patch.object(server.waitress_server.Pool, "set_thread_count"), mock.patch.object(server.waitress_server.Pool, "shutdown", return_value=True):
            for count in (8, 0):
                self.pool.set_thread_count(count)
            self.assertTrue(self.pool.shutdown(False, 7))
        self.assertEqual(self.refused, [1, 0, (False, 7)])

    def test_plain_requests_are_those_that_the_loop_may_answer(self):
        def is_plain(requests=1, buffered=0, **changes):
            request = SimpleNamespace(**{"error": None, "version": "1.1", "query": "", "headers": {}, **changes})
            return server._is_plain(SimpleNamespace(requests=[request] * requests, total_outbufs_len=buffered), request)

        for options, expected in (
            ({}, True),
            ({"error": "x"}, False),
            ({"version": "1.0"}, False),
            ({"requests": 2}, False),
            ({"query": "x" * 4096}, True),
            ({"query": "x" * 4097}, False),
            ({"buffered": 1}, False),
            ({"headers": {"CONNECTION": "Keep-Alive"}}, True),
            ({"headers": {"CONNECTION": "close"}}, False),
        ):
            with self.subTest(str(options)[:40]):
                self.assertIs(is_plain(**options), expected)

    def test_answer_as_bytes_has_no_header_that_is_another(self):
        with mock.patch.object(server.time, "time", lambda: 0.0):
            data = server._http(HTTPStatus.OK, [("A", "b")], b"{}")
        self.assertEqual(data, b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n{}")
        for value in ("a\nb", "a\rb", "a\r\nb"):
            with self.subTest(value), self.assertRaises(ValueError):
                server._http(HTTPStatus.OK, [("A", value)], b"")

    def test_refusal_is_an_answer_that_clients_can_read(self):
        status, headers, body = server.Refusal(Code.TOO_LARGE, [("Retry-After", "5")], limit=7).to_response()
        self.assertEqual(status, f"{Code.TOO_LARGE.status.value} {Code.TOO_LARGE.status.phrase}")
        self.assertEqual(json.loads(body)["code"], Code.TOO_LARGE.number)
        self.assertIn("7", json.loads(body)["error"])
        self.assertEqual(dict(headers), {"Content-Length": str(len(body)), "Content-Type": "application/json;charset=utf-8", "Access-Control-Allow-Origin": "*", "Retry-After": "5"})

    def test_watched_file_is_read_by_somebody_else(self):
        files, called, thunks = {}, [], []
        watch = server._Watch(files, SimpleNamespace(pull_trigger=thunks.append))
        watch.watch(5, lambda: called.append(1))
        for event in (files[5].handle_read_event, files[5].handle_close):
            event()
        self.assertEqual((called, files[5].readable(), files[5].writable(), files[5].accepting), ([1, 1], True, False, False))
        files[5].handle_expt_event()
        files[5].close()
        with redirect_stderr(io.StringIO()) as said:
            files[5].handle_error()
            self.assertEqual(said.getvalue(), "")
            try:
                raise RuntimeError("odd")
            except RuntimeError:
                files[5].handle_error()
        self.assertIn("odd", said.getvalue())
        for _ in range(2):
            watch.unwatch(5)
        watch.soon("work")
        self.assertEqual((files, thunks), ({}, ["work"]))


class Made(SimpleNamespace):
    """A thing with these attributes, which is equal to itself alone."""

    __eq__, __hash__ = object.__eq__, object.__hash__


class LoopTest(unittest.TestCase):
    """Calls on the loop, with channels and a database that are made up."""

    def setUp(self):
        self.pooled, self.pulled, self.answered, self.sent = [], [], [], []
        self.quick = mock.Mock(answers_at_once=True)
        pool = mock.Mock(add_task=self.pooled.append, go_on=self.pooled.append)
        observed = SimpleNamespace(answered=lambda environ, status, headers, body: self.answered.append(status))
        self.loop = server.Loop(pool, self.quick, observed)
        self.addCleanup(self.loop._committer.shutdown)
        self.loop._committer = mock.Mock(submit=lambda work, *arguments: self.submitted.append((work, arguments)), shutdown=lambda **options: None)
        self.submitted = []
        self.server = SimpleNamespace(trigger=SimpleNamespace(pull_trigger=lambda *thunk: self.pulled.append(thunk)))
        patch = mock.patch.object(server, "_environ", lambda channel: {"REQUEST_METHOD": channel.requests[0].command})
        patch.start()
        self.addCleanup(patch.stop)
        self.loop._loop_thread = threading.get_ident()

    def channel(self, kind="call", requests=1, connected=True, **changes):
        def request():
            fields = {"error": None, "version": "1.1", "query": "", "headers": {}, "command": "get", "path": "/x", "environ": {}, **changes}
            return SimpleNamespace(**fields, close=lambda: None, get_body_stream=lambda: SimpleNamespace(seek=lambda place: self.sent.append(("seek", place))))

        fields = {"total_outbufs_len": 0, "connected": connected, "requests_lock": threading.RLock(), "visitor": lambda: None, "request": None}
        found = Made(requests=[request() for _ in range(requests)], **fields)
        found.send_soon = lambda data: self.sent.append(data.partition(b"\r\n")[0])
        found.writable, found.handle_write = lambda: True, lambda: self.sent.append("written")
        found.handle_close = lambda: self.sent.append("closed")
        self.quick.kind.return_value = kind
        return found

    def test_quick_calls_and_writes_are_the_loops_and_all_others_a_threads(self):
        for options, calls, writes, pooled in (
            ({}, 1, 0, 0),
            ({"kind": "write"}, 0, 1, 0),
            ({"kind": None}, 0, 0, 1),
            ({"error": "malformed"}, 0, 0, 1),
        ):
            with self.subTest(options):
                self.loop._calls, self.loop._writes = turns.Turns(), turns.Turns()
                self.pooled.clear()
                self.loop.add_task(self.channel(**options, headers={"CONTENT_LENGTH": "7"}))
                self.assertEqual((len(self.loop._calls), len(self.loop._writes), len(self.pooled)), (calls, writes, pooled))
        self.quick.kind.assert_called_with("GET", "/x", 7)
        self.loop._loop_thread = None  # asked on another thread
        self.loop.add_task(self.channel())
        self.assertEqual(len(self.pooled), 2)

    def test_turn_comes_again_while_there_is_something_that_it_may_do(self):
        times = iter(range(100))
        with mock.patch.object(turns.time, "monotonic", lambda: next(times)):  # a call takes longer than a turn
            self.quick.call.side_effect = lambda environ, answered: answered((HTTPStatus.OK, [], b"{}"))
            for _ in range(2):
                self.loop.add_task(self.channel())
            for pulled in (1, 1):
                self.loop.turn(self.server)
                self.assertEqual(len(self.pulled), pulled)
            self.assertEqual(([one for one in self.sent if one != "written"], self.answered), ([b"HTTP/1.1 200 OK"] * 2, [200, 200]))
            for _ in range(3):
                self.loop.add_task(self.channel("write"))
            self.loop.turn(self.server)
            self.assertEqual((len(self.submitted), len(self.loop._writes), len(self.pulled)), (1, 2, 1))  # that waits for the commit
            self.loop.turn(self.server)
            self.assertEqual((len(self.submitted), len(self.pulled)), (1, 1))
            self.loop._is_committing = False
            self.quick.open_group.return_value = None
            self.loop.turn(self.server)
            self.assertEqual((len(self.pooled), len(self.pulled)), (1, 2))
        self.assertEqual(self.quick.turn.call_count, 5)

    def test_group_is_committed_and_its_answers_go_out_or_are_refusals(self):
        kept, refusal = (HTTPStatus.CREATED, [], b"{}"), (HTTPStatus.SERVICE_UNAVAILABLE, [], b"{}")
        for error in (None, StoreUnavailable("full")):
            with self.subTest(error=error):
                self.submitted.clear()
                self.sent.clear()
                self.pooled.clear()
                group = mock.Mock()
                group.write.side_effect = [kept, None, ZeroDivisionError("odd")]
                group.commit.side_effect = error
                group.refusal.return_value = refusal
                self.quick.open_group.return_value = group
                for _ in range(3):
                    self.loop.add_task(self.channel("write"))
                with redirect_stderr(io.StringIO()) as said:
                    self.loop.turn(self.server)
                self.assertIn("ZeroDivisionError", said.getvalue())
                self.assertEqual((self.sent, self.loop._is_committing), ([], True))
                [(work, arguments)] = self.submitted
                work(*arguments)
                self.pulled.pop()[0]()
                line = b"HTTP/1.1 503 Service Unavailable" if error else b"HTTP/1.1 201 Created"
                self.assertEqual(self.sent, [line, "written", ("seek", 0), ("seek", 0)])
                self.assertEqual((len(self.pooled), self.loop._is_committing, group.refusal.call_count), (2, False, 1 if error else 0))

    def test_call_that_fails_is_a_threads_and_the_loop_goes_on(self):
        self.quick.call.side_effect = ZeroDivisionError("odd")
        channel = self.channel()
        self.loop.add_task(channel)
        with redirect_stderr(io.StringIO()) as said:
            self.loop.turn(self.server)
        self.assertEqual((self.pooled, self.sent), ([channel], [("seek", 0)]))
        self.assertIn("ZeroDivisionError", said.getvalue())

        def answered_first(environ, answered):
            answered((HTTPStatus.OK, [], b"{}"))
            raise ZeroDivisionError

        self.quick.call.side_effect = answered_first
        self.loop.add_task(self.channel())
        with redirect_stderr(io.StringIO()):
            self.loop.turn(self.server)
        self.assertEqual((len(self.pooled), self.sent[1:]), (1, [b"HTTP/1.1 200 OK", "written"]))

    def test_answer_that_cannot_be_sent_ends_one_connection_alone(self):
        with redirect_stderr(io.StringIO()) as said:
            self.loop._give(self.channel(), (HTTPStatus.OK, [("A", "b\nc")], b""))
            self.assertEqual((self.sent, len(self.pooled)), ([("seek", 0)], 1))
            channel = self.channel()
            channel.send_soon = mock.Mock(side_effect=OSError("gone"))
            self.loop._give(channel, (HTTPStatus.OK, [], b""))
            self.assertEqual(self.sent[1:], ["closed"])
        self.assertIn("line break", said.getvalue())
        gone = self.channel(connected=False)
        self.loop._give(gone, (HTTPStatus.OK, [], b""))
        self.assertEqual((self.sent[2:], gone.requests), ([], []))
        following = self.channel(requests=2)
        self.loop._give(following, (HTTPStatus.OK, [], b""))
        self.assertEqual((len(following.requests), len(self.loop._calls)), (1, 1))

    def test_end_waits_for_the_commit_and_then_for_the_pool(self):
        ended = []
        self.loop._committer.shutdown = lambda wait: ended.append(("commit", wait))
        self.quick.stop = lambda: ended.append("quick")
        self.loop._pool.shutdown = lambda *limits: ended.append(limits)
        self.loop.shutdown(False, 7)
        self.assertEqual(ended, [("commit", True), "quick", (False, 7)])
        self.loop.go_on("channel")
        self.assertEqual(self.pooled, ["channel"])
        self.loop.set_thread_count(3)
        self.loop._pool.set_thread_count.assert_called_once_with(3)


class ExplainTest(unittest.TestCase):
    def setUp(self):
        self.trouble = Trouble()

    def explained(self, error):
        service = SimpleNamespace(options=SimpleNamespace(max_body_bytes=77), trouble=self.trouble)
        with redirect_stderr(io.StringIO()) as said:
            status, headers, body = application.explain(service, error, {"REQUEST_METHOD": "GET"})
        self.said = said.getvalue()
        return status.value, json.loads(body), dict(headers)

    def test_errors_become_codes_and_only_what_nobody_foresaw_is_logged(self):
        slow = QueryTimeout()
        slow.advice = " An index would help."
        for error, code, text in (
            (StorageError(Code.NO_CLASS), Code.NO_CLASS, Code.NO_CLASS.text),
            (HTTPError(HTTPStatus.NOT_FOUND, "x"), Code.NO_ROUTE, Code.NO_ROUTE.text),
            (HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "x"), Code.WRONG_METHOD, Code.WRONG_METHOD.text),
            (HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "x"), Code.TOO_LARGE, Code.TOO_LARGE.text.format(limit=77)),
            (HTTPError(HTTPStatus.BAD_REQUEST, "the detail"), Code.BAD_JSON, Code.BAD_JSON.text.format(detail="the detail")),
            (AnswerTooLarge(), Code.ANSWER_TOO_LARGE, Code.ANSWER_TOO_LARGE.text.format(limit=MAX_FOUND)),
            (QueryTimeout(), Code.QUERY_TIMEOUT, Code.QUERY_TIMEOUT.text),
            (slow, Code.QUERY_TIMEOUT, Code.QUERY_TIMEOUT.text + " An index would help."),
        ):
            with self.subTest(error=error):
                status, body, headers = self.explained(error)
                self.assertEqual((status, body), (code.status.value, {"code": code.number, "error": text}))
                self.assertEqual((self.said, headers.get("Retry-After")), ("", None))
        self.assertEqual(self.explained(HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "x", headers=[("Allow", "GET")]))[2]["Allow"], "GET")

    def test_store_that_is_not_there_is_told_once_and_another_failure_each_time(self):
        for said in ("the store is not available: gone\n", ""):
            status, body, headers = self.explained(StoreUnavailable("gone"))
            self.assertEqual((status, body["code"], headers["Retry-After"], self.said), (503, Code.UNAVAILABLE.number, "1", said))
        for _ in range(2):
            status, body, headers = self.explained(ZeroDivisionError("odd"))
            self.assertEqual((status, body["code"], headers.get("Retry-After")), (500, Code.INTERNAL.number, None))
            self.assertIn("ZeroDivisionError", self.said)

    def test_answer_is_packed_from_a_size_on_for_who_takes_it(self):
        with mock.patch.object(application, "GZIP_BYTES", 12):
            for accepted, text, is_packed in (("gzip", "1234567890", True), ("gzip", "123456789", False), ("", "1234567890", False)):
                status, headers, body = application._json_answer({"HTTP_ACCEPT_ENCODING": accepted}, 201, [("A", "b")], [int(text)])
                found = dict(headers)
                self.assertEqual((found.get("Content-Encoding"), found.get("Vary")), ("gzip", "Accept-Encoding") if is_packed else (None, None))
                self.assertEqual(json.loads(gzip.decompress(body) if is_packed else body), [int(text)])
                self.assertEqual((status, found["A"], found["Cache-Control"], found["X-Content-Type-Options"]), (201, "b", "no-cache,no-store", "nosniff"))
        status, headers, body = application._json_answer({}, 200, [("A", "b")], "<p>中")
        self.assertEqual((status, headers, body), (200, [("A", "b"), ("X-Content-Type-Options", "nosniff")], "<p>中".encode()))


class CallerTest(unittest.TestCase):
    """Who calls, by headers or by what the body holds."""

    KEYS = {"id": "theid", "key": "thekey", "master_key": "themaster", "hook_key": "thehook"}

    def service(self, **options):
        return SimpleNamespace(keys=self.KEYS, options=SimpleNamespace(**{"sign_max_age_s": None, "andx_key": None, "public_url": "", "max_body_bytes": 1 << 20, "max_json_depth": 100, **options}))

    def has_key(self, credentials=None, **headers):
        names = {"id": "HTTP_X_LC_ID", "key": "HTTP_X_LC_KEY", "sign": "HTTP_X_LC_SIGN", "master": "HTTP_X_AVOSCLOUD_MASTER_KEY"}
        environ = {names[name]: value for name, value in headers.items()}
        return application._has_key(self.service(), environ, credentials or {})

    def test_caller_is_known_by_the_id_and_a_key(self):
        for headers, expected in (
            ({"id": "theid", "key": "thekey"}, False),
            ({"id": "theid", "key": "themaster,master"}, True),
            ({"id": "theid", "key": "thekey,master"}, None),
            ({"id": "theid", "key": "themaster"}, None),
            ({"id": "other", "key": "thekey"}, None),
            ({"key": "thekey"}, None),
            ({"id": "theid"}, None),
            ({"id": "theid", "master": "themaster"}, True),
            ({"id": "theid", "master": "thekey"}, None),
            ({"id": "theid", "key": "x", "master": "themaster"}, True),
            ({"id": "theid", "key": "thekey", "master": "x"}, None),
            ({"id": "theid", "key": "x,master", "master": "themaster"}, None),
        ):
            with self.subTest(headers):
                self.assertIs(self.has_key(**headers), expected)
        self.assertIs(self.has_key({"HTTP_X_LC_ID": "theid", "HTTP_X_LC_KEY": "thekey"}), False)
        self.assertIs(self.has_key({"HTTP_X_LC_KEY": "themaster,master"}, id="theid", key="thekey"), False)  # a header comes first

    def test_signature_is_that_of_a_key_and_of_its_time(self):
        def sign(key, ms, kind=""):
            return f"{hashlib.md5(f'{ms}{key}'.encode()).hexdigest()},{ms}{kind}"

        with mock.patch.object(application, "now", lambda: 100_000):
            for text, options, expected in (
                (sign("thekey", 5), {}, (False, True)),
                (sign("themaster", 5, ",master"), {}, (True, True)),
                (sign("thekey", 5, ",master"), {}, (True, False)),
                (sign("themaster", 5), {}, (False, False)),
                (sign("android", 5, ",ax-sig-1"), {"andx_key": "android"}, (False, True)),
                (sign("", 5, ",ax-sig-1"), {}, (False, False)),
                (sign("thekey", 5, ",other"), {}, (False, False)),
                (sign("thekey", 5, ",master,x"), {}, (False, False)),
                (sign("thekey", "5x"), {}, (False, False)),
                (sign("thekey", "1" * 20), {}, (False, True)),
                (sign("thekey", "1" * 21), {}, (False, False)),
                ("x", {}, (False, False)),
                (sign("thekey", 90_000), {"sign_max_age_s": 10}, (False, True)),
                (sign("thekey", 89_999), {"sign_max_age_s": 10}, (False, False)),
                (sign("thekey", 110_001), {"sign_max_age_s": 10}, (False, False)),
            ):
                with self.subTest(text, options=options):
                    self.assertEqual(application._check_signature(self.service(**options), text), expected)
                    if not options:
                        self.assertEqual(self.has_key(id="theid", sign=text), expected[0] if expected[1] else None)

    def test_depth_of_hooks_is_believed_of_who_may_know(self):
        for text, caller, depth in (("3", {"has_hook_key": True}, 3), ("3", {"is_master": True}, 3), ("3", {}, 0), ("1000", {"is_master": True}, 0), ("x", {"is_master": True}, 0), (None, {"is_master": True}, 0)):
            environ = {} if text is None else {application.DEPTH_VARIABLE: text}
            caller = SimpleNamespace(**{"has_hook_key": False, "is_master": False, **caller})
            self.assertEqual(application._depth(environ, caller), depth)

    def test_urls_are_the_public_one_or_that_of_the_request(self):
        environ = {"HTTP_HOST": "a.example.com:80", "SERVER_NAME": "s", "SERVER_PORT": "3000", "wsgi.url_scheme": "https", "SCRIPT_NAME": "/x"}
        for changes, options, api, own in (
            ({}, {}, "https://a.example.com:80/x", "http://127.0.0.1:3000/x"),
            ({"HTTP_HOST": ""}, {}, "https://s:3000/x", "http://127.0.0.1:3000/x"),
            ({"HTTP_HOST": "[::1]:5"}, {}, "https://[::1]:5/x", "http://127.0.0.1:3000/x"),
            ({}, {"public_url": "https://p/y/"}, "https://p/y", "https://p/y"),
        ):
            with self.subTest(changes, options=options):
                found = {**environ, **changes}
                self.assertEqual((application._api_url(self.service(**options), found), application._own_url(self.service(**options), found)), (api, own))
        for host in ("a b", "a:123456", "a/b", "a\n"):
            with self.subTest(host), self.assertRaises(StorageError):
                application._api_url(self.service(), {**environ, "HTTP_HOST": host})

    def form(self, body, path="/1.1/classes/A", query=None, **options):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        environ = {"CONTENT_LENGTH": str(len(data)), "wsgi.input": io.BytesIO(data), "PATH_INFO": path, "CONTENT_TYPE": "text/plain"}
        return application._read_form(self.service(**options), environ, query or {})

    def test_form_of_old_browsers_has_method_and_credentials_in_its_body(self):
        for body, path, expected in (
            ({"_method": "PUT", "_ApplicationId": "i", "n": 1, "__type": "x", "_x": 2}, "/1.1/classes/A/a", ({"q": "1"}, {"n": 1, "__type": "x"}, "PUT")),
            ({"_method": "get", "where": "{}"}, "/1.1/classes/A", ({"q": "1", "where": "{}"}, {}, "GET")),
            ({"_method": "GET", "username": "u"}, "//1.1/login", ({"q": "1"}, {"username": "u"}, "POST")),
            ({"_method": "GET", "username": "u"}, "/1/login", ({"q": "1"}, {"username": "u"}, "POST")),
            ({"_method": "PATCH", "n": 1}, "/1.1/classes/A", ({"q": "1"}, {"n": 1}, "POST")),
            (b"", "/1.1/classes/A", ({"q": "1"}, {}, "POST")),
            (b" null", "/1.1/classes/A", None),
            (b"[1]", "/1.1/classes/A", None),
        ):
            with self.subTest(body=body):
                query, found, credentials, method = self.form(body, path, {"q": "1"})
                if expected is not None:
                    self.assertEqual((query, found, method), expected)
                else:
                    self.assertEqual((query, found.data, credentials, method), ({"q": "1"}, body, {}, "POST"))
        self.assertEqual(self.form({"_ApplicationId": "i", "_ApplicationKey": None})[2], {"HTTP_X_LC_ID": "i"})

    def test_form_of_a_stranger_is_read_a_little_way(self):
        for size, status in ((1 << 16, None), ((1 << 16) + 1, 401)):
            body = json.dumps({"a": ""})[:-2] + "x" * (size - 9) + '"}'
            body = body.encode()[: size - 2] + b'"}'
            self.assertEqual(len(body), size)
            try:
                self.form(body)
                found = None
            except StorageError as error:
                found = error.status.value
            self.assertEqual(found, status)
        with self.assertRaises(HTTPError) as caught:
            self.form(b"{" + b" " * 100, max_body_bytes=50)
        self.assertEqual(caught.exception.status, 413)

    def test_bytes_of_a_call_are_counted_for_who_sends_them(self):
        service = self.service(max_body_bytes=100)
        for length, address, counted in (("5", "a", 5), ("0", "a", None), (None, "a", None), ("5", None, None), ("100", "a", 100), ("0" * 15 + "100", "a", 100)):
            environ = {} if length is None else {"CONTENT_LENGTH": length}
            with self.subTest(length, address=address), mock.patch.object(application, "counted_address", return_value=address), mock.patch.object(application, "limit_bytes") as limit:
                application._limit_bytes(service, environ, "caller")
                self.assertEqual([call.args for call in limit.call_args_list], [(service, "a", counted)] if counted else [])
                self.assertEqual(environ.get(application.SENT), ("a", counted) if counted else None)

    def test_length_that_is_refused_is_not_counted(self):
        for length, status in (("101", 413), ("9" * 18, 413), ("9" * 19, 400), ("x", 400), ("-1", 400), ("+1", 400), ("\u00b2", 400)):
            environ = {"CONTENT_LENGTH": length}
            with self.subTest(length), mock.patch.object(application, "limit_bytes") as limit, self.assertRaises(HTTPError) as caught:
                application._limit_bytes(self.service(max_body_bytes=100), environ, "caller")
            self.assertEqual((caught.exception.status, limit.call_count, application.SENT in environ), (status, 0, False))

    def test_bodies_are_read_by_method_and_kind(self):
        def read(method, data, kind=""):
            return application._read(self.service(), {"CONTENT_LENGTH": str(len(data)), "wsgi.input": io.BytesIO(data), "CONTENT_TYPE": kind}, method, 1000)

        for method, data, kind, expected in (
            ("GET", b"null", "", {}),
            ("HEAD", b"{", "", {}),
            ("DELETE", b"", "", {}),
            ("DELETE", b'{"a":1}', "", {"a": 1}),
            ("POST", b"", "", {}),
            ("POST", b"null", "", {}),
            ("POST", b"[1]", "", [1]),
            ("POST", b"a=%E4%B8%AD&b=", "application/x-www-form-urlencoded; charset=utf-8", {"a": "中", "b": ""}),
        ):
            with self.subTest(method, data=data):
                self.assertEqual(read(method, data, kind), expected)
        with self.assertRaises(StorageError):
            read("POST", b"a=%00", "application/x-www-form-urlencoded")
        for kind, expected in (("image/png", "image/png"), ("application/x-www-form-urlencoded", ""), (None, "")):
            self.assertEqual(application._raw({} if kind is None else {"CONTENT_TYPE": kind}, b"x"), (expected, b"x"))


class RefusedTest(unittest.TestCase):
    def refused(self, function, **call):
        """(code, text) of what a resource function refuses with."""
        with self.assertRaises(StorageError) as caught:
            function(SimpleNamespace(**{"has_sms": False, "query": {}, "json_body": lambda: {}, **call}), code="1")
        return caught.exception.code, caught.exception.message

    def test_what_is_not_there_is_refused_by_its_name(self):
        for routes in (refused.ROUTES, sms_routes.ROUTES):
            for method, template, function in routes:
                if template != "/login":
                    with self.subTest(method, template=template):
                        code, text = self.refused(function)
                        self.assertTrue(text and "{" not in text and code in (1, 119, 213, 603), (code, text))
        self.assertEqual(self.refused(refused.refuse("Flying"))[1], "Flying is not supported by this server.")
        self.assertEqual(len(refused._every("/x", "X")), 4)

    def test_log_in_by_url_is_refused_by_what_it_has(self):
        for query, feature in (({"smsCode": "1"}, "SMS login"), ({"password": "x"}, "A password in the URL")):
            self.assertEqual(self.refused(sms_routes.refuse_login, query=query), (1, f"{feature} is not supported by this server."))

    def test_phone_of_nobody_is_told_first(self):
        function = sms_routes.needs_known_phone("SMS")
        for phone, owner, expected in (("138", "u1", Code.UNSUPPORTED), ("138", None, Code.UNKNOWN_PHONE), ("", "u1", Code.UNKNOWN_PHONE), (5, "u1", Code.UNKNOWN_PHONE)):
            service = SimpleNamespace(store=SimpleNamespace(read=lambda work: work("transaction")))
            with self.subTest(phone), mock.patch.object(sms_routes.names, "owner", return_value=owner):
                code, text = self.refused(function, json_body=lambda: {"mobilePhoneNumber": phone}, service=service)  # noqa: B023
                self.assertEqual((code, text), (expected.number, expected.text.format(feature="SMS")))

    def test_who_can_be_sent_a_code_is_answered(self):
        function = sms_routes._or("request_code", refused.refuse("SMS"))
        with mock.patch("leanstorage.resources.sms.request_code", return_value="answer") as answer:
            call = SimpleNamespace(has_sms=True)
            self.assertEqual(function(call, code="1"), "answer")
            answer.assert_called_once_with(call, code="1")


class FolderTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="blobs-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "deep" / "files"
        self.blobs = folders.FolderBlobs(self.folder)

    def test_names_lead_nowhere_else_and_are_short_enough(self):
        for key, name in (("a.png", "a.png"), ("a/b", "a%2Fb"), ("../a", None), (".a", None), ("a" * 200, "a" * 200), ("a" * 201, None), ("/" * 66, "%2F" * 66), ("/" * 67, None)):
            with self.subTest(key[:9], length=len(key)):
                path = self.blobs.path(key)
                self.assertEqual(path.parent, self.folder)
                if name:
                    self.assertEqual(path.name, name)
                else:
                    self.assertRegex(path.name, r"\Asha256-[0-9a-f]{64}\Z")
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        folders.FolderBlobs(self.folder)  # which is there already

    def test_bytes_are_staged_kept_read_and_deleted(self):
        staged, size, digest = self.blobs.write([b"ab", b"c"])
        self.assertEqual((size, digest, stat.S_IMODE(os.stat(staged).st_mode)), (3, "900150983cd24fb0d6963f7d28e17f72", 0o600))
        self.assertEqual((self.blobs.size("k"), self.blobs.open("k")), (None, None))
        for _ in range(2):
            self.blobs.keep(staged, "k")
        self.blobs.drop(staged)
        self.blobs.drop(staged)
        file, size = self.blobs.open("k")
        with file:
            self.assertEqual((file.read(), size, self.blobs.size("k")), (b"abc", 3, 3))
        self.assertEqual([path.name for path in self.folder.iterdir()], ["k"])
        for _ in range(2):
            self.blobs.delete("k")
        self.assertIsNone(self.blobs.size("k"))
        self.assertEqual((self.blobs.direct_upload(), self.blobs.staged("x"), self.blobs.read_url("k", "GET", "a", "b")), (None, None, None))

    def test_upload_that_fails_leaves_nothing(self):
        def broken(error):
            yield b"x"
            raise error

        for error, raised in ((ValueError("x"), ValueError), (OSError(errno.ENOSPC, "full"), StoreUnavailable)):
            with self.subTest(error=error), self.assertRaises(raised):
                self.blobs.write(broken(error))
            self.assertEqual(list(self.folder.iterdir()), [])

    def test_folder_that_is_not_there_is_told_from_a_missing_file(self):
        self.folder.rmdir()
        for call in (lambda: self.blobs.size("k"), lambda: self.blobs.open("k"), lambda: self.blobs.keep("x", "k"), lambda: self.blobs.check(), lambda: self.blobs.write([])):
            with self.assertRaises(StoreUnavailable):
                call()
        with self.assertRaisesRegex(ValueError, "a file cannot be written"):
            self.blobs.check_start()

    def test_full_disk_is_said_and_no_reason_to_stop(self):
        for number, is_fatal in ((errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EACCES, True)):
            with self.subTest(number), mock.patch.object(folders.os, "open", side_effect=OSError(number, "no")), redirect_stderr(io.StringIO()) as said:
                if is_fatal:
                    self.assertRaises(ValueError, self.blobs.check_start)
                else:
                    self.blobs.check_start()
                self.assertEqual("files cannot be kept for now" in said.getvalue(), not is_fatal)
        self.blobs.check_start()
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_only_what_was_staged_a_day_ago_is_swept(self):
        now = 1_000_000.0
        for name, age in ((".upload-old", 86_401), (".upload-new", 86_400), ("k", 10**6)):
            (self.folder / name).write_bytes(b"x")
            os.utime(self.folder / name, (now - age, now - age))
        with mock.patch.object(folders.time, "time", lambda: now):
            self.blobs.sweep()
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), [".upload-new", "k"])


if __name__ == "__main__":
    unittest.main()
