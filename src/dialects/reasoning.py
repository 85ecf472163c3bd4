"""The reasoning in a chat message, in the form that Langfuse renders.

https://github.com/langfuse/langfuse/blob/main/packages/shared/src/utils/IORepresentation/chatML/types.ts
"""

from core.json_values import as_object, as_text, drop_empty, object_items
from core.strict_json import JsonObject, JsonValue
from dialects.media import media_placeholder

# Members of a message with its reasoning: in parts (LiteLLM, OpenRouter), as a text or an object
# with a text (Envoy), Ollama's, and GitHub Copilot's. Where several have the same text, the first
# is taken, because parts have signatures.
# https://docs.litellm.ai/docs/reasoning_content#thinking_blocks
# https://openrouter.ai/docs/guides/best-practices/reasoning-tokens
_MEMBERS = (
    *("thinking_blocks", "reasoning_details", "reasoning_content", "reasoning", "thinking"),
    "reasoning_text",
)

# Types of content parts that are reasoning (Mistral, Databricks, Anthropic, LangChain).
# https://docs.mistral.ai/capabilities/reasoning/
# https://docs.databricks.com/gcp/en/generative-ai/foundation-models/query-by-type
PART_TYPES = ("thinking", "reasoning", "redacted_thinking", "reasoning_content")

# Members of a part that may have its text, or an object or list with it, and those that may have
# what the provider has encrypted.
_TEXTS = (
    *("thinking", "text", "summary", "reasoning", "reasoning_content", "reasoningText", "content"),
)
_SEALED = ("data", "redacted_content", "redactedContent")

# The types of OpenRouter's details that are reasoning. Parts of other types are kept as they are.
_DETAIL_TYPES = ("reasoning.text", "reasoning.summary", "reasoning.encrypted")


def take_reasoning(message: JsonObject, parts: list[JsonValue]) -> JsonObject:
    """Remove the reasoning from a message, in place, and return it in two lists: `thinking`, texts
    with their signatures, and `redacted_thinking`, placeholders for what the provider encrypted.
    A list without items is left out. `parts` are the content parts that are reasoning.

    Providers may send the same reasoning in several members, some of it cut: the longest is taken.
    """
    values = (parts, *(message.get(name) for name in _MEMBERS))
    sources = [_blocks(value if isinstance(value, list) else [value]) for value in values]
    thinking = max((thinking for thinking, _ in sources), key=_text_length)
    redacted = next((redacted for _, redacted in sources if redacted), None)
    if not thinking and not redacted:
        return {}
    details = object_items(message.get("reasoning_details"))
    others = [part for part in details if part.get("type") not in (None, *_DETAIL_TYPES)]
    for name in _MEMBERS:
        message.pop(name, None)
    if others:
        message["reasoning_details"] = [*others]
    if repeated := as_object(message.pop("provider_specific_fields", None)):  # LiteLLM
        rest = {name: value for name, value in repeated.items() if name not in _MEMBERS}
        message |= drop_empty({"provider_specific_fields": drop_empty(rest)})
    lists = {"thinking": thinking, "redacted_thinking": redacted}
    return {name: blocks for name, blocks in lists.items() if blocks}


def _blocks(parts: list[JsonValue]) -> tuple[list[JsonValue], list[JsonValue]]:
    """The thinking blocks and the redacted ones of a list of parts.

    A part continues the block before it where it has the same `index`, or none: a stream sends
    blocks in pieces. A signature ends a block.
    """
    blocks: list[tuple[JsonValue, list[str], list[str]]] = []
    redacted: list[JsonValue] = []
    for part in parts:
        text, signature, sealed = _read_part(part)
        if sealed:
            data = media_placeholder("encrypted", sealed)
            redacted.append({"type": "redacted_thinking", "data": data})
        if not text and not signature:
            continue
        index = as_object(part).get("index")
        if not blocks or blocks[-1][0] != index or (text and blocks[-1][2]):
            blocks.append((index, [], []))
        blocks[-1][1].append(text)
        if signature:
            blocks[-1][2].append(signature)
    thinking: list[JsonValue] = [
        {
            "type": "thinking",
            "content": "".join(texts),
            **({"signature": "".join(signatures)} if signatures else {}),
        }
        for _, texts, signatures in blocks
    ]
    return thinking, redacted


def _text_length(thinking: list[JsonValue]) -> tuple[int, bool]:
    return sum(len(str(as_object(block)["content"])) for block in thinking), bool(thinking)


def _read_part(part: JsonValue) -> tuple[str, str, str]:
    """The text, the signature and the encrypted data of a part, each "" where it has none."""
    if isinstance(part, str):
        return part, "", ""
    if isinstance(part, list):
        read = [_read_part(item) for item in part]
        return "".join(r[0] for r in read), "".join(r[1] for r in read), "".join(r[2] for r in read)
    members = as_object(part)
    if not members:
        return "", "", ""
    text, signature, sealed = _read_part(next(filter(None, map(members.get, _TEXTS)), None))
    sealed = sealed or next(filter(None, (as_text(members.get(name)) for name in _SEALED)), "")
    return text, signature or as_text(members.get("signature")) or "", sealed
