"""The cloud-function door, beside the raw engine where the SDK lets in whom it should not."""
import hashlib
import io
import json
import os
import unittest
from contextlib import redirect_stderr
from unittest import mock

import leancloud
from leancloud import Engine
from leancloud.object_ import object_class_map

from leanengine import cloud_code
from tests.support import call, needs_storage

KEYS = {
    "LEANCLOUD_APP_ID": os.environ["LEANCLOUD_APP_ID"],
    "LEANCLOUD_APP_KEY": os.environ["LEANCLOUD_APP_KEY"],
    "LEANCLOUD_APP_MASTER_KEY": os.environ["LEANCLOUD_APP_MASTER_KEY"],
    "LEANCLOUD_APP_HOOK_KEY": os.environ["LEANCLOUD_APP_HOOK_KEY"],
}
APP = {"X-LC-Id": KEYS["LEANCLOUD_APP_ID"], "X-LC-Key": KEYS["LEANCLOUD_APP_KEY"]}
MASTER = {"X-LC-Id": KEYS["LEANCLOUD_APP_ID"], "X-LC-Key": KEYS["LEANCLOUD_APP_MASTER_KEY"] + ",master"}
HOOK = {**APP, "X-LC-Hook-Key": KEYS["LEANCLOUD_APP_HOOK_KEY"]}


def inside(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"inside"]


def signed(key, suffix="", ms="1453014943466"):
    digest = hashlib.md5((ms + key).encode()).hexdigest()
    return {"X-LC-Id": KEYS["LEANCLOUD_APP_ID"], "X-LC-Sign": f"{digest},{ms}{suffix}"}


class DoorTest(unittest.TestCase):
    def setUp(self):
        self.engine = Engine()
        self.engine.origin_app = inside
        self.seen = []

        @self.engine.define
        def whoami():
            user = self.engine.current.user
            return user and user.id

        @self.engine.define
        def add(a, b=1):
            return a + b

        @self.engine.before_save("Thing")
        def check(thing):
            self.seen.append(thing)

        self.guarded = cloud_code.guard_engine(self.engine, KEYS)
        self.addCleanup(leancloud.User.set_current, None)

    def post(self, path, body=None, headers=APP, app=None, data=None, method="POST", **more):
        data = json.dumps(body if body is not None else {}).encode() if data is None else data
        headers = {"Content-Type": "application/json", **headers}
        return call(app or self.guarded, method, path, data, headers, **more)

    def raw(self, said, *arguments, **more):
        """The raw engine's answer to `post`; its traceback on stderr must say `said`."""
        with redirect_stderr(io.StringIO()) as stderr:
            response = self.post(*arguments, app=self.engine, **more)
        self.assertIn(said, stderr.getvalue())
        return response

    def test_ping_is_answered_once(self):
        for path in ("/__engine/1/ping", "/__engine/1.1/ping", "//__engine/1/ping"):
            response = call(self.guarded, "GET", path)
            self.assertEqual(response.status, 200)
            self.assertEqual(set(response.json()), {"runtime", "version"})

    def test_raw_ping_calls_start_response_twice(self):
        calls = []
        environ = {"PATH_INFO": "/__engine/1/ping", "REQUEST_METHOD": "GET", "SERVER_NAME": "x", "SERVER_PORT": "80"}
        environ["wsgi.url_scheme"] = "http"
        b"".join(self.engine(environ, lambda *arguments: calls.append(arguments)))
        self.assertEqual(len(calls), 2)

    def test_body_of_a_stranger_is_never_parsed(self):
        data = b"[" + b"[]," * 300_000 + b"[]]"
        for headers in ({}, {**APP, "X-LC-Key": "wrong"}):
            for content_type in ("application/json", "text/plain"):
                with self.subTest(headers=headers, content_type=content_type):
                    with mock.patch.object(cloud_code.messages, "parse_json", side_effect=AssertionError("parsed")):
                        response = self.post("/1.1/functions/add", data=data, headers={"Content-Type": content_type, **headers})
                    self.assertEqual(response.status, 401)

    def test_form_of_old_browsers_is_read_at_length_once_headers_say_whose_it_is(self):
        text = {"a": "x" * (1 << 17), "b": "y"}
        inside = {"_ApplicationId": APP["X-LC-Id"], "_ApplicationKey": APP["X-LC-Key"]}
        rows = [({}, {**inside, **text}, 401), (APP, text, 200), (APP, {**inside, **text}, 200)]
        for headers, body, status in rows:
            with self.subTest(headers=headers, status=status):
                response = self.post("/1.1/functions/add", body, headers={"Content-Type": "text/plain", **headers})
                self.assertEqual(response.status, status)

    @needs_storage
    def test_strangers_are_401(self):
        rows = {
            "nothing": {},
            "only the public id": {"X-LC-Id": KEYS["LEANCLOUD_APP_ID"]},
            "wrong key": {**APP, "X-LC-Key": "x"},
            "wrong id": {**APP, "X-LC-Id": "x"},
            "master key without its suffix": {**APP, "X-LC-Key": KEYS["LEANCLOUD_APP_MASTER_KEY"]},
            "app key as master": {**APP, "X-LC-Key": KEYS["LEANCLOUD_APP_KEY"] + ",master"},
            "two commas": {**APP, "X-LC-Key": "a,b,master"},
            "sign of None": signed("None", ",ax-sig-1"),
            "sign in upper case": {**APP, "X-LC-Key": "", "X-LC-Sign": signed(KEYS["LEANCLOUD_APP_KEY"])["X-LC-Sign"].upper()},
            "sign of one part": {"X-LC-Id": KEYS["LEANCLOUD_APP_ID"], "X-LC-Sign": "x"},
            "sign of four parts": signed(KEYS["LEANCLOUD_APP_KEY"], ",master,x"),
            "sign as master by the app key": signed(KEYS["LEANCLOUD_APP_KEY"], ",master"),
            "not ASCII": {**APP, "X-LC-Key": "\xff"},
        }
        for name, headers in rows.items():
            with self.subTest(name):
                response = self.post("/1.1/functions/add", {"a": 1}, headers)
                self.assertEqual((response.status, response.json()["code"]), (401, 401))

    def test_raw_engine_lets_a_stranger_in_when_its_android_key_is_unset(self):
        headers = {"X-LC-Id": KEYS["LEANCLOUD_APP_ID"]}
        with mock.patch("leancloud.engine.authorization.ANDX_KEY", None):
            self.assertEqual(self.post("/1.1/functions/add", {"a": 1}, headers, self.engine).status, 200)
            self.assertEqual(self.post("/1.1/functions/add", {"a": 1}, headers).status, 401)
        self.assertEqual(self.post("/1.1/functions/add", {"a": 1}, headers, self.engine).status, 401)
        self.assertTrue(os.environ["LEANCLOUD_APP_ANDX_KEY"])

    def test_callers_with_a_key_or_a_signature_are_let_in(self):
        rows = [
            APP,
            MASTER,
            signed(KEYS["LEANCLOUD_APP_KEY"]),
            signed(KEYS["LEANCLOUD_APP_MASTER_KEY"], ",master"),
            {"X-AVOSCloud-Application-Id": KEYS["LEANCLOUD_APP_ID"], "X-AVOSCloud-Application-Key": KEYS["LEANCLOUD_APP_KEY"]},
            {"X-Uluru-Application-Id": KEYS["LEANCLOUD_APP_ID"], "X-Uluru-Master-Key": KEYS["LEANCLOUD_APP_MASTER_KEY"]},
        ]
        for headers in rows:
            for path in ("/1.1/functions/add", "/1/functions/add", "/__engine/1.1/functions/add", "/1.1/call/add"):
                with self.subTest(path=path, headers=list(headers)):
                    response = self.post(path, {"a": 1}, headers)
                    self.assertEqual((response.status, response.json()), (200, {"result": 2}))
        body = {"a": 2, "_ApplicationId": KEYS["LEANCLOUD_APP_ID"], "_ApplicationKey": KEYS["LEANCLOUD_APP_KEY"]}
        response = self.post("/1.1/functions/add", body, {"Content-Type": "text/plain"})
        self.assertEqual(response.json(), {"result": 3})

    def test_user_in_the_body_is_refused(self):
        body = {"user": {"objectId": "victim", "sessionToken": "x"}}
        raw = self.raw("unexpected keyword argument 'user'", "/1.1/functions/whoami", body)
        self.assertNotEqual(raw.status, 401)  # the SDK takes it for the user, then trips over the argument
        self.assertEqual(self.post("/1.1/functions/whoami", body).status, 400)
        self.assertEqual(self.post("/1.1/functions/whoami").json(), {"result": None})

        @self.engine.define
        def seen(**parameters):
            return sorted(parameters)

        for path in ("/1.1/functions/seen", "/1.1/call/seen"):
            with self.subTest(path):
                refused = self.post(path, body)
                self.assertEqual(refused.status, 400)
                self.assertIn("'user' is reserved", refused.json()["error"])
                self.assertEqual(self.post(path, {"name": 1}).json(), {"result": ["name"]})

    def test_hooks_need_the_hook_key_and_internal_functions_too(self):
        body = {"object": {"a": 1}}
        raw = self.post("/1.1/functions/__before_save_for_Thing", {"thing": 1}, app=self.engine)
        self.assertEqual((raw.status, len(self.seen)), (200, 1))  # a stranger ran the hook
        for path in (
            "/1.1/functions/__before_save_for_Thing",
            "/1.1/functions/%5f_before_save_for_Thing".replace("%5f", "_"),
            "//1.1/functions/__before_save_for_Thing",
            "/1.1/call/__before_save_for_Thing",
            "/1.1/functions/Thing/beforeSave",
            "/1.1/functions/_messageReceived",
            "/1.1/functions/_User/onLogin",
        ):
            for headers in (APP, MASTER, {**APP, "X-LC-Hook-Key": "x"}, {**APP, "X-LC-Hook-Key": ""}):
                with self.subTest(path=path, headers=list(headers)):
                    self.assertEqual(self.post(path, body, headers).status, 401)
        self.assertEqual(len(self.seen), 1)
        self.assertEqual(self.post("/1.1/functions/Thing/beforeSave", body, HOOK).status, 200)
        self.assertEqual(len(self.seen), 2)

    def test_unregistered_hooks_and_unknown_paths_are_404_json(self):
        raw = self.raw("NotAcceptable", "/1.1/functions/Thing/afterSave", {"object": {}}, HOOK)
        self.assertEqual(raw.status, 500)
        for path in (
            "/1.1/functions/Thing/afterSave",
            "/1.1/functions/Other/beforeSave",
            "/1.1/functions/Thing/other",
            "/1.1/functions/nothing",
            "/1.1/functions/_nothing",
            "/1.1/functions/__nothing",
            "/1.1/functions/__before_save_for_Thing",
            "/1.1/functions/",
            "/1.1/functionsX",
            "/1.1/functions/a/b/c",
            "/__engine/other",
            "/__engine/",
            "/1.1/call/a/b",
        ):
            with self.subTest(path):
                response = self.post(path, {"object": {}}, HOOK)
                self.assertEqual((response.status, set(response.json())), (404, {"error", "code"}))

    def test_malformed_bodies_are_400(self):
        for data in (b"{", b"[]", b'"x"', b"5", b"\xff", b'{"a": NaN}', b"[" * 50_000):
            with self.subTest(data[:10]):
                self.assertEqual(self.post("/1.1/functions/add", data=data).status, 400)
        self.assertEqual(self.post("/1.1/functions/add", data=b'{"a": "' + b"x" * (1 << 20) + b'"}').status, 413)
        for body in ({}, {"object": None}, {"object": []}):
            self.assertEqual(self.post("/1.1/functions/Thing/beforeSave", body, HOOK).status, 400)

    def test_missing_argument_is_400_and_names_it(self):
        self.assertEqual(self.raw("missing 1 required", "/1.1/functions/add", {}).status, 500)
        response = self.post("/1.1/functions/add", {})
        self.assertEqual(response.status, 400)
        self.assertIn("'a'", response.json()["error"])

    def test_value_with_a_malformed_type_is_400(self):
        date = {"__type": "Date", "iso": "2020-01-01T00:00:00.000Z"}
        rows = [
            {"__type": "Pointer"},
            {"__type": "Pointer", "className": "A"},
            {"__type": "Pointer", "className": 1, "objectId": "a"},
            {"__type": "Pointer", "className": "A\u0000", "objectId": "a"},
            {"__type": "Object"},
            {"__type": "Date"},
            {"__type": "Date", "iso": "x"},
            {"__type": "Date", "iso": "9999-99-99"},
            {"__type": "Date", "iso": None},
            {"__type": "GeoPoint", "latitude": "x", "longitude": 1},
            {"__type": "GeoPoint", "latitude": 91, "longitude": 1},
            {"__type": "Relation"},
            {"__type": "File", "name": "x"},
            {"__type": "Object", "className": "A", "createdAt": 5},
            {"__type": "Object", "className": "A", "x": [{"__type": "Date"}]},
        ]
        for value in rows:
            with self.subTest(value):
                raw = {"a": value, "b": 0}
                if "\0" not in str(value.get("className")):
                    self.assertEqual(self.raw("Traceback", "/1.1/call/add", raw).status, 500)
                self.assertEqual(self.post("/1.1/call/add", raw).status, 400)
                self.assertEqual(self.post("/1.1/call/add", {"a": [{"x": value}]}).status, 400)
        for body in (date, {**date, "a": 1}, {"__type": "Other", "a": 1}):
            with self.subTest(body):
                self.assertEqual(self.raw("Traceback", "/1.1/call/add", body).status, 500)
                self.assertEqual(self.post("/1.1/call/add", body).status, 400)
                self.assertEqual(self.post("/1.1/functions/add", body).status, 400)

    def test_value_with_a_type_reaches_the_function_decoded(self):
        @self.engine.define
        def kinds(**values):
            return sorted(type(value).__name__ for value in values.values())

        values = {
            "p": {"__type": "Pointer", "className": "Thing", "objectId": "a"},
            "d": {"__type": "Date", "iso": "2020-01-01T00:00:00.000Z"},
            "g": {"__type": "GeoPoint", "latitude": 1, "longitude": 2},
            "l": [{"__type": "Pointer", "className": "Thing", "objectId": "a"}],
        }
        self.assertEqual(self.post("/1.1/call/kinds", values).json(), {"result": ["GeoPoint", "Thing", "datetime", "list"]})
        self.assertEqual(self.post("/1.1/functions/kinds", values).json(), {"result": ["dict", "dict", "dict", "list"]})

    def test_values_with_a_type_nested_deeply_are_400_before_they_are_decoded(self):
        def nested(levels):
            value = [0] * 30_000
            for _ in range(levels):
                value = {"__type": "Object", "className": "Thing", "x": value}
            return json.dumps({"a": value}, separators=(",", ":")).encode()

        with mock.patch.object(leancloud.utils, "decode", side_effect=AssertionError("decoded")):
            self.assertEqual(self.post("/1.1/call/add", data=nested(90)).status, 400)  # the SDK copies it at every level
        with redirect_stderr(io.StringIO()):  # the function, which cannot add it
            self.assertNotEqual(self.post("/1.1/call/add", data=nested(8)).status, 400)

    def test_class_names_of_callers_are_not_remembered_for_ever(self):
        leancloud.Object.extend("OwnClass")
        self.addCleanup(cloud_code._own_classes.cache_clear)
        cloud_code._own_classes.cache_clear()
        for call_number in range(4):
            values = [{"__type": "Pointer", "className": f"C{call_number}_{i}", "objectId": "a"} for i in range(1000)]
            self.assertNotEqual(self.post("/1.1/call/add", {"a": values, "b": []}).status, 400)
        self.assertLess(len(object_class_map), len(cloud_code._own_classes()) + 2 * cloud_code.MAX_CLASSES + 1)
        self.assertIn("OwnClass", object_class_map)

    def test_further_headers_that_the_sdk_would_trip_over_are_taken_away(self):
        for more in (
            {"X-LC-Sign": "x"},
            {"X-AVOSCloud-Request-Sign": "no,comma,here,or,more"},
            {"X-Uluru-Master-Key": "wrong"},
            {"X-Uluru-Application-Key": "wrong", "X-AVOSCloud-Application-Id": "wrong"},
        ):
            with self.subTest(more):
                self.assertEqual(self.post("/1.1/functions/add", {"a": 1}, {**APP, **more}).json(), {"result": 2})

    def test_preflight_is_answered_without_a_body(self):
        with self.assertRaises(AssertionError):
            call(self.engine, "OPTIONS", "/1.1/functions/add")
        response = call(self.guarded, "OPTIONS", "/1.1/functions/add")
        self.assertEqual((response.status, response.body), (204, b""))
        self.assertEqual(response.header("Access-Control-Allow-Origin"), "*")
        self.assertEqual(self.post("/1.1/functions/add", method="PUT").status, 405)

    def test_functions_may_be_got_and_hooks_only_posted(self):
        for path, headers, status in (
            ("/1.1/functions/whoami", APP, 200),
            ("/1.1/call/whoami", APP, 200),
            ("/1.1/functions/_ops/metadatas", MASTER, 200),
            ("/1.1/functions/Thing/beforeSave", HOOK, 405),
            ("/1.1/functions/onVerified/sms", HOOK, 405),
        ):
            with self.subTest(path):
                self.assertEqual(self.post(path, headers=headers, method="GET").status, status)
                self.assertEqual(self.post(path, headers=headers, method="DELETE").status, 405)

    def test_path_of_a_hook_is_known_by_both_of_its_parts(self):
        codes = {"__on_verified_sms", "__on_complete_bigquery_job", "__on_login__User", "__before_save_for_Thing", "plain"}
        for first, second, is_known in (
            ("onVerified", "sms", True),
            ("onVerified", "email", False),
            ("BigQuery", "onComplete", True),
            ("BigQuery", "beforeSave", False),
            ("_User", "onLogin", True),
            ("Other", "onLogin", False),
            ("Thing", "beforeSave", True),
            ("Other", "beforeSave", False),
            ("plain", None, True),
            ("__on_verified_sms", None, False),
        ):
            with self.subTest(first=first, second=second):
                self.assertIs(cloud_code._is_registered(first, second, dict.fromkeys(codes)), is_known)
        self.assertIs(cloud_code._is_registered("BigQuery", "onComplete", {}), False)

    def test_list_of_functions_needs_the_master_key(self):
        path = "/1.1/functions/_ops/metadatas"
        self.assertEqual(call(self.guarded, "GET", path, headers=APP).status, 401)
        names = call(self.guarded, "GET", path, headers=MASTER).json()["result"]
        self.assertEqual(set(names), {"whoami", "add", "__before_save_for_Thing"})

    @needs_storage
    def test_invalid_session_is_401(self):
        headers = {**APP, "X-LC-Session": "nobody's"}
        with self.assertRaises(leancloud.LeanCloudError):
            self.post("/1.1/functions/whoami", headers=headers, app=self.engine)
        response = self.post("/1.1/functions/whoami", headers=headers)
        self.assertEqual((response.status, response.json()), (401, {"code": 211, "error": "the session is not valid"}))

    @needs_storage
    def test_session_that_storage_does_not_look_up_for_wrong_keys_is_502(self):
        with mock.patch.object(leancloud.client, "APP_KEY", "wrong"), redirect_stderr(io.StringIO()):
            response = self.post("/1.1/functions/whoami", headers={**APP, "X-LC-Session": "somebody's"})
        self.assertEqual((response.status, response.json()["error"]), (502, "storage refuses this app's keys"))

    def test_every_other_path_goes_inside(self):
        for path in ("/", "/1.1/classes/Todo", "/__engin", "/x/1.1/functions/add"):
            self.assertEqual(call(self.guarded, "GET", path).body, b"inside")


if __name__ == "__main__":
    unittest.main()
