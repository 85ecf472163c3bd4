"""Uploads of batches of observations to one Langfuse project.

**Items.** An observation is encoded as one or more items: an ingestion event for the trace and one
for the observation, or one OTLP span. Langfuse accepts or refuses each item separately. An
observation is stored as soon as all of its items are acknowledged.

**Uploads.** `Exporter.export` sends a batch within one request's `waitUntil`. It encodes all
observations, groups their items by the size that the protocol allows, and uploads group by group.
The protocol's module reads each response as an `UploadResult`: an outcome for the whole upload or
for each item. What follows depends on the outcome:

- STORED: the item is acknowledged.
- RETRYABLE: the item is sent again after a pause, as the same bytes under the same ids. Langfuse
  stores by id, so that a lost response never doubles an observation.
- MALFORMED or TOO_LARGE for several items: the upload is split into halves, which are sent
  immediately, until the item that causes it is alone.
- MALFORMED for one item: its alternative is sent immediately, if it has one.
- TOO_LARGE for one item: its input and output are truncated, and it is sent again immediately.
- UNSUPPORTED_PROTOCOL: all observations that are not settled are encoded again in the other
  protocol and sent immediately.
- Otherwise: the observation is settled, as MISCONFIGURED where neither protocol is supported.

An observation is "settled" when this isolate is not to upload it again. When the deadline or the
limit of uploads ends the export, the remaining observations are RETRYABLE and not settled.

**Leases.** A batch may contain observations of other requests, and the platform may end any request
without notice. An observation therefore has a lease, owned by the export that is sending it. A new
export takes over the leases of its batch. The previous owner then stops sending those observations,
but a success that it still receives counts. `lease_ends_at` is when the owner's current step
(health check, upload, pause, hand-over to the queue) ends at the latest. While `is_leased` is true,
a request leaves its observations to the owner; afterwards it exports them itself.

**Protocol.** With `LANGFUSE_PROTOCOL = "auto"`, one export requests the server's version. Each
response can correct the choice. All exports of the isolate to this project share it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core import strict_json
from core.limits import (
    ENVELOPE_BYTES,
    FIRST_UPLOAD_BACKOFF_SECONDS,
    HEALTH_CHECK_INTERVAL_SECONDS,
    HEALTH_POLL_SECONDS,
    HEALTH_TIMEOUT_SECONDS,
    LEASE_GRACE_SECONDS,
    MAX_UPLOAD_BACKOFF_SECONDS,
    MAX_UPLOAD_RETRIES_PER_SECOND,
    MAX_UPLOADS_PER_REQUEST,
    MIN_UPLOADED_FIELD_BYTES,
)
from core.observation import Observation
from core.platform import IsolatePlatform
from core.types import Destination, HttpResponse, NetworkError
from core.version import NAME, VERSION
from export import ingestion, otlp
from export.batch import BatchItem, group_by_size
from export.upload_results import Outcome, UploadResult
from redaction.logs import describe_error
from redaction.truncation import truncate_observation
from settings.load import Settings

HEALTH_PATH = "/api/public/health"

# The modules by their names in `LANGFUSE_PROTOCOL`. Each has the members that `ingestion` has:
# PATH, HEADERS, MAX_BYTES, encode, request_body and read_response.
PROTOCOLS: Mapping[str, Any] = {"ingestion": ingestion, "otlp": otlp}

# From version 4 on, Langfuse accepts traces only by OTLP, according to its migration guide.
OTLP_SINCE_MAJOR = 4


@dataclass(eq=False)
class PendingObservation:
    """An observation that waits for its delivery, with the state of the delivery.

    `outcome` is that of its last upload, RETRYABLE before the first; `reason` explains it, for the
    log. `upload_count` is the number of uploads that contained it. `retry_after` is the pause in
    seconds that the server required, None where it required none. `is_settled` is set where this
    isolate is not to upload it again: after a final outcome, in the queue, or dropped.
    `lease_owner` is the export that sends it, or sent it last; None before the first.
    """

    observation: Observation
    outcome: Outcome = Outcome.RETRYABLE
    reason: str = ""
    upload_count: int = 0
    retry_after: float | None = None
    is_settled: bool = False
    lease_owner: "_BatchExport | None" = None

    def is_leased(self, now: float) -> bool:
        """Whether an export is still sending it at `now` (seconds since the epoch): it has an
        owner, and the owner's current step is not overdue by more than a grace period."""
        return (
            self.lease_owner is not None
            and now < self.lease_owner.lease_ends_at + LEASE_GRACE_SECONDS
        )

    def settle(self, outcome: Outcome, reason: str = "") -> None:
        """Record the final outcome, after which this isolate does not upload it again."""
        self.outcome, self.reason, self.is_settled = outcome, reason, True


@dataclass
class Exporter:
    """The uploads of this isolate to one Langfuse project. All of its state is safe to lose.

    `protocol` is the one that the server supports, None while that is unknown. `last_result` is the
    reason or the outcome of the last upload, and `last_result_at` its time. `health_check_ends_at`
    is when the running health check times out, 0 while none is running. `next_health_check_at` is
    when another one is allowed. `active_exports` is the number of batches that are being sent.
    Times are seconds since the epoch.
    """

    destination: Destination
    settings: Settings
    protocol: str | None = None
    last_result: str | None = None
    last_result_at: float | None = None
    health_check_ends_at: float = 0.0
    next_health_check_at: float = 0.0
    active_exports: int = 0

    async def export(
        self, batch: Sequence[PendingObservation], deadline: float, platform: IsolatePlatform
    ) -> list[PendingObservation]:
        """Upload a batch until each observation is settled (not to be uploaded again) or taken over
        by another export, or until `deadline` (seconds since the epoch) or the limit of uploads.

        Returns the observations that were not taken over. Unsettled ones among them are RETRYABLE.
        """
        self.active_exports += 1
        try:
            return await _BatchExport(self, batch, deadline, platform).run()
        finally:
            self.active_exports -= 1

    async def select_protocol(self, deadline: float, platform: IsolatePlatform) -> str:
        """Return "ingestion" or "otlp": the configured protocol, else the one that the server is
        known to support, else the one for its version; "ingestion" where that is not known.

        One export of the isolate requests the version from the health page, unless that may last
        beyond `deadline` (seconds since the epoch). The others wait for its result.
        https://api.reference.langfuse.com/#tag/health
        """
        if self.settings.protocol != "auto":
            return self.settings.protocol
        check_ends_at, now = self.health_check_ends_at, platform.now()
        timeout = min(HEALTH_TIMEOUT_SECONDS, self.settings.upload_timeout_seconds / 2)
        if self.protocol is None and now >= self.next_health_check_at and now + timeout < deadline:
            self.health_check_ends_at, self.next_health_check_at = (
                now + timeout,
                now + HEALTH_CHECK_INTERVAL_SECONDS,
            )
            url = self.destination.base_url + HEALTH_PATH
            try:
                response = await platform.http("GET", url, {}, b"", timeout)
                self.protocol = self.protocol or _protocol_of_server(response)
            except NetworkError as error:
                self.last_result = f"Langfuse could not be reached: {error}"
            self.health_check_ends_at = 0.0
        # The platform ends a request that awaits another request's promise, so the others poll.
        pause = HEALTH_POLL_SECONDS
        while self.protocol is None and platform.now() < check_ends_at == self.health_check_ends_at:
            await platform.sleep(pause)
            pause *= 2
        return self.protocol or "ingestion"

    def headers(self, protocol: str) -> dict[str, str]:
        """The HTTP headers of an upload by this protocol, Langfuse's credential included."""
        return {
            "authorization": f"Basic {self.destination.credential}",
            "x-langfuse-public-key": self.destination.public_key,
            "x-langfuse-sdk-name": NAME,
            "x-langfuse-sdk-version": VERSION,
            **PROTOCOLS[protocol].HEADERS,
        }


def backoff_seconds(retry: int, random: float, active_exports: int = 1) -> float:
    """Seconds to wait before a retry: exponential backoff with full jitter.

    `retry` is 0 for the first one, `random` is from 0 to 1. With many active exports the pauses are
    longer, so that the retries of all of them stay within the isolate's limit per second.
    """
    longest = min(MAX_UPLOAD_BACKOFF_SECONDS, FIRST_UPLOAD_BACKOFF_SECONDS * 2**retry)
    return random * max(longest, 2 * active_exports / MAX_UPLOAD_RETRIES_PER_SECOND)


def last_attempt_seconds(settings: Settings) -> float:
    """How many seconds before its deadline an export begins its last upload, at the latest."""
    return min(settings.upload_timeout_seconds, settings.retry_seconds / 5)


def _protocol_of_server(response: HttpResponse) -> str | None:
    """The protocol for a server with this response to the health check: "otlp" from Langfuse v4 on,
    else "ingestion". None where the server is overloaded or down."""
    if response.status in (408, 429) or response.status >= 500:
        return None
    try:
        major = int(strict_json.parse(response.text)["version"].split(".")[0])
    except (ValueError, TypeError, KeyError, AttributeError):
        major = 0  # old servers have no such page
    return "otlp" if major >= OTLP_SINCE_MAJOR else "ingestion"


# An item of a batch, with the observation that it encodes.
PendingItem = tuple[PendingObservation, BatchItem]


@dataclass
class _BatchExport:
    """One batch while it is being sent: the state of one call of `Exporter.export`."""

    exporter: Exporter
    batch: Sequence[PendingObservation]
    deadline: float
    platform: IsolatePlatform
    protocol: str = ""
    upload_count: int = 0
    # When the current step ends at the latest, in seconds since the epoch.
    lease_ends_at: float = 0.0
    retry_after: float | None = None
    unsupported_protocols: set[str] = field(default_factory=set)
    # Groups of items to send now, the next one last; items to send again after a pause; and the ids
    # of each observation's items that the server has not acknowledged.
    ready: list[list[PendingItem]] = field(default_factory=list)
    retryable: list[PendingItem] = field(default_factory=list)
    unacknowledged: dict[PendingObservation, set[str]] = field(default_factory=dict)

    async def run(self) -> list[PendingObservation]:
        try:
            await self._run()
            return [pending for pending in self.batch if pending.lease_owner is self]
        finally:
            # Each observation refers to its `lease_owner`. A reference cycle would keep them, and
            # all that the request holds, in memory until the next garbage collection.
            self.batch, self.ready, self.retryable, self.unacknowledged = (), [], [], {}

    async def _run(self) -> None:
        for pending in self.batch:
            pending.lease_owner = self
        self.lease_ends_at = self.platform.now() + HEALTH_TIMEOUT_SECONDS
        self.protocol = await self.exporter.select_protocol(self.deadline, self.platform)
        self._encode_batch()
        retry = 0
        while await self._send_ready() and await self._wait_before_retry(retry):
            retry += 1
            self.ready, self.retryable, self.retry_after = self._group(self.retryable), [], None

    def _holds_lease(self, pending: PendingObservation) -> bool:
        return pending.lease_owner is self and not pending.is_settled

    def _encode_batch(self) -> None:
        """Encode the observations that have no result yet into the items to send next, in the
        current protocol. Earlier items are dropped. One that cannot be encoded is MALFORMED."""
        entries: list[PendingItem] = []
        for pending in filter(self._holds_lease, self.batch):
            try:
                encoded = PROTOCOLS[self.protocol].encode(pending.observation)
            except Exception as error:  # the rest of the batch must still be sent
                pending.settle(Outcome.MALFORMED, f"it cannot be written: {describe_error(error)}")
                continue
            entries += [(pending, item) for item in encoded]
        self.unacknowledged = {}
        for pending, item in entries:
            self.unacknowledged.setdefault(pending, set()).add(item.id)
        self.ready, self.retryable = self._group(entries), []

    def _group(self, entries: Sequence[PendingItem]) -> list[list[PendingItem]]:
        limit = PROTOCOLS[self.protocol].MAX_BYTES - ENVELOPE_BYTES
        return group_by_size(entries, lambda entry: entry[1].size_bytes + 1, limit)

    async def _send_ready(self) -> bool:
        """Upload all groups in `ready`. After the deadline or the last allowed upload, they are
        moved to `retryable` instead. Returns whether `retryable` has items."""
        while self.ready:
            entries = [entry for entry in self.ready.pop() if self._holds_lease(entry[0])]
            if not entries:
                continue
            if self.upload_count == MAX_UPLOADS_PER_REQUEST or self.platform.now() >= self.deadline:
                self.retryable += entries
                for pending, _ in entries:
                    pending.reason = pending.reason or "there was no time to send it"
                continue
            result = await self._upload([item for _, item in entries])
            self._apply_result(result, [entry for entry in entries if not entry[0].is_settled])
        return bool(self.retryable)

    async def _upload(self, items: Sequence[BatchItem]) -> UploadResult:
        exporter, platform = self.exporter, self.platform
        protocol = PROTOCOLS[self.protocol]
        timeout = min(exporter.settings.upload_timeout_seconds, self.deadline - platform.now())
        url = exporter.destination.base_url + protocol.PATH
        headers = exporter.headers(self.protocol)
        self.upload_count += 1
        self.lease_ends_at = platform.now() + timeout
        try:
            response = await platform.http(
                "POST", url, headers, protocol.request_body(items), timeout
            )
            result = protocol.read_response(response, items, platform.now())
        except NetworkError as error:
            result = UploadResult(Outcome.RETRYABLE, f"Langfuse could not be reached: {error}")
        exporter.last_result, exporter.last_result_at = (
            result.reason or result.outcome.value,
            platform.now(),
        )
        return result

    async def _wait_before_retry(self, retry: int) -> bool:
        """Pause before a retry, and return True. `retry` is 0 for the first one. Returns False,
        without a pause, where no time or no upload is left for it."""
        now, retry_after = self.platform.now(), self.retry_after or 0.0
        left = self.deadline - last_attempt_seconds(self.exporter.settings) - now
        if self.upload_count == MAX_UPLOADS_PER_REQUEST or left <= 0 or left < retry_after:
            return False
        wait = min(
            max(
                retry_after,
                backoff_seconds(retry, self.platform.random(), self.exporter.active_exports),
            ),
            left,
        )
        self.lease_ends_at = now + wait
        await self.platform.sleep(wait)
        return True

    def _apply_result(self, result: UploadResult, entries: list[PendingItem]) -> None:
        for pending in dict.fromkeys(pending for pending, _ in entries):
            pending.upload_count += 1
        if result.outcome is Outcome.UNSUPPORTED_PROTOCOL:
            self._change_protocol(result.reason, entries)
        elif result.outcome in (Outcome.MALFORMED, Outcome.TOO_LARGE) and len(entries) > 1:
            middle = len(entries) // 2
            self.ready += [entries[middle:], entries[:middle]]
        else:
            if result.outcome is Outcome.STORED:
                self.exporter.protocol = self.exporter.protocol or self.protocol
            for pending, item in entries:
                self._apply_item_result(pending, item, result.item_results.get(item.id, result))

    def _apply_item_result(
        self, pending: PendingObservation, item: BatchItem, result: UploadResult
    ) -> None:
        if result.outcome is Outcome.STORED:
            self.unacknowledged[pending].discard(item.id)
            # Also after the lease was lost: the new owner then need not send it again.
            if not self.unacknowledged[pending]:
                pending.settle(Outcome.STORED)
        elif not self._holds_lease(pending):
            return  # the new owner sends it again and decides what becomes of it
        elif result.outcome is Outcome.RETRYABLE:
            self.retryable.append((pending, item))
            pending.reason, pending.retry_after = result.reason, result.retry_after
            if result.retry_after is not None:
                self.retry_after = max(result.retry_after, self.retry_after or 0.0)
        elif result.outcome is Outcome.MALFORMED and item.alternative:
            self.unacknowledged[pending] ^= {item.id, item.alternative.id}
            self.ready.append([(pending, item.alternative)])
        elif result.outcome is Outcome.TOO_LARGE and (
            smaller := self._truncate_item(pending, item)
        ):
            self.ready.append([(pending, smaller)])
        else:
            pending.settle(result.outcome, result.reason)

    def _truncate_item(self, pending: PendingObservation, item: BatchItem) -> BatchItem | None:
        """Truncate an observation's input and output to a quarter of the size of `item`, which the
        server refused as too large. Returns the smaller item of the same id, None if there is
        none."""
        limit = item.size_bytes // 4
        if limit < MIN_UPLOADED_FIELD_BYTES:
            return None
        pending.observation = truncate_observation(pending.observation, limit)
        for encoded in PROTOCOLS[self.protocol].encode(pending.observation):
            for smaller in (encoded, encoded.alternative):
                if smaller and smaller.id == item.id and smaller.size_bytes < item.size_bytes:
                    return smaller
        return None

    def _change_protocol(self, reason: str, entries: list[PendingItem]) -> None:
        """Encode the batch again in the other protocol. Where that is not allowed or not supported
        either, settle the observations of `entries` as MISCONFIGURED, for `reason`."""
        self.unsupported_protocols.add(self.protocol)
        others = PROTOCOLS.keys() - self.unsupported_protocols
        if self.exporter.settings.protocol == "auto" and others:
            self.exporter.protocol = self.protocol = others.pop()
            self._encode_batch()
            return
        # The next export checks the version again: the server may be in the middle of an update.
        self.exporter.protocol = None
        tried = " and ".join(sorted(self.unsupported_protocols))
        for pending, _ in entries:
            if self._holds_lease(pending):
                pending.settle(Outcome.MISCONFIGURED, f"not taken as {tried}: {reason}")
