"""Observations that wait for their delivery, and their leases."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from core.limits import LEASE_GRACE_SECONDS
from export.pending import Lease, PendingObservation
from tests.unit.langfuse import observation

EXPORT = Path(__file__).parents[3] / "src" / "export"


def assigned_attributes(source: str) -> Iterator[str]:
    """The names of attributes that a source sets, but for those of `self`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="self")):
                continue
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def test_no_other_module_sets_the_fields():
    own = {field.name for kind in (PendingObservation, Lease) for field in fields(kind)}
    for path in EXPORT.glob("*.py"):
        assert own.isdisjoint(assigned_attributes(path.read_text())), path
    assert [*assigned_attributes("self.a = b.c = 1; b.d.e += 1")] == ["c", "e"]


def test_a_lease_ends_after_a_grace_period():
    pending, first, second = PendingObservation(observation()), Lease(), Lease()
    pending.renew_lease(1000)
    assert not pending.is_leased(0)
    first.renew(1000)
    pending.take_over(first)
    assert pending.is_leased(1000 + LEASE_GRACE_SECONDS - 0.1)
    assert not pending.is_leased(1000 + LEASE_GRACE_SECONDS)
    pending.renew_lease(2000)
    assert pending.is_leased(2000)
    assert (pending.is_leased_to(first), pending.is_leased_to(second)) == (True, False)
    pending.take_over(second)
    assert (pending.is_leased_to(first), pending.is_leased_to(second)) == (False, True)
    assert not pending.is_leased(1000)
    pending.hand_over()
    assert not pending.is_leased_to(second)


def test_the_reasons_of_a_delivery_are_joined():
    pending = PendingObservation(observation())
    pending.add_reason("too large for the queue")
    assert pending.reason == "too large for the queue"
    pending.postpone("HTTP 503", 2.0)
    pending.add_reason("the queue did not take it")
    assert (pending.reason, pending.retry_after) == ("HTTP 503; the queue did not take it", 2.0)
