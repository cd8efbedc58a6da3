"""The command line: what it makes and what it does not, and mistakes of an operator that end in one line."""

import io
import os
import stat
import subprocess
import sys
import unittest
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from leanstorage import keys as key_files
from leanstorage.__main__ import main
from tests.leanstorage.storage_support import StorageTestCase

KEYS = {variable: f"{name}-0123456789" for name, variable in key_files.NAMES.items()}
ROW = '{"objectId": "5c710c95c05a807a4d9d7101", "n": 1}\n'


class CommandsTest(StorageTestCase):
    def setUp(self):
        super().setUp()
        self.data = self.folder / "data"
        umask = os.umask(0o022)
        self.addCleanup(os.umask, umask)

    def run_command(self, *arguments, **environment):
        """(exit code, all that was printed)."""
        out = io.StringIO()
        kept = {name: value for name, value in os.environ.items() if name not in KEYS}
        variables = {**kept, "LEANSTORAGE_DATA": str(self.data), **environment}
        with redirect_stdout(out), redirect_stderr(out):
            code = main([str(argument) for argument in arguments], variables)
        self.assertNotIn("Traceback", out.getvalue())
        return code, out.getvalue()

    def post(self):
        path = self.folder / "in" / "Post.0.jsonl"
        path.parent.mkdir()
        path.write_text(ROW)
        return path.parent

    def test_commands_that_make_nothing_say_that_there_is_none(self):
        for environment in ({}, KEYS):
            for arguments in (
                ["export", self.folder / "out"],
                ["permissions", "Post"],
                ["permissions", "Post", "--database", f"sqlite:///{self.folder}/nonexist/x.db"],
                ["index", "Post", "n"],
                ["outbox"],
                ["migrate", "--from", f"sqlite:///{self.folder}/none.db", "--to", f"sqlite:///{self.folder}/to.db"],
            ):
                with self.subTest(arguments=arguments, keys=bool(environment)):
                    code, text = self.run_command(*arguments, **environment)
                    self.assertEqual((code, text.count("\n")), (1, 1), text)
                    self.assertIn("there is no ", text)
                    self.assertEqual(list(self.folder.iterdir()), [])

    def test_commands_that_make_a_database_make_it_for_its_owner_alone(self):
        source = self.post()
        self.assertEqual(self.run_command("import", source, **KEYS)[0], 0)
        self.assertEqual(stat.S_IMODE(self.data.stat().st_mode), 0o700)
        self.assertFalse((self.data / "keys.json").exists())
        elsewhere = self.folder / "elsewhere"
        self.assertEqual(self.run_command("import", source, "--database", f"sqlite:///{elsewhere}/x.db", **KEYS)[0], 0)
        self.assertEqual(stat.S_IMODE(elsewhere.stat().st_mode), 0o700)
        self.assertEqual(os.umask(0o022), 0o022)  # what called main() keeps its own

    def test_export_without_keys_or_of_an_empty_database_is_refused(self):
        self.assertEqual(self.run_command("import", self.post(), **KEYS)[0], 0)
        code, text = self.run_command("export", self.folder / "out")
        self.assertEqual(code, 1)
        self.assertIn("there are no keys in", text)
        self.start("empty")
        url = f"sqlite:///{self.folder}/empty/leanstorage.db"
        code, text = self.run_command("export", self.folder / "out", "--database", url, **KEYS)
        self.assertEqual((code, text), (1, "cannot go on: nothing was exported: the database is empty\n"))
        self.assertFalse((self.folder / "out").exists())
        self.assertEqual(self.run_command("export", self.folder / "out", **KEYS)[0], 0)

    def test_import_that_found_nothing_fails_and_an_empty_class_is_something(self):
        (self.folder / "nothing").mkdir()
        (self.folder / "nothing" / "Post.0.jsonl").touch()
        code, text = self.run_command("import", self.folder / "nothing")
        self.assertEqual(code, 1)
        self.assertIn(f"failed: nothing that could be imported is in {self.folder / 'nothing'}", text)
        (self.folder / "nothing" / "Post.0.jsonl").write_text('#filetype:JSON-streaming {"type":"Class","class":"Post"}\n')
        self.assertEqual(self.run_command("import", self.folder / "nothing")[0], 0)

    def test_names_that_are_no_files_are_refused_before_anything_is_made(self):
        folder = self.post()
        link = "https://host.example/export.tar.gz?token=1"
        for arguments, code, said in (
            (["import", link], 2, f"{link} is a link: download it first"),
            (["import", "", str(folder)], 2, "there is no file with an empty name\n"),
            (["import", str(folder), "nowhere"], 2, "there is no nowhere\n"),
            (["import", str(folder), "--refused", str(folder)], 1, f"{folder} is there already: name another file with --refused\n"),
            (["leave", "--from", "http://127.0.0.1:1", "--export", link], 2, f"{link} is a link"),
            (["leave", "--from", "http://127.0.0.1:1", "--export", ""], 2, "there is no file with an empty name\n"),
        ):
            with self.subTest(arguments):
                found, text = self.run_command(*arguments)
                self.assertEqual(found, code, text)
                self.assertIn(said, text)
                self.assertFalse((self.data / "leanstorage.db").exists())
        self.assertEqual(self.run_command("import", folder)[0], 0)
        self.assertEqual(self.run_command("import-files", ""), (2, "there is no folder \n"))

    def test_backup_that_is_imported_is_refused_with_what_restores_it(self):
        self.assertEqual(self.run_command("import", self.post())[0], 0)
        self.assertEqual(self.run_command("backup", self.folder / "backups")[0], 0)
        code, text = self.run_command("import", self.folder / "backups")
        self.assertEqual(code, 1)
        self.assertIn("a database, no export: restore takes in a backup", text)

    def test_what_the_terminal_cannot_show_is_shown_by_its_number(self):
        path = self.folder / "Post.0.jsonl"
        path.write_text('{"objectId": "评论😀"}\n', encoding="utf-8")
        environment = {**os.environ, "LEANSTORAGE_DATA": str(self.data), "PYTHONIOENCODING": "gbk"}
        command = [sys.executable, "-m", "leanstorage", "import", str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
        said = done.stdout.decode("gbk")
        self.assertIn("Invalid objectId: '评论\\U0001f600'", said)
        self.assertIn("read 1, imported 0", said)

    def test_shell_without_the_keys_is_refused_with_one_line_until_they_are_adopted(self):
        source = self.post()
        self.assertEqual(self.run_command("import", source, **KEYS)[0], 0)
        there = ["--from", "http://127.0.0.1:9"]
        for arguments in (
            ["serve", "--port", "0"],
            ["import", source],
            ["pull", *there],
            ["leave", *there],
            ["export", self.folder / "out"],
            ["env"],
        ):
            code, text = self.run_command(*arguments)
            self.assertEqual(code, 1)
            self.assertEqual(text.count("this database belongs to another master key: set LEANCLOUD_APP_MASTER_KEY"), 1)
            self.assertEqual(len(text.splitlines()), 2 if arguments[0] == "serve" else 1, text)  # new keys were generated
        self.assertEqual(self.run_command("import", source, **KEYS)[0], 0)
        self.assertEqual(self.run_command("adopt-keys"), (0, ""))
        self.assertEqual(self.run_command("import", source)[0], 0)
        self.assertEqual(self.run_command("import", source, **KEYS)[0], 1)

    def test_postgresql_without_psycopg_is_one_line_that_names_what_to_install(self):
        missing = {"psycopg": None, "leanstorage.store.postgresql.store": None}
        for arguments in (["import", self.post()], ["export", self.folder / "out"], ["outbox"], ["serve", "--port", "0"]):
            with self.subTest(arguments[0]), mock.patch.dict(sys.modules, missing):
                sys.modules.pop("leanstorage.store.postgresql.store")
                code, text = self.run_command(*arguments, "--database", "postgresql://nobody@localhost/none", **KEYS)
                self.assertEqual((code, text.count("\n")), (1, 1), text)
                self.assertIn("pip install --no-deps -r requirements-server.txt", text)


if __name__ == "__main__":
    unittest.main()
