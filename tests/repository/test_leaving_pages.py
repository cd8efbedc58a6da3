"""The pages of docs/leaving: their commands are ones, their sentences short, and the clients that they name find what they say."""

import argparse
import json
import os
import re
import shlex
import unittest

from leanstorage import __main__ as command_line
from leanstorage import class_settings
from leanstorage.rules import classes
from leanstorage.takeout import importer
from leanstorage.takeout.report import Report
from tests.leanstorage.storage_support import StorageTestCase
from tests.support import ROOT

PAGES = sorted(page for page in (ROOT / "docs" / "leaving").glob("*.md") if not page.name.endswith(".zh-CN.md"))
BLOCK = re.compile(r"^( *)```sh\n((?:.*\n)*?)\1```$", re.MULTILINE)
FENCE = re.compile(r"^( *)```.*\n(?:.*\n)*?\1```$", re.MULTILINE)
PLACES = {"OLD-FILE-DOMAIN": "old.lcfile.com", "YOUR-API-DOMAIN": "api.example.com"}
ACTIONS = ("find", "get", "create", "update", "delete", "add_fields")
TIMES = {"createdAt": "2019-09-19T04:45:48.354Z", "updatedAt": "2020-01-02T03:04:05.006Z"}


def storage_commands(text):
    """What follows `python -m leanstorage` in blocks and in sentences, as lists of arguments."""
    for name, place in PLACES.items():
        text = text.replace(name, place)
    lines = [line for _, block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(python -m leanstorage [^`]+)`", FENCE.sub("", text))
    for line in lines:
        found = re.search(r"python -m leanstorage (.*?)\)?\"?$", line)
        if found:
            yield shlex.split(found[1])


def sentences(text):
    """The sentences of the prose, without code, tables and headings."""
    lines = [line for line in FENCE.sub("", text).splitlines() if not re.match(r"#|\|", line)]
    prose = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "CODE", "\n".join(lines)))
    for paragraph in re.split(r"\n\s*\n|\n(?=- |\d\. )", prose):
        yield from filter(None, (one.strip() for one in re.split(r"(?<=[.:?!])\s+", " ".join(paragraph.split()))))


class PagesTest(unittest.TestCase):
    def test_every_command_is_one_that_the_storage_takes(self):
        count = 0
        for page in PAGES:
            for arguments in storage_commands(page.read_text()):
                with self.subTest(page=page.name, arguments=arguments):
                    count += 1
                    options = command_line.parser().parse_args(arguments)
                    self.assertTrue(callable(options.run))
                    if getattr(options, "default_acl", None):
                        class_settings.parse_acl(options.default_acl)
        self.assertGreater(count, 30)

    def test_sentences_are_short_and_say_whom_a_page_is_for(self):
        self.assertEqual(len(PAGES), 9)
        for page in PAGES:
            with self.subTest(page.name):
                text = page.read_text()
                lengths = [len(one.split()) for one in sentences(text)]
                self.assertLess(sum(lengths) / len(lengths), 18)
                self.assertLessEqual(max(lengths), 40)
                self.assertIn("This page is for ", text.split("\n## ")[0])


class CommentsTest(StorageTestCase):
    """What browsers with Valine and a theme's counter, and Waline's server, ask of the storage."""

    def setUp(self):
        super().setUp()
        self.storage = self.start()
        public = {"*": {"read": True}}
        comment = {"objectId": "5c710c95c05a807a4d9d7101", **TIMES, "comment": "<p>hi</p>", "url": "/a/", "ACL": public}
        counter = {"objectId": "5c710c95c05a807a4d9d7102", **TIMES, "url": "/a/", "title": "A", "time": 41}
        rows = {"Comment": [{**comment, "insertedAt": TIMES["createdAt"]}], "Counter": [counter], "Users": []}
        backup = {"type": "waline", "version": 1, "time": 0, "tables": list(rows), "data": rows}
        path = self.folder / "waline.json"
        path.write_text(json.dumps(backup))
        out = open(os.devnull, "w")
        self.addCleanup(out.close)
        storage = self.storage
        code = importer.run([path], storage.database, storage.keys, "x", report=Report("x", out, out))
        self.assertEqual(code, 0)

    def permissions(self, *arguments):
        """Set permissions as the pages do."""
        options = command_line.parser().parse_args(["permissions", *arguments])

        def work(transaction):
            info = classes.existing(transaction, options.class_name, lock=True)
            for action in ACTIONS:
                if getattr(options, action) == "nobody":
                    info["permissions"][action] = {"users": False, "names": []}
            class_settings.set_default_acl(info, options.default_acl)
            info.pop("is_new", None)
            transaction.save_class(options.class_name, info)

        self.assertIsInstance(options, argparse.Namespace)
        self.storage.service.store.write(work)

    def test_browsers_read_and_write_comments_and_count_visits_and_change_nothing_else(self):
        for page in ("valine.md", "next-counters.md"):
            for arguments in storage_commands((ROOT / "docs" / "leaving" / page).read_text()):
                if arguments[0] == "permissions" and "--create" not in arguments:
                    self.permissions(*arguments[1:])
        request = self.storage.request
        where = {"where": json.dumps({"url": "/a/"}), "order": "-createdAt", "count": "1"}
        self.assertEqual(request("GET", "/classes/Comment", query=where)[1]["count"], 1)
        new = {"comment": "<p>new</p>", "url": "/a/", "insertedAt": {"__type": "Date", "iso": TIMES["createdAt"]}}
        status, made = request("POST", "/classes/Comment", {**new, "ACL": {"*": {"read": True}}})
        self.assertEqual(status, 201)
        self.assertEqual(request("GET", "/classes/Comment", query=where)[1]["count"], 2)
        [counter] = request("GET", "/classes/Counter", query={"where": json.dumps({"url": "/a/"})})[1]["results"]
        path = f"/classes/Counter/{counter['objectId']}"
        body = {"time": {"__op": "Increment", "amount": 1}}
        answer = request("PUT", path, body, query={"fetchWhenSave": "true"})[1]
        self.assertEqual(answer["time"], 42)
        for method, forbidden in (("DELETE", path), ("DELETE", f"/classes/Comment/{made['objectId']}"), ("PUT", f"/classes/Comment/{made['objectId']}")):
            with self.subTest(method, path=forbidden):
                self.assertEqual(request(method, forbidden, {"comment": "x"} if method == "PUT" else None)[0], 403)

    def test_waline_goes_on_by_the_master_key_when_its_classes_are_closed(self):
        for arguments in storage_commands((ROOT / "docs" / "leaving" / "waline.md").read_text()):
            if arguments[0] == "permissions":
                if arguments[1] == "Users":
                    self.storage.request("POST", "/classes/Users", {"email": "a@example.com"}, master=True)
                self.permissions(*arguments[1:])
        request = self.storage.request
        where = {"where": json.dumps({"url": "/a/"})}
        self.assertEqual(request("GET", "/classes/Comment", query=where)[0], 403)
        [comment] = request("GET", "/classes/Comment", query=where, master=True)[1]["results"]
        self.assertEqual(comment["insertedAt"], {"__type": "Date", "iso": TIMES["createdAt"]})
        self.assertEqual(request("GET", "/classes/Users")[0], 403)
        self.assertEqual(len(request("GET", "/classes/Users", master=True)[1]["results"]), 1)


if __name__ == "__main__":
    unittest.main()
