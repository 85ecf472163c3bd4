"""The variables of the gateways that tests share: keys, stored provider keys, configs, limits."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PUBLIC_KEY, SECRET_KEY = "pk-lf-worker-tests", "sk-lf-worker-tests-secret"
# The key of a caller for a provider.
PROVIDER_KEY = "sk-caller-0123456789abcdef"

# Gateway keys. Those of alice and bob have all rights; OTHER_ONLY is for the provider "other", and
# SOME_MODELS for some models. TEAM has a Langfuse project of its own.
ALICE, BOB, OTHER_ONLY, SOME_MODELS, TEAM = (
    f"gw_of-{name}-0123456789abcdefghij" for name in ("alice", "bob", "olga", "mo", "pat")
)
# Provider keys of the deployment.
SLUGS = ("first", "second", "third")
STORED = {slug: f"sk-stored-for-{slug}-0123456789" for slug in SLUGS}
STORED_SCRIPTED = "sk-stored-0123456789abcdefghij"
STORED_SCRIPTED_EU = "sk-stored-eu-0123456789abcdefg"
STORED_OTHER = "sk-other-0123456789abcdefghijk"
STORED_AZURE = "azure-stored-0123456789abcdefgh"

# A page that may read the responses of `with_keys`.
PAGE, LOCAL_PAGE = "https://app.example.com", "http://localhost:3000"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


GATEWAY_KEYS: Mapping[str, Any] = {
    "alice": digest(ALICE),
    "bob": digest(BOB),
    "olga": {"hash": digest(OTHER_ONLY), "providers": ["other"]},
    "mo": {"hash": digest(SOME_MODELS), "models": ["gpt-4o*", "small"]},
    "pat": {"hash": digest(TEAM), "langfuse": "team"},
}


def fallback(*targets: str | dict[str, Any], **strategy: Any) -> dict[str, Any]:
    """A config that calls its targets one after another, until one of them succeeds."""
    listed = [{"provider": each} if isinstance(each, str) else each for each in targets]
    return {"strategy": {"mode": "fallback", **strategy}, "targets": listed}


def configs(provider_port: str) -> dict[str, Any]:
    """The named configs."""
    cached = {"provider": "first", "cache": {"mode": "simple"}}
    return {
        "eu": {"provider": "scripted", "api_key": {"secret": "SCRIPTED_API_KEY_EU"}},
        "home": {"provider": "azure-openai", "azure_resource_name": "home"},
        "elsewhere": {
            "provider": "scripted",
            "custom_host": f"http://localhost:{provider_port}/elsewhere",
        },
        "one-after-the-other": fallback("first", "second"),
        "cached": cached,
        "cached-too": {**cached, "cache": {"mode": "simple", "max_age": 60}},
    }


def with_keys(provider_url: str, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Every caller needs a gateway key; the deployment has provider keys, configs and projects."""
    port = provider_url.rpartition(":")[2]
    account = f"{provider_url}/{{resource}}"
    providers = {
        "other": {"base_url": f"{provider_url}/other"},
        "bare": {"base_url": f"{provider_url}/bare"},
        "groq": {"base_url": f"{provider_url}/groq"},
        "azure-openai": {
            "base_url": account,
            "deployment_url": f"{account}/{{deployment}}?v={{version}}",
        },
        **{slug: {"base_url": f"{provider_url}/{slug}"} for slug in SLUGS},
    }
    project = {"public_key": PUBLIC_KEY, "secret_key": SECRET_KEY}
    return {
        "PROVIDERS": json.dumps({**json.loads(environment["PROVIDERS"]), **providers}),
        "DEFAULT_PROVIDER": "scripted",
        "GATEWAY_API_KEYS": json.dumps(GATEWAY_KEYS),
        "LANGFUSE_PROJECTS": json.dumps({"team": project}),
        "CONFIGS": json.dumps(configs(port)),
        "ALLOWED_CUSTOM_HOSTS": f"localhost:{port}",
        "ALLOWED_ORIGINS": f"{PAGE}, {LOCAL_PAGE}",
        "SCRIPTED_API_KEY": STORED_SCRIPTED,
        "SCRIPTED_API_KEY_EU": STORED_SCRIPTED_EU,
        "OTHER_API_KEY": STORED_OTHER,
        "AZURE_OPENAI_API_KEY": STORED_AZURE,
        **{f"{slug.upper()}_API_KEY": key for slug, key in STORED.items()},
    }


def with_configs(provider_url: str, environment: Mapping[str, Any]) -> dict[str, Any]:
    """The same keys and configs; callers without a gateway key may use provider keys of their
    own."""
    return {
        **with_keys(provider_url, environment),
        "DEFAULT_PROVIDER": None,
        "ALLOWED_ORIGINS": None,
        "ALLOW_ANONYMOUS": "true",
        "MAX_REQUEST_BYTES": "2000000",
    }


def untraced(provider_url: str, environment: Mapping[str, Any]) -> dict[str, Any]:
    """`with_configs` without Langfuse keys."""
    keys = {name: key for name, key in GATEWAY_KEYS.items() if name != "pat"}
    return {
        **with_configs(provider_url, environment),
        "GATEWAY_API_KEYS": json.dumps(keys),
        "LANGFUSE_PROJECTS": None,
        "LANGFUSE_PUBLIC_KEY": None,
        "LANGFUSE_SECRET_KEY": None,
    }


def with_variables(provider_url: str, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Other values than the defaults for many variables, some of them JSON, as a table or a list in
    wrangler.toml. There are no gateway keys."""
    scripted = {"scripted": {"base_url": f"{provider_url}/json"}}
    return {
        "PROVIDERS": {**json.loads(environment["PROVIDERS"]), **scripted},
        "DEFAULT_PROVIDER": "scripted",
        "TRACED_ENDPOINTS": ["/v1/chat/completions", "/v1/moderations"],
        "MAX_CAPTURE_BYTES": 20_000,
        "MAX_REQUEST_BYTES": "100000",
        "ALLOWED_ORIGINS": "*",
        "TRACE_STREAM_USAGE": "true",
        "LANGFUSE_TRACING_ENABLED": True,
        "LANGFUSE_BASE_URL": None,
        "LANGFUSE_HOST": environment["LANGFUSE_BASE_URL"] + "/",
        "LANGFUSE_TRACING_ENVIRONMENT": "staging",
        "LANGFUSE_RELEASE": "r7",
        "LANGFUSE_REDACT": r'["\\d{3}-\\d{4}"]',
        "LANGFUSE_MAX_FIELD_BYTES": "10000",
        "SCRIPTED_API_KEY": STORED_SCRIPTED,
        "CONFIGS": json.dumps({"stored": {"provider": "scripted"}}),
    }


WITHOUT_CONTENT = {"LANGFUSE_CONTENT": "usage", "LANGFUSE_SAMPLE_RATE": "0.5"}
