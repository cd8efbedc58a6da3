"""Every command of the documents, run as it stands there, against services on free ports.

A command is a line of a `sh` block, or a text in code that looks like one (`commands`). Placeholders are filled in by
PLACES. What cannot run here, or not to its end, is in OTHERWISE, with how it is looked at instead, and why. There is no
third way: a command that is in no list and fails when it is run fails the test, and so does an entry that no document
needs.
"""
import argparse
import ast
import contextlib
import http.client
import importlib.util
import io
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import requests

from leanengine.settings import KEYS, read_settings
from leanstorage import __main__ as command_line
from docs import reference
from leanstorage.resources import mail
from leanstorage.store import now, open_store
from leanstorage.takeout import exporter
from tests.leanstorage.service_support import SERVER, open_database
from tests.leanstorage.storage_support import Storage
from tests.support import ROOT, clean_environment, free_port, python, running, until
from tests.repository import test_flask_recipe, test_make_it_yours
from tests.repository.test_recipes import BLOCK, TUTORIAL, carry_out

READERS_DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
TRANSLATIONS = sorted([ROOT / "README.zh-CN.md", *(ROOT / "docs").glob("*.zh-CN.md")])
# Pages that a test of their own carries out, with the blocks that it finds in them.
OTHER_RECIPES = {"after-leancloud.md": test_flask_recipe.BLOCK, "make-it-yours.md": test_make_it_yours.BLOCK}
# Blocks that test_proxies, test_timers and test_partitions find and run.
FOLLOWED = {("deploying.md", "caddy"), ("leaving-leancloud.md", "ini"), ("scaling.md", "sql")}
DESTRUCTIVE = ("make-it-yours.md",)  # its commands delete files of the tree: its own test has a copy for each section
FENCE = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
WHOLE = re.compile(r"^\((?:.*\n)*?.*\)$|^.+$", re.MULTILINE)  # a line, or several in parentheses
COMMAND_SECONDS = 20
PROGRAM = re.compile(r"[a-z.][a-z0-9_./-]*")
LONE_PROGRAMS = frozenset("bash curl docker gunicorn lean make npm pg_dump pip psql python sqlite3".split())  # one word
STORAGE_COMMANDS = frozenset(name for name, _, _ in reference._commands())
# What looks like a command and is none.
TEXTS = {
    "kill -9": "what happens to a process, not what a reader does",
    "rows with a field 'error'": "what an import says",
    "users with a … account": "what an import says",
    "starting again": "what the app says",
    "client_max_body_size 100m": "a line of nginx",
    "proxy_read_timeout 60s": "a line of nginx",
    "php -S": "PHP's own server",
    "users who keep the password or session that they have here": "what an import says",
    "users have no password here": "what a pull says",
    "here now": "a column of the table of an import",
    "name =x": "a cookie",
    "sudo leanstorage": "what stands before the commands on a server",
    "python -m leanstorage": "what stands before the commands elsewhere",
}


# What there is in a document ----------------------------------------------------------------------------------------


def commands(text, name=""):
    """The commands of a document without comments: of its blocks, then those within sentences.

    `a && b` are two, what is in parentheses is one. In a crontab the time is left out.
    """
    text = _advice(text) if name == "troubleshooting.md" else text
    text = re.sub(r"<!-- path -->.*?<!-- end of path -->", "", text, flags=re.DOTALL)  # test_proxies walks it
    found = []
    for _, language, block in FENCE.findall(text):
        if language in ("sh", "crontab"):
            block = re.sub(r"(^|\s)#.*", "", block.replace("\\\n", " "), flags=re.MULTILINE)
            block = re.sub(r"^ *(\S+ ){5}", "", block, flags=re.MULTILINE) if language == "crontab" else block
            for line in WHOLE.findall(block):
                found += [line] if line.startswith("(") else line.split(" && ")
    found += filter(looks_like_a_command, SPAN.findall(FENCE.sub("", text)))
    return [command.strip() for command in found if command.strip()]


def _advice(text):
    """A document without the first cells of its tables: in troubleshooting.md they hold what programs say."""
    return re.sub(r"^\|[^|]*\|", "|", text, flags=re.MULTILINE)


def looks_like_a_command(span):
    words = re.sub(r"^([A-Z_]+=\S* +)+", "", span).split()
    if len(words) == 1:
        return words[0] in LONE_PROGRAMS or words[0].startswith("--")
    return span not in TEXTS and words[1] != "=" and bool(PROGRAM.fullmatch(words[0]) or words[0].startswith("--"))


# Those that follow a document ---------------------------------------------------------------------------------------


class Reader:
    """Somebody with a shell in a copy of this repository: its variables, and what was started and goes on."""

    def __init__(self, case, data):
        self.case, self.data = case, Path(data)
        self.tree, self.stack = case.tree, contextlib.ExitStack()
        self.environment = {
            **clean_environment(LEANSTORAGE_DATA=self.data, HOME=case.folder, NO_PROXY="127.0.0.1"),
            "USER": str(os.getuid()),  # an id will do for a name, which it may not have here
            "PYTHONDONTWRITEBYTECODE": "",  # a hundred processes would compile the tree, each for itself
            "PATH": f"{case.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def run(self, command, folder=None, code=0):
        """What a command says; its `export`s are kept. Fails unless it ends with the code."""
        for program in re.findall(r"(?:^|[(|;&])\s*(curl|make)\b", command, re.MULTILINE):
            if shutil.which(program) is None:
                self.case.skipTest(f"{program} is not installed")
        kept = self.data / ".environment"
        keeps = command.startswith(("export ", "eval "))
        script = f"{command}\nenv -0 >{shlex.quote(str(kept))}" if keeps else command
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder or self.tree,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                said, _ = process.communicate(timeout=COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                self.case.fail(f"{command}\ndoes not end")
        self.case.assertEqual(process.returncode, code, f"{command}\n{said[-2000:]}")
        if keeps:
            self.environment = dict(one.split("=", 1) for one in kept.read_text().split("\0") if one)
        return said

    def start(self, command, ready):
        """Start a server, ask it, and end it, or leave it there where the command does (`&`)."""
        variables = {**self.environment, "LEANCLOUD_APP_PORT": free_port()}
        server = running(["bash", "-c", command.removesuffix("&")], ready, self.tree, **variables)
        if command.endswith("&"):
            return answers(self.stack.enter_context(server))
        with server as process:
            answers(process)
        self.case.assertEqual(process.returncode, 0, command)

    def follow(self, text, name=""):
        """Check every command of a document that nobody checked yet; what its blocks export holds for the document."""
        with self.stack:
            for command in commands(text, name):
                with self.case.subTest(document=name, command=command):
                    self.check(command)

    def check(self, command):
        is_shells = re.match("export .*=", command)
        is_short = command.split()[0] in STORAGE_COMMANDS and not is_shells
        whole = f"python -m leanstorage {command}" if is_short else command
        if whole in self.case.checked and not whole.startswith(("export ", "eval ")):
            return
        self.case.checked.add(whole)
        for pattern, look, _ in OTHERWISE:
            if re.fullmatch(pattern, whole) or re.fullmatch(pattern, command):
                self.case.used.add(pattern)
                return look(self, self.filled(whole))
        return self.run(self.filled(whole))

    def filled(self, command):
        """A command with values in the place of its placeholders."""
        for pattern, value in PLACES:
            if re.search(pattern, command):
                command = re.sub(pattern, lambda _, value=value: value(self), command)
        return command

    def folder(self):
        return Path(tempfile.mkdtemp(dir=self.data))

    def database(self):
        """The URL of an empty database of the kind that is tested on."""
        if SERVER:
            url, drop = open_database(self.data)
            self.case.addCleanup(drop)
            return url
        return f"sqlite:///{self.folder()}/copy.db"


def answers(process):
    """A server answers at the address that it says it has."""
    port = int(re.search(r"http://\S+?:([0-9]+)", process.output)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        assert connection.getresponse().status < 500
    finally:
        connection.close()


# What a placeholder stands for: the first that fit are filled in first.
PLACES = (
    (r"https://YOUR-API-DOMAIN", lambda reader: reader.case.source.url),
    (r"(?<=curl -F file=@picture\.png )\.\.\.", lambda reader: reader.case.upload),
    (r"http://(127\.0\.0\.1|localhost):3000", lambda reader: reader.case.app),
    (r"redis://127\.0\.0\.1:6379", lambda _: f"redis://127.0.0.1:{free_port()}"),
    (r"(?<=LEANCLOUD_APP_PORT=)3001", lambda _: str(free_port())),
    (r"/srv/backups", lambda reader: f"{reader.data}/backups"),
    (r"/srv/restored", lambda reader: f"{reader.data}/restored"),
    (r"/srv/leanstorage", lambda reader: str(reader.data)),
    (r"/srv/leanwsgi", lambda reader: str(reader.tree)),
    (r"\.venv/bin/python", lambda _: "python"),
    (r"(?<=_ID=)\.\.\.", lambda reader: reader.case.source.keys["id"]),
    (r"(?<=MASTER_KEY=)\.\.\.", lambda reader: reader.case.source.keys["master_key"]),
    (r"(?<=HOOK_KEY=)\.\.\.", lambda reader: reader.case.source.keys["hook_key"]),
    (r"(?<=APP_KEY=)\.\.\.", lambda reader: reader.case.source.keys["key"]),
    (r"(?<=pull )\.\.\.", lambda reader: f"--from {reader.case.source.url} --files"),
    (r"(?<=pull --from )URL", lambda reader: reader.case.source.url),
    (r"(?<=leave --from )URL", lambda reader: f"{reader.case.source.url} --export export.tar.gz"),  # it makes no export
    (r"(?<=import-files )DIR", lambda reader: str(reader.data)),
    (r"OLD=NEW\.\.\.", lambda _: "https://old.lcfile.com=https://files.example.com"),
    (r"(?<=migrate --from )(URL|sqlite:///\.\.\.)", lambda reader: f"sqlite:///{reader.data}/leanstorage.db"),
    (r"(?<=--to )(URL|postgresql://\.\.\.)", lambda reader: reader.database()),
    (r"(?<=serve --database )postgresql://\.\.\.", lambda reader: reader.database()),
    (r"s3://(\.\.\.|BUCKET/PREFIX)", lambda _: "s3://bucket/prefix"),
    (r"EXPORT\.\.\.", lambda _: "export.tar.gz"),
    (r"(?<=--processes )N\b", lambda _: "2"),
    (r"\[CLASS\]", lambda _: "Post"),
    (r"ACTION \[USER\]", lambda _: "find"),
    (r"\bCLASS\b", lambda _: "Post"),
    (r"\[?\bKEY\.\.\.\]?", lambda _: "number"),
    (r"\bDIR\b", lambda reader: str(reader.folder() / "new")),
    (r"\bCOMMAND\b", lambda _: "import"),
)


# How a command is looked at that cannot run as it stands ------------------------------------------------------------


def as_text(reader, command):
    """Nothing can be tried: that the command is one of those in the list is all."""


def parsed_by_pip(reader, command):
    """pip's own parser takes the options, and the files are there."""
    from pip._internal.commands import create_command  # a process for each would take seconds

    _, verb, *words = shlex.split(command)
    parse(reader, create_command(verb), words)
    for name in re.findall(r"-r (\S+)", command):
        reader.case.assertTrue((ROOT / name).is_file(), name)


def parsed_by_storage(reader, command):
    words = shlex.split(command)
    parse(reader, command_line.parser(), words[words.index("leanstorage") + 1 :])


def parse(reader, parser, words):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parser.parse_args(words)
    except SystemExit:
        reader.case.fail(said.getvalue())


def option_of_storage(reader, command):
    """An option is one of the command named, else of some command, and takes a value where the document gives one."""
    words = command.removeprefix("python -m leanstorage ").split()
    wanted = None if words[0].startswith("-") else words.pop(0)
    for name, parser, _ in reference._commands():
        action = parser._option_string_actions.get(words[0])
        if wanted in (None, name) and action is not None and (action.nargs != 0 or not words[1:]):
            return
    reader.case.fail(f"there is no such option: {command}")


class Parsed(Exception):
    """A script has read its command line: it need not go on."""


def parsed_by_script(reader, command):
    """The script is run until it has parsed its arguments; one that takes none only has to load."""
    words = shlex.split(command)
    script = ROOT / next(word for word in words if word.endswith(".py"))
    arguments = words[words.index(str(script.relative_to(ROOT))) + 1 :]
    parse_args = argparse.ArgumentParser.parse_args

    def stop(parser, *given):
        parse_args(parser, *given)
        raise Parsed

    reader.case.assertTrue(script.is_file(), command)
    has_parser = "argparse" in script.read_text()
    if arguments and not has_parser:
        return said_by_script(reader, command)
    said = io.StringIO()
    patches = mock.patch.object(sys, "argv", [script.name, *arguments]), mock.patch.object(sys, "path", [*sys.path])
    with patches[0], patches[1], mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            with contextlib.redirect_stderr(said):
                runpy.run_path(str(script), run_name="__main__" if has_parser else "loaded")
            reader.case.assertFalse(has_parser, command)
        except Parsed:
            pass
        except SystemExit:
            reader.case.fail(said.getvalue())


def said_by_script(reader, command):
    """A script without a parser says in its first lines what it takes."""
    words = shlex.split(command)
    at = words.index("-m") + 1 if "-m" in words else 1
    name = words[at].replace(".", "/") + ".py" if "-m" in words else words[at]
    reader.case.assertTrue((ROOT / name).is_file(), command)
    said = ast.get_docstring(ast.parse((ROOT / name).read_text()))
    usage = re.search(rf"{' '.join(words[: at + 1])}((?: [^\s`]+)+)", said)
    reader.case.assertTrue(usage, f"{command}: it takes nothing")
    given, usage = words[at + 1 :], usage[1]
    for number, wanted in enumerate(usage.strip(" .:").split()):
        reader.case.assertTrue(number < len(given) or wanted.startswith("["), f"{command}: {usage}")
        if "|" in wanted:
            reader.case.assertTrue(given[number] in wanted.split("|"), f"{command}: {usage}")
        if wanted == "SECONDS":
            reader.case.assertTrue(given[number].isdigit(), f"{command}: {usage}")
    reader.case.assertLessEqual(len(given), len(usage.split()), f"{command}: {usage}")


def tests_of(reader, command):
    """The tests named are there, and the variable set is one that they read."""
    assignments, name = re.fullmatch(r"((?:[A-Z_]+=\S+ )*)python -m unittest(?: (\S+))?", command).groups()
    if name:
        loaded = unittest.defaultTestLoader.loadTestsFromName(name)
        reader.case.assertGreater(loaded.countTestCases(), 0, command)
        reader.case.assertNotIn("_FailedTest", str(loaded))
    for variable in re.findall("([A-Z_]+)=", assignments):
        reader.case.assertIn(f'"{variable}"', Path(importlib.util.find_spec(name or "tests").origin).read_text())


def each_line_of_make(reader, command):
    for line in reader.run(f"{command} -n").splitlines():
        reader.check(line)


def served_by_app(reader, command):
    reader.start(command, "cache: ")


def served_by_storage(reader, command):
    """On a free port: the one of the document may be taken."""
    background = command.endswith("&")
    reader.start(f"{command.removesuffix('&').strip()} --port {free_port()}{'&' if background else ''}", "listens on")


def served_on_postgresql(reader, command):
    if SERVER:
        served_by_storage(reader, command)
    else:
        parsed_by_storage(reader, command)


def served_on_s3(reader, command):
    parsed_by_storage(reader, command)
    if os.environ.get("MOTO_SERVER"):
        from tests.leanstorage.test_s3_blobs import S3Case

        S3Case.setUpClass()
        try:
            reader.environment |= S3Case.environment
            served_by_storage(reader, command)
        finally:
            S3Case.doClassCleanups()


def refused_beyond_loopback(reader, command):
    keys = "".join(f"-u {name} " for name in (*KEYS, "LEANCLOUD_API_SERVER"))
    said = reader.run(f"env {keys}{command}", code=1)
    reader.case.assertIn("beyond loopback the keys must come from the environment", said)


def finds_something(reader, command):
    assert "anybody reads or changes" in reader.run(command, code=1), command


def called_through_storage(reader, command):
    """Beside the storage and the app, with the keys that the document exported: each knows the other's address."""
    app, storage = free_port(), free_port()
    known = {**reader.environment, "LEANCLOUD_APP_PORT": app, "LEANCLOUD_API_SERVER": f"http://127.0.0.1:{storage}"}
    serve = python("-m", "leanstorage", "serve", "--engine", f"http://127.0.0.1:{app}", "--port", str(storage))
    with running(python("wsgi.py"), "cache: ", reader.tree, **known), running(serve, "listens on", reader.tree, **known):
        command = command.replace(":8126/", f":{storage}/")
        said = reader.run(f"LEANCLOUD_API_SERVER={known['LEANCLOUD_API_SERVER']}\n{command}")
    reader.case.assertEqual(json.loads(said), {"result": "Hello, world!"})


def asked_of_admin(reader, command):
    """With the listener on a free port, and the storage beside it."""
    serve = python("-m", "leanstorage", "serve", "--port", "0", "--admin", "0")
    with running(serve, "health and metrics: .*\n", reader.tree, **reader.environment) as process:
        [url] = re.findall(r"health and metrics: (\S+)", process.output)
        until(lambda: requests.get(f"{url}/health", timeout=5).status_code == 200)
        reader.case.assertIn('"status":"ok"', reader.run(command.replace("http://127.0.0.1:9126", url)))


def handed_on(reader, command):
    """One e-mail waits; what a stub of sendmail was given, its arguments and the e-mail, is in a file."""
    store = open_store(f"sqlite:///{reader.data}/leanstorage.db")
    message = {"to": "ann@example.com", "subject": "Reset your password", "text": "http://127.0.0.1/"}
    store.write(lambda transaction: transaction.put_record("outbox", f"{now():014d}-1", message, now() + mail.KEPT_MS))
    store.close()
    sent = reader.case.folder / "sent"
    sent.unlink(missing_ok=True)
    reader.run(command)
    reader.case.assertRegex(sent.read_text(), r"\A-t -i -f \S+@\S+\nTo: ann@example\.com\n")


def read_by_jq(reader, command):
    if shutil.which("jq") is None:
        reader.case.skipTest("jq is not installed")
    reader.run(command)


def checked_by_gunicorn(reader, command):
    reader.run(f"{command} --check-config")


def checked_by_bash(reader, command):
    reader.run(command.replace("bash ", "bash -n ", 1))


def in_a_shell_of_its_own(reader, command):
    reader.run(f'{command}\ntest "$VIRTUAL_ENV" = "$PWD/.venv"')


def without_pip(reader, command):
    reader.run(f"{command} --without-pip")


def in_the_tree(reader, command):
    reader.run(command)


def in_the_folder_of_the_data(reader, command):
    if shutil.which(command.split()[0]) is None:
        reader.case.skipTest(f"{command.split()[0]} is not installed")
    reader.run(command, reader.data)


def dumped(reader, command):
    if SERVER and shutil.which("pg_dump"):
        reader.case.assertIn("PostgreSQL database dump", reader.run(f"{command} {reader.database()}"))


# Pattern of the whole command, how it is looked at, why it is not simply run.
OTHERWISE = (
    (r"(sudo (apt|dnf)|brew) install .*|wsl --install", as_text, "it changes the machine, and not every system has it"),
    (r"([a-z]+ )?--[a-z-]+|--[a-z-]+ .*", option_of_storage, "only an option is named"),
    (r"git clone URL .*", as_text, "the repository's address is left to the reader; .ci/bare_machines clones it"),
    (r"lean (switch|deploy|publish|env)", as_text, "LeanEngine's command line needs an account there"),
    (r"python3 -m venv \.venv", without_pip, "pip takes seconds to be put in; .ci/run makes the whole environment"),
    (r"\. \.venv/bin/activate", in_a_shell_of_its_own, "the packages are not in it"),
    (r"pip \w+ .*", parsed_by_pip, ".ci/run installs; here nothing comes from the network"),
    (r"python -m unittest tests\.app\.test_guests", in_the_tree, "the tutorial's own test is only there"),
    (r"([A-Z_]+=\S+ )*python -m unittest", tests_of, "it is what runs this"),
    (r"([A-Z_]+=\S+ )*python -m unittest \S+", tests_of, "it takes minutes"),
    (r"mypy", as_text, "test_app_changed_by_every_recipe_and_the_tutorial_passes_the_linters runs it on the same files"),
    (r"bash \.ci/(run|release)", checked_by_bash, "they take minutes, and run this or install packages"),
    (r"make \w+", each_line_of_make, "its lines are commands of their own"),
    (r"python (-W ignore )?bench/\w+\.py.*", parsed_by_script, "it takes minutes"),
    (r"python -m compat\.\w+.*", said_by_script, "it needs a checkout of an SDK"),
    (r"([A-Za-z_]+=\S+ )*python wsgi\.py", served_by_app, "it never ends: it is started and stopped"),
    (r"gunicorn .*", checked_by_gunicorn, "it never ends, and test_gunicorn_runs_the_app_over_real_http runs it"),
    (r"python -m leanstorage serve --host 0\.0\.0\.0", refused_beyond_loopback, "it is said to be refused"),
    (r"python -m leanstorage check", finds_something, "it fails where there is something to find, as there is here"),
    (r"python -m leanstorage serve .*--admin .*", parsed_by_storage, "this machine has another address, and the port may be taken"),
    (r"python -m leanstorage serve .*postgresql://.*", served_on_postgresql, "as the next; there may be no PostgreSQL"),
    (r"python -m leanstorage serve .*s3://.*", served_on_s3, "as the next; there may be no S3"),
    (r"python -m leanstorage serve(?!.*--help).*", served_by_storage, "it never ends: it is started and stopped"),
    (r"sqlite3 .*", in_the_folder_of_the_data, "it names files there"),
    (r"curl .* \$LEANCLOUD_API_SERVER/.*", called_through_storage, "it needs what the commands before it started"),
    (r"curl .* http://127\.0\.0\.1:8126/.*", called_through_storage, "it needs what the commands before it started"),
    (r"curl http://127\.0\.0\.1:9126/health", asked_of_admin, "it needs a listener, whose port may be taken"),
    (r"python -m leanstorage restore DIR.*", parsed_by_storage, "it needs a backup, and test_backup restores one"),
    (r"python -m leanstorage classes \w+ --create", parsed_by_storage, "the class is there; test_operator_commands creates one"),
    (r"python -m leanstorage users (verify|delete) \w+", parsed_by_storage, "one has no address, the other asks"),
    (r"litestream (replicate|restore) .*", as_text, "test_operating follows the recipe where Litestream is installed"),
    (r".* outbox --send .*", handed_on, "without an e-mail it would do nothing"),
    (r".* \| jq .*", read_by_jq, "there may be no jq"),
    (r"twine check", as_text, "make release installs and runs it"),
    (r"pg_dump", dumped, "the database is left to the reader"),
)


class CommandsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.checked, cls.used = set(), set()
        cls.folder = Path(tempfile.mkdtemp(prefix="documents-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.tree = cls.folder / "tree"
        left_out = (".git", ".venv", "data", "__pycache__", ".*_cache", ".hypothesis", "node_modules")
        shutil.copytree(ROOT, cls.tree, ignore=shutil.ignore_patterns(*left_out))
        carry_out(cls.tree)  # what the recipes ask for is what their commands are for
        carry_out(cls.tree, TUTORIAL)
        shutil.copy(ROOT / "docs" / "page-light.png", cls.tree / "picture.png")
        (cls.folder / ".curlrc").write_text("silent\nshow-error\nfail\n")  # an answer of 400 and above is a failure
        (cls.folder / "bin").mkdir()
        interpreter = f'exec {shlex.quote(sys.executable)} "$@"'
        sendmail = f'(echo "$*" && cat) >{shlex.quote(str(cls.folder / "sent"))}'
        for name, line in (("python", interpreter), ("python3", interpreter), ("sudo", 'exec "$@"'), ("sendmail", sendmail)):
            (cls.folder / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
            (cls.folder / "bin" / name).chmod(0o755)
        cls.source = Storage(cls.folder / "source")  # the app that leaves LeanCloud
        cls.addClassCleanup(cls.source.stop)
        cls.fill(cls.source, "ann")
        quiet = io.StringIO()
        exporter.run(cls.folder / "export", cls.source.database, cls.source.keys, quiet, quiet)
        with tarfile.open(cls.tree / "export.tar.gz", "w:gz") as archive:
            archive.add(cls.folder / "export", "export")
        seed = Storage(cls.folder / "seed")
        cls.fill(seed, "bob")
        seed.stop()
        cls.serve_app()

    @classmethod
    def fill(cls, storage, user):
        for number in range(3):
            status, _ = storage.request("POST", "/classes/Post", {"number": number})
            assert status == 201
        storage.request("POST", "/users", {"username": user, "password": "secret"})

    @classmethod
    def serve_app(cls):
        """`python wsgi.py` with the recipes in it, and a todo whose owner is logged in."""
        port, data = free_port(), cls.folder / "app"
        variables = {"LEANCLOUD_APP_PORT": port, "LEANSTORAGE_DATA": data, "PYTHONDONTWRITEBYTECODE": ""}
        cls.enterClassContext(running(python("wsgi.py"), "cache: ", cls.tree, **variables))
        cls.app = f"http://127.0.0.1:{port}"
        with requests.Session() as visitor:
            visitor.trust_env = False
            answer = visitor.post(f"{cls.app}/api/users", json={"username": "ann", "password": "secret"}, timeout=10)
            todo = visitor.post(f"{cls.app}/api/todos", json={"content": "x"}, timeout=10).json()["id"]
        cookie = answer.headers["Set-Cookie"].split(";")[0]
        cls.upload = f"--cookie {shlex.quote(cookie)} {cls.app}/api/todos/{todo}/attachment"

    def reader(self, name=""):
        """With a storage that holds something: for recipes.md and tutorial.md the app's, for leaving-leancloud.md with nothing yet."""
        if name in ("recipes.md", "tutorial.md"):
            return Reader(self, self.folder / "app")
        data = self.folder / f"data of {name or self.id()}".replace(" ", "-")
        if name.startswith("leaving"):
            data.mkdir(0o700)
            return Reader(self, data)
        shutil.copytree(self.folder / "seed", data)
        reader = Reader(self, data)
        reader.environment |= {
            "LEANSTORAGE_SOURCE_ID": self.source.keys["id"],
            "LEANSTORAGE_SOURCE_MASTER_KEY": self.source.keys["master_key"],
        }
        return reader

    def test_every_command_of_the_documents_works(self):
        self.checked.clear()
        self.used.clear()
        for document in READERS_DOCUMENTS:
            if document not in TRANSLATIONS and document.name not in DESTRUCTIVE:
                self.reader(document.name).follow(document.read_text(), document.name)
        if shutil.which("make"):  # without it nobody sees the commands in its file
            unused = {pattern for pattern, _, _ in OTHERWISE} - self.used
            self.assertEqual(unused, set(), "no document has such a command any more")
        for text in TEXTS:
            self.assertTrue(any(f"`{text}`" in document.read_text() for document in READERS_DOCUMENTS), text)

    def test_answers_that_the_documents_promise_are_given(self):
        count = 0
        for document in READERS_DOCUMENTS:
            for command, answer in re.findall(r"`(curl [^`]+)` answers `([^`]+)`", document.read_text()):
                reader = self.reader()
                self.assertEqual(reader.run(reader.filled(command)), answer)
                shutil.rmtree(reader.data)
                count += 1
        self.assertGreater(count, 0)

    def test_command_that_is_wrong_in_any_way_fails(self):
        reader = self.reader()
        for command in (
            "nosuchprogram --version",
            "lean deploy --bogus",
            "lean nothing",
            "python -m leanstorage outbox --bogus",
            "python -m leanstorage serve --bogus 1",
            "serve --database postgresql://... --process N --bogus",
            "serve --files s3://... --bogus",
            "--bogus",
            "--dry-run yes",
            "python bench/crash.py 5 --bogus",
            "python bench/nothing.py",
            "python bench/routers.py --bogus",
            "python bench/fuzz_atheris.py all",
            "python -m compat.recordings",
            "python -m compat.nothing PATH",
            "python -m unittest tests.test_nothing",
            "NOTHING=1 python -m unittest tests.repository.test_fuzz",
            "pip install --bogus -r requirements.txt",
            "pip install -r requirements-nothing.txt",
            "python3 -m venv --bogus .venv",
            "bash .ci/nothing",
            "make nothing",
            "gunicorn --bogus wsgi:application",
            "curl http://127.0.0.1:3000/api/nothing",
            "LEANCLOUD_APP_PORT=x python wsgi.py",
            "sudo install --bogus /srv/leanstorage",
            "python -m leanstorage outbox --send nosuchprogram >/dev/null",
            "python -m leanstorage outbox --bogus | jq .",
        ):
            with self.subTest(command), self.assertRaises(AssertionError):
                reader.check(command)

    def test_whatever_looks_like_a_command_is_found(self):
        text = "\n".join(
            (
                "```sh",
                "one a && two b  # comment",
                "X=1 three \\",
                "  --c",
                "(y d",
                " && z)",
                "```",
                "```crontab",
                "0 4 * * * v && w",
                "```",
                "Say `four d`, `--five`, `make`, not `six`, `Seven e`, `X-Real-IP: 1` or `(a, b)`.",
                "| `serve --eight` | `Y=2 ./nine f` |",
            )
        )
        wanted = ["one a", "two b", "X=1 three    --c", "(y d\n && z)", "v", "w", "four d", "--five", "make", "serve --eight", "Y=2 ./nine f"]
        self.assertEqual(commands(text), wanted)

    def test_translation_has_the_commands_of_the_original(self):
        for translation in TRANSLATIONS:
            original = translation.with_name(translation.name.replace(".zh-CN", ""))
            text = translation.read_text().replace("https://你的API域名", "https://YOUR-API-DOMAIN")
            with self.subTest(translation.name):
                self.assertEqual(sorted(commands(text)), sorted(commands(original.read_text())))

    def test_blocks_are_of_kinds_that_are_checked(self):
        for document in (*READERS_DOCUMENTS, *TRANSLATIONS):
            for _, language, block in FENCE.findall(document.read_text()):
                with self.subTest(document=document.name, language=language):
                    if language == "nginx":
                        headers = set(re.findall(r"proxy_set_header (\S+)", block))
                        self.assertEqual(headers, {"Host", "X-Real-IP", "X-Forwarded-Proto"})
                        [megabytes] = re.findall(r"client_max_body_size ([0-9]+)m;", block)
                        self.assertGreater(int(megabytes) << 20, read_settings({}).max_upload_bytes)
                    elif language.startswith(("python ", "html ", "javascript ")):
                        carried_out = OTHER_RECIPES.get(document.name.replace(".zh-CN", ""), BLOCK)  # else by test_recipes
                        self.assertTrue(carried_out.match(f"```{language}\n{block}```"))
                    elif language not in ("sh", "crontab"):
                        self.assertIn((document.name.replace(".zh-CN", ""), language), FOLLOWED)


if __name__ == "__main__":
    unittest.main()
