"""OpenAI's Responses API, converted to the message form of chat, which Langfuse renders.

https://platform.openai.com/docs/api-reference/responses and .../responses-streaming
"""

from typing import Any

from dialects import chat
from dialects.deltas import accumulate, finalize
from dialects.fields import Completion, Prompt, flatten_setting, read_completion, read_prompt
from dialects.json_values import as_object, drop_empty, object_items
from dialects.tools import function_tool, tool_call
from dialects.usage import find_usage, merge_usage, usage_metadata

NAME = "responses"

OBSERVATION_TYPE = "generation"

# For each event type, where its delta is added: the item's list, the type of the part in that list,
# and the part's member.
_PART_DELTAS = {
    "response.output_text.delta": ("content", "output_text", "text"),
    "response.refusal.delta": ("content", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text", "text"),
}

# For each event type, the item's member to which its delta is added.
_MEMBER_DELTAS = {
    "response.function_call_arguments.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
    "response.code_interpreter_call_code.delta": "code",
}


def read_request(body: Any) -> Prompt:
    """Read the parsed JSON body of a Responses request.

    The input is a list of messages in the form of chat: the instructions, as a system message, and
    the input items. Where the request has tools or another of the members below, the input is an
    object of these members and `messages`.
    """
    return read_prompt(
        body,
        input_field="messages",
        extra_input_fields=("tools", "tool_choice", "prompt"),
        normalize=_normalize_request,
    )


def fold(events: list[Any]) -> dict[str, Any]:
    """Merge the events of a stream into the response object that they represent.

    The last event contains the whole response. Where that event is missing or has no output, the
    output is accumulated from the events of its items. `events` are parsed JSON; those that are not
    objects are ignored.
    """
    reply: dict[str, Any] = {"output": []}
    items: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        event_type = event.get("type")
        usage = merge_usage(reply.get("usage"), event.get("usage"))
        if isinstance(event.get("response"), dict):
            usage = merge_usage(usage, event["response"].get("usage"))
            reply |= event["response"]
        elif event_type == "error":
            reply["error"] = event.get("error") or {**event, "type": event.get("code")}
        elif isinstance(event.get("output_index"), int):
            _accumulate_item(items, event)
        if usage:
            reply["usage"] = usage
    if items and not reply.get("output"):
        reply["output"] = [finalize(items[index]) for index in sorted(items) if items[index]]
    return reply


def _accumulate_item(items: dict[int, dict[str, Any]], event: dict[str, Any]) -> None:
    """Add an event's delta, annotation or whole item to the item with the event's `output_index`,
    in place. `items` maps that index to the item. Events of other types change nothing."""
    event_type, index, delta = str(event.get("type")), event["output_index"], event.get("delta")
    item = items.setdefault(index, {})
    if event_type in _PART_DELTAS:
        list_name, part_type, member = _PART_DELTAS[event_type]
        part_index = event.get("summary_index" if list_name == "summary" else "content_index")
        accumulate(item, {list_name: [{"index": part_index, "type": part_type, member: delta}]})
    elif event_type in _MEMBER_DELTAS:
        accumulate(item, {_MEMBER_DELTAS[event_type]: delta})
    elif event_type == "response.output_text.annotation.added":
        annotated_part = {
            "index": event.get("content_index"),
            "annotations": [event.get("annotation")],
        }
        accumulate(item, {"content": [annotated_part]})
    elif isinstance(event.get("item"), dict):  # sent when added, again when done
        items[index] = dict(event["item"])


def is_finished(reply: dict[str, Any]) -> bool:
    """Whether the status of a response, as `fold` returns it, is final."""
    return reply.get("status") in ("completed", "incomplete", "failed", "cancelled")


def read_reply(reply: Any) -> Completion:
    """Read the parsed JSON of a whole response. The output is one message in the form of chat, or a
    list where there are more; None where there is none."""
    return read_completion(reply, output=_output, **{**chat.COMMON_READERS, "metadata": _metadata})


def _normalize_request(body: dict[str, Any]) -> dict[str, Any]:
    """The members of a request, with instructions and input as `messages`, tools in the form of
    chat, and the members of `reasoning` and `text` as separate settings. `text.format` becomes
    `response_format`."""
    members = {**body, **flatten_setting("reasoning", body.get("reasoning"))}
    instructions, request_input = members.pop("instructions", None), members.pop("input", None)
    messages = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(request_input, list):
        messages += _items_to_messages(request_input)
    elif request_input is not None:
        messages.append({"role": "user", "content": request_input})
    members["messages"] = messages or None
    if isinstance(body.get("tools"), list):
        members["tools"] = [function_tool(tool, schema="parameters") for tool in body["tools"]]
    text_config = as_object(members.pop("text", None))
    members |= {name: text_config[name] for name in text_config if name != "format"}
    return members | drop_empty({"response_format": text_config.get("format")})


def _items_to_messages(items: list[Any]) -> list[Any]:
    """Convert items of an input or output to messages in the form of chat. Items of an unknown type
    are unchanged.

    Consecutive items of the assistant become one message, as long as their order is thinking,
    content, tool calls.
    """
    messages: list[Any] = []
    current: dict[str, Any] | None = None
    for item in items:
        item_type = as_object(item).get("type")
        if item_type in ("function_call_output", "custom_tool_call_output"):
            answer = {"tool_call_id": item.get("call_id"), "content": item.get("output")}
            messages.append({"role": "tool", **answer})
            current = None
            continue
        message = _item_to_message(as_object(item))
        if message is None:
            messages.append(item)
            current = None
        elif message["role"] != "assistant":
            messages.append(message)
            current = None
        elif current is None or not _continues_message(current, message):
            messages.append(message)
            current = message
        else:
            calls = current.get("tool_calls", []) + message.get("tool_calls", [])
            thoughts = current.get("thinking", []) + message.get("thinking", [])
            content = current["content"] or message["content"]
            current |= {**message, "content": content}
            current |= drop_empty({"thinking": thoughts, "tool_calls": calls})
    return messages


def _continues_message(current: dict[str, Any], message: dict[str, Any]) -> bool:
    """Whether `message` can be merged into the assistant message `current`, which comes before it,
    because the merged message keeps the order thinking, content, tool calls."""
    if "tool_calls" in message:
        return True
    if "thinking" in message:
        return current.keys() <= {"role", "content", "thinking"} and not current["content"]
    return "tool_calls" not in current and not current["content"] and "refusal" not in current


def _item_to_message(item: dict[str, Any]) -> dict[str, Any] | None:
    """Convert one item to a message in the form of chat. None for the output of a tool call, and
    for an item of an unknown type."""
    item_type = item.get("type")
    assistant: dict[str, Any] = {"role": "assistant", "content": None}
    if item_type in ("function_call", "custom_tool_call"):
        arguments = item.get("arguments" if item_type == "function_call" else "input")
        return {
            **assistant,
            "tool_calls": [tool_call(item.get("call_id"), item.get("name"), arguments)],
        }
    if item_type == "reasoning":
        parts = object_items(item.get("summary")) or object_items(item.get("content"))
        thoughts = [
            {"type": "thinking", "content": part["text"]} for part in parts if part.get("text")
        ]
        return {**assistant, **drop_empty({"thinking": thoughts})}
    if "role" in item and item_type in (None, "message"):
        return {"role": item["role"], **_message_content(item.get("content"))}
    return None


def _message_content(parts: Any) -> dict[str, Any]:
    """Convert the content of a Responses message to the members of a chat message.

    - `content`: the list of parts, in which texts are `{"type": "text", "text": …}`; a string where
      there is only one text, None where there is no part. `parts` itself where it is not a list.
    - `refusal`: the texts of all refusals, joined. Left out where there is none.
    - `annotations`: the list of the annotations of all texts. Left out where there is none.
    """
    if not isinstance(parts, list):
        return {"content": parts}
    content: list[Any] = []
    refusals: list[str] = []
    annotations: list[Any] = []
    for part in parts:
        part_type = as_object(part).get("type")
        if part_type in ("input_text", "output_text"):
            content += [{"type": "text", "text": part["text"]}] if part.get("text") else []
            annotations += part.get("annotations") or []
        elif part_type == "refusal":
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
            **usage_metadata(find_usage(reply)),
        }
    )
