"""The table of known providers: base URL, credential header and special cases. Data only.

Each entry is from the provider's own documentation as of November 2026, whose URL is above it.
docs/gateway.md contains the same table for users.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# The name of the secret that contains the deployment's key for a provider.
PROVIDER_SECRET = "{SLUG}_API_KEY"


def provider_secret_name(provider: str) -> str:
    """The name of the secret that contains the deployment's key for a provider. `provider` is its
    slug: for "x-ai" the name is X_AI_API_KEY."""
    return PROVIDER_SECRET.format(SLUG=re.sub("[^A-Z0-9]", "_", provider.upper()))


# The ways to send a credential to a provider, and the header of each.
CREDENTIAL_HEADERS = {"bearer": "authorization", "x-api-key": "x-api-key", "api-key": "api-key"}

# The request header with a base URL that replaces the provider's.
CUSTOM_HOST_HEADER = "x-portkey-custom-host"

# The parameters of base URLs. Each is set by a request header, which is named as in Portkey's
# gateway, or by a variable where the header is not sent.
URL_PARAMETERS = {
    "resource": ("x-portkey-azure-resource-name", "AZURE_RESOURCE_NAME"),
    "deployment": ("x-portkey-azure-deployment-id", "AZURE_DEPLOYMENT_ID"),
    "version": ("x-portkey-azure-api-version", "AZURE_API_VERSION"),
    "account": ("x-portkey-workers-ai-account-id", "WORKERS_AI_ACCOUNT_ID"),
    "region": ("x-portkey-aws-region", "AWS_REGION"),
}

# The parameters that select an account. A caller must not set them for a deployment's own keys.
ACCOUNT_PARAMETERS = ("resource", "account", "region")

# The prefixes before the slash in names of Workers AI's own models ("@cf/meta/llama-3.1-8b").
# https://developers.cloudflare.com/workers-ai/models/
WORKERS_AI_NAMESPACES = ("cf", "hf")


@dataclass(frozen=True)
class Provider:
    """A provider: where it is called, and how.

    `base_url` replaces "/v1" at the beginning of a call's path. It is "" for software that users
    run on hosts of their own. `{name}` in it is a parameter of `URL_PARAMETERS`. `deployment_url`
    replaces `base_url` where a parameter is set that only `deployment_url` contains; it may end in
    a query. "" for none.

    `credential` is a key of `CREDENTIAL_HEADERS`. A Bearer token that begins with one of
    `bearer_prefixes` is not an API key: it is sent in `authorization` in any case. `headers` are
    sent where the client sends none of the same name. On `bearer_paths`, the key is sent as a
    Bearer token instead, and `headers` are not sent.

    `paths` are the paths that the provider serves, together with all below them; () where it may
    serve any. All paths are without "/v1/".
    """

    base_url: str
    credential: str = "bearer"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    paths: tuple[str, ...] = ()
    bearer_prefixes: tuple[str, ...] = ()
    bearer_paths: tuple[str, ...] = ()
    deployment_url: str = ""


PROVIDERS = {
    # https://platform.openai.com/docs/api-reference
    "openai": Provider("https://api.openai.com/v1"),
    # https://platform.claude.com/docs/en/api/overview, …/api/openai-sdk; Claude Code's login sends
    # an OAuth token: https://code.claude.com/docs/en/llm-gateway-protocol
    "anthropic": Provider(
        "https://api.anthropic.com/v1",
        credential="x-api-key",
        headers={"anthropic-version": "2023-06-01"},
        bearer_prefixes=("sk-ant-oat",),
        bearer_paths=("chat/completions",),
    ),
    # https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle; a token of
    # Microsoft Entra is a JWT: https://learn.microsoft.com/azure/ai-foundry/openai/reference
    "azure-openai": Provider(
        "https://{resource}.openai.azure.com/openai/v1",
        credential="api-key",
        bearer_prefixes=("eyJ",),
        deployment_url=(
            "https://{resource}.openai.azure.com/openai/deployments/{deployment}"
            "?api-version={version}"
        ),
    ),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/inference-responses-api.html
    "bedrock": Provider("https://bedrock-runtime.{region}.amazonaws.com/openai/v1"),
    # https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility
    "workers-ai": Provider("https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1"),
    # https://ai.google.dev/gemini-api/docs/openai
    "google": Provider("https://generativelanguage.googleapis.com/v1beta/openai"),
    # https://docs.mistral.ai/api
    "mistral-ai": Provider("https://api.mistral.ai/v1"),
    # https://console.groq.com/docs/openai
    "groq": Provider("https://api.groq.com/openai/v1"),
    # https://api-docs.deepseek.com
    "deepseek": Provider("https://api.deepseek.com"),
    # https://docs.x.ai/docs/api-reference
    "x-ai": Provider("https://api.x.ai/v1"),
    # https://docs.together.ai/docs/inference/openai-compatibility
    "together-ai": Provider("https://api.together.ai/v1"),
    # https://docs.fireworks.ai/tools-sdks/openai-compatibility
    "fireworks-ai": Provider("https://api.fireworks.ai/inference/v1"),
    # https://openrouter.ai/docs/quickstart
    "openrouter": Provider("https://openrouter.ai/api/v1"),
    # https://docs.perplexity.ai/docs/sonar/openai-compatibility
    "perplexity-ai": Provider("https://api.perplexity.ai"),
    # https://inference-docs.cerebras.ai/resources/openai
    "cerebras": Provider("https://api.cerebras.ai/v1"),
    # https://docs.cohere.com/docs/compatibility-api
    "cohere": Provider("https://api.cohere.ai/compatibility/v1"),
    # https://docs.deepinfra.com/chat/overview
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai"),
    # https://docs.sambanova.ai/docs/en/features/openai-compatibility
    "sambanova": Provider("https://api.sambanova.ai/v1"),
    # https://docs.tokenfactory.nebius.com/api-reference/inference/create-chat-completion
    "nebius": Provider("https://api.tokenfactory.nebius.com/v1"),
    # https://novita.ai/docs/api-reference/model-apis-llm-create-chat-completion
    "novita-ai": Provider("https://api.novita.ai/openai/v1"),
    # https://docs.hyperbolic.ai/inference/text-apis
    "hyperbolic": Provider("https://api.hyperbolic.xyz/v1"),
    # https://platform.kimi.com/docs/api/overview (international: https://platform.kimi.ai)
    "moonshot": Provider("https://api.moonshot.cn/v1"),
    # https://www.alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope
    "dashscope": Provider("https://dashscope-intl.aliyuncs.com/compatible-mode/v1"),
    # https://docs.bigmodel.cn/cn/guide/develop/openai/introduction
    "zhipu": Provider("https://open.bigmodel.cn/api/paas/v4"),
    # https://docs.z.ai/guides/develop/openai/python
    "z-ai": Provider("https://api.z.ai/api/paas/v4"),
    # https://docs.siliconflow.cn (international: https://docs.siliconflow.com)
    "siliconflow": Provider("https://api.siliconflow.cn/v1"),
    # https://huggingface.co/docs/inference-providers
    "huggingface": Provider("https://router.huggingface.co/v1"),
    # https://docs.github.com/en/rest/models/inference
    "github": Provider("https://models.github.ai/inference"),
    # https://docs.api.nvidia.com/nim/reference/llm-apis
    "nvidia": Provider("https://integrate.api.nvidia.com/v1"),
    # https://console.upstage.ai/api-keys?api=chat-reasoning
    "upstage": Provider("https://api.upstage.ai/v1"),
    # https://featherless.ai/docs/api-overview-and-common-options
    "featherless-ai": Provider("https://api.featherless.ai/v1"),
    # https://docs.inference.net
    "inference-net": Provider("https://api.inference.net/v1"),
    # https://docs.nscale.com/docs/inference/serverless-models/overview
    "nscale": Provider("https://inference.api.nscale.com/v1"),
    # https://docs.lambda.ai/public-cloud/lambda-inference-api; shut down, according to that page
    "lambda": Provider("https://api.lambda.ai/v1"),
    # https://docs.kluster.ai/get-started/start-api
    "kluster-ai": Provider("https://api.kluster.ai/v1"),
    # https://jina.ai/embeddings, https://api.jina.ai/redoc
    "jina": Provider(
        "https://api.jina.ai/v1", paths=("embeddings", "rerank", "classify", "train", "segment")
    ),
    # https://docs.voyageai.com/reference/embeddings-api
    "voyage": Provider(
        "https://api.voyageai.com/v1",
        paths=("embeddings", "contextualizedembeddings", "multimodalembeddings", "rerank"),
    ),
    # https://docs.ollama.com/openai, https://docs.vllm.ai/en/latest/serving/openai_compatible_server
    # https://lmstudio.ai/docs/app/api/endpoints/openai
    "ollama": Provider(""),
    "vllm": Provider(""),
    "lm-studio": Provider(""),
}
