"""Anthropic messages, shown in OpenAI's message shape, which Langfuse renders.

https://docs.anthropic.com/en/api/messages and .../build-with-claude/streaming
"""

from typing import Any

import strict_json
from dialects import usage
from dialects.deltas import grow, settle
from dialects.shapes import Completion, Prompt, flat, read_completion, read_prompt, settings
from dialects.tools import function_tool, tool_call
from dialects.values import mapping, present, to_json

NAME = "messages"
OBSERVATION_TYPE = "generation"


def read_request(body: Any) -> Prompt:
    """A messages request: the system prompt as the first message, and the tools."""
    return read_prompt(
        body,
        main="messages",
        beside=("system", "tools", "tool_choice", "mcp_servers"),
        translate=_translate,
    )


def fold(events: list[Any]) -> dict[str, Any]:
    """The events of a stream as one message, its content blocks by index."""
    reply: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        kind = event.get("type")
        if kind == "content_block_delta":
            _grow_block(blocks.setdefault(_index(event), {}), mapping(event.get("delta")))
        elif kind == "content_block_start":
            blocks[_index(event)] = dict(mapping(event.get("content_block")))
        elif kind == "message_start":
            reply |= mapping(event.get("message"))
        elif kind == "message_delta":
            reply |= present(mapping(event.get("delta")))
            # The counts are cumulative, and may repeat those of the start.
            counts = {n: v for n, v in mapping(event.get("usage")).items() if v is not None}
            reply["usage"] = {**mapping(reply.get("usage")), **counts}
        elif "error" in event:
            reply["error"] = event["error"]
    if blocks or not reply.get("content"):
        reply["content"] = [_whole_block(blocks[index]) for index in sorted(blocks)]
    return reply


def ended(reply: dict[str, Any]) -> bool:
    """Whether a folded message came to its end."""
    return bool(reply.get("stop_reason"))


def read_reply(reply: Any) -> Completion:
    """A message as one assistant message."""
    return read_completion(
        reply,
        output=_output,
        metadata=_metadata,
        usage=lambda reply: usage.anthropic(reply.get("usage")),
        parameters=lambda reply: settings(mapping(reply.get("usage")), "service_tier", "speed"),
    )


def _index(event: dict[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


def _grow_block(block: dict[str, Any], delta: dict[str, Any]) -> None:
    """Text, thinking, signature and the like continue the block's member of the same name."""
    if delta.get("type") == "citations_delta":
        grow(block, {"citations": [delta.get("citation")]})
    else:
        grow(block, {name: value for name, value in delta.items() if name != "type"})


def _whole_block(block: dict[str, Any]) -> dict[str, Any]:
    block = settle(block)
    written = block.pop("partial_json", None)
    if isinstance(written, str) and written:
        try:
            block["input"] = strict_json.parse(written)
        except ValueError:  # the stream was cut inside of it
            block["input"] = written
    return block


def _translate(body: dict[str, Any]) -> dict[str, Any]:
    shown = {**body, **flat("thinking", body.get("thinking"))}
    system = shown.pop("system", None)
    messages = [{"role": "system", "content": system}] if system else []
    if isinstance(body.get("messages"), list):
        for message in body["messages"]:
            messages += _messages(message)
        shown["messages"] = messages
    elif system:
        shown["system"] = system
    if isinstance(body.get("tools"), list):
        shown["tools"] = [function_tool(tool, schema="input_schema") for tool in body["tools"]]
    config = mapping(shown.pop("output_config", None))
    shown |= {name: config[name] for name in config if name != "format"}
    return shown | present({"response_format": config.get("format")})


def _messages(message: Any) -> list[Any]:
    """The messages that one of Anthropic's stands for: tool results are messages of their own."""
    if not isinstance(mapping(message).get("content"), list):
        return [message]
    found: list[Any] = []
    blocks: list[Any] = []
    for block in message["content"]:
        if mapping(block).get("type") == "tool_result":
            if blocks:
                found.append(_message({**message, "content": blocks}))
                blocks = []
            result = {n: v for n, v in block.items() if n not in ("type", "tool_use_id", "content")}
            answered = {"tool_call_id": block.get("tool_use_id"), "content": block.get("content")}
            found.append({"role": "tool", **answered, **result})
        else:
            blocks.append(block)
    return [*found, _message({**message, "content": blocks})] if blocks else found or [message]


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """A message with its thinking and tool calls beside its content; blocks of another kind, such
    as images, documents, server tools and their results, stay in the content as they are."""
    beside: dict[str, list[Any]] = {"thinking": [], "redacted_thinking": [], "tool_calls": []}
    content: list[Any] = []
    for block in message["content"]:
        kind = mapping(block).get("type")
        if kind == "thinking":
            rest = {n: v for n, v in present(block).items() if n not in ("type", "thinking")}
            thought = {"type": "thinking", "content": block.get("thinking") or ""}
            beside["thinking"].append({**thought, **rest})
        elif kind == "redacted_thinking":
            beside["redacted_thinking"].append(block)
        elif kind == "tool_use":
            written = block.get("input")
            arguments = written if isinstance(written, str) else to_json(written or {})
            beside["tool_calls"].append(tool_call(block.get("id"), block.get("name"), arguments))
        elif kind == "text":
            content += [present(block)] if block.get("text") else []
        else:
            content.append(block)
    if len(content) == 1 and mapping(content[0]).keys() == {"type", "text"}:
        content = content[0]["text"]
    return {**message, "content": content or None, **present(beside)}


def _output(reply: dict[str, Any]) -> dict[str, Any] | None:
    if not isinstance(reply["content"], list):
        raise TypeError("content is not a list")
    if not reply["content"] and "role" not in reply:
        return None
    return _message({"role": reply.get("role") or "assistant", "content": reply["content"]})


def _metadata(reply: dict[str, Any]) -> dict[str, Any]:
    return present(
        {
            "finish_reason": reply.get("stop_reason"),
            "stop_sequence": reply.get("stop_sequence"),
            "stop_details": reply.get("stop_details"),
            "response_id": reply.get("id"),
            "container": reply.get("container"),
            "server_tool_use": mapping(reply.get("usage")).get("server_tool_use"),
        }
    )
