import io
import os
import tempfile
import tracemalloc
import unittest
from contextlib import redirect_stderr
from http import HTTPStatus
from pathlib import Path

from leanwsgi import messages, static_files
from tests.support import multipart


def environ(body=b"", **more):
    return {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body), "REMOTE_ADDR": "10.0.0.1", **more}


class JsonTest(unittest.TestCase):
    def assert_status(self, status, function, *arguments):
        with self.assertRaises(messages.HTTPError) as caught:
            function(*arguments)
        self.assertEqual(caught.exception.status, status)

    def test_json_object_with_an_object_keeps_64_bit_integers(self):
        body = b'{"n": 9223372036854775807, "s": "\\ud83d\\ude00"}'
        self.assertEqual(messages.json_object(environ(body)), {"n": 2**63 - 1, "s": "😀"})

    def test_json_object_with_malformed_body_is_400(self):
        bodies = {
            "nothing": b"",
            "not JSON": b"{",
            "a list": b"[]",
            "null": b"null",
            "NaN": b'{"a": NaN}',
            "Infinity": b'{"a": -Infinity}',
            "too large a number": b'{"a": 1e400}',
            "bad UTF-8": b'{"a": "\xff"}',
            "NUL": b'{"a": "\\u0000"}',
            "NUL in a key": b'{"\\u0000": 1}',
            "half a surrogate pair": b'{"a": "\\ud800"}',
            "half a pair, deep": b'{"a": [{"b": "\\udc00"}]}',
            "50,000 levels": b"[" * 50_000 + b"]" * 50_000,
            "101 levels": b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
            "a number of 5,000 digits": b'{"a": ' + b"1" * 5000 + b"}",
        }
        for name, body in bodies.items():
            with self.subTest(name):
                self.assert_status(400, messages.json_object, environ(body))

    def test_json_object_with_escaped_backslash_is_no_nul(self):
        self.assertEqual(messages.json_object(environ(b'{"a": "\\\\u0000"}')), {"a": "\\u0000"})

    def test_json_object_above_the_limit_is_413(self):
        body = b'{"a": "' + b"x" * 100 + b'"}'
        self.assert_status(413, messages.json_object, environ(body), 50)

    def test_read_body_with_malformed_length_is_400(self):
        for text in ("-1", "x", "1.5", "１", "9" * 19, "+1", " 1"):
            with self.subTest(text):
                self.assert_status(400, messages.read_body, environ(b"x", CONTENT_LENGTH=text), 10)

    def test_read_body_that_ends_early_is_400(self):
        self.assert_status(400, messages.read_body, environ(b"x", CONTENT_LENGTH="5"), 10)

    def test_read_body_without_length_reads_nothing_unless_the_input_ends_by_itself(self):
        self.assertEqual(messages.read_body(environ(b"abc", CONTENT_LENGTH=""), 10), b"")
        ended = environ(b"abc", CONTENT_LENGTH="", **{"wsgi.input_terminated": True})
        self.assertEqual(messages.read_body(ended, 10), b"abc")
        ended = environ(b"abc" * 10, CONTENT_LENGTH="", **{"wsgi.input_terminated": True})
        self.assert_status(413, messages.read_body, ended, 10)


class QueryTest(unittest.TestCase):
    def test_query_decodes_names_and_values(self):
        self.assertEqual(messages.query({"QUERY_STRING": "a=%E4%B8%AD&b=&c=x+y"}), {"a": "中", "b": "", "c": "x y"})

    def test_query_that_is_malformed_is_400(self):
        for text in ("a=1&a=2", "a=%ff", "&".join(f"a{i}=1" for i in range(101)), "a=\xff"):
            with self.subTest(text[:20]), self.assertRaises(messages.HTTPError) as caught:
                messages.query({"QUERY_STRING": text})
            self.assertEqual(caught.exception.status, 400)


class UploadTest(unittest.TestCase):
    def upload(self, body, headers, limit=1000):
        return messages.upload(environ(body, CONTENT_TYPE=headers["Content-Type"]), "file", limit)

    def test_upload_with_one_file_returns_it(self):
        upload = self.upload(*multipart("file", "a.txt", b"hello"))
        with upload.file:
            self.assertEqual((upload.name, upload.mime_type, upload.size), ("a.txt", "text/plain", 5))
            self.assertEqual(upload.file.read(), b"hello")

    def chunks(self, body, headers, limit=1000):
        return b"".join(messages.file_chunks(environ(body, CONTENT_TYPE=headers["Content-Type"]), ("file", "fileContent"), limit))

    def test_file_in_one_of_the_fields_is_read_in_pieces(self):
        for field, data in (("file", b"hello"), ("fileContent", b""), ("file", bytes(1000))):
            self.assertEqual(self.chunks(*multipart(field, "a.txt", data)), data)

    def test_file_that_is_missing_twice_there_or_too_large_is_refused(self):
        body, headers = multipart("file", "a", b"1")
        end = body.rindex(b"--boundary--")
        rows = (
            (400, *multipart("other", "a", b"1")),
            (400, body[:end] + body, headers),
            (400, body[:end], headers),
            (400, body, {"Content-Type": "text/plain"}),
            (413, *multipart("file", "a", bytes(1001))),
        )
        for status, data, sent in rows:
            with self.subTest(data[:20]), self.assertRaises(messages.HTTPError) as caught:
                self.chunks(data, sent)
            self.assertEqual(caught.exception.status, status)

    def test_upload_with_empty_file_returns_it(self):
        upload = self.upload(*multipart("file", "a.txt", b""))
        with upload.file:
            self.assertEqual((upload.size, upload.file.read()), (0, b""))

    def test_upload_that_is_malformed_is_400(self):
        good, headers = multipart("file", "a.txt", b"hello")
        twice = good[: -len(b"--boundary--\r\n")] + good
        many = b"".join(
            b'--boundary\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % i for i in range(10_000)
        )
        rows = {
            "another field": multipart("other", "a.txt", b"x"),
            "no boundary": (good, {"Content-Type": "multipart/form-data"}),
            "another type": (good, {"Content-Type": "text/plain"}),
            "another boundary": (good, {"Content-Type": "multipart/form-data; boundary=other"}),
            "cut off": (good[:-10], headers),
            "the field twice": (twice, headers),
            "10,000 parts": (many + b"--boundary--\r\n", headers),
            "nothing": (b"", headers),
        }
        for name, (body, given) in rows.items():
            with self.subTest(name), self.assertRaises(messages.HTTPError) as caught:
                self.upload(body, given, 10**7)
            self.assertEqual(caught.exception.status, 400)

    def test_upload_above_the_limit_is_413(self):
        for size in (1001, 200_000):
            with self.subTest(size=size), self.assertRaises(messages.HTTPError) as caught:
                self.upload(*multipart("file", "a", b"x" * size))
            self.assertEqual(caught.exception.status, 413)

    def test_upload_of_twenty_megabytes_takes_constant_memory(self):
        body, headers = multipart("file", "a", bytes(20 << 20))
        given = environ(body, CONTENT_TYPE=headers["Content-Type"])
        tracemalloc.start()
        try:
            upload = messages.upload(given, "file", 30 << 20)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        with upload.file:
            self.assertEqual(upload.size, 20 << 20)
        self.assertLess(peak, 2 << 20)


class ExplainTest(unittest.TestCase):
    def explained(self, error, **more):
        """(the answer, what was logged)"""
        with redirect_stderr(io.StringIO()) as said:
            answer = messages.explain(error, {"REQUEST_METHOD": "POST", "PATH_INFO": "/secret", "QUERY_STRING": "token=s3cret", **more})
        return answer, said.getvalue()

    def test_log_of_a_failure_holds_no_session_and_no_path(self):
        for text in ("GET /1.1/users/me?session_token=s3cret&x=1", "'session_token=s3cret' in it", 'session_token=s3cret"'):
            with self.subTest(text):
                try:
                    raise RuntimeError(text)
                except RuntimeError as error:
                    (status, headers, body), said = self.explained(error, **{"app.request_id": "abc"})
                self.assertEqual((status, body), (500, b'{"error":"Internal server error.","code":1}'))
                self.assertIn("Traceback", said)
                self.assertIn("request abc 'POST' failed", said)
                self.assertIn("session_token=***", said)
                self.assertNotIn("s3cret", said)
                self.assertNotIn("/secret", said)
                self.assertIn(("Cache-Control", "no-store"), headers)

    def test_known_failure_says_what_it_is_and_is_not_logged(self):
        error = messages.HTTPError(HTTPStatus.CONFLICT, "taken", 202, [("Retry-After", "1")])
        (status, headers, body), said = self.explained(error)
        self.assertEqual((status, body, said), (409, b'{"error":"taken","code":202}', ""))
        self.assertIn(("Retry-After", "1"), headers)


class EdgeTest(unittest.TestCase):
    """What is allowed ends exactly where it is said to."""

    def outcome(self, function, *arguments):
        """What is returned, or the (status, text) of what is raised."""
        try:
            return function(*arguments)
        except messages.HTTPError as error:
            return error.status.value, error.message

    def test_body_is_as_long_as_it_says_and_as_the_limit_allows(self):
        large, early = (413, "the body is larger than 5 bytes"), (400, "the body ended before its Content-Length")
        for body, length, is_ended, expected in (
            (b"12345", "5", False, b"12345"),
            (b"123456", "5", False, b"12345"),
            (b"123456", "6", False, large),
            (b"1234", "5", False, early),
            (b"", "0", False, b""),
            (b"12345", "", True, b"12345"),
            (b"123456", "", True, large),
            (b"12345", "", False, b""),
            (b"12345", "0" * 13 + "00005", False, b"12345"),
            (b"12345", "0" * 14 + "00005", False, (400, "Content-Length is not a number")),
        ):
            with self.subTest(body=body, length=length, is_ended=is_ended):
                given = environ(body, CONTENT_LENGTH=length, **{"wsgi.input_terminated": is_ended})
                self.assertEqual(self.outcome(messages.read_body, given, 5), expected)
        self.assertEqual(messages.content_length({"CONTENT_LENGTH": "5"}, 5), 5)
        self.assertIsNone(messages.content_length({"wsgi.input_terminated": True}, 5))

    def test_body_is_read_in_pieces_and_not_beyond_its_length(self):
        asked = []

        class Input(io.BytesIO):
            def read(self, size=-1):
                asked.append(size)
                return super().read(size)

        size = messages.CHUNK_BYTES + 7
        for length, sizes in ((str(size), [messages.CHUNK_BYTES, 7]), ("", [messages.CHUNK_BYTES] * 3)):
            asked.clear()
            given = {"CONTENT_LENGTH": length, "wsgi.input_terminated": True, "wsgi.input": Input(bytes(size))}
            self.assertEqual([len(one) for one in messages.body_chunks(given, size)], [messages.CHUNK_BYTES, 7])
            self.assertEqual(asked, sizes)

    def test_json_is_as_deep_and_as_long_as_allowed(self):
        deep = (400, "the JSON is nested deeper than 100 levels")
        for text, expected in (
            ("[" * 100 + "]" * 100, None),
            ("[" * 101 + "]" * 101, deep),
            ('{"a":' * 100 + "1" + "}" * 100, None),
            ('[{"a":' * 50 + "1" + "}, {}]" * 50, None),
            ('{"a":' * 101 + "1" + "}" * 101, deep),
            ("[" + "[]," * 200 + "[]]", None),
            ('["' + "[" * 200 + '"]', None),
            ("[1e308]", None),
            ("[1e309]", (400, "the body is not valid JSON")),
            ('["\\u0000"]', (400, "the JSON holds a NUL character or half of a surrogate pair")),
            ('["\\ud83d\\ude00"]', None),
        ):
            with self.subTest(text=text[:30], length=len(text)):
                found = self.outcome(messages.parse_json, text)
                self.assertEqual(found if expected else isinstance(found, list | dict), expected or True)
        self.assertEqual(self.outcome(messages.parse_json, b"[[[]]]", 2), (400, "the JSON is nested deeper than 2 levels"))
        self.assertEqual(self.outcome(messages.json_object, environ(b"[]")), (400, "the body must be a JSON object"))
        self.assertEqual(self.outcome(messages.json_object, environ(b'{"a":1}'), 7), {"a": 1})

    def test_query_has_a_hundred_names_and_its_bytes_are_utf_8(self):
        self.assertEqual(len(messages.query({"QUERY_STRING": "&".join(f"a{n}=1" for n in range(100))})), 100)
        self.assertEqual(messages.query({}), {})
        utf = (400, "the query string is not UTF-8")
        for text, expected in (("", None), ("a=%e4%b8%ad&a=1", None), ("a=%ff", utf), ("a=\xff", utf), ("a=\xe4\xb8\xad", None)):
            with self.subTest(text):
                self.assertEqual(self.outcome(messages.check_query, {"QUERY_STRING": text}), expected)
        self.assertIsNone(messages.check_query({}))

    def test_path_is_decoded_and_never_empty(self):
        for text, expected in (("", "/"), ("/a", "/a"), ("/\xe4\xb8\xad", "/中"), ("/\xff", (400, "the path is not UTF-8"))):
            with self.subTest(text):
                self.assertEqual(self.outcome(messages.path, {"PATH_INFO": text}), expected)
        self.assertEqual(messages.path({}), "/")

    def test_form_has_so_many_bytes_and_parts(self):
        for size, is_taken in ((100, True), (101, False)):
            with self.subTest(size):
                body, headers = multipart("file", "a", b"x" * size)
                given = {"CONTENT_TYPE": headers["Content-Type"]}
                found = self.outcome(messages.upload, environ(body, **given), "file", 100)
                if is_taken:
                    with found.file:
                        self.assertEqual((found.size, found.file.tell()), (100, 0))
                else:
                    self.assertEqual(found, (413, "the body is larger than 100 bytes"))
                chunks = self.outcome(lambda: b"".join(messages.file_chunks(environ(body, **given), ["file"], 100)))  # noqa: B023
                self.assertEqual(chunks, b"x" * 100 if is_taken else (413, "the body is larger than 100 bytes"))
        body, headers = multipart("file", "a", b"hello")
        part = b'--boundary\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n'
        for parts, is_taken in ((15, True), (16, False)):
            with self.subTest(parts=parts):
                given = environ(part * parts + body, CONTENT_TYPE=headers["Content-Type"])
                found = self.outcome(lambda: b"".join(messages.file_chunks(given, ["file"], 100)))  # noqa: B023
                self.assertEqual(found, b"hello" if is_taken else (400, "the multipart body is malformed"))
        rest = messages.MULTIPART_BYTES + 100
        for length, status in ((rest, 400), (rest + 1, 413)):
            with self.subTest(length=length):
                given = environ(b"", CONTENT_LENGTH=str(length), CONTENT_TYPE=headers["Content-Type"])
                self.assertEqual(self.outcome(messages.upload, given, "file", 100)[0], status)

    def test_text_field_of_the_same_name_is_no_file(self):
        body, headers = multipart("file", "a", b"hello")
        text = b'--boundary\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n'
        for whole in (text + body, body[: body.rindex(b"--boundary--")] + text + b"--boundary--\r\n"):
            given = {"CONTENT_TYPE": headers["Content-Type"]}
            self.assertEqual(b"".join(messages.file_chunks(environ(whole, **given), ["file"], 100)), b"hello")
            with messages.upload(environ(whole, **given), "file", 100).file as file:
                self.assertEqual(file.read(), b"hello")
        given = environ(text + b"--boundary--\r\n", CONTENT_TYPE=headers["Content-Type"])
        self.assertEqual(self.outcome(messages.upload, given, "file", 100), (400, "there is no file in the field 'file'"))

    def test_name_of_a_request_is_a_trusted_proxys_or_a_new_one(self):
        trusted = frozenset(["10.0.0.1"])
        for claimed, peer, is_taken in (("a" * 8, "10.0.0.1", True), ("a" * 64, "10.0.0.1", True), ("a" * 7, "10.0.0.1", False), ("a" * 65, "10.0.0.1", False), ("a b" * 4, "10.0.0.1", False), ("a" * 8, "10.0.0.2", False)):
            with self.subTest(claimed, peer=peer):
                found = messages.request_id({"HTTP_X_REQUEST_ID": claimed, "REMOTE_ADDR": peer}, trusted)
                if is_taken:
                    self.assertEqual(found, claimed)
                else:
                    self.assertRegex(found, r"\A[0-9a-f]{16}\Z")
        self.assertTrue(messages.is_trusted({}, ["*"]))
        self.assertFalse(messages.is_trusted({}, ["10.0.0.1"]))

    def started(self, response, method="GET"):
        """(status line, headers, body)"""
        said = []
        body = messages.start({"REQUEST_METHOD": method}, lambda *arguments: said.extend(arguments), response)
        return *said, body

    def test_answer_has_a_length_once_and_no_body_where_there_is_none(self):
        own = [("content-length", "9")]
        for status, headers, method, found, body in (
            (HTTPStatus.OK, [], "GET", [("Content-Length", "2")], [b"ab"]),
            (HTTPStatus.OK, own, "GET", own, [b"ab"]),
            (HTTPStatus.OK, [], "HEAD", [("Content-Length", "2")], [b""]),
            (HTTPStatus.NO_CONTENT, [], "GET", [], [b"ab"]),
            (HTTPStatus.NOT_MODIFIED, [], "GET", [], [b"ab"]),
        ):
            with self.subTest(status, method=method, headers=headers):
                self.assertEqual(self.started((status, headers, b"ab"), method), (f"{status.value} {status.phrase}", found, body))
                self.assertNotIn(("Content-Length", "2"), headers)

    def test_body_in_pieces_is_closed_for_head(self):
        class Pieces(list):
            is_closed = False

            def close(self):
                self.is_closed = True

        for method, expected in (("GET", [b"a"]), ("HEAD", [b""])):
            pieces = Pieces([b"a"])
            self.assertEqual(self.started((HTTPStatus.OK, [], pieces), method), ("200 OK", [], expected))
            self.assertIs(pieces.is_closed, method == "HEAD")
        self.assertEqual(self.started((HTTPStatus.OK, [], [b"a"]), "HEAD"), ("200 OK", [], [b""]))

    def test_json_answer_is_not_kept_by_caches(self):
        headers = [("Content-Type", "application/json; charset=utf-8"), ("Cache-Control", "no-store"), ("A", "b")]
        self.assertEqual(messages.json_response(HTTPStatus.OK, {"a": "中"}, [("A", "b")]), (200, headers, '{"a":"中"}'.encode()))
        self.assertEqual(messages.error_response(HTTPStatus.OK, 5, "no")[2], b'{"error":"no","code":5}')
        self.assertEqual(messages.HTTPError(HTTPStatus.GONE, "x").code, 410)
        self.assertEqual(messages.HTTPError(HTTPStatus.GONE, "x", 0).code, 0)

    def test_time_in_a_header_is_that_of_greenwich(self):
        self.assertEqual(messages.http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT")


class StaticFileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="static-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "a").mkdir()
        for name, data in (("index.html", b"<p>"), ("a/b.min.js", b"1"), ("data", b"2"), (".env", b"3"), ("a/.env", b"4")):
            (self.folder / name).write_bytes(data)
            os.utime(self.folder / name, (86_400.9, 86_400.9))

    def test_file_has_its_type_and_is_asked_for_again(self):
        for path, mime_type in (("index.html", "text/html; charset=utf-8"), ("a/b.min.js", "text/javascript; charset=utf-8"), ("data", "application/octet-stream")):
            with self.subTest(path):
                status, headers, body = static_files.static_file({}, self.folder, path)
                found = dict(headers)
                self.assertEqual((status, body), (200, (self.folder / path).read_bytes()))
                self.assertEqual(found["Content-Type"].replace("application/javascript", "text/javascript; charset=utf-8"), mime_type)
                self.assertEqual((found["Cache-Control"], found["Last-Modified"]), ("no-cache", "Fri, 02 Jan 1970 00:00:00 GMT"))
                self.assertRegex(found["ETag"], r'\A"[0-9a-f]{32}"\Z')
                status, headers, body = static_files.static_file({"HTTP_IF_NONE_MATCH": f'W/"x", {found["ETag"]}'}, self.folder, path)
                self.assertEqual((status, body, dict(headers)["ETag"]), (304, b"", found["ETag"]))
                self.assertEqual(static_files.static_file({"HTTP_IF_NONE_MATCH": '"x"'}, self.folder, path)[0], 200)

    def test_what_is_no_plain_file_is_not_there(self):
        for path in ("", "a", "none.html", ".env", "a/.env", "../index.html", "a/../data", "/index.html", "a//b.min.js", "x" * 300, "index.html\n"):
            with self.subTest(path), self.assertRaises(messages.HTTPError) as caught:
                static_files.static_file({}, self.folder, path)
            self.assertEqual(caught.exception.status, 404)


class ClientAddressTest(unittest.TestCase):
    def test_client_address_with_table(self):
        rows = [
            ("no claim", {}, frozenset(["10.0.0.1"]), "10.0.0.1"),
            ("trusted claim", {"HTTP_X_REAL_IP": "1.2.3.4"}, frozenset(["10.0.0.1"]), "1.2.3.4"),
            ("any proxy", {"HTTP_X_REAL_IP": "::1"}, frozenset(["*"]), "::1"),
            ("untrusted claim", {"HTTP_X_REAL_IP": "1.2.3.4"}, frozenset(["127.0.0.1"]), "10.0.0.1"),
            ("no address", {"HTTP_X_REAL_IP": "x\r\ny"}, frozenset(["*"]), "10.0.0.1"),
            ("a zone", {"HTTP_X_REAL_IP": "fe80::1%any text"}, frozenset(["*"]), "10.0.0.1"),
            ("an empty zone", {"HTTP_X_REAL_IP": "fe80::1%"}, frozenset(["*"]), "10.0.0.1"),
        ]
        for name, more, trusted, wanted in rows:
            with self.subTest(name):
                self.assertEqual(messages.client_address(environ(**more), trusted), wanted)

    def test_block_of_an_address_is_what_one_visitor_has(self):
        rows = [
            ("1.2.3.4", "1.2.3.4"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("", ""),
        ]
        for address, wanted in rows:
            with self.subTest(address):
                self.assertEqual(messages.address_block(address), wanted)


if __name__ == "__main__":
    unittest.main()
