"""Anthropic messages, converted to OpenAI's message form, which Langfuse renders.

https://docs.anthropic.com/en/api/messages and .../build-with-claude/streaming
"""

from typing import Any

from core import strict_json
from core.strict_json import to_json
from dialects.cost import stated_cost
from dialects.deltas import accumulate, finalize
from dialects.fields import (
    Completion,
    Prompt,
    flatten_setting,
    read_completion,
    read_prompt,
    select_parameters,
)
from dialects.json_values import as_object, as_text, drop_empty, object_items
from dialects.tools import function_tool, tool_call
from dialects.usage import find_usage, merge_usage, usage_counts, usage_metadata

NAME = "messages"

OBSERVATION_TYPE = "generation"


def read_request(body: Any) -> Prompt:
    """Read the parsed JSON body of a messages request.

    The input is the list of messages in OpenAI's form, with the system prompt as the first. Where
    the request has tools or another of the members below, the input is an object of these members
    and `messages`.
    """
    return read_prompt(
        body,
        input_field="messages",
        extra_input_fields=("system", "tools", "tool_choice", "mcp_servers"),
        normalize=_normalize_request,
    )


def fold(events: list[Any]) -> dict[str, Any]:
    """Merge the events of a stream into the message that they represent, with its content blocks in
    the order of their index.

    `events` are parsed JSON; those that are not objects are ignored. An error event sets the
    message's `error`.
    """
    reply: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        event_type = event.get("type")
        if event_type == "content_block_delta":
            _accumulate_block(
                blocks.setdefault(_block_index(event), {}), as_object(event.get("delta"))
            )
        elif event_type == "content_block_start":
            blocks[_block_index(event)] = dict(as_object(event.get("content_block")))
        elif event_type == "message_start":
            reply |= as_object(event.get("message"))
        elif event_type in ("message_delta", "message_stop"):
            delta = as_object(event.get("delta"))
            # The counts are cumulative, and may repeat those of `message_start`, or be 0 instead.
            usage = merge_usage(reply.get("usage"), delta.get("usage"))
            reply |= drop_empty(delta)
            reply["usage"] = merge_usage(usage, event.get("usage"))
            if as_object(event.get("usage")).get("output_tokens") == 0:
                reply["usage"]["output_tokens"] = 0  # that of `message_start` is a placeholder
        elif "error" in event:
            reply["error"] = event["error"]
    if blocks or not reply.get("content"):
        reply["content"] = [_finalize_block(blocks[index]) for index in sorted(blocks)]
    return reply


def is_finished(reply: dict[str, Any]) -> bool:
    """Whether a message, as `fold` returns it, has a stop reason."""
    return bool(reply.get("stop_reason"))


def read_reply(reply: Any) -> Completion:
    """Read the parsed JSON of a whole reply. The output is one assistant message in OpenAI's form;
    None for an empty reply."""
    return read_completion(
        _with_serving_model(reply),
        output=_output,
        metadata=_metadata,
        usage=lambda reply: usage_counts(find_usage(reply), reply.get("model")),
        cost=lambda reply: stated_cost(find_usage(reply)),
        parameters=lambda reply: select_parameters(
            as_object(reply.get("usage")), "service_tier", "speed"
        ),
    )


def _block_index(event: dict[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


def _accumulate_block(block: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add the delta of an event to a content block, in place. Its `text`, `thinking` and so on
    continue the block's member of the same name; a citation is appended to the block's list."""
    if delta.get("type") == "citations_delta":
        accumulate(block, {"citations": [delta.get("citation")]})
    else:
        accumulate(block, {name: value for name, value in delta.items() if name != "type"})


def _finalize_block(block: dict[str, Any]) -> dict[str, Any]:
    """An accumulated content block in the form of a whole reply: its strings are `str`, and the
    `input` of a tool call is the value of its `partial_json`. Where that JSON is cut, it is the
    text."""
    block = finalize(block)
    input_json = block.pop("partial_json", None)
    if isinstance(input_json, str) and input_json:
        try:
            block["input"] = strict_json.parse(input_json)
        except ValueError:  # the stream was cut within the JSON
            block["input"] = input_json
    return block


def _normalize_request(body: dict[str, Any]) -> dict[str, Any]:
    """The members of a request, with system prompt, messages and tools in OpenAI's form, and with
    the members of `thinking` and `output_config` as separate settings. `output_config.format`
    becomes `response_format`."""
    members = {**body, **flatten_setting("thinking", body.get("thinking"))}
    system = members.pop("system", None)
    messages = [{"role": "system", "content": system}] if system else []
    if isinstance(body.get("messages"), list):
        for message in body["messages"]:
            messages += _split_message(message)
        members["messages"] = messages
    elif system:
        members["system"] = system
    if isinstance(body.get("tools"), list):
        members["tools"] = [function_tool(tool, schema="input_schema") for tool in body["tools"]]
    output_config = as_object(members.pop("output_config", None))
    members |= {name: output_config[name] for name in output_config if name != "format"}
    return members | drop_empty({"response_format": output_config.get("format")})


def _split_message(message: Any) -> list[Any]:
    """Convert an Anthropic message to one or more in OpenAI's form, in the order of its blocks.

    Each tool result becomes a message of role "tool". The other blocks stay in messages of the
    original role. A message whose content is not a list of blocks is unchanged.
    """
    if not isinstance(as_object(message).get("content"), list):
        return [message]
    messages: list[Any] = []
    blocks: list[Any] = []
    for block in message["content"]:
        if as_object(block).get("type") == "tool_result":
            if blocks:
                messages.append(_to_chat_message({**message, "content": blocks}))
                blocks = []
            other_members = {
                n: v for n, v in block.items() if n not in ("type", "tool_use_id", "content")
            }
            answer = {"tool_call_id": block.get("tool_use_id"), "content": block.get("content")}
            messages.append({"role": "tool", **answer, **other_members})
        else:
            blocks.append(block)
    return (
        [*messages, _to_chat_message({**message, "content": blocks})]
        if blocks
        else messages or [message]
    )


def _to_chat_message(message: dict[str, Any]) -> dict[str, Any]:
    """Convert a message whose content is a list of blocks to OpenAI's form: thinking and tool calls
    become members beside the content.

    Content that is one plain text becomes a string, and empty content None. Blocks of another type,
    such as images, documents, server tools and their results, stay in the content unchanged.
    """
    separate: dict[str, list[Any]] = {"thinking": [], "redacted_thinking": [], "tool_calls": []}
    content: list[Any] = []
    for block in message["content"]:
        block_type = as_object(block).get("type")
        if block_type == "thinking":
            other_members = {
                n: v for n, v in drop_empty(block).items() if n not in ("type", "thinking")
            }
            thought = {"type": "thinking", "content": block.get("thinking") or ""}
            separate["thinking"].append({**thought, **other_members})
        elif block_type == "redacted_thinking":
            separate["redacted_thinking"].append(block)
        elif block_type == "tool_use":
            tool_input = block.get("input")
            arguments = tool_input if isinstance(tool_input, str) else to_json(tool_input or {})
            separate["tool_calls"].append(tool_call(block.get("id"), block.get("name"), arguments))
        elif block_type == "text":
            content += [drop_empty(block)] if block.get("text") else []
        else:
            content.append(block)
    if len(content) == 1 and as_object(content[0]).keys() == {"type", "text"}:
        content = content[0]["text"]
    return {**message, "content": content or None, **drop_empty(separate)}


def _output(reply: dict[str, Any]) -> dict[str, Any] | None:
    if not isinstance(reply["content"], list):
        raise TypeError("content is not a list")
    if not reply["content"] and "role" not in reply:
        return None
    return _to_chat_message({"role": reply.get("role") or "assistant", "content": reply["content"]})


def _with_serving_model(reply: Any) -> Any:
    """The reply, with the model that its `fallback` blocks and iterations name as its `model`.

    After a server-side fallback, that model wrote the end of the message and is billed; a stream's
    `message_start` has the first one. Any other value is unchanged.

    https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback
    """
    message = as_object(reply)
    blocks = object_items(message.get("content"))
    iterations = object_items(as_object(message.get("usage")).get("iterations"))
    models = [as_object(block.get("to")).get("model") for block in blocks if _is_fallback(block)]
    models += [entry.get("model") for entry in iterations if _is_fallback(entry)]
    served_by = next(filter(as_text, reversed(models)), None)
    return {**message, "model": served_by} if served_by else reply


def _is_fallback(entry: dict[str, Any]) -> bool:
    """Whether a content block, or an iteration of the usage, is of a server-side fallback."""
    return entry.get("type") in ("fallback", "fallback_message")


def _metadata(reply: dict[str, Any]) -> dict[str, Any]:
    return drop_empty(
        {
            "finish_reason": reply.get("stop_reason"),
            "stop_sequence": reply.get("stop_sequence"),
            "stop_details": reply.get("stop_details"),
            "response_id": reply.get("id"),
            "container": reply.get("container"),
            "server_tool_use": as_object(reply.get("usage")).get("server_tool_use"),
            **usage_metadata(find_usage(reply)),
        }
    )
