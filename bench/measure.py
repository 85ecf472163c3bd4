"""The rounds: every subject gets every scenario's calls, in turns."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.figures import of_calls
from bench.scenarios import WARM_UP, Scenario
from bench.subjects import Load, Subject

Round = dict[str, float | None]


def warm_up(subjects: Iterable[Subject], load: Load, share: float) -> None:
    """Let every subject become as fast as it will be."""
    for subject in subjects:
        for scenario in WARM_UP:
            answer = load.run(subject, scenario, amount(scenario, share))
            subject.settle(answer["calls"])


def amount(scenario: Scenario, share: float) -> int:
    """How many calls of a scenario are made in a round, of which only this share is wanted."""
    return max(1, round(share * scenario.calls))


def one(subject: Subject, scenario: Scenario, load: Load, calls: int) -> Round:
    """One subject's figures in one round. The CPU is with all that it does after its replies."""
    before = subject.cpu()
    answer = load.run(subject, scenario, calls)
    dropped = subject.settle(answer["calls"])
    after = subject.cpu()
    used = None if before is None or after is None else after - before
    return {**of_calls(answer, used, bool(scenario.chunks)), "traces_dropped": dropped}


def rounds(
    scenarios: Sequence[Scenario],
    subjects: Sequence[Subject],
    load: Load,
    count: int,
    share: float,
    say: Callable[[str], None],
) -> dict[str, dict[str, list[Round]]]:
    """Out: figures by scenario, subject and round. Who is first changes from round to round, and
    `say` is told what is going on."""
    found: dict[str, dict[str, list[Round]]] = {
        scenario.label: {subject.name: [] for subject in subjects} for scenario in scenarios
    }
    for number in range(count):
        say(f"round {number + 1} of {count}")
        first = number % len(subjects)
        for scenario in scenarios:
            for subject in [*subjects[first:], *subjects[:first]]:
                figures = one(subject, scenario, load, amount(scenario, share))
                found[scenario.label][subject.name].append(figures)
    return found


def resident(subjects: Iterable[Subject]) -> dict[str, Any]:
    """The bytes each subject's process has in memory; None where it has none of its own."""
    return {subject.name: subject.resident() for subject in subjects}
