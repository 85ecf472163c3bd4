"""Tests of `target_request`: provider, URL, headers and credential of a call."""

from typing import Any

import pytest

from core.types import Call, Refusal, UpstreamCall
from settings.provider_overrides import (
    ProviderRouting,
    apply_provider_overrides,
    template_parameters,
)
from settings.provider_table import CREDENTIAL_HEADERS, PROVIDERS, URL_PARAMETERS, Provider
from upstream.target_request import (
    build_upstream_call,
    forwarded_headers,
    named_provider,
    resolve_provider,
)

CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"


def plan(path, query="", headers=None, model="", **routing: Any):
    call, rules = Call("POST", path, query, headers or {}), ProviderRouting(**routing)
    slug = resolve_provider(call, named_provider(call), rules, model)
    return build_upstream_call(call, slug, rules, model)


def planned_call(path=CHAT, query="", headers=None, model="", **routing: Any) -> UpstreamCall:
    upstream = plan(path, query, headers, model, **routing)
    assert isinstance(upstream, UpstreamCall), upstream
    return upstream


def planned_refusal(path=CHAT, query="", headers=None, model="", **routing: Any) -> Refusal:
    refusal = plan(path, query, headers, model, **routing)
    assert isinstance(refusal, Refusal), refusal
    return refusal


# From each provider's documentation: slug, path, headers, the URL of a call, the key's header.
BEARER, X_API_KEY, API_KEY = "authorization", "x-api-key", "api-key"
AZURE = {"x-portkey-azure-resource-name": "my-resource"}
AZURE_DEPLOYMENT = {
    **AZURE,
    "x-portkey-azure-deployment-id": "gpt-4.1_eu",
    "x-portkey-azure-api-version": "2025-03-01-preview",
}
AZURE_DEPLOYMENT_CALL = {**AZURE_DEPLOYMENT, "x-portkey-provider": "azure-openai"}
AWS = {"x-portkey-aws-region": "us-west-2"}
WORKERS_AI_ACCOUNT = {"x-portkey-workers-ai-account-id": "0123abcd"}
ANTHROPIC = "https://api.anthropic.com/v1"
URLS = [
    ("openai", CHAT, {}, "https://api.openai.com/v1/chat/completions", BEARER),
    ("anthropic", "/v1/messages", {}, f"{ANTHROPIC}/messages", X_API_KEY),
    ("anthropic", "/v1/messages/count_tokens", {}, f"{ANTHROPIC}/messages/count_tokens", X_API_KEY),
    ("anthropic", "/v1/models", {}, f"{ANTHROPIC}/models", X_API_KEY),
    ("anthropic", CHAT, {}, f"{ANTHROPIC}/chat/completions", BEARER),
    (
        *("azure-openai", CHAT, AZURE),
        *("https://my-resource.openai.azure.com/openai/v1/chat/completions", API_KEY),
    ),
    (
        *("azure-openai", EMBED, AZURE_DEPLOYMENT),
        "https://my-resource.openai.azure.com/openai/deployments/gpt-4.1_eu/embeddings"
        "?api-version=2025-03-01-preview",
        API_KEY,
    ),
    (
        *("bedrock", CHAT, AWS),
        *("https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1/chat/completions", BEARER),
    ),
    (
        *("workers-ai", EMBED, WORKERS_AI_ACCOUNT),
        *("https://api.cloudflare.com/client/v4/accounts/0123abcd/ai/v1/embeddings", BEARER),
    ),
    (
        *("google", CHAT, {}),
        *("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", BEARER),
    ),
    ("mistral-ai", CHAT, {}, "https://api.mistral.ai/v1/chat/completions", BEARER),
    ("groq", CHAT, {}, "https://api.groq.com/openai/v1/chat/completions", BEARER),
    ("deepseek", CHAT, {}, "https://api.deepseek.com/chat/completions", BEARER),
    ("x-ai", CHAT, {}, "https://api.x.ai/v1/chat/completions", BEARER),
    ("together-ai", CHAT, {}, "https://api.together.ai/v1/chat/completions", BEARER),
    ("fireworks-ai", CHAT, {}, "https://api.fireworks.ai/inference/v1/chat/completions", BEARER),
    ("openrouter", CHAT, {}, "https://openrouter.ai/api/v1/chat/completions", BEARER),
    ("perplexity-ai", CHAT, {}, "https://api.perplexity.ai/chat/completions", BEARER),
    ("cerebras", CHAT, {}, "https://api.cerebras.ai/v1/chat/completions", BEARER),
    ("cohere", CHAT, {}, "https://api.cohere.ai/compatibility/v1/chat/completions", BEARER),
    ("deepinfra", CHAT, {}, "https://api.deepinfra.com/v1/openai/chat/completions", BEARER),
    ("sambanova", CHAT, {}, "https://api.sambanova.ai/v1/chat/completions", BEARER),
    ("nebius", CHAT, {}, "https://api.tokenfactory.nebius.com/v1/chat/completions", BEARER),
    ("novita-ai", CHAT, {}, "https://api.novita.ai/openai/v1/chat/completions", BEARER),
    ("hyperbolic", CHAT, {}, "https://api.hyperbolic.xyz/v1/chat/completions", BEARER),
    ("moonshot", CHAT, {}, "https://api.moonshot.cn/v1/chat/completions", BEARER),
    (
        *("dashscope", CHAT, {}),
        *("https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions", BEARER),
    ),
    ("zhipu", CHAT, {}, "https://open.bigmodel.cn/api/paas/v4/chat/completions", BEARER),
    ("z-ai", CHAT, {}, "https://api.z.ai/api/paas/v4/chat/completions", BEARER),
    ("siliconflow", CHAT, {}, "https://api.siliconflow.cn/v1/chat/completions", BEARER),
    ("huggingface", CHAT, {}, "https://router.huggingface.co/v1/chat/completions", BEARER),
    ("github", CHAT, {}, "https://models.github.ai/inference/chat/completions", BEARER),
    ("nvidia", CHAT, {}, "https://integrate.api.nvidia.com/v1/chat/completions", BEARER),
    ("upstage", CHAT, {}, "https://api.upstage.ai/v1/chat/completions", BEARER),
    ("featherless-ai", CHAT, {}, "https://api.featherless.ai/v1/chat/completions", BEARER),
    ("inference-net", CHAT, {}, "https://api.inference.net/v1/chat/completions", BEARER),
    ("nscale", CHAT, {}, "https://inference.api.nscale.com/v1/chat/completions", BEARER),
    ("lambda", CHAT, {}, "https://api.lambda.ai/v1/chat/completions", BEARER),
    ("kluster-ai", CHAT, {}, "https://api.kluster.ai/v1/chat/completions", BEARER),
    ("jina", EMBED, {}, "https://api.jina.ai/v1/embeddings", BEARER),
    ("voyage", EMBED, {}, "https://api.voyageai.com/v1/embeddings", BEARER),
]
CUSTOM_HOST_PROVIDERS = ("ollama", "vllm", "lm-studio")


def test_the_table_of_urls_has_every_provider():
    assert {slug for slug, *_ in URLS} | {*CUSTOM_HOST_PROVIDERS} == PROVIDERS.keys()


@pytest.mark.parametrize(("slug", "path", "headers", "url", "credential_header"), URLS)
@pytest.mark.parametrize("callers_header", [BEARER, X_API_KEY, API_KEY])
def test_each_provider_has_its_url_and_credential_header(
    slug, path, headers, url, credential_header, callers_header
):
    key = "Bearer key-1" if callers_header == BEARER else "key-1"
    upstream = planned_call(path, "", {**headers, "x-portkey-provider": slug, callers_header: key})
    assert (upstream.provider, upstream.url) == (slug, url)
    credentials = [pair for pair in upstream.headers if "key-1" in pair[1]]
    assert credentials == [
        (credential_header, "Bearer key-1" if credential_header == BEARER else "key-1")
    ]
    assert not {name for name, _ in upstream.headers if name.startswith("x-portkey")}


@pytest.mark.parametrize(
    ("path", "query", "headers", "url"),
    [
        ("/v1/messages", "beta=true", {}, "https://api.anthropic.com/v1/messages?beta=true"),
        ("/v1/messages/batches/b1", "", {}, "https://api.anthropic.com/v1/messages/batches/b1"),
        ("/v1/messagesx", "", {}, "https://api.openai.com/v1/messagesx"),
        ("/v1/models", "a=1&a=2", {}, "https://api.openai.com/v1/models?a=1&a=2"),
        ("/v1/a%2Fb", "", {}, "https://api.openai.com/v1/a%2Fb"),
        (
            *("/v1/chat/completions", "", {"x-portkey-provider": "Groq"}),
            "https://api.groq.com/openai/v1/chat/completions",
        ),
        (
            *("/v1/messages", "", {"x-portkey-provider": "@openrouter"}),
            "https://openrouter.ai/api/v1/messages",
        ),
        (
            *(
                "/v1/embeddings",
                "api-version=2&x=1",
                {**AZURE_DEPLOYMENT, "x-portkey-provider": "azure-openai"},
            ),
            "https://my-resource.openai.azure.com/openai/deployments/gpt-4.1_eu/embeddings"
            "?api-version=2&x=1",
        ),
        (
            *("/v1/embeddings", "x=1", AZURE_DEPLOYMENT_CALL),
            "https://my-resource.openai.azure.com/openai/deployments/gpt-4.1_eu/embeddings"
            "?api-version=2025-03-01-preview&x=1",
        ),
    ],
)
def test_path_query_and_headers_determine_the_url(path, query, headers, url):
    assert planned_call(path, query, headers).url == url


def test_the_refusal_of_an_unknown_provider_lists_the_known_ones():
    for refusal in (
        planned_refusal(headers={"x-portkey-provider": "nowhere"}),
        planned_refusal(model="@nowhere/m"),
    ):
        assert refusal.status == 400
    assert all(slug in planned_refusal(model="@nowhere/m").message for slug in PROVIDERS)


@pytest.mark.parametrize(
    ("model", "header", "default", "provider", "is_prefixed"),
    [
        ("", "", "openai", "openai", False),
        ("@groq/llama-3.3-70b", "", "openai", "groq", True),
        ("@Groq/openai/gpt-oss-120b", "", "openai", "groq", True),
        ("@groq/", "", "openai", "groq", True),
        ("@groq", "", "openai", "openai", False),  # without slash or slug: the name of a model
        ("@/m", "", "openai", "openai", False),
        ("@groq/m", "groq", "openai", "groq", True),
        ("@groq/m", "@Groq", "openai", "groq", True),
        ("@groq/m", "openrouter", "openai", "openrouter", False),
        ("@nowhere/m", "openrouter", "openai", "openrouter", False),
        ("@cf/meta/llama-3.1-8b", "", "openai", "openai", False),
        ("@hf/nous/hermes", "openrouter", "openai", "openrouter", False),
        ("@openai/m", "", "openai", "openai", True),
    ],
)
def test_a_model_prefix_selects_the_provider(model, header, default, provider, is_prefixed):
    headers = {"x-portkey-provider": header} if header else {}
    upstream = planned_call(headers=headers, model=model, default_provider=default)
    assert upstream.provider == provider
    assert upstream.prefixed_model == (model if is_prefixed else "")


def test_a_workers_ai_model_name_is_not_a_provider_prefix():
    upstream = planned_call(headers=WORKERS_AI_ACCOUNT, model="@workers-ai/@cf/meta/llama-3.1-8b")
    assert (upstream.provider, bool(upstream.prefixed_model)) == ("workers-ai", True)
    upstream = planned_call(
        headers=WORKERS_AI_ACCOUNT, model="@cf/meta/llama-3.1-8b", default_provider="workers-ai"
    )
    assert (upstream.provider, upstream.prefixed_model) == ("workers-ai", "")


@pytest.mark.parametrize(
    ("provider", "headers", "names"),
    [
        ("azure-openai", {}, ("x-portkey-azure-resource-name", "AZURE_RESOURCE_NAME")),
        (
            *("azure-openai", {**AZURE, "x-portkey-azure-deployment-id": "d"}),
            ("x-portkey-azure-api-version", "AZURE_API_VERSION"),
        ),
        (
            *("azure-openai", {**AZURE, "x-portkey-azure-api-version": "2024-10-21"}),
            ("x-portkey-azure-deployment-id", "AZURE_DEPLOYMENT_ID"),
        ),
        ("workers-ai", {}, ("x-portkey-workers-ai-account-id", "WORKERS_AI_ACCOUNT_ID")),
        ("bedrock", {"x-portkey-aws-region": " "}, ("x-portkey-aws-region", "AWS_REGION")),
        ("ollama", {}, ("x-portkey-custom-host",)),
    ],
)
def test_a_refusal_names_the_missing_parameter(provider, headers, names):
    refusal = planned_refusal(headers={**headers, "x-portkey-provider": provider})
    assert refusal.status == 400
    assert all(name in refusal.message for name in (provider, *names))


HOSTILE_LABELS = [
    *("evil.example/", "evil.example#", "evil.example?", "x@evil.example", "x:y@z", "a b", "a\tb"),
    *("a/../b", "..", ".", "a.b", "-a", "a-", "a\\b", "a%2eb", "a%2F", "a:80", "[::1]", "{region}"),
    *("\uff41", "é", "a\r\nx: y", "a\n", "a" * 64, "*", "a_b", "a,b"),
]


@pytest.mark.parametrize("value", HOSTILE_LABELS)
@pytest.mark.parametrize(
    ("provider", "name", "others"),
    [
        ("azure-openai", "resource", {}),
        ("azure-openai", "deployment", {**AZURE, "x-portkey-azure-api-version": "1"}),
        ("azure-openai", "version", {**AZURE, "x-portkey-azure-deployment-id": "d"}),
        ("workers-ai", "account", {}),
        ("bedrock", "region", {}),
    ],
)
def test_a_url_parameter_with_other_characters_is_refused(provider, name, others, value):
    header, _ = URL_PARAMETERS[name]
    headers = {**others, "x-portkey-provider": provider, header: value}
    upstream = plan(CHAT, headers=headers)
    if name in ("deployment", "version") and value in ("a.b", "a_b", "a" * 64):
        assert isinstance(upstream, UpstreamCall)
    elif value.strip() != value:  # "a\n": whitespace around a header's value is not part of it
        assert isinstance(upstream, UpstreamCall)
        assert "\n" not in upstream.url
    else:
        assert isinstance(upstream, Refusal)
        assert (upstream.status, header in upstream.message) == (400, True)


def test_a_url_parameter_of_a_header_overrides_the_variable():
    headers = {"x-portkey-provider": "bedrock"}
    upstream = planned_call(headers=headers, url_parameters={"region": "eu-west-1", "account": "a"})
    assert upstream.url.startswith("https://bedrock-runtime.eu-west-1.amazonaws.com/")
    upstream = planned_call(headers={**headers, **AWS}, url_parameters={"region": "eu-west-1"})
    assert upstream.url.startswith("https://bedrock-runtime.us-west-2.amazonaws.com/")


@pytest.mark.parametrize(
    ("slug", "path", "is_served"),
    [
        ("jina", "/v1/chat/completions", False),
        ("jina", "/v1/embeddingsx", False),
        ("jina", "/v1/rerank", True),
        ("voyage", "/v1/completions", False),
        ("voyage", "/v1/embeddings/x", True),
    ],
)
def test_a_path_that_the_provider_does_not_serve_is_refused(slug, path, is_served):
    upstream = plan(path, headers={"x-portkey-provider": slug})
    if is_served:
        assert isinstance(upstream, UpstreamCall)
    else:
        assert isinstance(upstream, Refusal)
        assert upstream.status == 404
        assert "/v1/embeddings" in upstream.message


OAUTH, JWT = "Bearer sk-ant-oat01-token", "Bearer eyJhbGciOi.x.y"


@pytest.mark.parametrize(
    ("slug", "path", "callers_headers", "expected"),
    [
        # Tokens that are not API keys stay in their header, unchanged.
        ("anthropic", "/v1/messages", {BEARER: OAUTH}, (BEARER, OAUTH)),
        ("anthropic", CHAT, {BEARER: OAUTH}, (BEARER, OAUTH)),
        ("azure-openai", CHAT, {BEARER: JWT}, (BEARER, JWT)),
        ("anthropic", "/v1/messages", {BEARER: JWT}, (X_API_KEY, JWT.split()[1])),
        ("anthropic", "/v1/messages", {BEARER: "Basic dTpw"}, (BEARER, "Basic dTpw")),
        ("openai", CHAT, {BEARER: "bare-key"}, (BEARER, "bare-key")),
        ("openai", CHAT, {BEARER: "bearer  key"}, (BEARER, "bearer  key")),
        ("azure-openai", CHAT, {BEARER: "bearer  key"}, (API_KEY, "key")),
        ("openai", CHAT, {X_API_KEY: "Bearer key"}, (BEARER, "Bearer key")),
        # Precedence: the provider's own header, Authorization, x-api-key.
        ("anthropic", "/v1/messages", {BEARER: "Bearer a", X_API_KEY: "x"}, (X_API_KEY, "x")),
        ("anthropic", CHAT, {BEARER: "Bearer a", X_API_KEY: "x"}, (BEARER, "Bearer a")),
        ("azure-openai", CHAT, {BEARER: "Bearer a", X_API_KEY: "x"}, (API_KEY, "a")),
        ("azure-openai", CHAT, {X_API_KEY: "x", API_KEY: "k"}, (API_KEY, "k")),
        ("openai", CHAT, {X_API_KEY: "x", API_KEY: "k"}, (BEARER, "Bearer x")),
        # A gateway key is not a provider's credential.
        ("anthropic", "/v1/messages", {X_API_KEY: "gw_1", BEARER: OAUTH}, (BEARER, OAUTH)),
        ("openai", CHAT, {BEARER: "Bearer gw_1", X_API_KEY: "x"}, (BEARER, "Bearer x")),
        ("openai", CHAT, {BEARER: "Bearer gw_1"}, None),
        ("openai", CHAT, {BEARER: "", API_KEY: ""}, None),
        ("openai", CHAT, {BEARER: "Bearer a", "connection": "authorization"}, None),
        ("openai", CHAT, {}, None),
    ],
)
def test_exactly_one_credential_is_forwarded(slug, path, callers_headers, expected):
    upstream = planned_call(path, headers={**callers_headers, **AZURE, "x-portkey-provider": slug})
    credentials = [pair for pair in upstream.headers if pair[0] in CREDENTIAL_HEADERS.values()]
    assert credentials == ([expected] if expected else [])
    assert "gw_" not in str(upstream)


def test_anthropic_version_is_added_unless_the_client_sent_it():
    headers = {"x-portkey-provider": "anthropic"}
    assert ("anthropic-version", "2023-06-01") in planned_call(
        "/v1/messages", headers=headers
    ).headers
    with_version = {**headers, "anthropic-version": "2030-01-01"}
    assert [
        value
        for name, value in planned_call("/v1/messages", headers=with_version).headers
        if name == "anthropic-version"
    ] == ["2030-01-01"]
    assert "anthropic-version" not in dict(planned_call(CHAT, headers=headers).headers)


def test_a_custom_host_replaces_only_the_base_url():
    routing: dict[str, Any] = {"allowed_custom_hosts": frozenset({"llm.example.com"})}
    host_headers = {"x-portkey-custom-host": "https://LLM.example.com/base/", BEARER: "Bearer k"}
    for slug, path, header in (
        ("ollama", CHAT, (BEARER, "Bearer k")),
        ("azure-openai", CHAT, (API_KEY, "k")),
        ("anthropic", "/v1/messages", (X_API_KEY, "k")),
    ):
        upstream = planned_call(
            path, headers={**host_headers, "x-portkey-provider": slug}, **routing
        )
        assert upstream.url == f"https://llm.example.com/base/{path.removeprefix('/v1/')}"
        assert header in upstream.headers
    assert planned_call(headers=host_headers, **routing).provider == "openai"
    assert planned_refusal(headers=host_headers).status == 403
    assert (
        planned_refusal(
            "/v1/x", headers={**host_headers, "x-portkey-provider": "jina"}, **routing
        ).status
        == 404
    )


def test_provider_overrides_replace_and_extend_the_table():
    table = apply_provider_overrides(
        {
            "openai": {"base_url": "https://proxy.example/v1/"},
            "Mine": {
                "base_url": "http://127.0.0.1:1/x",
                "credential": "api-key",
                "headers": {"X-Team": "a b"},
                "paths": ["/v1/embeddings", "rerank"],
            },
            "anthropic": {"headers": {"anthropic-beta": "b1"}},
            "jina": {"base_url": "https://jina.example"},
            "azure-openai": {"base_url": "https://{resource}.azure.example.com/openai"},
            "old": {
                "base_url": "https://{resource}.azure.example.com/openai",
                "deployment_url": "https://{resource}.azure.example.com/{deployment}?v={version}",
            },
        }
    )
    assert table["openai"] == Provider("https://proxy.example/v1")
    assert table["groq"] is PROVIDERS["groq"]
    assert table["anthropic"].credential == "x-api-key"
    assert table["anthropic"].headers == {"anthropic-beta": "b1"}
    assert table["jina"].paths == PROVIDERS["jina"].paths
    headers = {"x-portkey-provider": "mine", BEARER: "Bearer k"}
    upstream = planned_call("/v1/rerank", headers=headers, providers=table)
    assert upstream.url == "http://127.0.0.1:1/x/rerank"
    assert {("x-team", "a b"), ("api-key", "k")} <= set(upstream.headers)
    assert planned_refusal(CHAT, headers=headers, providers=table).status == 404
    # A new base URL of Azure applies to deployments too: no call goes to Microsoft.
    upstream = planned_call(headers=AZURE_DEPLOYMENT_CALL, providers=table)
    assert upstream.url == "https://my-resource.azure.example.com/openai/chat/completions"
    upstream = planned_call(
        headers={**AZURE_DEPLOYMENT, "x-portkey-provider": "old"}, providers=table
    )
    assert upstream.url == (
        "https://my-resource.azure.example.com/gpt-4.1_eu/chat/completions?v=2025-03-01-preview"
    )


def test_the_provider_table_is_well_formed():
    for slug, provider in PROVIDERS.items():
        for url in filter(None, (provider.base_url, provider.deployment_url)):
            # The check of overrides accepts a URL without its query.
            assert apply_provider_overrides({slug: {"base_url": url.partition("?")[0]}})
            assert set(template_parameters(url)) <= URL_PARAMETERS.keys()
        assert provider.credential in CREDENTIAL_HEADERS
        assert all(not path.startswith("/") for path in (*provider.paths, *provider.bearer_paths))


def test_a_gateway_key_is_not_forwarded_in_any_header():
    headers = {"authorization": "Bearer gw_1", "x-anything": "gw_2", "x-else": "keep"}
    headers |= {"x-basic": "Basic gw_3", "x-token": "Token  gw_4"}
    forwarded = dict(forwarded_headers(headers, PROVIDERS["openai"], "chat/completions"))
    assert forwarded == {"x-else": "keep", "accept-encoding": "identity"}
