"""Files of a folder as responses: revalidated by caches each time, and sent again only when they have changed."""
import hashlib
import mimetypes
import re
from http import HTTPStatus
from pathlib import Path
from wsgiref.types import WSGIEnvironment

from leanwsgi import messages
from leanwsgi.messages import HTTPError, Response

# Folders and files by plain names: no dot at the beginning, no way out of the folder.
PATH = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)*")


def static_file(environ: WSGIEnvironment, folder: Path, path: str) -> Response:
    """The file at `path` in `folder` with ETag and Last-Modified, 304 if the client has it; HTTPError 404 if there is none."""
    missing = HTTPError(HTTPStatus.NOT_FOUND, "there is nothing at this path")
    if not PATH.fullmatch(path):
        raise missing
    file = folder / path
    try:
        data, changed = file.read_bytes(), file.stat().st_mtime
    except OSError:  # also a folder, or a name that is too long
        raise missing from None
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = [
        ("ETag", etag),
        ("Last-Modified", messages.http_date(int(changed))),
        ("Cache-Control", "no-cache"),
    ]
    if etag in environ.get("HTTP_IF_NONE_MATCH", ""):
        return HTTPStatus.NOT_MODIFIED, headers, b""
    mime_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if mime_type.startswith("text/"):
        mime_type += "; charset=utf-8"
    return HTTPStatus.OK, [("Content-Type", mime_type), *headers], data
