import tempfile
import unittest
from pathlib import Path

from leanwsgi import setting_values


class WebUrlTest(unittest.TestCase):
    def test_url_is_taken_without_slashes_at_its_end(self):
        for text, expected in (
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://api.example.com/", "https://api.example.com"),
            ("http://[::1]:80/app/", "http://[::1]:80/app"),
            ("http://my_app", "http://my_app"),
        ):
            with self.subTest(text):
                self.assertEqual(setting_values.web_url(text), expected)

    def test_what_is_no_url_is_refused(self):
        for text in (
            "", "localhost:3000", "nonsense", "ftp://x", "http://", "http://:80", "http://x:0", "http://x:70000", "http://x:port",
            "http://a b", "http://x\n", "http://x/\x7f", "//x", "http://x#y", "HTTP:x", "http://x/?q", "http://u:p@x",
        ):
            with self.subTest(text), self.assertRaises(ValueError) as caught:
                setting_values.web_url(text)
            self.assertNotIn("p@", str(caught.exception))

    def test_query_and_user_are_taken_where_they_make_sense(self):
        for text in ("http://x?a=b", "https://x/hook?token=a/b"):
            self.assertEqual(setting_values.web_url(text, has_query=True), text)
        self.assertEqual(setting_values.web_url("http://u:p@x/", has_user=True), "http://u:p@x")


class ListsTest(unittest.TestCase):
    def test_addresses_are_normalised(self):
        self.assertEqual(setting_values.addresses("10.0.0.1, 0::1,"), {"10.0.0.1", "::1"})
        self.assertEqual(setting_values.addresses("*"), {"*"})
        for text in ("nonsense", "10.0.0.0/8", "1.2.3", "fe80::1, x"):
            with self.subTest(text), self.assertRaises(ValueError):
                setting_values.addresses(text)

    def test_host_names_are_lower_case_and_may_have_a_port(self):
        self.assertEqual(setting_values.host_names("A.com, b-c.d:80,[::1]:8080"), {"a.com", "b-c.d:80", "[::1]:8080"})
        for text in ("http://a", "a/b", "a b", "-a", "a:", "a:x", "a:99999", "*", "a\nb"):
            with self.subTest(text), self.assertRaises(ValueError):
                setting_values.host_names(f"ok.example,{text},ok.example")

    def test_key_holds_nothing_that_would_end_it_on_the_wire(self):
        self.assertEqual(setting_values.key("a.B-0_=+/"), "a.B-0_=+/")
        for text in ("", "a b", "a,master", "a\n", "é", "\x7f"):
            with self.subTest(text), self.assertRaises(ValueError):
                setting_values.key(text)


class CredentialsTest(unittest.TestCase):
    def read(self, text, **environment):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "keys.env").write_text(text)
            environment["CREDENTIALS_DIRECTORY"] = folder
            found = setting_values.with_credentials(environment)
        self.assertEqual(found.pop("CREDENTIALS_DIRECTORY"), folder)
        return found

    def test_file_adds_to_the_environment_and_replaces_nothing_there(self):
        text = "# keys\n\nA_KEY=a/b=c\nB='quoted as $a shell does'\nC=d # why\nHOME=/file\n"
        expected = {"A_KEY": "a/b=c", "B": "quoted as $a shell does", "C": "d", "HOME": "/given"}
        self.assertEqual(self.read(text, HOME="/given"), expected)

    def test_line_that_is_no_variable_is_named_and_not_repeated(self):
        for line in ("secret", "=secret", "A=secret more", "A='secret", "1A=secret", "export A=secret"):
            with self.subTest(line), self.assertRaises(ValueError) as caught:
                self.read(f"OK=1\n{line}\n")
            self.assertRegex(str(caught.exception), r"\Aline 2 of \S+/keys\.env must be NAME=VALUE\Z")

    def test_without_a_file_it_is_the_environment(self):
        for environment in ({"A": "1"}, {"CREDENTIALS_DIRECTORY": "/nothing-here"}):
            self.assertEqual(setting_values.with_credentials(environment), environment)


if __name__ == "__main__":
    unittest.main()
