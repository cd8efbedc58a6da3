"""A run that passes says nothing between its dots, and says why it skipped what it skipped."""
import subprocess
import sys
import unittest

from tests.support import ROOT, clean_environment

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


if __name__ == "__main__":
    unittest.main()
