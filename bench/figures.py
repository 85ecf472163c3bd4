"""The figures of the benchmark: those of each round, and their medians, differences and ratios.

Subjects are compared within a round, so that the load of the machine affects both alike.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

DIRECT, JS_FLOOR, FLOOR = "direct", "JavaScript floor", "Python floor"
UNTRACED, TRACED = "gateway, untraced", "gateway, traced"


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which this share of the values lies, from 0 to 1."""
    found = sorted(values)
    return found[min(int(share * len(found)), len(found) - 1)]


@dataclass(frozen=True)
class Quote:
    """A figure over several rounds: the median, the lowest and the highest value."""

    median: float
    low: float
    high: float


def quote(rounds: Sequence[float | None]) -> Quote | None:
    """The quote of a figure's values. None for no values, or where one of them is None."""
    found = [value for value in rounds if value is not None]
    if not found or len(found) < len(rounds):
        return None
    return Quote(statistics.median(found), min(found), max(found))


def of_calls(answer: dict[str, Any], cpu: float | None, streamed: bool) -> dict[str, float | None]:
    """The figures of one round, from the result of `load.mjs` and the CPU time in seconds, which is
    None where it is unknown."""
    figures: dict[str, float | None] = {
        f"{kind}_{name}_ms": percentile(answer[kind], share)
        for kind in ("first", "whole")
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
    gaps = answer["gaps"] if streamed else []
    return figures | {
        "gap_p99_ms": percentile(gaps, 0.99) if gaps else None,
        "requests_per_second": answer["calls"] / answer["seconds"],
        "cpu_ms": None if cpu is None else 1000 * cpu / answer["calls"],
    }


class Results:
    """The results of a run. `data` is the content of the JSON file.

    Its `calls` are the figures by scenario, subject and round. Its `worker` has the figures of the
    Worker itself, each with a list of repeated measurements.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def rounds(self, scenario: str, subject: str, figure: str) -> list[float | None]:
        """One figure in each round, empty where it was not measured."""
        rounds = self.data["calls"].get(scenario, {}).get(subject, [])
        return [figures[figure] for figures in rounds]

    def quote(self, scenario: str, subject: str, figure: str) -> Quote | None:
        """One figure over all rounds."""
        return quote(self.rounds(scenario, subject, figure))

    def minus(self, scenario: str, subject: str, figure: str, other: str) -> Quote | None:
        """The difference to another subject's figure in the same round."""
        return self._paired(scenario, subject, figure, other, lambda one, two: one - two)

    def over(self, scenario: str, subject: str, figure: str, other: str) -> Quote | None:
        """The ratio to another subject's figure in the same round."""
        return self._paired(scenario, subject, figure, other, lambda one, two: one / two)

    def worker(self, figure: str) -> Quote | None:
        """A figure of the Worker itself."""
        return quote(self.data["worker"].get(figure, []))

    def per_unit(
        self, small: str, large: str, subject: str, figure: str, units: float
    ) -> Quote | None:
        """The increase of a figure per unit, where `large` has `units` more units than `small`."""
        first, second = (self.rounds(name, subject, figure) for name in (small, large))
        pairs = zip(second, first, strict=False)
        return quote([None if a is None or b is None else (a - b) / units for a, b in pairs])

    def _paired(
        self,
        scenario: str,
        subject: str,
        figure: str,
        other: str,
        compare: Callable[[float, float], float],
    ) -> Quote | None:
        ours = self.rounds(scenario, subject, figure)
        theirs = self.rounds(scenario, other, figure)
        if len(ours) != len(theirs):
            return None
        pairs = zip(ours, theirs, strict=True)
        return quote([None if a is None or b is None else compare(a, b) for a, b in pairs])


def reach(points: Sequence[tuple[float, float]], limit: float) -> float | None:
    """The size at which the cost reaches the limit, by linear interpolation between the points.

    A point is (size, cost), by ascending size. The last size where all costs are within the limit;
    None where the first cost is above it.
    """
    found = None
    for index, (size, cost) in enumerate(points):
        if cost > limit:
            if not index:
                return None
            before, below = points[index - 1]
            return before + (size - before) * (limit - below) / (cost - below)
        found = size
    return found
