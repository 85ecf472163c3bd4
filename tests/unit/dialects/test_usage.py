"""Tests of usage: the token counts of each provider under the names that Langfuse prices by."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.limits import MAX_JSON_INTEGER
from dialects.usage import find_usage, merge_usage, usage_counts, usage_metadata

# For each usage, what Langfuse gets and how many of the output's tokens are thoughts.
USAGES: dict[str, tuple[Any, dict[str, int], int]] = {
    # https://platform.openai.com/docs/api-reference/chat/object#chat-object-usage
    "plain": (
        {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
        {"input": 9, "output": 12, "total": 21},
        0,
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
        0,
    ),
    "details are null": (
        {"prompt_tokens": 9, "completion_tokens": 12, "prompt_tokens_details": None},
        {"input": 9, "output": 12, "total": 21},
        0,
    ),
    "details exceed the count": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 6, "image_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 9},
        },
        {
            "input": 0,
            "input_cached_tokens": 8,
            "input_audio_tokens": 2,
            "output": 0,
            "output_audio_tokens": 5,
            "total": 15,
        },
        5,
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
                "video_tokens": 5,
                "text_tokens": 88,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 5,
                "audio_tokens": 6,
                "image_tokens": 7,
                "accepted_prediction_tokens": 8,
            },
        },
        {
            "input": 85,
            "input_cached_tokens": 1,
            "input_cache_creation": 2,
            "input_audio_tokens": 3,
            "input_image_tokens": 4,
            "input_video_tokens": 5,
            "output": 37,
            "output_audio_tokens": 6,
            "output_image_tokens": 7,
            "total": 150,
        },
        5,
    ),
    # https://platform.openai.com/docs/guides/predicted-outputs: both are billed as output
    "predictions": (
        {
            "prompt_tokens": 50,
            "completion_tokens": 40,
            "total_tokens": 90,
            "completion_tokens_details": {
                "accepted_prediction_tokens": 18,
                "rejected_prediction_tokens": 10,
            },
        },
        {"input": 50, "output": 40, "total": 90},
        0,
    ),
    # https://platform.openai.com/docs/api-reference/responses/object#responses-object-usage
    "Responses": (
        {
            "input_tokens": 328,
            "input_tokens_details": {"cached_tokens": 256, "cache_write_tokens": 30},
            "output_tokens": 52,
            "output_tokens_details": {"reasoning_tokens": 40},
            "total_tokens": 380,
        },
        {
            "input": 42,
            "input_cached_tokens": 256,
            "input_cache_creation": 30,
            "output": 52,
            "total": 380,
        },
        40,
    ),
    # https://platform.openai.com/docs/api-reference/audio/json-object
    "transcription": (
        {
            "type": "tokens",
            "input_tokens": 14,
            "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
            "output_tokens": 45,
            "total_tokens": 59,
        },
        {"input": 4, "input_audio_tokens": 10, "output": 45, "total": 59},
        0,
    ),
    "embeddings": ({"prompt_tokens": 8, "total_tokens": 8}, {"input": 8, "total": 8}, 0),
    # https://docs.voyageai.com/reference/embeddings-api
    "total alone": ({"total_tokens": 8}, {"input": 8, "total": 8}, 0),
    "no output count": (
        {"prompt_tokens": 8, "total_tokens": 20},
        {"input": 8, "output": 12, "total": 20},
        0,
    ),
    # https://api-docs.deepseek.com/api/create-chat-completion
    "DeepSeek": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 1,
            "total_tokens": 101,
            "prompt_tokens_details": {"cached_tokens": 0},
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
        {"input": 36, "input_cached_tokens": 64, "output": 1, "total": 101},
        0,
    ),
    # https://platform.kimi.ai/docs/api/chat
    "Moonshot": (
        {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101, "cached_tokens": 30},
        {"input": 70, "input_cached_tokens": 30, "output": 1, "total": 101},
        0,
    ),
    # https://docs.mistral.ai/api
    "Mistral": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 1,
            "total_tokens": 101,
            "prompt_token_details": {"cached_tokens": 30},
        },
        {"input": 70, "input_cached_tokens": 30, "output": 1, "total": 101},
        0,
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
        {"input": 26, "input_cached_tokens": 6, "output": 103, "total": 135},
        94,
    ),
    # https://github.com/mozilla-ai/any-llm/issues/1290: only total_tokens includes thinking
    "Gemini": (
        {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
        {"input": 20, "output": 603, "total": 623},
        405,
    ),
    "Gemini, with thoughts and tools": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "total_tokens": 560,
            "completion_tokens_details": {"reasoning_tokens": 480},
        },
        {"input": 60, "output": 500, "total": 560},
        480,
    ),
    # https://ai.google.dev/api/generate-content#UsageMetadata
    "Gemini's own API": (
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 40,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 300,
            "toolUsePromptTokenCount": 5,
            "totalTokenCount": 425,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 70},
                {"modality": "AUDIO", "tokenCount": 30},
            ],
        },
        {
            "input": 35,
            "input_cached_tokens": 40,
            "input_audio_tokens": 30,
            "output": 320,
            "total": 425,
        },
        300,
    ),
    # https://docs.perplexity.ai/api-reference/sonar-post
    "Perplexity": (
        {
            "prompt_tokens": 33,
            "completion_tokens": 700,
            "total_tokens": 733,
            "citation_tokens": 2001,
            "num_search_queries": 18,
            "reasoning_tokens": 73997,
        },
        {"input": 33, "output": 74697, "total": 74730},
        73997,
    ),
    "Perplexity, with few thoughts": (
        {
            "prompt_tokens": 33,
            "completion_tokens": 700,
            "total_tokens": 733,
            "citation_tokens": 2001,
            "reasoning_tokens": 50,
        },
        {"input": 33, "output": 750, "total": 783},
        50,
    ),
    # https://docs.sglang.ai/basic_usage/openai_api_completions.html
    "SGLang": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 30,
            "total_tokens": 40,
            "reasoning_tokens": 20,
        },
        {"input": 10, "output": 30, "total": 40},
        20,
    ),
    # https://www.alibabacloud.com/help/en/model-studio/context-cache
    "DashScope": (
        {
            "prompt_tokens": 2000,
            "completion_tokens": 10,
            "total_tokens": 2010,
            "prompt_tokens_details": {
                "cache_creation": {"ephemeral_5m_input_tokens": 1889},
                "cache_creation_input_tokens": 1889,
                "cache_type": "ephemeral",
                "cached_tokens": 0,
            },
        },
        {"input": 111, "input_cache_creation_5m": 1889, "output": 10, "total": 2010},
        0,
    ),
    "DashScope, without lifetimes": (
        {
            "prompt_tokens": 2000,
            "completion_tokens": 10,
            "total_tokens": 2010,
            "prompt_tokens_details": {"cache_creation_input_tokens": 1889},
        },
        {"input": 111, "input_cache_creation": 1889, "output": 10, "total": 2010},
        0,
    ),
    # https://docs.litellm.ai/docs/completion/prompt_caching
    "LiteLLM": (
        {
            "prompt_tokens": 98805,
            "completion_tokens": 5120,
            "total_tokens": 103925,
            "prompt_tokens_details": {"cached_tokens": 66360, "text_tokens": None},
            "cache_read_input_tokens": 66360,
            "cache_creation_input_tokens": 32435,
        },
        {
            "input": 10,
            "input_cached_tokens": 66360,
            "input_cache_creation": 32435,
            "output": 5120,
            "total": 103925,
        },
        0,
    ),
    "LiteLLM, with lifetimes and a compaction within the counts": (
        {
            "prompt_tokens": 130,
            "completion_tokens": 25,
            "prompt_tokens_details": {
                "cached_tokens": 20,
                "cache_creation_tokens": 10,
                "cache_creation_token_details": {
                    "ephemeral_5m_input_tokens": 7,
                    "ephemeral_1h_input_tokens": 3,
                },
            },
            "iterations": [{"type": "compaction", "input_tokens": 50, "output_tokens": 5}],
        },
        {
            "input": 100,
            "input_cached_tokens": 20,
            "input_cache_creation_5m": 7,
            "input_cache_creation_1h": 3,
            "output": 25,
            "total": 155,
        },
        0,
    ),
    "a proxy with Anthropic's cache beside the prompt": (
        {
            "prompt_tokens": 21,
            "completion_tokens": 5,
            "total_tokens": 1026,
            "cache_read_input_tokens": 1000,
        },
        {"input": 21, "input_cached_tokens": 1000, "output": 5, "total": 1026},
        0,
    ),
    "the same with a total that lacks it": (
        {
            "prompt_tokens": 21,
            "completion_tokens": 5,
            "total_tokens": 26,
            "cache_read_input_tokens": 1000,
        },
        {"input": 21, "input_cached_tokens": 1000, "output": 5, "total": 1026},
        0,
    ),
    "names of both OpenAI's APIs": (
        {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
            "input_tokens": 7,
            "output_tokens": 2,
        },
        {"input": 7, "output": 2, "total": 9},
        0,
    ),
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
    "Bedrock": (
        {
            "inputTokens": 3,
            "outputTokens": 5,
            "totalTokens": 1018,
            "cacheReadInputTokens": 1000,
            "cacheWriteInputTokens": 10,
        },
        {
            "input": 3,
            "input_cached_tokens": 1000,
            "input_cache_creation": 10,
            "output": 5,
            "total": 1018,
        },
        0,
    ),
    "cached audio": (
        {
            "prompt_tokens": 200,
            "completion_tokens": 5,
            "total_tokens": 205,
            "prompt_tokens_details": {
                "audio_tokens": 80,
                "cached_tokens": 100,
                "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 40},
            },
        },
        {
            "input": 60,
            "input_cached_tokens": 60,
            "input_cached_audio_tokens": 40,
            "input_audio_tokens": 40,
            "output": 5,
            "total": 205,
        },
        0,
    ),
    "the total is too small": (
        {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 25},
        {"input": 20, "output": 10, "total": 30},
        0,
    ),
    "one count is not an integer": (
        {"prompt_tokens": 3.5, "completion_tokens": 7},
        {"input": 0, "output": 7, "total": 7},
        0,
    ),
    "integers as floats": (
        {"prompt_tokens": 3.0, "completion_tokens": 7.0, "total_tokens": 10.0},
        {"input": 3, "output": 7, "total": 10},
        0,
    ),
    "no counts": ({"prompt_tokens": True, "completion_tokens": -1, "total_tokens": "7"}, {}, 0),
    "not finite": ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, {}, 0),
    "the sum is too large": (
        {"prompt_tokens": MAX_JSON_INTEGER - 1, "completion_tokens": 1},
        {},
        0,
    ),
    "empty": ({}, {}, 0),
    "null": (None, {}, 0),
    "a list": ([1], {}, 0),
    # https://platform.claude.com/docs/en/build-with-claude/prompt-caching
    "Anthropic": (
        {"input_tokens": 3, "output_tokens": 4},
        {"input": 3, "output": 4, "total": 7},
        0,
    ),
    "Anthropic, cache": (
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
        0,
    ),
    "Anthropic, less cache than input": (
        {"input_tokens": 50, "cache_read_input_tokens": 10, "output_tokens": 4},
        {"input": 50, "input_cached_tokens": 10, "output": 4, "total": 64},
        0,
    ),
    "Anthropic, cache alone": (
        {"cache_read_input_tokens": 10, "output_tokens": 4},
        {"input": 0, "input_cached_tokens": 10, "output": 4, "total": 14},
        0,
    ),
    "Anthropic, cache writes by time to live": (
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
        0,
    ),
    "Anthropic, cache writes, some without time to live": (
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
        0,
    ),
    "Anthropic, thinking": (
        {
            "input_tokens": 1,
            "output_tokens": 10,
            "output_tokens_details": {"thinking_tokens": 7},
        },
        {"input": 1, "output": 10, "total": 11},
        7,
    ),
    "Anthropic, compactions": (
        {
            "input_tokens": 23000,
            "output_tokens": 1000,
            "cache_read_input_tokens": 10,
            "iterations": [
                {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500},
                {
                    "type": "compaction",
                    "input_tokens": 4,
                    "output_tokens": 5,
                    "cache_read_input_tokens": 600,
                    "cache_creation": {"ephemeral_1h_input_tokens": 7},
                },
                {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
                {"type": "compaction", "input_tokens": "many"},
                None,
            ],
        },
        {
            "input": 203004,
            "input_cached_tokens": 610,
            "input_cache_creation_1h": 7,
            "output": 4505,
            "total": 208126,
        },
        0,
    ),
    # An advisor is another model; a declined attempt is not billed.
    "Anthropic, other iterations": (
        {
            "input_tokens": 2,
            "output_tokens": 491,
            "iterations": [
                {"type": "message", "model": "claude-fable-5", "input_tokens": 400},
                {"type": "advisor_message", "model": "claude-opus-4-7", "input_tokens": 159419},
                {"type": "fallback_message", "input_tokens": 2, "output_tokens": 491},
            ],
        },
        {"input": 2, "output": 491, "total": 493},
        0,
    ),
    "Anthropic, nulls": (
        {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": None},
        {"input": 3, "output": 4, "total": 7},
        0,
    ),
}


@pytest.mark.parametrize("name", USAGES)
def test_a_usage_is_converted_to_langfuses(name: str) -> None:
    usage, expected, thoughts = USAGES[name]
    assert usage_counts(usage) == expected
    assert usage_metadata(usage).get("reasoning_tokens", 0) == thoughts


ADVISOR = {
    "type": "advisor_message",
    "model": "claude-opus-4-7",
    "input_tokens": 5,
    "cache_read_input_tokens": 3,
    "cache_creation": {"ephemeral_1h_input_tokens": 2},
    "output_tokens": 0,
    "text": "content",
}
RECORDED_ADVISOR = {
    "type": "advisor_message",
    "model": "claude-opus-4-7",
    "input": 5,
    "input_cached_tokens": 3,
    "input_cache_creation_1h": 2,
}
MESSAGE = {"type": "message", "input_tokens": 1, "output_tokens": 2}
RECORDED_MESSAGE = {"type": "message", "input": 1, "output": 2}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"inference_geo": "us"}, {"inference_geo": "us"}),
        ({"inference_geo": {"a": 1}}, {}),
        ({"iterations": [MESSAGE, ADVISOR]}, {"iterations": [RECORDED_MESSAGE, RECORDED_ADVISOR]}),
        ({"iterations": [ADVISOR]}, {"iterations": [RECORDED_ADVISOR]}),
        ({"iterations": [MESSAGE]}, {}),
        ({"iterations": [MESSAGE] * 1000}, {"iterations": [RECORDED_MESSAGE] * 100}),
        ({"iterations": [1, "x", {}, {"type": 5}]}, {}),
        (
            {"citation_tokens": 2001, "num_search_queries": 18},
            {"citation_tokens": 2001, "num_search_queries": 18},
        ),
        ({"citation_tokens": 0, "num_search_queries": None}, {}),
        (None, {}),
    ],
)
def test_other_facts_of_a_usage_are_metadata(usage: Any, expected: dict[str, Any]) -> None:
    assert usage_metadata(usage) == expected


SOME, NONE = {"prompt_tokens": 1, "total_tokens": 1}, {"prompt_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"usage": SOME}, SOME),
        ({"usage": SOME, "x_groq": {"usage": {"prompt_tokens": 2}}}, SOME),
        ({"usage": NONE}, NONE),
        ({"usage": NONE, "x_groq": {"usage": SOME}}, SOME),
        ({"usage": None, "choices": [{}, {"usage": None}, {"usage": SOME}]}, SOME),
        ({"usage": {}, "usageMetadata": {"totalTokenCount": 3}}, {"totalTokenCount": 3}),
        ({"usage": {"billed_units": {"input_tokens": 5}}}, {"input_tokens": 5}),
        ({"meta": {"billed_units": {"input_tokens": 5}}}, {"input_tokens": 5}),
        ({"prompt_eval_count": 26, "eval_count": 9}, {"prompt_eval_count": 26, "eval_count": 9}),
        ({"usage": SOME, "timings": {"prompt_n": 5}}, SOME),
        (
            {"usage": None, "timings": {"cache_n": 236, "prompt_n": 1, "predicted_n": 35}},
            {"prompt_tokens": 237, "completion_tokens": 35, "cached_tokens": 236},
        ),
        ({"usage": "none", "x_groq": [], "choices": {}, "meta": 1, "timings": "fast"}, {}),
        ({}, {}),
    ],
)
def test_the_usage_is_found_where_a_provider_puts_it(
    reply: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert find_usage(reply) == expected


@pytest.mark.parametrize(
    ("whole", "piece", "expected"),
    [
        (None, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"a": 1, "b": 0}, {"a": 0, "b": None, "c": 0}, {"a": 1, "b": 0, "c": 0}),
        ({"d": {"x": 1, "y": 2}}, {"d": {"x": 5, "y": 0}}, {"d": {"x": 5, "y": 2}}),
        ({"d": None}, {"d": {"x": 5}}, {"d": {"x": 5}}),
        ({"d": {"x": 5}}, {"d": None}, {"d": {"x": 5}}),
        ({"list": [1]}, {"list": [2]}, {"list": [2]}),
        ({"list": [1]}, {"list": []}, {"list": [1]}),
        ({"a": 1}, "free", {"a": 1}),
        ("free", {"a": 1}, {"a": 1}),
        (None, None, None),
    ],
)
def test_cumulative_usages_are_merged(whole: Any, piece: Any, expected: Any) -> None:
    assert merge_usage(whole, piece) == expected


COUNT = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.text()
    | st.integers(-5, 10_000)
    | st.integers(MAX_JSON_INTEGER // 4, 2 * MAX_JSON_INTEGER)
)
NAMES = re.findall(
    r"\w+",
    """prompt_tokens input_tokens completion_tokens output_tokens total_tokens cached_tokens
    reasoning_tokens audio_tokens image_tokens video_tokens cache_write_tokens
    prompt_cache_hit_tokens cache_read_input_tokens cache_creation_input_tokens citation_tokens
    ephemeral_5m_input_tokens ephemeral_1h_input_tokens thinking_tokens inputTokens
    thoughtsTokenCount""",
)
COUNTS = st.dictionaries(st.sampled_from(NAMES), COUNT)
DETAILS = re.findall(
    r"\w+",
    """prompt_tokens_details completion_tokens_details input_tokens_details output_tokens_details
    cache_creation prompt_token_details promptTokensDetails""",
)
ENTRY = st.builds(
    lambda counts, kind: counts | {"type": kind},
    COUNTS,
    st.sampled_from(["compaction", "message", "advisor_message", None]),
)
USAGE = st.builds(
    lambda counts, details, more: counts | details | more,
    COUNTS,
    st.dictionaries(
        st.sampled_from(DETAILS),
        COUNTS
        | st.none()
        | st.lists(st.fixed_dictionaries({"modality": st.just("AUDIO"), "tokenCount": COUNT})),
    ),
    st.fixed_dictionaries({}, optional={"iterations": st.lists(ENTRY | st.none(), max_size=3)}),
)
MODEL = st.none() | st.sampled_from(
    ["gpt-4o", "gpt-4o-audio-preview", "claude-opus-5", "o1-pro", "gemini-2.5-flash"]
)


@given(USAGE, MODEL)
def test_the_counts_of_any_usage_add_up_to_the_total(
    stated: dict[str, Any], model: str | None
) -> None:
    counts = usage_counts(stated, model)
    assert all(type(count) is int for count in counts.values())
    assert all(0 <= count < MAX_JSON_INTEGER for count in counts.values())
    parts = sum(count for name, count in counts.items() if name != "total")
    assert parts == counts.get("total", 0)
    thoughts = usage_metadata(stated).get("reasoning_tokens", 0)
    output = sum(count for name, count in counts.items() if name.startswith("output"))
    assert not counts or (isinstance(thoughts, int) and thoughts <= output)
