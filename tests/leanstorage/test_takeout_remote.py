"""The client that a live app is pulled with, against a server that answers what it is told to, and its parts."""

import hashlib
import json
import socket
import tempfile
import time
import unittest
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import requests

from leanstorage.takeout import remote, remote_trouble
from tests.leanstorage.test_takeout_pull import Clock
from tests.support import serve

JSON = {"Content-Type": "application/json"}


class Told(BaseHTTPRequestHandler):
    """Answers with the first of `server.answers`, the last of them again and again, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        answers = self.server.answers
        status, headers, data = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    do_POST = do_GET

    def log_message(self, *_):
        pass


class RemoteTestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
        cls.url = serve(cls.server, cls.addClassCleanup)

    def told(self, *answers, **options):
        """A client of the server, which gives these answers."""
        self.server.answers, self.server.asked = list(answers), []
        self.clock, self.said = Clock(), []
        source = remote.Remote(self.url, "the id", "the key", clock=self.clock, **options)
        source.say = self.said.append
        self.addCleanup(source.close)
        return source

    def failure(self, call):
        with self.assertRaises(remote.RemoteError) as raised:
            call()
        return raised.exception


class CallsTest(RemoteTestCase):
    def test_call_carries_the_credentials_its_query_as_json_and_what_it_is_counted_by(self):
        source = self.told((200, JSON, b'{"results": [], "count": 7}'))
        counted = []
        source.before_call = lambda: counted.append(1)
        self.assertEqual(source.get("/classes/A", where={"a": 1}, limit=5, keys="a,b")["count"], 7)
        method, path, headers, _ = self.server.asked[0]
        self.assertEqual((method, urlsplit(path).path), ("GET", "/1.1/classes/A"))
        self.assertEqual(parse_qs(urlsplit(path).query), {"where": ['{"a": 1}'], "limit": ["5"], "keys": ["a,b"]})
        self.assertEqual((headers["X-LC-Id"], headers["X-LC-Key"], headers["Accept-Encoding"]), ("the id", "the key,master", "gzip"))
        self.assertEqual(source.post("/exportData", {"a": [1]})["count"], 7)
        method, path, headers, body = self.server.asked[1]
        self.assertEqual((method, path, json.loads(body), headers["X-LC-Key"]), ("POST", "/1.1/exportData", {"a": [1]}, "the key,master"))
        self.assertEqual(len(counted), 2)

    def test_url_is_taken_with_and_without_its_version_and_names_the_source(self):
        for url in ("https://api.example.com", "https://api.example.com/", "https://api.example.com/1.1", "https://api.example.com/1.1/"):
            with self.subTest(url):
                source = remote.Remote(url, "id", "key")
                self.assertEqual(source.url, "https://api.example.com")
                self.assertEqual(source.source_id, hashlib.sha256(b"https://api.example.com id").hexdigest()[:16])
                self.assertEqual(source.parallel, 4)
        for url in ("http://", "http://:80", "https://api.example.com?a=b", "http://user@host", "ws://host"):
            with self.subTest(url), self.assertRaisesRegex(ValueError, "--from must be the URL of an API"):
                remote.Remote(url, "id", "key")

    def test_count_is_a_number_or_unknown(self):
        for text, expected in (("5", 5), ("0", 0), ("true", None), ('"5"', None), ("5.5", None), ("null", None)):
            with self.subTest(text):
                source = self.told((200, JSON, f'{{"results": [], "count": {text}}}'.encode()))
                self.assertEqual(source.count("/classes/A"), expected)
                self.assertEqual(parse_qs(urlsplit(self.server.asked[0][1]).query), {"count": ["1"], "limit": ["0"]})
        source.count("/classes/A", where={"a": 1})
        self.assertEqual(parse_qs(urlsplit(self.server.asked[1][1]).query)["where"], ['{"a": 1}'])

    def test_answer_is_kept_asked_for_again_or_refused_by_its_status_and_code(self):
        again, text = "again", b'{"error": "no such thing", "code": 101}'
        cases = (
            (200, b'{"a": 1}', {"a": 1}),
            (200, b'{"code": 429}', again),
            (200, b'{"code": 503}', again),
            (200, b"no json", again),
            (200, b'{"a": 1}]', again),
            (299, b'{"a": 1}', {"a": 1}),
            (200, b"[1]", again),
            (200, b"7", again),
            (201, b"no json", ("GET /x: status 201", None)),
            (302, b"{}", (f"{self.url} redirects: if that is the API, name it in --from", 302)),
            (399, b"{}", (f"{self.url} redirects: if that is the API, name it in --from", 399)),
            (400, text, ("GET /x: status 400, no such thing", 101)),
            (401, text, (remote_trouble.KEYS, 401)),
            (402, b"{}", ("GET /x: status 402", None)),
            (404, text, ("GET /x: status 404, no such thing", 101)),
            (429, b"{}", again),
            (499, text, ("GET /x: status 499, no such thing", 101)),
            (500, b"{}", again),
            (503, b'{"error": "The app is archived"}', again),
            (504, b"<html>", again),
            (504, b'{"error": "The app is archived"}', (f"the API says: The app is archived ({remote_trouble.ARCHIVED})", 504)),
            (400, b'{"error": "' + b"x" * 201 + b'"}', ("GET /x: status 400, " + "x" * 200, None)),
        )
        for status, body, expected in cases:
            with self.subTest(status=status, body=body):
                source = self.told((status, JSON, body), (200, JSON, b'{"again": 1}'))
                if isinstance(expected, tuple):
                    error = self.failure(lambda: source.get("/x"))
                    self.assertEqual((str(error), error.code), expected)
                    self.assertEqual(len(self.server.asked), 1)
                else:
                    self.assertEqual(source.get("/x"), {"again": 1} if expected == again else expected)
                    self.assertEqual(len(self.server.asked), 2 if expected == again else 1)

    def test_page_is_no_answer_of_an_api_until_one_has_come(self):
        page, answer = (499, {}, b" <html>"), (200, JSON, b"{}")
        source = self.told(page)
        error = self.failure(lambda: source.get("/x"))
        self.assertEqual((str(error), error.code), (remote_trouble.no_api(self.url, 499), 499))
        source = self.told(answer, page)
        source.get("/x")
        self.assertEqual(str(self.failure(lambda: source.get("/x"))), "GET /x: status 499")
        source = self.told((500, {}, b"<html>"), answer)
        self.assertEqual(source.get("/x"), {})

    def test_tries_end_are_told_from_the_third_on_and_take_twice_as_long_each(self):
        source = self.told((502, JSON, b"{}"))
        with mock.patch.object(remote.random, "uniform", side_effect=lambda least, most: most):
            error = self.failure(lambda: source.get("/x"))
        self.assertIsInstance(error, remote.Unreachable)
        self.assertEqual(str(error), "GET /x: status 502 after 8 tries")
        self.assertEqual(len(self.server.asked), 8)
        self.assertEqual(self.clock.slept, [0.5, 1, 2, 4, 8, 16, 32])
        self.assertEqual(self.said, [f"GET /x: status 502, trying again ({number} of 8)" for number in range(4, 9)])
        source = self.told((429, {**JSON, "Retry-After": "600"}, b"{}"))
        error = self.failure(lambda: source.get("/x"))
        self.assertEqual(str(error), f"GET /x: too many requests after 8 tries: {remote_trouble.QUOTA}")
        self.assertEqual(self.clock.slept, [60] * 7)

    def test_waits_vary_between_half_and_all_of_their_time(self):
        source = self.told((200, JSON, b"{}"))
        with mock.patch.object(remote.random, "uniform", return_value=0.75) as varied:
            source.wait(0)
            source.wait(3)
        self.assertEqual(self.clock.slept, [0.5 * 0.75, 4 * 0.75])
        varied.assert_called_with(0.5, 1.0)

    def test_too_many_requests_make_all_wait_and_other_trouble_only_the_one(self):
        clock = Clock()
        pause = remote._Pause(clock)
        pause.wait()
        pause.back_off(0, 7, everybody=True)
        pause.back_off(0, 3, everybody=True)  # which is over before
        self.assertEqual(clock.slept, [])
        pause.wait()
        pause.wait()
        self.assertEqual(clock.slept, [7])
        pause.back_off(0, 2)
        pause.wait()
        self.assertEqual(clock.slept, [7, 2])

    def test_api_that_has_answered_once_is_asked_again_when_it_is_gone(self):
        for has_answered, tries in ((False, 1), (True, 8)):
            with self.subTest(has_answered=has_answered):
                source = self.told((200, JSON, b"{}"))
                if has_answered:
                    source.get("/x")
                with mock.patch.object(source._api, "request", side_effect=requests.ConnectTimeout()) as sent:
                    text = str(self.failure(lambda: source.get("/x")))
                expected = f"GET /x: no answer from {self.url} (ConnectTimeout) after 8 tries"
                self.assertEqual((sent.call_count, text.startswith(f"{self.url} does not answer:")), (tries, not has_answered))
                self.assertTrue(not has_answered or text == expected, text)

    def test_answer_is_bounded(self):
        for size, is_taken in ((100, True), (101, False)):
            with self.subTest(size), mock.patch.object(remote, "MAX_ANSWER_BYTES", 100):
                source = self.told((200, JSON, b'{"a": 1}'.ljust(size)))
                if is_taken:
                    self.assertEqual(source.get("/x"), {"a": 1})
                else:
                    error = self.failure(lambda: source.get("/x"))
                    self.assertIsInstance(error, remote.AnswerTooLarge)
                    self.assertEqual((str(error), len(self.server.asked)), ("an answer of more than 100 bytes", 1))

    def test_retry_after_is_seconds_or_a_time(self):
        for text, least, most in (
            ("7", 7, 7),
            ("0", 0, 0),
            ("9" * 19, int("9" * 19), int("9" * 19)),
            ("9" * 20, None, None),
            ("", None, None),
            ("soon", None, None),
            (formatdate(time.time() + 100, usegmt=True), 50, 100),
            (formatdate(time.time() - 100, usegmt=True), 0, 0),
        ):
            with self.subTest(text):
                answer = requests.Response()
                answer.headers["Retry-After"] = text
                found = remote._retry_after(answer)
                if least is None:
                    self.assertIsNone(found)
                else:
                    self.assertTrue(least <= found <= most, found)

    def test_now_is_the_text_of_a_time(self):
        self.assertEqual(self.told((200, JSON, b'{"iso": "2026-11-28T01:02:03.004Z"}')).now(), "2026-11-28T01:02:03.004Z")


class DownloadTest(RemoteTestCase):
    def test_file_is_fetched_without_credentials_as_it_is(self):
        source = self.told((200, {}, b"bytes"))
        self.assertEqual(b"".join(source.download(f"{self.url}/a.png")), b"bytes")
        headers = self.server.asked[0][2]
        self.assertEqual((headers.get("X-LC-Id"), headers.get("X-LC-Key"), headers["Accept-Encoding"]), (None, None, "identity"))

    def test_status_of_a_file_is_taken_tried_again_or_refused(self):
        for status, tries, code in ((200, 1, None), (206, 1, None), (201, 1, 201), (404, 1, 404), (429, 2, None), (499, 1, 499), (500, 2, None), (503, 2, None)):
            with self.subTest(status):
                source = self.told((status, {}, b"bytes"), (200, {}, b"bytes"))
                if code:
                    error = self.failure(lambda: list(source.download(f"{self.url}/a")))
                    self.assertEqual((error.code, str(error)), (code, f"its URL answers with status {code}"))
                else:
                    self.assertEqual(b"".join(source.download(f"{self.url}/a")), b"bytes")
                self.assertEqual(len(self.server.asked), tries)

    def test_wait_that_a_files_host_asks_for_is_kept(self):
        for status, everybody in ((429, True), (503, False)):
            with self.subTest(status):
                source = self.told((status, {"Retry-After": "9"}, b""), (200, {}, b"x"))
                with mock.patch.object(source._pause, "back_off", wraps=source._pause.back_off) as waited:
                    list(source.download(f"{self.url}/a"))
                waited.assert_called_once_with(0, 9, everybody=everybody)

    def test_length_is_checked_but_of_packed_bytes(self):
        for headers, size, is_whole in (
            ({"Content-Length": "5"}, 5, True),
            ({"Content-Length": "7"}, 5, False),
            ({"Content-Length": "7", "Content-Encoding": "identity"}, 5, True),
            ({"Content-Length": "no"}, 5, True),
            ({}, 0, True),
        ):
            with self.subTest(headers=headers, size=size):
                answer = mock.MagicMock(headers=headers, status_code=200)
                answer.__enter__.return_value = answer
                answer.iter_content.return_value = [b"x" * size]
                source = self.told((200, {}, b""))
                with mock.patch.object(source, "_opened", return_value=answer), tempfile.TemporaryDirectory() as folder:
                    if is_whole:
                        self.assertEqual(len(b"".join(source.download(self.url))), size)
                    else:
                        self.assertEqual(str(self.failure(lambda: list(source.download(self.url)))), "the download broke off")
                    kept = Path(folder, "x")
                    if is_whole and "Content-Encoding" not in headers:
                        source.download_to(kept, self.url)
                        self.assertEqual(kept.stat().st_size, size)
                    elif not is_whole:
                        self.assertEqual(str(self.failure(lambda: source.download_to(kept, self.url))), "the download broke off")
                        self.assertEqual([one.name for one in Path(folder).iterdir()], ["x.partial"])

    def test_download_goes_on_only_where_the_answer_begins_there(self):
        for status, headers, data, expected in (
            (206, {"Content-Range": "bytes 4-9/10"}, b"456789", b"0123456789"),
            (206, {"Content-Range": "bytes 0-9/10"}, b"0123456789", b"0123456789"),
            (206, {}, b"0123456789", b"0123456789"),
            (200, {"Content-Range": "bytes 4-9/10"}, b"0123456789", b"0123456789"),
        ):
            with self.subTest(status=status, headers=headers), tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "got.zip")
                path.with_name("got.zip.partial").write_bytes(b"0123")
                source = self.told((status, headers, data))
                source.download_to(path, f"{self.url}/got.zip")
                self.assertEqual((path.read_bytes(), self.server.asked[0][2]["Range"]), (expected, "bytes=4-"))
                self.assertEqual([one.name for one in Path(folder).iterdir()], ["got.zip"])

    def test_failed_download_begins_anew_only_when_there_is_nothing_behind(self):
        for status, count in ((404, 1), (416, 2)):
            with self.subTest(status), tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "got.zip")
                path.with_name("got.zip.partial").write_bytes(b"0123")
                source = self.told((status, {}, b""), (200, {}, b"all"))
                if status == 404:
                    self.assertEqual(self.failure(lambda: source.download_to(path, self.url)).code, 404)
                    self.assertEqual(path.with_name("got.zip.partial").read_bytes(), b"0123")
                else:
                    source.download_to(path, self.url)
                    self.assertEqual(path.read_bytes(), b"all")
                    self.assertNotIn("Range", self.server.asked[1][2])
                self.assertEqual(len(self.server.asked), count)

    def test_host_of_a_url(self):
        for url, host in (("http://a.example.com/x", "a.example.com"), ("https://u:p@a.example.com:81/x", "a.example.com:81")):
            self.assertEqual(remote.host_of(url), host)
        for url in ("ftp://a/x", "file:///etc/passwd", "http:///x", "http://[::1/x", "//a/x", ""):
            with self.subTest(url):
                self.assertEqual(str(self.failure(lambda url=url: remote.host_of(url))), "its URL is not one of the web")

    def test_host_is_given_up_after_three_files_in_a_row(self):
        def fails(kind):
            def call():
                raise kind("no")

            return call

        hosts = remote._Hosts()
        for _ in range(2):
            self.failure(lambda: hosts.ask("a", fails(remote.Unreachable)))
        self.assertFalse(hosts.has_answered("a"))
        self.assertEqual(hosts.ask("a", lambda: 5), 5)
        self.assertTrue(hosts.has_answered("a"))
        for kind in (remote.NotAllowed, remote.RemoteError):  # which say nothing of it
            for _ in range(4):
                self.assertEqual(str(self.failure(lambda kind=kind: hosts.ask("a", fails(kind)))), "no")
        for _ in range(3):
            self.assertEqual(str(self.failure(lambda: hosts.ask("a", fails(remote.Unreachable)))), "no")
        self.assertEqual(str(self.failure(lambda: hosts.ask("a", lambda: 5))), "its host a does not answer")
        self.assertEqual(hosts.ask("b", lambda: 6), 6)

    def test_private_address_is_refused_but_the_apis_host_and_those_that_are_named(self):
        source = self.told((200, {}, b"bytes"))
        port = self.server.server_port
        error = self.failure(lambda: list(source.download(f"http://localhost:{port}/a")))
        self.assertEqual(str(error), "its URL leads to a private address, at localhost: see --private-host")
        self.assertIsInstance(error, remote.NotAllowed)
        named = self.told((200, {}, b"bytes"), private_hosts=["LOCALHOST"])
        self.assertEqual(b"".join(named.download(f"http://localhost:{port}/a")), b"bytes")

    def test_file_is_led_on_five_times_and_no_further(self):
        there, found = (302, {"Location": "/b"}, b""), (200, {}, b"x")
        source = self.told(*[there] * 5, found)
        self.assertEqual(b"".join(source.download(f"{self.url}/a")), b"x")
        source = self.told(*[there] * 6, found)
        source._hosts._answered.add(urlsplit(self.url).netloc)
        list(source.download(f"{self.url}/a"))  # is tried again, from the start
        self.assertEqual([path for _, path, *_ in self.server.asked], ["/a", "/b", "/b", "/b", "/b", "/b", "/a"])


class TroubleTest(unittest.TestCase):
    def test_reason_of_no_answer_is_told_where_trying_again_changes_nothing(self):
        certificate = requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED")
        name = requests.ConnectionError(socket.gaierror())
        nested = requests.ConnectionError(RuntimeError(name))
        nested.__context__ = nested  # an error may lead to itself
        for error, expected in (
            (certificate, "URL has a certificate that is not valid for it: look at the spelling of --from"),
            (requests.exceptions.SSLError("WRONG_VERSION"), "URL does not speak TLS: look at the port, or use http:// in --from"),
            (name, "there is no host of that name: URL: look at the spelling of --from"),
            (nested, "there is no host of that name: URL: look at the spelling of --from"),
            (requests.ConnectionError(ConnectionRefusedError()), "nothing listens at URL: look at the host and the port of --from"),
            (requests.ReadTimeout(), "URL does not answer: look at the host and the port of --from, and whether it speaks TLS there"),
            (requests.ConnectionError(ConnectionResetError()), None),
        ):
            with self.subTest(error=error):
                self.assertEqual(remote_trouble.no_answer(error, "URL"), expected)

    def test_archived_app_is_told_from_a_proxy_that_waited_too_long(self):
        for value, data, expected in (
            ({"error": "archived  app"}, b"", "archived app"),
            ({"error": "Gateway"}, b"", "Gateway"),
            ({"error": 5}, b"", None),
            (None, b"upstream request", None),
            (None, b"the TIME-OUT", None),
            (None, b"timeout", None),
            (None, b"<b>archived", None),
            (None, b"archived", "archived"),
            (None, b"", None),
            (None, b"x" * 1200 + b"<", "x" * 200 + "..."),
            (None, b"x" * 1199 + b"<", None),
        ):
            with self.subTest(value=value, data=data):
                told = f"the API says: {expected} ({remote_trouble.ARCHIVED})" if expected else None
                self.assertEqual(remote_trouble.archived(value, data), told)

    def test_place_that_is_led_to_is_shown_where_it_is_told(self):
        self.assertEqual(remote_trouble.redirected("A", ""), "A redirects: if that is the API, name it in --from")
        self.assertEqual(remote_trouble.redirected("A", "B\n"), "A redirects to B?: if that is the API, name it in --from")


if __name__ == "__main__":
    unittest.main()
