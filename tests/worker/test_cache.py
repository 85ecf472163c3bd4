"""Cached replies: what is cached, for which later requests, and for how long."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiohttp import web

from .conftest import Provider, Stage
from .deployment import ALICE, BOB, PROVIDER_KEY, fallback
from .targets import (
    Reply,
    assert_no_key_is_recorded,
    called,
    chat,
    fails,
    post,
    replies,
    set_replies,
    span_and_attempts,
    using,
)

SIMPLE = {"mode": "simple"}
CACHED = {"provider": "first", "cache": SIMPLE}


@pytest.fixture
def stage(with_configs: Stage) -> Stage:
    return with_configs


@pytest.fixture(autouse=True)
def _replies(provider: Provider):
    """Each reply differs from the others."""

    async def count(request: web.Request) -> web.StreamResponse:
        return await replies(f"reply {len(provider.received)}", set_cookie="a=1", x_own="1")(
            request
        )

    set_replies(provider, first=count, second=count)


@pytest.fixture
def body() -> dict[str, Any]:
    """The body of a request that is not cached."""
    return {"model": "m", "messages": [{"role": "user", "content": uuid4().hex}]}


def status_of(reply: Any) -> str | None:
    return reply.headers.get("x-portkey-cache-status")


def call_until(status: str, call: Callable[[], httpx.Response]) -> httpx.Response:
    """Repeat a call until its cache status is this: the cache is written after the response."""
    while status_of(reply := call()) != status:
        continue
    return reply


def test_an_equal_request_gets_the_cached_reply(stage: Stage, provider: Provider, body):
    first = chat(stage, using(CACHED), **body)
    assert status_of(first) == "MISS"
    assert first.headers["x-own"] == "1"
    assert "a=1" in first.headers["set-cookie"]
    span, _ = span_and_attempts(stage, 1)  # the reply is cached before it is traced
    assert span["metadata"]["cache_status"] == "MISS"
    # Headers about the trace are not part of the cache's key.
    again = chat(stage, using(CACHED, x_portkey_trace_id="another"), **body)
    assert status_of(again) == "HIT"
    assert again.text == first.text
    assert again.headers["content-type"] == first.headers["content-type"]
    dropped = {"set-cookie", "x-own", "cf-cache-status", "cache-control", "x-portkey-provider"}
    assert not dropped & {name.lower() for name in again.headers}
    assert len(provider.received) == 1
    (hit,) = [o for o in stage.observations(3) if o["metadata"].get("cache_status") == "HIT"]
    assert again.headers["x-portkey-trace-id"] == hit["trace_id"] != span["trace_id"]
    assert (hit["type"], hit["level"], hit["model"]) == ("SPAN", "DEFAULT", None)
    assert (hit["usage"], hit["cost"]) == ({}, {})
    assert (hit["input"], hit["output"]) == (span["input"], span["output"])
    assert not {"target", "attempts"} & set(hit["metadata"])
    assert len(stage.observations(3)) == 3
    assert_no_key_is_recorded(stage)


def test_force_refresh_replaces_the_cached_reply(stage: Stage, provider: Provider, body):
    assert status_of(chat(stage, using(CACHED), **body)) == "MISS"
    span_and_attempts(stage, 1)
    headers = using(CACHED, x_portkey_cache_force_refresh="true")
    refreshed = chat(stage, headers, **body)
    assert status_of(refreshed) == "REFRESH"
    stage.observations(4)
    for value in ("false", "", "0"):
        again = chat(stage, using(CACHED, x_portkey_cache_force_refresh=value), **body)
        assert (status_of(again), again.text) == ("HIT", refreshed.text)
    assert len(provider.received) == 2


def test_streams_other_methods_and_unreadable_bodies_are_not_cached(
    stage: Stage, provider: Provider, body
):
    for _ in range(2):
        assert status_of(post(stage, using(CACHED), {**body, "stream": True})) == "DISABLED"
    headers = {"authorization": f"Bearer {ALICE}", **using(CACHED)}
    with stage.http(headers=headers) as client:
        for _ in range(2):
            assert status_of(client.get("/v1/models")) == "DISABLED"
            assert status_of(client.post("/v1/other", content=b"no JSON")) == "DISABLED"
    assert len(provider.received) == 6
    assert {o["metadata"].get("cache_status") for o in stage.observations(4)} == {"DISABLED", None}


def test_without_a_cache_in_the_config_there_is_no_cache_status(stage: Stage, body):
    assert status_of(post(stage, using({"provider": "first"}), body)) is None
    assert status_of(post(stage, {"x-portkey-provider": "first"}, body)) is None


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("another gateway key", {"key": BOB}),
    ("another config", {"headers": using({**CACHED, "cache": {**SIMPLE, "max_age": 99}})}),
    ("another provider", {"headers": using({**CACHED, "provider": "second"})}),
    ("another body", {"more": {"temperature": 0}}),
    ("another path", {"path": "/v1/completions"}),
    ("another query", {"path": "/v1/chat/completions?a=1"}),
    ("another project", {"headers": using(CACHED, openai_project="p")}),
    ("other metadata", {"headers": using(CACHED, x_portkey_metadata='{"tenant": "b"}')}),
    ("another type", {"headers": using(CACHED, content_type="text/plain")}),
]


@pytest.mark.parametrize("other", [row[1] for row in OTHERS], ids=[row[0] for row in OTHERS])
def test_a_request_that_differs_is_not_answered_from_the_cache(
    stage: Stage, provider: Provider, body, other
):
    assert status_of(post(stage, using(CACHED), body)) == "MISS"
    span_and_attempts(stage, 1)
    other = {"headers": using(CACHED), **other}
    more = other.pop("more", {})
    reply = post(stage, body={**body, **more}, **other)
    assert (reply.status_code, status_of(reply)) == (200, "MISS")
    assert len(provider.received) == 2
    assert status_of(post(stage, using(CACHED), body)) == "HIT"


def test_named_configs_have_separate_caches(stage: Stage, body):
    assert status_of(post(stage, using("cached"), body)) == "MISS"
    span_and_attempts(stage, 1)
    assert status_of(post(stage, using("cached-too"), body)) == "MISS"
    assert status_of(post(stage, using("cached"), body)) == "HIT"


def test_callers_with_different_provider_keys_have_separate_caches(
    stage: Stage, provider: Provider, body
):
    """The key is in the request or in the config; or the request names the provider."""
    assert status_of(post(stage, using(CACHED), body, key=PROVIDER_KEY)) == "MISS"
    span_and_attempts(stage, 1)
    assert status_of(post(stage, using(CACHED), body, key=f"{PROVIDER_KEY}-2")) == "MISS"
    assert status_of(post(stage, using(CACHED), body)) == "MISS"
    for n in range(2):
        own = {**CACHED, "api_key": f"sk-own-0123456789-{n}"}
        assert status_of(post(stage, using(own), body, key=None)) == "MISS"
    for slug in ("first", "second"):
        headers = using({"cache": SIMPLE}, x_portkey_provider=slug)
        assert status_of(post(stage, headers, body)) == "MISS"
    assert status_of(post(stage, using(CACHED), body, key=PROVIDER_KEY)) == "HIT"
    assert len(provider.received) == 7


async def _text(request: web.Request) -> web.Response:
    return web.Response(text='{"no": "json"}')


async def _interrupted(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b"{}")
    assert request.transport
    request.transport.abort()
    return response


def _json(reply: Any) -> Reply:
    async def script(request: web.Request) -> web.Response:
        return web.json_response(reply)

    return script


async def _large(request: web.Request) -> web.Response:
    return web.json_response({"text": "x" * 5_000_000})


@pytest.mark.parametrize(
    "reply",
    [
        fails(500),
        fails(429),
        fails(404),
        replies(status=201),
        replies(status=203),
        _text,
        _interrupted,
        _large,
        _json({"error": {"message": "m"}}),
        _json({"success": False, "errors": [{"message": "m"}]}),
        _json({"choices": [{"message": {"content": "a"}, "finish_reason": "error"}]}),
        _json({}),
    ],
    ids=[
        *("500", "429", "404", "201", "203", "text", "interrupted", "large"),
        *("error", "success false", "error in a choice", "empty"),
    ],
)
def test_a_reply_that_is_not_a_whole_200_with_json_is_not_cached(
    stage: Stage, provider: Provider, body, reply: Reply
):
    set_replies(provider, first=reply)
    for n in (1, 2):
        try:
            assert status_of(post(stage, using(CACHED), body)) == "MISS"
        except httpx.RemoteProtocolError:
            assert reply is _interrupted
        stage.observations(2 * n)
    assert len(provider.received) == 2


def test_a_cached_reply_expires(stage: Stage, provider: Provider, body):
    brief = using({**CACHED, "cache": {**SIMPLE, "max_age": 1}})
    began = time.monotonic()
    first = post(stage, brief, body)
    assert status_of(first) == "MISS"
    span_and_attempts(stage, 1)
    second = call_until("MISS", lambda: post(stage, brief, body))
    assert time.monotonic() - began >= 1
    assert second.text != first.text
    assert len(provider.received) == 2


def test_the_reply_of_a_fallback_is_cached(stage: Stage, provider: Provider, body):
    set_replies(provider, first=fails(500), second=replies("good"))
    config = using({**fallback("first", "second"), "cache": SIMPLE})
    assert status_of(post(stage, config, body)) == "MISS"
    span_and_attempts(stage, 2)
    reply = post(stage, config, body)
    assert status_of(reply) == "HIT"
    assert "good" in reply.text
    assert called(provider) == ["first", "second"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
def test_without_tracing(untraced: Stage, provider: Provider, body, path):
    def call() -> httpx.Response:
        return post(untraced, using(CACHED), body, path)

    assert status_of(call()) == "MISS"
    hit = call_until("HIT", call)
    calls = len(provider.received)
    assert "reply " in hit.text
    assert status_of(call()) == "HIT"
    assert len(provider.received) == calls
    assert "x-portkey-trace-id" not in hit.headers
    assert untraced.observations_now() == []


def test_a_request_with_trace_off(stage: Stage, body):
    headers = using(CACHED, x_portkey_trace="off")
    call_until("HIT", lambda: post(stage, headers, body))
    assert stage.traced_so_far() == []
