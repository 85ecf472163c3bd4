"""Budgets for the memory that tracing may use, shared by all requests of an isolate.

An isolate has 128 MB, the interpreter included, and clients must get their replies however much
tracing records.
https://developers.cloudflare.com/workers/platform/limits/#memory

A request reserves bytes before it holds them, and releases them when it no longer needs them. The
platform may end a request without running its `finally` blocks, so a reservation expires when it
has not been used for a time.
"""

from core.limits import (
    CAPTURE_BUDGET_BYTES,
    CAPTURE_RESERVATION_SECONDS,
    DELIVERY_BUDGET_BYTES,
    DELIVERY_RESERVATION_SECONDS,
)


class MemoryBudget:
    """A limit for the bytes that all requests of an isolate may reserve together.

    Each request reserves through its own `Reservation`, which calls the methods of the budget.
    `used_bytes` is the sum of the sizes of all reservations that count. A reservation expires
    `lifetime_seconds` after its last use. It counts until it is released, or until it has expired
    and a further reservation would exceed `limit_bytes`.
    """

    def __init__(self, limit_bytes: int, lifetime_seconds: float) -> None:
        self.limit_bytes = limit_bytes
        self.lifetime_seconds = lifetime_seconds
        self.used_bytes = 0
        self._expiry: dict[Reservation, float] = {}

    def renew(self, reservation: "Reservation", now: float) -> None:
        """Let a reservation expire `lifetime_seconds` after `now`, in seconds since the epoch.

        One that was removed after its expiry counts again, even if that exceeds the limit, since
        its request still holds the bytes.
        """
        if reservation not in self._expiry:
            self.used_bytes += reservation.size_bytes
        self._expiry[reservation] = now + self.lifetime_seconds

    def can_reserve(self, size: int, now: float) -> bool:
        """Whether `size` more bytes are within the limit. If not, the reservations that have
        expired at `now` (seconds since the epoch) are removed first. Reserves nothing itself."""
        if self.used_bytes + size > self.limit_bytes:
            for reservation, expires_at in [*self._expiry.items()]:
                if expires_at < now:
                    self.remove(reservation)
        return self.used_bytes + size <= self.limit_bytes

    def remove(self, reservation: "Reservation") -> None:
        """Stop counting a reservation. No effect where it does not count."""
        if self._expiry.pop(reservation, None) is not None:
            self.used_bytes -= reservation.size_bytes


class Reservation:
    """The part of a memory budget that one request holds. `size_bytes` is its size, 0 at first.

    It is a context manager: on exit all its bytes are released to the budget for good, and each
    later `reserve` returns False.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._is_released = False
        self.size_bytes = 0

    def reserve(self, size: int, now: float) -> bool:
        """Reserve `size` more bytes and return True. Return False, without reserving any of them,
        where the budget has fewer left or this reservation has been released.

        Until the release, each call postpones the expiry of the whole reservation. `now` is in
        seconds since the epoch.
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


# For captured requests and replies, until they have become observations.
capture_budget = MemoryBudget(CAPTURE_BUDGET_BYTES, CAPTURE_RESERVATION_SECONDS)

# For observations that wait for delivery. The body of an upload contains up to two further copies
# of each.
delivery_budget = MemoryBudget(DELIVERY_BUDGET_BYTES, DELIVERY_RESERVATION_SECONDS)
