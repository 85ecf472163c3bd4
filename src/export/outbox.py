"""Observations on their way out of the isolate: together or alone, at once or by way of the queue.

Every request delivers its own observations, inside its own `waitUntil`, in one upload where they
fit. With `LANGFUSE_FLUSH_AT` over 1 the observations of several requests go out together, by
whoever comes first; what that one does not deliver, a request sends itself while it has the time,
under the same ids.
"""

import sys
from collections.abc import Sequence
from typing import Any

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
from core.platform import IsolatePlatform, QueueMessage
from export.exporter import Exporter, PendingObservation, last_attempt_seconds
from export.queue_messages import read_message, send_to_queue
from export.upload_results import Outcome
from redaction.logs import log
from redaction.redactor import Redactor
from settings.load import Destination, Settings
from tracing import Observation


class Outbox:
    """What an isolate keeps of one destination, all of which is safe to lose."""

    def __init__(self, destination: Destination, settings: Settings) -> None:
        self.settings = settings
        self.exporter = Exporter(destination, settings)
        self.buffer: list[PendingObservation] = []
        self.counts = {"stored": 0, "queued": 0, "dropped": 0}
        self.suppress_until, self.suppressed_reason = 0.0, ""
        self.suppressed_counts: dict[str, int] = {}

    def status(self) -> dict[str, Any]:
        """What `/health` shows to who has a gateway key."""
        state = {
            "protocol": self.exporter.protocol,
            "last": self.exporter.last_result,  # in the server's words, which may quote a key
            "last_at": self.exporter.last_result_at,
            **self.counts,
        }
        return Redactor(self.settings.secrets).redact(state)

    async def deliver(self, own: Sequence[PendingObservation], platform: IsolatePlatform) -> None:
        """Deliver one request's observations, and with them what waits here already."""
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
        late = await self.export(batch, deadline, platform)
        if platform.queue is None:
            # The others' own requests go on with them, unless there is no time or no use.
            late = [p for p in late if p in own or p.is_settled or p.retry_after is not None]
        await self.queue_or_drop(late, platform)

    async def _wait_for_lease_owner(
        self, own: Sequence[PendingObservation], until: float, platform: IsolatePlatform
    ) -> None:
        """Leave observations to whoever took them, for as long as that one goes on."""
        pause = LEASE_POLL_SECONDS
        while (own := _unsettled(own)) and platform.now() < until:
            if not all(pending.is_leased(platform.now()) for pending in own):
                return
            await platform.sleep(min(pause, until - platform.now()))
            pause = min(2 * pause, MAX_LEASE_POLL_SECONDS)

    async def export(
        self, batch: Sequence[PendingObservation], deadline: float, platform: IsolatePlatform
    ) -> list[PendingObservation]:
        """Send a batch to Langfuse. Out: those that it did not take, but may another time."""
        ours = await self.exporter.export(batch, deadline, platform)
        stored = [p for p in ours if p.outcome is Outcome.STORED]
        self.counts["stored"] += len(stored)
        if self.settings.debug:
            self._report("trace_delivered", stored)
        if stored:
            self._report_suppressed()
        refused = [p for p in ours if p.outcome in (Outcome.MALFORMED, Outcome.TOO_LARGE)]
        self.counts["dropped"] += len(refused)
        self._report("trace_not_delivered", refused)
        return [p for p in ours if p.outcome in (Outcome.RETRYABLE, Outcome.MISCONFIGURED)]

    async def queue_or_drop(
        self, batch: Sequence[PendingObservation], platform: IsolatePlatform
    ) -> None:
        """Hand over to the queue what Langfuse does not take; drop what that does not take."""
        for pending in batch:
            if pending.lease_owner:
                pending.lease_owner.lease_ends_at = platform.now() + QUEUE_LEASE_SECONDS
        queued = await self._enqueue(batch, platform, truncate=True)
        self.report_undelivered("trace_queued", queued, platform)
        dropped = [pending for pending in batch if pending not in queued]
        for pending in dropped:
            pending.is_settled = True
        self.counts["dropped"] += len(dropped)
        self.report_undelivered("trace_not_delivered", dropped, platform)

    async def _enqueue(
        self, batch: Sequence[PendingObservation], platform: IsolatePlatform, *, truncate: bool
    ) -> list[PendingObservation]:
        if platform.queue is None:
            return []
        taken = await send_to_queue(batch, platform.queue, platform, truncate=truncate)
        self.counts["queued"] += len(taken)
        return taken

    def report_undelivered(
        self, event: str, batch: Sequence[PendingObservation], platform: IsolatePlatform
    ) -> None:
        """Log what Langfuse did not take; a wrong key or URL only now and then."""
        self._report(event, [p for p in batch if p.outcome is not Outcome.MISCONFIGURED])
        wrong = [p for p in batch if p.outcome is Outcome.MISCONFIGURED]
        if not wrong:
            return
        if platform.now() < self.suppress_until and wrong[0].reason == self.suppressed_reason:
            self.suppressed_counts[event] = self.suppressed_counts.get(event, 0) + len(wrong)
            return
        self._report_suppressed()
        self.suppress_until, self.suppressed_reason = (
            platform.now() + REPEATED_REPORT_SECONDS,
            wrong[0].reason,
        )
        self._report(event, wrong)

    def _report_suppressed(self) -> None:
        """Log how many were left out of the log since the last line about them."""
        for event, observations in self.suppressed_counts.items():
            log(event, reason=self.suppressed_reason, observations=observations)
        self.suppress_until, self.suppressed_counts = 0.0, {}

    def _report(self, event: str, batch: Sequence[PendingObservation]) -> None:
        """One line for all that have the same reason."""
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
    """This isolate's outbox for a destination."""
    if destination not in _outboxes:
        _outboxes[destination] = Outbox(destination, settings)
    return _outboxes[destination]


async def deliver_observations(
    observations: Sequence[Observation], settings: Settings, platform: IsolatePlatform
) -> None:
    """Deliver all observations of one request, if it has any; what is lost of them is logged. They
    have one destination."""
    if not observations:
        return
    (destination,) = {observation.destination for observation in observations}
    box = get_outbox(destination, settings)
    with Reservation(delivery_budget) as reservation:
        mine = await _reserve_memory(
            [PendingObservation(o) for o in observations], box, reservation, platform
        )
        # What was given up is not to stay in memory for as long as the others wait.
        del observations
        await box.deliver(mine, platform)


async def _reserve_memory(
    batch: Sequence[PendingObservation],
    box: Outbox,
    reservation: Reservation,
    platform: IsolatePlatform,
) -> list[PendingObservation]:
    """Those that may wait in memory for their delivery; the others are given up."""
    over = [
        pending for pending in batch if not reservation.reserve(_memory_bytes(pending.observation))
    ]
    for pending in over:
        pending.reason = "too much is waiting for Langfuse already"
    await box.queue_or_drop(over, platform)
    return _unsettled(batch)


async def deliver_queue_messages(
    messages: Sequence[QueueMessage], settings: Settings, platform: IsolatePlatform
) -> None:
    """Deliver what the queue brings, and let it bring again what Langfuse does not take now."""
    batches: dict[Destination, dict[PendingObservation, QueueMessage]] = {}
    down: set[Destination] = set()
    for message in messages:
        try:
            observation = await read_message(message.body, settings.destinations, platform)
        except ValueError as error:
            # Another version of this Worker may know better; else it ends with the dead letters.
            log("message_not_read", reason=str(error), attempts=message.attempts)
            message.retry(_redelivery_seconds(message, None))
            continue
        destination = observation.destination
        if destination in down:
            message.retry(_redelivery_seconds(message, None))
            continue
        batch = batches.setdefault(destination, {})
        batch[PendingObservation(observation)] = message
        # Unpacked they may be many times as large, and not all of them fit into memory.
        full = (
            sum(_memory_bytes(pending.observation) for pending in batch)
            > delivery_budget.limit_bytes / 2
        )
        if full and not await _deliver_message_batch(batches.pop(destination), settings, platform):
            down.add(destination)
    for batch in batches.values():
        await _deliver_message_batch(batch, settings, platform)


async def _deliver_message_batch(
    batch: dict[PendingObservation, QueueMessage], settings: Settings, platform: IsolatePlatform
) -> bool:
    """Deliver messages for one destination. Whether it takes any at the moment."""
    box = get_outbox(next(iter(batch)).observation.destination, settings)
    late = await box.export([*batch], platform.now() + settings.retry_seconds, platform)
    box.report_undelivered("trace_delayed", late, platform)
    for pending, message in batch.items():
        if pending in late:
            message.retry(_redelivery_seconds(message, pending.retry_after))
        else:
            message.ack()
    return not late


def _unsettled(batch: Sequence[PendingObservation]) -> list[PendingObservation]:
    return [pending for pending in batch if not pending.is_settled]


def _memory_bytes(observation: Observation) -> int:
    return (
        OBSERVATION_OVERHEAD_BYTES
        + sys.getsizeof(observation.input)
        + sys.getsizeof(observation.output)
    )


def _redelivery_seconds(message: QueueMessage, after: float | None) -> int:
    doubled = FIRST_REDELIVERY_SECONDS * 2 ** min(message.attempts - 1, 20)
    return min(max(doubled, round(after or 0.0)), MAX_REDELIVERY_SECONDS)
