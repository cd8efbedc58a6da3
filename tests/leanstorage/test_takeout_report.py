"""What an import or a pull tells its operator, what it may ask for, and what the command line takes."""

import base64
import io
import json
import stat
import tempfile
import time
import unittest
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from leanstorage.__main__ import parser
from leanstorage.store import Row
from leanstorage.takeout import budget, checklist, commands
from leanstorage.takeout import leave
from leanstorage.takeout import remote, report as reports
from leanstorage.takeout.remote import RemoteError
from tests.leanstorage.takeout_support import Piped, StoreTestCase


class ReportTest(StoreTestCase):
    def report(self):
        self.out = io.StringIO()
        return reports.Report(self.folder / "deep" / "refused.jsonl", self.out, self.out)

    def closed(self, report, *arguments, **options):
        self.out.truncate(0)
        self.out.seek(0)
        self.code = report.close(*arguments, **options)
        return self.out.getvalue().splitlines()

    def test_figures_are_added_up_and_the_code_is_that_of_what_failed(self):
        report = self.report()
        report.advance("B", 5, 3, 1)
        report.advance("A", 2, 1, 1)
        report.advance("B", 1, 1)
        lines = self.closed(report)
        self.assertEqual([line.split() for line in lines[:3]], [["class", "read", "imported", "skipped", "refused"], ["A", "2", "1", "1", "0"], ["B", "6", "4", "1", "0"]])
        self.assertRegex(lines[3], r"\Aread 8, imported 5, skipped 2, refused 0 rows and 0 files; \d+\.\d s, \d+ rows/s, peak memory \d+ MB\Z")
        self.assertEqual((len(lines), self.code), (4, 0))
        lines = self.closed(report, "pulled", with_files=False)
        self.assertRegex(lines[-1], r"\Aread 8, pulled 5, skipped 2, refused 0 rows; ")
        for fail in (lambda report: report.refuse("A", "s", 1, "r", b""), lambda report: report.fail("x"), lambda report: report.trouble("x")):
            report = self.report()
            report._refused_path = self.folder / f"refused{id(fail)}"
            fail(report)
            self.closed(report)
            self.assertEqual(self.code, 1)
        self.assertEqual(self.closed(self.report())[0][:7], "read 0,")

    def test_refused_rows_are_counted_kept_and_five_of_them_shown(self):
        for number, more in ((5, []), (6, ["    refused 1 more"])):
            report = self.report()
            report._refused_path = self.folder / f"{number}.jsonl"
            for line in range(number):
                report.refuse("A", "s\n", line, "r\x1b", b"row" if line else b"\xff")
            lines = self.closed(report)
            self.assertEqual(lines[2:-3], ["    refused s?: r?", *(f"    refused s?, line {line}: r?" for line in range(1, 5)), *more])
            self.assertEqual(lines[-3], f"refused rows and their reasons: {report.refused_path}")
            self.assertIn("--repair", lines[-2])
            kept = [json.loads(line) for line in Path(report.refused_path).read_text().splitlines()]
            self.assertEqual((len(kept), report.refused_rows()), (number, number))
            self.assertEqual(kept[0], {"class": "A", "source": "s\n", "line": 0, "reason": "r?", "row_base64": base64.b64encode(b"\xff").decode()})
            self.assertEqual(kept[1], {"class": "A", "source": "s\n", "line": 1, "reason": "r?", "row": "row"})
            self.assertEqual(stat.S_IMODE(Path(report.refused_path).stat().st_mode), 0o600)

    def test_file_of_refused_rows_is_made_anew_in_a_folder_of_the_owner(self):
        report = self.report()
        report.refuse("files", "s", 0, "r", b"")
        self.assertEqual((report.refused_rows(), stat.S_IMODE((self.folder / "deep").stat().st_mode)), (0, 0o700))
        self.closed(report)
        with self.assertRaises(FileExistsError):
            self.report().refuse("A", "s", 0, "r", b"")

    def test_what_is_listed_aside_is_no_failure(self):
        report = self.report()
        for number in range(6):
            report.list_aside("A", "k1" if number % 2 else "k2", "s", number, "r", b"row")
        lines = self.closed(report)
        self.assertEqual(lines[2:-2], [
            "    3 k1", "        s, line 1: r", "        s, line 3: r", "    3 k2", "        s: r", "        s, line 2: r", "        s, line 4: r",
        ])  # fmt: skip
        self.assertEqual((lines[-2], self.code), (f"all that is listed above, with the reasons: {report.refused_path}", 0))

    def test_notes_are_counted_and_so_many_are_told_apart(self):
        report = self.report()
        for number in range(52):
            report.note("A", f"n{number:02}")
        report.note("A", "n00", 5)
        notes = report.tally("A").notes
        self.assertEqual((len(notes), notes["n00"], notes["n49"], notes["other notes"]), (51, 6, 1, 2))
        self.assertIn("    note: 6 n00", self.closed(report))

    def test_files_that_failed_or_are_none_are_told_once_and_up_to_a_hundred(self):
        report = self.report()
        for number in range(101):
            report.fail(f"x{number}")
            report.fail("x0")
            report.pass_over(f"y{number}")
        self.assertEqual((report.broken_count, len(report.broken), report.passed_count, len(report.passed)), (101, 100, 101, 100))
        self.assertEqual(self.out.getvalue().splitlines(), [f"refused: x{number}" for number in range(100)])
        lines = self.closed(report)
        self.assertTrue(lines[0].startswith("passed over, no exports: 101: y0, y1") and lines[0].endswith("y99, ..."), lines[0])
        self.assertEqual(lines[1:101], [f"refused file: x{number}" for number in range(100)])
        report = self.report()
        for number in range(100):
            report.pass_over(f"y{number}")
        self.assertTrue(self.closed(report)[0].endswith(", y99"))

    def test_trouble_is_told_once_and_lines_of_their_own_behind_the_table(self):
        report = self.report()
        report.trouble(ValueError("a\n"))
        report.trouble("a\n")
        report.tell("told\n")
        report.declared.update(["A", "B"])
        lines = self.closed(report)
        self.assertEqual(lines[:3], ["failed: a?", "classes that a schema declared: 2", "told?"])
        self.assertIn(", 1 failed; ", lines[3])

    def test_progress_is_a_line_or_a_bar(self):
        current = {"name": "A", "size": 100, "done": 25, "rows": 50, "start": 10.0}
        for changes, now, is_last, text in (
            ({}, 40.0, False, "A: 50 rows, 2 rows/s [######                  ] 25 %, 1:30 left"),
            ({}, 40.0, True, "A: 50 rows, 2 rows/s"),
            ({"size": None}, 40.0, False, "A: 50 rows, 2 rows/s"),
            ({"done": 0}, 40.0, False, "A: 50 rows, 2 rows/s"),
            ({"done": 200}, 40.0, False, "A: 50 rows, 2 rows/s [########################] 100 %, 0:00 left"),
            ({}, 10.0, True, "A: 50 rows, 50000 rows/s"),
            ({"done": 50}, 19.0, False, "A: 50 rows, 6 rows/s [############            ] 50 %, 0:09 left"),
        ):
            with self.subTest(changes, now=now):
                self.assertEqual(reports._progress({**current, **changes}, now, is_last), text)

    def test_progress_is_shown_now_and_then(self):
        for is_terminal, pause in ((True, 0.2), (False, 5)):
            with self.subTest(is_terminal=is_terminal):
                clock = mock.Mock(return_value=100.0)
                with mock.patch.object(reports.time, "monotonic", clock):
                    self.out = io.StringIO()
                    self.out.isatty = lambda is_terminal=is_terminal: is_terminal
                    report = reports.Report("x", self.out, self.out)
                    report.begin("A", 10)
                    shown = []
                    for step in (0, pause * 0.9, pause * 0.2, pause * 1.1):
                        clock.return_value += step
                        before = len(self.out.getvalue())
                        report.advance("A", 1, 1, 0, 1)
                        shown.append(len(self.out.getvalue()) > before)
                    self.assertEqual(shown, [is_terminal, False, True, True])
                    self.assertIn(" 40 %, ", self.out.getvalue().splitlines()[-1])
                    report.end("A")
                    text = self.out.getvalue()
                    self.assertTrue(text.endswith("\n") and text.splitlines()[-1].endswith("A: 4 rows, 0 rows/s" if not is_terminal else "A: 4 rows, 9 rows/s"), text)
                    report.end("A")
                    report.begin("B", 10)
                    report.end("B")
                    self.assertEqual(self.out.getvalue(), text)

    def test_last_line_is_sent_on_at_once(self):
        out = Piped()
        reports.Report("x", io.StringIO(), out).close()
        self.assertTrue(out.sent.startswith("read 0, ") and out.sent == out.getvalue(), out.sent)

    def test_objects_that_are_here_are_counted(self):
        self.write(lambda transaction: transaction.save_class("A", {"columns": {}, "permissions": {}, "default_acl": None}))
        self.write(lambda transaction: transaction.insert("A", Row("a", 1, 1, None, {})))
        report = self.report()
        report.advance("B", 1)
        report.count(self.store, ["A"])
        lines = [line.split() for line in self.closed(report)]
        self.assertEqual(lines[:3], [["class", "read", "imported", "skipped", "refused", "here", "now"], ["A", "0", "0", "0", "0", "1"], ["B", "1", "0", "0", "0"]])


class BudgetTest(StoreTestCase):
    HOUR = 3600

    def budget(self, limit=None, **options):
        self.said, self.slept = [], []
        self.time = getattr(self, "time", 1000 * self.HOUR)

        def sleep(seconds):
            self.slept.append(seconds)
            self.time += seconds

        clock = SimpleNamespace(sleep=sleep, monotonic=lambda: self.time)
        return budget.Budget(self.store, "calls:x", limit, say=self.said.append, clock=clock, now=lambda: self.time, **options)

    def test_calls_of_24_hours_are_counted(self):
        one = self.budget()
        for hours, expected in ((0, 1), (1, 2), (22, 3), (1, 3), (1, 3), (30, 1)):
            self.time += hours * self.HOUR
            one.take()
            self.assertEqual(one.recent(), expected, hours)
        self.assertEqual(one.made, 6)

    def test_limit_ends_with_the_hours_that_are_left(self):
        one = self.budget(2)
        one.take()
        self.time += 3 * self.HOUR
        one.take()
        with self.assertRaisesRegex(budget.OutOfCalls, r"\A2 calls were made in the last 24 hours, .* in 21 hours, it goes on"):
            one.take()
        self.assertEqual((one.made, self.slept), (2, []))
        self.time += 21 * self.HOUR
        one.take()
        self.assertEqual(one.recent(), 2)

    def test_patient_one_waits_until_the_hour_is_over(self):
        self.time = 1000 * self.HOUR + 1800.0
        one = self.budget(1, is_patient=True)
        one.take()
        one.take()
        self.assertEqual(self.slept, [1800.0, *[3600.0] * 23])
        self.assertEqual(self.said[0], "1 calls were made in the last 24 hours: waiting 24 hours")
        self.assertEqual(self.said[-1], "1 calls were made in the last 24 hours: waiting 1 hours")

    def test_count_is_saved_every_twenty_calls_and_at_the_end(self):
        one = self.budget()
        for number, saved in ((19, None), (1, 20), (1, 20)):
            for _ in range(number):
                one.take()
            found = self.records("calls:x").get("calls")
            self.assertEqual(found and sum(found["hours"].values()), saved)
        one.close()
        self.assertEqual(self.budget().recent(), 21)
        self.time += 24 * self.HOUR
        self.budget().close()
        self.assertEqual(self.records("calls:x"), {"calls": {"hours": {}}})


class LeaveTest(StoreTestCase):
    def test_export_is_waited_for_longer_each_time(self):
        slept, said = [], []
        answers = [{"status": "running"}, {}, {"status": "done"}, *[{"status": "running"}] * 8, {"download_url": "http://x"}]
        source = SimpleNamespace(get=lambda path: answers.pop(0), clock=SimpleNamespace(sleep=slept.append))
        self.assertEqual(leave._finished(source, "e1", said.append), "http://x")
        self.assertEqual(slept, [2, 3, 4.5, 6.75, 10.125, 15.1875, 22.78125, 34.171875, 51.2578125, 60, 60])
        self.assertEqual(said, ["LeanCloud is making the export (0 s so far)"] * 11)

    def test_export_that_is_not_known_or_not_made_is_told(self):
        def finished(answer):
            def get(path):
                if isinstance(answer, Exception):
                    raise answer
                return answer

            return leave._finished(SimpleNamespace(get=get, clock=SimpleNamespace(sleep=lambda seconds: None)), "e1", lambda text: None)

        for answer in (RemoteError("x", 1), RemoteError("x", 101), RemoteError("x", 404), {"status": "failed"}, {"status": 5}):
            with self.subTest(answer=answer), self.assertRaises(leave._NoSuchExport):
                finished(answer)
        for code in (None, 2, 403):
            with self.subTest(code), self.assertRaisesRegex(RemoteError, "x"):
                finished(RemoteError("x", code))
        with mock.patch.object(leave, "MAX_POLLS", 3), self.assertRaisesRegex(RemoteError, "not ready after more than a day"):
            finished({"status": "running", "download_url": ""})

    def test_name_of_an_export_is_letters_and_digits(self):
        for export_id, is_taken in (("a" * 100, True), ("a" * 101, False), ("", False), ("a/b", False), ("é", False), (5, False), (None, False)):
            with self.subTest(export_id):
                source = mock.Mock()
                source.post.return_value = {"id": export_id}
                if is_taken:
                    self.assertEqual(leave._asked(source, "a@b"), export_id)
                    source.post.assert_called_with("/exportData", {"email": "a@b"})
                    leave._asked(source, None)
                    source.post.assert_called_with("/exportData", {})
                else:
                    self.assertRaises(RemoteError, leave._asked, source, None)

    def test_download_is_tried_eight_times_unless_that_changes_nothing(self):
        broke = RemoteError("broke off")
        for errors, waited, is_done in (
            ([], [], True),
            ([broke] * 7, list(range(7)), True),
            ([broke] * 8, list(range(7)), False),
            ([RemoteError("x", 403)], [], False),
            ([remote.Unreachable("x")], [], False),
        ):
            with self.subTest(len(errors)):
                source = mock.Mock()
                source.download_to.side_effect = [*errors, None]
                if is_done:
                    leave._download(source, "path", "url")
                else:
                    self.assertRaises(RemoteError, leave._download, source, "path", "url")
                self.assertEqual([call.args for call in source.wait.call_args_list], [(number,) for number in waited])

    def test_damage_is_told_from_other_failures(self):
        for text, is_damage in (("e: the gzip data ends too early", True), ("e: the zip archive is damaged", True), ("e: what a server answered", True), ("e: not JSON", False)):
            self.assertIs(leave._is_damage(text), is_damage)

    def test_checklist_names_thirty_classes(self):
        for count, more in ((0, None), (30, "c29"), (31, "c29, ...")):
            def fill(transaction, count=count):
                for name in ["_User", *(f"c{number:02}" for number in range(count))]:
                    transaction.save_class(name, {"columns": {}, "permissions": {}, "default_acl": None})

            self.write(fill)
            said = []
            checklist.tell(self.database, said.append)
            listed = [line for line in said if line.startswith("classes: ")]
            self.assertEqual([line.partition("c28, ")[2] for line in listed], [more] if more else [])
            self.assertEqual(said[1], "No API shows the following. Copy it from the console before the app is destroyed:")


class CommandsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.parser = parser()

    def options(self, *arguments):
        with redirect_stderr(io.StringIO()):
            return self.parser.parse_args(arguments)

    def test_options_are_what_they_say_and_as_often_as_they_may_be(self):
        url = "http://x"
        for arguments, expected in (
            (["import", "a", "b"], {"export": ["a", "b"], "class_name": None, "dry_run": False, "rotate_sessions": False, "refused": None, "repair": False, "rewrite_urls": [], "makes": True, "database": None}),
            (["import", "a", "--class", "C", "--dry-run", "--rotate-sessions", "--refused", "r", "--repair", "--rewrite-urls", "x", "--rewrite-urls", "y"], {"class_name": "C", "dry_run": True, "rotate_sessions": True, "refused": "r", "repair": True, "rewrite_urls": ["x", "y"]}),
            (["pull", "--from", url], {"source": url, "database": None, "files": None, "private_host": [], "max_calls": None, "wait": False, "parallel": 4, "classes": [], "delete": False, "refused": None, "makes": True}),
            (["pull", "--from", url, "--files"], {"files": ""}),
            (["pull", "--from", url, "--files", "/f", "--private-host", "a", "--private-host", "b", "--max-calls", "7", "--wait", "--parallel", "32"], {"files": "/f", "private_host": ["a", "b"], "max_calls": 7, "wait": True, "parallel": 32}),
            (["pull", "--from", url, "--class", "A", "--class", "B", "--delete"], {"classes": ["A", "B"], "delete": True}),
            (["leave", "--from", url], {"export": None, "again": False, "email": None, "refused": None, "makes": True}),
            (["leave", "--from", url, "--export", "e", "--again", "--email", "a@b"], {"export": "e", "again": True, "email": "a@b"}),
            (["import-files", "d"], {"folder": "d", "refused": None, "makes": False, "database": None, "files": None}),
            (["export", "d"], {"folder": "d", "makes": False, "database": None}),
            (["migrate", "--from", "sqlite:////a", "--to", "sqlite:////b"], {"source": "sqlite:////a", "target": "sqlite:////b", "makes": False}),
            (["rewrite", "a=b", "c=d"], {"urls": ["a=b", "c=d"], "classes": [], "apply": False, "makes": False, "database": None}),
            (["rewrite", "a=b", "--class", "A", "--class", "B", "--apply"], {"classes": ["A", "B"], "apply": True}),
            (["adopt-keys"], {"makes": False, "database": None}),
        ):
            with self.subTest(arguments):
                found = vars(self.options(*arguments))
                self.assertEqual({name: found[name] for name in expected}, expected)

    def test_options_that_are_missing_or_no_number_are_refused(self):
        for arguments in (
            ["import"],
            ["pull"],
            ["leave"],
            ["import-files"],
            ["export"],
            ["rewrite"],
            ["migrate", "--from", "sqlite:////a"],
            ["migrate", "--to", "sqlite:////a"],
            ["migrate", "--from", "x", "--to", "sqlite:////a"],
            ["migrate", "--from", "sqlite:////a", "--to", "x"],
            ["pull", "--from", "http://x", "--parallel", "0"],
            ["pull", "--from", "http://x", "--parallel", "33"],
            ["pull", "--from", "http://x", "--database", "x"],
            ["pull", "--from", "http://x", "--files", "http://x"],
            *(["pull", "--from", "http://x", "--max-calls", text] for text in ("0", "-1", "x", "\u00b2", "1" * 10, "")),
        ):
            with self.subTest(arguments), self.assertRaises(SystemExit) as caught:
                self.options(*arguments)
            self.assertEqual(caught.exception.code, 2)
        self.assertEqual(commands._calls("9" * 9), 999_999_999)

    def test_every_option_says_what_it_is_and_every_value_has_a_name(self):
        subparsers = next(action for action in self.parser._actions if action.choices)
        told = {action.dest: action.help for action in subparsers._choices_actions}
        for name in ("import", "pull", "leave", "import-files", "export", "migrate", "rewrite", "adopt-keys"):
            self.assertTrue(told[name], name)
            for action in subparsers.choices[name]._actions:
                with self.subTest(name, action=action.dest):
                    self.assertTrue(action.help)
                    self.assertTrue(action.nargs == 0 or action.metavar)

    def test_file_of_refused_rows_has_a_name_of_its_own(self):
        epoch = time.gmtime(0)
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(commands.time, "gmtime", lambda: epoch):
            data = Path(folder)
            for name in ("refused-19700101-000000.jsonl", "refused-19700101-000000-1.jsonl", "refused-19700101-000000-2.jsonl"):
                found = commands._refused_path(SimpleNamespace(refused=None), data)
                self.assertEqual(found, data / name)
                found.touch()
            self.assertEqual(commands._refused_path(SimpleNamespace(refused="r"), data), Path("r"))


if __name__ == "__main__":
    unittest.main()
