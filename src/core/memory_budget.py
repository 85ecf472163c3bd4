"""How much tracing keeps in memory, over all requests of an isolate.

An isolate has 128 MB, the interpreter included, and replies have to pass whatever tracing does.
https://developers.cloudflare.com/workers/platform/limits/#memory
"""

from core.limits import CAPTURE_BUDGET_BYTES, DELIVERY_BUDGET_BYTES


class MemoryBudget:
    """A number of bytes that all requests share."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0


class Reservation:
    """What one request has of a ledger. As a context manager it gives all of that back at the end,
    after which there is no more for it."""

    def __init__(self, ledger: MemoryBudget) -> None:
        self._budget = ledger
        self._reserved_bytes = 0
        self._released = False

    def reserve(self, size: int) -> bool:
        """Count `size` bytes more as used, if there are so many left."""
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


# What is captured of requests and replies, until it has become an observation.
capture_budget = MemoryBudget(CAPTURE_BUDGET_BYTES)

# Observations that wait for their delivery. Each also stands, up to twice, in what is uploaded.
delivery_budget = MemoryBudget(DELIVERY_BUDGET_BYTES)
