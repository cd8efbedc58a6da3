"""CI counts what unittest says, finds README's two commands, and names folders that exist."""
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
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

    def test_public_forge_runs_what_ci_runs(self):
        text = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
        self.assertRegex(text, r"(?m)^ +- run: bash \.ci/run$")

    @unittest.skipUnless(shutil.which("git"), "git is not installed")
    def test_release_stops_before_it_builds_what_is_not_committed_or_not_in_the_changelog(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file in (".ci/release", "pyproject.toml", "leanstorage/__init__.py"):
                (folder / file).parent.mkdir(exist_ok=True)
                shutil.copy(ROOT / file, folder / file)
            (folder / "CHANGELOG.md").write_text("# Changelog\n\n## [0.0.1] - 2026-01-01\n- first\n")
            git = ["git", "-C", name, "-c", "user.name=a", "-c", "user.email=a@example.com"]
            subprocess.run([*git, "init", "--quiet"], check=True)
            for reason in ("there are changes that are not committed", "CHANGELOG.md has no section for "):
                done = subprocess.run(["bash", ".ci/release"], cwd=folder, capture_output=True, text=True, timeout=60)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertTrue(done.stderr.startswith(f"no release: {reason}"), done.stderr)
                subprocess.run([*git, "add", "."], check=True)
                subprocess.run([*git, "commit", "--quiet", "-m", "all"], check=reason.startswith("there"))

    def test_release_publishes_nothing(self):
        lines = (CI / "release").read_text("utf-8").splitlines()
        self.assertEqual([line for line in lines if "upload" in line or "git push" in line], [lines[-1]])
        self.assertTrue(lines[-1].startswith('echo "Nothing was published.'))

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
