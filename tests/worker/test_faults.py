"""Every row of the table of faults, with many calls at once."""

from dataclasses import replace
from typing import Any

import pytest

from .fault_table import QUICK, ROWS, SCALED, Row, play
from .faults import World


def cases(quick: bool) -> list[Any]:
    """Grouped by gateway."""
    return [
        pytest.param(protocol, flush_at, row, id=f"{protocol}-{flush_at}-{row.name}")
        for protocol in ("ingestion", "otlp")
        for flush_at in (1, 10)
        for row in ROWS
        if protocol in row.protocols and flush_at in row.flush_at and (row.quick or not quick)
        # In the quick run each row is played once.
        if not quick or (flush_at == 10 and protocol == row.protocols[-1])
    ]


@pytest.mark.parametrize(("protocol", "flush_at", "row"), cases(quick=True))
def test_a_few_calls(world: World, protocol, flush_at, row: Row):
    play(world, world.kept(**QUICK.env(protocol, flush_at)), row, QUICK)


@pytest.mark.long
@pytest.mark.parametrize(("protocol", "flush_at", "row"), cases(quick=False))
def test_many_calls_at_once(world: World, protocol, flush_at, row: Row):
    pace = replace(SCALED, retry=SCALED.retry * row.patience)
    play(world, world.kept(**pace.env(protocol, flush_at)), row, pace)
