"""Tests of OTLP: spans are validated with OpenTelemetry's models; responses are read."""

import base64
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from core.limits import MAX_LOGGED_REASON_CHARS, MAX_METADATA_ATTRIBUTES
from core.observation import ModelCall, Observation
from core.types import HttpResponse
from core.version import VERSION
from export import ingestion, otlp
from export.upload_results import Outcome, UploadResult
from local.inbox import ingestion as inbox_ingestion
from local.inbox import otlp as inbox_otlp
from local.inbox import protobuf
from local.inbox.store import Store
from settings.provider_table import PROVIDERS
from tests.unit.samples import (
    ATTEMPTS,
    EMBEDDING_IN_EXISTING_TRACE,
    EMPTY,
    FULL,
    OBSERVATIONS,
    SPAN,
    TRACE,
    VALUES,
)


def export_request(*observations: Observation) -> dict[str, Any]:
    items = [item for observation in observations for item in otlp.encode(observation)]
    return json.loads(otlp.request_body(items))


def spans(request: dict[str, Any]) -> list[dict[str, Any]]:
    return request["resourceSpans"][0]["scopeSpans"][0]["spans"]


def parse_with_opentelemetry(request: dict[str, Any]) -> Any:
    """The request as an OpenTelemetry message.

    OTLP/JSON has ids in hex; the JSON mapping of protobuf, which `Parse` reads, has them in base64.
    """
    for span in spans(request):
        for name in {"traceId", "spanId", "parentSpanId"} & span.keys():
            span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return Parse(json.dumps(request), ExportTraceServiceRequest())


def attributes(observation: Observation) -> dict[str, Any]:
    """The values of a span's attributes by name, without their OTLP type."""
    [span] = spans(export_request(observation))
    return {
        item["key"]: next(iter(item["value"].values()))
        for item in span["attributes"]
        if len(item["value"]) == 1
    }


def test_a_request_is_a_valid_opentelemetry_export():
    request = parse_with_opentelemetry(
        export_request(
            replace(FULL, parent_id="00f067aa0ba902b7"), EMPTY, EMBEDDING_IN_EXISTING_TRACE
        )
    )
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
def test_any_observation_is_a_valid_opentelemetry_span(observation):
    [span] = (
        parse_with_opentelemetry(export_request(observation)).resource_spans[0].scope_spans[0].spans
    )
    names = [item.key for item in span.attributes]
    assert len(set(names)) == len(names)
    assert all(item.value.WhichOneof("value") for item in span.attributes)


def test_attributes_have_the_names_of_langfuse_and_opentelemetry():
    observation = replace(FULL, metadata={"team": "search"}, level="WARNING")
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
        "langfuse.observation.metadata.team": "search",
        "langfuse.observation.input": '[{"role":"user","content":"Grüße ✓"}]',
        "langfuse.observation.output": '{"role":"assistant","content":"Hallo"}',
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gemini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.finish_reasons": {
            "values": [{"stringValue": "stop"}, {"stringValue": "length"}]
        },
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "error.type": "500",
    }


def test_a_span_has_no_attributes_of_a_generation():
    [span] = parse_with_opentelemetry(export_request(SPAN)).resource_spans[0].scope_spans[0].spans
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
        "langfuse.observation.metadata.request_type": "chat",
        "langfuse.observation.metadata.provider": "openai",
        "langfuse.observation.metadata.requested_model": "gpt-4o",
        "langfuse.observation.input": '[{"role":"user","content":"Grüße ✓"}]',
        "langfuse.observation.output": '{"role":"assistant","content":"Hallo"}',
    }


def test_attempts_have_the_trace_attributes_of_their_span():
    prefixes = ("langfuse.trace", "user.", "session.", "langfuse.release", "langfuse.environment")
    span_attributes, *attempt_attributes = (
        {
            name: value
            for name, value in attributes(observation).items()
            if name.startswith(prefixes)
        }
        for observation in (SPAN, *ATTEMPTS)
    )
    assert len(span_attributes) == 6
    assert attempt_attributes == [span_attributes, span_attributes]


def test_fields_without_a_value_are_left_out():
    assert attributes(EMPTY) == {
        "langfuse.observation.type": "generation",
        "langfuse.observation.level": "DEFAULT",
    }
    [span] = spans(export_request(EMPTY))
    assert not {"parentSpanId", "status"} & span.keys()


@pytest.mark.parametrize(
    ("request_type", "operation"),
    [
        ("chat", "chat"),
        ("messages", "chat"),
        ("responses", "chat"),
        ("completion", "text_completion"),
        ("embedding", "embeddings"),
        ("other", None),
    ],
)
def test_the_operation_is_named_as_in_opentelemetry(request_type, operation):
    found = attributes(replace(FULL, model_call=ModelCall(request_type, "openai")))
    assert found.get("gen_ai.operation.name") == operation


# Values of the registry for which the table of providers has no entry.
UNUSED_PROVIDER_NAMES = {"gcp.gen_ai", "gcp.vertex_ai", "azure.ai.inference", "ibm.watsonx.ai"}


def test_providers_have_the_names_of_the_opentelemetry_registry():
    registry = {name.value for name in gen_ai_attributes.GenAiProviderNameValues}
    names = {
        slug: attributes(replace(FULL, model_call=ModelCall("chat", slug)))["gen_ai.provider.name"]
        for slug in PROVIDERS
    }
    assert names["azure-openai"] == "azure.ai.openai"
    assert names["bedrock"] == "aws.bedrock"
    assert names["perplexity-ai"] == "perplexity"
    assert set(names.values()) & registry == registry - UNUSED_PROVIDER_NAMES
    # Any other provider keeps its slug: the registry allows further values.
    assert {slug for slug, name in names.items() if name not in registry} == {
        slug for slug, name in names.items() if name == slug and name not in registry
    }


def test_every_genai_attribute_is_in_the_opentelemetry_registry():
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    usage = {"input": 1, "input_cached_tokens": 2, "input_cache_creation_1h": 3, "output": 4}
    found = {name for name in attributes(replace(FULL, usage=usage)) if name.startswith("gen_ai.")}
    assert len(found) == 10
    assert found <= known


def test_response_attributes_are_those_of_the_reply_alone():
    call = ModelCall("chat", "openai", request_model="gpt-4o")
    found = attributes(replace(FULL, model="gpt-4o", model_call=call))
    assert found["gen_ai.request.model"] == "gpt-4o"
    assert not [name for name in found if name.startswith("gen_ai.response.")]


def test_cache_tokens_are_part_of_the_input_tokens():
    usage = {
        "input": 1,
        "input_cached_tokens": 20,
        "input_cache_creation": 300,
        "input_cache_creation_5m": 4000,
        "input_cache_creation_1h": 50_000,
        "output": 6,
        "total": 54_327,
    }
    found = attributes(replace(FULL, usage=usage))
    assert found["gen_ai.usage.input_tokens"] == 54_321
    assert found["gen_ai.usage.cache_read.input_tokens"] == 20
    assert found["gen_ai.usage.cache_creation.input_tokens"] == 54_300
    found = attributes(replace(FULL, usage={"input": 1, "output": 6, "total": 7}))
    assert not [name for name in found if "cache" in name]
    # Langfuse v4 repeats each attribute in the metadata.
    found = attributes(replace(FULL, usage={"input": 1, "input_cached_tokens": 0, "output": 6}))
    assert not [name for name in found if "cache" in name]


def test_missing_usage_is_left_out_but_zero_is_sent():
    assert attributes(replace(FULL, usage={"output": 0}))["gen_ai.usage.output_tokens"] == 0
    assert not [name for name in attributes(replace(FULL, usage={})) if "usage" in name]


def test_only_an_existing_trace_has_trace_metadata():
    assert not [name for name in attributes(FULL) if name.startswith("langfuse.trace.metadata")]
    metadata = {"team": "search", "provider": "mine", "more": 1}
    observation = replace(
        EMBEDDING_IN_EXISTING_TRACE,
        trace=replace(EMBEDDING_IN_EXISTING_TRACE.trace, metadata=metadata),
    )
    found = attributes(observation)
    assert {name: found[name] for name in found if name.startswith("langfuse.trace.")} == {
        "langfuse.trace.metadata.team": "search",
        "langfuse.trace.metadata.more": "1",
    }


# Values of metadata with the texts that Langfuse stores, which it filters by and parses as JSON.
METADATA_VALUES = [
    ("search", "search"),
    ("", ""),
    ("2026-11-23", "2026-11-23"),
    ("nullable, true", "nullable, true"),
    ("4.16.0", "4.16.0"),
    ("007", "007"),
    # Texts that are JSON.
    ("true", '"true"'),
    ("null", '"null"'),
    (" false\n", '" false\\n"'),
    ("4711", '"4711"'),
    ("1.10", '"1.10"'),
    ("-1e5", '"-1e5"'),
    ('"said"', '"\\"said\\""'),
    ('{"a":1}', '"{\\"a\\":1}"'),
    ("[redacted]", '"[redacted]"'),
    # Other values.
    (True, "true"),
    (None, "null"),
    (4711, "4711"),
    (0.5, "0.5"),
    (2**60, str(2**60)),
    ({}, "{}"),
    ([], "[]"),
    ({"b": {}, "c": None, "d": "true"}, '{"b":{},"c":null,"d":"true"}'),
    (["true", True, {"a.b": 1}], '["true",true,{"a.b":1}]'),
    ("\ud83d", "?"),
    ("Grüße ✓", "Grüße ✓"),
]


@pytest.mark.parametrize(("value", "sent"), METADATA_VALUES)
def test_a_metadata_value_is_an_attribute_that_langfuse_reads_as_the_same_value(value, sent):
    observation = replace(FULL, metadata={"name": value})
    assert attributes(observation)["langfuse.observation.metadata.name"] == sent
    if value != "\ud83d":
        read = parsed_metadata(stored_metadata(observation))["name"]
        assert (read, type(read)) == (value, type(value))


def parsed_metadata(stored: list[tuple[str, str]]) -> dict[str, Any]:
    """Metadata as `parseMetadataCHRecordToDomain` of Langfuse 4.16 reads the stored texts."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON for JavaScript")

    def parsed(text: str) -> Any:
        try:
            return json.loads(text, parse_constant=refuse)
        except ValueError:
            return text

    return {name: parsed(text) for name, text in reversed(stored)}


def stored_metadata(observation: Observation) -> list[tuple[str, str]]:
    """The entries that Langfuse 4.16 stores of a span's metadata, by `extractMetadata` and
    `flattenJsonToPathArrays`."""

    def entries(value: Any, path: str) -> list[tuple[str, str]]:
        if isinstance(value, dict):
            inner = [(f"{path}.{name}" if path else name, value[name]) for name in value]
            return [entry for name, item in inner for entry in entries(item, name)]
        return [(path, value if isinstance(value, str) else json.dumps(value))]

    prefix, found = "langfuse.observation.metadata", attributes(observation)
    below = {
        name.removeprefix(f"{prefix}."): value
        for name, value in found.items()
        if name.startswith(f"{prefix}.") and name != f"{prefix}."
    }
    return entries(json.loads(found.get(prefix, "{}")) | below, "")


@pytest.mark.parametrize(
    "metadata",
    [
        {"a.b": 1, "a": {"b": 2}, "a.": 3, ".a": 4},
        {"a": {"b": 2}, "a.b": 1},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strict": True}}},
        {"": {"": "true"}, "a": {}},
        # Langfuse would read attributes of these names as the trace's user, session and tags.
        {"langfuse_user_id": "eve", "langfuse_session_id": {"a": 1}, "langfuse_tags": ["x"]},
        {"a b": 1, "Ünïcödé ✓": 2, "line\nbreak": {"c": "4711"}, "0": 3, "[0]": 4},
        {f"name {n}": {"n": n} for n in range(300)},
        {"attributes": "mine", "scope": {"name": "mine"}, "resourceAttributes": None},
    ],
)
def test_no_metadata_is_flattened_or_lost(metadata):
    observation = replace(FULL, metadata=metadata)
    assert parsed_metadata(stored_metadata(observation)) == metadata
    stored, trace = stored_by_langfuse(observation, "otlp")
    assert stored["metadata"].items() >= metadata.items()
    assert trace["metadata"].items() >= metadata.items()
    assert (stored["user_id"], stored["session_id"], stored["tags"]) == ("ada", "s1", ["a", "b,c"])


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), VALUES))
@example({"": "Infinity"})
def test_any_metadata_is_read_as_it_was_sent(metadata):
    expected = json.loads(json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace"))
    assert parsed_metadata(stored_metadata(replace(FULL, metadata=metadata))) == expected


def test_metadata_beyond_the_limit_of_attributes_is_in_one_attribute():
    metadata = {f"{n}": n for n in range(MAX_METADATA_ATTRIBUTES + 2)}
    found = attributes(replace(FULL, metadata=metadata))
    own = [name for name in found if name.startswith("langfuse.observation.metadata.")]
    assert len(own) == MAX_METADATA_ATTRIBUTES
    assert found["langfuse.observation.metadata"] == '{"128":"128","129":"129"}'


def test_a_json_string_is_sent_as_plain_text():
    found = attributes(replace(FULL, input='"say \\"hi\\" [\\n"', output='""'))
    assert found["langfuse.observation.input"] == 'say "hi" [\n'
    assert found["langfuse.observation.output"] == ""


def test_a_lone_surrogate_becomes_a_question_mark():
    observation = replace(FULL, output='"\ud83d"', name="\udc00", metadata={"\ud83d": "\ud83d"})
    assert spans(export_request(observation))[0]["name"] == "?"
    assert attributes(observation)["langfuse.observation.output"] == "?"


def stored_by_langfuse(
    observation: Observation, protocol: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The observation and the trace in the inbox, without what depends on the protocol."""
    store = Store()
    if protocol == "otlp":
        inbox_otlp.keep(protobuf.from_json(export_request(observation)), 4, store)
    else:
        for event in json.loads(ingestion.request_body(ingestion.encode(observation)))["batch"]:
            assert inbox_ingestion.problem(event, 3) is None
            inbox_ingestion.keep(event, 3, store)
    [stored], [stored_trace] = store.observations(), store.traces(implied=True)
    observation_record: dict[str, Any] = {**stored}
    trace_record: dict[str, Any] = {**stored_trace}
    for name in ("protocol", "raw"):
        del observation_record[name]
    # Langfuse adds these members of the span to the metadata.
    observation_record["metadata"] = {
        name: value
        for name, value in stored["metadata"].items()
        if not name.startswith(("attributes.", "resourceAttributes.", "scope."))
    }
    for record in (observation_record, trace_record):
        for name, value in record.items():
            if name.endswith("time") or name == "timestamp":
                record[name] = value and datetime.fromisoformat(value)
    return observation_record, trace_record


@pytest.mark.parametrize(
    "observation",
    [
        FULL,
        EMPTY,
        replace(EMPTY, trace=replace(EMPTY.trace, name="n")),
        replace(FULL, type="embedding", level="WARNING", input='"a text"', output=None),
        EMBEDDING_IN_EXISTING_TRACE,
        replace(EMBEDDING_IN_EXISTING_TRACE, environment=None),
        SPAN,
        ATTEMPTS[0],
    ],
)
def test_both_protocols_result_in_the_same_observation_and_trace(observation):
    stored, trace = stored_by_langfuse(observation, "otlp")
    expected, expected_trace = stored_by_langfuse(observation, "ingestion")
    # Over OTLP the server converts parameters that are neither text nor number to JSON text.
    expected["model_parameters"] = {
        name: value
        if type(value) in (str, int, float)
        else json.dumps(value, separators=(",", ":"))
        for name, value in expected["model_parameters"].items()
    }
    # Over OTLP a trace has the environment of its span, and without a name that of its root span.
    expected_trace["environment"] = expected["environment"]
    if observation.trace.name is None and not observation.parent_id:
        expected_trace["name"] = observation.name
    assert stored == expected
    assert trace == expected_trace


def read_result(status: int, text: str) -> UploadResult:
    return otlp.read_response(HttpResponse(status, {}, text), otlp.encode(FULL), 0)


def partial_success(rejected: Any, message: Any = "too old") -> str:
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
        partial_success(0),
        partial_success("0"),
        partial_success(None),
        partial_success(-1),
        partial_success([1]),
    ],
)
def test_a_success_without_rejected_spans_is_stored(status, text):
    assert read_result(status, text) == UploadResult(Outcome.STORED)


@pytest.mark.parametrize("rejected", [1, "1", 10, "9" * 5000])
def test_rejected_spans_are_malformed(rejected):
    result = read_result(200, partial_success(rejected))
    assert result.outcome is Outcome.MALFORMED
    assert result.reason.startswith(str(rejected)[:MAX_LOGGED_REASON_CHARS])
    assert len(result.reason) < MAX_LOGGED_REASON_CHARS + 50


def test_a_long_reason_is_truncated():
    assert read_result(200, partial_success(1)).reason == "1 spans rejected: too old"
    assert (
        len(read_result(200, partial_success(1, "x" * 999)).reason) < MAX_LOGGED_REASON_CHARS + 50
    )
