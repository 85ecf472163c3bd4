"""Under which names Langfuse's price table has prices, for the models that it knows.

Langfuse multiplies each count with the price of exactly its name; a name without a price costs
nothing. So a detail for which a model has no price is counted in with a name that has one.

Facts from Langfuse's table of 2026-08-21:
https://github.com/langfuse/langfuse/blob/2b0e9d23a10f8ef9ed194c6c7084e56950766caa/worker/src/constants/default-model-prices.json
"""

import re
from collections.abc import Mapping

# For a detail without a price, the next less specific one; for any other, the whole side.
_LESS_SPECIFIC = {
    "input_cache_creation_5m": "input_cache_creation",
    "input_cache_creation_1h": "input_cache_creation",
    "input_cached_audio_tokens": "input_cached_tokens",
}

_CACHED = {"input_cached_tokens": "input_cached_tokens"}
_WRITTEN = {"input_cache_creation": "input_cache_creation"}
_LIFETIMES = {name: name for name in ("input_cache_creation_5m", "input_cache_creation_1h")}
_AUDIO_INPUT = {"input_audio_tokens": "input_audio_tokens"}
_AUDIO = {
    "input": "input_text_tokens",
    **_AUDIO_INPUT,
    "output": "output_text_tokens",
    "output_audio_tokens": "output_audio_tokens",
}

# For the beginning of a model's name, the names that have a price: {our name: Langfuse's}. The
# first that matches applies. `input` and `output` have one unless another is given. None: the table
# has no row, or none that is known.
_ROWS: tuple[tuple[str, Mapping[str, str] | None], ...] = (
    (r"gpt-4o-audio-preview", _AUDIO),
    (
        r"gpt-4o-realtime-preview",
        {
            **_AUDIO,
            "input_cached_tokens": "input_cached_text_tokens",
            "input_cached_audio_tokens": "input_cached_audio_tokens",
        },
    ),
    (
        r"gemini-live-2\.5-flash-native-audio",
        {
            "input": "input_text",
            "input_audio_tokens": "input_audio",
            "input_image_tokens": "input_image",
            "output": "output_text",
            "output_audio_tokens": "output_audio",
        },
    ),
    (r"(?:gpt|gemini)-[^/]*(?:audio|image|realtime|live|tts|transcribe)", None),
    (r"claude-(?:instant|[12]\b|3-(?:opus|haiku))", {}),
    (r"claude-", {**_CACHED, **_WRITTEN, **_LIFETIMES}),
    (r"(?:o1|o3|gpt-5(?:\.\d)?)-pro|gpt-3|gpt-4(?![.o])|gpt-4o-2024-05-13|chatgpt-", {}),
    (r"gpt-5\.[6-9]|gpt-[6-9]", {**_CACHED, **_WRITTEN}),
    (r"gpt-4|gpt-5|o[134]\b", _CACHED),
    (r"gemini-(?:2\.5-flash|3\.1-flash-lite)", {**_CACHED, **_AUDIO_INPUT}),
    (r"gemini-(?:pro|1\.|2\.0)", {}),
    (r"gemini-", _CACHED),
)

# A longer name is none of the table's.
_MAX_MODEL_CHARS = 100

# The name begins after the provider's, as in "openai/gpt-4o" and "us.anthropic.claude-opus-4-6-v1".
_MODEL = re.compile(rf"(?i)(?:^|[/.])(?:{'|'.join(f'({pattern})' for pattern, _ in _ROWS)})")


def to_price_keys(counts: dict[str, int], model: str | None) -> dict[str, int]:
    """Rename the counts of a usage to names that have a price for this model, and add up those that
    come to have the same name.

    Unchanged where the model is None or not one of Langfuse's table: then a deployment may have
    defined its own prices, for any of our names. Where text has another name than `input` and
    `output`, these are 0: Langfuse 3 would take them from the sums that are sent for version 2.
    """
    found = _MODEL.search(model[:_MAX_MODEL_CHARS]) if model else None
    prices = _ROWS[found.lastindex - 1][1] if found and found.lastindex else None
    if prices is None:
        return counts
    renamed: dict[str, int] = {}
    for name, count in counts.items():
        side = name.partition("_")[0]
        while name not in prices and name != side:
            name = _LESS_SPECIFIC.get(name, side)
        name = prices.get(name, name)
        if name != side:
            renamed.setdefault(side, 0)
        renamed[name] = renamed.get(name, 0) + count
    return renamed
