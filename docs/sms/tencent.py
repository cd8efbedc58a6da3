"""Send one SMS by Tencent Cloud, for `serve --sms-command "python3 docs/sms/tencent.py"`. Nothing but Python is needed.

Environment: TENCENT_SECRET_ID, TENCENT_SECRET_KEY, TENCENT_SMS_APP_ID, TENCENT_SMS_SIGN and TENCENT_SMS_TEMPLATE, a template
whose {1} is the code and {2} the minutes; TENCENT_REGION (default: ap-guangzhou). Signature: TC3-HMAC-SHA256.
"""
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.request
from datetime import datetime, UTC
from urllib.parse import urlsplit

TYPE = "application/json; charset=utf-8"


def authorization(host, body, seconds, key_id, key, service="sms"):
    """The header of a POST to `/` with this body."""
    date = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    scope = f"{date}/{service}/tc3_request"
    headers = f"content-type:{TYPE}\nhost:{host}\n"
    request = "\n".join(["POST", "/", "", headers, "content-type;host", hashlib.sha256(body).hexdigest()])
    text = "\n".join(["TC3-HMAC-SHA256", str(seconds), scope, hashlib.sha256(request.encode()).hexdigest()])
    secret = f"TC3{key}".encode()
    for part in (date, service, "tc3_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.new(secret, text.encode(), "sha256").hexdigest()
    return f"TC3-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders=content-type;host, Signature={signature}"


def main():
    message, env = json.load(sys.stdin), os.environ
    url = env.get("TENCENT_SMS_URL", "https://sms.tencentcloudapi.com/")
    host, seconds = urlsplit(url).netloc, int(time.time())
    parameters = {
        "PhoneNumberSet": [message["to"]],
        "SmsSdkAppId": env["TENCENT_SMS_APP_ID"],
        "SignName": message["sign"] or env["TENCENT_SMS_SIGN"],
        "TemplateId": message["template"] or env["TENCENT_SMS_TEMPLATE"],
        "TemplateParamSet": [message["code"], str(message["minutes"]), *message["variables"].values()],
        "SessionContext": message["id"],
    }
    body = json.dumps(parameters).encode()
    headers = {
        "Content-Type": TYPE,
        "Host": host,
        "X-TC-Action": "SendSms",
        "X-TC-Version": "2021-01-11",
        "X-TC-Region": env.get("TENCENT_REGION", "ap-guangzhou"),
        "X-TC-Timestamp": str(seconds),
        "Authorization": authorization(host, body, seconds, env["TENCENT_SECRET_ID"], env["TENCENT_SECRET_KEY"]),
    }
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=8) as answer:
        found = json.load(answer)["Response"]
    code = found["Error"]["Code"] if "Error" in found else found["SendStatusSet"][0]["Code"]
    if code != "Ok":
        sys.exit(f"Tencent: {code}")


if __name__ == "__main__":
    main()
