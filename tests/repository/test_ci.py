"""CI counts what unittest says, finds README's two commands, and names folders that exist."""
import importlib.util
import re
import subprocess
import sys
import unittest
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / ".ci"


def load(name: str) -> ModuleType:
    """A script of .ci/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", CI / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@unittest.skipUnless(CI.is_dir(), "there is no .ci/ here: it may be deleted")
class CITest(unittest.TestCase):
    def test_totals_of_logs_are_passed_failed_skipped(self):
        totals = load("unittest_totals").totals
        for log, expected in (
            ("Ran 7 tests in 1.2s\n\nOK\n", (7, 0, 0)),
            ("Ran 1 test in 1.2s\n\nOK (skipped=1)\n", (0, 0, 1)),
            ("Ran 9 tests in 1s\n\nFAILED (failures=1, errors=2, skipped=3, expected failures=1)\n", (3, 3, 3)),
            ("Ran 9 tests in 1s\n\nFAILED (unexpected successes=1)\n", (8, 1, 0)),
            ("Ran 0 tests in 0s\n\nFAILED (errors=1)\n", (0, 1, 0)),
            ("Ran 2 tests in 0s\n\nOK\nsomething\nRan 3 tests in 0s\n\nOK (skipped=2)\nafterwards\n", (1, 0, 2)),
            ("Ran 0 tests in 0s\n\nOK\n", (0, 1, 0)),
            ("Ran 5 tests in 0s\n", (0, 1, 0)),
            ("....", (0, 1, 0)),
            ("", (0, 1, 0)),
        ):
            with self.subTest(log=log):
                self.assertEqual(totals(log), expected)

    def test_totals_of_a_real_failing_run_count_its_failure(self):
        code = (
            "import unittest\n"
            "class T(unittest.TestCase):\n"
            "    def test_good(self): pass\n"
            "    def test_bad(self): self.fail()\n"
            "    def test_left(self): self.skipTest('why')\n"
            "unittest.main()"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertEqual(load("unittest_totals").totals(run.stderr), (1, 1, 1))

    def test_commands_of_readme_are_found_once_each(self):
        visitor = load("visitor")
        run, test = (visitor.command_of_readme(ROOT, name) for name in ("run", "test"))
        self.assertTrue(run.startswith("python3 -m venv") and run.endswith("python wsgi.py"))
        self.assertTrue(test.startswith("python3 -m venv") and test.endswith("python -m unittest"))

    def test_every_folder_that_the_scripts_name_has_tests(self):
        scripts = (CI / "run").read_text("utf-8") + (CI / "functions.sh").read_text("utf-8")
        folders = set(re.findall(r"\btests/(?!\$)\w+", scripts)) | {
            f"tests/{name}" for names in re.findall(r"for folder in ([a-z ]+);", scripts) for name in names.split()
        }
        self.assertEqual(folders, {"tests/app", "tests/leanengine", "tests/leanwsgi", "tests/leanstorage"})
        for folder in folders:
            with self.subTest(folder=folder):
                self.assertTrue(list((ROOT / folder).glob("test_*.py")))
