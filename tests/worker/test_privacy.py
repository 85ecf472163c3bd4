"""What a trace contains of a request's content: content modes, sampling, redaction, limits."""

import json

import pytest
from aiohttp import web

from .conftest import CHAT, SCRIPTED, Provider, Stage, record, reply_json

# The id of a trace in the sample of every deployment.
SAMPLED = "1" * 32
# To the echo provider where another one is the default.
ECHO = {"x-portkey-provider": "openai"}


def chat(stage: Stage, mode: str | None = None, user: str = "ada", **body):
    headers = {"x-portkey-trace-id": SAMPLED, "x-portkey-user-id": user, **ECHO}
    if mode:
        headers["x-portkey-trace"] = mode
    create = stage.openai().chat.completions.with_raw_response.create
    return create(**{**CHAT, **body}, extra_headers=headers)


@pytest.mark.parametrize(
    ("request_mode", "expected"), [(None, "full"), ("usage", "usage"), ("off", "off")]
)
def test_a_request_may_limit_its_content_mode(stage: Stage, request_mode, expected):
    check_content_mode(stage, request_mode, expected)


@pytest.mark.parametrize(
    ("request_mode", "expected"), [(None, "usage"), ("full", "usage"), ("off", "off")]
)
def test_a_request_cannot_extend_its_content_mode(without_content: Stage, request_mode, expected):
    check_content_mode(without_content, request_mode, expected)


@pytest.mark.long
def test_content_mode_off(stage_with):
    stage = stage_with(LANGFUSE_CONTENT="off")
    response = chat(stage, "full")
    assert "x-portkey-trace-id" not in response.headers
    assert stage.observations_now() == []


def check_content_mode(stage: Stage, request_mode: str | None, expected: str) -> None:
    response = chat(stage, request_mode, metadata={"note": "Hello there"})
    assert response.parse().choices[0].message.content == "You said: Hello there"
    if expected == "off":
        assert "x-portkey-trace-id" not in response.headers
        # All earlier calls have been traced when this one is.
        chat(stage, user="the last call")
        assert [o["user_id"] for o in stage.observations()] == ["the last call"]
        return
    observation = stage.observation()
    assert observation["usage"]["total"] > 0
    assert observation["model"].startswith("gpt-4o-mini")
    if expected == "usage":
        assert (observation["input"], observation["output"]) == (None, None)
        assert "Hello there" not in json.dumps(observation)
    else:
        assert observation["output"]["content"] == "You said: Hello there"


def test_without_content_an_error_has_no_message(without_content: Stage):
    """It may quote the request."""
    with without_content.http() as client:
        headers = {"x-echo-status": "400", "x-portkey-trace-id": SAMPLED}
        assert client.post("/v1/chat/completions", json=CHAT, headers=headers).status_code == 400
    assert without_content.observation()["status_message"] == "HTTP 400"


def test_a_trace_is_sampled_as_a_whole(without_content: Stage):
    stage = without_content
    create = stage.openai().chat.completions.create
    for first in "0123456789abcdef":
        for _ in range(2):
            create(**CHAT, extra_headers={"x-portkey-trace-id": first * 32})
    sampled = {first * 32 for first in "01234567"} - {"0" * 32}
    # An id of zeros only is invalid: the first one is replaced by its hash.
    observations = stage.observations(2 * len(sampled))
    traced = [o["trace_id"] for o in observations]
    assert sampled <= set(traced)
    assert all(traced.count(trace_id) == 2 for trace_id in set(traced))
    assert not {first * 32 for first in "89abcdef"} & set(traced)


def test_keys_and_the_deployments_patterns_are_redacted(with_variables: Stage):
    key = "sk-proj-abcdefghijklmnopqrstuvwxyz"
    chat(with_variables, messages=[{"role": "user", "content": f"call 555-1234 with {key}"}])
    observation = with_variables.observation()
    assert observation["input"][0]["content"] == "call [redacted] with [redacted]"
    assert observation["output"]["content"] == "You said: call [redacted] with [redacted]"


@pytest.mark.parametrize("size", [100_000, 1_000_000, 2_400_000])
def test_large_content_is_truncated_to_what_langfuse_accepts(
    stage: Stage, provider: Provider, size
):

    async def script(request):
        await record(provider, request)
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


def test_a_variable_limits_the_size_of_a_field(with_variables: Stage):
    chat(with_variables, messages=[{"role": "user", "content": "word " * 3000}])
    observation = with_variables.observation()
    assert len(json.dumps(observation["input"])) <= 10_000
    assert "[cut: " in observation["input"][0]["content"]


def test_a_variable_requests_the_usage_of_streams(with_variables: Stage, provider: Provider):
    reply_json(provider)
    client = with_variables.openai(default_headers=ECHO)
    stream = client.chat.completions.create(**CHAT, stream=True)
    assert list(stream)[-1].usage
    assert with_variables.observation()["usage"]["total"] > 0
    with with_variables.http() as client:
        for path in ("/v1/chat/completions", "/v1/messages"):
            client.post(path, json={**CHAT, "stream": True}, headers=SCRIPTED)
        client.post("/v1/chat/completions", json=CHAT, headers=SCRIPTED)
    requested = [b"include_usage" in request.body for request in provider.received]
    assert requested == [True, False, False]


def test_inline_media_are_recorded_by_type_and_size(stage: Stage):
    image = "data:image/png;base64," + "iVBORw0KGgo" * 1000
    parts = [{"type": "image_url", "image_url": {"url": image}}]
    chat(stage, messages=[{"role": "user", "content": parts}])
    recorded = json.dumps(stage.observation()["input"])
    assert "iVBORw0KGgo" not in recorded
    assert "image/png" in recorded
