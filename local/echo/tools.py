"""Tool calls of the echo provider: when it makes one, and the replies in their wire formats.

It calls a tool if the user's last text contains `NAME({...})`, with the arguments as JSON, and the
request offers a tool of that name.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from local.echo import replies
from local.echo.replies import HOLE, EchoRequest, Reply, Stream, encode

Shapes = tuple[Callable[[EchoRequest], dict[str, Any]], Callable[[EchoRequest], Stream]]

# Length of the arguments' part in each event of a stream.
PIECE_CHARS = 8
_CALL = re.compile(r"([\w-]+)\((?=\{)")
_DECODER = json.JSONDecoder()


def tool_results(message: dict[str, Any]) -> Any:
    """What tools returned, as the content of a message; None for a message without results.

    In the chat format a result is a message, in the Responses API an item, and in Anthropic's
    format a block of a user's message.
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


def requested_call(body: dict[str, Any], text: str) -> tuple[str, Reply] | None:
    """The name of the tool to call, and the reply with the arguments; None for no call.

    `text` is the last text of the request. A request that ends with a tool's result gets no call.
    """
    messages = body.get("messages", body.get("input"))
    last = messages[-1] if isinstance(messages, list) and messages else {}
    if not isinstance(last, dict) or tool_results(last) is not None:
        return None
    names = _tool_names(body.get("tools"))
    for match in _CALL.finditer(text) if names else ():
        try:
            _, end = _DECODER.raw_decode(text, match.end())
        except ValueError:
            continue
        if match[1] in names and text[end : end + 1] == ")":
            arguments = text[match.end() : end]
            pieces = (arguments[i : i + PIECE_CHARS] for i in range(0, len(arguments), PIECE_CHARS))
            return match[1], Reply(arguments, tuple(map(encode, pieces)), len(arguments.split()))
    return None


def _tool_names(tools: Any) -> set[str]:
    listed = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    functions = (tool.get("function", tool) for tool in listed)
    return {str(function.get("name")) for function in functions if isinstance(function, dict)}


def _chat_call(request: EchoRequest, arguments: str) -> dict[str, Any]:
    function = {"name": request.tool, "arguments": arguments}
    return {"id": f"call_{request.id}", "type": "function", "function": function}


def chat(request: EchoRequest) -> dict[str, Any]:
    """A `chat.completion` whose message calls the tool."""
    whole = replies.chat(request)
    (choice,) = whole["choices"]
    call = {"content": None, "tool_calls": [_chat_call(request, request.reply.text)]}
    message = choice["message"] | call
    return whole | {"choices": [choice | {"message": message, "finish_reason": "tool_calls"}]}


def chat_stream(request: EchoRequest) -> Stream:
    """`chat.completion.chunk`s: the call with the tool's name, then the arguments in pieces."""

    def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}

    started_call = {"index": 0, **_chat_call(request, "")}
    piece = {"index": 0, "function": {"arguments": HOLE}}
    return replies.openai_stream(
        request,
        replies.chat_frame(request, "chat.completion.chunk"),
        {
            "opening": [
                choice({"role": "assistant", "content": None, "tool_calls": [started_call]})
            ],
            "piece": [choice({"tool_calls": [piece]})],
            "closing": [choice({}, "tool_calls")],
        },
    )


def _use(request: EchoRequest, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": f"toolu_{request.id}",
        "name": request.tool,
        "input": arguments,
    }


def message(request: EchoRequest) -> dict[str, Any]:
    """An Anthropic `message` with one `tool_use` block."""
    use = _use(request, json.loads(request.reply.text))
    return replies.message(request) | {"content": [use], "stop_reason": "tool_use"}


def message_stream(request: EchoRequest) -> Stream:
    """Anthropic's events for a message with one `tool_use` block."""
    piece = {"type": "input_json_delta", "partial_json": HOLE}
    return replies.message_events(request, message(request), _use(request, {}), piece)


def _response_call(request: EchoRequest, status: str, arguments: str) -> dict[str, Any]:
    return {
        "id": f"fc_{request.id}",
        "type": "function_call",
        "status": status,
        "call_id": f"call_{request.id}",
        "name": request.tool,
        "arguments": arguments,
    }


def response(request: EchoRequest) -> dict[str, Any]:
    """A Responses API `response` with one function call."""
    call = _response_call(request, "completed", request.reply.text)
    return replies.response_frame(request, "completed", [call])


def response_stream(request: EchoRequest) -> Stream:
    """The Responses API's events for a response with one function call."""
    place = {"item_id": f"fc_{request.id}", "output_index": 0}
    started = replies.response_frame(request, "in_progress", [])
    call = _response_call(request, "completed", request.reply.text)
    started_call = _response_call(request, "in_progress", "")
    opening: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": started_call},
    ]
    closing: list[dict[str, Any]] = [
        {
            "type": "response.function_call_arguments.done",
            **place,
            "name": request.tool,
            "arguments": request.reply.text,
        },
        {"type": "response.output_item.done", "output_index": 0, "item": call},
        {"type": "response.completed", "response": response(request)},
    ]
    delta = {"type": "response.function_call_arguments.delta", **place, "delta": HOLE}
    after = len(opening) + len(request.reply.pieces)
    return Stream(
        [replies.numbered_event(event, number) for number, event in enumerate(opening)],
        replies.numbered_piece_events(delta, request.reply.pieces, len(opening)),
        [replies.numbered_event(event, number) for number, event in enumerate(closing, after)],
    )
