"""Every variable and secret that the Worker reads: its name, its default and its validator.

A malformed value never stops the Worker. A variable that protects keys, hosts or projects fails
closed: all calls are refused (`Settings.problem`). For any other variable, the default is used or
what it configures is switched off, and that is logged once (`Settings.warnings`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.limits import MAX_FIELD_BYTES, MEGABYTE
from core.platform import Environment
from core.trace_context import CONTENT_MODES
from core.types import Destination
from settings import validators
from settings.allowed_hosts import check_base_url, parse_allowed_hosts
from settings.gateway_keys import GatewayKey, parse_gateway_keys
from settings.provider_overrides import (
    ProviderRouting,
    apply_provider_overrides,
    check_url_parameter,
)
from settings.provider_table import URL_PARAMETERS, provider_secret_name
from settings.routing_configs import Target, parse_named_configs

TRACED_ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/responses",
)

BINDING_NAMES = ("CF_VERSION_METADATA",)

SECRET_NAMES = (
    "LANGFUSE_PUBLIC_KEY",
    "LANGFUSE_SECRET_KEY",
    "LANGFUSE_PROJECTS",
    "GATEWAY_API_KEYS",
)

VARIABLE_NAMES = (
    "LANGFUSE_BASE_URL",
    "LANGFUSE_HOST",
    "LANGFUSE_ALLOW_HTTP",
    "LANGFUSE_TRACING_ENABLED",
    "LANGFUSE_TRACING_ENVIRONMENT",
    "LANGFUSE_RELEASE",
    "LANGFUSE_SAMPLE_RATE",
    "LANGFUSE_CONTENT",
    "LANGFUSE_REDACT",
    "LANGFUSE_MAX_FIELD_BYTES",
    "LANGFUSE_PROTOCOL",
    "LANGFUSE_DELIVERY",
    "LANGFUSE_FLUSH_AT",
    "LANGFUSE_FLUSH_INTERVAL",
    "LANGFUSE_TIMEOUT",
    "LANGFUSE_RETRY_SECONDS",
    "LANGFUSE_DEBUG",
    "TRACED_ENDPOINTS",
    "MAX_REQUEST_BYTES",
    "MAX_CAPTURE_BYTES",
    "TRACE_STREAM_USAGE",
    "DEFAULT_PROVIDER",
    "PROVIDERS",
    "CONFIGS",
    "ALLOWED_CUSTOM_HOSTS",
    "ALLOWED_ORIGINS",
    "ALLOW_ANONYMOUS",
    *(variable for _, variable in URL_PARAMETERS.values()),
)

# Cloudflare limits a variable to 5 KB. The texts of these variables continue in NAME_2 to NAME_9.
# https://developers.cloudflare.com/workers/platform/limits/#environment-variables
SPLIT_VARIABLES = (
    *("GATEWAY_API_KEYS", "LANGFUSE_PROJECTS", "LANGFUSE_REDACT"),
    *("PROVIDERS", "CONFIGS"),
)

CONTINUATION_NAMES = tuple(f"{name}_{part}" for name in SPLIT_VARIABLES for part in range(2, 10))


@dataclass(frozen=True)
class Settings:
    """The Worker's configuration, validated.

    `destinations` maps names to the Langfuse projects for traces: "default", and those that gateway
    keys may name. It is empty where tracing is off. A batch is uploaded when `flush_at`
    observations wait, or after `flush_interval_seconds`. `retry_seconds` limits all uploads of a
    trace together.

    `sample_rate` is the share of traces to keep, from 0 to 1. `content_mode` is one of
    `CONTENT_MODES`, the most that is recorded. `max_field_bytes` limits each input and output.
    `max_request_bytes` limits bodies that the gateway must read. `max_capture_bytes` limits how
    much of a body or reply is recorded, and which bodies are parsed. With `request_stream_usage`,
    traced chat streams are made to include token counts.

    `gateway_keys` is None where the deployment has none. `provider_keys` has the deployment's own
    provider keys by slug, `config_keys` those of `named_configs` by the secret's name. Web pages of
    the `allowed_origins` may read responses. `secrets` are all credentials of the deployment, which
    must not be recorded. `problem` is the reason why all calls must be refused, else None.
    """

    destinations: Mapping[str, Destination] = field(default_factory=dict)
    protocol: str = "auto"
    delivery: str = "direct"
    flush_at: int = 1
    flush_interval_seconds: float = 1.0
    upload_timeout_seconds: float = 5.0
    retry_seconds: float = 25.0
    debug: bool = False
    environment: str | None = None
    release: str | None = None
    sample_rate: float = 1.0
    content_mode: str = "full"
    redact_patterns: tuple[re.Pattern[str], ...] = ()
    max_field_bytes: int = MAX_FIELD_BYTES
    traced_endpoints: frozenset[str] = frozenset(TRACED_ENDPOINTS)
    max_request_bytes: int = 32 * MEGABYTE
    max_capture_bytes: int = 4 * MEGABYTE
    request_stream_usage: bool = False
    routing: ProviderRouting = field(default_factory=ProviderRouting)
    named_configs: Mapping[str, Target] = field(default_factory=dict)
    gateway_keys: tuple[GatewayKey, ...] | None = None
    allow_anonymous: bool = False
    provider_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    config_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    allowed_origins: frozenset[str] = frozenset()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    problem: str | None = None
    warnings: tuple[str, ...] = ()

    def destination_for(self, caller: GatewayKey | None) -> Destination | None:
        """The Langfuse project for the traces of a call. `caller` is the gateway key of the call,
        None for a call without one. The result is None where the call is not traced: tracing is
        off, or the project has no keys."""
        return self.destinations.get(caller.langfuse if caller else GatewayKey.langfuse)


def load_settings(env: Environment, *, has_queue: bool = False) -> Settings:
    """Read and validate the Worker's variables and secrets. Never raises: malformed values are in
    `problem` and `warnings`. `has_queue` is True where a queue is bound as `TRACE_QUEUE`."""
    reader = _VariableReader(env)
    redact = reader.get("LANGFUSE_REDACT", validators.regex_list, ())
    content = reader.get("LANGFUSE_CONTENT", validators.one_of(*CONTENT_MODES), "full")
    if reader.failed & {"LANGFUSE_CONTENT", "LANGFUSE_REDACT"}:
        # The deployer wants to leave something out, but the malformed value does not show what.
        content = min(content, "usage", key=CONTENT_MODES.index)
    routing = _load_routing(reader)
    gateway_keys = reader.get("GATEWAY_API_KEYS", _parse_gateway_keys, None, fails_closed=True)
    named_configs = reader.get("CONFIGS", _parse_configs, {}, fails_closed=True)
    provider_keys = _load_provider_keys(reader, routing, gateway_keys is not None)
    config_keys = _load_config_keys(reader, named_configs, routing)
    destinations = _load_destinations(reader, gateway_keys or ())
    secrets = [str(env.get(name)) for name in (*SECRET_NAMES, *CONTINUATION_NAMES) if env.get(name)]
    secrets += [*provider_keys.values(), *config_keys.values()]
    for destination in destinations.values():
        secrets += [destination.public_key, destination.secret_key, destination.credential]
    delivery = reader.get(
        "LANGFUSE_DELIVERY", validators.one_of("direct", "queue"), Settings.delivery
    )
    if delivery == "queue" and not has_queue:
        reader.warnings.append("LANGFUSE_DELIVERY is queue, but no queue is bound as TRACE_QUEUE")
        delivery = "direct"
    return Settings(
        protocol=reader.get(
            "LANGFUSE_PROTOCOL", validators.one_of("auto", "ingestion", "otlp"), Settings.protocol
        ),
        delivery=delivery,
        flush_at=reader.get("LANGFUSE_FLUSH_AT", validators.batch_size, Settings.flush_at),
        flush_interval_seconds=reader.get(
            "LANGFUSE_FLUSH_INTERVAL", validators.interval_seconds, Settings.flush_interval_seconds
        ),
        upload_timeout_seconds=reader.get(
            "LANGFUSE_TIMEOUT", validators.timeout_seconds, Settings.upload_timeout_seconds
        ),
        retry_seconds=reader.get(
            "LANGFUSE_RETRY_SECONDS", validators.retry_seconds, Settings.retry_seconds
        ),
        debug=reader.get("LANGFUSE_DEBUG", validators.flag, Settings.debug),
        environment=reader.get("LANGFUSE_TRACING_ENVIRONMENT", validators.environment, None),
        release=reader.get("LANGFUSE_RELEASE", validators.text, None) or _version_id(env),
        sample_rate=reader.get("LANGFUSE_SAMPLE_RATE", validators.fraction, Settings.sample_rate),
        content_mode=content,
        redact_patterns=redact,
        max_field_bytes=reader.get(
            "LANGFUSE_MAX_FIELD_BYTES", validators.field_byte_count, MAX_FIELD_BYTES
        ),
        traced_endpoints=reader.get(
            "TRACED_ENDPOINTS", validators.gateway_paths, Settings.traced_endpoints
        ),
        max_request_bytes=reader.get(
            "MAX_REQUEST_BYTES", validators.byte_count, Settings.max_request_bytes
        ),
        max_capture_bytes=reader.get(
            "MAX_CAPTURE_BYTES", validators.byte_count, Settings.max_capture_bytes
        ),
        request_stream_usage=reader.get(
            "TRACE_STREAM_USAGE", validators.flag, Settings.request_stream_usage
        ),
        routing=routing,
        named_configs=named_configs,
        gateway_keys=gateway_keys,
        allow_anonymous=reader.get("ALLOW_ANONYMOUS", validators.flag, False),
        provider_keys=provider_keys,
        config_keys=config_keys,
        allowed_origins=reader.get("ALLOWED_ORIGINS", validators.origins, frozenset()),
        destinations=destinations,
        secrets=tuple(dict.fromkeys(secrets)),
        problem="; ".join(reader.problems) or None,
        warnings=tuple(reader.warnings),
    )


class _VariableReader:
    """Reads variables. Collects messages about malformed ones, in `problems` if all calls must be
    refused and else in `warnings`, and their names in `failed`."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.failed: set[str] = set()

    def get(
        self, name: str, parse: Callable[[Any], Any], default: Any, *, fails_closed: bool = False
    ) -> Any:
        """The value of a variable, parsed by `parse`; `default` where it is empty, not set or
        malformed. `parse` raises ValueError for a malformed value, which adds a problem with
        `fails_closed`, else a warning."""
        value = self._joined_value(name)
        if value is None or value == "":
            return default
        try:
            return parse(value)
        except ValueError as error:
            # The message is a validator's. The value, which may be a secret, is never part of it.
            self.failed.add(name)
            (self.problems if fails_closed else self.warnings).append(f"{name} {error}")
            return default

    def _joined_value(self, name: str) -> Any:
        """The value of a variable: a text, a JSON value of wrangler.toml, or None where it is not
        set. If it is one of `SPLIT_VARIABLES` and no JSON value, the texts of NAME, NAME_2, …
        NAME_9 joined; "" where none is set."""
        value = self.env.get(name)
        if name in SPLIT_VARIABLES and (value is None or isinstance(value, str)):
            parts = (part for part in CONTINUATION_NAMES if part.startswith(f"{name}_"))
            return (value or "") + "".join(str(self.env.get(part) or "") for part in parts)
        return value


def _load_destinations(
    reader: _VariableReader, gateway_keys: tuple[GatewayKey, ...]
) -> dict[str, Destination]:
    """The Langfuse projects for traces by name: "default", where its keys are set, and those of
    `LANGFUSE_PROJECTS`. Empty where tracing is off."""
    enabled = reader.get("LANGFUSE_TRACING_ENABLED", validators.flag, True)
    allow_http = reader.get("LANGFUSE_ALLOW_HTTP", validators.flag, False)

    def langfuse_url(value: Any) -> str:
        return check_base_url(validators.text(value), allow_http=allow_http)

    name = "LANGFUSE_BASE_URL" if reader.env.get("LANGFUSE_BASE_URL") else "LANGFUSE_HOST"
    base_url = reader.get(name, langfuse_url, None) or (
        None if reader.env.get(name) else "https://cloud.langfuse.com"
    )

    def projects(value: Any) -> dict[str, Destination | None]:
        return {
            project: _parse_project(project, entry, base_url, langfuse_url)
            for project, entry in validators.json_object(value).items()
        }

    # Traces for one project must not be sent to another one.
    named = reader.get("LANGFUSE_PROJECTS", projects, {}, fails_closed=True)
    if any(key.langfuse not in (GatewayKey.langfuse, *named) for key in gateway_keys):
        reader.problems.append("GATEWAY_API_KEYS names a project not in LANGFUSE_PROJECTS")
    public_key = reader.get("LANGFUSE_PUBLIC_KEY", validators.text, None)
    secret_key = reader.get("LANGFUSE_SECRET_KEY", validators.text, None)
    # A malformed value counts as off: the switch was probably set in order to switch tracing off.
    if not enabled or "LANGFUSE_TRACING_ENABLED" in reader.failed:
        return {}
    if (public_key is None) != (secret_key is None):
        reader.warnings.append("LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY go together")
    found = {project: destination for project, destination in named.items() if destination}
    if base_url and public_key and secret_key:
        default = Destination(GatewayKey.langfuse, base_url, public_key, secret_key)
        return {default.name: default, **found}
    return found


def _parse_project(
    name: str, entry: Any, base_url: str | None, langfuse_url: Callable[[Any], str]
) -> Destination | None:
    """Parse an entry of `LANGFUSE_PROJECTS`: an object with keys and perhaps a base URL, by default
    `base_url`. `langfuse_url` checks a base URL. The result is None where there is no base URL.
    Raises ValueError where the entry is malformed."""
    members = ("public_key", "secret_key", "base_url")
    if name == GatewayKey.langfuse:
        raise ValueError(f"has {name}, which is LANGFUSE_PUBLIC_KEY's and LANGFUSE_SECRET_KEY's")
    if not isinstance(entry, dict) or not entry.keys() <= set(members):
        raise ValueError(f"must map names to objects with {', '.join(members)}")
    try:
        public_key, secret_key = (validators.text(entry.get(member)) for member in members[:2])
        url = langfuse_url(entry["base_url"]) if "base_url" in entry else base_url
    except ValueError as error:
        raise ValueError(f"has a project whose keys or base_url are no good: it {error}") from None
    return Destination(name, url, public_key, secret_key) if url else None


def _load_provider_keys(
    reader: _VariableReader, routing: ProviderRouting, has_gateway_keys: bool
) -> dict[str, str]:
    """The deployment's own provider keys by slug. Adds a problem where two slugs share the name of
    a secret, and a warning where the keys are not used, since there are no gateway keys."""
    found, owners = {}, {}
    for slug in routing.providers:
        name = provider_secret_name(slug)
        key = reader.get(name, validators.credential, None, fails_closed=True)
        if key is None:
            continue
        if name in owners:
            reader.problems.append(f"{name} could be the key of {owners[name]} and of {slug}")
        found[slug], owners[name] = key, slug
    if found and not has_gateway_keys:
        reader.warnings.append(
            f"{', '.join(owners)}: used for nobody, since no GATEWAY_API_KEYS are configured"
        )
    return found


def _load_config_keys(
    reader: _VariableReader, named: Mapping[str, Target], routing: ProviderRouting
) -> dict[str, str]:
    """The provider keys that the deployer's configs refer to, by the name of their secret. A secret
    that is not set, and an unknown provider in a config, add a problem."""
    found = {}
    for config, leaf in ((name, leaf) for name in named for leaf in named[name].leaves):
        if leaf.provider and leaf.provider not in routing.providers:
            reader.problems.append(f"CONFIGS: {config}: {leaf.path}.provider is not known")
        if leaf.secret is None:
            continue
        key = reader.get(leaf.secret, validators.credential, None, fails_closed=True)
        if key is None:
            reader.problems.append(f"CONFIGS: {config} names {leaf.secret}, which is not set")
        else:
            found[leaf.secret] = key
    return found


def _load_routing(reader: _VariableReader) -> ProviderRouting:
    def known_slug(value: Any) -> str:
        slug = validators.text(value).lower()
        if slug not in table:
            raise ValueError("names no known provider")
        return slug

    def hosts(value: Any) -> frozenset[str]:
        return parse_allowed_hosts(validators.comma_separated(value))

    def parameter(name: str) -> Callable[[Any], str]:
        return lambda value: check_url_parameter(name, validators.text(value))

    def providers(value: Any) -> Mapping[str, Any]:
        return apply_provider_overrides(validators.json_object(value))

    default = ProviderRouting()
    table = reader.get("PROVIDERS", providers, default.providers, fails_closed=True)
    parameters = {
        name: reader.get(variable, parameter(name), None, fails_closed=True)
        for name, (_, variable) in URL_PARAMETERS.items()
    }
    return ProviderRouting(
        providers=table,
        default_provider=reader.get("DEFAULT_PROVIDER", known_slug, default.default_provider),
        url_parameters={name: value for name, value in parameters.items() if value},
        allowed_custom_hosts=reader.get(
            "ALLOWED_CUSTOM_HOSTS", hosts, frozenset(), fails_closed=True
        ),
    )


def _version_id(env: Environment) -> str | None:
    # https://developers.cloudflare.com/workers/runtime-apis/bindings/version-metadata/
    version = env.get("CF_VERSION_METADATA")
    return version.get("id") or None if isinstance(version, dict) else None


def _parse_gateway_keys(value: Any) -> tuple[GatewayKey, ...]:
    return parse_gateway_keys(validators.json_object(value))


def _parse_configs(value: Any) -> dict[str, Target]:
    return parse_named_configs(validators.json_object(value))
