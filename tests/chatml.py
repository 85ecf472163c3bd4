"""What Langfuse's page can render of an input or an output, as rules of our own.

The page renders messages. Where a value does not fit its schema, the whole observation, or the
output, is shown as JSON; where the content of a message has a part that does not fit, that message
becomes a table. Restated from version 4.16.0, commit 6275144 of 2026-08-22:

- `packages/shared/src/utils/IORepresentation/chatML/types.ts`: the schema;
- `packages/shared/src/utils/chatml/adapters/`: `langgraph.ts`, `openai.ts` and `generic.ts`, one of
  which converts a value before it is checked;
- `packages/shared/src/utils/chatml/core.ts`: which member of an input has the messages;
- `web/src/features/traces/hooks/useChatMLParser.ts`, `.../IOPreview/components/ChatMessage.tsx` and
  `web/src/components/ui/MarkdownJsonView.tsx`: what becomes a table.

Left out are the frameworks' adapters (AI SDK, Gemini, Microsoft, Pydantic), which recognise shapes
that no dialect writes, and that the page parses a text that is JSON, so that an answer in JSON is
shown as an object.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_OPENAI_ROLES = ("system", "user", "assistant", "tool", "function")
_MEDIA_REFERENCE = re.compile(r"@@@langfuseMedia:[^@|=]+=[^@|=]+(?:\|[^@|=]+=[^@|=]+)*@@@")
_IMAGE_URL = re.compile(r"https?:|data:image/(?:png|jpeg|jpg|gif|webp);base64,")
_TEXT_TYPES = ("text", "input_text", "output_text")


def render_problems(value: Any, kind: str) -> list[str]:
    """What keeps Langfuse from rendering an input or an output (`kind`) as messages: a list of
    "where: what". Empty where all of it is rendered.

    A text is rendered as it is. The rest of an input that is an object, such as the tool choice, is
    shown below the messages, and further members of a message, such as a refusal, as a table.
    """
    if isinstance(value, str) or value is None:
        return []
    messages = _messages(_converted(value), kind)
    if not isinstance(messages, list) or not messages:
        return [f"{kind}: not a list of messages"]
    problems = [
        f"messages[{number}].{problem}"
        for number, message in enumerate(messages)
        for problem in _message_problems(message)
    ]
    if len(messages) > 1:  # a single one may be an empty answer
        problems += [
            f"messages[{number}]: empty"
            for number, message in enumerate(messages)
            if not any(value for name, value in message.items() if name != "role")
        ]
    return problems


def called_tools(output: Any) -> list[str]:
    """The names of the tools that the page counts as called, in the order of their calls."""
    messages = _messages(_converted(output), "output")
    return [
        call["name"]
        for message in (messages if isinstance(messages, list) else [])
        for call in message.get("tool_calls") or []
    ]


def available_tools(request: Any) -> list[str]:
    """The names of the tools that the page lists as available, each once."""
    messages = _messages(_converted(request), "input")
    names = [tool["name"] for message in messages for tool in message.get("tools") or []]
    return list(dict.fromkeys(names))


def _messages(value: Any, kind: str) -> Any:
    if isinstance(value, dict) and "messages" in value:
        return value["messages"]
    return [value] if kind == "output" and isinstance(value, dict) else value


# --- the conversion before the check


def _converted(value: Any) -> Any:
    """A value as the adapter converts it that recognises its shape."""
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        if isinstance(value.get("tools"), list):
            tools = [_flat_tool(tool) for tool in value["tools"]]
            return [{**_normalized(m, True), "tools": tools} for m in value["messages"]]
        is_known = _are_role_messages(value["messages"])
        if is_known or "tools" not in value:
            return {**value, "messages": [_normalized(m, is_known) for m in value["messages"]]}
        return value
    if isinstance(value, list):
        is_known = _are_role_messages(value)
        return [_normalized(message, is_known) for message in value]
    if isinstance(value, dict) and isinstance(value.get("output"), list):
        return [_normalized(item, True) for item in value["output"]]
    return _normalized(value, _is_message_with_calls(value)) if "role" in value else value


def _are_role_messages(messages: list[Any]) -> bool:
    """Whether the adapter of LangGraph, or the one of OpenAI, recognises a list of messages: each
    is an object with a role."""
    return all(
        isinstance(message, dict)
        and ("role" in message or "additional_kwargs" in message)
        and isinstance(message.get("role", ""), str)
        and not isinstance(message.get("parts"), list)
        for message in messages
    )


def _is_message_with_calls(message: Any) -> bool:
    """Whether the adapter of OpenAI recognises a single message by its tool calls."""
    calls = message.get("tool_calls")
    return isinstance(calls, list) and all(
        isinstance(call, dict)
        and isinstance(call.get("type"), str)
        and isinstance(call.get("function"), dict)
        and isinstance(call["function"].get("name"), str)
        for call in calls
    )


def _normalized(message: Any, is_known: bool) -> dict[str, Any]:
    """A message without null members and with flat tool calls, where an adapter recognised it."""
    if not isinstance(message, dict):
        return {}
    if not is_known:
        return dict(message)
    result = {name: member for name, member in message.items() if member is not None}
    if isinstance(result.get("tool_calls"), list):
        calls = [call for call in result["tool_calls"] if isinstance(call, dict)]
        result["tool_calls"] = [_flat_call(call) for call in calls]
    content = result.get("content")
    if result.get("role") == "tool" and isinstance(content, dict):
        result["content"] = json.dumps(content)  # or its members are spread beside the role
    return result


def _flat_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if isinstance(function, dict):
        flat = {name: call[name] for name in ("id", "index") if name in call}
        flat |= {"name": function.get("name"), "type": call.get("type") or "function"}
    else:
        flat, function = dict(call), call
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return {**flat, "arguments": text}


def _flat_tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, dict):
        return {}
    function = tool.get("function", tool)
    if not isinstance(function, dict):
        return {}
    flat = {"name": function.get("name"), "description": function.get("description") or ""}
    if function.get("parameters") is not None:
        flat["parameters"] = function["parameters"]
    return flat


# --- the schema


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_thought(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and item.get("type") == "thinking"
        and isinstance(item.get("content"), str)
        and all(isinstance(item[name], str) for name in ("signature", "summary") if name in item)
    )


def _is_redacted_thought(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and item.get("type") == "redacted_thinking"
        and isinstance(item.get("data"), str)
    )


def _is_tool(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("name"), str)
        and isinstance(item.get("description", ""), str)
        and isinstance(item.get("parameters", {}), dict)
    )


def _is_call(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and all(isinstance(item.get(name), str) for name in ("id", "name", "arguments"))
        and isinstance(item.get("type", ""), str)
        and isinstance(item.get("index", 0), int | float)
    )


def _is_audio(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(_MEDIA_REFERENCE.fullmatch(str(value.get("data"))))
        and isinstance(value.get("transcript", ""), str)
    )


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


_MEMBERS: dict[str, Callable[[Any], bool]] = {
    "role": _is_text,
    "name": _is_text,
    "tool_call_id": _is_text,
    "content": lambda value: value is None or isinstance(value, str | list | dict),
    "audio": _is_audio,
    "additional_kwargs": lambda value: isinstance(value, dict),
    "tools": _list_of(_is_tool),
    "tool_calls": _list_of(_is_call),
    "thinking": _list_of(_is_thought),
    "redacted_thinking": _list_of(_is_redacted_thought),
}


# Members of the schema, and "type".
_KNOWN_MEMBERS = {*_MEMBERS, "type"}


def _message_problems(message: dict[str, Any]) -> Iterator[str]:
    for name, check in _MEMBERS.items():
        if name in message and not check(message[name]):
            yield f"{name}: all is shown as JSON, because of {_short(message[name])}"
    if message.get("content", "") is None and "role" not in message:
        yield "content: neither content nor role"
    content = message.get("content")
    others = {name for name, value in message.items() if value is not None} - _KNOWN_MEMBERS
    has_thoughts = message.get("thinking") or message.get("redacted_thinking")
    if content is None and not message.keys() & {"tool_calls", "audio"} and others and has_thoughts:
        yield f"thinking: hidden, because there is no content but {sorted(others)}"
    if isinstance(content, list):
        for number, part in enumerate(content):
            if not _is_part(part):
                yield f"content[{number}]: the message is shown as a table: {_short(part)}"
    elif isinstance(content, dict):
        yield f"content: the message is shown as a table: {_short(content)}"


def _is_part(part: Any) -> bool:
    """Whether a part of a content is rendered: a text, an image that can be loaded, or a reference
    to Langfuse's media storage."""
    if isinstance(part, str):
        return bool(_MEDIA_REFERENCE.fullmatch(part))
    if not isinstance(part, dict):
        return False
    if part.get("type") in _TEXT_TYPES:
        return isinstance(part.get("text"), str)
    if part.get("type") == "image_url" and isinstance(part.get("image_url"), dict):
        url, detail = part["image_url"].get("url"), part["image_url"].get("detail", "auto")
        is_loadable = isinstance(url, str) and bool(
            _IMAGE_URL.match(url) or _MEDIA_REFERENCE.fullmatch(url)
        )
        return is_loadable and detail in ("low", "high", "auto")
    if part.get("type") == "input_audio" and isinstance(part.get("input_audio"), dict):
        return bool(_MEDIA_REFERENCE.fullmatch(str(part["input_audio"].get("data"))))
    return False


def _short(value: Any) -> str:
    return json.dumps(value)[:100]
