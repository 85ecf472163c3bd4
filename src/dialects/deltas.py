"""How the pieces of a stream grow into a whole, for all dialects."""

import re
from typing import Any

from core.limits import MAX_OPEN_ITEMS
from dialects.json_values import as_object

# These name something. They come whole, some providers repeat them in every piece; every other
# string in a piece continues the one before it.
_NAMES = frozenset({"role", "type", "id", "call_id", "name", "format", "status", "model"})

# Events, as lines of a stream, that differ in nothing but the one text of their one delta, beside
# which nothing in it adds anything, however often it comes. There is but one way to read a line
# (atomic, possessive), so that the time is in proportion to the length.
_TEXT = r'(?:[^"\\\n]++|\\(?:[^u\n]|u[0-9a-fA-F]{4}))*+'

_ADDS_NOTHING = r'"(?:\w++": ?(?:null|"")|(?:role|type)": ?"\w*+")'

_RUN = re.compile(
    r'\n((?>(?:event:.*+\n)?data: ?\{[^][{}\n]*(?:\[\{[^][{}\n]*)?"delta": ?\{'
    rf"(?:{_ADDS_NOTHING}, ?)*+"
    r'(?:"(?:content|reasoning_content|reasoning|text|thinking|partial_json)'
    r'|("tool_calls": ?\[\{"index": ?\d++, ?"function": ?\{)"arguments)": ?"))'
    rf'{_TEXT}("(?(2)\}}\}}\])(?:, ?{_ADDS_NOTHING})*+\}}[^{{\n]*+\n)(?:\n\1{_TEXT}\3(?=\n))++'
)

# What OpenAI adds, at an event's end, to hide how long a text is.
_PADDING = re.compile(r', ?"obfuscation": ?"\w*+"(?=\}\n)')


def merge_text_deltas(stream: str) -> str:
    """A stream with one event, with all of the text, in place of several that go on with it. Nearly
    all events do, and each would take as long to read."""
    if '"obfuscation"' in stream:
        stream = _PADDING.sub("", stream)
    return _RUN.sub(lambda run: run[0].replace(f"{run[3]}\n{run[1]}", ""), stream)


class TextPieces(list[str]):
    """A string that is still growing. Adding to a str would copy all of it for every piece."""


def accumulate(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add one delta to a whole: strings are continued, objects grow by member, items of a list by
    their `index`, anything else is replaced. Call `settle` at the end."""
    for name, value in delta.items():
        known = whole.get(name)
        if value is None:
            continue
        if isinstance(value, str):
            if name in _NAMES:
                if value:
                    whole[name] = value
            elif type(known) is TextPieces:
                known.append(value)
            elif isinstance(known, list):
                _accumulate_text(known, value)
            else:
                whole[name] = TextPieces([known, value] if isinstance(known, str) else [value])
        elif isinstance(value, dict):
            if not isinstance(known, dict):
                known = whole[name] = {}
            accumulate(known, value)
        elif isinstance(value, list):
            if type(known) is not list:
                text = "".join(known) if type(known) is TextPieces else known
                known = whole[name] = [{"type": "text", "text": text}] if text else []
            for item in value:
                _accumulate_item(known, item)
        else:
            whole[name] = value


def _accumulate_text(parts: list[Any], piece: str) -> None:
    """Text after parts, as Mistral's thinking models send it, is a text part."""
    if not (parts and isinstance(parts[-1], dict) and parts[-1].get("type") == "text"):
        parts.append({"type": "text"})
    accumulate(parts[-1], {"text": piece})


def _accumulate_item(items: list[Any], delta: Any) -> None:
    if isinstance(delta, dict):
        known = _item_continued_by(items, delta)
        if known is None:
            items.append(known := {})
        accumulate(known, delta)
    else:
        items.append(delta)


def _item_continued_by(items: list[Any], delta: dict[str, Any]) -> dict[str, Any] | None:
    """The item that a delta continues: the last one of its index. A tool call may come without an
    index, which continues the last call; and calls that come whole may all have the index 0
    (Gemini), so that a name with a new id starts another one."""
    call = as_object(delta.get("function") or delta.get("custom"))
    if "index" not in delta and not call:
        return None
    for item in reversed(items[-MAX_OPEN_ITEMS:]):
        if isinstance(item, dict) and item.get("index") == delta.get("index"):
            another = delta.get("id") and item.get("id") and delta["id"] != item["id"]
            return None if another and (call.get("name") or "index" not in delta) else item
    return None


def finalize(value: Any) -> Any:
    """The grown value with its strings joined."""
    if type(value) is TextPieces:
        return "".join(value)
    if isinstance(value, dict):
        return {name: finalize(member) for name, member in value.items()}
    if isinstance(value, list):
        return [finalize(item) for item in value]
    return value
