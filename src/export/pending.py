"""An observation that waits for its delivery, and its lease.

Several requests share them: those that export an observation, and the one that waits for it. Only
the methods here change their fields.
"""

from dataclasses import dataclass

from core.limits import LEASE_GRACE_SECONDS
from core.observation import Observation
from export.upload_results import Outcome
from redaction.truncation import truncate_observation


@dataclass(eq=False)
class Lease:
    """The right of one export to send observations.

    `ends_at` is when the export's current step (health check, upload, pause, hand-over to the
    queue) ends at the latest, in seconds since the epoch. The platform may end any request without
    notice, so that a lease which is overdue has ended with its request.
    """

    ends_at: float = 0.0

    def renew(self, ends_at: float) -> None:
        """Begin a step that ends at `ends_at` at the latest."""
        self.ends_at = ends_at


@dataclass(eq=False)
class PendingObservation:
    """An observation that waits for its delivery, with the state of the delivery.

    `outcome` is that of its last upload, RETRYABLE before the first; `reason` explains it, for the
    log. `upload_count` is the number of uploads that contained it. `retry_after` is the pause in
    seconds that the server required, None where it required none. `is_settled` is set where this
    isolate is not to upload it again: after a final outcome, in the queue, or dropped. `lease` is
    that of the export that sends it, or sent it last; None before the first.
    """

    observation: Observation
    reason: str = ""
    outcome: Outcome = Outcome.RETRYABLE
    upload_count: int = 0
    retry_after: float | None = None
    is_settled: bool = False
    lease: Lease | None = None

    def is_leased(self, now: float) -> bool:
        """Whether an export is still sending it at `now` (seconds since the epoch): it has a lease
        that is not overdue by more than a grace period."""
        return self.lease is not None and now < self.lease.ends_at + LEASE_GRACE_SECONDS

    def is_leased_to(self, lease: Lease) -> bool:
        """Whether the export with this lease is to send it: it is not settled, and no other export
        has taken it over."""
        return self.lease is lease and not self.is_settled

    def take_over(self, lease: Lease) -> None:
        """Give it to the export with this lease."""
        self.lease = lease

    def renew_lease(self, ends_at: float) -> None:
        """Begin a step of its delivery that ends at `ends_at` (seconds since the epoch) at the
        latest. Without effect before the first export."""
        if self.lease:
            self.lease.renew(ends_at)

    def count_upload(self) -> None:
        """Record one more upload that contained it."""
        self.upload_count += 1

    def postpone(self, reason: str, retry_after: float | None = None) -> None:
        """Record why it is to be uploaded again, and the pause in seconds that the server requires,
        None where it requires none."""
        self.reason, self.retry_after = reason, retry_after

    def truncate(self, limit: int) -> None:
        """Cut its input and output to `limit` bytes each."""
        self.observation = truncate_observation(self.observation, limit)

    def add_reason(self, reason: str) -> None:
        """Record a further reason why it is not delivered."""
        self.reason = f"{self.reason}; {reason}" if self.reason else reason

    def settle(self, outcome: Outcome, reason: str = "") -> None:
        """Record the final outcome, after which this isolate does not upload it again."""
        self.outcome, self.reason, self.is_settled = outcome, reason, True

    def hand_over(self) -> None:
        """Record that this isolate does not upload it again, although Langfuse may still accept it:
        it is in the queue, or dropped. The outcome is that of the last upload."""
        self.is_settled = True
