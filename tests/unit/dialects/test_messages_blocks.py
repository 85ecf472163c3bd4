"""Tests of Anthropic's content blocks: odd sequences of events, and odd whole messages."""

import json
from typing import Any

import pytest

from tests.unit.dialects.untyped import ContentBlocks, read_reply, to_chat_messages

TEXT: dict[str, Any] = {"type": "text", "text": ""}
THINKING: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}


def start(index: Any, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: Any, **members: Any) -> dict[str, Any]:
    name = next(iter(members), "")
    delta_type = {"partial_json": "input_json", "citation": "citations"}.get(name, name)
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": f"{delta_type}_delta", **members},
    }


def stop(index: Any) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def tool(call_id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "f", "input": {}}


# name: (events, blocks)
EVENTS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "a block that is started for each token": (
        [start(0, TEXT), delta(0, text="a"), start(0, TEXT), delta(0, text="b"), stop(0)],
        [{"type": "text", "text": "ab"}],
    ),
    "a block that is started for each token, with the token": (
        [start(0, {**TEXT, "text": "a"}), start(0, {**TEXT, "text": "b"}), stop(0)],
        [{"type": "text", "text": "ab"}],
    ),
    "a block that is started for each token, and stopped": (
        [
            *(start(0, TEXT), delta(0, text="a"), stop(0)),
            *(start(0, TEXT), delta(0, text="b"), stop(0)),
        ],
        [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    ),
    "a tool call that is started for each token": (
        [
            *(start(0, tool("t")), delta(0, partial_json='{"a"')),
            *(start(0, tool("t")), delta(0, partial_json=":1}")),
        ],
        [{**tool("t"), "input": {"a": 1}}],
    ),
    "tool calls of one index": (
        [
            *(start(0, tool("t")), delta(0, partial_json="{}")),
            *(start(0, tool("u")), delta(0, partial_json='{"a":1}')),
        ],
        [tool("t"), {**tool("u"), "input": {"a": 1}}],
    ),
    "a second block before the first is stopped": (
        [start(0, TEXT), delta(0, text="a"), start(0, THINKING), delta(0, thinking="b"), stop(0)],
        [{"type": "text", "text": "a"}, {**THINKING, "thinking": "b"}],
    ),
    "thinking in a text block": (
        [
            *(start(0, TEXT), delta(0, thinking="a"), delta(0, signature="s")),
            *(delta(0, text="b"), stop(0)),
        ],
        [
            {"type": "text", "text": ""},
            {"type": "thinking", "thinking": "a", "signature": "s"},
            {"type": "text", "text": "b"},
        ],
    ),
    "a tool call in a text block": (
        [start(0, TEXT), delta(0, text="a"), delta(0, partial_json="{}")],
        [{"type": "text", "text": "a"}, {"type": "tool_use", "input": {}}],
    ),
    "deltas without a start": (
        [
            *(delta(0, thinking="a"), delta(1, text="b"), delta(1, citation={"x": 1})),
            *(delta(2, partial_json='{"a":1}'), delta(3, compaction="c"), delta(4)),
        ],
        [
            {"type": "thinking", "thinking": "a"},
            {"type": "text", "text": "b", "citations": [{"x": 1}]},
            {"type": "tool_use", "input": {"a": 1}},
            {"type": "compaction", "compaction": "c"},
            {},
        ],
    ),
    "deltas after the stop": (
        [start(0, TEXT), delta(0, text="a"), stop(0), delta(0, text="b")],
        [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    ),
    "events without an index": (
        [
            *(start(None, THINKING), delta(None, thinking="a"), stop(None)),
            *(start(None, TEXT), delta(None, text="b"), stop(None)),
        ],
        [{**THINKING, "thinking": "a"}, {"type": "text", "text": "b"}],
    ),
    "blocks out of order": (
        [start(1, TEXT), delta(1, text="b"), start(0, TEXT), delta(0, text="a")],
        [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    ),
    "the input of a server's tool": (
        [start(0, {**tool("s"), "type": "server_tool_use"}), delta(0, partial_json='{"q":1}')],
        [{**tool("s"), "type": "server_tool_use", "input": {"q": 1}}],
    ),
    "an input that is an object": (
        [start(0, tool("t")), delta(0, partial_json={"q": 1})],
        [{**tool("t"), "input": {"q": 1}}],
    ),
    "malformed events": (
        [
            *({"type": "content_block_start"}, {"type": "content_block_delta", "delta": "x"}),
            *(start([], TEXT), delta(0, text=None)),
        ],
        [{}, {"type": "text", "text": ""}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EVENTS)
def test_no_block_is_lost(name: str) -> None:
    events, expected = EVENTS[name]
    blocks = ContentBlocks()
    for event in events:
        blocks.add(event)
    assert blocks.finish() == expected


def test_repeated_starts_are_read_in_linear_time() -> None:
    blocks = ContentBlocks()
    for _ in range(50_000):
        blocks.add(start(0, TEXT))
        blocks.add(delta(0, text="ab"))
    assert len(blocks.finish()[0]["text"]) == 100_000


def test_a_content_that_is_a_text_is_read() -> None:
    reply = {"role": "assistant", "content": "Hi", "stop_reason": "end_turn"}
    completion = read_reply("/v1/messages", json.dumps(reply).encode(), "application/json", True)
    assert completion.output == {"role": "assistant", "content": "Hi"}
    assert completion.notes == ()


@pytest.mark.parametrize("message_type", ["message", "message_start"])
def test_a_content_that_is_null_is_empty(message_type: str) -> None:
    reply = {"type": "message", "role": "assistant", "content": None, "stop_reason": "end_turn"}
    event = reply if message_type == "message" else {"type": message_type, "message": reply}
    expected = {"role": "assistant", "content": None}
    body = json.dumps(reply).encode()
    whole = read_reply("/v1/messages", body, "application/json", True)
    body = b"data: " + json.dumps(event).encode() + b"\n\n"
    streamed = read_reply("/v1/messages", body, "text/event-stream", True)
    assert (whole.output, whole.notes) == (expected, ())
    assert (streamed.output, streamed.notes, streamed.is_finished) == (expected, (), True)


def test_a_message_that_is_one_event_is_read() -> None:
    content = [{**TEXT, "text": "Hi"}]
    event = {"type": "message", "role": "assistant", "model": "m", "content": content}
    body = b"data: " + json.dumps(event).encode() + b"\n\n"
    completion = read_reply("/v1/messages", body, "text/event-stream", True)
    assert completion.output == {"role": "assistant", "content": "Hi"}
    assert completion.model == "m"


def test_a_result_without_its_call_comes_first() -> None:
    """A reply that continues after a pause begins with the result of the server's tool."""
    result = {"type": "code_execution_tool_result", "tool_use_id": "s", "content": {"stdout": "2"}}
    messages = to_chat_messages({"role": "assistant", "content": [result, {**TEXT, "text": "Two"}]})
    assert messages == [
        {"role": "tool", "tool_call_id": "s", "content": [{"type": "text", "text": "2"}]},
        {"role": "assistant", "content": "Two"},
    ]


def test_a_server_tool_that_waits_for_the_client_is_not_a_call_to_answer() -> None:
    """https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/programmatic-tool-calling"""
    server_tool = {
        "type": "server_tool_use",
        "id": "s",
        "name": "code_execution",
        "input": {"a": 1},
    }
    caller = {"type": "code_execution_20250825", "tool_id": "s"}
    client_tool = {**tool("t"), "caller": caller}
    [message] = to_chat_messages({"role": "assistant", "content": [server_tool, client_tool]})
    assert [call["id"] for call in message["tool_calls"]] == ["t"]
    assert message["tool_calls"][0]["caller"] == caller
    assert message["server_tool_use"] == [server_tool]
    direct = {**tool("t"), "caller": {"type": "direct"}}
    [message] = to_chat_messages({"role": "assistant", "content": [server_tool, direct]})
    assert [call["id"] for call in message["tool_calls"]] == ["s", "t"]


def test_an_empty_block_after_the_result_of_a_tool_is_no_message() -> None:
    result = {"type": "web_search_tool_result", "tool_use_id": "w", "content": []}
    answer = {"role": "tool", "tool_call_id": "w", "content": []}
    assert to_chat_messages({"role": "assistant", "content": [result, TEXT]}) == [answer]
    assert to_chat_messages({"role": "assistant", "content": [TEXT]}) == [
        {"role": "assistant", "content": None}
    ]


def test_a_server_tool_that_another_one_has_called_counts_as_called() -> None:
    """https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool"""
    code = {**tool("s"), "type": "server_tool_use", "name": "code_execution"}
    caller = {"type": "code_execution_20260120", "tool_id": "s"}
    search = {**code, "id": "w", "name": "web_search", "caller": caller}
    content = [
        *(code, search),
        {"type": "web_search_tool_result", "tool_use_id": "w", "caller": caller, "content": []},
        {"type": "code_execution_tool_result", "tool_use_id": "s", "content": {"stdout": "2"}},
    ]
    message, *results = to_chat_messages({"role": "assistant", "content": content})
    assert [call["id"] for call in message["tool_calls"]] == ["s", "w"]
    assert "server_tool_use" not in message
    assert [result["tool_call_id"] for result in results] == ["w", "s"]


def test_context_edits_are_metadata() -> None:
    """https://docs.anthropic.com/en/docs/build-with-claude/context-editing"""
    edits = {"applied_edits": [{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 6}]}
    whole = {"role": "assistant", "content": [], "context_management": edits}
    streamed = {"type": "message_delta", "delta": {}, "context_management": edits}
    for body, content_type in (
        (json.dumps(whole).encode(), "application/json"),
        (f"data: {json.dumps(streamed)}\n\n".encode(), "text/event-stream"),
    ):
        metadata = read_reply("/v1/messages", body, content_type, True).metadata
        assert metadata["context_management"] == edits
