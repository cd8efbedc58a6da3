"""A third party's server asked for JSON: at addresses of the operator's alone, within limits, and no secret in an error."""
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from leanstorage.rules.call import LOOPBACK_HOSTS
from leanwsgi import setting_values
from leanwsgi.answers import bounded_session

CONNECT_SECONDS, READ_SECONDS, WHOLE_SECONDS = 3, 5, 10
MAX_BYTES = 1 << 18  # of an answer


class CannotAsk(Exception):
    """Nobody could be asked. The text says why in a word or two, and holds nothing of what was sent."""


def checked_url(url: str, option: str, has_query: bool = False) -> str:
    """The URL without its last slash; raise ValueError unless it is https, or on this machine."""
    try:
        found = setting_values.web_url(url, has_query, has_user=True)
        parts = urlsplit(found)
        is_safe = parts.scheme == "https" or parts.hostname in LOOPBACK_HOSTS
    except ValueError:
        is_safe = False
    if not is_safe:
        raise ValueError(f"{option}: a URL must be https://..., or http:// on this machine")
    return found


def ask(url: str, given: Mapping[str, str] | None = None, is_post: bool = False) -> dict[str, Any]:
    """The JSON object at `url`, with `given` as its query or form; with an `error` when the answer is one.

    Raises CannotAsk.
    """
    query, form = (None, given) if is_post else (given, None)
    deadline = time.monotonic() + WHOLE_SECONDS
    try:
        with bounded_session() as session:
            session.trust_env = False
            with session.request(
                "POST" if is_post else "GET",
                url,
                params=query,
                data=form,
                headers={"Accept": "application/json"},
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as answer:
                status, data = answer.status_code, b""
                for chunk in answer.iter_content(1 << 14):
                    data += chunk
                    if len(data) > MAX_BYTES or time.monotonic() > deadline:
                        raise CannotAsk("too long an answer")
    except requests.Timeout:
        raise CannotAsk("no answer in time") from None
    except requests.RequestException as error:  # its text repeats the URL, with our secret in it
        raise CannotAsk(type(error).__name__) from None
    if status >= 500 or status == 429 or status < 400 and status != 200:
        raise CannotAsk(f"status {status}")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise CannotAsk(f"status {status} and no JSON") from None
    if not isinstance(found, dict):
        raise CannotAsk(f"status {status} and no JSON object")
    return found if status == 200 else {"error": status, **found}
