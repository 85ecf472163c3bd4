"""Tests of the benchmark's evaluation: medians, comparisons, and the budget."""

from typing import Any

import pytest

from bench import budget, report
from bench.budget import Line
from bench.figures import Quote, Results, of_calls, percentile, quote, reach

LABEL = "a scenario, 1 at once"


def results(calls: dict[str, list[dict[str, Any]]], **worker: list[float]) -> Results:
    return Results({"calls": {LABEL: calls} if calls else {}, "worker": worker})


def speed_rounds(*values: float | None) -> list[dict[str, float | None]]:
    return [{"speed": value} for value in values]


def test_percentile():
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(100), 0.99) == 99
    assert percentile([7], 0.99) == 7


def test_a_quote_is_the_median_with_lowest_and_highest():
    assert quote([3, 1, 2]) == Quote(2, 1, 3)
    assert quote([1, 2]) == Quote(1.5, 1, 2)
    assert quote([]) is None
    assert quote([1, None]) is None


def test_comparisons_are_made_within_a_round():
    measured_results = results(
        {"one": speed_rounds(10, 30, 90), "other": speed_rounds(20, 30, 100)}
    )
    # The ratio of the medians would be 1.
    assert measured_results.over(LABEL, "one", "speed", "other") == Quote(0.9, 0.5, 1)
    assert measured_results.minus(LABEL, "one", "speed", "other") == Quote(-10, -10, 0)
    assert measured_results.quote(LABEL, "one", "speed") == Quote(30, 10, 90)


def test_missing_measurements_have_no_quote():
    measured_results = results({"one": speed_rounds(10), "other": speed_rounds(None)})
    assert measured_results.over(LABEL, "one", "speed", "other") is None
    assert measured_results.over(LABEL, "one", "speed", "nobody") is None
    assert measured_results.quote("another scenario", "one", "speed") is None
    assert measured_results.worker("import_ms") is None


def test_the_figures_of_a_round():
    load = {"first": [1.0, 2.0], "whole": [3.0, 4.0], "gaps": [0.5], "calls": 4, "seconds": 2.0}
    assert of_calls(load, 0.1, streamed=True) == {
        "first_p50_ms": 2,
        "first_p99_ms": 2,
        "whole_p50_ms": 4,
        "whole_p99_ms": 4,
        "gap_p99_ms": 0.5,
        "requests_per_second": 2,
        "cpu_ms": 25,
    }
    whole = of_calls(load, None, streamed=False)
    assert whole["gap_p99_ms"] is None
    assert whole["cpu_ms"] is None


def test_the_increase_per_unit():
    data = {"small": {"one": speed_rounds(1, 2)}, "large": {"one": speed_rounds(11, 32)}}
    measured_results = Results({"calls": data, "worker": {}})
    assert measured_results.per_unit("small", "large", "one", "speed", 10) == Quote(2, 1, 3)
    assert measured_results.per_unit("small", "none", "one", "speed", 10) is None


def test_reach_interpolates_the_size_at_which_a_cost_meets_its_limit():
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
def test_a_budget_line_is_met_or_short_by_the_difference(fields, measured, short):
    checked = line(**fields).check(results({}, speed=[measured]))
    assert checked["measured"] == measured
    assert checked["met"] is (short == 0)
    assert checked["short_by"] == short


def test_a_budget_line_compares_subjects_of_its_scenario():
    measured_results = results(
        {"one": speed_rounds(10, 30, 90), "other": speed_rounds(20, 30, 100)}
    )
    which = {"scenario": LABEL, "subject": "one", "at_most": 1}
    assert line(**which, over="other").measured(measured_results) == Quote(0.9, 0.5, 1)
    assert line(**which, minus="other").measured(measured_results) == Quote(-10, -10, 0)
    assert line(**which).measured(measured_results) == Quote(30, 10, 90)


def test_a_budget_line_without_measurement_is_neither_met_nor_short():
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
def test_an_ambiguous_budget_line_raises_a_value_error(fields):
    with pytest.raises(ValueError, match="a line"):
        line(**fields)


def test_the_budget_names_only_what_is_measured():
    from bench.figures import DIRECT, FLOOR, TRACED, UNTRACED
    from bench.scenarios import SCENARIOS

    labels = [scenario.label for scenario in SCENARIOS]
    assert len(set(labels)) == len(labels)
    load = {"first": [1.0], "whole": [1.0], "gaps": [], "calls": 1, "seconds": 1.0}
    figures = of_calls(load, 0.0, streamed=True)
    for each in budget.lines():
        if each.scenario:
            assert each.scenario in labels
            assert each.subject in (TRACED, UNTRACED)
            assert each.figure in figures
            assert each.minus in ("", DIRECT)
            assert each.over in ("", DIRECT, FLOOR)
    for _, small, large, _ in report.SLOPES:
        assert {small, large} <= set(labels)


def test_a_reported_budget_line_has_limit_and_shortfall():
    checked = [
        line(at_most=2, stretch=1).check(results({}, speed=[1.5])),
        line(at_least=0.6, unit="times").check(results({}, speed=[0.4, 0.5, 0.55])),
        line(at_most=2).check(results({})),
    ]
    met, missed, unknown = (" ".join(report.budget_result(each).split()) for each in checked)
    assert met == "1.50 <= 2 ms (stretch 1) met"
    assert missed == "0.50 (0.40-0.55) >= 0.6 times SHORT by 0.10 times"
    assert unknown == "not measured <= 2 ms"
