"""Pulling a live app page by page, from a source that is made up: estimates, files, members, what is missing."""

import unittest
from collections import Counter
from types import SimpleNamespace
from unittest import mock

from leanstorage.rules.values import pointer
from leanstorage.store import Row, StoreUnavailable
from leanstorage.takeout import load, pull_estimate, pull_files, pull_relations, puller
from leanstorage.takeout import remote
from leanstorage.takeout.remote import NO_PROGRESS, RemoteError
from tests.leanstorage.takeout_support import AT, ISO, PullCase


class EstimateTest(PullCase):
    def calls(self, counts, columns=(), with_files=False, name="Post", states=(), as_of=None):
        one = self.pull(counts=counts)
        for key, state in dict(states).items():
            one.write(lambda transaction: transaction.put_record(one.kind, key, state))  # noqa: B023
        if as_of is not None:
            one.write(lambda transaction: transaction.put_record(load.JOINED, "Post.r", {"as_of": as_of}))
        return pull_estimate.calls(one, {name: dict(columns)}, with_files)

    def test_pages_of_a_class_are_asked_for_twice_and_once_more_each(self):
        for count, calls in ((0, 6 + 2), (1, 6 + 4), (1000, 6 + 4), (1001, 6 + 6), (5000, 6 + 12)):
            with self.subTest(count):
                self.assertEqual(self.calls({("Post", False): count}), calls)
        self.assertEqual(self.calls({("Post", False): None}), 8)

    def test_class_that_came_before_is_asked_for_what_changed(self):
        for changed, calls in ((0, 6 + 4 + 1), (999, 6 + 4 + 1), (1000, 6 + 4 + 2)):
            with self.subTest(changed):
                state = {"Post": {"is_done": True, "since": ISO}}
                self.assertEqual(self.calls({("Post", False): 2001, ("Post", True): changed}, states=state), calls)

    def test_owners_of_a_relation_are_asked_for_one_by_one_and_fifty_times_together(self):
        relation = {"r": {"type": "Relation"}, "n": {"type": "Number"}}
        for count, own in ((0, 4), (49, 49 + 4), (50, 50 + 6), (100, 100 + 8)):
            with self.subTest(count):
                pages = 1 if not count else 2
                self.assertEqual(self.calls({("Post", False): count}, relation), 6 + 2 * pages + own)
        changed = {("Post", False): 500, ("Post", True): 60}
        self.assertEqual(self.calls(changed, relation, as_of=AT), 10 + 60 + 6)
        self.assertEqual(self.calls({**changed, ("Post", True): None}, relation), 10 + 0 + 4)

    def test_relation_that_came_before_is_asked_for_where_its_owners_changed(self):
        relation, changed = {"r": {"type": "Relation"}}, {("Post", False): 500, ("Post", True): 60}
        self.assertEqual(self.calls(changed, relation, states={"Post.r": {"is_done": True}}), 10 + 500 + 24)
        states = {"Post.r": {"is_done": True}, "Post": {"since": ISO}}
        self.assertEqual(self.calls(changed, relation, states=states), 10 + 60 + 6)

    def test_files_are_asked_for_by_two_hundred(self):
        for count, with_files, own in ((0, True, 8 + 2), (200, True, 10 + 3), (201, True, 10 + 4), (201, False, 10)):
            with self.subTest(count, with_files=with_files):
                self.assertEqual(self.calls({("_File", False): count}, with_files=with_files, name="_File"), own)


class FilesTest(PullCase):
    def test_claims_are_a_size_and_a_checksum(self):
        for meta, expected in (
            ({"size": 5, "_checksum": "A" * 32}, (5, "a" * 32)),
            ({"size": 0, "_checksum": "a" * 31}, (0, None)),
            ({"size": -1, "_checksum": "a" * 33}, (None, None)),
            ({"size": True}, (None, None)),
            ({"size": "5", "_checksum": 5}, (None, None)),
            ({}, (None, None)),
            (5, (None, None)),
        ):
            with self.subTest(meta=meta):
                self.assertEqual(pull_files.claims({"metaData": meta}), expected)
        self.assertEqual(pull_files.claims({}), (None, None))

    def test_rows_come_page_by_page_in_the_order_of_ids(self):
        for count, pages in ((0, 1), (2, 1), (3, 2), (6, 3)):
            rows = [{"objectId": f"a{number}"} for number in range(count)]
            with self.subTest(count), mock.patch.object(pull_files, "PAGE_ROWS", 3):
                one = self.pull(rows=rows)
                self.assertEqual(list(pull_files._rows(one)), rows)
                self.assertEqual(len(one.remote.asked), pages)
                self.assertEqual({(query["order"], query["limit"]) for _, query in one.remote.asked}, {("objectId", 3)})

    def one(self, row, size=None, came=(), kept=None):
        """What is made of one file, where the attempts to fetch it bring `came`, (length, digest) or errors."""
        one = self.pull()
        coming = iter(came)

        def write(_):
            found = next(coming)
            if isinstance(found, Exception):
                raise found
            return ("staged", *found)

        self.blobs = mock.Mock()
        self.blobs.size.side_effect = size if isinstance(size, Exception) else lambda key: size
        self.blobs.write.side_effect = write
        one.remote.download = lambda url: url
        if kept is not None:
            pull_files.keep_differing(self.store, row["key"], kept)
        self.pulled = one
        return pull_files._one(one, self.blobs, row)

    def test_file_is_fetched_here_elsewhere_gone_or_refused(self):
        row = {"key": "k", "url": "http://u", "metaData": {"size": 5}}
        for changes, options, expected, fetched, waited in (
            ({"key": None}, {}, ("elsewhere", 0, ""), 0, []),
            ({"key": ""}, {}, ("elsewhere", 0, ""), 0, []),
            ({}, {"size": StoreUnavailable("down")}, ("refused", 0, "it cannot be looked for: down"), 0, []),
            ({}, {"size": 5}, ("here", 5, ""), 0, []),
            ({"metaData": {}}, {"size": 7}, ("here", 7, ""), 0, []),
            ({}, {"size": 7, "came": [(5, "d")]}, ("fetched", 5, ""), 1, []),
            ({}, {"size": 7, "kept": 7}, ("here", 7, ""), 0, []),
            ({"key": "other"}, {"size": 7, "kept": 8, "came": [(5, "d")]}, ("fetched", 5, ""), 1, []),
            ({"url": None}, {}, ("refused", 0, "it has no URL"), 0, []),
            ({"url": ""}, {}, ("refused", 0, "it has no URL"), 0, []),
            ({}, {"came": [(5, "d")]}, ("fetched", 5, ""), 1, []),
            ({}, {"came": [remote.Unreachable("dead")]}, ("refused", 0, "dead"), 1, []),
            ({}, {"came": [RemoteError("x", 404)]}, ("gone", 0, "http://u answers with status 404"), 1, []),
            ({}, {"came": [RemoteError("x", 410)]}, ("gone", 0, "http://u answers with status 410"), 1, []),
            ({}, {"came": [RemoteError("x", 403)]}, ("refused", 0, "x"), 1, []),
            ({}, {"came": [RemoteError("x"), (5, "d")]}, ("fetched", 5, ""), 2, [0]),
            ({}, {"came": [RemoteError("x"), RemoteError("y"), RemoteError("z")]}, ("refused", 0, "z"), 3, [0, 1]),
            ({}, {"came": [OSError("full")]}, ("refused", 0, "it cannot be stored: full"), 1, []),
            ({}, {"came": [(7, "d"), (7, "d")]}, ("fetched", 7, ""), 2, [0]),
            ({}, {"came": [(7, "d"), (7, "e"), (7, "d")]}, ("fetched", 7, ""), 3, [0, 1]),
            ({}, {"came": [(7, "d"), (7, "e"), (8, "d")]}, ("refused", 0, "it has 8 bytes and MD5 d, and should have 5 and None"), 3, [0, 1]),
            ({"metaData": {"_checksum": "a" * 32}}, {"came": [(7, "a" * 32)]}, ("fetched", 7, ""), 1, []),
            ({"metaData": {"_checksum": "a" * 32}}, {"came": [(7, "b" * 32), (7, "a" * 32)]}, ("fetched", 7, ""), 2, [0]),
        ):  # fmt: skip
            with self.subTest(changes, options=options):
                self.write(lambda transaction: transaction.delete_record(pull_files.DIFFERS, "k"))
                self.assertEqual(self.one({**row, **changes}, **options), expected)
                self.assertEqual((self.blobs.write.call_count, self.pulled.remote.waited), (fetched, waited))
                self.assertEqual(self.blobs.keep.called, expected[0] == "fetched")
                self.assertEqual(self.blobs.drop.call_count, sum(isinstance(one, tuple) for one in options.get("came", ())))

    def test_bytes_that_came_twice_as_they_are_not_claimed_are_remembered(self):
        self.assertEqual(self.one({"key": "k", "url": "u", "metaData": {"size": 5}}, came=[(7, "d"), (7, "d")])[0], "fetched")
        self.assertEqual(pull_files.differing(self.store, "k"), 7)
        self.assertIsNone(pull_files.differing(self.store, "j"))
        self.assertEqual(list(self.pulled.report.tally("files").notes.values()), [1])

    def test_outcomes_are_counted(self):
        one = self.pull()
        row = {"key": "k", "name": "n"}
        for outcome, size in (("fetched", 5), ("here", 7), ("elsewhere", 0), ("gone", 0), ("refused", 0)):
            pull_files._count(one, row, outcome, size, "why")
        tally = one.report.tally("files")
        self.assertEqual((tally.read, tally.imported, tally.skipped, tally.refused), (5, 1, 3, 1))
        self.assertEqual(tally.notes, Counter({"bytes of files are here": 12, "files lie elsewhere, at URLs of their own, and stay there": 1}))
        self.assertEqual((tally.listed, tally.examples), ([("files are gone there", "k (n): why")], [("k (n)", 0, "why")]))
        one.report.close()


class RelationsTest(PullCase):
    def test_members_and_owners_come_page_by_page(self):
        rows = [{"objectId": f"m{number}", "updatedAt": ISO} for number in range(6)]
        for size, pages in ((3, 3), (4, 2), (7, 1)):
            with self.subTest(size), mock.patch.object(pull_relations, "MEMBERS", size):
                one = self.pull(rows=rows)
                self.assertEqual(pull_relations._members(one, "Post", "k", "T", "o"), [f"m{number}" for number in range(6)])
                self.assertEqual(len(one.remote.asked), pages)
                self.assertEqual({path for path, _ in one.remote.asked}, {"/classes/T"})
                self.assertEqual({query["order"] for _, query in one.remote.asked}, {"objectId"})
                related = {"object": pointer("Post", "o"), "key": "k"}
                self.assertTrue(all(query["where"]["$relatedTo"] == related for _, query in one.remote.asked))

    def test_owners_that_are_gone_there_or_did_not_change_are_not_asked_for(self):
        rows = [{"objectId": name, "updatedAt": at} for name, at in (("a", ISO), ("b", "2019-09-19T04:45:48.353Z"), ("c", "2019-09-19T04:45:48.355Z"))]
        for since, expected in ((0, ["a", "b", "c"]), (AT, ["a", "c"]), (AT + 2, [])):
            with self.subTest(since), mock.patch.object(pull_relations, "ASKED_AT_ONCE", 2), mock.patch.object(pull_relations, "_members", return_value=["m"]):
                one = self.pull(rows=rows)
                found = pull_relations._members_of(one, "Post", "k", "T", ["a", "b", "c", "gone"], since)
                self.assertEqual([tuple(each) for each in found], [(name, {"a": AT, "b": AT - 1, "c": AT + 1}[name], ["m"]) for name in expected])
                self.assertEqual([query["where"]["objectId"]["$in"] for _, query in one.remote.asked], [["a", "b"], ["c", "gone"]])

    def test_members_of_an_owner_that_was_changed_here_are_only_added_to(self):
        def fill(transaction):
            transaction.save_class("Post", {"columns": {}, "permissions": {}, "default_acl": None})
            for name, at in (("older", 4), ("same", 5), ("newer", 6)):
                transaction.insert("Post", Row(name, 1, at, None, {}))
            for name in ("older", "same", "newer", "none"):
                transaction.relate("Post", "k", name, "T", ["here"])

        self.write(fill)
        found = [pull_relations.Found(name, 5, ["there"]) for name in ("older", "same", "newer", "none")]
        self.assertEqual(self.write(lambda transaction: pull_relations._set(transaction, "Post", "k", "T", found)), (4, 1))
        for name, members in (("older", ["there"]), ("same", ["there"]), ("newer", ["here", "there"]), ("none", ["there"])):
            self.assertEqual(self.read(lambda transaction: sorted(transaction.members("Post", "k", name, "T"))), members)  # noqa: B023

    def test_all_owners_are_asked_for_in_pieces_and_the_place_is_kept(self):
        names = [f"o{number}" for number in range(4)]

        def fill(transaction):
            transaction.save_class("Post", {"columns": {}, "permissions": {}, "default_acl": None})
            for number, name in enumerate(names):
                transaction.insert("Post", Row(name, 1, AT + number, None, {}))
            transaction.put_record(load.JOINED, "Post.k", {"as_of": AT + 1})

        self.write(fill)
        rows = [{"objectId": name, "updatedAt": ISO} for name in names]
        for size in (1, 2, 3, 4, 5):
            self.write(lambda transaction: transaction.put_record(load.JOINED, "Post.k", {"as_of": 0}))
            with self.subTest(size), mock.patch.object(pull_relations, "OWNERS_AT_ONCE", size), mock.patch.object(pull_relations, "_members", return_value=["m"]):
                one = self.pull(rows=rows)
                kind = one.kind = f"pull:{size}"
                pull_relations._all_owners(one, "Post", "k", "T")
                self.assertEqual(self.records(kind)["Post.k"], {"after": "o3", "is_done": True})
                self.assertEqual(self.records(load.JOINED), {})
                self.assertEqual(one.report.tally("Post.k").read, 4)
                asked = len(one.remote.asked)
                pull_relations._all_owners(one, "Post", "k", "T")
                self.assertEqual(len(one.remote.asked), asked)

    def test_columns_and_time_of_an_import(self):
        self.assertEqual(pull_relations.columns_of("Post", {"b": {"type": "Relation"}, "a": {"type": "Relation"}, "n": {"type": "Number"}, "x": {}}), ["a", "b"])
        self.assertIn("users", pull_relations.columns_of("_Role", {}))
        one = self.pull()
        self.assertEqual(pull_relations.as_of(one, "Post", "k"), 0)
        self.write(lambda transaction: transaction.put_record(load.JOINED, "Post.k", {"as_of": 5}))
        self.assertEqual(pull_relations.as_of(one, "Post", "k"), 5)


class PullerTest(PullCase):
    def test_ids_that_only_one_side_has(self):
        for there, here, expected in (
            ("abc", "abc", []),
            ("ac", "b", [("a", "there"), ("b", "here"), ("c", "there")]),
            ("", "ab", [("a", "here"), ("b", "here")]),
            ("ab", "", [("a", "there"), ("b", "there")]),
            ("bd", "abc", [("a", "here"), ("c", "here"), ("d", "there")]),
        ):
            with self.subTest(there=there, here=here):
                self.assertEqual(list(puller._differences(iter(there), iter(here))), expected)

    def test_rows_here_and_ids_there_come_page_by_page(self):
        def fill(transaction):
            transaction.save_class("Post", {"columns": {}, "permissions": {}, "default_acl": None})
            for number in range(4):
                transaction.insert("Post", Row(f"a{number}", 9 - number, 1, None, {}))

        self.write(fill)
        whole = [f"a{number}" for number in range(4)]
        for size, pages in ((1, 5), (2, 3), (3, 3), (4, 2), (5, 2)):
            with self.subTest(size), mock.patch.object(puller, "PAGE_ROWS", size):
                self.assertEqual([row.id for row in puller.local_rows(self.store, "Post")], whole)
                self.assertEqual([row.id for row in puller.local_rows(self.store, "Post", "a1")], whole[2:])
                one = self.pull(rows=[{"objectId": name} for name in reversed(whole[::-1])])
                self.assertEqual(list(puller._remote_ids(one, "Post")), whole)
                self.assertEqual(len(one.remote.asked), pages)

    def test_page_that_is_too_large_is_asked_for_by_a_fourth(self):
        limits = []

        def get(path, **query):
            limits.append((query["limit"], "cursor" in query))
            raise remote.AnswerTooLarge("large")

        one = self.pull()
        one.remote.get = get
        with self.assertRaises(remote.AnswerTooLarge):
            puller._pass(one, "Post", {"after": None}, {})
        self.assertEqual(limits, [(1000, False), (250, False), (62, False), (15, False), (10, False)])

    def test_cursor_that_died_is_followed_by_the_last_id_and_a_query_that_fails_is_an_error(self):
        asked = []
        answers = [{"results": [{"objectId": "b"}, {"objectId": "a"}], "cursor": "c1"}, RemoteError("dead"), {"results": [{"objectId": "c"}], "cursor": "c2"}, {"results": []}]

        def get(path, **query):
            asked.append((query.get("cursor"), query["where"]))
            found = answers.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        one = self.pull()
        one.remote.get = get
        state = {"after": None}
        with mock.patch.object(puller, "_store_page"):
            puller._pass(one, "Post", state, {"x": 1})
        behind = {"x": 1, "objectId": {"$gt": "b"}}
        self.assertEqual(asked, [(None, {"x": 1}), ("c1", {"x": 1}), (None, behind), ("c2", behind)])
        self.assertEqual(state, {"after": "c"})
        answers[:] = [RemoteError("no")]
        with self.assertRaisesRegex(RemoteError, "no"):
            puller._pass(one, "Post", {"after": None}, {})

    def test_pages_that_come_again_end_the_pass(self):
        page = [{"objectId": "a"}, {"objectId": "b"}]
        for pages, error in (
            ([(page, "c"), (page, "c")], NO_PROGRESS),
            ([(page, "c"), ([{"objectId": "a"}], "d")], NO_PROGRESS),
            ([(page, "c"), ([{"objectId": "c"}], "c"), ([], "c")], None),  # one cursor for all pages
            ([(page, "c"), ([], "d"), ([{"objectId": "c"}], None)], None),
        ):
            one, answers = self.pull(), [{"results": rows, "cursor": cursor} for rows, cursor in pages]
            one.remote.get = lambda path, answers=answers, **query: answers.pop(0)
            with self.subTest(pages=pages), mock.patch.object(puller, "_store_page"):
                try:
                    puller._pass(one, "Post", {"after": None}, {})
                except RemoteError as found:
                    self.assertEqual(str(found), error)
                else:
                    self.assertIsNone(error)
                self.assertEqual(answers, [])

    def test_cursors_that_die_behind_empty_pages_end_the_pass(self):
        def get(path, **query):
            if "cursor" in query:
                raise RemoteError("dead")
            return {"results": [], "cursor": "c"}

        one = self.pull()
        one.remote.get = get
        with mock.patch.object(puller, "_store_page"), self.assertRaisesRegex(RemoteError, "dead"):
            puller._pass(one, "Post", {"after": None}, {})

    def test_source_that_overlooks_where_to_go_on_is_given_up(self):
        one = self.pull()
        one.remote.rows = lambda path, **query: [{"objectId": "a"}, {"objectId": "b"}]
        for ids in (puller._remote_ids(one, "Post"), pull_files._rows(one)):
            with mock.patch.object(pull_files, "PAGE_ROWS", 2), self.assertRaisesRegex(RemoteError, NO_PROGRESS):
                for _ in zip(ids, range(9), strict=False):
                    pass

    def test_days_are_told_where_the_calls_of_one_are_limited(self):
        for wanted, limit, text in (
            (100, None, "100 calls to the API at most, if nothing changes there meanwhile; in the last 24 hours: 3"),
            (100, 100, "100 calls to the API at most, if nothing changes there meanwhile, 1 days at 100 a day; in the last 24 hours: 3"),
            (101, 100, "101 calls to the API at most, if nothing changes there meanwhile, 2 days at 100 a day; in the last 24 hours: 3"),
        ):
            with self.subTest(wanted, limit=limit), mock.patch.object(pull_estimate, "calls", return_value=wanted):
                one = self.pull()
                puller._say_calls(one, SimpleNamespace(limit=limit, recent=lambda: 3), {}, False)
                self.assertEqual(self.output.getvalue(), text + "\n")

    def test_classes_with_relations(self):
        self.assertTrue(puller._has_relations("_Role", {}))
        self.assertTrue(puller._has_relations("Post", {"n": {"type": "Number"}, "r": {"type": "Relation"}}))
        self.assertFalse(puller._has_relations("Post", {"n": {"type": "Number"}}))

    def test_what_is_missing_here_is_asked_for_fifty_at_once_and_what_is_gone_is_told_or_deleted(self):
        def fill(transaction):
            transaction.save_class("Post", {"columns": {}, "permissions": {}, "default_acl": None})
            for name in ("gone1", "gone2"):
                transaction.insert("Post", Row(name, 1, 1, None, {}))

        self.write(fill)
        there = [{"objectId": f"n{number:02}", "createdAt": ISO} for number in range(5)]
        for delete_missing in (False, True):
            with self.subTest(delete_missing=delete_missing), mock.patch.object(puller, "MISSING_AT_ONCE", 2):
                one = self.pull(counts={("Post", False): 5}, rows=there)
                puller._compare(one, {"Post": {}}, delete_missing, "Post")
                asked = [query["where"]["objectId"]["$in"] for _, query in one.remote.asked if "$in" in str(query)]
                self.assertEqual([len(ids) for ids in asked], [2, 2, 1] if not delete_missing else [])
                gone = "objects deleted here, because they are gone there" if delete_missing else (
                    "objects here are not there: new here, or deleted there (--delete takes them away)")
                self.assertEqual(one.report.tally("Post").notes, Counter({gone: 2}))
        self.assertEqual(sorted(self.bodies("Post")), [one["objectId"] for one in there])
        one = self.pull(counts={("Post", False): 5}, rows=there)
        puller._compare(one, {"Post": {}}, True, "Post")
        self.assertEqual(len(one.remote.asked), 1)  # their numbers are equal


if __name__ == "__main__":
    unittest.main()
