"""The limits of taking an export in and pulling a live app, each written out a second time: a slip of the finger is noticed."""
import unittest

from leanstorage.takeout import bson_rows, budget, checklist, commands, convert, csv_rows, formats, importer, inboxes, leave, load
from leanstorage.takeout import pull_estimate, pull_files, pull_relations, puller, raw_rows, remote, repair, report, schema_notes, sources
from tests.support import check_values


class ValuesTest(unittest.TestCase):
    def test_limits_of_takeout_are_exact(self):
        rows = (
            (bson_rows, "MAX_LEVELS", 100),
            (budget, "HOUR", 3600),
            (budget, "WINDOW", 24),
            (checklist, "MAX_SHOWN", 30),
            (commands, "PARALLEL", 4),
            (commands, "MAX_PARALLEL", 32),
            (convert, "MAX_TOKEN", 200),
            (csv_rows, "MAX_CELL", 16_777_216),
            (formats, "MAX_SCHEMA_BYTES", 16_777_216),
            (importer, "MAX_WORKERS", 4),
            (importer, "EXPORT_MS", 3_600_000),
            (inboxes, "MAX_NUMBER", 1_000_000_000_000),
            (leave, "FIRST_POLL", 2),
            (leave, "LONGEST_POLL", 60),
            (leave, "MAX_POLLS", 2000),
            (leave, "DOWNLOADS", 8),
            (load, "TRIES", 6),
            (load, "SAMPLE", 200),
            (pull_estimate, "PAGE_ROWS", 1000),
            (pull_estimate, "FIXED", 6),
            (pull_files, "PAGE_ROWS", 200),
            (pull_files, "TRIES", 3),
            (pull_files, "GONE", (404, 410)),
            (pull_relations, "OWNERS_AT_ONCE", 100),
            (pull_relations, "ASKED_AT_ONCE", 50),
            (pull_relations, "MEMBERS", 1000),
            (puller, "MISSING_AT_ONCE", 50),
            (raw_rows, "MAX_ROW_BYTES", 25_165_824),
            (raw_rows, "MAX_BETWEEN", 1_048_576),
            (raw_rows, "KEPT_BYTES", 65_536),
            (raw_rows, "BATCH_ROWS", 2000),
            (raw_rows, "BATCH_BYTES", 2_097_152),
            (remote, "TIMEOUT", (10, 60)),
            (remote, "TRIES", 8),
            (remote, "DEAD_AFTER", 3),
            (remote, "SAID_FROM", 2),
            (remote, "FIRST_WAIT", 0.5),
            (remote, "LONGEST_WAIT", 60),
            (remote, "MAX_ANSWER_BYTES", 67_108_864),
            (remote, "MAX_REDIRECTS", 5),
            (remote, "RANGE_NOT_SATISFIABLE", 416),
            (repair, "MAX_LEVELS", 100),
            (report, "SHOWN_NOTES", 50),
            (report, "SHOWN_FILES", 100),
            (report, "SHOWN_REFUSALS", 5),
            (schema_notes, "SHOWN_NAMES", 20),
            (schema_notes, "MAX_NAME", 100),
            (sources, "CHUNK_BYTES", 1_048_576),
            (sources, "TAR_BLOCK", 512),
            (sources, "MAX_TAR_NOTE", 1_048_576),
            (sources, "MAX_ZIP_MEMBERS", 100_000),
            (sources, "MAX_RATIO", 200),
            (sources, "RATIO_FROM_BYTES", 67_108_864),
        )
        check_values(self, rows)


if __name__ == "__main__":
    unittest.main()
