"""The locks are complete: on every supported Python, whatever a locked package requires is locked, in a version that fits.

What a package requires is read from its metadata where it is installed. A package that a marker leaves out of this
environment is seen on the Python that has it: async-timeout below 3.11.3, gevent and what it needs below 3.12.
"""
import re
import tomllib
import unittest
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from compat import locks
from tests.support import ROOT

PYTHONS_OF = {"requirements-bench.txt": ("3.11.0", "3.11.2", "3.11.3", "3.11.7")}  # its comment names 3.11 alone
# (package, what it requires, the Pythons): why that is not in the lock
LEFT_OUT = {
    ("leancloud", "gevent", ">=3.12"): "no version that it allows builds there; only its own server uses it",
    ("leancloud", "markupsafe", ">=3.12"): "no version that it allows has a wheel there; it never imports it",
    ("gevent", "setuptools", "<3.12"): "a venv of 3.11 has it, and gevent runs without; in requirements-dev.txt",
}


def locked(name):
    """Every requirement of a lock, those of the locks that it includes as well."""
    for line in (ROOT / name).read_text().splitlines():
        if line.startswith("-r "):
            yield from locked(line.removeprefix("-r "))
        elif not line.startswith("#"):
            yield Requirement(line)


def chosen(name, environment):
    """{package: its version} of what a lock installs there."""
    requirements = [one for one in locked(name) if one.marker is None or one.marker.evaluate(environment)]
    return {canonicalize_name(one.name): Version(str(one.specifier).removeprefix("==")) for one in requirements}


def required(package, version):
    """What the package requires, or None when another version or none is installed here."""
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    if Version(found.version) != version:
        return None
    return [Requirement(line) for line in found.requires or ()]


def excused(package, requirement, python):
    return any(
        (package, canonicalize_name(requirement.name)) == (owner, name) and SpecifierSet(pythons).contains(python)
        for owner, name, pythons in LEFT_OUT
    )


def missing(versions, environment):
    """(package, requirement) where the lock has nothing that fits."""
    for package, version in versions.items():
        for one in required(package, version) or ():
            if one.marker is None or one.marker.evaluate(environment):
                there = versions.get(canonicalize_name(one.name))
                if there is None or not one.specifier.contains(there, prereleases=True):
                    yield package, one


class LocksTest(unittest.TestCase):
    def test_what_locked_packages_require_is_locked_on_every_python(self):
        for name in locks.FILES:
            for environment in locks.environments():
                python = environment["python_full_version"]
                if python in PYTHONS_OF.get(name, locks.PYTHONS):
                    with self.subTest(lock=name, python=python, system=environment["sys_platform"]):
                        found = missing(chosen(name, environment), environment)
                        self.assertEqual([(package, str(one)) for package, one in found if not excused(package, one, python)], [])

    def test_reasons_are_for_what_is_really_left_out(self):
        found = set()
        for environment in locks.environments():
            python = environment["python_full_version"]
            for package, one in missing(chosen("requirements.txt", environment), environment):
                found |= {key for key in LEFT_OUT if key[:2] == (package, canonicalize_name(one.name)) and SpecifierSet(key[2]).contains(python)}
        versions = chosen("requirements-bench.txt", locks.environments()[0])
        self.assertEqual(found, {key for key in LEFT_OUT if required(key[0], versions[key[0]]) is not None})
        self.assertTrue(found)

    def test_this_environment_is_the_one_that_is_locked(self):
        """So that the metadata of all that is locked for this Python has been looked at."""
        stale = [
            one.name
            for one in locked("requirements-dev.txt")
            if (one.marker is None or one.marker.evaluate()) and required(one.name, Version(str(one.specifier)[2:])) is None
        ]
        self.assertEqual(stale, [], "pip install --no-deps -r requirements-dev.txt")

    def test_lines_are_pinned_and_sorted_and_one_package_has_one_version(self):
        for name in locks.FILES:
            with self.subTest(name):
                lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith(("#", "-r "))]
                self.assertEqual([line for line in lines if not re.fullmatch(r'[a-z0-9-]+==[0-9][0-9a-z.]*( ; [a-z_0-9. <>="]+)?', line)], [])
                self.assertEqual(lines, sorted(lines, key=lambda line: line.partition("==")[0]))
                specifiers = {}
                for one in locked(name):
                    self.assertEqual(specifiers.setdefault(canonicalize_name(one.name), one.specifier), one.specifier)

    def test_pythons_of_the_locks_are_those_of_the_project(self):
        supported = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
        self.assertEqual([one for one in locks.PYTHONS if one not in supported], [])
        named = {one.rpartition(".")[0] for one in locks.PYTHONS}
        self.assertEqual(named, {f"3.{minor}" for minor in range(30) if f"3.{minor}" in supported})

    def test_lock_without_what_a_package_needs_is_told_of(self):
        """The test above finds what it is for: what is absent, and what is there in a version that does not fit."""
        environment = locks.environment("3.11.2", locks.SYSTEMS["x86_64-manylinux_2_28"])
        versions = chosen("requirements.txt", environment)
        for change, wanted in (({"async-timeout": None}, "redis"), ({"urllib3": Version("3")}, "requests"), ({"six": None}, "leancloud")):
            with self.subTest(wanted):
                changed = {name: one for name, one in {**versions, **change}.items() if one is not None}
                self.assertIn(wanted, [package for package, _ in missing(changed, environment)])


class RenewingTest(unittest.TestCase):
    def test_marker_keeps_what_distinguishes_supported_environments(self):
        for line, wanted in (
            ("a==1", "a==1"),
            ("a==1 ; platform_python_implementation != 'PyPy'", "a==1"),
            ("a==1 ; python_full_version < '3.12' and platform_python_implementation == 'CPython'", 'a==1 ; python_full_version < "3.12"'),
            ("a==1 ; python_full_version < '3.11.3'", 'a==1 ; python_full_version < "3.11.3"'),
            ("a==1 ; python_full_version < '3.12' and sys_platform == 'win32'", None),
            ("a==1 ; python_full_version < '3.12' or sys_platform == 'win32'", "a==1 ; python_full_version < \"3.12\" or sys_platform == \"win32\""),
        ):
            with self.subTest(line):
                self.assertEqual(locks.for_supported(line), wanted)


if __name__ == "__main__":
    unittest.main()
