"""Environment -> services, SDK, routes, middleware -> `application`; `python wsgi.py` serves it.

This is the only module that reads the environment. LeanEngine imports it and calls `application`.
"""
import atexit
import os
import re
import secrets
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import redis

KEYS = ("LEANCLOUD_APP_ID", "LEANCLOUD_APP_KEY", "LEANCLOUD_APP_MASTER_KEY", "LEANCLOUD_APP_HOOK_KEY")
PLATFORM_ENVS = ("stage", "production")  # where a balancer stands in front
THREADS = 16  # for visitors, and as many again for the hooks and functions that storage calls


@dataclass(frozen=True)
class Settings:
    """The app's own settings; the variables are those of SETTINGS."""

    app_env: str  # "development", "stage" or "production"
    port: int
    session_secret: str  # "" derives one from the master key
    session_max_age: int  # seconds
    allowed_hosts: frozenset[str]  # empty allows every one
    trusted_proxy: frozenset[str]  # addresses, or "*"; left unset, what suits `app_env`
    max_upload_bytes: int
    processes: int  # that serve, where storage and cache are services of their own
    notify_webhook_url: str
    cache_instance: str
    data: Path


class Part(Protocol):
    """What is started for the app, and ended with it."""

    def close(self) -> None: ...


def env_name(text: str) -> str:
    """The environment's name as the app has it, "" being development; raise ValueError for another one."""
    names = {"": "development", "staging": "stage"}
    name = names.get(text, text)
    if name not in ("development", *PLATFORM_ENVS):
        raise ValueError("must be development, stage or production")
    return name


def positive(text: str) -> int:
    """1 to 2**53 - 1; raise ValueError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**53):
        raise ValueError("must be a number above 0")
    return int(text)


def port_number(text: str) -> int:
    """1 to 65535; raise ValueError."""
    if positive(text) > 65535:
        raise ValueError("must be a port, 1 to 65535")
    return int(text)


def whole(text: str) -> int:
    """The whole CPUs of a number of them, at least one; raise ValueError."""
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", text):
        raise ValueError("must be a number of CPUs")
    return max(1, int(float(text)))


def names(text: str) -> frozenset[str]:
    """Names with commas between them, as a set in lower case."""
    return frozenset(part.strip().lower() for part in text.split(",") if part.strip())


# field, variable, how to read it, default
SETTINGS: tuple[tuple[str, str, Callable[[str], Any], str], ...] = (
    ("app_env", "LEANCLOUD_APP_ENV", env_name, "development"),
    ("port", "LEANCLOUD_APP_PORT", port_number, "3000"),
    ("session_secret", "SESSION_SECRET", str, ""),
    ("session_max_age", "SESSION_MAX_AGE", positive, "2592000"),
    ("allowed_hosts", "ALLOWED_HOSTS", names, ""),
    ("trusted_proxy", "TRUSTED_PROXY", lambda text: names(text) or None, ""),
    ("max_upload_bytes", "MAX_UPLOAD_BYTES", positive, "10485760"),
    ("processes", "LEANCLOUD_AVAILABLE_CPUS", whole, "1"),
    ("notify_webhook_url", "NOTIFY_WEBHOOK_URL", str, ""),
    ("cache_instance", "LEANCACHE_INSTANCE", str, ""),
    ("data", "LEANSTORAGE_DATA", Path, "data"),
)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The Settings of an environment; raise SystemExit with one line naming a variable that cannot be read."""
    values: dict[str, Any] = {}
    for field, variable, read, default in SETTINGS:
        try:
            values[field] = read(environment.get(variable, "").strip() or default)
        except ValueError as error:
            raise SystemExit(f"{variable} {error}") from None
    if values["trusted_proxy"] is None:
        on_platform = values["app_env"] in PLATFORM_ENVS
        values["trusted_proxy"] = frozenset(["*"] if on_platform else ["127.0.0.1", "::1"])
    return Settings(**values)


def platform_keys(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The five variables that the platform sets, or None without any of them; SystemExit when one is missing."""
    wanted = (*KEYS, "LEANCLOUD_API_SERVER")
    if not any(environment.get(variable) for variable in wanted):
        return None
    for variable in wanted:
        if not environment.get(variable):
            raise SystemExit(f"{variable} is missing: set all of {', '.join(wanted)}, or none")
    return {variable: environment[variable].rstrip("/") for variable in wanted}


def redis_url(environment: Mapping[str, str], instance: str) -> str | None:
    """The URL of the one LeanCache instance, or None; SystemExit when it is not clear which one is meant, or is none."""
    found = {name.removeprefix("REDIS_URL_"): url for name, url in environment.items() if name.startswith("REDIS_URL_")}
    if instance:
        if instance not in found:
            raise SystemExit(f"REDIS_URL_{instance} is missing, which LEANCACHE_INSTANCE names")
        found = {instance: found[instance]}
    if len(found) > 1:
        raise SystemExit(f"LEANCACHE_INSTANCE must name one of {', '.join(sorted(found))}")
    for name, url in found.items():
        try:
            redis.from_url(url).close()  # nothing is connected
        except ValueError:  # whose text may hold a part of the password
            raise SystemExit(f"REDIS_URL_{name} must be redis://HOST:PORT, rediss://HOST:PORT or unix://PATH") from None
        return url
    return None


class App:
    """The composed WSGI application. `close` ends what was started for it; `report` says what it runs on, in lines."""

    def __init__(
        self,
        application: WSGIApplication,
        settings: Settings,
        provided: dict[str, Any],
        report: list[str],
        parts: list[Part],
        is_embedded: bool,
    ) -> None:
        self.application = application
        self.settings = settings
        self.provided = provided  # what handlers find in environ
        self.report = report
        self.is_embedded = is_embedded  # whether storage or cache run in this process
        self._parts = parts

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self.application(environ, start_response)

    def close(self) -> None:
        while self._parts:
            self._parts.pop().close()


def compose(environment: Mapping[str, str]) -> App:
    """Build the application that `environment` describes, starting embedded services where none are configured.

    Raises SystemExit with one line when the environment cannot be understood.
    """
    settings = read_settings(environment)
    keys = platform_keys(environment)
    cache_url = redis_url(environment, settings.cache_instance)
    parts: list[Part] = []
    storage, revive = None, None
    if keys is None:
        import sqlite3

        from leanstorage import embedded, embedded_redis

        try:
            keys = embedded.load_keys(settings.data)
            storage = embedded.start_storage(settings.data, keys)
            parts.append(storage)
            server = embedded_redis.start_redis(settings.data) if cache_url is None else None
        except (OSError, sqlite3.Error, ValueError) as error:  # ValueError: keys.json holds no JSON
            for part in parts:
                part.close()
            raise SystemExit(f"LEANSTORAGE_DATA {settings.data} cannot be used: {error}") from None
        keys["LEANCLOUD_API_SERVER"] = storage.url
        if server is not None:
            parts.append(server)
            cache_url, revive = server.url, server.revive
    prepare_sdk(keys, settings.app_env)

    # From here on the SDK may be imported: it reads its keys when it is.
    import handlers
    import middleware
    from cache import Cache
    from door import guard_engine
    from leancloud import Engine, client
    from router import Application, Router

    cache = Cache(cache_url, revive)
    parts += [cache, client.session]
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
    secret = settings.session_secret or f"session:{keys['LEANCLOUD_APP_MASTER_KEY']}"
    engine = Engine()
    handlers.register(engine)

    # The way of a request, from the inside out.
    provided = {"app.settings": settings, "app.cache": cache}
    inside = middleware.provide(Application(router, handlers.explain), provided)
    inside = middleware.check_same_site(inside)
    inside = middleware.keep_session(inside, secret, settings.session_max_age)
    inside = middleware.redirect_to_https(inside)
    engine.origin_app = inside
    door = guard_engine(engine, dict(zip(("id", "key", "master_key", "hook_key"), (keys[name] for name in KEYS))))
    outside = middleware.bound(
        door,
        settings.trusted_proxy,
        settings.allowed_hosts,
        settings.max_upload_bytes,
        settings.app_env == "production",
    )
    application = middleware.isolate_visitors(middleware.compress(outside))
    if storage is not None:
        storage.attach(middleware.isolate_visitors(door))
    place = f"embedded, in {settings.data.resolve()}" if storage else keys["LEANCLOUD_API_SERVER"]
    if storage and settings.app_env in PLATFORM_ENVS:
        place += f" (in {settings.app_env}: LEANCLOUD_APP_ID and the rest, which name another storage, are not set)"
    report = [
        f"storage: {place}",
        f"cache: {'embedded Redis' if revive else 'Redis' if cache_url else 'off'}",
    ]
    return App(application, settings, provided, report, parts, storage is not None or revive is not None)


def prepare_sdk(keys: dict[str, str], app_env: str) -> None:
    """Set the SDK up with `keys`, the five variables that the platform sets.

    It reads the process's environment when it is imported, and again at every request.
    """
    os.environ.update(keys)
    os.environ["LEANCLOUD_APP_ENV"] = app_env
    # Left unset, the SDK's engine would take no key at all for this one.
    os.environ.setdefault("LEANCLOUD_APP_ANDX_KEY", secrets.token_hex(32))
    import leancloud
    import sdk

    app_id, app_key, master_key, hook_key = map(keys.get, KEYS)
    leancloud.init(app_id, app_key=app_key, master_key=master_key, hook_key=hook_key)
    leancloud.use_master_key(False)  # the app acts as its visitors, never above them
    sdk.mount()


def serve(app: App, environment: Mapping[str, str]) -> bool:
    """Serve until SIGTERM or Ctrl-C; in development also until code that starts has changed, and then return True.

    Raises SystemExit when the port cannot be listened on.
    """
    import serving
    from processes import listen, share, watch
    from server import create_server

    settings = app.settings
    host = "0.0.0.0" if settings.app_env in PLATFORM_ENVS else "127.0.0.1"
    try:
        socket = listen(host, settings.port)
    except OSError as error:
        raise SystemExit(f"LEANCLOUD_APP_PORT {settings.port} cannot be listened on: {error.strerror}") from None
    is_shared = settings.processes > 1 and not app.is_embedded
    signals: list[int] = []
    servers: list[Any] = []

    def stop(number: int, _: FrameType | None) -> None:
        signals.append(number)
        if servers:
            serving.stop(servers[0])
        elif len(signals) == 1:  # the end takes seconds at the most: asking again makes it no faster, only untidy
            raise KeyboardInterrupt

    def run() -> None:
        servers.append(create_server(app, socket, THREADS, settings.max_upload_bytes))
        try:
            serving.run(servers[0])
        finally:
            app.close()

    try:
        signal.signal(signal.SIGTERM, stop)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is for a script's background job
            signal.signal(signal.SIGINT, stop)
        if settings.app_env == "development" and not is_shared:
            signal.signal(signal.SIGUSR1, stop)
            watch(Path(__file__).resolve().parent, environment)
        print(f"listening on http://{host}:{settings.port} ({settings.app_env})", *app.report, sep="\n", flush=True)
        share(settings.processes, run, socket) if is_shared else run()
    except KeyboardInterrupt:
        app.close()
    return signal.SIGUSR1 in signals


if __name__ == "__main__" and len(sys.argv) > 1:
    print("wsgi.py takes no arguments: settings are environment variables, see docs/configuration.md", file=sys.stderr)
    sys.exit(2)

given = dict(os.environ)  # before the SDK's keys are put there
application = compose(given)
atexit.register(application.close)

if __name__ == "__main__":
    if serve(application, given):
        print("the code has changed: starting again", flush=True)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], given)
    sys.exit(0)
