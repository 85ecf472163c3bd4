"""What the benchmark makes of its measurements."""

from typing import Any

import pytest

from bench import budget, report
from bench.budget import Line
from bench.figures import Quote, Results, of_calls, percentile, quote, reach

LABEL = "a scenario, 1 at once"


def results(calls: dict[str, list[dict[str, Any]]], **worker: list[float]) -> Results:
    return Results({"calls": {LABEL: calls} if calls else {}, "worker": worker})


def speeds(*values: float | None) -> list[dict[str, float | None]]:
    return [{"speed": value} for value in values]


def test_percentiles():
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(100), 0.99) == 99
    assert percentile([7], 0.99) == 7


def test_what_is_quoted_is_the_median_with_its_spread():
    assert quote([3, 1, 2]) == Quote(2, 1, 3)
    assert quote([1, 2]) == Quote(1.5, 1, 2)
    assert quote([]) is None
    assert quote([1, None]) is None


def test_comparisons_are_made_within_a_round():
    found = results({"one": speeds(10, 30, 90), "other": speeds(20, 30, 100)})
    # The ratio of the medians would be 1.
    assert found.over(LABEL, "one", "speed", "other") == Quote(0.9, 0.5, 1)
    assert found.minus(LABEL, "one", "speed", "other") == Quote(-10, -10, 0)
    assert found.quote(LABEL, "one", "speed") == Quote(30, 10, 90)


def test_what_was_not_measured_is_not_quoted():
    found = results({"one": speeds(10), "other": speeds(None)})
    assert found.over(LABEL, "one", "speed", "other") is None
    assert found.over(LABEL, "one", "speed", "nobody") is None
    assert found.quote("another scenario", "one", "speed") is None
    assert found.worker("import_ms") is None


def test_figures_of_a_round():
    answer = {"first": [1.0, 2.0], "whole": [3.0, 4.0], "gaps": [0.5], "calls": 4, "seconds": 2.0}
    assert of_calls(answer, 0.1, streamed=True) == {
        "first_p50_ms": 2,
        "first_p99_ms": 2,
        "whole_p50_ms": 4,
        "whole_p99_ms": 4,
        "gap_p99_ms": 0.5,
        "requests_per_second": 2,
        "cpu_ms": 25,
    }
    whole = of_calls(answer, None, streamed=False)
    assert whole["gap_p99_ms"] is None
    assert whole["cpu_ms"] is None


def test_the_growth_per_unit():
    data = {"small": {"one": speeds(1, 2)}, "large": {"one": speeds(11, 32)}}
    found = Results({"calls": data, "worker": {}})
    assert found.per_unit("small", "large", "one", "speed", 10) == Quote(2, 1, 3)
    assert found.per_unit("small", "none", "one", "speed", 10) is None


def test_how_far_a_limit_reaches():
    points = [(1.0, 2.0), (100.0, 6.0), (500.0, 14.0)]
    assert reach(points, 10) == 300
    assert reach(points, 6) == 100
    assert reach(points, 20) == 500
    assert reach(points, 1) is None
    assert reach([], 1) is None


def line(**fields: Any) -> Line:
    return Line(**{"name": "a line", "figure": "speed", "unit": "ms", **fields})


@pytest.mark.parametrize(
    ("fields", "measured", "short"),
    [
        ({"at_most": 2}, 2, 0),
        ({"at_most": 2}, 2.5, 0.5),
        ({"at_least": 0.75}, 0.75, 0),
        ({"at_least": 0.75}, 0.5, 0.25),
        ({"at_most": 1}, -3, 0),
    ],
)
def test_a_line_is_met_or_missed_by_so_much(fields, measured, short):
    checked = line(**fields).check(results({}, speed=[measured]))
    assert checked["measured"] == measured
    assert checked["met"] is (short == 0)
    assert checked["short_by"] == short


def test_a_line_compares_subjects_in_its_scenario():
    found = results({"one": speeds(10, 30, 90), "other": speeds(20, 30, 100)})
    which = {"scenario": LABEL, "subject": "one", "at_most": 1}
    assert line(**which, over="other").measured(found) == Quote(0.9, 0.5, 1)
    assert line(**which, minus="other").measured(found) == Quote(-10, -10, 0)
    assert line(**which).measured(found) == Quote(30, 10, 90)


def test_a_line_that_was_not_measured_is_neither_met_nor_missed():
    checked = line(at_most=1).check(results({}))
    assert checked["measured"] is None
    assert checked["met"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"at_most": 1, "at_least": 1},
        {"at_most": 1, "scenario": LABEL, "subject": "one", "minus": "a", "over": "b"},
        {"at_most": 1, "scenario": LABEL},
    ],
)
def test_a_line_that_says_nothing_clear_is_refused(fields):
    with pytest.raises(ValueError, match="a line"):
        line(**fields)


def test_the_budget_speaks_of_what_is_measured():
    from bench.figures import DIRECT, FLOOR, TRACED, UNTRACED
    from bench.scenarios import SCENARIOS

    labels = [scenario.label for scenario in SCENARIOS]
    assert len(set(labels)) == len(labels)
    answer = {"first": [1.0], "whole": [1.0], "gaps": [], "calls": 1, "seconds": 1.0}
    figures = of_calls(answer, 0.0, streamed=True)
    for found in budget.lines():
        if found.scenario:
            assert found.scenario in labels
            assert found.subject in (TRACED, UNTRACED)
            assert found.figure in figures
            assert found.minus in ("", DIRECT)
            assert found.over in ("", DIRECT, FLOOR)
    for _, small, large, _ in report.SLOPES:
        assert {small, large} <= set(labels)


def test_the_verdict_names_the_limit_and_what_is_missing():
    checked = [
        line(at_most=2, stretch=1).check(results({}, speed=[1.5])),
        line(at_least=0.6, unit="times").check(results({}, speed=[0.4, 0.5, 0.55])),
        line(at_most=2).check(results({})),
    ]
    met, missed, unknown = (" ".join(report.budget_result(found).split()) for found in checked)
    assert met == "1.50 <= 2 ms (stretch 1) met"
    assert missed == "0.50 (0.40-0.55) >= 0.6 times SHORT by 0.10 times"
    assert unknown == "not measured <= 2 ms"
