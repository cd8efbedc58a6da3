"""Third parties that are asked: who is let in, as whom, and what a failure says."""
import base64
import contextlib
import hmac
import io
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import requests

from leanstorage import signing_in
from leanstorage.__main__ import parser
from leanstorage.outside import providers
from leanstorage.outside.providers import provider_of
from tests.leanstorage.service_support import KEYS, ServiceTestCase
from tests.leanstorage.third_party_server import APP, SECRET, ThirdParties, token_times
from tests.support import ROOT, clean_environment, python

try:
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives import serialization
except ImportError:
    jwt = None

ENVIRONMENT = {
    "LEANSTORAGE_AUTH_LC_WEAPP_ID": APP,
    "LEANSTORAGE_AUTH_LC_WEAPP_SECRET": SECRET,
    "LEANSTORAGE_AUTH_QQ_ID": "qqapp",
    "LEANSTORAGE_AUTH_WEIBO_ID": "1352222456",
    "LEANSTORAGE_AUTH_LC_APPLE_ID": "com.example.app, com.example.web",
    "LEANSTORAGE_AUTH_CORP_ID": "client",
}
KINDS = {"lc_weapp": "weapp", "weixin": "weixin", "qq": "qq", "weibo": "weibo"}
GOOD = {
    "lc_weapp": {"code": "good"},
    "weixin": {"openid": "o-weixin", "access_token": "good", "expires_in": 7200},
    "qq": {"openid": "o-qq", "access_token": "good"},
    "weibo": {"uid": "1073880650", "access_token": "good"},
}
IDENTITIES = {"lc_weapp": "o-weapp", "weixin": "o-weixin", "qq": "o-qq", "weibo": "1073880650"}


class ProvidersTestCase(ServiceTestCase):
    kinds = KINDS

    def setUp(self):
        self.third = ThirdParties(self)
        found = [provider_of(f"{name}={kind}@{self.third.url}", ENVIRONMENT) for name, kind in self.kinds.items()]
        self.service.providers = {provider.name: provider.ask for provider in found}
        self.service.asked_platforms = frozenset(provider.platform for provider in found if provider.platform)

    def sign_in(self, provider, data, **more):
        return self.api("POST", "/users", {"authData": {provider: data}}, more.pop("status", 201), **more)

    def refused(self, code, provider, data, **more):
        with contextlib.redirect_stderr(io.StringIO()) as log:
            text = self.code(code, "POST", "/users", {"authData": {provider: data}}, **more)
        for secret in (SECRET, *(str(value) for value in data.values() if value not in ("", None, True, False))):
            self.assertNotIn(secret, text + log.getvalue())
        return log.getvalue()


class AskTest(ProvidersTestCase):
    def test_account_that_the_third_party_knows_signs_up_then_logs_in(self):
        for provider, data in GOOD.items():
            with self.subTest(provider):
                first = self.sign_in(provider, data)
                again = self.sign_in(provider, data, status=200)
                self.assertEqual((again["objectId"], again["sessionToken"]), (first["objectId"], first["sessionToken"]))
                found = first["authData"][provider]
                self.assertEqual(found.get("uid") or found.get("openid"), IDENTITIES[provider])
                self.assertNotIn("code", found)
                if provider == "weixin":
                    self.assertEqual(found, data)
        self.assertEqual(first["authData"].keys(), {"weibo"})

    def test_code_of_a_mini_program_becomes_its_account(self):
        user = self.sign_in("lc_weapp", {"code": "good"}, status=self.once("lc_weapp"))
        self.assertEqual(user["authData"]["lc_weapp"], {"openid": "o-weapp", "session_key": "k=="})
        path, given = self.third.asked[-1]
        self.assertEqual((path, given["js_code"], given["grant_type"]), ("/sns/jscode2session", "good", "authorization_code"))

    def once(self, provider):
        """200 where another test has signed this account up already."""
        key = IDENTITIES[provider]
        return 200 if self.service.store.read(lambda transaction: transaction.record(f"auth:{provider}", key)) else 201

    def test_account_that_it_does_not_know_is_refused(self):
        rows = [
            (252, "lc_weapp", {"code": "made up"}),
            (252, "lc_weapp", {"openid": "o-weapp", "session_key": "k"}),  # without a code nobody can be asked
            (252, "lc_weapp", {"code": {"a": 1}}),
            (252, "lc_weapp", {"code": "good", "openid": "o-victim"}),
            (252, "weixin", {"openid": "o-victim", "access_token": "good"}),
            (252, "weixin", {"openid": "o-weixin", "access_token": "made up"}),
            (252, "weixin", {"openid": "o-weixin"}),
            (251, "qq", {"openid": "o-qq", "access_token": "other app"}),
            (251, "qq", {"openid": "o-victim", "access_token": "good"}),
            (251, "qq", {"openid": "o-qq", "access_token": "made up"}),
            (251, "weibo", {"uid": "1073880650", "access_token": "other app"}),
            (251, "weibo", {"uid": "1073880650", "access_token": "old"}),
            (251, "weibo", {"uid": "42", "access_token": "good"}),
            (251, "weibo", {"access_token": "good" * 2000, "uid": "1"}),
            (251, "github", {"uid": "1", "access_token": "x"}),
        ]
        for code, provider, data in rows:
            with self.subTest(provider=provider, data=str(data)[:60]):
                self.refused(code, provider, data)

    def test_address_that_is_refused_too_often_is_429_and_nobody_is_asked(self):
        def sign_in(code, address):
            headers = {"X-LC-Id": KEYS["id"], "X-LC-Key": KEYS["key"], "Content-Type": "application/json"}
            body = json.dumps({"authData": {"lc_weapp": {"code": code}}}).encode()
            return self.raw("POST", "/1.1/users", body, headers, REMOTE_ADDR=address).status

        with unittest.mock.patch.object(self.service.options, "max_logins_per_address", 3):
            self.assertEqual([sign_in("made up", "10.9.1.1") for _ in range(5)], [400, 400, 400, 429, 429])
            self.assertEqual(len(self.third.asked), 3)
            self.assertEqual(sign_in("good", "10.9.1.1"), 429)
            self.assertLess(sign_in("good", "10.9.1.2"), 300)
            self.third.state = "down"
            with contextlib.redirect_stderr(io.StringIO()):
                self.assertEqual([sign_in("good", "10.9.1.3") for _ in range(5)], [400] * 5)  # no guesses of the address's

    def test_id_beside_the_one_that_was_asked_for_counts_for_nothing(self):
        victim = self.api("POST", "/users", {"authData": {"weixin": {"openid": "o-victim"}}}, 201, master=True)
        for more in ({"uid": "o-victim"}, {"id": "o-victim"}):
            with self.subTest(more):
                user = self.sign_in("weixin", {**GOOD["weixin"], **more}, status=self.once("weixin"))
                self.assertNotEqual(user["objectId"], victim["objectId"])

    def test_account_is_linked_to_a_user_and_the_rest_is_not_asked_again(self):
        user = self.user("linked")
        path, session = f"/users/{user['objectId']}", user["sessionToken"]
        self.api("PUT", path, {"authData": {"weixin": {"openid": "o-weixin2", "access_token": "plain"}}}, session=session)
        stored = self.api("GET", path, session=session)["authData"]
        self.third.asked.clear()
        self.api("PUT", path, {"authData": {**stored, "lc_weapp": {"code": "union"}}}, session=session)
        self.assertEqual([path for path, _ in self.third.asked], ["/sns/jscode2session"])
        self.assertEqual(set(self.api("GET", path, session=session)["authData"]), {"weixin", "lc_weapp"})
        self.code(252, "PUT", path, {"authData": {"weixin": {"openid": "o-weixin2", "access_token": "x"}}}, session=session)
        self.api("PUT", path, {"authData": {"weixin": None, "lc_weapp": None}}, session=session)

    def test_third_party_that_cannot_be_asked_is_said_once_and_nobody_gets_in(self):
        for state in ("down", "html", "huge", "elsewhere"):
            self.third.state = state
            with self.subTest(state):
                log = self.refused(251, "lc_weapp", {"code": "good"})
                self.assertEqual(log.count("cannot be asked"), 1 if state == "down" else 0)
        self.assertEqual(self.third.asked[-1][0], "/sns/jscode2session")  # the redirect was not followed

    def test_third_party_that_hangs_is_given_up(self):
        self.third.state = "slow"
        with unittest.mock.patch.object(providers, "QUEUE_SECONDS", 1), unittest.mock.patch("leanstorage.outside.ask.READ_SECONDS", 0.5):
            self.assertIn("no answer in time", self.refused(251, "qq", GOOD["qq"]))

    def test_wrong_id_or_secret_of_ours_is_the_operators_to_mend(self):
        provider = provider_of(f"lc_weapp=weapp@{self.third.url}", {**ENVIRONMENT, "LEANSTORAGE_AUTH_LC_WEAPP_SECRET": "wrong-one"})
        self.service.providers = {"lc_weapp": provider.ask}
        self.assertIn("wrong id", self.refused(251, "lc_weapp", {"code": "good"}))


class UnionTest(ProvidersTestCase):
    def test_two_apps_of_one_vendor_meet_in_the_union_id_that_weixin_gave(self):
        main = self.sign_in("lc_weapp", {"code": "union", "platform": "weixin", "main_account": True})
        self.addCleanup(self.api, "DELETE", f"/users/{main['objectId']}", master=True)
        self.assertEqual(main["authData"]["_weixin_unionid"], {"uid": "u1"})
        self.assertEqual(main["authData"]["lc_weapp"]["unionid"], "u1")
        data = {"openid": "o-weixin", "access_token": "good", "platform": "weixin", "main_account": False}
        other = self.sign_in("weixin", data, status=200)
        self.assertEqual(other["objectId"], main["objectId"])
        self.assertEqual(set(other["authData"]), {"lc_weapp", "weixin", "_weixin_unionid"})

    def test_union_id_that_nobody_gave_is_refused(self):
        rows = [
            (252, "lc_weapp", {"code": "good", "unionid": "u1", "platform": "weixin", "main_account": False}),
            (252, "lc_weapp", {"code": "union", "unionid": "u-victim", "platform": "weixin"}),
            (252, "lc_weapp", {"code": "union", "platform": "qq", "main_account": False}),
            (252, "weixin", {"openid": "o-weixin2", "access_token": "plain", "unionid": "u1", "platform": "weixin"}),
            (251, "qq", {"openid": "o-qq", "access_token": "good", "unionid": "u1", "platform": "qq"}),
        ]
        for code, provider, data in rows:
            with self.subTest(data):
                self.code(code, "POST", "/users", {"authData": {provider: data}})

    def test_union_id_of_a_platform_that_is_asked_is_believed_of_nobody_else(self):
        main = self.sign_in("lc_weapp", {"code": "union", "platform": "weixin", "main_account": True})
        self.addCleanup(self.api, "DELETE", f"/users/{main['objectId']}", master=True)
        claimed = {"unionid": "u1", "platform": "weixin", "main_account": True}
        attacks = [
            ("made_up", {"uid": "1", **claimed}),
            ("weixin_2", {"openid": "1", **claimed}),
            ("_weixin_unionid", {"uid": "u1"}),
        ]
        with unittest.mock.patch.object(self.service.options, "trusted_providers", frozenset(["anonymous", "*"])):
            for provider, data in attacks:
                with self.subTest(provider):
                    self.code(251, "POST", "/users", {"authData": {provider: data}})
            self.sign_in("made_up", {"uid": "1"})
            other = self.sign_in("made_up", {"uid": "2", **claimed, "platform": "facebook"})  # which nobody is asked for
            self.assertNotEqual(other["objectId"], main["objectId"])
        with unittest.mock.patch.object(self.service.options, "trusted_providers", frozenset(["anonymous", "weixin_2"])):
            found = self.sign_in("weixin_2", {"openid": "1", **claimed}, status=200)
            self.assertEqual(found["objectId"], main["objectId"])  # the operator has named it

    def test_qq_gives_its_union_id_when_it_is_wanted(self):
        user = self.sign_in("qq", {**GOOD["qq"], "platform": "qq", "main_account": True})
        self.assertEqual(user["authData"]["_qq_unionid"], {"uid": "uq"})


class SetUpTest(unittest.TestCase):
    def test_service_knows_whose_union_ids_the_providers_speak_for(self):
        given = parser().parse_args(["serve", "--auth-provider", "lc_weapp=weapp", "--auth-provider", "weibo=weibo"])
        given.environment = ENVIRONMENT
        service = signing_in.equip(unittest.mock.Mock(), given)
        self.assertEqual((set(service.providers), service.asked_platforms), ({"lc_weapp", "weibo"}, {"weixin", "weibo"}))

    def test_options_that_cannot_be_are_refused(self):
        rows = [
            ("weixin", "must be"),
            ("weixin=facebook", "must be"),
            ("anonymous=weixin", "must be"),
            ("_weixin_unionid=weixin", "must be"),
            ("a.b=weixin", "must be"),
            ("corp=oidc", "needs a URL"),
            ("lc_weapp=weapp", "LEANSTORAGE_AUTH_LC_WEAPP_ID"),
            ("qq=qq", "LEANSTORAGE_AUTH_QQ_ID"),
            ("weixin=weixin@http://169.254.169.254", "https"),
            ("weixin=weixin@file:///etc/passwd", "https"),
            ("weixin=weixin@https://h/?a=b", "https"),
        ]
        for option, text in rows:
            with self.subTest(option), self.assertRaisesRegex(ValueError, text):
                provider_of(option, {})

    def test_signed_tokens_without_pyjwt_are_refused_at_the_start(self):
        code = (
            "import sys; sys.modules['jwt'] = None\n"
            "from leanstorage.outside.providers import provider_of\n"
            "provider_of('a=apple', {'LEANSTORAGE_AUTH_A_ID': 'x'})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertIn("ValueError: --auth-provider: signed tokens need PyJWT", done.stderr)


class ServeTest(unittest.TestCase):
    def run_serve(self, *options, **environment):
        data = Path(tempfile.mkdtemp(prefix="providers-"))
        self.addCleanup(shutil.rmtree, data)
        command = python("-m", "leanstorage", "serve", "--port", "0", *options)
        environment = clean_environment(LEANSTORAGE_DATA=str(data), **environment)
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return process, data

    def test_serve_asks_the_providers_that_it_is_given(self):
        third = ThirdParties(self)
        ids = {name: value for name, value in ENVIRONMENT.items() if "WEAPP" in name}
        process, data = self.run_serve("--auth-provider", f"lc_weapp=weapp@{third.url}", "--auth-provider", f"weixin=weixin@{third.url}", **ids)
        try:
            url = process.stdout.readline().split()[-1]
            keys = json.loads((data / "keys.json").read_text())
            headers = {"X-LC-Id": keys["id"], "X-LC-Key": keys["key"]}
            for auth_data, status in (({"lc_weapp": {"code": "good"}}, 201), ({"weixin": GOOD["weixin"]}, 201), ({"qq": GOOD["qq"]}, 400)):
                answer = requests.post(f"{url}/1.1/users", json={"authData": auth_data}, headers=headers, timeout=15)
                self.assertEqual(answer.status_code, status)
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        self.assertNotIn(SECRET, errors)

    def test_serve_with_a_provider_that_cannot_be_does_not_start(self):
        for options, text in ((["qq=qq"], "LEANSTORAGE_AUTH_QQ_ID is not"), (["weixin=weixin", "weixin=weixin"], "a name comes twice")):
            with self.subTest(options):
                process, _ = self.run_serve(*[word for option in options for word in ("--auth-provider", option)])
                _, errors = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 1)
                self.assertIn(f"cannot start: --auth-provider{'' if 'twice' not in text else ':'} ", errors)
                self.assertIn(text, errors)


@unittest.skipIf(jwt is None, "PyJWT is not installed")
class TokenTest(ProvidersTestCase):
    kinds = {"lc_apple": "apple", "corp": "oidc"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.key, cls.other = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048)
        cls.curve = ec.generate_private_key(ec.SECP256R1())

    def setUp(self):
        super().setUp()
        self.publish(("k1", self.key, "RS256"))

    def publish(self, *keys):
        made = []
        for key_id, key, algorithm in keys:
            made.append({**jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True), "kid": key_id, "alg": algorithm, "use": "sig"})
        self.third.keys = {"keys": made}

    def token(self, key=None, algorithm="RS256", kid="k1", **claims):
        whole = {"iss": self.third.url, "aud": "com.example.app", "sub": "001.abc", **token_times(), **claims}
        whole = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(whole, key or self.key, algorithm, {"kid": kid})

    def signed_with_the_public_key(self):
        encoding = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "k1"}).encode()).rstrip(b"=")
        body = head + b"." + self.token().split(".")[1].encode()
        digest = hmac.digest(self.key.public_key().public_bytes(*encoding), body, "sha256")
        return (body + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()

    def test_account_of_apple_or_of_any_issuer_signs_in(self):
        for provider, name, aud in (("lc_apple", "identity_token", "com.example.web"), ("corp", "id_token", "client")):
            with self.subTest(provider):
                data = {name: self.token(aud=aud), "code": "c"}
                first = self.sign_in(provider, data)
                self.assertEqual(first["authData"][provider]["uid"], "001.abc")
                self.assertNotIn("code", first["authData"][provider])
                again = self.sign_in(provider, {**data, "uid": "001.abc"}, status=200)
                self.assertEqual(again["objectId"], first["objectId"])

    def test_token_that_is_not_theirs_or_not_ours_is_refused(self):
        rows = {
            "another key": self.token(self.other),
            "their public key as a secret": self.signed_with_the_public_key(),
            "no signature": jwt.encode({"sub": "1", **token_times()}, None, "none", {"kid": "k1"}),
            "late": self.token(**token_times(-600)),
            "another app": self.token(aud="com.evil.app"),
            "several apps": self.token(aud=["com.example.app", "com.evil.app"], azp="com.evil.app"),
            "another issuer": self.token(iss="https://evil.example"),
            "no end": self.token(exp=None),
            "nobody": self.token(sub=None),
            "unknown key": self.token(kid="k9"),
            "nonsense": "a.b.c",
            "nothing": "",
            "long": "x" * 5000,
            "no text": 5,
        }
        for name, token in rows.items():
            with self.subTest(name):
                text = self.code(251, "POST", "/users", {"authData": {"lc_apple": {"identity_token": token}}})
                self.assertNotIn(str(token) or "-", text)
        self.code(251, "POST", "/users", {"authData": {"lc_apple": {"identity_token": self.token(), "uid": "001.victim"}}})

    def test_keys_are_kept_and_new_ones_are_found(self):
        self.sign_in("corp", {"id_token": self.token(aud="client", sub="a")})
        asked = len(self.third.asked)
        self.sign_in("corp", {"id_token": self.token(aud="client", sub="b")})
        self.assertEqual(len(self.third.asked), asked)
        self.publish(("k2", self.curve, "ES256"))
        with unittest.mock.patch("leanstorage.outside.tokens.RENEW_SECONDS", -1):
            self.sign_in("corp", {"id_token": self.token(self.curve, "ES256", "k2", aud="client", sub="c")})
            self.code(251, "POST", "/users", {"authData": {"corp": {"id_token": self.token(aud="client", sub="d")}}})

    def test_issuer_that_is_another_or_down_lets_nobody_in(self):
        for state, issuer in (("", "https://evil.example"), ("down", None)):
            self.setUp()
            self.third.state, self.third.issuer = state, issuer
            with self.subTest(state), contextlib.redirect_stderr(io.StringIO()) as log:
                self.code(251, "POST", "/users", {"authData": {"corp": {"id_token": self.token(aud="client")}}})
                self.assertEqual(log.getvalue().count("cannot be asked"), 1)


if __name__ == "__main__":
    unittest.main()
