"""What the tests of the parts of an import and a pull share: converted rows, a store of their own, a source that is made up."""

import io
import json
import tempfile
import unittest
from pathlib import Path

from leanstorage.store import open_store, Query
from leanstorage.takeout import convert
from leanstorage.takeout import pull, raw_rows
from leanstorage.takeout import report as reports
from leanstorage.takeout.convert import Job

SECRET = b"s" * 32
AT, ISO = 1_568_868_348_354, "2019-09-19T04:45:48.354Z"


class Piped(io.StringIO):
    """An output to a pipe: what it is not told to send on stays in it."""

    sent = ""

    def flush(self):
        self.sent = self.getvalue()


def converted(*rows, class_name="Post", kind="rows", encoding="json", first=0, **options):
    """The Prepared of rows, which are documents or bytes."""
    data = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in rows]
    batch = raw_rows.Batch(list(enumerate(data, 1)), [], 0, first)
    return convert.convert(Job(class_name, kind, encoding, SECRET, **options), batch)


class StoreTestCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="parts-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.database = f"sqlite:///{self.folder / 'a.db'}"
        self.store = open_store(self.database)
        self.store._writer.execute("PRAGMA synchronous = OFF")  # nothing here is to outlive the machine
        self.addCleanup(self.store.close)

    def write(self, work):
        return self.store.write(work)

    def read(self, work):
        return self.store.read(work)

    def records(self, kind):
        return dict(self.read(lambda transaction: transaction.records(kind)))

    def bodies(self, class_name):
        return {row.id: row.body for row in self.read(lambda transaction: transaction.find(Query(class_name)))}

    def columns(self, class_name):
        return self.read(lambda transaction: transaction.class_info(class_name))["columns"]


class FakeRemote:
    """The calls that estimates, relations and files make, answered from what a test gives."""

    url, source_id, parallel = "http://there", "src", 2

    def __init__(self, counts=(), rows=()):
        self.counts, self.found, self.asked, self.waited = dict(counts), list(rows), [], []

    def count(self, path, where=None):
        self.asked.append((path, where))
        return self.counts.get((path.removeprefix("/classes/"), bool(where)), 0)

    def rows(self, path, **query):
        self.asked.append((path, query))
        if "$in" in query["where"].get("objectId", {}):
            return [one for one in self.found if one["objectId"] in query["where"]["objectId"]["$in"]]
        after = query["where"].get("objectId", {}).get("$gt", "")
        return [one for one in self.found if one["objectId"] > after][: query["limit"]]

    def wait(self, attempt):
        self.waited.append(attempt)


class PullCase(StoreTestCase):
    def pull(self, **options):
        self.output = io.StringIO()
        report = reports.Report(self.folder / "refused.jsonl", self.output, self.output)
        return pull.Pull(FakeRemote(**options), self.store, Job("", "rows", "json", SECRET, is_live=True), report)
