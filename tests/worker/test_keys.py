"""Gateway keys and the deployment's own provider keys: who may spend what, and where it goes."""

import hashlib
import json
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web

from .conftest import CHAT, PROVIDER_KEY, PUBLIC_KEY, SECRET_KEY, Provider, Stage, keep

STORED = "sk-stored-0123456789abcdefghij"
EU, OTHER = "sk-stored-eu-0123456789abcdefg", "sk-other-0123456789abcdefghijk"
AZURE = "azure-stored-0123456789abcdefgh"
ALICE, BOB, MO, PAT = (f"gw_{name}-0123456789abcdefghij" for name in ("alice", "bob", "mo", "pat"))


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


CONFIGS = {
    "eu": {"provider": "scripted", "api_key": {"secret": "SCRIPTED_API_KEY_EU"}},
    "both": {
        "strategy": {"mode": "fallback"},
        "targets": [{"provider": "scripted"}, {"provider": "other"}],
    },
    "home": {"provider": "azure-openai", "azure_resource_name": "home"},
    "elsewhere": {"provider": "scripted", "custom_host": "http://localhost:{port}/elsewhere"},
}
KEYS = {
    "alice": digest(ALICE),
    "bob": {"hash": digest(BOB), "providers": ["other"]},
    "mo": {"hash": digest(MO), "models": ["gpt-4o*", "small"]},
    "pat": {"hash": digest(PAT), "langfuse": "team"},
}


@pytest.fixture
def settings(provider: Provider) -> dict[str, Any]:
    port = provider.url.rpartition(":")[2]
    providers = {
        "scripted": {"base_url": f"{provider.url}/base"},
        "other": {"base_url": f"{provider.url}/other"},
        "bare": {"base_url": f"{provider.url}/bare"},
        "azure-openai": {
            "base_url": f"{provider.url}/{{resource}}",
            "deployment_url": f"{provider.url}/{{resource}}/{{deployment}}?v={{version}}",
        },
    }
    return {
        "PROVIDERS": json.dumps(providers),
        "DEFAULT_PROVIDER": "scripted",
        "GATEWAY_API_KEYS": json.dumps(KEYS),
        "SCRIPTED_API_KEY": STORED,
        "SCRIPTED_API_KEY_EU": EU,
        "OTHER_API_KEY": OTHER,
        "AZURE_OPENAI_API_KEY": AZURE,
        "CONFIGS": json.dumps(CONFIGS).replace("{port}", port),
        "ALLOWED_CUSTOM_HOSTS": f"localhost:{port}",
        "LANGFUSE_PROJECTS": json.dumps(
            {"team": {"public_key": PUBLIC_KEY, "secret_key": SECRET_KEY}}
        ),
    }


@pytest.fixture
def stage(stage_with, settings) -> Stage:
    return stage_with(**settings)


@pytest.fixture(autouse=True)
def _kept(provider: Provider):
    async def script(request):
        await keep(provider, request)
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": "x"}}]})

    provider.script = script


def ask(stage: Stage, headers: dict[str, str], body: Any = CHAT, path: str = "/chat/completions"):
    with stage.http() as client:
        return client.post(f"/v1{path}", json=body, headers=headers)


def sent(provider: Provider) -> tuple[str, str | None]:
    """Where the only request went, and with which key."""
    (seen,) = provider.seen
    found = {name.lower(): value for name, value in seen.headers}
    sent = [found[name] for name in ("authorization", "x-api-key", "api-key") if name in found]
    assert len(sent) <= 1
    # Nothing of a gateway key has gone along, wherever it may stand.
    assert "gw_" not in str(seen.headers) + seen.target
    return seen.target, sent[0] if sent else None


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key", "x-portkey-api-key"])
def test_a_stored_key_is_used_for_a_gateway_key(stage: Stage, provider: Provider, header):
    value = f"Bearer {ALICE}" if header == "authorization" else ALICE
    assert ask(stage, {header: value}).status_code == 200
    assert sent(provider) == ("/base/chat/completions", f"Bearer {STORED}")
    observation = stage.observation()
    assert observation["metadata"]["gateway_key"] == "alice"
    assert STORED not in str(observation)
    assert ALICE not in str(observation)


def test_sdks_show_a_gateway_key_as_their_own(stage: Stage, provider: Provider):
    stage.openai(api_key=ALICE).chat.completions.create(**CHAT)
    assert sent(provider)[1] == f"Bearer {STORED}"
    provider.seen.clear()
    client = anthropic.Anthropic(base_url=stage.url, api_key=ALICE, max_retries=0)
    headers = {"x-portkey-provider": "other"}
    client.with_options(default_headers=headers).post("/v1/messages", body=CHAT, cast_to=object)
    assert sent(provider) == ("/other/messages", f"Bearer {OTHER}")
    with pytest.raises(openai.AuthenticationError, match="not valid"):
        stage.openai(api_key=f"{ALICE}x").chat.completions.create(**CHAT)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        # A caller's own key counts before the deployment's.
        ({"x-portkey-api-key": ALICE, "authorization": f"Bearer {PROVIDER_KEY}"}, PROVIDER_KEY),
        ({"authorization": f"Bearer {ALICE}", "x-api-key": PROVIDER_KEY}, PROVIDER_KEY),
        # What Portkey's client sends where it is given no key is none.
        ({"x-portkey-api-key": ALICE, "authorization": "Bearer OPENAI_API_KEY"}, STORED),
        ({"x-portkey-api-key": ALICE, "x-portkey-provider": "other"}, OTHER),
        ({"x-portkey-api-key": ALICE, "x-portkey-provider": "bare"}, None),
        ({"x-portkey-api-key": ALICE, "x-portkey-config": "eu"}, EU),
        ({"x-portkey-api-key": PAT}, STORED),
    ],
)
def test_whose_key_it_is(stage: Stage, provider: Provider, headers, key):
    assert ask(stage, headers).status_code == 200
    assert sent(provider)[1] == (key and f"Bearer {key}")


def inline(**config: Any) -> str:
    return json.dumps(config)


def host(provider: Provider) -> str:
    return f"http://localhost:{provider.url.rpartition(':')[2]}/mine"


# What a stranger, or a caller with fewer rights, may try in order to spend or see a stored key: the
# request's headers and body, the status of its refusal and what that says.
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
    ("two keys", {**A, "authorization": f"Bearer {BOB}"}, CHAT, 401, "two gateway keys"),
    ("a good and a bad one", {**A, "api-key": "gw_x"}, CHAT, 401, "not valid"),
    ("the stored key's name", {"authorization": "Bearer SCRIPTED_API_KEY"}, CHAT, 401, "asks for"),
    ("the placeholder", {"authorization": "Bearer OPENAI_API_KEY"}, CHAT, 401, "asks for"),
    # A secret that the caller names.
    (
        "a secret in a config",
        {**A, "x-portkey-config": inline(provider="other", api_key={"secret": "OTHER_API_KEY"})},
        CHAT,
        400,
        "no caller names a secret",
    ),
    (
        "another's secret in a config",
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
    ("a config that is not there", {**A, "x-portkey-config": "../eu"}, CHAT, 400, "has no config"),
    (
        "a secret's name in disguise",
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
    # An account or a deployment that the caller names.
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
    # Several of what there should be one of.
    (
        "two keys in one header",
        {"authorization": f"Bearer {ALICE}, Bearer {ALICE}"},
        CHAT,
        401,
        "not valid",
    ),
    (
        "two providers",
        {"authorization": f"Bearer {BOB}", "x-portkey-provider": "other, scripted"},
        CHAT,
        400,
        "'other, scripted' is not known",
    ),
    (
        "two providers in a config",
        {
            "authorization": f"Bearer {BOB}",
            "x-portkey-config": '{"provider": "other", "provider": "scripted"}',
        },
        CHAT,
        403,
        "not open scripted",
    ),
    ("two providers in the model", A, {"model": "@a/@other/c"}, 400, "'a' is not known"),
    ("a provider after a space", A, {"model": "@ other/c"}, 400, "' other' is not known"),
    # Beyond a key's rights.
    (
        "a provider without a model",
        {"authorization": f"Bearer {BOB}"},
        {"model": "@other"},
        403,
        "not open scripted",
    ),
    ("another provider", {"authorization": f"Bearer {BOB}"}, CHAT, 403, "not open scripted"),
    (
        "another provider, in the model",
        {"authorization": f"Bearer {BOB}", "x-portkey-provider": "scripted"},
        {**CHAT, "model": "@other/m"},
        403,
        "not open scripted",
    ),
    (
        "another provider, in a config",
        {"authorization": f"Bearer {BOB}", "x-portkey-config": "eu"},
        CHAT,
        403,
        "not open scripted",
    ),
    ("another model", {"authorization": f"Bearer {MO}"}, {"model": "o1"}, 403, "the model o1"),
    ("no model", {"authorization": f"Bearer {MO}"}, {"messages": []}, 403, "names a model"),
    ("a model in another case", {"authorization": f"Bearer {MO}"}, {"model": "GPT-4o"}, 403, "GPT"),
    (
        "a member in another case",
        {"authorization": f"Bearer {MO}"},
        {"model": "small", "Model": "o1"},
        403,
        "the model o1",
    ),
    (
        "further models",
        {"authorization": f"Bearer {MO}"},
        {"model": "small", "models": ["small", "o1"]},
        403,
        "the model o1",
    ),
    (
        "a model of a provider",
        {"authorization": f"Bearer {MO}"},
        {"model": "@other/o1"},
        403,
        "the model o1",
    ),
    ("a model that is no text", {"authorization": f"Bearer {MO}"}, {"model": ["o1"]}, 403, "o1"),
    (
        "a model that a config overrides",
        {
            "authorization": f"Bearer {MO}",
            "x-portkey-config": inline(override_params={"model": "o1"}),
        },
        {"model": "small"},
        403,
        "the model o1",
    ),
    (
        "a deployment",
        {
            "authorization": f"Bearer {MO}",
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
def test_refused(stage: Stage, provider: Provider, headers, body, status, words):
    answer = ask(stage, headers, body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]
    assert provider.seen == []
    said = answer.text + str(answer.headers) + "".join(stage.logs)
    for secret in (STORED, EU, OTHER, AZURE, SECRET_KEY, digest(ALICE)):
        assert secret not in said


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
def test_no_other_model_hides_in_a_body(stage: Stage, provider: Provider, body, content_type):
    headers = {"authorization": f"Bearer {MO}", "content-type": content_type}
    with stage.http() as client:
        answer = client.post("/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 403
    assert provider.seen == []


@pytest.mark.parametrize("path", ["/files", "/fine_tuning/jobs", "/batches"])
def test_a_key_for_some_models_opens_nothing_but_models(stage: Stage, provider: Provider, path):
    answer = ask(stage, {"authorization": f"Bearer {MO}"}, {"model": "small"}, path)
    assert answer.status_code == 403
    with stage.http() as client:
        headers = {"authorization": f"Bearer {MO}"}
        assert client.get("/v1/models", headers=headers).status_code == 403
    assert provider.seen == []


def test_rights_that_are_there(stage: Stage, provider: Provider):
    for headers, body in (
        ({"authorization": f"Bearer {MO}"}, {**CHAT, "model": "gpt-4o-mini"}),
        ({"authorization": f"Bearer {MO}"}, {**CHAT, "model": "small"}),
        ({"authorization": f"Bearer {BOB}", "x-portkey-provider": "other"}, CHAT),
        ({"authorization": f"Bearer {BOB}"}, {**CHAT, "model": "@other/o1"}),
    ):
        assert ask(stage, headers, body).status_code == 200
    assert len(provider.seen) == 4


def test_a_stored_key_goes_to_no_host_that_a_caller_names(stage: Stage, provider: Provider):
    for headers in (
        {"x-portkey-custom-host": host(provider)},
        {"x-portkey-config": inline(provider="scripted", custom_host=host(provider))},
        {"x-portkey-config": "elsewhere"},
    ):
        provider.seen.clear()
        assert ask(stage, {**A, **headers}).status_code == 200
        target, key = sent(provider)
        assert key is None
        assert not target.startswith("/base")


def test_a_stored_key_goes_for_the_account_that_the_deployer_names(stage: Stage, provider):
    headers = {**A, "x-portkey-config": "home", "x-portkey-azure-resource-name": "evil"}
    assert ask(stage, headers).status_code == 200
    assert sent(provider) == ("/home/chat/completions", AZURE)


def test_without_gateway_keys_a_stored_key_is_for_nobody(stage_with, settings, provider: Provider):
    stage: Stage = stage_with(**{**settings, "GATEWAY_API_KEYS": None})
    for headers in ({}, {"authorization": "Bearer OPENAI_API_KEY"}, {"x-portkey-config": "eu"}):
        answer = ask(stage, headers)
        assert answer.status_code == 401
        assert "no gateway keys are configured" in answer.json()["error"]["message"]
    assert provider.seen == []
    log = "\n".join(stage.gateway.logs)
    assert "SCRIPTED_API_KEY" in log
    assert "no GATEWAY_API_KEYS are configured" in log
    assert ask(stage, {"authorization": f"Bearer {PROVIDER_KEY}"}).status_code == 200
    assert sent(provider)[1] == f"Bearer {PROVIDER_KEY}"


def test_anonymous_callers_bring_their_own_key(stage_with, settings, provider: Provider):
    stage: Stage = stage_with(**settings, ALLOW_ANONYMOUS="true")
    answer = ask(stage, {})
    assert answer.status_code == 401
    assert "gateway key" in answer.json()["error"]["message"]
    assert ask(stage, {"authorization": f"Bearer {ALICE}x"}).status_code == 401
    assert provider.seen == []
    assert ask(stage, {"authorization": f"Bearer {PROVIDER_KEY}"}).status_code == 200
    assert sent(provider)[1] == f"Bearer {PROVIDER_KEY}"
    assert "gateway_key" not in stage.observation()["metadata"]
