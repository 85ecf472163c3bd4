"""Tests of the list of traces: live updates, filters, keyboard, layout and accessibility."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import InboxServer, PageOpener

pytestmark = pytest.mark.long


def expect_names(page: Page, *expected: str) -> None:
    expect(page.locator("#rows .name")).to_have_text(list(expected))


class TestLive:
    def test_a_trace_appears_and_changes_without_a_reload(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        page = open_page()
        expect(page.get_by_role("heading", name="No traces yet")).to_be_visible()
        inbox_server.add_trace("first", model="gpt-4o", usageDetails={"input": 3, "output": 4})
        row = page.get_by_role("link", name="first")
        expect(row).to_contain_text("gpt-4o")
        expect(row).to_contain_text("900 ms")
        expect(row).to_contain_text("200 ms")
        expect(page.get_by_role("status")).to_have_text("Live, 1 trace")
        inbox_server.add_trace("second", level="ERROR")
        expect_names(page, "second", "first")
        inbox_server.post(
            inbox_server.event("generation-update", id="g-first", traceId="first", level="WARNING")
        )
        expect(row).to_contain_text("Warning")
        inbox_server.inbox.clear()
        expect(page.get_by_role("heading", name="No traces yet")).to_be_visible()

    def test_the_empty_page_shows_an_example_command(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        inbox_server.inbox.example = "curl http://127.0.0.1:8787/v1/models"
        page = open_page(permissions=["clipboard-read", "clipboard-write"])
        expect(page.locator(".example pre")).to_have_text(inbox_server.inbox.example)
        page.get_by_role("button", name="Copy the command").click()
        expect(page.get_by_role("button", name="Copy the command")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == inbox_server.inbox.example

    def test_an_update_keeps_scroll_position_focus_selection_and_open_details(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        inbox_server.add_traces(60)
        inbox_server.add_trace("open me", input="x", output="y")
        page = open_page()
        page.get_by_role("link", name="open me").click()
        page.get_by_text("Raw payload").click()
        expect(page.get_by_label("Raw payload", exact=True)).to_contain_text("open me")
        row = page.get_by_role("link", name="trace 30,")
        row.focus()
        position = row.bounding_box()
        assert page.evaluate("document.querySelector('#list').scrollTop") > 0
        inbox_server.add_traces(3)  # these exist already
        inbox_server.post(
            inbox_server.event("generation-update", id="g30", traceId="t30", level="WARNING")
        )
        inbox_server.add_trace("new")
        expect(page.get_by_role("status")).to_have_text("Live, 62 traces")
        expect(row).to_contain_text("Warning")
        expect(row).to_be_focused()
        assert row.bounding_box() == position
        expect(page.locator("#rows [aria-current]")).to_contain_text("open me")
        expect(page.get_by_label("Raw payload", exact=True)).to_be_visible()

    def test_an_open_trace_is_updated(self, inbox_server: InboxServer, open_page: PageOpener):
        inbox_server.add_trace("talk", input="x")
        page = open_page("/?trace=talk")
        expect(page.get_by_role("heading", name="talk")).to_be_visible()
        expect(page.get_by_role("heading", name="Output")).to_have_count(0)
        page.get_by_text("Raw payload").click()
        inbox_server.post(
            inbox_server.event("generation-update", id="g-talk", traceId="talk", output="later")
        )
        expect(page.get_by_role("heading", name="Output")).to_be_visible()
        expect(page.locator("details.raw[open]")).to_contain_text("later")

    def test_a_missing_trace_shows_a_message(self, open_page: PageOpener):
        page = open_page("/?trace=gone")
        expect(page.get_by_role("heading", name="This trace is not here")).to_be_visible()
        page.get_by_role("button", name="Close the trace").click()
        expect(page.get_by_role("heading", name="No traces yet")).to_be_visible()

    def test_the_status_shows_when_the_inbox_is_unreachable(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        page = open_page()
        expect(page.get_by_role("status")).to_have_text("Live, 0 traces")
        page.route("**/api/inbox?*", lambda route: route.fulfill(status=200, body="no JSON"))
        inbox_server.add_trace("missed")
        expect(page.get_by_role("status")).to_contain_text("Trying again")
        page.unroute_all()
        expect_names(page, "missed")


class TestFilters:
    @pytest.fixture(autouse=True)
    def _traces(self, inbox_server: InboxServer):
        inbox_server.add_trace("a", {"sessionId": "s1"}, model="gpt", level="ERROR")
        inbox_server.add_trace(
            "b", {"sessionId": "s2"}, model="gpt", input={"deep": ["the needle"]}
        )
        inbox_server.add_trace("c", {"sessionId": "s1"}, model="claude")

    def test_filters_apply_alone_combined_and_after_a_reload(self, open_page: PageOpener):
        page = open_page()
        status = page.get_by_role("status")
        expect_names(page, "c", "b", "a")
        page.get_by_label("Model").select_option("gpt")
        expect_names(page, "b", "a")
        page.get_by_label("Level").select_option("Error")
        expect_names(page, "a")
        expect(status).to_have_text("Live, 1 of 3 traces")
        page.reload()
        expect_names(page, "a")
        assert page.url.endswith("/?model=gpt&level=ERROR")
        expect(page.get_by_label("Model")).to_have_value("gpt")
        page.get_by_role("button", name="Clear filters").click()
        expect_names(page, "c", "b", "a")
        page.get_by_label("Session").select_option("s1")
        expect_names(page, "c", "a")
        page.get_by_label("Search in the traces").fill("needle")
        expect(page.get_by_role("heading", name="No trace matches")).to_be_visible()
        page.locator("#none").get_by_role("button").click()
        page.get_by_label("Search in the traces").fill("NEEDLE")
        expect_names(page, "b")
        page.reload()
        expect_names(page, "b")
        page.locator("body").press("x")
        expect_names(page, "c", "b", "a")
        assert page.url.endswith("/")

    def test_a_filter_shows_the_newest_matches(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        inbox_server.add_traces(80)
        page = open_page()
        expect(page.get_by_role("status")).to_have_text("Live, 83 traces")
        page.get_by_role("link", name="trace 5,").scroll_into_view_if_needed()
        assert page.evaluate("document.querySelector('#list').scrollTop") > 0
        page.get_by_label("Search in the traces").fill("trace")
        expect(page.get_by_role("status")).to_have_text("Live, 80 of 83 traces")
        assert page.evaluate("document.querySelector('#list').scrollTop") == 0
        page.get_by_label("Search in the traces").press("ArrowDown")
        expect(page.get_by_role("link", name="trace 79,")).to_be_focused()

    def test_new_traces_are_filtered(self, inbox_server: InboxServer, open_page: PageOpener):
        page = open_page("/?session=s1")
        expect_names(page, "c", "a")
        inbox_server.add_trace("d", {"sessionId": "s2"}, model="new")
        inbox_server.add_trace("e", {"sessionId": "s1"})
        expect_names(page, "e", "c", "a")
        # The new model can be selected.
        page.get_by_label("Model").select_option("new")
        expect_names(page)
        expect(page.get_by_role("status")).to_have_text("Live, 0 of 5 traces")


def test_the_page_can_be_used_by_keyboard(inbox_server: InboxServer, open_page: PageOpener):
    for name in ("old", "middle", "new"):
        inbox_server.add_trace(name, output="y")
    page = open_page()
    expect_names(page, "new", "middle", "old")
    key = page.keyboard
    key.press("j")
    expect(page.get_by_role("link", name="new")).to_be_focused()
    key.press("j")
    key.press("ArrowDown")
    expect(page.get_by_role("link", name="old")).to_be_focused()
    key.press("j")
    expect(page.get_by_role("link", name="old")).to_be_focused()
    key.press("k")
    key.press("Enter")
    heading = page.locator("#trace h2")
    expect(heading).to_have_text("middle")
    assert page.url.endswith("/?trace=middle")
    key.press("ArrowUp")
    expect(heading).to_have_text("new")
    key.press("End")
    expect(heading).to_have_text("old")
    key.press("Home")
    expect(heading).to_have_text("new")
    key.press("Escape")
    expect(page.locator("#trace")).to_be_hidden()
    expect(page.get_by_role("link", name="new")).to_be_focused()
    key.press("/")
    expect(page.get_by_label("Search in the traces")).to_be_focused()
    key.type("jk?x")
    expect(page.get_by_label("Search in the traces")).to_have_value("jk?x")
    key.press("Escape")
    expect(page.get_by_label("Search in the traces")).not_to_be_focused()
    key.press("x")
    expect(page.get_by_label("Search in the traces")).to_have_value("")
    key.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    key.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_back_button_closes_a_trace(inbox_server: InboxServer, open_page: PageOpener):
    inbox_server.add_trace("one")
    page = open_page("/?model=")
    page.get_by_role("link", name="one").click()
    expect(page.locator("#trace h2")).to_have_text("one")
    page.reload()
    expect(page.locator("#trace h2")).to_have_text("one")
    page.go_back()
    expect(page.locator("#trace")).to_be_hidden()


class TestManyTraces:
    def test_an_update_renders_and_loads_only_what_changed(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        inbox_server.add_traces(600)
        page = open_page()
        rows = page.locator("#rows > li")
        expect(rows).to_have_count(500)
        expect(page.get_by_role("status")).to_have_text("Live, 600 traces, the newest 500 shown")
        replies: list[Any] = []
        page.on("requestfinished", lambda request: replies.append(request.response()))
        page.evaluate(
            """() => {
              window.made = 0;
              const count = (node) => 1 + (node.querySelectorAll?.("*").length ?? 0);
              new MutationObserver((records) => {
                for (const node of records.flatMap((record) => [...record.addedNodes])) {
                  made += count(node);
                }
              }).observe(document.querySelector("#rows"), { childList: true, subtree: true });
            }"""
        )
        for number in range(5):
            inbox_server.add_trace(f"new {number}")
            expect(rows.first).to_contain_text(f"new {number}")
        expect(rows).to_have_count(500)
        assert page.evaluate("made") < 5 * 30
        sizes = [len(reply.body()) for reply in replies]
        assert len(sizes) <= 10
        assert sum(sizes) < 10_000

    def test_the_page_sends_one_request_per_update(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        page = open_page()
        expect(page.get_by_role("status")).to_have_text("Live, 0 traces")
        requested_urls: list[str] = []
        page.on("request", lambda request: requested_urls.append(request.url))
        for number in range(3):
            inbox_server.add_trace(f"t{number}")
            expect(page.locator("#rows > li")).to_have_count(number + 1)
        # One request is always held open; each update ends it and starts the next.
        assert len(requested_urls) <= 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_long_texts_fit_and_have_enough_contrast(
    inbox_server: InboxServer, open_page: PageOpener, width: int, scheme: Any
):
    inbox_server.add_trace(
        "a-name-without-any-place-to-break-it-" * 6,
        {"userId": "u" * 90, "sessionId": "s" * 90, "tags": ["t" * 200]},
        model="m" * 120,
        input=[{"role": "user", "content": "w" * 2000}],
        output={"role": "assistant", "content": None, "tool_calls": [{"id": "c" * 99}]},
        metadata={"k" * 100: "v" * 300, "nested": {"deep": ["x" * 300]}},
        statusMessage="HTTP 500: " + "e" * 300,
        level="ERROR",
        usageDetails={"input": 10, "input_cached_tokens": 4, "output": 3},
    )
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for step in ("list", "trace"):
        for box in ("html", f"#{step}"):
            sizes = page.eval_on_selector(box, "node => [node.scrollWidth, node.clientWidth]")
            assert sizes[0] <= sizes[1], (step, box)
        assert low_contrast(page) == [], (step, scheme)
        if step == "list":
            page.locator("#rows a").click()
            expect(page.locator(".observation")).to_be_visible()
            page.eval_on_selector_all(
                "details", "all => all.forEach((node) => { node.open = true })"
            )
            expect(page.locator("details.raw pre")).to_be_visible()


# WCAG 2.2, 1.4.3: a contrast of 4.5 to 1, for large text 3 to 1. The colours are compared as they
# are painted on a canvas.
CONTRAST = """() => {
  const brush = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    .getContext("2d", { willReadFrequently: true });
  const ground = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      layers.unshift(getComputedStyle(at).backgroundColor);
    }
    brush.fillStyle = matchMedia("(prefers-color-scheme: dark)").matches ? "black" : "white";
    for (const layer of [brush.fillStyle, ...layers]) {
      brush.fillStyle = layer;
      brush.fillRect(0, 0, 1, 1);
    }
    return luminance();
  };
  const luminance = () => {
    const [r, g, b] = [...brush.getImageData(0, 0, 1, 1).data].map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const low = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility() || node.closest("[hidden], option")) continue;
    const behind = ground(node);
    brush.fillStyle = getComputedStyle(node).color;
    brush.fillRect(0, 0, 1, 1);
    const front = luminance();
    const ratio = (Math.max(front, behind) + 0.05) / (Math.min(front, behind) + 0.05);
    if (ratio < 4.5) low.push(`${node.className} ${ratio.toFixed(2)}: ${text.data.slice(0, 20)}`);
  }
  return low;
}"""


def low_contrast(page: Page) -> list[str]:
    """The texts of the page with too little contrast to their background."""
    return page.evaluate(CONTRAST)


def test_every_control_has_an_accessible_name(inbox_server: InboxServer, open_page: PageOpener):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    inbox_server.add_trace(
        "one",
        input={"messages": [{"role": "user", "content": "x" * 9000}], "tools": [call]},
        output={"role": "assistant", "content": "y", "tool_calls": [call]},
    )
    page = open_page("/?trace=one")
    expect(page.locator(".observation")).to_be_visible()
    tree = page.locator("body").aria_snapshot()
    controls = re.findall(r"(?m)^ *- (button|link|combobox|searchbox|dialog|article)(.*)$", tree)
    assert {kind for kind, _ in controls} >= {"button", "link", "combobox", "searchbox", "article"}
    assert [(kind, rest) for kind, rest in controls if not rest.strip().startswith('"')] == []
    # The list is a single Tab stop, whatever its length.
    assert page.locator("#rows a[tabindex='0']").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
