"""Check of the results against the gateway's budget, `budget.toml`."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Quote, Results

FILE = Path(__file__).with_name("budget.toml")


@dataclass(frozen=True)
class Line:
    """One line of the budget. `budget.toml` describes the fields."""

    name: str
    figure: str
    unit: str
    scenario: str = ""
    subject: str = ""
    minus: str = ""
    over: str = ""
    at_most: float | None = None
    at_least: float | None = None
    stretch: float | None = None

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"{self.name}: say either at_most or at_least")
        if self.minus and self.over:
            raise ValueError(f"{self.name}: say either minus or over")
        if bool(self.scenario) != bool(self.subject):
            raise ValueError(f"{self.name}: a scenario has a subject")

    def measured(self, results: Results) -> Quote | None:
        """The figure in the results, None where it was not measured."""
        if not self.scenario:
            return results.worker(self.figure)
        which = self.scenario, self.subject, self.figure
        if self.minus:
            return results.minus(*which, self.minus)
        if self.over:
            return results.over(*which, self.over)
        return results.quote(*which)

    def short(self, measured: float) -> float:
        """By how much a figure misses the limit, 0 where it meets it."""
        if self.at_most is not None:
            return max(0.0, measured - self.at_most)
        assert self.at_least is not None
        return max(0.0, self.at_least - measured)

    def check(self, results: Results) -> dict[str, Any]:
        """The line's entry in the JSON, which the report prints. `met` is None where the figure was
        not measured."""
        quote = self.measured(results)
        short = None if quote is None else self.short(quote.median)
        return {
            "name": self.name,
            "unit": self.unit,
            "at_most": self.at_most,
            "at_least": self.at_least,
            "stretch": self.stretch,
            "measured": quote and quote.median,
            "low": quote and quote.low,
            "high": quote and quote.high,
            "met": None if short is None else short == 0,
            "short_by": short,
        }


def lines() -> list[Line]:
    """The lines of the budget. Raises ValueError or TypeError for an invalid line."""
    return [Line(**line) for line in tomllib.loads(FILE.read_text())["line"]]
