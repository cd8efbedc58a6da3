"""The page in a real browser: headless Chromium over real HTTP, the app as a process of its own.

A test takes nearly a second of the processor's time. Those that ask of another part of the page what one beside them asks
already are left to CI.
"""
import os
import re
import shutil
import signal
import tempfile
import unittest
from contextlib import contextmanager
from pathlib import Path

from tests import HAS_STORAGE
from tests.support import NO_STORAGE, free_port, python, running, sample, takes_long, until
from tests.processes import storage

# The shell takes two thirds of the processor's time that the whole browser does.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser"))), None)
WAIT_MS = 15_000
AXE = os.environ.get("AXE_CORE", "")  # the file axe.min.js of npm's axe-core
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
STATIC = Path(__file__).resolve().parents[2] / "static"
STATIC_BYTES = 40 * 1024  # all of static/, not compressed
STATIC_LINES = 300  # of each file
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c626001000000ffff03000006000557bfabd40000000049454e44ae426082"
)
# An event that carries files, as a drop or a paste does: (element, {type, files: [[name, type, bytes]]})
CARRY = """(element, {type, files}) => {
    const data = new DataTransfer();
    for (const [name, kind, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name, {type: kind}));
    const given = {bubbles: true, cancelable: true};
    element.dispatchEvent(type === 'paste' ? new ClipboardEvent(type, {...given, clipboardData: data})
        : new DragEvent(type, {...given, dataTransfer: data}));
}"""
browser = None  # one for the whole module


def setUpModule():
    global browser
    if not HAS_STORAGE:
        raise unittest.SkipTest(NO_STORAGE)
    if not CHROMIUM:
        raise unittest.SkipTest("there is no Chromium here: apt-get install chromium-headless-shell")
    from playwright.sync_api import sync_playwright

    playwright = sync_playwright().start()
    unittest.addModuleCleanup(playwright.stop)
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    unittest.addModuleCleanup(browser.close)


class BrowserCase(unittest.TestCase):
    """One app for a class; a context, which is a visitor, for each `open`."""

    # A guess at a password costs a sixteenth, as in the tests' own processes: nearly every test signs somebody up.
    cheap = "from leanstorage.rules import passwords; passwords.SCRYPT['n'] //= 16"
    command = python("-c", f"import runpy; {cheap}; runpy.run_path('wsgi.py', run_name='__main__')")

    @classmethod
    def setUpClass(cls):
        from playwright.sync_api import expect

        expect.set_options(timeout=WAIT_MS)
        cls.expect = staticmethod(expect)
        cls.port = free_port()
        data = tempfile.mkdtemp(prefix="browser-")
        cls.addClassCleanup(shutil.rmtree, data, ignore_errors=True)
        environment = {"LEANCLOUD_APP_PORT": cls.port, "LEANSTORAGE_DATA": data, **cls.environment(data)}
        app = running(cls.command, "cache: ", **environment)
        cls.process = app.__enter__()
        cls.addClassCleanup(app.__exit__, None, None, None)

    @classmethod
    def environment(cls, data):
        return {}

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"

    def open(self, path="/", **options):
        """A page of a new visitor. What it asks of other hosts and what its console says is checked at the end."""
        context = browser.new_context(**{"locale": "en-US", **options})
        self.addCleanup(context.close)
        return self.tab(context, path)

    def tab(self, context, path="/"):
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.problems, page.missing = [], []
        page.on("response", lambda response: response.status == 404 and page.missing.append(response.request.method))
        page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: f"127.0.0.1:{self.port}" in request.url or page.problems.append(request.url))
        page.goto(self.url(path))
        return page

    def signed_up(self, name, path="/", **options):
        page = self.open(path, **options)
        self.enter(page, name, "Sign up")
        return page

    def enter(self, page, name, way="Log in"):
        page.get_by_role("textbox", name="Username").fill(name)
        page.get_by_role("textbox", name="Password").fill("secret")
        page.get_by_role("button", name=way).click()
        self.expect(self.field(page)).to_be_visible()

    def field(self, page):
        return page.get_by_role("textbox", name="New todo")

    def add(self, page, *contents):
        for content in contents:
            self.field(page).fill(content)
            page.get_by_role("button", name="Add").click()
            self.expect(page.get_by_role("checkbox", name=content, exact=True)).to_be_enabled()

    def items(self, page):
        return page.get_by_role("list", name="Todos").get_by_role("listitem")

    def item(self, page, content):
        return self.items(page).filter(has_text=content)

    def shows(self, page, *contents):
        self.expect(self.items(page).locator(".content")).to_have_text(list(contents))

    def stored(self, page):
        """The contents of the visitor's list, as the server has it."""
        return [todo["content"] for todo in page.request.get(self.url("/api/todos?limit=100")).json()["todos"]]

    def carry(self, page, target, kind, *files):
        target.evaluate(CARRY, {"type": kind, "files": [[name, mime_type, list(data)] for name, mime_type, data in files]})

    def says(self, page, text, **options):
        self.expect(page.get_by_role("status")).to_have_text(text, **options)

    def is_fine_but_for_repeated_deletions(self, page):
        """The page that was left sent a deletion; the next one sends it again if the list that it got still had the todo."""
        self.assertEqual([problem for problem in page.problems if "404" not in problem], [])
        self.assertLessEqual(set(page.missing), {"DELETE"})

    def writes(self, page):
        """A list that grows with every request of this page that is no GET."""
        found = []
        page.on("request", lambda request: request.method != "GET" and found.append(request.method))
        return found

    @contextmanager
    def held(self):
        """The app is stopped, so that requests run as long as a test wants."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)


class AccountTest(BrowserCase):
    def test_enter_signs_a_new_visitor_up(self):
        page = self.open()
        password = page.get_by_role("textbox", name="Password")
        self.expect(password).to_have_attribute("autocomplete", "new-password")  # so that a password manager proposes one
        page.get_by_role("textbox", name="Username").fill("newcomer")
        password.fill("secret")
        password.press("Enter")
        self.expect(self.field(page)).to_be_focused()
        page.get_by_role("button", name="Log out").click()
        self.says(page, "You are logged out.")
        self.expect(password).to_have_attribute("autocomplete", "current-password")
        page.get_by_role("textbox", name="Username").fill("newcomer")
        password.fill("secret")
        password.press("Enter")
        self.expect(self.field(page)).to_be_focused()
        self.assertEqual(page.problems, [])

    def test_unknown_name_is_offered_to_sign_up(self):
        page = self.open()
        page.get_by_role("button", name="Log in").click()
        self.says(page, "Please fill in both fields.")
        page.get_by_role("textbox", name="Username").fill("nobody yet")
        page.get_by_role("textbox", name="Password").fill("secret")
        page.get_by_role("button", name="Log in").click()
        self.says(page, re.compile("password is wrong.*Sign up"))
        page.get_by_role("button", name="Sign up").click()  # nothing is to be typed again
        self.expect(self.field(page)).to_be_visible()
        self.assertTrue(all("401" in problem for problem in page.problems), page.problems)

    def test_password_of_five_characters_makes_no_account(self):
        page = self.open()
        page.get_by_role("textbox", name="Username").fill("shorty")
        page.get_by_role("textbox", name="Password").fill("12345")
        writes = self.writes(page)
        page.get_by_role("button", name="Sign up").click()
        self.says(page, re.compile("at least 6"))
        self.assertEqual(writes, [])

    def test_sign_up_clicked_twice_is_one_account(self):
        page = self.open()
        page.get_by_role("textbox", name="Username").fill("signer")
        page.get_by_role("textbox", name="Password").fill("secret")
        writes = self.writes(page)
        with self.held():
            page.get_by_role("button", name="Sign up").dblclick()
            page.get_by_role("textbox", name="Password").press("Enter")
        self.says(page, "Welcome, signer")
        self.assertEqual((writes, page.problems), (["POST"], []))

    @takes_long
    def test_two_visitors_see_their_own(self):
        alice, bob = self.signed_up("alice"), self.signed_up("bob")
        self.add(alice, "alice's secret")
        bob.reload()
        self.expect(bob.get_by_text("Nothing here yet")).to_be_visible()
        self.assertEqual(alice.problems + bob.problems, [])

    @takes_long
    def test_tab_of_the_last_user_becomes_the_next_ones(self):
        anna = self.signed_up("anna")
        other = self.tab(anna.context)
        other.get_by_role("button", name="Log out").click()
        self.expect(anna.get_by_role("textbox", name="Username")).to_be_visible()
        self.enter(other, "bert", "Sign up")
        self.expect(anna.get_by_text("bert", exact=True)).to_be_visible()
        self.assertEqual(anna.problems + other.problems, [])

    def test_what_was_typed_for_one_user_is_never_stored_for_another(self):
        page = self.signed_up("carla")
        page.request.post(self.url("/api/users"), data={"username": "dora", "password": "secret"})  # as another tab would
        self.field(page).fill("for carla")
        self.field(page).press("Enter")
        self.expect(page.get_by_text("dora", exact=True)).to_be_visible()
        self.expect(page.get_by_text("Nothing here yet")).to_be_visible()
        self.assertEqual(self.stored(page), [])
        page.get_by_role("button", name="Log out").click()
        self.enter(page, "carla")
        self.expect(page.get_by_role("checkbox", name="for carla")).to_be_enabled()
        self.assertEqual(self.stored(page), ["for carla"])

    @takes_long
    def test_draft_of_one_user_is_not_shown_to_another_and_comes_back(self):
        page = self.signed_up("erna")
        self.field(page).fill("private thou")
        page.get_by_role("button", name="Log out").click()
        self.enter(page, "fred", "Sign up")
        self.expect(self.field(page)).to_have_value("")
        page.get_by_role("button", name="Log out").click()
        self.enter(page, "erna")
        self.expect(self.field(page)).to_have_value("private thou")

    def test_tabs_of_one_user_hear_of_each_other(self):
        one = self.signed_up("tabber")
        two = self.tab(one.context)
        self.expect(self.field(two)).to_be_visible()
        self.add(one, "from the first")
        self.shows(two, "from the first")
        two.get_by_role("checkbox").check()
        self.expect(one.get_by_role("checkbox")).to_be_checked()


class ListTest(BrowserCase):
    def test_account_and_todos_from_the_first_to_the_last_click(self):
        page = self.signed_up("flow")
        self.add(page, "first", "second")
        self.expect(page.get_by_text("2 left")).to_be_visible()
        page.get_by_role("checkbox", name="first").check()
        self.says(page, "Marked as done.")
        self.expect(page.get_by_text("1 left")).to_be_visible()
        self.assertEqual(page.title(), "(1) Todos")
        for name, wanted in (("Done", ["first"]), ("Open", ["second"]), ("All", ["second", "first"])):
            page.get_by_role("link", name=name).click()
            self.shows(page, *wanted)
        page.get_by_role("button", name="Edit: second").click()
        page.get_by_role("textbox", name="Edit").fill("second, changed")
        page.keyboard.press("Enter")
        self.expect(page.get_by_role("checkbox", name="second, changed")).to_be_visible()
        page.get_by_role("button", name="Delete: first").click()
        self.shows(page, "second, changed")
        page.reload()
        self.shows(page, "second, changed")
        until(lambda: self.stored(page) == ["second, changed"])
        self.is_fine_but_for_repeated_deletions(page)

    def test_fast_typing_on_a_slow_network_loses_nothing(self):
        page = self.signed_up("typist")
        with self.held():
            for content in ("eggs", "milk", "tea"):
                page.keyboard.type(content)
                page.keyboard.press("Enter")
            self.shows(page, "tea", "milk", "eggs")
            self.expect(page.get_by_text("saving …").first).to_be_visible()
            page.keyboard.type("bre")
        self.expect(page.get_by_role("checkbox", disabled=True)).to_have_count(0)
        self.assertEqual(self.stored(page), ["tea", "milk", "eggs"])
        self.expect(self.field(page)).to_have_value("bre")
        self.assertEqual(page.problems, [])

    def test_todo_that_meets_the_end_of_the_session_is_stored_after_the_next_login(self):
        page = self.signed_up("expired")
        page.context.clear_cookies()
        self.field(page).fill("typed meanwhile")
        self.field(page).press("Enter")
        self.enter(page, "expired")
        self.expect(page.get_by_role("checkbox", name="typed meanwhile")).to_be_enabled()
        self.assertEqual(self.stored(page), ["typed meanwhile"])

    def test_todo_that_was_not_stored_stays_and_can_be_tried_again(self):
        page = self.signed_up("retrier")
        page.route("**/api/todos", lambda route: route.fulfill(status=500, json={"error": "bad luck", "code": 1}), times=2)
        for content in ("eggs", "milk", "tea"):
            self.field(page).fill(content)
            self.field(page).press("Enter")
        self.expect(page.get_by_role("checkbox", name="tea")).to_be_enabled()
        self.assertEqual(self.stored(page), ["tea"])
        page.reload()
        self.shows(page, "milk", "eggs", "tea")
        page.get_by_role("button", name="Try again: eggs").click()
        page.get_by_role("button", name="Discard: milk").click()
        self.shows(page, "eggs", "tea")
        until(lambda: self.stored(page) == ["eggs", "tea"])

    def test_todo_whose_answer_was_lost_is_not_shown_twice(self):
        page = self.signed_up("unlucky")
        page.route("**/api/todos", lambda route: (route.fetch(), route.abort()), times=1)
        self.field(page).fill("eggs")
        self.field(page).press("Enter")
        self.expect(page.get_by_role("button", name="Try again: eggs")).to_be_visible()
        page.evaluate("dispatchEvent(new Event('online'))")  # it looks again at once, instead of in a while
        self.expect(page.get_by_role("checkbox", name="eggs", disabled=False)).to_be_visible()
        self.shows(page, "eggs")

    @takes_long
    def test_todo_that_was_lost_stays_though_another_says_the_same(self):
        page = self.signed_up("doubler")
        self.add(page, "eggs")
        page.route("**/api/todos", lambda route: route.abort(), times=1)
        self.field(page).fill("eggs")
        self.field(page).press("Enter")
        again = page.get_by_role("button", name="Try again: eggs")
        self.expect(again).to_be_visible()
        with page.expect_response("**/api/todos?*"):
            page.evaluate("dispatchEvent(new Event('online'))")
        self.expect(page.get_by_role("status")).not_to_have_class("error")
        again.click()
        until(lambda: self.stored(page) == ["eggs", "eggs"])

    def test_add_clicked_twice_makes_one_todo_and_keeps_what_is_typed_meanwhile(self):
        page = self.signed_up("adder")
        self.field(page).fill("milk")
        with self.held():
            page.get_by_role("button", name="Add").dblclick()
            self.field(page).press_sequentially("eggs")
        self.says(page, "Added.")
        self.expect(self.field(page)).to_have_value("eggs")
        self.expect(self.field(page)).to_be_focused()
        self.assertEqual(self.stored(page), ["milk"])

    def test_text_that_is_too_long_is_neither_cut_nor_lost(self):
        page = self.signed_up("writer")
        self.field(page).fill("x" * 252)
        page.keyboard.press("Enter")
        self.says(page, re.compile("Too long by 12"))
        self.expect(self.field(page)).to_have_value("x" * 252)
        self.field(page).fill("x" * 240)
        page.keyboard.press("Enter")
        self.expect(page.get_by_role("checkbox", disabled=False)).to_be_visible()
        self.expect(self.field(page)).to_have_value("")
        self.items(page).locator(".content").dblclick()
        editor = page.get_by_role("textbox", name="Edit")
        editor.fill("y" * 241)
        page.keyboard.press("Enter")
        self.says(page, re.compile("Too long by 1:"))
        self.expect(editor).to_have_value("y" * 241)
        self.assertEqual(self.stored(page), ["x" * 240])

    def test_lines_of_a_todo_survive_editing(self):
        page = self.signed_up("liner")
        self.field(page).press_sequentially("one")
        page.keyboard.press("Shift+Enter")
        self.field(page).press_sequentially("two")
        page.keyboard.press("Enter")
        until(lambda: self.stored(page) == ["one\ntwo"])
        page.get_by_role("button", name="Edit").click()
        page.keyboard.press("End")
        page.keyboard.type("!")
        page.keyboard.press("Enter")
        until(lambda: self.stored(page) == ["one\ntwo!"])

    def test_edit_outlives_filters_reloading_and_the_end_of_the_session(self):
        page = self.signed_up("editor")
        self.add(page, "milk")
        page.get_by_text("milk").dblclick()
        editor = page.get_by_role("textbox", name="Edit")
        editor.fill("milk and eggs")
        page.get_by_role("link", name="Done").click()
        self.expect(editor).to_have_value("milk and eggs")
        page.reload()
        self.expect(editor).to_have_value("milk and eggs")
        page.context.clear_cookies()
        page.get_by_role("button", name="Save").click()
        self.enter(page, "editor")
        self.expect(editor).to_have_value("milk and eggs")
        page.get_by_role("button", name="Save").click()
        until(lambda: self.stored(page) == ["milk and eggs"])

    @takes_long
    def test_edit_outlives_its_todo(self):
        page = self.signed_up("survivor")
        self.add(page, "milk")
        page.get_by_role("button", name="Edit").click()
        page.get_by_role("textbox", name="Edit").fill("milk and eggs")
        other = self.tab(page.context)
        other.request.delete(self.url("/api/todos/" + self.items(page).get_attribute("id")))
        page.reload()
        self.expect(page.get_by_text("This todo was deleted elsewhere.")).to_be_visible()
        self.shows(page, "milk and eggs")
        page.get_by_role("button", name="Try again").click()
        until(lambda: self.stored(page) == ["milk and eggs"])
        self.assertEqual(page.problems, [])

    @takes_long
    def test_edit_that_is_being_saved_is_neither_saved_again_nor_cancelled(self):
        page = self.signed_up("saver")
        self.add(page, "milk")
        page.get_by_role("button", name="Edit").click()
        page.get_by_role("textbox", name="Edit").fill("milk and eggs")
        writes = self.writes(page)
        with self.held():
            page.get_by_role("button", name="Save").dblclick()
            page.get_by_role("textbox", name="Edit").press("Escape")
            page.get_by_role("button", name="Cancel").click()
        self.says(page, "Saved.")
        self.shows(page, "milk and eggs")
        self.assertEqual((writes, page.problems), (["PATCH"], []))

    def test_double_click_on_delete_deletes_one_and_undo_brings_it_back(self):
        page = self.signed_up("deleter")
        self.add(page, "one", "two", "three")
        writes = self.writes(page)
        page.get_by_role("button", name="Delete: three").dblclick()
        self.shows(page, "two", "one")
        page.get_by_role("button", name="Undo").click()
        self.shows(page, "three", "two", "one")
        self.expect(page.get_by_role("checkbox", name="three")).to_be_focused()
        page.keyboard.press("Delete")
        self.shows(page, "two", "one")
        page.keyboard.press("Control+z")
        self.shows(page, "three", "two", "one")
        self.assertEqual((writes, self.stored(page)), ([], ["three", "two", "one"]))

    def test_deletion_of_what_is_gone_elsewhere_is_no_error(self):
        page = self.signed_up("late")
        self.add(page, "milk")
        page.get_by_role("button", name="Delete: milk").click()
        page.request.delete(self.url("/api/todos/" + page.request.get(self.url("/api/todos")).json()["todos"][0]["id"]))
        page.evaluate("dispatchEvent(new Event('pagehide'))")  # it is sent now
        page.wait_for_function("() => Object.values(sessionStorage).every((text) => !JSON.parse(text).removed.length)")
        self.says(page, "Deleted.")

    @takes_long
    def test_deletion_that_the_page_sends_again_and_finds_done_is_no_error(self):
        before = self.signed_up("leaver")
        self.add(before, "milk")
        [todo] = before.request.get(self.url("/api/todos")).json()["todos"]
        page = self.tab(before.context, "/no/such/page")
        page.evaluate(
            "removed => sessionStorage.setItem(localStorage.user, JSON.stringify({removed}))",
            [{"id": todo["id"], "isFile": False, "name": "milk", "isSent": True}],
        )
        gone = {"status": 404, "json": {"error": "gone", "code": 101}}
        page.route("**/api/todos/*", lambda route: route.fulfill(**gone))
        page.goto(self.url())
        until(lambda: page.evaluate("JSON.parse(sessionStorage[localStorage.user]).removed.length === 0"))
        self.says(page, "")
        self.expect(self.items(page)).to_have_count(0)

    def test_message_appears_where_one_is_looking(self):
        page = self.signed_up("looker")
        page.evaluate("""async () => { for (let i = 0; i < 20; i++)
            await fetch('/api/todos', {method: 'POST', body: JSON.stringify({content: `todo ${i}`})}); }""")
        page.reload()
        page.route("**/api/todos/*", lambda route: route.fulfill(status=500, json={"error": "bad luck", "code": 1}))
        page.get_by_role("checkbox", name="todo 0").click()
        self.expect(page.get_by_role("status")).to_be_in_viewport(ratio=1)
        self.expect(page.get_by_role("status")).not_to_have_text("")
        self.expect(page.get_by_role("checkbox", name="todo 0")).not_to_be_checked()

    @takes_long
    def test_todo_ticked_twice_while_a_request_runs_ends_as_it_is_shown(self):
        page = self.signed_up("ticker")
        self.add(page, "milk")
        box = page.get_by_role("checkbox", name="milk")
        with self.held():
            box.check()
            box.uncheck()
            box.check()
            box.uncheck()
        self.says(page, "Open again.")
        self.expect(box).not_to_be_checked()
        self.assertFalse(page.request.get(self.url("/api/todos")).json()["todos"][0]["done"])

    def test_ticking_draws_once_and_leaves_every_element_in_its_place(self):
        page = self.signed_up("calm")
        self.add(page, "milk", "eggs")
        page.evaluate("""() => {
            window.changes = [];
            new MutationObserver((list) => changes.push(...list.map((one) => one.type)))
                .observe(document.querySelector('#todos'), {childList: true, attributes: true, subtree: true});
        }""")
        page.get_by_role("checkbox", name="milk").check()
        self.says(page, "Marked as done.")
        self.assertEqual(page.evaluate("changes"), ["attributes"])

    def test_buttons_are_called_by_what_they_act_on(self):
        page = self.signed_up("namer")
        self.add(page, "milk", "eggs")
        for action in ("Edit", "Attach", "Delete"):
            for content in ("milk", "eggs"):
                self.expect(page.get_by_role("button", name=f"{action}: {content}", exact=True)).to_have_count(1)

    def test_focus_stays_in_the_list_when_a_ticked_todo_leaves_it(self):
        page = self.signed_up("focuser", "/#open")
        self.add(page, "three", "two", "one")
        page.get_by_role("checkbox", name="two").focus()
        page.keyboard.press("Space")
        self.expect(page.get_by_role("checkbox", name="three")).to_be_focused()
        page.keyboard.press("Space")
        self.expect(page.get_by_role("checkbox", name="one")).to_be_focused()
        page.keyboard.press("Space")
        self.expect(self.field(page)).to_be_focused()

    def test_right_to_left_text_reads_from_the_right(self):
        page = self.signed_up("reader")
        self.add(page, "شراء الحليب (2 لتر)!")
        direction = "element => getComputedStyle(element).direction"
        self.assertEqual(self.items(page).locator(".content").evaluate(direction), "rtl")
        page.get_by_role("button", name="Edit").click()
        self.assertEqual(page.get_by_role("textbox", name="Edit").evaluate(direction), "rtl")

    def test_hostile_content_is_text(self):
        page = self.signed_up("<b>bold<b>")
        self.add(page, "<img src=x onerror=alert(1)><script>alert(2)</script>")
        self.assertEqual(page.locator("li img, li script, header b").count(), 0)
        self.assertEqual(page.problems, [])

    def test_keyboard_alone_is_enough(self):
        page = self.open()
        self.expect(page.get_by_role("textbox", name="Username")).to_be_visible()
        for text in ("keyboard", "secret", "", ""):
            page.keyboard.press("Tab")
            page.keyboard.type(text)
        self.expect(page.get_by_role("button", name="Sign up")).to_be_focused()
        page.keyboard.press("Enter")
        self.expect(self.field(page)).to_be_focused()
        for content in ("below", "typed"):
            page.keyboard.type(content)
            page.keyboard.press("Enter")
        box = page.get_by_role("checkbox", name="typed")
        self.expect(box).to_be_enabled()
        for _ in range(5):
            page.keyboard.press("Tab")
        self.expect(box).to_be_focused()
        page.keyboard.press("Space")
        self.says(page, "Marked as done.")
        page.keyboard.press("ArrowDown")
        self.expect(page.get_by_role("checkbox", name="below")).to_be_focused()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        self.expect(page.get_by_role("textbox", name="Edit")).to_be_focused()
        page.keyboard.press("Escape")
        self.expect(box).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.type("changed")  # what was there is selected
        page.keyboard.press("Enter")
        self.expect(page.get_by_role("checkbox", name="changed", exact=True)).to_be_focused()
        self.says(page, "Saved.")

    def test_long_list_comes_page_by_page_and_moves_nothing(self):
        page = self.signed_up("collector")
        script = """async () => { for (let i = 0; i < 11; i++) await Promise.all([...Array(20).keys()].map((j) =>
            fetch('/api/todos', {method: 'POST', body: JSON.stringify({content: `todo ${i * 20 + j}`})}))); }"""
        page.set_default_timeout(30000)
        page.evaluate(script)
        page.reload()
        self.expect(self.items(page).first).to_be_visible()
        shift = page.evaluate("""() => new Promise((resolve) => { let sum = 0;
            new PerformanceObserver((list) => { for (const e of list.getEntries()) sum += e.value; resolve(sum); })
                .observe({type: 'layout-shift', buffered: true});
            requestAnimationFrame(() => requestAnimationFrame(() => resolve(sum))); })""")
        self.assertLess(shift, 0.01)
        self.expect(page.get_by_text("220 left")).to_be_visible()
        for rows in (200, 220):
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            self.expect(self.items(page)).to_have_count(rows)
        self.assertEqual(page.problems, [])

    def test_browser_skips_rows_out_of_sight_and_one_walks_through_all_of_them(self):
        page = self.signed_up("walker")
        contents = [f"todo {number}." for number in range(80)]
        for content in contents:
            page.request.post(self.url("/api/todos"), data={"content": content})
        page.reload()
        self.shows(page, *reversed(contents))
        is_drawn = "element => element.checkVisibility({contentVisibilityAuto: true})"
        self.assertTrue(self.items(page).first.evaluate(is_drawn))
        self.assertFalse(self.items(page).last.evaluate(is_drawn))
        boxes = page.get_by_role("checkbox")
        boxes.nth(22).focus()
        for key, places in (("ArrowDown", range(23, 29)), ("ArrowUp", range(27, 21, -1))):
            for place in places:
                page.keyboard.press(key)
                self.expect(boxes.nth(place)).to_be_focused()
        boxes.last.focus()
        page.keyboard.press("ArrowDown")
        self.expect(boxes.last).to_be_focused()
        self.assertTrue(self.items(page).last.evaluate(is_drawn))
        self.add(page, "new")
        page.get_by_role("checkbox", name="todo 30.").check()
        page.get_by_role("link", name="Done").click()
        self.shows(page, "todo 30.")
        page.get_by_role("link", name="All").click()
        self.shows(page, "new", *reversed(contents))


class FileTest(BrowserCase):
    TEXT = ("文.txt", "text/plain", b"hello")
    PICTURE = ("dot.png", "image/png", PNG)

    def choose(self, page, content, *file):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name=f"Attach: {content}").click()
        chooser.value.set_files([{"name": name, "mimeType": kind, "buffer": data} for name, kind, data in file])

    def test_attachment_by_button_can_be_removed_and_brought_back(self):
        page = self.signed_up("attacher")
        self.add(page, "report")
        self.choose(page, "report", self.PICTURE)
        link = page.get_by_role("link", name="dot.png")
        self.expect(link.locator("img")).to_have_js_property("naturalWidth", 1)
        remove = page.get_by_role("button", name="Remove: dot.png (report)")
        remove.click()
        self.expect(link).to_have_count(0)
        page.get_by_role("button", name="Undo").click()
        self.expect(link).to_be_visible()
        remove.click()
        page.reload()
        self.shows(page, "report")
        self.expect(link).to_have_count(0)
        until(lambda: page.request.get(self.url("/api/todos")).json()["todos"][0]["attachment"] is None)
        self.is_fine_but_for_repeated_deletions(page)

    def test_second_file_for_a_todo_replaces_nothing(self):
        page = self.signed_up("keeper")
        self.add(page, "report")
        self.choose(page, "report", self.PICTURE)
        self.expect(page.get_by_role("link", name="dot.png")).to_be_visible()
        self.carry(page, self.item(page, "report"), "drop", self.TEXT)
        link = page.get_by_role("link", name="文.txt")
        self.expect(link).to_be_visible()
        self.expect(page.get_by_role("link", name="dot.png")).to_be_visible()
        self.shows(page, "文.txt", "report")
        self.assertEqual(page.request.get(self.url(link.get_attribute("href"))).body(), b"hello")

    @takes_long
    def test_two_dropped_files_are_both_kept(self):
        page = self.signed_up("dropper")
        self.add(page, "report")
        self.carry(page, self.item(page, "report"), "drop", self.PICTURE, self.TEXT)
        self.expect(page.get_by_role("link", name="dot.png")).to_be_visible()
        self.expect(page.get_by_role("link", name="文.txt")).to_be_visible()
        self.shows(page, "文.txt", "report")

    def test_pasted_picture_becomes_a_todo_with_what_is_typed(self):
        page = self.signed_up("paster")
        self.field(page).fill("look at this")
        self.carry(page, self.field(page), "paste", self.PICTURE)
        self.shows(page, "look at this")
        self.expect(self.items(page).get_by_role("link", name="dot.png")).to_be_visible()
        self.expect(self.field(page)).to_have_value("")

    @takes_long
    def test_file_dropped_on_a_todo_that_is_being_edited_leaves_its_text(self):
        page = self.signed_up("careful")
        self.add(page, "milk")
        page.get_by_role("button", name="Edit").click()
        page.get_by_role("textbox", name="Edit").fill("milk and eggs")
        self.carry(page, self.items(page).first, "drop", self.TEXT)
        self.expect(page.get_by_role("link", name="文.txt")).to_be_visible()
        self.expect(page.get_by_role("textbox", name="Edit")).to_have_value("milk and eggs")

    def test_upload_can_be_cancelled(self):
        page = self.signed_up("canceller")
        self.add(page, "film")
        with self.held():
            self.choose(page, "film", ("film.bin", "application/octet-stream", bytes(1 << 20)))
            self.expect(page.get_by_role("progressbar")).to_be_visible()
            page.get_by_role("button", name="Cancel upload: film.bin").click()
            self.expect(page.get_by_role("progressbar")).to_have_count(0)
        page.reload()
        self.shows(page, "film")

    def test_upload_that_failed_can_be_tried_again(self):
        page = self.signed_up("again")
        self.add(page, "report")
        page.route("**/attachment", lambda route: route.abort(), times=1)
        self.choose(page, "report", self.TEXT)
        page.get_by_role("button", name="Try again: 文.txt").click()
        self.expect(page.get_by_role("link", name="文.txt")).to_be_visible()


class LookTest(BrowserCase):
    """What is seen, by whom, on which screen."""

    def test_all_of_it_is_small(self):
        files = [file for file in STATIC.rglob("*") if file.is_file()]
        self.assertLessEqual(sum(file.stat().st_size for file in files), STATIC_BYTES)
        for file in files:
            with self.subTest(file.name):
                self.assertLess(file.read_bytes().count(b"\n"), STATIC_LINES)

    def test_rows_are_low_and_their_targets_high(self):
        page = self.signed_up("measurer")
        self.add(page, "milk")
        self.assertLessEqual(self.items(page).first.bounding_box()["height"], 46)
        for target in page.locator("main button:visible, header button, nav a, li label").all():
            with self.subTest(target.evaluate("element => element.outerHTML")):
                self.assertGreaterEqual(target.bounding_box()["height"], 44)

    def test_actions_show_on_hover_and_focus_and_always_on_touch(self):
        page = self.signed_up("hoverer")
        self.add(page, "milk")
        actions = page.locator(".actions")
        page.mouse.move(0, 0)
        self.expect(actions).to_have_css("opacity", "0")
        self.items(page).first.hover()
        self.expect(actions).to_have_css("opacity", "1")
        page.mouse.move(0, 0)
        page.get_by_role("checkbox").focus()
        self.expect(actions).to_have_css("opacity", "1")
        touch = self.signed_up("toucher", has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
        self.add(touch, "milk")
        self.expect(touch.locator(".actions")).to_have_css("opacity", "1")

    def test_current_filter_is_seen_with_forced_colors(self):
        page = self.signed_up("forced", forced_colors="active")
        link = page.get_by_role("link", name="All")
        seen = link.screenshot()
        link.evaluate("element => element.removeAttribute('aria-current')")
        self.assertNotEqual(link.screenshot(), seen)

    def test_page_is_for_users_and_not_for_operators(self):
        page = self.signed_up("user")
        self.assertNotRegex(page.locator("body").inner_text(), "storage|cache|environment")

    def test_chinese_page_says_nothing_in_english(self):
        page = self.open(locale="zh-CN")
        self.assertEqual(page.evaluate("document.documentElement.lang"), "zh-CN")
        page.get_by_role("textbox", name="用户名").fill("读者")
        page.get_by_role("textbox", name="密码").fill("secret")
        page.get_by_role("button", name="注册").click()
        field = page.get_by_role("textbox", name="新的待办")
        for status in sample((400, 403, 404, 413, 429, 500, 503)):
            with self.subTest(status):
                page.route("**/api/todos", lambda route: route.fulfill(status=status, json={"error": "in English", "code": 1}), times=1)
                field.fill("牛奶")
                field.press("Enter")
                self.expect(page.get_by_role("button", name="重试").first).to_be_visible()
                self.assertNotRegex(page.locator("body").inner_text(), "[A-Za-z]")
                page.get_by_role("button", name="丢弃").first.click()
                page.evaluate("dispatchEvent(new Event('online'))")  # it looks again at once, instead of in a while

    def test_unknown_address_is_a_page(self):
        page = self.open("/no/such/page")
        page.get_by_role("link", name="todos").click()
        self.expect(page.get_by_role("button", name="Sign up")).to_be_visible()

    def test_without_javascript_it_says_so(self):
        page = self.open(java_script_enabled=False)
        self.expect(page.locator("noscript p")).to_have_count(2)
        self.expect(page.locator("noscript p").first).to_be_visible()
        self.expect(page.locator("#toast p").first).to_have_css("position", "absolute")  # for screen readers alone

    def test_nothing_overflows_from_320_to_2560_pixels(self):
        page = self.signed_up("wide")
        self.add(page, "w" * 200, "short")
        page.get_by_role("button", name="Edit: short").click()
        for width in (320, 640, 1440, 2560):
            with self.subTest(width):
                page.set_viewport_size({"width": width, "height": 700})
                self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), width)
                box = page.locator("main").bounding_box()
                self.assertAlmostEqual(box["x"] + box["width"] / 2, width / 2, delta=10)

    @unittest.skipUnless(AXE, "AXE_CORE does not name axe-core's axe.min.js")
    def test_accessibility_checker_finds_nothing(self):
        for locale in ("en-US", "zh-CN"):
            for scheme in ("light", "dark"):
                page = self.open(bypass_csp=True, color_scheme=scheme, locale=locale)
                page.add_script_tag(content=Path(AXE).read_text())
                page.wait_for_selector("#account button")
                for state, reach in self.states(page, locale + scheme):
                    with self.subTest(locale=locale, scheme=scheme, state=state):
                        reach()
                        found = page.evaluate("async () => (await axe.run()).violations.map((v) => v.id + ': ' + v.nodes[0].html)")
                        self.assertEqual(found, [])

    def states(self, page, name):
        """(name, what leads to it) of every state that the page can be in, each from the one before."""
        field = page.locator("#content")
        wait = page.wait_for_selector

        def fail(route):
            route.fulfill(status=500, json={"error": "", "code": 1})

        def fail_to_enter():
            page.locator("[name=login]").click()
            wait("[role=status].error")

        def sign_up():
            page.locator("#username").fill(name)
            page.locator("#password").fill("secret")
            page.locator("[name=signup]").click()
            wait("#empty:visible")

        def add(content):
            field.fill(content)
            field.press("Enter")
            wait(f'li:not(.entry):has-text("{content}")')

        def fill():
            for content in ("Buy milk", "شراء الحليب", "third"):
                add(content)
            page.locator("input[type=checkbox]").first.check()
            self.carry(page, page.locator("li").nth(1), "drop", self_picture)
            wait("li img")

        def fail_to_add():
            page.route("**/api/todos", fail, times=1)
            field.fill("not stored")
            field.press("Enter")
            wait("[data-do=retry]")

        def remove():
            page.locator("[data-do=remove]").last.click()
            wait("#undo:visible")

        def break_list():
            page.route("**/api/todos?*", fail)
            page.reload()
            page.add_script_tag(content=Path(AXE).read_text())
            wait("[data-do=meet]:visible")

        self_picture = FileTest.PICTURE
        return [
            ("first screen", lambda: None),
            ("failed login", fail_to_enter),
            ("empty", sign_up),
            ("list", fill),
            ("editing", lambda: page.locator("[data-do=edit]").first.click()),
            ("not stored", fail_to_add),
            ("undo", remove),
            ("offline", lambda: (page.context.set_offline(True), wait("[role=status].error"), page.context.set_offline(False))),
            ("error", break_list),
        ]


class LostServerTest(BrowserCase):
    """The network or the storage dies in the middle: what was typed stays, and all is well again when it is back."""

    # Told to give up sooner: what the page says then is the matter here.
    impatient = "from leanengine import sdk; sdk.READ_SECONDS = sdk.ANSWER_SECONDS = 1"
    command = python("-c", f"import runpy; {impatient}; runpy.run_path('wsgi.py', run_name='__main__')")

    @classmethod
    def environment(cls, data):
        cls.storage = storage(data)
        keys, _ = cls.storage.__enter__()
        cls.addClassCleanup(cls.storage.__exit__, None, None, None)
        return keys

    def test_what_is_added_offline_waits_and_is_stored_later(self):
        page = self.signed_up("traveller")
        self.add(page, "before")
        page.context.set_offline(True)
        self.says(page, re.compile("You are offline"))
        for content in ("one", "two"):
            self.field(page).fill(content)
            self.field(page).press("Enter")
        self.shows(page, "two", "one", "before")
        page.context.set_offline(False)
        self.expect(page.get_by_role("checkbox", disabled=True)).to_have_count(0)
        self.says(page, "Added.")
        self.assertEqual(self.stored(page), ["two", "one", "before"])

    def test_lost_storage_is_said_in_words_and_nothing_typed_is_lost(self):
        page = self.signed_up("failing")
        self.add(page, "before")
        os.kill(self.storage.process.pid, signal.SIGSTOP)
        try:
            self.field(page).fill("typed while it was lost")
            self.field(page).press("Enter")
            self.says(page, re.compile("cannot be reached"), timeout=15000)
            self.shows(page, "typed while it was lost", "before")
            self.assertTrue(all("50" in problem for problem in page.problems), page.problems)
        finally:
            os.kill(self.storage.process.pid, signal.SIGCONT)
        self.expect(page.get_by_role("status")).not_to_have_text(re.compile("cannot be reached"), timeout=15000)
        if page.get_by_role("button", name="Try again").count():
            page.get_by_role("button", name="Try again").click()
        self.expect(page.get_by_role("checkbox", disabled=True)).to_have_count(0)
        self.shows(page, "typed while it was lost", "before")


if __name__ == "__main__":
    unittest.main()
