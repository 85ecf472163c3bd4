"""Delivery of observations: batches of several requests, the queue, and the log of losses.

Each request delivers its own observations within its own `waitUntil`, in one upload where they fit.
With `LANGFUSE_FLUSH_AT` above 1 they first wait in a buffer. The request that fills the buffer, or
whose flush interval ends first, exports all that is in it. The other requests then poll until their
observations are settled. When a lease has ended (see `export.exporter`), or when its time runs out,
a request exports its observations itself, under the same ids.

What Langfuse does not accept in time goes to the queue, if one is bound, and is dropped otherwise.
"""

import sys
from collections.abc import Sequence

from core.limits import (
    FIRST_REDELIVERY_SECONDS,
    LEASE_POLL_SECONDS,
    MAX_LEASE_POLL_SECONDS,
    MAX_LOGGED_TRACE_IDS,
    MAX_REDELIVERY_SECONDS,
    OBSERVATION_OVERHEAD_BYTES,
    QUEUE_LEASE_SECONDS,
    REPEATED_REPORT_SECONDS,
)
from core.memory_budget import Reservation, delivery_budget
from core.observation import Observation
from core.platform import IsolatePlatform, QueueMessage
from core.strict_json import JsonObject
from core.types import Destination
from export.exporter import Exporter, last_attempt_seconds
from export.pending import PendingObservation
from export.queue_messages import read_message, send_to_queue
from export.upload_results import Outcome
from redaction.logs import log
from redaction.redactor import Redactor
from settings.load import Settings


class Outbox:
    """The deliveries of this isolate to one Langfuse project. All of its state is safe to lose.

    `buffer` has the observations that wait for a batch. `counts` has the numbers of observations
    that were stored, queued and dropped since the isolate started. Reports with `suppressed_reason`
    are left out of the log until `suppress_until`, in seconds since the epoch; `suppressed_counts`
    has their number by event.
    """

    def __init__(self, destination: Destination, settings: Settings) -> None:
        self.settings = settings
        self.exporter = Exporter(destination, settings)
        self.buffer: list[PendingObservation] = []
        self.counts = {"stored": 0, "queued": 0, "dropped": 0}
        self.suppress_until: float = 0.0
        self.suppressed_reason: str = ""
        self.suppressed_counts: dict[str, int] = {}

    def status(self) -> JsonObject:
        """The state of the delivery, without secrets, as `/health` returns it to a caller with a
        gateway key. `protocol` is None while it is unknown. `last` is the reason or outcome of the
        last upload, and `last_at` its time; both are None before the first. `stored`, `queued` and
        `dropped` are numbers of observations."""
        state: JsonObject = {
            "protocol": self.exporter.protocol,
            "last": self.exporter.last_result,  # may quote a key
            "last_at": self.exporter.last_result_at,
            **self.counts,
        }
        return Redactor(self.settings.secrets).redact(state)

    async def deliver(self, own: Sequence[PendingObservation], platform: IsolatePlatform) -> None:
        """Deliver one request's observations to Langfuse. What is not accepted in time goes to the
        queue or is dropped.

        Where the buffer has fewer than `flush_at` observations, first wait for the flush interval,
        and for another request that exports them meanwhile. Then export those that are not settled,
        together with all others in the buffer. With `LANGFUSE_DELIVERY = "queue"`, only what the
        queue does not accept is delivered in this way.
        """
        settings = self.settings
        deadline = platform.now() + settings.retry_seconds
        if settings.delivery == "queue":
            await self._enqueue(own, platform, truncate=False)
        if not (own := _unsettled(own)):
            return
        self.buffer += own
        if len(self.buffer) < settings.flush_at:
            await platform.sleep(settings.flush_interval_seconds)
            await self._wait_for_lease_owner(
                own, deadline - last_attempt_seconds(settings), platform
            )
        if not (own := _unsettled(own)):
            return
        batch = [*own, *(pending for pending in self.buffer if pending not in own)]
        self.buffer.clear()
        undelivered = await self.export(batch, deadline, platform)
        if platform.queue is None:
            # The other requests export theirs themselves, unless that is useless: a setting is
            # wrong, or Langfuse requires a longer pause than there is time.
            undelivered = [
                p for p in undelivered if p in own or p.is_settled or p.retry_after is not None
            ]
        await self.queue_or_drop(undelivered, platform)

    async def _wait_for_lease_owner(
        self, own: Sequence[PendingObservation], deadline: float, platform: IsolatePlatform
    ) -> None:
        """Wait while another request exports these observations: until all of them are settled, one
        of them is no longer leased to an export, or `deadline` (seconds since the epoch) is
        reached."""
        pause = LEASE_POLL_SECONDS
        while (own := _unsettled(own)) and platform.now() < deadline:
            if not all(pending.is_leased(platform.now()) for pending in own):
                return
            await platform.sleep(min(pause, deadline - platform.now()))
            pause = min(2 * pause, MAX_LEASE_POLL_SECONDS)

    async def export(
        self, batch: Sequence[PendingObservation], deadline: float, platform: IsolatePlatform
    ) -> list[PendingObservation]:
        """Send a batch to Langfuse until `deadline`, in seconds since the epoch; count and log the
        result.

        Returns the observations that Langfuse did not accept but may accept at another time: those
        with the outcome RETRYABLE or MISCONFIGURED.
        """
        owned = await self.exporter.export(batch, deadline, platform)
        stored = [p for p in owned if p.outcome is Outcome.STORED]
        self.counts["stored"] += len(stored)
        if self.settings.debug:
            self._report("trace_delivered", stored)
        if stored:
            self._report_suppressed()
        refused = [p for p in owned if p.outcome in (Outcome.MALFORMED, Outcome.TOO_LARGE)]
        self.counts["dropped"] += len(refused)
        self._report("trace_not_delivered", refused)
        return [p for p in owned if p.outcome in (Outcome.RETRYABLE, Outcome.MISCONFIGURED)]

    async def queue_or_drop(
        self, batch: Sequence[PendingObservation], platform: IsolatePlatform
    ) -> None:
        """Send observations that Langfuse did not accept to the queue, truncated if they are too
        large for a message. Drop those that the queue does not accept, or all of them where no
        queue is bound. Afterwards all are settled, and logged as `trace_queued` or
        `trace_not_delivered`."""
        for pending in batch:
            pending.renew_lease(platform.now() + QUEUE_LEASE_SECONDS)
        queued = await self._enqueue(batch, platform, truncate=True)
        self.report_undelivered("trace_queued", queued, platform)
        dropped = [pending for pending in batch if pending not in queued]
        for pending in dropped:
            pending.hand_over()
        self.counts["dropped"] += len(dropped)
        self.report_undelivered("trace_not_delivered", dropped, platform)

    async def _enqueue(
        self, batch: Sequence[PendingObservation], platform: IsolatePlatform, *, truncate: bool
    ) -> list[PendingObservation]:
        """Send observations to the queue and count them. Returns those that the queue accepted:
        none where no queue is bound. `truncate` allows observations that are too large for a
        message to be truncated."""
        if platform.queue is None:
            return []
        queued: list[PendingObservation] = []
        observations = [pending.observation for pending in batch]
        async for index, failure in send_to_queue(
            observations, platform.queue, platform, truncate=truncate
        ):
            if failure:
                batch[index].add_reason(failure)
            else:
                batch[index].hand_over()
                queued.append(batch[index])
        self.counts["queued"] += len(queued)
        return queued

    def report_undelivered(
        self, event: str, batch: Sequence[PendingObservation], platform: IsolatePlatform
    ) -> None:
        """Log under the name `event` that Langfuse did not accept these observations. The same
        wrong key or URL is logged once in `REPEATED_REPORT_SECONDS`; repetitions in this time are
        only counted."""
        self._report(event, [p for p in batch if p.outcome is not Outcome.MISCONFIGURED])
        misconfigured = [p for p in batch if p.outcome is Outcome.MISCONFIGURED]
        if not misconfigured:
            return
        if (
            platform.now() < self.suppress_until
            and misconfigured[0].reason == self.suppressed_reason
        ):
            self.suppressed_counts[event] = self.suppressed_counts.get(event, 0) + len(
                misconfigured
            )
            return
        self._report_suppressed()
        self.suppress_until, self.suppressed_reason = (
            platform.now() + REPEATED_REPORT_SECONDS,
            misconfigured[0].reason,
        )
        self._report(event, misconfigured)

    def _report_suppressed(self) -> None:
        """Log how many observations were left out of the log because their reason had been logged
        already, and stop leaving them out."""
        for event, observations in self.suppressed_counts.items():
            log(event, reason=self.suppressed_reason, observations=observations)
        self.suppress_until, self.suppressed_counts = 0.0, {}

    def _report(self, event: str, batch: Sequence[PendingObservation]) -> None:
        """Log one line named `event` for each reason among these observations, with the number of
        observations that have it and the ids of their traces."""
        by_reason: dict[str, list[PendingObservation]] = {}
        for pending in batch:
            by_reason.setdefault(pending.reason, []).append(pending)
        for reason, group in by_reason.items():
            log(
                event,
                reason=reason,
                tries=max(pending.upload_count for pending in group),
                observations=len(group),
                trace_ids=" ".join(
                    [*dict.fromkeys(p.observation.trace.id for p in group)][:MAX_LOGGED_TRACE_IDS]
                ),
            )


_outboxes: dict[Destination, Outbox] = {}


def get_outbox(destination: Destination, settings: Settings) -> Outbox:
    """This isolate's outbox for a Langfuse project, created on first use."""
    if destination not in _outboxes:
        _outboxes[destination] = Outbox(destination, settings)
    return _outboxes[destination]


async def deliver_observations(
    observations: Sequence[Observation], settings: Settings, platform: IsolatePlatform
) -> None:
    """Deliver all observations of one request to their Langfuse project; log those that are lost.
    Those over the memory budget go to the queue or are dropped at once.

    There may be none. Raises ValueError where they have several destinations.
    """
    if not observations:
        return
    (destination,) = {observation.destination for observation in observations}
    outbox = get_outbox(destination, settings)
    with Reservation(delivery_budget) as reservation:
        accepted = await _reserve_memory(
            [PendingObservation(o) for o in observations], outbox, reservation, platform
        )
        # The observations that were dropped must not stay in memory while the others wait.
        del observations
        await outbox.deliver(accepted, platform)


async def _reserve_memory(
    batch: Sequence[PendingObservation],
    outbox: Outbox,
    reservation: Reservation,
    platform: IsolatePlatform,
) -> list[PendingObservation]:
    """Reserve memory for each observation, and return those that fit into the memory budget. The
    others are queued or dropped."""
    now = platform.now()
    over_budget = [
        pending
        for pending in batch
        if not reservation.reserve(_memory_bytes(pending.observation), now)
    ]
    for pending in over_budget:
        pending.postpone("too much is waiting for Langfuse already")
    await outbox.queue_or_drop(over_budget, platform)
    return _unsettled(batch)


async def deliver_queue_messages(
    messages: Sequence[QueueMessage], settings: Settings, platform: IsolatePlatform
) -> None:
    """Deliver the observations in messages of the queue to Langfuse. A message is acknowledged when
    Langfuse has stored its observation or will never accept it; otherwise, and where it cannot be
    read, the queue delivers it again later."""
    batches: dict[Destination, dict[PendingObservation, QueueMessage]] = {}
    unavailable: set[Destination] = set()
    for message in messages:
        try:
            observation = await read_message(message.body, settings.destinations, platform)
        except ValueError as error:
            # Another version of this Worker may be able to read it. If none can, it ends as a dead
            # letter.
            log("message_not_read", reason=str(error), attempts=message.attempts)
            message.retry(_redelivery_seconds(message, None))
            continue
        destination = observation.destination
        if destination in unavailable:
            message.retry(_redelivery_seconds(message, None))
            continue
        batch = batches.setdefault(destination, {})
        batch[PendingObservation(observation)] = message
        # Unpacked, messages may be many times as large, so that not all of them fit into memory.
        full = (
            sum(_memory_bytes(pending.observation) for pending in batch)
            > delivery_budget.limit_bytes / 2
        )
        if full and not await _deliver_message_batch(batches.pop(destination), settings, platform):
            unavailable.add(destination)
    for batch in batches.values():
        await _deliver_message_batch(batch, settings, platform)


async def _deliver_message_batch(
    batch: dict[PendingObservation, QueueMessage], settings: Settings, platform: IsolatePlatform
) -> bool:
    """Deliver observations for one destination, each mapped to the message that contained it.
    Acknowledge these messages, or have the queue deliver them again. Returns False where some are
    delivered again."""
    outbox = get_outbox(next(iter(batch)).observation.destination, settings)
    undelivered = await outbox.export([*batch], platform.now() + settings.retry_seconds, platform)
    outbox.report_undelivered("trace_delayed", undelivered, platform)
    for pending, message in batch.items():
        if pending in undelivered:
            message.retry(_redelivery_seconds(message, pending.retry_after))
        else:
            message.ack()
    return not undelivered


def _unsettled(batch: Sequence[PendingObservation]) -> list[PendingObservation]:
    return [pending for pending in batch if not pending.is_settled]


def _memory_bytes(observation: Observation) -> int:
    """An estimate of an observation's size in memory, in bytes."""
    return (
        OBSERVATION_OVERHEAD_BYTES
        + sys.getsizeof(observation.input)
        + sys.getsizeof(observation.output)
    )


def _redelivery_seconds(message: QueueMessage, retry_after: float | None) -> int:
    """Seconds until the queue delivers a message again. They double with each delivery, and are at
    least `retry_after`, the pause that Langfuse required (None for none), but at most
    `MAX_REDELIVERY_SECONDS`."""
    doubled = FIRST_REDELIVERY_SECONDS * 2 ** min(message.attempts - 1, 20)
    return min(max(doubled, round(retry_after or 0.0)), MAX_REDELIVERY_SECONDS)
