"""A server made of a folder, on which the path of docs/deploying.md is walked line by line.

Real: the shell, Python, the venv, both services, Caddy, nginx, curl, cron's line. The folder stands for the root of the
file system, and free ports for those of the path. systemd, which tests cannot have, is played by `systemctl`: it starts
exactly what the installed units say, with their environment, credentials and limits. Stubs stand for what would change
the machine: apt, useradd, the owners of `install`, git, pip and certbot.
"""
import contextlib
import os
import re
import resource
import shlex
import shutil
import signal
import site
import socket
import stat
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT, free_port, until

PAGE = (ROOT / "docs" / "deploying.md").read_text()
PATH = PAGE.partition("<!-- path -->")[2].partition("<!-- end of path -->")[0]
STEPS = {int(number): text for number, text in re.findall(r"^### ([0-9]+)\. (.*?)(?=^### |\Z)", PATH, re.MULTILINE | re.DOTALL)}
DOMAIN = "todo.test"
PORTS = (80, 443, 3000, 8126, 9126, 6379)
SECONDS = 60
STUBS = {
    "sudo": 'exec "$@"',
    "apt": '[ "$1" = install ]',
    "useradd": '[ "$1" = --system ] && echo "$2" >>"$SERVER/users"',
    "install": 'arguments=; while [ $# -gt 0 ]; do if [ "$1" = -o ]; then grep -qx "$2" "$SERVER/users"; shift; '
    'else arguments="$arguments $1"; fi; shift; done; exec /usr/bin/env PATH=/usr/bin:/bin install $arguments',
    "setpriv": '[ "$1" = --reuid=leanstorage ]; while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "certbot": 'printf "%s\\n" "$@" >"$SERVER/certbot"',
    "nginx": 'exec "$NGINX" -p "$SERVER" -c "$SERVER/nginx.conf" "$@"',
}


def blocks(number, language="sh"):
    """The code blocks of a step, each a list of lines."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", STEPS[number], re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in found]


class Unit:
    """An installed unit: {setting: [values]}, and what it says of the environment."""

    def __init__(self, file):
        self.settings = {}
        for line in file.read_text().splitlines():
            if line and not line.startswith(("#", "[")):
                key, value = line.split("=", 1)
                self.settings.setdefault(key, []).append(value)
        self.environment = dict(word.split("=", 1) for line in self.settings.get("Environment", ()) for word in shlex.split(line))

    def one(self, key, default=None):
        return self.settings.get(key, [default])[-1]


class Server:
    def __init__(self, folder, case):
        self.folder, self.case = Path(folder).resolve(), case
        self.ports = {port: free_port() for port in PORTS}
        self.running, self.kept = {}, []
        self.root = self.folder / "root.crt"  # the authority whose certificates the proxy shows
        for name in ("opt", "etc/systemd/system", "etc/caddy", "etc/nginx/conf.d", "var/lib", "var/backups", "usr/local/bin", "bin", "run"):
            (self.folder / name).mkdir(parents=True)
        for name, text in STUBS.items():
            (self.folder / "bin" / name).write_text(f"#!/bin/sh\nset -eu\n{text}\n")
            (self.folder / "bin" / name).chmod(0o755)
        self.write_nginx()
        self.environment = {
            "PATH": f"{self.folder}/usr/local/bin:{self.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SERVER": str(self.folder),
            "NGINX": shutil.which("nginx") or "",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
        }
        (self.folder / ".curlrc").write_text(
            "".join(f'connect-to = ":{asked}:127.0.0.1:{self.ports[port]}"\n' for asked, port in ((80, 80), (443, 443), (self.ports[443], 443)))
            + f'cacert = "{self.root}"\n'
        )

    def here(self, text):
        """Text of the path or of deploy/, with the folders and ports of this server."""
        text = re.sub(r"(?<![\w./])/(?=(opt|etc|var|usr/local)/)", f"{self.folder}/", text)
        text = re.sub(r"(?<=listen )(80|443)\b", lambda found: f"127.0.0.1:{self.ports[int(found[0])]}", text)
        return re.sub(r"\b(3000|8126|9126|6379)\b", lambda found: str(self.ports[int(found[0])]), text)

    # The lines of the path -----------------------------------------------------------------------------------------

    def walk(self, lines):
        """What the lines of a block say, each of which has to end well."""
        return "".join(self.line(line) for line in lines if line.strip())

    def line(self, line):
        line = self.here(line.replace("DOMAIN=example.com", f"DOMAIN={DOMAIN}"))
        words = shlex.split(line, comments=True)
        if words[:2] == ["sudo", "systemctl"]:
            return self.systemctl(words[2], [word for word in words[3:] if not word.startswith("-")])
        if words[:3] == ["sudo", "git", "clone"]:
            return self.clone(words[4])
        if words[:4] == ["sudo", "python3", "-m", "venv"]:
            words.insert(4, "--without-pip")
            line = shlex.join(words)
        if words[1].endswith("/pip") if len(words) > 1 else False:
            return self.pip(words)
        said = self.shell(line)
        if re.match(r"\w+=|cd ", line):
            self.kept.append(line)
        if "certbot" in words:
            self.certify((self.folder / "certbot").read_text().splitlines())
        return said

    def shell(self, line):
        script = "\n".join(["set -euo pipefail", *self.kept, line])
        done = subprocess.run(
            ["bash", "-c", script], cwd="/", env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
        self.case.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}{done.stderr}\n{self.logs()}")
        return done.stdout

    def clone(self, place):
        """A copy of this repository, whose examples name the folders and ports of this server."""
        left_out = (".git", ".venv", "data", "__pycache__", ".*_cache", ".hypothesis", "node_modules", "tests")
        shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(*left_out))
        for file in filter(Path.is_file, Path(place, "deploy").rglob("*")):
            file.write_text(self.here(file.read_text()))
        return ""

    def pip(self, words):
        """The packages of this process, in the place of an index's."""
        self.case.assertEqual(words[2:5], ["install", "--no-deps", "-r"])
        self.case.assertTrue(Path(words[5]).is_file(), words[5])
        [packages] = Path(words[1]).parent.parent.glob("lib/python*/site-packages")
        (packages / "here.pth").write_text("\n".join(site.getsitepackages()))
        return ""

    def certify(self, words):
        """What certbot would have got: a certificate of these names."""
        names = [words[number + 1] for number, word in enumerate(words) if word == "-d"]
        place = self.folder / "etc/letsencrypt/live" / words[words.index("--cert-name") + 1]
        place.mkdir(parents=True)
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=test"]
        make += ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
        subprocess.run([*make, "-keyout", place / "privkey.pem", "-out", place / "fullchain.pem"], check=True, capture_output=True)
        shutil.copy(place / "fullchain.pem", self.root)

    # systemd -------------------------------------------------------------------------------------------------------

    def systemctl(self, verb, names):
        if verb != "daemon-reload":
            self.case.assertIn(verb, ("enable", "start", "restart", "reload-or-restart"))
            self.case.assertTrue(names)
        for name in names:
            if name.endswith(".timer"):
                self.case.assertTrue((self.folder / "etc/systemd/system" / name).is_file())
            elif name in ("caddy", "nginx"):
                self.stop(name)
                getattr(self, f"start_{name}")()
            else:
                self.stop(name)
                self.start(name)
        return ""

    def start(self, name):
        """Start what a unit says, as systemd would; a `oneshot` has to end well."""
        unit = Unit(self.folder / "etc/systemd/system" / f"{name}.service")
        self.case.assertIn(unit.one("User"), (self.folder / "users").read_text().split())
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "USER": unit.one("User"), **unit.environment}
        if unit.one("StateDirectory"):
            (self.folder / "var/lib" / unit.one("StateDirectory")).mkdir(mode=0o700, exist_ok=True)
        for line in unit.settings.get("LoadCredential", ()):
            credential, source = line.split(":", 1)
            self.case.assertEqual(stat.S_IMODE(os.stat(source).st_mode), 0o600)
            environment["CREDENTIALS_DIRECTORY"] = str(self.folder / "run" / name)
            Path(environment["CREDENTIALS_DIRECTORY"]).mkdir(exist_ok=True)
            shutil.copy(source, Path(environment["CREDENTIALS_DIRECTORY"], credential))
        open_files = int(unit.one("LimitNOFILE", 1024))

        def prepare():
            os.umask(int(unit.one("UMask"), 8))
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))

        process = self.spawn(name, shlex.split(unit.one("ExecStart")), cwd=unit.one("WorkingDirectory"), env=environment, preexec_fn=prepare)
        if unit.one("Type") == "oneshot":
            self.case.assertEqual(process.wait(SECONDS), 0, self.logs())

    def spawn(self, name, command, **more):
        with open(self.folder / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **more)
        return self.running[name]

    def stop(self, name):
        process = self.running.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(20)  # TimeoutStopSec
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise

    def stop_all(self):
        for name in list(self.running):
            self.stop(name)

    def logs(self):
        return "\n".join(f"{file.name}: {file.read_text()[-1500:]}" for file in sorted(self.folder.glob("*.log")))

    # The proxies, with what their packages' own configuration would say ----------------------------------------------

    def caddy_options(self, folder, ports):
        """What the path puts at the top to try it, and what keeps one of several Caddys to itself."""
        [options] = blocks(5, "caddy")
        self.case.assertEqual((options[0], options[-1]), ("{", "}"))
        more = f"http_port {ports[80]}\nhttps_port {ports[443]}\nstorage file_system {folder}\n"
        return "\n".join(options[:-1]) + f"\nadmin off\nskip_install_trust\n{more}default_bind 127.0.0.1\n}}\n"

    def start_caddy(self):
        config = self.folder / "Caddyfile"
        config.write_text(self.caddy_options(self.folder / "caddy", self.ports) + (self.folder / "etc/caddy/Caddyfile").read_text())
        self.spawn("caddy", ["caddy", "run", "--config", config, "--adapter", "caddyfile"], env=self.environment)
        own = self.folder / "caddy"
        until(lambda: len(list(own.rglob(f"*.{DOMAIN}.crt"))) >= 3, SECONDS)
        shutil.copy(own / "pki/authorities/local/root.crt", self.root)

    def write_nginx(self):
        """The file of the package, as far as it matters: it includes conf.d."""
        temporary = "".join(f"{kind}_temp_path {self.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;\n" if os.getuid() == 0 else ""
        inside = f"access_log off;\n{temporary}include {self.folder}/etc/nginx/conf.d/*.conf;\n"
        text = f"{user}daemon off;\npid {self.folder}/nginx.pid;\nerror_log stderr notice;\nevents {{}}\nhttp {{\n{inside}}}\n"
        (self.folder / "nginx.conf").write_text(text)

    def start_nginx(self):
        self.spawn("nginx", [self.folder / "bin/nginx"], env=self.environment)
        until(self.is_reached, SECONDS)

    def is_reached(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[443]), 5):
            return True
        return False
