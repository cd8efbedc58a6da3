"""Storage and Redis for a laptop, where nothing is configured: `leanstorage` and a Redis of our own, in one folder.

This is the only place that names leanstorage, and it imports it only when it is needed.
"""
from collections.abc import Callable
from contextlib import AbstractContextManager
from wsgiref.types import WSGIApplication

from leanengine import local_redis
from leanengine.settings import PLATFORM_ENVS, PLATFORM_VARIABLES, Settings


class LocalServices(AbstractContextManager["LocalServices"]):
    """What stands in for a platform: `keys` (PLATFORM_VARIABLES with their values) and `redis_url`, None without a Redis.

    `report` says what runs, in lines.
    """

    def __init__(self, settings: Settings, needs_redis: bool) -> None:
        """Start what is needed in LEANSTORAGE_DATA; raise SystemExit with one line if that is not possible."""
        import sqlite3

        try:
            from leanstorage import embedded
        except ModuleNotFoundError as error:
            if error.name != "leanstorage":
                raise
            raise SystemExit(
                f"there is no storage: set {', '.join(PLATFORM_VARIABLES)}, or put leanstorage/ back for one of your own"
            ) from None

        data = settings.data
        self._storage: embedded.EmbeddedStorage | None = None
        self._redis: local_redis.LocalRedis | None = None
        cache_off = "Redis"  # one that is configured
        try:
            keys = embedded.load_keys(data)
            self._storage = storage = embedded.start_storage(data, keys)
            if needs_redis:
                self._redis = local_redis.start_redis(data)
        except local_redis.NoRedis as why:
            cache_off = f"off ({why})"
        except (OSError, sqlite3.Error, ValueError) as error:  # ValueError: keys.json is damaged
            self.close()
            raise SystemExit(f"LEANSTORAGE_DATA {data} cannot be used: {error}") from None
        self.keys = {**keys, "LEANCLOUD_API_SERVER": storage.url}
        self.redis_url = self._redis.url if self._redis else None
        self.revive_redis: Callable[[], None] | None = self._redis.revive if self._redis else None

        place = f"embedded, in {data}"
        if settings.app_env in PLATFORM_ENVS:
            place += f" (in {settings.app_env}: LEANCLOUD_APP_ID and the rest, which name another storage, are not set)"
        self.report = [f"storage: {place}", f"cache: {'embedded Redis' if self._redis else cache_off}"]

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
