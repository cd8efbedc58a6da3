"""`python -m compat.engine_apps APP FOLDER`: somebody's LeanEngine app, unmodified, as the engine of this server.

FOLDER is a checkout of the app with what its README has one install: `node_modules`, or a virtual environment `.venv`.
Prints a line for each operation that was tried; exit code 0 when all of them worked. `--list` prints the apps.
"""
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path

from compat import engine_app_checks, engine_app_needs
from compat.server import free_port, run, serving

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60
WAIT_SECONDS = 30


class App:
    """A running app and its storage, as a visitor and as a client see them."""

    def __init__(self, keys: dict[str, str], url: str, log: Path, more: dict) -> None:
        self.keys, self.url, self.log = keys, url, log
        self.more = more  # what one check leaves to the next
        self.storage = keys["LEANCLOUD_API_SERVER"]
        self.browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def page(self, path: str, form: dict[str, str] | None = None, body: object = None, headers: dict[str, str] | None = None):
        """(status, text) of a page of the app; with a form or a JSON body, of a POST. Redirects are followed."""
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        sent = dict(headers or {})
        if body is not None:
            data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        return _answer(self.browser.open, urllib.request.Request(self.url + path, data, sent))

    def api(self, method: str, path: str, body: object = None, master: bool = False, session: str | None = None):
        """(status, decoded answer) of a call of the storage."""
        key = f"{self.keys['LEANCLOUD_APP_MASTER_KEY']},master" if master else self.keys["LEANCLOUD_APP_KEY"]
        headers = {"X-LC-Id": self.keys["LEANCLOUD_APP_ID"], "X-LC-Key": key, "Content-Type": "application/json"}
        if session:
            headers["X-LC-Session"] = session
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.storage}/1.1{path}", data, headers, method=method)
        status, text = _answer(urllib.request.urlopen, request)
        return status, json.loads(text)

    def until(self, check: Callable[[], object]) -> object:
        """What `check` returns once it is true: hooks and mails take a moment."""
        end = time.monotonic() + WAIT_SECONDS
        while not (found := check()):
            if time.monotonic() > end:
                raise AssertionError("it did not happen")
            time.sleep(0.1)
        return found


def _answer(opened, request: urllib.request.Request) -> tuple[int, str]:
    try:
        with opened(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@dataclass
class Kind:
    """How an app is started, and what is tried: [(operation, function of the App)]. `around` starts what it needs."""

    command: Callable[[Path, int], list[str]]
    checks: list[tuple[str, Callable[[App], None]]]
    around: Callable[[int], contextlib.AbstractContextManager[tuple[dict[str, str], dict]]] | None = None
    schemas: str = ""  # a folder of schema files that it has one import
    variables: dict[str, str] = field(default_factory=dict)


def _python(folder: Path, port: int) -> list[str]:
    own = folder / ".venv" / "bin" / "python"
    return [str(own) if own.exists() else sys.executable, "-W", "ignore", "wsgi.py"]


def _node(folder: Path, port: int) -> list[str]:
    return ["node", "--no-deprecation", "server.js"]


def _php(folder: Path, port: int) -> list[str]:
    return ["php", "-S", f"127.0.0.1:{port}", "test/engine/index.php"]


KINDS = {
    "python-getting-started": Kind(_python, engine_app_checks.FLASK),
    "django-getting-started": Kind(_python, engine_app_checks.DJANGO),
    "node-js-getting-started": Kind(_node, engine_app_checks.NODE),
    # Its Express hashes pages by MD4, which OpenSSL 3 no longer has by itself.
    "Valine-Admin": Kind(
        _node,
        engine_app_checks.VALINE,
        around=engine_app_needs.mail_server,
        variables={"NODE_OPTIONS": "--openssl-legacy-provider"},
    ),
    "ticket": Kind(_node, engine_app_checks.TICKET, around=engine_app_needs.redis, schemas="resources/schema"),
    # Its hooks call the storage, which may call it again meanwhile: several processes, as with PHP-FPM.
    "php-sdk": Kind(_php, engine_app_checks.PHP, variables={"PHP_CLI_SERVER_WORKERS": "4"}),
}


@contextlib.contextmanager
def running(name: str, folder: Path) -> Iterator[App]:
    """The app and a storage of its own, both up."""
    kind, port = KINDS[name], free_port()
    with contextlib.ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variables, more = stack.enter_context(kind.around(port)) if kind.around else ({}, {})
        keys, _ = stack.enter_context(serving(ROOT, data, "--engine", f"http://127.0.0.1:{port}"))
        if kind.schemas:
            run(ROOT, data, "import", str(folder / kind.schemas))
        environment = {**os.environ, **keys, **kind.variables, **variables, "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"LEANCLOUD_APP_PORT": str(port), "LC_APP_PORT": str(port)}
        log = data / "log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                kind.command(folder, port), cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
            )
        stack.callback(_end, process)
        app = App(keys, f"http://127.0.0.1:{port}", log, more)
        _wait(process, app)
        yield app


def _wait(process: subprocess.Popen[bytes], app: App) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return _ask(app)
        except OSError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the app did not start: {error}\n{app.log.read_text(errors='replace')[-3000:]}") from None
            time.sleep(0.1)


def _ask(app: App) -> None:
    request = urllib.request.Request(app.url + "/__engine/1/ping")
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=10).close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with what it has started: a server that reloads itself is two processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main(name: str, folder: str) -> int:
    failed = 0
    with running(name, Path(folder).resolve()) as app:
        for operation, check in KINDS[name].checks:
            try:
                check(app)
            except Exception as error:
                failed += 1
                print(f"{name}: {operation}: FAILED: {type(error).__name__}: {str(error)[:1000]}", flush=True)
            else:
                print(f"{name}: {operation}: works", flush=True)
        if failed:
            print(app.log.read_text(errors="replace")[-4000:])
    print(f"{name}: {len(KINDS[name].checks) - failed} of {len(KINDS[name].checks)} operations work")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        for kind_name, one in KINDS.items():
            print(kind_name, "; ".join(operation for operation, _ in one.checks), sep=": ")
        sys.exit(0)
    sys.exit(main(*sys.argv[1:3]))
