"""Rows that cannot be held as they are: with --repair they come with the odd part aside. And URLs within texts."""

import io
import json
import unittest
from unittest import mock

from leanstorage.store import open_store
from leanstorage.takeout import importer, inboxes, raw_rows, rewrite, rewrites
from tests.leanstorage.test_takeout_import import ID, ImportTestCase, jsonl, row

OLD, NEW = "https://old.lcfile.com", "https://files.example.com"
# What is odd -> (the raw row without its end, what is stored).
ODD = {
    "nested key with a dot": (b'"n": 1, "o": {"a.b": 1}', {"n": 1, "o_aside": '{"a.b": 1}'}),
    "nested key with a dollar": (b'"n": 1, "o": {"$x": [1]}', {"n": 1, "o_aside": '{"$x": [1]}'}),
    "NUL in a text": (b'"n": 1, "t": "a\\u0000b"', {"n": 1, "t_aside": '"a\\u0000b"'}),
    "half of a surrogate pair": (b'"n": 1, "t": "\\ud83d!"', {"n": 1, "t_aside": '"\\ud83d!"'}),
    "half of a surrogate pair in a key": (b'"n": 1, "o": {"\\ud83d": 1}', {"n": 1, "o_aside": '{"\\ud83d": 1}'}),
    "unknown __type": (b'"n": 1, "s": {"__type": "Secret"}', {"n": 1, "s_aside": '{"__type": "Secret"}'}),
    "pointer without an id": (
        b'"n": 1, "p": {"__type": "Pointer", "className": "A"}',
        {"n": 1, "p_aside": '{"__type": "Pointer", "className": "A"}'},
    ),
    "date that is none": (b'"n": 1, "d": {"__type": "Date", "iso": "x"}', {"n": 1, "d_aside": '{"__type": "Date", "iso": "x"}'}),
    "NaN": (b'"n": 1, "f": NaN', {"n": 1, "f_aside": "NaN"}),
    "number that is too large": (b'"n": 1, "f": 1e999', {"n": 1, "f_aside": "Infinity"}),
    "key with a blank": (b'"n": 1, "a b": 2', {"n": 1, "a_b_aside": "2"}),
    "two keys that get one name": (b'"n": 1, "a b": 2, "a-b": 3', {"n": 1, "a_b_aside": "2", "a_b_aside_2": "3"}),
    "byte that is not UTF-8": (b'"n": 1, "t": "\xff"', {"n": 1, "t_aside": '"\\udcff"'}),
    "too deep": (b'"n": 1, "l": ' + b"[" * 150 + b"]" * 150, {"n": 1, "l_aside": "[" * 150 + "]" * 150}),
    "another type than the column": (b'"n": "text"', {"n_aside": '"text"'}),
}  # fmt: skip


class RepairTest(ImportTestCase):
    def test_odd_rows_are_kept_with_what_cannot_be_held_aside(self):
        first = row(1, n=0)
        for number, (title, (fields, body)) in enumerate(ODD.items()):
            with self.subTest(title):
                self.database = f"sqlite:///{self.folder / f'{number}.db'}"
                self.refused = self.folder / f"listed-{number}.jsonl"
                raw = b'{"objectId": "%s", %s}\n' % ((ID % 2).encode(), fields)
                path = self.put(f"{number}/Post.0.jsonl", jsonl("Post", first) + raw)
                self.assertEqual(self.take_in(path), 1)
                self.refused.unlink()
                self.assertEqual(self.take_in(path, is_repairing=True), 0, self.output.getvalue())
                self.assertEqual(self.objects("Post")[ID % 2].body, body)
                asides = sum(key.endswith(("_aside", "_aside_2")) for key in body)
                self.assertIn(f"    {asides} values moved aside\n", self.output.getvalue())
                self.assertRegex(self.output.getvalue(), r"line 3: \S.* is in \w+_aside: ")
                self.assertEqual(len(self.refusals()), asides)
                self.assertIn("all that is listed above, with the reasons: ", self.output.getvalue())
                self.assertEqual(self.take_in(path, is_repairing=True), 0)
                self.assertNotIn("moved aside", self.output.getvalue())  # it is here and was skipped

    def test_new_column_gets_the_type_of_most_rows(self):
        rows = [row(1, n="odd one"), *(row(number, n=number) for number in range(2, 9))]
        self.assertEqual(self.take_in(self.put("Post.0.jsonl", jsonl("Post", *rows)), is_repairing=True), 0)
        found = self.objects("Post")
        self.assertEqual(found[ID % 1].body, {"n_aside": '"odd one"'})
        self.assertEqual(found[ID % 8].body, {"n": 8})

    def test_relation_keeps_its_column_and_values_go_aside(self):
        values = ("text", 1, True, [1], {"a": 1}, {"__type": "Date", "iso": "2020-01-02T03:04:05.006Z"}, {"__type": "Bytes", "base64": "AA=="})
        stub = {"__type": "Relation", "className": "Tag"}
        for number, value in enumerate(values):
            with self.subTest(value=value):
                self.database, self.refused = f"sqlite:///{self.folder / f'{number}.db'}", self.folder / f"listed-{number}"
                rows = [*(row(one, v=value) for one in range(1, 4)), row(4, v=stub)]
                pair = json.dumps({"owningId": ID % 1, "relatedId": ID % 9}).encode()
                paths = self.put(f"{number}/Post.0.jsonl", jsonl("Post", *rows)), self.put(f"{number}/_Join.v.Post.0.jsonl", pair)
                self.assertEqual(self.take_in(*paths, is_repairing=True), 0, self.output.getvalue())
                self.assertIn("    3 values moved aside\n", self.output.getvalue())
                self.assertRegex(self.output.getvalue(), r"\nPost.v +1 +1 ")

    def test_rights_that_make_no_sense_are_nobodys_and_times_are_set(self):
        rows = [{"objectId": ID % 1, "ACL": {"*": {"read": "yes"}}, "createdAt": "yesterday", "n": 1}]
        self.assertEqual(self.take_in(self.put("Post.0.jsonl", jsonl("Post", *rows)), is_repairing=True), 0)
        [found] = self.objects("Post").values()
        self.assertEqual(found.acl, {})
        self.assertEqual(found.body, {"n": 1, "createdAt_aside": '"yesterday"', "ACL_aside": '{"*": {"read": "yes"}}'})

    def test_what_no_repair_can_help_is_refused_still(self):
        raw = b'{"objectId": "../x", "n": 1}\n{"objectId": "x2", "n"\n["x"]\n'
        self.assertEqual(self.take_in(self.put("Post.0.jsonl", raw), is_repairing=True), 1)
        self.assertEqual((len(self.refusals()), self.objects("Post")), (3, {}))

    def test_file_of_refused_rows_is_imported_once_they_are_mended(self):
        self.put("in/Post.0.jsonl", jsonl("Post", row(1, n=1), row(2, n="two"), row(3, o={"$x": 1})))
        self.put("in/Tag.0.jsonl", jsonl("Tag", row(4, n=1), row(5, n="five")))
        self.put("in/_Join.tags.Post.0.jsonl", json.dumps({"owningId": ID % 1, "relatedId": "../x"}).encode())
        self.put("in/Post_schema.json", b'{"tags": {"type": "Relation", "className": "Tag"}}')
        self.assertEqual(self.take_in(self.folder / "in"), 1)
        kept = self.refused.read_text()
        self.assertEqual(kept.count("\n"), 4)
        first, self.refused = self.refused, self.folder / "refused-20261128-101500.jsonl"
        self.assertEqual(self.take_in(first), 1)  # nothing was mended
        self.assertEqual((self.refused.read_text().count("\n"), sorted(self.objects("Post"))), (4, [ID % 1]))
        mended = kept.replace(r'\"two\"', "2").replace(r'\"five\"', "5").replace("$x", "x").replace("../x", ID % 4)
        self.refused = self.folder / "refused-3.jsonl"
        self.assertEqual(self.take_in(self.put("refused-20261128-101500.jsonl", mended.encode())), 0, self.output.getvalue())
        self.assertEqual(sorted(self.objects("Post")), [ID % 1, ID % 2, ID % 3])
        self.assertEqual(self.objects("Tag")[ID % 5].body, {"n": 5})
        self.assertRegex(self.output.getvalue(), r"\nPost.tags +1 +1 ")
        self.assertEqual(self.take_in(self.put("x.jsonl", mended.encode() + b'{"a": 1}\n')), 1)
        self.assertIn("line 5 is no refused row with its class and reason", self.output.getvalue())

    def test_refused_row_of_a_csv_can_be_mended_too(self):
        data = f"string,number,pointer:Tag\nobjectId,n,p\n{ID % 1},x,{ID % 2}\n".encode()
        self.assertEqual(self.take_in(self.put("Post.csv", data)), 1)
        mended, self.refused = self.refused.read_text().replace(r'\"x\"', "3"), self.folder / "refused-2.jsonl"
        self.assertEqual(self.take_in(self.put("mended.jsonl", mended.encode())), 0, self.output.getvalue())
        pointer = {"__type": "Pointer", "className": "Tag", "objectId": ID % 2}
        self.assertEqual({name: one.body for name, one in self.objects("Post").items()}, {ID % 1: {"n": 3, "p": pointer}})

    def test_refused_lines_of_inboxes_are_no_rows_of_a_class_once_they_are_mended(self):
        line = {"owner": ID % 1, "inboxType": "default", "messageId": "x", "status": ID % 2}
        data = b'#filetype:JSON-streaming {"type": "Inboxes", "class": "_Inbox"}\n' + json.dumps(line).encode()
        self.assertEqual(self.take_in(self.put("_Inbox.0.jsonl", data)), 1)
        mended, self.refused = self.refused.read_text().replace(r'\"x\"', "3"), self.folder / "refused-2.jsonl"
        self.assertEqual(self.take_in(self.put("mended.jsonl", mended.encode())), 0, self.output.getvalue())
        store = open_store(self.database)
        self.addCleanup(store.close)
        self.assertIn({**line, "messageId": 3}, list(inboxes.rows(store)))
        self.assertEqual(store.read(lambda transaction: transaction.class_names()), [])

    def test_repair_in_other_processes_is_the_same(self):
        rows = [row(0, n=number, o={"a.b": 1}) | {"objectId": f"{number:024x}"} for number in range(1500)]
        path = self.put("Post.0.jsonl", jsonl("Post", *rows))
        with mock.patch.multiple(importer, INLINE_BATCHES=0), mock.patch.multiple(raw_rows, BATCH_ROWS=500):
            with mock.patch("os.cpu_count", return_value=2):
                self.assertEqual(self.take_in(path, is_repairing=True), 0, self.output.getvalue())
        self.assertIn("    1500 values moved aside\n", self.output.getvalue())
        self.assertEqual({one.body["o_aside"] for one in self.objects("Post").values()}, {'{"a.b": 1}'})


class RewriteTest(ImportTestCase):
    ROWS = [
        row(1, text=f"see {OLD}/a.png and http://OLD.lcfile.com/b, or {OLD}.", deep={"list": [f'<img src="{OLD}/c?x=1">']}),
        row(2, text=f"{OLD}.cn/a {OLD}:8080/b {OLD}x https://very.old.lcfile.com", n=1),
        row(3, n=3),
    ]
    REWRITTEN = {
        "text": f"see {NEW}/a.png and {NEW}/b, or {NEW}.",
        "deep": {"list": [f'<img src="{NEW}/c?x=1">']},
    }

    def test_urls_are_rewritten_on_import_and_the_rows_counted(self):
        path = self.put("Post.0.jsonl", jsonl("Post", *self.ROWS))
        wanted = rewrites.parse([f"{OLD}={NEW}"])
        for is_dry in (True, False):
            self.assertEqual(self.take_in(path, rewrites=wanted, is_dry=is_dry), 0)
            self.assertIn("note: 1 rows had URLs that were rewritten", self.output.getvalue())
        found = self.objects("Post")
        self.assertEqual(found[ID % 1].body, self.REWRITTEN)
        self.assertEqual(found[ID % 2].body["text"], self.ROWS[1]["text"])  # other hosts

    def test_urls_are_counted_first_and_rewritten_when_told_so(self):
        self.assertEqual(self.take_in(self.put("Post.0.jsonl", jsonl("Post", *self.ROWS))), 0)
        before = {key: (one.updated, one.body) for key, one in self.objects("Post").items()}
        wanted = rewrites.parse([f"{OLD}/={NEW}/"])

        def run(is_applied, **options):
            out = io.StringIO()
            self.assertEqual(rewrite.run(self.database, wanted, is_applied, out=out, **options), 0)
            return out.getvalue()

        self.assertEqual(
            run(False), "Post: 4 URLs in 1 objects\n4 URLs would be rewritten; nothing was changed, --apply does it\n"
        )
        self.assertEqual({key: (one.updated, one.body) for key, one in self.objects("Post").items()}, before)
        self.assertEqual(run(True), "Post: 4 URLs in 1 objects\n4 URLs were rewritten\n")
        found = self.objects("Post")
        self.assertEqual(found[ID % 1].body, self.REWRITTEN)
        self.assertEqual(found[ID % 2].body, before[ID % 2][1])
        self.assertEqual({key: one.updated for key, one in found.items()}, {key: at for key, (at, _) in before.items()})
        self.assertEqual(run(True), "0 URLs were rewritten\n")
        with self.assertRaisesRegex(ValueError, "there is no class Nope"):
            run(False, only=["Nope"])

    def test_longest_of_several_counts_and_each_spelling_of_a_url_is_one(self):
        wanted = rewrites.parse(
            [f"{OLD}={NEW}/all", f"{OLD}/dir=https://dir.example.com", f"{OLD}:8080=https://port.example.com"]
        )
        for text, expected in (
            (f"{OLD}/a", f"{NEW}/all/a"),
            (f"{OLD}/dir/a", "https://dir.example.com/a"),
            (f"{OLD}/DIR/a b.png?x#y", "https://dir.example.com/a b.png?x#y"),
            (f"{OLD}/dirs/a", f"{NEW}/all/dirs/a"),
            (f"{OLD}/文.png", f"{NEW}/all/文.png"),
            (f"{OLD}/%E6%96%87.png", f"{NEW}/all/%E6%96%87.png"),
            (f"{OLD}:8080/a", "https://port.example.com/a"),
            (f"{OLD}:443/a", f"{NEW}/all/a"),
            ("http://old.lcfile.com:80/a", f"{NEW}/all/a"),
            ("//old.lcfile.com/a", f"{NEW}/all/a"),
            ("see\n//old.lcfile.com/a\t//old.lcfile.com/b", f"see\n{NEW}/all/a\t{NEW}/all/b"),
            ("C:\\n//old.lcfile.com/a", None),
            (f"{OLD}:4433/a", None),
            (f"{OLD}:8081/a", None),
            (f"{OLD}.cn/a", None),
            ("https://x.old.lcfile.com/a", None),
            ("ftp://old.lcfile.com/a", None),
            ("/path//old.lcfile.com/a", "/path//old.lcfile.com/a"),
            ("old.lcfile.com/a", None),
        ):
            with self.subTest(text):
                self.assertEqual(json.loads(wanted.apply(json.dumps(text, ensure_ascii=False))[0]), expected or text)

    def test_rewrites_that_would_go_on_with_each_run_are_refused(self):
        for texts in ([f"{OLD}={OLD}/files"], [f"{OLD}={NEW}", f"{NEW}=https://x.example.com"], [f"{OLD}={NEW}", f"http://old.lcfile.com/={NEW}/x"]):
            with self.subTest(texts), self.assertRaisesRegex(ValueError, "rewritten"):
                rewrites.parse(texts)
        self.assertEqual(rewrites.parse(["http://x.example.com=https://x.example.com"]).apply('"http://x.example.com"')[1], 1)

    def test_malformed_rewrites_are_refused(self):
        for text in ("x", "a=b", f"{OLD}=", f"={NEW}", f"{OLD}={NEW}\"", f"{OLD} ={NEW}", f"ftp://x={NEW}", f"{OLD}={NEW}?a"):
            with self.subTest(text), self.assertRaisesRegex(ValueError, "a rewrite is OLD=NEW"):
                rewrites.parse([text])
        self.assertEqual(json.loads(rewrites.parse([f"{OLD}=https://n/\u00fc"]).apply(f'"{OLD}"')[0]), "https://n/\u00fc")


if __name__ == "__main__":
    unittest.main()
