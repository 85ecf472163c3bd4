"""The books of what tracing keeps in memory."""

from core.memory_budget import MemoryBudget, Reservation


def test_a_ledger_is_balanced():
    ledger = MemoryBudget(10)
    hold = Reservation(ledger)
    with hold, Reservation(ledger) as other:
        assert hold.reserve(6)
        assert not other.reserve(5)
        assert other.reserve(4)
        assert ledger.used_bytes == 10
    assert ledger.used_bytes == 0
    # What still comes after a request has failed must not be counted for ever.
    assert not hold.reserve(1)
    assert ledger.used_bytes == 0
