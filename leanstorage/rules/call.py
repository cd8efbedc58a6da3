"""What a resource function is given: the call, who makes it, and the service it is made to.

Nothing of it is WSGI, so that a batch can make calls of its own. A resource function answers
(status, headers, value): `value` is what becomes the JSON body.
"""
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from leanstorage.blobs import Blobs
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Json, Principals, QUERY_SECONDS, Store, Transaction
from leanwsgi.messages import address_block, MAX_JSON_DEPTH, Header

MAX_HASHING = 4
HOUR_SECONDS, DAY_SECONDS = 3600, 24 * 3600
MAX_ADDRESSES = 200_000  # that are counted at a time; of more, the half with the smallest counts is forgotten
FILE_BYTES = 4096  # that an uploaded file counts for at least
TROUBLE_SECONDS = 60
MAX_TROUBLES = 20  # different ones remembered
LOOPBACK = ("127.0.0.1", "::1")  # where our own reverse proxy and the app may be
LOOPBACK_HOSTS = (*LOOPBACK, "localhost")  # this machine, as a URL or an option names it
BATCH_SECONDS = 14  # for many calls in one: below the SDKs' 15; a call that has begun by then is answered
Answer = tuple[HTTPStatus, Sequence[Header], Json]
Resource = Callable[..., Answer]  # (call, **path parameters)
Route = tuple[str, str, Resource]  # method, template, function


@dataclass
class Options:
    """Settings of a service, with the defaults of the protocol."""

    trusted_providers: frozenset[str] = frozenset(["anonymous"])  # "*" trusts every one, see section 5.6
    public_url: str | None = None  # of the API; else what requests say in Host, which no link in an e-mail is made of
    files_url: str | None = None  # of the files, when they have an origin of their own
    max_upload_bytes: int = 1 << 30
    max_body_bytes: int = 20 << 20  # of a call of the API
    max_json_depth: int = MAX_JSON_DEPTH
    query_seconds: float = QUERY_SECONDS  # of one statement
    role_create: str = "client"  # or "master", which production should choose
    class_create: str = "client"
    rotate_token_on_password: bool = True
    verify_emails: bool = False
    mail_texts: Mapping[str, tuple[str, str]] | None = None  # kind -> (subject, text), else English
    login_needs_verified_email: bool = False  # of those who have one
    login_needs_verified_phone: bool = False
    sign_max_age_s: int | None = None
    andx_key: str | None = None
    max_logins_per_address: int = 100  # failures in 15 minutes
    max_signups_per_address: int = 500  # an hour, by one process
    max_mails_per_address: int = 500  # that are asked for in an hour, likewise
    trusted_proxy: frozenset[str] = frozenset(LOOPBACK)  # addresses whose X-Real-IP is believed, or "*"
    max_requests_per_minute: int = 6000  # of one address, by one process; 0 for no limit
    max_bytes_per_address: int = 10 << 30  # that it sends in a day, in calls and uploads, likewise

    @property
    def max_bytes(self) -> int:
        """Of any request."""
        return max(self.max_upload_bytes, self.max_body_bytes)


class Traffic:
    """What each address asks for in the current minute, or another period of `seconds`. Counted per process, as overload is."""

    def __init__(self, seconds: int = 60) -> None:
        self._lock = threading.Lock()
        self._seconds = seconds
        self._minute: int | None = None
        self._counts: dict[str, int] = {}

    def count(self, address: str, number: int) -> int:
        """Note a number of calls or bytes; return the address's total of this period, these included."""
        minute = int(time.monotonic() // self._seconds)
        with self._lock:
            if minute != self._minute:
                self._minute, self._counts = minute, {}
            elif len(self._counts) >= MAX_ADDRESSES and address not in self._counts:
                most = sorted(self._counts.items(), key=itemgetter(1), reverse=True)  # a tenth of a second, seldom
                self._counts = dict(most[: MAX_ADDRESSES // 2])
            self._counts[address] = total = self._counts.get(address, 0) + number
            return total

    def take_back(self, address: str, number: int = 1) -> None:
        """Undo a count: it will be made again."""
        with self._lock:
            if address in self._counts:
                self._counts[address] = max(0, self._counts[address] - number)


class Engine(Protocol):
    """The app's engine, as calls need it: which hooks and functions it has, and a way to call them. See engine.hooks."""

    def names(self) -> frozenset[str]:
        """The names of its hooks and functions; raise EngineDown."""
        ...

    def may_hook(self, class_name: str) -> bool:
        """Whether a class has a hook, or may have one; nobody is asked."""
        ...

    def post(self, path: str, body: Json, timeout: float, headers: dict[str, str]) -> tuple[int, Json]:
        """POST JSON; return (status, decoded body)."""
        ...

    called: Callable[[str, str, float], None] | None  # told of every call: name, outcome, seconds
    is_old: bool  # knows the headers of LeanCloud's first SDKs only

    def check(self, timeout: float) -> None:
        """Raise an exception unless it answers, and to our keys."""
        ...

    def close(self) -> None: ...


class SmsSender(Protocol):
    """What sends codes to phones, and how many: see outside/sms.py."""

    is_local: bool  # the codes can only be read on this machine, so that nobody else is sent one
    templates: frozenset[str]  # that clients may name
    signs: frozenset[str]
    max_per_address: int  # a day
    max_per_day: int

    def send(self, store: Store, message: Document) -> bool:
        """Hand a message on; return False when it certainly cannot be sent. Waits a few seconds at most."""
        ...

    def close(self) -> None: ...


class Trouble:
    """What was printed about an unavailable store: each message once a minute, because every request meets it."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()  # trouble comes on all threads at once

    def is_news(self, text: str) -> bool:
        """Whether to say it now."""
        now = time.monotonic()
        with self._lock:
            if now - self._said.get(text, -math.inf) < TROUBLE_SECONDS:
                return False
            if len(self._said) >= MAX_TROUBLES:
                self._said.clear()
            self._said[text] = now
        return True

    def say_unavailable(self, error: Exception) -> None:
        """Print why the store did not serve a call, if that is news."""
        if self.is_news(str(error)):
            print(f"the store is not available: {error}", file=sys.stderr, flush=True)


@dataclass
class Service:
    """What every call shares; nothing in it changes while it serves."""

    store: Store
    blobs: Blobs
    engine: Engine | None
    keys: dict[str, str]  # id, key, master_key, hook_key
    token_secret: bytes
    options: Options = field(default_factory=Options)
    routes: Any = None  # an http.route_table.RouteTable, which calls in a batch are resolved by too
    # Hashing a password takes memory and time on purpose: this many at once, whatever the number of threads.
    hashing: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MAX_HASHING))
    traffic: Traffic = field(default_factory=Traffic)
    sign_ups: Traffic = field(default_factory=lambda: Traffic(HOUR_SECONDS))
    mails: Traffic = field(default_factory=lambda: Traffic(HOUR_SECONDS))
    sent: Traffic = field(default_factory=lambda: Traffic(DAY_SECONDS))  # bytes
    trouble: Trouble = field(default_factory=Trouble)
    observer: Any = None  # an http.observer.Observer, when requests are counted or logged
    sms: SmsSender | None = None
    # Third parties that are asked about an account: name -> function of authData, raising 251 or 252.
    providers: Mapping[str, Callable[[Json], Json]] = field(default_factory=dict)
    asked_platforms: frozenset[str] = frozenset()  # whose union ids these third parties speak for
    wake_mailer: Callable[[], None] | None = None  # when there is something to send

    @property
    def is_quick(self) -> bool:
        """Whether this is the service as quick calls see it, whose store reads and writes and no more: see http/inline_calls.py.

        Others wait meanwhile, and a write is not committed yet when it returns.
        """
        return not hasattr(self.store, "build_index")


class RawBody(NamedTuple):
    """A body that is a file's bytes and no JSON."""

    mime_type: str
    data: bytes


@dataclass(frozen=True)
class Caller:
    is_master: bool = False
    user_id: str | None = None
    token: str | None = None  # the session as sent, valid or not
    has_hook_key: bool = False
    address: str = ""
    is_production: bool = True

    @property
    def block(self) -> str:
        """What limits count: see address_block."""
        return address_block(self.address)


class Call(NamedTuple):  # a frozen dataclass would take five times as long to make
    service: Service
    caller: Caller
    method: str
    query: Document
    body: Json  # decoded JSON, {} when there was none; a RawBody for the few resources of routes.RAW
    api_url: str  # the origin that the caller knows this server by, without a trailing slash
    depth: int = 0  # how many hooks lead here
    own_url: str = ""  # like `api_url`, but of nothing that the caller says
    client: str = ""  # what the SDK says that it is, in X-LC-UA
    request_id: str = ""  # in logs, in the answer, and to the engine
    is_for_engine: bool = False  # what is read is sent to the app's engine, and not to the caller

    def with_body(self, body: Json, **changes: Any) -> "Call":
        return self._replace(body=body, **changes)

    @property
    def to_engine(self) -> "Call":
        """The call as the app's engine sees it: with URLs that are ours, whatever Host its caller claims, and all columns."""
        return self._replace(api_url=self.own_url, is_for_engine=True)

    @property
    def skipped_hooks(self) -> set[str]:
        """Hooks that this call asks to be left out, which needs the hook key or the master key."""
        names = self.body.get("__ignore_hooks") if isinstance(self.body, dict) else None
        allowed = self.caller.has_hook_key or self.caller.is_master
        return set(map(str, names)) if allowed and isinstance(names, list) else set()

    @property
    def has_sms(self) -> bool:
        """Whether codes can be sent to who makes this call."""
        sender = self.service.sms
        return sender is not None and (not sender.is_local or self.caller.address in LOOPBACK)

    def principals(self, transaction: Transaction) -> Principals:
        """The names that the caller goes by in an ACL; None for the master, who needs none."""
        if self.caller.is_master:
            return None
        if self.caller.user_id is None:
            return ("*",)
        roles = (f"role:{name}" for name in transaction.role_names(self.caller.user_id))
        return ("*", self.caller.user_id, *roles)

    def json_body(self) -> Document:
        """The body as an object; raise 107."""
        if not isinstance(self.body, dict):
            raise StorageError(Code.BAD_JSON, detail="the body must be an object")
        return self.body

    def needs_master(self) -> None:
        if not self.caller.is_master:
            raise StorageError(Code.NEEDS_MASTER)

    def flag(self, *names: str) -> bool:
        """Whether one of these query options is on."""
        for name in names:
            if self.query.get(name) in (True, 1, "true", "1"):
                return True
        return False


def limit_traffic(service: Service, address: str, has_hook_key: bool, number: int = 1) -> None:
    """Count calls; raise 429 for an address that makes too many."""
    if _is_limited(service, address, has_hook_key):
        if service.traffic.count(address_block(address), number) > service.options.max_requests_per_minute:
            raise StorageError(Code.TOO_MANY_REQUESTS, headers=[("Retry-After", "60")])


def limit_sign_ups(call: "Call") -> None:
    """Count a new user; raise 429 for an address that makes too many."""
    _limit_hour(call, call.service.sign_ups, call.service.options.max_signups_per_address)


def limit_mails(call: "Call") -> None:
    """Count an e-mail that somebody has sent, to whomever; raise 429 for an address that has too many sent."""
    _limit_hour(call, call.service.mails, call.service.options.max_mails_per_address)


def counted_address(service: Service, caller: Caller) -> str | None:
    """The address that bytes which a caller sends count for; None where they do not count."""
    limit, is_spared = service.options.max_bytes_per_address, caller.is_master or caller.has_hook_key
    return None if not limit or is_spared or caller.address in ("", *LOOPBACK) else caller.block


def limit_bytes(service: Service, address: str | None, number: int) -> None:
    """Count bytes that an address sends, to be stored as it may be; raise 429 when they are too many for a day."""
    if address is not None and number and service.sent.count(address, number) > service.options.max_bytes_per_address:
        raise StorageError(Code.TOO_MANY_REQUESTS, headers=[("Retry-After", str(HOUR_SECONDS))])


def _limit_hour(call: "Call", counted: Traffic, limit: int) -> None:
    if not call.caller.is_master and _is_limited(call.service, call.caller.address, call.caller.has_hook_key):
        if counted.count(call.caller.block, 1) > limit:
            raise StorageError(Code.TOO_MANY_REQUESTS, headers=[("Retry-After", str(HOUR_SECONDS))])


def take_back_traffic(service: Service, address: str, has_hook_key: bool) -> None:
    """A call that was counted will be again."""
    if _is_limited(service, address, has_hook_key):
        service.traffic.take_back(address_block(address))


def _is_limited(service: Service, address: str, has_hook_key: bool) -> bool:
    """Whether calls of an address count; the app speaks for many visitors, so its hook key spares it."""
    return service.options.max_requests_per_minute > 0 and address not in LOOPBACK and not has_hook_key


def ok(value: Json, headers: Sequence[Header] = ()) -> Answer:
    return HTTPStatus.OK, headers, value


def created(class_name: str, object_id: str, value: Json) -> Answer:
    return HTTPStatus.CREATED, [("Location", f"/1.1/classes/{class_name}/{object_id}")], value
