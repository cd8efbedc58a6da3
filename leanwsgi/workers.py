"""Around a server: the socket that it listens on, several processes that serve it, a new start when the code has changed."""
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

POLL_SECONDS = 0.5
START_SECONDS = 30  # for changed code, before it is given up
RESTART_SECONDS = 1  # between the end of a process and its successor: one that cannot live must not spin


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, on a free port for 0; raise OSError when the port is taken. Several processes may serve it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=1024)
    listening.setblocking(False)
    return listening


def share(number: int, run: Callable[[], None], listening: socket.socket) -> None:
    """Run `run()` in this many forked processes until KeyboardInterrupt; one that ends by itself gets a successor.

    To be called before any thread is started. Returns when all have ended; `listening`, on which they serve, is closed.
    """
    children: set[int] = set()
    try:
        while True:
            while len(children) < number:
                children.add(_fork(run))
            pid, status = os.wait()
            children.discard(pid)
            print(f"process {pid} ended with {os.waitstatus_to_exitcode(status)}: starting another", file=sys.stderr, flush=True)
            time.sleep(RESTART_SECONDS)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        listening.close()  # as they do: who comes now is refused, and does not wait for their end
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        for pid in children:
            os.waitpid(pid, 0)


def _fork(run: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run()
        status = 0
    except KeyboardInterrupt:
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what the parent registered to be done at its end is not this process's to do


def watch(folder: Path, environment: Mapping[str, str]) -> None:
    """A thread that sends this process SIGUSR1 once a Python file of `folder` has changed and its wsgi.py starts.

    Whether it does is tried in a process with this environment: what stops it is printed, and this process goes on.
    """
    known = _changes(folder)

    def look() -> None:
        nonlocal known
        while True:
            time.sleep(POLL_SECONDS)
            now = _changes(folder)
            if now == known:
                continue
            known = now
            trouble = _trouble(folder, environment)
            if trouble:
                print(f"not started again, the old code goes on:\n{trouble}", file=sys.stderr, flush=True)
            elif _changes(folder) == known:
                os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=look, name="watch", daemon=True).start()


def _changes(folder: Path) -> dict[Path, int]:
    """When each Python file was changed; those that begin with a dot are an editor's own."""
    return {file: _changed(file) for file in folder.glob("[!.]*.py")}


def _trouble(folder: Path, environment: Mapping[str, str]) -> str:
    """What keeps the code in `folder` from starting, "" for nothing."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); import wsgi"]
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
