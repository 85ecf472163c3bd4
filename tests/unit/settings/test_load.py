"""Tests of `load_settings`: values, defaults, warnings, and the problems that fail closed."""

import pytest

from core.strict_json import JsonObject
from settings.gateway_keys import GatewayKey
from settings.load import Destination, Settings, load_settings
from settings.table import CONTINUATION_NAMES, SECRET_NAMES, SETTINGS

PUBLIC_KEY, SECRET_KEY = "pk-lf-1", "sk-lf-1"
LANGFUSE_KEYS = {"LANGFUSE_PUBLIC_KEY": PUBLIC_KEY, "LANGFUSE_SECRET_KEY": SECRET_KEY}
HASH = "a" * 64


def test_an_empty_environment_gives_the_defaults():
    settings = load_settings({})
    assert settings == Settings()
    assert settings.destination_for(None) is None
    assert "/v1/chat/completions" in settings.traced_endpoints


@pytest.mark.parametrize("setting", [row for row in SETTINGS if row.default], ids=str)
def test_a_default_is_a_valid_value(setting):
    assert load_settings({setting.name: setting.default}) == Settings()


def test_langfuse_keys_turn_tracing_on():
    settings = load_settings(LANGFUSE_KEYS)
    destination = settings.destination_for(None)
    assert destination
    assert destination == Destination("default", "https://cloud.langfuse.com", "pk-lf-1", "sk-lf-1")
    assert settings.secrets == (PUBLIC_KEY, SECRET_KEY, destination.credential)
    assert SECRET_KEY not in repr(settings)


@pytest.mark.parametrize(
    ("changes", "base_url"),
    [
        ({"LANGFUSE_BASE_URL": "https://us.cloud.langfuse.com/"}, "https://us.cloud.langfuse.com"),
        ({"LANGFUSE_HOST": "https://lf.example/base"}, "https://lf.example/base"),
        (
            {"LANGFUSE_BASE_URL": "https://a.example", "LANGFUSE_HOST": "https://b.example"},
            "https://a.example",
        ),
        ({"LANGFUSE_BASE_URL": "http://localhost:3000"}, "http://localhost:3000"),
        ({"LANGFUSE_BASE_URL": "http://127.0.0.1:3000"}, "http://127.0.0.1:3000"),
        (
            {"LANGFUSE_BASE_URL": "http://lf.internal", "LANGFUSE_ALLOW_HTTP": "true"},
            "http://lf.internal",
        ),
    ],
)
def test_the_base_url_of_langfuse(changes, base_url):
    destination = load_settings({**LANGFUSE_KEYS, **changes}).destination_for(None)
    assert destination is not None
    assert destination.base_url == base_url


@pytest.mark.parametrize(
    "url",
    [
        "http://lf.example",
        "http://127.0.0.1.example",
        "ftp://lf.example",
        "lf.example",
        "https://",
        "https://user:pass@lf.example",
        "https://lf.example/?a=1",
        "https://[half",
    ],
)
def test_an_invalid_base_url_switches_tracing_off(url):
    settings = load_settings({**LANGFUSE_KEYS, "LANGFUSE_BASE_URL": url})
    assert settings.destination_for(None) is None
    assert settings.problem is None
    assert any(warning.startswith("LANGFUSE_BASE_URL ") for warning in settings.warnings)


def test_a_malformed_value_switches_tracing_off():
    settings = load_settings({**LANGFUSE_KEYS, "LANGFUSE_TRACING_ENABLED": "disabled"})
    assert settings.destination_for(None) is None
    assert settings.warnings


@pytest.mark.parametrize(
    "changes",
    [
        {"LANGFUSE_CONTENT": "some"},
        {"LANGFUSE_REDACT": "not json"},
        {"LANGFUSE_REDACT": '"x"'},
        {"LANGFUSE_REDACT": '["("]'},
        {"LANGFUSE_REDACT": '["(a+)+b"]'},
    ],
)
def test_a_malformed_privacy_setting_switches_content_off(changes):
    settings = load_settings(changes)
    assert settings.content_mode == "usage"
    assert settings.warnings
    assert load_settings({**changes, "LANGFUSE_CONTENT": "off"}).content_mode in ("off", "usage")


def test_privacy_settings():
    settings = load_settings({"LANGFUSE_CONTENT": "Usage", "LANGFUSE_REDACT": '["a b"]'})
    assert settings.content_mode == "usage"
    assert [pattern.pattern for pattern in settings.redact_patterns] == ["a b"]


def test_the_release_defaults_to_the_deployed_version():
    metadata: JsonObject = {"CF_VERSION_METADATA": {"id": "version-1", "tag": "", "timestamp": ""}}
    assert load_settings(metadata).release == "version-1"
    assert load_settings({**metadata, "LANGFUSE_RELEASE": "r1"}).release == "r1"
    assert load_settings({}).release is None


def test_a_public_key_without_secret_key_is_a_warning():
    settings = load_settings({"LANGFUSE_PUBLIC_KEY": PUBLIC_KEY})
    assert settings.destination_for(None) is None
    assert settings.warnings


def test_delivery_settings():
    settings = load_settings(
        {
            "LANGFUSE_PROTOCOL": "OTLP",
            "LANGFUSE_DELIVERY": "queue",
            "LANGFUSE_FLUSH_AT": "10",
            "LANGFUSE_FLUSH_INTERVAL": "250",
            "LANGFUSE_RETRY_SECONDS": "10",
            "LANGFUSE_DEBUG": "true",
        },
        has_queue=True,
    )
    assert settings.warnings == ()
    assert (settings.protocol, settings.delivery, settings.debug) == ("otlp", "queue", True)
    assert (settings.flush_at, settings.flush_interval_seconds) == (10, 0.25)
    assert settings.retry_seconds == 10


@pytest.mark.parametrize("value", ["false", "False", "0", False])
def test_tracing_can_be_switched_off(value):
    assert (
        load_settings({**LANGFUSE_KEYS, "LANGFUSE_TRACING_ENABLED": value}).destination_for(None)
        is None
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LANGFUSE_TIMEOUT", "soon"),
        ("LANGFUSE_TIMEOUT", "0"),
        ("LANGFUSE_TIMEOUT", "31"),
        ("LANGFUSE_TIMEOUT", "nan"),
        ("LANGFUSE_TRACING_ENVIRONMENT", "Production"),
        ("LANGFUSE_TRACING_ENVIRONMENT", "langfuse-x"),
        ("LANGFUSE_TRACING_ENVIRONMENT", "x" * 41),
        ("MAX_CAPTURE_BYTES", "-1"),
        ("MAX_REQUEST_BYTES", "4MB"),
        ("TRACED_ENDPOINTS", "chat/completions"),
        ("LANGFUSE_TRACING_ENABLED", "maybe"),
        ("DEFAULT_PROVIDER", 7),
        ("DEFAULT_PROVIDER", "nowhere"),
        ("LANGFUSE_SAMPLE_RATE", "1.5"),
        ("LANGFUSE_SAMPLE_RATE", "nan"),
        ("LANGFUSE_MAX_FIELD_BYTES", "10"),
        ("TRACE_STREAM_USAGE", "maybe"),
        ("LANGFUSE_PROTOCOL", "grpc"),
        ("LANGFUSE_DELIVERY", "pigeon"),
        ("LANGFUSE_DELIVERY", "queue"),  # without a queue binding
        ("LANGFUSE_FLUSH_AT", "0"),
        ("LANGFUSE_FLUSH_AT", "101"),
        ("LANGFUSE_FLUSH_AT", "1.5"),
        ("LANGFUSE_FLUSH_INTERVAL", "-1"),
        ("LANGFUSE_FLUSH_INTERVAL", "nan"),
        ("LANGFUSE_FLUSH_INTERVAL", "60000"),
        ("LANGFUSE_RETRY_SECONDS", "29"),
        ("LANGFUSE_RETRY_SECONDS", "0"),
        ("LANGFUSE_DEBUG", "loud"),
    ],
)
def test_a_malformed_value_is_a_warning_and_the_default_is_used(name, value):
    settings = load_settings({name: value})
    assert settings.problem is None
    assert [warning.split()[0] for warning in settings.warnings] == [name]
    assert settings == Settings(warnings=settings.warnings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_API_KEYS", "not json"),
        ("GATEWAY_API_KEYS", "[]"),
        ("GATEWAY_API_KEYS", "{}"),
        ("GATEWAY_API_KEYS", '{"alice": "gw_key"}'),
        ("GATEWAY_API_KEYS", '{"alice": 7}'),
        ("GATEWAY_API_KEYS", "[" * 100_000),
        ("PROVIDERS", '{"x": "https://a.example"}'),
        ("PROVIDERS", '{"x": {"base_url": "http://a.example"}}'),
        ("PROVIDERS", '{"x": {"base_url": "https://u:p@a.example"}}'),
        ("PROVIDERS", '{"x": {}}'),
        ("PROVIDERS", '{"x": {"credential": "bearer"}}'),
        ("PROVIDERS", '{"X Y": {"base_url": "https://a.example"}}'),
        ("PROVIDERS", '{"": {"base_url": "https://a.example"}}'),
        ("PROVIDERS", '{"openai": {"api_key": "sk-1"}}'),
        ("PROVIDERS", '{"openai": {"base_url": 7}}'),
        ("PROVIDERS", '{"openai": {"base_url": ""}}'),
        ("PROVIDERS", '{"openai": {"base_url": "https://a.example?x=1"}}'),
        ("PROVIDERS", '{"openai": {"base_url": "https://{resource}"}}'),
        ("PROVIDERS", '{"openai": {"base_url": "https://{resource}.com/v1"}}'),
        ("PROVIDERS", '{"openai": {"base_url": "https://a.{resource}/v1"}}'),
        ("PROVIDERS", '{"openai": {"base_url": "{resource}://a.example/v1"}}'),
        ("PROVIDERS", '{"openai": {"base_url": "https://{resource}@a.example/v1"}}'),
        ("PROVIDERS", '{"openai": {"base_url": "https://{resource.__class__}.a.example/v1"}}'),
        ("PROVIDERS", '{"openai": {"base_url": "https://{0}.a.example/v1"}}'),
        ("PROVIDERS", '{"openai": {"base_url": "https://{{resource}}.a.example/v1"}}'),
        ("PROVIDERS", '{"openai": {"base_url": "https://{resource.a.example/v1"}}'),
        ("PROVIDERS", '{"openai": {"deployment_url": "https://a.example/x?v={other}"}}'),
        ("PROVIDERS", '{"openai": {"deployment_url": "https://a.example/x?v=a b"}}'),
        ("PROVIDERS", '{"openai": {"credential": "basic"}}'),
        ("PROVIDERS", '{"openai": {"credential": []}}'),
        ("PROVIDERS", '{"openai": {"headers": ["x"]}}'),
        ("PROVIDERS", '{"openai": {"headers": {"x": 1}}}'),
        ("PROVIDERS", '{"openai": {"headers": {"x y": "1"}}}'),
        ("PROVIDERS", '{"openai": {"headers": {"x": "a\\r\\nb: c"}}}'),
        ("PROVIDERS", '{"openai": {"headers": {"Authorization": "Bearer sk-1"}}}'),
        ("PROVIDERS", '{"openai": {"headers": {"x-goog-api-key": "sk-1"}}}'),
        ("PROVIDERS", '{"openai": {"headers": {"host": "a.example"}}}'),
        ("PROVIDERS", '{"openai": {"paths": "embeddings"}}'),
        ("PROVIDERS", '{"openai": {"paths": []}}'),
        ("PROVIDERS", '{"openai": {"paths": ["../x"]}}'),
        ("AZURE_RESOURCE_NAME", "evil.example/"),
        ("AZURE_DEPLOYMENT_ID", "a/b"),
        ("WORKERS_AI_ACCOUNT_ID", "a?b"),
        ("AWS_REGION", "x.y"),
        ("ALLOWED_CUSTOM_HOSTS", "*"),
        ("ALLOWED_CUSTOM_HOSTS", "*.com"),
        ("ALLOWED_CUSTOM_HOSTS", "https://a.example"),
        ("ALLOWED_CUSTOM_HOSTS", "a.example/v1"),
        ("ALLOWED_CUSTOM_HOSTS", "a.example,,b.example"),
        ("ALLOWED_CUSTOM_HOSTS", "a.example, 10.0.0.1"),
        ("ALLOWED_CUSTOM_HOSTS", "metadata.google.internal"),
        ("ALLOWED_CUSTOM_HOSTS", "*.localhost"),
        ("ALLOWED_CUSTOM_HOSTS", "llm"),
        ("ALLOWED_CUSTOM_HOSTS", "127.0.0.2"),
    ],
)
def test_a_malformed_value_for_keys_or_hosts_is_a_problem(name, value):
    settings = load_settings({name: value})
    assert settings.problem is not None
    assert settings.problem.startswith(name)
    assert "gw_key" not in settings.problem
    assert "sk-1" not in settings.problem


def test_json_values_may_be_parsed_already():
    variables: JsonObject = {
        "GATEWAY_API_KEYS": {"alice": HASH},
        "TRACED_ENDPOINTS": ["/v1/x"],
        "ALLOWED_CUSTOM_HOSTS": ["a.example"],
    }
    settings = load_settings(variables)
    assert settings.gateway_keys == (GatewayKey("alice", HASH),)
    assert settings.traced_endpoints == {"/v1/x"}
    assert settings.routing.allowed_custom_hosts == {"a.example"}


def test_a_json_value_may_be_split_over_several_variables():
    text = '{"alice": "' + HASH + '", "bob": "' + HASH + '"}'
    parts = {"GATEWAY_API_KEYS": text[:20], "GATEWAY_API_KEYS_2": text[20:90]}
    parts["GATEWAY_API_KEYS_3"] = text[90:]
    settings = load_settings(parts)
    assert settings.gateway_keys == (GatewayKey("alice", HASH), GatewayKey("bob", HASH))
    assert set(parts.values()) <= set(settings.secrets)
    # A missing part must not make the gateway accept calls without a key.
    for name in parts:
        assert str(load_settings({**parts, name: None}).problem).startswith("GATEWAY_API_KEYS ")
    assert set(parts) <= {*SECRET_NAMES, *CONTINUATION_NAMES}
    assert (
        load_settings({"LANGFUSE_REDACT": '["a', "LANGFUSE_REDACT_2": '"]'})
        .redact_patterns[0]
        .pattern
        == "a"
    )


def test_provider_settings():
    settings = load_settings(
        {
            "PROVIDERS": '{"Mine": {"base_url": "https://a.example/v1/"}}',
            "DEFAULT_PROVIDER": "mine",
            "AZURE_RESOURCE_NAME": "res-1",
            "AZURE_DEPLOYMENT_ID": "gpt-4.1",
            "ALLOWED_CUSTOM_HOSTS": "A.example:443, *.b.example:8443,localhost:1",
        }
    )
    assert settings.problem is None
    assert settings.warnings == ()
    assert settings.routing.providers["mine"].base_url == "https://a.example/v1"
    assert settings.routing.default_provider == "mine"
    assert settings.routing.url_parameters == {"resource": "res-1", "deployment": "gpt-4.1"}
    assert settings.routing.allowed_custom_hosts == {"a.example", "*.b.example:8443", "localhost:1"}


A_HASH = "a" * 64
FULL_ENVIRONMENT = {
    **LANGFUSE_KEYS,
    "GATEWAY_API_KEYS": f'{{"a": {{"hash": "{A_HASH}", "langfuse": "team"}}}}',
    "LANGFUSE_PROJECTS": '{"team": {"public_key": "pk-lf-2", "secret_key": "sk-lf-2"}}',
    "CONFIGS": '{"eu": {"provider": "openai", "api_key": {"secret": "OPENAI_API_KEY_EU"}}}',
    "OPENAI_API_KEY_EU": "sk-eu",
    "X_AI_API_KEY": "sk-x",
}


def test_keys_configs_and_projects_are_loaded():
    settings = load_settings(FULL_ENVIRONMENT)
    assert settings.problem is None
    assert settings.warnings == ()
    assert settings.provider_keys == {"x-ai": "sk-x"}
    assert settings.config_keys == {"OPENAI_API_KEY_EU": "sk-eu"}
    assert settings.gateway_keys
    team, default = (
        settings.destination_for(settings.gateway_keys[0]),
        settings.destination_for(None),
    )
    assert team
    assert team == Destination("team", "https://cloud.langfuse.com", "pk-lf-2", "sk-lf-2")
    assert default == Destination("default", "https://cloud.langfuse.com", PUBLIC_KEY, SECRET_KEY)
    assert {"sk-x", "sk-eu", "sk-lf-2", team.credential} <= set(settings.secrets)
    for secret in ("sk-x", "sk-eu", "sk-lf-2", A_HASH):
        assert secret not in repr(settings)


def test_projects_need_no_default_key_pair():
    settings = load_settings(
        {**FULL_ENVIRONMENT, "LANGFUSE_PUBLIC_KEY": None, "LANGFUSE_SECRET_KEY": None}
    )
    assert list(settings.destinations) == ["team"]
    assert (
        load_settings({**FULL_ENVIRONMENT, "LANGFUSE_TRACING_ENABLED": "false"}).destinations == {}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_API_KEYS", f'{{"a": {{"hash": "{A_HASH}", "modles": ["x"]}}}}'),
        ("GATEWAY_API_KEYS", f'{{"a": {{"hash": "{A_HASH}", "models": []}}}}'),
        ("GATEWAY_API_KEYS", f'{{"a": {{"hash": "{A_HASH}", "models": null}}}}'),
        ("GATEWAY_API_KEYS", f'{{"a": {{"hash": "{A_HASH}", "providers": "openai"}}}}'),
        ("GATEWAY_API_KEYS", f'{{"a": {{"hash": "{A_HASH}", "langfuse": "gone"}}}}'),
        ("GATEWAY_API_KEYS", '{"a": {"models": ["x"]}}'),
        ("LANGFUSE_PROJECTS", '{"team": {"public_key": "pk"}}'),
        ("LANGFUSE_PROJECTS", '{"default": {"public_key": "pk", "secret_key": "sk"}}'),
        ("LANGFUSE_PROJECTS", '{"team": {"public_key": "p", "secret_key": "s", "host": "x"}}'),
        (
            "LANGFUSE_PROJECTS",
            '{"team": {"public_key": "p", "secret_key": "s", "base_url": "http://x.example"}}',
        ),
        ("LANGFUSE_PROJECTS", "["),
        ("CONFIGS", '{"a": {"provider": "openai", "api_key": "sk-1"}}'),
        ("CONFIGS", '{"a": {"provider": "openai", "api_key": {"secret": "OPENAI_API_KEY_US"}}}'),
        ("CONFIGS", '{"a": {"provider": "nowhere"}}'),
        ("CONFIGS", '{"{": {"provider": "openai"}}'),
        ("CONFIGS", "{"),
        ("X_AI_API_KEY", "sk-x\r\nhost: evil"),
        ("PROVIDERS", '{"x.ai": {"base_url": "https://x.example/v1"}}'),
    ],
)
def test_a_malformed_value_for_keys_projects_or_configs_is_a_problem(name, value):
    problem = load_settings({**FULL_ENVIRONMENT, name: value}).problem
    assert problem
    assert name in problem or "X_AI_API_KEY" in problem


def test_invalid_origins_are_a_warning():
    allowed = load_settings({"ALLOWED_ORIGINS": "https://app.example.com, http://localhost:3000"})
    assert allowed.allowed_origins == {"https://app.example.com", "http://localhost:3000"}
    for invalid in ("https://app.example.com/", "app.example.com", "null", "https://*.example.com"):
        settings = load_settings({"ALLOWED_ORIGINS": invalid})
        assert settings.allowed_origins == frozenset()
        assert settings.warnings


@pytest.mark.parametrize(
    "name", ["LANGFUSE_TIMEOUT", "LANGFUSE_FLUSH_AT", "LANGFUSE_SAMPLE_RATE", "MAX_REQUEST_BYTES"]
)
@pytest.mark.parametrize("value", ["sk-a-key-in-the-wrong-place", [1], {}, "1e999", "nan"])
def test_a_warning_does_not_quote_the_value(name, value):
    (warning,) = load_settings({name: value}).warnings
    assert warning.startswith(f"{name} must be a number")
    assert str(value) not in warning.removeprefix(name)
