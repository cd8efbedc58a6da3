"""The environment of every test: complete before anything imports the SDK, which reads its keys when it is imported.

Nothing is configured, so the app runs on embedded storage and Redis in a temporary folder. What goes wrong where no
test can see it (a destructor, a thread, a resource that nobody closed) is recorded in `problems`, which the last test
file looks at; it fails the process even when only some tests were run.
"""
import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
import unittest
import warnings
from collections import Counter

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
problems = []
MEMORY = "/dev/shm"  # a file system in memory, where a sync costs nothing: half of the suite's time was its disk's
MEMORY_BYTES = 1 << 30  # that have to be free there, a multiple of what the tests keep at a time; a container has 64 MiB


def _is_roomy(folder):
    """Whether programs and large files may lie there."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    is_usable = os.access(folder, os.W_OK | os.X_OK) and not found.f_flag & (os.ST_RDONLY | os.ST_NOEXEC)
    return is_usable and found.f_bavail * found.f_frsize >= MEMORY_BYTES


if sys.platform == "linux" and "TMPDIR" not in os.environ and _is_roomy(MEMORY):
    os.environ["TMPDIR"], tempfile.tempdir = MEMORY, None  # of what the tests start, too
skipped = Counter()  # reason -> tests; said at the end, as unittest says a bare `s`
seconds = Counter()  # that each module took; the slowest are said at the end
data = tempfile.mkdtemp(prefix="tests-")

for name in list(os.environ):
    if name.startswith(("LEANCLOUD_", "LC_", "REDIS_URL_")) or name in (
        "LEANCACHE_INSTANCE",
        "SESSION_SECRET",
        "SESSION_MAX_AGE",
        "ALLOWED_HOSTS",
        "TRUSTED_PROXY",
        "MAX_UPLOAD_BYTES",
        "NOTIFY_WEBHOOK_URL",
    ):
        del os.environ[name]
os.environ["LEANSTORAGE_DATA"] = data
HAS_STORAGE = importlib.util.find_spec("leanstorage") is not None
if HAS_STORAGE:
    # A guess at a password costs a sixteenth in the tests' own processes; those that they start have the real cost, but for the browser's.
    from leanstorage.rules import passwords

    SCRYPT = {**passwords.SCRYPT}  # as it is elsewhere
    passwords.SCRYPT["n"] = SCRYPT["n"] // 16
else:  # an app that has its storage elsewhere: what needs one is skipped, the rest has to start
    keys = ("LEANCLOUD_APP_ID", "LEANCLOUD_APP_KEY", "LEANCLOUD_APP_MASTER_KEY", "LEANCLOUD_APP_HOOK_KEY")
    os.environ.update(dict.fromkeys(keys, "none"), LEANCLOUD_API_SERVER="http://127.0.0.1:9")


def _unraisable(event):
    problems.append(f"in {event.object!r}: {event.exc_value!r}")
    sys.__unraisablehook__(event)


def _thread_exception(event):
    problems.append(f"in thread {event.thread and event.thread.name}: {event.exc_value!r}")
    threading.__excepthook__(event)


_show = warnings.showwarning


def _show_warning(message, category, filename, lineno, file=None, line=None):
    if issubclass(category, ResourceWarning):
        problems.append(f"{filename}:{lineno}: {message}")
    # unittest's runner asks for every warning. The SDK's own packages are old: their deprecations are not ours to mend.
    if not issubclass(category, DeprecationWarning) or (filename.startswith(ROOT) and "site-packages" not in filename):
        _show(message, category, filename, lineno, file, line)


_add_skip = unittest.TextTestResult.addSkip


def _add_skip_with_its_reason(result, test, reason):
    if result.showAll or result.dots:  # not in a worker, whose skips are counted where they are reported
        skipped[reason] += 1
    _add_skip(result, test, reason)


def _finish():
    shutil.rmtree(data, ignore_errors=True)
    for reason, number in skipped.items():
        print(f"skipped {number}: {reason}", file=sys.stderr, flush=True)
    if seconds:
        slowest = ", ".join(f"{name.removeprefix('tests.')} {taken:.0f} s" for name, taken in seconds.most_common(5))
        print(f"slowest modules: {slowest}", file=sys.stderr, flush=True)
    if problems:
        print("problems outside of the tests:", *problems, sep="\n  ", file=sys.stderr, flush=True)
        os._exit(1)


sys.unraisablehook = _unraisable
threading.excepthook = _thread_exception
warnings.showwarning = _show_warning
unittest.TextTestResult.addSkip = _add_skip_with_its_reason
atexit.register(_finish)


def load_tests(loader, standard, pattern):
    """The whole suite in parallel processes, some more than there are cores: many tests wait; see tests/parallel.py."""
    from tests.parallel import ParallelSuite, modules

    more = 2 if os.environ.get("CI") else 3  # which has programs of other tests beside it
    workers = int(os.environ.get("UNITTEST_WORKERS") or (os.cpu_count() or 1) + more)
    names = modules(pattern or "test*.py")
    if not os.environ.get("CI") and os.path.isdir(os.path.join(ROOT, "tests", "repository")):
        skipped["tests/repository, which checks this repository's documents: CI=1 python -m unittest runs it too"] += 1
    if workers > 1 and "coverage" not in sys.modules:
        return ParallelSuite(names, workers, loader.testNamePatterns)
    return unittest.TestSuite(loader.loadTestsFromName(name) for name in (*names, "tests.test_zz_left_behind"))
