"""Whether a part of a stream's event has text that is output of the model."""

from core.strict_json import JsonValue

# Members whose text labels the output, or contains its sources, but is no part of it. Azure sends
# the documents that it found (`context`) before the answer:
# https://learn.microsoft.com/azure/ai-foundry/openai/references/on-your-data
_LABELS = frozenset(
    (
        *("type", "role", "id", "call_id", "index", "format", "object", "status", "phase"),
        *("channel", "signature", "provider_metadata", "provider_specific_fields"),
        *("extra_content", "context", "annotations", "citations", "search_results"),
    )
)


def has_text(value: JsonValue) -> bool:
    """Whether a JSON value contains a text that is not empty, not counting the values of
    `_LABELS`."""
    if isinstance(value, dict):
        return any(has_text(member) for name, member in value.items() if name not in _LABELS)
    if isinstance(value, list):
        return any(map(has_text, value))
    return isinstance(value, str) and value != ""
