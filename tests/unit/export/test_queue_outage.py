"""An outage of Langfuse that lasts longer than a delivery, with a queue, in virtual time and at the
default settings: every trace is stored once."""

import asyncio
import heapq
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO

import pytest

from core.limits import MAX_REDELIVERY_SECONDS
from core.platform import MessageBody
from export.outbox import deliver_observations, deliver_queue_messages
from tests.unit import virtual_time
from tests.unit.export.deliveries import Message, new_isolate, observation_of
from tests.unit.export.fault_table import settings_for
from tests.unit.export.faulty_langfuse import FaultyLangfuse, down_for, respond

# The consumer's settings in wrangler.toml.
MAX_BATCH_SIZE, MAX_BATCH_TIMEOUT_SECONDS, MAX_RETRIES = 100, 5, 20


@dataclass
class SimulatedQueue:
    """A queue that delivers its messages when they are due, in batches, as Cloudflare's does.

    `due` is a heap of messages with the time at which each is due, and a number that makes the
    entries comparable.
    """

    due: list[tuple[float, int, Message]] = field(default_factory=list)
    count: int = 0
    dead_letters: list[Message] = field(default_factory=list)

    async def send(self, bodies: Sequence[MessageBody]) -> None:
        for body in bodies:
            self.put(Message(body), MAX_BATCH_TIMEOUT_SECONDS)

    def put(self, message: Message, seconds: float) -> None:
        self.count += 1
        heapq.heappush(self.due, (virtual_time.now() + seconds, self.count, message))

    def next_batch(self) -> list[Message]:
        batch: list[Message] = []
        while self.due and self.due[0][0] <= virtual_time.now() and len(batch) < MAX_BATCH_SIZE:
            batch.append(heapq.heappop(self.due)[2])
        return batch

    def put_back(self, batch: Sequence[Message]) -> None:
        """Put the messages of a batch back that are to be delivered again."""
        for message in batch:
            if message.is_acknowledged:
                continue
            assert message.retry_seconds is not None
            again = Message(message.body, message.attempts + 1)
            if again.attempts > MAX_RETRIES + 1:
                self.dead_letters.append(again)
            else:
                self.put(again, message.retry_seconds)


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
@pytest.mark.parametrize("flush_at", [1, 10])
@pytest.mark.parametrize("minutes", [2, 60, pytest.param(300, marks=pytest.mark.long)])
def test_an_outage_loses_no_trace(protocol: str, flush_at: int, minutes: int):
    """A call every 10 seconds in the first two minutes."""
    queue = SimulatedQueue()
    down = down_for(60 * minutes, respond(503))
    langfuse = FaultyLangfuse(fault=down, queue=queue)
    settings = settings_for(protocol, flush_at)
    calls = 12

    async def produce(number: int) -> None:
        await asyncio.sleep(10 * number)
        await deliver_observations([observation_of(number)], settings, langfuse)

    async def consume() -> None:
        # After the outage, a message comes again after an hour at most.
        end = virtual_time.now() + 60 * minutes + 2 * MAX_REDELIVERY_SECONDS
        while len(langfuse.stored) < calls and virtual_time.now() < end:
            batch = queue.next_batch()
            await deliver_queue_messages(batch, settings, langfuse)
            queue.put_back(batch)
            await asyncio.sleep(1)

    async def run() -> None:
        await asyncio.gather(consume(), *map(produce, range(calls)))

    with new_isolate(), redirect_stdout(StringIO()) as log:
        virtual_time.run(run())
    assert queue.dead_letters == []
    found = langfuse.store.observations()
    assert len(found) == calls
    assert {each["received"] for each in found} == {1}
    assert "trace_queued" in log.getvalue()
    assert "trace_not_delivered" not in log.getvalue()
