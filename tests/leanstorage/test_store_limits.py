"""The limits of the store, of calls that are answered at once and of what is logged, each written out a second time: a slip of the finger is noticed."""
import unittest

from leanstorage import store
from leanstorage.blobs import folder
from leanstorage.http import application, inline_calls, observer, request_log, turns
from leanstorage.store import fragments, memory
from leanstorage.store.sqlite import compiler
from leanstorage.store.sqlite import store as sqlite
from tests.support import check_values


class ValuesTest(unittest.TestCase):
    def test_limits_of_the_store_and_of_calls_are_exact(self):
        rows = (
            (folder, "ABANDONED_SECONDS", 86_400),
            (application, "GZIP_BYTES", 2048),
            (inline_calls, "MAX_BODY_BYTES", 65_536),
            (inline_calls, "AWAY_SECONDS", 60),
            (inline_calls, "MAX_AWAY", 1000),
            (observer, "BUCKETS", (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0)),
            (request_log, "MAX_LINES", 20_000),
            (request_log, "WRITE_BYTES", 4096),
            (request_log, "MAX_SHAPE", 500),
            (request_log, "MAX_SHAPE_LEVELS", 10),
            (request_log, "MAX_SHAPE_KEYS", 30),
            (turns, "MAX_UNDER_WAY", 32),
            (store, "QUERY_SECONDS", 5),
            (store, "MAX_FOUND", 33_554_432),
            (memory, "MAX_STATEMENT_CHARACTERS", 10_000),
            (fragments, "MAX_INDEX_KEYS", 4),
            (fragments, "MAX_JOINED", 100),
            (compiler, "MAX_REACHED", 67_108_864),
            (sqlite, "BUSY_SECONDS", 10),
            (sqlite, "REGEX_SECONDS", 1),
            (sqlite, "MAX_TOGETHER", 64),
            (sqlite, "IDLE_READERS", 32),
            (sqlite, "LONG_CHARACTERS", 2_000),
            (sqlite, "MAX_LONG_CHARACTERS", 500_000),
            (sqlite, "QUICK_ROWS", 100),
            (sqlite, "QUICK_BYTES", 262_144),
            (sqlite, "LAYOUT", 1),
        )
        check_values(self, rows)


if __name__ == "__main__":
    unittest.main()
