"""The URL and the credential header of a call to each provider.

The scripted provider stands for all of them: `PROVIDERS` replaces their hosts, and leaves the rest
of their URLs and their credential headers as they are.
"""

import http.client
import json
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web

from .conftest import CHAT, TIMEOUT_SECONDS, Provider, ReceivedRequest, Stage, record
from .deployment import PROVIDER_KEY

HI: Any = [{"role": "user", "content": "hi"}]
OPENAI_REPLY = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "served-model",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
    ],
}
ANTHROPIC_REPLY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "served-model",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
CREDENTIALS = ("authorization", "x-api-key", "api-key")


@pytest.fixture(autouse=True)
def _replies(provider: Provider):
    async def script(request):
        await record(provider, request)
        native = request.path.endswith("/messages")
        return web.json_response(ANTHROPIC_REPLY if native else OPENAI_REPLY)

    provider.script = script


@pytest.fixture
def everywhere(stage_with, environment: dict[str, Any], provider: Provider) -> Stage:
    azure = f"{provider.url}/azure/{{resource}}/openai"
    moved = {
        "anthropic": {"base_url": f"{provider.url}/anthropic/v1"},
        "azure-openai": {
            "base_url": f"{azure}/v1",
            "deployment_url": f"{azure}/deployments/{{deployment}}?api-version={{version}}",
        },
        "workers-ai": {"base_url": f"{provider.url}/accounts/{{account}}/ai/v1"},
        "bedrock": {"base_url": f"{provider.url}/bedrock/{{region}}/openai/v1"},
        "groq": {"base_url": f"{provider.url}/groq"},
        "openrouter": {"base_url": f"{provider.url}/openrouter"},
        "jina": {"base_url": f"{provider.url}/jina"},
        "mine": {
            "base_url": f"{provider.url}/mine",
            "credential": "api-key",
            "headers": {"x-team": "search"},
        },
    }
    text = json.dumps({**json.loads(environment["PROVIDERS"]), **moved})
    return stage_with(
        PROVIDERS=text[:500],
        PROVIDERS_2=text[500:],  # a variable holds at most 5 KB
        AWS_REGION="eu-west-1",
        ALLOWED_CUSTOM_HOSTS=f"llm.example.com, *.example.org, {provider.url.split('//')[1]}",
    )


def chat(stage: Stage, model="m", api_key=PROVIDER_KEY, **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    client = stage.openai(api_key=api_key)
    return client.chat.completions.create(model=model, messages=HI, extra_headers=named)


def credentials(request: ReceivedRequest) -> dict[str, str]:
    """The headers with a credential."""
    headers = {name.lower(): value for name, value in request.headers}
    return {name: headers[name] for name in CREDENTIALS if name in headers}


BEARER = {"authorization": f"Bearer {PROVIDER_KEY}"}


@pytest.mark.parametrize(
    ("headers", "target", "credential"),
    [
        ({"x_portkey_provider": "groq"}, "/groq/chat/completions", BEARER),
        ({"x_portkey_provider": "anthropic"}, "/anthropic/v1/chat/completions", BEARER),
        (
            {"x_portkey_provider": "azure-openai", "x_portkey_azure_resource_name": "res-1"},
            "/azure/res-1/openai/v1/chat/completions",
            {"api-key": PROVIDER_KEY},
        ),
        (
            {
                "x_portkey_provider": "azure-openai",
                "x_portkey_azure_resource_name": "res-1",
                "x_portkey_azure_deployment_id": "gpt-4.1",
                "x_portkey_azure_api_version": "2025-03-01-preview",
            },
            "/azure/res-1/openai/deployments/gpt-4.1/chat/completions"
            "?api-version=2025-03-01-preview",
            {"api-key": PROVIDER_KEY},
        ),
        (
            {"x_portkey_provider": "workers-ai", "x_portkey_workers_ai_account_id": "acc0"},
            "/accounts/acc0/ai/v1/chat/completions",
            BEARER,
        ),
        (
            {"x_portkey_provider": "bedrock"},
            "/bedrock/eu-west-1/openai/v1/chat/completions",
            BEARER,
        ),
        (
            {"x_portkey_provider": "bedrock", "x_portkey_aws_region": "us-west-2"},
            "/bedrock/us-west-2/openai/v1/chat/completions",
            BEARER,
        ),
        ({"x_portkey_provider": "mine"}, "/mine/chat/completions", {"api-key": PROVIDER_KEY}),
    ],
)
def test_an_openai_client_reaches_each_provider(
    everywhere: Stage, provider: Provider, headers, target, credential
):
    assert chat(everywhere, **headers).choices[0].message.content == "hello"
    (request,) = provider.received
    assert request.target == target
    assert credentials(request) == credential
    names = {name.lower() for name, _ in request.headers}
    assert not any(name.startswith("x-portkey") for name in names)
    assert ("x-team" in names) == (headers["x_portkey_provider"] == "mine")
    assert "anthropic-version" not in names
    observation = everywhere.observation()
    assert observation["metadata"]["provider"] == headers["x_portkey_provider"]
    assert PROVIDER_KEY not in str(everywhere.inbox.requests)


@pytest.mark.parametrize(
    ("options", "headers", "target", "credential"),
    [
        ({}, {}, "/anthropic/v1/messages", {"x-api-key": PROVIDER_KEY}),
        # Claude Code's login: a token, not an API key.
        (
            {"api_key": None, "auth_token": "sk-ant-oat01-0123456789"},
            {},
            "/anthropic/v1/messages",
            {"authorization": "Bearer sk-ant-oat01-0123456789"},
        ),
        ({}, {"x-portkey-provider": "openrouter"}, "/openrouter/messages", BEARER),
        (
            {"api_key": None, "auth_token": PROVIDER_KEY},
            {},
            "/anthropic/v1/messages",
            {"x-api-key": PROVIDER_KEY},
        ),
    ],
)
def test_an_anthropic_client_reaches_each_provider(
    everywhere: Stage, provider: Provider, options, headers, target, credential
):
    reply = everywhere.anthropic(**options).messages.create(
        model="claude-opus-4-6",
        max_tokens=9,
        messages=HI,
        extra_headers=headers,
    )
    assert reply.to_dict()["content"] == ANTHROPIC_REPLY["content"]
    (request,) = provider.received
    assert request.target == target
    assert credentials(request) == credential
    assert {name.lower(): value for name, value in request.headers}["anthropic-version"]


def test_the_version_of_anthropics_api_is_added_where_it_is_missing(everywhere, provider):
    with everywhere.http() as client:
        headers = {"x-api-key": PROVIDER_KEY}
        client.post("/v1/messages", json={"model": "m", "messages": HI}, headers=headers)
    assert dict(provider.received[0].headers)["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(
    ("model", "headers", "target", "sent"),
    [
        ("@groq/llama-3.3-70b", {}, "/groq/chat/completions", "llama-3.3-70b"),
        ("@Groq/openai/gpt-oss", {}, "/groq/chat/completions", "openai/gpt-oss"),
        ("@anthropic/claude", {}, "/anthropic/v1/chat/completions", "claude"),
        (
            "@workers-ai/@cf/meta/llama",
            {"x_portkey_workers_ai_account_id": "acc0"},
            "/accounts/acc0/ai/v1/chat/completions",
            "@cf/meta/llama",
        ),
        ("@groq/m", {"x_portkey_provider": "groq"}, "/groq/chat/completions", "m"),
        # The header has priority, and a prefix for another provider stays.
        ("@groq/m", {"x_portkey_provider": "openrouter"}, "/openrouter/chat/completions", None),
        ("openai/gpt-4.1", {"x_portkey_provider": "groq"}, "/groq/chat/completions", None),
        ("@cf/meta/llama", {"x_portkey_provider": "groq"}, "/groq/chat/completions", None),
    ],
)
def test_the_prefix_of_a_model_names_the_provider(
    everywhere: Stage, provider, model, headers, target, sent
):
    chat(everywhere, model=model, **headers)
    (request,) = provider.received
    assert request.target == target
    assert json.loads(request.body)["model"] == (sent or model)
    observation = everywhere.observation()
    assert observation["model"] == "served-model"
    assert observation["metadata"]["requested_model"] == model


def test_only_the_prefix_of_the_model_is_removed_from_a_body(everywhere: Stage, provider: Provider):
    check_body_without_prefix(everywhere, provider)


def test_only_the_prefix_of_the_model_is_removed_from_a_body_without_tracing(
    untraced: Stage, provider: Provider
):
    check_body_without_prefix(untraced, provider)


def check_body_without_prefix(stage: Stage, provider: Provider) -> None:
    body = b'{ "x":1,"x":2 ,"u":"\\u00e9\xc3\xa9", "model" : "@groq/m", "f":1.0, "n":1e400}\n'
    with stage.http() as client:
        client.post("/v1/chat/completions", content=body, headers=BEARER)
    assert provider.received[0].body == body.replace(b"@groq/", b"")


def test_a_large_body_is_searched_completely_for_its_model(everywhere: Stage, provider: Provider):
    text = "x" * 1_000_000
    chat_body = {"messages": [{"role": "user", "content": text}], "model": "@groq/m", "n": 1}
    with everywhere.http() as client:
        client.post("/v1/chat/completions", json=chat_body, headers=BEARER)
    (request,) = provider.received
    assert request.target == "/groq/chat/completions"
    assert json.loads(request.body) == {**chat_body, "model": "m"}


def test_a_body_that_is_too_large_to_be_searched_needs_a_named_provider(everywhere, provider):
    big = {"messages": [{"role": "user", "content": "x" * 5_000_000}], "model": "@groq/m"}
    with everywhere.http() as client:
        refused = client.post("/v1/chat/completions", json=big, headers=BEARER)
        assert refused.status_code == 413
        assert "x-portkey-provider" in refused.json()["error"]["message"]
        assert provider.received == []
        named = {**BEARER, "x-portkey-provider": "groq"}
        assert client.post("/v1/chat/completions", json=big, headers=named).status_code == 200


def test_refusals_as_exceptions_of_the_sdks(everywhere: Stage, provider: Provider):
    with pytest.raises(openai.BadRequestError, match="groq"):
        chat(everywhere, model="@nowhere/m")
    with pytest.raises(openai.BadRequestError, match="x-portkey-azure-resource-name"):
        chat(everywhere, x_portkey_provider="azure-openai")
    with pytest.raises(openai.BadRequestError, match="x-portkey-custom-host"):
        chat(everywhere, x_portkey_provider="ollama")
    with pytest.raises(openai.NotFoundError, match="/v1/embeddings"):
        chat(everywhere, x_portkey_provider="jina")
    with pytest.raises(openai.PermissionDeniedError, match="ALLOWED_CUSTOM_HOSTS"):
        chat(everywhere, x_portkey_custom_host="https://evil.example/v1")
    with pytest.raises(anthropic.PermissionDeniedError, match="ALLOWED_CUSTOM_HOSTS"):
        everywhere.anthropic().messages.create(
            model="m",
            max_tokens=9,
            messages=HI,
            extra_headers={"x-portkey-custom-host": "https://evil.example/v1"},
        )
    assert provider.received == []
    assert everywhere.traced_so_far() == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
@pytest.mark.parametrize(
    ("slug", "credential"), [("vllm", BEARER), ("azure-openai", {"api-key": PROVIDER_KEY})]
)
def test_a_custom_host(everywhere: Stage, provider: Provider, path, slug, credential):
    headers = {
        "x-api-key": PROVIDER_KEY,
        "x-portkey-provider": slug,
        "x-portkey-custom-host": f"{provider.url}/own/",
    }
    with everywhere.http() as client:
        reply = client.post(path, json=CHAT, headers=headers)
    assert reply.headers["x-portkey-provider"] == slug
    (request,) = provider.received
    assert request.target == f"/own/{path.removeprefix('/v1/')}"
    assert credentials(request) == credential


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
def test_custom_hosts_that_are_not_allowed(everywhere: Stage, provider: Provider, path):
    """Some are other spellings of an allowed address, which a URL parser takes for the same."""
    port = provider.url.rpartition(":")[2]
    hosts = [
        f"http://localhost:{port}",
        f"http://127.1:{port}",
        f"http://2130706433:{port}",
        f"http://0x7f000001:{port}",
        f"http://0177.0.0.1:{port}",
        f"http://127.0.0.1.:{port}",
        f"http://[::ffff:127.0.0.1]:{port}",
        f"http://x@127.0.0.1:{port}",
        f"http://127.0.0.1:{port}/a/../b",
        f"http://127.0.0.1:{port}/?a=",
        f"http://127.0.0.1:{port}\\@llm.example.com",
        f"http://llm.example.com\t@127.0.0.1:{port}",
        "http://127.0.0.1:1",
        "https://10.0.0.1",
        "https://169.254.169.254/latest",
        "https://metadata.google.internal",
        "http://llm.example.com",
        "https://x.example.org.evil.example",
    ]
    with everywhere.http() as client:
        for host in hosts:
            headers = {**BEARER, "x-portkey-custom-host": host}
            reply = client.post(path, json=CHAT, headers=headers)
            assert reply.status_code in (400, 403), host
            assert PROVIDER_KEY not in reply.text
    assert provider.received == []


def test_custom_hosts_need_a_list_of_allowed_ones(stage: Stage, provider: Provider):
    with stage.http() as client:
        headers = {**BEARER, "x-portkey-custom-host": provider.url}
        assert client.post("/v1/other", json=CHAT, headers=headers).status_code == 403
    assert provider.received == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_the_model_is_read_whatever_the_content_type_is(everywhere: Stage, provider, content_type):
    body = b'{"model": "@groq/m", "messages": []}'
    with everywhere.http() as client:
        headers = {**BEARER, "content-type": content_type}
        client.post("/v1/chat/completions", content=body, headers=headers)
    (request,) = provider.received
    assert (request.target, json.loads(request.body)["model"]) == ("/groq/chat/completions", "m")
    assert dict(request.headers).get("Content-Type", "") == content_type
    assert everywhere.observation()["metadata"]["requested_model"] == "@groq/m"


HOSTILE_REQUESTS = [
    ("GET", "/v1/%252e%252e/secret", 400),
    ("GET", "/v1/..%2fsecret", 400),
    ("GET", "/v1/x/..%2f..%2fsecret", 400),
    ("GET", "/v1/..%252fsecret", 400),
    ("GET", "/v1/..%5csecret", 400),
    ("GET", "/v1/..;/secret", 400),
    ("GET", "/v1//secret", 400),
    ("GET", "/v1/x%00", 400),
    ("GET", "/v1/x%0d%0ax-evil:%201", 400),
    ("GET", "/v1/x%7f", 400),
    ("GET", "/v1\\..\\secret", 404),
    ("GET", "//evil.example/v1/x", 404),
    ("GET", "http://evil.example/secret", 404),
    ("TRACE", "/v1/models", 405),
    ("PROPFIND", "/v1/models", 405),
]


@pytest.mark.parametrize(("method", "target", "status"), HOSTILE_REQUESTS)
def test_requests_with_hostile_targets_are_refused(
    everywhere: Stage, provider: Provider, method, target, status
):
    host, port = everywhere.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_SECONDS)
    connection.putrequest(method, target)
    for name, value in {**BEARER, "x-portkey-provider": "scripted"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    error = json.loads(response.read())["error"]
    connection.close()
    assert response.status == status
    assert error["message"]
    assert (response.headers["allow"] is not None) == (status == 405)
    assert provider.received == []
