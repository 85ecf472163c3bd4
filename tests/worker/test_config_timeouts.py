"""Requests by configs that take long: timeouts, and clients that leave."""

import math

import pytest

from .conftest import CHAT, Provider, Stage
from .deployment import ALICE, fallback
from .targets import (
    called,
    fails,
    fails_with_long_body,
    hangs,
    post,
    replies,
    replies_after,
    set_replies,
    span_and_attempts,
    using,
)
from .test_streaming import END, begin, delta, leave


@pytest.fixture
def stage(with_configs: Stage) -> Stage:
    return with_configs


def retry(attempts: int, **members) -> dict:
    return {"provider": "first", "retry": {"attempts": attempts, **members}}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
@pytest.mark.parametrize("by_header", [True, False])
def test_a_timeout_aborts_the_provider_and_responds_504(
    stage: Stage, provider: Provider, path, by_header
):
    set_replies(provider, first=hangs(provider))
    config = {"provider": "first", "request_timeout": 60_000 if by_header else 100}
    headers = using(config, x_portkey_request_timeout="100") if by_header else using(config)
    answer = post(stage, headers, path=path)
    assert answer.status_code == 504
    assert "first did not answer in 0.1 s" in answer.json()["error"]["message"]
    provider.wait("aborted")
    if path == "/v1/chat/completions":
        span, calls = span_and_attempts(stage, 1)
        assert calls[0]["level"] == span["level"] == "ERROR"
        assert "0.1 s" in calls[0]["status_message"]


@pytest.mark.parametrize("codes", [None, [504], [408]])
def test_a_timeout_falls_back(stage: Stage, provider: Provider, codes):
    """The first provider is aborted immediately; the second one waits for that."""
    set_replies(provider, first=hangs(provider), second=replies_after(provider, "aborted"))
    strategy = {"on_status_codes": codes} if codes else {}
    slow = {"provider": "first", "request_timeout": 100}
    assert post(stage, using(fallback(slow, "second", **strategy))).status_code == 200
    _, calls = span_and_attempts(stage, 2)
    assert [o["level"] for o in calls] == ["ERROR", "DEFAULT"]


def test_a_timeout_by_header_without_a_config(stage: Stage, provider: Provider):
    set_replies(provider, first=hangs(provider))
    headers = {"x-portkey-provider": "first", "x-portkey-request-timeout": "100"}
    assert post(stage, headers).status_code == 504
    provider.wait("aborted")
    assert stage.observation()["type"] == "GENERATION"


def test_a_timeout_does_not_end_a_stream_that_has_begun(stage: Stage, provider: Provider):
    async def slow(request):
        response = await begin(request)
        await response.write(delta("begun "))
        await provider.gate("timeout is over").wait()
        await response.write(delta("and ended") + END)
        return response

    set_replies(provider, first=[slow, hangs(provider)])
    # Long enough for the beginning of the stream on a busy machine.
    headers = using({"provider": "first", "request_timeout": 3000})
    client = stage.openai(api_key=ALICE, default_headers=headers)
    stream = client.chat.completions.create(**CHAT, stream=True)
    texts = [next(stream).choices[0].delta.content]
    # Another call with the same timeout begins after it, and ends before it continues.
    assert post(stage, headers).status_code == 504
    provider.open("timeout is over")
    texts += [chunk.choices[0].delta.content for chunk in stream]
    assert texts == ["begun ", "and ended"]
    begun = [o for o in stage.observations(4) if o["level"] == "DEFAULT"]
    assert [o["output"]["content"] for o in begun] == ["begun and ended"] * 2


def test_no_provider_is_called_after_a_client_has_left_in_a_pause(stage: Stage, provider: Provider):
    fail_at_length = fails_with_long_body(provider, 503, math.inf, retry_after="1")

    async def fail(request):
        try:
            return await fail_at_length(request)
        finally:
            provider.gate("called").set()  # the gateway has closed the connection, and pauses

    set_replies(provider, first=fail, second=replies())
    config = fallback(retry(1), "second")
    leave(stage, provider, using(config, authorization=f"Bearer {ALICE}"))
    span, calls = span_and_attempts(stage, 1)
    assert called(provider) == ["first"]
    assert calls[0]["level"] == "ERROR"
    assert (span["level"], span["metadata"]["ending"]) == ("WARNING", "client_left")


def test_a_client_that_leaves_ends_the_current_attempt(stage: Stage, provider: Provider):
    set_replies(provider, first=fails(500), second=hangs(provider), third=replies())
    config = fallback("first", "second", "third")
    leave(stage, provider, using(config, authorization=f"Bearer {ALICE}"))
    provider.wait("aborted")
    span, calls = span_and_attempts(stage, 2)
    assert called(provider) == ["first", "second"]
    assert calls[1]["metadata"]["ending"] == span["metadata"]["ending"] == "client_left"
    assert [o["level"] for o in (span, *calls)] == ["WARNING", "ERROR", "WARNING"]
