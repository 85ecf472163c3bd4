"""Example requests of a shop's help desk, and a provider with a scripted reply for each.

`app()` is the provider. `send_requests(url)` sends the requests through a gateway that calls it as
openai, anthropic and groq. All texts are written for this.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import httpx
from aiohttp import web

Responder = Callable[[web.Request], Awaitable[web.StreamResponse]]

LOOK_UP_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up_order",
        "description": "Status, contents and delivery of an order",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string"}, "fields": {"type": "array"}},
            "required": ["number"],
        },
    },
}
INSTRUCTIONS = (
    "You answer for Fernweh Outdoor. Be brief and kind. Look up orders before you speak of them."
)
ORDER_QUESTION = "Hi, my tent (order 4711) should have come on Friday. Where is it?"
TOOL_CALL: dict[str, Any] = {
    "id": "call_Zt81",
    "type": "function",
    "function": {
        "name": "look_up_order",
        "arguments": '{"number": "4711", "fields": ["status", "delivery"]}',
    },
}
ORDER = {
    "number": "4711",
    "status": "in transit",
    "delivery": {"carrier": "Alpenpost", "expected": "tomorrow, 9 to 12", "delayed_by": "snow"},
}
ORDER_REPLY = (
    "Your tent is on its way: snow has held up Alpenpost, and it is now expected tomorrow between "
    "9 and 12.\n\nIf nobody is at home then, tell me a neighbour's name and I will pass it on."
)
RETURN_QUESTION = (
    "Can a customer who opened the stove's box 20 days ago still send it back? Policy attached."
)
THINKING = (
    "The policy gives 30 days for a return. An opened box is fine unless the item was used with "
    "fuel. I don't know whether it was, so the answer depends on that: I should ask for it, and "
    "say what follows either way."
)
RETURN_REPLY = (
    "Yes, if it was not used with fuel.\n\n"
    "1. 20 days are within the 30 that the policy gives.\n"
    "2. An opened box alone is no reason to refuse.\n"
    "3. With traces of fuel it can't be sold again; offer a repair instead.\n\n"
    "Ask the customer whether the stove was ever lit."
)
SUMMARY = (
    "Three questions this morning: a delayed tent (4711, now tomorrow), a stove to be sent back, "
    "and a jacket in the wrong size. Nothing is left open."
)


def _sse(events: Iterable[Any], has_event_names: bool) -> Iterator[bytes]:
    for event in events:
        name = f"event: {event['type']}\n" if has_event_names else ""
        yield f"{name}data: {json.dumps(event)}\n\n".encode()


def _streamed(
    events: list[Any],
    first_delay: float,
    delay: float,
    *,
    has_event_names: bool = False,
    has_done: bool = True,
) -> Responder:
    async def respond(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(first_delay)
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        for event in _sse(events, has_event_names):
            await reply.write(event)
            await asyncio.sleep(delay)
        if has_done and not has_event_names:
            await reply.write(b"data: [DONE]\n\n")
        return reply

    return respond


def _whole(body: Any, delay: float, status: int = 200) -> Responder:
    async def respond(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(delay)
        return web.json_response(body, status=status)

    return respond


def _words(text: str) -> list[str]:
    return [part if part.endswith("\n") else f"{part} " for part in text.split(" ")]


def _chat(model: str, deltas: list[dict[str, Any]], finish: str, usage: dict[str, Any]) -> list:
    frame = {"id": "chatcmpl-9f2", "object": "chat.completion.chunk", "model": model}
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    end = [{"index": 0, "delta": {}, "finish_reason": finish}]
    return [
        *({**frame, "choices": [choice]} for choice in choices),
        {**frame, "choices": end},
        {**frame, "choices": [], "usage": usage},
    ]


def _usage(
    prompt_tokens: int, completion_tokens: int, cached: int = 0, reasoning: int = 0
) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _anthropic() -> list[Any]:
    usage = {"input_tokens": 412, "cache_read_input_tokens": 2048, "output_tokens": 1}
    message = {"id": "msg_01", "type": "message", "role": "assistant", "content": []}
    started = {**message, "model": "claude-opus-4-6", "usage": usage}

    def block(index: int, start: dict[str, Any], deltas: list[dict[str, Any]]) -> list[Any]:
        return [
            {"type": "content_block_start", "index": index, "content_block": start},
            *({"type": "content_block_delta", "index": index, "delta": d} for d in deltas),
            {"type": "content_block_stop", "index": index},
        ]

    thoughts = [{"type": "thinking_delta", "thinking": word} for word in _words(THINKING)]
    texts = [{"type": "text_delta", "text": word} for word in _words(RETURN_REPLY)]
    return [
        {"type": "message_start", "message": started},
        *block(0, {"type": "thinking", "thinking": ""}, thoughts),
        *block(1, {"type": "text", "text": ""}, texts),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {**usage, "output_tokens": 187},
        },
        {"type": "message_stop"},
    ]


def _chat_reply(model: str, text: str, usage: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "model": model, "choices": [choice], "usage": usage}


_ORDER_REPLY_DELTAS = [
    {"role": "assistant", "content": ""},
    *({"content": word} for word in _words(ORDER_REPLY)),
]
_CALL_DELTAS = [
    {"role": "assistant", "content": None},
    {
        "tool_calls": [
            {"index": 0, **TOOL_CALL, "function": {**TOOL_CALL["function"], "arguments": ""}}
        ]
    },
    *(
        {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        for piece in ('{"number": "4711", ', '"fields": ["status", "delivery"]}')
    ),
]
# The provider's replies by name. A request's `x-reply-name` names one for each provider's slug.
RESPONDERS: dict[str, Responder] = {
    "call": _streamed(
        _chat("gpt-4o-mini", _CALL_DELTAS, "tool_calls", _usage(318, 24, cached=256)), 0.24, 0.02
    ),
    "found": _streamed(
        _chat("gpt-4o-mini", _ORDER_REPLY_DELTAS, "stop", _usage(402, 58, cached=256)), 0.31, 0.015
    ),
    "thinking": _streamed(_anthropic(), 0.42, 0.012, has_event_names=True),
    "busy": _whole(
        {"error": {"message": "Rate limit reached for requests per min.", "type": "requests"}},
        0.18,
        429,
    ),
    "summary": _streamed(
        _chat(
            "llama-3.3-70b-versatile",
            [{"role": "assistant", "content": ""}, *({"content": w} for w in _words(SUMMARY))],
            "stop",
            _usage(961, 41),
        ),
        0.15,
        0.009,
    ),
    "vectors": _whole(
        {
            "object": "list",
            "model": "text-embedding-3-small",
            "data": [{"index": i, "embedding": [0.1] * 512} for i in range(2)],
            "usage": {"prompt_tokens": 17, "total_tokens": 17},
        },
        0.12,
    ),
    "photo": _whole(
        _chat_reply(
            "gpt-4o", "The pole sleeve is torn at the seam. It can be sewn.", _usage(1105, 14)
        ),
        0.71,
    ),
    "wrong": _whole(
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "max_tokens: Field required"},
        },
        0.07,
        400,
    ),
    "reasoned": _whole(
        {
            "id": "resp_1",
            "object": "response",
            "status": "completed",
            "model": "o4-mini",
            "output": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": THINKING}]},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Refund it in full."}],
                },
            ],
            "usage": {
                "input_tokens": 640,
                "output_tokens": 212,
                "total_tokens": 852,
                "output_tokens_details": {"reasoning_tokens": 192},
            },
        },
        0.66,
    ),
}
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJg"
)


def app() -> web.Application:
    """The provider: it sends the reply that the header `x-reply-name` names for its slug."""

    async def respond(request: web.Request) -> web.StreamResponse:
        reply_names = json.loads(request.headers["x-reply-name"])
        return await RESPONDERS[reply_names[request.match_info["provider"]]](request)

    application = web.Application()
    application.router.add_post("/{provider}/v1/{path:.*}", respond)
    return application


def providers(url: str) -> str:
    """A value of `PROVIDERS` in which openai, anthropic and groq are this provider."""
    return json.dumps({s: {"base_url": f"{url}/{s}/v1"} for s in ("openai", "anthropic", "groq")})


CHAT = "/v1/chat/completions"
FALLBACK_CONFIG = {
    "strategy": {"mode": "fallback", "on_status_codes": [429, 503]},
    "targets": [
        {"provider": "openai", "api_key": "sk-story-0123456789"},
        {
            "provider": "groq",
            "api_key": "gsk-story-0123456789",
            "override_params": {"model": "llama-3.3-70b-versatile"},
        },
    ],
}
QUESTION_MESSAGES = [
    {"role": "system", "content": INSTRUCTIONS},
    {"role": "user", "content": ORDER_QUESTION},
]
POLICY = "Returns within 30 days. Opened boxes are accepted; items used with fuel are not."


def requests() -> list[tuple[str, dict[str, str], dict[str, Any], dict[str, str]]]:
    """Path, headers and body of each request, and the name of the reply of each provider."""
    streamed = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0.2}
    gpt_mini = {"model": "gpt-4o-mini", **streamed, "tools": [LOOK_UP_TOOL]}
    ana_headers = {"langfuse-user-id": "ana", "langfuse-session-id": "desk-118"}
    ben_headers = {"langfuse-user-id": "ben", "langfuse-session-id": "desk-119"}
    photo = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    question = {"type": "text", "text": "What is broken here, and can it be mended?"}
    messages_with_result = [
        *QUESTION_MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
        {"role": "tool", "tool_call_id": TOOL_CALL["id"], "content": json.dumps(ORDER)},
    ]
    claude = {"model": "claude-opus-4-6", "max_tokens": 2048, "stream": True}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    policy = [{"type": "text", "text": POLICY}, {"type": "text", "text": RETURN_QUESTION}]
    return [
        (
            "/v1/embeddings",
            {"langfuse-trace-name": "index the help pages"},
            {"model": "text-embedding-3-small", "input": ["Where is my tent?", "Sizes of jackets"]},
            {"openai": "vectors"},
        ),
        (
            "/v1/responses",
            ben_headers | {"langfuse-trace-name": "refund or not"},
            {"model": "o4-mini", "instructions": INSTRUCTIONS, "input": RETURN_QUESTION},
            {"openai": "reasoned"},
        ),
        (
            "/v1/messages",
            {"langfuse-user-id": "import-job", "langfuse-trace-name": "label old tickets"},
            {"model": "claude-haiku-4-5", "messages": QUESTION_MESSAGES[1:]},
            {"anthropic": "wrong"},
        ),
        (
            CHAT,
            {"langfuse-user-id": "cleo", "langfuse-session-id": "desk-120"}
            | {"langfuse-trace-name": "look at a photo"},
            {"model": "gpt-4o", "messages": [{"role": "user", "content": [question, photo]}]},
            {"openai": "photo"},
        ),
        (
            "/v1/messages",
            ben_headers | {"langfuse-trace-name": "advise on a return"},
            {**claude, **thinking, "messages": [{"role": "user", "content": policy}]},
            {"anthropic": "thinking"},
        ),
        (
            CHAT,
            {"langfuse-user-id": "shift-report", "langfuse-trace-name": "summarise the morning"}
            | {"x-portkey-config": json.dumps(FALLBACK_CONFIG)},
            {
                **gpt_mini,
                "tools": None,
                "messages": [{"role": "user", "content": "Sum up my shift."}],
            },
            {"openai": "busy", "groq": "summary"},
        ),
        (
            CHAT,
            ana_headers | {"langfuse-trace-name": "help desk"},
            {**gpt_mini, "messages": QUESTION_MESSAGES},
            {"openai": "call"},
        ),
        (
            CHAT,
            ana_headers | {"langfuse-trace-name": "help desk", "langfuse-tags": "delivery,winter"},
            {**gpt_mini, "messages": messages_with_result},
            {"openai": "found"},
        ),
    ]


def send_requests(gateway_url: str, is_selected: Callable[[str], bool] = lambda name: True) -> None:
    """Send the requests one after the other; `is_selected` filters them by their trace's name."""
    with httpx.Client(base_url=gateway_url, timeout=30) as client:
        for path, headers, body, reply_names in requests():
            if is_selected(headers["langfuse-trace-name"]):
                all_headers = {"authorization": "Bearer sk-story-0123456789", **headers}
                content = {name: value for name, value in body.items() if value is not None}
                client.post(
                    path,
                    headers={**all_headers, "x-reply-name": json.dumps(reply_names)},
                    json=content,
                )
