"""The app from top to bottom, in the order of the LeanEngine guide: environment, SDK, Redis, routes, session, HTTPS, engine.

LeanEngine imports this module and calls `application`; `python wsgi.py` serves it. Importing it starts the app, and
nothing else reads the environment. Why each guard is there is said in its module in leanengine/.
"""
import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until it serves, Ctrl-C ends it at once and without a word

import atexit
import os
from contextlib import ExitStack

from leanengine.settings import platform_keys, read_environment, read_settings, redis_url
from leanengine.start import Process

# The environment ---------------------------------------------------------------------------------------------------

process = Process(dict(os.environ)) if __name__ == "__main__" else None  # as it is given, before the SDK's keys are put there
environment = read_environment(os.environ)
settings = read_settings(environment)
keys = platform_keys(environment)  # None if nothing is configured
cache_url = redis_url(environment, settings.cache_instance)
if process:
    process.listen(settings)
parts = ExitStack()  # what is started here, and ends with the process
atexit.register(parts.close)
local = None
if keys is None:
    from leanengine.local import LocalServices

    local = parts.enter_context(LocalServices(settings, needs_redis=cache_url is None))
    keys, cache_url = local.keys, cache_url or local.redis_url

# The SDK -----------------------------------------------------------------------------------------------------------

os.environ.update(keys, LEANCLOUD_APP_ENV=settings.app_env)  # the SDK reads it when it is imported
os.environ.setdefault("LEANCLOUD_APP_ANDX_KEY", os.urandom(32).hex())  # unset, its engine would ask for no key here

from leanengine import old_werkzeug  # noqa: F401  the SDK's Werkzeug on Python 3.14
import leancloud
import redis
from leancloud.engine import CookieSessionMiddleware, HttpsRedirectMiddleware

import handlers
from leanengine import middleware, sdk
from leanengine.cache import CONNECTION, Cache
from leanengine.cloud_code import guard_engine
from leanengine.https import guard_redirect
from leanengine.session import guard_session
from router import Application, Router

leancloud.init(
    keys["LEANCLOUD_APP_ID"],
    app_key=keys["LEANCLOUD_APP_KEY"],
    master_key=keys["LEANCLOUD_APP_MASTER_KEY"],
    hook_key=keys["LEANCLOUD_APP_HOOK_KEY"],
)
leancloud.use_master_key(False)  # the app acts as its visitors, never above them
parts.enter_context(sdk.mount())  # time limits, retries, connections

# Redis -------------------------------------------------------------------------------------------------------------

connection = redis.from_url(cache_url, **CONNECTION) if cache_url else None
cache = Cache(connection, revive=local.revive_redis if local else None)
parts.callback(cache.close)

# The routes --------------------------------------------------------------------------------------------------------

router = Router(
    [
        ("GET", "/", handlers.show_page),
        ("GET", "/api/client", handlers.show_client),
        ("DELETE", "/api/session", handlers.log_out),
        ("GET", "/api/session", handlers.show_session),
        ("POST", "/api/session", handlers.log_in),
        ("GET", "/api/status", handlers.show_status),
        ("GET", "/api/todos", handlers.list_todos),
        ("POST", "/api/todos", handlers.create_todo),
        ("DELETE", "/api/todos/<todo_id>", handlers.delete_todo),
        ("PATCH", "/api/todos/<todo_id>", handlers.change_todo),
        ("DELETE", "/api/todos/<todo_id>/attachment", handlers.remove_attachment),
        ("GET", "/api/todos/<todo_id>/attachment", handlers.show_attachment),
        ("POST", "/api/todos/<todo_id>/attachment", handlers.attach_file),
        ("POST", "/api/users", handlers.sign_up),
        ("GET", "/favicon.ico", handlers.show_icon),
        ("GET", "/static/<path:path>", handlers.show_static),
    ]
)
explain = handlers.explain
provided = {"app.settings": settings, "app.cache": cache}  # what handlers find in environ
app = middleware.provide(Application(router, explain), provided)
app = middleware.check_same_site(app)

# The login session -------------------------------------------------------------------------------------------------

session = CookieSessionMiddleware(
    app,
    secret=settings.session_secret or f"session:{keys['LEANCLOUD_APP_MASTER_KEY']}",
    name="leancloud:session",
    excluded_paths=["/static/"],
    fetch_user=False,
    expires=None,
    max_age=settings.session_max_age,
)
app = guard_session(session)

# HTTPS, in production ----------------------------------------------------------------------------------------------

app = guard_redirect(HttpsRedirectMiddleware(app))

# Cloud functions and hooks -----------------------------------------------------------------------------------------

engine = leancloud.Engine()
handlers.register(engine)
app = guard_engine(engine.wrap(app), keys)
if local:
    local.attach(middleware.isolate_visitors(app))

# The outer guards, and the application -----------------------------------------------------------------------------

app = middleware.bound(
    app,
    settings.trusted_proxy,
    settings.allowed_hosts,
    settings.max_upload_bytes,
    is_production=settings.app_env == "production",
    explain=explain,
)
application = middleware.isolate_visitors(middleware.compress(app))

if process:
    report = local.report if local else [f"storage: {keys['LEANCLOUD_API_SERVER']}", f"cache: {'Redis' if cache_url else 'off'}"]
    process.serve(application, settings, report, processes=1 if local else settings.processes, close=parts.close, explain=explain)
