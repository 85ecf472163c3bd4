"""Gateway keys and the deployment's own provider keys: which callers may use which, and for which
hosts."""

import json
from typing import Any

import anthropic
import openai
import pytest

from .conftest import CHAT, SECRET_KEY, Provider, Stage, reply_json
from .deployment import (
    ALICE,
    OTHER_ONLY,
    PROVIDER_KEY,
    SOME_MODELS,
    STORED_AZURE,
    STORED_OTHER,
    STORED_SCRIPTED,
    STORED_SCRIPTED_EU,
    TEAM,
    digest,
)

REPLY = {"choices": [{"message": {"role": "assistant", "content": "x"}}]}


@pytest.fixture
def stage(with_keys: Stage) -> Stage:
    return with_keys


@pytest.fixture(autouse=True)
def _replies(provider: Provider):
    reply_json(provider, REPLY)


def call(stage: Stage, headers: dict[str, str], body: Any = CHAT, path: str = "/chat/completions"):
    with stage.http() as client:
        return client.post(f"/v1{path}", json=body, headers=headers)


def target_and_key(provider: Provider) -> tuple[str, str | None]:
    """Where the only request went, and the provider key in it."""
    (request,) = provider.received
    found = [request.header(name) for name in ("authorization", "x-api-key", "api-key")]
    keys = [key for key in found if key]
    assert len(keys) <= 1
    # No gateway key is sent on in any header.
    assert "gw_" not in str(request.headers) + request.target
    return request.target, keys[0] if keys else None


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key", "x-portkey-api-key"])
def test_a_stored_key_is_used_for_a_gateway_key(stage: Stage, provider: Provider, header):
    value = f"Bearer {ALICE}" if header == "authorization" else ALICE
    assert call(stage, {header: value}).status_code == 200
    assert target_and_key(provider) == ("/base/chat/completions", f"Bearer {STORED_SCRIPTED}")
    observation = stage.observation()
    assert observation["metadata"]["gateway_key"] == "alice"
    assert STORED_SCRIPTED not in str(observation)
    assert ALICE not in str(observation)


def test_sdks_send_a_gateway_key_as_their_api_key(stage: Stage, provider: Provider):
    stage.openai(api_key=ALICE).chat.completions.create(**CHAT)
    assert target_and_key(provider)[1] == f"Bearer {STORED_SCRIPTED}"
    provider.received.clear()
    client = anthropic.Anthropic(base_url=stage.url, api_key=ALICE, max_retries=0)
    headers = {"x-portkey-provider": "other"}
    client.with_options(default_headers=headers).post("/v1/messages", body=CHAT, cast_to=object)
    assert target_and_key(provider) == ("/other/messages", f"Bearer {STORED_OTHER}")
    with pytest.raises(openai.AuthenticationError, match="not valid"):
        stage.openai(api_key=f"{ALICE}x").chat.completions.create(**CHAT)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        # A caller's own key is used before the deployment's.
        ({"x-portkey-api-key": ALICE, "authorization": f"Bearer {PROVIDER_KEY}"}, PROVIDER_KEY),
        ({"authorization": f"Bearer {ALICE}", "x-api-key": PROVIDER_KEY}, PROVIDER_KEY),
        # The placeholder that Portkey's client sends without a key is not a key.
        ({"x-portkey-api-key": ALICE, "authorization": "Bearer OPENAI_API_KEY"}, STORED_SCRIPTED),
        ({"x-portkey-api-key": ALICE, "x-portkey-provider": "other"}, STORED_OTHER),
        ({"x-portkey-api-key": ALICE, "x-portkey-provider": "bare"}, None),
        ({"x-portkey-api-key": ALICE, "x-portkey-config": "eu"}, STORED_SCRIPTED_EU),
        ({"x-portkey-api-key": TEAM}, STORED_SCRIPTED),
    ],
)
def test_which_provider_key_is_used(stage: Stage, provider: Provider, headers, key):
    assert call(stage, headers).status_code == 200
    assert target_and_key(provider)[1] == (key and f"Bearer {key}")


def inline(**config: Any) -> str:
    return json.dumps(config)


def host(provider: Provider) -> str:
    return f"http://localhost:{provider.url.rpartition(':')[2]}/mine"


# Attempts to use or see a stored key without the right to it: headers and body of the request,
# status of the refusal, and a part of its message.
A = {"x-portkey-api-key": ALICE}
HOSTILE: list[tuple[str, dict[str, str], Any, int, str]] = [
    ("no key", {}, CHAT, 401, "asks for a gateway key"),
    ("an empty one", {"authorization": "Bearer"}, CHAT, 401, "asks for"),
    ("its beginning", {"authorization": f"Bearer {ALICE[:-1]}"}, CHAT, 401, "not valid"),
    ("its hash", {"authorization": f"Bearer {digest(ALICE)}"}, CHAT, 401, "asks for"),
    ("its hash as a key", {"authorization": f"Bearer gw_{digest(ALICE)}"}, CHAT, 401, "not valid"),
    ("the prefix alone", {"authorization": "Bearer gw_"}, CHAT, 401, "not valid"),
    ("another case", {"authorization": f"Bearer {ALICE.upper()}"}, CHAT, 401, "asks for"),
    ("the name", {"authorization": "Bearer alice"}, CHAT, 401, "asks for"),
    ("Basic", {"authorization": f"Basic {ALICE}"}, CHAT, 401, "asks for"),
    ("two keys", {**A, "authorization": f"Bearer {OTHER_ONLY}"}, CHAT, 401, "two gateway keys"),
    ("a good and a bad one", {**A, "api-key": "gw_x"}, CHAT, 401, "not valid"),
    ("the stored key's name", {"authorization": "Bearer SCRIPTED_API_KEY"}, CHAT, 401, "asks for"),
    ("the placeholder", {"authorization": "Bearer OPENAI_API_KEY"}, CHAT, 401, "asks for"),
    # A secret, named by the caller.
    (
        "a secret in a config",
        {**A, "x-portkey-config": inline(provider="other", api_key={"secret": "OTHER_API_KEY"})},
        CHAT,
        400,
        "no caller names a secret",
    ),
    (
        "the secret of another provider in a config",
        {**A, "x-portkey-config": inline(provider="other", api_key={"secret": "SCRIPTED_API_KEY"})},
        CHAT,
        400,
        "no caller names a secret",
    ),
    (
        "a config of the config",
        {**A, "x-portkey-config": inline(config="eu")},
        CHAT,
        400,
        "config.config is not known",
    ),
    ("an unknown config", {**A, "x-portkey-config": "../eu"}, CHAT, 400, "has no config"),
    (
        "a secret in a config with escapes",
        {
            **A,
            "x-portkey-config": r'{"provider": "other", "api_\u006bey": {"secret": "O_API_KEY"}}',
        },
        CHAT,
        400,
        "no caller names a secret",
    ),
    (
        "the key of Langfuse in a config",
        {
            **A,
            "x-portkey-config": inline(provider="x-ai", api_key={"secret": "LANGFUSE_SECRET_KEY"}),
        },
        CHAT,
        400,
        "no caller names a secret",
    ),
    (
        "headers in a config",
        {**A, "x-portkey-config": inline(headers={"authorization": "x"})},
        CHAT,
        400,
        "config.headers is not known",
    ),
    (
        "a config nested deep",
        {**A, "x-portkey-config": 5000 * '{"a":'},
        CHAT,
        400,
        "nested too deep",
    ),
    (
        "a host in a host",
        {**A, "x-portkey-config": inline(custom_host="http://localhost:1@evil.example")},
        CHAT,
        400,
        "base URL",
    ),
    # An account or a deployment, named by the caller.
    (
        "an account of the caller's",
        {**A, "x-portkey-provider": "azure-openai", "x-portkey-azure-resource-name": "evil"},
        CHAT,
        403,
        "x-portkey-azure-resource-name",
    ),
    (
        "an account in the caller's config",
        {**A, "x-portkey-config": inline(provider="azure-openai", resource_name="evil")},
        CHAT,
        403,
        "x-portkey-azure-resource-name",
    ),
    (
        "an account in a target of the caller's config",
        {
            **A,
            "x-portkey-config": inline(
                strategy={"mode": "fallback"},
                targets=[{"provider": "azure-openai", "azure_resource_name": "evil"}],
            ),
        },
        CHAT,
        403,
        "x-portkey-azure-resource-name",
    ),
    (
        "another host for an account",
        {
            **A,
            "authorization": f"Bearer {PROVIDER_KEY}",
            "x-portkey-provider": "azure-openai",
            "x-portkey-azure-resource-name": "evil.example/",
        },
        CHAT,
        400,
        "x-portkey-azure-resource-name must be",
    ),
    # Several values in place of one.
    (
        "two keys in one header",
        {"authorization": f"Bearer {ALICE}, Bearer {ALICE}"},
        CHAT,
        401,
        "not valid",
    ),
    (
        "two providers",
        {"authorization": f"Bearer {OTHER_ONLY}", "x-portkey-provider": "other, scripted"},
        CHAT,
        400,
        "'other, scripted' is not known",
    ),
    (
        "two providers in a config",
        {
            "authorization": f"Bearer {OTHER_ONLY}",
            "x-portkey-config": '{"provider": "other", "provider": "scripted"}',
        },
        CHAT,
        403,
        "not open scripted",
    ),
    ("two providers in the model", A, {"model": "@a/@other/c"}, 400, "'a' is not known"),
    ("a provider after a space", A, {"model": "@ other/c"}, 400, "' other' is not known"),
    # Providers and models that a key has no right to.
    (
        "a provider without a model",
        {"authorization": f"Bearer {OTHER_ONLY}"},
        {"model": "@other"},
        403,
        "not open scripted",
    ),
    ("another provider", {"authorization": f"Bearer {OTHER_ONLY}"}, CHAT, 403, "not open scripted"),
    (
        "another provider, in the model",
        {"authorization": f"Bearer {OTHER_ONLY}", "x-portkey-provider": "scripted"},
        {**CHAT, "model": "@other/m"},
        403,
        "not open scripted",
    ),
    (
        "another provider, in a config",
        {"authorization": f"Bearer {OTHER_ONLY}", "x-portkey-config": "eu"},
        CHAT,
        403,
        "not open scripted",
    ),
    (
        "another model",
        {"authorization": f"Bearer {SOME_MODELS}"},
        {"model": "o1"},
        403,
        "the model o1",
    ),
    (
        "no model",
        {"authorization": f"Bearer {SOME_MODELS}"},
        {"messages": []},
        403,
        "names a model",
    ),
    (
        "a model in another case",
        {"authorization": f"Bearer {SOME_MODELS}"},
        {"model": "GPT-4o"},
        403,
        "GPT",
    ),
    (
        "a member in another case",
        {"authorization": f"Bearer {SOME_MODELS}"},
        {"model": "small", "Model": "o1"},
        403,
        "the model o1",
    ),
    (
        "further models",
        {"authorization": f"Bearer {SOME_MODELS}"},
        {"model": "small", "models": ["small", "o1"]},
        403,
        "the model o1",
    ),
    (
        "a model of a provider",
        {"authorization": f"Bearer {SOME_MODELS}"},
        {"model": "@other/o1"},
        403,
        "the model o1",
    ),
    (
        "a model that is no text",
        {"authorization": f"Bearer {SOME_MODELS}"},
        {"model": ["o1"]},
        403,
        "o1",
    ),
    (
        "a model that a config overrides",
        {
            "authorization": f"Bearer {SOME_MODELS}",
            "x-portkey-config": inline(override_params={"model": "o1"}),
        },
        {"model": "small"},
        403,
        "the model o1",
    ),
    (
        "a deployment",
        {
            "authorization": f"Bearer {SOME_MODELS}",
            "x-api-key": PROVIDER_KEY,
            "x-portkey-provider": "azure-openai",
            "x-portkey-azure-resource-name": "r",
            "x-portkey-azure-deployment-id": "o1",
            "x-portkey-azure-api-version": "1",
        },
        {"model": "small"},
        403,
        "the model o1",
    ),
]


@pytest.mark.parametrize(
    ("headers", "body", "status", "words"),
    [row[1:] for row in HOSTILE],
    ids=[row[0] for row in HOSTILE],
)
def test_a_call_without_the_right_to_a_stored_key_is_refused(
    stage: Stage, provider: Provider, headers, body, status, words
):
    answer = call(stage, headers, body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]
    assert provider.received == []
    texts = answer.text + str(answer.headers) + "".join(stage.logs)
    for secret in (
        STORED_SCRIPTED,
        STORED_SCRIPTED_EU,
        STORED_OTHER,
        STORED_AZURE,
        SECRET_KEY,
        digest(ALICE),
    ):
        assert secret not in texts


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"model": "small", "model": "o1"}', "application/json"),
        (b'{"model": "o1", "model": "small"}', "application/json"),
        (b'{"\\u006dodel": "o1"}', "application/json"),
        (b'{"model": "small"}', "application/x-www-form-urlencoded"),
        (b'{"model": "small"}', "multipart/form-data; boundary=x"),
        (b'{"model": "small"', "application/json"),
        (b'[["model", "small"]]', "application/json"),
        (b'\xff\xfe{"model": "small"}', "application/json"),
        (b'{"model": "small"}' + b" " * 5_000_000, "application/json"),
    ],
)
def test_a_body_whose_model_is_ambiguous_is_refused(
    stage: Stage, provider: Provider, body, content_type
):
    headers = {"authorization": f"Bearer {SOME_MODELS}", "content-type": content_type}
    with stage.http() as client:
        answer = client.post("/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 403
    assert provider.received == []


@pytest.mark.parametrize("path", ["/files", "/fine_tuning/jobs", "/batches"])
def test_a_key_for_some_models_has_no_right_to_other_paths(stage: Stage, provider: Provider, path):
    answer = call(stage, {"authorization": f"Bearer {SOME_MODELS}"}, {"model": "small"}, path)
    assert answer.status_code == 403
    with stage.http() as client:
        headers = {"authorization": f"Bearer {SOME_MODELS}"}
        assert client.get("/v1/models", headers=headers).status_code == 403
    assert provider.received == []


def test_calls_within_the_rights_of_a_key(stage: Stage, provider: Provider):
    for headers, body in (
        ({"authorization": f"Bearer {SOME_MODELS}"}, {**CHAT, "model": "gpt-4o-mini"}),
        ({"authorization": f"Bearer {SOME_MODELS}"}, {**CHAT, "model": "small"}),
        ({"authorization": f"Bearer {OTHER_ONLY}", "x-portkey-provider": "other"}, CHAT),
        ({"authorization": f"Bearer {OTHER_ONLY}"}, {**CHAT, "model": "@other/o1"}),
    ):
        assert call(stage, headers, body).status_code == 200
    assert len(provider.received) == 4


def test_a_stored_key_is_not_sent_to_a_custom_host(stage: Stage, provider: Provider):
    for headers in (
        {"x-portkey-custom-host": host(provider)},
        {"x-portkey-config": inline(provider="scripted", custom_host=host(provider))},
        {"x-portkey-config": "elsewhere"},
    ):
        provider.received.clear()
        assert call(stage, {**A, **headers}).status_code == 200
        target, key = target_and_key(provider)
        assert key is None
        assert not target.startswith("/base")


def test_a_stored_key_is_used_with_the_account_of_a_named_config(stage: Stage, provider: Provider):
    headers = {**A, "x-portkey-config": "home", "x-portkey-azure-resource-name": "evil"}
    assert call(stage, headers).status_code == 200
    assert target_and_key(provider) == ("/home/chat/completions", STORED_AZURE)


def test_without_gateway_keys_a_stored_key_is_not_used(with_variables: Stage, provider: Provider):
    for headers in ({}, {"authorization": "Bearer OPENAI_API_KEY"}, {"x-portkey-config": "stored"}):
        answer = call(with_variables, headers)
        assert answer.status_code == 401
        assert "no gateway keys are configured" in answer.json()["error"]["message"]
    assert provider.received == []
    log = "\n".join(with_variables.gateway.logs)
    assert "SCRIPTED_API_KEY" in log
    assert "no GATEWAY_API_KEYS are configured" in log
    assert call(with_variables, {"authorization": f"Bearer {PROVIDER_KEY}"}).status_code == 200
    assert target_and_key(provider)[1] == f"Bearer {PROVIDER_KEY}"


def test_anonymous_callers_need_a_provider_key(with_configs: Stage, provider: Provider):
    scripted = {"x-portkey-provider": "scripted"}
    answer = call(with_configs, scripted)
    assert answer.status_code == 401
    assert "gateway key" in answer.json()["error"]["message"]
    wrong = {**scripted, "authorization": f"Bearer {ALICE}x"}
    assert call(with_configs, wrong).status_code == 401
    assert provider.received == []
    own = {**scripted, "authorization": f"Bearer {PROVIDER_KEY}"}
    assert call(with_configs, own).status_code == 200
    assert target_and_key(provider)[1] == f"Bearer {PROVIDER_KEY}"
    assert "gateway_key" not in with_configs.observation()["metadata"]
