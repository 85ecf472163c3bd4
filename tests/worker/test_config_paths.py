"""Configs on every path, traced or not: each attempt is the client's own request."""

from typing import Any

import openai
import pytest
from aiohttp import web

from .conftest import CHAT, Provider, Stage
from .targets import (
    ALICE,
    STORED,
    Reply,
    asked,
    assert_nothing_is_recorded,
    chat,
    fails,
    fallback,
    hangs,
    key_of,
    play,
    post,
    received,
    says,
    says_after,
    streams,
    trace_of,
    tree,
    using,
    variables,
)
from .test_streaming import END, delta, leave

pytestmark = pytest.mark.long

BOTH = fallback("first", "second")
OFF = {"LANGFUSE_PUBLIC_KEY": None, "LANGFUSE_SECRET_KEY": None}


@pytest.fixture
def stage(stage_with, environment, provider: Provider) -> Stage:
    return stage_with(**variables(provider, environment))


@pytest.fixture
def untraced(stage_with, environment, provider: Provider) -> Stage:
    return stage_with(**variables(provider, environment), **OFF)


def gives(value: Any) -> Reply:
    async def reply(_: web.Request) -> web.Response:
        return web.json_response(value)

    return reply


def assert_both_got_the_same(provider: Provider) -> None:
    """Each attempt has all of the request, and the key of its own target."""
    first, second = provider.seen
    assert (first.method, first.body) == (second.method, second.body)
    assert first.target.replace("first", "second") == second.target
    own = ("authorization", "host")
    headers = [
        sorted((name.lower(), value) for name, value in seen.headers if name.lower() not in own)
        for seen in provider.seen
    ]
    assert headers[0] == headers[1]
    assert not any(name.startswith("x-portkey") for name, _ in headers[0])
    assert key_of(first) == f"Bearer {STORED['first']}"
    assert key_of(second) == f"Bearer {STORED['second']}"


def test_the_models_of_whoever_is_there(stage: Stage, provider: Provider):
    listed = {"object": "list", "data": [{"id": "m", "object": "model"}]}
    play(provider, first=fails(500), second=gives(listed))
    client = stage.openai(api_key=ALICE, default_headers=using(BOTH))
    reply = client.models.with_raw_response.list()
    assert [model.id for model in reply.parse().data] == ["m"]
    assert reply.headers["x-portkey-provider"] == "second"
    assert reply.headers["x-portkey-last-used-option-index"] == "config.targets[1]"
    assert "x-portkey-trace-id" not in reply.headers
    assert [(seen.method, seen.target) for seen in provider.seen] == [
        ("GET", "/first/models"),
        ("GET", "/second/models"),
    ]
    assert_both_got_the_same(provider)
    assert stage.traced_so_far() == []


def test_a_file_goes_to_each(stage: Stage, provider: Provider):
    data = bytes(n * n % 251 for n in range(1_000_000))
    made = {"id": "file-1", "object": "file", "filename": "x.bin", "purpose": "batch"}
    play(provider, first=fails(503), second=gives(made))
    client = stage.openai(api_key=ALICE, default_headers=using(BOTH))
    assert client.files.create(file=("x.bin", data), purpose="batch").id == "file-1"
    assert data in provider.seen[1].body
    assert_both_got_the_same(provider)
    assert stage.traced_so_far() == []


def test_a_delete_goes_to_each(stage: Stage, provider: Provider):
    play(provider, first=fails(503), second=gives({"id": "file-1", "deleted": True}))
    client = stage.openai(api_key=ALICE, default_headers=using(BOTH))
    assert client.files.delete("file-1").deleted
    assert_both_got_the_same(provider)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
def test_headers_and_query_reach_each_attempt(stage: Stage, provider: Provider, path):
    play(provider, first=fails(500), second=says())
    sent = {"idempotency-key": "once-1", "openai-beta": "assistants=v2", "x-own": "1"}
    query = "api-version=1&a=%2F%20&a=2&empty="
    assert post(stage, using(BOTH, **sent), path=f"{path}?{query}").status_code == 200
    assert_both_got_the_same(provider)
    for seen in provider.seen:
        assert sent.items() <= {name.lower(): value for name, value in seen.headers}.items()
        assert seen.target.partition("?")[2] == query


def test_a_body_over_the_limit_is_not_replayed(stage: Stage, provider: Provider):
    play(provider, first=says(), second=says())
    with stage.http(headers={"authorization": f"Bearer {ALICE}"}) as client:
        data, headers = b"x" * 2_000_001, {"x-portkey-provider": "first"}
        refused = client.post("/v1/files", content=data, headers=using(BOTH))
        assert refused.status_code == 413
        assert provider.seen == []
        assert client.post("/v1/files", content=data, headers=headers).status_code == 200


def test_without_tracing(untraced: Stage, provider: Provider):
    play(provider, first=fails(500), second=says("untraced"))
    reply = chat(untraced, using(BOTH))
    assert reply.parse().choices[0].message.content == "untraced"
    assert reply.headers["x-portkey-last-used-option-index"] == "config.targets[1]"
    assert reply.headers["x-portkey-retry-attempt-count"] == "0"
    assert "x-portkey-trace-id" not in reply.headers
    assert_both_got_the_same(provider)
    again = {"provider": "first", "retry": {"attempts": 1}}
    with pytest.raises(openai.InternalServerError, match="so it goes") as caught:
        chat(untraced, using(again))
    assert caught.value.response.headers["x-portkey-retry-attempt-count"] == "-1"
    assert_nothing_is_recorded(untraced)


def test_a_stream_without_tracing(untraced: Stage, provider: Provider):
    events = [delta("one "), delta("two"), END]
    play(provider, first=fails(500), second=streams(provider, *events))
    assert received(untraced, using(BOTH), CHAT, "/v1/chat/completions") == events


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
def test_a_timeout_without_tracing(untraced: Stage, provider: Provider, path):
    play(provider, first=hangs(provider), second=says_after(provider, "aborted"))
    slow = {"provider": "first", "request_timeout": 100}
    assert post(untraced, using(fallback(slow, "second")), path=path).status_code == 200
    assert post(untraced, using(slow), path=path).status_code == 504


def test_a_client_that_leaves_without_tracing(untraced: Stage, provider: Provider):
    play(provider, first=fails(500), second=hangs(provider))
    leave(untraced, provider, using(BOTH, authorization=f"Bearer {ALICE}"))
    provider.wait("aborted")
    assert asked(provider) == ["first", "second"]


def test_a_request_that_is_not_to_be_traced(stage: Stage, provider: Provider):
    play(provider, first=fails(500), second=says())
    reply = chat(stage, using(BOTH, x_portkey_trace="off"))
    assert reply.headers["x-portkey-provider"] == "second"
    assert "x-portkey-trace-id" not in reply.headers
    assert stage.traced_so_far() == []


def test_a_request_whose_content_is_not_to_be_traced(stage: Stage, provider: Provider):
    play(provider, first=fails(500, "content of an error"), second=says("content of a reply"))
    messages = [{"role": "user", "content": "content of a request"}]
    chat(stage, using(BOTH, x_portkey_trace="usage"), messages=messages)
    span, calls = tree(stage, 2)
    for observation in (span, *calls):
        assert (observation["input"], observation["output"]) == (None, None)
    assert calls[0]["status_message"] == "HTTP 500"
    assert calls[1]["usage"]["total"] == 12
    recorded = b"".join(request.body for request in stage.inbox.requests)
    assert b"content of" not in recorded


def test_a_trace_of_the_callers_own(stage: Stage, provider: Provider):
    """The span joins it, and the attempts stand below the span."""
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    play(provider, first=fails(500), second=says())
    headers = using(BOTH, traceparent=f"00-{trace_id}-{parent}-01", x_portkey_span_name="greet")
    reply = chat(stage, headers)
    assert reply.headers["x-portkey-trace-id"] == trace_id
    span, calls = tree(stage, 2)
    assert span["trace_id"] == trace_id
    assert span["parent_id"] == parent
    assert {o["name"] for o in (span, *calls)} == {"greet"}
    trace = trace_of(stage, span)
    assert (trace["name"], trace["input"], trace["output"]) == (None, None, None)


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
def test_a_trace_in_each_protocol(stage_with, environment, provider: Provider, protocol):
    changes = {} if protocol == "ingestion" else {"LANGFUSE_PROTOCOL": protocol}
    stage = stage_with(**variables(provider, environment), **changes)
    play(provider, first=fails(500), second=says("told in each protocol"))
    headers = {"x-portkey-user-id": "ada", "x-portkey-metadata": '{"team": "search"}'}
    chat(stage, using(BOTH, **headers))
    span, calls = tree(stage, 2)
    assert {o["protocol"] for o in (span, *calls)} == {protocol}
    assert "told in each protocol" in str(span["output"])
    assert {o["user_id"] for o in (span, *calls)} == {"ada"}
    assert {o["metadata"]["team"] for o in (span, *calls)} == {"search"}
    assert [o["type"] for o in calls] == ["GENERATION"] * 2
    trace = trace_of(stage, span)
    assert trace["user_id"] == "ada"
    assert trace["name"] == span["name"]
