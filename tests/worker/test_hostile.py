"""Requests that are made to harm: to hang the isolate, or to get at what is another's."""

import time
from typing import Any

from . import test_keys
from .conftest import Provider, Stage
from .test_keys import ALICE, ask, inline

settings, stage, _kept = test_keys.settings, test_keys.stage, test_keys._kept
A = {"x-portkey-api-key": ALICE}
# Seconds. Each of these took many times as long before it was bounded.
SOON = 2.0


def conditional(query: Any) -> str:
    conditions = [{"query": query, "then": "t"}]
    return inline(
        strategy={"mode": "conditional", "conditions": conditions, "default": "t"},
        targets=[{"name": "t", "provider": "other"}],
    )


def test_a_condition_on_a_long_list_is_checked_soon(stage: Stage, provider: Provider):
    messages = [{"role": "user", "content": "x"}] * 20_000
    query = {"params.messages": {"$in": ["a"] * 1000}}
    began = time.monotonic()
    answer = ask(stage, {**A, "x-portkey-config": conditional(query)}, {"messages": messages})
    assert answer.status_code == 200
    assert time.monotonic() - began < SOON
