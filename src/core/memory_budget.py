"""Budgets for the memory that tracing uses, over all requests of an isolate.

An isolate has 128 MB, the interpreter included, and clients must get their replies however much
tracing records.
https://developers.cloudflare.com/workers/platform/limits/#memory

Each request reserves what it holds, and releases it when its trace is delivered. The platform may
end a request without running its `finally` blocks, so an unused reservation expires after a time.
"""

from core.limits import (
    CAPTURE_BUDGET_BYTES,
    CAPTURE_RESERVATION_SECONDS,
    DELIVERY_BUDGET_BYTES,
    DELIVERY_RESERVATION_SECONDS,
)


class MemoryBudget:
    """A limit in bytes that all requests of an isolate share, and the part of it in use.

    `lifetime_seconds` is how long a reservation lasts after its last use. `used_bytes` is the sum
    of the reservations that have neither been released nor expired.
    """

    def __init__(self, limit_bytes: int, lifetime_seconds: float) -> None:
        self.limit_bytes = limit_bytes
        self.lifetime_seconds = lifetime_seconds
        self.used_bytes = 0
        self._expiry: dict[Reservation, float] = {}

    def renew(self, reservation: "Reservation", now: float) -> None:
        """Postpone the expiry of a reservation. One that has expired is counted again."""
        if reservation not in self._expiry:
            self.used_bytes += reservation.size_bytes
        self._expiry[reservation] = now + self.lifetime_seconds

    def can_reserve(self, size: int, now: float) -> bool:
        """Whether `size` more bytes can be reserved. Removes expired reservations if necessary."""
        if self.used_bytes + size > self.limit_bytes:
            for reservation, expires_at in [*self._expiry.items()]:
                if expires_at < now:
                    self.remove(reservation)
        return self.used_bytes + size <= self.limit_bytes

    def remove(self, reservation: "Reservation") -> None:
        """Release all bytes of a reservation."""
        if self._expiry.pop(reservation, None) is not None:
            self.used_bytes -= reservation.size_bytes


class Reservation:
    """The part of a memory budget that one request holds: `size_bytes`.

    It is a context manager: on exit all its bytes are released, and each later `reserve` fails.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._is_released = False
        self.size_bytes = 0

    def reserve(self, size: int, now: float) -> bool:
        """Reserve `size` more bytes. Return False, and reserve nothing, where the budget has fewer
        left or the reservation has been released.

        `now` is in seconds since the epoch.
        """
        if self._is_released:
            return False
        self._budget.renew(self, now)
        if not self._budget.can_reserve(size, now):
            return False
        self._budget.used_bytes += size
        self.size_bytes += size
        return True

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.remove(self)
        self._is_released = True


# For what is captured of requests and replies, until it has become observations.
capture_budget = MemoryBudget(CAPTURE_BUDGET_BYTES, CAPTURE_RESERVATION_SECONDS)

# For observations that wait for delivery. The body of an upload has up to two further copies of
# each.
delivery_budget = MemoryBudget(DELIVERY_BUDGET_BYTES, DELIVERY_RESERVATION_SECONDS)
