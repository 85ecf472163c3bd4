"""Replies of scripted providers, calls by routing configs, and what is traced of them."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
from aiohttp import web

from .conftest import CHAT, Provider, ReceivedRequest, Stage, record
from .deployment import ALICE, BOB, PROVIDER_KEY, STORED
from .test_streaming import begin, events_of, until_aborted

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "cost": 0.25}
RECORDED_USAGE = {"input": 5, "output": 7, "total": 12}
MESSAGES = {
    "model": "claude-opus-4-6",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Hello there"}],
}

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


def using(config: dict[str, Any] | str, **headers: str) -> dict[str, str]:
    """The headers of a call by a config; `x_a_header=` becomes `x-a-header`."""
    text = config if isinstance(config, str) else json.dumps(config)
    return {"x-portkey-config": text, **_headers(headers)}


def _headers(named: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in named.items()}


# Replies. Keyword arguments are headers: `x_a_header=` becomes `x-a-header`.


def replies(text: str = "hello", status: int = 200, **headers: str) -> Reply:
    """A whole reply with this text, in the format of the path."""

    async def reply(request: web.Request) -> web.Response:
        if request.path.endswith("/messages"):
            whole: Any = {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "served-model",
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 5, "output_tokens": 7},
            }
        else:
            message = {"role": "assistant", "content": text}
            whole = {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": "served-model",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": USAGE,
            }
        return web.json_response(whole, status=status, headers=_headers(headers))

    return reply


def fails(status: int, message: str = "a failure", **headers: str) -> Reply:
    """An error response."""

    async def reply(request: web.Request) -> web.Response:
        error = {"error": {"message": message}}
        return web.json_response(error, status=status, headers=_headers(headers))

    return reply


def fails_with_long_body(provider: Provider, status: int, size: float, **headers: str) -> Reply:
    """An error response of `size` bytes. The gate "discarded" opens when all are sent, or when the
    gateway has closed the connection."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=_headers(headers))
        await response.prepare(request)
        left = size
        try:
            while left > 0:
                await response.write(b"x x " * 25_000)
                left -= 100_000
        finally:
            provider.gate("discarded").set()
        return response

    return reply


def hangs(provider: Provider) -> Reply:
    """No response. The gate "aborted" opens when the gateway has closed the connection."""

    async def reply(request: web.Request) -> web.Response:
        await until_aborted(provider)
        return web.Response()

    return reply


def replies_after(provider: Provider, gate: str) -> Reply:
    """A whole reply, when a gate is open."""

    async def reply(request: web.Request) -> web.StreamResponse:
        await provider.gate(gate).wait()
        return await replies()(request)

    return reply


def streams(provider: Provider, *events: bytes) -> Reply:
    """A stream in which each event waits until the client has received the one before."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = await begin(request)
        for n, event in enumerate(events):
            await provider.gate(f"client has {n} events").wait()
            await response.write(event)
        return response

    return reply


def read_events(stage: Stage, headers: Mapping[str, str], body: Any, path: str) -> list[bytes]:
    """Request and read a stream of `streams`."""
    headers = {"authorization": f"Bearer {ALICE}", **headers}
    events: list[bytes] = []
    with (
        stage.http() as client,
        client.stream("POST", path, json={**body, "stream": True}, headers=headers) as response,
    ):
        stage.provider.open("client has 0 events")
        for event in events_of(response):
            events.append(event)
            stage.provider.open(f"client has {len(events)} events")
    return events


def set_replies(provider: Provider, **by_slug: Reply | list[Reply]) -> None:
    """Let each provider give its replies one after another, and then the last one each time."""
    remaining = {
        slug: [*found] if isinstance(found, list) else [found] for slug, found in by_slug.items()
    }

    async def script(request: web.Request) -> web.StreamResponse:
        await record(provider, request)
        own = remaining[request.path.split("/")[1]]
        return await (own.pop(0) if len(own) > 1 else own[0])(request)

    provider.script = script


def called(provider: Provider) -> list[str]:
    """The slugs of the called providers, in their order."""
    return [request.target.split("/")[1] for request in provider.received]


def key_of(request: ReceivedRequest) -> str | None:
    return request.header("authorization")


# Calls, and what is traced of them.


def post(
    stage: Stage,
    headers: Mapping[str, str],
    body: Any = CHAT,
    path: str = "/v1/chat/completions",
    key: str | None = ALICE,
) -> httpx.Response:
    with stage.http() as client:
        credential = {"authorization": f"Bearer {key}"} if key else {}
        return client.post(path, json=body, headers={**credential, **headers})


def chat(stage: Stage, headers: Mapping[str, str], **options: Any) -> Any:
    """A chat completion by OpenAI's SDK, with the headers of the response."""
    client = stage.openai(api_key=options.pop("api_key", ALICE), default_headers=headers)
    return client.chat.completions.with_raw_response.create(**{**CHAT, **options})


def span_and_attempts(stage: Stage, count: int) -> tuple[Any, list[Any]]:
    """The span of this test's only request, and the `count` observations below it by time."""
    found = stage.observations(count + 1)
    (span,) = [o for o in found if o["type"] == "SPAN"]
    attempts = [o for o in found if o is not span]
    assert len(attempts) == count
    assert {o["trace_id"] for o in found} == {span["trace_id"]}
    assert [o["parent_id"] for o in attempts] == [span["id"]] * count
    assert len({o["id"] for o in found}) == count + 1
    assert not span["usage"]
    assert not span["cost"]
    assert span["model"] is None
    return span, sorted(attempts, key=lambda o: o["start_time"])


def summaries(attempts: list[Any]) -> list[tuple[str, int, str, str]]:
    """Of each attempt the provider, the number of the try, the level and the target."""
    return [
        (o["metadata"]["provider"], o["metadata"]["try"], o["level"], o["metadata"]["target"])
        for o in attempts
    ]


def assert_no_key_is_recorded(stage: Stage, *keys: str) -> None:
    recorded = str(stage.inbox.requests) + "".join(stage.logs)
    for key in (*STORED.values(), PROVIDER_KEY, ALICE, BOB, *keys):
        assert key not in recorded
