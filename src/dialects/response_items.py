"""Items of OpenAI's Responses API, converted to messages in the form of OpenAI's chat.

https://platform.openai.com/docs/api-reference/responses/object
"""

from core.json_values import as_list, as_object, as_text, drop_empty, object_items
from core.strict_json import JsonObject, JsonValue
from dialects.content_parts import joined_content, renderable_part, renderable_parts
from dialects.media import make_presentable
from dialects.rendering import renderable_message, show_thinking, thinking_part
from dialects.tools import flat_tools, renderable_tools, tool_call

# Members of a message that are read, or of no interest.
_MESSAGE_MEMBERS = ("type", "id", "status", "role", "content")

# Members of an assistant message that stand before its content.
_THOUGHT_MEMBERS = ("thinking", "redacted_thinking")

# What is left of an item that has only been announced, or whose text is empty.
_EMPTY_MESSAGE = {"role": "assistant", "content": None}

# Types of calls that the client answers. All others are of the provider's own tools.
_CLIENT_CALLS = {"function_call", "custom_tool_call"}

# Members of the call of a built-in tool that are its result.
_RESULT_MEMBERS = ("output", "outputs", "result", "results", "error")

# Members of a call that are neither its arguments nor its result.
_CALL_MEMBERS = ("id", "call_id", "type", "name", "status")

# Members of a tool's result that are read, or of no interest. Others, such as the status "failed"
# of a patch or the acknowledged safety checks, are kept.
_OUTPUT_MEMBERS = ("type", "id", "call_id", "role", "output", "tools", "max_output_length")

# Members of a call that describe it beside its arguments.
_MEMBERS_BESIDE_ARGUMENTS = ("server_label", "namespace", "caller", "approval_request_id")


def items_to_messages(items: list[JsonValue]) -> list[JsonValue]:
    """Convert items of an input or output to messages in the form of chat.

    Consecutive items of the assistant become one message, as long as their order is thinking,
    content, tool calls. The result of a tool is a message of role "tool", also where a built-in
    tool has it in the item of its call. An item of an unknown type becomes a message with its
    members. Values that are not objects are unchanged, and empty messages after others left out.
    """
    messages: list[JsonValue] = []
    current: JsonObject | None = None
    for item in items:
        if not isinstance(item, dict):
            messages.append(item)
            current = None
            continue
        for message in map(renderable_message, _item_to_messages(item)):
            if messages and message == _EMPTY_MESSAGE:
                continue
            if current is not None and _continues_message(current, message):
                _merge(current, message)
            else:
                messages.append(message)
                current = message if _is_mergeable(message) else None
    return [show_thinking(m) if isinstance(m, dict) else m for m in messages]


def additional_tools(items: JsonValue) -> list[JsonObject]:
    """The tools that items of an input add to those of the request, as Codex sends them."""
    return [
        tool
        for item in object_items(items)
        if item.get("type") == "additional_tools"
        for tool in renderable_tools(as_list(item.get("tools")))
    ]


def _is_mergeable(message: JsonObject) -> bool:
    """Whether a message is one of the assistant that consists of thinking, content, tool calls."""
    return message["role"] == "assistant" and "content" in message and "type" not in message


def _continues_message(current: JsonObject, message: JsonObject) -> bool:
    """Whether `message` can be merged into the assistant message `current`, which comes before it,
    because the merged message keeps the order thinking, content, tool calls."""
    if not _is_mergeable(message):
        return False
    if "tool_calls" in message:
        return True
    if "tool_calls" in current or current["content"] or "refusal" in current:
        return False
    is_thought = bool(message.keys() & set(_THOUGHT_MEMBERS))
    return not is_thought or current.keys() <= {"role", "content", *_THOUGHT_MEMBERS}


def _merge(current: JsonObject, message: JsonObject) -> None:
    """Merge an assistant message into the one before it, in place."""
    lists: dict[str, list[JsonValue]] = {}
    for name in (*_THOUGHT_MEMBERS, "tool_calls"):
        lists[name] = as_list(current.get(name))
        lists[name] += as_list(message.get(name))  # in place: there may be thousands of items
    content = current["content"] or message["content"]
    current |= {**message, "content": content, **drop_empty(lists)}


def _item_to_messages(item: JsonObject) -> list[JsonObject]:
    """Convert one item: to no message where it is an empty reasoning item, to two where it is the
    call of a built-in tool and its result."""
    item_type = as_text(item.get("type")) or "message"
    is_answer = item_type.endswith("_response")  # of the client, to a request for its approval
    role = as_text(item.get("role")) or ("user" if is_answer else "assistant")
    if item_type == "message" and ("role" in item or "type" in item):
        rest = {n: v for n, v in item.items() if n not in _MESSAGE_MEMBERS}
        return [{"role": role, **_message_content(item.get("content")), **rest}]
    if item_type == "reasoning":
        return _reasoning_messages(item)
    if item_type == "additional_tools":  # the request's tools include them
        text = f"[additional_tools: {_names(flat_tools(item.get('tools')))}]"
        return [{"role": role if "role" in item else "developer", "content": text}]
    if item_type == "mcp_list_tools":
        return [_listed_tools(item)]
    if item_type.endswith("_output"):
        call_id = as_text(item.get("call_id")) or item.get("id")
        content = _result_content([item.get("output", item.get("tools"))])
        rest = drop_empty({n: v for n, v in item.items() if n not in _OUTPUT_MEMBERS})
        if rest.get("status") == "completed":
            del rest["status"]
        return [{**rest, "role": "tool", "tool_call_id": call_id, "content": content}]
    if item_type.endswith("_call"):
        return _call_messages(item, item_type)
    return [{**item, "role": role}]


def _reasoning_messages(item: JsonObject) -> list[JsonObject]:
    """The message of a reasoning item. Reasoning that is encrypted and has no summary becomes
    `redacted_thinking`, with a placeholder for its data. No message where there is neither."""
    thoughts = _thoughts(item.get("summary")) or _thoughts(item.get("content"))
    message: JsonObject = {"role": "assistant", "content": None}
    if thoughts:
        return [{**message, "thinking": thoughts}]
    data = as_text(make_presentable(item).get("encrypted_content"))
    redacted: list[JsonValue] = [{"type": "redacted_thinking", "data": data}]
    return [{**message, "redacted_thinking": redacted}] if data else []


def _thoughts(parts: JsonValue) -> list[JsonValue]:
    """The texts of a reasoning item's summary or content, as items of `thinking`. Some servers send
    texts in place of the parts."""
    texts = [
        part.get("text") if isinstance(part, dict) else as_text(part)
        for part in (parts if isinstance(parts, list) else [parts])
    ]
    return [thinking_part(text, {}) for text in texts if text]


def _listed_tools(item: JsonObject) -> JsonObject:
    """The message of an `mcp_list_tools` item. Its tools are available to the model, so they have
    the form in which Langfuse counts their calls."""
    tools = flat_tools(item.get("tools"), "input_schema")
    rest = {n: v for n, v in item.items() if n not in ("id", "tools")}
    text = f"[mcp_list_tools, {item.get('server_label')}: {_names(tools)}]"
    return {"role": "assistant", "content": text, **drop_empty({"tools": [*tools], **rest})}


def _names(tools: list[JsonObject]) -> str:
    return ", ".join(str(tool["name"]) for tool in tools)


def _call_messages(item: JsonObject, item_type: str) -> list[JsonObject]:
    """The message of a tool call, followed by the one of its result if the item has it.

    The name of a built-in tool is the type of its tool in the request, such as "web_search", and
    its arguments are what the item has beside its result.
    """
    if item_type not in _CLIENT_CALLS:
        item = make_presentable(item)
    action = as_object(item.get("action"))
    results = [item.get(name) for name in _RESULT_MEMBERS] + [action.get("sources")]
    rest = drop_empty(
        {n: v for n, v in item.items() if n not in (*_CALL_MEMBERS, *_RESULT_MEMBERS)}
    )
    beside = {name: rest.pop(name) for name in _MEMBERS_BESIDE_ARGUMENTS if name in rest}
    if action:
        rest["action"] = {name: value for name, value in action.items() if name != "sources"}
    argument = next((name for name in ("arguments", "input") if name in rest), None)
    if argument or item_type in _CLIENT_CALLS:
        arguments = rest.pop(argument, None) if argument else None
        beside |= rest
    else:
        arguments = rest["action"] if rest.keys() == {"action"} else rest
    if item_type not in _CLIENT_CALLS and item.get("status") != "completed":
        beside["status"] = item.get("status")
    call_id = as_text(item.get("call_id")) or item.get("id")
    name = as_text(item.get("name")) or item_type.removesuffix("_call")
    call = tool_call(call_id, name, arguments, **beside)
    message: JsonObject = {"role": "assistant", "content": None, "tool_calls": [call]}
    content = _result_content(results)
    if content is None:
        return [message]
    return [message, {"role": "tool", "tool_call_id": call["id"], "content": content}]


def _result_content(values: list[JsonValue]) -> JsonValue:
    """The content of a message of role "tool", given the parts of the result; None where all are
    empty."""
    return joined_content([part for value in values if value for part in renderable_parts(value)])


def _message_content(parts: JsonValue) -> JsonObject:
    """Convert the content of a Responses message to the members of a chat message.

    - `content`: the list of parts, in which texts are `{"type": "text", "text": …}`; a string where
      there is only one text, None where there is no part. `parts` itself where it is not a list.
    - `refusal`: the texts of all refusals, joined. Left out where there is none.
    - `annotations`: the list of the annotations of all texts. Left out where there is none.
    """
    if not isinstance(parts, list):
        return {"content": parts}
    content: list[JsonValue] = []
    refusals: list[str] = []
    annotations: list[JsonValue] = []
    for part in parts:
        members = as_object(part)
        part_type = members.get("type")
        if part_type in ("input_text", "output_text"):
            content.append({"type": "text", "text": as_text(members.get("text")) or ""})
            annotations += as_list(members.get("annotations"))
        elif part_type == "refusal":
            refusals.append(str(members.get("refusal")))
        else:
            content.append(renderable_part(part))
    return {
        "content": joined_content(content),
        **drop_empty({"refusal": "".join(refusals), "annotations": annotations}),
    }
