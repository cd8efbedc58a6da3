"""The limits and lifetimes of the storage have the values that its documents and clients count on.

Each number is written out here a second time: one that changes by a slip of the finger is noticed. What happens at a
limit is tested where the subject is.
"""
import unittest

from leanstorage.engine import hooks
from leanstorage.http import application, server
from leanstorage.resources import batch, batch_save, file_keys, files, friends, mail, mail_texts, mailer, names, objects, scan
from leanstorage.resources import dangers, sms_codes, statuses, sweep, third_parties
from leanstorage.rules import acl, attempts, call, classes, cql, errors, operations, passwords, patterns, query_shape, rendering, uniques
from leanstorage.rules import where, write
from leanstorage.takeout import puller
from tests.support import check_values


class ValuesTest(unittest.TestCase):
    def test_lifetimes_and_pauses_are_those_that_are_promised(self):
        check_values(self,
            (
                (mail, "RESET_MS", 86_400_000),
                (mail, "VERIFY_MS", 604_800_000),
                (mail, "PAUSE_MS", 60_000),
                (mail, "KEPT_MS", 2_592_000_000),
                (mail, "MAX_PAUSE_MS", 14_400_000),
                (mailer, "PAUSE_MS", 60_000),
                (names, "CLAIM_MS", 60_000),
                (files, "UPLOAD_MS", 3_600_000),
                (files, "UNCLAIMED_MS", 300_000),
                (files, "DIRECT_KEPT_MS", 604_800_000),
                (scan, "CURSOR_MS", 600_000),
                (sms_codes, "MINUTES", 10),
                (sms_codes, "PAUSE_MS", 60_000),
                (sms_codes, "DAY_MS", 86_400_000),
                (attempts, "LOCK_MS", 900_000),
                (call, "HOUR_SECONDS", 3600),
                (call, "DAY_SECONDS", 86_400),
                (call, "BATCH_SECONDS", 14),
                (objects, "LOCKED_SECONDS", 0.2),
                (dangers, "KEY_DAYS", 365),
            )
        )

    def test_takeout_asks_for_what_leancloud_allows_and_a_minute_more(self):
        check_values(self, ((puller, "PAGE_ROWS", 1000), (puller, "LEAST_ROWS", 10), (puller, "MARGIN_MS", 60_000)))

    def test_limits_of_guesses_and_secrets_are_exact(self):
        check_values(self,
            (
                (mail, "MAX_TRIES", 24),
                (sms_codes, "MAX_PER_PHONE", 10),
                (sms_codes, "MAX_GUESSES", 5),
                (sms_codes, "MAX_BLIND", 30),
                (attempts, "MAX_FAILURES", 6),
                (attempts, "MAX_PASSWORD", 1024),
                (passwords, "TOKEN_LENGTH", 25),
                (passwords, "LEGACY_ROUNDS", 512),
                (files, "SEAL", 32),
                (dangers, "KEY_CHARACTERS", 16),
                (call, "MAX_HASHING", 4),
                (call, "MAX_ADDRESSES", 200_000),
            )
        )

    def test_limits_of_what_a_client_may_send_are_exact(self):
        check_values(self,
            (
                (statuses, "MAX_RECEIVERS", 10_000),
                (statuses, "DEFAULT_LIMIT", 100),
                (statuses, "MAX_LIMIT", 100),
                (statuses, "MAX_LINE", 999_999_999_999),
                (friends, "MAX_SHOWN", 1000),
                (file_keys, "MAX_KEY", 255),
                (files, "MAX_NAME", 1000),
                (call, "FILE_BYTES", 4096),
                (batch, "MAX_REQUESTS", 1000),
                (batch, "MAX_TOGETHER", 50),
                (batch_save, "MAX_INTERNAL_ID", 200),
                (objects, "MAX_IDS", 1000),
                (mail_texts, "MAX_TEXT", 20_000),
                (sms_codes, "MAX_VARIABLES", 10),
                (sms_codes, "MAX_VARIABLE", 35),
                (third_parties, "MAX_PROVIDER", 100),
                (scan, "MAX_PLACE", 1500),
                (errors, "MAX_DETAIL", 200),
                (application, "UNKNOWN_BYTES", 65_536),
                (server, "OVERHEAD_BYTES", 1_048_576),
                (server, "MAX_WAITING", 256),
                (server, "MAX_WAITING_EACH", 64),
                (server, "MAX_LOOP_QUERY", 4096),
            )
        )

    def test_times_and_depths_of_hooks_are_exact(self):
        check_values(self,
            (
                (hooks, "BEFORE_SECONDS", 10),
                (hooks, "AFTER_SECONDS", 3),
                (hooks, "FUNCTION_SECONDS", 14),
                (hooks, "LIST_SECONDS", 60),
                (hooks, "RETRY_SECONDS", 1),
                (hooks, "MAX_DEPTH", 5),
                (hooks, "MAX_THREADS", 64),
                (hooks, "MARK_MS", 3_600_000),
                (hooks, "PLAIN_CODES", (1, 142, 400)),
            )
        )

    def test_what_is_looked_at_together_is_no_more_than_before(self):
        check_values(self,
            (
                (dangers, "PAGE", 1000),
                (dangers, "SHOWN", 3),
                (files, "PAGE", 200),
                (files, "CHUNK_BYTES", 65_536),
                (mail, "PAGE", 200),
                (statuses, "LINES", 200),
                (sweep, "BATCH", 1000),
                (uniques, "PAGE_ROWS", 200),
                (call, "TROUBLE_SECONDS", 60),
                (call, "MAX_TROUBLES", 20),
                (patterns, "MAX_KEPT", 200_000),
                (query_shape, "MAX_NODES", 20),
                (query_shape, "MAX_LEVELS", 4),
                (query_shape, "MAX_KEY", 100),
                (query_shape, "MAX_TEXT", 4000),
                (rendering, "QUICK_EXPANDED", 1000),
                (rendering, "QUICK_EXPANDED_SIZE", 262_144),
                (where, "MAX_REMEMBERED", 1000),
                (where, "MAX_ANGLE", 10.0),
            )
        )

    def test_limits_of_objects_and_queries_are_exact(self):
        check_values(self,
            (
                (acl, "MAX_NAMES", 1000),
                (acl, "MAX_CHARACTERS", 50_000),
                (classes, "MAX_COLUMNS", 300),
                (classes, "MAX_CLASSES", 500),
                (uniques, "MAX_KEYS", 5),
                (operations, "MAX_ARRAY", 10_000),
                (operations, "MAX_NUMBER", 10**4300),
                (operations, "MAX_RELATION", 1000),
                (write, "MAX_OBJECT_BYTES", 16_777_216),
                (write, "MAX_LEVELS", 20),
                (rendering, "MAX_INCLUDE_DEPTH", 10),
                (rendering, "MAX_INCLUDES", 100),
                (rendering, "MAX_EXPANDED", 100_000),
                (rendering, "MAX_EXPANDED_SIZE", 33_554_432),
                (patterns, "MAX_PATTERN", 4096),
                (patterns, "MAX_SIZE", 5000),
                (cql, "MAX_BYTES", 4096),
                (cql, "MAX_DEPTH", 20),
                (where, "DEFAULT_LIMIT", 100),
                (where, "MAX_LIMIT", 1000),
                (where, "MAX_DEPTH", 20),
                (where, "MAX_CONDITIONS", 2000),
                (where, "MAX_MEMBERS", 2000),
                (where, "MAX_TEXTS", 20_000),
                (where, "MAX_ORDER", 100),
                (where, "MAX_NAMES", 1000),
                (where, "MAX_NAMES_SIZE", 50_000),
                (where, "MAX_NUMBER", 10**308),
                (where, "MAX_PARTS", 10_000),
                (where, "EARTH_KM", 6371.0),
                (where, "EARTH_MILES", 3958.8),
            )
        )
