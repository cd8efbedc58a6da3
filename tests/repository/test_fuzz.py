"""Random input to everything that reads what clients send: never a 500, never an answer that breaks WSGI.

`FUZZ_EXAMPLES=5000 python -m unittest tests.repository.test_fuzz` looks longer, bench/fuzz_atheris.py by coverage; what that found
to reach new code lies in tests/corpus. Every find becomes a test with a name elsewhere.
"""
import json
import os
import unittest

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from leanwsgi import messages
from router import Router
from tests.repository.fuzz_targets import SEEDS, Targets
from tests.leanstorage.service_support import KEYS, ServiceTestCase
from tests.support import ROOT, Visitor, call

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 60, suppress_health_check=list(HealthCheck), database=None
)
APP = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
TYPES = ["Date", "Pointer", "File", "GeoPoint", "Bytes", "Relation", "Object", "Unknown", None, 5]
OPS = ["Increment", "Add", "AddUnique", "Remove", "Delete", "AddRelation", "RemoveRelation", "Batch", "BitAnd", "X", None]
OPERATORS = "$or $and $in $nin $all $size $exists $regex $options $gt $ne $inQuery $select $nearSphere $within $relatedTo $maxDistance $x"
KEY_TEXTS = ["a", "b.c", "objectId", "createdAt", "ACL", "__type", "__op", "className", "iso", "objects", "amount", "key", "query", "where", "$box", "latitude", "longitude", "ops", "ü", "a'b", "", "__ignore_hooks", "username", "password", "authData", "email", "name", "users"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["2020-01-01T00:00:00Z", "Foo", "_User", "abc", "(", "\\Q", *filter(None, map(str, TYPES)), *map(str, OPS)]),
)
KEYS_OF_OBJECTS = st.one_of(st.sampled_from(KEY_TEXTS + OPERATORS.split()), st.text(max_size=4))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(KEYS_OF_OBJECTS, inner, max_size=4),
        st.builds(lambda kind, rest: {"__type": kind, **rest}, st.sampled_from(TYPES), st.dictionaries(KEYS_OF_OBJECTS, inner, max_size=3)),
        st.builds(lambda op, rest: {"__op": op, **rest}, st.sampled_from(OPS), st.dictionaries(KEYS_OF_OBJECTS, inner, max_size=3)),
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS_OF_OBJECTS, VALUES, max_size=5)
WORDS = "select * from Foo where a = 'x' and or not in ( ) [ ] , like regexp is exists near within limit order by desc count include ? 1 -2.5 related to pointer('Foo','x') date('x') null true {".split()


class AppFuzzTest(unittest.TestCase):
    def assert_sane(self, response):
        self.assertNotEqual(response.status, 500, response.body)
        if response.status >= 400:
            self.assertEqual(set(response.json()), {"error", "code"})

    @FUZZ
    @given(st.text(max_size=40), st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]), st.binary(max_size=30))
    @example("/static/\0", "GET", b"")
    def test_any_path_and_body_gets_a_sane_answer(self, path, method, body):
        path = "/" + path.encode("utf-8", "ignore").decode()
        response = Visitor().request(method, path.replace("?", ""), body=body, headers={"Content-Type": "application/json"})
        if method != "HEAD":
            self.assert_sane(response)

    @FUZZ
    @given(st.binary(max_size=60), st.sampled_from(["QUERY_STRING", "HTTP_COOKIE", "HTTP_HOST", "HTTP_X_REAL_IP", "HTTP_RANGE", "HTTP_IF_NONE_MATCH", "HTTP_ORIGIN", "CONTENT_TYPE", "HTTP_X_LC_SIGN"]))
    def test_any_header_gets_a_sane_answer(self, value, name):
        for path in ("/", "/api/todos", "/api/client", "/1.1/functions/hello"):
            self.assert_sane(Visitor().request("GET", path, **{name: value.decode("latin-1")}))

    @FUZZ
    @given(st.one_of(VALUES, OBJECTS))
    def test_any_json_gets_a_sane_answer(self, value):
        for path in ("/api/session", "/api/users", "/1.1/functions/hello"):
            data = json.dumps(value).encode()
            self.assert_sane(Visitor().request("POST", path, body=data, REMOTE_ADDR=f"10.0.{len(data) % 200}.{hash(data) % 250}"))

    @FUZZ
    @given(st.binary(max_size=200), st.text(max_size=20))
    def test_multipart_parser_refuses_or_reads(self, body, boundary):
        import io

        environ = {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
        environ["CONTENT_TYPE"] = f"multipart/form-data; boundary={boundary}"
        try:
            messages.upload(environ, "file", 100).file.close()
        except messages.HTTPError as error:
            self.assertIn(error.status, (400, 413))

    @FUZZ
    @given(st.lists(st.sampled_from(["a", "<x>", "<y>", "b", ""]), max_size=4), st.text("ab/<>x", max_size=8))
    def test_router_finds_or_refuses(self, segments, path):
        try:
            router = Router([("GET", "/" + "/".join(segments), len), ("POST", "/a/b", len)])
        except ValueError:
            return
        try:
            router.match("GET", "/" + path)
        except messages.HTTPError as error:
            self.assertIn(error.status, (404, 405))


class CorpusTest(ServiceTestCase):
    def test_every_kept_input_is_answered_or_refused(self):
        corpus = sorted((ROOT / "tests" / "corpus").glob("*/*"))
        targets = Targets(self.application)
        self.assertEqual({path.parent.name for path in corpus}, set(SEEDS))
        for path in corpus:
            with self.subTest(path.relative_to(ROOT)):
                getattr(targets, path.parent.name)(path.read_bytes())


class StorageFuzzTest(ServiceTestCase):
    def send(self, method, path, body=None, query="", headers=APP, data=None):
        data = json.dumps(body).encode() if data is None else data
        response = call(self.application, method, path, data, headers, query=query, HTTP_HOST="x")
        self.assertNotEqual(response.status, 500, (method, path, body, query, response.body))
        self.assertIn("application/json", response.header("Content-Type"))
        return response

    @FUZZ
    @given(OBJECTS)
    def test_any_object_is_stored_and_read_or_refused(self, body):
        response = self.send("POST", "/1.1/classes/Fuzz", body)
        if response.status == 201:
            object_id = response.json()["objectId"]
            self.assertEqual(self.send("GET", f"/1.1/classes/Fuzz/{object_id}").status, 200)
            self.send("PUT", f"/1.1/classes/Fuzz/{object_id}", body, "new=true")
            self.assertEqual(self.send("GET", "/1.1/classes/Fuzz", query="limit=3").status, 200)

    @FUZZ
    @given(OBJECTS, st.sampled_from(["a", "-createdAt", "b.c,-a", "a'", ""]))
    def test_any_where_is_answered_or_refused(self, where, order):
        from urllib.parse import urlencode

        self.send("POST", "/1.1/classes/Fuzz", {"a": 1})
        query = urlencode({"where": json.dumps(where), "order": order, "count": 1, "include": order, "keys": order})
        self.assertIn(self.send("GET", "/1.1/classes/Fuzz", None, query).status, (200, 400, 403))

    @FUZZ
    @given(st.lists(st.sampled_from(WORDS), max_size=25), st.one_of(st.none(), VALUES))
    def test_any_cql_is_answered_or_refused(self, words, pvalues):
        from urllib.parse import urlencode

        self.send("POST", "/1.1/classes/Foo", {"a": "x"})
        text = " ".join(["select * from Foo where", *words])
        query = urlencode({"cql": text, "pvalues": json.dumps(pvalues)})
        self.assertIn(self.send("GET", "/1.1/cloudQuery", None, query).status, (200, 400, 404))

    @FUZZ
    @given(OBJECTS)
    def test_any_user_batch_and_token_is_answered_or_refused(self, body):
        self.send("POST", "/1.1/users", {"username": "u", **body})
        self.send("POST", "/1.1/login", {"username": "u", "password": "x", **body} if "password" not in body else body)
        self.send("POST", "/1.1/roles", {"name": "x", "ACL": {}, **body})
        self.send("POST", "/1.1/fileTokens", {"name": "x", **body})
        self.send("POST", "/1.1/files", {"url": "x", **body})
        self.send("POST", "/1.1/batch", {"requests": [{"method": "POST", "path": "/1.1/classes/Fuzz", "body": body}, body]})

    @FUZZ
    @given(st.binary(max_size=50), st.sampled_from(sorted(APP) + ["X-LC-Sign", "X-LC-Session", "X-LC-Hook-Key", "X-LC-Prod", "X-Uluru-Master-Key"]))
    def test_any_credential_is_answered_or_refused(self, value, name):
        headers = {**APP, name: value.decode("latin-1")}
        if name == "X-LC-Sign":
            del headers["X-LC-Key"]
        self.assertIn(self.send("GET", "/1.1/classes/_Role", headers=headers).status, (200, 401))

    @FUZZ
    @given(st.text(max_size=30), st.sampled_from(["GET", "POST", "PUT", "DELETE"]), st.binary(max_size=40))
    def test_any_path_is_answered_or_refused(self, path, method, data):
        path = "/1.1/" + path.encode("utf-8", "ignore").decode().replace("?", "")
        self.send(method, path, data=data)


if __name__ == "__main__":
    unittest.main()
