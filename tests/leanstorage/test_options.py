"""The command line's options: what is refused before anything starts, and in how many words."""
import io
import os
import subprocess
import tempfile
import unittest
from contextlib import redirect_stderr
from unittest import mock

from leanstorage import __main__ as command_line
from leanstorage import VERSION
from leanstorage.__main__ import parser
from leanstorage.options import service_options
from tests.leanstorage.storage_support import run_here
from tests.processes import KEYS
from tests.support import ROOT, clean_environment, python

REFUSED = (
    ("--engine", "localhost:3000"),
    ("--engine", "http://x?y"),
    ("--public-url", "api.example.com"),
    ("--public-url", "http://user:secret@x"),
    ("--files-url", "files.example.com"),
    ("--trusted-proxy", "nonsense"),
    ("--trusted-proxy", ""),
    ("--trust-auth", "weixin;qq"),
    ("--port", "70000"),
    ("--threads", "0"),
    ("--threads", "many"),
    ("--processes", "-1"),
    ("--max-upload-bytes", "1e9"),
    ("--max-body-bytes", "0"),
    ("--max-bytes-per-address", "-1"),
    ("--max-json-depth", "5"),
    ("--query-seconds", "nan"),
    ("--query-seconds", "-1"),
    ("--max-requests", "-1"),
    ("--sign-max-age", "0"),
    ("--role-create", "everybody"),
    ("--class-create", ""),
    ("--admin", "localhost"),
    ("--admin", "127.0.0.1:99999"),
    ("--log-format", "xml"),
    ("--log-slow", "-1"),
    ("--sms-per-address", "0"),
    ("--sms-per-day", "many"),
    ("--database", ""),
    ("--database", "nonsense"),
    ("--database", "sqlite:///"),
    ("--database", "mysql://user:secret@x/y"),
    ("--database", "postgresql://user:secret@[/x"),
    ("--database", "postgresql://user:secret@x:70000/y"),
    ("--files", " "),
    ("--files", "http://x"),
    ("--files", "s3://"),
    ("--files", "s3://a b"),
    ("--host", ""),
    ("--host", "http://x"),
    ("--host", "127.0.0.1:80"),
    ("--admin", "http://x:0"),
    ("--admin", "x:80:80"),
    ("--trust-auth", ""),
)
# (options, what is said): what only shows with the others, or with the environment.
UNFIT = (
    (["--auth-provider", "nonsense"], "--auth-provider must be NAME=KIND"),
    (["--auth-provider", "x=oidc@http://example.com"], "--auth-provider x: LEANSTORAGE_AUTH_X_ID is not in the environment"),
    (["--auth-provider", "weixin=weixin@https://["], "--auth-provider: a URL must be"),
    (["--auth-provider", "weixin=weixin", "--auth-provider", "weixin=weixin"], "a name comes twice"),
    (["--sms-command", " "], "--sms-command must be"),
    (["--sms-url", "http://x:99999"], "--sms-url: a URL must be"),
    (["--sms-url", "http://example.com"], "--sms-url: a URL must be"),
    (["--sms-url", "https://user:secret@["], "--sms-url: a URL must be"),
    (["--sms-url", "https://example.com"], "--sms-url needs LEANSTORAGE_SMS_SECRET"),
    (["--sms-url", "https://example.com", "--sms-command", "x"], "it takes one"),
    (["--sms-command", "x", "--sms-templates", ","], "--sms-templates must be"),
    (["--sms-command", "x", "--sms-signs", ""], "--sms-signs must be"),
    (["--sms-templates", "a"], "they need --sms-command or --sms-url"),
    (["--smtp", "", "--mail-from", "a@b.c"], "--smtp must be"),
    (["--smtp", "http://x", "--mail-from", "a@b.c"], "--smtp must be"),
    (["--smtp", "smtp://user:secret@x:99999", "--mail-from", "a@b.c"], "--smtp must be"),
    (["--smtp", "smtp://user:secret@[", "--mail-from", "a@b.c"], "--smtp must be"),
    (["--smtp", "smtp://x"], "--smtp needs --mail-from"),
    (["--smtp", "smtp://x", "--mail-from", "a@b\nc"], "--smtp needs --mail-from"),
    (["--mail-from", "a@b.c"], "it needs --smtp"),
    (["--mail-texts", ""], "--mail-texts must be"),
    (["--mail-texts", "/nonexistent"], "--mail-texts: /nonexistent/reset.txt cannot be read"),
    (["--processes", "2"], "several processes need a database"),
)


def serve(data, *arguments):
    command, environment = python("-m", "leanstorage", "serve", "--port", "0", *arguments), clean_environment(LEANSTORAGE_DATA=data, **KEYS)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)


def serve_here(data, *arguments):
    """For what is refused before anything is opened."""
    return run_here("serve", "--port", "0", *arguments, LEANSTORAGE_DATA=data, **KEYS)


class RefusedTest(unittest.TestCase):
    def test_option_that_cannot_be_meant_stops_the_start_with_one_line_that_names_it(self):
        for option, value in REFUSED:
            said = io.StringIO()
            with self.subTest(option=option, value=value), redirect_stderr(said):
                with self.assertRaises(SystemExit) as caught:
                    parser().parse_args(["serve", f"{option}={value}"])
            self.assertEqual(caught.exception.code, 2)
            self.assertRegex(said.getvalue(), rf"\Apython -m leanstorage serve: argument {option}: [^\n]+\n\Z")
            self.assertNotIn("secret", said.getvalue())

    def test_every_option_of_serve_that_takes_a_value_is_checked(self):
        known = {option for option, _ in REFUSED} | {arguments[-2] for arguments, _ in UNFIT}
        [commands] = [action for action in parser()._actions if getattr(action, "choices", None)]
        for action in commands.choices["serve"]._actions:
            if action.nargs != 0:
                self.assertIn(action.option_strings[0], known)

    def test_options_that_do_not_go_together_stop_the_start_before_anything_is_there(self):
        for arguments, expected in UNFIT:
            said = io.StringIO()
            with self.subTest(arguments), tempfile.TemporaryDirectory() as data, redirect_stderr(said):
                variables = {**os.environ, "LEANSTORAGE_DATA": data, **KEYS}
                with mock.patch.object(command_line, "listen", side_effect=AssertionError):
                    self.assertEqual(command_line.main(["serve", *arguments], variables), 1)
                self.assertEqual(os.listdir(data), [])
            self.assertRegex(said.getvalue(), r"\Acannot start: [^\n]+\n\Z")
            self.assertIn(expected, said.getvalue())
            self.assertNotIn("secret", said.getvalue())

    def test_place_that_cannot_be_used_stops_the_start_with_one_line(self):
        rows = (
            (serve_here, ["--host", "nonsense.invalid"], "--host must be an address of this machine"),
            (serve_here, ["--host", "192.0.2.1"], "--host must be an address of this machine"),
            (serve_here, ["--database", "sqlite:////"], "unable to open database file: sqlite:////"),
            (serve_here, ["--database", f"sqlite:///{__file__}"], f"file is not a database: sqlite:///{__file__}"),
            (serve, ["--database", "postgresql://u:secret@127.0.0.1:1/x"], "the database cannot be opened: "),
            (serve, ["--files", "/dev/null/x"], "/dev/null/x"),
            (serve, ["--files", "/proc"], "a file cannot be written"),
            (serve, ["--admin", "nonsense.invalid:9"], "--admin"),
        )
        for run, arguments, expected in rows:
            with self.subTest(arguments), tempfile.TemporaryDirectory() as data:
                done = run(data, *arguments)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertRegex(done.stderr, r"\Acannot start: [^\n]+\n\Z")
                self.assertIn(expected, done.stderr)
                self.assertNotIn("secret", done.stderr)

    def test_folder_of_the_data_that_is_none_stops_the_start_with_one_line(self):
        for place, expected in (("http://x", "LEANSTORAGE_DATA must be a folder"), ("/dev/null/x", "/dev/null/x"), (__file__, __file__)):
            done = serve_here(place)
            with self.subTest(place):
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertRegex(done.stderr, r"\Acannot start: [^\n]+\n\Z")
                self.assertIn(expected, done.stderr)

    def test_keys_are_not_generated_for_a_start_that_is_refused(self):
        with tempfile.TemporaryDirectory() as data:
            command = python("-m", "leanstorage", "serve", "--port", "0", "--host", "0.0.0.0")
            done = subprocess.run(command, cwd=ROOT, env=clean_environment(LEANSTORAGE_DATA=data), capture_output=True, text=True, timeout=30)
            self.assertEqual((done.returncode, os.listdir(data)), (1, []))
            self.assertRegex(done.stderr, r"\Acannot start: beyond loopback [^\n]+\n\Z")

    def test_key_that_would_be_cut_on_the_wire_stops_the_start_without_being_repeated(self):
        keys = {f"LEANCLOUD_APP_{name}": "secret,x" for name in ("ID", "KEY", "MASTER_KEY", "HOOK_KEY")}
        command = python("-m", "leanstorage", "serve", "--port", "0")
        done = subprocess.run(command, cwd=ROOT, env=clean_environment(**keys), capture_output=True, text=True, timeout=30)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"\ALEANCLOUD_APP_ID must be a key[^\n]+\n\Z")


class GivenTest(unittest.TestCase):
    def test_options_are_those_that_were_given(self):
        given = parser().parse_args(
            ["serve", "--engine", "http://localhost:3000/", "--trusted-proxy", "10.0.0.1, 0::1", "--trust-auth", "qq,weixin"]
        )
        self.assertEqual((given.engine, given.trusted_proxy), ("http://localhost:3000", {"10.0.0.1", "::1"}))
        self.assertEqual(service_options(given).trusted_providers, {"anonymous", "qq", "weixin"})

    def test_commands_that_move_data_take_what_they_are_given(self):
        rows = (
            ("import a b --dry-run --rotate-sessions --class C", {"export": ["a", "b"], "dry_run": True, "rotate_sessions": True, "class_name": "C"}),
            ("import a --repair --rewrite-urls x=y --rewrite-urls z=w", {"repair": True, "rewrite_urls": ["x=y", "z=w"], "dry_run": False}),
            ("pull --from U --max-calls 5 --wait --parallel 3", {"source": "U", "max_calls": 5, "wait": True, "parallel": 3, "files": None}),
            ("pull --from U --repair --class C --delete --refused r --files", {"repair": True, "classes": ["C"], "delete": True, "refused": "r", "files": ""}),
            ("leave --from U --export f --again --email a@b", {"export": "f", "again": True, "email": "a@b", "repair": False, "wait": False}),
            ("import-files d --refused r", {"folder": "d", "refused": "r"}),
            ("export d --files f", {"folder": "d", "files": "f"}),
            ("migrate --from sqlite:///a --to postgresql://b/c", {"source": "sqlite:///a", "target": "postgresql://b/c"}),
            ("rewrite a=b c=d --class C --class D", {"urls": ["a=b", "c=d"], "classes": ["C", "D"], "apply": False}),
            ("rewrite a=b --apply", {"urls": ["a=b"], "classes": [], "apply": True}),
        )
        for line, wanted in rows:
            with self.subTest(line):
                given = vars(parser().parse_args(line.split()))
                self.assertEqual({name: given[name] for name in wanted}, wanted)

    def test_listener_of_the_operator_is_on_loopback_unless_it_is_said_otherwise(self):
        for text, expected in (("9100", ("127.0.0.1", 9100)), ("10.0.0.1:9100", ("10.0.0.1", 9100)), ("[::1]:0", ("::1", 0))):
            with self.subTest(text):
                self.assertEqual(parser().parse_args(["serve", "--admin", text]).admin, expected)

    def test_version_is_told(self):
        done = subprocess.run(python("-m", "leanstorage", "--version"), cwd=ROOT, capture_output=True, text=True, timeout=30)
        self.assertEqual((done.returncode, done.stdout), (0, f"leanstorage {VERSION}\n"))


class ShownTest(unittest.TestCase):
    def test_url_is_shown_without_any_password(self):
        rows = (
            ("sqlite:////a/b.db", "sqlite:////a/b.db"),
            ("postgresql://u:secret@h/n", "postgresql://***@h/n"),
            ("postgresql://u:s@cret@h/n", "postgresql://***@h/n"),
            ("postgresql://h/n?user=u&password=secret", "postgresql://h/n?user=u&password=***"),
            ("postgresql://u:secret@h/n?password=secret&sslmode=require", "postgresql://***@h/n?password=***&sslmode=require"),
            ("postgresql://h/n?sslkey=k&sslpassword=secret", "postgresql://h/n?sslkey=k&sslpassword=***"),
        )
        for url, shown in rows:
            with self.subTest(url):
                self.assertEqual(command_line._without_password(url), shown)


if __name__ == "__main__":
    unittest.main()
