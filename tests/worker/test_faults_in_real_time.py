"""Rows of the table of faults in real time, with the settings that the Worker has by default."""

import pytest

from .fault_table import REAL, ROWS, play
from .faults import World


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
@pytest.mark.parametrize(
    "name",
    [
        "down for 5 s",
        "down for 5 s, with 502",
        "hangs for ever",
        "hangs once",
        "slow by 1 s",
        "slow by 10 s",
        "slow by 10 s once",
        "slow by 40 s",
        "503 twice",
        "503 for ever",
        "retry after 2 s",
        "retry after a date",
    ],
)
def test_in_real_time(world: World, protocol, name):
    (row,) = (row for row in ROWS if row.name == name)
    gateway = world.kept(LANGFUSE_PROTOCOL=protocol)
    play(world, gateway, row, REAL)
