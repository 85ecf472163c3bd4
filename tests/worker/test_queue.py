"""Traces that go by way of the queue: miniflare's here, Cloudflare's where it is deployed."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiohttp import web

from .conftest import CHAT, PUBLIC_KEY, SCRIPTED, SECRET_KEY, Provider, Stage

pytestmark = pytest.mark.long

TRACES = {
    "queue": "traces",
    "max_batch_size": 100,
    "max_batch_timeout": 1,
    "max_retries": 20,
    "dead_letter_queue": "traces-dead",
}


async def _down(request):
    request.transport.abort()
    return web.Response()


def ask(stage: Stage, count: int = 1, text: str = "Hello there") -> set[str]:
    """So many calls at once; the ids of their traces."""
    body = {**CHAT, "messages": [{"role": "user", "content": text}]}

    def one(_: int) -> str:
        with stage.http() as client:
            response = client.post("/v1/chat/completions", json=body, headers=SCRIPTED)
        assert response.status_code == 200
        return response.headers["x-portkey-trace-id"]

    with ThreadPoolExecutor(20) as pool:
        return set(pool.map(one, range(count)))


@pytest.fixture
def late(stage_with) -> Stage:
    """A Worker that hands over soon."""
    return stage_with(queues={"TRACE_QUEUE": TRACES}, LANGFUSE_RETRY_SECONDS="1")


@pytest.fixture
def queued(stage_with) -> Stage:
    """A Worker that hands over everything at once."""
    return stage_with(queues={"TRACE_QUEUE": TRACES}, LANGFUSE_DELIVERY="queue")


def test_what_langfuse_does_not_take_comes_later(late: Stage):
    late.inbox.fault = _down
    traces = ask(late, 10)
    lines = late.wait_for_logs("trace_queued", 10)
    assert {line["trace_ids"] for line in lines} == traces
    assert late.observations(0) == []
    late.inbox.fault = None
    # The first attempt may have been made in the outage: the second comes ten seconds later.
    observations = late.observations(10, timeout=30)
    assert {o["trace_id"] for o in observations} == traces
    assert [o["received"] for o in observations] == [1] * 10
    assert not [line for line in late.logs if "trace_not_delivered" in line]


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_everything_may_go_by_the_queue(queued: Stage, version: str):
    queued.inbox.version = version
    traces = ask(queued, 20)
    observations = queued.observations(20)
    assert {o["trace_id"] for o in observations} == traces
    assert {o["input"][0]["content"] for o in observations} == {"Hello there"}
    # Together, not one by one.
    assert len([r for r in queued.inbox.requests if r.method == "POST"]) < 10


def test_the_queue_holds_no_key(stage_with, provider: Provider):
    """A message that nobody can deliver is seen whole, as a dead letter."""
    stage = stage_with(
        queues={"TRACE_QUEUE": {**TRACES, "max_retries": 0}}, LANGFUSE_DELIVERY="queue"
    )
    stage.inbox.fault = _down
    (trace_id,) = ask(stage)
    (letter,) = stage.wait_for_logs("dead_letter")
    message = json.loads(letter["text"])
    assert message["trace"]["id"] == trace_id
    assert message["destination"] == "default"
    for secret in (SECRET_KEY, PUBLIC_KEY, SCRIPTED["authorization"].split()[1]):
        assert secret not in letter["text"]
    (line,) = stage.wait_for_logs("trace_delayed")
    assert line["observations"] == 1


def test_a_large_one_goes_packed(queued: Stage):
    ask(queued, text="many words " * 50_000)
    observation = queued.observation()
    assert len(observation["input"][0]["content"]) == 550_000


@pytest.mark.long
def test_an_outage_of_two_minutes_loses_nothing(stage_with):
    """In real time, with the settings of a new deployment."""
    stage = stage_with(
        queues={"TRACE_QUEUE": {**TRACES, "max_batch_timeout": 5}},
        LANGFUSE_RETRY_SECONDS=None,
        LANGFUSE_TIMEOUT=None,
    )
    stage.inbox.fault = _down
    began = time.monotonic()
    traces = ask(stage, 20)
    stage.wait_for_logs("trace_queued", 20, timeout=60)
    back = asyncio.run_coroutine_threadsafe(
        asyncio.sleep(120 - (time.monotonic() - began)), stage.inbox_loop
    )
    while not back.done():
        traces |= ask(stage, 5)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(5), stage.inbox_loop).result()
    stage.inbox.fault = None
    observations = stage.observations(len(traces), timeout=300)
    assert {o["trace_id"] for o in observations} == traces
    assert {o["received"] for o in observations} == {1}
