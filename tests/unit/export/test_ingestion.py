"""Tests of ingestion: batches are validated with Langfuse's own models; responses are read."""

import json
from dataclasses import replace
from typing import Any

import pytest
from langfuse.api.ingestion.types import CreateGenerationBody, CreateSpanBody, IngestionEvent
from pydantic import TypeAdapter

from core.limits import MAX_LOGGED_REASON_CHARS
from core.observation import Observation
from core.types import HttpResponse
from export import encoding, ingestion
from export.upload_results import Outcome, UploadResult
from local.inbox import ingestion as inbox_ingestion
from tests.unit.samples import ATTEMPTS, EMBEDDING_IN_EXISTING_TRACE, EMPTY, FULL, SPAN, TRACE

ADAPTER = TypeAdapter(IngestionEvent)


def events(observation: Observation) -> list[dict[str, Any]]:
    return json.loads(ingestion.request_body(ingestion.encode(observation)))["batch"]


@pytest.mark.parametrize(
    "observation", [FULL, EMPTY, replace(FULL, trace=replace(TRACE, is_existing=True))]
)
@pytest.mark.parametrize("major", [2, 3])
def test_a_batch_is_valid_for_langfuse(observation, major):
    batch = events(observation)
    assert [event["type"] for event in batch] == ["trace-create", "generation-create"]
    assert [item.alternative for item in ingestion.encode(observation)] == [None, None]
    for event in batch:
        ADAPTER.validate_python(event)
        assert inbox_ingestion.problem(event, major) is None


def test_an_embedding_has_a_generation_as_alternative():
    _, item = ingestion.encode(EMBEDDING_IN_EXISTING_TRACE)
    assert item.alternative
    embedding, generation = json.loads(item.json), json.loads(item.alternative.json)
    assert (embedding["type"], generation["type"]) == ("embedding-create", "generation-create")
    assert embedding["body"] == generation["body"]
    assert (embedding["id"], generation["id"]) == (item.id, item.alternative.id)
    assert item.id != item.alternative.id
    # Langfuse's package has no model for an embedding; its body is the body of a generation.
    ADAPTER.validate_python(generation)
    assert inbox_ingestion.problem(embedding, 3) is None
    assert inbox_ingestion.problem(embedding, 2) is not None
    assert inbox_ingestion.problem(generation, 2) is None


@pytest.mark.parametrize("major", [2, 3])
def test_a_span_has_only_the_fields_of_a_span(major):
    batch = events(SPAN)
    assert [event["type"] for event in batch] == ["trace-create", "span-create"]
    assert [item.alternative for item in ingestion.encode(SPAN)] == [None, None]
    for event in batch:
        ADAPTER.validate_python(event)
        assert inbox_ingestion.problem(event, major) is None
    body = batch[1]["body"]
    assert set(body) <= json_field_names(CreateSpanBody) < json_field_names(CreateGenerationBody)
    assert body == {
        "id": FULL.id,
        "traceId": TRACE.id,
        "name": "chat/completions",
        "startTime": "2026-11-23T12:14:59.196+00:00",
        "endTime": "2026-11-23T12:15:00.708+00:00",
        "level": "DEFAULT",
        "version": "v1",
        "environment": "staging",
        "metadata": FULL.metadata,
        "input": [{"role": "user", "content": "Grüße ✓"}],
        "output": {"role": "assistant", "content": "Hallo"},
    }


def json_field_names(model: type[CreateSpanBody]) -> set[str]:
    """The names that a model's fields have in JSON."""
    fields = model.model_fields.items()
    return {getattr(next(iter(f.metadata), None), "alias", name) for name, f in fields}


def test_attempts_repeat_the_trace_fields_of_their_span_without_content():
    span_trace, *attempt_traces = (
        events(observation)[0]["body"] for observation in (SPAN, *ATTEMPTS)
    )
    assert {"input", "output", "metadata", "timestamp", "environment"} <= set(span_trace)
    for attempt_trace in attempt_traces:
        assert attempt_trace == {
            name: value
            for name, value in span_trace.items()
            if name not in ("input", "output", "metadata")
        }


def test_every_field_has_the_name_that_langfuse_reads():
    observation = replace(FULL, parent_id="00f067aa0ba902b7")
    trace, generation = (event["body"] for event in events(observation))
    assert trace == {
        "id": TRACE.id,
        "timestamp": "2026-11-23T12:14:59.196+00:00",
        "name": "my trace",
        "userId": "ada",
        "sessionId": "s1",
        "tags": ["a", "b,c"],
        "release": "r1",
        "version": "v1",
        "environment": "staging",
        "metadata": FULL.metadata,
        "input": [{"role": "user", "content": "Grüße ✓"}],
        "output": {"role": "assistant", "content": "Hallo"},
    }
    assert generation == {
        "id": FULL.id,
        "traceId": TRACE.id,
        "parentObservationId": "00f067aa0ba902b7",
        "name": "chat/completions",
        "startTime": "2026-11-23T12:14:59.196+00:00",
        "endTime": "2026-11-23T12:15:00.708+00:00",
        "completionStartTime": "2026-11-23T12:14:59.500+00:00",
        "model": "gpt-4o-mini-2024-07-18",
        "modelParameters": FULL.parameters,
        "usage": {"input": 10, "output": 2, "total": 12, "unit": "TOKENS"},
        "usageDetails": FULL.usage,
        "costDetails": {"total": 0.25},
        "level": "ERROR",
        "statusMessage": "HTTP 500: oops",
        "promptName": "greeting",
        "promptVersion": 3,
        "version": "v1",
        "environment": "staging",
        "metadata": FULL.metadata,
        "input": [{"role": "user", "content": "Grüße ✓"}],
        "output": {"role": "assistant", "content": "Hallo"},
    }


def test_an_existing_trace_is_sent_without_name_and_content():
    in_existing_trace = replace(
        FULL, trace=replace(TRACE, is_existing=True, name=None, started_at=None)
    )
    trace, generation = (e["body"] for e in events(in_existing_trace))
    assert set(trace) == {
        *("id", "userId", "sessionId", "tags", "release", "version", "environment", "metadata")
    }
    assert {"input", "output", "metadata", "name"} <= set(generation)


@pytest.mark.parametrize("observation", [FULL, EMBEDDING_IN_EXISTING_TRACE, SPAN, *ATTEMPTS])
def test_the_time_of_an_event_is_the_start_of_its_call(observation):
    """Langfuse v3 takes it as the start of a trace whose body has no `timestamp`, v2 overwrites an
    app's own `timestamp` with that of the body."""
    start = encoding.to_iso_time(observation.started_at)
    assert [event["timestamp"] for event in events(observation)] == [start, start]
    trace = events(observation)[0]["body"]
    assert ("timestamp" in trace) == (observation.trace.started_at is not None)


def test_fields_without_a_value_are_left_out():
    for event in events(EMPTY):
        assert None not in event["body"].values()
        assert not {"userId", "model", "usage", "input", "output"} & set(event["body"])


def test_event_ids_differ_between_observations():
    ids = {item.id for item in ingestion.encode(FULL)}
    assert len(ids) == 2
    assert ids.isdisjoint(item.id for item in ingestion.encode(replace(FULL, id="0" * 16)))


# The items that the responses below refer to: the trace's event and the generation's.
ITEMS = ingestion.encode(FULL)
TRACE_ID, GENERATION_ID = (item.id for item in ITEMS)
STORED = UploadResult(Outcome.STORED)
NOT_IN_RESPONSE = UploadResult(Outcome.RETRYABLE, "not in the answer")
NOT_ACCEPTED = "Event type not accepted"
NOT_LANGFUSE = UploadResult(
    Outcome.MISCONFIGURED, "the answer is not Langfuse's: is LANGFUSE_BASE_URL right?"
)


def successes_of(*ids: str) -> list[dict[str, Any]]:
    return [{"id": event, "status": 201} for event in ids]


def errors_of(*ids: str, status: int = 400, message: str = "Invalid") -> list[dict[str, Any]]:
    return [{"id": event, "status": status, "message": message} for event in ids]


def read_result(successes: Any, errors: Any, items=ITEMS, status: int = 207) -> UploadResult:
    text = json.dumps({"successes": successes, "errors": errors})
    return ingestion.read_response(HttpResponse(status, {}, text), items, 0)


def partial_result(**results: UploadResult) -> UploadResult:
    """The result where the items `trace` and `generation` have these results and others succeed."""
    ids = {"trace": TRACE_ID, "generation": GENERATION_ID}
    return UploadResult(
        Outcome.STORED, item_results={ids[name]: result for name, result in results.items()}
    )


@pytest.mark.parametrize(
    ("successes", "errors", "expected"),
    [
        (successes_of(TRACE_ID, GENERATION_ID), [], STORED),
        (successes_of(TRACE_ID, GENERATION_ID, "another"), [], STORED),
        (
            successes_of(TRACE_ID),
            errors_of(GENERATION_ID),
            partial_result(generation=UploadResult(Outcome.MALFORMED, "400 Invalid")),
        ),
        (
            successes_of(TRACE_ID),
            errors_of(GENERATION_ID, status=500, message="oops"),
            partial_result(generation=UploadResult(Outcome.RETRYABLE, "500 oops")),
        ),
        (
            successes_of(GENERATION_ID),
            errors_of(TRACE_ID, status=429, message=""),
            partial_result(trace=UploadResult(Outcome.RETRYABLE, "429")),
        ),
        # An error takes precedence over a success with the same id.
        (
            successes_of(TRACE_ID, GENERATION_ID),
            errors_of(GENERATION_ID, status=401, message="no"),
            partial_result(generation=UploadResult(Outcome.MALFORMED, "401 no")),
        ),
        ([], [], partial_result(trace=NOT_IN_RESPONSE, generation=NOT_IN_RESPONSE)),
        (successes_of(GENERATION_ID), [], partial_result(trace=NOT_IN_RESPONSE)),
        # Langfuse returns the id "unknown" where it cannot read an event's id.
        (
            successes_of(TRACE_ID),
            errors_of("unknown"),
            partial_result(generation=UploadResult(Outcome.MALFORMED, "400 Invalid")),
        ),
        (
            successes_of(TRACE_ID),
            errors_of("unknown", status=503),
            partial_result(generation=UploadResult(Outcome.RETRYABLE, "503 Invalid")),
        ),
        (successes_of(TRACE_ID, GENERATION_ID), errors_of("unknown"), STORED),
        (
            [],
            errors_of(TRACE_ID, GENERATION_ID, message=NOT_ACCEPTED),
            UploadResult(Outcome.UNSUPPORTED_PROTOCOL, f"400 {NOT_ACCEPTED}"),
        ),
        (
            [],
            errors_of("unknown", "unknown"),
            UploadResult(Outcome.UNSUPPORTED_PROTOCOL, "400 Invalid"),
        ),
        (
            [],
            errors_of(TRACE_ID) + errors_of(GENERATION_ID, message="no"),
            UploadResult(Outcome.UNSUPPORTED_PROTOCOL, "400 Invalid; 400 no"),
        ),
        (
            [],
            errors_of(TRACE_ID, message=NOT_ACCEPTED)
            + errors_of(GENERATION_ID, status=500, message="x"),
            partial_result(
                trace=UploadResult(Outcome.MALFORMED, f"400 {NOT_ACCEPTED}"),
                generation=UploadResult(Outcome.RETRYABLE, "500 x"),
            ),
        ),
        (
            [],
            errors_of(TRACE_ID, message=NOT_ACCEPTED),
            partial_result(
                trace=UploadResult(Outcome.MALFORMED, f"400 {NOT_ACCEPTED}"),
                generation=NOT_IN_RESPONSE,
            ),
        ),
        (
            successes_of(GENERATION_ID),
            errors_of(TRACE_ID, message=NOT_ACCEPTED),
            partial_result(trace=UploadResult(Outcome.MALFORMED, f"400 {NOT_ACCEPTED}")),
        ),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 207])
def test_a_response_is_read_event_by_event(successes, errors, expected, status):
    assert read_result(successes, errors, status=status) == expected


def test_refused_events_with_an_alternative_do_not_mean_an_unsupported_protocol():
    items = ingestion.encode(EMBEDDING_IN_EXISTING_TRACE)
    ids = [item.id for item in items]
    result = read_result([], errors_of(*ids), items)
    assert set(result.item_results) == set(ids)
    assert {item_result.outcome for item_result in result.item_results.values()} == {
        Outcome.MALFORMED
    }
    assert (
        read_result([], errors_of(*ids, message=NOT_ACCEPTED), items).outcome
        is Outcome.UNSUPPORTED_PROTOCOL
    )
    errors_with_details = [
        {**error, "error": f"Type is {NOT_ACCEPTED}"} for error in errors_of(*ids)
    ]
    assert read_result([], errors_with_details, items).outcome is Outcome.UNSUPPORTED_PROTOCOL


@pytest.mark.parametrize(
    ("successes", "errors"),
    [
        (None, []),
        ([], None),
        ({}, []),
        ([], {}),
        ("", []),
        ([], "errors"),
        (["text"], []),
        ([7], []),
        ([], ["text"]),
        ([{}], []),
        ([{"id": [1]}], []),
        ([], [{"id": {"a": 1}, "status": 400}]),
        ([], [{"id": "a"}]),
        ([], [{"id": "a", "status": "400"}]),
        ([], [{"id": "a", "status": None}]),
    ],
)
def test_a_response_of_another_shape_is_not_from_langfuse(successes, errors):
    assert read_result(successes, errors) == NOT_LANGFUSE


def test_a_long_reason_is_truncated():
    errors = [*errors_of(TRACE_ID, message="x" * 900), *errors_of(GENERATION_ID, message="y" * 900)]
    assert len(read_result([], errors).reason) < MAX_LOGGED_REASON_CHARS + 50
    [item_result] = read_result(successes_of(TRACE_ID), errors[1:]).item_results.values()
    assert len(item_result.reason) < MAX_LOGGED_REASON_CHARS + 50
    assert "[cut: " in item_result.reason
