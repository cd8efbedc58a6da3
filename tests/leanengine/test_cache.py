import io
import os
import socket
import stat
import tempfile
import threading
import time
import unittest
from contextlib import redirect_stderr
from pathlib import Path
from unittest import mock

import redis

from leanengine import cache as cache_module
from leanengine.cache import Cache
from leanengine.local_redis import start_redis
from tests.support import AppTestCase, needs_redis

import wsgi


def connected(url, revive=None):
    return Cache(redis.from_url(url, **cache_module.CONNECTION), revive)


class OffTest(unittest.TestCase):
    def test_cache_that_is_off_answers_nothing(self):
        cache = Cache(None)
        self.assertEqual(cache.status(), "off")
        cache.put("a", 1, 10)
        self.assertIsNone(cache.get("a"))
        self.assertEqual(cache.get_version("a", "x", "beside"), (None, None, None))
        self.assertIsNone(cache.count("a", 10))
        cache.touch("a")
        cache.uncount("a")
        cache.drop("a")
        cache.close()


@needs_redis
class RedisTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        self.server = start_redis(self.data)
        self.addCleanup(self.server.close)
        self.cache = connected(self.server.url, self.server.revive)
        self.addCleanup(self.cache.close)

    def test_values_come_back_until_they_are_dropped(self):
        self.cache.put("a", {"b": [1, "中"]}, 10)
        self.assertEqual(self.cache.get("a"), {"b": [1, "中"]})
        self.cache.drop("a")
        self.assertIsNone(self.cache.get("a"))

    def test_version_changes_with_every_touch(self):
        versions = [self.cache.get_version("a", "x", "beside")[1]]
        for _ in range(3):
            self.cache.touch("x")
            versions.append(self.cache.get_version("a", "x", "beside")[1])
        self.assertEqual(len(set(versions)), 4)
        self.assertEqual(self.cache.get_version("a", "y", "beside")[1], versions[0])

    def test_value_is_believed_only_in_the_version_it_was_made_in(self):
        value, version, _ = self.cache.get_version("list", "x", "beside")
        self.assertIsNone(value)
        self.cache.put_version("list", version, [1], 10)
        self.assertEqual(self.cache.get_version("list", "x", "beside"), ([1], version, None))
        self.cache.touch("x")
        value, later, _ = self.cache.get_version("list", "x", "beside")
        self.assertIsNone(value)
        self.cache.put_version("list", version, [1], 10)  # made before the touch, and kept after it
        self.assertEqual(self.cache.get_version("list", "x", "beside"), (None, later, None))

    def test_value_beside_a_version_comes_along_whatever_is_touched(self):
        self.cache.put("beside", {"id": "a"}, 10)
        self.cache.touch("x")
        self.assertEqual(self.cache.get_version("list", "x", "beside")[2], {"id": "a"})

    def test_what_the_server_leaves_in_its_folder_is_its_owners_alone(self):
        umask = os.umask(0)
        try:
            server = start_redis(self.data / "new")
            self.addCleanup(server.close)
        finally:
            os.umask(umask)
        for path in [self.data / "new", *(self.data / "new").iterdir()]:
            with self.subTest(path.name):
                self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o077, 0)

    def test_count_says_how_long_it_lasts(self):
        self.assertEqual([self.cache.count("c", 100)[0] for _ in range(3)], [1, 2, 3])
        self.assertLessEqual(self.cache.count("c", 100)[1], 100)
        self.cache.uncount("c")
        self.assertEqual(self.cache.count("c", 100)[0], 4)

    def test_lost_server_is_not_waited_for_and_comes_back_empty(self):
        with mock.patch.object(cache_module, "RETRY_SECONDS", 0.3), redirect_stderr(io.StringIO()) as said:
            version = self.cache.get_version("a", "x", "beside")[1]
            self.server.close()
            self.assertEqual(self.cache.status(), "down")
            start = time.monotonic()
            for _ in range(100):
                self.assertIsNone(self.cache.get("a"))
            self.assertLess(time.monotonic() - start, 0.2)
            time.sleep(0.4)
            self.assertEqual(self.cache.status(), "ok")
            self.assertNotEqual(self.cache.get_version("a", "x", "beside")[1], version)
        self.assertEqual(said.getvalue(), "the cache is lost: ConnectionError\nthe cache is back\n")

    def test_socket_that_is_there_but_does_not_listen_yet_is_waited_for(self):
        joined = start_redis(self.data)
        self.addCleanup(joined.close)
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as late:
            path = Path(folder) / "redis.sock"
            late.bind(str(path))
            listening = []
            timer = threading.Timer(0.3, lambda: (listening.append(True), late.listen()))
            timer.start()
            with mock.patch.object(joined, "_socket", path):
                joined._wait()
            self.assertTrue(listening)
            timer.join()

    def test_second_process_joins_the_server_of_the_first(self):
        joined = start_redis(self.data)
        self.addCleanup(joined.close)
        self.assertEqual(joined.url, self.server.url)
        self.cache.put("a", 1, 10)
        other = connected(joined.url)
        self.addCleanup(other.close)
        self.assertEqual(other.get("a"), 1)


class AppWithoutCacheTest(AppTestCase):
    def test_everything_works_with_the_cache_off_or_lost(self):
        for name, cache in (("off", Cache(None)), ("lost", connected("redis://127.0.0.1:9/0"))):
            self.addCleanup(cache.close)
            with (
                self.subTest(name),
                mock.patch.dict(wsgi.provided, {"app.cache": cache}),
                redirect_stderr(io.StringIO()) as said,
            ):
                alice = self.logged_in()
                todo = self.request("POST", "/api/todos", {"content": name}, 201, alice).json()
                self.assertEqual(self.request("GET", "/api/todos", visitor=alice).json()["todos"], [todo])
                body = {"username": alice.username, "password": "wrong"}
                for _ in range(7):
                    self.assert_error(alice.request("POST", "/api/session", body), 401)
                locked = alice.request("POST", "/api/session", {**body, "password": "secret"})
                self.assert_error(locked, 429)  # storage's own lock
                self.assertEqual(locked.header("Retry-After"), "900")
            self.assertEqual(said.getvalue(), "the cache is lost: ConnectionError\n" if name == "lost" else "")


if __name__ == "__main__":
    unittest.main()
