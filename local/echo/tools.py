"""How the echo provider calls tools: when, and the wire shapes, whole and streamed.

It calls the tool that the user's last text says it should, `NAME({...})` with the arguments as
JSON, if the request offers one of that name.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from local.echo import shapes
from local.echo.shapes import HOLE, Ask, Reply, Stream, encode

Shapes = tuple[Callable[[Ask], dict[str, Any]], Callable[[Ask], Stream]]

PIECE = 8  # characters of the arguments in each event of a stream
_ORDER = re.compile(r"([\w-]+)\((?=\{)")
_DECODER = json.JSONDecoder()


def returned(message: dict[str, Any]) -> Any:
    """What tools returned in a message or item, as a message's content; None if it is no such.

    In chat it is a message, in responses an item, and in messages blocks of a user's message.
    """
    if message.get("role") == "tool":
        return message.get("content") or ""
    if message.get("type") == "function_call_output":
        return message.get("output") or ""
    content = message.get("content")
    blocks = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
    results = [b.get("content") for b in blocks if b.get("type") == "tool_result"]
    if not results:
        return None
    return [
        part
        for result in results
        for part in (result if isinstance(result, list) else [{"text": result}])
    ]


def ordered(body: dict[str, Any], text: str) -> tuple[str, Reply] | None:
    """The tool to call and its arguments, by what was said last; None for no call."""
    messages = body.get("messages", body.get("input"))
    last = messages[-1] if isinstance(messages, list) and messages else {}
    if not isinstance(last, dict) or returned(last) is not None:
        return None
    names = _names(body.get("tools"))
    for found in _ORDER.finditer(text) if names else ():
        try:
            _, end = _DECODER.raw_decode(text, found.end())
        except ValueError:
            continue
        if found[1] in names and text[end : end + 1] == ")":
            arguments = text[found.end() : end]
            pieces = (arguments[i : i + PIECE] for i in range(0, len(arguments), PIECE))
            return found[1], Reply(arguments, tuple(map(encode, pieces)), len(arguments.split()))
    return None


def _names(tools: Any) -> set[str]:
    listed = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    functions = (tool.get("function", tool) for tool in listed)
    return {str(function.get("name")) for function in functions if isinstance(function, dict)}


def _chat_call(ask: Ask, arguments: str) -> dict[str, Any]:
    function = {"name": ask.tool, "arguments": arguments}
    return {"id": f"call_{ask.id}", "type": "function", "function": function}


def chat(ask: Ask) -> dict[str, Any]:
    """A `chat.completion` whose message is a tool call."""
    whole = shapes.chat(ask)
    (choice,) = whole["choices"]
    call = {"content": None, "tool_calls": [_chat_call(ask, ask.reply.text)]}
    message = choice["message"] | call
    return whole | {"choices": [choice | {"message": message, "finish_reason": "tool_calls"}]}


def chat_stream(ask: Ask) -> Stream:
    """`chat.completion.chunk`s: the call with its name, then the arguments in pieces."""

    def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}

    begun = {"index": 0, **_chat_call(ask, "")}
    piece = {"index": 0, "function": {"arguments": HOLE}}
    return shapes.openai_stream(
        ask,
        shapes.chat_frame(ask, "chat.completion.chunk"),
        {
            "opening": [choice({"role": "assistant", "content": None, "tool_calls": [begun]})],
            "piece": [choice({"tool_calls": [piece]})],
            "closing": [choice({}, "tool_calls")],
        },
    )


def _use(ask: Ask, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{ask.id}", "name": ask.tool, "input": arguments}


def message(ask: Ask) -> dict[str, Any]:
    """An Anthropic `message` of one `tool_use` block."""
    use = _use(ask, json.loads(ask.reply.text))
    return shapes.message(ask) | {"content": [use], "stop_reason": "tool_use"}


def message_stream(ask: Ask) -> Stream:
    """Anthropic's events for one `tool_use` block."""
    piece = {"type": "input_json_delta", "partial_json": HOLE}
    return shapes.message_events(ask, message(ask), _use(ask, {}), piece)


def _response_call(ask: Ask, status: str, arguments: str) -> dict[str, Any]:
    return {
        "id": f"fc_{ask.id}",
        "type": "function_call",
        "status": status,
        "call_id": f"call_{ask.id}",
        "name": ask.tool,
        "arguments": arguments,
    }


def response(ask: Ask) -> dict[str, Any]:
    """A Responses API `response` of one function call."""
    call = _response_call(ask, "completed", ask.reply.text)
    return shapes.response_frame(ask, "completed", [call])


def response_stream(ask: Ask) -> Stream:
    """The Responses API's events for one function call."""
    place = {"item_id": f"fc_{ask.id}", "output_index": 0}
    started = shapes.response_frame(ask, "in_progress", [])
    call = _response_call(ask, "completed", ask.reply.text)
    begun = _response_call(ask, "in_progress", "")
    opening: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
    ]
    closing: list[dict[str, Any]] = [
        {
            "type": "response.function_call_arguments.done",
            **place,
            "name": ask.tool,
            "arguments": ask.reply.text,
        },
        {"type": "response.output_item.done", "output_index": 0, "item": call},
        {"type": "response.completed", "response": response(ask)},
    ]
    delta = {"type": "response.function_call_arguments.delta", **place, "delta": HOLE}
    after = len(opening) + len(ask.reply.pieces)
    return Stream(
        [shapes.numbered(event, number) for number, event in enumerate(opening)],
        shapes.numbered_pieces(delta, ask.reply.pieces, len(opening)),
        [shapes.numbered(event, number) for number, event in enumerate(closing, after)],
    )
