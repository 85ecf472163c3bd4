"""Replies that are kept: for whom, for how long, and which never are."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiohttp import web

from .conftest import PROVIDER_KEY, Provider, Stage
from .targets import (
    ALICE,
    BOB,
    Reply,
    asked,
    assert_no_key_is_recorded,
    assert_nothing_is_recorded,
    chat,
    fails,
    fallback,
    play,
    post,
    says,
    tree,
    using,
    variables,
)

SIMPLE = {"mode": "simple"}
KEPT = {"provider": "first", "cache": SIMPLE}


@pytest.fixture
def stage(stage_with, environment, provider: Provider) -> Stage:
    return stage_with(**variables(provider, environment))


@pytest.fixture
def untraced(stage_with, environment, provider: Provider) -> Stage:
    off = {"LANGFUSE_PUBLIC_KEY": None, "LANGFUSE_SECRET_KEY": None}
    return stage_with(**variables(provider, environment), **off)


@pytest.fixture(autouse=True)
def _answering(provider: Provider):
    """Each reply is another one."""

    async def count(request: web.Request) -> web.StreamResponse:
        return await says(f"reply {len(provider.seen)}", set_cookie="a=1", x_own="1")(request)

    play(provider, first=count, second=count)


@pytest.fixture
def body() -> dict[str, Any]:
    """A request that nobody has made before."""
    return {"model": "m", "messages": [{"role": "user", "content": uuid4().hex}]}


def status_of(reply: Any) -> str | None:
    return reply.headers.get("x-portkey-cache-status")


def until(status: str, ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask until the cache says this: it is filled when the client has long had its reply."""
    end = time.monotonic() + 10
    while status_of(reply := ask()) != status:
        assert time.monotonic() < end
    return reply


def test_the_same_request_gets_the_same_reply(stage: Stage, provider: Provider, body):
    first = chat(stage, using(KEPT), **body)
    assert status_of(first) == "MISS"
    assert first.headers["x-own"] == "1"
    assert "a=1" in first.headers["set-cookie"]
    span, _ = tree(stage, 1)  # it is kept before it is told
    assert span["metadata"]["cache_status"] == "MISS"
    # Who asks for the sake of which trace makes no difference.
    again = chat(stage, using(KEPT, x_portkey_trace_id="another"), **body)
    assert status_of(again) == "HIT"
    assert again.text == first.text
    assert again.headers["content-type"] == first.headers["content-type"]
    theirs = {"set-cookie", "x-own", "cf-cache-status", "cache-control", "x-portkey-provider"}
    assert not theirs & {name.lower() for name in again.headers}
    assert len(provider.seen) == 1
    (hit,) = [o for o in stage.observations(3) if o["metadata"].get("cache_status") == "HIT"]
    assert again.headers["x-portkey-trace-id"] == hit["trace_id"] != span["trace_id"]
    assert (hit["type"], hit["level"], hit["model"]) == ("SPAN", "DEFAULT", None)
    assert (hit["usage"], hit["cost"]) == ({}, {})
    assert (hit["input"], hit["output"]) == (span["input"], span["output"])
    assert not {"target", "attempts"} & set(hit["metadata"])
    assert len(stage.observations(3)) == 3
    assert_no_key_is_recorded(stage)


def test_a_reply_is_refreshed(stage: Stage, provider: Provider, body):
    assert status_of(chat(stage, using(KEPT), **body)) == "MISS"
    tree(stage, 1)
    headers = using(KEPT, x_portkey_cache_force_refresh="true")
    refreshed = chat(stage, headers, **body)
    assert status_of(refreshed) == "REFRESH"
    stage.observations(4)
    for said in ("false", "", "0"):
        again = chat(stage, using(KEPT, x_portkey_cache_force_refresh=said), **body)
        assert (status_of(again), again.text) == ("HIT", refreshed.text)
    assert len(provider.seen) == 2


def test_what_is_not_whole_is_not_kept(stage: Stage, provider: Provider, body):
    """A stream, a request that is no POST, and one of which nobody knows whether it is one."""
    for _ in range(2):
        assert status_of(post(stage, using(KEPT), {**body, "stream": True})) == "DISABLED"
    headers = {"authorization": f"Bearer {ALICE}", **using(KEPT)}
    with stage.http(headers=headers) as client:
        for _ in range(2):
            assert status_of(client.get("/v1/models")) == "DISABLED"
            assert status_of(client.post("/v1/other", content=b"no JSON")) == "DISABLED"
    assert len(provider.seen) == 6
    assert {o["metadata"].get("cache_status") for o in stage.observations(4)} == {"DISABLED", None}


def test_without_a_cache_there_is_no_word_of_it(stage: Stage, body):
    assert status_of(post(stage, using({"provider": "first"}), body)) is None
    assert status_of(post(stage, {"x-portkey-provider": "first"}, body)) is None


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("another gateway key", {"key": BOB}),
    ("another config", {"headers": using({**KEPT, "cache": {**SIMPLE, "max_age": 99}})}),
    ("another provider", {"headers": using({**KEPT, "provider": "second"})}),
    ("another body", {"more": {"temperature": 0}}),
    ("another path", {"path": "/v1/completions"}),
    ("another query", {"path": "/v1/chat/completions?a=1"}),
    ("another project", {"headers": using(KEPT, openai_project="p")}),
    ("other metadata", {"headers": using(KEPT, x_portkey_metadata='{"tenant": "b"}')}),
    ("another type", {"headers": using(KEPT, content_type="text/plain")}),
]


@pytest.mark.parametrize("other", [row[1] for row in OTHERS], ids=[row[0] for row in OTHERS])
def test_what_shares_no_reply(stage: Stage, provider: Provider, body, other):
    assert status_of(post(stage, using(KEPT), body)) == "MISS"
    tree(stage, 1)
    other = {"headers": using(KEPT), **other}
    more = other.pop("more", {})
    reply = post(stage, body={**body, **more}, **other)
    assert (reply.status_code, status_of(reply)) == (200, "MISS")
    assert len(provider.seen) == 2
    assert status_of(post(stage, using(KEPT), body)) == "HIT"


def test_named_configs_share_no_reply(stage: Stage, body):
    assert status_of(post(stage, using("kept"), body)) == "MISS"
    tree(stage, 1)
    assert status_of(post(stage, using("kept-too"), body)) == "MISS"
    assert status_of(post(stage, using("kept"), body)) == "HIT"


def test_callers_share_no_reply(stage: Stage, provider: Provider, body):
    """Each brings a key of its own, in the request or in the config, or names its provider."""
    assert status_of(post(stage, using(KEPT), body, key=PROVIDER_KEY)) == "MISS"
    tree(stage, 1)
    assert status_of(post(stage, using(KEPT), body, key=f"{PROVIDER_KEY}-2")) == "MISS"
    assert status_of(post(stage, using(KEPT), body)) == "MISS"
    for n in range(2):
        own = {**KEPT, "api_key": f"sk-own-0123456789-{n}"}
        assert status_of(post(stage, using(own), body, key=None)) == "MISS"
    for slug in ("first", "second"):
        headers = using({"cache": SIMPLE}, x_portkey_provider=slug)
        assert status_of(post(stage, headers, body)) == "MISS"
    assert status_of(post(stage, using(KEPT), body, key=PROVIDER_KEY)) == "HIT"
    assert len(provider.seen) == 7


async def _text(request: web.Request) -> web.Response:
    return web.Response(text='{"no": "json"}')


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b"{}")
    assert request.transport
    request.transport.abort()
    return response


async def _large(request: web.Request) -> web.Response:
    return web.json_response({"text": "x" * 5_000_000})


@pytest.mark.parametrize(
    "reply",
    [fails(500), fails(429), fails(404), says(status=201), says(status=203), _text, _cut, _large],
    ids=["500", "429", "404", "201", "203", "text", "cut", "large"],
)
def test_what_is_never_kept(stage: Stage, provider: Provider, body, reply: Reply):
    play(provider, first=reply)
    for n in (1, 2):
        try:
            assert status_of(post(stage, using(KEPT), body)) == "MISS"
        except httpx.RemoteProtocolError:
            assert reply is _cut
        stage.observations(2 * n)
    assert len(provider.seen) == 2


def test_a_reply_is_kept_for_its_time(stage: Stage, provider: Provider, body):
    brief = using({**KEPT, "cache": {**SIMPLE, "max_age": 1}})
    began = time.monotonic()
    first = post(stage, brief, body)
    assert status_of(first) == "MISS"
    tree(stage, 1)
    gone = until("MISS", lambda: post(stage, brief, body))
    assert time.monotonic() - began >= 1
    assert gone.text != first.text
    assert len(provider.seen) == 2


def test_of_a_fallback_the_reply_that_was_good_is_kept(stage: Stage, provider: Provider, body):
    play(provider, first=fails(500), second=says("good"))
    config = using({**fallback("first", "second"), "cache": SIMPLE})
    assert status_of(post(stage, config, body)) == "MISS"
    tree(stage, 2)
    reply = post(stage, config, body)
    assert status_of(reply) == "HIT"
    assert "good" in reply.text
    assert asked(provider) == ["first", "second"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
def test_without_tracing(untraced: Stage, provider: Provider, body, path):
    def ask() -> httpx.Response:
        return post(untraced, using(KEPT), body, path)

    assert status_of(ask()) == "MISS"
    hit = until("HIT", ask)
    asked_so_far = len(provider.seen)
    assert "reply " in hit.text
    assert status_of(ask()) == "HIT"
    assert len(provider.seen) == asked_so_far
    assert "x-portkey-trace-id" not in hit.headers
    assert_nothing_is_recorded(untraced)


def test_a_request_that_is_not_to_be_traced(stage: Stage, body):
    headers = using(KEPT, x_portkey_trace="off")
    until("HIT", lambda: post(stage, headers, body))
    assert stage.traced_so_far() == []
