"""The memory of the isolate with more replies at once than fit into it, while Langfuse does not
respond."""

import asyncio
import threading
import time
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from local.runtime.inspector import Memory

from .conftest import CHAT, SCRIPTED, TIMEOUT_SECONDS, Provider, Stage
from .test_streaming import END, begin, delta

pytestmark = pytest.mark.long

MEGABYTE = 1024 * 1024
# https://developers.cloudflare.com/workers/platform/limits/#memory
LIMIT = 128 * MEGABYTE
# Of a megabyte each. They would not fit into the isolate, of which some 45 MB are used at start.
REPLIES = 100
STREAMED = {**CHAT, "stream": True}
SHAPES = {"long": delta("word " * 200), "short": delta("word ") * 50, "wide": delta("✓😀 " * 200)}


async def read_at_once(url: str, count: int) -> list[bytes]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, headers=SCRIPTED) as session:

        async def read() -> bytes:
            async with session.post("/v1/chat/completions", json=STREAMED) as response:
                return await response.read()

        return await asyncio.gather(*(read() for _ in range(count)))


def stream_at_once(provider: Provider, piece: bytes, count: int) -> bytes:
    """Let the provider stream `count` replies of a megabyte. Each waits in the middle until all
    have come so far. Returns a reply."""
    pieces = MEGABYTE // len(piece) // 2
    waiting = []

    async def script(request: web.Request) -> web.StreamResponse:
        response = await begin(request)
        for _ in range(pieces):
            await response.write(piece)
        waiting.append(request)
        if len(waiting) == count:
            provider.gate("all wait").set()
        await provider.gate("all wait").wait()
        for _ in range(pieces):
            await response.write(piece)
        await response.write(END)
        return response

    provider.script = script
    return piece * 2 * pieces + END


class Measurements(threading.Thread):
    """Measures the memory until `peak` is called. V8 collects its garbage when memory is short,
    which it is not on this machine; `memory` collects it before each measurement."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(daemon=True)
        self.stage = stage
        self.done = threading.Event()
        self.found: list[Memory] = []
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.1):
            self.found.append(self.stage.gateway.memory())

    def peak(self) -> Memory:
        self.done.set()
        self.join()
        return max(self.found, key=lambda memory: memory.total)


class Hanging:
    """A Langfuse that does not respond until `end` is called, and then accepts every upload."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.ended = asyncio.Event()
        stage.inbox.fault = self.hang

    async def hang(self, request: web.Request) -> None:
        await self.ended.wait()

    def end(self) -> None:
        self.stage.inbox.fault = None
        self.stage.inbox_loop.call_soon_threadsafe(self.ended.set)


def lost(stage: Stage) -> set[str]:
    """The ids of the traces that the log reports as lost."""
    lines = stage.wait_for_logs("trace_not_delivered", 0)
    return {id for line in lines for id in line["trace_ids"].split()}


def wait_until_uploading(stage: Stage, count: int) -> None:
    """Wait until each of `count` traces is reported as lost, or its upload has begun."""

    def uploads() -> int:
        return sum(request.method == "POST" for request in stage.inbox.requests)

    deadline = time.monotonic() + TIMEOUT_SECONDS
    while uploads() + len(lost(stage)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_until_delivered(stage: Stage, count: int) -> None:
    """Wait until each of `count` traces is stored or reported as lost, and none is both."""

    def stored() -> set[str]:
        return {str(o["trace_id"]) for o in stage.observations_now()}

    deadline = time.monotonic() + TIMEOUT_SECONDS
    while len(lost(stage) | stored()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(lost(stage)) + len(stored()) == count


@pytest.mark.parametrize(
    ("shape", "protocol"),
    [("long", "ingestion"), ("short", "otlp"), ("wide", "ingestion"), ("wide", "otlp")],
)
def test_a_langfuse_that_hangs_does_not_use_up_the_memory(
    stage_with, provider: Provider, shape: str, protocol: str
):
    stage: Stage = stage_with(LANGFUSE_PROTOCOL=protocol, inspect=True)
    reply = stream_at_once(provider, SHAPES[shape], REPLIES)
    langfuse = Hanging(stage)
    measurements = Measurements(stage)
    assert set(asyncio.run(read_at_once(stage.url, REPLIES))) == {reply}
    wait_until_uploading(stage, REPLIES)
    assert measurements.peak().total < LIMIT
    langfuse.end()
    wait_until_delivered(stage, REPLIES)

    # All memory is free again: what fits into it is recorded completely.
    provider.gates.clear()
    stage.inbox.clear()
    reply = stream_at_once(provider, SHAPES[shape], 5)
    assert set(asyncio.run(read_at_once(stage.url, 5))) == {reply}
    for found in stage.observations(5):
        assert "notes" not in found["metadata"]


def test_the_body_of_a_request_is_released_when_its_observation_exists(stage_with):
    """An observation does not contain images."""
    stage: Stage = stage_with(LANGFUSE_PROTOCOL="ingestion", inspect=True)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    body: dict[str, Any] = {**CHAT, "messages": [{"role": "user", "content": [image]}]}
    langfuse = Hanging(stage)
    measurements = Measurements(stage)
    with stage.http() as client:
        for _ in range(40):
            client.post("/v1/chat/completions", json=body).raise_for_status()
    wait_until_uploading(stage, 40)
    assert measurements.peak().total < LIMIT
    langfuse.end()
    wait_until_delivered(stage, 40)
