"""The examples of deployment: what they start is what there is. No Docker engine is needed, or used."""
import re
import shlex
import subprocess
import tempfile
import unittest

from leanengine.settings import KEYS, platform_keys, read_settings, redis_url
from leanstorage import __main__ as command_line
from tests.support import ROOT, clean_environment, free_port, python, running

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


if __name__ == "__main__":
    unittest.main()
