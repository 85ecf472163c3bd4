"""Configs against providers that fail: retries and fallbacks."""

import json
import math
import time

import openai
import pytest
from aiohttp import web

from .conftest import CHAT, Provider, Stage, record
from .deployment import ALICE, STORED, fallback
from .targets import (
    MESSAGES,
    RECORDED_USAGE,
    assert_no_key_is_recorded,
    called,
    chat,
    fails,
    fails_with_long_body,
    key_of,
    post,
    read_events,
    replies,
    set_replies,
    span_and_attempts,
    streams,
    summaries,
    using,
)
from .test_streaming import END, delta, until_aborted

WORDS = ["one ", "two ", "three"]
CHUNKS = [*map(delta, WORDS), END]
EVENTS = [
    f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
    for event in (
        {"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": word},
            }
            for word in WORDS
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    )
]
TARGETS = ["config.targets[0]", "config.targets[1]"]


@pytest.fixture
def stage(with_configs: Stage) -> Stage:
    return with_configs


def retry(attempts: int, **members) -> dict:
    return {"provider": "first", "retry": {"attempts": attempts, **members}}


def test_retries_wait_as_long_as_the_provider_requires(stage: Stage, provider: Provider):
    times: list[float] = []
    scripted = [fails(429, retry_after="1"), fails(503), replies("at last")]

    async def script(request):
        times.append(time.monotonic())
        await record(provider, request)
        return await scripted.pop(0)(request)

    provider.script = script
    reply = chat(stage, using(retry(3)))
    assert reply.parse().choices[0].message.content == "at last"
    assert reply.headers["x-portkey-retry-attempt-count"] == "2"
    assert reply.headers["x-portkey-last-used-option-index"] == "config"
    assert times[1] - times[0] >= 1
    assert len({request.body for request in provider.received}) == 1
    span, calls = span_and_attempts(stage, 3)
    assert summaries(calls) == [
        ("first", 1, "ERROR", "config"),
        ("first", 2, "ERROR", "config"),
        ("first", 3, "DEFAULT", "config"),
    ]
    assert [o["metadata"]["http_status"] for o in calls] == [429, 503, 200]
    assert span["metadata"]["attempts"] == 3
    assert span["start_time"] == calls[0]["start_time"]
    assert span["end_time"] == calls[-1]["end_time"]


def test_the_last_failure_is_relayed_without_a_pause(stage: Stage, provider: Provider):
    last = fails(503, "the last one", retry_after="59", x_own="1")
    set_replies(provider, first=[fails(500, retry_after="0"), last])
    with pytest.raises(openai.InternalServerError, match="the last one") as caught:
        chat(stage, using(retry(1)), timeout=30)
    headers = caught.value.response.headers
    assert (headers["retry-after"], headers["x-own"]) == ("59", "1")
    assert headers["x-portkey-retry-attempt-count"] == "-1"
    assert called(provider) == ["first"] * 2
    span, calls = span_and_attempts(stage, 2)
    assert span["level"] == "ERROR"
    assert span["status_message"] == calls[1]["status_message"] == "HTTP 503: the last one"
    assert headers["x-portkey-trace-id"] == span["trace_id"]


@pytest.mark.parametrize(
    ("config", "reply", "count", "requests"),
    [
        (retry(5), fails(429, retry_after="61"), "-1", 1),
        (retry(5), fails(418), "0", 1),
        (retry(5, on_status_codes=[418]), fails(500), "0", 1),
        (retry(1, on_status_codes=[418]), fails(418), "-1", 2),
        (retry(1, use_retry_after_header=False), fails(429, retry_after="61"), "-1", 2),
        (retry(0), fails(500), "0", 1),
        (retry(5), replies(status=201), "0", 1),
    ],
)
def test_which_responses_are_tried_again(
    stage: Stage, provider: Provider, config, reply, count, requests
):
    set_replies(provider, first=reply)
    answer = post(stage, using(config))
    assert answer.headers["x-portkey-retry-attempt-count"] == count
    assert len(provider.received) == requests
    span_and_attempts(stage, requests)


def test_an_unreachable_provider_is_tried_again(stage: Stage, provider: Provider):
    config = {"provider": "offline", "retry": {"attempts": 1}}
    with pytest.raises(openai.InternalServerError, match="offline could not be reached") as caught:
        chat(stage, using(config))
    assert caught.value.status_code == 502
    headers = caught.value.response.headers
    assert headers["x-portkey-retry-attempt-count"] == "-1"
    span, calls = span_and_attempts(stage, 2)
    assert headers["x-portkey-trace-id"] == span["trace_id"]
    for observation in (span, *calls):
        assert observation["level"] == "ERROR"
        assert observation["status_message"].startswith("The provider could not be reached")
        assert observation["metadata"]["ending"] == "unreachable"


@pytest.mark.parametrize(
    ("failing", "reply", "message"),
    [
        ("offline", fails(500), "The provider could not be reached: "),
        ("first", fails(500), "HTTP 500: a failure"),
        ("first", fails(429, "slow down"), "HTTP 429: slow down"),
        ("first", fails(401, "no such key"), "HTTP 401: no such key"),
    ],
)
@pytest.mark.parametrize("anthropic", [False, True])
def test_a_fallback(stage: Stage, provider: Provider, failing, reply, message, anthropic):
    set_replies(provider, first=reply, second=replies("from the second"))
    headers = using(fallback(failing, "second"))
    if anthropic:
        client = stage.anthropic(api_key=ALICE, default_headers=headers)
        native = client.messages.with_raw_response.create(**MESSAGES)
        assert native.parse().content[0].text == "from the second"
        answered = native.headers
    else:
        whole = chat(stage, headers)
        assert whole.parse().choices[0].message.content == "from the second"
        answered = whole.headers
    assert answered["x-portkey-provider"] == "second"
    assert answered["x-portkey-last-used-option-index"] == TARGETS[1]
    assert answered["x-portkey-retry-attempt-count"] == "0"
    assert key_of(provider.received[-1]) == f"Bearer {STORED['second']}"
    span, calls = span_and_attempts(stage, 2)
    assert answered["x-portkey-trace-id"] == span["trace_id"]
    assert summaries(calls) == [
        (failing, 1, "ERROR", TARGETS[0]),
        ("second", 1, "DEFAULT", TARGETS[1]),
    ]
    assert calls[0]["status_message"].startswith(message)
    assert calls[1]["status_message"] is None
    assert span["input"] == CHAT["messages"]
    assert span["output"] == calls[1]["output"]
    assert "from the second" in str(span["output"])
    assert (span["level"], span["status_message"]) == ("DEFAULT", None)
    assert (calls[0]["usage"], calls[0]["cost"]) == ({}, {})
    assert calls[1]["usage"].items() >= RECORDED_USAGE.items()
    assert calls[1]["cost"] == ({} if anthropic else {"total": 0.25})
    assert calls[1]["model"] == "served-model"
    metadata = {"config": "inline", "gateway_key": "alice", "attempts": 2, "target": TARGETS[1]}
    assert span["metadata"].items() >= metadata.items()
    trace = stage.trace_of(span)
    assert trace["name"] == span["name"]
    assert_no_key_is_recorded(stage)


@pytest.mark.parametrize(
    ("path", "body", "events"),
    [("/v1/chat/completions", CHAT, CHUNKS), ("/v1/messages", MESSAGES, EVENTS)],
)
def test_a_streamed_fallback(stage: Stage, provider: Provider, path, body, events):
    set_replies(provider, first=fails(500), second=streams(provider, *events))
    assert read_events(stage, using(fallback("first", "second")), body, path) == events
    span, calls = span_and_attempts(stage, 2)
    assert "one two three" in str(calls[1]["output"])
    assert span["output"] == calls[1]["output"]
    assert [o["level"] for o in (span, *calls)] == ["DEFAULT", "ERROR", "DEFAULT"]
    assert calls[1]["completion_start_time"] is not None
    assert span["completion_start_time"] is None
    assert span["metadata"]["streamed"] is True


def test_a_streamed_fallback_with_anthropics_sdk(stage: Stage, provider: Provider):
    set_replies(provider, first=fails(529, "overloaded"))
    headers = using(fallback("first", "anthropic"))
    client = stage.anthropic(api_key=ALICE, default_headers=headers)
    with client.messages.stream(**MESSAGES) as stream:
        text = "".join(stream.text_stream)
    assert text == "You said: Hello there"
    span, calls = span_and_attempts(stage, 2)
    assert span["output"] == calls[1]["output"]
    assert text in str(span["output"])
    assert calls[0]["status_message"] == "HTTP 529: overloaded"
    assert calls[1]["usage"]["total"] > 0


@pytest.mark.parametrize(
    ("codes", "status", "providers"),
    [
        ([500], 500, ["first", "second"]),
        ([500], 503, ["first"]),
        ([], 500, ["first"]),
        ([241], 241, ["first", "second"]),
        ([502], 502, ["first", "second"]),
    ],
)
def test_which_statuses_fall_back(stage: Stage, provider: Provider, codes, status, providers):
    set_replies(provider, first=fails(status), second=replies())
    answer = post(stage, using(fallback("first", "second", on_status_codes=codes)))
    assert answer.status_code == (200 if len(providers) == 2 else status)
    assert called(provider) == providers
    span_and_attempts(stage, len(providers))


def test_where_all_fail_the_last_response_is_relayed(stage: Stage, provider: Provider):
    set_replies(provider, first=fails(500), second=fails(429, "the second's own"))
    with pytest.raises(openai.RateLimitError, match="the second's own"):
        chat(stage, using(fallback("first", "second")))
    span, _ = span_and_attempts(stage, 2)
    assert (span["level"], span["status_message"]) == ("ERROR", "HTTP 429: the second's own")


def test_a_request_has_at_most_eight_attempts(stage: Stage, provider: Provider):
    set_replies(provider, first=fails(500), second=replies())
    config = fallback(*["first"] * 8, "second")
    assert post(stage, using(config)).status_code == 500
    assert called(provider) == ["first"] * 8
    span, calls = span_and_attempts(stage, 8)
    assert span["metadata"]["attempts"] == 8
    assert calls[7]["metadata"]["target"] == "config.targets[7]"


@pytest.mark.parametrize("size", [10_000_000, math.inf])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
def test_a_fallback_does_not_wait_for_the_end_of_a_failed_reply(
    stage: Stage, provider: Provider, size, path
):
    set_replies(provider, first=fails_with_long_body(provider, 500, size), second=replies())
    assert post(stage, using(fallback("first", "second")), path=path).status_code == 200
    provider.wait("discarded")
    if path == "/v1/chat/completions":
        _, calls = span_and_attempts(stage, 2)
        assert calls[0]["status_message"].startswith("HTTP 500: x x x")
        assert "bytes are recorded" in str(calls[0]["metadata"]["notes"])


@pytest.mark.long
def test_a_failed_reply_that_stalls_is_captured_for_some_seconds(stage: Stage, provider: Provider):
    """The client has its reply before the capture ends."""

    async def stuck(request):
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        await response.write(b"it is")
        await until_aborted(provider)
        return response

    set_replies(provider, first=stuck, second=replies())
    assert post(stage, using(fallback("first", "second"))).status_code == 200
    assert not provider.gate("aborted").is_set()
    provider.wait("aborted")
    _, calls = span_and_attempts(stage, 2)
    assert calls[0]["status_message"] == "HTTP 500: it is"
    assert calls[0]["metadata"]["ending"] == "cut"
