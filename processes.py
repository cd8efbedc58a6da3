"""Around a server: the socket that it listens on, several processes that serve it, a new start when the code has changed."""
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

POLL_SECONDS = 0.5
RESTART_SECONDS = 1  # between the end of a process and its successor: one that cannot live must not spin


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, on a free port for 0; raise OSError when the port is taken. Several processes may serve it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=1024)
    listening.setblocking(False)
    return listening


def share(number: int, run: Callable[[], None]) -> None:
    """Run `run()` in this many forked processes until KeyboardInterrupt; one that ends by itself gets a successor.

    To be called before any thread is started. Returns when all have ended.
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


def watch(files: Iterable[Path]) -> None:
    """A thread that sends this process SIGUSR1 once the code in one of `files` has changed and can be compiled."""
    known = {file: _changed(file) for file in files}

    def look() -> None:
        while True:
            time.sleep(POLL_SECONDS)
            now = {file: _changed(file) for file in known}
            changed = [file for file in known if now[file] != known[file]]
            if not changed:
                continue
            known.update(now)
            try:
                for file in changed:
                    compile(file.read_text(encoding="utf-8"), str(file), "exec")
            except (SyntaxError, ValueError, OSError) as error:
                print(f"not started again: {error}", file=sys.stderr, flush=True)
                continue
            os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=look, name="watch", daemon=True).start()


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
