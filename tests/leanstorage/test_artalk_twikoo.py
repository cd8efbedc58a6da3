"""The page on Artalk and Twikoo: its command makes a file that both read; Twikoo's own import, unmodified from npm, reads it.

TWIKOO is the folder node_modules with `twikoo-func`.
"""

import io
import json
import os
import re
import shutil
import subprocess
import unittest

from leanstorage.takeout import exporter
from tests.leanstorage.test_takeout_import import ID, ImportTestCase, row
from tests.support import ROOT

MODULES = os.environ.get("TWIKOO", "")
PAGE = ROOT / "docs" / "leaving" / "artalk-twikoo.md"
COMMENT = {"nick": "Bob", "mail": "bob@example.com", "link": "", "ua": "x", "url": "/a/"}
ROWS = [
    row(1, comment="<p>一</p>", **COMMENT),
    row(2, comment='<p>says "status":"spam"</p>', pid=ID % 1, rid=ID % 1, status="approved", **COMMENT),
    row(3, comment="<p>waits</p>", status="waiting", **COMMENT),
    row(4, comment="<p>buy</p>", status="spam", **COMMENT),
    row(5, comment="<p>buy</p>", isSpam=True, **COMMENT),
]
PROGRAM = """
const twikoo = require("twikoo-func/utils/import.js")
const text = require("fs").readFileSync("comments.json", "utf8")
twikoo.commentImportValine(twikoo.jsonParse(text), () => {}).then((rows) => console.log(JSON.stringify(rows)))
"""


class ArtalkTwikooTest(ImportTestCase):
    def setUp(self):
        super().setUp()
        self.assertEqual(self.take_in(self.put("Comment.json", json.dumps(ROWS).encode())), 0, self.output.getvalue())
        out = io.StringIO()
        exporter.run(self.folder / "comments", self.database, self.keys, out, out)
        [command] = re.findall(r"^grep .*$", PAGE.read_text(), re.MULTILINE)
        subprocess.run(["sh", "-c", command], cwd=self.folder, check=True)

    def test_every_line_is_a_comment_that_was_published(self):
        rows = [json.loads(line) for line in (self.folder / "comments.json").read_text().splitlines()]
        self.assertEqual({one["objectId"] for one in rows}, {ID % 1, ID % 2})
        for one in rows:
            for key in ("objectId", "createdAt", "updatedAt", *COMMENT):
                self.assertIsInstance(one[key], str)

    @unittest.skipUnless(shutil.which("node"), "Node is not installed")
    @unittest.skipUnless(os.path.isdir(os.path.join(MODULES, "twikoo-func")), "TWIKOO names no folder with twikoo-func")
    def test_twikoo_takes_the_comments_with_who_answers_whom(self):
        environment = {**os.environ, "NODE_PATH": MODULES}
        done = subprocess.run(["node", "-e", PROGRAM], cwd=self.folder, env=environment, check=True, capture_output=True, text=True)
        found = {one["_id"]: one for one in json.loads(done.stdout.splitlines()[-1])}
        self.assertEqual(found.keys(), {ID % 1, ID % 2})
        answer = found[ID % 2]
        self.assertEqual((answer["pid"], answer["rid"], answer["url"], answer["nick"]), (ID % 1, ID % 1, "/a/", "Bob"))
        self.assertEqual((answer["created"], found[ID % 1]["comment"]), (1568868348354, "<p>一</p>"))


if __name__ == "__main__":
    unittest.main()
