"""One trace: its timeline, its figures, hostile content, and one through the real gateway."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, expect

from local.inbox import Inbox
from local.runtime import NotInstalled, Runtime, require_installed, wrangler_config
from local.server import Server
from tests.browser import story
from tests.browser.conftest import Desk, Visitor, at
from tests.browser.reading import UNFOLD, open_trace, said, section

pytestmark = pytest.mark.long


class TestTimeline:
    def test_attempts_below_their_span(self, desk: Desk, visit: Visitor):
        one = {"traceId": "t", "type": "generation-create"}
        spans = [
            ("span-create", "s", None, (0, None, 1000), {"name": "ask", "output": "all"}),
            ("generation-create", "a", "s", (0, None, 250), {"level": "ERROR", "model": "gpt"}),
            ("generation-create", "b", "s", (250, 500, 1000), {"model": "claude", "output": "x"}),
        ]
        for kind, id, parent, (start, first, end), more in spans:
            times = {"startTime": at(start), "endTime": at(end)}
            if first is not None:
                times["completionStartTime"] = at(first)
            if parent:
                times["parentObservationId"] = parent
            if id == "a":
                more = {**more, "statusMessage": "HTTP 429: too many"}
            desk.post(desk.event(kind, id=id, traceId=one["traceId"], **times, **more))
        page = open_trace(visit)
        steps = page.get_by_role("region", name="Timeline").get_by_role("button")
        expect(steps).to_have_count(3)
        expect(steps.nth(1)).to_contain_text("HTTP 429: too many")
        # The one that came to something is open.
        expect(steps.nth(2)).to_have_attribute("aria-current", "true")
        expect(section(page, "Output")).to_contain_text("x")
        track, bar = (steps.nth(2).locator(name).bounding_box() for name in (".track", ".span"))
        mark = steps.nth(2).locator(".span i").bounding_box()
        assert track
        assert bar
        assert mark
        assert bar["x"] - track["x"] == pytest.approx(track["width"] / 4, abs=2)
        assert bar["width"] == pytest.approx(track["width"] * 3 / 4, abs=2)
        assert mark["x"] - bar["x"] == pytest.approx(bar["width"] / 3, abs=2)
        depths = [
            box["x"] for box in map(Locator.bounding_box, steps.locator(".kind").all()) if box
        ]
        assert depths[0] < depths[1] == depths[2]
        steps.nth(0).click()
        expect(section(page, "Output")).to_contain_text("all")
        expect(steps.nth(0)).to_be_focused()
        steps.nth(1).press("Enter")
        expect(page.locator(".status-message")).to_have_text("HTTP 429: too many")

    def test_an_apps_own_tree(self, desk: Desk, visit: Visitor):
        desk.post(
            desk.event("trace-create", id="t", name="job", input={"q": "own"}, metadata={"a": "b"}),
            desk.event("span-create", id="1", traceId="t", name="agent", startTime=at(0)),
            *(
                desk.event(
                    "span-create",
                    id=str(n),
                    traceId="t",
                    parentObservationId=str(n - 1),
                    name=f"step {n}",
                    startTime=at(n * 10),
                    endTime=at(900),
                )
                for n in range(2, 12)
            ),
            desk.event("event-create", id="e", traceId="t", name="note", startTime=at(5)),
            desk.event(
                "generation-create",
                id="g",
                traceId="t",
                parentObservationId="11",
                model="m",
                output="leaf",
            ),
        )
        page = open_trace(visit)
        expect(page.locator(".step")).to_have_count(13)
        expect(section(page, "Output")).to_contain_text("leaf")
        page.get_by_text("The trace's own input").click()
        expect(page.locator("details.whole")).to_contain_text("own")
        page.set_viewport_size({"width": 390, "height": 800})
        sizes = page.eval_on_selector("#trace", "node => [node.scrollWidth, node.clientWidth]")
        assert sizes[0] <= sizes[1]

    def test_usage_cost_and_metadata(self, desk: Desk, visit: Visitor):
        desk.trace(
            "t",
            usageDetails={"input": 1200, "input_cached_tokens": 800, "output": 50, "total": 2050},
            costDetails={"input": 0.0012, "total": 0.0025},
            modelParameters={"temperature": 0.2},
            metadata={"provider": "groq", "notes": ["cut here"], "deep": {"list": list(range(40))}},
        )
        page = open_trace(visit)
        rows = section(page, "Usage").get_by_role("row")
        expect(rows).to_have_text(
            [
                "PartTokensCost",
                "Input1,200$0.0012",
                "Input from the cache800",
                "Output50",
                "Total2,050$0.0025",
            ]
        )
        expect(section(page, "Metadata").get_by_role("listitem")).to_have_text("cut here")
        expect(section(page, "Metadata").locator("pre")).to_contain_text('"list": [')
        expect(page.locator(".top")).to_contain_text("$0.0025")

    def test_a_long_conversation_is_folded_in_the_middle(self, desk: Desk, visit: Visitor):
        turns = [{"role": "user", "content": f"turn {n}"} for n in range(300)]
        desk.trace("t", input=turns)
        page = open_trace(visit)
        expect(section(page, "Input").locator(".message")).to_have_count(24)
        page.get_by_text("276 messages in between").click()
        expect(section(page, "Input").locator(".role")).to_have_count(300)
        assert [what for _, what in said(page, "Input")] == [f"turn {n}" for n in range(300)]


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "javascript:alert(3)",
    "\u202egnp.exe\u202c \u200b\u200d\ufeff",
    "__proto__",
    "constructor",
    "https://evil.example/pixel.png",
    "a\x00b\x1b[31m",
    "\ud83d",
]


def hostile(desk: Desk, id: str, bad: str) -> list[dict[str, Any]]:
    """The events of a trace with a text in all of its fields."""
    image = {"type": "image_url", "image_url": {"url": bad}}
    call = {"id": bad, "type": bad, "function": {"name": bad, "arguments": bad}}
    odd = [
        {"role": bad, "content": bad, bad: bad},
        {"role": "user", "content": [{"type": "text", "text": bad, "citations": [bad]}, image]},
        {"role": "assistant", "thinking": bad, "tool_calls": [call, bad, None], "refusal": bad},
        {"role": "tool", "tool_call_id": bad, "content": [{"type": bad, "url": bad}]},
        {"type": bad, "name": bad},
        [bad],
        None,
        7,
    ]
    said_of_it = {"name": bad, "userId": bad, "sessionId": bad, "tags": [bad]}
    return [
        desk.event("trace-create", id=id, **said_of_it),
        desk.event(
            "generation-create",
            id=f"g{id}",
            traceId=id,
            name=bad,
            model=bad,
            statusMessage=bad,
            level="ERROR",
            startTime=at(0),
            endTime=at(9),
            input={"messages": odd, "tools": [{"function": {"name": bad}}, bad], bad: bad},
            output={"role": "assistant", "content": bad, "annotations": [{"url": bad}]},
            metadata={bad: {bad: [bad]}, "provider": bad, "attributes": bad},
            modelParameters={bad: bad},
            usageDetails={"input": 1, bad: 2},
            costDetails={bad: 3},
            promptName=bad,
            promptVersion=1,
        ),
    ]


class TestHostile:
    def test_in_every_field_it_stays_text(self, desk: Desk, visit: Visitor):
        for number, bad in enumerate(HOSTILE):
            desk.post(*hostile(desk, f"{number}", bad))
        page = visit()
        expect(page.locator("#rows > li")).to_have_count(len(HOSTILE))
        for number, bad in enumerate(HOSTILE):
            page.locator("#rows > li").nth(-1 - number).click()
            expect(page.locator(".top h2")).to_have_text(bad.strip() or bad, use_inner_text=False)
            assert page.locator(".top h2").text_content() == bad
            page.evaluate(UNFOLD)
            expect(page.locator("details.raw pre")).to_be_visible()
            made = page.locator("#trace").locator("img, script, iframe, a, style, svg, object")
            assert made.count() == 0

    def test_it_can_be_chosen_and_named_in_an_address(self, desk: Desk, visit: Visitor):
        for number, bad in enumerate(HOSTILE[:-1]):  # half a character can't stand in one
            desk.post(*hostile(desk, f"{bad}{number}", bad))
        page = visit()
        for bad in HOSTILE[:-1]:
            page.get_by_label("Session").select_option(bad)
            expect(page.locator("#rows > li")).to_have_count(1)
            page.locator("#rows > li").click()
            expect(page.locator(".observation")).to_be_visible()
            page.reload()
            expect(page.locator(".observation")).to_be_visible()
            expect(page.locator("#rows > li")).to_have_count(1)

    def test_half_a_character_in_an_id_costs_the_list_nothing(self, desk: Desk, visit: Visitor):
        desk.trace("\ud83d")
        desk.trace("well")
        page = visit()
        expect(page.locator("#rows > li")).to_have_count(2)

    def test_attributes_that_are_no_text(self, desk: Desk, visit: Visitor):
        names = ("trace.tags", "trace.name", "observation.model.name", "observation.status_message")
        odd = {"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "7"}}]}}
        values = [*((f"langfuse.{name}", odd) for name in names), ("session.id", odd)]
        values.append(("langfuse.observation.metadata.provider", odd))
        span = {
            "traceId": "1" * 32,
            "spanId": "2" * 16,
            "name": "odd",
            "startTimeUnixNano": "1000000",
            "endTimeUnixNano": "3000000",
            "attributes": [{"key": key, "value": value} for key, value in values],
        }
        export = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
        url = f"{desk.url}/api/public/otel/v1/traces"
        assert httpx.post(url, json=export, auth=("any", "pair")).status_code == 200
        page = open_trace(visit, "1" * 32)
        expect(page.locator(".facts").first).to_contain_text('{"a":7}')
        expect(page.locator("#rows > li")).to_have_count(1)

    def test_a_megabyte_is_cut_and_can_be_had_whole(self, desk: Desk, visit: Visitor):
        desk.trace("t", input=["word " * 200_000], output={"text": "x" * 1_000_000})
        page = open_trace(visit)
        text = section(page, "Input").locator(".content .text")
        assert len(text.text_content() or "") < 10_000
        section(page, "Input").get_by_role("button", name="Show all 1,000,000").click()
        assert len(text.text_content() or "") == 1_000_000

    def test_deep_json(self, desk: Desk, visit: Visitor):
        deep: Any = "bottom"
        for _ in range(300):
            deep = {"a": [deep]}
        desk.trace("t", input=deep, metadata={"deep": deep})
        page = open_trace(visit)
        section(page, "Input").get_by_role("button", name="Show all").click()
        expect(section(page, "Input")).to_contain_text("bottom")
        desk.trace("after")
        expect(page.locator("#rows > li")).to_have_count(2)

    def test_what_cannot_be_shown_is_there_as_it_came(self, desk: Desk, visit: Visitor):
        desk.trace("t", output={"role": "assistant", "content": "said", "thinking": [None]})
        desk.trace("u", input=[{"role": {"toString": 1}, "content": "x"}])
        for name in ("t", "u"):
            page = visit(f"/?trace={name}")
            page.get_by_text("Raw payload").click()
            expect(page.get_by_label("Raw payload", exact=True)).to_contain_text(f"g-{name}")

    def test_a_deep_trace(self, desk: Desk, visit: Visitor):
        spans = [
            desk.event("span-create", id=f"s{n}", traceId="t", parentObservationId=f"s{n - 1}")
            for n in range(3000)
        ]
        desk.post(*spans)
        page = visit("/?trace=t")
        expect(page.get_by_role("heading", name="Raw payload")).to_have_count(0)
        expect(page.get_by_role("heading", name="can't be shown")).to_have_count(0)
        expect(page.get_by_text("Raw payload")).to_be_visible()

    def test_another_page_cannot_read_it(self, desk: Desk, browser):
        """A name elsewhere that was given this machine's address is not the inbox's."""
        desk.trace("secret")
        port = desk.url.rsplit(":", 1)[1]
        context = browser.new_context(extra_http_headers={"host": f"rebound.example:{port}"})
        reply = context.request.get(f"{desk.url}/api/inbox", headers={"host": "rebound.example"})
        assert reply.status == 403
        assert "secret" not in reply.text()
        context.close()


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[Runtime, Inbox, str]]:
    """The real gateway, whose providers tell the story, with an inbox."""
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))
    inbox = Inbox()
    with Server(story.app()) as provider, Server(inbox.app()) as server:
        env = {
            **wrangler_config()["vars"],
            "LANGFUSE_PUBLIC_KEY": "pk-lf-browser",
            "LANGFUSE_SECRET_KEY": "sk-lf-browser",
            "LANGFUSE_BASE_URL": server.url,
            "PROVIDERS": story.providers(provider.url),
        }
        with Runtime(env) as running:
            yield running, inbox, server.url


def test_through_the_gateway(gateway, browser):
    running, _, url = gateway
    page = browser.new_page()
    page.goto(url)
    expect(page.get_by_role("heading", name="No traces yet")).to_be_visible()
    story.tell(running.url, lambda name: name in ("help desk", "summarise the morning"))
    expect(page.locator("#rows > li")).to_have_count(3)
    # The first of the two: it was streamed, and calls a tool.
    page.get_by_role("link", name="help desk").nth(1).click()
    expect(page.locator(".observation")).to_be_visible()
    assert said(page, "Output") == [
        (
            "Assistant",
            'Calls look_up_order call_Zt81 {"number": "4711", "fields": ["status", "delivery"]}',
        )
    ]
    expect(page.locator(".top")).to_contain_text("First token")
    page.get_by_role("link", name="help desk").first.click()
    expect(section(page, "Input")).to_contain_text("Returned")
    expect(section(page, "Output")).to_contain_text("neighbour")
    page.get_by_role("link", name="summarise").click()
    expect(page.locator(".step")).to_have_count(3)
    expect(page.locator(".step").nth(1)).to_contain_text("HTTP 429")
    page.close()
