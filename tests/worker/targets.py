"""Providers that fail as a test wants, and the Worker that is to make the best of them."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
from aiohttp import web

from .conftest import CHAT, PROVIDER_KEY, Provider, Stage, keep
from .test_streaming import begin, events_of, until_aborted

ALICE, BOB = (f"gw_of-{name}-0123456789abcdefghij" for name in ("alice", "bob"))
SLUGS = ("first", "second", "third")
STORED = {slug: f"sk-stored-for-{slug}-0123456789" for slug in SLUGS}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "cost": 0.25}
COUNTED = {"input": 5, "output": 7, "total": 12}
MESSAGES = {
    "model": "claude-opus-4-6",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Hello there"}],
}

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def variables(provider: Provider, environment: Mapping[str, Any]) -> dict[str, Any]:
    """The Worker's variables: three providers with stored keys, and two gateway keys."""
    port = provider.url.rpartition(":")[2]
    own = {slug: {"base_url": f"{provider.url}/{slug}"} for slug in SLUGS}
    return {
        "PROVIDERS": json.dumps({**json.loads(environment["PROVIDERS"]), **own}),
        "GATEWAY_API_KEYS": json.dumps({"alice": digest(ALICE), "bob": digest(BOB)}),
        "ALLOW_ANONYMOUS": "true",
        "MAX_REQUEST_BYTES": "2000000",
        "ALLOWED_CUSTOM_HOSTS": f"localhost:{port}",
        "CONFIGS": json.dumps(
            {
                "one-after-the-other": fallback("first", "second"),
                "kept": {"provider": "first", "cache": {"mode": "simple"}},
                "kept-too": {"provider": "first", "cache": {"mode": "simple", "max_age": 60}},
            }
        ),
        **{f"{slug.upper()}_API_KEY": key for slug, key in STORED.items()},
    }


# Configs.


def fallback(*targets: str | dict[str, Any], **strategy: Any) -> dict[str, Any]:
    listed = [{"provider": each} if isinstance(each, str) else each for each in targets]
    return {"strategy": {"mode": "fallback", **strategy}, "targets": listed}


def using(config: dict[str, Any] | str, **headers: str) -> dict[str, str]:
    """The headers of a call by a config; `x_a_header=` becomes `x-a-header`."""
    text = config if isinstance(config, str) else json.dumps(config)
    return {"x-portkey-config": text, **{k.replace("_", "-"): v for k, v in headers.items()}}


# Replies.


def says(text: str = "hello", status: int = 200, **headers: str) -> Reply:
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
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(whole, status=status, headers=named)

    return reply


def fails(status: int, message: str = "so it goes", **headers: str) -> Reply:
    async def reply(request: web.Request) -> web.Response:
        error = {"error": {"message": message}}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(error, status=status, headers=named)

    return reply


def fails_at_length(provider: Provider, status: int, size: float, **headers: str) -> Reply:
    """A failure with so many bytes, which opens the gate "let go" when the gateway has enough."""

    async def reply(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = web.StreamResponse(status=status, headers=named)
        await response.prepare(request)
        left = size
        try:
            while left > 0:
                await response.write(b"x" * 100_000)
                left -= 100_000
        finally:
            provider.gate("let go").set()
        return response

    return reply


def hangs(provider: Provider) -> Reply:
    """Says nothing until the gateway gives up, which opens the gate "aborted"."""

    async def reply(request: web.Request) -> web.Response:
        await until_aborted(provider)
        return web.Response()

    return reply


def says_after(provider: Provider, gate: str) -> Reply:
    async def reply(request: web.Request) -> web.StreamResponse:
        await provider.gate(gate).wait()
        return await says()(request)

    return reply


def streams(provider: Provider, *events: bytes) -> Reply:
    """A stream, of which each event waits until the client has the one before."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = await begin(request)
        for n, event in enumerate(events):
            await provider.gate(f"client has {n} events").wait()
            await response.write(event)
        return response

    return reply


def received(stage: Stage, headers: Mapping[str, str], body: Any, path: str) -> list[bytes]:
    """The events of a stream by `streams`: each is on its way when the one before is there."""
    headers = {"authorization": f"Bearer {ALICE}", **headers}
    got: list[bytes] = []
    with (
        stage.http() as client,
        client.stream("POST", path, json={**body, "stream": True}, headers=headers) as response,
    ):
        stage.provider.open("client has 0 events")
        for event in events_of(response):
            got.append(event)
            stage.provider.open(f"client has {len(got)} events")
    return got


def play(provider: Provider, **replies: Reply | list[Reply]) -> None:
    """Let each provider give its replies one after another, and the last one again and again."""
    left = {slug: [*each] if isinstance(each, list) else [each] for slug, each in replies.items()}

    async def script(request: web.Request) -> web.StreamResponse:
        await keep(provider, request)
        mine = left[request.path.split("/")[1]]
        return await (mine.pop(0) if len(mine) > 1 else mine[0])(request)

    provider.script = script


def asked(provider: Provider) -> list[str]:
    """Which providers were asked, in their order."""
    return [seen.target.split("/")[1] for seen in provider.seen]


def key_of(seen: Any) -> str | None:
    return {name.lower(): value for name, value in seen.headers}.get("authorization")


# Calls, and what is recorded of them.


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
    """A chat by OpenAI's SDK, with its reply's headers."""
    client = stage.openai(api_key=options.pop("api_key", ALICE), default_headers=headers)
    return client.chat.completions.with_raw_response.create(**{**CHAT, **options})


def tree(stage: Stage, calls: int) -> tuple[Any, list[Any]]:
    """The span of this test's only request, and the so many observations below it."""
    found = stage.observations(calls + 1)
    (span,) = [o for o in found if o["type"] == "SPAN"]
    below = [o for o in found if o is not span]
    assert len(below) == calls
    assert {o["trace_id"] for o in found} == {span["trace_id"]}
    assert [o["parent_id"] for o in below] == [span["id"]] * calls
    assert len({o["id"] for o in found}) == calls + 1
    assert not span["usage"]
    assert not span["cost"]
    assert span["model"] is None
    return span, sorted(below, key=lambda o: o["start_time"])


def places(calls: list[Any]) -> list[tuple[str, int, str, str]]:
    """Of each observation below a span its provider, its try, its level and its target."""
    return [
        (o["metadata"]["provider"], o["metadata"]["try"], o["level"], o["metadata"]["target"])
        for o in calls
    ]


def trace_of(stage: Stage, observation: Any) -> Any:
    (trace,) = [t for t in stage.inbox.traces() if t["id"] == observation["trace_id"]]
    return trace


def assert_nothing_is_recorded(stage: Stage) -> None:
    # What an earlier test left to be delivered may arrive at any time.
    found = stage.inbox.observations()
    assert [o for o in found if str(o["start_time"]) >= stage.began] == []


def assert_no_key_is_recorded(stage: Stage, *keys: str) -> None:
    recorded = str(stage.inbox.requests) + "".join(stage.logs)
    for key in (*STORED.values(), PROVIDER_KEY, ALICE, BOB, *keys):
        assert key not in recorded
