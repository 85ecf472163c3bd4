"""Uploads of batches of observations to one Langfuse project.

**Uploads.** `Exporter.export` sends a batch within one request's `waitUntil`. It encodes all
observations as items, groups these by the size that the protocol allows, and uploads group by
group. The result of an upload decides what is done with each of its items: the table of
`export.transitions` has an action for each state of an item and each outcome. Some actions add
items that are sent next, and one adds items that are sent again after a pause. When no items are
left, or at the deadline, or at the limit of uploads, the export ends. The observations that are not
settled then are RETRYABLE.

**Leases.** A batch may contain observations of other requests, and the platform may end any request
without notice. An observation therefore has a lease, that of the export that is sending it. A new
export takes over the observations of its batch. The previous owner then stops sending them, but a
success that it still receives counts. While `is_leased` is true, a request leaves its observations
to the owner; afterwards it exports them itself.

**Protocol.** With `LANGFUSE_PROTOCOL = "auto"`, one export requests the server's version. Each
response can correct the choice. All exports of the isolate to this project share it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core import strict_json
from core.json_values import as_object, as_text
from core.limits import (
    ENVELOPE_BYTES,
    FIRST_UPLOAD_BACKOFF_SECONDS,
    HEALTH_CHECK_INTERVAL_SECONDS,
    HEALTH_POLL_SECONDS,
    HEALTH_TIMEOUT_SECONDS,
    MAX_UPLOAD_BACKOFF_SECONDS,
    MAX_UPLOAD_RETRIES_PER_SECOND,
    MAX_UPLOADS_PER_REQUEST,
    MIN_UPLOADED_FIELD_BYTES,
)
from core.platform import IsolatePlatform
from core.types import Destination, HttpResponse, NetworkError
from core.version import NAME, VERSION
from export import ingestion, otlp
from export.batch import BatchItem, group_by_size
from export.export_protocol import ExportProtocol
from export.pending import Lease, PendingObservation
from export.transitions import TRANSITIONS, Action, State
from export.upload_results import Outcome, UploadResult
from redaction.logs import describe_error
from settings.load import Settings

HEALTH_PATH = "/api/public/health"

# The modules by their names in `LANGFUSE_PROTOCOL`.
PROTOCOLS: Mapping[str, ExportProtocol] = {"ingestion": ingestion, "otlp": otlp}

# From version 4 on, Langfuse accepts traces only by OTLP, according to its migration guide.
OTLP_SINCE_MAJOR = 4


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
        version = as_text(as_object(strict_json.parse(response.text)).get("version")) or ""
        major = int(version.partition(".")[0])
    except ValueError:
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
    lease: Lease = field(default_factory=Lease)
    # The longest pause that the server has required since the last one, in seconds.
    retry_after: float | None = None
    unsupported_protocols: set[str] = field(default_factory=set[str])
    # Groups of items to send now, the next one last; items to send again after a pause; and the ids
    # of each observation's items that the server has not acknowledged.
    ready: list[list[PendingItem]] = field(default_factory=list[list[PendingItem]])
    retryable: list[PendingItem] = field(default_factory=list[PendingItem])
    unacknowledged: dict[PendingObservation, set[str]] = field(
        default_factory=dict[PendingObservation, set[str]]
    )

    async def run(self) -> list[PendingObservation]:
        """Send the batch. Returns the observations that no other export has taken over."""
        self.lease.renew(self.platform.now() + HEALTH_TIMEOUT_SECONDS)
        for pending in self.batch:
            pending.take_over(self.lease)
        self.protocol = await self.exporter.select_protocol(self.deadline, self.platform)
        self._encode_batch()
        retry = 0
        while await self._send_ready() and await self._wait_before_retry(retry):
            retry += 1
            self.ready, self.retryable, self.retry_after = self._group(self.retryable), [], None
        return [pending for pending in self.batch if pending.lease is self.lease]

    def _encode_batch(self) -> None:
        """Encode the observations that have no result yet into the items to send next, in the
        current protocol. Earlier items are dropped. One that cannot be encoded is MALFORMED."""
        entries: list[PendingItem] = []
        for pending in self.batch:
            if not pending.is_leased_to(self.lease):
                continue
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
            entries = [entry for entry in self.ready.pop() if entry[0].is_leased_to(self.lease)]
            if not entries:
                continue
            if self.upload_count == MAX_UPLOADS_PER_REQUEST or self.platform.now() >= self.deadline:
                self.retryable += entries
                for pending, _ in entries:
                    if not pending.reason:
                        pending.postpone("there was no time to send it")
                continue
            result = await self._upload([item for _, item in entries])
            self._apply_result(result, entries)
        return bool(self.retryable)

    async def _upload(self, items: Sequence[BatchItem]) -> UploadResult:
        exporter, platform = self.exporter, self.platform
        protocol = PROTOCOLS[self.protocol]
        timeout = min(exporter.settings.upload_timeout_seconds, self.deadline - platform.now())
        url = exporter.destination.base_url + protocol.PATH
        headers = exporter.headers(self.protocol)
        self.upload_count += 1
        self.lease.renew(platform.now() + timeout)
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
        self.lease.renew(now + wait)
        await self.platform.sleep(wait)
        return True

    def _apply_result(self, result: UploadResult, entries: Sequence[PendingItem]) -> None:
        """Do with each item of an upload what its state and its outcome require."""
        for pending in dict.fromkeys(pending for pending, _ in entries):
            if not pending.is_settled:
                pending.count_upload()
        if result.outcome is Outcome.STORED:
            self.exporter.protocol = self.exporter.protocol or self.protocol
        # Those without a result of their own are acted on together, by state.
        others: dict[State, list[PendingItem]] = {}
        for pending, item in entries:
            if item_result := result.item_results.get(item.id):
                state = self._state(pending, is_alone=True)
                self._act(state, item_result, [(pending, item)])
        for pending, item in entries:
            if item.id not in result.item_results:
                state = self._state(pending, is_alone=len(entries) == 1)
                others.setdefault(state, []).append((pending, item))
        for state, group in others.items():
            self._act(state, result, group)

    def _state(self, pending: PendingObservation, *, is_alone: bool) -> State:
        """The state of an item of this observation. `is_alone` means that the item was the only one
        in its upload, or that the response names it."""
        if pending.is_settled:
            return State.SETTLED
        if not pending.is_leased_to(self.lease):
            return State.TAKEN_OVER
        return State.ALONE if is_alone else State.TOGETHER

    def _act(self, state: State, result: UploadResult, entries: list[PendingItem]) -> None:
        """Execute the first possible action for items that have the same state and result."""
        for action in TRANSITIONS[state][result.outcome]:
            if self._execute(action, result, entries):
                return

    def _execute(self, action: Action, result: UploadResult, entries: list[PendingItem]) -> bool:
        """Execute an action for these items. Returns False where it is impossible. REPLACE and
        TRUNCATE take one item."""
        match action:
            case Action.ACKNOWLEDGE:
                self._acknowledge(entries)
            case Action.RETRY:
                self._retry_later(result, entries)
            case Action.SPLIT:
                middle = len(entries) // 2
                self.ready += [entries[middle:], entries[:middle]]
            case Action.REPLACE:
                return self._replace_item(*entries)
            case Action.TRUNCATE:
                return self._truncate_item(*entries)
            case Action.CHANGE_PROTOCOL:
                return self._change_protocol()
            case Action.SETTLE:
                self._settle(result, entries)
            case Action.IGNORE:
                pass
        return True

    def _acknowledge(self, entries: Sequence[PendingItem]) -> None:
        for pending, item in entries:
            self.unacknowledged[pending].discard(item.id)
            if not self.unacknowledged[pending]:
                pending.settle(Outcome.STORED)

    def _retry_later(self, result: UploadResult, entries: Sequence[PendingItem]) -> None:
        self.retryable += entries
        for pending, _ in entries:
            pending.postpone(result.reason, result.retry_after)
        if result.retry_after is not None:
            self.retry_after = max(result.retry_after, self.retry_after or 0.0)

    def _replace_item(self, entry: PendingItem) -> bool:
        """Send an item's alternative next. Returns False where it has none."""
        pending, item = entry
        if item.alternative is None:
            return False
        self.unacknowledged[pending] ^= {item.id, item.alternative.id}
        self.ready.append([(pending, item.alternative)])
        return True

    def _truncate_item(self, entry: PendingItem) -> bool:
        """Truncate an observation's input and output to a quarter of the size of an item, and send
        the smaller item of the same id next. Returns False where there is none."""
        pending, item = entry
        limit = item.size_bytes // 4
        if limit < MIN_UPLOADED_FIELD_BYTES:
            return False
        pending.truncate(limit)
        for encoded in PROTOCOLS[self.protocol].encode(pending.observation):
            for smaller in (encoded, encoded.alternative):
                if smaller and smaller.id == item.id and smaller.size_bytes < item.size_bytes:
                    self.ready.append([(pending, smaller)])
                    return True
        return False

    def _change_protocol(self) -> bool:
        """Encode the batch again in the other protocol. Returns False where that is not allowed, or
        not supported either."""
        self.unsupported_protocols.add(self.protocol)
        others = PROTOCOLS.keys() - self.unsupported_protocols
        if self.exporter.settings.protocol == "auto" and others:
            self.exporter.protocol = self.protocol = others.pop()
            self._encode_batch()
            return True
        # The next export checks the version again: the server may be in the middle of an update.
        self.exporter.protocol = None
        return False

    def _settle(self, result: UploadResult, entries: Sequence[PendingItem]) -> None:
        outcome, reason = result.outcome, result.reason
        if outcome is Outcome.UNSUPPORTED_PROTOCOL:
            tried = " and ".join(sorted(self.unsupported_protocols))
            outcome, reason = Outcome.MISCONFIGURED, f"not taken as {tried}: {reason}"
        for pending, _ in entries:
            pending.settle(outcome, reason)
