"""LeanStorage inside the app's own process: real HTTP on loopback, the engine called in process."""
from functools import partial
from pathlib import Path
from wsgiref.types import WSGIApplication

from leanstorage import keys as key_files
from leanstorage.engine.hooks import Engine, EngineMemory, WsgiTransport
from leanstorage.http.inline_calls import quick_calls
from leanstorage.http.server import Server
from leanstorage.http.application import create_application, open_service
from leanstorage.resources import files
from leanstorage.resources.sweep import Sweeper
from leanwsgi.workers import listen

THREADS = 32  # as many as the app can wait with, and as many again for the hooks that call back


def load_keys(data: str | Path) -> dict[str, str]:
    """{"LEANCLOUD_APP_ID": ..., ...}: the four keys kept in `data`, generated on first use."""
    found = key_files.load(data)
    return {variable: found[name] for name, variable in key_files.NAMES.items()}


def start_storage(data: str | Path, keys: dict[str, str], threads: int = THREADS) -> "EmbeddedStorage":
    """Start the service on a free port of loopback, its data in the folder `data`; `keys` are those of load_keys."""
    return EmbeddedStorage(Path(data), {name: keys[variable] for name, variable in key_files.NAMES.items()}, threads)


class EmbeddedStorage:
    """`url` is for LEANCLOUD_API_SERVER; `attach` gives it the app's engine; `close` ends it."""

    def __init__(self, data: Path, keys: dict[str, str], threads: int) -> None:
        self.service = open_service(keys, f"sqlite:///{data / 'leanstorage.db'}", data / "files")
        application, quick = create_application(self.service), quick_calls(self.service)
        options = self.service.options
        is_token = partial(files.may_be_used, self.service)
        listening = listen("127.0.0.1", 0)
        self._server = Server(application, listening, threads, options.max_bytes, quick, options.max_body_bytes, is_token)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._server.start()
        self._sweeper = Sweeper(self.service)

    def attach(self, application: WSGIApplication) -> None:
        """Call hooks and functions in this WSGI callable; which there are is asked at the first write."""
        store, keys = self.service.store, self.service.keys
        self.service.engine = Engine(WsgiTransport(application), keys, EngineMemory(store))

    def close(self) -> None:
        self._server.stop()
        self._sweeper.close()
        if self.service.engine is not None:
            self.service.engine.close()
        self.service.store.close()
