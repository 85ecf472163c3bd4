"""Reasoning in chat messages: whichever member it is sent in, it is shown as thinking."""

import json
from typing import Any

import pytest

from tests.unit.dialects.untyped import read_reply, read_request, take_reasoning

CHAT = "/v1/chat/completions"
SEALED = "QUJD" * 20
ENCRYPTED = {"type": "reasoning.encrypted", "data": SEALED, "format": "openai-responses-v1"}
REDACTED = [{"type": "redacted_thinking", "data": "[encrypted, 60 bytes]"}]


def detail(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", **more}


def thinking(text: str, signature: str = "") -> list[dict[str, str]]:
    signed = {"signature": signature} if signature else {}
    return [{"type": "thinking", "content": text, **signed}]


def block(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, **more}


def summary(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}


TEXT = {"type": "text", "text": "Hi"}
HI = {"content": "Hi"}

# The deltas of a stream, the same as a whole message, and what is shown beside the content "Hi".
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]] = {
    "a text": (
        [{"reasoning_content": "a"}, {"reasoning_content": "b"}, HI],
        {"reasoning_content": "ab", **HI},
        {"thinking": thinking("ab")},
    ),
    "the same text twice (vLLM)": (
        [{"reasoning_content": "a", "reasoning": "a"}, {"reasoning": "b"}, HI],
        {"reasoning_content": "a", "reasoning": "ab", **HI},
        {"thinking": thinking("ab")},
    ),
    "Ollama": (
        [{"thinking": "a"}, {"thinking": "b"}, HI],
        {"thinking": "ab", **HI},
        {"thinking": thinking("ab")},
    ),
    "GitHub Copilot": (
        [{"reasoning_text": "a"}, {"reasoning_text": "b"}, HI],
        {"reasoning_text": "ab", **HI},
        {"thinking": thinking("ab")},
    ),
    "LiteLLM": (
        [
            {"reasoning_content": "a", "thinking_blocks": [block("a", signature=None)]},
            {"reasoning_content": "b", "thinking_blocks": [block("b")]},
            {"thinking_blocks": [block("", signature="S")]},
            HI,
        ],
        {"reasoning_content": "ab", "thinking_blocks": [block("ab", signature="S")], **HI},
        {"thinking": thinking("ab", "S")},
    ),
    "LiteLLM, redacted": (
        [{"thinking_blocks": [{"type": "redacted_thinking", "data": SEALED}]}, HI],
        {"thinking_blocks": [{"type": "redacted_thinking", "data": SEALED}], **HI},
        {"redacted_thinking": REDACTED},
    ),
    "an object (Bedrock)": (
        [
            {"reasoning_content": {"text": "a"}},
            {"reasoning_content": {"text": "b"}},
            {"reasoning_content": {"signature": "S"}},
            HI,
        ],
        {"reasoning_content": {"reasoningText": {"text": "ab", "signature": "S"}}, **HI},
        {"thinking": thinking("ab", "S")},
    ),
    "OpenRouter's details alone": (
        [
            {"reasoning_details": [detail("a", index=0)]},
            {"reasoning_details": [detail("b", index=0)]},
            {"reasoning_details": [detail("", signature="S", index=0)]},
            HI,
        ],
        {"reasoning_details": [detail("ab", signature="S")], **HI},
        {"thinking": thinking("ab", "S")},
    ),
    "OpenRouter's summary and encrypted reasoning of one index": (
        [
            {"reasoning_details": [{"type": "reasoning.summary", "summary": "a", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.summary", "summary": "b", "index": 0}]},
            {"reasoning_details": [{**ENCRYPTED, "index": 0}]},
            HI,
        ],
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "ab"}, ENCRYPTED], **HI},
        {"thinking": thinking("ab"), "redacted_thinking": REDACTED},
    ),
    "only encrypted": (
        [{"reasoning": None, "reasoning_details": [{**ENCRYPTED, "index": 0}]}, HI],
        {"reasoning_details": [ENCRYPTED], **HI},
        {"redacted_thinking": REDACTED},
    ),
    "two blocks": (
        [
            {"reasoning_details": [detail("a", index=0, signature="S")]},
            {"reasoning_details": [detail("b", index=1)]},
            HI,
        ],
        {"reasoning_details": [detail("a", index=0, signature="S"), detail("b", index=1)], **HI},
        {"thinking": thinking("a", "S") + thinking("b")},
    ),
    "only a signature": (
        [{"reasoning_details": [detail("", signature="S", index=0)]}, HI],
        {"reasoning_details": [detail("", signature="S")], **HI},
        {"thinking": thinking("", "S")},
    ),
    "Databricks": (
        [{"content": [summary("a")]}, {"content": [summary("b")]}, {"content": [TEXT]}],
        {"content": [summary("ab"), TEXT]},
        {"thinking": thinking("ab")},
    ),
    "Mistral": (
        [{"content": [block("a")]}, {"content": [{"type": "thinking", "thinking": [TEXT]}]}, HI],
        {"content": [{"type": "thinking", "thinking": [{"text": "a"}, TEXT]}, TEXT]},
        {"thinking": thinking("aHi")},
    ),
    "an unknown detail is kept": (
        [{"reasoning": "a", "reasoning_details": [{"type": "reasoning.image", "url": "u"}]}, HI],
        {"reasoning": "a", "reasoning_details": [{"type": "reasoning.image", "url": "u"}], **HI},
        {
            "thinking": thinking("a"),
            "reasoning_details": [{"type": "reasoning.image", "url": "u"}],
        },
    ),
    "none": ([{"reasoning": "", "reasoning_details": []}, HI], {"reasoning": None, **HI}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_reasoning_is_shown_as_thinking(name: str) -> None:
    deltas, message, shown = CASES[name]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    whole = {"choices": [{"message": {"role": "assistant", **message}}]}
    expected = {"role": "assistant", "content": "Hi", **shown}
    for body, content_type in ((stream, "text/event-stream"), (json.dumps(whole), "")):
        completion = read_reply(CHAT, body.encode(), content_type, True)
        assert completion.output == expected
        assert completion.notes == ()


def test_what_litellm_repeats_is_not_shown_twice() -> None:
    repeated = {"reasoning_content": "a", "thinking_blocks": [block("a")], "citations": [1]}
    message = {"content": "Hi", "reasoning_content": "a", "provider_specific_fields": repeated}
    body = json.dumps({"choices": [{"message": message}]}).encode()
    assert read_reply(CHAT, body, "", True).output == {
        "role": "assistant",
        "content": "Hi",
        "thinking": thinking("a"),
        "provider_specific_fields": {"citations": [1]},
    }


@pytest.mark.parametrize("value", [5, True, {"a": 1}, [1, None], [[]], {"text": {"text": []}}])
def test_odd_reasoning_does_not_affect_the_answer(value: Any) -> None:
    for name in ("reasoning", "reasoning_content", "reasoning_details", "thinking_blocks"):
        body = json.dumps({"choices": [{"message": {"content": "Hi", name: value}}]}).encode()
        completion = read_reply(CHAT, body, "", True)
        assert completion.output["content"] == "Hi"
        assert completion.notes == ()


def test_encrypted_reasoning_in_a_request_is_no_audio() -> None:
    messages = [{"role": "assistant", "content": "Hi", "reasoning_details": [ENCRYPTED]}]
    prompt = read_request(CHAT, json.dumps({"model": "m", "messages": messages}).encode())
    (shown,) = prompt.input[0]["reasoning_details"]
    assert shown == {**ENCRYPTED, "data": "[encrypted, 60 bytes]"}


@pytest.mark.timeout(20)
def test_reasoning_in_many_parts_is_read_in_linear_time() -> None:
    parts = [{"type": "reasoning.text", "text": "x"}] * 200_000
    assert take_reasoning({"reasoning_details": parts}, []) == {"thinking": thinking("x" * 200_000)}
