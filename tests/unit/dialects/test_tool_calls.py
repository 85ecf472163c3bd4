"""Tool calls of streamed chats: which deltas belong to one call, and the name of each."""

import json
from typing import Any

import pytest

from tests.unit.dialects.untyped import read_reply

CHAT = "/v1/chat/completions"


def call(name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    members = {"name": name, "arguments": arguments}
    return {**more, "function": {n: v for n, v in members.items() if v is not None}}


def read_calls(*deltas: Any) -> list[Any]:
    """The tool calls of a stream, given `tool_calls` of each delta: (name, arguments)."""
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": calls}}]} for calls in deltas]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    output = read_reply(CHAT, body.encode(), "text/event-stream", True).output
    return [(c["function"].get("name"), c["function"]["arguments"]) for c in output["tool_calls"]]


A, B = ("a", '{"x":1}'), ("b", '{"y":2}')

SEVERAL: dict[str, list[Any]] = {
    "no ids or indices (Gemini)": [[call(*A)], [call(*B)]],
    "no ids or indices, one delta": [[call(*A), call(*B)]],
    "empty ids, index 0": [[call(*A, id="", index=0)], [call(*B, id="", index=0)]],
    "ids, index 0": [[call(*A, id="1", index=0)], [call(*B, id="2", index=0)]],
    "ids, index 0, one delta": [[call(*A, id="1", index=0), call(*B, id="2", index=0)]],
    "null as index": [[call(*A, index=None)], [call(*B, index=None)]],
    "indices only": [[call(*A, index=0)], [call(*B, index=1)]],
    "indices that are texts": [
        [call("a", '{"x"', index="0")],
        [call(None, ":1}", index="0")],
        [call(*B, index="1")],
    ],
    "pieces, ids only": [
        [call("a", '{"x"', id="1")],
        [call(None, ":1}")],
        [call("b", '{"y"', id="2")],
        [call(None, ":2}")],
    ],
    "pieces, ids in each": [
        [call("a", '{"x"', id="1")],
        [call(None, ":1}", id="1")],
        [call(*B, id="2")],
    ],
    "pieces, alternating": [
        [call("a", '{"x"', id="1", index=0)],
        [call("b", '{"y"', id="2", index=1)],
        [call(None, ":1}", index=0)],
        [call(None, ":2}", index=1)],
    ],
    "arguments as objects": [[call("a", {"x": 1})], [call("b", {"y": 2})]],
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_calls_are_kept_apart(name: str) -> None:
    assert read_calls(*SEVERAL[name]) == [A, B]


@pytest.mark.parametrize("index", [{}, {"index": 0}])
def test_calls_of_the_same_tool_are_kept_apart(index: dict[str, int]) -> None:
    other = ("a", '{"x":2}')
    assert read_calls([call(*A, **index)], [call(*other, **index)]) == [A, other]
    assert read_calls([call("a", "{}", **index)], [call("a", "{}", **index)]) == [("a", "{}")] * 2


ONE: dict[str, list[Any]] = {
    "whole": [[call(*A, id="1", index=0)]],
    "name in pieces": [[call("loo", "", index=0)], [call("kup", index=0)]],
    "name in pieces, with ids": [
        [call("loo", "", id="1", index=0)],
        [call("kup", id="1", index=0)],
    ],
    "name in pieces, no index": [[call("loo", "")], [call("kup")]],
    "name in every delta": [[call("lookup", "", index=0)], [call("lookup", index=0)]],
    "name that gets longer": [[call("loo", "", index=0)], [call("lookup", index=0)]],
    "name after the arguments": [[call(None, '{"x":1}', index=0)], [call("lookup", "", index=0)]],
    "name repeated after an inner object": [
        [call("lookup", '{"x":', index=0)],
        [call("lookup", "{}", index=0)],
        [call("lookup", "}", index=0)],
    ],
    "another id in each delta": [
        [call("lookup", '{"x"', id="1", index=0)],
        [call(None, ":1", id="2", index=0)],
        [call("", "}", id="3", index=0)],
    ],
    "pieces of a single object in place of the list": [
        call("lookup", '{"x"', index=0),
        call(None, ":1}", index=0),
    ],
    "a single object in place of the list": [call("lookup", '{"x":1}', index=0)],
}


@pytest.mark.parametrize("name", ONE)
def test_one_call_in_pieces_is_joined(name: str) -> None:
    ((tool, arguments),) = read_calls(*ONE[name])
    assert tool == ("a" if name == "whole" else "lookup")
    assert arguments in ("", '{"x":1}', '{"x":{}}')


def test_the_arguments_of_a_second_call_do_not_stay_with_the_first_index() -> None:
    calls = read_calls([call("a", "", id="1", index=0)], [call(*B, id="2", index=0)])
    assert calls == [("a", ""), B]


def test_a_name_is_continued_up_to_a_limit() -> None:
    """Otherwise, each piece would copy all pieces before it."""
    ((tool, _),) = read_calls(*([call(f"{n:04}", index=0)] for n in range(5000)))
    assert 1000 <= len(tool) < 1100


@pytest.mark.parametrize(
    "calls",
    [
        {"id": "1", "type": "function", "function": {"name": "a", "arguments": "{}"}},
        {"id": "1", "name": "a", "arguments": {}},  # Workers AI
        [{"id": "1", "name": "a", "arguments": {}}],
        [{"id": "1", "type": "function", "index": 3, "function": {"name": "a", "arguments": {}}}],
    ],
)
def test_a_whole_call_of_another_form_becomes_that_of_openai(calls: Any) -> None:
    whole = {"choices": [{"message": {"role": "assistant", "tool_calls": calls}}]}
    output = read_reply(CHAT, json.dumps(whole).encode(), "application/json", True).output
    assert output["tool_calls"] == [
        {"id": "1", "type": "function", "function": {"name": "a", "arguments": "{}"}}
    ]


def test_odd_calls_are_kept() -> None:
    odd = [None, 1, "x", {"function": 3}, {"index": [], "function": {"name": {}}}]
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": odd}}]}
    body = f"data: {json.dumps(chunk)}\n\n" * 2
    completion = read_reply(CHAT, body.encode(), "text/event-stream", True)
    assert len(completion.output["tool_calls"]) >= len(odd)
    assert completion.notes == ()
