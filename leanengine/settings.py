"""The environment, read once: the app's settings, the keys of the platform, the URL of Redis.

Everything that cannot be read stops the start with one line that names the variable (SystemExit).
"""
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leanwsgi import setting_values

KEYS = ("LEANCLOUD_APP_ID", "LEANCLOUD_APP_KEY", "LEANCLOUD_APP_MASTER_KEY", "LEANCLOUD_APP_HOOK_KEY")
PLATFORM_VARIABLES = (*KEYS, "LEANCLOUD_API_SERVER")  # set by the platform, all together
PLATFORM_ENVS = ("stage", "production")  # where a load balancer stands in front


@dataclass(frozen=True)
class Settings:
    """The app's own settings; the variables are those of SETTINGS."""

    app_env: str  # "development", "stage" or "production"
    port: int
    session_secret: str  # "" derives one from the master key
    session_max_age: int  # seconds
    allowed_hosts: frozenset[str]  # empty allows every host
    trusted_proxy: frozenset[str]  # addresses, or "*"; if unset, what suits `app_env`
    max_upload_bytes: int
    processes: int  # worker processes; ignored with embedded storage or cache
    notify_webhook_url: str
    cache_instance: str
    data: Path


def env_name(text: str) -> str:
    """The name of the environment; "" is development. Raise ValueError for an unknown one."""
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


def cpu_count(text: str) -> int:
    """A number of CPUs, rounded down to whole ones, at least one; raise ValueError."""
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", text):
        raise ValueError("must be a number of CPUs")
    return max(1, int(float(text)))


def data_folder(text: str) -> Path:
    """An absolute folder; by default `data` beside wsgi.py, whatever the current folder is."""
    return setting_values.folder(text).absolute() if text else Path(__file__).resolve().parent.parent / "data"


def instance(text: str) -> str:
    """The name of a LeanCache instance, or ""; raise ValueError."""
    if not re.fullmatch(r"\w*", text, re.ASCII):
        raise ValueError("must be the name of an instance")
    return text


def webhook(text: str) -> str:
    """A URL, which may hold a token in its query, or "" for none; raise ValueError."""
    return setting_values.web_url(text, has_query=True, has_user=True) if text else ""


def read_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the credentials that systemd hands over; raise SystemExit with one line if they cannot be read."""
    try:
        return setting_values.with_credentials(environment)
    except (OSError, ValueError) as error:
        raise SystemExit(f"CREDENTIALS_DIRECTORY: {error}") from None


# field, variable, how to read it, default
SETTINGS: tuple[tuple[str, str, Callable[[str], Any], str], ...] = (
    ("app_env", "LEANCLOUD_APP_ENV", env_name, "development"),
    ("port", "LEANCLOUD_APP_PORT", port_number, "3000"),
    ("session_secret", "SESSION_SECRET", str, ""),
    ("session_max_age", "SESSION_MAX_AGE", positive, "2592000"),
    ("allowed_hosts", "ALLOWED_HOSTS", setting_values.host_names, ""),
    ("trusted_proxy", "TRUSTED_PROXY", lambda text: setting_values.addresses(text) or None, ""),
    ("max_upload_bytes", "MAX_UPLOAD_BYTES", positive, "10485760"),
    ("processes", "LEANCLOUD_AVAILABLE_CPUS", cpu_count, "1"),
    ("notify_webhook_url", "NOTIFY_WEBHOOK_URL", webhook, ""),
    ("cache_instance", "LEANCACHE_INSTANCE", instance, ""),
    ("data", "LEANSTORAGE_DATA", data_folder, ""),
)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The Settings of an environment; raise SystemExit with one line that names a variable that cannot be read."""
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
    """PLATFORM_VARIABLES with their values, or None if none of them is set; SystemExit if only some are, or one is malformed."""
    if not any(environment.get(variable) for variable in PLATFORM_VARIABLES):
        return None
    for variable in PLATFORM_VARIABLES:
        if not environment.get(variable):
            raise SystemExit(f"{variable} is missing: set all of {', '.join(PLATFORM_VARIABLES)}, or none")
    found = {}
    for variable in PLATFORM_VARIABLES:
        read = setting_values.key if variable in KEYS else setting_values.web_url
        try:
            found[variable] = read(environment[variable].strip())
        except ValueError as error:
            raise SystemExit(f"{variable} {error}") from None
    return found


def redis_url(environment: Mapping[str, str], instance: str) -> str | None:
    """The URL of the one LeanCache instance, or None; SystemExit if it is unclear which one is meant, or malformed."""
    found = {name.removeprefix("REDIS_URL_"): url for name, url in environment.items() if name.startswith("REDIS_URL_")}
    if instance:
        if instance not in found:
            raise SystemExit(f"REDIS_URL_{instance} is missing, which LEANCACHE_INSTANCE names")
        found = {instance: found[instance]}
    if len(found) > 1:
        raise SystemExit(f"LEANCACHE_INSTANCE must name one of {', '.join(sorted(found))}")
    for name, url in found.items():
        import redis  # only here: without a URL it is not needed this early

        try:
            redis.from_url(url).close()  # parses the URL; nothing is connected
        except ValueError:  # its text may contain a part of the password
            raise SystemExit(f"REDIS_URL_{name} must be redis://HOST:PORT, rediss://HOST:PORT or unix://PATH") from None
        return url
    return None
