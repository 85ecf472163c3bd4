"""What becomes of a request that takes long: its time runs out, or its client leaves."""

import math

import pytest

from .conftest import CHAT, Provider, Stage
from .targets import (
    ALICE,
    asked,
    fails,
    fails_at_length,
    fallback,
    hangs,
    play,
    post,
    says,
    says_after,
    tree,
    using,
    variables,
)
from .test_streaming import END, begin, delta, leave


@pytest.fixture
def stage(stage_with, environment, provider: Provider) -> Stage:
    return stage_with(**variables(provider, environment))


def retry(attempts: int, **members) -> dict:
    return {"provider": "first", "retry": {"attempts": attempts, **members}}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
@pytest.mark.parametrize("by_header", [True, False])
def test_a_provider_that_hangs_is_told_and_answered_for(
    stage: Stage, provider: Provider, path, by_header
):
    play(provider, first=hangs(provider))
    config = {"provider": "first", "request_timeout": 60_000 if by_header else 100}
    headers = using(config, x_portkey_request_timeout="100") if by_header else using(config)
    answer = post(stage, headers, path=path)
    assert answer.status_code == 504
    assert "first did not answer in 0.1 s" in answer.json()["error"]["message"]
    provider.wait("aborted")
    if path == "/v1/chat/completions":
        span, calls = tree(stage, 1)
        assert calls[0]["level"] == span["level"] == "ERROR"
        assert "0.1 s" in calls[0]["status_message"]


@pytest.mark.parametrize("codes", [None, [504], [408]])
def test_a_fallback_from_a_provider_that_hangs(stage: Stage, provider: Provider, codes):
    """Which is told at once, or the other one would never answer."""
    play(provider, first=hangs(provider), second=says_after(provider, "aborted"))
    strategy = {"on_status_codes": codes} if codes else {}
    slow = {"provider": "first", "request_timeout": 100}
    assert post(stage, using(fallback(slow, "second", **strategy))).status_code == 200
    _, calls = tree(stage, 2)
    assert [o["level"] for o in calls] == ["ERROR", "DEFAULT"]


def test_a_timeout_without_a_config(stage: Stage, provider: Provider):
    play(provider, first=hangs(provider))
    headers = {"x-portkey-provider": "first", "x-portkey-request-timeout": "100"}
    assert post(stage, headers).status_code == 504
    provider.wait("aborted")
    assert stage.observation()["type"] == "GENERATION"


def test_a_stream_that_has_begun_may_take_its_time(stage: Stage, provider: Provider):
    async def slow(request):
        response = await begin(request)
        await response.write(delta("begun "))
        await provider.gate("too late").wait()
        await response.write(delta("and ended") + END)
        return response

    play(provider, first=[slow, hangs(provider)])
    headers = using({"provider": "first", "request_timeout": 300})
    client = stage.openai(api_key=ALICE, default_headers=headers)
    stream = client.chat.completions.create(**CHAT, stream=True)
    said = [next(stream).choices[0].delta.content]
    # Another call with the same timeout begins after it, and is over before it goes on.
    assert post(stage, headers).status_code == 504
    provider.open("too late")
    said += [chunk.choices[0].delta.content for chunk in stream]
    assert said == ["begun ", "and ended"]
    begun = [o for o in stage.observations(4) if o["level"] == "DEFAULT"]
    assert [o["output"]["content"] for o in begun] == ["begun and ended"] * 2


def test_a_client_that_leaves_in_a_pause(stage: Stage, provider: Provider):
    """Nobody is asked for it any more."""
    at_length = fails_at_length(provider, 503, math.inf, retry_after="1")

    async def fail(request):
        try:
            return await at_length(request)
        finally:
            provider.gate("asked").set()  # once more than is recorded was read, it pauses

    play(provider, first=fail, second=says())
    config = fallback(retry(1), "second")
    leave(stage, provider, using(config, authorization=f"Bearer {ALICE}"))
    span, calls = tree(stage, 1)
    assert asked(provider) == ["first"]
    assert calls[0]["level"] == "ERROR"
    assert (span["level"], span["metadata"]["ending"]) == ("WARNING", "client_left")


def test_a_client_that_leaves_during_the_second_attempt(stage: Stage, provider: Provider):
    play(provider, first=fails(500), second=hangs(provider), third=says())
    config = fallback("first", "second", "third")
    leave(stage, provider, using(config, authorization=f"Bearer {ALICE}"))
    provider.wait("aborted")
    span, calls = tree(stage, 2)
    assert asked(provider) == ["first", "second"]
    assert calls[1]["metadata"]["ending"] == span["metadata"]["ending"] == "client_left"
    assert [o["level"] for o in (span, *calls)] == ["WARNING", "ERROR", "WARNING"]
