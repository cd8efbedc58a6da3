"""`python wsgi.py`: what happens before the app is composed, and how it is served until it ends."""
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any
from wsgiref.types import WSGIApplication

from leanengine import reload
from leanengine.settings import PLATFORM_ENVS, Settings
from leanwsgi.workers import listen_on, port_trouble, share

THREADS = 16  # for visitors, and as many again for the hooks and functions that storage calls
LOOPBACK = ("127.0.0.1", "::1")  # what `localhost` means, on most machines one of the two to a browser


class Process:
    """This process. Until it serves, Ctrl-C ends it at once (wsgi.py's first lines): nothing of it needs to be undone."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Exit with 2 if there are arguments. `environment` is the one that a restart begins with."""
        self._signals: list[int] = []
        self._servers: list[Any] = []
        self._sockets: list[socket.socket] = []
        self._environment = environment
        self._folder = Path(sys.argv[0]).resolve().parent
        if len(sys.argv) > 1:
            print("wsgi.py takes no arguments: settings are environment variables, see docs/configuration.md", file=sys.stderr)
            sys.exit(2)
        self._code = reload.times_at_start(self._folder)
        gc.disable()  # what is imported stays: looking for garbage in it takes a seventh of the start

    def listen(self, settings: Settings) -> None:
        """Take the port before anything is started; SystemExit with one line if that is not possible."""
        hosts = ("0.0.0.0",) if settings.app_env in PLATFORM_ENVS else LOOPBACK
        try:
            self._sockets = listen_on(hosts, settings.port)
        except OSError as error:
            raise SystemExit(port_trouble(error, settings.port, "LEANCLOUD_APP_PORT")) from None

    def serve(
        self,
        application: WSGIApplication,
        settings: Settings,
        report: list[str],
        processes: int,
        close: Callable[[], None],
        explain: Callable[..., Any],
    ) -> None:
        """Serve until a signal, then call `close`; in development also start again when the code has changed.

        `report` says what the app runs on, in lines; `processes` serve, forked from this one if there are several.
        `explain` makes answers of errors, see `middleware.bound`.
        """
        from leanengine.server import create_server
        from leanwsgi import waitress_server

        def run() -> None:
            is_production = settings.app_env == "production"
            limits = THREADS, settings.max_upload_bytes, settings.trusted_proxy
            self._servers.append(create_server(application, self._sockets, *limits, is_production, explain))
            if self._signals:  # its KeyboardInterrupt was lost: Python drops exceptions raised in a destructor
                waitress_server.stop(self._servers[0])
            try:
                waitress_server.run(self._servers[0])
            finally:
                close()

        is_development = settings.app_env not in PLATFORM_ENVS
        where, how = ("localhost", ", Ctrl-C ends it") if is_development else ("0.0.0.0", "")
        try:
            signal.signal(signal.SIGTERM, self._stop)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # ignored in a script's background job: leave it so
                signal.signal(signal.SIGINT, self._stop)
            if is_development and processes == 1:
                signal.signal(signal.SIGUSR1, self._stop)
                reload.watch(self._folder, self._code, self._environment)
            gc.freeze()  # nor is it looked at later
            gc.enable()
            print(f"listening on http://{where}:{settings.port} ({settings.app_env}{how})", *report, sep="\n", flush=True)
            share(processes, run, self._sockets) if processes > 1 else run()
        except KeyboardInterrupt:
            close()
        if signal.SIGUSR1 in self._signals:
            print("the code has changed: starting again", flush=True)
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], self._environment)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)
        if self._servers:
            from leanwsgi import waitress_server

            waitress_server.stop(self._servers[0])
        elif len(self._signals) == 1:  # ending takes seconds at most; asking again makes it no faster
            raise KeyboardInterrupt
