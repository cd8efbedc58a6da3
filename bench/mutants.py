"""Do the tests notice? Small faults are put into the code, one at a time, and its tests have to fail.

    python bench/mutants.py --count 300 --seed 1       a random sample of the modules in bench/mutants_tests.py
    python bench/mutants.py leanstorage/rules/acl.py   of some modules only
    python bench/mutants.py --count 0                  all of them: many hours
    python bench/mutants.py --changed HEAD~1 --nearest --seconds 90    some of the lines changed since

Runs in a copy of the tree, and of the tests those that reach the changed line. A mutant that no test notices is shown
with its change, unless it stands with its reason in bench/mutants_equivalent.txt. docs/mutants.md has more. The packages
for this work in place or want pytest, and none draws a sample by a seed.
"""
import argparse
import ast
import contextlib
import difflib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench.mutants_tests import TESTS  # noqa: E402 after the path is set
from bench.mutations import mutations  # noqa: E402

EQUIVALENT = Path(__file__).with_name("mutants_equivalent.txt")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", "data", "node_modules", ".*_cache")
BASE_SECONDS = 20  # what a run of tests may take beyond five times what it takes without a fault
MOST_SECONDS = 90  # of tests for one mutant
SLOW = ("test_browser", "test_wsgi", "test_reload", "test_start", "test_javascript", "test_s3_blobs", "test_reliability")
POSTGRESQL = "leanstorage/store/postgresql/"


class Copy:
    """A copy of the tree in which tests are run."""

    def __init__(self, folder, nearest):
        self._nearest = nearest
        self.root, self._temporary = Path(folder, "tree"), Path(folder, "t")
        shutil.copytree(ROOT, self.root, ignore=LEFT_OUT)
        self._reached = {}
        self.environment = {}

    def write(self, path, source):
        file = self.root / path
        file.write_bytes(source)
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            compiled.unlink()  # it knows its source by its size and second

    def run(self, tests, seconds, runner=("-m", "unittest", "-f")):
        """Whether the tests pass; None when they do not end."""
        self._temporary.mkdir()
        command = [sys.executable, "-W", "ignore", *runner, *tests]
        environment = {**os.environ, **self.environment, "TMPDIR": str(self._temporary)}
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(command, cwd=self.root, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                for started in psutil.Process().children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        started.kill()
                process.wait()
            said.seek(0)
            self.said = said.read()
        shutil.rmtree(self._temporary, ignore_errors=True)
        return None if status is None else status == 0

    def reached(self, name):
        """{test: [seconds, {path: lines}]} of a test module, the first time by running it; a test that fails is none."""
        known = name, self.environment.get("LEANSTORAGE_TEST_POSTGRESQL")
        if known not in self._reached:
            file = self.root.parent / "reached.json"
            file.write_text("{}")
            self.run([name, str(file)], 600, ["bench/reached.py"])
            self._reached[known] = json.loads(file.read_text())
            print(f"{name}: {len(self._reached[known])} tests", file=sys.stderr, flush=True)
        return self._reached[known]

    def tests_for(self, mutation):
        """(the tests to run, how long they may take) for a mutation: those that reach its line, the nearest ones first."""
        near = tests_of(mutation.path)
        further = () if self.environment or self._nearest else further_tests(mutation.path)
        modules = (*near, *(name for name in further if name not in near))
        lines, constant = lines_of(mutation), constant_of(mutation)
        chosen, total = [], 0
        for name in modules:
            named = naming(name, constant) if constant else ()
            for test, (seconds, found) in self.reached(name).items():
                is_it = lines & set(found.get(mutation.path, ())) or test.rpartition(".")[2] in named
                if is_it and total < MOST_SECONDS:
                    chosen.append(test)
                    total += seconds
        if not chosen or runs_on_import(mutation):  # or in a process of its own: no test is known to reach it
            for name in near:
                for test, (seconds, _) in self.reached(name).items():
                    if total < MOST_SECONDS and test not in chosen:
                        chosen.append(test)
                        total += seconds
        return chosen, 5 * total + BASE_SECONDS


def lines_of(mutation):
    """The lines whose tests could notice a mutation: its own, and for a constant of the module those that name it."""
    lines = set(range(mutation.statement, mutation.line + 1))
    for function in functions(mutation.path):
        if function.lineno <= mutation.line < function.body[0].lineno:  # a default: whoever calls it may notice
            lines |= set(range(function.lineno, function.end_lineno + 1))
    constant = constant_of(mutation)
    if constant:
        texts = (ROOT / mutation.path).read_text().splitlines()
        lines |= {number for number, text in enumerate(texts, 1) if re.search(rf"\b{constant}\b", text)}
    return lines


@cache
def functions(path):
    """The functions of a module, methods and inner ones among them."""
    tree = ast.parse((ROOT / path).read_text())
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def runs_on_import(mutation):
    """Whether a mutation lies in no function's body: tests that import its module themselves are not those that notice it."""
    return not any(function.body[0].lineno <= mutation.line <= function.end_lineno for function in functions(mutation.path))


def constant_of(mutation):
    """A pattern of the name of the module's constant that a mutation changes, or of the names of one statement; or None."""
    found = re.match(r"(\w+(?:, \w+)*)(: [^=]+)? = ", (ROOT / mutation.path).read_text().splitlines()[mutation.statement - 1])
    return found and f"(?:{found[1].replace(', ', '|')})"


def naming(module, constant):
    """The names of a module's tests that speak of a constant themselves."""
    found, test = set(), None
    for line in ROOT.joinpath(*module.split(".")[:3]).with_suffix(".py").read_text().splitlines():
        begun = re.match(r"    def (\w+)", line)
        test = begun[1] if begun else test
        if test and re.search(rf"\b{constant}\b", line):
            found.add(test)
    return found


def tests_of(path):
    """The test modules that are nearest to a module."""
    found = next((tests for pattern, tests in TESTS.items() if fnmatch(path, pattern)), "")
    return tuple(f"tests.{name}" for name in found.split())


def further_tests(path):
    """All the others of its layer that run in one process."""
    folders = {"leanstorage": ["leanstorage"], "leanwsgi": ["leanwsgi", "leanengine", "leanstorage"]}.get(path.split("/")[0], ["leanengine", "app"])
    files = sorted(file for folder in folders for file in (ROOT / "tests" / folder).glob("test_*.py"))
    return [f"tests.{file.parent.name}.{file.stem}" for file in files if file.stem not in SLOW]


def candidates(paths):
    """All mutations of the modules, but those of lines that no test can reach."""
    found = []
    for path in paths:
        source = (ROOT / path).read_bytes()
        lines = source.decode().splitlines()
        for one in mutations(path, source):
            if "pragma: no cover" not in lines[one.line - 1]:
                found.append(one)
    return found


def changed_lines(since):
    """{path: lines} of the files that differ from a commit."""
    command = ["git", "diff", "--unified=0", "--no-color", since, "--", "*.py"]
    lines, path = {}, ""
    for line in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if line.startswith("+++ "):
            path = line[6:]
        elif found := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first = int(found[1])
            lines.setdefault(path, set()).update(range(first, first + int(found[2] or 1)))
    return lines


def shown(mutation, source):
    """A mutation as a diff of a few lines."""
    before, after = source.decode().splitlines(), mutation.apply(source).decode().splitlines()
    return "\n".join(list(difflib.unified_diff(before, after, n=0, lineterm=""))[3:])


def key(mutation, source):
    """What names a mutation in EQUIVALENT: its module and its diff in one line, wherever it stands by now."""
    return f"{mutation.path} | " + " | ".join(re.sub(r"^([-+])\s*", r"\1", line) for line in shown(mutation, source).splitlines())


def equivalent():
    """{key: reason}"""
    lines = EQUIVALENT.read_text().splitlines()
    pairs = zip(lines, lines[1:])
    return {line: reason.strip() for line, reason in pairs if " | " in line and reason.startswith("    ")}


def needs_postgresql(mutation, source):
    """Whether a mutation shows on PostgreSQL alone: SQLite lets one writer in at a time, and needs no row locked."""
    return mutation.path.startswith(POSTGRESQL) or "lock=" in shown(mutation, source).split("\n")[0]


@contextlib.contextmanager
def postgresql(is_needed):
    """The environment in which tests of the storage run on PostgreSQL, on a server of its own."""
    url = os.environ.get("LEANSTORAGE_TEST_POSTGRESQL", "")
    if url or not is_needed:
        yield url
        return
    folder = tempfile.mkdtemp(prefix="mutants-pg-")
    os.chmod(folder, 0o755)
    command = [str(ROOT / "compat/postgresql.sh")]
    done = subprocess.run([*command, "start", f"{folder}/pg"], stdout=subprocess.PIPE, text=True, check=True)
    try:
        yield done.stdout.strip()
    finally:
        subprocess.run([*command, "stop", f"{folder}/pg"], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def show(mutation, outcome, seconds, more):
    print(f"{outcome:10} {seconds:5.1f} s  {mutation.path}:{mutation.line} ({mutation.kind}) {more}", flush=True)


def try_all(chosen, copy, url, until):
    """Run the tests of each mutation; {outcome: number} and the survivors."""
    known, outcomes, survivors = equivalent(), Counter(), []
    for mutation in chosen:
        source = (ROOT / mutation.path).read_bytes()
        if key(mutation, source) in known:
            outcomes["equivalent"] += 1
            continue
        copy.environment = {"LEANSTORAGE_TEST_POSTGRESQL": url} if url and needs_postgresql(mutation, source) else {}
        tests, limit = copy.tests_for(mutation)
        if time.monotonic() > until:
            break
        began = time.monotonic()
        copy.write(mutation.path, mutation.apply(source))
        try:
            passes = copy.run(tests, limit) if tests else True
        finally:
            copy.write(mutation.path, source)
        outcome = {True: "SURVIVED", False: "killed", None: "timeout"}[passes]
        outcomes[outcome] += 1
        by = re.search(r"^(?:FAIL|ERROR): .*?\(([\w.]+)", copy.said, re.MULTILINE)
        show(mutation, outcome, time.monotonic() - began, f"by {by[1]}" if by and not passes else f"{len(tests)} tests")
        if passes:
            survivors.append(mutation)
            print(shown(mutation, source), flush=True)
    return outcomes, survivors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="paths; all of bench/mutants_tests.py when none is given")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=50, help="0: all")
    parser.add_argument("--changed", metavar="SINCE", help="only lines that differ from this commit")
    parser.add_argument("--nearest", action="store_true", help="only the tests of bench/mutants_tests.py, not all of the layer")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further one after this long")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    until = time.monotonic() + options.seconds
    everything = sorted(str(file.relative_to(ROOT)) for glob in ("*.py", "lean*/**/*.py") for file in ROOT.glob(glob))
    paths = options.modules or [path for path in everything if tests_of(path)]
    found = candidates(paths)
    if options.changed:
        lines = changed_lines(options.changed)
        found = [one for one in found if one.line in lines.get(one.path, ())]
    chosen = random.Random(options.seed).sample(found, min(options.count or len(found), len(found)))
    is_needed = any(needs_postgresql(one, (ROOT / one.path).read_bytes()) for one in chosen)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, postgresql(is_needed) as url:
        outcomes, survivors = try_all(chosen, Copy(folder, options.nearest), url, until)
    print("\nsurvivors, as bench/mutants_equivalent.txt names them:" if survivors else "")
    for one in survivors:
        print(key(one, (ROOT / one.path).read_bytes()))
    tried = outcomes["killed"] + outcomes["timeout"] + outcomes["SURVIVED"]
    noticed = tried - outcomes["SURVIVED"]
    print(f"seed {options.seed}: {len(found)} possible, {tried} tried, {noticed} noticed ({outcomes['timeout']} by their time), ", end="")
    print(f"{outcomes['SURVIVED']} survived, {outcomes['equivalent']} equivalent; {100 * noticed / max(1, tried):.1f} %")


if __name__ == "__main__":
    main()
