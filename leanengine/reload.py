"""Auto-reload in development: the app starts again when its code has changed and starts."""
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

POLL_SECONDS = 0.5
START_SECONDS = 30  # for changed code, before it is given up
FOLDERS = ("leanengine", "leanwsgi")  # watched besides the files at the top

RECENT_NS = 500_000_000  # a file that was saved this short a time ago may not be the one that was read

Times = dict[Path, int]  # when each Python file was changed, in nanoseconds


def times_at_start(folder: Path) -> Times:
    """The file times before the code is imported, so that what is saved while it starts is noticed.

    wsgi.py itself was read before: if it has just been saved, its time counts as unknown.
    """
    times, main = file_times(folder), folder / "wsgi.py"
    return times | ({main: 0} if times.get(main, 0) > time.time_ns() - RECENT_NS else {})


def file_times(folder: Path) -> Times:
    """When each Python file of the app was changed; those that begin with a dot are an editor's own."""
    files = [file for part in (folder, *(folder / name for name in FOLDERS)) for file in part.glob("[!.]*.py")]
    return {file: _changed(file) for file in files}


def watch(folder: Path, known: Times, environment: Mapping[str, str]) -> None:
    """Start a thread that sends this process SIGUSR1 once the files differ from `known` and wsgi.py starts.

    Whether it starts is tried in a process with this environment. If not, the error is printed and this process goes on.
    """

    def look() -> None:
        nonlocal known
        while True:
            now = file_times(folder)
            if now != known:
                known = now
                trouble = _trouble(folder, environment)
                if trouble:
                    print(f"not started again, the old code goes on:\n{trouble}", file=sys.stderr, flush=True)
                elif file_times(folder) == known:
                    os.kill(os.getpid(), signal.SIGUSR1)
                continue
            time.sleep(POLL_SECONDS)

    threading.Thread(target=look, name="watch", daemon=True).start()


def _trouble(folder: Path, environment: Mapping[str, str]) -> str:
    """What keeps the code in `folder` from starting, "" for nothing."""
    command = [sys.executable, "-c", f"import gc, sys; gc.disable(); sys.path.insert(0, {str(folder)!r}); import wsgi"]
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
        return f"it does not start within {START_SECONDS} seconds"
    return done.stderr.decode(errors="replace").strip() or "it ends" if done.returncode else ""


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
