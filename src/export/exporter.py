"""Batches on their way into one Langfuse project: which protocol, how often, and until when.

What each answer asks for is in the protocols' modules; here it is done. A part that is sent again
is the same bytes under the same ids, so that an answer that got lost never doubles an observation.
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
from core.platform import IsolatePlatform
from core.types import HttpResponse, NetworkError
from core.version import NAME, VERSION
from export import ingestion, otlp
from export.batch import BatchItem, group_by_size
from export.upload_results import Outcome, UploadResult
from redaction.logs import describe_error
from settings.load import Destination, Settings
from tracing import Observation, truncate_content

HEALTH_PATH = "/api/public/health"

PROTOCOLS: Mapping[str, Any] = {"ingestion": ingestion, "otlp": otlp}

# Of Langfuse's fourth version on, by its migration guide, spans are the one way in.
OTLP_SINCE_MAJOR = 4


@dataclass(eq=False)
class PendingObservation:
    """An observation that waits for its delivery.

    `fate` is what the last answer made of it and `reason` why, `tries` how often it was sent,
    `after` how many seconds the server wants to be left alone. `settled` is set where there is
    nothing left to try. `holder` is who sends it at the moment; whoever did so before lets it go.
    """

    observation: Observation
    outcome: Outcome = Outcome.RETRYABLE
    reason: str = ""
    upload_count: int = 0
    retry_after: float | None = None
    is_settled: bool = False
    lease_owner: "_BatchExport | None" = None

    def is_leased(self, now: float) -> bool:
        """Whether somebody goes on with it, whose request has not ended."""
        return (
            self.lease_owner is not None
            and now < self.lease_owner.lease_ends_at + LEASE_GRACE_SECONDS
        )

    def settle(self, fate: Outcome, reason: str = "") -> None:
        """This is what became of it."""
        self.outcome, self.reason, self.is_settled = fate, reason, True


@dataclass
class Exporter:
    """One Langfuse project as this isolate knows it, all of which is safe to lose.

    `protocol` is the one that the server is known to take. `last` is the outcome of the last
    attempt, and `last_at` its time. `running` counts the batches that are on their way.
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
        """Send a batch until each of its observations is settled or taken by another holder, or
        until `deadline`, in seconds since the epoch. Out: those that it did not lose to another
        one, and in them what became of them."""
        self.active_exports += 1
        try:
            return await _BatchExport(self, batch, deadline, platform).run()
        finally:
            self.active_exports -= 1

    async def select_protocol(self, deadline: float, platform: IsolatePlatform) -> str:
        """The protocol to try: the one that is configured or known, else by the server's version,
        for which one of this isolate's requests asks.

        https://api.reference.langfuse.com/#tag/health
        """
        if self.settings.protocol != "auto":
            return self.settings.protocol
        until, now = self.health_check_ends_at, platform.now()
        timeout = min(HEALTH_TIMEOUT_SECONDS, self.settings.upload_timeout_seconds / 2)
        if self.protocol is None and now >= self.next_health_check_at and now + timeout < deadline:
            self.health_check_ends_at, self.next_health_check_at = (
                now + timeout,
                now + HEALTH_CHECK_INTERVAL_SECONDS,
            )
            url = self.destination.base_url + HEALTH_PATH
            try:
                answer = await platform.http("GET", url, {}, b"", timeout)
                self.protocol = self.protocol or _protocol_of_server(answer)
            except NetworkError as error:
                self.last_result = f"Langfuse could not be reached: {error}"
            self.health_check_ends_at = 0.0
        # A promise belongs to the request that made it, so that another one can only look.
        pause = HEALTH_POLL_SECONDS
        while self.protocol is None and platform.now() < until == self.health_check_ends_at:
            await platform.sleep(pause)
            pause *= 2
        return self.protocol or "ingestion"

    def headers(self, protocol: str) -> dict[str, str]:
        """The headers of a batch."""
        return {
            "authorization": f"Basic {self.destination.credential}",
            "x-langfuse-public-key": self.destination.public_key,
            "x-langfuse-sdk-name": NAME,
            "x-langfuse-sdk-version": VERSION,
            **PROTOCOLS[protocol].HEADERS,
        }


def backoff_seconds(retry: int, random: float, active_exports: int = 1) -> float:
    """Seconds to wait before a retry, the first of which is 0, where a crowd of so many waits;
    `random` is from 0 to 1."""
    longest = min(MAX_UPLOAD_BACKOFF_SECONDS, FIRST_UPLOAD_BACKOFF_SECONDS * 2**retry)
    return random * max(longest, 2 * active_exports / MAX_UPLOAD_RETRIES_PER_SECOND)


def last_attempt_seconds(settings: Settings) -> float:
    """Seconds before a deadline in which the last attempt begins."""
    return min(settings.upload_timeout_seconds, settings.retry_seconds / 5)


def _protocol_of_server(answer: HttpResponse) -> str | None:
    """The protocol of the server that gave this answer for its health; None if it is not well."""
    if answer.status in (408, 429) or answer.status >= 500:
        return None
    try:
        major = int(strict_json.parse(answer.text)["version"].split(".")[0])
    except (ValueError, TypeError, KeyError, AttributeError):
        major = 0  # no such page, in a server older than the page
    return "otlp" if major >= OTLP_SINCE_MAJOR else "ingestion"


# A part of a batch, and whose it is.
PendingItem = tuple[PendingObservation, BatchItem]


@dataclass
class _BatchExport:
    """One batch while it is sent."""

    exporter: Exporter
    batch: Sequence[PendingObservation]
    deadline: float
    platform: IsolatePlatform
    protocol: str = ""
    upload_count: int = 0
    # The end of what it is doing.
    lease_ends_at: float = 0.0
    retry_after: float | None = None
    unsupported_protocols: set[str] = field(default_factory=set)
    # What is to be sent now, what after a pause, and what each observation still lacks.
    ready: list[list[PendingItem]] = field(default_factory=list)
    retryable: list[PendingItem] = field(default_factory=list)
    unacknowledged: dict[PendingObservation, set[str]] = field(default_factory=dict)

    async def run(self) -> list[PendingObservation]:
        try:
            await self._run()
            return [pending for pending in self.batch if pending.lease_owner is self]
        finally:
            # Each knows its holder. In a circle they, and the request, would stay for long.
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
        """Everything that is not settled, in the words of the protocol."""
        pieces: list[PendingItem] = []
        for pending in filter(self._holds_lease, self.batch):
            try:
                parts = PROTOCOLS[self.protocol].encode(pending.observation)
            except Exception as error:  # one that makes no sense must not take the others along
                pending.settle(Outcome.MALFORMED, f"it cannot be written: {describe_error(error)}")
                continue
            pieces += [(pending, part) for part in parts]
        self.unacknowledged = {}
        for pending, part in pieces:
            self.unacknowledged.setdefault(pending, set()).add(part.id)
        self.ready, self.retryable = self._group(pieces), []

    def _group(self, pieces: Sequence[PendingItem]) -> list[list[PendingItem]]:
        limit = PROTOCOLS[self.protocol].MAX_BYTES - ENVELOPE_BYTES
        return group_by_size(pieces, lambda piece: piece[1].size_bytes + 1, limit)

    async def _send_ready(self) -> bool:
        """Send what is to be sent now. Whether something of it is to be sent again later."""
        while self.ready:
            pieces = [piece for piece in self.ready.pop() if self._holds_lease(piece[0])]
            if not pieces:
                continue
            if self.upload_count == MAX_UPLOADS_PER_REQUEST or self.platform.now() >= self.deadline:
                self.retryable += pieces
                for pending, _ in pieces:
                    pending.reason = pending.reason or "there was no time to send it"
                continue
            verdict = await self._upload([part for _, part in pieces])
            self._apply_result(verdict, [piece for piece in pieces if not piece[0].is_settled])
        return bool(self.retryable)

    async def _upload(self, parts: Sequence[BatchItem]) -> UploadResult:
        exporter, platform = self.exporter, self.platform
        protocol = PROTOCOLS[self.protocol]
        timeout = min(exporter.settings.upload_timeout_seconds, self.deadline - platform.now())
        url = exporter.destination.base_url + protocol.PATH
        headers = exporter.headers(self.protocol)
        self.upload_count += 1
        self.lease_ends_at = platform.now() + timeout
        try:
            answer = await platform.http(
                "POST", url, headers, protocol.request_body(parts), timeout
            )
            verdict = protocol.read_response(answer, parts, platform.now())
        except NetworkError as error:
            verdict = UploadResult(Outcome.RETRYABLE, f"Langfuse could not be reached: {error}")
        exporter.last_result, exporter.last_result_at = (
            verdict.reason or verdict.outcome.value,
            platform.now(),
        )
        return verdict

    async def _wait_before_retry(self, retry: int) -> bool:
        """Wait before a retry. Whether there is time for one and its answer."""
        now, after = self.platform.now(), self.retry_after or 0.0
        left = self.deadline - last_attempt_seconds(self.exporter.settings) - now
        if self.upload_count == MAX_UPLOADS_PER_REQUEST or left <= 0 or left < after:
            return False
        wait = min(
            max(
                after, backoff_seconds(retry, self.platform.random(), self.exporter.active_exports)
            ),
            left,
        )
        self.lease_ends_at = now + wait
        await self.platform.sleep(wait)
        return True

    def _apply_result(self, verdict: UploadResult, pieces: list[PendingItem]) -> None:
        for pending in dict.fromkeys(pending for pending, _ in pieces):
            pending.upload_count += 1
        if verdict.outcome is Outcome.UNSUPPORTED_PROTOCOL:
            self._change_protocol(verdict.reason, pieces)
        elif verdict.outcome in (Outcome.MALFORMED, Outcome.TOO_LARGE) and len(pieces) > 1:
            middle = len(pieces) // 2
            self.ready += [pieces[middle:], pieces[:middle]]
        else:
            if verdict.outcome is Outcome.STORED:
                self.exporter.protocol = self.exporter.protocol or self.protocol
            for pending, part in pieces:
                self._apply_item_result(pending, part, verdict.item_results.get(part.id, verdict))

    def _apply_item_result(
        self, pending: PendingObservation, part: BatchItem, verdict: UploadResult
    ) -> None:
        if verdict.outcome is Outcome.STORED:
            self.unacknowledged[pending].discard(part.id)
            # Whoever holds it now need not send it any more.
            if not self.unacknowledged[pending]:
                pending.settle(Outcome.STORED)
        elif not self._holds_lease(pending):
            return  # another one's to judge
        elif verdict.outcome is Outcome.RETRYABLE:
            self.retryable.append((pending, part))
            pending.reason, pending.retry_after = verdict.reason, verdict.retry_after
            if verdict.retry_after is not None:
                self.retry_after = max(verdict.retry_after, self.retry_after or 0.0)
        elif verdict.outcome is Outcome.MALFORMED and part.alternative:
            self.unacknowledged[pending] ^= {part.id, part.alternative.id}
            self.ready.append([(pending, part.alternative)])
        elif verdict.outcome is Outcome.TOO_LARGE and (
            smaller := self._truncate_item(pending, part)
        ):
            self.ready.append([(pending, smaller)])
        else:
            pending.settle(verdict.outcome, verdict.reason)

    def _truncate_item(self, pending: PendingObservation, part: BatchItem) -> BatchItem | None:
        """The part with less content, or None where that makes it no smaller."""
        limit = part.size_bytes // 4
        if limit < MIN_UPLOADED_FIELD_BYTES:
            return None
        pending.observation = truncate_content(pending.observation, limit)
        for found in PROTOCOLS[self.protocol].encode(pending.observation):
            for smaller in (found, found.alternative):
                if smaller and smaller.id == part.id and smaller.size_bytes < part.size_bytes:
                    return smaller
        return None

    def _change_protocol(self, reason: str, pieces: list[PendingItem]) -> None:
        self.unsupported_protocols.add(self.protocol)
        others = PROTOCOLS.keys() - self.unsupported_protocols
        if self.exporter.settings.protocol == "auto" and others:
            self.exporter.protocol = self.protocol = others.pop()
            self._encode_batch()
            return
        # Ask again the next time: it may have been a server that was just being exchanged.
        self.exporter.protocol = None
        asked = " and ".join(sorted(self.unsupported_protocols))
        for pending, _ in pieces:
            if self._holds_lease(pending):
                pending.settle(Outcome.MISCONFIGURED, f"not taken as {asked}: {reason}")
