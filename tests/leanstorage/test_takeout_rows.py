"""Cutting files into raw rows: limits, places and encodings, each at its edge, without a database."""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import os
import stat
import tarfile
import tempfile
import unittest
import zipfile
from unittest import mock

from leanstorage.takeout import csv_rows, formats, names, raw_rows, recode, sources
from leanstorage.takeout.sources import Member, Peeked, SourceError
from tests.leanstorage.storage_support import Dripping

STEPS = (1, 2, 3, 7, 1000)


def told(call):
    """The text of the SourceError that a call ends with, None without one."""
    try:
        call()
    except SourceError as error:
        return str(error)
    return None


def collected(pieces):
    """(pieces, the text of the error that they end with or None)."""
    found = []
    return found, told(lambda: found.extend(pieces))


class BatchesTest(unittest.TestCase):
    def test_batch_is_full_by_rows_by_bytes_and_by_problems(self):
        good, bad = [(1, b"1234", None)], [(1, b"1234", "odd")]
        for pieces, sizes in (
            (good * 3, [3]),
            (good * 4, [3, 1]),
            (good * 3 + bad, [3, 1]),
            (bad * 4, [3, 1]),
            (bad * 2 + good, [3]),
            ([(1, b"x" * 18, None), *good], [2]),
            ([(1, b"x" * 19, None), *good], [1, 1]),
            ([], []),
        ):
            with self.subTest(sizes, pieces=pieces), mock.patch.multiple(raw_rows, BATCH_ROWS=3, BATCH_BYTES=20):
                found = list(raw_rows.batches(pieces))
                self.assertEqual([len(one.rows) + len(one.problems) for one in found], sizes)
                self.assertEqual(sum(one.size for one in found), sum(len(data) + 1 for _, data, _ in pieces))
                before = [sum(len(one.rows) for one in found[:number]) for number in range(len(found))]
                self.assertEqual([one.first for one in found], before)

    def test_what_came_before_an_error_comes_and_then_the_error(self):
        def pieces(number):
            yield from [(1, b"a", None)] * number
            raise SourceError("broken")

        for number in (0, 1):
            found, error = collected(raw_rows.batches(pieces(number)))
            self.assertEqual(([one.rows for one in found], error), ([[(1, b"a")]] * number, "broken"))


class LinesTest(unittest.TestCase):
    def test_lines_are_numbered_and_cleaned_wherever_a_chunk_ends(self):
        data = b'{"a":1}\n\n  {"b":2},\r\n# note\n\xef\xbb\xbf{"c":3}\n#filetype:x\nlast'
        expected = [(1, b'{"a":1}', None), (3, b'{"b":2}', None), (5, b'{"c":3}', None), (6, b"#filetype:x", raw_rows.HEADER), (7, b"last", None)]
        for step, end in itertools.product(STEPS, (b"", b"\n")):
            with self.subTest(step=step, end=end):
                self.assertEqual(list(raw_rows.lines(Dripping(data + end, step))), expected)

    def test_longest_line_comes_whole_and_a_longer_one_by_its_beginning(self):
        # A line that lies within one chunk is whole in memory anyway.
        for length, step, end, is_whole in ((10, 3, b"\n", True), (10, 3, b"", True), (11, 3, b"\n", False), (11, 3, b"", False), (30, 4, b"\n", False), (11, 11, b"", False)):
            with self.subTest(length=length, step=step, end=end), mock.patch.multiple(raw_rows, MAX_ROW_BYTES=10, KEPT_BYTES=2):
                data = b"ab" + b"x" * (length - 2) + end
                found = list(raw_rows.lines(Dripping(data + (b"next" if end else b""), step)))
                first = (1, data.strip(), None) if is_whole else (1, b"ab", "the line is longer than 10 bytes")
                self.assertEqual(found, [first, (2, b"next", None)] if end else [first])

    def test_sections_begin_at_their_headers_and_are_read_past(self):
        data = b"#filetype:a\n1\n2\n#filetype:b\n#filetype:c\n3\n"
        stream = Dripping(data, 5)
        self.assertEqual(
            [(header, [one for _, one, _ in pieces]) for header, pieces in raw_rows.sections(stream)],
            [(b"#filetype:a", [b"1", b"2"]), (b"#filetype:b", []), (b"#filetype:c", [b"3"])],
        )
        self.assertEqual([header for header, _ in raw_rows.sections(Dripping(data, 5))], [b"#filetype:a", b"#filetype:b", b"#filetype:c"])
        self.assertEqual([(h, list(p)) for h, p in raw_rows.sections(Dripping(b"1\n#filetype:a", 5))], [(b"", [(1, b"1", None)]), (b"#filetype:a", [])])
        self.assertEqual([(h, list(p)) for h, p in raw_rows.sections(Dripping(b"", 5))], [(b"", [])])


class ElementsTest(unittest.TestCase):
    def test_elements_and_what_is_wrong_with_them_wherever_a_chunk_ends(self):
        odd, cut = "not an object", "the file ends within this row"
        for data, opened_by, rows, error in (
            (b'[{"a":1},\n{"b":2}]', b"[", [(1, b'{"a":1}', None), (2, b'{"b":2}', None)], None),
            (b"[]", b"[", [], None),
            (b"[\n[1]\n]", b"[", [(2, b"[1]", None)], None),
            (b"x[{}]", b"[", [(1, b"{}", None)], None),
            (b"{}{}", None, [(1, b"{}", None), (1, b"{}", None)], None),
            (b"{}\n,\n{}", None, [(1, b"{}", None), (3, b"{}", None)], None),
            (b"{}x", None, [(1, b"{}", None), (1, b"x", odd)], None),
            (b'{"a":"\\"}"}', None, [(1, b'{"a":"\\"}"}', None)], None),
            (b'{"a":"\\\\"}', None, [(1, b'{"a":"\\\\"}', None)], None),
            (b'[{"a":', b"[", [(1, b'{"a":', cut)], None),
            (b'\n{"a":', None, [(2, b'{"a":', cut)], None),
            (b'"a', None, [(1, b"", cut)], None),
            (b"[{}", b"[", [(1, b"{}", None)], "the array of rows is not closed"),
            (b"{}", b"[", [], "no array of rows was found"),
            (b"", b"[", [], "no array of rows was found"),
            (b"[{}] x", b"[", [(1, b"{}", None)], "something follows the array of rows"),
            (b"[{}]\n {", b"[", [(1, b"{}", None)], "something follows the array of rows"),
            (b"[{}] \n", b"[", [(1, b"{}", None)], None),
            (b'{"r":[{}], "cursor": 1}', b'"r":[', [(1, b"{}", None)], None),
            (b'{"r":[{}], {"cursor": 1}', b'"r":[', [(1, b"{}", None)], "something follows the array of rows"),
            (b"[{}, 5, {}]", b"[", [(1, b"{}", None), (1, b", 5, ", odd), (1, b"{}", None)], None),
            (b"[{}, 5]", b"[", [(1, b"{}", None), (1, b", 5", odd)], None),
            (b"[{},\xef\xbb\xbf{}]", b"[", [(1, b"{}", None), (1, b"{}", None)], None),
        ):
            with self.subTest(data=data):
                self.assertEqual(collected(raw_rows.elements(Dripping(data, 1000), opened_by)), (rows, error))
            for step in STEPS[:-1] if not any(problem == odd for *_, problem in rows) and b"\xef" not in data else ():
                with self.subTest(data=data, step=step):
                    self.assertEqual(collected(raw_rows.elements(Dripping(data, step), opened_by)), (rows, error))

    def test_longest_element_comes_whole_and_a_longer_one_by_its_beginning(self):
        for length, step, is_whole in ((10, 3, True), (10, 100, True), (11, 3, False), (11, 100, False), (40, 3, False)):
            with self.subTest(length=length, step=step), mock.patch.multiple(raw_rows, MAX_ROW_BYTES=10, KEPT_BYTES=2):
                data = b'{"' + b"x" * (length - 4) + b'"}'
                first = (1, data, None) if is_whole else (1, b'{"', "the row is longer than 10 bytes")
                self.assertEqual(list(raw_rows.elements(Dripping(data + b"\n[]", step))), [first, (2, b"[]", None)])

    def test_memory_of_a_row_that_is_too_long_is_bounded(self):
        with mock.patch.multiple(raw_rows, MAX_ROW_BYTES=10):
            splitter = raw_rows._Splitter(None)
            list(splitter.feed(b"{"))
            for _ in range(20):
                list(splitter.feed(b"xxxx"))
            self.assertEqual((len(splitter._parts), splitter._size), (3, 81))

    def test_opening_is_looked_for_no_further_than_four_chunks(self):
        for blanks, error in ((40, None), (41, "no array of rows was found")):
            with self.subTest(blanks), mock.patch.multiple(raw_rows, CHUNK_BYTES=10):
                stream = Dripping(b" " * blanks + b"[{}]", 1)
                self.assertEqual(told(lambda stream=stream: list(raw_rows.elements(stream, b"["))), error)

    def test_several_objects_on_a_line_are_told_from_anything_else(self):
        for line, expected in (
            (b'{"a":1}{"b":2}', [b'{"a":1}', b'{"b":2}']),
            (b"{} [] {}", [b"{}", b"[]", b"{}"]),
            (b"{}", []),
            (b"{}x{}", []),
            (b"{}{", []),
            (b"", []),
        ):
            with self.subTest(line):
                self.assertEqual(raw_rows.split_objects(line), expected)

    def test_arrays_by_class_end_with_the_document(self):
        rows = [(b"A", [(1, b"{}", None)])]
        for data, expected, error in (
            (b'{"A": [{}]}', rows, None),
            (b'{"A": [{}]} \n', rows, None),
            (b'{"A": [{}]', rows, "the document is not closed"),
            (b'{"A": [{}', rows, "the array of rows is not closed"),
            (b'{"x": 1, "A": [{}], "y": {"z": 2}}', rows, "what is named 'y' in it is no array of rows: take it out, or make it one"),
            (b'{"A":\n[\n{}]}', [(b"A", [(3, b"{}", None)])], None),
            (b'{"A": [], "B": [{}]}', [(b"A", []), (b"B", [(1, b"{}", None)])], None),
            (b"{}", [], None),
        ):
            for step in (1, 3, 1000):
                with self.subTest(data=data, step=step):
                    found = []

                    def take(found=found, data=data, step=step):
                        for name, pieces in raw_rows.arrays(Dripping(data, step)):
                            one = []
                            found.append((name, one))
                            one.extend(pieces)

                    self.assertEqual((told(take), found), (error, expected))

    def test_arrays_are_looked_for_a_megabyte_and_a_chunk_far_and_untaken_ones_read_past(self):
        for blanks, error in ((21, None), (22, "no array of rows was found")):
            with self.subTest(blanks), mock.patch.multiple(raw_rows, MAX_BETWEEN=20, CHUNK_BYTES=10):
                stream = Dripping(b"{" + b" " * blanks + b' "A": [{}]}', 1)
                self.assertEqual(told(lambda: [list(pieces) for _, pieces in raw_rows.arrays(stream)]), error)
        data = b'{"A": [{"x": [{}]}, {}], "B": [{}]}'
        self.assertEqual([name for name, _ in raw_rows.arrays(Dripping(data, 4))], [b"A", b"B"])


class BsonTest(unittest.TestCase):
    def test_documents_are_cut_by_their_lengths_wherever_a_chunk_ends(self):
        one, two = b"\5\0\0\0\0", b"\x07\0\0\0xy\0"
        long, cut = "document %d is not BSON, or larger than 10 bytes", "the BSON ends within a document"
        ten, eleven = b"\x0a\0\0\0xxxxx\0", b"\x0b\0\0\0xxxxxx\0"
        for data, documents, error in (
            (b"", [], None),
            (one, [one], None),
            (one + two + ten, [one, two, ten], None),
            (one + eleven, [one], long % 2),
            (one + b"\4\0\0\0", [one], long % 2),
            (one + two[:6], [one], cut),
            (one + b"\5\0\0", [one], cut),
            (b"\5", [], cut),
        ):
            for step in STEPS:
                with self.subTest(data=data, step=step), mock.patch.multiple(raw_rows, MAX_ROW_BYTES=10):
                    expected = [(number, document, None) for number, document in enumerate(documents, 1)]
                    self.assertEqual(collected(raw_rows.bson_documents(Dripping(data, step))), (expected, error))


class EncodingsTest(unittest.TestCase):
    def test_encoding_is_told_by_the_first_bytes(self):
        chinese = "一篇很好的评论\n".encode("gbk")
        for head, encoding in (
            (codecs.BOM_UTF32_LE + b"{\0\0\0", "utf-32"),
            (codecs.BOM_UTF16_LE, "utf-16"),
            (codecs.BOM_UTF16_BE, "utf-16"),
            (b"#\0\0", None),
            (b"#\0a\0", "utf-16-le"),
            (b"\0[\0]", "utf-16-be"),
            (b"x\0y\0", None),
            (b"{\0" * 64 + b"xx" * 9, "utf-16-le"),
            (b"{\0" * 63 + b"xx" * 9, None),
            (b"\0{" * 64 + b"xx" * 9, "utf-16-be"),
            (b"\0{" * 63 + b"xx" * 9, None),
            (chinese, "gb18030"),
            (chinese + "评论\n".encode(), None),
            (chinese * 2 + "评论\n".encode(), "gb18030"),
            (b"ascii\n" * 9 + chinese, "gb18030"),
            (chinese * 3 + b"\xb0 \n", "gb18030"),
            (chinese * 2 + b"\xb0 \n", None),
            (b"[" + chinese.strip() * 5000, "gb18030"),  # all in one line
            ("评论\n".encode() * 3 + chinese, None),
            (b"", None),
        ):
            with self.subTest(head=head[:20], size=len(head)):
                self.assertEqual(recode.encoding_of(head), encoding)

    def test_line_that_a_long_head_cuts_does_not_count(self):
        line = "一篇很好的评论".encode("gbk")
        for size, end, encoding in (
            (1 << 16, b"\n\xff\xff", "gb18030"),
            (1 << 16, b"\n\xff\xff\n", None),
            ((1 << 16) - 1, b"\n\xff\xff", None),
            ((1 << 16) - 1, b"\n" + line[:-1], "gb18030"),  # a file that ends within a character
        ):
            with self.subTest(size, end=end):
                head = line + b"\n" + b"x" * (size - len(line) - len(end) - 1) + end
                self.assertEqual((len(head), recode.encoding_of(head)), (size, encoding))

    def test_chinese_is_four_of_five_characters(self):
        usual, rare = "评".encode("gbk"), b"\x81\x40"
        for data, is_chinese in (
            (usual * 4 + rare, True),
            (usual * 3 + rare, False),
            (usual * 8 + rare * 2, True),
            (usual * 7 + rare * 2, False),
            (b"a" * 99 + usual, True),
            (b"a" * 99 + rare, False),
            ("、。，".encode("gbk"), True),
            (b"\xa3\xa1", True),
            (b"\xa4\xa1", False),
            (b"\xa0\xa1", False),
            (b"\xb0\xa1", True),
            (b"\xaf\xa1", False),
            (b"\xf7\xa1", True),
            (b"\xf8\xa1", False),
            (b"\xb0\xa0", False),
            (b"\x81\x30\x81\x30" + usual * 4, True),
            (b"\x81\x39\xb0\xa1" + usual * 4, True),
            (b"\xb0", True),
            (b"", True),
        ):
            with self.subTest(data=data):
                self.assertIs(recode._is_chinese(data), is_chinese)

    def test_other_encodings_become_utf_8_wherever_a_chunk_ends(self):
        for encoding, step in itertools.product(("utf-16", "gb18030", "utf-32"), (1, 2, 3, 100)):
            with self.subTest(encoding, step=step):
                stream = recode.as_utf_8(Dripping("一篇 a".encode(encoding), step), encoding)
                self.assertEqual(b"".join(iter(lambda stream=stream: stream.read(5), b"")).decode(), "一篇 a")
        stream = recode.Recoded(io.BytesIO(b"a\0b"), "utf-16-le")
        self.assertEqual(told(lambda: [stream.read(9), stream.read(9)]), "it begins as utf-16-le and ends within a character: fetch it again")
        stream = recode.Recoded(io.BytesIO(b"\0\0\x11\0"), "utf-32-le")
        self.assertEqual(told(lambda: stream.read(9)), "it begins as utf-32-le and does not go on so")

    def test_ends_of_lines_become_lf_wherever_a_chunk_ends(self):
        for data, step in itertools.product((b"a\rb\r\nc\n\rd\r\r\n", b"\r", b"a\r", b"\r\n\r\n", b"", b"\r\ra"), (1, 2, 3, 100)):
            with self.subTest(data=data, step=step):
                stream = recode.WithNewlines(Dripping(data, step))
                expected = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
                found = b"".join(iter(lambda stream=stream: stream.read(5), b""))
                self.assertEqual((found, stream.read(5)), (expected, b""))


class CsvTest(unittest.TestCase):
    def rows(self, text, step=1000):
        data = text if isinstance(text, bytes) else text.encode()
        found, error = collected(csv_rows.rows(Dripping(data, step)))
        return [(number, data.decode("utf-8", "surrogatepass") if problem else json.loads(data), problem) for number, data, problem in found], error

    def test_cells_have_the_types_of_their_columns(self):
        for kind, cell, value in (
            ("number", "999999999999999999", 999999999999999999),
            ("number", "9999999999999999999", 9999999999999999999),
            ("number", "9" * 300, int("9" * 300)),
            ("number", "9" * 301, 1e301),
            ("number", "+7", 7),
            ("number", " -7 ", -7),
            ("number", "7e0", 7.0),
            ("Number", "1_0", None),
            ("bool", "TRUE", True),
            ("boolean", " 1", True),
            ("bool", "0", False),
            ("boolean", "false", False),
            ("bool", "2", None),
            ("date", " 2020-01-01 ", {"__type": "Date", "iso": "2020-01-01"}),
            ("geopoint", '"1.5,-2"', {"__type": "GeoPoint", "longitude": 1.5, "latitude": -2.0}),
            ("geopoint", "1 2 3", None),
            ("pointer: _User", " x ", {"__type": "Pointer", "className": "_User", "objectId": "x"}),
            ("POINTER:Post", "x", {"__type": "Pointer", "className": "Post", "objectId": "x"}),
            ("file", " x ", {"__type": "File", "id": "x"}),
            ("text", " x ", " x "),
            ("any", "[1]", [1]),
            ("any", "[1", None),
            ("any", f"{'[' * 100_000}", None),
            ("acl", '"{""*"":{}}"', {"*": {}}),
        ):
            with self.subTest(kind, cell=cell[:20]):
                (found,), error = self.rows(f"string,{kind}\nobjectId,a\n1,{cell}\n")
                self.assertIsNone(error)
                if value is None:
                    self.assertEqual((found[0], found[2]), (3, f"a cell that is no {kind}"))
                else:
                    self.assertEqual(found, (3, {"objectId": "1", "a": value}, None))
                    self.assertIs(type(found[1]["a"]), type(value))

    def test_ids_and_times_are_texts_whatever_their_type(self):
        found, _ = self.rows("number,date,bool\nobjectId,createdAt,updatedAt\n1,2,3\n")
        self.assertEqual(found, [(3, {"objectId": "1", "createdAt": "2", "updatedAt": "3"}, None)])

    def test_separator_is_said_or_the_first_that_occurs(self):
        for text, expected in (
            ("sep=|\nstring|string\na|b\n1|2\n", {"a": "1", "b": "2"}),
            ("sep=;\r\nstring;string\r\na;b\r\n1;2,3\r\n", {"a": "1", "b": "2,3"}),
            ("sep=;\nstring\na\n1\n", {"a": "1"}),
            ("string;string\na;b\n1;2\n", {"a": "1", "b": "2"}),
            ("string\tstring\na\tb\n1\t2;3\n", {"a": "1", "b": "2;3"}),
            ("string\na\n1\n", {"a": "1"}),
            ("string\na\n1", {"a": "1"}),
            ("string,string\na,b\n1\n", {"a": "1"}),
            ("string,string\na,b\n,2\n", {"b": "2"}),
        ):
            for step in (1, 1000):
                with self.subTest(text=text, step=step):
                    found, error = self.rows(text, step)
                    self.assertEqual(([row for _, row, _ in found], error), ([expected], None))

    def test_lines_of_types_and_names_are_checked(self):
        twice = "the CSV names a column twice, or has one without a name"
        for text, error in (
            ("", csv_rows.WANTED),
            ("\na\n", csv_rows.WANTED),
            ("string\na,b\n", csv_rows.WANTED),
            ("string,strings\na,b\n", csv_rows.WANTED),
            ("string,string\na,a\n", twice),
            ("string,string\na,\n", twice),
            ("string,string\n a , b \n", None),
        ):
            with self.subTest(text):
                self.assertEqual(self.rows(text), ([], error))
        found, _ = self.rows("string,string\na,b\n1,2,3\n,\n\n4,5\n")
        self.assertEqual(found, [(3, "1,2,3", "more cells than columns"), (6, {"a": "4", "b": "5"}, None)])

    def test_line_is_bounded(self):
        self.addCleanup(csv.field_size_limit, csv.field_size_limit())
        for length, error in ((10, None), (11, "a line of the CSV is too long")):
            with self.subTest(length), mock.patch.multiple(csv_rows, MAX_CELL=10):
                self.assertEqual(self.rows("string\na\n" + "x" * length + "\n", 1)[1], error)

    def test_bytes_that_are_no_utf_8_make_their_row_alone_odd(self):
        found, error = collected(csv_rows.rows(io.BytesIO(b"string\na\n\xff\nb\n")))
        self.assertEqual((len(found), found[1], error), (2, (4, b'{"a": "b"}', None), None))


class NamesTest(unittest.TestCase):
    def test_endings_tell_what_is_no_export_and_what_did_not_end(self):
        for name, is_other, is_unfinished in (
            ("a.TXT", True, False),
            ("~$a.json", True, False),
            ("a.json", False, False),
            ("txt", False, False),
            ("a.tmp", False, True),
            ("a.json.PART", False, True),
            ("part", False, False),
        ):
            with self.subTest(name):
                self.assertEqual((names.is_other(name), names.is_unfinished(name)), (is_other, is_unfinished))

    def test_what_stands_around_a_class_is_taken_away(self):
        for name, class_name in (("Post_all_all.json", "Post_all"), ("2020-01-01 Copy of Copy of Post.json", "Post"), ("Post (2) (1)_all.json", "Post")):
            with self.subTest(name):
                self.assertEqual(names.class_of(name), class_name)


class FormsTest(unittest.TestCase):
    def contents(self, name, data, class_name=None, **member):
        self.member = Member(name, name, len(data), Peeked(io.BytesIO(data)), **member)
        return [(one, list(one.pieces)) for one in formats.contents(self.member, class_name)]

    def told(self, name, data, **options):
        return told(lambda: self.contents(name, data, **options))

    def test_kind_of_a_file_is_told_by_its_content(self):
        row = b'{"objectId": "a"}'
        for name, data, kinds in (
            ("Post.json", row, [("rows", "Post", 1)]),
            ("Post.json", b"[" + row + b"]", [("rows", "Post", 1)]),
            ("Post.json", b'{"results": [' + row + b"]}", [("rows", "Post", 1)]),
            ("Post.json", b'{"results": []}', [("rows", "Post", 0)]),
            ("Post.json", b'{"objectId": "a", "results": []}', [("rows", "Post", 1)]),
            ("Post.json", b'{"n": 1, "results": 5}', [("rows", "Post", 1)]),
            ("Post.json", b"{\n" + row[1:], [("rows", "Post", 1)]),
            ("Post.json", b"", [("nothing", "", 0)]),
            ("Post.json", b" \n", [("nothing", "", 0)]),
            ("Post.metadata.json", row, [("nothing", "", 0)]),
            ("a.txt", b"hello", [("other", "", 0)]),
            ("Post.txt", row, [("rows", "Post", 1)]),
            ("a.txt", b"[1]", [("other", "", 0)]),
            ("all.json", b'{"A": [' + row + b'], "B": []}', [("rows", "A", 1), ("rows", "B", 0)]),
            ("Post.json", b'{"A": [' + row + b'], "b": 5}', [("rows", "Post", 1)]),
            ("Post.json", b'{"A": [{"n": 1}]}', [("rows", "Post", 1)]),
            ("Post.json", b'{"A": {"createdAt": [' + row + b"]}}", [("rows", "Post", 1)]),
            ("Post.json", b'{"items": [' + row + b"]}", [("rows", "Post", 1)]),
            ("x.json", b'{"Post": [{"a": 1, "createdAt": 2}]}', [("rows", "Post", 1)]),
            ("Post_schema.json", b'{"n": {"type": "Number"}}', [("schema", "", 0)]),
            ("Post.json", b'{"n": {"type": "Number"}}', [("schema", "", 0)]),
            ("Post.json", b'{"n": {"type": 5}}', [("rows", "Post", 1)]),
            ("Post.json", b'{"A": {"n": {"type": "Number"}}}', [("schema", "", 0)]),
            ("_Join:likes:Post.json", b'{"owningId": "a"}', [("relation", "Post", 1)]),
            ("_Join_likes_Post.json", b'{"owningId": "a"}', [("relation", "Post", 1)]),
        ):
            with self.subTest(name, data=data):
                found = self.contents(name, data)
                self.assertEqual([(one.kind, one.class_name, len(pieces)) for one, pieces in found], kinds)

    def test_schemas_are_by_class_by_name_or_beside_their_settings(self):
        columns = {"n": {"type": "Number"}}
        for name, value, schemas, settings in (
            ("Post_schema.json", columns, {"Post": columns}, {}),
            ("Post_schema.0.json", columns, {"Post": columns}, {}),
            ("Post.json", columns, {"Post": columns}, {}),
            ("schemas.json", {"A": columns, "B": columns}, {"A": columns, "B": columns}, {}),
            ("schema.json", {"A": columns}, {"A": columns}, {}),
            ("Post_schema.json", {"schema": columns, "permissions": {}}, {"Post": columns}, {"schema": columns, "permissions": {}}),
        ):
            with self.subTest(name, value=value):
                [(found, _)] = self.contents(name, json.dumps(value).encode())
                self.assertEqual((found.schemas, found.settings), (schemas, settings))
        for value in ([], {}, {"n": 5}, {"A": {}}, {"A": columns, "B": 5}, {"schema": 5}):
            with self.subTest(value=value):
                text = "A_schema.json: not a schema: columns with a type were expected"
                self.assertEqual(self.told("A_schema.json", json.dumps(value).encode()), text)
        self.assertEqual(self.told("A_schema.json", b"{"), "A_schema.json: the schema is not valid JSON")
        self.assertIsNone(self.told("A_schema.json", codecs.BOM_UTF8 + json.dumps(columns).encode()))

    def test_schema_is_bounded_by_its_name_or_its_size(self):
        data = json.dumps({"n": {"type": "Number"}}).encode()
        for size, is_schema in (((1 << 15) - 1, True), (1 << 15, False)):
            with self.subTest(size):
                kind = "schema" if is_schema else "rows"
                self.assertEqual([one.kind for one, _ in self.contents("Post.json", data.ljust(size))], [kind])
        for size, error in ((100, None), (101, "A_schema.json: the schema is larger than 100 bytes")):
            with self.subTest(size), mock.patch.multiple(formats, MAX_SCHEMA_BYTES=100):
                self.assertEqual(self.told("A_schema.json", data.ljust(size)), error)

    def test_blanks_beyond_what_was_looked_at_are_no_rows(self):
        self.assertIsNone(self.told("Post.json", b" " * (1 << 16)))
        self.assertEqual(self.told("Post.json", b" " * ((1 << 16) + 1)), "Post.json: neither JSON nor BSON")

    def test_waline_is_known_within_a_thousand_bytes(self):
        for blanks, is_known in ((0, True), (900, True), (1000, False)):
            with self.subTest(blanks):
                data = b'{"type": "waline", ' + b" " * blanks + b'"data": {"Comment": [{"objectId": "a", "insertedAt": "x"}]}}'
                found = self.contents("Post.json", data)
                self.assertEqual([one.class_name for one, _ in found], ["Comment"] if is_known else ["Post"])
                self.assertEqual([one.dates for one, _ in found], [frozenset({"insertedAt"} if is_known else ())])

    def test_relation_is_told_by_its_header_or_its_name(self):
        join = b'#filetype:JSON-streaming {"type":"Relation","class":"Post","key":"%s"%s}\n{}'
        [(found, pieces)] = self.contents("x.jsonl", join % (b"likes", b',"target":"_User"'))
        self.assertEqual((found.kind, found.class_name, found.key, found.target, len(pieces)), ("relation", "Post", "likes", "_User", 1))
        [(found, _)] = self.contents("x.jsonl", join % (b"likes", b""))
        self.assertIsNone(found.target)
        [(found, _)] = self.contents("x.jsonl", b'#filetype:JSON-streaming {"type":"Class","class":"_Join:likes:Post"}\n{}')
        self.assertEqual((found.kind, found.class_name, found.key), ("relation", "Post", "likes"))
        unusable = "x.jsonl: the relation has no usable key"
        for key, text in ((b"k" * 200, None), (b"k" * 201, unusable), (b"a.b", unusable), (b"", unusable)):
            with self.subTest(key):
                self.assertEqual(self.told("x.jsonl", join % (key, b"")), text)
        self.assertEqual(self.told("x.jsonl", join % (b"k", b',"target":"a b"')), "x.jsonl: 'a b' is not a class that this server can hold: give it another name")

    def test_class_is_that_of_the_header_then_the_operators_then_the_names(self):
        header = b'#filetype:JSON-streaming {"type":"Class","class":"A"}\n{}'
        for name, data, class_name, expected in (
            ("C.jsonl", header, "B", "A"),
            ("C.jsonl", b"{}", "B", "B"),
            ("C.jsonl", b"{}", None, "C"),
            ("C.bson", b"\5\0\0\0\0", "B", "B"),
            ("C.bson", b"\5\0\0\0\0", None, "C"),
            ("C.csv", b"string\na\n", "B", "B"),
            ("C.csv", b"string\na\n", None, "C"),
            ("C.json", b'[{"objectId": "a"}]', "B", "B"),
            ("C.json", b'{"results": [{}]}', "B", "B"),
            ("C.json", b'{"rows": [{"objectId": "a"}]}', "B", "B"),
            ("_Join:likes:C.json", b"{}", "B", "C"),
        ):
            with self.subTest(name, class_name=class_name):
                self.assertEqual([one.class_name for one, _ in self.contents(name, data, class_name)], [expected])
        self.assertEqual(self.told("1.json", b"{}"), "1.json: its name tells no class: name one with --class, or rename the file to CLASS.json")
        self.assertEqual(self.told("C.json", b"{}", class_name="a b"), "C.json: 'a b' is not a class that this server can hold: give it another name")

    def test_header_that_tells_nothing_is_refused(self):
        for header in (b"[]", b'{"a"', b"5", b"[" * 100_000):
            with self.subTest(header=header[:9]):
                text = "x.jsonl: a #filetype line that does not tell what follows it"
                self.assertEqual(self.told("x.jsonl", b"#filetype:JSON-streaming " + header + b"\n{}"), text)

    def test_named_file_that_is_no_export_is_refused(self):
        self.assertEqual(self.told("a.txt", b"hello", is_named=True), "a.txt: neither JSON nor BSON")
        self.assertEqual(self.told("Post.json", b"hello"), "Post.json: neither JSON nor BSON")


class ArchivesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="archives-")
        self.addCleanup(folder.cleanup)
        self.path = sources.Path(folder.name, "e.bin")

    def members(self, data, name="e.bin"):
        """[(name within, size, data) or the text of an error], without the path of the archive."""
        path = self.path.with_name(name)
        path.write_bytes(data)
        found = []
        for one in sources.members([path]):
            if isinstance(one, SourceError):
                found.append(str(one).removeprefix(str(path)))
                continue
            try:
                parts = iter(lambda one=one: one.stream.read(1 << 20), b"")
                found.append((one.name, one.size, b"".join(parts)))
            except SourceError as error:
                found.append(str(error).removeprefix(str(path)))
        return found

    def tar(self, *members):
        """A tar of (name, data) or of blocks as they are."""
        return b"".join(one if isinstance(one, bytes) else self.block(*one) for one in members) + bytes(1024)

    def block(self, name, data=b"", kind=tarfile.REGTYPE, size=None):
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, len(data) if size is None else size
        return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)

    def test_members_of_a_tar_are_cut_at_their_blocks(self):
        for size in (0, 1, 511, 512, 513, 1024):
            with self.subTest(size):
                found = self.members(self.tar(("a.json", b"x" * size), ("b/c.json", b"{}")))
                self.assertEqual(found, [("a.json", size, b"x" * size), ("c.json", 2, b"{}")])

    def test_links_are_told_folders_and_hidden_files_are_not(self):
        data = self.tar(
            self.block("l", kind=tarfile.SYMTYPE), self.block("h", kind=tarfile.LNKTYPE), self.block("d", kind=tarfile.CHRTYPE),
            self.block("f/", kind=tarfile.DIRTYPE), ("f/.a", b"x"), ("o.json", b"{}"),
        )  # fmt: skip
        link = ": a link or a device, not a file"
        self.assertEqual(self.members(data), [f":l{link}", f":h{link}", f":d{link}", ("o.json", 2, b"{}")])

    def test_paths_that_lead_out_are_refused_and_the_rest_comes(self):
        for name in ("/a.json", "\\a.json", "../a.json", "b/../a.json", "b\\..\\a.json", "C:a.json", "a\x07.json"):
            with self.subTest(name):
                shown = sources.printable(name)
                self.assertEqual(
                    self.members(self.tar((name, b"1"), ("b.json", b"2"))),
                    [f":{shown}: a path that leads out of the archive", ("b.json", 1, b"2")],
                )
        for name in ("..a/b.json", "a..json", "c/b:.json"):
            with self.subTest(name):
                self.assertEqual(len(self.members(self.tar((name, b"1")))[0]), 3)

    def test_long_names_are_read_and_bounded(self):
        name = "d" * 150 + ".json"
        long = self.block("././@LongLink", name.encode() + b"\0", tarfile.GNUTYPE_LONGNAME)
        record = f"path={name}\n"
        pax = self.block("x", f"{len(record) + 4} {record}".encode(), tarfile.XHDTYPE)
        other = self.block("x", b"11 a=b cd\n", tarfile.XHDTYPE)
        world = self.block("x", f"{len(record) + 4} {record}".encode(), tarfile.XGLTYPE)
        link = self.block("x", b"other\0", tarfile.GNUTYPE_LONGLINK)
        for notes in (long, pax, long + other, other + pax, long + link):
            with self.subTest(notes=len(notes)):
                found = self.members(self.tar(notes, ("short.json", b"1"), ("next.json", b"2")))
                self.assertEqual([one[0] for one in found], [name, "next.json"])
        self.assertEqual([one[0] for one in self.members(self.tar(world, link, ("short.json", b"1")))], ["short.json"])
        for limit, is_read in ((1000, True), (999, False)):
            with self.subTest(limit), mock.patch.multiple(sources, MAX_TAR_NOTE=limit):
                found = self.members(self.tar(self.block("x", b"x" * 1000, tarfile.GNUTYPE_LONGNAME), ("a", b"1")))
                self.assertEqual(":" not in found[0] or found[0], True if is_read else ": a header of 1000 bytes in the tar archive")

    def test_damaged_tar_is_told_after_what_came_before(self):
        first = self.block("a.json", b"1")
        early, damaged = ": the tar archive ends too early: fetch it again", ": the tar archive is damaged: fetch it again"
        for data, expected in (
            (first[:600], [("a.json", 1, b"1"), early]),
            (first, [("a.json", 1, b"1"), early]),
            (first + b"x" * 512, [("a.json", 1, b"1"), damaged]),
            (first + self.block("b", size=5), [("a.json", 1, b"1"), early]),
        ):
            with self.subTest(size=len(data)):
                self.assertEqual(self.members(data, "e.tar"), expected)

    def test_zip_is_bounded_and_its_links_are_refused(self):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.json", b"1")
            archive.writestr("f/", b"")
            link = zipfile.ZipInfo("l.json")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, b"/etc/passwd")
            archive.writestr("b.json", b"22")
        data = file.getvalue()
        self.assertEqual(self.members(data), [("a.json", 1, b"1"), ":l.json: a link, not a file", ("b.json", 2, b"22")])
        for limit, is_read in ((4, True), (3, False)):
            with self.subTest(limit), mock.patch.multiple(sources, MAX_ZIP_MEMBERS=limit):
                self.assertEqual(len(self.members(data)), 3 if is_read else 1)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w"):
            pass
        self.assertEqual(self.members(file.getvalue()), [])

    def test_what_unpacks_out_of_all_proportion_is_refused(self):
        data = bytes(2000)
        packed = {"gzip": gzip.compress(data)}
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.json", data)
            size = archive.getinfo("a.json").compress_size
        packed["zip"] = file.getvalue()
        for kind, ratio, from_bytes, is_read in (
            ("gzip", 2000 // len(packed["gzip"]), 1999, False),
            ("gzip", 2000 // len(packed["gzip"]), 2000, True),
            ("gzip", -(-2000 // len(packed["gzip"])), 1999, True),
            ("zip", 2000 // size - 1, 1999, False),
            ("zip", 2000 // size - 1, 2000, True),
            ("zip", -(-2000 // size), 1999, True),
        ):
            with self.subTest(kind, ratio=ratio, from_bytes=from_bytes), mock.patch.multiple(sources, MAX_RATIO=ratio, RATIO_FROM_BYTES=from_bytes):
                [found] = self.members(packed[kind], "a.json.gz" if kind == "gzip" else "a.zip")
                self.assertEqual(found[2:] if isinstance(found, tuple) else found.endswith("times its size"), (data,) if is_read else True)

    def test_what_a_server_answered_in_place_of_a_file_is_told(self):
        said = ": not an export but what a server answered%s: the link has expired, ask for a new one"
        for name, data, text in (
            ("e.zip", b"<Error><Code>AccessDenied</Code>", said % " (AccessDenied)"),
            ("e.json", b"\xef\xbb\xbf \n<html>", said % ""),
            ("e.tar.gz", b'{"code": 1, "error": "no"}', said % " (no)"),
            ("e.html", b"<html>", None),
            ("e.json", b'{"error": "no"}', None),
            ("e.zip", b'{"a": 1}', None),
        ):
            with self.subTest(name, data=data):
                found = self.members(data, name)
                self.assertEqual(found[0] if isinstance(found[0], str) else None, text)

    def test_peeked_bytes_are_read_again(self):
        for size, step in itertools.product((0, 1, 5, 100), (1, 3, 100)):
            with self.subTest(size=size, step=step):
                stream = Peeked(Dripping(b"0123456789", step), size)
                self.assertEqual(stream.head, b"0123456789"[: -(-size // step) * step] if size else b"")
                self.assertEqual(b"".join(iter(lambda stream=stream: stream.read(4), b"")), b"0123456789")

    def test_printable_text_is_cut_behind_200_characters(self):
        self.assertEqual(sources.printable("a\nb\x1b中"), "a?b?中")
        self.assertEqual(sources.printable("x" * 200), "x" * 200)
        self.assertEqual(sources.printable("x" * 201), "x" * 200 + "...")

    def test_special_files_and_hidden_ones_are_no_members(self):
        os.mkfifo(self.path)
        descriptor = os.open(self.path, os.O_RDWR)
        with contextlib.closing(os.fdopen(descriptor, "rb")):
            self.assertEqual([str(one) for one in sources.members([self.path])], [f"{self.path}: not a regular file"])
        self.assertEqual([str(one) for one in sources.members([self.path.with_name("no")])], [f"{self.path.with_name('no')}: No such file or directory"])


if __name__ == "__main__":
    unittest.main()
