"""`leanstorage users` and `classes`, beside a service that is at work on the same database."""
import io
import os
import json
import unittest
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from leanstorage import __main__ as command_line
from leanstorage import keys as key_files
from tests.leanstorage.service_support import KEYS, ServiceTestCase

VARIABLES = {key_files.NAMES[name]: value for name, value in KEYS.items()}


class CommandCase(ServiceTestCase):
    def run_command(self, *arguments, stdin="", **environment):
        """(exit code, stdout, stderr) of `python -m leanstorage`."""
        output, errors = io.StringIO(), io.StringIO()
        place = ("--database", self.database)
        if arguments[0] == "users":
            place += ("--files", str(self.folder / "files"))
        given = {**os.environ, **VARIABLES, "LEANSTORAGE_DATA": str(self.folder), **environment}
        with redirect_stdout(output), redirect_stderr(errors), mock.patch("sys.stdin", io.StringIO(stdin)):
            code = command_line.main([*arguments, *place], given)
        return code, output.getvalue(), errors.getvalue()

    def done(self, *arguments, **more):
        """The stdout of a command that succeeds."""
        code, output, errors = self.run_command(*arguments, **more)
        self.assertEqual((code, errors), (0, ""))
        return output

    def refused(self, *arguments, **more):
        """The one line that a refused command says."""
        code, output, errors = self.run_command(*arguments, **more)
        self.assertEqual((code, output, errors.count("\n")), (1, "", 1))
        return errors


class UsersTest(CommandCase):
    def test_users_are_found_by_the_beginning_of_any_of_their_names(self):
        alice = self.user("find-alice", email="a.find@example.com", mobilePhoneNumber="+8613800000000")
        bob = self.user("find-bob")
        for text, expected in (
            ("find-", [alice, bob]),
            ("find-a", [alice]),
            ("a.find@", [alice]),
            ("+86138", [alice]),
            (bob["objectId"], [bob]),
            ("nobody", []),
        ):
            with self.subTest(text):
                lines = self.done("users", "find", text, "--json").splitlines()
                self.assertEqual([json.loads(line)["objectId"] for line in lines], [user["objectId"] for user in expected])
        self.assertEqual(self.done("users", "find", "find-").splitlines()[-1], "2 users")
        self.assertEqual(self.done("users", "find", "find-", "--limit", "1").splitlines()[-1], "1 users")
        self.assertEqual(json.loads(self.done("users", "find", "--limit", "1", "--json"))["objectId"], bob["objectId"])

    def test_user_is_shown_without_a_secret(self):
        user = self.user("shown", email="shown@example.com", nickname="N")
        auth = {"weixin": {"openid": "the-openid", "access_token": "s3cret", "expires_in": 1}}
        self.api("PUT", f"/users/{user['objectId']}", {"authData": auth}, master=True)
        for arguments in (["users", "show", "shown"], ["users", "show", user["objectId"], "--json"], ["users", "find", "shown"]):
            text = self.done(*arguments)
            for secret in (user["sessionToken"], "s3cret", "salt", "hash"):
                self.assertNotIn(secret, text)
        value = json.loads(self.done("users", "show", "shown@example.com", "--json"))
        self.assertEqual(value["accounts"], {"weixin": "the-openid"})
        self.assertEqual((value["nickname"], value["password"], value["isLoggedIn"], value["isLocked"]), ("N", "scrypt", True, False))
        for _ in range(8):
            self.api("POST", "/login", {"username": "shown", "password": "wrong"}, status=400)
        self.assertTrue(json.loads(self.done("users", "show", "shown", "--json"))["isLocked"])

    def test_new_password_is_read_from_standard_input_and_ends_sessions_and_the_lock(self):
        user = self.user("forgetful")
        for _ in range(8):
            self.api("POST", "/login", {"username": "forgetful", "password": "wrong"}, status=400)
        text = self.done("users", "set-password", "forgetful", stdin="new one\n")
        self.assertNotIn("new one", text)
        self.code(211, "GET", "/users/me", session=user["sessionToken"])
        self.api("POST", "/login", {"username": "forgetful", "password": "new one"})
        self.assertIn("password", self.refused("users", "set-password", "forgetful", stdin="\n").lower())
        self.assertIn("longer than", self.refused("users", "set-password", "forgetful", stdin="x" * 2000))
        self.api("POST", "/login", {"username": "forgetful", "password": "new one"})

    def test_sign_out_ends_the_sessions_and_leaves_the_password(self):
        user = self.user("left")
        self.done("users", "sign-out", "left")
        self.code(211, "GET", "/users/me", session=user["sessionToken"])
        self.done("users", "sign-out", "left")
        again = self.api("POST", "/login", {"username": "left", "password": "pw"})
        self.assertNotEqual(again["sessionToken"], user["sessionToken"])

    def test_address_and_number_are_verified_where_there_is_one(self):
        user = self.user("verified", email="verified@example.com")
        self.done("users", "verify", "verified")
        found = self.get("_User", user["objectId"], master=True)
        self.assertEqual((found["emailVerified"], found.get("mobilePhoneVerified")), (True, False))
        self.assertGreater(found["updatedAt"], user["createdAt"])
        self.assertIn("has no mobilePhoneNumber", self.refused("users", "verify", "verified", "--phone"))

    def test_user_is_deleted_once_it_is_confirmed_with_all_that_lets_it_in(self):
        user = self.user("doomed", email="doomed@example.com")
        code, output, errors = self.run_command("users", "delete", "doomed")
        self.assertEqual((code, output, errors), (1, "", "nothing was deleted: answer yes, or give --yes\n"))
        self.done("users", "delete", "doomed@example.com", "--yes")
        self.code(211, "GET", "/users/me", session=user["sessionToken"])
        self.user("doomed", email="doomed@example.com")

    def test_user_that_is_not_there_and_keys_that_are_not_are_one_line(self):
        for action in ("show", "set-password", "sign-out", "verify", "delete"):
            with self.subTest(action):
                self.assertIn("there is no user", self.refused("users", action, "nobody", "--yes", stdin="pw\n"))
                self.assertIn("needs a USER", self.refused("users", action))
        self.assertIn("there are no keys", self.refused("users", "find", **dict.fromkeys(VARIABLES, "")))

    def test_name_that_a_terminal_would_obey_is_shown_as_text(self):
        self.user("evil\x1b]0;x\x07\u009b31m\n\u202e")
        for more in ([], ["--json"]):
            text = self.done("users", "find", "evil", *more)
            self.assertTrue(text.replace("\n", "").isprintable())
        self.assertEqual(json.loads(text)["username"], "evil\x1b]0;x\x07\u009b31m\n\u202e")


class ClassesTest(CommandCase):
    def test_classes_are_counted_and_sized(self):
        for number in range(3):
            self.make("Counted", n=number, text="ä" * 1000)
        rows = {one["class"]: one for one in map(json.loads, self.done("classes", "--json").splitlines())}
        found = rows["Counted"]
        self.assertEqual((found["objects"], found["columns"]), (3, 2))
        self.assertGreater(found["bytes"], 100)
        self.assertTrue(found["lastWrite"])
        self.assertRegex(self.done("classes").splitlines()[-1], r"\A[0-9]+ classes, [0-9]+ objects, [0-9]+ bytes\Z")

    def test_class_is_shown_with_columns_indexes_and_rights(self):
        self.make("Shaped", n=1, text="x", to={"__type": "Pointer", "className": "_User", "objectId": "a"})
        self.done("index", "Shaped", "n")
        self.done("permissions", "Shaped", "--delete", "nobody", "--update", "users")
        value = json.loads(self.done("classes", "Shaped", "--json"))
        self.assertEqual(
            value["columns"],
            {"ACL": "ACL", "createdAt": "Date", "n": "Number", "objectId": "String", "text": "String", "to": "Pointer(_User)", "updatedAt": "Date"},
        )
        self.assertEqual((value["indexes"], value["rights"]["delete"], value["rights"]["update"]), ([["n"]], "nobody", "users"))
        self.assertIn("rights:\n  find: everyone\n", self.done("classes", "Shaped"))
        self.assertIn("there is no class Nothing", self.refused("classes", "Nothing"))

    def test_class_is_created_empty_and_only_where_there_is_none(self):
        value = json.loads(self.done("classes", "Created", "--create", "--json"))
        self.assertEqual((value["objects"], value["indexes"], value["rights"]["create"]), (0, [], "everyone"))
        self.make("Created", n=1)
        for arguments, expected in (
            (("Created", "--create"), "there is a class Created already"),
            (("_User", "--create"), "there is a class _User already"),
            (("no class", "--create"), "class name"),
            (("--create",), "--create needs a CLASS"),
        ):
            with self.subTest(arguments):
                self.assertIn(expected, self.refused("classes", *arguments).lower() if "name" in expected else self.refused("classes", *arguments))


if __name__ == "__main__":
    unittest.main()
