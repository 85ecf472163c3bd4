"""Ingestion batches against the models of Langfuse's own package, and its answers."""

import json
from dataclasses import replace
from typing import Any

import pytest
from langfuse.api.ingestion.types import CreateGenerationBody, CreateSpanBody, IngestionEvent
from pydantic import TypeAdapter

from core.limits import MAX_LOGGED_REASON_CHARS
from core.types import HttpResponse
from export import ingestion
from export.upload_results import Outcome, UploadResult
from local.inbox import ingestion as inbox_ingestion
from tests.unit.samples import ATTEMPTS, EMPTY, FULL, JOINED, SPAN, TRACE
from tracing import Observation

ADAPTER = TypeAdapter(IngestionEvent)


def events(observation: Observation) -> list[dict[str, Any]]:
    return json.loads(ingestion.request_body(ingestion.encode(observation)))["batch"]


@pytest.mark.parametrize(
    "observation", [FULL, EMPTY, replace(FULL, trace=replace(TRACE, is_existing=True))]
)
@pytest.mark.parametrize("major", [2, 3])
def test_langfuse_takes_the_batch(observation, major):
    batch = events(observation)
    assert [event["type"] for event in batch] == ["trace-create", "generation-create"]
    assert [part.alternative for part in ingestion.encode(observation)] == [None, None]
    for event in batch:
        ADAPTER.validate_python(event)
        assert inbox_ingestion.problem(event, major) is None


def test_an_embedding_is_one_where_the_server_knows_them():
    _, part = ingestion.encode(JOINED)
    assert part.alternative
    embedding, generation = json.loads(part.json), json.loads(part.alternative.json)
    assert (embedding["type"], generation["type"]) == ("embedding-create", "generation-create")
    assert embedding["body"] == generation["body"]
    assert (embedding["id"], generation["id"]) == (part.id, part.alternative.id)
    assert part.id != part.alternative.id
    # Langfuse's package has no model of its own for it: the body is a generation's.
    ADAPTER.validate_python(generation)
    assert inbox_ingestion.problem(embedding, 3) is None
    assert inbox_ingestion.problem(embedding, 2) is not None
    assert inbox_ingestion.problem(generation, 2) is None


@pytest.mark.parametrize("major", [2, 3])
def test_a_span_has_no_field_of_a_generations(major):
    batch = events(SPAN)
    assert [event["type"] for event in batch] == ["trace-create", "span-create"]
    assert [part.alternative for part in ingestion.encode(SPAN)] == [None, None]
    for event in batch:
        ADAPTER.validate_python(event)
        assert inbox_ingestion.problem(event, major) is None
    body = batch[1]["body"]
    assert set(body) <= names(CreateSpanBody) < names(CreateGenerationBody)
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


def names(model: type[CreateSpanBody]) -> set[str]:
    """The names of a model's fields in JSON."""
    fields = model.model_fields.items()
    return {getattr(next(iter(f.metadata), None), "alias", name) for name, f in fields}


def test_attempts_tell_nothing_of_the_trace_that_their_span_does_not():
    told, *others = (events(observation)[0]["body"] for observation in (SPAN, *ATTEMPTS))
    assert {"input", "output", "metadata", "timestamp", "environment"} <= set(told)
    for other in others:
        assert other == {
            name: value
            for name, value in told.items()
            if name not in ("input", "output", "metadata")
        }


def test_every_field_arrives_where_langfuse_looks_for_it():
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


def test_of_a_joined_trace_only_what_the_caller_said_is_told():
    joined = replace(FULL, trace=replace(TRACE, is_existing=True, name=None, started_at=None))
    trace, generation = (e["body"] for e in events(joined))
    assert set(trace) == {
        *("id", "userId", "sessionId", "tags", "release", "version", "environment", "metadata")
    }
    assert {"input", "output", "metadata", "name"} <= set(generation)


def test_absent_fields_are_left_out():
    for event in events(EMPTY):
        assert None not in event["body"].values()
        assert not {"userId", "model", "usage", "input", "output"} & set(event["body"])


def test_every_observation_has_events_of_its_own():
    ids = {part.id for part in ingestion.encode(FULL)}
    assert len(ids) == 2
    assert ids.isdisjoint(part.id for part in ingestion.encode(replace(FULL, id="0" * 16)))


# What the answers below are about.
PARTS = ingestion.encode(FULL)
TRACE_ID, OWN_ID = (part.id for part in PARTS)
STORED = UploadResult(Outcome.STORED)
MISSING = UploadResult(Outcome.RETRYABLE, "not in the answer")
NOT_ACCEPTED = "Event type not accepted"
FOREIGN = UploadResult(
    Outcome.MISCONFIGURED, "the answer is not Langfuse's: is LANGFUSE_BASE_URL right?"
)


def taken(*ids: str) -> list[dict[str, Any]]:
    return [{"id": event, "status": 201} for event in ids]


def refused(*ids: str, status: int = 400, message: str = "Invalid") -> list[dict[str, Any]]:
    return [{"id": event, "status": status, "message": message} for event in ids]


def read(successes: Any, errors: Any, parts=PARTS, status: int = 207) -> UploadResult:
    text = json.dumps({"successes": successes, "errors": errors})
    return ingestion.read_response(HttpResponse(status, {}, text), parts, 0)


def partly(**parts: UploadResult) -> UploadResult:
    ids = {"trace": TRACE_ID, "own": OWN_ID}
    return UploadResult(
        Outcome.STORED, item_results={ids[name]: judged for name, judged in parts.items()}
    )


@pytest.mark.parametrize(
    ("successes", "errors", "verdict"),
    [
        (taken(TRACE_ID, OWN_ID), [], STORED),
        (taken(TRACE_ID, OWN_ID, "another"), [], STORED),
        (
            taken(TRACE_ID),
            refused(OWN_ID),
            partly(own=UploadResult(Outcome.MALFORMED, "400 Invalid")),
        ),
        (
            taken(TRACE_ID),
            refused(OWN_ID, status=500, message="oops"),
            partly(own=UploadResult(Outcome.RETRYABLE, "500 oops")),
        ),
        (
            taken(OWN_ID),
            refused(TRACE_ID, status=429, message=""),
            partly(trace=UploadResult(Outcome.RETRYABLE, "429")),
        ),
        # An error counts more than a success.
        (
            taken(TRACE_ID, OWN_ID),
            refused(OWN_ID, status=401, message="no"),
            partly(own=UploadResult(Outcome.MALFORMED, "401 no")),
        ),
        ([], [], partly(trace=MISSING, own=MISSING)),
        (taken(OWN_ID), [], partly(trace=MISSING)),
        # Langfuse could not read whose error it is.
        (
            taken(TRACE_ID),
            refused("unknown"),
            partly(own=UploadResult(Outcome.MALFORMED, "400 Invalid")),
        ),
        (
            taken(TRACE_ID),
            refused("unknown", status=503),
            partly(own=UploadResult(Outcome.RETRYABLE, "503 Invalid")),
        ),
        (taken(TRACE_ID, OWN_ID), refused("unknown"), STORED),
        (
            [],
            refused(TRACE_ID, OWN_ID, message=NOT_ACCEPTED),
            UploadResult(Outcome.UNSUPPORTED_PROTOCOL, f"400 {NOT_ACCEPTED}"),
        ),
        (
            [],
            refused("unknown", "unknown"),
            UploadResult(Outcome.UNSUPPORTED_PROTOCOL, "400 Invalid"),
        ),
        (
            [],
            refused(TRACE_ID) + refused(OWN_ID, message="no"),
            UploadResult(Outcome.UNSUPPORTED_PROTOCOL, "400 Invalid; 400 no"),
        ),
        (
            [],
            refused(TRACE_ID, message=NOT_ACCEPTED) + refused(OWN_ID, status=500, message="x"),
            partly(
                trace=UploadResult(Outcome.MALFORMED, f"400 {NOT_ACCEPTED}"),
                own=UploadResult(Outcome.RETRYABLE, "500 x"),
            ),
        ),
        (
            [],
            refused(TRACE_ID, message=NOT_ACCEPTED),
            partly(trace=UploadResult(Outcome.MALFORMED, f"400 {NOT_ACCEPTED}"), own=MISSING),
        ),
        (
            taken(OWN_ID),
            refused(TRACE_ID, message=NOT_ACCEPTED),
            partly(trace=UploadResult(Outcome.MALFORMED, f"400 {NOT_ACCEPTED}")),
        ),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 207])
def test_an_answer_is_read_event_by_event(successes, errors, verdict, status):
    assert read(successes, errors, status=status) == verdict


def test_what_has_an_alternative_is_not_given_up_before_that_was_tried():
    parts = ingestion.encode(JOINED)
    ids = [part.id for part in parts]
    both = read([], refused(*ids), parts)
    assert set(both.item_results) == set(ids)
    assert {judged.outcome for judged in both.item_results.values()} == {Outcome.MALFORMED}
    assert (
        read([], refused(*ids, message=NOT_ACCEPTED), parts).outcome is Outcome.UNSUPPORTED_PROTOCOL
    )
    in_detail = [{**error, "error": f"Type is {NOT_ACCEPTED}"} for error in refused(*ids)]
    assert read([], in_detail, parts).outcome is Outcome.UNSUPPORTED_PROTOCOL


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
def test_another_shape_is_not_langfuses(successes, errors):
    assert read(successes, errors) == FOREIGN


def test_a_reason_does_not_quote_the_prompt_at_length():
    errors = [*refused(TRACE_ID, message="x" * 900), *refused(OWN_ID, message="y" * 900)]
    assert len(read([], errors).reason) < MAX_LOGGED_REASON_CHARS + 50
    [judged] = read(taken(TRACE_ID), errors[1:]).item_results.values()
    assert len(judged.reason) < MAX_LOGGED_REASON_CHARS + 50
    assert "[cut: " in judged.reason
