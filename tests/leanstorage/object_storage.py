"""A real object storage for tests: SeaweedFS, which the program that SEAWEEDFS names serves by S3's protocol."""
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path

from tests.support import free_port

SEAWEED = os.environ.get("SEAWEEDFS")
ACCESS = {
    "AWS_ACCESS_KEY_ID": "us",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def can_be_reached(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def seaweed(case, port):
    """The command that serves S3 on a port; its folder goes with the test case."""
    folder = Path(tempfile.mkdtemp(prefix="seaweed-"))
    case.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
    keys = [{"accessKey": ACCESS["AWS_ACCESS_KEY_ID"], "secretKey": ACCESS["AWS_SECRET_ACCESS_KEY"]}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(json.dumps({"identities": [{"name": "us", "credentials": keys, "actions": actions}]}))
    ports = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc")
    settings = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "filer": "true",
        "s3": "true",
        "s3.port": port,
        "s3.config": folder / "s3.json",
        "s3.autoCreateBucket": "false",
        "s3.iam": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 20,
        **{name: free_port() for name in ports},
    }
    return [SEAWEED, "server", *(f"-{name}={value}" for name, value in settings.items())]
