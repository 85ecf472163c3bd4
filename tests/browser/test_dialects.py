"""Tests of how the page shows the inputs and outputs of each dialect."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from dialects.registry import read_request
from tests.browser.conftest import InboxServer, PageOpener
from tests.browser.reading import open_trace, read_messages, section

pytestmark = pytest.mark.long

RECORDED = Path(__file__).parents[1] / "unit" / "recorded"


def recorded_input(path: str, body: dict[str, Any]) -> Any:
    """The input that the gateway records for this request."""
    return read_request(path, json.dumps(body).encode()).input


WEATHER = {"name": "weather", "description": "Of a place", "parameters": {"type": "object"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a":[1]}'}}


class TestDialects:
    def test_chat_messages(self, inbox_server: InboxServer, open_page: PageOpener):
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
        inbox_server.add_trace(
            "t", input=recorded_input("/v1/chat/completions", body), output=output
        )
        page = open_trace(open_page)
        expect(section(page, "Output").locator(".thinking")).to_have_text("Thinking 13 characters")
        assert read_messages(page, "Input") == [
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
        [(role, text)] = read_messages(page, "Output")
        assert role == "Assistant"
        for part in ("Look outside.", "Sunny", "Refusal No rain.", "T u", 'surprise {"kept": 1}'):
            assert part in text

    def test_choices_completions_and_embeddings(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        inbox_server.add_trace(
            "n", input="p", output=[{"role": "assistant", "content": c} for c in "ab"]
        )
        assert read_messages(open_trace(open_page, "n"), "Output") == [
            ("Assistant", "a"),
            ("Assistant", "b"),
        ]
        inbox_server.add_trace(
            "c", input=recorded_input("/v1/completions", {"prompt": "Say\nhi"}), output=["x", "y"]
        )
        page = open_trace(open_page, "c")
        assert read_messages(page, "Input") == [("Input", "Say hi")]
        assert read_messages(page, "Output") == [("Output 1", "x"), ("Output 2", "y")]
        numbers = {"dimensions": 1536, "count": 2}
        inbox_server.add_trace(
            "e", input=recorded_input("/v1/embeddings", {"input": ["k", "l"]}), output=numbers
        )
        page = open_trace(open_page, "e")
        assert read_messages(page, "Input") == [("Input 1", "k"), ("Input 2", "l")]
        assert read_messages(page, "Output") == [("Output", "2 vectors of 1,536 dimensions")]
        inbox_server.add_trace("tokens", input=[1, 2, 3])
        assert read_messages(open_trace(open_page, "tokens"), "Input") == [
            ("Input", "3 tokens The tokens [1,2,3]")
        ]

    @pytest.mark.parametrize(
        "is_recorded", [True, False], ids=["as recorded", "as an app sends it"]
    )
    def test_anthropic_messages(
        self, inbox_server: InboxServer, open_page: PageOpener, is_recorded: bool
    ):
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
        inbox_server.add_trace(
            "t", input=recorded_input("/v1/messages", body) if is_recorded else body
        )
        page = open_trace(open_page)
        shown = read_messages(page, "Input")
        text = " ".join(part for _, part in shown)
        # Unrecorded, the type of the image is shown beside its data, without a size.
        for part in ("Look", "image/webp", "Hm.", "hidden by the provider", "Calls zoom u1"):
            assert part in text, part
        assert '{"by": 2}' in text
        assert "Failed zoom u1 Broken" in text
        expect(page.locator(".observation")).to_contain_text("See.")

    def test_server_tools_citations_and_sources(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        case = json.loads((RECORDED / "messages/server_tools_and_citations.json").read_text())
        inbox_server.add_trace("t", output=case["expected"]["output"])
        [(_, text)] = read_messages(open_trace(open_page), "Output")
        assert text.startswith('Calls web_search srvtoolu_1 {"query": "x y"} Returned web_search')
        for part in ("A https://example.com", "It says so.", "Citations, 2", "a page", "EqgB"):
            assert part in text

    def test_responses_items(self, inbox_server: InboxServer, open_page: PageOpener):
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
        inbox_server.add_trace("t", input=recorded_input("/v1/responses", body))
        assert read_messages(open_trace(open_page), "Input") == expected
        inbox_server.add_trace("own", input=items)  # as an app that traces itself sends it
        shown = read_messages(open_trace(open_page, "own"), "Input")
        assert " ".join(text for _, text in shown) == " ".join(text for _, text in expected[1:])

    def test_every_text_of_the_recorded_replies_is_shown(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        outputs = {path.stem: json.loads(path.read_text()) for path in RECORDED.rglob("*.json")}
        outputs = {name: case["expected"].get("output") for name, case in outputs.items()}
        outputs = {name: output for name, output in outputs.items() if output is not None}
        assert len(outputs) > 30
        for name, output in outputs.items():
            inbox_server.add_trace(name, output=output)
        page = open_page()
        for name, output in outputs.items():
            page.locator(f"li[data-id='{name}'] a").click()
            expect(page.locator(".top h2")).to_have_text(name)
            shown = " ".join(message_text for _, message_text in read_messages(page, "Output"))
            for text in shown_texts(output):
                assert text in shown, (name, text)


def shown_texts(value: Any, name: str = "") -> Iterator[str]:
    """The texts in a value, except types, roles, and those that are shown in another form."""
    if isinstance(value, dict):
        for member, inner in value.items():
            if member not in ("type", "role"):
                yield from shown_texts(inner, member)
    elif isinstance(value, list):
        for item in value:
            yield from shown_texts(item, name)
    elif isinstance(value, str) and name != "arguments" and not value.startswith("["):
        yield " ".join(value.split())
