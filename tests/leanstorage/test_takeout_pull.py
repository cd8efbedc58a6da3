"""Pulling a live app: a second storage service is the source, spoken to over real HTTP, with trouble on the way."""

import errno
import io
import json
import os
import socket
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import requests

from leanstorage.blobs import folder
from leanstorage import keys as key_files
from leanstorage.blobs.folder import FolderBlobs
from leanstorage.store import now, Row
from leanstorage.takeout import exporter, file_import, importer, puller, remote, remote_trouble
from leanstorage.takeout.budget import Budget, OutOfCalls
from leanstorage.takeout.report import Report
from leanstorage.takeout.wishes import Wishes
from leanstorage.rules.values import parse_time, pointer
from tests.leanstorage.storage_support import StorageTestCase
from tests.support import changed_environment, serve


class Trouble(BaseHTTPRequestHandler):
    """A proxy to `server.target` that asks `server.trouble(path)` for a (status, headers, body) to answer instead."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        found = self.server.trouble(self.path)
        if found is None:
            names = ("X-LC-Id", "X-LC-Key")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            answer = requests.get(self.server.target + self.path, headers=headers, timeout=15)
            found = answer.status_code, {"Content-Type": answer.headers["Content-Type"]}, answer.content
        status, headers, body = found
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self):
        self.slept = []
        self._lock = threading.Lock()

    def monotonic(self):
        return sum(self.slept)

    def sleep(self, seconds):
        with self._lock:
            self.slept.append(seconds)


class RemoteTest(unittest.TestCase):
    """The API that is pulled from, without anything behind it."""

    def test_source_that_never_answers_is_given_up(self):
        limits = mock.patch.object(remote, "TIMEOUT", (0.1, 0.1))
        with limits, socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            source = remote.Remote(url, "id", "key", 1, clock=Clock())
            for ask in (source.now, lambda: list(source.download(f"{url}/file"))):
                waiting = pool.submit(ask)
                try:
                    self.assertIsInstance(waiting.exception(20), remote.RemoteError)
                finally:
                    if not waiting.done():
                        silent.shutdown(socket.SHUT_RDWR)
            source.close()

    def test_redirect_of_the_api_and_proxies_are_not_followed(self):
        asked = []

        class Leading(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(302)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Leading) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                proxies = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "http_proxy")}
                source = remote.Remote(f"http://127.0.0.1:{server.server_port}", "id", "key", 1, clock=Clock())
                with changed_environment(**proxies, NO_PROXY="", no_proxy=""), self.assertRaises(remote.RemoteError):
                    source.now()
                source.close()
            finally:
                server.shutdown()
                thread.join()
        self.assertEqual(asked, ["/1.1/date"])


class PullTestCase(StorageTestCase):
    def setUp(self):
        super().setUp()
        self.source = self.start("source")
        self.keys = key_files.load(self.folder / "target")
        self.database = f"sqlite:///{self.folder / 'target' / 'leanstorage.db'}"
        self.blobs = FolderBlobs(self.folder / "target" / "files")
        self.output = io.StringIO()
        self.clock = Clock()
        self.pulls = 0

    def proxy(self, trouble):
        """The URL of the source behind a proxy that makes trouble."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), Trouble)
        server.daemon_threads = False
        server.target, server.trouble = self.source.url, trouble
        return serve(server, self.addCleanup)

    def pull(self, url=None, blobs=None, **wanted):
        self.output = io.StringIO()
        self.pulls += 1
        report = Report(self.folder / f"refused-{self.pulls}.jsonl", self.output, self.output)
        keys = self.source.keys
        source = remote.Remote(url or self.source.url, keys["id"], keys["master_key"], 3, clock=self.clock)
        return puller.run(source, self.database, self.keys, None, blobs, report, Wishes(**wanted))

    def digests(self, database, keys, name):
        """What an export says of each class, users without what the API never shows."""
        out = io.StringIO()
        exporter.run(self.folder / name, database, keys, out, out)
        return [line for line in out.getvalue().splitlines()[:-1] if not line.startswith("_User:")]

    def assert_equal(self, name):
        source = self.digests(self.source.database, self.source.keys, f"{name}-source")
        target = self.digests(self.database, self.keys, f"{name}-target")
        self.assertTrue(source)
        self.assertEqual(source, target)

    def fill(self, count=1500):
        users = [
            self.source.request("POST", "/users", {"username": name, "password": f"{name}!"})[1]["objectId"]
            for name in ("ann", "bob")
        ]
        add = {"__op": "AddRelation", "objects": [pointer("_User", one) for one in users]}
        self.source.request("POST", "/roles", {"name": "All", "users": add, "ACL": {"*": {"read": True}}})
        body = {"text": "😀", "none": None, "fans": add, "ACL": {users[0]: {"read": True}}}
        self.thing = self.source.request("POST", "/classes/Thing", body, master=True)[1]["objectId"]
        rows = [(f"{number:024x}", 1000, 1000 + number, None, '{"n":%d}' % number) for number in range(count)]

        def many(transaction):
            transaction.save_class(
                "Many", {"columns": {"n": {"type": "Number"}}, "permissions": {}, "default_acl": None}
            )
            transaction.insert_many("Many", rows)

        self.source.service.store.write(many)
        return users

    def upload(self, name, data):
        token = self.source.request("POST", "/fileTokens", {"name": name, "metaData": {"size": len(data)}})[1]
        self.source.request("PUT", token["upload_url"], data=data)
        return token


class PullTest(PullTestCase):
    def test_everything_comes_over_and_a_second_pull_brings_the_changes(self):
        users = self.fill()
        token = self.upload("a.txt", b"bytes" * 1000)
        self.source.request("POST", "/files", {"name": "b", "url": "http://elsewhere.example.com/b"})
        self.assertEqual(self.pull(blobs=self.blobs), 0, self.output.getvalue())
        self.assertIn("pulled 1511", self.output.getvalue().splitlines()[-1])
        self.assert_equal("first")
        file, size = self.blobs.open(token["key"])
        with file:
            self.assertEqual((file.read(), size), (b"bytes" * 1000, 5000))
        change = {"text": "new", "fans": {"__op": "RemoveRelation", "objects": [pointer("_User", users[1])]}}
        self.assertEqual(self.source.request("PUT", f"/classes/Thing/{self.thing}", change, master=True)[0], 200)
        self.source.request("POST", "/classes/Thing", {"text": "late"})
        self.source.request("PUT", f"/users/{users[0]}", {"username": "anna"}, master=True)
        self.source.request("POST", "/users", {"username": "ann", "password": "x"})
        self.assertEqual(self.pull(), 0, self.output.getvalue())
        self.assert_equal("second")
        target = self.start("target", keys=self.keys)
        self.assertEqual(target.request("POST", "/users", {"username": "anna", "password": "p"})[1]["code"], 202)

    def test_second_pull_asks_for_what_was_written_a_minute_before_the_first(self):
        self.fill(3)
        asked = []

        def note(path):
            where = json.loads(parse_qs(urlsplit(path).query).get("where", ["{}"])[0])
            if "updatedAt" in where:
                asked.append(parse_time(where["updatedAt"]["$gte"]["iso"]))

        url = self.proxy(note)
        began = now()
        self.assertEqual(self.pull(url), 0, self.output.getvalue())
        ended = now()
        asked.clear()
        self.assertEqual(self.pull(url), 0, self.output.getvalue())
        self.assertTrue(asked)
        for time in asked:
            self.assertTrue(began - 60_000 - 1 <= time <= ended, (began, time, ended))
        self.assertLess(min(asked), began)

    def members(self, storage, path, key, owner):
        query = {"where": json.dumps({"$relatedTo": {"object": owner, "key": key}}), "order": "objectId"}
        status, answer = storage.request("GET", path, master=True, query=query)
        self.assertEqual(status, 200, answer)
        return [one["objectId"] for one in answer["results"]]

    def take_in_export(self):
        exporter.run(self.folder / "export", self.source.database, self.source.keys, self.output, self.output)
        report = Report("x", self.output, self.output)
        self.assertEqual(importer.run([self.folder / "export"], self.database, self.keys, "x", report=report), 0)

    def test_members_removed_before_the_first_pull_are_gone_and_demoted_users_lose_their_role(self):
        ann, bob = self.fill(3)
        [role] = self.source.request("GET", "/roles", master=True)[1]["results"]
        self.take_in_export()
        remove = {"__op": "RemoveRelation", "objects": [pointer("_User", ann)]}
        for path, key in ((f"/roles/{role['objectId']}", "users"), (f"/classes/Thing/{self.thing}", "fans")):
            self.assertEqual(self.source.request("PUT", path, {key: remove}, master=True)[0], 200)
        self.assertEqual(self.pull(), 0, self.output.getvalue())
        target = self.start("target", keys=self.keys)
        self.assertEqual(self.members(target, "/users", "users", pointer("_Role", role["objectId"])), [bob])
        self.assertEqual(self.members(target, "/users", "fans", pointer("Thing", self.thing)), [bob])
        roles = target.service.store.read(lambda transaction: transaction.role_names(ann))
        self.assertEqual(roles, [])
        report = Report("x", self.output, self.output)  # that export once more: it is older than the pull
        self.assertEqual(importer.run([self.folder / "export"], self.database, self.keys, "x", report=report), 0)
        self.assertEqual(self.pull(), 0, self.output.getvalue())
        self.assertEqual(self.members(target, "/users", "users", pointer("_Role", role["objectId"])), [bob])

    def test_first_pull_takes_no_members_from_owners_that_were_changed_here_or_exist_only_here(self):
        ann, bob = self.fill(3)
        self.take_in_export()
        target = self.start("target", keys=self.keys)
        cat = target.request("POST", "/users", {"username": "cat", "password": "cat!"})[1]["objectId"]
        add = {"fans": {"__op": "AddRelation", "objects": [pointer("_User", cat)]}}
        self.assertEqual(target.request("PUT", f"/classes/Thing/{self.thing}", add, master=True)[0], 200)
        only = target.request("POST", "/classes/Thing", add)[1]["objectId"]
        self.assertEqual(self.pull(), 0, self.output.getvalue())
        self.assertEqual(self.members(target, "/users", "fans", pointer("Thing", self.thing)), sorted([ann, bob, cat]))
        self.assertEqual(self.members(target, "/users", "fans", pointer("Thing", only)), [cat])
        self.assertIn("note: 1 owners changed here since", self.output.getvalue())

    def test_users_get_their_passwords_from_an_export_before_or_after(self):
        self.fill(1)
        exporter.run(self.folder / "export", self.source.database, self.source.keys, self.output, self.output)
        session = self.source.request("POST", "/login", {"username": "bob", "password": "bob!"})[1]["sessionToken"]
        for order in ("export first", "pull first"):
            with self.subTest(order):
                self.keys = key_files.load(self.folder / order)
                self.database = f"sqlite:///{self.folder / order / 'leanstorage.db'}"
                out = io.StringIO()
                for is_pull in (order == "pull first", order != "pull first"):
                    if is_pull:
                        self.assertEqual(self.pull(), 0, self.output.getvalue())
                        is_told = "note: 2 users have no password here" in self.output.getvalue()
                        self.assertEqual(is_told, order == "pull first")
                    else:
                        path = self.folder / "export" / "_User.0.jsonl"
                        importer.run([path], self.database, self.keys, "x", report=Report("x", out, out))
                target = self.start(order, keys=self.keys)
                status, answer = target.request("POST", "/login", {"username": "bob", "password": "bob!"})
                self.assertEqual((status, answer.get("sessionToken")), (200, session), answer)

    def test_limits_faults_and_dead_cursors_are_waited_out(self):
        self.fill(2500)
        seen = {}

        def trouble(path):
            seen[path] = seen.get(path, 0) + 1
            if seen[path] > 2:
                return None
            if "/scan/classes/Many" in path and "cursor" in path:
                return 400, {"Content-Type": "application/json"}, b'{"code":1,"error":"cursor"}'
            if seen[path] == 2 and "/scan/" in path:
                return 429, {"Content-Type": "application/json", "Retry-After": "7"}, b'{"code":429,"error":"slow"}'
            if "/scan/" in path or "count" in path:
                return 502, {"Content-Type": "text/html"}, b"<html>"
            return None

        self.assertEqual(self.pull(self.proxy(trouble)), 0, self.output.getvalue())
        self.assert_equal("troubled")
        self.assertTrue(any(6 < seconds <= 7 for seconds in self.clock.slept), self.clock.slept)

    def test_pull_that_was_stopped_goes_on_where_it_was(self):
        self.fill(3500)
        asked = []

        def trouble(path):
            asked.append(path)
            if resumed or "/scan/classes/Many" not in path:
                return None
            if len([one for one in asked if "/scan/classes/Many" in one]) < 3:
                return None
            return 400, {"Content-Type": "application/json"}, b'{"code":403,"error":"stopped"}'

        resumed = []
        url = self.proxy(trouble)
        self.assertEqual(self.pull(url), 1)
        self.assertIn("Many", self.output.getvalue())
        asked.clear()
        resumed.append(True)
        self.assertEqual(self.pull(url), 0, self.output.getvalue())
        first = next(path for path in asked if "/scan/classes/Many" in path)
        self.assertIn(f"{1999:024x}", first)  # the two pages that were stored are not asked for again
        self.assert_equal("resumed")

    def test_table_ends_with_the_counts_that_the_console_shows(self):
        self.fill(1200)
        self.take_in_export()
        self.assertRegex(self.output.getvalue(), r"\nMany +1200 +1200 +0 +0 +1200\n")
        self.source.request("POST", "/classes/Many", {"n": 1})
        for changed in (1, 0, 0):
            self.assertEqual(self.pull(), 0, self.output.getvalue())
            header, *lines = [line.split() for line in self.output.getvalue().splitlines() if "  " in line]
            self.assertEqual(header[-2:], ["here", "now"])
            table = {line[0]: line[1:] for line in lines}
            self.assertEqual([table[name][-1] for name in ("Many", "Thing", "_User", "_Role")], ["1201", "1", "2", "1"])
            self.assertEqual(table["Many"][1], str(changed))

    def test_objects_changed_here_since_stay_and_deleted_ones_are_told(self):
        self.fill(3)
        self.assertEqual(self.pull(), 0)
        target = self.start("target", keys=self.keys)
        target.request("PUT", f"/classes/Many/{1:024x}", {"n": 100})
        self.source.request("PUT", f"/classes/Many/{2:024x}", {"n": 200})
        self.source.request("DELETE", f"/classes/Many/{0:024x}")
        self.assertEqual(self.pull(), 0)
        self.assertIn("1 objects here are not there", self.output.getvalue())
        found = target.request("GET", "/classes/Many")[1]["results"]
        self.assertEqual(sorted(one["n"] for one in found), [0, 100, 200])
        self.assertEqual(self.pull(delete_missing=True), 0)
        found = target.request("GET", "/classes/Many")[1]["results"]
        self.assertEqual(sorted(one["n"] for one in found), [100, 200])

    def test_rows_that_a_pass_could_not_see_are_found_by_their_ids(self):
        self.fill(3)
        self.assertEqual(self.pull(), 0)
        row = Row(f"{77:024x}", 5, 5, None, {"n": 77})  # written with an old time stamp
        self.source.service.store.write(lambda transaction: transaction.insert("Many", row))
        self.assertEqual(self.pull(), 0, self.output.getvalue())
        self.assert_equal("found")

    def test_only_named_classes_come_and_unknown_ones_are_told(self):
        self.fill(2)
        self.assertEqual(self.pull(only=["Many"]), 0, self.output.getvalue())
        self.assertEqual([line.split(":")[0] for line in self.digests(self.database, self.keys, "only")], ["Many"])
        self.assertEqual(self.pull(only=["Nope"]), 1)
        self.assertIn("the app has no such class", self.output.getvalue())

    def test_wrong_keys_and_wrong_urls_end_with_one_clear_line(self):
        source = remote.Remote(self.source.url, "wrong", "key", clock=self.clock)
        report = Report("x", self.output, self.output)
        self.assertEqual(puller.run(source, self.database, self.keys, None, report=report), 1)
        failed, last = self.output.getvalue().splitlines()
        self.assertEqual(failed, f"failed: {remote_trouble.KEYS}")
        self.assertIn("refused 0 rows, 1 failed; ", last)
        for url in ("ftp://x", "file:///etc/passwd", "api.example.com", "http://user:pass@host"):
            with self.subTest(url), self.assertRaises(ValueError):
                remote.Remote(url, "a", "b")

    def test_trouble_that_will_not_pass_is_told_at_once_with_what_to_do(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
        html, text = {"Content-Type": "text/html"}, {"Content-Type": "text/plain"}
        archived = b'{"code":1,"error":"The app is archived, please activate it."}'
        answers = (
            ((504, {"Content-Type": "application/json"}, archived), "the API says: The app is archived, please activate"),
            ((504, text, "应用已归档".encode()), "the API says: 应用已归档 (activate the app in LeanCloud's console"),
            ((301, {**html, "Location": "https://new.example.com/1.1/schemas"}, b""), "redirects to https://new.example.com"),
            ((302, html, b""), "redirects: if that is the API, name it in --from"),
            ((200, html, b"<html>"), "(status 200) is not LeanCloud's API: look at --from"),
            ((404, html, b"<html>"), "(status 404) is not LeanCloud's API: look at --from"),
        )
        cases = [(self.proxy(lambda path, answer=answer: answer), said) for answer, said in answers]
        cases += [
            (cases[0][0].replace("http:", "https:"), "does not speak TLS: look at the port, or use http:// in --from"),
            ("http://api.misspelt.invalid", "there is no host of that name: http://api.misspelt.invalid"),
            (closed, f"nothing listens at {closed}"),
        ]
        for url, said in cases:
            with self.subTest(said):
                self.assertEqual(self.pull(url), 1)
                failed, _ = self.output.getvalue().splitlines()
                self.assertIn(said, failed)
                self.assertEqual(self.clock.slept, [])

    def test_timeout_of_a_proxy_is_waited_out_and_said(self):
        self.fill(1)
        seen = []

        def trouble(path):
            seen.append(path)
            return (504, {"Content-Type": "text/html"}, b"<h1>504 Gateway Time-out</h1>") if len(seen) < 5 else None

        self.assertEqual(self.pull(self.proxy(trouble)), 0, self.output.getvalue())
        self.assertIn("GET /schemas: status 504, trying again (4 of 8)", self.output.getvalue())

    def test_limit_that_does_not_pass_says_that_the_day_may_be_used_up(self):
        limit = (429, {"Content-Type": "application/json"}, b'{"code":429,"error":"Too many requests."}')
        self.assertEqual(self.pull(self.proxy(lambda path: limit)), 1)
        self.assertIn("run the same command again tomorrow", self.output.getvalue())

    def counting(self):
        """(URL of the source, the calls that are made to it)."""
        asked = []
        return self.proxy(lambda path: asked.append(path)), asked

    def announced(self):
        return int(self.output.getvalue().split(" calls to the API at most")[0].split()[-1])

    def test_members_that_an_export_brought_are_asked_for_only_where_the_owner_changed_since(self):
        ann, bob = self.fill(3)
        day = 86_400_000
        rows = [Row(f"{number:024x}", 5 * day, number * day, None, {}) for number in range(1, 41)]

        def owners(transaction):
            info = {"columns": {"fans": {"type": "Relation", "className": "_User"}}, "permissions": {}, "default_acl": None}
            transaction.save_class("Owner", info)
            transaction.insert_many("Owner", [(row.id, row.created, row.updated, None, "{}") for row in rows])
            transaction.relate_many("Owner", "fans", "_User", [(row.id, ann) for row in rows])

        self.source.service.store.write(owners)
        self.take_in_export()
        changed = {"fans": {"__op": "RemoveRelation", "objects": [pointer("_User", ann)]}}
        self.assertEqual(self.source.request("PUT", f"/classes/Owner/{rows[4].id}", changed, master=True)[0], 200)
        late = {"fans": {"__op": "AddRelation", "objects": [pointer("_User", bob)]}}
        self.assertEqual(self.source.request("POST", "/classes/Owner", late, master=True)[0], 201)
        url, asked = self.counting()
        self.assertEqual(self.pull(url), 0, self.output.getvalue())
        self.assert_equal("joined")
        members = [path for path in asked if "relatedTo" in path and "Owner" in path]
        self.assertLessEqual(len(members), 2 * 3)  # two that changed and the newest of the export, in two passes
        self.assertLessEqual(len(asked), self.announced() + 6)  # one to count each class, and the schemas
        self.assertIn(f"\ncalls to the API: {len(asked)}; in the last 24 hours: {len(asked)}\n", self.output.getvalue())

    def test_members_of_an_import_that_was_cut_are_all_asked_for(self):
        self.fill(1)
        exporter.run(self.folder / "export", self.source.database, self.source.keys, self.output, self.output)
        path = self.folder / "export" / "_Join.fans.Thing.0.jsonl"
        path.write_bytes(path.read_bytes()[:-40])
        report = Report("x", self.output, self.output)
        with mock.patch.object(Report, "_file", lambda self: io.StringIO()):
            self.assertEqual(importer.run([self.folder / "export"], self.database, self.keys, "x", report=report), 1)
        self.assertEqual(self.pull(), 0, self.output.getvalue())
        self.assert_equal("cut")

    def test_calls_are_estimated_counted_and_ended_at_the_limit_and_the_next_run_goes_on(self):
        ann, _ = self.fill(2500)
        add = {"fans": {"__op": "AddRelation", "objects": [pointer("_User", ann)]}}
        for _ in range(150):
            self.source.request("POST", "/classes/Thing", add)
        url, asked = self.counting()
        runs = 0
        while (code := self.pull(url, max_calls=len(asked) + 120)) == 1:
            self.assertIn("as many as --max-calls allows: run the same command again in 24 hours", self.output.getvalue())
            runs += 1
            self.assertEqual(len(asked), 120 * runs)
            self.assertLess(runs, 10)
        self.assertEqual(code, 0, self.output.getvalue())
        self.assertGreater(runs, 1)
        self.assert_equal("limited")

    def test_budget_that_waits_goes_on_when_the_first_hour_is_a_day_old(self):
        clock, said = Clock(), []

        def budget(limit, is_patient=True):
            return Budget(self.source.service.store, "calls:x", limit, is_patient, said.append, clock, clock.monotonic)

        first = budget(3)
        for _ in range(4):
            first.take()
        self.assertGreaterEqual(clock.monotonic(), 24 * 3600 - 3600)
        self.assertEqual((first.made, first.recent(), len(set(said))), (4, 1, 24))
        first.close()
        with self.assertRaises(OutOfCalls):
            budget(1, is_patient=False).take()

    def test_odd_answers_are_clear_refusals_and_the_rest_comes(self):
        self.fill(3)
        self.upload("a.txt", b"bytes")
        null, odd = b'{"results": null}', b'{"results": [{"n": 1}, 5]}'
        schemas = b'{"Many": {"n": {"type": ["Number"]}, "m": 5}, "Thing": {"fans": {"type": {}}}, "Odd": []}'
        cases = (
            ("/scan/classes/Many", null, "Many: the API's answer has no list of results"),
            ("/scan/classes/Many", b'{"results": [], "cursor": 5}', "Many: the API's answer has no list of results"),
            ("/scan/classes/Many", odd, "it has no objectId"),
            ("/schemas", schemas, "class Many: the type of its column n is not told"),
            ("/schemas", schemas, "class Odd: its columns are not described"),
            ("/date", b"{}", "GET /date: an answer without a time"),
            ("/date", b'{"iso": "yesterday"}', "GET /date: an answer without a time"),
            ("/classes/_User?where=%7B%22%24related", null, "GET /classes/_User: an answer without a list of results"),
            ("/classes/_User?where=%7B%22%24related", odd, "GET /classes/_User: a result without an objectId"),
            ("/classes/Thing?limit=50&keys=updatedAt", b'{"results": [{"objectId": "x"}]}', "whose updatedAt is not a time"),
            ("/classes/_File?where", null, "files: GET /classes/_File: an answer without a list of results"),
            ("/classes/_File?where", odd, "files: GET /classes/_File: a result without an objectId"),
            ("keys=objectId&where=%7B%7D", null, "GET /scan/classes/Many: an answer without a list of results"),
        )
        for number, (part, body, text) in enumerate(cases):
            with self.subTest(text, part=part):
                self.database = f"sqlite:///{self.folder / f'{number}.db'}"
                counted = b'{"results": [], "count": 9}' if "keys=" in part else b'{"results": [], "count": "many"}'

                def trouble(path, part=part, body=body, counted=counted):
                    if "count=1" in path:
                        return 200, {"Content-Type": "application/json"}, counted
                    return (200, {"Content-Type": "application/json"}, body) if part in path else None

                self.assertEqual(self.pull(self.proxy(trouble), blobs=self.blobs), 1)
                self.assertIn(text, self.output.getvalue())
                if part not in ("/date", "/schemas"):
                    self.assertRegex(self.output.getvalue(), r"\n_Role .* 1\n")

    def test_odd_headers_are_no_numbers(self):
        self.fill(1)
        self.upload("a.txt", b"bytes")
        seen = []

        def trouble(path):
            if "/scan/" not in path or len(seen) == 3:
                return None
            seen.append(path)
            return 429, {"Retry-After": ("\u00b2", "9" * 6000, "Mon, 01 Jan 0001 00:00:00 GMT")[len(seen) - 1]}, b"{}"

        self.assertEqual(self.pull(self.proxy(trouble)), 0, self.output.getvalue())
        self.assertEqual(len(seen), 3)

    def test_files_that_do_not_fit_are_refused_and_the_pull_goes_on(self):
        small, large = self.upload("small.bin", b"x"), self.upload("large.bin", b"x" * 5000)
        written = folder.write_hashed

        def full(chunks, file):
            size, digest = written(chunks, file)
            if size > 1000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return size, digest

        self.source.request("POST", "/classes/Many", {"n": 1})
        with mock.patch.object(folder, "write_hashed", full):
            self.assertEqual(self.pull(blobs=self.blobs), 1)
        self.assertIn("it cannot be stored: a file cannot be written: No space left", self.output.getvalue())
        self.assertRegex(self.output.getvalue(), r"\nfiles +2 +1 +0 +1\n")
        self.assertEqual((self.blobs.size(small["key"]), self.blobs.size(large["key"])), (1, None))

    def test_files_that_arrive_broken_are_fetched_again_and_odd_ones_are_told(self):
        good, cut, wrong, gone = (self.upload(f"{number}.bin", b"x" * 5000) for number in range(4))
        meta = {"size": 5000, "_checksum": "0" * 32}

        def spoil(transaction):
            row = transaction.get("_File", wrong["objectId"])
            row.body["metaData"] = meta
            transaction.update("_File", row)

        self.source.service.store.write(spoil)
        self.source.service.blobs.delete(gone["key"])
        seen = []

        def trouble(path):
            if cut["key"] in path:
                seen.append(path)
                if len(seen) == 1:
                    return 200, {"Content-Type": "x/y", "Content-Length": "5000"}, b"x" * 100
                if len(seen) == 2:
                    return 200, {"Content-Type": "x/y"}, b"x" * 100
            return None

        url = self.proxy(trouble)
        self.source.service.options.files_url = url
        self.assertEqual(self.pull(url, blobs=self.blobs), 0, self.output.getvalue())
        output = self.output.getvalue()
        self.assertIn("note: 1 files are not of the size or checksum that was once claimed: kept as they are", output)
        self.assertIn(f"    1 files are gone there\n        {gone['key']} (3.bin): {url}/", output)
        self.assertIn("answers with status 404", output)
        self.assertEqual(len(seen), 3)
        for token, is_kept in ((good, True), (cut, True), (wrong, True), (gone, False)):
            opened = self.blobs.open(token["key"])
            if opened:
                opened[0].close()
            self.assertEqual(opened is not None and opened[1] == 5000, is_kept)
        self.assertEqual([path.name for path in self.blobs.folder.glob(".upload*")], [])
        seen.clear()
        self.assertEqual(self.pull(url, blobs=self.blobs), 0, self.output.getvalue())
        self.assertEqual(seen, [])
        self.assertNotIn("kept as they are", self.output.getvalue())  # it is not fetched again

    def test_host_that_does_not_answer_costs_few_tries_and_other_hosts_go_on(self):
        files = [self.upload(f"{number}.bin", b"x" * 10) for number in range(30)]
        asked = []

        def trouble(path):
            asked.append(path)
            return 503, {"Content-Type": "text/html"}, b"down"

        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            dead = f"127.0.0.1:{unused.getsockname()[1]}"
        hosts = [self.proxy(trouble), f"http://{dead}", self.source.url]

        def spread(path):
            if "/classes/_File?where" not in path:
                return None
            keys = self.source.keys
            headers = {"X-LC-Id": keys["id"], "X-LC-Key": f"{keys['master_key']},master"}
            answer = requests.get(self.source.url + path, headers=headers, timeout=15).json()
            for row in answer["results"]:
                number = int(row["name"].partition(".")[0])
                row["url"] = f"{hosts[number % 3]}/{row['key']}"
            return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

        self.assertEqual(self.pull(self.proxy(spread), blobs=self.blobs), 1)
        self.assertRegex(self.output.getvalue(), r"\nfiles +30 +10 +0 +20\n")
        self.assertLessEqual(len(asked), 8 * (3 + 2))  # tries of three files, and of those that were asked for meanwhile
        reasons = "".join(path.read_text() for path in self.folder.glob("refused-*.jsonl"))
        self.assertIn(f"its host {dead} does not answer", reasons)
        self.assertIn(f"nothing listens at {dead}", reasons)
        self.assertIn(f"{files[0]['key']} (0.bin)", reasons)
        self.assertNotIn("line 0", self.output.getvalue())

    def test_bytes_that_were_downloaded_otherwise_are_taken_in_by_key_and_name(self):
        tokens = [self.upload(name, b"x" * 10) for name in ("a b.png", "b.png", "twice.png", "twice.png", "none.png", "odd.png")]
        self.assertEqual(self.pull(), 0, self.output.getvalue())
        folder_ = self.folder / "downloaded"
        by_key, by_last, by_name = tokens[0]["key"], tokens[1]["key"].rpartition("/")[2], "odd.png"
        for name, data in ((by_key, b"x" * 10), (f"deep/{by_last}", b"y" * 10), (by_name, b"z" * 3), ("twice.png", b"x" * 10)):
            path = folder_ / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        os.symlink("/etc/passwd", folder_ / "none.png")
        for number, figures in enumerate((r"6 +3 +3 +0", r"6 +0 +6 +0")):  # read, imported, skipped, refused
            self.output = io.StringIO()
            report = Report(self.folder / f"missing-{number}.jsonl", self.output, self.output)
            self.assertEqual(file_import.run(folder_, self.database, self.blobs, "x", report=report), 0)
            self.assertRegex(self.output.getvalue(), rf"\nfiles +{figures}\n")
            self.assertNotRegex(self.output.getvalue(), r"\.png\), line \d")
        self.assertIn("files are not in the folder and still without bytes", self.output.getvalue())
        self.assertIn("(none.png): not found", self.output.getvalue())
        kept = [self.blobs.size(one["key"]) for one in tokens]
        self.assertEqual(kept, [10, 10, None, None, None, 3])  # which of the two is twice.png nobody can tell
