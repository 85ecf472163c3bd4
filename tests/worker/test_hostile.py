"""Requests that are made to harm: to hang the isolate, or to get at what is another's."""

import time
from typing import Any

import pytest

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


@pytest.mark.parametrize(
    "headers",
    [
        {"x-portkey-config": '{"weight": 1' + 400 * "0" + "}"},
        {"x-portkey-request-timeout": "1" + 5000 * "0"},
        {"x-portkey-request-timeout": "000000001" + 12 * "9"},
    ],
)
def test_a_number_of_any_length_is_refused(stage: Stage, provider: Provider, headers):
    answer = ask(stage, {**A, **headers})
    assert answer.status_code == 400, answer.text
    assert provider.seen == []
