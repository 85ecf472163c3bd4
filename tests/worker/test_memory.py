"""What the isolate has in memory when everything comes at once and Langfuse takes none of it."""

import asyncio
import threading
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from local.runtime.inspector import Memory

from .conftest import CHAT, SCRIPTED, Provider, Stage
from .test_streaming import END, begin, delta

MEGABYTE = 1024 * 1024
# https://developers.cloudflare.com/workers/platform/limits/#memory
LIMIT = 128 * MEGABYTE
REPLIES = 200
STREAMED = {**CHAT, "stream": True}


async def hang(request):
    await asyncio.Event().wait()


async def read_all(url: str, count: int) -> list[bytes]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, headers=SCRIPTED) as session:

        async def read() -> bytes:
            async with session.post("/v1/chat/completions", json=STREAMED) as response:
                return await response.read()

        return await asyncio.gather(*(read() for _ in range(count)))


def meeting(provider: Provider, piece: bytes, count: int) -> bytes:
    """Let the provider stream `count` replies of a megabyte, which all wait in the middle for each
    other. Out: a reply."""
    pieces = MEGABYTE // len(piece) // 2
    there = []

    async def script(request: web.Request) -> web.StreamResponse:
        response = await begin(request)
        for _ in range(pieces):
            await response.write(piece)
        there.append(request)
        if len(there) == count:
            provider.gate("all are there").set()
        await provider.gate("all are there").wait()
        for _ in range(pieces):
            await response.write(piece)
        await response.write(END)
        return response

    provider.script = script
    return piece * 2 * pieces + END


class Measurements(threading.Thread):
    """Measures until it is told to stop. V8 collects its garbage when memory gets short, which on
    this machine it is not; so that is done here, before each measurement."""

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


SHAPES = {"long": delta("word " * 200), "short": delta("word ") * 50, "wide": delta("✓😀 " * 200)}


pytestmark = pytest.mark.long
HANGING = {"LANGFUSE_TIMEOUT": "2", "LANGFUSE_RETRY_SECONDS": "4", "inspect": True}


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_langfuse_that_hangs_is_no_burden(stage_with, provider: Provider, protocol, shape):
    stage: Stage = stage_with(LANGFUSE_PROTOCOL=protocol, **HANGING)
    reply = meeting(provider, SHAPES[shape], REPLIES)
    stage.inbox.fault = hang
    measurements = Measurements(stage)
    assert set(asyncio.run(read_all(stage.url, REPLIES))) == {reply}
    lines = stage.wait_for_logs("trace_not_delivered", REPLIES, timeout=30)
    assert len({line["trace_ids"] for line in lines}) == len(lines) == REPLIES
    assert measurements.peak().total < LIMIT

    # Everything has been given back: as much as fits is recorded whole.
    stage.inbox.fault = None
    provider.gates.clear()
    reply = meeting(provider, SHAPES[shape], 5)
    assert set(asyncio.run(read_all(stage.url, 5))) == {reply}
    for found in stage.observations(5):
        assert "notes" not in found["metadata"]


def test_what_became_an_observation_is_let_go(stage_with):
    """Images, of which an observation holds only a mention, leave with their requests."""
    stage: Stage = stage_with(LANGFUSE_PROTOCOL="ingestion", **HANGING)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    body: dict[str, Any] = {**CHAT, "messages": [{"role": "user", "content": [image]}]}
    stage.inbox.fault = hang
    measurements = Measurements(stage)
    with stage.http() as client:
        for _ in range(40):
            client.post("/v1/chat/completions", json=body).raise_for_status()
    stage.wait_for_logs("trace_not_delivered", 40, timeout=30)
    assert measurements.peak().total < LIMIT
