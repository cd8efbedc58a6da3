"""The examples of deployment: what they start is what there is. No Docker engine is needed, or used."""
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest

from leanengine.settings import KEYS, platform_keys, read_settings, redis_url
from leanstorage import __main__ as command_line
from tests.repository.path import blocks, PATH, STEPS, Unit
from tests.support import ROOT, clean_environment, free_port, python, running

DEPLOY = ROOT / "deploy"
COMPOSE = (ROOT / "compose.yaml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def commands():
    """The commands of the services, folded lines put together."""
    found = re.findall(r"^    command: (?:>-\n((?:      .*\n)+)|(.*)\n)", COMPOSE, re.MULTILINE)
    return [" ".join((folded or line).split()) for folded, line in found]


class ComposeTest(unittest.TestCase):
    def test_storage_is_started_with_options_that_there_are(self):
        [text] = [text for text in commands() if "leanstorage" in text]
        arguments = shlex.split(text)
        self.assertEqual(arguments[:3], ["python", "-m", "leanstorage"])
        options = command_line.parser().parse_args(arguments[3:])
        self.assertEqual((options.host, options.engine), ("0.0.0.0", "http://app:3000"))
        self.assertIn(f"http://storage:{options.port}", COMPOSE)

    def test_health_is_asked_where_it_is_told(self):
        [text] = [text for text in commands() if "leanstorage" in text]
        options = command_line.parser().parse_args(shlex.split(text)[3:])
        asked = re.findall(r"urlopen\('(http://[^']+)', timeout=5\)", COMPOSE)
        self.assertEqual(asked, ["http://127.0.0.1:3000/api/status?ready", f"http://127.0.0.1:{options.admin[1]}/health"])
        self.assertEqual(options.admin[0], "127.0.0.1")
        [check] = re.findall(r'test: \["CMD", "python", "-c", "(.*3000.*)"\]', COMPOSE)
        with tempfile.TemporaryDirectory() as data:
            port = free_port()
            with running(python("wsgi.py"), "cache: ", LEANCLOUD_APP_PORT=port, LEANSTORAGE_DATA=data):
                command = python("-c", check.replace(":3000", f":{port}"))
                self.assertEqual(subprocess.run(command, capture_output=True, timeout=20).returncode, 0)
            self.assertNotEqual(subprocess.run(command, capture_output=True, timeout=20).returncode, 0)

    def test_app_is_started_with_every_variable_that_it_needs(self):
        app = COMPOSE.split("  storage:")[0]
        given = dict(re.findall(r"^      ([A-Z_a-z]+): (.+?)(?: #.*)?$", app, re.MULTILINE))
        self.assertEqual(platform_keys(given).keys(), {*KEYS, "LEANCLOUD_API_SERVER"})
        settings = read_settings(given)
        self.assertEqual((settings.app_env, settings.processes, settings.port), ("stage", 2, 3000))
        self.assertIn('ports: ["3000:3000"]', app)
        self.assertEqual(redis_url(given, ""), "redis://redis:6379")
        # Not by another server: hooks would have no threads of their own.
        self.assertNotIn("command:", app)
        self.assertIn('CMD ["python", "wsgi.py"]', DOCKERFILE)

    def test_first_command_of_its_comment_writes_the_keys(self):
        [text] = re.findall(r"^#   (python -m leanstorage env.*?) > .env", COMPOSE, re.MULTILINE)
        with_python = text.replace("python", shlex.quote(python()[0]), 1)
        with tempfile.TemporaryDirectory() as data:
            environment = clean_environment(LEANSTORAGE_DATA=data)
            done = subprocess.run(["sh", "-c", with_python], cwd=ROOT, env=environment, capture_output=True, text=True)
        written = dict(line.split("=", 1) for line in done.stdout.splitlines())
        self.assertEqual(platform_keys(written).keys(), {*KEYS, "LEANCLOUD_API_SERVER"}, done.stderr)
        asked = re.findall(r"\$\{([A-Z_]+)\}", COMPOSE)
        self.assertEqual(set(asked) - written.keys(), {"POSTGRES_PASSWORD"})


class ImageTest(unittest.TestCase):
    def test_env_file_is_left_out_of_repository_and_images(self):
        self.assertIn("> .env", COMPOSE)
        for name in (".gitignore", ".dockerignore", ".leanignore"):
            with self.subTest(name):
                self.assertIn(".env", (ROOT / name).read_text().splitlines())

    def test_what_lean_cli_leaves_out_by_itself_is_left_out(self):
        lines = {line.rstrip("/") for line in (ROOT / ".leanignore").read_text().splitlines()}
        self.assertLessEqual(set(".git .DS_Store .avoscloud .leancloud node_modules venv *.pyc __pycache__".split()), lines)

    def test_files_that_the_image_copies_exist_and_none_is_secret(self):
        copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
        for name in " ".join(copied).split():
            self.assertTrue((ROOT / name).exists(), name)
        self.assertIn("data", (ROOT / ".dockerignore").read_text().split())
        self.assertIn("USER app", DOCKERFILE)

    def test_locks_name_every_package_once_with_its_version(self):
        for file in sorted(ROOT.glob("requirements*.txt")):
            lines = [line.split(";")[0].strip() for line in file.read_text().splitlines() if not line.startswith(("#", "-r "))]
            for line in filter(None, lines):
                with self.subTest(file=file.name, line=line):
                    self.assertRegex(line, r"^[a-z0-9.-]+==[0-9][0-9a-z.]*$")
            names = [line.split("==")[0] for line in lines]
            self.assertEqual(names, sorted(set(names)), file.name)

    def test_python_version_is_said_alike_to_the_platform_and_to_pyenv(self):
        version = (ROOT / ".python-version").read_text().strip()
        self.assertRegex(version, r"^3\.11\.[0-9]+$")
        self.assertEqual((ROOT / "runtime.txt").read_text().strip(), f"python-{version}")

    def test_locks_agree_with_each_other(self):
        pins = {}
        for file in sorted(ROOT.glob("requirements*.txt")):
            for name, version in re.findall(r"^([A-Za-z0-9.-]+)==(\S+)", file.read_text(), re.MULTILINE):
                self.assertEqual(pins.setdefault(name.lower(), version), version, (file.name, name))


class PathTest(unittest.TestCase):
    def test_every_line_of_the_path_is_one_that_is_walked(self):
        self.assertEqual(list(STEPS), list(range(1, 10)))
        kinds = re.findall(r"^```(\w*)$", PATH, re.MULTILINE)
        self.assertEqual(sorted(kind for kind in kinds if kind), ["caddy", "crontab", *["sh"] * 10])
        self.assertEqual(sum(len(blocks(number)) for number in STEPS), 10)
        self.assertEqual([[name for name in ("caddy", "nginx") if name in " ".join(block)] for block in blocks(5)], [["caddy"], ["nginx"]])


class UnitsTest(unittest.TestCase):
    def test_units_start_what_there_is_with_options_that_it_takes(self):
        for name, ports in (("leanstorage.service", (8126, ("127.0.0.1", 9126))), ("leanstorage-backup.service", None)):
            with self.subTest(name):
                words = shlex.split(Unit(DEPLOY / "systemd" / name).one("ExecStart"))
                options = command_line.parser().parse_args(words[words.index("leanstorage") + 1 :])
                if ports:
                    self.assertEqual((options.port, options.admin), ports)
        unit = Unit(DEPLOY / "systemd" / "leanengine.service")
        self.assertTrue((ROOT / unit.one("ExecStart").split()[-1]).is_file())
        given = {**unit.environment, **dict.fromkeys(KEYS, "key")}
        settings = read_settings(given)
        self.assertEqual((settings.app_env, settings.port, settings.trusted_proxy), ("production", 3000, {"127.0.0.1", "::1"}))
        self.assertEqual(platform_keys(given)["LEANCLOUD_API_SERVER"], "http://127.0.0.1:8126")

    def test_services_run_as_users_of_their_own_on_a_system_that_they_cannot_write_to(self):
        users = set()
        for name in ("leanstorage.service", "leanengine.service", "leanstorage-backup.service"):
            unit = Unit(DEPLOY / "systemd" / name)
            with self.subTest(name):
                users.add(unit.one("User"))
                self.assertEqual([unit.one(key) for key in ("ProtectSystem", "NoNewPrivileges", "CapabilityBoundingSet")], ["strict", "true", ""])
                self.assertFalse(set(unit.environment) & set(KEYS))  # keys are in a file of root's
        self.assertEqual(users, {"leanstorage", "leanengine"})

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_units_are_what_systemd_understands(self):
        for file in (DEPLOY / "systemd").iterdir():
            with self.subTest(file.name):
                done = subprocess.run(["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, timeout=30)
                said = [line for line in done.stderr.splitlines() if "is not executable" not in line and file.name in line]
                self.assertEqual(said, [])

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_services_are_as_confined_as_systemd_calls_ok(self):
        for file in (DEPLOY / "systemd").glob("*.service"):
            with self.subTest(file.name):
                done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=25", file], capture_output=True, text=True, timeout=30)
                self.assertEqual(done.returncode, 0, done.stdout[-500:] + done.stderr)


if __name__ == "__main__":
    unittest.main()
