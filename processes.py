"""Around a server: the socket that it listens on, several processes that serve it, a new start when the code has changed."""
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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


def listen_for_visitors(on_platform: bool, port: int) -> list[socket.socket]:
    """The sockets of `python wsgi.py`: every address on the platform, else this machine alone.

    A browser may take localhost for ::1 or for 127.0.0.1. Raises SystemExit with one line.
    """
    hosts = ["0.0.0.0"] if on_platform else ["127.0.0.1", "::1"]
    sockets: list[socket.socket] = []
    for host in hosts:
        try:
            sockets.append(listen(host, port))
        except OSError as error:
            if host == "::1" and error.errno != errno.EADDRINUSE:
                break  # a machine without IPv6
            for opened in sockets:
                opened.close()
            raise SystemExit(port_trouble(error, port, "LEANCLOUD_APP_PORT")) from None
    return sockets


def port_trouble(error: OSError, port: int, setting: str) -> str:
    """Why `port` cannot be listened on, in one line; `setting` is what chooses another one."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: end what listens there, or set {setting}"
    return f"port {port} cannot be listened on ({error.strerror}): set {setting}"


def address(sockets: Sequence[socket.socket]) -> str:
    """The URL to visit: one that can be clicked where a browser of this machine is meant."""
    host, port = sockets[0].getsockname()[:2]
    return f"http://localhost:{port}/" if host == "127.0.0.1" else f"http://{host}:{port}"


def share(number: int, run: Callable[[], None], *listening: socket.socket) -> None:
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
        for opened in listening:
            opened.close()  # as they do: who comes now is refused, and does not wait for their end
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
    code = f"import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path.insert(0, {str(folder)!r}); import wsgi"
    command = [sys.executable, "-c", code]  # Ctrl-C is for us, and no trouble of the code
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
