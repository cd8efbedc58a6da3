"""What is checked of engines of every SDK: that hooks which leave a value alone leave it alone, and what functions return.

The engines are `tests/javascript/engine.js`, `tests/python/engine.py` and `tests/php/engine.php`.
"""
import json

DATE = {"__type": "Date", "iso": "2026-01-02T03:04:05.678Z"}
POINTER = {"__type": "Pointer", "className": "Other", "objectId": "abc"}
EVERY = {
    "text": "t ü 😀",
    "blank": "",
    "n": 5,
    "zero": 0,
    "half": 1.5,
    "big": 2**53 - 1,
    "yes": True,
    "no": False,
    "nothing": None,
    "date": DATE,
    "bytes": {"__type": "Bytes", "base64": "aGVsbG8="},
    "place": {"__type": "GeoPoint", "latitude": 1.5, "longitude": 2},
    "pointer": POINTER,
    "pointers": [POINTER],
    "empty": {},
    "list": [],
    "nested": {"a": [1, {"b": {}}, []], "date": DATE, "c": {}},
    "ACL": {"*": {"read": True, "write": True}, "role:x": {"write": True}},
}
UPDATES = (
    {"text": "new"},
    {"n": {"__op": "Increment", "amount": 3}},
    {"list": {"__op": "Add", "objects": [1, {"x": {}}]}},
    {"nested.d": 1},
    {"empty": {}, "list": []},
    {"text": {"__op": "Delete"}},
    {"yes": None},
    {"rel": {"__op": "RemoveRelation", "objects": [POINTER]}},
    {"nested.c": {}},
    {"ACL": {"*": {"read": True, "write": True}}},
    {"bytes": {"__type": "Bytes", "base64": "eHg="}},
    {"date": {"__type": "Date", "iso": "2027-01-01T00:00:00.000Z"}},
    {"n": {"__op": "BitAnd", "value": 3}},
)
OWN = ("objectId", "createdAt", "updatedAt", "hooked")


def check_values(case, storage):
    """The same writes to a class with hooks and one without end in the same objects."""
    file = storage.request("POST", "/files", {"url": "http://example.org/a.png", "name": "a.png"})[1]["objectId"]
    relation = {"__op": "AddRelation", "objects": [POINTER]}
    body = {**EVERY, "file": {"__type": "File", "id": file, "name": "a.png"}, "rel": relation}
    ids = {}
    for name in ("Plain", "Every"):
        status, answer = storage.request("POST", f"/classes/{name}", body)
        case.assertEqual(status, 201, answer)
        ids[name] = answer["objectId"]
    same(case, storage, ids, "beforeSave")
    for update in UPDATES:
        for name, object_id in ids.items():
            status, answer = storage.request("PUT", f"/classes/{name}/{object_id}", update)
            case.assertEqual(status, 200, (update, answer))
        same(case, storage, ids, "beforeUpdate", update)


def same(case, storage, ids, hook, update=None):
    plain, hooked = (
        storage.request("GET", f"/classes/{name}/{object_id}", master=True, query={"returnACL": "true"})[1]
        for name, object_id in ids.items()
    )
    case.assertEqual(hooked["hooked"], hook)
    kept = [{key: value for key, value in found.items() if key not in OWN} for found in (plain, hooked)]
    case.assertEqual(kept[0], kept[1], update)


def check_functions(case, storage, by_functions=True):
    """Objects that functions take and return, by both ways of calling them. Every has one object.

    The Python SDK's functions return objects only by `/call`.
    """
    body = {"object": {"__type": "Object", "className": "Any", "objectId": "id1", "name": "x"}, "when": DATE}
    status, answer = storage.request("POST", "/call/given", body)
    case.assertEqual((status, answer), (200, {"result": {"name": "x", "year": 2026, "id": "id1"}}))
    status, answer = storage.request("POST", "/call/row", {})
    case.assertEqual((status, answer["result"]["__type"], answer["result"]["className"]), (200, "Object", "Every"), answer)
    case.assertEqual(answer["result"]["pointer"]["objectId"], "abc")
    case.assertEqual(answer["result"]["date"]["__type"], "Date")
    status, answer = storage.request("POST", "/call/rows", {})
    case.assertEqual([one["__type"] for one in answer["result"]], ["Object"], answer)
    for name in ("row", "rows") if by_functions else ():
        status, answer = storage.request("POST", f"/functions/{name}", {})
        case.assertEqual(status, 200, answer)
        case.assertIn("abc", json.dumps(answer))
