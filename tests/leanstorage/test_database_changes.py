"""A PostgreSQL whose tables, rights and settings others change under us, or have set otherwise than we expect."""
import io
import os
import re
import tempfile
import unittest
from contextlib import contextmanager, redirect_stderr
from unittest import mock

from leanstorage.operator import health
from leanstorage.resources import batch
from leanstorage.store import open_store, Row, StoreUnavailable
from tests.leanstorage.service_support import open_database
from tests.leanstorage.storage_support import Storage

SERVER = os.environ.get("LEANSTORAGE_TEST_POSTGRESQL")


def direct(url):
    """The URL of the server itself where `url` is a pooler's, whose sessions keep the settings and the user of before."""
    import psycopg

    with psycopg.connect(url) as connection:
        [(port,)] = connection.execute("SELECT inet_server_port()").fetchall()
    return re.sub(":[0-9]+/", f":{port}/", url) if port else url


def run(url, *statements):
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
class ChangesTest(unittest.TestCase):
    def setUp(self):
        url, drop = open_database(None)
        self.addCleanup(drop)
        self.url, self.server = direct(url), direct(SERVER)
        self.name = self.url.rsplit("/", 1)[1]

    def make_role(self):
        """The URL of a role that owns nothing and may do what a service does."""
        role = f"{self.name}_role"
        open_store(self.url).close()
        run(self.url, f"CREATE ROLE {role} LOGIN", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        self.addCleanup(run, self.server, f"DROP ROLE {role}")
        self.addCleanup(run, self.url, f"DROP OWNED BY {role}")
        return role, self.url.replace("//postgres@", f"//{role}@")

    @contextmanager
    def locked(self, table):
        import psycopg

        with psycopg.connect(self.url) as holder:
            holder.execute(f"LOCK TABLE {table}")
            yield

    @contextmanager
    def changed(self, before, after):
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}' AND pid <> pg_backend_pid()"
        run(self.url, before)
        run(self.url, end)  # a session keeps the settings that it began with
        try:
            yield
        finally:
            run(self.server if "DATABASE" in after else self.url, after)  # the database itself may take no writes
            run(self.url, end)

    def test_what_others_do_to_the_database_is_503_and_said_once_and_health_is_red_meanwhile(self):
        role, url = self.make_role()
        troubles = {
            "takes no writes": lambda: self.changed(
                f"ALTER DATABASE {self.name} SET default_transaction_read_only = on", f"ALTER DATABASE {self.name} RESET default_transaction_read_only"
            ),
            "objects may not be used": lambda: self.changed(f"REVOKE ALL ON objects FROM {role}", f"GRANT ALL ON objects TO {role}"),
            "objects are gone": lambda: self.changed("ALTER TABLE objects RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO objects"),
            "objects are locked": lambda: self.locked("objects"),
            "classes are locked": lambda: self.locked("classes"),
            "records are locked": lambda: self.locked("records"),
        }
        with tempfile.TemporaryDirectory() as folder, mock.patch("leanstorage.store.postgresql.store.LOCK_MS", 300):
            storage = Storage(folder, database=url)
            self.addCleanup(storage.stop)
            user = {"username": "u", "password": "p"}
            self.assertEqual(storage.request("POST", "/users", user)[0], 201)
            for what, trouble in troubles.items():
                storage.service.trouble._said.clear()
                with self.subTest(what), redirect_stderr(io.StringIO()) as said:
                    with trouble():
                        for _ in range(3):
                            self.assertEqual(storage.request("POST", "/users", {**user, "username": "other"})[0], 503)
                        self.assertRaises(StoreUnavailable, storage.service.store.write, health._touch)
                    storage.service.store.write(health._touch)
                    self.assertEqual(storage.request("POST", "/users", {**user, "username": what})[0], 201)
                self.assertRegex(said.getvalue(), r"\A(the store is not available: [^\n]+\n)+\Z")
                self.assertLessEqual(said.getvalue().count("\n"), 3, said.getvalue())

    def test_why_no_connection_can_be_had_is_said(self):
        store = open_store(self.url)
        self.addCleanup(store.close)
        closed, opened = (f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS {word}" for word in ("false", "true"))
        self.addCleanup(run, self.server, opened)
        run(self.server, closed, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")
        with redirect_stderr(io.StringIO()) as said:
            self.assertRaisesRegex(StoreUnavailable, "not currently accepting connections", store.read, lambda transaction: transaction.class_names())
        self.assertEqual(said.getvalue(), "")  # the pool would write a line for every try
        run(self.server, opened)

    def test_statements_prepared_before_a_table_changed_are_prepared_again(self):
        store = open_store(self.url)
        self.addCleanup(store.close)
        store.write(lambda transaction: transaction.insert("Thing", Row("a", 1, 1, None, {})))

        def look():
            return store.read(lambda transaction: transaction.get("Thing", "a").updated)

        changes = (
            "ALTER TABLE objects ALTER COLUMN acl TYPE varchar",
            "ALTER TABLE objects ALTER COLUMN acl TYPE text",
        )
        for change in changes:
            self.assertEqual(look(), 1)
            run(self.url, change)
            self.assertEqual(look(), 1)
            store.write(lambda transaction: transaction.update("Thing", transaction.get("Thing", "a", lock=True)))
        for forget in ("DEALLOCATE ALL", "DISCARD ALL"):
            with self.subTest(forget):
                with store._pool.connection() as connection:
                    connection.wire.command(forget.encode())
                self.assertEqual(look(), 1)
                store.write(lambda transaction: transaction.update("Thing", transaction.get("Thing", "a", lock=True)))

    def test_settings_of_a_database_that_we_rely_upon_are_ours(self):
        wanted = {
            "client_encoding": ("LATIN1", "UTF8"),
            "default_transaction_isolation": ("repeatable read", "read committed"),
            "standard_conforming_strings": ("off", "on"),
            "gin_fuzzy_search_limit": ("1", "0"),
            "timezone": ("Asia/Shanghai", "Asia/Shanghai"),  # nothing of ours depends on it
        }
        for name, (theirs, _) in wanted.items():
            run(self.url, f"ALTER DATABASE {self.name} SET {name} = '{theirs}'")
        store = open_store(self.url)
        self.addCleanup(store.close)
        for name, (_, ours) in wanted.items():
            with self.subTest(name):
                self.assertEqual(store.read(lambda transaction: transaction.execute("SELECT current_setting(?)", [name])), [(ours,)])  # noqa: B023
        body = {"中文": "é😀"}
        store.write(lambda transaction: transaction.insert("Thing", Row("a", 1, 1, None, body)))
        self.assertEqual(store.read(lambda transaction: transaction.get("Thing", "a")).body, body)

    def test_encoding_without_most_characters_is_refused_in_one_line(self):
        for encoding, is_good in (("LATIN1", False), ("EUC_CN", False), ("SQL_ASCII", True)):
            with self.subTest(encoding):
                name = f"{self.name}_{encoding.lower()}"
                run(self.server, f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
                self.addCleanup(run, self.server, f"DROP DATABASE {name} WITH (FORCE)")
                url = self.server.rsplit("/", 1)[0] + "/" + name
                if is_good:
                    store = open_store(url)
                    store.write(lambda transaction: transaction.insert("Thing", Row("a", 1, 1, None, {"中": "é😀"})))
                    self.assertEqual(store.read(lambda transaction: transaction.get("Thing", "a")).body, {"中": "é😀"})
                    store.close()
                else:
                    self.assertRaisesRegex(ValueError, f"^the database cannot be used: its encoding is {encoding}, and it has to be UTF8", open_store, url)


class NewsTest(unittest.TestCase):
    def test_calls_of_a_batch_say_once_that_the_store_is_away(self):
        with tempfile.TemporaryDirectory() as folder:
            storage = Storage(folder)
            self.addCleanup(storage.stop)
            requests = [{"method": "GET", "path": "/1.1/classes/Thing"}] * 50
            with mock.patch.object(batch, "_answer", side_effect=StoreUnavailable("gone")), redirect_stderr(io.StringIO()) as said:
                answers = storage.request("POST", "/batch", {"requests": requests})[1]
        self.assertEqual({answer["error"]["code"] for answer in answers}, {503})
        self.assertEqual(said.getvalue(), "the store is not available: gone\n")


if __name__ == "__main__":
    unittest.main()
