"""How phone numbers compare: for sign-up, log-in, queries and imported users."""
import unittest

from leanstorage.resources import names
from leanstorage.rules import phones
from leanstorage.rules.errors import StorageError
from tests.leanstorage.service_support import ServiceTestCase


class PhonesTest(unittest.TestCase):
    def test_number_without_a_country_code_is_one_of_china(self):
        rows = [
            ("13912345678", "+8613912345678"),
            ("+86 139 1234 5678", "+8613912345678"),
            ("+1 (764) 600-0000", "+17646000000"),
            ("17646000000", "+8617646000000"),
        ]
        for written, name in rows:
            with self.subTest(written):
                self.assertEqual(phones.international(phones.checked(written)), name)

    def test_what_is_no_number_is_refused(self):
        for written in ("", " ", None, 5, "abc", "1\n2345", "++8613912345678", "139", "1" * 22, "１３９１２３４５６７８"):
            with self.subTest(written), self.assertRaises(StorageError):
                phones.checked(written)


class NumbersTest(ServiceTestCase):
    def test_one_phone_is_one_user_however_it_is_written(self):
        user = self.user("n1", mobilePhoneNumber="139 1234 5678")
        self.assertEqual(user["mobilePhoneNumber"], "13912345678")
        for written in ("13912345678", "+8613912345678", "+86 139-1234-5678"):
            with self.subTest(written):
                body = {"username": "n2", "password": "pw", "mobilePhoneNumber": written}
                self.code(214, "POST", "/users", body)
                found = self.api("POST", "/login", {"mobilePhoneNumber": written, "password": "pw"})
                self.assertEqual(found["objectId"], user["objectId"])

    def test_user_may_write_its_own_number_anew_and_gives_it_up(self):
        user = self.user("n3", mobilePhoneNumber="13900000003")
        path, session = f"/users/{user['objectId']}", user["sessionToken"]
        self.api("PUT", path, {"mobilePhoneNumber": "+8613900000003"}, session=session)
        self.assertEqual(self.get("_User", user["objectId"])["mobilePhoneNumber"], "+8613900000003")
        self.api("PUT", path, {"mobilePhoneNumber": "13900000004"}, session=session)
        self.user("n4", mobilePhoneNumber="13900000003")

    def test_queries_find_a_number_however_it_is_written(self):
        self.user("n5", mobilePhoneNumber="13900000005")
        self.user("n6", mobilePhoneNumber="+8613900000006")
        self.user("n7", mobilePhoneNumber="+17646000007")
        self.user("n8")
        rows = [
            ("+8613900000005", ["n5"]),
            ("13900000006", ["n6"]),
            ("+86 139 0000 0006", ["n6"]),
            ("17646000007", []),
            ({"$in": ["+8613900000005", "13900000006"]}, ["n5", "n6"]),
            ({"$ne": "+8613900000005"}, ["n6", "n7", "n8"]),
            ({"$nin": ["+8613900000005", "+17646000007"]}, ["n6", "n8"]),
            ({"$exists": False}, ["n8"]),
            (None, ["n8"]),
        ]
        ours = {"username": {"$in": ["n5", "n6", "n7", "n8"]}}
        for condition, expected in rows:
            with self.subTest(condition):
                found = self.find("_User", {**ours, "mobilePhoneNumber": condition}, master=True)
                self.assertEqual(sorted(one["username"] for one in found), expected)

    def test_other_classes_compare_to_the_letter(self):
        self.make("Contact", mobilePhoneNumber="13900000008")
        self.assertEqual(self.find("Contact", {"mobilePhoneNumber": "+8613900000008"}), [])

    def test_of_two_imported_users_with_one_phone_each_is_found_as_it_is_written(self):
        def work(transaction):
            transaction.add_record("unique:_User:mobilePhoneNumber", "13900000009", {"id": "a"})
            transaction.add_record("unique:_User:mobilePhoneNumber", "+8613900000009", {"id": "b"})

        self.service.store.write(work)
        for written, user_id in (("13900000009", "a"), ("+86 13900000009", "b")):
            found = self.service.store.read(lambda transaction: names.owner(transaction, "mobilePhoneNumber", written))
            self.assertEqual(found, user_id)


if __name__ == "__main__":
    unittest.main()
