"""Tests of the cost that a provider states."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.cost import stated_cost
from dialects.registry import read_reply

FREE = {"cost": 0, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}


def upstream(cost: Any) -> dict[str, Any]:
    return {"cost_details": {"upstream_inference_cost": cost}}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # https://openrouter.ai/docs/use-cases/usage-accounting
        ({"cost": 0.0005}, {"total": 0.0005}),
        ({"cost": 0.95, "is_byok": False, **upstream(0.95)}, {"total": 0.95}),
        ({"cost": 0.95, **upstream(0.95)}, {"total": 0.95}),
        # The caller's own key: the provider charges for the call, OpenRouter a fee or nothing.
        ({"cost": 0, "is_byok": True, **upstream(0.036)}, {"total": 0.036}),
        ({"cost": 0, **upstream(0.036)}, {"total": 0.036}),
        ({"is_byok": True, **upstream(0.036)}, {"total": 0.036}),
        ({"cost": 0.5, "is_byok": True, **upstream(10)}, {"total": 10.5}),
        ({"cost": 0.5, "is_byok": True, **upstream(None)}, {}),
        ({"cost": 0, "is_byok": True, **upstream(0)}, {}),
        # Free only where the provider states both.
        (FREE, {"total": 0.0}),
        ({**FREE, **upstream(0)}, {"total": 0.0}),
        ({**FREE, **upstream(3)}, {}),
        ({**FREE, "cost": {"total_cost": 0.0}}, {}),
        ({"cost": 0}, {}),
        ({"cost": {"total_cost": 0}}, {}),
        ({"cost_in_usd_ticks": 0}, {}),
        ({"estimated_cost": 0}, {}),
        # https://docs.perplexity.ai/api-reference/sonar-post
        ({"cost": {"total_cost": 0.008, "request_cost": 0.005}}, {"total": 0.008}),
        # https://docs.x.ai/developers/cost-tracking
        ({"cost_in_usd_ticks": 37_756_000}, {"total": 0.0037756}),
        # https://deepinfra.com/docs/openai_api
        ({"estimated_cost": 0.0000268}, {"total": 0.0000268}),
        ({"cost": "unknown", "estimated_cost": 0.5}, {"total": 0.5}),
        ({"cost": None}, {}),
        ({"cost": True}, {}),
        ({"cost": "0.1"}, {}),
        ({"cost": -1}, {}),
        ({"cost": float("inf")}, {}),
        ({"cost": float("nan")}, {}),
        ({"cost": 10**400}, {}),
        ({"cost": {}}, {}),
        ({"cost": 1, "is_byok": True, "cost_details": [5]}, {}),
        ({"cost_in_usd_ticks": 10**30}, {}),
        ({}, {}),
        (None, {}),
        ([1], {}),
    ],
)
def test_the_stated_cost_is_read(usage: Any, expected: dict[str, float]) -> None:
    assert stated_cost(usage) == expected


NUMBER = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "cost": NUMBER | st.fixed_dictionaries({"total_cost": NUMBER}),
            "cost_details": NUMBER | st.fixed_dictionaries({"upstream_inference_cost": NUMBER}),
            "is_byok": st.booleans() | NUMBER,
            "cost_in_usd_ticks": NUMBER,
            "estimated_cost": NUMBER,
        },
    )
)
def test_any_usage_gives_a_cost_in_its_limits_or_none(usage: dict[str, Any]) -> None:
    cost = stated_cost(usage)
    assert cost.keys() <= {"total"}
    assert all(type(value) is float and 0 <= value < 2.1e9 for value in cost.values())
    assert cost.get("total") != 0 or (usage["cost"] == 0 and usage["is_byok"] is False)


def test_a_cost_beside_the_usage_is_read() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}
    metadata = {"gateway": {"cost": "0.0042", "marketCost": "0.0042"}}

    def cost(*events: Any) -> dict[str, float]:
        body = "".join(f"data: {event}\n\n" for event in events).encode()
        return read_reply("/v1/chat/completions", body, "text/event-stream", True).cost

    start = json.dumps({"model": "m", "choices": [choice], "usage": usage})
    # OpenCode Zen. A text only: numbers of other servers may be of another currency.
    for value, expected in (
        ("0.00123", {"total": 0.00123}),
        ("0", {}),
        ("much", {}),
        (5, {}),
        (None, {}),
    ):
        assert cost(start, "[DONE]", json.dumps({"choices": [], "cost": value})) == expected
    # Vercel
    vercel = {"index": 0, "delta": {"provider_metadata": metadata}}
    assert cost(start, json.dumps({"choices": [vercel]})) == {"total": 0.0042}
    both = json.dumps({"choices": [vercel], "usage": {**usage, "cost": 0.5}})
    assert cost(start, both) == {"total": 0.5}
    message = {"message": {"content": "Hi", "provider_metadata": metadata}}
    whole = json.dumps({"choices": [message]}).encode()
    assert read_reply("/v1/chat/completions", whole, "", True).cost == {"total": 0.0042}
