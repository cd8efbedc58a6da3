"""What the parts of one pull share."""
from collections.abc import Callable

from leanstorage.store import Document, Result, Store, Transaction
from leanstorage.takeout import load
from leanstorage.takeout.convert import Job
from leanstorage.takeout.remote import Remote
from leanstorage.takeout.report import Report


class Pull:
    """A pull from `remote` into `store`, reported in `report`; `job` is what all its rows share."""

    def __init__(self, remote: Remote, store: Store, job: Job, report: Report) -> None:
        self.remote = remote
        self.store = store
        self.report = report
        self.job = job
        self.token_secret = job.secret
        self.kind = f"{load.PULL}{remote.source_id}"
        self._counts: dict[str, int | None] = {}

    def write(self, work: Callable[[Transaction], Result]) -> Result:
        return load.stored(self.store, work)

    def state(self, key: str) -> Document:
        """How far a class or a relation column came, {} before it was begun."""
        return self.store.read(lambda transaction: transaction.record(self.kind, key)) or {}

    def owners_kind(self, class_name: str) -> str:
        return f"pull-owner:{self.remote.source_id}:{class_name}"

    def count(self, class_name: str) -> int:
        """How many objects a class had when that was asked for first, 0 where the API does not say it."""
        if class_name not in self._counts:
            self._counts[class_name] = self.remote.count(f"/classes/{class_name}")
        return self._counts[class_name] or 0
