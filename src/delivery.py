"""Observations on their way out of the isolate: together or alone, at once or by way of the queue.

Every request delivers its own observations, inside its own `waitUntil`, in one upload where they
fit. With `LANGFUSE_FLUSH_AT` over 1 the observations of several requests go out together, by
whoever comes first; what that one does not deliver, a request sends itself while it has the time,
under the same ids.
"""

import sys
from collections.abc import Sequence
from typing import Any, Protocol

import exporter
import memory
import queueing
from config import Destination, Settings
from exporter import Exporter, Pending
from logs import log
from redaction import Redactor
from tracing import Observation
from vocabulary import Fate

# How often a request looks whether another one has delivered its observations: ever less often.
POLL, LONGEST_POLL = 0.1, 1.6
# What an observation takes beside its content.
OVERHEAD = 8_000
# A wrong key or URL is reported once in so many seconds.
QUIET = 60.0
# A hand-over to the queue takes less than so many seconds.
HAND_OVER = 5.0
# So many trace ids stand in a line of the log.
NAMED = 20
# A message that was not delivered comes again after so many seconds, and then twice as many.
FIRST_DELAY, LONGEST_DELAY = 10, 3600


class Platform(exporter.Platform, queueing.Platform, Protocol):
    """What delivery asks of the runtime."""


class Message(Protocol):
    """A message that the queue delivers; `attempts` counts this time too."""

    @property
    def body(self) -> queueing.Body: ...
    @property
    def attempts(self) -> int: ...
    def ack(self) -> None: ...
    def retry(self, seconds: int) -> None: ...


class Outbox:
    """What an isolate keeps of one destination, all of which is safe to lose."""

    def __init__(self, destination: Destination, settings: Settings) -> None:
        self.settings = settings
        self.exporter = Exporter(destination, settings)
        self.buffer: list[Pending] = []
        self.counts = {"stored": 0, "queued": 0, "dropped": 0}
        self.quiet_until, self.reported = 0.0, ""
        self.unreported: dict[str, int] = {}

    def state(self) -> dict[str, Any]:
        """What `/health` shows to who has a gateway key."""
        state = {
            "protocol": self.exporter.protocol,
            "last": self.exporter.last,  # in the server's words, which may quote a key
            "last_at": self.exporter.last_at,
            **self.counts,
        }
        return Redactor(self.settings.secrets).clean(state)

    async def deliver(self, mine: Sequence[Pending], platform: Platform) -> None:
        """Deliver one request's observations, and with them what waits here already."""
        settings = self.settings
        deadline = platform.now() + settings.delivery_seconds
        if settings.delivery == "queue":
            await self._enqueue(mine, platform, cut=False)
        if not (mine := _unsettled(mine)):
            return
        self.buffer += mine
        if len(self.buffer) < settings.flush_at:
            await platform.sleep(settings.flush_interval)
            await self._watch(mine, deadline - exporter.last_attempt(settings), platform)
        if not (mine := _unsettled(mine)):
            return
        batch = [*mine, *(pending for pending in self.buffer if pending not in mine)]
        self.buffer.clear()
        late = await self.export(batch, deadline, platform)
        if platform.queue is None:
            # The others' own requests go on with them, unless there is no time or no use.
            late = [p for p in late if p in mine or p.settled or p.after is not None]
        await self.give_up(late, platform)

    async def _watch(self, mine: Sequence[Pending], until: float, platform: Platform) -> None:
        """Leave observations to whoever took them, for as long as that one goes on."""
        pause = POLL
        while (mine := _unsettled(mine)) and platform.now() < until:
            if not all(pending.is_held(platform.now()) for pending in mine):
                return
            await platform.sleep(min(pause, until - platform.now()))
            pause = min(2 * pause, LONGEST_POLL)

    async def export(
        self, batch: Sequence[Pending], deadline: float, platform: Platform
    ) -> list[Pending]:
        """Send a batch to Langfuse. Out: those that it did not take, but may another time."""
        ours = await self.exporter.export(batch, deadline, platform)
        stored = [p for p in ours if p.fate is Fate.STORED]
        self.counts["stored"] += len(stored)
        if self.settings.debug:
            self._report("trace_delivered", stored)
        if stored:
            self._break_silence()
        refused = [p for p in ours if p.fate in (Fate.MALFORMED, Fate.TOO_LARGE)]
        self.counts["dropped"] += len(refused)
        self._report("trace_not_delivered", refused)
        return [p for p in ours if p.fate in (Fate.LATER, Fate.MISCONFIGURED)]

    async def give_up(self, batch: Sequence[Pending], platform: Platform) -> None:
        """Hand over to the queue what Langfuse does not take; drop what that does not take."""
        for pending in batch:
            if pending.holder:
                pending.holder.busy_until = platform.now() + HAND_OVER
        queued = await self._enqueue(batch, platform, cut=True)
        self.report_late("trace_queued", queued, platform)
        dropped = [pending for pending in batch if pending not in queued]
        for pending in dropped:
            pending.settled = True
        self.counts["dropped"] += len(dropped)
        self.report_late("trace_not_delivered", dropped, platform)

    async def _enqueue(
        self, batch: Sequence[Pending], platform: Platform, *, cut: bool
    ) -> list[Pending]:
        if platform.queue is None:
            return []
        taken = await queueing.enqueue(batch, platform.queue, platform, cut=cut)
        self.counts["queued"] += len(taken)
        return taken

    def report_late(self, event: str, batch: Sequence[Pending], platform: Platform) -> None:
        """Log what Langfuse did not take; a wrong key or URL only now and then."""
        self._report(event, [p for p in batch if p.fate is not Fate.MISCONFIGURED])
        wrong = [p for p in batch if p.fate is Fate.MISCONFIGURED]
        if not wrong:
            return
        if platform.now() < self.quiet_until and wrong[0].reason == self.reported:
            self.unreported[event] = self.unreported.get(event, 0) + len(wrong)
            return
        self._break_silence()
        self.quiet_until, self.reported = platform.now() + QUIET, wrong[0].reason
        self._report(event, wrong)

    def _break_silence(self) -> None:
        """Log how many were left out of the log since the last line about them."""
        for event, observations in self.unreported.items():
            log(event, reason=self.reported, observations=observations)
        self.quiet_until, self.unreported = 0.0, {}

    def _report(self, event: str, batch: Sequence[Pending]) -> None:
        """One line for all that have the same reason."""
        by_reason: dict[str, list[Pending]] = {}
        for pending in batch:
            by_reason.setdefault(pending.reason, []).append(pending)
        for reason, group in by_reason.items():
            log(
                event,
                reason=reason,
                tries=max(pending.tries for pending in group),
                observations=len(group),
                trace_ids=" ".join([*dict.fromkeys(p.observation.trace.id for p in group)][:NAMED]),
            )


_outboxes: dict[Destination, Outbox] = {}


def outbox(destination: Destination, settings: Settings) -> Outbox:
    """This isolate's outbox for a destination."""
    if destination not in _outboxes:
        _outboxes[destination] = Outbox(destination, settings)
    return _outboxes[destination]


async def deliver(
    observations: Sequence[Observation], settings: Settings, platform: Platform
) -> None:
    """Deliver all observations of one request, if it has any; what is lost of them is logged. They
    have one destination."""
    if not observations:
        return
    (destination,) = {observation.destination for observation in observations}
    box = outbox(destination, settings)
    with memory.Hold(memory.waiting) as hold:
        mine = await _admitted([Pending(o) for o in observations], box, hold, platform)
        # What was given up is not to stay in memory for as long as the others wait.
        del observations
        await box.deliver(mine, platform)


async def _admitted(
    batch: Sequence[Pending], box: Outbox, hold: memory.Hold, platform: Platform
) -> list[Pending]:
    """Those that may wait in memory for their delivery; the others are given up."""
    over = [pending for pending in batch if not hold.take(_size(pending.observation))]
    for pending in over:
        pending.reason = "too much is waiting for Langfuse already"
    await box.give_up(over, platform)
    return _unsettled(batch)


async def deliver_messages(
    messages: Sequence[Message], settings: Settings, platform: Platform
) -> None:
    """Deliver what the queue brings, and let it bring again what Langfuse does not take now."""
    batches: dict[Destination, dict[Pending, Message]] = {}
    down: set[Destination] = set()
    for message in messages:
        try:
            observation = await queueing.unpack(message.body, settings.destinations, platform)
        except ValueError as error:
            # Another version of this Worker may know better; else it ends with the dead letters.
            log("message_not_read", reason=str(error), attempts=message.attempts)
            message.retry(_delay(message, None))
            continue
        destination = observation.destination
        if destination in down:
            message.retry(_delay(message, None))
            continue
        batch = batches.setdefault(destination, {})
        batch[Pending(observation)] = message
        # Unpacked they may be many times as large, and not all of them fit into memory.
        full = sum(_size(pending.observation) for pending in batch) > memory.waiting.limit / 2
        if full and not await _deliver_batch(batches.pop(destination), settings, platform):
            down.add(destination)
    for batch in batches.values():
        await _deliver_batch(batch, settings, platform)


async def _deliver_batch(
    batch: dict[Pending, Message], settings: Settings, platform: Platform
) -> bool:
    """Deliver messages for one destination. Whether it takes any at the moment."""
    box = outbox(next(iter(batch)).observation.destination, settings)
    late = await box.export([*batch], platform.now() + settings.delivery_seconds, platform)
    box.report_late("trace_delayed", late, platform)
    for pending, message in batch.items():
        if pending in late:
            message.retry(_delay(message, pending.after))
        else:
            message.ack()
    return not late


def _unsettled(batch: Sequence[Pending]) -> list[Pending]:
    return [pending for pending in batch if not pending.settled]


def _size(observation: Observation) -> int:
    return OVERHEAD + sys.getsizeof(observation.input) + sys.getsizeof(observation.output)


def _delay(message: Message, after: float | None) -> int:
    doubled = FIRST_DELAY * 2 ** min(message.attempts - 1, 20)
    return min(max(doubled, round(after or 0.0)), LONGEST_DELAY)
