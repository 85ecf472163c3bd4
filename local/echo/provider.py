"""A provider without a model, whose replies repeat the last text of the request. For the demo, the
tests and the benchmark.

It supports OpenAI's chat, completions, embeddings, responses and models, and Anthropic's messages
and token counts. It requires no credential. It counts words as tokens.

A reply can be configured in three places, of which the first that contains a setting applies:

| setting    | header            | query             | end of the model's name |
|------------|-------------------|-------------------|-------------------------|
| pause      | `x-echo-delay-ms` | `x-echo-delay-ms` | `gpt-4o?delay-ms=100`   |
| pieces     | `x-echo-chunks`   | `x-echo-chunks`   | `gpt-4o?chunks=20`      |
| characters | `x-echo-length`   | `x-echo-length`   | `gpt-4o?length=5000`    |
| failure    | `x-echo-status`   | `x-echo-status`   | `gpt-4o?status=429`     |

The pause precedes each piece of a stream, and a whole reply.

It calls a tool that the request offers if the user's text contains the call, as in `Please ask
get_weather({"city": "Paris"})`. After the call it repeats what the tool returned.
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

from local.echo import replies, tools
from local.echo.replies import EchoRequest, Stream, encode

MAX_BODY_BYTES = 64 * 1024 * 1024
MODELS = ("gpt-4o-mini", "text-embedding-3-small", "claude-sonnet-5-5")
RELEASED_AT = 1_721_172_741

# The members of a request that the reply depends on. Others are not checked.
MEMBER_TYPES = {
    "model": str,
    "messages": list,
    "prompt": str | list,
    "input": str | list,
    "dimensions": int,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RequestError(Exception):
    """An error response, which `_errors` writes in the format of the request's dialect."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Dialect:
    """One endpoint. `required` are the members that a request must have, `texts` reads its texts,
    `whole` and `stream` build the reply (`stream` is None where the endpoint has no streams).

    `date` is appended to the model's name; `tool_call` builds replies that call a tool.
    """

    required: tuple[str, ...]
    texts: Callable[[dict[str, Any]], list[str]]
    whole: Callable[[EchoRequest], dict[str, Any]]
    stream: Callable[[EchoRequest], Stream] | None
    date: str
    tool_call: tools.Shapes | None = None


def _text(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))


def _texts_of_messages(body: dict[str, Any]) -> list[str]:
    """All texts of a conversation. The last one is the user's or a tool's latest text, which the
    reply repeats."""
    texts, last = [_text(body.get("system") or body.get("instructions"))], ""
    messages = body.get("messages", body.get("input"))
    if isinstance(messages, str):
        return [*texts, messages]
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict):
            continue
        results = tools.tool_results(message)
        text = _text(message.get("content")) if results is None else _text(results)
        if text and (message.get("role") == "user" or results is not None):
            text, last = last, text
        texts.append(text)
    return [*texts, last]


def _texts_of_member(name: str) -> Callable[[dict[str, Any]], list[str]]:
    """A function that reads the texts in this member: a string, a list of strings, or lists of
    tokens, which become words."""

    def texts(body: dict[str, Any]) -> list[str]:
        value = body[name]
        items = value if isinstance(value, list) else [value]
        return [" ".join(map(str, item)) if isinstance(item, list) else str(item) for item in items]

    return texts


OPENAI_DATE, ANTHROPIC_DATE = "-2024-07-18", "-20250929"
DIALECTS = {
    "/v1/chat/completions": Dialect(
        ("model", "messages"),
        _texts_of_messages,
        replies.chat,
        replies.chat_stream,
        OPENAI_DATE,
        (tools.chat, tools.chat_stream),
    ),
    "/v1/completions": Dialect(
        ("model", "prompt"),
        _texts_of_member("prompt"),
        replies.completion,
        replies.completion_stream,
        OPENAI_DATE,
    ),
    "/v1/embeddings": Dialect(
        ("model", "input"), _texts_of_member("input"), replies.embeddings, None, ""
    ),
    "/v1/responses": Dialect(
        ("model", "input"),
        _texts_of_messages,
        replies.response,
        replies.response_stream,
        OPENAI_DATE,
        (tools.response, tools.response_stream),
    ),
    "/v1/messages": Dialect(
        ("model", "max_tokens", "messages"),
        _texts_of_messages,
        replies.message,
        replies.message_stream,
        ANTHROPIC_DATE,
        (tools.message, tools.message_stream),
    ),
}


def app(delay_ms: float = 30) -> web.Application:
    """The provider as an application. `delay_ms` is the pause of requests that set none."""

    async def reply(request: web.Request) -> web.StreamResponse:
        dialect = DIALECTS[request.path]
        body = await _body(request, dialect.required)
        model, _, suffix = body["model"].partition("?")
        settings = _Settings(request, suffix)
        status = settings.number("status", None, 400, 599)
        if status is not None:
            raise RequestError(status, f"The echo provider was asked to fail with status {status}.")
        pause = settings.number("delay-ms", delay_ms, 0, 600_000) / 1000
        texts = dialect.texts(body)
        echo_request = EchoRequest(
            id=uuid4().hex[:24],
            created=int(time.time()),
            model=_with_date(model, dialect.date),
            body=body,
            prompt_words=sum(len(text.split()) for text in texts),
            reply=replies.compose_reply(
                texts[-1] if texts else "",
                settings.number("length", None, 0, 50_000_000),
                settings.number("chunks", None, 1, 1_000_000),
            ),
        )
        whole, stream = dialect.whole, dialect.stream
        if dialect.tool_call and (call := tools.requested_call(body, texts[-1])):
            echo_request = replace(echo_request, tool=call[0], reply=call[1])
            whole, stream = dialect.tool_call
        if body.get("stream") is True and stream:
            return await _send(request, stream(echo_request), pause, echo_request.id)
        if pause:
            await asyncio.sleep(pause)
        return _json(request, whole(echo_request), request_id=echo_request.id)

    application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
    for path in DIALECTS:
        application.router.add_post(path, reply)
    application.router.add_post("/v1/messages/count_tokens", _count_tokens)
    application.router.add_get("/v1/models", _models)
    return application


class _Settings:
    """The settings of a reply that a request contains, by the table at the top of the module."""

    def __init__(self, request: web.Request, suffix: str) -> None:
        self._request = request
        self._in_model = dict(parse_qsl(suffix)) if suffix else {}

    def number(self, name: str, default: Any, least: int, most: int) -> Any:
        headers, query, full = self._request.headers, self._request.query, f"x-echo-{name}"
        value = headers.get(full) or query.get(full) or self._in_model.get(name)
        if value is None:
            return default
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            raise RequestError(400, f"{full} takes a whole number from {least} to {most}.")
        return int(value)


async def _body(request: web.Request, required: tuple[str, ...]) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError:
        raise RequestError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise RequestError(400, "The JSON body of your request must be an object.")
    for name in required:
        if body.get(name) is None:
            raise RequestError(400, f"Missing required parameter: '{name}'.")
    for name, kind in MEMBER_TYPES.items():
        if name in body and body[name] is not None and not isinstance(body[name], kind):
            raise RequestError(400, f"Invalid type for '{name}'.")
    return body


def _with_date(model: str, date: str) -> str:
    """The model's name as a provider returns it: `gpt-4o-mini-2024-07-18` for `gpt-4o-mini`."""
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
    words = sum(len(text.split()) for text in _texts_of_messages(body))
    return _json(request, {"input_tokens": words})


async def _models(request: web.Request) -> web.Response:
    """The list of models in the format of the client's SDK. Anthropic's sends a version header."""
    if not _is_anthropic(request):
        data = [
            {"id": model, "object": "model", "created": RELEASED_AT, "owned_by": "echo"}
            for model in MODELS
        ]
        return _json(request, {"object": "list", "data": data})
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(RELEASED_AT))
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
    """Return each error, also for an unknown path, in the format that the dialect's SDK parses."""
    try:
        return await handler(request)
    except RequestError as error:
        status, text = error.status, error.message
    except web.HTTPException as error:
        status, text = error.status, f"{error.reason}: {request.method} {request.path}"
    if _is_anthropic(request):
        fallback = "api_error" if status >= 500 else "invalid_request_error"
        content = {"type": ANTHROPIC_ERRORS.get(status, fallback), "message": text}
        return _json(request, {"type": "error", "error": content}, status)
    fallback = "server_error" if status >= 500 else "invalid_request_error"
    kind, code = OPENAI_ERRORS.get(status, (fallback, None))
    content = {"message": text, "type": kind, "param": None, "code": code}
    return _json(request, {"error": content}, status)
