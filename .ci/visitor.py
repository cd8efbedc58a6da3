"""One of README's two commands, as somebody who has just cloned the repository types it: `visitor.py run|test`.

.ci/bare_machines starts it in a root, as an ordinary user in an empty home. It leaves what it found in report.json.
"""
import http.cookiejar
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMANDS = {"run": "requirements.txt && python wsgi.py", "test": "requirements-dev.txt && python -m unittest"}
PAGE_SECONDS = 300  # from the command to the page, pip's downloads included
TEST_SECONDS = 900
END_SECONDS = 20  # after Ctrl-C
ANSWER_SECONDS = 20

Answer = tuple[int, str, bytes]  # status, Content-Type, body
Ask = Callable[..., Answer]


def command_of_readme(folder: Path, name: str) -> str:
    lines = [line for line in (folder / "README.md").read_text("utf-8").splitlines() if line.endswith(COMMANDS[name])]
    if len(lines) != 1:
        raise SystemExit(f"README.md has {len(lines)} lines that end with `{COMMANDS[name]}`")
    return lines[0]


def start(folder: Path, command: str, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """As a terminal starts it: a process group of its own, which Ctrl-C reaches as a whole.

    What a shell runs in the background ignores Ctrl-C, and hands that down: .ci/run may be such a one.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(folder.with_suffix(".log"), "wb") as log:
        return subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env={**os.environ, **environment},
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def free_port() -> int:
    """3000, unless something on the machine that lends its network to this root listens there."""
    for port in (3000, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as four, socket.create_server(("::1", port), family=socket.AF_INET6):
                return int(four.getsockname()[1])
        except OSError:
            continue
    with socket.create_server(("127.0.0.1", 0)) as four:  # no IPv6 here
        return int(four.getsockname()[1])


def browser(port: int) -> Ask:
    """A client that keeps cookies: ask(method, path, value to send as JSON)."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    )

    def ask(method: str, path: str, value: Any = None) -> Answer:
        data = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(f"http://localhost:{port}{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with opener.open(request, timeout=ANSWER_SECONDS) as answer:
                return answer.status, answer.headers.get_content_type(), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers.get_content_type(), error.read()

    return ask


def wait_for_page(process: "subprocess.Popen[bytes]", ask: Ask) -> None:
    end = time.monotonic() + PAGE_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the command ended with {process.returncode} before there was a page")
        try:
            ask("GET", "/")
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"no page within {PAGE_SECONDS} seconds")


def page_is_html(ask: Ask) -> bool:
    status, kind, body = ask("GET", "/")
    return (status, kind) == (200, "text/html") and b"</html>" in body


def user_keeps_a_todo(ask: Ask) -> bool:
    signed_up = ask("POST", "/api/users", {"username": "visitor", "password": "a visitor's"})
    session = json.loads(ask("GET", "/api/session")[2])
    made = ask("POST", "/api/todos", {"content": "see whether this runs"})
    listed = json.loads(ask("GET", "/api/todos")[2])
    return (
        (signed_up[0], made[0]) == (201, 201)
        and session["user"]["username"] == "visitor"
        and [todo["content"] for todo in listed["todos"]] == ["see whether this runs"]
    )


def others_alive() -> list[str]:
    """Command lines of the processes in this namespace that are the visitor's, other than this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.getuid() and int(folder.name) != os.getpid():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has ended meanwhile
            continue
    return found


def end(process: "subprocess.Popen[bytes]") -> bool:
    """Ctrl-C; True if all of it ends in time."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"after Ctrl-C it still runs: {others_alive()}")
        return False
    for _ in range(50):  # an orphan's entry goes when the namespace's first process has noticed
        if not (left := others_alive()):
            return True
        time.sleep(0.1)
    print(f"left behind after Ctrl-C: {left}")
    return False


def run(folder: Path, report: dict[str, Any]) -> None:
    port = free_port()
    process = start(folder, command_of_readme(folder, "run"), {} if port == 3000 else {"LEANCLOUD_APP_PORT": str(port)})
    checks = report["checks"]
    started = time.monotonic()
    try:
        wait_for_page(process, browser(port))
        report["seconds"] = round(time.monotonic() - started)
        checks["the page is HTML"] = page_is_html(browser(port))
        checks["nobody's list is 401"] = browser(port)("GET", "/api/todos")[0] == 401
        checks["a new user keeps a todo"] = user_keeps_a_todo(browser(port))
        checks["Ctrl-C ends all of it"] = end(process)
        checks["no traceback"] = "Traceback" not in folder.with_suffix(".log").read_text(errors="replace")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test(folder: Path, report: dict[str, Any]) -> None:
    started = time.monotonic()
    process = start(folder, command_of_readme(folder, "test"), {})
    try:
        report["checks"]["the command succeeds"] = process.wait(TEST_SECONDS) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise SystemExit(f"not done after {TEST_SECONDS} seconds") from None
    finally:
        report["seconds"] = round(time.monotonic() - started)


def main() -> None:
    name = sys.argv[1]
    home = Path.home()
    folder = home / name
    report: dict[str, Any] = {"python": sys.version.split()[0], "checks": {}}
    try:
        subprocess.run(["git", "clone", "--quiet", "/srv/leanwsgi.git", folder], check=True, timeout=60)
        {"run": run, "test": test}[name](folder, report)
    except SystemExit as problem:
        report["checks"][str(problem)] = False
    except Exception as problem:  # an answer that is no JSON, a connection that is cut: any of it is a finding
        traceback.print_exc()
        report["checks"][f"{type(problem).__name__}: {problem}"] = False
    sizes = subprocess.run(["du", "-sm", folder / ".venv"], capture_output=True, text=True)
    report["megabytes"] = int(sizes.stdout.split()[0]) if sizes.stdout else None
    (home / f"{name}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
