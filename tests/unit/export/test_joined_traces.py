"""Tests of what becomes of a trace whose id the caller sent, in each version of Langfuse, by each
protocol and in each order of arrival."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from core.observation import Observation
from core.trace_context import read_trace_context
from core.types import Call, Capture, Ending
from export import ingestion, otlp
from local.inbox import ingestion as inbox_ingestion
from local.inbox import otlp as inbox_otlp
from local.inbox import protobuf
from local.inbox.store import Store, Trace
from settings.load import Settings
from tests.unit.samples import FULL
from tracing import Exchange, observe

APP_SPAN, TRACE_ID = "b7ad6b7169203331", "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-{APP_SPAN}-01"}
SHARED = {"x-portkey-trace-id": TRACE_ID}
SETTINGS = Settings(environment="gw", release="worker-7")
REQUEST = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}'
REPLY = b'{"model": "gpt-4o", "choices": [{"message": {"role": "assistant", "content": "hello"}}]}'


def call(started_at: float, headers: dict[str, str], path: str = "chat/completions") -> Observation:
    """The observation of a call that takes three seconds."""
    exchange = Exchange(
        Call("POST", f"/v1/{path}", "", headers),
        read_trace_context(headers),
        *(FULL.destination, "openai", REQUEST, len(REQUEST), started_at),
        capture=Capture(Ending.COMPLETE, started_at + 3, 200, "application/json", REPLY),
    )
    return observe(exchange, SETTINGS)


def keep_batch(major: int, store: Store, *events: dict[str, Any]) -> None:
    for event in events:
        assert inbox_ingestion.problem(event, major) is None
        inbox_ingestion.keep(event, major, store)


def by_ingestion(major: int) -> Callable[[Store, Observation], None]:
    def keep(store: Store, observation: Observation) -> None:
        body = ingestion.request_body(ingestion.encode(observation))
        keep_batch(major, store, *json.loads(body)["batch"])

    return keep


def by_otlp(major: int) -> Callable[[Store, Observation], None]:
    def keep(store: Store, observation: Observation) -> None:
        export = json.loads(otlp.request_body(otlp.encode(observation)))
        inbox_otlp.keep(protobuf.from_json(export), major, store)

    return keep


def keep_app(store: Store, major: int) -> None:
    """Store the trace of an app, which began before the call and ends after it."""
    trace = {
        "id": TRACE_ID,
        "name": "my app",
        "timestamp": "1970-01-01T00:16:40.000Z",
        "environment": "app",
        "release": "app-1",
        "userId": "ada",
        "input": "in",
    }
    if major < 4:
        event = {"id": "e", "type": "trace-create", "timestamp": trace["timestamp"], "body": trace}
        keep_batch(major, store, event)
        return
    root = replace(
        FULL,
        id=APP_SPAN,
        parent_id=None,
        started_at=1000.0,
        ended_at=1009.0,
        environment="app",
        trace=replace(
            FULL.trace,
            id=TRACE_ID,
            name="my app",
            environment="app",
            release="app-1",
        ),
        input='"in"',
    )
    by_otlp(major)(store, root)


SERVERS = [
    pytest.param(2, by_ingestion(2), id="2.95 ingestion"),
    pytest.param(3, by_ingestion(3), id="3 ingestion"),
    pytest.param(3, by_otlp(3), id="3 otlp"),
    pytest.param(4, by_otlp(4), id="4 otlp"),
]


def only_trace(store: Store, major: int) -> Trace:
    [trace] = store.traces(implied=major >= 3)
    return trace


def start_of(trace: Trace) -> float:
    assert trace["timestamp"]
    return datetime.fromisoformat(trace["timestamp"]).timestamp()


@pytest.mark.parametrize(("major", "keep"), SERVERS)
def test_an_app_keeps_its_trace_when_the_gateway_arrives_first(major, keep):
    store = Store()
    observation = call(1001.0, TRACEPARENT)
    keep(store, observation)
    first = only_trace(store, major)
    # Until the app's own trace arrives, the call is in the deployment's environment.
    assert first["environment"] == ("default" if major == 2 else "gw")
    assert (first["name"], first["release"], first["input"]) == (None, None, None)
    if major >= 3:
        assert start_of(first) == 1001
    keep_app(store, major)
    trace = only_trace(store, major)
    assert (trace["name"], trace["user_id"], trace["input"]) == ("my app", "ada", "in")
    assert trace["release"] == "app-1"
    # Version 3 cannot change these once they are stored; the others take the app's time.
    if major != 3:
        assert start_of(trace) == 1000
    else:
        assert trace["environment"] == "gw"


@pytest.mark.parametrize(("major", "keep"), SERVERS)
def test_an_app_keeps_its_trace_when_it_arrives_first(major, keep):
    store = Store()
    keep_app(store, major)
    before = only_trace(store, major)
    keep(store, call(1001.0, TRACEPARENT))
    after = only_trace(store, major)
    if major == 4:  # has the environment of its latest span
        after["environment"] = before["environment"]
    assert after == before


@pytest.mark.parametrize(("major", "keep"), SERVERS)
@pytest.mark.parametrize("is_reversed", [False, True])
def test_calls_with_one_trace_id_make_up_a_trace(major, keep, is_reversed):
    """The example of docs/tracing.md."""
    store = Store()
    calls = [
        call(1000.0 + n, {**SHARED, "x-portkey-span-name": name})
        for n, name in enumerate(("summarize", "translate"))
    ]
    for observation in reversed(calls) if is_reversed else calls:
        keep(store, observation)
    trace = only_trace(store, major)
    assert (trace["name"], trace["release"]) == ("chat/completions", "worker-7")
    assert trace["environment"] == ("default" if major == 2 else "gw")
    if major != 3 or not is_reversed:
        assert start_of(trace) == 1000
    names = {observation["name"] for observation in store.observations()}
    assert names == {"summarize", "translate"}
    # By a batch the trace has no content; over OTLP Langfuse takes that of its root spans.
    assert (trace["input"] is None) == (keep.__qualname__.startswith("by_ingestion"))


@pytest.mark.parametrize(("major", "keep"), SERVERS)
def test_a_call_below_another_call_does_not_change_their_trace(major, keep):
    store = Store()
    parent = {**SHARED, "x-portkey-span-id": APP_SPAN, "langfuse-trace-name": "order"}
    child = {**SHARED, "x-portkey-parent-span-id": APP_SPAN}
    keep(store, call(1000.0, parent))
    before = only_trace(store, major)
    keep(store, call(1001.0, child, "completions"))
    assert only_trace(store, major) == before
