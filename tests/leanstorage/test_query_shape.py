"""The shape of a query tells keys and operators and no value."""
import json
import unittest

from leanstorage.rules.query_shape import MAX_NODES, MAX_TEXT, shape, shape_text
from leanstorage.rules.where import parse_where, with_limits


def shape_of(where, **options):
    query, _ = parse_where("Post", where)
    return shape(with_limits(query, options))


class ShapeTest(unittest.TestCase):
    def test_shape_has_keys_and_operators_and_no_value(self):
        pointer = {"__type": "Pointer", "className": "Board", "objectId": "SECRET"}
        point = {"__type": "GeoPoint", "latitude": 31.25, "longitude": 121.5}
        table = [
            ({}, {}, {"where": []}),
            ({"a": "SECRET", "b.c": {"$gt": 77}}, {"order": "-createdAt,a"}, {"where": ["a eq", "b.c gt"], "order": ["-createdAt", "a"]}),
            ({"a": {"$in": ["SECRET", 77]}, "b": pointer}, {"skip": 77}, {"where": ["a in", "b eq"], "skip": True}),
            ({"a": {"$ne": "SECRET"}}, {}, {"where": [{"not": ["a eq"]}]}),
            ({"a": {"$regex": "^SECRET"}, "g": {"$nearSphere": point}}, {}, {"where": ["a prefix", "g near"]}),
            ({"a": {"$regex": "SECRET.77"}}, {}, {"where": ["a regex"]}),
            ({"$or": [{"a": 77}, {"a": 78}, {"b": 77}]}, {}, {"where": [{"or": [["a eq"], ["b eq"]]}]}),
            (
                {"p": {"$inQuery": {"className": "Board", "where": {"name": "SECRET"}}}},
                {},
                {"where": [{"p in_query": {"class": "Board", "where": ["name eq"]}}]},
            ),
            (
                {"a": {"$select": {"key": "k", "query": {"className": "Board", "where": {"name": "SECRET"}}}}},
                {},
                {"where": [{"a select": {"class": "Board", "where": ["name eq"]}}]},
            ),
            ({"$relatedTo": {"object": pointer, "key": "likes"}}, {}, {"where": ["related"]}),
        ]
        for where, options, wanted in table:
            with self.subTest(where=where):
                found = shape_of(where, **options)
                self.assertEqual(found, {"class": "Post", **wanted})
                for secret in ("SECRET", "77", "31.25"):
                    self.assertNotIn(secret, json.dumps(found))

    def test_text_is_one_line_of_ascii_and_bounded(self):
        where = {f"k{number}.中\u2028{'x' * 500}": number for number in range(300)}
        for number in range(15):
            where = {"$or": [where, {f"other{number}.{'y' * 500}": 1}, {"k": 2}]}
        query, _ = parse_where("Post", where)
        text = shape_text(query)
        self.assertTrue(text.isascii() and text.isprintable())
        self.assertLess(len(text), MAX_TEXT)
        wide = {"$or": [{"$or": [{f"k{one}{two}{'x' * 90}": 1} for two in range(19)]} for one in range(19)]}
        self.assertEqual(shape_text(parse_where("Post", wide)[0]), '{"class":"Post","where":["more"]}')
        query, _ = parse_where("Post", {f"k{number}.中\u2028": number for number in range(300)})
        self.assertEqual(len(shape(query)["where"]), MAX_NODES)
        self.assertTrue(shape_text(query).isascii() and "\n" not in shape_text(query))
