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
KNOWN = parse_gateway_keys({"bob": "b" * 64, "alice": HASH})


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
def test_let_in(headers):
    caller = authenticate(call(**headers), KNOWN)
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
def test_kept_out(headers):
    refusal = authenticate(call(**headers), KNOWN)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 401


@pytest.mark.parametrize("value", ["Basic gw_1", "Bearer\tgw_1", "Bearer sk-1, Bearer gw_1"])
def test_without_keys_one_that_is_shown_in_any_form_is_refused(value):
    assert authenticate(call(authorization=value), None) is not None
    assert authenticate(call(authorization="Bearer my-gw_1"), None) is None


def test_without_keys_everybody_is_let_in_but_a_gateway_key_is_never_passed_on():
    assert authenticate(call(authorization="Bearer sk-provider"), None) is None
    refusal = authenticate(call(authorization=f"Bearer {KEY}"), None)
    assert isinstance(refusal, Refusal)
    assert KEY not in refusal.message


@pytest.mark.parametrize("query", [f"key={KEY}", "a=1&key=gw%5F0123", "gw_0123"])
@pytest.mark.parametrize("known", [None, KNOWN])
def test_a_gateway_key_in_the_url_is_refused(query, known):
    refusal = authenticate(call(query, x_api_key=KEY if known else "sk-provider"), known)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 401


@pytest.mark.parametrize(
    ("pattern", "model", "opens"),
    [
        ("gpt-4o*", "gpt-4o-mini", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("*", "anything", True),
        ("claude-x[1m]", "claude-x[1m]", True),
        ("claude-x[1m]", "claude-x1", False),
        ("o?", "o1", False),
    ],
)
def test_patterns_of_models(pattern, model, opens):
    key = GatewayKey("a", HASH, models=(pattern,))
    assert (key.refusal_for("openai", [model]) is None) is opens


@pytest.mark.parametrize("value", ["", " ", "Bearer", "bearer ", "Bearer OPENAI_API_KEY", KEY])
def test_what_is_no_providers_key(value):
    assert not is_provider_credential(value)
    assert is_provider_credential(f"{value}x") is (value != KEY)
