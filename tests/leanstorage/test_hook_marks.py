"""How engines before LeanCloud's hook key know a hook's caller, and how a save inside a hook says so: appendix C.3."""
import hashlib
import hmac
import io
import unittest
from contextlib import redirect_stderr

from leanstorage.engine import hooks
from leanstorage.store import now
from tests.leanstorage.service_support import KEYS
from tests.leanstorage.test_hooks import FakeEngine, HookCase


def mark(name, ms=None, key=KEYS["master_key"]):
    """Written out once more, as the PHP SDK makes it."""
    ms = now() if ms is None else ms
    return f"{ms},{hmac.new(key.encode(), f'{name}:{ms}'.encode(), hashlib.sha1).hexdigest()}"


class MarkTest(HookCase):
    def answered(self, class_name, *names):
        for name in names:
            self.on(class_name, name, lambda sent: (200, sent.get("object", {})))

    def called(self):
        found, self.engine.calls = [path for path, _, _ in self.engine.calls], []
        return found

    def test_hooks_are_sent_a_mark_that_is_never_stored(self):
        self.answered("Marked", "beforeSave", "afterSave")
        object_id = self.make("Marked", n=1)
        (_, _, before), (_, _, after) = self.engine.calls
        for sent, key in ((before, "__before"), (after, "__after")):
            ms, _, _ = sent["object"][key].partition(",")
            self.assertEqual(sent["object"][key], mark(f"{key}_for_Marked", int(ms)))
        self.assertEqual(set(self.get("Marked", object_id)), {"n", "objectId", "createdAt", "updatedAt"})

    def test_save_inside_a_hook_calls_no_hook_of_its_kind_again(self):
        self.answered("Looped", "beforeUpdate", "afterUpdate", "beforeSave", "afterSave", "beforeDelete", "afterDelete")
        object_id = self.make("Looped", n=1)
        self.called()
        path = f"/classes/Looped/{object_id}"
        self.api("PUT", path, {"n": 2, "__after": mark("__after_for_Looped")})
        self.assertEqual(self.called(), ["/functions/Looped/beforeUpdate"])
        self.api("PUT", path, {"n": 3, "__before": mark("__before_for_Looped")})
        self.assertEqual(self.called(), ["/functions/Looped/afterUpdate"])
        both = {"__before": mark("__before_for_Looped"), "__after": mark("__after_for_Looped")}
        self.make("Looped", n=4, **both)
        self.api("DELETE", path, both)
        self.assertEqual(self.called(), [])
        self.assertNotIn("__after", self.find("Looped", {"n": 4})[0])

    def test_mark_that_is_wrong_old_or_anothers_says_nothing(self):
        self.answered("Strict", "beforeSave")
        good = mark("__before_for_Strict")
        for name, sent in {
            "another class": mark("__before_for_Other"),
            "another kind": mark("__after_for_Strict"),
            "app key": mark("__before_for_Strict", key=KEYS["key"]),
            "old": mark("__before_for_Strict", now() - 2 * hooks.MARK_MS),
            "future": mark("__before_for_Strict", now() + 2 * hooks.MARK_MS),
            "cut": good[:-1],
            "upper case": good.upper(),
            "no text": 7,
            "empty": "",
        }.items():
            with self.subTest(name):
                self.make("Strict", __before=sent)
                self.assertEqual(self.called(), ["/functions/Strict/beforeSave"])

    def test_user_and_its_file_pass_their_marks_on(self):
        self.answered("_User", "beforeUpdate")
        self.answered("_File", "beforeSave")
        user = self.user("marked")
        self.called()
        body = {"nick": "n", "__before": mark("__before_for__User")}
        self.api("PUT", f"/users/{user['objectId']}", body, session=user["sessionToken"])
        self.api("POST", "/files", {"url": "https://files.example/a", "__before": mark("__before_for__File")}, 201)
        self.assertEqual(self.called(), [])

    def test_login_hook_is_sent_a_sign(self):
        self.engine.names.append("__on_login__User")
        self.engine.answers["/functions/_User/onLogin"] = lambda sent: (200, {"result": "ok"})
        self.user("signed")
        self.api("POST", "/login", {"username": "signed", "password": "pw"})
        sent = self.engine.calls[-1][2]["object"]
        self.assertEqual((sent["__type"], sent["className"]), ("Object", "_User"))
        sign = sent["__sign"]
        self.assertEqual(sign, mark("__on_login__User", int(sign.split(",")[0])))


class FirstSdkTest(HookCase):
    """`leancloud-sdk` 1.0 reads no `X-LC-...` header, and its hooks answer `{"result": null}`."""

    def setUp(self):
        super().setUp()

        class First(FakeEngine):
            def __call__(self, method, path, headers, body, timeout):
                key = headers.get("X-AVOSCloud-Application-Key")
                if headers.get("X-AVOSCloud-Application-Id") != KEYS["id"] or key not in (KEYS["key"], KEYS["master_key"]):
                    return 401, b'{"code": 401, "error": "Unauthorized."}'
                return super().__call__(method, path, headers, body, timeout)

        self.engine = First()
        self.service.engine = hooks.Engine(self.engine, KEYS)

    def test_it_is_called_by_the_headers_that_it_knows(self):
        self.engine.answers["/functions/hello"] = lambda sent: (200, {"result": "hi"})
        self.engine.names.append("hello")
        user = self.user("first")  # which asks for the list
        self.assertEqual(self.api("POST", "/functions/hello", {}, session=user["sessionToken"]), {"result": "hi"})
        headers = self.engine.calls[-1][1]
        self.assertEqual(headers["X-AVOSCloud-Session-Token"], user["sessionToken"])
        self.assertEqual(headers["X-AVOSCloud-Application-Key"], KEYS["key"])
        self.api("POST", "/functions/hello", {}, master=True)
        self.assertEqual(self.engine.calls[-1][1]["X-AVOSCloud-Application-Key"], KEYS["master_key"])

    def test_hook_that_says_nothing_of_the_object_changes_nothing(self):
        self.on("First", "beforeSave", lambda sent: (200, {"result": None}))
        self.assertEqual(self.get("First", self.make("First", n=1))["n"], 1)
        self.on("Own", "beforeSave", lambda sent: (200, {"result": 5}))  # a column of that name is one
        self.assertEqual(self.get("Own", self.make("Own", result=1))["result"], 5)


class NoFunctionsTest(HookCase):
    def test_engine_that_has_no_list_of_functions_has_none_and_refuses_no_write(self):
        class Plain(FakeEngine):
            def __call__(self, method, path, headers, body, timeout):
                return 404, b"<h1>Not Found</h1>"

        self.service.engine = hooks.Engine(Plain(), KEYS)
        with redirect_stderr(io.StringIO()) as said:
            for number in range(3):
                self.make("Free", n=number)
        self.assertEqual(said.getvalue(), "the engine at test has no cloud functions and no hooks\n")


if __name__ == "__main__":
    unittest.main()
