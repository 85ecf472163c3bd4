"""Which target of a config is asked, for what, and with whose key."""

import json
from typing import Any

import anthropic
import openai
import pytest

from .conftest import CHAT, PROVIDER_KEY, Provider, Stage
from .targets import (
    ALICE,
    MESSAGES,
    STORED,
    asked,
    assert_no_key_is_recorded,
    chat,
    fails,
    fallback,
    key_of,
    play,
    post,
    says,
    tree,
    using,
    variables,
)

CALLERS = f"Bearer {PROVIDER_KEY}"
OWN = "sk-of-a-target-0123456789"


@pytest.fixture
def stage(stage_with, environment, provider: Provider) -> Stage:
    return stage_with(**variables(provider, environment))


@pytest.fixture(autouse=True)
def _answering(provider: Provider):
    replies = {slug: says(f"from the {slug}") for slug in ("first", "second", "third", "own")}
    play(provider, **replies)


def balanced(**weights: float) -> dict[str, Any]:
    targets = [{"provider": slug, "weight": weight} for slug, weight in weights.items()]
    return {"strategy": {"mode": "loadbalance"}, "targets": targets}


def test_the_load_is_balanced(stage: Stage, provider: Provider):
    with stage.openai(
        api_key=ALICE, default_headers=using(balanced(first=1, second=1, third=0))
    ) as client:
        # 40 calls miss one of two in one of 2**39 runs.
        said = [
            client.chat.completions.create(**CHAT).choices[0].message.content for _ in range(40)
        ]
    assert set(said) == {"from the first", "from the second"}
    assert [f"from the {slug}" for slug in asked(provider)] == said
    found = stage.observations(80)
    spans = {o["id"]: o for o in found if o["type"] == "SPAN"}
    calls = [o for o in found if o["type"] == "GENERATION"]
    assert len(spans) == len(calls) == 40
    for call in calls:
        assert spans[call["parent_id"]]["output"] == call["output"]


def test_a_failure_is_not_balanced_away(stage: Stage, provider: Provider):
    play(provider, first=fails(500), second=says())
    assert post(stage, using(balanced(first=1, second=0))).status_code == 500
    assert asked(provider) == ["first"]


@pytest.mark.parametrize("weight", [0, 1])
def test_the_load_of_a_target_that_cannot_be_asked(stage: Stage, provider: Provider, weight):
    """Another one has it, if it is to have any."""
    config = balanced(first=weight, unknown=1)
    answer = post(stage, using(config))
    assert asked(provider) == ["first"] * weight
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
def test_a_target_by_condition(stage: Stage, provider: Provider, metadata, params, name):
    headers = using(BY_PLAN, x_portkey_metadata=json.dumps(metadata))
    reply = chat(stage, headers, **params)
    target = next(target for target in BY_PLAN["targets"] if target["name"] == name)
    assert asked(provider) == [target["provider"]]
    path = f"config.targets[{BY_PLAN['targets'].index(target)}]"
    assert reply.headers["x-portkey-last-used-option-index"] == path
    span, (call,) = tree(stage, 1)
    assert call["metadata"]["target_name"] == name
    assert span["metadata"]["target"] == path


def test_no_condition_is_met(stage: Stage, provider: Provider):
    strategy = {k: v for k, v in BY_PLAN["strategy"].items() if k != "default"}
    with pytest.raises(openai.BadRequestError, match="No condition of the config is met"):
        chat(stage, using({**BY_PLAN, "strategy": strategy}))
    assert provider.seen == []
    assert stage.traced_so_far() == []


def test_strategies_in_one_another(stage: Stage, provider: Provider):
    play(provider, first=fails(500), second=fails(503), third=says())
    inner = {**balanced(second=1, first=0), "retry": {"attempts": 1}}
    reply = chat(stage, using(fallback("first", inner, {"targets": [{"provider": "third"}]})))
    assert reply.headers["x-portkey-last-used-option-index"] == "config.targets[2].targets[0]"
    assert asked(provider) == ["first", "second", "second", "third"]
    span, calls = tree(stage, 4)
    assert [o["metadata"]["target"] for o in calls] == [
        "config.targets[0]",
        "config.targets[1].targets[0]",
        "config.targets[1].targets[0]",
        "config.targets[2].targets[0]",
    ]
    assert [o["metadata"]["try"] for o in calls] == [1, 1, 2, 1]
    assert span["metadata"]["attempts"] == 4


def test_only_the_named_parameters_are_overridden(stage: Stage, provider: Provider):
    play(provider, first=fails(500), second=says())
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
    first, second = provider.seen
    assert first.body == body
    assert json.loads(second.body) == {**json.loads(body), "model": "n", "temperature": None}
    assert b"123456789012345678901" in second.body
    assert b'"f": 1.0' in second.body
    span, calls = tree(stage, 2)
    # The span has what the client said, and each attempt what was sent for it.
    assert calls[1]["metadata"]["requested_model"] == "n"
    assert calls[0]["model"] == "m"
    assert calls[0]["model_parameters"]["temperature"] == 0.1
    assert "temperature" not in calls[1]["model_parameters"]
    assert span["input"] == calls[1]["input"] == [{"role": "user", "content": 'søk "it"'}]


def test_overrides_are_inherited_and_merged(stage: Stage, provider: Provider):
    inner = {"provider": "second", "override_params": {"model": "small", "n": 1}}
    config = {**fallback(inner), "override_params": {"model": "any", "temperature": 0}}
    chat(stage, using(config))
    assert json.loads(provider.seen[0].body) == {
        **CHAT,
        "model": "small",
        "n": 1,
        "temperature": 0,
    }


def test_a_body_that_cannot_be_overridden(stage: Stage, provider: Provider):
    config = {"provider": "first", "override_params": {"model": "n"}}
    headers = {"authorization": f"Bearer {ALICE}", **using(config)}
    with stage.http() as client:
        for content in (b"[1]", b"{", b"\xff"):
            answer = client.post("/v1/chat/completions", content=content, headers=headers)
            assert answer.status_code == 400
            assert "the config overrides its members" in answer.json()["error"]["message"]
    assert provider.seen == []


def test_custom_hosts_of_targets(stage: Stage, provider: Provider):
    port = provider.url.rpartition(":")[2]
    allowed = f"http://localhost:{port}/own/v1"
    targets = [
        {"provider": "vllm", "custom_host": "https://evil.example/v1", "api_key": OWN},
        {"provider": "vllm", "custom_host": allowed, "api_key": OWN},
    ]
    assert post(stage, using(fallback(*targets))).status_code == 200
    (seen,) = provider.seen
    assert seen.target == "/own/v1/chat/completions"
    assert key_of(seen) == f"Bearer {OWN}"
    span, _ = tree(stage, 1)
    (skipped,) = span["metadata"]["skipped"]
    assert skipped.startswith("config.targets[0]: ")
    assert "ALLOWED_CUSTOM_HOSTS" in skipped
    refused = post(stage, using(fallback(targets[0])))
    assert refused.status_code == 403
    assert_no_key_is_recorded(stage, OWN)


def test_the_host_of_the_request_is_for_no_target(stage: Stage, provider: Provider):
    host = f"http://localhost:{provider.url.rpartition(':')[2]}/own/v1"
    post(stage, using(fallback("first"), x_portkey_custom_host=host))
    assert asked(provider) == ["first"]


def test_a_config_by_its_name(stage: Stage, provider: Provider):
    play(provider, first=fails(500), second=says())
    reply = chat(stage, using("one-after-the-other"))
    assert reply.headers["x-portkey-provider"] == "second"
    span, _ = tree(stage, 2)
    assert span["metadata"]["config"] == "one-after-the-other"
    with pytest.raises(openai.BadRequestError, match="has no config 'another'"):
        chat(stage, using("another"))


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_callers_key_goes_to_the_provider_that_it_names(stage, provider: Provider, name):
    config = fallback("first", "second")
    headers = using(config, x_portkey_provider=name)
    answer = post(stage, headers, key=PROVIDER_KEY)
    assert answer.headers["x-portkey-provider"] == name
    assert asked(provider) == [name]
    assert key_of(provider.seen[0]) == CALLERS
    span, _ = tree(stage, 1)
    if name == "second":
        (skipped,) = span["metadata"]["skipped"]
        assert skipped == (
            "config.targets[0]: This gateway holds a key for first, which is only for who shows a "
            "gateway key. Send a key of your own."
        )
    else:
        assert "skipped" not in span["metadata"]
    assert_no_key_is_recorded(stage)


def test_a_callers_key_stays_with_its_provider_in_a_fallback(stage: Stage, provider: Provider):
    """The other target has a key of its own, another one the deployment's, for a gateway key."""
    play(provider, first=fails(500), second=fails(500), third=says())
    config = fallback("first", {"provider": "second", "api_key": OWN}, "nobody", "third")
    headers = using(config, x_portkey_provider="first", x_portkey_api_key=ALICE)
    assert post(stage, headers, key=PROVIDER_KEY).status_code == 200
    assert [key_of(seen) for seen in provider.seen] == [
        CALLERS,
        f"Bearer {OWN}",
        f"Bearer {STORED['third']}",
    ]
    span, _ = tree(stage, 3)
    assert span["metadata"]["skipped"] == [
        "config.targets[2]: There is no key for nobody: that of the request is not for it."
    ]
    assert_no_key_is_recorded(stage, OWN)


def test_a_callers_key_of_which_nobody_knows_whose_it_is_goes_nowhere(stage, provider: Provider):
    answer = post(stage, using(fallback("nobody", "second")), key=PROVIDER_KEY)
    assert answer.status_code == 401
    assert provider.seen == []
    assert stage.traced_so_far() == []


def test_keys_of_a_config_appear_nowhere(stage: Stage, provider: Provider):
    """Nor where a provider says them back: in an error, in an answer, in a header."""
    others = [f"key-number-{n}-{'x' * 9}{n}" for n in range(3)]
    said = " ".join((*others, *STORED.values(), ALICE))
    play(provider, first=fails(401, f"wrong: {said}", x_said=others[0]), second=says(said))
    targets = [
        {"provider": "first", "api_key": others[0]},
        {"provider": "nobody", "api_key": others[1]},
        {"provider": "second", "api_key": others[2]},
    ]
    reply = chat(stage, using(fallback(*targets)), messages=[{"role": "user", "content": said}])
    assert reply.parse().choices[0].message.content == said
    assert [key_of(seen) for seen in provider.seen] == [
        f"Bearer {others[0]}",
        f"Bearer {others[2]}",
    ]
    span, calls = tree(stage, 3)
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
def test_a_malformed_config(stage: Stage, provider: Provider, config, words):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(stage, using(config))
    assert words in caught.value.message
    client = stage.anthropic(api_key=ALICE, default_headers=using(config))
    with pytest.raises(anthropic.BadRequestError) as native:
        client.messages.create(**MESSAGES)
    assert isinstance(native.value.body, dict)
    assert native.value.body["type"] == "error"
    assert words in native.value.message
    assert provider.seen == []


@pytest.mark.parametrize("timeout", ["0", "-1", "1.5", "soon", "600001", "9" * 5000])
def test_a_malformed_timeout(stage: Stage, provider: Provider, timeout):
    answer = post(stage, {"x-portkey-provider": "first", "x-portkey-request-timeout": timeout})
    assert answer.status_code == 400
    assert "x-portkey-request-timeout must be milliseconds" in answer.json()["error"]["message"]
    assert provider.seen == []
