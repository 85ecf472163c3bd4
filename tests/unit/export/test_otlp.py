"""Spans against OpenTelemetry's own definitions, what Langfuse makes of them, and its answers."""

import base64
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from hypothesis import given
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from core.limits import MAX_LOGGED_REASON_CHARS
from core.types import HttpResponse
from core.version import VERSION
from export import ingestion, otlp
from export.upload_results import Outcome, UploadResult
from local.inbox import ingestion as inbox_ingestion
from local.inbox import otlp as inbox_otlp
from local.inbox.store import Store
from tests.unit.samples import ATTEMPTS, EMPTY, FULL, JOINED, OBSERVATIONS, SPAN, TRACE
from tracing import Observation


def export(*observations: Observation) -> dict[str, Any]:
    parts = [part for observation in observations for part in otlp.encode(observation)]
    return json.loads(otlp.request_body(parts))


def spans(request: dict[str, Any]) -> list[dict[str, Any]]:
    return request["resourceSpans"][0]["scopeSpans"][0]["spans"]


def parsed(request: dict[str, Any]) -> Any:
    """The request as OpenTelemetry reads it, whose JSON has ids in hex; protobuf's has base64."""
    for span in spans(request):
        for name in {"traceId", "spanId", "parentSpanId"} & span.keys():
            span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return Parse(json.dumps(request), ExportTraceServiceRequest())


def attributes(observation: Observation) -> dict[str, Any]:
    """The attributes by name, each with the one kind of value that it has."""
    [span] = spans(export(observation))
    return {
        item["key"]: next(iter(item["value"].values()))
        for item in span["attributes"]
        if len(item["value"]) == 1
    }


def test_it_is_what_opentelemetry_defines():
    request = parsed(export(replace(FULL, parent_id="00f067aa0ba902b7"), EMPTY, JOINED))
    [group] = request.resource_spans
    assert [(item.key, item.value.string_value) for item in group.resource.attributes] == [
        ("service.name", "ai-gateway-worker")
    ]
    [scoped] = group.scope_spans
    assert (scoped.scope.name, scoped.scope.version) == ("ai-gateway-worker", VERSION)
    full, empty, _ = scoped.spans
    assert full.trace_id.hex() == TRACE.id
    assert full.span_id.hex() == FULL.id
    assert full.parent_span_id.hex() == "00f067aa0ba902b7"
    assert full.name == "chat/completions"
    assert full.kind == Span.SPAN_KIND_CLIENT
    assert full.start_time_unix_nano == 1_795_436_099_196_000_000
    assert full.end_time_unix_nano == 1_795_436_100_708_000_000
    assert full.status == Status(code=Status.STATUS_CODE_ERROR, message="HTTP 500: oops")
    assert empty.status == Status()
    assert empty.parent_span_id == b""


@given(OBSERVATIONS)
def test_whatever_is_observed_is_what_opentelemetry_defines(observation):
    [span] = parsed(export(observation)).resource_spans[0].scope_spans[0].spans
    names = [item.key for item in span.attributes]
    assert len(set(names)) == len(names)
    assert all(item.value.WhichOneof("value") for item in span.attributes)


def test_every_attribute_is_what_langfuse_and_opentelemetry_look_for():
    observation = replace(
        FULL,
        metadata={"request_type": "messages", "provider": "google", "requested_model": "gemini"},
        level="WARNING",
    )
    assert attributes(observation) == {
        "langfuse.trace.name": "my trace",
        "user.id": "ada",
        "session.id": "s1",
        "langfuse.trace.tags": {"values": [{"stringValue": "a"}, {"stringValue": "b,c"}]},
        "langfuse.release": "r1",
        "langfuse.version": "v1",
        "langfuse.environment": "staging",
        "langfuse.observation.type": "generation",
        "langfuse.observation.level": "WARNING",
        "langfuse.observation.status_message": "HTTP 500: oops",
        "langfuse.observation.completion_start_time": "2026-11-23T12:14:59.500+00:00",
        "langfuse.observation.model.name": "gpt-4o-mini-2024-07-18",
        "langfuse.observation.model.parameters": '{"temperature":0.5,"stop":["a","b"],'
        '"stream":true,"seed":7,"top_p":null}',
        "langfuse.observation.usage_details": '{"input":7,"input_cached_tokens":3,"output":2,'
        '"total":12}',
        "langfuse.observation.cost_details": '{"total":0.25}',
        "langfuse.observation.prompt.name": "greeting",
        "langfuse.observation.prompt.version": 3,
        "langfuse.observation.metadata": '{"request_type":"messages","provider":"google",'
        '"requested_model":"gemini"}',
        "langfuse.observation.input": '[{"role":"user","content":"Grüße ✓"}]',
        "langfuse.observation.output": '{"role":"assistant","content":"Hallo"}',
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gemini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 2,
    }


def test_a_span_has_nothing_of_a_call_of_a_model():
    [span] = parsed(export(SPAN)).resource_spans[0].scope_spans[0].spans
    assert span.kind == Span.SPAN_KIND_SERVER
    metadata = {"request_type": "chat", "provider": "openai", "requested_model": "gpt-4o"}
    assert attributes(replace(SPAN, metadata=metadata)) == {
        "langfuse.trace.name": "my trace",
        "user.id": "ada",
        "session.id": "s1",
        "langfuse.trace.tags": {"values": [{"stringValue": "a"}, {"stringValue": "b,c"}]},
        "langfuse.release": "r1",
        "langfuse.version": "v1",
        "langfuse.environment": "staging",
        "langfuse.observation.type": "span",
        "langfuse.observation.level": "DEFAULT",
        "langfuse.observation.metadata": json.dumps(metadata, separators=(",", ":")),
        "langfuse.observation.input": '[{"role":"user","content":"Grüße ✓"}]',
        "langfuse.observation.output": '{"role":"assistant","content":"Hallo"}',
    }


def test_attempts_tell_of_the_trace_what_their_span_tells():
    trace = ("langfuse.trace", "user.", "session.", "langfuse.release", "langfuse.environment")
    told, *others = (
        {name: value for name, value in attributes(found).items() if name.startswith(trace)}
        for found in (SPAN, *ATTEMPTS)
    )
    assert len(told) == 6
    assert others == [told, told]


def test_what_is_not_there_is_left_out():
    assert attributes(EMPTY) == {
        "langfuse.observation.type": "generation",
        "langfuse.observation.level": "DEFAULT",
    }
    [span] = spans(export(EMPTY))
    assert not {"parentSpanId", "status"} & span.keys()


@pytest.mark.parametrize(
    ("metadata", "operation", "provider"),
    [
        ({"request_type": "chat", "provider": "openai"}, "chat", "openai"),
        ({"request_type": "responses", "provider": "x-ai"}, "chat", "x_ai"),
        ({"request_type": "completion", "provider": "mine"}, "text_completion", "mine"),
        ({"request_type": "embedding", "provider": "mistral-ai"}, "embeddings", "mistral_ai"),
        ({"request_type": "other"}, None, None),
        ({"request_type": ["chat"], "provider": {}}, None, None),
    ],
)
def test_what_the_metadata_says_in_opentelemetrys_words(metadata, operation, provider):
    found = attributes(replace(FULL, metadata=metadata))
    assert found.get("gen_ai.operation.name") == operation
    assert found.get("gen_ai.provider.name") == provider
    assert found["gen_ai.request.model"] == FULL.model
    # A call that failed may have had no answer that names one.
    assert "gen_ai.response.model" not in found


def test_no_usage_is_not_a_usage_of_nothing():
    assert attributes(replace(FULL, usage={"output": 0}))["gen_ai.usage.output_tokens"] == 0
    assert not [name for name in attributes(replace(FULL, usage={})) if "usage" in name]


def test_only_a_joined_traces_metadata_is_told_apart():
    assert "langfuse.trace.metadata" not in attributes(FULL)
    said = {"team": "search", "provider": "mine", "more": 1}
    joined = replace(JOINED, trace=replace(JOINED.trace, metadata=said))
    assert json.loads(attributes(joined)["langfuse.trace.metadata"]) == {
        "team": "search",
        "more": 1,
    }


def test_a_text_is_not_put_in_quotes():
    found = attributes(replace(FULL, input='"say \\"hi\\" [\\n"', output='""'))
    assert found["langfuse.observation.input"] == 'say "hi" [\n'
    assert found["langfuse.observation.output"] == ""


def test_half_a_character_becomes_a_question_mark():
    observation = replace(FULL, output='"\ud83d"', name="\udc00", metadata={"\ud83d": "\ud83d"})
    assert spans(export(observation))[0]["name"] == "?"
    assert attributes(observation)["langfuse.observation.output"] == "?"


def kept(observation: Observation, protocol: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The observation and the trace that Langfuse has of it, without what shows the protocol."""
    store = Store()
    if protocol == "otlp":
        inbox_otlp.keep(export(observation), store)
    else:
        for event in json.loads(ingestion.request_body(ingestion.encode(observation)))["batch"]:
            assert inbox_ingestion.problem(event, 3) is None
            inbox_ingestion.keep(event, 3, store)
    [observed], [told] = store.observations(), store.traces(implied=True)
    found: dict[str, Any] = {**observed}
    trace: dict[str, Any] = {**told}
    for name in ("protocol", "raw"):
        del found[name]
    # What Langfuse adds of the span to the metadata.
    for name in ("attributes", "resourceAttributes", "scope"):
        found["metadata"].pop(name, None)
    for record in (found, trace):
        for name, value in record.items():
            if name.endswith("time") or name == "timestamp":
                record[name] = value and datetime.fromisoformat(value)
    return found, trace


@pytest.mark.parametrize(
    "observation",
    [
        FULL,
        EMPTY,
        replace(EMPTY, trace=replace(EMPTY.trace, name="n")),
        replace(FULL, type="embedding", level="WARNING", input='"a text"', output=None),
        JOINED,
        replace(JOINED, environment=None),
        SPAN,
        ATTEMPTS[0],
    ],
)
def test_langfuse_has_the_same_from_either_protocol(observation):
    observed, trace = kept(observation, "otlp")
    expected, expected_trace = kept(observation, "ingestion")
    # Over OTLP the server makes texts of those that are neither text nor number.
    expected["model_parameters"] = {
        name: value
        if type(value) in (str, int, float)
        else json.dumps(value, separators=(",", ":"))
        for name, value in expected["model_parameters"].items()
    }
    # A span has one environment, and its trace's is no other; a root's name is its trace's, too.
    expected_trace["environment"] = expected["environment"]
    if observation.trace.name is None and not observation.parent_id:
        expected_trace["name"] = observation.name
    assert observed == expected
    assert trace == expected_trace


def read(status: int, text: str) -> UploadResult:
    return otlp.read_response(HttpResponse(status, {}, text), otlp.encode(FULL), 0)


def partial(rejected: Any, message: Any = "too old") -> str:
    return json.dumps({"partialSuccess": {"rejectedSpans": rejected, "errorMessage": message}})


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "{}",
        '{"name": "otel-ingestion-job", "data": {}}',
        '{"partialSuccess": {}}',
        '{"partialSuccess": null}',
        '{"partialSuccess": "7"}',
        partial(0),
        partial("0"),
        partial(None),
        partial(-1),
        partial([1]),
    ],
)
def test_stored(status, text):
    assert read(status, text) == UploadResult(Outcome.STORED)


@pytest.mark.parametrize("rejected", [1, "1", 10, "9" * 5000])
def test_rejected_spans(rejected):
    verdict = read(200, partial(rejected))
    assert verdict.outcome is Outcome.MALFORMED
    assert verdict.reason.startswith(str(rejected)[:MAX_LOGGED_REASON_CHARS])
    assert len(verdict.reason) < MAX_LOGGED_REASON_CHARS + 50


def test_a_reason_does_not_quote_the_prompt_at_length():
    assert read(200, partial(1)).reason == "1 spans rejected: too old"
    assert len(read(200, partial(1, "x" * 999)).reason) < MAX_LOGGED_REASON_CHARS + 50
