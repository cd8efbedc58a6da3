"""A storage server of its own for a suite: `with serving(root, data) as (keys, port)`."""
import os
import select
import shlex
import socket
import subprocess
import sys
import time
from contextlib import contextmanager


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(root, data, *more, database=None):
    """Start `python -m leanstorage serve`; gives ({variable: value}, port)."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEANCLOUD_")}
    environment |= {"LEANSTORAGE_DATA": str(data), "PYTHONWARNINGS": "ignore"}
    database = database or os.environ.get("LEANSTORAGE_TEST_POSTGRESQL")
    arguments = ["serve", "--port", str(port), "--trust-auth", "*", *more]
    if database:
        arguments += ["--database", database]
    base = [sys.executable, "-m", "leanstorage"]
    lines = subprocess.run(
        [*base, "env", "--port", str(port)], cwd=root, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    keys = dict(shlex.split(line.removeprefix("export "))[0].split("=", 1) for line in lines)
    process = subprocess.Popen([*base, *arguments], cwd=root, env=environment, stdout=subprocess.PIPE)
    try:
        ready, _, _ = select.select([process.stdout], [], [], 20)
        if not ready or b"listens" not in process.stdout.readline():
            raise RuntimeError("the server did not start")
        yield keys, port
    finally:
        process.terminate()
        end = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        process.kill()
        process.wait()
        process.stdout.close()


def run(root, data, *words):
    """Run a command of `python -m leanstorage` on the data of a suite."""
    url = os.environ.get("LEANSTORAGE_TEST_POSTGRESQL")
    environment = {**os.environ, "LEANSTORAGE_DATA": str(data), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "leanstorage", *words, *(["--database", url] if url else [])]
    subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)


def open_users(root, data):
    """Let clients find users: the app of the JavaScript SDK is older than the rule that they do not."""
    run(root, data, "permissions", "_User", "--find", "everyone")
