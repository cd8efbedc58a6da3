"""The log of requests, by a real server: what its lines say, and what they never say."""
import contextlib
import json
import os
import re
import socket
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock
from urllib.parse import quote

import requests

from leanstorage.rules import index_advice
from leanstorage.http import request_log
from leanstorage.http.request_log import Line, RequestLog, shape
from leanstorage.rules.call import Call, Caller
from tests.processes import KEYS
from tests.support import free_port, python, running, until

HEADERS = {"X-LC-Id": "theid", "X-LC-Key": "thekey"}


class ServerLogTest(unittest.TestCase):
    @contextlib.contextmanager
    def serving(self, *arguments):
        """(URL, a function of the lines that the log has so far)."""
        port = free_port()
        with tempfile.TemporaryDirectory() as data:
            command = python("-m", "leanstorage", "serve", "--port", str(port), *arguments)
            with running(command, "data: .*\n", LEANSTORAGE_DATA=data, **KEYS) as process:
                said = bytearray()

                def lines():
                    with contextlib.suppress(BlockingIOError):
                        said.extend(os.read(process.stdout.fileno(), 1 << 20))
                    return [line for line in said.decode().splitlines() if not line.startswith("data: ")]

                yield f"http://127.0.0.1:{port}", lines

    def logged(self, lines, count):
        until(lambda: len(lines()) >= count)
        return lines()

    def test_line_tells_who_asked_for_what_and_how_it_went(self):
        with self.serving("--access-log", "--log-format", "json") as (url, lines):
            user = requests.post(f"{url}/1.1/users", json={"username": "alice", "password": "pw"}, headers=HEADERS).json()
            session = {**HEADERS, "X-LC-Session": user["sessionToken"], "X-Real-IP": "198.51.100.7"}
            made = requests.post(f"{url}/1.1/classes/Post", json={"a": 1}, headers=session)
            path = f"/1.1/classes/Post/{made.json()['objectId']}"
            found = requests.get(url + path, headers={**HEADERS, "X-Request-Id": "from-the-proxy"})
            requests.get(f"{url}/1.1/nothing/here", headers=HEADERS)
            requests.get(f"{url}/1.1/classes/Post", headers={**HEADERS, "X-LC-Key": "wrong"})
            said = [json.loads(line) for line in self.logged(lines, 5)]
        self.assertEqual(
            [(line["method"], line["route"], line["class"], line["status"]) for line in said],
            [
                ("POST", "/users", "_User", 201),
                ("POST", "/classes/<class_name>", "Post", 201),
                ("GET", "/classes/<class_name>/<object_id>", "Post", 200),
                ("GET", "-", "-", 404),
                ("GET", "/classes/<class_name>", "Post", 401),
            ],
        )
        self.assertEqual([line["user"] for line in said], ["-", user["objectId"], "-", "-", "-"])
        self.assertEqual([line["address"] for line in said][:2], ["127.0.0.1", "198.51.100.7"])
        self.assertEqual((said[2]["request"], found.headers["X-Request-Id"]), ("from-the-proxy", "from-the-proxy"))
        self.assertEqual(said[1]["request"], made.headers["X-Request-Id"])
        self.assertEqual(said[2]["bytes"], len(found.content))
        self.assertEqual({type(line["ms"]) for line in said}, {float})

    def test_lines_never_hold_a_secret_a_query_or_a_value(self):
        with self.serving("--access-log", "--log-slow", "0") as (url, lines):
            user = requests.post(f"{url}/1.1/users", json={"username": "s3cret", "password": "s3cret"}, headers=HEADERS).json()
            where = {"name": "s3cret", "s3cret key": 1, "n": {"$gt": 5}, "tags": {"$in": ["s3cret", "s3cret"]}}
            for headers in ({**HEADERS, "X-LC-Session": user["sessionToken"]}, {"X-LC-Id": "theid", "X-LC-Key": "themaster,master"}):
                requests.get(f"{url}/1.1/classes/Post?where={quote(json.dumps(where))}&order=s3cret&s3cret=1", headers=headers)
                requests.post(f"{url}/1.1/classes/Post", json={"text": "s3cret", "n": {"__op": "Increment", "amount": 77777}}, headers=headers)
            for name in ("hook key", "path"):
                requests.get(f"{url}/1.1/classes/s3cret;'\"/s3cret", headers={**HEADERS, "X-LC-Hook-Key": "s3cret", "X-Request-Id": name})
            requests.get(f"{url}/s3cret/file", headers=HEADERS)
            requests.post(f"{url}/1.1/requestPasswordReset", json={"email": "s3cret@example.com"}, headers=HEADERS)
            requests.post(f"{url}/1.1/resetPassword/s3cret", json={"password": "s3cret"}, headers=HEADERS)
            said = "\n".join(self.logged(lines, 10))
        self.assertIn('where={"name":?,?:?,"n":{"$gt":?},"tags":{"$in":[2]}} order'.replace('"', ""), said)
        self.assertIn("body={text:?,n:{__op:?,amount:?}}", said)
        for secret in ("s3cret", "77777", user["sessionToken"], *KEYS.values()):
            self.assertNotIn(secret, said)

    def test_slow_query_is_logged_as_the_advice_on_indexes_reads_it(self):
        where = {"name": "v4lue", "n": {"$gt": 5}, "board": {"$inQuery": {"className": "Board", "where": {"title": "v4lue"}}}}
        for form in ("text", "json"):
            with self.subTest(form), self.serving("--log-slow", "0", "--log-format", form) as (url, lines):
                requests.post(f"{url}/1.1/classes/Post", headers=HEADERS, json={"n": 1})
                requests.get(f"{url}/1.1/classes/Post?where={quote(json.dumps(where))}&order=-n&limit=5", headers=HEADERS)
                said = self.logged(lines, 2)
            [shape] = index_advice.shapes(said)
            self.assertEqual((shape["class"], shape["where"][:2], shape["order"]), ("Post", ["name eq", "n gt"], ["-n"]))
            self.assertNotIn("v4lue", "".join(said))

    def test_only_slow_requests_are_logged_where_no_access_log_is_wanted(self):
        with self.serving("--log-slow", "60000") as (url, lines):
            self.assertEqual(requests.get(f"{url}/1.1/date").status_code, 200)
            time.sleep(3 * request_log.WRITE_SECONDS)
            self.assertEqual(lines(), [])

    def test_every_answer_names_its_request(self):
        with self.serving("--max-body-bytes", "1000") as (url, _):
            answers = [
                requests.get(f"{url}/1.1/date"),
                requests.get(f"{url}/1.1/classes/Post", headers=HEADERS),
                requests.post(f"{url}/1.1/classes/Post", headers=HEADERS, json={"a": 1}),
                requests.post(f"{url}/1.1/classes/Post", headers=HEADERS, data=b"x" * 2000),
                # Only announced: a body that is being sent when the server closes resets the connection.
                requests.post(f"{url}/1.1/classes/Post", headers={**HEADERS, "Content-Length": str(2 << 20)}),
                requests.options(f"{url}/1.1/classes/Post"),
                requests.get(f"{url}/1.1/nothing"),
                requests.get(f"{url}/no/file"),
                requests.put(f"{url}/1.1/uploads/no-token", data=b"x"),
            ]
            for answer in answers:
                with self.subTest(url=answer.url, status=answer.status_code):
                    self.assertRegex(answer.headers["X-Request-Id"], r"\A[0-9a-f]{16}\Z")
            self.assertEqual([answer.status_code for answer in answers], [200, 404, 201, 413, 413, 200, 404, 404, 401])
            self.assertEqual(len({answer.headers["X-Request-Id"] for answer in answers}), len(answers))
            with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), 5) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
                self.assertRegex(raw.recv(4096), rb"\AHTTP/1.1 400 (.|\n)*X-Request-Id: [0-9a-f]{16}\r\n")

    def test_request_that_cannot_be_read_is_logged_with_its_address(self):
        with self.serving("--access-log", "--log-format", "json") as (url, lines):
            with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), 5) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
                self.assertIn(b" 400 ", raw.recv(4096))
            [line] = self.logged(lines, 1)
            self.assertIn("127.0.0.1", line)

    def test_name_of_a_request_is_taken_from_a_trusted_proxy_alone_and_only_if_it_is_a_plain_word(self):
        with self.serving() as (url, _):
            for sent, is_taken in (("abcd 1234", False), ("abcd-1234_5.6:7", True), ("a" * 64, True), ("a" * 65, False), ("short", False), ("a b c d e f", False), ("äöüäöüäöü".encode(), False)):
                with self.subTest(sent):
                    self.assertEqual(requests.get(f"{url}/1.1/date", headers={"X-Request-Id": sent}).headers["X-Request-Id"] == sent, is_taken)
        with self.serving("--trusted-proxy", "192.0.2.1") as (url, _):
            for path in ("/1.1/date", "/1.1/classes/Post"):
                answer = requests.get(url + path, headers={**HEADERS, "X-Request-Id": "abcd-12345"})
                self.assertRegex(answer.headers["X-Request-Id"], r"\A[0-9a-f]{16}\Z")


class LogTest(unittest.TestCase):
    def line(self, **more):
        values = {"at": 0.5, "method": "GET", "route": "/date", "class_name": "-", "status": 200, "ms": 1.25, "size": 3, "address": "::1", "user_id": "-", "request_id": "x"}
        return Line(**{**values, **more})

    def test_reader_that_stops_holds_up_nobody_and_what_was_dropped_is_counted(self):
        reading, writing = os.pipe()
        with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb") as reader:
            log = RequestLog(stream)
            for _ in range(3 * request_log.MAX_LINES):
                log.add(self.line())
            self.assertLessEqual(len(log._lines), request_log.MAX_LINES)
            os.set_blocking(reading, False)
            said = bytearray()

            def has_ended():
                said.extend(reader.read(1 << 20) or b"")
                return b"were dropped" in said

            until(has_ended, 20)
            log.close()
        lines = said.decode().splitlines()
        self.assertEqual(lines[0], "1970-01-01T00:00:00.500Z GET /date - 200 1.2ms 3B ::1 - x")
        [dropped] = [int(found) for found in re.findall(r"^([0-9]+) lines of the request log were dropped", said.decode(), re.MULTILINE)]
        self.assertEqual(len(lines) - 1 + dropped, 3 * request_log.MAX_LINES)

    def test_number_of_dropped_lines_is_json_among_json(self):
        with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+") as stream:
            with mock.patch.object(request_log, "MAX_LINES", 1), mock.patch.object(request_log, "WRITE_SECONDS", 60):
                log = RequestLog(stream, "json")
                for _ in range(3):
                    log.add(self.line())
                log.close()
            said = [json.loads(line) for line in Path(stream.name).read_text().splitlines()]
        self.assertEqual((len(said), said[-1]), (2, {"dropped": 2}))

    def test_lines_that_wait_are_written_at_the_end(self):
        with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+") as stream:
            log = RequestLog(stream, "json")
            log.add(self.line(shape="where={a:?}"))
            log.close()
            self.assertEqual(json.loads(Path(stream.name).read_text())["slow"], "where={a:?}")

    def test_shape_is_bounded_and_has_names_and_operators_only(self):
        def made(query, body=None):
            return shape(Call(None, Caller(), "GET", query, body, ""))

        deep = "1"
        for _ in range(50):
            deep = f'{{"$or":[{deep}]}}'
        self.assertLess(len(made({"where": deep})), 200)
        self.assertLess(len(made({"where": json.dumps({f"k{n}": n for n in range(1000)})})), 600)
        self.assertEqual(made({"where": "{no json"}), "where=?")
        self.assertEqual(made({"cql": "select * from S3cret where a = 'x'", "limit": "10"}), "cql limit")
        self.assertEqual(made({}, {"requests": [{"method": "POST", "path": "/1.1/x"}] * 3}), "body={requests:[3 {method:?,path:?}]}")
        self.assertEqual(made({}, {"list": [{"first": 1}, {"last": 2}], "texts": ["a", {"b": 1}]}), "body={list:[2 {first:?}],texts:[2]}")
        self.assertEqual(made({}, {"a\nb": 1, "é": 2, "a.b": {"$x": 3}}), "body={?:?,?:?,a.b:{$x:?}}")
        self.assertEqual(shape(None), "-")


if __name__ == "__main__":
    unittest.main()
