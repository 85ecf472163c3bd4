"""OpenAI's Responses API, shown in the message shape of chat, which Langfuse renders.

https://platform.openai.com/docs/api-reference/responses and .../responses-streaming
"""

from typing import Any

from dialects import chat
from dialects.deltas import accumulate, finalize
from dialects.fields import Completion, Prompt, flatten_setting, read_completion, read_prompt
from dialects.json_values import as_object, drop_empty, object_items
from dialects.tools import function_tool, tool_call

NAME = "responses"

OBSERVATION_TYPE = "generation"

# Where the pieces of each event go: a list of the item, with the type of its parts, and a member.
_PARTS = {
    "response.output_text.delta": ("content", "output_text", "text"),
    "response.refusal.delta": ("content", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text", "text"),
}

_MEMBERS = {
    "response.function_call_arguments.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
    "response.code_interpreter_call_code.delta": "code",
}


def read_request(body: Any) -> Prompt:
    """A Responses request: instructions and input items as messages, and the tools."""
    return read_prompt(
        body,
        input_field="messages",
        extra_input_fields=("tools", "tool_choice", "prompt"),
        normalize=_normalize_request,
    )


def fold(events: list[Any]) -> dict[str, Any]:
    """The events of a stream as one response: the one in its last event, and of a stream that was
    cut before it, or whose last event leaves the output out, the items as far as they came."""
    reply: dict[str, Any] = {"output": []}
    items: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        kind = event.get("type")
        if isinstance(event.get("response"), dict):
            reply |= event["response"]
        elif kind == "error":
            reply["error"] = event.get("error") or {**event, "type": event.get("code")}
        elif isinstance(event.get("output_index"), int):
            _accumulate_item(items, event)
    if items and not reply.get("output"):
        reply["output"] = [finalize(items[index]) for index in sorted(items) if items[index]]
    return reply


def _accumulate_item(items: dict[int, dict[str, Any]], event: dict[str, Any]) -> None:
    kind, index, delta = str(event.get("type")), event["output_index"], event.get("delta")
    item = items.setdefault(index, {})
    if kind in _PARTS:
        where, part_type, member = _PARTS[kind]
        part = event.get("summary_index" if where == "summary" else "content_index")
        accumulate(item, {where: [{"index": part, "type": part_type, member: delta}]})
    elif kind in _MEMBERS:
        accumulate(item, {_MEMBERS[kind]: delta})
    elif kind == "response.output_text.annotation.added":
        noted = {"index": event.get("content_index"), "annotations": [event.get("annotation")]}
        accumulate(item, {"content": [noted]})
    elif isinstance(event.get("item"), dict):  # added, then done
        items[index] = dict(event["item"])


def is_finished(reply: dict[str, Any]) -> bool:
    """Whether a folded response came to its end."""
    return reply.get("status") in ("completed", "incomplete", "failed", "cancelled")


def read_reply(reply: Any) -> Completion:
    """A response as one assistant message, or as a list where there is more than that."""
    return read_completion(reply, output=_output, **{**chat.COMMON_READERS, "metadata": _metadata})


def _normalize_request(body: dict[str, Any]) -> dict[str, Any]:
    shown = {**body, **flatten_setting("reasoning", body.get("reasoning"))}
    instructions, given = shown.pop("instructions", None), shown.pop("input", None)
    messages = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, list):
        messages += _items_to_messages(given)
    elif given is not None:
        messages.append({"role": "user", "content": given})
    shown["messages"] = messages or None
    if isinstance(body.get("tools"), list):
        shown["tools"] = [function_tool(tool, schema="parameters") for tool in body["tools"]]
    text = as_object(shown.pop("text", None))
    shown |= {name: text[name] for name in text if name != "format"}
    return shown | drop_empty({"response_format": text.get("format")})


def _items_to_messages(items: list[Any]) -> list[Any]:
    """Items as messages: what the assistant thought, said and called in a row is one message, in
    this order; an item of a kind that isn't known stays as it is."""
    messages: list[Any] = []
    current: dict[str, Any] | None = None
    for item in items:
        kind = as_object(item).get("type")
        if kind in ("function_call_output", "custom_tool_call_output"):
            answer = {"tool_call_id": item.get("call_id"), "content": item.get("output")}
            messages.append({"role": "tool", **answer})
            current = None
            continue
        said = _item_to_message(as_object(item))
        if said is None:
            messages.append(item)
            current = None
        elif said["role"] != "assistant":
            messages.append(said)
            current = None
        elif current is None or not _continues_message(current, said):
            messages.append(said)
            current = said
        else:
            calls = current.get("tool_calls", []) + said.get("tool_calls", [])
            thoughts = current.get("thinking", []) + said.get("thinking", [])
            content = current["content"] or said["content"]
            current |= {**said, "content": content}
            current |= drop_empty({"thinking": thoughts, "tool_calls": calls})
    return messages


def _continues_message(current: dict[str, Any], said: dict[str, Any]) -> bool:
    if "tool_calls" in said:
        return True
    if "thinking" in said:
        return current.keys() <= {"role", "content", "thinking"} and not current["content"]
    return "tool_calls" not in current and not current["content"] and "refusal" not in current


def _item_to_message(item: dict[str, Any]) -> dict[str, Any] | None:
    """One item as a message, None if it is of another kind."""
    kind = item.get("type")
    assistant: dict[str, Any] = {"role": "assistant", "content": None}
    if kind in ("function_call", "custom_tool_call"):
        arguments = item.get("arguments" if kind == "function_call" else "input")
        return {
            **assistant,
            "tool_calls": [tool_call(item.get("call_id"), item.get("name"), arguments)],
        }
    if kind == "reasoning":
        parts = object_items(item.get("summary")) or object_items(item.get("content"))
        thoughts = [{"type": "thinking", "content": p["text"]} for p in parts if p.get("text")]
        return {**assistant, **drop_empty({"thinking": thoughts})}
    if "role" in item and kind in (None, "message"):
        return {"role": item["role"], **_message_content(item.get("content"))}
    return None


def _message_content(parts: Any) -> dict[str, Any]:
    """The content of a message, its refusal and its annotations beside it."""
    if not isinstance(parts, list):
        return {"content": parts}
    content: list[Any] = []
    refusals: list[str] = []
    annotations: list[Any] = []
    for part in parts:
        kind = as_object(part).get("type")
        if kind in ("input_text", "output_text"):
            content += [{"type": "text", "text": part["text"]}] if part.get("text") else []
            annotations += part.get("annotations") or []
        elif kind == "refusal":
            refusals.append(str(part.get("refusal")))
        else:
            content.append(part)
    if len(content) == 1 and as_object(content[0]).keys() == {"type", "text"}:
        content = content[0]["text"]
    return {
        "content": content or None,
        **drop_empty({"refusal": "".join(refusals), "annotations": annotations}),
    }


def _output(reply: dict[str, Any]) -> Any:
    if not isinstance(reply["output"], list):
        raise TypeError("output is not a list")
    messages = _items_to_messages(reply["output"])
    return messages[0] if len(messages) == 1 else messages or None


def _metadata(reply: dict[str, Any]) -> dict[str, Any]:
    incomplete = as_object(reply.get("incomplete_details")).get("reason")
    return drop_empty(
        {
            "finish_reason": incomplete or reply.get("status"),
            "response_id": reply.get("id"),
            "previous_response_id": reply.get("previous_response_id"),
        }
    )
