"""The timers of docs/leaving-leancloud.md: its table means what LeanCloud's expressions mean, and its lines call the function."""
import configparser
import datetime
import itertools
import re
import shlex
import shutil
import subprocess
import unittest

from leanstorage.engine.hooks import WsgiTransport
from tests.leanstorage.storage_support import StorageTestCase
from tests.support import clean_environment, ROOT

PAGES = [ROOT / "docs" / name for name in ("leaving-leancloud.md", "leaving-leancloud.zh-CN.md")]
SHOWN = 8  # times that are compared
START = datetime.datetime(2026, 11, 28, 7, 12, 30)
RANGES = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}
QUARTZ = list(RANGES)
CRON = QUARTZ[1:]
DAYS = "SUN MON TUE WED THU FRI SAT".split()


def numbers(text, name, first_weekday):
    """The values that a field of an expression allows; "L" alone for the last day of a month."""
    low, high = RANGES[name]
    if text in ("*", "?"):
        return set(range(low, high + 1))
    if text == "L":
        return {"L"}
    found = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        begin, _, end = span.partition("-")
        if name == "weekday":
            begin, end = (str(DAYS.index(one)) if one in DAYS else one and str(int(one) - first_weekday) for one in (begin, end))
        begin = low if begin == "*" else int(begin)
        found |= set(range(begin, (int(end) if end else high if step else begin) + 1, int(step or 1)))
    return found


def times(expression, names, first_weekday):
    """When an expression is due from START on."""
    allowed = {"second": {0}}
    for name, text in zip(names, expression.split(), strict=True):
        allowed[name] = numbers(text, name, first_weekday)
    for number in itertools.count():
        day = START.date() + datetime.timedelta(number)
        is_last = (day + datetime.timedelta(1)).day == 1
        is_day = day.day in allowed["day"] or (is_last and "L" in allowed["day"])
        if not (is_day and day.month in allowed["month"] and day.isoweekday() % 7 in allowed["weekday"]):
            continue
        for clock in itertools.product(*(sorted(allowed[name]) for name in ("hour", "minute", "second"))):
            moment = datetime.datetime.combine(day, datetime.time(*clock))
            if moment > START:
                yield moment


def first_times(*arguments):
    return list(itertools.islice(times(*arguments), SHOWN))


def rows(page):
    """[(LeanCloud's expressions, the crontab's or None, systemd's)] of the table."""
    table = re.search(r"^\| LeanCloud \| crontab \|.*\n\|.*\n((?:\|.*\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE)[1]
    for line in table.splitlines():
        left, cron, calendar = (re.findall("`([^`]+)`", cell) for cell in line.strip("|").split(" | "))
        yield left, cron[0] if cron else None, calendar[0]


class TableTest(unittest.TestCase):
    def test_expressions_are_due_when_leancloud_s_are(self):
        for page in PAGES:
            found = list(rows(page))
            self.assertGreater(len(found), 5)
            for expressions, cron, _ in found:
                for expression in expressions:
                    with self.subTest(page=page.name, expression=expression):
                        wanted = first_times(expression, QUARTZ, 1)
                        if cron:
                            self.assertEqual(first_times(cron, CRON, 0), wanted)
                        else:
                            self.assertRegex(expression, r"^\d+/|L")

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not installed")
    def test_systemd_s_calendar_is_the_same(self):
        for expressions, _, calendar in rows(PAGES[0]):
            with self.subTest(calendar):
                command = ["systemd-analyze", "calendar", f"--base-time={START}", f"--iterations={SHOWN}", calendar]
                done = subprocess.run(command, env=clean_environment(TZ="UTC"), capture_output=True, text=True)
                if "base-time" in done.stderr or "iterations" in done.stderr:
                    self.skipTest("this systemd is too old to say when")
                found = re.findall(r"(?:Next elapse|Iter\. #\d+|Iteration #\d+): \w+ (\S+ \S+) UTC", done.stdout)
                self.assertEqual(found, [str(one) for one in first_times(expressions[0], QUARTZ, 1)], done.stdout + done.stderr)


@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
class LinesTest(StorageTestCase):
    """The lines call a function that wants the master key, as internal functions do."""

    def setUp(self):
        super().setUp()
        self.called = []
        self.storage = self.start(transport=WsgiTransport(self.engine))

    def engine(self, environ, start_response):
        is_list = environ["PATH_INFO"].endswith("_ops/metadatas")
        is_master = environ["HTTP_X_LC_KEY"] == self.storage.keys["master_key"] + ",master"
        if not is_list and is_master:
            self.called.append(environ["PATH_INFO"])
        start_response("200 OK" if is_master else "401 Unauthorized", [("Content-Type", "application/json")])
        return [b'{"result": ["hello"]}' if is_list else b'{"result": "done"}']

    def carry_out(self, words, status=0):
        """Run a line of a page, on this storage and with the file of headers that the page's first command makes."""
        self.assertEqual(words[0], "curl")
        words = [word.replace("http://127.0.0.1:8126", self.storage.url) for word in words]
        words = [word.replace("/srv/leanstorage", str(self.folder)) for word in words]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, status, done.stderr)

    def make_headers(self, page, key):
        command = re.search(r"^\(umask .*timer\"\)$", page, re.MULTILINE)[0]
        variables = {"LEANCLOUD_APP_ID": self.storage.keys["id"], "LEANCLOUD_APP_MASTER_KEY": key, "LEANSTORAGE_DATA": self.folder}
        subprocess.run(["sh", "-c", command], env=clean_environment(**variables), check=True)
        self.assertEqual((self.folder / "timer").stat().st_mode & 0o777, 0o600)

    def test_line_of_the_crontab_and_service_of_systemd_call_the_function(self):
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            with self.subTest(page.name):
                self.make_headers(text, self.storage.keys["master_key"])
                line = re.search(r"^(?:\S+ ){5}(curl .*)$", text, re.MULTILINE)[1]
                unit = configparser.ConfigParser(interpolation=None)
                unit.optionxform = str
                unit.read_string(re.search(r"```ini\n(.*?)```", text, re.DOTALL)[1])
                self.assertEqual(unit["Timer"]["OnCalendar"], "Mon 08:00:00 Asia/Shanghai")
                for words in (shlex.split(line), shlex.split(unit["Service"]["ExecStart"])):
                    self.called.clear()
                    self.carry_out(words)
                    self.assertEqual(self.called, ["/1.1/functions/hello"])
                    self.make_headers(text, "wrong")
                    self.carry_out(words, status=22)  # so that cron and systemd hear of it
                    self.make_headers(text, self.storage.keys["master_key"])


if __name__ == "__main__":
    unittest.main()
