"""POST /files/NAME: files of old SDKs, and of programs without an SDK, whose bytes come in the call itself. Appendix C.2.

`{"url"}` is a file that lies elsewhere; `{"base64"}`, or a body that is no JSON, are the bytes of a new one.
"""
import base64
import binascii
import re

from leanstorage.resources import files
from leanstorage.rules.call import Answer, Call, RawBody
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Json

DATA_URI = re.compile(r"\s*data:[^,]{0,200};base64,")


def create(call: Call, name: str) -> Answer:
    """201 with `objectId`, `createdAt`, `name`, `url` and `size`. Raises 1, 413 and what a token raises."""
    if isinstance(call.body, RawBody):
        return _stored(call, {"name": name, "mime_type": call.body.mime_type}, call.body.data)
    body = call.json_body()
    fields = {**body, "name": body.get("name") or name}
    if "base64" in body:
        return _stored(call, {**fields, "mime_type": body.get("mime_type") or body.get("_ContentType")}, _decoded(body["base64"]))
    if not body.get("url"):
        raise StorageError(Code.BAD_REQUEST, detail="A file needs a url, or its bytes.")
    status, headers, value = files.create_external(call.with_body(fields))
    meta = body.get("metaData")
    size = meta.get("size") if isinstance(meta, dict) else None
    return status, headers, {**value, "size": size or 0}  # nobody here knows it; Python 1.13 fails without one


def _stored(call: Call, fields: dict[str, Json], data: bytes) -> Answer:
    meta = fields.get("metaData")
    announced = {**(meta if isinstance(meta, dict) else {}), "size": len(data)}
    asked = {key: fields[key] for key in ("name", "mime_type", "ACL") if fields.get(key) is not None}
    status, headers, token = files.create_token(call.with_body({**asked, "metaData": announced}))
    files.receive(call.service, token["token"], [data])
    shown = {key: token[key] for key in ("objectId", "createdAt", "url", "mime_type")}
    return status, headers, {**shown, "name": fields["name"], "size": len(data)}


def _decoded(text: Json) -> bytes:
    try:
        return base64.b64decode("".join(DATA_URI.sub("", text, count=1).split()), validate=True)
    except (binascii.Error, AttributeError, TypeError, ValueError):
        raise StorageError(Code.BAD_REQUEST, detail="The base64 of a file is malformed.") from None
