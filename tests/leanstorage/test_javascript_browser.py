"""The JavaScript SDK of every generation in a browser, on a page of another origin than the server's. See test_javascript.py."""
import http.server
import importlib.util
import os
import shutil
import subprocess
import threading
import unittest
from contextlib import suppress

from leanstorage.blobs import open_blobs
from tests.leanstorage.object_storage import ACCESS, SEAWEED, can_be_reached, seaweed
from tests.leanstorage.storage_support import StorageTestCase
from tests.leanstorage.test_javascript import MODULES, TODAY, VERSIONS, WANTED, has
from tests.support import changed_environment, free_port, ROOT, until

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:  # without it no object storage is tested
    BotoCoreError = ClientError = None

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
PROGRAM = """([name, place]) => program(
    AV, name, place, new File(["hello"], "hello.txt", {type: "text/plain"}), (url) => fetch(url).then((answer) => answer.text()))"""
VALINE = """([appId, appKey, serverURLs]) => {
    new Valine({el: "#v", appId, appKey, serverURLs, path: "/post", visitor: true, avatar: "hide"});
}"""
START = "([appId, appKey, serverURL]) => AV.init({appId, appKey, serverURL})"
SAVE = """() => {
    const file = new AV.File("a b.txt", new File(["0123456789"], "a b.txt", {type: "text/plain"}));
    return file.save().then(() => [file.id, file.url()]);
}"""
HELD = """() => {
    const file = new AV.File("hello.txt", {base64: "aGVsbG8="});
    return file.save().then(() => new AV.Object("Holder", {file}).save()).then((holder) => holder.id);
}"""
URL_OF = "(id) => new AV.Query('Holder').get(id).then((holder) => holder.get('file').url())"
READ = """([url, Range]) => fetch(url, {headers: Range ? {Range} : {}})
    .then((answer) => answer.text().then((text) => [answer.status, text]))"""
# As docs/reliability.md has it: sent on from one origin to another, a browser names none.
RULE = {"AllowedOrigins": ["*"], "AllowedMethods": ["GET", "HEAD", "PUT"], "AllowedHeaders": ["*"]}
# The theme's page around its script: what it counts, and the event by which it starts.
NEXT_PAGE = """(posts) => {
    document.body.innerHTML = posts.map((url) => `<a class="post-title-link"></a><span id="${encodeURI(url)}" class="leancloud_visitors"
        data-flag-title="A post"><i class="leancloud-visitors-count"></i></span>`).join("");
    document.dispatchEvent(new Event("page:loaded"));
}"""
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


class PageCase(StorageTestCase):
    def origin(self):
        """The URL of an empty page on a server of its own."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}/"

    def open(self, origin):
        context = browser.new_context()
        self.addCleanup(context.close)
        page = context.new_page()
        page.goto(origin)
        return page

    def run_program(self, page, name, storage):
        page.add_script_tag(path=os.path.join(MODULES, name, "dist", "av.js"))
        page.add_script_tag(path=str(ROOT / "tests" / "javascript" / "sdk_versions.js"))
        return page.evaluate(PROGRAM, [name, {"id": storage.keys["id"], "key": storage.keys["key"], "url": storage.url}])


class BrowserTest(PageCase):
    def test_program_of_every_generation_runs_on_a_page_of_another_origin(self):
        origin = self.origin()
        for name in filter(has, VERSIONS):
            with self.subTest(name):
                self.assertEqual(self.run_program(self.open(origin), name, self.start(name)), WANTED)

    @unittest.skipUnless(has("valine") and has("storage-3.15.0"), "NODE_PATH has no valine, or no storage-3.15.0")
    def test_comments_and_visits_of_valine(self):
        storage, origin = self.start(), self.origin()

        def visit():
            page = self.open(origin)
            # It takes the SDK from one network of copies, and the visitor's address from another.
            page.route("**/leancloud-storage@3/**", lambda route: route.fulfill(path=os.path.join(MODULES, "storage-3.15.0/dist/av-min.js")))
            page.route("http://pubstatic.*/**", lambda route: route.abort())
            page.set_content('<b id="/post" class="leancloud_visitors"><i class="leancloud-visitors-count"></i></b><div id="v"></div>')
            page.add_script_tag(path=os.path.join(MODULES, "valine/dist/Valine.min.js"))
            page.evaluate(VALINE, [storage.keys["id"], storage.keys["key"], storage.url])
            page.wait_for_function("document.querySelector('.leancloud-visitors-count').innerText")
            return page

        page = visit()
        page.fill("input[name=nick]", "Annie")
        page.fill("input[name=mail]", "annie@example.com")
        page.click("textarea")
        page.keyboard.type("hello **you**")
        page.wait_for_selector(".vpreview strong", state="attached")
        page.evaluate("document.querySelector('.vsubmit').click()")
        self.assertEqual(page.wait_for_selector(".vcard .vcontent strong").inner_text(), "you")
        page = visit()
        self.assertEqual(page.wait_for_selector(".vcard .vcontent strong").inner_text(), "you")
        self.assertEqual(page.inner_text(".leancloud-visitors-count"), "2")
        [comment] = storage.request("GET", "/classes/Comment")[1]["results"]
        self.assertEqual((comment["nick"], comment["url"]), ("Annie", "/post"))
        self.assertEqual(storage.request("PUT", f"/classes/Comment/{comment['objectId']}", {"comment": "x"})[0], 403)

    @unittest.skipUnless(has("hexo-theme-next"), "NODE_PATH has no hexo-theme-next")
    def test_visits_of_next(self):
        storage, origin = self.start(), self.origin()
        storage.request("POST", "/classes/Counter", {"title": "Old", "url": "/old/", "time": 41})
        keys = {"enable": True, "app_id": storage.keys["id"], "app_key": storage.keys["key"], "server_url": storage.url, "security": False}

        def shown(posts, is_post=True):
            """What a page shows beside each of its posts."""
            page = self.open(origin)
            config = {"hostname": "127.0.0.1", "page": {"isPost": is_post}, "leancloud_visitors": keys}
            page.evaluate("(config) => { window.CONFIG = config; }", config)
            page.add_script_tag(path=os.path.join(MODULES, "hexo-theme-next/source/js/third-party/statistics/lean-analytics.js"))
            with page.expect_response(lambda answer: is_post == (answer.request.method in ("POST", "PUT"))):
                page.evaluate(NEXT_PAGE, posts)
            counts = "[...document.querySelectorAll('.leancloud-visitors-count')].map((one) => one.innerText)"
            page.wait_for_function(f"{counts}.every(Boolean)")
            return page.evaluate(counts)

        self.assertEqual(shown(["/old/"]), ["42"])
        self.assertEqual(shown(["/你好 %/"]), ["1"])
        self.assertEqual(shown(["/你好 %/"]), ["2"])
        self.assertEqual(shown(["/old/", "/你好 %/", "/unread/"], is_post=False), ["42", "2", "0"])


@unittest.skipUnless(SEAWEED, "SEAWEEDFS names no weed: the real object storage is not tested")
@unittest.skipUnless(importlib.util.find_spec("boto3"), "boto3 is not installed: files on S3 are not tested")
class ObjectStorageTest(PageCase):
    """Files go between the page and object storage, past our processes: three origins."""

    @classmethod
    def setUpClass(cls):
        port = free_port()
        server = subprocess.Popen(seaweed(cls, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(server.wait)
        cls.addClassCleanup(server.kill)
        cls.place = f"http://127.0.0.1:{port}"
        cls.enterClassContext(changed_environment(**ACCESS, AWS_ENDPOINT_URL_S3=cls.place))
        cls.client = open_blobs("s3://bucket").client
        cls.addClassCleanup(cls.client.close)
        until(lambda: can_be_reached(port), 60)
        until(cls.has_bucket, 60)
        cls.client.put_bucket_cors(Bucket="bucket", CORSConfiguration={"CORSRules": [RULE]})

    @classmethod
    def has_bucket(cls):
        with suppress(ClientError, BotoCoreError):
            cls.client.create_bucket(Bucket="bucket")
            return True
        return False

    def start(self, name):
        storage = super().start(name, place=f"s3://bucket/{name}")
        self.addCleanup(storage.service.blobs.client.close)
        return storage

    def test_program_of_every_generation_saves_and_reads_its_files(self):
        origin = self.origin()
        for name in filter(has, VERSIONS):
            with self.subTest(name):
                page, sent = self.open(origin), []
                page.on("request", lambda request, sent=sent: sent.append((request.method, request.url)))
                result = self.run_program(page, name, self.start(name))
                result.pop("base64")  # reads an object whose file is not there yet: the SDK does not wait for its call-back
                self.assertEqual(result, {step: wanted for step, wanted in WANTED.items() if step != "base64"})
                if name != "avoscloud-sdk":  # which sends us the bytes
                    self.assertIn("PUT", [method for method, url in sent if url.startswith(f"{self.place}/bucket/{name}/uploads/")])
                self.assertIn("GET", [method for method, url in sent if url.startswith(f"{self.place}/bucket/{name}/files/")])

    @unittest.skipUnless(has(TODAY), "NODE_PATH has no JavaScript SDK of today")
    def test_part_of_a_file_is_read_and_a_deleted_one_is_gone(self):
        storage, page = self.start("parts"), self.open(self.origin())
        page.add_script_tag(path=os.path.join(MODULES, TODAY, "dist", "av.js"))
        page.evaluate(START, [storage.keys["id"], storage.keys["key"], storage.url])
        object_id, url = page.evaluate(SAVE)
        self.assertEqual(page.evaluate(READ, [url, ""]), [200, "0123456789"])
        self.assertEqual(page.evaluate(READ, [url, "bytes=2-4"]), [206, "234"])
        self.assertEqual(storage.request("DELETE", f"/files/{object_id}", master=True)[0], 200)
        until(lambda: page.evaluate(READ, [url, ""])[0] == 404, 60)  # a browser may have it in its cache for a moment

    @unittest.skipUnless(has(TODAY), "NODE_PATH has no JavaScript SDK of today")
    def test_file_of_base64_is_shown_in_its_object_once_its_upload_was_called_back(self):
        storage, page = self.start("base64"), self.open(self.origin())
        page.add_script_tag(path=os.path.join(MODULES, TODAY, "dist", "av.js"))
        page.evaluate(START, [storage.keys["id"], storage.keys["key"], storage.url])
        with page.expect_request_finished(lambda request: request.url.endswith("/fileCallback")):
            holder = page.evaluate(HELD)
        self.assertEqual(page.evaluate(READ, [page.evaluate(URL_OF, holder), ""]), [200, "hello"])


if __name__ == "__main__":
    unittest.main()
