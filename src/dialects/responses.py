"""OpenAI's Responses API, converted to the message form of chat, which Langfuse renders.

https://platform.openai.com/docs/api-reference/responses and .../responses-streaming
"""

from core.json_values import as_list, as_object, drop_empty, object_items
from core.strict_json import JsonObject, JsonValue
from dialects import chat
from dialects.chat import content_filter
from dialects.dialect import Dialect
from dialects.fields import Completion, Prompt, flatten_setting, read_prompt
from dialects.output_text import has_text
from dialects.rendering import renderable_message
from dialects.response_events import ResponseItems, without_blank_parts
from dialects.response_items import additional_tools, items_to_messages
from dialects.tools import renderable_tools
from dialects.usage import find_usage, merge_usage, usage_metadata


def read_request(body: JsonValue) -> Prompt:
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


def fold(events: list[JsonValue]) -> JsonObject:
    """Merge the events of a stream into the response object that they represent.

    The last event contains the whole response. Where that event is missing, or items in it are
    missing or empty, the output is accumulated from the events of the items. `events` are parsed
    JSON; those that are not objects are ignored.
    """
    reply: JsonObject = {"output": []}
    usage: JsonValue = None
    items_done = 0
    for event in events:
        if not isinstance(event, dict):
            continue
        event_type, response = event.get("type"), event.get("response")
        if "usage" in event:
            usage = merge_usage(usage, event["usage"])
        if isinstance(response, dict):
            usage = merge_usage(usage, response.get("usage"))
            reply |= response
        elif event_type == "response.output_item.done":
            items_done += 1
        elif event_type == "error":
            reply["error"] = event.get("error") or {**event, "type": event.get("code")}
        elif event.get("object") == "response":  # the whole reply as one event
            reply |= event
    if usage:
        reply["usage"] = usage
    output = reply.get("output")
    if not _has_content(output) or len(object_items(output)) < items_done:
        items = ResponseItems()
        for event in object_items(events):
            items.add(event)
        reply["output"] = items.finish() or reply.get("output")
    return reply


def _has_content(output: JsonValue) -> bool:
    """Whether an item of a response's output has more than its identity and empty texts."""
    identity = {"type", "id", "role", "status", "phase"}
    return any(without_blank_parts(item).keys() - identity for item in object_items(output))


def is_finished(reply: JsonObject) -> bool:
    """Whether the status of a response, as `fold` returns it, is final."""
    return reply.get("status") in ("completed", "incomplete", "failed", "cancelled")


def has_output(event: JsonObject) -> bool:
    """Whether an event of a stream has output of the model in it."""
    item = as_object(event.get("item"))
    item_type = item.get("type")
    if isinstance(item_type, str) and item_type.endswith("_call"):
        return True
    if event.get("type") == "response.output_item.added":
        # OpenAI announces a sealed thought with a text that is not the thought.
        item = {name: item[name] for name in item if name != "encrypted_content"}
    if item_type == "mcp_list_tools":
        return False
    members = ("delta", "part", "text", "refusal", "arguments", "partial_image_b64", "output")
    output = as_object(event.get("response")).get("output")
    return has_text(item) or has_text(output) or any(has_text(event.get(n)) for n in members)


def read_reply(reply: JsonValue) -> Completion:
    """Read the parsed JSON of a whole response. The output is one message in the form of chat, or a
    list where there are more; None where there is none."""
    return chat.read_openai_reply(reply, output=_output, metadata=_metadata)


def _normalize_request(body: JsonObject) -> JsonObject:
    """The members of a request, with instructions and input as `messages`, tools in the form of
    chat, and the members of `reasoning` and `text` as separate settings. `text.format` becomes
    `response_format`."""
    members = {**body, **flatten_setting("reasoning", body.get("reasoning"))}
    instructions, request_input = members.pop("instructions", None), members.pop("input", None)
    system = renderable_message({"role": "system", "content": instructions})
    messages: list[JsonValue] = [system] if instructions else []
    if isinstance(instructions, list):  # instructions of a stored prompt
        messages = items_to_messages(instructions)
    if isinstance(request_input, list):
        messages += items_to_messages(request_input)
    elif request_input is not None:
        messages.append(renderable_message({"role": "user", "content": request_input}))
    members["messages"] = messages or None
    tools = renderable_tools(as_list(body.get("tools"))) + additional_tools(request_input)
    if tools:
        members["tools"] = [*tools]
    text_config = as_object(members.pop("text", None))
    members |= {name: text_config[name] for name in text_config if name != "format"}
    return members | drop_empty({"response_format": text_config.get("format")})


def _output(reply: JsonObject) -> JsonValue:
    output = [] if reply["output"] is None else reply["output"]
    if not isinstance(output, list):
        raise TypeError("output is not a list")
    messages = items_to_messages(output)
    return messages[0] if len(messages) == 1 else messages or None


def _tool_usage(usage: JsonValue) -> JsonObject:
    """What the provider's own tools have used, which is billed beside the usage: the counts of each
    tool that has any but 0. Image generation, for example, has tokens of its own.
    https://platform.openai.com/docs/api-reference/responses/object"""
    return {
        tool: counts
        for tool, counts in as_object(usage).items()
        if any(isinstance(count, int) and count for count in as_object(counts).values())
    }


def _metadata(reply: JsonObject) -> JsonObject:
    incomplete = as_object(reply.get("incomplete_details")).get("reason")
    return drop_empty(
        {
            "finish_reason": incomplete or reply.get("status"),
            "response_id": reply.get("id"),
            "previous_response_id": reply.get("previous_response_id"),
            "content_filter": content_filter(reply, object_items(reply.get("content_filters"))),
            "tool_usage": _tool_usage(reply.get("tool_usage")),
            **usage_metadata(find_usage(reply)),
        }
    )


DIALECT = Dialect(
    name="responses",
    read_request=read_request,
    read_reply=read_reply,
    fold=fold,
    is_finished=is_finished,
    has_output=has_output,
)
