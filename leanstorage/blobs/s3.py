"""The bytes of files on S3 or what speaks its protocol: clients upload to a presigned URL, not through this server.

Objects: `PREFIX/uploads/RANDOM` while staged, `PREFIX/files/KEY` when kept. Endpoint and credentials come from
boto3's own settings (AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, ...); clients must reach the endpoint too.
"""
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from leanstorage.blobs import write_hashed
from leanstorage.store import Document, StoreUnavailable

UPLOAD_SECONDS = 60 * 60
READ_SECONDS = 300  # a URL that is passed on to others expires after this
CONFIG = Config(
    signature_version="s3v4",
    connect_timeout=3,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 2},
    # Stores that are not Amazon's know the newer checksums only in part.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
MD5 = re.compile('"([0-9a-f]{32})"')  # an ETag that is one: the object came in one piece and is not encrypted by KMS
IN_MEMORY_BYTES = 1 << 20


class S3Blobs:
    """Files below `s3://BUCKET/PREFIX`; see FolderBlobs for what the functions promise."""

    def __init__(self, place: str) -> None:
        parts = urlsplit(place)
        if not parts.netloc or parts.query or parts.fragment:
            raise ValueError("files on S3 lie at s3://BUCKET/PREFIX")
        self.bucket = parts.netloc
        self.prefix = f"{path}/" if (path := parts.path.strip("/")) else ""
        try:
            self.client: Any = boto3.client("s3", config=CONFIG)
        except (BotoCoreError, ValueError) as error:
            raise ValueError(f"S3 cannot be used: {error}") from error
        self.client.meta.events.register("before-parse.s3", self._check_answer)

    def direct_upload(self) -> tuple[str, str]:
        """(staged name, URL good for one hour that takes a PUT of the bytes)."""
        staged = self._new_name()
        return staged, self._sign("put_object", staged, UPLOAD_SECONDS)

    def staged(self, staged: str) -> tuple[int, str | None, str] | None:
        """(size, MD5 in hex or None, version) of bytes that a client has brought, or None."""
        found = self._head(staged)
        if found is None:
            return None
        digest = MD5.fullmatch(found["ETag"])
        return found["ContentLength"], digest and digest.group(1), found["ETag"]

    def write(self, chunks: Iterable[bytes]) -> tuple[str, int, str]:
        """Stage pieces of bytes; return (staged name, size, MD5 in hex)."""
        staged = self._new_name()
        # Whole before it is sent: S3 has no way to take back a part of an upload that turns out too large.
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
            size, digest = write_hashed(chunks, file)
            file.seek(0)
            self._call(self.client.upload_fileobj, file, self.bucket, staged)
        return staged, size, digest

    def keep(self, staged: str, key: str, version: str | None = None) -> None:
        """Give staged bytes their key; with `version`, only if they are still those. Raises StoreUnavailable."""
        condition = {"CopySourceIfMatch": version} if version else {}
        copied = self._call(
            self.client.copy_object,
            Bucket=self.bucket,
            Key=self._name(key),
            CopySource={"Bucket": self.bucket, "Key": staged},
            # What the client sent along must not decide how the file is shown later.
            MetadataDirective="REPLACE",
            ContentType="application/octet-stream",
            **condition,
        )
        if copied is None:
            raise StoreUnavailable("the staged bytes are gone")

    def drop(self, staged: str) -> None:
        self._call(self.client.delete_object, Bucket=self.bucket, Key=staged)

    def read_url(self, key: str, method: str, content_type: str, disposition: str) -> str:
        """A URL good for five minutes whose answer to a GET has these headers; that for a HEAD is another one."""
        if method == "HEAD":
            return self._sign("head_object", self._name(key), READ_SECONDS)
        headers = {"ResponseContentType": content_type, "ResponseContentDisposition": disposition}
        return self._sign("get_object", self._name(key), READ_SECONDS, **headers)

    def open(self, key: str) -> None:
        """Clients read where `read_url` sends them, never through this server."""

    def size(self, key: str) -> int | None:
        """The bytes that a key has, or None."""
        found = self._head(self._name(key))
        return found["ContentLength"] if found else None

    def delete(self, key: str) -> None:
        self._call(self.client.delete_object, Bucket=self.bucket, Key=self._name(key))

    def check(self) -> None:
        """Raise StoreUnavailable unless the bucket exists. Asking for that needs a right of its own, which may be missing."""
        try:
            self.client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if code not in ("403", "AccessDenied", "Forbidden"):
                raise StoreUnavailable(f"object storage answers {code}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise StoreUnavailable(f"object storage is not there: {type(error).__name__}") from error

    def sweep(self) -> None:
        """What nobody claimed is the bucket's to drop, by a lifecycle rule on `uploads/`: no listing is cheap."""

    def check_start(self) -> None:
        """Raise ValueError when there is no such bucket; say so when that cannot be found out: it may pass."""
        try:
            found = self._call(self.client.head_bucket, Bucket=self.bucket)
        except StoreUnavailable as error:
            print(f"files cannot be kept or read for now: {error}", file=sys.stderr, flush=True)
            return
        if found is None:
            raise ValueError(f"there is no bucket {self.bucket} at {self.client.meta.endpoint_url}")

    def _check_answer(self, response_dict: Document, **_: object) -> None:
        """Refuse an announcement (1xx), which boto3 takes for success. The answer behind it must not be the next call's."""
        if response_dict["status_code"] < 200:
            self.client.close()  # its connections; it makes others
            raise StoreUnavailable(f"object storage answers {response_dict['status_code']} alone")

    def _new_name(self) -> str:
        return f"{self.prefix}uploads/{secrets.token_hex(16)}"

    def _name(self, key: str) -> str:
        return f"{self.prefix}files/{key}"

    def _sign(self, operation: str, name: str, seconds: int, **more: str) -> str:
        parameters = {"Bucket": self.bucket, "Key": name, **more}
        url: str = self.client.generate_presigned_url(operation, parameters, seconds)
        return url

    def _head(self, name: str) -> Document | None:
        found: Document | None = self._call(self.client.head_object, Bucket=self.bucket, Key=name)
        return found

    def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What S3 answers; None where there is no such object. Raises StoreUnavailable for everything else."""
        try:
            return function(*arguments, **named)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if code in ("404", "NoSuchKey", "NotFound"):
                return None
            raise StoreUnavailable(f"object storage answers {code}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise StoreUnavailable(f"object storage is not there: {type(error).__name__}") from error
