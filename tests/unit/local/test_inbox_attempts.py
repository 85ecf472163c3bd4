"""Tests of how the inbox stores a span and its attempts, in any order of arrival."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import permutations
from typing import Any

import httpx
import pytest

from core.observation import Observation
from core.trace_context import read_trace_context
from core.types import Call, Capture, Ending
from export import ingestion, otlp
from local.inbox import Inbox
from settings.load import Settings
from tests.unit.samples import FULL, TRACE
from tracing import Exchange, observe, request_span_with_attempts

SETTINGS = Settings(environment="production", release="worker-7")
REQUEST = json.dumps(
    {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "user": "ada"}
).encode()
# A client's metadata with names that the gateway sets itself, one of them only with a reply.
CLIENT_METADATA = {"provider": "eve", "http_status": "eve", "try": "eve", "team": "search"}
HEADERS = {"x-portkey-metadata": json.dumps(CLIENT_METADATA), "langfuse-tags": "a,b"}


def reply_capture(text: str, ended_at: float) -> Capture:
    message = {"role": "assistant", "content": text}
    body = {
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
    }
    return Capture(Ending.COMPLETE, ended_at, 200, "application/json", json.dumps(body).encode())


def traced_request(headers: dict[str, str]) -> list[Observation]:
    """The observations of a request: one provider is unreachable, the next replies."""
    call = Call("POST", "/v1/chat/completions", "", headers)
    trace_context = read_trace_context(headers)
    client_exchange = Exchange(
        *(call, trace_context, FULL.destination, "groq", REQUEST, len(REQUEST), 1000.0),
        capture=reply_capture("hello", 1003.0),
        gateway_metadata={"config": "prod"},
    )

    def attempt(number: int, provider: str, started_at: float, capture: Capture) -> Observation:
        observation_id = f"{number:016x}"
        attempt_context = replace(
            trace_context,
            is_existing=True,
            observation_id=observation_id,
            parent_id=trace_context.observation_id,
        )
        # Request and reply of an attempt may differ from the client's.
        request_body = REQUEST.replace(b'"hi"', b'"hi, be brief"')
        exchange = replace(
            client_exchange,
            trace_context=attempt_context,
            provider=provider,
            request_body=request_body,
            started_at=started_at,
        )
        return observe(
            replace(exchange, capture=capture, gateway_metadata={"try": number}), SETTINGS
        )

    return request_span_with_attempts(
        observe(client_exchange, SETTINGS),
        [
            attempt(1, "openai", 1000.0, Capture(Ending.UNREACHABLE, 1001.0, reason="refused")),
            # It ends together with the span; Langfuse uses the values of what ends last.
            attempt(2, "groq", 1001.0, reply_capture("hello, briefly", 1003.0)),
        ],
    )


@pytest.fixture(params=["3.120.0", "4.16.0"])
def inbox(request: Any) -> Inbox:
    return Inbox(version=request.param)


def upload(client: httpx.Client, inbox: Inbox, observations: Sequence[Observation]) -> None:
    protocol: Any = ingestion if inbox.version < "4" else otlp
    items = [item for observation in observations for item in protocol.encode(observation)]
    response = client.post(
        protocol.PATH, content=protocol.request_body(items), headers=protocol.HEADERS
    )
    assert response.is_success
    assert response.json().get("errors", []) == []


def upload_in_any_order(
    client: httpx.Client, inbox: Inbox, observations: list[Observation]
) -> Iterator[None]:
    """Upload the observations in every order, one by one and together; yield after each."""
    for order in permutations(observations):
        for uploads in ([[each] for each in order], [order]):
            inbox.clear()
            for batch in uploads:
                upload(client, inbox, batch)
            yield


def test_the_span_sets_the_trace_in_any_order_of_arrival(client: httpx.Client, inbox: Inbox):
    span, *attempts = traced_request(HEADERS)
    upload(client, inbox, [span])
    [trace] = inbox.traces()
    assert (trace["name"], trace["user_id"], trace["tags"]) == (
        "chat/completions",
        "ada",
        ["a", "b"],
    )
    assert (trace["environment"], trace["release"]) == ("production", "worker-7")
    assert trace["input"] == [{"role": "user", "content": "hi"}]
    assert trace["output"] == {"role": "assistant", "content": "hello"}
    metadata = trace["metadata"]
    assert (metadata["provider"], metadata["http_status"]) == ("groq", 200)
    assert (metadata["config"], metadata["team"]) == ("prod", "search")
    for _ in upload_in_any_order(client, inbox, [span, *attempts]):
        assert inbox.traces() == [trace]


def test_the_span_does_not_change_an_existing_trace(client: httpx.Client, inbox: Inbox):
    # Over OTLP a trace has the environment of its spans, so all of them have the same here.
    fields: dict[str, Any] = {
        "metadata": {"own": 1},
        "environment": "production",
        "started_at": 999.0,
    }
    app = replace(FULL, trace=replace(TRACE, **fields), ended_at=1002.0, **fields)
    upload(client, inbox, [app])
    [trace] = inbox.traces()
    observations = [app, *traced_request({"traceparent": f"00-{TRACE.id}-{FULL.id}-01"})]
    for _ in upload_in_any_order(client, inbox, observations):
        [found] = inbox.traces()
        # Version 3 keeps the time of what arrives first: that of the app or the start of a call.
        time = found["timestamp"]
        assert time
        assert 999 <= datetime.fromisoformat(time).timestamp() <= 1001
        assert found == {**trace, "timestamp": time}


def test_attempts_are_stored_as_generations_below_their_span(client: httpx.Client, inbox: Inbox):
    span, *attempts = traced_request(HEADERS)
    for _ in upload_in_any_order(client, inbox, [span, *attempts]):
        found = {observation["id"]: observation for observation in inbox.observations()}
        top, first, second = (found[o.id] for o in (span, *attempts))
        assert (top["type"], top["parent_id"], top["level"]) == ("SPAN", None, "DEFAULT")
        assert (top["model"], top["usage"], top["cost"]) == (None, {}, {})
        assert top["output"] == {"role": "assistant", "content": "hello"}
        assert second["output"] == {"role": "assistant", "content": "hello, briefly"}
        for number, attempt in enumerate((first, second), 1):
            assert (attempt["type"], attempt["parent_id"]) == ("GENERATION", span.id)
            assert attempt["metadata"]["try"] == number
            assert (attempt["trace_name"], attempt["user_id"]) == ("chat/completions", "ada")
        assert (first["level"], first["output"]) == ("ERROR", None)
        assert second["usage"]["total"] == 3


def test_the_list_shows_the_trace_once_with_its_attempts(client: httpx.Client, inbox: Inbox):
    span, *attempts = traced_request(HEADERS)
    upload(client, inbox, [span, *attempts])
    [summary] = client.get("/api/inbox").json()["traces"]
    assert (summary["id"], summary["steps"], summary["provider"]) == (span.trace.id, 3, "groq")
    assert (summary["level"], summary["latency"]) == ("DEFAULT", 3000)
    trace = client.get(f"/api/inbox/trace?id={span.trace.id}").json()
    shown = [(found["id"], found["parent_id"]) for found in trace["observations"]]
    assert shown == [(span.id, None), *((attempt.id, span.id) for attempt in attempts)]
