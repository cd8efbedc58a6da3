"""The senders of SMS: a real command, a real gateway over HTTP, and `serve` with either of them."""
import contextlib
import fcntl
import hmac
import io
import json
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from leanstorage.outside.sms import LATER, MAX_SENDING, NEVER, SENT, Command, Gateway, Sender, signature
from tests.support import ROOT, clean_environment, python

MESSAGE = {"to": "+8613900000000", "code": "123456"}


class StandIn:
    """A gateway on a free port that answers with each of `statuses` in turn, then with the last again."""

    def __init__(self, test, *statuses):
        self.requests = []
        outer, rest = self, list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((dict(self.headers), body))
                self.send_response(rest.pop(0) if len(rest) > 1 else rest[0])
                self.send_header("Content-Length", "0")
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        test.addCleanup(server.server_close)
        test.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}/sms"


class CommandTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="sms-"))
        self.addCleanup(subprocess.run, ["rm", "-r", str(self.folder)], check=True)

    def test_command_gets_the_message_on_its_standard_input(self):
        file = self.folder / "sent"
        self.assertEqual(Command(f"cat > '{file}'").deliver(json.dumps(MESSAGE).encode()), SENT)
        self.assertEqual(json.loads(file.read_text()), MESSAGE)

    def test_command_that_cannot_be_started_is_tried_again_later(self):
        self.assertEqual(Command("true #" + "x" * (1 << 20)).deliver(b"{}"), LATER)  # longer than the system takes

    def test_command_that_fails_or_hangs_is_tried_again_later(self):
        self.assertEqual(Command("exit 3").deliver(b"{}"), LATER)
        file = self.folder / "lock"
        self.assertEqual(Command(f"exec 9>'{file}'; flock 9; echo >&9; sleep 600; true", 2).deliver(b"{}"), LATER)
        with open(file) as lock:
            self.assertEqual(lock.read(), "\n")
            fcntl.flock(lock, fcntl.LOCK_EX)  # what it started is gone, too, or this would wait for it

    def test_command_that_reads_nothing_is_no_error(self):
        self.assertEqual(Command("true").deliver(b"x" * (1 << 20)), SENT)


class GatewayTest(unittest.TestCase):
    def test_message_is_signed_over_its_time_and_body(self):
        gateway = StandIn(self, 200)
        self.assertEqual(Gateway(gateway.url, "s3cret").deliver(b'{"a":1}'), SENT)
        [(headers, body)] = gateway.requests
        sent_at = headers["X-LeanStorage-Timestamp"]
        expected = hmac.new(b"s3cret", sent_at.encode() + b"." + body, "sha256").hexdigest()
        self.assertEqual(headers["X-LeanStorage-Signature"], f"sha256={expected}")
        self.assertEqual(signature("s3cret", sent_at, body), f"sha256={expected}")
        self.assertLess(abs(time.time() - int(sent_at)), 60)

    def test_status_tells_whether_to_try_again(self):
        for status, outcome in ((204, SENT), (500, LATER), (503, LATER), (429, LATER), (400, NEVER), (302, NEVER)):
            with self.subTest(status):
                self.assertEqual(Gateway(StandIn(self, status).url, "s").deliver(b"{}"), outcome)

    def test_nobody_at_the_url_is_tried_again_later(self):
        self.assertEqual(Gateway("http://127.0.0.1:9/", "s").deliver(b"{}"), LATER)

    def test_gateway_elsewhere_needs_tls_and_a_secret(self):
        for url, secret in (("http://sms.example/", "s"), ("ftp://127.0.0.1/", "s"), ("https://sms.example/", "")):
            with self.subTest(url), self.assertRaises(ValueError):
                Gateway(url, secret)


class SenderTest(unittest.TestCase):
    def test_message_is_tried_again(self):
        gateway = StandIn(self, 500, 200)
        sender = Sender(Gateway(gateway.url, "s").deliver)
        self.assertTrue(sender.send(None, MESSAGE))
        self.assertEqual([json.loads(body) for _, body in gateway.requests], [MESSAGE, MESSAGE])

    def test_stuck_sender_holds_nobody_up_and_more_are_refused(self):
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        sender = Sender(lambda data: SENT if go_on.wait(60) else NEVER)
        asking = [threading.Thread(target=sender.send, args=(None, MESSAGE)) for _ in range(MAX_SENDING)]
        with contextlib.redirect_stderr(io.StringIO()) as log:
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join(30)
                self.assertFalse(thread.is_alive())
            self.assertFalse(sender.send(None, MESSAGE))
        self.assertNotIn("123456", log.getvalue())


class ServeTest(unittest.TestCase):
    def setUp(self):
        self.data = Path(tempfile.mkdtemp(prefix="sms-serve-"))
        self.addCleanup(subprocess.run, ["rm", "-r", str(self.data)], check=True)

    def serve(self, *options, **environment):
        """(process, URL, keys) of `serve`."""
        environment = clean_environment(LEANSTORAGE_DATA=str(self.data), **environment)
        command = python("-m", "leanstorage", "serve", "--port", "0", *options)
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def end():
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)

        self.addCleanup(end)
        url = process.stdout.readline().split()[-1]
        return process, url, json.loads((self.data / "keys.json").read_text())

    def ask(self, url, keys, path, **body):
        headers = {"X-LC-Id": keys["id"], "X-LC-Key": keys["key"]}
        answer = requests.post(f"{url}/1.1{path}", json=body, headers=headers, timeout=15)
        return answer.status_code, answer.json()

    def test_serve_sends_by_a_command(self):
        file = self.data / "sent"
        _, url, keys = self.serve("--sms-command", f"cat > '{file}'")
        self.assertEqual(self.ask(url, keys, "/requestSmsCode", mobilePhoneNumber="13900000000"), (200, {}))
        code = json.loads(file.read_text())["code"]
        self.assertEqual(self.ask(url, keys, f"/verifySmsCode/{code}", mobilePhoneNumber="+8613900000000"), (200, {}))

    def test_serve_sends_by_a_gateway(self):
        gateway = StandIn(self, 200)
        _, url, keys = self.serve("--sms-url", gateway.url, LEANSTORAGE_SMS_SECRET="s3cret")
        self.assertEqual(self.ask(url, keys, "/requestSmsCode", mobilePhoneNumber="13900000000"), (200, {}))
        self.assertEqual(json.loads(gateway.requests[0][1])["to"], "+8613900000000")

    def test_serve_beyond_this_machine_refuses_without_a_sender(self):
        _, url, keys = self.serve("--public-url", "https://api.example")
        status, answer = self.ask(url, keys, "/requestSmsCode", mobilePhoneNumber="13900000000")
        self.assertEqual((status, answer["code"]), (400, 119))

    def test_serve_with_two_senders_or_none_that_can_be_does_not_start(self):
        for options in (("--sms-command", "true", "--sms-url", "https://sms.example/"), ("--sms-url", "https://sms.example/")):
            with self.subTest(options):
                command = python("-m", "leanstorage", "serve", "--port", "0", *options)
                environment = clean_environment(LEANSTORAGE_DATA=str(self.data))
                done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 1)
                self.assertIn("cannot start: --sms-", done.stderr)


if __name__ == "__main__":
    unittest.main()
