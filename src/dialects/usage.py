"""Token counts and costs under the names that Langfuse uses.

The counts do not overlap and add up to `total`: `input` does not include `input_cached_tokens`, for
example.
https://langfuse.com/docs/observability/features/token-and-cost-tracking
"""

from typing import Any

from core.limits import MAX_JSON_INTEGER
from dialects.json_values import as_object


def openai_usage(usage: Any) -> dict[str, int]:
    """Convert the `usage` of a reply in one of OpenAI's formats to Langfuse's: {name: tokens}.

    Reads that of chat, completions and embeddings (`prompt_tokens`) and of Responses
    (`input_tokens`), and the additions of other providers. There a count includes its details, such
    as cached or reasoning tokens; in the result they are subtracted from it. Empty where the usage
    has no count.

    https://platform.openai.com/docs/api-reference/chat/object#chat-object-usage
    https://platform.openai.com/docs/api-reference/responses/object#responses-object-usage
    """
    usage = as_object(usage)
    input_tokens = _first_count(usage, "prompt_tokens", "input_tokens")
    output_tokens = _first_count(usage, "completion_tokens", "output_tokens")
    total = _first_count(usage, "total_tokens")
    if input_tokens is None and output_tokens is None and total is None:
        return {}

    input_details = as_object(
        _first_present(usage, "prompt_tokens_details", "input_tokens_details")
    )
    input_details = input_details or as_object(
        usage.get("prompt_token_details")
    )  # Mistral sends this and the plural
    output_details = as_object(
        _first_present(usage, "completion_tokens_details", "output_tokens_details")
    )
    reasoning = (
        _first_count(output_details, "reasoning_tokens")
        or _first_count(usage, "reasoning_tokens")
        or 0
    )
    cached = _first_count(input_details, "cached_tokens")
    if cached is None:  # DeepSeek, Moonshot, Mistral
        cached = _first_count(
            usage, "prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens"
        )

    unexplained = (total or 0) - (input_tokens or 0) - (output_tokens or 0)
    if input_tokens is None:
        input_tokens, unexplained = max(unexplained, 0), 0
    if unexplained > 0 and output_tokens is not None and reasoning in (0, unexplained):
        # Gemini and xAI include the reasoning in the total, but not in the completion count.
        output_tokens, reasoning = output_tokens + unexplained, unexplained

    return _with_total(
        _split_count(
            "input",
            input_tokens,
            input_cached_tokens=cached,
            input_cache_creation=_first_count(
                input_details, "cache_write_tokens", "cache_creation_tokens"
            ),
            input_audio_tokens=_first_count(input_details, "audio_tokens"),
            input_image_tokens=_first_count(input_details, "image_tokens"),
        )
        | _split_count(
            "output",
            output_tokens,
            output_reasoning_tokens=reasoning,
            output_audio_tokens=_first_count(output_details, "audio_tokens"),
            output_image_tokens=_first_count(output_details, "image_tokens"),
        )
    )


def anthropic_usage(usage: Any) -> dict[str, int]:
    """Convert the `usage` of an Anthropic message to Langfuse's: {name: tokens}. Empty where it has
    no count.

    Its `input_tokens` does not include tokens that were read from the cache or written to it.

    https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#tracking-cache-performance
    """
    usage = as_object(usage)
    input_tokens = _first_count(usage, "input_tokens")
    output_tokens = _first_count(usage, "output_tokens")
    cache_read = _first_count(usage, "cache_read_input_tokens")
    if input_tokens is None and output_tokens is None and cache_read is None:
        return {}
    by_lifetime = as_object(usage.get("cache_creation"))
    written_5m = _first_count(by_lifetime, "ephemeral_5m_input_tokens") or 0
    written_1h = _first_count(by_lifetime, "ephemeral_1h_input_tokens") or 0
    cache_written = _first_count(usage, "cache_creation_input_tokens") or 0
    details = {
        "input_cached_tokens": cache_read,
        "input_cache_creation": max(cache_written - written_5m - written_1h, 0),
        "input_cache_creation_5m": written_5m,
        "input_cache_creation_1h": written_1h,
    }
    thinking = _first_count(as_object(usage.get("output_tokens_details")), "thinking_tokens")
    return _with_total(
        {"input": input_tokens or 0}
        | {name: count for name, count in details.items() if count}
        | _split_count("output", output_tokens, output_reasoning_tokens=thinking)
    )


def stated_cost(usage: Any) -> dict[str, float]:
    """The cost that the provider states in the `usage` of a reply: `{"total": US dollars}`. Empty
    where it states none.

    https://openrouter.ai/docs/use-cases/usage-accounting (a number),
    https://docs.perplexity.ai/api-reference/chat-completions-post (an object with a total).
    """
    stated = as_object(usage).get("cost")
    total = as_object(stated).get("total_cost") if isinstance(stated, dict) else stated
    if isinstance(total, int | float) and not isinstance(total, bool) and 0 <= total < 1e9:
        return {"total": float(total)}
    return {}


def _split_count(name: str, count: int | None, **details: int | None) -> dict[str, int]:
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


def _with_total(parts: dict[str, int]) -> dict[str, int]:
    """The counts, and their sum as `total`."""
    return parts | {"total": sum(parts.values())}


def _first_count(counts: dict[str, Any], *names: str) -> int | None:
    """The first value of the named members that is an integer from 0 to below `MAX_JSON_INTEGER`,
    None if there is none."""
    for name in names:
        count = counts.get(name)
        if type(count) is int and 0 <= count < MAX_JSON_INTEGER:
            return count
    return None


def _first_present(members: dict[str, Any], *names: str) -> Any:
    """The first value of the named members that is not empty, None if there is none."""
    return next((members[name] for name in names if members.get(name)), None)
