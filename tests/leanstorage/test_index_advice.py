"""Which index a slow query wants: in the answer 124, and from a log."""
import json
import unittest
from unittest import mock

from leanstorage.rules import index_advice
from leanstorage.rules.query_shape import shape, shape_text
from leanstorage.rules.where import parse_where, with_limits
from tests.leanstorage.service_support import ServiceTestCase, pointer

POINT = {"__type": "GeoPoint", "latitude": 1.0, "longitude": 2.0}
DATE = {"__type": "Date", "iso": "2026-01-03T00:00:00.000Z"}
TYPES = {"flag": "Boolean", "score": "Number", "name": "String", "board": "Pointer", "at": "GeoPoint", "tags": "Array", "o": "Object"}
INFO = {"columns": {key: {"type": one} for key, one in TYPES.items()}, "indexes": [["name"]]}


def asked(where, **options):
    query, _ = parse_where("Post", where)
    return with_limits(query, options)


class WantedTest(unittest.TestCase):
    def test_shape_wants_the_index_that_serves_it(self):
        board = {"$inQuery": {"className": "Board", "where": {"title": "X"}}}
        table = [
            ({"flag": True}, {}, ["flag"]),
            ({"flag": True}, {"order": "-score"}, ["flag", "score"]),
            ({"flag": True, "score": {"$gt": 5}}, {"order": "-createdAt"}, ["flag", "score"]),
            ({"score": {"$gt": 5}}, {}, ["score"]),
            ({}, {"order": "score"}, ["score"]),
            ({"board": {"$in": [pointer("Board", "a")]}}, {}, ["board"]),
            ({"board": board}, {}, ["board"]),
            ({"name": "x"}, {}, None),  # there is one
            ({"name": {"$regex": "^x"}}, {}, None),
            ({"at": {"$nearSphere": POINT}}, {}, ["at"]),
            ({"tags": {"$all": ["a"]}, "flag": True}, {}, ["tags"]),
            ({"tags": "a"}, {}, ["tags"]),
            ({"o.x": 1}, {}, None),
            ({"name": {"$regex": "x"}}, {}, None),
            ({"score": {"$ne": 5}}, {}, None),
            ({"$or": [{"score": 5}, {"flag": True}]}, {}, None),
            ({"unknown": 1}, {}, None),
            ({}, {"limit": 0}, ["ACL"]),
            ({"flag": True}, {"limit": 0}, ["ACL", "flag"]),
            ({"score": {"$gt": 5, "$lt": 9}}, {"limit": 0}, ["ACL", "score"]),
            ({"name": {"$gt": "x"}}, {"limit": 0}, None),
            ({"flag": True, "score": 5}, {"limit": 0}, ["flag", "score"]),
            ({"unknown": 1}, {"limit": 0}, None),
        ]
        for where, options, wanted in table:
            with self.subTest(where=where, options=options):
                self.assertEqual(index_advice.wanted(shape(asked(where, **options)), INFO), wanted)

    def test_lines_of_a_log_that_hold_no_shape_are_passed_over(self):
        one = shape_text(asked({"flag": True}))
        lines = ["", "x" * 100, f"slow 5.1 s {one} more", f"again {one}", '{"class":', '{"class":5}', '{"class":"a b"}', '{"class":"A","order":[5]}']
        self.assertEqual(index_advice.shapes([*lines, "[" * 100_000, '{"class":"A","where":' + "[" * 100_000]), [shape(asked({"flag": True}))])


class AnswerTest(ServiceTestCase):
    def test_answer_124_names_the_index_and_nothing_of_the_data(self):
        self.enterContext(mock.patch.object(self.service.store, "_query_seconds", 0.2))
        self.make("Post", text="a" * 40 + "!", kind="SECRET")
        where = {"text": {"$regex": "(a|aa)+$"}, "kind": "SECRET"}
        for options in ({"order": "-createdAt"}, {"count": 1, "limit": 0}):
            with self.subTest(options):
                answer = self.api("GET", "/classes/Post", status=400, where=where, **options)
                self.assertEqual(answer, {"code": 124, "error": "The query took too long. An index would help: leanstorage index Post kind"})
        answer = self.api("GET", "/classes/Post", status=400, where={"text": {"$regex": "(a|aa)+$"}})
        self.assertEqual(answer["error"], "The query took too long.")
        batch = {"requests": [{"method": "GET", "path": "/1.1/classes/Post", "params": {"where": json.dumps(where)}}]}
        [item] = self.api("POST", "/batch", batch)
        self.assertIn("leanstorage index Post kind", item["error"]["error"])

    def test_command_suggests_what_the_log_wants_with_its_cost(self):
        self.make("Seen", kind="x", score=5)
        log = self.folder / "slow.log"
        queries = [{"kind": "SECRET"}, {"kind": "SECRET", "unknown": 1}, {"score": {"$gt": 77}}]
        lines = [shape_text(with_limits(parse_where("Seen", where)[0], {})) for where in queries]
        lines += [shape_text(with_limits(parse_where("Seen", where)[0], {"limit": 0})) for where in ({}, {"kind": "SECRET"})]
        log.write_text("".join(f"12:00 slow query, 5100 ms: {line}\n" for line in [*lines, '{"class":"Nothing","where":["a eq"]}']))
        code, text = self.run_index("--suggest", str(log))
        self.assertEqual(code, 0, text)
        first, second, *counted = text.splitlines()
        self.assertTrue(first.startswith("leanstorage index Seen kind  # about 0.0 MB; each create"), first)
        self.assertTrue(second.startswith("leanstorage index Seen score  # "), second)
        self.assertEqual([line.split("  # ")[0] for line in counted], ["leanstorage index Seen ACL", "leanstorage index Seen ACL kind"])
        self.assertNotIn("SECRET", text)
        self.assertEqual(self.run_index()[0], 1)
        self.assertEqual(self.run_index("--suggest", str(self.folder / "none"))[0], 1)
