"""The server's limits, each written out a second time: a slip of the finger is noticed."""
import unittest

from leanwsgi import answers, channels, messages, waitress_server
from tests.support import check_values


class ValuesTest(unittest.TestCase):
    def test_limits_and_times_are_exact(self):
        rows = (
            (messages, "MAX_JSON_BYTES", 1_048_576),
            (messages, "MAX_JSON_DEPTH", 100),
            (messages, "MAX_QUERY_FIELDS", 100),
            (messages, "MULTIPART_BYTES", 65_536),
            (channels, "HIGH_WATER", 524_288),
            (channels, "LOW_WATER", 131_072),
            (channels, "HEAD_SECONDS", 20),
            (channels, "WINDOW_SECONDS", 30),
            (channels, "WINDOW_BYTES", 15_000),
            (channels, "PEER_CONNECTIONS", 250),
            (channels, "SPARE_CONNECTIONS", 20),
            (channels, "LINGER_SECONDS", 30),
            (channels, "LINGER_BYTES", 67_108_864),
            (channels, "SILENT_SECONDS", 2),
            (channels, "MAX_LINGERING", 100),
            (waitress_server, "MAX_CONNECTIONS", 1000),
            (waitress_server, "LINGER_SECONDS", 5),
            (waitress_server, "SEND_BYTES", 65_536),
            (waitress_server, "MAX_CHUNK_LINE", 4096),
            (waitress_server, "MAX_TRAILER", 16_384),
            (answers, "MAX_ANNOUNCEMENTS", 10),
            (answers, "LEAST_RATE", 65_536),
        )
        check_values(self, rows)
