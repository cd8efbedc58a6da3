"""Send one SMS by Aliyun, for `serve --sms-command "python3 docs/sms/aliyun.py"`. Nothing but Python is needed.

Environment: ALIYUN_ACCESS_KEY_ID, ALIYUN_ACCESS_KEY_SECRET, ALIYUN_SMS_SIGN and ALIYUN_SMS_TEMPLATE, a template with the
variable `code`. Signature: RPC style, HMAC-SHA1.
"""
import base64
import hmac
import json
import os
import sys
import urllib.request
import uuid
from datetime import datetime, UTC
from urllib.parse import quote, urlencode


def encoded(text):
    return quote(text, safe="-_.~")


def signature(parameters, secret, method="POST"):
    """Over the parameters, sorted and encoded."""
    query = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in sorted(parameters.items()))
    data = f"{method}&{encoded('/')}&{encoded(query)}".encode()
    return base64.b64encode(hmac.digest(f"{secret}&".encode(), data, "sha1")).decode()


def main():
    message, env = json.load(sys.stdin), os.environ
    parameters = {
        "Action": "SendSms",
        "Version": "2017-05-25",
        "Format": "JSON",
        "AccessKeyId": env["ALIYUN_ACCESS_KEY_ID"],
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": str(uuid.uuid4()),
        "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "PhoneNumbers": message["to"].removeprefix("+86").removeprefix("+"),
        "SignName": message["sign"] or env["ALIYUN_SMS_SIGN"],
        "TemplateCode": message["template"] or env["ALIYUN_SMS_TEMPLATE"],
        "TemplateParam": json.dumps({**message["variables"], "code": message["code"]}, ensure_ascii=False),
        "OutId": message["id"],
    }
    parameters["Signature"] = signature(parameters, env["ALIYUN_ACCESS_KEY_SECRET"])
    url = env.get("ALIYUN_SMS_URL", "https://dysmsapi.aliyuncs.com/")
    with urllib.request.urlopen(url, urlencode(parameters).encode(), timeout=8) as answer:
        code = json.load(answer).get("Code")
    if code != "OK":
        sys.exit(f"Aliyun: {code}")


if __name__ == "__main__":
    main()
