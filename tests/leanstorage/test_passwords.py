"""How passwords and tokens are kept: what a stolen database would make of them. Sections 5.3 and 9.2 of the protocol."""
import ctypes
import ctypes.util
import hashlib
import sys
import unittest
from types import SimpleNamespace
from unittest import mock

from leanstorage.rules import passwords
from tests import SCRYPT

# A bcrypt row of LeanCloud's export: the hash of "old password", with a cost that suits a test.
BCRYPT = "$2b$04$abcdefghijklmnopqrstuuFkqCYl1sZhFcdBXBznR1I2LdekaY3XO"
SECRET = b"a secret of the app"


def system_crypt():
    """What the system's own library has of bcrypt: a function like that of the package `bcrypt`; None without it."""
    name = ctypes.util.find_library("crypt")
    if name is None:
        return None
    crypt = ctypes.CDLL(name).crypt
    crypt.restype = ctypes.c_char_p
    if crypt(b"old password", BCRYPT.encode()) is None:
        return None
    return lambda password, stored: crypt(password, stored) == stored


class PasswordTest(unittest.TestCase):
    @mock.patch.dict(passwords.SCRYPT, SCRYPT)
    def test_password_is_kept_as_scrypt_of_that_cost_with_a_salt_of_its_own(self):
        records = [passwords.hash_password("secret") for _ in range(3)]
        for record in records:
            salt = bytes.fromhex(record["salt"])
            self.assertEqual((record["scheme"], len(salt)), ("scrypt", 16))
            self.assertEqual(hashlib.scrypt(b"secret", salt=salt, n=16384, r=8, p=1).hex(), record["hash"])
            self.assertTrue(passwords.verify(record, "secret"))
            self.assertFalse(passwords.verify(record, "Secret"))
        self.assertEqual(len({record["salt"] for record in records}), 3)

    def test_hash_of_leancloud_is_513_rounds_of_sha_512_in_base64(self):
        stored = "tT0w2e9buRTeHu0yuqLb/b/zfhgKCqriK0adj4s6+UG/Cz49wpNGQHYZfwE17Y1Izd4Z3vEi9iqjtmVp4eaMnA=="
        record = passwords.legacy_record(stored, "salt")
        self.assertEqual(record, {"scheme": "leancloud", "salt": "salt", "hash": stored})
        self.assertTrue(passwords.verify(record, "secret"))
        self.assertFalse(passwords.verify(record, "other"))
        self.assertFalse(passwords.verify({**record, "salt": "other"}, "secret"))

    @unittest.skipUnless(system_crypt(), "this system's libcrypt has no bcrypt")
    def test_bcrypt_row_is_checked_by_the_package(self):
        record = passwords.legacy_record(BCRYPT, "")
        self.assertEqual(record, {"scheme": "bcrypt", "hash": BCRYPT})
        with mock.patch.dict(sys.modules, bcrypt=SimpleNamespace(checkpw=system_crypt())):
            self.assertTrue(passwords.verify(record, "old password"))
            self.assertFalse(passwords.verify(record, "other"))
            self.assertFalse(passwords.verify(record, ""))

    def test_bcrypt_row_that_is_no_hash_lets_nobody_in(self):
        def refuse(*_):
            raise ValueError("Invalid salt")  # as the package says

        with mock.patch.dict(sys.modules, bcrypt=SimpleNamespace(checkpw=refuse)):
            self.assertFalse(passwords.verify(passwords.legacy_record("$2b$x", ""), "old password"))

    def test_bcrypt_row_without_the_package_lets_nobody_in(self):
        with mock.patch.dict(sys.modules, bcrypt=None):  # importing it fails
            self.assertFalse(passwords.verify(passwords.legacy_record(BCRYPT, ""), "old password"))

    def test_nobody_has_no_password(self):
        self.assertFalse(passwords.verify(None, ""))
        self.assertFalse(passwords.verify(None, "secret"))


class TokenTest(unittest.TestCase):
    def test_sealed_token_is_another_each_time_and_opens_with_its_secret_alone(self):
        token = passwords.new_token()
        sealed = [passwords.seal_token(SECRET, token) for _ in range(3)]
        for key in ("nonce", "sealed"):
            self.assertEqual(len({record[key] for record in sealed}), 3)
        for record in sealed:
            self.assertEqual(len(bytes.fromhex(record["nonce"])), 16)
            self.assertEqual(passwords.open_token(SECRET, record), token)
            self.assertNotIn(token.encode().hex(), record["sealed"])
            try:
                self.assertNotEqual(passwords.open_token(b"another", record), token)
            except UnicodeDecodeError:
                pass

    def test_long_imported_token_is_sealed_whole(self):
        for length in (1, 63, 64, 65, 128, 200):
            token = "t" * length
            sealed = passwords.seal_token(SECRET, token)
            self.assertEqual(passwords.open_token(SECRET, sealed), token)
            self.assertEqual(len(sealed["sealed"]), 2 * length)
            pieces = {sealed["sealed"][at : at + 32] for at in range(0, 2 * length, 32)}
            self.assertEqual(len(pieces), len(range(0, 2 * length, 32)))  # the key does not begin again

    def test_new_tokens_are_25_characters_and_never_the_same(self):
        tokens = {passwords.new_token() for _ in range(100)}
        self.assertEqual(len(tokens), 100)
        for token in tokens:
            self.assertRegex(token, r"\A[a-z0-9]{25}\Z")

    def test_lookup_and_secret_depend_on_their_keys(self):
        keys = [{"master_key": "one"}, {"master_key": "two"}]
        secrets = {passwords.token_secret(one) for one in keys}
        self.assertEqual(len(secrets), 2)
        self.assertEqual(len({passwords.token_lookup(secret, "token") for secret in secrets}), 2)
        self.assertNotEqual(passwords.token_lookup(SECRET, "token"), passwords.token_lookup(SECRET, "other"))


if __name__ == "__main__":
    unittest.main()
