"""The Go and the PHP SDK's own tests, unmodified. GO_SDK is the Go SDK's test program, PHP_SDK a checkout of the PHP SDK."""
import os
import shutil
import unittest
from contextlib import redirect_stdout
from io import StringIO

from compat import go_sdk, php_sdk
from tests.leanstorage.service_support import SERVER, open_database
from tests.support import changed_environment

GO_SDK, PHP_SDK = os.environ.get("GO_SDK", ""), os.environ.get("PHP_SDK", "")


class SuitesTest(unittest.TestCase):
    def check(self, run, *arguments):
        """A suite that found only what is known; the totals are the last line that it prints."""
        if SERVER:
            url, drop = open_database("")
            self.addCleanup(drop)
            self.enterContext(changed_environment(LEANSTORAGE_TEST_POSTGRESQL=url))
        output = StringIO()
        with redirect_stdout(output):
            failed = run(*arguments)
        self.assertEqual(failed, 0, output.getvalue()[-4000:])
        return output.getvalue().splitlines()[-1]

    @unittest.skipUnless(os.access(GO_SDK, os.X_OK), "GO_SDK names no test program of the Go SDK")
    def test_suite_of_the_go_sdk_passes(self):
        if not go_sdk.engine_port_is_free():
            self.skipTest(f"port {go_sdk.ENGINE} is taken: the Go SDK's tests serve their engine there")
        self.assertRegex(self.check(go_sdk.main, GO_SDK), r"^[1-9]\d* passed, 0 failed")

    @unittest.skipUnless(shutil.which("php"), "PHP is not installed")
    @unittest.skipUnless(os.path.isdir(os.path.join(PHP_SDK, "test")), "PHP_SDK names no checkout of the PHP SDK")
    def test_suite_of_the_php_sdk_passes(self):
        self.assertRegex(self.check(php_sdk.main, PHP_SDK, []), r"^[1-9]\d* passed, 0 failed")

    def test_results_of_go_are_counted_without_those_that_have_tests_inside(self):
        output = "--- FAIL: TestA (0.0s)\n    --- PASS: TestA/b (0.0s)\n    --- FAIL: TestA/c (0.0s)\n--- SKIP: TestD (0.0s)\n"
        output += f"--- FAIL: {go_sdk.EXPECTED[0]} (0.0s)\n"
        self.assertEqual(go_sdk.counted(output), (1, 1, 1, 1))


if __name__ == "__main__":
    unittest.main()
