"""What is damaged costs itself alone: a byte its row, a file its rows; and all of it is told."""

import gzip
import io
import json
import os
import socket
import unittest
from contextlib import contextmanager

from leanstorage.takeout import bson_rows, recode, sources
from tests.leanstorage.storage_support import Dripping
from tests.leanstorage.test_takeout_import import ID, ImportTestCase, jsonl, row


def rows(number, encoding="utf-8"):
    found = [row(0, n="很好的评论", objectId=f"{index:024x}") for index in range(number)]
    return jsonl("", *found).decode().encode(encoding)


class Failing(io.BytesIO):
    """A file on a disk that fails behind the first megabyte."""

    def read(self, size=-1):
        if self.tell() >= 1 << 20:
            raise OSError(5, "Input/output error")
        return super().read(size)


@contextmanager
def unprivileged():
    """Without the rights of root, who may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class EncodingsTest(ImportTestCase):
    def test_byte_that_cannot_be_read_costs_its_row_alone(self):
        for title, encoding, at, bad, number in (
            ("in the head of GBK", "gbk", 1000, b"\xff\xff", 3000),
            ("behind it", "gbk", 300_000, b"\xff\xff", 3000),
            ("half of a pair in UTF-16", "utf-16-le", 300_000, b"\x3d\xd8", 3000),
            ("in a small file", "gbk", 1000, b"\xff\xff", 20),
        ):
            with self.subTest(title):
                self.database = f"sqlite:///{self.folder / title.replace(' ', '')}.db"
                self.refused = self.folder / f"{title}.jsonl"
                data = bytearray(rows(number, encoding))
                at = data.index("好".encode(encoding), at)
                data[at : at + 2] = bad
                self.assertEqual(self.take_in(self.put("Comment.0.jsonl", bytes(data))), 1)
                self.assertEqual((len(self.objects("Comment")), len(self.refusals())), (number - 1, 1), self.output.getvalue())
                self.assertIn(f"imported {number - 1}, skipped 0, refused 1 rows and 0 files", self.output.getvalue())

    def test_download_that_ends_within_a_character_gives_all_but_its_last_row(self):
        data = rows(20, "gbk")
        data = data[: data.rindex("好".encode("gbk")) + 1]
        self.assertEqual(self.take_in(self.put("Comment.0.jsonl", data)), 1)
        self.assertIn("imported 19, skipped 0, refused 1 rows", self.output.getvalue())

    def test_bad_bytes_become_no_utf_8_wherever_a_chunk_ends(self):
        for encoding, data in (("gb18030", "好".encode("gbk") + b"\xff!" + "好".encode("gbk") + b"\xb0"), ("utf-16-le", b"\x3d\xd8!\0")):
            for step in (1, 2, 3, 99):
                stream = recode.as_utf_8(Dripping(data, step), encoding)
                found = b"".join(iter(lambda stream=stream: stream.read(9), b""))
                with self.subTest(encoding, step=step):
                    self.assertEqual(found.decode("utf-8", "surrogatepass"), {"gb18030": "好\udcff!好\udcb0", "utf-16-le": "\ud83d!"}[encoding])


    def test_lines_of_utf_8_in_a_joined_file_are_what_they_are(self):
        first, second = rows(500, "gbk"), rows(1000)
        for title, data in (("gbk first", first + second[len(rows(500)) :]), ("by turns", b"".join(
            line.decode().encode("gbk") if number % 3 else line for number, line in enumerate(second.splitlines(keepends=True))))):
            with self.subTest(title):
                self.database = f"sqlite:///{self.folder / title.replace(' ', '')}.db"
                self.assertEqual(self.take_in(self.put("Comment.0.jsonl", data)), 0, self.output.getvalue())
                self.assertIn("read as GB18030", self.output.getvalue())
                self.assertEqual({one.body["n"] for one in self.objects("Comment").values()}, {"很好的评论"})
                self.assertIn("imported 1000,", self.output.getvalue())

    def test_long_line_of_gbk_is_read_in_pieces(self):
        found = [row(0, n="很好的评论" * 1000, objectId=f"{index:024x}") for index in range(300)]
        data = json.dumps(found, ensure_ascii=False).encode("gbk")
        self.assertGreater(len(data), 5 << 19)
        self.assertEqual(self.take_in(self.put("Comment.json", data)), 0, self.output.getvalue())
        self.assertEqual({one.body["n"] for one in self.objects("Comment").values()}, {"很好的评论" * 1000})

    def test_mark_that_ends_files_on_windows_is_no_row(self):
        for name, data in (("Comment.0.jsonl", rows(2) + b"\x1a"), ("Comment.json", b"[" + rows(1).strip() + b"]\r\n\x1a")):
            with self.subTest(name):
                self.assertEqual(self.take_in(self.put(name, data)), 0, self.output.getvalue())


class FoldersTest(ImportTestCase):
    def setUp(self):
        super().setUp()
        for name in ("Aaa", "Zed"):
            self.put(f"in/{name}.0.jsonl", jsonl("", row(1)))

    def said_of(self, path):
        """What is said of a path within the folder, of which all else is taken."""
        self.assertEqual(self.take_in(self.folder / "in"), 1, self.output.getvalue())
        self.assertEqual((len(self.objects("Aaa")), len(self.objects("Zed"))), (1, 1))
        [line] = [line for line in self.output.getvalue().splitlines() if line.startswith("refused file: ")]
        self.assertTrue(line.startswith(f"refused file: {path}"), line)
        return line.removeprefix(f"refused file: {path}: ")

    def test_linked_folder_is_not_followed_and_told(self):
        self.put("else/Post.0.jsonl", jsonl("", row(2)))
        (self.folder / "in/more").symlink_to(self.folder / "else")
        self.assertEqual(self.said_of(self.folder / "in/more"), "a symbolic link in a folder is not followed")

    def test_pipe_is_not_waited_for(self):
        os.mkfifo(self.folder / "in/Post.0.jsonl")
        self.assertEqual(self.said_of(self.folder / "in/Post.0.jsonl"), "not a regular file")

    def test_socket_does_not_end_the_folder(self):
        with socket.socket(socket.AF_UNIX) as listener:
            path = os.path.relpath(self.folder / "in/Post.0.jsonl")  # a socket's path is short
            listener.bind(path)
            self.assertEqual(self.said_of(self.folder / "in/Post.0.jsonl"), "not a regular file")

    def test_what_may_not_be_read_is_named_and_the_rest_comes(self):
        self.put("in/closed/Post.0.jsonl", jsonl("", row(2)))
        secret = self.put("in/Post.0.jsonl", jsonl("", row(2)))
        self.folder.chmod(0o755)
        self.addCleanup((self.folder / "in/closed").chmod, 0o700)
        (self.folder / "in/closed").chmod(0)
        secret.chmod(0)
        with unprivileged():
            found = [str(one) if isinstance(one, sources.SourceError) else one.name for one in sources.members([self.folder / "in"])]
        refused = [f"{self.folder / 'in' / name}: Permission denied" for name in ("Post.0.jsonl", "closed")]
        self.assertEqual(found, ["Aaa.0.jsonl", refused[0], "Zed.0.jsonl", refused[1]])

    def test_empty_file_beside_others_is_told(self):
        self.put("in/Post.0.jsonl", b"")
        self.put("in/Post.metadata.json", b"{}")
        self.assertEqual(self.take_in(self.folder / "in"), 0)
        self.assertIn(f"passed over, no exports: 1: {self.folder / 'in/Post.0.jsonl'} (empty)\n", self.output.getvalue())


class DiskTest(unittest.TestCase):
    def test_disk_that_fails_is_told_behind_what_came_before(self):
        noise = os.urandom(3 << 20)  # which gzip leaves as long as it is
        for name, data in (("a.json", noise), ("a.json.gz", gzip.compress(noise))):
            [member] = sources._unpacked(sources._Disk(Failing(data), "a"), "a", name, None, False)
            size = 0
            with self.subTest(name), self.assertRaisesRegex(sources.SourceError, "^a: Input/output error$"):
                while chunk := member.stream.read(1 << 16):
                    size += len(chunk)
            self.assertGreater(size, 900_000)


@unittest.skipUnless(bson_rows.is_available(), "PyMongo is not installed")
class BsonRepairTest(ImportTestCase):
    def test_odd_values_of_a_backup_are_moved_aside(self):
        import bson
        from bson.datetime_ms import DatetimeMS

        odd = {
            "NaN": float("nan"),
            '"a\\u0000b"': "a\0b",
            '{"$Regex": "Regex(\'x\', 0)"}': bson.Regex("x"),
            '{"$Code": "f()"}': bson.Code("f()"),
            '{"$DatetimeMS": "DatetimeMS(253402300800000)"}': DatetimeMS(253402300800000),
            '{"a.b": 1}': {"a.b": 1},
            '[{"$Timestamp": "Timestamp(1, 2)"}]': [bson.Timestamp(1, 2)],
        }
        text = bson.encode({"_id": ID % 99, "v": "é"}).replace("é".encode(), b"\xff\xa9")
        data = b"".join(bson.encode({"_id": ID % number, "v": value}) for number, value in enumerate(odd.values())) + text
        self.assertEqual(self.take_in(self.put("Post.bson", data)), 1)
        self.assertEqual((self.objects("Post"), len(self.refusals())), ({}, len(odd) + 1))
        self.refused = self.folder / "again.jsonl"
        self.assertEqual(self.take_in(self.folder / "Post.bson", is_repairing=True), 0, self.output.getvalue())
        found = [one.body for _, one in sorted(self.objects("Post").items())]
        self.assertEqual(found, [{"v_aside": aside} for aside in (*odd, '"\\udcff\\udca9"')])


if __name__ == "__main__":
    unittest.main()
