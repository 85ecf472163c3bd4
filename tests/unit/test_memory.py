"""The books of what tracing keeps in memory."""

from memory import Hold, Ledger


def test_a_ledger_is_balanced():
    ledger = Ledger(10)
    hold = Hold(ledger)
    with hold, Hold(ledger) as other:
        assert hold.take(6)
        assert not other.take(5)
        assert other.take(4)
        assert ledger.used == 10
    assert ledger.used == 0
    # What still comes after a request has failed must not be counted for ever.
    assert not hold.take(1)
    assert ledger.used == 0
