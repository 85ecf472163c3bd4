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
        image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
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
            ("User", "One two Image https://example.com/a.png"),
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
        page_found = {"type": "web_search_result", "url": "https://example.com", "title": "A"}
        citation = {"cited_text": "a page", "url": "https://example.com", "title": "A"}
        call = {"name": "web_search", "arguments": '{"query":"x y"}'}
        output = [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "s1", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": "s1", "content": [page_found]},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "It says so.", "citations": [citation]}],
            },
        ]
        inbox_server.add_trace("t", input="q", output=output)
        called, returned, answer = read_messages(open_trace(open_page), "Output")
        assert called == ("Assistant", 'Calls web_search s1 {"query": "x y"}')
        assert returned[1].startswith("Returned web_search s1 A https://example.com")
        assert answer[1].startswith("It says so. Citations, 1 A https://example.com a page")

    def test_responses_items(self, inbox_server: InboxServer, open_page: PageOpener):
        items = [
            {"role": "user", "content": [{"type": "input_text", "text": "Go"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Think."}]},
            {"type": "function_call", "call_id": "c1", "name": "go", "arguments": '{"x":1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "gone"},
        ]
        body = {"instructions": "Be kind.", "input": items}
        expected = [
            ("System", "Be kind."),
            ("User", "Go"),
            ("Assistant", 'Thinking 6 characters Think. Calls go c1 {"x": 1}'),
            ("Tool", "Returned go c1 gone"),
        ]
        inbox_server.add_trace("t", input=recorded_input("/v1/responses", body))
        assert read_messages(open_trace(open_page), "Input") == expected
        # As an app that traces itself sends it.
        search = {"type": "web_search_call", "status": "completed", "action": {"query": "q"}}
        inbox_server.add_trace("own", input=[*items, search])
        shown = read_messages(open_trace(open_page, "own"), "Input")
        note = "Langfuse shows this message as a table: it has no content and no tool calls. "
        assert [text.replace(note, "") for _, text in shown] == [
            "Go",
            "Thinking 6 characters Think.",
            'Calls go c1 {"x": 1}',
            "Returned go c1 gone",
            'Calls web_search {"query": "q"} status completed',
        ]
        assert [note in text for _, text in shown] == [False, True, True, True, True]

    def test_inline_media_are_shown_by_type_and_size(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        """Langfuse renders them as texts only. A sound that the model made has a transcript."""
        parts = [
            {"type": "text", "text": "What is this?"},
            {"type": "text", "text": "[image/png, 2048 bytes]"},
            {"type": "text", "text": "[application/pdf, 10 bytes]", "filename": "a.pdf"},
            {"type": "text", "text": "[audio/wav, 10 bytes] of a bird"},
        ]
        audio = {"id": "audio_1", "data": "[audio/mp3, 10 bytes]", "transcript": "A bird."}
        output = {"role": "assistant", "content": None, "output_audio": audio}
        inbox_server.add_trace("t", input=[{"role": "user", "content": parts}], output=output)
        page = open_trace(open_page)
        assert read_messages(page, "Input") == [
            (
                "User",
                "What is this? Image image/png 2.0 KB File application/pdf 10 bytes filename a.pdf "
                "[audio/wav, 10 bytes] of a bird",
            )
        ]
        [(_, text)] = read_messages(page, "Output")
        assert "Audio audio/mp3 10 bytes" in text
        assert "A bird." in text

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


CALL_PARTS = {"id": "c1", "name": "f", "arguments": "{}"}
NESTED_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
THOUGHT = {"type": "thinking", "content": "Hm."}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
INLINE = {"type": "image_url", "image_url": {"url": "[image/png, 10 bytes]"}}
USER = {"role": "user", "content": "Hi"}


def answer(**members: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "Hello", **members}


# Inputs and outputs, and why Langfuse 4.16 shows them as JSON; None where it shows messages.
AS_JSON: list[tuple[str, Any, str | None]] = [
    ("input", [USER], None),
    ("input", [{"role": "developer", "content": None}, answer(tool_calls=[NESTED_CALL])], None),
    ("input", {"messages": [USER], "tools": [{"type": "function", "function": WEATHER}]}, None),
    ("input", {"messages": [USER], "tools": [{"type": "web_search", "name": "web_search"}]}, None),
    ("input", {"messages": [USER], "tools": [{"type": "web_search"}]}, "tools 1 has no name"),
    ("input", {"messages": [USER], "tools": [{"type": "custom", "custom": WEATHER}]}, "tools 1"),
    ("input", {"messages": [USER], "tool_choice": "auto"}, None),
    ("input", {"messages": []}, "there are no messages"),
    ("input", "Hi", "there are no messages"),
    ("input", {"system": "Be kind.", "prompt": "Hi"}, "there are no messages"),
    ("input", [USER, answer(content=5)], "message 2: content is neither"),
    ("input", [USER, answer(name=7)], "message 2: name is not a text"),
    ("input", [USER, answer(name=None)], None),
    ("output", answer(), None),
    ("output", [answer(), answer()], None),
    ("output", answer(tool_calls=[NESTED_CALL]), None),
    ("output", answer(tool_calls=[{**NESTED_CALL, "id": None}]), "tool_calls 1 has no id"),
    ("output", answer(tool_calls=[{"function": {"name": "f"}}]), "tool_calls 1 has no id"),
    ("output", answer(tool_calls=[CALL_PARTS]), None),
    ("output", answer(tool_calls={}), "tool_calls is not a list"),
    # Only a message with calls, and a list of messages, lose their null members.
    ("output", answer(name=None), "name is not a text"),
    ("output", answer(name=None, tool_calls=[NESTED_CALL]), None),
    ("output", answer(thinking=[THOUGHT]), None),
    ("output", answer(thinking="Hm."), "thinking is not a list"),
    ("output", answer(thinking=[THOUGHT, {"thinking": "Hm."}]), "thinking 2 is not a thought"),
    ("output", answer(redacted_thinking=[{"type": "redacted_thinking"}]), "redacted_thinking 1"),
    ("output", answer(audio={"data": "[audio/mp3, 1 bytes]"}), "audio has no reference"),
    ("output", answer(audio={"data": "@@@langfuseMedia:type=audio/mp3|id=1|source=x@@@"}), None),
    ("output", {"content": None}, "there is neither content nor role"),
    ("output", {"text": "Hello"}, None),
]

# Messages, and why Langfuse shows them as a table; None where it does not.
AS_TABLE: list[tuple[Any, str | None]] = [
    (USER, None),
    (answer(content=[{"type": "text", "text": "a"}, PICTURE]), None),
    (answer(content=[{"type": "text", "text": "a"}, INLINE]), "part 2 is neither"),
    (answer(content=["@@@langfuseMedia:type=image/png|id=1|source=x@@@"]), None),
    (answer(content=["a text"]), "part 1 is neither"),
    (answer(content=[{"type": "tool_use", "id": "t"}]), "part 1 is neither"),
    (answer(content={"a": 1}), "its content is an object"),
    ({"role": "tool", "content": {"a": 1}}, None),
    (answer(content=None, refusal="No."), None),
    (answer(content=None, thinking=[THOUGHT]), None),
    (answer(content=None, thinking=[THOUGHT], refusal="No."), "its thinking is hidden"),
    (answer(content="", thinking=[THOUGHT], refusal="No."), None),
    (answer(content=None, type="web_search_call", status="done"), "it has no content"),
]


class TestRulesOfLangfuse:
    def test_values_that_langfuse_shows_as_json_are_recognised(self, open_page: PageOpener):
        page = open_page()
        found = page.evaluate(
            """async ([values, messages]) => {
              const { problem, tableProblem } = await import("/page/chatml.js");
              const reasons = values.map(([kind, value]) => problem(value, kind));
              return [...reasons, ...messages.map(tableProblem)];
            }""",
            [[case[:2] for case in AS_JSON], [message for message, _ in AS_TABLE]],
        )
        for why, case in zip(found, [*AS_JSON, *AS_TABLE], strict=True):
            expected = case[-1]
            assert (why is None) == (expected is None), (case, why)
            assert (why or "").startswith(expected or ""), (case, why)

    def test_the_page_shows_as_json_what_langfuse_does(
        self, inbox_server: InboxServer, open_page: PageOpener
    ):
        unnamed = {"messages": [USER], "tools": [{"type": "web_search"}]}
        inbox_server.add_trace("t", input=unnamed, output=answer())
        page = open_trace(open_page)
        shown = section(page, "Input")
        expect(shown.locator(".langfuse")).to_have_text(
            "Langfuse shows the input as JSON: tools 1 has no name, or is no definition of a "
            "function."
        )
        expect(shown.locator("pre").first).to_contain_text('"web_search"')
        expect(shown.locator(".message")).to_have_count(0)
        shown.get_by_text("As messages").click()
        expect(shown.locator(".message")).to_contain_text("Hi")
        # Without messages in the input, Langfuse shows the output as JSON, too.
        expect(section(page, "Output").locator(".langfuse")).to_contain_text("the output as JSON")
        for name, value in (("named", [USER]), ("a text", "Hi")):
            inbox_server.add_trace(name, input=value, output="Hello")
            page = open_trace(open_page, name)
            expect(page.locator(".langfuse")).to_have_count(0)
