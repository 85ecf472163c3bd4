"""Ingestion batches against the models of Langfuse's own package, and its answers."""

import json
from dataclasses import replace

import pytest
from langfuse.api.ingestion.types import IngestionEvent
from pydantic import TypeAdapter

import ingestion
from config import Destination
from local import inbox_ingestion
from tracing import Observation, Trace
from vocabulary import Received

TRACE = Trace(
    id="0af7651916cd43dd8448eb211c80319c",
    joined=False,
    name="my trace",
    user="ada",
    session="s1",
    tags=("a", "b"),
    environment="staging",
    release="r1",
    version="v1",
    metadata={"provider": "openai"},
)
FULL = Observation(
    id="b7ad6b7169203331",
    destination=Destination("default", "https://langfuse.example", "pk-lf-1", "sk-lf-1"),
    trace=TRACE,
    parent_id="00f067aa0ba902b7",
    type="generation",
    name="chat/completions",
    started=1795436099.196,
    ended=1795436100.708,
    completion_started=1795436099.5,
    model="gpt-4o-mini-2024-07-18",
    parameters={"temperature": 0.5, "stop": ["a", "b"], "stream": True, "seed": 7},
    input='[{"role":"user","content":"Grüße ✓"}]',
    output='{"role":"assistant","content":"Hallo"}',
    usage={"input": 7, "input_cached_tokens": 3, "output": 2, "total": 12},
    cost={"total": 0.25},
    level="ERROR",
    status_message="HTTP 500: oops",
    metadata={"provider": "openai", "streamed": True, "latency_ms": 1512},
    environment="staging",
    version="v1",
    prompt_name="greeting",
    prompt_version=3,
)
EMPTY = replace(
    FULL,
    completion_started=None,
    model=None,
    parameters={},
    input=None,
    output=None,
    usage={},
    cost={},
    level="DEFAULT",
    status_message=None,
    metadata={},
    trace=Trace("0" * 31 + "1", False, None, None, None, (), None, None, None, {}),
    parent_id=None,
    environment=None,
    version=None,
    prompt_name=None,
    prompt_version=None,
)


def events(observation: Observation, kind: str = "generation-create") -> list[dict]:
    return json.loads(ingestion.batch(observation, kind))["batch"]


@pytest.mark.parametrize(
    "observation", [FULL, EMPTY, replace(FULL, trace=replace(TRACE, joined=True))]
)
@pytest.mark.parametrize("major", [2, 3])
def test_langfuse_takes_the_batch(observation, major):
    adapter = TypeAdapter(IngestionEvent)
    batch = events(observation)
    assert [event["type"] for event in batch] == ["trace-create", "generation-create"]
    for event in batch:
        adapter.validate_python(event)
        assert inbox_ingestion.problem(event, major) is None


def test_an_embedding_is_one_where_the_server_knows_them():
    embedding = replace(FULL, type="embedding")
    assert ingestion.kinds(embedding) == ("embedding-create", "generation-create")
    assert ingestion.kinds(FULL) == ("generation-create",)
    event = events(embedding, "embedding-create")[1]
    # The package has no model of its own for it: the body is a generation's.
    TypeAdapter(IngestionEvent).validate_python({**event, "type": "generation-create"})
    assert inbox_ingestion.problem(event, 3) is None
    assert inbox_ingestion.problem(event, 2) is not None


def test_every_field_arrives_where_langfuse_looks_for_it():
    trace, generation = (event["body"] for event in events(FULL))
    assert trace == {
        "id": TRACE.id,
        "timestamp": "2026-11-23T12:14:59.196+00:00",
        "name": "my trace",
        "userId": "ada",
        "sessionId": "s1",
        "tags": ["a", "b"],
        "release": "r1",
        "version": "v1",
        "environment": "staging",
        "metadata": {"provider": "openai"},
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
    joined = replace(FULL, trace=replace(TRACE, joined=True, name=None))
    trace, generation = (e["body"] for e in events(joined))
    assert set(trace) == {
        *("id", "userId", "sessionId", "tags", "release", "version", "environment", "metadata")
    }
    assert {"input", "output", "metadata", "name"} <= set(generation)


def test_absent_fields_are_left_out():
    for event in events(EMPTY):
        assert None not in event["body"].values()
        assert not {"userId", "model", "usage", "input", "output"} & set(event["body"])


def test_the_same_observation_is_the_same_bytes():
    assert ingestion.batch(FULL, "x") == ingestion.batch(replace(FULL), "x")
    ids = {event["id"] for event in events(FULL)}
    assert len(ids) == 2
    assert ids.isdisjoint(event["id"] for event in events(replace(FULL, id="0" * 16)))


def test_half_a_character_does_not_break_the_batch():
    assert json.loads(ingestion.batch(replace(FULL, output='"\ud83d"', name="\udc00"), "x"))


def test_answers():
    def read(status, text="", **headers):
        return ingestion.read_answer(Received(status, headers, text))

    taken = read(207, '{"successes": [{"id": "a", "status": 201}], "errors": []}')
    assert taken.delivered
    refused = read(207, '{"successes": [], "errors": [{"id": "a", "status": 400, "message": "m"}]}')
    assert not refused.delivered
    assert "400 m" in refused.reason
    assert "LANGFUSE_BASE_URL" in read(302, location="https://login.example").reason
    assert "https://login.example" in read(302, location="https://login.example").reason
    for status in (401, 403, 404, 413, 500, 503):
        assert str(status) in read(status, "<html>").reason
    for text in ("", "<html>", "[]", "null", '{"errors": 7}', '{"errors": [7]}', "[" * 100_000):
        assert not read(200, text).delivered
