"""Tests of `StrategyRun`: the order of attempts, retries, and the pauses between them."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from core.types import Refusal
from settings.routing_configs import parse_config
from upstream.strategy import StrategyRun


@dataclass
class FakeAttempt:
    target: str
    retry_number: int
    status: int
    retry_after: float | None = None
    is_discarded: bool = False

    async def send(self) -> None: ...

    @property
    def statuses(self):
        return (504, 408) if self.status == 504 else (self.status,)

    def discard_reply(self) -> None:
        self.is_discarded = True


@dataclass
class FakeProviders:
    """Plans attempts with scripted statuses, and is the platform of the run.

    `script` maps a provider to the statuses of its replies; the last one repeats, and a text is
    the message of a refusal. `random` returns the values of `random_values`, then 0.999.
    """

    script: dict[str, list[Any]]
    retry_after: float | None = None
    has_left: bool = False
    random_values: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def plan_attempt(self, target, retry_number) -> FakeAttempt | Refusal:
        statuses = self.script[target.provider]
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        if isinstance(status, str):
            return Refusal(401, status)
        return FakeAttempt(
            target.provider, retry_number, status, self.retry_after if status != 200 else None
        )

    def random(self) -> float:
        return self.random_values.pop(0) if self.random_values else 0.999

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def client_left(self) -> bool:
        return self.has_left


def run_config(
    config: dict[str, Any], providers: FakeProviders, condition_values=None
) -> StrategyRun:
    """Run a request with this config and return the finished run. The fakes never suspend it."""
    run = StrategyRun(providers.plan_attempt, lambda: condition_values or {}, providers)
    coroutine = run.run(parse_config(config, trusted=False))
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == bool(run.attempts)
    # Every reply but the last is discarded.
    assert all(attempt.is_discarded for attempt in run.attempts[:-1])
    return run


def attempts_of(run: StrategyRun) -> list[tuple[str, int, int]]:
    """Target, retry number and status of each attempt."""
    return [(attempt.target, attempt.retry_number, attempt.status) for attempt in run.attempts]


def fallback(*names: str, **strategy: Any) -> dict[str, Any]:
    targets = [{"provider": name} for name in names]
    return {"strategy": {"mode": "fallback", **strategy}, "targets": targets}


def test_a_successful_reply_ends_the_run():
    assert attempts_of(run_config({"retry": {"attempts": 5}}, FakeProviders({"": [200]}))) == [
        ("", 0, 200)
    ]
    assert attempts_of(run_config(fallback("a", "b"), FakeProviders({"a": [201], "b": [200]}))) == [
        ("a", 0, 201)
    ]


def test_a_failed_attempt_is_retried_after_a_pause():
    providers = FakeProviders({"": [503, 429, 200]})
    finished = run_config({"retry": {"attempts": 5}}, providers)
    assert attempts_of(finished) == [("", 0, 503), ("", 1, 429), ("", 2, 200)]
    assert providers.pauses == pytest.approx([0.5, 1], rel=0.01)
    assert not finished.attempts[-1].is_discarded


def test_there_is_no_pause_after_the_last_retry():
    providers = FakeProviders({"": [500]})
    assert len(run_config({"retry": {"attempts": 2}}, providers).attempts) == 3
    assert len(providers.pauses) == 2


@pytest.mark.parametrize(
    ("config", "status", "attempts"),
    [
        ({"attempts": 2}, 400, 1),
        ({"attempts": 2}, 504, 3),
        ({"attempts": 2, "on_status_codes": [400]}, 400, 3),
        ({"attempts": 2, "on_status_codes": [400]}, 500, 1),
        ({"attempts": 2, "on_status_codes": [408]}, 504, 3),
        ({"attempts": 2, "on_status_codes": []}, 500, 1),
    ],
)
def test_only_the_configured_statuses_are_retried(config, status, attempts):
    assert len(run_config({"retry": config}, FakeProviders({"": [status]})).attempts) == attempts


def test_a_retry_waits_for_retry_after():
    providers = FakeProviders({"": [429, 200]}, retry_after=7)
    run_config({"retry": {"attempts": 1}}, providers)
    assert providers.pauses == [1] * 7
    ignored = FakeProviders({"": [429, 200]}, retry_after=7)
    run_config({"retry": {"attempts": 1, "use_retry_after_header": False}}, ignored)
    assert ignored.pauses == pytest.approx([0.5], rel=0.01)
    too_long = FakeProviders({"": [429, 200]}, retry_after=61)
    assert attempts_of(run_config({"retry": {"attempts": 1}}, too_long)) == [("", 0, 429)]
    assert too_long.pauses == []


def test_the_pauses_of_a_request_are_limited_in_total():
    """Five pauses of 25 seconds would be longer than clients wait."""
    providers = FakeProviders({"": [429]}, retry_after=25)
    assert len(run_config({"retry": {"attempts": 5}}, providers).attempts) == 3
    assert sum(providers.pauses) == 50


def test_there_is_no_retry_after_the_client_has_left():
    providers = FakeProviders({"": [500]})

    async def leave(seconds):
        providers.has_left = True

    providers.sleep = leave
    assert len(run_config({"retry": {"attempts": 5}}, providers).attempts) == 1


def test_a_fallback_tries_the_targets_in_order_without_pauses():
    providers = FakeProviders({"a": [500], "b": [302], "c": [404], "d": [200]})
    finished = run_config(fallback("a", "b", "c", "d"), providers)
    assert [target for target, _, _ in attempts_of(finished)] == ["a", "b", "c", "d"]
    assert providers.pauses == []


def test_a_fallback_goes_on_after_the_configured_statuses_only():
    config = fallback("a", "b", on_status_codes=[429])
    assert len(run_config(config, FakeProviders({"a": [500], "b": [200]})).attempts) == 1
    assert len(run_config(config, FakeProviders({"a": [429], "b": [200]})).attempts) == 2
    timeout = fallback("a", "b", on_status_codes=[408])
    assert len(run_config(timeout, FakeProviders({"a": [504], "b": [200]})).attempts) == 2


def test_a_refused_target_is_skipped_and_the_last_reply_is_kept():
    finished = run_config(
        fallback("a", "b", "c"), FakeProviders({"a": ["no key"], "b": [500], "c": ["no key"]})
    )
    assert attempts_of(finished) == [("b", 0, 500)]
    assert not finished.attempts[-1].is_discarded
    skipped = [(target.path, refusal.message) for target, refusal in finished.skipped]
    assert skipped == [("config.targets[0]", "no key"), ("config.targets[2]", "no key")]


def test_a_run_whose_targets_are_all_refused_has_no_attempt():
    finished = run_config(fallback("a", "b"), FakeProviders({"a": ["no"], "b": ["nor this"]}))
    assert finished.attempts == []
    assert finished.skipped[0][1].message == "no"


def test_a_request_has_at_most_eight_attempts():
    config = {**fallback("a", "b", "c"), "retry": {"attempts": 5}}
    providers = FakeProviders({"a": [500], "b": [500], "c": [200]})
    finished = run_config(config, providers)
    assert [target for target, _, _ in attempts_of(finished)] == ["a"] * 6 + ["b"] * 2
    assert not finished.attempts[-1].is_discarded
    assert sum(providers.pauses) == pytest.approx(0.5 + 1 + 2 + 4 + 8 + 0.5, rel=0.01)


def test_load_balancing_chooses_by_weight():
    targets = [{"provider": "a", "weight": 1}, {"provider": "b", "weight": 0}, {"provider": "c"}]
    config = {"strategy": {"mode": "loadbalance"}, "targets": targets}
    for random_value, name in ((0.0, "a"), (0.49, "a"), (0.5, "c"), (0.999, "c")):
        providers = FakeProviders({name: [200] for name in "abc"}, random_values=[random_value])
        assert attempts_of(run_config(config, providers)) == [(name, 0, 200)]
    # A target of weight 0 is not called even where all others are refused.
    providers = FakeProviders(
        {"a": ["no key"], "b": [200], "c": ["no key"]}, random_values=[0.0, 0.0]
    )
    assert attempts_of(run_config(config, providers)) == []
    # A refused target is left out, and another one is chosen.
    providers = FakeProviders({"a": ["no key"], "b": [200], "c": [500]}, random_values=[0.0, 0.0])
    assert attempts_of(run_config(config, providers)) == [("c", 0, 500)]
    # The same with other random values.
    providers = FakeProviders({"a": ["no key"], "b": [200], "c": ["no key"]})
    assert attempts_of(run_config(config, providers)) == []


def test_a_condition_selects_the_target():
    config = {
        "strategy": {
            "mode": "conditional",
            "conditions": [{"query": {"metadata.plan": "paid"}, "then": "good"}],
            "default": "cheap",
        },
        "targets": [{"name": "cheap", "provider": "a"}, {"name": "good", "provider": "b"}],
    }
    script = {"a": [200], "b": [200]}
    assert (
        attempts_of(run_config(config, FakeProviders(script), {"metadata": {"plan": "paid"}}))[0][0]
        == "b"
    )
    assert attempts_of(run_config(config, FakeProviders(script), {"metadata": {}}))[0][0] == "a"
    del config["strategy"]["default"]
    finished = run_config(config, FakeProviders(script), {})
    assert finished.attempts == []
    assert finished.skipped[0][1].status == 400


def test_a_target_may_contain_targets():
    inner = {"strategy": {"mode": "loadbalance"}, "targets": [{"provider": "a"}, {"provider": "b"}]}
    config = {"strategy": {"mode": "fallback"}, "targets": [inner, {"provider": "c"}]}
    providers = FakeProviders({"a": [500], "b": [500], "c": [200]}, random_values=[0.0])
    assert [target for target, _, _ in attempts_of(run_config(config, providers))] == ["a", "c"]
