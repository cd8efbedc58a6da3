"""The suite in several processes: each worker is given one test module after the other, and reports what came of it.

`python -m unittest` uses it, by `load_tests` in tests/__init__.py. A run of named modules, one under coverage, and one
with UNITTEST_WORKERS=1 stay in one process.
"""
import faulthandler
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from tests import seconds, skipped

HERE = Path(__file__).resolve().parent
MODULE_SECONDS = 300  # after which a module counts as hung
# What takes longest comes first, so that no worker is left alone with it at the end.
SLOWEST = (
    "tests.app.test_browser",
    "tests.app.test_wsgi",
    "tests.repository.test_docs_commands",
    "tests.leanstorage.test_admin",
    "tests.leanstorage.test_takeout_leave",
    "tests.leanengine.test_start",
    "tests.leanstorage.test_takeout_pull",
    "tests.leanstorage.test_queries",
    "tests.leanstorage.test_reliability",
    "tests.leanwsgi.test_channels",
    "tests.leanstorage.test_outside_sms",
    "tests.leanstorage.test_providers",
    "tests.leanengine.test_reload",
    "tests.leanstorage.test_backup",
    "tests.leanstorage.test_request_log",
    "tests.leanstorage.test_smtp",
    "tests.repository.test_recipes",
    "tests.leanstorage.test_takeout_import",
    "tests.leanstorage.test_takeout_inputs",
    "tests.leanstorage.test_options",
    "tests.leanstorage.test_takeout_export",
)
REPOSITORY = "tests.repository."
LAST = "tests.test_zz_left_behind"  # at the end of every worker


def modules(pattern):
    """The names of the test modules whose file names match `pattern`, slowest first, without LAST.

    Those of tests/repository check documents and tables of this repository, which whoever starts an app from it will
    change: they are left out unless CI is set.
    """
    found = [".".join(file.relative_to(HERE.parent).with_suffix("").parts) for file in HERE.rglob(pattern)]
    if not os.environ.get("CI"):
        found = [name for name in found if not name.startswith(REPOSITORY)]
    return sorted(set(found) - {LAST}, key=lambda name: (SLOWEST.index(name) if name in SLOWEST else len(SLOWEST), name))


class ParallelSuite(unittest.TestSuite):
    """A suite that runs `names` (of modules) in `workers` processes; `patterns` are those of `-k`."""

    def __init__(self, names, workers, patterns=None):
        super().__init__()
        self._names, self._workers, self._patterns = list(names), workers, patterns or []

    def run(self, result, debug=False):
        waiting, lock = list(self._names), threading.Lock()

        def take():
            with lock:
                return waiting.pop(0) if waiting and not result.shouldStop else None

        def report(about):
            with lock:
                _add(result, about)

        processes = []
        threads = [threading.Thread(target=self._drive, args=(take, report, processes)) for _ in range(self._workers)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for process in processes:  # after Ctrl-C
                process.kill()
                process.wait()
        return result

    def _drive(self, take, report, processes):
        """Give modules to a worker until there are none; start another one if it dies."""
        name = take()
        while name is not None:
            with tempfile.TemporaryFile("w+") as output, _Worker(self._patterns, output) as worker:
                processes.append(worker.process)
                while name is not None:
                    began = time.monotonic()
                    answer = worker.run(name)
                    seconds[name] = time.monotonic() - began
                    if answer is None:
                        report(_lost(name, worker, output))
                        name = take()
                        break
                    report(answer)
                    name = take()
                else:
                    report(worker.run(LAST) or _lost(LAST, worker, output))
                    if worker.end() != 0:
                        report(_lost(LAST, worker, output))


class _Worker:
    """A process that runs modules; what it says goes to the file `output`."""

    def __init__(self, patterns, output):
        self._options = [option for pattern in patterns for option in ("-k", pattern)]
        self._output = output

    def __enter__(self):
        ours, theirs = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.parallel", str(theirs), *self._options],
            cwd=HERE.parent,
            env={**os.environ, "UNITTEST_WORKERS": "1", "PYTHONDONTWRITEBYTECODE": ""},
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs],
            text=True,
        )
        os.close(theirs)
        self._answers = os.fdopen(ours)
        return self

    def run(self, name):
        """What came of a module, or None if the worker died or was killed because it hung."""
        timer = threading.Timer(MODULE_SECONDS, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(f"{name}\n")
            self.process.stdin.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        return json.loads(line) if line else None

    def end(self):
        """Let it end; return its exit code."""
        self.process.stdin.close()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def __exit__(self, *_):
        self.end()
        self._answers.close()


class _Reported:
    """A test of a worker, as far as a result wants to know it."""

    def __init__(self, name):
        self._name = name

    def __str__(self):
        return self._name

    def id(self):
        return self._name

    def shortDescription(self):
        return None


def _lost(name, worker, output):
    worker.end()
    output.seek(0)
    text = f"the process of {name} ended with {worker.process.returncode}\n{output.read()[-4000:]}"
    return {"run": 0, "skipped": [], "failures": [], "errors": [[name, text]]}


def _add(result, about):
    """Put what came of a module into the result of the whole run."""
    result.testsRun += about["run"]
    for name, reason in about["skipped"]:
        skipped[reason] += 1
        result.skipped.append((_Reported(name), reason))
    for kind in ("failures", "errors"):
        for name, text in about[kind]:
            getattr(result, kind).append((_Reported(name), text))
            if result.failfast:
                result.stop()
    if getattr(result, "dots", False):
        bad = {kind: len(about[kind]) for kind in ("failures", "errors", "skipped")}
        good = max(0, about["run"] - sum(bad.values()))
        result.stream.write("F" * bad["failures"] + "E" * bad["errors"] + "s" * bad["skipped"] + "." * good)
        result.stream.flush()


def work(answers, patterns):
    """In a worker: run the modules that standard input names, and write a line about each to `answers`."""
    import wsgi  # noqa: F401  before any test imports the SDK, which reads its keys when it is imported

    loader = unittest.TestLoader()
    loader.testNamePatterns = patterns or None
    for line in sys.stdin:
        suite = loader.loadTestsFromName(line.strip())
        result = unittest.TextTestResult(unittest.runner._WritelnDecorator(open(os.devnull, "w")), False, 0)
        faulthandler.dump_traceback_later(MODULE_SECONDS - 10)  # says what hangs, before the process is killed for it
        with result.stream.stream:
            suite.run(result)
        faulthandler.cancel_dump_traceback_later()
        about = {kind: [[str(test), text] for test, text in getattr(result, kind)] for kind in ("failures", "errors", "skipped")}
        about["errors"] += [[str(test), "unexpected success"] for test in result.unexpectedSuccesses]
        print(json.dumps({"run": result.testsRun, **about}), file=answers, flush=True)


if __name__ == "__main__":
    sys.argv[1:], given = [], sys.argv[1:]
    with open(int(given[0]), "w") as answers:
        work(answers, [f"*{one}*" if "*" not in one else one for one in given[2::2]])
