"""The exporter's table of states and outcomes: what each cell does, and that the docs have it."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest

from core.types import HttpResponse
from export.exporter import Exporter
from export.pending import PendingObservation
from export.transitions import TRANSITIONS, Action, State
from export.upload_results import Outcome
from tests.unit import virtual_time
from tests.unit.export.faulty_langfuse import (
    INGESTION_PATH,
    LATENCY,
    OTLP_PATH,
    Fault,
    FaultyLangfuse,
    Upload,
    accept,
    refuse_events,
    respond,
)
from tests.unit.langfuse import DESTINATION, SETTINGS, observation

# A response for each outcome of a whole upload.
RESPONSES: Mapping[Outcome, Fault] = {
    Outcome.STORED: accept,
    Outcome.RETRYABLE: respond(503, retry_after="2"),
    Outcome.MALFORMED: respond(400),
    Outcome.TOO_LARGE: respond(413),
    Outcome.UNSUPPORTED_PROTOCOL: respond(404),
    Outcome.MISCONFIGURED: respond(401),
}
# The statuses with which the response to an ingestion batch names one event.
EVENT_STATUSES = {Outcome.RETRYABLE: 503, Outcome.MALFORMED: 400}


@dataclass(frozen=True)
class Cell:
    """An action of the table. `is_possible` is False for the second action of a cell, which is that
    for where the first one is impossible."""

    state: State
    outcome: Outcome
    action: Action
    is_possible: bool

    def __str__(self) -> str:
        return f"{self.state}-{self.outcome.name.lower()}-{self.action}"


CELLS = [
    Cell(state, outcome, action, is_possible=number == 0)
    for state in State
    for outcome in Outcome
    for number, action in enumerate(TRANSITIONS[state][outcome])
]


@dataclass
class Run:
    """An export whose first upload has the response for a cell. All later ones are accepted.

    `uploads` are those that arrived until the export ended, with their times. `outcomes` and
    `reasons` are those of its observations then, None for one that was not settled, and `owned` the
    observations that the export returned.
    """

    langfuse: FaultyLangfuse
    exporter: Exporter
    batch: Sequence[PendingObservation]
    uploads: list[tuple[float, Upload]] = field(default_factory=list)
    outcomes: list[Outcome | None] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    owned: list[PendingObservation] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [upload.path for _, upload in self.uploads]

    @property
    def items(self) -> list[list[str]]:
        """The ids of the items of each upload."""
        return [
            [item.get("spanId") or item["id"] for item in upload.items]
            for _, upload in self.uploads
        ]

    @property
    def pauses(self) -> list[float]:
        """The seconds between one upload and the next."""
        times = [time for time, _ in self.uploads]
        return [after - before for before, after in pairwise(times)]


def run_cell(cell: Cell, response: Fault, batch: Sequence[PendingObservation], path: str) -> Run:
    """Export a batch whose first upload has this response.

    Where the cell's state is TAKEN_OVER or SETTLED, another export of the same observations begins
    during that upload. The response to it arrives later, or for SETTLED earlier.
    """
    protocol = "otlp" if path == OTLP_PATH else "ingestion"
    # A protocol that is configured cannot be changed.
    settings = SETTINGS if cell.is_possible else replace(SETTINGS, protocol=protocol)
    langfuse = FaultyLangfuse()
    run = Run(langfuse, Exporter(DESTINATION, settings, protocol=protocol), batch)
    has_rival = cell.state in (State.TAKEN_OVER, State.SETTLED)

    async def fault(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        run.uploads.append((langfuse.now(), upload))
        if len(run.uploads) > 1:
            await asyncio.sleep(2 if cell.state is State.TAKEN_OVER else 0)
            return langfuse.accept(upload)
        await asyncio.sleep(1 if has_rival else 0)
        return await response(upload, langfuse)

    async def export() -> list[PendingObservation]:
        return await run.exporter.export(batch, langfuse.now() + 25, langfuse)

    async def start() -> None:
        first = asyncio.create_task(export())
        await asyncio.sleep(0.5)
        rival = asyncio.create_task(export()) if has_rival else None
        run.owned = await first
        run.outcomes = [p.outcome if p.is_settled else None for p in batch]
        run.reasons = [pending.reason for pending in batch]
        if rival:
            uploads = len(run.uploads)
            await rival
            assert len(run.uploads) == uploads == 2
            assert {pending.outcome for pending in batch} == {Outcome.STORED}

    langfuse.fault = fault
    virtual_time.run(start())
    assert run.owned == ([] if has_rival else batch)
    return run


def pending_observations(count: int, **changes: object) -> list[PendingObservation]:
    return [PendingObservation(observation(number, **changes)) for number in range(1, count + 1)]


# What each action must have done.


def check_acknowledge(run: Run, cell: Cell) -> None:
    uploads = 2 if cell.state is State.TAKEN_OVER else 1
    assert len(run.uploads) == uploads
    assert set(run.outcomes) == {Outcome.STORED}


def check_retry(run: Run, cell: Cell) -> None:
    (_, first), (_, second) = run.uploads
    assert first.body == second.body
    assert run.pauses[0] >= 2
    assert set(run.outcomes) == {Outcome.STORED}


def check_immediate(run: Run) -> None:
    assert max(run.pauses) <= 2 * LATENCY[1]
    assert set(run.outcomes) == {Outcome.STORED}


def check_split(run: Run, cell: Cell) -> None:
    whole, first, second = run.items
    assert whole == first + second
    assert len(first) == len(second)
    check_immediate(run)


def check_replace(run: Run, cell: Cell) -> None:
    id = f"{1:016x}"
    assert run.items == [
        [f"{id}-trace-create", f"{id}-embedding-create"],
        [f"{id}-generation-create"],
    ]
    check_immediate(run)


def check_truncate(run: Run, cell: Cell) -> None:
    (_, first), (_, second) = run.uploads
    assert len(second.body) < len(first.body) / 2
    assert run.items[0] == run.items[1]
    (stored,) = run.langfuse.store.observations()
    assert "cut to" in str(stored["metadata"]["notes"])
    check_immediate(run)


def check_change_protocol(run: Run, cell: Cell) -> None:
    assert run.paths == [OTLP_PATH, INGESTION_PATH]
    assert run.exporter.protocol == "ingestion"
    check_immediate(run)


def check_settle(run: Run, cell: Cell) -> None:
    is_unsupported = cell.outcome is Outcome.UNSUPPORTED_PROTOCOL
    assert len(run.uploads) == 1
    assert set(run.outcomes) == {Outcome.MISCONFIGURED if is_unsupported else cell.outcome}
    assert all(run.reasons)


def check_ignore(run: Run, cell: Cell) -> None:
    assert len(run.uploads) == 2
    assert set(run.outcomes) == {Outcome.STORED if cell.state is State.SETTLED else None}
    assert set(run.reasons) == {""}


CHECKS: Mapping[Action, Callable[[Run, Cell], None]] = {
    Action.ACKNOWLEDGE: check_acknowledge,
    Action.RETRY: check_retry,
    Action.SPLIT: check_split,
    Action.REPLACE: check_replace,
    Action.TRUNCATE: check_truncate,
    Action.CHANGE_PROTOCOL: check_change_protocol,
    Action.SETTLE: check_settle,
    Action.IGNORE: check_ignore,
}


@pytest.mark.parametrize(
    "cell", [cell for cell in CELLS if cell.action is not Action.REPLACE], ids=str
)
def test_each_cell_for_the_result_of_an_upload(cell: Cell):
    """By OTLP, so that an item is an observation."""
    is_long = cell.outcome is Outcome.TOO_LARGE and cell.is_possible
    batch = pending_observations(
        2 if cell.state is State.TOGETHER else 1, input=f'"{"long " * 2000}"' if is_long else None
    )
    CHECKS[cell.action](run_cell(cell, RESPONSES[cell.outcome], batch, OTLP_PATH), cell)


@pytest.mark.parametrize(
    "cell",
    [cell for cell in CELLS if cell.state is not State.TOGETHER and cell.outcome in EVENT_STATUSES],
    ids=str,
)
def test_each_cell_for_the_result_of_an_event(cell: Cell):
    """The response names the event of the observation. That of the trace is stored."""
    has_alternative = cell.action is Action.REPLACE
    batch = pending_observations(1, type="embedding" if has_alternative else "generation")
    error = {"status": EVENT_STATUSES[cell.outcome], "message": "refused"}
    fault = refuse_events(lambda event, _: None if event["type"] == "trace-create" else error)()
    run = run_cell(cell, fault, batch, INGESTION_PATH)
    if cell.action is Action.RETRY:
        assert run.items == [[*run.items[0]], run.items[0][1:]]
        assert run.pauses[0] > 2 * LATENCY[0]
    else:
        CHECKS[cell.action](run, cell)


def test_every_cell_has_actions():
    assert set(TRANSITIONS) == set(State)
    assert all(set(TRANSITIONS[state]) == set(Outcome) for state in State)
    assert {cell.action for cell in CELLS} == set(Action)


def test_the_docs_have_the_same_table():
    def words(name: str) -> str:
        return name.lower().replace("_", " ")

    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |\n"

    table = row(["result", *map(words, State)]) + row(["---"] * 5).replace(" ", "")
    for outcome in Outcome:
        actions = (TRANSITIONS[state][outcome] for state in State)
        table += row([words(outcome.name), *(", else ".join(map(words, cell)) for cell in actions)])
    page = (Path(__file__).parents[3] / "docs" / "delivery.md").read_text()
    assert table in page
    section = page[page.index("### What follows from a result") : page.index("## Batches")]
    described = re.findall(r"(?m)^- \*(.*?)\*", section)
    assert described == [words(name) for name in (*State, *Action)]
