"""Anthropic messages, converted to OpenAI's message form, which Langfuse renders.

https://docs.anthropic.com/en/api/messages and .../build-with-claude/streaming
"""

from core.json_values import as_object, as_text, drop_empty, object_items
from core.strict_json import JsonObject, JsonValue
from dialects.cost import stated_cost
from dialects.dialect import Dialect
from dialects.fields import (
    Completion,
    Prompt,
    flatten_setting,
    read_completion,
    read_prompt,
    select_parameters,
)
from dialects.message_blocks import ContentBlocks, to_chat_messages
from dialects.output_text import has_text
from dialects.rendering import renderable_message
from dialects.tools import renderable_tools
from dialects.usage import find_usage, merge_usage, usage_counts, usage_metadata


def read_request(body: JsonValue) -> Prompt:
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


def fold(events: list[JsonValue]) -> JsonObject:
    """Merge the events of a stream into the message that they represent, with its content blocks as
    `ContentBlocks` orders them.

    `events` are parsed JSON; those that are not objects are ignored. An error event sets the
    message's `error`.
    """
    reply: JsonObject = {}
    blocks = ContentBlocks()
    last_usage: JsonValue = None
    for event in events:
        if not isinstance(event, dict):
            continue
        event_type = event.get("type")
        if isinstance(event.get("context_management"), dict):
            reply["context_management"] = event["context_management"]
        if isinstance(event_type, str) and event_type.startswith("content_block_"):
            blocks.add(event)
        elif event_type in ("message_start", "message"):
            reply |= as_object(event.get("message")) or event
        elif event_type in ("message_delta", "message_stop"):
            delta = as_object(event.get("delta"))
            last_usage = merge_usage(last_usage, delta.get("usage"))
            last_usage = merge_usage(last_usage, event.get("usage"))
            reply |= drop_empty({**delta, "usage": None})
        elif "error" in event:
            reply["error"] = event["error"]
    # The counts are cumulative, and may repeat those of `message_start`, or be 0 instead.
    if isinstance(last_usage, dict):
        usage = merge_usage(reply.get("usage"), last_usage)
        # The output tokens of `message_start` are a placeholder.
        usage |= {"output_tokens": 0} if last_usage.get("output_tokens") == 0 else {}
        reply["usage"] = usage
    content = blocks.finish()
    if content or not reply.get("content"):
        reply["content"] = content
    return reply


def is_finished(reply: JsonObject) -> bool:
    """Whether a message, as `fold` returns it, has a stop reason."""
    return bool(reply.get("stop_reason"))


def has_output(event: JsonObject) -> bool:
    """Whether an event of a stream has output of the model in it."""
    block = as_object(event.get("content_block"))
    # A `fallback` block only names the models.
    is_delta = event.get("type") == "content_block_delta"
    return (
        (block.get("type") != "fallback" and has_text(block))
        or (is_delta and has_text(event.get("delta")))
        or has_text(event.get("content"))  # the whole message as one event
    )


def read_reply(reply: JsonValue) -> Completion:
    """Read the parsed JSON of a whole reply. The output is one assistant message in OpenAI's form,
    or a list where it is followed by results of the provider's own tools; None for an empty
    reply."""
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


def _normalize_request(body: JsonObject) -> JsonObject:
    """The members of a request, with system prompt, messages and tools in OpenAI's form, and with
    the members of `thinking` and `output_config` as separate settings. `output_config.format`
    becomes `response_format`."""
    members = {**body, **flatten_setting("thinking", body.get("thinking"))}
    system = members.pop("system", None)
    messages: list[JsonValue] = []
    if system:
        messages.append(renderable_message({"role": "system", "content": system}))
    sent_messages, tools = body.get("messages"), body.get("tools")
    if isinstance(sent_messages, list):
        for message in sent_messages:
            messages += to_chat_messages(message)
        members["messages"] = messages
    elif system:
        members["system"] = system
    if isinstance(tools, list):
        members["tools"] = [*renderable_tools(tools, schema="input_schema")]
    output_config = as_object(members.pop("output_config", None))
    members |= {name: output_config[name] for name in output_config if name != "format"}
    return members | drop_empty({"response_format": output_config.get("format")})


def _output(reply: JsonObject) -> JsonValue:
    content = [] if reply["content"] is None else reply["content"]
    if not isinstance(content, list | str):
        raise TypeError("content is not a list")
    if not content and "role" not in reply:
        return None
    role = as_text(reply.get("role")) or "assistant"
    messages = to_chat_messages({"role": role, "content": content or None})
    return messages[0] if len(messages) == 1 else messages


def _with_serving_model(reply: JsonValue) -> JsonValue:
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


def _is_fallback(entry: JsonObject) -> bool:
    """Whether a content block, or an iteration of the usage, is of a server-side fallback."""
    return entry.get("type") in ("fallback", "fallback_message")


def _metadata(reply: JsonObject) -> JsonObject:
    return drop_empty(
        {
            "finish_reason": reply.get("stop_reason"),
            "stop_sequence": reply.get("stop_sequence"),
            "stop_details": reply.get("stop_details"),
            "response_id": reply.get("id"),
            "container": reply.get("container"),
            "context_management": reply.get("context_management"),
            "server_tool_use": as_object(reply.get("usage")).get("server_tool_use"),
            **usage_metadata(find_usage(reply)),
        }
    )


DIALECT = Dialect(
    name="messages",
    read_request=read_request,
    read_reply=read_reply,
    fold=fold,
    is_finished=is_finished,
    has_output=has_output,
    has_text_deltas=True,
)
