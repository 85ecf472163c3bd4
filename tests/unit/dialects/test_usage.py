"""Tests of usage: the token counts of each provider under the names that Langfuse prices by."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.usage import anthropic_usage, openai_usage, stated_cost

OPENAI: dict[str, tuple[Any, dict[str, int]]] = {
    # https://platform.openai.com/docs/api-reference/chat/object#chat-object-usage
    "plain": (
        {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
        {"input": 9, "output": 12, "total": 21},
    ),
    "details are zero": (
        {
            "prompt_tokens": 9,
            "completion_tokens": 12,
            "total_tokens": 21,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        {"input": 9, "output": 12, "total": 21},
    ),
    "details are null": (
        {"prompt_tokens": 9, "completion_tokens": 12, "prompt_tokens_details": None},
        {"input": 9, "output": 12, "total": 21},
    ),
    "details exceed the count": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 6, "image_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 7},
        },
        {
            "input": 0,
            "input_cached_tokens": 8,
            "input_audio_tokens": 2,
            "output": 0,
            "output_reasoning_tokens": 5,
            "total": 15,
        },
    ),
    "every detail": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {
                "cached_tokens": 1,
                "cache_write_tokens": 2,
                "audio_tokens": 3,
                "image_tokens": 4,
                "text_tokens": 93,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 5,
                "audio_tokens": 6,
                "image_tokens": 7,
                "accepted_prediction_tokens": 8,
            },
        },
        {
            "input": 90,
            "input_cached_tokens": 1,
            "input_cache_creation": 2,
            "input_audio_tokens": 3,
            "input_image_tokens": 4,
            "output": 32,
            "output_reasoning_tokens": 5,
            "output_audio_tokens": 6,
            "output_image_tokens": 7,
            "total": 150,
        },
    ),
    # https://platform.openai.com/docs/api-reference/responses/object#responses-object-usage
    "Responses": (
        {
            "input_tokens": 328,
            "input_tokens_details": {"cached_tokens": 256},
            "output_tokens": 52,
            "output_tokens_details": {"reasoning_tokens": 40},
            "total_tokens": 380,
        },
        {
            "input": 72,
            "input_cached_tokens": 256,
            "output": 12,
            "output_reasoning_tokens": 40,
            "total": 380,
        },
    ),
    "embeddings": ({"prompt_tokens": 8, "total_tokens": 8}, {"input": 8, "total": 8}),
    "total alone": ({"total_tokens": 8}, {"input": 8, "total": 8}),
    # https://api-docs.deepseek.com/api/create-chat-completion
    "DeepSeek, older": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 1,
            "total_tokens": 101,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
        {"input": 36, "input_cached_tokens": 64, "output": 1, "total": 101},
    ),
    # https://platform.moonshot.ai/docs/api/chat
    "Moonshot": (
        {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101, "cached_tokens": 30},
        {"input": 70, "input_cached_tokens": 30, "output": 1, "total": 101},
    ),
    # https://docs.x.ai/docs/guides/reasoning: completion_tokens does not include reasoning
    "xAI": (
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "prompt_tokens_details": {"text_tokens": 32, "cached_tokens": 6},
            "completion_tokens_details": {"reasoning_tokens": 94},
        },
        {
            "input": 26,
            "input_cached_tokens": 6,
            "output": 9,
            "output_reasoning_tokens": 94,
            "total": 135,
        },
    ),
    # https://github.com/mozilla-ai/any-llm/issues/1290: only total_tokens includes thinking
    "Gemini": (
        {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
        {"input": 20, "output": 198, "output_reasoning_tokens": 405, "total": 623},
    ),
    "the total is too small": (
        {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 25},
        {"input": 20, "output": 10, "total": 30},
    ),
    "no counts": (
        {"prompt_tokens": True, "completion_tokens": -1, "total_tokens": "7"},
        {},
    ),
    "one count is not an integer": (
        {"prompt_tokens": 3.5, "completion_tokens": 7},
        {"input": 0, "output": 7, "total": 7},
    ),
    "empty": ({}, {}),
    "null": (None, {}),
    "a list": ([1], {}),
}

ANTHROPIC: dict[str, tuple[Any, dict[str, int]]] = {
    # https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
    "plain": (
        {"input_tokens": 3, "output_tokens": 4},
        {"input": 3, "output": 4, "total": 7},
    ),
    "cache": (
        {
            "input_tokens": 50,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 200,
            "output_tokens": 4,
        },
        {
            "input": 50,
            "input_cached_tokens": 1000,
            "input_cache_creation": 200,
            "output": 4,
            "total": 1254,
        },
    ),
    "cache writes by time to live": (
        {
            "input_tokens": 50,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 556,
            "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 4,
        },
        {
            "input": 50,
            "input_cache_creation_5m": 456,
            "input_cache_creation_1h": 100,
            "output": 4,
            "total": 610,
        },
    ),
    "cache writes, some without time to live": (
        {
            "input_tokens": 1,
            "cache_creation_input_tokens": 10,
            "cache_creation": {"ephemeral_5m_input_tokens": 4},
            "output_tokens": 1,
        },
        {
            "input": 1,
            "input_cache_creation": 6,
            "input_cache_creation_5m": 4,
            "output": 1,
            "total": 12,
        },
    ),
    "thinking": (
        {
            "input_tokens": 1,
            "output_tokens": 10,
            "output_tokens_details": {"thinking_tokens": 7},
        },
        {"input": 1, "output": 3, "output_reasoning_tokens": 7, "total": 11},
    ),
    "nulls": (
        {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": None},
        {"input": 3, "output": 4, "total": 7},
    ),
    "null": (None, {}),
}


@pytest.mark.parametrize("name", OPENAI)
def test_openai_usage(name: str) -> None:
    usage, expected = OPENAI[name]
    assert openai_usage(usage) == expected


@pytest.mark.parametrize("name", ANTHROPIC)
def test_anthropic_usage(name: str) -> None:
    usage, expected = ANTHROPIC[name]
    assert anthropic_usage(usage) == expected


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (0.0005, {"total": 0.0005}),
        (0, {"total": 0.0}),
        ({"total_cost": 0.008, "request_cost": 0.005}, {"total": 0.008}),
        (None, {}),
        (True, {}),
        ("0.1", {}),
        (-1, {}),
        (float("inf"), {}),
        (float("nan"), {}),
        (10**400, {}),
        ({}, {}),
    ],
)
def test_the_stated_cost_is_read(stated: Any, expected: dict[str, float]) -> None:
    assert stated_cost({"cost": stated}) == expected
    assert stated_cost(None) == {}


COUNT = st.none() | st.booleans() | st.floats() | st.text() | st.integers(-5, 10_000)
NAMES = re.findall(
    r"\w+",
    """prompt_tokens input_tokens completion_tokens output_tokens total_tokens cached_tokens
    reasoning_tokens audio_tokens image_tokens cache_write_tokens prompt_cache_hit_tokens
    cache_read_input_tokens cache_creation_input_tokens ephemeral_5m_input_tokens
    ephemeral_1h_input_tokens thinking_tokens cost""",
)
COUNTS = st.dictionaries(st.sampled_from(NAMES), COUNT)
DETAILS = re.findall(
    r"\w+",
    """prompt_tokens_details completion_tokens_details input_tokens_details output_tokens_details
    cache_creation prompt_token_details""",
)
USAGE = st.builds(
    lambda counts, details: counts | details,
    COUNTS,
    st.dictionaries(st.sampled_from(DETAILS), COUNTS | st.none() | st.just([])),
)


@given(USAGE)
def test_the_counts_of_any_usage_add_up_to_the_total(stated: dict[str, Any]) -> None:
    for counts in (openai_usage(stated), anthropic_usage(stated)):
        assert all(type(count) is int and count >= 0 for count in counts.values())
        parts = sum(count for name, count in counts.items() if name != "total")
        assert parts == counts.get("total", 0)
    assert all(type(value) is float for value in stated_cost(stated).values())
