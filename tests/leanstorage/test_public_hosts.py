"""The URLs of files that rows name: none leads to a private address, unless the operator says so."""
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from leanstorage.takeout import remote
from leanstorage.takeout.public_hosts import is_public
from tests.leanstorage.test_takeout_pull import Clock
from tests.support import serve


class Inside(BaseHTTPRequestHandler):
    """A server that should be asked for nothing; `/to/HOST` leads to the same server by another name."""

    def do_GET(self):
        self.server.asked.append((self.headers["Host"].rpartition(":")[0], self.path))
        is_leading = self.path.startswith("/to/")
        self.send_response(302 if is_leading else 200)
        if is_leading:
            self.send_header("Location", f"http://{self.path.removeprefix('/to/')}:{self.server.server_port}/secret")
        self.send_header("Content-Length", "0" if is_leading else "6")
        self.end_headers()
        if not is_leading:
            self.wfile.write(b"secret")

    def log_message(self, *_):
        pass


class IsPublicTest(unittest.TestCase):
    def test_addresses_of_networks_within_are_not_public(self):
        inside = (
            ["127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"]
            + ["224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1"]
            + ["64:ff9b::169.254.169.254", "2002:7f00:1::", "localhost", "", "fec0::1", "::127.0.0.1", "64:ff9b:1::10.0.0.1"]
        )
        for address in inside:
            with self.subTest(address=address):
                self.assertFalse(is_public(address))
        for address in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"):
            with self.subTest(address=address):
                self.assertTrue(is_public(address))


class DownloadTest(unittest.TestCase):
    def setUp(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Inside)
        self.server.asked = []
        serve(self.server, self.addCleanup)

    def remote(self, api, **options):
        found = remote.Remote(api, "id", "key", 1, clock=Clock(), **options)
        self.addCleanup(found.close)
        return found

    def url(self, host, path="/secret"):
        return f"http://{host}:{self.server.server_port}{path}"

    def test_url_that_leads_inside_is_refused_before_anything_is_sent(self):
        public = self.remote("http://api.example.com")
        for host in ("127.0.0.1", "localhost", "LOCALHOST", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
            with self.subTest(host=host), self.assertRaisesRegex(remote.NotAllowed, "private address.*--private-host"):
                list(public.download(self.url(host)))
        self.assertEqual(self.server.asked, [])
        self.assertEqual(public.clock.slept, [])  # it is not tried again

    def test_redirect_to_another_host_inside_is_refused(self):
        source = self.remote(self.url("127.0.0.1", ""))
        with self.assertRaises(remote.NotAllowed):
            list(source.download(self.url("127.0.0.1", "/to/localhost")))
        self.assertEqual(self.server.asked, [("127.0.0.1", "/to/localhost")])

    def test_host_of_the_api_and_named_hosts_may_be_inside(self):
        source = self.remote(self.url("127.0.0.1", ""))
        self.assertEqual(b"".join(source.download(self.url("127.0.0.1"))), b"secret")
        named = self.remote("http://api.example.com", private_hosts=["Localhost", "127.0.0.1"])
        self.assertEqual(b"".join(named.download(self.url("127.0.0.1", "/to/localhost"))), b"secret")
