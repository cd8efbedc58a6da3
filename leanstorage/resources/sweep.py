"""Expired records and abandoned uploads, dropped every few minutes by a thread of each process."""
import threading

from leanwsgi import messages
from leanstorage.resources import files
from leanstorage.rules.call import Service
from leanstorage.store import StoreUnavailable

PERIOD_SECONDS = 300
BATCH = 1000


def sweep(service: Service) -> None:
    """Sweep once, in small transactions. Raises StoreUnavailable."""
    files.sweep(service)  # uploads leave more behind than a record
    while service.store.write(lambda transaction: transaction.delete_expired("upload", BATCH)) == BATCH:
        pass


class Sweeper:
    """`sweep` every PERIOD_SECONDS until `close`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leanstorage-sweep", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            try:
                sweep(self._service)
            except StoreUnavailable:
                pass  # then at the next time
            except Exception as error:  # one failure must not stop the thread
                messages.log_exception(error, {"REQUEST_METHOD": "SWEEP"})

    def close(self) -> None:
        self._ended.set()
        self._thread.join(PERIOD_SECONDS)
