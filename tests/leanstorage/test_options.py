"""The command line's options: what is refused before anything starts, and in how many words."""
import io
import subprocess
import tempfile
import unittest
from contextlib import redirect_stderr

from leanstorage import VERSION
from leanstorage.__main__ import parser
from leanstorage.options import service_options
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
)


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
        known = {option for option, _ in REFUSED}
        # Said at the start, by those who use them.
        open_ended = {"--database", "--files", "--host", "--smtp", "--mail-from", "--mail-texts"}
        open_ended |= {"--auth-provider", "--sms-command", "--sms-url", "--sms-templates", "--sms-signs"}
        [commands] = [action for action in parser()._actions if getattr(action, "choices", None)]
        for action in commands.choices["serve"]._actions:
            if action.nargs != 0:
                self.assertIn(action.option_strings[0], known | open_ended)

    def test_place_that_cannot_be_used_stops_the_start_with_one_line(self):
        keys = {f"LEANCLOUD_APP_{name}": "k" for name in ("ID", "KEY", "MASTER_KEY", "HOOK_KEY")}
        rows = (
            (["--host", "nonsense.invalid"], "--host must be an address of this machine"),
            (["--host", "192.0.2.1"], "--host must be an address of this machine"),
            (["--database", "nonsense"], "the database must be sqlite:///PATH or postgresql://..."),
            (["--database", "sqlite:///"], "the database must be sqlite:///PATH or postgresql://..."),
            (["--files", "http://x"], "files lie in a folder or at s3://BUCKET/PREFIX"),
        )
        for arguments, expected in rows:
            with self.subTest(arguments), tempfile.TemporaryDirectory() as data:
                command = python("-m", "leanstorage", "serve", "--port", "0", *arguments)
                environment = clean_environment(LEANSTORAGE_DATA=data, **keys)
                done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertRegex(done.stderr, r"\Acannot start: [^\n]+\n\Z")
                self.assertIn(expected, done.stderr)

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
            ("migrate --from a --to b", {"source": "a", "target": "b"}),
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


if __name__ == "__main__":
    unittest.main()
