"""The page as its visitor feels it: python bench/page.py [--todos N] [--slowdown N] [--rounds N]

In Chromium, by its own clocks: the time until something is painted, the longest interaction of each kind until the next
frame, layout shifts. A round is the life of one page, in which everything is done twice with the whole list drawn: the
first time of each kind takes longest. Needs playwright and /usr/bin/chromium.
"""
import argparse
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.table import median  # noqa: E402 after the path is set
from tests.support import free_port, python, running  # noqa: E402

OBSERVE = """() => {
    window.seen = {events: [], shift: 0};
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (entry.interactionId) seen.events.push(entry.duration);
    }).observe({type: "event", durationThreshold: 16, buffered: true});
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) seen.shift += entry.value;
    }).observe({type: "layout-shift", buffered: true});
}"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
SETTLE_MS = 400  # after an interaction, so that its entry has come


@contextmanager
def app():
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        with running(python("wsgi.py"), "cache: ", LEANCLOUD_APP_PORT=port, LEANSTORAGE_DATA=data):
            yield f"http://127.0.0.1:{port}/"


def sign_up(context, url, name, todos):
    """A visitor of this context with so many todos."""
    headers = {"Origin": url.rstrip("/")}
    answer = context.request.post(f"{url}api/users", data={"username": name, "password": "secret"}, headers=headers)
    assert answer.status == 201, answer.text()
    for number in range(todos):
        answer = context.request.post(f"{url}api/todos", data={"content": f"todo number {number}"}, headers=headers)
        assert answer.status == 201, answer.text()


def paint(context, url):
    """Milliseconds from the navigation to the first paint."""
    page = context.new_page()
    page.goto(url)
    page.wait_for_function(PAINT)
    ms = page.evaluate(PAINT)
    page.close()
    return ms


def interactions(page):
    """(name, the element that is clicked, or the key that is pressed) of everything that a visitor does to a list."""
    field = page.get_by_role("textbox", name="New todo")
    item = page.get_by_role("list", name="Todos").get_by_role("listitem")
    return [
        ("go to the field", field),
        ("type a letter", "x"),
        ("add with Enter", "Enter"),
        ("tick", item.nth(1).get_by_role("checkbox")),
        ("begin to edit", item.nth(2).get_by_role("button", name="Edit")),
        ("leave the edit", "Escape"),
        ("delete", item.nth(3).get_by_role("button", name="Delete")),
        ("undo", page.get_by_role("button", name="Undo")),
        ("tick the last one", item.last.get_by_role("checkbox")),
        ("show the open ones", page.get_by_role("link", name="Open", exact=True)),
        ("show all", page.get_by_role("link", name="All", exact=True)),
    ]


def do(page, what):
    """Press or click like a hand: playwright's own search for elements would count as the page's work."""
    if isinstance(what, str):
        page.keyboard.press(what)
        return
    what.scroll_into_view_if_needed()
    box = what.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(SETTLE_MS)
    page.evaluate("() => { seen.events.length = 0; }")
    page.mouse.down()
    page.mouse.up()


def load_all(page, todos):
    """Scroll until the whole list is there."""
    items = page.get_by_role("list", name="Todos").get_by_role("listitem")
    while items.count() < todos:
        before = items.count()
        more = page.get_by_role("button", name="More")
        if more.count():
            more.click()
        page.mouse.wheel(0, 100000)
        page.wait_for_timeout(200)
        assert items.count() >= before
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(300)


def live(context, url, options, durations):
    """One page from its beginning to its end: {what was done: ([ms, the first time], [ms, the second time])} grows. The layout shift."""
    page = context.new_page()
    page.goto(url)
    page.evaluate(OBSERVE)
    cpu = context.new_cdp_session(page)
    for turn in (0, 1):
        cpu.send("Emulation.setCPUThrottlingRate", {"rate": 1})
        load_all(page, options.todos)
        cpu.send("Emulation.setCPUThrottlingRate", {"rate": options.slowdown})
        for name, what in interactions(page):
            page.evaluate("() => { seen.events.length = 0; }")
            do(page, what)
            page.wait_for_timeout(SETTLE_MS * options.slowdown / 2)
            durations.setdefault(name, ([], []))[turn].append(max(page.evaluate("() => seen.events"), default=0))
    shift = page.evaluate("() => seen.shift")
    page.close()
    return shift


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--todos", type=int, default=1000)
    parser.add_argument("--slowdown", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with app() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(locale="en-US")
        print(f"first paint, nobody logged in: {median([paint(context, url) for _ in range(options.rounds)]):.0f} ms")
        sign_up(context, url, "visitor", options.todos)
        print(f"first paint, {options.todos} todos: {median([paint(context, url) for _ in range(options.rounds)]):.0f} ms")
        durations = {}
        shifts = [live(context, url, options, durations) for _ in range(options.rounds)]
        print(f"interaction to next paint in ms, {options.todos} todos, CPU {options.slowdown:g} times slower, {options.rounds} pages (0: below 16)")
        for name, (first, again) in durations.items():
            print(f"  {name}: first median {median(first):.0f}, worst {max(first):.0f}; again median {median(again):.0f}, worst {max(again):.0f}")
        print(f"layout shift, the worst page: {max(shifts):.4f}")
        browser.close()


if __name__ == "__main__":
    main()
