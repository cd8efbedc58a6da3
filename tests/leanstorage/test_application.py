"""Transport and credentials: sections 0 and 1 of the protocol."""
import hashlib
import json
import time
from unittest import mock

from tests.leanstorage.service_support import KEYS, ServiceTestCase

APP = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}


class TransportTest(ServiceTestCase):
    def test_date_needs_no_headers(self):
        value = self.raw("GET", "/1.1/date").json()
        self.assertEqual(value["__type"], "Date")
        self.assertRegex(value["iso"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")

    def test_first_slash_may_be_doubled_and_version_shortened(self):
        for path in ("//1.1/date", "/1/date", "/1.1//date"):
            self.assertEqual(self.raw("GET", path).status, 200)

    def test_every_answer_is_json_and_may_be_read_from_any_origin(self):
        rows = [
            ("GET", "/1.1/nothing", 404),
            ("PUT", "/1.1/date", 405),
            ("GET", "/", 404),
            ("POST", "/x", 404),
            ("GET", "/1.1/classes/Foo", 401),
            ("OPTIONS", "/1.1/classes/Foo", 200),
            ("GET", "/unknownkey", 404),
        ]
        for method, path, status in rows:
            with self.subTest(method=method, path=path):
                response = self.raw(method, path)
                self.assertEqual(response.status, status)
                self.assertEqual(response.header("Content-Type"), "application/json;charset=utf-8")
                self.assertEqual(response.header("Access-Control-Allow-Origin"), "*")
                self.assertEqual("error" in response.json(), status >= 400)
                self.assertEqual(response.header("Cache-Control"), "no-cache,no-store")
                self.assertEqual(response.header("X-Content-Type-Options"), "nosniff")

    def test_preflight_names_methods_and_every_header(self):
        response = self.raw("OPTIONS", "/1.1/classes/Foo")
        self.assertIn("PUT", response.header("Access-Control-Allow-Methods"))
        for name in ("X-LC-Sign", "X-LC-Session", "Content-Type", "X-Uluru-Session-Token", "X-LC-Hook-Key"):
            self.assertIn(name, response.header("Access-Control-Allow-Headers"))

    def test_body_of_a_get_is_passed_over(self):
        self.make("Foo")
        response = self.raw("GET", "/1.1/classes/Foo", b"null", APP)
        self.assertEqual(response.status, 200)

    def test_body_above_twenty_megabytes_is_413(self):
        response = self.raw("POST", "/1.1/classes/Foo", b" " * ((20 << 20) + 1), APP)
        self.assertEqual((response.status, response.json()["code"]), (413, 413))

    def test_malformed_bodies_are_107_and_store_nothing(self):
        self.make("Foo")
        before = self.digest()
        for data in (b"{", b"[]", b"5", b'"x"', b'{"a": NaN}', b'{"a": 1e999}', b"\xff", b"[" * 50_000, b'{"a":"\\ud800"}'):
            with self.subTest(data[:12]):
                response = self.raw("POST", "/1.1/classes/Foo", data, APP)
                self.assertEqual((response.status, response.json()["code"]), (400, 107))
        self.assertEqual(self.digest(), before)

    def test_nul_characters_in_forms_and_paths_are_107(self):
        self.make("Foo")
        form = {**APP, "Content-Type": "application/x-www-form-urlencoded"}
        before = self.digest()
        answers = [
            self.raw("POST", "/1.1/users", b"username=alice%00&password=x", form),
            self.raw("POST", "/1.1/users", b"user%00name=alice&password=x", form),
            self.raw("GET", "/1.1/verifyEmail/a\0", headers=APP),
            self.raw("GET", "/a\0.png"),
        ]
        self.assertEqual([(answer.status, answer.json()["code"]) for answer in answers], [(400, 107)] * 4)
        [item] = self.api("POST", "/batch", {"requests": [{"method": "GET", "path": "/1.1/verifyEmail/a%00"}]})
        self.assertEqual(item["error"]["code"], 107)
        self.assertEqual(self.digest(), before)

    def test_repeated_where_is_107(self):
        object_id = self.make("Foo", a=1)
        for query in ("where=%7B%7D&where=%7B%22a%22%3A2%7D", "where=%7B%22a%22", "where=null", "where=5"):
            with self.subTest(query):
                self.code(107, "PUT", f"/classes/Foo/{object_id}?{query}", {"a": 2})
        self.assertEqual(self.get("Foo", object_id)["a"], 1)

    def test_large_answer_is_gzipped_on_request(self):
        self.make("Big", text="x" * 5000)
        response = self.raw("GET", "/1.1/classes/Big", headers={**APP, "Accept-Encoding": "gzip"})
        self.assertEqual(response.header("Content-Encoding"), "gzip")
        self.assertLess(len(response.body), 1000)

    def test_hostile_names_confuse_no_route(self):
        object_id = self.make("Foo", a=1)
        rows = [
            (f"/classes/Foo/..%2f_User/{object_id}", (400, 404)),
            ("/classes/Foo/../_User", (400, 404)),
            ("/classes/_Secret", (400,)),
            ("/classes/Foo Bar", (400,)),
            ("/classes/1Foo", (400,)),
            ("/classes/Foo/a'b", (400,)),
            ("/classes/Foo\n", (400,)),
            ("/functions/../classes", (404,)),
        ]
        for path, statuses in rows:
            with self.subTest(path):
                response = self.raw("GET", "/1.1" + path, headers=APP, QUERY_STRING="")
                self.assertIn(response.status, statuses)

    def test_host_that_is_malformed_is_refused_where_urls_are_made(self):
        response = self.raw("GET", "/1.1/classes/Foo", headers={**APP, "Host": "a b"})
        self.assertEqual(response.status, 400)


class CredentialsTest(ServiceTestCase):
    def status(self, headers, path="/1.1/classes/_Status", **environ):
        response = self.raw("GET", path, headers=headers, **environ)
        if response.status == 401:
            self.assertEqual(response.json(), {"code": 401, "error": "Unauthorized."})
        return response.status

    def test_credentials_that_are_missing_or_wrong_are_401(self):
        rows = {
            "nothing": {},
            "no key": {"X-LC-Id": KEYS["id"]},
            "wrong id": {**APP, "X-LC-Id": "x"},
            "wrong key": {**APP, "X-LC-Key": "x"},
            "master key without its suffix": {**APP, "X-LC-Key": KEYS["master_key"]},
            "app key as master": {**APP, "X-LC-Key": KEYS["key"] + ",master"},
            "not ASCII": {**APP, "X-LC-Key": "\xff\xfe"},
            "hook key alone": {"X-LC-Id": KEYS["id"], "X-LC-Hook-Key": KEYS["hook_key"]},
        }
        for name, headers in rows.items():
            with self.subTest(name):
                self.assertEqual(self.status(headers), 401)

    def test_every_alias_of_the_headers_is_known(self):
        for prefix in ("X-AVOSCloud", "X-Uluru"):
            base = {f"{prefix}-Application-Id": KEYS["id"]}
            self.assertEqual(self.status({**base, f"{prefix}-Application-Key": KEYS["key"]}), 200)
            self.assertEqual(self.status({**base, f"{prefix}-Master-Key": KEYS["master_key"]}), 200)
            self.assertEqual(self.status({**base, f"{prefix}-Master-Key": "x"}), 401)
        self.assertEqual(self.status({"X-LC-Id": KEYS["id"], "X-AVOSCloud-Super-Key": KEYS["master_key"]}), 200)

    def test_signatures_of_both_vectors_are_accepted_and_malformed_ones_refused(self):
        app, master = "d5bcbb897e19b2f6633c716dfdfaf9be", "e074720658078c898aa0d4b1b82bdf4b"
        ms = "1453014943466"
        rows = [
            (200, f"{app},{ms}"),
            (200, f"{master},{ms},master"),
            (401, f"{app.upper()},{ms}"),
            (401, f"{app},{ms},master"),
            (401, f"{master},{ms}"),
            (401, app),
            (401, f"{app},{ms},master,x"),
            (401, f"{app},x"),
            (401, f"{app},{ms},ax-sig-1"),
            (401, hashlib.md5((ms + "None").encode()).hexdigest() + f",{ms},ax-sig-1"),
            (401, ",,"),
        ]
        for name in ("X-LC-Sign", "X-AVOSCloud-Request-Sign"):
            for status, sign in rows:
                with self.subTest(sign):
                    self.assertEqual(self.status({"X-LC-Id": KEYS["id"], name: sign}), status)

    def test_signature_is_good_for_as_long_as_the_option_says(self):
        ms = int(time.time() * 1000)
        with mock.patch.object(self.service.options, "sign_max_age_s", 300):
            for status, sent in ((200, ms), (200, ms - 200_000), (401, ms - 400_000), (401, ms + 400_000)):
                digest = hashlib.md5(f"{sent}{KEYS['key']}".encode()).hexdigest()
                with self.subTest(sent - ms):
                    self.assertEqual(self.status({"X-LC-Id": KEYS["id"], "X-LC-Sign": f"{digest},{sent}"}), status)

    def test_text_plain_form_carries_credentials_and_method(self):
        def send(body, **headers):
            credentials = {"_ApplicationId": KEYS["id"], "_ApplicationKey": KEYS["key"]}
            data = json.dumps({**credentials, **body}).encode()
            return self.raw("POST", headers.pop("path"), data, {"Content-Type": "text/plain;charset=utf-8"})

        made = send({"a": 1, "_SessionToken": "x", "_ClientVersion": "js"}, path="/1.1/classes/Plain")
        self.assertEqual(made.status, 201)
        path = f"/1.1/classes/Plain/{made.json()['objectId']}"
        self.assertEqual(send({"a": 2, "_method": "PUT"}, path=path).status, 200)
        found = send({"_method": "GET", "where": {"a": 2}}, path="/1.1/classes/Plain").json()["results"]
        self.assertEqual([set(row) for row in found], [{"a", "objectId", "createdAt", "updatedAt"}])
        self.assertEqual(send({"_method": "DELETE"}, path=path).json(), {})
        self.assertEqual(self.raw("POST", "/1.1/classes/Plain", b"{}", {"Content-Type": "text/plain"}).status, 401)

    def test_master_only_calls_refuse_clients(self):
        self.assertEqual(self.code(1, "GET", "/schemas"), "The request must be signed by master key.")
        self.code(1, "GET", "/scan/classes/_Role")
        self.assertIn("objectId", self.api("GET", "/schemas/_User", master=True))
        self.code(101, "GET", "/schemas/Nothing", master=True, status=404)


class RefusedTest(ServiceTestCase):
    def test_what_is_not_supported_is_refused_in_so_many_words(self):
        rows = [
            ("POST", "/push", 400, 1),
            ("GET", "/tables/Notifications/x", 400, 1),
            ("POST", "/rtm/messages", 400, 1),
            ("POST", "/LiveQuery/subscribe", 400, 1),
            ("GET", "/leaderboard/leaderboards/x", 400, 1),
            ("GET", "/search/select", 400, 1),
            ("POST", "/bigquery/jobs", 400, 1),
            ("POST", "/files/x/censor", 400, 1),
            ("POST", "/users/friendshipRequests", 400, 1),
            ("GET", "/login", 405, 1),
            ("POST", "/requestSmsCode", 400, 119),
            ("GET", "/requestCaptcha", 400, 119),
            ("POST", "/verifySmsCode/1", 400, 603),
            ("POST", "/usersByMobilePhone", 400, 603),
            ("PUT", "/resetPasswordBySmsCode/1", 400, 603),
            ("POST", "/requestMobilePhoneVerify", 400, 213),
            ("POST", "/requestChangePhoneNumber", 400, 119),
        ]
        for method, path, status, code in rows:
            with self.subTest(path):
                body = {} if method != "GET" else None
                self.assertIn("not" if code != 213 else "mobile", self.code(code, method, path, body, status=status))
