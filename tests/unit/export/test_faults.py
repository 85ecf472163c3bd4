"""Deliveries of many requests to a Langfuse with every fault of the table, in virtual time and at
the default settings: no observation is lost without a log line, and none is stored twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.export.deliveries import Queue, consume, deliver, new_isolate
from tests.unit.export.fault_table import (
    ROWS,
    Row,
    check_balance,
    check_queue,
    check_random_faults,
    check_stored,
    faults_in_turn,
    none,
    settings_for,
)
from tests.unit.export.faulty_langfuse import FaultyLangfuse

every_case = pytest.mark.parametrize(
    ("protocol", "flush_at", "row"),
    [
        pytest.param(protocol, flush_at, row, id=f"{protocol}-{flush_at}-{row.name}")
        for protocol in ("ingestion", "otlp")
        for flush_at in (1, 10)
        for row in ROWS
        if protocol in row.protocols and flush_at in row.flush_at
    ],
)


@pytest.mark.parametrize("calls", [20, pytest.param(200, marks=pytest.mark.long)])
@every_case
def test_every_observation_is_stored_once_or_reported_as_lost(
    protocol: str, flush_at: int, row: Row, calls: int
):
    langfuse = FaultyLangfuse(fault=row.fault())
    with new_isolate():
        result = deliver(langfuse, settings_for(protocol, flush_at), calls, padding=row.padding)
        check_balance(row, langfuse, result)


@pytest.mark.long
@every_case
def test_the_queue_keeps_what_langfuse_may_accept_later(protocol: str, flush_at: int, row: Row):
    queue = Queue()
    langfuse = FaultyLangfuse(fault=row.fault(), queue=queue)
    settings = settings_for(protocol, flush_at)
    refused = row.lost if row.is_refused else none
    with new_isolate():
        result = deliver(langfuse, settings, 20, padding=row.padding)
        check_queue(row, queue, result)
        langfuse.fault = None
        result = consume(queue, langfuse, settings, result.numbers)
    assert all(message.is_acknowledged for message in queue.messages)
    check_stored(row, result, {id for id in result.numbers if not refused(id)})


@given(
    st.lists(st.sampled_from([row.name for row in ROWS]), max_size=40),
    st.sampled_from(["auto", "ingestion", "otlp"]),
    st.sampled_from(["2.95.0", "3.120.0", "4.16.0"]),
    st.sampled_from([1, 3, 10]),
    st.integers(1, 12),
    st.integers(0, 2**32),
)
def test_any_sequence_of_faults(
    names: list[str], protocol: str, version: str, flush_at: int, calls: int, seed: int
):
    """Each upload meets the fault of the next row, and after the last one none."""
    langfuse = FaultyLangfuse(version, fault=faults_in_turn(names), seed=seed)
    with new_isolate():
        result = deliver(langfuse, settings_for(protocol, flush_at), calls)
        check_random_faults(langfuse, result)
