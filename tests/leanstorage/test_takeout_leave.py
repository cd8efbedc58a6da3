"""Out of LeanCloud with one command, from a stand-in of it that is slow, refuses, breaks off, and is left again and again."""

import contextlib
import io
import json
import random
import re
import signal
import subprocess
import sys
import tarfile
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import requests

from leanstorage import keys as key_files
from leanstorage.blobs.folder import FolderBlobs
from leanstorage.rules.values import pointer
from leanstorage.takeout import exporter, importer, leave, remote
from leanstorage.takeout.report import Report
from leanstorage.takeout.wishes import NONE, Wishes
from tests.leanstorage.storage_support import StorageTestCase
from tests.support import clean_environment, serve, takes_long
from tests.leanstorage.test_takeout_pull import Clock

JSON, HTML, TEXT = ({"Content-Type": name} for name in ("application/json", "text/html", "text/plain"))
NAMES = ("X-LC-Id", "X-LC-Key", "Range")


class StandIn(BaseHTTPRequestHandler):
    """LeanCloud as it is met: another storage behind what `server.leancloud` makes of its answers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer()

    do_POST = do_GET

    def _answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, headers, body = self.server.leancloud.answer(self.command, self.path, self.headers)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # it may have been killed
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


class LeanCloud:
    """What the stand-in answers; `calls` are those that the API answered well, and that a quota would count."""

    def __init__(self, source, export, seconds=0.01):
        self.source, self.export, self.seconds = source, export, seconds
        self.calls = []
        self.faults = {}  # part of a path -> answers to give before the right one
        self.ranges = []  # of the export that were asked for
        self.polls = 0
        self.exports = 0
        self.is_archived = False

    def answer(self, method, path, headers):
        time.sleep(self.seconds)
        if path == "/export.tar.gz":
            self.ranges.append(headers.get("Range"))
        for part, answers in self.faults.items():
            if part in path and answers:
                found = answers.pop(0)
                if found is not None:
                    return found
                break
        if path == "/export.tar.gz":
            start = int(headers.get("Range", "bytes=0-")[6:-1])
            part = self.export[start:]
            if headers.get("Range"):
                return 206, {"Content-Range": f"bytes {start}-{len(self.export) - 1}/{len(self.export)}", **TEXT}, part
            return 200, TEXT, part
        if self.is_archived:
            return 504, JSON, b'{"code":1,"error":"The app is archived, activate it."}'
        if path.startswith("/1.1/"):
            self.calls.append(path)
        if path.startswith("/1.1/exportData"):
            return self._export_data(method, headers)
        sent = {name: headers[name] for name in NAMES if name in headers}
        answer = requests.get(self.source.url + path, headers=sent, timeout=15)
        return answer.status_code, {"Content-Type": answer.headers["Content-Type"]}, answer.content

    def _export_data(self, method, headers):
        if not headers.get("X-LC-Key", "").endswith(",master"):
            return 401, JSON, b'{"code":401,"error":"Unauthorized."}'
        answer = {"status": "running", "id": f"export{self.exports}", "app_id": "x"}
        if method == "POST":
            self.exports += 1
            answer["id"] = f"export{self.exports}"
        else:
            self.polls += 1
            if self.polls > 2:
                answer |= {"status": "done", "download_url": f"{self.url}/export.tar.gz"}
        return 200, JSON, json.dumps(answer).encode()


class LeaveTestCase(StorageTestCase):
    def setUp(self):
        super().setUp()
        self.source = self.start("source")
        self.keys = key_files.load(self.folder / "target")
        self.database = f"sqlite:///{self.folder / 'target' / 'leanstorage.db'}"

    def stand_in(self, **options):
        leancloud = LeanCloud(self.source, self.packed_export("export"), **options)
        server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
        server.daemon_threads = False
        server.leancloud = leancloud
        leancloud.url = self.source.service.options.files_url = serve(server, self.addCleanup)
        return leancloud

    def packed_export(self, name):
        """An export of the source as it is now, as the console makes one."""
        out = io.StringIO()
        exporter.run(self.folder / name, self.source.database, self.source.keys, out, out)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(self.folder / name, "export")
        return packed.getvalue()

    def fill(self, owners=60, rows=4000, files=12):
        request = self.source.request
        users = [
            request("POST", "/users", {"username": f"u{number}", "password": f"p{number}"})[1] for number in range(5)
        ]
        members = [pointer("_User", one["objectId"]) for one in users]
        role = {"name": "All", "users": {"__op": "AddRelation", "objects": members}, "ACL": {"*": {"read": True}}}
        request("POST", "/roles", role)
        things = []
        for number in range(owners):
            fans = {"__op": "AddRelation", "objects": members[: number % 4 + 1]}
            things.append(request("POST", "/classes/Thing", {"n": number, "fans": fans}, master=True)[1]["objectId"])

        def many(transaction):
            info = {"columns": {"n": {"type": "Number"}}, "permissions": {}, "default_acl": None}
            transaction.save_class("Many", info)
            transaction.insert_many(
                "Many", [(f"{number:024x}", 1000, 1000 + number, None, '{"n":%d}' % number) for number in range(rows)]
            )

        self.source.service.store.write(many)
        self.files = {}
        for number in range(files):
            data = random.Random(number).randbytes(20_000)
            body = {"name": f"图 {number}.png", "metaData": {"size": len(data)}}
            token = request("POST", "/fileTokens", body)[1]
            request("PUT", token["upload_url"], data=data)
            self.files[token["key"]] = data
        return users, things

    def change(self, users, things):
        """What happens at the old app after its export was made."""
        remove = {"__op": "RemoveRelation", "objects": [pointer("_User", users[0]["objectId"])]}
        for thing in things[:9]:
            self.source.request("PUT", f"/classes/Thing/{thing}", {"fans": remove, "n": -1}, master=True)
        self.source.request("PUT", f"/classes/Many/{7:024x}", {"n": -7})
        self.source.request("POST", "/classes/Many", {"n": 99999})

    def digests(self, database, keys, name):
        out = io.StringIO()
        exporter.run(self.folder / name, database, keys, out, out)
        return out.getvalue().splitlines()[:-1]

    def assert_everything_came(self):
        source = self.digests(self.source.database, self.source.keys, "of-source")
        self.assertEqual(self.digests(self.database, self.keys, "of-target"), source)
        blobs = FolderBlobs(self.folder / "target" / "files")
        for key, data in self.files.items():
            file, _ = blobs.open(key)
            with file:
                self.assertEqual(file.read(), data)


class KilledTest(LeaveTestCase):
    def start_leave(self, url):
        environment = clean_environment(
            LEANSTORAGE_DATA=self.folder / "target",
            LEANSTORAGE_SOURCE_ID=self.source.keys["id"],
            LEANSTORAGE_SOURCE_MASTER_KEY=self.source.keys["master_key"],
        )
        command = [sys.executable, "-W", "error", "-m", "leanstorage", "leave", "--from", url, "--files"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @takes_long
    def test_leave_that_is_killed_every_few_seconds_brings_everything_within_the_calls_it_announced(self):
        users, things = self.fill()
        leancloud = self.stand_in(seconds=0.05)
        leancloud.is_archived = True
        first = self.start_leave(leancloud.url)
        said, _ = first.communicate(timeout=60)
        self.assertEqual(first.returncode, 1)
        self.assertIn("the API says: The app is archived, activate it.", said)
        leancloud.is_archived = False
        bad_gateway, limit = (502, HTML, b"<html>"), (429, {"Retry-After": "1", **JSON}, b'{"code":429}')
        cut, dead = (200, JSON, b'{"results": [{"objectId": "a'), (400, JSON, b'{"code":1,"error":"no cursor"}')
        leancloud.faults = {
            "/schemas": [limit, None, bad_gateway],
            "exportData/": [None, bad_gateway, cut, None],
            "export.tar.gz": [(200, {"Content-Length": "100000", **TEXT}, leancloud.export[:3000]), bad_gateway],
            "scan/classes/Many?cursor": [dead, None, dead],
            "scan/classes/Many": [None, cut, None, limit, bad_gateway],
            "relatedTo": [bad_gateway, None, cut, None, None, limit],
            "classes/_File?where": [None, bad_gateway],
            ".png": [(503, HTML, b"slow down"), None, (200, TEXT, b"not all of it"), None],
        }
        self.change(users, things)
        kills = random.Random(5)
        code, runs = None, 0
        while code != 0 and runs < 20:
            before = len(leancloud.calls)
            process = self.start_leave(leancloud.url)
            self.addCleanup(process.stdout.close)
            try:
                # Later ones are given more time: each run has to get further than the last.
                code = process.wait(kills.uniform(0.4, 1.2) + 0.6 * runs if runs < 9 else 240)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            said = process.stdout.read()
            self.assertNotIn("Traceback", said)
            if code == 1:  # the API failed too often
                self.assertIn("run the same command again", said)
                code = None
            announced = re.search(r"(\d+) calls to the API at most", said)
            if announced:
                self.assertLessEqual(len(leancloud.calls) - before, int(announced[1]), said)
            runs += 1
        self.assertEqual(code, 0, said)
        self.assertGreater(runs, 4)
        self.assertLess(leancloud.exports, 4)  # one, and again where it was killed before the answer was kept
        self.assert_everything_came()
        target = self.start("target", keys=self.keys)
        for number, user in enumerate(users):
            login = {"username": f"u{number}", "password": f"p{number}"}
            self.assertEqual(target.request("POST", "/login", login)[1]["sessionToken"], user["sessionToken"])


class SaidStepsTest(unittest.TestCase):
    def test_steps_that_are_done_and_left_are_told_of_each_state(self):
        for state, export, done in (
            ({}, None, 0),
            ({"export": "id"}, None, 1),
            ({}, Path("export"), 2),
            ({"export": "id"}, Path("export"), 2),
            ({"export": "id", "is_imported": True}, None, 3),
            ({"export": "id", "is_imported": True}, Path("export"), 3),
        ):
            with self.subTest(state=state, export=export):
                said = []
                leave._say_steps(SimpleNamespace(say=said.append), state, export)
                before = [f"done before: {', '.join(leave.STEPS[:done])}"] if done else []
                self.assertEqual(said, [*before, f"left: {', '.join(leave.STEPS[done:])}"])


class StepsTest(LeaveTestCase):
    def leave(self, leancloud, url=None, wishes=NONE, **options):
        """(exit code, all that was said)."""
        said = []
        self.clock = Clock()
        keys = self.source.keys
        output = io.StringIO()

        def make_remote():
            return remote.Remote(url or leancloud.url, keys["id"], keys["master_key"], 3, clock=self.clock)

        self.reports = getattr(self, "reports", 0) + 10

        def make_report():
            self.reports += 1
            return Report(self.folder / f"refused-{self.reports}", output, output)

        leaving = leave.Leaving(make_remote, make_report, self.database, self.keys, self.folder / "target", said.append, wishes)
        blobs = FolderBlobs(self.folder / "target" / "files")
        code = leave.run(leaving, blobs=blobs, **options)
        return code, "\n".join([*said, output.getvalue()])

    def test_steps_are_said_and_done_once_and_a_checklist_ends_them(self):
        users, things = self.fill(3, 30, 2)
        leancloud = self.stand_in(seconds=0)
        self.change(users, things)
        code, said = self.leave(leancloud)
        self.assertEqual(code, 0, said)
        self.assertIn("left: ask for the export, download it, import it, pull what changed since", said)
        for step in ("step 1 of 4", "step 2 of 4", "step 3 of 4", "step 4 of 4: pull what changed since, and the files"):
            self.assertIn(step, said)
        self.assertIn("[ ] class permissions: for each class: python -m leanstorage permissions CLASS", said)
        self.assertIn("classes: Many, Thing", said)
        self.assertIn("export-export1.tar.gz is a list of credentials", said)
        self.assert_everything_came()
        code, said = self.leave(leancloud)
        self.assertEqual((code, leancloud.exports), (0, 1))
        self.assertIn("done before: ask for the export, download it, import it\nleft: pull what changed since", said)
        self.assertEqual(self.leave(leancloud, is_again=True)[0], 0)
        self.assertEqual(leancloud.exports, 2)

    def test_export_that_is_there_is_taken_and_none_is_asked_for(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        path = self.folder / "export.tar.gz"
        path.write_bytes(leancloud.export)
        code, said = self.leave(leancloud, export=path)
        self.assertEqual((code, leancloud.exports), (0, 0), said)
        self.assert_everything_came()

    def test_download_that_breaks_off_goes_on_in_the_same_run(self):
        self.fill(1, 300, 1)
        leancloud = self.stand_in(seconds=0)
        whole = {"Content-Length": str(len(leancloud.export)), **TEXT}
        leancloud.faults = {"export.tar.gz": [(200, whole, leancloud.export[:999]), (502, HTML, b"<html>")]}
        code, said = self.leave(leancloud)
        self.assertEqual(code, 0, said)
        self.assertEqual(leancloud.ranges, [None, "bytes=999-", "bytes=999-"])
        self.assert_everything_came()

    def test_rows_that_were_refused_are_told_by_every_run_after(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        path = self.folder / "Odd.0.jsonl"
        path.write_text('{"objectId": "a1", "o": {"$x": 1}}\n{"objectId": "a2", "n": 1}\n')
        code, said = self.leave(leancloud, export=path)
        self.assertEqual(code, 1)
        self.assertIn("1 rows were refused, with their reasons in ", said)
        code, said = self.leave(leancloud)
        self.assertEqual(code, 0, said)
        self.assertIn("1 rows were refused, with their reasons in ", said)
        self.assertIn("everything else came", said)
        self.assertEqual(self.leave(leancloud, is_again=True)[0], 0)
        self.assertNotIn("rows were refused", self.leave(leancloud)[1])

    def test_refused_rows_that_came_another_way_are_told_no_more(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        path = self.folder / "Odd.0.jsonl"
        path.write_text('{"objectId": "a2", "n": 2}\n{"objectId": "a3", "n": 3}\n{"objectId": "a1", "o": {"$x": 1}}\n')
        code, said = self.leave(leancloud, export=path)
        self.assertEqual(code, 1)
        self.assertIn("1 rows were refused, with their reasons in ", said)
        output = io.StringIO()
        wishes = Wishes(is_repairing=True)
        self.assertEqual(importer.run([path], self.database, self.keys, "", report=Report(self.folder / "mended", output, output), wishes=wishes), 0)
        code, said = self.leave(leancloud)
        self.assertEqual(code, 0, said)
        self.assertNotIn("were refused", said)
        self.assertIn("everything came", said)

    def test_refused_rows_are_told_though_other_rows_look_like_them(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        parent = {"__type": "Pointer", "className": "Odd", "objectId": "a2"}
        at = {"createdAt": "2020-01-01T00:00:00.000Z", "updatedAt": "2020-01-01T00:00:00.000Z"}
        whole = {"objectId": "a2", "n": 2, **at}
        cases = {
            "an object that it points to is here": (Wishes(), {"parent": parent, "objectId": "a1", "o": {"$x": 1}}),
            "its id is here with other values": (Wishes(), {**whole, "n": 3}),
            "its id is here without times": (Wishes(), {"objectId": "a2", "n": 3}),
            "an older one is here": (Wishes(), {**whole, "updatedAt": "2021-01-01T00:00:00.000Z", "o": {"$x": 1}}),
            "another was repaired": (Wishes(is_repairing=True), {"objectId": "a3", "o": {"$x": 1}}, {"objectId": "../x"}),
        }
        for number, (name, (wishes, *rows)) in enumerate(cases.items()):
            with self.subTest(name):
                path = self.folder / f"{number}" / f"Odd{number}.0.jsonl"
                path.parent.mkdir()
                text = "".join(json.dumps(row) + "\n" for row in (whole, *rows))
                path.write_text(text.replace('"Odd"', f'"Odd{number}"'))
                self.assertEqual(self.leave(leancloud, export=path, is_again=True, wishes=wishes)[0], 1)
                self.assertIn("1 rows were refused, with their reasons in ", self.leave(leancloud)[1])

    def test_rows_of_the_live_app_that_are_refused_are_told_as_long_as_they_are(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        self.source.request("POST", "/classes/Odd", {"n": 1}, master=True)
        path = self.folder / "Odd.0.jsonl"
        path.write_text('{"objectId": "a2", "n": "text"}\n')
        for _ in range(2):
            code, said = self.leave(leancloud, export=path)
            self.assertEqual(code, 1, said)
            self.assertIn("rows of the live app were refused, see above: change them there, or keep them by --repair", said)
        code, said = self.leave(leancloud, wishes=Wishes(is_repairing=True))
        self.assertEqual(code, 0, said)
        self.assertNotIn("were refused", said)
        self.assertEqual(self.leave(leancloud)[0], 0)

    def test_export_that_cannot_be_had_is_said_with_what_to_do(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        refused = (400, JSON, b'{"code":1,"error":"Export is not available."}')
        unknown = (404, JSON, b'{"code":101,"error":"No such export."}')
        failed = (200, JSON, b'{"id": "export1", "status": "failed"}')
        no_link = (200, JSON, b'{"id": "export1", "status": "done", "download_url": null}')
        bad = (400, HTML, b"<Error>")
        gone = (403, HTML, b"<Error>")
        html = (200, HTML, b"<html><title>Sign in</title>")
        cases = (
            ("exportData", [refused], "Export is not available.: run the same command again, or ask for it in the console"),
            ("exportData", [(200, JSON, b'{"id": "../x"}')], "names no export"),
            ("exportData/", [unknown], "knows that export no more: run the same command again"),
            ("exportData/", [failed], "LeanCloud did not make that export, its status is failed: run the same command again"),
            ("exportData/", [no_link] * 10, "LeanCloud says that the export is done, and not where it is: run"),
            ("export.tar.gz", [bad], "answers with status 400: run the same command again"),
            ("export.tar.gz", [gone], "answers with status 403: run the same command again"),
            ("export.tar.gz", [html], "the export is damaged: run the same command again"),
        )
        for number, (part, answers, text) in enumerate(cases):
            with self.subTest(text):
                self.database = f"sqlite:///{self.folder / f'{number}.db'}"
                for path in (self.folder / "target").glob("export-*"):
                    path.unlink()
                leancloud.faults = {part: list(answers)}
                code, said = self.leave(leancloud)
                self.assertEqual(code, 1, said)
                self.assertIn(text, said)
                code, said = self.leave(leancloud)
                self.assertEqual(code, 0, said)

    def test_download_that_is_no_export_is_no_export_that_came(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        export, leancloud.export = leancloud.export, b"The link is no longer valid."
        for _ in range(2):
            code, said = self.leave(leancloud)
            self.assertEqual(code, 1, said)
            self.assertIn("the export is damaged: run the same command again, it is fetched anew", said)
        leancloud.export = export
        code, said = self.leave(leancloud)
        self.assertEqual(code, 0, said)
        self.assertIn("note: 5 users who were here already and got their old password or session", said)

    def test_file_of_the_export_that_cannot_be_read_is_told_by_every_run_after(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        path = self.folder / "in"
        path.mkdir()
        (path / "Odd.0.jsonl").write_text('{"objectId": "a2", "n": 1}\n')
        (path / "评论.json").write_text('[{"objectId": "a2", "n": 1}]')
        code, said = self.leave(leancloud, export=path)
        self.assertEqual(code, 1, said)
        code, said = self.leave(leancloud, export=path)
        self.assertEqual(code, 0, said)
        self.assertRegex(said, "a file of the export was not read: .*评论.json: its name tells no class: .*: mend and import it by itself")
        self.assertIn("everything else came", said)
        self.assertEqual(self.leave(leancloud, is_again=True)[0], 0)
        self.assertNotIn("was not read", self.leave(leancloud)[1])

    def test_newer_export_that_is_named_is_imported_and_the_same_once(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        path = self.folder / "Odd.0.jsonl"
        for number, steps in ((1, "left: import it"), (1, "left: pull"), (2, "left: import it"), (2, "left: pull")):
            text = json.dumps({"objectId": f"a{number}", "n": number})
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
            code, said = self.leave(leancloud, export=path)
            self.assertEqual(code, 0, said)
            self.assertIn(steps, said)
        self.assertEqual(leancloud.exports, 0)
        self.assertIn("left: pull", self.leave(leancloud)[1])

    def test_named_export_that_is_damaged_is_not_fetched_anew(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        path = self.folder / "export.tar.gz"
        path.write_bytes(leancloud.export[:-300])
        code, said = self.leave(leancloud, export=path)
        self.assertEqual(code, 1, said)
        self.assertIn("is damaged, or no export: download it again, then run the same command again", said)
        path.write_bytes(leancloud.export)
        self.assertEqual(self.leave(leancloud, export=path)[0], 0)
        self.assertEqual(leancloud.exports, 0)

    def test_database_of_other_keys_is_refused_before_anything_is_asked_for(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        self.assertEqual(self.leave(leancloud)[0], 0)
        before = len(leancloud.calls)
        self.keys = {**self.keys, "master_key": "another"}
        with self.assertRaisesRegex(ValueError, "belongs to another master key"):
            self.leave(leancloud, is_again=True)
        self.assertEqual((len(leancloud.calls), leancloud.exports), (before, 1))

    def test_keys_that_the_api_refuses_do_not_bind_the_database(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        path = self.folder / "export.tar.gz"
        path.write_bytes(leancloud.export)
        keys, self.keys = self.keys, {**self.keys, "master_key": "made up"}
        for export in (None, path):
            leancloud.faults = {"/1.1/": [(401, JSON, b'{"code":401,"error":"Unauthorized."}')]}
            code, said = self.leave(leancloud, export=export)
            self.assertEqual(code, 1)
            self.assertIn("set LEANCLOUD_APP_ID and LEANCLOUD_APP_MASTER_KEY as the console has them", said)
        self.keys = keys
        self.assertEqual(self.leave(leancloud)[0], 0)

    def test_redirect_is_said_at_once(self):
        leancloud = self.stand_in_redirecting()
        code, said = self.leave(None, url=leancloud)
        self.assertEqual((code, self.clock.slept), (1, []))
        self.assertIn("redirects to https://api.example.com/: if that is the API, name it in --from", said)

    def stand_in_redirecting(self):
        self.fill(1, 3, 1)
        leancloud = self.stand_in(seconds=0)
        leancloud.faults = {"/1.1/": [(302, {"Location": "https://api.example.com/", **HTML}, b"")]}
        return leancloud.url

    def test_download_goes_on_where_it_was_stopped(self):
        self.fill(1, 300, 1)
        leancloud = self.stand_in(seconds=0)
        source = remote.Remote(leancloud.url, "a", "b", clock=Clock())
        self.addCleanup(source.close)
        path = self.folder / "got.tar.gz"
        size = len(leancloud.export)
        leancloud.faults = {"export.tar.gz": [(200, {"Content-Length": str(size), **TEXT}, leancloud.export[: size // 2])]}
        with self.assertRaises(remote.RemoteError):
            source.download_to(path, f"{leancloud.url}/export.tar.gz")
        self.assertFalse(path.exists())
        partial = path.with_name("got.tar.gz.partial")
        self.assertEqual(partial.stat().st_size, size // 2)
        source.download_to(path, f"{leancloud.url}/export.tar.gz")
        self.assertEqual((path.read_bytes(), leancloud.ranges), (leancloud.export, [None, f"bytes={size // 2}-"]))
        partial.write_bytes(b"x" * size)  # killed before it was renamed
        leancloud.faults = {"export.tar.gz": [(416, TEXT, b"")]}
        source.download_to(path, f"{leancloud.url}/export.tar.gz")
        self.assertEqual(path.read_bytes(), leancloud.export)


if __name__ == "__main__":
    unittest.main()
