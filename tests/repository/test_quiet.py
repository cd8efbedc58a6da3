"""A run that passes says nothing between its dots, and says why it skipped what it skipped."""
import os
import re
import subprocess
import sys
import threading
import unittest

from tests.support import ROOT, changed_environment, clean_environment

SKIPPING = """
import tests, unittest
class SkippedTest(unittest.TestCase):
    @unittest.skip("there is no moon")
    def test_one(self): pass
    @unittest.skip("there is no moon")
    def test_two(self): pass
unittest.main(argv=["-"])
"""


def said(*arguments):
    """What a Python says, started as by README."""
    command = [sys.executable, *arguments]
    environment = clean_environment()
    del environment["PYTHONWARNINGS"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


class QuietTest(unittest.TestCase):
    def test_tests_of_failures_keep_to_themselves_what_those_say(self):
        text = said("-m", "unittest", "tests.leanengine.test_cloud_code")
        self.assertRegex(text, r"\A\.+\n-+\nRan \d+ tests in \S+\n\nOK\n\Z")

    def test_reason_of_a_skip_is_said(self):
        self.assertRegex(said("-c", SKIPPING), r"OK \(skipped=2\)\nskipped 2: there is no moon\n\Z")


class EnvironmentTest(unittest.TestCase):
    """Threads of a test's own process read the environment at any time."""

    def test_change_leaves_the_other_variables_where_they_are(self):
        kept, ended, missed = "LEANSTORAGE_TEST_KEPT", threading.Event(), []

        def read():
            while not ended.is_set():
                missed.append(None) if os.environ.get(kept) != "x" else None

        with changed_environment(**{kept: "x"}):
            reading = threading.Thread(target=read)
            reading.start()
            for number in range(2000):
                with changed_environment(LEANSTORAGE_TEST_CHANGED=str(number)):
                    self.assertEqual(os.environ["LEANSTORAGE_TEST_CHANGED"], str(number))
            ended.set()
            reading.join()
        self.assertEqual(missed, [])
        self.assertFalse({kept, "LEANSTORAGE_TEST_CHANGED"} & set(os.environ))

    def test_no_test_clears_them_for_others(self):
        pattern = re.compile(r"patch\.dict\(\s*[\"']?os\.environ")
        for file in (ROOT / "tests").rglob("*.py"):
            with self.subTest(file.name):
                self.assertIsNone(pattern.search(file.read_text()), "see support.changed_environment")


if __name__ == "__main__":
    unittest.main()
