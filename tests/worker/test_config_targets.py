"""Which target of a config is called, with which body, and with which key."""

import json
from typing import Any

import anthropic
import openai
import pytest

from .conftest import CHAT, Provider, Stage
from .deployment import ALICE, PROVIDER_KEY, STORED, fallback
from .targets import (
    MESSAGES,
    assert_no_key_is_recorded,
    called,
    chat,
    fails,
    key_of,
    post,
    replies,
    set_replies,
    span_and_attempts,
    using,
)

CALLERS = f"Bearer {PROVIDER_KEY}"
OWN = "sk-of-a-target-0123456789"


@pytest.fixture
def stage(with_configs: Stage) -> Stage:
    return with_configs


@pytest.fixture(autouse=True)
def _replies(provider: Provider):
    slugs = ("first", "second", "third", "own")
    set_replies(provider, **{slug: replies(f"from the {slug}") for slug in slugs})


def balanced(**weights: float) -> dict[str, Any]:
    targets = [{"provider": slug, "weight": weight} for slug, weight in weights.items()]
    return {"strategy": {"mode": "loadbalance"}, "targets": targets}


def test_load_balancing_calls_targets_by_weight(stage: Stage, provider: Provider):
    with stage.openai(
        api_key=ALICE, default_headers=using(balanced(first=1, second=1, third=0))
    ) as client:
        # 40 calls miss one of two in one of 2**39 runs.
        texts = [
            client.chat.completions.create(**CHAT).choices[0].message.content for _ in range(40)
        ]
    assert set(texts) == {"from the first", "from the second"}
    assert [f"from the {slug}" for slug in called(provider)] == texts
    found = stage.observations(80)
    spans = {o["id"]: o for o in found if o["type"] == "SPAN"}
    calls = [o for o in found if o["type"] == "GENERATION"]
    assert len(spans) == len(calls) == 40
    for call in calls:
        assert spans[call["parent_id"]]["output"] == call["output"]


def test_load_balancing_does_not_retry_on_another_target(stage: Stage, provider: Provider):
    set_replies(provider, first=fails(500), second=replies())
    assert post(stage, using(balanced(first=1, second=0))).status_code == 500
    assert called(provider) == ["first"]


@pytest.mark.parametrize("weight", [0, 1])
def test_load_balancing_skips_a_target_that_cannot_be_called(
    stage: Stage, provider: Provider, weight
):
    """The others get its share, unless their weight is 0."""
    config = balanced(first=weight, unknown=1)
    answer = post(stage, using(config))
    assert called(provider) == ["first"] * weight
    assert answer.status_code == (200 if weight else 400)


BY_PLAN = {
    "strategy": {
        "mode": "conditional",
        "conditions": [
            {"query": {"metadata.plan": {"$eq": "paid"}}, "then": "good"},
            {"query": {"params.temperature": {"$gt": 1}}, "then": "wild"},
        ],
        "default": "cheap",
    },
    "targets": [
        {"name": "good", "provider": "first"},
        {"name": "wild", "provider": "second"},
        {"name": "cheap", "provider": "third"},
    ],
}


@pytest.mark.parametrize(
    ("metadata", "params", "name"),
    [
        ({"plan": "paid"}, {"temperature": 2}, "good"),
        ({"plan": "free"}, {"temperature": 1.5}, "wild"),
        ({}, {"temperature": 1}, "cheap"),
        ({}, {}, "cheap"),
    ],
)
def test_conditions_select_the_target(stage: Stage, provider: Provider, metadata, params, name):
    headers = using(BY_PLAN, x_portkey_metadata=json.dumps(metadata))
    reply = chat(stage, headers, **params)
    target = next(target for target in BY_PLAN["targets"] if target["name"] == name)
    assert called(provider) == [target["provider"]]
    path = f"config.targets[{BY_PLAN['targets'].index(target)}]"
    assert reply.headers["x-portkey-last-used-option-index"] == path
    span, (call,) = span_and_attempts(stage, 1)
    assert call["metadata"]["target_name"] == name
    assert span["metadata"]["target"] == path


def test_without_a_default_a_request_that_meets_no_condition_is_refused(
    stage: Stage, provider: Provider
):
    strategy = {k: v for k, v in BY_PLAN["strategy"].items() if k != "default"}
    with pytest.raises(openai.BadRequestError, match="No condition of the config is met"):
        chat(stage, using({**BY_PLAN, "strategy": strategy}))
    assert provider.received == []
    assert stage.traced_so_far() == []


def test_nested_strategies(stage: Stage, provider: Provider):
    set_replies(provider, first=fails(500), second=fails(503), third=replies())
    inner = {**balanced(second=1, first=0), "retry": {"attempts": 1}}
    reply = chat(stage, using(fallback("first", inner, {"targets": [{"provider": "third"}]})))
    assert reply.headers["x-portkey-last-used-option-index"] == "config.targets[2].targets[0]"
    assert called(provider) == ["first", "second", "second", "third"]
    span, calls = span_and_attempts(stage, 4)
    assert [o["metadata"]["target"] for o in calls] == [
        "config.targets[0]",
        "config.targets[1].targets[0]",
        "config.targets[1].targets[0]",
        "config.targets[2].targets[0]",
    ]
    assert [o["metadata"]["try"] for o in calls] == [1, 1, 2, 1]
    assert span["metadata"]["attempts"] == 4


def test_override_params_changes_only_the_named_members(stage: Stage, provider: Provider):
    set_replies(provider, first=fails(500), second=replies())
    body = (
        b'{"model": "m", "seed": 123456789012345678901, "f": 1.0, "nothing": null, '
        b'"x-unknown": {"a": [1, {"b": "\\u00e9\xc3\xa9 \\ud83d\\ude00"}]}, "temperature": 0.1, '
        b'"messages": [{"role": "user", "content": "s\xc3\xb8k \\"it\\""}]}'
    )
    overridden = {"provider": "second", "override_params": {"model": "n", "temperature": None}}
    headers = using(fallback("first", overridden), content_type="application/json")
    with stage.http() as client:
        headers["authorization"] = f"Bearer {ALICE}"
        assert client.post("/v1/chat/completions", content=body, headers=headers).is_success
    first, second = provider.received
    assert first.body == body
    assert json.loads(second.body) == {**json.loads(body), "model": "n", "temperature": None}
    assert b"123456789012345678901" in second.body
    assert b'"f": 1.0' in second.body
    span, calls = span_and_attempts(stage, 2)
    # The span has the client's request, and each attempt what was sent for it.
    assert calls[1]["metadata"]["requested_model"] == "n"
    assert calls[0]["model"] == "m"
    assert calls[0]["model_parameters"]["temperature"] == 0.1
    assert "temperature" not in calls[1]["model_parameters"]
    assert span["input"] == calls[1]["input"] == [{"role": "user", "content": 'søk "it"'}]


def test_override_params_are_inherited_and_merged(stage: Stage, provider: Provider):
    inner = {"provider": "second", "override_params": {"model": "small", "n": 1}}
    config = {**fallback(inner), "override_params": {"model": "any", "temperature": 0}}
    chat(stage, using(config))
    assert json.loads(provider.received[0].body) == {
        **CHAT,
        "model": "small",
        "n": 1,
        "temperature": 0,
    }


def test_override_params_need_a_json_object(stage: Stage, provider: Provider):
    config = {"provider": "first", "override_params": {"model": "n"}}
    headers = {"authorization": f"Bearer {ALICE}", **using(config)}
    with stage.http() as client:
        for content in (b"[1]", b"{", b"\xff"):
            answer = client.post("/v1/chat/completions", content=content, headers=headers)
            assert answer.status_code == 400
            assert "the config overrides its members" in answer.json()["error"]["message"]
    assert provider.received == []


def test_a_target_may_have_an_allowed_custom_host(stage: Stage, provider: Provider):
    port = provider.url.rpartition(":")[2]
    allowed = f"http://localhost:{port}/own/v1"
    targets = [
        {"provider": "vllm", "custom_host": "https://evil.example/v1", "api_key": OWN},
        {"provider": "vllm", "custom_host": allowed, "api_key": OWN},
    ]
    assert post(stage, using(fallback(*targets))).status_code == 200
    (request,) = provider.received
    assert request.target == "/own/v1/chat/completions"
    assert key_of(request) == f"Bearer {OWN}"
    span, _ = span_and_attempts(stage, 1)
    (skipped,) = span["metadata"]["skipped"]
    assert skipped.startswith("config.targets[0]: ")
    assert "ALLOWED_CUSTOM_HOSTS" in skipped
    refused = post(stage, using(fallback(targets[0])))
    assert refused.status_code == 403
    assert_no_key_is_recorded(stage, OWN)


def test_the_custom_host_header_does_not_apply_to_targets(stage: Stage, provider: Provider):
    host = f"http://localhost:{provider.url.rpartition(':')[2]}/own/v1"
    post(stage, using(fallback("first"), x_portkey_custom_host=host))
    assert called(provider) == ["first"]


def test_a_named_config(stage: Stage, provider: Provider):
    set_replies(provider, first=fails(500), second=replies())
    reply = chat(stage, using("one-after-the-other"))
    assert reply.headers["x-portkey-provider"] == "second"
    span, _ = span_and_attempts(stage, 2)
    assert span["metadata"]["config"] == "one-after-the-other"
    with pytest.raises(openai.BadRequestError, match="has no config 'another'"):
        chat(stage, using("another"))


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_callers_key_goes_only_to_the_named_provider(stage, provider: Provider, name):
    config = fallback("first", "second")
    headers = using(config, x_portkey_provider=name)
    answer = post(stage, headers, key=PROVIDER_KEY)
    assert answer.headers["x-portkey-provider"] == name
    assert called(provider) == [name]
    assert key_of(provider.received[0]) == CALLERS
    span, _ = span_and_attempts(stage, 1)
    if name == "second":
        (skipped,) = span["metadata"]["skipped"]
        assert skipped == (
            "config.targets[0]: This gateway holds a key for first, which is only for who shows a "
            "gateway key. Send a key of your own."
        )
    else:
        assert "skipped" not in span["metadata"]
    assert_no_key_is_recorded(stage)


def test_a_callers_key_is_not_used_for_the_other_targets_of_a_fallback(
    stage: Stage, provider: Provider
):
    """One of them has a key of its own, and the deployment has one for another."""
    set_replies(provider, first=fails(500), second=fails(500), third=replies())
    config = fallback("first", {"provider": "second", "api_key": OWN}, "offline", "third")
    headers = using(config, x_portkey_provider="first", x_portkey_api_key=ALICE)
    assert post(stage, headers, key=PROVIDER_KEY).status_code == 200
    assert [key_of(request) for request in provider.received] == [
        CALLERS,
        f"Bearer {OWN}",
        f"Bearer {STORED['third']}",
    ]
    span, _ = span_and_attempts(stage, 3)
    assert span["metadata"]["skipped"] == [
        "config.targets[2]: There is no key for offline: that of the request is not for it."
    ]
    assert_no_key_is_recorded(stage, OWN)


def test_a_callers_key_without_a_named_provider_goes_to_no_target(stage, provider: Provider):
    answer = post(stage, using(fallback("offline", "second")), key=PROVIDER_KEY)
    assert answer.status_code == 401
    assert provider.received == []
    assert stage.traced_so_far() == []


def test_keys_are_not_recorded_where_a_provider_repeats_them(stage: Stage, provider: Provider):
    """In an error, in a reply, in a header."""
    others = [f"key-number-{n}-{'x' * 9}{n}" for n in range(3)]
    keys = " ".join((*others, *STORED.values(), ALICE))
    set_replies(provider, first=fails(401, f"wrong: {keys}", x_key=others[0]), second=replies(keys))
    targets = [
        {"provider": "first", "api_key": others[0]},
        {"provider": "offline", "api_key": others[1]},
        {"provider": "second", "api_key": others[2]},
    ]
    reply = chat(stage, using(fallback(*targets)), messages=[{"role": "user", "content": keys}])
    assert reply.parse().choices[0].message.content == keys
    assert [key_of(request) for request in provider.received] == [
        f"Bearer {others[0]}",
        f"Bearer {others[2]}",
    ]
    span, calls = span_and_attempts(stage, 3)
    assert calls[0]["status_message"].startswith("HTTP 401: wrong: [redacted]")
    assert "[redacted]" in str(span["output"])
    stage.wait_for_logs("provider_unreachable")
    assert_no_key_is_recorded(stage, *others)


MALFORMED = [
    ("{", "x-portkey-config"),
    ('{"provider": 7}', "config.provider must be a text"),
    ('{"guardrails": []}', "config.guardrails is not known here"),
    ('{"targets": [{"provider": "first", "wieght": 1}]}', "config.targets[0].wieght"),
    ('{"strategy": {"mode": "race"}, "targets": [{}]}', "config.strategy must have a mode"),
    ('{"strategy": {"mode": "fallback"}, "targets": []}', "config.targets must be a list"),
    ('{"retry": {"attempts": 6}}', "config.retry must be from 0 to 5"),
    ('{"provider": "first", "request_timeout": 0}', "config.request_timeout must be from 1"),
]


@pytest.mark.parametrize(("config", "words"), MALFORMED)
def test_a_malformed_config_is_refused(stage: Stage, provider: Provider, config, words):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(stage, using(config))
    assert words in caught.value.message
    client = stage.anthropic(api_key=ALICE, default_headers=using(config))
    with pytest.raises(anthropic.BadRequestError) as native:
        client.messages.create(**MESSAGES)
    assert isinstance(native.value.body, dict)
    assert native.value.body["type"] == "error"
    assert words in native.value.message
    assert provider.received == []


@pytest.mark.parametrize("timeout", ["0", "-1", "1.5", "soon", "600001", "9" * 5000])
def test_a_malformed_timeout_is_refused(stage: Stage, provider: Provider, timeout):
    answer = post(stage, {"x-portkey-provider": "first", "x-portkey-request-timeout": timeout})
    assert answer.status_code == 400
    assert "x-portkey-request-timeout must be milliseconds" in answer.json()["error"]["message"]
    assert provider.received == []
