"""What a resource function is given: the call, who makes it, and the service it is made to.

No part of it is WSGI, so that a batch can make calls of its own. A resource function answers
(status, headers, value): `value` is what becomes the JSON body.
"""
import threading
import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from leanstorage.errors import Code, StorageError
from leanstorage.store import QUERY_SECONDS
from messages import MAX_JSON_DEPTH

MAX_HASHING = 4


@dataclass
class Options:
    """Settings of a service, with the defaults of the protocol."""

    trusted_providers: frozenset = frozenset(["anonymous"])  # "*" trusts every one, see section 5.6
    public_url: str | None = None  # of the API, when it is not what requests say in Host
    files_url: str | None = None  # of the files, when they have an origin of their own
    max_upload_bytes: int = 1 << 30
    max_body_bytes: int = 20 << 20  # of a call of the API
    max_json_depth: int = MAX_JSON_DEPTH
    query_seconds: float = QUERY_SECONDS  # of one statement
    role_create: str = "client"  # or "master", which production should choose
    class_create: str = "client"
    rotate_token_on_password: bool = True
    verify_emails: bool = False
    sign_max_age_s: int | None = None
    andx_key: str | None = None
    max_logins_per_address: int = 100  # failures in 15 minutes
    max_requests_per_minute: int = 6000  # of one address, by one process; 0 for no limit

    @property
    def max_bytes(self):
        """Of any request."""
        return max(self.max_upload_bytes, self.max_body_bytes)


class Traffic:
    """Requests of each address in the current minute. It is this process's own: overload is a process's own, too."""

    def __init__(self):
        self._lock = threading.Lock()
        self._minute, self._counts = None, {}

    def count(self, address):
        """Note a request; return how many the address has made this minute, this one included."""
        minute = int(time.monotonic() // 60)
        with self._lock:
            if minute != self._minute:
                self._minute, self._counts = minute, {}
            self._counts[address] = number = self._counts.get(address, 0) + 1
            return number


@dataclass
class Service:
    """What every call shares; nothing in it changes while it serves."""

    store: object
    blobs: object
    engine: object  # hooks.Engine, or None
    keys: dict  # id, key, master_key, hook_key
    token_secret: bytes
    options: Options = field(default_factory=Options)
    router: object = None
    # Hashing a password takes memory and time on purpose: this many at once, whatever the number of threads.
    hashing: object = field(default_factory=lambda: threading.BoundedSemaphore(MAX_HASHING))
    traffic: object = field(default_factory=lambda: Traffic())


@dataclass(frozen=True)
class Caller:
    is_master: bool = False
    user_id: str | None = None
    token: str | None = None  # the session as sent, valid or not
    has_hook_key: bool = False
    address: str = ""
    is_production: bool = True


@dataclass(frozen=True)
class Call:
    service: Service
    caller: Caller
    method: str
    query: dict
    body: object  # decoded JSON, {} when there was none
    api_url: str  # the origin that the caller knows this server by, without a trailing slash
    depth: int = 0  # how many hooks lead here

    def with_body(self, body, **changes):
        return replace(self, body=body, **changes)

    @property
    def skipped_hooks(self):
        """Hooks that this call asks to be left out, which needs the hook key or the master key."""
        names = self.body.get("__ignore_hooks") if isinstance(self.body, dict) else None
        allowed = self.caller.has_hook_key or self.caller.is_master
        return set(map(str, names)) if allowed and isinstance(names, list) else set()

    def principals(self, transaction):
        """The names that the caller goes by in an ACL; None for the master, who needs none."""
        if self.caller.is_master:
            return None
        if self.caller.user_id is None:
            return ("*",)
        roles = (f"role:{name}" for name in transaction.role_names(self.caller.user_id))
        return ("*", self.caller.user_id, *roles)

    def json_body(self):
        """The body as an object; raise 107."""
        if not isinstance(self.body, dict):
            raise StorageError(Code.BAD_JSON, detail="the body must be an object")
        return self.body

    def needs_master(self):
        if not self.caller.is_master:
            raise StorageError(Code.NEEDS_MASTER)

    def flag(self, *names):
        """Whether one of these query options is on."""
        return any(self.query.get(name) in (True, 1, "true", "1") for name in names)


def ok(value, headers=()):
    return HTTPStatus.OK, headers, value


def created(class_name, object_id, value):
    return HTTPStatus.CREATED, [("Location", f"/1.1/classes/{class_name}/{object_id}")], value
