"""Tests of the inbox as an OTLP endpoint: JSON and protobuf, validation, stored records."""

import base64
import gzip
import json
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import Parse
from langfuse._client.attributes import LangfuseOtelSpanAttributes
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from local.inbox import Inbox

TIME = "2026-11-23T12:00:00.000Z"
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


def export_request(
    *spans: dict[str, Any], resource: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": attributes(resource or {})},
                "scopeSpans": [{"scope": {"name": "gateway"}, "spans": list(spans)}],
            }
        ]
    }


def test_all_attributes_of_a_span_are_stored(client: httpx.Client, inbox: Inbox):
    values = {
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
        "langfuse.observation.completion_start_time": TIME,
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
            *strings(values),
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
    reply = client.post(OTLP, json=export_request(span, resource=resource))
    assert (reply.status_code, reply.json()) == (200, {})
    [stored] = inbox.wait_for(1)
    metadata = stored["metadata"]
    assert metadata["provider"] == "openai"
    assert metadata["extra"] == {"a": 1}
    assert metadata["attributes"] == {"gen_ai.provider.name": "openai"}
    ignored = ("metadata", "raw")
    assert {name: value for name, value in stored.items() if name not in ignored} == {
        "id": SPAN["spanId"],
        "trace_id": TRACE_ID,
        "parent_id": "00f067aa0ba902b7",
        "type": "GENERATION",
        "name": "chat",
        "start_time": "2026-11-23T12:00:00.123Z",
        "end_time": "2026-11-23T12:00:01.000Z",
        "completion_start_time": TIME,
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


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_metadata_of_one_attribute_is_flattened_by_version_4(
    client: httpx.Client, inbox: Inbox, version: str
):
    inbox.version = version
    whole = {"a": {"b": 1, "c": {}}, "a.b": 2, "none": None, "list": [{"d": 1}], "yes": "true"}
    values = {
        "langfuse.observation.metadata": json.dumps(whole),
        "langfuse.observation.metadata.e": '{"f":{},"yes":"true"}',
        "langfuse.observation.metadata.g.h": '"true"',
        "langfuse.observation.metadata.i": "true",
        "langfuse.observation.metadata.": "lost",
        "other.attribute": "x",
    }
    client.post(OTLP, json=export_request(SPAN | {"attributes": strings(values)}))
    [stored] = inbox.observations()
    own = {"e": {"f": {}, "yes": "true"}, "g.h": "true", "i": True, "list": [{"d": 1}], "yes": True}
    if version == "3.120.0":
        assert stored["metadata"] == {
            **(whole | own),
            "attributes": {"other.attribute": "x"},
            "scope": {"name": "gateway"},
        }
    else:
        assert stored["metadata"] == {
            **({"a.b": 1, "none": ""} | own),
            "attributes.other.attribute": "x",
            "scope.name": "gateway",
        }


@pytest.mark.parametrize("name", ["user.id", "session.id", "langfuse.trace.metadata.team"])
@pytest.mark.parametrize(("version", "release"), [("3.120.0", None), ("4.16.0", "r1")])
def test_in_version_3_a_field_of_the_trace_removes_its_release(
    client: httpx.Client, inbox: Inbox, name: str, version: str, release: str | None
):
    inbox.version = version
    app = SPAN | {"attributes": strings({"langfuse.release": "r1"})}
    child = SPAN | {"spanId": "00f067aa0ba902b7", "parentSpanId": SPAN["spanId"]}
    child["startTimeUnixNano"] = child["endTimeUnixNano"]
    client.post(OTLP, json=export_request(app, child))
    assert inbox.traces()[0]["release"] == "r1"
    client.post(OTLP, json=export_request(child | {"attributes": strings({name: "x"})}))
    assert inbox.traces()[0]["release"] == release


def test_a_gzipped_export_is_accepted(client: httpx.Client, inbox: Inbox):
    body = gzip.compress(json.dumps(export_request(SPAN)).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert client.post(OTLP, content=body, headers=headers).status_code == 200
    assert len(inbox.observations()) == 1
    assert b"startTimeUnixNano" in inbox.requests[-1].body
    assert client.post(OTLP, content=b"not gzip", headers=headers).status_code == 400


def test_a_repeated_span_replaces_the_stored_one(client: httpx.Client, inbox: Inbox):
    full = SPAN | {"attributes": strings({"user.id": "u", "langfuse.observation.output": "x"})}
    for span in (full, full, SPAN):
        client.post(OTLP, json=export_request(span))
    [stored] = inbox.observations()
    assert stored["output"] is None
    assert stored["user_id"] is None
    assert stored["received"] == 3


def test_a_child_span_inherits_no_attributes(client: httpx.Client, inbox: Inbox):
    parent = SPAN | {"attributes": strings({"user.id": "u", "langfuse.environment": "staging"})}
    child = SPAN | {"spanId": "00f067aa0ba902b7", "parentSpanId": SPAN["spanId"]}
    client.post(OTLP, json=export_request(parent, child))
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
def test_the_observation_type_is_derived_from_attributes(
    client: httpx.Client, inbox: Inbox, values: dict[str, str], kind: str
):
    client.post(OTLP, json=export_request(SPAN | {"attributes": strings(values)}))
    assert inbox.observations()[0]["type"] == kind


def test_span_status_and_gen_ai_usage_are_read(client: httpx.Client, inbox: Inbox):
    counts = {"input_tokens": 10, "output_tokens": 3, "cache_read.input_tokens": 4}
    usage_attributes = attributes(
        {f"gen_ai.usage.{name}": {"intValue": str(count)} for name, count in counts.items()}
    )
    span = SPAN | {"status": {"code": 2, "message": "broke"}, "attributes": usage_attributes}
    client.post(OTLP, json=export_request(span))
    [stored] = inbox.observations()
    assert (stored["level"], stored["status_message"]) == ("ERROR", "broke")
    assert stored["usage"] == {"input": 6, "output": 3, "input_cached_tokens": 4, "total": 13}


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"traceId": "abc"}, "spans[1].traceId: expected hex digits"),
        ({"traceId": "ab"}, "spans[1].traceId: expected hex digits"),
        ({"traceId": "abcd"}, "spans[1].traceId: expected 32 hex digits"),
        ({"traceId": "0" * 32}, "spans[1].traceId: expected 32 hex digits"),
        ({"traceId": None}, "spans[1].traceId: expected 32 hex digits"),
        ({"traceId": 5}, "traceId field: "),
        ({"spanId": "g" * 16}, "spans[1].spanId: expected hex digits"),
        ({"spanId": "-" * 16}, "spans[1].spanId: expected hex digits"),
        ({"parentSpanId": "abc"}, "spans[1].parentSpanId: expected hex digits"),
        ({"links": [{"traceId": "abc"}]}, "spans[1].traceId: expected hex digits"),
        ({"endTimeUnixNano": "now"}, "endTimeUnixNano field: "),
        ({"endTimeUnixNano": None}, "spans[1].endTimeUnixNano: required"),
        ({"name": 5}, "name field: "),
        ({"nam": "misspelt"}, 'no field named "nam" at'),
        ({"status": 5}, "status field: "),
        ({"attributes": {}}, "spans[1]"),
        ({"attributes": [{"key": "a", "value": "text"}]}, "spans[1].attributes[0].value"),
        (
            {"attributes": [{"value": {"stringValue": "x"}}]},
            "spans[1].attributes[0]: expected a key and a value",
        ),
        ({"attributes": [{"key": "a", "value": {"stringValue": 5}}]}, "stringValue field: "),
        (
            {"attributes": [{"key": "a", "value": {"intValue": "1.5"}}]},
            "spans[1].attributes[0].value.intValue",
        ),
        ({"attributes": [{"key": "a", "value": {"arrayValue": [1]}}]}, "field: "),
        (
            {"attributes": [{"key": "a", "value": {"stringValue": "x", "intValue": "1"}}]},
            "spans[1].attributes[0].value",
        ),
    ],
)
def test_an_invalid_span_refuses_the_whole_export(
    client: httpx.Client, inbox: Inbox, invalid: dict[str, Any], message: str
):
    other = SPAN | {"spanId": "00f067aa0ba902b7"}
    reply = client.post(OTLP, json=export_request(other, SPAN | invalid))
    assert reply.status_code == 400
    assert message in reply.json()["message"]
    assert inbox.observations() == []


def test_a_time_may_be_a_number(client: httpx.Client, inbox: Inbox):
    """As protobuf's JSON mapping allows for 64-bit integers."""
    client.post(OTLP, json=export_request(SPAN | {"startTimeUnixNano": 1795435200123000000}))
    assert inbox.observations()[0]["start_time"] == "2026-11-23T12:00:00.123Z"


@pytest.mark.parametrize("value", [{}, {"boolValue": False}, {"doubleValue": 1}])
def test_attribute_values_of_other_types_are_accepted(client: httpx.Client, value: dict[str, Any]):
    span = SPAN | {"attributes": [{"key": "a", "value": value}]}
    assert client.post(OTLP, json=export_request(span)).status_code == 200


def test_an_empty_export_is_accepted_and_a_malformed_one_is_refused(client: httpx.Client):
    assert client.post(OTLP, json={}).status_code == 200
    assert client.post(OTLP, json=[]).status_code == 400
    assert client.post(OTLP, content=b"x").status_code == 400
    headers = {"content-type": "application/json"}
    assert client.post(OTLP, content=b"x", headers=headers).status_code == 400


PROTOBUF_HEADERS = {"content-type": "application/x-protobuf"}


def to_protobuf(export_request: dict[str, Any]) -> bytes:
    """An export in protobuf. `Parse` reads protobuf's JSON mapping, which has ids in base64."""
    text = json.dumps(export_request)
    for group in export_request["resourceSpans"]:
        for scoped in group["scopeSpans"]:
            for span in scoped["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        encoded = base64.b64encode(bytes.fromhex(span[name])).decode()
                        text = text.replace(f'"{span[name]}"', f'"{encoded}"')
    return Parse(text, ExportTraceServiceRequest()).SerializeToString()


VALUES = {
    "text": {"stringValue": "Grüße"},
    "empty": {"stringValue": ""},
    "yes": {"boolValue": True},
    "no": {"boolValue": False},
    "none": {"intValue": "0"},
    "most": {"intValue": str(2**63 - 1)},
    "least": {"intValue": str(-(2**63))},
    "half": {"doubleValue": 0.5},
    "odd": {"doubleValue": "NaN"},
    "bytes": {"bytesValue": "AAE="},
    "list": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}},
    "nothing": {"arrayValue": {}},
    "object": {"kvlistValue": {"values": [{"key": "a", "value": {"stringValue": "b"}}]}},
    "unset": {},
}


@pytest.mark.parametrize("is_gzipped", [False, True])
def test_protobuf_and_json_are_stored_alike(is_gzipped: bool, client: httpx.Client, inbox: Inbox):
    span = SPAN | {
        "parentSpanId": "00f067aa0ba902b7",
        "status": {"code": 2, "message": "broke"},
        "attributes": attributes(VALUES),
        "flags": 257,
        "events": [{"timeUnixNano": "1795435200123000000", "name": "exception"}],
        "links": [{"traceId": SPAN["traceId"], "spanId": SPAN["spanId"]}],
    }
    request = export_request(span, resource={"service.version": {"stringValue": "7"}})
    client.post(OTLP, json=request)
    [by_json] = inbox.observations()
    inbox.clear()
    body, headers = to_protobuf(request), PROTOBUF_HEADERS
    if is_gzipped:
        body, headers = gzip.compress(body), PROTOBUF_HEADERS | {"content-encoding": "gzip"}
    reply = client.post(OTLP, content=body, headers=headers)
    assert (reply.status_code, reply.json()) == (200, {})
    assert reply.headers["content-type"].startswith("application/json")
    [by_protobuf] = inbox.observations()
    raw, expected = by_protobuf["raw"][0], by_json["raw"][0]
    assert by_protobuf | {"raw": []} == by_json | {"raw": []}
    assert by_protobuf["id"] == SPAN["spanId"]
    assert by_protobuf["trace_id"] == TRACE_ID
    assert by_protobuf["parent_id"] == "00f067aa0ba902b7"
    assert by_protobuf["start_time"] == "2026-11-23T12:00:00.123Z"
    assert by_protobuf["version"] == "7"
    assert by_protobuf["metadata"]["attributes"]["most"] == 2**63 - 1
    assert raw["links"][0]["traceId"] == TRACE_ID
    assert raw["attributes"] == expected["attributes"]
    json.dumps(raw)


@pytest.mark.parametrize(
    "body",
    [
        b"not protobuf",
        to_protobuf(export_request(SPAN))[:-1],
        json.dumps(export_request(SPAN)).encode(),
    ],
)
def test_malformed_protobuf_is_refused(body: bytes, client: httpx.Client, inbox: Inbox):
    reply = client.post(OTLP, content=body, headers=PROTOBUF_HEADERS)
    assert reply.status_code == 400
    assert reply.json() == {"error": "Failed to parse OTel Protobuf Trace"}
    assert inbox.observations() == []


def test_a_protobuf_span_may_have_an_empty_name_but_no_invalid_id(
    client: httpx.Client, inbox: Inbox
):
    nameless = to_protobuf(export_request(SPAN | {"name": ""}))
    assert client.post(OTLP, content=nameless, headers=PROTOBUF_HEADERS).status_code == 200
    assert [o["name"] for o in inbox.observations()] == [""]
    assert client.post(OTLP, content=b"", headers=PROTOBUF_HEADERS).status_code == 200
    for invalid in ({"traceId": "00" * 16}, {"traceId": "ab"}, {"spanId": "ab" * 16}):
        body = to_protobuf(export_request(SPAN | {"name": "other"} | invalid))
        reply = client.post(OTLP, content=body, headers=PROTOBUF_HEADERS)
        assert reply.status_code == 400
        assert next(iter(invalid)) in reply.json()["message"]
    assert len(inbox.observations()) == 1


def test_no_attribute_of_the_sdk_is_stored_as_unknown(client: httpx.Client, inbox: Inbox):
    names = [v for n, v in vars(LangfuseOtelSpanAttributes).items() if n.isupper()]
    assert len(names) > 30
    client.post(
        OTLP, json=export_request(SPAN | {"attributes": strings(dict.fromkeys(names, "1"))})
    )
    [stored] = inbox.observations()
    assert "attributes" not in stored["metadata"]


def export_of_sdk(span: dict[str, Any], **resource: Any) -> dict[str, Any]:
    """An export of a span as Langfuse's SDK for Python makes it."""
    request = export_request(span, resource={n: {"stringValue": v} for n, v in resource.items()})
    request["resourceSpans"][0]["scopeSpans"][0]["scope"] = {
        "name": "langfuse-sdk",
        "version": "4.18.0",
        "attributes": strings({"public_key": "pk-lf-1"}),
    }
    return request


def test_a_span_of_the_sdk_is_stored(client: httpx.Client, inbox: Inbox):
    values = {
        "langfuse.internal.is_app_root": "true",
        "langfuse.observation.type": "generation",
        "langfuse.observation.completion_start_time": f'"{TIME}"',
        "langfuse.observation.usage_details": json.dumps(
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 14,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": None,
            }
        ),
        "other": "not shown of an SDK's span",
    }
    resource = {"deployment.environment": "staging", "service.version": "7"}
    client.post(OTLP, json=export_of_sdk(SPAN | {"attributes": strings(values)}, **resource))
    [stored] = inbox.observations()
    assert stored["completion_start_time"] == TIME
    assert stored["usage"] == {"input": 5, "output": 5, "total": 14, "input_cached_tokens": 4}
    assert (stored["environment"], stored["version"]) == ("staging", "7")
    assert stored["metadata"] == {
        "resourceAttributes": resource,
        "scope": {
            "name": "langfuse-sdk",
            "version": "4.18.0",
            "attributes": {"public_key": "pk-lf-1"},
        },
    }


@pytest.mark.parametrize("prefix", ["langfuse.observation.metadata", "langfuse.trace.metadata"])
def test_trace_fields_in_the_metadata_of_integrations_are_read(
    prefix: str, client: httpx.Client, inbox: Inbox
):
    trace_fields = {"langfuse_user_id": "u", "langfuse_session_id": "s", "langfuse_tags": "a, b"}
    values = strings({f"{prefix}.{name}": value for name, value in trace_fields.items()})
    client.post(OTLP, json=export_request(SPAN | {"attributes": values}))
    [trace] = inbox.traces()
    assert (trace["user_id"], trace["session_id"], trace["tags"]) == ("u", "s", ["a", "b"])


def test_only_the_root_span_sets_the_content_of_the_trace(client: httpx.Client, inbox: Inbox):
    """In any order, and although the SDK marks each span that continues a trace as a root."""
    content = {"langfuse.observation.input": "in", "langfuse.observation.output": "out"}
    root = SPAN | {"name": "root", "attributes": strings(content)}
    other_content = {name: f"not {value}" for name, value in content.items()}
    continuing = SPAN | {
        "name": "joining",
        "spanId": "00f067aa0ba902b7",
        "parentSpanId": SPAN["spanId"],
        "startTimeUnixNano": "1795435200223000000",
        "attributes": [
            *strings(other_content | {"session.id": "s"}),
            *attributes({"langfuse.internal.as_root": {"boolValue": True}}),
        ],
    }
    for order in ((root, continuing), (continuing, root)):
        inbox.clear()
        for span in order:
            client.post(OTLP, json=export_of_sdk(span))
        [trace] = inbox.traces()
        assert (trace["name"], trace["input"], trace["output"]) == ("root", "in", "out")
        assert trace["session_id"] == "s"


@pytest.mark.parametrize(
    "usage", ['{"input": "many"}', '{"input": 1, "total": {}}', '{"input": {"a": 1}}', "[1]"]
)
def test_usage_that_is_not_counts_is_ignored(usage: str, client: httpx.Client, inbox: Inbox):
    values = strings({"langfuse.observation.usage_details": usage})
    client.post(OTLP, json=export_request(SPAN | {"attributes": values}))
    assert inbox.observations()[0]["usage"] == {}
