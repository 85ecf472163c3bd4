"""Inputs and outputs of each dialect, as a person reads them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from dialects.registry import read_request
from tests.browser.conftest import Desk, Visitor
from tests.browser.reading import open_trace, said, section

pytestmark = pytest.mark.long

RECORDED = Path(__file__).parents[1] / "unit" / "recorded"


def read(path: str, body: dict[str, Any]) -> Any:
    """An input as the gateway records it."""
    return read_request(path, json.dumps(body).encode()).input


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
