"""What the tests of the guards share: applications and users for the SDK, which keeps its user per thread."""
import unittest

import leancloud
from leancloud.engine import CookieSessionMiddleware

from leanengine.session import guard_session
from leanwsgi import messages

COOKIE = "leancloud:session"


def session(application, secret="secret", max_age=1000):
    """The guarded session middleware around an application, as wsgi.py composes it."""
    return guard_session(
        CookieSessionMiddleware(
            application,
            secret=secret,
            name=COOKIE,
            excluded_paths=["/static/"],
            fetch_user=False,
            expires=None,
            max_age=max_age,
        )
    )


def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), messages.PRIVATE, ("Content-Length", "2")])
    return [b"ok"]


def user(token="t" * 25, user_id="u1"):
    found = leancloud.User()
    found._session_token, found.id = token, user_id
    return found


def logging_in(environ, start_response):
    leancloud.User.set_current(user())
    return plain(environ, start_response)


class Forget(unittest.TestCase):
    def setUp(self):
        leancloud.User.set_current(None)
        self.addCleanup(leancloud.User.set_current, None)
