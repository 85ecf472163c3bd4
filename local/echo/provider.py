"""A provider that says back what it was told: the demo's, the tests' and the benchmark's.

It speaks OpenAI's chat, completions, embeddings, responses and models, and Anthropic's messages
and token counts, needs no credential and has no model. Tokens are words.

How a reply comes can be set in three places. The first that names a setting counts:

| setting    | header            | query             | end of the model's name |
|------------|-------------------|-------------------|-------------------------|
| pause      | `x-echo-delay-ms` | `x-echo-delay-ms` | `gpt-4o?delay-ms=100`   |
| pieces     | `x-echo-chunks`   | `x-echo-chunks`   | `gpt-4o?chunks=20`      |
| characters | `x-echo-length`   | `x-echo-length`   | `gpt-4o?length=5000`    |
| failure    | `x-echo-status`   | `x-echo-status`   | `gpt-4o?status=429`     |

The pause comes before each piece of a stream and before a whole reply.

It calls a tool of the request's where the user's text says how, as in `Please ask
get_weather({"city": "Paris"})`, and says back what the tool returned.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from aiohttp import web

from local.echo import shapes, tools
from local.echo.shapes import Ask, Stream, encode

MAX_BODY_BYTES = 64 * 1024 * 1024
MODELS = ("gpt-4o-mini", "text-embedding-3-small", "claude-sonnet-5-5")
RELEASED = 1_721_172_741

# What the reply is made of; the rest of a request may be anything.
TYPES = {
    "model": str,
    "messages": list,
    "prompt": str | list,
    "input": str | list,
    "dimensions": int,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """A request that gets an error in its dialect's shape."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Dialect:
    """One endpoint: what a request must have, what it says, and the shapes of the reply."""

    required: tuple[str, ...]
    said: Callable[[dict[str, Any]], list[str]]
    whole: Callable[[Ask], dict[str, Any]]
    stream: Callable[[Ask], Stream] | None
    date: str
    call: tools.Shapes | None = None


def _text(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))


def _said_in_messages(body: dict[str, Any]) -> list[str]:
    """All texts of a conversation; at the end, where the reply looks for it, what the user or a
    tool said last."""
    texts, last = [_text(body.get("system") or body.get("instructions"))], ""
    messages = body.get("messages", body.get("input"))
    if isinstance(messages, str):
        return [*texts, messages]
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict):
            continue
        returned = tools.returned(message)
        text = _text(message.get("content")) if returned is None else _text(returned)
        if text and (message.get("role") == "user" or returned is not None):
            text, last = last, text
        texts.append(text)
    return [*texts, last]


def _said_in_list(name: str) -> Callable[[dict[str, Any]], list[str]]:
    """For a prompt or an input: a string, strings, or tokens, each of which counts as a word."""

    def said(body: dict[str, Any]) -> list[str]:
        value = body[name]
        items = value if isinstance(value, list) else [value]
        return [" ".join(map(str, item)) if isinstance(item, list) else str(item) for item in items]

    return said


OPENAI_DATE, ANTHROPIC_DATE = "-2024-07-18", "-20250929"
DIALECTS = {
    "/v1/chat/completions": Dialect(
        ("model", "messages"),
        _said_in_messages,
        shapes.chat,
        shapes.chat_stream,
        OPENAI_DATE,
        (tools.chat, tools.chat_stream),
    ),
    "/v1/completions": Dialect(
        ("model", "prompt"),
        _said_in_list("prompt"),
        shapes.completion,
        shapes.completion_stream,
        OPENAI_DATE,
    ),
    "/v1/embeddings": Dialect(
        ("model", "input"), _said_in_list("input"), shapes.embeddings, None, ""
    ),
    "/v1/responses": Dialect(
        ("model", "input"),
        _said_in_messages,
        shapes.response,
        shapes.response_stream,
        OPENAI_DATE,
        (tools.response, tools.response_stream),
    ),
    "/v1/messages": Dialect(
        ("model", "max_tokens", "messages"),
        _said_in_messages,
        shapes.message,
        shapes.message_stream,
        ANTHROPIC_DATE,
        (tools.message, tools.message_stream),
    ),
}


def app(delay_ms: float = 30) -> web.Application:
    """The provider as an application; `delay_ms` is the pause where a request sets none."""

    async def answer(request: web.Request) -> web.StreamResponse:
        dialect = DIALECTS[request.path]
        body = await _body(request, dialect.required)
        model, _, suffix = body["model"].partition("?")
        settings = _Settings(request, suffix)
        status = settings.number("status", None, 400, 599)
        if status is not None:
            raise Refused(status, f"The echo provider was asked to fail with status {status}.")
        pause = settings.number("delay-ms", delay_ms, 0, 600_000) / 1000
        texts = dialect.said(body)
        ask = Ask(
            id=uuid4().hex[:24],
            created=int(time.time()),
            model=_dated(model, dialect.date),
            body=body,
            prompt_words=sum(len(text.split()) for text in texts),
            reply=shapes.compose(
                texts[-1] if texts else "",
                settings.number("length", None, 0, 50_000_000),
                settings.number("chunks", None, 1, 1_000_000),
            ),
        )
        whole, stream = dialect.whole, dialect.stream
        if dialect.call and (ordered := tools.ordered(body, texts[-1])):
            ask = replace(ask, tool=ordered[0], reply=ordered[1])
            whole, stream = dialect.call
        if body.get("stream") is True and stream:
            return await _send(request, stream(ask), pause, ask.id)
        if pause:
            await asyncio.sleep(pause)
        return _json(request, whole(ask), request_id=ask.id)

    application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
    for path in DIALECTS:
        application.router.add_post(path, answer)
    application.router.add_post("/v1/messages/count_tokens", _count_tokens)
    application.router.add_get("/v1/models", _models)
    return application


class _Settings:
    """Where a request says how it wants to be answered; see the module's table."""

    def __init__(self, request: web.Request, suffix: str) -> None:
        self._request = request
        self._in_model = dict(parse_qsl(suffix)) if suffix else {}

    def number(self, name: str, default: Any, least: int, most: int) -> Any:
        headers, query, full = self._request.headers, self._request.query, f"x-echo-{name}"
        value = headers.get(full) or query.get(full) or self._in_model.get(name)
        if value is None:
            return default
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            raise Refused(400, f"{full} takes a whole number from {least} to {most}.")
        return int(value)


async def _body(request: web.Request, required: tuple[str, ...]) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError:
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The JSON body of your request must be an object.")
    for name in required:
        if body.get(name) is None:
            raise Refused(400, f"Missing required parameter: '{name}'.")
    for name, kind in TYPES.items():
        if name in body and body[name] is not None and not isinstance(body[name], kind):
            raise Refused(400, f"Invalid type for '{name}'.")
    return body


def _dated(model: str, date: str) -> str:
    """The name a provider answers with: `gpt-4o-mini` is served by `gpt-4o-mini-2024-07-18`."""
    return model if re.search(r"\d{4}-?\d\d-?\d\d$", model) else model + date


async def _send(
    request: web.Request, stream: Stream, pause: float, request_id: str
) -> web.StreamResponse:
    reply = web.StreamResponse(
        headers={
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            _request_id_header(request): f"req_{request_id}",
        }
    )
    await reply.prepare(request)
    for event in stream.opening:
        await reply.write(event)
    for event in stream.pieces:
        if pause:
            await asyncio.sleep(pause)
        await reply.write(event)
    for event in stream.closing:
        await reply.write(event)
    await reply.write_eof()
    return reply


def _is_anthropic(request: web.Request) -> bool:
    return request.path.startswith("/v1/messages") or "anthropic-version" in request.headers


def _request_id_header(request: web.Request) -> str:
    return "request-id" if _is_anthropic(request) else "x-request-id"


def _json(
    request: web.Request, value: Any, status: int = 200, request_id: str | None = None
) -> web.Response:
    return web.Response(
        body=encode(value),
        status=status,
        content_type="application/json",
        headers={_request_id_header(request): f"req_{request_id or uuid4().hex[:24]}"},
    )


async def _count_tokens(request: web.Request) -> web.Response:
    body = await _body(request, ("model", "messages"))
    words = sum(len(text.split()) for text in _said_in_messages(body))
    return _json(request, {"input_tokens": words})


async def _models(request: web.Request) -> web.Response:
    """The list in the shape of the SDK that asks: Anthropic's sends its version header."""
    if not _is_anthropic(request):
        data = [
            {"id": model, "object": "model", "created": RELEASED, "owned_by": "echo"}
            for model in MODELS
        ]
        return _json(request, {"object": "list", "data": data})
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(RELEASED))
    entry = {"type": "model", "created_at": created, "lifecycle": "active"}
    return _json(
        request,
        {
            "data": [entry | {"id": model, "display_name": model} for model in MODELS],
            "first_id": MODELS[0],
            "last_id": MODELS[-1],
            "has_more": False,
        },
    )


# https://docs.anthropic.com/en/api/errors
ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# https://platform.openai.com/docs/guides/error-codes: type and code
OPENAI_ERRORS = {
    401: ("invalid_request_error", "invalid_api_key"),
    429: ("requests", "rate_limit_exceeded"),
}


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error, a wrong path's too, in the shape that the dialect's SDK parses."""
    try:
        return await handler(request)
    except Refused as refused:
        status, text = refused.status, refused.message
    except web.HTTPException as refused:
        status, text = refused.status, f"{refused.reason}: {request.method} {request.path}"
    if _is_anthropic(request):
        fallback = "api_error" if status >= 500 else "invalid_request_error"
        error = {"type": ANTHROPIC_ERRORS.get(status, fallback), "message": text}
        return _json(request, {"type": "error", "error": error}, status)
    fallback = "server_error" if status >= 500 else "invalid_request_error"
    kind, code = OPENAI_ERRORS.get(status, (fallback, None))
    error = {"message": text, "type": kind, "param": None, "code": code}
    return _json(request, {"error": error}, status)
