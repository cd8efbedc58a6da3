"""A stand-in for WeChat, QQ, Weibo, Apple and an OpenID Connect provider, on a free port, over real HTTP."""
import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

APP, SECRET = "wxapp", "wxs3cret"
CODES = {"good": {"openid": "o-weapp", "session_key": "k=="}, "union": {"openid": "o-weapp2", "session_key": "k==", "unionid": "u1"}}
TOKENS = {"good": ("o-weixin", "u1"), "plain": ("o-weixin2", None)}
QQ = {"good": {"client_id": "qqapp", "openid": "o-qq", "unionid": "uq"}, "other app": {"client_id": "evil", "openid": "o-qq"}}
WEIBO = {
    "good": {"uid": 1073880650, "appkey": 1352222456, "expire_in": 9999},
    "old": {"uid": 1073880650, "appkey": 1352222456, "expire_in": -1},
    "other app": {"uid": 1073880650, "appkey": 666, "expire_in": 9999},
}


class ThirdParties:
    """`asked` is [(path, parameters)]; `state` may be `down` (500), `slow`, `huge`, `html` or `elsewhere` (a redirect)."""

    def __init__(self, test):
        self.asked, self.state, self.keys, self.issuer = [], "", {"keys": []}, None
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                parts = urlsplit(self.path)
                outer.answer(self, parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()})

            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.answer(self, urlsplit(self.path).path, {key: values[0] for key, values in parse_qs(text).items()})

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        test.addCleanup(server.server_close)
        test.addCleanup(server.shutdown)
        test.addCleanup(self.released.set)
        self.url = f"http://127.0.0.1:{server.server_port}"

    def answer(self, request, path, given):
        self.asked.append((path, given))
        if path == "/userinfo":
            token = request.headers["Authorization"].removeprefix("Bearer ")
            request.send_response(200 if token.startswith("t-") else 401)
            request.end_headers()
            request.wfile.write(json.dumps({"id": token}).encode())
            return
        if self.state == "slow":
            self.released.wait(60)
        value = b"<html>" if self.state == "html" else b'"' + b"x" * (1 << 20) + b'"' if self.state == "huge" else None
        data = json.dumps(self.found(path, given)).encode() if value is None else value
        request.send_response({"down": 500, "elsewhere": 302}.get(self.state, 200))
        request.send_header("Location", self.url + "/login")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        with contextlib.suppress(OSError):  # whoever asked may have heard enough
            request.wfile.write(data)

    def found(self, path, given):
        token = given.get("access_token")
        if path == "/sns/jscode2session":
            if (given.get("appid"), given.get("secret"), given.get("grant_type")) != (APP, SECRET, "authorization_code"):
                return {"errcode": 40013, "errmsg": "invalid appid"}
            return CODES.get(given.get("js_code"), {"errcode": 40029, "errmsg": "invalid code"})
        if path in ("/sns/auth", "/sns/userinfo"):
            openid, union = TOKENS.get(token, (None, None))
            if given.get("openid") != openid:
                return {"errcode": 40003, "errmsg": "invalid openid"}
            return {"errcode": 0, "errmsg": "ok"} if path == "/sns/auth" else {"openid": openid, **({"unionid": union} if union else {})}
        if path == "/oauth2.0/me":
            found = dict(QQ.get(token, {"error": 100016, "error_description": "access token check failed"}))
            if given.get("unionid") != "1":
                found.pop("unionid", None)
            return found
        if path == "/oauth2/get_token_info":
            return WEIBO.get(token, {"error": "invalid_access_token", "error_code": 21332})
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.issuer or self.url, "jwks_uri": f"{self.url}/auth/keys"}
        if path == "/auth/keys":
            return self.keys
        return {}


def token_times(seconds=600):
    now = int(time.time())
    return {"iat": now, "exp": now + seconds}
