"""Batch: several calls in one, through the same routes, with the same rights. Protocol section 2.4."""
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import cast
from urllib.parse import parse_qsl, unquote

from leanwsgi import messages
from leanstorage.rules import values
from leanstorage.rules.call import Answer, BATCH_SECONDS, Call, limit_traffic, ok
from leanstorage.rules.rendering import Ready
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import AnswerTooLarge, Document, Json, MAX_FOUND, QueryTimeout, Result, Store, StoreUnavailable, Transaction

MAX_REQUESTS = 1000
METHODS = frozenset(["GET", "POST", "PUT", "DELETE"])
MAX_TOGETHER = 50  # creations in one transaction; other writers wait meanwhile
# `files` is another name of `_File`, which may have hooks of its own.
CREATE = re.compile(r"/1(?:\.1)?/classes/(?!files$)([A-Za-z][A-Za-z0-9_]*)")
PREFIX = re.compile(r"/1(\.1)?(/.*)", re.DOTALL)


def run(call: Call) -> Answer:
    """POST /batch: 200 and, in order, `{"success": body}` or `{"error": {"code", "error"}}` for each.

    Raises 1, 107, 429. Calls for which the time ran out are not made: 124; nor those whose answers have no room: 102.
    """
    requests = call.json_body().get("requests")
    if not isinstance(requests, list) or not requests:
        raise StorageError(Code.BAD_JSON, detail="requests must be a non-empty array")
    if len(requests) > MAX_REQUESTS:
        raise StorageError(Code.BATCH_TOO_LONG, limit=MAX_REQUESTS)
    limit_traffic(call.service, call.caller.address, call.caller.has_hook_key, len(requests) - 1)
    deadline = time.monotonic() + BATCH_SECONDS
    results: list[str] = []  # as text, which is smaller than what it says
    left = math.inf if call.caller.is_master else MAX_FOUND
    for is_create, items in groupby(requests, lambda request: _is_plain_create(call, request)):
        waiting = list(items)
        while waiting:
            together, waiting = (waiting[:MAX_TOGETHER], waiting[MAX_TOGETHER:]) if is_create else (waiting[:1], waiting[1:])
            if left < 0:
                found = [_too_large() for _ in together]
            elif len(together) > 1:
                found = _run_together(call, together, deadline)
            else:
                found = [_run_one(call, together[0], deadline)]
            texts = [_text(result) for result in found]
            left -= sum(map(len, texts))
            results += texts
    return ok(Ready(f"[{','.join(results)}]"))


def _text(result: Document) -> str:
    value = result.get("success")
    if isinstance(value, Ready):
        return f'{{"success":{value.text}}}'
    return messages.json_bytes(result).decode()


def _is_plain_create(call: Call, request: Json) -> bool:
    """Whether a request creates an object that no other one has to wait for, and no hook is asked about."""
    if not isinstance(request, dict) or request.get("method") != "POST" or not isinstance(request.get("path"), str):
        return False
    found = CREATE.fullmatch(request["path"])
    return found is not None and (call.service.engine is None or not call.service.engine.may_hook(found[1]))


def _run_together(call: Call, requests: list[Json], deadline: float) -> list[Document]:
    """Creations in one transaction, which costs one sync: each is kept or refused by itself.

    Any other error undoes them all, and they are made one by one.
    """
    if time.monotonic() > deadline:
        return [_failure(Code.TIMEOUT) for _ in requests]

    def work(transaction: Transaction) -> list[Document]:
        inner = call._replace(service=replace(call.service, store=cast(Store, _Joined(transaction)), engine=None))
        results = []
        for request in requests:
            try:
                with transaction.savepoint():
                    results.append({"success": _answer(inner, request)[1]})
            except messages.HTTPError as error:
                results.append(_refusal(error))
        return results

    try:
        return call.service.store.write(work)
    except StoreUnavailable as error:  # it may be kept, so it is not made again
        call.service.trouble.say_unavailable(error)
        return [_failure(Code.UNAVAILABLE) for _ in requests]
    except Exception:
        return [_run_one(call, request, deadline) for request in requests]


class _Joined:
    """A store whose works are parts of one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def write(self, work: Callable[[Transaction], Result]) -> Result:
        return work(self._transaction)

    read = write


def _run_one(call: Call, request: Json, deadline: float) -> Document:
    if time.monotonic() > deadline:
        return _failure(Code.TIMEOUT)
    try:
        method, value = _answer(call, request)
    except messages.HTTPError as error:
        return _refusal(error)
    except AnswerTooLarge:
        return _too_large()
    except QueryTimeout as error:
        return _failure(Code.QUERY_TIMEOUT, error.advice)
    except StoreUnavailable as error:
        call.service.trouble.say_unavailable(error)
        return _failure(Code.UNAVAILABLE)
    except Exception as error:  # one item's fault must not hide what the others did
        messages.log_exception(error, {"REQUEST_METHOD": "BATCH"})
        return _failure(Code.INTERNAL)
    return {"success": None if method == "GET" and value == {} else value}


def _refusal(error: messages.HTTPError) -> Document:
    code = error.code if isinstance(error, StorageError) else Code.NO_ROUTE.number
    return {"error": {"code": code, "error": error.message}}


def _too_large() -> Document:
    return {"error": {"code": Code.ANSWER_TOO_LARGE.number, "error": Code.ANSWER_TOO_LARGE.text.format(limit=MAX_FOUND)}}


def _failure(code: Code, advice: str = "") -> Document:
    return {"error": {"code": code.number, "error": code.text + advice}}


def _answer(call: Call, request: Json) -> tuple[str, Json]:
    """(method, body of the answer) of one call; raise what it raises."""
    if not isinstance(request, dict) or not isinstance(request.get("path"), str):
        raise StorageError(Code.BAD_JSON, detail="each request needs method and path")
    method = request.get("method", "GET")
    if not isinstance(method, str) or method not in METHODS:
        raise StorageError(Code.WRONG_METHOD)
    path, _, text = request["path"].partition("?")
    found = PREFIX.fullmatch(path)
    if found is None:
        raise StorageError(Code.NO_ROUTE)
    # Decoded once, and a separator that only decoding brings to light is no separator.
    parts = [unquote(part) for part in found.group(2).split("/")]
    values.check_storable(*parts)
    if any("/" in part or part in (".", "..") for part in parts) or "" in parts[1:]:
        raise StorageError(Code.NO_ROUTE)
    function, parameters = call.service.routes.match(method, "/".join(parts))
    if function in (run, None):
        raise StorageError(Code.NO_ROUTE)
    pairs = parse_qsl(text, keep_blank_values=True)
    query = dict(pairs)
    if len(query) != len(pairs):
        raise StorageError(Code.BAD_JSON, detail="the query string repeats a name")
    params = request.get("params")
    if params is not None and not isinstance(params, dict):
        raise StorageError(Code.BAD_JSON, detail="params must be an object")
    body = request.get("body")
    inner = call._replace(method=method, query={**query, **(params or {})}, body={} if body is None else body)
    _, _, value = function(inner, **parameters)
    if isinstance(value, str):  # a page, which has no place in a list of answers
        raise StorageError(Code.NO_ROUTE)
    return method, value
