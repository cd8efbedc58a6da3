"""E-mails over SMTP: a real server on loopback, in the clear, by STARTTLS and by TLS."""
import contextlib
import email
import email.policy
import io
import json
import shutil
import signal
import socketserver
import ssl
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

import requests

from leanstorage.outside.smtp import Smtp
from leanstorage.resources import mail, mail_texts
from leanstorage.resources.mailer import Mailer
from leanstorage.rules.call import Options
from leanstorage.store import now
from tests.leanstorage.service_support import counted_records, ServiceTestCase
from tests.support import changed_environment, clean_environment, python, ROOT


class Handler(socketserver.StreamRequestHandler):
    def setup(self):
        self.mail_server = self.server.mail_server
        self.is_tls, self.sender, self.to = False, None, None
        if self.mail_server.context is not None and not self.mail_server.starts_tls:
            self.encrypt()
        super().setup()

    def encrypt(self):
        self.request = self.mail_server.context.wrap_socket(self.request, server_side=True)
        self.is_tls = True

    def finish(self):
        super().finish()
        self.request.close()

    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        self.say("220 test")
        answers = {"EHLO": self.greet, "STARTTLS": self.start_tls, "AUTH": self.log_in, "MAIL": self.take_sender}
        answers |= {"RCPT": self.take_address, "DATA": self.take_data}
        while line := self.rfile.readline().decode().strip():
            word = line.split(" ")[0].upper()
            if word == "QUIT":
                return self.say("221 bye")
            answers.get(word, lambda line: self.say("250 ok"))(line)

    def greet(self, line):
        for one in ["test", "SMTPUTF8", "8BITMIME", "AUTH PLAIN"] + ["STARTTLS"] * self.mail_server.starts_tls:
            self.say(f"250-{one}")
        self.say("250 HELP")

    def start_tls(self, line):
        self.say("220 go on")
        self.encrypt()
        super().setup()

    def log_in(self, line):
        self.say("235 ok" if line.split()[-1] == self.mail_server.password else "535 wrong")

    def take_sender(self, line):
        self.sender = line
        self.say("250 ok")

    def take_address(self, line):
        self.to = line.split("<")[1].split(">")[0]
        self.say(self.mail_server.answers.get(self.to, "250 ok"))

    def take_data(self, line):
        self.say("354 go on")
        data = b""
        while not data.endswith(b"\r\n.\r\n"):
            data += self.rfile.readline()
        self.mail_server.messages.append((self.sender, self.to, data[:-3]))
        self.mail_server.tls.append(self.is_tls)
        self.say("250 ok")
        self.mail_server.arrived.set()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True

    def handle_error(self, *_):
        pass


class SmtpServer:
    """A mail server on a free port: `messages` is [(from, to, data)], `answers` what it says to some of the addresses."""

    def __init__(self, test, host="127.0.0.1", context=None, starts_tls=False, answers=None, password=None):
        self.context, self.starts_tls, self.answers, self.password = context, starts_tls, answers or {}, password
        self.messages, self.arrived = [], threading.Event()
        self.tls = []  # whether each message came encrypted
        server = Server((host, 0), Handler)
        server.mail_server = self
        threading.Thread(target=server.serve_forever, daemon=True).start()
        test.addCleanup(server.server_close)
        test.addCleanup(server.shutdown)
        self.address = f"{host}:{server.server_address[1]}"


def smtp(url, sender="Shop <no-reply@shop.example>", user="", password=""):
    return Smtp(url, sender, user, password, mail.Unreachable, mail.Undeliverable)


class SmtpTest(ServiceTestCase):
    options = Options(public_url="https://storage.example/", verify_emails=True)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.certificate, key = cls.folder / "cert.pem", cls.folder / "key.pem"
        names = "subjectAltName=IP:127.0.0.2,DNS:localhost"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext", names]
        subprocess.run([*command, "-keyout", str(key), "-out", str(cls.certificate)], check=True, capture_output=True)
        cls.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cls.context.load_cert_chain(cls.certificate, key)

    def setUp(self):
        def forget(transaction):
            for kind in (mail.OUTBOX, mail.DONE, "mailed"):
                for key, _ in transaction.records(kind):
                    transaction.delete_record(kind, key)

        self.service.store.write(forget)

    def trusting(self):
        return changed_environment(SSL_CERT_FILE=str(self.certificate))

    def write(self, *addresses):
        for number, to in enumerate(addresses):
            message = {"to": to, "subject": "你好", "text": f"第 {number} 封\n.\nend"}
            key = f"{now():014d}-{number}"
            self.service.store.write(lambda transaction: transaction.put_record("outbox", key, message))  # noqa: B023

    def send(self, url, **more):
        with smtp(url, **more).connected() as deliver:
            return mail.hand_on_due(self.service.store, deliver, 60_000)

    def test_message_arrives_whole(self):
        server = SmtpServer(self)
        self.write("a@example.com", "ö@exämple.com")
        self.assertEqual(self.send(f"smtp://{server.address}"), (2, 0))
        sender, to, data = server.messages[0]
        self.assertIn("<no-reply@shop.example>", sender)
        self.assertEqual(to, "a@example.com")
        data.decode("ascii")  # any mail server takes it
        found = email.message_from_bytes(data.replace(b"\r\n..", b"\r\n."), policy=email.policy.default)
        self.assertEqual((found["Subject"], found["To"]), ("你好", "a@example.com"))
        self.assertEqual(found["From"], "Shop <no-reply@shop.example>")
        self.assertTrue(found["Date"] and found["Message-ID"])
        self.assertEqual(found.get_content().splitlines(), ["第 0 封", ".", "end"])
        self.assertIn("SMTPUTF8", server.messages[1][0])
        self.assertEqual(self.send(f"smtp://{server.address}"), (0, 0))

    def test_messages_that_are_done_are_written_no_more(self):
        server = SmtpServer(self, answers={"nobody@example.com": "550 no such user"})
        self.write("a@example.com", "nobody@example.com", "no address")
        self.assertEqual(self.send(f"smtp://{server.address}"), (1, 2))
        with mock.patch.object(self.service.store, "write") as write:
            self.assertEqual(self.send(f"smtp://{server.address}"), (0, 0))
        write.assert_not_called()

    def test_look_fetches_what_is_due_and_nothing_of_what_is_done(self):
        server = SmtpServer(self)
        done = [(mail.DONE, f"{now():014d}-{number}", {"to": "a@b.example", "subject": "", "text": "", "sent": "x"}) for number in range(500)]
        self.service.store.write(lambda transaction: transaction.put_records(done))
        self.write(*(f"{number}@example.com" for number in range(5)))
        with mock.patch.object(mail, "PAGE", 2), counted_records() as numbers:
            self.assertEqual(self.send(f"smtp://{server.address}"), (5, 0))
            self.assertEqual((sum(numbers), max(numbers)), (5, 2))
            numbers.clear()
            self.assertEqual(self.send(f"smtp://{server.address}"), (0, 0))
            self.assertEqual(numbers, [0])
        with counted_records() as numbers:
            self.assertEqual(len([*mail.outbox(self.service.store)]), 505)
            self.assertLessEqual(max(numbers), mail.PAGE)

    def test_message_that_an_earlier_version_sent_is_not_sent_again_nor_lost(self):
        server = SmtpServer(self)
        sent = {"to": "a@example.com", "subject": "", "text": "", "sent": "2026-11-01T00:00:00.000Z"}
        code = {"kind": "sms", "to": "+8613800000000", "subject": "", "text": "123456"}
        self.service.store.write(lambda transaction: transaction.put_records([(mail.OUTBOX, f"{now():014d}-{n}", one) for n, one in enumerate((sent, code))]))
        self.assertEqual(self.send(f"smtp://{server.address}"), (0, 0))
        self.assertEqual(self.service.store.read(lambda transaction: transaction.records(mail.OUTBOX)), [])
        self.assertEqual([message["to"] for message in mail.outbox(self.service.store)], ["a@example.com", "+8613800000000"])

    def test_tls_and_starttls_check_the_certificate(self):
        for scheme, host, starts_tls in (("smtps", "127.0.0.2", False), ("smtp", "127.0.0.2", True)):
            server = SmtpServer(self, host, self.context, starts_tls)
            with self.subTest(scheme):
                self.write("a@example.com")
                with self.assertRaises(mail.Unreachable):
                    self.send(f"{scheme}://{server.address}")
                with self.trusting():
                    self.assertEqual(self.send(f"{scheme}://{server.address}"), (1, 0))
                self.assertEqual(server.tls, [True])

    def test_server_elsewhere_without_starttls_gets_nothing(self):
        server = SmtpServer(self, "127.0.0.2")
        self.write("a@example.com")
        with self.assertRaises(mail.Unreachable):
            self.send(f"smtp://{server.address}", user="u", password="secret")
        self.assertEqual(server.messages, [])

    def test_user_and_password_are_of_the_url_or_the_environment_and_in_no_error(self):
        server = SmtpServer(self, password="AHUAcEB3")  # \0u\0p@w
        self.write("a@example.com")
        with self.assertRaises(mail.Unreachable) as caught:
            self.send(f"smtp://u:s3cret@{server.address}")
        self.assertNotIn("s3cret", str(caught.exception))
        self.assertEqual(self.send(f"smtp://u:p%40w@{server.address}"), (1, 0))
        self.write("b@example.com")
        self.assertEqual(self.send(f"smtp://{server.address}", user="u", password="p@w"), (1, 0))

    def test_one_failure_stops_no_other_and_is_tried_again_later(self):
        server = SmtpServer(self, answers={"full@example.com": "452 full", "gone@example.com": "550 gone"})
        self.write("full@example.com", "gone@example.com", "x@example.com,y", "ok@example.com")
        self.assertEqual(self.send(f"smtp://{server.address}"), (1, 3))
        found = {message["to"]: message for message in mail.outbox(self.service.store)}
        self.assertIn("sent", found["ok@example.com"])
        self.assertIn("550", found["gone@example.com"]["refused"])
        self.assertEqual(found["full@example.com"]["tries"], 1)
        self.assertGreater(found["full@example.com"]["next"], now())
        self.assertEqual(self.send(f"smtp://{server.address}"), (0, 0))
        server.answers.clear()
        self.change(found["full@example.com"]["id"], next=0)
        self.assertEqual(self.send(f"smtp://{server.address}"), (1, 0))

    def change(self, key, **fields):
        def work(transaction):
            transaction.put_record("outbox", key, {**transaction.record("outbox", key), **fields})

        self.service.store.write(work)

    def test_message_that_nobody_takes_is_given_up_in_the_end(self):
        server = SmtpServer(self, answers={"full@example.com": "452 full"})
        self.write("full@example.com")
        [message] = mail.outbox(self.service.store)
        self.change(message["id"], tries=mail.MAX_TRIES - 1)
        self.assertEqual(self.send(f"smtp://{server.address}"), (0, 1))
        [message] = mail.outbox(self.service.store)
        self.assertIn("not taken", message["refused"])

    def test_mailer_sends_what_is_written_and_what_waited_for_the_server(self):
        server = SmtpServer(self)
        self.write("early@example.com")
        connected = iter([smtp("smtp://127.0.0.1:9")] + [smtp(f"smtp://{server.address}")] * 9)
        with contextlib.redirect_stderr(io.StringIO()) as log:
            mailer = Mailer(self.service, lambda: next(connected).connected())
            self.addCleanup(mailer.close)
            self.addCleanup(setattr, self.service, "wake_mailer", None)
            while not server.arrived.wait(0.05):
                self.service.wake_mailer()
        self.assertEqual(log.getvalue().count("the mail server cannot be used"), 1)
        server.arrived.clear()
        self.user("mailed", email="mailed@example.com")  # no look at the clock: the sign-up wakes it
        self.assertTrue(server.arrived.wait(20))
        self.assertEqual([to for _, to, _ in server.messages], ["early@example.com", "mailed@example.com"])
        mailer.close()
        self.assertFalse(mailer._thread.is_alive())
        self.assertIn(b"https://storage.example/1.1/verifyEmail/", server.messages[-1][2].replace(b"=\r\n", b""))

    def test_addresses_of_servers_and_senders_that_are_none_are_refused(self):
        for url, sender in (
            ("http://x", "a@b.example"),
            ("smtp://", "a@b.example"),
            ("smtp://mail.example/path", "a@b.example"),
            ("smtp://mail.example", ""),
            ("smtp://mail.example", "a@b.example\nBcc: c@d.example"),
        ):
            with self.subTest(url=url, sender=sender), self.assertRaises(ValueError):
                smtp(url, sender)


class TextsTest(ServiceTestCase):
    options = Options(public_url="https://storage.example/", verify_emails=True, mail_texts=mail_texts.CHINESE)

    def test_texts_are_those_that_were_chosen(self):
        self.user("zh", email="zh@example.com")
        [message] = mail.outbox(self.service.store)
        self.assertEqual(message["subject"], "验证邮箱")
        self.assertRegex(message["text"], "https://storage.example/1.1/verifyEmail/[A-Za-z0-9_-]{43}\n")

    def test_folder_holds_texts_of_the_operator(self):
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("reset", "verify"):
                Path(folder, f"{kind}.txt").write_text(f"{kind}!\n\nOpen {{link}} now\n")
            self.assertEqual(mail_texts.load(folder)["reset"], ("reset!", "Open {link} now"))
            Path(folder, "verify.txt").write_text("verify!\n\nno link\n")
            with self.assertRaisesRegex(ValueError, "verify.txt"):
                mail_texts.load(folder)
            Path(folder, "verify.txt").unlink()
            with self.assertRaisesRegex(ValueError, "verify.txt"):
                mail_texts.load(folder)

    def test_built_in_texts_hold_the_link(self):
        for name in ("en", "zh"):
            for subject, text in mail_texts.load(name).values():
                self.assertTrue(subject and "{link}" in text)


class ServeTest(unittest.TestCase):
    def test_serve_sends_a_verification_mail(self):
        data = Path(tempfile.mkdtemp(prefix="smtp-"))
        self.addCleanup(shutil.rmtree, data)
        server = SmtpServer(self, password="AHUAcA==")
        environment = clean_environment(LEANSTORAGE_DATA=str(data), LEANSTORAGE_SMTP_USER="u", LEANSTORAGE_SMTP_PASSWORD="p")
        options = ["--port", "0", "--verify-emails", "--smtp", f"smtp://{server.address}", "--mail-from", "a@b.example", "--mail-texts", "zh"]
        process = subprocess.Popen(
            python("-m", "leanstorage", "serve", *options), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            url = process.stdout.readline().split()[-1]
            keys = json.loads((data / "keys.json").read_text())
            body = {"username": "u", "password": "p", "email": "u@example.com"}
            requests.post(f"{url}/1.1/users", json=body, headers={"X-LC-Id": keys["id"], "X-LC-Key": keys["key"]}, timeout=15).raise_for_status()
            self.assertTrue(server.arrived.wait(20))
        finally:
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=30)
        found = email.message_from_bytes(server.messages[0][2], policy=email.policy.default)
        self.assertEqual((found["To"], found["Subject"]), ("u@example.com", "验证邮箱"))
        self.assertEqual(errors.count("Traceback"), 0, errors)


if __name__ == "__main__":
    unittest.main()
