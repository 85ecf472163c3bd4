"""Configs on paths that are traced and on paths that are not: every attempt sends the client's own
request."""

from typing import Any

import openai
import pytest
from aiohttp import web

from .conftest import CHAT, Provider, Stage
from .deployment import ALICE, STORED, fallback
from .targets import (
    Reply,
    called,
    chat,
    fails,
    hangs,
    key_of,
    post,
    read_events,
    replies,
    replies_after,
    set_replies,
    span_and_attempts,
    streams,
    using,
)
from .test_streaming import END, delta, leave

pytestmark = pytest.mark.long

BOTH = fallback("first", "second")


@pytest.fixture
def stage(with_configs: Stage) -> Stage:
    return with_configs


def replies_json(value: Any) -> Reply:
    async def reply(_: web.Request) -> web.Response:
        return web.json_response(value)

    return reply


def assert_both_received_the_same(provider: Provider) -> None:
    """Assert that each attempt has all of the request, and the key of its own target."""
    first, second = provider.received
    assert (first.method, first.body) == (second.method, second.body)
    assert first.target.replace("first", "second") == second.target
    own = ("authorization", "host")
    headers = [
        sorted((name.lower(), value) for name, value in request.headers if name.lower() not in own)
        for request in provider.received
    ]
    assert headers[0] == headers[1]
    assert not any(name.startswith("x-portkey") for name, _ in headers[0])
    assert key_of(first) == f"Bearer {STORED['first']}"
    assert key_of(second) == f"Bearer {STORED['second']}"


def test_a_list_of_models_falls_back(stage: Stage, provider: Provider):
    listed = {"object": "list", "data": [{"id": "m", "object": "model"}]}
    set_replies(provider, first=fails(500), second=replies_json(listed))
    client = stage.openai(api_key=ALICE, default_headers=using(BOTH))
    reply = client.models.with_raw_response.list()
    assert [model.id for model in reply.parse().data] == ["m"]
    assert reply.headers["x-portkey-provider"] == "second"
    assert reply.headers["x-portkey-last-used-option-index"] == "config.targets[1]"
    assert "x-portkey-trace-id" not in reply.headers
    assert [(request.method, request.target) for request in provider.received] == [
        ("GET", "/first/models"),
        ("GET", "/second/models"),
    ]
    assert_both_received_the_same(provider)
    assert stage.traced_so_far() == []


def test_an_upload_is_sent_to_each_target(stage: Stage, provider: Provider):
    data = bytes(n * n % 251 for n in range(1_000_000))
    made = {"id": "file-1", "object": "file", "filename": "x.bin", "purpose": "batch"}
    set_replies(provider, first=fails(503), second=replies_json(made))
    client = stage.openai(api_key=ALICE, default_headers=using(BOTH))
    assert client.files.create(file=("x.bin", data), purpose="batch").id == "file-1"
    assert data in provider.received[1].body
    assert_both_received_the_same(provider)
    assert stage.traced_so_far() == []


def test_a_delete_is_sent_to_each_target(stage: Stage, provider: Provider):
    set_replies(provider, first=fails(503), second=replies_json({"id": "file-1", "deleted": True}))
    client = stage.openai(api_key=ALICE, default_headers=using(BOTH))
    assert client.files.delete("file-1").deleted
    assert_both_received_the_same(provider)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
def test_each_attempt_has_the_headers_and_the_query(stage: Stage, provider: Provider, path):
    set_replies(provider, first=fails(500), second=replies())
    sent = {"idempotency-key": "once-1", "openai-beta": "assistants=v2", "x-own": "1"}
    query = "api-version=1&a=%2F%20&a=2&empty="
    assert post(stage, using(BOTH, **sent), path=f"{path}?{query}").status_code == 200
    assert_both_received_the_same(provider)
    for request in provider.received:
        assert sent.items() <= {name.lower(): value for name, value in request.headers}.items()
        assert request.target.partition("?")[2] == query


def test_a_body_over_the_limit_is_refused_with_a_config(stage: Stage, provider: Provider):
    set_replies(provider, first=replies(), second=replies())
    with stage.http(headers={"authorization": f"Bearer {ALICE}"}) as client:
        data, headers = b"x" * 2_000_001, {"x-portkey-provider": "first"}
        refused = client.post("/v1/files", content=data, headers=using(BOTH))
        assert refused.status_code == 413
        assert provider.received == []
        assert client.post("/v1/files", content=data, headers=headers).status_code == 200


def test_without_tracing(untraced: Stage, provider: Provider):
    set_replies(provider, first=fails(500), second=replies("untraced"))
    reply = chat(untraced, using(BOTH))
    assert reply.parse().choices[0].message.content == "untraced"
    assert reply.headers["x-portkey-last-used-option-index"] == "config.targets[1]"
    assert reply.headers["x-portkey-retry-attempt-count"] == "0"
    assert "x-portkey-trace-id" not in reply.headers
    assert_both_received_the_same(provider)
    again = {"provider": "first", "retry": {"attempts": 1}}
    with pytest.raises(openai.InternalServerError, match="a failure") as caught:
        chat(untraced, using(again))
    assert caught.value.response.headers["x-portkey-retry-attempt-count"] == "-1"
    assert untraced.observations_now() == []


def test_a_stream_without_tracing(untraced: Stage, provider: Provider):
    events = [delta("one "), delta("two"), END]
    set_replies(provider, first=fails(500), second=streams(provider, *events))
    assert read_events(untraced, using(BOTH), CHAT, "/v1/chat/completions") == events


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
def test_a_timeout_without_tracing(untraced: Stage, provider: Provider, path):
    set_replies(provider, first=hangs(provider), second=replies_after(provider, "aborted"))
    slow = {"provider": "first", "request_timeout": 100}
    assert post(untraced, using(fallback(slow, "second")), path=path).status_code == 200
    assert post(untraced, using(slow), path=path).status_code == 504


def test_a_client_that_leaves_without_tracing(untraced: Stage, provider: Provider):
    set_replies(provider, first=fails(500), second=hangs(provider))
    leave(untraced, provider, using(BOTH, authorization=f"Bearer {ALICE}"))
    provider.wait("aborted")
    assert called(provider) == ["first", "second"]


def test_a_request_with_trace_off(stage: Stage, provider: Provider):
    set_replies(provider, first=fails(500), second=replies())
    reply = chat(stage, using(BOTH, x_portkey_trace="off"))
    assert reply.headers["x-portkey-provider"] == "second"
    assert "x-portkey-trace-id" not in reply.headers
    assert stage.traced_so_far() == []


def test_a_request_with_trace_usage_has_no_content(stage: Stage, provider: Provider):
    set_replies(
        provider, first=fails(500, "content of an error"), second=replies("content of a reply")
    )
    messages = [{"role": "user", "content": "content of a request"}]
    chat(stage, using(BOTH, x_portkey_trace="usage"), messages=messages)
    span, calls = span_and_attempts(stage, 2)
    for observation in (span, *calls):
        assert (observation["input"], observation["output"]) == (None, None)
    assert calls[0]["status_message"] == "HTTP 500"
    assert calls[1]["usage"]["total"] == 12
    recorded = b"".join(request.body for request in stage.inbox.requests)
    assert b"content of" not in recorded


def test_the_span_joins_the_callers_trace(stage: Stage, provider: Provider):
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    set_replies(provider, first=fails(500), second=replies())
    headers = using(BOTH, traceparent=f"00-{trace_id}-{parent}-01", x_portkey_span_name="greet")
    reply = chat(stage, headers)
    assert reply.headers["x-portkey-trace-id"] == trace_id
    span, calls = span_and_attempts(stage, 2)
    assert span["trace_id"] == trace_id
    assert span["parent_id"] == parent
    assert {o["name"] for o in (span, *calls)} == {"greet"}
    trace = stage.trace_of(span)
    assert (trace["name"], trace["input"], trace["output"]) == (None, None, None)


def test_a_span_with_attempts_by_ingestion(with_configs: Stage):
    check_protocol(with_configs, "ingestion")


def test_a_span_with_attempts_by_otlp(with_otlp: Stage):
    check_protocol(with_otlp, "otlp")


def check_protocol(stage: Stage, protocol: str) -> None:
    set_replies(stage.provider, first=fails(500), second=replies("a reply in each protocol"))
    headers = {"x-portkey-user-id": "ada", "x-portkey-metadata": '{"team": "search"}'}
    chat(stage, using(BOTH, **headers))
    span, calls = span_and_attempts(stage, 2)
    assert {o["protocol"] for o in (span, *calls)} == {protocol}
    assert "a reply in each protocol" in str(span["output"])
    assert {o["user_id"] for o in (span, *calls)} == {"ada"}
    assert {o["metadata"]["team"] for o in (span, *calls)} == {"search"}
    assert [o["type"] for o in calls] == ["GENERATION"] * 2
    trace = stage.trace_of(span)
    assert trace["user_id"] == "ada"
    assert trace["name"] == span["name"]
