"""The SDKs' own calls to sign in, against a server that sends codes by a command and asks stand-ins of the third parties.

The JavaScript SDK is found by NODE_PATH, the Java SDK by JAVA_SDK, a folder of its jars.
"""
import json
import os
import shutil
import subprocess
import unittest
from unittest import mock

from leanstorage.outside.providers import provider_of
from leanstorage.outside.sms import Command, Sender
from leanstorage.resources import sms_codes
from tests.leanstorage.storage_support import StorageTestCase
from tests.leanstorage.third_party_server import APP, SECRET, ThirdParties
from tests.support import ROOT, clean_environment, python

NODE, JAVA = os.environ.get("NODE_PATH", ""), os.environ.get("JAVA_SDK", "")
PHONE = {
    "wrong": 603,
    "used": 603,
    "verified": True,
    "same": True,
    "unknown": 213,
    "logged_in": True,
    "unverified": 215,
    "now_verified": True,
    "changed": "+8613900000004",
    "guessed": 603,
    "reset": True,
}
WEAPP = {
    "weapp": "o-weapp",
    "weapp_again": True,
    "weapp_wrong": 252,
    "union": "u1",
    "one_vendor": True,
    "linked": ["weixin"],
    "unlinked": 211,
}
PYTHON = """
import json, os, sys
import leancloud
from leancloud import cloud, User

leancloud.init(os.environ["APP_ID"], app_key=os.environ["APP_KEY"])


def code():
    with open(os.environ["SMS_FILE"]) as file:
        return json.load(file)["code"]


def failure(function, *arguments):
    try:
        function(*arguments)
    except leancloud.LeanCloudError as error:
        return error.code
    return 0


def wrong(right):
    return f"{(int(right) + 1) % 10**6:06d}"


result = {}
cloud.request_sms_code("13900000001")
result["wrong"] = failure(cloud.verify_sms_code, "13900000001", wrong(code()))
cloud.verify_sms_code("13900000001", code())
result["used"] = failure(cloud.verify_sms_code, "13900000001", code())
cloud.request_sms_code("13900000002", params={"name": "shop", "op": "pay"})
user = User.signup_or_login_with_mobile_phone("13900000002", code())
result["verified"] = user.get("mobilePhoneVerified")
user.logout()
cloud.request_sms_code("13900000002")
result["same"] = User.signup_or_login_with_mobile_phone("13900000002", code()).id == user.id
User.get_current().logout()
result["unknown"] = failure(User.request_login_sms_code, "13900000009")
User.request_login_sms_code("13900000002")
again = User()
again.set("mobilePhoneNumber", "13900000002")
again.set("smsCode", code())
again.login()
result["logged_in"] = again.id == user.id
again.logout()

user = User()
user.set_mobile_phone_number("139 0000 0003")
user.sign_up("py", "old")
result["unverified"] = failure(User.request_login_sms_code, "13900000003")
User.request_mobile_phone_verify("13900000003")
User.verify_mobile_phone_number(code(), "13900000003")
user.fetch()
result["now_verified"] = user.get("mobilePhoneVerified")
User.request_change_phone_number("+8613900000004")
User.change_phone_number(code(), "+8613900000004")
user.fetch()
result["changed"] = user.get_mobile_phone_number()
user.logout()
User.request_password_reset_by_sms_code("13900000004")
result["guessed"] = failure(User.reset_password_by_sms_code, wrong(code()), "new", "13900000004")
User.reset_password_by_sms_code(code(), "new", "13900000004")
result["reset"] = User.login_with_mobile_phone("13900000004", "new").id == user.id
User.get_current().logout()

user = User.login_with("lc_weapp", {"code": "good"})
stored = User.become(user.get_session_token())
result["weapp"] = stored.get("authData")["lc_weapp"]["openid"]
stored.logout()
result["weapp_again"] = User.login_with("lc_weapp", {"code": "good"}).id == user.id
User.get_current().logout()
result["weapp_wrong"] = failure(User.login_with, "lc_weapp", {"code": "made up"})
main = User.login_with("lc_weapp", {"code": "union", "platform": "weixin", "main_account": True})
result["union"] = User.become(main.get_session_token()).get("authData")["_weixin_unionid"]["uid"]
User.get_current().logout()
data = {"openid": "o-weixin", "access_token": "good", "unionid": "u1", "platform": "weixin", "main_account": False}
result["one_vendor"] = User.login_with("weixin", data).id == main.id
User.get_current().logout()
named = User()
named.login("py", "new")
named.link_with("weixin", {"openid": "o-weixin2", "access_token": "plain"})
result["linked"] = list(User.become(named.get_session_token()).get("authData"))
named = User.get_current()
named.unlink_from("weixin")
result["unlinked"] = 211 if not User.become(named.get_session_token()).get("authData") else 0
print(json.dumps(result))
"""


class SignInTest(StorageTestCase):
    def run_sdk(self, command, **environment):
        """What a program prints, that finds the server in its environment."""
        third = ThirdParties(self)
        storage = self.start()
        file = self.folder / "sms"
        storage.service.sms = Sender(Command(f"cat > '{file}.new' && mv '{file}.new' '{file}'").deliver)
        ids = {"LEANSTORAGE_AUTH_LC_WEAPP_ID": APP, "LEANSTORAGE_AUTH_LC_WEAPP_SECRET": SECRET}
        found = [provider_of(f"{name}@{third.url}", ids) for name in ("lc_weapp=weapp", "weixin=weixin")]
        storage.service.providers = {provider.name: provider.ask for provider in found}
        environment |= {"APP_ID": storage.keys["id"], "APP_KEY": storage.keys["key"], "SERVER_URL": storage.url, "SMS_FILE": str(file)}
        with mock.patch.object(sms_codes, "PAUSE_MS", 0):  # a program of some seconds asks for many codes
            done = subprocess.run(
                command, env=clean_environment(LC_API_SERVER=storage.url, **environment), cwd=self.folder, capture_output=True, text=True, timeout=120
            )
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        return json.loads(done.stdout.strip().splitlines()[-1])

    def test_python_sdk_signs_in(self):
        self.assertEqual(self.run_sdk([*python("-c", PYTHON)]), {**PHONE, **WEAPP})

    @unittest.skipUnless(shutil.which("node"), "Node is not installed")
    @unittest.skipUnless(os.path.isdir(os.path.join(NODE, "leancloud-storage")), "NODE_PATH has no leancloud-storage")
    def test_javascript_sdk_signs_in(self):
        program = str(ROOT / "tests" / "javascript" / "signing_in.js")
        self.assertEqual(self.run_sdk(["node", program], NODE_PATH=NODE), {**PHONE, **WEAPP})

    @unittest.skipUnless(shutil.which("java") and os.path.isdir(JAVA), "JAVA_SDK names no folder of the Java SDK's jars")
    def test_java_sdk_signs_in(self):
        program = str(ROOT / "tests" / "java" / "SigningIn.java")
        self.assertEqual(self.run_sdk(["java", "-cp", f"{JAVA}/*", program]), {**PHONE, **WEAPP})


if __name__ == "__main__":
    unittest.main()
