"""Tests of an open trace: timeline, usage, hostile content, and traces of the real gateway."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, expect

from local.inbox import Inbox
from local.runtime import NotInstalled, Runtime, require_installed, wrangler_config
from local.server import Server
from tests.browser import help_desk
from tests.browser.conftest import InboxServer, PageOpener, time_at
from tests.browser.reading import OPEN_ALL_DETAILS, open_trace, read_messages, section

pytestmark = pytest.mark.long


class TestTimeline:
    def test_attempts_are_shown_below_their_span(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        common_fields = {"traceId": "t", "type": "generation-create"}
        spans = [
            ("span-create", "s", None, (0, None, 1000), {"name": "ask", "output": "all"}),
            ("generation-create", "a", "s", (0, None, 250), {"level": "ERROR", "model": "gpt"}),
            ("generation-create", "b", "s", (250, 500, 1000), {"model": "claude", "output": "x"}),
        ]
        for event_type, id, parent, (start, first_token, end), fields in spans:
            times = {"startTime": time_at(start), "endTime": time_at(end)}
            if first_token is not None:
                times["completionStartTime"] = time_at(first_token)
            if parent:
                times["parentObservationId"] = parent
            if id == "a":
                fields = {**fields, "statusMessage": "HTTP 429: too many"}
            inbox_server.post(
                inbox_server.event(
                    event_type, id=id, traceId=common_fields["traceId"], **times, **fields
                )
            )
        page = open_trace(open_page)
        steps = page.get_by_role("region", name="Timeline").get_by_role("button")
        expect(steps).to_have_count(3)
        expect(steps.nth(1)).to_contain_text("HTTP 429: too many")
        # The successful attempt is open.
        expect(steps.nth(2)).to_have_attribute("aria-current", "true")
        expect(section(page, "Output")).to_contain_text("x")
        track, bar = (steps.nth(2).locator(name).bounding_box() for name in (".track", ".span"))
        first_token_mark = steps.nth(2).locator(".span i").bounding_box()
        assert track
        assert bar
        assert first_token_mark
        assert bar["x"] - track["x"] == pytest.approx(track["width"] / 4, abs=2)
        assert bar["width"] == pytest.approx(track["width"] * 3 / 4, abs=2)
        assert first_token_mark["x"] - bar["x"] == pytest.approx(bar["width"] / 3, abs=2)
        depths = [
            box["x"] for box in map(Locator.bounding_box, steps.locator(".kind").all()) if box
        ]
        assert depths[0] < depths[1] == depths[2]
        steps.nth(0).click()
        expect(section(page, "Output")).to_contain_text("all")
        expect(steps.nth(0)).to_be_focused()
        steps.nth(1).press("Enter")
        expect(page.locator(".status-message")).to_have_text("HTTP 429: too many")

    def test_the_first_token_of_a_request_is_the_one_that_its_client_got(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        """Its metadata has the time since the request, a generation's since the attempt."""
        generation = {"traceId": "t", "parentObservationId": "s", "model": "m", "name": "chat"}
        inbox_server.post(
            inbox_server.event("trace-create", id="t", name="t", timestamp=time_at(0)),
            inbox_server.event(
                "span-create",
                id="s",
                traceId="t",
                name="request",
                startTime=time_at(0),
                endTime=time_at(900),
                metadata={"attempts": 2, "time_to_first_token_ms": 700},
            ),
            inbox_server.event(
                "generation-create",
                id="a",
                level="ERROR",
                startTime=time_at(0),
                endTime=time_at(500),
                **generation,
            ),
            inbox_server.event(
                "generation-create",
                id="b",
                startTime=time_at(500),
                completionStartTime=time_at(700),
                endTime=time_at(900),
                **generation,
            ),
        )
        page = open_trace(open_page)
        expect(page.locator(".top .facts")).to_contain_text("First token700 ms")
        took = page.locator(".step .took")
        expect(took).to_have_text(
            ["900 msfirst token 700 ms", "500 ms", "400 msfirst token 200 ms"]
        )
        expect(page.locator("#rows > li .first")).to_contain_text("700 ms")

    def test_a_deep_tree_of_an_app_is_shown(self, inbox_server: InboxServer, open_page: PageOpener):
        inbox_server.post(
            inbox_server.event(
                "trace-create", id="t", name="job", input={"q": "own"}, metadata={"a": "b"}
            ),
            inbox_server.event(
                "span-create", id="1", traceId="t", name="agent", startTime=time_at(0)
            ),
            *(
                inbox_server.event(
                    "span-create",
                    id=str(n),
                    traceId="t",
                    parentObservationId=str(n - 1),
                    name=f"step {n}",
                    startTime=time_at(n * 10),
                    endTime=time_at(900),
                )
                for n in range(2, 12)
            ),
            inbox_server.event(
                "event-create", id="e", traceId="t", name="note", startTime=time_at(5)
            ),
            inbox_server.event(
                "generation-create",
                id="g",
                traceId="t",
                parentObservationId="11",
                model="m",
                output="leaf",
            ),
        )
        page = open_trace(open_page)
        expect(page.locator(".step")).to_have_count(13)
        expect(section(page, "Output")).to_contain_text("leaf")
        page.get_by_text("The trace's own input").click()
        expect(page.locator("details.whole")).to_contain_text("own")
        page.set_viewport_size({"width": 390, "height": 800})
        sizes = page.eval_on_selector("#trace", "node => [node.scrollWidth, node.clientWidth]")
        assert sizes[0] <= sizes[1]

    def test_usage_cost_and_metadata_are_shown(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        inbox_server.add_trace(
            "t",
            usageDetails={"input": 1200, "input_cached_tokens": 800, "output": 50, "total": 2050},
            costDetails={"input": 0.0012, "total": 0.0025},
            modelParameters={"temperature": 0.2},
            metadata={
                "provider": "groq",
                "notes": ["cut here"],
                "deep": {"list": list(range(40))},
                "reasoning_tokens": 38,
            },
        )
        page = open_trace(open_page)
        rows = section(page, "Usage").get_by_role("row")
        expect(rows).to_have_text(
            [
                "PartTokensCost",
                "Input1,200$0.0012",
                "Input from the cache800",
                "Output50",
                "of which thinking38",
                "Total2,050$0.0025",
            ]
        )
        expect(section(page, "Metadata").get_by_role("listitem")).to_have_text("cut here")
        expect(section(page, "Metadata").locator("pre")).to_contain_text('"list": [')
        expect(page.locator(".top")).to_contain_text("$0.0025")

    def test_a_long_conversation_is_folded_in_the_middle(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        turns = [{"role": "user", "content": f"turn {n}"} for n in range(300)]
        inbox_server.add_trace("t", input=turns)
        page = open_trace(open_page)
        expect(section(page, "Input").locator(".message")).to_have_count(24)
        page.get_by_text("276 messages in between").click()
        expect(section(page, "Input").locator(".role")).to_have_count(300)
        assert [text for _, text in read_messages(page, "Input")] == [
            f"turn {n}" for n in range(300)
        ]


HOSTILE_TEXTS = [
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


def hostile_events(inbox_server: InboxServer, id: str, text: str) -> list[dict[str, Any]]:
    """The events of a trace with this text in all of its fields."""
    image = {"type": "image_url", "image_url": {"url": text}}
    call = {"id": text, "type": text, "function": {"name": text, "arguments": text}}
    messages = [
        {"role": text, "content": text, text: text},
        {"role": "user", "content": [{"type": "text", "text": text, "citations": [text]}, image]},
        {"role": "assistant", "thinking": text, "tool_calls": [call, text, None], "refusal": text},
        {"role": "tool", "tool_call_id": text, "content": [{"type": text, "url": text}]},
        {"type": text, "name": text},
        [text],
        None,
        7,
    ]
    trace_fields = {"name": text, "userId": text, "sessionId": text, "tags": [text]}
    return [
        inbox_server.event("trace-create", id=id, **trace_fields),
        inbox_server.event(
            "generation-create",
            id=f"g{id}",
            traceId=id,
            name=text,
            model=text,
            statusMessage=text,
            level="ERROR",
            startTime=time_at(0),
            endTime=time_at(9),
            input={"messages": messages, "tools": [{"function": {"name": text}}, text], text: text},
            output={"role": "assistant", "content": text, "annotations": [{"url": text}]},
            metadata={text: {text: [text]}, "provider": text, "attributes": text},
            modelParameters={text: text},
            usageDetails={"input": 1, text: 2},
            costDetails={text: 3},
            promptName=text,
            promptVersion=1,
        ),
    ]


class TestHostileContent:
    def test_hostile_texts_are_shown_as_text_in_every_field(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        for number, text in enumerate(HOSTILE_TEXTS):
            inbox_server.post(*hostile_events(inbox_server, f"{number}", text))
        page = open_page()
        expect(page.locator("#rows > li")).to_have_count(len(HOSTILE_TEXTS))
        for number, text in enumerate(HOSTILE_TEXTS):
            page.locator("#rows > li").nth(-1 - number).click()
            expect(page.locator(".top h2")).to_have_text(text.strip() or text, use_inner_text=False)
            assert page.locator(".top h2").text_content() == text
            page.evaluate(OPEN_ALL_DETAILS)
            expect(page.locator("details.raw pre")).to_be_visible()
            elements = page.locator("#trace").locator("img, script, iframe, a, style, svg, object")
            assert elements.count() == 0

    def test_hostile_texts_work_as_filter_and_in_the_url(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        for number, text in enumerate(HOSTILE_TEXTS[:-1]):  # a URL cannot have a lone surrogate
            inbox_server.post(*hostile_events(inbox_server, f"{text}{number}", text))
        page = open_page()
        for text in HOSTILE_TEXTS[:-1]:
            page.get_by_label("Session").select_option(text)
            expect(page.locator("#rows > li")).to_have_count(1)
            page.locator("#rows > li").click()
            expect(page.locator(".observation")).to_be_visible()
            page.reload()
            expect(page.locator(".observation")).to_be_visible()
            expect(page.locator("#rows > li")).to_have_count(1)

    def test_a_lone_surrogate_in_an_id_does_not_break_the_list(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        inbox_server.add_trace("\ud83d")
        inbox_server.add_trace("well")
        page = open_page()
        expect(page.locator("#rows > li")).to_have_count(2)

    def test_attributes_that_are_not_text_are_shown_as_json(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        names = ("trace.tags", "trace.name", "observation.model.name", "observation.status_message")
        object_value = {"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "7"}}]}}
        values = [
            *((f"langfuse.{name}", object_value) for name in names),
            ("session.id", object_value),
        ]
        values.append(("langfuse.observation.metadata.provider", object_value))
        span = {
            "traceId": "1" * 32,
            "spanId": "2" * 16,
            "name": "odd",
            "startTimeUnixNano": "1000000",
            "endTimeUnixNano": "3000000",
            "attributes": [{"key": key, "value": value} for key, value in values],
        }
        export = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
        url = f"{inbox_server.url}/api/public/otel/v1/traces"
        assert httpx.post(url, json=export, auth=("any", "pair")).status_code == 200
        page = open_trace(open_page, "1" * 32)
        expect(page.locator(".facts").first).to_contain_text('{"a":7}')
        expect(page.locator("#rows > li")).to_have_count(1)

    def test_a_text_of_a_megabyte_is_truncated_and_can_be_expanded(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        inbox_server.add_trace("t", input=["word " * 200_000], output={"text": "x" * 1_000_000})
        page = open_trace(open_page)
        text = section(page, "Input").locator(".content .text")
        assert len(text.text_content() or "") < 10_000
        section(page, "Input").get_by_role("button", name="Show all 1,000,000").click()
        assert len(text.text_content() or "") == 1_000_000

    def test_deeply_nested_json_is_shown(self, inbox_server: InboxServer, open_page: PageOpener):
        deep: Any = "bottom"
        for _ in range(300):
            deep = {"a": [deep]}
        inbox_server.add_trace("t", input=deep, metadata={"deep": deep})
        page = open_trace(open_page)
        section(page, "Input").get_by_role("button", name="Show all").click()
        expect(section(page, "Input")).to_contain_text("bottom")
        inbox_server.add_trace("after")
        expect(page.locator("#rows > li")).to_have_count(2)

    def test_the_raw_payload_is_shown_for_content_that_cannot_be(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        inbox_server.add_trace(
            "t", output={"role": "assistant", "content": "said", "thinking": [None]}
        )
        inbox_server.add_trace("u", input=[{"role": {"toString": 1}, "content": "x"}])
        for name in ("t", "u"):
            page = open_page(f"/?trace={name}")
            page.get_by_text("Raw payload").click()
            expect(page.get_by_label("Raw payload", exact=True)).to_contain_text(f"g-{name}")

    def test_a_trace_with_3000_levels_is_shown(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        spans = [
            inbox_server.event(
                "span-create", id=f"s{n}", traceId="t", parentObservationId=f"s{n - 1}"
            )
            for n in range(3000)
        ]
        inbox_server.post(*spans)
        page = open_page("/?trace=t")
        expect(page.get_by_role("heading", name="Raw payload")).to_have_count(0)
        expect(page.get_by_role("heading", name="can't be shown")).to_have_count(0)
        expect(page.get_by_text("Raw payload")).to_be_visible()

    def test_another_host_name_cannot_read_the_inbox(self, inbox_server: InboxServer, browser):
        """As in DNS rebinding: a foreign host name that resolves to this machine is refused."""
        inbox_server.add_trace("secret")
        port = inbox_server.url.rsplit(":", 1)[1]
        context = browser.new_context(extra_http_headers={"host": f"rebound.example:{port}"})
        reply = context.request.get(
            f"{inbox_server.url}/api/inbox", headers={"host": "rebound.example"}
        )
        assert reply.status == 403
        assert "secret" not in reply.text()
        context.close()


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[Runtime, Inbox, str]]:
    """The gateway in workerd, with the provider of `help_desk` and an inbox."""
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))
    inbox = Inbox()
    with Server(help_desk.app()) as provider, Server(inbox.app()) as server:
        env = {
            **wrangler_config()["vars"],
            "LANGFUSE_PUBLIC_KEY": "pk-lf-browser",
            "LANGFUSE_SECRET_KEY": "sk-lf-browser",
            "LANGFUSE_BASE_URL": server.url,
            "PROVIDERS": help_desk.providers(provider.url),
        }
        with Runtime(env) as runtime:
            yield runtime, inbox, server.url


def test_traces_of_the_gateway_are_shown(gateway, browser):
    runtime, _, url = gateway
    page = browser.new_page()
    page.goto(url)
    expect(page.get_by_role("heading", name="No traces yet")).to_be_visible()
    help_desk.send_requests(
        runtime.url, lambda name: name in ("help desk", "summarise the morning")
    )
    expect(page.locator("#rows > li")).to_have_count(3)
    # The older of the two: it was streamed and calls a tool.
    page.get_by_role("link", name="help desk").nth(1).click()
    expect(page.locator(".observation")).to_be_visible()
    assert read_messages(page, "Output") == [
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
