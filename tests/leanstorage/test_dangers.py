"""`leanstorage check`: each danger is found where it is, and nowhere else, and the command beside it closes it."""
import contextlib
import io
import os
import shlex
import subprocess
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from leanstorage import __main__ as command_line, keys as key_files
from leanstorage.resources import dangers
from leanstorage.rules import classes
from leanstorage.rules.call import Options
from leanstorage.store import open_store
from tests.leanstorage.service_support import ServiceTestCase

SAFE = Options(role_create="master", class_create="master", sign_max_age_s=300, files_url="https://files.example.com")
ALL = {"*": {"read": True, "write": True}}


class DatabaseTest(ServiceTestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def found(self, *names):
        """{(class, command)} of what is found in these classes."""
        findings = dangers.found(self.service.store, SAFE, {}, [], None, self.database)
        self.assertEqual([finding.level for finding in findings], sorted(finding.level for finding in findings))
        return {(finding.where, finding.command) for finding in findings if finding.where in names}

    def close(self, command):
        """Carry out a command that was printed."""
        *program, name = shlex.split(command)[:4]
        self.assertEqual((program, name), (["python", "-m", "leanstorage"], "permissions"))
        arguments = shlex.split(command)[4:]
        with contextlib.redirect_stdout(io.StringIO()):
            environment = {**os.environ, "LEANSTORAGE_DATA": str(self.folder)}
            self.assertEqual(command_line.main([name, "--database", self.database, *arguments], environment), 0)

    def opened(self, name):
        """A system class that is there, and open as it may have come from elsewhere."""

        def work(transaction):
            info = transaction.class_info(name, lock=True) or classes.empty_info(name)
            info.pop("is_new", None)
            transaction.save_class(name, {**info, "permissions": {}})

        self.service.store.write(work)

    def test_open_system_classes_are_found_and_closed_by_the_command_beside_them(self):
        names = sorted({row[0] for row in dangers.SYSTEM})
        for name in names:
            self.opened(name)
        wanted = {(name, f"python -m leanstorage permissions {name} {command}") for name, _, _, _, command in dangers.SYSTEM}
        self.assertEqual(self.found(*names) & wanted, wanted)
        for _, command in sorted(wanted):
            self.close(command)
        self.assertEqual(self.found(*names) & wanted, set())

    def test_level_says_what_an_open_class_gives_away(self):
        levels = {
            2: ["_User find", "_Installation find get", "_Conversation find get", "_Conversation create update delete"],
            3: ["_User get", "_Installation delete", "_File delete", "_Follower delete", "_Followee delete", "_Status create"],
        }
        self.assertEqual(
            sorted((level, f"{name} {' '.join(actions)}") for name, actions, level, _, _ in dangers.SYSTEM),
            sorted((level, which) for level, all_of_it in levels.items() for which in all_of_it),
        )

    def test_class_of_devices_is_closed_by_default(self):
        self.service.store.write(lambda transaction: transaction.save_class("_Installation", {**classes.empty_info("_Installation")}))
        commands = {command for _, command in self.found("_Installation")}
        self.assertEqual(commands, {"python -m leanstorage permissions _Installation --delete users"})

    def test_objects_that_anybody_may_change_are_counted_and_closed(self):
        user = self.user("careful")
        own = {user["objectId"]: {"read": True, "write": True}}
        self.make("Careful", ACL={**own, "*": {"read": True}})
        for rights in (None, ALL, {"*": {"write": True}}, {**own, **ALL}, {**own, "*": {"read": False, "write": True}}, own, {"*": {"read": True}}, {"*": {"read": True, "write": False}}):
            self.make("Careless", **({} if rights is None else {"ACL": rights}))
        findings = [one for one in dangers.found(self.service.store, SAFE, {}, [], None, self.database) if one.where in ("Careful", "Careless")]
        [number] = [one.what for one in findings if one.level == 2]
        self.assertIn(" 5 objects", number)
        for finding in findings:
            self.close(finding.command)
        self.assertEqual(self.found("Careful", "Careless"), set())
        self.code(403, "PUT", f"/classes/Careless/{self.find('Careless', master=True)[0]['objectId']}", {"n": 1}, status=403)

    def test_role_that_anybody_may_join_is_named_and_closed(self):
        self.api("POST", "/roles", {"name": "tight", "ACL": {"*": {"read": True}}}, 201)
        self.assertNotIn(1, [one.level for one in dangers.found(self.service.store, SAFE, {}, [], None, self.database)])
        role = self.api("POST", "/roles", {"name": "loose", "ACL": ALL}, 201)["objectId"]
        findings = dangers.found(self.service.store, SAFE, {}, [], None, self.database)
        self.assertEqual((findings[0].level, findings[0].where), (1, "_Role"))
        self.assertIn("1 roles (loose)", findings[0].what)
        for number, shown in ((3, "(loose, loose1, loose2)"), (4, "(loose, loose1, loose2, ...)")):
            while len(self.find("_Role")) <= number:
                self.api("POST", "/roles", {"name": f"loose{len(self.find('_Role')) - 1}", "ACL": ALL}, 201)
            [what] = [one.what for one in dangers.found(self.service.store, SAFE, {}, [], None, self.database) if one.where == "_Role" and one.level == 1]
            self.assertIn(f"{number} roles {shown}", what)
        self.close(findings[0].command)
        self.assertEqual(self.found("_Role"), set())
        self.code(403, "PUT", f"/roles/{role}", {"x": 1}, status=403)

    def test_numbers_that_nobody_proved_are_counted_where_there_is_a_password(self):
        def unproven():
            findings = dangers.found(self.service.store, SAFE, {}, [], None, self.database)
            return [one.what.split()[0] for one in findings if "phone number:" in one.what]

        self.assertEqual(unproven(), [])
        users = [self.user(f"number{number}", mobilePhoneNumber=f"1380000000{number}") for number in range(3)]
        with mock.patch.object(dangers, "PAGE", 1):
            self.assertEqual(unproven(), ["3"])
        self.api("PUT", f"/users/{users[0]['objectId']}", {"mobilePhoneVerified": True}, master=True)
        self.service.store.write(lambda transaction: transaction.put_record("credential", users[1]["objectId"], {}))
        self.assertEqual(unproven(), ["1"])

    def test_forged_statuses_are_counted_and_sent_ones_are_not(self):
        sender, other = self.user("sender"), self.user("victim")
        status = {"inboxType": "default", "data": {"message": "x"}, "query": {"className": "_User", "where": {"objectId": other["objectId"]}}}
        self.api("POST", "/statuses", status, 201, session=sender["sessionToken"])

        def forged():
            findings = dangers.found(self.service.store, SAFE, {}, [], None, self.database)
            return [one.what.split()[0] for one in findings if "were not sent" in one.what]

        self.assertEqual(forged(), [])
        source = {"__type": "Pointer", "className": "_User", "objectId": other["objectId"]}
        with mock.patch.object(dangers, "PAGE", 1):
            for number, fields in enumerate(({"source": source}, {"source": source, "ACL": {sender["objectId"]: {"write": True}}}, {"message": "y"}), 1):
                self.api("POST", "/classes/_Status", fields, 201, master=True)  # as an export brings it
                self.assertEqual(forged(), [str(number)])


class SettingsTest(unittest.TestCase):
    def commands(self, options=SAFE, keys=None, private=(), key_file=None, database=""):
        with tempfile.TemporaryDirectory() as folder, contextlib.closing(open_store(f"sqlite:///{folder}/a.db")) as store:
            return [(one.level, one.command) for one in dangers.found(store, options, keys or {}, private, key_file, database) if one.where != "_User"]

    def test_settings_that_leave_something_open_are_found(self):
        rows = [
            (Options(trusted_providers=frozenset(["anonymous", "*"])), 1, "leave --trust-auth out"),
            (Options(trusted_providers=frozenset(["anonymous", "weixin"])), 2, "onAuthData"),
            (Options(role_create="client"), 3, "--role-create master"),
            (Options(class_create="client"), 3, "--class-create master"),
            (Options(max_requests_per_minute=0), 3, "--max-requests"),
            (Options(max_bytes_per_address=0), 3, "--max-bytes-per-address"),
            (Options(trusted_proxy=frozenset("*")), 3, "--trusted-proxy"),
            (Options(sign_max_age_s=None), 3, "--sign-max-age"),
            (Options(files_url=None), 3, "--files-url"),
        ]
        self.assertEqual(self.commands(), [])
        for options, level, command in rows:
            with self.subTest(command):
                self.assertTrue([one for one in self.commands(options) if one[0] == level and command in one[1]])

    def test_keys_that_can_be_guessed_or_are_old_are_found(self):
        good = {"id": "a" * 24, "key": "b" * 24, "master_key": "c" * 32, "hook_key": "d" * 32}
        self.assertEqual(self.commands(keys=good), [])
        for name, value in (("key", "short"), ("master_key", "short"), ("hook_key", "short"), ("master_key", good["key"]), ("hook_key", good["key"])):
            with self.subTest(name=name, value=value):
                self.assertEqual(self.commands(keys={**good, name: value}), [(1, "choose another")])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "keys.json")
            file.touch()
            self.assertEqual(self.commands(keys=good, key_file=file), [])
            os.utime(file, (0, time.time() - 400 * 24 * 3600))
            self.assertEqual([level for level, _ in self.commands(keys=good, key_file=file)], [3])

    def test_what_others_on_the_machine_may_read_or_write_is_found_and_closed(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "a b")
            file.touch()
            for mode, level in ((0o600, None), (0o640, 2), (0o604, 2), (0o622, 1), (0o777, 1)):
                with self.subTest(mode=oct(mode)):
                    file.chmod(mode)
                    found = self.commands(private=[file, Path(folder, "missing")])
                    self.assertEqual([one[0] for one in found], [level] if level else [])
                    for _, command in found:
                        subprocess.run(command, shell=True, check=True)
                    self.assertEqual(self.commands(private=[file]), [])

    def test_database_that_is_reached_without_tls_is_found(self):
        for url, is_found in (
            ("sqlite:////data/a.db", False),
            ("postgresql:///name", False),
            ("postgresql://user:pw@127.0.0.1/name", False),
            ("postgresql://user:pw@db.example.com/name", True),
            ("postgresql://user:pw@db.example.com/name?sslmode=prefer", True),
            ("postgresql://user:pw@db.example.com/name?sslmode=verify-ca", False),
            ("postgresql://user:pw@db.example.com/name?sslmode=verify-full", False),
        ):
            with self.subTest(url):
                self.assertEqual([level for level, _ in self.commands(database=url)], [2] if is_found else [])
                self.assertNotIn("pw", str(self.commands(database=url)))

    def test_command_prints_findings_and_says_by_its_code_whether_they_are_dangers(self):
        with tempfile.TemporaryDirectory() as data:
            os.chmod(data, 0o700)
            keys = key_files.load(data)
            open_store(f"sqlite:///{data}/leanstorage.db").close()
            os.chmod(Path(data, "leanstorage.db"), 0o600)

            def check(*arguments):
                with contextlib.redirect_stdout(io.StringIO()) as output:
                    code = command_line.main(["check", *arguments], {**os.environ, "LEANSTORAGE_DATA": data})
                return code, output.getvalue()

            code, text = check()
            self.assertEqual(code, 0, text)
            self.assertIn("serve --role-create master", text)
            self.assertNotIn("--role-create", check("--role-create", "master")[1])
            code, text = check("--trust-auth", "*")
            self.assertEqual(code, 1)
            self.assertTrue(text.startswith("1. anybody takes over: serve: --trust-auth"))
            for secret in keys.values():
                self.assertNotIn(secret, text)


if __name__ == "__main__":
    unittest.main()
