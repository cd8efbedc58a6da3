"""What nobody needs any more goes, and nothing else."""
import contextlib
import io
import os
import threading
import time
from unittest import mock

from leanstorage.blobs import folder
from leanstorage.resources import files
from leanstorage.store import StoreUnavailable, now
from leanstorage.resources.sweep import BATCH, Sweeper, sweep
from tests.leanstorage.service_support import ServiceTestCase


class SweepTest(ServiceTestCase):
    def kinds(self, kind):
        def work(transaction):
            found = transaction.execute("SELECT key FROM records WHERE kind = ? ORDER BY key", [kind])
            return [key for key, in found]

        return self.service.store.read(work)

    def put(self, kind, key, expires):
        self.service.store.write(lambda transaction: transaction.put_record(kind, key, {}, expires))

    def folder_names(self):
        return sorted(path.name for path in self.service.blobs.folder.iterdir())

    def token(self):
        return self.api("POST", "/fileTokens", {"name": "a.txt"}, 201)

    def upload(self, token, status=200):
        path = "/1.1/uploads/" + token["upload_url"].rpartition("/")[2]
        self.assertEqual(self.raw("PUT", path, b"bytes").status, status)

    def test_expired_records_go_and_the_others_stay(self):
        self.put("failures", "old", now() - 1)
        self.put("failures", "young", now() + 60_000)
        self.put("failures", "eternal", None)
        sweep(self.service)
        self.assertEqual(self.kinds("failures"), ["eternal", "young"])

    def test_more_records_than_a_batch_all_go(self):
        rows = [("many", str(number), {}, now() - 1) for number in range(2 * BATCH + 1)]
        self.service.store.write(lambda transaction: transaction.put_records(rows))
        sweep(self.service)
        self.assertEqual(self.kinds("many"), [])

    def test_upload_that_never_came_is_forgotten_with_its_litter_and_a_finished_one_stays(self):
        done, never = self.token(), self.token()
        self.upload(done)
        with mock.patch.object(self.service.store, "write", side_effect=StoreUnavailable("lost")):
            with contextlib.redirect_stderr(io.StringIO()):
                self.upload(never, 503)
        staged, _, _ = self.service.blobs.write([b"kept by a transaction that failed"])
        self.service.blobs.keep(staged, never["key"])
        self.service.blobs.drop(staged)
        self.assertEqual(self.folder_names(), sorted([done["key"], never["key"]]))
        self.service.store.write(
            lambda transaction: transaction.execute("UPDATE records SET expires = 1 WHERE kind = 'upload'")
        )
        sweep(self.service)
        self.assertEqual(self.folder_names(), [done["key"]])
        self.assertEqual(self.kinds("upload"), [])
        self.assertEqual(self.raw("GET", "/" + done["key"]).body, b"bytes")
        self.service.blobs.delete(done["key"])

    def test_staged_bytes_of_a_dead_process_go_after_a_day(self):
        young, _, _ = self.service.blobs.write([b"young"])
        old, _, _ = self.service.blobs.write([b"old"])
        past = time.time() - folder.ABANDONED_SECONDS - 1
        os.utime(old, (past, past))
        sweep(self.service)
        self.assertEqual((os.path.exists(young), os.path.exists(old)), (True, False))
        self.service.blobs.drop(young)

    def test_upload_to_an_object_storage_that_is_used_no_more_holds_up_nothing(self):
        direct = ("uploads/somewhere", "https://elsewhere/")
        with mock.patch.object(self.service.blobs, "direct_upload", return_value=direct):
            token = self.token()
        self.code(1, "POST", "/fileCallback", {"token": token["token"], "result": True})
        self.assertEqual(self.raw("GET", "/" + token["key"]).status, 404)
        later = now() + files.UPLOAD_MS + files.UNCLAIMED_MS + 1
        with mock.patch("leanstorage.resources.files.now", return_value=later):
            sweep(self.service)
        self.assertEqual(self.kinds("direct"), [])

    def test_imported_rows_that_share_a_key_keep_its_bytes_until_the_owner_goes(self):
        token = self.token()
        self.upload(token)
        other = self.token()
        self.upload(other)

        def share(transaction):
            row = transaction.get("_File", other["objectId"])
            row.body["key"] = token["key"]
            transaction.update("_File", row)

        self.service.store.write(share)
        self.service.blobs.delete(other["key"])
        self.api("DELETE", f"/files/{other['objectId']}", master=True)
        self.assertEqual(self.raw("GET", "/" + token["key"]).body, b"bytes")
        self.api("DELETE", f"/files/{token['objectId']}", master=True)
        self.assertEqual(self.raw("GET", "/" + token["key"]).status, 404)


class SweeperTest(ServiceTestCase):
    def test_sweeper_goes_on_after_a_failure_and_ends_when_told(self):
        runs, third = [], threading.Event()

        def failing(service):
            runs.append(service)
            if len(runs) == 3:
                third.set()
            raise StoreUnavailable("gone") if len(runs) == 1 else RuntimeError("a defect")

        with mock.patch("leanstorage.resources.sweep.PERIOD_SECONDS", 0.01), mock.patch("leanstorage.resources.sweep.sweep", failing):
            with contextlib.redirect_stderr(io.StringIO()) as log:
                sweeper = Sweeper(self.service)
                self.assertTrue(third.wait(10))
                sweeper._ended.set()
                sweeper._thread.join(10)
        self.assertFalse(sweeper._thread.is_alive())
        self.assertIn("a defect", log.getvalue())

