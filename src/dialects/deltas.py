"""Accumulates the deltas of a stream to the whole object that they are parts of."""

import re
from typing import cast, overload

from core.json_values import as_object
from core.limits import MAX_NAME_CHARS, MAX_OPEN_ITEMS
from core.strict_json import JsonObject, JsonValue

# Members whose string is always sent whole, by some providers in every delta. Any other string of a
# delta continues the string before it.
_UNSPLIT_MEMBERS = frozenset(
    {"role", "type", "id", "call_id", "index", "format", "status", "model", "channel"}
)

# The content of a JSON string, between its quotes.
_STRING_CONTENT = r'(?:[^"\\\n]++|\\(?:[^u\n]|u[0-9a-fA-F]{4}))*+'

# A member of a delta that changes nothing when it is repeated.
_NEUTRAL_MEMBER = r'"(?:\w++": ?(?:null|"")|(?:role|type)": ?"\w*+")'

# Consecutive events, as lines of a stream, that differ only in one text of their delta. All other
# members of the delta are neutral. Group 1 is the event up to that text, group 3 the rest of it.
# All repetitions are possessive or in an atomic group, so that a line matches in only one way. So
# the time of a search is in proportion to the length of the stream.
_EVENT_RUN = re.compile(
    r'\n((?>(?:event:.*+\n)?data: ?\{[^][{}\n]*(?:\[\{[^][{}\n]*)?"delta": ?\{'
    rf"(?:{_NEUTRAL_MEMBER}, ?)*+"
    r'(?:"(?:content|reasoning_content|reasoning|text|thinking|partial_json)'
    r'|("tool_calls": ?\[\{"index": ?\d++, ?"function": ?\{)"arguments)": ?"))'
    rf'{_STRING_CONTENT}("(?(2)\}}\}}\])(?:, ?{_NEUTRAL_MEMBER})*+\}}[^{{\n]*+\n)'
    rf"(?:\n\1{_STRING_CONTENT}\3(?=\n))++"
)

# OpenAI adds this at the end of an event, to hide the length of its text.
_PADDING = re.compile(r', ?"obfuscation": ?"\w*+"(?=\}\n)')


def merge_text_deltas(stream: str) -> str:
    """Shorten the text of an event stream: merge consecutive events that differ only in one text of
    their `delta`, such as `content`, into one event with the joined text. OpenAI's padding
    (`obfuscation`) is removed.

    `stream` is a text of server-sent events that begins with "\\n" and has "\\n" as its line ends.
    Nearly all events of a stream can be merged, and the time to parse a stream depends on the
    number of its events.
    """
    if '"obfuscation"' in stream:
        stream = _PADDING.sub("", stream)
    return _EVENT_RUN.sub(lambda run: run[0].replace(f"{run[3]}\n{run[1]}", ""), stream)


class TextPieces(list[JsonValue]):
    """A string under construction, as the list of its pieces, all of them `str`. Adding each piece
    to a `str` would copy the whole string every time.

    To the type checker it is a JSON list, so that it can stand in a JSON object until `finalize`.
    """

    def join(self, start: int = 0) -> str:
        """The string, or its end from the piece at index `start`."""
        return "".join(cast("list[str]", self[start:] if start else self))


def accumulate(whole: JsonObject, delta: JsonObject) -> None:
    """Add the members of `delta` to `whole`, in place.

    - A string is appended to the present string; `role`, `id`, `type` and the like replace it. A
      `name` is appended to another one: some send it in pieces, others whole in every delta.
    - The members of an object are added one by one, by the same rules.
    - An item of a list is added to the present item of the same `index`, or appended as a new one.
      Some servers send the list of tool calls as a single object.
    - A number or boolean replaces the present value. None is ignored.

    Strings in `whole` become `TextPieces`, which `finalize` turns into `str`.
    """
    for name, value in delta.items():
        current = whole.get(name)
        if value is None:
            continue
        if isinstance(value, str):
            if name in _UNSPLIT_MEMBERS:
                if value:
                    whole[name] = value
            elif type(current) is TextPieces:
                current.append(value)
            elif name == "name":
                whole[name] = _continue_name(current, value)
            elif isinstance(current, list):
                _accumulate_text(current, value)
            else:
                whole[name] = TextPieces([current, value] if isinstance(current, str) else [value])
        elif isinstance(value, dict):
            if name == "tool_calls":
                accumulate(whole, {name: [value]})
                continue
            if not isinstance(current, dict):
                current = whole[name] = {}
            accumulate(current, value)
        elif isinstance(value, list):
            if type(current) is not list:
                # A text that came before the parts becomes the first part.
                text = current.join() if type(current) is TextPieces else current
                current = whole[name] = [{"type": "text", "text": text}] if text else []
            present = len(current)
            for item in value:
                _accumulate_item(current, item, present)
        else:
            whole[name] = value


def _accumulate_text(parts: list[JsonValue], piece: str) -> None:
    """Add a piece of text to a list of content parts, in place: to the last part if that is a text,
    else as a new text part. Mistral's thinking models send text after parts."""
    last: JsonObject = as_object(parts[-1]) if parts else {}
    if last.get("type") != "text":
        last = {"type": "text"}
        parts.append(last)
    accumulate(last, {"text": piece})


def _continue_name(name: JsonValue, piece: str) -> str:
    """A name with the next one that a delta contains: a piece of it, or all of it again."""
    if not isinstance(name, str) or piece.startswith(name):
        return piece
    return name + piece if len(name) < MAX_NAME_CHARS else name


def _accumulate_item(items: list[JsonValue], delta: JsonValue, present: int) -> None:
    """Add an item of a delta's list to a streamed list, in place: to the item with the same
    `index`, or the tool call that it continues; else, and where it is not an object, as a new item.

    `present` is the number of items that the list had before this delta.
    """
    if isinstance(delta, dict):
        continued = _item_continued_by(items, delta, present)
        if continued is None:
            items.append(continued := {})
        accumulate(continued, delta)
    else:
        items.append(delta)


def _item_continued_by(
    items: list[JsonValue], delta: JsonObject, present: int
) -> JsonObject | None:
    """The item that a delta continues: the last one with the same `index` and type, or for a tool
    call without an index, the last item without one. None where the delta begins a new item."""
    index, delta_type = delta.get("index"), delta.get("type")
    call = delta.get("function") or delta.get("custom") or ("name" in delta and delta)
    if "index" not in delta and (call is delta or not call):
        return None
    for position in range(len(items) - 1, max(len(items) - MAX_OPEN_ITEMS, 0) - 1, -1):
        item = items[position]
        if not isinstance(item, dict) or item.get("index") != index:
            continue
        if delta_type and item.get("type", delta_type) != delta_type:
            continue  # a summary and its sealed reasoning have the same index (OpenRouter)
        if not call:
            return item
        is_beside = position >= present and ("index" not in delta or _function(delta).get("name"))
        return None if is_beside or _begins_call(item, delta) else item
    return None


def _begins_call(item: JsonObject, delta: JsonObject) -> bool:
    """Whether a delta with the index of an item begins another tool call: calls that are sent whole
    may all have the index 0, or none (Gemini).

    With another id it does where it names its function or has no index; some servers send a new id
    in each delta. Without ids it does where it names its function after the arguments of the item
    were complete.
    """
    function, present = _function(delta), _function(item)
    name, ids = function.get("name"), (delta.get("id"), item.get("id"))
    if all(ids):
        return ids[0] != ids[1] and (bool(name) or "index" not in delta)
    is_complete = present.get("name") and _are_complete(
        present.get("arguments", present.get("input"))
    )
    if not name or not is_complete:
        return False
    arguments = function.get("arguments", function.get("input"))
    if isinstance(arguments, str) and arguments.strip():
        return arguments.lstrip().startswith("{")
    # Without arguments, a name that is repeated begins no call.
    return isinstance(arguments, dict) or name != present.get("name")


def _function(call: JsonObject) -> JsonObject:
    return as_object(call.get("function") or call.get("custom")) or call


def _are_complete(arguments: JsonValue) -> bool:
    """Whether arguments end like a JSON object: after that, only another call's may begin."""
    if type(arguments) is TextPieces:
        arguments = arguments.join(-2)
    return isinstance(arguments, dict) or (
        isinstance(arguments, str) and arguments.rstrip().endswith("}")
    )


@overload
def finalize(value: JsonObject) -> JsonObject: ...
@overload
def finalize(value: list[JsonValue]) -> list[JsonValue]: ...
@overload
def finalize(value: JsonValue) -> JsonValue: ...
def finalize(value: JsonValue) -> JsonValue:
    """A copy of a value that `accumulate` has built, in which each `TextPieces` is a `str`."""
    if type(value) is TextPieces:
        return value.join()
    if isinstance(value, dict):
        return {name: finalize(member) for name, member in value.items()}
    if isinstance(value, list):
        return [finalize(item) for item in value]
    return value
