"""Tests of usage, cost and model in replies: streamed and whole replies give the same."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from dialects.fields import Completion
from dialects.registry import read_reply

CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
RESPONSES, EMBEDDINGS, OTHER = "/v1/responses", "/v1/embeddings", "/v1/other"


def read_whole(path: str, reply: Any) -> Completion:
    return read_reply(path, json.dumps(reply).encode(), "application/json", complete=True)


def read_stream(path: str, *events: Any) -> Completion:
    lines = [event if event == "[DONE]" else json.dumps(event) for event in events]
    body = "".join(f"data: {line}\n\n" for line in lines)
    return read_reply(path, body.encode(), "text/event-stream", complete=True)


def chat_chunk(**members: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    return {"model": "m", "choices": [choice], **members}


def message_start(**usage: Any) -> dict[str, Any]:
    message = {"role": "assistant", "model": "claude-fable-5", "content": [], "usage": usage}
    return {"type": "message_start", "message": message}


def message_delta(**usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


def block(index: int, content_block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content_block}


SOME = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
NONE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
COUNTED = {"input": 4, "output": 2, "total": 6}
TEXT = {"type": "text", "text": "a"}
FALLBACK = {
    "type": "fallback",
    "from": {"model": "claude-fable-5"},
    "to": {"model": "claude-opus-4-8"},
}
ATTEMPTS = [
    {"type": "message", "model": "claude-fable-5", "input_tokens": 4, "output_tokens": 1},
    {"type": "fallback_message", "model": "claude-opus-4-8", "input_tokens": 4, "output_tokens": 2},
]
# The same in the metadata.
RECORDED_ATTEMPTS = [
    {"type": "message", "model": "claude-fable-5", "input": 4, "output": 1},
    {"type": "fallback_message", "model": "claude-opus-4-8", "input": 4, "output": 2},
]


@dataclass
class Case:
    path: str
    whole: dict[str, Any] | None
    stream: list[Any] | None
    usage: dict[str, int] = field(default_factory=lambda: COUNTED)
    cost: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    model: str | None = "m"


def chat_reply(**members: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "message": {"content": "a"}}], **members}


CASES: dict[str, Case] = {
    "chat": Case(
        CHAT, chat_reply(usage=SOME), [chat_chunk(), {"model": "m", "choices": [], "usage": SOME}]
    ),
    "the usage is in x_groq": Case(
        CHAT,
        chat_reply(x_groq={"id": "r", "usage": SOME}),
        [chat_chunk(x_groq={"id": "r"}), chat_chunk(x_groq={"id": "r", "usage": SOME})],
    ),
    "the usage is in a choice": Case(
        CHAT,
        chat_reply(choices=[{"index": 0}, {"index": 1, "message": {}, "usage": SOME}]),
        [
            chat_chunk(),
            chat_chunk(choices=[{"index": 1, "delta": {}, "usage": SOME}]),
        ],
    ),
    "zeros first": Case(CHAT, None, [chat_chunk(usage=NONE), chat_chunk(usage=SOME)]),
    "zeros last": Case(CHAT, None, [chat_chunk(usage=SOME), chat_chunk(usage=NONE)]),
    "an empty usage last": Case(CHAT, None, [chat_chunk(usage=SOME), chat_chunk(usage={})]),
    "each count in a chunk of its own": Case(
        CHAT,
        None,
        [chat_chunk(usage={"prompt_tokens": 4}), chat_chunk(usage={"completion_tokens": 2})],
    ),
    "cumulative": Case(
        CHAT,
        None,
        [
            chat_chunk(usage={**SOME, "completion_tokens": 1, "total_tokens": 5}),
            chat_chunk(usage=SOME),
            chat_chunk(usage=SOME),
        ],
    ),
    "after the end marker": Case(
        CHAT, None, [chat_chunk(), "[DONE]", {"choices": [], "usage": SOME}]
    ),
    "llama.cpp without usage": Case(
        CHAT,
        chat_reply(timings={"cache_n": 1, "prompt_n": 3, "predicted_n": 2, "predicted_ms": 0.5}),
        [chat_chunk(), chat_chunk(timings={"cache_n": 1, "prompt_n": 3, "predicted_n": 2})],
        usage={"input": 3, "input_cached_tokens": 1, "output": 2, "total": 6},
    ),
    "the caller's own key at OpenRouter": Case(
        CHAT,
        chat_reply(usage={**SOME, "cost": 0, "is_byok": True, "cost_details": {}}),
        [
            chat_chunk(usage=NONE | {"cost": 0}),
            chat_chunk(usage={**SOME, "cost": 0, "is_byok": True}),
        ],
    ),
    "xAI": Case(
        CHAT,
        chat_reply(
            usage={
                **SOME,
                "total_tokens": 56,
                "completion_tokens_details": {"reasoning_tokens": 50},
                "cost_in_usd_ticks": 37_756_000,
            }
        ),
        None,
        usage={"input": 4, "output": 52, "total": 56},
        cost={"total": 0.0037756},
        metadata={"reasoning_tokens": 50},
    ),
    "completions": Case(
        COMPLETIONS,
        {
            "model": "gpt-4o-audio-preview",
            "choices": [{"text": "a"}],
            "usage": {**SOME, "cost": 0.5},
        },
        [
            {"model": "gpt-4o-audio-preview", "choices": [{"text": "a"}], "usage": SOME},
            {"choices": [], "usage": {**NONE, "cost": 0.5}},
        ],
        usage={
            "input": 0,
            "input_text_tokens": 4,
            "output": 0,
            "output_text_tokens": 2,
            "total": 6,
        },
        cost={"total": 0.5},
        model="gpt-4o-audio-preview",
    ),
    "messages": Case(
        MESSAGES,
        {
            "model": "claude-fable-5",
            "content": [TEXT],
            "usage": {
                "input_tokens": 4,
                "cache_read_input_tokens": 9,
                "output_tokens": 2,
                "output_tokens_details": {"thinking_tokens": 1},
                "inference_geo": "us",
                "cost": 0.25,
            },
        },
        [
            message_start(
                input_tokens=4, cache_read_input_tokens=9, output_tokens=1, inference_geo="us"
            ),
            block(0, TEXT),
            message_delta(
                input_tokens=0,
                cache_read_input_tokens=None,
                output_tokens=2,
                output_tokens_details={"thinking_tokens": 1},
                cost=0.25,
            ),
        ],
        usage={"input": 4, "input_cached_tokens": 9, "output": 2, "total": 15},
        cost={"total": 0.25},
        metadata={"reasoning_tokens": 1, "inference_geo": "us"},
        model="claude-fable-5",
    ),
    "messages, counts only in the last events": Case(
        MESSAGES,
        None,
        [
            message_start(input_tokens=0, output_tokens=0),
            block(0, TEXT),
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "usage": {"input_tokens": 4}},
            },
            {"type": "message_stop", "usage": {"output_tokens": 2}},
        ],
        model="claude-fable-5",
    ),
    "messages, zeros after the counts": Case(
        MESSAGES,
        None,
        [
            message_start(input_tokens=4, output_tokens=1),
            block(0, TEXT),
            message_delta(input_tokens=4, output_tokens=2),
            {"type": "message_stop", "usage": {"input_tokens": 0, "output_tokens": 0}},
        ],
        model="claude-fable-5",
    ),
    "messages, with a usage of OpenAI's form": Case(
        MESSAGES, {"model": "claude-x", "content": [TEXT], "usage": SOME}, None, model="claude-x"
    ),
    "a fallback within the stream": Case(
        MESSAGES,
        {
            "model": "claude-opus-4-8",
            "content": [TEXT, FALLBACK, TEXT],
            "usage": {"input_tokens": 4, "output_tokens": 2, "iterations": ATTEMPTS},
        },
        [
            message_start(input_tokens=4, output_tokens=1),
            block(0, TEXT),
            block(1, FALLBACK),
            block(2, TEXT),
            message_delta(input_tokens=4, output_tokens=2, iterations=ATTEMPTS),
        ],
        metadata={"iterations": RECORDED_ATTEMPTS},
        model="claude-opus-4-8",
    ),
    "a fallback in a stream that is cut": Case(
        MESSAGES,
        None,
        [message_start(input_tokens=4, output_tokens=2), block(0, TEXT), block(1, FALLBACK)],
        model="claude-opus-4-8",
    ),
    "a fallback that only the iterations show": Case(
        MESSAGES,
        {
            "model": "claude-fable-5",
            "content": [TEXT],
            "usage": {"input_tokens": 4, "output_tokens": 2, "iterations": ATTEMPTS},
        },
        None,
        metadata={"iterations": RECORDED_ATTEMPTS},
        model="claude-opus-4-8",
    ),
    "odd fallbacks": Case(
        MESSAGES,
        {
            "model": "claude-fable-5",
            "content": [{**FALLBACK, "to": None}, {**FALLBACK, "to": {"model": 5}}],
            "usage": {"input_tokens": 4, "output_tokens": 2},
        },
        None,
        model="claude-fable-5",
    ),
    "Responses": Case(
        RESPONSES,
        {
            "model": "m",
            "status": "completed",
            "output": [],
            "usage": {
                "input_tokens": 4,
                "output_tokens": 2,
                "output_tokens_details": {"reasoning_tokens": 1},
                "cost": 0.5,
            },
        },
        [
            {"type": "response.created", "response": {"model": "m", "usage": None}},
            {
                "type": "response.completed",
                "response": {
                    "model": "m",
                    "status": "completed",
                    "output": [],
                    "usage": {
                        "input_tokens": 4,
                        "output_tokens": 2,
                        "output_tokens_details": {"reasoning_tokens": 1},
                        "cost": 0.5,
                    },
                },
            },
        ],
        cost={"total": 0.5},
        metadata={"reasoning_tokens": 1},
    ),
    "Responses, the usage beside the response and before its end": Case(
        RESPONSES,
        None,
        [
            {"type": "response.in_progress", "response": {"model": "m"}, "usage": SOME},
            {"type": "response.completed", "response": {"status": "completed", "usage": None}},
        ],
    ),
    "embeddings": Case(
        EMBEDDINGS,
        {"model": "m", "data": [], "usage": {"total_tokens": 4, "cost": 0.1}},
        None,
        usage={"input": 4, "total": 4},
        cost={"total": 0.1},
    ),
    "embeddings of Ollama": Case(
        EMBEDDINGS,
        {"model": "m", "data": [], "prompt_eval_count": 4},
        None,
        usage={"input": 4, "total": 4},
    ),
    "another endpoint": Case(
        OTHER,
        {"model": "m", "usage": {**SOME, "reasoning_tokens": 1, "cost": 0.5}},
        [
            {"model": "m", "usage": {**SOME, "reasoning_tokens": 1, "cost": 0.5}},
            {"usage": NONE},
            "[DONE]",
        ],
        cost={"total": 0.5},
        metadata={"reasoning_tokens": 1},
    ),
    "Ollama's own API": Case(
        OTHER,
        {"model": "m", "done": True, "prompt_eval_count": 4, "eval_count": 2},
        [{"model": "m", "done": False}, {"done": True, "prompt_eval_count": 4, "eval_count": 2}],
    ),
    "Gemini's own API": Case(
        OTHER,
        {
            "model": "m",
            "usageMetadata": {"promptTokenCount": 4, "thoughtsTokenCount": 2, "totalTokenCount": 6},
        },
        None,
        metadata={"reasoning_tokens": 2},
    ),
    "Cohere's own API": Case(
        OTHER,
        {
            "model": "m",
            "usage": {
                "billed_units": {"input_tokens": 4, "output_tokens": 2},
                "tokens": {"input_tokens": 70, "output_tokens": 2},
            },
        },
        None,
    ),
    "Anthropic's usage at another path": Case(
        OTHER,
        {
            "model": "m",
            "usage": {"input_tokens": 4, "cache_creation_input_tokens": 3, "output_tokens": 2},
        },
        None,
        usage={"input": 4, "input_cache_creation": 3, "output": 2, "total": 9},
    ),
}
FORMS = [
    (name, form) for name, case in CASES.items() for form in ("whole", "stream") if vars(case)[form]
]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_the_usage_of_a_reply_is_read(name: str, form: str) -> None:
    case = CASES[name]
    if form == "whole":
        completion = read_whole(case.path, case.whole)
    else:
        completion = read_stream(case.path, *(case.stream or []))
    assert completion.usage == case.usage
    assert completion.cost == case.cost
    assert completion.model == case.model
    facts = {"reasoning_tokens", "inference_geo", "iterations"}
    assert {n: v for n, v in completion.metadata.items() if n in facts} == case.metadata
    assert not any(note.startswith(("usage", "cost", "metadata")) for note in completion.notes)


HOSTILE = [None, True, "x", -1, 1.5, float("nan"), 10**30, [], [None, "x"], {}, {"a": [{}]}]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, MESSAGES, RESPONSES, EMBEDDINGS, OTHER])
@pytest.mark.parametrize("value", HOSTILE, ids=str)
def test_odd_values_in_a_usage_affect_nothing_else(path: str, value: Any) -> None:
    """Every member of the usage has the value once, and the usage itself."""
    names = ["iterations", "prompt_tokens_details", "input_tokens_details", "cache_creation"]
    names += ["cost", "cost_details", "is_byok", "cost_in_usd_ticks", "reasoning_tokens"]
    names += ["inference_geo", "promptTokensDetails", "total_tokens", "completion_tokens_details"]
    for name in names:
        completion = read_whole(path, {"model": "m", "usage": {**SOME, name: value}})
        assert completion.usage.keys() >= {"input", "output", "total"}
        assert completion.usage["total"] == 6 or name in ("total_tokens", "reasoning_tokens")
        assert not any(note.startswith(("usage", "cost", "metadata")) for note in completion.notes)
    for name in ("usage", "x_groq", "choices", "timings", "usageMetadata", "meta", "content"):
        completion = read_whole(path, {"model": "m", name: value})
        assert completion.usage == {}
        assert not any(note.startswith(("usage", "cost", "metadata")) for note in completion.notes)
