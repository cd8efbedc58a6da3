"""The parts of the store on PostgreSQL that can be tried without a server, and its limits."""

import io
import re
import unittest
from contextlib import redirect_stderr
from types import SimpleNamespace
from unittest import mock

try:
    import psycopg
    from psycopg_pool import PoolTimeout
    from leanstorage.store.postgresql import compiler, hosts, indexes, opening, tallies, transaction, trouble, waiting, wire
    from leanstorage.store.postgresql import store as postgresql
    from leanstorage.store.postgresql.transaction import PostgresqlTransaction
except ImportError:  # the app needs none
    psycopg = None

from leanstorage.store import Condition, Group, Not, Query, QueryTimeout, StoreUnavailable


@unittest.skipUnless(psycopg, "psycopg is not installed")
class PartsTestCase(unittest.TestCase):
    pass


class LimitsTest(PartsTestCase):
    def test_limits_are_exact(self):
        for module, name, value in (
            (compiler, "INDEXED_CHARACTERS", 150),
            (hosts, "CONNECT_SECONDS", 2),
            (opening, "PROBE_SECONDS", 2),
            (postgresql, "MAX_CONNECTIONS", 8),
            (postgresql, "MAX_LENT", 8),
            (trouble, "WAIT_SECONDS", 5),
            (postgresql, "INDEX_SECONDS", 86_400),
            (postgresql, "LAYOUT", 1),
            (postgresql, "LOCK_MS", 3000),
            (postgresql, "WORK_MB", 32),
            (postgresql, "SCHEMA_LOCK", 8126),
            (tallies, "MOST", 10_000),
            (transaction, "REGEX_SECONDS", 1),
            (transaction, "LOOP_BYTES", 1_048_576),
            (waiting, "MAX_WAITING", 64),
            (waiting, "STATEMENT_SECONDS", 0.5),
            (waiting, "ANSWER_SECONDS", 3),
            (wire, "MAX_PREPARED", 100),
            (wire, "MAX_PREPARED_CHARACTERS", 200_000),
            (wire, "LONG_CHARACTERS", 20_000),
            (wire, "ANSWER_SECONDS", 4),
        ):
            with self.subTest(module=module.__name__, name=name):
                self.assertEqual(getattr(module, name), value)


class HostsTest(PartsTestCase):
    def test_host_that_was_silent_comes_last(self):
        for conninfo, silent, expected in (
            ("host=a,b,c port=1,2,3", ("a", "1"), ("b,c,a", "2,3,1")),
            ("host=a,b,c port=1,2,3", ("c", "3"), ("a,b,c", "1,2,3")),
            ("host=a,b port=5", ("a", "5"), ("b,a", "5,5")),
            ("host=a,a port=1,2", ("a", "1"), ("a,a", "2,1")),
            ("host=a,b port=1,2", ("a", "2"), ("a,b", "1,2")),
            ("host=a,b port=1,2", ("x", "1"), ("a,b", "1,2")),
            ("host=a port=1", ("a", "1"), ("a", "1")),
        ):
            with self.subTest(conninfo, silent=silent):
                found = psycopg.conninfo.conninfo_to_dict(hosts.with_last(conninfo, *silent))
                self.assertEqual((found["host"], found["port"]), expected)

    def test_several_hosts_are_told_from_one(self):
        for conninfo, are_several in (("host=a,b", True), ("host=a", False), ("dbname=x", False), ("postgresql://a:1,b:2/x", True)):
            self.assertIs(hosts.are_several(conninfo), are_several)


class OpeningTest(PartsTestCase):
    def said(self, call):
        """(what is returned, what is said)"""
        with redirect_stderr(io.StringIO()) as said:
            return call(), said.getvalue()

    def test_least_of_the_limits_is_how_many_connections_there_are(self):
        for row, number, setting in (
            ((-1, -1, 100), 16, None),
            ((-1, -1, 16), 16, None),
            ((-1, -1, 15), 15, "max_connections"),
            ((5, -1, 100), 5, "ALTER ROLE ... CONNECTION LIMIT"),
            ((5, 4, 100), 4, "ALTER DATABASE ... CONNECTION LIMIT"),
            ((0, 4, 100), 0, "ALTER ROLE ... CONNECTION LIMIT"),
            ((-1, -1, -1), 16, None),
            (None, 16, None),
        ):
            with self.subTest(row):
                connection = mock.Mock()
                connection.execute.return_value.fetchone.return_value = row
                found, said = self.said(lambda: opening.allowed_connections(connection, 16))  # noqa: B023
                self.assertEqual(found, number)
                text = f"the database gives {number} of the 16 connections that each process wants: calls will wait for each other ({setting})\n"
                self.assertEqual(said, text if setting else "")

    def checked(self, servers, wanted=3, answers=1, own=7):
        """What is said of a pooler whose further connections reach these servers, errors among them."""
        ours = SimpleNamespace(info=SimpleNamespace(backend_pid=own), wire=None)
        opened = []

        def connect(*arguments, **options):
            opened.append(options)
            return mock.MagicMock(number=len(opened) - 1)

        def taken(connection):
            found = servers[connection.number]
            if isinstance(found, Exception):
                raise found
            return found

        with mock.patch.object(opening.Connection, "connect", connect), mock.patch.object(opening, "_taken", taken), \
                mock.patch.object(opening, "_server", lambda connection: answers), mock.patch.object(opening, "_keeps", lambda ours, mine: True):
            said = self.said(lambda: opening.check_pooler(ours, "url", 9, wanted))[1]
        self.assertTrue(all(options == {"autocommit": True, "connect_timeout": 9} for options in opened), opened)
        return said, len(opened)

    def test_pooler_is_asked_for_as_many_connections_as_a_process_wants(self):
        few = "the pooler gives %d of the 3 connections that each process wants: calls will wait for each other (its pool size)\n"
        self.assertEqual(self.checked([2, 3]), ("", 2))
        self.assertEqual(self.checked([], own=1), ("", 0))  # nothing stands in between
        self.assertEqual(self.checked([2, psycopg.OperationalError()]), (few % 2, 2))
        self.assertEqual(self.checked([psycopg.OperationalError()]), (few % 1, 1))
        for servers in ([1], [2, 2], [None]):
            with self.subTest(servers), self.assertRaisesRegex(ValueError, "behind a pooler in transaction mode"):
                self.checked(servers)


class WireTest(PartsTestCase):
    def test_parameters_are_numbered_and_spelt_for_the_server(self):
        self.assertEqual(wire._numbered("a = ? AND b IN (?, ?)"), b"a = $1 AND b IN ($2, $3)")
        for value, expected in (
            (None, None),
            ("中", "中".encode()),
            (True, b"t"),
            (False, b"f"),
            (5, b"5"),
            (1.5, b"1.5"),
            ([], b"{}"),
            (["a", 'b"\\'], b'{"a","b\\"\\\\"}'),
        ):
            with self.subTest(value=value):
                self.assertEqual(wire._parameter(value), expected)
        self.assertEqual(transaction._placeholders("a LIKE '%' AND b = ?"), "a LIKE '%%' AND b = %s")

    def passing(self):
        """A Wire whose statements are noted instead of sent."""
        one = object.__new__(wire.Wire)
        one._passing, one._is_begun, one._late, self.done = wire.OrderedDict(), True, None, []
        one._passing_characters = 0
        numbers = iter(range(100))
        one.pgconn = SimpleNamespace(send_query_params=lambda text, values: self.done.append(text.decode()))
        one._awaited = lambda: None
        one._prepare = lambda text: f"{text}{next(numbers)}"
        one._prepared = lambda name, params: self.done.append(f"run {name}")
        one._close = lambda name: self.done.append(f"close {name}")
        return one

    def test_statement_that_comes_again_is_prepared_and_the_oldest_is_forgotten(self):
        with mock.patch.object(wire, "MAX_PREPARED", 2):
            one = self.passing()
            for text in "aaabacbd":
                one.run_passing(text)
        self.assertEqual(self.done, ["a", "run a0", "run a0", "b", "run a0", "c", "close a0", "b", "d"])
        self.assertEqual(list(one._passing), ["b", "d"])

    def test_statements_that_are_kept_are_bounded_together_and_long_ones_are_never_kept(self):
        with mock.patch.object(wire, "LONG_CHARACTERS", 5), mock.patch.object(wire, "MAX_PREPARED_CHARACTERS", 8):
            one = self.passing()
            for text in ("aaaaa", "aaaaa", "bbbb", "cccc", "bbbb", "dd"):
                one.run_passing(text)
            self.assertEqual(list(one._passing), ["bbbb", "dd"])
            self.assertEqual(self.done, ["aaaaa", "aaaaa", "bbbb", "cccc", "run bbbb0", "dd"])
            one.run_passing("eeee")
            self.assertEqual(list(one._passing), ["dd", "eeee"])
            self.assertIn("close bbbb0", self.done)
            self.assertEqual(one._passing_characters, 6)


class CompilerTest(PartsTestCase):
    INFO = {"columns": {"s": {"type": "String"}, "n": {"type": "Number"}, "d": {"type": "Date"}}, "indexes": [["s"], ["n"], ["s", "n"]]}

    def setUp(self):
        self.compiler = compiler.PostgresqlCompiler(lambda name: self.INFO, lambda statement: 0)
        self.item = self.compiler.field("C", ("s",), "o")

    def test_text_that_an_index_holds_whole_needs_no_second_look(self):
        one = self.compiler
        for length, is_whole in ((149, True), (150, False), (151, False)):
            text = "x" * length
            with self.subTest(length):
                for sql, params in (
                    one.indexed_equal(self.item, "String", text),
                    one.indexed_compare(self.item, "String", ">", text),
                    one.indexed_in(self.item, "String", ["a", text]),
                ):
                    self.assertEqual((" AND " in sql, len(params)), (not is_whole, 1 if is_whole else 2))
                    cut = params[0][1] if isinstance(params[0], list) else params[0]
                    self.assertEqual(cut, text[:150])
                self.assertIs(one.is_tallied({"type": "String"}, text), is_whole)
        sql, _ = one.indexed_compare(self.item, "String", ">", "x" * 150)
        self.assertIn(">= ?", sql)
        for length, count in ((150, 2), (151, 4)):
            self.assertEqual(len(one.indexed_prefix(self.item, "x" * length)[1]), count)
        self.assertTrue(one.is_tallied({"type": "Number"}, 5))
        self.assertFalse(one.is_tallied({"type": "Number"}, "x"))
        self.assertFalse(one.is_tallied({"type": "Number"}, None))
        for kind, value in (("Number", 5), ("Date", {"__type": "Date", "iso": "2020"})):
            item = one.field("C", ("n",), "o")
            self.assertEqual(one.indexed_equal(item, kind, value), one.simple_compare(item, kind, "=", value))
            self.assertEqual(one.indexed_compare(item, kind, "<", value), one.simple_compare(item, kind, "<", value))
            self.assertEqual(one._indexed_in(item, kind, [value]), one.simple_in(item, kind, [value]))

    def test_long_list_is_a_table_to_join(self):
        for count, is_joined in ((100, False), (101, True)):
            sql, params = self.compiler.indexed_in(self.compiler.field("C", ("n",), "o"), "Number", list(range(count)))
            self.assertEqual(("unnest(?::jsonb[])" in sql, "ANY" in sql, len(params[0])), (is_joined, not is_joined, count))

    def test_limit_stands_in_the_text_and_a_place_to_begin_is_a_parameter(self):
        for limit, skip, expected in ((None, 0, ("", [])), (5, 0, (" LIMIT 5", [])), (0, 0, (" LIMIT 0", [])), (5, 3, (" LIMIT 5 OFFSET ?::bigint", [3])), (None, 3, (" OFFSET ?::bigint", [3]))):
            self.assertEqual(self.compiler.limits(limit, skip), expected)

    def test_names_that_are_numbers_lead_into_objects_alone(self):
        for path, is_plain in ((("a", "b"), True), (("ACL", "1"), True), (("a", "0"), False), (("a", " +1"), False), (("a", "1x"), True), (("a", "x1"), True), (("a", "\u0661"), True)):
            with self.subTest(path):
                plain, usual = self.compiler.plain_field("C", path, "o"), self.compiler.field("C", path, "o")
                self.assertEqual(plain == usual, is_plain)
        text, params = self.compiler.plain_field("C", ("a", "0", "b", "c"), "o")["text"]
        self.assertEqual((text, params), ("(((o.body #> ?::text[]) -> '0') #> ?::text[])", [["a"], ["b", "c"]]))

    def test_values_are_sorted_by_their_type_where_a_column_may_have_several(self):
        for path, count in ((("n",), 1), (("d",), 1), (("s",), 2), (("none",), 3), (("s", "x"), 3)):
            self.assertEqual(len(self.compiler.sort_keys("C", path, "o")), count)

    def test_few_objects_are_found_by_a_range_before_anything_else_is_looked_at(self):
        most, among = Condition("gt", ("n",), 5), Condition("in", ("n",), [1, 2])
        for where, options, is_first in (
            (most, {"limit": 5}, True),
            (most, {}, False),
            (most, {"limit": 5, "near": (("p",), 1.0, 1.0)}, False),
            (among, {"limit": 5}, False),
            (Group("and", (Condition("eq", ("s",), "x"), most)), {"limit": 5}, True),
        ):
            with self.subTest(where=where, options=options):
                query = Query("C", where, **options)
                one = compiler.PostgresqlCompiler(lambda name: self.INFO, lambda statement: 0)
                one.matching(query, "o")
                self.assertEqual("OFFSET 0" in one.source(query, "o")[0], is_first)
        many = compiler.PostgresqlCompiler(lambda name: self.INFO, lambda statement: 3000)
        query = Query("C", most, limit=5)
        many.matching(query, "o")
        self.assertEqual(many.source(query, "o"), ("objects o", []))


class IndexesTest(PartsTestCase):
    def commands(self, call, parts=(), is_valid=True, version=140_000):
        """The commands that are sent."""
        sent = []

        def command(text):
            sent.append(text.decode())
            return text

        def rows(text):
            if b"pg_inherits" in text:
                return list(parts)
            return [(is_valid,)] if b"indisvalid" in text else []

        call(SimpleNamespace(wire=SimpleNamespace(command=command, rows=rows), info=SimpleNamespace(server_version=version)))
        return [one for one in sent if not one.startswith("SELECT")]

    def test_index_is_made_beside_writers_with_figures_for_the_planner(self):
        make = lambda connection: indexes.make_index(connection, "index_a", "(x)", "(y)")  # noqa: E731
        one, figures = "CREATE INDEX CONCURRENTLY IF NOT EXISTS index_a ON objects (x)", "CREATE STATISTICS IF NOT EXISTS figures_a ON (y) FROM objects"
        self.assertEqual(self.commands(make), [one, figures, "ANALYZE objects"])
        self.assertEqual(self.commands(make, version=139_999), [one, "ANALYZE objects"])
        self.assertEqual(self.commands(make, is_valid=False), ["DROP INDEX CONCURRENTLY index_a", one, figures, "ANALYZE objects"])
        self.assertEqual(self.commands(lambda connection: indexes.make_index(connection, "index_a", "(x)", "")), [one, "ANALYZE objects"])
        self.assertEqual(
            self.commands(make, [(5, "o5"), (6, "o6")]),
            [
                "CREATE INDEX IF NOT EXISTS index_a ON ONLY objects (x)",
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS index_a_5 ON o5 (x)", "ALTER INDEX index_a ATTACH PARTITION index_a_5",
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS index_a_6 ON o6 (x)", "ALTER INDEX index_a ATTACH PARTITION index_a_6",
                "CREATE STATISTICS IF NOT EXISTS figures_a_5 ON (y) FROM o5", "CREATE STATISTICS IF NOT EXISTS figures_a_6 ON (y) FROM o6",
                "ANALYZE objects",
            ],
        )  # fmt: skip

    def test_dropped_index_leaves_no_figures(self):
        drop = lambda connection: indexes.drop_index(connection, "index_a")  # noqa: E731
        self.assertEqual(self.commands(drop), ["DROP INDEX CONCURRENTLY IF EXISTS index_a", "DROP STATISTICS IF EXISTS figures_a"])
        self.assertEqual(
            self.commands(drop, [(5, "o5"), (6, "o6")]),
            ["DROP INDEX IF EXISTS index_a", "DROP STATISTICS IF EXISTS figures_a_5", "DROP STATISTICS IF EXISTS figures_a_6"],
        )

    def test_name_of_figures_is_made_of_the_beginning_alone(self):
        self.assertEqual(indexes._statistics("index_index_a", ""), "figures_index_a")


class ReasonTest(PartsTestCase):
    def test_reason_of_an_error_holds_nothing_of_the_url(self):
        said = psycopg.OperationalError("connection failed\nmore of it")
        self.assertEqual(trouble.reason(said), " (connection failed)")
        self.assertEqual(trouble.reason(PoolTimeout("x")), " (it gave no connection in 5 seconds)")
        self.assertEqual(trouble.reason(psycopg.ProgrammingError("postgresql://user:secret@host")), "")

    def test_layout_is_noted_and_a_newer_one_refused(self):
        for row, is_noted in ((None, True), ((1,), False), ((0,), False)):
            connection = mock.Mock()
            connection.execute.return_value.fetchone.return_value = row
            postgresql._check_version(connection)
            self.assertEqual(any("INSERT" in call.args[0] for call in connection.execute.call_args_list), is_noted)
        connection.execute.return_value.fetchone.return_value = (2,)
        with self.assertRaisesRegex(ValueError, "has layout 2 and this program knows 1"):
            postgresql._check_version(connection)

    def test_parts_that_are_missing_are_made(self):
        for row, is_missing in (((True,), True), ((False,), False), (None, True)):
            connection = mock.Mock()
            connection.execute.return_value.fetchone.return_value = row
            self.assertIs(postgresql._lacks_parts(connection), is_missing)
            [names] = connection.execute.call_args.args[1]
            self.assertEqual(sorted(names), sorted(re.findall(r"IF NOT EXISTS (\w+)", postgresql.SCHEMA)))


class RetriesTest(PartsTestCase):
    def store(self, outcomes):
        """A store whose works end so one after the other; what else it does is noted."""
        one = object.__new__(postgresql.PostgresqlStore)
        self.noted = []
        one._pool = mock.MagicMock()
        one._pool.check = lambda: self.noted.append("check")
        one.distrust = lambda connection: self.noted.append("distrust")
        given = iter(outcomes)

        def on(connection, work):
            self.noted.append("try")
            found = next(given)
            if isinstance(found, Exception):
                raise found
            return found

        one.read_on = one.write_on = on
        return one

    def test_reads_are_tried_three_times_and_not_again_after_a_silence(self):
        lost = psycopg.OperationalError("lost")
        for outcomes, noted in (
            (["done"], ["try"]),
            ([lost, "done"], ["try", "check", "try"]),
            ([lost, lost, "done"], ["try", "check", "try", "check", "try"]),
            ([lost, lost, lost], ["try", "check", "try", "check", "try"]),
            ([wire.NoAnswer("silent")], ["try", "distrust"]),
            ([PoolTimeout("none")], ["try"]),
        ):
            with self.subTest(outcomes):
                store = self.store(outcomes)
                if outcomes[-1] == "done":
                    self.assertEqual(store.read(None), "done")
                else:
                    self.assertRaises(StoreUnavailable, store.read, None)
                self.assertEqual(self.noted, noted)

    def test_writes_are_tried_five_times_and_wait_longer_after_each_conflict(self):
        conflict, lost = psycopg.errors.SerializationFailure("x"), psycopg.OperationalError("lost")
        for outcomes, slept, checks in (
            (["done"], [], 0),
            ([conflict] * 4 + ["done"], [0.01, 0.02, 0.03, 0.04], 0),
            ([psycopg.errors.DeadlockDetected("x"), "done"], [0.01], 0),
            ([conflict] * 5, [0.01, 0.02, 0.03, 0.04], 0),
            ([lost] * 4 + ["done"], [], 4),
            ([lost] * 5, [], 4),
            ([wire.NoAnswer("silent")], [], 0),
        ):
            waited = []
            with self.subTest(outcomes), mock.patch.object(postgresql.time, "sleep", waited.append):
                store = self.store(outcomes)
                if outcomes[-1] == "done":
                    self.assertEqual(store.write(None), "done")
                else:
                    self.assertRaises(StoreUnavailable, store.write, None)
                self.assertEqual(([round(one, 4) for one in waited], self.noted.count("check"), self.noted.count("distrust")), (slept, checks, int(isinstance(outcomes[-1], wire.NoAnswer))))

    def test_limits_of_a_connection_are_those_of_its_purpose(self):
        store = object.__new__(postgresql.PostgresqlStore)
        store._query_seconds, store._connect_seconds, store._conninfo, store._pool = 5, 7, "url", mock.MagicMock()
        with mock.patch.object(postgresql, "set_json_loads"), mock.patch.object(postgresql.Connection, "connect") as connect:
            lent = connect.return_value
            for seconds, limit, answer in ((None, "'5000'", 6), (0.25, "'250'", 1.25), (0, "'0'", 1)):
                with self.subTest(seconds):
                    store._configure(lent, seconds)
                    sent = lent.wire.command.call_args.args[0].decode()
                    self.assertIn(f"('statement_timeout', {limit})", sent)
                    self.assertIn("('lock_timeout', '3000'), ('work_mem', '32MB'), ('jit', 'off')", sent)
                    self.assertEqual(lent.wire.answer_seconds, answer)
            self.assertIs(store.lend(0.5, 3), lent)
            self.assertEqual(lent.wire.answer_seconds, 3)
            connect.assert_called_once_with("url", autocommit=True, connect_timeout=7)
            store._pool.connection.return_value.__enter__.return_value.wire.command.assert_called_once_with(b"SELECT 1")
            with mock.patch.object(store, "_configure", side_effect=psycopg.OperationalError), self.assertRaises(psycopg.OperationalError):
                store.lend(0.5, 3)
            lent.close.assert_called_once_with()
        with mock.patch.object(store, "lend") as lend:
            with store._patient() as connection:
                self.assertIs(connection, lend.return_value)
            lend.assert_called_once_with(0, 86_400)
            for error, expected in ((psycopg.OperationalError("lost"), StoreUnavailable), (psycopg.ProgrammingError("odd"), ValueError)):
                with self.assertRaises(expected), store._patient():
                    raise error
            with store.snapshot(9) as snapshot:
                self.assertIs(snapshot._connection, lend.return_value)
            lend.assert_called_with(9, 9)
            lend.return_value.wire.command.assert_called_once_with(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def test_connections_as_old_as_a_silent_one_are_retired_once(self):
        store = object.__new__(postgresql.PostgresqlStore)
        store._conninfo, store._distrusted, store._pool = "host=a,b port=1,2", 0.0, mock.Mock()
        silent = SimpleNamespace(wire=SimpleNamespace(made=5.0, server=("a", "1")))
        with mock.patch.object(postgresql.time, "monotonic", lambda: 5.0):
            store.distrust(silent)
            self.assertEqual(psycopg.conninfo.conninfo_to_dict(store._conninfo)["host"], "b,a")
            store.distrust(silent)  # as old as what was retired, to the moment
            silent.wire.made = 4.9
            store.distrust(silent)
        self.assertEqual(store._pool.drain.call_count, 2)


class PatternsTest(PartsTestCase):
    REGEX = Condition("regex", ("s",), ("a", 0))

    def test_patterns_are_found_wherever_they_stand(self):
        plain = Condition("eq", ("n",), 1)
        for node, has_regex in (
            (self.REGEX, True),
            (plain, False),
            (Not(self.REGEX), True),
            (Group("or", (plain, self.REGEX)), True),
            (Group("and", (plain, Not(plain))), False),
            (Condition("in_query", ("p",), Query("A", self.REGEX)), True),
            (Condition("in_query", ("p",), Query("A", plain)), False),
            (Condition("select", ("p",), (("k",), Query("A", self.REGEX))), True),
            (Condition("select", ("p",), (("k",), Query("A", plain))), False),
        ):
            with self.subTest(node=node):
                self.assertIs(transaction._has_regex(node), has_regex)

    def test_patterns_are_replaced_by_what_they_match_among_the_rows_that_the_rest_leaves(self):
        one = object.__new__(PostgresqlTransaction)
        one.query_seconds, asked = 5, []

        def matching(node, query, end):
            asked.append((query.class_name, query.where, query.limit, query.skip))
            return ["a1"]

        one._matching_ids = matching
        plain, ids, everything = Condition("eq", ("n",), 1), Condition("in", ("objectId",), ["a1"]), Group("and", ())
        narrowed = Group("and", (everything, plain))
        for node, expected, wheres in (
            (self.REGEX, ids, [("C", everything)]),
            (Not(self.REGEX), Not(ids), [("C", everything)]),
            (Group("and", (self.REGEX, plain)), Group("and", (plain, ids)), [("C", narrowed)]),
            (Group("or", (plain, self.REGEX)), Group("or", (plain, ids)), [("C", everything)]),
            (Group("and", (plain, Group("or", (self.REGEX,)))), Group("and", (plain, Group("or", (ids,)))), [("C", narrowed)]),
            (Condition("in_query", ("p",), Query("A", self.REGEX, limit=3)), Condition("in_query", ("p",), Query("A", ids, limit=3)), [("A", everything)]),
            (Condition("select", ("p",), (("k",), Query("A", self.REGEX))), Condition("select", ("p",), (("k",), Query("A", ids))), [("A", everything)]),
        ):
            with self.subTest(node=node):
                asked.clear()
                found = one._matched(Query("C", node, limit=7, skip=2))
                self.assertEqual((found.where, found.limit, found.skip), (expected, 7, 2))
                self.assertEqual([(name, where) for name, where, _, _ in asked], wheres)
                self.assertTrue(all((limit, skip) == (None, 0) for _, _, limit, skip in asked))
        query = Query("C", plain)
        self.assertIs(one._matched(query), query)

    def test_match_that_takes_too_long_is_a_timeout(self):
        compiled = mock.Mock()
        compiled.search.side_effect = TimeoutError
        with self.assertRaises(QueryTimeout):
            transaction._search(compiled, "x")
        compiled.search.side_effect = [None, object()]
        self.assertEqual([transaction._search(compiled, "x") for _ in range(2)], [False, True])
        compiled.search.assert_called_with("x", timeout=1, concurrent=True)


class Loop:
    """A loop that notes what it watches, and runs what it is to run soon when it is told to."""

    def __init__(self):
        self.watched, self.waiting = {}, []

    def watch(self, file, ready):
        self.watched[file] = ready

    def unwatch(self, file):
        self.watched.pop(file, None)

    def soon(self, work):
        self.waiting.append(work)


class Lent:
    """A connection of the pool as the loop's hands hold it."""

    def __init__(self, file):
        self.file, self.closed = file, False
        self.wire = SimpleNamespace(wait=None, answer_seconds=3)
        self.pgconn = mock.Mock()

    def fileno(self):
        return self.file

    def close(self):
        self.closed = True


class WaitingTest(PartsTestCase):
    def setUp(self):
        self.loop, self.distrusted, self.borrowed = Loop(), [], []
        pool = SimpleNamespace(max_lent=0, distrust=self.distrusted.append, read_on=lambda connection, work: work(connection), write_on=lambda connection, work: work(connection))
        self.store = waiting.WaitingStore(pool, self.loop)
        self.store._borrow = lambda: self.borrowed.append(1)
        self.outcomes = []

    def add(self, *files):
        for file in files:
            connection = Lent(file)
            self.store._coming.append(connection)
            self.store._add(connection)

    def work(self, name, waits=0, error=None):
        """Have a work read, which waits so many times for its connection."""

        def read(connection):
            for _ in range(waits):
                connection.wire.wait()
            if error:
                raise error
            return name

        def whole():
            try:
                self.outcomes.append(self.store.read(read))
            except waiting.Later:
                self.outcomes.append(f"later {name}")

        self.store.spawn(whole)

    def test_works_go_on_when_their_answers_are_there_and_others_when_a_connection_is_free(self):
        self.work("none")
        self.assertEqual(self.outcomes, ["later none"])  # there is no connection at all
        self.add(5)
        self.work("a", 2)
        self.work("b", 1)
        self.work("c")
        self.assertEqual((self.outcomes[1:], len(self.store._queue)), ([], 2))
        for expected in ([], ["a"], ["a", "b", "c"]):
            self.loop.watched[5]()
            self.assertEqual(self.outcomes[1:], expected)
        self.assertEqual((len(self.store._idle), len(self.store._queue)), (1, 0))

    def test_works_beyond_the_limit_are_for_threads(self):
        self.add(5)
        with mock.patch.object(waiting, "MAX_WAITING", 2):
            for name in "abcd":
                self.work(name, 1)
        self.assertEqual((self.outcomes, len(self.store._queue)), (["later d"], 2))

    def test_error_of_the_database_is_for_a_thread_and_a_closed_connection_is_replaced(self):
        self.add(5)
        self.work("a", error=psycopg.OperationalError("x"))
        self.assertEqual((self.outcomes, self.borrowed, len(self.store._idle)), (["later a"], [], 1))
        lent = self.store._idle[0]
        lent.connection.closed = True
        lent.connection.pgconn.consume_input.side_effect = psycopg.OperationalError
        self.loop.watched[5]()  # unasked
        self.assertEqual((self.borrowed, self.store._idle, self.store._lent, self.loop.watched), ([1], [], {}, {}))
        self.add(6)
        self.loop.watched[6]()  # unasked, and still open
        self.assertEqual((len(self.store._idle), self.borrowed), (1, [1]))

    def test_silent_connections_are_given_up_with_those_that_would_be_as_silent(self):
        clock = [100.0]
        with mock.patch.object(waiting.time, "monotonic", lambda: clock[0]), mock.patch.object(waiting.select, "poll") as poll:
            poll.return_value.poll.return_value = []
            self.add(5, 6, 7)
            self.work("a", 1)
            self.work("b", 1)
            clock[0] += 3
            self.store._give_up_the_silent()
            self.assertEqual((self.distrusted, len(self.loop.watched)), ([], 3))
            clock[0] += 0.1
            connections = [lent.connection for lent in self.store._lent.values()]
            self.store._give_up_the_silent()
        self.assertEqual([one.closed for one in connections], [True] * 3)
        self.assertEqual((len(self.distrusted), sorted(self.outcomes), self.loop.watched, self.store._lent), (2, ["a", "b"], {}, {}))

    def test_connection_that_cannot_be_had_is_tried_again_after_a_while(self):
        given = iter([PoolTimeout("none"), psycopg.OperationalError("gone"), Lent(5)])

        def lend(*limits):
            self.assertEqual(limits, (0.5, 3))
            found = next(given)
            if isinstance(found, Exception):
                raise found
            return found

        waited, started = [], []
        self.store._store.lend = lend
        self.store._closing = mock.Mock(is_set=lambda: False, wait=waited.append)
        with mock.patch.object(waiting.threading, "Thread", lambda target, **options: started.append(options) or SimpleNamespace(start=target)):
            with mock.patch.object(waiting.random, "uniform", lambda least, most: least + most):
                waiting.WaitingStore._borrow(self.store)
        self.assertEqual((waited, started), ([4.5, 4.5], [{"name": "borrow", "daemon": True}]))
        self.assertEqual((len(self.store._coming), len(self.loop.waiting)), (1, 1))
        self.loop.waiting.pop()()
        self.assertEqual((self.store._coming, list(self.store._lent), list(self.loop.watched)), ([], [5], [5]))
        late = Lent(6)
        self.store._store.lend = lambda *limits: late
        self.store._closing = mock.Mock(is_set=mock.Mock(side_effect=[False, True]))
        with mock.patch.object(waiting.threading, "Thread", lambda target, **options: SimpleNamespace(start=target)):
            waiting.WaitingStore._borrow(self.store)
        self.assertEqual((late.closed, self.loop.waiting), (True, []))

    def test_end_closes_what_is_idle_and_what_is_coming(self):
        self.add(5, 6)
        self.work("a", 1)
        coming = Lent(7)
        self.store._coming.append(coming)
        connections = [lent.connection for lent in self.store._lent.values()]
        self.store.close()
        self.assertTrue(all(one.closed for one in [*connections, coming]))
        self.assertEqual((self.store._lent, self.loop.watched, self.borrowed), ({}, {}, []))
        self.store._add(coming)
        self.assertEqual((self.store._lent, self.store._coming), ({}, []))


if __name__ == "__main__":
    unittest.main()
