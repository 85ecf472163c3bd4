"""Cuts values to the sizes that Langfuse accepts. The results are valid JSON, and a note in them
shows the cut."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from core import strict_json
from core.limits import (
    MAX_METADATA_BYTES,
    MAX_METADATA_NAME_CHARS,
    MAX_METADATA_NAMES,
    MAX_METADATA_VALUE_BYTES,
    MAX_PARAMETER_CHARS,
    MAX_TRUNCATION_BACKTRACK_CHARS,
    MIN_TRUNCATED_TEXT_CHARS,
)
from core.observation import Observation
from core.strict_json import JsonObject, JsonValue, to_json
from dialects.media import make_presentable

_Value = TypeVar("_Value")


class Redact(Protocol):
    """Returns a JSON value without its secrets."""

    def __call__(self, value: _Value, /) -> _Value: ...


def truncate_value(value: JsonValue, limit: int, redact: Callable[[str], str] = str) -> JsonValue:
    """The JSON value, cut so that its JSON text has at most `limit` bytes of UTF-8. Unchanged where
    it already has.

    Long texts in the value are cut first, and each then ends with a note of its length. Where that
    is not enough, the result is a string: the beginning of the value's JSON text. `redact` is
    applied to the kept part of each cut text, to remove secrets from it.
    """
    text = to_json(value)
    if fits_bytes(text, limit):
        return value
    longest = limit // 2
    while longest >= MIN_TRUNCATED_TEXT_CHARS:
        shorter = _truncate_texts(value, longest, redact)
        if fits_bytes(to_json(shorter), limit):
            return shorter
        longest //= 4
    size = limit // 2
    while not fits_bytes(to_json(beginning := truncate_text(text, size, redact)), limit) and size:
        size //= 2
    return beginning


def truncate_text(text: str, length: int, redact: Callable[[str], str] = str) -> str:
    """The text if it has at most `length` characters, else its beginning and a note of the cut.

    The beginning has at most `length` characters, and ends before a blank if one is near; the note
    is added to it. `redact` is applied to the beginning, to remove secrets from it.
    """
    if len(text) <= length:
        return text
    blank = max(
        text.rfind(" ", length - MAX_TRUNCATION_BACKTRACK_CHARS, length),
        text.rfind("\n", length - MAX_TRUNCATION_BACKTRACK_CHARS, length),
    )
    kept = blank if blank > length // 2 else length
    return f"{redact(text[:kept])}… [cut: {kept} of {len(text)} characters]"


def _truncate_texts(value: JsonValue, length: int, redact: Callable[[str], str]) -> JsonValue:
    if isinstance(value, str):
        return truncate_text(value, length, redact)
    if isinstance(value, list):
        return [_truncate_texts(item, length, redact) for item in value]
    if isinstance(value, dict):
        return {
            truncate_text(name, length, redact): _truncate_texts(item, length, redact)
            for name, item in value.items()
        }
    return value


def truncate_json(text: str, limit: int) -> str:
    """Cut the value of a JSON text, and return its new JSON text, of at most `limit` bytes of
    UTF-8. Long texts in the value are cut, as `truncate_value` does."""
    try:
        value = strict_json.parse(text)
    except ValueError:  # too deep for the parser: a dialect may nest a value deeper
        value = text
    return to_json(truncate_value(value, limit))


def fits_bytes(text: str, limit: int) -> bool:
    """Whether a text has at most `limit` bytes of UTF-8."""
    # A character has 1 to 4 bytes, so that only few texts must be encoded to count them.
    if 4 * len(text) <= limit:
        return True
    return len(text) <= limit and len(text.encode("utf-8", "replace")) <= limit


def bound_metadata(metadata: Mapping[str, JsonValue], redact: Redact) -> JsonObject:
    """Metadata, {name: JSON value}, without secrets and cut to the limits of `core.limits` for
    names, for each value and for the whole.

    `redact` returns a text or a JSON value without its secrets. With more than `MAX_METADATA_NAMES`
    names, and where cutting names and values is not enough, the result is `{"cut": text}` with the
    beginning of the metadata's JSON text.
    """
    if len(metadata) > MAX_METADATA_NAMES:
        return {"cut": truncate_text(to_json(dict(metadata)), MAX_METADATA_BYTES // 2, redact)}
    cleaned: JsonObject = redact(make_presentable(dict(metadata)))
    longest_name = max(map(len, cleaned), default=0)
    # Nearly always the whole is no larger than a single value may be.
    if longest_name <= MAX_METADATA_NAME_CHARS and fits_bytes(
        to_json(cleaned), MAX_METADATA_VALUE_BYTES
    ):
        return cleaned
    bounded = {
        truncate_text(name, MAX_METADATA_NAME_CHARS): truncate_value(
            value, MAX_METADATA_VALUE_BYTES, redact
        )
        for name, value in cleaned.items()
    }
    result = truncate_value(bounded, MAX_METADATA_BYTES, redact)
    return result if isinstance(result, dict) else {"cut": result}


def bound_parameter(value: JsonValue) -> JsonValue:
    """A model parameter, unchanged where its text has at most `MAX_PARAMETER_CHARS`. Else the
    beginning of this text with a note of the cut. The text of a value that is not a string is its
    JSON text."""
    text = value if isinstance(value, str) else to_json(value)
    return value if len(text) <= MAX_PARAMETER_CHARS else truncate_text(text, MAX_PARAMETER_CHARS)


def truncate_observation(observation: Observation, limit: int) -> Observation:
    """The observation with its input and output cut to at most `limit` bytes of UTF-8 each, and a
    note of this in its metadata. Returns `observation` itself where neither is longer."""
    texts = {"input": observation.input, "output": observation.output}
    too_long = {name: text for name, text in texts.items() if text and not fits_bytes(text, limit)}
    if not too_long:
        return observation
    notes = observation.metadata.get("notes", [])
    notes = notes if isinstance(notes, list) else [notes]
    note = f"content: cut to {limit} bytes for its delivery"
    metadata = {**observation.metadata, "notes": [*notes, note]}
    trace = observation.trace
    return replace(
        observation,
        **{name: truncate_json(text, limit) for name, text in too_long.items()},
        metadata=metadata,
        trace=trace if trace.is_existing else replace(trace, metadata=metadata),
    )
