"""What is made is for its owner alone, whatever the shell's umask: keys, databases, files, exports, reports."""
import io
import os
import shutil
import stat
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from leanstorage import __main__ as command_line
from leanstorage import keys
from leanstorage.blobs.folder import FolderBlobs
from leanstorage.store import open_store
from leanstorage.takeout import exporter
from leanstorage.takeout.report import Report
from tests.leanstorage.service_support import KEYS, ServiceTestCase
from tests.support import clean_environment


class ModesTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="modes-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.addCleanup(os.umask, os.umask(0))

    def assert_private(self, folder):
        """The folder and all that is in it."""
        found = [folder, *folder.rglob("*")]
        self.assertGreater(len(found), 1)
        for path in found:
            with self.subTest(path.name):
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700 if path.is_dir() else 0o600)

    def test_keys(self):
        keys.load(self.folder / "data")
        self.assert_private(self.folder / "data")

    def test_files(self):
        blobs = FolderBlobs(self.folder / "files")
        staged, _, _ = blobs.write([b"bytes"])
        self.assert_private(self.folder / "files")
        blobs.keep(staged, "key")
        blobs.drop(staged)
        self.assert_private(self.folder / "files")

    def test_database_with_its_log_beside_it(self):
        (self.folder / "data").mkdir(mode=0o700)
        store = open_store(f"sqlite:///{self.folder}/data/x.db")
        self.addCleanup(store.close)
        store.write(lambda transaction: transaction.put_record("kind", "key", {"a": 1}))
        self.assertGreater(len(list((self.folder / "data").iterdir())), 1)
        self.assert_private(self.folder / "data")

    def test_report_of_refused_rows(self):
        report = Report(self.folder / "new" / "refused.ndjson", io.StringIO(), io.StringIO())
        report.refuse("Foo", "source", 1, "no reason", b"{}")
        report._refused_file.close()
        self.assert_private(self.folder / "new")

    def test_whatever_a_command_makes(self):
        data = self.folder / "new" / "data"
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            self.assertEqual(command_line.main(["env"], clean_environment(LEANSTORAGE_DATA=data)), 0)
        self.assert_private(self.folder / "new")
        self.assertEqual(os.umask(0), 0)


class ExportTest(ServiceTestCase):
    def test_export(self):
        self.make("Foo", n=1)
        self.addCleanup(os.umask, os.umask(0))
        exporter.run(self.folder / "out", self.database, KEYS, io.StringIO(), io.StringIO())
        for path in [self.folder / "out", *(self.folder / "out").iterdir()]:
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700 if path.is_dir() else 0o600, path.name)
