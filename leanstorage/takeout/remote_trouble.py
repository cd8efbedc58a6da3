"""Why a live app's API cannot be used, told at once where trying again would change nothing, with what to do."""

import re
import socket

import requests

from leanstorage.store import Json
from leanstorage.takeout.sources import printable

ARCHIVED = "activate the app in LeanCloud's console, wait until it answers, and run the same command again"
QUOTA = "the calls of this day may be used up (the free edition has 30,000): run the same command again tomorrow"
KEYS = "the API refused the app id or the master key: set LEANCLOUD_APP_ID and LEANCLOUD_APP_MASTER_KEY as the console has them"
READ_BYTES = 1200  # of an answer that is no JSON


def no_answer(error: requests.RequestException, url: str) -> str | None:
    """What is wrong with the address, when nothing has ever answered there; None for what may pass."""
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        if "CERTIFICATE" in text:
            return f"{url} has a certificate that is not valid for it: look at the spelling of --from"
        return f"{url} does not speak TLS: look at the port, or use http:// in --from"
    if _has_cause(error, socket.gaierror):
        return f"there is no host of that name: {url}: look at the spelling of --from"
    if _has_cause(error, ConnectionRefusedError):
        return f"nothing listens at {url}: look at the host and the port of --from"
    if isinstance(error, requests.Timeout):
        return f"{url} does not answer: look at the host and the port of --from, and whether it speaks TLS there"
    return None


def _has_cause(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether a `kind` is among what led to an error; libraries keep that in several ways."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, kind):
            return True
        linked = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        waiting += [other for other in linked if isinstance(other, BaseException)]
    return False


def redirected(url: str, location: str) -> str:
    shown = f" to {printable(location)}" if location else ""
    return f"{url} redirects{shown}: if that is the API, name it in --from"


def archived(value: Json, data: bytes) -> str | None:
    """What a 504 says of an app that was archived; None for that of a proxy, which may pass."""
    text = value.get("error") if isinstance(value, dict) else None
    if not isinstance(text, str):
        text = data[:READ_BYTES].decode("utf-8", "replace")
        if "<" in text or re.search(r"gateway|upstream|time-?out", text, re.IGNORECASE):
            return None
    text = printable(" ".join(text.split()))
    return f"the API says: {text} ({ARCHIVED})" if text else None


def no_api(url: str, status: int) -> str:
    return f"what answers at {url} (status {status}) is not LeanCloud's API: look at --from"
