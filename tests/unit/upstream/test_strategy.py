"""Who is asked, in which order, and how long is waited in between."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from core.types import Refusal
from settings.routing_configs import parse_config
from upstream.strategy import StrategyRun


@dataclass
class Asked:
    target: str
    tries: int
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
class Providers:
    """Each answers with the next of its statuses; a text is why it can't be asked."""

    answers: dict[str, list[Any]]
    after: float | None = None
    left: bool = False
    draws: list[float] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def plan_attempt(self, target, tries) -> Asked | Refusal:
        answer = self.answers[target.provider]
        status = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(status, str):
            return Refusal(401, status)
        return Asked(target.provider, tries, status, self.after if status != 200 else None)

    def random(self) -> float:
        return self.draws.pop(0) if self.draws else 0.999

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def client_left(self) -> bool:
        return self.left


def run(config: dict[str, Any], providers: Providers, facts=None) -> StrategyRun:
    run = StrategyRun(providers.plan_attempt, lambda: facts or {}, providers)
    coroutine = run.run(parse_config(config, trusted=False))
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value == bool(run.attempts)
    # Whoever is not the last has been let go.
    assert all(attempt.is_discarded for attempt in run.attempts[:-1])
    return run


def asked(run: StrategyRun) -> list[tuple[str, int, int]]:
    return [(attempt.target, attempt.tries, attempt.status) for attempt in run.attempts]


def fallback(*names: str, **strategy: Any) -> dict[str, Any]:
    targets = [{"provider": name} for name in names]
    return {"strategy": {"mode": "fallback", **strategy}, "targets": targets}


def test_a_reply_that_is_good_is_the_last():
    assert asked(run({"retry": {"attempts": 5}}, Providers({"": [200]}))) == [("", 0, 200)]
    assert asked(run(fallback("a", "b"), Providers({"a": [201], "b": [200]}))) == [("a", 0, 201)]


def test_a_retry():
    providers = Providers({"": [503, 429, 200]})
    done = run({"retry": {"attempts": 5}}, providers)
    assert asked(done) == [("", 0, 503), ("", 1, 429), ("", 2, 200)]
    assert providers.slept == pytest.approx([0.5, 1], rel=0.01)
    assert not done.attempts[-1].is_discarded


def test_after_the_last_retry_nobody_sleeps():
    providers = Providers({"": [500]})
    assert len(run({"retry": {"attempts": 2}}, providers).attempts) == 3
    assert len(providers.slept) == 2


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
def test_which_statuses_are_retried(config, status, attempts):
    assert len(run({"retry": config}, Providers({"": [status]})).attempts) == attempts


def test_a_provider_that_says_when_is_asked_then():
    providers = Providers({"": [429, 200]}, after=7)
    run({"retry": {"attempts": 1}}, providers)
    assert providers.slept == [1] * 7
    ignored = Providers({"": [429, 200]}, after=7)
    run({"retry": {"attempts": 1, "use_retry_after_header": False}}, ignored)
    assert ignored.slept == pytest.approx([0.5], rel=0.01)
    too_long = Providers({"": [429, 200]}, after=61)
    assert asked(run({"retry": {"attempts": 1}}, too_long)) == [("", 0, 429)]
    assert too_long.slept == []


def test_all_pauses_of_a_request_are_bounded():
    """Two minutes of waiting would be longer than any client does."""
    providers = Providers({"": [429]}, after=25)
    assert len(run({"retry": {"attempts": 5}}, providers).attempts) == 3
    assert sum(providers.slept) == 50


def test_nobody_is_asked_for_a_client_that_left():
    providers = Providers({"": [500]})

    async def leave(seconds):
        providers.left = True

    providers.sleep = leave
    assert len(run({"retry": {"attempts": 5}}, providers).attempts) == 1


def test_a_fallback():
    providers = Providers({"a": [500], "b": [302], "c": [404], "d": [200]})
    done = run(fallback("a", "b", "c", "d"), providers)
    assert [target for target, _, _ in asked(done)] == ["a", "b", "c", "d"]
    assert providers.slept == []


def test_a_fallback_goes_on_after_the_named_statuses_alone():
    named = fallback("a", "b", on_status_codes=[429])
    assert len(run(named, Providers({"a": [500], "b": [200]})).attempts) == 1
    assert len(run(named, Providers({"a": [429], "b": [200]})).attempts) == 2
    timeout = fallback("a", "b", on_status_codes=[408])
    assert len(run(timeout, Providers({"a": [504], "b": [200]})).attempts) == 2


def test_who_cannot_be_asked_is_skipped_and_the_last_reply_kept():
    done = run(fallback("a", "b", "c"), Providers({"a": ["no key"], "b": [500], "c": ["no key"]}))
    assert asked(done) == [("b", 0, 500)]
    assert not done.attempts[-1].is_discarded
    skipped = [(target.path, refusal.message) for target, refusal in done.skipped]
    assert skipped == [("config.targets[0]", "no key"), ("config.targets[2]", "no key")]


def test_nobody_can_be_asked():
    done = run(fallback("a", "b"), Providers({"a": ["no"], "b": ["nor this"]}))
    assert done.attempts == []
    assert done.skipped[0][1].message == "no"


def test_eight_attempts_are_the_most():
    config = {**fallback("a", "b", "c"), "retry": {"attempts": 5}}
    providers = Providers({"a": [500], "b": [500], "c": [200]})
    done = run(config, providers)
    assert [target for target, _, _ in asked(done)] == ["a"] * 6 + ["b"] * 2
    assert not done.attempts[-1].is_discarded
    assert sum(providers.slept) == pytest.approx(0.5 + 1 + 2 + 4 + 8 + 0.5, rel=0.01)


def test_weights():
    targets = [{"provider": "a", "weight": 1}, {"provider": "b", "weight": 0}, {"provider": "c"}]
    config = {"strategy": {"mode": "loadbalance"}, "targets": targets}
    for draw, name in ((0.0, "a"), (0.49, "a"), (0.5, "c"), (0.999, "c")):
        providers = Providers({name: [200] for name in "abc"}, draws=[draw])
        assert asked(run(config, providers)) == [(name, 0, 200)]
    # Not even where nobody else can be asked.
    providers = Providers({"a": ["no key"], "b": [200], "c": ["no key"]}, draws=[0.0, 0.0])
    assert asked(run(config, providers)) == []
    # One that has no key is as if it were not there.
    providers = Providers({"a": ["no key"], "b": [200], "c": [500]}, draws=[0.0, 0.0])
    assert asked(run(config, providers)) == [("c", 0, 500)]
    # Nor does then one come in that is to have nothing.
    providers = Providers({"a": ["no key"], "b": [200], "c": ["no key"]})
    assert asked(run(config, providers)) == []


def test_conditions():
    config = {
        "strategy": {
            "mode": "conditional",
            "conditions": [{"query": {"metadata.plan": "paid"}, "then": "good"}],
            "default": "cheap",
        },
        "targets": [{"name": "cheap", "provider": "a"}, {"name": "good", "provider": "b"}],
    }
    answers = {"a": [200], "b": [200]}
    assert asked(run(config, Providers(answers), {"metadata": {"plan": "paid"}}))[0][0] == "b"
    assert asked(run(config, Providers(answers), {"metadata": {}}))[0][0] == "a"
    del config["strategy"]["default"]
    done = run(config, Providers(answers), {})
    assert done.attempts == []
    assert done.skipped[0][1].status == 400


def test_targets_in_targets():
    inner = {"strategy": {"mode": "loadbalance"}, "targets": [{"provider": "a"}, {"provider": "b"}]}
    config = {"strategy": {"mode": "fallback"}, "targets": [inner, {"provider": "c"}]}
    providers = Providers({"a": [500], "b": [500], "c": [200]}, draws=[0.0])
    assert [target for target, _, _ in asked(run(config, providers))] == ["a", "c"]
