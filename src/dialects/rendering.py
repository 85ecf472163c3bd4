"""Messages in the form of OpenAI's chat that Langfuse renders.

Langfuse reserves some members of a message. Where one has another shape than Langfuse's own, all
messages of the observation are shown as JSON.
https://github.com/langfuse/langfuse/blob/v4.16.0/packages/shared/src/utils/IORepresentation/chatML/types.ts
"""

import re
from typing import overload

from core.json_values import as_object, as_text, drop_empty, object_items
from core.strict_json import JsonObject, JsonValue, to_json
from dialects.content_parts import renderable_part
from dialects.tools import flat_tools, renderable_tool_calls, renderable_tools

# Members whose type Langfuse's schema prescribes.
_RESERVED_MEMBERS = frozenset(
    (
        *("role", "name", "content", "audio", "thinking", "redacted_thinking"),
        *("tools", "tool_calls", "tool_call_id", "additional_kwargs"),
    )
)

# Members of most messages: where their values are texts, no member needs a conversion.
_PLAIN_MEMBERS = frozenset({"role", "content", "name", "tool_call_id"})


def thinking_part(text: JsonValue, members: JsonObject) -> JsonObject:
    """An item of a message's `thinking`: its text, and the `members` that are not empty, such as a
    signature."""
    content = text if isinstance(text, str) else "" if text is None else to_json(text)
    rest = {
        n: v for n, v in drop_empty(members).items() if n not in ("type", "content", "thinking")
    }
    for name in ("signature", "summary"):  # texts in Langfuse's schema
        if name in rest and not isinstance(rest[name], str):
            rest[name] = to_json(rest[name])
    return {"type": "thinking", "content": content, **rest}


def renderable_request(body: JsonObject) -> JsonObject:
    """A copy of a chat request in which messages and tools have the form that Langfuse renders."""
    members = dict(body)
    messages, tools = body.get("messages"), body.get("tools")
    if isinstance(messages, list):
        members["messages"] = [renderable_message(message) for message in messages]
    if isinstance(tools, list):
        members["tools"] = [*renderable_tools(tools)]
    return members


@overload
def renderable_message(message: JsonObject) -> JsonObject: ...
@overload
def renderable_message(message: JsonValue) -> JsonValue: ...
def renderable_message(message: JsonValue) -> JsonValue:
    """Convert a message in the form of chat to the form that Langfuse renders. Never raises.

    - Parts of the content become texts, or images by URL. A content of any type but a text, a list
      or an object becomes its JSON text.
    - Tool calls get id, name and arguments as texts.
    - `audio` becomes `output_audio`, since Langfuse accepts only its own media references in it.
    - Other reserved members with a value that does not fit get the prefix "other_".

    A value that is not an object is returned as it is.
    """
    if not isinstance(message, dict):
        return message
    if message.keys() <= _PLAIN_MEMBERS and set(map(type, message.values())) <= {str}:
        return message
    result: JsonObject = {}
    for name, value in message.items():
        if name in _RESERVED_MEMBERS and name != "content" and value is None:
            continue  # Langfuse accepts null only in lists of messages
        if name in _RESERVED_MEMBERS and value is not None:
            name, value = _renderable_member(name, value)
        result[name] = value
    return show_thinking(result)


_THOUGHTS = {"thinking", "redacted_thinking"}

# Members of a message that have no influence on whether Langfuse shows its thinking.
_BESIDE_THINKING = {"role", "content", "name", "type", "tools", "tool_call_id", *_THOUGHTS}


def show_thinking(message: JsonObject) -> JsonObject:
    """The message, with an empty text as content where Langfuse would hide its thinking: it shows a
    message without content and tool calls as a table, if the message has members of other names.

    `isOnlyJsonMessage` in web/src/features/traces/fns/chatMessageUtils.ts, 4.16.0.
    """
    is_hidden = (
        bool(message.keys() & _THOUGHTS)
        and message.get("content") is None
        and message.get("tool_calls") is None
        and not message.keys() <= _BESIDE_THINKING
    )
    return {**message, "content": ""} if is_hidden else message


def _renderable_member(name: str, value: JsonValue) -> tuple[str, JsonValue]:
    """The name and the value that represent one of the reserved members of a message."""
    match name, value:
        case (("role" | "name" | "tool_call_id"), _):
            return name, value if isinstance(value, str) else to_json(value)
        case "content", list():
            return name, [renderable_part(part) for part in value]
        case "content", _:
            return name, value if isinstance(value, str | dict) else to_json(value)
        case "audio", _:
            return "output_audio", value
        case "thinking", str() | list():
            thoughts = value if isinstance(value, list) else [value]
            return name, [_thought(thought) for thought in thoughts]
        case "redacted_thinking", list():
            sealed = object_items(value)
            return name, [{**i, "type": name, "data": as_text(i.get("data")) or ""} for i in sealed]
        case "tool_calls", list() | dict():
            return name, [*renderable_tool_calls(value)]
        case "tools", list():
            return name, [*flat_tools(value)]
        case "additional_kwargs", dict():
            return name, value
        case _:
            return f"other_{name}", value


def _thought(value: JsonValue) -> JsonObject:
    """A thought in a message of a request. Ollama sends it as a text."""
    members = as_object(value)
    text = members.get("content", members.get("thinking")) if members else value
    return thinking_part(text, members)


# Models whose tokens Langfuse counts where an observation has no usage: its price list has a
# tokenizer for most models of these names (worker/src/constants/default-model-prices.json, 4.16.0).
_COUNTED_MODEL = re.compile(
    r"(?:openai/|anthropic/|(?:\w+\.)?anthropic\.)?(?:ft:)?(?:gpt-\d|chatgpt-|claude-)",
    re.IGNORECASE,
)


def countable_output(output: JsonValue, model: str | None) -> JsonValue:
    """The output of a reply without usage, from which Langfuse counts the model's tokens: the text
    alone where it is one assistant message with nothing but a text.

    Langfuse would count the JSON of a message, about ten tokens more than its text
    (worker/src/features/tokenisation/usage.ts), and renders a text as an answer of the assistant.
    Outputs of models that it does not count, and all others, are returned as they are.
    """
    if not (isinstance(output, dict) and _COUNTED_MODEL.match(model or "")):
        return output
    is_plain = output.keys() == {"role", "content"} and output["role"] == "assistant"
    return output["content"] if is_plain and isinstance(output["content"], str) else output
