"""What is recorded of a request's content, and how much."""

import json

import pytest
from aiohttp import web

from .conftest import CHAT, SCRIPTED, Provider, Stage, keep


def chat(stage: Stage, mode: str | None = None, **body):
    headers = {"x-portkey-trace": mode} if mode else {}
    create = stage.openai().chat.completions.with_raw_response.create
    return create(**{**CHAT, **body}, extra_headers=headers)


@pytest.mark.parametrize(
    ("deployment", "request_mode", "recorded"),
    [
        ("full", None, "full"),
        ("full", "usage", "usage"),
        ("full", "off", "off"),
        ("usage", None, "usage"),
        ("usage", "full", "usage"),
        ("usage", "off", "off"),
        ("off", "full", "off"),
    ],
)
def test_content_modes(stage_with, deployment, request_mode, recorded):
    stage = stage_with(**({} if deployment == "full" else {"LANGFUSE_CONTENT": deployment}))
    response = chat(stage, request_mode, metadata={"note": "Hello there"})
    assert response.parse().choices[0].message.content == "You said: Hello there"
    if recorded == "off":
        assert "x-portkey-trace-id" not in response.headers
        if deployment == "off":
            assert stage.inbox.requests == []
        else:
            assert stage.traced_so_far() == []
        return
    observation = stage.observation()
    assert observation["usage"]["total"] > 0
    assert observation["model"].startswith("gpt-4o-mini")
    if recorded == "usage":
        assert (observation["input"], observation["output"]) == (None, None)
        assert "Hello there" not in json.dumps(observation)
    else:
        assert observation["output"]["content"] == "You said: Hello there"


def test_an_error_may_quote_the_request(stage_with):
    stage = stage_with(LANGFUSE_CONTENT="usage")
    with stage.http() as client:
        headers = {"x-echo-status": "400"}
        assert client.post("/v1/chat/completions", json=CHAT, headers=headers).status_code == 400
    assert stage.observation()["status_message"] == "HTTP 400"


def test_a_sample_is_taken_by_trace(stage_with):
    stage = stage_with(LANGFUSE_SAMPLE_RATE="0.5")
    create = stage.openai().chat.completions.create
    for first in "0123456789abcdef":
        for _ in range(2):
            create(**CHAT, extra_headers={"x-portkey-trace-id": first * 32})
    sampled = {first * 32 for first in "01234567"} - {"0" * 32}
    # An id of nothing but zeros is none, so the first of them is hashed.
    observations = stage.observations(2 * len(sampled))
    traced = [o["trace_id"] for o in observations]
    assert sampled <= set(traced)
    assert all(traced.count(trace_id) == 2 for trace_id in set(traced))
    assert not {first * 32 for first in "89abcdef"} & set(traced)


def test_keys_and_the_deployers_patterns_are_taken_out(stage_with):
    stage = stage_with(LANGFUSE_REDACT='["\\\\d{3}-\\\\d{4}"]')
    key = "sk-proj-abcdefghijklmnopqrstuvwxyz"
    chat(stage, messages=[{"role": "user", "content": f"call 555-1234 with {key}"}])
    observation = stage.observation()
    assert observation["input"][0]["content"] == "call [redacted] with [redacted]"
    assert observation["output"]["content"] == "You said: call [redacted] with [redacted]"


@pytest.mark.parametrize("size", [100_000, 1_000_000, 2_400_000])
def test_large_content_is_recorded_as_far_as_it_fits(stage: Stage, provider: Provider, size):
    """Up to the capture's limit, whatever the size, Langfuse takes the trace."""

    async def script(request):
        await keep(provider, request)
        message = {"role": "assistant", "content": "wörd " * (size // 6)}
        return web.json_response({"model": "m", "choices": [{"index": 0, "message": message}]})

    provider.script = script
    body = {"model": "m", "messages": [{"role": "user", "content": "wörd " * (size // 6)}]}
    with stage.http() as client:
        response = client.post("/v1/chat/completions", json=body, headers=SCRIPTED)
    assert len(response.json()["choices"][0]["message"]["content"]) == 5 * (size // 6)
    observation = stage.observation()
    for text in (observation["input"][0]["content"], observation["output"]["content"]):
        assert text.startswith("wörd wörd")
        assert ("[cut: " in text) == (size > 800_000)


def test_a_field_limit_of_the_deployers_own(stage_with):
    stage = stage_with(LANGFUSE_MAX_FIELD_BYTES="1000")
    chat(stage, messages=[{"role": "user", "content": "word " * 1000}])
    observation = stage.observation()
    assert len(json.dumps(observation["input"])) <= 1000
    assert "[cut: " in observation["input"][0]["content"]


def test_usage_of_a_stream_is_asked_for_where_the_deployer_wants_it(stage_with, provider):
    async def script(request):
        await keep(provider, request)
        return web.json_response({})

    provider.script = script
    stage = stage_with(TRACE_STREAM_USAGE="true")
    stream = stage.openai().chat.completions.create(**CHAT, stream=True)
    assert list(stream)[-1].usage
    assert stage.observation()["usage"]["total"] > 0
    with stage.http() as client:
        for path in ("/v1/chat/completions", "/v1/messages"):
            client.post(path, json={**CHAT, "stream": True}, headers=SCRIPTED)
        client.post("/v1/chat/completions", json=CHAT, headers=SCRIPTED)
    asked = [b"include_usage" in seen.body for seen in provider.seen]
    assert asked == [True, False, False]


def test_inline_media_are_recorded_by_type_and_size(stage: Stage):
    image = "data:image/png;base64," + "iVBORw0KGgo" * 1000
    parts = [{"type": "image_url", "image_url": {"url": image}}]
    chat(stage, messages=[{"role": "user", "content": parts}])
    recorded = json.dumps(stage.observation()["input"])
    assert "iVBORw0KGgo" not in recorded
    assert "image/png" in recorded
