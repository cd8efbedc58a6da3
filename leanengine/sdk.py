"""The SDK made fit for service: its connections, its file uploads, and every way in which it can fail.

The SDK's HTTP session has a pool of 10 connections, waits 15 s for a lost server and never retries. It uploads files
outside of that session, without a timeout, and raises all kinds of errors when an answer is not what it expects.
"""
import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.cookiejar import Cookie, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import Request

import leancloud
import requests
from leancloud import client
from requests_toolbelt.adapters.socket_options import TCPKeepAliveAdapter
from urllib3.util.retry import Retry

from leanengine import connections, saves
from leanwsgi import messages
from leanwsgi.answers import LEAST_RATE, bound_answers

POOL = 64  # connections; as many as there are threads that may wait for storage
CONNECT_SECONDS = 2
READ_SECONDS = 4  # for the answer to a GET, which is asked once more when none comes
ANSWER_SECONDS = 12  # to a write, whose hooks may take 10
LOST_SECONDS = 2  # how long a lost server is left alone before one request tries it again
PROBE_SECONDS = 0.8  # how long that one request waits
UPLOAD_SECONDS = 60  # for the first piece of an upload; LEAST_RATE says how fast the rest has to go
# LeanCloud's codes that are the visitor's doing, as statuses of ours; every other code is storage's own trouble.
STATUSES = {
    101: HTTPStatus.NOT_FOUND,
    111: HTTPStatus.BAD_REQUEST,
    125: HTTPStatus.BAD_REQUEST,
    142: HTTPStatus.BAD_REQUEST,
    202: HTTPStatus.CONFLICT,
    210: HTTPStatus.UNAUTHORIZED,
    211: HTTPStatus.UNAUTHORIZED,
    217: HTTPStatus.BAD_REQUEST,
    218: HTTPStatus.BAD_REQUEST,
    219: HTTPStatus.TOO_MANY_REQUESTS,
    403: HTTPStatus.NOT_FOUND,  # another user's object: do not reveal that it exists
    413: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    429: HTTPStatus.TOO_MANY_REQUESTS,
}
HOOK_TEXT = re.compile(r"Cloud Code validation failed\. Error detail : (.+)", re.DOTALL)
REFUSED_CODE = 401  # the app's id or key, not the visitor's session
BUSY_CODES = frozenset([124, 141, 502, 503])
LOCK_SECONDS = 15 * 60
PLAIN_METHODS = frozenset(["GET", "POST", "PUT", "DELETE"])
CREDENTIALS = "x-lc-"  # headers with the app's keys and a visitor's session
UNDONE = (307, 308)  # redirects that say that a write has to be sent elsewhere


class StorageLost(requests.ConnectionError):  # type: ignore[misc]  # requests has no types
    """Storage failed to answer a moment ago; requests fail at once until a probe succeeds."""


class StorageMoved(requests.RequestException):  # type: ignore[misc]
    """Storage redirects a call to an address of its choice, which must not get the app's keys and a visitor's session."""


class StorageAdapter(TCPKeepAliveAdapter):  # type: ignore[misc]  # nor has requests_toolbelt
    """The SDK's adapter with a larger pool, time limits, retries of GETs, and a breaker for a server that is lost."""

    def __init__(self) -> None:
        retries = Retry(total=1, connect=1, read=1, status=0, allowed_methods=["GET"], backoff_factor=0)
        super().__init__(pool_connections=4, pool_maxsize=POOL, max_retries=retries)
        bound_answers(self)
        self._connections = connections.Connections(POOL)
        self._lock = threading.Lock()
        self._retry_at: float | None = None  # on the monotonic clock; None while all is well

    def send(self, request: requests.PreparedRequest, timeout: object = None, **options: Any) -> requests.Response:
        """Send with our own limits, whatever `timeout` says; raise StorageLost at once while storage is lost."""
        wait = READ_SECONDS if request.method == "GET" else ANSWER_SECONDS
        if hasattr(request.body, "read"):
            wait, request.body = UPLOAD_SECONDS, _Upload(request.body)
        with self._trying(wait) as limits:
            return super().send(request, timeout=limits, **options)

    def ask(self, method: str, url: str, query: str, headers: Mapping[str, str], body: bytes | None) -> requests.Response:
        """The answer to a plain request (connections.py), with the same limits as for `send`."""
        with self._trying(READ_SECONDS if method == "GET" else ANSWER_SECONDS) as limits:
            return self._connections.ask(method, url, query, headers, body, limits)

    def close(self) -> None:
        super().close()
        self._connections.close()

    @contextmanager
    def _trying(self, wait: float) -> Iterator[tuple[float, float]]:
        """Around a request: the seconds that it may take to connect and to be answered; its failure is noted."""
        limits = (PROBE_SECONDS, PROBE_SECONDS) if self._enter() else (CONNECT_SECONDS, wait)
        try:
            yield limits
        except (requests.ConnectionError, requests.Timeout):
            self._note(is_lost=True)
            raise
        self._note(is_lost=False)

    def _enter(self) -> bool:
        """Whether this request is the one that tries a lost server again; raise StorageLost for the others."""
        with self._lock:
            if self._retry_at is None:
                return False
            if time.monotonic() < self._retry_at:
                raise StorageLost("storage is lost")
            self._retry_at = time.monotonic() + LOST_SECONDS
            return True

    def _note(self, is_lost: bool) -> None:
        if is_lost or self._retry_at is not None:
            with self._lock:
                self._retry_at = time.monotonic() + LOST_SECONDS if is_lost else None


class _Upload:
    """A file on its way to storage, which gives up when it is taken too slowly."""

    def __init__(self, file: Any) -> None:
        self._file, self._end = file, time.monotonic() + UPLOAD_SECONDS

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() > self._end:
            raise TimeoutError("storage takes the upload too slowly")
        data: bytes = self._file.read(size)
        self._end += len(data) / LEAST_RATE
        return data

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(messages.CHUNK_BYTES), b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _KeepsNone(DefaultCookiePolicy):
    """Storage's cookies are not kept: one session asks for all visitors."""

    def set_ok(self, cookie: Cookie, request: Request) -> bool:
        return False


class StorageSession(requests.Session):  # type: ignore[misc]
    """A session that makes plain requests itself, and leaves all others to requests.

    Redirects are followed for files alone: a call has credentials in its headers, and raises StorageMoved.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(_KeepsNone())

    def request(self, method: str, url: str, params: Any = None, data: Any = None, headers: Any = None, **options: Any) -> requests.Response:
        method = method.upper()
        is_call = any(name.lower().startswith(CREDENTIALS) for name in headers or ())
        if is_call:
            options["allow_redirects"] = False
        is_plain = (
            method in PLAIN_METHODS
            and connections.URL.fullmatch(url)
            and (data is None or isinstance(data, str))
            and (params is None or _is_flat(params))
            and not (self.cookies or self.cert or options.get("hooks") or options.keys() - {"timeout", "hooks", "allow_redirects"})
        )
        adapter = self.get_adapter(url) if is_plain and self.verify is True else None
        if isinstance(adapter, StorageAdapter):
            given = {"Accept": "*/*", **(headers or {})}
            body = None if data is None else data.encode()
            response = adapter.ask(method, url, urlencode(params or {}), given, body)
            if is_call or not (response.is_redirect and (method == "GET" or response.status_code in UNDONE)):
                return _answered(response, is_call)
        response = super().request(method, url, params=params, data=data, headers=headers, **options)
        return _answered(response, is_call)


def _answered(response: requests.Response, is_call: bool) -> requests.Response:
    if not (is_call and response.is_redirect):
        return response
    response.close()
    raise StorageMoved(f"storage redirects to {_host(response.headers['Location'])}")


def _host(url: str) -> str:
    """What is shown of a URL that somebody else wrote."""
    try:
        name = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        name = ""
    return name[:100] if name and name.isascii() and name.isprintable() else "another address"


def _is_flat(params: Any) -> bool:
    return isinstance(params, dict) and all(isinstance(value, (str, int)) for value in params.values())


def mount() -> requests.Session:
    """Give the SDK an HTTP session of ours, and return it. It talks to the configured server only: no proxies, no netrc."""
    saves.see_hooks()
    client.session = StorageSession()
    client.session.trust_env = False
    for scheme in ("http://", "https://"):
        client.session.mount(scheme, StorageAdapter())
    return client.session


class Attachment(leancloud.File):  # type: ignore[misc]  # nor has the SDK
    """A File whose upload goes through the SDK's session, and whose callback starts no thread."""

    def _save_to_s3(self, token: str | None, upload_url: str) -> None:
        self._source.seek(0)
        response = client.session.put(upload_url, data=self._source, headers={"Content-Type": self.mime_type})
        is_saved = response.status_code == 200
        self._save_callback(token, is_saved)
        if not is_saved:
            code = response.status_code if response.status_code in BUSY_CODES else 1
            raise leancloud.LeanCloudError(code, "the file was not saved")

    def _save_callback(self, token: str | None, successed: bool) -> None:
        if token:
            try:
                client.post("/fileCallback", {"token": token, "result": successed})
            except (leancloud.LeanCloudError, requests.RequestException, ValueError):
                pass  # the file is there without it; storage drops what was never called back


@contextmanager
def asking_storage() -> Iterator[None]:
    """Every failure of the SDK as one HTTPError: 4xx for the visitor's doing, 503 while storage is lost, else 502."""
    try:
        yield
    except leancloud.LeanCloudError as error:
        raise as_http_error(error) from error
    except requests.JSONDecodeError as error:
        raise _nonsense() from error
    except StorageMoved as error:
        print(f"{error}: is LEANCLOUD_API_SERVER the address that answers itself?", file=sys.stderr, flush=True)
        raise messages.HTTPError(HTTPStatus.BAD_GATEWAY, "storage redirects calls to another address") from error
    except requests.RequestException as error:
        raise messages.HTTPError(
            HTTPStatus.SERVICE_UNAVAILABLE, "storage cannot be reached, try again", headers=[("Retry-After", "2")]
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        # An answer without the keys that the SDK takes for granted, or not JSON at all.
        raise _nonsense() from error


def hook_text(text: str) -> str:
    """What a hook said, of the text that storage makes of it: `Cloud Code validation failed. Error detail : {"code": ...}`."""
    found = HOOK_TEXT.fullmatch(text)
    if found is None:
        return text
    try:
        said = json.loads(found[1])["message"]
    except (ValueError, KeyError, TypeError):
        return found[1]
    return said if isinstance(said, str) else found[1]


def as_http_error(error: leancloud.LeanCloudError) -> messages.HTTPError:
    """The HTTPError of a LeanCloudError: its code and text for the visitor's doing, ours when storage is in trouble."""
    status = STATUSES.get(error.code)
    if error.code == 1 and "find object" in str(error.error):
        status = HTTPStatus.NOT_FOUND
    if status is not None:
        wait = {219: LOCK_SECONDS, 429: 60}.get(error.code)
        headers = [("Retry-After", str(wait))] if wait else []
        return messages.HTTPError(status, hook_text(str(error.error))[:300], error.code, headers)
    if error.code in BUSY_CODES:
        return messages.HTTPError(
            HTTPStatus.SERVICE_UNAVAILABLE, "storage is busy, try again", error.code, [("Retry-After", "2")]
        )
    if error.code == REFUSED_CODE:
        text = "storage refuses this app's keys"
        print(f"{text}: is LEANCLOUD_API_SERVER that of LEANCLOUD_APP_ID, LEANCLOUD_APP_KEY?", file=sys.stderr, flush=True)
        return messages.HTTPError(HTTPStatus.BAD_GATEWAY, text)
    return _nonsense()


def _nonsense() -> messages.HTTPError:
    return messages.HTTPError(HTTPStatus.BAD_GATEWAY, "storage gave an answer that makes no sense")
