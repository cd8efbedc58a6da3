"""Files: upload tokens, uploads, external files, and serving the bytes. Protocol section 6.

An upload is a record until its bytes are complete; only then is there a `_File` object. The upload URL is the
credential: random, used once, good for an hour. Where the bytes go to an object storage directly, this server learns of
them by the client's call back, by the first reader, or by `sweep`.
"""
import hmac
import mimetypes
import re
import secrets
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import IO, NoReturn
from urllib.parse import quote
from wsgiref.types import WSGIEnvironment

from leanstorage.resources import file_keys, objects
from leanstorage.rules import acl, classes, rendering, write
from leanstorage.rules.call import Answer, Call, counted_address, created, FILE_BYTES, limit_bytes, ok, Service
from leanstorage.rules.errors import Code, StorageError
from leanstorage.rules.passwords import token_lookup
from leanstorage.store import Document, Json, Later, now, Row, Store, Transaction
from leanstorage.rules.values import format_time
from leanwsgi.messages import Response


UPLOAD_MS = 60 * 60 * 1000
UNCLAIMED_MS = 5 * 60 * 1000  # after this a client that brought its bytes will not call back any more
DIRECT_KEPT_MS = 7 * 24 * UPLOAD_MS
MAX_NAME = 1000
CHUNK_BYTES = 1 << 16
PAGE = 200  # uploads that are looked at together
SEAL = 32  # characters of a token
TOKEN = re.compile("[0-9a-f]{76}")
MIME_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*(; ?[a-zA-Z0-9-]+=[a-zA-Z0-9-]+)?")
# Mini programs send local files by multipart only, which their SDK does for the provider `qiniu`; these put the bytes.
MINI_PROGRAM = re.compile(r"LeanCloud-JS-SDK/([^ ]+) \((?!Browser|Node\.js|ReactNative)")
NOT_TO_OUR_URL = re.compile(r"[12]\.|3\.[0-2]\.")  # versions that, for `qiniu`, send to a host of their own: `qcloud` has multipart too
# What a browser may show in place; the rest is a download, because it could run as a page of this origin.
SHOWN = re.compile(r"(image/(png|jpeg|gif|webp|bmp|avif)|audio/.*|video/.*|text/plain.*|application/(pdf|json))")
STYLED = re.compile(r"(.+)[-!][A-Za-z0-9_.]{1,50}")  # `a.png-thumb` or `a.png!small`, names of styles at the old CDN
NOT_THE_FILE = re.compile(r"(imageInfo|exif|avinfo|imageAve)(?:[=&|/]|$)", re.IGNORECASE)  # asks about a picture
FOREVER = "public, max-age=31536000"
MOMENT = "private, max-age=120"  # of a redirect to a URL that is good for some minutes


def create_token(call: Call) -> Answer:
    """POST /fileTokens: where and how to upload; nothing is visible before that is complete. Raises 1, 123, 403."""
    body = call.json_body()
    name, mime_type = body.get("name"), body.get("mime_type")
    meta = body.get("metaData") if isinstance(body.get("metaData"), dict) else {}
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise StorageError(Code.BAD_REQUEST, detail="A file needs a name.")
    if not isinstance(mime_type, str) or not MIME_TYPE.fullmatch(mime_type):
        mime_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    key = file_keys.new_key(body, name, call.caller.is_master)
    ms = now()
    token = _new_token(call.service, ms)
    lookup = token_lookup(call.service.token_secret, token)
    provider = _provider(call.client)
    direct = call.service.blobs.direct_upload() if provider == "s3" else None
    upload: Document = {
        "id": objects.new_id(ms),
        "created": ms,
        "key": key,
        "acl": acl.of_client(body.get("ACL")),
        "address": counted_address(call.service, call.caller),  # of who brings the bytes
        "body": {"name": name, "key": key, "bucket": "leanstorage", "mime_type": mime_type, "metaData": rendering.copied(meta)},
    }

    def work(transaction: Transaction) -> None:
        info = classes.existing(transaction, "_File")
        classes.check_permission(info, "create", call.principals(transaction))
        if transaction.record("file", key):
            raise StorageError(Code.BAD_FILE_KEY)
        if direct:
            transaction.put_record("direct", key, {"upload": lookup, "created": ms})
            upload["staged"] = direct[0]
        transaction.put_record("upload", lookup, upload, ms + (DIRECT_KEPT_MS if direct else UPLOAD_MS))

    call.service.store.write(work)
    value = {
        "objectId": upload["id"],
        "createdAt": format_time(ms),
        "token": token,
        "url": rendering.file_url(call, key),
        "key": key,
        "bucket": "leanstorage",
        "mime_type": mime_type,
        "provider": provider,
        "upload_url": direct[1] if direct else f"{call.api_url}/1.1/uploads/{token}",
    }
    return created("_File", upload["id"], value)


def _provider(client: str) -> str:
    """The name by which an SDK knows how to send: by PUT for `s3`, by multipart for the others."""
    mini_program = MINI_PROGRAM.match(client)
    if not mini_program:
        return "s3"
    return "qcloud" if NOT_TO_OUR_URL.match(mini_program.group(1)) else "qiniu"


def _new_token(service: Service, ms: int) -> str:
    """A random token that shows, by a seal and its time, that it is one of ours."""
    token = f"{secrets.token_hex(16)}{ms:012x}"
    return token + token_lookup(service.token_secret, token)[:SEAL]


def may_be_used(service: Service, token: str) -> bool:
    """Whether a token was made here, within the time of an upload: the store, which may be slow, is not asked."""
    if not TOKEN.fullmatch(token):
        return False
    said, seal = token[:-SEAL], token[-SEAL:]
    is_ours = hmac.compare_digest(seal, token_lookup(service.token_secret, said)[:SEAL])
    return is_ours and now() - int(said[-12:], 16) < UPLOAD_MS


def receive(service: Service, token: str, chunks: Iterable[bytes]) -> str:
    """PUT or POST of the upload URL: store the pieces of bytes in `chunks`; return the file's key.

    Raises 401 for a used or expired URL, 413 above the limit, 1 for another file than was announced.
    """
    lookup = token_lookup(service.token_secret, token)
    upload = None
    if may_be_used(service, token):
        upload = service.store.read(lambda transaction: transaction.record("upload", lookup))
    if upload is None or upload.get("done"):
        raise StorageError(Code.UNAUTHORIZED)
    staged, size, digest = service.blobs.write(_limited(chunks, _limit(service, upload)))
    try:
        _complete(service, lookup, upload, staged, size, digest)
    finally:
        service.blobs.drop(staged)
    key: str = upload["key"]
    return key


def _limit(service: Service, upload: Document) -> float:
    """How many bytes an upload may have."""
    announced = upload["body"]["metaData"].get("size")
    is_number = isinstance(announced, (int, float)) and not isinstance(announced, bool)
    return min(service.options.max_upload_bytes, announced) if is_number else service.options.max_upload_bytes


def _complete(
    service: Service, lookup: str, upload: Document, staged: str, size: int, digest: str | None, *version: str
) -> None:
    """Make the file of an upload whose bytes are staged; raise 1 if they were not announced so, 401 if it is made."""
    meta = upload["body"]["metaData"]
    announced, checksum = meta.get("size"), meta.get("_checksum")
    if (announced is not None and size != announced) or (
        isinstance(checksum, str) and digest is not None and checksum.lower() != digest
    ):
        raise StorageError(Code.BAD_REQUEST, detail="The upload is not the file that was announced.")
    limit_bytes(service, upload.get("address"), max(size, FILE_BYTES))

    def work(transaction: Transaction) -> None:
        current = transaction.record("upload", lookup, lock=True)
        if current is None or current.get("done"):
            raise StorageError(Code.UNAUTHORIZED)
        if not transaction.add_record("file", upload["key"], {"id": upload["id"]}):
            raise StorageError(Code.BAD_FILE_KEY)
        body = {**upload["body"], "metaData": {**meta, "size": size}}
        info = classes.existing(transaction, "_File")
        if info.pop("is_new", False):
            transaction.save_class("_File", info)
        row = Row(upload["id"], upload["created"], upload["created"], upload["acl"], body)
        transaction.insert("_File", row)
        expires = upload["created"] + UPLOAD_MS
        transaction.put_record("upload", lookup, {"done": True, "id": row.id, "key": upload["key"]}, expires)
        transaction.delete_record("direct", upload["key"])
        # With the record locked, so that of several uploads to one URL the one that is answered 200 is the one kept;
        # before the commit, because a row without bytes would be a lie, and bytes without a row are only litter.
        service.blobs.keep(staged, upload["key"], *version)

    service.store.write(work)


def claim(service: Service, lookup: str) -> bool:
    """Make the file of an upload that went to the object storage directly, if its bytes are there; return whether.

    Raises 413 above the limit, 1 for another file than was announced: those bytes are dropped.
    """
    upload = service.store.read(lambda transaction: transaction.record("upload", lookup))
    if upload is None or not upload.get("staged"):
        return False
    found = service.blobs.staged(upload["staged"])
    if found is None:
        return False
    size, digest, version = found
    limit = _limit(service, upload)
    try:
        if size > limit:
            raise StorageError(Code.TOO_LARGE, limit=limit)
        _complete(service, lookup, upload, upload["staged"], size, digest, version)
    except StorageError as error:
        if error.kind is Code.UNAUTHORIZED:  # another one was faster, and drops what is staged
            return True
        service.blobs.drop(upload["staged"])
        raise
    service.blobs.drop(upload["staged"])
    return True


def callback(call: Call) -> Answer:
    """POST /fileCallback: 200 says that the file is there; `result` false takes it away again, within the hour of its token.

    Raises 1 for a file that did not arrive, 401 for a token that is not known any more.
    """
    body = call.json_body()
    token = body.get("token")
    if not isinstance(token, str):
        return ok({})
    lookup = token_lookup(call.service.token_secret, token)
    if body.get("result") is not False:
        _check_arrived(call.service, lookup)
        return ok({})

    def work(transaction: Transaction) -> tuple[str | None, str | None]:
        upload = transaction.record("upload", lookup, lock=True) or {}
        transaction.delete_record("upload", lookup)
        if upload.get("done"):
            row = transaction.get("_File", upload["id"])
            transaction.delete("_File", upload["id"], now())
            return None, None if row is None else _forget(transaction, row)
        if upload.get("staged"):
            transaction.delete_record("direct", upload["key"])
        return upload.get("staged"), None

    staged, key = call.service.store.write(work)
    if staged:
        call.service.blobs.drop(staged)
    if key:
        call.service.blobs.delete(key)
    return ok({})


def _check_arrived(service: Service, lookup: str) -> None:
    """Raise 401 for an unknown upload, 400 for bytes that did not come.

    An upload that was announced to be empty is made now: an SDK may have nothing to bring but this word (Java).
    """
    if claim(service, lookup):
        return
    upload = service.store.read(lambda transaction: transaction.record("upload", lookup))
    if upload is None:
        raise StorageError(Code.UNAUTHORIZED)
    if upload.get("done"):
        return
    if upload["body"]["metaData"].get("size") != 0:
        raise StorageError(Code.BAD_REQUEST, detail="The file did not arrive.")
    staged, size, digest = service.blobs.write(())
    try:
        _complete(service, lookup, upload, staged, size, digest)
    except StorageError as error:
        if error.kind is not Code.UNAUTHORIZED:  # it has been made meanwhile
            raise
    finally:
        service.blobs.drop(staged)


def create_external(call: Call) -> Answer:
    """POST /files: a file that lies elsewhere, by its URL; the Go SDK makes rows without one. Raises 1.

    JavaScript SDKs below 4.5.3 take `name` and `url` from the answer.
    """
    fields = external_fields(call.json_body())
    inner = call.with_body({**write.clean(fields, creating=True), **write.hook_fields(call.body)})
    status, headers, value = objects.create(inner, "_File")
    shown = {"name": fields.get("name"), "url": fields.get("url") and rendering.escaped(fields["url"])}
    return status, headers, {**{key: one for key, one in shown.items() if one is not None}, **value}


def external_fields(body: Document) -> Document:
    """What a client may say of a file that lies elsewhere. Raises 1."""
    if body.get("url") is not None and (not isinstance(body["url"], str) or not body["url"]):
        raise StorageError(Code.BAD_REQUEST, detail="The url of an external file must be a text.")
    fields = {key: body[key] for key in ("name", "url", "mime_type", "metaData", "ACL") if body.get(key) is not None}
    meta = fields.get("metaData")
    return {**fields, "metaData": {**(meta if isinstance(meta, dict) else {}), "__source": "external"}}


def update(call: Call, file_id: str) -> NoReturn:
    """Files never change: 119."""
    raise StorageError(Code.NOT_FOR_CLIENTS, detail="A file cannot be changed.")


def delete(call: Call, file_ids: str) -> Answer:
    """DELETE: the object, and its bytes once that is committed, for which a quick call would not wait."""
    if call.service.is_quick:
        raise Later
    blobs = call.service.blobs

    def forgotten(key: str | None) -> None:
        if key:
            blobs.delete(key)

    return objects.delete(call, "_File", file_ids, objects.Rules(forget=_forget, forgotten=forgotten))


def serve(service: Service, environ: WSGIEnvironment, key: str, whole: str) -> Response:
    """GET of a file's bytes: (status, headers, iterable of bytes), with ranges. Raises 101 for an unknown key.

    `whole` is the key with several slashes in a row, as keys that were imported may have.
    """
    asked = NOT_THE_FILE.match(environ.get("QUERY_STRING", ""))
    if asked:
        raise StorageError(Code.UNSUPPORTED, feature=f"?{asked.group(1)}")
    row = _row(service, key)
    if row is None and whole != key and (found := _row(service, whole)):
        row, key = found, whole
    styled = STYLED.fullmatch(key) if row is None else None
    if styled:  # a thumbnail of the old CDN's: the original is better than nothing
        key = styled.group(1)
        row = _row(service, key)
    if row is None:
        raise StorageError(Code.NO_CLASS)
    mime_type = _mime_type(row, key)
    disposition = _disposition(mime_type, row.body.get("name"))
    url = service.blobs.read_url(key, environ["REQUEST_METHOD"], mime_type, disposition)
    if url:
        headers = [("Content-Type", "text/plain"), ("Location", url), ("Cache-Control", MOMENT), ("Content-Length", "0")]
        return HTTPStatus.FOUND, headers, [b""]
    opened = service.blobs.open(key)
    if not opened:
        raise StorageError(Code.NO_CLASS)
    file, size = opened
    etag = f'"{row.id}"'
    headers = [
        ("Content-Type", mime_type),
        ("ETag", etag),
        ("Cache-Control", FOREVER),
        ("Accept-Ranges", "bytes"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Disposition", disposition),
    ]
    if etag in environ.get("HTTP_IF_NONE_MATCH", ""):
        file.close()
        return HTTPStatus.NOT_MODIFIED, [header for header in headers if header[0] != "Content-Type"], [b""]
    part = _range(environ.get("HTTP_RANGE", ""), size)
    if part is None:
        file.close()
        headers += [("Content-Range", f"bytes */{size}"), ("Content-Length", "0")]
        return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers, [b""]
    start, end, is_part = part
    headers.append(("Content-Length", str(end - start)))
    status = HTTPStatus.OK
    if is_part:
        status = HTTPStatus.PARTIAL_CONTENT
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{size}"))
    if environ["REQUEST_METHOD"] == "HEAD":
        file.close()
        return status, headers, [b""]
    return status, headers, Reader(file, start, end)


def _mime_type(row: Row, key: str) -> str:
    """What a file is; imported rows may not say it."""
    mime_type = row.body.get("mime_type")
    if isinstance(mime_type, str) and MIME_TYPE.fullmatch(mime_type):
        return mime_type
    names = [name for name in (row.body.get("name"), key) if isinstance(name, str)]
    return next((found for name in names if (found := mimetypes.guess_type(name)[0])), "application/octet-stream")


class Reader:
    """An open file's bytes from `start` to `end`, in pieces; a server calls close at its end, whatever happened."""

    def __init__(self, file: IO[bytes], start: int, end: int) -> None:
        self.file = file
        self.left = end - start
        file.seek(start)

    def __iter__(self) -> Iterator[bytes]:
        while self.left > 0:
            chunk = self.file.read(min(CHUNK_BYTES, self.left))
            if not chunk:
                return
            self.left -= len(chunk)
            yield chunk

    def close(self) -> None:
        self.file.close()


def _row(service: Service, key: str) -> Row | None:
    """The `_File` row of a key or None; a reader may come before the client that brought the bytes called back."""

    def look(transaction: Transaction) -> tuple[Row | None, Document | None]:
        found = transaction.record("file", key)
        if found:
            return transaction.get("_File", found["id"]), None
        return None, transaction.record("direct", key)

    row, direct = service.store.read(look)
    if direct and claim(service, direct["upload"]):
        row, _ = service.store.read(look)
    return row


def sweep(service: Service) -> None:
    """Make the files whose clients never called back, and drop what is left of uploads that never came."""
    for key, direct in _direct(service.store):
        age = now() - direct["created"]
        if age < UNCLAIMED_MS:
            continue
        try:
            is_made = claim(service, direct["upload"])
        except StorageError:  # not what was announced: nobody can be told any more
            is_made = False
        if not is_made and age > UPLOAD_MS + UNCLAIMED_MS:
            service.store.write(lambda transaction: transaction.delete_record("direct", key))  # noqa: B023 it runs at once
    expired = service.store.read(lambda transaction: transaction.expired_records("upload"))
    for lookup, upload in expired:
        if not upload.get("done") and not upload.get("staged"):
            _drop_litter(service, upload["key"])
        service.store.write(lambda transaction: transaction.delete_record("upload", lookup))  # noqa: B023
    service.blobs.sweep()


def _direct(store: Store) -> Iterator[tuple[str, Document]]:
    """What is noted of uploads that go to the object storage directly, by key."""
    after = ""
    while found := store.read(lambda transaction: transaction.record_page("direct", after, PAGE)):  # noqa: B023 it runs at once
        yield from found
        after = found[-1][0]


def _drop_litter(service: Service, key: str) -> None:
    """Drop bytes that were kept by a transaction which then failed, unless another one has the key, or is about to."""

    def work(transaction: Transaction) -> None:
        if transaction.add_record("file", key, {}):
            service.blobs.delete(key)
            transaction.delete_record("file", key)

    service.store.write(work)


def _forget(transaction: Transaction, row: Row) -> str | None:
    """Free the key of a row that goes; return it if its bytes go too: imported rows may share one."""
    key: str | None = row.body.get("key")
    found = transaction.record("file", key) if key else None
    if not key or not found or found["id"] != row.id:
        return None
    transaction.delete_record("file", key)
    return key


def _limited(chunks: Iterable[bytes], limit: float) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise StorageError(Code.TOO_LARGE, limit=limit)
        yield chunk


def _disposition(mime_type: str, name: Json) -> str:
    kind = "inline" if SHOWN.fullmatch(mime_type) else "attachment"
    return f"{kind}; filename*=UTF-8''{quote(name, safe='')}" if isinstance(name, str) and name else kind


def _range(text: str, size: int) -> tuple[int, int, bool] | None:
    """One byte range as (start, end, whether it is a part): the whole for none or several; None if it cannot be."""
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", text)
    if not found or found.groups() == ("", ""):
        return 0, size, False
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    return (start, end, True) if start < end else None
