"""A cache in Redis that may be missing: every call returns, and no request waits for a lost server.

After a failure Redis is left alone for a while. When it is back, everything cached before is void, because
invalidations were missed meanwhile.
"""
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

# For redis.from_url. A healthy Redis answers within a millisecond.
CONNECTION = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "decode_responses": True}
RETRY_SECONDS = 5
GENERATION = "generation"  # part of every version: raising it voids the whole cache


class Cache:
    """A cache on `connection`, made with CONNECTION; without one it is off. `revive` is called before a new try."""

    def __init__(self, connection: redis.Redis | None, revive: Callable[[], None] | None = None) -> None:
        self._redis = connection
        self._revive = revive
        self._lock = threading.Lock()
        self._down_until = 0.0
        self._lost = False

    def status(self) -> str:
        """Return "ok", "down" or "off"."""
        if self._redis is None:
            return "off"
        return "ok" if self._ask(lambda connection: connection.ping()) else "down"

    def get(self, key: str) -> Any:
        """The JSON value of a key, or None."""
        text = self._ask(lambda connection: connection.get(key))
        return None if text is None else json.loads(text)

    def get_version(self, key: str, name: str, beside: str) -> tuple[Any, str | None, Any]:
        """(JSON value of `key` or None, version of `name`, JSON value of `beside` or None), in one round trip.

        The version changes whenever `name` is touched, and is None without Redis; the value of `key` is of that
        version. Ask before you make the value, and pass the version to `put_version` with it: a value that was touched
        meanwhile is then ignored. `beside` has no version.
        """
        found = self._ask(lambda connection: connection.mget(key, GENERATION, f"version:{name}", beside))
        if found is None:
            return None, None, None
        version = f"{found[1] or 0}.{found[2] or 0}"
        made, value = json.loads(found[0]) if found[0] else (None, None)
        return (value if made == version else None), version, (json.loads(found[3]) if found[3] else None)

    def put_version(self, key: str, version: str, value: Any, seconds: int) -> None:
        self.put(key, [version, value], seconds)

    def put(self, key: str, value: Any, seconds: int) -> None:
        text = json.dumps(value, separators=(",", ":"))
        self._ask(lambda connection: connection.set(key, text, ex=seconds))

    def drop(self, key: str) -> None:
        self._ask(lambda connection: connection.delete(key))

    def touch(self, name: str) -> None:
        """Void what was cached under earlier versions of `name`."""
        self._ask(lambda connection: connection.incr(f"version:{name}"))

    def count(self, key: str, seconds: int) -> tuple[int, int] | None:
        """Add one to a counter that lasts `seconds` from its first; return (count, seconds left), None without Redis."""

        def work(connection: redis.Redis) -> Any:
            with connection.pipeline() as pipeline:
                pipeline.set(key, 0, ex=seconds, nx=True)
                pipeline.incr(key)
                pipeline.ttl(key)
                return pipeline.execute()[1:]

        found = self._ask(work)
        return None if found is None else (found[0], max(1, found[1]))

    def uncount(self, key: str) -> None:
        """Take one `count` back."""

        def work(connection: redis.Redis) -> None:
            if connection.decr(key) <= 0:
                connection.delete(key)

        self._ask(work)

    def close(self) -> None:
        if self._redis is not None:
            self._redis.close()

    def _ask(self, work: Callable[[redis.Redis], Any]) -> Any:
        """What `work(connection)` returns, or None while Redis is off or lost."""
        if self._redis is None or time.monotonic() < self._down_until:
            return None
        try:
            if self._lost:
                self._recover(self._redis)
            return work(self._redis)
        except redis.RedisError as error:
            with self._lock:
                if not self._lost:
                    print(f"the cache is lost: {type(error).__name__}", file=sys.stderr, flush=True)
                self._lost = True
                self._down_until = time.monotonic() + RETRY_SECONDS
            return None

    def _recover(self, connection: redis.Redis) -> None:
        with self._lock:
            if not self._lost:
                return
            # Others go on without the cache while this thread tries.
            self._down_until = time.monotonic() + RETRY_SECONDS
        if self._revive is not None:
            self._revive()
        connection.incr(GENERATION)
        with self._lock:
            self._lost, self._down_until = False, 0.0
        print("the cache is back", file=sys.stderr, flush=True)
