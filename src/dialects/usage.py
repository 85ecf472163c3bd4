"""Token counts under the names that Langfuse uses.

The counts do not overlap and add up to `total`: `input` does not include `input_cached_tokens`, for
example. Thoughts are part of `output`, since every provider bills them as output.
https://langfuse.com/docs/observability/features/token-and-cost-tracking
"""

from typing import NamedTuple, overload

from core.json_values import as_object, as_text, drop_empty, object_items
from core.limits import MAX_ITERATIONS, MAX_JSON_INTEGER
from core.strict_json import JsonObject, JsonValue
from dialects.price_keys import to_price_keys

# Names of the counts: of OpenAI, Anthropic, Gemini, Bedrock's Converse and Ollama, each in its own
# API. https://ai.google.dev/api/generate-content#UsageMetadata
# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
# https://docs.ollama.com/api/usage
_INPUT = ("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens", "prompt_eval_count")
_OUTPUT = (
    "completion_tokens",
    "output_tokens",
    "candidatesTokenCount",
    "outputTokens",
    "eval_count",
)
_TOTAL = ("total_tokens", "totalTokenCount", "totalTokens")

# Names of counts that stand in the reply itself: Ollama's, and that of MiniMax's embeddings.
_COUNTS_IN_REPLY = ("prompt_eval_count", "eval_count", "total_tokens")

# Members with the details of a count. Mistral sends `prompt_token_details` and the plural, OpenAI's
# transcriptions `input_token_details`.
_INPUT_DETAILS = (
    "prompt_tokens_details",
    "input_tokens_details",
    "prompt_token_details",
    "input_token_details",
    "promptTokensDetails",
)
_OUTPUT_DETAILS = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
    "candidatesTokensDetails",
)

# Names of tokens read from the cache, in the usage itself: of Anthropic and LiteLLM, DeepSeek,
# Moonshot and Together, Mistral, Gemini, Bedrock.
_CACHE_READ = (
    "cache_read_input_tokens",
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "num_cached_tokens",
    "cachedContentTokenCount",
    "cacheReadInputTokens",
)

# Names of tokens written to the cache: OpenAI and OpenRouter, LiteLLM, DashScope and Anthropic,
# Bedrock.
_CACHE_WRITE = (
    "cache_write_tokens",
    "cache_creation_tokens",
    "cache_creation_input_tokens",
    "cacheWriteInputTokens",
)

# Members with the tokens written to the cache by lifetime: Anthropic and DashScope, LiteLLM.
_CACHE_LIFETIMES = ("cache_creation", "cache_creation_token_details")

# Names of tokens of the cache that Anthropic and Bedrock count beside the input.
_COUNTED_BESIDE_INPUT = (
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cacheReadInputTokens",
    "cacheWriteInputTokens",
)

_THOUGHTS = ("reasoning_tokens", "thinking_tokens")


class _Tokens(NamedTuple):
    """The counts of a usage, each with its details, which are a part of it. `input` and `output`
    are None where they are not known. `reasoning` are the thoughts within `output`."""

    input: int | None
    output: int | None
    reasoning: int
    input_details: dict[str, int | None]
    output_details: dict[str, int | None]


def find_usage(reply: JsonObject) -> JsonObject:
    """The usage in a whole reply: the first that has a count. Empty where there is none.

    Usually that is the member `usage`. Other places: `x_groq` in Groq's streams, a choice in
    Moonshot's, `usageMetadata` in Gemini's own API, `billed_units` in Cohere's, the reply itself in
    Ollama's and MiniMax's embeddings, and `timings` in llama.cpp's replies without usage.

    https://console.groq.com/docs/api-reference#chat-create, https://platform.kimi.ai/docs/api/chat,
    https://docs.cohere.com/reference/chat, https://github.com/ggml-org/llama.cpp/tree/master/tools/server
    """
    usage, timings = as_object(reply.get("usage")), as_object(reply.get("timings"))
    names = _INPUT + _OUTPUT + _TOTAL
    if _count(names, usage):
        return usage
    cached = _count(("cache_n",), timings)
    places: list[JsonValue] = [
        as_object(reply.get("x_groq")).get("usage"),
        *(choice.get("usage") for choice in object_items(reply.get("choices"))),
        reply.get("usageMetadata"),
        usage.get("billed_units"),
        as_object(reply.get("meta")).get("billed_units"),
        {name: reply[name] for name in _COUNTS_IN_REPLY if name in reply},
        {
            "prompt_tokens": (_count(("prompt_n",), timings) or 0) + (cached or 0),
            "completion_tokens": _count(("predicted_n",), timings),
            "cached_tokens": cached,
        },
    ]
    return next((place for place in map(as_object, places) if _count(names, place)), usage)


@overload
def merge_usage(whole: JsonValue, piece: JsonObject) -> JsonObject: ...
@overload
def merge_usage(whole: JsonValue, piece: JsonValue) -> JsonValue: ...
def merge_usage(whole: JsonValue, piece: JsonValue) -> JsonValue:
    """Merge a usage with a later one of the same stream, whose counts are cumulative.

    A count, text or list of `piece` replaces that of `whole` unless it is empty or 0: providers
    repeat a count as null or 0, in the first chunks or in the last. Their objects are merged the
    same way. A usage that is not an object is ignored.
    """
    if not isinstance(piece, dict):
        return whole
    if not isinstance(whole, dict):
        return piece
    merged = whole | piece
    for name, value in piece.items():
        if not value:
            merged[name] = value if whole.get(name) is None else whole[name]
        elif isinstance(value, dict):
            merged[name] = merge_usage(whole.get(name), value)
    return merged


def usage_counts(usage: JsonValue, model: JsonValue = None) -> dict[str, int]:
    """Convert the `usage` of a reply to Langfuse's: {name: tokens}. Empty where it has no count.

    Reads OpenAI's usage (chat, completions, Responses, embeddings), Anthropic's, and the additions
    of other providers. `model` is the name in the reply: the result has only names for which
    Langfuse's table has a price, as far as the model is known (`price_keys.py`). A compaction,
    which Anthropic bills beside the counts of the message, is included.

    https://platform.openai.com/docs/api-reference/chat/object#chat-object-usage
    https://platform.openai.com/docs/api-reference/responses/object#responses-object-usage
    https://platform.claude.com/docs/en/build-with-claude/prompt-caching
    https://platform.claude.com/docs/en/build-with-claude/compaction-threshold
    """
    usage = as_object(usage)
    parts = _parts(_read_tokens(usage))
    if "prompt_tokens" not in usage:  # LiteLLM has already added it to its counts
        for iteration in _iterations(usage):
            if iteration.get("type") == "compaction":
                for name, count in _parts(_read_tokens(iteration)).items():
                    parts[name] = parts.get(name, 0) + count
    total = sum(parts.values())
    if not parts or total >= MAX_JSON_INTEGER:
        return {}
    return to_price_keys(parts, as_text(model)) | {"total": total}


def usage_metadata(usage: JsonValue) -> JsonObject:
    """Facts in the `usage` of a reply that are not counts of Langfuse's, each left out where it is
    empty or 0:

    - `reasoning_tokens`: how many tokens of the output were thoughts.
    - `inference_geo`: where Anthropic ran the model, which changes the price.
    - `iterations`: Anthropic's counts for each sampling, with its type and model, under Langfuse's
      names. Only where there is more than the message: an advisor, which is another model, a
      compaction, a declined attempt.
    - `citation_tokens`, `num_search_queries`: Perplexity's, which it bills beside the output.

    https://platform.claude.com/docs/en/build-with-claude/data-residency
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool
    https://docs.perplexity.ai/api-reference/sonar-post
    """
    usage = as_object(usage)
    iterations = [
        drop_empty({name: as_text(iteration.get(name)) for name in ("type", "model")})
        | {name: count for name, count in _parts(_read_tokens(iteration)).items() if count}
        for iteration in _iterations(usage)
    ]
    if [iteration.get("type") for iteration in iterations] == ["message"]:
        iterations = []
    return drop_empty(
        {
            "reasoning_tokens": _read_tokens(usage).reasoning or None,
            "inference_geo": as_text(usage.get("inference_geo")),
            "iterations": [iteration for iteration in iterations if iteration],
            **{
                name: _count((name,), usage) or None
                for name in ("citation_tokens", "num_search_queries")
            },
        }
    )


def _read_tokens(usage: JsonObject) -> _Tokens:
    """Read the counts of a usage. What the provider counts beside the input or the output, and not
    as a part of it, is added to it.

    - Anthropic counts the cache beside the input. LiteLLM and Bedrock send Anthropic's names, with
      the cache within the input or beside it. The total shows which it is.
    - xAI and Gemini count thoughts beside the output, but within the total. Gemini may send their
      number in no other place. https://docs.x.ai/docs/guides/reasoning
    - Perplexity counts them beside the output and the total, in the usage itself.
    - What else a total contains is input, such as the results of Gemini's tools.
    """
    input_details = _details(usage, _INPUT_DETAILS)
    output_details = _details(usage, _OUTPUT_DETAILS)
    input_tokens, output_tokens = _count(_INPUT, usage), _count(_OUTPUT, usage)
    total = _count(_TOTAL, usage)
    cache = _cache_counts(usage, input_details)
    cache_tokens = sum(cache.values())
    if input_tokens is None:
        if output_tokens is None and total is None and not cache_tokens:
            return _Tokens(None, None, 0, {}, {})
        input_tokens = cache_tokens if total is None else max(total - (output_tokens or 0), 0)
    elif _is_cache_beside(usage, cache_tokens, input_tokens, output_tokens or 0, total):
        input_tokens += cache_tokens

    unexplained = max((total or 0) - input_tokens - (output_tokens or 0), 0)
    if output_tokens is None and unexplained:
        output_tokens, unexplained = unexplained, 0
    reasoning, beside = _count(_THOUGHTS, output_details), None
    if not reasoning:
        reasoning = beside = _count((*_THOUGHTS, "thoughtsTokenCount"), usage) or 0
    if output_tokens is not None:
        if unexplained and not reasoning:
            reasoning = unexplained
        is_beside = beside and (beside > output_tokens or "citation_tokens" in usage)
        if reasoning and (unexplained >= reasoning or is_beside):
            output_tokens += reasoning
            unexplained = max(unexplained - reasoning, 0)

    audio = _count(("audio_tokens",), input_details) or 0
    cached_audio = _count(("audio_tokens",), input_details.get("cached_tokens_details")) or 0
    cached_audio = min(cached_audio, cache["input_cached_tokens"], audio)
    cache["input_cached_tokens"] -= cached_audio
    return _Tokens(
        input=input_tokens + unexplained,
        output=output_tokens,
        reasoning=min(reasoning, output_tokens or 0),
        input_details={
            **cache,
            "input_cached_audio_tokens": cached_audio,
            "input_audio_tokens": audio - cached_audio,
            "input_image_tokens": _count(("image_tokens",), input_details),
            "input_video_tokens": _count(("video_tokens",), input_details),
        },
        output_details={
            "output_audio_tokens": _count(("audio_tokens",), output_details),
            "output_image_tokens": _count(("image_tokens",), output_details),
        },
    )


def _cache_counts(usage: JsonObject, input_details: JsonObject) -> dict[str, int]:
    """The tokens that were read from the cache, and those that were written to it, by lifetime
    where the provider sends it."""
    places = (input_details, usage)
    lifetimes = [place.get(name) for place in places for name in _CACHE_LIFETIMES]
    written_5m = _count(("ephemeral_5m_input_tokens",), *lifetimes) or 0
    written_1h = _count(("ephemeral_1h_input_tokens",), *lifetimes) or 0
    written = _count(_CACHE_WRITE, *places) or 0
    return {
        "input_cached_tokens": _count(_CACHE_READ, *places) or 0,
        "input_cache_creation": max(written - written_5m - written_1h, 0),
        "input_cache_creation_5m": written_5m,
        "input_cache_creation_1h": written_1h,
    }


def _is_cache_beside(
    usage: JsonObject,
    cache_tokens: int,
    input_tokens: int,
    output_tokens: int,
    total: int | None,
) -> bool:
    """Whether the tokens of the cache are counted beside the input, not within it. The total
    decides, and without one that fits, the names: Anthropic's counts are beside the input."""
    if not cache_tokens:
        return False
    has_anthropic_names = any(name in usage for name in _COUNTED_BESIDE_INPUT)
    is_more_than_input = has_anthropic_names and cache_tokens > input_tokens
    counted = input_tokens + output_tokens
    if total in (counted, counted + cache_tokens) and not is_more_than_input:
        return total != counted
    return is_more_than_input or (has_anthropic_names and "prompt_tokens" not in usage)


def _iterations(usage: JsonObject) -> list[JsonObject]:
    return object_items(usage.get("iterations"))[:MAX_ITERATIONS]


def _parts(tokens: _Tokens) -> dict[str, int]:
    """The counts as parts that do not overlap: {Langfuse's name: tokens}."""
    return _split_count("input", tokens.input, tokens.input_details) | _split_count(
        "output", tokens.output, tokens.output_details
    )


def _split_count(name: str, count: int | None, details: dict[str, int | None]) -> dict[str, int]:
    """Split `count` into its details, by their names, and the rest, under `name`. Details that are
    0 or None are left out. Empty where `count` is None.

    Details that exceed the count, such as cached audio that is counted as both, are reduced so that
    all parts add up to the count.
    """
    if count is None:
        return {}
    parts = {}
    for detail, part in details.items():
        part = min(part or 0, count)
        if part:
            parts[detail] = part
            count -= part
    return {name: count} | parts


def _details(usage: JsonObject, names: tuple[str, ...]) -> JsonObject:
    """The details of a count, from all members that have some. Gemini's list of `{"modality":
    "AUDIO", "tokenCount": 5}` becomes `{"audio_tokens": 5}`."""
    details: JsonValue = None
    for name in names:
        value = usage.get(name)
        if isinstance(value, list):
            value = {
                f"{item.get('modality')}_tokens".lower(): item.get("tokenCount")
                for item in object_items(value)
            }
        details = merge_usage(details, value)
    return as_object(details)


def _count(names: tuple[str, ...], *places: JsonValue) -> int | None:
    """The first positive count under one of the names, in the first of the objects that has one;
    else 0 if one is 0, None if there is no count.

    A count is an integer below `MAX_JSON_INTEGER`, also as a float without a fraction.
    """
    found = None
    for place in places:
        if not isinstance(place, dict):
            continue
        for name in names:
            count = place.get(name)
            if count is None:
                continue
            if type(count) is float and count.is_integer():
                count = int(count)
            if type(count) is int and 0 <= count < MAX_JSON_INTEGER:
                if count:
                    return count
                found = 0
    return found
