"""Storage and Redis for a laptop, where nothing is configured: `leanstorage` and a Redis of our own, in one folder.

This is the only place that names leanstorage, and it imports it only when it is needed.
"""
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from wsgiref.types import WSGIApplication

from leanengine import local_redis
from leanengine.settings import PLATFORM_ENVS, Settings


class LocalServices(AbstractContextManager["LocalServices"]):
    """What stands in for a platform: `keys` (PLATFORM_VARIABLES with their values) and `redis_url`, None without a Redis.

    `report` says what runs, in lines.
    """

    def __init__(self, settings: Settings, needs_redis: bool) -> None:
        """Start what is needed in LEANSTORAGE_DATA; raise SystemExit with one line if that is not possible."""
        import sqlite3

        from leanstorage import embedded

        data = settings.data
        self._storage: embedded.EmbeddedStorage | None = None
        self._redis: local_redis.LocalRedis | None = None
        try:
            with holding_signals():  # what is half started could not be ended
                keys = embedded.load_keys(data)
                self._storage = embedded.start_storage(data, keys)
                if needs_redis:
                    self._redis = local_redis.start_redis(data)
        except (OSError, sqlite3.Error, ValueError) as error:  # ValueError: keys.json is damaged
            self.close()
            raise SystemExit(f"LEANSTORAGE_DATA {data} cannot be used: {error}") from None
        except BaseException:
            self.close()
            raise
        self.keys = {**keys, "LEANCLOUD_API_SERVER": self._storage.url}
        self.redis_url = self._redis.url if self._redis else None
        self.revive_redis: Callable[[], None] | None = self._redis.revive if self._redis else None

        place = f"embedded, in {data.resolve()}"
        if settings.app_env in PLATFORM_ENVS:
            place += f" (in {settings.app_env}: LEANCLOUD_APP_ID and the rest, which name another storage, are not set)"
        found = "embedded Redis" if self._redis else f"off ({local_redis.HOW_TO_GET})" if needs_redis else "Redis"
        self.report = [f"storage: {place}", f"cache: {found}"]

    def attach(self, application: WSGIApplication) -> None:
        """Call hooks and cloud functions in this application, in process."""
        if self._storage is not None:
            self._storage.attach(application)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._redis is not None:
            self._redis.close()
        if self._storage is not None:
            self._storage.close()


@contextmanager
def holding_signals() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM for afterwards. Only Python's handlers wait: a process started meanwhile gets its signals."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's alone
        yield
        return
    held: list[int] = []
    wanted = [one for one in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(one))]
    handlers = {one: signal.signal(one, lambda number, _: held.append(number)) for one in wanted}
    try:
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        for number in held[:1]:
            signal.raise_signal(number)
