"""The scripts in docs/sms: their signatures against the vendors' own examples, and against stand-ins that check them."""
import base64
import hashlib
import hmac
import importlib.util
import json
import subprocess
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote

from tests.support import ROOT, clean_environment, python

FOLDER = ROOT / "docs" / "sms"
MESSAGE = {
    "id": "9f0c",
    "to": "+8613912345678",
    "code": "123456",
    "purpose": "login",
    "minutes": 10,
    "type": "sms",
    "text": "...",
    "template": None,
    "sign": None,
    "variables": {},
}
ALIYUN = {"ALIYUN_ACCESS_KEY_ID": "id", "ALIYUN_ACCESS_KEY_SECRET": "s3cret", "ALIYUN_SMS_SIGN": "商店 *~", "ALIYUN_SMS_TEMPLATE": "SMS_1"}
TENCENT = {
    "TENCENT_SECRET_ID": "AKID",
    "TENCENT_SECRET_KEY": "s3cret",
    "TENCENT_SMS_APP_ID": "1400000000",
    "TENCENT_SMS_SIGN": "商店",
    "TENCENT_SMS_TEMPLATE": "449739",
}


def module(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def aliyun_answer(headers, body):
    """What Aliyun says to a POST; its signature is made from the wire, by the published rule."""
    given = dict(parse_qsl(body.decode(), strict_parsing=True))
    signature = given.pop("Signature", "")
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in given.items())
    text = "POST&%2F&" + quote("&".join("=".join(pair) for pair in pairs), safe="-_.~")
    wanted = base64.b64encode(hmac.new(b"s3cret&", text.encode(), hashlib.sha1).digest()).decode()
    if not hmac.compare_digest(signature, wanted) or given["AccessKeyId"] != "id":
        return {"Code": "SignatureDoesNotMatch"}, given
    age = abs(time.time() - time.mktime(time.strptime(given["Timestamp"], "%Y-%m-%dT%H:%M:%SZ")) + time.timezone)
    return {"Code": "OK" if age < 900 else "InvalidTimeStamp.Expired"}, given


def tencent_answer(headers, body):
    """What Tencent says to a POST, likewise."""
    given = json.loads(body)
    fields = dict(part.split("=", 1) for part in headers["Authorization"].removeprefix("TC3-HMAC-SHA256 ").split(", "))
    key_id, date, service, _ = fields["Credential"].split("/")
    signed = fields["SignedHeaders"].split(";")
    lines = "".join(f"{name}:{headers[name]}\n" for name in signed)
    request = f"POST\n/\n\n{lines}\n{';'.join(signed)}\n{hashlib.sha256(body).hexdigest()}"
    seconds = headers["X-TC-Timestamp"]
    text = f"TC3-HMAC-SHA256\n{seconds}\n{date}/{service}/tc3_request\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = b"TC3s3cret"
    for part in (date, service, "tc3_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    is_theirs = hmac.compare_digest(fields["Signature"], wanted) and (key_id, service) == ("AKID", "sms")
    is_dated = date == time.strftime("%Y-%m-%d", time.gmtime(int(seconds))) and abs(time.time() - int(seconds)) < 300
    if not is_theirs or not is_dated or headers["X-TC-Action"] != "SendSms" or headers["X-TC-Version"] != "2021-01-11":
        return {"Response": {"Error": {"Code": "AuthFailure.SignatureFailure", "Message": ""}}}, given
    return {"Response": {"SendStatusSet": [{"Code": "Ok"}]}}, given


class ScriptsTest(unittest.TestCase):
    def stand_in(self, answer):
        """(URL, list of what was sent) of a server that answers so."""
        sent = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                value, given = answer(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
                sent.append(given)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(value).encode())

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}/", sent

    def run_script(self, name, message=MESSAGE, **environment):
        return subprocess.run(
            python(str(FOLDER / f"{name}.py")),
            input=json.dumps(message),
            env=clean_environment(**environment),
            capture_output=True,
            text=True,
            timeout=30,
        )

    def test_signatures_are_those_of_the_vendors_own_examples(self):
        parameters = {
            "AccessKeyId": "testId",
            "Timestamp": "2017-07-12T02:42:19Z",
            "SignatureMethod": "HMAC-SHA1",
            "SignatureVersion": "1.0",
            "SignatureNonce": "45e25e9b-0a6f-4070-8c85-2956eda1b466",
            "Format": "XML",
            "Action": "SendSms",
            "Version": "2017-05-25",
            "RegionId": "cn-hangzhou",
            "PhoneNumbers": "15300000001",
            "SignName": "阿里云短信测试专用",
            "TemplateParam": '{"customer":"test"}',
            "TemplateCode": "SMS_71390007",
            "OutId": "123",
        }
        self.assertEqual(module("aliyun").signature(parameters, "testSecret", "GET"), "zJDF+Lrzhj/ThnlvIToysFRq6t4=")
        body = b'{"Limit": 1, "Filters": [{"Values": ["\\u672a\\u547d\\u540d"], "Name": "instance-name"}]}'
        header = module("tencent").authorization("cvm.tencentcloudapi.com", body, 1551113065, "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", "cvm")
        self.assertTrue(header.endswith("Signature=72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"), header)

    def test_aliyun_takes_what_its_script_sends(self):
        url, sent = self.stand_in(aliyun_answer)
        done = self.run_script("aliyun", ALIYUN_SMS_URL=url, **ALIYUN)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(sent[0]["PhoneNumbers"], "13912345678")
        self.assertEqual((sent[0]["SignName"], sent[0]["TemplateCode"]), ("商店 *~", "SMS_1"))
        self.assertEqual(json.loads(sent[0]["TemplateParam"]), {"code": "123456"})
        more = {**MESSAGE, "to": "+17646000000", "template": "SMS_2", "variables": {"date": "十月"}}
        self.assertEqual(self.run_script("aliyun", more, ALIYUN_SMS_URL=url, **ALIYUN).returncode, 0)
        self.assertEqual((sent[1]["PhoneNumbers"], sent[1]["TemplateCode"]), ("17646000000", "SMS_2"))
        self.assertEqual(json.loads(sent[1]["TemplateParam"]), {"code": "123456", "date": "十月"})

    def test_tencent_takes_what_its_script_sends(self):
        url, sent = self.stand_in(tencent_answer)
        done = self.run_script("tencent", TENCENT_SMS_URL=url, **TENCENT)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual((sent[0]["PhoneNumberSet"], sent[0]["TemplateParamSet"]), (["+8613912345678"], ["123456", "10"]))

    def test_wrong_secret_is_said_and_nothing_else(self):
        rows = (("aliyun", aliyun_answer, ALIYUN, "ALIYUN_ACCESS_KEY_SECRET"), ("tencent", tencent_answer, TENCENT, "TENCENT_SECRET_KEY"))
        for name, answer, environment, variable in rows:
            with self.subTest(name):
                url, _ = self.stand_in(answer)
                done = self.run_script(name, **{f"{name.upper()}_SMS_URL": url}, **{**environment, variable: "wr0ng"})
                self.assertEqual(done.returncode, 1)
                self.assertIn("Signature", done.stderr)
                for secret in ("wr0ng", "123456", "13912345678"):
                    self.assertNotIn(secret, done.stderr)


if __name__ == "__main__":
    unittest.main()
