"""Names, ids, times and values: what is allowed ends exactly where it is said to."""
import contextlib
import tempfile
import time
import unittest

from leanstorage.rules import patterns, values
from leanstorage.rules.errors import StorageError
from leanstorage.store import canonical_text, now, open_store
from leanstorage.takeout import load, recode


class CanonicalTest(unittest.TestCase):
    def test_equal_objects_have_one_text_whatever_the_order_of_their_keys(self):
        self.assertEqual(canonical_text({"b": [{"d": 1, "c": "中"}], "a": 2}), '{"a":2,"b":[{"c":"中","d":1}]}')


class NamesTest(unittest.TestCase):
    def test_longest_name_is_allowed_and_a_longer_one_is_not(self):
        for check, longest, code in ((values.check_class_name, 200, 103), (values.check_object_id, 100, 104), (values.check_key, 200, 105)):
            with self.subTest(check.__name__):
                self.assertEqual(check("a" * longest), "a" * longest)
                with self.assertRaises(StorageError) as caught:
                    check("a" * (longest + 1))
                self.assertEqual(caught.exception.code, code)

    def test_schema_file_declares_keys_as_long_as_clients_may_write(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.closing(open_store(f"sqlite:///{folder}/a.db")) as store:
            schema = {"C": {"a" * length: {"type": "String"} for length in (1, 200, 201)}}
            store.write(lambda transaction: load.load_schema(transaction, schema, {}))
            columns = store.read(lambda transaction: transaction.class_info("C"))["columns"]
        self.assertEqual(sorted(map(len, columns)), [1, 200])


class TimesTest(unittest.TestCase):
    def test_times_in_every_spelling_with_table(self):
        day = 86_400_000
        for text, ms in (
            ("1970-01-01T00:00:00.000Z", 0),
            ("1970-01-02", day),
            ("1970-01-01 00:01", 60_000),
            ("1970-01-01T00:00:01.5Z", 1500),
            ("1970-01-01T00:00:00,123456789z", 123),
            ("1970-01-01T01:30:00+01:30", 0),
            ("1970-01-01T00:00:00-0130", 5_400_000),
            ("1970-01-01T02:00:00+02", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("1969-12-31T23:59:59.998Z", -2),
            ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
            ("2026-01-02T03:04:05.679Z", 1_767_323_045_679),
        ):
            with self.subTest(text):
                self.assertEqual(values.parse_time(text), ms)
        for text in ("", "now", "1970-1-1", "1970-13-01", "1970-01-01T24:00:00.000Z", "١٩٧٠-01-01", "1970-01-01T00:00:00.1234567890Z", 5, None, ["1970-01-01"]):
            with self.subTest(text), self.assertRaises(ValueError):
                values.parse_time(text)
        for text in ("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"):
            with self.subTest(text), self.assertRaises(OverflowError):
                values.parse_time(text)


    def test_now_is_the_machines_time_in_milliseconds(self):
        before = time.time_ns() // 10**6
        here = now()
        self.assertTrue(before <= here <= time.time_ns() // 10**6, here - before)


class ValuesTest(unittest.TestCase):
    def test_whole_numbers_become_integers_as_long_as_databases_hold_them(self):
        for number in (1.0, -1.0, 2.0**62, -(2.0**62), float(2**63 - 1024)):
            with self.subTest(number):
                self.assertIs(type(values.normalise(number)), int)
        for number in (2.0**63, -(2.0**63), 1e300, 0.5):
            with self.subTest(number):
                self.assertIs(type(values.normalise(number)), float)

    def test_keys_within_objects_hold_no_dollar_and_no_dot(self):
        self.assertEqual(values.normalise({"a": {"b c": [1.0]}}), {"a": {"b c": [1]}})
        for key in ("$a", "a$", "a.b", "."):
            with self.subTest(key), self.assertRaises(StorageError) as caught:
                values.normalise({"a": [{key: 1}]})
            self.assertEqual(caught.exception.code, 121)

    def test_texts_with_a_nul_are_refused_wherever_it_is(self):
        values.check_storable("", "a")
        for texts in (("\0",), ("a", "b\0"), ("a\0b", "c")):
            with self.subTest(texts), self.assertRaises(StorageError) as caught:
                values.check_storable(*texts)
            self.assertEqual(caught.exception.code, 107)


class LimitsTest(unittest.TestCase):
    def test_pattern_has_as_many_parts_as_the_documents_say(self):
        repeats = next(number for number in range(4900, 5100) if not _is_allowed(f"a{{{number}}}"))
        self.assertEqual(patterns.measured(f"a{{{repeats - 1}}}", False), 5000)

    def test_smallest_files_in_other_encodings_are_known(self):
        for text in ("[]", "{}", '[{"a":1}]'):
            with self.subTest(text):
                self.assertEqual(recode.encoding_of(text.encode("utf-16-le")), "utf-16-le")
                self.assertEqual(recode.encoding_of(text.encode("utf-16-be")), "utf-16-be")
                self.assertIsNone(recode.encoding_of(text.encode()))

    def test_lines_that_end_with_cr_alone_are_seen(self):
        for head, is_so in ((b"{}\r{}", True), (b"\r\r\n", True), (b"{}\r\n{}\r\n", False), (b"{}\r", False), (b"{}\n", False), (b"", False)):
            with self.subTest(head):
                self.assertIs(recode.has_lone_cr(head), is_so)


def _is_allowed(pattern):
    try:
        patterns.measured(pattern, False)
    except patterns.BadPattern:
        return False
    return True


if __name__ == "__main__":
    unittest.main()
