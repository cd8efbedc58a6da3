"""The official Java SDK, from Maven, against a server of its own. JAVA_SDK is a folder of its jars: see .ci/java_sdk.xml."""
import os
import shutil
import subprocess
import unittest

from tests.leanstorage.storage_support import StorageTestCase
from tests.support import ROOT

JARS = os.environ.get("JAVA_SDK", "")
WANTED = {
    "save": "true",
    "several operations on one field": "[b] 3",
    "child": "7",
    "save all": "2",
    "count": "3",
    "cql": "2",
    "relation": "1",
    "condition": "code 305",
    "delete all": "0",
    "sign up": "true",
    "log in": "somebody",
    "wrong password": "code 210",
    "become": "somebody",
    "profile": "x",
    "same token": "false",
    "strict query": "1",
    "role": "1",
    "file": "hello",
    "empty file": "empty.txt",
    "object with files": "hellob1",
    "external file": "http://files.example/logo.png",
    "delete file": "code 101",
    "follow": "1",
    "followers and followees": "[followee]",
    "status": "hello",
    "statuses sent": "1",
    "statuses counted": "1",
    "status by id": "hello",
    "unread": "1.0",
    "line deleted": "0",
    "unfollow": "0",
    "friend request": "code 1",
    "installation": "true",
    "function": "code 1",
    "time": "true",
}


@unittest.skipUnless(shutil.which("javac"), "there is no Java")
@unittest.skipUnless(os.path.isdir(JARS), "JAVA_SDK names no folder of the Java SDK's jars")
class JavaTest(StorageTestCase):
    maxDiff = None

    def test_sdk_finds_what_it_expects(self):
        storage = self.start()
        environment = {
            **os.environ,
            "APP_ID": storage.keys["id"],
            "APP_KEY": storage.keys["key"],
            "SERVER_URL": storage.url,
        }
        done = subprocess.run(
            ["java", "-cp", os.path.join(JARS, "*"), str(ROOT / "tests" / "java" / "Storage.java")],
            cwd=self.folder,  # the SDK keeps files of its own where it runs
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        steps = (line[2:].partition(": ") for line in done.stdout.splitlines() if line.startswith("= "))
        self.assertEqual({name: value for name, _, value in steps}, WANTED)


if __name__ == "__main__":
    unittest.main()
