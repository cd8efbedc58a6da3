"""What somebody without a key, or with the app key that every front end ships, can make the service do."""
import io
import json
import socket
import time
from contextlib import ExitStack, redirect_stderr
from unittest import mock
from urllib.parse import urlencode

from leanstorage.__main__ import parser
from leanstorage.http import application
from leanstorage.rules import call as rules_call
from leanstorage.rules.call import Caller, Traffic
from leanstorage.resources import batch, files, mail, objects
from leanstorage.rules import passwords, rendering
from leanwsgi import messages
from leanstorage.store import transaction as store_transaction
from leanstorage.store.paths import values_at
from leanstorage.store.sqlite import store as sqlite_store
from leanstorage.store.sqlite.compiler import reached_text
from tests.leanstorage.service_support import KEYS, pointer, ServiceTestCase
from tests.leanstorage.storage_support import StorageTestCase
from tests.leanstorage.test_hooks import HookCase
from tests.support import call

APP = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
IN_BODY = {"_ApplicationId": KEYS["id"], "_ApplicationKey": KEYS["key"]}


class BodyTest(ServiceTestCase):
    def test_body_of_a_stranger_is_never_parsed(self):
        data = b"[" + b"[]," * (5 << 20) + b"[]]"
        wrong = {**APP, "X-LC-Key": "wrong"}
        rows = [
            ("POST", "/1.1/classes/Foo", {"Content-Type": "application/json"}),
            ("POST", "/1.1/classes/Foo", wrong),
            ("PUT", "/1.1/classes/Foo/0123456789abcdef01234567", wrong),
            ("POST", "/1.1/batch", {**wrong, "X-LC-Session": "x"}),
            ("POST", "/1.1/classes/Foo", {"Content-Type": "text/plain"}),
            ("POST", "/1.1/classes/Foo", {**wrong, "Content-Type": "text/plain;charset=utf-8"}),
        ]
        for method, path, headers in rows:
            with self.subTest(method=method, path=path, headers=headers):
                with mock.patch.object(messages, "parse_json", side_effect=AssertionError("parsed")):
                    response = self.raw(method, path, data, headers)
                self.assertEqual((response.status, response.json()["code"]), (401, 401))

    def test_body_that_needs_no_key_is_short(self):
        with mock.patch.object(messages, "parse_json", side_effect=AssertionError("parsed")):
            response = self.raw("POST", "/1.1/resetPassword/x", b"[]" * (1 << 20), {"Content-Type": "application/json"})
        self.assertEqual(response.status, 413)

    def test_form_of_old_browsers_is_read_at_length_once_headers_say_whose_it_is(self):
        text = {"text": "x" * (1 << 17)}
        rows = [
            ({"Content-Type": "text/plain"}, {**IN_BODY, "text": "short"}, 201),
            ({"Content-Type": "text/plain"}, {**IN_BODY, **text}, 401),
            ({**APP, "Content-Type": "text/plain"}, text, 201),
            ({**APP, "Content-Type": "text/plain"}, {**IN_BODY, **text}, 201),
        ]
        for headers, body, status in rows:
            with self.subTest(headers=headers, status=status):
                response = self.raw("POST", "/1.1/classes/Form", json.dumps(body).encode(), headers)
                self.assertEqual(response.status, status)


class UploadTest(StorageTestCase):
    def setUp(self):
        super().setUp()
        self.storage = self.start()

    def token(self):
        status, token = self.storage.request("POST", "/fileTokens", {"name": "a.txt", "mime_type": "text/plain"})
        self.assertEqual(status, 201)
        return token["upload_url"].rpartition("/")[2]

    def begin(self, token, head=""):
        """The first line of the answer to the headers of a long upload, of whose body nothing is sent."""
        with socket.create_connection(("127.0.0.1", self.storage._server.port), 5) as connection:
            lines = f"PUT /1.1/uploads/{token} HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 29}\r\n{head}\r\n"
            connection.sendall(lines.encode())
            return connection.makefile("rb").readline().decode().strip()

    def test_upload_without_a_token_of_ours_is_refused_when_its_headers_have_come(self):
        token = self.token()
        made_up = [
            "x" * 43,
            "0" * len(token),
            token[:-1] + ("0" if token[-1] != "0" else "1"),
            ("0" if token[0] != "0" else "1") + token[1:],
            token + "/more",
            "",
        ]
        for text in made_up:
            for head in ("", "Expect: 100-continue\r\n"):
                with self.subTest(token=text, head=head):
                    self.assertEqual(self.begin(text, head), "HTTP/1.1 401 Unauthorized")
        self.assertEqual(self.begin(token, "Expect: 100-continue\r\n"), "HTTP/1.1 100 Continue")

    def test_body_too_long_is_not_asked_for(self):
        with socket.create_connection(("127.0.0.1", self.storage._server.port), 5) as connection:
            head = f"POST /1.1/classes/Foo HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 40}\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head.encode())
            self.assertIn(b" 413 ", connection.makefile("rb").readline())

    def test_token_is_good_for_an_hour(self):
        token = self.token()
        self.assertTrue(files.may_be_used(self.storage.service, token))
        with mock.patch.object(files, "now", return_value=files.now() + files.UPLOAD_MS):
            self.assertFalse(files.may_be_used(self.storage.service, token))

    def test_token_of_ours_takes_a_file(self):
        self.assertEqual(self.storage.request("PUT", f"/uploads/{self.token()}", data=b"x" * (25 << 20))[0], 200)


class AnswerTest(ServiceTestCase):
    """What a stranger asks for is not to fill the memory."""

    def limited(self, characters):
        stack = ExitStack()
        for module in (batch, sqlite_store, store_transaction):
            stack.enter_context(mock.patch.object(module, "MAX_FOUND", characters))
        stack.enter_context(mock.patch.object(sqlite_store, "QUICK_BYTES", characters // 2))  # the loop's share is smaller
        return stack

    def test_list_of_too_many_characters_is_102_for_all_but_the_master(self):
        for number in range(60):
            self.make("Wide", n=number, text="x" * 1000)
        with self.limited(50_000):
            self.assertEqual(len(self.find("Wide", limit=40)), 40)
            for options in ({}, {"keys": "n"}, {"where": {"n": {"$gte": 0}}}):
                with self.subTest(options):
                    self.assertIn("ask for fewer", self.code(102, "GET", "/classes/Wide", limit=1000, **options))
            self.assertEqual(len(self.find("Wide", master=True, limit=1000)), 60)
            self.assertEqual(self.api("GET", "/classes/Wide", count=1, limit=0)["count"], 60)

    def test_pointers_to_too_many_characters_are_102_before_all_of_them_are_loaded(self):
        targets = [self.make("Heavy", n=number, text="x" * 1000) for number in range(60)]
        self.make("Holder", all=[pointer("Heavy", one) for one in targets], some=[pointer("Heavy", one) for one in targets[:9]])
        with self.limited(50_000):
            self.code(102, "GET", "/classes/Holder", include="all")
            [found] = self.find("Holder", include="some")
            self.assertEqual([one["n"] for one in found["some"]], list(range(9)))

    def test_hooks_of_files_are_not_left_out_by_their_other_name_in_a_batch(self):
        engine = mock.Mock(may_hook=lambda name: name == "_File")
        inner = mock.Mock(service=mock.Mock(engine=engine))
        for name, is_plain in (("Item", True), ("files", False), ("_File", False), ("filesOfMine", True)):
            with self.subTest(name):
                self.assertIs(batch._is_plain_create(inner, {"method": "POST", "path": f"/1.1/classes/{name}"}), is_plain)

    def test_batch_of_lists_ends_where_its_answers_are_too_large(self):
        for number in range(10):
            self.make("Wider", n=number, text="x" * 1000)
        requests = [
            *[{"method": "GET", "path": "/1.1/classes/Wider"}] * 8,
            {"method": "GET", "path": "/1.1/classes/Wider", "params": {"keys": "n"}},
            {"method": "POST", "path": "/1.1/classes/Wider", "body": {"n": 10}},
        ]
        with self.limited(30_000):
            answers = self.api("POST", "/batch", {"requests": requests})
            kinds = ["success" if "success" in one else one["error"]["code"] for one in answers]
            self.assertEqual(kinds, ["success"] * 3 + [102] * 7)
            self.assertEqual(len(answers[0]["success"]["results"]), 10)
            answers = self.api("POST", "/batch", {"requests": requests}, master=True)
            self.assertTrue(all("success" in one for one in answers))
        self.assertEqual(len(self.find("Wider")), 11)


class ListTest(ServiceTestCase):
    def test_keys_that_come_again_are_looked_at_once(self):
        self.make("Again", a=1, b={"c": 2, "d": 3})
        with mock.patch.object(rendering, "parse_path", side_effect=rendering.parse_path) as parse_path:
            [row] = self.find("Again", keys=",".join(["a", "b.c"] * 20_000))
            self.assertEqual((row["a"], row["b"]), (1, {"c": 2}))
            self.assertEqual(parse_path.call_count, 2)

    def test_chosen_keys_are_looked_for_once_a_name_of_the_object(self):
        class Counting(dict):
            looks = 0

            def __contains__(self, key):
                Counting.looks += 1
                return super().__contains__(key)

        result = {"a": [Counting(x=1) for _ in range(100)]}
        tree = rendering._tree([f"a.k{number}" for number in range(1000)] + ["a.x"])
        self.assertEqual(rendering._selected(dict(result), tree, {})["a"], [{"x": 1}] * 100)
        self.assertLess(Counting.looks, 2000)

    def test_list_of_too_many_keys_is_102(self):
        self.make("Many", a=1)
        many = ",".join(f"k{number}" for number in range(1001))
        long = ",".join(f"{number:03d}".join("kx" * 25) for number in range(400))
        for text in (many, long):
            for option in ("keys", "include", "order"):
                with self.subTest(option=option, size=len(text)):
                    self.code(102, "GET", "/classes/Many", **{option: text})

    def test_members_that_come_again_are_one(self):
        first = self.make("Member", n=1, any=[1, {"a": 1}])
        self.make("Member", n=2, any=[True])
        rows = [
            ("n", [1] * 5000, [first]),
            ("any", [1, 1.0, {"a": 1}] * 3000, [first]),
            ("any", ["x", {"a": 1}] * 3000, [first]),
            ("any", [True, "1", False] * 3000, [row["objectId"] for row in self.find("Member", {"n": 2})]),
        ]
        for key, members, wanted in rows:
            with self.subTest(key=key, members=members[:3]):
                found = self.find("Member", {key: {"$in": members}})
                self.assertEqual([row["objectId"] for row in found], wanted)
        self.code(102, "GET", "/classes/Member", where={"any": {"$in": list(range(2001))}})
        self.code(102, "GET", "/classes/Member", where={"any": {"$in": list(map(str, range(20_001)))}})

    def test_acl_with_too_many_names_is_123(self):
        right = {"read": True}
        for names, is_good in ((1000, True), (1001, False)):
            rights = {f"role:{number}": right for number in range(names)}
            self.api("POST", "/classes/Crowded", {"ACL": rights}, 201 if is_good else 400)
            self.assertEqual(is_good, "objectId" in self.response.json())
        self.code(123, "POST", "/classes/Crowded", {"ACL": {"role:" + "x" * 60_000: right}})
        object_id = self.make("Crowded", n=1)
        self.code(123, "PUT", f"/classes/Crowded/{object_id}", {"ACL": rights})

    def test_order_by_a_key_that_comes_again_is_the_first(self):
        for number in (2, 1, 3):
            self.make("Order", n=number)
        found = self.find("Order", order=",".join(["-n", "n"] * 200))
        self.assertEqual([row["n"] for row in found], [3, 2, 1])


class NestedTest(ServiceTestCase):
    def nested(self, levels, value):
        for _ in range(levels):
            value = [{"0": value}]
        return value

    def test_numbers_in_a_key_do_not_multiply_what_is_looked_at(self):
        """By `0` an element is reached, and its key `0`: 40 of them would be reached in 2 to the power of 40 ways."""
        self.assertLess(len(list(values_at(self.nested(20, 1), ("0",) * 20))), 200)
        levels = 45
        one = self.make("Nested", a=self.nested(levels, 7))
        for operand, found in ((7, [one]), (8, []), ({"$gt": 6}, [one]), ({"$in": [7]}, [one]), ({"$exists": True}, [one])):
            with self.subTest(operand):
                rows = self.find("Nested", {".".join(["a", *["0"] * levels]): operand})
                self.assertEqual([row["objectId"] for row in rows], found)

    def test_what_a_key_reaches_is_bounded_in_size(self):
        with mock.patch("leanstorage.store.sqlite.compiler.MAX_REACHED", 1000):
            text = json.dumps(self.nested(20, "x" * 100))
            path = json.dumps(["0"] * 20)
            self.assertRaises(TimeoutError, reached_text, lambda: False, text, path, True)
        self.assertRaises(TimeoutError, reached_text, lambda: True, text, path, True)
        self.assertIn("xxx", reached_text(lambda: False, text, path, True))


class CountingTest(ServiceTestCase):
    def statuses(self, path, addresses, method="GET", data=b"", peer="10.1.1.1"):
        return [self.raw(method, path, data, APP, REMOTE_ADDR=peer, HTTP_X_REAL_IP=text).status for text in addresses]

    def test_proxy_elsewhere_is_believed_when_it_is_named(self):
        addresses = ["1.1.1.1", "1.1.1.2", "1.1.1.3"]
        options = self.service.options
        with mock.patch.object(options, "max_requests_per_minute", 2):
            self.assertEqual(self.statuses("/1.1/date", addresses, peer="10.1.1.2"), [200, 200, 429])
            for trusted in ("10.1.1.2", "*"):
                with mock.patch.object(options, "trusted_proxy", frozenset([trusted])):
                    self.assertEqual(self.statuses("/1.1/date", addresses, peer="10.1.1.2"), [200] * 3)
                    self.service.traffic._counts.clear()
            with mock.patch.object(options, "trusted_proxy", frozenset(["10.1.1.3"])):
                self.assertEqual(self.statuses("/1.1/date", addresses, peer="10.1.1.4"), [200, 200, 429])

    def test_option_names_proxies_or_says_what_is_wrong(self):
        rows = [
            ([], {"127.0.0.1", "::1"}),
            (["--trusted-proxy", "10.0.0.1,2001:DB8::1"], {"10.0.0.1", "2001:db8::1"}),
            (["--trusted-proxy", "*"], {"*"}),
        ]
        for arguments, wanted in rows:
            with self.subTest(arguments):
                self.assertEqual(parser().parse_args(["serve", *arguments]).trusted_proxy, wanted)
        for text in ("proxy.example", "10.0.0.0/8", ""):
            with self.subTest(text), redirect_stderr(io.StringIO()) as stderr, self.assertRaises(SystemExit):
                parser().parse_args(["serve", "--trusted-proxy", text])
            self.assertIn("must be IP addresses with commas between them, or *", stderr.getvalue())

    def test_whole_block_of_ipv6_is_one_visitor(self):
        options = self.service.options
        here = [f"2001:db8:1:1::{number}" for number in range(4)]
        wrong = json.dumps({"username": "nobody", "password": "x"}).encode()
        with mock.patch.object(options, "trusted_proxy", frozenset(["*"])):
            with mock.patch.object(options, "max_requests_per_minute", 3):
                self.assertEqual(self.statuses("/1.1/date", here), [200, 200, 200, 429])
                self.assertEqual(self.statuses("/1.1/date", ["2001:db8:1:2::1"]), [200])
            with mock.patch.object(options, "max_logins_per_address", 3):
                self.assertEqual(self.statuses("/1.1/login", here, "POST", wrong), [400, 400, 400, 429])

    def test_address_that_signs_up_too_often_is_429_before_anything_is_hashed(self):
        def sign_up(number, address, headers=APP, **more):
            body = json.dumps({"username": f"crowd{number}", "password": "pw", **more}).encode()
            return self.raw("POST", "/1.1/users", body, headers, REMOTE_ADDR=address).status

        anonymous = {"authData": {"anonymous": {"id": "crowd"}}}
        with mock.patch.object(self.service.options, "max_signups_per_address", 3):
            self.assertEqual([sign_up(number, "10.7.1.1") for number in range(2)], [201, 201])
            self.assertEqual(sign_up(2, "10.7.1.1", **anonymous), 201)
            with mock.patch.object(passwords, "hash_password") as hashing:
                self.assertEqual([sign_up(number, "10.7.1.1") for number in (3, 4)], [429, 429])
                hashing.assert_not_called()
            self.assertEqual(sign_up(5, "10.7.1.1", **{"authData": {"anonymous": {"id": "other"}}}), 429)
            self.assertEqual([sign_up(number, "10.7.1.2") for number in (6,)], [201])
            master = {**APP, "X-LC-Key": KEYS["master_key"] + ",master"}
            self.assertEqual(sign_up(7, "10.7.1.1", master), 201)
            self.assertEqual([sign_up(number, "127.0.0.1") for number in range(10, 15)], [201] * 5)

    def test_address_that_has_too_many_mails_sent_is_429_and_its_addresses_get_none(self):
        user = self.user("postman")
        options = self.service.options

        def write(number, address, headers=APP):
            body = json.dumps({"email": f"victim{number}@example.com"}).encode()
            headers = {**headers, "X-LC-Session": user["sessionToken"]}
            self.raw("PUT", f"/1.1/users/{user['objectId']}", body, headers, REMOTE_ADDR=address)
            return len([*mail.outbox(self.service.store)])

        def ask(address):
            body = json.dumps({"email": "nobody@example.com"}).encode()
            return self.raw("POST", "/1.1/requestPasswordReset", body, APP, REMOTE_ADDR=address).status

        more = {"verify_emails": True, "public_url": "https://storage.example", "max_mails_per_address": 3}
        with mock.patch.multiple(options, **more), redirect_stderr(io.StringIO()) as log:
            self.assertEqual([write(number, "10.7.2.1") for number in range(6)], [1, 2, 3, 3, 3, 3])
            self.assertEqual(ask("10.7.2.1"), 429)
            self.assertEqual([ask("10.7.2.2") for _ in range(4)], [400, 400, 400, 429])
            self.assertEqual(write(7, "10.7.2.3"), 4)
            self.assertEqual([write(number, "127.0.0.1") for number in range(10, 15)], [5, 6, 7, 8, 9])
        self.assertEqual(log.getvalue().count("\n"), 1)  # one line, not one for each

    def test_address_that_sends_too_much_in_a_day_is_429_and_others_are_not(self):
        def write(address, text="x" * 1000, headers=APP, **more):
            return self.raw("POST", "/1.1/classes/Sent", json.dumps({"text": text}).encode(), headers, REMOTE_ADDR=address, **more).status

        def upload(address, data, headers=APP):
            body = json.dumps({"name": "a.txt", "mime_type": "text/plain"}).encode()
            url = self.raw("POST", "/1.1/fileTokens", body, headers, REMOTE_ADDR=address).json()["upload_url"]
            return self.raw("PUT", "/" + url.split("/", 3)[3], data, {}, REMOTE_ADDR=address).status

        def named(address, data):
            return self.raw("POST", "/1.1/files/a.txt", data, {**APP, "Content-Type": "text/plain"}, REMOTE_ADDR=address).status

        master, hook = {**APP, "X-LC-Key": KEYS["master_key"] + ",master"}, {**APP, "X-LC-Hook-Key": KEYS["hook_key"]}
        with mock.patch.object(self.service.options, "max_bytes_per_address", 10_000):
            self.assertEqual([write("10.8.1.1") for _ in range(11)], [201] * 9 + [429] * 2)
            self.assertEqual(self.find("Sent", count=1) and len(self.find("Sent")), 9)
            self.assertEqual(write("10.8.1.2"), 201)
            self.assertEqual([write(address, headers=master) for address in ["10.8.1.1"] * 3], [201] * 3)
            self.assertEqual([write(address) for address in ["127.0.0.1"] * 12], [201] * 12)
            self.assertEqual([write("10.8.1.3", headers=hook) for _ in range(12)], [201] * 12)
            for number, bring in enumerate((upload, named)):
                with self.subTest(bring):
                    files_before = len(self.api("GET", "/files", master=True)["results"])
                    self.assertEqual(bring(f"10.8.2.{number}", b"x" * 9_000), {upload: 200, named: 201}[bring])
                    self.assertEqual(bring(f"10.8.2.{number}", b"x" * 2_000), 429)
                    self.assertEqual(len(self.api("GET", "/files", master=True)["results"]), files_before + 1)
            # A file takes a block of the disk at least.
            self.assertEqual([upload("10.8.3.1", b"") for _ in range(3)], [200, 200, 429])
        with mock.patch.object(self.service.options, "max_bytes_per_address", 0):
            self.assertEqual(write("10.8.1.1"), 201)

    def test_call_that_is_made_again_counts_its_bytes_once(self):
        environ = {"REMOTE_ADDR": "10.8.4.1", "CONTENT_LENGTH": "100", application.ADDRESS: "10.8.4.1"}
        for _ in range(5):
            application._limit_bytes(self.service, environ, Caller(address="10.8.4.1"))
            application.take_back(self.service, environ)
        self.assertEqual(self.service.sent.count("10.8.4.1", 0), 0)

    def test_length_with_zeros_in_front_is_counted(self):
        body = json.dumps({"text": "x" * 900}).encode()
        with mock.patch.object(self.service.options, "max_bytes_per_address", 2_000):
            found = [
                self.raw("POST", "/1.1/classes/Padded", body, APP, REMOTE_ADDR="10.8.5.1", CONTENT_LENGTH=f"{len(body):018d}").status for _ in range(4)
            ]
        self.assertEqual(found, [201, 201, 429, 429])

    def test_counts_of_very_many_addresses_leave_the_largest(self):
        traffic = Traffic(3600)
        with mock.patch.object(rules_call, "MAX_ADDRESSES", 4):
            for address, number in [("busy", 9), ("a", 1), ("busier", 10), ("b", 1), ("busy", 1), ("c", 1)]:
                traffic.count(address, number)
        self.assertEqual([traffic.count(address, 0) for address in ("busy", "busier", "a", "c")], [10, 10, 0, 1])

    def test_address_with_a_zone_is_the_proxys(self):
        zones = [f"fe80::1%{number}" for number in range(3)]
        options = self.service.options
        with mock.patch.object(options, "trusted_proxy", frozenset(["*"])):
            with mock.patch.object(options, "max_requests_per_minute", 2):
                self.assertEqual(self.statuses("/1.1/date", zones, peer="10.1.1.9"), [200, 200, 429])

    def test_deletion_of_many_counts_as_many_calls(self):
        ids = [self.make("Counted", n=number) for number in range(10)]
        there = {"REMOTE_ADDR": "10.1.1.8"}
        with mock.patch.object(self.service.options, "max_requests_per_minute", 10):
            path = "/1.1/classes/Counted/" + ",".join(ids[:8])
            self.assertEqual(self.raw("DELETE", path, b"", APP, **there).status, 200)
            path = "/1.1/classes/Counted/" + ",".join(ids[7:])
            self.assertEqual(self.raw("DELETE", path, b"", APP, **there).status, 429)
        self.assertEqual(len(self.find("Counted")), 2)

    def test_deletion_that_takes_too_long_deletes_no_more(self):
        ids = [self.make("Late", n=number) for number in range(3)]
        with mock.patch("leanstorage.resources.objects.time") as clock:
            clock.monotonic.side_effect = [0, 1, objects.BATCH_SECONDS, objects.BATCH_SECONDS + 1]
            self.code(124, "DELETE", "/classes/Late/" + ",".join(ids), status=503)
        self.assertEqual([row["objectId"] for row in self.find("Late")], ids[2:])


class RightsTest(ServiceTestCase):
    def test_new_number_is_not_verified(self):
        user = self.user("phoned", mobilePhoneNumber="13800000001", email="a@example.com")
        path, session = f"/users/{user['objectId']}", user["sessionToken"]
        flags = {"mobilePhoneVerified": True, "emailVerified": True}
        rows = [
            ({"mobilePhoneNumber": "13800000001", "email": "a@example.com"}, False, (True, True)),
            ({"mobilePhoneNumber": "13800000002"}, False, (False, True)),
            ({"mobilePhoneNumber": "13800000003", "mobilePhoneVerified": True}, False, (False, True)),
            ({"mobilePhoneNumber": {"__op": "Delete"}}, False, (False, True)),
            ({"email": "b@example.com"}, False, (True, False)),
            ({"mobilePhoneNumber": "13800000004"}, True, (False, True)),
            ({"mobilePhoneNumber": "13800000005", "mobilePhoneVerified": True}, True, (True, True)),
        ]
        for fields, master, wanted in rows:
            with self.subTest(fields=fields, master=master):
                self.api("PUT", path, flags, master=True)
                self.api("PUT", path, fields, master=master, session=session)
                found = self.api("GET", path)
                self.assertEqual((found["mobilePhoneVerified"], found["emailVerified"]), wanted)

    def test_secrets_of_imported_users_are_shown_to_nobody(self):
        user = self.user("imported")
        secrets = ("_SessionToken", "_hashed_password", "_email_verify_token", "bcryptPassword", "scryptPassword")

        def bring(transaction):
            row = transaction.get("_User", user["objectId"], lock=True)
            row.body.update(dict.fromkeys(secrets, "secret value"))
            transaction.update("_User", row)
            transaction.save_class("_User", {**transaction.class_info("_User", lock=True), "permissions": {}})

        self.service.store.write(bring)
        self.make("Imported", by=pointer("_User", user["objectId"]))
        path = f"/users/{user['objectId']}"
        for master in (False, True):
            more = {"master": master, "session": user["sessionToken"]}
            answers = [
                self.api("GET", path, **more),
                self.api("GET", "/users", **more),
                self.api("GET", "/users/me", session=user["sessionToken"]),
                self.api("GET", "/classes/Imported", include="by", **more),
                self.api("GET", "/cloudQuery", cql="select * from _User", **more),
                self.api("PUT", path + "?fetchWhenSave=true", {"x": 1}, **more),
                self.api("POST", "/login", {"username": "imported", "password": "pw"}),
            ]
            self.assertNotIn("secret value", json.dumps(answers))
            for key in secrets:
                with self.subTest(key=key, master=master):
                    self.code(102, "GET", "/users", where={key: {"$regex": "^s"}}, **more)
                    self.code(102, "GET", "/users", order=key, **more)
                    self.code(102, "GET", "/users", keys=key, **more)

    def test_members_of_a_relation_are_listed_where_its_owner_may_be_seen(self):
        member = self.make("Member", n=1)
        relation = {"__op": "AddRelation", "objects": [pointer("Member", member)]}
        club = self.make("Club", members=relation)
        where = {"$relatedTo": {"object": pointer("Club", club), "key": "members"}}
        wheres = [where, {"$or": [where]}, {"objectId": member, **where}]
        closed = {"users": False, "names": []}
        rows = [
            ({}, 1),
            ({"find": closed}, 1),
            ({"get": closed}, 1),
            ({"find": closed, "get": closed}, 0),
        ]
        for permissions, wanted in rows:

            def close(transaction, permissions=permissions):
                info = transaction.class_info("Club", lock=True)
                transaction.save_class("Club", {**info, "permissions": permissions})

            self.service.store.write(close)
            for where in wheres:
                with self.subTest(permissions=list(permissions), where=where):
                    self.assertEqual(len(self.find("Member", where)), wanted)
                    self.assertEqual(len(self.find("Member", where, master=True)), 1)


class SideChannelTest(ServiceTestCase):
    """What is hidden looks like what is not there."""

    def answer(self, method, path, text, session, where=None):
        """(status, body) of a call."""
        headers = {**APP, "X-LC-Session": session} if session else APP
        query = f"?{urlencode({'where': json.dumps(where)})}" if where else ""
        response = self.raw(method, f"/1.1{path}{query}", (text or "").encode(), headers)
        return response.status, response.body.decode()

    def test_hidden_object_is_answered_as_one_that_there_is_not(self):
        user = self.user("looker")
        hidden = self.make("Veiled", master=True, n=1, ACL={})
        closed = self.make("Shut", master=True, n=1, ACL={"*": {"read": True}})
        owner = self.user("veiled", ACL={})

        def shut(transaction):
            closed_to_all = {"users": False, "names": []}
            info = transaction.class_info("Shut", lock=True)
            transaction.save_class("Shut", {**info, "permissions": {"get": closed_to_all, "find": closed_to_all}})

        self.service.store.write(shut)
        unknown = "0123456789abcdef01234567"
        rows = [("Veiled", "/classes/Veiled", hidden), ("Shut", "/classes/Shut", closed), ("_User", "/users", owner["objectId"])]
        for name, path, object_id in rows:
            asked = [
                ("PUT", path + "/%s", {"n": 2}, {}),
                ("PUT", path + "/%s", {"n": 2}, {"where": {"n": 1}}),
                ("PUT", path + "/%s?fetchWhenSave=true", {}, {}),
                ("DELETE", path + "/%s", None, {}),
                ("DELETE", path + "/%s", None, {"where": {"n": 1}}),
                ("DELETE", path + f"/{unknown},%s", None, {}),
                ("GET", path + "/%s", None, {}),
                ("POST", "/batch", {"requests": [{"method": "PUT", "path": f"/1.1{path}/%s", "body": {"n": 2}}]}, {}),
            ]
            if name == "_User":
                asked += [
                    ("PUT", path + "/%s/updatePassword", {"old_password": "x", "new_password": "y"}, {}),
                    ("PUT", path + "/%s/refreshSessionToken", {}, {}),
                    ("PUT", path + "/%s", {"password": "y"}, {}),
                ]
            for method, template, body, more in asked:
                for session in (None, user["sessionToken"]):
                    with self.subTest(method=method, path=template, session=session, **more):
                        here, there = [
                            self.answer(method, template.replace("%s", one), body and json.dumps(body).replace("%s", one), session, **more)
                            for one in (object_id, unknown)
                        ]
                        self.assertEqual((here[0], here[1].replace(object_id, unknown)), there)
            self.assertEqual(self.service.store.read(lambda transaction: transaction.get(name, object_id)).body.get("n", 1), 1)  # noqa: B023

    def test_list_says_nothing_of_writes_that_its_reader_may_not_see(self):
        hidden = self.make("Noted", master=True, n=1, ACL={})
        shown = self.make("Noted", n=2, ACL={"*": {"read": True}})

        def modified(**more):
            self.api("GET", "/classes/Noted", **more)
            return self.response.header("Last-Modified")

        calls = ({}, {"where": {"n": 2}}, {"keys": "n"}, {"count": "1"})
        before, master = [modified(**more) for more in calls], modified(master=True)
        time.sleep(0.01)
        self.api("PUT", f"/classes/Noted/{hidden}", {"n": 3}, master=True)
        self.assertEqual([modified(**more) for more in calls], before)
        self.assertNotEqual(modified(master=True), master)
        self.api("DELETE", f"/classes/Noted/{hidden}", master=True)
        self.assertEqual([modified(**more) for more in calls], before)
        self.api("PUT", f"/classes/Noted/{shown}", {"n": 2}, master=True)
        self.assertNotEqual(modified(), before[0])
        with mock.patch("leanstorage.resources.queries.now", return_value=1000):
            for more in ({"where": {"n": 9}}, {"limit": "0"}):
                self.assertEqual(modified(**more), "Thu, 01 Jan 1970 00:00:01.000 GMT")

    def test_role_names_that_look_alike_are_refused(self):
        everybody = {"*": {"read": True, "write": True}}
        for name in (" admin", "admin ", "ad  min", " ", "admin\n", "admin\u00a0"):
            with self.subTest(name=name):
                self.code(139, "POST", "/roles", {"name": name, "ACL": everybody})
        self.api("POST", "/roles", {"name": "ad min", "ACL": everybody}, 201)


class EngineTest(HookCase):
    def test_urls_that_hooks_are_sent_are_not_made_of_the_host_of_a_client(self):
        token = self.api("POST", "/fileTokens", {"name": "a.txt"}, 201)
        self.raw("PUT", token["upload_url"].split("storage.example")[1], b"x")
        file = {"__type": "File", "id": token["objectId"]}
        user = self.user("hooked", avatar=file)
        for hook in ("beforeSave", "afterSave"):
            self.on("Filed", hook, lambda sent: (200, sent["object"]))
        self.engine.names.append("__on_login__User")
        self.engine.answers["/functions/_User/onLogin"] = lambda sent: (200, {})
        headers = {**APP, "X-LC-Session": user["sessionToken"]}
        rows = [(None, "http://127.0.0.1:80/"), ("https://storage.example.com/", "https://storage.example.com/")]
        for public_url, wanted in rows:
            self.engine.calls.clear()
            with mock.patch.object(self.service.options, "public_url", public_url):
                for path, body in (
                    ("/1.1/classes/Filed", {"file": file}),
                    ("/1.1/login", {"username": "hooked", "password": "pw"}),
                ):
                    data = json.dumps(body).encode()
                    response = call(self.application, "POST", path, data, headers, HTTP_HOST="evil.example")
                    self.assertIn(response.status, (200, 201))
            sent = json.dumps([body for _, _, body in self.engine.calls])
            with self.subTest(public_url=public_url):
                self.assertEqual(len(self.engine.calls), 3)
                self.assertNotIn("evil.example", sent)
                self.assertEqual(sent.count(f'"url": "{wanted}{token["key"]}"'), 5)



class HiddenRowsTest(ServiceTestCase):
    """A pattern that is slow where it matches would tell by the clock what a hidden row holds: it is never tried there."""

    @classmethod
    def setUpClass(cls):
        cls.searched = searched = []
        real = sqlite_store._search

        def search(connection, pattern, flags, text):
            searched.append(text)
            return real(connection, pattern, flags, text)

        patch = mock.patch.object(sqlite_store, "_search", search)
        patch.start()
        cls.addClassCleanup(patch.stop)
        super().setUpClass()

    def test_pattern_is_never_tried_on_what_its_caller_may_not_read(self):
        if "sqlite" not in self.database:
            self.skipTest("on PostgreSQL patterns are matched on the rows that were fetched")
        owner, thief = self.user("keeper"), self.user("looker")
        rights = {owner["objectId"]: {"read": True, "write": True}}
        self.make("Vault", session=owner["sessionToken"], secret="hidden", tags=["hidden"], list=[{"k": "hidden"}], ACL=rights)
        shown = self.make("Vault", secret="shown", tags=["shown"], list=[{"k": "shown"}])
        where = {"secret": {"$regex": "^.*n$"}}
        loose = {"tags": {"$regex": "^.*n$"}}
        dotted = {"list.k": {"$regex": "^.*n$"}}
        calls = (
            lambda session: self.find("Vault", where, session=session),
            lambda session: self.find("Vault", {"$or": [where, {"secret": "x"}]}, session=session),
            lambda session: self.find("Vault", {"$and": [where, {"secret": {"$exists": True}}]}, session=session),
            lambda session: self.find("Vault", loose, session=session),
            lambda session: self.find("Vault", dotted, session=session),
            lambda session: self.api("GET", "/classes/Vault", where=where, count="1", limit="0", session=session),
            lambda session: self.find("Vault", {"self": {"$inQuery": {"className": "Vault", "where": where}}}, session=session),
            lambda session: self.api("GET", "/cloudQuery", cql="select * from Vault where secret regexp '^.*n$'", session=session),
            lambda session: self.api("PUT", f"/classes/Vault/{shown}", {"n": 1}, where=where, session=session),
        )
        for number, ask in enumerate(calls):
            with self.subTest(number):
                self.searched.clear()
                ask(thief["sessionToken"])
                self.assertNotIn("hidden", self.searched)
        self.searched.clear()
        self.find("Vault", where, session=owner["sessionToken"])
        self.assertEqual(set(self.searched), {"hidden", "shown"})
