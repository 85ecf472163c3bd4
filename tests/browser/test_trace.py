"""One trace as a person reads it: each dialect, attempts, an app's own tree, hostile content."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

import dialects
from local.inbox import Inbox
from local.runtime import NotInstalled, Runtime, require_installed, wrangler_config
from local.server import Server
from tests.browser import story
from tests.browser.conftest import Desk, Visitor, at

pytestmark = pytest.mark.long

RECORDED = Path(__file__).parents[1] / "unit" / "recorded"


def open_trace(visit: Visitor, name: str = "t", **options: Any) -> Page:
    page = visit(f"/?trace={name}", **options)
    expect(page.locator(".observation")).to_be_visible()
    return page


def section(page: Page, title: str) -> Locator:
    heading = page.get_by_role("heading", name=title, exact=True)
    return page.locator(".observation section").filter(has=heading)


UNFOLD = """async () => {
  for (let closed; (closed = document.querySelectorAll("#trace details:not([open])")).length > 0;) {
    for (const node of closed) node.open = true;
    // What is in them is made when they tell of it.
    await new Promise((resolve) => { setTimeout(resolve); });
  }
}"""


def said(page: Page, title: str) -> list[tuple[str, str]]:
    """Who says what in the input or the output, what is folded too."""
    page.evaluate(UNFOLD)
    found = (
        section(page, title)
        .locator(".message")
        .evaluate_all(
            "all => all.map((one) => [...one.children].slice(0, 2).map((part) => part.innerText))"
        )
    )
    return [(who, " ".join(what.split())) for who, what in found]


def read(path: str, body: dict[str, Any]) -> Any:
    """An input as the gateway records it."""
    return dialects.read_request(path, json.dumps(body).encode()).input


WEATHER = {"name": "weather", "description": "Of a place", "parameters": {"type": "object"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a":[1]}'}}


class TestDialects:
    def test_chat(self, desk: Desk, visit: Visitor):
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        messages = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "One\n  two"}, image]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"sun": true}'},
        ]
        tools = [{"type": "function", "function": WEATHER}]
        body = {"model": "m", "messages": messages, "tools": tools, "tool_choice": "auto"}
        output = {
            "role": "assistant",
            "content": "Sunny",
            "thinking": [{"type": "thinking", "content": "Look outside."}],
            "refusal": "No rain.",
            "annotations": [{"type": "url_citation", "url_citation": {"url": "u", "title": "T"}}],
            "surprise": {"kept": 1},
        }
        desk.trace("t", input=read("/v1/chat/completions", body), output=output)
        page = open_trace(visit)
        expect(section(page, "Output").locator(".thinking")).to_have_text("Thinking 13 characters")
        assert said(page, "Input") == [
            ("Developer", "Be brief."),
            ("User", "One two Image image/png 3 bytes"),
            ("Assistant", 'Calls weather c1 {"a": [1]}'),
            ("Tool", 'Returned weather c1 {"sun": true}'),
        ]
        text = section(page, "Input").get_by_text("One").inner_text()
        assert text == "One\n  two"
        expect(section(page, "Input")).to_contain_text("1 tool weather")
        expect(section(page, "Input")).to_contain_text("Of a place")
        expect(section(page, "Input")).to_contain_text("tool_choice")
        [(who, what)] = said(page, "Output")
        assert who == "Assistant"
        for part in ("Look outside.", "Sunny", "Refusal No rain.", "T u", 'surprise {"kept": 1}'):
            assert part in what

    def test_several_choices_completions_and_embeddings(self, desk: Desk, visit: Visitor):
        desk.trace("n", input="p", output=[{"role": "assistant", "content": c} for c in "ab"])
        assert said(open_trace(visit, "n"), "Output") == [("Assistant", "a"), ("Assistant", "b")]
        desk.trace("c", input=read("/v1/completions", {"prompt": "Say\nhi"}), output=["x", "y"])
        page = open_trace(visit, "c")
        assert said(page, "Input") == [("Input", "Say hi")]
        assert said(page, "Output") == [("Output 1", "x"), ("Output 2", "y")]
        numbers = {"dimensions": 1536, "count": 2}
        desk.trace("e", input=read("/v1/embeddings", {"input": ["k", "l"]}), output=numbers)
        page = open_trace(visit, "e")
        assert said(page, "Input") == [("Input 1", "k"), ("Input 2", "l")]
        assert said(page, "Output") == [("Output", "2 vectors of 1,536 dimensions")]
        desk.trace("tokens", input=[1, 2, 3])
        assert said(open_trace(visit, "tokens"), "Input") == [
            ("Input", "3 tokens The tokens [1,2,3]")
        ]

    @pytest.mark.parametrize("recorded", [True, False], ids=["as recorded", "as an app sends it"])
    def test_messages(self, desk: Desk, visit: Visitor, recorded: bool):
        picture = {"type": "base64", "media_type": "image/webp", "data": "AAAA"}
        result = {"type": "tool_result", "tool_use_id": "u1", "is_error": True}
        content: list[list[Any]] = [
            [{"type": "text", "text": "Look"}, {"type": "image", "source": picture}],
            [
                {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xyz"},
                {"type": "tool_use", "id": "u1", "name": "zoom", "input": {"by": 2}},
            ],
            [{**result, "content": [{"type": "text", "text": "Broken"}]}],
        ]
        messages = [
            {"role": role, "content": blocks}
            for role, blocks in zip(("user", "assistant", "user"), content, strict=True)
        ]
        body = {"system": "See.", "messages": messages}
        desk.trace("t", input=read("/v1/messages", body) if recorded else body)
        page = open_trace(visit)
        found = said(page, "Input")
        text = " ".join(what for _, what in found)
        # As it was sent, the picture's type stands beside its data, whose size nobody told.
        for part in ("Look", "image/webp", "Hm.", "hidden by the provider", "Calls zoom u1"):
            assert part in text, part
        assert '{"by": 2}' in text
        assert "Failed zoom u1 Broken" in text
        expect(page.locator(".observation")).to_contain_text("See.")

    def test_server_tools_citations_and_sources(self, desk: Desk, visit: Visitor):
        case = json.loads((RECORDED / "messages/server_tools_and_citations.json").read_text())
        desk.trace("t", output=case["expected"]["output"])
        [(_, what)] = said(open_trace(visit), "Output")
        assert what.startswith('Calls web_search srvtoolu_1 {"query": "x y"} Returned web_search')
        for part in ("A https://example.com", "It says so.", "Citations, 2", "a page", "EqgB"):
            assert part in what

    def test_responses(self, desk: Desk, visit: Visitor):
        items = [
            {"role": "user", "content": [{"type": "input_text", "text": "Go"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Think."}]},
            {"type": "function_call", "call_id": "c1", "name": "go", "arguments": '{"x":1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "gone"},
            {"type": "web_search_call", "status": "completed", "action": {"query": "q"}},
        ]
        body = {"instructions": "Be kind.", "input": items}
        expected = [
            ("System", "Be kind."),
            ("User", "Go"),
            ("Assistant", 'Thinking 6 characters Think. Calls go c1 {"x": 1}'),
            ("Tool", "Returned go c1 gone"),
            ("Assistant", 'Calls web_search {"query": "q"} status completed'),
        ]
        desk.trace("t", input=read("/v1/responses", body))
        assert said(open_trace(visit), "Input") == expected
        desk.trace("own", input=items)  # as an app's own tracer sends it
        found = said(open_trace(visit, "own"), "Input")
        assert " ".join(what for _, what in found) == " ".join(what for _, what in expected[1:])

    def test_of_a_recorded_reply_no_word_is_lost(self, desk: Desk, visit: Visitor):
        outputs = {path.stem: json.loads(path.read_text()) for path in RECORDED.rglob("*.json")}
        outputs = {name: case["expected"].get("output") for name, case in outputs.items()}
        outputs = {name: output for name, output in outputs.items() if output is not None}
        assert len(outputs) > 30
        for name, output in outputs.items():
            desk.trace(name, output=output)
        page = visit()
        for name, output in outputs.items():
            page.locator(f"li[data-id='{name}'] a").click()
            expect(page.locator(".top h2")).to_have_text(name)
            shown = " ".join(what for _, what in said(page, "Output"))
            for word in words(output):
                assert word in shown, (name, word)


def words(value: Any, name: str = "") -> Iterator[str]:
    """The texts in a value, but for those that say what it is or are shown in another form."""
    if isinstance(value, dict):
        for member, inner in value.items():
            if member not in ("type", "role"):
                yield from words(inner, member)
    elif isinstance(value, list):
        for item in value:
            yield from words(item, name)
    elif isinstance(value, str) and name != "arguments" and not value.startswith("["):
        yield " ".join(value.split())


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
        expect(page.locator(".verdict")).to_have_text("HTTP 429: too many")

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

    def test_a_megabyte_is_cut_and_can_be_had_whole(self, desk: Desk, visit: Visitor):
        desk.trace("t", input=["word " * 200_000], output={"text": "x" * 1_000_000})
        page = open_trace(visit)
        text = section(page, "Input").locator(".said .text")
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
