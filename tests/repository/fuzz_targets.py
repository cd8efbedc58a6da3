"""What reads the bytes of clients, each as a function of bytes that fails when the answer is not a sane one.

bench/fuzz_atheris.py looks for bytes that reach new code and keeps them in tests/corpus; tests/repository/test_fuzz.py replays them.
"""
import io
import json
from urllib.parse import quote

from leanwsgi import messages
from tests.leanstorage.service_support import KEYS
from tests.support import call

APP = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
MASTER = {**APP, "X-LC-Key": KEYS["master_key"] + ",master"}
CREDENTIALS = ("X-LC-Sign", "X-LC-Key", "X-LC-Session", "X-LC-Id", "X-Uluru-Master-Key")


class Targets:
    """The functions, for a storage application. Each raises AssertionError for a 500 or an answer that is not JSON."""

    def __init__(self, application):
        self._application = application
        self._send("POST", "/1.1/classes/Fuzz", b'{"a": 1, "b": "x", "l": [1, {"c": null}], "o": {"p": {"q": 1.5}}}')

    def _send(self, method, path, data=b"", query="", headers=APP):
        response = call(self._application, method, path, data, headers, query=query, HTTP_HOST="x")
        assert response.status != 500, response.body
        assert "application/json" in response.header("Content-Type"), response.headers
        return response

    def create_and_change(self, data):
        made = self._send("POST", "/1.1/classes/Fuzz", data)
        if made.status == 201:
            path = f"/1.1/classes/Fuzz/{made.json()['objectId']}"
            assert self._send("PUT", path, data, "new=true").status in (200, 400, 403, 404)  # 404 where its ACL hides it
            assert self._send("GET", path).status == 200

    def where(self, data):
        self._send("GET", "/1.1/classes/Fuzz", query="limit=5&count=1&where=" + quote(data))

    def order_keys_include(self, data):
        self._send("GET", "/1.1/classes/Fuzz", query="order={0}&keys={0}&include={0}".format(quote(data)))

    def cql(self, data):
        self._send("GET", "/1.1/cloudQuery", query="cql=" + quote(data))

    def query_string(self, data):
        self._send("GET", "/1.1/classes/Fuzz", query=data.decode("latin-1").replace("\n", ""))

    def path(self, data):
        text = data.decode("utf-8", "replace").replace("?", "")
        for method in ("GET", "POST", "PUT", "DELETE"):
            self._send(method, "/1.1/" + text, b"{}")

    def batch(self, data):
        self._send("POST", "/1.1/batch", data, headers=MASTER)

    def text_plain(self, data):
        self._send("POST", "/1.1/classes/Fuzz", data, headers={"Content-Type": "text/plain"})

    def user(self, data):
        for route in ("users", "login", "roles", "fileTokens", "files"):
            self._send("POST", "/1.1/" + route, data)

    def credentials(self, data):
        for name in CREDENTIALS:
            headers = {**APP, name: data.decode("latin-1")}
            if name != "X-LC-Key":
                headers.pop("X-LC-Key" if name == "X-LC-Sign" else "", None)
            self._send("GET", "/1.1/classes/_Role", headers=headers)

    def multipart(self, data):
        line, _, body = data.partition(b"\n")
        environ = {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body), "CONTENT_TYPE": line.decode("latin-1")}
        try:
            messages.upload(environ, "file", 100).file.close()
        except messages.HTTPError as error:
            assert error.status in (400, 413)


SEEDS = {
    "create_and_change": [
        json.dumps(body)
        for body in (
            {"a": {"__op": "Increment", "amount": 2}, "l": {"__op": "AddUnique", "objects": [1, None]}},
            {"d": {"__type": "Date", "iso": "2020-01-01T00:00:00.000Z"}, "b": {"__type": "Bytes", "base64": "AA=="}},
            {"p": {"__type": "Pointer", "className": "Foo", "objectId": "x"}, "ACL": {"*": {"read": True}}},
            {"r": {"__op": "AddRelation", "objects": [{"__type": "Pointer", "className": "Foo", "objectId": "x"}]}},
            {"g": {"__type": "GeoPoint", "latitude": 1, "longitude": -1.5}, "f": {"__type": "File", "id": "x"}},
            {"o": {"__op": "Batch", "ops": [{"__op": "Delete"}, {"__op": "BitAnd", "value": 3}]}, "x": {"__op": "Remove", "objects": []}},
        )
    ],
    "where": [
        json.dumps(where)
        for where in (
            {"$or": [{"a": 1}, {"a": {"$gt": 2, "$lte": 3}}], "b": {"$in": [1, "x", None]}},
            {"a": {"$regex": "^\\Qx\\E", "$options": "im"}, "l": {"$all": [1], "$size": 2}, "e": {"$exists": False}},
            {"p": {"$inQuery": {"className": "Foo", "where": {"a": {"$ne": 1}}}}},
            {"p": {"$select": {"key": "a", "query": {"className": "Foo", "where": {}}}}},
            {"g": {"$nearSphere": {"__type": "GeoPoint", "latitude": 1, "longitude": 2}, "$maxDistanceInMiles": 3}},
            {"g": {"$within": {"$box": [{"__type": "GeoPoint", "latitude": 1, "longitude": 2}] * 2}}},
            {"$relatedTo": {"object": {"__type": "Pointer", "className": "Foo", "objectId": "x"}, "key": "r"}},
        )
    ],
    "order_keys_include": ["-createdAt,a.b", "-a,,b", "p.q.r"],
    "cql": [
        "select * from Fuzz where a > 1 and (b like 'x%' or c in (1, 2)) limit 1, 2 order by a desc, b",
        "select count(*), a from Fuzz where p = pointer('Foo', 'x') and d < date('2020-01-01')",
        "select include p from Fuzz where a is not exists and g near [1, 2] max 3 km",
        "insert into Fuzz(a, b) values ('x', [1, {\"a\": 2}])",
    ],
    "query_string": ["where=%7B%7D&limit=1&skip=2&order=a", "limit=-1", "a=1&a=2", "%"],
    "path": ["classes/Fuzz/5f0000000000000000000000", "users/me", "scan/classes/Fuzz", "schemas", "functions/x", "uploads/x"],
    "batch": [json.dumps({"requests": [{"method": "GET", "path": "/1.1/classes/Fuzz?limit=1", "params": {"where": {}}}]})],
    "text_plain": [json.dumps({"_ApplicationId": "appid", "_ApplicationKey": KEYS["key"], "_method": "GET", "where": "{}"})],
    "user": [json.dumps({"username": "u", "password": "p", "authData": {"anonymous": {"id": "1"}}, "name": "n", "url": "x"})],
    "credentials": ["d5bcbb897e19b2f6633c716dfdfaf9be,1453014943466", "x,1,master", KEYS["master_key"] + ",master"],
    "multipart": ["multipart/form-data; boundary=b\n--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nx\r\n--b--\r\n"],
}
