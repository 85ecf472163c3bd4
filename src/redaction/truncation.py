"""Values made to fit into what Langfuse takes, visibly and as valid JSON."""

from collections.abc import Callable, Mapping
from typing import Any

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
from core.strict_json import to_json
from dialects.media import make_presentable


def truncate_value(value: Any, limit: int, clean: Callable[[str], str] = str) -> Any:
    """The value, if its JSON text has at most `limit` bytes in UTF-8; else as much as fits.

    Long texts in it are cut first, with a note of their length at the end. Where there are so many
    that this does not help, the beginning of the JSON text takes the value's place. `clean` gets
    what is left of a text before the note is added.
    """
    text = to_json(value)
    if fits_bytes(text, limit):
        return value
    longest = limit // 2
    while longest >= MIN_TRUNCATED_TEXT_CHARS:
        shorter = _truncate_texts(value, longest, clean)
        if fits_bytes(to_json(shorter), limit):
            return shorter
        longest //= 4
    size = limit // 2
    while not fits_bytes(to_json(beginning := truncate_text(text, size, clean)), limit) and size:
        size //= 2
    return beginning


def truncate_text(text: str, length: int, clean: Callable[[str], str] = str) -> str:
    """A text of at most `length` characters as it is; of any other the beginning, with a note."""
    if len(text) <= length:
        return text
    blank = max(
        text.rfind(" ", length - MAX_TRUNCATION_BACKTRACK_CHARS, length),
        text.rfind("\n", length - MAX_TRUNCATION_BACKTRACK_CHARS, length),
    )
    kept = blank if blank > length // 2 else length
    return f"{clean(text[:kept])}… [cut: {kept} of {len(text)} characters]"


def _truncate_texts(value: Any, length: int, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return truncate_text(value, length, clean)
    if isinstance(value, list):
        return [_truncate_texts(item, length, clean) for item in value]
    if isinstance(value, dict):
        return {
            truncate_text(name, length, clean): _truncate_texts(item, length, clean)
            for name, item in value.items()
        }
    return value


def truncate_json(text: str, limit: int) -> str:
    """A JSON text of at most `limit` bytes, of what `truncate_value` makes of its value."""
    try:
        value = strict_json.parse(text)
    except ValueError:  # a dialect may have put what was nested deep a little deeper
        value = text
    return to_json(truncate_value(value, limit))


def fits_bytes(text: str, limit: int) -> bool:
    """Whether a text has at most `limit` bytes in UTF-8."""
    # Nearly every text is so short, or so long, that its bytes need not be counted.
    if 4 * len(text) <= limit:
        return True
    return len(text) <= limit and len(text.encode("utf-8", "replace")) <= limit


def bound_metadata(metadata: Mapping[str, Any], clean: Callable[[Any], Any]) -> dict[str, Any]:
    """Metadata without secrets, of which no value, and not all together, is too large."""
    if len(metadata) > MAX_METADATA_NAMES:
        return {"cut": truncate_text(to_json(dict(metadata)), MAX_METADATA_BYTES // 2, clean)}
    shown: dict[str, Any] = clean(make_presentable(dict(metadata)))
    longest_name = max(map(len, shown), default=0)
    # Nearly always all together is no larger than one may be.
    if longest_name <= MAX_METADATA_NAME_CHARS and fits_bytes(
        to_json(shown), MAX_METADATA_VALUE_BYTES
    ):
        return shown
    fitted = {
        truncate_text(name, MAX_METADATA_NAME_CHARS): truncate_value(
            value, MAX_METADATA_VALUE_BYTES, clean
        )
        for name, value in shown.items()
    }
    whole = truncate_value(fitted, MAX_METADATA_BYTES, clean)
    return whole if isinstance(whole, dict) else {"cut": whole}


def bound_parameter(value: Any) -> Any:
    text = value if isinstance(value, str) else to_json(value)
    return value if len(text) <= MAX_PARAMETER_CHARS else truncate_text(text, MAX_PARAMETER_CHARS)
