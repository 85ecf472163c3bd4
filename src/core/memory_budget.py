"""Budgets for the memory that tracing uses, over all requests of an isolate.

An isolate has 128 MB, the interpreter included, and clients must get their replies however much
tracing records.
https://developers.cloudflare.com/workers/platform/limits/#memory
"""

from core.limits import CAPTURE_BUDGET_BYTES, DELIVERY_BUDGET_BYTES


class MemoryBudget:
    """A limit in bytes that all requests of an isolate share, and the part of it in use."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0


class Reservation:
    """The part of a memory budget that one request holds.

    It is a context manager: on exit all its bytes are released, and each later `reserve` fails.
    """

    def __init__(self, ledger: MemoryBudget) -> None:
        self._budget = ledger
        self._reserved_bytes = 0
        self._released = False

    def reserve(self, size: int) -> bool:
        """Reserve `size` more bytes. Return False, and reserve nothing, where the budget has fewer
        left or the reservation has been released."""
        if self._released or self._budget.used_bytes + size > self._budget.limit_bytes:
            return False
        self._budget.used_bytes += size
        self._reserved_bytes += size
        return True

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.used_bytes -= self._reserved_bytes
        self._reserved_bytes, self._released = 0, True


# For what is captured of requests and replies, until it has become observations.
capture_budget = MemoryBudget(CAPTURE_BUDGET_BYTES)

# For observations that wait for delivery. The body of an upload has up to two further copies of
# each.
delivery_budget = MemoryBudget(DELIVERY_BUDGET_BYTES)
