"""A live app's API as a client that is patient with it: few requests at once, retries, back-off at 429.

Nothing secret leaves for another host: files are fetched without any credential, and redirects of the API are refused.
Their URLs lead to public addresses only, or to the host of the API: see public_hosts.py.
"""

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from leanstorage.rules import values
from leanstorage.rules.errors import StorageError
from leanstorage.store import Document, Json, Result
from leanstorage.takeout import remote_trouble
from leanstorage.takeout.public_hosts import NotPublic, PublicAdapter
from leanwsgi.answers import bound_answers

TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
LEAST_RATE = 1 << 10  # bytes a second of an answer, after the first minute
TRIES = 8
DEAD_AFTER = 3  # files
SAID_FROM = 2  # tries that failed before anybody is told
FIRST_WAIT = 0.5  # seconds, doubled at each try
LONGEST_WAIT = 60
MAX_ANSWER_BYTES = 64 << 20
CHUNK_BYTES = 1 << 16
MAX_REDIRECTS = 5
POOLS = 8  # hosts whose connections are kept
RANGE_NOT_SATISFIABLE = 416

NO_PROGRESS = "the API gave the same objects again: a proxy in front of it may keep answers"


class RemoteError(Exception):
    """The API refused a call, or could not be reached for good; `code` is its number, None without an answer."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class NotUsable(RemoteError):
    """The API cannot be used as it is, and the text says what to do."""


class Unreachable(RemoteError):
    """No answer, or none that helps, after all tries; or from a host that is known to give none."""


class NotAllowed(Unreachable):
    """A file's URL leads to a private address."""


class AnswerTooLarge(RemoteError):
    """Ask for fewer rows."""


class Clock(Protocol):
    """What is needed of the module `time`; both are in seconds."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> object: ...


class Remote:
    """The API at `url` with an app's id and master key; `parallel` requests at once at most.

    Files may lie at private addresses on its own host, and on `private_hosts`. `before_call` is called before each of them and may raise; `say` is told of what is tried again for long. Raises ValueError for what is no URL of an API.
    """

    def __init__(
        self,
        url: str,
        app_id: str,
        master_key: str,
        parallel: int = 4,
        clock: Clock = time,
        private_hosts: Collection[str] = (),
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError("--from must be the URL of an API, such as https://api.example.com")
        self.url = url.rstrip("/").removesuffix("/1.1")
        self.source_id = hashlib.sha256(f"{self.url} {app_id}".encode()).hexdigest()[:16]
        self.parallel = parallel
        self._headers = {"X-LC-Id": app_id, "X-LC-Key": f"{master_key},master", "Accept-Encoding": "gzip"}
        self._slots = threading.BoundedSemaphore(parallel)
        self.clock = clock
        self._pause = _Pause(clock)
        self._api = _session(HTTPAdapter(pool_connections=POOLS, pool_maxsize=parallel))
        allowed = {parts.hostname, *(host.lower() for host in private_hosts)}
        self._files = _session(PublicAdapter(allowed, pool_connections=POOLS, pool_maxsize=parallel))
        self._has_answered = False
        self._hosts = _Hosts()
        self.before_call: Callable[[], None] = lambda: None
        self.say: Callable[[str], object] = lambda text: None

    def get(self, path: str, **query: Json) -> Document:
        """The decoded answer of GET /1.1<path>; dicts in the query are sent as JSON. Raises RemoteError."""
        params = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in query.items()}
        return self._patiently(lambda: self._send("GET", path, {"params": params}), f"GET {path}")

    def rows(self, path: str, **query: Json) -> list[Document]:
        """The `results` of a GET, every one with an objectId. Raises RemoteError."""
        return checked_rows(self.get(path, **query), path)

    def count(self, path: str, where: Document | None = None) -> int | None:
        """How many objects a class has, or match; None where the API does not say it. Raises RemoteError."""
        found = self.get(path, count=1, limit=0, **({"where": where} if where else {})).get("count")
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def now(self) -> str:
        """The API's own time as ISO text; raises RemoteError."""
        text = self.get("/date").get("iso")
        try:
            values.parse_time(text)
        except (ValueError, OverflowError):
            raise RemoteError("GET /date: an answer without a time") from None
        return str(text)

    def download(self, url: str) -> Iterator[bytes]:
        """Yield the bytes of a file; raises RemoteError, also when the connection ends before Content-Length."""
        host = host_of(url)
        with self._slots:
            answer = self._hosts.ask(host, lambda: self._patiently(lambda: self._opened(url, host), host))
            with answer:
                done, length = 0, answer.headers.get("Content-Length")
                try:
                    for chunk in answer.iter_content(CHUNK_BYTES):
                        done += len(chunk)
                        yield chunk
                except requests.RequestException:
                    raise RemoteError("the download broke off") from None
                # Without Content-Encoding the length is that of the bytes; nothing below checks it.
                if _is_number(length) and int(length or 0) != done and "Content-Encoding" not in answer.headers:
                    raise RemoteError("the download broke off")

    def download_to(self, path: Path, url: str) -> None:
        """Download a file to `path`, on from where an earlier attempt was stopped; raises RemoteError.

        What is not complete lies beside it as `.partial`.
        """
        partial = path.with_name(path.name + ".partial")
        try:
            self._append(partial, url)
        except RemoteError as error:
            if error.code != RANGE_NOT_SATISFIABLE:
                raise
            partial.unlink()
            self._append(partial, url)
        os.replace(partial, path)

    def _append(self, partial: Path, url: str) -> None:
        host = host_of(url)
        with self._slots, open(partial, "ab") as file:
            start = file.tell()
            asked = {"Range": f"bytes={start}-"} if start else {}
            with self._patiently(lambda: self._opened(url, host, asked), host) as answer:
                if answer.status_code != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                    file.truncate(0)
                    start = file.seek(0)
                length = answer.headers.get("Content-Length")
                try:
                    for chunk in answer.iter_content(CHUNK_BYTES):
                        file.write(chunk)
                except requests.RequestException:
                    raise RemoteError("the download broke off") from None
                if _is_number(length) and file.tell() - start != int(length or 0):
                    raise RemoteError("the download broke off")
                file.flush()
                os.fsync(file.fileno())

    def wait(self, attempt: int) -> None:
        """Sleep before a further attempt at something; the first was number 0."""
        self._pause.back_off(attempt, None)

    def close(self) -> None:
        self._api.close()
        self._files.close()

    def post(self, path: str, body: Document) -> Document:
        """The decoded answer of POST /1.1<path>. Raises RemoteError."""
        return self._patiently(lambda: self._send("POST", path, {"json": body}), f"POST {path}")

    def _patiently(self, call: Callable[[], Result], what: str) -> Result:
        attempt = 0
        while True:
            self._pause.wait()
            try:
                return call()
            except _Again as error:
                if attempt == TRIES - 1:
                    quota = f": {remote_trouble.QUOTA}" if error.is_limit else ""
                    raise Unreachable(f"{what}: {error} after {TRIES} tries{quota}") from None
                if attempt >= SAID_FROM:
                    self.say(f"{what}: {error}, trying again ({attempt + 2} of {TRIES})")
                self._pause.back_off(attempt, error.seconds, everybody=error.is_limit)
            attempt += 1

    def _send(self, method: str, path: str, sent: Document) -> Document:
        self.before_call()
        with self._slots:
            try:
                answer = self._api.request(
                    method,
                    f"{self.url}/1.1{path}",
                    headers=self._headers,
                    timeout=TIMEOUT,
                    allow_redirects=False,
                    stream=True,
                    **sent,
                )
                with answer:
                    data = _bounded(answer)
            except requests.RequestException as error:
                trouble = None if self._has_answered else remote_trouble.no_answer(error, self.url)
                if trouble:
                    raise NotUsable(trouble) from None
                raise _Again(f"no answer from {self.url} ({type(error).__name__})") from None
        value = _value(data)
        if 300 <= answer.status_code < 400:
            raise NotUsable(remote_trouble.redirected(self.url, answer.headers.get("Location", "")), answer.status_code)
        if not self._has_answered and answer.status_code < 500 and data.lstrip()[:1] == b"<":
            raise NotUsable(remote_trouble.no_api(self.url, answer.status_code), answer.status_code)
        decoded = _decoded(answer, value, data, f"{method} {path}")
        self._has_answered = True
        return decoded

    def _opened(self, url: str, host: str, headers: dict[str, str] | None = None) -> requests.Response:
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        try:
            answer = self._files.get(url, timeout=TIMEOUT, stream=True, headers=sent)
        except NotPublic as error:
            raise NotAllowed(f"its URL leads to a private address, at {error}: see --private-host") from None
        except requests.RequestException as error:
            trouble = None if self._hosts.has_answered(host) else remote_trouble.no_answer(error, host)
            if trouble:
                raise Unreachable(trouble.partition(": look at")[0]) from None
            raise _Again(f"no answer ({type(error).__name__})") from None
        if answer.status_code in (200, 206):
            return answer
        answer.close()
        if answer.status_code == 429 or answer.status_code >= 500:
            raise _Again(f"status {answer.status_code}", _retry_after(answer), answer.status_code == 429)
        raise RemoteError(f"its URL answers with status {answer.status_code}", answer.status_code)


class _Hosts:
    """Which hosts of files answer: after DEAD_AFTER files in a row that one gave no answer for, it is asked no more."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}  # in a row
        self._answered: set[str] = set()
        self._lock = threading.Lock()

    def has_answered(self, host: str) -> bool:
        return host in self._answered

    def ask(self, host: str, call: Callable[[], Result]) -> Result:
        """`call()`; raises Unreachable, at once for a host that is dead."""
        if self._failures.get(host, 0) >= DEAD_AFTER:
            raise Unreachable(f"its host {host} does not answer")
        try:
            result = call()
        except NotAllowed:  # which says nothing of the host: a redirect may have led elsewhere
            raise
        except Unreachable:
            with self._lock:
                self._failures[host] = self._failures.get(host, 0) + 1
            raise
        with self._lock:
            self._failures[host] = 0
            self._answered.add(host)
        return result


def host_of(url: str) -> str:
    """The host, with its port, of a file's URL; raises RemoteError."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        raise RemoteError("its URL is not one of the web") from None
    if parts.scheme not in ("http", "https") or not host:
        raise RemoteError("its URL is not one of the web")
    return host


class _Again(Exception):
    """A failure that may pass; `seconds` is what the server asked to wait, `is_limit` that it has had too much."""

    def __init__(self, text: str, seconds: float | None = None, is_limit: bool = False) -> None:
        super().__init__(text)
        self.seconds = seconds
        self.is_limit = is_limit


class _Pause:
    """When the API says 429, every thread waits, not only the one that was told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = clock.monotonic()

    def wait(self) -> None:
        while (left := self._until - self._clock.monotonic()) > 0:
            self._clock.sleep(left)

    def back_off(self, attempt: int, seconds: float | None, everybody: bool = False) -> None:
        if seconds is None:
            seconds = FIRST_WAIT * 2**attempt * random.uniform(0.5, 1.0)
        seconds = min(seconds, LONGEST_WAIT)
        if everybody:
            self._until = max(self._until, self._clock.monotonic() + seconds)
        else:
            self._clock.sleep(seconds)


def _session(adapter: HTTPAdapter) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = MAX_REDIRECTS
    bound_answers(adapter, LEAST_RATE)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _bounded(answer: requests.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    for chunk in answer.iter_content(CHUNK_BYTES):
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise AnswerTooLarge(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _value(data: bytes) -> Json:
    """What the bytes of an answer say in JSON, None if they are none."""
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def _decoded(answer: requests.Response, value: Json, data: bytes, call: str) -> Document:
    """The JSON of an answer; raise _Again for what may pass and RemoteError for what will not."""
    status = answer.status_code
    error = value.get("error") if isinstance(value, dict) else None
    code = value.get("code") if isinstance(value, dict) else None
    if status == 429 or code == 429:
        raise _Again("too many requests", _retry_after(answer), is_limit=True)
    archived = remote_trouble.archived(value, data) if status == 504 else None
    if archived:
        raise NotUsable(archived, 504)
    if status >= 500 or code == 503:
        raise _Again(f"status {status}", _retry_after(answer))
    if status == 200 and not isinstance(value, dict):
        raise _Again("an answer that is not a JSON object")
    if status == 401:
        raise NotUsable(remote_trouble.KEYS, 401)
    if status >= 300 or not isinstance(value, dict):
        raise RemoteError(f"{call}: status {status}{f', {str(error)[:200]}' if error else ''}", code)
    return value


def checked_rows(answer: Document, path: str) -> list[Document]:
    """The objects of an answer's `results`; raise RemoteError unless that is what they are."""
    rows = answer.get("results")
    if not isinstance(rows, list):
        raise RemoteError(f"GET {path}: an answer without a list of results")
    for row in rows:
        try:
            values.check_object_id(row.get("objectId") if isinstance(row, dict) else None)
        except StorageError:
            raise RemoteError(f"GET {path}: a result without an objectId") from None
    return rows


def _retry_after(answer: requests.Response) -> float | None:
    text = answer.headers.get("Retry-After", "")
    if _is_number(text):
        return int(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _is_number(text: str | None) -> bool:
    """Whether a header is one; `²` is a digit to Python, and no number."""
    return text is not None and text.isascii() and text.isdigit() and len(text) < 20
