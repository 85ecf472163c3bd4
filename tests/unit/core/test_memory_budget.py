"""Memory budgets: what requests reserve of them, release, and leave behind when they are ended."""

from core.memory_budget import MemoryBudget, Reservation


def test_reservations_share_a_budget_and_release_what_they_reserved():
    budget = MemoryBudget(10, lifetime_seconds=60)
    first = Reservation(budget)
    with first, Reservation(budget) as second:
        assert first.reserve(6, now=0)
        assert not second.reserve(5, now=0)
        assert second.reserve(4, now=0)
        assert budget.used_bytes == 10
    assert budget.used_bytes == 0


def test_a_released_reservation_reserves_nothing_more():
    budget = MemoryBudget(10, lifetime_seconds=60)
    with Reservation(budget) as reservation:
        pass
    assert not reservation.reserve(1, now=0)
    assert budget.used_bytes == 0


def test_a_reservation_that_is_never_released_expires():
    """The platform ends a job without running its `finally` blocks."""
    budget = MemoryBudget(10, lifetime_seconds=60)
    abandoned = Reservation(budget)
    assert abandoned.reserve(6, now=0)
    with Reservation(budget) as other:
        assert not other.reserve(5, now=60)
        assert other.reserve(5, now=61)
        assert budget.used_bytes == 5
    assert budget.used_bytes == 0
    del abandoned


def test_a_reservation_lives_as_long_as_it_is_used():
    budget = MemoryBudget(10, lifetime_seconds=60)
    stream, other = Reservation(budget), Reservation(budget)
    for now in range(0, 300, 50):
        assert stream.reserve(1, now)
    assert not other.reserve(5, now=300)
    assert other.reserve(4, now=300)


def test_an_expired_reservation_that_is_used_again_counts_in_full():
    """Its job was idle, not ended: a model may think for longer than a lifetime."""
    budget = MemoryBudget(10, lifetime_seconds=60)
    with Reservation(budget) as idle, Reservation(budget) as other:
        assert idle.reserve(6, now=0)
        assert other.reserve(8, now=100)
        assert not idle.reserve(1, now=101)
        assert budget.used_bytes == 14
    assert budget.used_bytes == 0
