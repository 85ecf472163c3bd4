"""The Langfuse inbox as an OTLP endpoint: what it takes, refuses whole, and keeps."""

import gzip
import json
from typing import Any

import httpx
import pytest

from local.inbox import Inbox

AT = "2026-11-23T12:00:00.000Z"
OTLP = "/api/public/otel/v1/traces"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


SPAN = {
    "traceId": "0AF7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "chat",
    "kind": 3,
    "startTimeUnixNano": "1795435200123000000",
    "endTimeUnixNano": "1795435201000000000",
}
TRACE_ID = SPAN["traceId"].lower()


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def strings(values: dict[str, str]) -> list[dict[str, Any]]:
    return attributes({name: {"stringValue": value} for name, value in values.items()})


def export(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": attributes(resource or {})},
                "scopeSpans": [{"scope": {"name": "gateway"}, "spans": list(spans)}],
            }
        ]
    }


def test_a_whole_span(client: httpx.Client, inbox: Inbox):
    told = {
        "langfuse.trace.name": "my app",
        "user.id": "u",
        "session.id": "s",
        "langfuse.release": "r1",
        "langfuse.trace.metadata.team": "blue",
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": '[{"role":"user","content":"hi"}]',
        "langfuse.observation.output": "plain",
        "langfuse.observation.level": "WARNING",
        "langfuse.observation.status_message": "slow",
        "langfuse.observation.completion_start_time": AT,
        "langfuse.observation.model.name": "gpt-4o",
        "langfuse.observation.model.parameters": '{"temperature":0.5}',
        "langfuse.observation.usage_details": '{"input":2,"output":3}',
        "langfuse.observation.cost_details": '{"total":0.25}',
        "langfuse.observation.metadata.provider": "openai",
        "langfuse.observation.metadata.extra": '{"a":1}',
        "langfuse.observation.prompt.name": "p",
        "gen_ai.provider.name": "openai",
    }
    span = SPAN | {
        "parentSpanId": "00f067aa0ba902b7",
        "attributes": [
            *strings(told),
            *attributes(
                {
                    "langfuse.observation.prompt.version": {"intValue": "3"},
                    "langfuse.trace.public": {"boolValue": True},
                    "langfuse.trace.tags": {
                        "arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}
                    },
                }
            ),
        ],
    }
    resource = {"langfuse.environment": {"stringValue": "staging"}}
    reply = client.post(OTLP, json=export(span, resource=resource))
    assert (reply.status_code, reply.json()) == (200, {})
    [kept] = inbox.wait_for(1)
    metadata = kept["metadata"]
    assert metadata["provider"] == "openai"
    assert metadata["extra"] == {"a": 1}
    assert metadata["attributes"] == {"gen_ai.provider.name": "openai"}
    ignored = ("metadata", "raw")
    assert {name: value for name, value in kept.items() if name not in ignored} == {
        "id": SPAN["spanId"],
        "trace_id": TRACE_ID,
        "parent_id": "00f067aa0ba902b7",
        "type": "GENERATION",
        "name": "chat",
        "start_time": "2026-11-23T12:00:00.123Z",
        "end_time": "2026-11-23T12:00:01.000Z",
        "completion_start_time": AT,
        "model": "gpt-4o",
        "model_parameters": {"temperature": 0.5},
        "input": [{"role": "user", "content": "hi"}],
        "output": "plain",
        "usage": {"input": 2, "output": 3, "total": 5},
        "cost": {"total": 0.25},
        "level": "WARNING",
        "status_message": "slow",
        "prompt_name": "p",
        "prompt_version": 3,
        "version": None,
        "environment": "staging",
        "trace_name": "my app",
        "user_id": "u",
        "session_id": "s",
        "tags": ["a", "b"],
        "release": "r1",
        "protocol": "otlp",
        "received": 1,
    }
    [trace] = inbox.traces()
    assert (trace["name"], trace["metadata"], trace["public"]) == (
        "my app",
        {"team": "blue"},
        True,
    )


def test_packed(client: httpx.Client, inbox: Inbox):
    body = gzip.compress(json.dumps(export(SPAN)).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert client.post(OTLP, content=body, headers=headers).status_code == 200
    assert len(inbox.observations()) == 1
    assert b"startTimeUnixNano" in inbox.requests[-1].body
    assert client.post(OTLP, content=b"not gzip", headers=headers).status_code == 400


def test_the_same_span_again_replaces_the_row(client: httpx.Client, inbox: Inbox):
    full = SPAN | {"attributes": strings({"user.id": "u", "langfuse.observation.output": "x"})}
    for span in (full, full, SPAN):
        client.post(OTLP, json=export(span))
    [kept] = inbox.observations()
    assert kept["output"] is None
    assert kept["user_id"] is None
    assert kept["received"] == 3


def test_nothing_is_inherited(client: httpx.Client, inbox: Inbox):
    parent = SPAN | {"attributes": strings({"user.id": "u", "langfuse.environment": "staging"})}
    child = SPAN | {"spanId": "00f067aa0ba902b7", "parentSpanId": SPAN["spanId"]}
    client.post(OTLP, json=export(parent, child))
    assert [o["user_id"] for o in inbox.observations()] == ["u", None]
    assert [o["environment"] for o in inbox.observations()] == ["staging", "default"]
    assert [trace["user_id"] for trace in inbox.traces()] == ["u"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"langfuse.observation.type": "embedding"}, "EMBEDDING"),
        ({"langfuse.observation.type": "GENERATION", "gen_ai.request.model": "m"}, "SPAN"),
        ({"gen_ai.request.model": "m"}, "GENERATION"),
        ({}, "SPAN"),
    ],
)
def test_types(client: httpx.Client, inbox: Inbox, values: dict[str, str], kind: str):
    client.post(OTLP, json=export(SPAN | {"attributes": strings(values)}))
    assert inbox.observations()[0]["type"] == kind


def test_error_status_and_genai_counts(client: httpx.Client, inbox: Inbox):
    counts = {"input_tokens": 10, "output_tokens": 3, "cache_read.input_tokens": 4}
    found = attributes(
        {f"gen_ai.usage.{name}": {"intValue": str(count)} for name, count in counts.items()}
    )
    span = SPAN | {"status": {"code": 2, "message": "broke"}, "attributes": found}
    client.post(OTLP, json=export(span))
    [kept] = inbox.observations()
    assert (kept["level"], kept["status_message"]) == ("ERROR", "broke")
    assert kept["usage"] == {"input": 6, "output": 3, "input_cached_tokens": 4, "total": 13}


@pytest.mark.parametrize(
    "wrong",
    [
        {"traceId": "abc"},
        {"traceId": "0" * 32},
        {"traceId": None},
        {"spanId": "g" * 16},
        {"parentSpanId": "abc"},
        {"startTimeUnixNano": 1795435200123000000},
        {"endTimeUnixNano": "now"},
        {"endTimeUnixNano": None},
        {"name": 5},
        {"status": []},
        {"attributes": {}},
        {"attributes": [{"key": "a", "value": "text"}]},
        {"attributes": [{"value": {"stringValue": "x"}}]},
        {"attributes": [{"key": "a", "value": {"stringValue": 5}}]},
        {"attributes": [{"key": "a", "value": {"intValue": "1.5"}}]},
        {"attributes": [{"key": "a", "value": {"arrayValue": [1]}}]},
        {"attributes": [{"key": "a", "value": {"stringValue": "x", "intValue": "1"}}]},
    ],
)
def test_one_bad_span_refuses_the_export(client: httpx.Client, inbox: Inbox, wrong: dict[str, Any]):
    other = SPAN | {"spanId": "00f067aa0ba902b7"}
    reply = client.post(OTLP, json=export(other, SPAN | wrong))
    assert reply.status_code == 400
    assert "spans[1]" in reply.json()["message"]
    assert inbox.observations() == []


@pytest.mark.parametrize("value", [{}, {"boolValue": False}, {"doubleValue": 1}])
def test_other_values(client: httpx.Client, value: dict[str, Any]):
    span = SPAN | {"attributes": [{"key": "a", "value": value}]}
    assert client.post(OTLP, json=export(span)).status_code == 200


def test_an_empty_export_is_fine_and_no_export_is_not(client: httpx.Client):
    assert client.post(OTLP, json={}).status_code == 200
    assert client.post(OTLP, json=[]).status_code == 400
    assert client.post(OTLP, content=b"x").status_code == 400
    headers = {"content-type": "application/json"}
    assert client.post(OTLP, content=b"x", headers=headers).status_code == 400
