"""Tests with price lists: what Langfuse calculates for our usage is what the provider bills.

`prices.json` has the prices of both, with their sources.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from dialects.price_keys import to_price_keys
from dialects.registry import read_reply

PRICES = json.loads((Path(__file__).parent / "prices.json").read_text())
MODELS = {f"{model['provider']} {model['model']}": model for model in PRICES["models"]}

Bill = dict[str, int]
Usage = dict[str, Any]

# What one call is billed for, in tokens, as far as the model has a price for it. Most of the output
# are thoughts, or it is spoken.
CALL: Bill = {
    "input": 1200,
    "cached": 800,
    "written": 160,
    "written_1h": 90,
    "audio": 400,
    "output": 1000,
    "spoken": 70,
}
THOUGHTS = 900


def chat_usage(bill: Bill, thoughts: int) -> Usage:
    """https://platform.openai.com/docs/api-reference/chat/object#chat-object-usage"""
    prompt = sum(bill.get(name, 0) for name in ("input", "cached", "written", "audio"))
    completion = bill["output"] + bill.get("spoken", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": bill.get("cached", 0),
            "cache_write_tokens": bill.get("written", 0),
            "audio_tokens": bill.get("audio", 0),
        },
        "completion_tokens_details": {
            "reasoning_tokens": thoughts,
            "audio_tokens": bill.get("spoken", 0),
        },
    }


def responses_usage(bill: Bill, thoughts: int) -> Usage:
    """https://platform.openai.com/docs/api-reference/responses/object#responses-object-usage"""
    usage = chat_usage(bill, thoughts)
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": thoughts},
        "total_tokens": usage["total_tokens"],
    }


def gemini_usage(bill: Bill, thoughts: int) -> Usage:
    """Only the total contains thoughts. https://ai.google.dev/gemini-api/docs/openai"""
    usage = chat_usage(bill, 0)
    return {**usage, "completion_tokens": usage["completion_tokens"] - thoughts}


def messages_usage(bill: Bill, thoughts: int) -> Usage:
    """https://platform.claude.com/docs/en/build-with-claude/prompt-caching"""
    written, written_1h = bill["written"], bill.get("written_1h", 0)
    return {
        "input_tokens": bill["input"],
        "cache_read_input_tokens": bill["cached"],
        "cache_creation_input_tokens": written + written_1h,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written,
            "ephemeral_1h_input_tokens": written_1h,
        },
        "output_tokens": bill["output"],
        "output_tokens_details": {"thinking_tokens": thoughts},
    }


def embeddings_usage(bill: Bill, thoughts: int) -> Usage:
    """https://platform.openai.com/docs/api-reference/embeddings/create"""
    return {"prompt_tokens": bill["input"], "total_tokens": bill["input"]}


WIRES = {
    "chat": ("/v1/chat/completions", chat_usage),
    "gemini": ("/v1/chat/completions", gemini_usage),
    "responses": ("/v1/responses", responses_usage),
    "messages": ("/v1/messages", messages_usage),
    "embeddings": ("/v1/embeddings", embeddings_usage),
}


def dollars(counts: dict[str, int], prices: dict[str, float]) -> float:
    return sum(counts[name] * price for name, price in prices.items() if name in counts) / 1e6


def check(
    model: dict[str, Any], billed: dict[str, float], row: dict[str, float], times: int
) -> Any:
    """Check the cost of a call of this size; return its usage."""
    bill = {name: times * count for name, count in CALL.items() if name in billed}
    path, usage_of = WIRES[model["wire"]]
    thoughts = 0 if "spoken" in bill else times * THOUGHTS
    reply = {"model": model["model"], "usage": usage_of(bill, thoughts)}
    completion = read_reply(path, json.dumps(reply).encode(), "application/json", True)
    assert completion.cost == {}
    assert completion.metadata.get("reasoning_tokens", 0) == (thoughts if "output" in bill else 0)
    # https://github.com/langfuse/langfuse/blob/main/worker/src/services/IngestionService/index.ts
    assert dollars(completion.usage, row) == pytest.approx(dollars(bill, billed), rel=1e-12)
    assert completion.usage["total"] == sum(bill.values())
    return completion.usage


@pytest.mark.parametrize("name", MODELS)
def test_langfuse_calculates_what_the_provider_bills(name: str) -> None:
    model = MODELS[name]
    check(model, model["billed"], model["langfuse"], times=1)


@pytest.mark.parametrize("name", [name for name in MODELS if "large" in MODELS[name]])
def test_a_large_input_has_the_price_of_large_inputs(name: str) -> None:
    """Langfuse adds up all counts with "input" in their name for that."""
    large = MODELS[name]["large"]
    usage = check(MODELS[name], large["billed"], large["langfuse"], times=200)
    assert sum(count for name, count in usage.items() if "input" in name) > large["above"]
    usage = check(MODELS[name], MODELS[name]["billed"], MODELS[name]["langfuse"], times=90)
    assert sum(count for name, count in usage.items() if "input" in name) < large["above"]


def test_the_price_lists_cover_twenty_models_of_five_providers() -> None:
    assert len(MODELS) >= 20
    assert len({model["provider"] for model in MODELS.values()}) >= 5


# A model for each set of names in Langfuse's table that matters to us, with those names.
CACHE = "input_cached_tokens"
WRITES = "input_cache_creation input_cache_creation_5m input_cache_creation_1h"
PRICED = {
    "gpt-4o": CACHE,
    "openai/gpt-4.1-mini": CACHE,
    "gpt-4.5-preview": CACHE,
    "gpt-5.4-nano": CACHE,
    "gpt-5.3-codex": CACHE,
    "gpt-5-chat-latest": CACHE,
    "o1-mini": CACHE,
    "o4-mini-2025-04-16": CACHE,
    "gpt-5.6-luna": f"{CACHE} input_cache_creation",
    "gpt-4o-2024-05-13": "",
    "gpt-4-turbo": "",
    "gpt-35-turbo": "",
    "chatgpt-4o-latest": "",
    "o1-pro": "",
    "o3-pro-2025-06-10": "",
    "gpt-5.5-pro": "",
    "claude-opus-4-8": f"{CACHE} {WRITES}",
    "anthropic/claude-sonnet-4": f"{CACHE} {WRITES}",
    "us.anthropic.claude-haiku-4-5-20251001-v1:0": f"{CACHE} {WRITES}",
    "claude-3-5-haiku-20241022": f"{CACHE} {WRITES}",
    "claude-3-haiku-20240307": "",
    "claude-3-opus@20240229": "",
    "claude-2.1": "",
    "claude-instant-1.2": "",
    "gemini-2.5-flash": f"{CACHE} input_audio_tokens",
    "google/gemini-2.5-flash-lite": f"{CACHE} input_audio_tokens",
    "models/gemini-3.1-flash-lite-preview": f"{CACHE} input_audio_tokens",
    "gemini-2.5-pro": CACHE,
    "gemini-3-flash-preview": CACHE,
    "gemini-2.0-flash": "",
    "gemini-1.5-pro-latest": "",
    "gemini-pro": "",
}
PARTS = f"""input {CACHE} input_cached_audio_tokens {WRITES} input_audio_tokens input_image_tokens
input_video_tokens output output_audio_tokens output_image_tokens"""
EVERY_PART: dict[str, int] = {str(name): 1 for name in PARTS.split()}


@pytest.mark.parametrize("model", PRICED)
def test_only_names_with_a_price_are_used(model: str) -> None:
    counts = to_price_keys(EVERY_PART, model)
    assert counts.keys() == {"input", "output", *PRICED[model].split()}
    assert sum(counts.values()) == len(EVERY_PART)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            "gpt-4o-audio-preview",
            {
                "input": 0,
                "input_text_tokens": 8,
                "input_audio_tokens": 1,
                "output": 0,
                "output_text_tokens": 2,
                "output_audio_tokens": 1,
            },
        ),
        (
            "openai/gpt-4o-realtime-preview-2024-10-01",
            {
                "input": 0,
                "input_text_tokens": 6,
                "input_cached_text_tokens": 1,
                "input_cached_audio_tokens": 1,
                "input_audio_tokens": 1,
                "output": 0,
                "output_text_tokens": 2,
                "output_audio_tokens": 1,
            },
        ),
        (
            "gemini-live-2.5-flash-native-audio",
            {
                "input": 0,
                "input_text": 7,
                "input_audio": 1,
                "input_image": 1,
                "output": 0,
                "output_text": 2,
                "output_audio": 1,
            },
        ),
    ],
)
def test_text_has_another_name_for_models_with_audio(model: str, expected: dict[str, int]) -> None:
    """`input` and `output` are 0 for Langfuse 3, which merges these with our inclusive sums."""
    counts = to_price_keys(EVERY_PART, model)
    counts = {name: count for name, count in counts.items() if count or name in expected}
    assert sum(counts.values()) == len(EVERY_PART)
    assert counts == expected


@pytest.mark.parametrize(
    "model",
    [
        *(None, "", "m", "qwen3-omni", "grok-4", "gpt-oss-120b", "my-gpt-4o", "sonnet"),
        *("gpt-audio", "gpt-realtime", "gpt-4o-mini-tts", "gpt-image-1", "gemini-2.5-flash-image"),
        "x" * 1_000_000,
    ],
)
def test_a_model_without_prices_in_langfuse_keeps_all_parts(model: str | None) -> None:
    assert to_price_keys(EVERY_PART, model) == EVERY_PART
