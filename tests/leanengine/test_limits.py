"""The app's limits of guesses, times and sizes, each written out a second time: a slip of the finger is noticed."""
import unittest

from leanengine import cache, cloud_code, middleware, sdk, session, users
from tests.support import check_values


class ValuesTest(unittest.TestCase):
    def test_limits_and_times_are_exact(self):
        rows = (
            (users, "MAX_ENDED", 100),
            (users, "SESSION_SECONDS", 60),
            (users, "THROTTLE_SECONDS", 900),
            (users, "WRONG_PER_ACCOUNT", 5),
            (users, "WRONG_PER_ADDRESS", 50),
            (users, "SIGN_UP_SECONDS", 3600),
            (users, "SIGN_UPS", 50),
            (session, "RENEWAL_SECONDS", 86_400),
            (cloud_code, "MAX_TYPED_LEVELS", 8),
            (cloud_code, "UNKNOWN_BYTES", 65_536),
            (cloud_code, "MAX_CLASSES", 1000),
            (middleware, "MAX_PATH", 8192),
            (middleware, "GZIP_BYTES", 1024),
            (cache, "RETRY_SECONDS", 5),
            (sdk, "CONNECT_SECONDS", 2),
            (sdk, "READ_SECONDS", 4),
            (sdk, "LOST_SECONDS", 2),
            (sdk, "UPLOAD_SECONDS", 60),
            (sdk, "BUSY_CODES", {124, 141, 502, 503}),
            (sdk, "ANSWER_SECONDS", 12),
            (sdk, "REFUSED_CODE", 401),
            (sdk, "LOCK_SECONDS", 900),
        )
        check_values(self, rows)
