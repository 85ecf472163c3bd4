"""Tests of `routing_configs`: parsing of configs, and the refusal of invalid ones."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import Call, Refusal
from settings.routing_configs import (
    CONFIG_HEADER,
    TIMEOUT_HEADER,
    Target,
    parse_config,
    parse_named_configs,
    read_request_timeout,
    select_config,
)
from settings.target_members import HEADER_MEMBERS, MEMBER_READERS, MODES, RetryPolicy

TARGETS = [{"provider": "openai"}, {"provider": "groq"}]


def test_targets_inherit_the_members_of_their_config():
    target = parse_config(
        {
            "strategy": {"mode": "fallback", "on_status_codes": [429, 500]},
            "retry": {"attempts": 2, "on_status_codes": [503]},
            "request_timeout": 2500,
            "override_params": {"temperature": 0, "top_p": 1},
            "cache": {"mode": "simple", "max_age": 60},
            "targets": [
                {"provider": "@OpenAI", "api_key": "sk-1", "override_params": {"top_p": 0.5}},
                {"provider": "azure-openai", "resource_name": "r", "retry": {"attempts": 1}},
            ],
        },
        trusted=False,
    )
    assert (target.mode, target.on_status_codes, target.cache_age_seconds) == (
        "fallback",
        {429, 500},
        60,
    )
    first, second = target.targets
    assert (first.path, first.provider, first.api_key) == ("config.targets[0]", "openai", "sk-1")
    assert first.override_params == {"temperature": 0, "top_p": 0.5}
    assert first.retry == RetryPolicy(2, frozenset({503}))
    assert first.timeout_seconds == second.timeout_seconds == 2.5
    assert second.headers == {"x-portkey-azure-resource-name": "r"}
    assert second.retry.attempts == 1
    assert "sk-1" not in repr(target)


@pytest.mark.parametrize("name", ["azure_resource_name", "resource_name"])
def test_both_spellings_of_azure_members_are_accepted(name):
    target = parse_config({"provider": "azure-openai", name: "r"}, trusted=False)
    assert target.headers == {"x-portkey-azure-resource-name": "r"}


def test_ignored_members_have_no_effect():
    ignored = {"retry": None, "forward_headers": ["x-a"], "strict_open_ai_compliance": False}
    assert parse_config(ignored, trusted=False) == parse_config({}, trusted=False) == Target()


def nested_config(levels: int) -> dict:
    value: dict = {"provider": "openai"}
    for _ in range(levels):
        value = {"strategy": {"mode": "fallback"}, "targets": [value]}
    return value


def test_targets_may_be_nested_three_levels_deep():
    assert len(parse_config(nested_config(3), trusted=False).leaves) == 1
    with pytest.raises(ValueError, match="deeper than 3"):
        parse_config(nested_config(4), trusted=False)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "config must be a JSON object"),
        ({"guardrails": ["g"]}, "config.guardrails is not known"),
        ({"virtual_key": "vk"}, "config.virtual_key is not known"),
        ({"targets": []}, "config.targets must be a list"),
        ({"targets": TARGETS}, "config.strategy must say"),
        ({"strategy": {"mode": "fallback"}}, "config.targets must be a list"),
        ({"strategy": {"mode": "sample"}, "targets": TARGETS}, "config.strategy must have a mode"),
        ({"strategy": {"mode": "fallback", "x": 1}, "targets": TARGETS}, "config.strategy must be"),
        (
            {"strategy": {"mode": "loadbalance"}, "targets": [{"weight": 0}]},
            "config.targets must not all have the weight 0",
        ),
        ({"strategy": {"mode": "fallback"}, "targets": [1]}, "targets[0] must be a JSON object"),
        ({"strategy": {"mode": "fallback"}, "targets": [{"cache": {}}]}, "targets[0].cache"),
        ({"strategy": {"mode": "fallback"}, "targets": TARGETS, "api_key": "k"}, "has targets"),
        ({"retry": 3}, "config.retry must be an object"),
        ({"retry": {"attempts": 6}}, "config.retry must be from 0 to 5"),
        ({"retry": {"attempts": True}}, "config.retry must be a number"),
        ({"retry": {"attempts": float("inf")}}, "config.retry must be a number"),
        ({"retry": {"attempts": 1, "on_status_codes": 500}}, "list of statuses"),
        ({"retry": {"attempts": 1, "on_status_codes": ["500"]}}, "list of statuses"),
        ({"request_timeout": 0}, "config.request_timeout must be from"),
        ({"request_timeout": "3000"}, "config.request_timeout must be a number"),
        ({"override_params": "x"}, "config.override_params must be a JSON object"),
        (
            {"override_params": {"seed": float("inf")}},
            "config.override_params must hold no number that is too large",
        ),
        ({"cache": {"mode": "semantic"}}, "config.cache must have the mode simple"),
        ({"cache": {"mode": "simple", "max_age": 0}}, "config.cache must be from 1"),
        ({"api_key": "two words"}, "config.api_key must be a key"),
        ({"api_key": "a\r\nx: y"}, "config.api_key must be a key"),
        ({"api_key": {"secret": "OPENAI_API_KEY"}}, "no caller names a secret"),
        ({"api_key": {"secret": "openai"}}, "config.api_key must name a secret"),
        ({"api_key": {"env": "X"}}, "config.api_key must be an object with secret"),
        (
            {"strategy": {"mode": "conditional", "conditions": []}, "targets": TARGETS},
            "must be a list",
        ),
        (
            {
                "strategy": {
                    "mode": "conditional",
                    "conditions": [{"query": {"metadata.a": 1}, "then": "gone"}],
                },
                "targets": TARGETS,
            },
            "names no target",
        ),
        ({"strategy": {"mode": "fallback"}, "targets": [{}] * 51}, "at most 50"),
        ({"strategy": {"mode": "fallback"}, "targets": [{"targets": [{}] * 26}] * 2}, "at most 50"),
        ({"weight": 10**400}, "config.weight must be from 0"),
        ({"request_timeout": -(10**400)}, "config.request_timeout must be from 1"),
        (
            {
                "strategy": {
                    "mode": "conditional",
                    "conditions": [{"query": {"params.m": {"$regex": "x"}}, "then": "t"}] * 51,
                },
                "targets": [{"name": "t"}],
            },
            "at most 50 times $regex",
        ),
    ],
)
def test_the_error_of_an_invalid_config_names_the_member(config, message):
    with pytest.raises(ValueError, match=r".") as raised:
        parse_config(config, trusted=False)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        # The text of a variable is not secret, and every caller could spend such a key.
        ({"provider": "openai", "api_key": "sk-1"}, '{"secret": NAME}'),
        ({"provider": "openai", "api_key": {"secret": "ANTHROPIC_API_KEY"}}, "OPENAI_API_KEY"),
        ({"provider": "openai", "api_key": {"secret": "LANGFUSE_SECRET_KEY"}}, "OPENAI_API_KEY"),
        ({"provider": "openai", "api_key": {"secret": "OPENAI_API_KEYS"}}, "OPENAI_API_KEY"),
        ({"api_key": {"secret": "OPENAI_API_KEY"}}, "must name"),
        (
            {
                "provider": "openai",
                "api_key": {"secret": "OPENAI_API_KEY"},
                "custom_host": "https://llm.example.com",
            },
            "custom_host",
        ),
    ],
)
def test_a_named_config_may_not_contain_a_key_or_another_secret(config, message):
    with pytest.raises(ValueError, match="mine: config") as raised:
        parse_named_configs({"mine": config})
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "OPENAI_API_KEY_EU"])
def test_a_named_config_may_name_the_secrets_of_its_provider(name):
    config = {"provider": "openai", "api_key": {"secret": name}}
    assert parse_named_configs({"mine": config})["mine"].secret == name


def test_a_call_selects_a_named_config_or_contains_one():
    named = parse_named_configs({"mine": {"provider": "groq"}})

    def select(value: str):
        return select_config(Call("GET", "/v1/models", "", {CONFIG_HEADER: value}), named)

    assert select("") is select("  ") is None
    assert select("mine") is named["mine"]
    inline = select('{"provider": "groq"}')
    assert isinstance(inline, Target)
    assert not inline.trusted
    for invalid in ("yours", "[]", "{", '{"provider": "groq"} x', "{" * 5000):
        assert isinstance(select(invalid), Refusal)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "9" * 30, "\uff16"])
def test_an_invalid_timeout_is_refused(value):
    headers = {TIMEOUT_HEADER: value}
    assert isinstance(read_request_timeout(Call("GET", "/", "", headers)), Refusal)


def test_a_timeout_is_read_in_milliseconds():
    assert read_request_timeout(Call("GET", "/", "", {TIMEOUT_HEADER: "1500"})) == 1.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
MEMBERS = [
    *MEMBER_READERS,
    *HEADER_MEMBERS,
    "mode",
    "conditions",
    "attempts",
    "query",
    "then",
]
CONFIGS = st.recursive(
    st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=4),
    lambda inner: st.fixed_dictionaries(
        {"targets": st.lists(inner, max_size=3)},
        optional={
            "strategy": st.fixed_dictionaries({"mode": st.sampled_from(MODES)}),
            "retry": JSON,
        },
    ),
    max_leaves=6,
)


@given(CONFIGS, st.booleans())
def test_any_json_is_a_config_or_raises_a_value_error(config, trusted):
    try:
        target = parse_config(json.loads(json.dumps(config)), trusted=trusted)
    except ValueError:
        return
    assert all(leaf.trusted == trusted for leaf in target.leaves)
    assert trusted or not any(leaf.secret for leaf in target.leaves)


def test_a_config_with_too_many_targets_uses_little_memory():
    params = {f"p{i}": 1 for i in range(4000)}
    target = {"override_params": {"a": 1}}
    config = {
        "strategy": {"mode": "fallback"},
        "override_params": params,
        "targets": [target] * 500,
    }
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="at most 50"):
            parse_config(config, trusted=False)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
