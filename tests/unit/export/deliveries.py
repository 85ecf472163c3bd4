"""Deliveries of many requests to a `FaultyLangfuse`, and what became of them."""

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from unittest.mock import patch

from core.platform import MessageBody
from export import outbox
from export.outbox import deliver_observations, deliver_queue_messages, get_outbox
from local.inbox.store import Observation as StoredObservation
from settings.load import Settings
from tests.unit import virtual_time
from tests.unit.export.faulty_langfuse import FaultyLangfuse
from tests.unit.langfuse import DESTINATION, observation
from tracing import Observation

# https://developers.cloudflare.com/workers/runtime-apis/context/#waituntil
WAIT_UNTIL_SECONDS = 30.0


@dataclass(frozen=True)
class Result:
    """What became of a run. `numbers` are the calls by trace id, `observations` what Langfuse has
    by trace id, `stored_items` how often it stored each event or span, `lines` the log. `counts`
    are those of the isolate, `suppressed` the number of losses that it has counted and not logged
    yet."""

    numbers: Mapping[str, int]
    observations: Mapping[str, StoredObservation]
    stored_items: Mapping[str, int]
    lines: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    suppressed: int

    @property
    def reported(self) -> Counter[str]:
        """How often the log names each trace."""
        return Counter(id for line in self.lines for id in line.get("trace_ids", "").split())


KINDS: Sequence[dict[str, Any]] = (
    {"output": '"reply"'},
    {"output": '"reply"', "completion_started_at": 1795436099.5},
    {"output": None, "level": "ERROR", "status_message": "HTTP 500"},
    {"output": '{"count": 1}', "type": "embedding"},
    {"output": '"re"', "level": "WARNING", "metadata": {"ending": "client_left"}},
)


def observation_of(number: int, padding: int = 0) -> Observation:
    """The observation of a call, of one of five kinds, with an input of its own."""
    prompt = json.dumps(f"call {number} {'x' * padding}")
    return observation(number + 1, input=prompt, **KINDS[number % len(KINDS)])


@contextmanager
def new_isolate() -> Iterator[None]:
    """An isolate without deliveries before this one."""
    with patch.object(outbox, "_outboxes", {}):
        yield


def deliver(
    langfuse: FaultyLangfuse,
    settings: Settings,
    calls: int,
    *,
    within: float = 1.0,
    padding: int = 0,
) -> Result:
    """Deliver the observations of many requests that arrive within a number of seconds, until each
    request's job has ended. No job may outlast the platform's `waitUntil`."""
    observations = [observation_of(number, padding) for number in range(calls)]

    async def job(found: Observation) -> None:
        await asyncio.sleep(langfuse.generator.uniform(0, within))
        async with asyncio.timeout(WAIT_UNTIL_SECONDS):
            await deliver_observations([found], settings, langfuse)

    async def run() -> None:
        await asyncio.gather(*map(job, observations))

    log = _run(run())
    numbers = {found.trace.id: number for number, found in enumerate(observations)}
    return _read_result(langfuse, settings, numbers, log)


@dataclass
class Message:
    """A message of the queue. `retry_seconds` is the delay after which it is to come again."""

    body: MessageBody
    attempts: int = 1
    is_acknowledged: bool = False
    retry_seconds: int | None = None

    def ack(self) -> None:
        self.is_acknowledged = True

    def retry(self, seconds: int) -> None:
        self.retry_seconds = seconds


@dataclass
class Queue:
    """A queue that keeps its messages."""

    messages: list[Message] = field(default_factory=list)

    async def send(self, bodies: Sequence[MessageBody]) -> None:
        self.messages += map(Message, bodies)

    @property
    def trace_ids(self) -> list[str]:
        """The trace id of each message that is not packed."""
        return [json.loads(message.body)["trace"]["id"] for message in self.messages]


def consume(
    queue: Queue, langfuse: FaultyLangfuse, settings: Settings, numbers: Mapping[str, int]
) -> Result:
    """Deliver all messages of a queue in batches of 100."""

    async def run() -> None:
        for start in range(0, len(queue.messages), 100):
            batch = queue.messages[start : start + 100]
            await deliver_queue_messages(batch, settings, langfuse)

    log = _run(run())
    return _read_result(langfuse, settings, numbers, log)


def _run(job: Coroutine[Any, Any, None]) -> str:
    """Run a job in virtual time. Returns the log."""
    with redirect_stdout(StringIO()) as log:
        virtual_time.run(job)
    return log.getvalue()


def _read_result(
    langfuse: FaultyLangfuse, settings: Settings, numbers: Mapping[str, int], log: str
) -> Result:
    stored = langfuse.store.observations()
    by_trace = {found["trace_id"]: found for found in stored}
    assert len(by_trace) == len(stored)
    box = get_outbox(DESTINATION, settings)
    return Result(
        numbers=numbers,
        observations=by_trace,
        stored_items=langfuse.stored_items,
        lines=[json.loads(line) for line in log.splitlines()],
        counts=dict(box.counts),
        suppressed=sum(box.suppressed_counts.values()),
    )
