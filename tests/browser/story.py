"""A morning of a shop's help desk: requests, and a provider that answers each as it is written.

`app()` is the provider, `tell(gateway)` sends the requests through a gateway that reaches it as
openai, anthropic and groq. All texts are written for this.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import httpx
from aiohttp import web

Scene = Callable[[web.Request], Awaitable[web.StreamResponse]]

LOOK_UP = {
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
DESK = "You answer for Fernweh Outdoor. Be brief and kind. Look up orders before you speak of them."
ASKED = "Hi, my tent (order 4711) should have come on Friday. Where is it?"
CALL: dict[str, Any] = {
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
FOUND = (
    "Your tent is on its way: snow has held up Alpenpost, and it is now expected tomorrow between "
    "9 and 12.\n\nIf nobody is at home then, tell me a neighbour's name and I will pass it on."
)
RETURN = (
    "Can a customer who opened the stove's box 20 days ago still send it back? Policy attached."
)
THOUGHT = (
    "The policy gives 30 days for a return. An opened box is fine unless the item was used with "
    "fuel. I don't know whether it was, so the answer depends on that: I should ask for it, and "
    "say what follows either way."
)
ADVICE = (
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


def _sse(events: Iterable[Any], named: bool) -> Iterator[bytes]:
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        yield f"{name}data: {json.dumps(event)}\n\n".encode()


def _streamed(
    events: list[Any], first: float, step: float, *, named: bool = False, done: bool = True
) -> Scene:
    async def scene(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(first)
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        for event in _sse(events, named):
            await reply.write(event)
            await asyncio.sleep(step)
        if done and not named:
            await reply.write(b"data: [DONE]\n\n")
        return reply

    return scene


def _whole(body: Any, after: float, status: int = 200) -> Scene:
    async def scene(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(after)
        return web.json_response(body, status=status)

    return scene


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


def _counts(given: int, made: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
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

    thoughts = [{"type": "thinking_delta", "thinking": word} for word in _words(THOUGHT)]
    texts = [{"type": "text_delta", "text": word} for word in _words(ADVICE)]
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


def _answer(model: str, text: str, usage: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "model": model, "choices": [choice], "usage": usage}


_DELTAS = [{"role": "assistant", "content": ""}, *({"content": word} for word in _words(FOUND))]
_CALL_DELTAS = [
    {"role": "assistant", "content": None},
    {"tool_calls": [{"index": 0, **CALL, "function": {**CALL["function"], "arguments": ""}}]},
    *(
        {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        for piece in ('{"number": "4711", ', '"fields": ["status", "delivery"]}')
    ),
]
# What the provider says, by the scene that a request names; the first word is a provider's slug.
SCENES: dict[str, Scene] = {
    "call": _streamed(
        _chat("gpt-4o-mini", _CALL_DELTAS, "tool_calls", _counts(318, 24, cached=256)), 0.24, 0.02
    ),
    "found": _streamed(
        _chat("gpt-4o-mini", _DELTAS, "stop", _counts(402, 58, cached=256)), 0.31, 0.015
    ),
    "thinking": _streamed(_anthropic(), 0.42, 0.012, named=True),
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
            _counts(961, 41),
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
        _answer(
            "gpt-4o", "The pole sleeve is torn at the seam. It can be sewn.", _counts(1105, 14)
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
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHT}]},
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
    """The provider: it plays the scene that a request's `x-scene` names for it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        scenes = json.loads(request.headers["x-scene"])
        return await SCENES[scenes[request.match_info["provider"]]](request)

    application = web.Application()
    application.router.add_post("/{provider}/v1/{path:.*}", answer)
    return application


def providers(url: str) -> str:
    """A value of `PROVIDERS` with this provider in the place of three."""
    return json.dumps({s: {"base_url": f"{url}/{s}/v1"} for s in ("openai", "anthropic", "groq")})


CHAT = "/v1/chat/completions"
FALLBACK = {
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
ASK = [{"role": "system", "content": DESK}, {"role": "user", "content": ASKED}]
POLICY = "Returns within 30 days. Opened boxes are accepted; items used with fuel are not."


def requests() -> list[tuple[str, dict[str, str], dict[str, Any], dict[str, str]]]:
    """Path, headers, body, and the scene for each provider that is asked."""
    streamed = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0.2}
    mini = {"model": "gpt-4o-mini", **streamed, "tools": [LOOK_UP]}
    ana = {"langfuse-user-id": "ana", "langfuse-session-id": "desk-118"}
    ben = {"langfuse-user-id": "ben", "langfuse-session-id": "desk-119"}
    photo = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    question = {"type": "text", "text": "What is broken here, and can it be mended?"}
    answered = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": CALL["id"], "content": json.dumps(ORDER)},
    ]
    claude = {"model": "claude-opus-4-6", "max_tokens": 2048, "stream": True}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    policy = [{"type": "text", "text": POLICY}, {"type": "text", "text": RETURN}]
    return [
        (
            "/v1/embeddings",
            {"langfuse-trace-name": "index the help pages"},
            {"model": "text-embedding-3-small", "input": ["Where is my tent?", "Sizes of jackets"]},
            {"openai": "vectors"},
        ),
        (
            "/v1/responses",
            ben | {"langfuse-trace-name": "refund or not"},
            {"model": "o4-mini", "instructions": DESK, "input": RETURN},
            {"openai": "reasoned"},
        ),
        (
            "/v1/messages",
            {"langfuse-user-id": "import-job", "langfuse-trace-name": "label old tickets"},
            {"model": "claude-haiku-4-5", "messages": ASK[1:]},
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
            ben | {"langfuse-trace-name": "advise on a return"},
            {**claude, **thinking, "messages": [{"role": "user", "content": policy}]},
            {"anthropic": "thinking"},
        ),
        (
            CHAT,
            {"langfuse-user-id": "shift-report", "langfuse-trace-name": "summarise the morning"}
            | {"x-portkey-config": json.dumps(FALLBACK)},
            {**mini, "tools": None, "messages": [{"role": "user", "content": "Sum up my shift."}]},
            {"openai": "busy", "groq": "summary"},
        ),
        (
            CHAT,
            ana | {"langfuse-trace-name": "help desk"},
            {**mini, "messages": ASK},
            {"openai": "call"},
        ),
        (
            CHAT,
            ana | {"langfuse-trace-name": "help desk", "langfuse-tags": "delivery,winter"},
            {**mini, "messages": answered},
            {"openai": "found"},
        ),
    ]


def tell(gateway: str, only: Callable[[str], bool] = lambda name: True) -> None:
    """Sends the requests, one after the other; `only` chooses them by their trace's name."""
    with httpx.Client(base_url=gateway, timeout=30) as client:
        for path, headers, body, scenes in requests():
            if only(headers["langfuse-trace-name"]):
                sent = {"authorization": "Bearer sk-story-0123456789", **headers}
                content = {name: value for name, value in body.items() if value is not None}
                client.post(path, headers={**sent, "x-scene": json.dumps(scenes)}, json=content)
