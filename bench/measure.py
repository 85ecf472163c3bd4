"""The rounds of measurement, in each of which every subject gets the calls of every scenario."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.figures import of_calls
from bench.scenarios import WARM_UP, Scenario
from bench.subjects import Load, Subject

Round = dict[str, float | None]


def warm_up(subjects: Iterable[Subject], load: Load, share: float) -> None:
    """Make calls to each subject until it does not get faster any more. `share` is the share of
    them that is made."""
    for subject in subjects:
        for scenario in WARM_UP:
            result = load.run(subject, scenario, amount(scenario, share))
            subject.wait_for_traces(result["calls"])


def amount(scenario: Scenario, share: float) -> int:
    """The number of calls of a scenario in a round, of which only this share is made."""
    return max(1, round(share * scenario.calls))


def one(subject: Subject, scenario: Scenario, load: Load, calls: int) -> Round:
    """The figures of one subject in one round. Its CPU time includes the work after the replies."""
    before = subject.cpu()
    result = load.run(subject, scenario, calls)
    dropped = subject.wait_for_traces(result["calls"])
    after = subject.cpu()
    used = None if before is None or after is None else after - before
    return {**of_calls(result, used, bool(scenario.chunks)), "traces_dropped": dropped}


def rounds(
    scenarios: Sequence[Scenario],
    subjects: Sequence[Subject],
    load: Load,
    count: int,
    share: float,
    progress: Callable[[str], None],
) -> dict[str, dict[str, list[Round]]]:
    """The figures by scenario, subject and round. `count` is the number of rounds.

    The first subject changes from round to round. `progress` gets messages for the console.
    """
    results: dict[str, dict[str, list[Round]]] = {
        scenario.label: {subject.name: [] for subject in subjects} for scenario in scenarios
    }
    for number in range(count):
        progress(f"round {number + 1} of {count}")
        first = number % len(subjects)
        for scenario in scenarios:
            for subject in [*subjects[first:], *subjects[:first]]:
                figures = one(subject, scenario, load, amount(scenario, share))
                results[scenario.label][subject.name].append(figures)
    return results


def resident(subjects: Iterable[Subject]) -> dict[str, Any]:
    """The resident memory of each subject's process in bytes, None where it has no process."""
    return {subject.name: subject.resident() for subject in subjects}
