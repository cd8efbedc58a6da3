"""The JavaScript SDK of every generation in a browser, on a page of another origin than the server's. See test_javascript.py."""
import http.server
import os
import shutil
import threading
import unittest

from tests.leanstorage.storage_support import StorageTestCase
from tests.leanstorage.test_javascript import MODULES, VERSIONS, WANTED, has
from tests.support import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
PROGRAM = """([name, place]) => program(
    AV, name, place, new File(["hello"], "hello.txt", {type: "text/plain"}), (url) => fetch(url).then((answer) => answer.text()))"""
browser = None  # one for the whole module


def setUpModule():
    global browser
    if not CHROMIUM:
        raise unittest.SkipTest("there is no Chromium here: apt-get install chromium")
    if not any(map(has, VERSIONS)):
        raise unittest.SkipTest("NODE_PATH has no JavaScript SDK")
    from playwright.sync_api import sync_playwright

    playwright = sync_playwright().start()
    unittest.addModuleCleanup(playwright.stop)
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    unittest.addModuleCleanup(browser.close)


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>page</title>")

    def log_message(self, *_):
        pass


class BrowserTest(StorageTestCase):
    def origin(self):
        """The URL of an empty page on a server of its own."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}/"

    def test_program_of_every_generation_runs_on_a_page_of_another_origin(self):
        origin = self.origin()
        for name in filter(has, VERSIONS):
            with self.subTest(name):
                storage = self.start(name)
                context = browser.new_context()
                self.addCleanup(context.close)
                page = context.new_page()
                page.goto(origin)
                page.add_script_tag(path=os.path.join(MODULES, name, "dist", "av.js"))
                page.add_script_tag(path=str(ROOT / "tests" / "javascript" / "sdk_versions.js"))
                place = {"id": storage.keys["id"], "key": storage.keys["key"], "url": storage.url}
                self.assertEqual(page.evaluate(PROGRAM, [name, place]), WANTED)


if __name__ == "__main__":
    unittest.main()
