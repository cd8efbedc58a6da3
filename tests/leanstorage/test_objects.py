"""Objects: sections 3 and 2.4 of the protocol."""
import base64
import io
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import redirect_stderr
from unittest import mock
from urllib.parse import urlencode

from leanstorage.http import inline_calls
from leanstorage.resources import objects
from leanstorage.rules import write
from tests.leanstorage.service_support import ServiceTestCase, pointer

GEO = {"__type": "GeoPoint", "latitude": 40.0, "longitude": -30.0}
DATE = {"__type": "Date", "iso": "2019-09-19T04:45:48.354Z"}


class CreateTest(ServiceTestCase):
    def test_create_answers_id_and_time_with_its_location(self):
        value = self.api("POST", "/classes/Foo", {"a": 1}, 201)
        self.assertEqual(set(value), {"objectId", "createdAt"})
        self.assertRegex(value["objectId"], "^[0-9a-f]{24}$")
        self.assertEqual(self.response.header("Location"), f"/1.1/classes/Foo/{value['objectId']}")
        found = self.get("Foo", value["objectId"])
        self.assertEqual(found, {"a": 1, **value, "updatedAt": value["createdAt"]})
        self.assertTrue(self.response.header("Last-Modified").endswith("GMT"))

    def test_every_type_survives_a_round_trip(self):
        fields = {
            "integer": 2**63 - 1,
            "float": 1.5,
            "text": "中文 😀 '\"\\ $ .",
            "empty": "",
            "yes": True,
            "nothing": None,
            "array": [1, [2, {"a": None}], "x", DATE, pointer("Foo", "a1")],
            "object": {"a": {"b": [1, 2]}, "中": 1},
            "date": DATE,
            "bytes": {"__type": "Bytes", "base64": base64.b64encode(b"\0\xff").decode()},
            "pointer": pointer("Foo", "abc123"),
            "geo": GEO,
            "geo2": GEO,
            "id": "a key called id",
        }
        found = self.get("Types", self.make("Types", **fields))
        self.assertEqual({key: found[key] for key in fields}, fields)

    def test_dates_are_normalised_to_utc_milliseconds(self):
        rows = {
            "2019-09-19T12:45:48.354+08:00": "2019-09-19T04:45:48.354Z",
            "2019-09-19T04:45:48Z": "2019-09-19T04:45:48.000Z",
            "2019-09-19T04:45:48.354999999Z": "2019-09-19T04:45:48.354Z",
            "1969-12-31T23:59:59.999Z": "1969-12-31T23:59:59.999Z",
            "0001-01-01T00:00:00.000Z": "0001-01-01T00:00:00.000Z",
            "9999-12-31T23:59:59.999Z": "9999-12-31T23:59:59.999Z",
        }
        for given, wanted in rows.items():
            found = self.get("Dates", self.make("Dates", at={"__type": "Date", "iso": given}))
            self.assertEqual(found["at"]["iso"], wanted)

    def test_built_ins_in_the_body_are_passed_over(self):
        object_id = self.make("Foo", objectId="mine", createdAt="x", updatedAt="y", className="Z", __type="Object", a=1)
        self.assertNotEqual(object_id, "mine")
        self.assertEqual(set(self.get("Foo", object_id)), {"objectId", "createdAt", "updatedAt", "a"})

    def test_bad_values_are_refused_with_their_code_and_store_nothing(self):
        self.make("Bad", number=1, text="x", to=pointer("Foo", "a"), geo=GEO)
        before = self.digest()
        rows = [
            (105, {"_a": 1}),
            (105, {"a b": 1}),
            (105, {"a.b": 1}),
            (105, {"objectid": 1}),
            (105, {"acl": 1}),
            (105, {"a\n": 1}),
            (106, {"p": {"__type": "Pointer", "className": "Foo"}}),
            (106, {"p": {"__type": "Pointer", "className": "Foo", "objectId": None}}),
            (107, {"d": {"__type": "Date", "iso": "yesterday"}}),
            (107, {"d": {"__type": "Date"}}),
            (107, {"b": {"__type": "Bytes", "base64": "%"}}),
            (107, {"x": {"__type": "Unknown"}}),
            (107, {"x": {"__type": ["Date"]}}),
            (107, {"x": {"__op": "Unknown"}}),
            (107, {"x": {"__op": "Increment", "amount": "1"}}),
            (107, {"x": {"__op": ["Increment"]}}),
            (107, {"x": {"__type": "Object", "className": "Foo"}}),
            (302, {"g": {"__type": "GeoPoint", "latitude": 10**400, "longitude": 1}}),
            (111, {"number": "1"}),
            (111, {"text": 1}),
            (111, {"to": pointer("Bar", "a")}),
            (111, {"text": True}),
            (121, {"o": {"$a": 1}}),
            (121, {"o": {"a": {"b.c": 1}}}),
            (123, {"ACL": {"*": {"read": 1}}}),
            (123, {"ACL": {"*": {"admin": True}}}),
            (123, {"ACL": []}),
            (302, {"geo": {"__type": "GeoPoint", "latitude": 91, "longitude": 0}}),
            (302, {"geo": {"__type": "GeoPoint", "latitude": 0, "longitude": 180.1}}),
        ]
        for code, fields in rows:
            with self.subTest(fields):
                self.code(code, "POST", "/classes/Bad", fields)
        self.assertEqual(self.digest(), before)

    def test_type_mismatch_has_the_text_that_apps_know(self):
        self.make("Typed", F=1)
        text = self.code(111, "POST", "/classes/Typed", {"F": "V"})
        self.assertEqual(
            text,
            "Invalid value type for field 'F',value 'V',expect type is {:type \"Number\"},"
            "but it is '{:type \"String\"}'.",
        )

    def test_names_have_200_characters_at_most(self):
        key = "k" * 200
        self.assertEqual(self.get("Foo", self.make("Foo", **{key: 1}))[key], 1)
        self.code(105, "POST", "/classes/Foo", {key + "k": 1})
        name = "C" * 200
        self.make(name, n=1)
        self.code(103, "POST", f"/classes/{name}C", {"n": 1})

    def test_points_lie_on_the_earth(self):
        for latitude, longitude, is_good in ((90, 180, True), (-90, -180, True), (90.1, 0, False), (0, 180.1, False), (0, -181, False)):
            value = {"__type": "GeoPoint", "latitude": latitude, "longitude": longitude}
            with self.subTest(value):
                if is_good:
                    self.make("Placed", at=value)
                else:
                    self.api("POST", "/classes/Placed", {"at": value}, 400)

    def test_null_fixes_no_type(self):
        self.make("Nulls", a=None)
        self.make("Nulls", a="text")
        self.make("Nulls", a=None)
        self.code(111, "POST", "/classes/Nulls", {"a": 5})

    def test_create_with_fetch_answers_the_whole_object(self):
        for option in ("fetchWhenSave=true", "new=true"):
            value = self.api("POST", f"/classes/Foo?{option}", {"a": 1, "ACL": {"*": {"read": True}}}, 201)
            self.assertEqual(set(value), {"objectId", "createdAt", "updatedAt", "a"})

    def test_condition_of_a_new_object_is_passed_over_unless_it_is_malformed(self):
        for where in ({}, {"age": {"$gt": "900"}}):
            self.api("POST", "/classes/Foo", {"age": 19}, 201, where=where)
        self.code(107, "POST", "/classes/Foo", {}, where="7")
        self.code(107, "POST", "/classes/Foo", {}, where="{")

    def test_missing_objects_and_classes(self):
        self.assertEqual(self.code(101, "GET", "/classes/Nowhere", status=404), "Class or object doesn't exists.")
        self.code(101, "GET", "/classes/Nowhere/abc", status=404)
        self.code(101, "PUT", "/classes/Nowhere/abc", {}, status=404)
        self.code(101, "DELETE", "/classes/Nowhere/abc", status=404)
        self.make("Foo")
        self.assertEqual(self.api("GET", "/classes/Foo/123"), {})
        self.code(104, "GET", "/classes/Foo/a-b")
        text = self.code(1, "PUT", "/classes/Foo/fakeid", {}, status=404)
        self.assertEqual(text, "Could not find object by id 'fakeid' for class 'Foo'.")
        self.code(101, "DELETE", "/classes/Foo/fakeid", status=404)
        self.code(103, "POST", "/classes/_Mine", {})


class UpdateTest(ServiceTestCase):
    def put(self, object_id, fields, **more):
        return self.api("PUT", f"/classes/Foo/{object_id}", fields, **more)

    def test_update_answers_time_and_id_and_with_fetch_the_written_keys(self):
        object_id = self.make("Foo", a=1, b=2)
        created = self.get("Foo", object_id)
        value = self.put(object_id, {"a": 5})
        self.assertEqual(set(value), {"updatedAt", "objectId"})
        self.assertGreater(value["updatedAt"], created["updatedAt"])
        value = self.put(object_id, {"a": {"__op": "Increment", "amount": 2}}, new="true")
        self.assertEqual((set(value), value["a"]), ({"a", "updatedAt", "objectId"}, 7))

    def test_operations_act_on_present_missing_and_null_fields(self):
        # operation, what the field holds, what it holds then, what a missing field holds then
        rows = [
            ({"__op": "Increment", "amount": 3}, 1, 4, 3),
            ({"__op": "Decrement", "amount": 3}, 1, -2, -3),
            ({"__op": "Increment", "amount": 0.5}, 1, 1.5, 0.5),
            ({"__op": "BitAnd", "value": 6}, 3, 2, 0),
            ({"__op": "BitOr", "value": 6}, 3, 7, 6),
            ({"__op": "BitXor", "value": 6}, 3, 5, 6),
            ({"__op": "Add", "objects": [1, 1]}, [1], [1, 1, 1], [1, 1]),
            ({"__op": "AddUnique", "objects": [1, 2, 2]}, [1], [1, 2], [1, 2]),
            ({"__op": "AddUnique", "objects": [{"a": 1}, True]}, [{"a": 1}, 1], [{"a": 1}, 1, True], [{"a": 1}, True]),
            ({"__op": "Remove", "objects": [1]}, [1, 2, 1], [2], None),
            ({"__op": "Delete"}, 5, None, None),
            ({"__op": "Batch", "ops": [{"__op": "Add", "objects": [2]}, {"__op": "Remove", "objects": [1]}]}, [1], [2], [2]),
        ]
        for number, (operation, present, result, from_nothing) in enumerate(rows):
            with self.subTest(operation):
                key = f"k{number}"
                object_id = self.make("Foo", **{key: present})
                self.put(object_id, {key: operation})
                self.assertEqual(self.get("Foo", object_id).get(key), result)
                object_id = self.make("Foo", other=1)
                self.put(object_id, {key: operation})
                self.assertEqual(self.get("Foo", object_id).get(key), from_nothing)
                object_id = self.make("Foo", **{key: None})
                self.put(object_id, {key: operation})
                from_null = [] if operation["__op"] == "Remove" else from_nothing
                self.assertEqual(self.get("Foo", object_id).get(key), from_null)
                if operation["__op"] != "Delete":
                    object_id = self.make("Foo", **{f"t{number}": "text"})
                    self.code(111, "PUT", f"/classes/Foo/{object_id}", {f"t{number}": operation})

    def test_operations_are_allowed_in_a_new_object(self):
        fields = {
            "a": {"__op": "BitAnd", "value": 1},
            "b": {"__op": "BitOr", "value": 1},
            "c": {"__op": "BitXor", "value": 1},
            "d": {"__op": "Add", "objects": [1]},
            "e": {"__op": "Remove", "objects": [1]},
        }
        found = self.get("Ops", self.make("Ops", **fields))
        self.assertEqual({key: found[key] for key in fields}, {"a": 0, "b": 1, "c": 1, "d": [1], "e": []})

    def test_number_that_grows_too_long_to_be_kept_is_107(self):
        nines = 10**4300 - 1
        object_id = self.make("Foo", huge=nines, below=-nines)
        for key, operation in (
            ("huge", {"__op": "Increment", "amount": nines}),
            ("huge", {"__op": "BitOr", "value": 2 ** (nines.bit_length()) - nines - 1 - 1}),
            ("below", {"__op": "Decrement", "amount": 1}),
            ("huge", {"__op": "Batch", "ops": [{"__op": "Increment", "amount": nines}] * 2}),
        ):
            with self.subTest(operation["__op"]):
                self.code(107, "PUT", f"/classes/Foo/{object_id}", {key: operation})
        self.assertEqual(self.get("Foo", object_id)["huge"], nines)

    def test_dotted_key_makes_no_value_of_a_type(self):
        object_id = self.make("Foo", typed={"a": {}})
        for key in ("typed.__type", "typed.a.__type", "unseen.__type"):
            for kind in ("Pointer", "Date", {"a": 1}):
                self.code(105, "PUT", f"/classes/Foo/{object_id}", {key: kind})

    def test_batch_of_array_operations_makes_one_array_of_them_in_order(self):
        # Enough of them that elements are known by their texts at the end, and values that only look alike.
        alike = [1, "1", True, None, "null", [1], ["1"], {"a": 1}, '{"a":1}', "'1", 1e19, 0.5]
        steps = [("AddUnique", alike), ("AddUnique", [1.0, True, {"a": 1.0}, 10**19]), ("Add", [2, 2, "1"]), ("Remove", ["1"])]
        steps += [("AddUnique", [2, 3]), ("Remove", [2, [1.0]]), ("Add", ["1", 1])]
        batch = {"__op": "Batch", "ops": [{"__op": name, "objects": objects} for name, objects in steps]}
        wanted = [1, True, None, "null", ["1"], {"a": 1}, '{"a":1}', "'1", 1e19, 0.5, 3, "1", 1]
        for number, nested in enumerate((batch, {"__op": "Batch", "ops": [batch]})):
            object_id = self.make("Foo", **{f"batch{number}": None})
            self.put(object_id, {f"batch{number}": nested})
            self.assertEqual(repr(self.get("Foo", object_id)[f"batch{number}"]).replace("10000000000000000000", "1e+19"), repr(wanted))
        for batch in ([("AddUnique", [1]), ("Increment", None)], [("Add", [1]), ("BitOr", None)]):
            ops = [{"__op": name, "objects": objects, "amount": 1, "value": 1} for name, objects in batch]
            self.code(111, "PUT", f"/classes/Foo/{object_id}", {"mixed": {"__op": "Batch", "ops": ops}})
        ops = [{"__op": "Add", "objects": [1]}, {"__op": "Delete"}, {"__op": "Increment", "amount": 1}]
        self.put(object_id, {"again": {"__op": "Batch", "ops": ops}})
        self.assertEqual(self.get("Foo", object_id)["again"], 1)

    def test_changes_take_time_in_proportion_to_what_they_bring(self):
        many = list(range(9_000))
        same_hash = [number * (2**61 - 1) for number in many]
        one = [{"__op": name, "objects": [9_000]} for name in ("AddUnique", "Remove")]
        nested = {f"k{number}": 1 for number in range(20_000)}
        for name, fields, body in (
            ("AddUnique", {"l": {"__op": "AddUnique", "objects": many}}, {}),
            ("AddUnique of equal hashes", {"l": {"__op": "AddUnique", "objects": same_hash}}, {}),
            ("Remove", {"l": {"__op": "Remove", "objects": many}}, {"l": same_hash}),
            ("Batch", {"l": {"__op": "Batch", "ops": one * 2_000}}, {"l": many}),
            ("dotted keys", {f"o.k{number}": 2 for number in range(3_000)}, {"o": nested}),
            ("keys", {f"k{number}": 1 for number in range(30_000)}, {}),
        ):
            with self.subTest(name):
                start = time.process_time()
                write.apply(fields, body, None, {}, creating=False)
                self.assertLess(time.process_time() - start, 1)

    def test_array_that_gets_too_long_is_refused_and_one_that_does_not_is_kept(self):
        object_id = self.make("Foo", long=[0])
        for name in ("Add", "AddUnique"):
            text = self.code(1, "PUT", f"/classes/Foo/{object_id}", {"long": {"__op": name, "objects": list(range(1, 10_001))}})
            self.assertIn("10000 elements", text)
        self.put(object_id, {"long": {"__op": "AddUnique", "objects": list(range(10_000)) * 2}})
        self.assertEqual(self.get("Foo", object_id)["long"], list(range(10_000)))

    def test_dotted_key_reaches_into_objects_and_creates_levels(self):
        object_id = self.make("Foo", o={"a": 1, "b": {"c": 2}})
        self.put(object_id, {"o.b.c": {"__op": "Increment", "amount": 1}, "o.x.y": "new", "o.a": {"__op": "Delete"}})
        self.assertEqual(self.get("Foo", object_id)["o"], {"b": {"c": 3}, "x": {"y": "new"}})
        self.put(object_id, {"fresh.a.b": 1})
        self.assertEqual(self.get("Foo", object_id)["fresh"], {"a": {"b": 1}})
        self.put(object_id, {"fresh.b": 1, "fresh": {"__op": "Delete"}, "fresh.c": 1})
        self.assertEqual(self.get("Foo", object_id)["fresh"], {"c": 1})
        object_id = self.make("Foo", scalar=1)
        self.code(111, "PUT", f"/classes/Foo/{object_id}", {"scalar.a": 1})
        for key in ("o.", "o..a", "o.$a", ".a", "o" + ".a" * 30):
            with self.subTest(key):
                self.code(105, "PUT", f"/classes/Foo/{object_id}", {key: 1})

    def test_conditional_update_matches_or_has_no_effect(self):
        object_id = self.make("Foo", n=1)
        self.put(object_id, {"n": 2}, where={"n": 1})
        text = self.code(305, "PUT", f"/classes/Foo/{object_id}", {"n": 3}, where={"n": 1})
        self.assertEqual(text, "No effect on updating/deleting a document.")
        self.code(305, "PUT", "/classes/Foo/unknown", {"n": 3}, where={"n": 1})
        self.code(102, "PUT", f"/classes/Foo/{object_id}", {"n": 3}, where={"n": {"$unknown": 1}})
        self.code(305, "DELETE", f"/classes/Foo/{object_id}", where={"n": 1})
        self.assertEqual(self.get("Foo", object_id)["n"], 2)
        self.api("DELETE", f"/classes/Foo/{object_id}", where={"n": 2})
        self.assertEqual(self.api("GET", f"/classes/Foo/{object_id}"), {})

    def test_slow_condition_of_a_write_keeps_no_other_writer_waiting(self):
        for _ in range(3):
            inner = self.make("Slow", s="a" * 29 + "!")
        object_id = self.make("Held", n=1, s="a" * 29 + "!", p=pointer("Slow", inner))
        slow = {"s": {"$regex": "(a|aa)+$"}}
        wheres = [{"n": 1, "$or": [slow, {"n": 1}]}, {"p": {"$inQuery": {"className": "Slow", "where": slow}}}]
        wheres += [{"p": {"$notInQuery": {"className": "Slow", "where": slow}}}]
        with ThreadPoolExecutor(1) as pool:
            for where in wheres:
                query = urlencode({"where": json.dumps(where)})
                headers = {"X-LC-Id": "appid", "X-LC-Key": "UtOCzqb67d3sN12Kts4URwy8"}
                began, others = time.monotonic(), -1  # the last one may end after the write that it waited for
                write = pool.submit(self.raw, "PUT", f"/1.1/classes/Held/{object_id}", b'{"done":1}', headers, QUERY_STRING=query)
                while not write.done():
                    self.make("Ping", n=1)
                    others += 1
                    wait([write], 0.01)
                if time.monotonic() - began > 0.5:
                    self.assertGreater(others, 0, where)
                response = write.result()
                self.assertIn((response.status, response.json().get("code")), ((200, None), (503, 124), (400, 124), (400, 305)))

    def test_condition_that_ends_to_hold_before_the_write_has_no_effect(self):
        inner = self.make("Inner", ok="yes")
        for where, changed in (
            ({"s": {"$regex": "^y"}}, "Foo"),
            ({"p": {"$inQuery": {"className": "Inner", "where": {"ok": {"$regex": "^y"}}}}}, "Inner"),
            ({"p": {"$inQuery": {"className": "Inner", "where": {"ok": "yes"}}}}, "Inner"),
            ({"s": {"$select": {"key": "ok", "query": {"className": "Inner", "where": {}}}}}, "Inner"),
        ):
            for method in ("PUT", "DELETE"):
                with self.subTest(method, where=where):
                    self.api("PUT", f"/classes/Inner/{inner}", {"ok": "yes"})
                    object_id = self.make("Foo", s="yes", p=pointer("Inner", inner))
                    path = f"/classes/Foo/{object_id}"
                    self.api("PUT", path, {"seen": 1}, where=where)
                    change, target = {"s": "no", "ok": "no"}, object_id if changed == "Foo" else inner
                    write = self.service.store.write

                    def write_late(work):
                        with mock.patch.object(self.service.store, "write", write):
                            self.api("PUT", f"/classes/{changed}/{target}", change)
                        return write(work)

                    body = {"lost": 1} if method == "PUT" else None
                    with mock.patch.object(inline_calls, "PATH", re.compile("nothing is quick")):
                        with mock.patch.object(self.service.store, "write", write_late):
                            self.code(305, method, path, body, where=where)
                    self.assertEqual(self.get("Foo", object_id)["seen"], 1)

    def test_conditional_decrements_of_64_clients_never_cross_the_bound(self):
        object_id = self.make("Foo", stock=20)
        self.find("Foo")

        def decrement(_):
            headers = {"X-LC-Id": "appid", "X-LC-Key": "UtOCzqb67d3sN12Kts4URwy8"}
            body = b'{"stock":{"__op":"Increment","amount":-1}}'
            query = "where=%7B%22stock%22%3A%7B%22%24gt%22%3A0%7D%7D"
            return self.raw("PUT", f"/1.1/classes/Foo/{object_id}", body, headers, QUERY_STRING=query).status

        with ThreadPoolExecutor(64) as pool:
            statuses = list(pool.map(decrement, range(64)))
        self.assertEqual((statuses.count(200), statuses.count(400)), (20, 44))
        self.assertEqual(self.get("Foo", object_id)["stock"], 0)

    def test_concurrent_increments_are_all_counted(self):
        object_id = self.make("Foo", n=0)
        threads = [
            threading.Thread(
                target=self.raw,
                args=(
                    "PUT",
                    f"/1.1/classes/Foo/{object_id}",
                    b'{"n":{"__op":"Increment","amount":1},"list":{"__op":"Add","objects":[1]}}',
                    {"X-LC-Id": "appid", "X-LC-Key": "UtOCzqb67d3sN12Kts4URwy8"},
                ),
            )
            for _ in range(64)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = self.get("Foo", object_id)
        self.assertEqual((found["n"], len(found["list"])), (64, 64))

    def test_changes_within_one_millisecond_have_times_that_grow(self):
        object_id = self.make("Foo", n=0)
        with mock.patch("leanstorage.resources.objects.now", return_value=1_500_000_000_000):
            object_id = self.make("Foo", n=0)
            times = [self.put(object_id, {"n": number})["updatedAt"] for number in range(3)]
        self.assertEqual(times, [f"2017-07-14T02:40:00.00{number}Z" for number in (1, 2, 3)])

    def test_delete_takes_several_ids_and_passes_over_unknown_ones(self):
        ids = [self.make("Foo") for _ in range(3)]
        self.assertEqual(self.api("DELETE", f"/classes/Foo/{ids[0]},{ids[1]},unknown"), {})
        self.assertEqual(self.api("GET", f"/classes/Foo/{ids[0]}"), {})
        self.assertTrue(self.get("Foo", ids[2]))


class RelationTest(ServiceTestCase):
    def relate(self, op, *ids):
        return {"__op": op, "objects": [pointer("Tag", object_id) for object_id in ids]}

    def test_relation_has_its_stub_everywhere_and_its_members_by_query(self):
        tags = [self.make("Tag", n=n) for n in range(3)]
        plain = self.make("Post", title="x")
        post = self.make("Post", tags=self.relate("AddRelation", *tags))
        stub = {"__type": "Relation", "className": "Tag"}
        self.assertEqual(self.get("Post", plain)["tags"], stub)
        self.assertEqual(self.get("Post", post)["tags"], stub)
        value = self.api("PUT", f"/classes/Post/{plain}", {"title": "y"}, new="true")
        self.assertEqual(value["tags"], stub)
        related = {"$relatedTo": {"object": pointer("Post", post), "key": "tags"}}
        self.assertEqual([row["n"] for row in self.find("Tag", related)], [0, 1, 2])
        self.assertEqual([row["objectId"] for row in self.find("Post", {"tags": pointer("Tag", tags[0])})], [post])
        batch = {"__op": "Batch", "ops": [self.relate("RemoveRelation", tags[0]), self.relate("AddRelation", tags[1])]}
        self.api("PUT", f"/classes/Post/{post}", {"tags": batch})
        self.assertEqual([row["n"] for row in self.find("Tag", related)], [1, 2])
        for unchanged in ({}, stub, None):
            self.api("PUT", f"/classes/Post/{post}", {"tags": unchanged})
        self.assertEqual(len(self.find("Tag", related)), 2)
        self.assertEqual(self.api("GET", "/classes/Tag", where=related, count="1", limit="0")["count"], 2)
        found = self.api("GET", "/classes/Post", where=related, redirectClassNameForKey="tags")
        self.assertEqual((found["className"], len(found["results"])), ("Tag", 2))
        self.assertEqual(self.api("GET", "/classes/Post", redirectClassNameForKey="none"), {"results": []})

    def test_relation_with_bad_arguments_is_refused(self):
        post = self.make("Post2", tags=self.relate("AddRelation", "a"))
        rows = [
            (128, {"tags": {"__op": "AddRelation", "objects": []}}),
            (128, {"tags": {"__op": "AddRelation", "objects": ["x"]}}),
            (128, {"tags": self.relate("AddRelation", *(f"a{n}" for n in range(1001)))}),
            (111, {"tags": {"__op": "AddRelation", "objects": [pointer("Other", "a")]}}),
            (111, {"tags": {"__op": "AddRelation", "objects": [pointer("Tag", "a"), pointer("Other", "a")]}}),
            (111, {"tags": "text"}),
            (111, {"tags": {"__op": "Increment", "amount": 1}}),
        ]
        for code, fields in rows:
            with self.subTest(str(fields)[:60]):
                self.code(code, "PUT", f"/classes/Post2/{post}", fields)


class BatchTest(ServiceTestCase):
    def test_batch_answers_in_order_whatever_fails(self):
        object_id = self.make("Foo", a=1)
        requests = [
            {"method": "POST", "path": "/1.1/classes/Foo", "body": {"a": 2}},
            {"method": "PUT", "path": "/1.1/classes/Foo/fakeid", "body": {"a": 2}},
            {"method": "PUT", "path": f"/1.1/classes/Foo/{object_id}?new=true", "body": {"a": 3}},
            {"method": "GET", "path": "/1.1/classes/Foo/fakeid"},
            {"method": "GET", "path": "/1.1/classes/Foo", "params": {"where": {"a": 3}}},
            {"method": "GET", "path": "/1.1/classes/Unknown/x"},
            {"method": "DELETE", "path": f"/1.1/classes/Foo/{object_id},other"},
        ]
        value = self.api("POST", "/batch", {"requests": requests})
        self.assertEqual(set(value[0]["success"]), {"objectId", "createdAt"})
        self.assertEqual(value[1]["error"]["code"], 1)
        self.assertEqual(value[2]["success"]["a"], 3)
        self.assertEqual(value[3], {"success": None})
        self.assertEqual(len(value[4]["success"]["results"]), 1)
        self.assertEqual(value[5]["error"], {"code": 101, "error": "Class or object doesn't exists."})
        self.assertEqual(value[6], {"success": {}})

    def test_creations_of_a_batch_share_a_commit_and_are_kept_or_refused_one_by_one(self):
        self.make("Together", n=1)
        bodies = [{"n": number} for number in range(60)]
        bodies[3] = {"fresh": 1, "n": "no number"}  # what it would add to the class is undone, too
        bodies[4] = {"fresh": "a text", "n": 4}
        bodies[7] = {"bad key!": 1}
        requests = [{"method": "POST", "path": "/1.1/classes/Together", "body": body} for body in bodies]
        requests.insert(20, {"method": "POST", "path": "/1.1/classes/New", "body": {"m": 1}})
        store = self.service.store
        with mock.patch.object(store, "write", wraps=store.write) as write:
            answers = self.api("POST", "/batch", {"requests": requests})
        self.assertEqual(write.call_count, 2)
        refused = [number for number, answer in enumerate(answers) if "error" in answer]
        self.assertEqual((refused, answers[3]["error"]["code"], answers[7]["error"]["code"]), ([3, 7], 111, 105))
        ids = [answer["success"]["objectId"] for answer in answers if "success" in answer]
        found = {row["objectId"]: row for row in self.find("Together", limit="1000") + self.find("New")}
        self.assertEqual(len(found), 60)
        self.assertTrue(set(ids) < set(found))
        self.assertEqual(found[answers[4]["success"]["objectId"]]["fresh"], "a text")

    def test_creations_of_a_batch_are_made_one_by_one_where_one_of_them_fails_unforeseen(self):
        self.make("Apart", n=1)
        real = objects.store_new

        def store_new(call, class_name, fields, *more):
            if fields.get("n") == 3:
                raise RuntimeError("unforeseen")
            return real(call, class_name, fields, *more)

        requests = [{"method": "POST", "path": "/1.1/classes/Apart", "body": {"n": number}} for number in range(5)]
        with mock.patch.object(objects, "store_new", store_new), redirect_stderr(io.StringIO()):
            answers = self.api("POST", "/batch", {"requests": requests})
        self.assertEqual(["success" in answer for answer in answers], [True, True, True, False, True])
        self.assertEqual(sorted(row["n"] for row in self.find("Apart")), [0, 1, 1, 2, 4])

    def test_batch_that_is_malformed_is_refused(self):
        for body in ({}, {"requests": []}, {"requests": {}}):
            self.code(107, "POST", "/batch", body)
        self.code(1, "POST", "/batch", {"requests": [{}] * 1001})

    def test_batch_items_on_bad_paths_are_errors(self):
        for path in (
            "/1.1/batch",
            "/batch",
            "/1.1/classes/Foo/../_User",
            "/1.1/classes//Foo",
            "/1.1/classes/Foo%2F..%2F_User/x",
            "/2/classes/Foo",
            "http://other/1.1/classes/Foo",
            "",
            None,
        ):
            with self.subTest(path):
                [item] = self.api("POST", "/batch", {"requests": [{"method": "POST", "path": path, "body": {}}]})
                self.assertIn("error", item)

    def test_batch_item_whose_method_is_no_text_is_refused(self):
        for method in ([], {}, 5, None, "PATCH"):
            with self.subTest(method):
                [item] = self.api("POST", "/batch", {"requests": [{"method": method, "path": "/1.1/classes/Foo"}]})
                self.assertEqual(item["error"], {"code": 1, "error": "Method Not Allowed."})

    def test_batch_items_have_the_outer_rights(self):
        requests = {"requests": [{"method": "GET", "path": "/1.1/schemas"}]}
        self.assertEqual(self.api("POST", "/batch", requests)[0]["error"]["code"], 1)
        self.assertIn("success", self.api("POST", "/batch", requests, master=True)[0])
