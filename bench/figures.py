"""What was measured, and what is quoted of it: rounds in, medians and ratios within a round out."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

DIRECT, JS_FLOOR, FLOOR = "direct", "JavaScript floor", "Python floor"
UNTRACED, TRACED = "gateway, untraced", "gateway, traced"


def percentile(values: Iterable[float], share: float) -> float:
    """The value that this share of them does not reach."""
    found = sorted(values)
    return found[min(int(share * len(found)), len(found) - 1)]


@dataclass(frozen=True)
class Quote:
    """What is quoted of several rounds: their median, and the lowest and highest among them."""

    median: float
    low: float
    high: float


def quote(rounds: Sequence[float | None]) -> Quote | None:
    """Out: None where a round has no such figure, or there is no round."""
    found = [value for value in rounds if value is not None]
    if not found or len(found) < len(rounds):
        return None
    return Quote(statistics.median(found), min(found), max(found))


def of_calls(answer: dict[str, Any], cpu: float | None, streamed: bool) -> dict[str, float | None]:
    """The figures of one round: the load tool's answer, and the CPU time in seconds it took."""
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
    """What a run has measured, as it stands in the JSON.

    Its `calls` are the figures by scenario, subject and round; its `worker` those of the Worker
    itself, which are lists of repeated measurements.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def rounds(self, scenario: str, subject: str, figure: str) -> list[float | None]:
        """One figure of every round; none where that was not measured."""
        rounds = self.data["calls"].get(scenario, {}).get(subject, [])
        return [figures[figure] for figures in rounds]

    def quote(self, scenario: str, subject: str, figure: str) -> Quote | None:
        return quote(self.rounds(scenario, subject, figure))

    def minus(self, scenario: str, subject: str, figure: str, other: str) -> Quote | None:
        """By how much it is more than another subject's, within a round."""
        return self._paired(scenario, subject, figure, other, lambda one, two: one - two)

    def over(self, scenario: str, subject: str, figure: str, other: str) -> Quote | None:
        """How many times another subject's it is, within a round."""
        return self._paired(scenario, subject, figure, other, lambda one, two: one / two)

    def worker(self, figure: str) -> Quote | None:
        """A figure of the Worker itself."""
        return quote(self.data["worker"].get(figure, []))

    def per_unit(
        self, small: str, large: str, subject: str, figure: str, units: float
    ) -> Quote | None:
        """How much a figure grows per unit, where two scenarios are so many units apart."""
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
    """Where a cost that grows along these points, (size, cost), comes to its limit, by straight
    lines between them; the last size where it does not. None where the first is over it."""
    found = None
    for index, (size, cost) in enumerate(points):
        if cost > limit:
            if not index:
                return None
            before, below = points[index - 1]
            return before + (size - before) * (limit - below) / (cost - below)
        found = size
    return found
