import io
import tracemalloc
import unittest

from leanwsgi import messages
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
