"""No credential reaches Langfuse or the log, whatever the client sends and the provider replies."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from .conftest import CHAT, Provider, Stage, record, reply_json
from .deployment import PUBLIC_KEY, SECRET_KEY

# Each value is unique, so that a leak shows its source.
CREDENTIALS = {
    "authorization": "Bearer sk-authorization-1111111111",
    "x-api-key": "sk-x-api-key-2222222222",
    "api-key": 'sk-"api\\key"-3333333333',
    "x-portkey-virtual-key": "virtual-key-5555555555",
    "x-portkey-aws-session-token": "aws-session-6666666666",
    "x-portkey-forward-headers": "forwarded-7777777777",
    "cookie": "session=cookie-session-aaaaaaaaaa; theme=dark",
    "proxy-authorization": "Basic proxy-bbbbbbbbbb",
    "x-custom-secret": "custom-secret-cccccccccc",
    "x-goog-api-key": "goog-dddddddddd",
}
QUERY = "key=query-key-eeeeeeeeee&token=query%2Dtoken%2Dffffffffff&beta=true"
NEEDLES = [
    "1111111111 2222222222 3333333333 5555555555 6666666666 7777777777",
    "aaaaaaaaaa bbbbbbbbbb cccccccccc dddddddddd eeeeeeeeee ffffffffff",
]
EVERYTHING = json.dumps([*CREDENTIALS.values(), QUERY, "query-token-ffffffffff"])


def texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from texts(item)


def assert_nothing_leaked(stage: Stage) -> None:
    received = b"".join(r.body for r in stage.inbox.requests).decode()
    assert received
    logged = "\n".join(stage.logs)
    for needle in " ".join(NEEDLES).split():
        assert needle not in received
        assert needle not in logged
    # Nor may a value be there in pieces.
    joined = ["".join(texts(json.loads(r.body))) for r in stage.inbox.requests if r.body]
    for needle in " ".join(NEEDLES).split():
        assert not any(needle in text for text in joined)
    headers = [h for r in stage.inbox.requests for h in r.headers]
    assert not any(needle in str(headers) for needle in " ".join(NEEDLES).split())
    assert SECRET_KEY not in received
    assert SECRET_KEY not in logged


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("kind", ["error", "error text", "stream error", "stream", "whole"])
def test_credentials_that_a_provider_repeats_are_redacted(
    stage: Stage, provider: Provider, path, kind
):
    """In an error, in its output, in pieces."""

    async def script(request):
        await record(provider, request)
        error = {"error": {"type": "auth", "message": f"Wrong key in {EVERYTHING}"}}
        if kind == "error":
            return web.json_response(error, status=401)
        if kind == "error text":
            return web.Response(status=500, text=f"<h1>Wrong key {EVERYTHING}</h1>")
        if kind == "whole":
            message = {"role": "assistant", "content": EVERYTHING}
            return web.json_response({"choices": [{"index": 0, "message": message}]})
        events: list[object] = [
            {"choices": [{"index": 0, "delta": {"content": EVERYTHING[i : i + 7]}}]}
            for i in range(0, len(EVERYTHING), 7)
        ]
        if kind == "stream error":
            events.append(error)
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        return web.Response(text=text, content_type="text/event-stream")

    provider.script = script
    headers = {**CREDENTIALS, "x-portkey-provider": "scripted"}
    body = {**CHAT, "metadata": {"note": CREDENTIALS["x-api-key"]}, "user": EVERYTHING[:150]}
    with stage.http() as client:
        response = client.post(f"{path}?{QUERY}", json=body, headers=headers)
    assert "2222222222" in response.text or kind.startswith("stream")
    # The provider did receive what it needs.
    assert "sk-authorization-1111111111" in str(provider.received[0].headers)
    assert "query-key-eeeeeeeeee" in provider.received[0].target
    observation = stage.observation()
    assert_nothing_leaked(stage)
    assert "[redacted]" in json.dumps(observation)


def test_a_credential_at_the_capture_limit_is_redacted(stage_with, provider: Provider):
    stage = stage_with(MAX_CAPTURE_BYTES="500")
    key = "sk-authorization-" + "1" * 100

    async def script(request):
        # The limit is within the first of the two.
        return web.Response(text="x " * 210 + key * 2, content_type="text/plain")

    provider.script = script
    headers = {"authorization": f"Bearer {key}", "x-portkey-provider": "scripted"}
    with stage.http() as client:
        client.post("/v1/chat/completions", json=CHAT, headers=headers)
    stage.observation()
    received = b"".join(r.body for r in stage.inbox.requests)
    assert b"x x x" in received
    assert b"sk-authorization-" not in received


@pytest.mark.parametrize(
    "body",
    [
        b'{"api_key": "body-secret", "model": "m", "messages": []} trailing',
        b'[{"api_key": "body-secret"}]',
        b'{"tools": [{"type": "mcp", "authorization": "body-secret"}], "messages": 7}',
        b'{"tools": [{"authorization": "body-secret"}], "input": "' + b"x" * 5_000_000 + b'"}',
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_credentials_in_an_unreadable_body_are_redacted(stage: Stage, path, body):
    with stage.http() as client:
        client.post(path, content=body)
    stage.observation()
    assert b"body-secret" not in b"".join(r.body for r in stage.inbox.requests)


def test_with_too_many_credentials_no_content_is_recorded(stage: Stage, provider: Provider):
    async def script(request):
        await record(provider, request)
        return web.json_response({"choices": [{"message": {"content": "abc"}}]})

    provider.script = script
    cookie = "; ".join(f"c{n}=sessions-{n:08}" for n in range(1500))
    messages = [{"role": "user", "content": f"sessions-{n:08}"} for n in range(20_000)]
    with stage.http() as client:
        client.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": messages},
            headers={"x-portkey-provider": "scripted", "cookie": cookie},
        )
    observation = stage.observation()
    assert observation["input"] is None
    assert "too many credentials" in str(observation["metadata"]["notes"])


def test_the_log_about_unreachable_servers_has_no_credential(stage: Stage):
    async def fault(request):
        return web.Response(status=302, headers={"location": f"https://{SECRET_KEY}.example/"})

    stage.inbox.fault = fault
    headers = {**CREDENTIALS, "x-portkey-provider": "offline"}
    with stage.http() as client:
        client.post(f"/v1/chat/completions?{QUERY}", json=CHAT, headers=headers)
        client.get(f"/v1/models?{QUERY}", headers=headers)
    stage.wait_for_logs("trace_not_delivered")
    stage.wait_for_logs("provider_unreachable", 2)
    assert_nothing_leaked(stage)


def test_langfuse_credentials_are_sent_only_to_langfuse(stage: Stage, provider: Provider):
    reply_json(provider)
    with stage.http() as client:
        headers = {"x-portkey-provider": "scripted"}
        response = client.post("/v1/chat/completions", json=CHAT, headers=headers)
        health = client.get("/health")
    for text in (str(provider.received), str(response.headers), response.text, health.text):
        assert SECRET_KEY not in text
        assert PUBLIC_KEY not in text
