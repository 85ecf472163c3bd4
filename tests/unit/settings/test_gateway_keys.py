"""Tests of `gateway_keys`: which calls are authenticated, and which models a key may use."""

import hashlib

import pytest

from core.types import Call, Refusal
from settings.gateway_keys import (
    GatewayKey,
    authenticate,
    is_provider_credential,
    parse_gateway_keys,
)

KEY = "gw_0123456789"
HASH = hashlib.sha256(KEY.encode()).hexdigest()
GATEWAY_KEYS = parse_gateway_keys({"bob": "b" * 64, "alice": HASH})


def call(query: str = "", **headers: str) -> Call:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call("GET", "/v1/models", query, named)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer   {KEY} "},
        {"authorization": KEY},
        {"x_api_key": KEY},
        {"x_portkey_api_key": KEY, "authorization": "Bearer sk-provider"},
    ],
)
def test_a_call_with_a_gateway_key_is_authenticated(headers):
    caller = authenticate(call(**headers), GATEWAY_KEYS)
    assert isinstance(caller, GatewayKey)
    assert caller.name == "alice"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer sk-provider"},
        {"authorization": "Bearer gw_0123456788"},
        {"authorization": f"Basic {KEY}"},
        {"x_portkey_api_key": KEY, "authorization": "Bearer gw_wrong"},
        {"x_portkey_api_key": HASH},
        {"x_other": KEY},
        {"x_portkey_api_key": KEY, "authorization": "Bearer sk-1, Bearer gw_wrong"},
        {"x_portkey_api_key": KEY, "authorization": "Bearer\tgw_wrong"},
        {"x_portkey_api_key": KEY, "authorization": 'Bearer "gw_wrong"'},
        {"x_portkey_api_key": KEY, "authorization": "Token gw_wrong"},
    ],
)
def test_a_call_without_a_valid_gateway_key_is_refused(headers):
    refusal = authenticate(call(**headers), GATEWAY_KEYS)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 401


@pytest.mark.parametrize("value", ["Basic gw_1", "Bearer\tgw_1", "Bearer sk-1, Bearer gw_1"])
def test_a_gateway_key_in_any_form_is_refused_when_none_is_configured(value):
    assert authenticate(call(authorization=value), None) is not None
    assert authenticate(call(authorization="Bearer my-gw_1"), None) is None


def test_without_configured_keys_only_calls_without_a_gateway_key_are_accepted():
    assert authenticate(call(authorization="Bearer sk-provider"), None) is None
    refusal = authenticate(call(authorization=f"Bearer {KEY}"), None)
    assert isinstance(refusal, Refusal)
    assert KEY not in refusal.message


@pytest.mark.parametrize("query", [f"key={KEY}", "a=1&key=gw%5F0123", "gw_0123"])
@pytest.mark.parametrize("gateway_keys", [None, GATEWAY_KEYS])
def test_a_gateway_key_in_the_url_is_refused(query, gateway_keys):
    refusal = authenticate(
        call(query, x_api_key=KEY if gateway_keys else "sk-provider"), gateway_keys
    )
    assert isinstance(refusal, Refusal)
    assert refusal.status == 401


@pytest.mark.parametrize(
    ("pattern", "model", "is_allowed"),
    [
        ("gpt-4o*", "gpt-4o-mini", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("*", "anything", True),
        ("claude-x[1m]", "claude-x[1m]", True),
        ("claude-x[1m]", "claude-x1", False),
        ("o?", "o1", False),
    ],
)
def test_a_model_pattern_may_end_with_an_asterisk(pattern, model, is_allowed):
    key = GatewayKey("a", HASH, models=(pattern,))
    assert (key.refusal_for("openai", [model]) is None) is is_allowed


@pytest.mark.parametrize("value", ["", " ", "Bearer", "bearer ", "Bearer OPENAI_API_KEY", KEY])
def test_a_placeholder_or_gateway_key_is_not_a_provider_credential(value):
    assert not is_provider_credential(value)
    assert is_provider_credential(f"{value}x") is (value != KEY)
